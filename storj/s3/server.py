"""The gateway as a server: its folder, its keys, its start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from storj.exception import ConfigurationError
from storj.network.node.serving import Server, listen
from storj.network.node.tls import Certificate
from storj.network.program import EventPrinter, serving, until_stopped
from storj.s3.app import application
from storj.s3.index import Index
from storj.s3.spool import Spool
from storj.s3.store import Store
from storj.system import atomic_file, file_lock
from storj.system.hosts import is_loopback
from storj.text import in_url

if TYPE_CHECKING:
    from storj import http

__all__ = ('Gateway', 'GatewaySettings', 'new_pair')

_log = logging.getLogger(__name__)

_KEYS: Final = 'keys.json'
_GIB: Final = 1024**3

#: Seconds after which a multipart upload that nobody goes on with is removed: seven days.
EXPIRY: Final = 7 * 24 * 3600.0
_CLEANING: Final = 3600.0

#: Which part of the space for bodies there is, beside it, for shards that clients read in parts.
_KEPT_SHARE: Final = 8


def new_pair() -> tuple[str, str]:
    """Return a new access key and its secret key."""
    alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'
    return 'STORJ' + ''.join(secrets.choice(alphabet) for _ in range(15)), secrets.token_urlsafe(30)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ''


@dataclass(frozen=True)
class GatewaySettings:
    """How a gateway is run.

    Attributes:
        folder (Path): for its keys, its index and its spool; made with mode 0700.
        host (str): address to listen on.
        port (int): 0 for any free one.
        keys (Mapping[str, str]): access keys and their secret keys, beside those in the folder.
        domains (Sequence[str]): below which a host names a bucket, as ``bucket.localhost``.
        database (str | None): URL of SQLAlchemy for the index; SQLite in the folder by default.
        spool_limit (int): bytes of bodies that are not stored yet.
        listing_seconds (float): for which a listing of the network is believed.
        plain_names (bool): whether new names are stored in the clear.
        tls_cert (Path | None): certificate chain, as PEM; HTTP without TLS if None.
        tls_key (Path | None): its private key; in the same file if None.
    """

    folder: Path
    host: str = '127.0.0.1'
    port: int = 6383
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    domains: Sequence[str] = ('localhost',)
    database: str | None = field(default=None, repr=False)
    spool_limit: int = 100 * _GIB
    listing_seconds: float = 10.0
    plain_names: bool = False
    tls_cert: Path | str | None = None
    tls_key: Path | str | None = None


class Gateway:
    """An S3 gateway to one account.

    Args:
        client (storj.http.Client): of the account; closed with the gateway.
        settings (GatewaySettings): how it is run.

    Attributes:
        endpoint (str): where clients reach it, once it is started.
        access_key (str): the first one, once it is started.
        secret_key (str): its secret key.
        keys_file (Path | None): where it is kept; None if it was given.
    """

    def __init__(self, client: http.Client, settings: GatewaySettings) -> None:
        self._client = client
        self._settings = settings
        self._closing = contextlib.ExitStack()
        self._store: Store | None = None
        self._server: Server | None = None
        self._background: list[asyncio.Task[None]] = []
        self.endpoint = ''
        self.access_key = ''
        self.secret_key = ''
        self.keys_file: Path | None = None

    @property
    def folder(self) -> Path:
        """Of its keys, index and spool."""
        return self._settings.folder

    async def start(self) -> None:
        """Open the folder and listen.

        Raises:
            ConfigurationError: If another gateway uses the folder, or it cannot be used, or the
                database or the certificate cannot.
            StorjError: If the bridge does not answer, or refuses the account, or the port is taken.
        """
        settings = self._settings
        folder = settings.folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = file_lock.lock(folder / 'lock')
        if descriptor is None:
            raise ConfigurationError(f'another gateway uses {folder}')
        self._closing.callback(file_lock.unlock, descriptor)
        # Keys that are given do not end those in the folder: programs use them already.
        keys = {**self._kept_keys(), **settings.keys}
        self.access_key, self.secret_key = next(iter((settings.keys or keys).items()))
        self.keys_file = None if settings.keys else folder / _KEYS
        index = Index(settings.database or f'sqlite:///{folder / "index.sqlite"}')
        self._closing.callback(index.close)
        secret = self._spool_secret()
        spool = Spool(folder / 'spool', secret, settings.spool_limit)
        kept = Spool(folder / 'kept', secret, settings.spool_limit // _KEPT_SHARE)
        kept.clean(set())
        # Before anybody can upload: a file that is just being written is known to nobody either.
        spool.clean({part.file for upload in index.uploads() for part in index.parts(upload.id)})
        self._store = Store(
            self._client,
            index,
            spool,
            kept,
            listing_seconds=settings.listing_seconds,
            plain_names=settings.plain_names,
        )
        tls = self._tls()
        # A wrong password is an error now, not one of the first client.
        await asyncio.to_thread(lambda: next(iter(self._client.bucket_list()), None))
        # Last, so that whoever connects finds everything there.
        listening = listen(settings.host, settings.port)
        host, port = listening.getsockname()[:2]
        self._server = Server(application(self._store, keys.get, settings.domains))
        await self._server.start(listening, tls=None if tls is None else tls.server)
        scheme = 'http' if tls is None else 'https'
        self.endpoint = f'{scheme}://{in_url(host)}:{port}'
        self._background.append(asyncio.create_task(self._clean(index, spool)))
        if tls is not None:
            self._background.append(asyncio.create_task(tls.follow(_note_renewal)))

    def _tls(self) -> Certificate | None:
        settings = self._settings
        if settings.tls_cert is None:
            if not is_loopback(settings.host):
                _log.warning(
                    'the gateway listens on %s without TLS: contents are readable on their way',
                    settings.host,
                )
            return None
        return Certificate(settings.tls_cert, settings.tls_key)

    def _kept_keys(self) -> dict[str, str]:
        """Return the keys in the folder; a pair is made where there are none at all."""
        path = self._settings.folder / _KEYS
        try:
            kept = json.loads(path.read_text(encoding='utf-8'))
            if not isinstance(kept, dict) or not all(map(_is_text, kept.values())):
                raise ValueError
        except FileNotFoundError:
            kept = {}
        except ValueError:
            raise ConfigurationError(f'{path} is no list of keys') from None
        if not kept and not self._settings.keys:
            kept = dict([new_pair()])
            atomic_file.write(path, json.dumps(kept, indent=1).encode())
        return kept

    def _spool_secret(self) -> bytes:
        """Return what the spool is encrypted with: the same after a restart."""
        if self._client.mnemonic is not None:
            return hmac.digest(self._client.mnemonic.encode(), b'S3 spool', 'sha256')
        path = self._settings.folder / 'spool.key'
        if not path.exists():
            atomic_file.write(path, secrets.token_bytes(32))
        return path.read_bytes()

    async def _clean(self, index: Index, spool: Spool) -> None:
        """Remove multipart uploads that nobody goes on with."""
        while True:
            for upload in await asyncio.to_thread(index.uploads, None, time.time() - EXPIRY):
                _log.info('the multipart upload %s has expired', upload.id)
                spool.drop(await asyncio.to_thread(index.end_upload, upload.id))
            await asyncio.sleep(_CLEANING)

    async def stop(self) -> None:
        """Stop listening, and close everything."""
        for task in self._background:
            task.cancel()
        if self._server is not None:
            await self._server.stop()
        if self._store is not None:
            await self._store.close()
        self._closing.close()


def _note_renewal(error: Exception | None) -> None:
    if error is not None:
        _log.error('the certificate cannot be renewed: %s', error)


def run_gateway(
    client: http.Client, settings: GatewaySettings, ready: Callable[[Gateway], object]
) -> None:
    """Run a gateway until SIGTERM or Ctrl-C, and stop it cleanly.

    Belongs into the main thread, because signals do.

    Args:
        client (storj.http.Client): of the account; closed with the gateway.
        settings (GatewaySettings): how it is run.
        ready (Callable[[Gateway], object]): called when it listens.

    Raises:
        StorjError: If it cannot start; see :meth:`Gateway.start`.
    """
    gateway = Gateway(client, settings)

    async def live() -> None:
        await gateway.start()
        EventPrinter(ready)(gateway)
        await asyncio.Event().wait()

    async def run(stopped: threading.Event) -> None:
        try:
            await until_stopped(stopped, live())
        finally:
            await gateway.stop()

    with serving(survives_hangup=settings.tls_cert is not None) as stopped:
        asyncio.run(run(stopped))


async def _settled() -> None:
    """End what connections that were just closed still wait for."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@contextlib.contextmanager
def in_background(client: http.Client, settings: GatewaySettings) -> Iterator[Gateway]:
    """Run a gateway in a thread, for programs and tests.

    Raises:
        StorjError: If it cannot start; see :meth:`Gateway.start`.
    """
    gateway = Gateway(client, settings)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name='storj-s3', daemon=True)
    thread.start()

    def call(work: Callable[[], Any]) -> None:
        asyncio.run_coroutine_threadsafe(work(), loop).result()

    try:
        call(gateway.start)
        yield gateway
    finally:
        call(gateway.stop)
        call(_settled)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
