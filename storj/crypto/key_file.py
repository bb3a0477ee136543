"""Secrets in a file, under a passphrase: the one format of our own.

A key file is a JSON object of ASCII characters::

    {"format": "storj-key-file", "version": 1,
     "kdf": "scrypt", "n": 131072, "r": 8, "p": 1, "salt": "<32 bytes in hex>",
     "cipher": "aes-256-gcm", "sealed": "<in hex: tag (16 bytes), nonce (32), ciphertext>"}

    key     = HMAC-SHA256(scrypt(passphrase in UTF-8, salt, n, r, p, 32 bytes), "storj-key-file 1")
    secret  = a JSON object in UTF-8, encrypted by AES-256-GCM with that key and nonce

Salt and nonce are random and new whenever a file is written. Nothing of the header can be changed
unseen: the key follows from all of it but the nonce, which GCM covers.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Any

from storj.crypto import cipher
from storj.exception import ConfigurationError, DecryptionError

__all__ = ('is_key_file', 'seal', 'unseal')

_FORMAT = 'storj-key-file'
_VERSION = 1

# 128 MiB and about a third of a second: what OWASP recommends (2024).
_COST = 2**17
_BLOCK = 8
_PARALLEL = 1

_SALT_SIZE = 32
_NONCE_SIZE = 32
_KEY_SIZE = 32

# A hostile file must not use all memory, or weaken the derivation.
_COSTS = frozenset(2**bits for bits in range(10, 21))
_MOST_MEMORY = 1024**3


def is_key_file(text: str) -> bool:
    """Return whether a text is, or claims to be, a key file of any version."""
    return text.lstrip().startswith('{') and _FORMAT in text


def seal(passphrase: str, secret: Mapping[str, Any]) -> str:
    """Return a key file.

    Args:
        passphrase (str): that will be asked for; an empty one protects nothing.
        secret (Mapping[str, Any]): what JSON can hold.

    Raises:
        ValueError: If the passphrase is no valid text.
    """
    salt = secrets.token_bytes(_SALT_SIZE)
    key = _key(passphrase, salt, _COST, _BLOCK, _PARALLEL)
    sealed = cipher.seal(key, secrets.token_bytes(_NONCE_SIZE), json.dumps(dict(secret)).encode())
    return json.dumps(
        {
            'format': _FORMAT,
            'version': _VERSION,
            'kdf': 'scrypt',
            'n': _COST,
            'r': _BLOCK,
            'p': _PARALLEL,
            'salt': salt.hex(),
            'cipher': 'aes-256-gcm',
            'sealed': sealed.hex(),
        }
    )


def unseal(text: str, passphrase: str) -> dict[str, Any]:
    """Return what :func:`seal` sealed.

    Args:
        text (str): the whole file.
        passphrase (str): of the user.

    Raises:
        ConfigurationError: If the text is no key file, or of a later version.
        DecryptionError: If the passphrase is not the right one, or the file was changed.
        ValueError: If the passphrase is no valid text.
    """
    cost, block, parallel, salt, sealed = _read(text)
    raw = cipher.open_sealed(_key(passphrase, salt, cost, block, parallel), sealed)
    if raw is None:
        raise DecryptionError('the passphrase does not open the key file, or it was changed')
    secret = json.loads(raw)
    if not isinstance(secret, dict):
        raise ConfigurationError('the key file does not hold keys')
    return secret


def _read(text: str) -> tuple[int, int, int, bytes, bytes]:
    """Return the header and what is sealed.

    Raises:
        ConfigurationError: If something is missing, or cannot be.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        # Without the cause, which quotes the file.
        raise ConfigurationError('the key file is not JSON') from None
    match fields:
        case {'format': 'storj-key-file', 'version': int() as version} if version != _VERSION:
            raise ConfigurationError(f'the key file is of version {version}, which is not known')
        case {
            'format': 'storj-key-file',
            'version': int(),
            'kdf': 'scrypt',
            'n': int() as cost,
            'r': int() as block,
            'p': int() as parallel,
            'salt': str() as salt,
            'cipher': 'aes-256-gcm',
            'sealed': str() as sealed,
        }:
            pass
        case _:
            raise ConfigurationError('the file is no key file, or is damaged')
    # The file may come from anyone: bound memory and time before scrypt runs.
    sane = cost in _COSTS and 1 <= block <= 64 and 1 <= parallel <= 16
    if not sane or 128 * cost * block > _MOST_MEMORY:
        raise ConfigurationError('the scrypt parameters of the key file are out of bounds')
    try:
        return cost, block, parallel, bytes.fromhex(salt), bytes.fromhex(sealed)
    except ValueError:
        raise ConfigurationError('the file is no key file, or is damaged') from None


def _key(passphrase: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    try:
        secret = passphrase.encode()
    except UnicodeEncodeError:
        # Without the cause, which quotes the passphrase.
        raise ValueError('the passphrase is no valid text') from None
    derived = hashlib.scrypt(
        secret,
        salt=salt,
        n=cost,
        r=block,
        p=parallel,
        # What scrypt needs by its definition, and a little more; OpenSSL's default is 32 MiB.
        maxmem=128 * block * (cost + parallel + 2) + 1024,
        dklen=_KEY_SIZE,
    )
    # The format and its version are part of the key, so that no other use of the same passphrase
    # and salt gives the same key.
    return hmac.digest(derived, f'{_FORMAT} {_VERSION}'.encode(), 'sha256')
