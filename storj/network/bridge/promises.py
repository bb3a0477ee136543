"""Space that farmers reserve for shards that have not begun to arrive, by account.

A contract makes a farmer reserve space. An account that asks for many and sends nothing would take
it from all others. So one that registered itself may have a limited number open at a time, and at
most half of what the farmers offer. A promise ends when the farmer has the shard, with its
frame, when another farmer takes its place, or after ten minutes; farmers forget theirs in the same
time. They are kept in memory: after a start of the bridge there are none.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ('PROMISE_LIFE', 'Promise', 'Promises')

#: Seconds for which a promise is kept without a byte.
PROMISE_LIFE = 600.0
# Remembered until their contracts are ended; beyond that, farmers release the space by themselves.
_GIVEN_UP = 10_000


@dataclass(eq=False)
class Promise:
    """One shard that a farmer waits for, or that a farmer is looked for.

    Attributes:
        account (str): e-mail of who asked for it.
        frame (str): 24 hex digits.
        index (int): of the shard in its frame.
        shard_hash (str): 40 hex digits.
        size (int): bytes.
        made (float): seconds of the monotonic clock.
        node_id (str | None): of the farmer, once there is one.
    """

    account: str
    frame: str
    index: int
    shard_hash: str
    size: int
    made: float
    node_id: str | None = None


class Promises:
    """The open promises of all accounts.

    Args:
        clock (Callable[[], float]): seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._given_up: deque[Promise] = deque(maxlen=_GIVEN_UP)
        # Each in the order in which they were made.
        self._by_account: defaultdict[str, dict[Promise, None]] = defaultdict(dict)
        self._by_frame: defaultdict[str, dict[Promise, None]] = defaultdict(dict)
        self._by_shard: defaultdict[str, dict[Promise, None]] = defaultdict(dict)

    def open(self, account: str) -> list[Promise]:
        """Return the promises of an account, the oldest first."""
        limit = self._clock() - PROMISE_LIFE
        promises = list(self._by_account.get(account, ()))
        self._end(promise for promise in promises if promise.made <= limit)
        return list(self._by_account.get(account, ()))

    def make(self, account: str, frame: str, index: int, shard_hash: str, size: int) -> Promise:
        """Note that a farmer is being looked for; its node id is to be filled in."""
        promise = Promise(account, frame, index, shard_hash, size, self._clock())
        for key, promises in self._indexes(promise):
            promises[key][promise] = None
        return promise

    def end(self, promise: Promise) -> None:
        """Forget a promise; nothing happens if it is forgotten already."""
        self._end([promise])

    def keep(self, shard_hash: str, node_id: str) -> None:
        """Forget the promises of a farmer that has the shard now."""
        kept = self._by_shard.get(shard_hash, ())
        self._end([promise for promise in kept if promise.node_id == node_id])

    def give_up(
        self, frame: str, index: int | None = None, *, besides: Promise | None = None
    ) -> None:
        """Forget promises that nobody wants any more; their contracts are to end.

        Args:
            frame (str): whose.
            index (int | None): of the shard; None for all of the frame.
            besides (Promise | None): one that stays.
        """
        unwanted = [
            promise
            for promise in self._by_frame.get(frame, ())
            if index in (None, promise.index) and promise is not besides
        ]
        self._end(unwanted)
        self._given_up.extend(promise for promise in unwanted if not self._wanted(promise))

    def given_up(self) -> list[Promise]:
        """Return the promises that have been given up since the last call."""
        promises, self._given_up = self._given_up, deque(maxlen=_GIVEN_UP)
        return [promise for promise in promises if not self._wanted(promise)]

    def _wanted(self, promise: Promise) -> bool:
        """Return whether somebody waits for the same shard to reach the same farmer."""
        # Two uploads of the same bytes share one contract per farmer: it must not end for one of
        # them.
        others = self._by_shard.get(promise.shard_hash, ())
        return promise.node_id is None or any(other.node_id == promise.node_id for other in others)

    def _end(self, promises: Iterable[Promise]) -> None:
        for promise in promises:
            for key, index in self._indexes(promise):
                index[key].pop(promise, None)
                if not index[key]:
                    del index[key]

    def _indexes(
        self, promise: Promise
    ) -> tuple[tuple[str, defaultdict[str, dict[Promise, None]]], ...]:
        return (
            (promise.account, self._by_account),
            (promise.frame, self._by_frame),
            (promise.shard_hash, self._by_shard),
        )
