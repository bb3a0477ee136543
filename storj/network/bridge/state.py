"""What the bridge's modules share: settings, the release it states, and the state of one bridge.

Every handler finds one :class:`Bridge` in its application under :data:`BRIDGE`. This module knows
no route.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Literal, NamedTuple
from weakref import WeakValueDictionary

from aiohttp import web
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from storj.network.bridge.database import CONNECTIONS, Database
from storj.network.bridge.mail import Outbox, Smtp
from storj.network.bridge.passwords import Passwords
from storj.network.bridge.quotas import AccountLimits, Counters, Quota, RateLimits
from storj.network.bridge.renter import RenterNode
from storj.network.node.clock import StepWatch
from storj.network.node.proxies import parse_proxies
from storj.network.node.space import Reserve, is_full

if TYPE_CHECKING:
    from storj.network.bridge.contacts import FarmerCall

logger = logging.getLogger(__name__)

#: ``auto``: an account is active at once. ``mail``: only after the link in its message was visited.
Activation = Literal['auto', 'mail']

#: Milliseconds of a day, and of a storage contract (protocol reference, section 3.12).
_DAY = 24 * 3600 * 1000
CONTRACT_LIFE = 90 * _DAY
# Seconds for which a farmer's tokens for copies are kept, far less than it does, and of how many
# shards: 4 MB.
_GRANT_LIFE, _GRANTS = 60.0, 10_000
#: Seconds after which a copy that has arrived is audited first, at the latest.
_FIRST_AUDIT = 60.0
# Milliseconds.
_REPAIR_PAUSE = 60_000

#: First release of a line, and the network protocol and core library that it reports
#: (protocol reference, section 1.5; the last three as recorded).
_LINES: tuple[tuple[tuple[int, ...], str, str], ...] = (
    ((7,), '1.2.0', '8.7.2'),
    ((6,), '1.2.0', '7.0.0'),
    ((5,), '1.1.0', '6.8.0'),
    ((4,), '1.1.0', '6.0.13'),
    ((3,), '1.0.0', '6.0.0'),
    ((2,), '0.10.0', '5.1.2'),
)


@dataclass(frozen=True)
class Release:
    """A release of the original bridge that this one behaves as.

    Only what a client can adapt to differs: fields of answers, the life of bridge tokens, whether
    a pointer request may come without one, what a second file of the same name does. Statuses of
    errors are the intended ones in all of them.

    Attributes:
        version (str): as ``GET /`` reports it.
        number (tuple[int, ...]): the same as numbers.
        protocol (str): version of the network protocol.
        core (str): version of the core library; it tells clients which audit formula holds.
    """

    version: str
    number: tuple[int, ...]
    protocol: str
    core: str

    @classmethod
    def parse(cls, version: str) -> Release:
        """Return the release with this version.

        Args:
            version (str): three numbers with dots, from ``2.0.0`` on.

        Raises:
            ValueError: If it is not a version, or one whose clients are not served.
        """
        if not re.fullmatch(r'[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}', version):
            raise ValueError(f'{version!r} is not a version of the bridge, such as 7.7.1')
        number = tuple(map(int, version.split('.')))
        for first, protocol, core in _LINES:
            if number >= first:
                return cls(version, number, protocol, core)
        raise ValueError(f'bridge {version} is too old: its clients speak another protocol')

    def since(self, *number: int) -> bool:
        """Return whether this release has what came with release ``number``."""
        return self.number >= number


@dataclass(frozen=True)
class BridgeSettings:
    """What a bridge is started with.

    Attributes:
        database_url (str): any SQLAlchemy URL.
        data_dir (Path): folder of the bridge's own; messages lie in its ``outbox``, unless they go
            by ``smtp``.
        migrate (bool): whether the schema of a server's database is made or brought up; that of
            SQLite always is.
        connections (int): to a server's database, for transactions side by side.
        durable (bool): whether what is confirmed is on the disk before, in a database of SQLite.
        reserve (int): bytes of the disk under ``data_dir`` that are kept for what must be written
            when it is full; nothing is stored in them.
        public_url (str): where clients reach the bridge; the links in messages begin with it.
        trusted_proxies (Collection[str]): addresses or networks of proxies whose
            ``X-Forwarded-For``, ``-Proto`` and ``-Host`` are believed.
        hosts (Collection[str] | None): names that requests may be addressed to, beside those of
            the loopback interface; None for any. A bridge that only this machine reaches has them,
            so that no page of a browser gets to it by a name of its own that leads here.
        activation (Activation): whether an account has to be activated by mail.
        smtp (str | None): mail server that takes the messages, as a URL (:class:`Smtp`); it may
            have a password. None for files in the outbox.
        mail_from (str | None): e-mail address that messages come from.
        version (str): release of the original bridge to behave as.
        audit_interval (float | None): seconds between two audits of the same copy; 0 for none. By
            default the challenges of a contract are spread over its life, until it is renewed.
        renewal_ahead (float): seconds before the end of a contract, which lives 90 days, from which
            on it is renewed, if a file needs its shard; 0 for never.
        ping_interval (float): seconds between two rounds of pings to the farmers; 0 for none.
        mirrors (int): copies of each shard, beside the first, that the bridge has made by itself,
            and again where they are lost: with 2, the loss of any two farmers loses nothing.
            The original has 5 made; on one machine that would write everything six times.
        lost_after (float): seconds for which a farmer must not have answered before its copies
            count as lost.
        repair_interval (float): seconds between two looks for farmers that are lost, and before a
            shard that could not be copied is tried again first; 0 for no repairs.
        survey_interval (float): seconds between two looks at all shards, for those with too few
            copies that no event told of; 0 for never.
        copying_timeout (float): seconds that the answer to a new file waits for the copies of its
            shards; after that, one copy of each must do.
        open_promises (int): shards of one account that farmers keep space for and that have not
            come yet, beyond which it gets 429; 0 for any number. They may not take more than half
            of what the farmers offer, either. Accounts of the bridge's owner have no limit.
        empty_frame_life (float): seconds for which a frame without shards is kept; 0 is forever. Of
            one whose client was killed while the answer was on its way, nobody else knows.
        rate_limits (bool): whether requests are limited as on the public bridge, with 429.
        account_calls (int): registrations, activations, deactivations and resets that one address
            may ask for in a minute, beyond which it gets 429; 0 for any number.
        registrations (int): accounts that may be registered in an hour, by all together, likewise.
        mails (int): messages that one account may get in an hour, likewise.
        wrong_passwords (int): of one address for one account in a minute, likewise.
        upload_quota (Quota | None): bytes that an account may bring, beyond which it gets 420; None
            for any number. Accounts of the bridge's owner have none.
        download_quota (Quota | None): the same of what the buckets of an account give out.
        status (bool): whether ``GET /status`` is served: farmers and sums to anybody, to users also
            the ids, sizes and places of their files.
        farmer_timeout (float): seconds that one farmer may take to answer.
        placing_timeout (float): seconds after which looking for a farmer ends, with 503.
    """

    database_url: str = field(repr=False)
    data_dir: Path
    migrate: bool = True
    connections: int = CONNECTIONS
    durable: bool = True
    reserve: int = 0
    public_url: str = 'http://127.0.0.1:6382'
    trusted_proxies: Collection[str] = ()
    hosts: Collection[str] | None = None
    activation: Activation = 'auto'
    smtp: str | None = field(default=None, repr=False)
    mail_from: str | None = None
    version: str = '7.7.1'
    audit_interval: float | None = None
    renewal_ahead: float = 30 * 86400.0
    ping_interval: float = 60.0
    mirrors: int = 2
    lost_after: float = 3600.0
    repair_interval: float = 60.0
    survey_interval: float = 86400.0
    copying_timeout: float = 20.0
    open_promises: int = 256
    empty_frame_life: float = 3600.0
    rate_limits: bool = False
    account_calls: int = 120
    registrations: int = 1000
    mails: int = 20
    wrong_passwords: int = 30
    upload_quota: Quota | None = None
    download_quota: Quota | None = None
    status: bool = True
    farmer_timeout: float = 10.0
    placing_timeout: float = 45.0

    def __post_init__(self) -> None:
        Release.parse(self.version)
        parse_proxies(self.trusted_proxies)
        self.new_mail().close()
        if self.activation not in ('auto', 'mail'):
            raise ValueError(f"activation is 'auto' or 'mail', not {self.activation!r}")
        for quota in (self.upload_quota, self.download_quota):
            if not isinstance(quota, (Quota, NoneType)):
                raise ValueError(f'a quota is a Quota, not {quota!r}')
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, (int, float)) and value < 0:
                raise ValueError(f'{each.name} must not be negative')
        for name in ('farmer_timeout', 'placing_timeout', 'lost_after'):
            if not getattr(self, name):
                raise ValueError(f'{name} must be positive')

    def new_mail(self) -> Outbox | Smtp:
        """Return where messages go.

        Raises:
            ValueError: If it is a mail server, and it or the sender is not given as it must be.
        """
        if self.smtp is None:
            return Outbox(self.data_dir / 'outbox', self.public_url)
        return Smtp(self.smtp, self.mail_from or '', self.public_url)

    @property
    def copies(self) -> int:
        """Copies that each shard is to have."""
        return 1 + self.mirrors

    @property
    def repair_pause(self) -> int:
        """Milliseconds before a shard that could not be copied is tried a second time."""
        return int(self.repair_interval * 1000) or _REPAIR_PAUSE

    def renewal_of(self, store_end: int) -> int:
        """Return when a contract with this end is due to be renewed; both in milliseconds."""
        return store_end - int(self.renewal_ahead * 1000)

    def audit_pause(self, challenges: int) -> int:
        """Return the milliseconds between two audits of a copy that has so many challenges."""
        if self.audit_interval is not None:
            return int(self.audit_interval * 1000)
        span = max(_DAY, CONTRACT_LIFE - int(self.renewal_ahead * 1000))
        return span // max(1, challenges)

    @property
    def first_audit(self) -> int:
        """Milliseconds from the arrival of a copy to its first audit."""
        pause = _FIRST_AUDIT if self.audit_interval is None else self.audit_interval
        return int(min(pause, _FIRST_AUDIT) * 1000)


#: Seconds for which an account is not looked up again: so long at the most, another bridge takes a
#: password or an account that has just been changed.
ACCOUNT_LIFE = 2.0
_ACCOUNTS = 4096


class Account(NamedTuple):
    """What a request with a password is checked against."""

    password: str
    activated: bool


class Accounts:
    """Accounts that were looked up a moment ago: a client sends many requests in a second.

    Args:
        clock (Callable[[], float]): seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Account]] = OrderedDict()

    def get(self, email: str) -> Account | None:
        """Return an account, if it is known."""
        until, account = self._known.get(email, (0.0, None))
        return account if until > self._clock() else None

    def put(self, email: str, account: Account) -> Account:
        """Remember an account as it was just found; return it."""
        self._known[email] = (self._clock() + ACCOUNT_LIFE, account)
        while len(self._known) > _ACCOUNTS:
            self._known.popitem(last=False)
        return account

    def forget(self, email: str) -> None:
        """Forget an account that was changed."""
        self._known.pop(email, None)


#: Seconds for which a farmer keeps space for a shard without a byte of it.
PROMISE_LIFE = 600.0


class GrantedTokens:
    """Tokens for copies of shards that have just been placed, from the farmers that took them.

    Harmless to lose: farmers give others out when they are asked.

    Args:
        monotonic (Callable[[], float]): seconds that nobody sets.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._granted: OrderedDict[str, tuple[float, str, Sequence[str]]] = OrderedDict()

    def keep(self, shard_hash: str, node_id: str, tokens: Sequence[str]) -> None:
        """Keep a farmer's tokens for a shard, for a minute or until there are too many."""
        self._granted.pop(shard_hash, None)
        if tokens:
            self._granted[shard_hash] = (self._monotonic() + _GRANT_LIFE, node_id, tokens)
        if len(self._granted) > _GRANTS:
            self._granted.popitem(last=False)

    def take(self, shard_hash: str) -> tuple[str, Sequence[str]]:
        """Return the farmer and its tokens for a shard, once; empty if there are none."""
        end, node_id, tokens = self._granted.pop(shard_hash, (0.0, '', ()))
        return (node_id, tokens) if end > self._monotonic() else ('', ())


@dataclass
class Bridge:
    """The state of one running bridge; other bridges of its database have their own.

    What must be remembered is a row. The rest is harmless to lose, and to have different:
    ``accounts``, ``leaving`` and ``calls`` are caches of rows for a second or two; ``watch``,
    ``aged`` and ``looked`` compare this process's clocks, and ``clock_skews`` a farmer's clock with
    them, so rows of two bridges would contradict each other; ``granted``, ``pending``, ``placing``
    and ``searching`` are about requests that this bridge is answering, for the moment until there
    are rows.

    Attributes:
        settings (BridgeSettings): what it was started with.
        renter (RenterNode): its way to the farmers, and the only one.
        database (Database): all that it remembers.
        passwords (Passwords): hashes and checks passwords, away from the event loop.
        mail (Outbox | Smtp): where its messages go.
        counters (Counters): how often clients have asked, any bridge of the database.
        limits (AccountLimits): how often it does what costs much; by its settings.
        rates (RateLimits): how often it answers.
        clock (Callable[[], float]): seconds since 1970; injected, so that tests can let time pass.
        monotonic (Callable[[], float]): monotonic seconds, likewise.
        name (str): of this run of the bridge, for rows that tell bridges apart.
        watch (StepWatch): whether the clock was set.
        aged (float): by the monotonic clock, when open uploads were made older last.
        looked (float): by the monotonic clock, until when the silence of farmers was counted.
        leaving (frozenset[str]): farmers whose copies will be gone soon; of a second ago.
        searching (dict[str, list[int]]): by account, the sizes of shards that are being placed.
        accounts (Accounts): those that have sent a request just now.
        granted (GrantedTokens): for the copies of shards that are being placed.
        pending (Counter[str]): by farmer, contracts being made at this moment.
        placing (WeakValueDictionary[tuple[str, str], asyncio.Lock]): by shard and farmer, so that
            one contract is made at a time.
        clock_skews (dict[str, float]): by farmer, seconds by which its clock was ahead when it was
            called last (negative: behind); of those only that cannot be used because of it.
        calls (list[FarmerCall]): to farmers, whose results are to be written to their contacts.
        release (Release): the release it plays.
        reserve (Reserve): whether there is space to store more.
    """

    settings: BridgeSettings
    renter: RenterNode
    database: Database
    passwords: Passwords
    mail: Outbox | Smtp
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    pending: Counter[str] = field(default_factory=Counter)
    placing: WeakValueDictionary[tuple[str, str], asyncio.Lock] = field(
        default_factory=WeakValueDictionary
    )
    clock_skews: dict[str, float] = field(default_factory=dict)
    calls: list[FarmerCall] = field(default_factory=list)
    leaving: frozenset[str] = frozenset()
    searching: dict[str, list[int]] = field(default_factory=dict)
    granted: GrantedTokens = field(init=False)
    accounts: Accounts = field(init=False)
    counters: Counters = field(init=False)
    limits: AccountLimits = field(init=False)
    rates: RateLimits = field(init=False)
    watch: StepWatch = field(init=False)
    aged: float = field(init=False)
    looked: float = field(init=False)
    release: Release = field(init=False)
    reserve: Reserve = field(init=False)

    def __post_init__(self) -> None:
        self.release = Release.parse(self.settings.version)
        self.reserve = Reserve(self.settings.data_dir, self.settings.reserve)
        self.watch = StepWatch(self.clock, self.monotonic)
        self.aged = self.looked = self.monotonic()
        self.granted = GrantedTokens(self.monotonic)
        self.accounts = Accounts(self.monotonic)
        self.counters = Counters(self.database, self.clock)
        self.rates = RateLimits(self.counters)
        self.limits = AccountLimits(
            self.counters,
            calls=self.settings.account_calls,
            registrations=self.settings.registrations,
            mails=self.settings.mails,
            wrong_passwords=self.settings.wrong_passwords,
        )

    async def note(self, work: Callable[[Connection], object]) -> None:
        """Do work in a transaction that makes nothing wrong when a full disk does not take it."""
        try:
            await self.database.run(work)
        except SQLAlchemyError as error:
            if not is_full(error):
                raise
            logger.warning('the database is full: answers of farmers are not recorded')
            self.reserve.has_space()

    def now(self) -> int:
        """Return the time in milliseconds since 1970."""
        return int(self.clock() * 1000)


#: Key of the bridge in its application.
BRIDGE: web.AppKey[Bridge] = web.AppKey('bridge', Bridge)
