"""Many small files: ``python -m benchmarks.many [--files N] [--runs N]``.

The same files of 1 KiB go up and come back by ``storj cp -r``, to a local network as ``storj
network up`` runs it (6 farmers, 3 copies of each shard, nothing confirmed before it is on the
disk), and, if both programs are on the ``PATH``, by ``aws s3 cp --recursive`` to SeaweedFS
(``weed``) on the same machine, which keeps one copy and leaves it to the system to write it. Beside
them are a network whose farmers are processes, which uses more than one core as SeaweedFS does, and
one that keeps as little as SeaweedFS (``--mirrors 0 --no-sync``). Whole processes in turn, their
start included; medians.

Wall time depends on who else uses the machine. The processor time of a file, of the client and of
all servers, says what it costs.
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import Run, run, table
from tests.network.weed import ENVIRONMENT, Weed

FILES = 1000
SIZE = 1024
_BUCKET = 'benchmark'
_STORJ = [sys.executable, '-m', 'storj']


@dataclass
class Target:
    """A program and the servers that it copies to.

    Attributes:
        name (str): of both.
        copy (list[str]): the command; source and destination follow.
        root (str): URI of the bucket.
        environment (Mapping[str, str]): of the command.
        servers (Callable[[], float]): seconds of a processor that the servers have used.
        runs (dict[str, list[tuple[Run, float]]]): by direction, with the seconds of the servers.
    """

    name: str
    copy: list[str]
    root: str
    environment: Mapping[str, str]
    servers: Callable[[], float]
    runs: dict[str, list[tuple[Run, float]]] = field(default_factory=dict)

    def measure(self, direction: str, source: str, target: str, *, counts: bool) -> None:
        """Copy once, and keep what it took if it counts."""
        before = self.servers()
        took = run([*self.copy, source, target], self.environment)
        if counts:
            self.runs.setdefault(direction, []).append((took, self.servers() - before))


def _cpu_of(process: int) -> float:
    """Return the seconds of a processor that a process and its children, by now, have used."""
    total = 0
    for task in Path(f'/proc/{process}/task').iterdir():
        for child in (task / 'children').read_text().split():
            with contextlib.suppress(FileNotFoundError):
                total += _cpu_of(int(child))
    fields = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
    return total + sum(map(int, fields[11:15])) / os.sysconf('SC_CLK_TCK')


@contextlib.contextmanager
def storj(folder: Path, *options: str) -> Iterator[Target]:
    """Run a local network, with options of ``storj network up``."""
    environment = {key: text for key, text in os.environ.items() if not key.startswith('STORJ_')}
    environment.pop('PYTHONDONTWRITEBYTECODE', None)
    environment['PYTHONPYCACHEPREFIX'] = str(folder / 'compiled')
    data = f'--data={folder / "network"}'
    up = [*_STORJ, 'network', 'up', '--json', '--port=0', data, *options]
    with subprocess.Popen(up, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            json.loads(process.stdout.readline())
            shown = subprocess.run(
                [*_STORJ, '--json', 'network', 'env', data],
                env=environment,
                capture_output=True,
                check=True,
            )
            environment |= json.loads(shown.stdout)
            environment['STORJ_CONFIG_DIR'] = str(folder / 'config')
            run([*_STORJ, '--quiet', 'mb', _BUCKET], environment)
            yield Target(
                ' '.join(['storj cp -r', *options]),
                [*_STORJ, '--quiet', 'cp', '-r'],
                f'storj://{_BUCKET}',
                environment,
                lambda: _cpu_of(process.pid),
            )
        finally:
            process.terminate()
            process.wait(60)


@contextlib.contextmanager
def seaweed(folder: Path) -> Iterator[Target | None]:
    """Run SeaweedFS for aws, if both are there."""
    aws, program = shutil.which('aws'), shutil.which('weed')
    if aws is None or program is None:
        missing = ' and '.join(
            name for name, found in (('aws', aws), ('weed', program)) if found is None
        )
        print(f'not measured beside aws and SeaweedFS: {missing} is not on the PATH')
        yield None
        return
    folder.mkdir()
    weed = Weed(folder, program)
    try:
        weed.start()
        environment = {**os.environ, **ENVIRONMENT, 'AWS_CONFIG_FILE': str(folder / 'aws.ini')}
        command = [aws, '--endpoint-url', weed.endpoint, 's3']
        run([*command, 'mb', f's3://{_BUCKET}'], environment)
        assert weed.process is not None
        process = weed.process.pid
        yield Target(
            'aws s3 cp --recursive',
            [*command, 'cp', '--recursive', '--quiet'],
            f's3://{_BUCKET}',
            environment,
            lambda: _cpu_of(process),
        )
    finally:
        weed.kill()


def _same(source: Path, target: Path) -> bool:
    return not subprocess.run(['diff', '-rq', source, target], check=False).returncode


def measure(targets: list[Target], files: int, runs: int, folder: Path) -> None:
    """Copy up and down by each program in turn."""
    source = folder / 'source'
    source.mkdir()
    for number in range(files):
        (source / f'{number}').write_bytes(os.urandom(SIZE))
    few = folder / 'few'
    few.mkdir()
    (few / '0').write_bytes(os.urandom(SIZE))
    for target in targets:
        # Compiles modules.
        target.measure('', f'{few}/', f'{target.root}/few/', counts=False)
    for number in range(runs):
        for target in targets:
            remote, copy = f'{target.root}/{number}/', folder / 'copy'
            target.measure('up', f'{source}/', remote, counts=True)
            target.measure('down', remote, f'{copy}/', counts=True)
            if not _same(source, copy):
                raise RuntimeError(f'{target.name} brought other bytes than were stored')
            shutil.rmtree(copy)


def _rows(targets: list[Target], files: int) -> Iterator[list[str]]:
    yield [
        f'{files:,} x 1 KiB',
        'program',
        'wall s',
        'ms per file',
        'client CPU ms',
        'servers CPU ms',
        'ratio',
    ]
    for direction in ('up', 'down'):
        beside = None
        for target in reversed(targets):
            took = target.runs[direction]
            wall = statistics.median(each.wall for each, _ in took)
            own = statistics.median(each.cpu for each, _ in took)
            servers = statistics.median(seconds for _, seconds in took)
            beside = beside or wall
            yield [
                direction,
                target.name,
                f'{wall:.2f}',
                *(f'{1000 * seconds / files:.1f}' for seconds in (wall, own, servers)),
                f'{wall / beside:.2f}',
            ]


def main(files: int = FILES, runs: int = 3) -> None:
    """Print the table."""
    with (
        tempfile.TemporaryDirectory(prefix='storj-many-') as name,
        storj(Path(name, 'three')) as own,
        storj(Path(name, 'processes'), '--processes') as apart,
        storj(Path(name, 'one'), '--mirrors=0', '--no-sync') as alike,
        seaweed(Path(name, 'weed')) as other,
    ):
        targets = [target for target in (own, apart, alike, other) if target is not None]
        measure(targets, files, runs, Path(name))
        print(table(list(_rows(targets, files))))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(prog='python -m benchmarks.many', description=__doc__)
    parser.add_argument('--files', type=int, default=FILES)
    parser.add_argument('--runs', type=int, default=3)
    options = parser.parse_args()
    main(options.files, options.runs)
