"""Standard streams that are slow, full, closed or gone: all is printed, or the code says so."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from storj.catalog.errors import UsageProblem
from storj.cli.streams import StandardStreams, StreamFailed, standard_input


class Grudging(io.RawIOBase):
    """Takes and gives one byte at a time, and nothing every other time."""

    def __init__(self, content=b''):
        self.content = bytearray(content)
        self._turn = 0
        self._pipe = os.pipe()
        os.write(self._pipe[1], b'!')

    def fileno(self):
        # Both ends are ready: nobody waits for long.
        return self._pipe[self._writing]

    _writing = 1

    def readable(self):
        return True

    def write(self, data):
        self._turn += 1
        if self._turn % 2:
            return None
        self.content += data[:1]
        return 1

    def readinto(self, buffer):
        self._writing = 0
        self._turn += 1
        if self._turn % 2:
            return None
        piece = self.content[:1]
        del self.content[:1]
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self):
        if not self.closed:
            for number in self._pipe:
                os.close(number)
        super().close()


class Broken(io.RawIOBase):
    """Takes nothing."""

    def __init__(self, number):
        self.number = number

    def write(self, data):
        raise OSError(self.number, os.strerror(self.number))


def text_over(raw, encoding='utf-8'):
    """Return a stream as an interpreter without buffers makes it."""
    return io.TextIOWrapper(raw, encoding, write_through=True)


@pytest.fixture
def streams(monkeypatch):
    """Run something with standard streams of its own."""

    def replace(**given):
        for name, stream in given.items():
            monkeypatch.setattr(sys, name, stream)
        return StandardStreams()

    return replace


def test_stream_that_takes_little_gets_everything(streams):
    with Grudging() as raw, streams(stdout=text_over(raw)) as standard:
        print('text', end='')
        assert sys.stdout.buffer.write(b' and bytes') == 10
        assert not standard.failed
        assert bytes(raw.content) == b'text and bytes'


def test_input_that_comes_slowly_is_waited_for(streams):
    with Grudging(b'first\nsecond\n') as raw:
        stdin = io.TextIOWrapper(io.BufferedReader(raw))
        with streams(stdin=stdin):
            assert standard_input().readline() == b'first\n'
            assert standard_input().read() == b'second\n'


def test_output_that_fails_is_raised_once_and_remembered(streams):
    with streams(stdout=text_over(Broken(28))) as standard:
        with pytest.raises(StreamFailed, match='cannot write to standard output: No space left'):
            print('a')
        print('b')
        assert standard.failed


def test_notes_that_fail_break_nothing_off_and_are_remembered(streams):
    with streams(stderr=text_over(Broken(28))) as standard:
        print('a', file=sys.stderr)
        assert standard.failed


def test_closed_output_is_refused(streams):
    with streams(stdout=None) as standard, pytest.raises(UsageProblem, match='output is closed'):
        standard.check()


def test_closed_input_is_refused_where_it_is_read(streams):
    with streams(stdin=None) as standard:
        standard.check()
        with pytest.raises(UsageProblem, match='input is closed'):
            standard_input()


def test_closed_error_stream_takes_notes_and_drops_them(streams):
    with streams(stderr=None) as standard:
        print('a', file=sys.stderr)
        standard.check()
        assert not standard.failed
    assert sys.stderr is None


@pytest.mark.parametrize(('encoding', 'shown'), [('ascii', b'\\xe4'), ('latin-1', b'\xe4')])
def test_text_that_a_stream_cannot_encode_is_escaped(streams, encoding, shown):
    raw = io.BytesIO()
    with streams(stdout=io.TextIOWrapper(raw, encoding)):
        print('ä😀', end='')
        assert raw.getvalue() == shown + b'\\U0001f600'


@pytest.fixture
def run(program):
    """Run a command with the shell's redirections."""

    def start(redirections, *arguments, **options):
        words, environment = program(*arguments)
        return subprocess.run(
            ['sh', '-c', f'exec "$@" {redirections}', 'sh', *words],
            env=environment,
            capture_output=True,
            check=False,
            **options,
        )

    return start


@pytest.mark.parametrize(
    ('redirections', 'arguments', 'code', 'message'),
    [
        ('>&-', ['ls'], 2, b'storj: standard output is closed\n'),
        ('>&-', ['--help'], 2, b'storj: standard output is closed\n'),
        ('>&- 2>&-', ['ls'], 2, b''),
        ('<&-', ['cp', '-', 'storj://bucket/a'], 2, b'storj: standard input is closed\n'),
        ('<&-', ['metadisk', 'upload', '-'], 2, b'storj: standard input is closed\n'),
        ('<&-', ['key', 'load', '--mnemonic-file', '-'], 2, b'storj: standard input is closed\n'),
        ('<&-', ['config', 'path'], 0, b''),
        ('2>&-', ['config', 'profiles'], 0, b''),
        ('2>&-', ['bogus'], 2, b''),
        ('> /dev/full', ['config', 'path'], 1, b'storj: cannot write to standard output: No space'),
        ('> /dev/full', ['--help'], 1, b'storj: cannot write to standard output: No space'),
        ('> /dev/full', ['--version'], 1, b'storj: cannot write to standard output: No space'),
        ('2> /dev/full', ['config', 'profiles'], 1, b''),
        ('2> /dev/full', ['bogus'], 2, b''),
        (
            '',
            ['ls', '-q', '--log-file', '/dev/full'],
            1,
            b'storj: cannot write to /dev/full: No space',
        ),
    ],
)
def test_stream_that_is_closed_or_full_has_its_code(run, redirections, arguments, code, message):
    done = run(redirections, *arguments)
    assert done.returncode == code
    assert done.stdout == b'' or code == 0 or '--log-file' in arguments
    assert done.stderr.startswith(message)
    assert b'NoneType' not in done.stderr
    assert b'Exception ignored' not in done.stderr


def test_settings_that_others_can_read_are_a_note_of_ours(stranger, home):
    stranger('config', 'set', 'email', 'a')
    path = Path(home['STORJ_CONFIG_DIR']) / 'storj.ini'
    path.chmod(0o644)
    assert stranger('config', 'path').err == f'{path} can be read by others: chmod 600 it\n'
    assert stranger('config', 'path', '--json').err == ''


def test_closed_error_stream_gives_its_number_to_nothing_else(program):
    _, environment = program()
    code = (
        'import os, sys; from storj.cli import command; from storj.cli.app import app\n'
        'def look(*_): print(os.readlink("/proc/self/fd/2"))\n'
        'command.shell_complete = look\n'
        'app.main([], "storj", standalone_mode=False)\n'
    )
    done = subprocess.run(
        ['sh', '-c', 'exec "$@" 2>&-', 'sh', sys.executable, '-c', code],
        env={**environment, '_STORJ_COMPLETE': 'x'},
        capture_output=True,
        check=False,
    )
    assert done.stdout == b'/dev/null\n'


def test_output_that_fits_in_part_fails(run, tmp_path):
    done = run(f'> {tmp_path}/a', '--help', preexec_fn=limit_files)
    assert done.returncode == 1
    assert done.stderr == b'storj: cannot write to standard output: File too large\n'
    assert (tmp_path / 'a').stat().st_size == FILE_LIMIT


FILE_LIMIT = 100


def limit_files():
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))


def test_non_blocking_output_gets_every_byte(program, storj, bucket):
    data = os.urandom(3_000_000)
    storj('cp', '-', f'storj://{bucket}/a', input=data)
    words, environment = program('cat', f'storj://{bucket}/a')
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with subprocess.Popen(words, env=environment, stdout=theirs) as process:
        os.close(theirs)
        with os.fdopen(ours, 'rb') as pipe:
            assert pipe.read() == data
        assert process.wait() == 0
