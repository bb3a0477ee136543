"""A farmer's farewell at the bridge: signed by itself, and only with copies elsewhere."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterator

import pytest
import requests

pytest.importorskip('aiohttp')

from storj.metadisk import MetaDisk
from storj.network import Network
from storj.network.node.identity import Identity


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(farmers=3, bridge={'mirrors': 0}) as network:
        yield network


def identity_of(network: Network, number: int) -> Identity:
    return Identity.load(network.farmers[number].path / 'identity.key')


def leave(network: Network, signer: Identity, node_id: str | None = None) -> requests.Response:
    """Ask the bridge to let a farmer go, signed as the protocol's other farmer requests are."""
    url = f'{network.bridge_url}/contacts/{node_id or signer.node_id}'
    timestamp, body = str(int(time.time() * 1000)), '{}'
    headers = {
        'x-node-timestamp': timestamp,
        'x-node-id': signer.node_id,
        'x-node-pubkey': signer.public_key.hex(),
        'x-node-signature': signer.sign_der(f'DELETE{url}{timestamp}{body}'.encode()),
    }
    return requests.delete(url, data=body, headers=headers, timeout=60)


def test_only_the_farmer_itself_can_leave(network: Network) -> None:
    victim = network.farmers[0].node_id
    unsigned = requests.delete(f'{network.bridge_url}/contacts/{victim}', timeout=10)
    assert unsigned.status_code == 400
    other = leave(network, identity_of(network, 1), victim)
    assert (other.status_code, other.json()) == (400, {'error': 'Invalid nodeID header'})
    forged = leave(network, Identity.generate())
    assert (forged.status_code, forged.json()) == (404, {'error': 'Contact not found'})
    assert len(requests.get(f'{network.bridge_url}/contacts', timeout=10).json()) == 3


def test_farmer_without_shards_goes_at_once(network: Network) -> None:
    identity = identity_of(network, 2)
    answer = leave(network, identity)
    assert (answer.status_code, answer.json()) == (
        200,
        {'nodeID': identity.node_id, 'remaining': 0},
    )
    contact = f'{network.bridge_url}/contacts/{identity.node_id}'
    assert requests.get(contact, timeout=10).status_code == 404


def test_only_copies_are_made_again_before_the_farmer_goes(network: Network) -> None:
    with MetaDisk(network.bridge_url) as node:
        content = bytes(range(256)) * 100
        reference = node.upload(content)
        kept = json.loads((network.data / 'metadisk' / 'node.json').read_text())
        account = (kept['email'], hashlib.sha256(kept['password'].encode()).hexdigest())
        status = requests.get(f'{network.bridge_url}/status', auth=account, timeout=10).json()
        (holder,) = status['files'][0]['shards'][0]['farmers']
        number = [farmer.node_id for farmer in network.farmers].index(holder['node_id'])
        identity = identity_of(network, number)
        first = leave(network, identity)
        assert (first.status_code, first.json()['remaining']) == (202, 1)
        deadline = time.monotonic() + 30
        while (answer := leave(network, identity)).json()['remaining']:
            assert time.monotonic() < deadline, answer.text
        assert answer.status_code == 200
        network.farmers[number].stop()
        output = io.BytesIO()
        node.download(reference, output)
        assert output.getvalue() == content


def test_last_farmer_cannot_take_the_only_copy_along(network: Network) -> None:
    for farmer in network.farmers[1:]:
        assert leave(network, identity_of(network, farmer.number)).status_code == 200
        farmer.stop()
    with MetaDisk(network.bridge_url) as node:
        node.upload(b'the only copy')
    identity = identity_of(network, 0)
    for _ in range(2):
        answer = leave(network, identity)
        assert (answer.status_code, json.loads(answer.text)['remaining']) == (202, 1)
    listed = requests.get(f'{network.bridge_url}/contacts', timeout=10).json()
    assert [contact['nodeID'] for contact in listed] == [identity.node_id]
    assert listed[0]['spaceAvailable'] is False
