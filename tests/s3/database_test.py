"""A gateway whose index is in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from botocore.exceptions import ClientError

from storj.http import Client
from storj.s3 import index
from storj.s3.server import GatewaySettings, in_background
from tests.network.postgresql import MissingError, frozen, postgresql
from tests.s3.conftest import client_of


@pytest.fixture(scope='module')
def server() -> Iterator[sa.URL]:
    try:
        with postgresql() as url:
            yield url
    except MissingError as error:
        pytest.skip(str(error))


def test_frozen_database_is_given_up_and_asked_again(
    server: sa.URL,
    new_client: Callable[[], Client],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index, 'PATIENCE', 1.0)
    url = server.render_as_string(hide_password=False)
    settings = GatewaySettings(tmp_path, port=0, database=url)
    with in_background(new_client(), settings) as gateway, client_of(gateway) as s3:
        s3.create_bucket(Bucket='frozen')
        s3.put_object(Bucket='frozen', Key='a', Body=b'content')
        with frozen(server), pytest.raises(ClientError) as caught:
            s3.head_object(Bucket='frozen', Key='a')
        assert caught.value.response['ResponseMetadata']['HTTPStatusCode'] == 503
        assert s3.get_object(Bucket='frozen', Key='a')['Body'].read() == b'content'
