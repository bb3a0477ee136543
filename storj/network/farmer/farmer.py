"""A farmer: a node that stores shards for the renter nodes of a bridge.

One port serves everything: the node RPC at ``POST /``, the WebSocket data channel at ``GET /`` and
the HTTP one below ``/shards/``. The farmer knows its bridge by URL only, and the bridge knows the
farmer by its address card only, so that each may run in another process or on another machine.

::

    bridge --- node RPC --->  Farmer -------> store (files) and index (contracts, tokens)
    client --- shards ----->  channels ---'
    bridge <-- HTTP --------  bridge_link     registration, heartbeat, exchange reports
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiohttp import web

from storj.exception import NetworkSetupError
from storj.network.farmer.bridge_link import BridgeLink, BridgeLinkError
from storj.network.farmer.channels import PIECE, DataChannels
from storj.network.farmer.copies import Copies
from storj.network.farmer.expiry import Expiry
from storj.network.farmer.index import FarmerIndex
from storj.network.farmer.remote_index import RemoteIndex
from storj.network.farmer.scrub import Scrub
from storj.network.farmer.service import FarmerMethods, FarmerTerms
from storj.network.farmer.settings import PROTOCOLS, FarmerSettings
from storj.network.farmer.shard_store import ShardStore
from storj.network.farmer.shards import FarmerParts, Run, Shards, in_threads
from storj.network.farmer.store import Store, StoreError
from storj.network.farmer.store.disk import DiskStore
from storj.network.farmer.store.null import NullStore
from storj.network.farmer.store.objects import ObjectStore
from storj.network.farmer.tokens import Tokens
from storj.network.faults import FaultPlan
from storj.network.node import health
from storj.network.node.contract import Contract
from storj.network.node.identity import Identity
from storj.network.node.rpc import NodeContact, RpcClient, RpcServer
from storj.network.node.serving import Server, listen
from storj.network.node.state_files import FolderLock, begun_farm, lost
from storj.network.node.tasks import Tasks
from storj.network.node.wire import is_broken_off

logger = logging.getLogger(__name__)

#: Seconds between two rounds of forgetting what has expired.
SWEEP_INTERVAL = 60.0
#: Seconds until it is tried again whether the index can be written.
PROBE_INTERVAL = 60.0
#: Seconds between two looks at an object store.
WATCH_INTERVAL = 5.0
#: Seconds until a bridge is told again of shards that are bad.
TELL_INTERVAL = 10.0
#: Seconds between two questions of a leaving farmer to its bridge.
LEAVE_INTERVAL = 1.0
# How many times as long as the last answer took to wait, and for how long at the most: the bridge
# takes this farmer for one that stays if it has not asked for a minute.
_LEAVE_PART, _LEAVE_LONGEST = 19, 30.0
# Answers of a bridge that is busy, or whose database is away.
_LATER = frozenset({429, 500, 502, 503, 504})


class Workers:
    """Threads for what would hold up an event loop; farmers of one process share them.

    Args:
        transfers (int): threads for shards that are moving.
        background (int): threads for audits and proofs of work, which take long and must never
            stand in the way of a transfer.

    Attributes:
        transfers (Executor): runs blocking work of transfers.
        background (Executor): runs blocking work of everything else.
    """

    def __init__(self, transfers: int = 2, background: int = 1) -> None:
        self.transfers: Executor = ThreadPoolExecutor(transfers, 'storj-farmer-transfer')
        self.background: Executor = ThreadPoolExecutor(background, 'storj-farmer-background')

    def close(self) -> None:
        """End the threads; what has not begun is dropped."""
        for executor in (self.transfers, self.background):
            executor.shutdown(cancel_futures=True)


class Farmer:
    """A running farmer; all of its methods belong to one event loop.

    Args:
        settings (FarmerSettings): what it is started with.
        number (int): by which faults select it.
        faults (FaultPlan | None): faults to cause.
        workers (Workers | None): threads; own ones by default.
        clock (Callable[[], float]): seconds since 1970.
        monotonic (Callable[[], float]): seconds that nobody sets.

    Attributes:
        settings (FarmerSettings): as given.
        identity (Identity): read from its folder by :meth:`start`.
        port (int): that it listens on.
        is_new (bool): whether its folder was empty at the start.
        tasks (Tasks): its work in the background; like all parts made by :meth:`start`.
        store (ShardStore): the files of the shards.
        index (FarmerIndex): contracts, shards and counters.
        shards (Shards): both together: the intact shards.
        tokens (Tokens): that transfers are let in by.
        channels (DataChannels): transfers.
        copies (Copies): of shards of other farmers that it makes.
        rpc (RpcServer): answers the other nodes.
        calls (RpcClient): asks them.
        link (BridgeLink | None): to the bridge; None without one.
    """

    def __init__(
        self,
        settings: FarmerSettings,
        *,
        number: int = 0,
        faults: FaultPlan | None = None,
        workers: Workers | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.number = number
        self.port = settings.port
        self._faults = faults if faults is not None else FaultPlan()
        self._shared_workers = workers
        self._workers: Workers
        self._clock = clock
        self._parts: contextlib.AsyncExitStack | None = None
        self._server: Server
        self._monotonic = monotonic
        self.link: BridgeLink | None = None
        self._leaving = False
        self.is_new = False
        self.tasks: Tasks
        self.identity: Identity
        self._run: Run
        self.store: ShardStore
        self.shards: Shards
        self.index: FarmerIndex
        self.tokens: Tokens
        self._expiry: Expiry
        self._bad: asyncio.Event
        self._looked: health.Check
        self.channels: DataChannels
        self.copies: Copies
        self.rpc: RpcServer
        self.calls: RpcClient

    # ------------------------------------------------------------- life

    async def start(self) -> None:
        """Open the store, listen, and begin to register at the bridge.

        Returns when the port is open; :meth:`wait_registered` waits for the bridge.

        Raises:
            NetworkSetupError: If the folder cannot be used, or the port is taken.
        """
        async with contextlib.AsyncExitStack() as parts:
            listening = listen(self.settings.host, self.port)
            parts.callback(listening.close)
            # Kept for a restart, so that the address that others know stays right.
            self.port = listening.getsockname()[1]
            if self._shared_workers is None:
                # Threads that wait for a network, or for a disk.
                remote = self.settings.store not in ('disk', 'null')
                self._workers = Workers(transfers=32) if remote else Workers()
                parts.push_async_callback(asyncio.to_thread, self._workers.close)
            else:
                self._workers = self._shared_workers
            await self._open(parts)
            self._make_parts(parts)
            await self._serve(parts, listening)
            self._parts = parts.pop_all()
        logger.info(
            'farmer %s listens on %s:%d', self.identity.node_id, self.settings.host, self.port
        )
        for problem in self._problems():
            logger.warning('the farmer in %s: %s', self.settings.path, problem)

    async def _open(self, parts: contextlib.AsyncExitStack) -> None:
        """Open the folder, in a thread: a large disk takes a while."""
        given_up = threading.Event()
        # Before anything is read: another process may be changing it.
        lock = FolderLock(self.settings.path, 'farmer')
        parts.callback(lock.close)
        opening = asyncio.ensure_future(asyncio.to_thread(self._open_folder, given_up.is_set))
        try:
            await asyncio.shield(opening)
        finally:
            given_up.set()
            # The folder stays locked until the thread has finished with it, however often this is
            # cancelled: the index would stay open.
            while not opening.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({opening})
            if opening.exception() is None:
                parts.callback(self.index.close)

    def _open_folder(self, stopped: Callable[[], bool]) -> None:
        settings = self.settings
        known = self._known_identity()
        begun = known is not None or begun_farm(settings.path)
        self.store = ShardStore(self._open_store(stopped), settings.size)
        index = self._open_index(known, stopped)
        try:
            self.identity = known or self._own_identity(index, begun)
            if known is not None:
                self._adopt_index(index, known)
            self._run = in_threads(self._workers.transfers, always=not self.store.is_local)
            self.shards = Shards(self.store, index, self._run, self._monotonic)
        except StoreError as error:
            index.close()
            raise NetworkSetupError(f'{settings.store}: {error}') from error
        except BaseException:
            index.close()
            raise
        self.index = index

    def _open_store(self, stopped: Callable[[], bool]) -> Store:
        settings = self.settings
        if settings.store == 'null':
            return NullStore()
        if settings.store != 'disk':
            return ObjectStore(settings.store, settings.endpoint)
        return DiskStore(settings.path, durable=settings.durable, stopped=stopped)

    def _known_identity(self) -> Identity | None:
        """Return the identity that does not depend on an index in the folder, if there is one."""
        settings = self.settings
        if settings.private_key is not None:
            try:
                return Identity(bytes.fromhex(settings.private_key))
            except ValueError as error:
                raise NetworkSetupError('the private key is none of secp256k1') from error
        if settings.database is not None:
            return Identity.load(settings.path / 'identity.key')
        return None

    def _open_index(self, known: Identity | None, stopped: Callable[[], bool]) -> FarmerIndex:
        settings = self.settings
        if settings.database is not None and known is not None:
            return RemoteIndex(settings.database, known.node_id)
        return FarmerIndex(
            settings.path / 'farmer.db',
            durable=settings.durable,
            workers=self._workers.transfers,
            stopped=stopped,
        )

    def _adopt_index(self, index: FarmerIndex, identity: Identity) -> None:
        """Make an index that is new the one of a key that was given; refuse another farmer's."""
        owner = index.note('node_id')
        if owner not in (None, identity.node_id):
            raise NetworkSetupError(
                f'{self.settings.path}: farmer.db belongs to {owner}, and the key is that of'
                f' {identity.node_id}'
            )
        self.is_new = owner is None
        index.set_note('node_id', identity.node_id)

    def _own_identity(self, index: FarmerIndex, begun: bool) -> Identity:
        """Return the identity that the index is of; it is made last in a new folder."""
        path = self.settings.path / 'identity.key'
        owner = index.note('node_id')
        # A new key would be a new farmer: the bridge would count all shards here as lost.
        if not begun and (owner or index.shards()):
            raise lost(path, 'is missing')
        identity = Identity.load(path)
        if owner is None:
            index.set_note('node_id', identity.node_id)
        elif owner != identity.node_id:
            raise lost(path, f'is the key of {identity.node_id}, and farmer.db belongs to {owner}')
        self.is_new = not begun
        return identity

    def _make_parts(self, parts: contextlib.AsyncExitStack) -> None:
        """Make what answers and what calls; nothing begins here."""
        settings = self.settings
        self.tasks = Tasks(f'farmer {self.identity.node_id}')
        self._looked = health.at_most_every(PROBE_INTERVAL, self._probe, self._monotonic)
        self.tokens = Tokens(settings.token_lifetime, self._monotonic)
        self.calls = RpcClient(self.identity, self.contact, clock=self._clock)
        parts.push_async_callback(self.calls.close)
        self.link = None
        if settings.bridge_url is not None:
            self.link = BridgeLink(
                settings.bridge_url,
                self.identity,
                self.contact,
                self._has_space,
                self._workers.background,
                space_offered=lambda: settings.size,
                heartbeat=settings.heartbeat,
                clock=self._clock,
            )
            parts.push_async_callback(self.link.close)
        self._expiry = Expiry(self.shards, self.index, self.link, self._clock, self._monotonic)
        shared = FarmerParts(
            self.store, self.shards, self.index, self.tokens, self._run, self._clock
        )
        self.channels = DataChannels(
            self.number, self.identity.node_id, shared, self._report, self._faults
        )
        parts.push_async_callback(self.channels.close)
        self.copies = Copies(shared, self._copied, self.tasks)
        methods = FarmerMethods(
            self.identity,
            FarmerTerms(settings.protocol, settings.renters, lambda: not self._leaving),
            shared,
            self.copies,
            self.calls,
            self._workers.background,
        )
        self.rpc = RpcServer(
            self.identity,
            self.contact,
            methods.handlers(),
            clock=self._clock,
            monotonic=self._monotonic,
        )

    async def _serve(self, parts: contextlib.AsyncExitStack, listening: socket.socket) -> None:
        """Answer on the port, register, and look after the shards."""
        app = web.Application(middlewares=[self._addressed_here])
        app.add_routes(
            [
                web.post('/', self._answer_rpc),
                web.get('/health', self._answer_health),
                *self.channels.routes(),
            ]
        )
        self._server = Server(
            app, shutdown_timeout=0.5, handler_cancellation=True, read_bufsize=PIECE // 2
        )
        parts.push_async_callback(self._server.stop)
        # Before the server: when a whole network stops, the farmers copied from stop as well.
        parts.push_async_callback(self.copies.close)
        await self._server.start(listening)
        tasks = self.tasks
        parts.push_async_callback(tasks.stop)
        tasks.start('the sweep', self._sweep())
        if not self.store.is_local:
            tasks.start('the watch of the store', self._watch_store())
        self._bad = asyncio.Event()
        self._bad.set()
        self.shards.found_bad = self._bad.set
        if self.link is not None:
            self.link.start(tasks)
            tasks.start('the report of bad shards', self._tell_bad(self.link))
        settings = self.settings
        if settings.scrub_rate and self.store.keeps_data:
            scrub = Scrub(
                self.shards,
                self.index,
                settings.scrub_rate,
                settings.scrub_interval,
                self._monotonic,
            )
            tasks.start('the scrub of the shards', scrub.run())

    async def stop(self, *, abruptly: bool = False) -> None:
        """End all transfers and close everything; nothing happens if it does not run.

        Args:
            abruptly (bool): reset the connections first, as the end of a process would.
        """
        parts, self._parts = self._parts, None
        if parts is None:
            return
        if abruptly:
            self._server.break_off()
        await parts.aclose()

    async def leave(self, progress: Callable[[int], object] = lambda remaining: None) -> None:
        """Take no more shards, and wait until other farmers have the wanted copies of all.

        After that the bridge has forgotten this farmer; stop it, and start it again to come back.
        A bridge that cannot be reached, or is busy, is waited for.

        Args:
            progress (Callable[[int], object]): called with the number of shards that others
                have too few copies of.

        Raises:
            BridgeLinkError: If the bridge knows no departures.
            RuntimeError: If the farmer has no bridge.
        """
        if self.link is None:
            raise RuntimeError('a farmer without a bridge has nothing to leave')
        self._leaving = True
        while True:
            began = time.monotonic()
            try:
                remaining = await self.link.depart()
            except BridgeLinkError as error:
                if error.status is not None and error.status not in _LATER:
                    raise
                logger.warning('cannot leave %s yet: %s', self.link.url, error)
            else:
                progress(remaining)
                if not remaining:
                    await self.link.close()
                    return
            # Each time, the bridge looks at all shards of this farmer: for a part of the time only.
            took = time.monotonic() - began
            await asyncio.sleep(min(_LEAVE_LONGEST, max(LEAVE_INTERVAL, _LEAVE_PART * took)))

    async def snapshot(self, target: Path) -> None:
        """Copy the farmer's database as it is at one moment, while the farmer runs.

        Args:
            target (Path): an empty file.

        Raises:
            StoreError: If it cannot be written.
        """
        await asyncio.to_thread(self.index.copy_to, target)

    async def wait_registered(self) -> None:
        """Wait until the bridge knows this farmer."""
        if self.link is not None:
            await self.link.registered.wait()

    @property
    def running(self) -> bool:
        """Whether the farmer listens."""
        return self._parts is not None

    def contact(self) -> NodeContact:
        """Return the farmer's address card."""
        settings = self.settings
        return NodeContact(
            address=settings.address or settings.host,
            port=self.port,
            node_id=self.identity.node_id,
            protocol=settings.protocol,
            user_agent=PROTOCOLS[settings.protocol],
            last_seen=int(self._clock() * 1000),
        )

    def status(self) -> dict[str, Any]:
        """Return what the farmer stores and has done, for people and for ``--json``.

        Sizes are in bytes; ``counters`` are since its folder was made, by the messages of the
        exchange reports and ``audits``; ``problems`` say what does not work.
        """
        return {
            'node_id': self.identity.node_id,
            'address': self.settings.address or self.settings.host,
            'port': self.port,
            'protocol': self.settings.protocol,
            'store': self.settings.store,
            'path': str(self.settings.path),
            'shards': len(self.store),
            'used': self.store.used,
            'size': self.settings.size,
            'transfers': self.channels.active,
            'registered': self.link is not None and self.link.registered.is_set(),
            'counters': self.index.counters(),
            'problems': [str(problem) for problem in self._problems()],
        }

    def _problems(self) -> list[health.Problem]:
        """Return what does not work in this farmer."""
        return [
            *self._looked(),
            *health.tried(
                'the disk cannot be read' if self.store.is_local else 'the store cannot be used',
                self._shortage,
            ),
            *health.tasks(self.tasks),
        ]

    def _probe(self) -> list[health.Problem]:
        return health.tried('the index cannot be written', self.index.probe)

    def _shortage(self) -> list[health.Problem]:
        reason = self.store.shortage()
        return [] if reason is None else [health.Problem('it can take no shards', reason)]

    async def _answer_health(self, request: web.Request) -> web.Response:
        problems = self._problems()
        if self.link is not None and not self.link.in_touch:
            problems.append(health.Problem('the bridge does not know this farmer'))
        return health.answer_health(problems)

    async def _sweep(self) -> None:
        """Forget what has expired, and abort stalled transfers, from time to time."""
        while True:
            await self.forget()
            self.channels.abort_idle()
            await asyncio.sleep(SWEEP_INTERVAL)

    async def _watch_store(self) -> None:
        """Ask an object store whether it answers, so that it is used again soon after it does."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            try:
                await self._run(0, self.shards.look)
            except (StoreError, NetworkSetupError) as error:
                logger.debug('%s: %s', self.settings.store, error)

    async def forget(self) -> None:
        """Forget what has expired, and drop shards that nobody needs."""
        self.tokens.sweep()
        self.index.save_counters()
        try:
            await self._expiry.round()
        except StoreError as error:
            logger.warning('cannot look for what has expired: %s', error)

    async def _tell_bad(self, link: BridgeLink) -> None:
        """Tell the bridge which shards turned out to be missing or wrong, once it is there."""
        while True:
            await self._bad.wait()
            await link.registered.wait()
            self._bad.clear()
            try:
                while bad := self.index.bad():
                    names = [name for name, _ in bad]
                    if not await link.tell_bad(names):
                        logger.warning('the bridge does not want to know of bad shards')
                    self.index.told(names)
            except (BridgeLinkError, StoreError) as error:
                logger.warning('the bridge does not know yet which shards are bad: %s', error)
                self._bad.set()
                await asyncio.sleep(TELL_INTERVAL)

    def _has_space(self) -> bool:
        if self._leaving:
            return False
        try:
            return self.store.has_room(1, promised=self.tokens.promised())
        except StoreError as error:
            logger.warning('%s: %s', self.settings.path, error)
            return False

    def _report(self, data_hash: str, begun: float, message: str) -> None:
        if self.link is not None:
            success = message in ('SHARD_UPLOADED', 'SHARD_DOWNLOADED', 'SHARD_EXISTS')
            self.link.report(data_hash, begun, message, success=success)

    def _copied(
        self, contract: Contract, source: NodeContact, begun: float, stored: bool, untold: bool
    ) -> None:
        message = 'MIRROR_SUCCESS' if stored else 'MIRROR_FAILED'
        self.index.count(message.lower())
        if self.link is not None and untold:
            self.link.report(
                contract.data_hash, begun, message, farmer_id=source.node_id, success=stored
            )

    # ------------------------------------------------------------- requests

    @web.middleware
    async def _addressed_here(
        self, request: web.Request, handler: Callable[[web.Request], Any]
    ) -> web.StreamResponse:
        """Refuse what is meant for another node, and answer unknown paths in JSON."""
        target = request.headers.get('x-storj-node-id')
        if target and target != self.identity.node_id:
            # A farmer may be the relay of others; this one is not (section 10.14).
            text = 'Unable to route to tunnel, client is not connected'
            return web.json_response({'error': text}, status=502)
        if request.method == 'OPTIONS':
            return self.channels.preflight(request)
        try:
            response: web.StreamResponse = await handler(request)
        except StoreError as error:
            logger.warning('%s failed: %s', request.method, error)
            return web.json_response({'result': str(error)}, status=500)
        except ConnectionError as error:
            if is_broken_off(request, error):
                return web.Response(status=400)
            raise
        except web.HTTPNotFound:
            answer = {'code': 'ResourceNotFound', 'message': f'{request.path} does not exist'}
            return web.json_response(answer, status=404)
        except web.HTTPMethodNotAllowed:
            answer = {'code': 'MethodNotAllowed', 'message': f'{request.method} is not allowed'}
            return web.json_response(answer, status=405)
        return response

    async def _answer_rpc(self, request: web.Request) -> web.StreamResponse:
        return await self.rpc.handle(request, self._disturb)

    def _disturb(self, method: str) -> Any:
        return self._faults.at_farmer(self.number, self.identity.node_id, method.lower())
