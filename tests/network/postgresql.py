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
from contextlib import contextmanager
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


@contextmanager
def postgresql(**options: str) -> Iterator[sa.URL]:
    """Run a server on the loopback interface, with nothing in it.

    Raises:
        MissingError: If it cannot be run on this machine.
    """
    initdb, postgres = program('initdb'), program('postgres')
    driver = next((name for name in DRIVERS if importlib.util.find_spec(name)), None)
    if initdb is None or postgres is None:
        raise MissingError('no PostgreSQL server on this machine: apt-get install postgresql')
    if driver is None:
        raise MissingError(
            'no driver for PostgreSQL in this environment: pip install "psycopg[binary]"'
        )
    # It refuses to run for the superuser.
    owner = 'nobody' if os.geteuid() == 0 else getpass.getuser()
    folder = Path(tempfile.mkdtemp(prefix='storj-postgresql-'))
    try:
        password = secrets.token_hex(16)
        (folder / 'password').write_text(password)
        for path in (folder, folder / 'password'):
            os.chown(path, pwd.getpwnam(owner).pw_uid, -1)
        port = steady_port()
        data = str(folder / 'data')
        subprocess.run(
            [
                *(initdb, '-D', data, '-U', 'storj', '-E', 'UTF8', '--locale=C', '--no-sync'),
                *('-A', 'scram-sha-256', f'--pwfile={folder / "password"}'),
            ],
            user=owner,
            cwd=folder,
            check=True,
            capture_output=True,
        )
        settings = {
            'listen_addresses': '127.0.0.1',
            'unix_socket_directories': '',
            'fsync': 'off',
            **options,
        }
        url = sa.URL.create(
            f'postgresql+{driver}', 'storj', password, '127.0.0.1', port, 'postgres'
        )
        with (
            (folder / 'log').open('wb') as log,
            subprocess.Popen(
                [
                    *(postgres, '-D', data, '-p', str(port)),
                    *(f'--{name}={value}' for name, value in settings.items()),
                ],
                user=owner,
                cwd=folder,
                stderr=log,
            ) as process,
        ):
            try:
                eventually(lambda: process.poll() is not None or accepts(url))
                assert process.poll() is None, (folder / 'log').read_text()
                yield url
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(30)
    finally:
        shutil.rmtree(folder)


def new_database(server: sa.URL) -> sa.URL:
    """Make a fresh database of a server, and return its URL."""
    name = f'test_{secrets.token_hex(4)}'
    engine = sa.create_engine(server, isolation_level='AUTOCOMMIT')
    with engine.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE {name}'))
    engine.dispose()
    return server.set(database=name)
