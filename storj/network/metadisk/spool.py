"""Where an upload waits until its key is known.

The key of a file follows from all of its bytes, so they have to be kept while they come in. They
lie in a file without a name that only this process can open, under a random key that exists in
memory alone; what is on the disk after a crash or in a backup cannot be read. Sealing replaces that
encryption by the convergent one, in place.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import tempfile
from pathlib import Path

from storj.crypto.convergent import KEY_BYTES, content_key, content_stream

_PIECE = 1024 * 1024


class Spool:
    """One incoming file. Blocking; meant for worker threads, one call at a time.

    Attributes:
        size (int): bytes so far.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - see close()
        self._secret = secrets.token_bytes(KEY_BYTES)
        self._stream = content_stream(self._secret)
        self._plaintext = hashlib.sha256()
        self.size = 0

    def close(self) -> None:
        """Give the space back."""
        self._file.close()

    def fileno(self) -> int:
        """Return the descriptor, for reading by position once the spool is sealed."""
        return self._file.fileno()

    def write(self, data: bytes | bytearray) -> None:
        """Take the next bytes of the plaintext."""
        self._plaintext.update(data)
        if self._file.write(self._stream.process(data)) != len(data):
            raise OSError(errno.ENOSPC, 'the spool took a part of a write only')
        self.size += len(data)

    def seal(self) -> tuple[str, str]:
        """Encrypt the file for storing.

        Returns:
            tuple[str, str]: filehash and key, 64 hex digits each.
        """
        key = content_key(self._plaintext.digest())
        uncover, cover = content_stream(self._secret), content_stream(key)
        ciphertext = hashlib.sha256()
        descriptor = self._file.fileno()
        for offset in range(0, self.size, _PIECE):
            piece = bytearray(os.pread(descriptor, _PIECE, offset))
            uncover.process(piece, piece)
            cover.process(piece, piece)
            ciphertext.update(piece)
            if os.pwrite(descriptor, piece, offset) != len(piece):
                raise OSError(errno.ENOSPC, 'the spool took a part of a write only')
        return ciphertext.hexdigest(), key.hex()
