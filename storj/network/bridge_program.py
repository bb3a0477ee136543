"""A bridge as a program of its own: one of any number on the same database.

It keeps no state that another bridge would miss: all of that is rows of the database, the seed of
the renter node included, which farmers and contracts know by its keys.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storj.exception import NetworkSetupError
from storj.network.bridge.database import CONNECTIONS, Database, sqlite_file
from storj.network.bridge.state import BridgeSettings
from storj.network.bridge_server import BRIDGE_DESCRIPTORS, BridgeServer
from storj.network.metadisk.node import Settings as MetaDiskSettings
from storj.network.node.serving import need_descriptors, reserved
from storj.network.program import EventPrinter, serving, until_stopped
from storj.network.settings import RESERVE, Endpoint
from storj.network.workers import Report, run_workers, until_orphaned
from storj.system import file_lock
from storj.system.hosts import is_loopback

if TYPE_CHECKING:
    from storj.network.metrics import Metrics, MetricsServer

logger = logging.getLogger(__name__)

_SEED = 'renter_seed'
_FEWEST_CONNECTIONS = 4


@dataclass(frozen=True)
class BridgeProgram:
    """How a bridge is run as a program.

    Attributes:
        database (str): SQLAlchemy URL.
        endpoint (Endpoint): where it listens.
        data (Path | None): folder for spools and messages; None for a temporary one.
        seed (bytes | None): of the renter node; by default the database has it.
        migrate (bool): whether the schema of a server's database is made or brought up.
        workers (int): processes that share the port; more than one need PostgreSQL.
        metrics (tuple[str, int] | None): address and port for Prometheus; None for no metrics.
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
    workers: int = 1
    metrics: tuple[str, int] | None = None
    grace: float = 30.0
    bridge: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        # Refuses what is invalid.
        BridgeSettings(self.database, Path(), **self.bridge)
        if self.workers < 1:
            raise ValueError('a bridge has one worker at least')
        if self.workers > 1 and self.database.startswith('sqlite'):
            raise ValueError('several workers need PostgreSQL: SQLite is for one process')


def run_bridge(program: BridgeProgram, ready: Callable[[Mapping[str, Any]], object]) -> None:
    """Run a bridge until SIGTERM or Ctrl-C, finish the requests under way, and stop.

    Belongs into the main thread, because signals do.

    Args:
        program (BridgeProgram): what is run.
        ready (Callable[[Mapping[str, Any]], object]): called when it serves, with ``type``
            (``ready``), ``bridge`` (its URL), ``extended_key``, ``metrics`` (the URL, or None),
            ``pid`` and ``workers``.

    Raises:
        NetworkSetupError: If the port is taken, or folder or database cannot be used.
        ConfigurationError: If the certificate for TLS cannot be used.
        ResourceError: If the system allows too few open files.
    """
    need_descriptors(BRIDGE_DESCRIPTORS, 'a bridge')
    tell, facts = EventPrinter(ready), {'pid': os.getpid(), 'workers': program.workers}
    with ExitStack() as stack:
        renewed = program.endpoint.tls_cert is not None
        stopped = stack.enter_context(serving(survives_hangup=renewed))
        folder = stack.enter_context(_folder(program.data))
        stack.enter_context(_alone(program.database))
        seed = _prepared(program)
        place, metrics = program.endpoint, program.metrics
        if program.workers > 1:
            place = replace(place, port=stack.enter_context(reserved(place.host, place.port)))
            if metrics is not None:
                metrics = metrics[0], stack.enter_context(reserved(*metrics))
        counted = None if metrics is None else stack.enter_context(_folder(None))

        def work(number: int, report: Report, life: int | None) -> None:
            process = _Process(replace(program, endpoint=place, metrics=metrics), folder, seed)
            if counted is not None:
                process.count(counted, number)
            asyncio.run(process.run(report, stopped, life))

        def serves(reports: Sequence[Mapping[str, Any]]) -> None:
            tell({'type': 'ready', **reports[0], **facts})

        if program.workers == 1:
            work(0, lambda report: serves([report]), None)
        else:
            run_workers(program.workers, work, serves, stopped, grace=program.grace)


def _prepared(program: BridgeProgram) -> bytes:
    """Make sure that the database can be used; return the seed of the renter node."""
    place = program.endpoint
    if not (is_loopback(place.host) or place.tls_cert or program.bridge.get('trusted_proxies')):
        logger.warning(
            'the bridge listens on %s without TLS, and behind no trusted proxy: logins and contents'
            ' are readable on their way',
            place.host,
        )
    database = Database(program.database, durable=False, migrate=program.migrate)
    try:
        return program.seed or bytes.fromhex(database.secret(_SEED, lambda: secrets.token_hex(32)))
    finally:
        database.close()


class _Process:
    """One process of a bridge.

    Args:
        program (BridgeProgram): what is run, with the ports that are kept for it.
        folder (Path): for spools and messages.
        seed (bytes): of the renter node.
    """

    def __init__(self, program: BridgeProgram, folder: Path, seed: bytes) -> None:
        self._program = program
        self._folder = folder
        self._seed = seed
        self._metrics: Metrics | None = None
        self._scraped: MetricsServer | None = None

    def count(self, folder: Path, number: int) -> None:
        """Count requests into a folder that all processes share."""
        # Imported here, because only some bridges need it.
        from storj.network.metrics import Metrics, MetricsServer

        host, port = self._program.metrics or ('127.0.0.1', 0)
        self._metrics = Metrics(folder, number)
        self._scraped = MetricsServer(self._metrics, host, port, shared=self._program.workers > 1)

    async def run(self, report: Report, stopped: threading.Event, life: int | None) -> None:
        """Serve until a signal, or until the parent has gone.

        Args:
            report (Report): called when it serves, with ``bridge``, ``extended_key``, ``metrics``.
            stopped (threading.Event): set by a signal.
            life (int | None): see :func:`storj.network.workers.until_orphaned`.
        """
        server, scraped = self._server(), self._scraped

        async def live() -> None:
            await server.start()
            if scraped is not None:
                await scraped.start()
            logger.info('the bridge serves at %s', server.url)
            report(
                {
                    'bridge': server.url,
                    'extended_key': server.extended_key,
                    'metrics': None if scraped is None else scraped.url,
                }
            )
            await server.failed()

        try:
            with until_orphaned(life, stopped):
                await until_stopped(stopped, live())
        finally:
            logger.info('the bridge stops')
            await server.stop()
            if scraped is not None:
                await scraped.stop()

    def _server(self) -> BridgeServer:
        """Return the bridge, not started yet."""
        program, metrics = self._program, self._metrics
        own_records = program.data is not None and sqlite_file(program.database) is not None
        settings: dict[str, Any] = {
            'database_url': program.database,
            'data_dir': self._folder,
            'migrate': False,
            # A server has a hundred at first, for all bridges.
            'connections': max(_FEWEST_CONNECTIONS, CONNECTIONS // program.workers),
            # For the records of a database that lies here; a server's has a disk of its own.
            'reserve': RESERVE if own_records else 0,
            **program.bridge,
        }
        return BridgeServer(
            program.endpoint,
            self._seed,
            settings,
            MetaDiskSettings(),
            middlewares=() if metrics is None else (metrics.middleware,),
            grace=program.grace,
            shared=program.workers > 1,
            tasks=None if metrics is None else metrics.start,
        )


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
