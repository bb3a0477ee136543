"""The network and the farmer as programs: whatever becomes of their output, they serve."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.forked import PYTHON

pytest.importorskip('aiohttp')

from storj.exception import StorjError
from storj.network import Network, program
from storj.network.control import RunningNetwork, serve_control

pytestmark = pytest.mark.usefixtures('forked_python')

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_full_output_does_not_end_the_network(tmp_path: Path) -> None:
    arguments = ['network', 'up', '--port', '0', '--farmers', '0', '--no-sync']
    with Path('/dev/full').open('w') as full:
        process = subprocess.Popen(
            [sys.executable, '-m', 'storj', *arguments, '--data', str(tmp_path)],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, 'PYTHONPATH': str(ROOT)},
            text=True,
        )
    with process:
        assert process.stderr is not None
        # What is printed comes last, so the network is up.
        assert 'the server continues' in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    # A command that could not print all says so in the end, as any other.
    assert (process.returncode, 'Traceback' in said) == (1, False)


def test_network_answers_while_farmers_leave(tmp_path: Path) -> None:
    with Network(1, data=tmp_path, durable=False):
        pass
    states: list[object] = []

    @contextmanager
    def asked(network: Network) -> Iterator[None]:
        with serve_control(network):
            running = RunningNetwork(tmp_path)
            states.append(len(running.status()['farmers']))
            with pytest.raises(StorjError, match='farmers leave'):
                running.change_farmer(0, 'restart')
            running.stop()
            yield

    program.run_network(
        Network(0, data=tmp_path, drain=True, durable=False),
        beside=asked,
        ready=lambda network: states.append('ready'),
        leaving=lambda number, remaining: None,
    )
    assert states == [1]
    assert not (tmp_path / 'control.json').exists()


def test_farmer_loads_nothing_of_the_bridge() -> None:
    # A network of processes has many of them: each start and each megabyte counts as often.
    code = """if True:
        import sys
        import storj.network.farmer_process, storj.network.farm
        print(*(name for name in sys.modules if name.startswith(('sqlalchemy', 'storj'))))
    """
    loaded = subprocess.run(
        [PYTHON, '-c', code],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert 'storj.network.farmer.farmer' in loaded
    assert [name for name in loaded if 'sqlalchemy' in name or 'network.bridge' in name] == []
