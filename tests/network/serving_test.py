"""A server, and what its connections may cost."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from storj.network.farmer.settings import FarmerSettings
from storj.network.farmer_process import command_of
from storj.network.node import serving, wire
from storj.network.node.serving import Connections, Server

REQUEST = b'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
#: More than the buffers of both ends of a connection take.
LARGE = 64 * 1024 * 1024


def serve(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    scenario: Callable[[tuple[str, int]], Awaitable[None]],
    **options: Any,
) -> None:
    """Run a scenario against a server whose every request goes to one handler."""

    async def run() -> None:
        app = web.Application()
        app.router.add_route('*', '/', handler)
        server = Server(app, shutdown_timeout=0.1, **options)
        listening = socket.create_server(('127.0.0.1', 0))
        address = listening.getsockname()
        await server.start(listening)
        try:
            await asyncio.wait_for(scenario(address), 60)
        finally:
            await server.stop()

    asyncio.run(run())


async def hello(request: web.Request) -> web.Response:
    return web.Response(text='hello')


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(REQUEST)
    head = await reader.readuntil(b'\r\n\r\n')
    return head.split(b'\r\n')[0] + await reader.readexactly(5)


def read_all(client: socket.socket) -> bytes:
    return b''.join(iter(lambda: client.recv(9999), b''))


@pytest.mark.parametrize('turns', range(5))
def test_connection_that_comes_in_at_the_end_is_closed(turns: int) -> None:
    async def end() -> None:
        server = Server(web.Application(), shutdown_timeout=0.1)
        listening = socket.create_server(('127.0.0.1', 0))
        address = listening.getsockname()
        await server.start(listening)
        clients = [socket.create_connection(address, timeout=5) for _ in range(5)]
        # After some turns they are accepted, and the server does not know them yet.
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.stop()
        for client in clients:
            with client:
                try:
                    assert await asyncio.to_thread(client.recv, 1) == b''
                except ConnectionResetError:
                    pass

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        asyncio.run(end())
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


@pytest.mark.parametrize('turns', range(5))
def test_request_that_comes_in_at_the_end_is_answered(turns: int) -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(text=await request.text())

    async def end() -> None:
        app = web.Application()
        app.router.add_post('/', echo)
        server = Server(app, shutdown_timeout=0.1, grace=30)
        listening = socket.create_server(('127.0.0.1', 0))
        address = listening.getsockname()
        await server.start(listening)
        clients = [socket.create_connection(address, timeout=30) for _ in range(5)]
        head = b'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n'
        for client in clients:
            client.sendall(head + b'h')
        for _ in range(turns):
            await asyncio.sleep(0)
        stopping = asyncio.ensure_future(server.stop())
        while listening.fileno() >= 0:
            await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)
        assert not stopping.done()
        for client in clients:
            with client:
                client.sendall(b'ello')
                answer = await asyncio.to_thread(read_all, client)
                assert answer.startswith(b'HTTP/1.1 200')
                assert b'Connection: close' in answer
                assert answer.endswith(b'hello')
        await asyncio.wait_for(stopping, 30)

    asyncio.run(end())


@pytest.mark.parametrize('gone', [True, False])
@pytest.mark.parametrize('body', [b'', bytes(LARGE)])
def test_stop_leaves_neither_request_nor_connection(body: bytes, gone: bool) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    lost: list[asyncio.BaseTransport] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        lost.append(request.transport)
        begun.set()
        if body:
            # More than anybody reads.
            return web.Response(body=body)
        try:
            await asyncio.Event().wait()
        finally:
            # Clean-up takes some turns of the loop.
            await asyncio.sleep(0)
            ended.set()
        return web.Response()

    async def end() -> None:
        app = web.Application()
        app.router.add_get('/', answer)
        server = Server(app, shutdown_timeout=0.1)
        listening = socket.create_server(('127.0.0.1', 0))
        await server.start(listening)
        with socket.create_connection(listening.getsockname()) as client:
            client.sendall(REQUEST)
            await begun.wait()
            if gone:
                client.close()
            await server.stop()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert ended.is_set() == (not body)
            assert lost[0].get_extra_info('socket').fileno() == -1

    asyncio.run(end())


@pytest.mark.parametrize('sent', [b'', b'GET / HTTP/1.1\r\nHost:'])
def test_new_connection_takes_the_place_of_an_idle_one(sent: bytes) -> None:
    async def scenario(address: tuple[str, int]) -> None:
        # A request of its own keeps this one younger than those that wait.
        kept = await asyncio.open_connection(*address)
        waiting = [await asyncio.open_connection(*address) for _ in range(12)]
        for _, writer in waiting:
            writer.write(sent)
            await writer.drain()
        newcomer = await asyncio.open_connection(*address)
        assert await ask(*newcomer) == b'HTTP/1.1 200 OKhello'
        assert await ask(*newcomer) == b'HTTP/1.1 200 OKhello'
        assert len(connections) == 4
        closed = [await reader.read() for reader, _ in waiting[:9]]
        assert closed == [b''] * 9
        for _, writer in [kept, newcomer, *waiting]:
            writer.close()

    connections = Connections(limit=4)
    serve(hello, scenario, connections=connections)


def test_request_under_way_is_not_broken_off_for_a_new_one() -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        begun.set()
        await release.wait()
        return web.Response(text='hello')

    async def scenario(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        answer = asyncio.ensure_future(ask(reader, writer))
        await begun.wait()
        refused, other = await asyncio.open_connection(*address)
        try:
            assert await refused.read() == b''
        except ConnectionResetError:
            pass
        release.set()
        assert await answer == b'HTTP/1.1 200 OKhello'
        for each in (writer, other):
            each.close()

    serve(slow, scenario, connections=Connections(limit=1))


def test_one_address_cannot_take_all_connections() -> None:
    class Door:
        is_local = False
        requests = 0

        def __init__(self, address: str) -> None:
            self.address = address
            self.transport = object()
            self.aborted = False

        def abort(self) -> None:
            self.aborted = True

    connections = Connections(limit=8, per_address=2)
    doors = [Door('192.0.2.1') for _ in range(3)]
    other = Door('192.0.2.2')
    assert [connections.admit(door) for door in [*doors, other]] == [True] * 4  # type: ignore[arg-type]
    assert [door.aborted for door in [*doors, other]] == [True, False, False, False]
    for door in doors[1:]:
        connections.begin(door.transport)  # type: ignore[arg-type]
    assert not connections.admit(Door('192.0.2.1'))  # type: ignore[arg-type]
    assert len(connections) == 3


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason='needs IPv6')
def test_proxy_of_this_machine_has_no_bound_at_any_address() -> None:
    async def test() -> None:
        connections = Connections(limit=8, per_address=1)
        server = Server(web.Application(), connections=connections)
        listening = serving.listen('::', 0)
        port = listening.getsockname()[1]
        await server.start(listening)
        try:
            opened = [await asyncio.open_connection('127.0.0.1', port) for _ in range(3)]
            for reader, writer in opened:
                writer.write(b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
                assert (await reader.readline()).startswith(b'HTTP/1.1 404')
            assert len(connections) == 3
            for _, writer in opened:
                writer.close()
        finally:
            await server.stop()

    asyncio.run(test())


def test_answer_that_nobody_reads_ends_its_connection() -> None:
    ended = asyncio.Event()

    async def pour(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(LARGE // 65536):
                await response.write(bytes(65536))
        finally:
            ended.set()
        return response

    async def scenario(address: tuple[str, int]) -> None:
        _, writer = await asyncio.open_connection(*address, limit=1)
        writer.write(REQUEST)
        await ended.wait()
        writer.close()

    serve(pour, scenario, connections=Connections(stall_seconds=0.05))


def test_half_a_head_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST[:-2])
        assert await reader.read() == b''
        writer.close()

    monkeypatch.setattr(serving, 'IDLE_SECONDS', 0.05)
    serve(hello, scenario)


def test_body_that_does_not_come_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[wire.Refusal] = []

    async def read(request: web.Request) -> web.Response:
        try:
            await wire.read_body(request)
        except wire.Refusal as refusal:
            refused.append(refusal)
        return web.Response(text='hello')

    async def scenario(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{')
        await reader.readuntil(b'hello')
        assert [refusal.status for refusal in refused] == [408]
        writer.close()

    monkeypatch.setattr(wire, 'BODY_SECONDS', 0.05)
    serve(read, scenario)


BROKEN = (
    b'GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic c2VjcmV0\x00\r\n\r\n',
    b'GET /secret \x01 HTTP/1.1\r\n\r\n',
    b'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: secret\r\nContent-Length: 5\r\n\r\n',
    b'GET / HTTP/1.1\r\nx-token: ' + b'c2VjcmV0' * 20000 + b'\r\n\r\n',
)


@pytest.mark.parametrize('head', BROKEN, ids=['header', 'line', 'encoding', 'long'])
def test_malformed_request_stands_in_no_log(caplog: pytest.LogCaptureFixture, head: bytes) -> None:
    async def scenario(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(head)
        assert (await reader.readline()).startswith(b'HTTP/1.')
        writer.close()

    caplog.set_level(logging.DEBUG)
    serve(hello, scenario)
    assert 'secret' not in caplog.text
    assert 'c2VjcmV0' not in caplog.text
    assert all(record.levelno < logging.WARNING for record in caplog.records)


@pytest.mark.skipif(sys.platform == 'win32', reason='this system has no such limits')
@pytest.mark.parametrize(
    ('program', 'needed', 'what'),
    [
        (
            ['storj', 'network', 'up', '--farmers', '100', '--port', '0'],
            1456,
            'network of 100 farmers',
        ),
        (['storj', 'network', 'up', '--processes', '--port', '0'], 304, 'a network of 6 farmers'),
        (command_of(FarmerSettings(Path('f')), 0)[2:], 192, 'a farmer'),
        (['storj', 'farm', '--path', 'f', '--bridge', 'http://127.0.0.1:1'], 192, 'a farmer'),
    ],
)
def test_too_few_descriptors_are_refused_at_once(
    tmp_path: Path, program: list[str], needed: int, what: str
) -> None:
    result = subprocess.run(
        ['sh', '-c', 'ulimit -n 100 && exec "$0" -m "$@"', sys.executable, *program],
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2]), 'HOME': str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, '')
    assert f'{what} needs {needed} open files at a time, and 100 are allowed' in result.stderr
    assert f'ulimit -n {needed}' in result.stderr


@pytest.mark.skipif(sys.platform == 'win32', reason='this system has no such limits')
def test_limit_of_descriptors_is_raised_up_to_the_hard_one() -> None:
    text = (
        'import resource; from storj.network.node.serving import need_descriptors as need\n'
        'for needed in (90, 110, 100): need(needed, "it")\n'
        'print(*resource.getrlimit(resource.RLIMIT_NOFILE))'
    )
    shell = 'ulimit -Sn 100 && ulimit -Hn 120 && exec "$0" -c "$1"'
    result = subprocess.run(
        ['sh', '-c', shell, sys.executable, text], capture_output=True, text=True, check=True
    )
    assert result.stdout == '110 120\n'
