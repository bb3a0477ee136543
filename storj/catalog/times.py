"""Modification times of files, which the network does not hold, as this machine remembers them.

A small database maps the frame of each upload to the time of the file that was uploaded. A frame is
of one upload, so a file that another machine replaces is never dated by it. What is lost with the
database are these times alone: comparisons then take the time of the upload.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3

__all__ = ('Times',)

_log = logging.getLogger(__name__)

_SCHEMA = 'CREATE TABLE IF NOT EXISTS uploads (frame TEXT PRIMARY KEY, modified REAL NOT NULL)'
#: The newest uploads are kept: about 100 MB.
LIMIT = 1_000_000


class Times:
    """The times of what was uploaded from this machine; safe to share between threads.

    A database that cannot be used is reported once and then left alone: no file is refused for it.

    Args:
        path (Path): of the database; made when the first time is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._failed = False

    def get(self, frame: str) -> float | None:
        """Return the time of the file that was uploaded as a frame, None if it is not known.

        Args:
            frame (str): 24 hex digits.

        Returns:
            float | None: seconds since 1970.
        """
        found = self._run('SELECT modified FROM uploads WHERE frame = ?', (frame,), make=False)
        return found[0][0] if found and isinstance(found[0][0], float) else None

    def of_each(self, frames: Sequence[str]) -> dict[str, float]:
        """Return the times of the files that were uploaded as frames, as far as they are known."""
        query = 'SELECT * FROM uploads WHERE frame IN (SELECT value FROM json_each(?))'
        found = self._run(query, (json.dumps(frames),), make=False)
        return {frame: time for frame, time in found if isinstance(time, float)}

    def keep(self, frame: str, modified: float) -> None:
        """Remember the time of a file that was uploaded.

        Args:
            frame (str): 24 hex digits.
            modified (float): seconds since 1970.
        """
        self._run('INSERT OR REPLACE INTO uploads VALUES (?, ?)', (frame, modified), make=True)

    def close(self) -> None:
        """Forget the oldest times beyond :data:`LIMIT`, and close the database."""
        if self._database is not None:
            # Rows are numbered as they are kept.
            oldest = 'DELETE FROM uploads WHERE rowid <= (SELECT max(rowid) FROM uploads) - ?'
            self._run(oldest, (LIMIT,), make=False)
            with self._lock, contextlib.closing(self._database):
                self._database = None

    def _run(self, statement: str, values: tuple[Any, ...], *, make: bool) -> list[Any]:
        """Run one statement; without ``make``, a database that does not exist is empty."""
        import sqlite3  # few commands need it

        with self._lock:
            try:
                if self._failed or not (make or self._database or self._path.exists()):
                    return []
                if self._database is None:
                    self._database = self._open()
                with self._database:
                    return self._database.execute(statement, values).fetchall()
            except (sqlite3.Error, OSError) as error:
                self._failed = True
                _log.warning('times of files are not remembered: %s: %s', self._path, error)
                return []

    def _open(self) -> sqlite3.Connection:
        import sqlite3

        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        database = sqlite3.connect(self._path, timeout=10, check_same_thread=False)
        # One write for each upload must not wait for the disk; a log of writes survives a crash.
        database.execute('PRAGMA journal_mode = WAL')
        database.execute('PRAGMA synchronous = NORMAL')
        database.execute(_SCHEMA)
        return database
