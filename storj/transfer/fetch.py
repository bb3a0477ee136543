"""One shard, from whichever farmer brings it whole."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable

from storj.digest import ShardDigest
from storj.exception import (
    FarmerError,
    FarmerUnreachableError,
    IntegrityError,
    StorjError,
    SuppliedTokenNotAcceptedError,
    TransferCancelled,
)
from storj.model import ExchangeReport, FilePointer
from storj.transfer.context import Context, Job, overdue
from storj.transfer.negotiate import node_of
from storj.transfer.pointers import PointerBook, StoredShard
from storj.transfer.spool import Place

__all__ = ('Fetcher', 'ShardLost')

_log = logging.getLogger(__name__)


class ShardLost(Exception):
    """No farmer brings the shard; the last failure is its cause."""


class Fetcher(Job):
    """Pulls shards of one file.

    Args:
        context (Context): of the engine.
        book (PointerBook): loaded.
    """

    def __init__(self, context: Context, book: PointerBook) -> None:
        super().__init__(context, book.coordinator, book.meter)
        self._book = book

    def fetch(
        self,
        shard: StoredShard,
        place: Place,
        *,
        cancelled: Callable[[], bool],
        troubled: Callable[[], object] = lambda: None,
    ) -> None:
        """Pull a shard and check its hash; called by a task.

        Args:
            shard (StoredShard): which one.
            place (Place): where its bytes go; again from the beginning after a failure.
            cancelled (Callable[[], bool]): polled; a pull that nobody wants any more ends.
            troubled (Callable): called after the first failure.

        Raises:
            ShardLost: if no farmer brings it.
            Stopped: if the transfer ends meanwhile.
        """
        clock, allowed = self.context.clock, self.config.shard_deadline
        ends = float('inf') if allowed is None else clock.now() + allowed
        policy = self.config.bridge_retry
        excluded: list[str] = []
        distrusted: list[str] = []
        refused: set[str] = set()
        last: StorjError = FarmerUnreachableError(message='the bridge names no farmer')
        failures = absences = 0
        pointer = self._book.pointer(shard.index)
        while clock.now() < ends:
            if pointer is None:
                troubled()
                absences += 1
                # Only a farmer that could not be reached may come back with the right bytes.
                if absences >= policy.attempts or not last.retryable:
                    break
                wait = policy.wait(absences, clock.random())
                self._pause(min(wait, ends - clock.now()), cancelled)
                excluded = list(distrusted)
                pointer = self._book.replace(shard.index, excluded)
                continue
            node = node_of(pointer)
            try:
                self.pull(
                    shard,
                    pointer,
                    place,
                    cancelled=lambda: clock.now() >= ends or cancelled(),
                )
            except (FarmerError, IntegrityError, TransferCancelled) as error:
                last = error
            else:
                return
            if cancelled():
                break
            if isinstance(last, TransferCancelled):
                last = overdue(self.config)
            _log.warning('shard %d: farmer %s failed: %s', shard.index, node, last)
            self.coordinator.note(last)
            self.meter.retry()
            troubled()
            failures += 1
            if failures >= self.config.shard_attempts or clock.now() >= ends:
                break
            # A token may have been used before its time; the farmer gets another chance with a
            # new one, once.
            if not isinstance(last, SuppliedTokenNotAcceptedError) or node in refused:
                excluded.append(node)
                if not last.retryable:
                    distrusted.append(node)
            refused.add(node)
            pointer = self._book.replace(shard.index, excluded)
        raise ShardLost(shard.index) from last

    def _pause(self, seconds: float, cancelled: Callable[[], bool]) -> None:
        if self.coordinator.wait_until(cancelled, seconds):
            raise ShardLost

    def pull(
        self,
        shard: StoredShard,
        pointer: FilePointer,
        place: Place,
        *,
        cancelled: Callable[[], bool],
    ) -> None:
        """Pull a shard from one farmer, check it, and report the exchange.

        Raises:
            FarmerError: if the farmer fails.
            IntegrityError: if it brings other bytes, or another number of them.
        """
        node, began = node_of(pointer), self.context.clock.wall()
        digest = ShardDigest()
        counted = 0

        def sink(view: memoryview) -> None:
            nonlocal counted
            self.context.download_limit.take(len(view), self.coordinator)
            position = counted
            counted += len(view)
            self.meter.add(len(view))
            if counted > shard.size:
                raise IntegrityError(f'farmer {node} sends more than the shard has')
            digest.update(view)
            place(position, view)

        self.meter.begin(node)
        message = ExchangeReport.DOWNLOAD_ERROR
        try:
            self.context.channel_for(pointer).pull(
                pointer,
                shard.size,
                sink,
                limits=self.config.channel,
                cancelled=cancelled,
            )
            if counted != shard.size or not hmac.compare_digest(digest.hexdigest(), shard.hash):
                message = ExchangeReport.FAILED_INTEGRITY
                raise IntegrityError(f'farmer {node} sends other bytes than shard {shard.index}')
            message = ExchangeReport.SHARD_DOWNLOADED
        except BaseException:
            self.meter.add(-counted)
            # A channel that was interrupted ends with an error of its own.
            self.coordinator.check()
            raise
        finally:
            self.meter.end(node)
            if not cancelled() or message == ExchangeReport.SHARD_DOWNLOADED:
                self.context.errands.report(shard.hash, node, began, message)
