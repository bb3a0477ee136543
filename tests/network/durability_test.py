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
            farmers = [farmer.path / 'shards' for farmer in network.farmers]
            return [shard for farmer in farmers for shard in farmer.glob('*/*')]

        def is_whole() -> bool:
            # It is taken away, and comes back, at any moment.
            with contextlib.suppress(FileNotFoundError):
                return shard.read_bytes() == good
            return False

        eventually(lambda: len(copies()) == 2, 60)
        # Four challenges of the client for each of both copies; the others are the bridge's own.
        eventually(lambda: totals()['audits_passed'] >= 12, 60)
        shard = copies()[0]
        good = shard.read_bytes()
        shard.write_bytes(bytes(len(good)))
        eventually(is_whole, 60)
        eventually(lambda: totals()['under_replicated'] == 0, 60)
        network.farmers[1].kill()
        assert transfers.download(bucket, str(file.id)).result().read() == content
