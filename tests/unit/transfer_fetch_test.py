"""One shard from whichever farmer brings it whole, without sockets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storj.exception import (
    FarmerUnreachableError,
    NotEnoughShardsError,
    SuppliedTokenNotAcceptedError,
)
from storj.model import File
from storj.transfer import Progress
from tests.unit.fake_network import BUCKET, SHARD, Setting


class Holders:
    """A shard that every farmer has, in the order in which the bridge names them."""

    def __init__(self, folder: Path, farmers: int = 6, **limits: Any) -> None:
        self.setting = setting = Setting(folder, **limits)
        self.data = os.urandom(SHARD)
        self.file: File = setting.upload(self.data)
        self.nodes = [*setting.bridge.farmers][:farmers]
        for node in self.nodes:
            setting.bridge.farmers[node].update(setting.bridge.farmers[self.nodes[0]])
        self.pulls: Counter[str] = Counter()
        #: What a farmer does when its shard is asked for; farmers not named here are honest.
        self.does: dict[str, Callable[[bytes], bytes]] = {}
        setting.channel.pulling = self._pulling

    def _pulling(self, node: str, kept: bytes) -> bytes:
        self.pulls[node] += 1
        return self.does[node](kept) if node in self.does else kept

    def download(self) -> bytes:
        return bytes(self.setting.download(self.file).read())


def lie(kept: bytes) -> bytes:
    return bytes(len(kept))


def refuse(kept: bytes) -> bytes:
    raise SuppliedTokenNotAcceptedError


def break_off(kept: bytes) -> bytes:
    raise FarmerUnreachableError(message='broke off')


def test_no_more_farmers_are_tried_than_allowed(tmp_path: Path) -> None:
    holders = Holders(tmp_path, shard_attempts=3)
    holders.does = dict.fromkeys(holders.nodes, lie)
    with pytest.raises(NotEnoughShardsError):
        holders.download()
    assert sum(holders.pulls.values()) == 3


def test_farmer_that_refuses_two_tokens_is_left(tmp_path: Path) -> None:
    holders = Holders(tmp_path)
    first, second = holders.nodes[:2]
    holders.does = {first: refuse}
    assert holders.download() == holders.data
    assert holders.pulls == {first: 2, second: 1}


def test_farmer_that_refuses_one_token_gets_another(tmp_path: Path) -> None:
    holders = Holders(tmp_path)
    first = holders.nodes[0]
    refusals = iter([refuse])
    holders.does = {first: lambda kept: next(refusals, bytes)(kept)}
    assert holders.download() == holders.data
    assert holders.pulls == {first: 2}


def test_who_broke_off_is_asked_again_and_who_lied_is_not(tmp_path: Path) -> None:
    holders = Holders(tmp_path, farmers=2)
    liar, weak = holders.nodes
    failures = iter([break_off])
    holders.does = {liar: lie, weak: lambda kept: next(failures, bytes)(kept)}
    assert holders.download() == holders.data
    assert holders.pulls == {liar: 1, weak: 2}


def test_when_only_liars_have_it_nobody_is_waited_for(tmp_path: Path) -> None:
    holders = Holders(tmp_path, farmers=2)
    holders.does = dict.fromkeys(holders.nodes, lie)
    holders.setting.clock.waits.clear()
    with pytest.raises(NotEnoughShardsError):
        holders.download()
    assert holders.pulls == dict.fromkeys(holders.nodes, 1)
    assert holders.setting.clock.waits == []


def test_progress_takes_back_what_a_failed_farmer_brought(tmp_path: Path) -> None:
    holders = Holders(tmp_path)
    holders.does = {holders.nodes[0]: lie}
    states: list[Progress] = []
    future = holders.setting.transfers.download(BUCKET, holders.file.id, progress=states.append)
    assert future.result().read() == holders.data
    assert next(state.bytes for state in states if state.retries == 1) == 0
    assert future.progress.bytes == SHARD
