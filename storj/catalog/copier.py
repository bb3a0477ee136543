"""Jobs that copy or move files: uploads, downloads, copies between buckets."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from storj.catalog.entries import BucketEntry, Catalog, FileEntry, Stamp
from storj.catalog.errors import ConflictError, UnsafeNameError, UsageProblem
from storj.catalog.jobs import Action, Job, Skip, Unchanged
from storj.catalog.places import ByteRange, Local, Remote, Stream, safe_relative_path
from storj.catalog.removal import Removal, local_removal, remote_removal
from storj.catalog.tree import (
    LocalFile,
    RemoteFile,
    Unlisted,
    ignores_case,
    local_file,
    remote_names,
)
from storj.crypto.keys import ContentKey
from storj.exception import UnauthenticatedError
from storj.system import atomic_file
from storj.transfer import Bridge, BridgeReader, TransferFuture, Transfers

__all__ = ('Copier', 'CopyOptions', 'Downloader', 'Source')

#: What a job is made of.
Source = LocalFile | RemoteFile | Stream


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
        resume (bool): continue transfers that were interrupted.
        plain (bool): fetch bytes as they are stored.
        several (bool): whether an existing file is skipped instead of refused.
        move (bool): remove the source once its copy is complete.
        follow_links (bool): read and write through links to folders.
        times (bool): give downloads the time of the file that was stored, if this machine stored
            it, else that of the upload.
    """

    overwrite: bool = False
    encrypt: bool = True
    plain_names: bool | None = None
    parity: bool | None = None
    mimetype: str | None = None
    byte_range: ByteRange | None = None
    resume: bool = True
    plain: bool = False
    several: bool = False
    move: bool = False
    follow_links: bool = False
    times: bool = False


class Downloader:
    """Makes jobs of files to download.

    Args:
        options (CopyOptions): for all files.
        downloads (Transfers[BridgeReader]): the engine.
        key (ContentKey | None): of the files, if it was passed on, as in a link.
    """

    def __init__(
        self,
        options: CopyOptions,
        downloads: Transfers[BridgeReader],
        key: ContentKey | None = None,
    ) -> None:
        self.options = options
        self.downloads = downloads
        self._key = key

    def download(self, entry: FileEntry, path: Path, base: Path | None = None) -> Job:
        """Return the job that fetches a file to a path.

        Args:
            entry (FileEntry): the file.
            path (Path): where it goes.
            base (Path | None): folder that was given, where the rest of the path is a remote name.
        """
        return Job(
            self._action('download'),
            str(entry),
            str(path),
            self.size_of(entry),
            self.downloads,
            partial(self._begin_download, entry, path, base),
            partial(self._check_download, entry, path, base),
            finish=self._dating(entry, path) if self.options.times else None,
            file_id=entry.id,
            removal=self._removal(entry, path),
        )

    def _check_download(self, entry: FileEntry, path: Path, base: Path | None) -> None:
        self._check_links(path, base)
        if path.is_dir():
            raise ConflictError(f'a folder has this name: {path}', hint='')
        # A download that was killed after its file got its name is continued, not refused.
        made = self.downloads.is_downloaded(entry.bucket.id, entry.id, path)
        if not made and (path.exists() or path.is_symlink()):
            present = local_file(path.name, path).stamp if path.exists() else Stamp(None)
            alike = partial(self.same_content, path, entry, sending=False)
            self._may_replace(str(path), entry.stamp, present, alike)

    def _begin_download(
        self, entry: FileEntry, path: Path, base: Path | None
    ) -> TransferFuture[Any]:
        options = self.options
        start, end = self._bounds(entry)
        # Again: the check may have been a while ago.
        self._check_links(path, base)
        if options.move:
            # What is removed there must be on the disk here, folders included.
            atomic_file.make_folders(path.parent)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        return self.downloads.download(
            entry.bucket.id,
            entry.id,
            path,
            start=start,
            end=end,
            resume=options.resume,
            overwrite=options.overwrite,
            decrypt=not options.plain,
            key=self._key,
            described=entry.described() if entry.index and entry.hmac else None,
        )

    def _dating(self, entry: FileEntry, path: Path) -> Callable[[Any], None] | None:
        """Return what gives a download the time of its entry."""
        moment = entry.stamp.time
        # A file that is moved is on the disk already: its time may reach that later.
        return None if moment is None else lambda _: os.utime(path, (moment, moment))

    def download_into(self, entry: FileEntry, name: str, folder: Path) -> Job:
        """Return the job that fetches a file to its remote name below a folder.

        An unsafe name gives a job that fails: it must not keep the other files from their places.
        """
        try:
            return self.download(entry, folder / safe_relative_path(name), folder)
        except UnsafeNameError as error:
            return self.refused(str(entry), entry.id, error)

    def refused(self, source: str, destination: str, error: Exception) -> Job:
        """Return a job that fails with an error."""

        def refuse() -> NoReturn:
            raise error

        return Job(
            self._action('download'), source, destination, None, self.downloads, refuse, refuse
        )

    def stream(self, entry: FileEntry) -> Iterator[bytes]:
        """Yield the bytes of a file, or of the wanted part of it, in order."""
        start, end = self._bounds(entry)
        return self.downloads.stream(
            entry.bucket.id,
            entry.id,
            start=start,
            end=end,
            decrypt=not self.options.plain,
            key=self._key,
        )

    def size_of(self, entry: FileEntry) -> int | None:
        """Return the bytes of a file, or of the wanted part of it; None while unknown."""
        start, end = self._bounds(entry)
        return entry.size if end is None else end - start

    def _bounds(self, entry: FileEntry) -> tuple[int, int | None]:
        if self.options.byte_range is None:
            return 0, None
        return self.options.byte_range.bounds(entry.size or 0)

    def _check_links(self, path: Path, base: Path | None) -> None:
        """Refuse to write through a link that exists in the destination: it may lead anywhere.

        The destination itself may be a link: the user chose it, and means its target.
        """
        if base is None or self.options.follow_links:
            return
        for parent in path.parents:
            if parent == base:
                return
            if parent.is_symlink():
                raise ConflictError(
                    f'a link to a folder is in the way: {parent}',
                    hint="use '--follow-links' to write where it leads",
                )

    def _action(self, action: Action) -> Action:
        return 'move' if self.options.move else action

    def _removal(self, entry: FileEntry, destination: Path | None = None) -> Removal | None:
        """Return what removes the source of a move; a plain download has none."""
        return None

    def same_content(self, path: Path, entry: FileEntry, *, sending: bool) -> bool:
        """Return whether a local file and a stored one are known to have the same content.

        Args:
            path (Path): of the local file.
            entry (FileEntry): of the stored one.
            sending (bool): whether the local one is the source.
        """
        from storj.catalog.content import same_content  # few copies need it

        decrypt = self.options.encrypt if sending else not self.options.plain
        try:
            return same_content(
                self.downloads.bridge, path, entry, self.downloads.config, decrypt=decrypt
            )
        except UnauthenticatedError:
            return False

    def _may_replace(
        self, place: str, source: Stamp, present: Stamp, alike: Callable[[], bool] | None = None
    ) -> None:
        """Raise what keeps a file from being replaced.

        Args:
            place (str): where it is, as the person knows it.
            source (Stamp): of the file that would take its place.
            present (Stamp): its own.
            alike (Callable[[], bool] | None): compares the contents of both, if that can be done.
        """
        options = self.options
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


class Copier(Downloader):
    """Makes jobs of files to copy or move, in all directions.

    Args:
        options (CopyOptions): for all files.
        downloads (Transfers[BridgeReader]): engine for what is fetched.
        uploads (Transfers[Bridge]): engine for what is stored. Another one than for downloads,
            because a low limit of one must not slow the other. What is copied from bucket to bucket
            is read from the downloads by the uploads, so the downloads are closed first.
        catalog (Catalog): of the account.
        open_stream (Callable | None): opens the content of a :class:`Stream`.
    """

    def __init__(
        self,
        options: CopyOptions,
        downloads: Transfers[BridgeReader],
        uploads: Transfers[Bridge],
        catalog: Catalog,
        open_stream: Callable[[], Iterable[bytes] | BinaryIO] | None = None,
    ) -> None:
        super().__init__(options, downloads)
        self.uploads = uploads
        self.catalog = catalog
        self._open_stream = open_stream

    def jobs(self, files: Iterable[Source | Unlisted], target: Remote | Local) -> Iterable[Job]:
        """Return the jobs that bring files to a destination.

        The jobs of files in a sequence are made, and compared with each other, before the first of
        them begins. Of other files a job is made when it is asked for; if its destination is that
        of an earlier one, it fails.

        Args:
            files (Iterable[Source | Unlisted]): the sources.
            target (Remote | Local): a place for one file, or a folder; always a folder for several.

        Raises:
            UsageProblem: If two files would be written to one place, or one is moved to itself;
                of a sequence.
        """
        alike: Callable[[str], str] = str
        if isinstance(target, Remote):
            make = self._remote_job(target)
        else:
            make = partial(self._local_job, target)
            if ignores_case(target.path):
                # Of two stored files only one would be left, whichever comes last.
                alike, files = _caseless, _whole(files)
        if not isinstance(files, Sequence):
            return self._apart(files, make, str(target))
        jobs = list(map(make, _whole(files)))
        _check_destinations(jobs, alike)
        if self.options.move:
            _check_apart(jobs)
        return jobs

    def _apart(
        self, files: Iterable[Source | Unlisted], make: Callable[[Source], Job], target: str
    ) -> Iterator[Job]:
        """Yield the jobs of files, no two of which have one destination."""
        # Hashes take a tenth of the memory.
        taken: set[int] = set()
        for file in files:
            if isinstance(file, Unlisted):
                yield self.refused(file.place, target, file.error)
                continue
            job = make(file)
            place = hash(job.destination)
            if place in taken:
                job = self.refused(job.source, job.destination, _same_place(job.destination))
            taken.add(place)
            yield job

    def _local_job(self, target: Local, file: Source) -> Job:
        if not isinstance(file, RemoteFile):
            raise TypeError('two local places')
        if self.options.several or target.is_folder:
            return self.download_into(file.entry, file.name, target.path)
        return self.download(file.entry, target.path)

    def _remote_job(self, target: Remote) -> Callable[[Source], Job]:
        """Return what makes the job that brings a file to a stored place."""
        bucket = self.catalog.bucket(target.bucket)
        several = self.options.several
        base = target.path if target.is_folder else f'{target.path}/'
        # One listing costs less than a question per file; for one file the question costs less.
        # Only moves compare contents, for which more has to be known.
        brief = not self.options.move
        present = remote_names(self.catalog, bucket, base, brief=brief) if several else {}

        def make(file: Source) -> Job:
            name = target.path
            if (several or target.is_folder) and not isinstance(file, Stream):
                name = base + file.name
            existing = (
                present.get(name[len(base) :])
                if several
                else self.catalog.find_file(bucket, name, ids=False)
            )
            if isinstance(file, RemoteFile):
                return self.copy(file.entry, bucket, name, existing)
            return self.upload(file, bucket, name, existing)

        return make

    def upload(
        self, source: LocalFile | Stream, bucket: BucketEntry, name: str, existing: FileEntry | None
    ) -> Job:
        """Return the job that stores a local file, or a stream, under a name.

        Args:
            source (LocalFile | Stream): the content.
            bucket (BucketEntry): where it goes.
            name (str): of the stored file.
            existing (FileEntry | None): the file that has this name now.
        """
        path = source.path if isinstance(source, LocalFile) else None
        stamp = source.stamp if isinstance(source, LocalFile) else Stamp(None)

        def check() -> None:
            if isinstance(source, LocalFile) and source.trouble is not None:
                raise source.trouble
            if existing is None or self._is_made_of(path, existing, name):
                return
            alike = None
            if path is not None:
                alike = partial(self.same_content, path, existing, sending=True)
            self._may_replace(str(existing), stamp, existing.stamp, alike)

        def content() -> Path | Iterable[bytes] | BinaryIO:
            if path is not None:
                return path
            if self._open_stream is None:
                raise UsageProblem('there is no stream to upload')
            return self._open_stream()

        removal = None if path is None or not self.options.move else local_removal(path)
        origin = str(source) if path is None else str(path)
        job = self._upload('upload', origin, content, bucket, name, existing)
        job.size, job.check, job.removal = stamp.size, check, removal
        job.finish = self._remembering(stamp)
        return job

    def copy(
        self, entry: FileEntry, bucket: BucketEntry, name: str, existing: FileEntry | None
    ) -> Job:
        """Return the job that brings a file through this machine into another bucket or name.

        Args:
            entry (FileEntry): the file.
            bucket (BucketEntry): where the copy goes.
            name (str): of the copy.
            existing (FileEntry | None): the file that has this name now.
        """

        def check() -> None:
            if existing is not None:
                self._may_replace(str(existing), entry.stamp, existing.stamp)

        def content() -> Iterator[bytes]:
            return self.downloads.stream(entry.bucket.id, entry.id, decrypt=not self.options.plain)

        mimetype = self.options.mimetype or entry.mimetype
        job = self._upload('copy', str(entry), content, bucket, name, existing, mimetype)
        job.size, job.check, job.removal = entry.size, check, self._removal(entry)
        job.finish = self._remembering(entry.stamp)
        return job

    def _remembering(self, source: Stamp) -> Callable[[Any], None] | None:
        """Return what remembers the time of a source for the upload that was made of it."""
        times, moment = self.catalog.times, source.time
        if times is None or moment is None:
            return None

        def finish(stored: Any) -> None:
            frame = getattr(stored.frame, 'id', None)
            if frame is not None:
                times.keep(frame, moment)

        return finish

    def upload_as(self, source: LocalFile | Stream, bucket: BucketEntry, name: str) -> Job:
        """Return the job that stores a file under a name, after a look at what has the name."""
        return self.upload(source, bucket, name, self.catalog.find_file(bucket, name, ids=False))

    def _upload(
        self,
        action: Action,
        origin: str,
        content: Callable[[], Path | Iterable[bytes] | BinaryIO],
        bucket: BucketEntry,
        name: str,
        existing: FileEntry | None,
        mimetype: str | None = None,
    ) -> Job:
        options = self.options
        # As listed, or looked up, when the job was made: the engine need not ask again.
        known = () if existing is None else (existing.id,)

        def start() -> TransferFuture[Any]:
            source = content()
            return self.uploads.upload(
                bucket.id,
                source,
                existing=known,
                name=name,
                mimetype=mimetype or options.mimetype,
                encrypt=options.encrypt,
                encrypt_name=self.catalog.encrypts_names,
                parity=options.parity,
                resume=options.resume,
                overwrite=options.overwrite,
            )

        return Job(self._action(action), origin, str(bucket.place(name)), None, self.uploads, start)

    def _is_made_of(self, path: Path | None, existing: FileEntry, name: str) -> bool:
        """Return whether a file was made by the same upload, interrupted at its very end."""
        frame = self.uploads.frame_left(existing.bucket.id, name, path or '')
        if frame is None:
            return False
        found = self.catalog.client.file_metadata(existing.bucket.id, existing.id)
        return getattr(found.frame, 'id', found.frame) == frame

    def _removal(self, entry: FileEntry, destination: Path | None = None) -> Removal | None:
        if not self.options.move:
            return None
        return remote_removal(self.catalog.client, entry, destination)


def _caseless(path: str) -> str:
    return unicodedata.normalize('NFC', path).casefold()


def _whole(files: Iterable[Source | Unlisted]) -> list[Source]:
    """Return all files; raise what kept some of them from being listed."""
    found: list[Source] = []
    for file in files:
        if isinstance(file, Unlisted):
            raise file.error
        found.append(file)
    return found


def _check_destinations(jobs: Sequence[Job], alike: Callable[[str], str]) -> None:
    """Refuse to write two files to one place."""
    taken: dict[str, Job] = {}
    for job in jobs:
        other = taken.setdefault(alike(job.destination), job)
        if other is not job:
            ignored = job.destination != other.destination
            raise _same_place(job.destination, 'case is ignored there' if ignored else '')


def _same_place(destination: str, hint: str = '') -> UsageProblem:
    return UsageProblem(f'several sources would be written to {destination}', hint=hint)


def _check_apart(jobs: Sequence[Job]) -> None:
    """Refuse to write to where something is moved away from: one of the two might be lost."""
    sources = {job.source for job in jobs}
    for job in jobs:
        if job.destination == job.source:
            raise UsageProblem(f'{job.source} would be moved to itself', hint='')
        if job.destination in sources:
            raise UsageProblem(
                f'{job.destination} is a source and a destination', hint='move one after the other'
            )
