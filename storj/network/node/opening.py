"""A bound on what comes over a connection before its first message is whole.

The WebSocket library takes one limit of a message for the life of a connection, and builds a
message of that size in memory before anybody sees it. The first message here is a few hundred bytes
of authorization, those after it are the frames of a shard: a client that has not shown a token
yet must not use as much memory of a farmer as one that has.

This module counts bytes and knows nothing of frames.
"""

from __future__ import annotations

import asyncio


class Opening(asyncio.Protocol):
    """Stands between a connection and its protocol until :meth:`release`.

    A read of the socket may go over the limit, by 256 KiB at the most. What comes after that is
    thrown away, so that the other side can finish sending and read why it was refused.

    Args:
        transport (asyncio.Transport): the connection.
        limit (int): bytes that may have come before a further read.

    Attributes:
        exceeded (asyncio.Future[None]): done as soon as more has come.
    """

    def __init__(self, transport: asyncio.Transport, limit: int) -> None:
        self.exceeded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._left = limit
        transport.set_protocol(self)

    def release(self) -> None:
        """Let everything pass from now on, at no cost."""
        self._transport.set_protocol(self._protocol)

    def data_received(self, data: bytes) -> None:
        """Hand data on, or drop it."""
        if self._left <= 0:
            if not self.exceeded.done():
                self.exceeded.set_result(None)
            return
        self._left -= len(data)
        self._protocol.data_received(data)  # type: ignore[attr-defined]

    def eof_received(self) -> bool | None:
        """Hand the end of the other side's sending on."""
        keep: bool | None = self._protocol.eof_received()  # type: ignore[attr-defined]
        return keep

    def connection_lost(self, error: Exception | None) -> None:
        """Hand the end of the connection on."""
        self._protocol.connection_lost(error)

    def pause_writing(self) -> None:
        """Hand on that the other side reads too slowly."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that the other side has caught up."""
        self._protocol.resume_writing()
