"""A bridge as a program of its own: one of any number on the same database.

It keeps no state that another bridge would miss: all of that is rows of the database, the seed of
the renter node included, which farmers and contracts know by its keys.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storj.exception import NetworkSetupError
from storj.network.bridge.app import TASKS
from storj.network.bridge.database import Database, sqlite_file
from storj.network.bridge.state import BridgeSettings
from storj.network.bridge_server import BRIDGE_DESCRIPTORS, BridgeServer
from storj.network.metadisk.node import Settings as MetaDiskSettings
from storj.network.node.serving import need_descriptors
from storj.network.program import EventPrinter, serving, until_stopped
from storj.network.settings import RESERVE, Endpoint
from storj.system import file_lock
from storj.system.hosts import is_loopback

__all__ = ('BridgeProgram', 'run_bridge')

logger = logging.getLogger(__name__)

_SEED = 'renter_seed'


@dataclass(frozen=True)
class BridgeProgram:
    """How a bridge is run as a program.

    Attributes:
        database (str): SQLAlchemy URL.
        endpoint (Endpoint): where it listens.
        data (Path | None): folder for spools and messages; None for a temporary one.
        seed (bytes | None): of the renter node; by default the database has it.
        migrate (bool): whether the schema of a server's database is made or brought up.
        grace (float): seconds that requests under way have when it stops.
        bridge (Mapping[str, Any]): further fields of
            :class:`storj.network.bridge.state.BridgeSettings`.

    Raises:
        ValueError: If one is invalid.
    """

    database: str = field(repr=False)
    endpoint: Endpoint = field(default_factory=Endpoint)
    data: Path | None = None
    seed: bytes | None = field(default=None, repr=False)
    migrate: bool = False
    grace: float = 30.0
    bridge: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        # Refuses what is invalid.
        BridgeSettings(self.database, Path(), **self.bridge)


def run_bridge(program: BridgeProgram, ready: Callable[[BridgeServer], object]) -> None:
    """Run a bridge until SIGTERM or Ctrl-C, finish the requests under way, and stop.

    Belongs into the main thread, because signals do.

    Args:
        program (BridgeProgram): what is run.
        ready (Callable[[BridgeServer], object]): called when it serves.

    Raises:
        NetworkSetupError: If the port is taken, or folder or database cannot be used.
        ResourceError: If the system allows too few open files.
    """
    need_descriptors(BRIDGE_DESCRIPTORS, 'a bridge')
    with serving() as stopped, _folder(program.data) as folder, _alone(program.database):
        asyncio.run(_run(_made(program, folder), EventPrinter(ready), stopped))


def _made(program: BridgeProgram, folder: Path) -> BridgeServer:
    """Return the bridge, not started yet; its database is ready."""
    database = Database(program.database, durable=False, migrate=program.migrate)
    try:
        kept = program.seed or bytes.fromhex(database.secret(_SEED, lambda: secrets.token_hex(32)))
    finally:
        database.close()
    settings: dict[str, Any] = {
        'database_url': program.database,
        'data_dir': folder,
        'migrate': False,
        'reserve': 0 if program.data is None else RESERVE,
        **program.bridge,
    }
    if not (is_loopback(program.endpoint.host) or settings.get('trusted_proxies')):
        logger.warning(
            'the bridge listens on %s without TLS, and behind no trusted proxy: logins and contents'
            ' are readable on their way',
            program.endpoint.host,
        )
    return BridgeServer(program.endpoint, kept, settings, MetaDiskSettings(), grace=program.grace)


async def _run(
    server: BridgeServer, ready: Callable[[BridgeServer], object], stopped: threading.Event
) -> None:
    async def live() -> None:
        await server.start()
        ready(server)
        if server.app is not None:
            await server.app[TASKS].failed

    try:
        await until_stopped(stopped, live())
    finally:
        await server.stop()


@contextmanager
def _folder(path: Path | None) -> Iterator[Path]:
    """Make the folder of a bridge, for its owner only; a temporary one is removed at the end."""
    if path is None:
        with tempfile.TemporaryDirectory(prefix='storj-bridge-') as made:
            yield Path(made)
        return
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NetworkSetupError(f'{path}: cannot be used: {error.strerror}') from error
    yield path


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """Keep other bridges from a database of SQLite, which is one bridge's own."""
    path = sqlite_file(url)
    if path is None:
        yield
        return
    lock = path.with_name(f'{path.name}.lock')
    try:
        descriptor = file_lock.lock(lock)
    except OSError as error:
        raise NetworkSetupError(f'{lock}: cannot be used: {error.strerror}') from error
    if descriptor is None:
        raise NetworkSetupError(f'{path}: another bridge uses it; several need PostgreSQL')
    try:
        yield
    finally:
        file_lock.unlock(descriptor, lock)
