"""Exchange reports: what clients and farmers say about a transfer (protocol reference, section 9).

Anybody can send one. A report is believed no further than it can do harm: it tells the bridge
that a farmer it made a contract with has the shard by now, and asks for one more copy.
"""

from __future__ import annotations

import secrets
from typing import Any, TypeVar

from aiohttp import web
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from storj.network.bridge import BRIDGE
from storj.network.database import Contact, Contract, FarmerToken, Report, fingerprint
from storj.network.mirrors import Mirroring
from storj.network.placement import drop_contract
from storj.network.wire import Refusal, Route, answer, hex_text, number, parse_date, read_body, text

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


def _required(name: str, value: _T | None) -> _T:
    if value is None:
        raise Refusal(400, f'ExchangeReport validation failed: {name} is required')
    return value


def _report(body: dict[str, Any], shard_hash: str, now: int) -> Report:
    """Read a report.

    ``reporterId`` may be missing: libstorj names nobody.

    Raises:
        Refusal: 400.
    """
    farmer_id = body.get('farmerId')
    return Report(
        id=secrets.token_hex(12),
        created=now,
        shard_hash=shard_hash,
        reporter_id=text(body, 'reporterId', _MAX_ID),
        client_id=text(body, 'clientId', _MAX_ID),
        farmer_id=farmer_id if hex_text(farmer_id, 40) else None,
        start=_required('exchangeStart', parse_date(body.get('exchangeStart'))),
        end=_required('exchangeEnd', parse_date(body.get('exchangeEnd'))),
        code=_required('exchangeResultCode', number(body.get('exchangeResultCode'))),
        message=_required(
            'exchangeResultMessage', text(body, 'exchangeResultMessage', _MAX_MESSAGE)
        ),
    )


def _farmer_of(session: Session, report: Report, token: str | None) -> str | None:
    """Return the farmer that a report is about: by the token used, else by the names given."""
    if token:
        known = session.get(FarmerToken, fingerprint(token))
        if known is not None and known.shard_hash == report.shard_hash:
            return known.node_id
    if report.reporter_id is not None and session.get(Contact, report.reporter_id) is not None:
        # A farmer speaks of itself, also when it names the one it has copied from.
        return report.reporter_id
    return report.farmer_id


def _believe(session: Session, contract: Contract, report: Report) -> None:
    if report.code == _SUCCESS and report.message in _STORED:
        contract.stored = True
    elif report.message in _NOT_COPIED and contract.mirror and not contract.stored:
        drop_contract(session, contract.shard_hash, contract.node_id)


async def create_report(request: web.Request) -> web.Response:
    """Take a report."""
    bridge = request.app[BRIDGE]
    body = await read_body(request)
    shard_hash = body.get('dataHash')
    if not isinstance(shard_hash, str) or not hex_text(shard_hash, 40):
        raise Refusal(400, 'ExchangeReport validation failed: dataHash is required')
    with bridge.database.begin() as session:
        if not session.scalar(select(exists().where(Contract.shard_hash == shard_hash))):
            raise Refusal(404, 'Shard not found for report')
        report = _report(body, shard_hash, bridge.now())
        node_id = _farmer_of(session, report, text(body, 'token', _MAX_ID))
        contract = session.get(Contract, (shard_hash, node_id)) if node_id else None
        if contract is not None:
            _believe(session, contract, report)
        session.add(report)
    if report.message in _WANTS_COPY:
        request.app[MIRRORING].ask(shard_hash)
    return answer({}, 201)


ROUTES = (Route('POST', '/reports/exchanges', create_report),)
