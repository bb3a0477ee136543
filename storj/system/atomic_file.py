"""Files that are replaced as a whole: a reader gets the old content or the new one.

The one place where files of ours get their names: journals, caches, credentials, settings,
downloads and the shards of a farmer.

A file that is being written lies beside the one that it is to replace, and is locked. Who is killed
leaves it there unlocked, and the next writer removes it.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from storj.system import file_lock

# What ends the name of a file that is being written.
_RANDOM = re.compile('[0-9a-f]{16}')


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

    Yields:
        BinaryIO: buffered.

    Raises:
        OSError: If it cannot be written; as after any error in the block, nothing is left behind.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    discard_unfinished(path)
    temporary, descriptor = _create(path)
    # The lock goes with the last descriptor of the file: when that has its name.
    last = os.dup(descriptor)
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
    finally:
        os.close(last)


def _create(path: Path) -> tuple[Path, int]:
    """Make the file that is to replace another, and lock it where that can be done."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, 'O_BINARY', 0)
    while True:
        temporary = path.with_name(f'.{path.name}.{secrets.token_hex(8)}')
        descriptor = os.open(temporary, flags, 0o600)
        # On a file system without locks, no other process removes it either.
        held = True
        with suppress(OSError):
            held = file_lock.hold(descriptor)
        if held and temporary.exists():
            return temporary, descriptor
        # Another writer took it for one that was left behind, before it was locked: that one has
        # removed it, or has locked it and is about to.
        os.close(descriptor)


def discard_unfinished(path: Path) -> None:
    """Remove what writers of a file left behind that were killed while they wrote it."""
    if os.name != 'posix':
        # Windows locks no file that is to be renamed.
        return
    # Not one pattern with the name in it, which would be compiled for every file.
    start = f'.{path.name}.'
    with suppress(OSError), os.scandir(path.parent) as items:
        for item in items:
            if item.name.startswith(start) and _RANDOM.fullmatch(item.name, len(start)):
                _discard_unless_held(item.path)


def _discard_unless_held(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        if file_lock.hold(descriptor):
            Path(path).unlink()
    finally:
        os.close(descriptor)


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


def publish(temporary: Path, path: Path, *, sync: bool = True) -> None:
    """Give a finished file a name that no other file has, at that very moment.

    Args:
        temporary (Path): the file, in the same folder, its content on the disk already.
        path (Path): its name.
        sync (bool): whether to force the name to the disk before returning.

    Raises:
        FileExistsError: If the name is taken, also by a link that leads nowhere.
        OSError: If the file cannot be named.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # Not every file system has links. A process that is killed here leaves an empty file.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            temporary.replace(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    else:
        temporary.unlink()
    if sync:
        sync_folder(path.parent)


def create(path: Path, content: bytes | bytearray, *, sync: bool = True) -> bool:
    """Make a file that has all of its content from the moment it has a name.

    Who is killed before that leaves nothing. The file has the mode of any new file.

    Args:
        path (Path): of the file, in a folder that is there.
        content (bytes | bytearray): all of it.
        sync (bool): whether to force content and name to the disk before returning.

    Returns:
        bool: False if nothing was done, as only Linux and most of its file systems can do this.

    Raises:
        FileExistsError: If the name is taken, also by a link that leads nowhere.
        OSError: If the content cannot be written.
    """
    if not hasattr(os, 'O_TMPFILE'):
        return False
    try:
        # One without a name, which ends with its descriptor.
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o666)
    except OSError:
        return False
    with os.fdopen(descriptor, 'wb') as file:
        file.write(content)
        file.flush()
        if sync:
            os.fsync(descriptor)
        try:
            # As open(2) says. Without `src_dir_fd` Python would make a name for the link in /proc.
            os.link(f'/proc/self/fd/{descriptor}', path, src_dir_fd=descriptor)
        except FileExistsError:
            raise
        except OSError:
            return False
    if sync:
        sync_folder(path.parent)
    return True


def make_folders(folder: Path) -> None:
    """Make a folder, and those above it that are missing, and force their names to the disk.

    Raises:
        OSError: If one cannot be made, or the disk refuses.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


def sync_file(path: Path) -> None:
    """Force the content of a file to the disk that somebody else may have written; not its name.

    Raises:
        OSError: If it cannot be opened, or the disk refuses.
    """
    # Windows forces only what is open for writing; elsewhere the file may be read-only.
    descriptor = os.open(path, os.O_RDONLY if os.name == 'posix' else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
