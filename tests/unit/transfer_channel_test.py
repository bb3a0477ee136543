"""Both wires to a farmer: what they carry, and how they bear farmers that misbehave."""

from __future__ import annotations

import json
import os
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storj import exception
from storj.farmer_connection import Ticket, farmer_error
from storj.transfer import channel

from .scripted_farmer import NODE_ID, TOKEN, Connection, ScriptedFarmer, frame

SIZE = 300_000
SHARD = os.urandom(SIZE)
QUICK = channel.ChannelLimits(connect=5, first_byte=0.3, acknowledge=0.3, stall=0.3, minimum_rate=0)
HTTP, WEB_SOCKET = '1.1.0', '0.10.0'

both = pytest.mark.parametrize('protocol', [HTTP, WEB_SOCKET])


def pieces(data: bytes, size: int = 100_000) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def pull(pointer, size=SIZE, **options) -> bytes:
    received = bytearray()
    channel.channel_for(pointer).pull(pointer, size, received.extend, **options)
    return bytes(received)


def push(pointer, chunks=None, size=SIZE, **options) -> None:
    chunks = pieces(SHARD) if chunks is None else chunks
    channel.channel_for(pointer).push(pointer, chunks, size, **options)


# --- HTTP ---------------------------------------------------------------------------------------


def test_http_push_sends_what_farmers_expect():
    seen = {}

    def script(peer: Connection) -> None:
        seen['line'], seen['fields'] = peer.read_head()
        seen['body'] = peer.read(SIZE)
        peer.answer(200, b'{"result":"Consignment completed"}')

    with ScriptedFarmer(script) as farmer:
        pointer = farmer.pointer(SHARD)
        push(pointer)
    assert seen['line'] == f'POST /shards/{pointer["hash"]}?token={TOKEN} HTTP/1.1'
    assert seen['body'] == SHARD
    assert seen['fields']['content-length'] == str(SIZE)
    assert seen['fields']['content-type'] == 'application/octet-stream'
    assert seen['fields']['x-storj-node-id'] == NODE_ID
    assert seen['fields']['host'] == f'127.0.0.1:{farmer.port}'
    assert 'transfer-encoding' not in seen['fields']


@pytest.mark.parametrize('status', [200, 201, 304])
def test_http_push_succeeds_with(status):
    def script(peer: Connection) -> None:
        peer.read_head()
        peer.read(SIZE)
        peer.answer(status)

    with ScriptedFarmer(script) as farmer:
        push(farmer.pointer(SHARD))


REFUSALS = [
    (401, 'The supplied token is not accepted', exception.SuppliedTokenNotAcceptedError),
    (401, 'Token has expired', exception.SuppliedTokenNotAcceptedError),
    (
        400,
        'Calculated hash does not match the expected result',
        exception.HashMismatchError,
    ),
    (400, 'Shard exceeds the amount defined in the contract', exception.FarmerError),
    (404, 'no such contract', exception.FarmerError),
    (302, 'over there', exception.FarmerError),
    (503, 'No space left', exception.FarmerError),
]


@pytest.mark.parametrize(('status', 'text', 'kind'), REFUSALS)
def test_http_refusal_becomes_error(status, text, kind):
    def script(peer: Connection) -> None:
        peer.read_head()
        peer.answer(status, json.dumps({'result': text}).encode(), 'Location: http://127.0.0.1:1/')

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerError) as caught:
        pull(farmer.pointer(SHARD))
    assert type(caught.value) is kind
    assert caught.value.message == text
    assert caught.value.code in (status, kind.CODE)


def test_words_of_a_farmer_do_not_drive_a_terminal():
    error = farmer_error(500, 'disk\x1b]0;owned\x07 full\r\n\x9b2J')
    assert error.message == r'disk\x1b]0;owned\x07 full \x9b2J'


def test_http_refusal_before_the_body_is_heard():
    size = 64 * 1024 * 1024
    taken = []

    def chunks():
        for _ in range(size // 65536):
            taken.append(1)
            yield bytes(65536)

    def script(peer: Connection) -> None:
        peer.read_head()
        peer.answer(401, b'{"result":"Token has expired"}')
        peer.wait_for_end()

    with (
        ScriptedFarmer(script) as farmer,
        pytest.raises(exception.SuppliedTokenNotAcceptedError, match='Token has expired'),
    ):
        push(farmer.pointer(b''), chunks(), size)
    assert len(taken) < size // 65536


def test_http_shard_already_there_ends_push_early():
    def script(peer: Connection) -> None:
        peer.read_head()
        peer.answer(304)
        peer.wait_for_end()

    size = 64 * 1024 * 1024
    with ScriptedFarmer(script) as farmer:
        push(farmer.pointer(b''), (bytes(65536) for _ in range(size // 65536)), size)


def test_http_pull_takes_chunked_answer():
    def script(peer: Connection) -> None:
        line, fields = peer.read_head()
        assert line.startswith('GET /shards/')
        assert fields['x-storj-node-id'] == NODE_ID
        peer.send(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
        for piece in pieces(SHARD, 7777):
            peer.send(b'%x\r\n%s\r\n' % (len(piece), piece))
        peer.send(b'0\r\n\r\n')

    with ScriptedFarmer(script) as farmer:
        assert pull(farmer.pointer(SHARD)) == SHARD


def test_http_answer_that_is_no_http_is_error():
    def script(peer: Connection) -> None:
        peer.read_head()
        peer.send(b'SSH-2.0-OpenSSH\r\n\r\n')

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerError, match='HTTP'):
        pull(farmer.pointer(SHARD))


def test_http_wrong_length_is_told_before_the_body():
    def script(peer: Connection) -> None:
        peer.read_head()
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n')
        peer.wait_for_end()

    with (
        ScriptedFarmer(script) as farmer,
        pytest.raises(exception.IntegrityError, match='has 5 of'),
    ):
        pull(farmer.pointer(SHARD))


@pytest.mark.parametrize('field', ['Connection: close', 'Connection: keep-alive'])
def test_http_error_that_is_kept_keeps_no_connection(field):
    ended = threading.Event()

    def script(peer: Connection) -> None:
        peer.read_head()
        peer.answer(200, b'short', field)
        peer.wait_for_end()
        ended.set()

    with ScriptedFarmer(script) as farmer:
        with pytest.raises(exception.IntegrityError) as kept:
            pull(farmer.pointer(SHARD))
        assert ended.wait(5)
    assert kept.value.__traceback__


lines = st.sampled_from(
    [
        b'HTTP/1.1 200 OK\r\n',
        b'HTTP/1.1 401 No\r\n',
        b'HTTP/1.1 100 Continue\r\n\r\n',
        b'HTTP/9.9 200 OK\r\n',
        b'HTTP/1.1 2000 OK\r\n',
        b'Content-Length: 5\r\n',
        b'Content-Length: -5\r\n',
        b'Content-Length: 5, 6\r\n',
        b'Transfer-Encoding: chunked\r\n',
        b'Connection: close\r\n',
        b'X: \xff\xfe\r\n',
        b': no name\r\n',
        b'\r\n',
        b'5\r\nhello\r\n',
        b'-5\r\n',
        b'ffffffffffffffffff\r\n',
        b'zz\r\n',
        b'0\r\n\r\n',
        b'{"result": 5}',
        b'LONG',
    ]
)


@settings(max_examples=60)
@given(st.lists(lines | st.binary(max_size=20), max_size=8).map(b''.join))
def test_any_http_answer_is_a_shard_or_an_error_of_ours(answer):
    def script(peer: Connection) -> None:
        peer.read_head()
        peer.send(answer.replace(b'LONG', b'x' * 70_000))
        peer.socket.shutdown(socket.SHUT_WR)
        peer.wait_for_end()

    with ScriptedFarmer(script) as farmer:
        pointer = farmer.pointer(b'hello')
        try:
            assert len(pull(pointer, 5)) == 5
        except (exception.FarmerError, exception.IntegrityError):
            pass


@pytest.mark.parametrize('chunk', [b'-5', b'-1', b'-' + b'f' * 20, b'1000'])
def test_http_chunk_longer_than_the_shard_is_a_farmer_error(chunk):
    def script(peer: Connection) -> None:
        peer.read_head()
        peer.send(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
        peer.send(chunk + b'\r\n' + b'x' * 5000)
        peer.wait_for_end()

    wrong = (exception.FarmerError, exception.IntegrityError)
    with ScriptedFarmer(script) as farmer, pytest.raises(wrong):
        pull(farmer.pointer(b'hello'), 5)


def test_http_flood_of_interim_answers_ends():
    def script(peer: Connection) -> None:
        peer.read_head()
        while True:
            peer.send(b'HTTP/1.1 100 Continue\r\n\r\n' * 100)

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerUnreachableError):
        pull(farmer.pointer(SHARD), limits=QUICK)


# --- WebSocket ----------------------------------------------------------------------------------


def authorised(peer: Connection, operation: str) -> None:
    peer.upgrade()
    kind, payload = peer.read_frame()
    assert kind == 1
    assert json.loads(payload).keys() == {'token', 'hash', 'operation'}
    assert json.loads(payload)['operation'] == operation


def test_web_socket_push_and_pull():
    def store(peer: Connection) -> None:
        authorised(peer, 'PUSH')
        assert peer.read_shard(SIZE) == SHARD
        peer.close(1000, 'Consignment completed')
        assert peer.read_frame() == (8, b'\x03\xe8')

    def send(peer: Connection) -> None:
        authorised(peer, 'PULL')
        for piece in pieces(SHARD, 131072):
            peer.send(frame(2, piece))
        peer.close(1000, 'File transfer complete')

    with ScriptedFarmer(store, send) as farmer:
        push(farmer.pointer(SHARD, protocol=WEB_SOCKET))
        assert pull(farmer.pointer(SHARD, protocol=WEB_SOCKET)) == SHARD
    assert farmer.played == 2


# --- both ---------------------------------------------------------------------------------------


def http_shard(peer: Connection) -> None:
    peer.read_head()
    peer.answer(200, SHARD)


def web_socket_shard(peer: Connection) -> None:
    # The first frame comes with the answer to the handshake.
    peer.upgrade(then=frame(2, SHARD))
    peer.read_frame()
    peer.close(1000, 'File transfer complete')


@pytest.mark.parametrize(('protocol', 'send'), [(HTTP, http_shard), (WEB_SOCKET, web_socket_shard)])
def test_piece_may_be_changed_by_the_sink(protocol, send):
    received = bytearray()

    def sink(piece: memoryview) -> None:
        received.extend(piece)
        piece[:] = bytes(len(piece))

    with ScriptedFarmer(send) as farmer:
        pointer = farmer.pointer(SHARD, protocol=protocol)
        channel.channel_for(pointer).pull(pointer, SIZE, sink)
    assert received == SHARD


def silent(peer: Connection) -> None:
    """Take what comes and say nothing."""
    peer.wait_for_end()


def trickle(protocol: str, pause: threading.Event):
    """Send a byte now and then."""

    def script(peer: Connection) -> None:
        if protocol == HTTP:
            peer.read_head()
            peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % SIZE)
        else:
            authorised(peer, 'PULL')
        while not pause.wait(0.05):
            peer.send(b'x' if protocol == HTTP else frame(2, b'x'))

    return script


@both
def test_farmer_that_never_answers_is_given_up(protocol):
    limits = channel.ChannelLimits(connect=0.3, first_byte=0.3, acknowledge=0.3, stall=0.3)
    with ScriptedFarmer(silent) as farmer, pytest.raises(exception.FarmerUnreachableError):
        pull(farmer.pointer(SHARD, protocol=protocol), limits=limits)


@both
def test_farmer_that_trickles_is_given_up(protocol):
    over = threading.Event()
    limits = channel.ChannelLimits(stall=0.5, minimum_rate=1000)
    with ScriptedFarmer(trickle(protocol, over)) as farmer:
        with pytest.raises(exception.FarmerUnreachableError, match='bytes a second'):
            pull(farmer.pointer(SHARD, protocol=protocol), limits=limits)
        over.set()


@both
def test_farmer_that_stops_reading_is_given_up(protocol):
    over = threading.Event()

    def script(peer: Connection) -> None:
        if protocol == WEB_SOCKET:
            peer.upgrade()
        over.wait(20)

    size = 64 * 1024 * 1024
    chunks = (bytes(65536) for _ in range(size // 65536))
    with ScriptedFarmer(script) as farmer:
        with pytest.raises(exception.FarmerUnreachableError, match='no byte'):
            push(farmer.pointer(b'', protocol=protocol), chunks, size, limits=QUICK)
        over.set()


@both
def test_farmer_that_never_acknowledges_is_given_up(protocol):
    def script(peer: Connection) -> None:
        if protocol == WEB_SOCKET:
            peer.upgrade()
        peer.wait_for_end()

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerUnreachableError):
        push(farmer.pointer(SHARD, protocol=protocol), limits=QUICK)


@both
def test_endless_body_ends_after_the_size(protocol):
    def script(peer: Connection) -> None:
        if protocol == HTTP:
            peer.read_head()
            peer.send(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n')
        else:
            authorised(peer, 'PULL')
        while True:
            peer.send(SHARD if protocol == HTTP else frame(2, SHARD))

    received = []
    with ScriptedFarmer(script) as farmer:
        pointer = farmer.pointer(SHARD, protocol=protocol)
        with pytest.raises(exception.IntegrityError, match='more than'):
            channel.channel_for(pointer).pull(
                pointer, SIZE - 1, lambda piece: received.append(len(piece))
            )
    assert sum(received) < SIZE


@both
def test_short_shard_is_integrity_error(protocol):
    def script(peer: Connection) -> None:
        if protocol == HTTP:
            peer.read_head()
            peer.send(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n' + SHARD)
        else:
            authorised(peer, 'PULL')
            peer.send(frame(2, SHARD))
            peer.close(1000)

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.IntegrityError):
        pull(farmer.pointer(SHARD, protocol=protocol), SIZE + 1)


@both
@pytest.mark.parametrize('brought', [SIZE - 1, SIZE + 1])
def test_source_of_another_size_is_integrity_error(protocol, brought):
    def script(peer: Connection) -> None:
        if protocol == WEB_SOCKET:
            peer.upgrade()
        peer.wait_for_end()

    chunks = pieces((SHARD + b'x')[:brought])
    with ScriptedFarmer(script) as farmer, pytest.raises(exception.IntegrityError, match='source'):
        push(farmer.pointer(SHARD, protocol=protocol), chunks)


@both
def test_reset_while_pulling_is_unreachable(protocol):
    def script(peer: Connection) -> None:
        if protocol == HTTP:
            peer.read_head()
            peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % SIZE)
        else:
            authorised(peer, 'PULL')
        peer.reset()

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerUnreachableError):
        pull(farmer.pointer(SHARD, protocol=protocol))


@pytest.mark.parametrize(('protocol', 'send'), [(HTTP, http_shard), (WEB_SOCKET, web_socket_shard)])
def test_address_of_a_kind_that_this_machine_lacks_is_passed_over(protocol, send, monkeypatch):
    look_up = socket.getaddrinfo

    def with_another_kind(*args, **options):
        found = look_up(*args, **options)
        return [(99, *found[0][1:]), *found]

    monkeypatch.setattr(socket, 'getaddrinfo', with_another_kind)
    with ScriptedFarmer(send) as farmer:
        assert pull(farmer.pointer(SHARD, protocol=protocol)) == SHARD


@both
def test_nobody_listening_is_unreachable(protocol):
    with ScriptedFarmer() as farmer:
        pointer = farmer.pointer(SHARD, protocol=protocol)
    with pytest.raises(exception.FarmerUnreachableError, match='no connection'):
        pull(pointer)


@both
@pytest.mark.parametrize('operation', ['push', 'pull'])
def test_cancel_ends_a_wait(protocol, operation):
    waiting, cancelled = threading.Event(), threading.Event()

    def script(peer: Connection) -> None:
        if protocol == WEB_SOCKET:
            peer.upgrade()
            peer.read_frame()
        else:
            peer.read_head()
        waiting.set()
        peer.wait_for_end()

    def run() -> None:
        try:
            if operation == 'push':
                push(pointer, cancelled=cancelled.is_set)
            else:
                pull(pointer, cancelled=cancelled.is_set)
        except BaseException as error:
            failures.append(error)

    failures: list[BaseException] = []
    with ScriptedFarmer(script) as farmer:
        pointer = farmer.pointer(SHARD, protocol=protocol)
        thread = threading.Thread(target=run)
        thread.start()
        assert waiting.wait(5)
        cancelled.set()
        # Far less than what it waits for; a machine under load has its time.
        thread.join(10)
        assert not thread.is_alive()
    assert [type(error) for error in failures] == [exception.TransferCancelled]


@both
def test_error_of_the_sink_passes_through(protocol):
    def script(peer: Connection) -> None:
        if protocol == HTTP:
            peer.read_head()
            peer.answer(200, SHARD)
        else:
            authorised(peer, 'PULL')
            peer.send(frame(2, SHARD))
        peer.wait_for_end()

    def sink(piece: memoryview) -> None:
        raise KeyError('no room')

    with ScriptedFarmer(script) as farmer:
        pointer = farmer.pointer(SHARD, protocol=protocol)
        with pytest.raises(KeyError, match='no room'):
            channel.channel_for(pointer).pull(pointer, SIZE, sink)


@both
def test_pointer_is_checked_before_use(protocol):
    with ScriptedFarmer() as farmer:
        good = farmer.pointer(SHARD, protocol=protocol)
    bad = [
        good | {'farmer': None},
        good | {'hash': 'x' * 40},
        good | {'hash': '../../etc/passwd'},
        good | {'token': TOKEN + '\r\nX: y'},
        good | {'token': ''},
        good | {'token': 'a' * 129},
        good | {'size': -1},
        *(
            good | {'farmer': good['farmer'] | change}
            for change in (
                {'address': 'a b'},
                {'address': 'host/path'},
                {'address': 'user@host'},
                {'address': 'fe80::1%lo'},
                {'address': ''},
                {'address': None},
                {'port': 0},
                {'port': 65536},
                {'port': True},
                {'port': '80x'},
            )
        ),
    ]
    for pointer in bad:
        with pytest.raises(exception.FarmerError, match='pointer'):
            pull(pointer)


def test_shard_of_an_old_client_is_as_long_as_it_likes():
    with ScriptedFarmer() as farmer:
        pointer = farmer.pointer(SHARD) | {'size': 5 * 1024**3}
    assert Ticket.of(pointer).size == 5 * 1024**3
