"""The package without what only POSIX has, as far as that can be tried on POSIX."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from storj.network import Network


@pytest.fixture(scope='module')
def network():
    """Run a network of its own, in which no other test has farmers come and go."""
    with Network(farmers=6, bridge={'audit_interval': 0, 'mirrors': 0}) as running:
        yield running


@pytest.fixture
def posixless(program, tmp_path):
    [python, *_], environment = program()

    def run(*arguments, **options):
        done = subprocess.run(
            [python, Path(__file__).with_name('posixless.py'), *map(str, arguments)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            **options,
        )
        assert done.returncode == 0, done.stderr.decode(errors='replace')
        return done

    return run


def test_every_module_is_imported(posixless):
    posixless()


def test_files_go_both_ways(posixless, storj, bucket, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / 'a').write_bytes(data)
    posixless('cp', 'a', f'storj://{bucket}/dir/a')
    posixless('sync', f'storj://{bucket}/', 'back')
    assert (tmp_path / 'back' / 'dir' / 'a').read_bytes() == data
    assert storj('transfer', 'list', '--json').json() == []
    assert posixless('cat', f'storj://{bucket}/dir/a').stdout == data
    posixless('cp', '-', f'storj://{bucket}/stream', input=b'from a pipe')
    assert storj('cat', f'storj://{bucket}/stream').raw == b'from a pipe'
