"""A bridge of several processes that share a port, and what becomes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from storj.network.workers import _pause, _Worker
from tests.cli.bridge_test import bridge
from tests.network.bridges import eventually
from tests.network.postgresql import new_database

ROOT = Path(__file__).parents[2]

#: Workers that tell their numbers and pids, and end at a signal.
SCRIPT = """if True:
    import logging, os, sys
    from storj.exception import NetworkSetupError
    from storj.network import workers
    from storj.network.program import serving

    logging.basicConfig()
    workers._PAUSE = 0.0

    def say(*words):
        # In one piece, whatever others say.
        os.write(1, f'{" ".join(map(str, words))}\\n'.encode())

    def work(number, report, life):
        if sys.argv[1] == 'fail' and number == 1:
            raise NetworkSetupError('the port is taken')
        say(number, os.getpid())
        report({'number': number})
        while not stopped.wait(0.05):
            if sys.argv[1] == 'orphans':
                os.read(life, 1)
                say('orphan', os.getpid())
                return

    with serving() as stopped:
        try:
            workers.run_workers(
                2, work, lambda reports: say('ready', len(reports)), stopped, grace=5
            )
        except NetworkSetupError as error:
            say('failed:', error)
"""


@contextmanager
def running(kind: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, '-c', SCRIPT, kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str], count: int) -> list[list[str]]:
    assert process.stdout is not None
    return [process.stdout.readline().split() for _ in range(count)]


def test_worker_that_dies_is_started_again() -> None:
    with running('all') as process:
        *both, ready = sorted(lines(process, 3))
        assert ready == ['ready', '2']
        assert [number for number, _ in both] == ['0', '1']
        os.kill(int(both[1][1]), signal.SIGKILL)
        ((number, pid),) = lines(process, 1)
        assert number == '1'
        assert pid != both[1][1]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, '')
        assert 'worker 1 has ended (by SIGKILL)' in err
        for gone in (both[0][1], pid):
            assert not Path('/proc', gone).exists()


def test_worker_that_cannot_start_ends_all() -> None:
    with running('fail') as process:
        out, _ = process.communicate(timeout=30)
    first, last = out.splitlines()
    assert first.startswith('0 ')
    assert last == 'failed: the port is taken'
    assert not Path('/proc', first.split()[1]).exists()


def test_workers_end_when_their_parent_is_killed() -> None:
    with running('orphans') as process:
        *both, _ = sorted(lines(process, 3))
        process.kill()
        assert sorted(lines(process, 2)) == sorted(['orphan', pid] for _, pid in both)


def test_worker_that_dies_again_and_again_waits_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    worker = _Worker(0, began=now[0])
    pauses = []
    for lived in (1.0,) * 8 + (3600.0,):
        worker.began = now[0]
        now[0] += lived
        _pause(worker)
        pauses.append(worker.pause)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 0.5]


def children(pid: int) -> set[int]:
    return {int(each) for each in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()}


@pytest.mark.skipif(not Path('/proc').exists(), reason='needs /proc')
def test_bridge_of_workers_survives_the_loss_of_one(
    commands: Path, tmp_path: Path, postgresql_server: sa.URL
) -> None:
    url = new_database(postgresql_server).render_as_string(hide_password=False)
    settings = {'database': url, 'workers': '2', 'migrate': '1', 'metrics_port': '0'}
    settings['log_format'] = 'json'
    with bridge(commands, tmp_path, **settings) as program:
        pid = program.ready['pid']
        assert program.ready['workers'] == 2
        assert program.ready['extended_key'].startswith('xpub')
        first = children(pid)
        assert len(first) == 2
        assert {program.get('ready').status_code for _ in range(8)} == {200}
        # Whichever of them answers, it adds up what both have counted.
        counted = 'storj_requests_total{method="GET",route="/ready",status="200"}'
        assert [program.metrics()[counted] for _ in range(4)] == [8] * 4
        os.kill(min(first), signal.SIGKILL)

        def whole() -> bool:
            try:
                answers = [program.get('ready').status_code for _ in range(8)]
            except requests.ConnectionError:
                return False
            return answers == [200] * 8 and len(children(pid) - {min(first)}) == 2

        eventually(whole)
        assert program.metrics()[counted] >= 16
        last = children(pid)
        program.process.send_signal(signal.SIGTERM)
        _, log = program.process.communicate(timeout=30)
        assert program.process.returncode == 0
        told = [json.loads(line) for line in log.splitlines()]
        assert any('worker' in line['message'] for line in told if line['level'] == 'WARNING')
        assert not any(Path('/proc', str(each)).exists() for each in last)
