"""What keeps a node usable: clients that stand still, pages of other sites, damaged folders."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

pytest.importorskip('aiohttp')

from storj.exception import ConfigurationError
from storj.network import Network
from storj.network.metadisk import routes


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
    (tmp_path / 'metadisk').mkdir()
    (tmp_path / 'metadisk' / 'node.db').write_bytes(b'no database' * 1000)
    with pytest.raises(ConfigurationError, match=r'node\.db'):
        Network(farmers=0, data=tmp_path).start()


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
