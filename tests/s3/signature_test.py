"""Signatures: the examples that Amazon publishes, and every way to be wrong."""

from __future__ import annotations

import datetime

import pytest

pytest.importorskip('awscrt', reason='awscrt is not installed')

from storj.s3 import signature
from storj.s3.errors import S3Error

# https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
SECRET = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'
CREDENTIAL = 'AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request'
NOW = datetime.datetime(2013, 5, 24, tzinfo=datetime.timezone.utc)
HOST = 'examplebucket.s3.amazonaws.com'
EMPTY = signature.EMPTY_SHA256


class Request:
    """A request as the gateway hands it to the check."""

    def __init__(self, method='GET', path='/', query=(), **headers):
        self.method, self.path, self.query = method, path, list(query)
        self.headers = {name.replace('_', '-'): text for name, text in headers.items()}
        self.headers.setdefault('host', HOST)

    def check(self, now=NOW, secret=SECRET):
        headers = {
            'Authorization': self.headers.get('authorization'),
            'x-amz-date': self.headers.get('x-amz-date'),
            'x-amz-content-sha256': self.headers.get('x-amz-content-sha256'),
        }
        told = {name: text for name, text in headers.items() if text is not None}
        signed = signature.parse(told, dict(self.query))
        assert signed is not None
        return signature.verify(
            signed,
            secret,
            now,
            self.method,
            self.path,
            self.query,
            {name: [text] for name, text in self.headers.items()},
        )


def signed(names, text):
    return f'AWS4-HMAC-SHA256 Credential={CREDENTIAL},SignedHeaders={names},Signature={text}'


def get_object(**changes):
    return Request(
        **{
            'path': '/test.txt',
            'range': 'bytes=0-9',
            'x_amz_content_sha256': EMPTY,
            'x_amz_date': '20130524T000000Z',
            'authorization': signed(
                'host;range;x-amz-content-sha256;x-amz-date',
                'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
            ),
            **changes,
        }
    )


def presigned(**changes):
    query = {
        'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
        'X-Amz-Credential': CREDENTIAL,
        'X-Amz-Date': '20130524T000000Z',
        'X-Amz-Expires': '86400',
        'X-Amz-SignedHeaders': 'host',
        'X-Amz-Signature': 'aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404',
        **changes,
    }
    return Request('GET', '/test.txt', query.items())


def code_of(request, **options):
    with pytest.raises(S3Error) as found:
        request.check(**options)
    return found.value.code


def test_published_get_is_accepted():
    get_object().check()


def test_published_put_is_accepted():
    Request(
        'PUT',
        '/test%24file.text',
        date='Fri, 24 May 2013 00:00:00 GMT',
        x_amz_content_sha256='44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072',
        x_amz_date='20130524T000000Z',
        x_amz_storage_class='REDUCED_REDUNDANCY',
        authorization=signed(
            'date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class',
            '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
        ),
    ).check()


@pytest.mark.parametrize(
    ('query', 'text'),
    [
        (
            [('lifecycle', '')],
            'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543',
        ),
        (
            [('prefix', 'J'), ('max-keys', '2')],
            '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
        ),
    ],
)
def test_published_query_is_accepted(query, text):
    Request(
        query=query,
        x_amz_content_sha256=EMPTY,
        x_amz_date='20130524T000000Z',
        authorization=signed('host;x-amz-content-sha256;x-amz-date', text),
    ).check()


def test_published_presigned_url_is_accepted_until_it_expires():
    presigned().check()
    presigned().check(now=NOW + datetime.timedelta(seconds=86400))
    assert code_of(presigned(), now=NOW + datetime.timedelta(seconds=86401)) == 'AccessDenied'


def test_published_chunks_are_accepted():
    # https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
    import hashlib

    chain = Request(
        'PUT',
        '/examplebucket/chunkObject.txt',
        host='s3.amazonaws.com',
        content_encoding='aws-chunked',
        content_length='66824',
        x_amz_content_sha256='STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
        x_amz_date='20130524T000000Z',
        x_amz_decoded_content_length='66560',
        x_amz_storage_class='REDUCED_REDUNDANCY',
        authorization=signed(
            'content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;'
            'x-amz-decoded-content-length;x-amz-storage-class',
            '4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9',
        ),
    ).check()
    for size, text in (
        (65536, 'ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648'),
        (1024, '0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497'),
        (0, 'b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9'),
    ):
        chain.check_chunk(text, hashlib.sha256(b'a' * size).hexdigest())
    with pytest.raises(S3Error, match='signature'):
        chain.check_chunk('0' * 64, EMPTY)


@pytest.mark.parametrize(
    ('request_', 'code'),
    [
        (get_object(range='bytes=0-8'), 'SignatureDoesNotMatch'),
        (get_object(path='/test.txt2'), 'SignatureDoesNotMatch'),
        (get_object(method='PUT'), 'SignatureDoesNotMatch'),
        (get_object(query=[('acl', '')]), 'SignatureDoesNotMatch'),
        (get_object(x_amz_content_sha256='0' * 64), 'SignatureDoesNotMatch'),
        (get_object(x_amz_acl='public-read'), 'AccessDenied'),
        (get_object(x_amz_date='yesterday'), 'AccessDenied'),
        (get_object(authorization='AWS4-HMAC-SHA256 nonsense'), 'AuthorizationHeaderMalformed'),
        (get_object(authorization='AWS AKIA:abc'), 'InvalidArgument'),
        (presigned(**{'X-Amz-Expires': '604801'}), 'AuthorizationQueryParametersError'),
        (presigned(**{'X-Amz-Expires': '0'}), 'AuthorizationQueryParametersError'),
        (presigned(**{'X-Amz-Expires': '9' * 20}), 'AuthorizationQueryParametersError'),
        (presigned(**{'X-Amz-Credential': 'nonsense'}), 'AuthorizationQueryParametersError'),
        (presigned(**{'X-Amz-SignedHeaders': 'range'}), 'AccessDenied'),
        (presigned(**{'X-Amz-Date': '20130525T000000Z'}), 'SignatureDoesNotMatch'),
        (presigned(other='1'), 'SignatureDoesNotMatch'),
    ],
)
def test_changed_request_is_refused(request_, code):
    assert code_of(request_) == code


def test_wrong_secret_is_refused():
    assert code_of(get_object(), secret='other') == 'SignatureDoesNotMatch'


@pytest.mark.parametrize('minutes', [-16, 16])
def test_skewed_clock_is_refused(minutes):
    now = NOW + datetime.timedelta(minutes=minutes)
    assert code_of(get_object(), now=now) == 'RequestTimeTooSkewed'


def test_request_without_signature_has_none():
    assert signature.parse({}, {}) is None
