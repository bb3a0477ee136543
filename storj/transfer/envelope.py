"""Under which name and with which key a file lies on the network.

============================  =============================================================
bridge and arguments          entry
============================  =============================================================
5.13 and later                ``index`` at random, key "v1", HMAC-SHA512 with that key
older                         key "v0" from the file's id, HMAC likewise (since 5.3)
``encrypt=False``             no key; HMAC-SHA256 with an empty key, which marks the file as
                              stored in the clear: other clients leave types they do not
                              know unchecked, and ours needs no hint to read it back
============================  =============================================================
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from storj import sharding
from storj.api import BridgeProfile
from storj.crypto import keys, mnemonic, names
from storj.crypto.keys import ContentKey
from storj.exception import DecryptionError, IntegrityError, MnemonicError
from storj.model import File
from storj.transfer.bridge import Bridge

__all__ = ('Envelope', 'KeyScheme', 'bucket_key', 'key_of', 'seal', 'stored_name')

#: How the key of a file without an index follows from the words: ``v0``, or ``text`` as in the core
#: library 5.1.0 to 6.0.3 (:mod:`storj.crypto.keys`).
KeyScheme = Literal['v0', 'text']

_NO_WORDS = (
    'there is no encryption key: set STORJ_ENCRYPTION_KEY to a mnemonic '
    "('storj key generate --mnemonic' makes one)"
)


@dataclass(frozen=True)
class Envelope:
    """How a file is to be stored.

    Attributes:
        name (str): as the bridge gets it.
        key (ContentKey | None): of the content; None if it is stored in the clear.
        index (str | None): 64 hex digits for the entry; None where the bridge knows none.
    """

    name: str
    key: ContentKey | None
    index: str | None

    def hmac(self, hashes: Sequence[str]) -> dict[str, str]:
        """Return the HMAC for the entry, over the hashes of all shards."""
        if self.key is None:
            return {'type': 'sha256', 'value': _open_hmac(hashes)}
        return {'type': 'sha512', 'value': self.key.hmac(hashes)}


def _open_hmac(hashes: Sequence[str]) -> str:
    return hmac.new(b'', b''.join(map(bytes.fromhex, hashes)), hashlib.sha256).hexdigest()


def bucket_key(bridge: Bridge, bucket_id: str, operation: str) -> bytes | None:
    """Return the key of a bucket: from the words, else the one a public bucket publishes.

    Raises:
        MnemonicError: if there are words and they are no mnemonic.
        IntegrityError: if the bridge publishes something else than a key.
    """
    if bridge.mnemonic:
        mnemonic.check(bridge.mnemonic)
        return keys.bucket_key(bridge.mnemonic, bucket_id)
    published = bridge.token_create(bucket_id, operation).encryptionKey
    try:
        return keys.public_bucket_key(published) if published else None
    except ValueError as error:
        raise IntegrityError(f'what the bridge publishes is no key: {error}') from error


def stored_name(key: bytes | None, bucket_id: str, name: str) -> str:
    """Return the name as the bridge gets it: encrypted if there is a bucket key."""
    return name if key is None else names.encrypt_file_name(key, bucket_id, name)


def seal(
    bridge: Bridge,
    profile: BridgeProfile,
    bucket_id: str,
    name: str,
    *,
    encrypt: bool,
    encrypt_name: bool,
    index: str | None = None,
) -> Envelope:
    """Return how to store a file.

    Args:
        bridge (Bridge): whose words are taken.
        profile (BridgeProfile): what it understands.
        bucket_id (str): 24 hex digits.
        name (str): of the file, in the clear.
        encrypt (bool): whether the content is encrypted.
        encrypt_name (bool): whether the name is; only together with the content.
        index (str | None): of a broken-off upload, 64 hex digits; a new one by default.

    Raises:
        MnemonicError: if encryption is asked for without words.
    """
    if not encrypt:
        return Envelope(name, None, None)
    key = bucket_key(bridge, bucket_id, 'PUSH')
    if key is None:
        raise MnemonicError(_NO_WORDS)
    stored = stored_name(key if encrypt_name else None, bucket_id, name)
    if profile.has_index:
        index = index or keys.new_index()
        return Envelope(stored, keys.file_key(key, index), index)
    file_id = sharding.file_id(bucket_id, stored)
    return Envelope(stored, keys.file_key_v0(key, file_id), None)


def key_of(
    bridge: Bridge,
    bucket_id: str,
    file_id: str,
    entry: File,
    hashes: Sequence[str],
    *,
    key: ContentKey | None = None,
    scheme: KeyScheme = 'v0',
) -> ContentKey | None:
    """Return the key of a stored file, proved by its HMAC before anything is fetched.

    Args:
        bridge (Bridge): whose words are taken.
        bucket_id (str): 24 hex digits.
        file_id (str): 24 hex digits.
        entry (File): the file's description.
        hashes (Sequence[str]): of all its shards, from its pointers.
        key (ContentKey | None): of the file, where somebody passed it on; then no words are
            needed.
        scheme (KeyScheme): of a file without an index; where there is an HMAC, it decides.

    Returns:
        ContentKey | None: None if the file is stored in the clear.

    Raises:
        MnemonicError: if the file is encrypted and there are no words.
        DecryptionError: if the words do not fit the file.
        IntegrityError: if they do fit its name, but the hashes are not those of the file.
    """
    kind, value = _hmac_of(entry)
    if kind == 'sha256' and hmac.compare_digest(value, _open_hmac(hashes)):
        return None
    if key is not None:
        if kind == 'sha512' and not hmac.compare_digest(value, key.hmac(hashes)):
            raise DecryptionError('the key that was given does not fit this file (HMAC)')
        return key
    of_bucket = bucket_key(bridge, bucket_id, 'PULL')
    if of_bucket is None:
        raise MnemonicError(f'{_NO_WORDS}; decrypt=False fetches the bytes as they are stored')
    try:
        candidates = _candidates(bridge, bucket_id, file_id, entry, of_bucket, scheme)
    except ValueError as error:
        raise IntegrityError(f'the entry of the file is damaged: {error}') from error
    name = entry.filename if isinstance(entry.filename, str) else None
    opened = names.decrypt_file_name(of_bucket, name) if name else None
    if kind != 'sha512':
        # Nothing proves the key; a name that does not open is all the warning there is.
        if opened is None and names.looks_encrypted(name):
            raise DecryptionError('the encryption key does not fit the name of this file')
        return candidates[0]
    for candidate in candidates:
        if hmac.compare_digest(value, candidate.hmac(hashes)):
            return candidate
    if opened is not None:
        raise IntegrityError('the list of shards is not the one that was stored (HMAC)')
    raise DecryptionError('the encryption key does not fit this file (HMAC)')


def _candidates(
    bridge: Bridge,
    bucket_id: str,
    file_id: str,
    entry: File,
    of_bucket: bytes,
    scheme: KeyScheme,
) -> list[ContentKey]:
    """Return the keys that a file may have, the one to take unproved first."""
    if entry.index:
        return [keys.file_key(of_bucket, entry.index)]
    words = bridge.mnemonic
    # A public bucket of that time published its text as the other schemes publish their bytes.
    text = keys.bucket_key_text(words, bucket_id) if words else of_bucket.hex()
    found = [keys.file_key_v0(of_bucket, file_id), keys.file_key_text(text, file_id)]
    return found if scheme == 'v0' else found[::-1]


def _hmac_of(entry: File) -> tuple[str | None, str]:
    """Return type and value of the entry's HMAC, in a form that can be compared."""
    found = entry.hmac if isinstance(entry.hmac, Mapping) else {}
    kind, value = found.get('type'), found.get('value')
    if not isinstance(kind, str):
        return None, ''
    # What is no text of hex digits equals no HMAC; compare_digest takes ASCII only.
    return kind, value.lower() if isinstance(value, str) and value.isascii() else ''
