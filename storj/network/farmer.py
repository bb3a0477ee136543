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
import logging
import re
import socket
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import aiohttp
from aiohttp import web

from storj.digest import Generation, ShardDigest, make_proof
from storj.exception import ConfigurationError
from storj.network.bridge_link import HEARTBEAT, BridgeLink, BridgeLinkError
from storj.network.channels import FRAME_LIMIT, PIECE, DataChannels
from storj.network.contract import Contract, ContractError
from storj.network.faults import FaultPlan
from storj.network.identity import Identity, is_node_id
from storj.network.rpc import (
    ContactError,
    NodeContact,
    NodeError,
    NodeUnreachableError,
    RpcClient,
    RpcServer,
)
from storj.network.store import FarmerIndex, NullStore, ShardStore, ShardWriter, StoreError

__all__ = ('PROTOCOLS', 'Farmer', 'FarmerSettings')

logger = logging.getLogger(__name__)

#: Protocol versions that a farmer may announce, and the core release that goes with each.
PROTOCOLS: Mapping[str, str] = {'0.10.0': '5.1.2', '1.2.0': '8.7.2'}

#: Seconds that a farmer token lives (section 8.1).
TOKEN_LIFETIME = 86400.0
#: Bytes of a shard at the most (section 8.1).
SHARD_LIMIT = 4294967296
#: Seconds by which a contract may begin in the future (section 7.4).
CONSIGN_THRESHOLD = 86400.0
#: Audits in one message, and audits that are worked on at one time (section 5.6).
AUDIT_LIMIT, AUDITS_AT_ONCE = 64, 3
#: Audit leaves of one shard.
TREE_LIMIT = 4096
#: Shards that are copied from other farmers at one time.
MIRRORS_AT_ONCE = 8
#: Seconds without a byte from another farmer after which a copy is given up.
MIRROR_STALL = 30.0
#: Seconds between two rounds of forgetting what has expired.
SWEEP_INTERVAL = 60.0
#: Seconds between two questions of a leaving farmer to its bridge.
LEAVE_INTERVAL = 1.0

_CHALLENGE = re.compile(r'[0-9a-f]{64}\Z')
_NOT_FOUND = 'Contract not found or not authorized'


@dataclass(frozen=True)
class FarmerSettings:
    """What a farmer is started with.

    Attributes:
        path (Path): its folder; identity, index and shards lie there.
        bridge_url (str | None): where it registers; None for a farmer that nobody is told of.
        size (int | None): bytes that it stores at the most; None for as much as the disk holds.
        host (str): address that it listens on.
        port (int): port that it listens on; 0 for any free one, the same again after a restart
            if it is still free.
        address (str | None): address that it announces; by default the host.
        protocol (str): version that it announces, one of :data:`PROTOCOLS`.
        store (Literal['disk', 'null']): ``null`` checks hashes, counts bytes and keeps nothing.
        durable (bool): flush each shard to the disk before it counts as stored.
        token_lifetime (float): seconds.
        heartbeat (float): seconds between two signs of life to the bridge.
        renters (Collection[str] | None): node ids and extended public keys of the renter nodes
            that it stores for; None for any.

    Raises:
        ValueError: a value makes no sense.
    """

    path: Path
    bridge_url: str | None = None
    size: int | None = None
    host: str = '127.0.0.1'
    port: int = 0
    address: str | None = None
    protocol: str = '1.2.0'
    store: Literal['disk', 'null'] = 'disk'
    durable: bool = False
    token_lifetime: float = TOKEN_LIFETIME
    heartbeat: float = HEARTBEAT
    renters: Collection[str] | None = None

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f'protocol is one of {", ".join(PROTOCOLS)}, not {self.protocol!r}')
        if self.store not in ('disk', 'null'):
            raise ValueError(f"store is 'disk' or 'null', not {self.store!r}")
        if self.size is not None and self.size <= 0:
            raise ValueError('a farmer offers at least one byte')
        if not 0 <= self.port <= 65535:
            raise ValueError('a port is a number from 0 to 65535')
        if self.token_lifetime <= 0 or self.heartbeat <= 0:
            raise ValueError('a time is a positive number of seconds')


class Farmer:
    """A running farmer; all of its methods belong to one event loop.

    Args:
        settings (FarmerSettings): what it is started with.
        number (int): by which faults select it.
        faults (FaultPlan | None): what shall go wrong.
        workers (Executor | None): threads for hashes and files; own ones by default.
        clock (Callable[[], float]): seconds since 1970.

    Attributes:
        settings (FarmerSettings): as given.
        identity (Identity): read from its folder by :meth:`start`.
        port (int): that it listens on.
    """

    def __init__(
        self,
        settings: FarmerSettings,
        *,
        number: int = 0,
        faults: FaultPlan | None = None,
        workers: Executor | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.number = number
        self.port = settings.port
        self._faults = faults if faults is not None else FaultPlan()
        self._shared_workers = workers
        self._workers: Executor
        self._clock = clock
        self._runner: web.AppRunner | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._mirrors: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._audits = asyncio.Semaphore(AUDITS_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None
        self._link: BridgeLink | None = None
        self._leaving = False
        self.identity: Identity
        self._store: ShardStore
        self._index: FarmerIndex
        self._channels: DataChannels
        self._rpc: RpcServer
        self._calls: RpcClient

    # ------------------------------------------------------------- life

    async def start(self) -> None:
        """Open the store, listen, and begin to register at the bridge.

        Returns when the port is open; :meth:`wait_registered` waits for the bridge.

        Raises:
            ConfigurationError: the folder cannot be used, or the port is taken.
        """
        settings = self.settings
        listening = self._listen()
        try:
            store = ShardStore if settings.store == 'disk' else NullStore
            self._store = store(settings.path, settings.size, durable=settings.durable)
            self.identity = Identity.load(settings.path / 'identity.key')
            self._index = FarmerIndex(settings.path / 'farmer.db', self._clock)
        except BaseException:
            listening.close()
            raise
        self._workers = self._shared_workers or ThreadPoolExecutor(2, 'farmer')
        self._channels = DataChannels(
            self.number,
            self.identity.node_id,
            self._store,
            self._index,
            self._report,
            self._faults,
            self._clock,
            self._workers,
        )
        self._calls = RpcClient(self.identity, self.contact, clock=self._clock)
        self._rpc = RpcServer(self.identity, self.contact, self._handlers(), clock=self._clock)
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=MIRROR_STALL),
            read_bufsize=PIECE,
        )
        app = web.Application(middlewares=[self._addressed_here])
        app.add_routes([web.post('/', self._answer_rpc), *self._channels.routes()])
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=0.5,
            read_bufsize=PIECE // 4,
            auto_decompress=False,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listening, backlog=128).start()
        self._sweeper = asyncio.ensure_future(self._sweep())
        if settings.bridge_url is not None:
            self._link = BridgeLink(
                settings.bridge_url,
                self.identity,
                self.contact,
                self._has_space,
                self._workers,
                space_offered=lambda: settings.size,
                heartbeat=settings.heartbeat,
                clock=self._clock,
            )
            self._link.start()
        logger.info('farmer %s listens on %s:%d', self.identity.node_id, settings.host, self.port)

    async def stop(self, *, abruptly: bool = False) -> None:
        """End all transfers and close everything; nothing happens if it does not run.

        Args:
            abruptly (bool): reset the connections first, as the end of a process would.
        """
        runner, self._runner = self._runner, None
        if runner is None:
            return
        if abruptly and runner.server is not None:
            for connection in runner.server.connections:
                connection.force_close()
                if connection.transport is not None:
                    connection.transport.abort()
        tasks = [*self._mirrors.values()]
        if self._sweeper is not None:
            tasks.append(self._sweeper)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await runner.cleanup()
        if self._link is not None:
            await self._link.close()
        if self._session is not None:
            await self._session.close()
        await self._calls.close()
        self._index.close()
        if self._shared_workers is None:
            self._workers.shutdown(wait=False)

    async def leave(self, progress: Callable[[int], object] = lambda remaining: None) -> None:
        """Take no more shards, and wait until the bridge has copies of all on other farmers.

        After that the bridge knows this farmer no more; stop it, and start it again to come back.
        A bridge that is away is waited for.

        Args:
            progress (Callable[[int], object]): called with the shards that lie here only.

        Raises:
            BridgeLinkError: the bridge knows no departures.
            RuntimeError: the farmer has no bridge.
        """
        if self._link is None:
            raise RuntimeError('a farmer without a bridge has nothing to leave')
        self._leaving = True
        while True:
            try:
                remaining = await self._link.depart()
            except BridgeLinkError as error:
                if error.status is not None:
                    raise
                logger.warning('cannot leave %s yet: %s', self._link.url, error)
            else:
                progress(remaining)
                if not remaining:
                    await self._link.close()
                    return
            await asyncio.sleep(LEAVE_INTERVAL)

    async def wait_registered(self) -> None:
        """Wait until the bridge knows this farmer."""
        if self._link is not None:
            await self._link.registered.wait()

    @property
    def running(self) -> bool:
        """Whether the farmer listens."""
        return self._runner is not None

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
        exchange reports and ``audits``.
        """
        return {
            'node_id': self.identity.node_id,
            'address': self.settings.address or self.settings.host,
            'port': self.port,
            'protocol': self.settings.protocol,
            'store': self.settings.store,
            'path': str(self.settings.path),
            'shards': len(self._store),
            'used': self._store.used,
            'size': self.settings.size,
            'transfers': self._channels.active,
            'registered': self._link is not None and self._link.registered.is_set(),
            'counters': self._index.counters(),
        }

    def _listen(self) -> socket.socket:
        """Bind the port; a taken one is an error now, not a wait later."""
        settings = self.settings
        try:
            family = socket.getaddrinfo(
                settings.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0][0]
            listening = socket.create_server((settings.host, self.port), family=family)
        except OSError as error:
            raise ConfigurationError(
                f'cannot listen on {settings.host}:{self.port}: {error.strerror or error}'
            ) from error
        # Kept for a restart, so that contacts that others hold stay true.
        self.port = listening.getsockname()[1]
        return listening

    async def _sweep(self) -> None:
        """Forget what has expired, and cut what does not move, from time to time."""
        while True:
            for data_hash in self._index.sweep():
                self._store.delete(data_hash)
            self._channels.abort_idle()
            await asyncio.sleep(SWEEP_INTERVAL)

    def _has_space(self) -> bool:
        return not self._leaving and self._store.has_room(
            1, promised=self._index.promised(self._store)
        )

    def _report(self, data_hash: str, begun: float, message: str) -> None:
        if self._link is not None:
            success = message in ('SHARD_UPLOADED', 'SHARD_DOWNLOADED', 'SHARD_EXISTS')
            self._link.report(data_hash, begun, message, success=success)

    # ------------------------------------------------------------- requests

    @web.middleware
    async def _addressed_here(
        self, request: web.Request, handler: Callable[[web.Request], Any]
    ) -> web.StreamResponse:
        """Refuse what is meant for another node, and answer unknown paths in JSON."""
        target = request.headers.get('x-storj-node-id')
        if target and target != self.identity.node_id:
            # A farmer may be the relay of others; this one is not (observed, finding 14).
            text = 'Unable to route to tunnel, client is not connected'
            return web.json_response({'error': text}, status=502)
        if request.method == 'OPTIONS':
            return self._channels.preflight(request)
        try:
            response: web.StreamResponse = await handler(request)
        except web.HTTPNotFound:
            answer = {'code': 'ResourceNotFound', 'message': f'{request.path} does not exist'}
            return web.json_response(answer, status=404)
        except web.HTTPMethodNotAllowed:
            answer = {'code': 'MethodNotAllowed', 'message': f'{request.method} is not allowed'}
            return web.json_response(answer, status=405)
        return response

    async def _answer_rpc(self, request: web.Request) -> web.StreamResponse:
        return await self._rpc.handle(request, self._disturb)

    def _disturb(self, method: str) -> Any:
        return self._faults.at_farmer(self.number, self.identity.node_id, method.lower())

    def _handlers(self) -> Mapping[str, Any]:
        return {
            'PING': self._ping,
            'PROBE': self._probe,
            'FIND_NODE': self._find_node,
            'ALLOC': self._alloc,
            'CONSIGN': self._consign,
            'RETRIEVE': self._retrieve,
            'RENEW': self._renew,
            'MIRROR': self._mirror,
            'AUDIT': self._audit,
        }

    # ------------------------------------------------------------- node RPC (section 7.4)

    async def _ping(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        return {}

    async def _probe(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        try:
            await self._calls.call(sender, 'PING')
        except (NodeError, NodeUnreachableError) as error:
            raise NodeError('Probe failed, you are not addressable') from error
        return {}

    async def _find_node(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        # The bridge's list of contacts has taken the place of the nodes' own routing (1.5, E4).
        return {'nodes': []}

    async def _alloc(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        """Take a contract that a renter node has signed, and issue the token for the upload."""
        try:
            contract = Contract.from_mapping(params.get('contract'))
        except ContractError as error:
            raise NodeError('Invalid contract') from error
        if contract.renter_id != sender.node_id or not contract.verify('renter', sender.node_id):
            raise NodeError('Invalid contract signature')
        owner = _owner(sender)
        if contract.renter_hd_key not in (False, owner):
            raise NodeError('Invalid contract signature')
        tree = _tree(params.get('audit_tree'))
        self._check_terms(contract, sender)
        contract = replace(
            contract,
            farmer_id=self.identity.node_id,
            payment_destination=self.identity.payment_address,
        ).signed('farmer', self.identity)
        self._index.put_contract(contract, owner, tree)
        answer: dict[str, Any] = {
            'contract': contract.to_json(),
            'token': self._issue(contract.data_hash, owner),
        }
        if tree is not None:
            # Tells our own bridge that the leaves arrived; others ignore it.
            answer['audit_tree'] = len(tree)
        return answer

    async def _consign(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        """Take the audit leaves of a contract, and issue the token for the upload (core < 7)."""
        contract = self._contract_of(params, sender)
        tree = _tree(params.get('audit_tree'))
        now = self._clock()
        if not (
            now * 1000 < contract.store_end
            and (now + CONSIGN_THRESHOLD) * 1000 > contract.store_begin
        ):
            raise NodeError('Consignment violates contract store time')
        if tree is not None:
            self._index.set_tree(contract.data_hash, _owner(sender), tree)
        return {'token': self._issue(contract.data_hash, _owner(sender))}

    async def _retrieve(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        """Issue the token for a download."""
        data_hash = params.get('data_hash')
        if not is_node_id(data_hash):
            raise NodeError(f'Invalid data hash provided: {str(data_hash)[:64]}')
        contract = self._contract_of(params, sender)
        if contract.data_hash not in self._store:
            raise NodeError('Shard data not found')
        return {'token': self._issue(contract.data_hash, _owner(sender))}

    async def _renew(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        """Sign a contract again that differs in its times or its renter node only."""
        try:
            wanted = Contract.from_mapping(params.get('contract'))
        except ContractError as error:
            raise NodeError('Invalid contract format') from error
        old = self._index.contract(wanted.data_hash, _owner(sender))
        if old is None:
            raise NodeError('No contract found for renter_id')
        if wanted.renter_id != sender.node_id or not wanted.verify('renter', sender.node_id):
            raise NodeError('Invalid new renter signature on updated contract')
        if wanted.renter_hd_key not in (False, _owner(sender)):
            raise NodeError('renter_hd_key cannot be changed')
        before, after = old.to_json(), wanted.to_json()
        for name in before:
            if before[name] != after[name] and name not in _RENEWABLE:
                raise NodeError(f'{name} cannot be changed')
        signed = wanted.signed('farmer', self.identity)
        self._index.put_contract(signed, _owner(sender), None)
        return {'contract': signed.to_json()}

    async def _audit(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        """Prove that shards are still here."""
        audits = params.get('audits')
        if not isinstance(audits, list) or not 0 < len(audits) <= AUDIT_LIMIT:
            raise NodeError('Invalid audit list supplied')
        owner = _owner(sender)
        return {'proofs': await asyncio.gather(*(self._prove(audit, owner) for audit in audits))}

    async def _mirror(self, params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
        """Begin to copy a shard from another farmer."""
        contract = self._contract_of(params, sender)
        try:
            source = NodeContact.from_mapping(params.get('farmer'))
        except ContactError as error:
            raise NodeError(str(error)) from error
        token = params.get('token')
        if not is_node_id(token):
            raise NodeError('Invalid token supplied')
        key = (contract.data_hash, _owner(sender))
        if contract.data_hash in self._store or key in self._mirrors:
            return {}
        if len(self._mirrors) >= MIRRORS_AT_ONCE:
            raise NodeError('Too many transfers')
        try:
            writer = self._store.writer(contract.data_hash, contract.data_size)
        except StoreError as error:
            raise NodeError(str(error)) from error
        task = asyncio.ensure_future(self._copy(contract, writer, source, token))
        self._mirrors[key] = task
        task.add_done_callback(lambda _: self._mirrors.pop(key, None))
        return {}

    # ------------------------------------------------------------- what the methods need

    def _contract_of(self, params: Mapping[str, Any], sender: NodeContact) -> Contract:
        data_hash = params.get('data_hash')
        contract = (
            self._index.contract(data_hash, _owner(sender)) if is_node_id(data_hash) else None
        )
        if contract is None:
            raise NodeError(_NOT_FOUND)
        return contract

    def _check_terms(self, contract: Contract, sender: NodeContact) -> None:
        """Refuse a contract that this farmer cannot or will not keep."""
        renters = self.settings.renters
        if self._leaving:
            raise NodeError('Not accepting contracts')
        if renters is not None and not {sender.node_id, _owner(sender)} & set(renters):
            raise NodeError('Not accepting contracts')
        if not 0 < contract.data_size <= SHARD_LIMIT:
            raise NodeError('Not accepting contracts')
        if contract.store_end <= self._clock() * 1000:
            raise NodeError('Not accepting contracts')
        if contract.data_hash in self._store:
            return
        try:
            promised = self._index.promised(self._store, besides=contract.data_hash)
            if not self._store.has_room(contract.data_size, promised=promised):
                raise NodeError('No space left')
        except StoreError as error:
            raise NodeError(str(error)) from error

    def _issue(self, data_hash: str, owner: str) -> str:
        return self._index.issue(data_hash, owner, self.settings.token_lifetime)

    async def _prove(self, audit: object, owner: str) -> Any:
        """Return the proof for one challenge, in the generation that the audit leaves have."""
        data_hash = audit.get('data_hash') if isinstance(audit, dict) else None
        challenge = audit.get('challenge') if isinstance(audit, dict) else None
        if (
            not is_node_id(data_hash)
            or not isinstance(challenge, str)
            or not _CHALLENGE.match(challenge)
        ):
            raise NodeError('Invalid data hash or challenge provided')
        leaves = self._index.tree(data_hash, owner)
        if leaves is None or data_hash not in self._store:
            raise NodeError('Shard not found')
        first: Generation = 'B' if self.settings.protocol.startswith('0.') else 'C'
        second: Generation = 'C' if first == 'B' else 'B'
        try:
            async with self._audits:
                for generation in (first, second):
                    proof = await asyncio.get_running_loop().run_in_executor(
                        self._workers, self._proof, data_hash, challenge, leaves, generation
                    )
                    if proof is not None:
                        self._index.count('audits')
                        return proof
        except StoreError as error:
            raise NodeError(str(error)) from error
        raise NodeError('Failed to generate proof')

    def _proof(
        self, data_hash: str, challenge: str, leaves: list[str], generation: Generation
    ) -> Any:
        """Read a shard and answer a challenge about it; called in a worker thread."""
        digest = ShardDigest([challenge], generation)
        try:
            with closing(self._store.reader(data_hash)) as file:
                while piece := file.read(PIECE):
                    digest.update(piece)
        except OSError as error:
            raise StoreError(f'Cannot read: {error.strerror}') from error
        try:
            return make_proof(leaves, digest.responses()[0], generation)
        except ValueError:
            return None

    async def _copy(
        self, contract: Contract, writer: ShardWriter, source: NodeContact, token: str
    ) -> None:
        """Fetch a shard from another farmer and report to the bridge how it went."""
        begun = self._clock()
        message = 'MIRROR_FAILED'
        try:
            fetch = _fetch_frames if source.protocol.startswith('0.') else _fetch_body
            run = self._channels.run
            if self._session is None:
                return
            await fetch(self._session, source, contract, token, writer, run)
            if writer.received == contract.data_size and await run(PIECE, writer.finish):
                message = 'MIRROR_SUCCESS'
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, NodeError, StoreError) as error:
            logger.warning('mirror of %s failed: %s', contract.data_hash, error)
        finally:
            writer.close()
        self._index.count(message.lower())
        if self._link is not None:
            self._link.report(
                contract.data_hash,
                begun,
                message,
                farmer_id=source.node_id,
                success=message == 'MIRROR_SUCCESS',
            )


#: What a renewed contract may change (section 7.4).
_RENEWABLE = frozenset(
    {
        'renter_id',
        'renter_hd_key',
        'renter_hd_index',
        'renter_signature',
        'farmer_signature',
        'store_begin',
        'store_end',
    }
)


def _owner(sender: NodeContact) -> str:
    """Return to whom a contract belongs: all renter nodes of a bridge share an extended key."""
    return sender.hd_key or sender.node_id


def _tree(raw: object) -> list[str] | None:
    """Return audit leaves as they came, once they are known to make a tree."""
    if raw is None:
        return None
    if not isinstance(raw, list) or not 0 < len(raw) <= TREE_LIMIT:
        raise NodeError('Invalid audit tree supplied')
    leaves = [leaf for leaf in raw if is_node_id(leaf)]
    if len(leaves) != len(raw) or len(raw) & (len(raw) - 1):
        raise NodeError('Invalid audit tree supplied')
    return leaves


async def _store_piece(contract: Contract, writer: ShardWriter, piece: bytes, run: Any) -> None:
    if writer.received + len(piece) > contract.data_size:
        raise NodeError('the other farmer sent too much')
    await run(len(piece), partial(writer.write, [piece]))


async def _fetch_body(
    session: aiohttp.ClientSession,
    source: NodeContact,
    contract: Contract,
    token: str,
    writer: ShardWriter,
    run: Any,
) -> None:
    """Fetch a shard over HTTP (section 4.2)."""
    async with session.get(
        f'{source.url}/shards/{contract.data_hash}',
        params={'token': token},
        headers={
            'content-type': 'application/octet-stream',
            'x-storj-node-id': source.node_id,
        },
        allow_redirects=False,
    ) as response:
        if response.status != 200:
            raise NodeError(f'the other farmer answered with status {response.status}')
        while piece := await response.content.readany():
            await _store_piece(contract, writer, piece, run)


async def _fetch_frames(
    session: aiohttp.ClientSession,
    source: NodeContact,
    contract: Contract,
    token: str,
    writer: ShardWriter,
    run: Any,
) -> None:
    """Fetch a shard over the WebSocket channel (section 4.1)."""
    async with session.ws_connect(
        f'{source.url}/', max_msg_size=FRAME_LIMIT, compress=0, autoping=True
    ) as channel:
        await channel.send_json({'token': token, 'hash': contract.data_hash, 'operation': 'PULL'})
        while True:
            message = await channel.receive(timeout=MIRROR_STALL)
            if message.type is not aiohttp.WSMsgType.BINARY:
                break
            await _store_piece(contract, writer, message.data, run)
        if channel.close_code != 1000:
            raise NodeError(f'the other farmer closed with code {channel.close_code}')
