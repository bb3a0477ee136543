"""Storj file crypto module of releases 0.2.2 and 0.3.4: files encrypted with a password.

The format is that of :mod:`storj.crypto.salted`, where it says what it protects and what not. Those
releases encrypted every file so before they cut it, with the client's password
(:attr:`storj.http.Client.password`, the hex of its SHA-256).
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from storj.crypto import salted
from storj.system import atomic_file

__all__ = ('FileCrypto',)

_PIECE = 256 * 1024


class FileCrypto:
    """Encrypts and decrypts files with a password (releases 0.2.2 and 0.3.4)."""

    def encrypt_file(
        self,
        algorithm: str,
        file_path: str | PathLike[str],
        encrypted_file_save_path: str | PathLike[str],
        password: str | bytes,
    ) -> None:
        """Encrypt a file.

        Args:
            algorithm (str): ``AES``.
            file_path (str | PathLike): the file.
            encrypted_file_save_path (str | PathLike): where to; an older file is replaced.
            password (str | bytes): of the content.

        Raises:
            ValueError: If the algorithm is another one.
            OSError: If a file cannot be read or written.
        """
        self._convert(
            algorithm, file_path, encrypted_file_save_path, password, self.encrypt_file_aes
        )

    def decrypt_file(
        self,
        algorithm: str,
        file_path: str | PathLike[str],
        decrypted_file_save_path: str | PathLike[str],
        password: str | bytes,
    ) -> None:
        """Decrypt a file that :meth:`encrypt_file`, or release 0.2 or 0.3, encrypted.

        Args:
            algorithm (str): ``AES``.
            file_path (str | PathLike): the encrypted file.
            decrypted_file_save_path (str | PathLike): where to; an older file is replaced once all
                is decrypted.
            password (str | bytes): of the content.

        Raises:
            DecryptionError: If the file is another one, or the password is not the right one.
            ValueError: If the algorithm is another one.
            OSError: If a file cannot be read or written.
        """
        self._convert(
            algorithm, file_path, decrypted_file_save_path, password, self.decrypt_file_aes
        )

    @staticmethod
    def _convert(
        algorithm: str,
        source: str | PathLike[str],
        target: str | PathLike[str],
        password: str | bytes,
        function: Callable[[BinaryIO, BinaryIO, str | bytes], None],
    ) -> None:
        if algorithm != 'AES':
            raise ValueError(f'the algorithm is AES, not {algorithm!r}')
        with Path(source).open('rb') as in_file, atomic_file.opened(Path(target)) as out_file:
            function(in_file, out_file, password)

    def derive_key_and_iv(
        self, password: str | bytes, salt: bytes, key_length: int, iv_length: int
    ) -> tuple[bytes, bytes]:
        """Return the key and the first block that follow from a password and a salt."""
        return salted.bytes_to_key(password, salt, key_length, iv_length)

    def encrypt_file_aes(
        self, in_file: BinaryIO, out_file: BinaryIO, password: str | bytes, key_length: int = 32
    ) -> None:
        """Encrypt from one open file to another.

        Args:
            in_file (BinaryIO): the content, from its position on.
            out_file (BinaryIO): where to.
            password (str | bytes): of the content.
            key_length (int): bytes of the AES key.
        """
        _pass_through(salted.Encryptor(password, key_length), in_file, out_file)

    def decrypt_file_aes(
        self, in_file: BinaryIO, out_file: BinaryIO, password: str | bytes, key_length: int = 32
    ) -> None:
        """Decrypt from one open file to another.

        Args:
            in_file (BinaryIO): encrypted content, from its position on.
            out_file (BinaryIO): where to.
            password (str | bytes): of the content.
            key_length (int): bytes of the AES key.

        Raises:
            DecryptionError: If the content is another one, or the password is not the right one.
                Something may be written by then.
        """
        _pass_through(salted.Decryptor(password, key_length), in_file, out_file)


def _pass_through(
    cipher: salted.Encryptor | salted.Decryptor, source: BinaryIO, target: BinaryIO
) -> None:
    while piece := source.read(_PIECE):
        target.write(cipher.update(piece))
    target.write(cipher.finish())
