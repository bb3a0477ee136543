"""The end of a server that shares its event loop with others."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

__all__ = ('close_runner',)

# Turns of the event loop from a connection that is accepted to one that the server knows.
_TURNS = 3


async def close_runner(runner: web.AppRunner, listening: socket.socket) -> None:
    """Stop a server and close all of its connections, those too that are just coming in.

    asyncio lets go of a connection that it has accepted, unclosed, if its server was closed before
    the connection got there; so first no more are accepted.

    Args:
        runner (web.AppRunner): set up, or closed already.
        listening (socket.socket): of its only site.
    """
    if listening.fileno() >= 0:
        asyncio.get_running_loop().remove_reader(listening)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
    await runner.cleanup()
