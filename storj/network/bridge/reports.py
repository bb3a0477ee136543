"""What clients and farmers report about shards: transfers, damage on a disk, a farmer that leaves.

``POST /reports/exchanges`` (protocol reference, section 9): anybody can send a report; it counts if
its sender took part in the exchange. A farmer signs its reports like its other requests; a client
sends the farmer's token that it used. A farmer's report confirms its own copy. A client's report
makes the bridge check: whether the farmer has the shard, or whether a copy about which the client
complains passes an audit. All others, such as those of the originals' clients and farmers, which
prove nothing, are answered and ignored; the bridge finds out by itself then.

The others are additions of ours to the protocol, and signed like a farmer's other requests
(section 3.9). ``POST /contacts/{nodeID}/reports`` brings up to 100 reports of a farmer together, as
``{"reports": [...]}``; one that is refused does not concern the others.

``POST /contacts/{nodeID}/shards`` is about the shards on the farmer's own disk::

    {"bad": ["<40 hex>", ...], "ended": ["<40 hex>", ...]}

    200 {"nodeID": "<40 hex>", "unneeded": ["<40 hex>", ...]}

Both lists may be missing and have at most 1000 hashes. ``bad`` are shards that the farmer agreed to
keep and that are damaged or missing on its disk. The bridge no longer counts these copies and has
others made. ``ended`` are shards that no contract covers any more by the farmer's clock.
``unneeded`` are those of them that it may drop: the bridge knows the contract, it has ended by the
bridge's clock as well, and neither a file nor an upload that is under way needs the shard. A bridge
without records confirms nothing; a farmer keeps what is not confirmed, and asks again another day.

``DELETE /contacts/{nodeID}`` is how a farmer leaves permanently without leaving shards with too few
copies. Each call has some more of its shards copied to others; the farmer repeats it until nothing
remains, and is forgotten then. It keeps its shards and answers meanwhile. A shard remains until it
has all the copies that the farmers that stay can give it; never without one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from aiohttp import web
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session, aliased

from storj.digest import is_hex
from storj.network.bridge.contacts import (
    LEAVING,
    known_contact,
    not_lately_timed_out,
    refresh_leaving,
    signed_farmer,
)
from storj.network.bridge.copies import (
    IN_USE,
    THIS_CONTRACT,
    UNCONFIRMED,
    confirm,
    confirmed,
    counts,
)
from storj.network.bridge.database import Locks, fingerprint
from storj.network.bridge.placement import suspect
from storj.network.bridge.state import BRIDGE, Bridge
from storj.network.bridge.tables import Contact, Contract, FarmerToken
from storj.network.bridge.upkeep.backlog import add, copies_lost, refused_among
from storj.network.bridge.upkeep.repairs import REPAIRS, Repairs
from storj.network.node.clock import lasts
from storj.network.node.pipelines import UNREAD
from storj.network.node.wire import (
    Refusal,
    Route,
    answer,
    number,
    parse_date,
    read_body,
    text,
)

logger = logging.getLogger(__name__)

_T = TypeVar('_T')

_MAX_ID = 320
_MAX_MESSAGE = 255
_SUCCESS = 1000
#: Hashes in one list, and most remaining shards that are counted.
_MOST_HASHES, _COUNTED = 1000, 10_000
#: Reports in one request.
_MOST_REPORTS = 100
# Shards of one transaction.
_AT_ONCE = 200

# What tells that a farmer has the shard, and that a copy came to nothing or is bad (section 9).
_ARRIVED = frozenset({'SUCCESS', 'SHARD_UPLOADED', 'MIRROR_SUCCESS'})
_STORED = _ARRIVED | {'SHARD_EXISTS', 'SHARD_DOWNLOADED'}
_NOT_COPIED = frozenset({'MIRROR_FAILED', 'FAILED_INTEGRITY'})
_COMPLAINTS = frozenset({'DOWNLOAD_ERROR', 'FAILED_INTEGRITY'})

# Both sides report on every shard, so built once.
_TOKEN = (
    select(FarmerToken.node_id)
    .where(FarmerToken.token == bindparam('known'), FarmerToken.shard_hash == bindparam('shard'))
    .scalar_subquery()
)
#: Each copy, whether it counts, its first token, and the farmer that gave out the client's later.
_CONTRACTS = (
    select(
        Contract.node_id,
        Contract.stored,
        Contract.failed,
        Contract.verified,
        counts(Contract).label('counts'),
        Contact.lost,
        Contract.token,
        _TOKEN.label('issuer'),
    )
    .join(Contact, Contact.node_id == Contract.node_id)
    .where(Contract.shard_hash == bindparam('shard'))
)
_CLAIMED = update(Contract).where(*THIS_CONTRACT).values(stored=True).execution_options(**UNREAD)


def _required(name: str, value: _T | None) -> _T:
    if value is None:
        raise Refusal(400, f'ExchangeReport validation failed: {name} is required')
    return value


class _Report(NamedTuple):
    """What a report says: whether the transfer succeeded, and its message."""

    success: bool
    message: str


def _report(body: Mapping[str, Any]) -> _Report:
    """Read a report.

    ``reporterId`` may be missing: libstorj names nobody.

    Raises:
        Refusal: If the value is invalid (400).
    """
    for name in ('reporterId', 'clientId'):
        text(body, name, _MAX_ID)
    for name in ('exchangeStart', 'exchangeEnd'):
        _required(name, parse_date(body.get(name)))
    code = _required('exchangeResultCode', number(body.get('exchangeResultCode')))
    message = text(body, 'exchangeResultMessage', _MAX_MESSAGE)
    return _Report(code == _SUCCESS, _required('exchangeResultMessage', message))


async def create_report(request: web.Request) -> web.Response:
    """Take a report."""
    body = await read_body(request)
    farmer = await signed_farmer(request) if 'x-node-signature' in request.headers else None
    await _note(request, body, farmer)
    return answer({}, 201)


async def create_reports(request: web.Request) -> web.Response:
    """Take some reports of a farmer."""
    farmer = await _own_node(request)
    reports = (await read_body(request)).get('reports')
    if not isinstance(reports, list) or not 0 < len(reports) <= _MOST_REPORTS:
        raise Refusal(400, 'Invalid reports supplied')

    async def note(body: Any) -> None:
        try:
            await _note(request, body if isinstance(body, dict) else {}, farmer)
        except Refusal as error:
            logger.debug('a report of %s is refused: %s', farmer, error)

    await asyncio.gather(*map(note, reports))
    return answer({}, 201)


async def _note(request: web.Request, body: Mapping[str, Any], farmer: str | None) -> None:
    """Apply a report, and have the copies made that it shows to be missing.

    Args:
        request (web.Request): that brought it.
        body (Mapping[str, Any]): the report.
        farmer (str | None): node id of the farmer that sent it.

    Raises:
        Refusal: If nobody has a contract for the shard (404), or the report is invalid (400).
    """
    bridge = request.app[BRIDGE]
    shard_hash = body.get('dataHash')
    if not isinstance(shard_hash, str) or not is_hex(shard_hash, 40):
        raise Refusal(400, 'ExchangeReport validation failed: dataHash is required')
    taken = await bridge.database.share(
        partial(
            _take,
            body=body,
            shard_hash=shard_hash,
            farmer=farmer,
            now=bridge.now(),
            first_audit=bridge.settings.first_audit,
        ),
        Locks.CONTRACT,
        shard_hash,
    )
    if taken is not None:
        _go_on(bridge, request.app[REPAIRS], taken, shard_hash, farmer)


class _Taken(NamedTuple):
    """What came of a report that counts.

    Attributes:
        report (_Report): what it says.
        node_id (str): the farmer that it is about.
        arrived (bool): the farmer has confirmed a copy that did not count.
        counted (set[str]): farmers with copies that count.
    """

    report: _Report
    node_id: str
    arrived: bool
    counted: set[str]


def _take(
    connection: Connection,
    body: Mapping[str, Any],
    shard_hash: str,
    farmer: str | None,
    now: int,
    first_audit: int,
) -> _Taken | None:
    """Apply a report; return None if its sender took no part in the exchange.

    Raises:
        Refusal: If nobody has a contract for the shard (404), or the report is invalid (400).
    """
    # The token proves the client: only it, the farmer and the bridge know it.
    token = text(body, 'token', _MAX_ID) if farmer is None else None
    wanted = {'shard': shard_hash, 'known': fingerprint(token) if token else ''}
    rows = connection.execute(_CONTRACTS, wanted).all()
    if not rows:
        raise Refusal(404, 'Shard not found for report')
    report = _report(body)
    copy = _reported(rows, farmer, wanted['known'])
    if copy is None:
        return None
    if farmer is None:
        arrived = False
        _apply_clients(connection, report, shard_hash, copy, now)
    else:
        arrived = _apply_farmers(connection, report, shard_hash, copy, now, first_audit)
    counted = {row.node_id for row in rows if row.counts}
    if arrived and not copy.lost:
        counted.add(copy.node_id)
    return _Taken(report, copy.node_id, arrived and not copy.counts, counted)


def _reported(rows: Sequence[Row[Any]], farmer: str | None, token: str) -> Row[Any] | None:
    """Return the copy that a report is about: the farmer's own, or that of the client's token."""
    issuer = farmer or rows[0].issuer
    if issuer is not None:
        return next((row for row in rows if row.node_id == issuer), None)
    return next((row for row in rows if token and row.token == token), None)


def _apply_farmers(
    connection: Connection,
    report: _Report,
    shard_hash: str,
    copy: Row[Any],
    now: int,
    first_audit: int,
) -> bool:
    """Apply the report of a farmer about its own copy; return whether it confirms it."""
    if not report.success or report.message not in _STORED:
        return False
    unknown = not copy.stored or copy.verified == UNCONFIRMED
    if report.message in _ARRIVED or (unknown and not copy.failed):
        confirm(connection, shard_hash, copy.node_id, now + first_audit)
        return True
    if copy.failed:
        # It says that it has what it could not prove.
        suspect(connection, shard_hash, copy.node_id, now)
    return False


def _apply_clients(
    connection: Connection, report: _Report, shard_hash: str, copy: Row[Any], now: int
) -> None:
    """Apply the report of a client about a farmer's copy."""
    if report.message in _COMPLAINTS:
        suspect(connection, shard_hash, copy.node_id, now)
    elif report.success and report.message in _STORED and not copy.stored:
        connection.execute(_CLAIMED, {'shard': shard_hash, 'farmer': copy.node_id})


def _go_on(
    bridge: Bridge, repairs: Repairs, taken: _Taken, shard_hash: str, farmer: str | None
) -> None:
    """Have the copies made that a report shows to be missing (section 3.7)."""
    report, awaited = taken.report, False
    if farmer is not None and report.success and report.message in _STORED:
        awaited = repairs.arrived(shard_hash, farmer, True)
    elif farmer is not None and report.message in _NOT_COPIED:
        repairs.arrived(shard_hash, farmer, False)
    changed = (taken.arrived and not awaited) or report.message in _COMPLAINTS
    if changed or report.message in _ARRIVED:
        repairs.ask(shard_hash, len(taken.counted - bridge.leaving), changed=changed)


async def _own_node(request: web.Request) -> str:
    """Return the node id of the farmer that signed a request about itself.

    Raises:
        Refusal: If the signature or the node id is wrong (400).
    """
    node_id = await signed_farmer(request)
    if request.match_info['node'] != node_id:
        raise Refusal(400, 'Invalid nodeID header')
    return node_id


async def tell(request: web.Request) -> web.Response:
    """Accept a farmer's report about its own shards; return which of them nobody needs."""
    bridge = request.app[BRIDGE]
    node_id = await _own_node(request)
    body = await read_body(request)
    bad, ended = _hashes(body, 'bad'), _hashes(body, 'ended')
    now = bridge.now()

    def note(session: Session) -> tuple[list[str], list[str]]:
        known_contact(session, node_id)
        failed = _note_bad(session, node_id, bad)
        copies_lost(bridge, session.connection(), failed)
        return failed, _release(session, node_id, ended, now)

    failed, unneeded = await bridge.database.run_objects(note)
    if failed:
        request.app[REPAIRS].notify()
    return answer({'nodeID': node_id, 'unneeded': unneeded})


def _hashes(body: Mapping[str, Any], name: str) -> list[str]:
    """Return a list of shard hashes, each once.

    Raises:
        Refusal: If the value is invalid (400).
    """
    hashes = body.get(name, [])
    if not isinstance(hashes, list) or len(hashes) > _MOST_HASHES:
        raise Refusal(400, f'Invalid {name} supplied')
    if not all(is_hex(item, 40) for item in hashes):
        raise Refusal(400, f'Invalid {name} supplied')
    return list(dict.fromkeys(hashes))


def _note_bad(session: Session, node_id: str, hashes: list[str]) -> list[str]:
    """Stop counting these copies; return those that counted until now."""
    lost = (Contract.node_id == node_id, Contract.shard_hash.in_(hashes))
    failed = session.scalars(
        select(Contract.shard_hash).where(*lost, Contract.failed.is_(False))
    ).all()
    session.execute(update(Contract).where(*lost).values(failed=True))
    return list(failed)


def _release(session: Session, node_id: str, hashes: list[str], now: int) -> list[str]:
    """Return the shards that a farmer may drop; have the contracts of the others renewed."""
    unneeded = []
    for contract, needed in session.execute(
        select(Contract, IN_USE).where(Contract.node_id == node_id, Contract.shard_hash.in_(hashes))
    ).all():
        if needed:
            contract.next_renewal = min(contract.next_renewal, now)
        elif contract.store_end <= now:
            # The record stays for a while: the farmer asks again if this answer is lost.
            contract.stored = False
            unneeded.append(contract.shard_hash)
    return unneeded


def _short_shards(
    session: Session,
    node_id: str,
    gone: Collection[str],
    wanted: int,
    now: int,
    *,
    asked: bool,
) -> list[str]:
    """Return shards in use of a farmer that have too few copies on farmers that stay.

    That is those without a copy on one that answers, and those with fewer copies than wanted as
    long as a farmer that accepts shards has none: more copies than farmers there cannot be.

    Args:
        session (Session): in a transaction.
        node_id (str): of the farmer.
        gone (Collection[str]): farmers that leave, this one included.
        wanted (int): copies of each shard.
        now (int): milliseconds since 1970.
        asked (bool): whether all farmers were asked since it leaves: for a shard that nobody takes,
            one copy is enough.

    Returns:
        list[str]: shard hashes, ten thousand at the most.
    """
    answers = not_lately_timed_out(now)
    accepts = and_(Contact.space_available.is_(True), Contact.lost.is_(False), answers)
    other = aliased(Contract)
    counted = _number(counts(other))
    living = _number(and_(counts(other), answers))
    # Those have it, or say so: nobody asks them to copy it.
    served = _number(and_(accepts, confirmed(other)))
    accepting = select(func.count()).where(Contact.node_id.not_in(gone), accepts)
    wanted_elsewhere = and_(counted < wanted, served < session.scalar(accepting))
    query = (
        select(Contract.shard_hash, living)
        .outerjoin(other, and_(other.shard_hash == Contract.shard_hash, other.node_id.not_in(gone)))
        .outerjoin(Contact, Contact.node_id == other.node_id)
        .where(
            Contract.node_id == node_id,
            Contract.stored.is_(True),
            Contract.failed.is_(False),
            IN_USE,
        )
        .group_by(Contract.shard_hash)
        .having(or_(living == 0, wanted_elsewhere))
    )
    short = [(name, copies) for name, copies in islice(session.execute(query), _COUNTED)]
    some = [name for name, copies in short if copies]
    refused = refused_among(session.connection(), some) if asked else set()
    return [name for name, copies in short if not copies or name not in refused]


def _number(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Return how many rows of a group meet a condition."""
    return func.sum(case((condition, 1), else_=0))


async def _forget(bridge: Bridge, node_id: str) -> None:
    """Forget a farmer with all that it had; its audits go with their contracts."""
    await bridge.database.delete_all(Contract, Contract.node_id == node_id)
    gone = delete(Contact).where(Contact.node_id == node_id)
    await bridge.database.run(lambda connection: connection.execute(gone))


async def leave(request: web.Request) -> web.Response:
    """Forget a farmer, or return how many of its shards have to be copied first."""
    bridge = request.app[BRIDGE]
    node_id = await _own_node(request)
    now = bridge.now()

    def close(session: Session) -> int | None:
        contact = known_contact(session, node_id)
        # From now on it gets no new shards, or it could never finish.
        contact.space_available = False
        contact.last_seen = now
        before, contact.leaving = contact.leaving, now
        return before

    before = await bridge.database.run_objects(close)
    # Of two that leave at once, at least the later one knows of the other, at whatever bridge.
    await refresh_leaving(bridge)
    repairs = request.app[REPAIRS]
    # Who refused before this farmer wanted to leave may accept now: each is asked once more.
    asked = before is not None and lasts(before, LEAVING, now)
    gone = {node_id} | bridge.leaving
    remaining = await bridge.database.apart(
        lambda session: _short_shards(session, node_id, gone, repairs.wanted, now, asked=asked),
        long=True,
    )
    if not remaining:
        await _forget(bridge, node_id)
    # It calls again in a second: some are enough.
    for start in range(0, min(len(remaining), _MOST_HASHES), _AT_ONCE):
        some = dict.fromkeys(remaining[start : start + _AT_ONCE], 1)
        await bridge.database.run(partial(add, bridge, shards=some))
    repairs.notify()
    return answer({'nodeID': node_id, 'remaining': len(remaining)}, 202 if remaining else 200)


ROUTES = (
    Route('POST', '/reports/exchanges', create_report),
    Route('POST', '/contacts/{node}/reports', create_reports),
    Route('POST', '/contacts/{node}/shards', tell),
    Route('DELETE', '/contacts/{node}', leave),
)
