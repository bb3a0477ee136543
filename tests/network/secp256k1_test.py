"""The curve secp256k1 with and without libsecp256k1: the same bytes, the same refusals."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj.network.node.secp256k1 import CURVE, ORDER, Curve

ROOT = Path(__file__).parents[2]
PLAIN = Curve()
FASTEST = pytest.mark.skipif(type(CURVE) is Curve, reason='coincurve is not installed')

keys = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, 'big'))
numbers = st.one_of(keys, st.binary(min_size=32, max_size=32))


def outcome(call, *arguments, **options):  # type: ignore[no-untyped-def]
    """Return what a call returns, None for a ValueError."""
    with suppress(ValueError):
        return call(*arguments, **options)
    return None


@FASTEST
@given(keys, st.binary(max_size=100))
def test_signatures_are_the_same_bytes(key: bytes, data: bytes) -> None:
    digest = hashlib.sha256(data).digest()
    assert PLAIN.public_key(key) == CURVE.public_key(key)
    assert PLAIN.sign(key, data) == CURVE.sign(key, data)
    assert PLAIN.sign_recoverable(key, digest) == CURVE.sign_recoverable(key, digest)


@FASTEST
@given(numbers, numbers, st.integers(0, 3), numbers)
def test_recovery_finds_the_same_key(r: bytes, s: bytes, number: int, digest: bytes) -> None:
    found = outcome(PLAIN.recover, r + s, number, digest)
    assert found == outcome(CURVE.recover, r + s, number, digest)


@FASTEST
@given(keys, numbers)
def test_sums_are_the_same(key: bytes, number: bytes) -> None:
    point = CURVE.public_key(key)
    assert outcome(PLAIN.add, point, number) == outcome(CURVE.add, point, number)
    negative = (ORDER - int.from_bytes(key, 'big')).to_bytes(32, 'big')
    assert outcome(PLAIN.add, point, negative) is outcome(CURVE.add, point, negative) is None


@FASTEST
@given(st.binary(min_size=33, max_size=33), st.binary(max_size=72), st.booleans())
def test_other_bytes_are_judged_alike(key: bytes, signature: bytes, high_s: bool) -> None:
    assert outcome(PLAIN.compressed, key) == outcome(CURVE.compressed, key)
    # Libraries differ in which malformed signature they refuse to read; none of them verifies.
    assert not outcome(PLAIN.verify, key, signature, b'', high_s=high_s)
    assert not outcome(CURVE.verify, key, signature, b'', high_s=high_s)


@pytest.mark.parametrize('curve', [PLAIN, CURVE], ids=['plain', 'fastest'])
@pytest.mark.parametrize('key', ['', '02', '06' + '11' * 64, '02' + 'ff' * 32, '04' + '11' * 64])
def test_what_is_no_key_is_a_value_error(curve: Curve, key: str) -> None:
    with pytest.raises(ValueError, match=r'.'):
        curve.compressed(bytes.fromhex(key))


@pytest.mark.parametrize('curve', [PLAIN, CURVE], ids=['plain', 'fastest'])
def test_signature_counts_for_its_key_and_data_only(curve: Curve) -> None:
    key = bytes(31) + b'\5'
    public, signature = curve.public_key(key), curve.sign(key, b'data')
    assert curve.verify(public, signature, b'data', high_s=False)
    assert not curve.verify(public, signature, b'date', high_s=True)
    assert not curve.verify(curve.public_key(bytes(31) + b'\6'), signature, b'data', high_s=True)
    digest = hashlib.sha256(b'data').digest()
    assert curve.recover(*curve.sign_recoverable(key, digest), digest) == public


WITHOUT = """
import sys
sys.modules['coincurve'] = None
import storj
from storj.network import Network

with Network(farmers=3) as network:
    client = storj.Client(
        network.email, network.password, network.bridge_url, mnemonic=network.mnemonic
    )
    private, public = storj.generate_new_key_pair()
    client.key_register(public)
    client.authenticate(private)
    bucket = client.bucket_create('b')
    file = client.file_upload(bucket.id, b'hello', name='a')
    print(client.file_download(bucket.id, file.id).read().decode())
"""


def test_network_runs_without_coincurve(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, '-c', WITHOUT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, 'hello\n'), done.stderr
