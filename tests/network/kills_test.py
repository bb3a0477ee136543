"""A command that is killed and run again has done its work, and leaves nothing over."""

from __future__ import annotations

import pytest

from benchmarks.kills import KIB, run

pytestmark = pytest.mark.usefixtures('forked_python')


@pytest.mark.long
def test_same_command_again_makes_everything_equal_and_leaves_nothing() -> None:
    # All kinds of commands, sizes and moments: ``python -m benchmarks.kills``.
    report = run(kills=3, seed=9, sizes=[40 * KIB])
    assert report.troubles == []
    assert report.kills.total() == 3
