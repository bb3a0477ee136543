"""What a transfer works with: its own scope, and what all transfers of one engine share.

Shared are the threads, the memory for shards under way, the rates, and what is done in the
background without anybody waiting for it.

The threads are not those of ``concurrent.futures``: the interpreter ends these as soon as the main
thread returns, although another thread of the program may still wait for its transfer.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

from storj.api import BridgeProfile
from storj.exception import FarmerUnreachableError, StorjError, TransferError
from storj.model import ExchangeReport
from storj.system.shortage import shortage
from storj.transfer.channel import Channel, channel_for
from storj.transfer.config import BridgeReader, TransferConfig
from storj.transfer.coordinator import Clock, Coordinator, Meter, SystemClock

T = TypeVar('T')

_log = logging.getLogger(__name__)

ChannelFactory = Callable[[Any], Channel]

# Lists of shards that are remembered, each by its hash.
_PROVED = 1000

#: Requests that may wait; each is a small record.
_WAITING = 1000

# Seconds for which threads of a busy program wait for another task.
_LINGER = 10.0
# For those that the program waits for: a report follows soon if many small files are moved, and a
# new thread costs a new connection to the bridge.
_SHORT = 0.25


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
        linger (float): seconds for which a thread waits for another task before it ends.
        enter (Callable): called in each thread first.
        awaited (bool): whether the interpreter, at its exit, waits for the threads; otherwise they
            go on as long as any other thread of the program does.
    """

    def __init__(
        self,
        name: str,
        width: int,
        linger: float,
        enter: Callable[[], object] = lambda: None,
        *,
        awaited: bool = False,
    ) -> None:
        self._name = name
        self._width = width
        self._linger = linger
        self._awaited = awaited
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
            target=self._work, name=f'{self._name}-{self._begun}', daemon=not self._awaited
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
    """A thread for each task, which may run without end: no caller waits for it."""

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


@dataclass(frozen=True)
class Pools:
    """The threads. A task waits only for what runs in a pool further down this list.

    Attributes:
        drivers (Executor): one task for each transfer under way.
        shards (Executor): one task for each shard on its way, from contract to confirmation.
        hashing (Executor): encryption, hashing, parity.
        requests (Executor): requests that a driver waits for.
        background (Executor): requests without a waiting caller.
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

        def pool(
            name: str, width: int, linger: float = _LINGER, *, awaited: bool = False
        ) -> ThreadPool:
            return ThreadPool(f'storj-{name}', width, linger, enter, awaited=awaited)

        return cls(
            # The interpreter waits for transfers and for what they leave to be done, and for
            # nothing else.
            drivers=pool('transfer', config.transfers, linger=0, awaited=True),
            # Some more than may push: they hold a contract, or ask for one.
            shards=pool('shard', config.concurrency + config.negotiations),
            hashing=pool('hash', config.hash_workers),
            requests=pool('request', 2 * config.transfers + 2),
            background=pool('background', 2, linger=_SHORT, awaited=True),
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
        """Wait for every thread to end; tasks that have not begun are dropped.

        One of the threads itself, in the callback of a transfer say, does not wait.
        """
        wait = not self.inside
        for pool in (self.drivers, self.shards, self.hashing, self.requests, self.background):
            pool.shutdown(wait=wait, cancel_futures=True)


class BackgroundRequests:
    """What is done for transfers without anybody waiting for it: reports, dropped frames.

    Best effort: a failure is logged at DEBUG, and beyond a bound of waiting requests new ones are
    dropped, because a bridge that answers slowly must not fill the memory.

    Args:
        bridge (BridgeReader): receives them.
        executor (Executor): runs them, a few at a time.
        clock (Clock): time.
        reports (bool): whether exchange reports are sent.
    """

    def __init__(
        self, bridge: BridgeReader, executor: Executor, clock: Clock, *, reports: bool
    ) -> None:
        self._bridge = bridge
        self._executor = executor
        self._clock = clock
        self._reports = reports
        self._condition = threading.Condition()
        self._waiting = 0
        self._closed = False

    def run(self, what: str, function: Callable[[], object]) -> None:
        """Have something done soon."""
        with self._condition:
            if self._closed or self._waiting >= _WAITING:
                _log.debug('dropped: %s', what)
                return
            self._waiting += 1
        try:
            self._executor.submit(self._run, what, function)
        except StorjError as error:
            # The pools were closed under a transfer that is just ending, or there are no threads.
            _log.debug('%s: %s', what, error)
            self._done()

    def _run(self, what: str, function: Callable[[], object]) -> None:
        try:
            if not self._closed:
                function()
        except Exception as error:
            _log.debug('%s: %s', what, error)
        finally:
            self._done()

    def _done(self) -> None:
        with self._condition:
            self._waiting -= 1
            self._condition.notify_all()

    def report(
        self, shard_hash: str, farmer: str, began: float, message: str, token: str | None = None
    ) -> None:
        """Tell the bridge how an exchange with a farmer ended (protocol reference, section 9).

        Args:
            shard_hash (str): 40 hex digits.
            farmer (str): node id.
            began (float): seconds since 1970.
            message (str): one of ExchangeReport's texts.
            token (str | None): of the farmer; proves a complaint. What went well, the farmer tells.
        """
        if not self._reports:
            return
        success = message in (ExchangeReport.SHARD_UPLOADED, ExchangeReport.SHARD_DOWNLOADED)
        who = self._bridge.email or 'anonymous'
        report = ExchangeReport(
            dataHash=shard_hash,
            reporterId=who,
            clientId=who,
            farmerId=farmer,
            exchangeStart=round(began * 1000),
            exchangeEnd=round(self._clock.wall() * 1000),
            exchangeResultCode=ExchangeReport.SUCCESS if success else ExchangeReport.FAILURE,
            exchangeResultMessage=message,
            token=None if success else token,
        )
        self.run(f'report {message}', lambda: self._send(report))

    def _send(self, report: ExchangeReport) -> None:
        profile = self._bridge.profile()
        failed = report.exchangeResultCode == ExchangeReport.FAILURE
        if profile.has_reports and (failed or profile.wants_successes):
            self._bridge.send_exchange_report(report)

    def flush(self, seconds: float) -> bool:
        """Wait until nothing is left to do, at most so many seconds; no function begins after that.

        Returns:
            bool: whether everything was done.
        """
        until = self._clock.now() + seconds
        with self._condition:
            while self._waiting and self._clock.now() < until:
                self._clock.wait(self._condition, until - self._clock.now())
            self._closed = True
            return not self._waiting


class BufferPool:
    """Buffers of one piece each, at most so many, used again and again; for all threads.

    An upload needs each shard twice: for its hash, and then, when a farmer was found for that hash,
    for the push. What fits in here is encrypted once; the rest is read and encrypted again.

    Args:
        size (int): bytes of all of them.
        piece_size (int): bytes of one.
    """

    def __init__(self, size: int, piece_size: int) -> None:
        self._piece_size = piece_size
        self._most = size // piece_size
        #: Bytes that fit in when nothing is there.
        self.size = self._most * piece_size
        self._made = 0
        self._free: list[bytearray] = []
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """Bytes that fit in now."""
        with self._lock:
            return (self._most - self._made + len(self._free)) * self._piece_size

    def take(self) -> bytearray | None:
        """Return a buffer, None if all are in use."""
        with self._lock:
            if self._free:
                return self._free.pop()
            if self._made == self._most:
                return None
            self._made += 1
        return bytearray(self._piece_size)

    def give(self, buffer: bytearray) -> None:
        """Take a buffer back; the memory is free again once all of them are."""
        with self._lock:
            self._free.append(buffer)
            # An engine that is idle holds no memory.
            if len(self._free) == self._made:
                self._free.clear()
                self._made = 0


class RateLimit:
    """A bucket of tokens, each worth one byte, that fills at the allowed rate.

    A caller that takes more than there is waits until the deficit is filled, so a piece of any
    size passes and the order of the threads does not matter.

    Args:
        rate (float | None): bytes per second; None for no limit.
        clock (Clock): time.
    """

    #: Seconds of the rate that may pass at once after a lull.
    BURST = 0.25

    def __init__(self, rate: float | None, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = 0.0
        self._filled = clock.now()

    def take(self, count: int, coordinator: Coordinator[Any]) -> None:
        """Let so many bytes pass, waiting as long as it takes; Stopped if the transfer ends."""
        if self._rate is None:
            return
        with self._lock:
            now = self._clock.now()
            grown = self._tokens + (now - self._filled) * self._rate
            self._tokens = min(grown, self._rate * self.BURST) - count
            self._filled = now
            debt = -self._tokens / self._rate
        if debt > 0:
            coordinator.pause(debt)


@dataclass
class Resources:
    """What all transfers of one engine share.

    Attributes:
        bridge (BridgeReader): the client of the bridge.
        config (TransferConfig): the limits.
        pools (Pools): the threads.
        channel_for (Callable): makes the channel to a pointer's farmer.
        clock (Clock): time and chance.
        background (BackgroundRequests): reports, and other requests without a waiting caller.
        buffers (BufferPool): memory for shards that are hashed and not pushed yet.
        upload_limit (RateLimit): of all uploads together.
        download_limit (RateLimit): of all downloads together.
        proved (set[str]): lists of shards whose sizes are right, each by its hash.
        profile (BridgeProfile | None): what the bridge understands, once an upload has asked.
    """

    bridge: BridgeReader
    config: TransferConfig
    pools: Pools
    channel_for: ChannelFactory = channel_for
    clock: Clock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        self.background = BackgroundRequests(
            self.bridge, self.pools.background, self.clock, reports=self.config.reports
        )
        self.upload_limit = RateLimit(self.config.upload_rate, self.clock)
        self.download_limit = RateLimit(self.config.download_rate, self.clock)
        self.buffers = BufferPool(self.config.buffer_size, self.config.piece_size)
        self.proved: set[str] = set()
        self.profile: BridgeProfile | None = None
        self._once = getattr(self.bridge, 'once', nullcontext)

    def note_proved(self, cut: str) -> None:
        """Remember a list of shards whose sizes are right, among the last ones."""
        # A forgotten farmer costs one more shard the next time; no order is kept for that.
        if len(self.proved) >= _PROVED:
            self.proved.clear()
        self.proved.add(cut)

    def once(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Make a request that the engine repeats, so that the client does not as well."""
        with self._once():
            return function(*args, **kwargs)


class Scope:
    """One transfer: what it shares with others, how it ends, and what it has moved.

    Whatever works for a transfer gets this one object.

    Args:
        resources (Resources): of the engine.
        coordinator (Coordinator): decides how the transfer ends, and runs its tasks.
        meter (Meter): counts what was moved.

    Attributes:
        config (TransferConfig): the limits.
        bridge (BridgeReader): the client of the bridge.
        pools (Pools): the threads.
        clock (Clock): time and chance.
    """

    def __init__(self, resources: Resources, coordinator: Coordinator[Any], meter: Meter) -> None:
        self.resources = resources
        self.coordinator = coordinator
        self.meter = meter
        self.config = resources.config
        self.bridge = resources.bridge
        self.pools = resources.pools
        self.clock = resources.clock

    def request(self, function: Callable[[], T], what: str) -> T:
        """Make a request to the bridge from within a task, repeated as the policy says."""
        policy = self.config.bridge_retry
        return self.coordinator.persist(policy, lambda: self.resources.once(function), what)

    def begin(self, function: Callable[[], T], what: str) -> Callable[[], T]:
        """Begin a request from the driver, and return what waits for its value."""
        return self.coordinator.begin(self.pools.requests, lambda: self.request(function, what))

    def ask(self, function: Callable[[], T], what: str) -> T:
        """Make a request from the driver."""
        return self.begin(function, what)()


def overdue(config: TransferConfig) -> FarmerUnreachableError:
    """Return the error of a farmer that was interrupted as its shard had no time left."""
    return FarmerUnreachableError(
        message=f'the shard took longer than the {config.shard_deadline:g} s allowed'
    )


def describe(error: BaseException) -> str:
    """Return a cause in a few words, for the message of a transfer's error."""
    if isinstance(error, StorjError):
        return str(getattr(error, 'message', error))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f'{type(error).__name__}: {error}'
