"""An upload, from the first byte read to the entry that the bridge confirmed.

::

    driver            hashing pool                shard pool
    ------            ------------                ----------
    open source
    frame, name? -->  hash shard 0  ------------> contract, push, confirm
    (parity) ------>  make parity, hash it -----> contract, push, confirm
    wait for all      hash shard 1  ------------> contract, push, confirm
    post the entry

A shard is needed twice, once to hash and once to push. As many of its pieces as the buffer pool
holds are kept in between; the others are read and encrypted again. Parity shards lie in a
spool. A failed farmer is excluded for the whole file. The entry is posted when every shard is
confirmed and never before, and the frame is destroyed if the upload fails, unless a journal keeps
it for the next attempt (:mod:`storj.transfer.resume`).

An attempt that goes on where another broke off hashes every shard again that the other one offered,
and asks the farmers that confirmed one whether they have it still: the bridge is told to choose
them once more, and a farmer that has a shard takes none of it.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import mimetypes
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
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
    SourceChangedError,
    StorjBridgeApiError,
    StorjError,
    SuppliedTokenNotAcceptedError,
    TransferCancelled,
    TransferError,
)
from storj.model import ExchangeReport, File, Frame, Shard
from storj.sharding import Plan, Span
from storj.transfer.bridge import Bridge
from storj.transfer.coordinator import Gate
from storj.transfer.encryption import FileEncryption, encryption_for
from storj.transfer.journal import destroy_unused_frame
from storj.transfer.negotiate import (
    FarmerSelection,
    answers_at_once,
    check_pointer,
    finds_nobody,
    node_of,
)
from storj.transfer.pointers import MOST_SHARDS
from storj.transfer.resume import UploadJournal
from storj.transfer.scope import Scope, describe, overdue
from storj.transfer.source import Source, SourceLike, name_of, once, open_source
from storj.transfer.spool import Spool
from storj.transfer.verify import lost_shards

__all__ = ('Upload', 'UploadRequest')

_log = logging.getLogger(__name__)

# Bytes of all the stripes that are in memory while parity is made.
_STRIPES = 8 * 1024 * 1024

# Seconds that shards wait for the list of farmers; they are spread better with it.
_LIST_PATIENCE = 3.0

# Seconds for which the hashing of a shard waits for free buffers: longer than fast farmers take to
# free them, and no more than slow ones take for a few MiB.
_ROOM_PATIENCE = 0.25

_CHANGED = 'the source changed while it was uploaded: a shard has a new hash'
_KEY_REPEATED = (
    'the key of this file follows from its name, so the new content is encrypted with the key '
    'stream of the old one: who has kept both learns much of them. A new name has a new key'
)
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
    # Who had it when the last attempt broke off.
    former: str = ''
    # Encrypted pieces by their positions, in buffers of the pool.
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


class _NoneFree(Exception):
    """The bridge finds no farmer besides those that have their share of the file."""


class Upload:
    """One upload.

    Args:
        scope (Scope): of the transfer.
        bridge (Bridge): client of the bridge.
        request (UploadRequest): what is asked for.
    """

    def __init__(self, scope: Scope, bridge: Bridge, request: UploadRequest) -> None:
        self._scope = scope
        self._bridge = bridge
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
        self._journal: UploadJournal | None = None
        # Farmers that the bridge can be told to pass over, all of them or none.
        self._others: list[str] = []
        self._lost_shards = False
        self._parity: Spool | None = None
        # Shards of the last attempt whose farmers can be asked only by the finished file.
        self._unasked: set[int] = set()
        self._same_hash: defaultdict[str, Gate] = defaultdict(lambda: Gate(1))
        self._lock = threading.Lock()
        self._pushing = Gate(self._scope.config.concurrency)

    # -- the driver --------------------------------------------------------------------------------

    def run(self) -> File:
        """Do it all; called by the driver.

        Returns:
            File: the entry.
        """
        self._scope.meter.phase('preparing')
        name = self._name()
        self._profile = self._ask_profile()
        self._advise()
        at_once = self._scope.config.negotiations if self._profile.counts_frames_safely else 1
        self._negotiating = Gate(at_once)
        source = open_source(self._request.source)
        if source is not None:
            self._scope.coordinator.clean_up(source.close)
        self._scope.coordinator.clean_up(self._end)
        self._open_journal(source, name)
        self._encryption = self._encrypt_as(
            name, None if self._journal is None else self._journal.index
        )
        self._source: Source
        self._sealed_source = source is None
        self._source = (
            self._scope.coordinator.ask(self._scope.pools.sources, self._spooled)
            if source is None
            else source
        )
        self._plan = self._cut(self._source.size)
        self._selection = FarmerSelection(self._profile)
        self._scope.coordinator.clean_up(self._release_buffers)
        self._resume(name)
        self._scope.meter.expect(sum(span.size for span in self._plan), self._plan.shards)
        self._adopt()
        checks = self._begin_checks()
        entry = self._finished_before
        if entry is None:
            self._start_shards()
            self._scope.meter.phase('transferring')
            existing = checks()
            # An empty file has no shard, and a frame all the same.
            self._scope.coordinator.wait_until(
                lambda: self._frame_id is not None and len(self._confirmed) == self._plan.shards
            )
            self._scope.meter.phase('finishing')
            self._check_source()
            entry = self._post(existing)
            self._check_unasked(entry)
        self._done = True
        _log.info('uploaded %d bytes as file %s', self._plan.size, entry.id)
        return entry

    def _advise(self) -> None:
        """Tell who reads the log that readers of the bridge's time make other keys."""
        theirs = self._profile.javascript_key_scheme
        if (
            self._scope.config.key_scheme is None
            and not self._profile.has_index
            and theirs == 'text'
        ):
            _log.info("JavaScript clients of this bridge read files of key_scheme='text' only")

    def _name(self) -> str:
        name = self._request.name
        name = name_of(self._request.source) if name is None else name
        if name is None or name == '':
            raise ValueError('the source has no name of its own; give one')
        if not isinstance(name, str):
            raise TypeError(f'the name of a file is text, not {type(name).__name__}')
        return name

    def _encrypt_as(self, name: str, index: str | None) -> FileEncryption:
        request = self._request
        return encryption_for(
            self._bridge,
            self._profile,
            request.bucket_id,
            name,
            encrypt=request.encrypt,
            encrypt_name=request.encrypt_name,
            index=index,
            scheme=self._scope.config.key_scheme,
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
        # Readers that know no index know no parity either: they would take it for content.
        usual = self._scope.config.parity and self._scope.config.key_scheme is None
        parity = known and (usual if wanted is None else wanted)
        try:
            return sharding.plan(size, parity=parity, shard_size=self._scope.config.shard_size)
        except ValueError as error:
            if not parity or wanted:
                raise
            # Nobody asked for parity, and so many shards cannot be coded.
            _log.warning('uploading without parity: %s', error)
            return sharding.plan(size, parity=False, shard_size=self._scope.config.shard_size)

    def _spooled(self) -> Spool:
        """Encrypt a source that can be read only once into a temporary file; a task.

        The source may keep a reader waiting for ever, so it is read as requests are made, but in a
        thread of its own: the transfer, and the engine, can end meanwhile.
        """
        spool = Spool(self._scope.config.temp_dir)
        self._scope.coordinator.clean_up(spool.close)
        key = self._encryption.key
        cipher = None if key is None else CtrStream(key)
        pieces = once(
            self._request.source, self._scope.config.piece_size, self._scope.coordinator.check
        )
        while (piece := self._scope.coordinator.outside(next, pieces, None)) is not None:
            spool.write(spool.size, piece if cipher is None else cipher.process(piece))
        return spool

    def _begin_checks(self) -> Callable[[], str | None]:
        """Begin what need not be waited for before the shards are hashed.

        Returns:
            Callable: waits for the answers and returns the id of a file of the same name.
        """
        request, requests = self._request, self._scope.pools.requests
        if self._frame_id is None:
            self._scope.coordinator.spawn(
                requests, self._scope.request, self._make_frame, 'making a frame'
            )
        taken = self._scope.begin(
            lambda: self._bridge.file_id(request.bucket_id, self._encryption.name, stored=True),
            'looking the name up',
        )
        if self._plan.shards > 1:
            # A lone shard is soon pushed, and the entry's answer tells a wrong bucket as well.
            self._scope.coordinator.spawn(
                requests, self._scope.request, self._check_bucket, 'looking for the bucket'
            )
            self._scope.coordinator.spawn(requests, self._list_farmers)
        else:
            self._listed = True

        def join() -> str | None:
            existing = taken()
            if existing is not None and not request.overwrite:
                raise AlreadyExistsError(_NAME_TAKEN, 409)
            if existing is not None and self._encryption.is_repeated:
                _log.warning(_KEY_REPEATED)
            return existing

        return join

    def _ask_profile(self) -> BridgeProfile:
        try:
            return self._scope.ask(self._bridge.profile, 'asking the bridge what it is')
        except (BridgeUnavailableError, RateLimitedError) as error:
            _log.debug('the bridge does not say what it is: %s', error)
            return BridgeProfile()

    def _check_bucket(self) -> None:
        if self._bridge.bucket_get(self._request.bucket_id) is None:
            raise NotFoundError('Bucket not found', 404)

    def _make_frame(self) -> None:
        """Make the frame; within the request, so that none is left behind by a cancelled one."""
        frame = self._bridge.frame_create()
        if not frame.id or not isinstance(frame.id, str):
            raise StorjBridgeApiError('the bridge made a frame without an id')
        with self._lock:
            late = self._ended
            if not late:
                if self._journal is not None:
                    self._journal.note_frame(frame.id)
                self._frame_id, self._frame_is_ours = frame.id, True
        if late:
            # Now: an engine that is closed waits for this thread and takes no request any more.
            self._bridge.frame_delete(frame.id)
        with self._scope.coordinator.condition:
            self._scope.coordinator.condition.notify_all()

    def _list_farmers(self) -> None:
        try:
            contacts = self._scope.coordinator.outside(self._bridge.contact_list)
        except StorjError as error:
            # Without the list the bridge's own choice stands.
            _log.debug('no list of farmers: %s', error)
            contacts = ()
        listed = (contact.nodeID for contact in contacts)
        self._selection.know(node for node in listed if node and isinstance(node, str))
        with self._scope.coordinator.condition:
            self._listed = True
            self._scope.coordinator.condition.notify_all()

    # -- resume ------------------------------------------------------------------------------------

    def _open_journal(self, source: Source | None, name: str) -> None:
        """Open the journal of this upload, unless the frame is the caller's."""
        request = self._request
        if request.frame is None:
            self._journal = UploadJournal(
                self._scope.config,
                self._bridge,
                request.bucket_id,
                name,
                request.source,
                source,
                # Without a key nothing shows that the last attempt was made with the same one.
                resume=request.resume and request.encrypt,
            )

    def _resume(self, name: str) -> None:
        """Take up what the last attempt left, if it fits and its frame is still there."""
        journal, frame = self._journal, self._request.frame
        if journal is None:
            self._frame_id = frame.id if isinstance(frame, Frame) else frame
            if not self._frame_id:
                raise ValueError('the frame has no id')
            return
        if journal.frame_id is not None:
            if journal.has_other_key(self._encryption):
                raise ResumeMismatchError('the upload was begun with another encryption key')
            if journal.fits(self._encryption, self._plan) and self._take_up(journal):
                journal.go_on(self._plan)
                return
            self._abandon(journal.frame_id)
            if journal.index is not None:
                self._encryption = self._encrypt_as(name, None)
            elif journal.shards and self._encryption.is_repeated:
                _log.warning(_KEY_REPEATED)
        journal.begin(self._encryption, self._plan)

    def _take_up(self, journal: UploadJournal) -> bool:
        """Go on with the frame of the last attempt, or with the entry that it was made."""
        frame_id = journal.frame_id or ''
        confirmed = [noted for noted in journal.shards.values() if noted.farmer]
        try:
            frame = self._scope.ask(lambda: self._bridge.frame_get(frame_id), 'the frame')
        except NotFoundError:
            return False
        entry: File | None = None
        if frame.locked is not False:
            # The last attempt may have been broken off after the entry was made.
            entry = self._scope.coordinator.ask(
                self._scope.pools.requests, lambda: self._look_up(frame_id)
            )
        if entry is None and (frame.locked or len(frame.shards) < len(confirmed)):
            return False
        if not self._hash_again({index: noted.hash for index, noted in journal.shards.items()}):
            _log.warning('the source changed since its upload broke off; all of it is uploaded')
            return False
        self._finished_before = entry
        self._frame_id, self._frame_is_ours = frame_id, frame.locked is False
        return True

    def _hash_again(self, hashes: Mapping[int, str]) -> bool:
        """Return whether the source still gives shards of these hashes; they get their records."""
        spans = [self._plan.span(index) for index in hashes]
        wrong: set[int] = set()
        hashed: set[int] = set()

        def check(span: Span) -> None:
            record = None if wrong else self._hashed(span, keep=False)
            with self._scope.coordinator.condition:
                hashed.add(span.index)
                if record and not hmac.compare_digest(record.hash, hashes[span.index]):
                    wrong.add(span.index)
                self._scope.coordinator.condition.notify_all()

        def check_parity() -> None:
            self._make_parity()
            for span in spans:
                if span.parity:
                    check(span)

        if any(span.parity for span in spans):
            self._scope.coordinator.spawn(self._scope.pools.hashing, check_parity)
        for span in spans:
            if not span.parity:
                self._scope.coordinator.spawn(self._scope.pools.hashing, check, span)
        self._scope.coordinator.wait_until(lambda: len(hashed) == len(spans))
        if wrong:
            self._records.clear()
            self._parity = None
        return not wrong

    def _abandon(self, frame_id: str) -> None:
        """Destroy the frame of an attempt that nobody continues, unless a file uses it.

        At once: until it is destroyed, the journal of the last attempt is what knows of it.
        """
        try:
            self._scope.ask(
                lambda: destroy_unused_frame(self._bridge, frame_id), 'the former frame'
            )
        except NotFoundError:
            return
        except StorjError as error:
            _log.warning('the frame %s of the last attempt stays: %s', frame_id, describe(error))

    def _adopt(self) -> None:
        """Count the shards that the last attempt delivered, or see to it that they are asked for.

        A bridge that says at once when it finds nobody is made to choose the same farmer again.
        Other farmers are asked when the entry is there.
        """
        journal = self._journal
        if journal is None or self._finished_before is not None:
            return
        former = {index: noted.farmer for index, noted in journal.shards.items() if noted.farmer}
        if former and answers_at_once(self._profile):
            self._others = self._scope.coordinator.ask(
                self._scope.pools.requests, self._all_farmers
            )
        for index, node in former.items():
            record = self._records[index]
            if self._others:
                record.former = node
                continue
            record.farmer = node
            self._unasked.add(index)
            self._confirmed.add(index)
            self._selection.keep(node)
            self._scope.meter.add(record.span.size)
        if self._confirmed:
            self._scope.meter.confirm(len(self._confirmed))

    def _all_farmers(self) -> list[str]:
        """Return all farmers of the bridge; none if they are too many to be passed over."""
        found: dict[str, None] = {}
        try:
            for page in range(1, self._profile.exclude_limit):
                contacts = self._scope.request(
                    lambda: self._bridge.contact_list(page),  # noqa: B023
                    'the list of farmers',
                )
                nodes = [c.nodeID for c in contacts if c.nodeID and isinstance(c.nodeID, str)]
                if found.keys() >= set(nodes):
                    return list(found)
                found.update(dict.fromkeys(nodes))
                if len(found) > self._profile.exclude_limit:
                    break
        except StorjError as error:
            _log.debug('no list of farmers: %s', error)
        return []

    def _check_unasked(self, entry: File) -> None:
        """Ask the farmers of the last attempt; take the entry back if one has lost a shard."""
        if not self._unasked:
            return
        lost = lost_shards(
            self._scope,
            self._request.bucket_id,
            entry.id or '',
            self._unasked,
        )
        if not lost:
            return
        self._remove_old(entry.id or '')
        self._entry_sent = False
        self._lost_shards = True
        raise TransferError(
            f'the farmers of {len(lost)} shards that were brought away before have lost them; '
            'the same call uploads the whole file again'
        )

    # -- the end -----------------------------------------------------------------------------------

    def _end(self) -> None:
        """Keep what a next attempt needs, and destroy the frame of a failed upload otherwise."""
        error, journal = self._scope.coordinator.error, self._journal
        with self._lock:
            self._ended = True
        frame_id = self._frame_id if self._frame_is_ours else None
        keep = self._done or self._can_be_resumed(error)
        if journal is not None:
            # One that ended before it began leaves what the last attempt left.
            if journal.has_begun and (self._done or (not keep and frame_id is None)):
                journal.forget()
            elif journal.has_begun and not keep and frame_id is not None:
                journal.keep_frame(frame_id)
            journal.close()
        # A frame that an entry may use must live: without it the file breaks (section 10.9).
        if keep or self._entry_sent or frame_id is None:
            return
        # Bridges that read a frame, add a shard and save it break down when it is gone meanwhile
        # (observed with 2.2.4): they may still be at a contract that was given up.
        if not self._owed or self._profile.counts_frames_safely:
            self._scope.resources.background.run(
                'dropping a frame', lambda: self._destroy_idle(frame_id)
            )

    def _destroy_idle(self, frame_id: str) -> None:
        """Destroy the frame once no request for a contract is under way."""
        with self._scope.coordinator.condition:
            while self._contracts:
                self._scope.clock.wait(self._scope.coordinator.condition, None)
        with contextlib.suppress(NotFoundError):
            self._bridge.frame_delete(frame_id)
        if self._journal is not None:
            self._journal.forget_frame(frame_id)

    def _can_be_resumed(self, error: BaseException | None) -> bool:
        """Return whether the same call may go on where this one stops."""
        hopeless = (IntegrityError, AlreadyExistsError, NotFoundError, ValueError, TypeError)
        if self._journal is None or self._lost_shards or isinstance(error, hopeless):
            return False
        return self._journal.is_worth_keeping

    # -- shards: read, encrypt, hash ---------------------------------------------------------------

    def _start_shards(self) -> None:
        missing = [span for span in self._plan if span.index not in self._records]
        for record in list(self._records.values()):
            if record.span.index not in self._confirmed:
                self._scope.coordinator.spawn(self._scope.pools.shards, self._deliver, record)
        if any(span.parity for span in missing):
            parity = [span for span in missing if span.parity]
            self._scope.coordinator.spawn(self._scope.pools.hashing, self._hash_parity, parity)
        for span in missing:
            if not span.parity:
                self._scope.coordinator.spawn(self._scope.pools.hashing, self._hash, span)

    def _pieces(self, record: _Record, *, keep: bool) -> Generator[memoryview, None, None]:
        """Yield a shard as it is stored; each piece is valid until the next one is asked for.

        Args:
            record (_Record): of the shard; what is kept of it is yielded for the last time.
            keep (bool): whether pieces are kept in buffers, as many as are free.
        """
        span, buffers, size = (
            record.span,
            self._scope.resources.buffers,
            self._scope.config.piece_size,
        )
        spool = self._parity if span.parity else None
        source: Source | Spool = self._source if spool is None else spool
        key = None if span.parity or self._sealed_source else self._encryption.key
        cipher: CtrStream | None = None
        scratch = bytearray()
        for position in range(0, span.size, size):
            self._scope.coordinator.check()
            buffer = record.kept.pop(position, None)
            if buffer is not None:
                try:
                    yield memoryview(buffer)[: span.size - position]
                finally:
                    buffers.give(buffer)
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

    def _hash(self, span: Span) -> None:
        """Hash one shard and send it on its way."""
        # Hashing ahead of farmers that are fast gains nothing, and costs a second encryption.
        buffers = self._scope.resources.buffers
        needed = min(span.size, buffers.size // 2)
        self._scope.coordinator.wait_until(lambda: buffers.free >= needed, _ROOM_PATIENCE)
        record = self._hashed(span, keep=True)
        self._scope.coordinator.spawn(self._scope.pools.shards, self._deliver, record)

    def _hashed(self, span: Span, *, keep: bool) -> _Record:
        """Hash one shard, and prepare its audits."""
        challenges = new_challenges(self._scope.config.challenges)
        digest = ShardDigest(challenges, self._profile.audit_generation)
        record = _Record(span, '', challenges)
        self._records[span.index] = record
        for piece in self._pieces(record, keep=keep):
            digest.update(piece)
        record.hash, record.leaves = digest.hexdigest(), digest.leaves()
        return record

    def _release_buffers(self) -> None:
        """Give back what was kept of shards that are not pushed any more."""
        for record in self._records.values():
            while record.kept:
                self._scope.resources.buffers.give(record.kept.popitem()[1])

    def _hash_parity(self, spans: list[Span]) -> None:
        """Compute the parity shards, then hash them one by one."""
        self._make_parity()
        for span in spans:
            self._scope.coordinator.spawn(self._scope.pools.hashing, self._hash, span)

    def _make_parity(self) -> None:
        """Compute all parity shards into their spool, unless they are there already."""
        if self._parity is not None:
            return
        plan = self._plan
        parity_spool = Spool(self._scope.config.temp_dir)
        self._scope.coordinator.clean_up(parity_spool.close)
        coder = ReedSolomon(plan.data_shards, plan.parity_shards)
        step = max(1024, min(self._scope.config.piece_size, _STRIPES // plan.shards) // 1024 * 1024)
        step = min(step, plan.shard_size)
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
                parity_spool.write(offset, memoryview(buffer)[:length])
        self._parity = parity_spool

    def _read_stripe(self, span: Span, position: int, buffer: memoryview) -> None:
        """Read a piece of a data shard's ciphertext, with zeros behind the end of the last one."""
        there = max(0, min(len(buffer), span.size - position))
        piece = buffer[:there]
        if there:
            self._source.read_into(span.offset + position, piece)
            if self._encryption.key is not None and not self._sealed_source:
                CtrStream(self._encryption.key, span.offset + position).process(piece, output=piece)
        buffer[there:] = bytes(len(buffer) - there)

    # -- shards: contract, push --------------------------------------------------------------------

    def _deliver(self, record: _Record) -> None:
        """Bring one shard to a farmer, the second or third one if need be."""
        self._scope.coordinator.wait_until(lambda: self._frame_id is not None)
        if self._journal is not None:
            self._journal.note_offer(record.span.index, record.hash)
        self._scope.coordinator.wait_until(lambda: self._listed, _LIST_PATIENCE)
        with self._lock:
            alone = self._same_hash[record.hash]
        # Equal shards share their contracts at the bridge (a file of 2 MiB and its parity do).
        with self._scope.coordinator.turn(alone):
            self._deliver_alone(record)
        with self._scope.coordinator.condition:
            self._confirmed.add(record.span.index)
            self._scope.coordinator.condition.notify_all()
        if self._journal is not None:
            self._journal.note_confirmed(record.span.index, record.hash, record.farmer)
        self._scope.meter.confirm()

    def _deliver_alone(self, record: _Record) -> None:
        clock, allowed = self._scope.clock, self._scope.config.shard_deadline
        ends = float('inf') if allowed is None else clock.now() + allowed
        causes: list[BaseException] = []
        for _ in range(self._scope.config.shard_attempts):
            pointer = self._former_farmer(record) or self._negotiate(record, causes)
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

    def _former_farmer(self, record: _Record) -> Mapping[str, Any] | None:
        """Get the farmer that had a shard when the last attempt broke off; None without it."""
        former = record.former
        if not former or self._selection.has_failed(former):
            return None
        others = [node for node in self._others if node != former]
        try:
            with self._scope.coordinator.turn(self._negotiating):
                pointer = self._contract(record.shard(), others, choosy=True)
        except (_NoneFree, BridgeUnavailableError) as error:
            self._scope.coordinator.note(error)
            record.former = ''
            return None
        node = node_of(pointer)
        return pointer if self._selection.take(node, force=node == former) else None

    def _negotiate(self, record: _Record, causes: list[BaseException]) -> Mapping[str, Any]:
        """Get a farmer for a shard; it is reserved in the selection."""
        shard = record.shard()
        # Each repetition excludes one farmer more, so it ends; the bound is for bridges that
        # overlook exclusions.
        for trial in range(self._plan.shards + 1):
            last = trial >= self._plan.shards
            try:
                with self._scope.coordinator.turn(self._negotiating):
                    excludes, choosy = self._selection.exclusions()
                    pointer = self._contract(shard, excludes, choosy=choosy)
                    if self._selection.take(node_of(pointer), force=last):
                        return pointer
            except _NoneFree as error:
                self._scope.coordinator.note(error)
                self._selection.give_up()
            except BridgeUnavailableError as error:
                raise self._no_farmer(record, [*causes, error]) from error
        raise self._no_farmer(record, causes)

    def _contract(self, shard: Shard, excludes: list[str], *, choosy: bool) -> Mapping[str, Any]:
        frame_id = self._frame_id or ''
        unclear = 0

        def ask() -> Mapping[str, Any]:
            nonlocal unclear
            with self._scope.coordinator.condition:
                self._contracts += 1
            try:
                return self._bridge.frame_add_shard(shard, frame_id, excludes=excludes)
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
                with self._scope.coordinator.condition:
                    self._contracts -= 1
                    self._scope.coordinator.condition.notify_all()

        return check_pointer(self._scope.request(ask, f'the contract for shard {shard.index}'))

    def _no_farmer(self, record: _Record, causes: list[BaseException]) -> NotEnoughFarmersError:
        have, need = self._selection.used, self._plan.shards
        last = f' ({describe(causes[-1])})' if causes else ''
        return NotEnoughFarmersError(
            f'no farmer takes shard {record.span.index}{last}: {have} took a shard of this file, '
            f'{self._selection.failed} failed',
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
        node, began = node_of(pointer), self._scope.clock.wall()
        try:
            with self._scope.coordinator.turn(self._pushing):
                self._push(record, pointer, node, ends)
        except HashMismatchError as error:
            self._selection.drop(node, failed=True)
            self._check_hash(record)
            failure: FarmerError = error
        except FarmerError as error:
            refused = isinstance(error, SuppliedTokenNotAcceptedError)
            self._selection.drop(node, failed=not refused or self._selection.refuses(node))
            failure = error
        else:
            record.farmer = node
            self._scope.resources.background.report(
                record.hash, node, began, ExchangeReport.SHARD_UPLOADED
            )
            return None
        _log.warning('shard %d: farmer %s failed: %s', record.span.index, node, failure)
        self._scope.resources.background.report(
            record.hash, node, began, ExchangeReport.TRANSFER_FAILED
        )
        return failure

    def _push(self, record: _Record, pointer: Mapping[str, Any], node: str, ends: float) -> None:
        clock = self._scope.clock
        sent = 0
        shard = self._pieces(record, keep=False)

        def pieces() -> Iterator[memoryview]:
            nonlocal sent
            for piece in shard:
                self._scope.resources.upload_limit.take(len(piece), self._scope.coordinator)
                yield piece
                sent += len(piece)
                self._scope.meter.add(len(piece))

        self._scope.meter.begin(node)
        try:
            self._scope.resources.channel_for(pointer).push(
                pointer,
                pieces(),
                record.span.size,
                limits=self._scope.config.channel,
                cancelled=lambda: clock.now() >= ends or self._scope.coordinator.stopped(),
            )
        except BaseException as error:
            self._scope.meter.add(-sent)
            # A channel that was interrupted ends with an error of its own.
            self._scope.coordinator.check()
            if isinstance(error, TransferCancelled):
                raise overdue(self._scope.config) from None
            raise
        else:
            # A farmer that has the shard already takes none of it.
            self._scope.meter.add(record.span.size - sent)
        finally:
            # Not left to the end of the traceback, which lives as long as the error.
            shard.close()
            self._scope.meter.end(node)

    def _check_hash(self, record: _Record) -> None:
        """Find out whose fault a wrong hash is: raise SourceChangedError if the source's."""
        digest = ShardDigest()
        for piece in self._pieces(record, keep=False):
            digest.update(piece)
        if not hmac.compare_digest(digest.hexdigest(), record.hash):
            raise SourceChangedError(_CHANGED)

    def _check_source(self) -> None:
        """Raise SourceChangedError if the source is not what was read at the beginning."""
        if self._source.check_unchanged():
            return
        # Somebody gave it another mode or link, or changed it and put its time back.
        data = {i: record.hash for i, record in self._records.items() if not record.span.parity}
        if not self._hash_again(data):
            raise SourceChangedError(_CHANGED)

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
        return self._scope.coordinator.ask(
            self._scope.pools.requests, lambda: self._post_entry(mimetype)
        )

    def _remove_old(self, file_id: str) -> None:
        bucket_id = self._request.bucket_id
        # Gone already? An attempt whose answer was lost did it, or somebody else.
        with contextlib.suppress(NotFoundError):
            self._scope.ask(lambda: self._bridge.file_remove(bucket_id, file_id), 'the old file')

    def _post_entry(self, mimetype: str | None) -> File:
        policy, failures = self._scope.config.bridge_retry, 0
        frame_id = self._frame_id or ''
        hashes = [self._records[index].hash for index in range(self._plan.shards)]
        while True:
            self._entry_sent = True
            try:
                return self._scope.coordinator.outside(  # type: ignore[no-any-return]
                    self._scope.resources.once,
                    self._bridge.file_create,
                    self._request.bucket_id,
                    frame_id,
                    self._encryption.name,
                    mimetype=mimetype,
                    index=self._encryption.index,
                    hmac=self._encryption.hmac(hashes),
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
                self._scope.coordinator.note(error)
                self._scope.coordinator.pause(
                    policy.wait(failures, self._scope.clock.random(), error.retry_after)
                )

    def _look_up(self, frame_id: str) -> File | None:
        """Return the entry if it is there and made of our frame; called by a task."""
        bucket_id = self._request.bucket_id
        found = self._scope.request(
            lambda: self._bridge.file_id(bucket_id, self._encryption.name, stored=True),
            'looking for the entry',
        )
        if found is None:
            return None
        entry = self._scope.request(
            lambda: self._bridge.file_metadata(bucket_id, found), 'looking at the entry'
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
