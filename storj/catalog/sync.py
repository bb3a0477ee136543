"""Two places side by side: what differs, and plans that make one like the other.

A place is a folder on this machine, or a bucket or a prefix in it; one of the two at least is
stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

from storj.catalog.content import Contents
from storj.catalog.copier import Copier
from storj.catalog.entries import BucketEntry, Catalog, FileEntry
from storj.catalog.errors import FileNotFound, LocalPathNotFound, UsageProblem
from storj.catalog.filters import NO_FILTERS, Filters
from storj.catalog.jobs import Job
from storj.catalog.places import Local, Location, Remote
from storj.catalog.removal import remove_local, remove_remote
from storj.catalog.tree import LocalFile, remote_names, walk
from storj.exception import StorjError

__all__ = ('Comparison', 'Finding', 'Sync')

Item = LocalFile | FileEntry


class Side:
    """One of two places, with the files in it by their names relative to it.

    Args:
        catalog (Catalog): of the account.
        place (Location): a folder, a bucket or a prefix.
        filters (Filters): which files are meant.
        follow (bool): whether links to folders are followed.
        is_source (bool): whether the place has to exist.
        brief (bool): leave out of stored files what only their transfer needs.
        advice (str): for who names a single file.

    Attributes:
        place (Local | Remote): as given.
        bucket (BucketEntry | None): of a stored place.
        base (str): what the names of its files begin with; of a stored place.

    Raises:
        UsageProblem: If it is neither folder nor prefix, but a file.
        BucketNotFound, LocalPathNotFound, FileNotFound: If it does not exist, and has to.
    """

    def __init__(
        self,
        catalog: Catalog,
        place: Location,
        filters: Filters = NO_FILTERS,
        *,
        follow: bool = False,
        is_source: bool = True,
        brief: bool = False,
        advice: str = "'storj cp' copies single files",
    ) -> None:
        self.bucket: BucketEntry | None = None
        self.base = ''
        self._filters, self._follow = filters, follow
        self._stored: dict[str, FileEntry] = {}
        if isinstance(place, Remote):
            self.bucket = catalog.bucket(place.bucket)
            self.base = place.path if place.is_folder else f'{place.path}/'
            stored = remote_names(catalog, self.bucket, self.base, brief=brief)
            single = bool(self.base) and not stored and not place.is_folder
            if single and catalog.find_file(self.bucket, place.path) is not None:
                raise UsageProblem(f'{place} is a file, no prefix', hint=advice)
            if is_source and not stored and self.base:
                # If the surplus is removed, a mistyped prefix would empty the other side.
                raise FileNotFound(f'no files in {self.bucket.place(self.base)}')
            self._stored = {name: it for name, it in stored.items() if filters.accept(name)}
        elif isinstance(place, Local):
            if place.path.exists() and not place.path.is_dir():
                raise UsageProblem(f'{place} is no folder', hint=advice)
            if is_source and not place.path.is_dir():
                raise LocalPathNotFound(f'no such folder: {place}')
        else:
            raise UsageProblem(f'{place} is neither a folder nor a storj:// URI')
        self.place = place

    def files(self) -> Iterator[tuple[str, Item]]:
        """Yield the names of the files relative to the place, and the files.

        Those of a folder are not in memory: it is read meanwhile.
        """
        if self.bucket is not None:
            yield from self._stored.items()
        elif isinstance(self.place, Local) and self.place.path.is_dir():
            for file in walk(self.place.path, self._filters, follow=self._follow):
                yield file.name, file

    def overlaps(self, other: Side) -> bool:
        """Return whether one of two stored places is within the other."""
        if self.bucket is None or other.bucket is None or self.bucket.id != other.bucket.id:
            return False
        return self.base.startswith(other.base) or other.base.startswith(self.base)


def _check_pair(one: Location, other: Location) -> None:
    if isinstance(one, Local) and isinstance(other, Local):
        raise UsageProblem(
            'neither place is a storj:// URI', hint='a bucket is written storj://BUCKET/PREFIX'
        )


def _trouble(item: Item | None) -> OSError | None:
    return item.trouble if isinstance(item, LocalFile) else None


_ONE_FILE = "name the folder or prefix that it is in, and the file by '--include NAME'"

#: What is found out about a file of two places.
Status = Literal['match', 'differ', 'missing_in_source', 'missing_in_destination', 'error']


@dataclass(frozen=True)
class Finding:
    """What is found out about one file of two places.

    Attributes:
        name (str): relative to both.
        status (str): ``match``, ``differ``, ``missing_in_source``, ``missing_in_destination`` or
            ``error``.
        size (int | None): bytes, of the source's file if it is there.
        error (Exception | None): why the files could not be compared.
    """

    name: str
    status: Status
    size: int | None = None
    error: Exception | None = None


class Comparison:
    """Compares two places by the content of their files.

    Args:
        catalog (Catalog): of the account.
        source (Location): a folder, a bucket or a prefix.
        destination (Location): the other one.
        contents (Contents): compares two files.
        filters (Filters): which files are meant on either side.
        one_way (bool): leave out files that the destination alone has.
        follow (bool): whether links to folders are followed.

    Attributes:
        count (int): files to be compared or reported.

    Raises:
        UsageProblem: If both are local, or one is a file.
        BucketNotFound, LocalPathNotFound, FileNotFound: If a place does not exist.
    """

    def __init__(
        self,
        catalog: Catalog,
        source: Location,
        destination: Location,
        contents: Contents,
        *,
        filters: Filters = NO_FILTERS,
        one_way: bool = False,
        follow: bool = False,
    ) -> None:
        _check_pair(source, destination)
        self._contents = contents
        side = partial(Side, catalog, filters=filters, follow=follow, advice=_ONE_FILE)
        self._source = dict(side(source).files())
        other = dict(side(destination, is_source=False).files())
        self._destination = other
        names = set(self._source) if one_way else {*self._source, *other}
        unread = [
            f'{name}/' for side in (self._source, other) for name in side if _trouble(side[name])
        ]
        # Of what is in an unread folder nothing is known: the folder is reported.
        self._names = sorted(it for it in names if not it.startswith(tuple(unread)))
        self.count = len(self._names)

    def findings(self, width: int) -> Generator[Finding, None, None]:
        """Yield what is found out about each file, in the order of the names.

        Closing the iterator ends the comparisons under way.

        Args:
            width (int): files compared at the same time.
        """
        pool = ThreadPoolExecutor(width, 'storj-check')
        ahead: deque[Future[Finding]] = deque()
        completed = False
        try:
            for name in self._names:
                ahead.append(pool.submit(self._finding, name))
                if len(ahead) > 2 * width:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
            completed = True
        finally:
            if not completed:
                self._contents.stop()
            # Otherwise not awaited: a thread may wait for a farmer until the engine is closed.
            pool.shutdown(wait=completed, cancel_futures=True)

    def _finding(self, name: str) -> Finding:
        source, destination = self._source.get(name), self._destination.get(name)
        size = next((item.size for item in (source, destination) if item is not None), None)
        error: Exception | None = _trouble(source) or _trouble(destination)
        if error is not None:
            return Finding(name, 'error', None, error)
        if source is None:
            return Finding(name, 'missing_in_source', size)
        if destination is None:
            return Finding(name, 'missing_in_destination', size)
        try:
            same = self._contents.are_same(source, destination)
        except (StorjError, OSError) as caught:
            return Finding(name, 'error', size, caught)
        return Finding(name, 'match' if same else 'differ', size)


class Sync:
    """Plans to make one place like another.

    A file is copied if it is missing at the destination, has another size there, or is older; if
    this machine remembers the time of the file that was stored, if the source has another time.

    Args:
        copier (Copier): makes the jobs; its options should be those of several files with their
            ``times``, so that the next run finds downloads unchanged.
        source (Location): a folder, a bucket or a prefix.
        destination (Location): the same; not in the source, nor the source in it.
        filters (Filters): which files are meant on either side.
        checksum (bool): whether contents are compared instead of times. Two stored files are both
            fetched for it.
        announced (bool): whether the jobs are only announced: nothing is kept for a transfer.

    Attributes:
        unchanged (int): files that are the same on both sides.
        surplus (list[LocalFile | FileEntry]): files at the destination only. As ``unchanged`` it is
            known when all jobs were made.

    Raises:
        UsageProblem: If both are local, one is within the other, or one is a file.
        BucketNotFound, LocalPathNotFound, FileNotFound: If the source does not exist.
    """

    def __init__(
        self,
        copier: Copier,
        source: Location,
        destination: Location,
        *,
        filters: Filters = NO_FILTERS,
        checksum: bool = False,
        announced: bool = False,
    ) -> None:
        _check_pair(source, destination)
        self._copier = copier
        follow = copier.options.follow_links
        side = partial(Side, copier.catalog, filters=filters, follow=follow)
        # Contents are compared by what a download needs.
        brief = (announced or isinstance(destination, Remote)) and not checksum
        self._source = side(source, brief=brief)
        self._target = side(destination, is_source=False, brief=not checksum)
        if self._source.overlaps(self._target):
            raise UsageProblem(
                f'{source} and {destination} overlap', hint='choose another bucket or prefix'
            )
        self._checksum = checksum
        self.unchanged = 0
        self.surplus: list[Item] = []

    def jobs(self) -> Iterator[Job]:
        """Yield what is to be done, while a folder that is the source is read; once."""
        present = dict(self._target.files())
        for name, item in self._source.files():
            there = present.pop(name, None)
            if there is not None and not self._differs(item, there):
                self.unchanged += 1
            else:
                yield self._job(name, item, there)
        # What cannot be read counts as present. Its job fails at the source: nothing is removed.
        self.surplus = [item for item in present.values() if _trouble(item) is None]

    def remove(self, surplus: Sequence[Item]) -> Iterator[tuple[Item, Exception | None]]:
        """Remove files of the destination, and folders that become empty.

        Yields:
            tuple: each file, and what kept it from being removed.
        """
        stored = [item for item in surplus if isinstance(item, FileEntry)]
        yield from remove_remote(self._copier.catalog.client, stored)
        place = self._target.place
        if isinstance(place, Local):
            local = (item for item in surplus if isinstance(item, LocalFile))
            yield from remove_local(local, place.path)

    def _differs(self, source: Item, present: Item) -> bool:
        if _trouble(source) or _trouble(present) or source.size != present.size:
            return True
        if not self._checksum:
            return not present.stamp.serves_for(source.stamp)
        copier = self._copier
        if isinstance(source, LocalFile) and isinstance(present, FileEntry):
            return not copier.same_content(source.path, present, sending=True)
        if isinstance(present, LocalFile) and isinstance(source, FileEntry):
            return not copier.same_content(present.path, source, sending=False)
        contents = Contents(copier.downloads, decrypt=not copier.options.plain)
        return not contents.are_same(source, present)

    def _job(self, name: str, item: Item, present: Item | None) -> Job:
        target, copier = self._target, self._copier
        existing = present if isinstance(present, FileEntry) else None
        if isinstance(item, LocalFile) and target.bucket is not None:
            return copier.upload(item, target.bucket, target.base + name, existing)
        if isinstance(item, FileEntry) and target.bucket is not None:
            return copier.copy(item, target.bucket, target.base + name, existing)
        if isinstance(item, FileEntry) and isinstance(target.place, Local):
            return copier.download_into(item, name, target.place.path)
        raise TypeError('two local places')
