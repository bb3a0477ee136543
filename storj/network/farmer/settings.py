"""What a farmer is started with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from storj.digest import is_hex
from storj.network.farmer.bridge_link import HEARTBEAT
from storj.network.farmer.scrub import SCRUB_INTERVAL, SCRUB_RATE
from storj.network.farmer.store.objects import parse_url
from storj.network.node.identity import is_extended_key, is_node_id
from storj.system.hosts import check_announced

#: Protocol versions that a farmer may announce, and the core release that goes with each.
PROTOCOLS: Mapping[str, str] = {'0.10.0': '5.1.2', '1.2.0': '8.7.2'}

#: Seconds that a farmer token lives (section 8.1).
TOKEN_LIFETIME = 86400.0


@dataclass(frozen=True)
class FarmerSettings:
    """What a farmer is started with.

    Attributes:
        path (Path): its folder; identity, index and shards lie there.
        bridge_url (str | None): where it registers; None for a farmer that nobody is told of.
        size (int | None): bytes that it stores at the most; None for as much as the disk holds.
        host (str): address that it listens on.
        port (int): port that it listens on; 0 for any free one.
        address (str | None): address that it announces; by default the host.
        protocol (str): version that it announces, one of :data:`PROTOCOLS`.
        store (str): where the bytes of shards lie: ``disk`` (in the folder), ``s3://BUCKET/PREFIX``,
            or ``null`` to count bytes and keep nothing (benchmarks).
        database (str | None): URL of a PostgreSQL database for the index; by default it lies in
            the folder.
        private_key (str | None): of the farmer, 64 hex characters; by default it is made and kept
            in the folder.
        endpoint (str | None): URL of the object store; Amazon's by default.
        durable (bool): flush each shard and what is known of it to the disk before it counts as
            stored, so that it outlives a power failure.
        scrub_rate (float): bytes a second that its walk over its own disk reads; 0 for no walk.
        scrub_interval (float): seconds between the beginnings of two walks, at the least.
        token_lifetime (float): seconds.
        heartbeat (float): seconds between two signs of life to the bridge.
        renters (Collection[str] | None): node ids and extended public keys of the renter nodes
            that it stores for; None for any.

    Raises:
        ValueError: If a value is invalid.
    """

    path: Path
    bridge_url: str | None = None
    size: int | None = None
    host: str = '127.0.0.1'
    port: int = 0
    address: str | None = None
    protocol: str = '1.2.0'
    store: str = 'disk'
    endpoint: str | None = None
    database: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    durable: bool = True
    scrub_rate: float = SCRUB_RATE
    scrub_interval: float = SCRUB_INTERVAL
    token_lifetime: float = TOKEN_LIFETIME
    heartbeat: float = HEARTBEAT
    renters: Collection[str] | None = None

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f'protocol is one of {", ".join(PROTOCOLS)}, not {self.protocol!r}')
        self._check_store()
        if self.database is not None and not self.database.startswith(
            ('postgresql://', 'postgresql+psycopg://')
        ):
            raise ValueError('a database is postgresql://USER@HOST:PORT/NAME')
        if self.private_key is not None and not is_hex(self.private_key, 64):
            raise ValueError('a private key has 64 hex characters')
        if self.size is not None and self.size <= 0:
            raise ValueError('a farmer offers at least one byte')
        if not 0 <= self.port <= 65535:
            raise ValueError('a port is a number from 0 to 65535')
        check_announced(self.address or self.host)
        self._check_times()
        for renter in self.renters or ():
            _check_renter(renter)

    def _check_times(self) -> None:
        if self.token_lifetime <= 0 or self.heartbeat <= 0 or self.scrub_interval < 0:
            raise ValueError('a time is a positive number of seconds')
        if self.scrub_rate < 0:
            raise ValueError('a rate is a number of bytes a second, or 0')

    def _check_store(self) -> None:
        if self.store in ('disk', 'null'):
            if self.endpoint is not None:
                raise ValueError('an endpoint is that of an object store')
            return
        parse_url(self.store)
        if self.size is None:
            raise ValueError('a farmer on an object store needs a size')
        endpoint = urlsplit(self.endpoint or 'https://s3.amazonaws.com')
        if endpoint.scheme not in ('http', 'https') or not endpoint.hostname or endpoint.username:
            raise ValueError('an endpoint is http://HOST:PORT or https://HOST:PORT')


def _check_renter(renter: str) -> None:
    if not (is_node_id(renter) or is_extended_key(renter)):
        raise ValueError(
            f'{renter!r} is neither a node id (40 hex digits) nor an extended public key'
        )
