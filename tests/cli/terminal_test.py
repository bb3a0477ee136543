"""The program on a real terminal: bars, questions, Ctrl-C, signals, pipes."""

from __future__ import annotations

import configparser
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pty = pytest.importorskip('pty', reason='no pseudo-terminals on this system')

from tests.cli.terminal import PATIENCE, Terminal  # noqa: E402

INTERRUPT = '\x03'


@pytest.fixture
def terminal(quick_program, tmp_path):
    return _on_terminals(quick_program, tmp_path, forked=True)


@pytest.fixture
def slow_terminal(program, tmp_path):
    """The same for a program that loads its modules, as users start it."""
    return _on_terminals(program, tmp_path)


def _on_terminals(program, tmp_path, *, forked=False):
    def start(*arguments, stdout=None, **extra):
        words, environment = program(*arguments)
        if stdout is not None:
            words = ['sh', '-c', 'exec "$@" > "$0"', str(stdout), *words]
        return Terminal(
            words, {**environment, 'COLUMNS': '120', **extra}, cwd=tmp_path, forked=forked
        )

    return start


@pytest.fixture
def big(tmp_path):
    path = tmp_path / 'big.bin'
    path.write_bytes(os.urandom(12_000_000))
    return path


def test_bars_are_drawn_on_a_terminal_and_wiped(terminal, storj, bucket, big):
    with terminal('cp', '--limit-upload', '16MB', big, f'storj://{bucket}/') as screen:
        assert screen.end() == 0
    assert 'shards' in screen.text
    assert 'MiB' in screen.text or 'MB' in screen.text
    assert '━' in screen.text
    assert f'storj://{bucket}/big.bin' in screen.text
    # The cursor that the bars hid is back.
    assert screen.raw.rfind('\x1b[?25h') > screen.raw.rfind('\x1b[?25l')


def test_lines_are_printed_above_the_bars_and_not_broken(terminal, bucket, tmp_path):
    folder = tmp_path / 'with a name that is rather long'
    folder.mkdir()
    for number in range(12):
        (folder / f'file {number}').write_bytes(os.urandom(100_000))
    command = ('cp', '-r', '--transfers', '2', folder.name, f'storj://{bucket}/')
    with terminal(*command, COLUMNS='60') as screen:
        assert screen.end() == 0
    lines = re.split(r'[\r\n]+', re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', screen.raw))
    done = [line for line in lines if '->' in line]
    assert sorted(line.split(' -> ')[0] for line in done) == sorted(
        f'{folder.name}/file {number}' for number in range(12)
    )
    assert all(re.search(r'97\.7 KiB in \d+\.\d s$', line) for line in done)


@pytest.mark.parametrize('width', [50, 80])
def test_bars_fit_and_are_wiped_after_ctrl_c(terminal, bucket, big, width):
    command = ('cp', '--limit-upload', '3MB', '--no-resume', big, f'storj://{bucket}/big')
    with terminal(*command, COLUMNS=str(width)) as screen:
        screen.expect(r'[1-9]%|[1-9]\.\d/11')
        screen.type(INTERRUPT)
        assert screen.end() == 130
    # A line ends where the sequences begin that draw it afresh.
    drawn = re.split(r'[\r\n]|\x1b\[[0-9;?]*[A-LN-Za-ln-z]', screen.raw)
    lines = [re.sub(r'\x1b\[[0-9;]*m', '', line) for line in drawn]
    bars = [line for line in lines if '━' in line]
    assert bars
    # Three cells are left, so that the ^C that the terminal echoes begins no line of its own.
    longest = max(len(line.replace('^C', '')) for line in bars)
    assert width - 8 < longest <= width - 3
    assert all(('shards' in line) == (width >= 76) for line in bars if '/s ' in line)


@pytest.mark.parametrize(
    ('arguments', 'environment'),
    [
        (['--no-progress'], {}),
        (['--quiet'], {}),
        (['--json'], {}),
        ([], {'TERM': 'dumb'}),
        ([], {'STORJ_NO_PROGRESS': '1'}),
    ],
)
def test_no_bars_where_none_are_wanted(terminal, bucket, tmp_path, arguments, environment):
    (tmp_path / 'a').write_bytes(b'a' * 100_000)
    with terminal('cp', *arguments, 'a', f'storj://{bucket}/a', **environment) as screen:
        assert screen.end() == 0
    assert '━' not in screen.text
    assert '\x1b[?25l' not in screen.raw


def test_colours_come_on_a_terminal_only(terminal, quick_program, bucket):
    with terminal('ls') as screen:
        screen.end()
    assert '\x1b[' in screen.raw
    with terminal('ls', NO_COLOR='1') as screen:
        screen.end()
    assert '\x1b[' not in screen.raw
    words, environment = quick_program('ls')
    piped = subprocess.run(words, env=environment, capture_output=True, check=True)
    assert b'\x1b[' not in piped.stdout


def test_ctrl_c_leaves_a_transfer_that_resumes(slow_terminal, program, storj, bucket, big):
    command = ('cp', '--limit-upload', '3MB', big, f'storj://{bucket}/big')
    with slow_terminal(*command) as screen:
        screen.expect(r'[1-9]\d*/\d+ shards')
        screen.type(INTERRUPT)
        assert screen.end() == 130
    assert 'storj: interrupted' in screen.text
    assert 'hint: run the same command to resume' in screen.text
    assert 'Traceback' not in screen.text
    [left] = storj('transfer', 'list', '--json').json()
    assert left['kind'] == 'upload'
    # Under a low limit few shards share it, so that the first ones are whole early.
    assert 0 < left['bytes'] < left['total'] / 2
    words, environment = program('cp', big, f'storj://{bucket}/big', '--json')
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])['files_done'] == 1
    assert storj('transfer', 'list', '--json').json() == []
    assert storj('cat', f'storj://{bucket}/big').raw == big.read_bytes()


def test_broken_off_transfers_are_cleaned_with_their_frames(terminal, storj, bucket, big):
    with terminal('cp', '--limit-upload', '3MB', big, f'storj://{bucket}/big') as screen:
        screen.expect(r'[1-9]\d*/\d+ shards')
        screen.signal(signal.SIGTERM)
        assert screen.end() == 143
    assert 'storj: terminated' in screen.text
    assert 'discard 1 transfer ' in storj('transfer', 'clean', code=2).err
    assert storj('transfer', 'clean', '--older-than', '1h', '--json').json() == []
    [gone] = storj('transfer', 'clean', '--yes', '--json').json()
    assert gone['path'] == str(big)
    assert storj('transfer', 'list', '--json').json() == []


@pytest.fixture
def stalled(network):
    """Farmers that take the beginning of a shard and no more."""
    fault = network.faults.add('stall:farmer=*,operation=push,times=0,offset=1000')
    yield
    network.faults.remove(fault)
    network.faults.release()


@pytest.mark.usefixtures('stalled')
def test_second_ctrl_c_ends_at_once(terminal, bucket, big):
    with terminal('cp', big, f'storj://{bucket}/big') as screen:
        screen.expect(r'0/\d+ shards')
        screen.type(INTERRUPT)
        screen.type(INTERRUPT)
        assert screen.end() == 130
    assert 'Traceback' not in screen.text


def test_interrupted_download_keeps_its_part_and_no_final_file(
    terminal, storj, bucket, big, tmp_path
):
    storj('cp', big, f'storj://{bucket}/big')
    target = tmp_path / 'back.bin'
    with terminal('cp', '--limit-download', '3MB', f'storj://{bucket}/big', target) as screen:
        screen.expect(r'[1-9]\d*/\d+ shards')
        screen.type(INTERRUPT)
        assert screen.end() == 130
    assert not target.exists()
    storj('cp', f'storj://{bucket}/big', target)
    assert target.read_bytes() == big.read_bytes()
    assert [path.name for path in tmp_path.glob('*.part')] == []


def test_ctrl_c_does_not_wait_for_who_writes_to_the_pipe(terminal, bucket):
    with terminal('cp', '-', f'storj://{bucket}/typed') as screen:
        screen.expect(r'typed')
        screen.type(INTERRUPT)
        assert screen.end() == 130


def test_question_is_asked_and_no_means_no(terminal, storj, bucket):
    for name in ('a', 'b'):
        storj('cp', '-', f'storj://{bucket}/{name}', input=name)
    with terminal('rm', '-r', f'storj://{bucket}/') as screen:
        screen.expect(r'remove 2 files\? \[y/N\]: ')
        screen.type('n\n')
        assert screen.end() == 2
    assert len(storj('ls', f'storj://{bucket}', '--json').json()) == 2
    with terminal('rm', '-r', f'storj://{bucket}/') as screen:
        screen.expect(r'remove 2 files\? \[y/N\]: ')
        screen.type('y\n')
        assert screen.end() == 0
    assert storj('ls', f'storj://{bucket}', '--json').json() == []


def test_ctrl_c_at_a_question_is_130_and_ctrl_d_is_2(terminal, bucket):
    for typed, code in ((INTERRUPT, 130), ('\x04', 2)):
        with terminal('rb', bucket) as screen:
            screen.expect(r'remove bucket .* with 0 files\? \[y/N\]: ')
            screen.type(typed)
            assert screen.end() == code
        assert 'resume' not in screen.text


@pytest.mark.usefixtures('stalled')
def test_ctrl_c_before_anything_arrived_promises_no_resume(terminal, bucket, big):
    with terminal('cp', big, f'storj://{bucket}/big') as screen:
        screen.expect(r'0/\d+ shards')
        screen.type(INTERRUPT)
        assert screen.end() == 130
    assert 'storj: interrupted' in screen.text
    assert 'resume' not in screen.text


def test_bars_are_drawn_while_standard_output_goes_elsewhere(
    terminal, storj, bucket, big, tmp_path
):
    storj('cp', big, f'storj://{bucket}/big')
    for command in ('cat', f'storj://{bucket}/big'), ('cp', f'storj://{bucket}/big', '-'):
        with terminal(*command, '--limit-download', '16MB', stdout=tmp_path / 'out') as screen:
            screen.expect(r'━.* [1-9][0-9.]*/11.4 MiB')
            assert screen.end() == 0
        assert (tmp_path / 'out').read_bytes() == big.read_bytes()
    storj('cp', '-', f'storj://{bucket}/small', input='small')
    with terminal('cat', f'storj://{bucket}/small') as screen:
        assert screen.end() == 0
    assert screen.raw == 'small'


def test_bars_are_drawn_while_a_file_is_verified(terminal, storj, bucket, big):
    storj('cp', big, f'storj://{bucket}/big')
    limit = ('--limit-download', '8MB')
    with terminal('file', 'verify', *limit, f'storj://{bucket}/big') as screen:
        screen.expect(r'━.* [1-9]\d*/\d+ shards')
        assert screen.end() == 0
    assert 'healthy: ' in screen.text
    with terminal('file', 'verify', '--json', f'storj://{bucket}/big') as screen:
        assert screen.end() == 0
    assert json.loads(screen.text)['recoverable'] is True


def test_login_asks_without_echo_and_shows_new_words_once(terminal, home, network):
    account = {'STORJ_BRIDGE_USER': '', 'STORJ_BRIDGE_PASS': '', 'STORJ_ENCRYPTION_KEY': ''}
    with terminal('account', 'login', **account) as screen:
        screen.expect('E-mail: ')
        screen.type(f'{network.email}\n')
        screen.expect('Password: ')
        screen.type(f'{network.password}\n')
        screen.expect('Encryption key: ')
        screen.type('\n')
        assert screen.end() == 0
    assert network.password not in screen.text
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(Path(home['STORJ_CONFIG_DIR']) / 'storj.ini')
    assert parser['storj']['password'] == network.password
    assert parser['storj']['mnemonic'] in screen.text
    assert 'write it down' in screen.text


def test_new_password_is_asked_twice(terminal, network):
    with terminal('account', 'register', '--email', 'twice@example.org') as screen:
        screen.expect('Password: ')
        screen.type('one\n')
        screen.expect('Repeat for confirmation: ')
        screen.type('another\n')
        screen.expect(r'(?s)do not match.*Password: ')
        screen.type('one\n')
        screen.expect(r'(?s)do not match.*confirmation: ')
        screen.type('one\n')
        assert screen.end() == 0
    assert 'account twice@example.org created' in screen.text


def test_broken_pipe_is_quiet(quick_program, storj, bucket):
    storj('cp', '-', f'storj://{bucket}/big', input=b'x' * 3_000_000)
    words, environment = quick_program('cat', f'storj://{bucket}/big')
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.read(10) == b'x' * 10
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(PATIENCE) == 1
    assert said == b''


def test_help_comes_quickly_and_imports_little(program):
    _, environment = program()
    code = 'import sys; from storj.cli import main; main(["--help"]); print(*sys.modules)'
    done = subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.splitlines()[-1].split())
    assert 'click' in modules
    slow = {'requests', 'rich', 'aiohttp', 'sqlalchemy', 'ecdsa', 'Crypto', 'mnemonic', 'asyncio'}
    assert not modules & slow


def test_commands_of_files_need_no_package_of_servers(program):
    _, environment = program()
    code = """
import importlib, sys
from storj.cli.app import ENTRIES, FILES
for package in 'aiohttp', 'sqlalchemy', 'alembic':
    sys.modules[package] = None
for entry in ENTRIES:
    if entry.section == FILES:
        importlib.import_module(entry.target.partition(':')[0])
"""
    subprocess.run([sys.executable, '-c', code], env=environment, check=True)


def test_program_without_click_says_how_to_install(program):
    _, environment = program()
    code = 'import sys; sys.modules["click"] = None; from storj.cli import main; sys.exit(main([]))'
    done = subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert 'pip install "storj[cli]"' in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'cp1252'])
def test_names_are_printed_whatever_the_encoding(quick_program, storj, bucket, encoding):
    for name in ('ä', '😀'):
        storj('cp', '-', f'storj://{bucket}/{name}', input=b'x')
    for form in ((), ('--json',)):
        words, environment = quick_program('ls', bucket, *form)
        environment['PYTHONIOENCODING'] = encoding
        done = subprocess.run(words, env=environment, capture_output=True, check=True)
        shown = done.stdout.decode(encoding)
        if form:
            assert [row['name'] for row in json.loads(shown)] == ['ä', '😀']
        else:
            assert (r'\xe4' if encoding == 'ascii' else 'ä') in shown
            assert r'\U0001f600' in shown
