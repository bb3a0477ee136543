"""Fixtures that the tests of transfers share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.fake_network import SHARD, Setting


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Setting]:
    """Make a scripted network with options."""
    return lambda **options: Setting(tmp_path, **options)


@pytest.fixture
def setting(make: Callable[..., Setting]) -> Setting:
    """Give a scripted network."""
    return make()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give a file of four shards."""
    path = tmp_path / 'source'
    path.write_bytes(os.urandom(4 * SHARD))
    return path
