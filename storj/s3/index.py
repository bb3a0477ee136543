"""What the network cannot keep of an object: ETag, type, headers, metadata, checksum, parts.

A small database beside the gateway, any that SQLAlchemy knows. It holds no names that the network
does not have, and what is lost with it are these fields alone: keys, sizes, times and contents are
in the network. A record counts only for the very upload it was made of (``version``), so an object
that another client replaces is never described by it.
"""

from __future__ import annotations

import datetime
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.engine import Engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from storj.exception import ConfigurationError
from storj.network.node.watchdog import Watchdog, tcp_limits

#: Seconds until a server is given up that keeps its connections and does not answer.
PATIENCE = 10.0

_schema = MetaData()

# Bucket and key, because an object that is replaced keeps its place; the version says of which
# upload the fields are.
_objects = Table(
    'objects',
    _schema,
    Column('bucket_id', String(24), primary_key=True),
    Column('key', String(1024), primary_key=True),
    Column('version', String(80), nullable=False),
    Column('etag', String(80), nullable=False),
    Column('fields', JSON, nullable=False),
)
_uploads = Table(
    'uploads',
    _schema,
    Column('id', String(32), primary_key=True),
    Column('bucket_id', String(24), nullable=False, index=True),
    Column('key', String(1024), nullable=False),
    Column('begun', Float, nullable=False, index=True),
    Column('fields', JSON, nullable=False),
)
_parts = Table(
    'parts',
    _schema,
    Column('upload_id', String(32), primary_key=True),
    Column('number', Integer, primary_key=True),
    Column('etag', String(40), nullable=False),
    Column('size', BigInteger, nullable=False),
    Column('stored', Float, nullable=False),
    Column('file', String(80), nullable=False),
    Column('checksum', JSON),
)


@dataclass
class Description:
    """What S3 tells of an object beside its content.

    Attributes:
        etag (str): without quotes.
        headers (dict[str, str]): ``Content-Type`` and its like, as they were sent.
        metadata (dict[str, str]): ``x-amz-meta-`` headers, without that.
        checksum (dict[str, str]): ``algorithm``, ``value`` (Base64) and ``type``; empty if none.
        parts (list[dict[str, Any]]): ``size`` and checksum of each part, of a multipart upload.
        tags (dict[str, str]): of the object.
        upload (str): id of the multipart upload that it was made by; empty if by none.
    """

    etag: str
    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    checksum: dict[str, str] = field(default_factory=dict)
    parts: list[dict[str, Any]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    upload: str = ''

    def fields(self) -> dict[str, Any]:
        """Return everything but the ETag, as it is kept."""
        return {name: value for name, value in vars(self).items() if name != 'etag'}


@dataclass(frozen=True)
class Upload:
    """A multipart upload in progress.

    Attributes:
        id (str): 32 hex digits.
        bucket_id (str): of its bucket.
        key (str): of its object.
        begun (datetime.datetime): in UTC.
        description (Description): of the object to be; its ETag is empty.
    """

    id: str
    bucket_id: str
    key: str
    begun: datetime.datetime
    description: Description


@dataclass(frozen=True)
class Part:
    """A part of a multipart upload.

    Attributes:
        number (int): from 1 to 10,000.
        etag (str): MD5 in hex.
        size (int): bytes.
        stored (datetime.datetime): in UTC.
        file (str): name in the folder of parts.
        checksum (dict[str, str]): ``algorithm`` and ``value``; empty if none.
    """

    number: int
    etag: str
    size: int
    stored: datetime.datetime
    file: str
    checksum: dict[str, str]


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


class Index:
    """The database; safe to use from several threads.

    Raises:
        ConfigurationError: If the database cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._watchdog: Watchdog | None = None
        try:
            parsed = make_url(url)
        except ArgumentError:
            # Its text would show the whole URL, the password included.
            raise ConfigurationError('the index is not given by an SQLAlchemy URL') from None
        try:
            # What was to be written, names of objects, must not get into a log.
            self._engine: Engine = create_engine(
                parsed, hide_parameters=True, connect_args=tcp_limits(parsed)
            )
            if self._engine.dialect.name == 'sqlite':
                _make_private(parsed.database)
                event.listen(self._engine, 'connect', _tune)
            else:
                self._watchdog = Watchdog()
                self._watchdog.follow(self._engine, lambda: time.monotonic() + PATIENCE)
            _schema.create_all(self._engine)
        except (SQLAlchemyError, ImportError, OSError) as error:
            if self._watchdog is not None:
                self._watchdog.close()
            shown = parsed.render_as_string(hide_password=True)
            raise ConfigurationError(f'{shown}: cannot be used: {error}') from error

    def close(self) -> None:
        """Close the connections."""
        if self._watchdog is not None:
            self._watchdog.close()
        self._engine.dispose()

    # -- objects -----------------------------------------------------------------------------------

    def describe(self, bucket_id: str, keys: Iterable[str]) -> dict[str, tuple[str, Description]]:
        """Return version and description of those of some keys that are known."""
        wanted = list(keys)
        found = {}
        columns = _objects.c
        with self._engine.connect() as connection:
            for start in range(0, len(wanted), 500):
                rows = connection.execute(
                    select(columns.key, columns.version, columns.etag, columns.fields).where(
                        columns.bucket_id == bucket_id, columns.key.in_(wanted[start : start + 500])
                    )
                )
                for key, version, etag, fields in rows:
                    found[key] = version, Description(etag, **fields)
        return found

    def note(self, bucket_id: str, key: str, version: str, description: Description) -> None:
        """Keep the description of an object."""
        values = {'version': version, 'etag': description.etag, 'fields': description.fields()}
        place = (_objects.c.bucket_id == bucket_id) & (_objects.c.key == key)
        with self._engine.begin() as connection:
            if not connection.execute(update(_objects).where(place).values(**values)).rowcount:
                connection.execute(insert(_objects).values(bucket_id=bucket_id, key=key, **values))

    def forget(self, bucket_id: str, keys: Sequence[str] | None = None) -> None:
        """Forget objects of a bucket; all if no keys are given."""
        place = _objects.c.bucket_id == bucket_id
        with self._engine.begin() as connection:
            if keys is None:
                connection.execute(delete(_objects).where(place))
                return
            # Databases bound the parameters of a statement; SQLite at 999 in old versions.
            for start in range(0, len(keys), 500):
                some = _objects.c.key.in_(keys[start : start + 500])
                connection.execute(delete(_objects).where(place & some))

    # -- multipart uploads -------------------------------------------------------------------------

    def begin_upload(
        self, bucket_id: str, key: str, description: Description, now: datetime.datetime
    ) -> str:
        """Keep a new upload; return its id."""
        upload_id = secrets.token_hex(16)
        with self._engine.begin() as connection:
            connection.execute(
                insert(_uploads).values(
                    id=upload_id,
                    bucket_id=bucket_id,
                    key=key,
                    begun=now.timestamp(),
                    fields=description.fields(),
                )
            )
        return upload_id

    def uploads(self, bucket_id: str | None = None, before: float | None = None) -> list[Upload]:
        """Return the uploads in progress, by key and time.

        Args:
            bucket_id (str | None): of one bucket; of all if None.
            before (float | None): begun before a moment, in seconds since 1970.
        """
        query = select(_uploads).order_by(_uploads.c.key, _uploads.c.begun)
        if bucket_id is not None:
            query = query.where(_uploads.c.bucket_id == bucket_id)
        if before is not None:
            query = query.where(_uploads.c.begun < before)
        with self._engine.connect() as connection:
            return [self._upload(row._mapping) for row in connection.execute(query)]

    def upload(self, upload_id: str) -> Upload | None:
        """Return an upload, None if there is none."""
        with self._engine.connect() as connection:
            row = connection.execute(select(_uploads).where(_uploads.c.id == upload_id)).first()
        return None if row is None else self._upload(row._mapping)

    @staticmethod
    def _upload(row: Mapping[Any, Any]) -> Upload:
        return Upload(
            row['id'],
            row['bucket_id'],
            row['key'],
            _moment(row['begun']),
            Description('', **row['fields']),
        )

    def end_upload(self, upload_id: str) -> list[str]:
        """Forget an upload and its parts; return the files of the parts."""
        files = [part.file for part in self.parts(upload_id)]
        with self._engine.begin() as connection:
            connection.execute(delete(_parts).where(_parts.c.upload_id == upload_id))
            connection.execute(delete(_uploads).where(_uploads.c.id == upload_id))
        return files

    def note_part(self, upload_id: str, part: Part) -> str | None:
        """Keep a part; return the file of the one that it replaces."""
        place = (_parts.c.upload_id == upload_id) & (_parts.c.number == part.number)
        values = {**vars(part), 'stored': part.stored.timestamp(), 'upload_id': upload_id}
        with self._engine.begin() as connection:
            former = connection.execute(select(_parts.c.file).where(place)).scalar()
            connection.execute(delete(_parts).where(place))
            connection.execute(insert(_parts).values(**values))
        return former

    def parts(self, upload_id: str) -> list[Part]:
        """Return the parts of an upload in order."""
        columns = _parts.c
        query = select(
            columns.number,
            columns.etag,
            columns.size,
            columns.stored,
            columns.file,
            columns.checksum,
        ).where(columns.upload_id == upload_id)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(columns.number)).all()
        return [
            Part(number, etag, size, _moment(stored), file, checksum or {})
            for number, etag, size, stored, file, checksum in rows
        ]


def _make_private(path: str | None) -> None:
    """Make a file of SQLite that its owner alone can read: it holds names in the clear.

    SQLite gives the files beside it the same mode.
    """
    if path and path != ':memory:':
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _tune(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute('PRAGMA journal_mode=WAL')
    cursor.execute('PRAGMA synchronous=NORMAL')
    cursor.execute('PRAGMA busy_timeout=10000')
    cursor.close()
