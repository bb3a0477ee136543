"""What is done for a transfer without anybody waiting for it: exchange reports, dropped frames.

Best effort: a failure is logged at DEBUG, and beyond a bound of waiting errands new ones are
dropped, because a bridge that answers slowly must not fill the memory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor

from storj.exception import StorjError
from storj.model import ExchangeReport
from storj.transfer.bridge import BridgeReader
from storj.transfer.clock import Clock

__all__ = ('Errands',)

_log = logging.getLogger(__name__)

#: Errands that may wait; each is a small record.
_WAITING = 1000


class Errands:
    """Background requests of all transfers.

    Args:
        bridge (BridgeReader): who is told.
        executor (Executor): runs them, a few at a time.
        clock (Clock): time.
        reports (bool): whether exchange reports are sent.
    """

    def __init__(
        self, bridge: BridgeReader, executor: Executor, clock: Clock, *, reports: bool
    ) -> None:
        self._bridge = bridge
        self._executor = executor
        self._clock = clock
        self._reports = reports
        self._condition = threading.Condition()
        self._waiting = 0
        self._closed = False

    def run(self, what: str, errand: Callable[[], object]) -> None:
        """Have something done soon."""
        with self._condition:
            if self._closed or self._waiting >= _WAITING:
                _log.debug('dropped: %s', what)
                return
            self._waiting += 1
        try:
            self._executor.submit(self._run, what, errand)
        except StorjError as error:
            # The pools were closed under a transfer that is just ending, or there are no threads.
            _log.debug('%s: %s', what, error)
            self._done()

    def _run(self, what: str, errand: Callable[[], object]) -> None:
        try:
            if not self._closed:
                errand()
        except Exception as error:
            _log.debug('%s: %s', what, error)
        finally:
            self._done()

    def _done(self) -> None:
        with self._condition:
            self._waiting -= 1
            self._condition.notify_all()

    def report(self, shard_hash: str, farmer: str, began: float, message: str) -> None:
        """Tell the bridge how an exchange with a farmer ended (protocol reference, section 9).

        Args:
            shard_hash (str): 40 hex digits.
            farmer (str): node id.
            began (float): seconds since 1970.
            message (str): one of ExchangeReport's texts.
        """
        if not self._reports:
            return
        success = message in (ExchangeReport.SHARD_UPLOADED, ExchangeReport.SHARD_DOWNLOADED)
        who = self._bridge.email or 'anonymous'
        report = ExchangeReport(
            dataHash=shard_hash,
            reporterId=who,
            clientId=who,
            farmerId=farmer,
            exchangeStart=round(began * 1000),
            exchangeEnd=round(self._clock.wall() * 1000),
            exchangeResultCode=ExchangeReport.SUCCESS if success else ExchangeReport.FAILURE,
            exchangeResultMessage=message,
        )
        self.run(f'report {message}', lambda: self._send(report))

    def _send(self, report: ExchangeReport) -> None:
        if self._bridge.profile().has_reports:
            self._bridge.send_exchange_report(report)

    def flush(self, seconds: float) -> bool:
        """Wait until nothing is left to do, at most so many seconds; no errand begins after that.

        Returns:
            bool: whether everything was done.
        """
        until = self._clock.now() + seconds
        with self._condition:
            while self._waiting and self._clock.now() < until:
                self._clock.wait(self._condition, until - self._clock.now())
            self._closed = True
            return not self._waiting
