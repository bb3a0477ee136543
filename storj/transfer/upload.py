"""An upload, from the first byte read to the entry that the bridge confirmed.

::

    driver            hashing pool                shard pool
    ------            ------------                ----------
    open source
    frame, name? -->  hash shard 0  ------------> contract, push, confirm
    (parity) ------>  make parity, hash it -----> contract, push, confirm
    wait for all      hash shard 1  ------------> contract, push, confirm
    post the entry

A small file is one task of the shard pool, the frame included.

The driver is :class:`Upload`. :class:`~storj.transfer.source.ShardReader` reads, encrypts and
hashes, :class:`~storj.transfer.negotiate.Negotiator` finds farmers,
:class:`~storj.transfer.negotiate.Delivery` brings the shards there, and :class:`FileEntry` makes
the file of them. A failed farmer is excluded for the whole file. The entry is posted when every
shard is confirmed and never before, and the frame is destroyed if the upload fails, unless a
journal keeps it for the next attempt (:mod:`storj.transfer.journal`).

An attempt that continues another one hashes every shard again that the other one offered, and asks
the farmers that confirmed one whether they still have it: the bridge is told to choose them once
more, and a farmer that has a shard accepts it without its bytes.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from storj import sharding
from storj.api import BridgeProfile
from storj.crypto.cipher import CtrStream
from storj.crypto.keys import ContentKey
from storj.exception import (
    AlreadyExistsError,
    BridgeUnavailableError,
    ClientError,
    IntegrityError,
    NotFoundError,
    RateLimitedError,
    ResumeMismatchError,
    StorjBridgeApiError,
    StorjError,
    TransferError,
)
from storj.model import File, Frame
from storj.sharding import Plan
from storj.text import count_of
from storj.transfer.config import Bridge, UploadRequest
from storj.transfer.encryption import FileEncryption, bucket_key, encryption_for, stored_name
from storj.transfer.fetch import MOST_SHARDS
from storj.transfer.gather import lost_shards
from storj.transfer.journal import UploadJournal, destroy_unused_frame
from storj.transfer.negotiate import Delivery, Negotiator, UploadFrame
from storj.transfer.scope import Scope, describe
from storj.transfer.source import ShardReader, Source, once, open_source
from storj.transfer.spool import Spool

_log = logging.getLogger(__name__)

_KEY_REPEATED = (
    'the key of this file follows from its name, so the new content is encrypted with the key '
    'stream of the old one: anyone who kept both learns much about them. A new name has a new key'
)
# How often the shards of a file are delivered, if their farmers go away as soon as they have them.
_DELIVERIES = 4
_NAME_TAKEN = 'there is a file of this name in the bucket already'


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
        self._frame = UploadFrame(scope, bridge)
        self._entry = FileEntry(scope, bridge, request)
        self._done = False
        self._lost_shards = False
        # Made by `run`, in this order.
        self._profile: BridgeProfile
        self._journal: UploadJournal
        self._encryption: FileEncryption
        self._plan: Plan
        self._reader: ShardReader
        self._negotiator: Negotiator
        self._delivery: Delivery

    def run(self) -> File:
        """Do it all; called by the driver.

        Returns:
            File: the entry.
        """
        scope, meter = self._scope, self._scope.meter
        meter.phase('preparing')
        name = self._request.file_name()
        self._profile = self._ask_profile()
        self._advise()
        entry = self._prepare(name)
        plan, shards = self._plan, self._plan.shards
        meter.expect(sum(span.size for span in plan), shards)
        if entry is None:
            self._negotiator = Negotiator(scope, self._bridge, self._frame, self._profile, shards)
            self._delivery = Delivery(scope, self._reader, self._negotiator, self._journal)
            entry = self._transfer()
        self._done = True
        _log.info('uploaded %d bytes as file %s', plan.size, entry.id)
        return entry

    def _transfer(self) -> File:
        """Bring the shards away and make the entry."""
        meter, plan = self._scope.meter, self._plan
        unasked = self._adopt()
        checks = self._begin_checks()
        if self._frame.id is None and self._is_small:
            self._scope.coordinator.spawn(self._scope.pools.shards, self._send_small)
        else:
            self._delivery.start(plan)
        meter.phase('transferring')
        existing = checks()
        entry = self._make_entry(existing)
        if unasked:
            self._check_unasked(entry, unasked)
        return entry

    @property
    def _is_small(self) -> bool:
        return self._plan.is_one_shard(self._scope.config.piece_size)

    def _send_small(self) -> None:
        """Hash the only shard of a small file, make the frame, and deliver the shard; a task.

        Each step takes less time than another thread takes to begin.
        """
        record = self._reader.hash(self._plan.span(0), keep=True)
        self._scope.request(self._make_frame, 'making a frame')
        self._delivery.deliver(record)

    def _make_entry(self, existing: Sequence[str]) -> File:
        """Make the entry as soon as all shards are delivered.

        Farmers that go away at once after that are found by the bridge; the shards get others then.
        """
        plan, meter, coordinator = self._plan, self._scope.meter, self._scope.coordinator
        deliveries = 1
        while True:
            # An empty file has no shard, and a frame all the same.
            coordinator.wait_until(
                lambda: self._frame.id is not None and self._delivery.is_done(plan)
            )
            meter.phase('finishing')
            self._reader.check_source()
            try:
                return self._entry.post(
                    self._frame.id or '',
                    self._encryption,
                    self._reader.hashes,
                    existing,
                    erasure=plan.parity_shards > 0,
                )
            except NotFoundError as error:
                if deliveries >= _DELIVERIES or not _lacks_shards(error):
                    raise
                _log.warning('the entry is refused (%s): its shards get other farmers', error)
            meter.phase('transferring')
            self._delivery.start_again(plan)
            deliveries += 1

    # -- what is uploaded --------------------------------------------------------------------------

    def _ask_profile(self) -> BridgeProfile:
        known = self._scope.resources.profile
        if known is not None:
            return known
        try:
            profile = self._scope.ask(self._bridge.profile, 'asking the bridge what it is')
        except (BridgeUnavailableError, RateLimitedError) as error:
            _log.debug('the bridge does not say what it is: %s', error)
            return BridgeProfile()
        self._scope.resources.profile = profile
        return profile

    def _advise(self) -> None:
        """Tell who reads the log that readers of the bridge's time make other keys."""
        theirs, scheme = self._profile.javascript_key_scheme, self._scope.config.key_scheme
        if scheme is None and not self._profile.has_index and theirs == 'text':
            _log.info("JavaScript clients of this bridge read files of key_scheme='text' only")

    def _prepare(self, name: str) -> File | None:
        """Open source and journal, and decide how the file is stored.

        Returns:
            File | None: the entry, if the last attempt got as far.
        """
        request, coordinator = self._request, self._scope.coordinator
        source = open_source(request.source)
        if source is not None:
            coordinator.clean_up(source.close)
        self._journal = UploadJournal(self._scope.config, self._bridge, request, name, source)
        coordinator.clean_up(self._end)
        self._encryption = self._encrypt_as(name, self._journal.index)
        if source is not None:
            return self._resume(name, source)
        key = self._encryption.key
        spool = coordinator.ask(self._scope.pools.sources, lambda: self._spooled(key))
        # It is encrypted already.
        return self._resume(name, spool, encrypted=True)

    def _encrypt_as(self, name: str, index: str | None) -> FileEncryption:
        request = self._request
        return encryption_for(
            self._bridge,
            self._profile,
            request.bucket_id,
            name,
            encrypt=request.encrypt,
            encrypt_name=request.has_encrypted_name,
            index=index,
            scheme=self._scope.config.key_scheme,
        )

    def _spooled(self, key: ContentKey | None) -> Spool:
        """Encrypt a source that can be read only once into a temporary file; a task.

        The source may keep a reader waiting without end, so it is read as requests are made, but in
        a thread of its own: the transfer, and the engine, can end meanwhile.
        """
        coordinator, config = self._scope.coordinator, self._scope.config
        spool = Spool(config.temp_dir)
        coordinator.clean_up(spool.close)
        cipher = None if key is None else CtrStream(key)
        pieces = once(self._request.source, config.piece_size, coordinator.check)
        while (piece := coordinator.outside(next, pieces, None)) is not None:
            spool.write(spool.size, piece if cipher is None else cipher.process(piece))
        return spool

    def _cut(self, size: int) -> Plan:
        plan = self._planned(size)
        if plan.shards > MOST_SHARDS:
            raise ValueError(
                f'too many shards: {plan.shards}, at most {MOST_SHARDS}; choose a larger shard size'
            )
        return plan

    def _planned(self, size: int) -> Plan:
        config, wanted, known = self._scope.config, self._request.parity, self._profile.has_erasure
        if wanted and not known:
            raise ClientError('this bridge knows no parity shards; upload without them')
        # Readers that know no index know no parity either: they would take it for content.
        usual = config.parity and config.key_scheme is None
        parity = known and (usual if wanted is None else wanted)
        largest = self._profile.max_shard_size
        cut = partial(sharding.plan, size, shard_size=config.shard_size, largest=largest)
        try:
            return cut(parity=parity)
        except ValueError as error:
            if not parity or wanted:
                raise
            # Parity was not asked for, and so many shards cannot be coded.
            _log.warning('uploading without parity: %s', error)
            return cut(parity=False)

    def _read(self, source: Source, *, encrypted: bool) -> ShardReader:
        key = None if encrypted else self._encryption.key
        return ShardReader(self._scope, source, self._plan, key, self._profile.audit_generation)

    # -- what the bridge has -----------------------------------------------------------------------

    def _begin_checks(self) -> Callable[[], Sequence[str]]:
        """Begin what need not be waited for before the shards are hashed.

        Returns:
            Callable: waits for the answers and returns the ids of files to be replaced, as far as
            they are known.
        """
        scope, request = self._scope, self._request
        requests = scope.pools.requests
        if self._frame.id is None and not self._is_small:
            scope.coordinator.spawn(requests, scope.request, self._make_frame, 'making a frame')
        lone = self._plan.shards <= 1
        # A lone shard is soon pushed, and the answer to the entry tells a wrong bucket, and a name
        # that is taken, as well. Bridges before 5.14 may replace the file instead, and a key that
        # is repeated has to be warned of before.
        told = lone and self._profile.has_file_ids and not self._encryption.is_repeated
        names_taken = self._entry.begin_look_up(self._encryption.name if told else None)
        if not lone:
            scope.coordinator.spawn(
                requests, scope.request, self._check_bucket, 'looking for the bucket'
            )
            scope.coordinator.spawn(requests, self._negotiator.list_farmers)

        def join() -> Sequence[str]:
            existing = names_taken()
            if existing and not request.overwrite:
                raise AlreadyExistsError(_NAME_TAKEN, 409)
            if existing and self._encryption.is_repeated:
                _log.warning(_KEY_REPEATED)
            return existing

        return join

    def _make_frame(self) -> None:
        self._frame.make(self._journal.note_frame)

    def _check_bucket(self) -> None:
        if self._bridge.bucket_get(self._request.bucket_id) is None:
            raise NotFoundError('Bucket not found', 404)

    # -- resume ------------------------------------------------------------------------------------

    def _resume(self, name: str, source: Source, *, encrypted: bool = False) -> File | None:
        """Take up what the last attempt left, if it fits and its frame is still there.

        Returns:
            File | None: its entry, if there is one.
        """
        journal, frame = self._journal, self._request.frame
        self._plan = self._cut(source.size)
        self._reader = self._read(source, encrypted=encrypted)
        if frame is not None:
            frame_id = frame.id if isinstance(frame, Frame) else frame
            if not frame_id:
                raise ValueError('the frame has no id')
            self._frame.use(frame_id, ours=False)
        elif journal.frame_id is not None:
            if journal.has_other_key(self._encryption):
                raise ResumeMismatchError('the upload was begun with another encryption key')
            if journal.fits(self._encryption, self._plan):
                taken_up, entry = self._take_up(journal.frame_id)
                if taken_up:
                    journal.go_on(self._plan)
                    return entry
            self._abandon(journal.frame_id)
            if journal.index is not None:
                self._encryption = self._encrypt_as(name, None)
            elif journal.shards and self._encryption.is_repeated:
                _log.warning(_KEY_REPEATED)
            # Another key, or other content than was hashed for the last attempt.
            self._reader = self._read(source, encrypted=encrypted)
        journal.begin(self._encryption, self._plan)
        return None

    def _take_up(self, frame_id: str) -> tuple[bool, File | None]:
        """Go on with the frame of the last attempt, or with the entry that it was made.

        Returns:
            tuple[bool, File | None]: whether that can be done, and the entry.
        """
        journal, scope = self._journal, self._scope
        confirmed = [noted for noted in journal.shards.values() if noted.farmer]
        try:
            frame = scope.ask(lambda: self._bridge.frame_get(frame_id), 'the frame')
        except NotFoundError:
            return False, None
        entry: File | None = None
        if frame.locked is not False:
            # The last attempt may have been broken off after the entry was made.
            entry = scope.coordinator.ask(
                scope.pools.requests,
                lambda: self._entry.look_up(self._encryption.name, frame_id),
            )
        if entry is None and (frame.locked or len(frame.shards) < len(confirmed)):
            return False, None
        hashes = {index: noted.hash for index, noted in journal.shards.items()}
        if not self._reader.hash_again(hashes):
            _log.warning(
                'the source changed since its upload was interrupted; all of it is uploaded'
            )
            return False, None
        self._frame.use(frame_id, ours=frame.locked is False)
        return True, entry

    def _abandon(self, frame_id: str) -> None:
        """Destroy the frame of an attempt that is not continued, unless a file uses it.

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

    def _adopt(self) -> set[int]:
        """Have the shards that the last attempt delivered asked for again, or count them.

        Returns:
            set[int]: shards whose farmers can be asked only when the entry is there.
        """
        shards = self._journal.shards
        former = {index: noted.farmer for index, noted in shards.items() if noted.farmer}
        if not former or self._negotiator.prefer(former):
            return set()
        self._delivery.adopt(former)
        return set(former)

    def _check_unasked(self, entry: File, shards: set[int]) -> None:
        """Ask the farmers of the last attempt; take the entry back if one has lost a shard."""
        lost = lost_shards(self._scope, self._request.bucket_id, entry.id or '', shards)
        if not lost:
            return
        self._entry.take_back(entry.id or '')
        self._lost_shards = True
        raise TransferError(
            f'farmers have lost {count_of(len(lost), "shard")} of an earlier attempt; '
            'the same call uploads the whole file again'
        )

    # -- the end -----------------------------------------------------------------------------------

    def _end(self) -> None:
        """Keep what a next attempt needs, and destroy the frame of a failed upload otherwise."""
        journal, frame_id = self._journal, self._frame.close()
        keep = self._done or self._can_be_resumed(self._scope.coordinator.error)
        # One that ended before it began leaves what the last attempt left.
        if journal.has_begun and (self._done or (not keep and frame_id is None)):
            journal.forget()
        elif journal.has_begun and not keep and frame_id is not None:
            journal.keep(only_frame=frame_id)
        elif journal.has_begun:
            journal.keep()
        journal.close()
        # A frame that an entry may use must live: without it the file breaks (section 10.9).
        if keep or self._entry.sent or frame_id is None:
            return
        # Bridges that read a frame, add a shard and save it break down when it is gone meanwhile
        # (observed with 2.2.4): they may still be at a contract that was given up.
        if not self._frame.owed or self._profile.counts_frames_safely:
            self._scope.resources.background.run(
                'dropping a frame', lambda: self._destroy_frame(frame_id)
            )

    def _destroy_frame(self, frame_id: str) -> None:
        self._frame.destroy(frame_id)
        self._journal.forget_frame(frame_id)

    def _can_be_resumed(self, error: BaseException | None) -> bool:
        """Return whether the same call may go on where this one stops."""
        hopeless = (IntegrityError, AlreadyExistsError, NotFoundError, ValueError, TypeError)
        if self._lost_shards or isinstance(error, hopeless):
            return False
        return self._journal.is_worth_keeping


class FileEntry:
    """The entry of the file at the bridge, made exactly once.

    Args:
        scope (Scope): of the transfer.
        bridge (Bridge): client of the bridge.
        request (UploadRequest): what is asked for.

    Attributes:
        sent (bool): whether the bridge may have made one.
    """

    def __init__(self, scope: Scope, bridge: Bridge, request: UploadRequest) -> None:
        self._scope = scope
        self._bridge = bridge
        self._request = request
        self.sent = False

    def begin_look_up(self, stored: str | None) -> Callable[[], Sequence[str]]:
        """Begin to look for a file of the name, unless the caller knows; return what waits for ids.

        Args:
            stored (str | None): the name as it is to be stored, where the answer to the entry
                tells whether it is taken: then only the other form, encrypted or in the clear, is
                looked for.
        """
        known = self._request.existing
        if known is not None:
            return lambda: known
        bucket_id, name = self._request.bucket_id, self._request.file_name()
        if stored is None:
            ask = partial(self._bridge.file_id, bucket_id, name)
        elif stored != name:
            ask = partial(self._bridge.file_id, bucket_id, name, stored=True)
        elif self._bridge.mnemonic:
            key = bucket_key(self._bridge, bucket_id)
            other = stored_name(key, bucket_id, name)
            ask = partial(self._bridge.file_id, bucket_id, other, stored=True)
        else:
            # Without an encryption key the encrypted form of the name is unknown.
            return lambda: ()
        found = self._scope.begin(ask, 'looking the name up')
        return lambda: [each for each in [found()] if each is not None]

    def look_up(self, name: str, frame_id: str) -> File | None:
        """Return the entry if it is there and made of the frame; called by a task."""
        bucket_id, found = self._request.bucket_id, self._id_of(name)
        if found is None:
            return None
        entry = self._scope.request(
            lambda: self._bridge.file_metadata(bucket_id, found), 'looking at the entry'
        )
        same = entry.frame is not None and entry.frame.id == frame_id
        return entry if same else None

    def _id_of(self, stored: str) -> str | None:
        """Return the id of the file of a stored name; called by a task."""
        bucket_id = self._request.bucket_id
        return self._scope.request(
            lambda: self._bridge.file_id(bucket_id, stored, stored=True), 'looking for the entry'
        )

    def post(
        self,
        frame_id: str,
        encryption: FileEncryption,
        hashes: Sequence[str],
        existing: Sequence[str],
        *,
        erasure: bool,
    ) -> File:
        """Make the entry; called by the driver.

        Args:
            frame_id (str): of the frame that has all shards.
            encryption (FileEncryption): name, index and HMAC.
            hashes (Sequence[str]): of all shards, in order.
            existing (Sequence[str]): ids of files to be replaced; one of the same stored name need
                not be among them.
            erasure (bool): whether there are parity shards.

        Returns:
            File: the entry.
        """
        fields: dict[str, Any] = {
            'index': encryption.index,
            'hmac': encryption.hmac(hashes),
            'erasure': erasure,
        }
        mimetype, removed = self._request.guessed_mimetype(), None
        coordinator, requests = self._scope.coordinator, self._scope.pools.requests
        while True:
            try:
                entry: File = coordinator.ask(
                    requests,
                    partial(self._post_once, frame_id, encryption.name, mimetype, fields),
                )
            except AlreadyExistsError:
                if removed is not None or not self._request.overwrite:
                    raise
                removed = coordinator.ask(requests, partial(self._id_of, encryption.name))
                if removed is None:
                    raise
                self.remove(removed)
            except StorjBridgeApiError as error:
                # Bridges know the types of one list, of which Python's is no part; some look at
                # the name first.
                if mimetype is None or 'mimetype' not in error.message:
                    raise
                mimetype = None
            else:
                # Bridges take no name twice; encrypted and in the clear, it is two to them.
                for other in existing:
                    if other not in (entry.id, removed):
                        self.remove(other)
                return entry

    def _post_once(
        self, frame_id: str, name: str, mimetype: str | None, fields: dict[str, Any]
    ) -> File:
        """Post the entry until it is there or refused; a task."""
        policy, failures = self._scope.config.bridge_retry, 0
        while True:
            self.sent = True
            try:
                return self._scope.coordinator.outside(  # type: ignore[no-any-return]
                    self._scope.resources.once,
                    self._bridge.file_create,
                    self._request.bucket_id,
                    frame_id,
                    name,
                    mimetype=mimetype,
                    **fields,
                )
            except StorjError as error:
                # Lost on the way there or back? The bridge knows; a second POST of the same frame
                # would be refused although the file is there.
                entry = self.look_up(name, frame_id) if error.retryable or failures else None
                if entry is not None:
                    return entry
                failures += 1
                if not self._scope.coordinator.pause_before_next(
                    policy, error, failures, 'making the entry'
                ):
                    self.sent = error.retryable or failures > 1
                    raise

    def take_back(self, file_id: str) -> None:
        """Remove the entry that was made; called by the driver."""
        self.remove(file_id)
        self.sent = False

    def remove(self, file_id: str) -> None:
        """Remove a file of the bucket; called by the driver."""
        bucket_id = self._request.bucket_id
        # Gone already? An attempt whose answer was lost did it, or somebody else.
        with contextlib.suppress(NotFoundError):
            self._scope.ask(lambda: self._bridge.file_remove(bucket_id, file_id), 'the old file')


def _lacks_shards(error: NotFoundError) -> bool:
    """Return whether a bridge refuses an entry because farmers do not answer for its shards."""
    return error.message.startswith('Shards of the frame are on no farmer')
