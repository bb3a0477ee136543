"""Whether two files have the same content, found out without fetching any where possible."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from pathlib import Path

from storj.catalog.entries import FileEntry
from storj.catalog.tree import LocalFile
from storj.crypto.cipher import CtrStream
from storj.crypto.keys import ContentKey
from storj.digest import ShardDigest
from storj.exception import TransferCancelled
from storj.model import FilePointer
from storj.sharding import PARITY_THRESHOLD
from storj.transfer import BridgeReader, TransferConfig, Transfers
from storj.transfer.encryption import key_of, proves_content

__all__ = ('POINTERS_PAGE', 'Contents', 'all_pointers', 'same_content')

#: Bytes read at a time.
_PIECE = 256 * 1024
#: Pointers asked for at a time.
POINTERS_PAGE = 32


def same_content(
    bridge: BridgeReader,
    path: Path,
    entry: FileEntry,
    config: TransferConfig,
    *,
    decrypt: bool,
    stopping: threading.Event | None = None,
) -> bool:
    """Return whether a local file has the content of a stored one, without fetching that.

    The file is encrypted as the stored one is and cut where its shards end; then the hashes must
    agree with those in the pointers. Costs one pass over the file and a few small requests; none
    for an unchanged file of one shard, if the bridge lists indices.

    Args:
        bridge (BridgeReader): client of the account.
        path (Path): of the local file.
        entry (FileEntry): of the stored file, of the same size.
        config (TransferConfig): how keys are made, and what is taken without an HMAC.
        decrypt (bool): False to compare with the bytes as they are stored.
        stopping (threading.Event | None): ends the comparison.

    Raises:
        TransferCancelled: If it was ended.
        IntegrityError: If the list of shards is not proved to be the one that was stored.
        DecryptionError: If the encryption key does not fit the file.
    """
    if decrypt and (entry.size or PARITY_THRESHOLD) < PARITY_THRESHOLD:
        # A small file has one shard as a rule; then its HMAC is that of one hash.
        with path.open('rb') as file:
            content = file.read(PARITY_THRESHOLD)
        if proves_content(
            bridge, entry.bucket.id, entry.described(), lambda key: [_hash_of(key, content)]
        ):
            return True
    pointers = all_pointers(bridge, entry)
    described = bridge.file_metadata(entry.bucket.id, entry.id)
    hashes = [pointer['hash'] for pointer in pointers]
    key = None
    if decrypt:
        key = key_of(
            bridge,
            entry.bucket.id,
            entry.id,
            described,
            hashes,
            scheme=config.key_scheme,
            allow_unauthenticated=config.allow_unauthenticated,
        )
    cipher = None if key is None else CtrStream(key)
    with path.open('rb') as file:
        for pointer in pointers:
            if pointer.get('parity'):
                continue
            size = int(pointer['size'])
            digest = ShardDigest()
            while size:
                piece = file.read(min(size, _PIECE))
                if not piece:
                    return False
                _check_stopping(stopping)
                digest.update(piece if cipher is None else cipher.process(piece))
                size -= len(piece)
            if not hmac.compare_digest(digest.hexdigest(), pointer['hash']):
                return False
        return not file.read(1)


def _hash_of(key: ContentKey, content: bytes) -> str:
    """Return the hash of the one shard that a content makes."""
    digest = ShardDigest()
    digest.update(CtrStream(key).process(content))
    return digest.hexdigest()


def all_pointers(bridge: BridgeReader, entry: FileEntry) -> list[FilePointer]:
    """Return the pointers to all shards of a file, in order."""
    pointers: list[FilePointer] = []
    while len(pointers) % POINTERS_PAGE == 0:
        page = list(
            bridge.file_pointers(entry.bucket.id, entry.id, skip=len(pointers), limit=POINTERS_PAGE)
        )
        if not page:
            break
        pointers += page
    return pointers


class Contents:
    """Compares the contents of files.

    Args:
        downloads (Transfers[BridgeReader]): the engine of what is fetched.
        decrypt (bool): False to compare with stored bytes as they are.
        fetching (bool): fetch stored files instead of trusting their hashes: a comparison that
            also proves that they can be read.
    """

    def __init__(
        self, downloads: Transfers[BridgeReader], *, decrypt: bool = True, fetching: bool = False
    ) -> None:
        self._downloads = downloads
        self._decrypt = decrypt
        self._fetching = fetching
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the comparisons under way, and refuse others."""
        self._stopping.set()

    def are_same(self, one: LocalFile | FileEntry, other: LocalFile | FileEntry) -> bool:
        """Return whether two files have the same content.

        Two stored files are both fetched: each is encrypted under a key of its own.

        Raises:
            TransferCancelled: If the comparison was ended.
            StorjError, OSError: If one of them cannot be read.
        """
        _check_stopping(self._stopping)
        if one.size != other.size:
            return False
        if isinstance(one, FileEntry):
            one, other = other, one
        if isinstance(one, LocalFile) and isinstance(other, FileEntry) and not self._fetching:
            engine = self._downloads
            return same_content(
                engine.bridge,
                one.path,
                other,
                engine.config,
                decrypt=self._decrypt,
                stopping=self._stopping,
            )
        return hmac.compare_digest(self._digest(one), self._digest(other))

    def _digest(self, item: LocalFile | FileEntry) -> bytes:
        digest = hashlib.sha256()
        for piece in self._pieces(item):
            _check_stopping(self._stopping)
            digest.update(piece)
        return digest.digest()

    def _pieces(self, item: LocalFile | FileEntry) -> Iterator[bytes]:
        if isinstance(item, FileEntry):
            yield from self._downloads.stream(item.bucket.id, item.id, decrypt=self._decrypt)
            return
        with item.path.open('rb') as file:
            while piece := file.read(_PIECE):
                yield piece


def _check_stopping(stopping: threading.Event | None) -> None:
    if stopping is not None and stopping.is_set():
        raise TransferCancelled('the comparison was ended')
