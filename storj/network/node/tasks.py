"""Work in the background that must not end unnoticed.

A task whose error nobody awaits looks like one that is done. Here the first one that ends by itself
is known to whoever owns the tasks, who stops and says why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

__all__ = ('Tasks', 'together')

logger = logging.getLogger(__name__)


async def together(*works: Coroutine[Any, Any, Any]) -> None:
    """Do works side by side; the first that fails ends the others, and is raised when they ended.

    Each is cancelled once only: a second time would break off what it does to end in good order.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    if not tasks:
        return
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
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
    """

    def __init__(self, owner: str) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._owner = owner
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Begin a task that runs until :meth:`stop`.

        Args:
            name (str): for messages.
            work (Coroutine): never returns.
        """
        task = asyncio.ensure_future(work)
        task.set_name(name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception() or RuntimeError('it came to its end')
        logger.error(
            '%s: %s ended: %r', self._owner, task.get_name(), error, exc_info=task.exception()
        )
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Tell whoever owns the tasks that they cannot go on; only the first error counts."""
        if not self.failed.done():
            self.failed.set_exception(error)
            # Nobody need wait for it.
            self.failed.exception()

    async def stop(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
