"""Listings beyond ``ls``: sums by folder, trees, searches, and all that is known of one file.

What can be summed up or chosen while the bridge lists a bucket is not kept in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from storj.catalog.entries import BucketEntry, Catalog, FileEntry
from storj.catalog.errors import FileNotFound
from storj.catalog.filters import NO_FILTERS, Filters, match_glob
from storj.catalog.places import SCHEME, Remote, is_glob
from storj.catalog.tree import fixed_prefix, is_below

__all__ = ('LEVELS', 'Selection', 'Usage', 'selections', 'usage')

#: Folders below one another that are told apart. A name may hold any number of slashes, and the
#: work for one name must not grow with their square.
LEVELS = 100


@dataclass(frozen=True)
class Selection:
    """The files that one place means.

    Attributes:
        catalog (Catalog): of the account.
        bucket (BucketEntry): where they are.
        path (str): a file's name or id, a prefix or a pattern; empty for the whole bucket.
        is_pattern (bool): whether the path is a pattern.
    """

    catalog: Catalog
    bucket: BucketEntry
    path: str = ''
    is_pattern: bool = False

    def __str__(self) -> str:
        return str(Remote(self.bucket.name, self.path))

    @property
    def base(self) -> str:
        """What the names of the files begin with, up to a slash, without the file of the path."""
        if self.is_pattern:
            return fixed_prefix(self.path)
        return self.path if not self.path or self.path.endswith('/') else f'{self.path}/'

    @property
    def root(self) -> str:
        """The base as a URI."""
        return str(Remote(self.bucket.name, self.base))

    def files(self, filters: Filters = NO_FILTERS) -> Iterator[FileEntry]:
        """Yield the files as the bridge lists them, a page at a time.

        Args:
            filters (Filters): which are meant, by their names relative to the base.

        Raises:
            FileNotFound: If there is nothing, at the end.
        """
        found = not self.path or self.path.endswith('/')
        for entry in self.catalog.scan(self.bucket):
            if self._means(entry):
                found = True
                if filters.accept(self.relative(entry)):
                    yield entry
        if not found:
            raise FileNotFound(f'no such file: {self}')

    def relative(self, entry: FileEntry) -> str:
        """Return the name of a file below the base; of the file of the path, the last part."""
        if entry.name.startswith(self.base):
            return entry.name[len(self.base) :]
        return entry.name.rpartition('/')[2]

    def _means(self, entry: FileEntry) -> bool:
        if self.is_pattern:
            return match_glob(entry.name, self.path)
        return is_below(entry, self.path)


def selections(catalog: Catalog, places: Sequence[Remote]) -> list[Selection]:
    """Return what places mean; without any, every bucket.

    Args:
        catalog (Catalog): of the account.
        places (Sequence[Remote]): buckets, files, prefixes or patterns.

    Raises:
        BucketNotFound: If one has no bucket.
    """
    if not places:
        return [Selection(catalog, bucket) for bucket in catalog.buckets()]
    found = []
    for place in places:
        bucket = catalog.bucket(place.bucket)
        # First as a name: 'notes[1].txt' looks like a pattern and may be a file.
        is_pattern = is_glob(place.path) and catalog.find_file(bucket, place.path) is None
        found.append(Selection(catalog, bucket, place.path, is_pattern))
    return found


@dataclass
class Usage:
    """What a folder, a bucket or a whole list of them holds.

    Attributes:
        uri (str): of it.
        size (int): bytes of its files, without parity shards and mirrors.
        files (int): how many there are, those of its folders included.
    """

    uri: str
    size: int = 0
    files: int = 0

    def add(self, size: int | None, files: int = 1) -> None:
        """Count files of a size in all."""
        self.size += size or 0
        self.files += files

    def to_dict(self) -> dict[str, Any]:
        """Return the record that ``--json`` prints."""
        return {'uri': self.uri, 'size': self.size, 'files': self.files}


def usage(
    selection: Selection, filters: Filters = NO_FILTERS, depth: int | None = None
) -> list[Usage]:
    """Return the sums of the folders of a place, each after those in it, the place itself last.

    Args:
        selection (Selection): the place.
        filters (Filters): which files count.
        depth (int | None): levels of folders that get a sum of their own, :data:`LEVELS` at most.

    Raises:
        FileNotFound: If there is nothing.
    """
    levels = LEVELS if depth is None else min(depth, LEVELS)
    whole = Usage(str(selection))
    folders: dict[str, Usage] = {}
    for entry in selection.files(filters):
        whole.add(entry.size)
        for folder in _folders(entry, selection.base, levels):
            folders.setdefault(folder, Usage(f'{SCHEME}{selection.bucket.name}/{folder}')).add(
                entry.size
            )
    return [folders[name] for name in sorted(folders, key=_after_its_content)] + [whole]


def _folders(entry: FileEntry, base: str, levels: int) -> Iterator[str]:
    """Yield the folders below a base that a file is in, from the outermost on."""
    end = len(base) if entry.name.startswith(base) else len(entry.name)
    for _ in range(levels):
        end = entry.name.find('/', end) + 1
        if not end:
            return
        yield entry.name[:end]


def _after_its_content(folder: str) -> list[tuple[bool, str]]:
    """Return the key that sorts folders by their parts, and a folder after those in it."""
    return [*((False, part) for part in folder.split('/')[:-1]), (True, '')]
