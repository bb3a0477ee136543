"""Listings of buckets as folders, and what fsspec is told of buckets, folders and files."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storj.catalog import BucketEntry, FileEntry

#: What fsspec is told: ``name``, ``size``, ``type`` and more.
Info = dict[str, Any]


def folder_info(path: str, **more: Any) -> Info:
    """Return what fsspec is told of a folder."""
    return {'name': path, 'size': 0, 'type': 'directory', **more}


def file_info(entry: FileEntry) -> Info:
    """Return what fsspec is told of a file."""
    info: Info = {
        'name': f'{entry.bucket.name}/{entry.name}',
        'size': entry.size,
        'type': 'file',
        'created': entry.created,
        'mimetype': entry.mimetype,
        'id': entry.id,
        'bucket_id': entry.bucket.id,
    }
    if entry.created is not None:
        info['mtime'] = entry.created.timestamp()
    return info


class Listing:
    """All files of a bucket at one moment, by path and by folder; safe to use from all threads.

    Attributes:
        moment (float): when it was fetched, in seconds since 1970.
    """

    def __init__(self, bucket: str, entries: Iterable[FileEntry]) -> None:
        self._bucket = bucket
        self._lock = threading.Lock()
        self.moment = time.time()
        self._files: dict[str, Info] = {}
        # Folder -> what is directly in it.
        self._folders: dict[str, dict[str, Info]] = {bucket: {}}
        for entry in entries:
            self.put(file_info(entry))

    def info(self, path: str) -> Info | None:
        """Return a file or else a folder, None if there is neither at the path."""
        with self._lock:
            found = self._files.get(path)
            return folder_info(path) if found is None and path in self._folders else found

    def folder(self, path: str) -> list[Info] | None:
        """Return what is directly in a folder, None if no file is below it."""
        with self._lock:
            found = self._folders.get(path)
            return None if found is None else list(found.values())

    def find(
        self, path: str, prefix: str = '', maxdepth: int | None = None, withdirs: bool = False
    ) -> dict[str, Info]:
        """Return what is below a folder by path, in order; or the file that the path names.

        Args:
            path (str): of the folder.
            prefix (str): of the names below it.
            maxdepth (int | None): levels; all by default.
            withdirs (bool): whether folders are among them, with the folder itself.
        """
        start = f'{path}/'
        found: dict[str, Info] = {}
        with self._lock:
            for name, info in self._files.items():
                if not name.startswith(start + prefix):
                    continue
                parts = name[len(start) :].split('/')
                depth = len(parts) if maxdepth is None else min(maxdepth, len(parts))
                if depth == len(parts):
                    found[name] = info
                for count in range(1, min(depth + 1, len(parts)) if withdirs else 0):
                    folder = start + '/'.join(parts[:count])
                    found.setdefault(folder, folder_info(folder))
            if withdirs and path in self._folders:
                found[path] = folder_info(path)
            if not found and path in self._files:
                found[path] = self._files[path]
        return dict(sorted(found.items()))

    def put(self, info: Info) -> None:
        """Add a file, or replace it."""
        path = info['name']
        # Other programs mark an empty folder by a file whose name ends in a slash.
        if path.endswith('/'):
            return
        with self._lock:
            self._files[path] = info
            while path != self._bucket:
                parent = path.rpartition('/')[0]
                siblings = self._folders.setdefault(parent, {})
                known = path in siblings and info['type'] == 'directory'
                siblings[path] = info
                if known:
                    return
                path, info = parent, folder_info(parent)

    def remove(self, path: str) -> None:
        """Forget a file, and the folders that end with it."""
        with self._lock:
            self._files.pop(path, None)
            while path != self._bucket:
                parent = path.rpartition('/')[0]
                siblings = self._folders.get(parent, {})
                siblings.pop(path, None)
                if siblings:
                    return
                if parent != self._bucket:
                    self._folders.pop(parent, None)
                path = parent


def bucket_info(name: str, bucket: BucketEntry) -> Info:
    """Return what fsspec is told of a bucket."""
    return folder_info(name, created=bucket.created, bucket_id=bucket.id)
