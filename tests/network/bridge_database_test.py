"""The bridge's tables when they are large: the event loop reads none of them from end to end.

The plans are SQLite's; other databases have the same indexes to choose from.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    delete,
    event,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storj.digest import shard_hash
from storj.exception import NetworkSetupError
from storj.network.bridge import migrations, totals
from storj.network.bridge.contacts import write_calls
from storj.network.bridge.copies import supply
from storj.network.bridge.database import Database
from storj.network.bridge.migrations.versions import revision_1
from storj.network.bridge.quotas import Quota
from storj.network.bridge.state import BRIDGE
from storj.network.bridge.status import network_status
from storj.network.bridge.tables import (
    REVISION,
    Contact,
    Contract,
    Entry,
    Frame,
    Measure,
    Pointer,
    Secret,
    Token,
    User,
    Volume,
)
from storj.network.bridge.upkeep import removals
from storj.network.bridge.upkeep.audits import audit_round
from storj.network.bridge.upkeep.renewals import renewal_round
from storj.network.bridge.upkeep.repairs import REPAIRS
from storj.network.bridge.upkeep.rounds import end_given_up, lost_round, ping_round, sweep
from tests.network.bridges import Account, RunningBridge, eventually
from tests.network.nodes import DAY

#: Tables that are as long as the list of farmers, two that are bounded, and one with a single row.
SMALL = {'contacts', 'work_challenges', 'counters', 'alembic_version'}
#: Partial indexes that a round goes through: they have the rows that it is for, and no others.
WORK = {'contracts_given_up'}
#: Tables of the first revision, of databases from before it, and Alembic's own.
KEPT = {*revision_1.TABLES.tables, 'bridge_schema', 'reports', 'alembic_version'}
#: Columns that the first version did not have.
NEWER = (
    ('users', 'free_tier'),
    ('contacts', 'local'),
    ('contacts', 'lost'),
    ('contacts', 'returns'),
    ('contacts', 'unchecked'),
    ('contacts', 'audits_passed'),
    ('contacts', 'audits_failed'),
    ('contracts', 'next_renewal'),
    ('contracts', 'verified'),
)


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[RunningBridge]:
    quota = Quota(day=10**9)
    with RunningBridge(tmp_path, upload_quota=quota, download_quota=quota, mirrors=1) as running:
        yield running


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Collect what is executed, each statement once, with what it was executed with."""
    seen: dict[str, Any] = {}

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        if not threading.current_thread().name.startswith('storj-database'):
            seen.setdefault(statement, parameters[0] if many else parameters)

    found: list[tuple[str, Any]] = []
    event.listen(Engine, 'before_cursor_execute', note)
    try:
        yield found
    finally:
        event.remove(Engine, 'before_cursor_execute', note)
        found += seen.items()


def scans(path: Path, statement: str, parameters: Any) -> list[str]:
    """Return the steps of a statement's plan that go through a whole table, or a whole index."""
    with closing(sqlite3.connect(path)) as database:
        plan = database.execute('EXPLAIN QUERY PLAN ' + statement, parameters).fetchall()
    steps = [row[3] for row in plan]
    pattern = r'SCAN (?:TABLE )?(\w+)(?: USING (?:COVERING )?INDEX (\w+))?'
    named = [(step, re.match(pattern, step)) for step in steps]
    # What a subquery has found is not a table.
    return [
        step
        for step, match in named
        if match
        and match[1] not in SMALL | {'CONSTANT'}
        and not match[1].startswith('anon_')
        and match[2] not in WORK
    ]


def use_everything(bridge: RunningBridge, alice: Account) -> None:
    """Do what a bridge does in its life."""
    farmers = [bridge.farmer(port) for port in (4000, 4001, 4002)]
    bucket = bridge.bucket(alice)
    frame = bridge.frame(alice)
    pointer = bridge.add_shard(alice, frame, b'a' * 20000, 0)
    for farmer in farmers:
        farmer.shards[pointer['hash']] = b'a' * 20000
    assert bridge.report(pointer, 'SHARD_UPLOADED').status == 201
    bridge.copies_made()
    body = {'frame': frame, 'filename': 'cat.jpg'}
    file = bridge.request('POST', f'/buckets/{bucket}/files', body, by=alice).json['id']
    given_up = bridge.frame(alice)
    wanted = bridge.shard(b'b' * 20000)
    for _ in farmers[:2]:
        added = bridge.request('PUT', f'/frames/{given_up}', wanted, by=alice)
        assert added.status == 200
        wanted['exclude'] = [added.json['farmer']['nodeID']]
    paths = (
        '/buckets',
        '/frames',
        '/keys',
        '/contacts',
        '/status',
        f'/frames/{frame}',
        f'/buckets/{bucket}/files?startDate=2016-01-01',
        f'/buckets/{bucket}/files/{file}',
        f'/buckets/{bucket}/files/{file}/info',
        f'/buckets/{bucket}/files/{file}/mirrors',
        f'/buckets/{bucket}/file-ids/cat.jpg',
        '/bucket-ids/photos',
    )
    for path in paths:
        assert bridge.request('GET', path, by=alice).status == 200
    body = {'operation': 'PULL', 'file': file}
    token = bridge.request('POST', f'/buckets/{bucket}/tokens', body, by=alice).json['token']
    path = f'/buckets/{bucket}/files/{file}'
    assert bridge.request('GET', path, headers={'x-token': token}).status == 200
    bridge.request('POST', f'/buckets/{bucket}/mirrors', {'file': file, 'redundancy': 2}, by=alice)
    for link in bridge.links():
        bridge.request('GET', link)
    bridge.request('PATCH', f'/users/{alice.email}', {})
    bridge.request('GET', f'/resets/{"a" * 512}')
    bridge.request('GET', f'/deactivations/{"a" * 512}')
    for days in (0, 60, 100):
        bridge.clock.now += days * DAY
        for work in (sweep, ping_round, lost_round, end_given_up, audit_round, renewal_round):
            bridge.call(lambda work=work: work(bridge.state))  # type: ignore[misc]
        bridge.call(bridge.app[REPAIRS].look)
        bridge.copies_made()
    with bridge.state.database.begin() as session:
        session.get_one(Contact, farmers[1].identity.node_id).lost = True
    for work in (ping_round, audit_round):
        bridge.call(lambda work=work: work(bridge.state))  # type: ignore[misc]
    body = {'bad': [pointer['hash']], 'ended': [pointer['hash']]}
    node = farmers[2].identity
    path = f'/contacts/{node.node_id}/shards'
    assert bridge.farmer_request(node, 'POST', path, body).status == 200
    bridge.copies_made()
    path = f'/buckets/{bucket}/files/{file}'
    node = farmers[0].identity
    assert bridge.farmer_request(node, 'DELETE', f'/contacts/{node.node_id}', {}).status < 300
    bridge.request('DELETE', path, by=alice)
    bridge.request('DELETE', f'/buckets/{bucket}', by=alice)
    bridge.request('DELETE', f'/frames/{bridge.frame(alice)}', by=alice)


def test_no_statement_goes_through_a_large_table(bridge: RunningBridge, tmp_path: Path) -> None:
    with statements(bridge.state.database) as found:
        use_everything(bridge, bridge.account())
    assert len(found) > 60
    bad = {
        statement: steps
        for statement, parameters in found
        if not statement.startswith('PRAGMA')
        and (steps := scans(tmp_path / 'bridge.db', statement, parameters))
    }
    assert bad == {}


@contextmanager
def executions() -> Iterator[list[str]]:
    """Collect statements, without those that every second brings."""
    executed: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, _p: Any, _x: Any, _many: bool) -> None:
        if not re.search('UPDATE (contacts|leases|repairs)', statement):
            executed.append(statement)

    event.listen(Engine, 'before_cursor_execute', note)
    try:
        yield executed
    finally:
        event.remove(Engine, 'before_cursor_execute', note)


def test_small_upload_takes_few_statements(tmp_path: Path) -> None:
    with RunningBridge(tmp_path) as bridge, executions() as executed:
        alice = bridge.account()
        farmer = bridge.farmer()
        bucket = bridge.bucket(alice)
        bridge.file(alice, bucket, [b'first'])

        def upload(name: str) -> tuple[int, int]:
            """Return the statements of the client's calls, and those of reports and copies."""
            executed.clear()
            frame = bridge.frame(alice)
            pointer = bridge.add_shard(alice, frame, name.encode())
            before = len(executed)
            bridge.farmer_report(farmer, pointer['hash'], 'SHARD_UPLOADED')
            bridge.report(pointer, 'SHARD_UPLOADED')
            bridge.copies_made()
            of_reports = len(executed) - before
            body = {'frame': frame, 'filename': name}
            path = f'/buckets/{bucket}/files'
            assert bridge.request('POST', path, body, by=alice).status == 200
            return len(executed) - of_reports, of_reports

        counts = [upload(name) for name in ('dog', 'cat', 'cow')]
        # Work in the background may add some to one of them.
        calls, reports = (min(each) for each in zip(*counts, strict=True))
        assert (calls, reports) == (9, 3), executed


def test_copies_of_a_small_file_take_few_statements(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, mirrors=2) as bridge, executions() as executed:
        alice = bridge.account()
        found = [bridge.farmer(port) for port in (4000, 4001, 4002)]
        for farmer in found:
            farmer.copies_at_once = True
        known = {farmer.identity.node_id: farmer for farmer in found}

        def copies(data: bytes) -> int:
            """Return the statements from the report of a new shard to its third copy."""
            pointer = bridge.add_shard(alice, bridge.frame(alice), data)
            executed.clear()
            farmer = known[pointer['farmer']['nodeID']]
            bridge.farmer_report(farmer, pointer['hash'], 'SHARD_UPLOADED')
            bridge.copies_made()
            return len(executed)

        counts = [copies(data) for data in (b'dog', b'cat', b'cow')]
        # The report 2, the claim and its end 2, the plan 3, and each of both contracts 2.
        assert min(counts) == 11, executed


def before_alembic(connection: Connection) -> None:
    """Have a database name its version as those from before Alembic did."""
    connection.execute(text('DROP TABLE alembic_version'))
    connection.execute(text('CREATE TABLE bridge_schema (fingerprint VARCHAR(64) PRIMARY KEY)'))
    connection.execute(text("INSERT INTO bridge_schema VALUES ('earlier')"))


def age(url: str) -> None:
    """Take from a database what its first version did not have."""
    drop_newer(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text('DROP INDEX contracts_by_renewal'))
        connection.execute(text('DROP TABLE volumes'))
        # It had a table that nothing read, and an index by which placement read every contract.
        connection.execute(text('CREATE TABLE reports (id VARCHAR(24) PRIMARY KEY)'))
        state = 'mirror, stored, store_begin'
        connection.execute(text(f'CREATE INDEX contracts_by_state ON contracts ({state})'))
        for table, column in NEWER:
            connection.execute(text(f'ALTER TABLE {table} DROP COLUMN {column}'))
        before_alembic(connection)
    engine.dispose()


def drop_newer(url: str) -> None:
    """Take from a database the tables, indexes and columns that later revisions made."""
    engine = create_engine(url)
    with engine.begin() as connection:
        found = inspect(connection)
        for table in found.get_table_names():
            if table not in KEPT:
                connection.execute(text(f'DROP TABLE {table}'))
            elif table in revision_1.TABLES.tables:
                first = revision_1.TABLES.tables[table]
                for index in found.get_indexes(table):
                    known = index['name'] in {each.name for each in first.indexes}
                    if not known and 'duplicates_constraint' not in index:
                        connection.execute(text(f'DROP INDEX {index["name"]}'))
                columns = {each['name'] for each in found.get_columns(table)}
                for column in columns - set(first.columns.keys()):
                    connection.execute(text(f'ALTER TABLE {table} DROP COLUMN {column}'))
    engine.dispose()


def schema(database: Database) -> dict[str, Any]:
    """Return the tables of a database, with the names of their columns and indexes."""
    with database.begin_plain() as connection:
        found = inspect(connection)
        return {
            table: (
                {
                    column['name']: (str(column['type']), column['nullable'], column['default'])
                    for column in found.get_columns(table)
                },
                {index['name'] for index in found.get_indexes(table)},
            )
            for table in found.get_table_names()
        }


def keep_files_over_an_upgrade(folder: Path, **settings: Any) -> None:
    """Make a file, let the database be one of an earlier version, and use it again."""
    with RunningBridge(folder, **settings) as bridge:
        alice = bridge.account()
        bridge.farmer()
        bucket = bridge.bucket(alice)
        file = bridge.file(alice, bucket)
        before = schema(bridge.state.database)
        bridge.call(lambda: write_calls(bridge.state))
    age(settings.get('database_url', f'sqlite:///{folder / "bridge.db"}'))
    with RunningBridge(folder, **settings) as bridge:
        path = f'/buckets/{bucket}/files/{file}/info'
        assert bridge.request('GET', path, by=alice).json['id'] == file
        assert schema(bridge.state.database) == before
        with bridge.state.database.begin() as session:
            assert session.query(Volume).count() == 0
            assert {contract.next_renewal for contract in session.query(Contract)} == {0}
            contacts = session.query(Contact).all()
            assert {(contact.local, contact.lost, contact.returns) for contact in contacts} == {
                (False, False, 0)
            }
            # Its copies go on to count.
            assert supply(session.connection(), '', 'g') == {1: 1}
            assert {user.free_tier for user in session.query(User)} == {True}
    with RunningBridge(folder, **settings) as bridge:
        assert bridge.request('GET', path, by=alice).status == 200


@pytest.mark.skipif(
    sqlite3.sqlite_version_info < (3, 35), reason='this SQLite cannot drop a column'
)
def test_database_of_an_earlier_version_is_brought_up(tmp_path: Path) -> None:
    keep_files_over_an_upgrade(tmp_path)


def definitions(path: Path) -> dict[str, Any]:
    """Return how the tables and indexes of a file of SQLite are; columns in any order."""
    with closing(sqlite3.connect(path)) as database:
        tables = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {
            table: [
                sorted(row[first:] for row in database.execute(f'PRAGMA {pragma}({table})'))
                for pragma, first in (('table_info', 1), ('foreign_key_list', 2))
            ]
            + [
                sorted(
                    # Those of keys and unique columns have no text.
                    (sql or '', [row[2] for row in database.execute(f'PRAGMA index_info({name})')])
                    for name, sql in database.execute(
                        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ?",
                        (table,),
                    ).fetchall()
                )
            ]
            for table in tables
            if table != 'alembic_version'
        }


def test_new_database_is_what_the_revisions_make(tmp_path: Path) -> None:
    new, revised = tmp_path / 'new.db', tmp_path / 'revised.db'
    with closing(sqlite3.connect(revised)) as database:
        database.execute('CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)')
    for path in (new, revised):
        Database(f'sqlite:///{path}').close()
    assert len(definitions(new)) > 15
    assert definitions(new) == definitions(revised)


def test_database_is_of_the_last_revision() -> None:
    folder = Path(migrations.__file__).parent
    assert ScriptDirectory(str(folder)).get_current_head() == REVISION


def test_probe_leaves_the_revision_of_a_later_version(tmp_path: Path) -> None:
    database = Database(f'sqlite:///{tmp_path / "bridge.db"}')
    try:
        # As if a later version had brought up a database that both have in use.
        with database.begin_plain() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '99'"))
        with pytest.raises(NetworkSetupError, match='of revision 99'):
            database.probe()
        with database.begin_plain() as connection:
            assert connection.scalar(text('SELECT version_num FROM alembic_version')) == '99'
    finally:
        database.close()


def test_requests_share_a_transaction_unless_one_fails(tmp_path: Path) -> None:
    database = Database(f'sqlite:///{tmp_path}/bridge.db')
    rows = [{'name': name, 'value': 0.0} for name in 'aabc']
    commits: list[Connection] = []

    def note(connection: Connection) -> None:
        commits.append(connection)

    async def enter(some: list[dict[str, Any]]) -> list[object]:
        new = insert(Measure)
        works = [database.share(lambda each, row=row: each.execute(new, row)) for row in some]
        return await asyncio.gather(*works, return_exceptions=True)

    event.listen(Engine, 'commit', note)
    try:
        results = asyncio.run(enter(rows))
        assert [isinstance(result, Exception) for result in results] == [False, True, False, False]
        assert isinstance(results[1], IntegrityError)
        assert len(commits) == 3
        with database.begin() as session:
            assert sorted(session.scalars(select(Measure.name))) == ['a', 'b', 'c']
            session.execute(delete(Measure))
        commits.clear()
        asyncio.run(enter(rows[1:]))
        assert len(commits) == 1
    finally:
        event.remove(Engine, 'commit', note)
        database.close()


def test_work_shared_after_other_work_is_done_at_once(tmp_path: Path) -> None:
    database = Database(f'sqlite:///{tmp_path}/bridge.db')

    async def enter() -> None:
        for name in 'abc':
            row = {'name': name, 'value': 0.0}
            await database.share(lambda each, row=row: each.execute(insert(Measure), row))

    try:
        asyncio.run(asyncio.wait_for(enter(), 10))
    finally:
        database.close()


def test_log_of_sqlite_is_copied_by_another_thread(tmp_path: Path) -> None:
    database = Database(f'sqlite:///{tmp_path / "bridge.db"}')
    copied: list[tuple[str, int]] = []

    def note(_c: Any, cursor: Any, statement: str, _p: Any, _x: Any, _m: bool) -> None:
        if 'wal_checkpoint' in statement:
            copied.append((threading.current_thread().name, cursor.fetchone()[2]))

    event.listen(database.engine, 'after_cursor_execute', note)
    try:
        # Pages of about 4 MiB in one transaction, after which SQLite by itself would copy them.
        rows = [{'name': str(number), 'value': 'x' * 4000} for number in range(1500)]
        asyncio.run(database.run(lambda connection: connection.execute(insert(Secret), rows)))
        assert (tmp_path / 'bridge.db').stat().st_size < 2_000_000
        for _ in range(50):
            asyncio.run(database.read(lambda connection: connection.scalar(text('SELECT 1'))))
        eventually(lambda: bool(copied))
    finally:
        database.close()
    [(thread, pages)] = copied
    assert thread.startswith('storj-checkpoints')
    assert pages > 1500


def test_many_rows_are_deleted_some_at_a_time(bridge: RunningBridge) -> None:
    bucket = bridge.bucket(bridge.account())
    database = bridge.state.database
    # The bridge's own sweep, which begins at any moment, takes none of them yet.
    first = bridge.state.now() + 1000
    with database.begin() as session:
        session.add_all(
            Token(
                token=f'{number:064x}', bucket=bucket, operation='PULL', expires=first + number % 2
            )
            for number in range(1200)
        )
    bridge.call(lambda: database.delete_all(Token, Token.expires == first, Token.bucket == 'x'))
    with database.begin() as session:
        assert session.query(Token).count() == 1200
    with statements(database) as found:
        bridge.call(lambda: database.delete_all(Token, Token.expires == first))
    # The bridge's own work may be among them.
    looks = [each for each, _ in found if each.startswith(f'SELECT {Token.__tablename__}.')]
    assert looks
    assert all('LIMIT' in statement for statement in looks)
    with database.begin() as session:
        assert session.query(Token).count() == 600
    bridge.clock.now += 10
    bridge.call(lambda: sweep(bridge.state))
    with database.begin() as session:
        assert session.query(Token).count() == 0


def test_bucket_with_many_files_is_removed_whole(bridge: RunningBridge) -> None:
    alice = bridge.account()
    bridge.farmer()
    bucket, other = bridge.bucket(alice), bridge.bucket(alice, 'other')
    for number in range(3):
        bridge.file(alice, bucket if number else other, filename=str(number))
    assert bridge.request('DELETE', f'/buckets/{bucket}', by=alice).status == 204
    with bridge.state.database.begin() as session:
        (entry,) = session.query(Entry)
        assert entry.bucket == other
        # Frames and pointers go with their files.
        assert [frame.id for frame in session.query(Frame)] == [entry.frame]
        assert [pointer.frame for pointer in session.query(Pointer)] == [entry.frame]


def test_removal_at_a_time_is_bounded_by_shards(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = bridge.account()
    bridge.farmer()
    bucket = bridge.bucket(alice)
    for number in range(4):
        bridge.file(alice, bucket, filename=str(number))
    with bridge.state.database.begin() as session:
        for number, frame in enumerate(session.scalars(select(Entry.frame)).all()):
            second = {'frame': frame, 'position': 1, 'size': 1, 'parity': False}
            session.add(Pointer(id=f'{number:024x}', shard_hash=f'{number:040x}', **second))
    left = []
    # Two files, one of the two that are left, and then one that alone has too many.
    for limit in (4, 3, 1):
        monkeypatch.setattr(removals, '_SOME_SHARDS', limit)
        with bridge.state.database.begin() as session:
            assert removals.remove_some(session.connection(), bucket, 0) is not None
            left.append(session.query(Entry).count())
    assert left == [2, 1, 0]


def test_frames_of_files_that_were_removed_long_ago_go(tmp_path: Path) -> None:
    with RunningBridge(tmp_path) as bridge:
        alice = bridge.account()
        bridge.farmer()
        bucket = bridge.bucket(alice)
        bridge.file(alice, bucket, [b'stays'], filename='stays')
        bridge.file(alice, bucket, [b'went'], filename='went')
        upload = bridge.frame(alice)
        went = shard_hash(b'went')
        bridge.call(lambda: write_calls(bridge.state))
        with bridge.state.database.begin() as session:
            # As earlier versions did it.
            session.execute(text("DELETE FROM entries WHERE name = 'went'"))
            session.execute(text("UPDATE alembic_version SET version_num = '1'"))
    drop_newer(f'sqlite:///{tmp_path / "bridge.db"}')
    with RunningBridge(tmp_path) as bridge, bridge.state.database.begin() as session:
        (entry,) = session.query(Entry)
        assert {frame.id for frame in session.query(Frame)} == {entry.frame, upload}
        assert session.query(Pointer).one().frame == entry.frame
        due = session.query(Contract).filter(Contract.next_renewal == 0)
        assert [contract.shard_hash for contract in due] == [went]


def test_status_is_read_apart_from_the_event_loop(bridge: RunningBridge) -> None:
    names = []

    def read(session: Session) -> dict[str, Any]:
        names.append(threading.current_thread().name)
        return network_status(session, bridge.app[BRIDGE], Counter())

    assert bridge.call(lambda: bridge.state.database.apart(read))['farmers'] == []
    assert names[0].startswith('storj-database')


def test_database_in_memory_is_read_where_it_is(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, database_url='sqlite://') as bridge:
        bridge.account()
        assert bridge.request('GET', '/status').json['totals']['files'] == 0


def test_contracts_that_cannot_be_audited_are_not_looked_at_for_ever(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, audit_interval=60.0) as bridge:
        alice = bridge.account()
        farmer = bridge.farmer()
        frame = bridge.frame(alice)
        for index in range(30):
            pointer = bridge.add_shard(alice, frame, bytes([index]) * 20000, index)
            bridge.farmer_report(farmer, pointer['hash'], 'SHARD_UPLOADED')
        # One is needed and stored; the others, in a frame that is no file, come first.
        file = bridge.frame(alice)
        pointer = bridge.add_shard(alice, file, b'needed')
        bridge.request('POST', f'/buckets/{bridge.bucket(alice)}/files', {'frame': file}, by=alice)
        bridge.clock.now += 60
        rounds = [len(bridge.call(lambda: audit_round(bridge.state))) for _ in range(4)]
        assert rounds == [1, 0, 0, 0]
        with bridge.state.database.begin() as session:
            due = session.query(Contract).filter(Contract.next_audit <= bridge.state.now())
            assert due.count() == 0


def test_count_of_several_portions_stands_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, '_SOME', 2)

    def state(bridge: RunningBridge) -> tuple[int, int, int]:
        found = bridge.request('GET', '/status').json
        shards = sum(farmer['shards'] for farmer in found['farmers'])
        return found['totals']['files'], shards, found['totals']['under_replicated']

    with RunningBridge(tmp_path) as bridge:
        alice = bridge.account()
        bridge.farmer()
        bucket = bridge.bucket(alice)
        for number in range(1, 7):
            bridge.file(alice, bucket, [b'%d' % number], filename=str(number))
            if number in (1, 5):
                # A new count, and the first of several portions.
                assert state(bridge) == (number, number, 0)
        assert state(bridge) == (5, 5, 0)
    # Another bridge, or the same one later, has no other count than this.
    with RunningBridge(tmp_path) as bridge:
        assert state(bridge) == (5, 5, 0)
        # Twenty times as long as the count took, at least.
        bridge.clock.now += 10**6
        assert state(bridge) == (5, 5, 0)
        eventually(lambda: state(bridge) == (6, 6, 0))
        for number in range(2, 7):
            name = bridge.request('GET', f'/buckets/{bucket}/file-ids/{number}', by=alice).json
            path = f'/buckets/{bucket}/files/{name["id"]}'
            assert bridge.request('DELETE', path, by=alice).status == 204
        bridge.clock.now += 10**6
        eventually(lambda: state(bridge)[0] == 1)
