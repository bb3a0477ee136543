"""The content of an upload: read from anywhere, encrypted, cut into shards, with parity.

==================================  ====================================================
given                               read by
==================================  ====================================================
path, file opened from one          ``preadv`` on a descriptor of its own: no shared position
bytes                               slices of a view
any other seekable binary file      seek and read under a lock
iterator, pipe, socket              once only: :func:`open_source` returns None, and the
                                    upload spools them (:mod:`storj.transfer.spool`)
==================================  ====================================================

A shard is needed twice, once to hash and once to push. As many of its pieces as the buffer pool
holds are kept in between; the others are read and encrypted again. Parity shards lie in a spool.
"""

from __future__ import annotations

import codecs
import hashlib
import hmac
import io
import os
import select
import stat
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

from storj.crypto.cipher import CtrStream
from storj.crypto.keys import ContentKey
from storj.digest import Generation, ShardDigest, new_challenges
from storj.erasure import ReedSolomon, begin_stripe, stripe_size
from storj.exception import SourceChangedError
from storj.farmer_connection import TICK
from storj.model import File, Shard
from storj.sharding import Plan, Span
from storj.transfer.scope import Scope
from storj.transfer.spool import Positional, Spool

_CHANGED = 'the source changed while it was uploaded'

_NEW_HASH = f'{_CHANGED}: a shard has a new hash'

# What the library opens in text mode.
_TEXT_FILES = (io.TextIOBase, codecs.StreamReader, codecs.StreamReaderWriter)

# A fingerprint reads this much from the beginning, the middle and the end.
_SAMPLE = 65536


class Source(Protocol):
    """Bytes of known number that can be read more than once.

    Attributes:
        size (int): how many.
    """

    size: int

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer with the bytes at an offset; from any thread.

        Raises:
            SourceChangedError: If there are fewer bytes now than there were.
            OSError: If they cannot be read.
        """

    def check_unchanged(self) -> bool:
        """Look whether the bytes are those of the beginning.

        Returns:
            bool: False if something was done to the source that may have changed its bytes.

        Raises:
            SourceChangedError: If they are seen to be others.
        """

    def close(self) -> None:
        """Close whatever this source opened by itself."""


class MemorySource:
    """Bytes in memory, which the caller promises to leave alone."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._view = memoryview(data).cast('B')
        self.size = len(self._view)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Copy bytes."""
        buffer[:] = self._view[offset : offset + len(buffer)]

    def check_unchanged(self) -> bool:
        """Return True: nothing can be seen to change."""
        return True

    def close(self) -> None:
        """Release the bytes."""
        self._view.release()


class PathSource:
    """A regular file, read through a descriptor of its own.

    Args:
        descriptor (int): owned from now on.
        start (int): the byte of the file that counts as the first.

    Attributes:
        size (int): bytes from there on.
    """

    def __init__(self, descriptor: int, start: int = 0) -> None:
        self._file = Positional(descriptor)
        self._start = start
        self._stat = self._now()
        self.size = max(0, os.fstat(descriptor).st_size - start)

    def _now(self) -> tuple[int, int, int, int]:
        status = os.fstat(self._file.descriptor)
        return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer; from any thread."""
        if self._file.read_into(self._start + offset, buffer) < len(buffer):
            raise SourceChangedError(f'{_CHANGED}: it is shorter than it was')

    def check_unchanged(self) -> bool:
        """Compare size, times and identity with those of the beginning.

        The time of the last change of anything, the one that nobody can set, does not tell a new
        mode or link from new content.
        """
        now = self._now()
        if now[:3] != self._stat[:3]:
            raise SourceChangedError(f'{_CHANGED}: its size or time of change differs')
        return now == self._stat

    def grows(self) -> bool:
        """Return whether there is something behind the end, as in the files of ``/proc``."""
        return self._file.read_into(self._start + self.size, memoryview(bytearray(1))) > 0

    def fingerprint(self) -> dict[str, object]:
        """Return what distinguishes this file, as it is now, from another or a changed one."""
        size, changed, inode, touched = self._stat
        sample = hashlib.sha256()
        buffer = memoryview(bytearray(min(_SAMPLE, self.size)))
        for offset in sorted({0, (self.size - len(buffer)) // 2, self.size - len(buffer)}):
            self.read_into(offset, buffer)
            sample.update(buffer)
        times = {'mtime_ns': changed, 'ctime_ns': touched}
        return {'size': size, **times, 'inode': inode, 'sample': sample.hexdigest()}

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._file.descriptor)


class FileSource:
    """A seekable binary file object of the caller, from its position on."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._start = file.tell()
        self._end = self._find_end()
        # A position may lie behind the end.
        self.size = max(0, self._end - self._start)

    def _find_end(self) -> int:
        # What `seek` returns is not asked: files of SFTP, and of older libraries, return nothing.
        self._file.seek(0, io.SEEK_END)
        return self._file.tell()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Seek and read under a lock."""
        with self._lock:
            self._file.seek(self._start + offset)
            while buffer:
                data = self._file.read(len(buffer))
                if not isinstance(data, (bytes, bytearray, memoryview)):
                    raise TypeError('the source is a text file; open it in binary mode')
                if not data:
                    raise SourceChangedError(f'{_CHANGED}: it is shorter than it was')
                buffer[: len(data)] = data
                buffer = buffer[len(data) :]

    def check_unchanged(self) -> bool:
        """Compare the length, which is all that is known of such a file."""
        with self._lock:
            if self._find_end() != self._end:
                raise SourceChangedError(f'{_CHANGED}: its length has changed')
        return True

    def close(self) -> None:
        """Leave the file open: it is the caller's."""


def _open_path(path: str | os.PathLike[str]) -> PathSource:
    # Opening a pipe would wait for a writer, which may never start.
    flags = os.O_RDONLY | getattr(os, 'O_BINARY', 0) | getattr(os, 'O_NONBLOCK', 0)
    descriptor = os.open(path, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f'{os.fspath(path)!r} is a folder; upload its files one by one')
        if not stat.S_ISREG(mode):
            raise _not_by_path(path, 'is not a regular file')
        source = PathSource(descriptor)
        if not source.size and source.grows():
            raise _not_by_path(path, 'does not state its size')
        return source
    except BaseException:
        os.close(descriptor)
        raise


def _not_by_path(path: str | os.PathLike[str], why: str) -> ValueError:
    name = os.fspath(path)
    return ValueError(
        f"{name!r} {why}: pass it as an open file, or pipe it into 'storj cp - storj://BUCKET/NAME'"
    )


def _plain_descriptor(file: object) -> int | None:
    """Return the descriptor whose bytes are the file object's own bytes.

    A gzip or tar member has a ``fileno`` as well: that of the packed file.
    """
    raw = getattr(file, 'raw', file) if isinstance(file, io.BufferedReader) else file
    return raw.fileno() if type(raw) is io.FileIO and raw.readable() else None


def _is_seekable(file: Any) -> bool:
    seekable = getattr(file, 'seekable', None)
    if seekable is None:
        # These say so from Python 3.11 on.
        return isinstance(file, tempfile.SpooledTemporaryFile)
    return bool(seekable())


def open_source(source: Any) -> Source | None:
    """Return a source that can be read at any offset, None if this one can be read only once.

    Raises:
        TypeError: If it is nothing that has bytes.
        ValueError: If it is a path to anything but a regular file.
        OSError: If it cannot be opened.
    """
    if isinstance(source, File):
        source = source.filename
        if not source:
            raise ValueError('the File has no filename to read from')
    if isinstance(source, (str, os.PathLike)):
        return _open_path(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return MemorySource(source)
    if isinstance(source, _TEXT_FILES):
        raise TypeError('the source is a text file; open it in binary mode')
    if hasattr(source, 'read'):
        descriptor = _plain_descriptor(source)
        if descriptor is not None:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                # What seems to be empty may be a file that the kernel makes while it is read.
                return PathSource(os.dup(descriptor), source.tell()) if status.st_size else None
        return FileSource(source) if _is_seekable(source) else None
    if isinstance(source, Iterable):
        return None
    raise TypeError(
        'a source is a path, bytes, a binary file, an iterator of bytes or a File, '
        f'not {type(source).__name__}'
    )


def _waited_for(descriptor: int, check: Callable[[], object]) -> None:
    """Wait until a pipe or a terminal has something to read, or is at its end."""
    readable = select.poll()
    readable.register(descriptor, select.POLLIN)
    while not readable.poll(1000 * TICK):
        check()


def once(
    source: Any, piece_size: int, check: Callable[[], object]
) -> Iterator[bytes | bytearray | memoryview]:
    """Yield the bytes of a source that can be read only once, in pieces of any size.

    The writer of a pipe may keep its reader waiting forever, and a thread that reads cannot
    be interrupted. So nothing is read from one before there is something to read.

    Args:
        source (IO[bytes] | Iterable[bytes]): what is read. An iterator, or a file in front of
            which others stand, may still take as long as it likes.
        piece_size (int): bytes to read at a time.
        check (Callable): called several times a second while a pipe is silent; raises to stop.

    Raises:
        TypeError: If it yields anything but bytes.
    """
    descriptor = _plain_descriptor(source) if hasattr(select, 'poll') else None

    def read() -> Any:
        if descriptor is None:
            return source.read(piece_size)
        _waited_for(descriptor, check)
        # All that is there now; `read` of a buffered file waits until the piece is full.
        return getattr(source, 'read1', source.read)(piece_size)

    for piece in iter(read, b'') if hasattr(source, 'read') else source:
        if piece is None:
            raise TypeError('the source does not block; set it to blocking mode')
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise TypeError(f'the source yields {type(piece).__name__} and not bytes')
        yield piece


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
        """Return its record for the bridge."""
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
            raise SourceChangedError(_NEW_HASH)

    def check_source(self) -> None:
        """Raise SourceChangedError if the source is not what was read at the beginning."""
        if self._source.check_unchanged():
            return
        # It got another mode or link, or was changed and its time set back.
        data = {i: record.hash for i, record in self.records.items() if not record.span.parity}
        if not self.hash_again(data):
            raise SourceChangedError(_NEW_HASH)

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
        step = stripe_size(plan.shards, plan.shard_size, self._scope.config.piece_size)
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
        piece = begin_stripe(buffer, span.size - position)
        if piece:
            self._source.read_into(span.offset + position, piece)
            if self._key is not None:
                CtrStream(self._key, span.offset + position).process(piece, output=piece)
