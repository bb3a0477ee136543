"""Downloads: to a file, to anything that can be written, and as a stream.

A download to a path goes to a part file beside it, shard by shard in whatever order they come, and
can be resumed. Everything else gets its bytes in order, a shard at a time and each one checked,
from a stream that fetches some shards ahead of its reader into a spool.

The HMAC proves list and key before the first shard is fetched, and each shard is proved by its
hash; so whatever is delivered is right, even if the download fails later on.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import io
import logging
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Union

from storj.crypto.cipher import CtrStream
from storj.crypto.keys import ContentKey
from storj.digest import ShardDigest
from storj.exception import DecryptionError, IntegrityError, NotFoundError, TransferError
from storj.transfer.context import Context
from storj.transfer.coordinator import Coordinator
from storj.transfer.fetch import Fetcher, ShardLost
from storj.transfer.gather import Gather, Window
from storj.transfer.journal import Journal, identity, open_journal
from storj.transfer.part import PartFile, discard_former, finished_before
from storj.transfer.pointers import Layout, PointerBook, StoredShard
from storj.transfer.progress import Meter
from storj.transfer.spool import Spool, raise_disk_error

__all__ = ('Destination', 'DownloadRequest', 'FileDownload', 'StreamDownload')

_log = logging.getLogger(__name__)

#: Where a download can go.
Destination = Union[str, 'os.PathLike[str]', IO[bytes], None]


@dataclass(frozen=True)
class DownloadRequest:
    """What is asked for; see :meth:`storj.transfer.Transfers.download`."""

    bucket_id: str
    file_id: str
    start: int = 0
    end: int | None = None
    decrypt: bool = True
    resume: bool = True
    overwrite: bool = True
    key: ContentKey | None = None


class _Download:
    """What both kinds of download begin with.

    Args:
        context (Context): of the engine.
        coordinator (Coordinator): of the transfer.
        meter (Meter): of the transfer.
        request (DownloadRequest): what is asked for.
    """

    def __init__(
        self,
        context: Context,
        coordinator: Coordinator[Any],
        meter: Meter,
        request: DownloadRequest,
    ) -> None:
        self.context = context
        self.coordinator = coordinator
        self.meter = meter
        self.request = request
        self.book = PointerBook(context, coordinator, meter, request.bucket_id, request.file_id)
        self.layout: Layout
        self.key: ContentKey | None = None
        self.start = 0
        self.end = 0

    def load(self) -> list[StoredShard]:
        """Learn what there is to fetch, and prove that it can be read.

        Returns:
            list[StoredShard]: the shards that hold the range that is asked for.
        """
        self.meter.phase('preparing')
        request = self.request
        self.layout = self.book.load()
        size = self.layout.size
        end = size if request.end is None else request.end
        if not 0 <= request.start <= end <= size:
            raise ValueError(f'there is no range from {request.start} to {end} in {size} bytes')
        self.start, self.end = request.start, end
        if request.decrypt:
            self.key = self.book.content_key(self.layout, key=request.key)
        needed = self.layout.covering(self.start, self.end)
        self.meter.expect(sum(shard.size for shard in needed), len(needed))
        self.meter.phase('transferring')
        return needed


class _JournalledGather(Gather):
    """A gather that tells of each shard that came."""

    def __init__(
        self,
        context: Context,
        book: PointerBook,
        layout: Layout,
        window: Window,
        note: Callable[[Gather], object],
    ) -> None:
        super().__init__(context, book, layout, window)
        self._note = note

    def arrived(self, shard: StoredShard) -> None:
        """Count the shard and write the journal."""
        super().arrived(shard)
        self._note(self)


class FileDownload(_Download):
    """A download to a path.

    Args:
        context (Context): of the engine.
        coordinator (Coordinator[Path]): of the transfer.
        meter (Meter): of the transfer.
        request (DownloadRequest): what is asked for.
        destination (str | os.PathLike): the path.
    """

    def __init__(
        self,
        context: Context,
        coordinator: Coordinator[Any],
        meter: Meter,
        request: DownloadRequest,
        destination: str | os.PathLike[str],
    ) -> None:
        super().__init__(context, coordinator, meter, request)
        self._target = Path(destination).absolute()
        self._journal: Journal | None = None
        self._part: PartFile | None = None
        self._begun = False
        self._complete = False
        self._gather: Gather | None = None
        self._checked = 0
        self._saving = threading.Lock()

    def run(self) -> Path:
        """Do it all; called by the driver.

        Returns:
            Path: the destination.
        """
        target, request = self._target, self.request
        if target.is_dir():
            raise IsADirectoryError(f'{target} is a folder; name the file in it')
        if target.exists() and not target.is_file():
            # A rename would put a file in the place of /dev/null.
            raise ValueError(f'{target} is no regular file; hand it over opened')
        self._open_journal()
        # A link that leads nowhere takes the name as well.
        taken = not request.overwrite and os.path.lexists(target)
        if taken and not self._state.get('whole'):
            raise FileExistsError(f'{target} exists already')
        needed = self.load()
        finished = self._was_finished()
        if taken and finished:
            self._complete = True
            return target
        if taken:
            raise FileExistsError(f'{target} exists already')
        self._begin_attempt()
        part = self._open_part()
        window = Window(part, self.key, self.start, self.end)
        gather = _JournalledGather(self.context, self.book, self.layout, window, self._save)
        self._gather = gather
        self._take_up(window, gather)
        gather.ensure(needed)
        self.meter.phase('finishing')
        # Who is killed before the journal is removed finds by this that nothing is left to do.
        self._note(whole=True)
        part.finish(
            self.end - self.start, fsync=self.context.config.fsync, overwrite=request.overwrite
        )
        self._complete = True
        _log.info('downloaded %d bytes of file %s', self.end - self.start, request.file_id)
        return target

    # -- resume ------------------------------------------------------------------------------------

    @property
    def _state(self) -> dict[str, Any]:
        return {} if self._journal is None else self._journal.state

    def _note(self, **changes: object) -> None:
        if self._journal is not None:
            self._journal.state.update(changes)
            self._journal.save()

    def _open_journal(self) -> None:
        request = self.request
        self.coordinator.clean_up(self._end)
        self._journal = open_journal(
            self.context.config,
            identity(
                'download',
                self.context.bridge,
                request.bucket_id,
                request.file_id,
                str(self._target),
            ),
        )

    def _form(self) -> str:
        """Return what makes another local file: other shards, another range or another key."""
        form = repr((self.layout.hashes, self.start, self.end, self.key is not None))
        return hashlib.sha256(form.encode()).hexdigest()

    def _was_finished(self) -> bool:
        """Return whether the last attempt was broken off when its file had its name already."""
        state = self._state
        whole = state.get('whole') and state.get('form') == self._form()
        return bool(whole) and finished_before(self._target, state.get('part'), state.get('inode'))

    def _begin_attempt(self) -> None:
        """Go on with what the last attempt left, if it is of the same form, or remove it."""
        self._begun = True
        state, form = self._state, self._form()
        # One without an inode was killed before the first byte.
        same = state.get('form') == form and state.get('inode') is not None
        if self.request.resume and same:
            return
        discard_former(self._target, state.get('part'), state.get('inode'))
        if self._journal is not None:
            self._journal.state = {'form': form, 'total': self.end - self.start}

    def _open_part(self) -> PartFile:
        state = self._state
        part = PartFile(
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

    def _take_up(self, window: Window, gather: Gather) -> None:
        """Count the shards that the part file holds already, each one checked again."""
        if self._part is None or not self._part.resumed:
            return
        shards, done = self.layout.shards, self._state.get('done')
        claimed = [
            shards[index]
            for index in (done if isinstance(done, list) else ())
            if isinstance(index, int) and 0 <= index < self.layout.data_shards
        ]
        hashing = self.context.pools.hashing
        for shard in claimed:
            # A shard that the range shows in part cannot be checked; it is fetched again.
            if window.shows(shard):
                self.coordinator.spawn(hashing, self._check_again, window, gather, shard)
        checkable = sum(map(window.shows, claimed))
        self.coordinator.wait_until(lambda: self._checked == checkable)

    def _check_again(self, window: Window, gather: Gather, shard: StoredShard) -> None:
        """Hash a shard of the part file; a task."""
        digest = ShardDigest()
        buffer = memoryview(bytearray(min(shard.size, self.context.config.piece_size)))
        try:
            for position in range(0, shard.size, len(buffer)):
                self.coordinator.check()
                piece = buffer[: shard.size - position]
                window.read_stored(shard, position, piece)
                digest.update(piece)
            right = hmac.compare_digest(digest.hexdigest(), shard.hash)
        except IntegrityError:
            # The file ends before the shard does: the machine went down with it.
            right = False
        with self.coordinator.condition:
            self._checked += 1
            if right:
                gather.done.add(shard.index)
            self.coordinator.condition.notify_all()
        if right:
            self.meter.add(shard.size)
            self.meter.confirm()

    def _save(self, gather: Gather) -> None:
        """Write the journal; called after each shard that came."""
        with self._saving:
            done = sorted(gather.done)
            self._note(done=done, bytes=sum(self.layout.shards[index].size for index in done))

    def _end(self) -> None:
        """Leave or remove the part file, and its journal with it."""
        part, journal, error = self._part, self._journal, self.coordinator.error
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
        if isinstance(error, hopeless) or (
            isinstance(error, TransferError) and isinstance(error.__cause__, OSError)
        ):
            return False
        journal = self._journal
        written = journal is not None and journal.written
        done = self._gather is not None and bool(self._gather.done)
        return self.request.resume and written and done


class StreamDownload(_Download):
    """A download in order, a shard at a time."""

    def pieces(self) -> Iterator[memoryview]:
        """Yield the bytes in the clear; each piece is valid until the next one is asked for.

        Called by the driver, which is the reader's thread in :meth:`Transfers.stream`.
        """
        needed = self.load()
        ring = _Ring(self, needed)
        buffer = memoryview(bytearray(self.context.config.piece_size))
        for number, shard in enumerate(needed):
            read = ring.wait(number)
            first = max(self.start - shard.offset, 0)
            last = min(self.end - shard.offset, shard.size)
            cipher = None if self.key is None else CtrStream(self.key, shard.offset + first)
            for position in range(first, last, len(buffer)):
                self.coordinator.check()
                piece = buffer[: last - position]
                read(position, piece)
                if cipher is not None:
                    cipher.process(piece, output=piece)
                yield piece
            ring.release(number)
        self.meter.phase('finishing')

    def deliver(self, destination: IO[bytes]) -> IO[bytes]:
        """Write everything to a file object; called by the driver.

        Raises:
            TransferError: if its disk is full.
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
                        raise BlockingIOError(errno.EAGAIN, 'the destination takes nothing')
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


_Read = Callable[[int, memoryview], object]


class _Ring:
    """Some shards ahead of the reader, each in a slot of one spool.

    Args:
        download (StreamDownload): loaded.
        needed (list[StoredShard]): the shards to read, in order.
    """

    def __init__(self, download: StreamDownload, needed: list[StoredShard]) -> None:
        self._download = download
        self._context = download.context
        self._coordinator = download.coordinator
        self._needed = needed
        self._slots = min(self._context.config.look_ahead + 1, max(1, len(needed)))
        self._slot_size = max((shard.size for shard in needed), default=0)
        self._spool = Spool(self._context.config.temp_dir)
        self._coordinator.clean_up(self._spool.close)
        self._fetcher = Fetcher(self._context, download.book)
        self._arrived: set[int] = set()
        self._lost: dict[int, BaseException | None] = {}
        self._rescue: tuple[Gather, Spool] | None = None
        for number in range(self._slots):
            self._start(number)

    def _start(self, number: int) -> None:
        if number < len(self._needed):
            self._coordinator.spawn(self._context.pools.shards, self._fetch, number)

    def _fetch(self, number: int) -> None:
        """Fetch one shard into its slot; a task."""
        spool, start = self._spool, number % self._slots * self._slot_size

        def put(position: int, view: memoryview) -> None:
            spool.write(start + position, view)

        lost: ShardLost | None = None
        try:
            self._fetcher.fetch(self._needed[number], put, cancelled=self._coordinator.stopped)
        except ShardLost as error:
            lost = error
        with self._coordinator.condition:
            if lost is None:
                self._arrived.add(number)
            else:
                self._lost[number] = lost.__cause__
            self._coordinator.condition.notify_all()
        if lost is None:
            self._download.meter.confirm()

    def wait(self, number: int) -> _Read:
        """Wait for a shard, and return what reads it as it is stored."""
        self._coordinator.wait_until(lambda: number in self._arrived or number in self._lost)
        if number in self._lost:
            return self._rescued(number)
        start = number % self._slots * self._slot_size

        def read(position: int, buffer: memoryview) -> None:
            self._spool.read_into(start + position, buffer)

        return read

    def _rescued(self, number: int) -> _Read:
        """Compute a lost shard from the others, which takes D of them, in a spool of their own."""
        download, shard = self._download, self._needed[number]
        if self._rescue is None:
            spool = Spool(self._context.config.temp_dir)
            self._coordinator.clean_up(spool.close)
            window = Window(spool, None, 0, download.layout.size)
            self._rescue = Gather(self._context, download.book, download.layout, window), spool
        gather, spool = self._rescue
        gather.lose(shard.index, self._lost[number])
        gather.ensure([shard])

        def read(position: int, buffer: memoryview) -> None:
            spool.read_into(shard.offset + position, buffer)

        return read

    def release(self, number: int) -> None:
        """Give a slot to the next shard."""
        self._start(number + self._slots)
