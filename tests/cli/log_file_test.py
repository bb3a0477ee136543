"""Log files of the servers: opened again at SIGHUP, as rotation of logs has it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip('aiohttp')
pytest.importorskip('click')
if not hasattr(signal, 'SIGHUP'):
    pytest.skip('this system has no SIGHUP', allow_module_level=True)

from tests.network.bridges import eventually

pytestmark = pytest.mark.usefixtures('forked_python')

ROOT = Path(__file__).parents[2]


@contextmanager
def server(home: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    environment = {'PATH': os.environ['PATH'], 'HOME': str(home), 'PYTHONPATH': str(ROOT)}
    with subprocess.Popen(
        [sys.executable, '-m', 'storj', *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def farm(home: Path, log: Path | None) -> Iterator[subprocess.Popen[str]]:
    """Run a farmer whose bridge is away, so that it goes on logging; wait until it has started."""
    options = [] if log is None else ['--log-file', log]
    where = ['--path', home / 'farm', '--bridge', 'http://127.0.0.1:1', '--no-page']
    with server(home, 'farm', '--json', *options, *where) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())['type'] == 'started'
        yield process


def test_log_that_was_moved_is_opened_again(tmp_path: Path) -> None:
    log, old = tmp_path / 'farm.log', tmp_path / 'farm.log.1'
    with farm(tmp_path, log) as process:
        log.rename(old)
        process.send_signal(signal.SIGHUP)
        eventually(lambda: log.exists() and 'trying again' in log.read_text(), 60)
        process.terminate()
        assert process.wait(20) == 0
    assert 'listens on' in old.read_text()


def test_log_that_cannot_be_opened_again_does_not_end_the_server(tmp_path: Path) -> None:
    folder, moved = tmp_path / 'logs', tmp_path / 'moved'
    folder.mkdir()
    with farm(tmp_path, folder / 'farm.log') as process:
        folder.rename(moved)
        process.send_signal(signal.SIGHUP)
        eventually(lambda: 'cannot be opened again' in (moved / 'farm.log').read_text(), 60)
        folder.mkdir()
        process.send_signal(signal.SIGHUP)
        eventually((folder / 'farm.log').exists)
        process.terminate()
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_server_without_a_log_stops_at_sighup(tmp_path: Path) -> None:
    with farm(tmp_path, None) as process:
        process.send_signal(signal.SIGHUP)
        # As by SIGTERM: cleanly.
        assert process.wait(20) == 0


def test_network_logs_for_its_farmers_and_opens_the_log_again(tmp_path: Path) -> None:
    log, old = tmp_path / 'network.log', tmp_path / 'network.log.1'
    options = ['--port', 0, '--farmers', 1, '--processes', '--no-sync', '--json']
    with server(
        tmp_path, 'network', 'up', '--log-file', log, '--data', tmp_path / 'data', *options
    ) as process:
        assert process.stdout is not None
        pid = json.loads(process.stdout.readline())['farmers'][0]['pid']
        log.rename(old)
        process.send_signal(signal.SIGHUP)
        # A farmer's process has no log of its own, and ignores it.
        os.kill(pid, signal.SIGHUP)
        eventually(log.exists)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: 'farmer 0 ended: signal 9' in log.read_text(), 60)
        process.terminate()
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_log_of_a_network_in_the_background_is_opened_again(tmp_path: Path) -> None:
    data = tmp_path / 'data'
    log = data / 'network.log'
    options = ['--port', 0, '--farmers', 1, '--processes', '--no-sync', '--json', '--detach']
    with server(tmp_path, 'network', 'up', '--data', data, *options) as starting:
        assert starting.stdout is not None
        ready = json.loads(starting.stdout.readline())
        assert starting.wait(20) == 0
    try:
        # It is rotated as every log is.
        log.rename(data / 'network.log.1')
        os.kill(ready['pid'], signal.SIGHUP)
        eventually(log.exists)
        os.kill(ready['farmers'][0]['pid'], signal.SIGKILL)
        eventually(lambda: 'farmer 0 ended: signal 9' in log.read_text(), 60)
    finally:
        with server(tmp_path, 'network', 'down', '--data', data) as stopping:
            assert stopping.wait(60) == 0
