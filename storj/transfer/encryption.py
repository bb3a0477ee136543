"""Under which name and with which key a file is stored on the network.

============================  =============================================================
bridge and arguments          entry
============================  =============================================================
5.13 and later                ``index`` at random, key "v1", HMAC-SHA512 with that key
older                         key "v0" from the file's id, HMAC likewise (since 5.3)
``key_scheme`` given          key "v0" or "text" from the file's id, HMAC likewise
``encrypt=False``             no key; HMAC-SHA256 with an empty key: it marks the file, and
                              other clients leave types they do not know unchecked
============================  =============================================================

The mark proves nothing, as anybody can make it: what was stored without encryption is read with
``decrypt=False``, and a bridge that shows the mark for another file gets an error.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from storj import sharding
from storj.api import BridgeProfile
from storj.crypto import keys, mnemonic, names
from storj.crypto.keys import ContentKey
from storj.digest import is_hex
from storj.exception import (
    DecryptionError,
    IntegrityError,
    MnemonicError,
    UnauthenticatedError,
)
from storj.model import File
from storj.transfer.config import BridgeReader, KeyScheme

_log = logging.getLogger(__name__)

_NO_KEY = (
    'there is no encryption key: set STORJ_ENCRYPTION_KEY to a mnemonic '
    "('storj key generate --mnemonic' makes one)"
)
_AS_STORED = 'decrypt=False (--plain) fetches the bytes as they are stored'
_ALLOW = 'allow_unauthenticated (--allow-unauthenticated) decrypts files of bridges before 5.3'


@dataclass(frozen=True)
class FileEncryption:
    """How a file is to be stored.

    Attributes:
        name (str): as the bridge gets it.
        key (ContentKey | None): of the content; None if it is stored in the clear.
        index (str | None): 64 hex digits for the entry; None where the bridge knows none.
    """

    name: str
    key: ContentKey | None
    index: str | None

    @property
    def is_repeated(self) -> bool:
        """Whether every file of this name in the bucket is encrypted with the same key stream."""
        return self.key is not None and self.index is None

    @property
    def key_proof(self) -> str:
        """What shows in a journal that a key is the same one, without showing the key."""
        raw = b'' if self.key is None else self.key.key + self.key.counter
        return hmac.new(raw, b'storj transfer journal', hashlib.sha256).hexdigest()

    def hmac(self, hashes: Sequence[str]) -> dict[str, str]:
        """Return the HMAC for the entry, over the hashes of all shards."""
        if self.key is None:
            return {'type': 'sha256', 'value': _open_hmac(hashes)}
        return {'type': 'sha512', 'value': self.key.hmac(hashes)}


def _open_hmac(hashes: Sequence[str]) -> str:
    return hmac.new(b'', b''.join(map(bytes.fromhex, hashes)), hashlib.sha256).hexdigest()


def bucket_key(bridge: BridgeReader, bucket_id: str) -> bytes | None:
    """Return the key to read a bucket: from the encryption key, else what the bucket publishes.

    Raises:
        MnemonicError: If the encryption key is no mnemonic.
        IntegrityError: If the bridge publishes anything but a key.
    """
    if bridge.mnemonic:
        mnemonic.check(bridge.mnemonic)
        return keys.bucket_key(bridge.mnemonic, bucket_id)
    published = bridge.token_create(bucket_id, 'PULL').encryptionKey
    try:
        return keys.public_bucket_key(published) if published else None
    except ValueError as error:
        raise IntegrityError(f'what the bridge publishes is no key: {error}') from error


def stored_name(key: bytes | None, bucket_id: str, name: str) -> str:
    """Return the name as the bridge gets it: encrypted if there is a bucket key."""
    return name if key is None else names.encrypt_file_name(key, bucket_id, name)


def encryption_for(
    bridge: BridgeReader,
    profile: BridgeProfile,
    bucket_id: str,
    name: str,
    *,
    encrypt: bool,
    encrypt_name: bool,
    index: str | None = None,
    scheme: KeyScheme | None = None,
) -> FileEncryption:
    """Return how to store a file.

    Args:
        bridge (BridgeReader): whose encryption key is taken.
        profile (BridgeProfile): what it understands.
        bucket_id (str): 24 hex digits.
        name (str): of the file, in the clear.
        encrypt (bool): whether the content is encrypted.
        encrypt_name (bool): whether the name is; only together with the content.
        index (str | None): of an interrupted upload, 64 hex digits; a new one by default.
        scheme (KeyScheme | None): for readers that know no index: the key follows from the
            file's id. By default that is so only where the bridge keeps no index, as v0.

    Raises:
        MnemonicError: If encryption is asked for without an encryption key.
    """
    if not encrypt:
        return FileEncryption(name, None, None)
    if not bridge.mnemonic:
        # Not with a key that the bridge publishes: it could read what is encrypted with that.
        raise MnemonicError(_NO_KEY)
    mnemonic.check(bridge.mnemonic)
    key = keys.bucket_key(bridge.mnemonic, bucket_id)
    stored = stored_name(key if encrypt_name else None, bucket_id, name)
    if profile.has_index and scheme is None:
        index = index or keys.new_index()
        return FileEncryption(stored, keys.file_key(key, index), index)
    file_id = sharding.file_id(bucket_id, stored)
    if scheme == 'text':
        return FileEncryption(stored, _text_key(bridge, bucket_id, file_id, key), None)
    return FileEncryption(stored, keys.file_key_v0(key, file_id), None)


def _text_key(bridge: BridgeReader, bucket_id: str, file_id: str, of_bucket: bytes) -> ContentKey:
    """Return the key of a file in the scheme of texts."""
    words = bridge.mnemonic
    # A public bucket of that time published its text as the other schemes publish their bytes.
    text = keys.bucket_key_text(words, bucket_id) if words else of_bucket.hex()
    return keys.file_key_text(text, file_id)


def key_of(
    bridge: BridgeReader,
    bucket_id: str,
    file_id: str,
    entry: File,
    hashes: Sequence[str],
    *,
    key: ContentKey | None = None,
    scheme: KeyScheme | None = None,
    allow_unauthenticated: bool = False,
) -> ContentKey | None:
    """Return the key of a stored file, proved by its HMAC before anything is fetched.

    The caller's settings decide whether a proof is needed, not the answers of the bridge: a reader
    with a key gets what was stored under it, or an error. Reading the stored bytes without
    decryption does not pass here.

    Args:
        bridge (BridgeReader): whose encryption key is taken.
        bucket_id (str): 24 hex digits.
        file_id (str): 24 hex digits.
        entry (File): the file's description.
        hashes (Sequence[str]): of all its shards, from its pointers.
        key (ContentKey | None): of the file, if it was passed on; then no encryption key
            is needed.
        scheme (KeyScheme | None): of a file that has neither index nor HMAC; v0 by default.
        allow_unauthenticated (bool): whether a file that has neither is taken unproved, from a
            bridge whose release keeps no HMACs.

    Returns:
        ContentKey | None: None if the client has no key and the file no index: its bytes are taken
        as they are stored, and nothing about them can be proved.

    Raises:
        MnemonicError: If the file has an index and there is no encryption key.
        DecryptionError: If the key does not fit the file.
        IntegrityError: If it fits the file's name, but the hashes are not those of the file.
        UnauthenticatedError: If the entry has no HMAC under a key.
    """
    of_bucket = bucket_key(bridge, bucket_id) if key is None else None
    if key is not None:
        candidates = [key]
    elif of_bucket is not None:
        candidates = _candidates(bridge, bucket_id, file_id, entry, of_bucket, scheme)
    elif entry.index:
        raise MnemonicError(f'{_NO_KEY}; {_AS_STORED}')
    else:
        return None
    kind, value = _hmac_of(entry)
    if kind != 'sha512':
        _check_excused(bridge, entry, kind, allow_unauthenticated=allow_unauthenticated)
        # Nothing proves the key; a name that does not open is all the warning there is.
        if _opens_name(of_bucket, entry) is False:
            raise DecryptionError('the encryption key does not fit the name of this file')
        _log.warning('file %s has no HMAC: nothing proves that its content is right', file_id)
        return candidates[0]
    # An entry without an index does not state the scheme of its key; the HMAC shows it.
    for candidate in candidates:
        if hmac.compare_digest(value, candidate.hmac(hashes)):
            return candidate
    if _opens_name(of_bucket, entry):
        raise IntegrityError('the list of shards is not the one that was stored (HMAC)')
    what = 'encryption key' if key is None else 'key that was given'
    raise DecryptionError(f'the {what} does not fit this file (HMAC)')


def proves_content(
    bridge: BridgeReader, bucket_id: str, entry: File, hashes: Callable[[ContentKey], Sequence[str]]
) -> bool:
    """Return whether an entry proves by itself that its shards have certain hashes.

    False also of an entry that has no index, or no HMAC under a key: :func:`key_of` says why.

    Args:
        bridge (BridgeReader): whose encryption key is taken.
        bucket_id (str): 24 hex digits.
        entry (File): the file's description.
        hashes (Callable[[ContentKey], Sequence[str]]): returns the hashes under a key.
    """
    of_bucket = bucket_key(bridge, bucket_id)
    kind, value = _hmac_of(entry)
    if of_bucket is None or kind != 'sha512' or not is_hex(entry.index, 64, any_case=True):
        return False
    key = keys.file_key(of_bucket, entry.index)
    return hmac.compare_digest(value, key.hmac(hashes(key)))


def _check_excused(
    bridge: BridgeReader, entry: File, kind: str | None, *, allow_unauthenticated: bool
) -> None:
    """Raise UnauthenticatedError unless a file may be taken without an HMAC under its key.

    Only bridges before 5.3 keep no HMACs, and those keep no indices either.
    """
    if kind == 'sha256':
        raise UnauthenticatedError(
            'the bridge says that this file was stored without encryption, which nothing proves; '
            f'if you stored it so, {_AS_STORED}'
        )
    if kind is not None:
        raise UnauthenticatedError(f'the HMAC of this file is of an unknown type; {_AS_STORED}')
    profile = bridge.profile()
    keeps_hmacs = bool(entry.index) or (profile.version is not None and profile.has_hmac)
    if not keeps_hmacs and allow_unauthenticated:
        return
    advice = '' if keeps_hmacs else f'; {_ALLOW}'
    raise UnauthenticatedError(
        f'this file has no HMAC, so nothing proves its content; {_AS_STORED}{advice}'
    )


def _opens_name(of_bucket: bytes | None, entry: File) -> bool | None:
    """Return whether the bucket's key decrypts the name; None if the name is not encrypted."""
    name = entry.filename if isinstance(entry.filename, str) else None
    if of_bucket is None or not name:
        return None
    if names.decrypt_file_name(of_bucket, name) is not None:
        return True
    return False if names.looks_encrypted(name) else None


def _candidates(
    bridge: BridgeReader,
    bucket_id: str,
    file_id: str,
    entry: File,
    of_bucket: bytes,
    scheme: KeyScheme | None,
) -> list[ContentKey]:
    """Return the keys that a file may have, the one to take unproved first.

    Raises:
        IntegrityError: If the entry's index is none.
    """
    try:
        if entry.index:
            return [keys.file_key(of_bucket, entry.index)]
        found = [
            keys.file_key_v0(of_bucket, file_id),
            _text_key(bridge, bucket_id, file_id, of_bucket),
        ]
    except ValueError as error:
        raise IntegrityError(f'the entry of the file is damaged: {error}') from error
    return found[::-1] if scheme == 'text' else found


def _hmac_of(entry: File) -> tuple[str | None, str]:
    """Return type and value of the entry's HMAC, in a form that can be compared."""
    found = entry.hmac if isinstance(entry.hmac, Mapping) else {}
    kind, value = found.get('type'), found.get('value')
    if not isinstance(kind, str):
        return None, ''
    # What is no text of hex digits equals no HMAC; compare_digest takes ASCII only.
    return kind, value.lower() if isinstance(value, str) and value.isascii() else ''
