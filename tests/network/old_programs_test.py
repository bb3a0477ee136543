"""Programs in the style of each old release, as a person starts them, against the local network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storj.network import Network

pytestmark = pytest.mark.usefixtures('forked_python')

EXAMPLES = Path(__file__).parents[2] / 'examples'
CONTENT = os.urandom(300_000)

Run = Callable[..., str]


@pytest.fixture(scope='module', params=['0.10', '1.2'])
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """A network of farmers that speak one protocol: WebSocket, then HTTP."""
    with Network(farmers=4, protocol=request.param) as running:
        yield running


@pytest.fixture
def run(network: Network, tmp_path: Path) -> Run:
    clean = {key: value for key, value in os.environ.items() if not key.startswith('STORJ_')}
    environment = {
        **clean,
        **network.environment(),
        'HOME': str(tmp_path / 'home'),
        'PYTHONPATH': str(EXAMPLES.parent),
        'PYTHONWARNINGS': 'error',
    }

    def call(script: str, *arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ''), done.stdout
        return done.stdout

    return call


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / 'photo.bin'
    path.write_bytes(CONTENT)
    return path


def test_managers_of_0_1_5(run: Run, source: Path) -> None:
    assert run('managers.py', source).splitlines() == [
        'buckets: [True]',
        'files: [True]',
        'token: True PULL',
        f'content: {len(CONTENT)} bytes',
        'keys: 1 of SECP256k1',
        'left: []',
    ]


def test_uploader_and_downloader_of_0_3(run: Run, source: Path, tmp_path: Path) -> None:
    said = run('uploader.py', source, tmp_path / 'folder').splitlines()
    assert said == ['1 of 1 shards are stored', str(tmp_path / 'folder' / source.name)]
    assert (tmp_path / 'folder' / source.name).read_bytes() == CONTENT


def test_requests_and_pushes_by_hand(run: Run, source: Path, tmp_path: Path) -> None:
    size = 16 + (len(CONTENT) // 16 + 1) * 16
    said = run('push_by_hand.py', source, tmp_path / 'copy')
    assert said == f'{[(source.name, size)]}\n'
    assert (tmp_path / 'copy').read_bytes() == CONTENT
