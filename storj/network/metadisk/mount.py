"""Puts a MetaDisk node on a bridge's application."""

from __future__ import annotations

import json
import logging
import secrets
import sqlite3
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from sqlalchemy import URL, Connection, create_engine, insert, select
from sqlalchemy.exc import DBAPIError

from storj.exception import NetworkSetupError
from storj.network.bridge.database import Database
from storj.network.bridge.state import BRIDGE
from storj.network.bridge.tables import (
    MetaDiskBalance,
    MetaDiskCode,
    MetaDiskFile,
    MetaDiskMovement,
    MetaDiskTraffic,
    MetaDiskUsage,
    Secret,
    User,
)
from storj.network.bridge.users import open_account
from storj.network.metadisk.catalog import Catalog
from storj.network.metadisk.ledger import Ledger
from storj.network.metadisk.node import NODE, MetaDiskNode, Settings
from storj.network.metadisk.routes import Routes
from storj.network.metadisk.storage import Account, FarmerStorage
from storj.network.metadisk.website import Website
from storj.network.node import health
from storj.network.node.shard_client import ShardClient
from storj.network.node.state_files import (
    LostStateError,
    check_database,
    lost,
    read_record,
    unusable,
    write_record,
)
from storj.system import atomic_file

logger = logging.getLogger(__name__)

_SECRET = 'metadisk'
#: Where earlier versions kept the records.
_FORMER = 'node.db'
_CARRIED = (MetaDiskBalance, MetaDiskMovement, MetaDiskCode, MetaDiskFile, MetaDiskTraffic)
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)


@dataclass(frozen=True)
class _Secrets:
    """What the node knows and nobody else; a row that all bridges of the database share."""

    email: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)

    @classmethod
    def make(cls) -> _Secrets:
        """Make new ones."""
        return cls(
            email=f'metadisk-{secrets.token_hex(4)}@node.local',
            password=secrets.token_urlsafe(24),
            api_key=secrets.token_urlsafe(24),
        )

    @classmethod
    def of(cls, text: str) -> _Secrets:
        """Return those of a row."""
        return cls(**json.loads(text))

    def text(self) -> str:
        """Return them for a row."""
        return json.dumps(asdict(self))


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
        app (web.Application): made by ``create_app``; what must last is in its database.
        folder (Path): of the node's own, for spools, and for ``node.json``, from which people read
            the key for deposits. Made, for its owner only, when it is missing.
        bridge_url (str): where this very application will be reached from this machine.
        settings (Settings): how it is run.
        tls (ssl.SSLContext | None): by which it is reached; None for HTTP.

    Raises:
        NetworkSetupError: If the folder cannot be used, or what lies in it is damaged.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NetworkSetupError(f'{folder}: cannot be used: {error}') from error

    async def life(app: web.Application) -> AsyncIterator[None]:
        bridge = app[BRIDGE]
        kept = await _opened(bridge.database, folder)
        await open_account(bridge, kept.email, kept.password)
        connector = None if tls is None else aiohttp.TCPConnector(ssl=tls)
        session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=_TIMEOUT
        )
        farmers = ShardClient()
        storage = FarmerStorage(
            bridge_url, Account(kept.email, kept.password), session, farmers, folder
        )
        catalog, ledger = Catalog(bridge.database), Ledger(bridge.database)
        try:
            app[NODE] = MetaDiskNode(storage, catalog, ledger, folder, settings, kept.api_key)
            app[health.HEALTH].append(lambda: health.disk(folder))
            yield
        finally:
            await session.close()
            await farmers.close()

    app.cleanup_ctx.append(life)
    app.add_routes(Routes(settings).table())
    Website().add_to(app)


async def _opened(database: Database, folder: Path) -> _Secrets:
    """Return the node's secrets, once the database has what an earlier version kept in the folder.

    Raises:
        NetworkSetupError: If it cannot be read, or is of another node than that of the database.
    """
    record, former = folder / 'node.json', folder / _FORMER
    has_former = former.exists()
    mine = await _recorded(database, record)
    if has_former:
        if mine is None:
            raise lost(record, 'is missing')
        check_database(former)
    rows = _former_rows(former) if has_former else {}
    kept = await database.run(partial(_carried, database, mine, rows, former))
    if mine is not None and mine != kept:
        raise NetworkSetupError(
            f'{folder}: node.json is of another MetaDisk node than that of the database; move the'
            f' folder away if what that node stored is not needed'
        )
    await database.synced()
    if has_former:
        # Kept, and not read again.
        atomic_file.replace(former, folder / f'{_FORMER}-carried')
        logger.info('the records of MetaDisk are in the database of the bridge now')
    if mine is None:
        write_record(record, asdict(kept))
    return kept


async def _recorded(database: Database, record: Path) -> _Secrets | None:
    """Return the secrets in the node's folder; None if the database will have them.

    Raises:
        LostStateError: If the file is damaged and the database does not have them.
        BarredStateError: If it cannot be read now.
    """
    names = [each.name for each in fields(_Secrets)]
    try:
        found = read_record(record, names)
    except LostStateError:
        known = select(Secret.value).where(Secret.name == _SECRET)
        if await database.read(lambda connection: connection.scalar(known)) is None:
            raise
        # What is in the database is written again.
        return None
    return None if found is None else _Secrets(**{name: found[name] for name in names})


def _carried(
    database: Database,
    mine: _Secrets | None,
    rows: Mapping[type[Any], list[dict[str, Any]]],
    former: Path,
    connection: Connection,
) -> _Secrets:
    """Return the secrets in the database; the first node of it adds its own, with its rows.

    Raises:
        LostStateError: If the former database should be there and is not.
    """
    offered = mine or _Secrets.make()
    new = database.insert(Secret).values(name=_SECRET, value=offered.text())
    made = connection.execute(new.on_conflict_do_nothing().returning(Secret.name)).first()
    if made is not None:
        known = select(User.email).where(User.email == offered.email)
        if mine is not None and not rows and connection.execute(known).first() is not None:
            raise lost(former, 'is missing')
        for table, values in rows.items():
            connection.execute(insert(table), values)
    row = connection.execute(select(Secret.value).where(Secret.name == _SECRET))
    return _Secrets.of(row.scalar_one())


def _former_rows(path: Path) -> dict[type[Any], list[dict[str, Any]]]:
    """Return the rows of the database that earlier versions had in the node's folder.

    Raises:
        NetworkSetupError: If it cannot be read.
    """
    rows: dict[type[Any], list[dict[str, Any]]] = {}
    engine = create_engine(URL.create('sqlite', database=str(path)))
    try:
        with engine.connect() as connection:
            for table in _CARRIED:
                found = connection.execute(select(table.__table__)).mappings().all()
                # Movements are numbered anew.
                plain = [{name: row[name] for name in row if name != 'id'} for row in found]
                if plain:
                    rows[table] = plain
    except DBAPIError as error:
        broken = error.orig if isinstance(error.orig, sqlite3.Error) else OSError(str(error))
        raise unusable(path, broken) from error
    finally:
        engine.dispose()
    used = sum(row['size'] for row in rows.get(MetaDiskFile, ()))
    rows[MetaDiskUsage] = [{'name': 'files', 'bytes': used}]
    return rows
