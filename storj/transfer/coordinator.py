"""The state of one transfer: its progress, and its outcome, which is decided here only.

A transfer is one *driver*, which waits, and many *tasks*, which work. All of them meet in a
:class:`Coordinator`::

    driver ----- wait_until(...) ---.
    task   ----- check(), fail() ---+--> Coordinator --> settle --> clean-ups --> waiters wake
    caller ----- cancel() ----------'

The first error counts; later ones are ignored. Waiters wake only after every task has
released files and buffers and after the clean-ups have run, so that a program that sees the error
also sees the temporary files gone.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from storj.exception import StorjError, TransferCancelled, TransferError
from storj.retry import RetryPolicy

_log = logging.getLogger(__name__)

T = TypeVar('T')
T_ = TypeVar('T_')

#: Failures that a transfer's error names; the first ones tell the story.
_CAUSES_KEPT = 64

#: Seconds between two calls of a callback while only bytes change; a screen shows no more.
_INTERVAL = 0.1


class Clock(Protocol):
    """What the engine asks of time and chance."""

    def now(self) -> float:
        """Return seconds of a clock that never goes back."""

    def wall(self) -> float:
        """Return seconds since 1970, for reports and journals."""

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait on a condition that the caller holds, at most so many seconds."""

    def random(self) -> float:
        """Return a number from 0 up to, but not including, 1, for jitter."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        """Return seconds of the monotonic clock."""
        return time.monotonic()

    def wall(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait on the condition."""
        # Locks cannot count to more: such a wait has no limit.
        condition.wait(None if seconds is None else min(seconds, threading.TIMEOUT_MAX))

    def random(self) -> float:
        """Return a number in [0, 1) from the system's source."""
        return secrets.randbelow(1 << 32) / (1 << 32)


class Stopped(Exception):
    """The transfer has ended; the task that sees this has nothing left to do."""


class Gate:
    """How many tasks of one transfer may be at one thing at a time; passed by ``turn``.

    Args:
        width (int): how many.
    """

    def __init__(self, width: int) -> None:
        self._free = width
        self._refused = False

    def enter(self) -> bool:
        """Enter if the gate is not full; the caller holds the transfer's condition."""
        if not self._free:
            self._refused = True
            return False
        self._free -= 1
        return True

    def leave(self) -> bool:
        """Leave the gate as `enter`; return whether another found it full, and is to be woken."""
        self._free += 1
        refused, self._refused = self._refused, False
        return refused


class Coordinator(Generic[T]):
    """Fate, tasks and clean-ups of one transfer; safe to use from all threads.

    Args:
        clock (Clock | None): time; the machine's own by default.
        deadline (float | None): seconds that the whole transfer may take.

    Attributes:
        condition (threading.Condition): guards the state of the transfer; notified at each change.
    """

    def __init__(self, clock: Clock | None = None, deadline: float | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.condition = threading.Condition()
        self._ends = None if deadline is None else self.clock.now() + deadline
        self._allowed = deadline
        self._error: BaseException | None = None
        self._result: T | None = None
        self._settled = False
        self._begun = False
        # The threads of the tasks that are at work. A list, since without threads (SerialExecutor)
        # a task runs within the one that spawned it, and the same thread is in it twice.
        self._running: list[int] = []
        self._clean_ups: list[Callable[[], object]] = []
        self._callbacks: list[Callable[[], object]] = []
        self._causes: list[BaseException] = []

    # -- fate --------------------------------------------------------------------------------------

    @property
    def causes(self) -> list[BaseException]:
        """Failures so far that did not end the transfer, oldest first."""
        with self.condition:
            return list(self._causes)

    def note(self, error: BaseException) -> None:
        """Remember a failure that was overcome, or may be."""
        # But not the buffers of the failed task, which its traceback would keep.
        traceback.clear_frames(error.__traceback__)
        with self.condition:
            if len(self._causes) < _CAUSES_KEPT:
                self._causes.append(error)

    def fail(self, error: BaseException) -> bool:
        """End the transfer with an error, unless it has ended already.

        Returns:
            bool: whether this was the error that ended it.
        """
        with self.condition:
            if self._error is not None or self._settled:
                return False
            self._error = error
            self.condition.notify_all()
        return True

    def cancel(self) -> bool:
        """Ask the transfer to end; False if it has ended already."""
        return self._end_before_turn(TransferCancelled('the transfer was cancelled', self.causes))

    def _end_before_turn(self, error: StorjError) -> bool:
        """End the transfer; one that waits for its turn has no driver yet that could do it."""
        won = self.fail(error)
        if won and self._begin():
            self.settle(done=False)
        return won

    def _begin(self) -> bool:
        with self.condition:
            if self._begun:
                return False
            self._begun = True
            return True

    def stopped(self) -> bool:
        """Return whether the transfer has ended or is to end; this is what channels poll."""
        # No timer: every wait and every channel asks this often enough to notice the deadline.
        if self._error is None and self._ends is not None and self.clock.now() >= self._ends:
            self.fail(
                TransferError(
                    f'the transfer took longer than the {self._allowed:g} s allowed', self.causes
                )
            )
        return self._error is not None or self._settled

    def check(self) -> None:
        """Raise Stopped if the transfer has ended or is to end."""
        if self.stopped():
            raise Stopped

    # -- waiting -----------------------------------------------------------------------------------

    def wait_until(self, ready: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait, in the driver or a task, for a state of the transfer.

        Args:
            ready (Callable[[], bool]): called with the condition held.
            seconds (float | None): at most; without a limit by default.

        Returns:
            bool: what ready said last.

        Raises:
            Stopped: If the transfer ends meanwhile.
        """
        until = None if seconds is None else self.clock.now() + seconds
        with self.condition:
            while True:
                self.check()
                if ready():
                    return True
                now = self.clock.now()
                if until is not None and now >= until:
                    return False
                ends = [moment for moment in (until, self._ends) if moment is not None]
                self.clock.wait(self.condition, min(ends) - now if ends else None)

    def pause(self, seconds: float) -> None:
        """Wait that long; raise Stopped if the transfer ends meanwhile."""
        self.wait_until(lambda: False, seconds)

    def remaining(self) -> float | None:
        """Return the seconds left until the transfer's deadline, None if it has none."""
        return None if self._ends is None else max(0.0, self._ends - self.clock.now())

    @contextmanager
    def turn(self, gate: Gate) -> Iterator[None]:
        """Wait until a gate is not full, enter it, and leave it afterwards."""
        # Asked with the condition held, so that two tasks never take the same free place.
        self.wait_until(gate.enter)
        try:
            yield
        finally:
            with self.condition:
                if gate.leave():
                    self.condition.notify_all()

    # -- tasks -------------------------------------------------------------------------------------

    def spawn(self, executor: Executor, task: Callable[..., object], *args: object) -> None:
        """Run a task of the transfer; its end wakes all waits, an error ends the transfer."""
        try:
            executor.submit(self._run, task, args)
        except StorjError as error:
            # No thread can be started, or the engine was closed meanwhile.
            self.fail(error)

    def _run(self, task: Callable[..., object], args: tuple[object, ...]) -> None:
        with self.condition:
            # A task that waited in the queue of a busy pool while its transfer ended never begins.
            if self._error is not None or self._settled:
                return
            self._running.append(threading.get_ident())
        try:
            self.check()
            task(*args)
        except Stopped:
            pass
        except BaseException as error:
            self.fail(error)
        finally:
            with self.condition:
                self._running.remove(threading.get_ident())
                self.condition.notify_all()

    def outside(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call something that cannot be interrupted, a request to the bridge, from within a task.

        While it lasts the transfer does not count the task: it may end, and wake who waits for it,
        although the request still hangs. Nothing local may be held meanwhile.

        Raises:
            Stopped: If the transfer ended meanwhile.
        """
        self.check()
        with self.condition:
            self._running.remove(threading.get_ident())
            # What `settle` waits for, and nobody else: to wake a thread costs much.
            if self._error is not None:
                self.condition.notify_all()
        try:
            return function(*args, **kwargs)
        finally:
            with self.condition:
                self._running.append(threading.get_ident())
            self.check()

    def persist(self, policy: RetryPolicy, function: Callable[[], T_], what: str) -> T_:
        """Make a request from within a task until it is answered.

        Args:
            policy (RetryPolicy): how often and how long.
            function (Callable[[], T_]): the request; only an error whose ``retryable`` is true is
                repeated.
            what (str): for the log.

        Raises:
            StorjError: If every attempt failed, the last error.
            Stopped: If the transfer ends meanwhile.
        """
        failures = 0
        while True:
            try:
                value: T_ = self.outside(function)
            except StorjError as error:
                failures += 1
                if not self.pause_before_next(policy, error, failures, what):
                    raise
            else:
                return value

    def pause_before_next(
        self, policy: RetryPolicy, error: StorjError, failures: int, what: str
    ) -> bool:
        """Wait until a request that failed may be made again; False if it may not.

        Args:
            policy (RetryPolicy): how often and how long.
            error (StorjError): the failure.
            failures (int): how many there were.
            what (str): for the log.

        Raises:
            Stopped: If the transfer ends meanwhile.
        """
        chance, left = self.clock.random(), self.remaining()
        wait = policy.next_wait(error, failures, chance, left) if error.retryable else None
        if wait is None:
            return False
        _log.warning('%s failed (%s), trying again in %.1f s', what, error, wait)
        self.note(error)
        self.pause(wait)
        return True

    def ask(self, executor: Executor, function: Callable[[], T_], /) -> T_:
        """Have the driver's own request made by a task, so that the driver can be interrupted.

        Returns:
            The function's value; its error is raised here and does not end the transfer by itself.

        Raises:
            Stopped: If the transfer ends meanwhile.
        """
        return self.begin(executor, function)()

    def begin(self, executor: Executor, function: Callable[[], T_], /) -> Callable[[], T_]:
        """Begin a request as :meth:`ask` does, and return what waits for its value."""
        outcome: list[tuple[T_ | None, Exception | None]] = []

        def task() -> None:
            try:
                value, error = function(), None
            except Stopped:
                raise
            except Exception as caught:
                value, error = None, caught
            with self.condition:
                outcome.append((value, error))
                self.condition.notify_all()

        def join() -> T_:
            # A task that is stopped leaves no outcome: this wait then ends with Stopped as well.
            self.wait_until(lambda: bool(outcome))
            value, error = outcome[0]
            if error is not None:
                raise error
            return value  # type: ignore[return-value]

        self.spawn(executor, task)
        return join

    # -- the end -----------------------------------------------------------------------------------

    def clean_up(self, action: Callable[[], object]) -> None:
        """Register what is to be done at the end, success or not; the last one is done first."""
        with self.condition:
            self._clean_ups.append(action)

    def drive(self, work: Callable[[], T]) -> None:
        """Run the driver to the end: work, wait for the tasks, clean up, wake the waiters.

        A result counts even if the transfer was cancelled while its last request was answered.
        """
        with self.driving():
            self.check()
            self._result = work()

    @contextmanager
    def driving(self) -> Iterator[None]:
        """Drive the transfer in the caller's thread; errors end it and go no further.

        Only ``GeneratorExit``, by which a reader of a stream ends it early, is passed on.
        """
        done = False
        # A transfer that was cancelled before its turn is settled already.
        begun = self._begin()
        try:
            yield
            done = True
        except Stopped:
            pass
        except GeneratorExit:
            self.cancel()
            raise
        except BaseException as error:
            self.fail(error)
        finally:
            if begun and threading.get_ident() in self._running:
                # A reader that was forgotten, found by the garbage collection in the middle of one
                # of its own tasks, which has to end first.
                threading.Thread(target=self.settle, kwargs={'done': done}).start()
            elif begun:
                self.settle(done=done)

    def begin_drive(self, executor: Executor, work: Callable[[], T]) -> None:
        """Have the driver run in a pool."""
        try:
            executor.submit(self.drive, work)
        except StorjError as error:
            self._end_before_turn(error)

    def settle(self, *, done: bool) -> None:
        """End the transfer: wait for its tasks, clean up, wake the waiters.

        Args:
            done (bool): whether the work was done; otherwise an error must have been given.
        """
        with self.condition:
            if done:
                # Tasks that lost a race, such as the slower of two pulls, stop as if it had failed.
                self._error = Stopped()
            while self._running:
                self.clock.wait(self.condition, None)
            actions, self._clean_ups = self._clean_ups, []
        leaving = _call_each(actions[::-1], 'could not clean up after a transfer')
        with self.condition:
            if done:
                self._error = None
            self._settled = True
            callbacks, self._callbacks = self._callbacks, []
            self.condition.notify_all()
        leaving = self._tell(callbacks) or leaving
        if leaving is not None:
            raise leaving

    @property
    def error(self) -> BaseException | None:
        """What ended the transfer, as far as is known now; None after success."""
        return None if isinstance(self._error, Stopped) else self._error

    @property
    def settled(self) -> bool:
        """Whether the transfer has ended and is cleaned up."""
        return self._settled

    def result(self, timeout: float | None = None) -> T:
        """Wait for the end of the transfer and return its result.

        Raises:
            TimeoutError: If it has not ended after so many seconds; it continues.
            BaseException: If it failed, with the error that ended it.
        """
        if not self.wait(timeout):
            raise TimeoutError('the transfer is still under way')
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the transfer; False if it has not come after so many seconds."""
        until = None if timeout is None else self.clock.now() + timeout
        with self.condition:
            while not self._settled:
                left = None if until is None else until - self.clock.now()
                if left is not None and left <= 0:
                    return False
                self.clock.wait(self.condition, left)
        return True

    def when_settled(self, callback: Callable[[], object]) -> None:
        """Call something once the transfer has ended, at once if it has."""
        with self.condition:
            if not self._settled:
                self._callbacks.append(callback)
                return
        if leaving := self._tell([callback]):
            raise leaving

    @staticmethod
    def _tell(callbacks: list[Callable[[], object]]) -> BaseException | None:
        return _call_each(callbacks, 'a callback at the end of a transfer failed')


def _call_each(actions: list[Callable[[], object]], complaint: str) -> BaseException | None:
    """Call them all, and return what one of them wanted to end the thread with."""
    leaving: BaseException | None = None
    for action in actions:
        try:
            action()
        except Exception:
            _log.warning(complaint, exc_info=True)
        except BaseException as error:
            # An exit in a callback, or an interrupt here, must not leave waiters asleep.
            leaving = leaving or error
    return leaving


@dataclass(frozen=True)
class Progress:
    """The state of a transfer at one moment.

    Attributes:
        phase (str): ``waiting``, ``preparing``, ``transferring``, ``finishing``, then ``done``,
            ``failed`` or ``cancelled``.
        bytes (int): moved so far. An attempt that fails takes its bytes back.
        total (int | None): to be moved in all, parity included; None while unknown.
        shards (int): that have arrived and were confirmed.
        shards_total (int | None): to be moved in all; None while unknown.
        retries (int): attempts that failed so far and were repeated elsewhere.
        farmers (tuple[str, ...]): node ids of the farmers that are busy for it now.
    """

    phase: str = 'waiting'
    bytes: int = 0
    total: int | None = None
    shards: int = 0
    shards_total: int | None = None
    retries: int = 0
    farmers: tuple[str, ...] = ()


ProgressCallback = Callable[[Progress], object]


class Meter:
    """Counts for one transfer, from all its threads.

    Args:
        clock (Clock): for the pace of the callback.
        callback (ProgressCallback | None): called with each new state, never by two threads at a
            time; an error it raises ends the transfer.
    """

    def __init__(self, clock: Clock, callback: ProgressCallback | None = None) -> None:
        self._clock = clock
        self._callback = callback
        self._lock = threading.Lock()
        self._calling = threading.Lock()
        self._called = float('-inf')
        self._phase = 'waiting'
        self._bytes = 0
        self._total: int | None = None
        self._shards = 0
        self._shards_total: int | None = None
        self._retries = 0
        self._farmers: Counter[str] = Counter()

    def snapshot(self) -> Progress:
        """Return the state now."""
        with self._lock:
            return Progress(
                self._phase,
                # Hedged pulls and repairs move more than is needed.
                self._bytes if self._total is None else min(self._bytes, self._total),
                self._total,
                self._shards,
                self._shards_total,
                self._retries,
                tuple(sorted(self._farmers)),
            )

    def phase(self, phase: str) -> None:
        """Enter a phase."""
        with self._lock:
            self._phase = phase
        self._tell()

    def expect(self, total: int, shards: int) -> None:
        """Say how many bytes and shards there are to move."""
        with self._lock:
            self._total, self._shards_total = total, shards
        self._tell()

    def add(self, count: int) -> None:
        """Count bytes that moved, or take back those of a failed attempt if negative."""
        with self._lock:
            self._bytes += count
        if self._callback is not None and self._clock.now() - self._called >= _INTERVAL:
            self._tell()

    def confirm(self, shards: int = 1) -> None:
        """Count shards that arrived whole."""
        with self._lock:
            self._shards += shards
        self._tell()

    def retry(self) -> None:
        """Count an attempt that failed."""
        with self._lock:
            self._retries += 1
        self._tell()

    def begin(self, farmer: str) -> None:
        """Note that a farmer is busy for the transfer."""
        with self._lock:
            self._farmers[farmer] += 1

    def end(self, farmer: str) -> None:
        """Note that a farmer is busy no longer."""
        with self._lock:
            self._farmers[farmer] -= 1
            if self._farmers[farmer] <= 0:
                del self._farmers[farmer]

    def conclude(self, error: BaseException | None) -> None:
        """Enter the last phase."""
        cancelled = isinstance(error, TransferCancelled)
        self.phase('done' if error is None else 'cancelled' if cancelled else 'failed')

    def _tell(self) -> None:
        if self._callback is None:
            return
        # Not under the lock of the counts: a slow callback must not delay counting.
        with self._calling:
            self._called = self._clock.now()
            self._callback(self.snapshot())
