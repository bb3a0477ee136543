"""The fate of a transfer: first error wins, clean-ups before waiters, nothing hangs."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest

from storj.exception import (
    BridgeUnavailableError,
    NotFoundError,
    RateLimitedError,
    TransferCancelled,
    TransferError,
)
from storj.retry import RetryPolicy
from storj.transfer.coordinator import Coordinator, Gate, Meter, Progress, Stopped, SystemClock
from storj.transfer.engine import TransferFuture, wait_for
from storj.transfer.scope import RateLimit, SerialExecutor
from tests.unit.fake_network import FakeClock


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def test_first_error_wins_and_later_ones_are_noise() -> None:
    coordinator: Coordinator[int] = Coordinator()
    assert coordinator.fail(KeyError('first'))
    assert not coordinator.fail(KeyError('second'))
    assert not coordinator.cancel()
    coordinator.settle(done=False)
    with pytest.raises(KeyError, match='first'):
        coordinator.result()


def test_waiters_wake_after_tasks_and_clean_ups(pool: ThreadPoolExecutor) -> None:
    coordinator: Coordinator[int] = Coordinator()
    order: list[str] = []
    task_may_end = threading.Event()

    def task() -> None:
        task_may_end.wait(10)
        order.append('task')

    def work() -> int:
        coordinator.spawn(pool, task)
        coordinator.pause(60)
        return 1

    coordinator.clean_up(lambda: order.append('second clean-up'))
    coordinator.clean_up(lambda: order.append('first clean-up'))
    coordinator.begin_drive(pool, work)
    coordinator.cancel()
    assert not coordinator.wait(0.05) or order
    task_may_end.set()
    with pytest.raises(TransferCancelled):
        coordinator.result(10)
    assert order[-2:] == ['first clean-up', 'second clean-up']


def test_failing_clean_up_does_not_keep_the_others_from_running() -> None:
    coordinator: Coordinator[int] = Coordinator()
    ran: list[int] = []
    coordinator.clean_up(lambda: ran.append(1))
    coordinator.clean_up(lambda: 1 // 0)
    coordinator.drive(lambda: 7)
    assert coordinator.result() == 7
    assert ran == [1]


def test_failure_that_is_remembered_keeps_no_buffer() -> None:
    coordinator: Coordinator[int] = Coordinator()
    kept: list[weakref.ref[object]] = []

    def fail() -> None:
        buffer = {1, 2, 3}
        kept.append(weakref.ref(buffer))
        raise LookupError('farmer')

    try:
        fail()
    except LookupError as error:
        coordinator.note(error)
    assert [str(cause) for cause in coordinator.causes] == ['farmer']
    assert kept[0]() is None


def test_exit_in_clean_up_or_callback_leaves_no_waiter_asleep() -> None:
    coordinator: Coordinator[int] = Coordinator()
    ran: list[str] = []
    coordinator.clean_up(lambda: ran.append('clean-up'))
    coordinator.clean_up(lambda: sys.exit(3))
    coordinator.when_settled(lambda: sys.exit(4))
    coordinator.when_settled(lambda: ran.append('callback'))
    with pytest.raises(SystemExit):
        coordinator.drive(lambda: 7)
    assert coordinator.wait(0)
    assert coordinator.result() == 7
    assert ran == ['clean-up', 'callback']


def test_reader_that_is_forgotten_amid_its_own_task_is_let_go(pool: ThreadPoolExecutor) -> None:
    coordinator: Coordinator[int] = Coordinator()

    def read() -> Iterator[int]:
        with coordinator.driving():
            yield 1

    reader = read()
    next(reader)
    # As the collection of garbage does in whatever thread it begins.
    coordinator.spawn(pool, reader.close)
    assert coordinator.wait(10)
    assert isinstance(coordinator.error, TransferCancelled)


def test_error_of_a_task_ends_the_driver(pool: ThreadPoolExecutor) -> None:
    coordinator: Coordinator[int] = Coordinator()

    def broken() -> None:
        raise LookupError('task')

    def work() -> int:
        coordinator.spawn(pool, broken)
        coordinator.wait_until(lambda: False)
        return 1

    coordinator.drive(work)
    with pytest.raises(LookupError, match='task'):
        coordinator.result()


def test_request_that_hangs_does_not_keep_the_transfer_from_ending(
    pool: ThreadPoolExecutor,
) -> None:
    coordinator: Coordinator[int] = Coordinator()
    hanging, release = threading.Event(), threading.Event()
    after: list[str] = []

    def request() -> None:
        hanging.set()
        release.wait(10)

    def task() -> None:
        try:
            coordinator.outside(request)
        except Stopped:
            after.append('stopped')
            raise
        after.append('went on')

    def work() -> int:
        coordinator.spawn(pool, task)
        coordinator.wait_until(lambda: False)
        return 1

    coordinator.begin_drive(pool, work)
    assert hanging.wait(10)
    coordinator.cancel()
    with pytest.raises(TransferCancelled):
        coordinator.result(10)
    assert after == []
    release.set()
    pool.shutdown()
    assert after == ['stopped']


def test_cancelled_before_its_turn_never_begins() -> None:
    coordinator: Coordinator[int] = Coordinator()
    with ThreadPoolExecutor(1) as pool:
        busy = threading.Event()
        pool.submit(busy.wait, 10)
        ran: list[int] = []
        coordinator.begin_drive(pool, lambda: ran.append(1) or 1)
        coordinator.cancel()
        with pytest.raises(TransferCancelled):
            coordinator.result(1)
        busy.set()
    assert ran == []


def test_result_counts_although_cancelled_at_the_last_moment() -> None:
    coordinator: Coordinator[int] = Coordinator()

    seen: list[BaseException | None] = []

    def work() -> int:
        coordinator.cancel()
        return 7

    coordinator.clean_up(lambda: seen.append(coordinator.error))
    coordinator.drive(work)
    assert coordinator.result() == 7
    # Nor does a clean-up, or the last phase that is told, take it for a failure.
    assert seen == [None]
    assert coordinator.error is None
    assert not coordinator.cancel()


def test_request_that_nobody_waited_for_is_not_repeated_after_success(
    pool: ThreadPoolExecutor,
) -> None:
    coordinator: Coordinator[int] = Coordinator()
    asked, answered, over = threading.Event(), threading.Event(), threading.Event()
    calls: list[int] = []

    def request() -> None:
        calls.append(1)
        asked.set()
        answered.wait(10)
        raise BridgeUnavailableError('busy', 503)

    def task() -> None:
        try:
            coordinator.persist(RetryPolicy(delay=0), request, 'a check')
        finally:
            over.set()

    def work() -> int:
        coordinator.spawn(pool, task)
        asked.wait(10)
        return 1

    coordinator.drive(work)
    assert coordinator.result() == 1
    answered.set()
    assert over.wait(10)
    assert (coordinator.stopped(), calls) == (True, [1])


def test_deadline_ends_a_wait() -> None:
    clock = FakeClock()
    coordinator: Coordinator[int] = Coordinator(clock, deadline=10)
    coordinator.drive(lambda: coordinator.pause(60) or 1)
    with pytest.raises(TransferError, match='longer than the 10 s'):
        coordinator.result()
    assert clock.time == 1010


def test_timeout_of_result_leaves_the_transfer_alone() -> None:
    coordinator: Coordinator[int] = Coordinator(FakeClock())
    with pytest.raises(TimeoutError):
        coordinator.result(5)
    coordinator.drive(lambda: 3)
    assert coordinator.result(0) == 3


@pytest.mark.parametrize('interrupt', [KeyboardInterrupt, SystemExit, MemoryError])
def test_transfer_does_not_outlive_who_waits_for_it(
    pool: ThreadPoolExecutor, interrupt: type[BaseException]
) -> None:
    coordinator: Coordinator[None] = Coordinator()
    future = TransferFuture(coordinator, Meter(SystemClock()))
    coordinator.begin_drive(pool, lambda: coordinator.pause(60))
    with (
        mock.patch.object(coordinator, 'result', side_effect=interrupt),
        pytest.raises(interrupt),
    ):
        wait_for(future)
    assert future.done()
    with pytest.raises(TransferCancelled):
        future.result()


def test_endless_wait_is_as_long_as_it_takes(pool: ThreadPoolExecutor) -> None:
    coordinator: Coordinator[int] = Coordinator(deadline=float('inf'))
    begun = threading.Event()
    coordinator.begin_drive(pool, lambda: (coordinator.wait_until(begun.is_set) and 7) or 0)
    with coordinator.condition:
        begun.set()
        coordinator.condition.notify_all()
    assert coordinator.result(float('inf')) == 7


def test_callbacks_run_once_at_the_end_or_at_once_after_it() -> None:
    clock = FakeClock()
    coordinator: Coordinator[int] = Coordinator(clock)
    future = TransferFuture(coordinator, Meter(clock))
    called: list[bool] = []
    future.add_done_callback(lambda done: called.append(done.done()))
    future.add_done_callback(lambda done: 1 // 0)
    coordinator.drive(lambda: 1)
    future.add_done_callback(lambda done: called.append(done.done()))
    assert called == [True, True]


def test_gate_lets_only_so_many_pass(pool: ThreadPoolExecutor) -> None:
    coordinator: Coordinator[int] = Coordinator()
    gate, lock = Gate(2), threading.Lock()
    together, most = 0, 0
    both = threading.Barrier(2)

    def task() -> None:
        nonlocal together, most
        with coordinator.turn(gate):
            with lock:
                together += 1
                most = max(most, together)
            both.wait(10)
            with lock:
                together -= 1

    for future in [pool.submit(task) for _ in range(8)]:
        future.result(20)
    assert most == 2


def test_steps_of_a_task_that_nobody_waits_for_wake_no_thread(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator: Coordinator[int] = Coordinator()
    gate, woken = Gate(1), []

    def task() -> int:
        monkeypatch.setattr(coordinator.condition, 'notify_all', lambda: woken.append(1))
        assert coordinator.outside(int, '5') == 5
        with coordinator.turn(gate):
            pass
        monkeypatch.undo()
        return len(woken)

    assert coordinator.ask(pool, task) == 0


# -- retry -----------------------------------------------------------------------------------------


def attempts(
    errors: list[Exception], deadline: float | None = None, **policy: float
) -> tuple[int, list[float], object]:
    """Return how often a request was made, the waits, and its outcome."""
    clock, made = FakeClock(), 0
    coordinator: Coordinator[object] = Coordinator(clock, deadline)
    rest = iter(errors)

    def request() -> str:
        nonlocal made
        made += 1
        for error in rest:
            raise error
        return 'answer'

    def work() -> object:
        return coordinator.persist(RetryPolicy(**policy), request, 'a request')

    # Within a task, as always: the driver never makes a request itself.
    try:
        outcome: object = coordinator.ask(SerialExecutor(), work)
    except Exception as error:
        outcome = error
    return made, clock.waits, outcome


def test_retryable_errors_are_overcome() -> None:
    busy = BridgeUnavailableError('busy', 503)
    assert attempts([busy, busy], delay=1) == (3, [0.75, 1.5], 'answer')


def test_last_error_is_raised_when_patience_ends() -> None:
    errors: list[Exception] = [BridgeUnavailableError(str(number), 503) for number in range(9)]
    made, _, outcome = attempts(errors, attempts=4)
    assert (made, outcome) == (4, errors[3])


def test_wait_beyond_the_deadline_is_not_begun() -> None:
    busy = BridgeUnavailableError('busy', 503)
    assert attempts([busy], deadline=0.5, delay=1) == (1, [], busy)
    assert attempts([busy], deadline=2.0, delay=1) == (2, [0.75], 'answer')


def test_error_that_no_repetition_cures_is_raised_at_once() -> None:
    gone = NotFoundError('gone', 404)
    assert attempts([gone]) == (1, [], gone)


def test_retry_after_beyond_patience_is_not_waited_for() -> None:
    limited = RateLimitedError('slow down', 429, retry_after=3600)
    assert attempts([limited]) == (1, [], limited)


# -- limits and progress ---------------------------------------------------------------------------


def test_rate_limit_makes_bytes_take_their_time() -> None:
    clock = FakeClock()
    limit = RateLimit(1000, clock)
    coordinator: Coordinator[int] = Coordinator(clock)
    for _ in range(20):
        limit.take(500, coordinator)
    assert clock.time == pytest.approx(1010)
    clock.time += 100
    before = clock.time
    limit.take(250, coordinator)
    assert clock.time == before
    RateLimit(None, clock).take(10**12, coordinator)
    assert clock.time == before


def test_progress_is_absolute_and_rewinds() -> None:
    clock, states = FakeClock(), []
    meter = Meter(clock, states.append)
    meter.expect(100, 2)
    meter.begin('farmer')
    meter.add(60)
    assert meter.snapshot() == Progress('waiting', 60, 100, 0, 2, 0, ('farmer',))
    meter.add(-60)
    meter.retry()
    meter.end('farmer')
    assert meter.snapshot() == Progress('waiting', 0, 100, 0, 2, 1, ())
    meter.add(150)
    assert meter.snapshot().bytes == 100
    meter.conclude(TransferCancelled())
    assert states[-1].phase == 'cancelled'


def test_callback_is_not_called_for_every_byte() -> None:
    clock, states = FakeClock(), []
    meter = Meter(clock, states.append)
    for _ in range(1000):
        meter.add(1)
    assert len(states) == 1
    clock.time += 1
    meter.add(1)
    assert states[-1].bytes == 1001
