"""Paths of pathlib's kind: ``UPath('storj://bucket/path')`` of universal_pathlib."""

from __future__ import annotations

from upath.implementations.cloud import CloudPath


class StorjPath(CloudPath):
    """A bucket, folder or file; its options are those of :class:`storj.fs.StorjFileSystem`."""

    __slots__ = ()
