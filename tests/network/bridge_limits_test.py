"""Limits that are always on: calls about accounts, messages, and wrong passwords."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import select

from storj.network.bridge import contacts
from storj.network.bridge.passwords import Passwords
from storj.network.bridge.state import BridgeSettings
from storj.network.bridge.tables import Counter, WorkChallenge
from storj.network.bridge.upkeep import rounds
from storj.network.node.identity import Identity
from tests.network.bridge_database_test import statements
from tests.network.bridges import Account, Answer, RunningBridge, quick_passwords

T = TypeVar('T')
ALICE = Account('alice@example.org')


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[RunningBridge]:
    with RunningBridge(
        tmp_path, activation='mail', account_calls=5, mails=3, wrong_passwords=2
    ) as running:
        yield running


def refused(answer: Answer, seconds: str) -> bool:
    return (answer.status, answer.json, answer.headers.get('Retry-After')) == (
        429,
        {'error': 'Too Many Requests'},
        seconds,
    )


def ask_reset(bridge: RunningBridge, email: str = ALICE.email) -> Answer:
    return bridge.request('PATCH', f'/users/{email}', {'password': ALICE.hashed})


def test_messages_to_one_account_are_limited(bridge: RunningBridge) -> None:
    bridge.account()
    assert ask_reset(bridge).status == 200
    again = {'email': ALICE.email}
    before = set(bridge.links())
    assert bridge.request('POST', '/activations', again).status == 201
    (newest,) = set(bridge.links()) - before
    bridge.clock.now += 60
    assert refused(ask_reset(bridge), '3540')
    assert refused(bridge.request('POST', '/activations', again), '3540')
    assert len(bridge.links()) == 3
    # Others get theirs, and the newest link that was sent still works.
    bridge.account('bob@example.org')
    assert bridge.request('GET', newest).status == 200
    bridge.clock.now += 3540
    assert ask_reset(bridge).status == 200


def test_calls_about_accounts_are_limited_by_address(bridge: RunningBridge) -> None:
    for number in range(5):
        bridge.account(f'user{number}@example.org')
    body = {'email': 'one@more.org', 'password': ALICE.hashed}
    for answer in (
        bridge.request('POST', '/users', body),
        bridge.request('POST', '/activations', body),
        ask_reset(bridge, 'user0@example.org'),
        bridge.request('DELETE', '/users/user0@example.org', by=Account('user0@example.org')),
        bridge.request('POST', f'/resets/{"a" * 512}', body),
    ):
        assert refused(answer, '60')
    assert len(bridge.links()) == 5
    # A link that came by mail is no call that costs.
    assert bridge.request('GET', bridge.links()[0]).status == 200
    bridge.clock.now += 60
    assert bridge.request('POST', '/users', body).status == 201


def test_wrong_passwords_are_limited_and_the_right_one_goes_on(bridge: RunningBridge) -> None:
    bridge.account()
    bridge.account('bob@example.org')
    for link in bridge.links():
        bridge.request('GET', link)
    assert bridge.request('GET', '/buckets', by=ALICE).status == 200
    wrong = Account(ALICE.email, 'guess')
    for _ in range(2):
        assert bridge.request('GET', '/buckets', by=wrong).status == 401
    assert refused(bridge.request('GET', '/buckets', by=wrong), '60')
    # Who has logged in lately is not locked out, nor is anybody else.
    assert bridge.request('GET', '/buckets', by=ALICE).status == 200
    assert bridge.request('GET', '/buckets', by=Account('bob@example.org')).status == 200
    bridge.clock.now += 60
    assert bridge.request('GET', '/buckets', by=wrong).status == 401


def test_wrong_passwords_are_limited_while_they_are_checked(bridge: RunningBridge) -> None:
    guesses = [Account(ALICE.email, f'guess {number}') for number in range(6)]
    go = threading.Event()

    class Waiting(Passwords):
        async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
            await asyncio.to_thread(go.wait)
            return await super()._in_thread(function, *arguments)

    bridge.state.passwords = waiting = Waiting(cost=2**6)
    with closing(waiting), ThreadPoolExecutor(6) as pool:
        try:
            asked = [pool.submit(bridge.request, 'GET', '/buckets', by=guess) for guess in guesses]
            early = [answer.result() for answer in islice(as_completed(asked, 10), 4)]
        finally:
            go.set()
    assert all(refused(answer, '60') for answer in early)
    assert sorted(answer.result().status for answer in asked) == [401] * 2 + [429] * 4


def test_right_password_may_come_many_times_at_once(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, wrong_passwords=2) as bridge, ThreadPoolExecutor(6) as pool:
        alice = bridge.account()
        for _ in range(3):
            # One that remembers no login.
            with closing(quick_passwords()) as bridge.state.passwords:
                asked = [pool.submit(bridge.request, 'GET', '/buckets', by=alice) for _ in range(6)]
                assert [answer.result().status for answer in asked] == [200] * 6


def test_wrong_passwords_for_many_accounts_are_limited_too(bridge: RunningBridge) -> None:
    for number in range(40):
        answer = bridge.request('GET', '/buckets', by=Account(f'nobody{number}@example.org'))
        assert answer.status == 401
    answer = bridge.request('GET', '/buckets', by=Account('somebody@example.org'))
    assert refused(answer, '60')


def test_limits_can_be_switched_off(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, account_calls=0, mails=0, wrong_passwords=0) as bridge:
        bridge.account()
        assert {ask_reset(bridge).status for _ in range(150)} == {200}
        wrong = Account(ALICE.email, 'guess')
        statuses = {bridge.request('GET', '/buckets', by=wrong).status for _ in range(50)}
        assert statuses == {401}


@pytest.mark.parametrize('name', ['account_calls', 'mails', 'wrong_passwords'])
def test_limits_that_make_no_sense_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        BridgeSettings('sqlite://', tmp_path, **{name: -1})


def test_registrations_of_all_together_are_limited(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, registrations=2) as bridge:
        for number in range(2):
            bridge.account(f'user{number}@example.org')
        body = {'email': 'one@more.org', 'password': ALICE.hashed}
        assert refused(bridge.request('POST', '/users', body), '3600')
        bridge.clock.now += 3600
        assert bridge.request('POST', '/users', body).status == 201


def test_open_challenges_are_limited_and_the_oldest_go_first(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contacts, '_CHALLENGES', 3)
    asked = []
    for _ in range(5):
        bridge.clock.now += 1
        answer = bridge.farmer_request(Identity.generate(), 'POST', '/contacts/challenges', {})
        assert answer.status == 201
        asked.append(answer.json['challenge'])
    with bridge.state.database.begin() as session:
        assert set(session.scalars(select(WorkChallenge.challenge))) == set(asked[2:])


def test_known_password_and_limits_that_are_off_count_nothing(
    tmp_path: Path, bridge: RunningBridge
) -> None:
    bridge.account()
    bridge.request('GET', bridge.links()[0])
    (tmp_path / 'off').mkdir()
    off = {'account_calls': 0, 'registrations': 0, 'mails': 0, 'wrong_passwords': 0}
    with (
        RunningBridge(tmp_path / 'off', **off) as unlimited,
        statements(bridge.state.database) as found,
    ):
        assert bridge.request('GET', '/buckets', by=ALICE).status == 200
        unlimited.account()
        assert ask_reset(unlimited).status == 200
        assert unlimited.request('GET', '/buckets', by=Account(ALICE.email, 'guess')).status == 401
    assert not [statement for statement, _ in found if 'INTO counters' in statement]
    with bridge.state.database.begin() as session:
        # What was right is taken back; the registration and its message are counted.
        assert sorted(session.scalars(select(Counter.used))) == [1, 1, 1]


def test_counters_that_are_over_and_surplus_ones_are_removed(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, '_MOST_COUNTERS', 3)
    for number in range(5):
        bridge.call(lambda: bridge.state.counters.count(60, ('key', str(number))))  # noqa: B023
        bridge.clock.now += 1
    bridge.call(lambda: rounds.sweep(bridge.state))
    counted = [
        bridge.call(lambda: bridge.state.counters.count(60, ('key', str(number))))[0].used  # noqa: B023
        for number in range(5)
    ]
    assert counted == [1, 1, 2, 2, 2]
    bridge.clock.now += 60
    bridge.call(lambda: rounds.sweep(bridge.state))
    with bridge.state.database.begin() as session:
        assert list(session.scalars(select(Counter.key))) == []
