"""What the calls of a bridge cost as it has more to remember.

``python -m benchmarks.growth sizes [--most 1000000] [--engine PostgreSQL]`` fills a database of
SQLite and one of PostgreSQL with contracts and files, ten times as many each time, without
statistics for a planner, and prints for each number how long calls take, and for how long the
bridge served nobody else meanwhile: processor time of its event loop, which other programs do not
lengthen. Milliseconds, medians of a few calls.

``python -m benchmarks.growth uploads [--seconds 10] [--bridges 1]`` prints how many small uploads
bridges of one database take in a second from 1 and 16 clients each: all calls that reach a bridge
for a file of one shard, with the reports of both sides, on SQLite (one bridge only), on PostgreSQL,
and on a PostgreSQL that is a millisecond away.
Farmers agree at once and take no bytes, so that the bridge alone is measured. On a busy machine the
processor time of each upload says more than the rate.

``python -m benchmarks.growth vanish [--most 1000]`` has 30 % of 10 to 1,000 farmers vanish, and
prints how long it takes until every shard with a copy left is back at its number of copies, how
many copies were made for that, and what was lost (see ``benchmarks.vanish``).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import http.client
import itertools
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from aiohttp import web

from benchmarks.vanish import vanish
from storj.digest import ShardDigest, new_challenges, shard_hash
from storj.network.bridge.app import HEAD_LIMIT, create_app
from storj.network.bridge.database import Database
from storj.network.bridge.renter import Allocation
from storj.network.bridge.state import BridgeSettings
from storj.network.bridge.tables import Contact
from storj.network.node.contract import Contract
from storj.network.node.identity import Identity
from storj.network.node.rpc import NodeContact
from storj.network.node.serving import Server
from tests.network.bridges import quick_passwords
from tests.network.postgresql import new_database, postgresql

ENGINES = ('SQLite', 'PostgreSQL')
FARMERS = 50
EMAIL, PASSWORD = 'alice@example.org', hashlib.sha256(b'correct horse').hexdigest()
BASIC = base64.b64encode(f'{EMAIL}:{PASSWORD}'.encode()).decode()
#: Seconds that a message to a distant database takes each way: half of a round trip of 1 ms.
_WAY = 0.0005
_MOST = 10**6
# Placements that are measured in each frame.
_PLACEMENTS = 15

# The same for both engines: row number ``i`` of so many, hex digits from it.
_ROWS = 'WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :count) '
_ID24, _ID40 = f"(10000000 + i) || '{'a' * 16}'", f"(10000000 + i) || '{'b' * 32}'"
_FILL = (
    f"""INSERT INTO frames (id, "user", created, locked, size, storage_size) {_ROWS}
    SELECT {_ID24}, :user, i, true, 1024, 1024 FROM n""",
    f"""INSERT INTO pointers (id, frame, position, shard_hash, size, parity) {_ROWS}
    SELECT {_ID24}, {_ID24}, 0, {_ID40}, 1024, false FROM n""",
    f"""INSERT INTO entries (id, bucket, frame, name, mimetype, created, renewal) {_ROWS}
    SELECT {_ID24}, :bucket, {_ID24}, 'file ' || i, 'image/jpeg', i, 0 FROM n""",
    f"""INSERT INTO contracts (shard_hash, node_id, data_size, store_begin, store_end, tree,
    document, auditable, stored, mirror, failed, download_count, verified, next_audit, next_renewal)
    {_ROWS} SELECT {_ID40}, c.node_id, 1024, i, :far, '[]', '{{}}', true, true, false, false, 0,
    0, :soon, :far FROM n JOIN numbered c ON c.number = i % :farmers""",
)


class NullFarmers:
    """Stands in for the bridge's renter node: every farmer agrees at once."""

    extended_key = 'xpub'

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
        """Grant a contract, and copy nothing."""
        contract = Contract(
            data_hash, data_size, store_begin, store_end, audit_count, farmer_id=contact.node_id
        )
        return Allocation(secrets.token_hex(20), contract, True)


async def serve(url: str, folder: str) -> None:
    """Serve a bridge until SIGTERM; print its port."""
    settings = BridgeSettings(
        url,
        Path(folder),
        durable=False,
        mirrors=0,
        audit_interval=0.0,
        ping_interval=0.0,
        renewal_ahead=0.0,
    )
    app = create_app(settings, NullFarmers(), make_passwords=quick_passwords)  # type: ignore[arg-type]
    pause = 0.0
    watching: asyncio.Task[None] | None = None

    async def longest(request: web.Request) -> web.Response:
        nonlocal pause, watching
        # From the first question on: it takes processor time.
        watching = watching or asyncio.ensure_future(watch())
        pause, answer = 0.0, pause
        return web.json_response(answer)

    async def watch() -> None:
        nonlocal pause
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.001)
            pause = max(pause, time.thread_time() - began)

    app.router.add_route('GET', '/longest-pause', longest)
    server = Server(app, max_line_size=HEAD_LIMIT, max_field_size=HEAD_LIMIT)
    listening = socket.create_server(('127.0.0.1', 0))
    port = listening.getsockname()[1]
    await server.start(listening)
    print(port, flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    if watching is not None:
        watching.cancel()
    await server.stop()


@contextlib.contextmanager
def bridge(url: str, folder: Path) -> Iterator[Client]:
    """Run a bridge as a process of its own, with an account."""
    command = [sys.executable, '-m', 'benchmarks.growth', 'serve', str(folder)]
    environment = {**os.environ, 'BENCHMARK_DATABASE': url}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            client = Client(int(process.stdout.readline()), process.pid)
            client.call('POST', '/users', {'email': EMAIL, 'password': PASSWORD}, (201, 400))
            yield client
        finally:
            process.terminate()
            process.wait(30)


class Client:
    """One connection to the bridge.

    Args:
        port (int): of the bridge.
        process (int): of the bridge.
    """

    def __init__(self, port: int, process: int) -> None:
        self.port, self.process = port, process
        self._connection = http.client.HTTPConnection('127.0.0.1', port, timeout=900)

    def cpu(self) -> float:
        """Return the seconds of a processor that the bridge has used."""
        fields = Path(f'/proc/{self.process}/stat').read_text().rpartition(')')[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')

    def call(
        self,
        method: str,
        path: str,
        fields: object = None,
        expected: Sequence[int] = (200,),
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Send a request as the account, or with other headers; return what it answers."""
        body = None if fields is None else json.dumps(fields)
        sent = {'authorization': f'Basic {BASIC}'} if headers is None else headers
        self._connection.request(method, path, body, sent)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status not in expected:
            raise RuntimeError(f'{method} {path}: {answer.status} {text[:200]!r}')
        return json.loads(text) if text else None

    def shard(self, frame: str, data: bytes, index: int = 0) -> Any:
        """Add a shard to a frame."""
        challenges = new_challenges(4)
        digest = ShardDigest(challenges, 'C')
        digest.update(data)
        fields = {'hash': shard_hash(data), 'size': len(data), 'index': index, 'exclude': []}
        fields |= {'challenges': challenges, 'tree': digest.leaves()}
        return self.call('PUT', f'/frames/{frame}', fields)

    def report(self, pointer: Any, farmer: Identity | None = None) -> None:
        """Report the upload of a shard, as the client or as its farmer."""
        now = int(time.time() * 1000)
        fields = {'dataHash': pointer['hash'], 'exchangeStart': now, 'exchangeEnd': now + 1}
        fields |= {'exchangeResultCode': 1000, 'exchangeResultMessage': 'SHARD_UPLOADED'}
        headers = {}
        if farmer is None:
            fields['token'] = pointer['token']
        else:
            signed = f'POSThttp://127.0.0.1:{self.port}/reports/exchanges{now}{json.dumps(fields)}'
            headers = {
                'x-node-id': farmer.node_id,
                'x-node-timestamp': str(now),
                'x-node-pubkey': farmer.public_key.hex(),
                'x-node-signature': farmer.sign_der(signed.encode()),
            }
        self.call('POST', '/reports/exchanges', fields, (201,), headers)

    def upload(self, bucket: str, name: str, farmers: dict[str, Identity]) -> None:
        """Make all calls for a file of 1 KiB."""
        frame = self.call('POST', '/frames', {})['id']
        pointer = self.shard(frame, name.encode())
        self.report(pointer, farmers[pointer['farmer']['nodeID']])
        self.report(pointer)
        file = {'frame': frame, 'filename': name, 'mimetype': 'application/octet-stream'}
        self.call('POST', f'/buckets/{bucket}/files', file)


def prepare(url: str) -> dict[str, Identity]:
    """Make the tables, with farmers; return the farmers by their node ids."""
    database = Database(url)
    farmers = {each.node_id: each for each in (Identity.generate() for _ in range(FARMERS))}
    now = int(time.time() * 1000)
    rows = [
        {
            'node_id': node,
            'address': '127.0.0.1',
            'port': 4000 + number,
            'created': now,
            'protocol': '1.2.0',
            'user_agent': '8.7.2',
            'last_seen': now,
            'timeout_rate': 0.0,
            'space_available': True,
            'reputation': 0,
        }
        for number, node in enumerate(farmers)
    ]
    with database.begin() as session:
        session.execute(sa.insert(Contact), rows)
    database.close()
    return farmers


def fill(url: str, count: int, bucket: str) -> None:
    """Put so many files of one shard into a bucket, as rows."""
    engine = sa.create_engine(url)
    values = {'count': count, 'user': EMAIL, 'bucket': bucket, 'farmers': FARMERS, 'far': 2**52}
    values['soon'] = int((time.time() + 43200) * 1000)
    number = sa.text(
        'CREATE TEMPORARY TABLE numbered AS'
        ' SELECT node_id, row_number() OVER (ORDER BY node_id) - 1 AS number FROM contacts'
    )
    with engine.begin() as connection:
        if engine.dialect.name == 'postgresql':
            # No checks of foreign keys, which lock the farmers that the bridge notes calls of.
            connection.execute(sa.text('SET LOCAL session_replication_role = replica'))
            # What a planner knows of tables that have just been filled: nothing.
            for table in ('frames', 'pointers', 'entries', 'contracts'):
                connection.execute(sa.text(f'ALTER TABLE {table} SET (autovacuum_enabled = off)'))
        connection.execute(number)
        for statement in _FILL:
            connection.execute(sa.text(statement), values)
    if engine.dialect.name == 'postgresql':
        # What the filling left to be written would be written while calls are measured.
        with engine.execution_options(isolation_level='AUTOCOMMIT').connect() as connection:
            connection.execute(sa.text('CHECKPOINT'))
    engine.dispose()


def measure(url: str, folder: Path, count: int) -> dict[str, float]:
    """Return milliseconds of calls beside so many files, and of pauses of the bridge."""
    farmers = prepare(url)
    found: dict[str, float] = {}
    with bridge(url, folder) as client:
        bucket = client.call('POST', '/buckets', {'name': 'photos'}, (201,))['id']
        fill(url, count, bucket)
        # The bridge has closed a connection that was idle for so long.
        client = Client(client.port, client.process)

        def timed(name: str, calls: Sequence[Callable[[], object]]) -> None:
            client.call('GET', '/longest-pause')
            found[name] = statistics.median(map(_milliseconds, calls))
            found[f'{name}, pause'] = 1000 * client.call('GET', '/longest-pause')

        for shards in (10, 100):
            frame = client.call('POST', '/frames', {})['id']
            data = [secrets.token_bytes(15360) for _ in range(shards)]
            pointers = [client.shard(frame, each, index) for index, each in enumerate(data)]
            extra = [secrets.token_bytes(15360) for _ in range(_PLACEMENTS)]
            timed(
                f'placement in a frame of {shards}',
                [
                    lambda each=each, index=index, frame=frame: client.shard(frame, each, index)
                    for index, each in enumerate(extra, shards)
                ],
            )
        timed(
            'report of a farmer',
            [
                lambda each=each: client.report(each, farmers[each['farmer']['nodeID']])
                for each in pointers[:9]
            ],
        )
        timed('page of a listing', [lambda: client.call('GET', f'/buckets/{bucket}/files')] * 3)
        # What was never counted is counted while the first request waits, or comes again.
        while 'error' in client.call('GET', '/status', None, (200, 503)):
            time.sleep(1)
        timed('status', [lambda: client.call('GET', '/status')] * 3)
        timed('DELETE bucket', [lambda: client.call('DELETE', f'/buckets/{bucket}', None, (204,))])
    return found


def _milliseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def rate(url: str, folder: Path, clients: int, seconds: float, bridges: int) -> tuple[float, float]:
    """Return the small uploads of a second, and the milliseconds of a processor for each.

    Args:
        url (str): of the database.
        folder (Path): of the bridges.
        clients (int): of each bridge.
        seconds (float): for which they upload.
        bridges (int): processes, all on the same database.
    """
    farmers = prepare(url)
    done, names = itertools.count(), itertools.count()
    with contextlib.ExitStack() as stack:
        firsts = [
            stack.enter_context(bridge(url, folder / str(number))) for number in range(bridges)
        ]
        bucket = firsts[0].call('POST', '/buckets', {'name': 'photos'}, (201,))['id']
        end = time.monotonic() + seconds

        def work(first: Client) -> None:
            client = Client(first.port, first.process)
            while time.monotonic() < end:
                client.upload(bucket, f'file {next(names)}', farmers)
                next(done)

        threads = [
            threading.Thread(target=work, args=(first,)) for first in firsts for _ in range(clients)
        ]
        began, used = time.monotonic(), sum(first.cpu() for first in firsts)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        count = next(done)
        used = sum(first.cpu() for first in firsts) - used
        return count / (time.monotonic() - began), 1000 * used / count


@contextlib.contextmanager
def distant(url: sa.URL) -> Iterator[sa.URL]:
    """Run a proxy in front of a database that holds each message back for half a millisecond."""
    command = [sys.executable, '-m', 'benchmarks.growth', 'proxy', str(url.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield url.set(port=int(process.stdout.readline()))
        finally:
            process.terminate()
            process.wait(30)


async def hold_back(port: int) -> None:
    """Serve as the proxy; print its port."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                loop.call_later(_WAY, writer.write, piece)
        loop.call_later(2 * _WAY, writer.close)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection('127.0.0.1', port)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    server = await asyncio.start_server(accept, '127.0.0.1', 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _shown(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)


def sizes(most: int, engines: Sequence[str]) -> None:
    """Print the costs beside ever more files, as JSON lines."""
    counts = [10**power for power in range(3, 7) if 10**power <= most]
    with postgresql() as server:
        for engine, count in itertools.product(engines, counts):
            with tempfile.TemporaryDirectory() as folder:
                url = f'sqlite:///{folder}/bridge.db'
                if engine == 'PostgreSQL':
                    url = _shown(new_database(server))
                found = measure(url, Path(folder), count)
            line = {name: round(value, 1) for name, value in found.items()}
            print(json.dumps({'database': engine, 'files': count, **line}), flush=True)


def uploads(seconds: float, bridges: int) -> None:
    """Print the rates of uploads, as JSON lines."""
    with postgresql() as server, distant(server) as far:
        places = {'SQLite': None, 'PostgreSQL': server, '1 ms away': far}
        if bridges > 1:
            # Which is for one bridge.
            del places['SQLite']
        for clients, (name, place) in itertools.product((1, 16), places.items()):
            with tempfile.TemporaryDirectory() as folder:
                url = f'sqlite:///{folder}/bridge.db'
                if place is not None:
                    database = new_database(server).database
                    url = _shown(place.set(database=database))
                found, cpu = rate(url, Path(folder), clients, seconds, bridges)
            line = {'database': name, 'bridges': bridges, 'clients of each': clients}
            line |= {'uploads/s': round(found, 1), 'CPU ms each': round(cpu, 2)}
            print(json.dumps(line), flush=True)


def vanishing(most: int) -> None:
    """Print what becomes of networks of which 30 % of the farmers vanish, as JSON lines."""
    counts = [count for count in (10, 100, 1000) if count <= most]
    with postgresql() as server:
        for engine, count, at_once in itertools.product(ENGINES, counts, (None, 2)):
            with tempfile.TemporaryDirectory() as folder:
                url = f'sqlite:///{folder}/bridge.db'
                if engine == 'PostgreSQL':
                    url = _shown(new_database(server))
                print(json.dumps({'database': engine, **vanish(url, count, at_once)}), flush=True)


def main() -> None:
    """Read the command line and print the figures."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks.growth', description=__doc__)
    parts = parser.add_subparsers(dest='part', required=True)
    curves = parts.add_parser('sizes')
    curves.add_argument('--most', type=int, default=_MOST)
    curves.add_argument('--engine', choices=ENGINES)
    rates = parts.add_parser('uploads')
    rates.add_argument('--seconds', type=float, default=10.0)
    rates.add_argument('--bridges', type=int, default=1)
    parts.add_parser('vanish').add_argument('--most', type=int, default=1000)
    # Processes that the others start.
    parts.add_parser('serve').add_argument('folder')
    parts.add_parser('proxy').add_argument('port', type=int)
    options = parser.parse_args()
    if options.part == 'sizes':
        sizes(options.most, [options.engine] if options.engine else ENGINES)
    elif options.part == 'vanish':
        vanishing(options.most)
    elif options.part == 'uploads':
        uploads(options.seconds, options.bridges)
    elif options.part == 'serve':
        asyncio.run(serve(os.environ['BENCHMARK_DATABASE'], options.folder))
    else:
        asyncio.run(hold_back(options.port))


if __name__ == '__main__':
    main()
