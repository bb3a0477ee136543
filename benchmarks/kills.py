"""``python -m benchmarks.kills --kills 100``: kill -9 of the command at random points.

Each round runs one ``storj`` command against a network of its own, kills it, and runs the same
command again. Then source and copy must be equal, and nothing may be left over: no part file,
journal or temporary file, no half of a shard at a farmer, no frame at the bridge that no file uses.

Half of the kills strike before a line of the engine's code, of all that the command executes, each
as likely as any other; the others after a random part of the time that the command takes. The seed
is printed first: the same one makes the same choices, if not the same races.

There is one moment at which a killed client cannot know that it has a frame: when the bridge has
made it and its answer is on its way. Such frames are empty. They are counted by themselves, and the
bridge has to have destroyed them when its time for empty frames is over.
"""

from __future__ import annotations

import math
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.seeds import print_kinds, print_troubles, seeded_parser
from storj.http import Client
from storj.network import Network
from storj.transfer import clean_journals

KIB = 1024
MIB = 1024 * KIB

#: Seconds after which a command counts as hung.
PATIENCE = 90

#: Seconds for which the bridge keeps empty frames (in general an hour), and until none is left.
EMPTY_FRAME_LIFE, EMPTY_FRAMES_GONE = 20.0, 60.0

#: Exit codes of ``storj``: done; there is no source (of a move that was complete); exists already.
DONE, MISSING, CONFLICT = 0, 5, 9

_ROOT = Path(__file__).parents[1]
_ENGINE = (str(_ROOT / 'storj' / 'transfer'), str(_ROOT / 'storj' / 'atomic_file.py'))

#: Of one byte, of one shard, of several with parity.
SIZES = (1, 40 * KIB, 3 * MIB, 9 * MIB)


@dataclass
class Round:
    """One command, and what it leaves when it is complete.

    Attributes:
        words (list[str]): of the command, without ``storj``.
        stdin (bytes | None): what it reads.
        moved (str | None): URI of a file that is to be gone afterwards.
        gone (Path | None): file of this machine that is to be gone afterwards.
        uri (str | None): where the content is to be afterwards, without encryption if so stored.
        path (Path | None): or on this machine.
        plain (bool): whether it is stored without encryption.
        content (bytes): that it is to be.
    """

    words: list[str]
    content: bytes
    stdin: bytes | None = None
    moved: str | None = None
    gone: Path | None = None
    uri: str | None = None
    path: Path | None = None
    plain: bool = False


@dataclass
class Report:
    """What became of all rounds.

    Attributes:
        kills (Counter): by command, those that struck while it ran.
        late (int): commands that had ended before they were to be killed.
        unheard (set[str]): empty frames of which the client did not hear.
        troubles (list[str]): what was not as it should be.
    """

    kills: Counter[str] = field(default_factory=Counter)
    late: int = 0
    unheard: set[str] = field(default_factory=set)
    troubles: list[str] = field(default_factory=list)


class Bench:
    """A network, a user with a home, and the commands that he runs.

    Args:
        network (Network): running.
        folder (Path): empty.
        chance (random.Random): decides.
    """

    def __init__(self, network: Network, folder: Path, chance: random.Random) -> None:
        self.network = network
        self.folder = folder
        self.chance = chance
        self.client = Client(
            network.email, network.password, network.bridge_url, mnemonic=network.mnemonic
        )
        self.bucket = f'kills-{chance.randrange(10**9)}'
        self.bucket_id = str(self.client.bucket_create(self.bucket).id)
        self._measured: dict[tuple[str, int], tuple[int, float]] = {}
        for name in ('home', 'temp', 'here'):
            (folder / name).mkdir()
        home = folder / 'home'
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(('STORJ_', 'XDG_'))},
            **network.environment(),
            'HOME': str(home),
            'STORJ_CONFIG_DIR': str(home / 'config'),
            'XDG_STATE_HOME': str(home / 'state'),
            'XDG_CACHE_HOME': str(home / 'cache'),
            'STORJ_TEMP': str(folder / 'temp'),
            'PYTHONPATH': str(_ROOT),
        }
        self.number = 0

    def _command(self, words: list[str]) -> list[str]:
        return [sys.executable, '-m', 'storj', *words]

    def storj(self, *words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        return subprocess.run(
            self._command(list(words)),
            input=stdin if stdin is not None else b'',
            capture_output=True,
            env=self.environment,
            cwd=self.folder / 'here',
            timeout=PATIENCE,
        )

    # -- rounds ------------------------------------------------------------------------------------

    def rounds(self) -> list[Callable[[bytes, str], Round]]:
        """Return what makes a round of a content and a name that is not used yet."""
        return [
            self._upload,
            self._upload_anew,
            self._upload_replacing,
            self._upload_plain,
            self._upload_pipe,
            self._move_up,
            self._download,
            self._download_anew,
            self._download_replacing,
            self._download_range,
            self._move_down,
        ]

    def _source(self, content: bytes, name: str) -> Path:
        path = self.folder / 'here' / name
        path.write_bytes(content)
        return path

    def _stored(self, content: bytes, name: str) -> str:
        self.client.file_upload(self.bucket_id, content, name=name, resume=False)
        return f'storj://{self.bucket}/{name}'

    def _upload(self, content: bytes, name: str) -> Round:
        uri = f'storj://{self.bucket}/{name}'
        return Round(['cp', str(self._source(content, name)), uri], content, uri=uri)

    def _upload_anew(self, content: bytes, name: str) -> Round:
        round_ = self._upload(content, name)
        round_.words.insert(1, '--no-resume')
        return round_

    def _upload_replacing(self, content: bytes, name: str) -> Round:
        self._stored(b'old', name)
        round_ = self._upload(content, name)
        round_.words.insert(1, '--overwrite')
        return round_

    def _upload_plain(self, content: bytes, name: str) -> Round:
        round_ = self._upload(content, name)
        round_.words.insert(1, '--no-encrypt')
        round_.plain = True
        return round_

    def _upload_pipe(self, content: bytes, name: str) -> Round:
        uri = f'storj://{self.bucket}/{name}'
        return Round(['cp', '-', uri], content, stdin=content, uri=uri)

    def _move_up(self, content: bytes, name: str) -> Round:
        path, uri = self._source(content, name), f'storj://{self.bucket}/{name}'
        return Round(['mv', str(path), uri], content, uri=uri, gone=path)

    def _download(self, content: bytes, name: str) -> Round:
        uri, path = self._stored(content, name), self.folder / 'here' / name
        return Round(['cp', uri, str(path)], content, path=path)

    def _download_anew(self, content: bytes, name: str) -> Round:
        round_ = self._download(content, name)
        round_.words.insert(1, '--no-resume')
        return round_

    def _download_replacing(self, content: bytes, name: str) -> Round:
        round_ = self._download(content, name)
        self._source(b'old', name)
        round_.words.insert(1, '--overwrite')
        return round_

    def _download_range(self, content: bytes, name: str) -> Round:
        round_ = self._download(content, name)
        start, end = sorted(self.chance.randrange(len(content)) for _ in range(2))
        round_.words[1:1] = ['--range', f'{start}-{end}']
        round_.content = content[start : end + 1]
        return round_

    def _move_down(self, content: bytes, name: str) -> Round:
        round_ = self._download(content, name)
        round_.moved = round_.words[1]
        round_.words[0] = 'mv'
        return round_

    # -- one round ---------------------------------------------------------------------------------

    def strike(self, make: Callable[[bytes, str], Round], size: int, report: Report) -> None:
        """Run a command, kill it, run it again, and look."""
        content = self.chance.randbytes(size)
        kind = make.__name__.strip('_')
        if (kind, size) not in self._measured:
            # One that runs undisturbed tells how many lines there are, and how long they take.
            self._measured[kind, size] = self._measure(make(content, self._name()))
        lines, seconds = self._measured[kind, size]
        round_ = make(content, self._name())
        point, killed = self._kill(round_, lines, seconds)
        if killed:
            report.kills[kind] += 1
        else:
            report.late += 1
        again = self.storj(*round_.words, stdin=round_.stdin)
        where = f'{kind} of {size} bytes, killed {point}'
        for trouble in (*self._wrong(round_, again), *self._left()):
            report.troubles.append(f'{where}: {trouble}')
        report.unheard |= self.unheard()

    def _name(self) -> str:
        self.number += 1
        return f'file-{self.number}'

    def _measure(self, round_: Round) -> tuple[int, float]:
        counted, begun = self.folder / 'lines', time.monotonic()
        done = subprocess.run(
            self._traced(round_.words, 0, counted),
            input=round_.stdin or b'',
            capture_output=True,
            env=self.environment,
            cwd=self.folder / 'here',
            timeout=PATIENCE,
        )
        if done.returncode:
            raise RuntimeError(f'{round_.words}: {done.stderr.decode()}')
        traced = time.monotonic() - begun
        return int(counted.read_text()), traced

    def _traced(self, words: list[str], line: int, counted: Path) -> list[str]:
        """Return the command that runs until it is about to execute a line; 0 for its end."""
        return [
            sys.executable,
            '-m',
            'benchmarks.kills',
            '--child',
            str(line),
            str(counted),
            *words,
        ]

    def _kill(self, round_: Round, lines: int, seconds: float) -> tuple[str, bool]:
        """Run a command until it is killed; return where, and whether it was still running."""
        by_line = self.chance.random() < 0.5
        line, moment = self.chance.randint(1, lines), self.chance.uniform(0, seconds)
        command = self._traced(round_.words, line, self.folder / 'lines')
        process = subprocess.Popen(
            command if by_line else self._command(round_.words),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment,
            cwd=self.folder / 'here',
        )
        timer = threading.Timer(PATIENCE if by_line else moment, process.kill)
        timer.start()
        try:
            process.communicate(round_.stdin or b'', timeout=2 * PATIENCE)
        finally:
            timer.cancel()
        point = f'before line {line} of {lines}' if by_line else f'after {moment:.3f} s'
        return point, process.returncode == -signal.SIGKILL

    def _wrong(self, round_: Round, again: subprocess.CompletedProcess[bytes]) -> Iterator[str]:
        """Yield what is not as the command should have left it."""
        # Whoever is killed after the last step finds everything done.
        allowed = {DONE, CONFLICT, MISSING if round_.words[0] == 'mv' else DONE}
        if again.returncode not in allowed:
            yield f'exit code {again.returncode}: {again.stderr.decode()[-300:]}'
        if round_.path is not None and (
            not round_.path.exists() or round_.path.read_bytes() != round_.content
        ):
            yield 'the file here is another'
        if round_.uri is not None and self._fetch(round_) != round_.content:
            yield 'the file there is another'
        if round_.gone is not None and round_.gone.exists():
            yield 'the source is still here'
        if round_.moved is not None and self._find(round_.moved) is not None:
            yield 'the source is still there'

    def _find(self, uri: str) -> str | None:
        return self.client.file_id(self.bucket_id, uri.rpartition('/')[2])

    def _fetch(self, round_: Round) -> bytes | None:
        found = self._find(round_.uri or '')
        if found is None:
            return None
        content = self.client.file_download(self.bucket_id, found, decrypt=not round_.plain)
        return bytes(content.read())

    def _left(self) -> Iterator[str]:
        """Yield what is left over, and remove it."""
        # What 'storj transfers clean' removes, without the journals: those are to be gone.
        clean_journals(self.folder / 'home' / 'state' / 'storj' / 'transfers', older_than=math.inf)
        # The times of uploaded files are kept beside the journals, on purpose.
        state = [
            path
            for path in (self.folder / 'home' / 'state').rglob('*')
            if path.is_file() and not path.name.startswith('times.db')
        ]
        temporary = [path for path in (self.folder / 'home').rglob('.*.*') if path.is_file()]
        temporary += (self.folder / 'temp').iterdir()
        part = (self.folder / 'here').rglob('*.part')
        for path in {*state, *temporary, *part}:
            yield f'left over: {path.relative_to(self.folder)}'
            path.unlink(missing_ok=True)
        for path in self._arriving():
            yield f'half of a shard at a farmer: {path.name}'
        for frame in self._unused_frames():
            if frame.shards:
                yield f'frame {frame.id} with {len(frame.shards)} shards and no file'
                self.client.frame_delete(frame.id)

    def _arriving(self) -> list[Path]:
        """Return what farmers keep of shards that never came whole; they drop it by themselves."""
        until = time.monotonic() + PATIENCE
        while True:
            kept = [
                path
                for farmer in self.network.farmers
                for path in (farmer.path / 'incoming').iterdir()
            ]
            if not kept or time.monotonic() > until:
                return kept
            time.sleep(0.1)

    def unheard(self) -> set[str]:
        """Return the empty frames that no file uses."""
        return {str(frame.id) for frame in self._unused_frames()}

    def wait_for_empty_frames(self) -> Iterator[str]:
        """Yield the empty frames that the bridge has not destroyed in time."""
        until = time.monotonic() + EMPTY_FRAMES_GONE
        while (left := self.unheard()) and time.monotonic() < until:
            time.sleep(0.5)
        for frame_id in left:
            yield f'empty frame {frame_id} after {EMPTY_FRAMES_GONE:.0f} s'

    def _unused_frames(self) -> list[Any]:
        return [frame for frame in self.client.frame_list() if not frame.locked]

    def tidy(self) -> None:
        """Make room: what the rounds have left here is not needed any more."""
        shutil.rmtree(self.folder / 'here')
        (self.folder / 'here').mkdir()


def run(
    kills: int,
    seed: int,
    *,
    sizes: Sequence[int] = SIZES,
    tell: Callable[[str], object] = lambda text: None,
) -> Report:
    """Kill commands, each kind about equally often.

    Args:
        kills (int): how many commands are killed; those that ended before do not count.
        seed (int): of what is chosen.
        sizes (Sequence[int]): of the files, in bytes.
        tell (Callable[[str], object]): takes a line now and then.
    """
    chance = random.Random(seed)
    report = Report()
    quiet = {'mirrors': 0, 'audit_interval': 0, 'empty_frame_life': EMPTY_FRAME_LIFE}
    with (
        tempfile.TemporaryDirectory() as name,
        Network(farmers=7, bridge=quiet) as network,
    ):
        bench = Bench(network, Path(name), chance)
        kinds = bench.rounds()
        chance.shuffle(kinds)
        while report.kills.total() < kills:
            kind = kinds[report.kills.total() % len(kinds)]
            bench.strike(kind, chance.choice(sizes), report)
            bench.tidy()
            if report.kills.total() % 10 == 0:
                tell(f'{report.kills.total()} kills, {len(report.troubles)} troubles')
        report.troubles += bench.wait_for_empty_frames()
        bench.client.close()
    return report


# -- the process that is killed --------------------------------------------------------------------


def child(line: int, counted: str, words: list[str]) -> None:
    """Run ``storj`` until it is about to execute a line of the engine.

    Args:
        line (int): the number of the line, in the order in which lines are executed for the first
            time, over all threads; 0 to run to the end.
        counted (str): path of the file that takes the number of lines, at the end.
        words (list[str]): of the command.
    """
    seen: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(_ENGINE):
            return None
        if event == 'line':
            seen.add((frame.f_code.co_filename, frame.f_lineno))
            if len(seen) == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)
    sys.argv = ['storj', *words]
    try:
        runpy.run_module('storj', run_name='__main__', alter_sys=False)
    finally:
        sys.settrace(None)
        Path(counted).write_text(str(len(seen)))


def main() -> int:
    """Kill, and return 1 if something was not as it should be."""
    if sys.argv[1:2] == ['--child']:
        child(int(sys.argv[2]), sys.argv[3], sys.argv[4:])
        return 0
    parser = seeded_parser('benchmarks.kills', __doc__)
    parser.add_argument('--kills', type=int, default=100)
    options = parser.parse_args()
    print(f'seed {options.seed}', flush=True)
    report = run(options.kills, options.seed, tell=lambda text: print(text, flush=True))
    print_kinds(report.kills)
    print(f'{report.kills.total():5} killed, {report.late} had ended before')
    print(f'{len(report.unheard):5} empty frames of which the client had not heard')
    return print_troubles(report.troubles)


if __name__ == '__main__':
    sys.exit(main())
