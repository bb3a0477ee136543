"""The whole network dies in mid-transfer and comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ports import steady_port
from storj.http import Client, Retries
from storj.transfer import Progress, RetryPolicy, TransferConfig, Transfers
from tests.network.engine import KIB, QUICK

pytestmark = pytest.mark.usefixtures('forked_python')

SIZE = 6 * 256 * KIB


class NetworkProcess:
    """A network in a process of its own, to be killed."""

    def __init__(self, data: Path) -> None:
        self._port = steady_port()
        self._data = data
        self.start()

    def start(self) -> None:
        command = [sys.executable, '-m', 'storj.network', 'up', '--json', '--farmers', '3']
        self.process = subprocess.Popen(
            [*command, '--port', str(self._port), '--data', str(self._data)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.environment: dict[str, Any] = json.loads(self.process.stdout.readline())['environment']

    def kill(self) -> None:
        with self.process:
            self.process.kill()


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[NetworkProcess]:
    network = NetworkProcess(tmp_path / 'network')
    yield network
    network.kill()


class Restart:
    """A progress callback that kills and restarts a network, once a shard has come."""

    def __init__(self, network: NetworkProcess) -> None:
        self._network = network
        self.thread: threading.Thread | None = None

    def __call__(self, progress: Progress) -> None:
        if progress.shards >= 1 and self.thread is None:
            self.thread = threading.Thread(target=self._restart)
            self.thread.start()

    def _restart(self) -> None:
        self._network.kill()
        self._network.start()

    def join(self) -> None:
        assert self.thread is not None, 'the transfer was over before the restart'
        self.thread.join(60)
        assert not self.thread.is_alive(), 'the network does not come up again'


@pytest.mark.long
def test_transfers_outlive_the_death_of_bridge_and_farmers(
    outside: NetworkProcess, tmp_path: Path
) -> None:
    account = outside.environment
    config = TransferConfig(
        **{
            **QUICK,
            'concurrency': 1,
            'negotiations': 1,
            'bridge_retry': RetryPolicy(attempts=80, delay=0.1, longest=0.5),
            'shard_attempts': 40,
            'state_dir': tmp_path / 'state',
        }
    )
    with (
        Client(
            account['STORJ_BRIDGE_USER'],
            account['STORJ_BRIDGE_PASS'],
            account['STORJ_BRIDGE'],
            mnemonic=account['STORJ_ENCRYPTION_KEY'],
            retries=Retries(count=0),
        ) as client,
        Transfers(client, config) as transfers,
    ):
        bucket = str(client.bucket_create('b').id)
        data = os.urandom(SIZE)
        restart = Restart(outside)
        try:
            stored = transfers.upload(bucket, data, name='n', progress=restart).result(60)
        finally:
            restart.join()
        assert [file['id'] for file in client.bucket_files(bucket)] == [stored.id]
        restart = Restart(outside)
        target = tmp_path / 'out'
        try:
            transfers.download(bucket, stored.id, target, progress=restart).result(60)
        finally:
            restart.join()
        assert target.read_bytes() == data
