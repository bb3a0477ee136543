"""``storj demo``: a network of its own, files stored on it and got back, and where they lay."""

from __future__ import annotations

import filecmp
import secrets
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from storj.catalog.entries import Catalog
from storj.catalog.errors import LocalPathNotFound
from storj.catalog.tree import local_file
from storj.cli.command import command
from storj.cli.errors import CommandError
from storj.cli.jobs import Runner, finish
from storj.cli.network import bridge_status, channel_of
from storj.cli.options import LocalPath
from storj.cli.output import Column, Output, human_duration, human_size, styled
from storj.cli.session import Session, TransferOptions, pass_session
from storj.exception import IntegrityError

if TYPE_CHECKING:
    from storj.catalog.jobs import Job
    from storj.network import Network
from storj.text import count_of, from_system

_BUCKET = 'demo'
_RANDOM_NAME = 'random-64-MiB.bin'
_RANDOM_SIZE = 64 * 1024 * 1024
_PIECE = 1024 * 1024
#: Files of this repository that are stored when none are given.
_DEFAULTS = ('README.rst', 'LICENSE', 'setup.cfg', 'tox.ini', 'Makefile')

_PLACES = (
    Column('file'),
    Column('shard', kind='count'),
    Column('kind'),
    Column('size', kind='size'),
    Column('farmer'),
    Column('channel'),
)
_CHANNELS = (
    Column('channel'),
    Column('farmers', kind='count'),
    Column('shards', kind='count'),
    Column('size', kind='size'),
)


@command(
    'demo',
    short_help='Watch a local network store files.',
    examples=('storj demo', 'storj demo holidays.mp4', 'storj demo --keep'),
)
@click.argument('files', nargs=-1, metavar='[FILE]...', type=LocalPath(path_type=Path))
@click.option(
    '--keep', is_flag=True, help='Leave the network up until Ctrl-C, and print how to use it.'
)
@click.option(
    '--farmers',
    type=click.IntRange(2, 64),
    metavar='N',
    default=6,
    show_default=True,
    help='How many.',
)
@click.option('--progress/--no-progress', default=None, help='Show bars; by default on a terminal.')
@pass_session
def demo(
    session: Session, files: tuple[Path, ...], keep: bool, farmers: int, progress: bool | None
) -> None:
    """Start a network, store files on it, get them back, and compare.

    Without FILE it takes some files of this package and 64 MiB of random data. Half of the farmers
    speak WebSocket, half HTTP. The exit code is 0 only if every file came back the same.
    """
    from storj.cli.network import require_extra

    require_extra()
    from storj.network import Network

    with tempfile.TemporaryDirectory(prefix='storj-demo-') as scratch:
        work = Path(scratch)
        chosen = _chosen(files, work)
        with _Step(session.output, f'starting a bridge and {count_of(farmers, "farmer")}') as step:
            # Mirrors would be copied in the background while the demonstration is timed.
            network = Network(farmers=farmers, data=work / 'network', bridge={'mirrors': 0})
            network.start()
        try:
            shown = _Demo(session, network, chosen, work, progress)
            shown.run(step.seconds)
            if keep:
                _wait(session.output, network)
        finally:
            network.stop()


class _Step:
    """Says what begins, and how long it took."""

    def __init__(self, output: Output, text: str) -> None:
        self._output = output
        self._text = text
        self.seconds = 0.0

    def __enter__(self) -> _Step:
        self._output.note(styled(f'==> {self._text}', bold=True))
        self._begun = time.monotonic()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.seconds = time.monotonic() - self._begun
        if kind is None:
            self._output.note(f'    {human_duration(self.seconds)}')


class _Demo:
    """One demonstration.

    Args:
        session (Session): of the command.
        network (Network): that is up.
        files (Mapping[str, Path]): what to store, by name.
        work (Path): a folder to download into.
        progress (bool | None): ``--progress`` or ``--no-progress`` if one was typed.
    """

    def __init__(
        self,
        session: Session,
        network: Network,
        files: Mapping[str, Path],
        work: Path,
        progress: bool | None,
    ) -> None:
        self._session = session
        self._output = session.output
        self._network = network
        self._files = files
        self._work = work
        self._back = work / 'back'
        self._progress = progress

    def run(self, start_seconds: float) -> None:
        """Do it all.

        Raises:
            IntegrityError: If a file came back different.
        """
        from storj.catalog.copier import Copier, CopyOptions
        from storj.http import Client

        network = self._network
        sizes = {name: path.stat().st_size for name, path in self._files.items()}
        total = sum(sizes.values())
        client = Client(
            network.email, network.password, network.bridge_url, mnemonic=network.mnemonic
        )
        engine = self._session.transfers(TransferOptions(), client, state=self._work)
        with client, engine as transfers:
            catalog = Catalog(client)
            with _Step(self._output, f'making bucket {_BUCKET}, its name encrypted'):
                made = client.bucket_create(_BUCKET)
                bucket = catalog.describe_bucket(made)
            what = f'{count_of(len(sizes), "file")}, {human_size(total)}'
            copier = Copier(CopyOptions(resume=False), transfers, transfers, catalog)
            with _Step(self._output, f'encrypting, sharding and uploading {what}') as up:
                self._move(
                    copier.upload(local_file(name, path), bucket, name, None)
                    for name, path in self._files.items()
                )
            with _Step(self._output, 'listing'):
                stored = {entry.name: entry for entry in catalog.files(bucket)}
                if {name: entry.size for name, entry in stored.items()} != sizes:
                    raise IntegrityError('the bucket does not hold what was uploaded')
            with _Step(self._output, f'downloading {what}') as down:
                self._move(
                    copier.download_into(entry, name, self._back) for name, entry in stored.items()
                )
            with _Step(self._output, 'comparing'):
                different = [
                    name
                    for name, path in self._files.items()
                    if not filecmp.cmp(path, self._back / name, shallow=False)
                ]
            places = _places(network, {entry.id: name for name, entry in stored.items()})
        self._report(sizes, places, different, start_seconds, up.seconds, down.seconds)

    def _move(self, files: Iterable[Job]) -> None:
        jobs = list(files)
        summary = Runner(self._output, progress=self._progress, silent=True).run(jobs)
        if summary.failures:
            finish(self._output, summary, several=len(jobs) > 1)

    def _report(
        self,
        sizes: Mapping[str, int],
        places: Sequence[Mapping[str, Any]],
        different: Sequence[str],
        start_seconds: float,
        up_seconds: float,
        down_seconds: float,
    ) -> None:
        total = sum(sizes.values())
        channels = _by_channel(places)
        if self._output.as_json:
            self._output.document(
                {
                    'equal': not different,
                    'different': different,
                    'files': [{'name': name, 'size': size} for name, size in sizes.items()],
                    'shards': places,
                    'channels': channels,
                    'seconds': {
                        'start': round(start_seconds, 3),
                        'upload': round(up_seconds, 3),
                        'download': round(down_seconds, 3),
                    },
                    'bytes': total,
                }
            )
        else:
            self._output.table(_PLACES, places, empty='no shards')
            self._output.line('')
            self._output.table(_CHANNELS, channels, empty='no shards')
            self._output.line('')
            self._output.line(
                f'upload {human_duration(up_seconds)}, {human_size(total / up_seconds)}/s; '
                f'download {human_duration(down_seconds)}, {human_size(total / down_seconds)}/s'
            )
        if different:
            raise IntegrityError(f'came back different: {", ".join(different)}')
        if not self._output.as_json:
            count = len(sizes)
            text = {1: 'the file', 2: 'both files'}.get(count, f'all {count_of(count, "file")}')
            text += ' came back equal'
            self._output.line(styled(text, fg='green', bold=True))


def _chosen(files: Sequence[Path], work: Path) -> dict[str, Path]:
    """Return what to store, by name; random data is made in the working folder."""
    if files:
        chosen: dict[str, Path] = {}
        for path in files:
            if not path.exists():
                raise LocalPathNotFound(f'no such file: {path}')
            for file in sorted(path.rglob('*')) if path.is_dir() else [path]:
                if file.is_file():
                    name = from_system(file.relative_to(path.parent).as_posix())
                    if name in chosen:
                        raise CommandError(f'two files are called {name}')
                    chosen[name] = file
        if not chosen:
            raise LocalPathNotFound('no files in the folder')
        return chosen
    package = Path(__file__).resolve().parents[1]
    root = package.parent
    chosen = {name: root / name for name in _DEFAULTS if (root / name).is_file()}
    chosen |= {f'{package.name}/{path.name}': path for path in sorted(package.glob('*.py'))}
    random = work / _RANDOM_NAME
    with random.open('wb') as output:
        for _ in range(_RANDOM_SIZE // _PIECE):
            output.write(secrets.token_bytes(_PIECE))
    return {**chosen, _RANDOM_NAME: random}


def _places(network: Network, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one row for each shard: of which file, on which farmer, over which channel it went."""
    farmers = {farmer.node_id: farmer for farmer in network.farmers}
    state = bridge_status(network.bridge_url, (network.email, network.password))
    rows = []
    for file in state['files']:
        if file['id'] not in names:
            continue
        for shard in file['shards']:
            holder = next(place for place in shard['farmers'] if not place['mirror'])
            farmer = farmers[holder['node_id']]
            rows.append(
                {
                    'file': names[file['id']],
                    'shard': shard['index'],
                    'kind': 'parity' if shard['parity'] else 'data',
                    'size': shard['size'],
                    'farmer': f'{farmer.number} {farmer.node_id[:12]}',
                    'channel': channel_of(farmer.protocol),
                }
            )
    return sorted(rows, key=lambda row: (row['file'], row['shard']))


def _by_channel(places: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    channels = sorted({row['channel'] for row in places})
    return [
        {
            'channel': channel,
            'farmers': len({row['farmer'] for row in places if row['channel'] == channel}),
            'shards': sum(row['channel'] == channel for row in places),
            'size': sum(row['size'] for row in places if row['channel'] == channel),
        }
        for channel in channels
    ]


def _wait(output: Output, network: Network) -> None:
    """Say how the network is used, and keep it until Ctrl-C."""
    import shlex
    import threading

    output.line('')
    for name, value in network.environment().items():
        output.line(f'export {name}={shlex.quote(value)}')
    output.note('the network is up; Ctrl-C stops it')
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        output.note('stopping')
