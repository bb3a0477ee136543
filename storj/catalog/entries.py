"""Names and ids: what people type, what the bridge stores, and the one found by the other.

A name is stored encrypted, as libstorj does it, when the client has an encryption key (mnemonic);
encrypted and plain names are found. An id is accepted wherever a name is. A name goes before an id
of the same text.
"""

from __future__ import annotations

import datetime
import itertools
import sys
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from storj.catalog.errors import BucketNotFound, FileNotFound
from storj.catalog.places import Remote, is_id
from storj.crypto import keys, mnemonic, names
from storj.exception import AmbiguousNameError, NotFoundError
from storj.model import File
from storj.object import parse_time
from storj.text import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from storj import http
    from storj.catalog.times import Times

__all__ = ('SEEN', 'BucketEntry', 'Catalog', 'FileEntry', 'Stamp')

Page: TypeAlias = 'list[dict[str, Any]]'

#: Names of a bucket's files, the first ones, that are handed on when it was listed.
SEEN = 2000

#: Seconds. A time that is set as a number with a fraction is off by less.
SAME_TIME = 2e-6


class Stamp(NamedTuple):
    """Size and time of a file on either side.

    Attributes:
        size (int | None): in bytes; None while unknown.
        time (float | None): seconds since 1970 when it was changed here, or stored there; None
            if the bridge does not know it: then only the sizes are compared.
        is_copied (bool): whether the time is that of the file which was stored, as this machine
            remembers it, and not that of the upload.
    """

    size: int | None
    time: float | None = None
    is_copied: bool = False

    def serves_for(self, source: Stamp) -> bool:
        """Return whether a file that is there need not be replaced.

        It is as large, and not older. A copy whose source's time is remembered has that very time:
        a source that was replaced by an older file is noticed too.
        """
        if self.size is None or self.size != source.size:
            return False
        if self.time is None or source.time is None:
            return True
        if self.is_copied:
            return abs(self.time - source.time) < SAME_TIME
        return self.time > source.time - SAME_TIME


@dataclass(frozen=True)
class BucketEntry:
    """A bucket as a person sees it.

    Attributes:
        id (str): 24 hex digits.
        name (str): in clear where it could be decrypted, else as stored.
        stored_name (str): as the bridge has it.
        encrypted (bool): whether the stored name was decrypted.
        created (datetime.datetime | None): in UTC.
        storage (int | None): limit in GB.
        transfer (int | None): limit in GB.
        status (str | None): as the bridge has it.
    """

    id: str
    name: str
    stored_name: str
    encrypted: bool = False
    created: datetime.datetime | None = None
    storage: int | None = None
    transfer: int | None = None
    status: str | None = None

    def place(self, path: str = '') -> Remote:
        """Return a place in the bucket, as it can be typed.

        Args:
            path (str): of a file or prefix; empty for the bucket itself.
        """
        # The first slash ends the name of a bucket.
        return Remote(self.id if '/' in self.name else self.name, path)

    def to_dict(self) -> dict[str, Any]:
        """Return the record that ``--json`` prints."""
        return {
            'id': self.id,
            'name': self.name,
            'encrypted_name': self.encrypted,
            'created': self.created,
            'storage': self.storage,
            'transfer': self.transfer,
            'status': self.status,
        }


@dataclass(slots=True)
class FileEntry:
    """A file as a person sees it.

    Nobody changes one; that is not enforced, because there may be a million of them.

    Attributes:
        id (str): 24 hex digits.
        bucket (BucketEntry): where it is.
        name (str): in clear where it could be decrypted, else as stored.
        stored_name (str): as the bridge has it; empty in a list without what only a transfer needs.
        size (int | None): in bytes; of the file, which is that of its ciphertext.
        encrypted (bool): whether the stored name was decrypted.
        mimetype (str | None): as the bridge has it.
        created (datetime.datetime | None): in UTC; unknown to older bridges.
        frame (str | None): id of the frame, which is of one upload.
        modified (float | None): seconds since 1970, of the file that was stored; known to the
            machine that stored it.
        index (str | None): from which its key is made, if the bridge lists it.
        hmac (Mapping[str, Any] | None): ``type`` and ``value``, if the bridge lists them.
    """

    id: str
    bucket: BucketEntry
    name: str
    stored_name: str
    size: int | None = None
    encrypted: bool = False
    mimetype: str | None = None
    created: datetime.datetime | None = None
    frame: str | None = None
    modified: float | None = None
    index: str | None = field(default=None, repr=False, compare=False)
    hmac: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return str(self.bucket.place(self.name))

    @property
    def stamp(self) -> Stamp:
        """What is compared with a file on this machine, or with another stored one."""
        if self.modified is not None:
            return Stamp(self.size, self.modified, is_copied=True)
        return Stamp(self.size, None if self.created is None else self.created.timestamp())

    def described(self) -> File:
        """Return the file as the bridge lists it."""
        return File(
            filename=self.stored_name, size=self.size, index=self.index, hmac=self.hmac, id=self.id
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the record that ``--json`` prints."""
        return {
            'id': self.id,
            'bucket': self.bucket.id,
            'name': self.name,
            'encrypted_name': self.encrypted,
            'size': self.size,
            'mimetype': self.mimetype,
            'created': self.created,
        }


class Catalog:
    """Finds buckets and files of one account.

    Args:
        client (storj.http.Client): of the account; its encryption key (mnemonic) decrypts and
            encrypts names.
        plain_names (bool): whether new names are stored in clear.
        seen (Callable | None): called at the end of each list: with a bucket's name and the first
            :data:`SEEN` names of its files, or with None and the buckets' names.
        times (Times | None): what this machine remembers of the files that it stored.

    Attributes:
        client (storj.http.Client): as given.
        times (Times | None): as given.
        encrypts_names (bool): whether new names are stored encrypted.

    Raises:
        MnemonicError: If the encryption key is none. A mistyped word would hide everything that is
            stored, and make names that the right key does not open.
    """

    def __init__(
        self,
        client: http.Client,
        *,
        plain_names: bool = False,
        seen: Callable[[str | None, Sequence[str]], object] | None = None,
        times: Times | None = None,
    ) -> None:
        if client.mnemonic is not None:
            mnemonic.check(client.mnemonic)
        self.client = client
        self.times = times
        self.encrypts_names = client.mnemonic is not None and not plain_names
        self._encryption_key = client.mnemonic
        self._seen = seen

    def buckets(self) -> list[BucketEntry]:
        """Return all buckets, in the order of their names."""
        found = sorted(map(self.describe_bucket, self.client.bucket_list()), key=lambda it: it.name)
        if self._seen is not None:
            self._seen(None, [entry.name for entry in found])
        return found

    def bucket(self, text: str) -> BucketEntry:
        """Return the bucket of a name or id.

        Raises:
            BucketNotFound: If there is none.
        """
        found = self.find_bucket(text)
        if found is None:
            raise BucketNotFound(f'no such bucket: {text}')
        return found

    def find_bucket(self, text: str) -> BucketEntry | None:
        """Return the bucket of a name or id, None if there is none.

        An older bridge cannot be asked for a name, and none can be asked for one that is stored in
        another way than expected; so the whole list is fetched, which is one request.

        Raises:
            AmbiguousNameError: If several have the name.
        """
        buckets = self.buckets()
        named = [entry for entry in buckets if entry.name == text]
        if len(named) > 1:
            raise AmbiguousNameError(
                f'the name {text!r} is that of {count_of(len(named), "bucket")}',
                [entry.id for entry in named],
            )
        return next(iter(named or [entry for entry in buckets if entry.id == text]), None)

    def files(
        self, bucket: BucketEntry, prefix: str = '', *, brief: bool = False
    ) -> list[FileEntry]:
        """Return the files of a bucket whose names begin with a prefix, in order of their names.

        Args:
            bucket (BucketEntry): where they are.
            prefix (str): of the names; the others are not kept in memory.
            brief (bool): without what only a transfer of a file needs, which takes two thirds of
                the memory: its stored name, frame, index and HMAC.

        Raises:
            BucketNotFound: If the bucket was removed in the meantime.
        """
        entries = self.scan(bucket, brief=brief)
        return sorted((each for each in entries if each.name.startswith(prefix)), key=_BY_NAME)

    def scan(self, bucket: BucketEntry, *, brief: bool = False) -> Iterator[FileEntry]:
        """Yield the files of a bucket a page at a time, oldest first, each page in order of names.

        The next page is fetched meanwhile.

        Args:
            bucket (BucketEntry): where they are.
            brief (bool): as in :meth:`files`.

        Raises:
            BucketNotFound: If the bucket was removed in the meantime.
        """
        clear = self._opener(bucket)
        first: list[str] = []
        try:
            for page in _ahead(self.client.bucket_file_pages(bucket.id, brief=brief)):
                entries = self._file_entries(bucket, page, clear, brief=brief)
                found = sorted(entries, key=_BY_NAME)
                if self._seen is not None:
                    first = sorted([*first, *(entry.name for entry in found)])[:SEEN]
                yield from found
        except NotFoundError:
            raise BucketNotFound(f'no such bucket: {bucket.name}') from None
        # At the end: only a complete list may replace the kept names.
        if self._seen is not None:
            self._seen(bucket.name, first)

    def file(self, bucket: BucketEntry, text: str) -> FileEntry:
        """Return the file of a name or id.

        Raises:
            FileNotFound: If there is none.
        """
        found = self.find_file(bucket, text)
        if found is None:
            raise FileNotFound(f'no such file: {bucket.place(text)}')
        return found

    def find_file(self, bucket: BucketEntry, text: str, *, ids: bool = True) -> FileEntry | None:
        """Return the file of a name or, if ``ids`` is true, of an id; None if there is none.

        Raises:
            AmbiguousNameError: If several have the name.
        """
        if not text:
            return None
        file_id = self.client.file_id(bucket.id, text)
        if file_id is not None:
            return self.file_of_id(bucket, file_id)
        return self.file_of_id(bucket, text) if ids and is_id(text) else None

    def file_of_id(self, bucket: BucketEntry, file_id: str) -> FileEntry | None:
        """Return the file of an id, None if there is none."""
        try:
            found = self.client.file_metadata(bucket.id, file_id)
        except NotFoundError:
            return None
        return self.describe_file(bucket, file_id, found)

    def describe_file(self, bucket: BucketEntry, file_id: str, found: File) -> FileEntry:
        """Return a file of the client, as an upload returns it too, as a person sees it."""
        record = {
            'id': file_id,
            'filename': found.filename,
            'size': found.size,
            'mimetype': found.mimetype,
            'created': getattr(found, 'created', None),
            'frame': getattr(found.frame, 'id', None),
            'index': found.index,
            'hmac': found.hmac,
        }
        [entry] = self._file_entries(bucket, [record], self._opener(bucket), brief=False)
        return entry

    def _opener(self, bucket: BucketEntry) -> Callable[[str], str | None]:
        """Return what decrypts names of a bucket's files; without an encryption key, none."""
        if self._encryption_key is None:
            return lambda stored: None
        return names.file_name_opener(keys.bucket_key(self._encryption_key, bucket.id))

    def describe_bucket(self, record: Any) -> BucketEntry:
        """Return a bucket of the client as a person sees it."""
        stored = record.stored_name or ''
        clear = None
        if self._encryption_key is not None:
            clear = names.decrypt_bucket_name(self._encryption_key, stored)
        return BucketEntry(
            id=record.id,
            name=clear or stored,
            stored_name=stored,
            encrypted=clear is not None,
            created=record.created,
            storage=record.storage,
            transfer=record.transfer,
            status=record.status,
        )

    def _file_entries(
        self,
        bucket: BucketEntry,
        records: Sequence[Mapping[str, Any]],
        clear: Callable[[str], str | None],
        *,
        brief: bool,
    ) -> Iterator[FileEntry]:
        frames = [frame if isinstance(frame := it.get('frame'), str) else None for it in records]
        dated = {} if self.times is None else self.times.of_each([it for it in frames if it])
        for record, frame in zip(records, frames, strict=True):
            stored = record.get('filename') or record['id']
            name, size = clear(stored), record.get('size')
            mimetype = record.get('mimetype')
            yield FileEntry(
                record['id'],
                bucket,
                name or stored,
                '' if brief else stored,
                int(size) if size is not None else None,
                name is not None,
                # A few kinds, of a million files.
                sys.intern(mimetype) if type(mimetype) is str else mimetype,
                parse_time(record.get('created')),
                None if brief else frame,
                None if frame is None else dated.get(frame),
                None if brief else record.get('index'),
                None if brief else record.get('hmac'),
            )


_BY_NAME = attrgetter('name')
# Seconds for which the thread of a listing waits for its reader.
_LINGER = 10.0


def _ahead(pages: Iterator[Page]) -> Iterator[Page]:
    """Yield pages while the one after them is fetched."""
    # A bucket of one page needs no thread, which would make a connection of its own.
    yield from itertools.islice(pages, 1)
    page = next(pages, None)
    if page is None:
        return
    from storj.transfer.scope import ThreadPool  # short listings need none

    fetcher = ThreadPool('storj-listing', 1, _LINGER)
    try:
        while page is not None:
            following = fetcher.submit(next, pages, None)
            yield page
            page = following.result()
    finally:
        # The client ends a request that is under way when it is closed.
        fetcher.shutdown(wait=False, cancel_futures=True)
