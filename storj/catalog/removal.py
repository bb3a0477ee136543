"""Removal of files: the sources of moves, when their copies are complete, and surplus files."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storj.catalog.entries import FileEntry
from storj.catalog.errors import SourceKept
from storj.catalog.tree import LocalFile
from storj.exception import NotFoundError, StorjError
from storj.system import atomic_file

if TYPE_CHECKING:
    from storj import http

__all__ = ('Removal', 'local_removal', 'remote_removal', 'remove_local', 'remove_remote')

#: Requests at the same time when many files are removed.
_REQUESTS = 8
# Of those requests, and of those that wait for a thread.
_WAITING = 8 * _REQUESTS


@dataclass
class Removal:
    """Removes the source of one move.

    Attributes:
        record (Mapping[str, Any]): describes the source; its ``source`` names it.
        state (Callable[[], object]): looks at the source; returns another value once the content
            may have changed.
        remove (Callable[[], object]): removes the source.
    """

    record: Mapping[str, Any]
    state: Callable[[], object]
    remove: Callable[[], object]
    _before: object = field(default=None, init=False)

    def begin(self) -> None:
        """Look at the source, before the first byte of it is read.

        Raises:
            StorjError, OSError: If it cannot be looked at.
        """
        self._before = self.state()

    def complete(self) -> None:
        """Remove the source, now that its copy is complete.

        Raises:
            SourceKept: If it changed since it was looked at, or cannot be removed.
        """
        source = self.record['source']
        try:
            if self.state() == self._before:
                self.remove()
                return
        except OSError as error:
            raise SourceKept(source, error.strerror or str(error)) from error
        except StorjError as error:
            raise SourceKept(source, getattr(error, 'message', None) or str(error)) from error
        raise SourceKept(source, 'it changed meanwhile')


def local_removal(path: Path) -> Removal:
    """Return what removes a file of this machine; of a link, the link."""

    def state() -> tuple[int, ...]:
        found = path.stat()
        # The time of the last change as well: that of the content can be set back.
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    return Removal({'source': str(path)}, state, path.unlink)


def remote_removal(client: http.Client, entry: FileEntry, copy: Path | None = None) -> Removal:
    """Return what removes a file of a bucket.

    Args:
        client (storj.http.Client): of the account.
        entry (FileEntry): the file.
        copy (Path | None): its copy on this machine, which is forced to the disk first: also one
            that existed already, and that another program wrote.
    """

    def state() -> tuple[object, ...]:
        # An id may be made of the name alone; a frame is of one upload.
        found = client.file_metadata(entry.bucket.id, entry.id)
        return getattr(found.frame, 'id', None), found.size, found.hmac, found.created

    def remove() -> None:
        if copy is not None:
            atomic_file.sync_file(copy)
            atomic_file.sync_folder(copy.parent)
        # It existed a moment ago: a request whose answer was lost has removed it.
        with contextlib.suppress(NotFoundError):
            client.file_remove(entry.bucket.id, entry.id)

    return Removal({'source': str(entry), **entry.to_dict()}, state, remove)


def remove_remote(
    client: http.Client, entries: Iterable[FileEntry]
) -> Iterator[tuple[FileEntry, Exception | None]]:
    """Remove files of buckets, several at a time.

    Args:
        client (storj.http.Client): of the account.
        entries (Iterable[FileEntry]): the files.

    Yields:
        tuple[FileEntry, Exception | None]: each file in order, and what kept it from being removed.
    """
    removals: deque[tuple[FileEntry, concurrent.futures.Future[None]]] = deque()

    def ended() -> tuple[FileEntry, Exception | None]:
        entry, removal = removals.popleft()
        error = removal.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        return entry, error

    with concurrent.futures.ThreadPoolExecutor(_REQUESTS, 'storj-remove') as pool:
        try:
            for entry in entries:
                if len(removals) == _WAITING:
                    yield ended()
                removals.append((entry, pool.submit(client.file_remove, entry.bucket.id, entry.id)))
            while removals:
                yield ended()
        finally:
            # After Ctrl-C nothing else is removed than what is under way.
            pool.shutdown(cancel_futures=True)


def remove_local(
    files: Iterable[LocalFile], folder: Path
) -> Iterator[tuple[LocalFile, Exception | None]]:
    """Remove files below a folder, and the folders that become empty.

    Args:
        files (Iterable[LocalFile]): the files.
        folder (Path): it stays, empty or not.

    Yields:
        tuple[LocalFile, Exception | None]: each file in order, and what kept it from being removed.
    """
    for file in files:
        try:
            file.path.unlink()
            for parent in file.path.parents:
                if parent == folder or any(parent.iterdir()):
                    break
                parent.rmdir()
        except OSError as error:
            yield file, error
        else:
            yield file, None
