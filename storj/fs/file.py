"""One open file: read in whole shards and ahead, written all or nothing."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from fsspec.spec import AbstractBufferedFile

from storj.catalog import BucketNotFound, FileNotFound
from storj.crypto.cipher import CtrStream
from storj.crypto.keys import ContentKey
from storj.exception import AlreadyExistsError, AuthenticationError, NotFoundError
from storj.sharding import SDK_SHARD_SIZE, shard_size_for
from storj.transfer import wait_for
from storj.transfer.spool import SeekableFile, Spool

if TYPE_CHECKING:
    from storj.fs.filesystem import StorjFileSystem

#: Bytes of a file that is read which are kept in memory; two shards at least.
CACHED: Final = 64 * 1024 * 1024

#: Bytes at which a file that is written begins to wait on the disk, encrypted, and no longer in
#: memory.
_BUFFERED: Final = 8 * 1024 * 1024


@contextlib.contextmanager
def os_errors(path: str) -> Iterator[None]:
    """Raise as an OSError what programs expect to be one."""
    try:
        yield
    except (FileNotFound, BucketNotFound, NotFoundError) as error:
        raise FileNotFoundError(errno.ENOENT, str(error), path) from error
    except AlreadyExistsError as error:
        raise FileExistsError(errno.EEXIST, str(error), path) from error
    except AuthenticationError as error:
        raise PermissionError(errno.EACCES, str(error), path) from error


class _Buffer(SeekableFile):
    """What was written to a file so far: encrypted on the disk, read by the upload.

    Args:
        folder (str | os.PathLike | None): for the temporary file; the system's by default.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self._spool = Spool(folder)
        # For this file alone, and only in memory: a later reader of the disk gets nothing.
        self._key = ContentKey(secrets.token_bytes(32), secrets.token_bytes(16))
        super().__init__(self._read, lambda: self._spool.size)

    def append(self, data: memoryview) -> None:
        """Write at the end."""
        offset = self._spool.size
        self._spool.write(offset, CtrStream(self._key, offset).process(data))

    def _read(self, offset: int, buffer: memoryview) -> int:
        view = buffer[: max(0, self._spool.size - offset)]
        self._spool.read_into(offset, view)
        CtrStream(self._key, offset).process(view, output=view)
        return len(view)

    def close(self) -> None:
        """Give the space back."""
        if not self.closed:
            self._spool.close()
        super().close()


class StorjFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file of :class:`StorjFileSystem`, opened for reading or for writing.

    Reading fetches whole shards, which is what farmers give, and keeps the last ones
    (``cache_type='blockcache'``, up to 64 MiB). A file that is read in order is fetched ahead.
    Writing keeps what was written, encrypted beyond 8 MiB on the local disk, and stores it when the
    file is closed: all of it, or nothing if the ``with`` block fails.

    Args:
        fs (StorjFileSystem): where it is.
        path (str): ``bucket/path``.
        mode (str): ``rb``, ``wb``, or ``xb`` to replace nothing.
        block_size (int | None): bytes to fetch at a time; a shard by default.
        autocommit (bool): False in a transaction: stored on :meth:`commit`.
        cache_options (dict | None): of the cache of fsspec.
        **options: of fsspec, as ``cache_type``, and ``mimetype`` of a file that is written.

    Raises:
        FileNotFoundError: If there is no such file, or no such bucket to write to.
        FileExistsError: If there is one, and the mode is ``xb``.
        NotImplementedError: If the mode is another one: bridges cannot append to a file.

    Reading raises an OSError (``ESTALE``) once the file was replaced or removed by anybody.
    """

    def __init__(
        self,
        fs: StorjFileSystem,
        path: str,
        mode: str,
        block_size: int | None,
        autocommit: bool,
        cache_options: dict[str, Any] | None,
        **options: Any,
    ) -> None:
        # Before the base class: it is closed also when this fails.
        self._closed = True
        self._written: _Buffer | None = None
        self._stream: Iterator[bytes] | None = None
        self._rest = b''
        self._next = 0
        self._source: bytes | _Buffer | None = None
        # A pickled file brings the size of its time.
        options.pop('size', None)
        size = None
        if mode == 'rb':
            # Not out of a listing: the size must be that of what is read.
            self._info = fs._look(path, refresh=True)
            if self._info['type'] == 'directory':
                raise IsADirectoryError(errno.EISDIR, 'a folder cannot be opened', path)
            size = self._info['size']
            block_size = block_size or max(shard_size_for(size), SDK_SHARD_SIZE)
            if 'cache_type' not in options:
                options['cache_type'] = 'blockcache'
                cache_options = cache_options or {'maxblocks': max(2, CACHED // block_size)}
        elif mode in ('wb', 'xb'):
            fs._bucket(path.partition('/')[0])
            if mode == 'xb' and fs.exists(path):
                raise FileExistsError(errno.EEXIST, 'there is such a file', path)
            block_size = block_size or _BUFFERED
        else:
            raise NotImplementedError(f'the mode {mode!r}: a stored file cannot be changed')
        super().__init__(
            fs,
            path,
            mode,
            block_size=block_size,
            autocommit=autocommit,
            cache_options=cache_options,
            size=size,
            **options,
        )
        if mode == 'rb':
            self.details = self._info

    # -- reading -----------------------------------------------------------------------------------

    def _fetch_range(self, start: int, end: int) -> bytes:
        """Fetch a range of the file that was opened, and not of one that replaced it."""
        # The cache of blocks asks beyond the end.
        end = min(end, self.size)
        with os_errors(self.path):
            data = self._fetch_next(start, end)
            # A file that replaces another one has its id, so only now it is known whose bytes
            # these are.
            if not self.fs._is_current(self.path, self._info):
                self._end_stream()
                self.fs.invalidate_cache(self.path)
                raise OSError(
                    errno.ESTALE,
                    'the file was replaced since it was opened: open it again',
                    self.path,
                )
        return data

    def _fetch_next(self, start: int, end: int) -> bytes:
        """Fetch a range; a second one right behind the first begins to read ahead."""
        if start != self._next or not start:
            self._end_stream()
            self._next = end
            return self._fetch(start, end)
        if self._stream is None:
            self._stream = self.fs.client.transfers.stream(
                self._info['bucket_id'], self._info['id'], start=start
            )
        self._next = end
        return self._read_on(end - start)

    def _fetch(self, start: int, end: int) -> bytes:
        transfers = self.fs.client.transfers
        future = transfers.download(self._info['bucket_id'], self._info['id'], start=start, end=end)
        memory: io.BytesIO = wait_for(future)
        return memory.getvalue()

    def _read_on(self, count: int) -> bytes:
        """Return the next bytes of the stream."""
        pieces = [self._rest]
        found = len(self._rest)
        while found < count and self._stream is not None:
            piece = next(self._stream, None)
            if piece is None:
                break
            pieces.append(piece)
            found += len(piece)
        data = b''.join(pieces)
        self._rest = data[count:]
        return data[:count]

    def _end_stream(self) -> None:
        stream, self._stream, self._rest = self._stream, None, b''
        if stream is not None:
            stream.close()  # type: ignore[attr-defined]

    # -- writing -----------------------------------------------------------------------------------

    def seek(self, loc: int, whence: int = io.SEEK_SET) -> int:
        """Set the position; in a file that is written only to where it is, as FUSE does."""
        if self.mode != 'rb' and (loc, whence) in ((self.loc, io.SEEK_SET), (0, io.SEEK_CUR)):
            return loc if whence == io.SEEK_SET else self.tell()
        position: int = super().seek(loc, whence)
        return position

    def _upload_chunk(self, final: bool = False) -> bool:
        """Keep what was written; with the last of it the upload can begin."""
        data = self.buffer.getbuffer()
        if final and self._written is None:
            self._source = bytes(data)
        else:
            if self._written is None:
                self._written = _Buffer(self.fs.client.transfers.config.temp_dir)
            self._written.append(data)
            self._source = self._written
        data.release()
        if final and self.autocommit:
            self.commit()
        return True

    def commit(self) -> None:
        """Store the file; it is there when this returns."""
        source, self._source = self._source, None
        if source is None:
            return
        try:
            with os_errors(self.path):
                future = self.fs._begin_upload(
                    source,
                    self.path,
                    overwrite=self.mode != 'xb',
                    mimetype=self.kwargs.get('mimetype'),
                )
                self.fs._note(self.path, wait_for(future).id)
        finally:
            self.discard()

    def discard(self) -> None:
        """Forget what was written, and close the file."""
        self._source = None
        if self._written is not None:
            self._written.close()
        self.closed = True

    def close(self) -> None:
        """End reading, or store what was written."""
        if self.closed:
            return
        try:
            if self.mode != 'rb' and not self.forced:
                self.flush(force=True)
        finally:
            self._end_stream()
            self.cache = None
            self.closed = True

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # What a program that failed has written is half a file.
        if kind is not None and self.mode != 'rb':
            self.discard()
        self.close()

    def __del__(self) -> None:
        # The base class would store a file that a failing program left unfinished.
        if not self.closed:
            self.discard()
