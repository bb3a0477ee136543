"""A bridge with a certificate of its own."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest
import requests

from storj.exception import ConfigurationError
from storj.network.bridge_server import BridgeServer
from storj.network.metadisk.node import Settings as MetaDiskSettings
from storj.network.node.tls import client_of
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
        with pytest.raises(ConfigurationError, match=r'TLS with .*chain\.pem and .*key\.pem'):
            await bridge.start()
        await bridge.stop()

    run(test)
    with pytest.raises(ValueError, match='needs its certificate'):
        Endpoint(tls_key=key)
