"""Calls of S3 for buckets: making, removing, listing."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any, Final

from aiohttp import web

from storj.s3.call import REGION, Call, stamp
from storj.s3.conditions import remove_object
from storj.s3.errors import S3Error
from storj.s3.store import Object, Store

OWNER: Final = {'ID': 'storj', 'DisplayName': 'storj'}

_MOST: Final = 1000
#: Objects that are removed at once.
_AT_ONCE: Final = 16
_MOST_BUCKETS: Final = 10_000
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_NAME: Final = re.compile(r'[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]')
_ODD: Final = re.compile(r'\.\.|\.-|-\.')
_ADDRESS: Final = re.compile(r'\d+\.\d+\.\d+\.\d+')


async def list_buckets(store: Store, call: Call) -> web.StreamResponse:
    """Answer ListBuckets."""
    prefix, token = call.query.get('prefix', ''), call.query.get('continuation-token')
    most = call.number('max-buckets', _MOST_BUCKETS, _MOST_BUCKETS, 1)
    after = '' if token is None else _untoken(token)
    found = [
        entry
        for entry in await store.buckets()
        if entry.name.startswith(prefix) and entry.name > after
    ]
    buckets = found[:most]
    return call.answer(
        'ListAllMyBucketsResult',
        {
            'Prefix': prefix or None,
            'ContinuationToken': _token(buckets[-1].name) if len(found) > most else None,
            'Owner': OWNER,
            'Buckets': {
                'Bucket': [
                    {
                        'Name': entry.name,
                        'CreationDate': None if entry.created is None else stamp(entry.created),
                    }
                    for entry in buckets
                ]
            },
        },
    )


async def create(store: Store, call: Call) -> web.StreamResponse:
    """Answer CreateBucket; one that exists is the caller's own."""
    name = call.bucket
    if not _NAME.fullmatch(name) or _ODD.search(name) or _ADDRESS.fullmatch(name):
        raise S3Error('InvalidBucketName', BucketName=name)
    if call.request.can_read_body:
        await call.document('CreateBucketConfiguration')
    await store.create_bucket(name)
    return web.Response(headers={'Location': f'/{name}'})


async def delete(store: Store, call: Call) -> web.StreamResponse:
    """Answer DeleteBucket."""
    await store.delete_bucket(call.bucket)
    return web.Response(status=204)


async def head(store: Store, call: Call) -> web.StreamResponse:
    """Answer HeadBucket."""
    await store.bucket(call.bucket)
    return web.Response(headers={'x-amz-bucket-region': REGION})


async def location(store: Store, call: Call) -> web.StreamResponse:
    """Answer GetBucketLocation."""
    await store.bucket(call.bucket)
    # The region of this name is told by an empty element.
    return call.answer('LocationConstraint', {})


async def versioning(store: Store, call: Call) -> web.StreamResponse:
    """Answer GetBucketVersioning: there is none."""
    await store.bucket(call.bucket)
    return call.answer('VersioningConfiguration', {})


async def list_objects(store: Store, call: Call) -> web.StreamResponse:
    """Answer ListObjects and ListObjectsV2."""
    second = call.query.get('list-type') == '2'
    bucket = await store.bucket(call.bucket)
    prefix, delimiter = call.query.get('prefix', ''), call.query.get('delimiter', '')
    most = call.number('max-keys', _MOST, _MOST)
    token = call.query.get('continuation-token')
    marker = call.query.get('start-after' if second else 'marker', '')
    after = _untoken(token) if second and token is not None else marker
    page, objects = await store.page(bucket, prefix, delimiter, after, most)
    with_owner = not second or call.query.get('fetch-owner') == 'true'
    # A page of no keys is the last one.
    more = page.more if most else None
    content: dict[str, Any] = {
        'Name': call.bucket,
        # Clients decode it in the second form of the answer only.
        'Prefix': call.encoded(prefix) if second else prefix,
        'MaxKeys': most,
        'Delimiter': call.encoded(delimiter) if delimiter else None,
        'IsTruncated': more is not None,
        'EncodingType': 'url' if call.encodes else None,
    }
    if second:
        content |= {
            'KeyCount': len(objects) + len(page.prefixes),
            'ContinuationToken': token,
            'NextContinuationToken': None if more is None else _token(more),
            'StartAfter': call.encoded(marker) if marker else None,
        }
    else:
        content |= {
            'Marker': call.encoded(marker),
            'NextMarker': call.encoded(more) if more is not None and delimiter else None,
        }
    content |= {
        'Contents': [_listed(call, found, with_owner=with_owner) for found in objects],
        'CommonPrefixes': [{'Prefix': call.encoded(text)} for text in page.prefixes],
    }
    return call.answer('ListBucketResult', content)


async def list_versions(store: Store, call: Call) -> web.StreamResponse:
    """Answer ListObjectVersions: each object has one version, whose id is null."""
    bucket = await store.bucket(call.bucket)
    prefix, delimiter = call.query.get('prefix', ''), call.query.get('delimiter', '')
    most = call.number('max-keys', _MOST, _MOST)
    marker = call.query.get('key-marker', '')
    page, objects = await store.page(bucket, prefix, delimiter, marker, most)
    return call.answer(
        'ListVersionsResult',
        {
            'Name': call.bucket,
            'Prefix': call.encoded(prefix),
            'KeyMarker': call.encoded(marker),
            'VersionIdMarker': call.query.get('version-id-marker', ''),
            'MaxKeys': most,
            'Delimiter': call.encoded(delimiter) if delimiter else None,
            'IsTruncated': page.more is not None,
            'NextKeyMarker': None if page.more is None else call.encoded(page.more),
            # Clients hand it back, and some cannot do without it.
            'NextVersionIdMarker': None if page.more is None else 'null',
            'EncodingType': 'url' if call.encodes else None,
            'Version': [
                {**_listed(call, found, with_owner=True), 'VersionId': 'null', 'IsLatest': True}
                for found in objects
            ],
            'CommonPrefixes': [{'Prefix': call.encoded(text)} for text in page.prefixes],
        },
    )


def _listed(call: Call, found: Object, *, with_owner: bool) -> dict[str, Any]:
    checksum = found.description.checksum
    return {
        'Key': call.encoded(found.entry.name),
        'LastModified': stamp(found.modified),
        'ETag': f'"{found.description.etag}"',
        'ChecksumAlgorithm': checksum.get('algorithm'),
        'ChecksumType': checksum.get('type'),
        'Size': found.size,
        'StorageClass': 'STANDARD',
        'Owner': OWNER if with_owner else None,
    }


def _token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode('utf-8', 'surrogatepass')).decode()


def _untoken(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode('utf-8', 'surrogatepass')
    except ValueError:
        raise S3Error('InvalidArgument', 'The continuation token provided is incorrect') from None


async def delete_objects(store: Store, call: Call) -> web.StreamResponse:
    """Answer DeleteObjects: each key by itself, and what became of it."""
    bucket = await store.bucket(call.bucket)
    document = await call.document('Delete')
    elements = document.findall('Object')
    if not 0 < len(elements) <= _MOST or not all(each.findtext('Key') for each in elements):
        raise S3Error('MalformedXML')
    quiet = document.findtext('Quiet') == 'true'
    limit = asyncio.Semaphore(_AT_ONCE)

    async def remove(element: Any) -> dict[str, str]:
        key = element.findtext('Key')
        stated = {
            name: element.findtext(child)
            for child, name in (
                ('ETag', 'If-Match'),
                ('LastModifiedTime', 'x-amz-if-match-last-modified-time'),
                ('Size', 'x-amz-if-match-size'),
            )
            if element.find(child) is not None
        }
        async with limit:
            try:
                await remove_object(store, bucket, key, stated)
            except S3Error as error:
                return {'Key': key, 'Code': error.code, 'Message': error.message}
        return {'Key': key}

    results = await asyncio.gather(*map(remove, elements))
    failed = [found for found in results if 'Code' in found]
    done = [found for found in results if 'Code' not in found]
    return call.answer('DeleteResult', {'Deleted': [] if quiet else done, 'Error': failed})
