"""Farmers that go for good, with their disks, while files are stored: nothing may be lost."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('aiohttp')

from benchmarks.durability import PATIENCE, trial


@pytest.mark.parametrize('seed', [1])
def test_nothing_is_lost_with_two_farmers_and_two_more(tmp_path: Path, seed: int) -> None:
    # Before all copies are there, while they are made, and when they are back.
    outcome = trial(seed, 12, tmp_path)
    assert outcome.unreadable == []
    assert outcome.stored > 0
    assert outcome.repaired < PATIENCE
