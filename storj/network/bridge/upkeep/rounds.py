"""Periodic work of a bridge: audits, pings, renewals, and the removal of expired records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf

from sqlalchemy import BigInteger, and_, bindparam, exists, or_, select, text, update
from sqlalchemy.orm import Session

from storj.network.bridge.auth import LONG_TOKEN_LIFE
from storj.network.bridge.contacts import (
    CHALLENGE_LIFE,
    FarmerCall,
    call_farmer,
    node_contact,
    note_calls,
    refresh_leaving,
    write_calls,
)
from storj.network.bridge.copies import UNCONFIRMED_COPY
from storj.network.bridge.quotas import HOUR
from storj.network.bridge.state import Bridge, BridgeSettings
from storj.network.bridge.tables import (
    UPLOAD_LIFE,
    Contact,
    Contract,
    Counter,
    FarmerToken,
    Frame,
    Pointer,
    Token,
    WorkChallenge,
)
from storj.network.bridge.upkeep.audits import audit_round, recall_audits
from storj.network.bridge.upkeep.leases import take_round
from storj.network.bridge.upkeep.renewals import end_unused, renewal_round
from storj.network.bridge.upkeep.repairs import Repairs
from storj.network.node.clock import CLOCK_SKEW
from storj.network.node.rpc import NodeError, NodeUnreachableError
from storj.network.node.tasks import Tasks

logger = logging.getLogger(__name__)

# Seconds between two sweeps.
_SWEEP_INTERVAL = 60.0
# Seconds between two times that open uploads are made older, at the most; empty frames are kept for
# a quarter longer than they should be.
_AGEING, _OF_LIFE = 3600.0, 4
# Milliseconds: farmer tokens live a day at the most.
_FARMER_TOKEN_LIFE = 24 * 3600 * 1000
_PINGS_AT_ONCE = 128
# Seconds after which another bridge does a round that one has not ended, at least and at most.
_LONGEST_ROUND = (60.0, 3600.0)
# Seconds before the first round of each kind, at the most.
_FIRST_ROUND = 60.0
# Seconds between two times that what is known of farmers is written.
_NOTES_PACE = 1.0
# Seconds between two looks for contracts that are due.
_RENEWAL_PACE = 60.0
# Seconds between two looks for audits that are due, at the least and at the most.
_AUDIT_PACE = (0.5, 10.0)
# Rounds of audits in a row while there is something to audit, and the seconds between them.
_AUDITS_IN_A_ROW, _AUDIT_PAUSE = 20, 2.0
# Seconds between two looks for contracts that nobody wants, and how many end at once.
_END_PACE, _ENDED_AT_ONCE = 5.0, 8
# Counters that stay, the newest: anybody can make keys up.
_MOST_COUNTERS = 100_000
_SURPLUS = select(Counter.ends).order_by(Counter.ends.desc()).limit(1)
# In one order, or the notes about farmers would wait for it, and it for them.
_THERE = select(Contact.node_id).where(Contact.lost.is_(False)).order_by(Contact.node_id)
_QUIET = (
    update(Contact)
    .where(Contact.node_id.in_(_THERE.with_for_update()))
    .values(silent=Contact.silent + bindparam('passed', type_=BigInteger))
)
_GIVEN_UP = (
    select(Contract.shard_hash, Contract.node_id)
    .where(text('contracts.next_renewal = 0'), UNCONFIRMED_COPY, Contract.stored.is_(False))
    .limit(_ENDED_AT_ONCE)
)


async def sweep(bridge: Bridge) -> None:
    """Forget what has run out, such as tokens and empty frames; undo what a wrong clock did."""
    now = bridge.now()
    for table, column, first, last in (
        (Token, Token.expires, now, now + LONG_TOKEN_LIFE),
        (WorkChallenge, WorkChallenge.expires, now, now + CHALLENGE_LIFE),
        (FarmerToken, FarmerToken.created, now - _FARMER_TOKEN_LIFE, now),
        (Counter, Counter.ends, now, now + int(HOUR * 1000)),
    ):
        # What is later than it can be was written down before the clock was set back.
        for condition in (column <= first, column > last + CLOCK_SKEW):
            await bridge.database.delete_all(table, condition)
    oldest = _SURPLUS.offset(_MOST_COUNTERS)
    surplus = await bridge.database.read(lambda connection: connection.scalar(oldest))
    if surplus is not None:
        await bridge.database.delete_all(Counter, Counter.ends <= surplus)
    await recall_audits(bridge)
    await _age_uploads(bridge)


def _ageing(bridge: Bridge) -> float:
    """Return the seconds between two times that open uploads are made older."""
    return max(1.0, min(_AGEING, (bridge.settings.empty_frame_life or inf) / _OF_LIFE))


async def _age_uploads(bridge: Bridge) -> None:
    """Let the time that has passed count for uploads, and destroy frames that stayed empty."""
    aged, life = int(bridge.monotonic() - bridge.aged), bridge.settings.empty_frame_life
    if aged < _ageing(bridge):
        return
    bridge.aged += aged
    is_open = Frame.locked.is_(False)
    older = update(Frame).where(is_open, Frame.waits > 0).values(waits=Frame.waits - aged)
    await bridge.database.run(lambda connection: connection.execute(older))
    # One that was made a moment ago was made older as well.
    ends = Frame.waits <= UPLOAD_LIFE - life - aged
    empty = ~exists().where(Pointer.frame == Frame.id)
    if life:
        await bridge.database.delete_all(Frame, is_open, ends, empty)


async def ping_round(bridge: Bridge) -> None:
    """Ask every farmer whether it is there."""
    await _ping_all(bridge, await _contacts(bridge))


async def lost_round(bridge: Bridge) -> None:
    """Find out which farmers have not answered for so long that their copies count as lost.

    None is given up before it has been asked. One that is lost and announces itself is asked, too:
    nothing has been asked of it since then.
    """
    await write_calls(bridge)
    limit = int(bridge.settings.lost_after * 1000)
    passed = int((bridge.monotonic() - bridge.looked) * 1000)
    bridge.looked += passed / 1000
    back = and_(Contact.lost, Contact.last_timeout.is_(None))
    overdue = and_(Contact.lost.is_(False), Contact.silent > limit)

    def look(session: Session) -> Sequence[Contact]:
        session.execute(_QUIET, {'passed': passed})
        return session.scalars(select(Contact).where(or_(back, overdue))).all()

    contacts = await bridge.database.run_objects(look)
    if not contacts:
        return
    await _ping_all(bridge, contacts)
    asked = Contact.node_id.in_([contact.node_id for contact in contacts])
    lost = update(Contact).where(asked, overdue).values(lost=True)
    gone = await bridge.database.run(
        lambda connection: connection.execute(lost.returning(Contact.node_id, Contact.silent)).all()
    )
    for node_id, silent in gone:
        logger.warning(
            'farmer %s has not answered for %.0f s: its copies count as lost',
            node_id,
            silent / 1000,
        )


async def _contacts(bridge: Bridge) -> Sequence[Contact]:
    return await bridge.database.run_objects(lambda session: session.scalars(select(Contact)).all())


async def _ping_all(bridge: Bridge, contacts: Sequence[Contact]) -> None:
    """Ask farmers whether they are there: many at once, so that those that hang delay nobody."""
    at_once = asyncio.Semaphore(_PINGS_AT_ONCE)

    async def ping(contact: Contact) -> None:
        calls: list[FarmerCall] = []
        async with at_once:
            call = bridge.renter.ping(node_contact(contact))
            try:
                await call_farmer(bridge, contact, call, calls, timed=True)
            except (NodeError, NodeUnreachableError) as error:
                logger.info('farmer %s is away: %s', contact.node_id, error)
        await note_calls(bridge, calls)

    await asyncio.gather(*map(ping, contacts))
    await write_calls(bridge)


def start_upkeep(bridge: Bridge, repairs: Repairs, tasks: Tasks) -> None:
    """Begin the rounds, each at its own pace, among the tasks of the bridge.

    Args:
        bridge (Bridge): the bridge.
        repairs (Repairs): told of shards that were lost.
        tasks (Tasks): of the bridge; the rounds end with them.
    """
    settings = bridge.settings
    rounds: list[tuple[str, Callable[[], Awaitable[None]], float | None]] = [
        ('the sweep', lambda: sweep(bridge), min(_SWEEP_INTERVAL, _ageing(bridge))),
        ('the pings', lambda: ping_round(bridge), settings.ping_interval),
        ('the renewals', lambda: _renew(bridge, repairs), settings.renewal_ahead and _RENEWAL_PACE),
        ('the end of unused contracts', lambda: end_given_up(bridge), _END_PACE),
        ('the repairs', lambda: _repair(bridge, repairs), settings.repair_interval),
        ('the survey', repairs.survey, settings.survey_interval),
    ]
    for name, work, pace in rounds:
        if pace:
            alone = partial(_alone, bridge, name, work, pace)
            tasks.start(name, _repeat(tasks, name, alone, pace))
    if pace := _audit_pace(settings):
        # By all bridges: each copy is claimed by itself.
        audits = _repeat(tasks, 'the audits', partial(_audit, bridge, repairs), pace)
        tasks.start('the audits', audits)
    # What only this bridge knows, and what it must know at once.
    for name, own, pace in (
        ('the notes about farmers', write_calls, _NOTES_PACE),
        ('the farmers that leave', refresh_leaving, _NOTES_PACE),
    ):
        tasks.start(name, _repeat(tasks, name, partial(own, bridge), pace))


async def _alone(
    bridge: Bridge, name: str, work: Callable[[], Awaitable[None]], pace: float
) -> None:
    """Do a round, unless another bridge of the database does it at its pace."""
    least, most = _LONGEST_ROUND
    if await take_round(bridge, name, min(most, max(least, 2 * pace))):
        await work()
        await take_round(bridge, name, pace)
    elif name == 'the sweep':
        # The other one makes uploads older: the same time must not count twice.
        bridge.aged = bridge.monotonic()
    elif name == 'the repairs':
        # Nor the silence of farmers.
        bridge.looked = bridge.monotonic()


def _audit_pace(settings: BridgeSettings) -> float:
    """Return the seconds between two looks for audits that are due; 0 for none."""
    least, most = _AUDIT_PACE
    if settings.audit_interval is None:
        return most
    return settings.audit_interval and min(most, max(least, settings.audit_interval / 4))


async def _renew(bridge: Bridge, repairs: Repairs) -> None:
    if await renewal_round(bridge):
        repairs.notify()


async def _audit(bridge: Bridge, repairs: Repairs) -> None:
    for _ in range(_AUDITS_IN_A_ROW):
        results = await audit_round(bridge)
        for result in results:
            if not result.passed:
                logger.warning('farmer %s lost shard %s', result.node_id, result.shard_hash)
        repairs.notify()
        if not results:
            break
        await asyncio.sleep(min(_AUDIT_PAUSE, _audit_pace(bridge.settings)))


async def end_given_up(bridge: Bridge) -> None:
    """End the contracts that were given up before their shards came, some at once."""
    while True:
        unwanted = await bridge.database.read(lambda found: found.execute(_GIVEN_UP).all())
        await asyncio.gather(*(end_unused(bridge, *contract) for contract in unwanted))
        if len(unwanted) < _ENDED_AT_ONCE:
            break


async def _repair(bridge: Bridge, repairs: Repairs) -> None:
    await lost_round(bridge)
    await repairs.look()


async def _repeat(
    tasks: Tasks, name: str, work: Callable[[], Awaitable[None]], pace: float
) -> None:
    pause = min(pace, _FIRST_ROUND)
    while True:
        await asyncio.sleep(pause)
        pause = pace
        try:
            await work()
        except Exception as error:
            # A round that fails (a locked database, say) must not be the last one.
            tasks.note(name, error)
        else:
            tasks.note(name, None)
