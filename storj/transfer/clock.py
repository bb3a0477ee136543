"""Time and chance, as the engine sees them: handed in, so that tests wait for nothing.

Every wait of the engine is a wait on a condition, which a cancelled transfer interrupts; there is
no bare ``sleep`` anywhere.
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import Protocol

__all__ = ('Clock', 'SystemClock')


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
        # Whoever asks for more than locks can count to may as well wait for ever.
        condition.wait(None if seconds is None else min(seconds, threading.TIMEOUT_MAX))

    def random(self) -> float:
        """Return a number in [0, 1) from the system's source."""
        return secrets.randbelow(1 << 32) / (1 << 32)
