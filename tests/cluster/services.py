"""The services of ``deploy/compose.yaml`` as processes of this machine.

Commands and environments are those of the file. What containers have of their own is put in: each
service gets free ports of the loopback interface instead of an address, and folders instead of
volumes. PostgreSQL is started as its image does it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa
import yaml

from benchmarks.ports import steady_port
from tests.network import postgresql
from tests.network.bridges import eventually

DEPLOY = Path(__file__).parents[2] / 'deploy'
#: Ports on which the services of the file listen.
_PORTS = {
    'bridge-a': (6382, 9464),
    'bridge-b': (6382, 9464),
    'proxy': (6382,),
    'seaweedfs': (8333, 9333),
    **{f'farmer-{number}': (4000 + number,) for number in range(1, 7)},
}
#: Ports of the object store that nothing else uses, which are others in a container.
_STORE = ('master.port.grpc', 'volume.port', 'volume.port.grpc', 'filer.port', 'filer.port.grpc')
_NAME = re.compile(r'\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}')


class Services:
    """All services of the file; nothing runs yet.

    Args:
        folder (Path): for what they keep.
        settings (str): variables of the file, beside those that ``setup.sh`` makes.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self._ports = {
            (name, port): steady_port() for name, ports in _PORTS.items() for port in ports
        }
        self._store_ports = {name: steady_port() for name in (*_STORE, 's3.port.grpc')}
        self.url = f'http://127.0.0.1:{self._ports["proxy", 6382]}'
        self._database = postgresql.Server()
        self._ports['postgres', 5432] = self._database.url.port or 0
        made = subprocess.run(
            [DEPLOY / 'setup.sh', '127.0.0.1', self.url],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        self.settings = dict(line.split('=', 1) for line in made.splitlines())
        self.settings |= {'POSTGRES_PASSWORD': str(self._database.url.password), **settings}
        self.file = yaml.safe_load(
            interpolated((DEPLOY / 'compose.yaml').read_text(), self.settings)
        )
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def port(self, service: str, port: int) -> int:
        """Return the port of this machine that stands for one of a service."""
        return self._ports[service, port]

    # ------------------------------------------------------------------ one service

    def start(self, name: str, **changes: str) -> None:
        """Start a service, with some variables of its environment changed."""
        if name == 'postgres':
            self._database.start()
            return
        service = self.file['services'][name]
        with (self.folder / f'{name}.log').open('ab') as log:
            self._running[name] = subprocess.Popen(
                self._command(name, service),
                env=self._environment(name, service) | changes,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def run(self, name: str) -> None:
        """Run a service that ends by itself."""
        self.start(name)
        assert self._running.pop(name).wait(60) == 0, self.log(name)

    def stop(self, name: str) -> None:
        """Stop a service as its container would be, and check that it ends well."""
        if name == 'postgres':
            self._database.stop()
            return
        process = self._running.pop(name)
        process.terminate()
        status = process.wait(45)
        # HAProxy and the object store end by the signal.
        assert status in (0, -signal.SIGTERM, 143), self.log(name)

    def kill(self, name: str) -> None:
        """End a service at once."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a service."""
        self._running[name].send_signal(number)

    def log(self, name: str) -> str:
        """Return the end of what a service has written."""
        return (self.folder / f'{name}.log').read_text(errors='replace')[-4000:]

    def restore_database(self, name: str) -> str:
        """Dump the database, restore it under another name, and return the URL for bridges."""
        url = self._database.url
        environment = {
            **os.environ,
            'PGHOST': '127.0.0.1',
            'PGPORT': str(url.port),
            'PGUSER': str(url.username),
            'PGPASSWORD': str(url.password),
        }
        dump = str(self.folder / 'storj.dump')
        for command in (
            ('pg_dump', '--format=custom', f'--file={dump}', 'storj'),
            ('createdb', name),
            ('pg_restore', f'--dbname={name}', dump),
        ):
            words = [postgresql.program(command[0]) or command[0], *command[1:]]
            subprocess.run(words, env=environment, check=True)
        return f'postgresql+psycopg://{url.username}@127.0.0.1:{url.port}/{name}'

    # ------------------------------------------------------------------ all

    def start_all(self) -> None:
        """Start everything in the order of the file's conditions, and wait until it works."""
        self.start('postgres')
        self._make_database()
        self.start('seaweedfs')
        self.run('migrate')
        for name in ('bridge-a', 'bridge-b', 'proxy'):
            self.start(name)
        self.wait('seaweedfs', 8333, '/healthz')
        self.run('bucket')
        for name in ('bridge-a', 'bridge-b', 'proxy'):
            self.wait(name, 6382, '/ready')
        for name in self.farmers:
            self.start(name)
        eventually(lambda: len(self.status()['farmers']) == len(self.farmers), 60)

    def end_all(self) -> None:
        """End everything, however it is."""
        for name in tuple(self._running):
            self.signal(name, signal.SIGCONT)
            self.kill(name)
        self._database.remove()

    @property
    def farmers(self) -> list[str]:
        """Names of the farmers."""
        return [name for name in self.file['services'] if name.startswith('farmer-')]

    def wait(self, service: str, port: int, path: str) -> None:
        """Wait until a service answers with 200."""

        def answers() -> bool:
            process = self._running[service]
            assert process.poll() is None, self.log(service)
            try:
                return requests.get(self.at(service, port, path), timeout=5).status_code == 200
            except requests.RequestException:
                return False

        eventually(answers, 60)

    def wait_for_copies(self, lost: int) -> None:
        """Wait until so many farmers count as lost, and all shards have their copies on others."""
        found: list[tuple[int, int]] = []

        def mended() -> bool:
            status = self.status()
            gone = sum(farmer['lost'] for farmer in status['farmers'])
            found.append((gone, status['totals']['under_replicated']))
            return found[-1] == (lost, 0)

        try:
            # A copy that came to nothing is waited for, and tried again after growing pauses.
            eventually(mended, 200)
        except AssertionError:
            wait = f'farmers lost, shards with too few copies: {found[-1]}; {self._repairs()}'
            raise AssertionError(wait) from None

    def _repairs(self) -> list[object]:
        """Return what the bridges know of the copies that they still have to make."""
        engine = sa.create_engine(self._database.url.set(database='storj'))
        with engine.connect() as connection:
            rows = connection.execute(sa.text('SELECT * FROM repairs LIMIT 5')).all()
        engine.dispose()
        return [time.time() * 1000, *rows]

    def at(self, service: str, port: int, path: str) -> str:
        """Return a URL of a service."""
        return f'http://127.0.0.1:{self.port(service, port)}{path}'

    def status(self) -> dict[str, Any]:
        """Return what the bridges tell of the network."""
        answer = requests.get(
            f'{self.url}/status', headers={'Accept': 'application/json'}, timeout=20
        )
        answer.raise_for_status()
        status: dict[str, Any] = answer.json()
        return status

    # ------------------------------------------------------------------ what containers have

    def _command(self, name: str, service: Mapping[str, Any]) -> list[str]:
        image = service['image'].partition(':')[0].rpartition('/')[2]
        words = [self._here(name, word) for word in service.get('command', ())]
        if image == 'storj':
            return [sys.executable, '-m', 'storj', *words]
        if image == 'haproxy':
            config = self.folder / 'haproxy.cfg'
            config.write_text(self._here(name, (DEPLOY / 'haproxy.cfg').read_text()))
            return [program('haproxy'), '-W', '-db', '-f', str(config)]
        assert image == 'seaweedfs', image
        if 'entrypoint' in service:
            return [*service['entrypoint'], *words]
        (self.folder / name).mkdir(exist_ok=True)
        ports = {
            'master.port': self.port(name, 9333),
            's3.port': self.port(name, 8333),
            **self._store_ports,
        }
        return [
            *(program('weed'), *words),
            *(f'-{option}={port}' for option, port in ports.items()),
            *('-s3.port.iceberg=0', '-s3.port.lance=0', '-master.telemetry=false'),
            *('-volume.max=50', '-master.volumeSizeLimitMB=64'),
        ]

    def _environment(self, name: str, service: Mapping[str, Any]) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(('STORJ_', 'PG', 'AWS_'))}
        own = service.get('environment', {})
        return clean | {key: self._here(name, str(value)) for key, value in own.items()}

    def _here(self, name: str, text: str) -> str:
        """Return a text of the file with addresses and paths of this machine."""
        for (service, port), steady in self._ports.items():
            # The shell of the object store wants both ports of its master.
            grpc = f'.{self._store_ports["master.port.grpc"]}' if port == 9333 else ''
            text = text.replace(f'{service}:{port}', f'127.0.0.1:{steady}{grpc}')
            if service == name:
                text = re.sub(rf'(?<=:|=){port}\b|^{port}$', str(steady), text)
        text = text.replace('bind :', 'bind 127.0.0.1:').replace('=seaweedfs', '=127.0.0.1')
        text = re.sub(r'\b0\.0\.0\.0\b|\b172\.30\.77\.2\b', '127.0.0.1', text)
        # A space would end the path.
        text = text.replace('/usr/local/etc/haproxy', str(DEPLOY).replace(' ', '\\ '))
        text = re.sub(r'=/(?:data|tmp/farmer)$', f'={self.folder / name}', text)
        return text.replace('/etc/seaweedfs/s3.json', str(self._identities()))

    def _identities(self) -> Path:
        path = self.folder / 's3.json'
        path.write_text(json.dumps(json.loads(self.file['configs']['s3']['content'])))
        return path

    def _make_database(self) -> None:
        """Make the database of the file, as the image of PostgreSQL does."""
        wanted = self.file['services']['postgres']['environment']
        assert wanted['POSTGRES_USER'] == self._database.url.username
        postgresql.new_database(self._database.url, wanted['POSTGRES_DB'])


def interpolated(text: str, settings: Mapping[str, str]) -> str:
    """Return a text with the values of its variables, as Compose puts them in."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found['name'], found['kind'], found['rest']
        if settings.get(name):
            return settings[name]
        assert kind == '-', f'{name} has no value: {rest}'
        return str(rest)

    return _NAME.sub(value, text)


def program(name: str) -> str:
    """Return the path of a program, or skip with a reason."""
    path = shutil.which(name) or shutil.which(name, path='/usr/sbin')
    if path is None:
        pytest.skip(f'{name} is not installed')
    return path
