"""Fixtures that all tests against a running network, or a bridge by itself, may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network.bridges import Account, RunningBridge
from tests.network.engine import bucket, client, engine, network

__all__ = ('alice', 'bridge', 'bucket', 'client', 'engine', 'network')


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[RunningBridge]:
    with RunningBridge(tmp_path) as running:
        yield running


@pytest.fixture
def alice(bridge: RunningBridge) -> Account:
    return bridge.account()
