"""Content as this SDK's releases 0.2 and 0.3 encrypted it, in the form of ``openssl enc``.

::

    | "Salted__" | salt | AES-256-CBC of the content, padded as in PKCS#7 |
    |<--- 8 ---->|<-8-->|

The key follows from a password by one round of MD5, and nothing proves that a byte is the right
one: good for reading what there is, and for programs that know no encryption key. Those releases
took the hex of the account password's SHA-256, which the bridge knows as well.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from storj.digest import Buffer
from storj.exception import DecryptionError

__all__ = ('MARK', 'Decryptor', 'Encryptor', 'bytes_to_key')

#: What encrypted content begins with.
MARK = b'Salted__'

_BLOCK = 16
_SALT_SIZE = _BLOCK - len(MARK)
_KEY_SIZE = 32


def bytes_to_key(
    password: str | bytes, salt: bytes = b'', key_size: int = _KEY_SIZE, iv_size: int = _BLOCK
) -> tuple[bytes, bytes]:
    """Return what OpenSSL's ``EVP_BytesToKey`` makes of a password with MD5 and one round.

    Args:
        password (str | bytes): text is taken as UTF-8.
        salt (bytes): 8 bytes, or none.
        key_size (int): bytes of the key.
        iv_size (int): bytes of the first block.

    Returns:
        tuple[bytes, bytes]: key and first block.
    """
    # D1 = MD5(password + salt), D2 = MD5(D1 + password + salt), D3 = MD5(D2 + password + salt)
    # key = D1 + D2 (32 bytes), first block = D3 (16 bytes)
    secret = password.encode() if isinstance(password, str) else bytes(password)
    made = last = b''
    while len(made) < key_size + iv_size:
        last = hashlib.md5(last + secret + salt, usedforsecurity=False).digest()
        made += last
    return made[:key_size], made[key_size : key_size + iv_size]


def _cbc(password: str | bytes, salt: bytes, key_size: int) -> Any:
    # Imported late, as in storj.crypto.cipher.
    from Crypto.Cipher import AES

    key, iv = bytes_to_key(password, salt, key_size)
    return AES.new(key, AES.MODE_CBC, iv=iv)


class Encryptor:
    """Encrypts content piece by piece, under a new salt.

    Args:
        password (str | bytes): of the content.
        key_size (int): bytes of the AES key: 16, 24 or 32.

    Raises:
        ValueError: If the key has another size.
    """

    def __init__(self, password: str | bytes, key_size: int = _KEY_SIZE) -> None:
        salt = secrets.token_bytes(_SALT_SIZE)
        self._cipher = _cbc(password, salt, key_size)
        self._ready = MARK + salt
        self._rest = b''

    def update(self, data: Buffer) -> bytes:
        """Return what is ready after the next piece of the content."""
        self._rest += bytes(data)
        whole = len(self._rest) - len(self._rest) % _BLOCK
        ready = self._ready + bytes(self._cipher.encrypt(self._rest[:whole]))
        self._ready, self._rest = b'', self._rest[whole:]
        return ready

    def finish(self) -> bytes:
        """Return the end: the last bytes, and their padding."""
        padding = _BLOCK - len(self._rest)
        return self.update(bytes([padding]) * padding)


class Decryptor:
    """Decrypts content piece by piece.

    Args:
        password (str | bytes): of the content.
        key_size (int): bytes of the AES key: 16, 24 or 32.
    """

    def __init__(self, password: str | bytes, key_size: int = _KEY_SIZE) -> None:
        self._password = password
        self._key_size = key_size
        self._cipher: Any = None
        self._rest = b''

    def update(self, data: Buffer) -> bytes:
        """Return what is ready after the next piece of the ciphertext.

        Raises:
            DecryptionError: If the content does not begin as it must.
            ValueError: If the key has another size.
        """
        self._rest += bytes(data)
        if self._cipher is None:
            if len(self._rest) < _BLOCK:
                return b''
            head, self._rest = self._rest[:_BLOCK], self._rest[_BLOCK:]
            if not head.startswith(MARK):
                raise _no_salted_content()
            self._cipher = _cbc(self._password, head[len(MARK) :], self._key_size)
        # The last block is kept: only the end shows how much of it is padding.
        whole = max(0, (len(self._rest) - 1) // _BLOCK * _BLOCK)
        ready = bytes(self._cipher.decrypt(self._rest[:whole]))
        self._rest = self._rest[whole:]
        return ready

    def finish(self) -> bytes:
        """Return the last bytes, without their padding.

        Raises:
            DecryptionError: If the ciphertext is cut off, or the padding shows that the password
                is not the right one; one wrong password of 256 is not noticed.
        """
        if self._cipher is None:
            raise _no_salted_content()
        if len(self._rest) != _BLOCK:
            raise DecryptionError('the encrypted content is cut off')
        last = bytes(self._cipher.decrypt(self._rest))
        padding = last[-1]
        if not 1 <= padding <= _BLOCK or last[-padding:] != bytes([padding]) * padding:
            raise DecryptionError('the password does not fit this content')
        return last[:-padding]


def _no_salted_content() -> DecryptionError:
    return DecryptionError('the content is not encrypted as releases 0.2 and 0.3 did it')
