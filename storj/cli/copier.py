"""What makes jobs of the files to copy: uploads, downloads, copies between buckets."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from storj import atomic_file
from storj.catalog.entries import BucketEntry, FileEntry, Stamp
from storj.catalog.errors import ConflictError
from storj.catalog.places import Remote, Stream
from storj.catalog.tree import LocalFile, local_file
from storj.cli.jobs import Action, Handle, Job, Skip, Unchanged
from storj.cli.options import ByteRange
from storj.cli.removal import Removal, local_removal, remote_removal
from storj.cli.session import Session, TransferOptions
from storj.cli.streams import standard_input
from storj.exception import TransferCancelled, UnauthenticatedError

__all__ = ('Copier', 'CopyOptions', 'input_pieces')

#: Seconds between two looks whether the reading of standard input is to end.
_LOOK = 0.2
_PIECE = 256 * 1024


@dataclass(frozen=True)
class CopyOptions:
    """How files are copied.

    Attributes:
        overwrite (bool): replace what exists.
        encrypt (bool): encrypt the content of uploads.
        plain_names (bool | None): store names in clear; None follows the settings.
        parity (bool | None): upload parity shards; None follows the settings and the bridge.
        mimetype (str | None): of uploads; guessed from the name by default.
        byte_range (ByteRange | None): part of a download.
        resume (bool): go on with transfers that broke off.
        several (bool): whether an existing file is skipped instead of refused.
        move (bool): remove the source once its copy is complete.
        follow_links (bool): read and write through links to folders.
    """

    overwrite: bool = False
    encrypt: bool = True
    plain_names: bool | None = None
    parity: bool | None = None
    mimetype: str | None = None
    byte_range: ByteRange | None = None
    resume: bool = True
    several: bool = False
    move: bool = False
    follow_links: bool = False


class Copier:
    """Makes jobs of files to copy.

    Args:
        session (Session): of the command.
        options (CopyOptions): for all files.
        transfer_options (TransferOptions): for the engine.
    """

    def __init__(
        self, session: Session, options: CopyOptions, transfer_options: TransferOptions
    ) -> None:
        self._session = session
        self._options = options
        self.follow_links = options.follow_links
        self.catalog = session.catalog_for(plain_names=options.plain_names)
        # One for each way, because a low limit of one must not slow the other. What is copied from
        # bucket to bucket is read from the second by the first, so the second is closed first.
        self.uploads = session.transfers(transfer_options.sending())
        # What is moved here is on the disk before it is removed there.
        self.downloads = session.transfers(transfer_options.receiving(), fsync=options.move)
        self._decrypt = not transfer_options.plain

    def upload(
        self,
        source: LocalFile | Stream,
        bucket: BucketEntry,
        name: str,
        existing: FileEntry | None,
    ) -> Job:
        """Return the job that stores a local file, or standard input, under a name."""
        options = self._options

        def check() -> None:
            if isinstance(source, LocalFile) and source.trouble is not None:
                raise source.trouble
            if existing is not None and not self._is_made_of(source, existing, name):
                if isinstance(source, Stream):
                    self._may_replace(str(existing), Stamp(None), existing.stamp)
                    return
                alike = partial(self.same_content, source.path, existing, sending=True)
                self._may_replace(str(existing), source.stamp, existing.stamp, alike)

        def start() -> Handle:
            handle: Handle = self.uploads.upload(
                bucket.id,
                input_pieces(self._session.stopping) if isinstance(source, Stream) else source.path,
                name=name,
                mimetype=options.mimetype,
                encrypt=options.encrypt,
                encrypt_name=self.catalog.encrypts_names,
                parity=options.parity,
                resume=options.resume,
                overwrite=options.overwrite,
            )
            return handle

        size = None if isinstance(source, Stream) else source.size
        origin = '-' if isinstance(source, Stream) else str(source.path)
        target = str(Remote(bucket.name, name))
        cleaner = self._cleaner(bucket, name, existing)
        removal = None if isinstance(source, Stream) else self._removal(source)
        return Job(
            self._action('upload'), origin, target, size, start, cleaner, check, removal=removal
        )

    def download(self, entry: FileEntry, path: Path, base: Path | None = None) -> Job:
        """Return the job that fetches a file to a path.

        Args:
            entry (FileEntry): the file.
            path (Path): where it goes.
            base (Path | None): folder that was given, where the rest of the path is a remote name.
        """
        options = self._options
        start, end = self._bounds(entry)

        def check() -> None:
            self._check_links(path, base)
            if path.is_dir():
                raise ConflictError(f'a folder has this name: {path}', hint='')
            made = self.downloads.is_downloaded(entry.bucket.id, entry.id, path)
            if not made and (path.exists() or path.is_symlink()):
                present = local_file(path.name, path).stamp if path.exists() else Stamp(None)
                alike = partial(self.same_content, path, entry, sending=False)
                self._may_replace(str(path), entry.stamp, present, alike)

        def begin() -> Handle:
            self._check_links(path, base)
            if options.move:
                atomic_file.make_folders(path.parent)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
            handle: Handle = self.downloads.download(
                entry.bucket.id,
                entry.id,
                path,
                start=start,
                end=end,
                resume=options.resume,
                overwrite=options.overwrite,
                decrypt=self._decrypt,
            )
            return handle

        return Job(
            self._action('download'),
            str(entry),
            str(path),
            self.size_of(entry),
            begin,
            check=check,
            file_id=entry.id,
            removal=self._removal(entry, path),
        )

    def _check_links(self, path: Path, base: Path | None) -> None:
        """Refuse to write through a link that stood in the destination: it may lead anywhere.

        The destination itself may be a link: whoever typed it means where it leads.
        """
        if base is None or self._options.follow_links:
            return
        for parent in path.parents:
            if parent == base:
                return
            if parent.is_symlink():
                raise ConflictError(
                    f'a link to a folder is in the way: {parent}',
                    hint="use '--follow-links' to write where it leads",
                )

    def to_stream(self, entry: FileEntry) -> Job:
        """Return the job of a download to standard output, to be announced only."""
        return replace(self.download(entry, Path('-')), check=None)

    def copy(
        self, entry: FileEntry, bucket: BucketEntry, name: str, existing: FileEntry | None
    ) -> Job:
        """Return the job that brings a file through this machine into another bucket or name."""
        options = self._options

        def check() -> None:
            if existing is not None:
                self._may_replace(str(existing), entry.stamp, existing.stamp)

        def start() -> Handle:
            handle: Handle = self.uploads.upload(
                bucket.id,
                self.downloads.stream(entry.bucket.id, entry.id, decrypt=self._decrypt),
                name=name,
                mimetype=options.mimetype or entry.mimetype,
                encrypt=options.encrypt,
                encrypt_name=self.catalog.encrypts_names,
                parity=options.parity,
                overwrite=options.overwrite,
            )
            return handle

        target = str(Remote(bucket.name, name))
        cleaner = self._cleaner(bucket, name, existing)
        return Job(
            self._action('copy'),
            str(entry),
            target,
            entry.size,
            start,
            cleaner,
            check,
            removal=self._removal(entry),
        )

    def refused(self, source: str, destination: str, error: Exception) -> Job:
        """Return a job that fails: one bad name must not keep the other files from their places."""

        def refuse() -> NoReturn:
            raise error

        return Job(self._action('download'), source, destination, None, refuse, check=refuse)

    def size_of(self, entry: FileEntry) -> int | None:
        """Return the bytes of a file, or of the wanted part of it; None while unknown."""
        start, end = self._bounds(entry)
        return entry.size if end is None else end - start

    def _bounds(self, entry: FileEntry) -> tuple[int, int | None]:
        if self._options.byte_range is None:
            return 0, None
        return self._options.byte_range.bounds(entry.size or 0)

    def stream(self, entry: FileEntry) -> Iterator[bytes]:
        """Yield the bytes of a file, or of the wanted part of it, in order."""
        start, end = self._bounds(entry)
        chunks: Iterator[bytes] = self.downloads.stream(
            entry.bucket.id, entry.id, start=start, end=end, decrypt=self._decrypt
        )
        return chunks

    def upload_as(self, source: LocalFile | Stream, bucket: BucketEntry, name: str) -> Job:
        """Return the job that stores a file under a name, after a look at what is there."""
        existing = self.catalog.find_file(bucket, name, ids=False)
        return self.upload(source, bucket, name, existing)

    def _cleaner(
        self, bucket: BucketEntry, name: str, existing: FileEntry | None
    ) -> Callable[[Any], None] | None:
        """Return what removes a file of the same name that is stored in the other form.

        The engine replaces an entry of the same stored name; a plain and an encrypted one differ.
        """
        if existing is None:
            return None
        old = existing
        if old.stored_name == self.catalog.stored_file_name(bucket, name):
            return None

        def clean(_: Any) -> None:
            self._session.client.file_remove(bucket.id, old.id)

        return clean

    def _action(self, action: Action) -> Action:
        return 'move' if self._options.move else action

    def _is_made_of(self, source: LocalFile | Stream, existing: FileEntry, name: str) -> bool:
        """Return whether a file is that of the same upload, which broke off at its very end."""
        path = '' if isinstance(source, Stream) else source.path
        frame = self.uploads.frame_left(existing.bucket.id, name, path)
        if frame is None:
            return False
        found = self._session.client.file_metadata(existing.bucket.id, existing.id)
        return getattr(found.frame, 'id', found.frame) == frame

    def _removal(
        self, source: LocalFile | FileEntry, destination: Path | None = None
    ) -> Removal | None:
        """Return what removes the source of a move."""
        if not self._options.move:
            return None
        if isinstance(source, LocalFile):
            return local_removal(source.path)
        return remote_removal(self._session.client, source, destination)

    def _may_replace(
        self,
        place: str,
        source: Stamp,
        present: Stamp,
        alike: Callable[[], bool] | None = None,
    ) -> None:
        """Raise what keeps a file from being replaced.

        Args:
            place (str): where it lies, as the person knows it.
            source (Stamp): of the file that would take its place.
            present (Stamp): its own.
            alike (Callable[[], bool] | None): compares the contents of both, if that can be done.
        """
        options = self._options
        if options.overwrite:
            return
        if options.move:
            # As large and not older is not enough for a copy that is to outlive its source.
            unchanged = alike is not None and source.size == present.size and alike()
        else:
            unchanged = options.several and present.serves_for(source)
        if unchanged:
            raise Unchanged('unchanged')
        if not options.several:
            raise ConflictError(f'exists already: {place}')
        raise Skip('exists already')

    def same_content(self, path: Path, entry: FileEntry, *, sending: bool) -> bool:
        """Return whether a local file and a stored one are known to have the same content.

        Args:
            path (Path): of the local file.
            entry (FileEntry): of the stored one.
            sending (bool): whether the local one is the source.
        """
        from storj.catalog.content import same_content  # few copies need it

        decrypt = self._options.encrypt if sending else self._decrypt
        try:
            return same_content(
                self._session.client, path, entry, self.downloads.config, decrypt=decrypt
            )
        except UnauthenticatedError:
            return False


def input_pieces(stopping: threading.Event) -> Iterable[bytes] | BinaryIO:
    """Return standard input, read so that Ctrl-C need not wait for whoever writes to it.

    Args:
        stopping (threading.Event): ends the reading.

    Raises:
        UsageProblem: If standard input is closed.
    """
    stream = standard_input()
    try:
        stream.fileno()
    except (OSError, ValueError):
        return stream
    return stream if os.name == 'nt' else _pieces(stream, stopping)


def _pieces(stream: Any, stopping: threading.Event) -> Iterator[bytes]:
    while not stopping.is_set():
        # Not a selector: epoll takes no regular file.
        if select.select([stream], [], [], _LOOK)[0]:
            piece: bytes = stream.read1(_PIECE)
            if not piece:
                return
            yield piece
    raise TransferCancelled('the upload was interrupted')
