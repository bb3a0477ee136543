"""The HTTP shard server: statuses and texts of core 6.8, and what clients of the time did."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import aiohttp
import pytest
from aiohttp import web

from storj.digest import shard_hash
from storj.network.farmer.shard_store import FREE_SPACE_KEPT
from storj.network.farmer.store import StoreError
from tests.network.nodes import DAY, SHARD, SHARD_HASH, Site, push, run, site

UNKNOWN = 'f' * 40
STORED = (200, {'result': 'Consignment completed'})


async def in_pieces(data: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def raw(site: Site, request: bytes) -> bytes:
    """Send bytes and return all that comes until the farmer closes, or a second passes."""
    reader, writer = await asyncio.open_connection('127.0.0.1', site.farmer.port)
    writer.write(request)
    received = b''
    try:
        while part := await asyncio.wait_for(reader.read(65536), 1):
            received += part
    except (asyncio.TimeoutError, ConnectionError):
        pass
    writer.close()
    return received


def test_uploads_that_are_not_allowed_are_401(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            cases: list[tuple[str | None, str, str]] = [
                (None, SHARD_HASH, 'You did not supply a token'),
                ('', SHARD_HASH, 'You did not supply a token'),
                (UNKNOWN, SHARD_HASH, 'The supplied token is not accepted'),
                (token, '0' * 40, 'Token not valid for hash'),
                (token, '..%2F..%2Fetc%2Fpasswd', 'Token not valid for hash'),
            ]
            for sent, name, text in cases:
                assert await here.post(SHARD, sent, name) == (401, {'result': text})
                assert await here.get(sent, name) == (401, {'result': text})
            here.clock.step(-10 * DAY)
            here.clock.now += DAY + 1
            assert await here.post(SHARD, token) == (401, {'result': 'Token has expired'})

    run(test)


def test_lost_contract_is_404(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = here.farmer.tokens.issue(SHARD_HASH, here.renter.node_id)
            assert (await here.post(SHARD, token))[0] == 404
            assert (await here.get(token))[0] == 404

    run(test)


def test_failed_upload_may_be_repeated_until_it_succeeds(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            wrong = (400, {'result': 'Calculated hash does not match the expected result'})
            assert await here.post(b'wrongdata', token, SHARD_HASH) == wrong
            assert await here.post(b'four', token, SHARD_HASH) == wrong
            assert await here.post(b'', token, SHARD_HASH) == wrong
            long = (400, {'result': 'Shard exceeds the amount defined in the contract'})
            assert await here.post(SHARD + b'!', token, SHARD_HASH) == long
            assert await here.post(SHARD, token) == STORED
            used = (401, {'result': 'The supplied token is not accepted'})
            assert await here.post(SHARD, token) == used
            assert here.farmer.status()['counters'] == {
                'bytes_received': 9,
                'failed_integrity': 4,
                'shard_uploaded': 1,
            }
            assert not list((tmp_path / 'incoming').iterdir())

    run(test)


def test_download_uses_its_token_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.store()
            async with here.session.get(
                f'{here.url}/shards/{SHARD_HASH}',
                params={'token': token},
                headers={'Range': 'bytes=0-3', 'x-storj-node-id': here.farmer.identity.node_id},
            ) as answer:
                assert answer.status == 200
                assert answer.headers['Content-Type'] == 'application/octet-stream'
                assert answer.headers['Transfer-Encoding'] == 'chunked'
                assert answer.headers['Access-Control-Allow-Origin'] == '*'
                assert await answer.read() == SHARD
            used = (401, {'result': 'The supplied token is not accepted'})
            assert await here.get(token) == used

    run(test)


def test_download_of_a_missing_shard_is_404(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            assert await here.get(token) == (404, {'result': 'Shard data not found'})

    run(test)


def test_unreadable_shard_is_500(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.store()

            def reader(data_hash: str) -> BinaryIO:
                raise StoreError('Cannot read: Too many open files')

            monkeypatch.setattr(here.farmer.store, 'reader', reader)
            status, body = await here.get(token)
            assert status == 500
            assert body['result'].startswith('Cannot read')
            assert here.farmer.status()['counters']['read_failed'] == 1

    run(test)


def test_stored_shard_is_304_even_while_its_body_is_being_sent(tmp_path: Path) -> None:
    async def test() -> None:
        data = os.urandom(3 * 1024 * 1024)
        async with site(tmp_path) as here:
            await here.store(data)
            token = await here.push_token(data)
            assert await here.post(data, token) == (304, None)
            # The token is not used up by that.
            assert await here.post(in_pieces(data), token, shard_hash(data)) == (304, None)
            assert here.farmer.status()['counters']['shard_exists'] == 2

    run(test)


def test_answer_304_comes_before_the_body_which_may_follow(tmp_path: Path) -> None:
    async def test() -> None:
        data = os.urandom(3 * 1024 * 1024)
        async with site(tmp_path) as here:
            await here.store(data)
            token = await here.push_token(data)
            path = f'/shards/{shard_hash(data)}?token={token}'
            head = f'POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n'
            reader, writer = await asyncio.open_connection('127.0.0.1', here.farmer.port)
            for _ in range(2):
                writer.write(head.encode())
                assert b' 304 ' in await reader.readuntil(b'\r\n\r\n')
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

    run(test)


@pytest.mark.parametrize('size', [1, 65536, 1024 * 1024, 3 * 1024 * 1024 + 17])
def test_chunked_upload_with_the_canonical_headers_is_stored(tmp_path: Path, size: int) -> None:
    async def test() -> None:
        data = os.urandom(size)
        name = shard_hash(data)
        async with site(tmp_path) as here:
            headers = {
                'Content-Type': 'application/octet-stream',
                'x-storj-node-id': here.farmer.identity.node_id,
            }
            token = await here.push_token(data)
            answer = await here.post(in_pieces(data), token, name, headers=headers)
            assert answer == STORED
            token = await here.renter.retrieve(here.farmer.contact(), name)
            assert await here.get(token, name) == (200, data)
            assert here.farmer.status()['used'] == size

    run(test)


def test_expect_100_continue_works(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            assert await here.post(SHARD, token, expect100=True) == STORED

    run(test)


def test_request_for_another_node_is_502(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            answer = await here.post(SHARD, token, headers={'x-storj-node-id': 'b' * 40})
            text = 'Unable to route to tunnel, client is not connected'
            assert answer == (502, {'error': text})
            assert await here.post(SHARD, token) == STORED

    run(test)


def test_preflight_of_a_browser_is_echoed(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            site(tmp_path) as here,
            here.session.options(
                f'{here.url}/shards/{SHARD_HASH}',
                headers={
                    'Origin': 'http://example.org',
                    'Access-Control-Request-Method': 'POST',
                    'Access-Control-Request-Headers': 'content-type,x-storj-node-id',
                },
            ) as answer,
        ):
            assert answer.status == 200
            assert answer.headers['Access-Control-Allow-Origin'] == '*'
            assert answer.headers['Access-Control-Allow-Methods'] == 'POST'
            assert answer.headers['Access-Control-Allow-Headers'] == 'content-type,x-storj-node-id'

    run(test)


def test_full_farmer_is_503(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path, size=20) as here:
            token = await here.push_token()
            await here.store(b'0123456789')
            here.farmer.store.capacity = 15
            assert await here.post(SHARD, token) == (503, {'result': 'No space left'})
            # The WebSocket channel has no status for it.
            code, reason, _ = await here.talk(push(token), SHARD)
            assert (code, reason) == (1011, 'No space left')

    run(test)


def test_full_disk_is_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            free = SimpleNamespace(free=FREE_SPACE_KEPT + 9)
            monkeypatch.setattr(shutil, 'disk_usage', lambda _: free)
            assert await here.post(SHARD, token) == (503, {'result': 'No space left'})

    run(test)


def test_unknown_path_and_method_are_json(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            for method, path, status in (
                ('GET', '/nothing', 404),
                ('GET', '/shards/', 404),
                ('PUT', f'/shards/{SHARD_HASH}', 405),
                ('DELETE', '/', 405),
            ):
                async with here.session.request(method, here.url + path) as answer:
                    assert answer.status == status
                    assert 'message' in await answer.json()

    run(test)


def test_dropped_upload_leaves_nothing_and_the_token_good(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            head = f'POST /shards/{SHARD_HASH}?token={token} HTTP/1.1\r\nHost: x\r\n'
            _, writer = await asyncio.open_connection('127.0.0.1', here.farmer.port)
            writer.write(head.encode() + b'Content-Length: 9\r\n\r\ntest')
            while not here.farmer.channels.active:
                await asyncio.sleep(0)
            writer.transport.abort()
            while here.farmer.channels.active:
                await asyncio.sleep(0)
            assert not list((tmp_path / 'incoming').iterdir())
            assert await here.post(SHARD, token) == STORED

    run(test)


@pytest.mark.parametrize(
    'body',
    [
        b'Transfer-Encoding: chunked\r\n\r\nzz\r\n',
        b'Transfer-Encoding: chunked\r\n\r\n4\r\ntestX\r\n',
        b'Content-Length: -1\r\n\r\n',
        b'Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n',
        b'Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\nwrongdata',
    ],
)
def test_malformed_request_is_refused_and_stores_nothing(tmp_path: Path, body: bytes) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            head = f'POST /shards/{SHARD_HASH}?token={token} HTTP/1.1\r\nHost: x\r\n'.encode()
            answer = await raw(here, head + body)
            assert answer.split(b' ', 2)[1:2] in ([b'400'], [])
            assert here.farmer.status()['shards'] == 0
            assert await here.post(SHARD, token) == STORED

    run(test)


def test_transfers_beyond_the_limit_are_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            async with here.session.ws_connect(f'{here.url}/') as channel:
                monkeypatch.setattr('storj.network.farmer.channels.MAX_TRANSFERS', 1)
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await here.talk(push(token))
                assert refused.value.status == 503
                await channel.send_json(push(token))
                while not here.farmer.channels.active:
                    await asyncio.sleep(0)
                assert await here.post(SHARD, token) == (503, {'result': 'Too many transfers'})

    run(test)


def test_idle_transfer_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            async with here.session.ws_connect(f'{here.url}/') as channel:
                await channel.send_json(push(token))
                while not here.farmer.channels.active:
                    await asyncio.sleep(0)
                here.farmer.channels.abort_idle()
                assert here.farmer.channels.active == 1
                monkeypatch.setattr('storj.network.farmer.channels.IDLE_LIMIT', -1.0)
                here.farmer.channels.abort_idle()
                await channel.receive()
                assert channel.close_code == 1006

    run(test)


def test_reports_tell_the_bridge_how_transfers_ended(tmp_path: Path) -> None:
    """The bridge here writes down what it is told, and knows a farmer once it has registered."""

    async def test() -> None:
        known: list[str] = []
        reports: list[dict[str, Any]] = []
        reported = asyncio.Event()

        async def update(request: web.Request) -> web.Response:
            if not known:
                return web.json_response({'error': 'Contact not found'}, status=404)
            return web.json_response({}, status=201)

        async def challenge(request: web.Request) -> web.Response:
            return web.json_response({'challenge': 'ab' * 32, 'target': '0' + 'f' * 63}, status=201)

        async def register(request: web.Request) -> web.Response:
            assert request.headers['x-challenge'] == 'ab' * 32
            assert request.headers['x-challenge-nonce'] == '3'
            known.append((await request.json())['protocol'])
            return web.json_response({})

        async def report(request: web.Request) -> web.Response:
            reports.append(await request.json())
            reported.set()
            return web.json_response({}, status=201)

        app = web.Application()
        app.add_routes(
            [
                web.patch('/contacts/{id}', update),
                web.post('/contacts/challenges', challenge),
                web.post('/contacts', register),
                web.post('/reports/exchanges', report),
            ]
        )
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, '127.0.0.1', 0).start()
        url = f'http://127.0.0.1:{runner.addresses[0][1]}'
        try:
            async with site(tmp_path, bridge_url=url, protocol='0.10.0') as here:
                await here.farmer.wait_registered()
                assert known == ['0.10.0']
                token = await here.push_token()
                await here.post(b'wrongdata', token, SHARD_HASH)
                await here.post(SHARD, token)
                while len(reports) < 2:
                    reported.clear()
                    await reported.wait()
                node_id = here.farmer.identity.node_id
                for item, code, message in zip(
                    reports, (1100, 1000), ('FAILED_INTEGRITY', 'SHARD_UPLOADED'), strict=True
                ):
                    assert item == {
                        'dataHash': SHARD_HASH,
                        'reporterId': node_id,
                        'farmerId': node_id,
                        'exchangeStart': int(here.clock() * 1000),
                        'exchangeEnd': int(here.clock() * 1000),
                        'exchangeResultCode': code,
                        'exchangeResultMessage': message,
                    }
        finally:
            await runner.cleanup()

    run(test)


def test_every_observed_case_is_tested_here() -> None:
    """The recorded cases of the HTTP and the WebSocket channel, by the texts they end in."""
    folder = Path(__file__).parent
    texts = (folder / 'farmer_http_test.py').read_text() + (
        folder / 'farmer_ws_test.py'
    ).read_text()
    vectors = json.loads((folder.parent / 'vectors' / 'protocol.json').read_text('utf-8'))
    for case in vectors['http_c6_8_observed']['cases']:
        expected = (case.get('body') or {}).get('result', '')
        assert expected.startswith('<') or expected in texts
    for case in vectors['websocket_c5_1_2_observed']['cases']:
        for code, reason in filter(None, (case.get('close'), case.get('then_same_token'))):
            assert str(code) in texts
            assert reason.startswith('<') or reason in texts
