"""Files that hold secrets: readable by their owner only, and replaced as a whole."""

from __future__ import annotations

from pathlib import Path

from storj.exception import ConfigurationError
from storj.system import atomic_file
from storj.text import count_of


def read(path: Path, limit: int) -> str:
    """Return the text of a file.

    Args:
        path (Path): of the file.
        limit (int): bytes that it may have at most.

    Raises:
        ConfigurationError: If it cannot be read, is longer, or no text.
    """
    try:
        with path.open('rb') as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise ConfigurationError(f'cannot read {path}: {error.strerror or error}') from error
    if len(raw) > limit:
        raise ConfigurationError(f'{path} is longer than {count_of(limit, "byte")}')
    try:
        return raw.decode()
    except UnicodeDecodeError:
        # Without the cause, which quotes the content.
        raise ConfigurationError(f'{path} is not a text file') from None


def write(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all.

    Args:
        path (Path): of the file; its folder is made with mode 0700 if it is missing, and an older
            file of the name is replaced.
        text (str): its content.

    Raises:
        ConfigurationError: If it cannot be written.
    """
    try:
        atomic_file.write(path, text.encode())
    except OSError as error:
        raise ConfigurationError(f'cannot write {path}: {error.strerror or error}') from error
