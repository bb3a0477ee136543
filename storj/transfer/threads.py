"""Threads that run the tasks of all transfers.

Not those of ``concurrent.futures``: the interpreter ends these as soon as the main thread returns,
although another thread of the program may still wait for its transfer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from storj.exception import TransferError
from storj.shortage import shortage
from storj.transfer.config import TransferConfig

__all__ = ('OwnThreads', 'Pools', 'SerialExecutor', 'ThreadPool')

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


class SerialExecutor(Executor):
    """Runs each task at once in the caller's thread: the engine without threads, for unit tests."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a task and return its finished future."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


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


# Seconds for which threads of a busy program wait for another task.
_LINGER = 10.0


@dataclass(frozen=True)
class Pools:
    """The threads. A task waits only for what runs in a pool further down this list.

    Attributes:
        drivers (Executor): one task for each transfer under way.
        shards (Executor): one task for each shard on its way, from contract to confirmation.
        hashing (Executor): encryption, hashing, parity.
        requests (Executor): requests that a driver waits for.
        background (Executor): requests that nobody waits for.
        sources (Executor): sources that may keep their reader waiting forever.
        member (threading.local): has ``inside`` in their own threads.
    """

    drivers: Executor
    shards: Executor
    hashing: Executor
    requests: Executor
    background: Executor
    sources: Executor
    member: threading.local = field(default_factory=threading.local)

    @classmethod
    def threads(cls, config: TransferConfig) -> Pools:
        """Make pools of threads, which begin as they are needed."""
        member = threading.local()

        def enter() -> None:
            member.inside = True

        def pool(name: str, width: int, linger: float = _LINGER) -> ThreadPool:
            return ThreadPool(f'storj-{name}', width, linger, enter)

        return cls(
            # The interpreter waits for transfers and for what they leave to be done, and for
            # nothing else.
            drivers=pool('transfer', config.transfers, linger=0),
            # Some more than may push: they hold a contract, or ask for one.
            shards=pool('shard', config.concurrency + config.negotiations),
            hashing=pool('hash', config.hash_workers),
            requests=pool('request', 2 * config.transfers + 2),
            background=pool('background', 2, linger=0),
            sources=OwnThreads(),
            member=member,
        )

    @classmethod
    def serial(cls) -> Pools:
        """Make pools that run everything in the caller's thread."""
        drivers, shards, hashing, requests, background, sources = (
            SerialExecutor() for _ in range(6)
        )
        return cls(drivers, shards, hashing, requests, background, sources)

    @property
    def inside(self) -> bool:
        """Whether the calling thread is one of them."""
        return hasattr(self.member, 'inside')

    def close(self) -> None:
        """Wait for every thread to end; tasks that have not begun never do.

        One of the threads itself, in the callback of a transfer say, does not wait.
        """
        wait = not self.inside
        for pool in (self.drivers, self.shards, self.hashing, self.requests, self.background):
            pool.shutdown(wait=wait, cancel_futures=True)
