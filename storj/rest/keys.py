"""ECDSA keys of an account: the accepted forms of a key, and the files it is stored in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

from ecdsa import SECP256k1, SigningKey, VerifyingKey
from ecdsa.der import UnexpectedDER
from ecdsa.errors import MalformedPointError

from storj.api import ecdsa_to_hex
from storj.exception import ClientError, ConfigurationError
from storj.system import atomic_file

PRIVATE_NAME = 'private.pem'
PUBLIC_NAME = 'public.pem'

#: Files of a pair.
NAMES = (PRIVATE_NAME, PUBLIC_NAME)

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
        TypeError: If it is none of these kinds.
        ValueError: If it is not a point of the curve.
    """
    return ecdsa_to_hex(public_key_bytes(key))


def any_key_text(key: VerifyingKey | str | bytes) -> str:
    """Return a key of a bucket in its form of :func:`public_key_text`, if it has one.

    Any other text stays as it is, and the bridge judges; never the content of a PEM file, which
    may be a private key.
    """
    try:
        return public_key_text(key)
    except ValueError:
        if not isinstance(key, str) or is_pem(key):
            raise
        return key


def public_key_bytes(key: VerifyingKey | str | bytes) -> bytes:
    """Return the point of a public key, in the form that :func:`public_key_text` takes and keeps.

    Raises:
        TypeError: If it is none of the kinds of :func:`public_key_text`.
        ValueError: If it is not a point of the curve.
    """
    if isinstance(key, VerifyingKey):
        if key.curve != SECP256k1:
            raise ValueError('the key is not one of the curve secp256k1')
        return bytes(key.to_string())
    if not isinstance(key, str | bytes | bytearray):
        raise TypeError(
            f'a public key is a VerifyingKey, PEM, hex or bytes, not {type(key).__name__}'
        )
    raw = key.strip().encode() if isinstance(key, str) else bytes(key)
    try:
        if is_pem(raw):
            return public_key_bytes(VerifyingKey.from_pem(raw))
        if isinstance(key, str) or len(raw) in (66, 130):
            raw = bytes.fromhex(raw.decode('ascii'))
        VerifyingKey.from_string(raw, curve=SECP256k1)
    except _MALFORMED:
        raise ValueError('the public key is malformed') from None
    return raw


def is_pem(key: str | bytes) -> bool:
    """Return whether a key is the content of a PEM file."""
    return (key.encode() if isinstance(key, str) else key).lstrip().startswith(b'-----BEGIN')


def pem_pair(private_key: SigningKey, public_key: VerifyingKey) -> tuple[bytes, bytes]:
    """Return the content of the files of a private and a public key."""
    return private_key.to_pem(), public_key.to_pem()


@contextmanager
def open_private(path: str, mode: str) -> Iterator[BinaryIO]:
    """Open a file that gets its name when it is written, and that only its owner can read.

    Args:
        path (str): of the file; its folder is made with mode 0700 if it is missing.
        mode (str): ``wb``, the only one.

    Raises:
        ConfigurationError: If it cannot be written.
    """
    if mode != 'wb':
        raise ValueError(f'a key file is opened for writing bytes, not {mode!r}')
    try:
        with atomic_file.opened(Path(path)) as file:
            yield file
    except OSError as error:
        raise ConfigurationError(f'cannot write {path}: {error.strerror or error}') from error


def write_key_pair(
    folder: Path,
    pems: tuple[bytes, bytes],
    names: tuple[str, str],
    *,
    overwrite: bool,
    opener: Callable[[str, str], AbstractContextManager[Any]] = open_private,
) -> tuple[Path, Path]:
    """Write a key pair as PEM files.

    Args:
        folder (Path): where to.
        pems (tuple[bytes, bytes]): of the private and the public key.
        names (tuple[str, str]): of their files.
        overwrite (bool): whether files of these names that hold something else may be replaced.
        opener (Callable): opens a file for writing.

    Returns:
        tuple[Path, Path]: paths of the private and the public key.

    Raises:
        FileExistsError: If there is such a file and it must not be replaced.
        ConfigurationError: If a file cannot be written.
    """
    private_path, public_path = folder / names[0], folder / names[1]
    files = ((public_path, pems[1]), (private_path, pems[0]))
    for path, pem in files:
        if not overwrite and path.exists() and not _holds(path, pem):
            raise FileExistsError(f'{path} exists; choose another folder or give overwrite=True')
    for path, pem in files:
        with opener(str(path), 'wb') as file:
            file.write(pem)
    return private_path, public_path


def _holds(path: Path, content: bytes) -> bool:
    """Return whether a file has this content and no other."""
    try:
        with path.open('rb') as file:
            return file.read(len(content) + 1) == content
    except OSError:
        return False


def read_key_pair(
    private_path: str | PathLike[str], public_path: str | PathLike[str] | None
) -> SigningKey:
    """Read a private key and make sure that the public one belongs to it.

    Raises:
        ClientError: If a file cannot be read, is no such key, or the two do not fit.
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
