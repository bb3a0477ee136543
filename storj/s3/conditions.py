"""What a request says of the object that it is about: conditions, a range, headers to keep."""

from __future__ import annotations

import base64
import datetime
import re
from collections.abc import Mapping, Sequence
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote

from storj.catalog import BucketEntry
from storj.s3.errors import S3Error
from storj.s3.store import Object, Store

#: Headers that are kept with an object.
KEPT: Final = (
    'Content-Type',
    'Cache-Control',
    'Content-Disposition',
    'Content-Encoding',
    'Content-Language',
    'Expires',
)

#: Headers (or how they begin) by which a client wants what the gateway cannot keep: the values
#: that are no such wish, in lower case, and the error for others.
_UNKEPT: Final[Mapping[str, tuple[frozenset[str], str]]] = {
    # All is its owner's alone.
    'x-amz-acl': (
        frozenset({'private', 'bucket-owner-read', 'bucket-owner-full-control'}),
        'AccessControlListNotSupported',
    ),
    'x-amz-grant-': (frozenset(), 'AccessControlListNotSupported'),
    'x-amz-object-ownership': (frozenset({'bucketownerenforced'}), 'NotImplemented'),
    'x-amz-storage-class': (frozenset({'standard'}), 'InvalidStorageClass'),
    # Contents are encrypted with AES-256 always, and with keys of the account only.
    'x-amz-server-side-encryption': (frozenset({'aes256'}), 'NotImplemented'),
    'x-amz-copy-source-server-side-encryption-': (frozenset(), 'NotImplemented'),
    'x-amz-bucket-object-lock-enabled': (frozenset({'false'}), 'NotImplemented'),
    'x-amz-object-lock-': (frozenset(), 'NotImplemented'),
    'x-amz-website-redirect-location': (frozenset(), 'NotImplemented'),
    # Appends; without it the bytes would replace the object.
    'x-amz-write-offset-bytes': (frozenset(), 'NotImplemented'),
}
_MAX_METADATA: Final = 2048
_MAX_TAGS: Final = 10


def check_conditions(
    headers: Mapping[str, str], found: Object | None, *, prefix: str = '', reading: bool = True
) -> None:
    """Check the conditions of a request, in the order of RFC 9110.

    Args:
        headers (Mapping[str, str]): of the request, looked up without regard to case.
        found (Object | None): what there is.
        prefix (str): of the names, for the source of a copy.
        reading (bool): whether it is a GET or HEAD, which a condition can spare.

    Raises:
        S3Error: If one does not hold.
    """
    etag = None if found is None else found.description.etag
    matches = headers.get(f'{prefix}If-Match')
    if matches is not None:
        if found is None:
            raise S3Error('NoSuchKey')
        if not _names(matches, etag):
            raise S3Error('PreconditionFailed', Condition='If-Match')
    else:
        before = _date(headers.get(f'{prefix}If-Unmodified-Since'))
        if before is not None and found is not None and found.modified > before:
            raise S3Error('PreconditionFailed', Condition='If-Unmodified-Since')
    differs = headers.get(f'{prefix}If-None-Match')
    spared = 'NotModified' if reading else 'PreconditionFailed'
    if differs is not None:
        if found is not None and _names(differs, etag):
            raise S3Error(spared, Condition='If-None-Match')
    else:
        after = _date(headers.get(f'{prefix}If-Modified-Since'))
        if after is not None and found is not None and found.modified <= after:
            raise S3Error(spared, Condition='If-Modified-Since')


def refuse_unkept(headers: Mapping[str, str]) -> None:
    """Refuse what would be promised and not kept.

    Args:
        headers (Mapping[str, str]): of the request.

    Raises:
        S3Error: If one asks for what the gateway does not do.
    """
    for name, value in headers.items():
        known = next((start for start in _UNKEPT if name.lower().startswith(start)), None)
        if known is not None:
            harmless, code = _UNKEPT[known]
            # A longer name is another header, so that no value of it is harmless.
            if name.lower() != known or value.lower() not in harmless:
                raise S3Error(code, f'The gateway does not do what {name.lower()} asks for.')


def _check_removal(stated: Mapping[str, str], found: Object) -> None:
    """Raise if an object is not the one that a request to remove it states."""
    etag = stated.get('If-Match')
    check_conditions({} if etag is None else {'If-Match': etag}, found)
    moment = _date(stated.get('x-amz-if-match-last-modified-time'))
    size = stated.get('x-amz-if-match-size')
    if (moment is not None and moment.replace(microsecond=0) != found.modified) or (
        size is not None and size != str(found.size)
    ):
        raise S3Error('PreconditionFailed', Condition='If-Match')


async def remove_object(
    store: Store, bucket: BucketEntry, key: str, stated: Mapping[str, str]
) -> None:
    """Remove an object if it is the one that a request states; nothing happens if there is none.

    Args:
        store (Store): of the account.
        bucket (BucketEntry): where it is.
        key (str): of the object.
        stated (Mapping[str, str]): headers, of which ``If-Match`` and ``x-amz-if-match-`` count.

    Raises:
        S3Error: If it is another.
    """
    async with store.turn(bucket, key):
        names = ('If-Match', 'x-amz-if-match-last-modified-time', 'x-amz-if-match-size')
        if any(name in stated for name in names):
            found = await store.find(bucket, key, waits=False)
            if found is not None:
                _check_removal(stated, found)
        await store.delete(bucket, key)


def _names(condition: str, etag: str | None) -> bool:
    # Weak and strong validators are alike here: an ETag names one upload.
    wanted = {text.strip().removeprefix('W/').strip('"') for text in condition.split(',')}
    return '*' in wanted or etag in wanted


def _date(text: str | None) -> datetime.datetime | None:
    """Return a date of HTTP; one that is malformed is no condition."""
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        try:
            moment = datetime.datetime.fromisoformat(text.replace('Z', '+00:00'))
        except ValueError:
            return None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)


def range_of(header: str | None, size: int) -> tuple[int, int] | None:
    """Return start and end (excluded) of the range that is asked for, None for the whole.

    Raises:
        S3Error: If no byte is in it.
    """
    found = re.fullmatch(r'bytes=(\d{0,20})-(\d{0,20})', (header or '').strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
        if found[2] and int(found[2]) < start:
            return None
    if start >= end:
        raise S3Error('InvalidRange', ActualObjectSize=str(size))
    return start, end


def described_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that are kept with an object.

    Raises:
        S3Error: If one has a value that cannot be sent again.
    """
    kept = {name: checked_value(headers[name]) for name in KEPT if name in headers}
    # What only frames the body is no property of the object.
    coding = [
        word.strip()
        for word in kept.pop('Content-Encoding', '').split(',')
        if word.strip() not in ('', 'aws-chunked')
    ]
    if coding:
        kept['Content-Encoding'] = ', '.join(coding)
    return kept


def checked_value(text: str) -> str:
    """Return the value of a header that can be sent again.

    Raises:
        S3Error: If it has control characters, or is no UTF-8.
    """
    if not text.replace('\t', ' ').isprintable():
        raise S3Error('InvalidArgument', 'A header has characters that cannot be sent.')
    return text


def metadata_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata of a client: headers ``x-amz-meta-``, without that.

    Raises:
        S3Error: If there is too much, or a value cannot be sent again.
    """
    found = {
        name.lower().removeprefix('x-amz-meta-'): checked_value(_decoded(value))
        for name, value in headers.items()
        if name.lower().startswith('x-amz-meta-')
    }
    if sum(len(name) + len(value) for name, value in found.items()) > _MAX_METADATA:
        raise S3Error('MetadataTooLarge')
    return found


def metadata_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that tell metadata; what is not ASCII as S3 has it, by RFC 2047."""
    return {
        f'x-amz-meta-{name}': (
            value if value.isascii() else f'=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?='
        )
        for name, value in metadata.items()
    }


def _decoded(value: str) -> str:
    """Return the text of a header that is encoded by RFC 2047, others as they are."""
    if not re.search(r'=\?[^?]+\?[bqBQ]\?', value):
        return value
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, ValueError):
        return value


def tags_of(text: str | None) -> dict[str, str]:
    """Return the tags of ``x-amz-tagging``, which is written as a query.

    Raises:
        S3Error: If one is invalid.
    """
    found = []
    for pair in (text or '').split('&'):
        if pair:
            name, _, value = (unquote(part.replace('+', ' ')) for part in pair.partition('='))
            found.append((name, value))
    return checked_tags(sorted(found))


def checked_tags(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return tags that an object may have, by their names.

    Raises:
        S3Error: If one is invalid, or there are too many.
    """
    tags = dict(pairs)
    if len(tags) < len(pairs):
        raise S3Error('InvalidTag', 'Cannot provide multiple Tags with the same key')
    if len(tags) > _MAX_TAGS:
        raise S3Error('InvalidTag', 'Object tags cannot be greater than 10')
    if any(not 0 < len(name) <= 128 or len(value) > 256 for name, value in tags.items()):
        raise S3Error('InvalidTag')
    return tags
