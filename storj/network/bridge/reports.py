"""Exchange reports: what clients and farmers say about a transfer (protocol reference, section 9).

Anybody can send one. A report is believed no further than it can do harm: it tells the bridge
that a farmer it made a contract with has the shard by now, and asks for one more copy.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, TypeVar

from aiohttp import web
from sqlalchemy import Connection, bindparam, insert, select, update

from storj.network.bridge.database import Contact, Contract, FarmerToken, Report, fingerprint
from storj.network.bridge.mirrors import Mirroring
from storj.network.bridge.placement import drop_contract
from storj.network.bridge.state import BRIDGE
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

__all__ = ('MIRRORING', 'ROUTES')

#: Key of the mirroring in the bridge's application.
MIRRORING: web.AppKey[Mirroring] = web.AppKey('mirroring', Mirroring)

_T = TypeVar('_T')

_MAX_ID = 320
_MAX_MESSAGE = 255
_SUCCESS = 1000

# What tells that a farmer has the shard, and what asks for one more copy (section 3.7).
_STORED = frozenset(
    {'SUCCESS', 'SHARD_UPLOADED', 'SHARD_EXISTS', 'SHARD_DOWNLOADED', 'MIRROR_SUCCESS'}
)
_NOT_COPIED = frozenset({'MIRROR_FAILED', 'FAILED_INTEGRITY'})
_WANTS_COPY = frozenset({'SUCCESS', 'SHARD_UPLOADED', 'MIRROR_SUCCESS', 'DOWNLOAD_ERROR'})

# Every shard is reported on by both of its sides, so built once.
_CONTRACTS = select(Contract.node_id, Contract.stored, Contract.mirror).where(
    Contract.shard_hash == bindparam('shard')
)
_ISSUER = select(FarmerToken.node_id).where(
    FarmerToken.token == bindparam('known'), FarmerToken.shard_hash == bindparam('shard')
)
_KNOWN = select(Contact.node_id).where(Contact.node_id == bindparam('farmer'))
_ARRIVED = (
    update(Contract)
    .where(Contract.shard_hash == bindparam('shard'), Contract.node_id == bindparam('farmer'))
    .values(stored=True)
)
_NEW_REPORT = insert(Report)


def _required(name: str, value: _T | None) -> _T:
    if value is None:
        raise Refusal(400, f'ExchangeReport validation failed: {name} is required')
    return value


def _report(body: dict[str, Any], shard_hash: str, now: int) -> dict[str, Any]:
    """Read a report, as a row of its table.

    ``reporterId`` may be missing: libstorj names nobody.

    Raises:
        Refusal: 400.
    """
    farmer_id = body.get('farmerId')
    return {
        'id': secrets.token_hex(12),
        'created': now,
        'shard_hash': shard_hash,
        'reporter_id': text(body, 'reporterId', _MAX_ID),
        'client_id': text(body, 'clientId', _MAX_ID),
        'farmer_id': farmer_id if hex_text(farmer_id, 40) else None,
        'start': _required('exchangeStart', parse_date(body.get('exchangeStart'))),
        'end': _required('exchangeEnd', parse_date(body.get('exchangeEnd'))),
        'code': _required('exchangeResultCode', number(body.get('exchangeResultCode'))),
        'message': _required(
            'exchangeResultMessage', text(body, 'exchangeResultMessage', _MAX_MESSAGE)
        ),
    }


def _farmer_of(connection: Connection, report: Mapping[str, Any], token: str | None) -> str | None:
    """Return the farmer that a report is about: by the token used, else by the names given."""
    if token:
        issuer = connection.scalar(
            _ISSUER, {'known': fingerprint(token), 'shard': report['shard_hash']}
        )
        if issuer is not None:
            return issuer
    reporter: str | None = report['reporter_id']
    if reporter is not None and connection.scalar(_KNOWN, {'farmer': reporter}):
        # A farmer speaks of itself, also when it names the one it has copied from.
        return reporter
    farmer: str | None = report['farmer_id']
    return farmer


def _believe(
    connection: Connection, report: Mapping[str, Any], node_id: str, *, stored: bool, mirror: bool
) -> None:
    """Note what a report says about a farmer's contract, as far as it can do no harm."""
    if report['code'] == _SUCCESS and report['message'] in _STORED:
        if not stored:
            connection.execute(_ARRIVED, {'shard': report['shard_hash'], 'farmer': node_id})
    elif report['message'] in _NOT_COPIED and mirror and not stored:
        drop_contract(connection, report['shard_hash'], node_id)


async def create_report(request: web.Request) -> web.Response:
    """Take a report."""
    bridge = request.app[BRIDGE]
    body = await read_body(request)
    shard_hash = body.get('dataHash')
    if not isinstance(shard_hash, str) or not hex_text(shard_hash, 40):
        raise Refusal(400, 'ExchangeReport validation failed: dataHash is required')
    with bridge.database.begin_plain() as connection:
        contracts = connection.execute(_CONTRACTS, {'shard': shard_hash}).all()
        if not contracts:
            raise Refusal(404, 'Shard not found for report')
        report = _report(body, shard_hash, bridge.now())
        node_id = _farmer_of(connection, report, text(body, 'token', _MAX_ID))
        for contract in contracts:
            if contract.node_id == node_id:
                _believe(
                    connection,
                    report,
                    contract.node_id,
                    stored=contract.stored,
                    mirror=contract.mirror,
                )
        connection.execute(_NEW_REPORT, report)
    if report['message'] in _WANTS_COPY:
        request.app[MIRRORING].ask(shard_hash)
    return answer({}, 201)


ROUTES = (Route('POST', '/reports/exchanges', create_report),)
