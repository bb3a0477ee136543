"""The store: sizes, hashes, crashes, and what a farmer remembers."""

from __future__ import annotations

import gc
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from storj.digest import shard_hash
from storj.exception import ConfigurationError
from storj.network.farmer.store import (
    SWEPT,
    FarmerIndex,
    NoSpaceLeftError,
    NullStore,
    ShardStore,
    StoreError,
)
from storj.network.node.contract import Contract
from tests.network.nodes import SHARD, SHARD_HASH, Clock


def put(store: ShardStore, data: bytes = SHARD) -> bool:
    writer = store.writer(shard_hash(data), len(data))
    try:
        return writer.finish([data])
    finally:
        writer.close()


@pytest.mark.parametrize('durable', [False, True])
def test_shard_lies_under_its_hash(tmp_path: Path, durable: bool) -> None:
    store = ShardStore(tmp_path, durable=durable)
    assert SHARD_HASH not in store
    assert put(store)
    assert SHARD_HASH in store
    assert (store.used, store.size_of(SHARD_HASH), len(store)) == (9, 9, 1)
    assert (tmp_path / 'shards' / '4a' / SHARD_HASH).read_bytes() == SHARD
    with store.reader(SHARD_HASH) as file:
        assert file.read() == SHARD
    store.delete(SHARD_HASH)
    store.delete(SHARD_HASH)
    assert (store.used, len(store), store.hashes()) == (0, 0, [])


def test_durable_shard_and_its_name_are_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ShardStore(tmp_path, durable=True)
    flushed = []
    monkeypatch.setattr(os, 'fsync', lambda number: flushed.append(os.fstat(number).st_ino))
    assert put(store)
    shards = tmp_path / 'shards'
    inodes = [path.stat().st_ino for path in (shards / '4a' / SHARD_HASH, shards / '4a', shards)]
    assert flushed == inodes


def test_shard_is_not_there_before_its_hash_is_right(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    writer = store.writer(SHARD_HASH, 9)
    writer.write([SHARD[:4], memoryview(SHARD)[4:8]])
    assert SHARD_HASH not in store
    assert not (tmp_path / 'shards' / '4a').exists()
    assert not writer.finish([b'X'])
    writer.close()
    writer.close()
    assert SHARD_HASH not in store
    assert not list((tmp_path / 'incoming').iterdir())
    with pytest.raises(StoreError):
        writer.write([b'more'])


def test_two_writers_of_one_shard_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    writers = [store.writer(SHARD_HASH, 9) for _ in range(2)]
    writers[0].write([SHARD[:4]])
    assert writers[1].finish([SHARD])
    writers[1].close()
    assert writers[0].finish([SHARD[4:]])
    writers[0].close()
    assert store.used == 9


def test_restart_finds_the_shards_and_removes_what_was_arriving(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    put(store)
    (tmp_path / 'incoming' / f'{shard_hash(b"other")}.0123').write_bytes(b'oth')
    (tmp_path / 'shards' / '4a' / 'README').write_text('not a shard')
    again = ShardStore(tmp_path)
    assert (again.hashes(), again.used) == ([SHARD_HASH], 9)
    assert not list((tmp_path / 'incoming').iterdir())


def test_store_keeps_to_its_size(tmp_path: Path) -> None:
    store = ShardStore(tmp_path, 20)
    put(store)
    assert store.has_room(11)
    assert not store.has_room(12)
    assert not store.has_room(5, promised=7)
    arriving = store.writer('a' * 40, 6)
    assert store.has_room(5)
    assert not store.has_room(6)
    with pytest.raises(NoSpaceLeftError):
        store.writer('b' * 40, 6)
    arriving.close()
    assert store.has_room(11)


def test_store_leaves_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ShardStore(tmp_path, keep_free=1000)
    monkeypatch.setattr(store, '_disk_free', lambda: 1010)
    assert store.has_room(9)
    assert not store.has_room(10)


@pytest.mark.parametrize('name', ['../../etc/passwd', '', 'A' * 40, 'a' * 39, 'a' * 41, '/' * 40])
def test_name_that_is_no_hash_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    store = ShardStore(tmp_path)
    for use in (store.reader, store.delete, lambda text: store.writer(text, 1)):
        with pytest.raises(ValueError, match='40 hex'):
            use(name)


def test_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigurationError, match='file'):
        ShardStore(tmp_path / 'file')
    with pytest.raises(ConfigurationError):
        FarmerIndex(tmp_path / 'missing' / 'farmer.db', Clock())
    (tmp_path / 'farmer.db').write_bytes(b'this is not SQLite' * 100)
    with pytest.raises(ConfigurationError, match=r'farmer\.db'):
        FarmerIndex(tmp_path / 'farmer.db', Clock())


def test_close_waits_for_a_write_in_another_thread(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    writer = store.writer(SHARD_HASH, 9)
    thread = threading.Thread(target=writer.write, args=([os.urandom(1 << 22)] * 4,))
    thread.start()
    writer.close()
    thread.join()
    assert not list((tmp_path / 'incoming').iterdir())
    assert store.has_room(1)


def test_null_store_counts_and_keeps_nothing(tmp_path: Path) -> None:
    store = NullStore(tmp_path)
    assert put(store)
    assert SHARD_HASH in store
    assert store.used == 9
    with pytest.raises(StoreError, match='keeps no data'):
        store.reader(SHARD_HASH)
    writer = store.writer('a' * 40, 10)
    assert not writer.finish([SHARD])
    writer.close()
    store.delete(SHARD_HASH)
    assert store.used == 0
    assert not list((tmp_path / 'shards').iterdir())


CONTRACT = Contract(SHARD_HASH, 9, 0, 1_480_000_100_000)


def test_index_remembers_over_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / 'farmer.db'
    index = FarmerIndex(path, clock)
    index.put_contract(CONTRACT, 'owner', ['a' * 40])
    token = index.issue(SHARD_HASH, 'owner', 60)
    index.set_busy(token)
    index.count('audits')
    index.count('audits', 2)
    index.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    index = FarmerIndex(path, clock)
    assert index.contract(SHARD_HASH, 'owner') == CONTRACT
    assert index.contract(SHARD_HASH, 'other') is None
    assert index.tree(SHARD_HASH, 'owner') == ['a' * 40]
    found = index.token(token)
    assert found is not None
    assert (found.data_hash, found.owner, found.busy) == (SHARD_HASH, 'owner', True)
    assert found.expires == clock() + 60
    assert token not in repr(found)
    assert index.counters() == {'audits': 3}
    index.reject(token)
    assert index.token(token) is None
    index.close()


def test_new_contract_without_leaves_keeps_the_old_leaves(tmp_path: Path) -> None:
    index = FarmerIndex(tmp_path / 'farmer.db', Clock())
    index.put_contract(CONTRACT, 'owner', ['a' * 40])
    index.put_contract(CONTRACT, 'owner', None)
    assert index.tree(SHARD_HASH, 'owner') == ['a' * 40]
    index.close()


def test_index_of_something_else_is_refused_and_closed(tmp_path: Path) -> None:
    path = tmp_path / 'farmer.db'
    path.write_bytes(b'no database' * 1000)
    with pytest.raises(ConfigurationError, match='cannot open the farmer index'):
        FarmerIndex(path, Clock())
    # From Python 3.13 on a connection that was left open speaks up here.
    gc.collect()


def test_damaged_contract_record_is_our_error(tmp_path: Path) -> None:
    index = FarmerIndex(tmp_path / 'farmer.db', Clock())
    index.put_contract(CONTRACT, 'owner', None)
    database = sqlite3.connect(tmp_path / 'farmer.db')
    database.execute("UPDATE contracts SET contract = '{}'")
    database.commit()
    database.close()
    with pytest.raises(StoreError, match='damaged'):
        index.contract(SHARD_HASH, 'owner')
    index.close()


def test_sweep_forgets_what_has_expired(tmp_path: Path) -> None:
    clock = Clock()
    index = FarmerIndex(tmp_path / 'farmer.db', clock)
    index.put_contract(CONTRACT, 'one', None)
    index.put_contract(Contract(SHARD_HASH, 9, 0, 1_490_000_000_000), 'two', None)
    token = index.issue(SHARD_HASH, 'one', 60)
    assert list(index.sweep()) == []
    assert index.token(token) is not None
    clock.now += 200
    # Another owner's contract still covers the shard.
    assert list(index.sweep()) == [[]]
    assert index.token(token) is None
    assert index.contract(SHARD_HASH, 'one') is None
    clock.now = 1_490_000_001.0
    assert list(index.sweep()) == [[SHARD_HASH]]
    index.close()


def test_sweep_takes_some_contracts_at_a_time(tmp_path: Path) -> None:
    clock = Clock()
    index = FarmerIndex(tmp_path / 'farmer.db', clock)
    names = {f'{number:040x}' for number in range(2 * SWEPT + 1)}
    for name in names:
        index.put_contract(Contract(name, 9, 0, 1_000), 'one', None)
    assert list(index.sweep(contracts=False)) == []
    rounds = list(index.sweep())
    assert [len(part) for part in rounds] == [SWEPT, SWEPT, 1]
    assert {name for part in rounds for name in part} == names
    index.close()
