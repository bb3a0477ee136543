"""The end of a move: its source goes when the copy is complete, and it is still what was copied."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storj import atomic_file
from storj.catalog.entries import FileEntry
from storj.catalog.errors import SourceKept
from storj.cli.errors import explain
from storj.exception import NotFoundError, StorjError

if TYPE_CHECKING:
    from storj.http import Client

__all__ = ('Removal', 'local_removal', 'remote_removal')


@dataclass
class Removal:
    """Removes the source of one move.

    Attributes:
        record (Mapping[str, Any]): what ``--json`` says of the source.
        state (Callable[[], object]): looks at the source; what it returns is another one once the
            content may be another.
        remove (Callable[[], object]): removes the source.
    """

    record: Mapping[str, Any]
    state: Callable[[], object]
    remove: Callable[[], object]
    _before: object = field(default=None, init=False)

    def begin(self) -> None:
        """Look at the source, before the first byte of it is read.

        Raises:
            StorjError, OSError: it cannot be looked at.
        """
        self._before = self.state()

    def complete(self) -> None:
        """Remove the source, now that its copy is complete.

        Raises:
            SourceKept: it changed since it was looked at, or cannot be removed.
        """
        source = self.record['source']
        try:
            if self.state() == self._before:
                self.remove()
                return
        except (StorjError, OSError) as error:
            reason = explain(error).message.removesuffix(f': {source}')
            raise SourceKept(source, reason) from error
        raise SourceKept(source, 'it changed meanwhile')


def local_removal(path: Path) -> Removal:
    """Return what removes a file of this machine; of a link, the link."""

    def state() -> tuple[int, ...]:
        found = path.stat()
        # The time of the last change as well: that of the content can be put back.
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    return Removal({'source': str(path)}, state, path.unlink)


def remote_removal(client: Client, entry: FileEntry, copy: Path | None = None) -> Removal:
    """Return what removes a file of a bucket.

    Args:
        client (Client): of the account.
        entry (FileEntry): the file.
        copy (Path | None): of its copy on this machine, which is forced to the disk before: also
            one that was there already, and that somebody else wrote.
    """

    def state() -> tuple[object, ...]:
        # An id may be made of the name alone; a frame is of one upload.
        found = client.file_metadata(entry.bucket.id, entry.id)
        return getattr(found.frame, 'id', None), found.size, found.hmac, found.created

    def remove() -> None:
        if copy is not None:
            atomic_file.sync_file(copy)
        # It was there a moment ago: a request whose answer was lost has removed it.
        with contextlib.suppress(NotFoundError):
            client.file_remove(entry.bucket.id, entry.id)

    return Removal({'source': str(entry), **entry.to_dict()}, state, remove)
