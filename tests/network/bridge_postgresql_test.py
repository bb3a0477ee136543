"""The bridge on PostgreSQL: on a server of the test, where programs and a driver are found."""

from __future__ import annotations

import base64
import getpass
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.ports import steady_port
from storj.exception import NetworkSetupError
from storj.network import Network
from storj.network.bridge.database import Database
from tests.network.bridge_database_test import keep_files_over_an_upgrade, use_everything
from tests.network.bridges import Account, RunningBridge, eventually
from tests.network.supervisor_test import download, upload

DRIVERS = ('psycopg', 'psycopg2', 'pg8000')


def program(name: str) -> str | None:
    """Return the path of a program of PostgreSQL; distributions keep them apart."""
    places = sorted(Path('/usr/lib/postgresql').glob(f'*/bin/{name}'))
    return shutil.which(name) or (str(places[-1]) if places else None)


def accepts(url: sa.URL) -> bool:
    engine = sa.create_engine(url)
    try:
        with engine.connect():
            return True
    except sa.exc.OperationalError:
        return False
    finally:
        engine.dispose()


@pytest.fixture(scope='module')
def server() -> Iterator[sa.URL]:
    """A server on the loopback interface, with nothing in it."""
    initdb, postgres = program('initdb'), program('postgres')
    driver = next((name for name in DRIVERS if importlib.util.find_spec(name)), None)
    if initdb is None or postgres is None:
        pytest.skip('no PostgreSQL server on this machine: apt-get install postgresql')
    if driver is None:
        pytest.skip('no driver for PostgreSQL in this environment: pip install "psycopg[binary]"')
    # It refuses to run for the superuser.
    owner = 'nobody' if os.geteuid() == 0 else getpass.getuser()
    folder = Path(tempfile.mkdtemp(prefix='storj-postgresql-'))
    try:
        password = secrets.token_hex(16)
        (folder / 'password').write_text(password)
        for path in (folder, folder / 'password'):
            os.chown(path, pwd.getpwnam(owner).pw_uid, -1)
        port = steady_port()
        data = str(folder / 'data')
        subprocess.run(
            [
                *(initdb, '-D', data, '-U', 'storj', '-E', 'UTF8', '--locale=C', '--no-sync'),
                *('-A', 'scram-sha-256', f'--pwfile={folder / "password"}'),
            ],
            user=owner,
            cwd=folder,
            check=True,
            capture_output=True,
        )
        options = {'listen_addresses': '127.0.0.1', 'unix_socket_directories': '', 'fsync': 'off'}
        url = sa.URL.create(
            f'postgresql+{driver}', 'storj', password, '127.0.0.1', port, 'postgres'
        )
        with (
            (folder / 'log').open('wb') as log,
            subprocess.Popen(
                [
                    *(postgres, '-D', data, '-p', str(port)),
                    *(f'--{name}={value}' for name, value in options.items()),
                ],
                user=owner,
                cwd=folder,
                stderr=log,
            ) as process,
        ):
            try:
                eventually(lambda: process.poll() is not None or accepts(url))
                assert process.poll() is None, (folder / 'log').read_text()
                yield url
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(30)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def url(server: sa.URL) -> str:
    """A fresh database."""
    name = f'test_{secrets.token_hex(4)}'
    engine = sa.create_engine(server, isolation_level='AUTOCOMMIT')
    with engine.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE {name}'))
    engine.dispose()
    return server.set(database=name).render_as_string(hide_password=False)


def test_bridge_does_all_that_it_does(tmp_path: Path, url: str) -> None:
    with RunningBridge(tmp_path, database_url=url, mirrors=1) as bridge:
        use_everything(bridge, bridge.account())
        state = bridge.request('GET', '/status').json
        assert {farmer['bytes'] for farmer in state['farmers']} <= {0, 20000}
        assert state['totals']['bytes'] == 0


def test_files_of_all_names_and_sizes_are_kept_over_a_restart(tmp_path: Path, url: str) -> None:
    names = ['cat.jpg', 'Grüße, 世界 🌍.txt', 'x' * 32767, "'; DROP TABLE entries; --", '%s']
    alice = Account('alice@example.org')
    with RunningBridge(tmp_path, database_url=url) as bridge:
        bridge.farmer()
        bridge.account()
        bucket = bridge.bucket(alice)
        for name in names:
            frame = bridge.frame(alice)
            bridge.add_shard(alice, frame, name.encode(), size=4294967296)
            file = {'frame': frame, 'filename': name}
            path = f'/buckets/{bucket}/files'
            assert bridge.request('POST', path, file, by=alice).status == 200
            assert bridge.request('POST', path, file, by=alice).status == 400
    with RunningBridge(tmp_path, database_url=url) as bridge:
        files = bridge.request('GET', f'/buckets/{bucket}/files', by=alice).json
        assert [file['filename'] for file in files] == names
        assert {file['size'] for file in files} == {4294967296}


def test_database_of_an_earlier_version_is_brought_up(tmp_path: Path, url: str) -> None:
    keep_files_over_an_upgrade(tmp_path, database_url=url)


def test_name_with_nul_is_nobodys(tmp_path: Path, url: str) -> None:
    with RunningBridge(tmp_path, database_url=url) as bridge:
        credentials = base64.b64encode(b'a\0b:password').decode()
        headers = {'authorization': f'Basic {credentials}'}
        assert bridge.request('GET', '/buckets', headers=headers).status == 401


def test_network_keeps_its_records_there(tmp_path: Path, url: str) -> None:
    shards = [os.urandom(20_000) for _ in range(3)]
    options = {'data': tmp_path, 'database': url, 'bridge': {'audit_interval': 0.5}}
    with Network(farmers=2, **options) as network:
        bucket, file, _ = upload(network, shards, 'photos')
    with Network(farmers=2, **options) as network:
        assert download(network, bucket, file) == shards
        assert not (tmp_path / 'bridge.db').exists()


def test_server_that_refuses_is_named_without_the_password(server: sa.URL) -> None:
    wrong = server.set(password='not-the-secret')
    with pytest.raises(NetworkSetupError, match='postgresql') as refused:
        Database(wrong.render_as_string(hide_password=False))
    assert 'not-the-secret' not in str(refused.value)
