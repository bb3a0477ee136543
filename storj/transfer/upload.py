"""An upload, from the first byte read to the entry that the bridge confirmed.

::

    driver            hashing pool                shard pool
    ------            ------------                ----------
    open source
    frame, name? -->  hash shard 0  ------------> contract, push, confirm
    (parity) ------>  make parity, hash it -----> contract, push, confirm
    wait for all      hash shard 1  ------------> contract, push, confirm
    post the entry

A shard is needed twice, once to hash and once to push. As many of its pieces as the shelf in memory
has room for are kept in between; the others are read and encrypted again. Parity shards lie in a
spool. A failed farmer is excluded for the whole file. The entry is posted when every shard is
confirmed and never before, and the frame is destroyed if the upload fails, unless a journal keeps
it for the next attempt.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import mimetypes
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storj import sharding
from storj.api import BridgeProfile
from storj.crypto.cipher import CtrStream
from storj.digest import ShardDigest, new_challenges
from storj.erasure import ReedSolomon
from storj.exception import (
    AlreadyExistsError,
    BridgeUnavailableError,
    BridgeUnreachableError,
    ClientError,
    FarmerError,
    HashMismatchError,
    IntegrityError,
    NotEnoughFarmersError,
    NotFoundError,
    RateLimitedError,
    ResumeMismatchError,
    StorjBridgeApiError,
    StorjError,
    SuppliedTokenNotAcceptedError,
    TransferCancelled,
    TransferError,
)
from storj.model import ExchangeReport, File, Frame, Shard
from storj.sharding import Plan, Span
from storj.transfer.context import Context, Job, describe, overdue
from storj.transfer.coordinator import Coordinator, Gate
from storj.transfer.envelope import Envelope, seal
from storj.transfer.journal import Journal, destroy_unused_frame, open_journal
from storj.transfer.negotiate import Spread, check_pointer, finds_nobody, node_of
from storj.transfer.pointers import MOST_SHARDS
from storj.transfer.progress import Meter
from storj.transfer.source import PathSource, Source, SourceLike, name_of, once, open_source
from storj.transfer.spool import Spool

__all__ = ('Upload', 'UploadRequest')

_log = logging.getLogger(__name__)

# Bytes of all the stripes that are in memory while parity is made.
_STRIPES = 8 * 1024 * 1024

# Seconds that shards wait for the list of farmers; it only makes their spread better.
_LIST_PATIENCE = 3.0

# Seconds for which the hashing of a shard waits for room on the shelf: longer than fast farmers
# take to make it, and no more than slow ones take for a few MiB.
_ROOM_PATIENCE = 0.25

_NAME_TAKEN = 'there is a file of this name in the bucket already'


@dataclass(frozen=True)
class UploadRequest:
    """What is asked for; see :meth:`storj.transfer.Transfers.upload`."""

    bucket_id: str
    source: SourceLike
    name: str | None = None
    mimetype: str | None = None
    frame: Frame | str | None = None
    encrypt: bool = True
    encrypt_name: bool = True
    parity: bool | None = None
    resume: bool = True
    overwrite: bool = False


@dataclass
class _Record:
    """What is known of one shard."""

    span: Span
    hash: str
    challenges: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    farmer: str = ''
    # Encrypted pieces by their positions, in buffers of the shelf.
    kept: dict[int, bytearray] = field(default_factory=dict)


class _NoneFree(Exception):
    """The bridge finds no farmer besides those that have their share of the file."""


class Upload(Job):
    """One upload.

    Args:
        context (Context): of the engine.
        coordinator (Coordinator[File]): of the transfer.
        meter (Meter): of the transfer.
        request (UploadRequest): what is asked for.
    """

    def __init__(
        self,
        context: Context,
        coordinator: Coordinator[File],
        meter: Meter,
        request: UploadRequest,
    ) -> None:
        super().__init__(context, coordinator, meter)
        self._request = request
        self._records: dict[int, _Record] = {}
        self._confirmed: set[int] = set()
        self._frame_id: str | None = None
        self._frame_is_ours = False
        self._finished_before: File | None = None
        self._entry_sent = False
        self._listed = False
        self._ended = False
        self._done = False
        self._contracts = 0
        self._owed = False
        self._journal: Journal | None = None
        self._same_hash: defaultdict[str, Gate] = defaultdict(lambda: Gate(1))
        self._lock = threading.Lock()
        self._pushing = Gate(self.config.concurrency)

    # -- the driver --------------------------------------------------------------------------------

    def run(self) -> File:
        """Do it all; called by the driver.

        Returns:
            File: the entry.
        """
        self.meter.phase('preparing')
        name = self._name()
        self._profile = self._ask_profile()
        at_once = self.config.negotiations if self._profile.counts_frames_safely else 1
        self._negotiating = Gate(at_once)
        source = open_source(self._request.source)
        if source is not None:
            self.coordinator.clean_up(source.close)
        self._open_journal(source, name)
        self._envelope = self._seal(name)
        self._source: Source
        self._sealed_source = source is None
        self._source = (
            self.coordinator.ask(self.context.pools.sources, self._spooled)
            if source is None
            else source
        )
        self._plan = self._cut(self._source.size)
        self._resume()
        self._spread = Spread(self._profile)
        self.meter.expect(sum(span.size for span in self._plan), self._plan.shards)
        self._adopt_confirmed()
        self.coordinator.clean_up(self._drop_frame)
        checks = self._begin_checks()
        entry = self._finished_before
        if entry is None:
            self._start_shards()
            self.meter.phase('transferring')
            existing = checks()
            # An empty file has no shard, and a frame all the same.
            self.coordinator.wait_until(
                lambda: self._frame_id is not None and len(self._confirmed) == self._plan.shards
            )
            self.meter.phase('finishing')
            self._source.check_unchanged()
            entry = self._post(existing)
        self._done = True
        _log.info('uploaded %d bytes as file %s', self._plan.size, entry.id)
        return entry

    def _name(self) -> str:
        name = self._request.name
        name = name_of(self._request.source) if name is None else name
        if not name:
            raise ValueError('the source has no name of its own; give one')
        return name

    def _seal(self, name: str) -> Envelope:
        request = self._request
        index = None if self._journal is None else self._journal.state.get('index')
        # Without words the bridge is asked for the key of a public bucket: a request.
        return self.ask(
            lambda: seal(
                self.bridge,
                self._profile,
                request.bucket_id,
                name,
                encrypt=request.encrypt,
                encrypt_name=request.encrypt_name,
                index=index,
            ),
            'looking for the encryption key',
        )

    def _cut(self, size: int) -> Plan:
        plan = self._planned(size)
        if plan.shards > MOST_SHARDS:
            raise ValueError(
                f'{plan.shards} shards are more than the {MOST_SHARDS} of a file; choose a larger '
                'shard size'
            )
        return plan

    def _planned(self, size: int) -> Plan:
        wanted, known = self._request.parity, self._profile.has_erasure
        if wanted and not known:
            raise ClientError('this bridge knows no parity shards; upload without them')
        parity = known and (self.config.parity if wanted is None else wanted)
        try:
            return sharding.plan(size, parity=parity, shard_size=self.config.shard_size)
        except ValueError as error:
            if not parity or wanted:
                raise
            # Nobody asked for parity, and so many shards cannot be coded.
            _log.warning('uploading without parity: %s', error)
            return sharding.plan(size, parity=False, shard_size=self.config.shard_size)

    def _spooled(self) -> Spool:
        """Encrypt a source that can be read only once into a temporary file; a task.

        The source may keep a reader waiting for ever, so it is read as requests are made, but in a
        thread of its own: the transfer, and the engine, can end meanwhile.
        """
        spool = Spool(self.config.temp_dir)
        self.coordinator.clean_up(spool.close)
        key = self._envelope.key
        cipher = None if key is None else CtrStream(key)
        pieces = once(self._request.source, self.config.piece_size, self.coordinator.check)
        while (piece := self.coordinator.outside(next, pieces, None)) is not None:
            spool.write(spool.size, piece if cipher is None else cipher.process(piece))
        return spool

    def _begin_checks(self) -> Callable[[], str | None]:
        """Begin what need not be waited for before the shards are hashed.

        Returns:
            Callable: waits for the answers and returns the id of a file of the same name.
        """
        request, requests = self._request, self.context.pools.requests
        if self._frame_id is None:
            self.coordinator.spawn(requests, self.request, self._make_frame, 'making a frame')
        taken = self.begin(
            lambda: self.bridge.file_id(request.bucket_id, self._envelope.name, stored=True),
            'looking the name up',
        )
        if self._plan.shards > 1:
            # A lone shard is soon pushed, and the entry's answer tells a wrong bucket as well.
            self.coordinator.spawn(
                requests, self.request, self._check_bucket, 'looking for the bucket'
            )
            self.coordinator.spawn(requests, self._list_farmers)
        else:
            self._listed = True

        def join() -> str | None:
            existing = taken()
            if existing is not None and not request.overwrite:
                raise AlreadyExistsError(_NAME_TAKEN, 409)
            return existing

        return join

    def _ask_profile(self) -> BridgeProfile:
        try:
            return self.ask(self.bridge.profile, 'asking the bridge what it is')
        except (BridgeUnavailableError, RateLimitedError) as error:
            _log.debug('the bridge does not say what it is: %s', error)
            return BridgeProfile()

    def _check_bucket(self) -> None:
        if self.bridge.bucket_get(self._request.bucket_id) is None:
            raise NotFoundError('Bucket not found', 404)

    def _make_frame(self) -> None:
        """Make the frame; within the request, so that none is left behind by a cancelled one."""
        frame = self.bridge.frame_create()
        if not frame.id or not isinstance(frame.id, str):
            raise StorjBridgeApiError('the bridge made a frame without an id')
        with self.coordinator.condition:
            self._frame_id = frame.id
            self._frame_is_ours = True
            late = self._ended
            self.coordinator.condition.notify_all()
        if late:
            # Now: when the engine is closed, it waits for this thread and takes no errand any more.
            self.bridge.frame_delete(frame.id)

    def _list_farmers(self) -> None:
        try:
            contacts = self.coordinator.outside(self.bridge.contact_list)
        except StorjError as error:
            # Without the list the bridge's own choice stands.
            _log.debug('no list of farmers: %s', error)
            contacts = ()
        listed = (contact.nodeID for contact in contacts)
        self._spread.know(node for node in listed if node and isinstance(node, str))
        with self.coordinator.condition:
            self._listed = True
            self.coordinator.condition.notify_all()

    # -- resume ------------------------------------------------------------------------------------

    def _open_journal(self, source: Source | None, name: str) -> None:
        """Open the journal of this upload; only encrypted files that have a path get one."""
        request, path = self._request, _path_of(self._request.source)
        if path is None or not isinstance(source, PathSource):
            return
        if request.frame is not None or not request.encrypt:
            return
        journal = open_journal(
            self.config,
            {
                'kind': 'upload',
                'bridge': self.bridge.api_url,
                'account': self.bridge.email or '',
                'bucket': request.bucket_id,
                'file': name,
                'path': path,
            },
        )
        if journal is None:
            return
        self.coordinator.clean_up(journal.close)
        if not request.resume:
            abandoned = journal.state.get('frame')
            journal.remove()
            self._abandon(abandoned)
            return
        self._journal = journal
        fingerprint = source.fingerprint()
        if journal.state and journal.state.get('source') != fingerprint:
            raise ResumeMismatchError(
                f'{path} is not the file any more whose upload was broken off'
            )
        journal.state.setdefault('source', fingerprint)

    def _resume(self) -> None:
        """Take up what the last attempt left, if it fits and its frame is still there."""
        if self._request.frame is not None:
            frame = self._request.frame
            self._frame_id = frame.id if isinstance(frame, Frame) else frame
            if not self._frame_id:
                raise ValueError('the frame has no id')
            return
        if self._journal is None:
            return
        state, plan = self._journal.state, self._plan
        proof = _key_proof(self._envelope)
        form = {
            'cut': [plan.size, plan.shard_size, plan.data_shards, plan.parity_shards],
            'index': self._envelope.index,
            'name': self._envelope.name,
            'key': proof,
        }
        if 'frame' in state:
            if not hmac.compare_digest(str(state.get('key')), proof):
                raise ResumeMismatchError('the upload was begun with another encryption key')
            same = {key: state.get(key) for key in form} == form
            if same and self._take_up(state['frame'], len(state.get('shards', ()))):
                return
            self._abandon(state['frame'])
        state.update(form)
        state.pop('frame', None)
        state['shards'] = {}
        state['total'] = sum(span.size for span in plan)

    def _take_up(self, frame_id: str, shards: int) -> bool:
        """Go on with the frame of the last attempt, or with the entry that it was made."""
        try:
            frame = self.ask(lambda: self.bridge.frame_get(frame_id), 'the frame')
        except NotFoundError:
            return False
        if frame.locked is not False:
            # The last attempt may have been broken off after the entry was made.
            self._finished_before = self.coordinator.ask(
                self.context.pools.requests, lambda: self._look_up(frame_id)
            )
        if self._finished_before is None and (frame.locked or len(frame.shards) < shards):
            return False
        self._frame_id, self._frame_is_ours = frame_id, frame.locked is False
        return True

    def _abandon(self, frame_id: object) -> None:
        """Destroy the frame of an attempt that nobody continues, unless a file uses it."""
        if isinstance(frame_id, str):
            self.context.errands.run(
                'dropping a frame', lambda: destroy_unused_frame(self.bridge, frame_id)
            )

    def _adopt_confirmed(self) -> None:
        """Count the shards that the last attempt delivered."""
        if self._journal is None:
            return
        for key, (shard_hash, farmer) in self._journal.state.get('shards', {}).items():
            span = self._plan.span(int(key))
            self._records[span.index] = _Record(span, shard_hash, farmer=farmer)
            self._confirmed.add(span.index)
            self._spread.keep(farmer)
            self.meter.add(span.size)
        if self._confirmed:
            self.meter.confirm(len(self._confirmed))

    def _save(self) -> None:
        """Write the journal; called after each change that a next attempt wants to know."""
        journal = self._journal
        if journal is None:
            return
        with self._lock:
            # At once: other tasks confirm their shards meanwhile.
            done = [self._records[index] for index in sorted(self._confirmed)]
            journal.state['frame'] = self._frame_id
            journal.state['shards'] = {
                str(record.span.index): [record.hash, record.farmer] for record in done
            }
            journal.state['bytes'] = sum(record.span.size for record in done)
            journal.save()

    def _drop_frame(self) -> None:
        """Destroy the frame of a failed upload that cannot be resumed."""
        error = self.coordinator.error
        with self.coordinator.condition:
            self._ended = True
            frame_id = self._frame_id
        keep = self._journal_keeps(error)
        if self._journal is not None and not keep:
            self._journal.remove()
        # A frame that an entry may use must live: without it the file breaks (finding 9).
        if self._done or keep or self._entry_sent or not self._frame_is_ours or not frame_id:
            return
        # Bridges that read a frame, add a shard and save it break down when it is gone meanwhile
        # (observed with 2.2.4): they may still be at a contract that was given up.
        if not self._owed or self._profile.counts_frames_safely:
            self.context.errands.run('dropping a frame', lambda: self._destroy_idle(frame_id))

    def _destroy_idle(self, frame_id: str) -> None:
        """Destroy the frame once no request for a contract is under way."""
        with self.coordinator.condition:
            while self._contracts:
                self.context.clock.wait(self.coordinator.condition, None)
        self.bridge.frame_delete(frame_id)

    def _journal_keeps(self, error: BaseException | None) -> bool:
        """Return whether the same call may go on where this one stops."""
        if self._done:
            return False
        hopeless = (IntegrityError, AlreadyExistsError, NotFoundError, ValueError, TypeError)
        if self._journal is None or isinstance(error, hopeless):
            return False
        return bool(self._confirmed) and self._journal.written

    # -- shards: read, encrypt, hash ---------------------------------------------------------------

    def _start_shards(self) -> None:
        hashing = self.context.pools.hashing
        self.coordinator.clean_up(self._clear_shelf)
        missing = [span for span in self._plan if span.index not in self._confirmed]
        if any(span.parity for span in missing):
            self._parity = Spool(self.config.temp_dir)
            self.coordinator.clean_up(self._parity.close)
            self.coordinator.spawn(hashing, self._make_parity)
        for span in missing:
            if not span.parity:
                self.coordinator.spawn(hashing, self._hash, span)

    def _pieces(self, record: _Record, *, keep: bool) -> Generator[memoryview, None, None]:
        """Yield a shard as it is stored; each piece is valid until the next one is asked for.

        Args:
            record (_Record): of the shard; what is kept of it is yielded for the last time.
            keep (bool): whether pieces stay on the shelf, as many as there is room for.
        """
        span, shelf, size = record.span, self.context.shelf, self.config.piece_size
        source: Source | Spool = self._parity if span.parity else self._source
        key = None if span.parity or self._sealed_source else self._envelope.key
        cipher: CtrStream | None = None
        scratch = bytearray()
        for position in range(0, span.size, size):
            self.coordinator.check()
            buffer = record.kept.pop(position, None)
            if buffer is not None:
                try:
                    yield memoryview(buffer)[: span.size - position]
                finally:
                    shelf.give(buffer)
                cipher = None
                continue
            if keep and (buffer := shelf.take()) is not None:
                record.kept[position] = buffer
            else:
                buffer = scratch = scratch or bytearray(min(size, span.size))
            piece = memoryview(buffer)[: span.size - position]
            source.read_into(span.offset + position, piece)
            if key is not None:
                cipher = cipher or CtrStream(key, span.offset + position)
                cipher.process(piece, output=piece)
            yield piece

    def _hash(self, span: Span) -> None:
        """Hash one shard and send it on its way."""
        # Hashing ahead of farmers that are fast gains nothing, and costs a second encryption.
        shelf = self.context.shelf
        needed = min(span.size, shelf.size // 2)
        self.coordinator.wait_until(lambda: shelf.room >= needed, _ROOM_PATIENCE)
        challenges = new_challenges(self.config.challenges)
        digest = ShardDigest(challenges, self._profile.audit_generation)
        record = _Record(span, '', challenges)
        self._records[span.index] = record
        for piece in self._pieces(record, keep=True):
            digest.update(piece)
        record.hash, record.leaves = digest.hexdigest(), digest.leaves()
        self.coordinator.spawn(self.context.pools.shards, self._deliver, record)

    def _clear_shelf(self) -> None:
        """Give back what was kept of shards that are not pushed any more."""
        for record in self._records.values():
            while record.kept:
                self.context.shelf.give(record.kept.popitem()[1])

    def _make_parity(self) -> None:
        """Compute all parity shards into their spool, then hash them one by one."""
        plan = self._plan
        coder = ReedSolomon(plan.data_shards, plan.parity_shards)
        step = max(1024, min(self.config.piece_size, _STRIPES // plan.shards) // 1024 * 1024)
        step = min(step, plan.shard_size)
        data = [bytearray(step) for _ in range(plan.data_shards)]
        parity = [bytearray(step) for _ in range(plan.parity_shards)]
        for position in range(0, plan.shard_size, step):
            self.coordinator.check()
            length = min(step, plan.shard_size - position)
            for span, buffer in zip(plan, data, strict=False):
                self._read_stripe(span, position, memoryview(buffer)[:length])
            coder.encode(
                [memoryview(buffer)[:length] for buffer in data],
                [memoryview(buffer)[:length] for buffer in parity],
            )
            for number, buffer in enumerate(parity):
                offset = number * plan.shard_size + position
                self._parity.write(offset, memoryview(buffer)[:length])
        for span in plan:
            if span.parity and span.index not in self._confirmed:
                self.coordinator.spawn(self.context.pools.hashing, self._hash, span)

    def _read_stripe(self, span: Span, position: int, buffer: memoryview) -> None:
        """Read a piece of a data shard's ciphertext, with zeros behind the end of the last one."""
        there = max(0, min(len(buffer), span.size - position))
        piece = buffer[:there]
        if there:
            self._source.read_into(span.offset + position, piece)
            if self._envelope.key is not None and not self._sealed_source:
                CtrStream(self._envelope.key, span.offset + position).process(piece, output=piece)
        buffer[there:] = bytes(len(buffer) - there)

    # -- shards: contract, push --------------------------------------------------------------------

    def _deliver(self, record: _Record) -> None:
        """Bring one shard to a farmer, the second or third one if need be."""
        self.coordinator.wait_until(lambda: self._frame_id is not None)
        self.coordinator.wait_until(lambda: self._listed, _LIST_PATIENCE)
        with self._lock:
            alone = self._same_hash[record.hash]
        # Equal shards share their contracts at the bridge (a file of 2 MiB and its parity do).
        with self.coordinator.turn(alone):
            self._deliver_alone(record)
        with self.coordinator.condition:
            self._confirmed.add(record.span.index)
            self.coordinator.condition.notify_all()
        self._save()
        self.meter.confirm()

    def _deliver_alone(self, record: _Record) -> None:
        clock, allowed = self.context.clock, self.config.shard_deadline
        ends = float('inf') if allowed is None else clock.now() + allowed
        causes: list[BaseException] = []
        for _ in range(self.config.shard_attempts):
            pointer = self._negotiate(record, causes)
            error = self._attempt(record, pointer, ends)
            if error is None:
                return
            causes.append(error)
            self.coordinator.note(error)
            self.meter.retry()
            if clock.now() >= ends:
                break
        raise TransferError(
            f'shard {record.span.index} could not be stored: {len(causes)} farmers failed, '
            f'the last with {describe(causes[-1])}',
            causes,
        )

    def _negotiate(self, record: _Record, causes: list[BaseException]) -> Mapping[str, Any]:
        """Get a farmer for a shard; it is reserved in the spread."""
        span = record.span
        shard = Shard(
            hash=record.hash,
            size=span.size,
            index=span.index,
            challenges=record.challenges,
            tree=record.leaves,
            parity=span.parity,
        )
        # Each repetition excludes one farmer more, so it ends; the bound is for bridges that
        # overlook exclusions.
        for trial in range(self._plan.shards + 1):
            last = trial >= self._plan.shards
            try:
                with self.coordinator.turn(self._negotiating):
                    excludes, choosy = self._spread.exclusions()
                    pointer = self._contract(shard, excludes, choosy=choosy)
                    if self._spread.take(node_of(pointer), force=last):
                        return pointer
            except _NoneFree as error:
                self.coordinator.note(error)
                self._spread.give_up()
            except BridgeUnavailableError as error:
                raise self._no_farmer(record, [*causes, error]) from error
        raise self._no_farmer(record, causes)

    def _contract(self, shard: Shard, excludes: list[str], *, choosy: bool) -> Mapping[str, Any]:
        frame_id = self._frame_id or ''
        unclear = 0

        def ask() -> Mapping[str, Any]:
            nonlocal unclear
            with self.coordinator.condition:
                self._contracts += 1
            try:
                return self.bridge.frame_add_shard(shard, frame_id, excludes=excludes)
            except (BridgeUnavailableError, BridgeUnreachableError) as error:
                self._owed = self._owed or isinstance(error, BridgeUnreachableError)
                # An old bridge that finds nobody is silent for longer than it is waited for, so
                # the second failure that does not tell its reason counts as "nobody" as well.
                nobody = finds_nobody(error)
                unclear += not nobody
                if choosy and (nobody or unclear > 1):
                    raise _NoneFree(str(error)) from error
                raise
            finally:
                with self.coordinator.condition:
                    self._contracts -= 1
                    self.coordinator.condition.notify_all()

        return check_pointer(self.request(ask, f'the contract for shard {shard.index}'))

    def _no_farmer(self, record: _Record, causes: list[BaseException]) -> NotEnoughFarmersError:
        have, need = self._spread.used, self._plan.shards
        last = f' ({describe(causes[-1])})' if causes else ''
        return NotEnoughFarmersError(
            f'no farmer takes shard {record.span.index}{last}: {have} took a shard of this file, '
            f'{self._spread.failed} failed',
            have,
            need,
            causes,
        )

    def _attempt(
        self, record: _Record, pointer: Mapping[str, Any], ends: float
    ) -> FarmerError | None:
        """Push a shard to a farmer; return the farmer's failure, or None for success.

        Args:
            record (_Record): of the shard.
            pointer (Mapping): to the farmer.
            ends (float): moment until which the shard may take.
        """
        node, began = node_of(pointer), self.context.clock.wall()
        try:
            with self.coordinator.turn(self._pushing):
                self._push(record, pointer, node, ends)
        except HashMismatchError as error:
            self._spread.drop(node, failed=True)
            self._check_hash(record)
            failure: FarmerError = error
        except FarmerError as error:
            refused = isinstance(error, SuppliedTokenNotAcceptedError)
            self._spread.drop(node, failed=not refused or self._spread.refuses(node))
            failure = error
        else:
            record.farmer = node
            self.context.errands.report(record.hash, node, began, ExchangeReport.SHARD_UPLOADED)
            return None
        _log.warning('shard %d: farmer %s failed: %s', record.span.index, node, failure)
        self.context.errands.report(record.hash, node, began, ExchangeReport.TRANSFER_FAILED)
        return failure

    def _push(self, record: _Record, pointer: Mapping[str, Any], node: str, ends: float) -> None:
        clock = self.context.clock
        sent = 0
        shard = self._pieces(record, keep=False)

        def pieces() -> Iterator[memoryview]:
            nonlocal sent
            for piece in shard:
                self.context.upload_limit.take(len(piece), self.coordinator)
                yield piece
                sent += len(piece)
                self.meter.add(len(piece))

        self.meter.begin(node)
        try:
            self.context.channel_for(pointer).push(
                pointer,
                pieces(),
                record.span.size,
                limits=self.config.channel,
                cancelled=lambda: clock.now() >= ends or self.coordinator.stopped(),
            )
        except BaseException as error:
            self.meter.add(-sent)
            # A channel that was interrupted ends with an error of its own.
            self.coordinator.check()
            if isinstance(error, TransferCancelled):
                raise overdue(self.config) from None
            raise
        else:
            # A farmer that has the shard already takes none of it.
            self.meter.add(record.span.size - sent)
        finally:
            # Not left to the end of the traceback, which lives as long as the error.
            shard.close()
            self.meter.end(node)

    def _check_hash(self, record: _Record) -> None:
        """Find out whose fault a wrong hash is: raise IntegrityError if the source changed."""
        digest = ShardDigest()
        for piece in self._pieces(record, keep=False):
            digest.update(piece)
        if not hmac.compare_digest(digest.hexdigest(), record.hash):
            raise IntegrityError('the source changed while it was uploaded: a shard has a new hash')

    # -- the entry ---------------------------------------------------------------------------------

    def _post(self, existing: str | None) -> File:
        """Make the entry of the file, exactly once."""
        guessed = self._guess_mimetype()
        while True:
            try:
                return self._ask_entry(guessed)
            except AlreadyExistsError:
                if existing is None or not self._request.overwrite:
                    raise
                self._remove_old(existing)
                existing = None
            except StorjBridgeApiError as error:
                # Bridges know the types of one list, of which Python's is no part; some look at
                # the name first.
                if guessed is None or 'mimetype' not in error.message:
                    raise
                guessed = None

    def _ask_entry(self, mimetype: str | None) -> File:
        """Have the entry posted by a task."""
        return self.coordinator.ask(self.context.pools.requests, lambda: self._post_entry(mimetype))

    def _remove_old(self, file_id: str) -> None:
        bucket_id = self._request.bucket_id
        # Gone already? An attempt whose answer was lost did it, or somebody else.
        with contextlib.suppress(NotFoundError):
            self.ask(lambda: self.bridge.file_remove(bucket_id, file_id), 'the old file')

    def _post_entry(self, mimetype: str | None) -> File:
        policy, failures = self.config.bridge_retry, 0
        frame_id = self._frame_id or ''
        hashes = [self._records[index].hash for index in range(self._plan.shards)]
        while True:
            self._entry_sent = True
            try:
                return self.coordinator.outside(  # type: ignore[no-any-return]
                    self.context.once,
                    self.bridge.file_create,
                    self._request.bucket_id,
                    frame_id,
                    self._envelope.name,
                    mimetype=mimetype,
                    index=self._envelope.index,
                    hmac=self._envelope.hmac(hashes),
                    erasure=self._plan.parity_shards > 0,
                )
            except StorjError as error:
                # Lost on the way there or back? The bridge knows; a second POST of the same frame
                # would be refused although the file is there.
                entry = self._look_up(frame_id) if error.retryable or failures else None
                if entry is not None:
                    return entry
                failures += 1
                if not error.retryable or failures >= policy.attempts:
                    self._entry_sent = error.retryable or failures > 1
                    raise
                self.coordinator.note(error)
                self.coordinator.pause(
                    policy.wait(failures, self.context.clock.random(), error.retry_after)
                )

    def _look_up(self, frame_id: str) -> File | None:
        """Return the entry if it is there and made of our frame; called by a task."""
        bucket_id = self._request.bucket_id
        found = self.request(
            lambda: self.bridge.file_id(bucket_id, self._envelope.name, stored=True),
            'looking for the entry',
        )
        if found is None:
            return None
        entry = self.request(
            lambda: self.bridge.file_metadata(bucket_id, found), 'looking at the entry'
        )
        same = entry.frame is not None and entry.frame.id == frame_id
        return entry if same else None

    def _guess_mimetype(self) -> str | None:
        """Return the type for the entry; an encrypted name is not given away by its ending."""
        if self._request.mimetype is not None:
            return self._request.mimetype
        if isinstance(self._request.source, File) and self._request.source.mimetype:
            return self._request.source.mimetype
        if self._request.encrypt and self._request.encrypt_name:
            return None
        return mimetypes.guess_type(self._name())[0]


def _path_of(source: object) -> str | None:
    """Return the absolute path of a source that has one."""
    if isinstance(source, File):
        source = source.filename
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return str(Path(path).absolute()) if isinstance(path, str) else None
    return None


def _key_proof(envelope: Envelope) -> str:
    """Return what shows that a key is the same one, without showing the key."""
    key = envelope.key
    raw = b'' if key is None else key.key + key.counter
    return hmac.new(raw, b'storj transfer journal', hashlib.sha256).hexdigest()
