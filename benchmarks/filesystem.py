"""Files by fsspec beside the same files by the client: ``python -m benchmarks.filesystem``.

Both sides run in one process, in turn, against one network; medians, and the ratio of both.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fsspec

from benchmarks.measure import MIB, table
from benchmarks.network import network
from storj.http import Client

SIZE = 64 * MIB
RUNS = 5
PIECE = MIB


def main() -> None:
    """Print the table."""
    with (
        tempfile.TemporaryDirectory() as folder,
        network(Path(folder, 'network'), '1.2', 'disk') as environment,
    ):
        options = {
            'bridge': environment['STORJ_BRIDGE'],
            'email': environment['STORJ_BRIDGE_USER'],
            'password': environment['STORJ_BRIDGE_PASS'],
            'mnemonic': environment['STORJ_ENCRYPTION_KEY'],
        }
        source, target = Path(folder, 'source'), Path(folder, 'target')
        source.write_bytes(os.urandom(SIZE))
        fs = fsspec.filesystem('storj', **options)
        fs.mkdir('bench')
        client: Client = fs.client
        bucket_id = fs.info('bench')['bucket_id']
        names = (f'file {number}' for number in range(1 << 30))
        stored = client.file_upload(bucket_id, source, name=next(names))

        def write() -> None:
            with source.open('rb') as file, fs.open(f'bench/{next(names)}', 'wb') as writer:
                while piece := file.read(PIECE):
                    writer.write(piece)

        def read() -> None:
            with fs.open('bench/file 0') as file:
                while file.read(PIECE):
                    pass

        rows = [['64 MiB', 'client s', 'fsspec s', 'client / fsspec']]
        for name, by_client, by_fsspec in (
            (
                'upload of a file',
                lambda: client.file_upload(bucket_id, source, name=next(names)),
                lambda: fs.put_file(str(source), f'bench/{next(names)}'),
            ),
            (
                'download to a file',
                lambda: client.file_download(bucket_id, stored.id, target),
                lambda: fs.get_file('bench/file 0', str(target)),
            ),
            (
                'upload, written piece by piece',
                lambda: client.file_upload(bucket_id, source, name=next(names)),
                write,
            ),
            (
                'download, read piece by piece',
                lambda: client.file_download(bucket_id, stored.id),
                read,
            ),
        ):
            one, other = in_turn(by_client, by_fsspec)
            rows.append([name, f'{one:.2f}', f'{other:.2f}', f'{one / other:.2f}'])
        print(table(rows))


def in_turn(*calls: Callable[[], object]) -> list[float]:
    """Return the median of the seconds that each of some calls takes, run alternately."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(RUNS):
        for call, taken in zip(calls, seconds, strict=True):
            begin = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begin)
    return [statistics.median(taken) for taken in seconds]


if __name__ == '__main__':
    main()
