"""A file system over a network of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

fsspec = pytest.importorskip('fsspec', reason='fsspec is not installed')

from storj.crypto import mnemonic  # noqa: E402
from storj.network import Network  # noqa: E402


@pytest.fixture(scope='session')
def options() -> Iterator[dict[str, Any]]:
    """Storage options of an account with a bucket ``b``."""
    with Network(6, durable=False, bridge={'mirrors': 0, 'audit_interval': 0}) as network:
        options = {
            'bridge': network.bridge_url,
            'email': network.email,
            'password': network.password,
            'mnemonic': mnemonic.generate(),
        }
        fsspec.filesystem('storj', **options).mkdir('b')
        yield options
        fsspec.filesystem('storj', **options).client.close()


@pytest.fixture(scope='session')
def new_fs(options):
    """Return a function that gives the account's file system."""
    return lambda: fsspec.filesystem('storj', **options)


@pytest.fixture
def storj_fs(new_fs):
    return new_fs()
