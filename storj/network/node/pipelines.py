"""Sends the statements of a transaction to a distant PostgreSQL without waiting for each answer.

Beginning, committing, and every statement whose result nobody reads go out together with the next
one that is waited for: each wait takes a round trip. It costs some processor time, so that a
database that answers at once is asked statement by statement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Farmers with an index of their own need no SQLAlchemy.
    from sqlalchemy import Connection, Engine

# What statements, and connections, are marked with.
_UNREAD, _PIPELINE = 'storj_unread', 'storj_pipeline'
_FIRST, _LAST = 'storj_first', 'storj_last'
#: Execution options of a statement whose result nobody reads. Its error may come with a later
#: statement of the transaction, at its end at the latest.
UNREAD = {_UNREAD: True}
# Seconds of a round trip from which on a database is distant, and of how many the shortest counts.
_DISTANT, _TRIES = 0.0005, 10


def pipelined(engine: Engine) -> Callable[[], AbstractContextManager[Connection]]:
    """Return what begins a transaction as ``engine.begin`` does, in a pipeline if that pays.

    Args:
        engine (Engine): of a server. Pipelines need PostgreSQL, psycopg 3 and libpq 14.

    Raises:
        SQLAlchemyError: If it cannot be asked.
    """
    if engine.dialect.driver != 'psycopg':
        return engine.begin
    import psycopg

    if not psycopg.Pipeline.is_supported() or round_trip(engine) < _DISTANT:
        return engine.begin
    return pipelines(engine)


def pipelines(engine: Engine) -> Callable[[], AbstractContextManager[Connection]]:
    """Return what begins a transaction in a pipeline, however near the database is."""
    from sqlalchemy import event

    event.listen(engine, 'do_execute', _execute)
    event.listen(engine, 'do_executemany', _execute_many)
    # The driver would wait for the answer to a BEGIN of its own.
    plain = engine.execution_options(isolation_level='AUTOCOMMIT')

    @contextmanager
    def begin() -> Iterator[Connection]:
        with plain.begin() as connection, ExitStack() as stack:
            driver: Any = connection.connection.driver_connection

            def start() -> None:
                pipeline = stack.enter_context(driver.pipeline())
                connection.execution_options(**{_PIPELINE: pipeline})

            # Inside of statements, so that their errors are those of statements.
            connection.exec_driver_sql('BEGIN', execution_options={_FIRST: start, **UNREAD})
            yield connection
            connection.exec_driver_sql('COMMIT', execution_options={_LAST: stack.close})

    return begin


def round_trip(engine: Engine) -> float:
    """Return the seconds until a database answers."""
    times = []
    with engine.connect() as connection:
        for _ in range(_TRIES):
            began = time.perf_counter()
            connection.exec_driver_sql('SELECT 1')
            times.append(time.perf_counter() - began)
    return min(times)


def _execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Send a statement if it belongs to a pipeline; return whether it does."""
    return _sent(cursor.execute, statement, parameters, context.execution_options)


def _execute_many(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Send a statement for many rows, as :func:`_execute`."""
    return _sent(cursor.executemany, statement, parameters, context.execution_options)


def _sent(
    send: Callable[[str, Any], object], statement: str, parameters: Any, options: Any
) -> bool:
    if _FIRST in options:
        options[_FIRST]()
    elif _PIPELINE not in options:
        return False
    send(statement, parameters)
    if _LAST in options:
        # Waits for the answers, too.
        options[_LAST]()
    elif _UNREAD not in options:
        options[_PIPELINE].sync()
    return True
