"""Streams and seals, beyond the vectors."""

from __future__ import annotations

import os

import pytest
from Crypto.Cipher import AES
from hypothesis import given
from hypothesis import strategies as st

from storj.crypto import cipher, keys

pytestmark = pytest.mark.usefixtures('library')

KEY = keys.ContentKey(bytes(range(32)), b'\xff' * 15 + b'\xfe')


@pytest.fixture(scope='module', params=['cryptography', 'PyCryptodome'])
def library(request):
    """Run every test with both."""
    if request.param == 'cryptography':
        pytest.importorskip('cryptography')
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cipher, '_fast_ciphers', lambda: None)
        yield


def test_stream_is_that_of_pycryptodome():
    expected = AES.new(KEY.key, AES.MODE_CTR, nonce=b'', initial_value=KEY.counter)
    assert cipher.CtrStream(KEY).process(bytes(1000)) == expected.encrypt(bytes(1000))


def test_seal_is_that_of_pycryptodome():
    text, tag = AES.new(KEY.key, AES.MODE_GCM, nonce=b'i' * 32).encrypt_and_digest(b'hello')
    assert cipher.seal(KEY.key, b'i' * 32, b'hello') == tag + b'i' * 32 + text


@given(st.binary(max_size=200), st.integers(0, 200))
def test_stream_can_begin_anywhere(data, offset):
    whole = cipher.CtrStream(KEY).process(data)
    assert cipher.CtrStream(KEY, offset).process(data[offset:]) == whole[offset:]


@given(st.lists(st.binary(max_size=50)))
def test_borders_of_pieces_do_not_matter(pieces):
    stream = cipher.CtrStream(KEY)
    made = b''.join(stream.process(piece) for piece in pieces)
    assert made == cipher.CtrStream(KEY).process(b''.join(pieces))


def test_counter_wraps_like_libstorj():
    # The third block is the first of a counter of zero.
    zero = keys.ContentKey(KEY.key, bytes(16))
    whole = cipher.CtrStream(KEY).process(bytes(64))
    assert whole[32:] == cipher.CtrStream(zero).process(bytes(32))


def test_stream_works_in_place():
    data = bytearray(b'hello storj' * 1000)
    expected = cipher.CtrStream(KEY).process(bytes(data))
    assert cipher.CtrStream(KEY).process(data, data) is None
    assert data == expected


def test_stream_writes_into_part_of_a_buffer():
    buffer = bytearray(20)
    cipher.CtrStream(KEY).process(b'hello', memoryview(buffer)[5:10])
    assert buffer[5:10] == cipher.CtrStream(KEY).process(b'hello')
    assert buffer[:5] + buffer[10:] == bytes(15)


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match='output'):
        cipher.CtrStream(KEY).process(b'hello', bytearray(4))
    with pytest.raises(ValueError, match='output'):
        cipher.CtrStream(KEY).process(b'hello', bytearray(6))
    with pytest.raises(ValueError, match='multiple of 16'):
        cipher.CtrStream(KEY, -1)
    with pytest.raises(ValueError, match='32 bytes'):
        keys.ContentKey(b'short', bytes(16))


@given(st.binary(min_size=1, max_size=50), st.binary(max_size=120), st.integers(0, 400))
def test_seal_opens_only_unchanged(text, rubbish, bit):
    key, iv = bytes(32), b'i' * 32
    sealed = bytearray(cipher.seal(key, iv, text))
    assert cipher.open_sealed(key, bytes(sealed)) == text
    assert cipher.open_sealed(b'k' * 32, bytes(sealed)) is None
    assert cipher.open_sealed(key, rubbish) is None
    bit %= 8 * len(sealed)
    sealed[bit // 8] ^= 1 << bit % 8
    assert cipher.open_sealed(key, bytes(sealed)) is None


@pytest.mark.parametrize('length', [1, 4, 2048, 2049, 65536])
def test_buffers_of_any_length_are_combined(length):
    left, right = os.urandom(length), os.urandom(length)
    output = bytearray(length)
    cipher.xor(left, right, memoryview(output))
    assert output == bytes(one ^ other for one, other in zip(left, right, strict=True))


@pytest.mark.parametrize('length', [1, 4096])
def test_buffers_of_different_lengths_are_refused(length):
    with pytest.raises(ValueError, match='length'):
        cipher.xor(bytes(length), bytes(length + 1), bytearray(length))
