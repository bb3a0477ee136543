"""Farmers that go for good, with their disks, while files are stored: nothing may be lost."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import requests

pytest.importorskip('aiohttp')

from benchmarks.durability import PATIENCE, trial
from storj.http import Client
from storj.network import Network
from storj.network.farmers import FarmerHandle
from storj.network.settings import Protocols
from storj.transfer import TransferConfig, Transfers
from tests.network.bridges import eventually


@pytest.mark.parametrize('seed', [1])
def test_nothing_is_lost_with_two_farmers_and_two_more(tmp_path: Path, seed: int) -> None:
    # Before all copies are there, while they are made, and when they are back.
    outcome = trial(seed, 12, tmp_path)
    assert outcome.unreadable == []
    assert outcome.stored > 0
    assert outcome.repaired < PATIENCE


@pytest.mark.parametrize('protocol', ['0.10', '1.2'])
def test_rot_is_found_after_the_last_challenge_and_repaired(
    tmp_path: Path, protocol: Protocols
) -> None:
    bridge = {'audit_interval': 0.1, 'repair_interval': 0.2, 'mirrors': 1}
    with (
        Network(farmers=2, data=tmp_path, protocol=protocol, bridge=bridge) as network,
        Client(
            network.email, network.password, network.bridge_url, mnemonic=network.mnemonic
        ) as client,
        Transfers(client, TransferConfig(parity=False)) as transfers,
    ):
        content = bytes(range(256)) * 100
        bucket = str(client.bucket_create('rot').id)
        file = transfers.upload(bucket, content, name='a', resume=False).result()

        def totals() -> Any:
            return requests.get(f'{network.bridge_url}/status', timeout=30).json()['totals']

        def copies() -> list[Path]:
            return [
                shard for each in network.farmers for shard in (each.path / 'shards').glob('*/*')
            ]

        def audits(farmer: FarmerHandle) -> int:
            return int(farmer.status()['counters'].get('audits', 0))

        def is_whole() -> bool:
            # It is taken away, and comes back, at any moment.
            with contextlib.suppress(FileNotFoundError):
                return shard.read_bytes() == good
            return False

        eventually(lambda: len(copies()) == 2, 60)
        # The first four challenges of a copy are the client's, the others the bridge's own.
        eventually(lambda: max(map(audits, network.farmers)) > 4, 60)
        other, audited = sorted(network.farmers, key=audits)
        (shard,) = (audited.path / 'shards').glob('*/*')
        good = shard.read_bytes()
        shard.write_bytes(bytes(len(good)))
        eventually(is_whole, 60)
        eventually(lambda: totals()['under_replicated'] == 0, 60)
        other.kill()
        assert transfers.download(bucket, str(file.id)).result().read() == content
