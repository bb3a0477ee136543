"""``storj farm``: a farmer in a process of its own, that comes, stays, and leaves cleanly."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

pytest.importorskip('aiohttp')
pytest.importorskip('click')

from storj.cli.output import Output
from storj.cli.servers import Lines
from storj.exception import NetworkSetupError
from storj.metadisk import MetaDisk
from storj.network import Network
from storj.network.farm import farm as run_farm
from storj.network.farmer.farmer import Farmer
from storj.network.farmer.settings import FarmerSettings

pytestmark = pytest.mark.usefixtures('forked_python')

ROOT = Path(__file__).parents[2]
SIZE = 6_000_000
CONTENT = bytes(range(251)) * 40_000


class Farm:
    """The running program and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def wait_for(self, kind: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event['type'] == kind:
                return event
        raise AssertionError(f'the program ended without {kind!r}')

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.wait_for('stopped')
        return self.process.wait(20)


@contextmanager
def farm(folder: Path, bridge: str, *arguments: str) -> Iterator[Farm]:
    command = [sys.executable, '-m', 'storj', 'farm', '--json', '--path', str(folder)]
    with subprocess.Popen(
        [*command, '--size', str(SIZE), '--bridge', bridge, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={'PATH': os.environ['PATH'], 'HOME': str(folder), 'PYTHONPATH': str(ROOT)},
    ) as process:
        try:
            yield Farm(process)
        finally:
            process.kill()


def known(bridge: str) -> list[dict[str, Any]]:
    return requests.get(f'{bridge}/status', timeout=10).json()['farmers']


@pytest.mark.long
def test_farmer_joins_stores_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # Without mirrors every shard lies on one farmer only, so leaving is what saves it.
    with Network(farmers=1, bridge={'mirrors': 0}) as network, MetaDisk(network.bridge_url) as node:
        with farm(tmp_path, network.bridge_url) as program:
            page = program.wait_for('started')['status_url']
            program.wait_for('joined')
            network.farmers[0].stop()
            # Two shards of this file fit the offered space, the third does not.
            references = []
            for number in range(2):
                content = CONTENT[:2_500_000] + bytes([number])
                references.append((node.upload(content), content))
            status = requests.get(f'{page}status', timeout=10).json()
            assert status['shards'] == 2
            assert status['used'] <= status['size'] == SIZE
            html = requests.get(page, headers={'Accept': 'text/html'}, timeout=10)
            assert 'DriveShare' in html.text
            assert "script-src 'self'" in html.headers['Content-Security-Policy']
            strange = requests.get(f'{page}status', headers={'Host': 'evil.example'}, timeout=10)
            assert strange.status_code == 403
            with pytest.raises(Exception, match='upload-error'):
                node.upload(CONTENT[:2_500_000] + b'too much')
            assert program.stop() == 0
        network.farmers[0].start()
        with farm(tmp_path, network.bridge_url, '--leave') as program:
            assert program.wait_for('leaving')['remaining'] == 2
            program.wait_for('left')
            program.wait_for('stopped')
            assert program.process.wait(20) == 0
        (remaining,) = known(network.bridge_url)
        assert remaining['node_id'] == network.farmers[0].node_id
        for reference, content in references:
            output = io.BytesIO()
            node.download(reference, output)
            assert output.getvalue() == content


def test_farmer_survives_the_bridges_restart(tmp_path: Path) -> None:
    data = tmp_path / 'network'
    with Network(farmers=0, data=data) as network:
        bridge = network.bridge_url
        port = int(bridge.rpartition(':')[2])
        with farm(tmp_path / 'farm', bridge) as program:
            first = program.wait_for('started')
            program.wait_for('joined')
            network.stop()
            with Network(farmers=0, data=data, port=port) as again:
                assert again.bridge_url == bridge
                with MetaDisk(bridge) as node:
                    reference = node.upload(b'after the restart')
                (farmer,) = known(bridge)
                assert farmer['node_id'] == first['node_id']
                assert farmer['space_offered'] == SIZE
                assert program.stop() == 0
                # The farmer's restart: the same node, and its shards are served again.
                with farm(tmp_path / 'farm', bridge) as second, MetaDisk(bridge) as node:
                    assert second.wait_for('started')['node_id'] == first['node_id']
                    second.wait_for('joined')
                    output = io.BytesIO()
                    node.download(reference, output)
                    assert output.getvalue() == b'after the restart'


def test_farmer_stores_for_the_renters_that_it_is_given_only(tmp_path: Path) -> None:
    content = b'for one bridge only'
    with Network(farmers=0) as network, MetaDisk(network.bridge_url) as node:
        for number, renter in enumerate(('a' * 40, network.extended_key)):
            assert renter is not None
            folder = tmp_path / str(number)
            with farm(folder, network.bridge_url, '--renter', 'b' * 40, '--renter', renter) as one:
                one.wait_for('joined')
                if number == 0:
                    with pytest.raises(Exception, match='upload-error'):
                        node.upload(content)
                else:
                    node.upload(content)
                assert one.stop() == 0


@pytest.mark.parametrize(
    'words',
    [
        ('--renter', 'xpub-of-somebody'),
        ('--database', 'postgresql://me:seen-by-all@127.0.0.1/farmers'),
    ],
)
def test_option_that_cannot_be_is_wrong_use(tmp_path: Path, words: tuple[str, ...]) -> None:
    with farm(tmp_path, 'http://127.0.0.1:6382', *words) as program:
        assert program.process.wait(20) == 2


def test_wrong_use_is_told(tmp_path: Path) -> None:
    with farm(tmp_path, 'nonsense') as program:
        assert program.process.wait(20) == 2


def test_farmer_that_can_take_nothing_says_so(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, '-m', 'storj', 'farm', '--path', str(tmp_path), '--size', '100'],
        stdout=subprocess.PIPE,
        text=True,
        env={**environment_of(tmp_path), 'STORJ_BRIDGE': 'http://127.0.0.1:1'},
    ) as program:
        try:
            assert program.stdout is not None
            lines = [program.stdout.readline() for _ in range(2)]
        finally:
            program.kill()
    assert 'problem: it can take no shards: its size is less than 15,360 bytes' in lines[1]


def test_lines_count_one_thing_in_the_singular() -> None:
    state = {'used': 5, 'size': None, 'counters': {'audits': 1}, 'problems': ()}
    lines = Lines(Output())
    assert lines._text({'type': 'status', 'shards': 1, **state}).startswith(
        '1 shard, 5 B; 1 audit;'
    )
    assert lines._text({'type': 'status', 'shards': 2, **state}).startswith(
        '2 shards, 5 B; 1 audit'
    )


def farmer_of(folder: Path, *arguments: str) -> list[str]:
    command = [sys.executable, '-m', 'storj', 'farm', '--json', '--path', str(folder)]
    return [*command, '--size', str(SIZE), '--no-page', *arguments]


def environment_of(folder: Path) -> dict[str, str]:
    return {'PATH': os.environ['PATH'], 'HOME': str(folder), 'PYTHONPATH': str(ROOT)}


@pytest.mark.parametrize('full', [False, True])
def test_output_that_goes_nowhere_does_not_end_the_farmer(tmp_path: Path, full: bool) -> None:
    with Network(farmers=0) as network:
        reading, writing = os.pipe()
        if full:
            os.close(writing)
            writing = os.open('/dev/full', os.O_WRONLY)
        os.close(reading)
        with subprocess.Popen(
            farmer_of(tmp_path, '--bridge', network.bridge_url),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            env=environment_of(tmp_path),
        ) as program:
            os.close(writing)
            try:
                deadline = time.monotonic() + 30
                while not known(network.bridge_url):
                    assert program.poll() is None
                    assert time.monotonic() < deadline
                with MetaDisk(network.bridge_url) as node:
                    node.upload(b'taken by a farmer that nobody hears')
                program.send_signal(signal.SIGTERM)
                _, errors = program.communicate(timeout=20)
            finally:
                program.kill()
        # It stops in good order; the code says that output is missing.
        assert program.returncode == 1
        assert 'Traceback' not in errors


def test_part_that_fails_ends_the_program_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(self: Farmer) -> None:
        raise RuntimeError('the sweep is broken')

    monkeypatch.setattr(Farmer, '_sweep', fails)
    events: list[str] = []
    with pytest.raises(RuntimeError, match='the sweep is broken'):
        run_farm(
            FarmerSettings(tmp_path, durable=False),
            lambda event: events.append(event['type']),
            status_port=None,
        )
    assert events[-1] == 'stopped'


def test_signal_during_the_start_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()
    given_up: list[bool] = []

    def endless(self: Farmer, stopped: Callable[[], bool]) -> None:
        begun.set()
        while not stopped():
            time.sleep(0.01)
        given_up.append(True)
        raise NetworkSetupError('the start was given up')

    monkeypatch.setattr(Farmer, '_open_folder', endless)

    def signal_it() -> None:
        begun.wait(20)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=signal_it)
    thread.start()
    run_farm(FarmerSettings(tmp_path, durable=False), lambda event: None, status_port=None)
    thread.join()
    assert given_up == [True]
