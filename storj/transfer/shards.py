"""The shards of one upload: read, encrypted, hashed, and brought to farmers.

A shard is needed twice, once to hash and once to push. As many of its pieces as the buffer pool
holds are kept in between; the others are read and encrypted again. Parity shards lie in a spool.
"""

from __future__ import annotations

import hmac
import logging
import threading
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from storj.crypto.cipher import CtrStream
from storj.crypto.keys import ContentKey
from storj.digest import Generation, ShardDigest, new_challenges
from storj.erasure import ReedSolomon
from storj.exception import (
    FarmerError,
    HashMismatchError,
    SourceChangedError,
    SuppliedTokenNotAcceptedError,
    TransferCancelled,
    TransferError,
)
from storj.model import ExchangeReport, Shard
from storj.sharding import Plan, Span
from storj.transfer.coordinator import Gate
from storj.transfer.journal import UploadJournal
from storj.transfer.negotiate import Negotiator, node_of
from storj.transfer.scope import Scope, describe, overdue
from storj.transfer.source import Source
from storj.transfer.spool import Spool

__all__ = ('Delivery', 'ShardReader', 'ShardRecord')

_log = logging.getLogger(__name__)

# Bytes of all the stripes that are in memory while parity is made.
_STRIPES = 8 * 1024 * 1024

# Seconds for which the hashing of a shard waits for free buffers: longer than fast farmers take to
# free them, and no more than slow ones take for a few MiB.
_BUFFER_PATIENCE = 0.25

_CHANGED = 'the source changed while it was uploaded: a shard has a new hash'


@dataclass
class ShardRecord:
    """What is known of one shard.

    Attributes:
        span (Span): where it lies in the file.
        hash (str): 40 hex digits; '' until it is hashed.
        challenges (list[str]): of its audits.
        leaves (list[str]): of the tree that the bridge checks audits with.
        farmer (str): node id of the farmer that confirmed it; '' until one did.
        kept (dict[int, bytearray]): encrypted pieces by their positions, in buffers of the pool.
    """

    span: Span
    hash: str
    challenges: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    farmer: str = ''
    kept: dict[int, bytearray] = field(default_factory=dict)

    def shard(self) -> Shard:
        """Return what the bridge is told of it."""
        return Shard(
            hash=self.hash,
            size=self.span.size,
            index=self.span.index,
            challenges=self.challenges,
            tree=self.leaves,
            parity=self.span.parity,
        )


class ShardReader:
    """The content of an upload as farmers get it: encrypted, cut into shards, with parity.

    Args:
        scope (Scope): of the transfer.
        source (Source): the content.
        plan (Plan): of the shards.
        key (ContentKey | None): encrypts; None if the source is stored as it is.
        generation (Generation): of the audits that the bridge makes.

    Attributes:
        records (dict[int, ShardRecord]): of the shards that were hashed, or are being hashed.
    """

    def __init__(
        self,
        scope: Scope,
        source: Source,
        plan: Plan,
        key: ContentKey | None,
        generation: Generation,
    ) -> None:
        self._scope = scope
        self._source = source
        self._plan = plan
        self._key = key
        self._generation = generation
        self._parity: Spool | None = None
        self.records: dict[int, ShardRecord] = {}
        scope.coordinator.clean_up(self._release_buffers)

    @property
    def hashes(self) -> list[str]:
        """Hashes of all shards, in order; all of them are hashed by then."""
        return [self.records[index].hash for index in range(self._plan.shards)]

    def pieces(self, record: ShardRecord, *, keep: bool) -> Generator[memoryview, None, None]:
        """Yield a shard as it is stored; each piece is valid until the next one is asked for.

        Args:
            record (ShardRecord): of the shard; what is kept of it is yielded for the last time.
            keep (bool): whether pieces are kept in buffers, as many as are free.
        """
        span, buffers = record.span, self._scope.resources.buffers
        size = self._scope.config.piece_size
        spool = self._parity if span.parity else None
        source: Source | Spool = self._source if spool is None else spool
        key = None if span.parity else self._key
        cipher: CtrStream | None = None
        scratch = bytearray()
        for position in range(0, span.size, size):
            self._scope.coordinator.check()
            # Kept pieces serve once: their buffers go back to the pool for the next shards.
            buffer = record.kept.pop(position, None)
            if buffer is not None:
                try:
                    yield memoryview(buffer)[: span.size - position]
                finally:
                    buffers.give(buffer)
                # The key stream continues behind this piece, which it did not encrypt.
                cipher = None
                continue
            if keep and (buffer := buffers.take()) is not None:
                record.kept[position] = buffer
            else:
                buffer = scratch = scratch or bytearray(min(size, span.size))
            piece = memoryview(buffer)[: span.size - position]
            source.read_into(span.offset + position, piece)
            if key is not None:
                cipher = cipher or CtrStream(key, span.offset + position)
                cipher.process(piece, output=piece)
            yield piece

    def hash(self, span: Span, *, keep: bool) -> ShardRecord:
        """Hash one shard, and prepare its audits.

        Args:
            span (Span): of the shard.
            keep (bool): as of :meth:`pieces`.
        """
        challenges = new_challenges(self._scope.config.challenges)
        digest = ShardDigest(challenges, self._generation)
        record = ShardRecord(span, '', challenges)
        self.records[span.index] = record
        for piece in self.pieces(record, keep=keep):
            digest.update(piece)
        record.hash, record.leaves = digest.hexdigest(), digest.leaves()
        return record

    def check(self, record: ShardRecord) -> None:
        """Find out whose fault a wrong hash is: raise SourceChangedError if the source's."""
        digest = ShardDigest()
        for piece in self.pieces(record, keep=False):
            digest.update(piece)
        if not hmac.compare_digest(digest.hexdigest(), record.hash):
            raise SourceChangedError(_CHANGED)

    def check_source(self) -> None:
        """Raise SourceChangedError if the source is not what was read at the beginning."""
        if self._source.check_unchanged():
            return
        # Somebody gave it another mode or link, or changed it and put its time back.
        data = {i: record.hash for i, record in self.records.items() if not record.span.parity}
        if not self.hash_again(data):
            raise SourceChangedError(_CHANGED)

    def hash_again(self, hashes: Mapping[int, str]) -> bool:
        """Return whether the source still gives shards of these hashes; they get their records.

        Called by the driver.
        """
        coordinator, hashing = self._scope.coordinator, self._scope.pools.hashing
        spans = [self._plan.span(index) for index in hashes]
        wrong: set[int] = set()
        hashed: set[int] = set()

        def check(span: Span) -> None:
            record = None if wrong else self.hash(span, keep=False)
            with coordinator.condition:
                hashed.add(span.index)
                if record and not hmac.compare_digest(record.hash, hashes[span.index]):
                    wrong.add(span.index)
                coordinator.condition.notify_all()

        def check_parity() -> None:
            self.make_parity()
            for span in spans:
                if span.parity:
                    check(span)

        if any(span.parity for span in spans):
            coordinator.spawn(hashing, check_parity)
        for span in spans:
            if not span.parity:
                coordinator.spawn(hashing, check, span)
        coordinator.wait_until(lambda: len(hashed) == len(spans))
        return not wrong

    def _release_buffers(self) -> None:
        """Give back what was kept of shards that are not pushed any more."""
        for record in self.records.values():
            while record.kept:
                self._scope.resources.buffers.give(record.kept.popitem()[1])

    # -- parity ------------------------------------------------------------------------------------

    def make_parity(self) -> None:
        """Compute all parity shards into their spool, unless they are there already."""
        if self._parity is not None:
            return
        plan = self._plan
        spool = Spool(self._scope.config.temp_dir)
        self._scope.coordinator.clean_up(spool.close)
        coder = ReedSolomon(plan.data_shards, plan.parity_shards)
        # Of all shards together, so that memory does not grow with the file.
        step = min(self._scope.config.piece_size, _STRIPES // plan.shards)
        step = min(max(1024, step // 1024 * 1024), plan.shard_size)
        data = [bytearray(step) for _ in range(plan.data_shards)]
        parity = [bytearray(step) for _ in range(plan.parity_shards)]
        for position in range(0, plan.shard_size, step):
            self._scope.coordinator.check()
            length = min(step, plan.shard_size - position)
            for span, buffer in zip(plan, data, strict=False):
                self._read_stripe(span, position, memoryview(buffer)[:length])
            coder.encode(
                [memoryview(buffer)[:length] for buffer in data],
                [memoryview(buffer)[:length] for buffer in parity],
            )
            for number, buffer in enumerate(parity):
                offset = number * plan.shard_size + position
                spool.write(offset, memoryview(buffer)[:length])
        self._parity = spool

    def _read_stripe(self, span: Span, position: int, buffer: memoryview) -> None:
        """Read a piece of a data shard's ciphertext, with zeros behind the end of the last one."""
        there = max(0, min(len(buffer), span.size - position))
        piece = buffer[:there]
        if there:
            self._source.read_into(span.offset + position, piece)
            if self._key is not None:
                CtrStream(self._key, span.offset + position).process(piece, output=piece)
        buffer[there:] = bytes(len(buffer) - there)


class Delivery:
    """Brings the shards of one upload to farmers, each to a second or third one if need be.

    Args:
        scope (Scope): of the transfer.
        reader (ShardReader): has the shards.
        negotiator (Negotiator): finds farmers.
        journal (UploadJournal): is told of each shard.
    """

    def __init__(
        self, scope: Scope, reader: ShardReader, negotiator: Negotiator, journal: UploadJournal
    ) -> None:
        self._scope = scope
        self._reader = reader
        self._negotiator = negotiator
        self._journal = journal
        self._confirmed: set[int] = set()
        self._pushing = Gate(scope.config.concurrency)
        self._lock = threading.Lock()
        self._same_hash: defaultdict[str, Gate] = defaultdict(lambda: Gate(1))

    def adopt(self, farmers: Mapping[int, str]) -> None:
        """Count shards, by their numbers, that farmers have of the last attempt."""
        # They have records: the last attempt is taken up only after they were hashed again.
        for index, node in farmers.items():
            record = self._reader.records[index]
            record.farmer = node
            self._confirmed.add(index)
            self._negotiator.selection.keep(node)
            self._scope.meter.add(record.span.size)
        self._scope.meter.confirm(len(farmers))

    def start(self, plan: Plan) -> None:
        """Begin with all shards that are not delivered; those without a record are hashed first."""
        coordinator, pools = self._scope.coordinator, self._scope.pools
        hashed = dict(self._reader.records)
        missing = [span for span in plan if span.index not in hashed]
        for record in hashed.values():
            if record.span.index not in self._confirmed:
                coordinator.spawn(pools.shards, self._deliver, record)
        parity = [span for span in missing if span.parity]
        if parity:
            coordinator.spawn(pools.hashing, self._hash_parity, parity)
        for span in missing:
            if not span.parity:
                coordinator.spawn(pools.hashing, self._hash, span)

    def is_done(self, plan: Plan) -> bool:
        """Return whether every shard is confirmed; called with the condition held."""
        return len(self._confirmed) == plan.shards

    def _hash(self, span: Span) -> None:
        """Hash one shard and send it on its way; a task."""
        # Hashing ahead of farmers that are fast gains nothing, and costs a second encryption.
        buffers = self._scope.resources.buffers
        needed = min(span.size, buffers.size // 2)
        self._scope.coordinator.wait_until(lambda: buffers.free >= needed, _BUFFER_PATIENCE)
        record = self._reader.hash(span, keep=True)
        self._scope.coordinator.spawn(self._scope.pools.shards, self._deliver, record)

    def _hash_parity(self, spans: list[Span]) -> None:
        """Compute the parity shards, then hash them one by one; a task."""
        self._reader.make_parity()
        for span in spans:
            self._scope.coordinator.spawn(self._scope.pools.hashing, self._hash, span)

    def _deliver(self, record: ShardRecord) -> None:
        """Bring one shard to a farmer; a task."""
        coordinator, index = self._scope.coordinator, record.span.index
        self._negotiator.wait_for_frame()
        # Before its first byte goes out: its key stream is never used for other content.
        self._journal.note_offer(index, record.hash)
        self._negotiator.wait_for_list()
        with self._lock:
            alone = self._same_hash[record.hash]
        # Equal shards share their contracts at the bridge (a file of 2 MiB and its parity do).
        with coordinator.turn(alone):
            self._try_farmers(record)
        with coordinator.condition:
            self._confirmed.add(index)
            coordinator.condition.notify_all()
        self._journal.note_confirmed(index, record.hash, record.farmer)
        self._scope.meter.confirm()

    def _try_farmers(self, record: ShardRecord) -> None:
        clock, config = self._scope.clock, self._scope.config
        allowed = config.shard_deadline
        ends = float('inf') if allowed is None else clock.now() + allowed
        causes: list[BaseException] = []
        for _ in range(config.shard_attempts):
            pointer = self._negotiator.farmer_for(record.shard(), causes)
            error = self._attempt(record, pointer, ends)
            if error is None:
                return
            causes.append(error)
            self._scope.coordinator.note(error)
            self._scope.meter.retry()
            if clock.now() >= ends:
                break
        raise TransferError(
            f'shard {record.span.index} could not be stored: {len(causes)} farmers failed, '
            f'the last: {describe(causes[-1])}',
            causes,
        )

    def _attempt(
        self, record: ShardRecord, pointer: Mapping[str, Any], ends: float
    ) -> FarmerError | None:
        """Push a shard to a farmer; return the farmer's failure, or None for success.

        Args:
            record (ShardRecord): of the shard.
            pointer (Mapping): to the farmer.
            ends (float): moment until which the shard may take.
        """
        selection, report = self._negotiator.selection, self._scope.resources.background.report
        node, began = node_of(pointer), self._scope.clock.wall()
        try:
            with self._scope.coordinator.turn(self._pushing):
                self._push(record, pointer, node, ends)
        except HashMismatchError as error:
            selection.drop(node, failed=True)
            self._reader.check(record)
            failure: FarmerError = error
        except FarmerError as error:
            refused = isinstance(error, SuppliedTokenNotAcceptedError)
            selection.drop(node, failed=not refused or selection.refuses(node))
            failure = error
        else:
            record.farmer = node
            report(record.hash, node, began, ExchangeReport.SHARD_UPLOADED)
            return None
        _log.warning('shard %d: farmer %s failed: %s', record.span.index, node, failure)
        report(record.hash, node, began, ExchangeReport.TRANSFER_FAILED)
        return failure

    def _push(
        self, record: ShardRecord, pointer: Mapping[str, Any], node: str, ends: float
    ) -> None:
        scope, clock = self._scope, self._scope.clock
        sent = 0
        shard = self._reader.pieces(record, keep=False)

        def pieces() -> Iterator[memoryview]:
            nonlocal sent
            for piece in shard:
                scope.resources.upload_limit.take(len(piece), scope.coordinator)
                yield piece
                sent += len(piece)
                scope.meter.add(len(piece))

        scope.meter.begin(node)
        try:
            scope.resources.channel_for(pointer).push(
                pointer,
                pieces(),
                record.span.size,
                limits=scope.config.channel,
                cancelled=lambda: clock.now() >= ends or scope.coordinator.stopped(),
            )
        except BaseException as error:
            scope.meter.add(-sent)
            # A channel that was interrupted ends with an error of its own.
            scope.coordinator.check()
            if isinstance(error, TransferCancelled):
                raise overdue(scope.config) from None
            raise
        else:
            # A farmer that has the shard already takes none of it.
            scope.meter.add(record.span.size - sent)
        finally:
            # Not left to the end of the traceback, which lives as long as the error.
            shard.close()
            scope.meter.end(node)
