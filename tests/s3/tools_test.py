"""Programs of other people on the gateway, and the gateway as a program."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

pytest.importorskip('awscrt', reason='awscrt is not installed')
pytest.importorskip('boto3', reason='boto3 is not installed')

from botocore.exceptions import SSLError

from storj.s3.server import GatewaySettings, in_background
from tests.s3.certificates import certificate
from tests.s3.conftest import client_of


def program(name):
    """Return a program of the system; the test is skipped where it is missing."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f'{name} is not installed')
    return found


@pytest.fixture
def keys(gateway):
    """The environment of the gateway's clients."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith('AWS_')}
    return {
        **clean,
        'AWS_ACCESS_KEY_ID': gateway.access_key,
        'AWS_SECRET_ACCESS_KEY': gateway.secret_key,
        'AWS_DEFAULT_REGION': 'us-east-1',
        'AWS_EC2_METADATA_DISABLED': 'true',
    }


@pytest.fixture
def tree(tmp_path):
    """A folder with some files, one of them large enough for several parts."""
    folder = tmp_path / 'tree'
    (folder / 'a' / 'b').mkdir(parents=True)
    (folder / 'a' / 'b' / 'x y.txt').write_bytes(b'hello')
    (folder / 'empty').write_bytes(b'')
    (folder / 'ü').write_bytes(bytes(range(256)) * 100)
    (folder / 'large').write_bytes(os.urandom(9 * 1024 * 1024))
    for path in folder.rglob('*'):
        # S3 tells whole seconds: what is stored in the second of its making looks older.
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return folder


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def run(environment, *command, **options):
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=100, **options
    )
    assert done.returncode == 0, f'{command}: {done.stdout}\n{done.stderr}'
    return done.stdout


def test_aws_copies_and_syncs(keys, gateway, bucket, tree, tmp_path):
    aws = [program('aws'), '--endpoint-url', gateway.endpoint]
    run(keys, *aws, 's3', 'cp', '--recursive', '--no-progress', str(tree), f's3://{bucket}/t')
    (tree / 'empty').write_bytes(b'no more')
    synced = run(keys, *aws, 's3', 'sync', '--no-progress', str(tree), f's3://{bucket}/t')
    assert synced.count('upload:') == 1
    back = tmp_path / 'back'
    run(keys, *aws, 's3', 'cp', '--recursive', '--no-progress', f's3://{bucket}/t', str(back))
    assert contents(back) == contents(tree)
    # Without this the program signs addresses in the way of version 2.
    config = tmp_path / 'aws.ini'
    config.write_text('[default]\ns3 =\n  signature_version = s3v4\n')
    keys = {**keys, 'AWS_CONFIG_FILE': str(config)}
    url = run(keys, *aws, 's3', 'presign', f's3://{bucket}/t/a/b/x y.txt').strip()
    import requests

    assert requests.get(url, timeout=30).content == b'hello'
    run(keys, *aws, 's3', 'rb', '--force', f's3://{bucket}')


def test_presigned_address_serves_curl(s3, bucket, keys, tmp_path):
    curl = program('curl')
    at = {'Bucket': bucket, 'Key': 'a b/ü'}
    address = s3.generate_presigned_url('put_object', Params=at, ExpiresIn=60)
    # Out of a pipe its length is unknown, which S3 refuses.
    refused = run(keys, curl, '-s', '-T', '-', address, input='hello')
    assert '<Code>MissingContentLength</Code>' in refused
    source = tmp_path / 'source'
    source.write_text('hello')
    run(keys, curl, '-sSf', '-T', str(source), address)
    address = s3.generate_presigned_url('get_object', Params=at, ExpiresIn=60)
    assert run(keys, curl, '-sSf', address) == 'hello'
    assert run(keys, curl, '-sSf', '-r', '1-2', address) == 'el'


def test_tls_serves_aws_and_boto3(keys, new_client, bucket, tree, tmp_path):
    public, private = certificate()
    chain, key = tmp_path / 'chain.pem', tmp_path / 'key.pem'
    chain.write_bytes(public)
    key.write_bytes(private)
    settings = GatewaySettings(
        tmp_path / 'gateway', host='localhost', port=0, tls_cert=chain, tls_key=key
    )
    with in_background(new_client(), settings) as secured:
        assert secured.endpoint.startswith('https://')
        # The certificate is for the name, and clients check that.
        secured.endpoint = secured.endpoint.replace('127.0.0.1', 'localhost')
        with client_of(secured, str(chain)) as s3:
            s3.put_object(Bucket=bucket, Key='x', Body=b'1')
            assert s3.get_object(Bucket=bucket, Key='x')['Body'].read() == b'1'
        with client_of(secured) as s3, pytest.raises(SSLError):
            s3.list_buckets()
        aws = [program('aws'), '--endpoint-url', secured.endpoint, '--ca-bundle', str(chain)]
        pair = {
            'AWS_ACCESS_KEY_ID': secured.access_key,
            'AWS_SECRET_ACCESS_KEY': secured.secret_key,
        }
        target = f's3://{bucket}/t'
        run({**keys, **pair}, *aws, 's3', 'cp', '--recursive', '--quiet', str(tree), target)
        back = tmp_path / 'back'
        run({**keys, **pair}, *aws, 's3', 'cp', '--recursive', '--quiet', target, str(back))
    assert contents(back) == contents(tree)


def test_rclone_mounts_a_bucket(keys, gateway, s3, bucket, tmp_path):
    rclone, fusermount = program('rclone'), program('fusermount3')
    if not os.access('/dev/fuse', os.R_OK | os.W_OK):
        pytest.skip('/dev/fuse cannot be used')
    s3.put_object(Bucket=bucket, Key='a/x', Body=b'hello')
    mounted = tmp_path / 'mounted'
    mounted.mkdir()
    remote = (
        f":s3,provider=Other,env_auth=true,force_path_style=true,endpoint='{gateway.endpoint}':"
        f'{bucket}'
    )
    # As a daemon it returns when the files are there.
    options = ['--daemon', '--config', str(tmp_path / 'none.conf'), '--cache-dir', str(tmp_path)]
    run(keys, rclone, 'mount', remote, str(mounted), *options)
    try:
        assert (mounted / 'a' / 'x').read_bytes() == b'hello'
        (mounted / 'a' / 'y').write_bytes(b'world')
        assert sorted(path.name for path in (mounted / 'a').iterdir()) == ['x', 'y']
    finally:
        run(keys, fusermount, '-u', str(mounted))
    assert s3.get_object(Bucket=bucket, Key='a/y')['Body'].read() == b'world'


def test_rclone_syncs_and_checks(keys, gateway, bucket, tree, tmp_path):
    rclone = program('rclone')
    remote = (
        f":s3,provider=Other,env_auth=true,force_path_style=true,endpoint='{gateway.endpoint}':"
        f'{bucket}/t'
    )
    at = ['--config', str(tmp_path / 'none.conf'), '--s3-no-check-bucket']
    run(keys, rclone, 'sync', str(tree), remote, *at)
    run(keys, rclone, 'check', str(tree), remote, *at)
    (tree / 'ü').unlink()
    run(keys, rclone, 'sync', str(tree), remote, *at)
    run(keys, rclone, 'copy', remote, str(tmp_path / 'back'), *at)
    assert contents(tmp_path / 'back') == contents(tree)
    listed = json.loads(run(keys, rclone, 'lsjson', '-R', remote, *at))
    # Times of the files here are in the metadata.
    times = {each['Path']: each['ModTime'] for each in listed if not each['IsDir']}
    assert times.keys() == contents(tree).keys()


def test_restic_backs_up_and_restores(keys, gateway, bucket, tree, tmp_path):
    restic = program('restic')
    environment = {
        **keys,
        'RESTIC_REPOSITORY': f's3:{gateway.endpoint}/{bucket}/repository',
        'RESTIC_PASSWORD': 'secret',
        'RESTIC_CACHE_DIR': str(tmp_path / 'cache'),
    }
    run(environment, restic, 'init')
    run(environment, restic, 'backup', '.', cwd=tree)
    (tree / 'empty').write_bytes(b'no more')
    run(environment, restic, 'backup', '.', cwd=tree)
    run(environment, restic, 'check', '--read-data')
    run(environment, restic, 'restore', 'latest', '--target', str(tmp_path / 'back'))
    assert contents(tmp_path / 'back') == contents(tree)
    run(environment, restic, 'forget', '--keep-last', '1', '--prune')
    run(environment, restic, 'check')


def test_s3fs_reads_what_it_wrote(gateway, bucket):
    s3fs = pytest.importorskip('s3fs', reason='s3fs is not installed')
    fs = s3fs.S3FileSystem(
        key=gateway.access_key,
        secret=gateway.secret_key,
        endpoint_url=gateway.endpoint,
        skip_instance_cache=True,
    )
    data = os.urandom(11 * 1024 * 1024)
    with fs.open(f'{bucket}/a/x', 'wb', block_size=5 * 1024 * 1024) as file:
        file.write(data)
    with fs.open(f'{bucket}/a/x') as file:
        file.seek(-10, 2)
        assert file.read() == data[-10:]
    assert fs.cat_file(f'{bucket}/a/x') == data
    assert fs.find(bucket) == [f'{bucket}/a/x']
    fs.mv(f'{bucket}/a/x', f'{bucket}/y')
    assert fs.ls(bucket) == [f'{bucket}/y']
    fs.rm(bucket, recursive=True)


# -- the program -----------------------------------------------------------------------------------


def serve(environment, folder, *options):
    return subprocess.Popen(
        [sys.executable, '-m', 'storj', 'serve', 's3', f'--data={folder}', '--port=0', *options],
        env={**os.environ, **environment, 'STORJ_CONFIG_DIR': str(folder / 'none')},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_program_says_where_it_listens_and_stops(environment, tmp_path):
    with serve(environment, tmp_path, '--json') as running:
        ready = json.loads(running.stdout.readline())
        assert ready.keys() == {'endpoint', 'access_key', 'secret_key', 'region', 'pid'}
        assert ready['pid'] == running.pid
        keys = tmp_path / 'keys.json'
        assert keys.stat().st_mode & 0o077 == 0
        assert json.loads(keys.read_text()) == {ready['access_key']: ready['secret_key']}
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
        assert running.stderr.read() == ''


def test_program_keeps_its_secret_unless_asked(environment, tmp_path):
    for options, shown in (((), False), (('--account',), True)):
        with serve(environment, tmp_path, *options) as running:
            said = [running.stdout.readline()]
            secret = next(iter(json.loads((tmp_path / 'keys.json').read_text()).values()))
            running.terminate()
            # Not by communicate(), which misses what came with the first line.
            said += [running.stdout.read(), running.stderr.read()]
        assert any(secret in text for text in said) == shown


def test_program_takes_keys_of_the_environment(environment, tmp_path):
    own = {'STORJ_S3_ACCESS_KEY': 'me', 'STORJ_S3_SECRET_KEY': 'my secret'}
    with serve({**environment, **own}, tmp_path, '--json') as running:
        ready = json.loads(running.stdout.readline())
        assert (ready['access_key'], ready['secret_key']) == ('me', 'my secret')
        assert not (tmp_path / 'keys.json').exists()
        running.terminate()
        assert running.wait(30) == 0
        running.communicate()
