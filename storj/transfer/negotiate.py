"""Which farmers get the shards of one file, and how the shards get there.

No farmer gets two shards of a file while others are free, so that one lost farmer costs one shard.
The bridge picks the farmers; a client can only exclude some. So the engine reads the bridge's list
of contacts once per upload and excludes, besides the farmers that failed, those that have more
shards of the file than the least loaded of the list. Two requests at the same moment may still get
the same farmer; the second one asks again, which replaces the pointer in the frame.

Bridges before 7.6 hang for 90 s when they find no farmer (protocol reference, section 10.3), and a
list of contacts also names farmers that have gone. There at least half of the listed farmers stay
allowed; if a request with exclusions finds no farmer even so, the file's further requests exclude
only farmers that failed.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from storj.api import BridgeProfile
from storj.exception import (
    BridgeUnavailableError,
    BridgeUnreachableError,
    FarmerError,
    HashMismatchError,
    NotEnoughFarmersError,
    NotFoundError,
    StorjBridgeApiError,
    StorjError,
    SuppliedTokenNotAcceptedError,
    TransferCancelled,
    TransferError,
)
from storj.model import Contact, ExchangeReport, Shard
from storj.sharding import Plan, Span
from storj.text import count_of
from storj.transfer.channel import check_pointer, finds_nobody, node_of
from storj.transfer.config import Bridge
from storj.transfer.coordinator import Gate
from storj.transfer.journal import UploadJournal
from storj.transfer.scope import Scope, describe, overdue
from storj.transfer.source import ShardReader, ShardRecord

_log = logging.getLogger(__name__)

# Seconds that shards wait for the list of farmers; they are spread better with it.
_LIST_PATIENCE = 3.0


class FarmerSelection:
    """The farmers of one file; safe to use from all threads.

    Args:
        profile (BridgeProfile): of the bridge.
    """

    def __init__(self, profile: BridgeProfile) -> None:
        self._lock = threading.Lock()
        self._limit = profile.exclude_limit
        self._at_once = profile.answers_at_once
        self._known: set[str] = set()
        self._used: Counter[str] = Counter()
        self._failed: dict[str, None] = {}
        self._refused: set[str] = set()

    def know(self, nodes: Iterable[str]) -> None:
        """Take note of the farmers that the bridge lists."""
        with self._lock:
            self._known = set(nodes)

    def give_up(self) -> None:
        """Exclude from now on only farmers that failed: the bridge finds no other."""
        with self._lock:
            self._known = set()

    @property
    def used(self) -> int:
        """How many farmers have a shard of the file, or are about to get one."""
        with self._lock:
            return len(self._used)

    @property
    def failed(self) -> int:
        """How many farmers failed."""
        with self._lock:
            return len(self._failed)

    def exclusions(self) -> tuple[list[str], bool]:
        """Return the farmers to exclude now, and whether any of them did not fail."""
        with self._lock:
            # Bridges refuse longer lists; of too many failures the latest are named.
            failed = list(self._failed)[-self._limit :]
            loaded = self._loaded()[: self._limit - len(failed)]
            return failed + loaded, bool(loaded)

    def _loaded(self) -> list[str]:
        """Return the farmers that have their share while another has not."""
        free = self._known - self._failed.keys()
        if len(free) < 2:
            return []
        least = min(self._used[node] for node in free)
        loaded = [node for node, count in self._used.items() if count > least]
        left = len(free.difference(loaded))
        enough = left >= 1 if self._at_once else 2 * left >= len(self._known)
        return [node for node in loaded if node not in self._failed] if enough else []

    def take(self, node: str, *, force: bool) -> bool:
        """Reserve a farmer for a shard; False if it has its share while another is free.

        Args:
            node (str): whom the bridge picked.
            force (bool): take it whatever it has.
        """
        with self._lock:
            if not force and (node in self._failed or node in self._loaded()):
                return False
            self._used[node] += 1
            return True

    def keep(self, node: str) -> None:
        """Count a shard that the farmer already has, of an upload that continues."""
        with self._lock:
            self._used[node] += 1

    def has_failed(self, node: str) -> bool:
        """Return whether a farmer is not to be asked again."""
        with self._lock:
            return node in self._failed

    def drop(self, node: str, *, failed: bool) -> None:
        """Give a reservation back, and remember if the farmer is not to be asked again."""
        with self._lock:
            # Not by item, which would leave a zero that counts as a farmer in use.
            self._used -= Counter((node,))
            if failed:
                self._failed[node] = None

    def refuses(self, node: str) -> bool:
        """Note that a farmer refused its token; True if it did so before.

        Bridges with cached offers hand out a token twice (protocol reference, section 10.14), which
        is not the farmer's fault: it gets a second chance.
        """
        with self._lock:
            again = node in self._refused
            self._refused.add(node)
            return again


class UploadFrame:
    """The frame at the bridge that shards are added to, and that becomes the file.

    Args:
        scope (Scope): of the transfer.
        bridge (Bridge): client of the bridge.

    Attributes:
        id (str | None): None until there is one.
        owed (bool): whether the bridge left a request for a contract without an answer.
    """

    def __init__(self, scope: Scope, bridge: Bridge) -> None:
        self._scope = scope
        self._bridge = bridge
        self._lock = threading.Lock()
        self._ours = False
        self._closed = False
        self._contracts = 0
        self._has_shards = False
        self._note: Callable[[str], object] | None = None
        self._replacing = Gate(1)
        self.id: str | None = None
        self.owed = False

    def use(self, frame_id: str, *, ours: bool) -> None:
        """Use a frame that is there.

        Args:
            frame_id (str): of the caller, or of the last attempt.
            ours (bool): whether it is destroyed if the upload fails.
        """
        self.id, self._ours = frame_id, ours

    def make(self, note: Callable[[str], object]) -> None:
        """Make a new frame; within the request, so that a cancelled one leaves none behind.

        Who waits for it is woken by the end of the task that makes it.

        Args:
            note (Callable[[str], object]): called with its id before anybody uses it.
        """
        self._note = note
        frame = self._bridge.frame_create()
        if not frame.id or not isinstance(frame.id, str):
            raise StorjBridgeApiError('the bridge created a frame without an id')
        with self._lock:
            late = self._closed
            if not late:
                note(frame.id)
                self.id, self._ours = frame.id, True
        if late:
            # Now: an engine that is closed waits for this thread and takes no request any more.
            self._bridge.frame_delete(frame.id)

    def add_shard(self, shard: Shard, excludes: list[str]) -> Mapping[str, Any]:
        """Ask for a contract, once."""
        condition, frame_id = self._scope.coordinator.condition, self.id or ''
        with condition:
            self._contracts += 1
        try:
            try:
                pointer = self._bridge.frame_add_shard(shard, frame_id, excludes=excludes)
            except NotFoundError:
                if not self._replace(frame_id):
                    raise
                pointer = self._bridge.frame_add_shard(shard, self.id or '', excludes=excludes)
            self._has_shards = True
            return pointer
        except BridgeUnreachableError:
            self.owed = True
            raise
        finally:
            with condition:
                self._contracts -= 1
                if self._closed:  # and `destroy` may wait for this
                    condition.notify_all()

    def _replace(self, lost: str) -> bool:
        """Make a frame in place of one that the bridge has dropped because it was empty.

        Returns:
            bool: False if shards are lost with it, or it is not ours to replace.
        """
        with self._scope.coordinator.turn(self._replacing):
            if self.id == lost and self._note is not None and not self._has_shards:
                _log.info('the bridge has no empty frame %s any more; there is a new one', lost)
                self.make(self._note)
            return self.id != lost

    def close(self) -> str | None:
        """Take no frame any more; return the id of the one that is ours, None without one."""
        with self._lock:
            self._closed = True
        return self.id if self._ours else None

    def destroy(self, frame_id: str) -> None:
        """Destroy the frame once no request for a contract is under way."""
        with self._scope.coordinator.condition:
            while self._contracts:
                self._scope.clock.wait(self._scope.coordinator.condition, None)
        with contextlib.suppress(NotFoundError):
            self._bridge.frame_delete(frame_id)


class _NoneFree(Exception):
    """The bridge finds no farmer besides those that have their share of the file."""


class Negotiator:
    """Gets farmers for the shards of one upload; its methods are called by tasks.

    Args:
        scope (Scope): of the transfer.
        bridge (Bridge): client of the bridge.
        frame (UploadFrame): that the shards are added to.
        profile (BridgeProfile): of the bridge.
        shards (int): of the file.

    Attributes:
        selection (FarmerSelection): who has, or gets, a shard of the file.
    """

    def __init__(
        self,
        scope: Scope,
        bridge: Bridge,
        frame: UploadFrame,
        profile: BridgeProfile,
        shards: int,
    ) -> None:
        self._scope = scope
        self._bridge = bridge
        self._frame = frame
        self._profile = profile
        self._shards = shards
        self.selection = FarmerSelection(profile)
        # A lone shard has no use for the list of farmers.
        self._listed = shards <= 1
        self._turns = Gate(scope.config.negotiations if profile.counts_frames_safely else 1)
        # Which farmer had a shard when the last attempt was interrupted, and which the bridge then
        # has to pass over: all farmers or none.
        self._former: dict[int, str] = {}
        self._others: list[str] = []

    def list_farmers(self) -> None:
        """Learn which farmers there are; a task."""
        try:
            contacts = self._scope.coordinator.outside(self._bridge.contact_list)
        except StorjError as error:
            # Without the list the bridge's own choice stands.
            _log.debug('no list of farmers: %s', error)
            contacts = ()
        self.selection.know(_nodes(contacts))
        with self._scope.coordinator.condition:
            self._listed = True
            self._scope.coordinator.condition.notify_all()

    def wait_for_frame(self) -> None:
        """Wait until there is a frame."""
        self._scope.coordinator.wait_until(lambda: self._frame.id is not None)

    def wait_for_list(self) -> None:
        """Wait for the list of farmers, but not for long."""
        self._scope.coordinator.wait_until(lambda: self._listed, _LIST_PATIENCE)

    def prefer(self, former: Mapping[int, str]) -> bool:
        """Have shards offered first to the farmers that had them before; called by the driver.

        Args:
            former (Mapping[int, str]): node ids by the numbers of the shards.

        Returns:
            bool: whether the bridge can be made to choose them again. One that takes its time to
            find nobody is not asked, as they may have gone.
        """
        if self._profile.answers_at_once:
            self._others = self._scope.coordinator.ask(
                self._scope.pools.requests, self._all_farmers
            )
        if self._others:
            self._former = dict(former)
        return bool(self._others)

    def _all_farmers(self) -> list[str]:
        """Return all farmers of the bridge; none if they are too many to be passed over."""
        found: dict[str, None] = {}
        try:
            for page in range(1, self._profile.exclude_limit):
                contacts = self._scope.request(
                    lambda: self._bridge.contact_list(page),  # noqa: B023
                    'the list of farmers',
                )
                nodes = list(_nodes(contacts))
                if found.keys() >= set(nodes):
                    return list(found)
                found.update(dict.fromkeys(nodes))
                if len(found) > self._profile.exclude_limit:
                    break
        except StorjError as error:
            _log.debug('no list of farmers: %s', error)
        return []

    def farmer_for(self, shard: Shard, causes: list[BaseException]) -> Mapping[str, Any]:
        """Get a farmer for a shard; it is reserved in the selection.

        Args:
            shard (Shard): what is sent to the bridge.
            causes (list[BaseException]): why farmers failed before.

        Returns:
            Mapping[str, Any]: the pointer to the farmer.

        Raises:
            NotEnoughFarmersError: If there is none.
        """
        return self._former_farmer(shard) or self._any_farmer(shard, causes)

    def _former_farmer(self, shard: Shard) -> Mapping[str, Any] | None:
        """Get the farmer that had a shard at the end of the last attempt; None without it."""
        former = self._former.get(shard.index or 0)
        if former is None or self.selection.has_failed(former):
            return None
        others = [node for node in self._others if node != former]
        try:
            with self._scope.coordinator.turn(self._turns):
                pointer = self._contract(shard, others, choosy=True)
        except (_NoneFree, BridgeUnavailableError) as error:
            self._scope.coordinator.note(error)
            del self._former[shard.index or 0]
            return None
        node = node_of(pointer)
        return pointer if self.selection.take(node, force=node == former) else None

    def _any_farmer(self, shard: Shard, causes: list[BaseException]) -> Mapping[str, Any]:
        # Each repetition excludes one farmer more, so it ends; the bound is for bridges that
        # overlook exclusions.
        for trial in range(self._shards + 1):
            last = trial >= self._shards
            try:
                with self._scope.coordinator.turn(self._turns):
                    excludes, choosy = self.selection.exclusions()
                    pointer = self._contract(shard, excludes, choosy=choosy)
                    if self.selection.take(node_of(pointer), force=last):
                        return pointer
            except _NoneFree as error:
                self._scope.coordinator.note(error)
                self.selection.give_up()
            except BridgeUnavailableError as error:
                raise self._no_farmer(shard, [*causes, error]) from error
        raise self._no_farmer(shard, causes)

    def _contract(self, shard: Shard, excludes: list[str], *, choosy: bool) -> Mapping[str, Any]:
        unclear = 0

        def ask() -> Mapping[str, Any]:
            nonlocal unclear
            try:
                return self._frame.add_shard(shard, excludes)
            except (BridgeUnavailableError, BridgeUnreachableError) as error:
                # An old bridge that finds nobody is silent for longer than it is waited for, so
                # the second failure without a reason counts as "nobody" as well.
                nobody = finds_nobody(error)
                unclear += not nobody
                if choosy and (nobody or unclear > 1):
                    raise _NoneFree(str(error)) from error
                raise

        what = f'the contract for shard {shard.index}'
        return check_pointer(self._scope.request(ask, what))

    def _no_farmer(self, shard: Shard, causes: list[BaseException]) -> NotEnoughFarmersError:
        have = self.selection.used
        last = f' ({describe(causes[-1])})' if causes else ''
        return NotEnoughFarmersError(
            f'no farmer takes shard {shard.index}{last}: {have} took a shard of this file, '
            f'{self.selection.failed} failed',
            have,
            self._shards,
            causes,
        )


# Seconds for which the hashing of a shard waits for free buffers: longer than fast farmers take to
# free them, and no more than slow ones take for a few MiB.
_BUFFER_PATIENCE = 0.25


class Delivery:
    """Brings the shards of one upload to farmers, each to a second or third one if need be.

    Args:
        scope (Scope): of the transfer.
        reader (ShardReader): has the shards.
        negotiator (Negotiator): finds farmers.
        journal (UploadJournal): records each shard.
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
                coordinator.spawn(pools.shards, self.deliver, record)
        parity = [span for span in missing if span.parity]
        if parity:
            coordinator.spawn(pools.hashing, self._hash_parity, parity)
        for span in missing:
            if not span.parity:
                coordinator.spawn(pools.hashing, self._hash, span)

    def start_again(self, plan: Plan) -> None:
        """Bring all shards to farmers once more: some of those that took them do not answer.

        Those that do have their shards still, and get no bytes.
        """
        records = self._reader.records
        self._negotiator.prefer(
            {index: record.farmer for index, record in records.items() if record.farmer}
        )
        self._scope.meter.confirm(-len(self._confirmed))
        self._scope.meter.add(-sum(record.span.size for record in records.values()))
        self._confirmed.clear()
        self.start(plan)

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
        self._scope.coordinator.spawn(self._scope.pools.shards, self.deliver, record)

    def _hash_parity(self, spans: list[Span]) -> None:
        """Compute the parity shards, then hash them one by one; a task."""
        self._reader.make_parity()
        for span in spans:
            self._scope.coordinator.spawn(self._scope.pools.hashing, self._hash, span)

    def deliver(self, record: ShardRecord) -> None:
        """Bring one shard to a farmer; a task."""
        coordinator, index = self._scope.coordinator, record.span.index
        # Before its first byte goes out: its key stream is never used for other content.
        self._journal.note_offer(index, record.hash)
        self._negotiator.wait_for_frame()
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
            f'shard {record.span.index} could not be stored: '
            f'{count_of(len(causes), "farmer")} failed, the last: {describe(causes[-1])}',
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


def _nodes(contacts: Iterable[Contact]) -> Iterator[str]:
    return (c.nodeID for c in contacts if c.nodeID and isinstance(c.nodeID, str))
