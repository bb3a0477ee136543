"""Storj downloader module of releases 0.2.2 and 0.3.4, on the same engine of transfers.

:meth:`storj.http.Client.file_download` is the way for new programs.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

from storj.crypto import salted
from storj.digest import Buffer
from storj.exception import IntegrityError
from storj.model import Frame
from storj.system import atomic_file
from storj.transfer import Progress, ProgressCallback
from storj.uploader import open_client, password_of

__all__ = ('Downloader',)

#: In the name of a file that was stored without encryption.
_PLAIN = '[DECRYPTED]'


class Downloader:
    """Fetches files by id into a folder, as in releases 0.2.2 and 0.3.4.

    A client without an encryption key (mnemonic) fetches the files of those releases, which are
    encrypted with the account's password (:mod:`storj.crypto.salted`), or stored in the clear if
    their name says ``[DECRYPTED]``; nothing but the hashes that the bridge gives proves them. With
    an encryption key, given as ``mnemonic``, it fetches the files of that key, and no others: the
    bridge cannot put one of the first kind in their place.

    Args:
        email (str | None): user e-mail address.
        password (str | None): user password.
        timeout (float | None): as in :class:`storj.http.Client`.
        **options (Any): of :class:`storj.http.Client`; ``storj_bridge`` is that of the
            configuration by default.

    Attributes:
        client (storj.http.Client): the client.
        destination_file_path (str): folder that the files are written to, made if it is missing;
            the home folder of the user until a program sets another.
        filename_from_bridge (str | None): name of the file that is or was fetched.
        file_frame (storj.model.Frame | None): its frame.
        all_shards_count (int): shards of the file that are to be fetched; 0 while unknown.
    """

    def __init__(
        self, email: str | None, password: str | None, timeout: float | None = None, **options: Any
    ) -> None:
        self.client = open_client(email, password, timeout, options)
        self.destination_file_path: str | PathLike[str] = str(Path.home())
        self.filename_from_bridge: str | None = None
        self.file_frame: Frame | None = None
        self.all_shards_count = 0

    def set_file_metadata(self, bucket_id: str, file_id: str) -> None:
        """Ask the bridge for the name and the frame of a file.

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.
        """
        entry = self.client.file_metadata(bucket_id, file_id)
        self.filename_from_bridge, self.file_frame = entry.name, entry.frame

    def get_file_pointers_count(self, bucket_id: str, file_id: str) -> int:
        """Return the number of shards of a file, parity included.

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.
        """
        self.set_file_metadata(bucket_id, file_id)
        frame = self.file_frame.id if self.file_frame is not None else None
        return len(self.client.frame_get(frame or '').shards)

    def download_begin(
        self, bucket_id: str, file_id: str, *, progress: ProgressCallback | None = None
    ) -> str:
        """Fetch a file, decrypt it, and write it under its name; an older file is replaced.

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.
            progress (Callable[[storj.transfer.Progress], object] | None): called with each state.

        Returns:
            str: path of the file.

        Raises:
            TransferError: If the file cannot be had; its ``causes`` say why.
            DecryptionError: If the password, or the encryption key, is not the file's.
            IntegrityError: If what came is not the file, or its name is none that a file here can
                have.
            ClientError: If the client has neither an encryption key nor a password.
        """
        self.all_shards_count = 0

        def note(state: Progress) -> None:
            self.all_shards_count = state.shards_total or 0
            if progress is not None:
                progress(state)

        self.set_file_metadata(bucket_id, file_id)
        name = _local_name(self.filename_from_bridge)
        target = Path(self.destination_file_path, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        decrypt = bool(self.client.mnemonic)
        if decrypt or _PLAIN in name:
            self.client.file_download(bucket_id, file_id, target, decrypt=decrypt, progress=note)
            return str(target)
        cipher = salted.Decryptor(password_of(self.client))
        with atomic_file.opened(target) as file:
            sink: Any = _Decrypting(cipher, file)
            self.client.file_download(bucket_id, file_id, sink, decrypt=False, progress=note)
            file.write(cipher.finish())
        return str(target)


def _local_name(name: str | None) -> str:
    """Check that what the bridge names is a file of one folder, on any system."""
    if not name or name in ('.', '..') or not name.isprintable():
        raise IntegrityError(f'the bridge gives the file an invalid name: {name!r}')
    if name != PurePosixPath(name).name or name != PureWindowsPath(name).name:
        raise IntegrityError(f'the name of the file leads to another folder: {name!r}')
    return name


class _Decrypting:
    """File object that decrypts what is written to it."""

    def __init__(self, cipher: salted.Decryptor, target: BinaryIO) -> None:
        self._cipher = cipher
        self._target = target

    def write(self, data: Buffer) -> int:
        """Take the next bytes of the ciphertext."""
        self._target.write(self._cipher.update(data))
        return len(data)
