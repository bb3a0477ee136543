"""Key files as the core client wrote them: forms that the package reads and does not write."""

from __future__ import annotations

import io
import json
import tarfile

from storj.crypto import base58
from storj.crypto.cipher import CtrStream, cbc_encrypt
from storj.crypto.keyring import KeyEntry, Keyring, _passphrase_key


def seal_text(passphrase: str, text: str) -> str:
    """Return a text as it stands in a keyring's file."""
    return CtrStream(_passphrase_key(passphrase)).process(text.encode()).hex()


def seal_private_key(passphrase: str, private_key: str) -> str:
    """Return a private key as a private key file holds it."""
    return base58.encode(cbc_encrypt(_passphrase_key(passphrase), private_key.encode()))


def files_of(ring: Keyring) -> dict[str, str]:
    """Return a keyring in the form of core 5.1: content by name."""
    contents: dict[str, object] = {'.verify': KeyEntry.generate().to_json()}
    contents |= {file_id: entry.to_json() for file_id, entry in ring.entries.items()}
    if ring.mnemonic is not None:
        contents['.deterministic_key'] = {'mnemonic': ring.mnemonic}
    return {
        name: seal_text(ring.passphrase, json.dumps(fields, separators=(',', ':')))
        for name, fields in contents.items()
    }


def archive_of(ring: Keyring) -> io.BytesIO:
    """Return a keyring as the gzip tar that the core client exports."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w:gz', format=tarfile.USTAR_FORMAT) as archive:
        for name, text in sorted(files_of(ring).items()):
            member = tarfile.TarInfo(f'key.ring/{name}')
            member.size, member.mode = len(text), 0o600
            archive.addfile(member, io.BytesIO(text.encode()))
    file.seek(0)
    return file
