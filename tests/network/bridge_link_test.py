"""A farmer's way to its bridge: what it says when the bridge does not take it."""

from __future__ import annotations

import pytest
from aiohttp import web

from storj.network.farmer.bridge_link import BridgeLink, BridgeLinkError
from storj.network.farmer.farmer import Workers
from storj.network.node.identity import Identity
from storj.network.node.rpc import NodeContact
from tests.network.nodes import run

BRIDGE_TIME = 1_480_000_000.0


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
        app = web.Application()
        app.router.add_route('*', '/{path:.*}', refuse)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, '127.0.0.1', 0)
        await site.start()
        identity, workers = Identity.generate(), Workers()
        link = BridgeLink(
            f'http://127.0.0.1:{runner.addresses[0][1]}',
            identity,
            lambda: NodeContact('127.0.0.1', 4000, identity.node_id, '1.2.0'),
            lambda: True,
            workers.background,
            clock=lambda: BRIDGE_TIME + 3600,
        )
        link.start()
        try:
            with pytest.raises(BridgeLinkError) as told:
                await link.announce()
            assert str(told.value) == 'Invalid timestamp header' + words
        finally:
            await link.close()
            workers.close()
            await runner.cleanup()

    run(test)
