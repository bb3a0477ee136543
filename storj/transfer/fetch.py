"""The shards of a stored file: the bridge's list of them, and the fetching of one from a farmer.

The list is checked for consistency, and all its pages are read before the first shard is fetched:
then the HMAC over the hashes proves both the list and the key for the price of a request or two. A
shard is proved by its hash; a farmer that fails is replaced.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from storj.crypto import cipher
from storj.crypto.keys import ContentKey
from storj.digest import ShardDigest, is_hash
from storj.exception import (
    BridgeUnavailableError,
    FarmerError,
    FarmerUnreachableError,
    IntegrityError,
    NotFoundError,
    StorjError,
    SuppliedTokenNotAcceptedError,
    TransferCancelled,
)
from storj.farmer_connection import MAX_SHARD
from storj.model import ExchangeReport, File, FilePointer
from storj.sharding import MAX_SHARDS
from storj.text import count_of
from storj.transfer.channel import node_of
from storj.transfer.encryption import key_of
from storj.transfer.scope import Scope, overdue

_log = logging.getLogger(__name__)

#: Shards of one file at most: 64 TiB in shards of libstorj's. A bridge that lists more lies.
MOST_SHARDS = 1 << 14

# Times that the farmers of a shard are looked for again after none of them could be reached.
_ABSENCES = 6

#: Takes a piece of a shard: its position within the shard, and the bytes, valid during the call.
PieceWriter = Callable[[int, memoryview], object]


@dataclass(frozen=True)
class StoredShard:
    """One shard of a stored file.

    Attributes:
        index (int): number within the file.
        hash (str): 40 hex digits.
        size (int): bytes.
        offset (int): bytes before it in the file; for parity, behind the end of the data.
        parity (bool): whether it is computed and no part of the file.
    """

    index: int
    hash: str
    size: int
    offset: int
    parity: bool


@dataclass(frozen=True)
class Layout:
    """The shards of a stored file.

    Attributes:
        entry (File): the file's description.
        shards (tuple[StoredShard, ...]): data first, then parity.
        size (int): bytes of the file.
        data_shards (int): how many shards hold them.
    """

    entry: File
    shards: tuple[StoredShard, ...]
    size: int
    data_shards: int

    @property
    def shard_size(self) -> int:
        """Bytes of every data shard but the last, and of each parity shard."""
        return self.shards[0].size if self.shards else 0

    @property
    def repairable(self) -> bool:
        """Whether missing shards can be computed from others."""
        return len(self.shards) > self.data_shards

    @property
    def hashes(self) -> list[str]:
        """Hashes of all shards, in order."""
        return [shard.hash for shard in self.shards]

    def covering(self, start: int, end: int) -> list[StoredShard]:
        """Return the data shards that hold the bytes from start up to end."""
        return [
            shard
            for shard in self.shards[: self.data_shards]
            if max(start, shard.offset) < min(end, shard.offset + shard.size)
        ]

    def witnesses(self, needed: Sequence[StoredShard]) -> list[StoredShard]:
        """Return shards that show where the needed ones lie, because they have the stated sizes.

        The HMAC covers the hashes of all shards and no sizes. Fetching a shard proves its
        size; a bridge could misstate the sizes of those before it, and shift a range. All shards of
        a file but the last have one size, so any of these proves it for all.

        Args:
            needed (Sequence[StoredShard]): that are fetched anyway, in order.
        """
        data = self.shards[: self.data_shards]
        before = list(data[: needed[0].index]) if needed else []
        if any(shard.size != data[0].size for shard in data[:-1]):
            return before
        return before[:1] if needed and needed[0] is data[-1] else []


def usable(pointer: FilePointer) -> bool:
    """Return whether a farmer stands behind a pointer now (protocol reference, section 10.5)."""
    return bool(pointer.token and node_of(pointer))


class PointerList:
    """Pointers of one file, kept fresh; safe to use from all threads once it is loaded.

    Args:
        scope (Scope): of the transfer.
        bucket_id (str): 24 hex digits.
        file_id (str): 24 hex digits.
    """

    def __init__(self, scope: Scope, bucket_id: str, file_id: str) -> None:
        self._scope = scope
        self.bucket_id = bucket_id
        self.file_id = file_id
        # None once a pointer was handed out.
        self._pointers: list[FilePointer | None] = []
        self._fetched: list[float] = []
        self._shards: list[StoredShard] = []

    def load(self, described: File | None = None) -> Layout:
        """Read description and pointers; called by the driver.

        Args:
            described (File | None): the description, where it is known.

        Raises:
            NotFoundError: If there is no such file.
            IntegrityError: If the list contradicts itself or the description.
        """
        limit = self._scope.config.pointer_page
        first = self._scope.begin(lambda: self._first_page(limit), 'the pointers')
        if described is None:
            info = self._scope.begin(self._describe, 'the description of the file')
            cipher.load()
            entry = info()
        else:
            entry = described
        try:
            page = first()
        except BridgeUnavailableError:
            page, limit = self._smaller_page(0, limit)
        while page:
            for pointer in page:
                self._add(pointer)
            if self._complete(entry, short=len(page) < limit):
                break
            try:
                skip = len(self._shards)
                page = self._scope.ask(lambda: self._page(skip, limit), 'more pointers')  # noqa: B023
            except BridgeUnavailableError:
                page, limit = self._smaller_page(skip, limit)
        return self._layout(entry)

    def _describe(self) -> File:
        entry = self._scope.bridge.file_metadata(self.bucket_id, self.file_id)
        if entry is None:
            raise NotFoundError('File not found', 404)
        return entry

    def _first_page(self, limit: int) -> list[FilePointer]:
        # A bridge whose release is known may need no token for the pointers: a request less.
        with contextlib.suppress(BridgeUnavailableError):
            self._scope.bridge.profile()
        return self._page(0, limit)

    def _page(
        self, skip: int, limit: int, exclude: Sequence[str] | None = None
    ) -> list[FilePointer]:
        page = self._scope.bridge.file_pointers(
            self.bucket_id, self.file_id, skip=skip, limit=limit, exclude=exclude
        )
        return list(page)

    def _smaller_page(self, skip: int, limit: int) -> tuple[list[FilePointer], int]:
        """Ask for fewer pointers at a time, down to one.

        Bridges before 5.11 refuse a whole page if a farmer of any of its shards does not answer.
        """
        while True:
            if limit == 1:
                return self._scope.ask(lambda: self._page(skip, 1), 'a pointer'), 1
            limit = max(1, limit // 4)
            try:
                return self._scope.ask(lambda: self._page(skip, limit), 'fewer pointers'), limit  # noqa: B023
            except BridgeUnavailableError as error:
                if limit == 1:
                    raise
                self._scope.coordinator.note(error)

    def _add(self, pointer: FilePointer) -> None:
        index = len(self._shards)
        if index >= MOST_SHARDS:
            raise IntegrityError(f'the bridge lists more than {MOST_SHARDS} shards')
        if pointer.index is not None and pointer.index != index:
            raise IntegrityError(
                f'the bridge lists shard {pointer.index} where shard {index} belongs'
            )
        size, shard_hash = pointer.size, pointer.hash
        if not isinstance(size, int) or not 0 < size <= MAX_SHARD:
            raise IntegrityError(f'the bridge states a size of {size!r} for shard {index}')
        if not is_hash(shard_hash):
            raise IntegrityError(f'the bridge states no hash for shard {index}')
        last = self._shards[-1] if self._shards else None
        parity = pointer.parity is True
        if last is not None and last.parity and not parity:
            raise IntegrityError('the bridge lists data shards after parity shards')
        # Offsets follow from sizes that only a fetched shard proves; see `witnesses`.
        offset = 0 if last is None else last.offset + last.size
        self._shards.append(StoredShard(index, shard_hash, size, offset, parity))
        self._pointers.append(pointer)
        self._fetched.append(self._scope.clock.now())

    def _complete(self, entry: File, *, short: bool) -> bool:
        """Return whether another page could not bring anything, so that it need not be asked for.

        A short page is not proof enough: a bridge may have a limit of its own. Neither is a size
        that may be wrong.
        """
        if not (short and self._sizes_are_exact()):
            return False
        data = [shard.size for shard in self._shards if not shard.parity]
        parity = len(self._shards) - len(data)
        # libstorj makes two parity shards for three of data, rounded up.
        expected = -(-2 * len(data) // 3) if entry.erasure else 0
        return sum(data) == entry.size and parity == expected

    def _sizes_are_exact(self) -> bool:
        return self._scope.bridge.profile().counts_frames_safely

    def _layout(self, entry: File) -> Layout:
        shards = tuple(self._shards)
        data = [shard for shard in shards if not shard.parity]
        size = sum(shard.size for shard in data)
        stated = entry.size
        # What an older bridge states can be anything but nothing. There the list is read to its
        # end, and the HMAC over the hashes, which most files have, shows that it is whole.
        wrong = stated != size if self._sizes_are_exact() else bool(stated) != bool(size)
        if stated is not None and wrong:
            raise IntegrityError(
                f'the bridge states a size of {count_of(stated, "byte")}, the shards have {size}'
            )
        if len(data) < len(shards):
            kind = entry.erasure.get('type') if isinstance(entry.erasure, Mapping) else None
            if kind not in (None, 'reedsolomon'):
                raise IntegrityError(f'the file has parity shards of an unknown kind: {kind!r}')
            longest = shards[0].size
            regular = (
                (
                    len(shards) <= MAX_SHARDS
                    and all(shard.size == longest for shard in data[:-1])
                    and data[-1].size <= longest
                    and all(shard.size == longest for shard in shards[len(data) :])
                )
                if data
                else False
            )
            if not regular:
                raise IntegrityError('the sizes of the shards do not fit parity')
        return Layout(entry, shards, size, len(data))

    def content_key(self, layout: Layout, *, key: ContentKey | None = None) -> ContentKey | None:
        """Return the key of the file, proved by its HMAC; called by the driver.

        The one way to it for whatever reads files; see :func:`storj.transfer.encryption.key_of`.

        Args:
            layout (Layout): of the file.
            key (ContentKey | None): of the file, if it was passed on.
        """
        bridge, config = self._scope.bridge, self._scope.config
        find = partial(
            key_of,
            bridge,
            self.bucket_id,
            self.file_id,
            layout.entry,
            layout.hashes,
            key=key,
            scheme=config.key_scheme,
            allow_unauthenticated=config.allow_unauthenticated,
        )
        if layout.entry.index and (key is not None or bridge.mnemonic):
            return find()
        # The bridge is asked for the key of a public bucket, or for its release.
        return self._scope.ask(find, 'looking for the encryption key')

    # -- while shards are fetched ------------------------------------------------------------------

    def pointer(self, index: int) -> FilePointer | None:
        """Return a pointer that was not used yet, None if no farmer has the shard now.

        Called by a task. A token is good for one pull (protocol reference, section 10.4), and not
        for long, so a second request gets another pointer.
        """
        with self._scope.coordinator.condition:
            pointer, self._pointers[index] = self._pointers[index], None
            aged = self._scope.clock.now() - self._fetched[index] > self._scope.config.pointer_life
        if pointer is None or aged:
            return self.replace(index, ())
        return pointer if usable(pointer) else None

    def replace(self, index: int, exclude: Sequence[str]) -> FilePointer | None:
        """Ask for another pointer to a shard; None if no farmer is left.

        Args:
            index (int): of the shard.
            exclude (Sequence[str]): node ids of farmers that failed.

        Raises:
            IntegrityError: If the bridge brings a pointer to something else.
        """
        limit = self._scope.bridge.profile().exclude_limit
        try:
            page = self._scope.request(
                lambda: self._page(index, 1, list(exclude)[-limit:] or None),
                f'another pointer to shard {index}',
            )
        except BridgeUnavailableError as error:
            # Bridges before 5.11 fail when no farmer is left.
            self._scope.coordinator.note(error)
            return None
        if not page:
            return None
        pointer, shard = page[0], self._shards[index]
        if pointer.index not in (None, index) or (pointer.hash, pointer.size) != (
            shard.hash,
            shard.size,
        ):
            raise IntegrityError(f'the bridge brings another shard in place of shard {index}')
        return pointer if usable(pointer) and node_of(pointer) not in exclude else None


class ShardLost(Exception):
    """No farmer brings the shard; the last failure is its cause."""


class _Failures:
    """What went wrong with one shard, and which farmers are not asked for it again.

    Attributes:
        last (StorjError): the last failure.
        count (int): farmers that failed.
        excluded (list[str]): node ids that the bridge is asked to pass over.
    """

    def __init__(self) -> None:
        self.last: StorjError = FarmerUnreachableError(message='the bridge names no farmer')
        self.count = 0
        self.excluded: list[str] = []
        self._distrusted: list[str] = []
        self._refused: set[str] = set()

    def note(self, node: str, error: StorjError) -> None:
        """Count the failure of a farmer."""
        self.last = error
        self.count += 1
        # A token may have been used before its time; the farmer gets another chance with a new one,
        # once.
        if not isinstance(error, SuppliedTokenNotAcceptedError) or node in self._refused:
            self.excluded.append(node)
            if not error.retryable:
                self._distrusted.append(node)
        self._refused.add(node)

    def forgive(self) -> None:
        """Allow unreachable farmers again; those that sent wrong bytes stay excluded."""
        self.excluded = list(self._distrusted)


class Fetcher:
    """Pulls shards of one file.

    Args:
        scope (Scope): of the transfer.
        pointers (PointerList): loaded.
    """

    def __init__(self, scope: Scope, pointers: PointerList) -> None:
        self._scope = scope
        self._pointers = pointers

    def fetch(
        self,
        shard: StoredShard,
        writer: PieceWriter,
        *,
        cancelled: Callable[[], bool],
        troubled: Callable[[], object] = lambda: None,
    ) -> None:
        """Pull a shard and check its hash; called by a task.

        Args:
            shard (StoredShard): which one.
            writer (PieceWriter): where its bytes go; again from the beginning after a failure.
            cancelled (Callable[[], bool]): polled; a pull that is no longer needed ends.
            troubled (Callable): called after the first failure.

        Raises:
            ShardLost: If no farmer delivers it.
            Stopped: If the transfer ends meanwhile.
        """
        clock, config = self._scope.clock, self._scope.config
        allowed = config.shard_deadline
        ends = float('inf') if allowed is None else clock.now() + allowed
        failures, absences = _Failures(), 0
        pointer = self._pointers.pointer(shard.index)
        while clock.now() < ends:
            if pointer is None:
                troubled()
                absences += 1
                # Only a farmer that could not be reached may come back with the right bytes.
                most = min(config.bridge_retry.attempts, _ABSENCES)
                if absences >= most or not failures.last.retryable:
                    break
                wait = config.bridge_retry.wait(absences, clock.random())
                self._pause(min(wait, ends - clock.now()), cancelled)
                failures.forgive()
                pointer = self._pointers.replace(shard.index, failures.excluded)
                continue
            error = self._attempt(shard, pointer, writer, ends, cancelled)
            if error is None:
                return
            if cancelled():
                failures.last = error
                break
            failures.note(node_of(pointer), error)
            troubled()
            if failures.count >= config.shard_attempts or clock.now() >= ends:
                break
            pointer = self._pointers.replace(shard.index, failures.excluded)
        raise ShardLost(shard.index) from failures.last

    def _attempt(
        self,
        shard: StoredShard,
        pointer: FilePointer,
        writer: PieceWriter,
        ends: float,
        cancelled: Callable[[], bool],
    ) -> StorjError | None:
        """Pull a shard from one farmer; return the farmer's failure, or None for success."""
        clock = self._scope.clock
        try:
            self.pull(shard, pointer, writer, cancelled=lambda: clock.now() >= ends or cancelled())
        except (FarmerError, IntegrityError, TransferCancelled) as failed:
            error: StorjError = failed
        else:
            return None
        if cancelled():
            return error
        if isinstance(error, TransferCancelled):
            error = overdue(self._scope.config)
        _log.warning('shard %d: farmer %s failed: %s', shard.index, node_of(pointer), error)
        self._scope.coordinator.note(error)
        self._scope.meter.retry()
        return error

    def _pause(self, seconds: float, cancelled: Callable[[], bool]) -> None:
        if self._scope.coordinator.wait_until(cancelled, seconds):
            raise ShardLost

    def pull(
        self,
        shard: StoredShard,
        pointer: FilePointer,
        writer: PieceWriter,
        *,
        cancelled: Callable[[], bool],
    ) -> None:
        """Pull a shard from one farmer, check it, and report the exchange.

        Raises:
            FarmerError: If the farmer fails.
            IntegrityError: If it brings other bytes, or another number of them.
        """
        node, began = node_of(pointer), self._scope.clock.wall()
        digest = ShardDigest()
        counted = 0

        def sink(view: memoryview) -> None:
            nonlocal counted
            self._scope.resources.download_limit.take(len(view), self._scope.coordinator)
            position = counted
            counted += len(view)
            self._scope.meter.add(len(view))
            if counted > shard.size:
                raise IntegrityError(f'farmer {node} sends more than the shard has')
            digest.update(view)
            writer(position, view)

        self._scope.meter.begin(node)
        message = ExchangeReport.DOWNLOAD_ERROR
        try:
            self._scope.resources.channel_for(pointer).pull(
                pointer,
                shard.size,
                sink,
                limits=self._scope.config.channel,
                cancelled=cancelled,
            )
            if counted != shard.size or not hmac.compare_digest(digest.hexdigest(), shard.hash):
                message = ExchangeReport.FAILED_INTEGRITY
                raise IntegrityError(
                    f'farmer {node} sends bytes that are not those of shard {shard.index}'
                )
            message = ExchangeReport.SHARD_DOWNLOADED
        except BaseException:
            self._scope.meter.add(-counted)
            # A channel that was interrupted ends with an error of its own.
            self._scope.coordinator.check()
            raise
        finally:
            self._scope.meter.end(node)
            if not cancelled() or message == ExchangeReport.SHARD_DOWNLOADED:
                self._scope.resources.background.report(
                    shard.hash, node, began, message, pointer['token']
                )
