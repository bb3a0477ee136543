"""Farmers as the bridge knows them: the public list, their registration, and how they behave.

A farmer registers by itself (protocol reference, section 3.9): it signs its requests with its
node key, and proves work for the first one. The bridge trusts nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import re
import secrets
import struct
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

from aiohttp import web
from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Float,
    Row,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from storj.digest import is_hex
from storj.network.bridge.state import BRIDGE, Bridge
from storj.network.bridge.tables import Contact, WorkChallenge
from storj.network.node.addresses import comes_from_here, may_announce
from storj.network.node.clock import CLOCK_SKEW, lasts
from storj.network.node.identity import SignatureError, node_id_of, verify_der
from storj.network.node.rpc import (
    ClockSkewError,
    ContactError,
    NodeContact,
    NodeError,
    NodeUnreachableError,
)
from storj.network.node.wire import (
    Refusal,
    Route,
    answer,
    iso_date,
    number,
    read_body,
    read_raw,
)

logger = logging.getLogger(__name__)

_T = TypeVar('_T')

#: Contacts on one page (section 8.1).
PAGE = 30

#: Milliseconds after a timeout during which a farmer is the last one to be asked.
_DISTRUST = 10 * 60 * 1000
CHALLENGE_LIFE = 3600 * 1000
# Open at a time.
_CHALLENGES = 10_000
# Registrations that are expected in so many milliseconds; more make the work harder.
_EXPECTED = 10
_EXPECTED_IN = 10_000
_EASIEST = 2**256 - 1
_MAX_REPUTATION = 5000
# Farmers that audits and renewals work with at a time.
_FARMERS_AT_ONCE = 4
# How slowly the rate of timeouts forgets: one call in this many weighs a tenth.
_RATE_WEIGHT = 0.1

# Calls whose results are written at once at the latest.
_NOTED_TOGETHER = 256

_INTEGER = re.compile(r'[0-9]{1,16}')
#: Core library of farmers that do not say theirs, by the protocol they announce: clients need one.
_USER_AGENTS = (('0.', '5.1.2'), ('1.0.', '6.0.0'), ('1.1.', '6.8.0'))
_LATEST_USER_AGENT = '8.7.2'

_TAKEN: BindParameter[float | None] = bindparam('taken', type_=Float)
_SEEN = (
    update(Contact)
    .where(Contact.node_id == bindparam('farmer'))
    .values(
        last_seen=bindparam('ended'),
        last_timeout=None,
        # One that was lost is back; its copies count again once they are verified.
        lost=False,
        returns=Contact.returns + case((Contact.lost, 1), else_=0),
        unchecked=or_(Contact.unchecked, Contact.lost),
        silent=bindparam('silence', type_=BigInteger),
        timeout_rate=Contact.timeout_rate * (1 - _RATE_WEIGHT),
        # An average that forgets; a call without a time leaves it, the first one begins it.
        response_time=func.coalesce(
            0.8 * Contact.response_time + 0.2 * _TAKEN, _TAKEN, Contact.response_time
        ),
        last_contract_sent=func.coalesce(
            bindparam('sent', type_=BigInteger), Contact.last_contract_sent
        ),
    )
)
_FAILED = (
    update(Contact)
    .where(Contact.node_id == bindparam('farmer'))
    .values(
        last_timeout=bindparam('ended'),
        timeout_rate=Contact.timeout_rate + _RATE_WEIGHT * (1 - Contact.timeout_rate),
    )
)


#: Milliseconds that a farmer counts as leaving after it has asked to leave.
LEAVING = 60_000
_LEAVING = select(Contact.node_id).where(
    lasts(Contact.leaving, LEAVING, bindparam('now', type_=BigInteger))
)


class KnownFarmer(NamedTuple):
    """A contact as it was when it was looked up, as far as the farmer's choice and call need it.

    A row, not an object of the ORM: farmers are looked up for every shard.
    """

    node_id: str
    address: str
    port: int
    protocol: str
    user_agent: str
    last_seen: int
    last_timeout: int | None
    local: bool
    lost: bool


#: The columns of a :class:`KnownFarmer`.
KNOWN_FARMER = tuple(getattr(Contact, name) for name in KnownFarmer._fields)


def node_contact(contact: Contact | KnownFarmer) -> NodeContact:
    """Return a farmer's address card as the renter node takes it."""
    return NodeContact(
        address=contact.address,
        port=contact.port,
        node_id=contact.node_id,
        protocol=contact.protocol,
        user_agent=contact.user_agent,
        last_seen=contact.last_seen,
        local=contact.local,
    )


def contact_object(contact: Contact | KnownFarmer, *, last_seen: object) -> dict[str, Any]:
    """Return a farmer as clients see it.

    Args:
        contact (Contact | KnownFarmer): the farmer.
        last_seen (object): as a date text or a number, which differs by route (section 7.2).
    """
    return {
        'userAgent': contact.user_agent,
        'protocol': contact.protocol,
        'address': contact.address,
        'port': contact.port,
        'nodeID': contact.node_id,
        'lastSeen': last_seen,
    }


def lately_timed_out(contact: Contact | KnownFarmer | Row[Any], now: int) -> bool:
    """Return whether a farmer has been unreachable within the last ten minutes."""
    return contact.last_timeout is not None and lasts(contact.last_timeout, _DISTRUST, now)


def not_lately_timed_out(now: int) -> ColumnElement[bool]:
    """Return the condition on contacts that :func:`lately_timed_out` is the opposite of."""
    return or_(Contact.last_timeout.is_(None), ~lasts(Contact.last_timeout, _DISTRUST, now))


@dataclass(frozen=True)
class FarmerCall:
    """How a call to a farmer went, and whether it changes how others see the farmer.

    Attributes:
        node_id (str): of the farmer.
        ended (int): milliseconds since 1970.
        seconds (float | None): how long it took, of a plain call.
        failure (Exception | None): why the farmer could not be reached, did not answer in time, or
            cannot be understood; None if it answered, be it with a refusal.
        urgent (bool): it failed, or the one before did.
        contract_sent (int | None): milliseconds since 1970, if a contract was offered by it.
        at (float): when it ended, by the bridge's monotonic clock.
    """

    node_id: str
    ended: int
    seconds: float | None = None
    failure: Exception | None = None
    urgent: bool = True
    contract_sent: int | None = None
    at: float = 0.0


async def call_farmer(
    bridge: Bridge,
    contact: Contact | KnownFarmer,
    call: Awaitable[_T],
    calls: list[FarmerCall],
    *,
    timed: bool = False,
    contract_sent: int | None = None,
) -> _T:
    """Wait for a call to a farmer, and record how it went.

    Args:
        bridge (Bridge): the bridge.
        contact (Contact | KnownFarmer): the farmer.
        call (Awaitable[_T]): of the renter node.
        calls (list[FarmerCall]): how it went is appended, for :func:`note_calls`.
        timed (bool): whether the time taken says something about the farmer's speed.
        contract_sent (int | None): milliseconds since 1970, if it offers a contract.

    Raises:
        NodeError: If the farmer refused.
        NodeUnreachableError: If it does not answer, or not in time.
    """
    started = time.monotonic()

    def ended(seconds: float | None = None, failure: Exception | None = None) -> None:
        urgent = failure is not None or contact.lost or contact.last_timeout is not None
        sent = contract_sent if failure is None else None
        at = bridge.monotonic()
        calls.append(FarmerCall(contact.node_id, bridge.now(), seconds, failure, urgent, sent, at))

    try:
        result = await asyncio.wait_for(call, bridge.settings.farmer_timeout)
    except (ClockSkewError, NodeUnreachableError) as error:
        ended(failure=error)
        raise
    except NodeError:
        ended()
        raise
    except asyncio.TimeoutError as error:
        ended(failure=error)
        raise NodeUnreachableError(f'{contact.node_id} did not answer in time') from None
    ended(time.monotonic() - started if timed else None)
    return result


async def note_calls(bridge: Bridge, calls: Sequence[FarmerCall]) -> None:
    """Note how calls to farmers went, in their order.

    What only says that healthy farmers are still there is written within a second, together: nearly
    every request calls a farmer, and requests must not wait for each other because of that.

    Args:
        bridge (Bridge): the bridge.
        calls (Sequence[FarmerCall]): a wrong clock is logged, because only people can correct it.
    """
    for call in calls:
        _note_clock(bridge, call)
    bridge.calls += calls
    if any(call.urgent for call in calls) or len(bridge.calls) >= _NOTED_TOGETHER:
        await write_calls(bridge)


async def write_calls(bridge: Bridge) -> None:
    """Write to the farmers' contacts what has been noted."""
    calls, bridge.calls = bridge.calls, []
    # In one order, or two bridges would wait for each other; of one farmer, as they were made.
    calls.sort(key=lambda call: call.node_id)
    if calls:
        await bridge.note(partial(_write_calls, calls, bridge.looked))


def _write_calls(calls: Sequence[FarmerCall], looked: float, connection: Connection) -> None:
    for failed, group in itertools.groupby(calls, key=lambda call: call.failure is not None):
        rows: list[dict[str, object]] = []
        for call in group:
            row: dict[str, object] = {'farmer': call.node_id, 'ended': call.ended}
            if not failed:
                row['taken'] = None if call.seconds is None else call.seconds * 1000
                row['sent'] = call.contract_sent
                # The next look adds the time since the last one.
                row['silence'] = int((looked - call.at) * 1000)
            rows.append(row)
        connection.execute(_FAILED if failed else _SEEN, rows)


def _note_clock(bridge: Bridge, call: FarmerCall) -> None:
    if call.failure is None:
        bridge.clock_skews.pop(call.node_id, None)
    elif isinstance(call.failure, ClockSkewError):
        ahead = call.failure.seconds
        if call.node_id not in bridge.clock_skews:
            logger.warning(
                'the clock of farmer %s is %.0f s %s the bridge: it gets no shards',
                call.node_id,
                abs(ahead),
                'ahead of' if ahead > 0 else 'behind',
            )
        bridge.clock_skews[call.node_id] = ahead


async def note_call(bridge: Bridge, node_id: str, failure: Exception | None = None) -> None:
    """Note how one call went, at once; see :class:`FarmerCall`."""
    call = FarmerCall(node_id, bridge.now(), failure=failure, at=bridge.monotonic())
    await note_calls(bridge, [call])


async def refresh_leaving(bridge: Bridge) -> None:
    """Find out which farmers are leaving, whichever bridge they have asked."""
    now = {'now': bridge.now()}
    nodes = await bridge.database.read(lambda connection: connection.scalars(_LEAVING, now).all())
    bridge.leaving = frozenset(nodes)


async def with_each(
    bridge: Bridge,
    work: Callable[[Bridge, Contact], Awaitable[list[_T]]],
    *which: ColumnElement[bool],
) -> list[_T]:
    """Work with the farmers that conditions hold for, some at a time; return all results."""
    query = select(Contact).where(*which)
    contacts = await bridge.database.run_objects(lambda session: session.scalars(query).all())
    at_once = asyncio.Semaphore(_FARMERS_AT_ONCE)

    async def with_one(contact: Contact) -> list[_T]:
        async with at_once:
            return await work(bridge, contact)

    return list(itertools.chain(*await asyncio.gather(*map(with_one, contacts))))


def reward(contact: Contact, points: int) -> None:
    """Change a farmer's reputation, which stays within 0 and 5000."""
    contact.reputation = min(_MAX_REPUTATION, max(0, contact.reputation + points))


def _listed(contact: Contact, bridge: Bridge) -> dict[str, Any]:
    fields = contact_object(contact, last_seen=iso_date(contact.last_seen))
    release = bridge.release
    if release.since(4, 1) and contact.response_time is not None:
        fields['responseTime'] = contact.response_time
    if release.since(4, 3):
        if contact.last_timeout is not None:
            fields['lastTimeout'] = iso_date(contact.last_timeout)
        fields['timeoutRate'] = contact.timeout_rate
    if release.since(6):
        fields['spaceAvailable'] = contact.space_available
        if contact.last_contract_sent is not None:
            fields['lastContractSent'] = contact.last_contract_sent
    if release.since(7, 2):
        fields['reputation'] = contact.reputation
    return fields


async def list_contacts(request: web.Request) -> web.Response:
    """List farmers, the most recently seen first."""
    bridge = request.app[BRIDGE]
    query = select(Contact).order_by(Contact.last_seen.desc(), Contact.node_id)
    columns = {
        'address': Contact.address,
        'protocol': Contact.protocol,
        'userAgent': Contact.user_agent,
    }
    for name, column in columns.items():
        if name in request.query:
            query = query.where(column == request.query[name])
    if 'port' in request.query:
        port = request.query['port']
        query = query.where(Contact.port == (int(port) if _INTEGER.fullmatch(port) else -1))
    page = request.query.get('page', '1')
    skipped = (int(page) - 1) * PAGE if _INTEGER.fullmatch(page) and int(page) > 0 else 0
    # No database counts further than 64 bits.
    query = query.offset(min(skipped, 2**53)).limit(PAGE)
    await write_calls(bridge)
    found = await bridge.database.run_objects(lambda session: session.scalars(query).all())
    return answer([_listed(contact, bridge) for contact in found])


async def get_contact(request: web.Request) -> web.Response:
    """Describe a farmer."""
    bridge = request.app[BRIDGE]
    await write_calls(bridge)
    node_id = request.match_info['node']
    contact = await bridge.database.run_objects(partial(known_contact, node_id=node_id))
    return answer(_listed(contact, bridge))


def known_contact(session: Session, node_id: str) -> Contact:
    """Return a farmer's contact.

    Raises:
        Refusal: If there is none (404).
    """
    contact = session.get(Contact, node_id)
    if contact is None:
        raise Refusal(404, 'Contact not found')
    return contact


async def signed_farmer(request: web.Request) -> str:
    """Return the node id of the farmer that signed a request.

    Raises:
        Refusal: If the value is invalid (400).
    """
    bridge = request.app[BRIDGE]
    timestamp = request.headers.get('x-node-timestamp', '')
    public_key = request.headers.get('x-node-pubkey', '')
    node_id = request.headers.get('x-node-id', '')
    if not _INTEGER.fullmatch(timestamp):
        raise Refusal(400, 'Invalid timestamp header')
    ahead = int(timestamp) - bridge.now()
    if abs(ahead) > CLOCK_SKEW:
        text = 'a farmer at %s is refused: its clock is %.0f s %s the bridge'
        seconds, side = abs(ahead) / 1000, 'ahead of' if ahead > 0 else 'behind'
        logger.warning(text, request.remote, seconds, side)
        raise Refusal(400, 'Invalid timestamp header')
    if not re.fullmatch(r'(?:[0-9a-f]{66}|[0-9a-f]{130})', public_key):
        raise Refusal(400, 'Invalid pubkey header')
    # The id proves the key, and the key proves the request.
    if node_id != node_id_of(bytes.fromhex(public_key)):
        raise Refusal(400, 'Invalid nodeID header')
    signature = request.headers.get('x-node-signature', '')
    body = await read_raw(request)
    # Method, URL, time and body are joined without separators (protocol reference, section 3.9).
    for url in _called_urls(request):
        message = f'{request.method}{url}{timestamp}'.encode('utf-8', 'surrogateescape')
        try:
            if verify_der(public_key, message + body, signature):
                return node_id
        except SignatureError:
            break
    checked = ' or '.join(map(ascii, _called_urls(request)))
    raise Refusal(400, f'Invalid signature header: it is not of {request.method} {checked}')


def _called_urls(request: web.Request) -> list[str]:
    """Return what the caller may have called: as received here, and by the public address."""
    came = f'{request.scheme}://{request.host}{request.raw_path}'
    public = request.app[BRIDGE].settings.public_url.rstrip('/') + request.raw_path
    return list(dict.fromkeys([came, public]))


def work(challenge: str, nonce: int) -> str:
    """Return the work for one nonce: hex of scrypt over the challenge, salted with the nonce."""
    # The nonce is a JavaScript number, hence the salt a double.
    digest = hashlib.scrypt(
        challenge.encode('ascii'), salt=struct.pack('>d', nonce), n=1024, r=1, p=1, dklen=32
    )
    return digest.hex()


def _target(session: Session, now: int) -> str:
    """Return how hard the work is at the moment: harder while many register."""
    registrations = session.scalar(
        select(func.count()).select_from(Contact).where(lasts(Contact.created, _EXPECTED_IN, now))
    )
    factor = max(1, (registrations or 0) // _EXPECTED)
    # A smaller target is harder.
    return f'{_EASIEST // factor:064x}'


async def create_challenge(request: web.Request) -> web.Response:
    """Ask a farmer for a proof of work."""
    bridge = request.app[BRIDGE]
    await signed_farmer(request)
    now = bridge.now()

    def ask(session: Session) -> WorkChallenge:
        # Anybody can make a key and ask. The oldest are dropped: a farmer answers within seconds.
        if (session.scalar(select(func.count()).select_from(WorkChallenge)) or 0) >= _CHALLENGES:
            oldest = select(WorkChallenge.challenge).order_by(WorkChallenge.expires)
            surplus = oldest.limit(max(1, _CHALLENGES // 10)).scalar_subquery()
            session.execute(delete(WorkChallenge).where(WorkChallenge.challenge.in_(surplus)))
        challenge = WorkChallenge(
            challenge=secrets.token_hex(32),
            target=_target(session, now),
            expires=now + CHALLENGE_LIFE,
        )
        session.add(challenge)
        return challenge

    challenge = await bridge.database.run_objects(ask)
    return answer({'challenge': challenge.challenge, 'target': challenge.target}, 201)


def _use_work(session: Session, headers: Mapping[str, str], now: int) -> None:
    """Check a proof of work, and use its challenge up.

    Raises:
        Refusal: If the value is invalid (400).
    """
    challenge = headers.get('x-challenge', '')
    known = session.get(WorkChallenge, challenge) if is_hex(challenge, 64) else None
    if known is None or not lasts(known.expires - CHALLENGE_LIFE, CHALLENGE_LIFE, now):
        raise Refusal(400, 'Challenge not found')
    nonce = headers.get('x-challenge-nonce', '')
    # Compared as text, as in the original: equal length and lower case on both sides.
    if not _INTEGER.fullmatch(nonce) or work(known.challenge, int(nonce)) > known.target:
        raise Refusal(400, 'Invalid proof of work')
    # It counts once, or one proof of work would register any number of farmers.
    session.delete(known)


async def _card(request: web.Request, node_id: str, fields: Mapping[str, Any]) -> NodeContact:
    """Return the card that a farmer announces.

    The bridge calls what farmers announce. So a farmer on another machine must not name an address
    that means the bridge's; one that does so by mistake would get no shards either.

    Raises:
        Refusal: If the value is invalid (400).
    """
    local = comes_from_here(request)
    try:
        card = NodeContact.from_mapping({**fields, 'nodeID': node_id}, local=local)
    except ContactError:
        raise Refusal(400, 'Invalid body') from None
    if not await may_announce(card.address, local=local):
        raise Refusal(400, 'The bridge cannot reach a farmer at this address')
    return card


def _user_agent(card: NodeContact) -> str:
    if card.user_agent:
        return card.user_agent
    return next(
        (agent for start, agent in _USER_AGENTS if card.protocol.startswith(start)),
        _LATEST_USER_AGENT,
    )


def _space(value: object) -> bool:
    # Farmers send a truth value; a number of bytes is understood as well.
    return bool(value) if isinstance(value, bool) else (number(value) or 0) > 0


def _announce(contact: Contact, card: NodeContact, body: Mapping[str, Any], now: int) -> None:
    """Note what a farmer says of itself."""
    contact.address = card.address
    contact.local = card.local
    contact.port = card.port
    contact.protocol = card.protocol
    contact.user_agent = _user_agent(card)
    contact.last_seen = now
    contact.last_timeout = None
    if 'spaceAvailable' in body:
        contact.space_available = _space(body['spaceAvailable'])
    if 'spaceOffered' in body:
        contact.space_offered = number(body['spaceOffered'])


async def register(request: web.Request) -> web.Response:
    """Register a farmer, for the first time or again."""
    bridge = request.app[BRIDGE]
    node_id = await signed_farmer(request)
    body = {'spaceAvailable': True, 'spaceOffered': None} | await read_body(request)
    card = await _card(request, node_id, body)
    now = bridge.now()

    def enter(session: Session) -> None:
        _use_work(session, request.headers, now)
        contact = session.get(Contact, node_id)
        if contact is None:
            contact = Contact(node_id=node_id, created=now, timeout_rate=0.0, reputation=0)
            session.add(contact)
        _announce(contact, card, body, now)

    await bridge.database.run_objects(enter)
    return answer({'nodeID': node_id, 'address': card.address, 'port': card.port})


async def update_card(request: web.Request) -> web.Response:
    """Change the card of the farmer that signed the request."""
    bridge = request.app[BRIDGE]
    node_id = await signed_farmer(request)
    body = await read_body(request)
    known = await bridge.database.run_objects(partial(known_contact, node_id=node_id))
    card = await _card(request, node_id, node_contact(known).to_json() | body)
    now = bridge.now()

    def change(session: Session) -> Contact:
        contact = known_contact(session, node_id)
        _announce(contact, card, body, now)
        return contact

    contact = await bridge.database.run_objects(change)
    return answer(
        {
            'nodeID': node_id,
            'address': contact.address,
            'port': contact.port,
            'spaceAvailable': contact.space_available,
        },
        201,
    )


ROUTES = (
    Route('GET', '/contacts', list_contacts),
    Route('GET', '/contacts/{node}', get_contact),
    Route('POST', '/contacts/challenges', create_challenge),
    Route('POST', '/contacts', register),
    Route('PATCH', '/contacts/{node}', update_card),
)
