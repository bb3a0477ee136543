"""What callers hand to the engine: its limits, what is asked of a transfer, a client of the bridge.

The engine never imports a client of the bridge, so that it can be driven by any object with the
methods of a :class:`BridgeReader`, for downloads, or a :class:`Bridge`, for uploads, and so that
the client may import the engine.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, Protocol, TypedDict, Union

from storj.api import BridgeProfile
from storj.crypto.keys import ContentKey
from storj.farmer_connection import ChannelLimits
from storj.model import Contact, ExchangeReport, File, FilePointer, Frame, Shard, Token
from storj.retry import RetryPolicy

_MIB = 1024 * 1024

#: How the key of a file without an index follows from the encryption key: ``v0``, or ``text`` as in
#: the core library 5.1.0 to 6.0.3 (:mod:`storj.crypto.keys`).
KeyScheme = Literal['v0', 'text']


@dataclass(frozen=True)
class TransferConfig:
    """Every limit of the engine.

    The memory that transfers take does not depend on the size of the files. It is, at most::

        shard threads  x 3 x piece_size        a piece read, encrypted, and in the channel's hands
        hash_workers   x piece_size            a piece that is being hashed
        buffer_size                             shards between their hash and their push
        transfers      x 8 MiB                 stripes of one file while parity is made or used, or
                                                a small download until it is whole
        about 1 KiB for each shard of the files under way

    with ``concurrency + negotiations`` shard threads: 144 MiB with the defaults. What does not fit
    there lies in the temporary folder: the parity shards of an upload, a source that can be read
    only once, and the shards of a stream: those ahead of its reader and, if the file has parity,
    up to 32 behind it.

    Attributes:
        concurrency (int): shards of one file that are pushed at once. All files together have
            ``concurrency + negotiations`` shards on their way.
        negotiations (int): contracts asked for at once for one file; contracts run ahead of the
            pushes by as many shards. Bridges before 5.15 get one contract at a time.
        transfers (int): files at once.
        hash_workers (int): threads that encrypt and hash.
        piece_size (int): bytes that are read, encrypted and sent at a time; a multiple of 16.
        buffer_size (int): bytes of encrypted shards, of all uploads together, that wait in memory
            for their push; beyond that, and with 0, shards are read and encrypted a second time.
        shard_size (int | None): bytes of a shard; by default as libstorj decides.
        challenges (int): audits that are prepared for each shard.
        parity (bool): whether uploads get parity shards where the bridge knows them.
        shard_attempts (int): farmers that are tried for one shard.
        bridge_retry (RetryPolicy): for requests to the bridge.
        shard_deadline (float | None): seconds for one shard with all its attempts.
        deadline (float | None): seconds for one transfer.
        channel (ChannelLimits): when a farmer counts as gone or stalled.
        upload_rate (float | None): bytes per second of all uploads together.
        download_rate (float | None): bytes per second of all downloads together.
        pointer_page (int): pointers that are asked for at a time.
        pointer_life (float): seconds after which an unused pointer is fetched afresh; the tokens
            of some farmers live for 30 minutes.
        look_ahead (int): shards that a stream fetches ahead of its reader.
        hedge_after (float): seconds that the last shards may lag behind the others before parity
            shards are fetched in their place; after a failure they are fetched at once.
        temp_dir (str | os.PathLike | None): folder for temporary files; the system's by default.
        state_dir (str | os.PathLike | None): folder for journals; the user's state folder of this
            package by default.
        fsync (bool): whether a download is forced to the disk before it gets its name.
        reports (bool): whether exchange reports are sent.
        key_scheme (str | None): ``v0`` or ``text``, for files of the JavaScript clients, which
            know no index: core library 6.0.4 and later, or 5.1.0 to 6.0.3. Uploads make the key so
            that these can read the file, without parity unless it is asked for; downloads make it
            so of a file that has neither index nor HMAC. By default uploads take a random index
            where the bridge keeps one, and else v0.
        allow_unauthenticated (bool): whether downloads take files that have no HMAC, from bridges
            before 5.3, which keep none: nothing proves that such a file is what was stored.
        flush_seconds (float): how long closing waits for reports that are still to be sent.
    """

    concurrency: int = 16
    negotiations: int = 4
    transfers: int = 4
    hash_workers: int = 2
    piece_size: int = 256 * 1024
    buffer_size: int = 96 * _MIB
    shard_size: int | None = None
    challenges: int = 4
    parity: bool = True
    shard_attempts: int = 7
    bridge_retry: RetryPolicy = field(default_factory=RetryPolicy)
    shard_deadline: float | None = None
    deadline: float | None = None
    channel: ChannelLimits = field(default_factory=ChannelLimits)
    upload_rate: float | None = None
    download_rate: float | None = None
    pointer_page: int = 32
    pointer_life: float = 900.0
    look_ahead: int = 8
    hedge_after: float = 5.0
    temp_dir: str | os.PathLike[str] | None = None
    state_dir: str | os.PathLike[str] | None = None
    fsync: bool = False
    reports: bool = True
    key_scheme: KeyScheme | None = None
    allow_unauthenticated: bool = False
    flush_seconds: float = 5.0

    def __post_init__(self) -> None:
        for name in (
            'concurrency',
            'negotiations',
            'transfers',
            'hash_workers',
            'challenges',
            'shard_attempts',
            'pointer_page',
            'look_ahead',
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'{name} is a whole number of at least 1, not {value!r}')
        if self.key_scheme not in (None, 'v0', 'text'):
            raise ValueError(f"key_scheme is None, 'v0' or 'text', not {self.key_scheme!r}")
        if self.piece_size < 4096 or self.piece_size % 16 or self.piece_size > 16 * _MIB:
            raise ValueError('piece_size is a multiple of 16, from 4096 bytes to 16 MiB')
        for name in ('shard_deadline', 'deadline', 'upload_rate', 'download_rate'):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f'{name} is positive or None, not {value!r}')
        for name in ('pointer_life', 'hedge_after', 'flush_seconds', 'buffer_size'):
            if not getattr(self, name) >= 0:
                raise ValueError(f'{name} is not negative')

    def journal_dir(self) -> Path:
        """Return the folder where journals lie."""
        if self.state_dir is not None:
            return Path(self.state_dir) / 'transfers'
        # Only transfers that keep a journal need it.
        import appdirs

        return Path(appdirs.user_state_dir('storj')) / 'transfers'


#: What can be uploaded.
SourceLike = Union[
    str, 'os.PathLike[str]', bytes, bytearray, memoryview, IO[bytes], Iterable[bytes], File
]


class UploadOptions(TypedDict, total=False):
    """How a file is stored: keyword arguments of every upload.

    Attributes:
        name (str | None): of the file, any text; by default the last component of the source's
            path, and without one it must be given.
        mimetype (str | None): by default that of a :class:`~storj.model.File`; else it is left to
            the bridge, or guessed from a name that is stored in the clear.
        encrypt (bool): whether the content is encrypted with the client's encryption key
            (mnemonic); True by default.
        encrypt_name (bool | None): whether the name is too; by default it is, unless the client was
            made with ``plain_names``.
        parity (bool | None): whether parity shards are added; as configured by default.
        resume (bool): whether an interrupted upload of the same file is continued, and this one can
            be; True by default.
        overwrite (bool): whether a file of the same name is replaced; False by default.
    """

    name: str | None
    mimetype: str | None
    encrypt: bool
    encrypt_name: bool | None
    parity: bool | None
    resume: bool
    overwrite: bool


def check_id(value: object, what: str) -> None:
    """Raise ValueError if an id cannot be one."""
    if not isinstance(value, str) or not value:
        raise ValueError(f'the id of a {what} is a text of hex digits, not {value!r}')


@dataclass(frozen=True)
class UploadRequest:
    """An upload that is asked for: where from, where to, and its :class:`UploadOptions`.

    Raises:
        ValueError: If the bucket's id is no text.
        TypeError: If the existing files are one text, which is a sequence of texts itself.
    """

    bucket_id: str
    source: SourceLike
    frame: Frame | str | None = None
    existing: Sequence[str] | None = None
    name: str | None = None
    mimetype: str | None = None
    encrypt: bool = True
    encrypt_name: bool | None = None
    parity: bool | None = None
    resume: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_id(self.bucket_id, 'bucket')
        if isinstance(self.existing, str):
            raise TypeError('the existing files are a list of ids, not one text')

    def file_name(self) -> str:
        """Return the name of the file, in the clear.

        Raises:
            ValueError: If none is given and the source has none of its own.
            TypeError: If it is no text.
        """
        name = name_of(self.source) if self.name is None else self.name
        if name is None or name == '':
            raise ValueError('the source has no name of its own; give one')
        if not isinstance(name, str):
            raise TypeError(f'the name of a file is text, not {type(name).__name__}')
        return name

    @property
    def source_path(self) -> str:
        """Absolute path of the source, the empty text if it has none."""
        source = self.source.filename if isinstance(self.source, File) else self.source
        if isinstance(source, (str, os.PathLike)):
            path = os.fspath(source)
            return str(Path(path).absolute()) if isinstance(path, str) else ''
        return ''

    @property
    def has_encrypted_name(self) -> bool:
        """Whether the bridge gets the name encrypted."""
        return self.encrypt and self.encrypt_name is not False

    def guessed_mimetype(self) -> str | None:
        """Return the type for the entry; an encrypted name is not given away by its ending."""
        if self.mimetype is not None:
            return self.mimetype
        if isinstance(self.source, File) and self.source.mimetype:
            return self.source.mimetype
        if self.has_encrypted_name:
            return None
        return mimetypes.guess_type(self.file_name())[0]


def name_of(source: Any) -> str | None:
    """Return the name that a source suggests: the last component of its path.

    A path given with ``/`` in front is a place on this machine; only a name that the caller states
    may contain a slash on the network.
    """
    if isinstance(source, File):
        source = source.filename
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
    else:
        path = getattr(source, 'name', None)
    # The name of a file opened by its descriptor is a number, of a temporary one perhaps bytes.
    if not isinstance(path, str) or not path or path.startswith('<'):
        return None
    return Path(path).name or None


#: Where a download can go.
Destination = Union[str, 'os.PathLike[str]', IO[bytes], None]


class StreamOptions(TypedDict, total=False):
    """What is fetched of a file: keyword arguments of every stream and download.

    Attributes:
        start (int): first byte; 0 by default.
        end (int | None): byte behind the last one; the end of the file by default.
        decrypt (bool): False for the bytes as they are stored, which nothing proves: of a file that
            was stored without encryption, or still encrypted. True by default.
        key (ContentKey | None): of the file, if it was passed on; by default it follows
            from the client's encryption key (mnemonic).
    """

    start: int
    end: int | None
    decrypt: bool
    key: ContentKey | None


class DownloadOptions(StreamOptions, total=False):
    """How a file is fetched: keyword arguments of every download, besides :class:`StreamOptions`.

    Attributes:
        resume (bool): whether an interrupted download to the same path is continued, and this one
            can be; True by default.
        overwrite (bool): whether a file at the path may be replaced; True by default.
    """

    resume: bool
    overwrite: bool


@dataclass(frozen=True)
class DownloadRequest:
    """A download that is asked for: which file, and its :class:`DownloadOptions`.

    Attributes:
        described (File | None): the file as it was listed, with index and HMAC; None to ask.

    Raises:
        ValueError: If an id is no text.
    """

    bucket_id: str
    file_id: str
    start: int = 0
    end: int | None = None
    decrypt: bool = True
    key: ContentKey | None = None
    resume: bool = True
    overwrite: bool = True
    described: File | None = None

    def __post_init__(self) -> None:
        check_id(self.bucket_id, 'bucket')
        check_id(self.file_id, 'file')


class BridgeReader(Protocol):
    """The methods of a bridge client that a download calls; each is one request, or a few.

    They are called from many threads at once. An error is a :class:`storj.exception.StorjError`
    whose ``retryable`` says whether the engine may repeat the request. A client that repeats
    requests by itself has a method ``once()`` besides: a context manager within which it leaves
    that to the engine, in the calling thread.
    """

    @property
    def email(self) -> str | None:
        """Of the account; names the reporter of exchanges."""

    @property
    def mnemonic(self) -> str | None:
        """The encryption key."""

    @property
    def api_url(self) -> str:
        """Of the bridge; tells journals of different bridges apart."""

    def profile(self) -> BridgeProfile:
        """Return what the bridge understands; asked once, then remembered."""

    def token_create(self, bucket_id: str, operation: str) -> Token:
        """Return a token of the bucket."""

    def file_metadata(self, bucket_id: str, file_id: str) -> File:
        """Return the description of a file."""

    def file_pointers(
        self,
        bucket_id: str,
        file_id: str,
        skip: int | None = None,
        limit: int | None = None,
        exclude: Sequence[str] | None = None,
    ) -> Sequence[FilePointer] | Iterator[FilePointer]:
        """Return one page of pointers."""

    def send_exchange_report(self, report: ExchangeReport) -> Any:
        """Send a report."""


class Bridge(BridgeReader, Protocol):
    """The methods of a bridge client that an upload calls besides."""

    def bucket_get(self, bucket_id: str) -> Any:
        """Return the bucket; NotFoundError if there is none."""

    def contact_list(self, page: int = 1) -> Iterable[Contact]:
        """Return one page of the farmers that the bridge knows, empty past the last."""

    def file_id(self, bucket_id: str, name: str, *, stored: bool = False) -> str | None:
        """Return the id of the file with this name, clear or stored; None if there is none."""

    def file_create(
        self,
        bucket_id: str,
        frame_id: str,
        filename: str,
        *,
        mimetype: str | None = None,
        index: str | None = None,
        hmac: Mapping[str, str] | None = None,
        erasure: bool = False,
    ) -> File:
        """Turn a frame into a file."""

    def file_remove(self, bucket_id: str, file_id: str) -> Any:
        """Remove a file."""

    def frame_create(self) -> Frame:
        """Return a new frame."""

    def frame_get(self, frame_id: str) -> Frame:
        """Return a frame; NotFoundError if it is gone."""

    def frame_delete(self, frame_id: str) -> Any:
        """Destroy a frame."""

    def frame_add_shard(
        self, shard: Shard, frame_id: str, excludes: Sequence[str] | None = None
    ) -> Mapping[str, Any]:
        """Add a shard to a frame and return the pointer to the farmer that is to store it."""
