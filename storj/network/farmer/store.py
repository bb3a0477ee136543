"""Where a farmer keeps the bytes of its shards.

::

    PATH/
      shards/ab/abcdef...          one file per shard, named by its hash
      incoming/abcdef....<random>  a shard that is still arriving; removed at the next start
      quarantine/ended/abcdef...   a shard that nobody needs, until it is removed
      quarantine/bad/abcdef...     what is left of one that turned out to be damaged

A shard exists if and only if its file has its final name: it is written under a temporary
one and renamed once its hash is right. The store knows bytes, sizes and hashes; who may store and
fetch them, and when one is dropped, is decided elsewhere.
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, get_args

from storj.digest import ripemd160
from storj.exception import NetworkSetupError, StorjError
from storj.network.node.identity import is_node_id
from storj.sharding import MIN_SHARD_SIZE
from storj.system import atomic_file

__all__ = (
    'FREE_SPACE_KEPT',
    'KINDS',
    'Kind',
    'NoSpaceLeftError',
    'NullStore',
    'ShardStore',
    'ShardWriter',
    'StoreError',
)

logger = logging.getLogger(__name__)

#: Bytes of the file system that a farmer leaves to others (protocol reference, section 8.1).
FREE_SPACE_KEPT = 262144000
#: Why a shard is in quarantine: nobody needs it, or its bytes are wrong.
Kind = Literal['ended', 'bad']
KINDS: tuple[Kind, ...] = get_args(Kind)

# Two hex digits of the hash name a folder: 256 folders keep each one small enough for file systems
# that search a folder from its beginning.

# Bytes that are read in one go.
_PIECE = 1024 * 1024
# Errors that concern one damaged file, and not the whole disk.
_DAMAGE = (errno.EIO, errno.EBADMSG, getattr(errno, 'EUCLEAN', errno.EIO))


class StoreError(StorjError):
    """A shard cannot be read or written.

    Check the disk under the farmer's path.
    """


class NoSpaceLeftError(StoreError):
    """The farmer's size, or the disk under it, is used up.

    Give the farmer a larger size, or start another one.
    """


class ShardStore:
    """Shards as files in a folder, up to a size.

    Methods are called from one thread, except those of the writers, readers and checks that it
    hands out.

    Args:
        path (Path): folder of the farmer; made when missing.
        capacity (int | None): bytes that may be stored; None for as much as the disk holds.
        durable (bool): flush each shard to the disk before it counts as stored, so that it
            survives a power failure and not only the end of the process.
        keep_free (int): bytes to leave free on the file system.
        stopped (Callable[[], bool]): asked now and then whether to give up looking for shards.

    Attributes:
        path (Path): as given.
        used (int): bytes stored.
        arriving (int): bytes that writers have taken and not stored yet.
        quarantined (dict[tuple[str, Kind], int]): bytes by hash and kind of what is in quarantine.
        keeps_data (bool): whether what is stored can be read again.

    Raises:
        NetworkSetupError: If the folder cannot be made or read, or the search was given up.
    """

    keeps_data = True

    def __init__(
        self,
        path: Path,
        capacity: int | None = None,
        *,
        durable: bool = True,
        keep_free: int = FREE_SPACE_KEPT,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.capacity = capacity
        self.used = 0
        self.quarantined: dict[tuple[str, Kind], int] = {}
        self.arriving = 0
        # Bytes in quarantine that can be restored.
        self._waiting = 0
        self._durable = durable
        self._keep_free = keep_free
        self.path = path
        self._shards = path / 'shards'
        self._incoming = path / 'incoming'
        self._quarantine = path / 'quarantine'
        self._sizes: dict[str, int] = {}
        try:
            for folder in (path, self._shards, self._incoming, self._quarantine):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder = self._shards.stat()
            # Their tokens ended with the process that wrote them; nobody can continue them.
            for leftover in self._incoming.iterdir():
                leftover.unlink()
            self._look(stopped)
        except OSError as error:
            raise NetworkSetupError(f'{path}: cannot store shards here: {error}') from error

    def _look(self, stopped: Callable[[], bool]) -> None:
        """Find all shards; a disk with millions of them takes a while."""
        for folder in sorted(self._shards.iterdir()):
            if stopped():
                raise NetworkSetupError('the start was given up')
            if len(folder.name) == 2 and folder.is_dir():
                for name, size in _shard_files(folder):
                    if name.startswith(folder.name):
                        self._add(name, size)
        for kind in KINDS:
            (self._quarantine / kind).mkdir(mode=0o700, exist_ok=True)
            for name, size in _shard_files(self._quarantine / kind):
                self._add_quarantined(name, kind, size)

    def __contains__(self, data_hash: object) -> bool:
        return data_hash in self._sizes

    def __len__(self) -> int:
        return len(self._sizes)

    def is_bare(self) -> bool:
        """Return whether there is not even a folder of shards, as on a disk that is not mounted."""
        return not any(self._shards.iterdir())

    def sizes(self) -> dict[str, int]:
        """Return bytes by hash of all stored shards."""
        return dict(self._sizes)

    def size_of(self, data_hash: str) -> int | None:
        """Return the bytes of a shard that was stored, if it was."""
        return self._sizes.get(data_hash)

    def has_room(self, size: int, *, promised: int = 0) -> bool:
        """Return whether `size` bytes more can be stored.

        Args:
            size (int): bytes.
            promised (int): bytes that contracts speak of and that have not begun to arrive.
        """
        return size + promised <= self.space_left()

    def space_left(self) -> int:
        """Return the bytes that can be stored still, 0 or less if none can.

        Raises:
            StoreError: If the disk does not say.
        """
        space = self._disk_space()
        if self.capacity is None:
            return space
        # capacity |=== used ===|= arriving =|= quarantine/ended =|...... free ......|
        # What is damaged does not count: it is not the shard any more, and is removed soon.
        taken = self.used + self.arriving + self._waiting
        return min(space, self.capacity - taken)

    def _disk_space(self) -> int:
        return self._disk_free() - self.arriving - self._keep_free - 1

    def shortage(self) -> str | None:
        """Return why no shards, or only small ones, can be stored; None if they can.

        Raises:
            StoreError: If the disk does not say.
        """
        if self._disk_space() <= 0:
            return f'its disk has less free than the {self._keep_free:,} B that stay free'
        if self.space_left() <= 0:
            return 'its size is used up'
        if self.capacity is not None and self.capacity < MIN_SHARD_SIZE:
            return (
                f'its size is less than {MIN_SHARD_SIZE:,} bytes, the smallest shard of large files'
            )
        return None

    # ------------------------------------------------------------- what the disk says

    def stat(self, data_hash: str) -> os.stat_result | None:
        """Return what the file system says about the file of a shard; None if there is none.

        Raises:
            StoreError: If the disk refuses, or has gone with all of its shards.
        """
        _check_hash(data_hash)
        try:
            return self._file(data_hash).stat()
        except FileNotFoundError:
            self._check_folder()
            return None
        except OSError as error:
            raise _cannot('read', error) from error

    def check(self, data_hash: str) -> ShardCheck:
        """Begin to read a shard again, to find out whether it has its hash still.

        Raises:
            StoreError: If it is not there, or the disk refuses.
        """
        return ShardCheck(self.reader(data_hash), data_hash)

    def _check_folder(self) -> None:
        """A disk that was taken away must not look like one that lost each of its shards."""
        try:
            # The folder of an unmounted disk exists, empty, under the same name: compare its
            # identity.
            if os.path.samestat(self._shards.stat(), self._folder):
                return
        except OSError as error:
            raise _cannot('read', error) from error
        raise StoreError(f'{self._shards} is another folder than at the start')

    def writer(self, data_hash: str, size: int) -> ShardWriter:
        """Begin to store a shard.

        Args:
            data_hash (str): 40 hex characters.
            size (int): bytes it will have.

        Raises:
            NoSpaceLeftError: If it does not fit.
            StoreError: If the disk refuses.
        """
        _check_hash(data_hash)
        if not self.has_room(size):
            raise NoSpaceLeftError('No space left')
        try:
            file = self._create(data_hash)
        except OSError as error:
            raise _cannot('write', error) from error
        self.arriving += size
        return ShardWriter(self, file, data_hash, size)

    def reader(self, data_hash: str) -> BinaryIO:
        """Open a stored shard.

        Raises:
            StoreError: If it is not there, or the disk refuses.
        """
        _check_hash(data_hash)
        try:
            return self._file(data_hash).open('rb', buffering=0)
        except OSError as error:
            raise _cannot('read', error) from error

    # ------------------------------------------------------------- quarantine

    def quarantine(self, data_hash: str, kind: Kind) -> bool:
        """Move a shard out of the store; return whether there is something left of it.

        Raises:
            StoreError: If the disk refuses.
        """
        _check_hash(data_hash)
        size = self._move(self._file(data_hash), self._quarantined_file(data_hash, kind))
        self.forget(data_hash)
        if size is not None:
            self._add_quarantined(data_hash, kind, size)
        return size is not None

    def forget(self, data_hash: str) -> None:
        """Stop counting a shard that the disk does not have."""
        self.used -= self._sizes.pop(data_hash, 0)

    def take_back(self, data_hash: str) -> int | None:
        """Move a shard that was dropped back; return its bytes, None if it is not in quarantine.

        Raises:
            StoreError: If the disk refuses.
        """
        if (data_hash, 'ended') not in self.quarantined:
            return None
        size = self._move(self._quarantined_file(data_hash, 'ended'), self._file(data_hash))
        self._pop_quarantined(data_hash, 'ended')
        if size is not None:
            self._add(data_hash, size)
        return size

    def remove_quarantined(self, data_hash: str, kind: Kind) -> None:
        """Delete what is in quarantine; nothing happens if it is not there.

        Raises:
            StoreError: If the disk refuses.
        """
        _check_hash(data_hash)
        try:
            self._quarantined_file(data_hash, kind).unlink(missing_ok=True)
        except OSError as error:
            raise _cannot('remove', error) from error
        self._pop_quarantined(data_hash, kind)

    def kinds_in_quarantine(self, data_hash: str) -> list[Kind]:
        """Return the kinds by which a shard is in quarantine."""
        return [kind for kind in KINDS if (data_hash, kind) in self.quarantined]

    def _add_quarantined(self, data_hash: str, kind: Kind, size: int) -> None:
        self._pop_quarantined(data_hash, kind)
        self.quarantined[data_hash, kind] = size
        self._waiting += size if kind == 'ended' else 0

    def _pop_quarantined(self, data_hash: str, kind: Kind) -> None:
        size = self.quarantined.pop((data_hash, kind), 0)
        self._waiting -= size if kind == 'ended' else 0

    def _move(self, source: Path, target: Path) -> int | None:
        """Give a file another name; return its bytes, None if it is not there."""
        try:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            size = source.stat().st_size
            atomic_file.replace(source, target, sync=self._durable)
        except FileNotFoundError:
            self._check_folder()
            return None
        except OSError as error:
            raise _cannot('move', error) from error
        return size

    def _quarantined_file(self, data_hash: str, kind: Kind) -> Path:
        return self._quarantine / kind / data_hash

    # What differs between a store of files and one that keeps nothing.

    def _disk_free(self) -> int:
        try:
            return shutil.disk_usage(self._shards).free
        except OSError as error:
            raise StoreError('Unable to determine free space') from error

    def _create(self, data_hash: str) -> tuple[BinaryIO, Path | None]:
        path = self._incoming / f'{data_hash}.{secrets.token_hex(8)}'
        return path.open('xb', buffering=0), path

    def _keep(self, file: BinaryIO, path: Path | None, data_hash: str) -> None:
        """Make a written file the shard of its hash; called in a worker thread."""
        if path is None:
            raise StoreError('a shard without a file')
        if self._durable:
            # Bytes first, then the name: a name must never stand for bytes that a power failure can
            # take.
            os.fsync(file.fileno())
        file.close()
        final = self._file(data_hash)
        final.parent.mkdir(mode=0o700, exist_ok=True)
        atomic_file.replace(path, final, sync=self._durable)
        if self._durable:
            # The folder of the first digits may be new.
            atomic_file.sync_folder(self._shards)

    def _file(self, data_hash: str) -> Path:
        return self._shards / data_hash[:2] / data_hash

    def discard(self, data_hash: str) -> None:
        """Remove a shard that was kept and does not count; nothing happens if it is not there.

        Raises:
            StoreError: If the disk refuses.
        """
        try:
            self._file(data_hash).unlink(missing_ok=True)
        except OSError as error:
            raise _cannot('remove', error) from error
        self.forget(data_hash)

    # Called back by writers, in the thread of the store.

    def _add(self, data_hash: str, size: int) -> None:
        self.used += size - self._sizes.get(data_hash, 0)
        self._sizes[data_hash] = size

    def _release(self, size: int) -> None:
        self.arriving -= size


class NullStore(ShardStore):
    """A store that counts bytes and throws them away, without a look at them.

    For benchmarks of uploads: what is measured is the way to the farmer without what the farmer
    does. A shard counts as stored, so that a second upload of it is refused as one; reading it is
    an error. It is empty again after a restart.
    """

    keeps_data = False

    def reader(self, data_hash: str) -> BinaryIO:
        """Refuse: there is nothing to read."""
        raise StoreError('This farmer keeps no data')

    def _disk_free(self) -> int:
        return 1 << 62

    def _create(self, data_hash: str) -> tuple[BinaryIO, Path | None]:
        return _Void(), None

    def _keep(self, file: BinaryIO, path: Path | None, data_hash: str) -> None:
        file.close()

    def _move(self, source: Path, target: Path) -> int | None:
        return None


class _Void(io.BytesIO):
    """A file that takes everything and keeps nothing."""

    def write(self, data: object, /) -> int:
        return len(memoryview(data))  # type: ignore[arg-type]


class ShardWriter:
    """A shard that is arriving.

    :meth:`write` and :meth:`finish` block and may be called in a worker thread, one after the
    other; :meth:`close` belongs to the thread of the store. A lock makes it wait for a write that
    is still under way when its transfer is cancelled.

    Attributes:
        data_hash (str): of the shard.
        received (int): bytes written so far.
    """

    def __init__(
        self,
        store: ShardStore,
        opened: tuple[BinaryIO, Path | None],
        data_hash: str,
        size: int,
    ) -> None:
        self._store = store
        self._file, self._path = opened
        self.data_hash = data_hash
        self._size = size
        self._sha256 = hashlib.sha256()
        self._lock = threading.Lock()
        self._done = False
        self._kept = False
        self.received = 0

    def write(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """Append pieces of the shard.

        Raises:
            StoreError: If the disk refuses, or the writer was closed meanwhile.
        """
        with self._lock:
            if self._done:
                raise StoreError('The shard is no longer being written')
            try:
                for piece in pieces:
                    if self._store.keeps_data:
                        self._sha256.update(piece)
                    view = memoryview(piece)
                    while view:
                        view = view[self._file.write(view) :]
                    self.received += len(piece)
            except OSError as error:
                raise _cannot('write', error) from error

    def finish(self, pieces: Sequence[bytes | bytearray | memoryview] = ()) -> bool:
        """Append the last pieces, and keep the shard if its hash is the one expected.

        Returns:
            bool: whether the hash was right; or the size, in a store that does not look.

        Raises:
            StoreError: If the disk refuses.
        """
        self.write(pieces)
        with self._lock:
            if self._done or not self._is_right():
                return False
            try:
                self._store._keep(self._file, self._path, self.data_hash)
            except OSError as error:
                raise _cannot('write', error) from error
            self._kept = True
            return True

    def _is_right(self) -> bool:
        if not self._store.keeps_data:
            return self.received == self._size
        return ripemd160(self._sha256.digest()).hex() == self.data_hash

    def close(self) -> None:
        """Count a finished shard as stored, throw away any other; may be called twice."""
        with self._lock:
            if self._done:
                return
            self._done = True
        self._file.close()
        self._store._release(self._size)
        if self._kept:
            self._store._add(self.data_hash, self.received)
        elif self._path is not None:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning('%s stays until the next start: %s', self._path, error)


class ShardCheck:
    """A shard that is read again. Blocking; for one thread at a time.

    Args:
        file (BinaryIO): the shard.
        data_hash (str): that it should have.
    """

    def __init__(self, file: BinaryIO, data_hash: str) -> None:
        self._file = file
        self._hash = data_hash
        self._sha256 = hashlib.sha256()
        self._unreadable = False

    def step(self) -> int:
        """Read and hash a piece; return its bytes, 0 at the end.

        Raises:
            StoreError: If the disk refuses for another reason than a damage of the file.
        """
        try:
            piece = self._file.read(_PIECE)
        except OSError as error:
            if error.errno not in _DAMAGE:
                raise _cannot('read', error) from error
            self._unreadable = True
            return 0
        self._sha256.update(piece)
        return len(piece)

    def is_right(self) -> bool:
        """Return whether all that was read has the hash."""
        return not self._unreadable and ripemd160(self._sha256.digest()).hex() == self._hash

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _shard_files(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield name and bytes of the files that are named by a hash."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_node_id(entry.name) and entry.is_file(follow_symlinks=False):
                yield entry.name, entry.stat(follow_symlinks=False).st_size


def _cannot(what: str, error: OSError) -> StoreError:
    """Return the error for what the disk refuses."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    kind = NoSpaceLeftError if full else StoreError
    return kind(f'Cannot {what}: {error.strerror}')


def _check_hash(data_hash: str) -> None:
    """Names of shards become names of files, so nothing else than a hash gets this far."""
    if not is_node_id(data_hash):
        raise ValueError('a shard hash has 40 hex characters')
