"""How often one client may ask."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ('RateLimit',)

_MINUTE = 60.0
_CLIENTS = 10_000


class RateLimit:
    """Counts requests by client, in windows of a minute; forgets the oldest of many clients.

    Args:
        per_minute (int): requests of one client that are let through.
        clock (Callable[[], float]): seconds; monotonic.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait(self, client: str) -> int:
        """Count a request; return the seconds to wait, 0 if it is let through."""
        now = self._clock()
        begun, count = self._windows.get(client, (now, 0))
        if now - begun >= _MINUTE:
            begun, count = now, 0
        if count >= self._per_minute:
            return max(1, round(begun + _MINUTE - now))
        self._windows[client] = (begun, count + 1)
        self._windows.move_to_end(client)
        while len(self._windows) > _CLIENTS:
            self._windows.popitem(last=False)
        return 0
