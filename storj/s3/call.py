"""One request of S3: where it goes, who signed it, and its answers."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote

from aiohttp import web

from storj.s3 import checksums, signature, xml
from storj.s3.body import Body
from storj.s3.errors import S3Error
from storj.s3.store import MAX_KEY

#: The one region; clients may name any.
REGION: Final = 'us-east-1'

_OF_SIGNATURE: Final = frozenset(
    f'x-amz-{name}'
    for name in (
        *('algorithm', 'credential', 'date', 'expires', 'signedheaders', 'signature'),
        *('security-token', 'content-sha256', 'trailer', 'decoded-content-length'),
    )
)


def stamp(moment: datetime.datetime) -> str:
    """Return a time as S3's XML has it."""
    return moment.strftime('%Y-%m-%dT%H:%M:%S.') + f'{moment.microsecond // 1000:03}Z'


def is_number(text: str) -> bool:
    """Return whether a text is a number without a sign, and small enough to be meant."""
    return re.fullmatch('[0-9]{1,18}', text) is not None


def _stays(name: str) -> bool:
    """Return whether a parameter of a presigned address is not taken for a header.

    What belongs to the signature is not; and some SDKs presign the checksum of an empty body,
    because they do not have the body yet.
    """
    return name in _OF_SIGNATURE or name.startswith(('x-amz-checksum-', 'x-amz-sdk-'))


@dataclass
class Call:
    """A request whose address was read and whose signature was checked.

    Attributes:
        request (web.Request): of aiohttp.
        bucket (str): name; empty if none.
        key (str): of an object; empty if none.
        query (dict[str, str]): parameters, decoded; the last of each name.
        id (str): of this request, for logs and errors.
        access_key (str): who signed it.
    """

    request: web.Request
    bucket: str
    key: str
    query: dict[str, str]
    id: str
    access_key: str = ''
    _payload: str = signature.UNSIGNED
    _chain: signature.SigningChain | None = field(default=None, repr=False)

    @property
    def method(self) -> str:
        """Of HTTP."""
        return self.request.method

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """Of the request, looked up without regard to case.

        What a presigned address has as parameters ``x-amz-`` is among them, because SDKs move
        headers there.
        """
        headers = self.request.headers.copy()
        if 'X-Amz-Algorithm' in self.query:
            for name, value in self.query.items():
                if name.lower().startswith('x-amz-') and not _stays(name.lower()):
                    headers.setdefault(name, value)
        return headers

    @classmethod
    def read(cls, request: web.Request, request_id: str, domains: Sequence[str]) -> Call:
        """Read the address of a request, of either style.

        Args:
            request (web.Request): of aiohttp.
            request_id (str): for logs and errors.
            domains (Sequence[str]): below which a host names a bucket.

        Raises:
            S3Error: If it cannot be parsed.
        """
        raw_path, _, raw_query = request.raw_path.partition('?')
        try:
            path = unquote(raw_path, errors='strict').removeprefix('/')
            pairs = parse_qsl(
                raw_query, keep_blank_values=True, errors='strict', max_num_fields=100
            )
        except ValueError:
            raise S3Error('InvalidURI') from None
        host = re.sub(r':\d+$', '', request.headers.get('Host', '')).lower()
        domain = next((each for each in domains if host.endswith(f'.{each}')), None)
        if domain is None:
            bucket, _, key = path.partition('/')
        else:
            bucket, key = host.removesuffix(f'.{domain}'), path
        if len(key.encode('utf-8', 'surrogatepass')) > MAX_KEY:
            raise S3Error('KeyTooLongError')
        if '\0' in key:
            raise S3Error('InvalidURI')
        return cls(request, bucket, key, dict(pairs), request_id)

    def authenticate(self, secret_of: Callable[[str], str | None], now: datetime.datetime) -> None:
        """Check who signed it.

        Args:
            secret_of (Callable): returns the secret key of an access key, None if there is none.
            now (datetime.datetime): in UTC.

        Raises:
            S3Error: If nobody did, or the signature is wrong.
        """
        signed = signature.parse(self.headers, self.query)
        if signed is None:
            raise S3Error('AccessDenied')
        secret = secret_of(signed.credential.access_key)
        if secret is None:
            raise S3Error('InvalidAccessKeyId', AWSAccessKeyId=signed.credential.access_key[:128])
        raw_path, _, raw_query = self.request.raw_path.partition('?')
        headers: dict[str, list[str]] = {}
        for name, value in self.request.headers.items():
            headers.setdefault(name.lower(), []).append(value)
        self._chain = signature.verify(
            signed,
            secret,
            now,
            self.method,
            # Clients encode more or less than they sign; what is signed is encoded like this.
            quote(unquote(raw_path), safe='/-_.~'),
            parse_qsl(raw_query, keep_blank_values=True),
            headers,
        )
        self.access_key, self._payload = signed.credential.access_key, signed.payload

    def body(self) -> Body:
        """Return the body, decoded and checked while it is read."""
        return Body(self.request.content, self.headers, self._payload, self._chain)

    async def document(self, root: str) -> Any:
        """Return the root of the XML in the body.

        Raises:
            S3Error: If there is none, or it is malformed.
        """
        body = self.body()
        if body.size > xml.MAX_XML:
            raise S3Error('MalformedXML', 'The document is too large.')
        data = b''.join([piece async for piece in body])
        stated = checksums.stated_md5(self.headers)
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if stated is not None and not hmac.compare_digest(stated, digest):
            raise S3Error('BadDigest')
        # A large one takes a good part of a second: others are answered meanwhile.
        return await asyncio.to_thread(xml.parse, data, root)

    # -- parameters --------------------------------------------------------------------------------

    def number(self, name: str, default: int, most: int, least: int = 0) -> int:
        """Return a parameter that is a number.

        Raises:
            S3Error: If it is none, or too small; one that is too large counts as the largest.
        """
        text = self.query.get(name)
        if text is None or text == '':
            return default
        if not is_number(text) or int(text) < least:
            raise S3Error('InvalidArgument', f'{name} is a number of at least {least}.')
        return min(int(text), most)

    @property
    def encodes(self) -> bool:
        """Whether names in the answer are to be percent-encoded.

        Raises:
            S3Error: If they are to be encoded otherwise.
        """
        text = self.query.get('encoding-type')
        if text not in (None, '', 'url'):
            raise S3Error('InvalidArgument', 'Invalid Encoding Method specified in Request')
        return text == 'url'

    def encoded(self, name: str) -> str:
        """Return a name as the answer is to have it."""
        return quote(name, safe="/-_.~*!'()") if self.encodes else name

    # -- answers -----------------------------------------------------------------------------------

    def answer(self, root: str, content: Mapping[str, Any], **headers: str) -> web.Response:
        """Return a document."""
        return web.Response(
            body=xml.build(root, content), content_type='application/xml', headers=headers
        )

    def failed(self, error: S3Error) -> web.Response:
        """Return what an error is told by."""
        content = {
            'Code': error.code,
            'Message': error.message,
            **error.fields,
            'Resource': self.request.path[:2048],
            'RequestId': self.id,
            'HostId': 'storj',
        }
        if self.method == 'HEAD' or error.status == 304:
            return web.Response(status=error.status)
        headers = {'Retry-After': '1'} if error.status == 503 else {}
        return web.Response(
            status=error.status,
            body=xml.build('Error', content, namespace=False),
            content_type='application/xml',
            headers=headers,
        )
