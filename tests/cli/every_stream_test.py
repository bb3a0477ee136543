"""Every command with streams that are stopped, non-blocking, full, closed or gone.

A command prints all of its answer, or ends with a documented code. The test tries some streams with
each command, in processes that are forked; ``python -m tests.cli.every_stream_test`` tries all with
real processes, the networks that commands start included, and prints a table.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from storj.network.control import serve_control
from tests.cli.every_command import CALLS, Call, Forked, Place, missing
from tests.cli.forked import fork_server

FULL = Path('/dev/full')
pytestmark = pytest.mark.skipif(not FULL.exists(), reason='needs /dev/full and fork')

PATIENCE = 100.0
#: Bytes that a pipe holds here: the least that Linux takes.
PIPE = 4096
#: Exit codes of docs/command-line.rst that these calls may end with.
DOCUMENTED = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
CONDITIONS = (
    'stopped', 'non-blocking', 'full', 'gone', 'closed', 'no input', 'no errors', 'full errors',
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: bytes
    err: str


class Spawned:
    """A process of its own."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        streams: Sequence[int | None],
    ) -> None:
        closed = [f'{number}>&-' for number, it in enumerate(streams) if it is None]
        words = ['sh', '-c', f'exec "$@" {" ".join(closed)}', 'sh', sys.executable, '-m', 'storj']
        stdin, stdout, stderr = (subprocess.DEVNULL if it is None else it for it in streams)
        self._process = subprocess.Popen(
            [*words, *arguments], stdin=stdin, stdout=stdout, stderr=stderr, env=environment
        )
        self.pid = self._process.pid

    def wait(self, timeout: float) -> int | None:
        """Return the exit code, None if there is none in time."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None


class Bench:
    """Runs calls under conditions.

    Args:
        start: begins a process with arguments, environment and the numbers of three streams, None
            for a closed one.
        place (Place): what the calls work on.
        environment (Mapping[str, str]): of the commands; each call has settings of its own.
        folder (Path): for what they write.
    """

    def __init__(
        self, start: Any, place: Place, environment: Mapping[str, str], folder: Path
    ) -> None:
        self._start = start
        self._place = place
        self._environment = environment
        self._folder = folder

    def run(self, call: Call, condition: str) -> Ended:
        """Run a call and return how it ended, and what arrived."""
        settings = Path(tempfile.mkdtemp(dir=self._folder))
        environment = {
            **self._environment,
            **call.environment,
            'STORJ_CONFIG_DIR': str(settings),
            'XDG_STATE_HOME': str(settings / 'state'),
            **({'PYTHONUNBUFFERED': '1'} if condition == 'stopped' else {}),
        }
        before, own, after = self._place.lines(call)
        words = own if call.exact else [*own, '--json']
        if call.lasts:
            words = [*words, '--log-file', str(settings / 'log')]
        for line in before:
            self._one(line, environment, call, 'plain', settings)
        try:
            return self._one(words, environment, call, condition, settings, lasts=call.lasts)
        finally:
            for line in after:
                self._one(line, environment, call, 'plain', settings)

    def _one(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        call: Call,
        condition: str,
        folder: Path,
        *,
        lasts: bool = False,
    ) -> Ended:
        content = self._place.inputs.get(call.input, b'')
        (folder / 'in').write_bytes(content)
        out, err = folder / 'out', folder / 'err'
        with contextlib.ExitStack() as stack:
            stdin, stdout, stderr = (
                stack.enter_context(path.open(mode)).fileno()
                for path, mode in ((folder / 'in', 'rb'), (out, 'wb'), (err, 'wb'))
            )
            streams: list[int | None] = [stdin, stdout, stderr]
            if condition in ('full', 'full errors'):
                full = stack.enter_context(FULL.open('wb')).fileno()
                streams[1 if condition == 'full' else 2] = full
            for number, name in enumerate(('no input', 'closed', 'no errors')):
                if condition == name:
                    streams[number] = None
            if condition not in ('stopped', 'non-blocking', 'gone'):
                process = self._start(words, environment, streams)
                code = _end(process, (lambda: _is_ready(out, folder / 'log')) if lasts else None)
                return Ended(code, out.read_bytes(), err.read_text())
            ours, theirs = os.pipe()
            fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, PIPE)
            os.set_blocking(theirs, condition != 'non-blocking')
            streams[1] = theirs
            if condition == 'gone':
                os.close(ours)
            process = self._start(words, environment, streams)
            os.close(theirs)
            if condition == 'gone':
                code = _end(process, None)
                return Ended(code, b'', err.read_text())
            return self._through(process, ours, condition, err, lasts=lasts)

    def _through(self, process: Any, pipe: int, condition: str, err: Path, *, lasts: bool) -> Ended:
        """Let a process write into a pipe that nobody reads, and read that only then."""
        code = process.wait(0)
        deadline = time.monotonic() + PATIENCE
        while code is None and _unread(pipe) < PIPE and not (lasts and _unread(pipe)):
            assert time.monotonic() < deadline
            code = process.wait(0.01)
        if code is None and condition == 'stopped':
            os.kill(process.pid, signal.SIGSTOP)
            os.kill(process.pid, signal.SIGCONT)
        pieces: list[bytes] = []
        with os.fdopen(pipe, 'rb') as reader:
            thread = threading.Thread(target=lambda: pieces.append(reader.read()))
            thread.start()
            code = _end(process, (lambda: True) if lasts else None) if code is None else code
            thread.join()
        return Ended(code, pieces[0], err.read_text())


def _is_ready(out: Path, log: Path) -> bool:
    """Return whether a command that lasts has printed something, or could not and goes on."""
    mute = log.exists() and b'events are no longer printed' in log.read_bytes()
    return mute or out.stat().st_size > 0


def _unread(pipe: int) -> int:
    """Return how many bytes wait in a pipe."""
    return int(struct.unpack('i', fcntl.ioctl(pipe, termios.FIONREAD, b'0000'))[0])


def _end(process: Any, ready: Any) -> int:
    """Return the exit code of a process, which is stopped as soon as it is ready, if ever."""
    deadline = time.monotonic() + PATIENCE
    code = process.wait(0)
    while code is None:
        if time.monotonic() > deadline:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
            raise AssertionError('the command does not end')
        if ready is not None and ready():
            os.kill(process.pid, signal.SIGTERM)
            ready = None
        code = process.wait(0.02 if ready else 1)
    return int(code)


def faults(call: Call, condition: str, plain: Ended, ended: Ended) -> list[str]:
    """Return what is wrong with how a command ended, beside how it ends with usual streams."""
    found = []
    expected = plain.code
    if condition == 'closed' or (condition == 'no input' and call.input):
        expected = 2
    elif condition in ('full', 'gone') and plain.out:
        expected = 1
    elif condition == 'full errors' and plain.err:
        expected = plain.code or 1
    if ended.code != expected:
        found.append(f'exit code {ended.code} instead of {expected}')
    if ended.code not in DOCUMENTED:
        found.append(f'exit code {ended.code}')
    if re.search('NoneType|Traceback|Exception ignored|please report', ended.err):
        found.append(ended.err)
    arrives = condition in ('stopped', 'non-blocking', 'no errors', 'full errors')
    if arrives and not found and _content(call, ended) != _content(call, plain):
        found.append(f'{len(ended.out)} bytes instead of {len(plain.out)}')
    return found


def _content(call: Call, ended: Ended) -> bytes | list[Any]:
    """Return of an answer what is the same each time."""
    return ended.out if call.exact else _kinds(ended.out)


def _kinds(content: bytes) -> list[Any]:
    """Return what each JSON document of an answer is; a whole one ends with a line break."""
    text, kinds, place = content.decode(), [], 0
    assert text.endswith('\n') or not text, text
    while text[place:].strip():
        value, place = json.JSONDecoder().raw_decode(text, place)
        place += 1
        kind = sorted(value) if isinstance(value, dict) else type(value)
        # How often a transfer tells how far it is depends on the time that it takes.
        if not (isinstance(value, dict) and value.get('type') == 'status'):
            kinds.append(kind)
    return kinds


@pytest.fixture(scope='module')
def bench(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp('streams')
    with a_bench(network, folder, real=False) as made:
        yield made


@contextmanager
def a_bench(network: Any, folder: Path, *, real: bool) -> Iterator[Bench]:
    """Make what the calls need."""
    from tests.cli.conftest import ROOT, Storj

    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(('STORJ_', 'XDG_', 'LC_'))},
        **network.environment(),
        'HOME': str(folder),
        'PYTHONPATH': str(ROOT),
        'STORJ_CONFIG_DIR': str(folder / 'settings'),
        'LANG': 'C.UTF-8',
    }
    (folder / 'files').mkdir()
    place = Place(Storj(dict(environment)), network, folder / 'files')
    with serve_control(network), fork_server(folder, environment) as address:

        def fork(*arguments: Any) -> Forked:
            return Forked(address, *arguments)

        yield Bench(Spawned if real else fork, place, environment, folder)


def test_every_command_has_a_call():
    assert not missing()


@pytest.mark.parametrize('call', CALLS, ids=lambda call: call.words[:50])
def test_whole_answer_or_documented_code(bench, call):
    if call.slow:
        for condition in ('closed', 'full'):
            plain = Ended(0, b'ready\n', '')
            assert faults(call, condition, plain, bench.run(call, condition)) == []
        return
    plain = bench.run(call, 'plain')
    assert plain.code in DOCUMENTED
    place = CALLS.index(call)
    some = {'closed', 'full', CONDITIONS[place % 8], CONDITIONS[(place + 3) % 8]}
    conditions = CONDITIONS if call.exact else sorted(some)
    found = {it: faults(call, it, plain, bench.run(call, it)) for it in conditions}
    assert not {condition: wrong for condition, wrong in found.items() if wrong}


def main() -> int:
    """Run all calls as real processes and print a table of exit codes."""
    from storj.network import Network

    wrong = []
    with (
        tempfile.TemporaryDirectory() as name,
        Network(farmers=6, bridge={'audit_interval': 0, 'mirrors': 0}) as network,
        a_bench(network, Path(name), real=True) as bench,
    ):
        print(f'{"command":50} plain', *CONDITIONS, sep='  ')
        for call in CALLS:
            plain = bench.run(call, 'plain')
            codes = [f'{plain.code:5}']
            for condition in CONDITIONS:
                ended = bench.run(call, condition)
                found = faults(call, condition, plain, ended)
                wrong += [f'{call.words}, {condition}: {it}' for it in found]
                mark = '!' if found else ''
                codes.append(f'{f"{ended.code}{mark}":>{len(condition)}}')
            print(f'{call.words[:50]:50}', *codes, sep='  ', flush=True)
    print(*wrong, sep='\n')
    return bool(wrong)


if __name__ == '__main__':
    sys.exit(main())
