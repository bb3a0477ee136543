"""Exchange reports: what clients and farmers say about a transfer (protocol reference, section 9).

Anybody can send one; it counts if its sender took part in the exchange. A farmer signs its reports
like its other requests; a client sends the farmer's token that it used. A farmer's report
confirms its own copy. A client's report makes the bridge check: whether the farmer has the shard,
or whether a copy about which the client complains passes an audit. All others, such as those of
the originals' clients and farmers, which prove nothing, are answered and ignored; the bridge finds
out by itself then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from aiohttp import web
from sqlalchemy import Connection, bindparam, select, update

from storj.network.bridge.contacts import signed_farmer
from storj.network.bridge.copies import RETURNS, UNCONFIRMED
from storj.network.bridge.database import Contract, FarmerToken, fingerprint
from storj.network.bridge.placement import suspect
from storj.network.bridge.repairs import REPAIRS, Repairs
from storj.network.bridge.state import BRIDGE, Bridge
from storj.network.node.wire import (
    Refusal,
    Route,
    answer,
    hex_text,
    number,
    parse_date,
    read_body,
    text,
)

__all__ = ('ROUTES',)

_T = TypeVar('_T')

_MAX_ID = 320
_MAX_MESSAGE = 255
_SUCCESS = 1000

# What tells that a farmer has the shard, and that a copy came to nothing or is bad (section 9).
_ARRIVED = frozenset({'SUCCESS', 'SHARD_UPLOADED', 'MIRROR_SUCCESS'})
_STORED = _ARRIVED | {'SHARD_EXISTS', 'SHARD_DOWNLOADED'}
_NOT_COPIED = frozenset({'MIRROR_FAILED', 'FAILED_INTEGRITY'})
_COMPLAINTS = frozenset({'DOWNLOAD_ERROR', 'FAILED_INTEGRITY'})

# Both sides report on every shard, so built once.
_CONTRACTS = select(Contract.node_id, Contract.stored, Contract.failed, Contract.verified).where(
    Contract.shard_hash == bindparam('shard')
)
_ISSUER = select(FarmerToken.node_id).where(
    FarmerToken.token == bindparam('known'), FarmerToken.shard_hash == bindparam('shard')
)
_THIS = (Contract.shard_hash == bindparam('shard'), Contract.node_id == bindparam('farmer'))
_CONFIRMED = (
    update(Contract)
    .where(*_THIS)
    .values(stored=True, failed=False, verified=RETURNS, next_audit=bindparam('first'))
)
_CLAIMED = update(Contract).where(*_THIS).values(stored=True)


def _required(name: str, value: _T | None) -> _T:
    if value is None:
        raise Refusal(400, f'ExchangeReport validation failed: {name} is required')
    return value


class _Known(NamedTuple):
    """What is known of a farmer's copy."""

    node_id: str
    stored: bool
    failed: bool
    verified: int


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
    bridge, repairs = request.app[BRIDGE], request.app[REPAIRS]
    body = await read_body(request)
    shard_hash = body.get('dataHash')
    if not isinstance(shard_hash, str) or not hex_text(shard_hash, 40):
        raise Refusal(400, 'ExchangeReport validation failed: dataHash is required')
    farmer = await signed_farmer(request) if 'x-node-signature' in request.headers else None
    with bridge.database.begin_plain() as connection:
        copies = [_Known(*row) for row in connection.execute(_CONTRACTS, {'shard': shard_hash})]
        if not copies:
            raise Refusal(404, 'Shard not found for report')
        report = _report(body)
        # The token proves the client: only it, the farmer and the bridge know it.
        node_id = farmer or _issuer(connection, body, shard_hash)
        copy = next((copy for copy in copies if copy.node_id == node_id), None)
        if copy is not None:
            hear = _hear_client if farmer is None else _hear_farmer
            hear(bridge, connection, report, shard_hash, copy)
    if copy is not None:
        _go_on(repairs, report, shard_hash, farmer)
    return answer({}, 201)


def _issuer(connection: Connection, body: Mapping[str, Any], shard_hash: str) -> str | None:
    """Return the farmer that gave out the token that a client sends along."""
    token = text(body, 'token', _MAX_ID)
    if not token:
        return None
    return connection.scalar(_ISSUER, {'known': fingerprint(token), 'shard': shard_hash})


def _hear_farmer(
    bridge: Bridge, connection: Connection, report: _Report, shard_hash: str, copy: _Known
) -> None:
    """Note the word of a farmer about its own copy."""
    if not report.success or report.message not in _STORED:
        return
    unknown = not copy.stored or copy.verified == UNCONFIRMED
    if report.message in _ARRIVED or (unknown and not copy.failed):
        key = {'shard': shard_hash, 'farmer': copy.node_id}
        first = bridge.now() + bridge.settings.first_audit
        connection.execute(_CONFIRMED, {**key, 'first': first})
        bridge.promises.keep(shard_hash, copy.node_id)
    elif copy.failed:
        # It says that it has what it could not prove.
        suspect(bridge, connection, shard_hash, copy.node_id)


def _hear_client(
    bridge: Bridge, connection: Connection, report: _Report, shard_hash: str, copy: _Known
) -> None:
    """Note the word of a client about a farmer's copy."""
    if report.message in _COMPLAINTS:
        suspect(bridge, connection, shard_hash, copy.node_id)
    elif report.success and report.message in _STORED and not copy.stored:
        connection.execute(_CLAIMED, {'shard': shard_hash, 'farmer': copy.node_id})


def _go_on(repairs: Repairs, report: _Report, shard_hash: str, farmer: str | None) -> None:
    """Have the copies made that a report shows to be missing (section 3.7)."""
    if farmer is not None and report.success and report.message in _STORED:
        repairs.arrived(shard_hash, farmer, True)
    elif farmer is not None and report.message in _NOT_COPIED:
        repairs.arrived(shard_hash, farmer, False)
    if report.message in _ARRIVED | _COMPLAINTS:
        repairs.ask(shard_hash)


ROUTES = (Route('POST', '/reports/exchanges', create_report),)
