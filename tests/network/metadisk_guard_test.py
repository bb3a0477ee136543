"""What keeps a node usable: clients that stand still, pages of other sites, damaged folders."""

from __future__ import annotations

import contextlib
import gzip
import io
import logging
import socket
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

pytest.importorskip('aiohttp')

from storj.exception import AuthenticationError, ConfigurationError
from storj.metadisk import MetaDisk
from storj.network import Network
from storj.network.metadisk import routes
from storj.network.node.state_files import write_record


@pytest.fixture(scope='module')
def url() -> Iterator[str]:
    with Network(farmers=2, metadisk={'spools': 1}) as network:
        yield network.bridge_url


def upload(url: str, **headers: str) -> requests.Response:
    files = {'file': ('a.txt', b'text')}
    return requests.post(f'{url}/api/upload', files=files, headers=headers, timeout=30)


@pytest.mark.parametrize(
    'begun',
    [
        b'',
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf a fi',
        b'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\nhalf a to',
        b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\nhalf of it',
    ],
)
def test_upload_that_stands_still_makes_room_for_others(
    url: str, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, '_STALL', 0.2)
    parts = urlsplit(url)
    head = (
        f'POST /api/upload HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 1000\r\n'
        'Content-Type: multipart/form-data; boundary=x\r\n\r\n'
    )
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as client:
        client.sendall(head.encode() + begun)
        answer = client.recv(4096)
        assert answer.startswith(b'HTTP/1.1 408 ')
        monkeypatch.undo()
        assert upload(url).status_code == 201


def test_upload_that_drips_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, '_STALL', 0.5)
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as client:
        client.sendall(
            f'POST /api/upload HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 1000000\r\n'
            'Content-Type: multipart/form-data; boundary=x\r\n\r\n'
            '--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
        )
        client.settimeout(0.05)
        answer = b''
        # A byte now and then, so that it never stands still; far below a minute's patience.
        for _ in range(200):
            try:
                answer = client.recv(4096)
                break
            except TimeoutError:
                client.sendall(b'.')
        assert answer.startswith(b'HTTP/1.1 408 ')


def test_one_client_leaves_room_for_others() -> None:
    settings = {'spools': 3, 'spools_per_client': 2}
    begun = (
        b'POST /api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n'
        b'Content-Type: multipart/form-data; boundary=x\r\n\r\n'
    )
    with Network(farmers=2, metadisk=settings) as network, contextlib.ExitStack() as stack:
        parts = urlsplit(network.bridge_url)
        clients = [
            stack.enter_context(socket.create_connection((parts.hostname, parts.port), timeout=20))
            for _ in range(3)
        ]
        for client in clients:
            client.sendall(begun)
        session = stack.enter_context(requests.Session())
        session.mount('http://', _From('127.0.0.2'))
        files = {'file': ('a.txt', b'text')}
        answer = session.post(f'{network.bridge_url}/api/upload', files=files, timeout=30)
        assert answer.status_code == 201
        for client in clients:
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass


class _From(requests.adapters.HTTPAdapter):
    """Connects from another address of this machine."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *arguments: object, **options: object) -> None:
        super().init_poolmanager(*arguments, **options, source_address=(self._address, 0))


def leave(url: str, request: bytes, answered: bytes) -> None:
    """Send a request and hang up once an answer has begun."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as client:
        client.sendall(request)
        assert client.recv(len(answered)) == answered
        # With a reset, as a browser does.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))


def test_clients_that_go_away_leave_no_trace_in_the_log(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    large = requests.post(f'{url}/api/upload', files={'file': ('a', bytes(20_000_000))}, timeout=30)
    path = f'/api/download/{large.json()["filehash"]}'
    with caplog.at_level(logging.DEBUG):
        leave(url, f'GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n'.encode(), b'HTTP/1.1 200 ')
        leave(
            url,
            b'POST /api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n'
            b'Expect: 100-continue\r\n'
            b'Content-Type: multipart/form-data; boundary=x\r\n\r\n'
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf a fi',
            b'HTTP/1.1 100 ',
        )
        leave(
            url,
            b'POST /accounts/token/redeem/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n'
            b'Expect: 100-continue\r\n'
            b'Content-Type: application/json\r\n\r\n{"promo',
            b'HTTP/1.1 100 ',
        )
        deadline = time.monotonic() + 20
        while caplog.text.count('went away in') < 3 and time.monotonic() < deadline:
            requests.get(f'{url}/health', timeout=30)
    assert caplog.text.count('went away in') == 3
    assert [row for row in caplog.records if row.levelno >= logging.WARNING] == []


def test_pages_of_other_sites_may_not_store_or_pay(url: str) -> None:
    for origin in ('https://evil.example', 'null', f'{url}0'):
        answer = upload(url, Origin=origin)
        assert (answer.status_code, answer.json()) == (403, {'error': 'foreign-origin'})
        answer = requests.post(f'{url}/accounts/token/new', headers={'Origin': origin}, timeout=30)
        assert answer.status_code == 403
    assert upload(url, Origin=url).status_code == 201
    assert upload(url).status_code == 201
    # What changes nothing is open to all, as it was.
    status = requests.get(f'{url}/api/status', headers={'Origin': 'https://a.example'}, timeout=30)
    assert status.status_code == 200


@pytest.mark.parametrize('content', ['{', '[1]', '{"email": 1}', '\xff'])
def test_damaged_secrets_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / 'metadisk').mkdir()
    (tmp_path / 'metadisk' / 'node.json').write_bytes(content.encode('latin-1'))
    with pytest.raises(ConfigurationError, match=r'node\.json'):
        Network(farmers=0, data=tmp_path).start()


def test_damaged_catalogue_is_named(tmp_path: Path) -> None:
    with Network(farmers=0, data=tmp_path):
        pass
    (tmp_path / 'metadisk' / 'node.db').write_bytes(b'no database' * 1000)
    with pytest.raises(ConfigurationError, match=r'node\.db'):
        Network(farmers=0, data=tmp_path).start()


def make_former(folder: Path, network: Network) -> dict[str, list[tuple[object, ...]]]:
    """Put the records of MetaDisk where earlier versions had them; return them."""
    tables = ('balances', 'movements', 'redeemed', 'files', 'traffic')
    rows = {}
    with (
        closing(sqlite3.connect(network.data / 'bridge.db')) as bridge,
        closing(sqlite3.connect(folder / 'node.db')) as former,
    ):
        for table in (f'metadisk_{name}' for name in tables):
            found = f"SELECT sql FROM sqlite_master WHERE name = '{table}'"
            former.execute(bridge.execute(found).fetchone()[0])
            rows[table] = bridge.execute(f'SELECT * FROM {table}').fetchall()
            for row in rows[table]:
                former.execute(f'INSERT INTO {table} VALUES ({", ".join("?" * len(row))})', row)
            bridge.execute(f'DELETE FROM {table}')
        bridge.execute('DELETE FROM metadisk_usage')
        bridge.execute("DELETE FROM secrets WHERE name = 'metadisk'")
        bridge.commit()
        former.commit()
    return rows


def test_records_of_an_earlier_version_are_carried_over_once(tmp_path: Path) -> None:
    folder = tmp_path / 'metadisk'
    with Network(farmers=1, data=tmp_path, bridge={'mirrors': 0}) as network:
        with MetaDisk(network.bridge_url) as node:
            reference = node.upload(b'content')
            token = node.token_new()
            node.redeem('PLEASE', token)
        used = requests.get(f'{network.bridge_url}/api/status', timeout=30).json()['storage']
    rows = make_former(folder, network)
    assert all(rows.values())
    account = (folder / 'node.json').read_bytes()
    for _ in range(2):
        with Network(farmers=1, data=tmp_path, bridge={'mirrors': 0}) as network:
            with MetaDisk(network.bridge_url) as node:
                output = io.BytesIO()
                node.download(reference, output)
                assert output.getvalue() == b'content'
                assert node.balance(token) == 2**30
                with pytest.raises(AuthenticationError):
                    node.redeem('PLEASE', token)
            status = requests.get(f'{network.bridge_url}/api/status', timeout=30).json()
            assert status['storage'] == used
        # The node is the same, and its key still lies where people look for it.
        assert (folder / 'node.json').read_bytes() == account
        assert sorted(path.name for path in folder.iterdir()) == ['node.db-carried', 'node.json']


def test_records_of_an_earlier_version_are_not_left_behind(tmp_path: Path) -> None:
    folder = tmp_path / 'metadisk'
    with Network(farmers=0, data=tmp_path) as network:
        pass
    make_former(folder, network)
    former = (folder / 'node.db').rename(tmp_path / 'elsewhere')
    with pytest.raises(ConfigurationError, match=r'node\.db: is missing'):
        Network(farmers=0, data=tmp_path).start()
    former.rename(folder / 'node.db')
    account = (folder / 'node.json').rename(tmp_path / 'account')
    with pytest.raises(ConfigurationError, match=r'node\.json: is missing'):
        Network(farmers=0, data=tmp_path).start()
    account.rename(folder / 'node.json')
    with Network(farmers=0, data=tmp_path):
        pass
    # Another node's folder is not taken for this one's.
    write_record(folder / 'node.json', dict.fromkeys(('email', 'password', 'api_key'), 'a@b.org'))
    with pytest.raises(ConfigurationError, match='of another MetaDisk node'):
        Network(farmers=0, data=tmp_path).start()
    (folder / 'node.json').unlink()
    with Network(farmers=0, data=tmp_path):
        assert (folder / 'node.json').stat().st_mode & 0o077 == 0


def test_folder_of_the_node_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / 'metadisk').write_bytes(b'')
    with pytest.raises(ConfigurationError, match='metadisk'):
        Network(farmers=0, data=tmp_path).start()


def test_database_of_another_network_is_refused(tmp_path: Path) -> None:
    database = f'sqlite:///{tmp_path / "shared.db"}'
    with Network(farmers=0, data=tmp_path / 'a', database=database):
        pass
    with pytest.raises(ConfigurationError, match='another password'):
        Network(farmers=0, data=tmp_path / 'b', database=database).start()
    with Network(farmers=0, data=tmp_path / 'a', database=database) as again:
        assert again.running


@pytest.mark.parametrize('encoding', ['gzip', 'deflate', 'br', 'nonsense'])
def test_encoded_body_is_refused_in_json(url: str, encoding: str) -> None:
    body = gzip.compress(bytes(1024))
    for path in ('/api/upload', '/users'):
        headers = {'Content-Encoding': encoding}
        answer = requests.post(url + path, data=body, headers=headers, timeout=30)
        assert (answer.status_code, answer.json()) == (
            415,
            {'error': 'Unsupported content encoding'},
        )


@pytest.mark.parametrize('name', [b'a\0b', b'\0'])
@pytest.mark.parametrize('field', [b'filename', b'name'])
def test_nul_in_a_name_of_the_form_is_400(url: str, name: bytes, field: bytes) -> None:
    names = {b'name': b'file', b'filename': b'a.txt', field: name}
    disposition = b'; '.join(b'%s="%s"' % pair for pair in names.items())
    body = b'--x\r\nContent-Disposition: form-data; ' + disposition + b'\r\n\r\ntext\r\n--x--\r\n'
    headers = {'Content-Type': 'multipart/form-data; boundary=x'}
    answer = requests.post(f'{url}/api/upload', data=body, headers=headers, timeout=30)
    assert (answer.status_code, answer.json()) == (400, {'error': 'bad-request'})
