"""Names of buckets and files as libstorj stores them: encrypted, and alike for equal names.

A bridge finds a file by its stored name, so equal names of one bucket must have equal ciphertexts:
the nonce is an HMAC of the name. Names that do not decrypt are shown as they are; they were stored
in clear, or with another encryption key.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable

from storj.crypto.cipher import opener, seal, synthetic_iv
from storj.crypto.keys import bucket_key as _bucket_key

__all__ = (
    'BUCKET_NAME_MAGIC',
    'META_MAGIC',
    'decrypt_bucket_name',
    'decrypt_file_name',
    'decrypt_meta',
    'encrypt_bucket_name',
    'encrypt_file_name',
    'encrypt_meta',
    'file_name_opener',
    'looks_encrypted',
    'name_key',
)

#: Takes the place of a bucket id where names of buckets are encrypted, 64 hex digits.
BUCKET_NAME_MAGIC = '398734aab3c4c30c9f22590e83a95f7e43556a45fc2b3060e0c39fde31f50272'

#: Makes the key for names from a bucket's key.
META_MAGIC = bytes.fromhex('42964710327258a0a3239a41a2d5e2d7468a393d3413d2aa26a4a2c856c90251')

# A stored name is Base64 of (protocol reference, section 6.4)
#
#   +--------+----------+------------------- ...
#   | tag 16 | nonce 32 | AES-256-GCM of the name
#   +--------+----------+------------------- ...
#
#   key      HMAC-SHA512(bucket key, META_MAGIC), cut to 32 bytes
#   nonce    of a file:   HMAC-SHA512(bucket key, bucket id as hex text + name), cut to 32 bytes
#            of a bucket: HMAC-SHA512(key of BUCKET_NAME_MAGIC, name), cut to 32 bytes
#
# GCM with a nonce of 32 bytes hashes the nonce first, unlike one of the usual 12 bytes.

# Base64 that passed through other programs may have been broken into lines.
_WHITE_SPACE = str.maketrans('', '', ' \t\n\v\f\r')


def name_key(bucket_key: bytes) -> bytes:
    """Return the key for names that belongs to a bucket key, 32 bytes."""
    return hmac.digest(bucket_key, META_MAGIC, 'sha512')[:32]


def encrypt_meta(key: bytes, iv: bytes, name: bytes) -> str:
    """Return a name as it is stored: Base64 of tag, nonce and ciphertext.

    Args:
        key (bytes): from :func:`name_key`, 32 bytes.
        iv (bytes): the nonce, 32 bytes.
        name (bytes): not empty.

    Raises:
        ValueError: If the name is empty, which no client could decrypt.
    """
    if not name:
        raise ValueError('a name is not empty')
    return base64.b64encode(seal(key, iv, name)).decode()


def decrypt_meta(key: bytes, text: str) -> bytes | None:
    """Return the name that :func:`encrypt_meta` made a text of, None if it is no such text."""
    sealed = _sealed_of(text)
    return None if sealed is None else opener(key)(sealed)


def _sealed_of(text: str) -> bytes | None:
    """Return the bytes of a stored name, None if it is no Base64."""
    # Most names have no white space, and to look for it takes longer than to decode them.
    for form in (str, _without_white_space):
        try:
            return base64.b64decode(form(text), validate=True)
        except (binascii.Error, ValueError):
            continue
    return None


def _without_white_space(text: str) -> str:
    return text.translate(_WHITE_SPACE)


def looks_encrypted(text: str | None) -> bool:
    """Return whether a stored name has the form of an encrypted one: tag, nonce and a byte more."""
    try:
        return text is not None and len(base64.b64decode(text, validate=True)) > 48
    except (binascii.Error, ValueError):
        return False


def _encode(name: str) -> bytes:
    # File names of a POSIX system that are no UTF-8 arrive with surrogates in their place.
    try:
        return name.encode('utf-8', 'surrogateescape')
    except UnicodeEncodeError as error:
        raise ValueError(
            f'the name {name!a} is no text: UTF-8 has no U+{ord(name[error.start]):04X}'
        ) from None


def _decode(name: bytes | None) -> str | None:
    # As it was encoded: a name that another form of itself replaced would pass for another file.
    return None if name is None else name.decode('utf-8', 'surrogateescape')


def encrypt_bucket_name(words: str, name: str) -> str:
    """Return the name under which a bucket is stored.

    Args:
        words (str): the encryption key (mnemonic).
        name (str): of the bucket, not empty.

    Returns:
        str: Base64.

    Raises:
        ValueError: If the name is empty or no valid text.
    """
    key = _bucket_key(words, BUCKET_NAME_MAGIC)
    raw = _encode(name)
    return encrypt_meta(name_key(key), synthetic_iv(key, raw), raw)


def decrypt_bucket_name(words: str, text: str) -> str | None:
    """Return the clear name of a bucket, None if it was encrypted with another key.

    Args:
        words (str): the encryption key (mnemonic).
        text (str): the stored name.
    """
    return _decode(decrypt_meta(name_key(_bucket_key(words, BUCKET_NAME_MAGIC)), text))


def encrypt_file_name(bucket_key: bytes, bucket_id: str, name: str) -> str:
    """Return the name under which a file is stored.

    Args:
        bucket_key (bytes): of the file's bucket, 32 bytes.
        bucket_id (str): of the same bucket, 24 hex digits.
        name (str): of the file, not empty.

    Returns:
        str: Base64.

    Raises:
        ValueError: If the name is empty or no valid text.
    """
    raw = _encode(name)
    return encrypt_meta(
        name_key(bucket_key), synthetic_iv(bucket_key, bucket_id.encode() + raw), raw
    )


def decrypt_file_name(bucket_key: bytes, text: str) -> str | None:
    """Return the clear name of a file, None if it was not encrypted with this bucket's key.

    Args:
        bucket_key (bytes): of the file's bucket, 32 bytes.
        text (str): the stored name.
    """
    return file_name_opener(bucket_key)(text)


def file_name_opener(bucket_key: bytes) -> Callable[[str], str | None]:
    """Return what decrypts the names of a bucket's files as :func:`decrypt_file_name` does.

    Args:
        bucket_key (bytes): of the bucket, 32 bytes; it is set up once for all names.
    """
    opened = opener(name_key(bucket_key))

    def clear(text: str) -> str | None:
        sealed = _sealed_of(text)
        return None if sealed is None else _decode(opened(sealed))

    return clear
