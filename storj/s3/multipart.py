"""Calls of S3 for objects that are uploaded in parts.

Parts wait encrypted in the spool until the upload is completed; then they are read one behind the
other and stored as one file, so that every other client reads what S3's clients wrote. An upload
that nobody completes or aborts expires.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from aiohttp import web

from storj.catalog import BucketEntry
from storj.s3 import checksums, conditions, xml
from storj.s3.buckets import OWNER
from storj.s3.call import Call, is_number, stamp
from storj.s3.errors import S3Error
from storj.s3.index import Description, Part, Upload
from storj.s3.objects import check_writing, checksum_headers, copy_source, described
from storj.s3.store import Object, Store

_XML: Final = 'application/xml'

MAX_PARTS: Final = 10_000
MIN_PART: Final = 5 * 1024 * 1024
_MOST: Final = 1000

#: Seconds between two blanks that keep a connection alive while an object is stored.
_BLANK_SECONDS: Final = 5.0


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


async def _upload(store: Store, call: Call) -> Upload:
    bucket = await store.bucket(call.bucket)
    upload = await store.run(store.index.upload, call.query.get('uploadId', ''))
    if upload is None or (upload.bucket_id, upload.key) != (bucket.id, call.key):
        raise S3Error('NoSuchUpload')
    return upload


async def create(store: Store, call: Call) -> web.StreamResponse:
    """Answer CreateMultipartUpload."""
    bucket = await store.bucket(call.bucket)
    description = described(call)
    algorithm = call.headers.get('x-amz-checksum-algorithm', '').upper()
    if algorithm:
        checksums.new(algorithm)
        kind = call.headers.get('x-amz-checksum-type', '').upper()
        # A CRC of the whole can be computed; a hash is one over the parts' hashes.
        default = 'FULL_OBJECT' if algorithm == 'CRC64NVME' else 'COMPOSITE'
        if kind == 'FULL_OBJECT' and algorithm.startswith('SHA'):
            raise S3Error('InvalidRequest', f'{algorithm} has no checksum type FULL_OBJECT.')
        description.checksum = {'algorithm': algorithm, 'type': kind or default}
    upload_id = await store.run(store.index.begin_upload, bucket.id, call.key, description, _now())
    headers = {}
    if algorithm:
        headers['x-amz-checksum-algorithm'] = algorithm
        headers['x-amz-checksum-type'] = description.checksum['type']
    return call.answer(
        'InitiateMultipartUploadResult',
        {'Bucket': call.bucket, 'Key': call.key, 'UploadId': upload_id},
        **headers,
    )


async def put_part(store: Store, call: Call) -> web.StreamResponse:
    """Answer UploadPart and UploadPartCopy."""
    number = _part_number(call)
    upload = await _upload(store, call)
    algorithm = upload.description.checksum.get('algorithm')
    copied = 'x-amz-copy-source' in call.headers
    body: Any = await _copied(store, call) if copied else call.body()
    headers = {} if copied else call.headers
    received = await store.spool.receive(body, headers, store.run, algorithm)
    part = Part(number, received.etag, received.size, _now(), received.file, received.checksum)
    try:
        # It may have been aborted while the part came in.
        if await store.run(store.index.upload, upload.id) is None:
            raise S3Error('NoSuchUpload')
        former = await store.run(store.index.note_part, upload.id, part)
    except BaseException:
        store.spool.drop([received.file])
        raise
    if former is not None:
        store.spool.drop([former])
    if copied:
        return call.answer(
            'CopyPartResult', {'LastModified': stamp(part.stored), 'ETag': f'"{part.etag}"'}
        )
    return web.Response(headers={'ETag': f'"{part.etag}"', **checksum_headers(part.checksum)})


def _part_number(call: Call) -> int:
    text = call.query.get('partNumber', '')
    if not is_number(text) or not 1 <= int(text) <= MAX_PARTS:
        raise S3Error('InvalidArgument', f'Part number must be from 1 to {MAX_PARTS}')
    return int(text)


class _CopiedBody:
    """A part that comes from an object here, in the form of a body."""

    def __init__(self, store: Store, source: Object, start: int, end: int) -> None:
        self._store, self._source = store, source
        self._start, self._end = start, end
        self.size = end - start
        self.trailers: dict[str, str] = {}

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._store.content(self._source, self._start, self._end)


async def _copied(store: Store, call: Call) -> _CopiedBody:
    source = await copy_source(store, call)
    asked = call.headers.get('x-amz-copy-source-range')
    limits = conditions.range_of(asked, source.size)
    last = (asked or '').rpartition('-')[2]
    if asked is not None and (limits is None or not is_number(last)):
        raise S3Error('InvalidArgument', 'The range of the source is malformed.')
    if asked is not None and int(last) >= source.size:
        raise S3Error('InvalidRange', ActualObjectSize=str(source.size))
    return _CopiedBody(store, source, *(limits or (0, source.size)))


async def list_parts(store: Store, call: Call) -> web.StreamResponse:
    """Answer ListParts."""
    upload = await _upload(store, call)
    most = call.number('max-parts', _MOST, _MOST)
    marker = call.number('part-number-marker', 0, MAX_PARTS)
    parts = [part for part in await store.run(store.index.parts, upload.id) if part.number > marker]
    shown = parts[:most]
    checksum = upload.description.checksum
    return call.answer(
        'ListPartsResult',
        {
            'Bucket': call.bucket,
            'Key': call.key,
            'UploadId': upload.id,
            'PartNumberMarker': marker,
            'NextPartNumberMarker': shown[-1].number if shown else 0,
            'MaxParts': most,
            'IsTruncated': len(parts) > len(shown),
            'Initiator': OWNER,
            'Owner': OWNER,
            'StorageClass': 'STANDARD',
            'ChecksumAlgorithm': checksum.get('algorithm'),
            'ChecksumType': checksum.get('type'),
            'Part': [
                {
                    'PartNumber': part.number,
                    'LastModified': stamp(part.stored),
                    'ETag': f'"{part.etag}"',
                    'Size': part.size,
                    **_checksum_element(part.checksum),
                }
                for part in shown
            ],
        },
    )


def _checksum_element(checksum: dict[str, str]) -> dict[str, str]:
    return {f'Checksum{checksum["algorithm"]}': checksum['value']} if checksum else {}


async def list_uploads(store: Store, call: Call) -> web.StreamResponse:
    """Answer ListMultipartUploads."""
    bucket = await store.bucket(call.bucket)
    prefix, delimiter = call.query.get('prefix', ''), call.query.get('delimiter', '')
    after = call.query.get('key-marker', ''), call.query.get('upload-id-marker', '')
    most = call.number('max-uploads', _MOST, _MOST)
    found = await store.run(store.index.uploads, bucket.id)
    uploads, prefixes = _behind(found, prefix, delimiter, after)
    shown = uploads[:most]
    return call.answer(
        'ListMultipartUploadsResult',
        {
            'Bucket': call.bucket,
            'KeyMarker': call.encoded(after[0]),
            'UploadIdMarker': after[1],
            'NextKeyMarker': call.encoded(shown[-1].key) if shown else None,
            'NextUploadIdMarker': shown[-1].id if shown else None,
            'Prefix': call.encoded(prefix),
            'Delimiter': call.encoded(delimiter) if delimiter else None,
            'MaxUploads': most,
            'IsTruncated': len(uploads) > len(shown),
            'Upload': [
                {
                    'Key': call.encoded(upload.key),
                    'UploadId': upload.id,
                    'Initiator': OWNER,
                    'Owner': OWNER,
                    'StorageClass': 'STANDARD',
                    'Initiated': stamp(upload.begun),
                }
                for upload in shown
            ],
            'CommonPrefixes': [{'Prefix': call.encoded(text)} for text in prefixes],
        },
    )


def _behind(
    found: Sequence[Upload], prefix: str, delimiter: str, after: tuple[str, str]
) -> tuple[list[Upload], list[str]]:
    """Return the uploads behind a key and an id, and the prefixes of those that are folded."""
    uploads: list[Upload] = []
    prefixes: list[str] = []
    for upload in found:
        behind = upload.key > after[0] or (upload.key == after[0] and upload.id > after[1] != '')
        if not upload.key.startswith(prefix) or not behind:
            continue
        cut = upload.key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            uploads.append(upload)
        elif (text := upload.key[: cut + len(delimiter)]) not in prefixes:
            prefixes.append(text)
    return uploads, prefixes


async def abort(store: Store, call: Call) -> web.StreamResponse:
    """Answer AbortMultipartUpload."""
    upload = await _upload(store, call)
    store.spool.drop(await store.run(store.index.end_upload, upload.id))
    return web.Response(status=204)


async def complete(store: Store, call: Call) -> web.StreamResponse:
    """Answer CompleteMultipartUpload.

    It can take as long as all parts do, so blanks come before the document once it takes long; then
    an error is told in the document, with status 200, as S3 does.
    """
    bucket = await store.bucket(call.bucket)
    document = await call.document('CompleteMultipartUpload')
    try:
        upload = await _upload(store, call)
    except S3Error:
        # A client that did not hear the answer asks again.
        async with store.turn(bucket, call.key):
            answer = await _completed_before(store, call, bucket)
        return web.Response(body=answer, content_type=_XML)
    parts = await _chosen(store, upload, document)
    description = upload.description
    description.upload = upload.id
    description.etag = _etag_of([part.etag for part in parts])
    description.parts = [{'size': part.size, **part.checksum} for part in parts]
    if description.checksum:
        description.checksum = await store.run(_whole_checksum, store, description.checksum, parts)
        _compare(call, description.checksum)

    async def work() -> bytes:
        async with store.turn(bucket, call.key):
            # Another request may have completed or aborted it before this turn.
            if await store.run(store.index.upload, upload.id) is None:
                return await _completed_before(store, call, bucket)
            await check_writing(store, call, bucket)
            files = [(part.file, part.size) for part in parts]
            await store.put(bucket, call.key, files, description)
            store.spool.drop(await store.run(store.index.end_upload, upload.id))
        return _completed(call, description)

    return await _kept_alive(call, asyncio.ensure_future(work()))


async def _completed_before(store: Store, call: Call, bucket: BucketEntry) -> bytes:
    """Return the answer for an upload that is completed already; within the turn of its key.

    Raises:
        S3Error: If it was aborted, or the object was replaced.
    """
    found = await store.find(bucket, call.key, waits=False)
    if found is None or found.description.upload != call.query.get('uploadId'):
        raise S3Error('NoSuchUpload')
    return _completed(call, found.description)


def _completed(call: Call, description: Description) -> bytes:
    return xml.build(
        'CompleteMultipartUploadResult',
        {
            'Location': f'{call.request.scheme}://{call.request.host}{call.request.path}',
            'Bucket': call.bucket,
            'Key': call.key,
            'ETag': f'"{description.etag}"',
            **_checksum_element(description.checksum),
            'ChecksumType': description.checksum.get('type'),
        },
    )


async def _kept_alive(call: Call, working: asyncio.Future[bytes]) -> web.StreamResponse:
    try:
        done, _ = await asyncio.wait((working,), timeout=_BLANK_SECONDS)
        if done:
            return web.Response(body=working.result(), content_type=_XML)
        response = web.StreamResponse(headers={'Content-Type': _XML})
        await response.prepare(call.request)
        # The declaration must come first; blanks may follow it.
        declaration = b'<?xml version="1.0" encoding="UTF-8"?>\n'
        await response.write(declaration)
        while not working.done():
            await response.write(b' ')
            await asyncio.wait((working,), timeout=_BLANK_SECONDS)
        try:
            answer = working.result()
        except S3Error as error:
            answer = bytes(call.failed(error).body or b'')  # type: ignore[arg-type]
        await response.write(answer.removeprefix(declaration))
        await response.write_eof()
    except asyncio.CancelledError:
        working.cancel()
        raise
    return response


async def _chosen(store: Store, upload: Upload, document: Any) -> list[Part]:
    """Return the parts that a request names.

    Raises:
        S3Error: If one is missing, or too small, or they are not in order.
    """
    elements = document.findall('Part')
    if not 0 < len(elements) <= MAX_PARTS:
        raise S3Error('MalformedXML')
    known = {part.number: part for part in await store.run(store.index.parts, upload.id)}
    chosen: list[Part] = []
    for element in elements:
        number, etag = element.findtext('PartNumber') or '', element.findtext('ETag') or ''
        if not is_number(number):
            raise S3Error('MalformedXML')
        part = known.get(int(number))
        if part is None or part.etag != etag.strip().strip('"'):
            raise S3Error('InvalidPart')
        stated = element.findtext(f'Checksum{part.checksum.get("algorithm", "")}')
        if stated is not None and stated != part.checksum.get('value'):
            raise S3Error('InvalidPart')
        if chosen and chosen[-1].number >= part.number:
            raise S3Error('InvalidPartOrder')
        chosen.append(part)
    # S3 has the bound so that an object has not too many parts; clients rely on the error.
    if any(part.size < MIN_PART for part in chosen[:-1]):
        raise S3Error('EntityTooSmall')
    return chosen


def _etag_of(etags: list[str]) -> str:
    """Return the ETag of an object in parts: the MD5 over the parts' MD5s, and their number."""
    whole = hashlib.md5(b''.join(map(bytes.fromhex, etags)), usedforsecurity=False)
    return f'{whole.hexdigest()}-{len(etags)}'


def _whole_checksum(store: Store, asked: dict[str, str], parts: list[Part]) -> dict[str, str]:
    """Return the checksum of an object in parts."""
    algorithm = asked['algorithm']
    if asked['type'] == 'COMPOSITE':
        values = [base64.b64decode(part.checksum['value']) for part in parts]
        return {**asked, 'value': checksums.composite(algorithm, values)}
    whole = checksums.new(algorithm)
    with store.spool.open([(part.file, part.size) for part in parts]) as source:
        while piece := source.read(1024 * 1024):
            whole.update(piece)
    return {**asked, 'value': base64.b64encode(whole.digest()).decode()}


def _compare(call: Call, checksum: dict[str, str]) -> None:
    """Compare with the checksum that a request states of the whole object."""
    stated = call.headers.get(f'x-amz-checksum-{checksum["algorithm"].lower()}')
    if stated is not None and stated.partition('-')[0] != checksum['value'].partition('-')[0]:
        raise S3Error('BadDigest', 'The checksum of the whole object did not match.')
