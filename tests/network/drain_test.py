"""A network with fewer farmers than before: refused, or what they store is moved first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from storj.exception import NetworkSetupError
from storj.http import Client
from storj.network import Network

pytestmark = pytest.mark.usefixtures('forked_python')

FILES = [os.urandom(30_000 + number) for number in range(8)]


def client_of(network: Network) -> Client:
    return Client(network.email, network.password, network.bridge_url, mnemonic=network.mnemonic)


def begin(data: Path, farmers: int | None = None, **options: Any) -> Network:
    return Network(farmers, data=data, bridge={'mirrors': 0}, durable=False, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of four farmers, each shard of which lies on one of them only."""
    with begin(tmp_path, 4) as network, client_of(network) as client:
        bucket = client.bucket_create('bucket')
        for number, content in enumerate(FILES):
            client.file_upload(bucket.id, content, name=str(number))
    return tmp_path


def readable(network: Network) -> bool:
    with client_of(network) as client:
        (bucket,) = client.bucket_list()
        ids = [file['id'] for file in client.bucket_files(bucket.id)]
        found = {bytes(client.file_download(bucket.id, each).read()) for each in ids}
    return found == set(FILES)


def test_fewer_farmers_are_refused_with_what_is_at_stake(folder: Path) -> None:
    stored = [
        path.stat().st_size
        for number in (2, 3)
        for path in (folder / 'farmers' / str(number) / 'shards').glob('*/*')
    ]
    said = f'has 4 farmers.* beyond 2 store {len(stored)} shards?, {sum(stored)} bytes.*--drain'
    with pytest.raises(NetworkSetupError, match=said):
        begin(folder, 2).start()
    with begin(folder) as network:
        assert len(network.farmers) == 4
        assert readable(network)


@pytest.mark.parametrize('processes', [False, True])
def test_drained_farmers_leave_their_shards_to_the_others(folder: Path, processes: bool) -> None:
    told: list[tuple[int, int]] = []
    with begin(folder, 2, drain=True, processes=processes) as network:
        assert len(network.farmers) == 4
        network.drain(lambda *state: told.append(state))
        assert [farmer.number for farmer in network.farmers] == [0, 1]
        assert readable(network)
    assert [number for number, remaining in told if not remaining] == [3, 2]
    with begin(folder) as network:
        assert len(network.farmers) == 2
        assert readable(network)


def test_draining_that_is_given_up_loses_nothing(folder: Path) -> None:
    stopped = threading.Event()
    stopped.set()
    with begin(folder, 1, drain=True) as network:
        network.drain(stopped=stopped)
        left = len(network.farmers)
        assert left >= 3
    with begin(folder) as network:
        assert len(network.farmers) == left
        assert readable(network)


def test_drain_to_no_farmer_is_refused_while_there_are_shards(folder: Path) -> None:
    with pytest.raises(NetworkSetupError, match=r'beyond 0 store \d+ shards.*take at least one'):
        begin(folder, 0, drain=True).start()


def test_program_tells_how_far_it_is_and_then_is_ready(folder: Path, commands: Path) -> None:
    words = ['network', 'up', '--json', '--port', '0', '--data', str(folder), '--no-sync']
    with subprocess.Popen(
        [commands / 'python', '-m', 'storj', *words, '--farmers', '3', '--drain'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        events = []
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]['type'] == 'ready':
                break
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, '')
    assert {'type': 'leaving', 'farmer': 3, 'remaining': 0} in events
    assert len(events[-1]['farmers']) == 3
