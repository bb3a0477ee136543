"""Large objects that are read range by range."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

pytest.importorskip('awscrt', reason='awscrt is not installed')

from storj.exception import NotEnoughShardsError
from storj.s3.blocks import Blocks
from storj.s3.errors import S3Error
from storj.s3.spool import Spool
from storj.s3.store import Store

SIZE = 5 * 1024 * 1024
STEP = 512 * 1024


@pytest.fixture
def fetched(monkeypatch):
    """Ranges that the gateway fetches for blocks."""
    found, fetch = [], Store._fetch

    async def noted(self, obj, start, end, writer):
        found.append((start, end))
        await fetch(self, obj, start, end, writer)

    monkeypatch.setattr(Store, '_fetch', noted)
    return found


def read(s3, at, start, end):
    return s3.get_object(**at, Range=f'bytes={start}-{end - 1}')['Body'].read()


def test_ranges_of_an_object_fetch_each_shard_once(s3, bucket, fetched):
    at = {'Bucket': bucket, 'Key': 'x'}
    for data in (os.urandom(SIZE), os.urandom(SIZE)):
        # The second time it replaces what is kept, with the same size and id.
        s3.put_object(**at, Body=data)
        with ThreadPoolExecutor(5) as pool:
            found = pool.map(lambda start: read(s3, at, start, start + STEP), range(0, SIZE, STEP))
            assert b''.join(found) == data
        # Over the border of two shards.
        assert read(s3, at, 2 * 1024**2 - 5, 2 * 1024**2 + 5) == data[2097147:2097157]
        assert len(fetched) == 3
        fetched.clear()


def test_range_of_whole_shards_is_not_kept(s3, bucket, fetched):
    at = {'Bucket': bucket, 'Key': 'x'}
    data = os.urandom(SIZE)
    s3.put_object(**at, Body=data)
    assert read(s3, at, 0, 4 * 1024**2) == data[: 4 * 1024**2]
    assert fetched == []


def test_object_that_breaks_off_ends_the_connection(s3, bucket, monkeypatch):
    at = {'Bucket': bucket, 'Key': 'x'}
    s3.put_object(**at, Body=b'0123456789')

    async def broken(self, found, start, end):
        yield b'01234'
        raise NotEnoughShardsError('lost', 1, 2)

    monkeypatch.setattr(Store, '_streamed', broken)
    url = s3.generate_presigned_url('get_object', Params=at)
    with requests.get(url, stream=True, timeout=30) as found:
        assert found.status_code == 200
        # An error of S3 would be taken for the rest of the object.
        assert found.raw.read(5) == b'01234'
        with pytest.raises(Exception, match=r'IncompleteRead|reset'):
            found.raw.read()


def test_blocks_give_way_to_new_ones(tmp_path):
    # For two of ten bytes, each with a counter in front.
    spool = Spool(tmp_path / 'spool', b'0' * 32, 60)
    fetched = []

    async def work():
        kept = Blocks(spool)

        async def content(number, fail=False):
            async def fetch(writer):
                fetched.append(number)
                writer.write(b'%d' % number * 10)
                if fail:
                    raise S3Error('InternalError')

            async with kept.opened(('x', number), 10, fetch) as source:
                return source.read()

        with pytest.raises(S3Error):
            await content(1, fail=True)
        assert spool.has_space(44)
        for number in (1, 2, 1, 3, 1, 2):
            assert await content(number) == b'%d' % number * 10
        await kept.close()

    asyncio.run(work())
    # The one that was read last stays.
    assert fetched == [1, 1, 2, 3, 2]
    assert list((tmp_path / 'spool').iterdir()) == []
    assert spool.has_space(44)
