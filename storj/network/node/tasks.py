"""Work in the background that must not end unnoticed.

A failed task that is never awaited looks like one that is done. Here the first one that ends by
itself is reported to the owner of the tasks, which stops and gives the reason. Work that may fail
is logged and noted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

from storj.exception import StorjError

logger = logging.getLogger(__name__)


async def others_first() -> None:
    """Let everybody else do what is ready, before the next portion of long work."""
    # After one turn only, this task would come before what came in during its last portion, which
    # then waits for two of them.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def together(*works: Coroutine[Any, Any, Any]) -> None:
    """Do works side by side; the first that fails ends the others, and is raised when they ended.

    Each is cancelled once only: a second time would interrupt its clean-up.
    """
    if works:
        await _until(asyncio.FIRST_EXCEPTION, works)


async def _until(
    condition: str, works: Iterable[Coroutine[Any, Any, Any]], *also: asyncio.Future[Any]
) -> None:
    """Do works until a condition of asyncio.wait; raise what failed, and cancel the others.

    The futures besides count for the condition, and are left as they are.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait((*tasks, *also), return_when=condition)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Tasks:
    """The background work of one part of a program, in one event loop.

    Args:
        owner (str): whose work it is, for messages.

    Attributes:
        failed (asyncio.Future[None]): has the error of the first task that ended by itself; never
            done otherwise.
        troubles (dict[str, str]): what failed the last time, by the name of the work, and how.
    """

    def __init__(self, owner: str) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.troubles: dict[str, str] = {}
        self._owner = owner
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a task that runs until :meth:`stop`, or until it is cancelled.

        Args:
            name (str): for messages.
            work (Coroutine): never returns.
        """
        task = asyncio.ensure_future(work)
        task.set_name(name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def once(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a task that comes to its end; a failure is logged, and noted in ``troubles``.

        Args:
            name (str): for messages; few names, as each is remembered.
            work (Coroutine): what is to be done.

        Returns:
            asyncio.Task[None]: for the caller to keep, and to wait for.
        """
        task = asyncio.ensure_future(work)
        task.set_name(name)
        task.add_done_callback(self._done)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception() or RuntimeError('it ended')
        self.fail(error)
        # An error of ours has a message for people; the owner of the tasks reports it once.
        if isinstance(error, StorjError):
            self.troubles[task.get_name()] = str(error)
        else:
            self.note(task.get_name(), error)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self.note(task.get_name(), task.exception())

    def note(self, name: str, error: BaseException | None, about: str = '') -> None:
        """Note how a work ended.

        Args:
            name (str): of the work.
            error (BaseException | None): by which it ended; None if it ended well.
            about (str): what it was about, for the log.
        """
        if error is None:
            self.troubles.pop(name, None)
            return
        self.troubles[name] = repr(error)
        logger.error('%s: %s %sfailed: %r', self._owner, name, about, error, exc_info=error)

    def fail(self, error: BaseException) -> None:
        """Tell the owner of the tasks that they cannot continue; only the first error counts."""
        if not self.failed.done():
            self.failed.set_exception(error)
            # Nobody need wait for it.
            self.failed.exception()

    async def first(self, *works: Coroutine[Any, Any, None]) -> None:
        """Do works until the first of them ends, or a task fails; the others are cancelled.

        Raises:
            Exception: If a work or a task fails.
        """
        await _until(asyncio.FIRST_COMPLETED, works, self.failed)

    async def stop(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
