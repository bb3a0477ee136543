"""Shards as files in a folder.

::

    PATH/
      shards/ab/abcdef...          one file per shard, named by its hash
      incoming/abcdef....<random>  a shard that is still arriving; removed at the next start
      quarantine/ended/abcdef...   a shard that nobody needs, until it is removed
      quarantine/bad/abcdef...     what is left of one that turned out to be damaged

A shard exists if and only if its file has its final name: it is written under a temporary one and
renamed once it is whole.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from storj.exception import NetworkSetupError
from storj.network.farmer.store import (
    PLACES,
    DamagedShardError,
    Found,
    NoSpaceLeftError,
    Place,
    StoreError,
    check_hash,
)
from storj.network.node.identity import is_node_id
from storj.network.node.state_files import lost
from storj.system import atomic_file
from storj.text import count_of

logger = logging.getLogger(__name__)

# Two hex digits of the hash name a folder: 256 folders keep each one small enough for file systems
# that search a folder from its beginning.

# Errors that concern one damaged file, and not the whole disk.
_DAMAGE = (errno.EIO, errno.EBADMSG, getattr(errno, 'EUCLEAN', errno.EIO))


class DiskStore:
    """Shards as files in a folder.

    Args:
        path (Path): folder of the farmer; made when missing.
        durable (bool): flush each shard to the disk before it counts as stored, so that it
            survives a power failure and not only the end of the process.
        stopped (Callable[[], bool]): asked now and then whether to give up looking for shards.

    Raises:
        NetworkSetupError: If the folder cannot be made or read.
    """

    keeps_data = True
    is_local = True

    def __init__(
        self, path: Path, *, durable: bool = True, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._durable = durable
        self._stopped = stopped
        self._shards = path / 'shards'
        self._incoming = path / 'incoming'
        self._quarantine = path / 'quarantine'
        # Folders of shards whose own names are on the disk for certain.
        self._kept: set[Path] = set()
        try:
            for folder in (path, self._shards, self._incoming, self._quarantine):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for place in PLACES[1:]:
                (self._quarantine / place).mkdir(mode=0o700, exist_ok=True)
            self._folder = self._shards.stat()
            # Their tokens ended with the process that wrote them; nobody can continue them.
            for leftover in self._incoming.iterdir():
                leftover.unlink()
        except OSError as error:
            raise NetworkSetupError(f'{path}: cannot store shards here: {error}') from error

    def listing(self) -> Iterator[tuple[Place, str, int]]:
        """Yield place, hash and bytes of all files; a disk with millions takes a while.

        Raises:
            NetworkSetupError: If the search was given up.
            StoreError: If the disk refuses.
        """
        try:
            for folder in sorted(self._shards.iterdir()):
                if self._stopped():
                    raise NetworkSetupError('the start was given up')
                if len(folder.name) == 2 and folder.is_dir():
                    for name, size in _shard_files(folder):
                        if name.startswith(folder.name):
                            yield 'stored', name, size
            for place in PLACES[1:]:
                for name, size in _shard_files(self._quarantine / place):
                    yield place, name, size
        except OSError as error:
            raise _cannot('list the shards', error) from error

    def expect(self, count: int, owner: str) -> None:
        """Refuse a folder without any folder of shards, as on a disk that is not mounted.

        Raises:
            LostStateError: If shards are expected, and there was never one.
        """
        if count and not any(self._shards.iterdir()):
            problem = f'is empty, and farmer.db knows of {count_of(count, "shard")}'
            raise lost(self._shards, problem)

    def free(self) -> int | None:
        """Return the bytes that are free on the file system.

        Raises:
            StoreError: If the disk does not say.
        """
        try:
            return shutil.disk_usage(self._shards).free
        except OSError as error:
            raise StoreError('Unable to determine free space') from error

    def find(self, data_hash: str) -> Found | None:
        """Return what the file system says about the file of a shard; None if there is none.

        Raises:
            StoreError: If the disk refuses, or has gone with all of its shards.
        """
        try:
            found = self._file(data_hash).stat()
        except FileNotFoundError:
            self._check_folder()
            return None
        except OSError as error:
            raise _cannot('read', error) from error
        return Found(found.st_size, (found.st_ino, found.st_size, found.st_mtime_ns))

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

    def create(self, data_hash: str, size: int) -> _IncomingFile:
        """Begin to write a file.

        Raises:
            StoreError: If the disk refuses.
        """
        final = self._file(data_hash)
        temporary = self._incoming / f'{data_hash}.{secrets.token_hex(8)}'
        return _IncomingFile(temporary, final, self._kept, durable=self._durable)

    def open(self, data_hash: str) -> _FileReader:
        """Open the file of a shard.

        Raises:
            StoreError: If it is not there, or the disk refuses.
        """
        return _FileReader(self._file(data_hash))

    def move(self, data_hash: str, source: Place, target: Place) -> int | None:
        """Give a file another name; return its bytes, None if it is not there.

        Raises:
            StoreError: If the disk refuses.
        """
        old, new = self._file(data_hash, source), self._file(data_hash, target)
        try:
            new.parent.mkdir(mode=0o700, exist_ok=True)
            size = old.stat().st_size
            atomic_file.replace(old, new, sync=self._durable)
        except FileNotFoundError:
            self._check_folder()
            return None
        except OSError as error:
            raise _cannot('move', error) from error
        return size

    def delete(self, data_hash: str, place: Place) -> None:
        """Delete a file; nothing happens if it is not there.

        Raises:
            StoreError: If the disk refuses.
        """
        try:
            self._file(data_hash, place).unlink(missing_ok=True)
        except OSError as error:
            raise _cannot('remove', error) from error

    def _file(self, data_hash: str, place: Place = 'stored') -> Path:
        check_hash(data_hash)
        if place == 'stored':
            return self._shards / data_hash[:2] / data_hash
        return self._quarantine / place / data_hash


class _IncomingFile:
    """A file that is being written under a temporary name."""

    def __init__(self, path: Path, final: Path, kept: set[Path], *, durable: bool) -> None:
        self._path, self._final, self._kept, self._durable = path, final, kept, durable
        self._committed = False
        try:
            self._file = path.open('xb', buffering=0)
        except OSError as error:
            raise _cannot('write', error) from error

    def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise _cannot('write', error) from error

    def commit(self) -> None:
        folder = self._final.parent
        try:
            if self._durable:
                # Bytes first, then the name: a name must never stand for bytes that a power
                # failure can take.
                os.fsync(self._file.fileno())
            self._file.close()
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                self._kept.discard(folder)
            atomic_file.replace(self._path, self._final, sync=self._durable)
            if self._durable and folder not in self._kept:
                # It is new, or the process that made it may have been killed before this.
                atomic_file.sync_folder(folder.parent)
                self._kept.add(folder)
        except OSError as error:
            raise _cannot('write', error) from error
        self._committed = True

    def abort(self) -> None:
        self._file.close()
        if self._committed:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning('%s stays until the next start: %s', self._path, error)


class _FileReader:
    """The file of a shard, read from its beginning."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open('rb', buffering=0)
        except OSError as error:
            raise _cannot('read', error) from error

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            if error.errno in _DAMAGE:
                raise DamagedShardError(f'Cannot read: {error.strerror}') from error
            raise _cannot('read', error) from error

    def close(self) -> None:
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
