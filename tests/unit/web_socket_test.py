"""The WebSocket client: its documented class, its frames, and farmers of every era."""

from __future__ import annotations

import io
import json
import os
import struct
import threading
from unittest import mock

import pytest
import ws4py.client.threadedclient
from hypothesis import given
from hypothesis import strategies as st
from ws4py.messaging import BinaryMessage

from storj import exception, model, web_socket
from storj.farmer_connection import ChannelLimits, Ticket
from storj.web_socket_frames import Close, Data, FrameParser, Ping, Text

from .scripted_farmer import TOKEN, Connection, ScriptedFarmer, frame

SHARD = os.urandom(200_000)
PROTOCOL = '0.10.0'
QUICK = ChannelLimits(connect=5, first_byte=0.3, acknowledge=0.3, stall=0.3, minimum_rate=0)


def serve(peer: Connection) -> None:
    """Answer a PULL as core 5.1 does."""
    peer.upgrade()
    assert peer.read_frame()[0] == 1
    for start in range(0, len(SHARD), 131072):
        peer.send(frame(2, SHARD[start : start + 131072]))
    peer.close(1000, 'File transfer complete')
    assert peer.read_frame()[0] == 8


def store(peer: Connection) -> None:
    """Answer a PUSH as core 5.1 does."""
    peer.upgrade()
    assert peer.read_frame()[0] == 1
    assert peer.read_shard(len(SHARD)) == SHARD
    peer.close(1000, 'Consignment completed')
    assert peer.read_frame()[0] == 8


def run(farmer: ScriptedFarmer, operation: str = 'PULL', contents=None, **options):
    client = web_socket.Client(
        farmer.pointer(SHARD, operation, protocol=PROTOCOL), contents, **options
    )
    client.connect()
    return client.result(20)


# --- the documented class -----------------------------------------------------------------------


def test_client_is_documented_class():
    assert issubclass(web_socket.Client, ws4py.client.threadedclient.WebSocketClient)
    with ScriptedFarmer() as farmer:
        pointer = farmer.pointer(SHARD)
        target = io.BytesIO()
        client = web_socket.Client(pointer, target)
    assert client.json is pointer
    assert client.file_contents is target


def test_client_tells_where_it_goes_and_looks_nothing_up():
    with ScriptedFarmer() as farmer:
        pointer = farmer.pointer(SHARD)
    pointer['farmer'] |= {'address': 'no-such-farmer.invalid', 'port': 4000}
    client = web_socket.Client(pointer)
    assert client.url == 'ws://no-such-farmer.invalid:4000/'
    assert client.bind_addr == ('no-such-farmer.invalid', 4000)
    with pytest.raises(exception.FarmerUnreachableError, match='no address'):
        client.connect()


def test_pull_collects_the_shard():
    with ScriptedFarmer(serve) as farmer:
        assert run(farmer) == SHARD
    assert farmer.played == 1


def test_pull_writes_to_a_file_in_the_old_way():
    target = io.BytesIO()
    with ScriptedFarmer(serve) as farmer:
        client = web_socket.Client(farmer.pointer(SHARD, protocol=PROTOCOL), target)
        client.connect()
        client.run_forever()
        assert client.terminated
        assert client.result() is None
    assert target.getvalue() == SHARD


@pytest.mark.parametrize('operation', ['PUSH', 'PULL'])
def test_waiting_in_the_old_way_tells_of_a_bad_token(operation):
    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.close(3101, 'The supplied token is not accepted')
        peer.wait_for_end()

    contents = io.BytesIO(SHARD)
    with ScriptedFarmer(script) as farmer:
        client = web_socket.Client(farmer.pointer(SHARD, operation, protocol=PROTOCOL), contents)
        client.connect()
        with pytest.raises(exception.SuppliedTokenNotAcceptedError, match='token'):
            client.run_forever()
        assert client.terminated


def test_waiting_in_the_old_way_tells_of_a_wrong_shard():
    with ScriptedFarmer(serve) as farmer:
        pointer = farmer.pointer(SHARD, protocol=PROTOCOL) | {'hash': '0' * 40}
        client = web_socket.Client(pointer, io.BytesIO())
        client.connect()
        with pytest.raises(exception.IntegrityError):
            client.run_forever()


def test_waiting_in_the_old_way_tells_of_a_farmer_that_is_not_there():
    with ScriptedFarmer() as farmer:
        pointer = farmer.pointer(SHARD, protocol=PROTOCOL)
    client = web_socket.Client(pointer, io.BytesIO())
    with pytest.raises(RuntimeError, match='connect'):
        client.run_forever()
    for call in (client.connect, client.run_forever):
        with pytest.raises(exception.FarmerUnreachableError):
            call()


def test_waiting_in_the_old_way_ends_with_close():
    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.wait_for_end()

    with ScriptedFarmer(script) as farmer:
        client = web_socket.Client(farmer.pointer(SHARD, protocol=PROTOCOL), io.BytesIO())
        client.connect()
        client.close()
        client.run_forever()
        assert client.terminated


def test_pull_takes_a_model():
    with ScriptedFarmer(serve) as farmer:
        client = web_socket.Client(model.FilePointer(**farmer.pointer(SHARD, protocol=PROTOCOL)))
        client.connect()
        assert client.result(20) == SHARD


@pytest.mark.parametrize(
    'contents', [SHARD, bytearray(SHARD), io.BytesIO(SHARD), [SHARD[:7], SHARD[7:]]]
)
def test_push_sends_any_source(contents):
    with ScriptedFarmer(store) as farmer:
        assert run(farmer, 'PUSH', contents) is None
    assert farmer.played == 1


def test_subclass_hears_of_everything():
    heard = []

    class Mine(web_socket.Client):
        def opened(self):
            heard.append('opened')
            super().opened()

        def received_message(self, m):
            assert m.is_binary
            heard.append(len(m.data))

        def closed(self, code, reason=None):
            heard.append((code, reason))

    with ScriptedFarmer(serve) as farmer:
        client = Mine(farmer.pointer(SHARD, protocol=PROTOCOL))
        client.connect()
        client.result(20)
    assert heard[0] == 'opened'
    assert heard[-1] == (1000, 'File transfer complete')
    assert sum(heard[1:-1]) == len(SHARD)


def test_subclass_may_make_the_exchange_itself():
    class Mine(web_socket.Client):
        def opened(self):
            self.send(json.dumps(dict(self.json)))
            self.send(SHARD, binary=True)

    with ScriptedFarmer(store) as farmer:
        pointer = farmer.pointer(SHARD, 'PUSH', protocol=PROTOCOL)
        client = Mine(pointer, b'')
        client.connect()
        client.result(20)
    assert farmer.played == 1


def test_farmer_that_leaves_while_a_subclass_sends_is_an_error():
    class Mine(web_socket.Client):
        def opened(self):
            super().opened()
            while True:
                self.send(SHARD, binary=True)

    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.reset()

    with ScriptedFarmer(script) as farmer:
        client = Mine(farmer.pointer(SHARD, 'PUSH', protocol=PROTOCOL), SHARD)
        client.connect()
        with pytest.raises(exception.FarmerUnreachableError):
            client.result(20)


def test_subclass_whose_farmer_has_the_shard_already_succeeds():
    class Mine(web_socket.Client):
        def opened(self):
            super().opened()
            told.wait(5)
            self.send(SHARD, binary=True)

    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.close(1000, 'Consignment completed')
        told.set()
        peer.wait_for_end()

    told = threading.Event()
    with ScriptedFarmer(script) as farmer:
        client = Mine(farmer.pointer(SHARD, 'PUSH', protocol=PROTOCOL), SHARD)
        client.connect()
        assert client.result(20) is None


def test_result_of_what_was_not_begun_is_told():
    with ScriptedFarmer() as farmer:
        pointer = farmer.pointer(SHARD)
    pointer['farmer'] |= {'address': 'no-such-farmer.invalid'}
    client = web_socket.Client(pointer)
    with pytest.raises(RuntimeError, match='connect'):
        client.result()
    with pytest.raises(exception.FarmerUnreachableError):
        client.connect()
    with pytest.raises(exception.FarmerUnreachableError):
        client.result()


def test_close_stops_the_transfer():
    ready = threading.Event()

    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        ready.set()
        peer.wait_for_end()

    with ScriptedFarmer(script) as farmer:
        client = web_socket.Client(farmer.pointer(SHARD, protocol=PROTOCOL))
        client.connect()
        assert ready.wait(5)
        with pytest.raises(TimeoutError):
            client.result(0)
        client.close()
        with pytest.raises(exception.TransferCancelled):
            client.result(1)


def test_wrong_shard_is_integrity_error():
    with ScriptedFarmer(serve) as farmer:
        pointer = farmer.pointer(SHARD, protocol=PROTOCOL) | {'hash': '0' * 40}
        client = web_socket.Client(pointer)
        client.connect()
        with pytest.raises(exception.IntegrityError, match='hash'):
            client.result(20)


def test_pointer_without_size_is_checked_by_its_hash():
    with ScriptedFarmer(serve) as farmer:
        pointer = farmer.pointer(SHARD, protocol=PROTOCOL)
        del pointer['size']
        client = web_socket.Client(pointer)
        client.connect()
        assert client.result(20) == SHARD


def test_wrong_use_is_refused():
    with ScriptedFarmer() as farmer:
        pointer = farmer.pointer(SHARD)
    with pytest.raises(TypeError, match='contents'):
        web_socket.Client(pointer | {'operation': 'PUSH'})
    with pytest.raises(exception.FarmerError, match='PUSH nor PULL'):
        web_socket.Client(pointer | {'operation': 'FLY'}).connect()
    with pytest.raises(exception.FarmerError, match='names no farmer'):
        web_socket.Client({}).connect()


@pytest.mark.parametrize(
    'pointer',
    [
        {},
        {'farmer': {'address': 'address', 'port': 80}, 'hash': 'hash', 'token': 'token'},
        mock.MagicMock(),
        mock.Mock(channel='ws://127.0.0.1:4000'),
    ],
)
def test_pointer_of_a_unit_test_leads_nowhere(pointer):
    target = io.BytesIO()
    client = web_socket.Client(pointer, target)
    assert client.json is pointer
    client.received_message(BinaryMessage(b'shard'))
    client.closed(1000)
    assert target.getvalue() == b'shard'
    for call in (client.connect, client.connect, client.run_forever):
        with pytest.raises(exception.FarmerError, match='pointer'):
            call()


# --- farmers of every era -----------------------------------------------------------------------

REFUSALS = [
    (3100, 'Failed to parse message', exception.FarmerError, 3100),
    (3101, 'The supplied token is not accepted', exception.SuppliedTokenNotAcceptedError, 10002),
    (3101, 'Channel is already active', exception.SuppliedTokenNotAcceptedError, 10002),
    (
        3102,
        'Calculated hash does not match the expected result',
        exception.HashMismatchError,
        10003,
    ),
    (
        3102,
        'The data transferred exceeds the amount defined in the contract',
        exception.FarmerError,
        3102,
    ),
    (3103, 'Failed to handle the defined operation', exception.FarmerError, 3103),
    (1011, 'disk full', exception.FarmerError, 1011),
    (1001, '', exception.FarmerError, 1001),
    (401, 'Token expired', exception.SuppliedTokenNotAcceptedError, 10002),
]


@pytest.mark.parametrize('operation', ['PUSH', 'PULL'])
@pytest.mark.parametrize(('code', 'reason', 'kind', 'known'), REFUSALS)
def test_close_code_becomes_error(operation, code, reason, kind, known):
    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.close(code, reason)
        peer.wait_for_end()

    contents = SHARD if operation == 'PUSH' else None
    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerError) as caught:
        run(farmer, operation, contents)
    assert type(caught.value) is kind
    assert caught.value.code == known
    assert reason in caught.value.message


@pytest.mark.parametrize('operation', ['PUSH', 'PULL'])
@pytest.mark.parametrize(
    ('status', 'kind'),
    [
        ({'code': 400, 'message': 'no'}, exception.FarmerError),
        ({'code': 401, 'message': 'no'}, exception.SuppliedTokenNotAcceptedError),
        ({'code': 500, 'message': 'no'}, exception.FarmerError),
        ({'message': 'no'}, exception.FarmerError),
        ({'code': True, 'message': 'no'}, exception.FarmerError),
        ('no', exception.FarmerError),
        ([], exception.FarmerError),
    ],
)
def test_status_frame_becomes_error(operation, status, kind):
    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.send(frame(1, json.dumps(status).encode()))
        peer.wait_for_end()

    contents = SHARD if operation == 'PUSH' else None
    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerError) as caught:
        run(farmer, operation, contents)
    assert type(caught.value) is kind
    assert type(caught.value.code) in (int, type(None))


def test_status_frame_of_success_is_answered_by_closing():
    closes = []

    def pull(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.send(frame(2, SHARD) + frame(1, b'{"code":200}'))
        closes.append(peer.read_frame())

    def push(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.read_shard(len(SHARD))
        peer.send(frame(1, b'{"code":200,"message":"Consignment completed"}'))
        closes.append(peer.read_frame())

    with ScriptedFarmer(pull, push) as farmer:
        assert run(farmer) == SHARD
        run(farmer, 'PUSH', SHARD)
    assert closes == [(8, b'\x03\xe8')] * 2


@pytest.mark.parametrize(
    ('sent', 'code', 'answer'),
    [(b'', 1005, 1000), (b'\x01\x91', 10002, 1000), (b'\x0c\x1c', 3100, 3100)],
)
def test_close_is_answered_with_a_code_that_may_be_sent(sent, code, answer):
    told = []

    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.send(frame(8, sent))
        told.append(peer.read_frame())

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerError) as caught:
        run(farmer)
    assert (caught.value.code, told) == (code, [(8, struct.pack('!H', answer))])


def test_shard_already_there_ends_push_before_it_is_sent():
    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.close(1000, 'Consignment completed')
        peer.wait_for_end()

    with ScriptedFarmer(script) as farmer:
        run(farmer, 'PUSH', (bytes(65536) for _ in range(1024)))


def test_push_answers_pings_between_frames():
    pongs = []
    size = 64 * len(SHARD)

    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.send(frame(9, b'are you there?'))
        left = size
        while left:
            kind, payload = peer.read_frame()
            if kind == 10:
                pongs.append(payload)
            else:
                left -= len(payload)
        peer.close(1000)
        peer.wait_for_end()

    with ScriptedFarmer(script) as farmer:
        run(farmer, 'PUSH', (SHARD for _ in range(64)))
    assert pongs == [b'are you there?']


def test_push_answers_pings_while_it_waits_for_the_farmer():
    pongs = []

    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.read_shard(len(SHARD))
        for payload in (b'still', b'there?'):
            peer.send(frame(9, payload))
            pongs.append(peer.read_frame())
        peer.close(1000)
        peer.wait_for_end()

    with ScriptedFarmer(script) as farmer:
        run(farmer, 'PUSH', SHARD)
    assert pongs == [(10, b'still'), (10, b'there?')]


def test_pull_answers_pings_between_data():
    pongs = []

    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        for start in range(0, len(SHARD), 50_000):
            payload = b'ping %d' % start
            peer.send(frame(2, SHARD[start : start + 50_000]) + frame(9, payload))
            # Sends no more before the answer.
            pongs.append(peer.read_frame() == (10, payload))
        peer.close(1000)
        peer.wait_for_end()

    with ScriptedFarmer(script) as farmer:
        assert run(farmer) == SHARD
    assert pongs == [True] * 4


def test_pull_answers_each_of_many_pings():
    pongs = []

    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.send(frame(9, b'one') + frame(9) + frame(2, SHARD) + frame(9, b'x' * 125))
        pongs.extend(peer.read_frame() for _ in range(3))
        peer.close(1000)
        peer.wait_for_end()

    with ScriptedFarmer(script) as farmer:
        assert run(farmer) == SHARD
    assert pongs == [(10, b'one'), (10, b''), (10, b'x' * 125)]


def test_pong_nobody_asked_for_changes_nothing():
    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.send(frame(10, b'x') + frame(2, SHARD) + frame(10))
        peer.close(1000)
        peer.wait_for_end()

    with ScriptedFarmer(script) as farmer:
        assert run(farmer) == SHARD


def test_data_that_comes_with_the_handshake_is_not_lost():
    def script(peer: Connection) -> None:
        peer.upgrade(then=frame(2, SHARD[:100]))
        peer.read_frame()
        peer.send(frame(2, SHARD[100:]))
        peer.close(1000)
        peer.wait_for_end()

    with ScriptedFarmer(script) as farmer:
        assert run(farmer) == SHARD


# --- farmers that misbehave ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ('answer', 'match'),
    [
        (b'HTTP/1.1 404 Not Found\r\n\r\n', 'WebSocket'),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', 'WebSocket'),
        (b'\r\n\r\n', 'WebSocket'),
        (b'HTTP/1.1 4040x No\r\n\r\n', 'WebSocket'),
        (b'HTTP/1.1 101 Yes\r\n\r\n', 'a different handshake'),
        (b'HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: x\r\n\r\n', 'a different handshake'),
        (b'\xff' * 100_000, 'too long'),
        (b'', 'hung up'),
    ],
)
def test_handshake_that_is_none_is_refused(answer, match):
    def script(peer: Connection) -> None:
        peer.read_head()
        peer.send(answer)

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerError, match=match):
        run(farmer)


def test_extension_that_was_not_offered_is_refused():
    def script(peer: Connection) -> None:
        peer.upgrade('Sec-WebSocket-Extensions: permessage-deflate')
        peer.wait_for_end()

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerError, match='extension'):
        run(farmer)


@pytest.mark.parametrize(
    ('moment', 'operation', 'match'),
    [
        ('handshake', 'PULL', 'does not answer the handshake'),
        ('data', 'PULL', 'Time-To-First-Byte'),
        ('end', 'PUSH', 'Time-To-Write-Acknowledgement'),
    ],
)
def test_silent_farmer_is_given_up_for_what_it_owes(moment, operation, match):
    def script(peer: Connection) -> None:
        if moment != 'handshake':
            peer.upgrade()
        peer.wait_for_end()

    limits = ChannelLimits(connect=0.3, first_byte=0.3, acknowledge=0.3)
    with (
        ScriptedFarmer(script) as farmer,
        pytest.raises(exception.FarmerUnreachableError, match=match),
    ):
        run(farmer, operation, SHARD if operation == 'PUSH' else None, limits=limits)


def test_channel_that_is_closed_sends_nothing_more():
    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.wait_for_end()

    with ScriptedFarmer(script) as farmer:
        channel = web_socket.DataChannel(Ticket.of(farmer.pointer(SHARD, 'PUSH')))
        channel.connect()
        channel.close()
        for call in (channel.authorise, lambda _: channel.send_shard([SHARD])):
            with pytest.raises(exception.FarmerUnreachableError, match='closed'):
                call('PUSH')


def test_farmer_that_goes_away_without_a_word_is_unreachable():
    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.send(frame(2, SHARD[:100]))

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerUnreachableError) as found:
        run(farmer)
    assert found.value.code == 1006


@pytest.fixture
def unheard(monkeypatch):
    """What a farmer said is not there yet when a client looks for it, only when it has failed."""
    monkeypatch.setattr(web_socket.FarmerSocket, 'readable', lambda self: False)


@pytest.mark.usefixtures('unheard')
@pytest.mark.parametrize(
    ('last', 'kind'),
    [
        (frame(8, struct.pack('!H', 3101)), exception.SuppliedTokenNotAcceptedError),
        (frame(9, b'?') + frame(8, struct.pack('!H', 1011)), exception.FarmerError),
        (frame(1, b'{"code": 401}'), exception.SuppliedTokenNotAcceptedError),
        (b'', exception.FarmerUnreachableError),
        (frame(9, b'?'), exception.FarmerUnreachableError),
    ],
)
def test_reason_of_a_farmer_that_hangs_up_amid_data_is_reported(last, kind):
    gone = threading.Event()

    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.send(last)
        peer.reset()
        gone.set()

    def shard():
        # Nothing but the first frame is sent before the farmer is gone.
        assert gone.wait(10)
        yield from (SHARD for _ in range(100))

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerError) as caught:
        run(farmer, 'PUSH', shard())
    assert type(caught.value) is kind


def test_farmer_that_hangs_up_amid_data_is_unreachable():
    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.read_shard(len(SHARD))
        peer.reset()

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerUnreachableError) as found:
        run(farmer, 'PUSH', (SHARD for _ in range(1000)))
    assert found.value.code == 1006


@pytest.mark.parametrize('moment', ['amid the data', 'after the data'])
def test_data_nobody_asked_for_ends_a_push(moment):
    told = []
    sent = threading.Event()

    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.read_shard(len(SHARD))
        peer.send(frame(2, b'surprise'))
        sent.set()
        while (heard := peer.read_frame())[0] == 2:
            pass
        told.append(heard)

    def shard():
        yield SHARD
        if moment == 'amid the data':
            # Pieces so small that all of them fit into the connection's buffers: the close frame
            # goes out only where that needs no waiting.
            assert sent.wait(10)
            yield from (b'x' for _ in range(1000))

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerError) as caught:
        run(farmer, 'PUSH', shard())
    assert (caught.value.code, told) == (1002, [(8, struct.pack('!H', 1002))])
    assert 'not requested' in caught.value.message


HOSTILE = [
    (frame(2, b'x', first=0xC0), 1002),
    (frame(2, b'x', first=0xA0), 1002),
    (frame(2, b'xxxxx', masked=0x80), 1002),
    (frame(3, b'x'), 1002),
    (frame(11, b'x'), 1002),
    (frame(9, b'x' * 126), 1002),
    (frame(9, b'x', first=0), 1002),
    (frame(0, b'x'), 1002),
    (frame(2, b'x', first=0) + frame(2, b'y'), 1002),
    (frame(8, b'x'), 1002),
    (frame(1, b'\xff\xfe'), 1007),
    (frame(1, b'x' * 65537), 1009),
    ((frame(1, b'x' * 60_000, first=0) + frame(0, b'x' * 60_000)), 1009),
]


@pytest.mark.parametrize(('sent', 'code'), HOSTILE)
def test_hostile_frame_is_refused_with_its_code(sent, code):
    told = []

    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.send(sent)
        told.append(peer.read_frame())

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerError) as caught:
        run(farmer)
    assert caught.value.code == code
    assert told == [(8, struct.pack('!H', code))]


def test_frame_that_claims_to_be_endless_ends_after_the_size():
    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.send(struct.pack('!BBQ', 0x82, 127, 1 << 62))
        while True:
            peer.send(SHARD)

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.IntegrityError, match='more'):
        run(farmer)


def test_flood_of_pings_ends():
    def script(peer: Connection) -> None:
        peer.upgrade()
        peer.read_frame()
        while True:
            peer.send(frame(9, b'ping') * 100)

    with ScriptedFarmer(script) as farmer, pytest.raises(exception.FarmerError):
        run(farmer, limits=QUICK)


# --- the parser ---------------------------------------------------------------------------------


def events(data: bytes, step: int) -> list:
    parser = FrameParser()
    found = []
    for start in range(0, len(data), step):
        for event in parser.feed(memoryview(data)[start : start + step]):
            # The payload of data is only lent.
            found.append(Data(bytes(event.payload)) if isinstance(event, Data) else event)
    return found


def joined(found: list) -> list:
    """Return events with neighbouring pieces of data put together."""
    whole: list = []
    for event in found:
        if isinstance(event, Data) and whole and isinstance(whole[-1], Data):
            whole[-1] = Data(whole[-1].payload + event.payload)
        else:
            whole.append(event)
    return whole


messages = st.lists(
    st.one_of(
        st.tuples(st.just(2), st.binary(max_size=70_000)),
        st.tuples(st.just(1), st.text(max_size=50).map(lambda t: t.encode('utf-8', 'replace'))),
        st.tuples(st.just(9), st.binary(max_size=125)),
        st.tuples(st.just(10), st.binary(max_size=125)),
    ),
    max_size=6,
)


@given(messages, st.integers(1, 5000), st.booleans())
def test_parser_finds_messages_wherever_they_are_cut(sent, step, fragmented):
    wire, expected = b'', []
    for kind, payload in sent:
        if fragmented and kind < 8:
            half = len(payload) // 2
            wire += frame(kind, payload[:half], first=0)
            wire += frame(9, b'in between') + frame(0, payload[half:])
            expected += [Data(payload[:half])] if kind == 2 and half else []
            expected.append(Ping(b'in between'))
            expected += [Data(payload[half:])] if kind == 2 and payload else []
        else:
            wire += frame(kind, payload)
            expected += [Data(payload)] if kind == 2 and payload else []
        expected += [Text(payload.decode())] if kind == 1 else []
        expected += [Ping(payload)] if kind == 9 else []
    wire += frame(8, struct.pack('!H', 1000) + 'schön'.encode())
    expected.append(Close(1000, 'schön'))
    assert joined(events(wire, step)) == joined(expected)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_parser_takes_any_bytes(data, step):
    code = 1002
    try:
        events(data, step)
    except exception.FarmerError as error:
        code = error.code
    assert code in (1002, 1007, 1009)


def test_text_of_64_kib_is_the_longest():
    longest = 'x' * 65536
    assert events(frame(1, longest.encode()), 9999) == [Text(longest)]
    with pytest.raises(exception.FarmerError):
        events(frame(1, longest.encode() + b'x'), 9999)


def test_close_without_code_or_with_broken_text_is_read():
    assert events(frame(8), 10) == [Close(1005, '')]
    assert events(frame(8, b'\x03\xe8\xff'), 1) == [Close(1000, '\ufffd')]


def test_parser_lends_pieces_of_what_it_was_given():
    data = memoryview(bytearray(frame(2, bytes(100_000))))
    (found,) = FrameParser().feed(data)
    assert found.payload.obj is data.obj


def test_token_goes_to_the_farmer_only():
    with ScriptedFarmer() as farmer:
        pointer = farmer.pointer(SHARD)
    assert TOKEN not in repr(web_socket.Client(pointer))
