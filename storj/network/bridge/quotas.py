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

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from typing import Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Executable,
    String,
    and_,
    bindparam,
    case,
    insert,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from storj.network.bridge.database import Database, fingerprint
from storj.network.bridge.tables import Counter, User, Volume
from storj.network.node.clock import lasts
from storj.network.node.space import is_full
from storj.network.node.wire import Refusal

logger = logging.getLogger(__name__)

Direction = Literal['upload', 'download']

#: Seconds of the window that most limits have.
MINUTE = 60.0
#: The longest window that calls are counted in.
HOUR = 3600.0
#: Milliseconds of the windows of volumes, in the order of a quota's fields.
_WINDOWS = tuple(hours * 3600 * 1000 for hours in (1, 24, 30 * 24))
# Requests a minute of one address for one route, where those of the public bridge are on.
_DEFAULT = 1000
_CONTACTS = 200
_ACCOUNTS = 5
_ACCOUNT_ROUTES = ('/users', '/activations', '/deactivations', '/resets')
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


class Count(NamedTuple):
    """How often a call was made.

    Attributes:
        key (str): of the row.
        ends (int): when counting begins anew; milliseconds since 1970.
        used (int): calls until now, this one included.
    """

    key: str
    ends: int
    used: int


_KEY, _ENDS = bindparam('name', type_=String), bindparam('end', type_=BigInteger)
_UNCOUNT = (
    update(Counter)
    # Unless a new window has begun meanwhile.
    .where(Counter.key == _KEY, Counter.ends == _ENDS, Counter.used > 0)
    .values(used=Counter.used - 1)
)


def _counting(database: Database) -> Executable:
    """Return the statement that counts one more, in the window that its key is in."""
    new = database.insert(Counter).values(key=_KEY, ends=_ENDS, used=1)
    now = bindparam('now', type_=BigInteger)
    lasting = Counter.ends > now
    # No window lasts longer than a new one would: a clock that was set back prolongs none.
    kept = and_(lasting, Counter.ends < new.excluded.ends)
    return new.on_conflict_do_update(
        index_elements=[Counter.key],
        set_={
            'ends': case((kept, Counter.ends), else_=new.excluded.ends),
            'used': case((lasting, Counter.used), else_=0) + 1,
        },
    ).returning(Counter.key, Counter.ends, Counter.used)


class Counters:
    """Counts by key, in windows that begin with a key's first call; rows, so for all bridges.

    The sweep removes those that are over, and the oldest of very many (``upkeep``).

    Args:
        database (Database): with the rows.
        clock (Callable[[], float]): seconds since 1970.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._counting = _counting(database)

    async def count(self, seconds: float, *keys: tuple[str, ...]) -> list[Count]:
        """Count a call for each of some keys, in windows of so many seconds.

        Returns:
            list[Count]: of each key; empty if the database is full, which must keep nobody from
            reading.
        """
        now = int(self._clock() * 1000)
        # Digests only: clients choose the keys, of any length.
        rows = [
            {'name': fingerprint('\0'.join(key)), 'now': now, 'end': now + int(seconds * 1000)}
            for key in keys
        ]

        def work(connection: Connection) -> list[Count]:
            return [Count(*connection.execute(self._counting, row).one()) for row in rows]

        try:
            return await self._database.run(work)
        except SQLAlchemyError as error:
            if not is_full(error):
                raise
            logger.warning('the database is full: calls are not counted')
            return []

    async def take_back(self, counts: Sequence[Count]) -> None:
        """Make what :meth:`count` has counted undone."""
        rows = [{'name': count.key, 'end': count.ends} for count in counts]
        if rows:
            await self._database.run(lambda connection: connection.execute(_UNCOUNT, rows))

    def check(self, count: Count, limit: int) -> None:
        """Refuse a client that has asked too often.

        Raises:
            Refusal: If a limit is passed (429, with ``Retry-After``).
        """
        if count.used > limit:
            # Whole seconds, or urllib3 and others take the answer as invalid.
            wait = math.ceil(count.ends / 1000 - self._clock())
            headers = {'Retry-After': str(max(1, wait))}
            raise Refusal(429, 'Too Many Requests', headers)


class AccountLimits:
    """Limits of what costs the bridge much; each 0 for none, which costs no statement.

    All ``count_`` methods raise a ``Refusal`` (429, with ``Retry-After``) at the limit.

    Args:
        counters (Counters): of all bridges.
        calls (int): registrations, activations, deactivations and resets of an address, a minute.
        registrations (int): new accounts an hour, of all clients.
        mails (int): messages to an account, an hour.
        wrong_passwords (int): of an address for one account, a minute; for all its accounts 20
            times as many. A password that was found right lately is taken nevertheless.
    """

    def __init__(
        self,
        counters: Counters,
        *,
        calls: int,
        registrations: int,
        mails: int,
        wrong_passwords: int,
    ) -> None:
        self._counters = counters
        self._calls = calls
        self._registrations = registrations
        self._mails = mails
        self._wrong_passwords = wrong_passwords

    async def count_call(self, address: str) -> None:
        """Count a call about an account."""
        await self._count(self._calls, MINUTE, 'call', address)

    async def count_registration(self) -> None:
        """Count a new account."""
        await self._count(self._registrations, HOUR, 'registration')

    async def count_mail(self, email: str) -> None:
        """Count a message to an account."""
        await self._count(self._mails, HOUR, 'mail', email)

    async def _count(self, limit: int, seconds: float, *key: str) -> None:
        if limit:
            for count in await self._counters.count(seconds, key):
                self._counters.check(count, limit)

    async def count_password(self, address: str, email: str) -> Callable[[], Awaitable[None]]:
        """Count a password as a wrong one before it is checked: others may be sent meanwhile.

        Returns:
            Callable[[], Awaitable[None]]: takes it back, for a password that was found right.
        """
        limit, counts = self._wrong_passwords, list[Count]()
        if limit:
            # What many share comes last, so that it is locked shortly.
            keys = ('password', address, email), ('password', address)
            counts = await self._counters.count(MINUTE, *keys)
            for count, most in zip(counts, (limit, _ACCOUNTS_AT_ONCE * limit), strict=False):
                self._counters.check(count, most)
        return partial(self._counters.take_back, counts)


class RateLimits:
    """Counts requests in windows of a minute, by client address, route and method.

    Args:
        counters (Counters): of all bridges.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    async def count(self, address: str, route: str, method: str) -> dict[str, str]:
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
        limit = _limit(route)
        headers = {'X-RateLimit-Limit': str(limit)}
        for count in await self._counters.count(MINUTE, ('request', address, route, method)):
            headers['X-RateLimit-Remaining'] = str(max(0, limit - count.used))
            headers['X-RateLimit-Reset'] = str(math.ceil(count.ends / 1000))
            try:
                self._counters.check(count, limit)
            except Refusal as refusal:
                refusal.headers.update(headers)
                raise
        return headers


def _limit(route: str) -> int:
    if route.startswith(_ACCOUNT_ROUTES):
        return _ACCOUNTS
    return _CONTACTS if route.startswith('/contacts') else _DEFAULT
