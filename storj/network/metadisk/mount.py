"""Puts a MetaDisk node on a bridge's application."""

from __future__ import annotations

import os
import secrets
import ssl
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import aiohttp
import sqlalchemy as sa
from aiohttp import web

from storj.exception import NetworkSetupError
from storj.network.bridge.state import BRIDGE
from storj.network.bridge.users import open_account
from storj.network.metadisk.catalog import Catalog
from storj.network.metadisk.ledger import Ledger
from storj.network.metadisk.node import NODE, MetaDiskNode, Settings
from storj.network.metadisk.routes import Routes
from storj.network.metadisk.storage import Account, FarmerStorage
from storj.network.metadisk.website import Website
from storj.network.node import health
from storj.network.node.group_sync import SYNCS, GroupSync
from storj.network.node.shard_client import ShardClient
from storj.network.node.state_files import read_record, write_record

__all__ = ('mount',)

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)


@dataclass(frozen=True)
class _Secrets:
    """What a node knows and nobody else; kept in its folder."""

    email: str
    password: str
    api_key: str

    @classmethod
    def load(cls, path: Path) -> _Secrets:
        """Read them, or make them at the first start."""
        names = [field.name for field in fields(cls)]
        record = read_record(path, names)
        if record is not None:
            return cls(*(record[name] for name in names))
        made = cls(
            email=f'metadisk-{secrets.token_hex(4)}@node.local',
            password=secrets.token_urlsafe(24),
            api_key=secrets.token_urlsafe(24),
        )
        write_record(path, asdict(made))
        return made


def mount(
    app: web.Application,
    folder: Path,
    bridge_url: str,
    settings: Settings,
    *,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Add a node to a bridge's application that has not started yet.

    Args:
        app (web.Application): made by ``create_app``.
        folder (Path): of the node's own: accounts, catalogue, spools, and ``node.json`` with the
            key for deposits. Made, for its owner only, when it is missing.
        bridge_url (str): where this very application will be reached from this machine.
        settings (Settings): how it is run.
        tls (ssl.SSLContext | None): by which it is reached; None for HTTP.

    Raises:
        NetworkSetupError: If the folder cannot be used, or what lies in it is damaged.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = _Secrets.load(folder / 'node.json')
    except OSError as error:
        raise NetworkSetupError(f'{folder}: cannot be used: {error}') from error

    async def life(app: web.Application) -> AsyncIterator[None]:
        await open_account(app[BRIDGE], kept.email, kept.password)
        engine = _engine(folder / 'node.db')
        sync = None
        if app[BRIDGE].settings.durable:
            sync = GroupSync(folder / 'node.db')
            app[SYNCS].append(sync.wait)
        connector = None if tls is None else aiohttp.TCPConnector(ssl=tls)
        session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=_TIMEOUT
        )
        farmers = ShardClient()
        storage = FarmerStorage(
            bridge_url, Account(kept.email, kept.password), session, farmers, folder
        )
        try:
            app[NODE] = MetaDiskNode(storage, Catalog(engine), Ledger(engine), folder, settings)
            app[health.HEALTH].append(lambda: _problems(engine, sync, folder))
            yield
        except sa.exc.SQLAlchemyError as error:
            raise NetworkSetupError(f'{folder}: cannot use node.db: {error}') from error
        finally:
            await session.close()
            await farmers.close()
            engine.dispose()

    app.cleanup_ctx.append(life)
    app.add_routes(Routes(settings, kept.api_key).table())
    Website().add_to(app)


def _problems(engine: sa.Engine, sync: GroupSync | None, folder: Path) -> list[health.Problem]:
    """Return what does not work in a node."""

    def probe() -> None:
        if sync is not None and sync.failure is not None:
            raise sync.failure
        with engine.begin() as connection:
            # Writes the head of the file again; nothing else here uses the number.
            connection.exec_driver_sql('PRAGMA user_version=0')

    return [*health.tried('MetaDisk cannot write its records', probe), *health.disk(folder)]


def _engine(path: Path) -> sa.Engine:
    # What it holds is money of a kind: for the owner only.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    engine = sa.create_engine(sa.URL.create('sqlite', database=str(path)))

    @sa.event.listens_for(engine, 'connect')
    def tune(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute('PRAGMA journal_mode=WAL')
        cursor.execute('PRAGMA synchronous=NORMAL')
        cursor.close()

    return engine
