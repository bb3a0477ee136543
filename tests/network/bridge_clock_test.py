"""What the bridge wrote down while its clock was years ahead holds nobody up once it is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, update

from storj.network.bridge.contacts import lately_timed_out
from storj.network.bridge.copies import LOST
from storj.network.bridge.placement import suspect
from storj.network.bridge.quotas import Quota
from storj.network.bridge.tables import Contact, Contract, FarmerToken, Token
from storj.network.bridge.upkeep.audits import audit_round, recall_audits
from storj.network.bridge.upkeep.rounds import ping_round, sweep
from storj.network.node.identity import Identity
from tests.network.bridges import Account, Answer, RunningBridge
from tests.network.nodes import DAY

YEARS = 3 * 365 * DAY


def contract(bridge: RunningBridge) -> Contract:
    with bridge.state.database.begin() as session:
        return session.query(Contract).one()


def wrong_password(bridge: RunningBridge) -> Answer:
    return bridge.request('GET', '/buckets', by=Account('alice@example.org', 'guess'))


@pytest.mark.parametrize('step', [-YEARS, -200, -1])
def test_lock_lasts_a_minute_when_the_clock_is_set_back(tmp_path: Path, step: float) -> None:
    with RunningBridge(tmp_path, wrong_passwords=1, rate_limits=True) as bridge:
        bridge.account()
        assert wrong_password(bridge).status == 401
        bridge.clock.step(step)
        answer = wrong_password(bridge)
        assert (answer.status, answer.headers['Retry-After']) == (429, '60')
        assert int(answer.headers['X-RateLimit-Reset']) == bridge.clock.now + 60
        bridge.clock.now += 60
        assert wrong_password(bridge).status == 401


def test_lock_ends_when_the_clock_is_set_forward(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, wrong_passwords=1) as bridge:
        bridge.account()
        statuses = [wrong_password(bridge).status for _ in range(2)]
        bridge.clock.step(YEARS)
        assert [*statuses, wrong_password(bridge).status] == [401, 429, 401]
        bridge.clock.step(-YEARS)
        bridge.call(lambda: sweep(bridge.state))
        # What was counted in the future holds nobody up.
        assert wrong_password(bridge).status == 401


def test_quota_begins_anew_when_its_window_lies_ahead(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, upload_quota=Quota(hour=9)) as bridge:
        alice = bridge.account()
        bridge.farmer()
        bridge.clock.step(YEARS)
        bridge.add_shard(alice, bridge.frame(alice))
        assert bridge.request('POST', '/frames', {}, by=alice).status == 420
        bridge.clock.step(-YEARS)
        bridge.add_shard(alice, bridge.frame(alice))
        assert bridge.request('POST', '/frames', {}, by=alice).status == 420


def test_token_from_the_future_opens_nothing_and_goes(
    bridge: RunningBridge, alice: Account
) -> None:
    bucket = bridge.bucket(alice)
    bridge.farmer()
    bridge.clock.step(YEARS)
    bridge.file(alice, bucket)
    asked = bridge.request('POST', f'/buckets/{bucket}/tokens', {'operation': 'PULL'}, by=alice)
    bridge.clock.step(-YEARS)
    headers = {'x-token': asked.json['token']}
    path = f'/buckets/{bucket}/files/{"ab" * 12}'
    assert bridge.request('GET', path, headers=headers).error == 'Invalid or expired token'
    bridge.call(lambda: sweep(bridge.state))
    with bridge.state.database.begin() as session:
        assert session.query(Token).count() == session.query(FarmerToken).count() == 0


@pytest.mark.parametrize('step', [-0.5, -290])
def test_fresh_token_opens_after_a_small_step_back(
    bridge: RunningBridge, alice: Account, step: float
) -> None:
    bucket = bridge.bucket(alice)
    bridge.farmer()
    file, tokens = bridge.file(alice, bucket), f'/buckets/{bucket}/tokens'
    asked = bridge.request('POST', tokens, {'operation': 'PULL'}, by=alice)
    headers, path = {'x-token': asked.json['token']}, f'/buckets/{bucket}/files/{file}'
    assert bridge.request('GET', path, by=alice).status == 200
    bridge.clock.step(step)
    bridge.call(lambda: sweep(bridge.state))
    with bridge.state.database.begin() as session:
        assert session.query(FarmerToken).count() > 0
    assert bridge.request('GET', path, headers=headers).status == 200
    # Nor does a step back bring one back that was used.
    bridge.clock.step(step)
    assert bridge.request('GET', path, headers=headers).error == 'Invalid or expired token'


def test_proof_of_work_counts_after_a_small_step_back(bridge: RunningBridge) -> None:
    node = Identity.generate()
    asked = bridge.farmer_request(node, 'POST', '/contacts/challenges', {})
    bridge.clock.step(-0.5)
    bridge.call(lambda: sweep(bridge.state))
    headers = {'x-challenge': asked.json['challenge'], 'x-challenge-nonce': '0'}
    card = {'address': '127.0.0.1', 'port': 4000, 'protocol': '1.2.0', 'spaceAvailable': True}
    assert bridge.farmer_request(node, 'POST', '/contacts', card, headers).status == 200


def test_quota_stays_used_after_a_small_step_back(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, upload_quota=Quota(hour=9)) as bridge:
        alice = bridge.account()
        bridge.farmer()
        bridge.add_shard(alice, bridge.frame(alice))
        bridge.clock.step(-0.5)
        assert bridge.request('POST', '/frames', {}, by=alice).status == 420


def test_registrations_of_the_future_are_no_rush(bridge: RunningBridge) -> None:
    bridge.clock.step(YEARS)
    for port in range(4000, 4020):
        bridge.farmer(port)
    bridge.clock.step(-YEARS)
    asked = bridge.farmer_request(Identity.generate(), 'POST', '/contacts/challenges', {})
    assert asked.json['target'] == 'f' * 64


def test_farmer_that_was_away_in_the_future_is_asked(bridge: RunningBridge) -> None:
    bridge.clock.step(YEARS)
    bridge.farmer().away = True
    bridge.call(lambda: ping_round(bridge.state))
    with bridge.state.database.begin() as session:
        contact = session.query(Contact).one()
    assert lately_timed_out(contact, bridge.state.now())
    bridge.clock.step(-YEARS)
    assert not lately_timed_out(contact, bridge.state.now())


@pytest.mark.parametrize('interval', [3600.0, None])
def test_audits_go_on_within_days(tmp_path: Path, interval: float | None) -> None:
    with RunningBridge(tmp_path, audit_interval=interval) as bridge:
        alice = bridge.account()
        bridge.farmer()
        bridge.file(alice, bridge.bucket(alice))
        bridge.clock.step(YEARS)
        assert len(bridge.call(lambda: audit_round(bridge.state))) == 1
        bridge.clock.step(-YEARS)
        assert contract(bridge).next_audit > bridge.state.now() + YEARS * 1000
        bridge.call(lambda: sweep(bridge.state))
        pause = bridge.state.settings.audit_pause(1)
        assert 0 <= contract(bridge).next_audit - bridge.state.now() <= max(DAY * 1000, pause)


def test_complaint_counts_beside_an_audit_of_the_future(
    bridge: RunningBridge, alice: Account
) -> None:
    bridge.farmer()
    bridge.file(alice, bridge.bucket(alice))
    bridge.clock.step(YEARS)
    assert len(bridge.call(lambda: audit_round(bridge.state))) == 1
    bridge.clock.step(-YEARS)
    with bridge.state.database.begin() as session:
        session.query(Contract).update({Contract.next_audit: bridge.state.now() + 10**6})
        known = session.query(Contract).one()
        suspect(session.connection(), known.shard_hash, known.node_id, bridge.state.now())
    assert contract(bridge).next_audit == bridge.state.now()


def test_audits_of_the_future_are_made_due_some_at_a_time(
    bridge: RunningBridge, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('storj.network.bridge.upkeep.audits._PUT_UP', 2)
    bridge.farmer()
    bucket = bridge.bucket(alice)
    for number in range(5):
        bridge.file(alice, bucket, [b'%d' % number], filename=str(number))
    database = bridge.state.database
    with database.begin_plain() as connection:
        connection.execute(update(Contract).values(next_audit=LOST - 1))
    changed = []

    def note(_c: object, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith('UPDATE contracts SET next_audit'):
            changed.append(cursor.rowcount)

    event.listen(database.engine, 'after_cursor_execute', note)
    try:
        bridge.call(lambda: recall_audits(bridge.state))
    finally:
        event.remove(database.engine, 'after_cursor_execute', note)
    assert changed == [2, 2, 1]
    with database.begin_plain() as connection:
        latest = connection.scalar(select(func.max(Contract.next_audit)))
    assert latest <= bridge.state.now() + max(DAY * 1000, bridge.state.settings.audit_pause(1))
