"""When farmers answered last, by a clock that nobody sets.

A farmer's copies count as lost when it has not answered for long. The wall clock may be set while
the bridge runs, and the time in which the bridge itself was off must not count against
farmers; so this is kept in memory, and starts again with the bridge. Conclusions are in the
database.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ('Presence',)

#: Seconds that a farmer counts as leaving after it has asked to leave; it asks every second.
_LEAVING = 60.0


class Presence:
    """Which farmers have answered, have announced themselves, or are leaving.

    Args:
        clock (Callable[[], float]): seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._heard: dict[str, float] = {}
        self._announced: set[str] = set()
        self._leaving: dict[str, float] = {}

    def heard(self, node_id: str) -> None:
        """Note that a farmer has answered the bridge."""
        self._heard[node_id] = self._clock()

    def silence(self, node_id: str) -> float:
        """Return the seconds since a farmer's last answer, or since the start of the bridge."""
        # After a start, every farmer has the full time to answer.
        return self._clock() - self._heard.get(node_id, self._since)

    def announce(self, node_id: str) -> None:
        """Note that a farmer has announced its address; it has not been called there yet."""
        self._announced.add(node_id)

    def announced(self) -> set[str]:
        """Return the farmers that have announced themselves since the last call."""
        announced, self._announced = self._announced, set()
        return announced

    def leave(self, node_id: str) -> None:
        """Note that a farmer is about to leave permanently."""
        self._leaving[node_id] = self._clock()

    def leaving(self) -> set[str]:
        """Return the farmers whose copies will be gone soon."""
        limit = self._clock() - _LEAVING
        self._leaving = {node: asked for node, asked in self._leaving.items() if asked > limit}
        return set(self._leaving)

    def forget(self, node_id: str) -> None:
        """Forget a farmer that has left."""
        self._heard.pop(node_id, None)
        self._leaving.pop(node_id, None)
        self._announced.discard(node_id)
