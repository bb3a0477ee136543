"""The bridge on PostgreSQL: on a server of the test."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from storj.exception import NetworkSetupError
from storj.network import Network
from storj.network.bridge import placement, status
from storj.network.bridge.database import Database, migrate
from storj.network.bridge.schema import OldSchemaError
from storj.network.bridge.tables import REVISION, Secret
from storj.network.bridge.upkeep.removals import remove_some
from storj.network.bridge_server import BridgeServer
from storj.network.metadisk.node import Settings as MetaDiskSettings
from storj.network.node.pipelines import UNREAD
from storj.network.node.wire import Refusal
from storj.network.settings import Endpoint
from tests.network.bridge_database_test import keep_files_over_an_upgrade, use_everything
from tests.network.bridges import Account, RunningBridge, eventually
from tests.network.postgresql import frozen, new_database
from tests.network.supervisor_test import download, upload


@pytest.fixture
def url(postgresql_server: sa.URL) -> str:
    """A fresh database."""
    return new_database(postgresql_server).render_as_string(hide_password=False)


def test_bridge_does_all_that_it_does(tmp_path: Path, url: str) -> None:
    with RunningBridge(tmp_path, database_url=url, mirrors=1) as bridge:
        use_everything(bridge, bridge.account())
        state = bridge.request('GET', '/status').json
        assert {farmer['bytes'] for farmer in state['farmers']} <= {0, 20000}
        assert state['totals']['bytes'] == 0


@pytest.fixture
def distant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any database counts as distant."""
    monkeypatch.setattr('storj.network.node.pipelines._DISTANT', 0.0)


@pytest.mark.usefixtures('distant')
def test_bridge_of_a_distant_database_does_all_that_it_does(tmp_path: Path, url: str) -> None:
    with RunningBridge(tmp_path, database_url=url, mirrors=1) as bridge:
        use_everything(bridge, bridge.account())


_ADD = sa.insert(Secret).execution_options(**UNREAD)


def _row(name: str) -> dict[str, str]:
    return {'name': name, 'value': 'of a test'}


def _shared(database: Database, *works: Callable[[sa.Connection], Any]) -> list[Any]:
    """Return what becomes of work that shares a transaction, errors among it."""

    async def all_of_it() -> list[Any]:
        return await asyncio.gather(*map(database.share, works), return_exceptions=True)

    return asyncio.run(all_of_it())


@pytest.mark.usefixtures('distant')
def test_work_whose_unread_statement_fails_fails_alone(url: str) -> None:
    database = Database(url)

    def add(name: str) -> Callable[[sa.Connection], Any]:
        return lambda connection: connection.execute(_ADD, _row(name)) and name

    def refuse(connection: sa.Connection) -> None:
        connection.execute(_ADD, _row('refused'))
        raise Refusal(400, 'no')

    try:
        assert _shared(database, add('first')) == ['first']
        results = _shared(database, add('second'), add('first'), refuse, add('third'))
        assert [type(each) for each in results] == [str, sa.exc.IntegrityError, Refusal, str]
        with database.begin_plain() as connection:
            names = set(connection.scalars(sa.select(Secret.name)))
    finally:
        database.close()
    assert names == {'first', 'second', 'third'}


@pytest.mark.usefixtures('distant')
def test_unread_statements_are_waited_for_together(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(url)
    waits: list[object] = []
    sync, end = psycopg.Pipeline.sync, psycopg.Pipeline.__exit__

    def note(pipeline: psycopg.Pipeline) -> None:
        waits.append(pipeline)
        sync(pipeline)

    def note_end(pipeline: psycopg.Pipeline, *error: Any) -> None:
        waits.append(pipeline)
        end(pipeline, *error)

    monkeypatch.setattr(psycopg.Pipeline, 'sync', note)
    monkeypatch.setattr(psycopg.Pipeline, '__exit__', note_end)

    def work(connection: sa.Connection) -> int | None:
        connection.execute(_ADD, _row('first'))
        connection.execute(_ADD, [_row('second'), _row('third')])
        return connection.scalar(sa.select(sa.func.count()).select_from(Secret))

    try:
        assert _shared(database, work) == [3]
    finally:
        database.close()
    # For the count, and for the commit.
    assert len(waits) == 2


@pytest.mark.usefixtures('distant')
@pytest.mark.parametrize('commit', [False, True])
def test_pipeline_that_breaks_is_begun_again_before_its_commit(url: str, commit: bool) -> None:
    database = Database(url)

    def end(connection: sa.Connection) -> None:
        pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        with database.begin_plain() as other:
            other.scalar(sa.text('SELECT pg_terminate_backend(:pid)'), {'pid': pid})

    ended: list[object] = []

    def work(connection: sa.Connection) -> int | None:
        connection.execute(_ADD, _row('first'))
        count = sa.select(sa.func.count()).select_from(Secret)
        found = connection.scalar(count)
        if not ended:
            ended.append(end(connection))
            if not commit:
                found = connection.scalar(count)
        return found

    try:
        (result,) = _shared(database, work)
        with database.begin_plain() as connection:
            kept = len(connection.scalars(sa.select(Secret.name)).all())
    finally:
        database.close()
    if commit:
        # Nobody knows whether it took place.
        assert isinstance(result, sa.exc.OperationalError)
        assert result.connection_invalidated
    assert (kept, result) == ((0, result) if commit else (1, 1))


def test_files_of_all_names_and_sizes_are_kept_over_a_restart(tmp_path: Path, url: str) -> None:
    names = ['cat.jpg', 'Grüße, 世界 🌍.txt', 'x' * 32767, "'; DROP TABLE entries; --", '%s']
    alice = Account('alice@example.org')
    with RunningBridge(tmp_path, database_url=url) as bridge:
        bridge.farmer()
        bridge.account()
        bucket = bridge.bucket(alice)
        for name in names:
            frame = bridge.frame(alice)
            bridge.add_shard(alice, frame, name.encode(), size=4294967296)
            file = {'frame': frame, 'filename': name}
            path = f'/buckets/{bucket}/files'
            assert bridge.request('POST', path, file, by=alice).status == 200
            assert bridge.request('POST', path, file, by=alice).status == 400
    with RunningBridge(tmp_path, database_url=url) as bridge:
        files = bridge.request('GET', f'/buckets/{bucket}/files', by=alice).json
        assert [file['filename'] for file in files] == names
        assert {file['size'] for file in files} == {4294967296}


def test_database_of_an_earlier_version_is_brought_up(tmp_path: Path, url: str) -> None:
    keep_files_over_an_upgrade(tmp_path, database_url=url)


def test_name_with_nul_is_nobodys(tmp_path: Path, url: str) -> None:
    with RunningBridge(tmp_path, database_url=url) as bridge:
        credentials = base64.b64encode(b'a\0b:password').decode()
        headers = {'authorization': f'Basic {credentials}'}
        assert bridge.request('GET', '/buckets', headers=headers).status == 401


def test_network_keeps_its_records_there(tmp_path: Path, url: str) -> None:
    shards = [os.urandom(20_000) for _ in range(3)]
    options = {'data': tmp_path, 'database': url, 'bridge': {'audit_interval': 0.5}}
    with Network(farmers=2, **options) as network:
        bucket, file, _ = upload(network, shards, 'photos')
    with Network(farmers=2, **options) as network:
        assert download(network, bucket, file) == shards
        assert not (tmp_path / 'bridge.db').exists()


def test_server_that_refuses_is_named_without_the_password(postgresql_server: sa.URL) -> None:
    wrong = postgresql_server.set(password='not-the-secret')
    with pytest.raises(NetworkSetupError, match='postgresql') as refused:
        Database(wrong.render_as_string(hide_password=False))
    assert 'not-the-secret' not in str(refused.value)


def test_bridge_changes_no_schema_of_a_server_by_itself(url: str) -> None:
    with pytest.raises(OldSchemaError, match='schema is missing') as refused:
        Database(url, migrate=False)
    assert 'storj bridge migrate' in refused.value.hint
    assert migrate(url) is None
    Database(url, migrate=False).close()
    assert migrate(url) == REVISION
    engine = sa.create_engine(url)
    for revision, problem in (('1', 'is of revision 1'), ('99', 'made by a later version')):
        with engine.begin() as connection:
            connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{revision}'"))
        with pytest.raises(NetworkSetupError, match=problem):
            Database(url, migrate=False)
    with pytest.raises(NetworkSetupError, match='made by a later version'):
        migrate(url)
    engine.dispose()


def test_bridges_that_start_at_once_have_the_same_secret(url: str) -> None:
    databases = [Database(url) for _ in range(2)]
    made = itertools.count()
    both = threading.Barrier(2)

    def make() -> str:
        # Neither has found one when the other makes its own.
        both.wait(30)
        return f'secret {next(made)}'

    with ThreadPoolExecutor(2) as pool:
        secrets = list(pool.map(lambda each: each.secret('seed', make), databases))
    assert secrets[0] == secrets[1]
    assert next(made) == 2
    assert databases[0].secret('seed', make) == secrets[0]
    for database in databases:
        database.close()


def test_loss_of_the_servers_machine_is_noticed(postgresql_server: sa.URL) -> None:
    if postgresql_server.get_driver_name() != 'psycopg':
        pytest.skip('another driver')
    url = postgresql_server.update_query_dict({'connect_timeout': '9'})
    database = Database(url.render_as_string(hide_password=False))
    try:
        with database.begin_plain() as connection:
            found = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]
    finally:
        database.close()
    assert found['tcp_user_timeout'] == '25000'
    assert found['keepalives_idle'] == '10'
    assert found['connect_timeout'] == '9'


@contextmanager
def cut(database: Database, commit: bool) -> Iterator[list[int]]:
    """Have the server end the connection of the next transaction; note how often one began."""
    begun: list[int] = []

    def end(connection: sa.Connection) -> None:
        pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        with database.begin_plain() as other:
            assert other.scalar(sa.text('SELECT pg_terminate_backend(:pid)'), {'pid': pid})

    def note(connection: sa.Connection) -> None:
        if threading.current_thread().name.startswith('storj-transactions'):
            begun.append(1)
            if not commit and len(begun) == 1:
                end(connection)

    def committing(connection: sa.Connection) -> None:
        if commit and len(begun) == 1:
            # Once: the transaction of the end itself is committed by another thread.
            begun.append(0)
            end(connection)

    sa.event.listen(database.engine, 'begin', note)
    sa.event.listen(database.engine, 'commit', committing)
    try:
        yield begun
    finally:
        sa.event.remove(database.engine, 'begin', note)
        sa.event.remove(database.engine, 'commit', committing)


def test_transaction_whose_connection_breaks_is_done_again(tmp_path: Path, url: str) -> None:
    with RunningBridge(tmp_path, database_url=url) as bridge:
        alice = bridge.account()
        bridge.bucket(alice, 'first')
        with cut(bridge.state.database, commit=False) as begun:
            answer = bridge.request('POST', '/buckets', {'name': 'photos'}, by=alice)
        assert answer.status == 201
        assert len(begun) >= 2
        buckets = bridge.request('GET', '/buckets', by=alice).json
        assert [bucket['name'] for bucket in buckets] == ['first', 'photos']


def test_commit_that_nobody_answers_is_left_to_the_client(tmp_path: Path, url: str) -> None:
    with RunningBridge(tmp_path, database_url=url) as bridge:
        alice = bridge.account()
        bridge.bucket(alice, 'first')
        with cut(bridge.state.database, commit=True):
            answer = bridge.request('POST', '/buckets', {'name': 'photos'}, by=alice)
        # Done again by the bridge, it might be done twice.
        assert (answer.status, answer.headers['Retry-After']) == (503, '1')
        answer = bridge.request('POST', '/buckets', {'name': 'photos'}, by=alice)
        assert answer.status == 201


def test_transaction_that_waits_for_a_lock_is_given_up(tmp_path: Path, url: str) -> None:
    with RunningBridge(tmp_path, database_url=url) as bridge:
        alice = bridge.account()
        database = bridge.state.database

        def impatient(connection: sa.Connection) -> None:
            if threading.current_thread().name.startswith('storj-transactions'):
                connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")

        sa.event.listen(database.engine, 'begin', impatient)
        try:
            with database.begin_plain() as connection:
                connection.execute(sa.text('LOCK TABLE buckets IN ACCESS EXCLUSIVE MODE'))
                answer = bridge.request('POST', '/buckets', {'name': 'photos'}, by=alice)
            assert (answer.status, answer.headers['Retry-After']) == (503, '1')
        finally:
            sa.event.remove(database.engine, 'begin', impatient)
        assert bridge.request('POST', '/buckets', {'name': 'photos'}, by=alice).status == 201
        with database.begin_plain() as connection:
            limits = ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout')
            shown = [connection.scalar(sa.text(f'SHOW {limit}')) for limit in limits]
        assert shown == ['8s', '8s', '1min']


@pytest.mark.skipif(not Path('/proc').exists(), reason='needs /proc')
def test_server_that_is_frozen_keeps_no_request(
    tmp_path: Path, postgresql_server: sa.URL, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('storj.network.bridge.database.PATIENCE', 0.5)
    # More requests than connections: those that wait for one end as well.
    quick = {'database_url': f'{url}?connect_timeout=2', 'connections': 4}
    with RunningBridge(tmp_path, **quick) as bridge:
        alice = bridge.account()
        paths = ['/buckets', '/status', '/contacts', '/nope'] * 3
        with frozen(postgresql_server), ThreadPoolExecutor(len(paths)) as threads:
            answers = list(threads.map(lambda path: bridge.request('GET', path, by=alice), paths))
            assert bridge.request('GET', '/health').status == 200
            assert bridge.request('GET', '/ready').status == 503
        assert {(a.status, a.headers.get('Retry-After')) for a in answers} <= {
            (503, '1'),
            (404, None),
        }
        assert [answer.status for answer in answers].count(503) == 9
        eventually(
            lambda: bridge.request('POST', '/buckets', {'name': 'a'}, by=alice).status == 201
        )


@pytest.mark.skipif(not Path('/proc').exists(), reason='needs /proc')
def test_bridge_stops_while_its_server_is_frozen(
    tmp_path: Path, postgresql_server: sa.URL, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('storj.network.bridge.database.PATIENCE', 0.5)
    bridge = RunningBridge(tmp_path, database_url=url)
    bridge.__enter__()
    with frozen(postgresql_server):
        bridge.__exit__(None, None, None)


@pytest.mark.parametrize(('agree', 'ready'), [(0, 200), (1, 200), (2, 503)])
def test_bridge_whose_clock_is_wrong_is_not_ready(
    tmp_path: Path, url: str, agree: int, ready: int
) -> None:
    # That of the bridge stands in the year 2016.
    with RunningBridge(tmp_path, database_url=url) as bridge:
        for port in (4000, 4001, 4002):
            farmer = bridge.farmer(port)
            if agree > port - 4000:
                skew = time.time() - bridge.state.clock()
                bridge.state.clock_skews[farmer.identity.node_id] = skew
        told = bridge.request('GET', '/health').json['problems']
        assert 'the clock is not that of the database' in told
        assert bridge.request('GET', '/ready').status == ready


def set_read_only(url: str, value: str) -> None:
    """Make a database one that takes nothing, as that of a server which was the first one."""
    engine = sa.create_engine(url, isolation_level='AUTOCOMMIT')
    name = engine.url.database
    with engine.connect() as connection:
        connection.exec_driver_sql('SET default_transaction_read_only = off')
        statement = f'ALTER DATABASE {name} SET default_transaction_read_only = {value}'
        connection.exec_driver_sql(statement)
        if value == 'on':
            ended = f"pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            connection.exec_driver_sql(f'SELECT {ended} AND pid <> pg_backend_pid()')
    engine.dispose()


def test_read_only_server_is_left_after_a_failover(tmp_path: Path, url: str) -> None:
    with RunningBridge(tmp_path, database_url=url) as bridge:
        alice = bridge.account()
        set_read_only(url, 'on')
        answer = bridge.request('POST', '/buckets', {'name': 'photos'}, by=alice)
        assert (answer.status, answer.headers.get('Retry-After')) == (503, '1')
        assert bridge.request('GET', '/ready').status == 503
        set_read_only(url, 'off')
        # The bridge has connections from before.
        assert bridge.request('POST', '/buckets', {'name': 'photos'}, by=alice).status == 201


def test_read_only_server_is_named_at_the_start(tmp_path: Path, url: str) -> None:
    migrate(url)
    set_read_only(url, 'on')
    database = Database(url, migrate=False)
    try:
        with pytest.raises(NetworkSetupError, match='cannot be used: cannot execute INSERT'):
            database.secret('seed', str)
    finally:
        database.close()
    settings = {'database_url': url, 'data_dir': tmp_path, 'migrate': False}
    bridge = BridgeServer(Endpoint(port=0), b'seed' * 8, settings, MetaDiskSettings())
    with pytest.raises(NetworkSetupError, match='the database cannot be used: cannot execute'):
        asyncio.run(bridge.start())


def test_read_without_a_waiting_request_may_take_longer(url: str) -> None:
    database = Database(url)
    limit = sa.text('SHOW statement_timeout')
    try:
        for long, expected in ((True, '2min'), (False, '8s')):
            assert asyncio.run(database.apart(lambda s: s.scalar(limit), long=long)) == expected
    finally:
        database.close()


@contextmanager
def plans(database: Database) -> Iterator[list[str]]:
    """Collect the plans of the statements that are executed meanwhile, before each of them."""
    found: list[str] = []

    def explain(connection: sa.Connection, _c: object, statement: str, given: Any, *_: Any) -> None:
        cursor = connection.connection.cursor()
        if statement.startswith('SHOW'):
            return
        cursor.execute(f'EXPLAIN {statement}', given)
        found.append('\n'.join(row[0] for row in cursor.fetchall()))

    sa.event.listen(database.engine, 'before_cursor_execute', explain)
    try:
        yield found
    finally:
        sa.event.remove(database.engine, 'before_cursor_execute', explain)


def test_tables_without_statistics_are_read_by_index(url: str) -> None:
    bucket, each = 'b' * 24, "10000 + i || repeat('a', 19)"
    rows = (
        """INSERT INTO users (email, password, created, activated, uuid)
        VALUES ('a', '', 0, true, '')""",
        f"""INSERT INTO buckets (id, "user", name, created, public_keys, public_permissions,
        encryption_key) VALUES ('{bucket}', 'a', 'photos', 0, '[]', '[]', '')""",
        f"""INSERT INTO frames (id, "user", created, locked, size, storage_size)
        SELECT {each}, 'a', i, true, 1, 1 FROM generate_series(1, 20000) AS i""",
        f"""INSERT INTO pointers (id, frame, position, shard_hash, size, parity)
        SELECT {each}, {each}, 0, {each}, 1, false FROM generate_series(1, 20000) AS i""",
        f"""INSERT INTO entries (id, bucket, frame, mimetype, created, renewal)
        SELECT {each}, '{bucket}', {each}, '', i, 0 FROM generate_series(1, 20000) AS i""",
        """INSERT INTO contacts (node_id, address, port, protocol, user_agent, created, last_seen,
        space_available, timeout_rate, reputation) VALUES ('n', '', 1, '', '', 0, 0, true, 0, 0)""",
        f"""INSERT INTO contracts (shard_hash, node_id, data_size, store_begin, store_end, tree,
        document, auditable, stored, mirror, failed, download_count, next_audit)
        SELECT {each}, 'n', 1, 0, 0, '[]', '{{}}', true, true, false, false, 0, 0
        FROM generate_series(1, 20000) AS i""",
    )
    database = Database(url)
    try:
        with database.begin_plain() as connection:
            for statement in rows:
                connection.execute(sa.text(statement))
        with plans(database) as seen, database.begin_plain() as connection:
            connection.execute(sa.select(placement._SHARES), {'frame': 'a' * 24})
            # Which joins it would choose depends on how large the tables are.
            joins = [sa.text(f'SHOW enable_{kind}join') for kind in ('hash', 'merge')]
            assert [connection.scalar(each) for each in joins] == ['off', 'off']
            # And so it depends whether it would start workers for some rows.
            assert connection.scalar(sa.text('SHOW max_parallel_workers_per_gather')) == '0'
            assert remove_some(connection, bucket, 0) is not None
        with plans(database) as of_files, database.begin() as session:
            assert len(status._files(session, 'a')) > 50
    finally:
        database.close()
    assert len(seen) > 5
    read = '\n'.join(seen)
    assert 'Seq Scan on' not in read
    assert 'Sort' not in read
    assert 'Join' not in read
    # Of joins of the two, it would choose one that reads all contracts of a million.
    assert any('on contracts' in plan for plan in of_files)
    assert not any('on contracts' in plan and 'on pointers' in plan for plan in of_files)
