"""Settings that all tests share, and the commands in processes that start quickly."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings
from sqlalchemy import URL, Engine, create_engine

from storj.network.bridge import database, passwords
from tests.cli import forked

ROOT = Path(__file__).parents[1]

# A machine that does other work as well may take long over any one example. Examples are not kept,
# for the tree may be read-only; one that fails becomes a test.
settings.register_profile('storj', deadline=None, database=None)
settings.load_profile('storj')

# A suite that a script starts in the background, or with nohup, inherits that signals are ignored,
# and would hand it on to the programs that it tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, 'SIGHUP') and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# Whom the system trusts matters to no test, and each process that loads aiohttp reads it.
os.environ['SSL_CERT_FILE'] = os.devnull


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Have each worker begin with other folders and files, and put tests into order after that.

    The first run in a new checkout compiles them, which takes longer than anything else of the
    collection. Workers that all began with the same file would all compile every file.
    """
    report = yield
    if report.passed and isinstance(collector, pytest.Directory):
        number = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))
        workers = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
        first = len(report.result) * number // workers
        report.result = report.result[first:] + report.result[:first]
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (item.get_closest_marker('long') is None, item.path))
    for item in items:
        if item.get_closest_marker('long'):
            item.add_marker(pytest.mark.timeout(300))


def pytest_collection_finish() -> None:
    # What is loaded by now stays: no collection of garbage need look at it again.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session')
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with ``storj`` and ``storj-bucket``, which load their modules once for all runs.

    Each run is a process of its own, but not the one that is started, which hands signals on.
    """
    folder = tmp_path_factory.mktemp('commands')
    clean = {k: v for k, v in os.environ.items() if not k.startswith(('STORJ_', 'XDG_', 'LC_'))}
    environment = {**clean, 'PYTHONPATH': str(ROOT), 'LANG': 'C.UTF-8'}
    with forked.fork_server(folder, environment) as address:
        forked.write_command(folder / 'storj', address)
        forked.write_command(folder / 'storj-bucket', address, 'bucket_main')
        yield folder


@pytest.fixture(scope='module')
def forked_python(commands: Path) -> Iterator[None]:
    """Have what the tests of a module start with Python be forked, with its modules loaded."""
    with mock.patch.object(sys, 'executable', str(commands / 'python')):
        yield


class Statements(dict[Any, Any]):
    """What SQLAlchemy has compiled, for all engines of SQLite instead of each by itself.

    Its keys begin with the dialect of the engine: that of SQLite is made anew for each.
    """

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key[1:], default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(key[1:], compiled)


@pytest.fixture(scope='session', autouse=True)
def compiled_once() -> Iterator[None]:
    """Have the statements of bridges compiled once: hundreds of tests start one."""
    statements = Statements()

    def make(url: URL, **options: Any) -> Engine:
        if url.get_backend_name() == 'sqlite':
            options['execution_options'] = {'compiled_cache': statements}
        return create_engine(url, **options)

    with mock.patch.object(database, 'create_engine', make):
        yield


@pytest.fixture(scope='session', autouse=True)
def cost_of_passwords() -> Iterator[int]:
    """Hash passwords quickly in networks of this process; yield the cost that users get.

    A hash takes a third of a second on purpose, and hundreds of tests make accounts.
    """
    cost = passwords._COST
    with mock.patch.object(passwords, '_COST', forked.QUICK_COST):
        yield cost
