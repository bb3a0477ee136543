"""Farmers that end by themselves: started again, with pauses, or given up; never after a stop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storj.network import Network, farmers
from storj.network.farmer.farmer import Workers
from storj.network.farmer.settings import FarmerSettings
from storj.network.farmers import (
    FarmerContext,
    FarmerHandle,
    FarmerInLoop,
    NetworkError,
    _Questions,
    restart_pause,
)
from storj.network.faults import FaultPlan
from tests.network.bridges import eventually

pytestmark = pytest.mark.usefixtures('forked_python')

ROOT = Path(__file__).parents[2]


@contextmanager
def processes(data: Path) -> Iterator[tuple[Network, FarmerHandle]]:
    """Run a network whose one farmer is a process."""
    quiet = {'mirrors': 0, 'audit_interval': 0}
    with Network(1, processes=True, data=data, durable=False, bridge=quiet) as net:
        yield net, net.farmers[0]


def strike(farmer: FarmerHandle) -> int:
    """Kill a farmer's process behind the network's back; return its id."""
    pid: int = farmer.status()['pid']
    os.kill(pid, signal.SIGKILL)
    return pid


def is_gone(pid: int) -> bool:
    """Return whether not even a zombie is left of a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def never_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pause before a restart longer than any test."""
    monkeypatch.setattr(farmers, 'RESTART_FIRST', 3600.0)
    monkeypatch.setattr(farmers, 'RESTART_MOST', 3600.0)


def test_farmer_that_comes_up_while_it_is_stopped_ends(tmp_path: Path) -> None:
    stopped: list[bool] = []

    class Slow(FarmerInLoop):
        async def _start(self) -> None:
            await coming_up.wait()

        async def _stop(self, *, abruptly: bool) -> None:
            stopped.append(abruptly)

    async def stop_at_that_moment() -> None:
        nonlocal coming_up
        coming_up = asyncio.Event()
        context = FarmerContext(lambda work: work, FaultPlan(), Workers())
        farmer = Slow(context, 0, FarmerSettings(tmp_path))
        beginning = asyncio.ensure_future(farmer.begin())
        await asyncio.sleep(0.05)
        coming_up.set()
        await asyncio.wait_for(farmer.end(), 10)
        assert farmer.state == 'stopped'
        with pytest.raises(NetworkError, match='stopped before it was up'):
            await beginning
        context.workers.close()

    coming_up: asyncio.Event
    asyncio.run(stop_at_that_moment())
    assert stopped


def test_farmer_whose_restart_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(FarmerInLoop):
        started = 0

        async def _start(self) -> None:
            self.started += 1
            if self.started > 1:
                await asyncio.Event().wait()

        async def _ended(self) -> str:
            return 'it fell over'

    async def watch() -> None:
        context = FarmerContext(lambda work: work, FaultPlan(), Workers())
        farmer = Hanging(context, 0, FarmerSettings(tmp_path))
        await farmer.begin()
        while farmer.state != 'given up':
            await asyncio.sleep(0)
        assert farmer.started == farmers.RESTARTS + 1
        assert farmer.last_end == 'farmer 0 did not come up in time'
        context.workers.close()

    # A start that hangs takes longer than a farmer has to run to count as steady.
    monkeypatch.setattr(farmers, 'START_LIMIT', 0.02)
    monkeypatch.setattr(farmers, 'STEADY', 0.01)
    monkeypatch.setattr(farmers, 'RESTART_FIRST', 0.0)
    asyncio.run(asyncio.wait_for(watch(), 30))


def test_killed_process_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(farmers, 'RESTART_FIRST', 0.01)
    with processes(tmp_path) as (net, farmer):
        before = farmer.status()
        old = strike(farmer)
        eventually(lambda: farmer.restarts == 1 and farmer.state == 'up', 60)
        after = farmer.status()
        assert after['pid'] != old
        assert is_gone(old)
        assert (after['node_id'], after['port']) == (before['node_id'], before['port'])
        assert after['registered']
        told = net.status()['farmers'][0]
        assert (told['restarts'], told['last_end'], told['problems']) == (1, 'signal 9', [])
    said = [record for record in caplog.records if record.name == 'storj.network.farmers']
    assert [record.getMessage() for record in said] == [
        'farmer 0 ended: signal 9; started again in 0.01 s'
    ]
    assert is_gone(after['pid'])


def test_process_that_starts_is_shown_and_hears_of_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farmers, 'RESTART_FIRST', 0.0)
    with processes(tmp_path) as (net, farmer):
        strike(farmer)
        # It does not answer before it is up.
        eventually(lambda: farmer.state == 'restarting' and farmer.running)
        assert farmer.status()['state'] == 'restarting'
        net.faults.add('delay:farmer=0,seconds=0')
        eventually(lambda: farmer.state == 'up', 60)
        assert farmer.restarts == 1


def test_status_is_told_while_a_copy_is_made(tmp_path: Path) -> None:
    program = """if True:
        import sys
        print('{"type": "ready"}', flush=True)
        for line in sys.stdin:
            if line.startswith('status'):
                print('{"type": "status", "used": 7}', flush=True)
            elif line.startswith('faults'):
                print('{"type": "faults"}', flush=True)
                break
        print('{"type": "snapshot", "error": ""}', flush=True)
        sys.stdin.read()
    """

    async def ask() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, '-c', program, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None
        questions = _Questions(process)
        assert await questions.ready == {'type': 'ready'}
        copying = asyncio.ensure_future(questions.ask('snapshot', '"target"'))
        await asyncio.sleep(0)
        for _ in range(2):
            assert (await questions.ask('status', ''))['used'] == 7
        assert not copying.done()
        await questions.ask('faults', '{}')
        assert (await copying)['error'] == ''
        # From now on it answers nothing.
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(questions.ask('status', ''), 0.01)
        unanswered = asyncio.ensure_future(questions.ask('status', ''))
        await asyncio.sleep(0)
        process.stdin.close()
        assert await unanswered == {}
        await process.wait()
        assert await questions.ask('status', '') == {}

    asyncio.run(asyncio.wait_for(ask(), 30))


def test_process_that_dies_at_each_start_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(farmers, 'RESTART_FIRST', 0.01)
    monkeypatch.setattr(farmers, 'RESTARTS', 2)
    identity = tmp_path / 'farmers' / '0' / 'identity.key'
    with processes(tmp_path) as (net, farmer):
        right = identity.read_bytes()
        identity.write_text('no key')
        strike(farmer)
        eventually(lambda: farmer.state == 'given up', 60)
        assert 'identity.key' in farmer.last_end
        assert farmer.last_end.startswith('farmer 0 ended with exit code 1: ')
        assert net.status()['farmers'][0]['problems'] == [f'given up: {farmer.last_end}']
        assert not farmer.running
        errors = [each for each in caplog.records if each.levelno == logging.ERROR]
        assert [each.getMessage() for each in errors] == [
            f'farmer 0 is given up after 3 starts in a row; the last one ended: {farmer.last_end}'
        ]
        # A person who has mended it starts it again.
        identity.write_bytes(right)
        farmer.start()
        assert (farmer.state, farmer.running) == ('up', True)


def test_pauses_double_up_to_a_minute() -> None:
    pauses = [restart_pause(failures) for failures in range(1, 10)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def fail(farmer: FarmerHandle) -> None:
    """Let a part of a farmer in this process fail."""
    assert isinstance(farmer, FarmerInLoop)
    assert farmer.farmer is not None
    farmer.farmer.tasks.fail(RuntimeError('the sweep is broken'))


def test_farmer_in_the_loop_whose_part_fails_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farmers, 'RESTART_FIRST', 0.01)
    with Network(1, data=tmp_path, durable=False) as net:
        farmer = net.farmers[0]
        net.call(fail(farmer))
        eventually(lambda: farmer.restarts == 1 and farmer.state == 'up')
        assert farmer.last_end == 'the sweep is broken'
        assert farmer.status()['registered']


@pytest.mark.parametrize('action', ['stop', 'kill'])
def test_farmer_that_is_stopped_on_purpose_stays_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setattr(farmers, 'RESTART_FIRST', 0.0)
    with processes(tmp_path) as (_, farmer):
        pid = farmer.status()['pid']
        getattr(farmer, action)()
        assert is_gone(pid)
        assert (farmer.state, farmer.restarts) == ('stopped', 0)
        farmer.start()
        assert (farmer.state, farmer.restarts) == ('up', 0)


def test_farmer_is_stopped_and_started_during_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_again(monkeypatch)
    with processes(tmp_path) as (_, farmer):
        strike(farmer)
        eventually(lambda: farmer.state == 'restarting')
        assert farmer.status()['problems'] == ['restarting: signal 9']
        farmer.stop()
        assert (farmer.state, farmer.running) == ('stopped', False)
        farmer.start()
        strike(farmer)
        eventually(lambda: farmer.state == 'restarting')
        farmer.start()
        assert farmer.status()['registered']


def test_network_stops_during_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never_again(monkeypatch)
    with processes(tmp_path) as (_, farmer):
        pid = strike(farmer)
        eventually(lambda: farmer.state == 'restarting')
    assert is_gone(pid)
    assert farmer.state == 'stopped'


def test_start_that_is_broken_off_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farmers, 'RESTART_FIRST', 0.0)
    pids: list[int] = []
    create = asyncio.create_subprocess_exec

    async def create_noted(*arguments: object, **options: object) -> object:
        process = await create(*arguments, **options)  # type: ignore[arg-type]
        pids.append(process.pid)
        return process

    monkeypatch.setattr(farmers.asyncio, 'create_subprocess_exec', create_noted)
    with processes(tmp_path) as (_, farmer):
        strike(farmer)
        eventually(lambda: len(pids) == 2)
        farmer.stop()
        assert [is_gone(pid) for pid in pids] == [True, True]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signal_during_a_pause_ends_the_program(tmp_path: Path, number: int) -> None:
    arguments = ['up', '--port', '0', '--farmers', '1', '--processes', '--no-sync', '--json', '-v']
    with subprocess.Popen(
        [sys.executable, '-m', 'storj', 'network', *arguments, '--data', str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        pid = json.loads(program.stdout.readline())['farmers'][0]['pid']
        os.kill(pid, signal.SIGKILL)
        said = 'farmer 0 ended: signal 9; started again in 1 s\n'
        assert any(line.endswith(said) for line in iter(program.stderr.readline, ''))
        assert is_gone(pid)
        program.send_signal(number)
        assert program.communicate(timeout=20)[0] == ''
        assert program.returncode == 0
