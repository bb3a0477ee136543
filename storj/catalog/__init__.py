"""What is stored: names and ids, listings as trees, comparison, plans of transfers, share links.

The command line is one front end of it; everything that another one would need is here. It is
handed a :class:`storj.http.Client` and engines (:class:`storj.transfer.Transfers`), prints nothing
and reads no settings. Modules are loaded when their names are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storj.catalog.content import Contents as Contents
    from storj.catalog.content import same_content as same_content
    from storj.catalog.copier import Copier as Copier
    from storj.catalog.copier import CopyOptions as CopyOptions
    from storj.catalog.copier import Downloader as Downloader
    from storj.catalog.entries import BucketEntry as BucketEntry
    from storj.catalog.entries import Catalog as Catalog
    from storj.catalog.entries import FileEntry as FileEntry
    from storj.catalog.entries import Stamp as Stamp
    from storj.catalog.errors import BucketNotFound as BucketNotFound
    from storj.catalog.errors import CatalogError as CatalogError
    from storj.catalog.errors import ConflictError as ConflictError
    from storj.catalog.errors import FileNotFound as FileNotFound
    from storj.catalog.errors import LocalPathNotFound as LocalPathNotFound
    from storj.catalog.errors import SourceKept as SourceKept
    from storj.catalog.errors import UnsafeNameError as UnsafeNameError
    from storj.catalog.errors import UsageProblem as UsageProblem
    from storj.catalog.filters import Filters as Filters
    from storj.catalog.filters import Rule as Rule
    from storj.catalog.jobs import Batch as Batch
    from storj.catalog.jobs import Job as Job
    from storj.catalog.jobs import Outcome as Outcome
    from storj.catalog.jobs import Skip as Skip
    from storj.catalog.jobs import Unchanged as Unchanged
    from storj.catalog.listing import Branch as Branch
    from storj.catalog.listing import Criteria as Criteria
    from storj.catalog.listing import Selection as Selection
    from storj.catalog.listing import Usage as Usage
    from storj.catalog.listing import branches as branches
    from storj.catalog.listing import describe as describe
    from storj.catalog.listing import describe_file as describe_file
    from storj.catalog.listing import find_files as find_files
    from storj.catalog.listing import find_folders as find_folders
    from storj.catalog.listing import selections as selections
    from storj.catalog.listing import usage as usage
    from storj.catalog.places import ByteRange as ByteRange
    from storj.catalog.places import Link as Link
    from storj.catalog.places import Local as Local
    from storj.catalog.places import Remote as Remote
    from storj.catalog.places import Stream as Stream
    from storj.catalog.places import parse_location as parse_location
    from storj.catalog.places import parse_remote as parse_remote
    from storj.catalog.removal import remove_local as remove_local
    from storj.catalog.removal import remove_remote as remove_remote
    from storj.catalog.share import Share as Share
    from storj.catalog.share import SharedBridge as SharedBridge
    from storj.catalog.share import make_share as make_share
    from storj.catalog.sync import Comparison as Comparison
    from storj.catalog.sync import Finding as Finding
    from storj.catalog.sync import Sync as Sync
    from storj.catalog.times import Times as Times
    from storj.catalog.tree import LocalFile as LocalFile
    from storj.catalog.tree import RemoteFile as RemoteFile
    from storj.catalog.tree import find_local as find_local
    from storj.catalog.tree import find_remote as find_remote
    from storj.catalog.tree import fold as fold
    from storj.catalog.tree import walk as walk

#: Module -> its names that are names of this package too.
_MODULES = {
    'entries': 'BucketEntry Catalog FileEntry Stamp',
    'errors': 'BucketNotFound CatalogError ConflictError FileNotFound '
    'LocalPathNotFound SourceKept UnsafeNameError UsageProblem',
    'places': 'ByteRange Link Local Remote Stream parse_location parse_remote',
    'filters': 'Filters Rule',
    'tree': 'LocalFile RemoteFile find_local find_remote fold walk',
    'listing': 'Branch Criteria Selection Usage branches describe describe_file find_files '
    'find_folders selections usage',
    'jobs': 'Batch Job Outcome Skip Unchanged',
    'copier': 'Copier CopyOptions Downloader',
    'removal': 'remove_local remove_remote',
    'sync': 'Comparison Finding Sync',
    'times': 'Times',
    'share': 'Share SharedBridge make_share',
    'content': 'Contents same_content',
}
_NAMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'storj.catalog.{_NAMES[name]}'), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
