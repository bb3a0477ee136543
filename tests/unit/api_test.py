"""What is said to bridges, beyond the vectors."""

from __future__ import annotations

import sys
import uuid

import pytest
from ecdsa import SECP256k1, SigningKey
from hypothesis import given
from hypothesis import strategies as st

from storj import api


def profile(version=None, core=None, protocol=None) -> api.BridgeProfile:
    fields = {'version': version, 'x-core-version': core, 'x-protocol-version': protocol}
    return api.BridgeProfile.from_info({'info': fields})


@pytest.mark.parametrize(
    ('version', 'core', 'protocol', 'generation'),
    [
        ('0.7.3', '0.6.12', '0.7.0', 'A'),
        ('0.11.2', '3.0.1', '0.8.0', 'B'),
        ('2.2.4', '5.1.2', '0.10.0', 'B'),
        ('2.2.4', '5.1.2', '0.10.0-testnet', 'B'),
        ('4.3.0', '6.0.15', '1.1.0', 'B'),
        ('5.6.0', '6.4.0', '1.1.0', 'C'),
        ('5.12.0', '6.2.0', '1.1.0', 'C'),
        ('5.24.1', '6.8.0', '1.1.0', 'C'),
        ('7.7.1', '8.7.2', '1.2.0', 'C'),
        ('7.7.1', None, None, 'C'),
        ('2.2.4', None, None, 'B'),
        ('0.9.0', None, None, 'A'),
        (None, '5.1.1', None, 'B'),
        (None, '8.0.0', None, 'C'),
        (None, None, '0.10.0', 'B'),
        (None, None, '0.7.1', 'A'),
        (None, None, '1.0.0', 'B'),
        (None, None, '1.2.0', 'C'),
        (None, None, None, 'C'),
    ],
)
def test_generation_of_audits_follows_release(version, core, protocol, generation):
    assert profile(version, core, protocol).audit_generation == generation


FEATURES = {
    'has_index': (False, False, True, True),
    'has_erasure': (False, False, True, True),
    'has_hmac': (True, False, True, True),
    'counts_frames_safely': (False, False, True, True),
    'has_file_ids': (False, False, True, True),
    'has_deterministic_ids': (True, True, True, True),
    'has_start_date': (True, False, True, True),
    'has_file_info': (True, True, True, True),
    'has_reports': (False, True, True, True),
    'has_health': (False, False, True, True),
    'has_mirrors_list': (False, False, True, True),
    'sets_mirrors': (False, True, False, False),
    'misses_offers': (False, True, False, False),
    'needs_pull_token': (True, True, False, False),
    'resets_by_post': (False, False, False, True),
}


@pytest.mark.parametrize('feature', FEATURES)
def test_feature_follows_release(feature):
    found = tuple(
        getattr(profile(version), feature) for version in (None, '2.2.4', '5.24.1', '7.7.1')
    )
    assert found == FEATURES[feature]


def test_info_is_read_with_and_without_its_envelope():
    info = {'version': '5.24.1', 'x-core-version': '6.8.0', 'x-protocol-version': '1.1.0'}
    found = api.BridgeProfile.from_info(info)
    assert found == api.BridgeProfile.from_info({'swagger': '2.0', 'info': info})
    assert (found.version, found.core, found.protocol) == ((5, 24, 1), (6, 8, 0), (1, 1, 0))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(['info', 'version', 'x-core-version', 'x-protocol-version'])
            | st.text(),
            inner,
            max_size=4,
        )
    ),
)


@given(json_values)
def test_any_answer_gives_a_profile(info):
    found = api.BridgeProfile.from_info(info)
    assert found.audit_generation in 'ABC'
    assert all(isinstance(getattr(found, feature), bool) for feature in FEATURES)


@given(st.tuples(*[st.integers(0, 999_999)] * 3), st.sampled_from(['', '-testnet', '+x', '.9']))
def test_version_is_parsed(version, suffix):
    assert api.parse_version('.'.join(map(str, version)) + suffix) == version


@pytest.mark.parametrize(
    'text', ['', '5', 'five', '5.x', None, 5.1, '٥.٢', '1' * 5000 + '.1', '-1.2']
)
def test_version_that_is_none_is_not_known(text):
    assert api.parse_version(text) is None


def test_version_may_be_short():
    assert api.parse_version('v7.5') == (7, 5, 0)


def test_ecdsa_key_of_another_type_is_refused():
    for key in ('text', None, 5):
        with pytest.raises(TypeError, match='an ECDSA key is bytes'):
            api.ecdsa_to_hex(key)


def test_ecdsa_key_gets_its_prefix():
    assert api.ecdsa_to_hex(b'\1\2') == '040102'
    assert api.ecdsa_to_hex(b'\4' + bytes(64)) == '04' + '00' * 64
    assert api.ecdsa_to_hex(b'\4' + bytes(63)) == '0404' + '00' * 63
    assert api.ecdsa_to_hex(b'\3' + bytes(32)) == '03' + '00' * 32


def test_nonces_differ():
    assert len({api.new_nonce() for _ in range(100)}) == 100
    assert uuid.UUID(api.new_nonce()).version == 4


def test_password_is_hashed_as_utf8():
    assert api.hash_password('pässword') == api.hash_password('pässword'.encode())


@given(st.text())
def test_segment_is_one_segment_of_any_text(text):
    assert set(api.segment(text)) <= set(
        'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%'
    )


@pytest.mark.parametrize('installed', [True, False])
def test_signature_is_the_same_with_and_without_cryptography(
    monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, 'cryptography.hazmat.primitives.asymmetric', None)
    key = SigningKey.from_string(bytes(31) + b'\1', SECP256k1)
    # Of the vectors for RFC 6979 that Bitcoin's libraries share; those turn s into n - s.
    text = b'Satoshi Nakamoto'
    expected = (
        '3046022100934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8'
        '022100dbbd3162d46e9f9bef7feb87c16dc13b4f6568a87f4e83f728e2443ba586675c'
    )
    assert api.sign(key, text) == expected


@pytest.mark.parametrize(
    ('stated', 'limit'),
    [(None, 2**32), (2**36, 2**36), (1, 2**32), (2**60, 2**40), ('2', 2**32), (True, 2**32)],
)
def test_largest_shard_is_what_the_bridge_states_within_bounds(stated: object, limit: int) -> None:
    info = {'version': '7.7.1', 'x-max-shard-size': stated}
    assert api.BridgeProfile.from_info(info).max_shard_size == limit
