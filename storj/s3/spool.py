"""Where bodies wait: encrypted on the disk, in bounded space, until they are stored."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from storj.crypto.cipher import CtrStream
from storj.crypto.keys import ContentKey
from storj.s3 import checksums
from storj.s3.body import Body
from storj.s3.errors import S3Error
from storj.transfer.spool import SeekableFile

_COUNTER: Final = 16
_PIECE: Final = 1024 * 1024


class Stored(SeekableFile):
    """Files of a spool, one behind the other, as one that is read.

    Args:
        files (Sequence[tuple[Path, int]]): path of each, and its bytes.
        secret (bytes): that the files are encrypted with.
    """

    def __init__(self, files: Sequence[tuple[Path, int]], secret: bytes) -> None:
        self._files = files
        self._secret = secret
        self._open: tuple[int, int, ContentKey] | None = None
        super().__init__(self._read, lambda: sum(size for _, size in files))

    def _read(self, offset: int, buffer: memoryview) -> int:
        """Read within the file in which the offset lies."""
        for number, (_, size) in enumerate(self._files):
            if offset < size:
                return self._read_file(number, offset, buffer[: size - offset])
            offset -= size
        return 0

    def _read_file(self, number: int, offset: int, view: memoryview) -> int:
        if self._open is None or self._open[0] != number:
            self._close_file()
            descriptor = os.open(self._files[number][0], os.O_RDONLY | os.O_CLOEXEC)
            # Each file has a counter of its own in front: one key serves all files, and no two
            # files may share key stream.
            counter = os.pread(descriptor, _COUNTER, 0)
            self._open = number, descriptor, ContentKey(self._secret, counter)
        _, descriptor, key = self._open
        count = os.preadv(descriptor, [view], _COUNTER + offset)
        CtrStream(key, offset).process(view[:count], output=view[:count])
        return count

    def _close_file(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def close(self) -> None:
        """Close the file that is open."""
        self._close_file()
        super().close()


class Received(NamedTuple):
    """A body that was received and checked.

    Attributes:
        file (str): name in the spool.
        size (int): bytes.
        etag (str): MD5 in hex.
        checksum (dict[str, str]): ``algorithm`` and ``value``; empty if none was asked for.
    """

    file: str
    size: int
    etag: str
    checksum: dict[str, str]


class Writer:
    """Encrypts and writes one file.

    Attributes:
        size (int): bytes so far.
    """

    def __init__(self, path: Path, secret: bytes) -> None:
        self._lock = threading.Lock()
        self._closed = False
        counter = secrets.token_bytes(_COUNTER)
        self._cipher = CtrStream(ContentKey(secret, counter))
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.size = 0
        try:
            os.write(self._descriptor, counter)
        except OSError:
            self.close()
            path.unlink()
            raise

    def write(self, data: bytes) -> None:
        """Take the next bytes; nothing happens once it is closed."""
        with self._lock:
            if self._closed:
                return
            self._see(data)
            self.size += len(data)
            view = memoryview(self._cipher.process(data))
            while view:
                view = view[os.write(self._descriptor, view) :]

    def _see(self, data: bytes) -> None:
        """Look at the next bytes."""

    def close(self) -> None:
        """Close the file, after a write that is under way in another thread.

        Its caller may be cancelled meanwhile, and the number of a closed file soon is another's.
        """
        with self._lock:
            self._closed = True
            os.close(self._descriptor)


class _Sink(Writer):
    """Hashes one body as well."""

    def __init__(self, path: Path, secret: bytes, algorithms: Sequence[str]) -> None:
        # First what can fail: a file that is made must be closed and removed.
        self.checksums = {name: checksums.new(name) for name in algorithms}
        self._md5 = hashlib.md5(usedforsecurity=False)
        super().__init__(path, secret)

    def _see(self, data: bytes) -> None:
        self._md5.update(data)
        for checksum in self.checksums.values():
            checksum.update(data)

    def etag(self) -> str:
        """Return the MD5 of everything in hex."""
        return self._md5.hexdigest()

    def check(self, md5: str | None, stated: tuple[str, bytes] | None) -> None:
        """Raise S3Error if the MD5 or the checksum that the client states is another."""
        if md5 is not None and not hmac.compare_digest(md5, self.etag()):
            raise S3Error('BadDigest')
        if stated is not None:
            name, value = stated
            if not hmac.compare_digest(self.checksums[name].digest(), value):
                raise S3Error('BadDigest', f'The {name} you specified did not match.')

    def checksum(self) -> dict[str, str]:
        """Return the first checksum as it is kept with a part or an object; empty if none."""
        for name, computed in self.checksums.items():
            return {'algorithm': name, 'value': base64.b64encode(computed.digest()).decode()}
        return {}


class Spool:
    """The folder of bodies that are not stored yet.

    Args:
        folder (Path): its own; made with mode 0700.
        secret (bytes): 32 bytes that files are encrypted with; whoever has the disk alone reads
            nothing.
        limit (int): bytes of all files together.
    """

    def __init__(self, folder: Path, secret: bytes, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self._secret = secret
        self._limit = limit
        self._lock = threading.Lock()
        # What a gateway that was killed left counts, until it is dropped.
        self._used = sum(path.stat().st_size for path in folder.iterdir())

    def clean(self, known: set[str]) -> None:
        """Remove files that nobody knows, of a gateway that was killed."""
        for path in self.folder.iterdir():
            if path.name not in known:
                self.drop([path.name])

    def _reserve(self, size: int, to_come: int = 0) -> None:
        """Count the bytes of a file.

        Args:
            size (int): that are written next; they count.
            to_come (int): that the client announces; they do not, or it could hold all the space
                without a byte sent.

        Raises:
            S3Error: If there is no space for all of them.
        """
        with self._lock:
            if self._used + size + to_come > self._limit:
                raise S3Error('SlowDown', 'Too much is being uploaded at once.')
            self._used += size

    def has_space(self, size: int) -> bool:
        """Return whether a file of a size would be taken now."""
        return self._used + size + _COUNTER <= self._limit

    @contextlib.contextmanager
    def writing(self, name: str, size: int) -> Iterator[Writer]:
        """Make a file of a size that is known; if that fails, nothing of it is left.

        Raises:
            S3Error: If there is no space.
        """
        self._reserve(size + _COUNTER)
        try:
            writer = Writer(self.folder / name, self._secret)
            try:
                yield writer
            except BaseException:
                (self.folder / name).unlink()
                raise
            finally:
                writer.close()
        except BaseException:
            with self._lock:
                self._used -= size + _COUNTER
            raise

    def open(self, files: Sequence[tuple[str, int]]) -> Stored:
        """Return files, one behind the other, as one."""
        return Stored([(self.folder / name, size) for name, size in files], self._secret)

    def drop(self, names: Sequence[str]) -> None:
        """Remove files; those that are gone are passed over."""
        for name in names:
            path = self.folder / name
            with contextlib.suppress(FileNotFoundError):
                size = path.stat().st_size
                path.unlink()
                with self._lock:
                    self._used = max(0, self._used - size)

    async def receive(
        self, body: Body, headers: Mapping[str, str], run: Any, algorithm: str | None = None
    ) -> Received:
        """Write a body to a file, and check everything that the client says of it.

        Args:
            body (Body): of the request.
            headers (Mapping[str, str]): of the request.
            run (Callable): runs a function in a thread, and is awaited.
            algorithm (str | None): of a checksum that is wanted even if the client states none.

        Raises:
            S3Error: If the body is not what the client says, or there is no space.
        """
        md5 = checksums.stated_md5(headers)
        stated = checksums.named_in(headers)
        names = _wanted(headers, stated, algorithm)
        # Not the key of the object: names from the network never become paths.
        name = secrets.token_hex(16)
        self._reserve(_COUNTER, body.size)
        reserved = _COUNTER

        async def write(data: bytes) -> None:
            nonlocal reserved
            self._reserve(len(data))
            reserved += len(data)
            await run(sink.write, data)

        try:
            sink = _Sink(self.folder / name, self._secret, names)
            try:
                await _fill(write, body)
                sink.check(md5, stated or checksums.named_in(body.trailers))
            except BaseException:
                (self.folder / name).unlink()
                raise
            finally:
                sink.close()
        except BaseException:
            with self._lock:
                self._used -= reserved
            raise
        return Received(name, sink.size, sink.etag(), sink.checksum())


def _wanted(
    headers: Mapping[str, str], stated: tuple[str, bytes] | None, algorithm: str | None
) -> list[str]:
    """Return the names of the checksums to compute, before the body is read."""
    announced = headers.get('x-amz-trailer', '').lower()
    names = {stated[0]} if stated else set()
    # The value comes behind the body, but what to compute must be known before.
    names |= {name for name in checksums.ALGORITHMS if f'-{name.lower()}' in announced}
    if not names:
        asked = headers.get('x-amz-sdk-checksum-algorithm') or algorithm
        names = {asked.upper()} if asked else set()
    return sorted(names)


async def _fill(write: Callable[[bytes], Awaitable[None]], body: Body) -> None:
    """Write a body in pieces that are worth a change of threads."""
    waiting: list[bytes] = []
    size = 0
    async for piece in body:
        waiting.append(piece)
        size += len(piece)
        if size >= _PIECE:
            await write(b''.join(waiting))
            waiting, size = [], 0
    if waiting:
        await write(b''.join(waiting))
