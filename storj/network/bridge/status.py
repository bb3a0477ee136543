"""The state of the local network: for ``storj network status``, and as a page for a browser.

Everybody sees farmers and totals, and each user also their own files: ids, sizes and farmers, never
names, tokens or accounts.
"""

from __future__ import annotations

import heapq
import html
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from aiohttp import web
from sqlalchemy import select
from sqlalchemy.orm import Session

from storj.network.bridge.auth import authenticate
from storj.network.bridge.contacts import lately_timed_out, write_calls
from storj.network.bridge.copies import counts
from storj.network.bridge.state import BRIDGE, Bridge
from storj.network.bridge.tables import Bucket, Contact, Contract, Entry, Frame, Pointer
from storj.network.bridge.totals import Totals
from storj.network.node.pages import html_page, wants_page
from storj.network.node.wire import Route, answer, iso_date, vary
from storj.text import count_of

# Newest files whose places are shown, and shards of them all.
_FILES = 100
_SHARDS = 5000

#: Key of the counts in the bridge's application.
TOTALS: web.AppKey[Totals] = web.AppKey('totals', Totals)


def network_status(
    session: Session, bridge: Bridge, counted: Counter[str], user: str | None = None
) -> dict[str, Any]:
    """Return the state of the network.

    Args:
        session (Session): in a transaction.
        bridge (Bridge): the bridge.
        counted (Counter[str]): of :class:`~storj.network.bridge.totals.Totals`.
        user (str | None): e-mail of the account whose files are shown; None for no files.

    Returns:
        dict[str, Any]: ``bridge`` (version, protocol, url, and the ``extended_key`` of its renter
        nodes), ``farmers`` (address card, ``online``, ``lost`` (it has not answered for so long
        that its copies count as lost), ``clock_skew`` (seconds by which its clock is ahead, if that
        is too much for it to be called; else None), ``space_available``, ``space_offered`` (None if
        it does not say), ``shards``, ``mirrors``, ``bytes``, ``audits_passed``, ``audits_failed``,
        ``audits_open``), ``totals`` (files, bytes, shards, mirrors, audits, ``copies_wanted`` of
        each shard, ``under_replicated``: shards of files that have fewer, and ``without_copies``:
        those of them that have none) and ``files``, the user's newest 100, each with its ``shards``
        (of all files 5000) and for each the ``farmers`` that have it (``node_id``, ``stored``,
        ``mirror``, ``failed``, ``counts``: whether it counts as a copy). Sizes are bytes.
    """
    farmers = _farmers(session, bridge, counted)
    wanted = bridge.settings.copies
    return {
        'bridge': {
            'url': bridge.settings.public_url,
            'version': bridge.release.version,
            'protocol': bridge.release.protocol,
            'extended_key': bridge.renter.extended_key,
        },
        'farmers': farmers,
        'totals': {
            'files': counted['files'],
            'bytes': counted['file bytes'],
            **{
                name: sum(farmer[name] for farmer in farmers)
                for name in ('shards', 'mirrors', 'audits_passed', 'audits_failed')
            },
            'copies_wanted': wanted,
            'under_replicated': sum(counted[f'copies {number}'] for number in range(wanted)),
            'without_copies': counted['copies 0'],
        },
        'files': [] if user is None else _files(session, user),
    }


def _farmers(session: Session, bridge: Bridge, counted: Counter[str]) -> list[dict[str, Any]]:
    now = bridge.now()
    return [
        {
            'node_id': contact.node_id,
            'address': contact.address,
            'port': contact.port,
            'protocol': contact.protocol,
            'user_agent': contact.user_agent,
            'last_seen': iso_date(contact.last_seen),
            'online': not (contact.lost or lately_timed_out(contact, now)),
            'lost': contact.lost,
            'clock_skew': bridge.clock_skews.get(contact.node_id),
            'space_available': contact.space_available,
            'space_offered': contact.space_offered,
            'reputation': contact.reputation,
            **{
                name: counted[f'{name} {contact.node_id}']
                for name in ('shards', 'mirrors', 'bytes')
            },
            'audits_passed': contact.audits_passed,
            'audits_failed': contact.audits_failed,
            'audits_open': counted[f'audits {contact.node_id}'],
        }
        for contact in session.scalars(select(Contact).order_by(Contact.port, Contact.node_id))
    ]


def _newest(session: Session, user: str) -> list[str]:
    """Return the newest files of a user: of each bucket by its index, however many it has."""
    newest: list[tuple[int, str]] = []
    for bucket in session.scalars(select(Bucket.id).where(Bucket.user == user)):
        of_bucket = (
            select(Entry.created, Entry.id)
            .where(Entry.bucket == bucket)
            .order_by(Entry.created.desc())
            .limit(_FILES)
        )
        found = [(created, entry) for created, entry in session.execute(of_bucket)]
        newest = heapq.nlargest(_FILES, [*newest, *found])
    return [entry for _, entry in newest]


def _files(session: Session, user: str) -> list[dict[str, Any]]:
    entries = session.execute(
        select(Entry, Frame)
        .join(Frame, Frame.id == Entry.frame)
        .where(Entry.id.in_(_newest(session, user)))
        .order_by(Entry.created.desc())
    ).all()
    frames = [entry.frame for entry, _ in entries]
    places: dict[str, list[dict[str, Any]]] = defaultdict(list)
    pointers = session.scalars(
        select(Pointer).where(Pointer.frame.in_(frames)).order_by(Pointer.position).limit(_SHARDS)
    ).all()
    # By a list: for a condition on pointers, a planner that has no statistics reads all contracts.
    hashes = {pointer.shard_hash for pointer in pointers}
    for contract in session.execute(
        select(
            Contract.shard_hash,
            Contract.node_id,
            Contract.stored,
            Contract.mirror,
            Contract.failed,
            counts(Contract).label('counts'),
        )
        .join(Contact, Contact.node_id == Contract.node_id)
        .where(Contract.shard_hash.in_(hashes))
        .order_by(Contract.mirror, Contract.store_begin, Contract.node_id)
    ):
        shard_hash, *copy = contract
        names = ('node_id', 'stored', 'mirror', 'failed', 'counts')
        places[shard_hash].append(dict(zip(names, copy, strict=True)))
    shards: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for pointer in pointers:
        shards[pointer.frame].append(
            {
                'index': pointer.position,
                'hash': pointer.shard_hash,
                'size': pointer.size,
                'parity': pointer.parity,
                'farmers': places[pointer.shard_hash],
            }
        )
    return [
        {
            'id': entry.id,
            'bucket': entry.bucket,
            'size': frame.size,
            'created': iso_date(entry.created),
            'shards': shards[entry.frame],
        }
        for entry, frame in entries
    ]


async def get_status(request: web.Request) -> web.Response:
    """Show how the network and the caller's files are doing, as JSON or as a page."""
    known = 'authorization' in request.headers or 'x-pubkey' in request.headers
    user = (await authenticate(request)).email if known else None
    bridge = request.app[BRIDGE]
    await write_calls(bridge)
    counted = await request.app[TOTALS].get()
    state = await bridge.database.apart(
        partial(network_status, bridge=bridge, counted=counted, user=user)
    )
    response = _page(state) if wants_page(request) else answer(state)
    vary(response, 'Accept')
    return response


def _page(state: dict[str, Any]) -> web.Response:
    bridge, totals = state['bridge'], state['totals']
    farmer_rows = [
        (
            _code(farmer['node_id'][:12]),
            html.escape(f'{farmer["address"]}:{farmer["port"]}'),
            html.escape(farmer['protocol']),
            _state(farmer),
            *(f'{farmer[name]:,}' for name in ('shards', 'mirrors', 'bytes')),
            f'{farmer["audits_passed"]:,}',
            f'{farmer["audits_failed"]:,}',
        )
        for farmer in state['farmers']
    ]
    shard_rows = [
        (
            _code(file['id']),
            f'{shard["index"]}{" parity" if shard["parity"] else ""}',
            _code(shard['hash'][:12]),
            f'{shard["size"]:,}',
            ' '.join(_code(copy['node_id'][:12]) for copy in shard['farmers'] if copy['counts']),
        )
        for file in state['files']
        for shard in file['shards']
    ]
    return html_page(
        f'Storj network at {bridge["url"]}',
        f'<p>Bridge {html.escape(bridge["version"])}, {count_of(len(state["farmers"]), "farmer")}, '
        f'{count_of(totals["files"], "file", ",")} of {count_of(totals["bytes"], "byte", ",")}, '
        f'{count_of(totals["shards"], "shard", ",")}, '
        f'audits: {totals["audits_passed"]:,} passed, {totals["audits_failed"]:,} failed.</p>'
        + _supply_line(totals)
        + '<h2>Farmers</h2>'
        + _table(
            'Node,Address,Protocol,State,#Shards,#Mirrors,#Bytes,#Audits passed,#Failed',
            farmer_rows,
        )
        + (
            '<h2>Where shards are</h2>' + _table('File,Shard,Hash,#Bytes,Farmers', shard_rows)
            if shard_rows
            else ''
        ),
    )


def _supply_line(totals: Mapping[str, int]) -> str:
    """Return the line about shards with too few copies."""
    kind = ' class="off"' if totals['under_replicated'] else ''
    return (
        f'<p{kind}>Copies wanted of each shard: {totals["copies_wanted"]}; '
        f'shards with fewer: {totals["under_replicated"]:,}, '
        f'with none: {totals["without_copies"]:,}.</p>'
    )


def _state(farmer: Mapping[str, Any]) -> str:
    if farmer['clock_skew'] is not None:
        return f'<span class="off">clock {farmer["clock_skew"]:+.0f} s</span>'
    if farmer['lost']:
        return '<span class="off">lost</span>'
    return 'online' if farmer['online'] else '<span class="off">away</span>'


def _code(text: str) -> str:
    return f'<code>{html.escape(text)}</code>'


def _table(heads: str, rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table; a head that begins with # stands over numbers."""
    names = heads.split(',')
    kinds = [' class="n"' if name.startswith('#') else '' for name in names]
    head = ''.join(
        f'<th{kind}>{name.lstrip("#")}</th>' for name, kind in zip(names, kinds, strict=True)
    )
    body = ''.join(
        '<tr>'
        + ''.join(f'<td{kind}>{cell}</td>' for cell, kind in zip(row, kinds, strict=True))
        + '</tr>'
        for row in rows
    )
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{body}</tbody></table></div>'
    )


ROUTES = (Route('GET', '/status', get_status),)
