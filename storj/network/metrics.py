"""Metrics of a bridge for Prometheus, of all its processes together.

Each process counts into files of its own in one folder, by memory that is mapped, and any of them
adds the files up for a scrape. What is found out in the database is measured by one bridge at a
time and kept in rows, which all bridges read: a scrape asks no database. No label has a value
that comes from the network.
"""

from __future__ import annotations

import asyncio
import collections
import os
import time
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from storj.network.bridge.contacts import not_lately_timed_out
from storj.network.bridge.state import Bridge
from storj.network.bridge.tables import Contact, Repair
from storj.network.bridge.totals import Totals, keep, kept
from storj.network.bridge.upkeep.leases import take_round
from storj.network.node.serving import Server, listen
from storj.network.node.tasks import Tasks
from storj.network.node.wire import Handler
from storj.text import in_url

_ROUND = 'the measures'
#: Seconds between two measurements by whichever process, and between two looks at the last one.
PACE, _LOOK = 15.0, 5.0
# Measuring takes this part of the time at the most: the backlog of repairs may be long.
_SHARE = 0.01
_LONGEST = 600.0
_METHODS = frozenset({'DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT'})
#: Seconds; small requests take milliseconds, one for a shard may wait for farmers.
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

#: What is measured: the name of a gauge, its label if it has one, and the help.
_GAUGES: tuple[tuple[str, str, str], ...] = (
    ('storj_contracts', 'kind', 'Copies of shards that farmers keep, by kind.'),
    ('storj_contract_bytes', 'kind', 'Bytes of these copies.'),
    ('storj_farmers', 'state', 'Farmers: there, silent for a while, or lost with their copies.'),
    ('storj_audits', 'result', 'Audits of the farmers that are known.'),
    ('storj_repairs', 'state', 'Shards with too few copies: due now, or to be tried later.'),
    ('storj_measured_timestamp_seconds', '', 'When this was measured.'),
)


def measure(session: Session, counted: collections.Counter[str], now: int) -> dict[str, float]:
    """Return what is known from the database: values by ``gauge`` or ``gauge label``.

    Args:
        session (Session): in a transaction.
        counted (Counter[str]): of :class:`~storj.network.bridge.totals.Totals`.
        now (int): milliseconds since 1970.
    """
    found: dict[str, float] = {'storj_measured_timestamp_seconds': now / 1000}
    of_all: collections.Counter[str] = collections.Counter()
    for name, count in counted.items():
        of_all[name.partition(' ')[0]] += count
    there = case((not_lately_timed_out(now), 1), else_=0)
    lost = case((Contact.lost.is_(True), 1), else_=0)
    both, gone, known, passed, failed = (
        float(value or 0)
        for value in session.execute(
            select(
                func.sum(there * (1 - lost)),
                func.sum(lost),
                func.count(),
                func.sum(Contact.audits_passed),
                func.sum(Contact.audits_failed),
            )
        ).one()
    )
    late = func.sum(case((Repair.due <= now, 1), else_=0))
    due, all_repairs = session.execute(select(late, func.count()).select_from(Repair)).one()
    return {
        **found,
        'storj_contracts first': of_all['shards'] - of_all['mirrors'],
        'storj_contracts mirror': of_all['mirrors'],
        'storj_contract_bytes first': of_all['bytes'] - of_all['mirrored'],
        'storj_contract_bytes mirror': of_all['mirrored'],
        'storj_farmers there': both,
        'storj_farmers lost': gone,
        'storj_farmers silent': known - both - gone,
        'storj_audits passed': passed,
        'storj_audits failed': failed,
        'storj_repairs due': float(due or 0),
        'storj_repairs later': float(all_repairs - (due or 0)),
    }


class Metrics:
    """What one process of a bridge counts, and the sums of all.

    Makes the classes of ``prometheus_client`` work for several processes, for this process as a
    whole: one is made in a process, before any other metric.

    Args:
        folder (Path): of all processes; made if it is missing, for its owner only.
        number (int): of the process; one that is started again goes on with what it had counted.
    """

    def __init__(self, folder: Path, number: int) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        os.environ['PROMETHEUS_MULTIPROC_DIR'] = str(folder)
        # By default a process has files by its pid, which would become ever more.
        values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        MultiProcessCollector(self._registry, str(folder))  # type: ignore[no-untyped-call]
        self._requests = Counter(
            'storj_requests',
            'Requests that were answered.',
            ('route', 'method', 'status'),
            registry=None,
        )
        self._seconds = Histogram(
            'storj_request_seconds',
            'Time until a request was answered.',
            ('route', 'method'),
            buckets=_BUCKETS,
            registry=None,
        )
        self._connections = Gauge(
            'storj_database_connections',
            'Connections to the database that are in use.',
            multiprocess_mode='sum',
            registry=None,
        )
        self._gauges = {
            name: Gauge(
                name,
                text,
                (label,) if label else (),
                multiprocess_mode='mostrecent',
                registry=None,
            )
            for name, label, text in _GAUGES
        }
        # Monotonic seconds of the next measurement by this process, if no other one measures.
        self._due = 0.0
        # Looking a label up takes longer than counting.
        self._counters: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request, and the time that it takes."""
        began = time.perf_counter()
        status = 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            self._count(request, status, time.perf_counter() - began)

    def _count(self, request: web.Request, status: int, seconds: float) -> None:
        resource = request.match_info.route.resource
        route = 'none' if resource is None else resource.canonical.rstrip('/') or '/'
        method = request.method if request.method in _METHODS else 'other'
        key = route, method, status
        found = self._counters.get(key)
        if found is None:
            found = self._counters[key] = (
                self._requests.labels(route, method, str(status)),
                self._seconds.labels(route, method),
            )
        found[0].inc()
        found[1].observe(seconds)

    def start(self, bridge: Bridge, tasks: Tasks) -> None:
        """Begin to measure, among the tasks of a bridge."""
        tasks.start(_ROUND, self._follow(bridge, tasks))

    async def _follow(self, bridge: Bridge, tasks: Tasks) -> None:
        totals = Totals(bridge, tasks)
        while True:
            try:
                self._set(await self._measured(bridge, totals))
                self._connections.set(bridge.database.connections)
            except Exception as error:
                # The database is away, say; the bridge goes on, and so do the measurements.
                tasks.note(_ROUND, error)
            else:
                tasks.note(_ROUND, None)
            await asyncio.sleep(_LOOK)

    async def _measured(self, bridge: Bridge, totals: Totals) -> Mapping[str, float]:
        """Return what was measured last, by this process or another."""
        if time.monotonic() >= self._due and await take_round(bridge, _ROUND, _LONGEST):
            counted = await totals.get()
            began = time.monotonic()
            found = await bridge.database.apart(
                lambda session: measure(session, counted, bridge.now()), long=True
            )
            await keep(bridge, _ROUND, found)
            ended = time.monotonic()
            pause = min(_LONGEST, max(PACE, (ended - began) / _SHARE))
            self._due = ended + pause
            await take_round(bridge, _ROUND, pause)
        return await kept(bridge, _ROUND) or {}

    def _set(self, measured: Mapping[str, float]) -> None:
        for key, value in measured.items():
            name, _, label = key.partition(' ')
            gauge = self._gauges.get(name)
            # Another version may have measured more.
            if gauge is not None:
                (gauge.labels(label) if label else gauge).set(value)

    def text(self) -> bytes:
        """Return the sums of all processes, as Prometheus reads them."""
        return generate_latest(self._registry)


class MetricsServer:
    """``GET /metrics``, on a port of its own.

    Args:
        metrics (Metrics): of this process.
        host (str): address to listen on.
        port (int): 0 for any free one.
        shared (bool): whether other processes listen on the port, too.

    Attributes:
        url (str): where Prometheus reads, once it is started.
    """

    def __init__(self, metrics: Metrics, host: str, port: int, *, shared: bool) -> None:
        self._metrics = metrics
        self._place = host, port
        self._shared = shared
        self._server: Server | None = None
        self.url = ''

    async def start(self) -> None:
        """Listen.

        Raises:
            NetworkSetupError: If the port is taken.
        """
        app = web.Application()
        app.router.add_get('/metrics', self._answer)
        listening = listen(*self._place, shared=self._shared)
        host, port = listening.getsockname()[:2]
        self._server = Server(app)
        await self._server.start(listening)
        self.url = f'http://{in_url(host)}:{port}/metrics'

    async def _answer(self, request: web.Request) -> web.Response:
        body = await asyncio.to_thread(self._metrics.text)
        return web.Response(body=body, headers={'Content-Type': CONTENT_TYPE_LATEST})

    async def stop(self) -> None:
        """Stop listening; nothing happens if it does not run."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop()
