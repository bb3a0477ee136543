"""Files that are replaced as a whole: whoever reads the name finds the old content or the new one.

The one place where files of ours get their names: journals, caches, credentials, settings,
downloads and the shards of a farmer.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ('opened', 'replace', 'sync_folder', 'write')


def write(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file that only its owner can read, whole or not at all.

    Args:
        path (Path): of the file; its folder is made with mode 0700 if it is missing, and an older
            file of the name is replaced.
        content (bytes): all of it.
        sync (bool): whether to force content and name to the disk before returning.

    Raises:
        OSError: If it cannot be written; nothing is left behind.
    """
    with opened(path, sync=sync) as file:
        file.write(content)


@contextmanager
def opened(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a file to be written in pieces, which gets its name once the block ends well.

    Args:
        path (Path): as in :func:`write`.
        sync (bool): as in :func:`write`.

    Yields:
        BinaryIO: buffered.

    Raises:
        OSError: If it cannot be written; as after any error in the block, nothing is left behind.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{secrets.token_hex(8)}')
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, 'O_BINARY', 0)
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(descriptor, 'wb') as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        replace(temporary, path, sync=sync)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace(temporary: Path, path: Path, *, sync: bool = True) -> None:
    """Give a finished file its name, in the same folder or file system.

    Args:
        temporary (Path): the file, its content on the disk already.
        path (Path): its name; an older file is replaced.
        sync (bool): whether to force the name to the disk before returning.

    Raises:
        OSError: If it cannot be renamed.
    """
    temporary.replace(path)
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk; a name lies in the folder, not in the file.

    Raises:
        OSError: If the disk refuses.
    """
    # Windows opens no folders, and its file system keeps names by itself.
    if os.name != 'posix':
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
