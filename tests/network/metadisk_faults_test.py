"""The node when it charges, is full, is asked too much, or its farmers and bridge fail."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import select
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

pytest.importorskip('aiohttp')

from storj.exception import (
    BridgeUnavailableError,
    BridgeUnreachableError,
    NotFoundError,
    PaymentRequiredError,
    StorjBridgeApiError,
    StorjError,
)
from storj.metadisk import MetaDisk
from storj.network import Fault, Network

GIBIBYTE = 1024**3
SHARD = 4 * 1024 * 1024


def content_of(size: int) -> bytes:
    return (bytes(range(1, 252)) * (size // 251 + 1))[:size]


@pytest.fixture(scope='module')
def network() -> Iterator[Network]:
    settings = {'max_file_size': 3 * SHARD, 'capacity': 6 * SHARD, 'requests_per_minute': 100_000}
    with Network(farmers=3, charge=True, metadisk=settings) as network:
        yield network


@pytest.fixture
def node(network: Network) -> Iterator[MetaDisk]:
    network.faults.clear()
    with MetaDisk(network.bridge_url) as node:
        node.redeem('PLEASE', node.token_new())
        yield node
    network.faults.clear()


def download(node: MetaDisk, reference: str, **options: object) -> bytes:
    output = io.BytesIO()
    node.download(reference, output, **options)
    return output.getvalue()


def wait_for_mirrors(network: Network) -> None:
    """Wait until every shard of the newest file lies on all three farmers."""
    kept = json.loads((network.data / 'metadisk' / 'node.json').read_text())
    account = (kept['email'], hashlib.sha256(kept['password'].encode()).hexdigest())
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        status = requests.get(f'{network.bridge_url}/status', auth=account, timeout=10).json()
        shards = status['files'][0]['shards']
        if all(sum(farmer['stored'] for farmer in shard['farmers']) == 3 for shard in shards):
            return
    raise AssertionError('no mirrors')


def test_upload_costs_four_times_and_download_once(node: MetaDisk) -> None:
    reference = node.upload(b'x' * 1000)
    assert node.balance() == GIBIBYTE - 4000
    assert node.upload(b'x' * 1000) == reference
    assert node.balance() == GIBIBYTE - 8000
    assert download(node, reference) == b'x' * 1000
    assert node.balance() == GIBIBYTE - 9000
    filehash = reference.partition('?')[0]
    path = f'{node.url}/api/download/{filehash}?token={node.token}'
    requests.get(path, headers={'Range': 'bytes=0-99'}, timeout=10)
    assert node.balance() == GIBIBYTE - 9100
    requests.head(path, timeout=10)
    known = requests.get(path, headers={'If-None-Match': f'"{filehash}"'}, timeout=10)
    assert known.status_code == 304
    node.find(filehash)
    node.status()
    assert node.balance() == GIBIBYTE - 9100


def test_too_little_balance_takes_nothing(network: Network, node: MetaDisk) -> None:
    reference = node.upload(b'y' * 100)
    poor = MetaDisk(network.bridge_url)
    poor.token_new()
    with pytest.raises(PaymentRequiredError) as caught:
        poor.upload(b'z' * 100)
    assert caught.value.message == 'balance-insufficient'
    for token in ('', f'&token={poor.token}'):
        answer = requests.get(f'{network.bridge_url}/api/download/{reference}{token}', timeout=10)
        assert (answer.status_code, answer.json()) == (402, {'error': 'balance-insufficient'})
    assert poor.balance() == 0
    answer = requests.post(
        f'{network.bridge_url}/api/upload', files={'file': ('a', b'no token')}, timeout=10
    )
    assert (answer.status_code, answer.json()) == (402, {'error': 'balance-insufficient'})
    assert requests.get(f'{network.bridge_url}/api/node', timeout=10).json() == {'charging': True}


@pytest.mark.parametrize('fault', ['refuse', 'drop', 'corrupt', 'expire'])
def test_upload_goes_to_other_farmers(network: Network, node: MetaDisk, fault: str) -> None:
    content = content_of(70_000) + fault.encode()
    network.faults.add(Fault(fault, operation='push', offset=500))
    assert download(node, node.upload(content)) == content


def test_upload_without_any_farmer_is_refunded(network: Network, node: MetaDisk) -> None:
    before = node.balance()
    network.faults.add(Fault('status', route='PUT /frames', times=0))
    with pytest.raises(BridgeUnavailableError) as caught:
        node.upload(b'nobody takes this')
    assert (caught.value.code, caught.value.message) == (500, 'upload-error')
    assert json.loads(str(caught.value))['reason'] == 'farmers-failed'
    assert node.balance() == before
    network.faults.clear()
    # What was left half done is no obstacle.
    assert download(node, node.upload(b'nobody takes this')) == b'nobody takes this'


def test_entry_without_record_is_replaced(network: Network, node: MetaDisk) -> None:
    # The bridge has made the entry, but the node does not hear of it.
    network.faults.add(Fault('truncate', route='POST /buckets', nth=1, times=2))
    with pytest.raises(BridgeUnavailableError):
        node.upload(b'an entry of its own')
    network.faults.clear()
    assert download(node, node.upload(b'an entry of its own')) == b'an entry of its own'


@pytest.mark.parametrize('fault', ['refuse', 'drop', 'truncate', 'corrupt', 'expire'])
def test_download_survives_a_failing_farmer(network: Network, node: MetaDisk, fault: str) -> None:
    content = content_of(SHARD + 5000)
    reference = node.upload(content)
    wait_for_mirrors(network)
    network.faults.add(Fault(fault, operation='pull', offset=1000, times=2))
    assert download(node, reference) == content


def test_no_wrong_byte_leaves_the_node(network: Network, node: MetaDisk) -> None:
    content = content_of(2 * SHARD + 5000)
    reference = node.upload(content)
    wait_for_mirrors(network)
    before = node.balance()
    network.faults.add(Fault('corrupt', operation='pull', offset=9, times=0))
    with pytest.raises(BridgeUnavailableError) as caught:
        download(node, reference)
    assert (caught.value.code, caught.value.message) == (500, 'error-downloading-file')
    assert node.balance() == before
    # From the third shard on (two are fetched at a time): the status is out, so the connection
    # breaks, and what came before is right.
    network.faults.clear()
    network.faults.add(Fault('corrupt', operation='pull', nth=3, times=0))
    url = f'{network.bridge_url}/api/download/{reference}&token={node.token}'
    received = bytearray()
    with requests.get(url, stream=True, timeout=30) as answer:
        assert answer.headers['Content-Length'] == str(len(content))
        with pytest.raises(requests.RequestException):
            received.extend(byte for piece in answer.iter_content(65536) for byte in piece)
    assert len(received) < len(content)
    assert content.startswith(received)
    # What was sent is paid for.
    assert node.balance() == before - 2 * SHARD
    with pytest.raises((BridgeUnreachableError, BridgeUnavailableError)):
        download(node, reference)


class Cutter:
    """A way to the node that is cut once, after so many bytes of an answer."""

    def __init__(self, node_url: str, limit: int) -> None:
        parts = urlsplit(node_url)
        self._node = (parts.hostname, parts.port)
        self._limit = limit
        self._listener = socket.create_server(('127.0.0.1', 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self.url = f'http://127.0.0.1:{self._listener.getsockname()[1]}'
        self.cuts = 0

    def _serve(self) -> None:
        # One connection after the other, for the client makes no two at a time.
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.create_connection(self._node) as node:
                self._relay(client, node)

    def _relay(self, client: socket.socket, node: socket.socket) -> None:
        left = self._limit
        while True:
            ready, _, _ = select.select([client, node], [], [])
            for source in ready:
                data = source.recv(65536)
                if not data:
                    return
                if source is client:
                    node.sendall(data)
                    continue
                client.sendall(data[:left] if not self.cuts else data)
                left -= len(data)
                if left <= 0 and not self.cuts:
                    self.cuts += 1
                    return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)
        assert not self._thread.is_alive(), 'the client is still connected'


@pytest.mark.parametrize('local', [True, False])
def test_client_takes_a_broken_download_up_again(
    network: Network, node: MetaDisk, local: bool
) -> None:
    content = content_of(2 * SHARD + 5000)
    reference = node.upload(content)
    cutter = Cutter(network.bridge_url, SHARD + 700)
    steps: list[int] = []
    try:
        with MetaDisk(cutter.url, token=node.token) as through:
            got = download(
                through, reference, local=local, progress=lambda done, total: steps.append(done)
            )
    finally:
        cutter.close()
    assert got == content
    assert cutter.cuts == 1
    assert steps == sorted(steps)
    assert steps[-1] == len(content)


def test_too_large_files_are_refused(network: Network, node: MetaDisk) -> None:
    before = node.balance()
    files = {'file': ('large', content_of(3 * SHARD + 100))}
    answer = requests.post(f'{network.bridge_url}/api/upload', files=files, timeout=30)
    assert (answer.status_code, answer.json()) == (413, {'error': 'file-too-large'})
    # A body that says more than it may is refused before it is read.
    parts = urlsplit(network.bridge_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(
            b'POST /api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; '
            b'boundary=x\r\nContent-Length: 99999999999\r\n\r\n'
        )
        assert connection.recv(100).startswith(b'HTTP/1.1 413 ')
    assert node.balance() == before


def test_find_distinguishes_farmers_with_and_without_the_shard(
    network: Network, node: MetaDisk
) -> None:
    reference = node.upload(b'on every farmer but one\n')
    wait_for_mirrors(network)
    assert all(set(row) == {'host_name', 'url', 'shards'} for row in node.find(reference).uploads)
    lost, untouched, _ = (farmer.node_id for farmer in network.farmers)
    with sqlite3.connect(network.data / 'bridge.db') as database:
        name, set_ = 'contracts', 'shard_hash = (SELECT shard_hash FROM pointers WHERE size = 24)'
        # As the bridge writes it down after an audit that was failed, and before a transfer.
        database.execute(f"UPDATE {name} SET failed = 1 WHERE {set_} AND node_id = '{lost}'")
        database.execute(f"UPDATE {name} SET stored = 0 WHERE {set_} AND node_id = '{untouched}'")
    database.close()
    uploads = {row['host_name']: row for row in node.find(reference).uploads}
    assert uploads[lost] == {'host_name': lost, 'error': True, 'shards': [0]}
    assert untouched not in uploads
    assert len(uploads) == 2


def test_full_node_refuses_and_refunds(network: Network, node: MetaDisk) -> None:
    before = node.balance()
    refused = None
    for number in range(8):
        try:
            node.upload(content_of(3 * SHARD - 100) + bytes([number]))
        except StorjBridgeApiError as error:
            refused = error
            break
        before -= 4 * (3 * SHARD - 99)
    assert refused is not None
    assert (refused.code, refused.message) == (507, 'upload-error')
    assert json.loads(str(refused))['reason'] == 'node-full'
    assert node.balance() == before
    status = node.status()
    assert status.capacity - status.used < 3 * SHARD


def test_files_and_balances_survive_a_restart(tmp_path: object) -> None:
    with Network(farmers=2, data=tmp_path) as network, MetaDisk(network.bridge_url) as node:
        reference = node.upload(b'still here')
        token = node.token
        node.redeem('PLEASE')
    with Network(farmers=2, data=tmp_path) as network, MetaDisk(network.bridge_url) as node:
        assert download(node, reference) == b'still here'
        assert node.balance(token) == GIBIBYTE
        assert node.upload(b'still here') == reference
        with pytest.raises(NotFoundError):
            node.find('0' * 64)


def test_too_many_requests_have_to_wait() -> None:
    with Network(farmers=0, metadisk={'requests_per_minute': 2}) as network:
        answers = [requests.get(f'{network.bridge_url}/api/status', timeout=10) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json() == {'error': 'too-many-requests'}
    assert 1 <= int(answers[-1].headers['Retry-After']) <= 60


def test_full_disk_keeps_nobody_from_reading(
    node: MetaDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = content_of(2 * SHARD + 5000)
    reference = node.upload(content)

    temporary = tempfile.TemporaryFile

    def refuse(**options: object) -> object:
        if 'dir' in options:
            raise OSError(errno.ENOSPC, 'No space left on device')
        # The client's own.
        return temporary(**options)

    with monkeypatch.context() as disk:
        disk.setattr(tempfile, 'TemporaryFile', refuse)
        assert download(node, reference, local=False) == content


def test_content_that_is_gone_is_stored_anew_when_it_comes_again(tmp_path: Path) -> None:
    content = content_of(SHARD + 5000)
    with (
        Network(farmers=2, data=tmp_path, durable=False, bridge={'mirrors': 0}) as network,
        MetaDisk(network.bridge_url) as again,
    ):
        reference = again.upload(content)
        for number, shard in enumerate(sorted(tmp_path.glob('farmers/*/shards/*/*'))):
            if number % 2:
                shard.unlink()
            else:
                shard.write_bytes(bytes(shard.stat().st_size))
        with pytest.raises(StorjError):
            download(again, reference, local=False)
        assert again.upload(content) == reference
        assert download(again, reference, local=False) == content
        # And once more from what is there.
        assert again.upload(content) == reference
