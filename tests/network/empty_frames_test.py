"""Frames without shards, which a killed client may not know of: the bridge destroys them."""

from __future__ import annotations

from pathlib import Path

import pytest

from storj.network.bridge.state import BridgeSettings
from storj.network.bridge.upkeep.rounds import sweep
from tests.network.bridges import Account, RunningBridge
from tests.network.nodes import DAY

HOUR = 3600.0


def pass_by(bridge: RunningBridge, seconds: float) -> None:
    """Let time pass, with a sweep each minute."""
    for _ in range(int(seconds / 60)):
        bridge.clock.now += 60
        bridge.call(lambda: sweep(bridge.state))


def frames(bridge: RunningBridge, alice: Account) -> set[str]:
    return {frame['id'] for frame in bridge.request('GET', '/frames', by=alice).json}


def test_empty_frame_is_destroyed_after_an_hour(bridge: RunningBridge, alice: Account) -> None:
    made = []
    for _ in range(4):
        made.append(bridge.frame(alice))
        pass_by(bridge, 400)
    # The oldest one is 1,600 seconds old.
    pass_by(bridge, 1900)
    assert frames(bridge, alice) == set(made)
    pass_by(bridge, HOUR)
    assert frames(bridge, alice) == set()
    assert bridge.request('GET', f'/frames/{made[0]}', by=alice).status == 404


def test_frame_that_is_used_stays(bridge: RunningBridge, alice: Account) -> None:
    bridge.farmer()
    bucket = bridge.bucket(alice)
    under_way, empty = bridge.frame(alice), bridge.frame(alice)
    bridge.add_shard(alice, under_way)
    body = {'frame': empty, 'filename': 'empty'}
    assert bridge.request('POST', f'/buckets/{bucket}/files', body, by=alice).status == 200
    bridge.file(alice, bucket)
    known = frames(bridge, alice)
    pass_by(bridge, 3 * HOUR)
    assert frames(bridge, alice) == known
    assert len(known) == 3


def test_clock_that_is_set_destroys_no_frame(bridge: RunningBridge, alice: Account) -> None:
    bridge.frame(alice)
    bridge.clock.step(365 * DAY)
    pass_by(bridge, HOUR / 2)
    assert len(frames(bridge, alice)) == 1


@pytest.mark.parametrize(('life', 'left'), [(2 * HOUR, 0), (0, 1)], ids=['two hours', 'forever'])
def test_time_of_empty_frames_is_set(tmp_path: Path, life: float, left: int) -> None:
    with RunningBridge(tmp_path, empty_frame_life=life) as bridge:
        alice = bridge.account()
        bridge.frame(alice)
        pass_by(bridge, 1.9 * HOUR)
        assert len(frames(bridge, alice)) == 1
        pass_by(bridge, 1.2 * HOUR)
        assert len(frames(bridge, alice)) == left


def test_negative_time_of_empty_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='empty_frame_life'):
        BridgeSettings('sqlite://', tmp_path, empty_frame_life=-1)
