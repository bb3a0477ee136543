"""Where the bytes of an upload come from, made readable at any offset by several threads at once.

==================================  ====================================================
given                               read by
==================================  ====================================================
path, file opened from one          ``preadv`` on a descriptor of its own: no shared position
bytes                               slices of a view
any other seekable binary file      seek and read under a lock
iterator, pipe, socket              not again: :func:`open_source` returns None, and the
                                    upload spools them (:mod:`storj.transfer.spool`)
==================================  ====================================================
"""

from __future__ import annotations

import codecs
import hashlib
import io
import mimetypes
import os
import select
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypedDict, Union

from storj.exception import SourceChangedError
from storj.farmer_connection import TICK
from storj.model import File, Frame
from storj.transfer.spool import Positional

__all__ = (
    'PathSource',
    'Source',
    'SourceLike',
    'UploadOptions',
    'UploadRequest',
    'name_of',
    'once',
    'open_source',
)

#: What can be uploaded.
SourceLike = Union[
    str, 'os.PathLike[str]', bytes, bytearray, memoryview, IO[bytes], Iterable[bytes], File
]

_CHANGED = 'the source changed while it was uploaded'

# What the library opens in text mode.
_TEXT_FILES = (io.TextIOBase, codecs.StreamReader, codecs.StreamReaderWriter)

# A fingerprint reads this much from the beginning, the middle and the end.
_SAMPLE = 65536


class UploadOptions(TypedDict, total=False):
    """How a file is stored: keyword arguments of every upload.

    Attributes:
        name (str | None): of the file, any text; by default the last component of the source's
            path, and without one it must be given.
        mimetype (str | None): by default that of a :class:`~storj.model.File`; else it is left to
            the bridge, or guessed from a name that is stored in the clear.
        encrypt (bool): whether the content is encrypted with the client's encryption key
            (mnemonic); True by default.
        encrypt_name (bool | None): whether the name is too; by default it is, unless the client was
            made with ``plain_names``.
        parity (bool | None): whether parity shards are added; as configured by default.
        resume (bool): whether a broken-off upload of the same file is continued, and this one can
            be; True by default.
        overwrite (bool): whether a file of the same name is replaced; False by default.
    """

    name: str | None
    mimetype: str | None
    encrypt: bool
    encrypt_name: bool | None
    parity: bool | None
    resume: bool
    overwrite: bool


@dataclass(frozen=True)
class UploadRequest:
    """An upload that is asked for: where from, where to, and its :class:`UploadOptions`."""

    bucket_id: str
    source: SourceLike
    frame: Frame | str | None = None
    existing: Sequence[str] | None = None
    name: str | None = None
    mimetype: str | None = None
    encrypt: bool = True
    encrypt_name: bool | None = None
    parity: bool | None = None
    resume: bool = True
    overwrite: bool = False

    def file_name(self) -> str:
        """Return the name of the file, in the clear.

        Raises:
            ValueError: If none is given and the source has none of its own.
            TypeError: If it is no text.
        """
        name = name_of(self.source) if self.name is None else self.name
        if name is None or name == '':
            raise ValueError('the source has no name of its own; give one')
        if not isinstance(name, str):
            raise TypeError(f'the name of a file is text, not {type(name).__name__}')
        return name

    @property
    def has_encrypted_name(self) -> bool:
        """Whether the bridge gets the name encrypted."""
        return self.encrypt and self.encrypt_name is not False

    def guessed_mimetype(self) -> str | None:
        """Return the type for the entry; an encrypted name is not given away by its ending."""
        if self.mimetype is not None:
            return self.mimetype
        if isinstance(self.source, File) and self.source.mimetype:
            return self.source.mimetype
        if self.has_encrypted_name:
            return None
        return mimetypes.guess_type(self.file_name())[0]


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
            raise SourceChangedError(f'{_CHANGED}: its size or time of change is another')
        return now == self._stat

    def grows(self) -> bool:
        """Return whether there is something behind the end, as in the files of ``/proc``."""
        return self._file.read_into(self._start + self.size, memoryview(bytearray(1))) > 0

    def fingerprint(self) -> dict[str, object]:
        """Return what tells this file, as it is now, from another or a changed one."""
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
        """Compare the length, which is all that such a file tells."""
        with self._lock:
            if self._find_end() != self._end:
                raise SourceChangedError(f'{_CHANGED}: its length is another')
        return True

    def close(self) -> None:
        """Leave the file open: it is the caller's."""


def _open_path(path: str | os.PathLike[str]) -> PathSource:
    # Opening a pipe would wait for its writer, whom nobody may ever start.
    flags = os.O_RDONLY | getattr(os, 'O_BINARY', 0) | getattr(os, 'O_NONBLOCK', 0)
    descriptor = os.open(path, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f'{os.fspath(path)!r} is a folder; upload its files one by one')
        if not stat.S_ISREG(mode):
            raise _not_by_path(path, 'is no regular file')
        source = PathSource(descriptor)
        if not source.size and source.grows():
            raise _not_by_path(path, 'does not tell its size')
        return source
    except BaseException:
        os.close(descriptor)
        raise


def _not_by_path(path: str | os.PathLike[str], why: str) -> ValueError:
    name = os.fspath(path)
    return ValueError(
        f"{name!r} {why}: hand it over opened, or pipe it into 'storj cp - storj://BUCKET/NAME'"
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
        ValueError: If it is a path to something else than a regular file.
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

    Whoever writes into a pipe may keep its reader waiting forever, and a thread that reads cannot
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


def name_of(source: Any) -> str | None:
    """Return the name that a source suggests: the last component of its path.

    A path given with ``/`` in front is a place on this machine; only a name that the caller states
    may contain a slash on the network.
    """
    if isinstance(source, File):
        source = source.filename
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
    else:
        path = getattr(source, 'name', None)
    # The name of a file opened by its descriptor is a number, of a temporary one perhaps bytes.
    if not isinstance(path, str) or not path or path.startswith('<'):
        return None
    return Path(path).name or None
