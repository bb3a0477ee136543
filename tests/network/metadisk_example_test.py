"""The example program does what its description says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip('aiohttp')

from storj.network import Network

pytestmark = pytest.mark.usefixtures('forked_python')

ROOT = Path(__file__).parents[2]
REFERENCE = (
    '0c12e76f671e6056b3be9af526acf1f6ca3d42d9066c811c9bceae560f3791cc'
    '?key=31292df8fd0ec1d5c3904fc12a4c90ca1f2425e0aaad1e6171970fddb904a823'
)


@pytest.fixture(scope='module')
def network() -> Iterator[Network]:
    with Network(farmers=2) as network:
        yield network


def run(network: Network, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / 'examples' / 'metadisk.py'), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={
            'PATH': os.environ['PATH'],
            'PYTHONPATH': str(ROOT),
            'NODE_URL': network.bridge_url,
        },
        timeout=60,
    )


def test_file_goes_up_and_comes_back(network: Network, tmp_path: Path) -> None:
    (tmp_path / 'test.dat').write_bytes(b'test data\n')
    up = run(network, tmp_path, 'upload', 'test.dat')
    assert (up.returncode, up.stderr) == (0, '')
    assert up.stdout == f'test.dat is uploaded. key=\n{REFERENCE}\n'
    down = run(network, tmp_path, 'download', REFERENCE, 'copy.dat')
    assert (down.returncode, down.stderr) == (0, '')
    assert down.stdout.endswith('10 bytes are in copy.dat\n')
    assert (tmp_path / 'copy.dat').read_bytes() == b'test data\n'


@pytest.mark.parametrize(
    ('arguments', 'code'),
    [((), 2), (('fly', 'x'), 2), (('upload', 'missing'), 1), (('download', '0' * 64, 'x'), 1)],
)
def test_failures_are_told(
    network: Network, tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    ended = run(network, tmp_path, *arguments)
    assert ended.returncode == code
    assert ended.stdout == ''
    assert 'Traceback' not in ended.stderr
    assert ended.stderr
