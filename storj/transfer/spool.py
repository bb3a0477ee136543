"""The local files that transfers write, at offsets and from several threads.

A *spool* is a temporary file without a name: parity, a source that can be read only once, the
shards of a stream. What lies in it is ciphertext, or data that is the user's own to read: the file
is made with mode 0600 and unlinked at once, so nobody else can open it and a killed process leaves
nothing behind.

The *unfinished file* of a download lies beside its destination as ``NAME.part`` and gets its name
at the end. It is sparse: each shard is written at its offset, whenever it comes. Only the user
can read it while it grows; when it is complete it gets the mode of an ordinary new file, or of the
file that it replaces. Another ``NAME.part`` is left alone. The journal records the name before the
file is made, so that a killed process leaves no unknown file behind; from then on the inode
identifies it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from storj.exception import IntegrityError
from storj.system import atomic_file
from storj.system.shortage import shortage
from storj.transfer.fetch import PieceWriter, StoredShard


def raise_disk_error(error: OSError, place: str) -> NoReturn:
    """Raise what a local file that could not be written means; called where it is handled."""
    missing = shortage(error, place)
    if missing is not None:
        raise missing from error
    # Not from itself: who follows the causes would never come to an end.
    raise error


class Positional:
    """An open descriptor, read and written at offsets without a shared position.

    The caller that opened it closes it.

    Args:
        descriptor (int): of a regular file.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._lock = threading.Lock()

    if hasattr(os, 'preadv'):

        def _read(self, offset: int, buffer: memoryview) -> int:
            return os.preadv(self.descriptor, [buffer], offset)

        def _write(self, offset: int, data: memoryview) -> int:
            return os.pwrite(self.descriptor, data, offset)

    else:  # Windows reads and writes at the descriptor's position only.

        def _read(self, offset: int, buffer: memoryview) -> int:
            with self._lock:
                os.lseek(self.descriptor, offset, os.SEEK_SET)
                data = os.read(self.descriptor, len(buffer))
            buffer[: len(data)] = data
            return len(data)

        def _write(self, offset: int, data: memoryview) -> int:
            os.lseek(self.descriptor, offset, os.SEEK_SET)
            return os.write(self.descriptor, data)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill a buffer from an offset.

        Returns:
            int: bytes read; fewer than the buffer holds only at the end of the file.
        """
        done = 0
        while done < len(buffer):
            count = self._read(offset + done, buffer[done:])
            if not count:
                break
            done += count
        return done

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of the data at an offset.

        One thread at a time: file systems let no two write to one file, and those that wait for
        the kernel's lock do so in a loop that takes their core from all others.
        """
        view = memoryview(data)
        with self._lock:
            while view:
                count = self._write(offset, view)
                offset += count
                view = view[count:]


class MemoryFile:
    """A small file that is kept in memory until all of it is there.

    Args:
        size (int): bytes.

    Attributes:
        content (bytearray): all of them.
    """

    def __init__(self, size: int) -> None:
        self.content = bytearray(size)

    def write(self, offset: int, data: memoryview) -> None:
        """Write at an offset."""
        self.content[offset : offset + len(data)] = data

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer from an offset."""
        buffer[:] = memoryview(self.content)[offset : offset + len(buffer)]


class SeekableFile(io.RawIOBase):
    """A binary file that is only read, from any offset; subclasses say where its bytes are.

    Args:
        read_at (Callable[[int, memoryview], int]): fills a buffer from an offset as far as it goes
            at once; returns how many bytes, 0 at the end.
        size (Callable[[], int]): returns the bytes of the file.
    """

    def __init__(self, read_at: Callable[[int, memoryview], int], size: Callable[[], int]) -> None:
        self._read_at = read_at
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size()}
        self._position = max(0, base[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read from the position on."""
        count = self._read_at(self._position, memoryview(buffer).cast('B'))
        self._position += count
        return count


class Spool:
    """A sparse temporary file that several threads write and read at offsets.

    Args:
        folder (str | os.PathLike | None): where; the system's temporary folder by default.

    Attributes:
        size (int): bytes up to the end of what was written.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self._folder = os.fspath(folder) if folder is not None else tempfile.gettempdir()
        try:
            # Closed by `close`, a clean-up of the transfer.
            self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115
        except OSError as error:
            raise_disk_error(error, self._folder)
        self._positional = Positional(self._file.fileno())
        self._lock = threading.Lock()
        self.size = 0

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write at an offset.

        Raises:
            ResourceError: If the disk is full.
        """
        try:
            self._positional.write(offset, data)
        except OSError as error:
            raise_disk_error(error, self._folder)
        with self._lock:
            self.size = max(self.size, offset + len(data))

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer from an offset.

        Raises:
            IntegrityError: If nothing was written there.
        """
        if self._positional.read_into(offset, buffer) < len(buffer):
            raise IntegrityError('a temporary file is shorter than what was written to it')

    def check_unchanged(self) -> bool:
        """Return True: nobody else can reach the file."""
        return True

    def close(self) -> None:
        """Give the space back."""
        self._file.close()


class ShardSpool:
    """Whole shards as they are stored at farmers, in a spool that is made when one comes.

    Safe to use from all threads.

    Args:
        folder (str | os.PathLike | None): as of :class:`Spool`.
        slot_size (int): bytes of the longest shard. The space of a shard that is dropped is the
            next one's.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, slot_size: int) -> None:
        self._folder = folder
        self._slot_size = slot_size
        self._lock = threading.Lock()
        self._spool: Spool | None = None
        self._slots: dict[int, int] = {}
        self._free: list[int] = []

    def writer(self, shard: StoredShard) -> PieceWriter:
        """Return what takes a shard.

        Raises:
            ResourceError: If the disk is full.
        """
        with self._lock:
            if self._spool is None:
                self._spool = Spool(self._folder)
            spool = self._spool
            # A shard that comes a second time keeps its slot: nobody reads it before it is whole.
            if shard.index not in self._slots:
                self._slots[shard.index] = self._free.pop() if self._free else len(self._slots)
            start = self._slots[shard.index] * self._slot_size

        def put(position: int, view: memoryview) -> None:
            spool.write(start + position, view)

        return put

    def read(self, shard: StoredShard, position: int, buffer: memoryview) -> None:
        """Fill the buffer with a piece of a shard.

        Raises:
            IntegrityError: If nothing was written there.
        """
        with self._lock:
            spool, slot = self._spool, self._slots[shard.index]
        if spool is None:
            raise IntegrityError('a temporary file is gone')
        spool.read_into(slot * self._slot_size + position, buffer)

    def drop(self, shard: StoredShard) -> None:
        """Forget a shard."""
        with self._lock:
            slot = self._slots.pop(shard.index, None)
            if slot is not None:
                self._free.append(slot)

    def close(self) -> None:
        """Give the space back."""
        with self._lock:
            if self._spool is not None:
                self._spool.close()


_FLAGS = os.O_RDWR | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_BINARY', 0)


class UnfinishedFile:
    """A file that is being written, by several threads, at offsets.

    Args:
        target (Path): the name it gets.
        former (str | None): path of the part file of an interrupted download.
        inode (int | None): that file's number; another file of that name is not ours.
        announce (Callable[[Path], object]): called with the path of a new file before it is made.

    Raises:
        ResourceError: If the disk is full.
        OSError: If the folder cannot be written.

    Attributes:
        path (Path): of the unfinished file.
        resumed (bool): whether it is the one of the interrupted download.
        mode (int | None): permissions that it gets at the end.
    """

    def __init__(
        self,
        target: Path,
        *,
        former: str | None = None,
        inode: int | None = None,
        announce: Callable[[Path], object] = lambda path: None,
    ) -> None:
        self.target = target
        self.mode: int | None = None
        self.path = target
        self._descriptor = -1
        reopened = None if inode is None else _reopen(target, former, inode)
        self.resumed = reopened is not None
        if reopened is not None:
            self.path, self._descriptor = reopened
        else:
            self._create(announce)
        self._file = Positional(self._descriptor)
        self._status = os.fstat(self._descriptor)

    def _create(self, announce: Callable[[Path], object]) -> None:
        names = [f'{self.target.name}.part']
        names += [f'{self.target.name}.{secrets.token_hex(4)}.part' for _ in range(8)]
        # A name may be as long as the file system allows, and then no longer one lies beside it.
        names += [f'{secrets.token_hex(16)}.part']
        for name in names:
            self.path = self.target.with_name(name)
            if os.path.lexists(self.path):
                continue
            announce(self.path)
            try:
                # Made with the mode of any new file, to learn it from the umask, and closed to
                # others before the first byte is written.
                self._descriptor = os.open(self.path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                continue
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG and name is not names[-1]:
                    continue
                raise_disk_error(error, str(self.target.parent))
            self.mode = stat.S_IMODE(os.fstat(self._descriptor).st_mode)
            self._set_mode(0o600)
            return
        raise FileExistsError(f'{self.target}.part exists and belongs to another download')

    def _set_mode(self, mode: int) -> None:
        # Windows, and some file systems everywhere, know no modes.
        if hasattr(os, 'fchmod'):
            with contextlib.suppress(OSError):
                os.fchmod(self._descriptor, mode)

    @property
    def inode(self) -> int:
        """The file's number, for the journal."""
        return self._status.st_ino

    def _is_there(self) -> bool:
        """Return whether the name is still that of the file."""
        try:
            return os.path.samestat(self._status, self.path.lstat())
        except OSError:
            return False

    def write(self, offset: int, data: memoryview) -> None:
        """Write at an offset.

        Raises:
            ResourceError: If the disk is full.
        """
        try:
            self._file.write(offset, data)
        except OSError as error:
            raise_disk_error(error, str(self.target.parent))

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer from an offset.

        Raises:
            IntegrityError: If the file is shorter than what was written.
        """
        if self._file.read_into(offset, buffer) < len(buffer):
            raise IntegrityError(f'{self.path} was changed while it was written')

    def written(self, size: int) -> int:
        """Return when its last byte was written, in nanoseconds, for the journal.

        Args:
            size (int): bytes that it must have.
        """
        if size == 0:
            os.ftruncate(self._descriptor, 0)
        return os.fstat(self._descriptor).st_mtime_ns

    def finish(self, size: int, *, fsync: bool, overwrite: bool) -> None:
        """Give the file its name.

        Args:
            size (int): bytes that it must have.
            fsync (bool): whether to force it to the disk first.
            overwrite (bool): whether it may replace a file of that name.

        Raises:
            IntegrityError: If it has another size, or was removed.
            FileExistsError: If there is a file of that name by now.
        """
        if os.fstat(self._descriptor).st_size != size or not self._is_there():
            raise IntegrityError(f'{self.path} was changed while it was written')
        mode = self.mode
        # It need not be there, or may be a link that leads nowhere.
        with contextlib.suppress(OSError):
            # Nobody is to act as its owner by running what comes from elsewhere.
            mode = stat.S_IMODE(self.target.stat().st_mode) & ~(stat.S_ISUID | stat.S_ISGID)
        if mode is not None:
            self._set_mode(mode)
        if fsync:
            os.fsync(self._descriptor)
        # Windows renames no file that is open.
        self.close()
        name = atomic_file.replace if overwrite else atomic_file.publish
        name(self.path, self.target, sync=fsync)

    def close(self) -> None:
        """Close the file and leave it where it is."""
        descriptor, self._descriptor = self._descriptor, -1
        # Closed even if that fails, as it does on network file systems that are full.
        if descriptor >= 0:
            os.close(descriptor)

    def discard(self) -> None:
        """Remove the unfinished file."""
        if self._is_there():
            self.path.unlink()


def _former_path(target: Path, former: object) -> Path | None:
    """Return where the part file of an interrupted download lies, None if it cannot be there.

    A journal is no licence to touch any file: it must lie beside the target, as we made it.
    """
    if not isinstance(former, str) or '\0' in former:
        return None
    path = Path(former)
    return path if path.parent == target.parent and path.suffix == '.part' else None


def _reopen(target: Path, former: str | None, inode: int | None) -> tuple[Path, int] | None:
    """Open the part file of an interrupted download, if it is still there and ours."""
    path = _former_path(target, former)
    if path is None:
        return None
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return None
    status = os.fstat(descriptor)
    # One that was named and not yet written down as ours is empty.
    ours = status.st_size == 0 if inode is None else status.st_ino == inode
    if stat.S_ISREG(status.st_mode) and ours and status.st_nlink == 1:
        return path, descriptor
    os.close(descriptor)
    return None


def discard_former(target: Path, former: str | None, inode: int | None) -> None:
    """Remove the part file of an interrupted download that is of no use any more."""
    reopened = _reopen(target, former, inode)
    if reopened is not None:
        path, descriptor = reopened
        # Windows removes no file that is open.
        os.close(descriptor)
        path.unlink(missing_ok=True)


def finished_before(
    target: Path, former: str | None, inode: int | None, written: int | None
) -> bool:
    """Return whether an interrupted download got as far as its name; then no other name is left.

    Args:
        target (Path): the name it was to get.
        former (str | None): path of its part file.
        inode (int | None): that file's number.
        written (int | None): when its last byte was written, in nanoseconds.
    """
    path = _former_path(target, former)
    with contextlib.suppress(OSError):
        # Two names of one file, whatever it has become: it keeps the one that was asked for.
        if path is not None and path.lstat().st_ino == inode == target.lstat().st_ino:
            path.unlink()
    return is_file(target, inode, written)


def is_file(path: Path, inode: object, written: object) -> bool:
    """Return whether a path is that of a regular file with this number, unchanged since a moment.

    The number alone is not enough: file systems give that of a removed file to the next one.
    """
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and (status.st_ino, status.st_mtime_ns) == (inode, written)
