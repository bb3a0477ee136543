"""Clocks that are set, and commits that wait for the disk together."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from storj.network.node.clock import CLOCK_SKEW, TOLERANCE, StepWatch, lasts
from storj.network.node.group_sync import GroupSync
from storj.system import atomic_file
from tests.network.nodes import Clock, run


@pytest.mark.parametrize('step', [10**9, -(10**9), TOLERANCE + 1, -TOLERANCE - 1])
def test_step_of_the_clock_is_seen_once(step: float) -> None:
    clock = Clock()
    watch = StepWatch(clock, clock.monotonic)
    clock.now += 10**7
    assert watch.stepped() == 0
    clock.step(step)
    clock.now += 60
    assert watch.stepped() == pytest.approx(step)
    assert watch.stepped() == 0


def test_drift_is_no_step() -> None:
    clock = Clock()
    watch = StepWatch(clock, clock.monotonic)
    for _ in range(100):
        clock.now += 60
        clock.step(1)
        assert watch.stepped() == 0


def test_calm_begins_anew_with_each_step() -> None:
    clock = Clock()
    watch = StepWatch(clock, clock.monotonic)
    clock.now += 100
    assert watch.calm() == 100
    for step in (10**9, -(10**9)):
        clock.step(step)
        assert watch.calm() == 0
        clock.now += 50
        assert watch.calm() == pytest.approx(50)


def test_time_lasts_to_its_end_also_with_a_clock_a_little_behind() -> None:
    begun = 10**9
    times = (begun - CLOCK_SKEW - 1, begun - CLOCK_SKEW, begun, begun + 9, begun + 10)
    assert [lasts(begun, 10, now) for now in times] == [False, True, True, True, False]


class Disk:
    """A disk whose flushes begin and end when a test says so."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database = folder / 'a.db'
        self.log = folder / 'a.db-wal'
        self.log.touch()
        self.begun: list[Path] = []
        self.go_on = threading.Semaphore(0)
        self.failure: OSError | None = None
        monkeypatch.setattr(atomic_file, 'sync_file', self.sync)

    def sync(self, path: Path) -> None:
        self.begun.append(path)
        assert self.go_on.acquire(timeout=20)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_all_who_wait_share_one_flush_that_began_after_them(disk: Disk) -> None:
    async def test() -> None:
        sync = GroupSync(disk.database)
        first = asyncio.ensure_future(sync.wait())
        while not disk.begun:
            await asyncio.sleep(0)
        # What was committed after the first flush began is not sure to be in it.
        others = [asyncio.ensure_future(sync.wait()) for _ in range(50)]
        await turns()
        disk.go_on.release()
        await first
        assert not any(other.done() for other in others)
        disk.go_on.release()
        await asyncio.gather(*others)
        assert disk.begun == [disk.log] * 2

    run(test)


def test_who_gives_up_does_not_end_the_flush_of_others(disk: Disk) -> None:
    async def test() -> None:
        sync = GroupSync(disk.database)
        waiting = [asyncio.ensure_future(sync.wait()) for _ in range(3)]
        while not disk.begun:
            await asyncio.sleep(0)
        waiting[0].cancel()
        await turns()
        disk.go_on.release()
        await asyncio.gather(*waiting[1:])
        assert len(disk.begun) == 1

    run(test)


def test_name_of_a_log_is_flushed_once_while_it_is_the_same(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []
    monkeypatch.setattr(atomic_file, 'sync_folder', folders.append)

    async def test() -> None:
        sync = GroupSync(disk.database)
        for others in (0, 0, 1):
            disk.go_on.release()
            await sync.wait()
            assert len(folders) == 1 + others
            if len(disk.begun) == 2:
                new = disk.log.with_name('new')
                new.touch()
                new.replace(disk.log)

    run(test)
    assert folders == [disk.log.parent] * 2


def test_failed_flush_is_final(disk: Disk) -> None:
    async def test() -> None:
        sync = GroupSync(disk.database)
        disk.failure = OSError(5, 'Input/output error')
        first, second = (asyncio.ensure_future(sync.wait()) for _ in range(2))
        disk.go_on.release()
        for waiting in (first, second):
            with pytest.raises(OSError, match='Input/output'):
                await waiting
        disk.failure = None
        with pytest.raises(OSError, match='Input/output'):
            await sync.wait()
        assert len(disk.begun) == 1

    run(test)
