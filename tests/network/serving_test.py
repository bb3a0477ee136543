"""The end of a server."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings

import pytest
from aiohttp import web

from storj.network.node.serving import close_runner


@pytest.mark.parametrize('turns', range(5))
def test_connection_that_comes_in_at_the_end_is_closed(turns):
    async def end() -> None:
        runner = web.AppRunner(web.Application(), shutdown_timeout=0.1)
        await runner.setup()
        listening = socket.create_server(('127.0.0.1', 0))
        await web.SockSite(runner, listening).start()
        address = listening.getsockname()
        clients = [socket.create_connection(address, timeout=5) for _ in range(5)]
        # After some turns they are accepted, and the server does not know them yet.
        for _ in range(turns):
            await asyncio.sleep(0)
        await close_runner(runner, listening)
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
