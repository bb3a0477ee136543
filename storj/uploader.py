"""Storj uploader module of releases 0.2.2 and 0.3.4, on the same engine of transfers.

:meth:`storj.http.Client.file_upload` is the way for new programs.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

from storj import configuration
from storj.crypto import salted
from storj.exception import ClientError
from storj.http import Client
from storj.model import File
from storj.transfer import Progress, ProgressCallback, TransferConfig, Transfers, wait_for

__all__ = ('Uploader',)

_LOGGER = logging.getLogger(__name__)

_PIECE = 256 * 1024


class Uploader:
    """Stores files, as in releases 0.2.2 and 0.3.4.

    Those knew no encryption key (mnemonic): they encrypted with the account's password
    (:mod:`storj.crypto.salted`). So does this class, for programs that run unchanged, **unless its
    client has an encryption key**: give it as ``mnemonic``. The bridge gets the hash that the
    password's key follows from with every request, so without a mnemonic it can read the files.

    Names are stored in the clear, because programs compute ids from them.

    Args:
        email (str | None): user e-mail address.
        password (str | None): user password.
        max_retries_contract_negotiation (int): farmers that are tried for one shard.
        max_retries_upload_same_farmer (int): not used: a shard that fails goes to another farmer.
        timeout (float | None): as in :class:`storj.http.Client`.
        **options (Any): of :class:`storj.http.Client`; ``storj_bridge`` is that of the
            configuration by default.

    Attributes:
        client (storj.http.Client): the client.
        all_shards_count (int): shards of the file that is or was uploaded; 0 while unknown.
        shards_already_uploaded (int): how many of them are stored.
        max_retries_contract_negotiation (int): as given.
        max_retries_upload_same_farmer (int): as given.
    """

    def __init__(
        self,
        email: str | None,
        password: str | None,
        max_retries_contract_negotiation: int = 10,
        max_retries_upload_same_farmer: int = 3,
        timeout: float | None = None,
        **options: Any,
    ) -> None:
        self.client = open_client(email, password, timeout, options)
        self._config = options.get('transfer_config') or TransferConfig()
        self.max_retries_contract_negotiation = max_retries_contract_negotiation
        self.max_retries_upload_same_farmer = max_retries_upload_same_farmer
        self.all_shards_count = 0
        self.shards_already_uploaded = 0

    def file_upload(
        self,
        bucket_id: str,
        file_path: str | PathLike[str],
        tmp_file_path: str | PathLike[str] | None = None,
        *,
        progress: ProgressCallback | None = None,
        overwrite: bool = False,
    ) -> File:
        """Store a file under the last part of its path.

        Args:
            bucket_id (str): bucket unique identifier.
            file_path (str | PathLike): the file.
            tmp_file_path (str | PathLike | None): folder for temporary files, which hold nothing
                but ciphertext and are gone afterwards; the system's if None.
            progress (Callable[[storj.transfer.Progress], object] | None): called with each state.
            overwrite (bool): whether a file of the same name is replaced.

        Returns:
            storj.model.File: the stored file.

        Raises:
            AlreadyExistsError: If the bucket has a file of this name.
            ClientError: If the client has neither an encryption key nor a password.
            TransferError: If the file could not be stored; its ``causes`` say why.
            OSError: If the file cannot be read.
        """
        path = Path(file_path)
        config = dataclasses.replace(
            self._config,
            temp_dir=tmp_file_path or self._config.temp_dir,
            shard_attempts=self.max_retries_contract_negotiation,
        )
        self.all_shards_count = self.shards_already_uploaded = 0

        def note(state: Progress) -> None:
            self.all_shards_count = state.shards_total or 0
            self.shards_already_uploaded = state.shards
            if progress is not None:
                progress(state)

        with path.open('rb') as file, Transfers(self.client, config) as engine:
            encrypt = bool(self.client.mnemonic)
            return wait_for(
                engine.upload(
                    bucket_id,
                    path if encrypt else self._encrypted(file),
                    name=path.name,
                    encrypt=encrypt,
                    encrypt_name=False,
                    progress=note,
                    overwrite=overwrite,
                )
            )

    def _encrypted(self, file: BinaryIO) -> Iterator[bytes]:
        """Return the content of a file, encrypted with the password."""
        cipher = salted.Encryptor(password_of(self.client))
        _LOGGER.warning('no encryption key: the file is encrypted with a key that the bridge knows')

        def pieces() -> Iterator[bytes]:
            while piece := file.read(_PIECE):
                yield cipher.update(piece)
            yield cipher.finish()

        return pieces()


def open_client(
    email: str | None, password: str | None, timeout: float | None, options: dict[str, Any]
) -> Client:
    """Return a client of the configured bridge, unless the options name another."""
    if 'storj_bridge' not in options:
        options = {**options, 'storj_bridge': configuration.load().bridge}
    return Client(email, password, timeout=timeout, **options)


def password_of(client: Client) -> str:
    """Return what releases 0.2 and 0.3 made the key of a file from.

    Raises:
        ClientError: If the client has no password.
    """
    if client.password is None:
        raise ClientError('the files of releases 0.2 and 0.3 need the password of the account')
    return client.password
