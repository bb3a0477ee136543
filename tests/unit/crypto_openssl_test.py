"""OpenSSL of the interpreter: found or not, and its ciphers beside PyCryptodome's."""

from __future__ import annotations

import _struct
import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from Crypto.Cipher import AES

from storj.crypto import openssl

KEY, COUNTER, NONCE = bytes(range(32)), b'\xff' * 15 + b'\xfe', b'nonce' * 6 + b'!!'


@pytest.fixture(autouse=True)
def forgotten():
    """Look for the library afresh, before and after each test."""
    openssl.library.cache_clear()
    yield
    openssl.library.cache_clear()


@pytest.fixture
def found():
    library = openssl.library()
    if library is None:
        pytest.skip('this interpreter shows no OpenSSL')
    return library


@pytest.fixture
def cipher(found):
    return found.ctr(KEY, COUNTER)


def reference(data):
    return AES.new(KEY, AES.MODE_CTR, nonce=b'', initial_value=COUNTER).encrypt(data)


@pytest.mark.skipif(not Path('/proc/self/maps').exists(), reason='loaded libraries are not told')
def test_it_is_found_where_hashlib_is_linked_to_it():
    importlib.import_module('_hashlib')
    if 'libcrypto' not in Path('/proc/self/maps').read_text():
        pytest.skip('this interpreter has no OpenSSL, or has it within')
    assert openssl.library() is not None


@pytest.mark.parametrize(
    'module',
    [None, SimpleNamespace(), SimpleNamespace(__file__='/nowhere.so'), _struct],
    ids=['none', 'built in', 'no file', 'not linked'],
)
def test_without_it_there_is_none(monkeypatch, module):
    if module is _struct and not hasattr(_struct, '__file__'):
        pytest.skip('this interpreter has _struct built in')
    monkeypatch.setitem(sys.modules, '_hashlib', module)
    assert openssl.library() is None


def test_one_that_encrypts_otherwise_is_left_alone(found, monkeypatch):
    openssl.library.cache_clear()
    monkeypatch.setattr(openssl, '_KNOWN', (*openssl._KNOWN[:3], bytes(16)))
    assert openssl.library() is None


def test_pieces_of_all_sizes_make_one_stream(cipher):
    data = os.urandom(5000)
    made, start = b'', 0
    for size in (0, 1, 15, 16, 17, 1000, 3, len(data)):
        made += cipher.encrypt(data[start : start + size])
        start += size
    assert made == reference(data)


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview])
def test_the_data_stays_when_the_output_is_another(cipher, kind):
    data, output = kind(b'hello storj'), bytearray(11)
    assert cipher.encrypt(data, output) is None
    assert (bytes(data), bytes(output)) == (b'hello storj', reference(b'hello storj'))


def test_more_than_fits_into_one_call_is_encrypted_in_several(cipher, monkeypatch):
    monkeypatch.setattr(openssl, '_MOST', 7)
    data = bytearray(range(40))
    cipher.encrypt(data, data)
    assert data == reference(bytes(range(40)))


def test_wrong_outputs_are_refused_and_cost_nothing_of_the_stream(cipher):
    with pytest.raises(ValueError, match='length'):
        cipher.encrypt(b'hello', bytearray(4))
    with pytest.raises(TypeError, match='read-only'):
        cipher.encrypt(b'hello', memoryview(b'hello'))
    output = bytearray(5)
    cipher.encrypt(b'hello', output)
    assert output == reference(b'hello')


@pytest.mark.parametrize('size', [1, 15, 16, 1000])
def test_gcm_is_that_of_pycryptodome(found, size):
    text = os.urandom(size)
    sealed = found.gcm_encrypt(KEY, NONCE, text)
    assert sealed == AES.new(KEY, AES.MODE_GCM, nonce=NONCE).encrypt_and_digest(text)
    assert found.gcm_decrypt(KEY, NONCE, *sealed) == text


def test_gcm_returns_nothing_that_is_not_right(found):
    ciphertext, tag = found.gcm_encrypt(KEY, NONCE, b'hello storj')
    wrong = bytes([tag[0] ^ 1]) + tag[1:]
    assert found.gcm_decrypt(KEY, NONCE, ciphertext, wrong) is None
    assert found.gcm_decrypt(KEY, NONCE, ciphertext + b'\0', tag) is None
    assert found.gcm_decrypt(KEY, NONCE[:-1] + b'?', ciphertext, tag) is None
    assert found.gcm_decrypt(KEY[::-1], NONCE, ciphertext, tag) is None
    assert found.gcm_decrypt(KEY, NONCE, ciphertext, tag[:15]) is None


def test_keys_and_counters_of_other_sizes_are_refused(found):
    for key, counter in ((KEY[:16], COUNTER), (KEY + b'k', COUNTER), (KEY, COUNTER[:12])):
        with pytest.raises(ValueError, match='bytes'):
            found.ctr(key, counter)
    with pytest.raises(ValueError, match='bytes'):
        found.gcm_encrypt(KEY[:16], NONCE, b'hello')
    with pytest.raises(ValueError, match='bytes'):
        found.gcm_decrypt(KEY[:16], NONCE, b'hello', bytes(16))


@pytest.mark.parametrize('function', ['new', 'begin', 'control', 'update', 'end'])
def test_failures_are_errors(found, monkeypatch, function):
    monkeypatch.setattr(found, function, lambda *_: None)
    with pytest.raises(RuntimeError, match='OpenSSL'):
        found.gcm_encrypt(KEY, NONCE, b'hello')
