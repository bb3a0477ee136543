"""Many transfers at a time: jobs, and the batch that runs them in the threads of their engines."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from storj.catalog.removal import Removal
from storj.exception import StorjError, TransferCancelled
from storj.transfer import TransferFuture, Transfers
from storj.transfer.scope import ThreadPool

__all__ = ('SMALL', 'Action', 'Backlog', 'Batch', 'Job', 'Outcome', 'Run', 'Skip', 'Unchanged')

#: What is done with a file.
Action = Literal['upload', 'download', 'copy', 'move']


#: Bytes of a small file.
SMALL = 1024 * 1024

#: Jobs that are made before their turn, of about 2 KiB each.
_AHEAD = 5000
# Seconds for which a thread that makes jobs waits for the next task; it has one only.
_LINGER = 1.0

#: No number of a run.
_NO_RUN = 0


class Skip(StorjError):
    """A file is left as it is; the message is the reason."""


class Unchanged(Skip):
    """The destination already has the file, judged by size and time."""


@dataclass(slots=True)
class Job:
    """One file to move.

    Attributes:
        action (str): what is done with it.
        source (str): from where, as the person knows it.
        destination (str): to where.
        size (int | None): bytes; None while unknown.
        engine (Transfers): its threads run the check and what follows the transfer.
        start (Callable[[], TransferFuture]): begins the transfer.
        check (Callable[[], None] | None): raises what keeps the transfer from being begun, and
            :class:`Skip` to leave the file; changes nothing, so that a dry run may call it too.
        finish (Callable[[Any], None] | None): called with the result of the transfer.
        file_id (str | None): of a file that is stored already; the result of an upload has its own.
        removal (Removal | None): removes the source when its copy is complete; also when the check
            raises :class:`Unchanged`.
    """

    action: Action
    source: str
    destination: str
    size: int | None
    engine: Transfers[Any]
    start: Callable[[], TransferFuture[Any]]
    check: Callable[[], None] | None = None
    finish: Callable[[Any], None] | None = None
    file_id: str | None = None
    removal: Removal | None = None

    @property
    def is_large(self) -> bool:
        """Whether the file has more than :data:`SMALL` bytes, as far as is known."""
        return self.size is None or self.size > SMALL

    def begin(self) -> TransferFuture[Any]:
        """Check what is to be checked, and begin the transfer."""
        if self.removal is not None:
            self.removal.begin()
        if self.check is not None:
            self.check()
        return self.start()

    def complete(self, result: Any) -> None:
        """Finish the job after its transfer."""
        if self.finish is not None:
            self.finish(result)
        if self.removal is not None:
            self.removal.complete()


@dataclass(frozen=True)
class Outcome:
    """The end of one job.

    Attributes:
        job (Job): the job.
        result (Any): of its transfer.
        error (Exception | None): what ended it otherwise.
        seconds (float): from its beginning.
    """

    job: Job
    result: Any
    error: Exception | None
    seconds: float


class Run:
    """One job under way; the batch advances it from step to step.

    Attributes:
        job (Job): the job.
        begun (float | None): monotonic seconds when its first step began.
        transfer (TransferFuture | None): once it is begun.
    """

    def __init__(self, job: Job, batch: Batch) -> None:
        self.job = job
        self.begun: float | None = None
        self.transfer: TransferFuture[Any] | None = None
        self._batch = batch
        self._steps = self._way()
        self._result: Any = None

    @property
    def is_waiting(self) -> bool:
        """Whether neither its check nor its transfer has begun."""
        if self.transfer is None:
            return self.begun is None
        return self.transfer.progress.phase == 'waiting'

    def advance(self) -> Outcome | Future[Any] | TransferFuture[Any]:
        """Begin the next step, after the end of the last one, and return it, or the outcome."""
        error: Exception | None = None
        try:
            return next(self._steps)
        except StopIteration:
            pass
        except Exception as caught:
            error = caught
        begun = self._batch.clock() if self.begun is None else self.begun
        return Outcome(self.job, self._result, error, self._batch.clock() - begun)

    def _way(self) -> Iterator[Future[Any] | TransferFuture[Any]]:
        job = self.job
        # In the engine, not here: a check may read whole files or ask the bridge, and Ctrl-C must
        # not arrive in the middle of the beginning of a transfer.
        step = job.engine.submit(self._begin)
        yield step
        try:
            transfer = step.result()
        except Unchanged:
            if job.removal is not None:
                done = job.engine.submit(job.removal.complete)
                yield done
                done.result()
            raise
        yield transfer
        self._result = transfer.result()
        if job.finish is not None or job.removal is not None:
            # Also while the batch stops: the copy is complete, and a move that left its source
            # would be a copy, an upload under another form of its name a second file.
            done = job.engine.submit(lambda: job.complete(self._result))
            yield done
            done.result()

    def _begin(self) -> TransferFuture[Any]:
        """Begin the transfer; runs in a thread of the engine."""
        self.begun = self._batch.clock()
        if self._batch.stopping.is_set():
            raise TransferCancelled(f'{self.job.source} was not begun')
        self.transfer = self.job.begin()
        if self._batch.stopping.is_set():
            # The batch was stopped between the check above and the start.
            self.transfer.cancel()
        return self.transfer


class Backlog:
    """Jobs that are made by a thread before their turn, while a bucket is listed for example.

    An iterator that never blocks: it returns None while no job is there. Jobs in a sequence are
    there from the start, without a thread.

    Args:
        jobs (Iterable[Job]): in the order in which they are begun.
        most (int): jobs that may wait; no more are made then.

    Attributes:
        count (int): jobs that were made so far.
        size (int | None): their bytes; None as soon as one size is unknown, of a pipe for example.
        is_complete (bool): whether no other job will be made.
    """

    def __init__(self, jobs: Iterable[Job], most: int = _AHEAD) -> None:
        self.count = 0
        self.size: int | None = 0
        self.is_complete = False
        self._source = jobs
        self._most = most
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._is_awaited = False
        self._is_closed = False
        self._error: BaseException | None = None
        self._pool = ThreadPool('storj-jobs', 1, _LINGER)

    def begin(self, arrived: Callable[[], None]) -> None:
        """Begin to make jobs.

        Args:
            arrived (Callable[[], None]): called when there is a job after there was none, and at
                the end.
        """
        # Not kept: a listing that nobody reads to its end releases what it holds.
        source, self._source = self._source, ()
        if isinstance(source, Sequence):
            self._most = max(self._most, len(source))
            self._make(source, arrived)
        else:
            self._pool.submit(self._make, source, arrived)

    def __iter__(self) -> Iterator[Job | None]:
        return self

    def __next__(self) -> Job | None:
        """Return the next job, None if it is not there yet.

        Raises:
            BaseException: If the jobs could not be made; after those that could.
        """
        with self._changed:
            self._is_awaited = not self._waiting
            if self._waiting:
                if len(self._waiting) <= self._most // 2:
                    # Not for each: threads that take turns for every job cost more than the job.
                    self._changed.notify()
                return self._waiting.popleft()
            if not self.is_complete:
                return None
        if self._error is not None:
            raise self._error
        raise StopIteration

    def close(self) -> None:
        """Make no other job; the one that is being made is not awaited."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _make(self, source: Iterable[Job], arrived: Callable[[], None]) -> None:
        error: BaseException | None = None
        try:
            for job in source:
                if not self._add(job, arrived):
                    return
        except BaseException as caught:
            error = caught
        with self._changed:
            self._error, self.is_complete = error, True
        arrived()

    def _add(self, job: Job, arrived: Callable[[], None]) -> bool:
        """Let a job wait for its turn; return False if none is wanted any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(self._waiting) < self._most)
            if self._is_closed:
                return False
            self._waiting.append(job)
            self.count += 1
            self.size = None if self.size is None or job.size is None else self.size + job.size
            is_awaited, self._is_awaited = self._is_awaited, False
        if is_awaited:
            arrived()
        return True


class Batch:
    """Runs jobs side by side, each in the threads of its engine, and stops them together.

    It has no threads of its own: every step of a job, its check, its transfer and what follows,
    runs in the engine, and the caller's thread takes the job from one to the next. The cost of a
    job does not depend on how many there are.

    Args:
        jobs (Iterable[Job | None]): started in this order, as others end; None stands for one that
            is not there yet, :meth:`wake` is to be called when it is.
        width (int): jobs that the engines work at; as many more wait in their queues, so that no
            thread waits for the caller.
        large (int | None): of these, jobs of more than :data:`SMALL` bytes, or of an unknown
            number. A small file waits for others most of its time, and a large one keeps them busy.
        stopping (threading.Event | None): set when the jobs are stopped.
        clock (Callable[[], float]): monotonic seconds.
    """

    def __init__(
        self,
        jobs: Iterable[Job | None],
        width: int,
        *,
        large: int | None = None,
        stopping: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stopping = stopping or threading.Event()
        self.clock = clock
        self._jobs = iter(jobs)
        # The engine's threads end when no task waits; starting one for each file costs more
        # than a few checks that are made early.
        self._width = 2 * width
        self._large = self._width if large is None else large
        self._held: Job | None = None
        self._is_last = False
        self._runs: dict[int, Run] = {}
        self._count = 0
        self._ready: queue.SimpleQueue[int] = queue.SimpleQueue()

    def wait(self, timeout: float) -> list[Outcome] | None:
        """Wait until jobs end.

        Args:
            timeout (float): seconds, at most.

        Returns:
            list[Outcome] | None: of the jobs that ended meanwhile; None when all have ended.
        """
        ended: list[Outcome] = []
        self._fill(ended)
        if ended and not self._runs:
            return ended
        if self._is_last and not self._runs:
            return None
        try:
            self._advance(self._ready.get(timeout=timeout), ended)
            while True:
                self._advance(self._ready.get_nowait(), ended)
        except queue.Empty:
            return ended

    def wake(self) -> None:
        """End a :meth:`wait` that is under way, because there are jobs again; from any thread."""
        self._ready.put(_NO_RUN)

    def active(self) -> list[Run]:
        """Return the jobs that are worked at, in the order in which they began."""
        return [run for run in self._runs.values() if not run.is_waiting]

    def stop(self) -> None:
        """Cancel the jobs under way, wait until they have ended, and begin no others."""
        self.stopping.set()
        # Not by the queue: an interrupt may have hit between a step and its callback, and then no
        # entry of the queue comes for it.
        runs = list(self._runs.values())
        for run in runs:
            if run.transfer is not None:
                run.transfer.cancel()
        for run in runs:
            # The end of a step is awaited where the next one begins.
            while not isinstance(run.advance(), Outcome):
                pass
        self._runs.clear()

    def _fill(self, ended: list[Outcome]) -> None:
        while len(self._runs) < self._width and not self._is_last:
            try:
                job = self._held or next(self._jobs)
            except StopIteration:
                self._is_last = True
                return
            if job is None:
                return
            self._held = job if job.is_large and self._large_ones() >= self._large else None
            if self._held is not None:
                return
            number = self._count = self._count + 1
            self._runs[number] = Run(job, self)
            self._advance(number, ended)

    def _large_ones(self) -> int:
        return sum(run.job.is_large for run in self._runs.values())

    def _advance(self, number: int, ended: list[Outcome]) -> None:
        if number == _NO_RUN:
            return
        step = self._runs[number].advance()
        if isinstance(step, Outcome):
            del self._runs[number]
            ended.append(step)
            return
        step.add_done_callback(lambda _: self._ready.put(number))
