"""A bridge with its MetaDisk node on one listening socket, for all programs that run one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from storj.exception import NetworkSetupError
from storj.network.bridge.app import HEAD_LIMIT, TASKS, create_app
from storj.network.bridge.database import reason_of
from storj.network.bridge.renter import RenterNode
from storj.network.bridge.state import BRIDGE, Bridge, BridgeSettings
from storj.network.metadisk.mount import mount
from storj.network.metadisk.node import Settings as MetaDiskSettings
from storj.network.node.health import HEALTH, Problem
from storj.network.node.identity import ExtendedKey
from storj.network.node.serving import Server, listen
from storj.network.node.tasks import Tasks
from storj.network.node.tls import Certificate
from storj.network.settings import Endpoint
from storj.system.hosts import EVERYWHERE

#: Descriptors of a bridge with its MetaDisk node and some clients. Three eighths of all are for
#: connections that come in.
BRIDGE_DESCRIPTORS = 256
_RENEWAL = 'the renewal of the certificate'


class BridgeServer:
    """A bridge with its MetaDisk node.

    Args:
        endpoint (Endpoint): where it listens.
        seed (bytes): of the renter node; the same for all bridges of a database, for farmers and
            contracts know it by its keys.
        settings (Mapping[str, Any]): further fields of
            :class:`storj.network.bridge.state.BridgeSettings`.
        metadisk (MetaDiskSettings): how the node is run.
        middlewares (Sequence[Callable[..., object]]): put around all others.
        grace (float): seconds that requests under way have when it stops.
        shared (bool): whether other processes listen on the port, too.
        tasks (Callable[[Bridge, Tasks], None] | None): begins further work in the background.

    Attributes:
        url (str): where clients reach it, once it has begun to listen.
        local_url (str): where this machine does, past any proxy.
        listens_on (str): the address in words, with the kinds of addresses that it stands for.
        app (web.Application | None): of the bridge, likewise.
        extended_key (str | None): extended public key of the renter node (BIP 32), likewise.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        seed: bytes,
        settings: Mapping[str, Any],
        metadisk: MetaDiskSettings,
        *,
        middlewares: Sequence[Callable[..., object]] = (),
        grace: float = 0.0,
        shared: bool = False,
        tasks: Callable[[Bridge, Tasks], None] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._seed = seed
        self._settings = settings
        self._metadisk = metadisk
        self._middlewares = middlewares
        self._grace = grace
        self._shared = shared
        self._tasks = tasks
        self._renter: RenterNode | None = None
        self._server: Server | None = None
        self.app: web.Application | None = None
        self.url = ''
        self.local_url = ''
        self.listens_on = endpoint.host

    @property
    def bridge(self) -> Bridge:
        """The bridge, which runs."""
        if self.app is None:
            raise RuntimeError('the bridge was not started')
        return self.app[BRIDGE]

    @property
    def extended_key(self) -> str | None:
        """Extended public key of the renter node; None before the start."""
        return None if self._renter is None else self._renter.extended_key

    async def start(self) -> None:
        """Listen, and serve.

        Raises:
            NetworkSetupError: If the port is taken, or folder or database cannot be used.
            ConfigurationError: If the certificate for TLS cannot be used.
        """
        endpoint = self._endpoint
        cert = endpoint.tls_cert
        tls = None if cert is None else Certificate(cert, endpoint.tls_key)
        listening = listen(endpoint.host, endpoint.port, shared=self._shared)
        try:
            port = listening.getsockname()[1]
            reached = endpoint.url(endpoint.announced, port)
            # What belongs to the bridge itself needs no way round by a proxy.
            here = EVERYWHERE.get(endpoint.host)
            self.listens_on = _described(endpoint.host, listening)
            self.local_url = reached if here is None else endpoint.url(here, port)
            self.url = endpoint.public or reached
            key = ExtendedKey.renter(self._seed)
            self._renter = RenterNode(key, address=endpoint.announced, port=port)
            self.app = self._made(self._renter, tls)
            self._server = Server(
                self.app,
                grace=self._grace,
                max_line_size=HEAD_LIMIT,
                max_field_size=HEAD_LIMIT,
            )
            await self._server.start(listening, tls=None if tls is None else tls.server)
            tasks = self.app[TASKS]
            if tls is not None:
                tasks.start(_RENEWAL, tls.follow(partial(tasks.note, _RENEWAL)))
            if self._tasks is not None:
                self._tasks(self.bridge, tasks)
        except BaseException as error:
            listening.close()
            if isinstance(error, SQLAlchemyError):
                # The node and the account beside the bridge are in its database, too.
                reason = reason_of(error)
                raise NetworkSetupError(f'the database cannot be used: {reason}') from error
            raise

    def _made(self, renter: RenterNode, tls: Certificate | None) -> web.Application:
        """Return the application, not started yet."""
        settings: dict[str, Any] = {
            'public_url': self.url,
            'hosts': self._endpoint.hosts,
            **self._settings,
        }
        bridge = BridgeSettings(**settings)
        app = create_app(bridge, renter)
        mount(
            app,
            bridge.data_dir / 'metadisk',
            self.local_url,
            self._metadisk,
            tls=None if tls is None else tls.client,
        )
        app.middlewares[:0] = self._middlewares  # type: ignore[assignment]
        return app

    async def failed(self) -> None:
        """Wait until an essential part fails.

        Raises:
            Exception: If one does.
        """
        if self.app is not None:
            await self.app[TASKS].failed

    async def problems(self) -> list[Problem]:
        """Return what does not work; nothing before the start."""
        return [] if self.app is None else await self.app[HEALTH].problems()

    async def stop(self) -> None:
        """Finish the requests under way, and stop; nothing happens if it does not run."""
        server, self._server = self._server, None
        if server is not None:
            if self.app is not None:
                self.app[HEALTH].stopping = True
            await server.stop()
        if self._renter is not None:
            await self._renter.close()


def _described(host: str, listening: socket.socket) -> str:
    """Return what a server listens on, in words: ``::`` may or may not stand for IPv4 too."""
    if host not in EVERYWHERE:
        return host
    if listening.family != socket.AF_INET6:
        return 'all addresses of IPv4'
    only = listening.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return 'all addresses of IPv6, none of IPv4' if only else 'all addresses of IPv6 and IPv4'
