"""The one policy of repetition: calls of a bridge and transfers both ask it."""

from __future__ import annotations

import pytest

from storj.exception import BridgeUnavailableError, RateLimitedError, StorjError
from storj.http import Retries
from storj.rest.transport import FailedExchange
from storj.retry import RetryPolicy

BUSY = BridgeUnavailableError('busy', 503)


def limited(seconds: float) -> StorjError:
    return RateLimitedError('slow down', 429, retry_after=seconds)


@pytest.mark.parametrize(
    ('error', 'failures', 'left', 'wait'),
    [
        (BUSY, 1, None, 0.75),
        (BUSY, 2, None, 1.5),
        (BUSY, 3, None, None),
        (BUSY, 1, 0.8, 0.75),
        (BUSY, 1, 0.75, None),
        (limited(7), 1, None, 7),
        (limited(0), 1, None, 0.75),
        (limited(301), 1, None, None),
        (limited(7), 1, 6, None),
        # As long as there is time, and no longer.
        (limited(7), 3, 8, 7),
        (limited(7), 3, None, None),
    ],
)
def test_next_wait_follows_attempts_time_and_retry_after(
    error: StorjError, failures: int, left: float | None, wait: float | None
) -> None:
    policy = RetryPolicy(attempts=3, delay=1)
    assert policy.next_wait(error, failures, 0.5, left) == wait


def test_retry_after_is_not_followed_where_no_repetition_is_wanted() -> None:
    assert RetryPolicy(attempts=1).next_wait(limited(1), 1, 0.5, 60) is None


def test_transfers_outlast_a_bridge_that_is_away_for_20_seconds() -> None:
    policy = RetryPolicy()
    waits = [policy.wait(failures, 0.0) for failures in range(1, policy.attempts)]
    assert sum(waits) > 20


def test_waits_double_up_to_the_longest() -> None:
    policy = RetryPolicy(delay=1, longest=10)
    assert [policy.wait(failures, 1.0) for failures in range(1, 7)] == [1, 2, 4, 8, 10, 10]
    assert policy.wait(3, 0.0) == 2
    assert policy.wait(1, 0.5, retry_after=42) == 42
    assert policy.wait(10**6, 1.0) == 10


@pytest.mark.parametrize(
    'options', [{'attempts': 0}, {'delay': -1}, {'delay': 5, 'longest': 1}, {'patience': -1}]
)
def test_policy_that_makes_no_sense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        RetryPolicy(**options)


@pytest.mark.parametrize(
    ('errors', 'calls'), [([], 1), ([BUSY], 2), ([BUSY] * 4, 4), ([limited(61)], 1)]
)
def test_calls_are_repeated_within_count_and_budget(errors: list[StorjError], calls: int) -> None:
    now, made = [0.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def attempt(number: int) -> str:
        made.append(number)
        if number < len(errors):
            raise FailedExchange(errors[number])
        return 'answer'

    retries = Retries(count=3, budget=60, sleep=sleep, clock=lambda: now[0])

    def run() -> str:
        return retries.run(attempt, lambda failed: True, lambda error, wait: None, sleep)

    if len(errors) >= calls:
        with pytest.raises(type(errors[0])):
            run()
    else:
        assert run() == 'answer'
    assert made == list(range(calls))
