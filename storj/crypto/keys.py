"""Keys of buckets and files, in all the schemes of the network.

Nothing on a bridge says which of the older schemes a file was encrypted with: an ``index`` in its
description means :func:`file_key`, otherwise :func:`file_key_v0` is the likeliest, and an entry in
a keyring (:mod:`storj.crypto.keyring`) goes before both.

============================ ========================================== ======================
function                     written by                                 protocol reference
============================ ========================================== ======================
:func:`file_key`             libstorj 2017 and later, this package      6.4 ("v1")
:func:`file_key_v0`          core 6.0.4 and later, storj.js             6.3 ("v0")
:func:`file_key_text`        core 5.1.0 to 6.0.3 with a mnemonic        6.2
:func:`file_key_random`      core without a mnemonic                    6.1
:func:`file_key_node`        core 0.6.12 to 0.6.16                      6.6
============================ ========================================== ======================
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from storj.crypto import mnemonic
from storj.digest import is_hash, is_hex, ripemd160

__all__ = (
    'ContentKey',
    'bucket_key',
    'bucket_key_text',
    'file_key',
    'file_key_node',
    'file_key_pair',
    'file_key_random',
    'file_key_text',
    'file_key_v0',
    'new_index',
    'public_bucket_key',
)

_KEY_SIZE = 32
_COUNTER_SIZE = 16


@dataclass(frozen=True)
class ContentKey:
    """What the bytes of one file are encrypted with.

    Attributes:
        key (bytes): of AES-256, 32 bytes.
        counter (bytes): the first counter block of CTR mode, 16 bytes.
    """

    key: bytes
    counter: bytes

    def __post_init__(self) -> None:
        if len(self.key) != _KEY_SIZE or len(self.counter) != _COUNTER_SIZE:
            raise ValueError('a content key has 32 bytes of key and 16 of counter')

    def __repr__(self) -> str:
        """Return the class alone: a key belongs in no log."""
        return 'ContentKey(...)'

    def hmac(self, shard_hashes: Iterable[str]) -> str:
        """Return the HMAC of a file, which proves to a reader that its key is right.

        Args:
            shard_hashes (Iterable[str]): of all shards in the order of the index, parity included.

        Returns:
            str: 128 hex digits of HMAC-SHA512 (protocol reference, section 11.6, item 7).

        Raises:
            ValueError: If a hash is malformed.
        """
        code = hmac.new(self.key, digestmod=hashlib.sha512)
        for text in shard_hashes:
            if not is_hash(text):
                raise ValueError('a shard hash is 40 hex digits')
            code.update(bytes.fromhex(text))
        return code.hexdigest()


#   encryption key (mnemonic)
#       |   PBKDF2-HMAC-SHA512, 2048 rounds, salt "mnemonic"
#   seed (64 bytes)
#       |   SHA-512(seed + bucket id as 12 bytes), cut to 32 bytes
#   bucket key (32)
#       |                                       |
#       |   SHA-512(key + index of 32 bytes)    |   SHA-512(key + file id as 12 bytes)
#   file key (32), "v1"                     file key (32), "v0"
#       |                                       |
#   key of AES: the file key itself         key of AES: SHA-256 of the file key's 64 hex digits
#   counter:    index, first 16 bytes       counter:    RIPEMD-160(file id as text), first 16 bytes
def _step(key: bytes, identifier: bytes) -> bytes:
    return hashlib.sha512(key + identifier).digest()[:_KEY_SIZE]


def _from_hex(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except (TypeError, ValueError):
        raise ValueError(f'the {what} is not hex') from None


def bucket_key(words: str, bucket_id: str) -> bytes:
    """Return the key of a bucket, from which the keys of its files follow.

    Args:
        words (str): the encryption key (mnemonic); :func:`storj.crypto.mnemonic.check` checks it.
        bucket_id (str): hex digits, 24 of a real bucket.

    Returns:
        bytes: 32 bytes.

    Raises:
        ValueError: If the id is not hex.
        MnemonicError: If the encryption key is no text.
    """
    return _step(mnemonic.seed(words), _from_hex(bucket_id, 'bucket id'))


def public_bucket_key(encryption_key: str) -> bytes:
    """Return the bucket key that the owner of a public bucket left at the bridge.

    Args:
        encryption_key (str): the field ``encryptionKey`` of a token, 64 hex digits.

    Returns:
        bytes: 32 bytes, as from :func:`bucket_key`.

    Raises:
        ValueError: If the field is anything else.
    """
    if not is_hex(encryption_key, 64, any_case=True):
        raise ValueError('the key of a public bucket is 64 hex digits')
    return bytes.fromhex(encryption_key)


def new_index() -> str:
    """Return the random index of a new file, 64 hex digits."""
    return secrets.token_hex(_KEY_SIZE)


def file_key(bucket_key: bytes, index: str) -> ContentKey:
    """Return the key of a file that has an index ("v1").

    Args:
        bucket_key (bytes): of the file's bucket, 32 bytes.
        index (str): of the file, 64 hex digits.

    Raises:
        ValueError: If the index is anything else.
    """
    if not is_hex(index, 64, any_case=True):
        raise ValueError('the index of a file is 64 hex digits')
    raw = bytes.fromhex(index)
    # The key itself is the key of AES here; the older schemes hash it once more (section 6.4). The
    # index is public, which a counter may be.
    return ContentKey(_step(bucket_key, raw), raw[:_COUNTER_SIZE])


def file_key_v0(bucket_key: bytes, file_id: str) -> ContentKey:
    """Return the key of a file without an index ("v0").

    Args:
        bucket_key (bytes): of the file's bucket, 32 bytes.
        file_id (str): hex digits, 24 of a real file.

    Raises:
        ValueError: If the id is not hex.
    """
    # The quirk of v0: AES takes SHA-256 of the 64 hex digits, not of the 32 bytes (section 6.3).
    text = _step(bucket_key, _from_hex(file_id, 'file id')).hex()
    return file_key_pair(text, file_id)


# Everything is text here: ids and keys are hashed as hex digits, the mnemonic as words and not as a
# seed (section 6.2).
def _step_text(key: str, identifier: str) -> str:
    return hashlib.sha512((key + identifier).encode()).hexdigest()[: 2 * _KEY_SIZE]


def bucket_key_text(words: str, bucket_id: str) -> str:
    """Return the key of a bucket in the scheme of texts (section 6.2), 64 hex digits."""
    return _step_text(words, bucket_id)


def file_key_text(bucket_key: str, file_id: str) -> ContentKey:
    """Return the key of a file in the scheme of texts (section 6.2).

    Args:
        bucket_key (str): from :func:`bucket_key_text`, or of a public bucket of that time.
        file_id (str): as text.
    """
    return file_key_pair(_step_text(bucket_key, file_id), file_id)


def file_key_pair(password: str, salt: str) -> ContentKey:
    """Return the key that follows from two texts: a keyring's entry of type DeterministicKeyIv.

    Args:
        password (str): hashed into the key.
        salt (str): hashed into the counter.
    """
    return ContentKey(
        hashlib.sha256(password.encode()).digest(), ripemd160(salt.encode())[:_COUNTER_SIZE]
    )


def file_key_random(password: bytes, salt: bytes) -> ContentKey:
    """Return the key of a file whose random password and salt are in a keyring (section 6.1).

    Args:
        password (bytes): 512 bytes as a rule.
        salt (bytes): 32 bytes as a rule.
    """
    # The specification takes the salt itself for the counter; the programs hash it first.
    master = hashlib.pbkdf2_hmac('sha512', password, salt, 25000, 512)
    return ContentKey(hashlib.sha256(master).digest(), ripemd160(salt)[:_COUNTER_SIZE])


def file_key_node(private_key: bytes, node_id: str) -> ContentKey:
    """Return the key of a file that has a key pair of its own (section 6.6).

    Args:
        private_key (bytes): of secp256k1, 32 bytes.
        node_id (str): the hash of its public key, 40 hex digits.

    Raises:
        ValueError: If the node id is not hex.
    """
    node = _from_hex(node_id, 'node id')
    master = hashlib.pbkdf2_hmac('sha512', private_key, node, 10000, 512)
    counter = hmac.digest(master, node_id.encode(), 'sha256')[:_COUNTER_SIZE]
    return ContentKey(hmac.digest(master, private_key.hex().encode(), 'sha256'), counter)
