"""Uploads and downloads: this package beside Debian's ``storj`` (libstorj) and the bound.

Both clients use the same network in the same run, in turn; the network runs in a process of its
own, whose CPU is not counted. Every figure is of a whole process, start-up included, but those of
a *running* process, which are of its second transfer. libstorj knows HTTP farmers only, so
the WebSocket rows stand beside our own HTTP rows.

Before each transfer a scratch file is written and removed, twice as large. A virtual machine gives
freed memory back to its host and gets it again at a price, several times that of the writing; the
clients free and take pages of different sizes, so that one would pay for what the other freed.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.bound import bound
from benchmarks.measure import MIB, Run, median, run, table
from benchmarks.network import network

LIBSTORJ = '/usr/bin/storj'

SIZES = {'1 KiB': 1024, '1 MiB': MIB, '256 MiB': 256 * MIB}
#: Where the start of a process counts for little; without parity, to end within reasonable time.
LARGE = {'256 MiB': 256 * MIB, '1 GiB': 1024 * MIB}


@dataclass
class Bench:
    """One network and the files that pass through it.

    Attributes:
        environment (dict[str, str]): settings of the clients.
        folder (Path): where sources and copies lie.
        bucket_id (str): of the bucket that all use.
    """

    environment: dict[str, str]
    folder: Path
    bucket_id: str = ''
    _count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        program = 'import storj; print(storj.get_client().bucket_create("benchmark").id)'
        self.bucket_id = self._output([sys.executable, '-c', program], self.environment)

    def _output(self, command: Sequence[str], environment: dict[str, str]) -> str:
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    def _settings(self, parity: bool) -> dict[str, str]:
        return self.environment if parity else {**self.environment, 'STORJ_REED_SOLOMON': 'false'}

    def _named(self, source: Path) -> Path:
        """Return another name of the source: libstorj stores a file under the name it has."""
        self._count += 1
        name = source.with_name(f'{source.name}-{self._count}')
        name.hardlink_to(source)
        return name

    def make_room(self, size: int) -> None:
        """Have memory at hand for the pages of whatever is written next."""
        scratch, piece = self.folder / 'scratch', bytes(MIB)
        with scratch.open('wb', buffering=0) as file:
            for _ in range(0, 2 * size, MIB):
                file.write(piece)
        scratch.unlink()

    def store(self, source: Path, parity: bool) -> str:
        """Upload a file that the downloads can use; return its id."""
        command = [sys.executable, '-m', 'benchmarks.client', 'upload', self.bucket_id]
        name = self._named(source)
        return self._output([*command, str(name), name.name], self._settings(parity))

    def upload(self, source: Path, parity: bool, ours: bool, again: bool = False) -> Run:
        """Measure one upload.

        Args:
            source (Path): the bytes.
            parity (bool): whether it gets parity shards.
            ours (bool): whether by this package.
            again (bool): whether ours is the second upload of a running process.
        """
        name = self._named(source)
        settings = self._settings(parity)
        if not ours:
            return run([LIBSTORJ, 'upload-file', self.bucket_id, str(name)], settings)
        return self._own('upload', [self.bucket_id, str(name), name.name], settings, again)

    def _own(
        self, operation: str, words: list[str], environment: dict[str, str], again: bool
    ) -> Run:
        command = [sys.executable, '-m', 'benchmarks.client', operation, *words]
        if not again:
            return run(command, environment)
        wall, cpu = self._output([*command, 'again'], environment).split()
        return Run(float(wall), float(cpu), 0)

    def download(self, source: Path, file_id: str, ours: bool, again: bool = False) -> Run:
        """Measure one download, and see that it brought the right bytes.

        Args:
            source (Path): the bytes.
            file_id (str): of the file.
            ours (bool): whether by this package.
            again (bool): whether ours is the second download of a running process.
        """
        target = self.folder / 'copy'
        words = [self.bucket_id, file_id, str(target)]
        if ours:
            measured = self._own('download', words, self.environment, again)
        else:
            measured = run([LIBSTORJ, 'download-file', *words], self.environment)
        copies = [target, target.with_name(f'{target.name}-2')] if ours and again else [target]
        for copy in copies:
            if subprocess.run(['cmp', '-s', source, copy], check=False).returncode:
                raise RuntimeError('a download brought other bytes than were stored')
            copy.unlink()
        return measured


def _pairs(
    measure: Callable[[bool], Run], runs: int, theirs: bool, prepare: Callable[[], None]
) -> tuple[Run, Run | None]:
    """Measure both clients in turn; return the medians of each.

    A first round does not count: it compiles modules.
    """
    own, other = [], []
    for _ in range(runs + 1):
        prepare()
        own.append(measure(True))
        if theirs:
            prepare()
            other.append(measure(False))
    return median(own[1:]), median(other[1:]) if other else None


def _row(label: str, size: int, least: float, own: Run, other: Run | None) -> list[str]:
    per_gb = 1e9 / size
    return [
        label,
        f'{own.wall:.3f}',
        f'{other.wall:.3f}' if other else '-',
        f'{own.wall / other.wall:.2f}' if other else '-',
        f'{own.cpu * per_gb:.1f}' if size >= MIB else '-',
        f'{other.cpu * per_gb:.1f}' if other and size >= MIB else '-',
        f'{own.peak / MIB:.0f}' if own.peak else '-',
        f'{least * size / MIB / own.wall:.2f}' if size >= MIB else '-',
    ]


HEADING = [
    'transfer', 'ours s', 'libstorj s', 'ratio', 'CPU s/GB', 'libstorj', 'peak MiB', 'of bound',
]  # fmt: skip


def measure_network(
    protocol: str, sizes: dict[str, int], runs: int, store: str = 'disk'
) -> Iterator[list[str]]:
    """Yield a row for every transfer over farmers of one protocol."""
    theirs = protocol != '0.10' and is_libstorj(LIBSTORJ)
    least_upload, least_download = bound()
    wire = 'WebSocket' if protocol == '0.10' else 'HTTP'
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with network(folder / 'network', protocol, store) as environment:
            bench = Bench(environment, folder)
            for name, size in sizes.items():
                source = folder / f'source-{size}'
                with source.open('wb') as file:
                    for start in range(0, size, MIB):
                        file.write(secrets.token_bytes(min(MIB, size - start)))
                for parity in (False, True) if 2 * MIB <= size < 1024 * MIB else (False,):
                    label = f'{wire} {name}{" parity" if parity else ""}'

                    prepare = partial(bench.make_room, size)
                    kinds = (False, True) if size >= 16 * MIB else (False,)
                    for again in kinds:

                        def upload(ours: bool, source=source, parity=parity, again=again) -> Run:
                            return bench.upload(source, parity, ours, again)

                        own, other = _pairs(upload, runs, theirs, prepare)
                        kind = f'upload {label}{", running" if again else ""}'
                        yield _row(kind, size, least_upload, own, other)
                    if store == 'null':
                        continue
                    file_id = bench.store(source, parity)
                    for again in kinds:

                        def download(
                            ours: bool, source=source, file_id=file_id, again=again
                        ) -> Run:
                            return bench.download(source, file_id, ours, again)

                        own, other = _pairs(download, runs, theirs, prepare)
                        kind = f'download {label}{", running" if again else ""}'
                        yield _row(kind, size, least_download, own, other)


def is_libstorj(command: str) -> bool:
    """Return whether a command is libstorj's, which has the same name as ours."""
    if not Path(command).exists():
        return False
    said = subprocess.run([command, '--version'], capture_output=True, text=True, check=False)
    return bool(re.search(r'libstorj', said.stdout + said.stderr))


def main(runs: int = 3, sizes: dict[str, int] = SIZES, large: dict[str, int] = LARGE) -> None:
    """Print the tables."""
    upload, download = bound()
    print(f'bound: upload {1 / upload:.0f} MiB/s, download {1 / download:.0f} MiB/s')
    if not is_libstorj(LIBSTORJ):
        print(f"{LIBSTORJ} is not there: libstorj's columns stay empty")
    rows = [HEADING]
    for protocol in ('1.2', '0.10'):
        rows += measure_network(protocol, sizes, runs)
    print(table(rows))
    print('\nagainst farmers that count bytes and keep none:')
    rows = [HEADING]
    for protocol in ('1.2', '0.10'):
        rows += measure_network(protocol, large, runs, store='null')
    print(table(rows))


if __name__ == '__main__':
    main()
