"""The S3 gateway beside ``storj cp``: ``python -m benchmarks.gateway [--runs N] [--quick]``.

The same files go over the same network in turn: by ``storj cp`` without the gateway, and through
``storj serve s3`` by boto3, aws and rclone as far as they are installed. Network and gateway run in
processes of their own; every figure is of a whole client process, its start included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import MIB, run, table
from benchmarks.network import network

LARGE = 256 * MIB
FILES = 1000
_BUCKET = 'benchmark'
_OWN = 'storj cp'

_BOTO3 = """
import sys
import boto3
client = boto3.client('s3', endpoint_url=sys.argv[1])
if sys.argv[2] == 'up':
    client.upload_file(sys.argv[3], sys.argv[4], sys.argv[5])
else:
    client.download_file(sys.argv[4], sys.argv[5], sys.argv[3])
"""


@contextlib.contextmanager
def gateway(environment: dict[str, str], data: Path) -> Iterator[dict[str, str]]:
    """Run a gateway in a process of its own; yield the environment of its clients."""
    process = subprocess.Popen(
        [sys.executable, '-m', 'storj', 'serve', 's3', '--json', '--port=0', f'--data={data}'],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        ready = json.loads(process.stdout.readline())
        yield {
            **{name: text for name, text in environment.items() if not name.startswith('AWS_')},
            'AWS_ACCESS_KEY_ID': ready['access_key'],
            'AWS_SECRET_ACCESS_KEY': ready['secret_key'],
            'AWS_DEFAULT_REGION': ready['region'],
            'AWS_EC2_METADATA_DISABLED': 'true',
            'AWS_CONFIG_FILE': str(data / 'aws.ini'),
            'ENDPOINT': ready['endpoint'],
        }
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@dataclass
class Clients:
    """The commands that move one file or a folder, by program.

    Attributes:
        environment (dict[str, str]): settings of all of them.
        folder (Path): of sources and copies.
    """

    environment: dict[str, str]
    folder: Path
    _count: int = field(default=0, init=False)

    def own(self, source: str, target: str) -> list[str]:
        """Return the command that copies without the gateway."""
        recursive = ['-r'] if source.rstrip('/') != source else []
        return [sys.executable, '-m', 'storj', '--quiet', 'cp', *recursive, source, target]

    def file(self, up: bool) -> Iterator[tuple[str, Callable[[str, Path], list[str]]]]:
        """Yield program and command of a copy of one file; the command is made of key and path."""
        endpoint = self.environment['ENDPOINT']
        way = 'up' if up else 'down'

        def ordered(remote: str, path: Path) -> list[str]:
            return [str(path), remote] if up else [remote, str(path)]

        yield _OWN, lambda key, path: self.own(*ordered(f'storj://{_BUCKET}/{key}', path))
        yield (
            'boto3',
            lambda key, path: (
                [sys.executable, '-c', _BOTO3, endpoint, way, str(path), _BUCKET, key]
            ),
        )
        if aws := shutil.which('aws'):
            yield (
                'aws s3 cp',
                lambda key, path: [
                    *(aws, '--endpoint-url', endpoint, 's3', 'cp', '--quiet'),
                    *ordered(f's3://{_BUCKET}/{key}', path),
                ],
            )

    def tree(self, up: bool) -> Iterator[tuple[str, Callable[[str, Path], list[str]]]]:
        """Yield program and command of a copy of a folder, as :meth:`file` does."""
        endpoint = self.environment['ENDPOINT']

        def ordered(remote: str, path: Path) -> list[str]:
            return [f'{path}/', f'{remote}/'] if up else [f'{remote}/', f'{path}/']

        yield _OWN, lambda key, path: self.own(*ordered(f'storj://{_BUCKET}/{key}', path))
        if aws := shutil.which('aws'):
            yield (
                'aws s3 cp --recursive',
                lambda key, path: [
                    *(aws, '--endpoint-url', endpoint, 's3', 'cp', '--quiet', '--recursive'),
                    *ordered(f's3://{_BUCKET}/{key}', path),
                ],
            )
        if rclone := shutil.which('rclone'):
            remote = f":s3,provider=Other,env_auth=true,force_path_style=true,endpoint='{endpoint}'"
            yield (
                'rclone copy',
                lambda key, path: [
                    *(rclone, 'copy', '--config', str(self.folder / 'rclone.conf')),
                    *ordered(f'{remote}:{_BUCKET}/{key}', path),
                ],
            )

    def key(self, source: Path) -> str:
        """Return a key that nothing has yet."""
        self._count += 1
        return f'{source.name} {self._count}'


def _same(source: Path, target: Path) -> bool:
    return not subprocess.run(['diff', '-rq', source, target], check=False).returncode


def measure(
    environment: dict[str, str], source: Path, runs: int, folder: Path
) -> Iterator[list[str]]:
    """Yield a row for each program and direction; the source is a file or a folder."""
    for up in (True, False):
        stored = f'{source.name} stored'
        if not up:
            # By `storj cp`, and before there is a gateway: one that has listed the bucket shows
            # files of others 10 seconds later.
            recursive = ['-r'] if source.is_dir() else []
            place = f'storj://{_BUCKET}/{stored}'
            own = [sys.executable, '-m', 'storj', '--quiet', 'cp', *recursive, str(source), place]
            run(own, environment)
        with gateway(environment, folder / f'gateway {source.name} {up}') as settings:
            yield from _compare(Clients(settings, folder), source, stored, runs, up=up)


def _compare(
    clients: Clients, source: Path, stored: str, runs: int, *, up: bool
) -> Iterator[list[str]]:
    """Yield a row for each program, all in one direction."""
    programs = dict(clients.tree(up) if source.is_dir() else clients.file(up))
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(-1, runs):
        for name, command in programs.items():
            target = source if up else clients.folder / 'copy'
            key = clients.key(source) if up else stored
            done = run(command(key, target), clients.environment)
            if not up:
                if not _same(source, target):
                    raise RuntimeError(f'{name} brought other bytes than were stored')
                shutil.rmtree(target) if target.is_dir() else target.unlink()
            # The first round compiles modules.
            if number >= 0:
                times[name].append(done.wall)
    yield from _rows(f'{source.name} {"up" if up else "down"}', times)


def _rows(label: str, times: dict[str, list[float]]) -> Iterator[list[str]]:
    own = statistics.median(times[_OWN])
    for name, taken in times.items():
        middle = statistics.median(taken)
        yield [label, name, f'{middle:.2f}', f'{middle / own:.2f}']


def main(runs: int = 3, size: int = LARGE, files: int = FILES) -> None:
    """Print the table: medians of the wall times, and their ratios."""
    with (
        tempfile.TemporaryDirectory(prefix='storj-gateway-') as name,
        network(Path(name, 'network'), '1.2', 'disk') as environment,
    ):
        folder = Path(name)
        large = folder / f'{size // MIB} MiB'
        with large.open('wb') as file:
            for _ in range(0, size, MIB):
                file.write(os.urandom(MIB))
        small = folder / f'{files} x 1 KiB'
        small.mkdir()
        for number in range(files):
            (small / f'{number}').write_bytes(os.urandom(1024))
        run([sys.executable, '-m', 'storj', '--quiet', 'mb', _BUCKET], environment)
        rows = [['transfer', 'program', 'wall s', 'beside storj cp']]
        for source in (large, small):
            rows += measure(environment, source, runs, folder)
    print(table(rows))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(prog='python -m benchmarks.gateway', description=__doc__)
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--quick', action='store_true', help='smaller and fewer files')
    options = parser.parse_args()
    main(options.runs, *((16 * MIB, 100) if options.quick else ()))
