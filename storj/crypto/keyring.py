"""Keyrings: which key each file of the core client was encrypted with.

Until late 2016 each file had a random key of its own, kept by its owner in a *keyring*. This module
reads the keyrings of all releases, so that old files can be decrypted (protocol reference, section
6.1):

=============== ==========================================================================
core 0.6.12     one file: an encrypted JSON object, file id to private key
core 1.x        one file: an encrypted JSON object, file id to random password and salt
core 2.0        folder ``key.ring``: a file per file id, and ``.verify``, which the right
                passphrase decrypts
core 5.1        the same, with ``.deterministic_key``, which holds the mnemonic
=============== ==========================================================================

All are AES-256-CTR with key and counter straight from the passphrase, without salt, rounds or
authentication: every entry of a keyring has the same key stream, so that one known entry reveals
the others, and some dozens of unknown ones reveal each other. Nothing is written in these forms:
:meth:`Keyring.save` writes a key file of :mod:`storj.crypto.key_file`.

The modules that read archives are imported when they are needed: every program loads this one,
because the documented model of a keyring uses it.
"""

from __future__ import annotations

import io
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from storj.crypto import base58, key_file, secret_file
from storj.crypto.cipher import CtrStream, cbc_decrypt
from storj.crypto.keys import ContentKey, file_key_node, file_key_pair, file_key_random
from storj.crypto.salted import bytes_to_key
from storj.digest import is_hex, rmd160sha256
from storj.exception import ConfigurationError, DecryptionError

if TYPE_CHECKING:
    import gzip

__all__ = ('KeyEntry', 'Keyring', 'open_private_key', 'open_text')

VERIFY = '.verify'
DETERMINISTIC_KEY = '.deterministic_key'

_HEX = re.compile('([0-9a-fA-F]{2}){1,2048}')
_PASSWORD_SIZE, _SALT_SIZE = 512, 32

_MAX_FILE = 64 * 1024
_MAX_RING = 64 * 1024 * 1024
_MAX_ENTRIES = 100_000

Kind = Literal['DataCipherKeyIv', 'DeterministicKeyIv', 'KeyPair']


def _passphrase_key(passphrase: str) -> ContentKey:
    return ContentKey(*bytes_to_key(passphrase))


# passphrase --MD5, one round (EVP_BytesToKey)--> key (32 bytes), counter (16)
# file = lower-case hex of AES-256-CTR(JSON), no line break, no tag
def open_text(passphrase: str, sealed: str) -> str:
    """Return the text of a file of the core client's keyring, which is in hex.

    Raises:
        DecryptionError: If this is no hex, or the result is no text: the passphrase is wrong. A
            wrong passphrase may also give a text of random characters.
    """
    try:
        return CtrStream(_passphrase_key(passphrase)).process(bytes.fromhex(sealed)).decode()
    except ValueError:
        raise DecryptionError('Invalid passphrase was supplied to the keyring') from None


def open_private_key(passphrase: str, sealed: str) -> str:
    """Return the private key of a private key file, as text, hex digits as a rule.

    Raises:
        DecryptionError: If the passphrase or the file is not the right one.
    """
    try:
        return cbc_decrypt(_passphrase_key(passphrase), base58.decode(sealed.strip())).decode()
    except ValueError:
        raise DecryptionError('the passphrase does not open the private key') from None


@dataclass(frozen=True, repr=False)
class KeyEntry:
    """What a keyring holds for one file.

    Attributes:
        password (str): hex digits of a random password, a text, or a private key in hex.
        salt (str): hex digits of a random salt, a text, or nothing.
        kind (str): 'DataCipherKeyIv', 'DeterministicKeyIv' or 'KeyPair' respectively.
    """

    password: str
    salt: str = ''
    kind: Kind = 'DataCipherKeyIv'

    def __repr__(self) -> str:
        """Return the kind, and no secret."""
        return f'KeyEntry(kind={self.kind!r})'

    @classmethod
    def generate(cls) -> KeyEntry:
        """Return a new random entry."""
        return cls(secrets.token_hex(_PASSWORD_SIZE), secrets.token_hex(_SALT_SIZE))

    @classmethod
    def from_json(cls, fields: object) -> KeyEntry:
        """Read an entry as it stands in the keyring's JSON.

        Raises:
            DecryptionError: If it is no entry; the passphrase may be wrong.
        """
        if is_hex(fields, 64, any_case=True):
            return cls(fields, kind='KeyPair')
        # Without a type it is the random kind: the type came with core 5.1 (section 6.1).
        if isinstance(fields, dict):
            password, salt = fields.get('pass'), fields.get('salt')
            kind = fields.get('type', 'DataCipherKeyIv')
            if isinstance(password, str) and isinstance(salt, str):
                if kind == 'DeterministicKeyIv':
                    return cls(password, salt, kind)
                if kind == 'DataCipherKeyIv' and _HEX.fullmatch(password) and _HEX.fullmatch(salt):
                    return cls(password, salt, kind)
        raise DecryptionError('an entry of the keyring is damaged, or the passphrase is wrong')

    def to_json(self) -> dict[str, str] | str:
        """Return the entry as it stands in the keyring's JSON."""
        if self.kind == 'KeyPair':
            return self.password
        fields = {'pass': self.password, 'salt': self.salt}
        return fields if self.kind == 'DataCipherKeyIv' else {'type': self.kind, **fields}

    def content_key(self) -> ContentKey:
        """Return the key that the file is encrypted with.

        Raises:
            DecryptionError: If the entry holds no key that can be.
        """
        if self.kind == 'DataCipherKeyIv':
            return file_key_random(bytes.fromhex(self.password), bytes.fromhex(self.salt))
        try:
            if self.kind == 'DeterministicKeyIv':
                return file_key_pair(self.password, self.salt)
            return _key_of_pair(bytes.fromhex(self.password))
        except ValueError:
            raise DecryptionError('an entry of the keyring holds no valid key') from None


def _key_of_pair(private_key: bytes) -> ContentKey:
    # Imported here: only files of early 2016 have such keys.
    from ecdsa import SECP256k1, SigningKey
    from ecdsa.errors import MalformedPointError

    try:
        signing_key = SigningKey.from_string(private_key, curve=SECP256k1)
    except (AssertionError, MalformedPointError):
        raise ValueError('no private key') from None
    public = signing_key.verifying_key.to_string('compressed')
    return file_key_node(private_key, rmd160sha256(public).hex())


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # Without the cause, which quotes a secret.
        raise DecryptionError('Invalid passphrase was supplied to the keyring') from None


class Keyring:
    """The keys of a user's old files.

    Args:
        passphrase (str): encrypts the keyring on disk; may be empty.

    Attributes:
        passphrase (str): as given.
        entries (dict[str, KeyEntry]): by file id, 24 hex digits.
        mnemonic (str | None): the encryption key, if the keyring has it.
    """

    def __init__(self, passphrase: str = '') -> None:
        self.passphrase = passphrase
        self.entries: dict[str, KeyEntry] = {}
        self.mnemonic: str | None = None

    def __repr__(self) -> str:
        """Return how much it holds, and no secret."""
        return f'Keyring({len(self.entries)} entries)'

    def content_key(self, file_id: str) -> ContentKey | None:
        """Return the key of a file, None if the keyring has none.

        Raises:
            DecryptionError: If the entry holds no valid key.
        """
        entry = self.entries.get(file_id)
        return None if entry is None else entry.content_key()

    def generate(self, file_id: str) -> KeyEntry:
        """Make a random key for a file, and keep it.

        Args:
            file_id (str): 24 hex digits.

        Raises:
            ValueError: If the id is anything else.
        """
        if not is_hex(file_id, 24):
            raise ValueError('the id of a file is 24 hex digits')
        self.entries[file_id] = entry = KeyEntry.generate()
        return entry

    # --- the forms on disk, as texts --------------------------------------------------------

    @classmethod
    def from_text(cls, text: str, passphrase: str = '') -> Keyring:
        """Read a keyring that is one file: a key file, or that of core 0.6.12 to 1.x.

        Raises:
            ConfigurationError: If it is a key file that is damaged or of a later version.
            DecryptionError: If the passphrase is not the right one.
        """
        ring = cls(passphrase)
        if key_file.is_key_file(text):
            fields = key_file.unseal(text, passphrase)
            entries, ring.mnemonic = fields.get('entries'), _words_of(fields)
        else:
            entries = _parse(open_text(passphrase, text))
        if not isinstance(entries, dict):
            raise DecryptionError('Invalid passphrase was supplied to the keyring')
        for file_id, entry in entries.items():
            # Other entries are passed over.
            if is_hex(file_id, 24):
                ring.entries[file_id] = KeyEntry.from_json(entry)
        return ring

    def to_text(self) -> str:
        """Return the keyring as a key file, sealed with its passphrase."""
        entries = {file_id: entry.to_json() for file_id, entry in self.entries.items()}
        return key_file.seal(self.passphrase, {'entries': entries, 'mnemonic': self.mnemonic})

    @classmethod
    def from_files(cls, files: Mapping[str, str], passphrase: str = '') -> Keyring:
        """Read the keyring of core 2.0 and later.

        Args:
            files (Mapping[str, str]): content by name; other names than those of a keyring are
                passed over.
            passphrase (str): of the keyring.

        Raises:
            DecryptionError: If the passphrase is not the right one.
        """
        ring = cls(passphrase)
        # The core client checks a passphrase by this entry: a ring may have no other.
        if VERIFY in files:
            KeyEntry.from_json(_parse(open_text(passphrase, files[VERIFY])))
        for name, text in files.items():
            if is_hex(name, 24):
                ring.entries[name] = KeyEntry.from_json(_parse(open_text(passphrase, text)))
        if DETERMINISTIC_KEY in files:
            ring.mnemonic = _words_of(_parse(open_text(passphrase, files[DETERMINISTIC_KEY])))
            if ring.mnemonic is None:
                raise DecryptionError('Invalid passphrase was supplied to the keyring')
        return ring

    # --- disk -------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: Path, passphrase: str = '') -> Keyring:
        """Read a keyring from disk.

        Args:
            path (Path): a key file, the folder ``key.ring`` of the core client, or the single file
                of its older releases.
            passphrase (str): of the keyring.

        Raises:
            ConfigurationError: If it cannot be read, or is too large to be one.
            DecryptionError: If the passphrase is not the right one.
        """
        if not path.is_dir():
            return cls.from_text(secret_file.read(path, _MAX_RING).strip(), passphrase)
        try:
            items = [item for item in path.iterdir() if _is_ring_name(item.name)]
        except OSError as error:
            raise ConfigurationError(f'cannot read {path}: {error.strerror or error}') from error
        if len(items) > _MAX_ENTRIES:
            raise ConfigurationError(f'{path} holds more than {_MAX_ENTRIES} keys')
        files = {item.name: secret_file.read(item, _MAX_FILE).strip() for item in items}
        return cls.from_files(files, passphrase)

    def save(self, path: Path) -> None:
        """Write the keyring as a key file that only its owner can read.

        Args:
            path (Path): of the file; a file of that name is replaced.

        Raises:
            ConfigurationError: If it cannot be written.
        """
        secret_file.write(path, self.to_text())

    def import_archive(
        self, file: BinaryIO, passphrase: str | None = None, *, overwrite: bool = False
    ) -> int:
        """Take over the entries of a keyring that the core client exported.

        Nothing of the archive becomes a path: its files are read, never unpacked.

        Args:
            file (BinaryIO): the gzip tar.
            passphrase (str | None): of the archive; the keyring's own by default.
            overwrite (bool): whether entries that are here already are replaced.

        Returns:
            int: number of entries that were taken over.

        Raises:
            ConfigurationError: If it is no such archive, or too large to be one.
            DecryptionError: If the passphrase is not the right one.
        """
        secret = self.passphrase if passphrase is None else passphrase
        other = Keyring.from_files(_read_archive(file), secret)
        taken = {
            file_id: entry
            for file_id, entry in other.entries.items()
            if overwrite or file_id not in self.entries
        }
        self.entries.update(taken)
        if other.mnemonic is not None and (overwrite or self.mnemonic is None):
            self.mnemonic = other.mnemonic
        return len(taken)


def _words_of(fields: object) -> str | None:
    words = fields.get('mnemonic') if isinstance(fields, dict) else None
    return words if isinstance(words, str) else None


def _is_ring_name(name: str) -> bool:
    return name in (VERIFY, DETERMINISTIC_KEY) or is_hex(name, 24)


class _Limited(io.RawIOBase):
    """A reader that ends with an error after so many bytes: an archive may unpack to anything."""

    def __init__(self, file: gzip.GzipFile, limit: int) -> None:
        self._file = file
        self._left = limit

    def read(self, size: int = -1) -> bytes:
        # One byte more than allowed shows that there is more.
        data = self._file.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise ConfigurationError('the archive is too large for a keyring')
        return data


def _read_archive(file: BinaryIO) -> dict[str, str]:
    """Return content by name of the files of an archive that belong to a keyring."""
    import gzip
    import tarfile
    import zlib

    files: dict[str, str] = {}
    try:
        with (
            gzip.GzipFile(fileobj=file, mode='rb') as unpacked,
            tarfile.open(fileobj=_Limited(unpacked, _MAX_RING), mode='r|') as archive,
        ):
            for member in archive:
                path = PurePosixPath(member.name)
                # Names are compared, never used as paths; links and devices are refused.
                if member.isdir() or not _is_ring_name(path.name):
                    continue
                if not member.isfile() or path.is_absolute() or '..' in path.parts:
                    raise ConfigurationError('the archive is not one of a keyring')
                if member.size > _MAX_FILE or len(files) >= _MAX_ENTRIES:
                    raise ConfigurationError('the archive is too large for a keyring')
                content = archive.extractfile(member)
                files[path.name] = content.read().decode('ascii').strip() if content else ''
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError) as error:
        raise ConfigurationError('the file is not an archive of a keyring') from error
    if not files:
        raise ConfigurationError('the archive holds nothing of a keyring')
    return files
