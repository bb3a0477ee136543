"""The buckets of an account as a file system of fsspec."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote

from fsspec.asyn import AsyncFileSystem, sync_wrapper
from fsspec.callbacks import DEFAULT_CALLBACK

import storj
from storj import configuration
from storj.catalog import BucketNotFound, Catalog
from storj.fs.file import CACHED, StorjFile, os_errors
from storj.fs.listing import Info, Listing, bucket_info, file_info, folder_info
from storj.preferences import SETTINGS
from storj.sharding import shard_size_for

if TYPE_CHECKING:
    from storj import http
    from storj.catalog import BucketEntry
    from storj.transfer import Progress, ProgressCallback, TransferFuture

T = TypeVar('T')

#: Seconds for which a listing is believed by default.
LISTING_SECONDS: Final = 60.0

#: Files that are removed, or whose ranges are fetched, at once.
_AT_ONCE: Final = 16

#: Settings that are taken, as :func:`storj.configuration.load` names them.
_SETTINGS: Final = frozenset({'profile', *SETTINGS} - {'keyring', 'color', 'progress', 'json'})
_OF_FSSPEC: Final = frozenset(
    {'asynchronous', 'loop', 'batch_size', 'use_listings_cache', 'max_paths'}
    | {'skip_instance_cache'}
)


class StorjFileSystem(AsyncFileSystem):  # type: ignore[misc]
    """The buckets of an account as a file system.

    Paths are ``bucket/path``. Settings that are not given come from the environment and
    ``storj.ini`` as for :func:`storj.get_client`. Safe to share between threads; a copy that is
    pickled logs in again with the same settings.

    A listing of a folder is one of its whole bucket, because bridges know no folders. It is kept
    and believed for a while; what is written or removed through this object is seen at once, what
    others do when the listing has expired or after :meth:`invalidate_cache`. Opening a file, its
    ``info`` and whether it exists are asked of the bridge where the listing does not know it.

    Args:
        listings_expiry_time (float | None): seconds for which a listing is believed; None for no
            limit.
        **options: settings (``profile``, ``bridge``, ``email``, ``password``, ``mnemonic``,
            ``transfers`` and the others of :class:`storj.preferences.Preferences`, except those
            of the command line) and options of fsspec (``use_listings_cache``, ``max_paths``
            (buckets), ``skip_instance_cache``, ``asynchronous``, ``loop``, ``batch_size``).

    Raises:
        TypeError: If an option is unknown.
    """

    protocol = 'storj'
    root_marker = ''
    cachable = True

    def __init__(
        self, *, listings_expiry_time: float | None = LISTING_SECONDS, **options: Any
    ) -> None:
        unknown = options.keys() - _SETTINGS - _OF_FSSPEC
        if unknown:
            raise TypeError(f'unknown options: {", ".join(sorted(unknown))}')
        self._settings = {name: options.pop(name) for name in _SETTINGS & options.keys()}
        super().__init__(listings_expiry_time=listings_expiry_time, **options)
        self._lock = threading.Lock()
        # Made when first used: fsspec makes file systems of addresses that are only compared.
        self._catalog: Catalog | None = None
        # With the moment of the look, by the monotonic clock.
        self._buckets: dict[str, tuple[float, BucketEntry]] = {}
        self._expiry = listings_expiry_time

    # -- paths and settings ------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return _split_url(os.fspath(path))[1]

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        login = _split_url(path)[0]
        if not login:
            return {}
        email, _, password = login.partition(':')
        return {'email': unquote(email), 'password': unquote(password)}

    @property
    def client(self) -> http.Client:
        """(storj.http.Client) – of the bridge; made when it is first used."""
        return self._stored().client

    def _stored(self) -> Catalog:
        with self._lock:
            if self._catalog is None:
                settings = configuration.load(**self._settings)
                client = storj.client_of(settings)
                self._catalog = Catalog(client, plain_names=settings.plain_names)
            return self._catalog

    def _bucket(self, name: str) -> BucketEntry:
        """Return a bucket of a name or id.

        Raises:
            BucketNotFound: If there is none.
        """
        now = time.monotonic()
        moment, entry = self._buckets.get(name, (now, None))
        if entry is None or (self._expiry is not None and now - moment >= self._expiry):
            entry = self._stored().bucket(name)
            self._buckets[name] = now, entry
        return entry

    # -- what is there -----------------------------------------------------------------------------

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget listings: that of the path's bucket, all without one."""
        if path is None:
            self.dircache.clear()
            self._buckets.clear()
        else:
            bucket = self._strip_protocol(path).partition('/')[0]
            self.dircache.pop(bucket, None)
            self._buckets.pop(bucket, None)
        super().invalidate_cache(path)

    def listed(self, path: str) -> float | None:
        """Return when the listing that answers for a path was fetched.

        Args:
            path (str): of a bucket or of anything in it.

        Returns:
            float | None: seconds since 1970; None if the next call fetches it.
        """
        listing = self._kept(self._strip_protocol(path).partition('/')[0])
        return None if listing is None else listing.moment

    def _kept(self, bucket: str) -> Listing | None:
        try:
            listing: Listing = self.dircache[bucket]
        except KeyError:
            return None
        return listing

    def _listing(self, name: str, refresh: bool = False) -> Listing:
        listing = None if refresh else self._kept(name)
        if listing is None:
            listing = Listing(name, self._stored().files(self._bucket(name)))
            self.dircache[name] = listing
        return listing

    async def _ask(self, path: str, function: Callable[..., T], *arguments: Any) -> T:
        """Run what waits for the bridge in a thread."""

        def call() -> T:
            with os_errors(path):
                return function(*arguments)

        return await asyncio.to_thread(call)

    async def _info(self, path: str, refresh: bool = False, **_: Any) -> Info:
        return await self._ask(path, self._look, self._strip_protocol(path), refresh)

    def _look(self, path: str, refresh: bool = False) -> Info:
        bucket_name, _, name = path.partition('/')
        if not bucket_name:
            return folder_info('')
        bucket = self._bucket(bucket_name)
        if not name:
            return bucket_info(bucket_name, bucket)
        listing = None if refresh else self._kept(bucket_name)
        found = None if listing is None else listing.info(path)
        if found is None:
            entry = self._stored().find_file(bucket, name, ids=False)
            found = None if entry is None else {**file_info(entry), 'name': path}
        if found is not None:
            return found
        # A bridge knows no folders; a listing that is kept is new enough to tell one from nothing.
        if self._listing(bucket_name).folder(path) is None:
            raise FileNotFoundError(errno.ENOENT, 'no such file or folder', path)
        return folder_info(path)

    def _is_current(self, path: str, info: Info) -> bool:
        """Ask the bridge whether a file is still the one that was told of."""
        bucket, _, name = path.partition('/')
        entry = self._stored().find_file(self._bucket(bucket), name, ids=False)
        if entry is None:
            return False
        found = file_info(entry)
        return all(found[field] == info[field] for field in ('id', 'created', 'size'))

    async def _ls(
        self, path: str, detail: bool = True, refresh: bool = False, **_: Any
    ) -> list[Any]:
        found = await self._ask(path, self._list, self._strip_protocol(path), refresh)
        return found if detail else [info['name'] for info in found]

    def _list(self, path: str, refresh: bool) -> list[Info]:
        bucket = path.partition('/')[0]
        if not bucket:
            return [bucket_info(entry.name, entry) for entry in self._stored().buckets()]
        if refresh:
            self._listing(bucket, refresh=True)
        found = self._listed_first(path, lambda listing: listing.folder(path))
        if found is None:
            return [self._look(path)]
        return sorted(found, key=lambda info: info['name'])

    async def _find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        prefix: str = '',
        detail: bool = False,
        **_: Any,
    ) -> Any:
        """Return the files below a path out of one listing, however many folders there are."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError('maxdepth is at least 1')
        path = self._strip_protocol(path)
        if not path:
            found: dict[str, Info] = {}
            for bucket in await self._ls(''):
                if withdirs:
                    found[bucket['name']] = bucket
                if maxdepth is None or maxdepth > 1:
                    depth = None if maxdepth is None else maxdepth - 1
                    found |= await self._find(bucket['name'], depth, withdirs, detail=True)
        else:
            found = await self._ask(path, self._below, path, prefix, maxdepth, withdirs)
        return found if detail else list(found)

    def _below(self, path: str, *limits: Any) -> dict[str, Info]:
        try:
            return self._listed_first(path, lambda listing: listing.find(path, *limits))
        except BucketNotFound:
            return {}

    def _listed_first(self, path: str, find: Callable[[Listing], T]) -> T:
        """Return what the kept listing knows; where it knows nothing, that of a new one.

        Another process may have written since, as those of dask do for each other.
        """
        bucket = path.partition('/')[0]
        kept = self._kept(bucket)
        found = None if kept is None else find(kept)
        return found or find(self._listing(bucket, refresh=True))

    def created(self, path: str) -> Any:
        """Return when a file was stored, a datetime in UTC; None for folders, which are not."""
        return self.info(path).get('created')

    modified = created

    # -- buckets and folders -----------------------------------------------------------------------

    async def _mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        await self._ask(path, self._make, self._strip_protocol(path), create_parents)

    def _make(self, path: str, create_parents: bool) -> None:
        bucket, _, below = path.partition('/')
        if below:
            # A folder is there as soon as a file is in it; its bucket must be.
            try:
                self._bucket(bucket)
            except BucketNotFound:
                if not create_parents:
                    raise
                self._make(bucket, False)
            return
        if not bucket:
            raise ValueError('a path begins with the name of a bucket')
        catalog = self._stored()
        if catalog.find_bucket(bucket) is not None:
            raise FileExistsError(errno.EEXIST, 'there is such a bucket', path)
        catalog.client.bucket_create(bucket)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        try:
            await self._mkdir(path)
        except FileExistsError:
            if not exist_ok:
                raise

    async def _rmdir(self, path: str) -> None:
        await self._ask(path, self._remove_folder, self._strip_protocol(path))

    # The one method that fsspec does not derive by itself.
    rmdir = sync_wrapper(_rmdir)

    def _remove_folder(self, path: str) -> None:
        bucket, _, below = path.partition('/')
        if self._list(path, refresh=True):
            raise OSError(errno.ENOTEMPTY, 'the folder is not empty', path)
        if not below:
            self.client.bucket_delete(self._bucket(bucket).id)
            self.invalidate_cache(bucket)

    # -- removing and copying ----------------------------------------------------------------------

    async def _rm_file(self, path: str, **_: Any) -> None:
        await self._ask(path, self._remove, self._strip_protocol(path))

    def _remove(self, path: str) -> None:
        info = self._look(path)
        if info['type'] == 'directory':
            raise IsADirectoryError(errno.EISDIR, 'a folder is removed with recursive=True', path)
        self.client.file_remove(info['bucket_id'], info['id'])
        listing = self._kept(path.partition('/')[0])
        if listing is not None:
            listing.remove(path)

    async def _rm(
        self,
        path: str | list[str],
        recursive: bool = False,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **_: Any,
    ) -> None:
        """Remove files; with ``recursive`` what is below folders, and buckets that are named.

        Raises:
            PermissionError: If it is the root: an empty path is often a mistake.
        """
        for one in path if isinstance(path, list) else [path]:
            if not self._strip_protocol(one):
                raise PermissionError(errno.EPERM, 'name the buckets that are to be removed', one)
        paths = await self._expand_path(path, recursive=recursive, maxdepth=maxdepth)
        infos = [await self._info(one) for one in paths]
        files = [info['name'] for info in infos if info['type'] == 'file']
        if len(files) < len(infos) and not recursive:
            raise IsADirectoryError(
                errno.EISDIR, 'a folder is removed with recursive=True', str(path)
            )
        limit = asyncio.Semaphore(batch_size or self.batch_size or _AT_ONCE)

        async def remove(name: str) -> None:
            async with limit:
                await self._rm_file(name)

        await asyncio.gather(*map(remove, files))
        for info in infos:
            if '/' not in info['name'] and maxdepth is None:
                await self._rmdir(info['name'])

    async def _cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Bring a file through this machine: bridges copy none."""
        source = await self._info(path1)
        if source['type'] == 'directory':
            return
        transfers = self.client.transfers
        content = transfers.stream(source['bucket_id'], source['id'])
        await self._store(content, path2, mimetype=source['mimetype'])

    # -- transfers ---------------------------------------------------------------------------------

    def _begin_upload(
        self,
        source: Any,
        path: str,
        *,
        overwrite: bool = True,
        mimetype: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> TransferFuture[Any]:
        bucket_name, _, name = path.partition('/')
        if not name:
            raise IsADirectoryError(errno.EISDIR, 'a bucket is no file', path)
        bucket = self._bucket(bucket_name)
        return self.client.transfers.upload(
            bucket.id,
            source,
            name=name,
            mimetype=mimetype,
            encrypt_name=self._stored().encrypts_names,
            overwrite=overwrite,
            # What a file system is told to write is there or is not; nobody would resume it.
            resume=False,
            progress=progress,
        )

    async def _store(self, source: Any, path: str, **options: Any) -> None:
        path = self._strip_protocol(path)
        future = await self._ask(path, lambda: self._begin_upload(source, path, **options))
        with os_errors(path):
            stored = await future
        self._note(path, stored.id)

    def _note(self, path: str, file_id: str) -> None:
        """Bring a file that was stored into the listing that is kept."""
        bucket = path.partition('/')[0]
        listing = self._kept(bucket)
        if listing is None:
            return
        entry = self._stored().file_of_id(self._bucket(bucket), file_id)
        if entry is not None:
            listing.put({**file_info(entry), 'name': path})

    async def _pipe_file(self, path: str, value: bytes, mode: str = 'overwrite', **_: Any) -> None:
        await self._store(bytes(value), path, overwrite=mode != 'create')

    async def _put_file(
        self,
        lpath: str,
        rpath: str,
        mode: str = 'overwrite',
        callback: Any = DEFAULT_CALLBACK,
        **_: Any,
    ) -> None:
        if Path(lpath).is_dir():
            await self._makedirs(rpath, exist_ok=True)
            return
        await self._store(
            os.fspath(lpath), rpath, overwrite=mode != 'create', progress=_progress(callback)
        )

    async def _get_file(
        self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, **_: Any
    ) -> None:
        info = await self._info(rpath)
        if info['type'] == 'directory':
            Path(lpath).mkdir(parents=True, exist_ok=True)
            return
        future = self.client.transfers.download(
            info['bucket_id'], info['id'], lpath, progress=_progress(callback)
        )
        with os_errors(rpath):
            await future

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        content: bytes
        (content,) = await self._cat_some(path, [(start, end)], None)
        return content

    async def _cat_ranges(
        self,
        paths: Sequence[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = 'return',
        **_: Any,
    ) -> list[Any]:
        """Fetch ranges; those of one file that lie close together are fetched at once.

        A farmer gives a shard as a whole, so what lies between two ranges of one shard costs
        nothing.
        """
        firsts = starts if isinstance(starts, Iterable) else [starts] * len(paths)
        lasts = ends if isinstance(ends, Iterable) else [ends] * len(paths)
        asked: dict[str, list[tuple[int, Any, Any]]] = {}
        for index, (path, *bounds) in enumerate(zip(paths, firsts, lasts, strict=True)):
            asked.setdefault(path, []).append((index, *bounds))
        limit = asyncio.Semaphore(batch_size or self.batch_size or _AT_ONCE)
        results: list[Any] = [None] * len(paths)

        async def fetch(path: str, ranges: list[tuple[int, Any, Any]]) -> None:
            try:
                async with limit:
                    pieces = await self._cat_some(path, [one[1:] for one in ranges], max_gap)
            except Exception as error:
                if on_error == 'raise':
                    raise
                pieces = [error] * len(ranges)
            for (index, *_), piece in zip(ranges, pieces, strict=True):
                results[index] = piece

        await asyncio.gather(*(fetch(path, ranges) for path, ranges in asked.items()))
        return results

    async def _cat_some(
        self, path: str, ranges: list[tuple[Any, Any]], max_gap: int | None
    ) -> list[Any]:
        """Return some ranges of one file, all of the same content.

        A file that replaces another one has its id, and the size may be of a listing that is kept:
        only afterwards it is known whose bytes came.
        """
        path = self._strip_protocol(path)
        for refresh in (False, True):
            info = await self._info(path, refresh=refresh)
            if info['type'] == 'directory':
                raise IsADirectoryError(errno.EISDIR, 'a folder has no content', path)
            found = await self._cat_those(info, ranges, max_gap)
            if await self._ask(path, self._is_current, path, info):
                return found
            self.invalidate_cache(path)
        raise OSError(errno.ESTALE, 'the file is replaced again and again', path)

    async def _cat_those(
        self, info: Info, ranges: list[tuple[Any, Any]], max_gap: int | None
    ) -> list[bytes]:
        size = info['size']
        gap = shard_size_for(size) if max_gap is None else max_gap
        bounds = [_bounds(size, *one) for one in ranges]
        merged: list[list[int]] = []
        for start, end in sorted(bounds):
            if merged and start - merged[-1][1] <= gap and end - merged[-1][0] <= CACHED:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([start, end])
        pieces = {start: await self._piece(info, start, end) for start, end in merged}
        found = []
        for start, end in bounds:
            first = max(one for one in pieces if one <= start)
            found.append(pieces[first][start - first : end - first])
        return found

    async def _piece(self, info: Info, start: int, end: int) -> bytes:
        if start == end:
            return b''
        future = self.client.transfers.download(info['bucket_id'], info['id'], start=start, end=end)
        with os_errors(info['name']):
            memory: io.BytesIO = await future
        return memory.getvalue()

    def _open(
        self,
        path: str,
        mode: str = 'rb',
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> StorjFile:
        with os_errors(path):
            return StorjFile(self, path, mode, block_size, autocommit, cache_options, **options)


def _split_url(path: str) -> tuple[str, str]:
    """Return login and path of a URL: ``storj://email:password@bucket/path``.

    E-mail and password are percent-encoded; the path is taken literally.
    """
    if not path.startswith('storj:'):
        return '', path.strip('/')
    rest = path.removeprefix('storj:').strip('/')
    authority, slash, below = rest.partition('/')
    login, at, bucket = authority.rpartition('@')
    if not at or ':' not in login:
        return '', rest
    return login, bucket + slash + below


def _bounds(size: int, start: int | None, end: int | None) -> tuple[int, int]:
    """Return first byte and end of a range as Python's slices have it."""
    first, last, _ = slice(start, end).indices(size)
    return first, max(first, last)


def _progress(callback: Any) -> ProgressCallback | None:
    """Return what hands the progress of a transfer to a callback of fsspec."""
    if callback is DEFAULT_CALLBACK:
        return None

    def tell(progress: Progress) -> None:
        if progress.total is not None:
            callback.set_size(progress.total)
        callback.absolute_update(progress.bytes)

    return tell
