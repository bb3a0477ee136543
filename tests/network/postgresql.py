"""A server of PostgreSQL for tests and benchmarks, where programs and a driver are found."""

from __future__ import annotations

import getpass
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from benchmarks.ports import steady_port
from tests.network.bridges import eventually

DRIVERS = ('psycopg', 'psycopg2', 'pg8000')


class MissingError(Exception):
    """A program or a driver is missing; the text says how to get it."""


def program(name: str) -> str | None:
    """Return the path of a program of PostgreSQL; distributions keep them apart."""
    places = sorted(Path('/usr/lib/postgresql').glob(f'*/bin/{name}'))
    return shutil.which(name) or (str(places[-1]) if places else None)


def accepts(url: sa.URL) -> bool:
    engine = sa.create_engine(url)
    try:
        with engine.connect():
            return True
    except sa.exc.OperationalError:
        return False
    finally:
        engine.dispose()


class Server:
    """A server on the loopback interface, with nothing in it; not started yet.

    Args:
        user (str): its superuser.
        options (str): settings by their names.

    Attributes:
        url (sa.URL): of its first database.

    Raises:
        MissingError: If it cannot be run on this machine.
    """

    def __init__(self, user: str = 'storj', **options: str) -> None:
        initdb, postgres = program('initdb'), program('postgres')
        driver = next((name for name in DRIVERS if importlib.util.find_spec(name)), None)
        if initdb is None or postgres is None:
            raise MissingError('no PostgreSQL server on this machine: apt-get install postgresql')
        if driver is None:
            raise MissingError(
                'no driver for PostgreSQL in this environment: pip install "psycopg[binary]"'
            )
        self._program = postgres
        self._process: subprocess.Popen[bytes] | None = None
        # It refuses to run for the superuser.
        self._owner = 'nobody' if os.geteuid() == 0 else getpass.getuser()
        self._folder = Path(tempfile.mkdtemp(prefix='storj-postgresql-'))
        self._settings = {
            'listen_addresses': '127.0.0.1',
            'unix_socket_directories': '',
            'fsync': 'off',
            **options,
        }
        password = secrets.token_hex(16)
        self.url = sa.URL.create(
            f'postgresql+{driver}', user, password, '127.0.0.1', steady_port(), 'postgres'
        )
        secret = self._folder / 'password'
        secret.write_text(password)
        for path in (self._folder, secret):
            os.chown(path, pwd.getpwnam(self._owner).pw_uid, -1)
        subprocess.run(
            [
                *(initdb, '-D', self._data, '-U', user, '-E', 'UTF8', '--locale=C', '--no-sync'),
                *('-A', 'scram-sha-256', f'--pwfile={secret}'),
            ],
            user=self._owner,
            cwd=self._folder,
            check=True,
            capture_output=True,
        )

    @property
    def _data(self) -> str:
        return str(self._folder / 'data')

    def start(self) -> None:
        """Start it, and wait until it can be used."""
        with (self._folder / 'log').open('ab') as log:
            self._process = process = subprocess.Popen(
                [
                    *(self._program, '-D', self._data, '-p', str(self.url.port)),
                    *(f'--{name}={value}' for name, value in self._settings.items()),
                ],
                user=self._owner,
                cwd=self._folder,
                stderr=log,
            )
        eventually(lambda: process.poll() is not None or accepts(self.url))
        assert process.poll() is None, (self._folder / 'log').read_text()

    def stop(self) -> None:
        """Stop it, and break off its connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        """Stop it, and remove all that it has."""
        self.stop()
        shutil.rmtree(self._folder)


@contextmanager
def postgresql(**options: str) -> Iterator[sa.URL]:
    """Run a server on the loopback interface, with nothing in it.

    Raises:
        MissingError: If it cannot be run on this machine.
    """
    server = Server(**options)
    try:
        server.start()
        yield server.url
    finally:
        server.remove()


def new_database(server: sa.URL, name: str = '') -> sa.URL:
    """Make a fresh database of a server, and return its URL."""
    name = name or f'test_{secrets.token_hex(4)}'
    engine = sa.create_engine(server, isolation_level='AUTOCOMMIT')
    with engine.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE {name}'))
    engine.dispose()
    return server.set(database=name)


@contextmanager
def frozen(server: sa.URL) -> Iterator[None]:
    """Stop all processes of a server within the block, as a frozen machine does; needs /proc."""
    engine = sa.create_engine(server)
    with engine.connect() as connection:
        backend = connection.scalar(sa.text('SELECT pg_backend_pid()'))
        # It ends with the connection.
        status = Path(f'/proc/{backend}/stat').read_text()
    engine.dispose()
    postmaster = int(status.rpartition(')')[2].split()[1])
    os.kill(postmaster, signal.SIGSTOP)
    stopped = [postmaster]
    try:
        # None can be added any more.
        children = Path(f'/proc/{postmaster}/task/{postmaster}/children').read_text().split()
        for child in map(int, children):
            os.kill(child, signal.SIGSTOP)
            stopped.append(child)
        yield
    finally:
        for each in stopped:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGCONT)
