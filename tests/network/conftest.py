"""Fixtures that all tests against a running network, or a bridge by itself, may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import URL

from storj.network.farmer.store.objects import ObjectStore
from tests.network.bridges import Account, RunningBridge
from tests.network.engine import bucket, client, engine, network
from tests.network.postgresql import MissingError, postgresql
from tests.network.weed import ENVIRONMENT, Weed, running

__all__ = ('alice', 'bridge', 'bucket', 'client', 'engine', 'network')


@pytest.fixture(scope='session')
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    """An object store with a bucket of the name ``farms``, which it is slow to make."""
    with running(tmp_path_factory.mktemp('weed')) as server, pytest.MonkeyPatch.context() as patch:
        for item in ENVIRONMENT.items():
            patch.setenv(*item)
        ObjectStore('s3://farms/first', server.endpoint).expect(0, 'first')
        patch.undo()
        yield server


@pytest.fixture(scope='module')
def postgresql_server() -> Iterator[URL]:
    """A server of PostgreSQL on the loopback interface, with nothing in it."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(postgresql())
        except MissingError as error:
            pytest.skip(str(error))
        yield server


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[RunningBridge]:
    with RunningBridge(tmp_path) as running:
        yield running


@pytest.fixture
def alice(bridge: RunningBridge) -> Account:
    return bridge.account()
