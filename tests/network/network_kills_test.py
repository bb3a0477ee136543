"""A network whose processes are killed has all that it reported stored, and nothing half."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.network_kills import run

pytestmark = pytest.mark.usefixtures('forked_python')


@pytest.mark.long
def test_killed_network_bridge_and_farmer_lose_nothing(tmp_path: Path) -> None:
    # Many kills at random moments: ``python -m benchmarks.network_kills``.
    report = run(kills=3, seed=0, folder=tmp_path, rest=0.5)
    assert report.troubles == []
    assert report.kills == {'network': 1, 'bridge': 1, 'farmer': 1}
    assert report.stored
