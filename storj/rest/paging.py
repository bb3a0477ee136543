"""Answers in pages: each is fetched when it is reached, and then kept.

A listing ends with the first page that brings nothing new, and has a maximum number of entries: the
other side decides how many pages it sends.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from storj.model import FilePointer
from storj.object import USUAL_TIME, parse_time
from storj.rest.answers import unexpected

T = TypeVar('T')

_EARLIEST = datetime(1970, 1, 1, tzinfo=timezone.utc)

#: Entries of a full page, of which there may be a next one (bridges since 5.6).
BUCKETS_PAGE = 5000
FILES_PAGE = 2000

#: Entries of a whole listing, and shards of a whole file.
MAX_ENTRIES = 2**20


class Pages(list[T]):
    """List that is filled while it is read.

    May be iterated several times and by several threads at once; an index fetches as far as it must
    and ``len``, like whatever changes the list, everything. ``next`` returns one entry after the
    other, as of the generator that it was in 0.1.5; to JSON it is the list that it was in 0.3. An
    error of a page is raised where the page is reached, and the page is asked for again at the next
    attempt.

    Args:
        pages (Callable[[int], Sequence[T]]): returns the page after so many entries; the first
            empty one is the last.
    """

    def __init__(self, pages: Callable[[int], Sequence[T]]) -> None:
        super().__init__()
        self._next_page: Callable[[int], Sequence[T]] | None = pages
        self._read = 0
        self._lock = threading.RLock()

    def _fetch(self) -> bool:
        """Fetch one more page and return whether there may be another."""
        if self._next_page is None:
            return False
        have = super().__len__()
        page = self._next_page(have)
        if page:
            check_count(have + len(page))
            super().extend(page)
        else:
            self._next_page = None
        return bool(page)

    def _reach(self, count: int | None) -> bool:
        """Fetch until there are ``count`` entries, or all if None; return whether there are."""
        with self._lock:
            while (count is None or super().__len__() < count) and self._fetch():
                pass
            return count is None or super().__len__() >= count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            self._reach(_reach_of(index))
        else:
            self._reach(index + 1 if index >= 0 else None)
        return super().__getitem__(index)

    def __len__(self) -> int:
        self._reach(None)
        return super().__len__()

    def __bool__(self) -> bool:
        return self._reach(1)

    def __iter__(self) -> Iterator[T]:
        position = 0
        while self._reach(position + 1):
            yield super().__getitem__(position)
            position += 1

    def __next__(self) -> T:
        with self._lock:
            if not self._reach(self._read + 1):
                raise StopIteration
            self._read += 1
            return super().__getitem__(self._read - 1)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, list) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __radd__(self, other: list[T]) -> list[T]:
        return other + list(self)

    def __reduce__(self) -> Any:
        # Copies, also in another process, are plain lists: they have no client.
        return list, (list(self),)

    def __repr__(self) -> str:
        more = '' if self._next_page is None else ', ...'
        return f'[{", ".join(map(repr, super().__iter__()))}{more}]'


def _whole(name: str) -> Callable[..., Any]:
    """Return a method of lists that fetches everything first."""
    method = getattr(list, name)

    @functools.wraps(method)
    def call(self: Pages[Any], *args: Any, **options: Any) -> Any:
        self._reach(None)
        return method(self, *args, **options)

    return call


for _name in (
    *('__add__', '__contains__', '__delitem__', '__iadd__', '__imul__', '__mul__', '__reversed__'),
    *('__rmul__', '__setitem__', 'append', 'clear', 'copy', 'count', 'extend', 'index', 'insert'),
    *('pop', 'remove', 'reverse', 'sort'),
):
    setattr(Pages, _name, _whole(_name))


def _reach_of(part: slice) -> int | None:
    """Return how many entries a slice needs, None if it needs their number."""
    backward = part.step is not None and part.step < 0
    last = part.start if backward else part.stop
    if last is None or any(bound is not None and bound < 0 for bound in (part.start, part.stop)):
        return None
    return int(last) + backward


class BySkip:
    """Pages of pointers, each behind the one before; to be handed to :class:`Pages`.

    A short page is the last. So is one without anything new: bridges below 0.10 send the whole list
    whatever is asked, others more than a page.

    Args:
        fetch (Callable[[int], list]): returns the page that begins with a pointer of this number.
        start (int): number of the first pointer.
        size (int): pointers of a full page.
        is_one (bool): whether there is one page only, of at most ``size``.
    """

    def __init__(
        self,
        fetch: Callable[[int], list[FilePointer]],
        start: int,
        size: int,
        *,
        is_one: bool,
    ) -> None:
        self._fetch, self._size, self._is_one = fetch, size, is_one
        self._position: int | None = start
        self._seen: set[int | None] = set()

    def __call__(self, have: int) -> list[FilePointer]:
        """Return the page behind so many pointers; a page that failed is asked for again."""
        if self._position is None:
            return []
        page = self._fetch(self._position)
        fresh = [pointer for pointer in page if pointer.index not in self._seen]
        self._seen.update({pointer.index for pointer in fresh} - {None})
        if self._is_one:
            self._position = None
            return fresh[: self._size]
        whole = self._position == 0 and len(page) > self._size
        is_last = whole or len(page) < self._size or not fresh
        self._position = None if is_last else self._position + len(page)
        return fresh


def check_count(count: int) -> None:
    """Raise what ends a listing that has more entries than any can have.

    Raises:
        BridgeUnavailableError: If there are more than :data:`MAX_ENTRIES`.
    """
    if count > MAX_ENTRIES:
        raise unexpected([], f'no more than {MAX_ENTRIES} entries')


def by_start_date(
    fetch: Callable[[str | None], Iterable[dict[str, Any]]], page_size: int
) -> Iterator[list[dict[str, Any]]]:
    """Yield the pages of a listing that continues after a time of creation.

    Bridges return what was created strictly later than ``startDate``. Several entries may share a
    millisecond, so a page begins one millisecond early and what was seen already is dropped. The
    listing ends with a page in which nothing is new: a bridge that knows no ``startDate`` repeats
    itself. An entry without an id cannot be compared with those seen before, so it is kept.

    Args:
        fetch (Callable[[str | None], Iterable[dict]]): returns a page; None asks for the first.
        page_size (int): entries of a full page.

    Raises:
        BridgeUnavailableError: If it has more than :data:`MAX_ENTRIES` entries.
    """
    # Hashes, because what stands for an id may be as long as an answer.
    seen: set[int] = set()
    start: str | None = None
    count = 0
    while True:
        page = list(fetch(start))
        before = len(seen)
        fresh = [entry for entry in page if not _is_seen(entry, seen)]
        if start is not None and len(seen) == before:
            return
        if fresh:
            yield fresh
        count += len(fresh)
        check_count(count)
        latest = None if len(page) < page_size else _latest(fresh)
        if latest is None:
            return
        # Not before the first time there is, which only a damaged entry has.
        later = max(latest, _EARLIEST) - timedelta(milliseconds=1)
        previous, start = start, later.replace(tzinfo=None).isoformat(timespec='milliseconds') + 'Z'
        if previous is not None and start <= previous:
            return


def _latest(entries: Iterable[Mapping[str, Any]]) -> datetime | None:
    """Return the last time of creation, None if no entry has one."""
    texts = [entry.get('created') for entry in entries]
    # Texts in the form of bridges are in the order of their times: one is parsed, not thousands.
    if all(type(text) is str and USUAL_TIME.fullmatch(text) for text in texts):
        latest = parse_time(max(map(str, texts), default=None))
        if latest is not None:
            return latest
    return max((moment for text in texts if (moment := parse_time(text))), default=None)


def _is_seen(entry: Mapping[str, Any], seen: set[int]) -> bool:
    """Return whether an entry came before, and remember it."""
    identifier = entry.get('id')
    if not isinstance(identifier, str):
        return False
    key = hash(identifier)
    if key in seen:
        return True
    seen.add(key)
    return False
