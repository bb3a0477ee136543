"""``storj bridge``: a bridge in a process of its own, on a database that others may share."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

pytest.importorskip('aiohttp')
pytest.importorskip('click')

from storj.network.bridge.database import Database
from storj.network.bridge.tables import REVISION
from storj.network.bridge_program import BridgeProgram, _prepared
from storj.network.settings import Endpoint
from tests.cli.conftest import Storj
from tests.network.bridges import Account, eventually


class Program:
    """The running program, and what it says when it is ready."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        self.process = process
        self.ready: dict[str, Any] = json.loads(line)
        self.url: str = self.ready['bridge']

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)

    def metrics(self) -> dict[str, float]:
        """Return what Prometheus would read."""
        lines = requests.get(self.ready['metrics'], timeout=30).text.splitlines()
        pairs = [line.rpartition(' ') for line in lines if not line.startswith('#')]
        return {name: float(value) for name, _, value in pairs}

    def get(self, path: str) -> requests.Response:
        return requests.get(f'{self.url}/{path}', timeout=30)


@contextmanager
def bridge(commands: Path, home: Path, **settings: str) -> Iterator[Program]:
    """Run the program with settings of its environment."""
    variables = {f'STORJ_BRIDGE_{name.upper()}': value for name, value in settings.items()}
    with subprocess.Popen(
        [commands / 'storj', 'bridge', '--json'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={'PATH': os.environ['PATH'], 'HOME': str(home), 'STORJ_BRIDGE_PORT': '0', **variables},
    ) as process:
        try:
            yield Program(process)
        finally:
            process.send_signal(signal.SIGTERM)


def leases(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        (count,) = database.execute('SELECT count(*) FROM leases').fetchone()
    return int(count)


def refuses(url: str) -> bool:
    try:
        requests.get(f'{url}/health', timeout=30)
    except requests.ConnectionError:
        return True
    return False


def test_bridge_serves_and_finishes_what_is_under_way(
    commands: Path, tmp_path: Path, storj: Storj
) -> None:
    path = tmp_path / 'bridge.db'
    url = f'sqlite:///{path}'
    with bridge(commands, tmp_path, database=url, mirrors='0', metrics_port='0') as program:
        assert program.ready['type'] == 'ready'
        assert program.get('ready').json() == {'status': 'ok', 'problems': []}
        assert program.get('health').json()['problems'] == ['no farmer is there']
        with closing(program.connection()) as strange:
            strange.request('PURGE', '/nothing%22x')
            assert strange.getresponse().status == 404
        found = program.metrics()
        assert found['storj_requests_total{method="GET",route="/ready",status="200"}'] == 1
        assert found['storj_request_seconds_count{method="GET",route="/ready"}'] == 1
        assert found['storj_requests_total{method="other",route="none",status="404"}'] == 1
        assert not any('PURGE' in name or 'nothing' in name for name in found)
        eventually(lambda: 'storj_farmers{state="there"}' in program.metrics())
        measured = ('storj_contracts{kind="first"}', 'storj_repairs{state="due"}')
        assert {program.metrics()[name] for name in measured} == {0}
        other = storj('bridge', '--database', url, code=1)
        assert 'another bridge uses it; several need PostgreSQL' in other.err
        body = json.dumps({'email': 'a@example.org', 'password': Account('a').hashed}).encode()
        with closing(program.connection()) as slow:
            slow.putrequest('POST', '/users')
            slow.putheader('Content-Length', str(len(body)))
            slow.endheaders(body[:10])
            # The head has been read when a later request is answered.
            assert program.get('ready').status_code == 200
            with closing(sqlite3.connect(path)) as database, database:
                database.execute("INSERT INTO leases VALUES ('a round', 'somebody', 0)")
                database.execute("UPDATE leases SET owner = 'somebody'")
            os.kill(program.ready['pid'], signal.SIGTERM)
            eventually(lambda: refuses(program.url))
            assert program.process.poll() is None
            slow.send(body[10:])
            assert slow.getresponse().status == 201
        assert program.process.wait(30) == 0
        assert program.process.stderr is not None
        assert program.process.stderr.read() == ''
    database = Database(url)
    try:
        seed = database.secret('renter_seed', lambda: 'none was kept')
    finally:
        database.close()
    assert len(bytes.fromhex(seed)) == 32
    assert not (tmp_path / 'bridge.db.lock').exists()


@pytest.mark.parametrize(
    ('words', 'environment', 'message'),
    [
        ('', {}, 'which database? --database URL, or STORJ_BRIDGE_DATABASE'),
        ('migrate', {}, 'which database?'),
        ('--database sqlite:// --activation mail', {}, '--activation mail needs --smtp, or --data'),
        ('--database sqlite:// --smtp smtp://u:secret@h', {}, 'set STORJ_BRIDGE_SMTP instead'),
        ('--database sqlite://', {'STORJ_BRIDGE_SMTP': 'http://u:secret@h'}, 'mail server'),
        ('--database sqlite:// --host 0.0.0.0', {}, 'needs an address to announce'),
        ('--database sqlite://', {'STORJ_BRIDGE_PORT': '6382x'}, 'STORJ_BRIDGE_PORT'),
        ('--database sqlite:// --port tcp://10.0.0.1:80', {}, '--port'),
        ('--database sqlite:// --tls-key /dev/null', {}, 'needs its certificate'),
        ('--database sqlite://', {'STORJ_BRIDGE_KEY': 'secret-seed'}, '64 hex digits'),
        ('--database sqlite://', {'STORJ_BRIDGE_TRUSTED_PROXY': '10.0.0.1 proxy'}, "'proxy'"),
        ('--database postgresql://u:secret-word@h/d', {}, 'set STORJ_BRIDGE_DATABASE instead'),
    ],
)
def test_settings_that_cannot_be_are_errors_of_usage(
    storj: Storj, words: str, environment: dict[str, str], message: str
) -> None:
    done = storj('bridge', *words.split(), code=2, **environment)
    assert message in done.err
    assert 'secret' not in done.err


def test_port_that_kubernetes_sets_is_no_setting(storj: Storj) -> None:
    # Of a Service of the name storj-bridge; the usage error comes after the options were read.
    ports = {'STORJ_BRIDGE_PORT': 'tcp://10.0.0.1:6382', 'STORJ_BRIDGE_METRICS_PORT': '0'}
    assert 'which database?' in storj('bridge', code=2, **ports).err


@pytest.mark.parametrize(
    ('endpoint', 'proxies', 'warned'),
    [
        (Endpoint('0.0.0.0', address='bridge.example'), (), True),
        (Endpoint('0.0.0.0', address='bridge.example'), ('10.0.0.1',), False),
        (Endpoint('0.0.0.0', address='bridge.example', tls_cert=Path('chain.pem')), (), False),
        (Endpoint('127.0.0.1'), (), False),
    ],
)
def test_bridge_that_others_can_read_on_the_way_warns(
    caplog: pytest.LogCaptureFixture, endpoint: Endpoint, proxies: tuple[str, ...], warned: bool
) -> None:
    _prepared(BridgeProgram('sqlite://', endpoint, bridge={'trusted_proxies': proxies}))
    assert ('without TLS' in caplog.text) is warned


def test_schema_is_brought_up_by_a_command(storj: Storj, tmp_path: Path) -> None:
    path = tmp_path / 'bridge.db'
    url = f'sqlite:///{path}'
    # What there is before the first revision.
    with closing(sqlite3.connect(path)) as database:
        database.execute('CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)')
    done = storj('--json', 'bridge', '--database', url, 'migrate')
    assert done.json() == {'before': '0', 'revision': REVISION}
    new = f'sqlite:///{tmp_path / "new.db"}'
    assert storj('bridge', 'migrate', '--database', new).out == (
        f'made a schema of revision {REVISION}\n'
    )
    assert storj('bridge', 'migrate', STORJ_BRIDGE_DATABASE=url).out == (
        f'the schema is of revision {REVISION}\n'
    )
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '99'")
    assert 'made by a later version' in storj('bridge', 'migrate', '--database', url, code=1).err
