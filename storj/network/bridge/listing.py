"""What is read of files: the list of a bucket, and the description of one file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from aiohttp import web
from sqlalchemy import select
from sqlalchemy.orm import Session

from storj.network.bridge.auth import authenticate, owned_bucket, reachable_bucket
from storj.network.bridge.buckets import start_date
from storj.network.bridge.state import BRIDGE, Release
from storj.network.bridge.tables import Entry, Frame
from storj.network.node.wire import Refusal, Route, answer, iso_date, object_id

#: Files in one answer (protocol reference, section 8.1).
LIST_LIMIT = 2000


#: Columns, not objects of the ORM, of which 2000 would cost more than the rest of a page.
_BRIEFLY = select(
    Entry.id, Entry.frame, Entry.name, Entry.mimetype, Frame.size, Entry.created
).join(Frame, Frame.id == Entry.frame)
_FILES = _BRIEFLY.add_columns(
    Entry.bucket, Entry.hmac_type, Entry.hmac_value, Entry.erasure, Entry.index
)

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


def _brief_object(row: Sequence[Any], added: Collection[str]) -> dict[str, Any]:
    """Return a file as the listing describes it where it is asked to be brief."""
    file_id, frame, name, mimetype, size, created = row
    described: dict[str, Any] = {
        'mimetype': mimetype,
        'filename': frame if name is None else name,
        'frame': frame,
        'size': size,
        'id': file_id,
    }
    if 'created' in added:
        described['created'] = iso_date(created)
    return described


def _file_object(row: Sequence[Any], added: Collection[str]) -> dict[str, Any]:
    """Return a file as the listing and ``/info`` describe it."""
    *brief, bucket, hmac_type, hmac_value, erasure, index = row
    described = {'bucket': bucket, **_brief_object(brief, added)}
    if 'hmac' in added:
        described['hmac'] = _hmac_object(hmac_type, hmac_value)
    if 'erasure' in added:
        described['erasure'] = {} if erasure is None else {'type': erasure}
    if 'index' in added and index is not None:
        described['index'] = index
    return described


def _hmac_object(kind: str | None, value: str | None) -> dict[str, str]:
    """Return the HMAC of a file as the bridge describes it, empty if it has none."""
    return {} if kind is None or value is None else {'value': value, 'type': kind}


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
    # Half of the bytes are of no use to who only shows a list.
    is_brief = request.query.get('brief') == 'true'
    files, describe = (_BRIEFLY, _brief_object) if is_brief else (_FILES, _file_object)

    def find(session: Session) -> web.Response:
        bucket = owned_bucket(session, caller, request.match_info['bucket'])
        query = files.where(Entry.bucket == bucket.id).order_by(Entry.created).limit(LIST_LIMIT)
        if after is not None:
            query = query.where(Entry.created > after)
        added = _added(bridge.release, listed=True)
        # Not by the session, which takes twice as long for plain columns.
        rows = session.connection().execute(query)
        return answer([describe(row, added) for row in rows])

    # A page of 2000 files takes long to build.
    return await bridge.database.apart(find)


async def get_info(request: web.Request) -> web.Response:
    """Describe a file."""
    bridge = request.app[BRIDGE]
    bucket = await reachable_bucket(request, request.match_info['bucket'], 'PULL')

    def find(session: Session) -> dict[str, Any]:
        entry = entry_of(session, bucket.id, request.match_info['file'])
        row = session.execute(_FILES.where(Entry.id == entry.id)).one()
        return _file_object(row, _added(bridge.release, listed=False))

    return answer(await bridge.database.run_objects(find))


ROUTES = (
    Route('GET', '/buckets/{bucket}/files', list_files),
    Route('GET', '/buckets/{bucket}/files/{file}/info', get_info),
)
