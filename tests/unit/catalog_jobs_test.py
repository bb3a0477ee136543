"""Batches of jobs: how many are under way, what ends them, and what a job costs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from storj.catalog.copier import Copier, CopyOptions
from storj.catalog.entries import BucketEntry, FileEntry
from storj.catalog.errors import UsageProblem
from storj.catalog.jobs import SMALL, Backlog, Batch, Job, Outcome, Run, Skip, Unchanged
from storj.catalog.places import Local
from storj.catalog.removal import Removal, remove_remote
from storj.catalog.tree import RemoteFile
from storj.exception import TransferCancelled
from storj.transfer import TransferConfig, Transfers


class Moving(Future):  # type: ignore[type-arg]
    """A transfer that ends when the test says so."""

    progress = SimpleNamespace(phase='transferring')

    def cancel(self) -> bool:
        self.set_exception(TransferCancelled('cancelled'))
        return True


@pytest.fixture(params=[True, False], ids=['serial', 'threads'])
def engine(request: pytest.FixtureRequest) -> Any:
    config = TransferConfig(transfers=2)
    with Transfers(object(), config, serial=request.param) as made:  # type: ignore[type-var]
        yield made


def done(value: Any = None) -> Moving:
    moving = Moving()
    moving.set_result(value)
    return moving


def job(engine: Any, start: Any, **more: Any) -> Job:
    return Job('upload', 'here', 'there', 1, engine, start, **more)


def run(batch: Batch) -> list[Outcome]:
    ended = []
    while (outcomes := batch.wait(10)) is not None:
        ended += outcomes
    return ended


def test_outcomes_are_those_of_the_transfers(engine: Any) -> None:
    def fail() -> Any:
        raise OSError('no')

    ended = run(Batch([job(engine, lambda: done(7)), job(engine, fail)], 2))
    assert sorted(str(it.error) for it in ended) == ['None', 'no']
    assert [it.result for it in ended if it.error is None] == [7]


def test_few_jobs_are_under_way_at_a_time(engine: Any) -> None:
    begun: list[Moving] = []

    def start() -> Moving:
        begun.append(Moving())
        return begun[-1]

    taken = 0

    def jobs() -> Any:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield job(engine, start)

    batch = Batch(jobs(), 3)
    ended = 0
    for number in range(100):
        while len(begun) <= number:
            ended += len(batch.wait(1) or ())
        assert taken - ended <= 6
        begun[number].set_result(None)
    assert ended + len(run(batch)) == 100


def test_small_jobs_are_under_way_beside_few_large_ones(engine: Any) -> None:
    begun: list[tuple[int, Moving]] = []

    def starts(size: int) -> Any:
        def start() -> Moving:
            begun.append((size, Moving()))
            return begun[-1][1]

        return Job('upload', 'here', 'there', size, engine, start)

    batch = Batch([starts(size) for size in [SMALL + 1] * 3 + [SMALL] * 3], 4, large=2)
    ended: list[Outcome] = []
    while len(begun) < 2:
        ended += batch.wait(1) or ()
    # The third large one waits, and those behind it keep their order.
    assert [size for size, _ in begun] == [SMALL + 1] * 2
    begun[0][1].set_result(None)
    while len(begun) < 6:
        ended += batch.wait(1) or ()
    assert sorted(size for size, _ in begun[2:]) == [SMALL] * 3 + [SMALL + 1]
    for _, moving in begun[1:]:
        moving.set_result(None)
    assert len(ended) + len(run(batch)) == 6


def test_job_costs_the_same_however_many_there_are(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    advance = Run.advance

    def counted(self: Run) -> Any:
        nonlocal steps
        steps += 1
        return advance(self)

    monkeypatch.setattr(Run, 'advance', counted)
    assert len(run(Batch([job(engine, done) for _ in range(1000)], 4))) == 1000
    assert steps == 3000


def test_stop_cancels_what_is_under_way_and_begins_no_more(engine: Any) -> None:
    begun: list[Moving] = []

    def start() -> Moving:
        begun.append(Moving())
        return begun[-1]

    stopping = threading.Event()
    batch = Batch([job(engine, start) for _ in range(50)], 1, stopping=stopping)
    while not begun:
        batch.wait(1)
    batch.stop()
    assert stopping.is_set()
    assert len(begun) <= 2
    assert all(isinstance(it.exception(), TransferCancelled) for it in begun)
    assert batch.active() == []


def test_finish_of_a_transfer_runs_although_the_batch_stops(engine: Any) -> None:
    finished = []
    moving = Moving()
    follow = {'finish': finished.append}
    batch = Batch([job(engine, lambda: moving, **follow)], 1)
    while not batch.active():
        batch.wait(0.01)
    moving.set_result('whole')
    moving.cancel = lambda: False  # type: ignore[method-assign]
    batch.stop()
    assert finished == ['whole']


@pytest.mark.parametrize(('reason', 'removed'), [(Unchanged('same'), 1), (Skip('other'), 0)])
def test_source_of_a_move_goes_only_if_its_copy_exists(
    engine: Any, reason: Skip, removed: int
) -> None:
    gone = []

    def check() -> None:
        raise reason

    removal = Removal({'source': 'here'}, lambda: 1, lambda: gone.append(1))
    [outcome] = run(Batch([job(engine, done, check=check, removal=removal)], 1))
    assert outcome.error is reason
    assert len(gone) == removed


def test_job_ends_while_the_next_one_is_being_made(engine: Any) -> None:
    ended = threading.Event()

    def jobs() -> Iterator[Job]:
        yield job(engine, done, finish=lambda _: ended.set())
        assert ended.wait(30)
        yield job(engine, done)

    backlog = Backlog(jobs())
    batch = Batch(backlog, 4)
    backlog.begin(batch.wake)
    assert [it.error for it in run(batch)] == [None, None]
    assert (backlog.count, backlog.size, backlog.is_complete) == (2, 2, True)


def test_few_jobs_are_made_before_their_turn(engine: Any) -> None:
    made = 0

    def jobs() -> Iterator[Job]:
        nonlocal made
        for _ in range(1000):
            made += 1
            yield job(engine, done)

    backlog = Backlog(jobs(), most=10)
    batch = Batch(backlog, 2)
    backlog.begin(batch.wake)
    ended = 0
    while (outcomes := batch.wait(10)) is not None:
        ended += len(outcomes)
        # Those that wait, those under way, and the one that waits to be added.
        assert made <= ended + 10 + 4 + 1
    assert ended == backlog.count == made == 1000


def test_error_of_what_makes_jobs_comes_after_them(engine: Any) -> None:
    def jobs() -> Iterator[Job]:
        yield job(engine, done)
        raise KeyError('a fault')

    backlog = Backlog(jobs())
    batch = Batch(backlog, 2)
    backlog.begin(batch.wake)
    with pytest.raises(KeyError):
        run(batch)
    assert backlog.count == 1


def test_closed_backlog_makes_no_other_job(engine: Any) -> None:
    left = threading.Event()

    def jobs() -> Iterator[Job]:
        try:
            while True:
                yield job(engine, done)
        finally:
            left.set()

    backlog = Backlog(jobs(), most=3)
    arrived = threading.Event()
    backlog.begin(arrived.set)
    while next(backlog) is None:
        assert arrived.wait(30)
    backlog.close()
    assert left.wait(30)


def test_size_of_a_backlog_is_unknown_if_that_of_one_job_is(engine: Any) -> None:
    unknown = job(engine, done)
    unknown.size = None
    backlog = Backlog([job(engine, done), unknown, job(engine, done)])
    backlog.begin(lambda: None)
    assert (backlog.count, backlog.size, backlog.is_complete) == (3, None, True)


def test_second_file_of_a_destination_fails_as_it_is_listed(engine: Any, tmp_path: Path) -> None:
    bucket = BucketEntry('b' * 24, 'b', 'b')
    files = [
        RemoteFile(name, FileEntry(f'{number:024x}', bucket, name, name, 1))
        for number, name in enumerate('aba')
    ]
    copier = Copier(CopyOptions(several=True), engine, engine, None)  # type: ignore[arg-type]
    *others, last = copier.jobs(iter(files), Local(tmp_path, True))
    assert [Path(it.destination).name for it in others] == ['a', 'b']
    with pytest.raises(UsageProblem, match='several sources would be written to'):
        last.begin()
    with pytest.raises(UsageProblem, match='several sources would be written to'):
        copier.jobs(files, Local(tmp_path, True))


def test_removal_that_is_left_removes_no_other_files() -> None:
    bucket = BucketEntry('b' * 24, 'b', 'b')
    taken, removed = 0, []

    def entries() -> Iterator[FileEntry]:
        nonlocal taken
        for taken in range(1, 1001):
            yield FileEntry(f'{taken:024x}', bucket, str(taken), str(taken), 1)

    client = SimpleNamespace(file_remove=lambda bucket_id, file_id: removed.append(file_id))
    removals = remove_remote(client, entries())  # type: ignore[arg-type]
    assert [next(removals)[0].name for _ in range(3)] == ['1', '2', '3']
    removals.close()  # type: ignore[attr-defined]
    assert taken <= 3 + 64
    assert len(removed) <= taken
    assert [error for _, error in remove_remote(client, entries())] == [None] * 1000  # type: ignore[arg-type]
