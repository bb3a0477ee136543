"""When a request is tried again, how long to wait first, and when to give up.

The one policy of calls to a bridge (:mod:`storj.rest`) and of transfers (:mod:`storj.transfer`).
It decides and never waits: the caller knows what may interrupt the wait. Whether a request may be
repeated depends on the ``retryable`` of the error and on the request.
"""

from __future__ import annotations

from dataclasses import dataclass

from storj.exception import StorjError


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off with jitter.

    Attributes:
        attempts (int): in all, the first included. The default outlasts a bridge that is away for
            half a minute.
        delay (float): seconds before the second attempt; doubled for each one after it.
        longest (float): seconds of the longest wait.
        patience (float): seconds of the longest ``Retry-After`` that is obeyed; a bridge that asks
            for more gets no further attempt.
    """

    attempts: int = 8
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

    def next_wait(
        self, error: StorjError, failures: int, chance: float, left: float | None = None
    ) -> float | None:
        """Return how many seconds to wait before another attempt, None if there is to be none.

        Args:
            error (StorjError): of the last attempt; it may be repeated.
            failures (int): attempts that failed so far, at least 1.
            chance (float): as of :meth:`wait`.
            left (float | None): seconds within which another attempt must begin; None for any.
        """
        asked = error.retry_after
        if asked is not None and asked > self.patience:
            return None
        # One who says when to come back is followed as long as there is time, if that is limited.
        followed = asked is not None and left is not None and self.attempts > 1
        if failures >= self.attempts and not followed:
            return None
        wait = self.wait(failures, chance, asked)
        return None if left is not None and wait >= left else wait
