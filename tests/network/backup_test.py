"""Backups of a network that runs, and what comes back of them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from storj.exception import NetworkSetupError
from storj.http import Client
from storj.metadisk import MetaDisk
from storj.network import Network, backup
from storj.network.backup import back_up, restore
from storj.network.farmer.index import FarmerIndex
from storj.network.folder import NetworkFolder
from storj.network.node.contract import Contract
from storj.network.node.state_files import LostStateError

QUIET = {'mirrors': 1, 'audit_interval': 0}


def begin(data: Path, **options: Any) -> Network:
    return Network(data=data, bridge=QUIET, durable=False, **options)


def client_of(account: dict[str, str]) -> Client:
    return Client(
        account['STORJ_BRIDGE_USER'],
        account['STORJ_BRIDGE_PASS'],
        account['STORJ_BRIDGE'],
        mnemonic=account['STORJ_ENCRYPTION_KEY'],
    )


@pytest.fixture
def storj(commands: Path) -> Callable[..., Any]:
    """Run a command in a process of its own; return what it says in JSON, or the error."""

    def run(*arguments: object, code: int = 0) -> Any:
        done = subprocess.run(
            [commands / 'storj', *map(str, arguments), '--json'],
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        return json.loads(done.stdout if code == 0 else done.stderr.splitlines()[-1])

    return run


@contextmanager
def running(commands: Path, data: Path, *options: str) -> Iterator[dict[str, str]]:
    """A network as a program; yields its environment."""
    words = ['network', 'up', '--json', '--port', '0', '--data', str(data), '--no-sync', *options]
    with subprocess.Popen(
        [commands / 'python', '-m', 'storj', *words],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())['environment']
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file() and path.suffix != '.lock'
    }


@pytest.fixture(scope='module')
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A network of three farmers that has stopped; a bucket and a file in it."""
    folder = tmp_path_factory.mktemp('origin') / 'network'
    with begin(folder, farmers=3) as network, client_of(network.environment()) as client:
        bucket = client.bucket_create('bucket')
        file = client.file_upload(bucket.id, b'content' * 5_000, name='file')
    return folder, bucket.id, file.id


@pytest.fixture
def stored(origin: tuple[Path, str, str], tmp_path: Path) -> tuple[Path, str, str]:
    """A copy of that network, to be changed."""
    folder, *names = origin
    return Path(shutil.copytree(folder, tmp_path / 'network')), *names


def reads(network: Network, bucket: str, file: str) -> bool:
    with client_of(network.environment()) as client:
        return client.file_download(bucket, file).read() == b'content' * 5_000


# ---------------------------------------------------------------- over the real processes


@pytest.mark.long
@pytest.mark.parametrize('options', [(), ('--processes',)])
def test_all_that_was_stored_before_a_backup_comes_back(
    tmp_path: Path, options: tuple[str, ...], storj: Callable[..., Any], commands: Path
) -> None:
    data, folder, elsewhere = (tmp_path / name for name in ('network', 'backup', 'elsewhere'))
    files: dict[str, bytes] = {}
    metadisk: list[tuple[Any, bytes]] = []
    begun, done = threading.Event(), threading.Event()

    with running(commands, data, '--farmers', '4', *options) as account:
        with client_of(account) as client, MetaDisk(account['STORJ_BRIDGE']) as node:
            bucket = client.bucket_create('bucket').id

            def upload() -> None:
                # All of them are read in the end.
                while not done.is_set() and len(files) < 15:
                    content = os.urandom(20_000 + len(files))
                    files[client.file_upload(bucket, content, name=str(len(files))).id] = content
                    metadisk.append((node.upload(content[:9_000]), content[:9_000]))
                    if len(files) == 5:
                        begun.set()

            with ThreadPoolExecutor(1) as pool:
                uploading = pool.submit(upload)
                try:
                    assert begun.wait(60)
                    before, kept = dict(files), metadisk[:5]
                    first = storj('network', 'backup', folder, '--data', data)
                finally:
                    done.set()
                uploading.result()
        again = storj('network', 'backup', folder, '--data', data)
    assert first['farmers'] == 4
    assert first['copied_shards'] == first['shards'] >= len(before)
    # Only what is new is copied.
    assert again['copied_shards'] == again['shards'] - first['shards'] < first['shards'] + 5
    assert again['missing'] == first['missing'] == 0

    back = storj('network', 'restore', folder, '--data', elsewhere)
    assert (back['shards'], back['missing']) == (again['shards'], 0)
    # Nothing in it leads to the original.
    assert not list(elsewhere.glob('control*'))
    shutil.rmtree(data)
    with (
        running(commands, elsewhere) as account,
        client_of(account) as client,
        MetaDisk(account['STORJ_BRIDGE']) as node,
    ):
        for file, content in files.items():
            assert client.file_download(bucket, file).read() == content
        for reference, content in kept:
            output = io.BytesIO()
            node.download(reference, output)
            assert output.getvalue() == content
    for path in (folder, elsewhere, *folder.rglob('*'), *elsewhere.rglob('*')):
        if path.is_file() or path in (folder, elsewhere):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_backup_taken_while_files_come_is_one_that_starts(tmp_path: Path) -> None:
    data, folder = tmp_path / 'network', tmp_path / 'backup'
    done = threading.Event()
    files: dict[str, bytes] = {}
    with begin(data, farmers=3) as network, client_of(network.environment()) as client:
        bucket = client.bucket_create('bucket').id

        def upload() -> None:
            while not done.is_set():
                content = os.urandom(5_000)
                files[client.file_upload(bucket, content, name=str(len(files))).id] = content

        with ThreadPoolExecutor(1) as pool:
            uploading = pool.submit(upload)
            try:
                for number in range(3):
                    before = dict(files)
                    network.back_up(folder)
                    restore(folder, tmp_path / f'restored-{number}')
            finally:
                done.set()
            uploading.result()
    with (
        begin(tmp_path / 'restored-2') as network,
        client_of(network.environment()) as client,
    ):
        for file, content in before.items():
            assert client.file_download(bucket, file).read() == content


def test_stopped_farmer_of_a_running_network_is_copied(stored: Any, tmp_path: Path) -> None:
    data, *file = stored
    with begin(data) as network:
        network.farmers[0].stop()
        assert network.back_up(tmp_path / 'backup').missing == 0
    restore(tmp_path / 'backup', tmp_path / 'elsewhere')
    with begin(tmp_path / 'elsewhere') as network:
        assert reads(network, *file)


def test_copy_of_an_index_in_use_is_whole(tmp_path: Path) -> None:
    index = FarmerIndex(tmp_path / 'farmer.db', durable=False)
    known = 0

    def put() -> None:
        nonlocal known
        name = f'{known:040x}'
        index.put_contract(Contract(name, 9, 0, 1_000), 'owner', ['a' * 40] * 64)
        index.stored(name, 9)
        known += 1

    for _ in range(2_000):
        put()

    async def copy(target: Path) -> int:
        before = known
        copying = asyncio.ensure_future(asyncio.to_thread(index.copy_to, target))
        while not copying.done():
            put()
            await asyncio.sleep(0)
        await copying
        return before

    for number in range(3):
        target = tmp_path / f'copy-{number}.db'
        before = asyncio.run(copy(target))
        with closing(sqlite3.connect(target)) as copied:
            assert copied.execute('PRAGMA integrity_check').fetchone() == ('ok',)
            (contracts,) = copied.execute('SELECT count(*) FROM contracts').fetchone()
            (shards,) = copied.execute('SELECT count(*) FROM shards').fetchone()
        assert before <= shards <= contracts <= known
    index.close()


# ---------------------------------------------------------------- what is on the disks


def test_rotten_shard_is_copied_from_another_farmer(
    stored: Any, tmp_path: Path, storj: Callable[..., Any]
) -> None:
    data, *_ = stored
    first, second = sorted(data.glob('farmers/*/shards/*/*'))
    first.write_bytes(bytes(first.stat().st_size))
    assert back_up(data, tmp_path / 'backup').missing == 0
    shutil.rmtree(tmp_path / 'backup')
    second.unlink()
    found = back_up(data, tmp_path / 'backup')
    assert (found.shards, found.missing) == (0, 1)
    error = storj('network', 'backup', tmp_path / 'backup', '--data', data, code=1)
    assert '1 shard that no disk can read' in error['message']


def test_shard_of_an_earlier_backup_outlives_its_farmers(stored: Any, tmp_path: Path) -> None:
    data, *file = stored
    back_up(data, tmp_path / 'backup')
    for path in data.glob('farmers/*/shards/*/*'):
        path.unlink()
    assert back_up(data, tmp_path / 'backup').missing == 0
    restore(tmp_path / 'backup', tmp_path / 'elsewhere')
    with begin(tmp_path / 'elsewhere') as network:
        assert reads(network, *file)


def test_restore_with_a_rotten_shard_says_how_many(stored: Any, tmp_path: Path) -> None:
    data, *_ = stored
    back_up(data, tmp_path / 'backup')
    (shard,) = (tmp_path / 'backup').glob('shards/*/*')
    shard.write_bytes(b'x' + shard.read_bytes()[1:])
    found = restore(tmp_path / 'backup', tmp_path / 'elsewhere')
    assert (found.copied_shards, found.missing) == (0, 1)
    with begin(tmp_path / 'elsewhere', farmers=3) as network:
        assert len(network.farmers) == 3


def damage(folder: Path) -> None:
    """Make zeros of the shard in a backup, as a power failure or a bad disk does."""
    (shard,) = folder.glob('shards/*/*')
    shard.write_bytes(bytes(shard.stat().st_size))


def test_check_replaces_damaged_shards(
    stored: Any, tmp_path: Path, storj: Callable[..., Any]
) -> None:
    data, *_ = stored
    folder = tmp_path / 'backup'
    back_up(data, folder)
    assert back_up(data, folder, check=True).copied_shards == 0
    damage(folder)
    found = storj('network', 'backup', '--check', folder, '--data', data)
    assert (found['copied_shards'], found['missing']) == (1, 0)
    assert restore(folder, tmp_path / 'elsewhere').missing == 0


def test_shards_are_read_after_a_run_that_broke_off(stored: Any, tmp_path: Path) -> None:
    data, *_ = stored
    folder = tmp_path / 'backup'
    back_up(data, folder)
    damage(folder)
    # The one process that could have removed it was killed.
    (folder / 'state-0123').mkdir()
    assert back_up(data, folder).copied_shards == 1
    assert len(list(folder.glob('state-*'))) == 1


def test_broken_off_run_is_on_the_disk_before_it_is_forgotten(
    stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, *_ = stored
    folder = tmp_path / 'backup'
    states = []

    def fail(*arguments: object) -> None:
        raise OSError('no space left')

    monkeypatch.setattr(backup, '_commit', fail)
    monkeypatch.setattr(backup, '_sync', lambda: states.extend(folder.glob('state-*')))
    with pytest.raises(OSError, match='no space'):
        back_up(data, folder)
    assert len(states) == 1
    assert not states[0].exists()


def test_network_is_asked_for_copies_by_absolute_paths(
    stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, *_ = stored
    monkeypatch.chdir(tmp_path)
    targets: list[Path] = []

    def snapshot(number: int, target: Path) -> bool:
        targets.append(target)
        return False

    back_up(data, Path('backup'), snapshot)
    state = next((tmp_path / 'backup').glob('state-*'))
    assert targets == [state / 'farmers' / str(number) / 'farmer.db' for number in range(3)]


def test_folder_of_a_new_file_system_counts_as_empty(stored: Any, tmp_path: Path) -> None:
    data, *_ = stored
    folders = [tmp_path / 'backup', tmp_path / 'elsewhere']
    for folder in folders:
        (folder / 'lost+found').mkdir(parents=True)
    assert back_up(data, folders[0]).shards == 1
    assert restore(*folders).missing == 0


def test_database_that_lies_elsewhere_is_told(stored: Any, tmp_path: Path) -> None:
    data, *_ = stored
    (data / 'bridge.db').rename(tmp_path / 'bridge.db')
    with closing(NetworkFolder(data)) as opened:
        opened.check(own_database=False)
    with pytest.raises(NetworkSetupError, match='database of the bridge is elsewhere'):
        back_up(data, tmp_path / 'backup')
    (tmp_path / 'bridge.db').rename(data / 'bridge.db')
    with closing(NetworkFolder(data)) as opened:
        opened.check(own_database=True)
    assert back_up(data, tmp_path / 'backup').shards == 1


def test_nothing_is_restored_over_what_is_there(
    stored: Any, tmp_path: Path, storj: Callable[..., Any]
) -> None:
    data, *_ = stored
    back_up(data, tmp_path / 'backup')
    before = contents(data)
    error = storj('network', 'restore', tmp_path / 'backup', '--data', data, code=1)
    assert 'not empty' in error['message']
    assert contents(data) == before


def test_damaged_backup_is_refused_before_anything_is_made(stored: Any, tmp_path: Path) -> None:
    data, *_ = stored
    folder = tmp_path / 'backup'
    back_up(data, folder)
    whole = contents(folder)
    for name in [name for name in whole if not name.startswith('shards/')]:
        content = bytearray(whole[name])
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(NetworkSetupError, match='damaged'):
            restore(folder, tmp_path / 'elsewhere')
        (folder / name).unlink()
        with pytest.raises(NetworkSetupError, match=r'damaged|no backup'):
            restore(folder, tmp_path / 'elsewhere')
        (folder / name).write_bytes(whole[name])
    assert not (tmp_path / 'elsewhere').exists()


def test_restore_that_is_cut_off_leaves_no_network(
    stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, *_ = stored
    back_up(data, tmp_path / 'backup')

    def fail() -> None:
        raise OSError('power failure')

    monkeypatch.setattr(backup, '_sync', fail)
    with pytest.raises(OSError, match='power'):
        restore(tmp_path / 'backup', tmp_path / 'elsewhere')
    with pytest.raises(LostStateError, match=r'network\.json: is missing'):
        begin(tmp_path / 'elsewhere').start()


def test_backup_that_is_cut_off_leaves_the_one_before(
    stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, *file = stored
    folder = tmp_path / 'backup'
    back_up(data, folder)
    before = contents(folder)
    for name in ('_copy_state', '_gather', '_sync'):
        with monkeypatch.context() as patched:

            def fail(*arguments: object, **options: object) -> None:
                raise OSError('no space left')

            patched.setattr(backup, name, fail)
            with pytest.raises(OSError, match='no space'):
                back_up(data, folder)
        assert contents(folder) == before
    restore(folder, tmp_path / 'elsewhere')
    with begin(tmp_path / 'elsewhere') as network:
        assert reads(network, *file)


def test_backup_goes_into_no_folder_of_something_else(stored: Any, tmp_path: Path) -> None:
    data, *_ = stored
    with pytest.raises(NetworkSetupError, match='lies in the folder'):
        back_up(data, data / 'backup')
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'file').touch()
    with pytest.raises(NetworkSetupError, match='contains something else: file'):
        back_up(data, tmp_path / 'other')
    back_up(data, tmp_path / 'backup')
    with begin(tmp_path / 'second', farmers=1):
        pass
    with pytest.raises(NetworkSetupError, match='of another network'):
        back_up(tmp_path / 'second', tmp_path / 'backup')


def test_what_is_no_network_or_lacks_something_is_not_backed_up(
    stored: Any, tmp_path: Path
) -> None:
    data, *_ = stored
    with pytest.raises(NetworkSetupError, match='no network'):
        back_up(tmp_path / 'nothing', tmp_path / 'backup')
    assert not (tmp_path / 'nothing').exists()
    (data / 'bridge.db').unlink()
    with pytest.raises(LostStateError, match=r'bridge\.db: is missing'):
        back_up(data, tmp_path / 'backup')
    with pytest.raises(NetworkSetupError, match='no backup'):
        restore(tmp_path / 'backup', tmp_path / 'elsewhere')


def test_whatever_a_copied_database_names_is_in_those_copied_later(
    stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, *_ = stored
    state = tmp_path / 'backup'

    def rows(statement: str, *paths: Path) -> set[str]:
        found: set[str] = set()
        for path in paths:
            with closing(sqlite3.connect(path)) as database:
                found.update(name for (name,) in database.execute(statement))
        return found

    with (
        begin(data) as network,
        client_of(network.environment()) as client,
        MetaDisk(network.bridge_url) as node,
    ):
        bucket = next(iter(client.bucket_list())).id
        copy_database = backup._copy_database
        copied = 0

        def store_more() -> None:
            nonlocal copied
            copied += 1
            client.file_upload(bucket, os.urandom(3_000), name=f'more {copied}')
            node.upload(os.urandom(3_000))

        def copy_and_store(source: Path, target: Path) -> None:
            store_more()
            copy_database(source, target)
            store_more()

        def snapshot(number: int, target: Path) -> bool:
            store_more()
            taken = network.snapshot(number, target)
            store_more()
            return taken

        monkeypatch.setattr(backup, '_copy_database', copy_and_store)
        back_up(data, state, snapshot)
    assert copied == 2 * 4
    (folder,) = state.glob('state-*')
    entries = rows('SELECT id FROM entries', folder / 'bridge.db')
    named = rows('SELECT entry FROM metadisk_files', folder / 'bridge.db')
    assert named
    assert named <= entries
    shards = rows(
        'SELECT shard_hash FROM pointers JOIN entries USING (frame)', folder / 'bridge.db'
    )
    farms = list(folder.glob('farmers/*/farmer.db'))
    assert shards
    assert shards <= rows('SELECT data_hash FROM contracts', *farms)
    held = rows('SELECT data_hash FROM shards', *farms)
    assert shards <= held
    assert held == {path.name for path in state.glob('shards/*/*')}
