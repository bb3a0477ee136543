"""``storj metadisk`` against a real node."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip('aiohttp')
pytest.importorskip('click')

from storj.cli import progress
from storj.network import Network
from tests.cli.conftest import Storj

REFERENCE = (
    '0c12e76f671e6056b3be9af526acf1f6ca3d42d9066c811c9bceae560f3791cc'
    '?key=31292df8fd0ec1d5c3904fc12a4c90ca1f2425e0aaad1e6171970fddb904a823'
)

Run = Callable[..., 'subprocess.CompletedProcess[bytes]']


@pytest.fixture(scope='module')
def network() -> Iterator[Network]:
    with Network(farmers=2) as network:
        yield network


@pytest.fixture
def run(network: Network, commands: Path, tmp_path: Path) -> Run:
    def run(
        *arguments: str, stdin: bytes = b'', **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [commands / 'storj', 'metadisk', *arguments],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            env={
                'PATH': os.environ['PATH'],
                'HOME': str(tmp_path),
                'STORJ_BRIDGE': network.bridge_url,
                **environment,
            },
            timeout=60,
        )

    return run


def test_file_goes_up_and_comes_back(run: Run, tmp_path: Path) -> None:
    (tmp_path / 'test.dat').write_bytes(b'test data\n')
    up = run('upload', 'test.dat')
    assert (up.returncode, up.stdout.decode(), up.stderr) == (0, f'{REFERENCE}\n', b'')
    (tmp_path / 'test.dat').unlink()
    down = run('download', REFERENCE)
    assert down.returncode == 0, down.stderr
    assert (tmp_path / 'test.dat').read_bytes() == b'test data\n'
    again = run('download', REFERENCE)
    assert again.returncode == 9
    assert b'hint: ' in again.stderr
    assert run('download', REFERENCE, '--overwrite', '--by-node').returncode == 0
    found = json.loads(run('find', REFERENCE, '--json').stdout)
    assert found['filesize'] == 10
    assert found['datetime'].endswith('Z')
    shown = run('find', REFERENCE.partition('?')[0]).stdout.decode()
    assert 'test.dat' in shown
    for place in found['uploads']:
        assert any(
            line.split() == [place['host_name'], '0', place['url']] for line in shown.splitlines()
        )
    assert found['uploads']


def test_pipes_work_both_ways(run: Run) -> None:
    up = run('upload', '-', '--json', stdin=b'test data\n')
    answer = json.loads(up.stdout)
    assert answer['reference'] == REFERENCE
    assert answer['reference'] == f'{answer["filehash"]}?key={answer["key"]}'
    # The reference comes by standard input too: arguments are public on a shared machine.
    down = run('download', '-', '-', stdin=REFERENCE.encode() + b'\n')
    assert (down.returncode, down.stdout, down.stderr) == (0, b'test data\n', b'')


def test_tokens_have_a_balance(run: Run) -> None:
    token = run('token', 'new').stdout.decode().strip()
    assert len(token) == 16
    redeemed = run('token', 'redeem', 'PLEASE', STORJ_METADISK_TOKEN=token)
    assert b'1 GiB' in redeemed.stdout
    assert run('token', 'redeem', 'PLEASE', STORJ_METADISK_TOKEN=token).returncode == 4
    balance = run('token', 'balance', '--json', STORJ_METADISK_TOKEN=token)
    assert json.loads(balance.stdout) == {'balance': 1024**3}
    assert run('token', 'balance').returncode == 1
    assert json.loads(run('token', 'prices', '--json').stdout)[0] == {
        'amount': 107374182400,
        'cents': 500,
    }


def test_status_is_shown(run: Run) -> None:
    assert b'capacity' in run('status').stdout
    assert 'storage' in json.loads(run('status', '--json').stdout)


@pytest.mark.parametrize(
    ('upload', 'shown'),
    [
        ({'host_name': 'a', 'url': 'storj://b', 'shards': [0, 1, 2, 5, 8, 9]}, '0-2, 5, 8-9'),
        ({'host_name': 'a', 'error': True, 'shards': [3]}, '3'),
        ({'host_name': 'gfile_ru', 'url': 'http://x'}, 'all'),
    ],
)
def test_places_are_written_shortly(upload: dict[str, object], shown: str) -> None:
    from storj.cli.metadisk import _place

    place = _place(upload)
    assert (place['host'], place['shards']) == (upload['host_name'], shown)
    assert place['url'] == upload.get('url', 'failed')


@pytest.mark.parametrize(
    ('arguments', 'code'),
    [
        (('download', 'no reference'), 2),
        (('find', 'nothing'), 2),
        (('find', '0' * 64), 5),
        (('download', f'{"0" * 64}?key={"0" * 64}', 'x'), 5),
        (('upload', 'missing'), 5),
        (('status', '--bridge', 'ftp://node'), 1),
        (('status', '--bridge', 'http://127.0.0.1:9'), 6),
    ],
)
def test_failures_have_their_exit_code(run: Run, arguments: tuple[str, ...], code: int) -> None:
    ended = run(*arguments)
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == b''
    assert ended.stderr.startswith(b'storj: ')


def test_json_is_one_document_however_long_it_takes(
    storj: Storj, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, 'STATUS_PERIOD', 0.0)
    (tmp_path / 'a').write_bytes(b'a' * 1_000_000)
    reference = storj('metadisk', 'upload', tmp_path / 'a', '--json').json()['reference']
    done = storj('metadisk', 'download', reference, tmp_path / 'b', '--json')
    assert done.json()['size'] == 1_000_000


def test_what_is_no_file_is_not_uploaded(storj: Storj, tmp_path: Path) -> None:
    assert 'is not a regular file' in storj('metadisk', 'upload', tmp_path, code=2).err
    assert 'no such file' in storj('metadisk', 'upload', tmp_path / 'none', code=5).err
