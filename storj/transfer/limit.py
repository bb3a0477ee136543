"""A bound on bytes per second, shared by everything that moves in one direction."""

from __future__ import annotations

import threading
from typing import Any

from storj.transfer.clock import Clock
from storj.transfer.coordinator import Coordinator

__all__ = ('RateLimit',)


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
