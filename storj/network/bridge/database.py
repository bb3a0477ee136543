"""The database of the bridge: its tables, and short transactions on them.

A transaction is a function that is given one, and waits for nothing else (:meth:`Database.run`).
SQLite does its work on the event loop, which is faster than handing it to a thread; a server that
is asked over a network is waited for in threads. No statement reads a table that can be large but
by an index; what concerns many rows is done some at a time (:meth:`Database.delete_all`), or apart
(:meth:`Database.apart`). Times are milliseconds since 1970, secrets that a client sends back
(links, bridge tokens) are kept as their SHA-256 only.

::

    User --< Key, Nonce, Volume
      |--< Bucket --< Entry (file) --- Frame --< Pointer . . shard hash
      |       `--< Token                                         .
      `--< Frame                              Contact --< Contract --< Challenge
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    Engine,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    bindparam,
    create_engine,
    delete,
    event,
    false,
    insert,
    inspect,
    make_url,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as SATimeoutError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import QueuePool, StaticPool

from storj.exception import NetworkSetupError
from storj.network.node.group_sync import GroupSync
from storj.system.atomic_file import sync_folder
from storj.text import printable, to_system

__all__ = (
    'CONNECTIONS',
    'REVISION',
    'UPLOAD_LIFE',
    'Bucket',
    'Challenge',
    'Contact',
    'Contract',
    'Counter',
    'Database',
    'Entry',
    'FarmerToken',
    'Frame',
    'Key',
    'Lease',
    'Measure',
    'MetaDiskBalance',
    'MetaDiskCode',
    'MetaDiskFile',
    'MetaDiskMovement',
    'MetaDiskTraffic',
    'MetaDiskUsage',
    'Nonce',
    'OldSchemaError',
    'Pointer',
    'Repair',
    'Secret',
    'Token',
    'User',
    'Volume',
    'WorkChallenge',
    'fingerprint',
    'is_away',
    'migrate',
    'sqlite_file',
    'upgrade',
)

#: Seconds of the bridge's running after which an upload counts as given up.
UPLOAD_LIFE = 90 * 24 * 3600


logger = logging.getLogger(__name__)

_T = TypeVar('_T')
_Transaction = TypeVar('_Transaction')

#: Revision of the tables below: the number of the last module in ``migrations.versions``.
REVISION = '10'
#: Table of databases that no revision of Alembic made.
_BEFORE_ALEMBIC = 'bridge_schema'
# Rows that are deleted in one go: a few milliseconds' work.
_SOME = 200
#: Transactions side by side, where a server does them.
CONNECTIONS = 16
# A statement that takes longer, or waits longer for another transaction, is given up by PostgreSQL:
# the client is told to ask again. Long reads are of the status and of repairs.
_LIMITS = (
    "SET statement_timeout = '120s'",
    "SET lock_timeout = '10s'",
    "SET idle_in_transaction_session_timeout = '60s'",
)
# A server whose machine has gone closes no connection: by these, in seconds but for the last, libpq
# notices within half a minute, not after a quarter of an hour. A URL may have others.
_WATCHED = {
    'connect_timeout': 5,
    'keepalives_idle': 10,
    'keepalives_interval': 5,
    'keepalives_count': 3,
    'tcp_user_timeout': 25_000,
}
_ALONE = (
    'SET LOCAL statement_timeout = 0',
    'SET LOCAL lock_timeout = 0',
    # Any number that every bridge has; nothing else of the database uses such locks.
    'SELECT pg_advisory_xact_lock(7382)',
)
# Seconds before a transaction is done again that the database has broken off.
_PAUSES = (0.0, 0.02, 0.1)
# SQL states: serialization_failure, deadlock_detected.
_BROKEN_OFF = frozenset({'40001', '40P01'})


def fingerprint(secret: str) -> str:
    """Return what is kept of a random secret: its SHA-256, 64 hex digits."""
    return hashlib.sha256(secret.encode('utf-8', 'surrogatepass')).hexdigest()


class _Base(DeclarativeBase):
    # SQLAlchemy 2.1 makes a DOUBLE of a float, 2.0 a FLOAT: named here, so that the tables are
    # the same with both.
    type_annotation_map = {int: BigInteger(), float: Double()}


def _partial(name: str, condition: str, *columns: str) -> Index:
    """Return an index of the rows that a condition holds for; statements must have it literally."""
    return Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


class User(_Base):
    """An account."""

    __tablename__ = 'users'

    email: Mapped[str] = mapped_column(String(320), primary_key=True)
    password: Mapped[str] = mapped_column(String(200))
    # What a reset before bridge 7.5 asks for; counts when the confirmation repeats it.
    pending_password: Mapped[str | None] = mapped_column(String(200))
    created: Mapped[int]
    activated: Mapped[bool]
    # Registered by itself; quotas do not apply to accounts of the bridge's operator.
    free_tier: Mapped[bool] = mapped_column(default=True, server_default=true())
    uuid: Mapped[str] = mapped_column(String(36))
    referral_partner: Mapped[str | None] = mapped_column(String(255))
    activator: Mapped[str | None] = mapped_column(String(64), index=True)
    deactivator: Mapped[str | None] = mapped_column(String(64), index=True)
    resetter: Mapped[str | None] = mapped_column(String(64), index=True)


class Volume(_Base):
    """Bytes that an account has uploaded or downloaded since the beginning of a period."""

    __tablename__ = 'volumes'

    user: Mapped[str] = mapped_column(ForeignKey('users.email'), primary_key=True)
    direction: Mapped[str] = mapped_column(String(8), primary_key=True)
    window: Mapped[int] = mapped_column(primary_key=True)
    begun: Mapped[int]
    bytes: Mapped[int]


class Key(_Base):
    """A public key of a user; looked up as text, in the case as registered (section 2.2)."""

    __tablename__ = 'keys'

    key: Mapped[str] = mapped_column(String(130), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey('users.email'), index=True)
    # Clients name their keys, from bridge 0.7 on (section 3.3).
    label: Mapped[str] = mapped_column(Text)
    created: Mapped[int]


class Nonce(_Base):
    """A nonce that a key has signed for a user; kept as long as the account."""

    __tablename__ = 'nonces'

    user: Mapped[str] = mapped_column(ForeignKey('users.email'), primary_key=True)
    nonce: Mapped[str] = mapped_column(String(64), primary_key=True)
    created: Mapped[int] = mapped_column(index=True)


class Bucket(_Base):
    """A container of files."""

    __tablename__ = 'buckets'
    __table_args__ = (
        UniqueConstraint('user', 'name'),
        Index('buckets_by_date', 'user', 'created'),
    )

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey('users.email'))
    name: Mapped[str] = mapped_column(String(260))
    created: Mapped[int]
    public_keys: Mapped[list[str]] = mapped_column(JSON)
    public_permissions: Mapped[list[str]] = mapped_column(JSON)
    # Of a public bucket only, whose owner publishes the bucket key (section 6.5).
    encryption_key: Mapped[str] = mapped_column(Text)


class Token(_Base):
    """A one-time right to a bucket."""

    __tablename__ = 'tokens'

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    bucket: Mapped[str] = mapped_column(ForeignKey('buckets.id'), index=True)
    operation: Mapped[str] = mapped_column(String(4))
    expires: Mapped[int] = mapped_column(index=True)


class Frame(_Base):
    """The shards of a file, while it is uploaded and after."""

    __tablename__ = 'frames'
    __table_args__ = (Index('frames_by_date', 'user', 'created'),)

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey('users.email'))
    created: Mapped[int]
    locked: Mapped[bool] = mapped_column(index=True)
    # Seconds of the bridge's running until an upload counts as given up: by no wall clock, which
    # may be set by years during an upload.
    waits: Mapped[int] = mapped_column(server_default=text(str(UPLOAD_LIFE)))
    size: Mapped[int]
    storage_size: Mapped[int]


class Pointer(_Base):
    """One shard of a frame."""

    __tablename__ = 'pointers'
    __table_args__ = (UniqueConstraint('frame', 'position'),)

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    frame: Mapped[str] = mapped_column(ForeignKey('frames.id'))
    position: Mapped[int]
    shard_hash: Mapped[str] = mapped_column(String(40), index=True)
    size: Mapped[int]
    parity: Mapped[bool]


class Entry(_Base):
    """A file: a frame with a name in a bucket."""

    __tablename__ = 'entries'
    __table_args__ = (Index('entries_by_date', 'bucket', 'created'),)

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    bucket: Mapped[str] = mapped_column(ForeignKey('buckets.id'))
    frame: Mapped[str] = mapped_column(ForeignKey('frames.id'), unique=True)
    name: Mapped[str | None] = mapped_column(Text)
    mimetype: Mapped[str] = mapped_column(String(255))
    created: Mapped[int]
    renewal: Mapped[int]
    hmac_type: Mapped[str | None] = mapped_column(String(9))
    hmac_value: Mapped[str | None] = mapped_column(String(128))
    erasure: Mapped[str | None] = mapped_column(String(11))
    index: Mapped[str | None] = mapped_column(String(64), unique=True)


class Contact(_Base):
    """A farmer's address card, and how it has behaved."""

    __tablename__ = 'contacts'

    node_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    address: Mapped[str] = mapped_column(String(255))
    # Announced from the bridge's own machine, so that the address may mean it.
    local: Mapped[bool] = mapped_column(server_default=false())
    port: Mapped[int]
    protocol: Mapped[str] = mapped_column(String(80))
    user_agent: Mapped[str] = mapped_column(String(64))
    created: Mapped[int] = mapped_column(index=True)
    last_seen: Mapped[int] = mapped_column(index=True)
    space_available: Mapped[bool]
    # Bytes; known of farmers that say so, which is an addition of ours to the protocol.
    space_offered: Mapped[int | None]
    response_time: Mapped[float | None]
    last_timeout: Mapped[int | None]
    timeout_rate: Mapped[float]
    last_contract_sent: Mapped[int | None]
    reputation: Mapped[int]
    # It has not answered for so long that its copies count as lost; how often it came back from
    # that; and whether its copies are still to be put up for audits since.
    lost: Mapped[bool] = mapped_column(server_default=false())
    returns: Mapped[int] = mapped_column(server_default=text('0'))
    unchecked: Mapped[bool] = mapped_column(server_default=false())
    # Milliseconds of bridges' running without an answer, as they will be at the next look for lost
    # farmers: by no wall clock, and the time in which no bridge ran does not count.
    silent: Mapped[int] = mapped_column(server_default=text('0'))
    # When it asked to leave; it asks every second.
    leaving: Mapped[int | None]
    audits_passed: Mapped[int] = mapped_column(server_default=text('0'))
    audits_failed: Mapped[int] = mapped_column(server_default=text('0'))


class Contract(_Base):
    """What one farmer has agreed to keep; all files with this shard share the record.

    ``stored`` is true once a party to the transfer has reported it: the client or the farmer in an
    exchange report, or the farmer when it gave a token for the download. ``verified`` is the
    number of its farmer's returns when the copy was last known to be good (see ``copies``).
    """

    __tablename__ = 'contracts'

    shard_hash: Mapped[str] = mapped_column(String(40), primary_key=True)
    node_id: Mapped[str] = mapped_column(ForeignKey('contacts.node_id'), primary_key=True)
    data_size: Mapped[int]
    store_begin: Mapped[int]
    store_end: Mapped[int]
    # The bottom row of the audit tree, padded (section 5.4).
    tree: Mapped[list[str]] = mapped_column(JSON)
    # The contract as both sides have signed it; RENEW signs it again (section 7.5).
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    # Whether the farmer has the audit leaves; ALLOC of core 7 and 8 does not carry them.
    auditable: Mapped[bool]
    stored: Mapped[bool]
    mirror: Mapped[bool]
    failed: Mapped[bool]
    download_count: Mapped[int]
    # Who asked for it first; nobody for the bridge's own copies.
    account: Mapped[str | None] = mapped_column(String(320))
    verified: Mapped[int] = mapped_column(server_default=text('0'))
    next_audit: Mapped[int]
    next_renewal: Mapped[int] = mapped_column(server_default=text('0'))

    __table_args__ = (
        Index('contracts_by_audit', 'node_id', 'next_audit'),
        Index('contracts_by_renewal', 'node_id', 'next_renewal'),
        # Copies that farmers have not confirmed yet, and contracts that nobody waits for: few.
        _partial('contracts_awaited', 'verified = -1', 'account', 'store_begin', 'data_size'),
        _partial('contracts_given_up', 'next_renewal = 0 AND verified = -1', 'shard_hash'),
    )


class Challenge(_Base):
    """One audit of a contract: open, or with its result."""

    __tablename__ = 'challenges'
    __table_args__ = (
        ForeignKeyConstraint(
            ['shard_hash', 'node_id'],
            ['contracts.shard_hash', 'contracts.node_id'],
            ondelete='CASCADE',
        ),
    )

    shard_hash: Mapped[str] = mapped_column(String(40), primary_key=True)
    node_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    challenge: Mapped[str] = mapped_column(String(64))
    # None until it is sent. A challenge is sent once: its answer could be kept (section 5.2).
    sent: Mapped[int | None]
    passed: Mapped[bool | None]


class FarmerToken(_Base):
    """A token that a farmer gave out; it tells which exchange a report is about."""

    __tablename__ = 'farmer_tokens'

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    shard_hash: Mapped[str] = mapped_column(String(40))
    node_id: Mapped[str] = mapped_column(String(40))
    created: Mapped[int] = mapped_column(index=True)


class WorkChallenge(_Base):
    """A proof of work asked of a farmer that wants to register."""

    __tablename__ = 'work_challenges'

    challenge: Mapped[str] = mapped_column(String(64), primary_key=True)
    target: Mapped[str] = mapped_column(String(64))
    expires: Mapped[int] = mapped_column(index=True)


class Lease(_Base):
    """A round that one bridge does at a time, and until when (see ``leases``)."""

    __tablename__ = 'leases'

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(16))
    until: Mapped[int]


class Counter(_Base):
    """How often something was done until the end of a window (see ``quotas``)."""

    __tablename__ = 'counters'

    #: SHA-256 of what is counted.
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    ends: Mapped[int] = mapped_column(index=True)
    used: Mapped[int]


class Secret(_Base):
    """A secret that all bridges of the database share."""

    __tablename__ = 'secrets'

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Measure(_Base):
    """A number that was counted for all bridges, for metrics."""

    __tablename__ = 'measures'

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[float]


class Repair(_Base):
    """A shard with too few copies, until it has enough (see ``backlog``)."""

    __tablename__ = 'repairs'
    __table_args__ = (Index('repairs_by_urgency', 'copies', 'due'),)

    shard_hash: Mapped[str] = mapped_column(String(40), primary_key=True)
    copies: Mapped[int]
    # When it may be claimed, and milliseconds until the try after that.
    due: Mapped[int]
    pause: Mapped[int]
    # Nobody was willing to make a copy.
    refused: Mapped[bool]
    # The bridge that works on it, and whether a copy was lost meanwhile.
    owner: Mapped[str | None] = mapped_column(String(16))
    again: Mapped[bool]


class MetaDiskBalance(_Base):
    """Bytes that an access token of MetaDisk may still transfer."""

    __tablename__ = 'metadisk_balances'

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    bytes: Mapped[int]


class MetaDiskMovement(_Base):
    """A change of a balance."""

    __tablename__ = 'metadisk_movements'

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, 'sqlite'), primary_key=True)
    # Seconds since 1970.
    time: Mapped[float]
    token: Mapped[str] = mapped_column(String(64), index=True)
    bytes: Mapped[int]
    reason: Mapped[str] = mapped_column(String(64))


class MetaDiskCode(_Base):
    """A promotional code that a token has used."""

    __tablename__ = 'metadisk_redeemed'

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    code: Mapped[str] = mapped_column(String(64), primary_key=True)


class MetaDiskFile(_Base):
    """A file of MetaDisk; the SHA-256 of its ciphertext names it."""

    __tablename__ = 'metadisk_files'

    filehash: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    size: Mapped[int]
    # Seconds since 1970.
    stored: Mapped[int]
    # The entry in the node's bucket; an empty file has none, as the network stores no empty shard.
    entry: Mapped[str | None] = mapped_column(String(24))
    # Of all shards but the last; kept so that a later release may choose another size.
    shard_size: Mapped[int]


class MetaDiskTraffic(_Base):
    """Bytes that MetaDisk moved in a month (``YYYY-MM``, UTC)."""

    __tablename__ = 'metadisk_traffic'

    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    incoming: Mapped[int]
    outgoing: Mapped[int]


class MetaDiskUsage(_Base):
    """The bytes of all files of MetaDisk, in a single row: nobody sums them up."""

    __tablename__ = 'metadisk_usage'

    name: Mapped[str] = mapped_column(String(8), primary_key=True)
    bytes: Mapped[int]


class _Version(_Base):
    """The revision of the schema, where Alembic keeps it."""

    __tablename__ = 'alembic_version'

    version_num: Mapped[str] = mapped_column(String(32), primary_key=True)


class OldSchemaError(NetworkSetupError):
    """The database is empty, or an earlier version of this program made it.

    Run 'storj bridge migrate', or start the bridge with --migrate.
    """

    #: For commands, whose hint would be that of the settings otherwise.
    hint = "'storj bridge migrate' brings the database up, as does --migrate of a bridge"


class Database:
    """The tables behind one URL.

    Args:
        url (str): any SQLAlchemy URL. A file of SQLite is made readable by its owner only and
            runs in WAL mode with ``synchronous=NORMAL``: after a commit alone, a crash of the
            machine may lose the last moments, never the consistency.
        durable (bool): whether :meth:`synced` waits for the disk.
        migrate (bool): whether a server's schema is made or brought up; that of SQLite always is.
        connections (int): to a server, for transactions side by side.

    Raises:
        NetworkSetupError: If it cannot be opened, or :func:`upgrade` refuses it.
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
        with _named(parsed):
            self._engine = _open(parsed, connections)
            self._sync = _sync_of(parsed) if durable else None
            self._sessions = sessionmaker(self._engine, expire_on_commit=False)
            self._reading = self._engine
            if parsed.get_backend_name() != 'sqlite':
                self._workers = ThreadPoolExecutor(connections, 'storj-transactions')
                self._reading = self._engine.execution_options(isolation_level='AUTOCOMMIT')
            try:
                upgrade(self._engine, migrate=migrate or self._workers is None)
                if self._workers is None:
                    # It has one bridge: what that one had when it was killed is free.
                    with self.begin_plain() as connection:
                        connection.execute(delete(Lease))
            except BaseException:
                self.close()
                raise

    def secret(self, name: str, make: Callable[[], str]) -> str:
        """Return a secret that all bridges of the database share; the first one makes it.

        Args:
            name (str): of the secret.
            make (Callable[[], str]): returns a new one.
        """
        known = select(Secret.value).where(Secret.name == name)
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

    def insert(self, table: type[_Base]) -> postgresql.Insert | sqlite.Insert:
        """Return the INSERT of this engine, which may have ``on_conflict_do_update``."""
        if self._engine.dialect.name == 'postgresql':
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
        return await self.aside(partial(self._done, self._engine.begin, work))

    async def run_objects(self, work: Callable[[Session], _T]) -> _T:
        """Do work with objects in a transaction, as :meth:`run` does; they can be read after it."""
        return await self.aside(partial(self._done, self._sessions.begin, work))

    async def read(self, work: Callable[[Connection], _T]) -> _T:
        """Read what one statement finds; it needs no transaction, which a server has to be told."""
        return await self.aside(partial(self._done, self._reading.begin, work))

    async def aside(self, work: Callable[[], _T]) -> _T:
        """Do work with :meth:`begin` and its like; a server is waited for in a thread."""
        if self._workers is None:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._workers, work)

    @staticmethod
    def _done(
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
        return self._engine.begin()

    async def delete_all(self, table: type[_Base], *conditions: ColumnElement[bool]) -> None:
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
            await asyncio.sleep(0)

    async def apart(self, work: Callable[[Session], _T]) -> _T:
        """Do long reads in a thread, so that the event loop is not blocked; they change nothing."""
        done = partial(self._done, self._sessions.begin, work)
        if isinstance(self._engine.pool, StaticPool):
            # A database in memory has one connection, which is the event loop's.
            return done()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers or self._reader, done)

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
            connection.execute(update(_Version).values(version_num=_Version.version_num))
            revision = connection.scalar(select(_Version.version_num))
        if revision != REVISION:
            raise _refusal(revision)

    @property
    def connections(self) -> int:
        """Connections that are in use now."""
        pool = self._engine.pool
        return pool.checkedout() if isinstance(pool, QueuePool) else 0

    def close(self) -> None:
        """Close all connections."""
        self._reader.shutdown(wait=True, cancel_futures=True)
        if self._workers is not None:
            self._workers.shutdown(wait=True, cancel_futures=True)
        self._engine.dispose()


def upgrade(engine: Engine, *, migrate: bool = True) -> str | None:
    """Bring the tables of a database to this version's revision; make them in an empty one.

    Args:
        engine (Engine): of the database.
        migrate (bool): whether anything may be changed.

    Returns:
        str | None: the revision before; None for a database that was empty.

    Raises:
        OldSchemaError: If something would have to be changed, and may not.
        NetworkSetupError: If another version of this program made them, such as a later one.
    """
    with engine.begin() as connection:
        if engine.dialect.name == 'postgresql' and migrate:
            # Bridges that start at the same time do this one after the other.
            for statement in _ALONE:
                connection.execute(text(statement))
        before = _revision(connection)
        if before == REVISION:
            return before
        if not (migrate and _is_earlier(before)):
            raise _refusal(before)
        if before is None:
            # A test proves that this makes what the revisions make.
            _Base.metadata.create_all(connection)
            connection.execute(insert(_Version).values(version_num=REVISION))
            return None
        # Imported here, because that takes longer than the start of a bridge.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option('script_location', 'storj.network.bridge:migrations')
        config.attributes['connection'] = connection
        command.upgrade(config, REVISION)
        return before


def migrate(url: str) -> str | None:
    """Bring a database to this version's revision, as :func:`upgrade` does.

    Raises:
        NetworkSetupError: If it cannot be opened, or :func:`upgrade` refuses it.
    """
    parsed = _parsed(url)
    with _named(parsed):
        engine = _open(parsed)
        try:
            return upgrade(engine)
        finally:
            engine.dispose()


def _revision(connection: Connection) -> str | None:
    """Return the revision of a schema: 0 is from before Alembic, None an empty database."""
    found = inspect(connection)
    if found.has_table(_Version.__tablename__):
        return connection.scalar(select(_Version.version_num)) or '0'
    return '0' if found.has_table(_BEFORE_ALEMBIC) else None


def _is_earlier(revision: str | None) -> bool:
    """Return whether there are revisions that lead from one to that of this version."""
    return revision is None or (revision.isdecimal() and int(revision) < int(REVISION))


def _refusal(revision: str | None) -> NetworkSetupError:
    """Return why a schema of another revision than this version's is not used."""
    if _is_earlier(revision):
        found = 'is missing' if revision is None else f'is of revision {revision}'
        return OldSchemaError(f'its schema {found}, and this version needs revision {REVISION}')
    return NetworkSetupError(
        f'made by a later version of this program: its schema is of revision {revision},'
        f' this version knows those up to {REVISION}'
    )


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
        # Not what SQLAlchemy adds: the name of the driver's class, the statement, an address.
        reason = str(getattr(error, 'orig', None) or error).partition('\n')[0]
        raise NetworkSetupError(f'{shown}: cannot be used: {reason}') from error


def _open(url: URL, connections: int = CONNECTIONS) -> Engine:
    """Return the engine for a URL."""
    # Errors are logged; what was to be written must not be. No connection is tried before it is
    # used: that takes as long as a statement, and a transaction is done again where one was lost.
    if url.get_backend_name() != 'sqlite':
        watched = _WATCHED if url.get_driver_name() in ('psycopg', 'psycopg2') else {}
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_size=connections,
            max_overflow=4,
            connect_args={name: watched[name] for name in watched if name not in url.query},
        )
        if url.get_backend_name() == 'postgresql':
            event.listen(engine, 'connect', _limit_postgresql)
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


def is_away(error: BaseException) -> bool:
    """Return whether a database that is asked over a network cannot be asked, or has no time."""
    return isinstance(error, (OperationalError, SATimeoutError)) and not isinstance(
        getattr(error, 'orig', None), sqlite3.Error
    )


def _is_broken_off(error: DBAPIError) -> bool:
    """Return whether the database has ended a transaction that may succeed the next time."""
    state = getattr(error.orig, 'sqlstate', None) or getattr(error.orig, 'pgcode', None)
    return error.connection_invalidated or state in _BROKEN_OFF


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


def _limit_postgresql(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for setting in _LIMITS:
        cursor.execute(setting)
    cursor.close()
    connection.commit()


def _tune_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for setting in (
        # Readers do not block the writer, so the event loop and the reading thread work side by
        # side.
        'journal_mode=WAL',
        'synchronous=NORMAL',
        'foreign_keys=ON',
        'busy_timeout=5000',
    ):
        cursor.execute(f'PRAGMA {setting}')
    cursor.close()
