"""Names that were seen lately, for the completion of the shell.

The file holds names in clear, so it is readable by its owner alone, it is forgotten after some
minutes, and 'storj account logout' removes it. A cache that cannot be read or written is no cache:
completion is never worth an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from storj import atomic_file

__all__ = ('NameCache',)

#: Seconds for which a list is offered without asking the bridge again.
FRESH = 300.0
#: Names kept per list; more are of no use at a prompt.
LIMIT = 2000


class NameCache:
    """The names of one account.

    Args:
        folder (Path): where the file lies; made if it is missing.
        account (str): what tells this account from others; only its hash is written.
        clock (Callable[[], float]): seconds since 1970.
    """

    def __init__(self, folder: Path, account: str, clock: Callable[[], float] = time.time) -> None:
        digest = hashlib.sha256(account.encode('utf-8', 'replace')).hexdigest()
        self.path = folder / f'names-{digest[:16]}.json'
        self._clock = clock

    def buckets(self, *, stale: bool = False) -> list[str] | None:
        """Return the names of buckets, None if there are none lately."""
        return self._read('buckets', stale)

    def files(self, bucket: str, *, stale: bool = False) -> list[str] | None:
        """Return the names of a bucket's files, None if there are none lately."""
        return self._read(f'files/{bucket}', stale)

    def store_buckets(self, found: Iterable[str]) -> None:
        """Keep the names of all buckets."""
        self._write('buckets', found)

    def store_files(self, bucket: str, found: Iterable[str]) -> None:
        """Keep the names of a bucket's files."""
        self._write(f'files/{bucket}', found)

    def forget(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _load(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding='utf-8'))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def _read(self, key: str, stale: bool) -> list[str] | None:
        match self._load().get(key):
            case {'time': int() | float() as moment, 'names': [*found]}:
                if stale or self._is_fresh(moment):
                    return [name for name in found if isinstance(name, str)]
        return None

    def _is_fresh(self, moment: float) -> bool:
        return 0 <= self._clock() - moment < FRESH

    def _write(self, key: str, found: Iterable[str]) -> None:
        """Replace one list, and drop those that are too old to be offered."""
        content: dict[str, Any] = {}
        for other, entry in self._load().items():
            match entry:
                case {'time': int() | float() as moment} if self._is_fresh(moment):
                    content[other] = entry
        content[key] = {'time': self._clock(), 'names': list(found)[:LIMIT]}
        with contextlib.suppress(OSError, ValueError):
            atomic_file.write(self.path, json.dumps(content).encode(), sync=False)
