"""A bridge behind a proxy: whose word about the client and its address counts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from storj.network import Network
from storj.network.bridge.state import BridgeSettings
from storj.network.bridge_server import _described
from storj.network.node.identity import Identity
from tests.network.bridges import RunningBridge

PUBLIC = 'https://storj.example'


def calls_until_refused(bridge: RunningBridge, addresses: list[str]) -> list[int]:
    """Ask for a reset from each address in turn, as a proxy passes it on."""
    return [
        bridge.request(
            'PATCH', '/users/a@example.org', {}, headers={'X-Forwarded-For': address}
        ).status
        for address in addresses
    ]


def test_client_of_a_trusted_proxy_is_counted_by_its_own_address(tmp_path: Path) -> None:
    with RunningBridge(
        tmp_path, trusted_proxies=['127.0.0.0/8', '192.0.2.9'], account_calls=1, mails=0
    ) as bridge:
        asked = calls_until_refused(
            bridge,
            [
                '203.0.113.1',
                # What the client claims stands before what the proxies saw.
                '198.51.100.7, 203.0.113.1',
                '203.0.113.1, 192.0.2.9',
                '203.0.113.2',
                'nonsense',
                '::1',
            ],
        )
    assert asked == [200, 429, 429, 200, 200, 200]


def test_stranger_does_not_choose_its_own_address(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, account_calls=1, mails=0) as bridge:
        asked = calls_until_refused(bridge, ['203.0.113.1', '203.0.113.2'])
    assert asked == [200, 429]


@pytest.mark.parametrize(
    ('headers', 'base'),
    [
        ({'Host': 'storj.example', 'X-Forwarded-Proto': 'https'}, PUBLIC),
        ({'X-Forwarded-Host': 'storj.example', 'X-Forwarded-Proto': 'https'}, PUBLIC),
        # The default of nginx: the farmer's host is lost on the way.
        ({}, PUBLIC),
        # The network's own farmers go past the proxy.
        ({}, None),
    ],
)
def test_farmer_signs_the_url_that_it_called(
    tmp_path: Path, headers: dict[str, str], base: str | None
) -> None:
    with RunningBridge(tmp_path, trusted_proxies=['127.0.0.1'], public_url=PUBLIC) as bridge:
        answer = bridge.farmer_request(
            Identity.generate(), 'POST', '/contacts/challenges', {}, headers, base=base
        )
    assert answer.status == 201


def test_refused_signature_names_the_urls_that_were_checked(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, public_url=PUBLIC) as bridge:
        answer = bridge.farmer_request(
            Identity.generate(), 'POST', '/contacts/challenges', {}, base='https://other.example'
        )
        seen = f'http://127.0.0.1:{bridge.port}/contacts/challenges'
    assert answer.status == 400
    assert answer.error == (
        f"Invalid signature header: it is not of POST '{seen}' or '{PUBLIC}/contacts/challenges'"
    )


def test_links_begin_with_the_public_address(tmp_path: Path) -> None:
    with RunningBridge(tmp_path, public_url=PUBLIC, activation='mail') as bridge:
        body = {'email': 'a@example.org', 'password': 'a' * 64}
        assert bridge.request('POST', '/users', body).status == 201
        (message,) = (tmp_path / 'outbox').iterdir()
    assert f'\n{PUBLIC}/activations/' in message.read_text()


@pytest.mark.parametrize('proxy', ['proxy.example', '10.0.0.0/99', ''])
def test_proxy_that_is_no_address_is_refused(tmp_path: Path, proxy: str) -> None:
    with pytest.raises(ValueError, match='a proxy is an IP address or a network'):
        BridgeSettings('sqlite://', tmp_path, trusted_proxies=[proxy])


@pytest.mark.parametrize('url', ['storj.example', 'ftp://storj.example', 'https://a/?b', 'http://'])
def test_public_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match='a public URL'):
        Network(public_url=url)


@pytest.mark.parametrize(
    ('host', 'family', 'only', 'words'),
    [
        ('127.0.0.1', socket.AF_INET, 0, '127.0.0.1'),
        ('0.0.0.0', socket.AF_INET, 0, 'all addresses of IPv4'),
        ('::', socket.AF_INET6, 0, 'all addresses of IPv6 and IPv4'),
        ('::', socket.AF_INET6, 1, 'all addresses of IPv6, none of IPv4'),
    ],
)
def test_listening_address_is_described_with_its_kinds(
    host: str, family: socket.AddressFamily, only: int, words: str
) -> None:
    with socket.socket(family) as unbound:
        if family == socket.AF_INET6:
            unbound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        assert _described(host, unbound) == words


def test_network_behind_a_proxy_works_for_both_sides(tmp_path: Path) -> None:
    import requests

    with Network(2, public_url=PUBLIC, data=tmp_path) as network:
        assert network.bridge_url == PUBLIC
        local = network.local_url
        # Its farmers have registered past the proxy, which does not exist here.
        assert len(requests.get(f'{local}/contacts', timeout=10).json()) == 2
        for origin, status in ((PUBLIC, 201), ('https://evil.example', 403)):
            answer = requests.post(
                f'{local}/api/upload',
                files={'file': ('a.txt', b'text')},
                headers={'Origin': origin},
                timeout=30,
            )
            assert answer.status_code == status
        for host, status in (('storj.example', 200), ('evil.example', 403)):
            answer = requests.get(f'{local}/contacts', headers={'Host': host}, timeout=10)
            assert answer.status_code == status
