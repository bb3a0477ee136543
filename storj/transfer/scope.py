"""What a transfer works with: its own scope, and the resources that all of one engine share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

from storj.exception import FarmerUnreachableError, StorjError
from storj.model import ExchangeReport
from storj.transfer.bridge import BridgeReader
from storj.transfer.channel import Channel, channel_for
from storj.transfer.config import TransferConfig
from storj.transfer.coordinator import Clock, Coordinator, SystemClock
from storj.transfer.progress import Meter
from storj.transfer.threads import Pools

__all__ = (
    'BackgroundRequests',
    'BufferPool',
    'ChannelFactory',
    'RateLimit',
    'Resources',
    'Scope',
    'describe',
    'overdue',
)

T = TypeVar('T')

# Lists of shards that are remembered, each by its hash.
_PROVED = 1000

_log = logging.getLogger(__name__)

ChannelFactory = Callable[[Any], Channel]


#: Requests that may wait; each is a small record.
_WAITING = 1000


class BackgroundRequests:
    """What is done for transfers without anybody waiting for it: reports, dropped frames.

    Best effort: a failure is logged at DEBUG, and beyond a bound of waiting requests new ones are
    dropped, because a bridge that answers slowly must not fill the memory.

    Args:
        bridge (BridgeReader): who is told.
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

    def report(self, shard_hash: str, farmer: str, began: float, message: str) -> None:
        """Tell the bridge how an exchange with a farmer ended (protocol reference, section 9).

        Args:
            shard_hash (str): 40 hex digits.
            farmer (str): node id.
            began (float): seconds since 1970.
            message (str): one of ExchangeReport's texts.
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
        )
        self.run(f'report {message}', lambda: self._send(report))

    def _send(self, report: ExchangeReport) -> None:
        if self._bridge.profile().has_reports:
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

    Whoever takes more than there is goes into debt and waits until it is paid, so a piece of any
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
        background (BackgroundRequests): reports, and whatever else nobody waits for.
        buffers (BufferPool): memory for shards that are hashed and not pushed yet.
        upload_limit (RateLimit): of all uploads together.
        download_limit (RateLimit): of all downloads together.
        proved (set[str]): lists of shards whose sizes are right, each by its hash.
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
        self._once = getattr(self.bridge, 'once', nullcontext)

    def note_proved(self, cut: str) -> None:
        """Remember a list of shards whose sizes are right, among the last ones."""
        # Whoever is forgotten costs one shard more the next time; no order is kept for that.
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
