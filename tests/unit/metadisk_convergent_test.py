"""Every MetaDisk vector, and references in all their forms."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from storj.crypto.convergent import (
    COUNTERS,
    Reader,
    Reference,
    content_key,
    content_stream,
    is_filehash,
    parse_key,
)

VECTORS = json.loads(
    (Path(__file__).parent.parent / 'vectors' / 'metadisk.json').read_text(encoding='utf-8')
)
HASH = '0c12e76f671e6056b3be9af526acf1f6ca3d42d9066c811c9bceae560f3791cc'
KEY = '31292df8fd0ec1d5c3904fc12a4c90ca1f2425e0aaad1e6171970fddb904a823'


def plaintext_of(vector: dict) -> bytes:
    if 'plaintext_hex' in vector:
        return bytes.fromhex(vector['plaintext_hex'])
    if vector['generator'] == 'byte i = 0':
        return bytes(vector['length'])
    return bytes((7 * i + 3) % 251 for i in range(vector['length']))


each_vector = pytest.mark.parametrize('vector', VECTORS['vectors'], ids=lambda v: v['name'])
each_counter = pytest.mark.parametrize('counter', COUNTERS)


@each_vector
def test_content_gives_the_key(vector: dict) -> None:
    digest = hashlib.sha256(plaintext_of(vector)).digest()
    assert digest.hex() == vector['plaintext_sha256']
    assert content_key(digest).hex() == vector['key']


@each_counter
@each_vector
def test_content_gives_ciphertext_and_filehash(vector: dict, counter: int) -> None:
    expected = vector[f'counter{counter}']
    sealed = content_stream(bytes.fromhex(vector['key']), counter).process(plaintext_of(vector))
    assert hashlib.sha256(sealed).hexdigest() == expected['filehash']
    if 'ciphertext_hex' in expected:
        assert sealed.hex() == expected['ciphertext_hex']
    garbage = content_stream(bytes(32)).process(sealed)
    if counter == 0:
        assert hashlib.sha256(garbage).hexdigest() == expected['wrong_key_00x32']['body_sha256']


@each_counter
@each_vector
def test_reader_recognises_the_counter(vector: dict, counter: int) -> None:
    reference = Reference(vector[f'counter{counter}']['filehash'], vector['key'])
    sealed = content_stream(reference.key_bytes(), counter).process(plaintext_of(vector))
    reader = Reader(reference)
    for offset in range(0, len(sealed), 1000):
        reader.update(sealed[offset : offset + 1000])
    assert reader.size == vector['length']
    assert reader.is_intact()
    # Nothing to encrypt is the same under both.
    assert reader.counter() == (counter if sealed else 0)


def test_reader_tells_changed_bytes_and_another_key() -> None:
    sealed = bytearray(content_stream(bytes.fromhex(KEY)).process(b'test data\n'))
    reader = Reader(Reference(HASH, 'ab' * 32))
    reader.update(sealed)
    assert reader.is_intact()
    assert reader.counter() is None
    sealed[3] ^= 1
    reader = Reader(Reference(HASH, KEY))
    reader.update(sealed)
    assert not reader.is_intact()
    assert reader.counter() is None


@pytest.mark.parametrize('offset', [0, 1, 15, 16, 17, 4096, 16383])
def test_stream_starts_anywhere(offset: int) -> None:
    plain = bytes(range(256)) * 64
    key = content_key(hashlib.sha256(plain).digest())
    whole = content_stream(key).process(plain)
    assert content_stream(key, offset=offset).process(plain[offset:]) == whole[offset:]


@pytest.mark.parametrize(
    'text',
    [
        f'{HASH}?key={KEY}',
        f'  {HASH}?key={KEY.upper()}\n',
        f'http://node1.metadisk.org/api/download/{HASH}?key={KEY}',
        f'https://node/api/download/{HASH}?token=oiFyR2NcMvaSiNDf&key={KEY}',
        f'http://127.0.0.1:6382/#{HASH}?key={KEY}',
        f'http://127.0.0.1:6382/#{HASH}%3Fkey%3D{KEY}',
    ],
)
def test_reference_is_found_in_every_link(text: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == f'{HASH}?key={KEY}'
    assert KEY not in repr(reference)


@pytest.mark.parametrize(
    'text',
    [
        '',
        HASH,
        f'?key={KEY}',
        f'{HASH}?key=',
        f'{HASH}?key={KEY[:-1]}',
        f'{HASH[:-1]}?key={KEY}',
        f'{HASH.upper()}?key={KEY}',
        f'{HASH}?key={KEY}&key={KEY}',
        f'{HASH}?token={KEY}',
        f'../../{HASH}x?key={KEY}',
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Reference.parse(text)


def test_a_bad_key_is_not_repeated() -> None:
    with pytest.raises(ValueError) as caught:
        parse_key('secret')
    assert 'secret' not in str(caught.value)
    assert not is_filehash('0' * 63 + 'G')
