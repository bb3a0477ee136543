"""Threads that run the tasks of all transfers.

Not those of ``concurrent.futures``: the interpreter ends these as soon as the main thread returns,
although another thread of the program may still wait for its transfer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from storj.exception import TransferError
from storj.shortage import shortage

__all__ = ('OwnThreads', 'ThreadPool')

T = TypeVar('T')


class _Task:
    """A function to be called, and the future of its value."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.future: Future[Any] = Future()

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self._function())
        except BaseException as error:
            self.future.set_exception(error)


class ThreadPool(Executor):
    """Threads that begin as there are tasks, up to a number of them.

    Args:
        name (str): of the threads, a number is added.
        width (int): how many at once.
        linger (float): seconds for which a thread waits for another task before it ends. With 0 the
            interpreter, at its exit, waits for the tasks; otherwise it does not, and they go on as
            long as any other thread of the program does.
        enter (Callable): called in each thread first.
    """

    def __init__(
        self, name: str, width: int, linger: float, enter: Callable[[], object] = lambda: None
    ) -> None:
        self._name = name
        self._width = width
        self._linger = linger
        self._enter = enter
        self._condition = threading.Condition()
        self._tasks: deque[_Task] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._begun = 0
        self._closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have a task run.

        Raises:
            TransferError: If the pool was closed.
            ResourceError: If there is no thread, and none can be started.
        """
        task = _Task(lambda: fn(*args, **kwargs))
        with self._condition:
            if self._closed:
                raise TransferError('the engine was closed')
            self._tasks.append(task)
            if self._idle >= len(self._tasks):
                self._condition.notify()
            elif len(self._threads) < self._width:
                self._begin_thread()
        return task.future

    def _begin_thread(self) -> None:
        """Start a thread; called with the condition held."""
        thread = threading.Thread(
            target=self._work, name=f'{self._name}-{self._begun}', daemon=self._linger > 0
        )
        try:
            thread.start()
        except RuntimeError as error:
            # The task waits for a thread that there is already.
            if not self._threads:
                self._tasks.pop()
                raise shortage(error) or error from error
            return
        self._begun += 1
        self._threads.add(thread)

    def _work(self) -> None:
        """Run tasks; the body of a thread."""
        self._enter()
        while (task := self._next()) is not None:
            task.run()
            # Nothing of a task is kept alive while there is none.
            del task

    def _next(self) -> _Task | None:
        """Return the next task, None if the calling thread is to end."""
        with self._condition:
            if not self._tasks and self._linger and not self._closed:
                self._idle += 1
                self._condition.wait_for(lambda: self._tasks or self._closed, self._linger)
                self._idle -= 1
            if self._tasks:
                return self._tasks.popleft()
            self._threads.discard(threading.current_thread())
            return None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks.

        Args:
            wait (bool): whether to wait until every thread has ended.
            cancel_futures (bool): whether tasks that did not begin are dropped.
        """
        with self._condition:
            self._closed = True
            threads = [*self._threads]
            dropped = [*self._tasks] if cancel_futures else []
            if cancel_futures:
                self._tasks.clear()
            self._condition.notify_all()
        for task in dropped:
            task.future.cancel()
        for thread in threads if wait else ():
            thread.join()


class OwnThreads(Executor):
    """A thread for each task, which may last without end: nobody waits for it."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have a task run.

        Raises:
            ResourceError: If no thread can be started.
        """
        task = _Task(lambda: fn(*args, **kwargs))
        try:
            threading.Thread(target=task.run, name='storj-source', daemon=True).start()
        except RuntimeError as error:
            raise shortage(error) or error from error
        return task.future
