"""The client against servers that misbehave, over real sockets on the loopback interface."""

from __future__ import annotations

import contextlib
import gzip
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from storj import exception, http, transfer
from storj.metadisk import MetaDisk
from storj.rest import connection, decoding, transport
from tests.unit.scripted_farmer import Connection, ScriptedFarmer

QUICK = http.Retries(count=0)
CLOSING = b'HTTP/1.0 200 OK\r\n\r\n["cut'


class Server:
    """Accepts connections and lets a function answer each of them."""

    def __init__(
        self,
        answer: Callable[[socket.socket, threading.Event], object],
        address: tuple[str, int] = ('127.0.0.1', 0),
    ) -> None:
        self._answer = answer
        self._listener = socket.create_server(address)
        self.port = self._listener.getsockname()[1]
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.heads: list[bytes] = []
        self.url = f'http://127.0.0.1:{self._listener.getsockname()[1]}/'

    def __enter__(self) -> Server:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        # Closing alone does not wake a thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _start(self, work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            self._start(lambda connection=connection: self._serve(connection))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            head = b''
            # A handshake of TLS is answered as plain servers do.
            while b'\r\n\r\n' not in head and not head.startswith(b'\x16'):
                piece = connection.recv(65536)
                if not piece:
                    return
                head += piece
            self.heads.append(head)
            self._answer(connection, self._stop)


def sends(data: bytes) -> Callable[[socket.socket, threading.Event], object]:
    return lambda connection, stop: connection.sendall(data)


@contextlib.contextmanager
def answering(
    answer: bytes | Callable[[socket.socket, threading.Event], object],
) -> Iterator[http.Client]:
    with (
        Server(sends(answer) if isinstance(answer, bytes) else answer) as server,
        http.Client('e@x', 'pw', server.url, timeout=(5, 5), retries=QUICK) as client,
    ):
        yield client


def with_length(body: bytes, extra: bytes = b'', length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b'HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b' % (extra, size, body)


def test_certificates_that_cannot_be_read_are_an_error_of_ours(tmp_path: Path) -> None:
    missing = str(tmp_path / 'missing')
    with (
        http.Client('e@x', 'pw', 'https://127.0.0.1:1/', verify=missing) as client,
        pytest.raises(exception.BridgeUnreachableError, match='certificates') as caught,
    ):
        client.info()
    assert not caught.value.retryable


@pytest.mark.parametrize(
    'answer',
    [
        with_length(b'["k"]'),
        with_length(gzip.compress(b'["k"]'), b'Content-Encoding: gzip\r\n'),
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n["\r\n3\r\nk"]\r\n0\r\n\r\n',
        b'HTTP/1.0 200 OK\r\n\r\n["k"]',
    ],
    ids=['length', 'gzip', 'chunked', 'close'],
)
def test_answer_of_every_framing_is_read(answer: bytes) -> None:
    with answering(answer) as client:
        assert client._request(method='GET', path='/x') == ['k']


@pytest.mark.parametrize(
    'answer',
    [
        b'',
        b'nonsense\r\n\r\n',
        with_length(b'["k"', length=500),
        with_length(
            gzip.compress(b'["k"]' * 999)[:-20], b'Content-Encoding: gzip\r\n', length=9999
        ),
        with_length(b'not gzip', b'Content-Encoding: gzip\r\n'),
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n["k"',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n',
        b'HTTP/1.1 200 OK\r\n' + b'x: ' + b'y' * 100_000 + b'\r\n\r\n',
        b'HTTP/1.1 200 OK\r\n' + b'x: y\r\n' * 500 + b'\r\n',
    ],
    ids=[
        'nothing',
        'nonsense',
        'cut',
        'cut gzip',
        'no gzip',
        'cut chunk',
        'bad chunk',
        'negative chunk',
        'long',
        'many',
    ],
)
def test_damaged_answer_is_an_unreachable_bridge(answer: bytes) -> None:
    with answering(answer) as client, pytest.raises(exception.BridgeUnreachableError) as caught:
        client._request(method='GET', path='/x')
    assert caught.value.retryable


@pytest.mark.parametrize('call', ['status', 'download'])
def test_node_whose_chunk_is_negative_is_unreachable(call: str, tmp_path: Path) -> None:
    def answer(peer: Connection) -> None:
        peer.read_head()
        peer.send(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n')

    reference = f'{"0" * 64}?key={"0" * 64}'
    arguments = () if call == 'status' else (reference, tmp_path / 'out')
    # A download is taken up again where it broke off.
    with (
        ScriptedFarmer(*[answer] * 10) as farmer,
        MetaDisk(f'http://127.0.0.1:{farmer.port}') as node,
        pytest.raises(exception.BridgeUnreachableError),
    ):
        getattr(node, call)(*arguments)


def test_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, 'ANSWER_LIMIT', 1_000_000)

    def pour(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b'HTTP/1.1 200 OK\r\n\r\n')
        while not stop.is_set():
            connection.sendall(b' ' * 65536)

    with (
        answering(pour) as client,
        pytest.raises(exception.BridgeUnavailableError, match='longer'),
    ):
        client._request(method='GET', path='/x')


def test_gzip_bomb_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, 'ANSWER_LIMIT', 1_000_000)
    bomb = gzip.compress(b' ' * 50_000_000)
    answer = with_length(bomb, b'Content-Encoding: gzip\r\n')
    with (
        answering(answer) as client,
        pytest.raises(exception.BridgeUnavailableError, match='longer'),
    ):
        client._request(method='GET', path='/x')


def trickles(head: bytes, piece: bytes) -> Callable[[socket.socket, threading.Event], object]:
    def answer(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(head)
        while not stop.wait(0.02):
            connection.sendall(piece)

    return answer


@pytest.mark.parametrize(
    'head',
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n',
        b'HTTP/1.0 200 OK\r\n\r\n',
    ],
    ids=['length', 'chunked', 'close'],
)
def test_body_that_trickles_is_cut_off(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr(transport, 'ANSWER_TIME', 0.3)
    began = time.monotonic()
    with (
        answering(trickles(head, b' ')) as client,
        pytest.raises(exception.BridgeUnreachableError, match='in time'),
    ):
        client._request(method='GET', path='/x')
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ('head', 'piece'),
    [
        (b'', b'H'),
        (b'HTTP/1.1 200 OK\r\n', b'x'),
        (b'HTTP/1.1 200 OK\r\n', b'x: y\r\n'),
        (b'', b'HTTP/1.1 100 Continue\r\n\r\n'),
    ],
    ids=['status', 'line', 'lines', 'interim'],
)
def test_head_that_trickles_is_cut_off(head: bytes, piece: bytes) -> None:
    began = time.monotonic()
    with (
        Server(trickles(head, piece)) as server,
        http.Client(None, None, server.url, timeout=(5, 0.3), retries=QUICK) as client,
        pytest.raises(exception.BridgeUnreachableError, match='in time'),
    ):
        client.info()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize('beginning', [b'', b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{'])
@pytest.mark.parametrize('call', ['status', 'download'])
def test_close_breaks_a_request_to_a_node_off(call: str, beginning: bytes, tmp_path: Path) -> None:
    asked = threading.Event()
    reference = f'{"0" * 64}?key={"0" * 64}'
    raised: list[BaseException] = []

    def hang(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(beginning)
        asked.set()
        stop.wait(10)

    def ask() -> None:
        try:
            getattr(node, call)(*(() if call == 'status' else (reference, tmp_path / 'out')))
        except BaseException as error:
            raised.append(error)

    with Server(hang) as server, MetaDisk(server.url, timeout=60) as node:
        thread = threading.Thread(target=ask)
        thread.start()
        assert asked.wait(10)
        node.close()
        thread.join(10)
        assert not thread.is_alive()
        assert len(server.heads) == 1
    assert [type(error) for error in raised] == [exception.ClientError]


def test_head_of_a_node_that_trickles_is_cut_off() -> None:
    with (
        Server(trickles(b'HTTP/1.1 200 OK\r\n', b'x')) as server,
        MetaDisk(server.url, timeout=(5, 0.3)) as node,
        pytest.raises(exception.BridgeUnreachableError),
    ):
        node.status()


def test_head_of_a_proxy_that_trickles_is_cut_off() -> None:
    began = time.monotonic()
    with (
        Server(trickles(b'HTTP/1.1 200 Connection established\r\n', b'x')) as proxy,
        http.Client(
            None,
            None,
            'https://bridge.invalid/',
            proxy=proxy.url,
            trust_env=False,
            timeout=(5, 0.3),
            retries=QUICK,
        ) as client,
        pytest.raises(exception.BridgeUnreachableError),
    ):
        client.info()
    assert time.monotonic() - began < 5


def test_time_of_one_answer_is_not_taken_from_the_next() -> None:
    now = [0.0]

    def twice(connection: socket.socket, stop: threading.Event) -> None:
        for _ in range(2):
            # Together they take longer than one may.
            now[0] += transport.ANSWER_TIME - 100
            connection.sendall(with_length(b'["k"]'))
            connection.recv(65536)

    with (
        Server(twice) as server,
        http.Client(
            None,
            None,
            server.url,
            timeout=(5, 500),
            retries=http.Retries(count=0, clock=lambda: now[0]),
        ) as client,
    ):
        assert client._request(method='GET', path='/x') == ['k']
        assert client._request(method='GET', path='/x') == ['k']
        assert len(server.heads) == 1


# -- closing ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def asking(client: http.Client) -> Iterator[list[BaseException]]:
    """Ask a bridge within a thread, which must have ended at the end; yield what it raised."""
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            client.info()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    yield raised
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    'beginning',
    [b'', b'HTTP/1.1 200 ', b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[', CLOSING],
    ids=['nothing', 'head', 'length', 'close'],
)
def test_close_breaks_a_request_off(beginning: bytes) -> None:
    asked = threading.Event()

    def hang(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(beginning)
        asked.set()
        stop.wait(10)

    with Server(hang) as server:
        client = http.Client('e@x', 'pw', server.url, timeout=60)
        with asking(client) as raised:
            assert asked.wait(10)
            client.close()
        assert [type(error) for error in raised] == [exception.ClientError]
        assert 'client was closed' in str(raised[0])
        assert len(server.heads) == 1


def test_close_breaks_a_handshake_of_tls_off() -> None:
    greeted = threading.Event()

    def hang(connection: socket.socket, stop: threading.Event) -> None:
        greeted.set()
        stop.wait(10)

    with Server(hang) as server:
        client = http.Client(None, None, server.url.replace('http:', 'https:'), timeout=60)
        with asking(client) as raised:
            assert greeted.wait(10)
            client.close()
        assert [type(error) for error in raised] == [exception.ClientError]


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere the attempt lasts its time')
def test_close_breaks_a_connection_attempt_off(monkeypatch: pytest.MonkeyPatch) -> None:
    attempted = threading.Event()

    class Socket(socket.socket):
        def connect(self, address: Any) -> None:
            if address == listener.getsockname():
                attempted.set()
            super().connect(address)

    with socket.socket() as listener, socket.socket() as first:
        listener.bind(('127.0.0.1', 0))
        listener.listen(0)
        # The queue is full, so nothing that follows is answered.
        first.connect(listener.getsockname())
        url = f'http://127.0.0.1:{listener.getsockname()[1]}/'
        client = http.Client(None, None, url, timeout=60)
        monkeypatch.setattr(socket, 'socket', Socket)
        with asking(client) as raised:
            assert attempted.wait(10)
            client.close()
        assert [type(error) for error in raised] == [exception.ClientError]


def test_close_ends_the_wait_for_another_attempt() -> None:
    busy = b'HTTP/1.1 503 Busy\r\nRetry-After: 50\r\nContent-Length: 0\r\n\r\n'
    waiting = threading.Event()
    with Server(sends(busy)) as server:
        client = http.Client(None, None, server.url)
        client.logger = logging.Logger('test', logging.WARNING)
        client.logger.addFilter(lambda record: waiting.set() or False)
        with asking(client) as raised:
            assert waiting.wait(10)
            client.close()
        assert [type(error) for error in raised] == [exception.ClientError]


def test_closed_client_can_be_used_again() -> None:
    with answering(with_length(b'["k"]', b'Connection: close\r\n')) as client:
        assert client._request(method='GET', path='/x') == ['k']
        client.close()
        assert client._request(method='GET', path='/x') == ['k']


@contextlib.contextmanager
def hanging_upload() -> Iterator[tuple[http.Client, transfer.TransferFuture[Any], threading.Event]]:
    """Give a client whose upload hangs at the bridge.

    Yields:
        tuple: the client, the upload, and what is set when the bridge is asked something.
    """
    asked = threading.Event()

    def hang(connection: socket.socket, stop: threading.Event) -> None:
        asked.set()
        stop.wait(10)

    with Server(hang) as server:
        client = http.Client(
            'e@x', 'pw', server.url, timeout=60, mnemonic='abandon ' * 11 + 'about'
        )
        yield client, client.transfers.upload('b' * 24, b'content', name='name'), asked


def test_close_ends_transfers_whose_requests_hang() -> None:
    with hanging_upload() as (client, future, asked):
        assert asked.wait(10)
        began = time.monotonic()
        client.close()
        assert time.monotonic() - began < 5
        with pytest.raises(exception.TransferCancelled):
            future.result(5)


@contextlib.contextmanager
def closing_when_done() -> Iterator[
    tuple[http.Client, transfer.TransferFuture[Any], threading.Event, threading.Event]
]:
    """Give a client whose upload hangs at the bridge, and closes the client when it ends.

    Yields:
        tuple: the client, the upload, what is set when the bridge is asked something, and what is
        set once the upload has closed the client.
    """
    called = threading.Event()

    def close(future: Any) -> None:
        client.close()
        called.set()

    with hanging_upload() as (client, future, asked):
        future.add_done_callback(close)
        assert asked.wait(10)
        yield client, future, asked, called


def test_client_may_be_closed_by_what_its_closing_calls() -> None:
    with closing_when_done() as (client, _, asked, called):
        closing = threading.Thread(target=client.close, daemon=True)
        closing.start()
        closing.join(5)
        assert not closing.is_alive()
        assert called.is_set()
        # Nor is the client closed for good by the second.
        asked.clear()
        with asking(client) as raised:
            assert asked.wait(10)
            client.close()
        assert len(raised) == 1


def test_client_may_be_closed_by_the_callback_of_a_transfer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with closing_when_done() as (client, future, _, called):
        # The transfer ends, and calls back, in a thread of the engine.
        assert future.cancel()
        assert called.wait(10)
        client.close()
    assert 'callback' not in caplog.text


def test_silent_bridge_is_given_up() -> None:
    with (
        Server(lambda connection, stop: stop.wait(10)) as server,
        http.Client(None, None, server.url, timeout=0.2, retries=QUICK) as client,
        pytest.raises(exception.BridgeUnreachableError, match='did not answer in time'),
    ):
        client.info()


def test_post_is_tried_again_when_nobody_listens() -> None:
    waits: list[float] = []
    with socket.socket() as taken:
        # Nobody else can listen there meanwhile.
        taken.bind(('127.0.0.1', 0))
        url = f'http://127.0.0.1:{taken.getsockname()[1]}'
        client = http.Client(None, None, url, retries=http.Retries(sleep=waits.append))
        with pytest.raises(exception.BridgeUnreachableError, match='refused'):
            client.frame_create()
    assert len(waits) == 3


def test_post_is_sent_once_when_the_connection_breaks() -> None:
    with Server(sends(b'')) as server, http.Client(None, None, server.url) as client:
        with pytest.raises(exception.BridgeUnreachableError):
            client.frame_create()
        assert len(server.heads) == 1


def test_tls_towards_a_plain_server_is_a_clear_error() -> None:
    with Server(sends(b'HTTP/1.1 400 Bad Request\r\n\r\n')) as server:
        url = server.url.replace('http:', 'https:')
        with (
            http.Client(None, None, url, timeout=5) as client,
            pytest.raises(exception.BridgeUnreachableError, match='certificate is not valid') as e,
        ):
            client.info()
        assert not e.value.retryable


def test_redirect_takes_no_credentials_elsewhere() -> None:
    with Server(sends(with_length(b'[]'))) as other:
        place = other.url.encode()
        moved = b'HTTP/1.1 307 Moved\r\nLocation: %bkeys\r\nContent-Length: 0\r\n\r\n' % place
        with answering(moved) as client, pytest.raises(exception.BridgeUnavailableError):
            client.key_list()
        assert other.heads == []


def test_proxy_of_the_client_is_used() -> None:
    with Server(sends(with_length(b'["k"]'))) as proxy:
        client = http.Client(
            None, None, 'http://bridge.invalid/', proxy=proxy.url, trust_env=False, retries=QUICK
        )
        with client:
            assert client._request(method='GET', path='/x') == ['k']
        assert proxy.heads[0].startswith(b'GET http://bridge.invalid/x HTTP/1.1')


def test_netrc_is_not_asked_for_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / 'netrc'
    netrc.write_text('machine 127.0.0.1 login l password p\n', encoding='ascii')
    monkeypatch.setenv('NETRC', str(netrc))
    with (
        Server(sends(with_length(b'[]'))) as server,
        http.Client(None, None, server.url, retries=QUICK) as client,
    ):
        client.contact_list()
        assert b'authorization' not in server.heads[0].lower()


def test_client_is_shared_by_threads() -> None:
    def echo(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(with_length(b'["k"]', b'Connection: close\r\n'))

    with answering(echo) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client._request(method='GET', path='/x'), range(64)))
    assert answers == [['k']] * 64


@pytest.mark.parametrize('size', [10, 100_000])
def test_head_and_body_of_a_request_are_sent_at_once(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    sent: list[bytes] = []
    send = HTTPConnection.send

    def spy(connection: HTTPConnection, data: bytes) -> None:
        sent.append(bytes(data))
        send(connection, data)

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(with_length(b'{}'))
        # What is left of the request, which must not meet a closed socket.
        while connection.recv(65536):
            pass

    monkeypatch.setattr(HTTPConnection, 'send', spy)
    with answering(answer) as client:
        client._request(method='POST', path='/frames', json={'text': 'x' * size})
    assert len(sent) == 1
    assert sent[0].startswith(b'POST /frames HTTP/1.1')
    assert sent[0].endswith(b'x"}')


# -- a name with several addresses -----------------------------------------------------------------

INFO = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n'
    b'Content-Length: 2\r\n\r\n{}'
)
#: The first and the second address of the name.
FIRST, SECOND = '127.0.0.2', '127.0.0.1'
linux_only = pytest.mark.skipif(
    sys.platform != 'linux', reason='elsewhere the loopback interface has one address'
)


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that means both, in this order."""

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        assert host == 'bridge.example'
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, '')
        return [(*kind, (address, port)) for address in (FIRST, SECOND)]

    monkeypatch.setattr(socket, 'getaddrinfo', look_up)
    return 'bridge.example'


def _no_pause(seconds: float) -> None:
    pytest.fail('there was no need to wait')


@linux_only
def test_address_where_nobody_listens_is_passed_over(two_addresses: str) -> None:
    with Server(sends(INFO)) as server:
        url = f'http://{two_addresses}:{server.port}'
        with http.Client(None, None, url, retries=http.Retries(sleep=_no_pause)) as client:
            # Nothing was sent to the first, so what may be sent once only goes on as well.
            assert client.info() == {}
            client.frame_create()
            assert [head.split()[0] for head in server.heads] == [b'GET', b'POST']


@linux_only
def test_safe_request_goes_to_another_address_if_one_resets(two_addresses: str) -> None:
    waits: list[float] = []
    with Server(sends(INFO)) as good, Server(sends(b''), (FIRST, good.port)) as bad:
        url = f'http://{two_addresses}:{good.port}'
        with http.Client(None, None, url, retries=http.Retries(sleep=waits.append)) as client:
            assert client.info() == {}
            assert client.info() == {}
        # The one that failed is not asked first again.
        assert (len(bad.heads), len(good.heads), len(waits)) == (1, 2, 1)


@linux_only
def test_request_that_may_be_done_twice_stays_with_its_address(two_addresses: str) -> None:
    with Server(sends(INFO)) as good, Server(sends(b''), (FIRST, good.port)) as bad:
        url = f'http://{two_addresses}:{good.port}'
        client = http.Client(None, None, url, retries=http.Retries(sleep=_no_pause))
        with client, pytest.raises(exception.BridgeUnreachableError):
            client.frame_create()
        assert (len(bad.heads), len(good.heads)) == (1, 0)


@linux_only
def test_address_that_hangs_does_not_take_the_time_of_the_next(
    two_addresses: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, '_NEXT_ADDRESS', 0.1)
    attempts: list[str] = []

    class Socket(socket.socket):
        def connect(self, address: Any) -> None:
            # Networks of other tests may have threads that connect meanwhile.
            if address[1] == good.port:
                attempts.append(address[0])
            super().connect(address)

    with Server(sends(INFO)) as good, socket.socket() as listener, socket.socket() as filler:
        listener.bind((FIRST, good.port))
        listener.listen(0)
        # The queue is full, so nothing that follows is answered.
        filler.connect((FIRST, good.port))
        monkeypatch.setattr(socket, 'socket', Socket)
        url = f'http://{two_addresses}:{good.port}'
        with http.Client(None, None, url, timeout=60, retries=QUICK) as client:
            assert client.info() == {}
            assert client.info() == {}
    assert attempts == [FIRST, SECOND, SECOND]


def test_bridge_that_says_when_to_come_back_is_followed_for_a_time() -> None:
    waits: list[float] = []
    busy = (
        b'HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\n'
        b'Content-Length: 0\r\n\r\n'
    )
    answers = iter([busy] * 6 + [INFO])

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(next(answers))

    retries = http.Retries(pause=0.01, sleep=waits.append)
    with Server(answer) as server, http.Client(None, None, server.url, retries=retries) as client:
        assert client.info() == {}
    assert waits == [2] * 6
