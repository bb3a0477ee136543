"""The client against nodes that lie, break off, answer in HTML, or are of another year."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from storj.crypto.convergent import content_key, content_stream
from storj.exception import (
    AuthenticationError,
    BridgeUnavailableError,
    BridgeUnreachableError,
    DecryptionError,
    IntegrityError,
    NotFoundError,
    PaymentRequiredError,
    RateLimitedError,
    StorjBridgeApiError,
)
from storj.metadisk import Coin, MetaDisk, Price

CONTENT = b'something that is to be kept\n' * 40_000
HTML = (
    500,
    b'<!DOCTYPE html><title>500 Internal Server Error</title><h1>Internal Server Error</h1>',
)


class Node(ThreadingHTTPServer):
    """A node whose answers a test writes; requests are kept."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.answers: dict[str, Callable[[Handler], None] | tuple[int, bytes]] = {}
        self.requests: list[tuple[str, str, bytes]] = []

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_port}'


class Handler(BaseHTTPRequestHandler):
    server: Node

    def log_message(self, *_: object) -> None: ...

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        self.server.requests.append((self.command, self.path, body))
        path = self.path.partition('?')[0]
        given = self.server.answers.get(path, (404, b'{"error": "file-not-found"}'))
        if callable(given):
            given(self)
        else:
            self.send(*given)

    do_GET = do_POST = answer

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {'Content_Length': str(len(body)), **headers}.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Node]:
    server = Node()
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def node(server: Node) -> Iterator[MetaDisk]:
    with MetaDisk(server.url, token='oiFyR2NcMvaSiNDf', timeout=5) as node:
        yield node


def sealed(content: bytes, counter: int) -> tuple[str, str, bytes]:
    """Return reference, filehash and ciphertext of a content."""
    key = content_key(hashlib.sha256(content).digest())
    ciphertext = bytes(content_stream(key, counter).process(content))
    filehash = hashlib.sha256(ciphertext).hexdigest()
    return f'{filehash}?key={key.hex()}', filehash, ciphertext


def put(server: Node, content: bytes = CONTENT, counter: int = 0) -> str:
    reference, filehash, ciphertext = sealed(content, counter)
    server.answers[f'/api/download/{filehash}'] = (200, ciphertext)
    return reference


@pytest.mark.parametrize('counter', [0, 1])
@pytest.mark.parametrize('size', [0, 1, 16, 262_144, 262_145, len(CONTENT)])
def test_both_counters_are_decrypted_here(
    server: Node, node: MetaDisk, tmp_path: Path, counter: int, size: int
) -> None:
    reference = put(server, CONTENT[:size], counter)
    path = tmp_path / 'copy'
    steps: list[tuple[int, int | None]] = []
    done = node.download(reference, path, progress=lambda *step: steps.append(step))
    assert path.read_bytes() == CONTENT[:size]
    assert (done.size, done.path) == (size, path)
    assert done.counter == (counter if size else 0)
    assert steps[-1:] == ([(size, size)] if size else [])
    # The key stays at home, and nothing but the file is left.
    assert reference.partition('=')[2] not in server.requests[0][1]
    assert list(tmp_path.iterdir()) == [path]


def test_node_may_decrypt_and_is_checked(server: Node, node: MetaDisk) -> None:
    reference, filehash, _ = sealed(CONTENT, 0)
    server.answers[f'/api/download/{filehash}'] = (200, CONTENT)
    output = io.BytesIO()
    assert node.download(reference, output, local=False).counter is None
    assert output.getvalue() == CONTENT
    assert f'key={reference.partition("=")[2]}' in server.requests[0][1]
    server.answers[f'/api/download/{filehash}'] = (200, CONTENT[:-1] + b'!')
    with pytest.raises(IntegrityError):
        node.download(reference, io.BytesIO(), local=False)


def test_changed_bytes_never_reach_the_destination(
    server: Node, node: MetaDisk, tmp_path: Path
) -> None:
    reference, filehash, ciphertext = sealed(CONTENT, 0)
    server.answers[f'/api/download/{filehash}'] = (200, ciphertext[:-1] + b'!')
    path, output = tmp_path / 'copy', io.BytesIO()
    for destination in (path, output):
        with pytest.raises(IntegrityError):
            node.download(reference, destination)
    assert output.getvalue() == b''
    assert list(tmp_path.iterdir()) == []


def test_another_files_key_is_told_from_damage(server: Node, node: MetaDisk) -> None:
    reference = put(server)
    with pytest.raises(DecryptionError):
        node.download(reference.partition('=')[0] + '=' + 'ab' * 32, io.BytesIO())


def test_existing_file_is_kept_when_asked(server: Node, node: MetaDisk, tmp_path: Path) -> None:
    path = tmp_path / 'copy'
    path.write_text('old')
    with pytest.raises(FileExistsError):
        node.download(put(server), path, overwrite=False)
    assert path.read_text() == 'old'
    node.download(put(server), path)
    assert path.read_bytes() == CONTENT


def test_more_bytes_than_allowed_are_not_taken(server: Node, node: MetaDisk) -> None:
    with pytest.raises(IntegrityError):
        node.download(put(server), io.BytesIO(), limit=len(CONTENT) - 1)


@pytest.mark.parametrize('obeys_range', [True, False])
def test_broken_connection_is_taken_up_again(
    server: Node, node: MetaDisk, obeys_range: bool
) -> None:
    reference, filehash, ciphertext = sealed(CONTENT, 0)
    starts: list[int] = []

    def break_off(handler: Handler) -> None:
        match = re.match(r'bytes=(\d+)-', handler.headers.get('Range', ''))
        start = int(match.group(1)) if match and obeys_range else 0
        starts.append(start)
        handler.send_response(206 if start else 200)
        handler.send_header('Content-Length', str(len(ciphertext) - start))
        if start:
            span = f'bytes {start}-{len(ciphertext) - 1}/{len(ciphertext)}'
            handler.send_header('Content-Range', span)
        handler.end_headers()
        end = len(ciphertext) if len(starts) > 2 else start + 300_000 * len(starts)
        handler.wfile.write(ciphertext[start:end])
        handler.close_connection = True

    server.answers[f'/api/download/{filehash}'] = break_off
    output = io.BytesIO()
    node.download(reference, output)
    assert output.getvalue() == CONTENT
    assert len(starts) == 3
    assert (starts[-1] > 0) is obeys_range


def test_connection_that_always_breaks_ends_the_download(server: Node, node: MetaDisk) -> None:
    reference, filehash, ciphertext = sealed(CONTENT, 0)

    def break_off(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header('Content-Length', str(len(ciphertext)))
        handler.end_headers()
        handler.wfile.write(ciphertext[:10])
        handler.close_connection = True

    server.answers[f'/api/download/{filehash}'] = break_off
    with pytest.raises(BridgeUnreachableError) as caught:
        node.download(reference, io.BytesIO())
    assert caught.value.retryable
    assert len(server.requests) == 3


@pytest.mark.parametrize('part', ['bytes 99-200/300', 'bytes */300', None])
def test_another_part_than_asked_for_is_refused(
    server: Node, node: MetaDisk, part: str | None
) -> None:
    reference, filehash, _ = sealed(CONTENT, 0)
    headers = {} if part is None else {'Content_Range': part}
    server.answers[f'/api/download/{filehash}'] = lambda handler: handler.send(
        206, b'x' * 101, **headers
    )
    with pytest.raises(BridgeUnavailableError):
        node.download(reference, io.BytesIO())


@pytest.mark.parametrize(
    ('status', 'body', 'kind', 'message'),
    [
        (404, b'{"error": "file-not-found"}', NotFoundError, 'file-not-found'),
        (404, b'{"error": "File not found"}', NotFoundError, 'File not found'),
        (402, b'{"error": "balance-insufficient"}', PaymentRequiredError, 'balance-insufficient'),
        (401, b'{"status": "invalid-authentication"}', AuthenticationError, None),
        (403, b'{"status": "error"}', AuthenticationError, 'error'),
        (400, b'{"status": "bad-request"}', StorjBridgeApiError, 'bad-request'),
        (429, b'{"error": "too-many-requests"}', RateLimitedError, 'too-many-requests'),
        (*HTML, BridgeUnavailableError, 'Internal Server Error'),
        (413, b'<h1>413 too large</h1>', StorjBridgeApiError, '413 too large'),
        (200, b'<h1>Welcome</h1>', BridgeUnavailableError, 'Welcome'),
        (200, b'[1]', BridgeUnavailableError, 'the answer is no object'),
        (200, b'[' * 100_000, BridgeUnavailableError, None),
        (200, b'{}', BridgeUnavailableError, None),
        (200, b'"' + b'x' * 2_000_000 + b'"', BridgeUnavailableError, None),
        (301, b'', BridgeUnavailableError, None),
        (204, b'', BridgeUnavailableError, None),
    ],
)
def test_refusals_become_errors_of_ours(
    server: Node, node: MetaDisk, status: int, body: bytes, kind: type, message: str | None
) -> None:
    filehash = '0' * 64
    for path in (f'/api/find/{filehash}', '/api/status', '/accounts/token/prices'):
        server.answers[path] = (status, body)
    for ask in (lambda: node.find(filehash), node.status, node.prices):
        with pytest.raises(StorjBridgeApiError) as caught:
            ask()
        assert type(caught.value) is kind
        if message is not None:
            assert caught.value.message == message


def test_unreachable_node_is_told_without_its_secrets() -> None:
    with MetaDisk('http://127.0.0.1:9', timeout=2) as node:
        with pytest.raises(BridgeUnreachableError) as caught:
            node.balance('oiFyR2NcMvaSiNDf')
        assert 'oiFyR2NcMvaSiNDf' not in str(caught.value)
        assert node.url in str(caught.value)


@pytest.mark.parametrize('url', ['', 'node1.metadisk.org', 'ftp://node', 'http://', 'file:///etc'])
def test_url_has_to_be_a_nodes(url: str) -> None:
    with pytest.raises(ValueError):
        MetaDisk(url)


def test_calls_that_make_no_sense_ask_nothing(server: Node) -> None:
    with MetaDisk(server.url) as node:
        for wrong in (
            node.balance,
            lambda: node.redeem('PLEASE'),
            lambda: node.find('../status'),
            lambda: node.download('no reference', io.BytesIO()),
        ):
            with pytest.raises(ValueError):
                wrong()
    assert server.requests == []


STATUS = {
    'bandwidth': {
        'current': {'incoming': 1, 'outgoing': 2},
        'limits': {'incoming': 0, 'outgoing': 0},
        'total': {'incoming': None, 'outgoing': 4},
    },
    'storage': {'capacity': 20, 'used': 5, 'max_file_size': 10},
    'sync': {'cloud_queue': {'count': 0, 'size': 0}, 'blockchain_queue': {'count': 0, 'size': 0}},
}


@pytest.mark.parametrize(
    ('block', 'coin'),
    [
        ({}, None),
        (
            {'datacoin': {'address': 'D', 'balance': 1.5, 'block': 7}},
            Coin('datacoin', 'D', 1.5, 7),
        ),
        ({'datacoin': {'address': 'D', 'balance': 1}}, Coin('datacoin', 'D', 1.0)),
        (
            {'metachains': {'coin': 'florincoin', 'address': 'F', 'block': 9}},
            Coin('florincoin', 'F', None, 9),
        ),
        ({'florincoin': {'address': 'F', 'balance': 2}}, Coin('florincoin', 'F', 2.0)),
    ],
)
def test_status_of_every_year_is_read(
    server: Node, node: MetaDisk, block: dict, coin: Coin | None
) -> None:
    answer = {**STATUS, **block}
    server.answers['/api/status'] = (200, json.dumps(answer).encode())
    status = node.status()
    assert status.coin == coin
    assert (status.capacity, status.used, status.max_file_size) == (20, 5, 10)
    assert (status.incoming, status.outgoing) == (1, 2)
    assert (status.total_incoming, status.total_outgoing) == (0, 4)
    assert status.raw == answer


def test_find_reads_the_record(server: Node, node: MetaDisk) -> None:
    filehash = 'f' * 64
    hosts = [{'host_name': 'gfile_ru', 'url': 'http://x'}, {'host_name': 'ge_tt', 'error': True}]
    record = {
        'datetime': '1409529600',
        'filehash': filehash,
        'filename': 'fffffff_../x',
        'filesize': 7,
        'uploads': hosts,
        'version': '0.2',
    }
    server.answers[f'/api/find/{filehash}'] = (200, json.dumps(record).encode())
    found = node.find(f'{filehash}?key=whatever')
    assert found.datetime.isoformat() == '2014-09-01T00:00:00+00:00'
    assert (found.filesize, found.version, list(found.uploads)) == (7, '0.2', hosts)
    assert found.shards is None
    server.answers[f'/api/find/{filehash}'] = (200, json.dumps({**record, 'shards': 2}).encode())
    assert node.find(filehash).shards == 2
    for change in (
        {'datetime': 'now'},
        {'datetime': '1e99'},
        {'uploads': 3},
        {'filesize': '7'},
        {'shards': [1]},
    ):
        server.answers[f'/api/find/{filehash}'] = (200, json.dumps({**record, **change}).encode())
        with pytest.raises(BridgeUnavailableError):
            node.find(filehash)


def test_accounts_are_asked_as_documented(server: Node) -> None:
    token = 'adF7WFCpQR2EvFkG'
    server.answers = {
        '/accounts/token/new': (200, json.dumps({'token': token}).encode()),
        f'/accounts/token/balance/{token}': (200, b'{"balance": 5}'),
        f'/accounts/token/redeem/{token}': (201, b'{"status": "ok"}'),
        '/accounts/token/prices': (200, b'{"prices": [{"amount": 107374182400, "cost": 500}]}'),
    }
    with MetaDisk(server.url + '/') as node:
        assert node.token_new() == token
        assert token not in repr(node)
        assert node.balance() == 5
        node.redeem('PLEASE')
        assert node.prices() == [Price(107374182400, 500)]
    assert [request[0] for request in server.requests] == ['POST', 'GET', 'POST', 'GET']
    assert json.loads(server.requests[2][2]) == {'promocode': 'PLEASE'}


# -- upload -------------------------------------------------------------------------------------


class Pipe(io.RawIOBase):
    """A source that cannot tell its size."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._content.read(size)

    def seekable(self) -> bool:
        return False


def accept(server: Node, content: bytes = CONTENT, counter: int = 0) -> str:
    reference, filehash, _ = sealed(content, counter)
    body = json.dumps({'filehash': filehash, 'key': reference.partition('=')[2]}).encode()
    server.answers['/api/upload'] = (201, body)
    return reference


@pytest.mark.parametrize('kind', ['path', 'text', 'file', 'bytes', 'pipe', 'middle'])
def test_every_kind_of_source_is_sent_whole(
    server: Node, node: MetaDisk, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / 'a "name" of\tmine.txt'
    path.write_bytes(CONTENT)
    sent = CONTENT[100:] if kind == 'middle' else CONTENT
    reference = accept(server, sent)
    steps: list[tuple[int, int | None]] = []
    with path.open('rb') as file:
        if kind == 'middle':
            file.seek(100)
        source = {
            'path': path,
            'text': str(path),
            'file': file,
            'middle': file,
            'bytes': CONTENT,
            'pipe': Pipe(CONTENT),
        }[kind]
        assert node.upload(source, progress=lambda *step: steps.append(step)) == reference
    assert steps[-1] == (len(sent), len(sent))
    body = server.requests[0][2]
    token, file_part = body.index(b'name="token"'), body.index(b'name="file"')
    assert token < file_part
    assert b'oiFyR2NcMvaSiNDf' in body
    assert body.count(sent) == 1
    named = kind not in ('bytes', 'pipe')
    assert (b'filename="a %22name%22 of\tmine.txt"' in body) is named


def test_names_cannot_break_the_form(server: Node, node: MetaDisk) -> None:
    accept(server)
    node.upload(CONTENT, name='x"\r\n\r\nevil 日本語')
    body = server.requests[0][2]
    assert 'filename="x%22%0D%0A%0D%0Aevil 日本語"'.encode() in body


def test_token_is_taken_when_there_is_none(server: Node) -> None:
    accept(server)
    server.answers['/accounts/token/new'] = (200, b'{"token": "adF7WFCpQR2EvFkG"}')
    with MetaDisk(server.url) as node:
        node.upload(CONTENT)
        node.upload(CONTENT)
        assert node.token == 'adF7WFCpQR2EvFkG'
    assert [path for _, path, _ in server.requests].count('/accounts/token/new') == 1


def test_answer_about_other_bytes_is_not_believed(server: Node, node: MetaDisk) -> None:
    accept(server, b'other bytes')
    with pytest.raises(IntegrityError):
        node.upload(CONTENT)
    server.answers['/api/upload'] = (201, b'{"filehash": "x", "key": "y"}')
    with pytest.raises(BridgeUnavailableError):
        node.upload(CONTENT)


def test_source_that_shrinks_is_an_error(server: Node, node: MetaDisk) -> None:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return b''

    with pytest.raises(IntegrityError):
        node.upload(Shrinking(CONTENT))


def test_source_that_cannot_be_read_is_its_own_error(
    server: Node, node: MetaDisk, tmp_path: Path
) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, 'Input/output error')

    with pytest.raises(OSError, match='Input/output error'):
        node.upload(Broken(CONTENT))
    with pytest.raises(FileNotFoundError):
        node.upload(tmp_path / 'missing')


def test_node_gets_more_time_for_a_larger_upload(
    server: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[tuple[float, float]] = []
    send = requests.Session.send

    def counted(session: requests.Session, *arguments: Any, **options: Any) -> requests.Response:
        waits.append(options['timeout'])
        return send(session, *arguments, **options)

    monkeypatch.setattr(requests.Session, 'send', counted)
    for size in (0, 2**20):
        key = content_key(hashlib.sha256(bytes(size)).digest()).hex()
        answer = json.dumps({'filehash': 'f' * 64, 'key': key}).encode()
        server.answers['/api/upload'] = (201, answer)
        with MetaDisk(server.url, token='x', timeout=(5, 60)) as node:
            node.upload(bytes(size))
    assert waits == [(5, 60), (5, 64)]
