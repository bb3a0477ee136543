"""What all transfers of one engine share: the bridge, the pools, the limits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

from storj.exception import FarmerUnreachableError, StorjError
from storj.transfer.bridge import BridgeReader
from storj.transfer.channel import Channel, channel_for
from storj.transfer.clock import Clock, SystemClock
from storj.transfer.config import TransferConfig
from storj.transfer.coordinator import Coordinator, SerialExecutor
from storj.transfer.errands import Errands
from storj.transfer.limit import RateLimit
from storj.transfer.progress import Meter
from storj.transfer.retry import persist
from storj.transfer.shelf import Shelf
from storj.transfer.threads import OwnThreads, ThreadPool

__all__ = ('Context', 'Job', 'Pools')

T = TypeVar('T')

# Lists of shards that are remembered, each by its hash.
_PROVED = 1000

ChannelFactory = Callable[[Any], Channel]


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
        errands (Executor): requests that nobody waits for.
        sources (Executor): sources that may keep their reader waiting for ever.
        member (threading.local): has ``inside`` in their own threads.
    """

    drivers: Executor
    shards: Executor
    hashing: Executor
    requests: Executor
    errands: Executor
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
            errands=pool('errand', 2, linger=0),
            sources=OwnThreads(),
            member=member,
        )

    @classmethod
    def serial(cls) -> Pools:
        """Make pools that run everything in the caller's thread."""
        drivers, shards, hashing, requests, errands, sources = (SerialExecutor() for _ in range(6))
        return cls(drivers, shards, hashing, requests, errands, sources)

    @property
    def inside(self) -> bool:
        """Whether the calling thread is one of them."""
        return hasattr(self.member, 'inside')

    def close(self) -> None:
        """Wait for every thread to end; tasks that have not begun never do.

        One of the threads itself, in the callback of a transfer say, does not wait.
        """
        wait = not self.inside
        for pool in (self.drivers, self.shards, self.hashing, self.requests, self.errands):
            pool.shutdown(wait=wait, cancel_futures=True)


@dataclass
class Context:
    """What all transfers of one engine share.

    Attributes:
        bridge (BridgeReader): the client of the bridge.
        config (TransferConfig): the limits.
        pools (Pools): the threads.
        channel_for (Callable): makes the channel to a pointer's farmer.
        clock (Clock): time and chance.
    """

    bridge: BridgeReader
    config: TransferConfig
    pools: Pools
    channel_for: ChannelFactory = channel_for
    clock: Clock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        self.errands = Errands(
            self.bridge, self.pools.errands, self.clock, reports=self.config.reports
        )
        self.upload_limit = RateLimit(self.config.upload_rate, self.clock)
        self.download_limit = RateLimit(self.config.download_rate, self.clock)
        self.shelf = Shelf(self.config.shelf_size, self.config.piece_size)
        self.proved: set[str] = set()
        self._once = getattr(self.bridge, 'once', nullcontext)

    def note_proved(self, cut: str) -> None:
        """Remember a list of shards whose sizes are right, among the last ones."""
        if len(self.proved) >= _PROVED:
            self.proved.clear()
        self.proved.add(cut)

    def once(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Make a request that the engine repeats, so that the client does not as well."""
        with self._once():
            return function(*args, **kwargs)


class Job:
    """What uploads and downloads have in common: requests that are repeated, failures that count.

    Args:
        context (Context): of the engine.
        coordinator (Coordinator): of the transfer.
        meter (Meter): of the transfer.
    """

    def __init__(self, context: Context, coordinator: Coordinator[Any], meter: Meter) -> None:
        self.context = context
        self.config = context.config
        self.bridge = context.bridge
        self.coordinator = coordinator
        self.meter = meter

    def request(self, function: Callable[[], T], what: str) -> T:
        """Make a request to the bridge from within a task, repeated as the policy says."""
        policy = self.config.bridge_retry
        return persist(self.coordinator, policy, lambda: self.context.once(function), what=what)

    def begin(self, function: Callable[[], T], what: str) -> Callable[[], T]:
        """Begin a request from the driver, and return what waits for its value."""
        return self.coordinator.begin(
            self.context.pools.requests, lambda: self.request(function, what)
        )

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
