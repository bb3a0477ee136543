"""AES as the network uses it: seekable CTR streams for content, GCM for names and secrets.

The package ``cryptography`` does the work where it is installed (the extras bring it): it takes 0.4
of PyCryptodome's time. Either is imported by the first call and not with the module: that takes
longer than the rest of the package.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Callable
from typing import Any, overload

from storj.crypto.keys import ContentKey
from storj.digest import Buffer

__all__ = (
    'CtrStream',
    'cbc_decrypt',
    'cbc_encrypt',
    'counter_at',
    'load',
    'open_sealed',
    'opener',
    'seal',
    'synthetic_iv',
    'xor',
)

_BLOCK = 16
# Bytes that Python combines by itself.
_SHORT = 2048
_TAG_SIZE = 16
_IV_SIZE = 32
_COUNTERS = 1 << 128


def counter_at(counter: bytes, offset: int) -> bytes:
    """Return the counter block for a place in a stream.

    Args:
        counter (bytes): of the stream's beginning, 16 bytes, a big-endian number that wraps.
        offset (int): bytes before the place, a multiple of 16.

    Raises:
        ValueError: If the offset is negative or within a block.
    """
    if offset < 0 or offset % _BLOCK:
        raise ValueError('an offset of a counter block is a multiple of 16 bytes')
    return ((int.from_bytes(counter, 'big') + offset // _BLOCK) % _COUNTERS).to_bytes(_BLOCK, 'big')


class CtrStream:
    """AES-256-CTR from any offset of a file on; encryption and decryption are the same.

    Not for use by two threads at a time; the interpreter's lock is free while it works.

    Args:
        content_key (ContentKey): key and first counter block of the file.
        offset (int): byte of the file that comes first.

    Raises:
        ValueError: If the offset is negative.
    """

    def __init__(self, content_key: ContentKey, offset: int = 0) -> None:
        # counter    c        c + 1    c + 2    c + 3
        # bytes   |   16   |   16   |   16   |   16   | ...
        #                         ^ offset 40: start at c + 2, drop 8 bytes of key stream
        within = offset % _BLOCK
        start = counter_at(content_key.counter, offset - within)
        self._made, self._write = _ctr(content_key.key, start)
        # Inside a block: drop the part of the key stream that lies before the offset.
        self._made(bytes(within))

    @overload
    def process(self, data: Buffer) -> bytes: ...

    @overload
    def process(self, data: Buffer, output: bytearray | memoryview) -> None: ...

    def process(self, data: Buffer, output: bytearray | memoryview | None = None) -> bytes | None:
        """Encrypt or decrypt the next bytes.

        Args:
            data (Buffer): any number of bytes.
            output (bytearray | memoryview | None): where the result goes; of the same length, and
                data itself to work in place.

        Returns:
            bytes | None: the result, unless it went to output.

        Raises:
            ValueError: If output has another length.
        """
        if output is None:
            return self._made(data)
        if len(output) != len(data):
            raise ValueError('the output has another length than the data')
        self._write(data, output)
        return None


@functools.cache
def _fast_ciphers() -> Any:
    """Return ``cryptography``'s module of ciphers, None where it is not installed."""
    try:
        from cryptography.hazmat.primitives import ciphers
        from cryptography.hazmat.primitives.ciphers import aead, algorithms, modes  # noqa: F401
    except ImportError:
        return None
    return ciphers


def _ctr(
    key: bytes, counter: bytes
) -> tuple[Callable[[Buffer], bytes], Callable[[Buffer, bytearray | memoryview], object]]:
    """Return what encrypts the next bytes of a stream: to be returned, and into a buffer."""
    if (fast := _fast_ciphers()) is not None:
        cipher = fast.Cipher(fast.algorithms.AES256(key), fast.modes.CTR(counter)).encryptor()
        return cipher.update, cipher.update_into
    from Crypto.Cipher import AES

    slow = AES.new(key, AES.MODE_CTR, nonce=b'', initial_value=counter)
    return slow.encrypt, slow.encrypt


def load() -> None:
    """Import what the first stream needs now, while the caller waits for something else."""
    CtrStream(ContentKey(bytes(32), bytes(_BLOCK)))


def seal(key: bytes, iv: bytes, text: bytes) -> bytes:
    """Encrypt a text by AES-256-GCM with a nonce of 32 bytes.

    Returns:
        bytes: tag (16 bytes), nonce (32), ciphertext (protocol reference, section 11.6, item 8).
    """
    if (fast := _fast_ciphers()) is not None:
        made: bytes = fast.aead.AESGCM(key).encrypt(iv, text, None)
        ciphertext, tag = made[:-_TAG_SIZE], made[-_TAG_SIZE:]
    else:
        from Crypto.Cipher import AES

        ciphertext, tag = AES.new(key, AES.MODE_GCM, nonce=iv).encrypt_and_digest(text)
    # +--------+------------+------------- ...
    # | tag 16 | nonce 32   | ciphertext
    # +--------+------------+------------- ...     libstorj's order; others put the tag last
    return tag + iv + ciphertext


def open_sealed(key: bytes, sealed: bytes) -> bytes | None:
    """Return the text that :func:`seal` encrypted, None if the key or a byte is wrong.

    A text of no bytes counts as not right: libstorj seals none.
    """
    return opener(key)(sealed)


def opener(key: bytes) -> Callable[[bytes], bytes | None]:
    """Return what opens many texts as :func:`open_sealed` does: the key is set up once."""
    decrypt, wrong = _gcm(key)

    def opened(sealed: bytes) -> bytes | None:
        tag, iv, ciphertext = sealed[:_TAG_SIZE], sealed[_TAG_SIZE:][:_IV_SIZE], sealed[48:]
        if not ciphertext:
            return None
        try:
            return decrypt(iv, ciphertext, tag)
        except wrong:
            return None

    return opened


def _gcm(key: bytes) -> tuple[Callable[[bytes, bytes, bytes], bytes], type[Exception]]:
    """Return what decrypts by nonce, ciphertext and tag, and the error of a wrong one."""
    if (fast := _fast_ciphers()) is not None:
        from cryptography.exceptions import InvalidTag

        cipher = fast.aead.AESGCM(key)
        return lambda iv, text, tag: cipher.decrypt(iv, text + tag, None), InvalidTag
    from Crypto.Cipher import AES

    def slow(iv: bytes, text: bytes, tag: bytes) -> bytes:
        return AES.new(key, AES.MODE_GCM, nonce=iv).decrypt_and_verify(text, tag)

    return slow, ValueError


def synthetic_iv(key: bytes, text: bytes) -> bytes:
    """Return the nonce that libstorj takes for a text, 32 bytes: equal texts are sealed alike."""
    # A nonce that follows from the text is safe with GCM only because equal nonces mean equal texts
    # (but for a collision of 256 bits): no two texts are ever encrypted under the same one.
    return hmac.digest(key, text, hashlib.sha512)[:_IV_SIZE]


def cbc_encrypt(content_key: ContentKey, text: bytes) -> bytes:
    """Return a text in AES-256-CBC, padded as in PKCS#7, the counter taken as the first block."""
    from Crypto.Cipher import AES
    from Crypto.Util.Padding import pad

    cipher = AES.new(content_key.key, AES.MODE_CBC, iv=content_key.counter)
    return cipher.encrypt(pad(text, _BLOCK))


def cbc_decrypt(content_key: ContentKey, ciphertext: bytes) -> bytes:
    """Return the text that :func:`cbc_encrypt` encrypted.

    Raises:
        ValueError: If the padding shows that the key or the ciphertext is not the right one.
    """
    from Crypto.Cipher import AES
    from Crypto.Util.Padding import unpad

    cipher = AES.new(content_key.key, AES.MODE_CBC, iv=content_key.counter)
    return unpad(cipher.decrypt(ciphertext), _BLOCK)


def xor(left: Buffer, right: Buffer, output: bytearray | memoryview) -> None:
    """Combine two buffers of equal length by exclusive or.

    Args:
        left (Buffer): of at least one byte.
        right (Buffer): of the same length.
        output (bytearray | memoryview): of the same length; may be one of the two.

    Raises:
        ValueError: If the lengths differ.
    """
    if len(left) == len(right) <= _SHORT:
        # Importing the library takes as long as combining a thousand of these.
        number = int.from_bytes(left, 'little') ^ int.from_bytes(right, 'little')
        output[:] = number.to_bytes(len(left), 'little')
        return
    from Crypto.Util.strxor import strxor

    strxor(left, right, output=output)
