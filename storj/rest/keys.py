"""ECDSA keys of an account: what a key may be given as, and the files it is kept in."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from ecdsa import SECP256k1, SigningKey, VerifyingKey
from ecdsa.der import UnexpectedDER
from ecdsa.errors import MalformedPointError

from storj.api import ecdsa_to_hex
from storj.crypto import secret_file
from storj.exception import ClientError

PRIVATE_NAME = 'private.pem'
PUBLIC_NAME = 'public.pem'

_MALFORMED = (UnexpectedDER, MalformedPointError, ValueError)

# A PEM file of either key has less than 300 bytes.
_FILE_LIMIT = 64 * 1024


def generate_key_pair() -> tuple[SigningKey, VerifyingKey]:
    """Return a new key pair of the curve secp256k1, from the system's secure source."""
    private_key = SigningKey.generate(curve=SECP256k1)
    return private_key, private_key.get_verifying_key()


def public_key_text(key: VerifyingKey | str | bytes) -> str:
    """Return a public key in the form in which it is registered.

    Args:
        key (VerifyingKey | str | bytes): the key, its PEM text, its hex text (compressed or
            uncompressed), or the bytes of any of them or of the point.

    Returns:
        str: hex; a given hex text keeps its form, because bridges look keys up as text.

    Raises:
        TypeError: if it is none of these kinds.
        ValueError: if it is not a point of the curve.
    """
    if isinstance(key, VerifyingKey):
        if key.curve != SECP256k1:
            raise ValueError('the key is not one of the curve secp256k1')
        return ecdsa_to_hex(key.to_string())
    if not isinstance(key, str | bytes | bytearray):
        raise TypeError(
            f'a public key is a VerifyingKey, PEM, hex or bytes, not {type(key).__name__}'
        )
    raw = key.strip().encode() if isinstance(key, str) else bytes(key)
    try:
        if raw.lstrip().startswith(b'-----BEGIN'):
            return public_key_text(VerifyingKey.from_pem(raw))
        if isinstance(key, str) or len(raw) in (66, 130):
            raw = bytes.fromhex(raw.decode('ascii'))
        VerifyingKey.from_string(raw, curve=SECP256k1)
    except _MALFORMED:
        raise ValueError('the public key is malformed') from None
    return ecdsa_to_hex(raw)


def write_key_pair(
    folder: Path, private_key: SigningKey, private_name: str, public_name: str, *, overwrite: bool
) -> tuple[Path, Path]:
    """Write both keys as PEM, the private one for its owner only.

    Returns:
        tuple[Path, Path]: paths of the private and the public key.

    Raises:
        FileExistsError: if there is such a file and it shall not be overwritten.
        ConfigurationError: if a file cannot be written.
    """
    private_path, public_path = folder / private_name, folder / public_name
    taken = [path for path in (private_path, public_path) if path.exists()]
    if taken and not overwrite:
        raise FileExistsError(f'{taken[0]} exists; choose another folder or say overwrite=True')
    secret_file.write(private_path, private_key.to_pem().decode())
    secret_file.write(public_path, private_key.get_verifying_key().to_pem().decode())
    return private_path, public_path


def read_key_pair(
    private_path: str | PathLike[str], public_path: str | PathLike[str] | None
) -> SigningKey:
    """Read a private key and make sure that the public one belongs to it.

    Raises:
        ClientError: if a file cannot be read, is no such key, or the two do not fit.
    """
    private_key = _read_pem(private_path, SigningKey)
    if private_key.curve != SECP256k1:
        raise ClientError(f'{private_path} holds a key that is not of the curve secp256k1')
    if public_path is not None:
        public_key = _read_pem(public_path, VerifyingKey)
        if public_key != private_key.get_verifying_key():
            raise ClientError(f'{public_path} is not the public key of {private_path}')
    return private_key


def _read_pem(path: str | PathLike[str], kind: type[SigningKey] | type[VerifyingKey]) -> Any:
    try:
        with Path(path).open('rb') as file:
            content = file.read(_FILE_LIMIT)
    except OSError as cause:
        raise ClientError(f'cannot read {path}: {cause.strerror}') from cause
    try:
        return kind.from_pem(content)
    except _MALFORMED:
        # Without the cause: its text may quote the file.
        raise ClientError(f'{path} holds no such key in PEM form') from None
