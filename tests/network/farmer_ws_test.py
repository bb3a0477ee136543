"""The WebSocket data channel: every row of what a farmer of core 5.1.2 was seen to do."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path

import aiohttp
import pytest

from storj.digest import shard_hash
from tests.network.nodes import DAY, SHARD, SHARD_HASH, pull, push, run, site

UNKNOWN = 'f' * 40
STORED = (1000, 'Consignment completed', [])


def test_first_frame_that_is_no_json_closes_with_3100(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            assert await here.talk('hello') == (3100, 'Failed to parse message', [])
            assert await here.talk('[' * 5000) == (3100, 'Failed to parse message', [])
            assert await here.talk(b'\xff\xfe\xfd') == (3100, 'Failed to parse message', [])

    run(test)


def test_unauthorized_first_frames_close_with_3101(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            cases: list[tuple[str | bytes, str]] = [
                ('{}', 'You did not supply a token'),
                ('5', 'You did not supply a token'),
                (json.dumps(push(UNKNOWN)), 'The supplied token is not accepted'),
                (
                    json.dumps({**push(token), 'token': [token]}),
                    'The supplied token is not accepted',
                ),
                (
                    json.dumps({'token': token, 'operation': 'PUSH'}),
                    'You did not supply the data hash',
                ),
                (json.dumps(push(token, '0' * 40)), 'Token not valid for hash'),
                (json.dumps(push(token, '../../etc/passwd')), 'Token not valid for hash'),
                (json.dumps(push(token, '0' * 40)).encode(), 'Token not valid for hash'),
            ]
            for frame, reason in cases:
                assert await here.talk(frame) == (3101, reason, [])
            # None of these burnt the token.
            assert await here.talk(push(token), SHARD) == STORED

    run(test)


@pytest.mark.parametrize('size', [65537, 1 << 20, 8 << 20])
def test_first_frame_above_64_kib_closes_with_3101(tmp_path: Path, size: int) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            long = json.dumps({**push(token), 'filler': ' ' * size})
            refused = (3101, 'The authorization is too long', [])
            assert await here.talk(long) == refused
            assert await here.talk(long.encode()) == refused
            # It was not read, so the token is as good as before.
            assert await here.talk(push(token), SHARD) == STORED

    run(test)


def test_first_frame_in_fragments_is_refused_before_its_end(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            reader, writer = await asyncio.open_connection('127.0.0.1', here.farmer.port)
            writer.write(
                b'GET / HTTP/1.1\r\nHost: farmer\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n'
                b'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n'
            )
            await reader.readuntil(b'\r\n\r\n')
            # Text that goes on and on in frames of 32 KiB, masked with zeros.
            fragment = b'\xfe' + (32768).to_bytes(2, 'big') + bytes(4) + b' ' * 32768
            writer.write(b'\x01' + fragment)
            closed = asyncio.ensure_future(reader.readexactly(4))
            while not closed.done():
                writer.write(b'\x00' + fragment)
                await writer.drain()
                await asyncio.sleep(0)
            assert closed.result()[0] == 0x88
            assert int.from_bytes(closed.result()[2:], 'big') == 3101
            writer.close()

    run(test)


def test_shard_in_the_same_breath_as_the_first_frame_is_stored(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)

    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token(data)
            async with here.session.ws_connect(here.url) as channel:
                await asyncio.gather(
                    channel.send_json(push(token, shard_hash(data))), channel.send_bytes(data)
                )
                closed = await channel.receive()
            assert (closed.data, closed.extra) == (1000, 'Consignment completed')

    run(test)


def test_expired_token_closes_with_3101(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            here.clock.now += DAY + 1
            assert await here.talk(push(token)) == (3101, 'Token has expired', [])

    run(test)


@pytest.mark.parametrize('operation', ['FLY', 'push', None, 7])
def test_unknown_operation_closes_with_3103_and_burns_the_token(
    tmp_path: Path, operation: object
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            message = {**push(token), 'operation': operation}
            assert await here.talk(message) == (3103, 'Failed to handle the defined operation', [])
            assert await here.talk(push(token), SHARD) == (
                3101,
                'The supplied token is not accepted',
                [],
            )

    run(test)


def test_lost_contract_closes_with_1011(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = here.farmer.tokens.issue(SHARD_HASH, here.renter.node_id)
            assert (await here.talk(push(token)))[0] == 1011
            assert (await here.talk(push(token)))[1] == 'The supplied token is not accepted'

    run(test)


@pytest.mark.parametrize(
    'frames',
    [[SHARD], [SHARD[:4], SHARD[4:8], SHARD[8:]], [SHARD.decode()], [bytes([b]) for b in SHARD]],
    ids=['one', 'three', 'text', 'bytes'],
)
def test_right_data_is_stored_and_uses_the_token_up(
    tmp_path: Path, frames: list[str | bytes]
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            assert await here.talk(push(token), *frames) == STORED
            again = await here.talk(push(token), SHARD)
            assert again == (3101, 'The supplied token is not accepted', [])
            token = await here.renter.retrieve(here.farmer.contact(), SHARD_HASH)
            assert await here.talk(pull(token)) == (1000, 'File transfer complete', [SHARD])

    run(test)


def test_whole_pointer_and_binary_first_frame_are_accepted(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            pointer = {**push(token), 'index': 0, 'size': 9, 'farmer': {'port': 1}}
            assert await here.talk(json.dumps(pointer).encode(), SHARD) == STORED

    run(test)


def test_wrong_data_of_the_right_size_closes_3102_and_ends_the_token(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            reason = 'Calculated hash does not match the expected result'
            assert await here.talk(push(token), b'wrongdata') == (3102, reason, [])
            reason = 'The supplied token is not accepted'
            assert await here.talk(push(token), SHARD) == (3101, reason, [])
            assert not list((tmp_path / 'incoming').iterdir())

    run(test)


def test_one_byte_too_many_closes_with_3102_and_leaves_the_token_busy(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            reason = 'The data transferred exceeds the amount defined in the contract'
            assert await here.talk(push(token), SHARD + b'!') == (3102, reason, [])
            busy = (3101, 'Channel is already active', [])
            assert await here.talk(push(token), SHARD) == busy
            here.clock.now += DAY + 1
            assert await here.talk(push(token), SHARD) == (3101, 'Token has expired', [])

    run(test)


def test_one_byte_too_few_is_waited_for(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            async with here.session.ws_connect(f'{here.url}/') as channel:
                await channel.send_json(push(token))
                await channel.send_bytes(SHARD[:8])
                with pytest.raises(asyncio.TimeoutError):
                    await channel.receive(timeout=0.2)
                await asyncio.sleep(0)
            assert here.farmer.status()['shards'] == 0

    run(test)


def test_dropped_connection_leaves_the_token_busy(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            async with here.session.ws_connect(f'{here.url}/') as channel:
                await channel.send_json(push(token))
                await channel.send_bytes(SHARD[:4])
                # A second one meanwhile. The first frame must have been read before.
                while not here.farmer.channels.active:
                    await asyncio.sleep(0)
                busy = (3101, 'Channel is already active', [])
                assert await here.talk(push(token)) == busy
                channel.get_extra_info('socket').shutdown(socket.SHUT_RDWR)
            while here.farmer.channels.active:
                await asyncio.sleep(0)
            assert await here.talk(push(token), SHARD) == busy
            assert not list((tmp_path / 'incoming').iterdir())

    run(test)


def test_stored_shard_closes_with_1000_before_any_data(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            token = await here.push_token()
            assert await here.talk(push(token)) == STORED
            assert (await here.talk(push(token)))[1] == 'The supplied token is not accepted'

    run(test)


def test_large_shard_is_sent_in_64_and_received_in_128_kib_frames(tmp_path: Path) -> None:
    async def test() -> None:
        data = os.urandom(3 * 1024 * 1024)
        frames = [data[start : start + 65536] for start in range(0, len(data), 65536)]
        name = shard_hash(data)
        async with site(tmp_path) as here:
            token = await here.push_token(data)
            assert await here.talk(push(token, name), *frames) == STORED
            token = await here.renter.retrieve(here.farmer.contact(), name)
            code, reason, received = await here.talk(pull(token, name))
            assert (code, reason) == (1000, 'File transfer complete')
            assert [len(frame) for frame in received] == [131072] * 24
            assert b''.join(received) == data
            again = await here.talk(pull(token, name))
            assert again == (3101, 'The supplied token is not accepted', [])

    run(test)


def test_pull_of_a_missing_shard_keeps_silent(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            async with here.session.ws_connect(f'{here.url}/') as channel:
                await channel.send_json(pull(token))
                with pytest.raises(asyncio.TimeoutError):
                    await channel.receive(timeout=0.2)

    run(test)


def test_ping_during_a_pull_is_answered(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            async with here.session.ws_connect(f'{here.url}/', autoping=False) as channel:
                await channel.send_json(pull(token))
                await channel.ping(b'there?')
                message = await channel.receive(timeout=5)
                assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b'there?')

    run(test)


def test_plain_get_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here, here.session.get(f'{here.url}/') as answer:
            assert answer.status == 405
            assert (await answer.json())['code'] == 'MethodNotAllowed'

    run(test)


def test_shard_survives_a_restart_of_the_farmer(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            port = here.farmer.port
            await here.farmer.stop()
            await here.farmer.start()
            assert here.farmer.port == port
            token = await here.renter.retrieve(here.farmer.contact(), SHARD_HASH)
            assert await here.talk(pull(token)) == (1000, 'File transfer complete', [SHARD])

    run(test)
