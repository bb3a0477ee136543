"""A network whose clocks are set by years, in both directions: nothing is dropped or unreadable."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.clocks import trial


@pytest.mark.long
def test_clocks_that_are_set_by_years_lose_nothing(tmp_path: Path) -> None:
    # All sides and directions, under load and at rest: ``python -m benchmarks.clocks``.
    outcome = trial(seed=9, steps=1, folder=tmp_path, uploads=4, days=10)
    assert outcome.stored
    assert (outcome.dropped, outcome.unreadable) == (set(), [])
