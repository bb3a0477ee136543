"""The database of the bridge: short transactions on its tables.

A transaction is a function that is given one, and waits for nothing else (:meth:`Database.run`).
SQLite works on the event loop, which is faster than in a thread; a server is waited for in threads.
No statement reads a table that can be large but by an index; what concerns many rows is done some
at a time (:meth:`Database.delete_all`), or apart (:meth:`Database.apart`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    ExceptionContext,
    bindparam,
    create_engine,
    delete,
    event,
    inspect,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as SATimeoutError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import QueuePool, StaticPool

from storj.exception import NetworkSetupError
from storj.network.bridge.schema import refusal, upgrade
from storj.network.bridge.tables import REVISION, Base, Lease, SchemaVersion, Secret
from storj.network.node.group_sync import Checkpoints, GroupSync
from storj.network.node.pipelines import pipelined
from storj.network.node.tasks import others_first
from storj.network.node.watchdog import Watchdog, tcp_limits
from storj.system.atomic_file import sync_folder
from storj.text import printable, to_system

logger = logging.getLogger(__name__)

_T = TypeVar('_T')
_Transaction = TypeVar('_Transaction')

# Rows that are deleted in one go: a few milliseconds' work.
_SOME = 200
# Pages of SQLite's log after which a commit copies what the thread for that has not copied yet: the
# log begins anew only if all of it was.
_LONGEST_LOG = 10_000
_CHECKPOINT = text('PRAGMA wal_checkpoint(PASSIVE)')
#: Transactions side by side, where a server does them.
CONNECTIONS = 16
# Of them those that requests share, and how many requests share one at the most.
_SHARED, _SHARERS = 4, 16
#: Seconds until a server is given up that does not answer, with the time for a connection; new ones
#: take up to five more. Reads of the work in the background may take the longer time.
PATIENCE, LONG_PATIENCE = 10.0, 130.0
# A statement that takes longer, or waits longer for another transaction, is given up by PostgreSQL
# first: the client is told to ask again.
_SETTINGS = (
    "SET statement_timeout = '8s'",
    "SET lock_timeout = '8s'",
    "SET idle_in_transaction_session_timeout = '60s'",
    # By an index, row by row: of tables that have grown since their last ANALYZE the planner would
    # read every row for a list of keys, sort a whole bucket for a page, join all for a frame.
    'SET enable_seqscan = off',
    'SET enable_sort = off',
    'SET enable_hashjoin = off',
    'SET enable_mergejoin = off',
    # These pay for seconds of computing; by what the others make of costs, they start for 50 rows.
    'SET jit = off',
    'SET max_parallel_workers_per_gather = 0',
)
_LONG = text("SET LOCAL statement_timeout = '120s'")
# Seconds before a transaction is done again that the database has broken off.
_PAUSES = (0.0, 0.02, 0.1)
# SQL states: serialization_failure, deadlock_detected.
_BROKEN_OFF = frozenset({'40001', '40P01'})
# read_only_sql_transaction: another server has become the first one.
_READ_ONLY = '25006'


def fingerprint(secret: str) -> str:
    """Return what is kept of a random secret: its SHA-256, 64 hex digits."""
    return hashlib.sha256(secret.encode('utf-8', 'surrogatepass')).hexdigest()


class Locks(IntEnum):
    """What work in a shared transaction locks, in the order in which it is done.

    What most others wait for comes last, so that it is locked for a short time.
    """

    NOTHING = 0
    CONTRACT = 1
    FRAME = 2
    BUCKET = 3


class _Waiting(NamedTuple):
    """Work for a transaction that is shared, and who waits for it."""

    since: float
    order: tuple[Locks, str]
    work: Callable[[Connection], Any]
    done: asyncio.Future[Any]


class Database:
    """The tables behind one URL.

    Args:
        url (str): any SQLAlchemy URL. A file of SQLite is made readable by its owner only and
            runs in WAL mode with ``synchronous=NORMAL``: after a commit alone, a crash of the
            machine may lose the last moments, never the consistency.
        durable (bool): whether :meth:`synced` waits for the disk.
        migrate (bool): whether a server's schema is made or brought up; that of SQLite always is.
        connections (int): to a server, for transactions side by side.

    Attributes:
        engine (Engine): of SQLAlchemy, whose events tell what is asked.

    Raises:
        NetworkSetupError: If it cannot be opened, or :func:`.schema.upgrade` refuses it.
    """

    def __init__(
        self,
        url: str,
        *,
        durable: bool = True,
        migrate: bool = True,
        connections: int = CONNECTIONS,
    ) -> None:
        parsed = _parsed(url)
        self._reader = ThreadPoolExecutor(1, 'storj-database')
        self._workers: ThreadPoolExecutor | None = None
        self._checkpoints: Checkpoints | None = None
        self._watchdog: Watchdog | None = None
        self._thread = _Thread()
        self._waiting: list[_Waiting] = []
        self._shared: set[asyncio.Task[None] | None] = set()
        with _named(parsed):
            self.engine = _open(parsed, connections)
            self._sync = _sync_of(parsed) if durable else None
            if _file_of(parsed) is not None:
                self._checkpoints = Checkpoints(self._checkpoint)
            self._sessions = sessionmaker(self.engine, expire_on_commit=False)
            self._reading = self.engine
            self._begin_shared: Callable[[], AbstractContextManager[Connection]] = self.engine.begin
            if parsed.get_backend_name() != 'sqlite':
                self._workers = ThreadPoolExecutor(connections, 'storj-transactions')
                self._reading = self.engine.execution_options(isolation_level='AUTOCOMMIT')
            try:
                upgrade(self.engine, migrate=migrate or self._workers is None)
                if self._workers is not None:
                    # Not before: to bring up a schema may take long.
                    self._watchdog = Watchdog()
                    self._watchdog.follow(self.engine, self._deadline)
                    self._begin_shared = pipelined(self.engine)
                else:
                    with self.begin_plain() as connection:
                        # It has one bridge: what that one had when it was killed is free.
                        connection.execute(delete(Lease))
            except BaseException:
                self.close()
                raise

    def _deadline(self) -> float:
        """Return until when a server is waited for by this thread."""
        return self._thread.deadline or time.monotonic() + PATIENCE

    def secret(self, name: str, make: Callable[[], str]) -> str:
        """Return a secret that all bridges of the database share; the first one makes it.

        Args:
            name (str): of the secret.
            make (Callable[[], str]): returns a new one.

        Raises:
            NetworkSetupError: If it can be neither read nor written.
        """
        known = select(Secret.value).where(Secret.name == name)
        with _named(self.engine.url):
            with self.begin_plain() as connection:
                found = connection.scalar(known)
            if found is None:
                # Of bridges that start at the same time, one is first, and all read its row.
                new = self.insert(Secret).values(name=name, value=make()).on_conflict_do_nothing()
                with self.begin_plain() as connection:
                    connection.execute(new)
                    found = connection.execute(known).scalar_one()
        return found

    async def synced(self) -> None:
        """Return when all that was committed so far would survive a power failure.

        A confirmation waits for it; other databases than SQLite do it in their commits.

        Raises:
            OSError: If the disk refuses.
        """
        if self._sync is not None:
            await self._sync.wait()

    def insert(self, table: type[Base]) -> postgresql.Insert | sqlite.Insert:
        """Return the INSERT of this engine, which may have ``on_conflict_do_update``."""
        if self.engine.dialect.name == 'postgresql':
            return postgresql.insert(table)
        return sqlite.insert(table)

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        """Do work in a transaction: committed at its end, rolled back by an error.

        The work is done again if the database broke it off, and maybe in another thread: it must
        change nothing but rows.

        Args:
            work (Callable[[Connection], T]): statements that are built once, with bound parameters,
                cost a fifth of loading an object and changing it.

        Returns:
            T: what it returns.
        """
        return await self.aside(partial(self._done, self.engine.begin, work))

    async def share(
        self, work: Callable[[Connection], _T], locks: Locks = Locks.NOTHING, key: str = ''
    ) -> _T:
        """Do short work as :meth:`run` does, in one transaction with that of other requests.

        Beginning and committing costs as much as some statements, and two round trips to a server.
        If any of the work fails, each is done again in a transaction of its own.

        Args:
            work (Callable[[Connection], T]): as of :meth:`run`; ``UNREAD`` statements fail later.
            locks (Locks): what it locks.
            key (str): which of these. Transactions that lock the same rows in the same order do
                not wait for each other in a circle.

        Returns:
            T: what it returns.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(time.monotonic(), (locks, key), work, loop.create_future())
        self._waiting.append(waiting)
        # SQLite does one transaction at a time.
        if len(self._shared) < (1 if self._workers is None else _SHARED):
            self._shared.add(loop.create_task(self._work_off()))
        return await waiting.done  # type: ignore[no-any-return]

    async def _work_off(self) -> None:
        """Do what waits for a shared transaction."""
        try:
            # Requests that came in at the same time get as far as this one meanwhile.
            await asyncio.sleep(0)
            while self._waiting:
                await self._do_some()
        finally:
            # At once: what is added from now on has to begin another task.
            self._shared.discard(asyncio.current_task())

    async def _do_some(self) -> None:
        """Do in one transaction what has waited longest."""
        some, self._waiting = self._waiting[:_SHARERS], self._waiting[_SHARERS:]
        patience = some[0].since + PATIENCE - time.monotonic()
        some.sort(key=lambda each: each.order)
        works = [each.work for each in some]
        try:
            results = await self.aside(partial(self._all, works), patience)
        except Exception as error:
            results = [error] * len(some)
        for each, result in zip(some, results, strict=True):
            if each.done.cancelled():
                continue
            if isinstance(result, Exception):
                each.done.set_exception(result)
            else:
                each.done.set_result(result)

    def _all(self, works: Sequence[Callable[[Connection], _T]]) -> list[_T | Exception]:
        """Do all work in one transaction, or each in its own; return what each returns or raises.

        Raises:
            SQLAlchemyError: If the database cannot be asked.
        """
        try:
            return self._done(self._begin_shared, lambda each: [work(each) for work in works])
        except Exception as error:
            if len(works) == 1 or (is_away(error) and not _state_of(error)):
                raise
        results: list[_T | Exception] = []
        for work in works:
            try:
                results.append(self._done(self._begin_shared, work))
            except Exception as error:
                results.append(error)
        return results

    async def run_objects(self, work: Callable[[Session], _T]) -> _T:
        """Do work with objects in a transaction, as :meth:`run` does; they can be read after it."""
        return await self.aside(partial(self._done, self._sessions.begin, work))

    async def read(self, work: Callable[[Connection], _T]) -> _T:
        """Read what one statement finds; it needs no transaction, which a server has to be told."""
        return await self.aside(partial(self._done, self._reading.begin, work))

    async def aside(self, work: Callable[[], _T], patience: float | None = None) -> _T:
        """Do work with :meth:`begin` and its like; a server is waited for in a thread.

        Args:
            work (Callable[[], T]): what is done.
            patience (float | None): seconds until a server is given up that does not answer; by
                default those of a request.
        """
        if self._workers is None:
            if self._checkpoints is not None:
                self._checkpoints.count()
            return work()
        patience = PATIENCE if patience is None else patience
        return await self._waited_for(self._workers, patience, work)

    def _checkpoint(self) -> None:
        with self.begin_plain() as connection:
            connection.execute(_CHECKPOINT)

    async def _waited_for(
        self, threads: ThreadPoolExecutor, patience: float, work: Callable[[], _T]
    ) -> _T:
        deadline = time.monotonic() + patience
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, self._within, deadline, work)

    def _within(self, deadline: float, work: Callable[[], _T]) -> _T:
        """Do work in a thread, unless it has waited too long for one."""
        if time.monotonic() >= deadline:
            raise SATimeoutError('all connections are in use')
        self._thread.deadline = deadline
        try:
            return work()
        finally:
            self._thread.deadline = None

    def _done(
        self,
        begin: Callable[[], AbstractContextManager[_Transaction]],
        work: Callable[[_Transaction], _T],
    ) -> _T:
        """Do work, again where the database broke it off and nothing of it can have remained."""
        for pause in _PAUSES:
            committing = False
            try:
                with begin() as transaction:
                    result = work(transaction)
                    committing = True
                return result
            except DBAPIError as error:
                # Nobody knows whether a commit took place that was not answered.
                if not _is_broken_off(error) or (committing and error.connection_invalidated):
                    raise
                if time.monotonic() >= (self._thread.deadline or math.inf):
                    raise
                logger.info('a transaction is done again: %s', error.orig)
            time.sleep(pause)
        with begin() as transaction:
            return work(transaction)

    def begin(self) -> AbstractContextManager[Session]:
        """Return a transaction: committed at the end of the block, rolled back by an error.

        Nothing may be awaited inside the block.
        """
        return self._sessions.begin()

    def begin_plain(self) -> AbstractContextManager[Connection]:
        """Return a transaction without objects, for the work of every shard and request.

        Statements that are built once, with bound parameters, cost a fifth of loading an object
        and changing it. For the rest, it is as :meth:`begin`; they cannot be nested.
        """
        return self.engine.begin()

    async def delete_all(self, table: type[Base], *conditions: ColumnElement[bool]) -> None:
        """Delete the rows that conditions hold for, some in each transaction.

        Args:
            table (type): of the rows.
            conditions (ColumnElement[bool]): all of them hold.
        """
        key = inspect(table).primary_key
        some = select(*key).where(*conditions).limit(_SOME)
        # Another connection may have changed some of them meanwhile.
        this = [column == bindparam(f'key_{column.name}') for column in key]
        dropped = delete(table).where(*this, *conditions)
        names = [f'key_{column.name}' for column in key]

        def work(connection: Connection) -> bool:
            rows = connection.execute(some).all()
            if rows:
                connection.execute(dropped, [dict(zip(names, row, strict=True)) for row in rows])
            return len(rows) == _SOME

        while await self.run(work):
            await others_first()

    async def apart(self, work: Callable[[Session], _T], *, long: bool = False) -> _T:
        """Do long reads in a thread, so that the event loop is not blocked; they change nothing.

        Args:
            work (Callable[[Session], T]): reads.
            long (bool): whether a server may take minutes, because no request waits.
        """

        def read(session: Session) -> _T:
            if long and self.engine.dialect.name == 'postgresql':
                session.execute(_LONG)
            return work(session)

        done = partial(self._done, self._sessions.begin, read)
        if isinstance(self.engine.pool, StaticPool):
            return done()  # A database in memory has one connection, which is the event loop's.
        patience = LONG_PATIENCE if long else PATIENCE
        return await self._waited_for(self._workers or self._reader, patience, done)

    def probe(self) -> None:
        """Write something, to find out whether that is possible.

        Raises:
            NetworkSetupError: If another version has changed the schema meanwhile.
            SQLAlchemyError: If the database refuses.
            OSError: If the disk has refused something that it had been told to keep.
        """
        if self._sync is not None and self._sync.failure is not None:
            raise self._sync.failure
        with self.begin_plain() as connection:
            # Another bridge may have brought the schema to a later revision meanwhile: keep it.
            connection.execute(update(SchemaVersion).values(version_num=SchemaVersion.version_num))
            revision = connection.scalar(select(SchemaVersion.version_num))
        if revision != REVISION:
            raise refusal(revision)

    @property
    def connections(self) -> int:
        """Connections that are in use now."""
        pool = self.engine.pool
        return pool.checkedout() if isinstance(pool, QueuePool) else 0

    def close(self) -> None:
        """Close all connections."""
        self._reader.shutdown(wait=True, cancel_futures=True)
        if self._checkpoints is not None:
            self._checkpoints.close()
        if self._workers is not None:
            self._workers.shutdown(wait=True, cancel_futures=True)
        if self._watchdog is not None:
            self._watchdog.close()
        self.engine.dispose()


class _Thread(threading.local):
    """What the work of one thread is bound by: monotonic seconds, if it is."""

    deadline: float | None = None


def migrate(url: str) -> str | None:
    """Bring a database to this version's revision, as :func:`.schema.upgrade` does.

    Raises:
        NetworkSetupError: If it cannot be opened, or :func:`.schema.upgrade` refuses it.
    """
    parsed = _parsed(url)
    with _named(parsed):
        engine = _open(parsed)
        try:
            return upgrade(engine)
        finally:
            engine.dispose()


def _parsed(url: str) -> URL:
    """Return what a URL says.

    Raises:
        NetworkSetupError: If it is none.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        # Its text would show the whole URL, the password included.
        raise NetworkSetupError('the database is not given by an SQLAlchemy URL') from None
    if parsed.get_backend_name() == 'sqlite' and parsed.database:
        # The name of a file, in a locale that may know fewer characters.
        parsed = parsed.set(database=to_system(parsed.database))
    return parsed


@contextmanager
def _named(url: URL) -> Iterator[None]:
    """Name a database, without its password, in what goes wrong with it."""
    shown = url.set(database=printable(url.database or '')).render_as_string(hide_password=True)
    try:
        yield
    except NetworkSetupError as error:
        raise type(error)(f'{shown}: {error}') from None
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise NetworkSetupError(f'{shown}: cannot be used: {reason_of(error)}') from error


def _open(url: URL, connections: int = CONNECTIONS) -> Engine:
    """Return the engine for a URL."""
    # Errors are logged; what was to be written must not be. No connection is tried before it is
    # used: that takes as long as a statement, and a transaction is done again where one was lost.
    if url.get_backend_name() != 'sqlite':
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_size=connections,
            max_overflow=4,
            connect_args=tcp_limits(url),
        )
        if url.get_backend_name() == 'postgresql':
            event.listen(engine, 'connect', _set_postgresql)
            event.listen(engine, 'handle_error', _leave_read_only)
        return engine
    options: dict[str, Any] = {'hide_parameters': True}
    if url.database in (None, '', ':memory:'):
        options['poolclass'] = StaticPool
    elif not url.database.startswith('file:'):
        # The database has the users' data.
        os.close(os.open(url.database, os.O_RDWR | os.O_CREAT, 0o600))
    engine = create_engine(url, **options)
    event.listen(engine, 'connect', _tune_sqlite)
    return engine


def reason_of(error: BaseException) -> str:
    """Return what a driver says of an error, in one line.

    Without what SQLAlchemy adds: the name of the driver's class, the statement, an address.
    """
    return str(getattr(error, 'orig', None) or error).strip().partition('\n')[0]


def is_away(error: BaseException) -> bool:
    """Return whether a database that is asked over a network cannot be asked, or has no time."""
    if isinstance(error, DBAPIError) and _state_of(error) == _READ_ONLY:
        return True
    return isinstance(error, (OperationalError, SATimeoutError)) and not isinstance(
        getattr(error, 'orig', None), sqlite3.Error
    )


def _is_broken_off(error: DBAPIError) -> bool:
    """Return whether the database has ended a transaction that may succeed the next time."""
    return error.connection_invalidated or _state_of(error) in _BROKEN_OFF


def _state_of(error: BaseException) -> str | None:
    """Return the SQL state that a server answered with; None if it did not answer."""
    cause = getattr(error, 'orig', None)
    return getattr(cause, 'sqlstate', None) or getattr(cause, 'pgcode', None)


def _sync_of(url: URL) -> GroupSync | None:
    """Return what forces a database to the disk, if that is ours to do."""
    path = _file_of(url)
    if path is None:
        return None
    # The file itself may be new.
    sync_folder(path.parent)
    return GroupSync(path)


def sqlite_file(url: str) -> Path | None:
    """Return the file of a database of SQLite; None for any other.

    Raises:
        NetworkSetupError: If it is no URL of a database.
    """
    return _file_of(_parsed(url))


def _file_of(url: URL) -> Path | None:
    path = url.database or ''
    if url.get_backend_name() != 'sqlite' or path in ('', ':memory:') or path.startswith('file:'):
        return None
    return Path(path).absolute()


def _set_postgresql(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for setting in _SETTINGS:
        cursor.execute(setting)
    cursor.close()
    connection.commit()


def _leave_read_only(context: ExceptionContext) -> None:
    """Connect anew after a failover: the server of this connection takes nothing any more."""
    if getattr(context.original_exception, 'sqlstate', None) == _READ_ONLY:
        context.is_disconnect = True


def _tune_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for setting in (
        # Readers do not block the writer, so the event loop and the reading thread work side by
        # side.
        'journal_mode=WAL',
        'synchronous=NORMAL',
        'foreign_keys=ON',
        'busy_timeout=5000',
        # By default, a commit would copy 4 MiB, while the event loop waits for the disk.
        f'wal_autocheckpoint={_LONGEST_LOG}',
    ):
        cursor.execute(f'PRAGMA {setting}')
    cursor.close()
