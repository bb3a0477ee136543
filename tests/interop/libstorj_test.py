"""libstorj's own command line (Debian's package ``storj``) on our network, and with our files.

The command has the same name as ours, so it is called by its full path and asked who it is first.
Most of its commands exit with 0 whatever happened: what it prints is what counts. After a listing
it frees its answer twice, so listings are judged by their lines alone.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from storj import exception, http, sharding
from storj.crypto import names
from storj.network import Network
from storj.transfer import TransferConfig

LIBSTORJ = Path('/usr/bin/storj')


def missing() -> str | None:
    """Return why these tests cannot run, None if they can."""
    if not LIBSTORJ.exists():
        return f"{LIBSTORJ} is not installed (Debian's package storj)"
    said = subprocess.run([LIBSTORJ, '--version'], capture_output=True, text=True, check=False)
    if 'libstorj' not in said.stdout:
        return f"{LIBSTORJ} is not libstorj's command"
    return None


REASON = missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


class LibStorj:
    """Runs the foreign command with one account.

    Args:
        network (Network): whose bridge it uses.
        folder (Path): its home and its temporary folder.
    """

    def __init__(self, network: Network, folder: Path) -> None:
        self._environment = {
            'HOME': str(folder),
            'PATH': os.defpath,
            'LC_ALL': 'C.UTF-8',
            'STORJ_TEMP': str(folder),
            'STORJ_BRIDGE': network.bridge_url,
            'STORJ_BRIDGE_USER': network.email,
            'STORJ_BRIDGE_PASS': network.password,
            'STORJ_ENCRYPTION_KEY': network.mnemonic,
        }
        self._folder = folder

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            ['/usr/bin/stdbuf', '-oL', LIBSTORJ, *map(str, arguments)],
            env={**self._environment, **environment},
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def said(self, *arguments: object, **environment: str) -> str:
        """Run one command and return what it printed."""
        return self.run(*arguments, **environment).stdout

    def upload(self, bucket_id: str, path: Path, **environment: str) -> str:
        """Upload a file; return its id."""
        done = self.run('upload-file', bucket_id, path, **environment)
        found = re.search(r'Upload Success! File ID: ([0-9a-f]{24})', done.stdout)
        assert found, f'{done.returncode}: {done.stdout}{done.stderr}'
        return found[1]

    def download(
        self, bucket_id: str, file_id: str, path: Path
    ) -> subprocess.CompletedProcess[str]:
        """Download a file to a path that does not exist."""
        return self.run('download-file', bucket_id, file_id, path)


@pytest.fixture(scope='module')
def network() -> Iterator[Network]:
    # Mirrors would hide killed farmers: the parity shards shall do the work. libstorj never looks
    # at a farmer's protocol, and every farmer of ours answers on both channels.
    with Network(farmers=6, bridge={'mirrors': 0}) as running:
        yield running


@pytest.fixture(scope='module')
def client(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[http.Client]:
    config = TransferConfig(state_dir=tmp_path_factory.mktemp('state'))
    with http.Client(
        network.email,
        network.password,
        network.bridge_url,
        mnemonic=network.mnemonic,
        transfer_config=config,
    ) as opened:
        yield opened


@pytest.fixture(scope='module')
def libstorj(network: Network, tmp_path_factory: pytest.TempPathFactory) -> LibStorj:
    return LibStorj(network, tmp_path_factory.mktemp('libstorj'))


@pytest.fixture(scope='module')
def bucket_id(libstorj: LibStorj) -> str:
    said = libstorj.said('add-bucket', 'größe 1')
    found = re.search(r'ID: ([0-9a-f]{24})', said)
    assert found, said
    return found[1]


def test_get_info_shows_our_bridge(libstorj: LibStorj) -> None:
    done = libstorj.run('get-info')
    assert done.returncode == 0
    assert 'Storj' in done.stdout


def test_wrong_password_is_told(libstorj: LibStorj) -> None:
    assert 'Invalid user credentials' in libstorj.said('list-buckets', STORJ_BRIDGE_PASS='wrong')


def test_bucket_of_libstorj_has_the_same_name_here(client: http.Client, bucket_id: str) -> None:
    assert client.bucket_id('größe 1') == bucket_id
    assert 'größe 1' in [client.bucket_name(bucket.name) for bucket in client.bucket_list()]


def test_bucket_made_here_has_the_same_name_there(
    client: http.Client, libstorj: LibStorj, network: Network
) -> None:
    bucket = client.bucket_create(names.encrypt_bucket_name(network.mnemonic, 'für dich'))
    said = libstorj.said('list-buckets')
    assert re.search(rf'ID: {bucket.id}.*Decrypted: true.*Name: für dich', said), said


@pytest.mark.parametrize('size', [1, 2 * 1024**2 - 1, 2 * 1024**2, 5_000_001])
@pytest.mark.parametrize('parity', ['true', 'false'])
def test_file_of_libstorj_is_read_here(
    client: http.Client,
    libstorj: LibStorj,
    bucket_id: str,
    tmp_path: Path,
    size: int,
    parity: str,
) -> None:
    path = tmp_path / f'theirs {size} {parity}'
    path.write_bytes(os.urandom(size))
    file_id = libstorj.upload(bucket_id, path, STORJ_REED_SOLOMON=parity)
    assert client.file_download(bucket_id, file_id).read() == path.read_bytes()
    assert client.file_id(bucket_id, path.name) == file_id


@pytest.mark.parametrize('size', [1, 2 * 1024**2, 5_000_001])
@pytest.mark.parametrize('parity', [True, False])
def test_file_stored_here_is_read_by_libstorj(
    client: http.Client,
    libstorj: LibStorj,
    bucket_id: str,
    tmp_path: Path,
    size: int,
    parity: bool,
) -> None:
    data = os.urandom(size)
    file = client.file_upload(bucket_id, data, name=f'ours {size} {parity}', parity=parity)
    target = tmp_path / 'copy'
    done = libstorj.download(bucket_id, file.id, target)
    assert done.returncode == 0, done.stdout
    assert target.read_bytes() == data


@pytest.mark.parametrize('name', ['two words', 'Übergröße ß', 'folder/file', 'a+b=c%2F?#&'])
def test_names_are_the_same_on_both_sides(
    client: http.Client, libstorj: LibStorj, bucket_id: str, name: str
) -> None:
    file = client.file_upload(bucket_id, b'named', name=name)
    said = libstorj.said('list-files', bucket_id)
    line = next((line for line in said.splitlines() if file.id in line), '')
    assert name in line, said
    assert 'Decrypted: true' in line


def test_name_that_libstorj_took_is_taken(
    client: http.Client, libstorj: LibStorj, bucket_id: str, tmp_path: Path
) -> None:
    path = tmp_path / 'taken'
    path.write_bytes(b'first')
    libstorj.upload(bucket_id, path)
    with pytest.raises(exception.AlreadyExistsError):
        client.file_upload(bucket_id, b'second', name='taken')


def test_name_that_was_taken_here_is_refused_to_libstorj(
    client: http.Client, libstorj: LibStorj, bucket_id: str, tmp_path: Path
) -> None:
    client.file_upload(bucket_id, b'first', name='ours alone')
    path = tmp_path / 'ours alone'
    path.write_bytes(b'second')
    done = libstorj.run('upload-file', bucket_id, path)
    assert done.returncode == 1013 % 256, done.stdout


def test_mirrors_are_listed(client: http.Client, libstorj: LibStorj, bucket_id: str) -> None:
    file = client.file_upload(bucket_id, b'mirrored', name='with mirrors')
    said = libstorj.said('list-mirrors', bucket_id, file.id)
    pointer = client.file_pointers(bucket_id, file.id)[0]
    assert f'Shard 0: {pointer.hash}' in said, said
    assert f'nodeID: {pointer.farmer["nodeID"]}' in said


def test_file_is_removed_by_libstorj(
    client: http.Client, libstorj: LibStorj, bucket_id: str
) -> None:
    file = client.file_upload(bucket_id, b'short life', name='short life')
    said = libstorj.said('remove-file', bucket_id, file.id)
    assert 'File was successfully removed from bucket.' in said, said
    with pytest.raises(exception.NotFoundError):
        client.file_metadata(bucket_id, file.id)


def test_wrong_words_are_recognised_by_libstorj(
    client: http.Client, libstorj: LibStorj, bucket_id: str, tmp_path: Path
) -> None:
    file = client.file_upload(bucket_id, b'secret', name='secret')
    target = tmp_path / 'copy'
    other = 'abandon ' * 11 + 'about'
    done = libstorj.run('download-file', bucket_id, file.id, target, STORJ_ENCRYPTION_KEY=other)
    assert done.returncode == 3004 % 256, done.stdout


def test_libstorj_registers_an_account(libstorj: LibStorj, network: Network) -> None:
    done = subprocess.run(
        ['/usr/bin/stdbuf', '-oL', LIBSTORJ, 'register'],
        env={
            'HOME': str(libstorj._folder),
            'PATH': os.defpath,
            'STORJ_BRIDGE': network.bridge_url,
        },
        input='newcomer@example.org\nlong password\n128\nlong pass\nlong pass\n',
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 'Successfully registered newcomer@example.org' in done.stdout, done.stdout
    newcomer = http.Client('newcomer@example.org', 'long password', network.bridge_url)
    assert list(newcomer.bucket_list()) == []


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[tuple[Network, http.Client, LibStorj]]:
    """A network of its own, whose farmers may be killed: one for each shard of the file."""
    with Network(farmers=5, bridge={'mirrors': 0}) as network:
        config = TransferConfig(state_dir=tmp_path / 'state')
        with http.Client(
            network.email,
            network.password,
            network.bridge_url,
            mnemonic=network.mnemonic,
            transfer_config=config,
        ) as client:
            yield network, client, LibStorj(network, tmp_path)


def test_as_many_farmers_may_die_as_there_are_parity_shards(
    fragile: tuple[Network, http.Client, LibStorj], tmp_path: Path
) -> None:
    network, client, libstorj = fragile
    size = 5_000_001
    plan = sharding.plan(size)
    assert (plan.data_shards, plan.parity_shards) == (3, 2)
    data = os.urandom(size)
    path = tmp_path / 'theirs'
    path.write_bytes(data)
    bucket = client.bucket_create(names.encrypt_bucket_name(network.mnemonic, 'fragile'))
    ours = client.file_upload(bucket.id, data, name='ours').id
    holders = [pointer.farmer['nodeID'] for pointer in client.file_pointers(bucket.id, ours)]
    assert len(set(holders)) == plan.shards, 'each shard of a file lies on a farmer of its own'
    for farmer in network.farmers:
        if farmer.node_id in holders[: plan.parity_shards]:
            farmer.kill()
    assert client.file_download(bucket.id, ours).read() == data
    target = tmp_path / 'copy'
    done = libstorj.download(bucket.id, ours, target)
    assert done.returncode == 0, done.stdout
    assert target.read_bytes() == data


def test_file_of_libstorj_is_repaired_here(
    fragile: tuple[Network, http.Client, LibStorj], tmp_path: Path
) -> None:
    network, client, libstorj = fragile
    path = tmp_path / 'theirs'
    path.write_bytes(os.urandom(5_000_001))
    bucket = client.bucket_create(names.encrypt_bucket_name(network.mnemonic, 'fragile'))
    # One contract after the other, so that the bridge can give each shard a farmer of its own.
    file_id = libstorj.upload(bucket.id, path, STORJ_PUSH_FRAME_LIMIT='1')
    pointers = list(client.file_pointers(bucket.id, file_id))
    holders = [pointer.farmer['nodeID'] for pointer in pointers]
    assert len(set(holders)) == len(holders)
    for farmer in network.farmers:
        if farmer.node_id in holders[:2]:
            farmer.kill()
    assert client.file_download(bucket.id, file_id).read() == path.read_bytes()
