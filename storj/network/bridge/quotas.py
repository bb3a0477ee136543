"""Quotas on the bytes that an account stores and fetches, and limits on the rate of calls.

Quotas are off by default, so that a local network has no limits. With quotas a bridge refuses
with 420, as the public one did with accounts of its free tier (protocol reference, section 2.6).
Bytes count when a farmer has been found for them, whether or not they move after that; what is
under way when the quota is reached still passes.

Expensive calls are always limited, beyond what an honest program needs: hashing a password takes
tens of milliseconds and 32 MiB, a message stays on the disk. The limits of the public bridge, for
every route, are off by default (section 2.6). Addresses are those of connections; behind a
proxy all clients are one.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Literal

from sqlalchemy import BigInteger, Connection, bindparam, case, insert, select, update

from storj.network.bridge.database import User, Volume
from storj.network.node.clock import lasts
from storj.network.node.wire import Refusal

__all__ = (
    'FREE_DOWNLOAD',
    'FREE_UPLOAD',
    'MINUTE',
    'AccountLimits',
    'Direction',
    'Quota',
    'RateLimits',
    'Windows',
    'check_volume',
    'count_volume',
)

Direction = Literal['upload', 'download']

#: Seconds of the window that most limits have.
MINUTE = 60.0
_HOUR = 3600.0
#: Milliseconds of the windows of volumes, in the order of a quota's fields.
_WINDOWS = tuple(hours * 3600 * 1000 for hours in (1, 24, 30 * 24))
# Requests a minute of one address for one route, where those of the public bridge are on.
_DEFAULT = 1000
_CONTACTS = 200
_ACCOUNTS = 5
_ACCOUNT_ROUTES = ('/users', '/activations', '/deactivations', '/resets')
# Keys that are counted at once; the oldest are forgotten first.
_COUNTERS = 100_000
# Wrong passwords of an address, whatever the account, for each that one account has.
_ACCOUNTS_AT_ONCE = 20


@dataclass(frozen=True)
class Quota:
    """Bytes in one direction.

    A window begins with the first byte after the end of the one before. None is no limit.

    Attributes:
        hour (int | None): in an hour.
        day (int | None): in a day.
        month (int | None): in thirty days.

    Raises:
        ValueError: If a limit is negative.
    """

    hour: int | None = None
    day: int | None = None
    month: int | None = None

    def __post_init__(self) -> None:
        if any(limit is not None and limit < 0 for limit in astuple(self)):
            raise ValueError('a quota is a number of bytes')


#: What the public bridge gave for nothing.
FREE_UPLOAD = Quota(3_000_000_000, 10_000_000_000, 60_000_000_000)
FREE_DOWNLOAD = Quota(9_000_000_000, 30_000_000_000, 180_000_000_000)


_NOW = bindparam('now', type_=BigInteger)
_USED = (
    select(Volume.window, Volume.begun, Volume.bytes)
    .join(User, User.email == Volume.user)
    .where(
        Volume.user == bindparam('email'),
        Volume.direction == bindparam('kind'),
        User.free_tier.is_(True),
        lasts(Volume.begun, Volume.window, _NOW),
    )
)
_STILL = lasts(Volume.begun, Volume.window, _NOW)
_COUNT = (
    update(Volume)
    .where(Volume.user == bindparam('email'), Volume.direction == bindparam('kind'))
    .values(
        bytes=bindparam('more', type_=BigInteger) + case((_STILL, Volume.bytes), else_=0),
        begun=case((_STILL, Volume.begun), else_=_NOW),
    )
)
_NEW_WINDOWS = insert(Volume)


def check_volume(
    connection: Connection,
    quota: Quota | None,
    email: str,
    direction: Direction,
    now: int,
    text: str,
) -> None:
    """Refuse an account that has used its quota up.

    Args:
        connection (Connection): in a transaction.
        quota (Quota | None): the limits; None for none.
        email (str): of the account.
        direction (Direction): which of its volumes.
        now (int): milliseconds since 1970.
        text (str): what cannot be done.

    Raises:
        Refusal: If the quota is reached (420, with ``Retry-After``).
    """
    if quota is None:
        return
    limits = dict(zip(_WINDOWS, astuple(quota), strict=True))
    used = connection.execute(_USED, {'email': email, 'kind': direction, 'now': now})
    waits = [
        begun + window - now
        for window, begun, size in used
        if (limit := limits.get(window)) is not None and size >= limit
    ]
    if waits:
        headers = {'Retry-After': str(-(-max(waits) // 1000))}
        raise Refusal(420, f'{text}, transfer rate limit reached.', headers)


def count_volume(
    connection: Connection,
    quota: Quota | None,
    email: str,
    direction: Direction,
    size: int,
    now: int,
) -> None:
    """Count bytes of an account in all windows.

    Args:
        connection (Connection): in a transaction.
        quota (Quota | None): nothing is counted without one.
        email (str): of the account.
        direction (Direction): which of its volumes.
        size (int): bytes.
        now (int): milliseconds since 1970.
    """
    if quota is None or not size:
        return
    of_account = {'email': email, 'kind': direction}
    # All windows of an account are made at once, by its first bytes.
    if not connection.execute(_COUNT, {**of_account, 'more': size, 'now': now}).rowcount:
        first = {'user': email, 'direction': direction, 'begun': now, 'bytes': size}
        connection.execute(_NEW_WINDOWS, [{**first, 'window': window} for window in _WINDOWS])


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

    def counter(self, key: tuple[str, ...], limit: int = 0) -> _Counter:
        """Return the counter of the window that a key is in.

        Raises:
            Refusal: If it has reached the limit (429); 0 is none.
        """
        now = self._clock()
        counter = self._counters.get(key)
        if counter is None or counter.ends <= now:
            self._counters.pop(key, None)
            counter = self._counters[key] = _Counter(now + self._seconds)
            while len(self._counters) > _COUNTERS:
                self._counters.popitem(last=False)
        if limit and counter.used >= limit:
            raise self.refusal(counter)
        return counter

    def refusal(self, counter: _Counter) -> Refusal:
        """Return the refusal for a client that has asked too often."""
        headers = {'Retry-After': f'{counter.ends - self._clock():.3f}'}
        return Refusal(429, 'Too Many Requests', headers)


class AccountLimits:
    """Limits of what costs the bridge much; each 0 for none.

    All ``count_`` methods raise a ``Refusal`` (429, with ``Retry-After``) at the limit.

    Args:
        clock (Callable[[], float]): monotonic seconds.
        calls (int): registrations, activations, deactivations and resets of an address, a minute.
        registrations (int): new accounts an hour, of all clients.
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
        """Count a call about an account."""
        self._by_minute.counter(('call', address), self._calls).used += 1

    def count_registration(self) -> None:
        """Count a new account."""
        self._by_hour.counter(('registration',), self._registrations).used += 1

    def count_mail(self, email: str) -> None:
        """Count a message to an account."""
        self._by_hour.counter(('mail', email), self._mails).used += 1

    def count_password(self, address: str, email: str) -> Callable[[], None]:
        """Count a password as a wrong one before it is checked: others may be sent meanwhile.

        Returns:
            Callable[[], None]: takes it back, for a password that was found right.
        """
        limit = self._wrong_passwords
        counters = [
            self._by_minute.counter(('password', address, email), limit),
            self._by_minute.counter(('password', address), _ACCOUNTS_AT_ONCE * limit),
        ]
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
        monotonic (Callable[[], float]): monotonic seconds.
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
