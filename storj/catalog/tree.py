"""What a folder, a prefix or a pattern holds: files of a recursive command, by relative name."""

from __future__ import annotations

import itertools
import logging
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from storj.catalog.entries import BucketEntry, Catalog, FileEntry, Stamp
from storj.catalog.errors import FileNotFound, LocalPathNotFound, UsageProblem
from storj.catalog.filters import NO_FILTERS, Filters, match_glob
from storj.catalog.places import Local, Remote, is_glob
from storj.exception import AmbiguousNameError
from storj.text import from_system

__all__ = (
    'LocalFile',
    'RemoteFile',
    'Unlisted',
    'find_local',
    'find_remote',
    'fixed_prefix',
    'fold',
    'ignores_case',
    'is_below',
    'local_file',
    'remote_names',
    'scan_local',
    'scan_remote',
    'walk',
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine.

    Attributes:
        name (str): relative to the source, parts set apart by ``/``.
        path (Path): its place.
        size (int | None): in bytes; None for what is not a regular file, such as a pipe.
        modified (float): seconds since 1970.
        trouble (OSError | None): why nothing is known of it but its name, which may be that of a
            folder. What goes unread must not pass for what does not exist.
    """

    name: str
    path: Path
    size: int | None
    modified: float
    trouble: OSError | None = None

    @property
    def stamp(self) -> Stamp:
        """What is compared with a stored file."""
        return Stamp(self.size, self.modified)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file in a bucket.

    Attributes:
        name (str): relative to the source.
        entry (FileEntry): the file.
    """

    name: str
    entry: FileEntry


@dataclass(frozen=True)
class Unlisted:
    """What a place may hold besides, when its listing failed after the first files.

    Attributes:
        place (str): as typed.
        error (Exception): why it failed.
    """

    place: str
    error: Exception


def find_local(
    place: Local, *, recursive: bool, filters: Filters = NO_FILTERS, follow: bool = False
) -> list[LocalFile]:
    """Return the files that a local source means.

    Args:
        place (Local): a file, a folder, or a pattern that the shell left alone.
        recursive (bool): whether a folder is meant with all that it holds.
        filters (Filters): for the files of a folder.
        follow (bool): whether links to folders below it are followed.

    Raises:
        LocalPathNotFound: If nothing is there.
        UsageProblem: If it is a folder, without ``recursive``.
    """
    return list(scan_local(place, recursive=recursive, filters=filters, follow=follow))


def scan_local(
    place: Local, *, recursive: bool, filters: Filters = NO_FILTERS, follow: bool = False
) -> Iterator[LocalFile]:
    """Return an iterator over the files of :func:`find_local`; a folder is read meanwhile."""
    if place.path.is_dir():
        if not recursive:
            raise UsageProblem(f'{place} is a folder', hint="use '--recursive' to copy it")
        return walk(place.path, filters, follow=follow)
    if place.path.exists():
        return iter([local_file(place.path.name, place.path)])
    if is_glob(str(place)):
        found = sorted(path for path in _expand(place.path) if path.is_file())
        if found:
            return iter([local_file(path.name, path) for path in found])
    raise LocalPathNotFound(f'no such file or folder: {place}')


def walk(
    folder: Path, filters: Filters = NO_FILTERS, *, follow: bool = False
) -> Iterator[LocalFile]:
    """Yield the regular files below a folder, sorted, and last the folders that cannot be read.

    Links to folders are left out unless they are followed, one that leads back up always; so are
    pipes, sockets and devices; all with a warning in the log.

    Args:
        folder (Path): to begin at.
        filters (Filters): for the files.
        follow (bool): whether links to folders are followed.
    """
    unread: list[OSError] = []
    for base, folders, files in os.walk(folder, onerror=unread.append, followlinks=follow):
        links = [name for name in sorted(folders) if Path(base, name).is_symlink()]
        left_out = [name for name in links if not follow or _leads_up(Path(base, name))]
        for name in left_out:
            path = Path(base, name)
            if not filters.excludes_folder(_relative(path, folder)):
                _log.warning('left out, a link to a folder: %s', path)
        # In place: os.walk descends into what is left in this list, in this order.
        folders[:] = sorted(set(folders) - set(left_out))
        here = Path(base)
        # Once for a folder: it takes longer than all else that is done for a file.
        before = '' if here == folder else f'{_relative(here, folder)}/'
        for name in sorted(files):
            path = here / name
            relative = before + from_system(name)
            if not filters.accept(relative):
                continue
            try:
                file = local_file(relative, path)
            except OSError as error:
                # A broken link, for example. It is listed, so that 'sync --delete' does not take
                # its stored copy for one that has no source any more.
                yield LocalFile(relative, path, 0, 0.0, error)
                continue
            if file.size is not None:
                yield file
            else:
                _log.warning('left out, not a regular file: %s', path)
    for trouble in unread:
        path = Path(trouble.filename)
        relative = _relative(path, folder)
        if not filters.excludes_folder(relative):
            yield LocalFile(relative, path, 0, 0.0, trouble)


def _leads_up(link: Path) -> bool:
    """Return whether a link leads to a folder on the way to it, so that a walk would not end."""
    return any(link.samefile(parent) for parent in link.absolute().parents)


def find_remote(
    catalog: Catalog,
    place: Remote,
    *,
    recursive: bool,
    filters: Filters = NO_FILTERS,
    singly: bool = False,
    brief: bool = False,
) -> list[RemoteFile]:
    """Return the files that a remote source means, in the order of their names.

    A path that is a file's name or id is that file, even if it looks like a pattern. Otherwise a
    pattern means the files that match it, and a prefix, with ``recursive``, all below it.

    Args:
        catalog (Catalog): of the account.
        place (Remote): a file, a pattern, a prefix or a bucket.
        recursive (bool): whether a prefix is meant with all that it holds.
        filters (Filters): for several files.
        singly (bool): whether the command takes no prefixes at all.
        brief (bool): without what only a download needs, as in :meth:`Catalog.files`.

    Raises:
        BucketNotFound, FileNotFound: If nothing is there.
        UsageProblem: If it is a prefix, without ``recursive``.
    """
    found = scan_remote(
        catalog, place, recursive=recursive, filters=filters, singly=singly, brief=brief
    )
    return sorted(found, key=lambda file: file.entry.name)


def scan_remote(
    catalog: Catalog,
    place: Remote,
    *,
    recursive: bool,
    filters: Filters = NO_FILTERS,
    singly: bool = False,
    brief: bool = False,
) -> Iterator[RemoteFile]:
    """Return an iterator over the files of :func:`find_remote` as the bridge lists them.

    The bucket is listed until the first file was found, and the rest of it meanwhile.
    """
    bucket = catalog.bucket(place.bucket)
    if place.is_folder and not recursive:
        raise _prefix(place, singly)
    # First as a name: 'notes[1].txt' looks like a pattern and may be a file.
    entry = None if place.is_folder else catalog.find_file(bucket, place.path)
    if entry is not None:
        return iter([RemoteFile(entry.name.rpartition('/')[2], entry)])
    base = place.path if place.is_folder else f'{place.path}/'
    listed: Iterator[FileEntry] = iter(())
    if is_glob(place.path):
        base = fixed_prefix(place.path)
        pattern, scanned = place.path, _below(catalog, bucket, base, brief=brief)
        listed = (entry for entry in scanned if match_glob(entry.name, pattern))
    elif recursive:
        listed = _below(catalog, bucket, base, brief=brief)
    first = list(itertools.islice(listed, 1))
    if not first and not place.is_folder:
        if not recursive and any(True for _ in _below(catalog, bucket, f'{place.path}/')):
            raise _prefix(place, singly)
        raise FileNotFound(f'no such file: {place}')
    entries = itertools.chain(first, listed)
    found = (RemoteFile(entry.name[len(base) :], entry) for entry in entries)
    return (file for file in found if filters.accept(file.name))


def _below(
    catalog: Catalog, bucket: BucketEntry, base: str, *, brief: bool = True
) -> Iterator[FileEntry]:
    """Yield the files whose names begin with a base, as the bridge lists them."""
    return (it for it in catalog.scan(bucket, brief=brief) if it.name.startswith(base))


def _prefix(place: Remote, singly: bool) -> UsageProblem:
    hint = f"name a file: 'storj ls {place}' lists them" if singly else "use '--recursive'"
    return UsageProblem(f'{place} is a prefix, not a file', hint=hint)


def is_below(entry: FileEntry, path: str) -> bool:
    """Return whether a file is what a path names, or is below it."""
    if not path or path.endswith('/'):
        return entry.name.startswith(path)
    return entry.name == path or entry.id == path or entry.name.startswith(f'{path}/')


def fold(entries: Iterable[FileEntry], path: str) -> Iterator[FileEntry | str]:
    """Yield the files directly below a path, and prefixes for those further below.

    Args:
        entries (Iterable[FileEntry]): files that are below the path.
        path (str): a file's name or id, a prefix, or empty.
    """
    base = path if not path or path.endswith('/') else f'{path}/'
    seen: set[str] = set()
    for entry in entries:
        below = entry.name.removeprefix(base) if entry.name.startswith(base) else ''
        folder, slash, _ = below.partition('/')
        if not slash:
            yield entry
        elif folder not in seen:
            seen.add(folder)
            yield f'{base}{folder}/'


def remote_names(
    catalog: Catalog, bucket: BucketEntry, prefix: str, *, brief: bool = False
) -> dict[str, FileEntry]:
    """Return the files below a prefix by their names relative to it.

    Args:
        catalog (Catalog): of the account.
        bucket (BucketEntry): where they are.
        prefix (str): of their names.
        brief (bool): without what only a transfer of a file needs.

    Raises:
        AmbiguousNameError: If two of them have one name.
    """
    found: dict[str, FileEntry] = {}
    for entry in catalog.files(bucket, prefix, brief=brief):
        # A file may have the very name of the prefix, 'notes/'; it has no place below it.
        if len(entry.name) > len(prefix):
            other = found.setdefault(entry.name[len(prefix) :], entry)
            if other is not entry:
                raise AmbiguousNameError(f'two files have the name {entry}', [other.id, entry.id])
    return found


def fixed_prefix(pattern: str) -> str:
    """Return the part of a pattern that ends before its first wildcard, up to the last ``/``."""
    parts: list[str] = []
    for part in pattern.split('/')[:-1]:
        if is_glob(part):
            break
        parts.append(part)
    return ''.join(f'{part}/' for part in parts)


def local_file(name: str, path: Path) -> LocalFile:
    """Return what is known of a path; OSError if nothing is there."""
    status = path.stat()
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    return LocalFile(from_system(name), path, size, status.st_mtime)


def _relative(path: Path, folder: Path) -> str:
    """Return the name of a path below a folder."""
    return from_system(path.relative_to(folder).as_posix())


def ignores_case(path: Path) -> bool:
    """Return whether names that differ in nothing but case are one name at a place.

    The place need not exist: the nearest folder above it that has letters in its name decides.
    """
    whole = path.absolute()
    for place in (whole, *whole.parents):
        other = place.parent / place.name.swapcase()
        if other != place and place.exists():
            return other.exists() and other.samefile(place)
    # No folder above has a letter in its name, as in a root: only Windows ignores case there.
    return sys.platform == 'win32'


def _expand(pattern: Path) -> Sequence[Path]:
    """Return what a local pattern matches; the shell of Windows leaves patterns alone."""
    if pattern.is_absolute():
        return list(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))
    return list(Path().glob(str(pattern)))
