"""Whether the wall clock can be believed.

A wall clock may be years off, and is set while programs run: by NTP after the start of a machine,
by hand, by the end of a suspension. Nothing that cannot be undone is decided by one reading of it.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ('TOLERANCE', 'StepWatch')

#: Seconds by which both clocks may part between two looks; more than drift, fewer than a mistake.
TOLERANCE = 30.0


class StepWatch:
    """Tells when the wall clock has been set, which the monotonic clock does not follow.

    Args:
        clock (Callable[[], float]): seconds since 1970.
        monotonic (Callable[[], float]): seconds that nobody sets.
        tolerance (float): seconds by which both may part between two looks.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        tolerance: float = TOLERANCE,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._tolerance = tolerance
        self._difference = clock() - monotonic()

    def stepped(self) -> float:
        """Return the seconds by which the clock was set forward since the last look.

        Negative if it was set back; 0.0 if it was not set. A machine that slept counts as well: its
        wall clock went on alone.
        """
        difference = self._clock() - self._monotonic()
        step, self._difference = difference - self._difference, difference
        return step if abs(step) > self._tolerance else 0.0
