"""Transfers beside connections that do nothing: ``python -m benchmarks.strangers``.

A network with 1,024 descriptors for everything gets 1,000 connections that say nothing or half a
head, and 150 downloads whose readers read nothing. Meanwhile files go up and down. Printed are the
transfers that failed (the goal is none), how long they took beside those before the strangers came,
and the peak memory of the network. Everything stays on the loopback interface.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.measure import MIB, table
from benchmarks.network import network
from storj.http import Client
from storj.metadisk import MetaDisk

DESCRIPTORS = 1024
IDLE = 1000
STALLED = 150
ROUNDS = 10
FILE = 4 * MIB
LARGE = 32 * MIB


def peak_memory(port: int) -> int:
    """Return the peak resident bytes of the process that listens on a port, from /proc."""
    wanted = f':{port:04X}'
    inode = next(
        fields[9]
        for fields in map(str.split, Path('/proc/net/tcp').read_text().splitlines()[1:])
        if fields[1].endswith(wanted) and fields[3] == '0A'
    )
    for link in Path('/proc').glob('[0-9]*/fd/*'):
        # Descriptors come and go while they are looked at.
        with contextlib.suppress(OSError):
            if link.readlink().name == f'socket:[{inode}]':
                status = (link.parents[1] / 'status').read_text()
                return int(re.search(r'VmHWM:\s+(\d+)', status)[1]) * 1024
    raise RuntimeError('no process listens there')


@contextlib.contextmanager
def idle(host: str, port: int) -> Iterator[None]:
    """Hold connections that say nothing, every second of them half a head."""
    with contextlib.ExitStack() as stack:
        for number in range(IDLE):
            connection = stack.enter_context(socket.create_connection((host, port), timeout=30))
            if number % 2:
                with contextlib.suppress(OSError):
                    connection.sendall(b'GET / HTTP/1.1\r\nHost: ')
        yield


@contextlib.contextmanager
def stalled(host: str, port: int, path: str) -> Iterator[None]:
    """Hold downloads whose readers read nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(STALLED):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(30)
            connection.connect((host, port))
            connection.sendall(f'GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n'.encode())
        yield


def transfers(client: Client, node: MetaDisk, large: str) -> list[tuple[str, Callable[[], object]]]:
    """Return what is done over and over, each with a check of its own."""
    bucket = client.bucket_create(f'strangers-{time.time_ns()}')
    content = os.urandom(FILE)

    def there_and_back() -> None:
        file = client.file_upload(bucket.id, content, name=f'{time.time_ns()}')
        if client.file_download(bucket.id, file.id).read() != content:
            raise RuntimeError('other bytes came back')

    def by_the_page() -> None:
        target = io.BytesIO()
        node.download(large, target)
        if target.tell() != LARGE:
            raise RuntimeError('the download is not whole')

    return [('file up and down', there_and_back), ('download of the page', by_the_page)]


def measure(work: Callable[[], object]) -> tuple[list[float], int]:
    """Return the seconds of each round that succeeded, and how many failed."""
    seconds, failed = [], 0
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        try:
            work()
        except Exception as error:
            print(f'failed: {error!r}')
            failed += 1
        else:
            seconds.append(time.perf_counter() - begun)
    return seconds, failed


def main() -> None:
    """Run it and print the table."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    with tempfile.TemporaryDirectory() as folder, network(Path(folder), 'mixed', 'disk') as env:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        parts = urlsplit(env['STORJ_BRIDGE'])
        host, port = parts.hostname or '', parts.port or 0
        with Client(
            env['STORJ_BRIDGE_USER'],
            env['STORJ_BRIDGE_PASS'],
            env['STORJ_BRIDGE'],
            mnemonic=env['STORJ_ENCRYPTION_KEY'],
        ) as client:
            node = MetaDisk(env['STORJ_BRIDGE'])
            large = str(node.upload(os.urandom(LARGE)))
            works = transfers(client, node, large)
            before = [measure(work) for _, work in works]
            memory = peak_memory(port)
            with idle(host, port), stalled(host, port, f'/api/download/{large}'):
                beside = [measure(work) for _, work in works]
            rows = [('transfer', 'alone s', 'beside s', 'failed')]
            for (name, _), (alone, _), (crowd, failed) in zip(works, before, beside, strict=True):
                rows.append(
                    (
                        name,
                        f'{statistics.median(alone):.2f}',
                        f'{statistics.median(crowd):.2f}' if crowd else '-',
                        str(failed),
                    )
                )
            print(table(rows))
            print(
                f'\npeak memory of the network: {memory / MIB:.0f} MiB before, '
                f'{peak_memory(port) / MIB:.0f} MiB with {IDLE} idle connections and {STALLED} '
                f'stalled readers; {DESCRIPTORS} descriptors'
            )


if __name__ == '__main__':
    main()
