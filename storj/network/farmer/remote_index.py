"""The index of a farmer in PostgreSQL, so that the host of the farmer may be lost.

Each farmer has a schema of its own in the database, named by its node id, and holds an advisory
lock as long as it runs: two processes with one key would both think that they know what is stored.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storj.exception import NetworkSetupError
from storj.network.farmer.index import SCHEMA, FarmerIndex
from storj.network.farmer.store import NoSpaceLeftError, StoreError
from storj.network.node.identity import is_node_id
from storj.network.node.watchdog import Watchdog
from storj.text import masked

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger(__name__)

#: Seconds until a database that does not answer is given up. Statements run on the event loop, so
#: a farmer answers nobody meanwhile.
LIMIT = 5
# A server that keeps this limit itself does so first.
_BROKEN_OFF = LIMIT + 1
# Seconds after which a try to connect that fails has kept the loop from others, and how much longer
# the pause after it is.
_SLOW, _PAUSE = 1, 2
# The lock of a host that vanished is released after half a minute.
_OPTIONS = (
    f'statement_timeout={LIMIT * 1000}',
    'tcp_keepalives_idle=15',
    'tcp_keepalives_interval=5',
    'tcp_keepalives_count=3',
)
# What a database of SQLite says otherwise.
_DIALECT = (
    (' WITHOUT ROWID', ''),
    ('INTEGER', 'BIGINT'),
    ('REAL', 'DOUBLE PRECISION'),
)
_AWAY = 'The index is out of order: the database does not answer'
# The note that the shards are known, which is a number of the file in SQLite.
_KNOWS = 'knows_shards'


def shown(url: str) -> str:
    """Return the URL of a database without what may be a password."""
    return masked(url).partition('?')[0]


class RemoteIndex(FarmerIndex):
    """The index of one farmer in PostgreSQL; used from one thread.

    What was committed survives a power failure, so :meth:`synced` waits for nothing.

    Args:
        url (str): ``postgresql://USER:PASSWORD@HOST:PORT/NAME``; what is missing comes from the
            variables of libpq, or from its file of passwords.
        node_id (str): of the farmer.

    Raises:
        NetworkSetupError: If psycopg is not installed, the database cannot be used, or a farmer
            with this key runs already.
    """

    def __init__(self, url: str, node_id: str) -> None:
        if importlib.util.find_spec('psycopg') is None:
            raise NetworkSetupError("PostgreSQL needs its driver: pip install 'psycopg[binary]'")
        import psycopg

        if not is_node_id(node_id):
            raise ValueError('a node id has 40 hex characters')
        self._psycopg = psycopg
        # As SQLAlchemy names it, for those who give the URL of their bridge.
        self._url = url.replace('postgresql+psycopg://', 'postgresql://', 1)
        self._node_id = node_id
        self._start_counting()
        self._watchdog = Watchdog()
        self._not_before = 0.0
        self._connection: psycopg.Connection[tuple[object, ...]]
        try:
            self._connect()
            schema = SCHEMA
            for word, other in _DIALECT:
                schema = schema.replace(word, other)
            self._connection.execute(schema)
        except (psycopg.Error, StoreError) as error:
            self._watchdog.close()
            raise NetworkSetupError(f'{shown(url)}: cannot be used: {_first(error)}') from error

    def _connect(self) -> None:
        """Connect and take the lock.

        Raises:
            psycopg.Error: If the database does not answer.
            StoreError: If another process has the lock, or the last try has failed just now.
        """
        began = time.monotonic()
        if began < self._not_before:
            raise StoreError(_AWAY)
        try:
            self._connection = self._connected()
        except BaseException:
            ended = time.monotonic()
            if ended - began >= _SLOW:
                self._not_before = ended + _PAUSE * (ended - began)
            raise

    def _connected(self) -> psycopg.Connection[tuple[object, ...]]:
        name = f'farmer_{self._node_id}'
        connection = self._psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=LIMIT,
            tcp_user_timeout=LIMIT * 1000,
            options=' '.join(f'-c {option}' for option in (*_OPTIONS, f'search_path={name}')),
            application_name='storj farm',
        )
        try:
            # 64 bits of the node id; the lock ends with the connection.
            key = int(self._node_id[:16], 16) - 2**63
            with self._limited(connection):
                row = connection.execute('SELECT pg_try_advisory_lock(%s)', (key,)).fetchone()
                if row is None or not row[0]:
                    raise StoreError('another farmer with this key runs')
                connection.execute(f'CREATE SCHEMA IF NOT EXISTS {name}')
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _limited(self, connection: psycopg.Connection[tuple[object, ...]]) -> Iterator[None]:
        """Break a connection off within the block, if its server is stopped as a whole."""
        self._watchdog.guard(id(connection), connection, time.monotonic() + _BROKEN_OFF)
        try:
            yield
        finally:
            self._watchdog.release(id(connection))

    def close(self) -> None:
        """Write down what was counted, and release the lock."""
        self.save_counters()
        self._connection.close()
        self._watchdog.close()

    def copy_to(self, target: Path) -> None:
        """Refuse: a database is backed up by its own programs.

        Raises:
            StoreError: If called.
        """
        raise StoreError('The index is in PostgreSQL: back it up by pg_dump')

    def _run(self, statement: str, values: Sequence[object] = ()) -> Any:
        words = statement.replace('?', '%s')
        try:
            if self._connection.closed:
                self._connect()
            try:
                with self._limited(self._connection):
                    return self._connection.execute(words, values)
            except self._psycopg.OperationalError:
                if not self._connection.closed or self._transacting:
                    raise
                # The database was started again; nothing of this statement has happened, or it
                # may happen twice.
                self._connect()
                with self._limited(self._connection):
                    return self._connection.execute(words, values)
        except self._psycopg.Error as error:
            raise _out_of_order(error) from error

    def _rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        cursor = self._run(statement, values)
        try:
            rows: list[tuple[object, ...]] = cursor.fetchall()
        except self._psycopg.Error as error:
            raise _out_of_order(error) from error
        return rows

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run('BEGIN')
        self._transacting = True
        try:
            yield
            self._run('COMMIT')
        except BaseException:
            if not self._connection.closed:
                # What fails here closes the connection, which has the same effect.
                with suppress(self._psycopg.Error), self._limited(self._connection):
                    self._connection.rollback()
            raise
        finally:
            self._transacting = False

    _transacting = False

    def _knows_shards(self) -> bool:
        return self.note(_KNOWS) is not None

    def _know_shards(self) -> None:
        self.set_note(_KNOWS, '1')


def _first(error: Exception) -> str:
    """Return the first line of what a driver says; it never has the password."""
    return str(error).strip().partition('\n')[0]


def _out_of_order(error: Exception) -> StoreError:
    if getattr(error, 'sqlstate', None) in ('53100', '53000'):
        return NoSpaceLeftError('No space left for the index')
    logger.warning('the index is out of order: %s', _first(error))
    return StoreError(_AWAY)
