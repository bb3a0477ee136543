"""Whether a local file and a stored one have the same content, found out without fetching any."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import TYPE_CHECKING

from storj.catalog.entries import FileEntry
from storj.crypto.cipher import CtrStream
from storj.digest import ShardDigest
from storj.transfer.encryption import key_of

if TYPE_CHECKING:
    from storj.http import Client
    from storj.transfer import TransferConfig

__all__ = ('same_content',)

#: Bytes read at a time.
_PIECE = 256 * 1024
#: Pointers asked for at a time.
_POINTERS = 32


def same_content(
    client: Client, path: Path, entry: FileEntry, config: TransferConfig, *, decrypt: bool
) -> bool:
    """Return whether a local file has the content of a stored one, without fetching that.

    The file is encrypted as the stored one is and cut where its shards end; then the hashes must
    agree with those in the pointers. Costs one pass over the file and a few small requests.

    Args:
        client (Client): of the account.
        path (Path): of the local file.
        entry (FileEntry): of the stored file, of the same size.
        config (TransferConfig): how keys are made, and what is taken without an HMAC.
        decrypt (bool): False to compare with the bytes as they are stored.

    Raises:
        IntegrityError: If the list of shards is not proved to be the one that was stored.
        DecryptionError: If the encryption key does not fit the file.
    """
    shards = _shards(client, entry)
    described = client.file_metadata(entry.bucket.id, entry.id)
    hashes = [shard_hash for shard_hash, _, _ in shards]
    key = None
    if decrypt:
        key = key_of(
            client,
            entry.bucket.id,
            entry.id,
            described,
            hashes,
            scheme=config.key_scheme,
            allow_unauthenticated=config.allow_unauthenticated,
        )
    cipher = None if key is None else CtrStream(key)
    with path.open('rb') as file:
        for shard_hash, size, parity in shards:
            if parity:
                continue
            digest = ShardDigest()
            while size:
                piece = file.read(min(size, _PIECE))
                if not piece:
                    return False
                digest.update(piece if cipher is None else cipher.process(piece))
                size -= len(piece)
            if not hmac.compare_digest(digest.hexdigest(), shard_hash):
                return False
        return not file.read(1)


def _shards(client: Client, entry: FileEntry) -> list[tuple[str, int, bool]]:
    """Return hash, size and whether it is parity of every shard of a file, in order."""
    shards: list[tuple[str, int, bool]] = []
    while page := list(
        client.file_pointers(entry.bucket.id, entry.id, skip=len(shards), limit=_POINTERS)
    ):
        shards += [
            (pointer['hash'], int(pointer['size']), bool(pointer.get('parity'))) for pointer in page
        ]
    return shards
