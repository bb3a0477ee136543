"""Whether a local file and a stored one have the same content, found out without fetching any."""

from __future__ import annotations

import hmac
from pathlib import Path

from storj.catalog.entries import FileEntry
from storj.crypto.cipher import CtrStream
from storj.digest import ShardDigest
from storj.model import FilePointer
from storj.transfer import BridgeReader, TransferConfig
from storj.transfer.encryption import key_of

__all__ = ('POINTERS_PAGE', 'all_pointers', 'same_content')

#: Bytes read at a time.
_PIECE = 256 * 1024
#: Pointers asked for at a time.
POINTERS_PAGE = 32


def same_content(
    bridge: BridgeReader, path: Path, entry: FileEntry, config: TransferConfig, *, decrypt: bool
) -> bool:
    """Return whether a local file has the content of a stored one, without fetching that.

    The file is encrypted as the stored one is and cut where its shards end; then the hashes must
    agree with those in the pointers. Costs one pass over the file and a few small requests.

    Args:
        bridge (BridgeReader): client of the account.
        path (Path): of the local file.
        entry (FileEntry): of the stored file, of the same size.
        config (TransferConfig): how keys are made, and what is taken without an HMAC.
        decrypt (bool): False to compare with the bytes as they are stored.

    Raises:
        IntegrityError: If the list of shards is not proved to be the one that was stored.
        DecryptionError: If the encryption key does not fit the file.
    """
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
                digest.update(piece if cipher is None else cipher.process(piece))
                size -= len(piece)
            if not hmac.compare_digest(digest.hexdigest(), pointer['hash']):
                return False
        return not file.read(1)


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
