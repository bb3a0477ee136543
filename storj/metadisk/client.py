"""The client of a MetaDisk node; see :mod:`storj.metadisk`."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote

from storj.crypto.convergent import Reference, is_filehash
from storj.exception import BridgeUnreachableError
from storj.metadisk.files import Fetch, Form, Progress, open_source
from storj.metadisk.records import (
    Download,
    FileRecord,
    NodeStatus,
    Price,
    number_of,
    reference_of,
    text_of,
    unusable,
)
from storj.metadisk.wire import Wire
from storj.system import atomic_file

# Least bytes a second that a node sends to its farmers; it answers when all have arrived.
_SLOWEST_NODE = 256 * 1024


class MetaDisk:
    """One node. A single object serves one thread.

    Args:
        url (str): of the node, ``http://`` or ``https://``.
        token (str | None): access token; any string of 16 letters and digits is one. Uploads take
            a new one when there is none yet.
        timeout (float | tuple[float, float]): seconds to connect, and to wait for the next bytes.
            After an upload a node gets more time, by the size, to send it to the farmers.
        proxy (str | None): URL of a proxy; by default that of the environment.

    Attributes:
        url (str): without a slash at the end.
        token (str | None): as given, or as taken by :meth:`token_new`.

    Raises:
        ValueError: If one of the URLs is of another kind.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float | tuple[float, float] = (10.0, 60.0),
        proxy: str | None = None,
    ) -> None:
        self._wire = Wire(url, timeout, proxy)
        self.url = self._wire.url
        self.token = token

    def __enter__(self) -> MetaDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f'MetaDisk({self.url!r})'

    def close(self) -> None:
        """Close the connections to the node, and end what another thread waits for."""
        self._wire.close()

    # -- accounts ------------------------------------------------------------------------------

    def token_new(self) -> str:
        """Take a new access token and use it from now on: ``POST /accounts/token/new``.

        Returns:
            str: 16 letters and digits. Anybody who knows it can spend its balance.
        """
        answer = self._wire.json('POST', '/accounts/token/new')
        self.token = text_of(answer, 'token')
        return self.token

    def balance(self, token: str | None = None) -> int:
        """Return what a token may still transfer: ``GET /accounts/token/balance/{token}``.

        Args:
            token (str | None): this object's by default.

        Returns:
            int: bytes; 0 for a token that the node has never credited.
        """
        return number_of(
            self._wire.json('GET', f'/accounts/token/balance/{self._token(token)}'), 'balance'
        )

    def prices(self) -> list[Price]:
        """Return what transfer costs: ``GET /accounts/token/prices``."""
        listed = self._wire.json('GET', '/accounts/token/prices').get('prices')
        if not isinstance(listed, list):
            raise unusable('prices')
        return [Price.from_answer(row) for row in listed]

    def redeem(self, promocode: str, token: str | None = None) -> None:
        """Exchange a code for balance: ``POST /accounts/token/redeem/{token}``.

        Args:
            promocode (str): upper and lower case matter.
            token (str | None): this object's by default.

        Raises:
            AuthenticationError: If there is no such code or the token has used it.
        """
        path = f'/accounts/token/redeem/{self._token(token)}'
        self._wire.json('POST', path, json={'promocode': promocode})

    # -- files ---------------------------------------------------------------------------------

    def upload(
        self,
        source: str | os.PathLike[str] | BinaryIO | bytes,
        *,
        name: str | None = None,
        token: str | None = None,
        progress: Progress | None = None,
    ) -> str:
        """Store a file: ``POST /api/upload``.

        The node's answer is checked: its key must be that of the bytes that were sent. A
        source that cannot tell its size is written to a temporary file first.

        Args:
            source (str | os.PathLike[str] | BinaryIO | bytes): a path, a file object opened for
                reading bytes (it is read from where it stands), or the bytes themselves.
            name (str | None): for the node; the source's own name by default.
            token (str | None): this object's by default; a new one is taken when it has none.
            progress (Progress | None): called with bytes done and bytes in all.

        Returns:
            str: the reference, ``<filehash>?key=<key>``.

        Raises:
            PaymentRequiredError: If the node charges and the balance is too low.
            IntegrityError: If the node answers with the key of other bytes, or the source ends
                before its size.
            OSError: If the source cannot be read.
        """
        # A node without charging takes any token, and needs none; the tutorial sends one (section
        # 12.1).
        token = token or self.token or self.token_new()
        with open_source(source) as (file, size, own_name):
            form = Form(file, size, name or own_name, token, progress)
            try:
                answer = self._wire.json(
                    'POST',
                    '/api/upload',
                    extra=size / _SLOWEST_NODE,
                    data=form,
                    headers=form.headers,
                )
            except BridgeUnreachableError:
                if form.failure is not None:
                    raise form.failure from None
                raise
        # The node encrypts, so its answer is compared with the key that the bytes have (section
        # 12.5).
        reference = reference_of(answer)
        form.check(reference)
        return str(reference)

    def download(
        self,
        reference: str | Reference,
        destination: str | os.PathLike[str] | BinaryIO,
        *,
        token: str | None = None,
        local: bool = True,
        overwrite: bool = True,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> Download:
        """Get a file back, checked: ``GET /api/download/{filehash}``.

        Nothing is written to the destination before all bytes are here and proved right. A
        broken connection is resumed where it broke.

        Args:
            reference (str | Reference): ``<filehash>?key=<key>`` or a link that ends so.
            destination (str | os.PathLike[str] | BinaryIO): a path (the bytes are in
                ``<path>.part`` until they are complete), or a file object opened for writing.
            token (str | None): sent when given or set on this object; charged nodes want one.
            local (bool): fetch without the key and decrypt here; False lets the node decrypt,
                which shows it the key, and checks the plaintext against the key only.
            overwrite (bool): whether an existing file may be replaced.
            limit (int | None): the most bytes to accept; None for any size.
            progress (Progress | None): called with bytes done and bytes in all.

        Raises:
            ValueError: If the reference is none.
            NotFoundError: If the node does not have the file.
            PaymentRequiredError: If the node charges and the balance is too low.
            IntegrityError: If the bytes do not have the filehash, or too many.
            DecryptionError: If the key is of another file.
            FileExistsError: If the destination exists and may not be replaced.
        """
        if not isinstance(reference, Reference):
            reference = Reference.parse(reference)
        fetch = Fetch(self._wire, reference, token or self.token, local=local, limit=limit)
        if isinstance(destination, (str, os.PathLike)):
            path = Path(destination)
            if path.exists() and not overwrite:
                raise FileExistsError(f'{path} exists')
            part = path.with_name(path.name + '.part')
            try:
                with part.open('w+b') as file:
                    counter = fetch.run(file, progress)
                atomic_file.replace(part, path, sync=False)
            finally:
                part.unlink(missing_ok=True)
            return Download(fetch.size, counter, path)
        # A file object cannot be renamed at the end, so unchecked bytes must not reach it.
        with tempfile.TemporaryFile() as file:
            counter = fetch.run(cast('BinaryIO', file), progress)
            file.seek(0)
            shutil.copyfileobj(file, destination, 256 * 1024)
        return Download(fetch.size, counter, None)

    def find(self, filehash: str) -> FileRecord:
        """Return what the node knows of a file: ``GET /api/find/{filehash}``.

        Args:
            filehash (str): 64 hex digits, or a reference.

        Raises:
            ValueError: If it is neither.
            NotFoundError: If the node does not have the file.
        """
        # The key stays here: ``find`` needs none.
        filehash = filehash.partition('?')[0]
        if not is_filehash(filehash):
            raise ValueError('a filehash is 64 lower-case hex digits')
        return FileRecord.from_answer(self._wire.json('GET', f'/api/find/{filehash}'))

    def status(self) -> NodeStatus:
        """Return the node's state: ``GET /api/status``."""
        return NodeStatus.from_answer(self._wire.json('GET', '/api/status'))

    def _token(self, token: str | None) -> str:
        token = token or self.token
        if not token:
            raise ValueError('no token: take one with token_new()')
        return quote(token, safe='')
