"""Ends the wait for a database that keeps its connections and answers nothing.

The processes of a server may be stopped as a whole: its machine is frozen, or its disk hangs. It
enforces no limit of time then, and its kernel goes on acknowledging what is sent, so that TCP finds
no fault either. Drivers wait for such an answer without a limit. The connection is broken off
beneath them, which they report as the loss of it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Farmers with an index of their own need no SQLAlchemy.
    from sqlalchemy import URL, Engine

logger = logging.getLogger(__name__)

# Seconds between two looks.
_PACE = 0.5
# A server whose machine has gone closes no connection: by these, in seconds but for the last, libpq
# notices within half a minute, not after a quarter of an hour.
_TCP_LIMITS = {
    'connect_timeout': 5,
    'keepalives_idle': 10,
    'keepalives_interval': 5,
    'keepalives_count': 3,
    'tcp_user_timeout': 25_000,
}


def tcp_limits(url: URL) -> dict[str, int]:
    """Return the arguments of a driver by which it notices that a server's machine has gone.

    Args:
        url (URL): of the database; what it says itself is not among them.
    """
    if url.get_driver_name() not in ('psycopg', 'psycopg2'):
        return {}
    return {name: value for name, value in _TCP_LIMITS.items() if name not in url.query}


class Watchdog:
    """Breaks off connections to a database that are in use for longer than they may be.

    It has a thread of its own: those that wait are blocked, an event loop among them.
    """

    def __init__(self) -> None:
        self._guarded: dict[int, tuple[float, Any]] = {}
        # Held while one is broken off: meanwhile it goes to nobody else.
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name='storj-watchdog', daemon=True)
        self._thread.start()

    def guard(self, key: int, connection: Any, deadline: float) -> None:
        """Begin to watch a connection.

        Args:
            key (int): of the connection, for :meth:`release`.
            connection (Any): of a driver, with ``fileno()``; others are never broken off.
            deadline (float): monotonic seconds.
        """
        with self._lock:
            self._guarded[key] = deadline, connection

    def release(self, key: int) -> None:
        """Watch a connection no more; nothing happens if it is not watched."""
        with self._lock:
            self._guarded.pop(key, None)

    def follow(self, engine: Engine, deadline: Callable[[], float]) -> None:
        """Watch every connection of an engine while it is in use.

        Args:
            engine (Engine): of the database.
            deadline (Callable[[], float]): monotonic seconds, for one that is taken now.
        """
        from sqlalchemy import event

        def taken(connection: Any, record: object, _: object) -> None:
            self.guard(id(record), connection, deadline())

        def returned(_: object, record: object) -> None:
            self.release(id(record))

        event.listen(engine, 'checkout', taken)
        event.listen(engine, 'checkin', returned)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(_PACE):
            now = time.monotonic()
            with self._lock:
                late = [key for key, (deadline, _) in self._guarded.items() if deadline <= now]
                for key in late:
                    _break_off(self._guarded.pop(key)[1])


def _break_off(connection: Any) -> None:
    try:
        # Not closed: the descriptor is the driver's.
        with socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as same:
            same.shutdown(socket.SHUT_RDWR)
    except Exception as error:
        # Each driver has its own error for one that is closed by now.
        logger.debug('a connection to the database cannot be broken off: %s', error)
    else:
        logger.warning('the database does not answer: a connection to it is broken off')
