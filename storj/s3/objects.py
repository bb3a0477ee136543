"""Calls of S3 for objects: reading, writing, copying, removing, tags."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from storj.catalog import BucketEntry
from storj.exception import NotFoundError, StorjError
from storj.s3 import conditions
from storj.s3.buckets import OWNER
from storj.s3.call import Call, is_number, stamp
from storj.s3.errors import S3Error
from storj.s3.index import Description
from storj.s3.store import Object, Store

_log = logging.getLogger(__name__)

#: How often an object is looked for that is replaced before its first byte was sent.
_ATTEMPTS: Final = 5

#: Parameters of a GET that replace headers of the answer.
_REPLACED: Final = {
    'response-content-type': 'Content-Type',
    'response-content-language': 'Content-Language',
    'response-expires': 'Expires',
    'response-cache-control': 'Cache-Control',
    'response-content-disposition': 'Content-Disposition',
    'response-content-encoding': 'Content-Encoding',
}


def headers_of(found: Object, *, checksum: bool = False) -> dict[str, str]:
    """Return the headers that tell an object.

    Args:
        found (Object): the object.
        checksum (bool): whether its checksum is among them.
    """
    description = found.description
    headers = {
        'Content-Type': 'binary/octet-stream',
        **description.headers,
        **conditions.metadata_headers(description.metadata),
        'ETag': f'"{description.etag}"',
        'Last-Modified': found.modified.strftime('%a, %d %b %Y %H:%M:%S GMT'),
        'Accept-Ranges': 'bytes',
    }
    if description.tags:
        headers['x-amz-tagging-count'] = str(len(description.tags))
    if description.parts:
        headers['x-amz-mp-parts-count'] = str(len(description.parts))
    if checksum:
        headers |= checksum_headers(description.checksum)
    return headers


def checksum_headers(checksum: dict[str, str]) -> dict[str, str]:
    """Return the headers that tell a checksum."""
    if not checksum:
        return {}
    headers = {f'x-amz-checksum-{checksum["algorithm"].lower()}': checksum['value']}
    if 'type' in checksum:
        headers['x-amz-checksum-type'] = checksum['type']
    return headers


async def get(store: Store, call: Call) -> web.StreamResponse:
    """Answer GetObject and HeadObject."""
    bucket = await store.bucket(call.bucket)
    for _ in range(_ATTEMPTS):
        found = await store.object(bucket, call.key)
        response = await _answered(store, call, found)
        if response is not None:
            return response
    raise S3Error('ServiceUnavailable', 'The object is replaced again and again.')


async def _answered(store: Store, call: Call, found: Object) -> web.StreamResponse | None:
    """Answer with an object; None if it was replaced before its first byte was sent."""
    try:
        conditions.check_conditions(call.headers, found)
    except S3Error as error:
        if error.status != 304:
            raise
        kept = headers_of(found)
        return web.Response(
            status=304, headers={name: kept[name] for name in ('ETag', 'Last-Modified')}
        )
    limits, headers = _told(call, found)
    start, end = limits or (0, found.size)
    status = 200 if limits is None else 206
    if call.method == 'HEAD' or start == end:
        return web.Response(status=status, headers=headers)
    pieces = store.content(found, start, end)
    try:
        # The first one is there before anything is answered: what fails then is an error of S3.
        try:
            first = await anext(pieces)
        except NotFoundError:
            return None
        if not await store.is_current(found):
            return None
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(call.request)
        await _written(call, response, first, pieces)
    finally:
        await pieces.aclose()
    return response


async def _written(
    call: Call, response: web.StreamResponse, first: bytes, pieces: AsyncIterator[bytes]
) -> None:
    """Write a body whose head is sent."""
    try:
        await response.write(first)
        async for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    except ConnectionError:
        raise
    except Exception as error:
        expected = isinstance(error, StorjError)
        _log.warning('%s %s broke off: %s', call.id, call.method, error, exc_info=not expected)
        # Any answer to that would be taken for bytes of the object.
        if call.request.transport is not None:
            call.request.transport.abort()


def _told(call: Call, found: Object) -> tuple[tuple[int, int] | None, dict[str, str]]:
    """Return the range that is asked for, None for the whole, and the headers of the answer."""
    asks = call.headers.get('x-amz-checksum-mode', '').upper() == 'ENABLED'
    number, part = _part(call, found)
    limits = part or conditions.range_of(call.headers.get('Range'), found.size)
    # The checksum is that of the whole: beside a range, clients would compare it with the range.
    headers = headers_of(found, checksum=asks and limits is None)
    if number is not None and found.description.parts:
        whole, own = found.description.checksum, found.description.parts[number - 1]
        if 'value' in own:
            headers |= checksum_headers({**own, 'type': whole.get('type', 'COMPOSITE')})
    headers |= {
        name: conditions.checked_value(call.query[key])
        for key, name in _REPLACED.items()
        if key in call.query
    }
    start, end = limits or (0, found.size)
    headers['Content-Length'] = str(end - start)
    if limits is not None:
        headers['Content-Range'] = f'bytes {start}-{end - 1}/{found.size}'
    return limits, headers


def _part(call: Call, found: Object) -> tuple[int | None, tuple[int, int] | None]:
    """Return number and range of the part that ``partNumber`` asks for."""
    if 'partNumber' not in call.query:
        return None, None
    if 'Range' in call.headers:
        raise S3Error('InvalidRequest', 'Cannot specify both Range header and partNumber')
    number = call.number('partNumber', 1, 10_000, 1)
    sizes = [part['size'] for part in found.description.parts] or [found.size]
    if number > len(sizes):
        raise S3Error('InvalidPart', 'The requested partnumber is not satisfiable')
    start = sum(sizes[: number - 1])
    return number, (start, start + sizes[number - 1])


def described(call: Call) -> Description:
    """Return what a request says of the object that it makes."""
    return Description(
        '',
        conditions.described_headers(call.headers),
        conditions.metadata_of(call.headers),
        tags=conditions.tags_of(call.headers.get('x-amz-tagging')),
    )


async def put(store: Store, call: Call) -> web.StreamResponse:
    """Answer PutObject: all or nothing, and the last one wins."""
    if 'Content-Length' not in call.headers and 'Transfer-Encoding' not in call.headers:
        raise S3Error('MissingContentLength')
    bucket = await store.bucket(call.bucket)
    description = described(call)
    received = await store.spool.receive(call.body(), call.headers, store.run)
    description.etag = received.etag
    if received.checksum:
        description.checksum = {**received.checksum, 'type': 'FULL_OBJECT'}
    try:
        async with store.turn(bucket, call.key):
            await check_writing(store, call, bucket)
            files = [(received.file, received.size)]
            await store.put(bucket, call.key, files, description)
    finally:
        store.spool.drop([received.file])
    headers = {'ETag': f'"{description.etag}"', **checksum_headers(description.checksum)}
    return web.Response(headers=headers)


async def check_writing(store: Store, call: Call, bucket: BucketEntry) -> None:
    """Check the conditions of a write; within the turn of its key."""
    if 'If-Match' in call.headers or 'If-None-Match' in call.headers:
        found = await store.find(bucket, call.key, waits=False)
        conditions.check_conditions(call.headers, found, reading=False)


async def copy_source(store: Store, call: Call) -> Object:
    """Return the object that ``x-amz-copy-source`` names, after its conditions."""
    text, _, version = call.headers['x-amz-copy-source'].partition('?versionId=')
    bucket_name, _, key = unquote(text).removeprefix('/').partition('/')
    if not bucket_name or not key:
        raise S3Error('InvalidArgument', 'Copy Source must mention the source bucket and key')
    if version not in ('', 'null'):
        raise S3Error('InvalidArgument', 'Invalid version id specified')
    found = await store.object(await store.bucket(bucket_name), key)
    prefix = 'x-amz-copy-source-'
    conditions.check_conditions(call.headers, found, prefix=prefix, reading=False)
    return found


async def copy(store: Store, call: Call) -> web.StreamResponse:
    """Answer CopyObject: the content comes through this machine, unless only headers change."""
    bucket = await store.bucket(call.bucket)
    source = await copy_source(store, call)
    directive = call.headers.get('x-amz-metadata-directive', 'COPY').upper()
    if directive not in ('COPY', 'REPLACE'):
        raise S3Error('InvalidArgument', 'Unknown metadata directive.')
    same = (source.entry.bucket.id, source.entry.name) == (bucket.id, call.key)
    if same and directive == 'COPY':
        raise S3Error(
            'InvalidRequest',
            'This copy request is illegal because it is trying to copy an object to itself '
            "without changing the object's metadata.",
        )
    old = source.description
    new = described(call) if directive == 'REPLACE' else Description('', old.headers, old.metadata)
    if call.headers.get('x-amz-tagging-directive', 'COPY').upper() == 'COPY':
        new.tags = old.tags
    # The content is the same; an ETag of parts is not kept, as S3 does not keep it either.
    new.etag, new.checksum = old.etag, old.checksum
    async with store.turn(bucket, call.key):
        if same:
            await store.describe(bucket, source, new)
            stored = Object(source.entry, new)
        else:
            pieces = store.client.transfers.stream(source.entry.bucket.id, source.entry.id)
            stored = await store.store(bucket, call.key, pieces, new)
    return call.answer(
        'CopyObjectResult', {'LastModified': stamp(stored.modified), 'ETag': f'"{new.etag}"'}
    )


async def delete(store: Store, call: Call) -> web.StreamResponse:
    """Answer DeleteObject."""
    bucket = await store.bucket(call.bucket)
    await conditions.remove_object(store, bucket, call.key, call.headers)
    return web.Response(status=204)


async def attributes(store: Store, call: Call) -> web.StreamResponse:
    """Answer GetObjectAttributes."""
    found = await store.object(await store.bucket(call.bucket), call.key)
    wanted = {
        name.strip() for name in call.headers.get('x-amz-object-attributes', '').split(',') if name
    }
    if not wanted:
        raise S3Error('InvalidArgument', 'The header x-amz-object-attributes is missing.')
    description = found.description
    checksum = description.checksum
    content: dict[str, Any] = {}
    if 'ETag' in wanted:
        content['ETag'] = description.etag
    if 'Checksum' in wanted and checksum:
        content['Checksum'] = {
            f'Checksum{checksum["algorithm"]}': checksum['value'],
            'ChecksumType': checksum.get('type'),
        }
    if 'ObjectParts' in wanted and description.parts:
        content['ObjectParts'] = _parts_of(call, description.parts)
    if 'StorageClass' in wanted:
        content['StorageClass'] = 'STANDARD'
    if 'ObjectSize' in wanted:
        content['ObjectSize'] = found.size
    modified = {'Last-Modified': headers_of(found)['Last-Modified']}
    return call.answer('GetObjectAttributesResponse', content, **modified)


def _parts_of(call: Call, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the parts of an object that a request asks for."""
    asked = {
        name: call.headers.get(name, default)
        for name, default in (('x-amz-max-parts', '1000'), ('x-amz-part-number-marker', '0'))
    }
    if not all(map(is_number, asked.values())):
        raise S3Error('InvalidArgument', 'The numbers of parts are malformed.')
    most, marker = map(int, asked.values())
    behind = list(enumerate(parts, 1))[marker:]
    shown = behind[:most]
    return {
        'PartsCount': len(parts),
        'PartNumberMarker': marker,
        'NextPartNumberMarker': shown[-1][0] if shown else 0,
        'MaxParts': most,
        'IsTruncated': len(behind) > len(shown),
        'Part': [
            {
                'PartNumber': number,
                'Size': part['size'],
                **({f'Checksum{part["algorithm"]}': part['value']} if 'value' in part else {}),
            }
            for number, part in shown
        ],
    }


async def acl(store: Store, call: Call) -> web.StreamResponse:
    """Answer GetObjectAcl and GetBucketAcl: all is the owner's alone."""
    bucket = await store.bucket(call.bucket)
    if call.key:
        await store.object(bucket, call.key)
    return call.answer(
        'AccessControlPolicy',
        {
            'Owner': OWNER,
            'AccessControlList': {'Grant': [{'Grantee': OWNER, 'Permission': 'FULL_CONTROL'}]},
        },
    )


# -- tags ------------------------------------------------------------------------------------------


async def get_tags(store: Store, call: Call) -> web.StreamResponse:
    """Answer GetObjectTagging."""
    found = await store.object(await store.bucket(call.bucket), call.key)
    tags = [{'Key': name, 'Value': value} for name, value in found.description.tags.items()]
    return call.answer('Tagging', {'TagSet': {'Tag': tags}})


async def put_tags(store: Store, call: Call) -> web.StreamResponse:
    """Answer PutObjectTagging."""
    document = await call.document('Tagging')
    pairs = [
        (element.findtext('Key') or '', element.findtext('Value') or '')
        for element in document.iterfind('TagSet/Tag')
    ]
    return await _tag(store, call, conditions.checked_tags(pairs), 200)


async def delete_tags(store: Store, call: Call) -> web.StreamResponse:
    """Answer DeleteObjectTagging."""
    return await _tag(store, call, {}, 204)


async def _tag(store: Store, call: Call, tags: dict[str, str], status: int) -> web.StreamResponse:
    bucket = await store.bucket(call.bucket)
    async with store.turn(bucket, call.key):
        found = await store.find(bucket, call.key, waits=False)
        if found is None:
            raise S3Error('NoSuchKey', Key=call.key)
        description = found.description
        description.tags = tags
        await store.describe(bucket, found, description)
    return web.Response(status=status)
