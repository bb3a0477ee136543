"""What the tests of the bridge share: a bridge on a free port, and farmers that follow a script.

The bridge is the real one, reached over a real socket. Its renter node is replaced by
:class:`ScriptedFarmers`, which keeps the promises of
:class:`storj.network.bridge.renter.RenterNode` and can be told to refuse, to be away, or to keep
its caller waiting.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from storj.digest import Generation, ShardDigest, make_proof, new_challenges, shard_hash
from storj.network.bridge.app import HEAD_LIMIT, create_app
from storj.network.bridge.contacts import work
from storj.network.bridge.passwords import Passwords
from storj.network.bridge.renter import Allocation
from storj.network.bridge.state import BRIDGE, Bridge, BridgeSettings
from storj.network.bridge.upkeep.repairs import REPAIRS
from storj.network.node.contract import Contract
from storj.network.node.identity import Identity
from storj.network.node.rpc import ClockSkewError, NodeContact, NodeError, NodeUnreachableError
from storj.network.node.serving import Server
from storj.network.node.shard_client import ShardClientError, TransferBrokenError
from tests.network.nodes import Clock

T = TypeVar('T')

MAIL_LINK = re.compile(r'^http\S+$', re.MULTILINE)


@dataclass
class Answer:
    """An answer of the bridge."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        assert list(self.json) == ['error']
        return str(self.json['error'])


@dataclass(frozen=True)
class Account:
    """Somebody with a password."""

    email: str
    password: str = 'correct horse'

    @property
    def hashed(self) -> str:
        return hashlib.sha256(self.password.encode()).hexdigest()

    @property
    def headers(self) -> dict[str, str]:
        pair = base64.b64encode(f'{self.email}:{self.hashed}'.encode()).decode()
        return {'authorization': f'Basic {pair}'}


@dataclass
class ScriptedFarmer:
    """A farmer without a socket."""

    identity: Identity
    contact: NodeContact
    trees: dict[str, list[str]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    shards: dict[str, bytes] = field(default_factory=dict)
    away: bool = False
    refuses: bool = False
    clock_ahead: float = 0.0
    #: Calls wait for this, all or those of one method; so many do.
    hangs: asyncio.Event | None = None
    hangs_in: str = ''
    waiting: int = 0
    #: Told of each challenge; breaks off all downloads.
    hears: Callable[[str], object] = lambda challenge: None
    breaks_off: bool = False
    #: Says of what it has that it has not, or answers audits with whatever this returns.
    denies: bool = False
    proves: Callable[[str, str], Any] | None = None
    #: Takes copies and never reports them, as farmers before core 6; or never begins them.
    reports: bool = True
    copies: bool = True
    #: Copies with the contract, and gives out several tokens at a time, as only ours do.
    copies_at_once: bool = False


class ScriptedFarmers:
    """Stands in for the renter node; every call is noted in ``calls``."""

    extended_key = 'xpub'

    def __init__(self) -> None:
        self.farmers: dict[str, ScriptedFarmer] = {}
        self.calls: list[tuple[str, str]] = []
        #: Shards that a token was asked for.
        self.retrieved: list[str] = []
        self.generation: Generation = 'C'
        self.on_mirror: Callable[[], Awaitable[None]] | None = None
        self.report: Callable[[ScriptedFarmer, str, str], Awaitable[object]] | None = None
        self._reports: set[asyncio.Future[object]] = set()

    def add(self, port: int, protocol: str = '1.2.0') -> ScriptedFarmer:
        identity = Identity.generate()
        contact = NodeContact('127.0.0.1', port, identity.node_id, protocol, '8.7.2')
        farmer = ScriptedFarmer(identity, contact)
        self.farmers[identity.node_id] = farmer
        return farmer

    async def _reach(self, method: str, contact: NodeContact) -> ScriptedFarmer:
        self.calls.append((method, contact.node_id))
        farmer = self.farmers[contact.node_id]
        if farmer.hangs is not None and farmer.hangs_in in ('', method):
            farmer.waiting += 1
            try:
                await farmer.hangs.wait()
            finally:
                farmer.waiting -= 1
        if farmer.away:
            raise NodeUnreachableError('connection refused')
        if farmer.clock_ahead:
            raise ClockSkewError(farmer.clock_ahead)
        return farmer

    async def ping(self, contact: NodeContact) -> None:
        await self._reach('ping', contact)

    async def alloc(
        self,
        contact: NodeContact,
        *,
        data_hash: str,
        data_size: int,
        audit_tree: Sequence[str],
        audit_count: int,
        store_begin: int,
        store_end: int,
        source: tuple[NodeContact, str] | None = None,
        tokens: int = 0,
    ) -> Allocation:
        farmer = await self._reach('alloc', contact)
        if farmer.refuses:
            raise NodeError('Not accepting contracts')
        farmer.trees[data_hash] = list(audit_tree)
        farmer.sizes[data_hash], farmer.ends[data_hash] = data_size, store_end
        contract = Contract(
            data_hash, data_size, store_begin, store_end, audit_count, farmer_id=contact.node_id
        )
        copied = None
        if source is not None and farmer.copies_at_once:
            copied = self._copy(farmer, data_hash, source[0])
        granted = [secrets.token_hex(20) for _ in range(tokens if farmer.copies_at_once else 0)]
        return Allocation(secrets.token_hex(20), contract, True, copied, granted)

    async def renew(self, contact: NodeContact, contract: Contract, *, store_end: int) -> Contract:
        farmer = await self._reach('renew', contact)
        if farmer.refuses or contract.data_hash not in farmer.trees:
            raise NodeError('No contract found for renter_id')
        farmer.ends[contract.data_hash] = store_end
        return replace(contract, store_end=store_end)

    async def retrieve(self, contact: NodeContact, data_hash: str) -> str:
        farmer = await self._reach('retrieve', contact)
        self.retrieved.append(data_hash)
        if data_hash not in farmer.shards or farmer.denies:
            raise NodeError('Shard data not found')
        return secrets.token_hex(20)

    async def retrieve_some(self, contact: NodeContact, data_hash: str, count: int) -> list[str]:
        token = await self.retrieve(contact, data_hash)
        tokens = [secrets.token_hex(20) for _ in range(count - 1)]
        return [token, *tokens] if self.farmers[contact.node_id].copies_at_once else [token]

    async def consign(self, contact: NodeContact, data_hash: str, audit_tree: Sequence[str]) -> str:
        farmer = await self._reach('consign', contact)
        if data_hash not in farmer.trees:
            raise NodeError('Contract not found or not authorized')
        farmer.trees[data_hash] = list(audit_tree)
        return secrets.token_hex(20)

    async def fetch(
        self,
        contact: NodeContact,
        data_hash: str,
        token: str,
        size: int,
        sink: Callable[[bytes], Awaitable[object]],
    ) -> None:
        try:
            farmer = await self._reach('fetch', contact)
        except NodeUnreachableError as error:
            raise TransferBrokenError(str(error)) from error
        if farmer.breaks_off:
            raise TransferBrokenError('Connection reset by peer')
        data = farmer.shards.get(data_hash, b'')
        if len(data) != size:
            raise ShardClientError(f'the farmer sent {len(data)} of {size} bytes')
        await sink(data)

    async def audit(
        self, contact: NodeContact, audits: Sequence[tuple[str, str]]
    ) -> list[list[Any]]:
        farmer = await self._reach('audit', contact)
        proofs: list[Any] = []
        for name, challenge in audits:
            farmer.hears(challenge)
            if farmer.proves is not None:
                proofs.append(farmer.proves(name, challenge))
                continue
            if name not in farmer.shards:
                raise NodeError('Shard not found')
            digest = ShardDigest([challenge], self.generation)
            digest.update(farmer.shards[name])
            try:
                proof = make_proof(farmer.trees[name], digest.responses()[0], self.generation)
            except ValueError:
                raise NodeError('Failed to generate proof') from None
            proofs.append(proof)
        return proofs

    def _copy(self, farmer: ScriptedFarmer, data_hash: str, source: NodeContact) -> bool:
        data = self.farmers[source.node_id].shards.get(data_hash)
        if data is None or shard_hash(data) != data_hash:
            return False
        farmer.shards[data_hash] = data
        return True

    async def mirror(
        self, contact: NodeContact, data_hash: str, token: str, source: NodeContact
    ) -> None:
        farmer = await self._reach('mirror', contact)
        assert data_hash in farmer.trees, 'a copy needs a contract'
        if not farmer.copies:
            raise NodeError('Too many copies at once')
        good = self._copy(farmer, data_hash, source)
        if self.on_mirror is not None:
            await self.on_mirror()
        if farmer.reports and self.report is not None:
            message = 'MIRROR_SUCCESS' if good else 'MIRROR_FAILED'
            task = asyncio.ensure_future(self.report(farmer, data_hash, message))
            self._reports.add(task)
            task.add_done_callback(self._reports.discard)

    async def end_reports(self) -> None:
        """Wait until all reports are sent or have failed, which no test sees now; send no more."""
        self.report = None
        await asyncio.gather(*self._reports, return_exceptions=True)


def quick_passwords() -> Passwords:
    """Hashing is slow on purpose; the tests of the bridge are about everything else."""
    return Passwords(cost=2**6)


class RunningBridge:
    """A bridge in a thread of its own, and a plain client of it."""

    def __init__(
        self, path: Path, *, monotonic: Callable[[], float] | None = None, **settings: Any
    ) -> None:
        self.path = path
        self.clock = Clock()
        self._monotonic = monotonic or self.clock.monotonic
        self.farmers = ScriptedFarmers()
        self.farmers.report = self._report_copy
        self._settings = {
            'database_url': f'sqlite:///{path / "bridge.db"}',
            'data_dir': path,
            'durable': False,
            'public_url': 'http://bridge.example:6382',
            'audit_interval': 0.0,
            'ping_interval': 0.0,
            'mirrors': 0,
            **settings,
        }
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> RunningBridge:
        self._thread.start()
        self.app = create_app(
            BridgeSettings(**self._settings),
            self.farmers,  # type: ignore[arg-type]
            clock=self.clock,
            monotonic=self._monotonic,
            make_passwords=quick_passwords,
        )
        self.call(self._start)
        # Scripted farmers report uploads only where a test says so.
        self.app[REPAIRS].report_pause = 0.0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Reports that are under way would find nobody.
        self.call(self.farmers.end_reports)
        self.call(self._server.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        listening = socket.create_server(('127.0.0.1', 0))
        self.port = int(listening.getsockname()[1])
        self._server = Server(self.app, max_line_size=HEAD_LIMIT, max_field_size=HEAD_LIMIT)
        await self._server.start(listening)

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine in the bridge's loop."""
        return self.begin(work).result(30)

    def begin(self, work: Callable[[], Awaitable[T]]) -> Future[T]:
        """Start a coroutine in the bridge's loop."""

        async def awaited() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop)

    def set(self, event: asyncio.Event) -> None:
        """Set an event of the bridge's loop, and so let whatever waits for it go on."""

        async def done() -> None:
            event.set()

        self.call(done)

    @property
    def state(self) -> Bridge:
        return self.app[BRIDGE]

    def copies_made(self) -> None:
        """Wait until the bridge has nothing left to copy."""
        self.call(self.app[REPAIRS].join)

    def request(
        self,
        method: str,
        path: str,
        fields: Any = None,
        *,
        by: Account | None = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request, its path exactly as it is given."""
        body = raw if raw is not None else None if fields is None else json.dumps(fields).encode()
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=30)
        try:
            sent = {**(by.headers if by else {}), **(headers or {})}
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers), answer.read())
        finally:
            connection.close()

    def account(self, email: str = 'alice@example.org') -> Account:
        """Register somebody."""
        account = Account(email)
        answer = self.request('POST', '/users', {'email': email, 'password': account.hashed})
        assert answer.status == 201, answer
        return account

    def bucket(self, by: Account, name: str = 'photos') -> str:
        answer = self.request('POST', '/buckets', {'name': name}, by=by)
        assert answer.status == 201, answer
        return str(answer.json['id'])

    def frame(self, by: Account) -> str:
        return str(self.request('POST', '/frames', {}, by=by).json['id'])

    def farmer(self, port: int = 4000, protocol: str = '1.2.0', **card: Any) -> ScriptedFarmer:
        """Register a farmer, as farmers do."""
        farmer = self.farmers.add(port, protocol)
        node = farmer.identity
        asked = self.farmer_request(node, 'POST', '/contacts/challenges', {}).json
        nonce = next(n for n in range(10**6) if work(asked['challenge'], n) <= asked['target'])
        answer = self.farmer_request(
            node,
            'POST',
            '/contacts',
            {
                'address': '127.0.0.1',
                'port': port,
                'protocol': protocol,
                'spaceAvailable': True,
                **card,
            },
            {'x-challenge': asked['challenge'], 'x-challenge-nonce': str(nonce)},
        )
        assert answer.status == 200, answer
        return farmer

    def farmer_request(
        self,
        node: Identity,
        method: str,
        path: str,
        fields: Any,
        headers: Mapping[str, str] | None = None,
        *,
        base: str | None = None,
    ) -> Answer:
        """Send a request that a farmer signs; ``base`` is the address that it calls, if another."""
        raw = json.dumps(fields)
        timestamp = str(int(self.clock() * 1000))
        url = (base or f'http://127.0.0.1:{self.port}') + path
        return self.request(
            method,
            path,
            raw=raw.encode(),
            headers={
                'x-node-id': node.node_id,
                'x-node-timestamp': timestamp,
                'x-node-pubkey': node.public_key.hex(),
                'x-node-signature': node.sign_der((method + url + timestamp + raw).encode()),
                **(headers or {}),
            },
        )

    def shard(self, data: bytes = b'testshard', index: int = 0, **fields: Any) -> dict[str, Any]:
        """Return the body that adds a shard to a frame."""
        challenges = new_challenges(3)
        digest = ShardDigest(challenges, self.farmers.generation)
        digest.update(data)
        return {
            'hash': shard_hash(data),
            'size': len(data),
            'index': index,
            'challenges': challenges,
            'tree': digest.leaves(),
            'exclude': [],
            **fields,
        }

    def add_shard(
        self, by: Account, frame: str, data: bytes = b'testshard', index: int = 0, **fields: Any
    ) -> dict[str, Any]:
        """Add a shard to a frame and store it at its farmer; return the bridge's answer."""
        answer = self.request('PUT', f'/frames/{frame}', self.shard(data, index, **fields), by=by)
        assert answer.status == 200, answer
        pointer: dict[str, Any] = answer.json
        self.farmers.farmers[pointer['farmer']['nodeID']].shards[pointer['hash']] = data
        return pointer

    def file(
        self, by: Account, bucket: str, shards: Sequence[bytes] = (b'testshard',), **fields: Any
    ) -> str:
        """Store a file; return its id."""
        frame = self.frame(by)
        for index, data in enumerate(shards):
            self.add_shard(by, frame, data, index)
        answer = self.request(
            'POST',
            f'/buckets/{bucket}/files',
            {'frame': frame, 'filename': 'cat.jpg', 'mimetype': 'image/jpeg', **fields},
            by=by,
        )
        assert answer.status == 200, answer
        return str(answer.json['id'])

    def report(self, pointer: Mapping[str, Any], message: str, **fields: Any) -> Answer:
        """Send an exchange report about a pointer, as libstorj does."""
        now = int(self.clock() * 1000)
        return self.request(
            'POST',
            '/reports/exchanges',
            {
                'dataHash': pointer['hash'],
                'token': pointer.get('token'),
                'exchangeStart': now,
                'exchangeEnd': now + 5,
                'exchangeResultCode': 1000,
                'exchangeResultMessage': message,
                **fields,
            },
        )

    def farmer_report(
        self, farmer: ScriptedFarmer, data_hash: str, message: str, **fields: Any
    ) -> Answer:
        """Send an exchange report that a farmer signs."""
        now = int(self.clock() * 1000)
        success = message not in ('MIRROR_FAILED', 'FAILED_INTEGRITY', 'READ_FAILED')
        body = {
            'dataHash': data_hash,
            'reporterId': farmer.identity.node_id,
            'exchangeStart': now,
            'exchangeEnd': now + 5,
            'exchangeResultCode': 1000 if success else 1100,
            'exchangeResultMessage': message,
            **fields,
        }
        return self.farmer_request(farmer.identity, 'POST', '/reports/exchanges', body)

    async def _report_copy(self, farmer: ScriptedFarmer, data_hash: str, message: str) -> Answer:
        return await asyncio.to_thread(self.farmer_report, farmer, data_hash, message)

    def links(self) -> list[str]:
        """Return the paths of the links in the outbox, oldest first."""
        prefix = 'http://bridge.example:6382'
        texts = [path.read_text() for path in sorted((self.path / 'outbox').glob('*.eml'))]
        found = [match for text in texts for match in MAIL_LINK.findall(text)]
        assert all(link.startswith(prefix) for link in found)
        return [link[len(prefix) :] for link in found]


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what another thread is about to do; fail after some seconds."""
    deadline = time.monotonic() + seconds
    event = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, 'it never happened'
        event.wait(0.01)
