"""A network for tests, on request: ``pytest_plugins = ('storj.network.pytest_plugin',)``.

::

    def test_upload(storj_network):
        client = Client(storj_network.email, storj_network.password, storj_network.bridge_url)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storj.network.supervisor import Network


@pytest.fixture
def storj_network(tmp_path: Path) -> Iterator[Network]:
    """A fresh network of six farmers for one test, its data below ``tmp_path``."""
    with Network(farmers=6, data=tmp_path / 'network', durable=False) as network:
        yield network


@pytest.fixture(scope='session')
def storj_session_network() -> Iterator[Network]:
    """One network of six farmers for all tests of a session that can share it."""
    with Network(farmers=6, durable=False) as network:
        yield network
