"""The bridge goes away in mid-transfer and comes back."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

from storj.network import Network
from storj.transfer import Progress, RetryPolicy
from tests.network.engine import KIB, QUIET, Engine, client_of

SIZE = 6 * 256 * KIB


class Restart:
    """A progress callback that restarts a network, in a thread, when a shard has come."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.thread: threading.Thread | None = None

    def __call__(self, progress: Progress) -> None:
        if progress.shards >= 1 and self.thread is None:
            self.thread = threading.Thread(target=self._restart)
            self.thread.start()

    def _restart(self) -> None:
        self._network.stop()
        self._network.start()

    def join(self) -> None:
        assert self.thread is not None, 'the transfer was over before the restart'
        self.thread.join(60)


def test_transfers_outlive_a_restart_of_everything(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    patient = RetryPolicy(attempts=60, delay=0.1, longest=0.5)
    limits = {'concurrency': 1, 'negotiations': 1, 'bridge_retry': patient, 'shard_attempts': 40}
    with (
        Network(farmers=3, port=port, data=tmp_path / 'network', bridge=QUIET) as network,
        client_of(network) as client,
    ):
        bucket = str(client.bucket_create('b').id)
        data = os.urandom(SIZE)
        transfers = engine(client, **limits)
        restart = Restart(network)
        stored = transfers.upload(bucket, data, name='n', progress=restart).result(90)
        restart.join()
        assert [file['id'] for file in client.bucket_files(bucket)] == [stored.id]
        restart = Restart(network)
        target = tmp_path / 'out'
        transfers.download(bucket, stored.id, target, progress=restart).result(90)
        restart.join()
        assert target.read_bytes() == data
        transfers.close()


def free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as server:
        return int(server.getsockname()[1])
