"""Commits that survive a power failure, without a wait of the disk for each of them.

SQLite with ``synchronous=NORMAL`` writes a commit to its log and leaves the log to the system; with
``FULL`` it waits for the disk in every commit, on the thread that commits. Here a commit is quick,
and a request that must not be answered earlier waits for :meth:`GroupSync.wait`: one wait for the
disk, in a worker thread, covers all commits that were made before it began. Another thread copies
the log into the database (:class:`Checkpoints`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

from aiohttp import web

from storj.network.node.wire import Handler
from storj.system import atomic_file

#: What an application waits for before it answers a request that may have changed something.
SYNCS: web.AppKey[list[Callable[[], Awaitable[None]]]] = web.AppKey('syncs', list)

logger = logging.getLogger(__name__)

# Transactions between two checkpoints: each makes a log longer by some pages, a removal by fifty.
_TRANSACTIONS = 50

_SAFE = frozenset({'GET', 'HEAD', 'OPTIONS'})


def durable_answers(steps: Collection[tuple[str, str]]) -> Callable[..., object]:
    """Return a middleware that confirms nothing which a power failure could take back.

    Args:
        steps (Collection[tuple[str, str]]): methods and patterns of requests that are steps of
            something only: commits come to the disk in their order, so confirming the whole
            confirms them too, and a client whose step is lost begins again.
    """

    @web.middleware
    async def durable(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        resource = request.match_info.route.resource
        pattern = '' if resource is None else resource.canonical.rstrip('/')
        if request.method not in _SAFE and (request.method, pattern) not in steps:
            for sync in request.app[SYNCS]:
                await sync()
        return response

    return durable


class GroupSync:
    """Forces the log of a SQLite database to the disk, for all who wait at the same time.

    Belongs to one event loop. A failure is final: what the system could not write it may have
    thrown away, so that a later success says nothing about it.

    Args:
        database (Path): the file of the database, which is in WAL mode.
        workers (Executor | None): threads that wait for the disk; the loop's own by default.

    Attributes:
        failure (OSError | None): with which the disk refused.
    """

    def __init__(self, database: Path, workers: Executor | None = None) -> None:
        self._log = database.with_name(f'{database.name}-wal')
        self._workers = workers
        # Device and inode of the log whose name is on the disk.
        self._named: tuple[int, int] | None = None
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self.failure: OSError | None = None

    async def wait(self) -> None:
        """Return when all that was committed before this call is on the disk.

        Raises:
            OSError: If the disk refuses, now or before.
        """
        if self.failure is not None:
            raise self.failure
        if self._next is None:
            # One that has begun may have missed the caller's commit.
            self._next = asyncio.ensure_future(self._sync(self._running))
        await asyncio.shield(self._next)

    async def _sync(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        self._running, self._next = self._next, None
        if self.failure is not None:
            raise self.failure
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._workers, self._force)
        except OSError as error:
            self.failure = error
            raise

    def _force(self) -> None:
        """Force the log to the disk, and its name the first time.

        SQLite makes another log only after all connections were closed.
        """
        status = self._log.stat()
        file = status.st_dev, status.st_ino
        atomic_file.sync_file(self._log)
        if file != self._named:
            atomic_file.sync_folder(self._log.parent)
            self._named = file


class Checkpoints:
    """Copies the log of a SQLite database into its file, in a thread of its own.

    SQLite by itself does that in a commit, which then waits for the disk.

    Args:
        copy (Callable[[], None]): makes a checkpoint beside which others read and write.
    """

    def __init__(self, copy: Callable[[], None]) -> None:
        self._copy = copy
        self._thread = ThreadPoolExecutor(1, 'storj-checkpoints')
        self._running: Future[None] | None = None
        self._count = 0

    def count(self) -> None:
        """Note a transaction; begin a checkpoint after enough of them."""
        self._count += 1
        if self._count >= _TRANSACTIONS and (self._running is None or self._running.done()):
            self._count = 0
            self._running = self._thread.submit(self._checkpoint)

    def _checkpoint(self) -> None:
        try:
            self._copy()
        except Exception as error:
            # Commits go on, and copy it themselves in the end.
            logger.warning('the log of a database was not copied: %s', error)

    def close(self) -> None:
        """Wait for the end of a checkpoint."""
        self._thread.shutdown(wait=True, cancel_futures=True)
