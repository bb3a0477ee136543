"""When to try again, how long to wait first, and when to give up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from storj.exception import StorjError

if TYPE_CHECKING:
    from storj.transfer.coordinator import Coordinator

__all__ = ('RetryPolicy', 'persist')

_log = logging.getLogger(__name__)

T = TypeVar('T')


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off with jitter.

    Attributes:
        attempts (int): in all, the first included.
        delay (float): seconds before the second attempt; doubled for each one after it.
        longest (float): seconds of the longest wait.
        patience (float): seconds of the longest ``Retry-After`` that is obeyed; a bridge that asks
            for more gets no further attempt.
    """

    attempts: int = 6
    delay: float = 0.5
    longest: float = 30.0
    patience: float = 300.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError('there is at least one attempt')
        if not 0 <= self.delay <= self.longest or self.patience < 0:
            raise ValueError('waits are not negative, and the first is not above the longest')

    def wait(self, failures: int, chance: float, retry_after: float | None = None) -> float:
        """Return how many seconds to wait.

        Args:
            failures (int): attempts that failed so far, at least 1.
            chance (float): a random number in [0, 1): half of the wait is left to it, so that
                clients that failed together do not come back together.
            retry_after (float | None): seconds that the other side asked for; the least then.
        """
        # The exponent is bounded because 2.0 ** 1024 is an error and the wait is capped anyway.
        full = min(self.longest, self.delay * 2.0 ** min(failures - 1, 64))
        wait = full * (0.5 + 0.5 * chance)
        return wait if retry_after is None else max(wait, retry_after)


def persist(
    coordinator: Coordinator[Any],
    policy: RetryPolicy,
    function: Callable[[], T],
    *,
    what: str,
    on_retry: Callable[[StorjError], object] | None = None,
) -> T:
    """Make a request from within a task until it is answered.

    Args:
        coordinator (Coordinator): of the transfer; its end interrupts the waits.
        policy (RetryPolicy): how often and how long.
        function (Callable[[], T]): the request; only an error whose ``retryable`` is true, is
            repeated.
        what (str): for the log.
        on_retry (Callable | None): called with each error that is followed by another attempt.

    Raises:
        StorjError: the last error.
        Stopped: if the transfer ends meanwhile.
    """
    failures = 0
    while True:
        try:
            value: T = coordinator.outside(function)
        except StorjError as error:
            failures += 1
            if not error.retryable or failures >= policy.attempts:
                raise
            if error.retry_after is not None and error.retry_after > policy.patience:
                raise
            wait = policy.wait(failures, coordinator.clock.random(), error.retry_after)
            left = coordinator.remaining()
            if left is not None and wait >= left:
                raise
            _log.warning('%s failed (%s), trying again in %.1f s', what, error, wait)
            coordinator.note(error)
            if on_retry is not None:
                on_retry(error)
            coordinator.pause(wait)
        else:
            return value
