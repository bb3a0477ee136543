"""Completion in the shell, from the code that is printed to the names that it offers."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from storj.cli.cache import FRESH, NameCache


def complete(program, line, **extra):
    """Return what the program offers for a command line whose last word is being typed."""
    words, environment = program()
    environment |= {
        '_STORJ_COMPLETE': 'bash_complete',
        'COMP_WORDS': line,
        'COMP_CWORD': str(len(line.split()) - (0 if line.endswith(' ') else 1)),
        **extra,
    }
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ''
    return [item.partition(',')[2] for item in done.stdout.splitlines() if item]


def test_commands_options_buckets_and_files_are_offered(program, storj, bucket):
    for name in ('a.txt', 'dir/b', 'dir/c'):
        storj('cp', '-', f'storj://{bucket}/{name}', input='x')
    assert {'cp', 'cat', 'completion', 'config'} == set(complete(program, 'storj c'))
    assert complete(program, 'storj cp --limit') == ['--limit-upload', '--limit-download']
    assert f'storj://{bucket}/' in complete(program, f'storj ls storj://{bucket[:6]}')
    # A machine under load may not answer within the second that a prompt waits.
    storj('ls', f'storj://{bucket}')
    assert complete(program, f'storj cat storj://{bucket}/') == [
        f'storj://{bucket}/a.txt',
        f'storj://{bucket}/dir/',
    ]
    assert complete(program, f'storj cat storj://{bucket}/dir/') == [
        f'storj://{bucket}/dir/b',
        f'storj://{bucket}/dir/c',
    ]
    assert complete(program, f'storj file info {bucket} a') == ['a.txt']
    assert bucket in complete(program, f'storj bucket get {bucket[:8]}')


def test_names_come_from_the_cache_without_the_bridge(program, storj, network, bucket):
    storj('ls')
    listing = network.faults.add('status:route=GET /buckets,status=503,times=0')
    try:
        assert f'storj://{bucket}/' in complete(program, 'storj rb storj://')
    finally:
        network.faults.remove(listing)


def test_bridge_that_does_not_answer_offers_nothing_soon(program, network):
    hanging = network.faults.add('delay:route=* *,seconds=60,times=0')
    try:
        assert complete(program, 'storj rb storj://') == []
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


@pytest.mark.skipif(shutil.which('bash') is None, reason='no bash')
def test_code_runs_in_bash(program, storj, bucket, tmp_path):
    words, environment = program()
    script = tmp_path / 'storj'
    script.write_text('#!/bin/sh\nexec ' + ' '.join(words) + ' "$@"\n')
    script.chmod(0o755)
    environment['PATH'] = f'{tmp_path}{os.pathsep}{environment["PATH"]}'
    test = (
        'eval "$(storj completion bash)"; COMP_WORDS=(storj buc); COMP_CWORD=1; '
        '_storj_completion storj; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ['bash', '-c', test], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == 'bucket'


def test_cache_is_private_short_lived_and_forgiving(tmp_path):
    now = 1000.0
    cache = NameCache(tmp_path / 'cache', 'account', clock=lambda: now)
    assert cache.buckets() is None
    cache.store_buckets(['a', 'b'])
    cache.store_files('a', ['x'])
    assert stat.S_IMODE(cache.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.path.parent.stat().st_mode) == 0o700
    assert cache.buckets() == ['a', 'b']
    assert cache.files('a') == ['x']
    now += FRESH
    assert cache.buckets() is None
    assert cache.buckets(stale=True) == ['a', 'b']
    for damaged in ('', '[]', '{"buckets": 1}', '{"buckets": {"time": "x", "names": []}}'):
        cache.path.write_text(damaged)
        assert cache.buckets() is None
        cache.store_buckets(['c'])
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
