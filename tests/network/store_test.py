"""The store: sizes, hashes, crashes, quarantine, and a disk that fails."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from storj.digest import shard_hash
from storj.exception import ConfigurationError
from storj.network.farmer.shard_store import ShardStore
from storj.network.farmer.store import NoSpaceLeftError, StoreError
from storj.network.farmer.store.disk import DiskStore
from storj.network.farmer.store.null import NullStore
from storj.system import atomic_file
from tests.network.nodes import SHARD, SHARD_HASH


def on_disk(path: Path, capacity: int | None = None, **settings: object) -> ShardStore:
    keep_free = {'keep_free': settings.pop('keep_free')} if 'keep_free' in settings else {}
    return ShardStore(DiskStore(path, **settings), capacity, **keep_free)


def put(store: ShardStore, data: bytes = SHARD) -> bool:
    writer = store.writer(shard_hash(data), len(data))
    try:
        return writer.finish([data])
    finally:
        writer.close(stored=True)


@pytest.mark.parametrize('durable', [False, True])
def test_shard_lies_under_its_hash(tmp_path: Path, durable: bool) -> None:
    store = on_disk(tmp_path, durable=durable)
    assert SHARD_HASH not in store
    assert put(store)
    assert SHARD_HASH in store
    assert (store.used, store.size_of(SHARD_HASH), len(store)) == (9, 9, 1)
    assert (tmp_path / 'shards' / '4a' / SHARD_HASH).read_bytes() == SHARD
    with closing(store.reader(SHARD_HASH)) as file:
        assert file.read(100) == SHARD
    assert store.sizes() == {SHARD_HASH: 9}
    store.discard(SHARD_HASH)
    store.discard(SHARD_HASH)
    assert (store.used, len(store), store.sizes()) == (0, 0, {})


def test_durable_shard_and_its_name_are_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = on_disk(tmp_path, durable=True)
    flushed = []
    monkeypatch.setattr(os, 'fsync', lambda number: flushed.append(os.fstat(number).st_ino))
    assert put(store)
    shards = tmp_path / 'shards'
    inodes = [path.stat().st_ino for path in (shards / '4a' / SHARD_HASH, shards / '4a', shards)]
    assert flushed == inodes
    flushed.clear()
    store.discard(SHARD_HASH)
    assert put(store)
    # The name of their folder is there to stay.
    assert flushed[1:] == inodes[1:2]
    flushed.clear()
    store.discard(SHARD_HASH)
    (shards / '4a').rmdir()
    assert put(store)
    assert flushed[2:] == inodes[2:]


def test_shard_is_not_there_before_its_hash_is_right(tmp_path: Path) -> None:
    store = on_disk(tmp_path)
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
    store = on_disk(tmp_path)
    writers = [store.writer(SHARD_HASH, 9) for _ in range(2)]
    writers[0].write([SHARD[:4]])
    assert writers[1].finish([SHARD])
    writers[1].close(stored=True)
    assert writers[0].finish([SHARD[4:]])
    writers[0].close(stored=True)
    assert store.used == 9


def test_restart_finds_the_shards_and_removes_what_was_arriving(tmp_path: Path) -> None:
    store = on_disk(tmp_path)
    put(store)
    (tmp_path / 'incoming' / f'{shard_hash(b"other")}.0123').write_bytes(b'oth')
    (tmp_path / 'shards' / '4a' / 'README').write_text('not a shard')
    again = on_disk(tmp_path)
    assert (again.sizes(), again.used) == ({SHARD_HASH: 9}, 9)
    assert not list((tmp_path / 'incoming').iterdir())


def test_store_keeps_to_its_size(tmp_path: Path) -> None:
    store = on_disk(tmp_path, 20)
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
    store = on_disk(tmp_path, keep_free=1000)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=1010))
    assert store.has_room(9)
    assert not store.has_room(10)


@pytest.mark.parametrize('name', ['../../etc/passwd', '', 'A' * 40, 'a' * 39, 'a' * 41, '/' * 40])
def test_name_that_is_no_hash_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    store = on_disk(tmp_path)
    uses = (store.reader, store.find, store.check, lambda text: store.quarantine(text, 'bad'))
    for use in (*uses, lambda text: store.writer(text, 1)):
        with pytest.raises(ValueError, match='40 hex'):
            use(name)


def test_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigurationError, match='file'):
        on_disk(tmp_path / 'file')


def test_close_during_a_write_in_another_thread_leaves_nothing(tmp_path: Path) -> None:
    store = on_disk(tmp_path)
    writer = store.writer(SHARD_HASH, 9)
    thread = threading.Thread(target=writer.write, args=([os.urandom(1 << 22)] * 4,))
    thread.start()
    writer.close()
    thread.join()
    assert not list((tmp_path / 'incoming').iterdir())
    assert store.has_room(1)


def test_null_store_counts_and_keeps_nothing(tmp_path: Path) -> None:
    store = ShardStore(NullStore())
    assert put(store)
    assert SHARD_HASH in store
    assert store.used == 9
    with pytest.raises(StoreError, match='keeps no data'):
        store.reader(SHARD_HASH)
    writer = store.writer('a' * 40, 9)
    assert not writer.finish([SHARD])
    writer.close()
    assert store.find(SHARD_HASH) is None
    assert not store.quarantine(SHARD_HASH, 'ended')
    assert store.used == 0
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- quarantine


def test_dropped_shard_waits_in_quarantine_and_comes_back(tmp_path: Path) -> None:
    store = on_disk(tmp_path, 20)
    put(store)
    assert store.quarantine(SHARD_HASH, 'ended')
    assert SHARD_HASH not in store
    assert (tmp_path / 'quarantine' / 'ended' / SHARD_HASH).read_bytes() == SHARD
    # Its bytes count, as it may be wanted again.
    assert (store.used, store.has_room(11), store.has_room(12)) == (0, True, False)
    again = on_disk(tmp_path, 20)
    assert again.quarantined == {(SHARD_HASH, 'ended'): 9}
    assert not again.has_room(12)
    assert again.take_back(SHARD_HASH) == 9
    assert again.take_back(SHARD_HASH) is None
    assert (again.used, again.has_room(11), again.quarantined) == (9, True, {})
    with closing(again.reader(SHARD_HASH)) as file:
        assert file.read(100) == SHARD


def test_damaged_shard_is_kept_apart_and_does_not_count(tmp_path: Path) -> None:
    store = on_disk(tmp_path, 20)
    put(store)
    assert store.quarantine(SHARD_HASH, 'bad')
    assert store.has_room(20)
    assert store.take_back(SHARD_HASH) is None
    assert put(store)
    assert store.kinds_in_quarantine(SHARD_HASH) == ['bad']
    store.remove_quarantined(SHARD_HASH, 'bad')
    store.remove_quarantined(SHARD_HASH, 'bad')
    assert (store.used, store.quarantined) == (9, {})


def test_nothing_is_left_of_a_shard_that_is_missing(tmp_path: Path) -> None:
    store = on_disk(tmp_path)
    put(store)
    (tmp_path / 'shards' / '4a' / SHARD_HASH).unlink()
    assert not store.quarantine(SHARD_HASH, 'bad')
    assert (store.used, len(store), store.quarantined) == (0, 0, {})


def test_disk_that_was_taken_away_is_no_loss_of_its_shards(tmp_path: Path) -> None:
    store = on_disk(tmp_path)
    put(store)
    (tmp_path / 'shards').rename(tmp_path / 'elsewhere')
    for _ in range(2):
        for use in (store.find, lambda name: store.quarantine(name, 'bad')):
            with pytest.raises(StoreError):
                use(SHARD_HASH)
        # A folder of the same name is another disk.
        (tmp_path / 'shards').mkdir(exist_ok=True)
    assert SHARD_HASH in store


def test_search_for_shards_can_be_given_up(tmp_path: Path) -> None:
    put(on_disk(tmp_path))
    with pytest.raises(ConfigurationError, match='given up'):
        on_disk(tmp_path, stopped=lambda: True)


# ---------------------------------------------------------------- a disk that fails


def refusing(number: int) -> Callable[..., None]:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


FULL = pytest.mark.parametrize(
    ('number', 'kind'), [(errno.ENOSPC, NoSpaceLeftError), (errno.EIO, StoreError)]
)


class Failing:
    """A file whose writes or reads fail from some byte on."""

    def __init__(self, file: object, number: int, after: int) -> None:
        self._file, self._number, self._left = file, number, after

    def write(self, data: memoryview) -> int:
        if not self._left:
            raise OSError(self._number, os.strerror(self._number))
        written = self._file.write(data[: self._left])
        self._left -= written
        return written

    def read(self, size: int) -> bytes:
        raise OSError(self._number, os.strerror(self._number))

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


@FULL
def test_failed_write_in_the_middle_leaves_nothing(
    tmp_path: Path, number: int, kind: type[StoreError]
) -> None:
    store = on_disk(tmp_path)
    writer = store.writer(SHARD_HASH, 9)
    writer._incoming._file = Failing(writer._incoming._file, number, 4)
    with pytest.raises(kind):
        writer.finish([SHARD])
    writer.close()
    assert SHARD_HASH not in store
    assert not list((tmp_path / 'incoming').iterdir())
    assert not list((tmp_path / 'shards').iterdir())
    assert store.arriving == 0


@FULL
@pytest.mark.parametrize('call', ['open', 'mkdir', 'fsync', 'replace', 'sync_folder'])
def test_failure_on_the_way_to_its_name_leaves_no_shard(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[StoreError],
    call: str,
) -> None:
    store = on_disk(tmp_path)
    with monkeypatch.context() as disk:
        place = {'fsync': os, 'sync_folder': atomic_file}.get(call, Path)
        disk.setattr(place, call, refusing(number))
        with pytest.raises(kind):
            put(store)
    assert SHARD_HASH not in store
    assert store.used == store.arriving == 0
    assert not list((tmp_path / 'incoming').iterdir())
    # Nothing stands in the way of the next attempt.
    assert put(store)
    assert SHARD_HASH in store


def test_remnant_that_cannot_be_removed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = on_disk(tmp_path)
    writer = store.writer(SHARD_HASH, 9)
    monkeypatch.setattr(Path, 'unlink', refusing(errno.EROFS))
    writer.close()
    assert 'stays until the next start' in caplog.text
    assert store.arriving == 0


@pytest.mark.parametrize('damage', [True, False])
def test_read_error_of_the_file_is_told_from_one_of_the_disk(tmp_path: Path, damage: bool) -> None:
    store = on_disk(tmp_path)
    put(store)
    check = store.check(SHARD_HASH)
    check._reader._file = Failing(check._reader._file, errno.EIO if damage else errno.ENOMEM, 0)
    if damage:
        assert check.step() == 0
        assert not check.is_right()
    else:
        with pytest.raises(StoreError, match='Cannot read'):
            check.step()
    check.close()


@pytest.mark.parametrize(
    ('place', 'call', 'use'),
    [
        (Path, 'open', lambda store: store.reader(SHARD_HASH)),
        (Path, 'stat', lambda store: store.find(SHARD_HASH)),
        (Path, 'replace', lambda store: store.quarantine(SHARD_HASH, 'bad')),
        (Path, 'unlink', lambda store: store.discard(SHARD_HASH)),
        (Path, 'unlink', lambda store: store.remove_quarantined(SHARD_HASH, 'bad')),
        (shutil, 'disk_usage', lambda store: store.has_room(1)),
        (shutil, 'disk_usage', lambda store: store.writer(SHARD_HASH, 9)),
    ],
)
def test_refusal_of_the_disk_is_our_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: object,
    call: str,
    use: Callable[[ShardStore], object],
) -> None:
    store = on_disk(tmp_path)
    put(store)
    with monkeypatch.context() as disk:
        disk.setattr(place, call, refusing(errno.EIO))
        with pytest.raises(StoreError):
            use(store)
    assert SHARD_HASH in store
    assert store.used == 9
