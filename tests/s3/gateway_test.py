"""The gateway as boto3 sees it, over real sockets to a real network."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import threading
import zlib

import pytest
import requests

boto3 = pytest.importorskip('boto3', reason='boto3 is not installed')

from botocore.auth import SigV4Auth  # noqa: E402
from botocore.awsrequest import AWSRequest  # noqa: E402
from botocore.credentials import Credentials  # noqa: E402
from botocore.exceptions import ClientError, ParamValidationError  # noqa: E402

from storj.catalog import Catalog  # noqa: E402
from storj.s3.server import GatewaySettings, in_background  # noqa: E402
from tests.s3.conftest import client_of  # noqa: E402

PART = 5 * 1024 * 1024


def code_of(call, **arguments):
    with pytest.raises(ClientError) as found:
        call(**arguments)
    return found.value.response['Error']['Code']


def keys(s3, bucket):
    return [found['Key'] for found in s3.list_objects_v2(Bucket=bucket).get('Contents', [])]


# -- buckets ---------------------------------------------------------------------------------------


def test_bucket_is_listed_and_removed(s3, bucket):
    assert bucket in [found['Name'] for found in s3.list_buckets()['Buckets']]
    s3.create_bucket(Bucket=bucket)
    assert s3.get_bucket_location(Bucket=bucket)['LocationConstraint'] is None
    s3.put_object(Bucket=bucket, Key='x')
    assert code_of(s3.delete_bucket, Bucket=bucket) == 'BucketNotEmpty'
    s3.delete_object(Bucket=bucket, Key='x')
    s3.delete_bucket(Bucket=bucket)
    assert code_of(s3.head_bucket, Bucket=bucket) == '404'


@pytest.mark.parametrize('name', ['Abc', 'ab', 'a' * 64, 'a..b', '-ab', '10.0.0.1'])
def test_invalid_bucket_name_is_refused(s3, name):
    with pytest.raises((ClientError, ParamValidationError), match=r'InvalidBucketName|bucket name'):
        s3.create_bucket(Bucket=name)


def test_names_that_are_no_utf8_hide_nothing_else(s3, bucket, new_client):
    with new_client() as client:
        found = client.bucket_create(f'{bucket}\udcff')
        here = next(each for each in Catalog(client).buckets() if each.name == bucket)
        client.transfers.upload(here.id, io.BytesIO(b'1'), name='a\udcff').result(30)
        assert bucket in [each['Name'] for each in s3.list_buckets()['Buckets']]
        s3.put_object(Bucket=bucket, Key='b')
        assert keys(s3, bucket) == ['b']
        assert len(s3.list_object_versions(Bucket=bucket)['Versions']) == 1
        s3.delete_object(Bucket=bucket, Key='b')
        assert code_of(s3.delete_bucket, Bucket=bucket) == 'BucketNotEmpty'
        client.bucket_delete(found.id)


def test_address_that_is_no_utf8_is_an_error_in_utf8(gateway, bucket):
    found = requests.get(f'{gateway.endpoint}/{bucket}/%ff', timeout=30)
    assert (found.status_code, 'InvalidURI' in found.content.decode()) == (400, True)


# -- objects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'key', ['x', 'a/b c', 'ü+%&=?#', '\'"<>&', 'a//b/', '.', '~', 'a\r\nb', '\n', '\u2028']
)
def test_object_is_read_back_under_any_key(s3, bucket, key):
    put = s3.put_object(
        Bucket=bucket, Key=key, Body=b'hello', ContentType='text/x', Metadata={'a': 'b'}
    )
    found = s3.get_object(Bucket=bucket, Key=key)
    assert found['Body'].read() == b'hello'
    assert found['ETag'] == put['ETag'] == f'"{hashlib.md5(b"hello").hexdigest()}"'
    assert (found['ContentType'], found['Metadata']) == ('text/x', {'a': 'b'})
    assert keys(s3, bucket) == [key]


def test_object_is_that_of_other_clients(s3, bucket, new_client):
    s3.put_object(Bucket=bucket, Key='a/x', Body=b'by S3')
    with new_client() as client:
        bucket_id = client.bucket_id(bucket)
        file_id = client.file_id(bucket_id, 'a/x')
        assert client.file_download(bucket_id, file_id).read() == b'by S3'
        client.file_upload(bucket_id, b'by the client', name='a/x', overwrite=True)
    found = s3.get_object(Bucket=bucket, Key='a/x')
    assert found['Body'].read() == b'by the client'
    # What the index kept is of another upload.
    assert found['ETag'].endswith('-1"')


def test_missing_object_has_the_error_of_s3(s3, bucket):
    assert code_of(s3.get_object, Bucket=bucket, Key='x') == 'NoSuchKey'
    assert code_of(s3.get_object, Bucket='nobody-has-it', Key='x') == 'NoSuchBucket'
    assert code_of(s3.head_object, Bucket=bucket, Key='x') == '404'
    s3.delete_object(Bucket=bucket, Key='x')


@pytest.mark.parametrize(
    ('asked', 'start', 'end'),
    [('0-0', 0, 1), ('2-4', 2, 5), ('7-', 7, 10), ('-3', 7, 10), ('5-100', 5, 10)],
)
def test_range_is_answered(s3, bucket, asked, start, end):
    s3.put_object(Bucket=bucket, Key='x', Body=b'0123456789')
    found = s3.get_object(Bucket=bucket, Key='x', Range=f'bytes={asked}')
    assert found['Body'].read() == b'0123456789'[start:end]
    assert found['ContentRange'] == f'bytes {start}-{end - 1}/10'


def test_range_outside_is_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key='x', Body=b'0123')
    assert code_of(s3.get_object, Bucket=bucket, Key='x', Range='bytes=4-') == 'InvalidRange'


def test_conditions_are_checked(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key='x', Body=b'1')['ETag']
    at = {'Bucket': bucket, 'Key': 'x'}
    modified = s3.head_object(**at)['LastModified']
    s3.get_object(**at, IfMatch=etag, IfModifiedSince=modified.replace(year=2020))
    assert code_of(s3.get_object, **at, IfMatch='"0"') == 'PreconditionFailed'
    assert code_of(s3.get_object, **at, IfNoneMatch=etag) == '304'
    assert code_of(s3.get_object, **at, IfModifiedSince=modified) == '304'
    before = modified.replace(year=2020)
    assert code_of(s3.get_object, **at, IfUnmodifiedSince=before) == 'PreconditionFailed'


def test_write_can_be_conditional(s3, bucket):
    at = {'Bucket': bucket, 'Key': 'x'}
    etag = s3.put_object(**at, Body=b'1', IfNoneMatch='*')['ETag']
    assert code_of(s3.put_object, **at, Body=b'2', IfNoneMatch='*') == 'PreconditionFailed'
    assert code_of(s3.put_object, **at, Body=b'2', IfMatch='"0"') == 'PreconditionFailed'
    s3.put_object(**at, Body=b'3', IfMatch=etag)
    assert s3.get_object(**at)['Body'].read() == b'3'


def test_removal_can_be_conditional(s3, bucket):
    at = {'Bucket': bucket, 'Key': 'x'}
    etag = s3.put_object(**at, Body=b'1')['ETag']
    assert code_of(s3.delete_object, **at, IfMatch='"0"') == 'PreconditionFailed'
    assert code_of(s3.delete_object, **at, IfMatchSize=2) == 'PreconditionFailed'
    s3.delete_object(**at, IfMatch=etag, IfMatchSize=1)
    s3.delete_object(**at, IfMatch=etag)
    assert keys(s3, bucket) == []


@pytest.mark.parametrize('algorithm', ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256'])
def test_checksum_is_verified_and_told(s3, bucket, algorithm):
    at = {'Bucket': bucket, 'Key': 'x'}
    put = s3.put_object(**at, Body=b'hello' * 5000, ChecksumAlgorithm=algorithm)
    found = s3.head_object(**at, ChecksumMode='ENABLED')
    name = f'Checksum{algorithm}'
    assert found[name] == put[name]
    wrong = base64.b64encode(bytes(len(base64.b64decode(put[name])))).decode()
    assert code_of(s3.put_object, **at, Body=b'x', **{name: wrong}) == 'BadDigest'


def test_wrong_md5_stores_nothing(s3, bucket, folder):
    md5 = base64.b64encode(bytes(16)).decode()
    assert code_of(s3.put_object, Bucket=bucket, Key='x', Body=b'1', ContentMD5=md5) == 'BadDigest'
    assert keys(s3, bucket) == []
    assert list((folder / 'spool').iterdir()) == []


def test_presigned_address_works_without_keys(s3, bucket):
    at = {'Bucket': bucket, 'Key': 'a b'}
    put = s3.generate_presigned_url('put_object', Params=at, ExpiresIn=60)
    assert requests.put(put, data=b'hello', timeout=30).status_code == 200
    get = s3.generate_presigned_url(
        'get_object', Params={**at, 'ResponseContentType': 'text/y'}, ExpiresIn=60
    )
    found = requests.get(get, timeout=30)
    assert (found.content, found.headers['Content-Type']) == (b'hello', 'text/y')
    assert requests.get(get.replace('a%20b', 'ab'), timeout=30).status_code == 403


def test_virtual_host_names_the_bucket(gateway, bucket):
    # Names below localhost lead nowhere on some machines, so the name is only in the header.
    port = gateway.endpoint.rpartition(':')[2]
    host = f'{bucket}.localhost:{port}'
    signer = SigV4Auth(Credentials(gateway.access_key, gateway.secret_key), 's3', 'us-east-1')
    for method, data in (('PUT', b'1'), ('GET', b'')):
        request = AWSRequest(method, f'http://{host}/x', data=data)
        request.headers['x-amz-content-sha256'] = hashlib.sha256(data).hexdigest()
        signer.add_auth(request)
        headers = {**request.headers, 'Host': host}
        found = requests.request(
            method, f'{gateway.endpoint}/x', data=data, headers=headers, timeout=30
        )
        assert found.status_code == 200
    assert found.content == b'1'


def test_unsigned_request_is_refused(gateway, bucket):
    found = requests.get(f'{gateway.endpoint}/{bucket}', timeout=30)
    assert found.status_code == 403
    assert '<Code>AccessDenied</Code>' in found.text


def test_unknown_calls_are_not_implemented(s3, bucket):
    assert code_of(s3.get_bucket_policy, Bucket=bucket) == 'NotImplemented'
    assert code_of(s3.get_bucket_lifecycle_configuration, Bucket=bucket) == 'NotImplemented'


@pytest.mark.parametrize('part', ['renameObject', 'session', 'part-of-a-later-year='])
def test_part_of_an_object_that_is_unknown_changes_nothing(s3, bucket, part):
    s3.put_object(Bucket=bucket, Key='x', Body=b'1')

    def name_part(request, **_):
        request.url += ('&' if '?' in request.url else '?') + part

    s3.meta.events.register('before-sign.s3', name_part)
    try:
        for call in (s3.put_object, s3.get_object, s3.delete_object):
            assert code_of(call, Bucket=bucket, Key='x') == 'NotImplemented'
        for call in (s3.list_objects_v2, s3.delete_bucket):
            assert code_of(call, Bucket=bucket) == 'NotImplemented'
    finally:
        s3.meta.events.unregister('before-sign.s3', name_part)
    assert s3.get_object(Bucket=bucket, Key='x')['Body'].read() == b'1'


def test_parameters_with_values_that_are_unknown_are_ignored(s3, bucket):
    def add(request, **_):
        request.url += '&metadata=true&x-of-a-log'

    s3.meta.events.register('before-sign.s3', add)
    try:
        assert s3.list_objects_v2(Bucket=bucket, Prefix='', Delimiter='')['KeyCount'] == 0
    finally:
        s3.meta.events.unregister('before-sign.s3', add)


@pytest.mark.parametrize(
    ('call', 'options', 'code'),
    [
        ('put_object', {'ServerSideEncryption': 'aws:kms'}, 'NotImplemented'),
        ('put_object', {'StorageClass': 'GLACIER'}, 'InvalidStorageClass'),
        ('put_object', {'ACL': 'public-read'}, 'AccessControlListNotSupported'),
        ('put_object', {'GrantRead': 'id=1'}, 'AccessControlListNotSupported'),
        ('put_object', {'WriteOffsetBytes': 1}, 'NotImplemented'),
        ('put_object', {'ObjectLockLegalHoldStatus': 'ON'}, 'NotImplemented'),
        ('create_multipart_upload', {'ACL': 'public-read'}, 'AccessControlListNotSupported'),
        ('create_multipart_upload', {'WebsiteRedirectLocation': '/'}, 'NotImplemented'),
        ('copy_object', {'StorageClass': 'GLACIER'}, 'InvalidStorageClass'),
    ],
)
def test_promise_that_cannot_be_kept_is_refused(s3, bucket, call, options, code):
    s3.put_object(Bucket=bucket, Key='x', Body=b'1')
    source = {'CopySource': f'{bucket}/x'} if call == 'copy_object' else {}
    assert code_of(getattr(s3, call), Bucket=bucket, Key='x', **source, **options) == code
    assert s3.get_object(Bucket=bucket, Key='x')['Body'].read() == b'1'


def test_bucket_with_unkept_promises_is_not_made(s3):
    codes = ('AccessControlListNotSupported', 'NotImplemented')
    for name, options in (
        ('is-public', {'ACL': 'public-read'}),
        ('is-shared', {'ObjectOwnership': 'ObjectWriter'}),
    ):
        assert code_of(s3.create_bucket, Bucket=name, **options) in codes
        assert name not in [each['Name'] for each in s3.list_buckets()['Buckets']]


def test_keys_of_the_client_are_refused(send):
    for method, address in (('PUT', 'x'), ('GET', 'x'), ('PUT', 'x?partNumber=1&uploadId=1')):
        found = send(method, b'', address, x_amz_server_side_encryption_customer_algorithm='AES256')
        assert (found.status_code, 'NotImplemented' in found.text) == (501, True)


def test_promises_that_are_kept_anyway_are_accepted(s3, bucket):
    s3.put_object(
        Bucket=bucket,
        Key='x',
        ACL='bucket-owner-full-control',
        ServerSideEncryption='AES256',
        StorageClass='STANDARD',
    )
    assert s3.head_object(Bucket=bucket, Key='x')['ContentLength'] == 0


@pytest.fixture
def presign(s3, bucket):
    """Function that presigns an upload to ``x`` with further parameters, as some SDKs do."""

    def presigned(parameters):
        def add(request, **_):
            request.url += ('&' if '?' in request.url else '?') + parameters

        s3.meta.events.register('before-sign.s3', add)
        try:
            return s3.generate_presigned_url('put_object', Params={'Bucket': bucket, 'Key': 'x'})
        finally:
            s3.meta.events.unregister('before-sign.s3', add)

    return presigned


def test_presigned_parameters_count_as_headers(s3, bucket, presign):
    # The checksum is that of no bytes.
    url = presign('x-amz-meta-a=1&x-amz-tagging=b%3D2&x-amz-checksum-crc32=AAAAAA%3D%3D')
    assert requests.put(url, data=b'hello', timeout=30).status_code == 200
    assert s3.head_object(Bucket=bucket, Key='x')['Metadata'] == {'a': '1'}
    assert s3.get_object_tagging(Bucket=bucket, Key='x')['TagSet'] == [{'Key': 'b', 'Value': '2'}]
    copy = presign(f'x-amz-copy-source={bucket}%2Fx&x-amz-metadata-directive=REPLACE')
    assert 'CopyObjectResult' in requests.put(copy, timeout=30).text
    assert s3.get_object(Bucket=bucket, Key='x')['Body'].read() == b'hello'
    assert requests.put(presign('x-amz-acl=public-read'), timeout=30).status_code == 400


# -- copies, tags, removal -------------------------------------------------------------------------


def test_copy_keeps_or_replaces_metadata(s3, bucket):
    s3.put_object(Bucket=bucket, Key='x', Body=b'1', Metadata={'a': '1'}, ContentType='text/x')
    source = {'Bucket': bucket, 'Key': 'x'}
    s3.copy_object(Bucket=bucket, Key='y', CopySource=source)
    assert s3.head_object(Bucket=bucket, Key='y')['Metadata'] == {'a': '1'}
    s3.copy_object(
        Bucket=bucket, Key='x', CopySource=source, MetadataDirective='REPLACE', Metadata={'b': '2'}
    )
    found = s3.get_object(Bucket=bucket, Key='x')
    assert (found['Metadata'], found['Body'].read()) == ({'b': '2'}, b'1')
    itself = {'Bucket': bucket, 'Key': 'x', 'CopySource': source}
    assert code_of(s3.copy_object, **itself) == 'InvalidRequest'


def test_tags_are_kept(s3, bucket):
    at = {'Bucket': bucket, 'Key': 'x'}
    assert code_of(s3.put_object, **at, Body=b'1', Tagging='a=1&a=2') == 'InvalidTag'
    s3.put_object(**at, Body=b'1', Tagging='a=1&b=2')
    s3.put_object_tagging(**at, Tagging={'TagSet': [{'Key': 'c', 'Value': '3'}]})
    assert s3.get_object_tagging(**at)['TagSet'] == [{'Key': 'c', 'Value': '3'}]
    s3.delete_object_tagging(**at)
    assert s3.get_object_tagging(**at)['TagSet'] == []


def test_objects_are_removed_together(s3, bucket):
    for key in 'xyz':
        s3.put_object(Bucket=bucket, Key=key, Body=b'')
    objects = [{'Key': key} for key in ('x', 'y', 'none')]
    done = s3.delete_objects(Bucket=bucket, Delete={'Objects': objects})
    assert sorted(found['Key'] for found in done['Deleted']) == ['none', 'x', 'y']
    assert keys(s3, bucket) == ['z']


# -- listings --------------------------------------------------------------------------------------


def test_listing_has_pages_and_prefixes(s3, bucket):
    for key in ('a/1', 'a/2', 'b', 'c/1'):
        s3.put_object(Bucket=bucket, Key=key, Body=b'')
    pages = s3.get_paginator('list_objects_v2').paginate(
        Bucket=bucket, Delimiter='/', PaginationConfig={'PageSize': 1}
    )
    found = []
    for page in pages:
        found += [each['Prefix'] for each in page.get('CommonPrefixes', [])]
        found += [each['Key'] for each in page.get('Contents', [])]
    assert found == ['a/', 'b', 'c/']
    first = s3.list_objects(Bucket=bucket, Prefix='a/', MaxKeys=1)
    assert ([each['Key'] for each in first['Contents']], first['IsTruncated']) == (['a/1'], True)


def test_changes_of_other_clients_are_listed_after_a_while(new_client, bucket, tmp_path):
    settings = GatewaySettings(tmp_path, port=0, listing_seconds=0)
    with in_background(new_client(), settings) as gateway, client_of(gateway) as s3:
        assert keys(s3, bucket) == []
        with new_client() as client:
            client.file_upload(client.bucket_id(bucket), b'1', name='x')
        assert keys(s3, bucket) == ['x']


# -- multipart -------------------------------------------------------------------------------------


def begin(s3, at, sizes, **options):
    upload = {**at, 'UploadId': s3.create_multipart_upload(**at, **options)['UploadId']}
    contents = [os.urandom(size) for size in sizes]
    parts = []
    for number, content in enumerate(contents, 1):
        done = s3.upload_part(**upload, PartNumber=number, Body=content)
        parts.append({'PartNumber': number, 'ETag': done['ETag']})
    return upload, contents, parts


def test_parts_become_one_object(s3, bucket, folder):
    at = {'Bucket': bucket, 'Key': 'x'}
    upload, contents, parts = begin(s3, at, [PART, PART, 10], Metadata={'a': 'b'})
    assert [found['Key'] for found in s3.list_multipart_uploads(Bucket=bucket)['Uploads']] == ['x']
    assert [part['Size'] for part in s3.list_parts(**upload)['Parts']] == [PART, PART, 10]
    assert keys(s3, bucket) == []
    done = s3.complete_multipart_upload(**upload, MultipartUpload={'Parts': parts})
    hashes = b''.join(hashlib.md5(content).digest() for content in contents)
    assert done['ETag'] == f'"{hashlib.md5(hashes).hexdigest()}-3"'
    found = s3.get_object(**at)
    assert found['Body'].read() == b''.join(contents)
    assert found['Metadata'] == {'a': 'b'}
    assert s3.get_object(**at, PartNumber=3)['Body'].read() == contents[2]
    assert list((folder / 'spool').iterdir()) == []
    assert code_of(s3.list_parts, **upload) == 'NoSuchUpload'


def test_parts_in_the_spool_are_encrypted(s3, bucket, folder):
    at = {'Bucket': bucket, 'Key': 'x'}
    upload = {**at, 'UploadId': s3.create_multipart_upload(**at)['UploadId']}
    s3.upload_part(**upload, PartNumber=1, Body=b'secret' * 1000)
    files = list((folder / 'spool').iterdir())
    assert len(files) == 1
    assert b'secret' not in files[0].read_bytes()
    assert files[0].stat().st_mode & 0o077 == 0
    s3.abort_multipart_upload(**upload)
    assert not files[0].exists()


def test_wrong_parts_are_refused(s3, bucket):
    at = {'Bucket': bucket, 'Key': 'x'}
    upload, _, parts = begin(s3, at, [10, 10])

    def complete(*chosen):
        return code_of(
            s3.complete_multipart_upload, **upload, MultipartUpload={'Parts': list(chosen)}
        )

    assert complete(*parts) == 'EntityTooSmall'
    assert complete(parts[1], parts[0]) == 'InvalidPartOrder'
    assert complete({'PartNumber': 3, 'ETag': '"0"'}) == 'InvalidPart'
    assert complete({'PartNumber': 1, 'ETag': '"0"'}) == 'InvalidPart'
    assert complete() == 'MalformedXML'
    s3.abort_multipart_upload(**upload)


def test_checksum_of_parts_is_told(s3, bucket):
    at = {'Bucket': bucket, 'Key': 'x'}
    begun = s3.create_multipart_upload(**at, ChecksumAlgorithm='CRC32')
    upload = {**at, 'UploadId': begun['UploadId']}
    done = s3.upload_part(**upload, PartNumber=1, Body=b'hello', ChecksumAlgorithm='CRC32')
    part = {name: done[name] for name in ('ETag', 'ChecksumCRC32')}
    found = s3.complete_multipart_upload(
        **upload, MultipartUpload={'Parts': [{**part, 'PartNumber': 1}]}
    )
    of_part = zlib.crc32(b'hello').to_bytes(4, 'big')
    whole = base64.b64encode(zlib.crc32(of_part).to_bytes(4, 'big')).decode()
    assert found['ChecksumCRC32'] == f'{whole}-1'


def test_part_is_copied_from_an_object(s3, bucket):
    s3.put_object(Bucket=bucket, Key='source', Body=b'0123456789')
    at = {'Bucket': bucket, 'Key': 'x'}
    upload = {**at, 'UploadId': s3.create_multipart_upload(**at)['UploadId']}
    done = s3.upload_part_copy(
        **upload,
        PartNumber=1,
        CopySource={'Bucket': bucket, 'Key': 'source'},
        CopySourceRange='bytes=2-5',
    )
    parts = [{'PartNumber': 1, 'ETag': done['CopyPartResult']['ETag']}]
    s3.complete_multipart_upload(**upload, MultipartUpload={'Parts': parts})
    assert s3.get_object(**at)['Body'].read() == b'2345'


def test_upload_in_parts_survives_a_restart(new_client, bucket, tmp_path):
    at = {'Bucket': bucket, 'Key': 'x'}
    settings = GatewaySettings(tmp_path, port=0)
    with in_background(new_client(), settings) as gateway, client_of(gateway) as s3:
        first = gateway.access_key, gateway.secret_key
        upload, contents, parts = begin(s3, at, [100])
    with in_background(new_client(), settings) as gateway, client_of(gateway) as s3:
        assert (gateway.access_key, gateway.secret_key) == first
        s3.complete_multipart_upload(**upload, MultipartUpload={'Parts': parts})
        assert s3.get_object(**at)['Body'].read() == contents[0]


# -- several at once -------------------------------------------------------------------------------


def test_reader_never_misses_an_object_that_is_replaced(gateway, s3, bucket):
    at = {'Bucket': bucket, 'Key': 'x'}
    s3.put_object(**at, Body=b'0')
    over = threading.Event()

    def write():
        with client_of(gateway) as writer:
            for number in range(8):
                writer.put_object(**at, Body=str(number).encode())
        over.set()

    thread = threading.Thread(target=write)
    thread.start()
    found = []
    while not over.is_set():
        found.append(s3.get_object(**at)['Body'].read())
    thread.join()
    assert found
    assert s3.get_object(**at)['Body'].read() == b'7'


def test_last_of_many_writers_is_whole(gateway, s3, bucket):
    at = {'Bucket': bucket, 'Key': 'x'}
    contents = [bytes([number]) * 1000 for number in range(6)]

    def write(content):
        with client_of(gateway) as writer:
            writer.put_object(**at, Body=content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = s3.get_object(**at)
    data = found['Body'].read()
    assert data in contents
    assert found['ETag'] == f'"{hashlib.md5(data).hexdigest()}"'


def test_second_gateway_on_a_folder_is_refused(new_client, gateway):
    from storj.exception import ConfigurationError

    with (
        pytest.raises(ConfigurationError, match='another gateway'),
        in_background(new_client(), GatewaySettings(gateway.folder, port=0)),
    ):
        pass
