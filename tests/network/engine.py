"""Fixtures of the engine's tests: one network for a module, a client, quick limits."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storj.http import Client, Retries
from storj.network import Network
from storj.transfer import ChannelLimits, RetryPolicy, TransferConfig, Transfers

KIB = 1024
MIB = 1024 * 1024

#: Small shards and short waits: what takes minutes on a real network takes milliseconds here.
QUICK = {
    'shard_size': 256 * KIB,
    'piece_size': 16 * KIB,
    'bridge_retry': RetryPolicy(attempts=5, delay=0.01, longest=0.05),
    'channel': ChannelLimits(connect=3, first_byte=3, acknowledge=3, stall=1.5),
    'hedge_after': 0.3,
}

Engine = Callable[..., Transfers]


#: Nothing that the bridge does by itself: tests say what happens.
QUIET = {'mirrors': 0, 'audit_interval': 0}


@pytest.fixture(scope='module')
def network() -> Iterator[Network]:
    with Network(farmers=8, bridge=QUIET, durable=False) as running:
        yield running


def client_of(network: Network, **options: Any) -> Client:
    return Client(
        network.email,
        network.password,
        network.bridge_url,
        **{'mnemonic': network.mnemonic, 'retries': Retries(count=0), 'timeout': 5, **options},
    )


@pytest.fixture
def client(network: Network) -> Iterator[Client]:
    with client_of(network) as made:
        yield made


@pytest.fixture
def bucket(client: Client) -> str:
    return str(client.bucket_create(f'bucket {uuid.uuid4()}').id)


@pytest.fixture
def engine(client: Client, network: Network, tmp_path: Path) -> Iterator[Engine]:
    """Make engines with other limits than the quick ones; all are closed at the end."""
    made: list[Transfers] = []
    spool = tmp_path / 'spool'
    spool.mkdir()

    def make(bridge: Client = client, **limits: Any) -> Transfers:
        config = {'temp_dir': spool, 'state_dir': tmp_path / 'state', **QUICK, **limits}
        made.append(Transfers(bridge, TransferConfig(**config)))
        return made[-1]

    yield make
    network.faults.clear()
    for transfers in made:
        transfers.close()
    assert not list(spool.iterdir()), 'a temporary file was left behind'


def journals(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / 'state').rglob('*.json'))


def content(size: int) -> bytes:
    return os.urandom(size)
