"""Which farmers get the shards of one file.

No farmer gets two shards of a file while others are free, so that one lost farmer costs one shard.
The bridge picks the farmers; a client can only exclude some. So the engine reads the bridge's list
of contacts once per upload and excludes, besides the farmers that failed, those that have more
shards of the file than the least loaded of the list. Two requests at the same moment may still get
the same farmer; the second one asks again, which replaces the pointer in the frame.

Bridges before 7.6 hang for 90 s when they find no farmer (protocol reference, section 10.3), and a
list of contacts also names farmers that have gone. There at least half of the listed farmers stay
allowed; if a request with exclusions finds nobody all the same, the file's further requests exclude
only farmers that failed.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from storj.api import BridgeProfile
from storj.exception import NO_FARMER, StorjBridgeApiError, StorjError

__all__ = ('FarmerSelection', 'answers_at_once', 'check_pointer', 'finds_nobody', 'node_of')

#: The first release that says at once that there is no farmer.
_ANSWERS_AT_ONCE = (7, 6, 0)


def answers_at_once(profile: BridgeProfile) -> bool:
    """Return whether a bridge says without delay that it finds no farmer (7.6)."""
    return profile.version is not None and profile.version >= _ANSWERS_AT_ONCE


def node_of(pointer: Mapping[str, Any] | Any) -> str:
    """Return the node id of a pointer's farmer, the empty text if it has none."""
    farmer = pointer.get('farmer')
    node = farmer.get('nodeID') if isinstance(farmer, Mapping) else None
    return node if isinstance(node, str) else ''


def check_pointer(pointer: object) -> Mapping[str, Any]:
    """Return the answer to a contract if it names a farmer and a token.

    Raises:
        StorjBridgeApiError: if the bridge left something out.
    """
    if not isinstance(pointer, Mapping):
        raise StorjBridgeApiError('the bridge answered a contract with something else')
    farmer = pointer.get('farmer')
    if not isinstance(farmer, Mapping) or not pointer.get('token') or not node_of(pointer):
        raise StorjBridgeApiError('the bridge answered a contract without farmer or token')
    return pointer


def finds_nobody(error: StorjError) -> bool:
    """Return whether a bridge that makes no contract says that it found no farmer.

    A silent bridge may also have missed an offer, or be starting again; a 503 may be of a gateway
    whose bridge is busy, as original bridges send a 400; any other text tells of something else.
    """
    if not isinstance(error, StorjBridgeApiError) or error.code == 503:
        return False
    return NO_FARMER.search(error.message) is not None


class FarmerSelection:
    """The farmers of one file; safe to use from all threads.

    Args:
        profile (BridgeProfile): of the bridge.
    """

    def __init__(self, profile: BridgeProfile) -> None:
        self._lock = threading.Lock()
        self._limit = profile.exclude_limit
        self._at_once = answers_at_once(profile)
        self._known: set[str] = set()
        self._used: Counter[str] = Counter()
        self._failed: dict[str, None] = {}
        self._refused: set[str] = set()

    def know(self, nodes: Iterable[str]) -> None:
        """Take note of the farmers that the bridge lists."""
        with self._lock:
            self._known = set(nodes)

    def give_up(self) -> None:
        """Exclude from now on only farmers that failed: the bridge finds no other."""
        with self._lock:
            self._known = set()

    @property
    def used(self) -> int:
        """How many farmers have a shard of the file, or are about to get one."""
        with self._lock:
            return len(self._used)

    @property
    def failed(self) -> int:
        """How many farmers failed."""
        with self._lock:
            return len(self._failed)

    def exclusions(self) -> tuple[list[str], bool]:
        """Return the farmers to exclude now, and whether any of them did not fail."""
        with self._lock:
            failed = list(self._failed)[-self._limit :]
            loaded = self._loaded()[: self._limit - len(failed)]
            return failed + loaded, bool(loaded)

    def _loaded(self) -> list[str]:
        """Return the farmers that have their share while another has not."""
        free = self._known - self._failed.keys()
        if len(free) < 2:
            return []
        least = min(self._used[node] for node in free)
        loaded = [node for node, count in self._used.items() if count > least]
        left = len(free.difference(loaded))
        enough = left >= 1 if self._at_once else 2 * left >= len(self._known)
        return [node for node in loaded if node not in self._failed] if enough else []

    def take(self, node: str, *, force: bool) -> bool:
        """Reserve a farmer for a shard; False if it has its share while another is free.

        Args:
            node (str): whom the bridge picked.
            force (bool): take it whatever it has.
        """
        with self._lock:
            if not force and (node in self._failed or node in self._loaded()):
                return False
            self._used[node] += 1
            return True

    def keep(self, node: str) -> None:
        """Count a shard that the farmer already has, of an upload that goes on."""
        with self._lock:
            self._used[node] += 1

    def has_failed(self, node: str) -> bool:
        """Return whether a farmer is not to be asked again."""
        with self._lock:
            return node in self._failed

    def drop(self, node: str, *, failed: bool) -> None:
        """Give a reservation back, and remember if the farmer is not to be asked again."""
        with self._lock:
            self._used[node] -= 1
            if self._used[node] <= 0:
                del self._used[node]
            if failed:
                self._failed[node] = None

    def refuses(self, node: str) -> bool:
        """Note that a farmer refused its token; True if it did so before.

        Bridges with cached offers hand out a token twice (protocol reference, section 10.14), which
        is not the farmer's fault: it gets a second chance.
        """
        with self._lock:
            again = node in self._refused
            self._refused.add(node)
            return again
