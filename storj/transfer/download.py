"""Downloads: to a file, to anything that can be written, and as a stream.

A download to a path goes to a part file beside it, shard by shard in whatever order they come, and
can be resumed. One of a single small shard has nothing to resume: it is kept in memory until it is
whole, and then written. Everything else gets its bytes in order, a shard at a time and each one
checked, from a spool into which some shards are fetched ahead of their reader. Which shards are
fetched when, and how those that are lost are computed, is the same for all
(:mod:`storj.transfer.gather`).

The HMAC proves list and key before the first shard is fetched, and each shard is proved by its
hash; so all delivered bytes are right, even if the download fails later.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from storj.crypto.cipher import CtrStream
from storj.crypto.keys import ContentKey
from storj.digest import ShardDigest
from storj.exception import DecryptionError, IntegrityError, NotFoundError, ResourceError
from storj.model import File
from storj.system import atomic_file
from storj.text import count_of
from storj.transfer.config import DownloadRequest
from storj.transfer.fetch import Layout, PieceWriter, PointerList, StoredShard
from storj.transfer.gather import Gather
from storj.transfer.journal import Journal, identity, is_left, open_journal
from storj.transfer.scope import Scope
from storj.transfer.spool import (
    MemoryFile,
    ShardSpool,
    UnfinishedFile,
    discard_former,
    finished_before,
    raise_disk_error,
)

_log = logging.getLogger(__name__)


class RandomAccessFile(Protocol):
    """The local file of a :class:`FileStorage`."""

    def write(self, offset: int, data: memoryview, /) -> None:
        """Write at an offset."""

    def read_into(self, offset: int, buffer: memoryview, /) -> None:
        """Fill a buffer from an offset."""


class FileStorage:
    """Storage of a download to a path: a range of the file, in the clear, in a local file.

    Shards that do not lie within the range as a whole, and parity, lie in a spool.

    Args:
        file (RandomAccessFile): the local file; the range begins at its offset 0.
        spool (ShardSpool): for all other shards.
        key (ContentKey | None): of the stored file, None if it is stored in the clear.
        start (int): first byte of the range.
        end (int): byte behind the range.
    """

    def __init__(
        self,
        file: RandomAccessFile,
        spool: ShardSpool,
        key: ContentKey | None,
        start: int,
        end: int,
    ) -> None:
        self._file = file
        self._spool = spool
        self._key = key
        self._start = start
        self._end = end

    def shows(self, shard: StoredShard) -> bool:
        """Return whether the whole shard lies within the range."""
        whole = self._start <= shard.offset and shard.offset + shard.size <= self._end
        return whole and not shard.parity

    def writer(self, shard: StoredShard) -> PieceWriter:
        """Return what decrypts a shard into the file, or puts it into the spool."""
        return self._writer(shard) if self.shows(shard) else self._spool.writer(shard)

    def read(self, shard: StoredShard, position: int, buffer: memoryview) -> None:
        """Read a piece of a shard as it is stored: encrypted again if it lies in the file."""
        if not self.shows(shard):
            self._spool.read(shard, position, buffer)
            return
        offset = shard.offset + position
        self._file.read_into(offset - self._start, buffer)
        if self._key is not None:
            CtrStream(self._key, offset).process(buffer, output=buffer)

    def drop(self, shard: StoredShard) -> None:
        """Forget a shard of the spool; what lies in the file stays."""
        self._spool.drop(shard)

    def copy_edge(self, shard: StoredShard, piece_size: int) -> None:
        """Bring what the range shows of a shard in the spool into the file."""
        write = self._writer(shard)
        first = max(self._start - shard.offset, 0)
        last = min(self._end - shard.offset, shard.size)
        buffer = memoryview(bytearray(min(piece_size, last - first)))
        for position in range(first, last, len(buffer)):
            piece = buffer[: last - position]
            self._spool.read(shard, position, piece)
            write(position, piece)

    def _writer(self, shard: StoredShard) -> PieceWriter:
        cipher: CtrStream | None = None
        expected = -1

        def put(position: int, view: memoryview) -> None:
            nonlocal cipher, expected
            offset = shard.offset + position
            if self._key is not None:
                # Another farmer sends the shard from its beginning: so does the key stream begin.
                if cipher is None or offset != expected:
                    cipher = CtrStream(self._key, offset)
                cipher.process(view, output=view)
            expected = offset + len(view)
            self._file.write(offset - self._start, view)

        return put


class _Download:
    """What both kinds of download begin with.

    Args:
        scope (Scope): of the transfer.
        request (DownloadRequest): what is asked for.
    """

    def __init__(
        self,
        scope: Scope,
        request: DownloadRequest,
    ) -> None:
        self._scope = scope
        self.request = request
        self.pointers = PointerList(scope, request.bucket_id, request.file_id)
        self.layout: Layout
        self.key: ContentKey | None = None
        self.start = 0
        self.end = 0

    def load(self) -> list[StoredShard]:
        """Learn what there is to fetch, and prove that it can be read.

        Returns:
            list[StoredShard]: the shards that hold the range that is asked for, and before them
            those that show where they lie.
        """
        self._scope.meter.phase('preparing')
        request = self.request
        # Without decryption nothing shows whether a description is that of the file of today.
        described = request.described if request.decrypt else None
        try:
            self._learn(described)
        except (DecryptionError, IntegrityError):
            if described is None:
                raise
            # The file may have been replaced since it was listed.
            self.pointers = PointerList(self._scope, request.bucket_id, request.file_id)
            self._learn(None)
        size = self.layout.size
        end = size if request.end is None else request.end
        if not 0 <= request.start <= end <= size:
            raise ValueError(
                f'there is no range from {request.start} to {end} in {count_of(size, "byte")}'
            )
        self.start, self.end = request.start, end
        needed = self.layout.covering(self.start, self.end)
        if self.key is not None and self._cut() not in self._scope.resources.proved:
            needed = self.layout.witnesses(needed) + needed
        self._scope.meter.expect(sum(shard.size for shard in needed), len(needed))
        self._scope.meter.phase('transferring')
        return needed

    def _learn(self, described: File | None) -> None:
        self.layout = self.pointers.load(described)
        if self.request.decrypt:
            self.key = self.pointers.content_key(self.layout, key=self.request.key)

    def _cut(self) -> str:
        """Return what identifies this list of shards and their sizes."""
        cut = repr([(shard.hash, shard.size) for shard in self.layout.shards])
        return hashlib.sha256(cut.encode()).hexdigest()

    def note_proved(self) -> None:
        """Remember that the shards have the sizes that were stated, for further ranges."""
        if self.key is not None and self.layout.shards:
            self._scope.resources.note_proved(self._cut())

    def spool(self) -> ShardSpool:
        """Return a spool that is closed at the end of the transfer."""
        spool = ShardSpool(self._scope.config.temp_dir, self.layout.shard_size)
        self._scope.coordinator.clean_up(spool.close)
        return spool


class FileDownload(_Download):
    """A download to a path.

    Args:
        scope (Scope): of the transfer.
        request (DownloadRequest): what is asked for.
        destination (str | os.PathLike): the path.
    """

    def __init__(
        self,
        scope: Scope,
        request: DownloadRequest,
        destination: str | os.PathLike[str],
    ) -> None:
        super().__init__(scope, request)
        self._target = Path(destination).absolute()
        self._identity = identity(
            'download', scope.bridge, request.bucket_id, request.file_id, str(self._target)
        )
        self._journal: Journal | None = None
        self._part: UnfinishedFile | None = None
        self._begun = False
        self._complete = False
        self._checked = 0

    def run(self) -> Path:
        """Do it all; called by the driver.

        Returns:
            Path: the destination.
        """
        self._check_target()
        target = self._target
        if is_left(self._scope.config, self._identity):
            self._open_journal()
        # A link that leads nowhere takes the name as well.
        taken = not self.request.overwrite and os.path.lexists(target)
        if taken and self._state.get('whole') is None:
            raise FileExistsError(f'{target} exists already')
        needed = self.load()
        if self._journal is None and self._is_small(needed):
            self._fetch_small(needed)
        else:
            finished = self._was_finished()
            if taken and not finished:
                raise FileExistsError(f'{target} exists already')
            if not taken:
                self._fetch(needed)
        self._complete = True
        _log.info('downloaded %d bytes of file %s', self.end - self.start, self.request.file_id)
        return target

    def _check_target(self) -> None:
        if self._target.is_dir():
            raise IsADirectoryError(f'{self._target} is a folder; name the file in it')
        if self._target.exists() and not self._target.is_file():
            # A rename would replace /dev/null by a file.
            raise ValueError(f'{self._target} is not a regular file; pass it as an open file')

    def _is_small(self, needed: list[StoredShard]) -> bool:
        """Return whether there is nothing to resume: a single shard, which fits in memory."""
        return len(needed) <= 1 and self.end - self.start <= self._scope.config.piece_size

    def _fetch_small(self, needed: list[StoredShard]) -> None:
        """Fetch a shard into memory, and write the file when it is whole.

        A process that is killed leaves nothing that a journal would have to know of, as long as the
        file system has files without a name and no older file is to be replaced.
        """
        memory = MemoryFile(self.end - self.start)
        self._gather(memory, needed)
        try:
            made = atomic_file.create(self._target, memory.content, sync=self._scope.config.fsync)
        except FileExistsError:
            if not self.request.overwrite:
                raise
            made = False
        except OSError as error:
            raise_disk_error(error, str(self._target.parent))
        if not made:
            self._begin_attempt()
            part = self._open_part()
            part.write(0, memoryview(memory.content))
            self._finish(part)

    def _fetch(self, needed: list[StoredShard]) -> None:
        """Fetch the shards into the unfinished file, and give it its name."""
        self._begin_attempt()
        part = self._open_part()
        self._gather(part, needed)
        self._finish(part)

    def _gather(self, file: RandomAccessFile, needed: list[StoredShard]) -> None:
        """Bring the range that is asked for into a file."""
        storage = FileStorage(file, self.spool(), self.key, self.start, self.end)
        gather = Gather(
            self._scope,
            self.pointers,
            self.layout,
            storage,
            needed,
            arrived=lambda: self._save(storage, gather),
        )
        self._take_up(storage, gather)
        gather.ensure(len(needed))
        self.note_proved()
        self._scope.meter.phase('finishing')
        for shard in self.layout.covering(self.start, self.end):
            if not storage.shows(shard):
                storage.copy_edge(shard, self._scope.config.piece_size)

    def _finish(self, part: UnfinishedFile) -> None:
        """Give the whole file its name."""
        size = self.end - self.start
        # Who is killed before the journal is removed finds by this that nothing is left to do.
        self._note(whole=part.written(size))
        part.finish(size, fsync=self._scope.config.fsync, overwrite=self.request.overwrite)

    # -- resume ------------------------------------------------------------------------------------

    @property
    def _state(self) -> dict[str, Any]:
        return {} if self._journal is None else self._journal.state

    def _note(self, **changes: object) -> None:
        if self._journal is not None:
            self._journal.save(lambda state: state.update(changes))

    def _open_journal(self) -> None:
        self._scope.coordinator.clean_up(self._end)
        self._journal = open_journal(self._scope.config, self._identity)

    def _form(self) -> str:
        """Return what makes another local file: other shards, another range or another key."""
        form = repr((self.layout.hashes, self.start, self.end, self.key is not None))
        return hashlib.sha256(form.encode()).hexdigest()

    def _was_finished(self) -> bool:
        """Return whether the last attempt was broken off when its file had its name already."""
        state = self._state
        whole = state.get('whole')
        if whole is None or state.get('form') != self._form():
            return False
        return finished_before(self._target, state.get('part'), state.get('inode'), whole)

    def _begin_attempt(self) -> None:
        """Go on with what the last attempt left, if it is of the same form, or remove it."""
        if self._journal is None:
            self._open_journal()
        self._begun = True
        state, form = self._state, self._form()
        # One without an inode was killed before the first byte, and has nothing to go on with.
        same = state.get('form') == form and state.get('inode') is not None
        if self.request.resume and same:
            return
        discard_former(self._target, state.get('part'), state.get('inode'))
        if self._journal is not None:
            self._journal.state = {'form': form, 'total': self.end - self.start}

    def _open_part(self) -> UnfinishedFile:
        state = self._state
        part = UnfinishedFile(
            self._target,
            former=state.get('part'),
            inode=state.get('inode'),
            announce=lambda path: self._note(part=str(path), inode=None, done=[], bytes=0),
        )
        self._part = part
        if part.resumed:
            mode = state.get('mode')
            part.mode = mode if type(mode) is int and 0 <= mode <= 0o777 else None
        else:
            self._note(inode=part.inode, mode=part.mode)
        return part

    def _take_up(self, storage: FileStorage, gather: Gather) -> None:
        """Count the shards that the part file holds already, each one checked again."""
        if self._part is None or not self._part.resumed:
            return
        shards, done = self.layout.shards, self._state.get('done')
        claimed = [
            shards[index]
            for index in (done if isinstance(done, list) else ())
            if isinstance(index, int) and 0 <= index < self.layout.data_shards
        ]
        hashing = self._scope.pools.hashing
        for shard in claimed:
            # A shard that the range shows in part cannot be checked; it is fetched again.
            if storage.shows(shard):
                self._scope.coordinator.spawn(hashing, self._check_again, storage, gather, shard)
        checkable = sum(map(storage.shows, claimed))
        self._scope.coordinator.wait_until(lambda: self._checked == checkable)

    def _check_again(self, storage: FileStorage, gather: Gather, shard: StoredShard) -> None:
        """Hash a shard of the part file; a task."""
        digest = ShardDigest()
        buffer = memoryview(bytearray(min(shard.size, self._scope.config.piece_size)))
        try:
            for position in range(0, shard.size, len(buffer)):
                self._scope.coordinator.check()
                piece = buffer[: shard.size - position]
                storage.read(shard, position, piece)
                digest.update(piece)
            right = hmac.compare_digest(digest.hexdigest(), shard.hash)
        except IntegrityError:
            # The file ends before the shard does: the machine went down with it.
            right = False
        if right:
            gather.add(shard)
        with self._scope.coordinator.condition:
            self._checked += 1
            self._scope.coordinator.condition.notify_all()
        if right:
            self._scope.meter.add(shard.size)
            self._scope.meter.confirm()

    def _save(self, storage: FileStorage, gather: Gather) -> None:
        """Write the journal; called after each shard that came."""

        def change(state: dict[str, Any]) -> None:
            # The others lie in a spool, which does not outlive the transfer.
            done = [shard for shard in gather.done if storage.shows(shard)]
            state['done'] = [shard.index for shard in done]
            state['bytes'] = sum(shard.size for shard in done)

        if self._journal is not None:
            self._journal.save(change)

    def _end(self) -> None:
        """Leave or remove the part file, and its journal with it."""
        part, journal, error = self._part, self._journal, self._scope.coordinator.error
        if part is not None:
            part.close()
        keep = not self._complete and (not self._begun or self._can_be_resumed(error))
        if part is not None and not keep and not self._complete:
            part.discard()
        if journal is not None:
            if not keep:
                journal.remove()
            journal.close()

    def _can_be_resumed(self, error: BaseException | None) -> bool:
        """Return whether the same call may go on where this one stops."""
        # Wrong bytes, a full disk or a name that is taken do not get better by going on.
        hopeless = (
            IntegrityError,
            DecryptionError,
            NotFoundError,
            FileExistsError,
            IsADirectoryError,
        )
        if isinstance(error, hopeless) or (isinstance(error, ResourceError) and error.on_disk):
            return False
        journal = self._journal
        written = journal is not None and journal.written
        return self.request.resume and written and bool(self._state.get('done'))


class StreamDownload(_Download):
    """A download in order, a shard at a time."""

    def pieces(self) -> Iterator[memoryview]:
        """Yield the bytes in the clear; each piece is valid until the next one is asked for.

        Called by the driver, which is the reader's thread in :meth:`Transfers.stream`.
        """
        needed, spool = self.load(), self.spool()
        ahead = self._scope.config.look_ahead + 1
        gather = Gather(self._scope, self.pointers, self.layout, spool, needed, ahead=ahead)
        buffer = memoryview(bytearray(self._scope.config.piece_size))
        for number, shard in enumerate(needed):
            gather.ensure(number + 1)
            first = max(self.start - shard.offset, 0)
            last = min(self.end - shard.offset, shard.size)
            cipher = None if self.key is None else CtrStream(self.key, shard.offset + first)
            for position in range(first, last, len(buffer)):
                gather.react()
                piece = buffer[: last - position]
                spool.read(shard, position, piece)
                if cipher is not None:
                    cipher.process(piece, output=piece)
                yield piece
            gather.release(number + 1)
        self.note_proved()
        self._scope.meter.phase('finishing')

    def deliver(self, destination: IO[bytes]) -> IO[bytes]:
        """Write everything to a file object; called by the driver.

        Raises:
            ResourceError: If its disk is full.
        """
        for piece in self.pieces():
            view = piece
            try:
                while view:
                    # Typeshed has it that all say how many; those that are no files often do not.
                    taken: Any = destination.write(view)
                    # Raw files may take a part, or refuse by None; others say nothing or all.
                    if taken is None and not isinstance(destination, io.RawIOBase):
                        taken = len(view)
                    if not taken:
                        raise BlockingIOError(errno.EAGAIN, 'the destination accepts no data')
                    view = view[taken:]
            except OSError as error:
                raise_disk_error(error, 'the destination')
        return destination

    def collect(self) -> io.BytesIO:
        """Return everything in memory; called by the driver."""
        memory = io.BytesIO()
        self.deliver(memory)
        memory.seek(0)
        return memory
