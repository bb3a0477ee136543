"""Faults: how they are written, whom they meet and when, and what they do on the wire."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from storj.digest import shard_hash
from storj.network.faults import KINDS, Fault, FaultPlan
from storj.network.node.rpc import NodeError, NodeUnreachableError
from tests.network.nodes import SHARD, SHARD_HASH, pull, push, run, site

DATA = bytes(range(256)) * 1000
NAME = shard_hash(DATA)


@pytest.mark.parametrize(
    'spec',
    [
        'truncate:farmer=2,offset=1000',
        'delay:farmer=*,seconds=2.5,times=0',
        'status:route=PUT /frames,status=500,nth=3,times=2',
        'html:route=*,status=502',
        f'expire:farmer={"a" * 40},operation=pull',
        'refuse:farmer=0,operation=alloc',
    ],
)
def test_fault_is_written_as_it_is_read(spec: str) -> None:
    fault = Fault.parse(spec)
    assert Fault.parse(fault.spec()).spec() == fault.spec()
    kind, _, rest = spec.partition(':')
    assert fault.kind == kind
    for part in rest.split(','):
        name, _, text = part.partition('=')
        assert str(getattr(fault, name)) == text


@pytest.mark.parametrize(
    'spec',
    ['', 'explode', 'delay:seconds', 'delay:seconds=x', 'delay:kind=refuse', 'status:status=200',
     'delay:farmer=1,route=*', 'corrupt:route=*', 'truncate:operation=push', 'drop:nth=0',
     'drop:times=-1', 'drop:offset=-1', 'delay:seconds=nan', 'expire:operation=alloc',
     'drop:operation=dance', 'drop:_seen=3'],
)  # fmt: skip
def test_malformed_fault_is_a_value_error(spec: str) -> None:
    with pytest.raises(ValueError):
        Fault.parse(spec)


@given(st.text())
def test_no_text_makes_another_error(text: str) -> None:
    for spec in (text, f'delay:{text}', f'delay:farmer={text}'):
        try:
            Fault.parse(spec)
        except ValueError:
            continue


def test_fault_strikes_from_the_nth_matching_call_on() -> None:
    plan = FaultPlan(['drop:farmer=1,operation=pull,nth=2,times=2'])
    met = [
        bool(plan.at_farmer(number, 'x', operation))
        for number, operation in [
            (1, 'pull'), (0, 'pull'), (1, 'push'), (1, 'pull'), (1, 'pull'), (1, 'pull'),
        ]
    ]  # fmt: skip
    assert met == [False, False, False, True, True, False]


def test_fault_of_a_farmer_can_name_its_node_id() -> None:
    plan = FaultPlan([Fault('drop', farmer='b' * 40, times=0)])
    assert plan.at_farmer(3, 'b' * 40, 'push')
    assert not plan.at_farmer(3, 'c' * 40, 'push')
    assert not plan.at_farmer(3, 'b' * 40, 'alloc')


def test_fault_of_a_route_matches_method_and_beginning_of_the_path() -> None:
    plan = FaultPlan([Fault('status', route='PUT /frames', times=0)])
    assert plan.at_route('PUT', '/frames/abc')
    assert not plan.at_route('GET', '/frames/abc')
    assert not plan.at_route('PUT', '/buckets')
    assert FaultPlan([Fault('drop', route='*')]).at_route('GET', '/')
    assert FaultPlan([Fault('drop', route='/buckets')]).at_route('POST', '/buckets')


def test_faults_can_be_removed_again() -> None:
    plan = FaultPlan()
    first, second = plan.add('drop:times=0'), plan.add(Fault('stall', times=0))
    assert list(plan) == [first, second]
    plan.remove(first)
    plan.remove(first)
    assert list(plan) == [second]
    plan.clear()
    assert not plan.at_farmer(0, 'x', 'push')


def test_each_kind_is_described() -> None:
    assert set(KINDS) == {
        'refuse', 'delay', 'truncate', 'corrupt', 'drop', 'expire', 'stall', 'status', 'html',
    }  # fmt: skip


# --- on the farmer's wire


def test_http_downloads_fail_as_asked(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.store(DATA)

            async def get(spec: str) -> Any:
                here.faults.add(spec)
                return await here.get(token, NAME)

            assert await get('expire:operation=pull') == (401, {'result': 'Token has expired'})
            answer = await get('status:status=500,message=Broken')
            assert answer == (500, {'result': 'Broken'})
            here.faults.add('html:status=502')
            async with here.session.get(f'{here.url}/shards/{NAME}') as page:
                assert (page.status, page.content_type) == (502, 'text/html')
            # The client repeats a GET that got no answer, once.
            for fault in ('refuse:times=2', 'drop:offset=70000'):
                with pytest.raises(aiohttp.ClientError):
                    await get(fault)
            status, body = await get('corrupt:offset=100000')
            assert status == 200
            assert [i for i, (a, b) in enumerate(zip(body, DATA, strict=True)) if a != b] == [
                100000
            ]
            token = await here.renter.retrieve(here.farmer.contact(), NAME)
            assert await get('truncate:offset=1000') == (200, DATA[:1000])
            token = await here.renter.retrieve(here.farmer.contact(), NAME)
            assert await get('delay:seconds=0.01') == (200, DATA)

    run(test)


def test_stalled_download_moves_on_when_the_network_stops(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.store(DATA)
            here.faults.add('stall:offset=1000')
            url = f'{here.url}/shards/{NAME}'
            async with here.session.get(url, params={'token': token}) as answer:
                assert await answer.content.readexactly(1000) == DATA[:1000]
                here.faults.release()
                with pytest.raises(aiohttp.ClientPayloadError):
                    await answer.content.read()

    run(test)


def test_stall_ends_when_the_client_leaves(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.store(DATA)
            here.faults.add('stall:offset=0')
            url = f'{here.url}/shards/{NAME}'
            async with here.session.get(url, params={'token': token}):
                assert here.farmer.channels.active == 1
            while here.farmer.channels.active:
                await asyncio.sleep(0)

    run(test)


def test_web_socket_downloads_fail_as_asked(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:

            async def talk(spec: str) -> Any:
                contact = here.farmer.contact()
                token = await here.renter.retrieve(contact, NAME)
                here.faults.add(spec)
                return await here.talk(pull(token, NAME))

            await here.store(DATA)
            assert await talk('expire:operation=pull') == (3101, 'Token has expired', [])
            assert await talk('status:') == (1011, 'Service Unavailable', [])
            code, reason, received = await talk('truncate:offset=1000')
            assert (code, reason) == (1000, 'File transfer complete')
            assert received == [DATA[:1000]]
            code, _, received = await talk('drop:offset=140000')
            assert code == 1006
            assert len(b''.join(received)) <= 140000
            assert (await talk('refuse:'))[0] == 1006
            code, _, received = await talk('corrupt:offset=5')
            assert code == 1000
            assert shard_hash(b''.join(received)) != NAME

    run(test)


def test_uploads_fail_as_asked(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token()
            here.faults.add('corrupt:operation=push,offset=3')
            wrong = (400, {'result': 'Calculated hash does not match the expected result'})
            assert await here.post(SHARD, token) == wrong
            here.faults.add('expire:operation=push')
            assert await here.post(SHARD, token) == (401, {'result': 'Token has expired'})
            here.faults.add('drop:operation=push,offset=4')
            with pytest.raises(aiohttp.ClientError):
                await here.post(SHARD, token)
            here.faults.add('drop:operation=push,offset=4')
            assert (await here.talk(push(token), SHARD))[0] == 1006
            assert here.farmer.status()['shards'] == 0
            assert (await here.post(SHARD, token))[0] == 200

    run(test)


def test_calls_of_the_bridge_fail_as_asked(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            contact = here.farmer.contact()
            here.faults.add('refuse:operation=alloc')
            with pytest.raises(NodeUnreachableError):
                await here.alloc()
            here.faults.add('status:operation=alloc')
            with pytest.raises(NodeError, match='503'):
                await here.alloc()
            here.faults.add('truncate:operation=ping,offset=20')
            with pytest.raises(NodeError, match='Invalid RPC answer'):
                await here.renter.ping(contact)
            here.faults.add('drop:operation=ping,offset=20')
            with pytest.raises(NodeUnreachableError):
                await here.renter.ping(contact)
            await here.renter.ping(contact)

    run(test)


# --- at the bridge's routes


def test_middleware_fails_requests_as_asked() -> None:
    async def test() -> None:
        async def hello(request: web.Request) -> web.Response:
            return web.json_response({'hello': 'world'})

        plan = FaultPlan()
        app = web.Application(middlewares=[plan.middleware])
        app.router.add_get('/buckets', hello)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, '127.0.0.1', 0).start()
        url = f'http://127.0.0.1:{runner.addresses[0][1]}/buckets'
        async with aiohttp.ClientSession() as session:

            async def get(spec: str) -> tuple[int, str, str]:
                plan.add(spec)
                async with session.get(url) as answer:
                    return answer.status, answer.content_type, await answer.text()

            whole = (200, 'application/json', '{"hello": "world"}')
            assert await get('status:route=GET /buckets,status=500,message=No') == (
                500,
                'application/json',
                '{"error": "No"}',
            )
            status, kind, _ = await get('html:route=*')
            assert (status, kind) == (503, 'text/html')
            assert await get('delay:route=*,seconds=0.01') == whole
            assert await get('truncate:route=*,offset=5') == (200, 'application/json', '{"hel')
            # The client repeats a GET that got no answer, once.
            for fault in ('refuse:route=*,times=2', 'drop:route=*,offset=3'):
                with pytest.raises(aiohttp.ClientError):
                    await get(fault)
            assert await get('drop:farmer=*') == whole
            plan.add('stall:route=*,offset=3')
            waiting = asyncio.ensure_future(session.get(url))
            answer = await waiting
            assert await answer.content.readexactly(3) == b'{"h'
            plan.release()
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        await runner.cleanup()

    run(test)


def test_large_transfer_with_a_corrupt_byte_in_the_middle(tmp_path: Path) -> None:
    async def test() -> None:
        data = os.urandom(2_500_000)
        name = shard_hash(data)
        async with site(tmp_path) as here:
            token = await here.store(data)
            here.faults.add('corrupt:operation=pull,offset=2000000')
            status, body = await here.get(token, name)
            assert status == 200
            assert body[:2_000_000] == data[:2_000_000]
            assert body[2_000_000] == data[2_000_000] ^ 0xFF
            assert body[2_000_001:] == data[2_000_001:]
            assert SHARD_HASH not in here.farmer.store

    run(test)


def test_plan_follows_another_and_goes_on_counting() -> None:
    plan, follower = FaultPlan(), FaultPlan()
    changes: list[int] = []
    plan.listener = lambda: changes.append(len(list(plan)))

    def follow() -> None:
        follower.follow(json.loads(json.dumps(plan.state())))

    second = plan.add(Fault('drop', farmer='*', nth=2, message='a, b=c'))
    follow()
    assert not follower.at_farmer(0, 'a' * 40, 'pull')
    first = plan.add('delay:route=GET /,seconds=0')
    follow()
    assert [fault.fields() for fault in follower] == [second.fields(), first.fields()]
    assert follower.at_farmer(0, 'a' * 40, 'pull')
    assert not follower.at_farmer(0, 'a' * 40, 'pull')
    plan.remove(second)
    plan.remove(second)
    follow()
    assert [fault.kind for fault in follower] == ['delay']
    plan.clear()
    follow()
    assert list(follower) == []
    # A fault that came back is a new one.
    plan.add(second)
    follow()
    assert not follower.at_farmer(0, 'a' * 40, 'pull')
    assert follower.at_farmer(0, 'a' * 40, 'pull')
    assert changes == [1, 2, 1, 0, 1]


def test_stalls_end_in_all_plans_and_from_any_thread() -> None:
    plan, follower = FaultPlan(), FaultPlan()

    async def test() -> None:
        stalled = [asyncio.ensure_future(each.stall()) for each in (plan, follower)]
        await asyncio.sleep(0)
        follower.follow(plan.state())
        await asyncio.sleep(0)
        assert not any(task.done() for task in stalled)
        await asyncio.to_thread(plan.release)
        follower.follow(plan.state())
        await asyncio.wait_for(asyncio.gather(*stalled), 10)

    asyncio.run(test())
