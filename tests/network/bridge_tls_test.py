"""A bridge with a certificate of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
import requests

from storj.exception import ConfigurationError
from storj.network.bridge.app import TASKS
from storj.network.bridge_server import BridgeServer
from storj.network.metadisk.node import Settings as MetaDiskSettings
from storj.network.node.tls import Certificate, client_of
from storj.network.program import serving
from storj.network.settings import Endpoint
from tests.network.nodes import run
from tests.s3.certificates import certificate


def pair(folder: Path) -> tuple[Path, Path]:
    """Return the files of a new certificate and its key."""
    folder.mkdir()
    paths = folder / 'chain.pem', folder / 'key.pem'
    for path, content in zip(paths, certificate(), strict=True):
        path.write_bytes(content)
    return paths


def server(folder: Path, cert: Path, key: Path | None) -> BridgeServer:
    settings = {'database_url': f'sqlite:///{folder / "bridge.db"}', 'data_dir': folder}
    endpoint = Endpoint(port=0, tls_cert=cert, tls_key=key)
    return BridgeServer(endpoint, b'seed' * 8, settings, MetaDiskSettings())


def test_bridge_encrypts_and_its_node_trusts_its_certificate_only(tmp_path: Path) -> None:
    cert, key = pair(tmp_path / 'own')
    other, _ = pair(tmp_path / 'other')

    async def ask(url: str, trusted: Path) -> str:
        connector = aiohttp.TCPConnector(ssl=client_of(trusted))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f'{url}/ready') as answer,
        ):
            return (await answer.json())['status']  # type: ignore[no-any-return]

    async def test() -> None:
        bridge = server(tmp_path, cert, key)
        try:
            await bridge.start()
            assert bridge.url.startswith('https://127.0.0.1:')
            assert await ask(bridge.local_url, cert) == 'ok'
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await ask(bridge.local_url, other)
            by_name = bridge.url.replace('127.0.0.1', 'localhost')
            answer = await asyncio.to_thread(
                requests.get, f'{by_name}/health', verify=str(cert), timeout=30
            )
            assert answer.status_code == 200
        finally:
            await bridge.stop()

    run(test)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes | None:
    """Return the certificate that a client gets, if it trusts it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (asking, answering, asking):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return asking.getpeercert(binary_form=True)


def replace(here: tuple[Path, Path], others: tuple[Path, Path]) -> None:
    for path, other in zip(here, others, strict=True):
        other.replace(path)


def test_certificate_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    here, later = pair(tmp_path / 'own'), pair(tmp_path / 'later')
    certificate = Certificate(*here)
    before = shake_hands(certificate.server, certificate.client)
    assert not certificate.renew()
    later[0].replace(here[0])
    # The key has not arrived yet.
    with pytest.raises(ConfigurationError, match='the key belongs to another certificate'):
        certificate.renew()
    assert shake_hands(certificate.server, certificate.client) == before
    later[1].replace(here[1])
    assert certificate.renew()
    after = shake_hands(certificate.server, certificate.client)
    assert after == ssl.PEM_cert_to_DER_cert(here[0].read_text())
    assert after != before
    here[1].unlink()
    with pytest.raises(ConfigurationError, match='No such file'):
        certificate.renew()
    assert shake_hands(certificate.server, certificate.client) == after


def test_bridge_serves_with_the_new_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('storj.network.node.tls.LOOK_EVERY', 0.01)
    here, later = pair(tmp_path / 'own'), pair(tmp_path / 'later')

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.01)

    async def test() -> None:
        bridge = server(tmp_path, *here)
        try:
            await bridge.start()
            assert bridge.app is not None
            troubles = bridge.app[TASKS].troubles
            port = int(bridge.url.rpartition(':')[2])
            here[1].write_text('no key')
            await until(lambda: bool(troubles))
            assert 'no private key in PEM' in troubles['the renewal of the certificate']
            replace(here, later)
            await until(lambda: not troubles)
            shown = await asyncio.to_thread(ssl.get_server_certificate, ('127.0.0.1', port))
            assert shown == here[0].read_text()
        finally:
            await bridge.stop()

    run(test)


@pytest.mark.skipif(not hasattr(signal, 'SIGHUP'), reason='this system has no SIGHUP')
def test_sign_of_a_renewal_ends_no_server() -> None:
    with serving(survives_hangup=True) as stopped:
        assert callable(signal.getsignal(signal.SIGHUP))
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stopped.is_set()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_certificate_after_the_first_is_not_trusted(tmp_path: Path) -> None:
    (cert, _), (other, _) = pair(tmp_path / 'own'), pair(tmp_path / 'other')
    cert.write_bytes(cert.read_bytes() + other.read_bytes())
    context = client_of(cert)
    (only,) = context.get_ca_certs(binary_form=True)
    first = cert.read_text().partition('-----END CERTIFICATE-----')
    assert only == ssl.PEM_cert_to_DER_cert(''.join(first[:2]) + '\n')


def test_key_of_another_certificate_is_an_error(tmp_path: Path) -> None:
    (cert, _), (_, key) = pair(tmp_path / 'own'), pair(tmp_path / 'other')

    async def test() -> None:
        bridge = server(tmp_path, cert, key)
        with pytest.raises(ConfigurationError, match=r'TLS: .*key\.pem: the key belongs'):
            await bridge.start()
        await bridge.stop()

    run(test)
    with pytest.raises(ValueError, match='needs its certificate'):
        Endpoint(tls_key=key)
