"""Asking farmers that have a shard for a token, by which it can be fetched.

What a farmer answers, or fails to, is noted on its contact, so that healthy farmers are asked
first.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, bindparam, case, delete, insert, select, update

from storj.network.bridge.contacts import (
    KNOWN_FARMER,
    FarmerCall,
    KnownFarmer,
    lately_timed_out,
    node_contact,
    note_calls,
)
from storj.network.bridge.copies import NEVER, RETURNS, UNCONFIRMED
from storj.network.bridge.database import Contact, Contract, FarmerToken, fingerprint
from storj.network.bridge.renter import ClockSkewError, NodeError, NodeUnreachableError
from storj.network.bridge.state import Bridge

__all__ = ('call_farmer', 'download_tokens', 'remember_tokens', 'token_from')

logger = logging.getLogger(__name__)

# Seconds after which the next farmer is asked for a token as well, and after which none is.
_STAGGER = 1.0
_TOKEN_WAIT = 20.0
# Shards of one request for which farmers are asked at once.
_TOKENS_AT_ONCE = 24

# Chance breaks ties.
_DICE = 2**32

_KEEPERS = (
    select(Contract.shard_hash, Contract.failed, Contract.stored, *KNOWN_FARMER)
    .join(Contact, Contact.node_id == Contract.node_id)
    .where(
        Contract.shard_hash.in_(bindparam('shards', expanding=True)),
        Contact.node_id.not_in(bindparam('exclude', expanding=True)),
    )
)
# A farmer gives out no token for what it does not have; but it says so about what it had when it
# was away, too, so this does not verify a copy again.
_FETCHED = (
    update(Contract)
    .where(Contract.shard_hash == bindparam('shard'), Contract.node_id == bindparam('farmer'))
    .values(
        stored=True,
        verified=case((Contract.verified == UNCONFIRMED, RETURNS), else_=Contract.verified),
        next_audit=case(
            (Contract.next_audit == NEVER, bindparam('audit')), else_=Contract.next_audit
        ),
        download_count=Contract.download_count + 1,
    )
)
_DROP_TOKEN = delete(FarmerToken).where(FarmerToken.token == bindparam('known'))
_NEW_TOKEN = insert(FarmerToken)

_T = TypeVar('_T')
_Farmer = TypeVar('_Farmer', bound='Contact | KnownFarmer')


async def call_farmer(
    bridge: Bridge,
    contact: Contact | KnownFarmer,
    call: Awaitable[_T],
    calls: list[FarmerCall],
    *,
    timed: bool = False,
) -> _T:
    """Wait for a call to a farmer, and tell how it went.

    Args:
        bridge (Bridge): the bridge.
        contact (Contact | KnownFarmer): the farmer.
        call (Awaitable[_T]): of the renter node.
        calls (list[FarmerCall]): how it went is appended, for :func:`note_calls`.
        timed (bool): whether the time taken says something about the farmer's speed.

    Raises:
        NodeError: If the farmer refused.
        NodeUnreachableError: If it does not answer, or not in time.
    """
    started = time.monotonic()

    def ended(seconds: float | None = None, failure: Exception | None = None) -> None:
        calls.append(FarmerCall(contact.node_id, bridge.now(), seconds, failure))

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


def remember_tokens(
    bridge: Bridge, connection: Connection, tokens: Iterable[tuple[str, str, str]]
) -> None:
    """Keep which farmer gave out which tokens, for the reports about their use.

    Args:
        bridge (Bridge): the bridge.
        connection (Connection): in a transaction.
        tokens (Iterable[tuple[str, str, str]]): token, shard hash and node id of each; at least
            one.
    """
    now = bridge.now()
    # By the token: farmers make them up, and nothing keeps one from saying the same twice.
    rows = {
        (key := fingerprint(token)): {
            'token': key,
            'shard_hash': shard_hash,
            'node_id': node_id,
            'created': now,
        }
        for token, shard_hash, node_id in tokens
    }
    connection.execute(_DROP_TOKEN, [{'known': key} for key in rows])
    connection.execute(_NEW_TOKEN, list(rows.values()))


def _holders_by_merit(
    bridge: Bridge, connection: Connection, hashes: Collection[str], *, exclude: Collection[str]
) -> dict[str, list[KnownFarmer]]:
    """Return for each shard the farmers that have a contract for it, the most promising first."""
    now = bridge.now()
    ranked: dict[str, list[tuple[tuple[bool, bool, bool, int], KnownFarmer]]] = {}
    rows = connection.execute(_KEEPERS, {'shards': list(set(hashes)), 'exclude': list(exclude)})
    for shard_hash, failed, stored, *card in rows:
        contact = KnownFarmer(*card)
        away = contact.lost or lately_timed_out(contact, now)
        rank = (failed, not stored, away, secrets.randbelow(_DICE))
        ranked.setdefault(shard_hash, []).append((rank, contact))
    return {
        shard_hash: [contact for _, contact in sorted(pairs, key=lambda pair: pair[0])]
        for shard_hash, pairs in ranked.items()
    }


async def download_tokens(
    bridge: Bridge, hashes: Sequence[str], *, exclude: Collection[str] = ()
) -> list[tuple[KnownFarmer, str] | None]:
    """Get farmers' tokens for the download of shards.

    For each shard the best farmer is asked first; as long as there is no token, another one every
    second. The holders of all shards are looked up at once, and what came of it is noted at once.

    Args:
        bridge (Bridge): the bridge.
        hashes (Sequence[str]): of the shards; one that comes twice gets two tokens.
        exclude (Collection[str]): farmers that are not wanted.

    Returns:
        list[tuple[KnownFarmer, str] | None]: for each shard a farmer and its token, or None if none
        gives one out.
    """
    with bridge.database.begin_plain() as connection:
        holders = _holders_by_merit(bridge, connection, hashes, exclude=exclude)
    calls: list[FarmerCall] = []
    granted: list[tuple[str, str, str]] = []
    at_once = asyncio.Semaphore(_TOKENS_AT_ONCE)

    async def token_for(shard_hash: str) -> tuple[KnownFarmer, str] | None:
        async with at_once:
            # What the calls for other shards have shown meanwhile counts as if it were noted.
            silent = {call.node_id for call in calls if call.failure is not None}
            contacts = sorted(holders.get(shard_hash, ()), key=lambda c: c.node_id in silent)
            found = await _first(
                [partial(_retrieve, bridge, contact, shard_hash, calls) for contact in contacts]
            )
        if found is not None:
            contact, token = found
            granted.append((token, shard_hash, contact.node_id))
        return found

    found = await asyncio.gather(*map(token_for, hashes))
    with bridge.noting() as connection:
        note_calls(bridge, connection, calls)
        if granted:
            _note_granted(bridge, connection, granted)
    return found


def _note_granted(
    bridge: Bridge, connection: Connection, granted: Sequence[tuple[str, str, str]]
) -> None:
    """Note tokens for downloads: a farmer gives none for what it does not have.

    Args:
        bridge (Bridge): the bridge.
        connection (Connection): in a transaction.
        granted (Sequence[tuple[str, str, str]]): token, shard hash and node id of each; at least
            one.
    """
    remember_tokens(bridge, connection, granted)
    for _, shard_hash, node_id in granted:
        bridge.promises.keep(shard_hash, node_id)
    first_audit = bridge.now() + bridge.settings.first_audit
    connection.execute(
        _FETCHED,
        [
            {'shard': shard_hash, 'farmer': node_id, 'audit': first_audit}
            for _, shard_hash, node_id in granted
        ],
    )


async def token_from(bridge: Bridge, contact: Contact | KnownFarmer, shard_hash: str) -> str:
    """Get one farmer's token for the download of a shard.

    Raises:
        NodeError: If the farmer does not have it, or refuses.
        NodeUnreachableError: If it does not answer.
    """
    calls: list[FarmerCall] = []
    granted: list[tuple[str, str, str]] = []
    try:
        _, token = await _retrieve(bridge, contact, shard_hash, calls)
        granted.append((token, shard_hash, contact.node_id))
    finally:
        with bridge.noting() as connection:
            note_calls(bridge, connection, calls)
            if granted:
                _note_granted(bridge, connection, granted)
    return token


async def _retrieve(
    bridge: Bridge, contact: _Farmer, shard_hash: str, calls: list[FarmerCall]
) -> tuple[_Farmer, str]:
    card = node_contact(contact)
    retrieval = bridge.renter.retrieve(card, shard_hash)
    return contact, await call_farmer(bridge, contact, retrieval, calls, timed=True)


async def _first(calls: Sequence[Callable[[], Awaitable[_T]]]) -> _T | None:
    """Return the first result of staggered calls; None if all fail, or the time is over."""
    waiting = list(calls)
    running: set[asyncio.Future[_T]] = set()
    deadline = time.monotonic() + _TOKEN_WAIT
    try:
        while (waiting or running) and time.monotonic() < deadline:
            if waiting:
                running.add(asyncio.ensure_future(waiting.pop(0)()))
            patience = _STAGGER if waiting else deadline - time.monotonic()
            done, running = await asyncio.wait(
                running, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            for future in done:
                error = future.exception()
                if error is None:
                    return future.result()
                if not isinstance(error, (NodeError, NodeUnreachableError)):
                    raise error
                logger.info('no token for a download: %s', error)
        return None
    finally:
        for future in running:
            future.cancel()
        await asyncio.gather(*running, return_exceptions=True)
