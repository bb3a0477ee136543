"""What the bridge remembers: its tables, and short transactions on them.

Handlers open a transaction, work, and leave it before they wait for anything; the database is
called directly on the event loop, which is faster than handing each statement to a thread. So no
statement there reads a table that can be large but by an index, and what concerns many rows is done
some at a time (:meth:`Database.delete_some`), or apart (:meth:`Database.apart`). Times
are milliseconds since 1970, secrets that a client sends back (links, bridge tokens) are kept as
their SHA-256 only.

::

    User --< Key, Nonce, Volume
      |--< Bucket --< Entry (file) --- Frame --< Pointer . . shard hash
      |       `--< Token                                         .
      `--< Frame                              Contact --< Contract --< Challenge
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Inspector,
    String,
    Table,
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
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import StaticPool
from sqlalchemy.schema import CreateColumn

from storj.atomic_file import sync_folder
from storj.exception import NetworkSetupError
from storj.network.node.group_sync import GroupSync

__all__ = (
    'UPLOAD_LIFE',
    'Bucket',
    'Challenge',
    'Contact',
    'Contract',
    'Database',
    'Entry',
    'FarmerToken',
    'Frame',
    'Key',
    'Nonce',
    'Pointer',
    'Token',
    'User',
    'Volume',
    'WorkChallenge',
    'fingerprint',
)

#: Seconds of the bridge's running after which an upload counts as given up.
UPLOAD_LIFE = 90 * 24 * 3600


_T = TypeVar('_T')

#: Tables of earlier versions that nothing reads any more.
_FORMER_TABLES = ('reports',)
# Rows that are deleted in one go: a few milliseconds' work.
_SOME = 500


def fingerprint(secret: str) -> str:
    """Return what is kept of a random secret: its SHA-256, 64 hex digits."""
    return hashlib.sha256(secret.encode('utf-8', 'surrogatepass')).hexdigest()


class _Base(DeclarativeBase):
    type_annotation_map = {int: BigInteger()}


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
    verified: Mapped[int] = mapped_column(server_default=text('0'))
    next_audit: Mapped[int]
    next_renewal: Mapped[int] = mapped_column(server_default=text('0'))

    __table_args__ = (
        Index('contracts_by_audit', 'node_id', 'next_audit'),
        Index('contracts_by_renewal', 'node_id', 'next_renewal'),
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


class _Schema(_Base):
    """Tells by which tables a database was made."""

    __tablename__ = 'bridge_schema'

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)


#: Changes with every table and column. A new column needs a default that the server knows, so that
#: the tables of earlier versions can have it.
_FINGERPRINT = fingerprint(
    ' '.join(
        sorted(
            f'{table.name}.{column.name}'
            for table in _Base.metadata.tables.values()
            for column in table.columns
        )
    )
)


class Database:
    """The tables behind one URL.

    Args:
        url (str): any SQLAlchemy URL. A file of SQLite is made readable by its owner only and
            runs in WAL mode with ``synchronous=NORMAL``: after a commit alone, a crash of the
            machine may lose the last moments, never the consistency.
        durable (bool): whether :meth:`synced` waits for the disk.

    Raises:
        NetworkSetupError: If it cannot be opened, or a later version of this program made it. The
            tables of an earlier one are brought up to date.
    """

    def __init__(self, url: str, *, durable: bool = True) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError:
            # Its text would show the whole URL, the password included.
            raise NetworkSetupError('the database is not given by an SQLAlchemy URL') from None
        shown = parsed.render_as_string(hide_password=True)
        self._reader = ThreadPoolExecutor(1, 'storj-database')
        try:
            self._engine = _open(parsed)
            self._sync = _sync_of(parsed) if durable else None
            self._sessions = sessionmaker(self._engine, expire_on_commit=False)
            try:
                known = self._adopt_tables()
            except SQLAlchemyError:
                self.close()
                raise
        except (SQLAlchemyError, ImportError, OSError) as error:
            raise NetworkSetupError(f'{shown}: cannot be used: {error}') from error
        if not known:
            self.close()
            raise NetworkSetupError(
                f'{shown}: made by another version of this program; start with a new one'
            )

    def _adopt_tables(self) -> bool:
        """Make the tables, or convert existing ones; return whether they are ours."""
        with self._engine.begin() as connection:
            if not inspect(connection).has_table(_Schema.__tablename__):
                _Base.metadata.create_all(connection)
                connection.execute(insert(_Schema).values(fingerprint=_FINGERPRINT))
            elif connection.scalar(select(_Schema.fingerprint)) != _FINGERPRINT:
                if not _add_what_is_new(connection):
                    return False
                connection.execute(update(_Schema).values(fingerprint=_FINGERPRINT))
        return True

    async def synced(self) -> None:
        """Return when all that was committed so far would survive a power failure.

        A confirmation waits for it; other databases than SQLite do it in their commits.

        Raises:
            OSError: If the disk refuses.
        """
        if self._sync is not None:
            await self._sync.wait()

    def begin(self) -> AbstractContextManager[Session]:
        """Return a transaction: committed at the end of the block, rolled back by an error.

        Nothing may be awaited inside the block.
        """
        return self._sessions.begin()

    def begin_plain(self) -> AbstractContextManager[Connection]:
        """Return a transaction without objects, for the work of every shard and request.

        Statements that are built once, with bound parameters, cost a fifth of loading an object
        and changing it. For the rest, it is as :meth:`begin`; one cannot be had inside the other.
        """
        return self._engine.begin()

    def delete_some(self, table: type[_Base], *conditions: ColumnElement[bool]) -> bool:
        """Delete some of the rows that conditions hold for; return whether there may be more.

        Args:
            table (type): of the rows.
            conditions (ColumnElement[bool]): all of them hold.
        """
        key = inspect(table).primary_key
        this = [column == bindparam(f'key_{column.name}') for column in key]
        with self.begin_plain() as connection:
            rows = connection.execute(select(*key).where(*conditions).limit(_SOME)).all()
            if rows:
                names = [f'key_{column.name}' for column in key]
                values = [dict(zip(names, row, strict=True)) for row in rows]
                # Another connection may have changed some of them meanwhile.
                connection.execute(delete(table).where(*this, *conditions), values)
        return len(rows) == _SOME

    async def apart(self, work: Callable[[], _T]) -> _T:
        """Run long reads in a thread, one after the other, so that the event loop is not blocked.

        Args:
            work (Callable[[], T]): opens a transaction of its own, and changes nothing.

        Returns:
            T: what it returns.
        """
        if isinstance(self._engine.pool, StaticPool):
            # A database in memory has one connection, which is the event loop's.
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    def probe(self) -> None:
        """Write something, to find out whether that is possible.

        Raises:
            SQLAlchemyError: If the database refuses.
            OSError: If the disk has refused something that it had been told to keep.
        """
        if self._sync is not None and self._sync.failure is not None:
            raise self._sync.failure
        with self.begin_plain() as connection:
            connection.execute(update(_Schema).values(fingerprint=_FINGERPRINT))

    def close(self) -> None:
        """Close all connections."""
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._engine.dispose()


def _open(url: URL) -> Engine:
    """Return the engine for a URL."""
    # Errors are logged; what was to be written must not be.
    if url.get_backend_name() != 'sqlite':
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    options: dict[str, Any] = {'hide_parameters': True}
    if url.database in (None, '', ':memory:'):
        options['poolclass'] = StaticPool
    elif not url.database.startswith('file:'):
        # The database has the users' data.
        os.close(os.open(url.database, os.O_RDWR | os.O_CREAT, 0o600))
    engine = create_engine(url, **options)
    event.listen(engine, 'connect', _tune_sqlite)
    return engine


def _sync_of(url: URL) -> GroupSync | None:
    """Return what forces a database to the disk, if that is ours to do."""
    path = url.database or ''
    if url.get_backend_name() != 'sqlite' or path in ('', ':memory:') or path.startswith('file:'):
        return None
    # The file itself may be new.
    sync_folder(Path(path).absolute().parent)
    return GroupSync(Path(path).absolute())


def _add_what_is_new(connection: Connection) -> bool:
    """Bring tables of an earlier version up; return whether they were such.

    They are if they have no unknown column, and every missing column has a default.
    What was cut off is done by the next start.
    """
    found = inspect(connection)
    missing: list[Column[Any]] = []
    tables = [table for table in _Base.metadata.sorted_tables if found.has_table(table.name)]
    for table in tables:
        names = {column['name'] for column in found.get_columns(table.name)}
        if not names <= set(table.columns.keys()):
            return False
        missing += (column for column in table.columns if column.name not in names)
    if any(column.server_default is None for column in missing):
        return False
    for column in missing:
        addition = CreateColumn(column).compile(dialect=connection.dialect)
        connection.execute(text(f'ALTER TABLE {column.table.name} ADD COLUMN {addition}'))
    _Base.metadata.create_all(connection)
    for table in tables:
        _adopt_indexes(connection, found, table)
    for name in _FORMER_TABLES:
        connection.execute(text(f'DROP TABLE IF EXISTS {name}'))
    return True


def _adopt_indexes(connection: Connection, found: Inspector, table: Table) -> None:
    """Make the indexes of a table that are new, and drop those that would mislead a planner."""
    for index in table.indexes:
        index.create(connection, checkfirst=True)
    known = {index.name for index in table.indexes}
    for former in found.get_indexes(table.name):
        if former['name'] not in known and 'duplicates_constraint' not in former:
            connection.execute(text(f'DROP INDEX {former["name"]}'))


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
