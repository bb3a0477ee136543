"""The system's key store, for those who installed the extra ``keyring``.

A secret is found by bridge and e-mail. Without the package, or without a key store behind it, there
is simply nothing to be found; only keeping a secret there fails aloud.
"""

from __future__ import annotations

import importlib
from typing import Any

from storj.cli.errors import CommandError

__all__ = ('find_secret', 'forget_secret', 'keep_secret')

_SERVICE = 'storj'


def _module() -> Any:
    try:
        return importlib.import_module('keyring')
    except ImportError:
        return None


def _user(bridge: str, email: str, kind: str) -> str:
    return f'{kind} of {email} at {bridge}'


def find_secret(bridge: str, email: str, kind: str) -> str | None:
    """Return a secret, None if there is none.

    Args:
        bridge (str): URL.
        email (str): of the account.
        kind (str): ``password`` or ``mnemonic``.
    """
    keyring = _module()
    if keyring is None:
        return None
    try:
        secret: str | None = keyring.get_password(_SERVICE, _user(bridge, email, kind))
    except keyring.errors.KeyringError:
        return None
    return secret


def keep_secret(bridge: str, email: str, kind: str, secret: str) -> None:
    """Keep a secret; arguments as :func:`find_secret`.

    Raises:
        CommandError: the package is not installed, or there is no key store.
    """
    keyring = _module()
    if keyring is None:
        raise CommandError(
            "the package 'keyring' is not installed", hint='pip install "storj[keyring]"'
        )
    try:
        keyring.set_password(_SERVICE, _user(bridge, email, kind), secret)
    except keyring.errors.KeyringError as error:
        raise CommandError(f'the key store refused: {error}', hint='leave out --keyring') from error


def forget_secret(bridge: str, email: str, kind: str) -> None:
    """Remove a secret if there is one; arguments as :func:`find_secret`."""
    keyring = _module()
    if keyring is None:
        return
    try:
        keyring.delete_password(_SERVICE, _user(bridge, email, kind))
    except keyring.errors.KeyringError:
        return
