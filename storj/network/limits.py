"""Request rates as on the public bridge: per minute, by client address, route and method.

Off by default: a local network is there to be used hard (protocol reference, section 2.6).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from storj.network.wire import Refusal

__all__ = ('RateLimits',)

_WINDOW = 60.0
_DEFAULT = 1000
_CONTACTS = 200
_ACCOUNTS = 5
_ACCOUNT_ROUTES = ('/users', '/activations', '/deactivations', '/resets')
# Addresses times routes that are counted at once; the oldest are forgotten first.
_COUNTERS = 100_000


@dataclass
class _Counter:
    ends: float
    used: int = 0


class RateLimits:
    """Counts requests in windows of a minute.

    Args:
        clock (Callable[[], float]): seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counters: OrderedDict[tuple[str, str, str], _Counter] = OrderedDict()

    def count(self, address: str, route: str, method: str) -> dict[str, str]:
        """Count a request.

        Args:
            address (str): of the client.
            route (str): the pattern that the path matched.
            method (str): of the request.

        Returns:
            dict[str, str]: headers for the answer.

        Raises:
            Refusal: 429, with ``Retry-After``.
        """
        now = self._clock()
        key = (address, route, method)
        counter = self._counters.get(key)
        if counter is None or counter.ends <= now:
            self._counters.pop(key, None)
            counter = self._counters[key] = _Counter(now + _WINDOW)
            while len(self._counters) > _COUNTERS:
                self._counters.popitem(last=False)
        limit = _limit(route)
        counter.used += 1
        headers = {
            'X-RateLimit-Limit': str(limit),
            'X-RateLimit-Remaining': str(max(0, limit - counter.used)),
            'X-RateLimit-Reset': str(math.ceil(counter.ends)),
        }
        if counter.used > limit:
            headers['Retry-After'] = f'{counter.ends - now:.3f}'
            raise Refusal(429, 'Too Many Requests', headers)
        return headers


def _limit(route: str) -> int:
    if route.startswith(_ACCOUNT_ROUTES):
        return _ACCOUNTS
    return _CONTACTS if route.startswith('/contacts') else _DEFAULT
