"""What is read of files: the list of a bucket, and the description of one file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

from aiohttp import web
from sqlalchemy import select
from sqlalchemy.orm import Session

from storj.network.bridge.auth import authenticate, owned_bucket, reachable_bucket
from storj.network.bridge.buckets import start_date
from storj.network.bridge.state import BRIDGE, Release
from storj.network.bridge.tables import Entry, Frame
from storj.network.node.wire import Refusal, Route, answer, iso_date, object_id

__all__ = ('LIST_LIMIT', 'ROUTES', 'entry_of', 'hmac_object')

#: Files in one answer (protocol reference, section 8.1).
LIST_LIMIT = 2000


@dataclass
class _File:
    """A file as it is described; 2000 objects of the ORM, or frozen ones, would cost more."""

    id: str
    bucket: str
    frame: str
    name: str | None
    mimetype: str
    created: int
    hmac_type: str | None
    hmac_value: str | None
    erasure: str | None
    index: str | None
    size: int


_FILES = select(
    *(getattr(Frame if each.name == 'size' else Entry, each.name) for each in fields(_File))
).join(Frame, Frame.id == Entry.frame)

#: What files are described by since a release, and in listings since a later one.
_ADDED = (
    ('created', (5, 8), ()),
    ('hmac', (5, 3), ()),
    ('erasure', (5, 11), (7, 6)),
    ('index', (5, 13), (7, 6)),
)


def _added(release: Release, *, listed: bool) -> frozenset[str]:
    """Return which fields a release adds to those that every one describes a file by."""
    return frozenset(
        name
        for name, described, in_lists in _ADDED
        if release.since(*described) and (not listed or release.since(*in_lists))
    )


def _file_object(entry: _File, added: Collection[str]) -> dict[str, Any]:
    """Return a file as the listing and ``/info`` describe it."""
    described: dict[str, Any] = {
        'bucket': entry.bucket,
        'mimetype': entry.mimetype,
        'filename': entry.name if entry.name is not None else entry.frame,
        'frame': entry.frame,
        'size': entry.size,
        'id': entry.id,
    }
    if 'created' in added:
        described['created'] = iso_date(entry.created)
    if 'hmac' in added:
        described['hmac'] = hmac_object(entry)
    if 'erasure' in added:
        described['erasure'] = {} if entry.erasure is None else {'type': entry.erasure}
    if 'index' in added and entry.index is not None:
        described['index'] = entry.index
    return described


def hmac_object(entry: Entry | _File) -> dict[str, str]:
    """Return the HMAC of a file as the bridge describes it, empty if it has none."""
    if entry.hmac_type is None or entry.hmac_value is None:
        return {}
    return {'value': entry.hmac_value, 'type': entry.hmac_type}


def entry_of(session: Session, bucket_id: str, entry_id: str) -> Entry:
    """Return a file of a bucket.

    Raises:
        Refusal: If the id is malformed (400), or the bucket has no such file (404).
    """
    entry = session.get(Entry, object_id(entry_id, 'File'))
    if entry is None or entry.bucket != bucket_id:
        raise Refusal(404, 'File not found')
    return entry


async def list_files(request: web.Request) -> web.Response:
    """List the files of a bucket, oldest first."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    after = start_date(request)

    def find(session: Session) -> web.Response:
        bucket = owned_bucket(session, caller, request.match_info['bucket'])
        query = _FILES.where(Entry.bucket == bucket.id).order_by(Entry.created).limit(LIST_LIMIT)
        if after is not None:
            query = query.where(Entry.created > after)
        added = _added(bridge.release, listed=True)
        rows = session.execute(query)
        return answer([_file_object(_File(*row), added) for row in rows])

    # A page of 2000 files takes long to build.
    return await bridge.database.apart(find)


async def get_info(request: web.Request) -> web.Response:
    """Describe a file."""
    bridge = request.app[BRIDGE]
    bucket = await reachable_bucket(request, request.match_info['bucket'], 'PULL')

    def find(session: Session) -> dict[str, Any]:
        entry = entry_of(session, bucket.id, request.match_info['file'])
        row = session.execute(_FILES.where(Entry.id == entry.id)).one()
        return _file_object(_File(*row), _added(bridge.release, listed=False))

    return answer(await bridge.database.run_objects(find))


ROUTES = (
    Route('GET', '/buckets/{bucket}/files', list_files),
    Route('GET', '/buckets/{bucket}/files/{file}/info', get_info),
)
