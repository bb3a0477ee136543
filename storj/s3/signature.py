"""Signature version 4: whose request it is, and that nobody changed it on its way.

Both forms: the header ``Authorization``, and the query of a presigned request. Pure functions over
what a request says; times come from outside. The scheme, in short::

    canonical request = method, path, query, signed headers, hash of the body
    text to sign      = algorithm, time, scope, SHA-256 of the canonical request
    signing key       = HMAC chain: secret key, date, region, service, 'aws4_request'
    signature         = HMAC(signing key, text to sign)

Chunks of a signed stream continue the chain: each signs the signature before it and its own hash.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote

from storj.s3.errors import S3Error

ALGORITHM: Final = 'AWS4-HMAC-SHA256'
EMPTY_SHA256: Final = hashlib.sha256(b'').hexdigest()
UNSIGNED: Final = 'UNSIGNED-PAYLOAD'

#: Seconds by which the clocks of client and gateway may differ.
MAX_SKEW: Final = 15 * 60

#: Seconds for which a request can be presigned at most: seven days.
MAX_EXPIRY: Final = 7 * 24 * 3600

_TIME: Final = '%Y%m%dT%H%M%SZ'
_HEADER: Final = re.compile(
    r'AWS4-HMAC-SHA256\s+Credential=([^,\s]+),\s*SignedHeaders=([^,\s]+),\s*Signature=([0-9a-f]{64})'
)


@dataclass(frozen=True)
class Credential:
    """What a signature is made for.

    Attributes:
        access_key (str): names the secret key.
        date (str): ``YYYYMMDD``.
        region (str): as the client believes it to be.
        service (str): ``s3``.
    """

    access_key: str
    date: str
    region: str
    service: str

    @property
    def scope(self) -> str:
        """Everything but the access key."""
        return f'{self.date}/{self.region}/{self.service}/aws4_request'

    @classmethod
    def of(cls, text: str, error: str) -> Credential:
        """Return what a text names.

        Raises:
            S3Error: If it is malformed, with the code that is given.
        """
        # An access key may hold slashes; date, region, service and the end may not.
        parts = text.rsplit('/', 4)
        if len(parts) != 5 or parts[4] != 'aws4_request' or not re.fullmatch(r'\d{8}', parts[1]):
            raise S3Error(error, 'The credential is malformed.')
        return cls(*parts[:4])


@dataclass(frozen=True)
class SignedRequest:
    """What a request says of its signature.

    Attributes:
        credential (Credential): whom it names.
        signed_headers (tuple[str, ...]): names in lower case, in their order.
        signature (str): 64 hex digits.
        time (datetime.datetime): when it was signed, in UTC.
        payload (str): SHA-256 of the body, or what stands in its place.
        expires (int | None): seconds for which a presigned one is good.
    """

    credential: Credential
    signed_headers: tuple[str, ...]
    signature: str
    time: datetime.datetime
    payload: str
    expires: int | None = None


def parse(headers: Mapping[str, str], query: Mapping[str, str]) -> SignedRequest | None:
    """Return what a request says of its signature, None if it has none.

    Args:
        headers (Mapping[str, str]): of the request, looked up without regard to case.
        query (Mapping[str, str]): its parameters, decoded.

    Raises:
        S3Error: If what it says is malformed.
    """
    # An empty one is none.
    authorization = headers.get('Authorization') or None
    if authorization is not None and query.get('X-Amz-Algorithm') is not None:
        raise S3Error('InvalidArgument', 'There are two signatures: in header and in query.')
    if authorization is not None:
        return _parse_header(authorization, headers)
    if query.get('X-Amz-Algorithm') is not None:
        return _parse_query(query)
    # Version 2 signs neither the host nor all headers, and uses SHA-1.
    if 'AWSAccessKeyId' in query:
        raise S3Error('AccessDenied', 'Only signatures of version 4 are accepted (s3v4).')
    return None


def _parse_header(authorization: str, headers: Mapping[str, str]) -> SignedRequest:
    found = _HEADER.fullmatch(authorization.strip())
    if found is None:
        known = authorization.startswith(ALGORITHM)
        raise S3Error(
            'AuthorizationHeaderMalformed' if known else 'InvalidArgument',
            None if known else 'Only AWS4-HMAC-SHA256 is accepted.',
        )
    credential = Credential.of(found[1], 'AuthorizationHeaderMalformed')
    # S3 wants it in every signed request: the signature covers the body by it alone.
    payload = headers.get('x-amz-content-sha256')
    if payload is None:
        raise S3Error('InvalidRequest', 'The header x-amz-content-sha256 is missing.')
    time = _time(headers.get('x-amz-date') or headers.get('Date'))
    return SignedRequest(credential, _names(found[2]), found[3], time, payload)


def _parse_query(query: Mapping[str, str]) -> SignedRequest:
    error = 'AuthorizationQueryParametersError'
    names = ('Algorithm', 'Credential', 'SignedHeaders', 'Signature', 'Date', 'Expires')
    values = [query.get(f'X-Amz-{name}') for name in names]
    if None in values or values[0] != ALGORITHM:
        raise S3Error(error, f'The query needs {", ".join(f"X-Amz-{name}" for name in names)}.')
    _, credential, signed, signature, time, expires = map(str, values)
    if not re.fullmatch(r'\d{1,7}', expires) or not 0 < int(expires) <= MAX_EXPIRY:
        raise S3Error(error, f'X-Amz-Expires is from 1 to {MAX_EXPIRY} seconds.')
    return SignedRequest(
        Credential.of(credential, error),
        _names(signed),
        signature,
        _time(time),
        # Whoever presigns an address does not know the body yet.
        query.get('X-Amz-Content-Sha256') or UNSIGNED,
        int(expires),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.lower().split(';'))


def _time(text: str | None) -> datetime.datetime:
    with contextlib.suppress(ValueError):
        return datetime.datetime.strptime(f'{text or ""}+0000', f'{_TIME}%z')
    with contextlib.suppress(ValueError, OverflowError):
        # As HTTP writes dates; some clients do.
        return parsedate_to_datetime(text or '').astimezone(datetime.timezone.utc)
    raise S3Error('AccessDenied', 'The request has no valid x-amz-date.')


def verify(
    signed: SignedRequest,
    secret: str,
    now: datetime.datetime,
    method: str,
    raw_path: str,
    query: Sequence[tuple[str, str]],
    headers: Mapping[str, Sequence[str]],
) -> SigningChain:
    """Check a signature and its time.

    Args:
        signed (SignedRequest): what the request says.
        secret (str): key of its access key.
        now (datetime.datetime): in UTC.
        method (str): of the request.
        raw_path (str): as it was sent, percent-encoded.
        query (Sequence[tuple[str, str]]): all parameters, decoded.
        headers (Mapping[str, Sequence[str]]): by name in lower case.

    Returns:
        SigningChain: what the chunks of a signed stream continue.

    Raises:
        S3Error: If the signature is wrong, or the time is.
    """
    _check_time(signed, now)
    if 'host' not in signed.signed_headers:
        raise S3Error('AccessDenied', 'The header Host is not signed.')
    # What S3 itself looks at must be signed, so that nobody can add it.
    unsigned = [
        name
        for name in headers
        if name.startswith('x-amz-')
        and name not in signed.signed_headers
        # Clients leave it out of what a presigned address signs, and some out of the header.
        and name not in ('x-amz-content-sha256',)
    ]
    if unsigned:
        raise S3Error(
            'AccessDenied', 'There were headers present in the request which were not signed.'
        )
    canonical = '\n'.join(
        (
            method,
            raw_path or '/',
            _canonical_query(query),
            *(
                f'{name}:{_canonical_value(headers.get(name, ()))}'
                for name in signed.signed_headers
            ),
            '',
            ';'.join(signed.signed_headers),
            signed.payload,
        )
    )
    chain = SigningChain(secret, signed)
    digest = hashlib.sha256(canonical.encode('utf-8', 'surrogateescape')).hexdigest()
    expected = chain.sign(f'{ALGORITHM}\n{chain.stamp}\n{digest}')
    if not hmac.compare_digest(expected, signed.signature):
        raise S3Error('SignatureDoesNotMatch')
    return chain


def _check_time(signed: SignedRequest, now: datetime.datetime) -> None:
    age = (now - signed.time).total_seconds()
    if signed.time.strftime('%Y%m%d') != signed.credential.date:
        raise S3Error('SignatureDoesNotMatch', 'The credential is for another day.')
    if signed.expires is None:
        if abs(age) > MAX_SKEW:
            raise S3Error(
                'RequestTimeTooSkewed',
                # Clients set their clock by it.
                ServerTime=now.strftime('%Y-%m-%dT%H:%M:%SZ'),
                MaxAllowedSkewMilliseconds=str(MAX_SKEW * 1000),
            )
    elif age > signed.expires:
        raise S3Error('AccessDenied', 'Request has expired')
    elif age < -MAX_SKEW:
        raise S3Error('AccessDenied', 'Request is not valid yet')


def _canonical_query(query: Sequence[tuple[str, str]]) -> str:
    encoded = sorted(
        (quote(name, safe='-_.~'), quote(value, safe='-_.~'))
        for name, value in query
        if name != 'X-Amz-Signature'
    )
    return '&'.join(f'{name}={value}' for name, value in encoded)


def _canonical_value(values: Sequence[str]) -> str:
    return ','.join(' '.join(value.split()) for value in values)


class SigningChain:
    """The signing key of a request, and the signatures of the chunks of its body."""

    def __init__(self, secret: str, signed: SignedRequest) -> None:
        credential = signed.credential
        key = f'AWS4{secret}'.encode()
        for part in (credential.date, credential.region, credential.service, 'aws4_request'):
            key = hmac.digest(key, part.encode(), 'sha256')
        self._key = key
        self.stamp = f'{signed.time.strftime(_TIME)}\n{credential.scope}'
        self._previous = signed.signature

    def sign(self, text: str) -> str:
        """Return the signature of a text in hex."""
        return hmac.digest(self._key, text.encode('utf-8', 'surrogateescape'), 'sha256').hex()

    def check_chunk(self, signature: str, digest: str) -> None:
        """Check the signature of the next chunk.

        Args:
            signature (str): as the chunk has it.
            digest (str): SHA-256 of its bytes in hex.

        Raises:
            S3Error: If it is wrong.
        """
        self._check(signature, f'{ALGORITHM}-PAYLOAD', f'{EMPTY_SHA256}\n{digest}')

    def check_trailer(self, signature: str, digest: str) -> None:
        """Check the signature of the trailing headers, of which the digest is given.

        Raises:
            S3Error: If it is wrong.
        """
        self._check(signature, 'AWS4-HMAC-SHA256-TRAILER', digest)

    def _check(self, signature: str, algorithm: str, digests: str) -> None:
        expected = self.sign(f'{algorithm}\n{self.stamp}\n{self._previous}\n{digests}')
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise S3Error('SignatureDoesNotMatch')
        self._previous = expected
