"""Servers of asyncio's streams, for tests."""

from __future__ import annotations

import asyncio

# From a connection that is accepted to the task that serves it.
_TURNS = 10


async def stop_accepting(server: asyncio.Server) -> None:
    """Close a server; each connection that it has accepted has its task then.

    asyncio loses one that has no transport yet when its server is closed.
    """
    for listening in server.sockets:
        asyncio.get_running_loop().remove_reader(listening.fileno())
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    server.close()
