"""The package without what only POSIX has, as far as that can be tried on POSIX."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def posixless(program, tmp_path):
    [python, *_], environment = program()

    def run(*arguments, **options):
        return subprocess.run(
            [python, Path(__file__).with_name('posixless.py'), *map(str, arguments)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            check=True,
            **options,
        )

    return run


def test_every_module_is_imported_and_files_go_both_ways(posixless, storj, bucket, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / 'a').write_bytes(data)
    posixless('cp', 'a', f'storj://{bucket}/dir/a')
    posixless('sync', f'storj://{bucket}/', 'back')
    assert (tmp_path / 'back' / 'dir' / 'a').read_bytes() == data
    assert storj('transfer', 'list', '--json').json() == []
    assert posixless('cat', f'storj://{bucket}/dir/a').stdout == data
    posixless('cp', '-', f'storj://{bucket}/stream', input=b'from a pipe')
    assert storj('cat', f'storj://{bucket}/stream').raw == b'from a pipe'
