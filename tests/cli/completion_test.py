"""Completion in the shell, from the code that is printed to the names that it offers."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from storj.cli.completion import FRESH, NameCache


def complete(program, line, **extra):
    """Return what the program offers for a command line whose last word is being typed."""
    words, environment = program()
    environment |= {
        '_STORJ_COMPLETE': 'bash_complete',
        'COMP_LINE': line,
        **extra,
    }
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ''
    return [item.partition(',')[2] for item in done.stdout.splitlines() if item]


def test_commands_options_buckets_and_files_are_offered(quick_program, storj, bucket):
    for name in ('a.txt', 'dir/b', 'dir/c'):
        storj('cp', '-', f'storj://{bucket}/{name}', input='x')
    assert {'cp', 'cat', 'check', 'completion', 'config'} == set(complete(quick_program, 'storj c'))
    assert complete(quick_program, 'storj cp --limit') == ['--limit-upload', '--limit-download']
    assert f'storj://{bucket}/' in complete(quick_program, f'storj ls storj://{bucket[:6]}')
    # A machine under load may not answer within the second that a prompt waits.
    storj('ls', f'storj://{bucket}')
    assert complete(quick_program, f'storj cat storj://{bucket}/') == [
        f'storj://{bucket}/a.txt',
        f'storj://{bucket}/dir/',
    ]
    assert complete(quick_program, f'storj cat storj://{bucket}/dir/') == [
        f'storj://{bucket}/dir/b',
        f'storj://{bucket}/dir/c',
    ]
    assert complete(quick_program, f'storj file info {bucket} a') == ['a.txt']
    assert bucket in complete(quick_program, f'storj bucket get {bucket[:8]}')


def test_names_come_from_the_cache_without_the_bridge(quick_program, storj, network, bucket):
    storj('ls')
    listing = network.faults.add('status:route=GET /buckets,status=503,times=0')
    try:
        assert f'storj://{bucket}/' in complete(quick_program, 'storj rb storj://')
    finally:
        network.faults.remove(listing)


def test_bridge_that_does_not_answer_offers_nothing_soon(quick_program, network):
    hanging = network.faults.add('delay:route=* *,seconds=60,times=0')
    try:
        assert complete(quick_program, 'storj rb storj://') == []
    finally:
        network.faults.remove(hanging)
        network.faults.release()


def test_without_login_nothing_is_offered_and_nothing_said(program):
    nobody = {'STORJ_BRIDGE_USER': '', 'STORJ_BRIDGE_PASS': ''}
    assert complete(program, 'storj ls storj://', **nobody) == []


@pytest.mark.parametrize('shell', ['bash', 'zsh', 'fish'])
def test_code_for_the_shell_is_printed(storj, shell):
    code = storj('completion', shell).out
    for name in ('storj', 'storj-bucket', 'storj-file', 'storj-key'):
        assert name in code
    assert f'{shell}_complete' in code


def test_unknown_shell_is_wrong_usage(storj):
    storj('completion', 'tcsh', code=2)


@pytest.fixture
def scripts(quick_program, commands):
    """The environment in which a shell finds the programs."""
    _, environment = quick_program()
    path = f'{commands}{os.pathsep}{environment["PATH"]}'
    return {**environment, 'PATH': path, 'PS1': '> ', 'COLUMNS': '200'}


#: How a shell is started without its owner's settings, and told of the completion.
SHELLS = {
    'bash': ('bash --norc --noprofile -i', 'eval "$(storj completion bash)"'),
    'zsh': ('zsh -f -i', 'eval "$(storj completion zsh)"'),
    'fish': ('fish --no-config -i', 'storj completion fish | source'),
}


@pytest.fixture(params=SHELLS)
def shell(request, scripts, tmp_path):
    """Type lines into an interactive shell; a tabulator in them asks for completion."""
    pty = pytest.importorskip('tests.cli.terminal', reason='no pseudo-terminals on this system')
    command, setup = SHELLS[request.param]
    if shutil.which(request.param) is None:
        pytest.skip(f'{request.param} is not installed')
    folder = tmp_path / 'work'
    folder.mkdir()
    with pty.Terminal(command.split(), scripts, cwd=folder) as screen:
        # The quotes keep the echo of what is typed from looking like what is printed.
        screen.type(f"{setup}; echo rea''dy\n")
        screen.expect('ready')
        yield screen
        screen.type('exit\n')
        screen.end()


def test_shell_completes_what_storage_has(shell, storj, tmp_path):
    """Each line is run as it was completed: what is printed shows that it was quoted right."""
    bucket = f'my {os.urandom(4).hex()}'
    storj('mb', bucket)
    name = 'dogs, cats & (others) "x".txt'
    storj('cp', '-', f'storj://{bucket}/dir/{name}', input='in the dir')
    storj('cp', '-', f'storj://{bucket}/tab\tand\nline', input='untypeable')
    storj('cp', '-', f'storj://{bucket}/ümläut: a', input='with a colon')
    (tmp_path / 'work' / 'lo cal.txt').write_text('from here')
    # A machine under load may not answer within the second that a prompt waits.
    storj('ls', bucket)
    shell.type('storj cat storj://my\td\td\t\n')
    shell.expect('in the dir')
    shell.type(f"storj ca\t 'storj://{bucket}/üm\t\n")
    shell.expect('with a colon')
    shell.type('storj-bucket ge\tmy\t --js\t\n')
    shell.expect(r'"id": "[0-9a-f]{24}"')
    shell.type('storj cp lo\t storj://my\tcopied\n')
    shell.expect(rf'lo cal.txt -> storj://{bucket}/copied')
    storj('rb', bucket, '--yes')


def test_cache_is_private_short_lived_and_forgiving(tmp_path):
    now = 1000.0
    cache = NameCache(tmp_path / 'cache', 'account', clock=lambda: now)
    assert cache.find() is None
    cache.store(None, ['a', 'b'])
    cache.store('a', ['x'])
    assert stat.S_IMODE(cache.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.path.parent.stat().st_mode) == 0o700
    assert cache.find() == ['a', 'b']
    assert cache.find('a') == ['x']
    now += FRESH
    assert cache.find() is None
    assert cache.find(stale=True) == ['a', 'b']
    for damaged in ('', '[]', '{"buckets": 1}', '{"buckets": {"time": "x", "names": []}}'):
        cache.path.write_text(damaged)
        assert cache.find() is None
        cache.store(None, ['c'])
        assert json.loads(cache.path.read_text())['buckets']['names'] == ['c']
    cache.forget()
    assert not cache.path.exists()
    cache.forget()


def test_logout_forgets_the_names(storj, home, bucket):
    storj('ls')
    folder = Path(home['XDG_CACHE_HOME']) / 'storj'
    assert list(folder.iterdir())
    storj('account', 'logout')
    assert not list(folder.iterdir())
