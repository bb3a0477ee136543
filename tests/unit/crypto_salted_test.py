"""Content as releases 0.2 and 0.3 encrypted it."""

from __future__ import annotations

from unittest import mock

import pytest
from Crypto.Cipher import AES
from hypothesis import given
from hypothesis import strategies as st

from storj.crypto import salted
from storj.exception import DecryptionError

SALT = bytes(range(1, 9))

#: Content and ciphertext of ``openssl enc -aes-256-cbc -md md5 -S 0102030405060708 -k password``.
OPENSSL = [
    (b'hello storj', '00ea90d4c776a46b2d965d7659120285'),
    (b'', '0c9e42496a60aacaf65b33f63aeab2cd'),
]


def sealed(content: bytes, password: str | bytes = 'password', step: int = 1000) -> bytes:
    made = salted.Encryptor(password)
    pieces = [content[start : start + step] for start in range(0, len(content), step)]
    return b''.join(map(made.update, pieces)) + made.finish()


def opened(data: bytes, password: str | bytes = 'password', step: int = 1000) -> bytes:
    made = salted.Decryptor(password)
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    return b''.join(map(made.update, pieces)) + made.finish()


@pytest.mark.parametrize(('content', 'ciphertext'), OPENSSL)
def test_content_is_that_of_openssl(content: bytes, ciphertext: str) -> None:
    wire = b'Salted__' + SALT + bytes.fromhex(ciphertext)
    assert opened(wire) == content
    with mock.patch('secrets.token_bytes', return_value=SALT):
        assert sealed(content) == wire


@given(
    st.binary(max_size=200), st.integers(1, 70), st.integers(1, 70), st.sampled_from([16, 24, 32])
)
def test_content_comes_back_whatever_the_pieces(
    content: bytes, step: int, other: int, key_size: int
) -> None:
    wire = sealed(content, step=step)
    assert len(wire) == 16 + (len(content) // 16 + 1) * 16
    assert opened(wire, b'password', other) == content
    encryptor, decryptor = (kind('p', key_size) for kind in (salted.Encryptor, salted.Decryptor))
    made = encryptor.update(content) + encryptor.finish()
    assert decryptor.update(made) + decryptor.finish() == content


def test_same_content_is_encrypted_another_way_each_time() -> None:
    assert sealed(b'content') != sealed(b'content')


@pytest.mark.parametrize(
    ('wire', 'match'),
    [
        (b'', 'not encrypted'),
        (b'Salted__', 'not encrypted'),
        (b'some plain text, no more', 'not encrypted'),
        (b'Salted__' + SALT, 'cut off'),
        (b'Salted__' + SALT + bytes(15), 'cut off'),
        (b'Salted__' + SALT + bytes(17), 'cut off'),
        (b'Salted__' + SALT + bytes(16), 'password'),
    ],
)
def test_what_is_no_such_content_is_refused(wire: bytes, match: str) -> None:
    for step in (1, 7, 1000):
        with pytest.raises(DecryptionError, match=match):
            opened(wire, step=step)


@pytest.mark.parametrize('end', [b'\0', b'\x11', b'\x01\x02', b'\x0f' * 14 + b'\x0e\x0f'])
def test_padding_that_is_none_is_refused(end: bytes) -> None:
    key, iv = salted.bytes_to_key('password', SALT)
    block = AES.new(key, AES.MODE_CBC, iv=iv).encrypt(end.rjust(16, b'x'))
    with pytest.raises(DecryptionError, match='password'):
        opened(b'Salted__' + SALT + block)


def test_another_password_is_noticed() -> None:
    with mock.patch('secrets.token_bytes', return_value=SALT):
        wire = sealed(b'content')
    with pytest.raises(DecryptionError, match='password'):
        opened(wire, 'other')


def test_key_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError):
        salted.Encryptor('password', 5)
