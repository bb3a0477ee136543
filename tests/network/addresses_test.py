"""Nobody elsewhere makes a bridge or a farmer call its own machine, by whatever name."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from storj.network.node.addresses import comes_from_here, may_announce, may_call
from storj.network.node.identity import Identity
from storj.network.node.rpc import NodeContact, NodeUnreachableError
from storj.network.node.shard_client import ShardClient, ShardClientError
from storj.system.hosts import is_loopback
from tests.network.bridges import RunningBridge
from tests.network.nodes import SHARD, SHARD_HASH, run, site

ELSEWHERE = {'X-Forwarded-For': '203.0.113.7'}
Names = dict[str, list[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """What names lead to; each look-up takes the first of several answers away."""
    known: Names = {}
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host not in known:
            return real(host, port, *rest, **options)
        if not known[host]:
            raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')
        found = known[host][0] if len(known[host]) == 1 else known[host].pop(0)
        return [
            entry
            for ip in found.split()
            for entry in real(ip, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        ]

    monkeypatch.setattr(socket, 'getaddrinfo', look_up)
    return known


@pytest.mark.parametrize(
    ('address', 'local', 'allowed'),
    [
        ('127.0.0.1', True, True),
        ('localhost', True, True),
        ('169.254.1.1', True, True),
        ('10.0.0.7', False, True),
        ('farmer.example', False, True),
        ('127.0.0.1', False, False),
        ('127.8.9.1', False, False),
        ('::ffff:127.0.0.1', False, False),
        ('::1', False, False),
        ('LOCALHOST.', False, False),
        ('a.localhost', False, False),
        ('169.254.169.254', False, False),
        ('fe80::1', False, False),
        ('::ffff:169.254.169.254', False, False),
        ('0.0.0.0', True, False),
        ('::', True, False),
        ('224.0.0.1', True, False),
    ],
)
def test_address_of_the_machine_itself_is_called_for_those_on_it_only(
    address: str, local: bool, allowed: bool
) -> None:
    assert may_call(address, local=local) is allowed
    assert asyncio.run(may_announce(address, local=local)) is allowed


@pytest.mark.parametrize(
    ('leads_to', 'allowed'),
    [
        (['10.0.0.7'], True),
        (['10.0.0.7 2001:db8::1'], True),
        ([], True),
        (['127.0.0.1'], False),
        (['10.0.0.7 127.0.0.1'], False),
        (['::1'], False),
        (['169.254.169.254'], False),
    ],
)
def test_name_is_announced_by_what_it_leads_to(
    names: Names, leads_to: list[str], allowed: bool
) -> None:
    names['farmer.example'] = leads_to
    assert asyncio.run(may_announce('farmer.example', local=False)) is allowed
    assert asyncio.run(may_announce('farmer.example', local=True))


@pytest.mark.parametrize('host', ['localhost', 'x.localhost', '127.0.0.1', '127.9.9.9', '::1'])
def test_loopback_is_known_by_its_form(host: str) -> None:
    assert is_loopback(host)
    assert not is_loopback('localhost.example')


@pytest.mark.parametrize(
    ('remote', 'headers', 'here'),
    [
        ('127.0.0.1', {}, True),
        ('::1', {}, True),
        ('', {}, True),
        ('10.0.0.7', {}, False),
        ('127.0.0.1', ELSEWHERE, False),
        ('127.0.0.1', {'Forwarded': 'for=203.0.113.7'}, False),
    ],
)
def test_proxy_on_this_machine_brings_requests_from_elsewhere(
    remote: str, headers: dict[str, str], here: bool
) -> None:
    request = make_mocked_request('GET', '/', headers=headers).clone(remote=remote)
    assert comes_from_here(request) is here


def test_remote_farmer_cannot_announce_a_name_of_the_bridge(tmp_path: Path, names: Names) -> None:
    names['farmer.example'] = ['127.0.0.1']
    with RunningBridge(tmp_path) as bridge:
        node = bridge.farmer(address='10.0.0.7').identity
        path = f'/contacts/{node.node_id}'
        body = {'address': 'farmer.example'}
        refused = bridge.farmer_request(node, 'PATCH', path, body, ELSEWHERE)
        assert (refused.status, refused.error) == (
            400,
            'The bridge cannot reach a farmer at this address',
        )
        assert bridge.request('GET', path).json['address'] == '10.0.0.7'
        # On the bridge's own machine the name is as good as any.
        assert bridge.farmer_request(node, 'PATCH', path, body).status == 201
        assert bridge.request('GET', path).json['address'] == 'farmer.example'


@pytest.mark.parametrize('leads_to', ['127.0.0.1', '10.0.0.7 127.0.0.1', '::1'])
def test_name_that_leads_here_when_it_is_called_is_not_called(
    tmp_path: Path, names: Names, leads_to: str
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.store()
            own = here.farmer.contact()
            # What it was announced with is forgotten by now: a name server may say this and that.
            names['farmer.example'] = [leads_to]
            named = replace(own, address='farmer.example', local=False)
            with pytest.raises(NodeUnreachableError, match='must not be called'):
                await here.renter.ping(named)
            client = ShardClient()
            try:
                with pytest.raises(ShardClientError, match='must not be called'):
                    await client.pull(named, SHARD_HASH, token, len(SHARD), nothing)
            finally:
                await client.close()
            assert here.farmer.status()['counters'] == {'shard_uploaded': 1, 'bytes_received': 9}

    run(test)


def test_name_is_looked_up_once_for_a_call(tmp_path: Path, names: Names) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            # The first answer is harmless and the second is not: the call keeps to the first.
            names['farmer.example'] = ['192.0.2.1', '127.0.0.1']
            named = replace(here.farmer.contact(), address='farmer.example', local=False)
            with pytest.raises(NodeUnreachableError):
                await here.renter.calls.call(named, 'PING', timeout=0.2)
            assert names['farmer.example'] == ['127.0.0.1']

    run(test)


def test_farmer_calls_back_nobody_on_its_own_machine_for_others(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            called = asyncio.Event()

            async def note(request: web.Request) -> web.Response:
                called.set()
                return web.Response()

            async with serving(note) as port:
                identity = Identity.generate()
                contact = NodeContact('127.0.0.1', port, identity.node_id, '1.2.0')
                nonce = int(here.clock() * 1000)
                message = {
                    'method': 'PROBE',
                    'id': 'ab' * 20,
                    'params': {
                        'contact': contact.to_json(),
                        'nonce': nonce,
                        'signature': identity.sign_message(f'{"ab" * 20}{nonce}'),
                    },
                }
                async with here.session.post(
                    f'{here.url}/', json=message, headers=ELSEWHERE
                ) as answer:
                    error = (await answer.json())['error']['message']
                assert error == 'Probe failed, you are not addressable'
                assert not called.is_set()
                message['id'] = 'cd' * 20
                message['params']['signature'] = identity.sign_message(f'{"cd" * 20}{nonce}')  # type: ignore[index]
                async with here.session.post(f'{here.url}/', json=message) as answer:
                    assert answer.status == 200
                assert called.is_set()

    run(test)


@pytest.mark.parametrize('protocol', ['0.10.0', '1.2.0'])
def test_farmer_that_leads_on_is_not_followed(protocol: str) -> None:
    async def test() -> None:
        followed = asyncio.Event()

        async def lead_on(request: web.Request) -> web.Response:
            if request.path == '/private':
                followed.set()
                return web.Response()
            raise web.HTTPFound('/private')

        async with serving(lead_on) as port:
            farmer = NodeContact('127.0.0.1', port, 'a' * 40, protocol)
            client = ShardClient()
            try:
                with pytest.raises(ShardClientError, match='another address'):
                    await client.pull(farmer, SHARD_HASH, 'e' * 40, 9, nothing)
                with pytest.raises(ShardClientError):
                    await client.push(farmer, SHARD_HASH, 'e' * 40, SHARD)
            finally:
                await client.close()
        assert not followed.is_set()

    run(test)


@pytest.mark.parametrize(
    ('host', 'status'),
    [
        ('127.0.0.1:6382', 200),
        ('localhost', 200),
        ('LOCALHOST.:80', 200),
        ('[::1]:6382', 200),
        ('files.Example.org', 200),
        ('evil.example:6382', 403),
        ('127.0.0.1.evil.example', 403),
        ('10.0.0.7', 403),
        ('[', 403),
        ('', 403),
    ],
)
def test_page_with_a_name_that_leads_here_gets_nothing(
    tmp_path: Path, host: str, status: int
) -> None:
    with RunningBridge(tmp_path, hosts=('files.example.org',)) as bridge:
        for path in ('/', '/contacts', '/nowhere'):
            answer = bridge.request('GET', path, headers={'Host': host})
            assert answer.status == (404 if path == '/nowhere' and status == 200 else status)
            if status == 403:
                assert answer.error == 'The bridge is not known by this host name'
    with RunningBridge(tmp_path) as bridge:
        assert bridge.request('GET', '/contacts', headers={'Host': 'any.example'}).status == 200


async def nothing(piece: bytes) -> None:
    """Take a piece of a shard that never comes."""


class serving:
    """Serve every path by one handler, and return the port."""

    def __init__(self, handler: Callable[[web.Request], Any]) -> None:
        app = web.Application()
        app.router.add_route('*', '/{path:.*}', handler)
        self._runner = web.AppRunner(app)

    async def __aenter__(self) -> int:
        await self._runner.setup()
        await web.TCPSite(self._runner, '127.0.0.1', 0).start()
        return int(self._runner.addresses[0][1])

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
