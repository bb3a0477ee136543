"""A gateway over a network of its own."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

pytest.importorskip('awscrt', reason='awscrt is not installed')
boto3 = pytest.importorskip('boto3', reason='boto3 is not installed')

from botocore.auth import SigV4Auth  # noqa: E402
from botocore.awsrequest import AWSRequest  # noqa: E402
from botocore.config import Config  # noqa: E402
from botocore.credentials import Credentials  # noqa: E402

from storj.crypto import mnemonic  # noqa: E402
from storj.http import Client  # noqa: E402
from storj.network import Network  # noqa: E402
from storj.s3.server import Gateway, GatewaySettings, in_background  # noqa: E402


@pytest.fixture(scope='session')
def environment() -> Iterator[dict[str, str]]:
    """Settings of an account on a network of its own."""
    with Network(6, durable=False, bridge={'mirrors': 0, 'audit_interval': 0}) as network:
        yield {**network.environment(), 'STORJ_ENCRYPTION_KEY': mnemonic.generate()}


@pytest.fixture(scope='session')
def new_client(environment):
    """Return a function that makes clients of the account."""

    def make() -> Client:
        names = ('USER', 'PASS')
        email, password = (environment[f'STORJ_BRIDGE_{name}'] for name in names)
        key = environment['STORJ_ENCRYPTION_KEY']
        return Client(email, password, environment['STORJ_BRIDGE'], mnemonic=key)

    return make


@pytest.fixture(scope='session')
def gateway(new_client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp('gateway')
    with in_background(new_client(), GatewaySettings(folder, port=0)) as running:
        yield running


@contextlib.contextmanager
def client_of(gateway: Gateway, verify: str | None = None, **options: Any) -> Iterator[Any]:
    """Yield a client of boto3."""
    client = boto3.client(
        's3',
        endpoint_url=gateway.endpoint,
        aws_access_key_id=gateway.access_key,
        aws_secret_access_key=gateway.secret_key,
        region_name='us-east-1',
        config=Config(signature_version='s3v4', retries={'max_attempts': 1}, **options),
        verify=verify,
    )
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope='session')
def s3(gateway):
    with client_of(gateway) as client:
        yield client


@pytest.fixture
def bucket(s3):
    """Name of a new bucket."""
    name = f'b-{uuid.uuid4().hex}'
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def folder(gateway) -> Path:
    """Of the gateway."""
    return Path(gateway.folder)


@pytest.fixture
def send(gateway, bucket):
    """Function that signs and sends a request for an object of the bucket."""

    def sent(method, data=b'', address='x', **headers):
        signer = SigV4Auth(Credentials(gateway.access_key, gateway.secret_key), 's3', 'us-east-1')
        request = AWSRequest(method, f'{gateway.endpoint}/{bucket}/{address}', data=data)
        request.headers['x-amz-content-sha256'] = hashlib.sha256(data).hexdigest()
        for name, value in headers.items():
            request.headers[name.replace('_', '-')] = value
        signer.add_auth(request)
        # In UTF-8, as it was signed.
        signed = {name: text.encode() for name, text in request.headers.items()}
        return requests.request(method, request.url, data=data, headers=signed, timeout=30)

    return sent
