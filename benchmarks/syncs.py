"""What it costs to confirm only what is on the disk: uploads beside those of ``--no-sync``.

``python -m benchmarks.syncs``. Two networks stand side by side, one durable and one not, each in a
process of its own; the same files go to both in turn. A disk is named by its own figure as well:
how long it takes to flush a block of 4 KiB.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import MIB, table
from benchmarks.network import network
from storj.http import Client
from storj.transfer import TransferConfig

#: What is uploaded at a time: files, and bytes of each.
LOADS = {'1 KiB, one by one': (1, 1024), '64 x 1 KiB': (64, 1024), '64 MiB': (1, 64 * MIB)}
ROUNDS = 7
_THREADS = 16
_FLUSHES = 200


@dataclass
class Uploads:
    """Uploads to one network.

    Args:
        client (Client): of the network.
        bucket_id (str): of a bucket there.
    """

    client: Client
    bucket_id: str

    def seconds(self, files: int, size: int, pool: ThreadPoolExecutor) -> float:
        """Return how long it takes to upload new files."""
        contents = [os.urandom(size) for _ in range(files)]

        def upload(content: bytes) -> None:
            self.client.file_upload(self.bucket_id, content, name=os.urandom(8).hex())

        begun = time.perf_counter()
        list(pool.map(upload, contents))
        return time.perf_counter() - begun


def flush_seconds(folder: Path) -> float:
    """Return how long the disk takes to flush a block."""
    with tempfile.TemporaryFile(dir=folder) as file:
        begun = time.perf_counter()
        for _ in range(_FLUSHES):
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        return (time.perf_counter() - begun) / _FLUSHES


def measure(rounds: int, folder: Path) -> list[tuple[str, float, float]]:
    """Return each load with its seconds, durable and not."""
    with contextlib.ExitStack() as stack:
        both = []
        for durable in (True, False):
            state = folder / ('sync' if durable else 'no-sync')
            environment = stack.enter_context(network(state, '1.2', 'disk', durable=durable))
            client = stack.enter_context(
                Client(
                    environment['STORJ_BRIDGE_USER'],
                    environment['STORJ_BRIDGE_PASS'],
                    environment['STORJ_BRIDGE'],
                    mnemonic=environment['STORJ_ENCRYPTION_KEY'],
                    transfer_config=TransferConfig(state_dir=state / 'client', reports=False),
                )
            )
            both.append(Uploads(client, str(client.bucket_create('benchmark').id)))
        pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
        rows = []
        for name, (files, size) in LOADS.items():
            times: tuple[list[float], list[float]] = ([], [])
            # The first round opens connections; the order changes, as the second one finds the
            # machine as the first has left it.
            for number in range(-1, rounds):
                order = (0, 1) if number % 2 else (1, 0)
                for which in order:
                    seconds = both[which].seconds(files, size, pool)
                    if number >= 0:
                        times[which].append(seconds)
            rows.append((name, statistics.median(times[0]), statistics.median(times[1])))
        return rows


def main() -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory(prefix='storj-syncs-') as name:
        folder = Path(name)
        flush = flush_seconds(folder)
        rows = [
            [load, f'{durable * 1000:.1f}', f'{quick * 1000:.1f}', f'{durable / quick:.2f}']
            for load, durable, quick in measure(ROUNDS, folder)
        ]
    print(table([['upload', 'durable ms', 'no-sync ms', 'ratio'], *rows]))
    print(f'\nthe disk flushes a block in {flush * 1000:.2f} ms')


if __name__ == '__main__':
    main()
