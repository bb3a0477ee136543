"""Which proxy a request goes through, by what arrives at real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storj import exception, http
from storj.metadisk import MetaDisk
from storj.rest import transport

from .http_loopback_test import QUICK, Server, sends, with_length

VARIABLES = ('HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY')


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def bridge() -> Iterator[Server]:
    with Server(sends(with_length(b'["bridge"]'))) as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[Server]:
    with Server(sends(with_length(b'["proxy"]'))) as server:
        yield server


def asked(bridge: Server, **options: Any) -> Any:
    """Return who answered a request to a bridge."""
    with http.Client(None, None, bridge.url, retries=QUICK, **options) as client:
        return client._request(method='GET', path='/x')[0]


def test_no_proxy_exempts_the_bridge_from_every_proxy(
    bridge: Server, proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    assert asked(bridge, proxy=proxy.url) == 'bridge'
    with http.Client(None, None, bridge.url, retries=QUICK) as client:
        client.session.proxies = {'http': proxy.url}
        assert client._request(method='GET', path='/x') == ['bridge']
    monkeypatch.setenv('HTTP_PROXY', proxy.url)
    assert asked(bridge) == 'bridge'
    assert proxy.heads == []


def test_no_proxy_is_not_read_where_the_environment_is_not(
    bridge: Server, proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    assert asked(bridge, proxy=proxy.url, trust_env=False) == 'proxy'
    monkeypatch.setenv('HTTP_PROXY', proxy.url)
    assert asked(bridge, trust_env=False) == 'bridge'


def test_given_proxy_goes_before_the_environments(
    bridge: Server, proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('HTTP_PROXY', 'http://127.0.0.1:9')
    assert asked(bridge, proxy=proxy.url) == 'proxy'
    with http.Client(None, None, bridge.url, retries=QUICK) as client:
        client.session.proxies = {'all': proxy.url}
        assert client._request(method='GET', path='/x') == ['proxy']


def test_proxy_of_the_environment_is_used_where_none_is_given(
    bridge: Server, proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('HTTP_PROXY', proxy.url)
    assert asked(bridge) == 'proxy'
    monkeypatch.setenv('NO_PROXY', 'other.test')
    assert asked(bridge) == 'proxy'


def test_environment_is_read_once_for_many_requests(
    bridge: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[dict[str, str]] = []

    def getproxies() -> dict[str, str]:
        read.append({})
        return read[-1]

    monkeypatch.setattr(transport, 'getproxies', getproxies)
    monkeypatch.setattr(transport, '_PROXIES_KEPT', float('inf'))
    transport._proxies_read.cache_clear()
    assert [asked(bridge) for _ in range(3)] == ['bridge'] * 3
    assert len(read) == 1
    transport._proxies_read.cache_clear()


def test_proxy_that_appears_in_the_environment_counts_at_once(
    bridge: Server, proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked(bridge) == 'bridge'
    monkeypatch.setenv('HTTP_PROXY', proxy.url)
    assert asked(bridge) == 'proxy'


def test_proxy_without_a_scheme_is_one_of_http(bridge: Server, proxy: Server) -> None:
    assert asked(bridge, proxy=proxy.url.removeprefix('http://').rstrip('/')) == 'proxy'


def test_metadisk_goes_through_the_same_proxies(
    bridge: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(sends(with_length(b'{"token": "through"}'))) as proxy:
        with MetaDisk(bridge.url, proxy=proxy.url) as node:
            assert node.token_new() == 'through'
        monkeypatch.setenv('NO_PROXY', '127.0.0.1')
        with (
            MetaDisk(bridge.url, proxy=proxy.url) as node,
            pytest.raises(exception.BridgeUnavailableError, match='bridge'),
        ):
            node.token_new()


# -- proxies that are none -------------------------------------------------------------------------

MALFORMED = ['http://', 'http://[::1', 'ftp://127.0.0.1:1', 'http://u:s3cret@:1', 'http://h:99999']


@pytest.mark.parametrize('url', [*MALFORMED, 'http://a b:1', 'socks9://h:1'])
def test_malformed_proxy_is_refused_before_anything_is_sent(url: str) -> None:
    for make in (http.Client, lambda *_, **options: MetaDisk('http://127.0.0.1', **options)):
        with pytest.raises(ValueError, match='the URL of the proxy is malformed') as caught:
            make(None, None, proxy=url)
        assert 's3cret' not in str(caught.value)


@pytest.mark.parametrize('url', MALFORMED)
def test_malformed_proxy_of_the_environment_is_not_laid_to_the_bridge(
    url: str, bridge: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('HTTP_PROXY', url)
    with pytest.raises(exception.ConfigurationError, match='HTTP_PROXY') as caught:
        asked(bridge)
    assert 'the URL of the proxy is malformed' in str(caught.value)
    assert 's3cret' not in str(caught.value)
    assert bridge.heads == []


def test_socks_proxy_names_the_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    find = transport.importlib.util.find_spec
    monkeypatch.setattr(
        transport.importlib.util, 'find_spec', lambda name: None if name == 'socks' else find(name)
    )
    with pytest.raises(exception.ConfigurationError, match=r'pip install "storj\[socks\]"'):
        http.Client(None, None, 'http://127.0.0.1', proxy='socks5://127.0.0.1:1')


def socks(answer: bytes) -> Callable[[socket.socket, threading.Event], object]:
    """Return what speaks SOCKS 5 and then answers the request that comes through."""

    def talk(connection: socket.socket, stop: threading.Event) -> None:
        connection.recv(64)
        connection.sendall(b'\x05\x00')
        connection.recv(64)
        connection.sendall(b'\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00')
        connection.recv(65536)
        connection.sendall(answer)

    return talk


def test_socks_proxy_is_used_where_its_package_is_installed(bridge: Server) -> None:
    pytest.importorskip('socks')
    listener = socket.create_server(('127.0.0.1', 0))
    talk = socks(with_length(b'["socks"]', b'Connection: close\r\n'))

    def accept() -> None:
        with listener, listener.accept()[0] as connection:
            talk(connection, threading.Event())

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        url = f'socks5://127.0.0.1:{listener.getsockname()[1]}'
        assert asked(bridge, proxy=url) == 'socks'
    finally:
        thread.join()
    assert bridge.heads == []


def test_proxy_that_is_not_there_is_named_as_the_cause(bridge: Server) -> None:
    with pytest.raises(exception.BridgeUnreachableError, match='the proxy'):
        asked(bridge, proxy='http://127.0.0.1:9')
    assert bridge.heads == []


@pytest.mark.parametrize('variable', ['REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'])
@pytest.mark.parametrize(('trust', 'reason'), [(True, 'certificates'), (False, 'refused')])
def test_certificates_are_those_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, trust: bool, reason: str
) -> None:
    for name in ('REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / 'missing.pem'))
    with (
        http.Client(None, None, 'https://127.0.0.1:1', retries=QUICK, trust_env=trust) as client,
        pytest.raises(exception.BridgeUnreachableError, match=reason),
    ):
        client.info()
