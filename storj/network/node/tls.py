"""TLS of servers: contexts from files of certificates, with errors that name the files."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

from storj.exception import ConfigurationError

__all__ = ('client_of', 'server_context')

_FIRST = re.compile(r'-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----', re.DOTALL)


def server_context(cert: Path | str, key: Path | str | None = None) -> ssl.SSLContext:
    """Return what a server encrypts with.

    Args:
        cert (Path | str): file with its certificate chain, as PEM.
        key (Path | str | None): file with its private key; in the same file if None.

    Raises:
        ConfigurationError: If they cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without this OpenSSL would ask for it on the terminal.
        context.load_cert_chain(cert, key, password=_no_password)
    except OSError as error:
        files = ' and '.join(str(path) for path in (cert, key) if path)
        # SSL's errors say nothing of files: "[SSL] PEM lib (_ssl.c:3895)".
        reason = 'no certificate and key' if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(f'TLS with {files}: {reason}') from error
    return context


def client_of(cert: Path | str) -> ssl.SSLContext:
    """Return what a program trusts that calls a server of its own: its certificate, and no other.

    The server is called by an address that its certificate need not name.

    Args:
        cert (Path | str): file with the server's certificate chain, which :func:`server_context`
            has taken.

    Raises:
        ConfigurationError: If it cannot be read.
    """
    try:
        found = _FIRST.search(Path(cert).read_text(encoding='ascii', errors='replace'))
        # The first is the server's own; those after it are of who vouches for it, and for others.
        context = ssl.create_default_context(cadata=found[0] if found else '')
    except (OSError, ValueError) as error:
        raise ConfigurationError(f'TLS with {cert}: {error}') from error
    context.check_hostname = False
    # It is trusted as it is, whoever made it, and how.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _no_password() -> str:
    raise ConfigurationError('the private key is encrypted: give one without a password')
