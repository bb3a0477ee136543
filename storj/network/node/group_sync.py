"""Commits that survive a power failure, without a wait of the disk for each of them.

SQLite with ``synchronous=NORMAL`` writes a commit to its log and leaves the log to the system; with
``FULL`` it waits for the disk in every commit, on the thread that commits. Here a commit is quick,
and whoever must not answer before it is on the disk waits for :meth:`GroupSync.wait`: one wait for
the disk, in a worker thread, covers all commits that were made before it began.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from pathlib import Path

from storj import atomic_file

__all__ = ('GroupSync',)


class GroupSync:
    """Forces the log of a SQLite database to the disk, for all who wait at the same time.

    Belongs to one event loop. A failure is final: what the system could not write it may have
    thrown away, so that a later success says nothing about it.

    Args:
        database (Path): the file of the database, which is in WAL mode.
        workers (Executor | None): threads that wait for the disk; the loop's own by default.
    """

    def __init__(self, database: Path, workers: Executor | None = None) -> None:
        self._log = database.with_name(f'{database.name}-wal')
        self._workers = workers
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._failure: OSError | None = None

    async def wait(self) -> None:
        """Return when all that was committed before this call is on the disk.

        Raises:
            OSError: If the disk refuses, now or before.
        """
        if self._failure is not None:
            raise self._failure
        if self._next is None:
            # One that has begun may have missed the caller's commit.
            self._next = asyncio.ensure_future(self._sync(self._running))
        await asyncio.shield(self._next)

    async def _sync(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        self._running, self._next = self._next, None
        if self._failure is not None:
            raise self._failure
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._workers, atomic_file.sync_file, self._log)
        except OSError as error:
            self._failure = error
            raise
