"""Identities: the vectors of the protocol reference, and what malformed input does."""

from __future__ import annotations

import base64
import hmac
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj.exception import ConfigurationError
from storj.network.farmer.bridge_link import (
    BridgeLinkError,
    find_nonce,
    request_digest_text,
    work_of,
)
from storj.network.node.identity import (
    ExtendedKey,
    Identity,
    SignatureError,
    derived_public_key,
    is_node_id,
    payment_address,
    signer_of_message,
    verify_der,
)

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / 'vectors' / 'protocol.json').read_text('utf-8')
)
NODE = VECTORS['node_identity']
IDENTITY = Identity(bytes.fromhex(NODE['private_key_hex']))
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_identity_matches_the_vector() -> None:
    assert IDENTITY.public_key.hex() == NODE['public_key_compressed']
    assert IDENTITY.node_id == NODE['nodeID']
    assert IDENTITY.payment_address == NODE['bitcoin_address']
    assert payment_address(NODE['nodeID']) == NODE['bitcoin_address']
    assert IDENTITY.private_key_hex == NODE['private_key_hex']


def test_request_signature_matches_the_vector() -> None:
    vector = VECTORS['farmer_request_auth_v6']
    data = request_digest_text(
        vector['method'], vector['url'], vector['x-node-timestamp'], vector['body']
    )
    assert IDENTITY.sign_der(data) == vector['x-node-signature_low_s']
    assert verify_der(vector['x-node-pubkey'], data, vector['x-node-signature_low_s'])
    assert not verify_der(vector['x-node-pubkey'], data + b' ', vector['x-node-signature_low_s'])


def test_signature_in_high_s_form_is_refused() -> None:
    signature = bytes.fromhex(IDENTITY.sign_der(b'data'))
    length = signature[3]
    low = int.from_bytes(signature[6 + length :], 'big')
    high = (ORDER - low).to_bytes(33, 'big')
    start = signature[2 : 4 + length]
    body = start + b'\x02' + bytes([len(high)]) + high
    malleated = b'\x30' + bytes([len(body)]) + body
    assert not verify_der(IDENTITY.public_key.hex(), b'data', malleated.hex())


@pytest.mark.parametrize(
    ('key', 'signature'),
    [('', ''), ('zz', '00'), ('02' * 33, '00'), (NODE['public_key_compressed'], 'xyz')],
)
def test_malformed_key_or_signature_is_our_error(key: str, signature: str) -> None:
    with pytest.raises(SignatureError):
        verify_der(key, b'data', signature)


def test_proof_of_work_matches_the_vector() -> None:
    vector = VECTORS['contact_pow_v6']
    assert find_nonce(vector['challenge'], vector['target']) == vector['nonce']
    assert work_of(vector['challenge'], vector['nonce']) == vector['result']


def test_malformed_or_endless_challenge_is_given_up() -> None:
    with pytest.raises(BridgeLinkError):
        find_nonce('../x', 'f' * 64)
    with pytest.raises(BridgeLinkError):
        find_nonce('ab' * 32, '0' * 64, lambda: True)


@given(st.text(max_size=400))
def test_message_signature_leads_back_to_its_signer(text: str) -> None:
    node_id, public_key = signer_of_message(text, IDENTITY.sign_message(text))
    assert (node_id, public_key) == (IDENTITY.node_id, IDENTITY.public_key)


def test_message_signature_of_another_text_leads_elsewhere() -> None:
    signature = IDENTITY.sign_message('one')
    try:
        node_id, _ = signer_of_message('two', signature)
    except SignatureError:
        return
    assert node_id != IDENTITY.node_id


@given(st.one_of(st.text(), st.binary(max_size=80).map(lambda raw: base64.b64encode(raw).decode())))
def test_malformed_message_signature_is_our_error(signature: str) -> None:
    try:
        node_id, _ = signer_of_message('text', signature)
    except SignatureError:
        return
    assert is_node_id(node_id)


def test_extended_key_matches_bip_32() -> None:
    seed = bytes.fromhex('000102030405060708090a0b0c0d0e0f')
    digest = hmac.digest(b'Bitcoin seed', seed, 'sha512')
    master = ExtendedKey(digest[:32], digest[32:])
    assert master.public == (
        'xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD'
        '265TMg7usUDFdp6W1EGMcet8'
    )
    assert master.child(0x80000000).child(1).public == (
        'xpub6ASuArnXKPbfEwhqN6e3mwBcDTgzisQN1wXN9BJcM47sSikHjJf3UFHKkNAWbWMiGj7Wf5uMash7SyYq527'
        'Hqck2AxYysAA7xmALppuCkwQ'
    )


def test_public_child_is_the_child_of_the_private_key() -> None:
    key = ExtendedKey.renter(b'seed of the renter nodes')
    assert derived_public_key(key.public, 7) == Identity(key.child(7).key).public_key
    assert 'seed' not in repr(key)
    assert key.key.hex() not in repr(key)


@pytest.mark.parametrize('text', ['', 'xpub', '0OIl', NODE['bitcoin_address'], '1' * 111, 'z' * 99])
def test_malformed_extended_key_is_our_error(text: str) -> None:
    with pytest.raises(SignatureError):
        derived_public_key(text, 0)


def test_hardened_child_of_a_public_key_is_refused() -> None:
    with pytest.raises(SignatureError):
        derived_public_key(ExtendedKey.renter(b'x').public, 1 << 31)


def test_identity_is_kept_in_a_file_of_its_owner(tmp_path: Path) -> None:
    path = tmp_path / 'folder' / 'identity.key'
    identity = Identity.load(path)
    assert Identity.load(path).node_id == identity.node_id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == ['identity.key']


@pytest.mark.parametrize('content', [b'', b'\xff', b'00' * 32, b'ff' * 32, b'hello', b'a' * 63])
def test_damaged_identity_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'identity.key'
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r'identity\.key'):
        Identity.load(path)


def test_private_key_stays_out_of_repr() -> None:
    identity = Identity.generate()
    assert identity.private_key_hex not in repr(identity)
    with pytest.raises(ValueError, match='32 bytes'):
        Identity(b'short')
