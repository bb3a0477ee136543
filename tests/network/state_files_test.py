"""Folders of networks and farmers in which something is missing or damaged, file by file."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from storj.crypto import secret_file
from storj.exception import ConfigurationError, NetworkSetupError
from storj.http import Client
from storj.network import Network
from storj.network.backup import back_up
from storj.network.farmer.farmer import Farmer
from storj.network.farmer.index import FarmerIndex
from storj.network.farmer.settings import FarmerSettings
from storj.network.folder import IntactFarmerError, NetworkFolder
from storj.network.node.state_files import (
    FARMER_FILES,
    NETWORK_FILES,
    BarredStateError,
    LostStateError,
    StateFile,
    file_of,
    unusable,
)

pytestmark = pytest.mark.usefixtures('forked_python')

ROOT = Path(__file__).parents[2]
CONTENT = os.urandom(40_000)
PAGE = 4096


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b'')


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """Turn every bit of a page in the middle round, as a sector that went bad would."""
    content = bytearray(path.read_bytes())
    begin = len(content) // 2 // PAGE * PAGE
    content[begin : begin + PAGE] = bytes(byte ^ 0xFF for byte in content[begin : begin + PAGE])
    path.write_bytes(content)


DAMAGES: tuple[Callable[[Path], None], ...] = (remove, empty, truncate, flip)


@dataclass(frozen=True)
class Origin:
    """A folder that a network left, a file in it, and what it held while the network ran."""

    folder: Path
    bucket: str
    file: str
    running: list[Path]

    def paths(self) -> list[Path]:
        return files_of(self.folder)

    def copy(self, folder: Path) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder)
        return folder

    def read(self, network: Network) -> bytes:
        with client_of(network) as client:
            return bytes(client.file_download(self.bucket, self.file).read())


def files_of(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob('*') if path.is_file())


def client_of(network: Network) -> Client:
    return Client(network.email, network.password, network.bridge_url, mnemonic=network.mnemonic)


def begin(data: Path, **options: object) -> Network:
    return Network(data=data, bridge={'mirrors': 1}, durable=False, **options)  # type: ignore[arg-type]


@pytest.fixture(scope='module')
def origin(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    folder = tmp_path_factory.mktemp('origin') / 'network'
    with begin(folder, farmers=2, activation='mail') as network, client_of(network) as client:
        requests.post(
            f'{network.bridge_url}/users',
            json={'email': 'a@example.org', 'password': '0' * 64},
            timeout=30,
        ).raise_for_status()
        bucket = client.bucket_create('bucket')
        file = client.file_upload(bucket.id, CONTENT, name='file')
        # Whatever another start, an upload that is cut off or a command leaves lies there too.
        (folder / 'control.json').write_text('{}')
        (folder / 'network.log').write_text('')
        (folder / 'reserve').write_text('')
        (folder / 'farmers' / '0' / 'incoming' / 'x').write_text('')
        running = files_of(folder)
    return Origin(folder, bucket.id, file.id, running)


def rows(origin: Origin) -> dict[Path, StateFile]:
    return {path: file_of(NETWORK_FILES, path) for path in origin.paths()}  # type: ignore[misc]


def test_every_file_of_a_network_has_a_rule(origin: Origin) -> None:
    paths = {*origin.paths(), *origin.running}
    assert [path for path in paths if file_of(NETWORK_FILES, path) is None] == []
    farm = {path.relative_to('farmers/0') for path in paths if path.is_relative_to('farmers/0')}
    assert [path for path in farm if file_of(FARMER_FILES, path) is None] == []
    # And no rule is left over, but for what is there for a moment only.
    used = {row for path in paths if (row := file_of(NETWORK_FILES, path))}
    unused = [row.pattern for row in NETWORK_FILES if row not in used]
    assert unused == [
        # Of earlier versions.
        'metadisk/node.db',
        'farmers/*/shards',
        'farmers/*/quarantine/*/*',
        'metadisk/*.db-*',
    ]


@pytest.mark.parametrize('damage', DAMAGES)
def test_vital_file_that_is_lost_is_named(
    origin: Origin, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    vital = [path for path, row in rows(origin).items() if row.vital]
    assert len(vital) == 6
    for path in vital:
        folder = origin.copy(tmp_path / 'network')
        damage(folder / path)
        before = {each: (folder / each).read_bytes() for each in files_of(folder)}
        said = rf'{path.name}.*restore it from a backup'
        with pytest.raises(LostStateError, match=said) as caught:
            begin(folder).start()
        assert str(path.parent) in str(caught.value)
        if damage in (remove, empty):
            # Nothing was made in its place.
            assert {each: (folder / each).read_bytes() for each in before} == before
            assert (folder / path).exists() == (damage is empty)


@pytest.mark.parametrize('damage', DAMAGES)
def test_all_else_that_is_lost_is_made_again(
    origin: Origin, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = origin.copy(tmp_path / 'network')
    for path, row in rows(origin).items():
        if row.kind in ('scratch', 'message') or row.optional:
            damage(folder / path)
    with begin(folder) as network:
        assert origin.read(network) == CONTENT


@pytest.mark.parametrize('damage', DAMAGES)
def test_shard_that_is_lost_is_told_and_read_elsewhere(
    origin: Origin, tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    folder = origin.copy(tmp_path / 'network')
    shards = [path for path, row in rows(origin).items() if row.kind == 'shard']
    assert len(shards) == 2
    damage(folder / shards[0])
    with caplog.at_level(logging.ERROR), begin(folder) as network:
        assert origin.read(network) == CONTENT
        # What is of the right size is found out by the walk over the disk.
        deadline = time.monotonic() + 30
        while f'shard {shards[0].name} is' not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert 'the bridge is told' in caplog.text


def test_flipped_bit_of_a_record_never_goes_through(origin: Origin, tmp_path: Path) -> None:
    folder = origin.copy(tmp_path / 'network')
    path = folder / 'network.json'
    content = path.read_bytes()
    right = NetworkFolder(folder)
    right.close()
    refused = 0
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            opened = NetworkFolder(folder)
        except LostStateError:
            refused += 1
            continue
        opened.close()
        assert (opened.seed, opened.password, opened.mnemonic, opened.email, opened.farmers) == (
            right.seed,
            right.password,
            right.mnemonic,
            right.email,
            right.farmers,
        )
    assert refused > len(content) * 0.9


def test_all_that_is_missing_is_named_at_once(origin: Origin, tmp_path: Path) -> None:
    folder = origin.copy(tmp_path / 'network')
    shutil.rmtree(folder / 'farmers' / '1')
    (folder / 'bridge.db').unlink()
    with pytest.raises(LostStateError) as caught:
        begin(folder).start()
    assert 'bridge.db: is missing, and farmers/1/identity.key is missing, and ' in str(caught.value)
    assert 'farmers/1/farmer.db is missing' in str(caught.value)


def test_farmer_that_is_lost_for_good_begins_anew(origin: Origin, tmp_path: Path) -> None:
    folder = origin.copy(tmp_path / 'network')
    (folder / 'farmers' / '1' / 'identity.key').unlink()
    with pytest.raises(NetworkSetupError, match='has 2 farmers'):
        begin(folder, new_farmers=[2]).start()
    with begin(folder, new_farmers=[1]) as network:
        assert origin.read(network) == CONTENT
    assert len(list(folder.glob('farmers/1.lost-*/farmer.db'))) == 1
    with begin(folder) as network:
        assert len(network.farmers) == 2


def test_database_of_nothing_is_not_taken_for_the_network(origin: Origin, tmp_path: Path) -> None:
    folder = origin.copy(tmp_path / 'network')
    with pytest.raises(NetworkSetupError, match='does not know the account'):
        begin(folder, database=f'sqlite:///{tmp_path}/other.db').start()


def test_first_start_that_was_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    NetworkFolder(tmp_path).close()
    (tmp_path / 'bridge.db').touch()
    farm = tmp_path / 'farmers' / '0'
    (farm / 'shards').mkdir(parents=True)
    (farm / 'farmer.db').touch()
    with begin(tmp_path, farmers=1) as network:
        assert len(network.farmers) == 1


def earlier(folder: Path) -> Path:
    """Make the record what an earlier version wrote, without the number of farmers."""
    record = json.loads((folder / 'network.json').read_text())
    del record['sum'], record['farmers']
    secret_file.write(folder / 'network.json', json.dumps(record))
    return folder


def check(folder: Path, new_farmers: Collection[int] = ()) -> int | None:
    """Check a folder as a start does; return how many farmers the network has."""
    with closing(NetworkFolder(folder)) as opened:
        opened.check(own_database=True, new_farmers=new_farmers)
        return opened.farmers


def test_folder_of_an_earlier_version_gets_its_number(origin: Origin, tmp_path: Path) -> None:
    folder = earlier(origin.copy(tmp_path / 'network'))
    assert back_up(folder, tmp_path / 'backup').farmers == 2
    assert check(folder) == 2
    assert json.loads((folder / 'network.json').read_text())['farmers'] == 2
    shutil.rmtree(folder / 'farmers' / '1')
    with pytest.raises(LostStateError, match=r'farmers/1/identity\.key: is missing'):
        check(folder)


@pytest.mark.parametrize('lost', ['0', '0/identity.key', '1/farmer.db'])
def test_lost_farmer_of_an_earlier_version_counts(
    origin: Origin, tmp_path: Path, lost: str
) -> None:
    folder = earlier(origin.copy(tmp_path / 'network'))
    (folder / 'farmers' / lost).rename(tmp_path / 'lost')
    with pytest.raises(LostStateError, match='is missing'):
        check(folder)
    number = int(lost[0])
    assert check(folder, [number]) == 2
    # The start ended before the new farmer had a folder.
    assert check(folder, [number]) == 2


def test_first_start_of_an_earlier_version_that_failed(tmp_path: Path) -> None:
    NetworkFolder(tmp_path).close()
    assert check(earlier(tmp_path)) is None


def test_farmer_that_lost_nothing_is_not_set_aside(origin: Origin, tmp_path: Path) -> None:
    folder = origin.copy(tmp_path / 'network')
    with pytest.raises(IntactFarmerError, match='farmers/0: nothing in it is missing or damaged'):
        check(folder, [0])
    assert files_of(folder) == origin.paths()


def swap_keys(folder: Path) -> None:
    shutil.copy(folder / '1' / 'identity.key', folder / '0' / 'identity.key')


@pytest.mark.parametrize(
    'harm',
    [
        lambda farms: flip(farms / '0' / 'farmer.db'),
        lambda farms: flip(farms / '0' / 'identity.key'),
        lambda farms: shutil.rmtree(farms / '0' / 'shards'),
        swap_keys,
    ],
)
def test_farmer_that_cannot_start_is_set_aside(
    origin: Origin, tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    folder = origin.copy(tmp_path / 'network')
    harm(folder / 'farmers')
    check(folder, [0])
    assert len(list(folder.glob('farmers/0.lost-*'))) == 1


@pytest.mark.parametrize(
    ('error', 'lost'),
    [
        (sqlite3.DatabaseError('database disk image is malformed'), True),
        (sqlite3.OperationalError('unable to open database file'), False),
        (sqlite3.OperationalError('database or disk is full'), False),
        (OSError(errno.EIO, 'x'), True),
        (OSError(errno.ENOSPC, 'x'), False),
        (PermissionError(errno.EACCES, 'x'), False),
    ],
)
def test_only_damage_gets_the_advice_to_give_up(error: sqlite3.Error | OSError, lost: bool) -> None:
    found = unusable(Path('farmers/0/farmer.db'), error)
    assert ('--new-farmer' in str(found)) is isinstance(found, LostStateError) is lost


def test_whole_database_that_cannot_be_opened_is_not_lost(origin: Origin, tmp_path: Path) -> None:
    folder = origin.copy(tmp_path / 'network')
    for path in (folder / 'bridge.db', folder / 'farmers' / '0' / 'farmer.db'):
        # As with no free inode, SQLite cannot make the file.
        path.with_name(f'{path.name}-wal').mkdir()
    with pytest.raises(BarredStateError, match=r'bridge\.db: cannot be used: unable to open'):
        check(folder)
    with pytest.raises(BarredStateError, match=r'farmer\.db: cannot be used: unable to open'):
        FarmerIndex(folder / 'farmers' / '0' / 'farmer.db')


def test_folder_of_an_earlier_version_is_taken_over(origin: Origin, tmp_path: Path) -> None:
    folder = earlier(origin.copy(tmp_path / 'network'))
    (folder / 'bridge.db').rename(folder / 'elsewhere.db')
    with pytest.raises(LostStateError, match=r'bridge\.db: is missing'):
        begin(folder).start()
    (folder / 'elsewhere.db').rename(folder / 'bridge.db')
    with begin(folder) as network:
        assert len(network.farmers) == 2


# ---------------------------------------------------------------- a farmer by itself


@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize('name', ['identity.key', 'farmer.db'])
def test_farmer_refuses_a_folder_that_lacks_something(
    origin: Origin, tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    folder = origin.copy(tmp_path / 'network') / 'farmers' / '0'
    folder = folder.rename(tmp_path / 'farm')
    damage(folder / name)
    with pytest.raises(LostStateError, match=rf'{name}.*begin a new farmer in an empty folder'):
        asyncio.run(Farmer(FarmerSettings(folder)).start())


def test_farmer_does_not_take_the_records_of_another(origin: Origin, tmp_path: Path) -> None:
    farms = origin.copy(tmp_path / 'network') / 'farmers'
    shutil.copy(farms / '1' / 'identity.key', farms / '0' / 'identity.key')
    with pytest.raises(LostStateError, match='is the key of'):
        asyncio.run(Farmer(FarmerSettings(farms / '0')).start())


@pytest.mark.parametrize(
    ('arguments', 'lost'),
    [
        (('network', 'up', '--port', '0', '--data', '.'), 'bridge.db'),
        (('network', 'up', '--port', '0', '--data', '.'), 'farmers/1/farmer.db'),
        (('network', 'up', '--detach', '--port', '0', '--data', '.'), 'network.json'),
        (
            ('farm', '--path', 'farmers/0', '--bridge', 'http://127.0.0.1:1'),
            'farmers/0/identity.key',
        ),
    ],
)
def test_programs_say_in_one_message_what_is_missing(
    origin: Origin, tmp_path: Path, arguments: tuple[str, ...], lost: str
) -> None:
    folder = origin.copy(tmp_path / 'network')
    (folder / lost).unlink()
    done = subprocess.run(
        [sys.executable, '-m', 'storj', *arguments],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stdout == ''
    said, *hints = done.stderr.strip().splitlines()
    assert f'{lost}: is missing' in said
    assert 'restore it from a backup' in said
    # That alone says what to do.
    assert 'choose another' not in done.stderr
    assert len(hints) <= 1
    assert not (folder / lost).exists()


def test_errors_are_those_of_a_configuration() -> None:
    assert issubclass(LostStateError, ConfigurationError)
