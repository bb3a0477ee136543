"""A farmer's way to its bridge: what it says when the bridge does not take it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from storj.network.farm import farm
from storj.network.farmer import bridge_link
from storj.network.farmer.bridge_link import BridgeLink, BridgeLinkError, RegistrationUnknownError
from storj.network.farmer.farmer import Workers
from storj.network.farmer.settings import FarmerSettings
from storj.network.node.identity import Identity
from storj.network.node.rpc import NodeContact
from storj.network.node.serving import Server
from storj.network.node.tasks import Tasks
from storj.network.node.wire import Handler
from tests.network.nodes import run

BRIDGE_TIME = 1_480_000_000.0


@asynccontextmanager
async def linked(handler: Handler, **options: Any) -> AsyncIterator[BridgeLink]:
    """Yield the link of a farmer to a bridge that answers everything by one handler."""
    app = web.Application()
    app.router.add_route('*', '/{path:.*}', handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', 0).start()
    identity, workers = Identity.generate(), Workers()
    link = BridgeLink(
        f'http://127.0.0.1:{runner.addresses[0][1]}',
        identity,
        lambda: NodeContact('127.0.0.1', 4000, identity.node_id, '1.2.0'),
        lambda: True,
        workers.background,
        **options,
    )
    link.start(Tasks('farmer'))
    try:
        yield link
    finally:
        await link.close()
        workers.close()
        await runner.cleanup()


@pytest.mark.parametrize(
    ('date', 'words'),
    [
        ('Thu, 24 Nov 2016 15:06:40 GMT', '; the clock here is 3600 s ahead'),
        ('Thu, 24 Nov 2016 17:06:40 GMT', '; the clock here is 3600 s behind'),
        ('today', '; the clock here is wrong'),
    ],
)
def test_farmer_with_a_wrong_clock_is_told_by_how_much(date: str, words: str) -> None:
    async def refuse(request: web.Request) -> web.Response:
        answer = {'error': 'Invalid timestamp header'}
        return web.json_response(answer, status=400, headers={'Date': date})

    async def test() -> None:
        async with linked(refuse, clock=lambda: BRIDGE_TIME + 3600) as link:
            with pytest.raises(BridgeLinkError) as told:
                await link.announce()
            assert str(told.value) == 'Invalid timestamp header' + words

    run(test)


@pytest.mark.parametrize(
    ('url', 'words'),
    [
        ('http://127.0.0.1:{free}', '^Connection refused$'),
        ('http://nobody.invalid:80', '^[^\\[:]*$'),
        ('https://127.0.0.1:{taken}', 'SSL'),
    ],
)
def test_farmer_tells_why_the_bridge_cannot_be_reached(url: str, words: str) -> None:
    async def never(_: web.Request) -> web.Response:
        raise AssertionError

    async def test() -> None:
        async with linked(never) as link:
            with socket.socket() as bound:
                bound.bind(('127.0.0.1', 0))
                free, taken = bound.getsockname()[1], link.url.rpartition(':')[2]
                link.url = url.format(free=free, taken=taken)
                with pytest.raises(BridgeLinkError, match=words):
                    await link.announce()

    run(test)


@pytest.mark.parametrize('takes_many', [True, False])
def test_reports_go_together_where_the_bridge_takes_them(
    takes_many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_link, 'REPORT_PAUSE', 60.0)
    heard: list[tuple[str, list[str]]] = []
    more = asyncio.Condition()

    async def listen(request: web.Request) -> web.Response:
        last = request.path.rpartition('/')[2]
        if last not in ('reports', 'exchanges'):
            return web.json_response({})
        if last == 'reports' and not takes_many:
            return web.json_response({'error': 'Resource not found'}, status=404)
        body = await request.json()
        async with more:
            names = [report['dataHash'] for report in body.get('reports', [body])]
            heard.append((last, names))
            more.notify_all()
        return web.json_response({}, status=201)

    def names() -> list[str]:
        return sorted(name for _, some in heard for name in some)

    async def test() -> None:
        async with linked(listen) as link:
            link.report('a', 0.0, 'SHARD_DOWNLOADED')
            link.report('b', 0.0, 'SHARD_EXISTS')
            assert heard == []
            # Copies depend on this one: it waits for nothing, and the others go with it.
            link.report('c', 0.0, 'SHARD_UPLOADED')
            async with more:
                await asyncio.wait_for(more.wait_for(lambda: names() == ['a', 'b', 'c']), 10)
            # Those that wait are sent before the farmer ends.
            link.report('d', 0.0, 'SHARD_DOWNLOADED')
        assert names() == ['a', 'b', 'c', 'd']
        kinds = [kind for kind, _ in heard]
        assert kinds == (['reports', 'exchanges'] if takes_many else ['exchanges'] * 4)

    run(test)


async def unknown_route(request: web.Request) -> web.Response:
    if request.path == '/':
        return web.json_response({'swagger': '2.0', 'info': {'version': '5.24.1'}})
    return web.json_response({'error': 'Resource not found'}, status=404)


async def silence(request: web.Request) -> web.Response:
    if request.path == '/':
        return web.json_response({'swagger': '2.0', 'info': {'version': '2.2.4'}})
    await asyncio.Event().wait()
    raise AssertionError('unreachable')


@pytest.mark.parametrize('answer', [unknown_route, silence])
@pytest.mark.parametrize('leave', [False, True])
def test_farmer_ends_where_farmers_do_not_register(
    answer: Any, leave: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_link, 'TIMEOUT', 0.5)
    with old_bridge(answer) as url:
        settings = FarmerSettings(tmp_path / 'farmer', url, size=2**30)
        told: list[str] = []
        with pytest.raises(RegistrationUnknownError, match='takes no registrations of farmers'):
            farm(settings, lambda event: told.append(event['type']), status_port=None, leave=leave)
    assert told[0] == 'started'
    assert told[-1] == 'stopped'
    assert 'joined' not in told


def test_farmer_that_may_not_leave_says_so_and_ends(tmp_path: Path) -> None:
    async def no_departures(request: web.Request) -> web.Response:
        if request.method == 'PATCH':
            return web.json_response({}, status=201)
        return web.json_response({'error': 'Resource not found'}, status=404)

    with old_bridge(no_departures) as url:
        settings = FarmerSettings(tmp_path / 'farmer', url, size=2**30)
        with pytest.raises(BridgeLinkError, match='has no route for farmers that leave'):
            farm(settings, lambda event: None, status_port=None, leave=True)


@contextmanager
def old_bridge(answer: Any) -> Iterator[str]:
    """Serve an answer to every path, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    listening = socket.create_server(('127.0.0.1', 0))
    port = listening.getsockname()[1]

    async def start() -> Server:
        app = web.Application()
        app.router.add_route('*', '/{path:.*}', answer)
        server = Server(app, shutdown_timeout=0.1)
        await server.start(listening)
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    try:
        yield f'http://127.0.0.1:{port}'
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
