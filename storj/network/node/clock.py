"""Whether the wall clock can be trusted.

A wall clock may be years off, and is set while programs run: by NTP after the start of a machine,
by hand, by the end of a suspension. Nothing that cannot be undone is decided by one reading of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, SQLColumnExpression

#: Seconds by which both clocks may part between two looks; more than drift, fewer than a mistake.
TOLERANCE = 30.0

#: Milliseconds by which two clocks may differ, or one from what it was before it was set.
CLOCK_SKEW = 300_000


class StepWatch:
    """Tells when the wall clock has been set, which the monotonic clock does not follow.

    Args:
        clock (Callable[[], float]): seconds since 1970.
        monotonic (Callable[[], float]): seconds that nobody sets.
    """

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._difference = clock() - monotonic()
        self._since = monotonic()

    def stepped(self) -> float:
        """Return the seconds by which the clock was set forward since the last look.

        Negative if it was set back; 0.0 if it was not set. A machine that slept counts as well: its
        wall clock went on alone.
        """
        difference = self._clock() - self._monotonic()
        step, self._difference = difference - self._difference, difference
        return step if abs(step) > TOLERANCE else 0.0

    def calm(self) -> float:
        """Return the seconds for which the clock has not been set, the start of the watch included.

        Looks by itself, so :meth:`stepped` tells nothing of what this has seen.
        """
        if self.stepped():
            self._since = self._monotonic()
        return self._monotonic() - self._since


@overload
def lasts(begun: float, span: float, now: float) -> bool: ...


@overload
def lasts(begun: SQLColumnExpression[Any], span: Any, now: Any) -> ColumnElement[bool]: ...


def lasts(begun: Any, span: Any, now: Any) -> Any:
    """Return whether a time has begun and is not over, by times that were written down.

    One that begins in the future was written down before the clock was set back. By more than
    :data:`CLOCK_SKEW` it counts as over; else it would last for as long as the clock was ahead.

    Args:
        begun (float | ColumnElement): its begin in milliseconds; a column makes this a condition of
            the database.
        span (float): its length in milliseconds.
        now (float): the time in milliseconds.
    """
    return (begun <= now + CLOCK_SKEW) & (begun > now - span)
