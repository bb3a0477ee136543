"""What is stored: names and ids, listings as trees, comparison, plans of transfers, share links.

The command line is one front end of it; everything that another one would need is here. It is
handed a :class:`storj.http.Client` and engines (:class:`storj.transfer.Transfers`), prints nothing
and reads no settings. Modules are loaded when their names are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storj.catalog.entries import BucketEntry as BucketEntry
    from storj.catalog.entries import Catalog as Catalog
    from storj.catalog.entries import FileEntry as FileEntry
    from storj.catalog.entries import Stamp as Stamp
    from storj.catalog.filters import Filters as Filters
    from storj.catalog.filters import Rule as Rule

_NAMES = {
    'BucketEntry': 'entries',
    'Catalog': 'entries',
    'FileEntry': 'entries',
    'Stamp': 'entries',
    'Filters': 'filters',
    'Rule': 'filters',
}


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'storj.catalog.{_NAMES[name]}'), name)
