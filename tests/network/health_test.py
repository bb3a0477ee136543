"""What does not work: told to everybody in fixed sentences, to the owner with the details."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from storj.network import Network
from storj.network.bridge.app import TASKS
from storj.network.bridge.state import BRIDGE
from storj.network.node import health
from storj.network.node.health import HEALTH, Problem
from tests.network.bridges import RunningBridge
from tests.network.nodes import Clock, run, site

JSON = {'Accept': 'application/json'}
OK = {'status': 'ok', 'problems': []}


class Usage(NamedTuple):
    """What the system says of a disk."""

    free: int


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """A network of one farmer that looks at itself each time that it is asked."""
    monkeypatch.setattr(health, 'LOOK_EVERY', 0.0)
    monkeypatch.setattr('storj.network.farmer.farmer.PROBE_INTERVAL', 0.0)
    quiet = {'mirrors': 0, 'audit_interval': 0}
    with Network(1, data=tmp_path / 'data', bridge=quiet) as running:
        yield running


def ask(url: str, path: str = 'health') -> tuple[int, Any]:
    answer = requests.get(f'{url}/{path}', headers=JSON, timeout=30)
    return answer.status_code, answer.json()


def failing(*problems: str) -> dict[str, Any]:
    return {'status': 'failing', 'problems': list(problems)}


def farmer_url(net: Network) -> str:
    return f'http://127.0.0.1:{net.farmers[0].port}'


def test_healthy_servers_say_so(net: Network) -> None:
    assert ask(net.bridge_url) == (200, OK)
    assert ask(farmer_url(net)) == (200, OK)
    assert ask(net.bridge_url, 'ready') == (200, OK)
    # Programs of the time compare the text.
    plain = requests.get(f'{net.bridge_url}/health', timeout=30)
    assert (plain.status_code, plain.text) == (200, 'OK')
    assert 'Accept' in plain.headers['Vary']
    status = net.status()
    assert (status['problems'], status['farmers'][0]['problems']) == ([], [])


def test_bridge_without_farmers_says_so_and_is_ready(net: Network) -> None:
    app = net.app
    assert app is not None
    net.farmers[0].stop()
    with app[BRIDGE].database.begin_plain() as connection:
        connection.exec_driver_sql('UPDATE contacts SET lost = 1')
    assert ask(net.bridge_url) == (200, failing('no farmer is there'))
    assert ask(net.bridge_url, 'ready') == (200, OK)
    assert requests.get(f'{net.bridge_url}/health', timeout=30).json()['status'] == 'failing'
    assert net.status()['problems'] == ['no farmer is there']


def refuse_writes(net: Network, part: str) -> str:
    """Let a database of the network refuse writes; return what its server says of it."""
    app = net.app
    assert app is not None
    if part == 'farmer':
        farmer: Any = net.farmers[0]
        farmer.farmer.index._run('PRAGMA query_only = ON')
        return 'the index cannot be written'
    database: Any = app[BRIDGE].database
    with database.engine.begin() as connection:
        connection.exec_driver_sql('PRAGMA query_only = ON')
    return 'the database cannot be written'


@pytest.mark.parametrize('part', ['bridge', 'farmer'])
def test_records_that_cannot_be_written_are_told(net: Network, part: str) -> None:
    text = refuse_writes(net, part)
    url = farmer_url(net) if part == 'farmer' else net.bridge_url
    # Nothing of what the system says, with its paths and statements, goes to strangers. A bridge
    # whose database is away must not be started again because of that.
    assert ask(url) == (503 if part == 'farmer' else 200, failing(text))
    ready = (503, failing(text)) if part == 'bridge' else (200, OK)
    assert ask(net.bridge_url, 'ready') == ready
    found = net.status()
    problems = found['farmers'][0]['problems'] if part == 'farmer' else found['problems']
    assert len(problems) == 1
    # Without the class of the error, the statement and an address of SQLAlchemy.
    assert re.fullmatch(rf'{text}: .*\battempt to write a readonly database', problems[0])


def test_disk_that_refused_once_is_told(net: Network) -> None:
    app = net.app
    assert app is not None
    sync = app[BRIDGE].database._sync
    assert sync is not None
    sync.failure = OSError(5, 'Input/output error')
    assert ask(net.bridge_url)[1]['problems'] == ['the database cannot be written']
    sync.failure = None


def test_full_disk_is_told(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: Usage(free=1000))
    assert ask(net.bridge_url) == (200, failing('the disk is full'))
    assert ask(net.bridge_url, 'ready') == (503, failing('the disk is full'))
    assert ask(farmer_url(net)) == (503, failing('it can take no shards'))
    assert net.status()['farmers'][0]['problems'] == [
        'it can take no shards: its disk has less free than the 262,144,000 B that stay free'
    ]


def test_work_that_failed_is_told_until_it_succeeds(net: Network) -> None:
    app = net.app
    assert app is not None
    app[TASKS].note('the audits', RuntimeError('password=secret'))
    assert ask(net.bridge_url)[1]['problems'] == ['work in the background has failed']
    assert net.status()['problems'] == [
        "work in the background has failed: the audits: RuntimeError('password=secret')"
    ]
    app[TASKS].note('the audits', None)
    assert ask(net.bridge_url) == (200, OK)


def test_bridge_is_not_looked_at_for_each_who_asks(tmp_path: Path) -> None:
    with RunningBridge(tmp_path) as bridge:
        assert bridge.request('GET', '/health').json['problems'] == ['no farmer is there']
        bridge.farmer(4000)
        # Within five seconds nobody looks again.
        assert bridge.request('GET', '/health').json['problems'] == ['no farmer is there']


def test_bridge_is_not_ready_for_a_schema_of_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, 'LOOK_EVERY', 0.0)
    with RunningBridge(tmp_path) as bridge:
        assert bridge.request('GET', '/ready').status == 200
        with bridge.state.database.begin_plain() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '99'")
        answer = bridge.request('GET', '/ready')
        assert (answer.status, answer.json) == (503, failing('the database cannot be written'))
        bridge.app[HEALTH].stopping = True
        assert bridge.request('GET', '/ready').json['problems'][0] == 'the bridge is stopping'


def test_check_that_hangs_is_a_problem_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, '_PATIENCE', 0.0)

    async def test() -> None:
        looked = health.Health()
        looked.append(lambda: [Problem('broken')])
        answered, looks = asyncio.Event(), []

        async def aside(check: health.Check) -> list[Problem]:
            looks.append(check)
            await answered.wait()
            return check()

        looked.aside = aside
        for _ in range(3):
            assert await looked.problems() == [Problem('a check does not end', serious=True)]
        # Those who ask meanwhile start no more of them.
        assert len(looks) == 1
        answered.set()
        monkeypatch.setattr(health, '_PATIENCE', 10.0)
        assert await looked.problems() == [Problem('broken')]

    run(test)


def test_farmer_whose_bridge_is_away_is_not_well(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            site(tmp_path, bridge_url='http://127.0.0.1:1') as here,
            here.session.get(f'{here.url}/health') as answer,
        ):
            assert answer.status == 503
            told = json.loads(await answer.read())
        assert told['problems'] == ['the bridge does not know this farmer']

    run(test)


@pytest.mark.parametrize(
    ('size', 'reason'),
    [
        (100, 'its size is less than 15,360 bytes, the smallest shard of large files'),
        (20_000_000, None),
    ],
)
def test_size_that_is_too_small_is_told_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int, reason: str | None
) -> None:
    problems = [] if reason is None else [f'it can take no shards: {reason}']

    async def test() -> None:
        async with site(tmp_path, size=size) as here:
            assert here.farmer.status()['problems'] == problems

    run(test)
    told = [each.getMessage() for each in caplog.records if each.levelname == 'WARNING']
    assert told == [f'the farmer in {tmp_path}: {problem}' for problem in problems]


def test_check_that_costs_is_made_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    clock, looks = Clock(), []

    def look() -> list[Problem]:
        looks.append(clock.now)
        return [Problem('broken', f'{len(looks)}')]

    check = health.at_most_every(5, look, lambda: clock.now)
    assert check() == check() == [Problem('broken', '1')]
    clock.now += 5
    assert check() == [Problem('broken', '2')]
    assert [record.getMessage() for record in caplog.records] == ['broken: 1', 'broken: 2']


def test_problem_is_looked_at_again_soon() -> None:
    clock, found = Clock(), [Problem('broken')]
    check = health.at_most_every(60, lambda: list(found), lambda: clock.now)
    assert check() == [Problem('broken')]
    found.clear()
    clock.now += health.LOOK_EVERY
    assert check() == []
    found.append(Problem('broken'))
    clock.now += 59
    assert check() == []
    clock.now += 1
    assert check() == [Problem('broken')]


def test_answer_is_short_however_many_problems_there_are() -> None:
    answer = health.answer_health(Problem('broken', f'{number}') for number in range(1000))
    assert json.loads(answer.text or '') == {'status': 'failing', 'problems': ['broken']}
