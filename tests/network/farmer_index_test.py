"""What a farmer remembers: over restarts, and where its file is damaged or takes nothing more."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from storj.exception import ConfigurationError
from storj.network.farmer.index import PAGE, Ended, FarmerIndex, Quarantined
from storj.network.farmer.store import NoSpaceLeftError, StoreError
from storj.network.farmer.tokens import PROMISE_LIFE, TOKENS_LIMIT, Tokens
from storj.network.node.contract import Contract
from tests.network.nodes import SHARD_HASH, Clock, alter

END = 1_480_000_100_000
CONTRACT = Contract(SHARD_HASH, 9, 0, END)


@contextmanager
def index(path: Path, **settings: bool) -> Iterator[FarmerIndex]:
    opened = FarmerIndex(path / 'farmer.db', **settings)
    try:
        yield opened
    finally:
        opened.close()


def test_index_remembers_over_a_restart(tmp_path: Path) -> None:
    with index(tmp_path) as first:
        first.put_contract(CONTRACT, 'owner', ['a' * 40])
        first.stored(SHARD_HASH, 9)
        first.count('audits')
        first.count('audits', 2)
        first.set_note('place', 'x')
        assert first.counters() == {'audits': 3}
    assert stat.S_IMODE((tmp_path / 'farmer.db').stat().st_mode) == 0o600
    with index(tmp_path) as second:
        assert second.contract(SHARD_HASH, 'owner') == CONTRACT
        assert second.contract(SHARD_HASH, 'other') is None
        assert second.contract_size(SHARD_HASH, 'owner') == 9
        assert second.tree(SHARD_HASH, 'owner') == ['a' * 40]
        assert second.tree(SHARD_HASH, 'other') is None
        assert second.counters() == {'audits': 3}
        assert (second.note('place'), second.note('other')) == ('x', None)


def test_new_contract_without_leaves_keeps_the_old_leaves(tmp_path: Path) -> None:
    with index(tmp_path) as known:
        known.put_contract(CONTRACT, 'owner', ['a' * 40])
        known.put_contract(CONTRACT, 'owner', None)
        assert known.tree(SHARD_HASH, 'owner') == ['a' * 40]


def test_folder_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    with index(tmp_path) as known:
        known.put_contract(CONTRACT, 'owner', None)
    database = sqlite3.connect(tmp_path / 'farmer.db')
    for table in ('shards', 'quarantine', 'bad', 'notes'):
        database.execute(f'DROP TABLE {table}')
    database.execute('CREATE TABLE tokens (token TEXT)')
    database.close()
    with index(tmp_path) as known:
        # Which shards there are is not known, which is not the same as none.
        assert known.shards() is None
        known.adopt({SHARD_HASH: 9})
        assert known.shards() == {SHARD_HASH: 9}
        assert known.contract(SHARD_HASH, 'owner') == CONTRACT
    with closing(sqlite3.connect(tmp_path / 'farmer.db')) as database:
        names = database.execute('SELECT name FROM sqlite_master').fetchall()
    assert ('contracts',) in names
    assert ('tokens',) not in names


def test_shard_is_ended_when_all_of_its_contracts_are(tmp_path: Path) -> None:
    with index(tmp_path) as known:
        known.put_contract(CONTRACT, 'one', None)
        known.put_contract(Contract(SHARD_HASH, 9, 0, END + 1000), 'two', None)
        known.stored(SHARD_HASH, 9)
        assert known.ended(END / 1000) == ([], None)
        assert known.ended(END / 1000 + 0.5) == ([], None)
        ((shard,), place) = known.ended(END / 1000 + 2)
        assert shard == Ended(SHARD_HASH, ('one', 'two'), END + 1000, held=True)
        assert place is None
        known.dropped(SHARD_HASH, 60)
        assert known.ended(END / 1000 + 2) == ([], None)
        assert known.contract(SHARD_HASH, 'one') == CONTRACT
        known.taken_back(SHARD_HASH, 9)
        assert known.ended(END / 1000 + 2)[0] == [shard]


def test_ended_contracts_come_in_pages(tmp_path: Path) -> None:
    names = {f'{number:040x}' for number in range(2 * PAGE + 1)}
    with index(tmp_path, durable=False) as known:
        for name in names:
            known.put_contract(Contract(name, 9, 0, 1_000), 'one', None)
        found, place = known.ended(2)
        sizes = [len(found)]
        while place is not None:
            page, place = known.ended(2, place)
            sizes.append(len(page))
            found += page
        assert sizes == [PAGE, PAGE, 1]
        assert {shard.data_hash for shard in found} == names
        assert not any(shard.held for shard in found)


def test_quarantine_is_left_after_its_time_of_running(tmp_path: Path) -> None:
    with index(tmp_path) as known:
        known.put_contract(CONTRACT, 'one', None)
        known.stored(SHARD_HASH, 9)
        known.dropped(SHARD_HASH, 100)
        known.lost('a' * 40, 'damaged', waits=200)
        assert known.wait(60) == []
    with index(tmp_path) as known:
        assert known.wait(60) == [Quarantined(SHARD_HASH, 'ended')]
        known.removed(Quarantined(SHARD_HASH, 'ended'), contracts=True)
        assert known.contract(SHARD_HASH, 'one') is None
        assert known.wait(60) == []
        assert known.wait(60) == [Quarantined('a' * 40, 'bad')]


def test_quarantine_that_is_not_known_gets_its_full_time(tmp_path: Path) -> None:
    with index(tmp_path) as known:
        known.dropped(SHARD_HASH, 1)
        known.agree_quarantine([('a' * 40, 'bad')], 100)
        assert known.wait(99) == []
        assert known.wait(1) == [Quarantined('a' * 40, 'bad')]


def test_bad_shard_is_remembered_until_it_is_told_or_brought_anew(tmp_path: Path) -> None:
    with index(tmp_path) as known:
        for name in ('a' * 40, 'b' * 40):
            known.stored(name, 9)
            known.lost(name, 'damaged', waits=None)
        known.stored('b' * 40, 9)
        assert known.bad() == [('a' * 40, 'damaged')]
        known.told(['a' * 40])
        assert known.bad() == []


# ---------------------------------------------------------------- damage, and a full disk


def test_index_of_something_else_is_refused_and_closed(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r'farmer\.db: cannot be used'):
        FarmerIndex(tmp_path / 'missing' / 'farmer.db')
    path = tmp_path / 'farmer.db'
    path.write_bytes(b'no database' * 1000)
    with pytest.raises(ConfigurationError, match=r'farmer\.db.*restore'):
        FarmerIndex(path)
    # From Python 3.13 on a connection that was left open speaks up here.
    gc.collect()


@pytest.mark.parametrize('seed', range(40))
def test_flipped_bytes_of_the_file_are_our_error(tmp_path: Path, seed: int) -> None:
    with index(tmp_path) as known:
        for number in range(40):
            name = f'{number:040x}'
            known.put_contract(Contract(name, 9, 0, 1_000), 'öwner', ['a' * 40] * 4)
            known.stored(name, 9)
            known.lost(f'{number + 100:040x}', 'damaged', waits=1)
        known.set_note('scrubbed', 'ä')
        known.count('audits')
    path = tmp_path / 'farmer.db'
    content = bytearray(path.read_bytes())
    chance = random.Random(seed)
    for _ in range(chance.choice((1, 8, 64))):
        # Behind the header, where most of it is content.
        content[chance.randrange(100, len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    try:
        known = FarmerIndex(path)
    except ConfigurationError:
        return
    uses = (
        known.shards,
        known.bad,
        known.counters,
        known.uncovered,
        lambda: known.note('scrubbed'),
        lambda: known.wait(2),
        lambda: known.ended(2),
        lambda: [known.contract(f'{number:040x}', 'öwner') for number in range(40)],
        lambda: [known.tree(f'{number:040x}', 'öwner') for number in range(40)],
        lambda: [known.contract_size(f'{number:040x}', 'öwner') for number in range(40)],
        lambda: known.agree_quarantine([], 1),
        lambda: known.stored(SHARD_HASH, 9),
    )
    for use in uses:
        try:
            use()
        except StoreError:
            continue
    known.close()


@pytest.mark.parametrize('contract', ['{}', '{', '[' * 100_000, '"\\ud800"', b'\xff\xfe', 7])
def test_damaged_contract_record_is_our_error(tmp_path: Path, contract: object) -> None:
    with index(tmp_path) as known:
        known.put_contract(CONTRACT, 'owner', ['a' * 40])
    statement = 'UPDATE contracts SET contract = ?, tree = ?'
    alter(tmp_path / 'farmer.db', statement, contract, contract)
    with index(tmp_path) as known:
        for use in (known.contract, known.tree):
            with pytest.raises(StoreError, match='damaged'):
                use(SHARD_HASH, 'owner')


def test_full_disk_is_said_to_be_one(tmp_path: Path) -> None:
    with index(tmp_path) as known:
        known.put_contract(CONTRACT, 'owner', None)
        ((pages,),) = known._rows('PRAGMA page_count')
        known._run(f'PRAGMA max_page_count = {pages}')
        with pytest.raises(NoSpaceLeftError):
            known.put_contract(CONTRACT, 'x' * 100_000, None)
        # What is there can be read, and a counter waits.
        assert known.contract(SHARD_HASH, 'owner') == CONTRACT
        known.count('audits')
        assert known.counters() == {'audits': 1}


def test_synced_index_has_its_log_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    with index(tmp_path) as durable:
        monkeypatch.setattr(os, 'fsync', spy)
        durable.stored(SHARD_HASH, 9)
        assert synced == []
        asyncio.run(durable.synced())
        parts = (tmp_path / 'farmer.db-wal', tmp_path)
        assert synced == [part.stat().st_ino for part in parts]
    with index(tmp_path, durable=False) as quick:
        asyncio.run(quick.synced())
    assert len(synced) == 2


# ---------------------------------------------------------------- tokens


def test_tokens_live_by_a_clock_that_nobody_sets() -> None:
    clock = Clock()
    tokens = Tokens(60, clock.monotonic)
    known = tokens.get(tokens.issue(SHARD_HASH, 'owner'))
    assert known is not None
    assert (known.data_hash, known.owner, known.busy) == (SHARD_HASH, 'owner', False)
    assert known.token not in repr(known)
    clock.step(10**9)
    tokens.sweep()
    assert not tokens.expired(known)
    clock.step(-2 * 10**9)
    clock.now += 60
    assert tokens.expired(known)
    assert tokens.get(known.token) is known
    tokens.sweep()
    assert tokens.get(known.token) is None
    other = tokens.issue(SHARD_HASH, 'owner')
    tokens.reject(other)
    tokens.reject(other)
    assert tokens.get(other) is None


def test_oldest_tokens_give_way() -> None:
    tokens = Tokens(60, Clock().monotonic)
    first, second = (tokens.issue(SHARD_HASH, 'owner') for _ in range(2))
    for _ in range(TOKENS_LIMIT - 1):
        last = tokens.issue(SHARD_HASH, 'owner')
    assert tokens.get(first) is None
    assert tokens.get(second) is not None
    assert tokens.get(last) is not None


def test_promise_ends_in_minutes_when_no_byte_comes() -> None:
    clock = Clock()
    tokens = Tokens(86400, clock.monotonic)
    tokens.promise('a' * 40, 5)
    clock.now += PROMISE_LIFE / 2
    tokens.promise('b' * 40, 7)
    tokens.promise('b' * 40, 6)
    assert tokens.promised() == 11
    assert tokens.promised(besides='a' * 40) == 6
    clock.now += PROMISE_LIFE / 2
    assert tokens.promised() == 6
    tokens.redeem('b' * 40)
    assert tokens.promised() == 0
