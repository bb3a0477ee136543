"""The documented keyring: the random key of one file, and the sealed file it is kept in.

:mod:`storj.crypto.keyring` reads and writes whole keyrings of the core client.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from storj.crypto import secret_file
from storj.crypto.keyring import KeyEntry
from storj.crypto.keyring import Keyring as CoreKeyring
from storj.crypto.keys import ContentKey
from storj.object import Object

# A key alone stands in its keyring under any id.
_ID = '0' * 24

# A sealed key has 2,300 hex digits.
_FILE_LIMIT = 64 * 1024


class Keyring(Object):
    """Random key of one file, as the core client made them (protocol reference, section 6.1).

    Attributes:
        password (str | None): 512 random bytes in hex.
        salt (str | None): 32 random bytes in hex.
    """

    def __init__(self, password: str | None = None, salt: str | None = None) -> None:
        super().__init__()
        self.password = password
        self.salt = salt

    def generate(self) -> None:
        """Make a new key, from the system's secure source, and keep it in this keyring."""
        entry = KeyEntry.generate()
        self.password, self.salt = entry.password, entry.salt

    def content_key(self) -> ContentKey:
        """Return what a file is encrypted with.

        Raises:
            ValueError: if the keyring holds no key, or a malformed one.
        """
        return self._entry(self.password, self.salt).content_key()

    def export_keyring(
        self,
        password: str,
        salt: str,
        user_pass: str,
        filepath: str | PathLike[str] = 'storj.key',
    ) -> Path:
        """Write a key into a file that only its owner can read, sealed with a passphrase.

        The file is one of a core client's folder ``key.ring``. Its encryption has neither salt nor
        rounds: choose a long passphrase.

        Args:
            password (str): hex digits, as in ``Keyring.password``.
            salt (str): hex digits, as in ``Keyring.salt``.
            user_pass (str): passphrase.
            filepath (str | PathLike): where to; a file of that name is replaced.

        Returns:
            pathlib.Path: of the file.

        Raises:
            ValueError: if the key is not hex.
            ConfigurationError: if the file cannot be written.
        """
        ring = CoreKeyring(user_pass)
        ring.entries[_ID] = self._entry(password, salt)
        path = Path(filepath)
        secret_file.write(path, ring.to_files()[_ID])
        return path

    def import_keyring(self, filepath: str | PathLike[str], user_pass: str = '') -> None:
        """Read a key that :meth:`export_keyring`, or the core client, wrote.

        Args:
            filepath (str | PathLike): of the file.
            user_pass (str): passphrase.

        Raises:
            ConfigurationError: if the file cannot be read.
            DecryptionError: if the passphrase is not the right one.
        """
        text = secret_file.read(Path(filepath), _FILE_LIMIT).strip()
        entry = CoreKeyring.from_files({_ID: text}, user_pass).entries[_ID]
        self.password, self.salt = entry.password, entry.salt

    @staticmethod
    def _entry(password: str | None, salt: str | None) -> KeyEntry:
        try:
            if not bytes.fromhex(password or '') or not bytes.fromhex(salt or ''):
                raise ValueError
        except ValueError:
            # Without the cause, which may quote the secret.
            raise ValueError('a key is a password and a salt, each in hex digits') from None
        return KeyEntry(password or '', salt or '')
