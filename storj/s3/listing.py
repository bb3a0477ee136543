"""The keys of a bucket in S3's order, and how one page of a listing is cut out of them."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from storj.catalog import FileEntry
from storj.text import is_unicode


@dataclass
class Page:
    """One page of a listing.

    Attributes:
        entries (list[FileEntry]): keys, in order.
        prefixes (list[str]): common prefixes, in order.
        more (str | None): what the next page begins behind; None if this is the last one.
    """

    entries: list[FileEntry] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    more: str | None = None


class Keys:
    """All files of a bucket at one moment, kept up to date; safe to use from all threads.

    S3 orders keys by their bytes in UTF-8, which is the order of Python's text. A name that is no
    UTF-8 cannot be a key: such a file counts, and is on no page.

    Attributes:
        moment (float): when they were fetched, by the monotonic clock.
    """

    def __init__(self, entries: Iterable[FileEntry]) -> None:
        self.moment = time.monotonic()
        self._lock = threading.Lock()
        self._entries = {entry.name: entry for entry in entries}
        self._keys = sorted(filter(is_unicode, self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: FileEntry) -> None:
        """Add a file, or replace it."""
        with self._lock:
            if entry.name not in self._entries:
                insort(self._keys, entry.name)
            self._entries[entry.name] = entry

    def remove(self, key: str) -> None:
        """Forget a file."""
        with self._lock:
            if self._entries.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    def _behind(self, prefix: str, place: int) -> int:
        """Return the place of the first key from a place on that does not begin with a prefix."""
        return bisect_left(self._keys, True, place, key=lambda key: not key.startswith(prefix))

    def page(self, prefix: str, delimiter: str, after: str, most: int) -> Page:
        """Return a page.

        Args:
            prefix (str): that keys begin with.
            delimiter (str): keys that have it behind the prefix are told as one common prefix;
                empty for none.
            after (str): keys and common prefixes up to this one are left out.
            most (int): keys and common prefixes together.
        """
        page = Page()
        with self._lock:
            place = max(bisect_right(self._keys, after), bisect_left(self._keys, prefix))
            last = None
            while place < len(self._keys):
                key = self._keys[place]
                if not key.startswith(prefix):
                    break
                cut = key.find(delimiter, len(prefix)) if delimiter else -1
                common = key[: cut + len(delimiter)] if cut >= 0 else ''
                if common and common <= after:
                    # Told on a page before this one.
                    place = self._behind(common, place)
                    continue
                if len(page.entries) + len(page.prefixes) >= most:
                    page.more = last
                    break
                if common:
                    page.prefixes.append(common)
                    last, place = common, self._behind(common, place)
                else:
                    page.entries.append(self._entries[key])
                    last, place = key, place + 1
        return page
