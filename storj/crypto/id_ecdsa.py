"""The identity of a core client: its key pair, and how the file ``id_ecdsa`` keeps it encrypted.

Releases 0.2 and 0.3 of this SDK had both classes in :mod:`storj.model`, which still names them.
"""

from __future__ import annotations

import hmac
import re
import secrets
from typing import Any

from ecdsa import SECP256k1, SigningKey

from storj.crypto import base58, salted
from storj.crypto.cipher import cbc_decrypt, cbc_encrypt
from storj.crypto.keys import ContentKey
from storj.digest import rmd160sha256
from storj.exception import DecryptionError
from storj.object import Object

__all__ = ('IdecdsaCipher', 'KeyPair')

_BLOCK = 16
_PRIVATE_KEY = re.compile('[0-9a-fA-F]{1,64}')

# Of the main network of Bitcoin, whose addresses node ids were shown as.
_ADDRESS_VERSION = b'\0'


class KeyPair:
    """ECDSA key pair of the curve secp256k1, as releases 0.2 and 0.3 had it.

    Args:
        pkey (str | None): private key, up to 64 hex digits.
        secret (str | None): text that the private key follows from (the master key of BIP32), in
            the place of ``pkey``. Without either, a new private key is made.

    Raises:
        ValueError: If the private key is not hex, or not one of the curve.

    Attributes:
        keypair (ecdsa.SigningKey): the key itself (a pycoin key in 0.3).
    """

    def __init__(self, pkey: str | None = None, secret: str | None = None) -> None:
        if secret is not None:
            number = int.from_bytes(_master_key(secret.encode()), 'big')
        elif pkey is not None:
            # A pattern first: int() takes signs, spaces and underscores as well.
            known = isinstance(pkey, str) and _PRIVATE_KEY.fullmatch(pkey)
            number = int(pkey, 16) if known else 0
        else:
            number = secrets.randbelow(SECP256k1.order - 1) + 1
        if not 0 < number < SECP256k1.order:
            raise ValueError('a private key is up to 64 hex digits, of a number of secp256k1')
        self.keypair: Any = SigningKey.from_secret_exponent(number, curve=SECP256k1)

    @property
    def private_key(self) -> str:
        """Private key, 64 hex digits."""
        return str(self.keypair.to_string().hex())

    @property
    def public_key(self) -> str:
        """Public key: hex of the compressed point, 66 digits."""
        return self._point().hex()

    @property
    def node_id(self) -> str:
        """NodeID: RIPEMD-160 of SHA-256 of the compressed point, 40 hex digits."""
        return rmd160sha256(self._point()).hex()

    @property
    def address(self) -> str:
        """The NodeID as a Bitcoin address, in Base58 with a checksum."""
        return base58.encode_check(_ADDRESS_VERSION + rmd160sha256(self._point()))

    def _point(self) -> bytes:
        return bytes(self.keypair.get_verifying_key().to_string('compressed'))


def _master_key(seed: bytes) -> bytes:
    """Return the private key of BIP32's master node."""
    return hmac.digest(b'Bitcoin seed', seed, 'sha512')[:32]


class IdecdsaCipher(Object):
    """Encrypts and decrypts what the file ``id_ecdsa`` holds, as releases 0.2 and 0.3 did.

    AES-256-CBC of the hex of the data, with key and first block from
    :func:`storj.crypto.salted.bytes_to_key`, written in Base58. It has neither salt nor rounds:
    read old files with it, and protect no new secret by it.
    """

    _identifier = ''

    @staticmethod
    def pad(data: str) -> str:
        """Return text padded to a multiple of 16 characters, as in PKCS#7."""
        padding = _BLOCK - len(data) % _BLOCK
        return data + chr(padding) * padding

    @staticmethod
    def unpad(data: str | bytes) -> str | bytes:
        """Return text or bytes without their padding.

        Raises:
            ValueError: If there is no padding.
        """
        padding = ord(data[-1:]) if data else 0
        if not 1 <= padding <= min(_BLOCK, len(data)):
            raise ValueError('the data is not padded')
        return data[:-padding]

    def EVP_BytesToKey(  # noqa: N802 - the name is OpenSSL's
        self, password: str, key_len: int, iv_len: int
    ) -> tuple[bytes, bytes]:
        """Return key and first block that follow from a password, without a salt."""
        return salted.bytes_to_key(password, b'', key_len, iv_len)

    def encrypt(self, data: str | bytes, key: bytes, iv: bytes) -> bytes:
        """Encrypt data.

        Args:
            data (str | bytes): text is taken as UTF-8.
            key (bytes): 32 bytes.
            iv (bytes): 16 bytes.

        Raises:
            ValueError: If key or iv have another size.
        """
        raw = data.encode() if isinstance(data, str) else bytes(data)
        return cbc_encrypt(ContentKey(key, iv), raw.hex().encode())

    def decrypt(self, data: bytes, key: bytes, iv: bytes) -> str | bytes:
        """Decrypt data.

        Args:
            data (bytes): from :meth:`encrypt`.
            key (bytes): 32 bytes.
            iv (bytes): 16 bytes.

        Returns:
            str | bytes: text, or bytes that are no UTF-8: a private key.

        Raises:
            DecryptionError: If the key is not the right one.
            ValueError: If key or iv have another size.
        """
        content_key = ContentKey(key, iv)
        try:
            raw = bytes.fromhex(cbc_decrypt(content_key, data).decode('ascii'))
        except ValueError:
            raise DecryptionError('the passphrase does not open the data') from None
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw

    def simpleEncrypt(self, passphrase: str, data: str | bytes) -> str:  # noqa: N802
        """Encrypt data with a passphrase; the result is Base58."""
        return base58.encode(self.encrypt(data, *self.EVP_BytesToKey(passphrase, 32, 16)))

    def simpleDecrypt(self, passphrase: str, base58_data: str) -> str | bytes:  # noqa: N802
        """Decrypt what :meth:`simpleEncrypt`, or a core client, encrypted.

        Returns:
            str | bytes: as :meth:`decrypt`.

        Raises:
            DecryptionError: If the passphrase is not the right one.
            ValueError: If the text is not Base58.
        """
        data = base58.decode(base58_data)
        if data.startswith(salted.MARK):
            salt, data = data[len(salted.MARK) : _BLOCK], data[_BLOCK:]
            return self.decrypt(data, *salted.bytes_to_key(passphrase, salt))
        return self.decrypt(data, *self.EVP_BytesToKey(passphrase, 32, 16))
