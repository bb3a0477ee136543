"""What the tests of the network share: farmers in an event loop, and clients that know the wire.

The clients here are written against the protocol and use nothing of the SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from storj.digest import ShardDigest, new_challenges, shard_hash
from storj.network.bridge.renter import Allocation, RenterNode
from storj.network.farmer.farmer import Farmer, Workers
from storj.network.farmer.settings import FarmerSettings
from storj.network.faults import FaultPlan
from storj.network.node.identity import ExtendedKey
from storj.network.node.rpc import NodeContact

SHARD = b'testshard'
SHARD_HASH = '4af6b8cd7fac9e832650c82e965a06aabe920c07'
DAY = 86400.0


class Clock:
    """Seconds since 1970: time passes by ``now``, and the clock is set by ``step``."""

    def __init__(self) -> None:
        self.now = 1_480_000_000.0
        self._stepped = 0.0

    def __call__(self) -> float:
        return self.now

    def monotonic(self) -> float:
        """Return seconds that go on with the time and that nobody sets."""
        return self.now - self._stepped

    def step(self, seconds: float) -> None:
        """Set the clock, as NTP or a person does."""
        self.now += seconds
        self._stepped += seconds


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run the coroutine of a test; it must not take more than half a minute."""

    async def limited() -> None:
        await asyncio.wait_for(test(), 30)

    asyncio.run(limited())


def alter(path: Path, statement: str, *values: object) -> None:
    """Change the database of an index that nobody has open, as a failing disk may."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(statement, values)


@dataclass
class Site:
    """A farmer, a renter node that has no bridge behind it, and a client's session."""

    farmer: Farmer
    renter: RenterNode
    session: aiohttp.ClientSession
    clock: Clock
    faults: FaultPlan
    challenges: dict[str, list[str]] = field(default_factory=dict)

    @property
    def index_path(self) -> Path:
        return self.farmer.settings.path / 'farmer.db'

    @property
    def url(self) -> str:
        return self.farmer.contact().url

    async def alloc(
        self,
        data: bytes = SHARD,
        *,
        generation: Any = 'C',
        size: int | None = None,
        source: tuple[NodeContact, str] | None = None,
        tokens: int = 0,
    ) -> Allocation:
        """Make a contract for a shard."""
        name = shard_hash(data)
        challenges = new_challenges(3)
        digest = ShardDigest(challenges, generation)
        digest.update(data)
        self.challenges[name] = challenges
        now = int(self.clock() * 1000)
        return await self.renter.alloc(
            self.farmer.contact(),
            data_hash=name,
            data_size=len(data) if size is None else size,
            audit_tree=digest.leaves(),
            audit_count=3,
            store_begin=now,
            store_end=now + int(90 * DAY * 1000),
            source=source,
            tokens=tokens,
        )

    async def push_token(self, data: bytes = SHARD, *, size: int | None = None) -> str:
        return (await self.alloc(data, size=size)).token

    async def store(self, data: bytes = SHARD) -> str:
        """Put a shard on the farmer and return a token to fetch it."""
        status, body = await self.post(data, await self.push_token(data))
        assert (status, body) == (200, {'result': 'Consignment completed'})
        return await self.renter.retrieve(self.farmer.contact(), shard_hash(data))

    async def post(
        self, data: Any, token: str | None, name: str | None = None, **kwargs: Any
    ) -> tuple[int, Any]:
        """Send a shard over HTTP."""
        if name is None:
            name = shard_hash(data)
        if isinstance(data, bytes):
            data = io.BytesIO(data)
        query = {} if token is None else {'token': token}
        async with self.session.post(
            f'{self.url}/shards/{name}', params=query, data=data, **kwargs
        ) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def get(
        self, token: str | None, name: str = SHARD_HASH, **kwargs: Any
    ) -> tuple[int, Any]:
        """Fetch a shard over HTTP."""
        query = {} if token is None else {'token': token}
        async with self.session.get(f'{self.url}/shards/{name}', params=query, **kwargs) as answer:
            body = await answer.read()
            return answer.status, body if answer.status == 200 else json.loads(body)

    async def talk(
        self, *frames: str | bytes | dict[str, Any]
    ) -> tuple[int | None, str, list[bytes]]:
        """Send frames over the WebSocket channel; return close code, reason and what came."""
        async with self.session.ws_connect(f'{self.url}/', max_msg_size=1 << 27) as channel:
            for frame in frames:
                if isinstance(frame, bytes):
                    await channel.send_bytes(frame)
                else:
                    await channel.send_str(frame if isinstance(frame, str) else json.dumps(frame))
            received = []
            while True:
                message = await channel.receive()
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                received.append(message.data)
            reason = message.extra if message.type is aiohttp.WSMsgType.CLOSE else None
            return channel.close_code, reason or '', received


def push(token: str, name: str = SHARD_HASH) -> dict[str, Any]:
    return {'token': token, 'hash': name, 'operation': 'PUSH'}


def pull(token: str, name: str = SHARD_HASH) -> dict[str, Any]:
    return {'token': token, 'hash': name, 'operation': 'PULL'}


@contextlib.asynccontextmanager
async def site(
    path: Path,
    *,
    faults: FaultPlan | None = None,
    workers: Workers | None = None,
    **settings: Any,
) -> AsyncIterator[Site]:
    """Run a farmer on a free port of the loopback interface."""
    clock = Clock()
    plan = faults or FaultPlan()
    farmer = Farmer(
        FarmerSettings(path, **{'durable': False, **settings}),
        faults=plan,
        workers=workers,
        clock=clock,
        monotonic=clock.monotonic,
    )
    renter = RenterNode(ExtendedKey.renter(os.urandom(32)), clock=clock)
    async with aiohttp.ClientSession() as session:
        await farmer.start()
        here = Site(farmer, renter, session, clock, plan)
        try:
            yield here
        finally:
            plan.release()
            await here.renter.close()
            await farmer.stop()
