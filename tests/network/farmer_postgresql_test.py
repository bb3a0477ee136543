"""A farmer whose index lies in PostgreSQL, so that its host may be thrown away."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from storj.digest import shard_hash
from storj.exception import NetworkSetupError
from storj.network.farmer.index import FarmerIndex, Quarantined
from storj.network.farmer.remote_index import RemoteIndex, shown
from storj.network.farmer.settings import FarmerSettings
from storj.network.farmer.store import StoreError
from tests.network.bridges import eventually
from tests.network.nodes import SHARD, SHARD_HASH, run, site
from tests.network.postgresql import frozen, new_database

KEY = secrets.token_hex(32)
NODE = 'a' * 40


@pytest.fixture
def url(postgresql_server: sa.URL) -> str:
    named = new_database(postgresql_server)
    return named.set(drivername='postgresql').render_as_string(hide_password=False)


def settings(url: str) -> dict[str, Any]:
    return {'database': url, 'private_key': KEY}


def use(index: FarmerIndex) -> list[object]:
    """Do all that a farmer does with shards, and return what the index says."""
    index.adopt({SHARD_HASH: 9})
    index.stored('b' * 40, 5)
    index.stored('b' * 40, 6)
    index.lost('b' * 40, 'damaged', waits=10)
    index.lost('b' * 40, 'missing', waits=20)
    index.dropped(SHARD_HASH, 7)
    index.taken_back(SHARD_HASH, 9)
    index.dropped(SHARD_HASH, 7)
    index.set_note('a', '1')
    index.set_note('a', '2')
    for _ in range(2):
        index.count('audits', 2)
        index.save_counters()
    waits = index.wait(8.0)
    said = [index.shards(), index.bad(), index.note('a'), index.counters(), waits]
    index.removed(Quarantined(SHARD_HASH, 'ended'), contracts=True)
    return [*said, index.quarantined(), index.ended(1e9), index.uncovered()]


def test_index_answers_as_that_in_a_file_does(url: str, tmp_path: Path) -> None:
    with closing(RemoteIndex(url, NODE)) as there, closing(FarmerIndex(tmp_path / 'db')) as here:
        assert there.shards() is None
        assert use(there) == use(here)
        with contextlib.suppress(RuntimeError), there._transaction():
            there.set_note('a', '3')
            raise RuntimeError
        assert there.note('a') == '2'


def test_farmer_goes_on_without_its_folder(tmp_path: Path, url: str) -> None:
    """The shards survive with a copy of the disk, contracts and key without the folder."""

    async def test() -> None:
        async with site(tmp_path / 'a', **settings(url)) as here:
            await here.store()
            assert not (tmp_path / 'a' / 'farmer.db').exists()
            assert not (tmp_path / 'a' / 'identity.key').exists()
            node_id, renter = here.farmer.identity.node_id, here.renter
            await here.farmer.stop()
            (tmp_path / 'b').mkdir()
            (tmp_path / 'a' / 'shards').rename(tmp_path / 'b' / 'shards')
            async with site(tmp_path / 'b', **settings(url)) as moved:
                assert moved.farmer.identity.node_id == node_id
                assert not moved.farmer.is_new
                token = await renter.retrieve(moved.farmer.contact(), SHARD_HASH)
                assert await moved.get(token) == (200, SHARD)
                name = SHARD_HASH
                proofs = await renter.audit(
                    moved.farmer.contact(), [(name, here.challenges[name][0])]
                )
                assert all(proofs)

    run(test)


def test_second_farmer_with_one_key_is_refused(tmp_path: Path, url: str) -> None:
    async def test() -> None:
        async with site(tmp_path / 'a', **settings(url)) as here:
            with pytest.raises(NetworkSetupError, match='another farmer with this key') as caught:
                async with site(tmp_path / 'b', **settings(url)):
                    pass
            assert (sa.make_url(url).password or '?') not in str(caught.value)
            await here.store()
            other = {**settings(url), 'private_key': secrets.token_hex(32)}
            async with site(tmp_path / 'c', **other) as another:
                assert another.farmer.status()['shards'] == 0

    run(test)


def test_database_that_was_away_is_used_again(
    tmp_path: Path, postgresql_server: sa.URL, url: str
) -> None:
    async def test() -> None:
        async with site(tmp_path, **settings(url)) as here:
            await here.store()
            end_sessions(postgresql_server)
            other = b'another shard'
            assert (await here.post(other, await here.push_token(other)))[0] == 200
            token = await here.renter.retrieve(here.farmer.contact(), shard_hash(other))
            assert await here.get(token, shard_hash(other)) == (200, other)
            # The lock is held again.
            with pytest.raises(NetworkSetupError, match='another farmer'):
                await asyncio.to_thread(RemoteIndex, url, here.farmer.identity.node_id)

    run(test)


def test_farmer_outlives_a_database_that_is_away(
    tmp_path: Path, postgresql_server: sa.URL, url: str
) -> None:
    async def test() -> None:
        async with site(tmp_path, **settings(url)) as here:
            await here.store()
            await here.farmer.forget()
            name = sa.make_url(url).database
            ask(postgresql_server, f'ALTER DATABASE {name} ALLOW_CONNECTIONS false')
            end_sessions(postgresql_server)
            await here.farmer.forget()
            assert here.farmer.status()['shards'] == 1
            ask(postgresql_server, f'ALTER DATABASE {name} ALLOW_CONNECTIONS true')
            other = b'another shard'
            assert (await here.post(other, await here.push_token(other)))[0] == 200
            assert here.farmer.status()['counters']['shard_uploaded'] == 2

    run(test)


@pytest.mark.skipif(not Path('/proc').exists(), reason='needs /proc')
def test_frozen_database_does_not_keep_a_farmer(
    postgresql_server: sa.URL, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('storj.network.farmer.remote_index.LIMIT', 2)
    monkeypatch.setattr('storj.network.farmer.remote_index._BROKEN_OFF', 0.5)
    with closing(RemoteIndex(url, NODE)) as index:
        index.set_note('a', '1')
        with frozen(postgresql_server):
            tries = []
            for _ in range(5):
                with pytest.raises(StoreError, match='the database does not answer'):
                    index.note('a')
                tries.append(index._not_before)
            # Only the first has tried to connect: the loop of the farmer is needed.
            assert len(set(tries)) == 1

        def answers() -> bool:
            try:
                return index.note('a') == '1'
            except StoreError:
                return False

        eventually(answers)


def end_sessions(server: sa.URL) -> None:
    ask(
        server,
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity'
        " WHERE application_name = 'storj farm'",
    )


def ask(server: sa.URL, statement: str) -> None:
    engine = sa.create_engine(server, isolation_level='AUTOCOMMIT')
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def test_database_that_refuses_is_named_without_the_password(postgresql_server: sa.URL) -> None:
    wrong = postgresql_server.set(
        drivername='postgresql', password='not-the-secret'
    ).render_as_string(hide_password=False)
    with pytest.raises(NetworkSetupError, match='cannot be used') as caught:
        RemoteIndex(wrong, NODE)
    assert 'not-the-secret' not in str(caught.value)
    assert shown('postgresql://host/name?password=word') == 'postgresql://host/name'
    assert 'w?rd' not in shown('postgresql://me:pa@w?rd@host/name')


def test_secrets_of_settings_are_not_shown() -> None:
    held = FarmerSettings(Path('x'), database='postgresql://me:word@host/db', private_key=KEY)
    assert 'word' not in repr(held)
    assert KEY not in repr(held)
    for wrong in ({'database': 'sqlite:///x'}, {'private_key': 'ab'}):
        with pytest.raises(ValueError, match=r'postgresql|64 hex'):
            FarmerSettings(Path('x'), **wrong)
