"""MetaDisk's convergent encryption: equal content makes equal keys, equal bytes and equal names.

::

    key      = HMAC-SHA256(PASSPHRASE, lower-case hex of SHA-256(plaintext))
    cipher   = AES-256-CTR, one stream over the whole file, big-endian counter of 16 bytes
    filehash = lower-case hex of SHA-256(ciphertext)

The first counter block is 0 in the nodes of the tutorial (``counter0``) and 1 in those that came
after September 2014 (``counter1``). The key is the same for both, the filehash is not, so a client
has to try both. Anyone who has a file can compute its key: this protects a
file from those who do not know its content, not from those who can guess it.

Pure: bytes in, bytes out; no file, no socket.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from storj.crypto.cipher import CtrStream
from storj.crypto.keys import ContentKey
from storj.digest import Buffer, is_hex

#: The passphrase that every node shares.
PASSPHRASE = b'Something old, something new.'

#: Bytes of a key; it travels as twice as many hex digits.
KEY_BYTES = 32

#: First counter blocks in use, the tutorial's first.
COUNTERS = (0, 1)

_BLOCK = 16


def is_filehash(text: str) -> bool:
    """Return whether ``text`` has the form of a filehash: 64 lower-case hex digits."""
    return is_hex(text, 64)


def parse_key(text: str) -> bytes:
    """Read a key as it stands in links.

    Args:
        text (str): 64 hex digits of either case.

    Returns:
        bytes: the 32 bytes.

    Raises:
        ValueError: If the text is anything else; it is a secret, so the message does not repeat it.
    """
    if not is_hex(text.lower(), 64):
        raise ValueError(f'a key is {2 * KEY_BYTES} hex digits')
    return bytes.fromhex(text)


def content_key(plaintext_digest: bytes) -> bytes:
    """Derive the key of a content.

    Args:
        plaintext_digest (bytes): SHA-256 of the whole plaintext, 32 bytes.

    Returns:
        bytes: 32 bytes.
    """
    # The message is the hex text of the digest, 64 characters, not its 32 bytes.
    return hmac.digest(PASSPHRASE, plaintext_digest.hex().encode('ascii'), 'sha256')


def content_stream(key: bytes, counter: int = 0, *, offset: int = 0) -> CtrStream:
    """Return the stream that encrypts a file, or decrypts it, from any of its bytes on.

    Args:
        key (bytes): 32 bytes.
        counter (int): first counter block of the file, 0 or 1.
        offset (int): bytes of the file before the first one handed in.
    """
    return CtrStream(ContentKey(key, counter.to_bytes(_BLOCK, 'big')), offset)


class Reader:
    """Reads a ciphertext once and checks whether it is what a reference names.

    The counters are tried side by side; at the end at most one of them gives a plaintext whose
    own key is the key. Memory does not grow with the file.

    Args:
        reference (Reference): what the bytes must be.
    """

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._key = reference.key_bytes()
        self._ciphertext = hashlib.sha256()
        self._tried = [
            (counter, content_stream(self._key, counter), hashlib.sha256()) for counter in COUNTERS
        ]
        self._scratch = bytearray()
        self.size = 0

    def update(self, data: Buffer) -> None:
        """Take the next bytes of the ciphertext."""
        if len(self._scratch) < len(data):
            self._scratch = bytearray(len(data))
        self._ciphertext.update(data)
        with memoryview(self._scratch)[: len(data)] as scratch:
            for _, stream, digest in self._tried:
                stream.process(data, scratch)
                digest.update(scratch)
        self.size += len(data)

    def is_intact(self) -> bool:
        """Return whether the bytes so far have the filehash."""
        return hmac.compare_digest(self._ciphertext.hexdigest(), self._reference.filehash)

    def counter(self) -> int | None:
        """Return the counter under which the key fits the bytes so far, or None."""
        for counter, _, digest in self._tried:
            if hmac.compare_digest(content_key(digest.digest()), self._key):
                return counter
        return None


@dataclass(frozen=True)
class Reference:
    """What one needs to find a file and read it: written ``<filehash>?key=<key>``.

    Attributes:
        filehash (str): 64 lower-case hex digits; public.
        key (str): 64 lower-case hex digits; anyone who has it can read the file, so it stays out of
            ``repr``.

    Raises:
        ValueError: If either has another form.
    """

    filehash: str
    key: str = field(repr=False)

    def __post_init__(self) -> None:
        if not is_filehash(self.filehash):
            raise ValueError(f'a filehash is {2 * KEY_BYTES} lower-case hex digits')
        parse_key(self.key)
        object.__setattr__(self, 'key', self.key.lower())

    def __str__(self) -> str:
        return f'{self.filehash}?key={self.key}'

    def key_bytes(self) -> bytes:
        """Return the key's 32 bytes."""
        return bytes.fromhex(self.key)

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference, bare or at the end of a link.

        Args:
            text (str): ``<filehash>?key=<key>``, a download URL (with or without a token), or the
                link that the web page shares, which has the reference in its fragment.

        Raises:
            ValueError: If there is no filehash or no key in it.
        """
        text = text.strip()
        fragment = urlsplit(text).fragment
        parts = urlsplit(unquote(fragment) if fragment else text)
        keys = parse_qs(parts.query).get('key', [])
        if len(keys) != 1:
            raise ValueError("a reference is written '<filehash>?key=<key>'")
        return cls(parts.path.rstrip('/').rpartition('/')[2], keys[0])
