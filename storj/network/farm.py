"""DriveShare: a farmer as a program of its own, with a status for its owner.

The farmer joins any bridge, uses at most its size, and continues after a restart of
either. Its owner watches it by events, which the command line turns into lines, and on a small page
that is served to this machine only.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from storj.network.farmer.farmer import Farmer
from storj.network.farmer.settings import FarmerSettings
from storj.network.metadisk.website import Website
from storj.network.node.serving import FARMER_DESCRIPTORS, Server, need_descriptors
from storj.network.program import EventPrinter, serving, until_stopped

#: Seconds between two looks at the farmer.
INTERVAL = 1.0

_PARTS = ('farm.html', 'farm.js', 'dom.js', 'format.js', 'style.css', 'theme.js', 'icon.svg')

Events = Callable[[Mapping[str, Any]], object]


class StatusPage:
    """What a farmer stores and does, on a port that only this machine reaches.

    ``/`` is a page, ``/status`` the same as JSON.

    Args:
        farmer (Farmer): started.
        port (int): to listen on; 0 for any free one.

    Attributes:
        url (str): of the page, once it is started.
    """

    def __init__(self, farmer: Farmer, port: int = 0) -> None:
        self._farmer = farmer
        self._port = port
        self._server: Server | None = None
        self.url = ''

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: If the port is taken.
        """
        app = web.Application(middlewares=[_from_here])
        Website(_PARTS, 'farm.html').add_to(app)
        app.router.add_get('/status', self._status)
        listening = socket.create_server(('127.0.0.1', self._port))
        host, port = listening.getsockname()
        self._server = Server(app, shutdown_timeout=0.5)
        await self._server.start(listening)
        self.url = f'http://{host}:{port}/'

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            await self._server.stop()

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self._farmer.status(), headers={'Cache-Control': 'no-store'})


@web.middleware
async def _from_here(request: web.Request, handler: Any) -> web.StreamResponse:
    """Refuse requests that name another host: a foreign page's, led here by its name server."""
    host = urlsplit(f'//{request.host}').hostname or ''
    try:
        local = host == 'localhost' or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise web.HTTPForbidden(text='This page is for this machine only.')
    response: web.StreamResponse = await handler(request)
    return response


def farm(
    settings: FarmerSettings,
    events: Events,
    *,
    status_port: int | None = 0,
    leave: bool = False,
) -> None:
    """Run a farmer until SIGTERM or Ctrl-C, or until it has left.

    Belongs into the main thread, because signals do.

    Args:
        settings (FarmerSettings): of the farmer, with its bridge.
        events (Events): called with what happens, each a mapping with ``type``: ``started`` (with
            ``status_url``, and ``new``: whether the folder was empty), ``joined``, ``away``,
            ``status`` whenever something changed, ``leaving`` (with ``remaining`` shards),
            ``left``, ``stopped``.
        status_port (int | None): of the page; 0 for any free one, None for no page.
        leave (bool): leave the network permanently, when others have all its shards.

    Raises:
        NetworkSetupError: If a port is taken, or the folder cannot be used.
        ResourceError: If the system allows too few open files.
        BridgeLinkError: If the bridge knows no departures.
        Exception: If an essential part of the farmer fails; it is stopped cleanly first.
    """
    need_descriptors(FARMER_DESCRIPTORS, 'a farmer')
    with serving() as stopped:
        asyncio.run(_Run(settings, events, status_port, leave).until(stopped))


class _Run:
    """One run of the program."""

    def __init__(
        self, settings: FarmerSettings, events: Events, status_port: int | None, leave: bool
    ) -> None:
        self._farmer = Farmer(settings)
        self._tell = EventPrinter(events)
        self._page = None if status_port is None else StatusPage(self._farmer, status_port)
        self._leave = leave
        self._last: dict[str, Any] = {}

    async def until(self, stopped: threading.Event) -> None:
        try:
            await until_stopped(stopped, self._live())
        finally:
            if self._page is not None:
                await self._page.stop()
            await self._farmer.stop()
            self._say('stopped')

    async def _live(self) -> None:
        """Start, and go on until the farmer has left, or until a part of it fails."""
        await self._farmer.start()
        if self._page is not None:
            await self._page.start()
        url = '' if self._page is None else self._page.url
        status = self._farmer.status()
        self._say('started', status_url=url, new=self._farmer.is_new, **status)
        works = [self._watch(), *([self._go()] if self._leave else [])]
        await self._farmer.tasks.first(*works)

    async def _go(self) -> None:
        await self._farmer.wait_registered()
        await self._farmer.leave(lambda remaining: self._say('leaving', remaining=remaining))
        self._say('left')

    async def _watch(self) -> None:
        while True:
            status = self._farmer.status()
            if status['registered'] != self._last.get('registered', False):
                self._say('joined' if status['registered'] else 'away')
            if status != self._last:
                self._say('status', **status)
            self._last = status
            await asyncio.sleep(INTERVAL)

    def _say(self, kind: str, **fields: Any) -> None:
        self._tell({'type': kind, **fields})
