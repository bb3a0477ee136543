"""A farmer whose shards lie in a bucket, and a bucket that fails in every way a network knows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from storj.digest import shard_hash
from storj.exception import NetworkSetupError
from storj.network.farmer import farmer as farmer_module
from storj.network.farmer.scrub import Scrub
from storj.network.farmer.settings import FarmerSettings
from storj.network.farmer.store import NoSpaceLeftError, StoreError
from storj.network.farmer.store import objects as module
from storj.network.farmer.store.objects import ObjectStore
from storj.network.node.rpc import NodeError
from tests.network.nodes import DAY, SHARD, SHARD_HASH, Site, push, run, site
from tests.network.weed import ENVIRONMENT, Line, Weed

OTHER = b'another shard'
LARGE = os.urandom(20 * 2**20 + 5)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in the environment, and time limits that a test can wait for."""
    for item in ENVIRONMENT.items():
        monkeypatch.setenv(*item)
    for name, seconds in (('QUESTION_LIMIT', 2.0), ('DATA_LIMIT', 4.0), ('PAUSE', 0.1)):
        monkeypatch.setattr(module, name, seconds)
    monkeypatch.setattr(farmer_module, 'WATCH_INTERVAL', 0.1)


def in_bucket(weed: Weed, url: str | None = None) -> dict[str, Any]:
    url = url or f's3://farms/{uuid.uuid4()}'
    return {'store': url, 'endpoint': weed.endpoint, 'size': 10**9}


def bucket_of(here: Site) -> ObjectStore:
    store = here.farmer.store._store
    assert isinstance(store, ObjectStore)
    return store


async def in_thread(work: Any, *args: Any) -> Any:
    return await asyncio.to_thread(work, *args)


def keys(store: ObjectStore) -> list[tuple[str, str]]:
    return sorted((place, name) for place, name, _ in store.listing())


async def until_well(here: Site) -> None:
    while here.farmer.status()['problems']:
        await asyncio.sleep(0.05)


def test_shards_are_stored_read_proved_and_still_there_after_a_restart(
    tmp_path: Path, weed: Weed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with site(tmp_path, **in_bucket(weed)) as here:
            assert await here.get(await here.store()) == (200, SHARD)
            token = await here.store(LARGE)
            answer = await here.talk(push(await here.push_token(OTHER), shard_hash(OTHER)), OTHER)
            assert answer == (1000, 'Consignment completed', [])
            assert (await here.post(SHARD, await here.push_token()))[0] == 304
            used = here.farmer.status()['used']
            assert used == len(SHARD) + len(OTHER) + len(LARGE)
            await here.farmer.stop()
            # A bucket of millions is not listed.
            with monkeypatch.context() as started:
                started.setattr(ObjectStore, 'listing', None)
                await here.farmer.start()
            assert here.farmer.status()['used'] == used
            assert not (tmp_path / 'shards').exists()
            contact = here.farmer.contact()
            token = await here.renter.retrieve(contact, shard_hash(LARGE))
            assert await here.get(token, shard_hash(LARGE)) == (200, LARGE)
            (proof,) = await here.renter.audit(
                contact, [(SHARD_HASH, here.challenges[SHARD_HASH][0])]
            )
            assert proof

    run(test)


def test_wrong_bytes_and_cut_uploads_leave_nothing(tmp_path: Path, weed: Weed) -> None:
    async def test() -> None:
        async with site(tmp_path, **in_bucket(weed)) as here:
            name = shard_hash(LARGE)
            wrong = LARGE[:-1] + bytes([LARGE[-1] ^ 1])
            status, answer = await here.post(wrong, await here.push_token(LARGE), name)
            assert (status, 'hash does not match' in answer['result']) == (400, True)
            sent = asyncio.Event()

            async def half() -> AsyncIterator[bytes]:
                yield LARGE[: 18 * 2**20]
                sent.set()
                await asyncio.Event().wait()

            upload = asyncio.ensure_future(here.post(half(), await here.push_token(LARGE), name))
            await sent.wait()
            upload.cancel()
            while here.farmer.channels.active or here.farmer.store.arriving:
                await asyncio.sleep(0.01)
            store = bucket_of(here)
            assert await in_thread(keys, store) == []
            while await in_thread(unfinished, weed, store):
                await asyncio.sleep(0.05)
            assert store._memory == module._MEMORY
            assert (await here.post(LARGE, await here.push_token(LARGE)))[0] == 200

    run(test)


def unfinished(weed: Weed, store: ObjectStore) -> list[Any]:
    boto3 = pytest.importorskip('boto3')
    client = boto3.client('s3', endpoint_url=weed.endpoint)
    prefix = store._url.removeprefix('s3://farms/')
    found: list[Any] = client.list_multipart_uploads(Bucket='farms', Prefix=prefix).get(
        'Uploads', []
    )
    return found


def test_walk_finds_objects_that_are_gone_or_wrong(tmp_path: Path, weed: Weed) -> None:
    async def test() -> None:
        async with site(tmp_path, **in_bucket(weed)) as here:
            await here.store()
            await here.store(OTHER)
            store = bucket_of(here)
            await in_thread(store.put, f'stored/{SHARD_HASH}', b'testshare')
            await in_thread(store.delete, shard_hash(OTHER), 'stored')
            walk = Scrub(here.farmer.shards, here.farmer.index, 1e9, 0, here.clock.monotonic)
            assert await walk.walk() == 2
            assert await in_thread(keys, store) == [('bad', SHARD_HASH)]
            assert {name for name, _ in here.farmer.index.bad()} == {SHARD_HASH, shard_hash(OTHER)}
            assert (await here.post(SHARD, await here.push_token()))[0] == 200

    run(test)


def test_dropped_shard_is_taken_back_even_if_its_drop_was_cut_off(
    tmp_path: Path, weed: Weed
) -> None:
    async def test() -> None:
        async with site(tmp_path, **in_bucket(weed)) as here:
            await here.store()
            await here.store(OTHER)
            store = bucket_of(here)
            await here.farmer.shards.drop(SHARD_HASH, DAY)
            assert ('ended', SHARD_HASH) in await in_thread(keys, store)
            # Moved, and the farmer ended before it wrote that down.
            await in_thread(store.move, shard_hash(OTHER), 'stored', 'ended')
            await here.farmer.stop()
            await here.farmer.start()
            for data in (SHARD, OTHER):
                name = shard_hash(data)
                token = await here.renter.retrieve(here.farmer.contact(), name)
                assert await here.get(token, name) == (200, data)
            assert here.farmer.index.bad() == []

    run(test)


def test_object_that_the_index_does_not_know_is_adopted(tmp_path: Path, weed: Weed) -> None:
    async def test() -> None:
        async with site(tmp_path, **in_bucket(weed)) as here:
            await in_thread(bucket_of(here).put, f'stored/{SHARD_HASH}', SHARD)
            walk = Scrub(here.farmer.shards, here.farmer.index, 1e9, 0, here.clock.monotonic)
            assert await walk.walk() == 0
            assert here.farmer.index.shards() == {SHARD_HASH: len(SHARD)}
            assert here.farmer.status()['used'] == len(SHARD)

    run(test)


# ---------------------------------------------------------------- a store that fails


@pytest.mark.parametrize('how', ['hang', 'cut'])
def test_store_that_goes_away_is_refused_in_time_and_used_again(
    tmp_path: Path, weed: Weed, how: str
) -> None:
    async def test() -> None:
        line = Line(weed.ports['s3'])
        await line.connect()
        settings = {**in_bucket(weed), 'endpoint': line.endpoint}
        async with site(tmp_path, **settings) as here:
            fetch = await here.store()
            tokens = [await here.push_token(data) for data in (OTHER, LARGE)]
            if how == 'hang':
                weed.hang()
            else:
                await line.cut()
            try:
                uploads = [
                    here.post(data, token)
                    for data, token in zip((OTHER, LARGE), tokens, strict=True)
                ]
                answers = await asyncio.wait_for(asyncio.gather(*uploads, here.get(fetch)), 15)
                assert {status for status, _ in answers} == {500}
                assert all('does not answer' in answer['result'] for _, answer in answers)
                assert not here.farmer._has_space()
                assert 'the store cannot be used' in str(here.farmer.status()['problems'])
                with pytest.raises(NodeError, match='does not answer'):
                    await here.renter.retrieve(here.farmer.contact(), SHARD_HASH)
            finally:
                if how == 'hang':
                    weed.resume()
                else:
                    await line.connect()
            await until_well(here)
            assert here.farmer._has_space()
            # Nothing was lost, and nobody was told so.
            assert here.farmer.index.bad() == []
            token = await here.renter.retrieve(here.farmer.contact(), SHARD_HASH)
            assert await here.get(token) == (200, SHARD)
            assert (await here.post(OTHER, await here.push_token(OTHER)))[0] == 200
        await line.cut()

    run(test)


def test_event_loop_goes_on_while_the_store_hangs(tmp_path: Path, weed: Weed) -> None:
    async def test() -> None:
        async with site(tmp_path, **in_bucket(weed)) as here:
            fetch = await here.store()
            weed.hang()
            try:
                hanging = asyncio.ensure_future(here.get(fetch))
                async with here.session.get(f'{here.url}/health') as answer:
                    assert answer.status in (200, 503)
                assert not hanging.done()
                assert (await hanging)[0] == 500
            finally:
                weed.resume()
            await until_well(here)

    run(test)


def test_bucket_that_lost_everything_is_no_loss_of_each_shard(tmp_path: Path, weed: Weed) -> None:
    async def test() -> None:
        async with site(tmp_path, **in_bucket(weed)) as here:
            await here.store()
            store = bucket_of(here)
            for key in ('farmer', f'stored/{SHARD_HASH}'):
                await in_thread(store._api.delete, store._quick, key)
            with pytest.raises(NodeError, match='lost everything'):
                await here.renter.retrieve(here.farmer.contact(), SHARD_HASH)
            assert here.farmer.index.bad() == []
            await here.farmer.stop()
            with pytest.raises(NetworkSetupError, match='nothing was ever stored here'):
                await here.farmer.start()

    run(test)


def test_prefix_of_another_farmer_is_refused(tmp_path: Path, weed: Weed) -> None:
    async def test() -> None:
        settings = in_bucket(weed)
        async with site(tmp_path / 'a', **settings):
            with pytest.raises(NetworkSetupError, match='belongs to another farmer'):
                async with site(tmp_path / 'b', **settings):
                    pass

    run(test)


def test_wrong_credentials_are_told_at_the_start(
    tmp_path: Path, weed: Weed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', 'another-secret')

    async def test() -> None:
        with pytest.raises(NetworkSetupError, match='refuses the credentials') as caught:
            async with site(tmp_path, **in_bucket(weed)):
                pass
        assert 'another-secret' not in str(caught.value)

    run(test)


@contextlib.asynccontextmanager
async def answering(status: int, code: str) -> AsyncIterator[str]:
    """Serve an S3 that reads nothing and refuses every write, as one over its quota does."""

    async def answer(request: web.Request) -> web.Response:
        if request.method in ('GET', 'HEAD'):
            return web.Response(status=404)
        return web.Response(status=status, text=f'<Error><Code>{code}</Code></Error>')

    app = web.Application()
    app.router.add_route('*', '/{path:.*}', answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', 0).start()
    try:
        yield f'http://127.0.0.1:{runner.addresses[0][1]}'
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ('status', 'code', 'kind', 'text'),
    [
        (403, 'QuotaExceeded', NoSpaceLeftError, 'No space left'),
        (507, 'InsufficientStorage', NoSpaceLeftError, 'No space left'),
        (404, 'NoSuchBucket', StoreError, 'bucket does not exist'),
        (403, 'AccessDenied', StoreError, 'refuses the credentials'),
    ],
)
def test_store_that_takes_no_writes_is_told_from_one_that_is_away(
    status: int, code: str, kind: type[StoreError], text: str
) -> None:
    async def test() -> None:
        async with answering(status, code) as endpoint:
            store = ObjectStore('s3://full', endpoint)

            def write() -> None:
                upload = store.create(SHARD_HASH, len(SHARD))
                try:
                    upload.write(SHARD)
                    upload.commit()
                finally:
                    upload.abort()

            with pytest.raises(kind, match=text):
                await in_thread(write)
            # No more space is offered for now; reading is not refused.
            with pytest.raises(StoreError):
                store.free()
            assert not store._away.reason

    run(test)


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        ({'store': 's3://key:secret@bucket'}, 'environment'),
        ({'store': 's3://'}, 's3://BUCKET'),
        ({'store': 'ftp://bucket'}, 's3://BUCKET'),
        ({'store': 's3://bucket'}, 'needs a size'),
        ({'store': 's3://bucket', 'size': 1, 'endpoint': 'host:80'}, 'http://HOST'),
        ({'endpoint': 'http://host'}, 'object store'),
    ],
)
def test_settings_that_make_no_store_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        FarmerSettings(Path('x'), **settings)


def test_store_without_credentials_says_where_they_belong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv('AWS_ACCESS_KEY_ID')
    monkeypatch.setattr(module.importlib.util, 'find_spec', lambda name: name != 'boto3' or None)
    with pytest.raises(NetworkSetupError, match='AWS_ACCESS_KEY_ID'):
        ObjectStore('s3://bucket')
