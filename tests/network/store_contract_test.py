"""What :class:`storj.network.farmer.store.Store` promises, of every store there is."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from storj.digest import shard_hash
from storj.network.farmer.store import PLACES, Found, Place, Store, StoreError
from storj.network.farmer.store.disk import DiskStore
from storj.network.farmer.store.null import NullStore
from storj.network.farmer.store.objects import ObjectStore
from tests.network.weed import ENVIRONMENT

SHARD = b'testshard'
NAME = shard_hash(SHARD)
OTHER = 'a' * 40
OWNER = 'b' * 40

Open = Callable[[], Store]


@pytest.fixture(params=['disk', 'objects', 'null'])
def reopen(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Return a function that opens the store, again if it was open."""
    if request.param == 'objects':
        weed = request.getfixturevalue('weed')
        for item in ENVIRONMENT.items():
            monkeypatch.setenv(*item)
        url = f's3://farms/{uuid.uuid4()}'
        return lambda: objects(url, weed.endpoint)
    return (lambda: DiskStore(tmp_path)) if request.param == 'disk' else NullStore


def objects(url: str, endpoint: str) -> Store:
    store = ObjectStore(url, endpoint)
    store.expect(0, OWNER)
    return store


@pytest.fixture
def store(reopen: Open) -> Store:
    return reopen()


@pytest.fixture
def keeping(store: Store) -> Store:
    if not store.keeps_data:
        pytest.skip('it keeps no data')
    return store


def put(store: Store, data: bytes = SHARD, name: str = NAME) -> None:
    incoming = store.create(name, len(data))
    try:
        incoming.write(data)
        incoming.commit()
    finally:
        incoming.abort()


def read(store: Store, name: str = NAME, piece: int = 1 << 20) -> bytes:
    with closing(store.open(name)) as reader:
        pieces = list(iter(lambda: reader.read(piece), b''))
    # Fewer bytes than asked for only at the end.
    assert all(len(each) == piece for each in pieces[:-1])
    return b''.join(pieces)


def places(store: Store) -> list[tuple[Place, str, int]]:
    return sorted(store.listing())


def test_shard_is_read_as_it_was_written(keeping: Store) -> None:
    put(keeping)
    assert read(keeping) == read(keeping, piece=4) == SHARD
    assert places(keeping) == [('stored', NAME, len(SHARD))]


@pytest.mark.parametrize('size', [0, 1, 9 * 2**20 + 1])
def test_sizes_at_the_edges_come_back(keeping: Store, size: int) -> None:
    data = os.urandom(size)
    incoming = keeping.create(NAME, size)
    for start in range(0, size, 2**20):
        incoming.write(memoryview(data)[start : start + 2**20])
    incoming.commit()
    incoming.abort()
    found = keeping.find(NAME)
    assert found is not None
    assert found.size == size
    assert read(keeping) == data


def test_abort_after_commit_keeps_the_shard(store: Store) -> None:
    put(store)
    assert store.find(NAME) is not None or not store.keeps_data


@pytest.mark.parametrize('size', [9, 9 * 2**20])
def test_shard_is_not_there_before_its_commit(store: Store, size: int) -> None:
    incoming = store.create(NAME, size)
    incoming.write(bytes(size))
    assert store.find(NAME) is None
    incoming.abort()
    incoming.abort()
    assert store.find(NAME) is None
    assert places(store) == []
    with pytest.raises(StoreError):
        read(store)


def test_two_writers_of_one_shard_do_not_disturb_each_other(keeping: Store) -> None:
    one, two = (keeping.create(NAME, len(SHARD)) for _ in range(2))
    one.write(SHARD[:4])
    two.write(SHARD)
    two.commit()
    one.write(SHARD[4:])
    one.abort()
    two.abort()
    assert read(keeping) == SHARD


def test_other_bytes_have_another_stamp(keeping: Store) -> None:
    put(keeping)
    first = keeping.find(NAME)
    assert first == keeping.find(NAME)
    put(keeping, b'other')
    second = keeping.find(NAME)
    assert isinstance(second, Found)
    assert second.size == 5
    assert first != second


def test_what_is_not_there_is_neither_found_nor_read(store: Store) -> None:
    put(store)
    assert store.find(OTHER) is None
    assert store.move(OTHER, 'stored', 'ended') is None
    with pytest.raises(StoreError):
        read(store, OTHER)
    for place in PLACES:
        store.delete(OTHER, place)


def test_move_takes_a_shard_to_another_place_and_back(keeping: Store) -> None:
    put(keeping)
    assert keeping.move(NAME, 'stored', 'ended') == len(SHARD)
    assert keeping.find(NAME) is None
    assert places(keeping) == [('ended', NAME, len(SHARD))]
    assert keeping.move(NAME, 'stored', 'ended') is None
    assert keeping.move(NAME, 'ended', 'stored') == len(SHARD)
    assert read(keeping) == SHARD


def test_delete_takes_from_one_place_only(keeping: Store) -> None:
    put(keeping)
    keeping.move(NAME, 'stored', 'bad')
    put(keeping)
    keeping.delete(NAME, 'bad')
    assert places(keeping) == [('stored', NAME, len(SHARD))]
    keeping.delete(NAME, 'stored')
    assert places(keeping) == []


def test_shards_are_there_again_after_a_restart(reopen: Open) -> None:
    store = reopen()
    put(store)
    left = store.create(OTHER, 5)
    left.write(b'other')
    again = reopen()
    left.abort()
    again.expect(1, OWNER)
    assert places(again) == ([('stored', NAME, len(SHARD))] if store.keeps_data else [])


@pytest.mark.parametrize('name', ['../../etc/passwd', '', 'A' * 40, 'a' * 39, 'a' * 41, '/' * 40])
def test_name_that_is_no_hash_is_refused(store: Store, name: str) -> None:
    for use in (
        store.open,
        store.find,
        lambda text: store.create(text, 1),
        lambda text: store.move(text, 'stored', 'ended'),
        lambda text: store.delete(text, 'stored'),
    ):
        with pytest.raises(ValueError, match='40 hex'):
            use(name)


def test_space_is_a_number_or_without_limit(store: Store) -> None:
    free = store.free()
    assert free is None or free > 0
