"""The options of a local network, and of a bridge by itself: their defaults and their checks."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict
from urllib.parse import urlsplit

from storj.network import FARMERS_LIMIT
from storj.network.faults import Fault
from storj.system.hosts import EVERYWHERE, check_announced, is_loopback
from storj.text import in_url

#: ``mixed``: half of the farmers announce 0.10.0 (WebSocket), half 1.2.0 (HTTP).
Protocols = Literal['mixed', '0.10', '1.2']

_ANNOUNCED: Mapping[str, tuple[str, ...]] = {
    'mixed': ('0.10.0', '1.2.0'),
    '0.10': ('0.10.0',),
    '1.2': ('1.2.0',),
}
#: Bytes of the disk that a durable network or bridge keeps for when it is full.
RESERVE = 16 * 1024 * 1024


@dataclass(frozen=True)
class Endpoint:
    """Where a bridge listens, and where others reach it.

    Attributes:
        host (str): address to listen on.
        port (int): 0 for any free one.
        address (str | None): that others reach it at, if it is another.
        public_url (str | None): that others reach it at, if it is another.
        tls_cert (Path | None): certificate chain, as PEM; HTTP without TLS if None.
        tls_key (Path | None): its private key; in the same file if None.

    Raises:
        ValueError: If one is invalid.
    """

    host: str = '127.0.0.1'
    port: int = 6382
    address: str | None = None
    public_url: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError('a private key for TLS needs its certificate')
        if not 0 <= self.port <= 65535:
            raise ValueError('a port is a number from 0 to 65535')
        if self.public_url is not None:
            _check_url(self.public_url)
        check_announced(self.announced)

    @property
    def public(self) -> str | None:
        """The public URL, without a slash at its end."""
        return None if self.public_url is None else self.public_url.rstrip('/')

    @property
    def announced(self) -> str:
        """The address that others reach it at."""
        public = urlsplit(self.public_url or '').hostname if self.host in EVERYWHERE else None
        return self.address or public or self.host

    def url(self, host: str, port: int) -> str:
        """Return the URL of the server by one of its addresses."""
        scheme = 'http' if self.tls_cert is None else 'https'
        return f'{scheme}://{in_url(host)}:{port}'

    @property
    def hosts(self) -> tuple[str, ...] | None:
        """The names that requests may be addressed to, if this machine alone reaches it."""
        if not is_loopback(self.host):
            return None
        public = urlsplit(self.public or '').hostname
        return (self.announced, public) if public else (self.announced,)


class NetworkOptions(TypedDict, total=False):
    """How a network is run: keyword arguments of :class:`storj.network.Network`.

    Attributes:
        drain (bool): take fewer farmers than the folder has: all come up, and
            :meth:`storj.network.Network.drain` has those beyond the number leave.
        new_farmers (Collection[int]): numbers of those whose folders are lost, and that
            begin again; what is left of a folder gets another name.
        host (str): address that bridge and farmers listen on; ``127.0.0.1`` by default.
        address (str | None): address that others reach them at, if it is another.
        public_url (str | None): URL that others reach the bridge at, if it is another, by a proxy
            say; it stands in links, and :attr:`storj.network.Network.bridge_url` is it.
        trusted_proxies (Sequence[str]): addresses or networks of proxies whose
            ``X-Forwarded-*`` is believed.
        port (int): of the bridge; 0, the default, for any free one. Farmers take free ones always.
        data (str | os.PathLike[str] | None): folder that keeps everything, so that a network
            with the same folder continues where this one stops; None for a temporary one. A folder
            without a part of that is refused.
        database (str | None): SQLAlchemy URL of the bridge's database; by default a SQLite file.
        protocol (str): ``mixed``, the default, ``0.10`` or ``1.2``: what the farmers announce.
        activation (str): ``auto``, the default, or ``mail``: how new accounts become active. The
            network's own account is active always.
        processes (bool): run each farmer in a process of its own. A fault of several farmers
            counts the calls of each by itself then.
        faults (Iterable[Fault | str]): what goes wrong once the network is up.
        charge (bool): charge for MetaDisk's uploads and downloads.
        size (int | None): bytes that each farmer offers; None for as much as the disk holds.
        store (str): ``disk``, or ``null`` for farmers that keep nothing (benchmarks).
        durable (bool): whether shards, records and accounts are on the disk before they are
            confirmed, so that a power failure takes nothing back; True by default.
        bridge (Mapping[str, Any] | None): further settings, by the names of
            :class:`storj.network.bridge.state.BridgeSettings`.
        metadisk (Mapping[str, Any] | None): the same of :class:`storj.network.metadisk.Settings`.
    """

    drain: bool
    new_farmers: Collection[int]
    host: str
    address: str | None
    public_url: str | None
    trusted_proxies: Sequence[str]
    port: int
    data: str | os.PathLike[str] | None
    database: str | None
    protocol: Protocols
    activation: Literal['auto', 'mail']
    processes: bool
    faults: Iterable[Fault | str]
    charge: bool
    size: int | None
    store: Literal['disk', 'null']
    durable: bool
    bridge: Mapping[str, Any] | None
    metadisk: Mapping[str, Any] | None


@dataclass(frozen=True)
class NetworkSettings:
    """The number of farmers, and the :class:`NetworkOptions` with their defaults.

    Raises:
        ValueError: If one is invalid.
    """

    farmers: int | None = None
    drain: bool = False
    new_farmers: Collection[int] = ()
    host: str = '127.0.0.1'
    address: str | None = None
    public_url: str | None = None
    trusted_proxies: Sequence[str] = ()
    port: int = 0
    data: str | os.PathLike[str] | None = None
    database: str | None = None
    protocol: Protocols = 'mixed'
    activation: Literal['auto', 'mail'] = 'auto'
    processes: bool = False
    faults: Iterable[Fault | str] = ()
    charge: bool = False
    size: int | None = None
    store: Literal['disk', 'null'] = 'disk'
    durable: bool = True
    bridge: Mapping[str, Any] | None = None
    metadisk: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.farmers is not None and not 0 <= self.farmers <= FARMERS_LIMIT:
            raise ValueError(f'a network has from 0 to {FARMERS_LIMIT} farmers')
        if self.protocol not in _ANNOUNCED:
            raise ValueError(f'protocol is one of {", ".join(_ANNOUNCED)}, not {self.protocol!r}')
        # Refuses what is invalid.
        _ = self.endpoint

    @property
    def endpoint(self) -> Endpoint:
        """Where the bridge listens; farmers share its addresses."""
        return Endpoint(self.host, self.port, self.address, self.public_url)

    @property
    def versions(self) -> tuple[str, ...]:
        """Protocol versions that the farmers announce, in turn."""
        return _ANNOUNCED[self.protocol]

    @property
    def folder(self) -> Path | None:
        """The folder that keeps everything; None for a temporary one."""
        return None if self.data is None else Path(self.data).expanduser().absolute()

    @property
    def reserve(self) -> int:
        """Bytes of the disk that are kept for when it is full."""
        return RESERVE if self.durable and self.data is not None else 0


def _check_url(text: str) -> None:
    """Check the public URL of a bridge.

    Raises:
        ValueError: If it is no such URL.
    """
    parts = urlsplit(text)
    if parts.scheme not in ('http', 'https') or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f'a public URL begins with http:// or https:// and a host, not {text!r}')
