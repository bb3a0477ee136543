"""What a bridge does by itself: audits, pings, renewals, and forgetting what has run out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy import select

from storj.network.bridge.audits import audit_round
from storj.network.bridge.contacts import mark_failure, mark_seen, node_contact
from storj.network.bridge.database import (
    Contact,
    Contract,
    FarmerToken,
    Report,
    Token,
    WorkChallenge,
)
from storj.network.bridge.mirrors import COPY_LIFE, Mirroring
from storj.network.bridge.renewals import renewal_round
from storj.network.bridge.renter import NodeError, NodeUnreachableError
from storj.network.bridge.state import Bridge

__all__ = ('Upkeep', 'ping_round', 'sweep')

logger = logging.getLogger(__name__)

# Seconds between two sweeps.
_SWEEP_INTERVAL = 60.0
# Milliseconds: farmer tokens live a day at the most, reports are history.
_FARMER_TOKEN_LIFE = 24 * 3600 * 1000
_REPORT_LIFE = 30 * 24 * 3600 * 1000
_PINGS_AT_ONCE = 32
# Seconds between two looks for contracts that are due.
_RENEWAL_PACE = 60.0
# Seconds between two looks for audits that are due, at the least and at the most.
_AUDIT_PACE = (0.5, 10.0)


async def sweep(bridge: Bridge) -> None:
    """Forget tokens, challenges, reports and copies whose time is over."""
    now = bridge.now()
    for table, *conditions in (
        (Token, Token.expires <= now),
        (WorkChallenge, WorkChallenge.expires <= now),
        (FarmerToken, FarmerToken.created < now - _FARMER_TOKEN_LIFE),
        (Report, Report.created < now - _REPORT_LIFE),
        # Copies that were begun long ago and never reported.
        (
            Contract,
            Contract.mirror.is_(True),
            Contract.stored.is_(False),
            Contract.store_begin < now - COPY_LIFE,
        ),
    ):
        while bridge.database.delete_some(table, *conditions):
            await asyncio.sleep(0)


async def ping_round(bridge: Bridge) -> None:
    """Ask every farmer whether it is there."""

    async def ping(contact: Contact) -> None:
        started = time.monotonic()
        try:
            await bridge.renter.ping(node_contact(contact))
        except (NodeError, NodeUnreachableError) as error:
            logger.info('farmer %s is away: %s', contact.node_id, error)
            mark_failure(bridge, contact.node_id, error)
        else:
            mark_seen(bridge, contact.node_id, time.monotonic() - started)

    last = ''
    while contacts := _next_contacts(bridge, last):
        await asyncio.gather(*map(ping, contacts))
        last = contacts[-1].node_id


def _next_contacts(bridge: Bridge, last: str) -> Sequence[Contact]:
    """Return some farmers, those after the node id ``last``."""
    with bridge.database.begin() as session:
        return session.scalars(
            select(Contact)
            .where(Contact.node_id > last)
            .order_by(Contact.node_id)
            .limit(_PINGS_AT_ONCE)
        ).all()


class Upkeep:
    """Runs the rounds, each at its own pace, until it is stopped.

    Args:
        bridge (Bridge): the bridge.
        mirroring (Mirroring): told of shards that were lost.
    """

    def __init__(self, bridge: Bridge, mirroring: Mirroring) -> None:
        self._bridge = bridge
        self._mirroring = mirroring
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin, on the running event loop."""
        settings = self._bridge.settings
        rounds: list[tuple[Callable[[], Awaitable[None]], float]] = [(self._sweep, _SWEEP_INTERVAL)]
        if settings.ping_interval:
            rounds.append((self._ping, settings.ping_interval))
        if settings.renewal_ahead:
            rounds.append((self._renew, _RENEWAL_PACE))
        if settings.audit_interval:
            least, most = _AUDIT_PACE
            rounds.append((self._audit, min(most, max(least, settings.audit_interval / 4))))
        self._tasks = [asyncio.ensure_future(_repeat(work, pace)) for work, pace in rounds]

    async def stop(self) -> None:
        """End all rounds."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _sweep(self) -> None:
        await sweep(self._bridge)

    async def _ping(self) -> None:
        await ping_round(self._bridge)

    async def _renew(self) -> None:
        for shard_hash in await renewal_round(self._bridge):
            self._mirroring.ask(shard_hash)

    async def _audit(self) -> None:
        for result in await audit_round(self._bridge):
            if not result.passed:
                logger.warning('farmer %s lost shard %s', result.node_id, result.shard_hash)
                self._mirroring.ask(result.shard_hash)


async def _repeat(work: Callable[[], Awaitable[None]], pace: float) -> None:
    while True:
        await asyncio.sleep(pace)
        try:
            await work()
        except Exception:
            # A round that fails (a locked database, say) must not be the last one.
            logger.exception('upkeep failed')
