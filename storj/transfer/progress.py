"""How far a transfer is: absolute counts that a retry takes back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from storj.exception import TransferCancelled
from storj.transfer.coordinator import Clock

__all__ = ('Meter', 'Progress', 'ProgressCallback')

#: Seconds between two calls of a callback while only bytes change; a screen shows no more.
_INTERVAL = 0.1


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
        # Apart from the lock of the counts: a slow callback holds up nobody who only counts.
        with self._calling:
            self._called = self._clock.now()
            self._callback(self.snapshot())
