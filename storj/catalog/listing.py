"""Listings beyond ``ls``: sums by folder, trees, searches, and all that is known of one file.

What can be summed up or chosen while the bridge lists a bucket is not kept in memory.
"""

from __future__ import annotations

import datetime
import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from storj.catalog.entries import BucketEntry, Catalog, FileEntry
from storj.catalog.errors import FileNotFound
from storj.catalog.filters import NO_FILTERS, Filters, match_glob
from storj.catalog.places import Remote, is_glob
from storj.catalog.tree import fixed_prefix, is_below
from storj.exception import NotFoundError

__all__ = (
    'LEVELS',
    'Branch',
    'Criteria',
    'Selection',
    'Usage',
    'branches',
    'describe',
    'describe_file',
    'find_files',
    'find_folders',
    'selections',
    'usage',
)

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
        return str(self.bucket.place(self.path))

    @property
    def base(self) -> str:
        """What the names of the files begin with, up to a slash, without the file of the path."""
        if self.is_pattern:
            return fixed_prefix(self.path)
        return self.path if not self.path or self.path.endswith('/') else f'{self.path}/'

    @property
    def root(self) -> str:
        """The base as a URI."""
        return str(self.bucket.place(self.base))

    def files(self, filters: Filters = NO_FILTERS) -> Iterator[FileEntry]:
        """Yield the files as the bridge lists them, a page at a time, without what copies need.

        Args:
            filters (Filters): which are meant, by their names relative to the base.

        Raises:
            FileNotFound: If there is nothing, at the end.
        """
        found = not self.path or self.path.endswith('/')
        for entry in self.catalog.scan(self.bucket, brief=True):
            if not self.path or self._means(entry):
                found = True
                if not filters.rules or filters.accept(self.relative(entry)):
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


@dataclass(slots=True)
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
    sums = _Folders(selection.base, levels)
    for entry in selection.files(filters):
        whole.add(entry.size)
        sums.add(entry)
    names = sorted(sums.found, key=_after_its_content)
    for name in names:
        sums.found[name].uri = str(selection.bucket.place(name))
    return [sums.found[name] for name in names] + [whole]


class _Folders:
    """The folders that files are in, and what they hold.

    Args:
        base (str): what is above them.
        levels (int): how deep they are.

    Attributes:
        found (dict[str, Usage]): by name, ``/`` at the end, which is their URI too.
    """

    def __init__(self, base: str, levels: int) -> None:
        self.found: dict[str, Usage] = {}
        self._base, self._levels = base, levels
        self._folder: str | None = None
        self._above: list[Usage] = []

    def add(self, entry: FileEntry) -> None:
        """Add a file to its folders."""
        folder = entry.name[: entry.name.rfind('/') + 1]
        # A bucket is listed in the order of names: a file is mostly where the one before is.
        if folder != self._folder:
            self._folder, self._above = folder, [*map(self._sum, self._names(folder))]
        for each in self._above:
            each.add(entry.size)

    def _names(self, folder: str) -> Iterator[str]:
        """Yield a folder and those that it is in, as far as they count, from the outermost on."""
        end = len(self._base) if folder.startswith(self._base) else len(folder)
        for _ in range(self._levels):
            end = folder.find('/', end) + 1
            if not end:
                return
            yield folder[:end]

    def _sum(self, folder: str) -> Usage:
        return self.found.setdefault(folder, Usage(folder))


def _after_its_content(folder: str) -> list[tuple[bool, str]]:
    """Return the key that sorts folders by their parts, and a folder after those in it."""
    return [*((False, part) for part in folder.split('/')[:-1]), (True, '')]


def _in_tree(name: str) -> str:
    """Return the key that sorts names by their parts: ``/`` comes before all characters.

    Lists of parts would take three times the memory.
    """
    return name.replace('\1', '\1\2').replace('\0', '\1\1').replace('/', '\0')


@dataclass(slots=True)
class Branch:
    """A line of a tree: a folder or a file.

    Attributes:
        name (str): the last part of its name; that of a folder ends in ``/``.
        place (str): its whole name within the bucket.
        entry (FileEntry | None): the file; None for a folder.
        depth (int): folders of the tree that it is in.
        content (Usage): its sum.
        is_last (bool): whether nothing follows it in its folder.
        open (tuple[bool, ...]): for each folder that it is in, whether something follows that one.
    """

    name: str
    place: str
    entry: FileEntry | None
    depth: int
    content: Usage
    is_last: bool = True
    open: tuple[bool, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the record that ``--json`` prints."""
        if self.entry is not None:
            return {'type': 'file', 'depth': self.depth, **self.entry.to_dict()}
        return {
            'type': 'prefix',
            'depth': self.depth,
            'name': self.place,
            'size': self.content.size,
            'files': self.content.files,
        }


def branches(
    selection: Selection,
    filters: Filters = NO_FILTERS,
    *,
    levels: int | None = None,
    folders_only: bool = False,
) -> list[Branch]:
    """Return the lines of the tree below a place, sorted folder by folder.

    Args:
        selection (Selection): the place.
        filters (Filters): which files are in the tree, and which folders because of them.
        levels (int | None): how deep it is, :data:`LEVELS` at most.
        folders_only (bool): leave the files out; they count in the sums of the folders.

    Raises:
        FileNotFound: If there is nothing.
    """
    levels = LEVELS if levels is None else min(levels, LEVELS)
    base = selection.base
    folders = _Folders(base, levels)
    files: list[Branch] = []
    for entry in selection.files(filters):
        folders.add(entry)
        relative = selection.relative(entry)
        depth = relative.count('/')
        if depth < levels and not folders_only:
            size = Usage(entry.name, entry.size or 0, 1)
            files.append(
                Branch(relative[relative.rfind('/') + 1 :], entry.name, entry, depth, size)
            )
    found: list[Branch] = []
    for folder, content in folders.found.items():
        *above, name, _ = folder[len(base) :].split('/')
        found.append(Branch(f'{name}/', folder, None, len(above), content))
    # A folder before what is in it, also before a file whose name ends in a slash.
    found += files
    found.sort(key=lambda branch: _in_tree(branch.place.removeprefix(base)))
    _join(found)
    return found


def _join(found: Sequence[Branch]) -> None:
    """Find out from the last line on which lines and folders others follow in the same folder."""
    follows: list[bool] = []
    # Many lines are in the same position.
    positions: dict[tuple[bool, ...], tuple[bool, ...]] = {}
    for branch in reversed(found):
        del follows[branch.depth + 1 :]
        follows += [False] * (branch.depth + 1 - len(follows))
        branch.is_last = not follows[branch.depth]
        position = tuple(follows[: branch.depth])
        branch.open = positions.setdefault(position, position)
        follows[branch.depth] = True


@dataclass(frozen=True)
class Criteria:
    """What a search is for; a file has to meet all that is given.

    Attributes:
        names (Sequence[str]): shell patterns for the last part of the name, one of which fits.
        min_size (int | None): bytes.
        max_size (int | None): bytes.
        created_before (datetime.datetime | None): latest time.
        created_after (datetime.datetime | None): earliest time.
        filters (Filters): for the name relative to the place that is searched.
    """

    names: Sequence[str] = ()
    min_size: int | None = None
    max_size: int | None = None
    created_before: datetime.datetime | None = None
    created_after: datetime.datetime | None = None
    filters: Filters = NO_FILTERS

    def accept(self, entry: FileEntry) -> bool:
        """Return whether a file meets all but the filters; an unknown size or time meets none."""
        return (
            self.accept_name(entry.name)
            and _is_within(entry.size, self.min_size, self.max_size)
            and _is_within(entry.created, self.created_after, self.created_before)
        )

    def accept_name(self, name: str) -> bool:
        """Return whether the last part of a file's or folder's name fits one of the patterns."""
        last = name.rstrip('/').rpartition('/')[2]
        # No expression of a generator, which takes as long as to match a name.
        for pattern in self.names:
            if fnmatch.fnmatchcase(last, pattern):
                return True
        return not self.names


def _is_within(value: Any, least: Any, most: Any) -> bool:
    if value is None:
        return least is None and most is None
    return (least is None or value >= least) and (most is None or value <= most)


def find_files(selection: Selection, criteria: Criteria) -> list[FileEntry]:
    """Return the files of a place that meet criteria, in the order of their names.

    Raises:
        FileNotFound: If there is nothing at the place.
    """
    found = filter(criteria.accept, selection.files(criteria.filters))
    return sorted(found, key=lambda entry: entry.name)


def find_folders(selection: Selection, criteria: Criteria) -> list[str]:
    """Return the names of the folders below a place that meet criteria, sorted, ``/`` at the end.

    Args:
        selection (Selection): the place.
        criteria (Criteria): of names alone: folders have neither size nor time.

    Raises:
        FileNotFound: If there is nothing at the place.
    """
    folders = _Folders(selection.base, LEVELS)
    for entry in selection.files(criteria.filters):
        folders.add(entry)
    return sorted(filter(criteria.accept_name, folders.found))


_Answer = TypeVar('_Answer')


def describe(catalog: Catalog, place: Remote) -> dict[str, Any]:
    """Return all that the bridge knows of a bucket, a prefix or a file.

    Costs a few requests for a file, and the listing of a bucket or prefix.

    Args:
        catalog (Catalog): of the account.
        place (Remote): of the bucket, prefix or file.

    Returns:
        dict[str, Any]: the record that ``--json`` prints; ``type`` is ``bucket``, ``prefix`` or
        ``file``. What a bridge does not tell is None.

    Raises:
        BucketNotFound, FileNotFound: If nothing is there.
    """
    bucket = catalog.bucket(place.bucket)
    entry = catalog.find_file(bucket, place.path)
    if entry is not None:
        return describe_file(catalog, entry)
    selection = Selection(catalog, bucket, place.path)
    [whole] = usage(selection, depth=0)
    content = {'files': whole.files, 'size': whole.size}
    if place.path:
        if not whole.files:
            raise FileNotFound(f'no such file: {selection}')
        return {'type': 'prefix', 'uri': selection.root, 'bucket': bucket.id, **content}
    found = catalog.client.bucket_get(bucket.id)
    return {
        'type': 'bucket',
        'uri': selection.root,
        **bucket.to_dict(),
        'stored_name': bucket.stored_name,
        'user': getattr(found, 'user', None),
        'public_permissions': getattr(found, 'publicPermissions', None),
        'pubkeys': getattr(found, 'pubkeys', None),
        **content,
    }


def describe_file(catalog: Catalog, entry: FileEntry) -> dict[str, Any]:
    """Return all that the bridge knows of a file: the record that ``--json`` prints."""
    client, bucket = catalog.client, entry.bucket
    found = client.file_metadata(bucket.id, entry.id)
    frame_id = getattr(found.frame, 'id', None)
    frame = None if frame_id is None else _if_known(lambda: client.frame_get(frame_id))
    mirrors = _if_known(lambda: client.file_mirrors(bucket.id, entry.id))
    shards = [shard.established or [] for shard in mirrors or []]
    holders = {_holder(copy) for copies in shards for copy in copies} - {None}
    return {
        'type': 'file',
        'uri': str(entry),
        **entry.to_dict(),
        'modified': None if entry.modified is None else _moment(entry.modified),
        'bucket_name': bucket.name,
        'stored_name': entry.stored_name,
        'frame': frame_id,
        'index': found.index,
        'erasure': _type_of(found.erasure),
        'hmac': _type_of(found.hmac),
        'shards': len(shards if frame is None else frame.shards),
        'stored_size': None if frame is None else frame.storageSize,
        'copies': None if mirrors is None else sum(map(len, shards)),
        'farmers': None if mirrors is None else len(holders),
    }


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def _type_of(value: Any) -> Any:
    """Return the ``type`` of a record such as ``hmac`` or ``erasure``, None for none."""
    return value.get('type') if isinstance(value, dict) else value


def _holder(copy: Any) -> Any:
    """Return the id of the farmer that has a copy: bridges since 5.23 send the contract alone."""
    contact, contract = copy.get('contact') or {}, copy.get('contract') or {}
    return contact.get('nodeID') or contract.get('farmer_id')


def _if_known(ask: Callable[[], _Answer]) -> _Answer | None:
    """Return an answer, None of a bridge that has no such route or record."""
    try:
        return ask()
    except NotFoundError:
        return None
