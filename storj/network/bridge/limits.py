"""How often one may ask: what costs the bridge much, always; everything, when that is switched on.

Hashing a password takes tens of milliseconds and 16 MiB, a message stays on the disk. Those calls
have limits that no honest program reaches. Rates as on the public bridge, for every route, are off
by default, so that a local network can be used without limits (protocol reference, section 2.6).

Addresses are those of connections; behind a proxy all clients are one.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from storj.network.node.wire import Refusal

__all__ = ('MINUTE', 'AccountLimits', 'RateLimits', 'Windows')

#: Seconds of the window that most limits have.
MINUTE = 60.0
_HOUR = 3600.0
_DEFAULT = 1000
_CONTACTS = 200
_ACCOUNTS = 5
_ACCOUNT_ROUTES = ('/users', '/activations', '/deactivations', '/resets')
# Keys that are counted at once; the oldest are forgotten first.
_COUNTERS = 100_000
# Wrong passwords of an address, whatever the account, for each that one account has.
_ACCOUNTS_AT_ONCE = 20


@dataclass
class _Counter:
    ends: float
    used: int = 0


class Windows:
    """Counts by key, in windows of one length; forgets the oldest of very many keys.

    Args:
        clock (Callable[[], float]): monotonic seconds.
        seconds (float): length of a window, which begins with a key's first call.
    """

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._counters: OrderedDict[tuple[str, ...], _Counter] = OrderedDict()

    def counter(self, key: tuple[str, ...]) -> _Counter:
        """Return the counter of the window that a key is in."""
        now = self._clock()
        counter = self._counters.get(key)
        if counter is None or counter.ends <= now:
            self._counters.pop(key, None)
            counter = self._counters[key] = _Counter(now + self._seconds)
            while len(self._counters) > _COUNTERS:
                self._counters.popitem(last=False)
        return counter

    def refuse_beyond(self, key: tuple[str, ...], limit: int) -> None:
        """Refuse if a key has reached its limit; 0 is none."""
        counter = self.counter(key)
        if limit and counter.used >= limit:
            raise self.refusal(counter)

    def refusal(self, counter: _Counter) -> Refusal:
        """Return the refusal of whoever has asked too often."""
        headers = {'Retry-After': f'{counter.ends - self._clock():.3f}'}
        return Refusal(429, 'Too Many Requests', headers)


class AccountLimits:
    """Limits of what costs the bridge much; each 0 for none.

    Args:
        clock (Callable[[], float]): monotonic seconds.
        calls (int): registrations, activations, deactivations and resets of an address, a minute.
        registrations (int): new accounts, an hour, whoever asks.
        mails (int): messages to an account, an hour.
        wrong_passwords (int): of an address for one account, a minute; for all its accounts 20
            times as many. A password that was found right lately is taken nevertheless.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        calls: int,
        registrations: int,
        mails: int,
        wrong_passwords: int,
    ) -> None:
        self._calls = calls
        self._registrations = registrations
        self._mails = mails
        self._wrong_passwords = wrong_passwords
        self._by_minute = Windows(clock, MINUTE)
        self._by_hour = Windows(clock, _HOUR)

    def count_call(self, address: str) -> None:
        """Count a call about an account.

        Raises:
            Refusal: If the limit is reached (429, with ``Retry-After``).
        """
        self._by_minute.refuse_beyond(('call', address), self._calls)
        self._by_minute.counter(('call', address)).used += 1

    def count_registration(self) -> None:
        """Count a new account.

        Raises:
            Refusal: If the limit is reached (429, with ``Retry-After``).
        """
        self._by_hour.refuse_beyond(('registration',), self._registrations)
        self._by_hour.counter(('registration',)).used += 1

    def count_mail(self, email: str) -> None:
        """Count a message to an account.

        Raises:
            Refusal: If the limit is reached (429, with ``Retry-After``).
        """
        self._by_hour.refuse_beyond(('mail', email), self._mails)
        self._by_hour.counter(('mail', email)).used += 1

    def count_password(self, address: str, email: str) -> Callable[[], None]:
        """Count a password as a wrong one before it is checked: others may be sent meanwhile.

        Returns:
            Callable[[], None]: takes it back, for a password that was found right.

        Raises:
            Refusal: If the limit is reached (429, with ``Retry-After``).
        """
        limit = self._wrong_passwords
        of_account, of_all = ('password', address, email), ('password', address)
        self._by_minute.refuse_beyond(of_account, limit)
        self._by_minute.refuse_beyond(of_all, _ACCOUNTS_AT_ONCE * limit)
        counters = [self._by_minute.counter(key) for key in (of_account, of_all)]
        for counter in counters:
            counter.used += 1

        def take_back() -> None:
            for counter in counters:
                counter.used -= 1

        return take_back


class RateLimits:
    """Counts requests in windows of a minute, by client address, route and method.

    Args:
        clock (Callable[[], float]): seconds since 1970.
        monotonic (Callable[[], float]): seconds that nobody sets.
    """

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._windows = Windows(monotonic, MINUTE)

    def count(self, address: str, route: str, method: str) -> dict[str, str]:
        """Count a request.

        Args:
            address (str): of the client.
            route (str): the pattern that the path matched.
            method (str): of the request.

        Returns:
            dict[str, str]: headers for the answer.

        Raises:
            Refusal: If the limit is reached (429, with ``Retry-After``).
        """
        counter = self._windows.counter((address, route, method))
        limit = _limit(route)
        counter.used += 1
        headers = {
            'X-RateLimit-Limit': str(limit),
            'X-RateLimit-Remaining': str(max(0, limit - counter.used)),
            'X-RateLimit-Reset': str(math.ceil(self._clock() + counter.ends - self._monotonic())),
        }
        if counter.used > limit:
            refusal = self._windows.refusal(counter)
            refusal.headers.update(headers)
            raise refusal
        return headers


def _limit(route: str) -> int:
    if route.startswith(_ACCOUNT_ROUTES):
        return _ACCOUNTS
    return _CONTACTS if route.startswith('/contacts') else _DEFAULT
