"""TLS of servers: contexts from files of certificates, with errors that name the files.

Certificates live for weeks and servers for months: who renews one replaces its files, and the
server reads them again.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable
from pathlib import Path

from storj.exception import ConfigurationError

logger = logging.getLogger(__name__)

#: Seconds until files that were replaced are noticed.
LOOK_EVERY = 10.0

# Bytes of a file in which a certificate or key is looked for.
_LONGEST = 1024 * 1024
_FIRST = re.compile(r'-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----', re.DOTALL)


class Certificate:
    """A server's certificate, which is read again when its files are replaced.

    Args:
        cert (Path | str): file with its certificate chain, as PEM.
        key (Path | str | None): file with its private key; in the same file if None.

    Attributes:
        server (ssl.SSLContext): what the server encrypts new connections with.
        client (ssl.SSLContext): what a program of its own trusts; see :func:`client_of`.

    Raises:
        ConfigurationError: If they cannot be used.
    """

    def __init__(self, cert: Path | str, key: Path | str | None = None) -> None:
        self._files = cert, key
        self._stamps = self._look()
        self.server = server_context(cert, key)
        self.client = client_of(cert)

    def renew(self) -> bool:
        """Read the files again, if they are others than before.

        Returns:
            bool: True if they were read.

        Raises:
            ConfigurationError: If they cannot be used; the certificate from before stays.
        """
        stamps = self._look()
        if stamps == self._stamps:
            return False
        cert, key = self._files
        # First apart: a certificate whose key has not arrived yet must not get into use.
        server_context(cert, key)
        _trust(self.client, cert)
        _load(self.server, cert, key)
        self._stamps = stamps
        return True

    async def follow(self, note: Callable[[Exception | None], object]) -> None:
        """Renew it again and again, until cancelled.

        Args:
            note (Callable[[Exception | None], object]): called when it could not be renewed, and
                with None when it was.
        """
        failed = ''
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                renewed = await asyncio.to_thread(self.renew)
            except ConfigurationError as error:
                # Once for each reason.
                if str(error) != failed:
                    failed = str(error)
                    note(error)
                continue
            if renewed:
                logger.info('the certificate in %s was read again', self._files[0])
            if failed:
                failed = ''
                note(None)

    def _look(self) -> list[tuple[int, int, int] | None]:
        """Return what tells one state of the files from another."""
        return [_stamp(path) for path in self._files if path is not None]


def _stamp(path: Path | str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def server_context(cert: Path | str, key: Path | str | None = None) -> ssl.SSLContext:
    """Return what a server encrypts with.

    Args:
        cert (Path | str): file with its certificate chain, as PEM.
        key (Path | str | None): file with its private key; in the same file if None.

    Raises:
        ConfigurationError: If they cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(context, cert, key)
    return context


def _load(context: ssl.SSLContext, cert: Path | str, key: Path | str | None) -> None:
    try:
        # Without this OpenSSL would ask for it on the terminal.
        context.load_cert_chain(cert, key, password=_no_password)
    except _EncryptedError as error:
        text = f'TLS: {key or cert}: the private key is encrypted: give one without a password'
        raise ConfigurationError(text) from error
    except OSError as error:
        raise ConfigurationError(f'TLS: {_fault(error, cert, key or cert)}') from error


def _fault(error: OSError, cert: Path | str, key: Path | str) -> str:
    """Return which file cannot be used, and why: an error of SSL says "[SSL] PEM lib"."""
    for path, mark, content in (
        (cert, b'CERTIFICATE-----', 'certificate'),
        (key, b'PRIVATE KEY-----', 'private key'),
    ):
        try:
            with Path(path).open('rb') as file:
                found = mark in file.read(_LONGEST)
        except OSError as unread:
            return f'{path}: {unread.strerror}'
        if not found:
            return f'{path}: no {content} in PEM'
    # The second one if they are of different kinds, RSA and elliptic curve.
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    if reason in ('KEY_VALUES_MISMATCH', 'NO_CERTIFICATE_ASSIGNED'):
        return f'{key}: the key belongs to another certificate than {cert}'
    return f'{cert} or {key} is damaged'


def client_of(cert: Path | str) -> ssl.SSLContext:
    """Return what a program trusts that calls a server of its own: its certificate, and no other.

    The server is called by an address that its certificate need not name.

    Args:
        cert (Path | str): file with the server's certificate chain, which :func:`server_context`
            has taken.

    Raises:
        ConfigurationError: If it cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _trust(context, cert)
    context.check_hostname = False
    # It is trusted as it is, whoever made it, and how.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _trust(context: ssl.SSLContext, cert: Path | str) -> None:
    """Let a client trust the first certificate of a chain: those after it vouch for others, too."""
    try:
        found = _FIRST.search(Path(cert).read_text(encoding='ascii', errors='replace'))
        context.load_verify_locations(cadata=found[0] if found else '')
    except (OSError, ValueError) as error:
        raise ConfigurationError(f'TLS: {cert}: {error}') from error


class _EncryptedError(Exception):
    """A private key cannot be read without a password."""


def _no_password() -> str:
    raise _EncryptedError
