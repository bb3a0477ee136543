"""What this machine is short of: errors of the system, not of a bridge or farmer.

A connection that cannot be opened because the process has too many files open looks like a bridge
that is away. So code that turns errors of the system into errors of this package asks
:func:`shortage` first.
"""

from __future__ import annotations

import errno
import os
import socket

from storj.exception import ResourceError


def shortage(error: BaseException | None, place: str = '') -> ResourceError | None:
    """Return what an error of the system says of this machine.

    Args:
        error (BaseException | None): an ``OSError``, a ``MemoryError``, or the ``RuntimeError`` of
            a thread that cannot be started.
        place (str): the folder, file or address that was worked on.

    Returns:
        ResourceError | None: to be raised from the error; None for any other error.
    """
    where = f' in {place}' if place else ''
    if isinstance(error, socket.gaierror):
        # Names are looked up in files and over sockets, and nothing says that one was missing.
        error = _no_socket()
    if isinstance(error, MemoryError):
        return ResourceError('this machine has no memory left')
    if isinstance(error, RuntimeError):
        return ResourceError(f'no thread can be started: {error}')
    if not isinstance(error, OSError):
        return None
    texts = {
        errno.EMFILE: f'this process has too many files open{_file_limit()}',
        errno.ENFILE: 'this machine has too many files open',
        errno.ENOMEM: 'this machine has no memory left',
        errno.ENOBUFS: 'this machine has no memory left for connections',
        errno.ENOSPC: f'no space left{where}',
        errno.EDQUOT: f'the disk quota is used up{where}',
        errno.EFBIG: f'a file{where} becomes larger than its file system or this process may write',
    }
    text = texts.get(error.errno or 0)
    if text is None:
        return None
    on_disk = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return ResourceError(f'{text} ({os.strerror(error.errno or 0)})', on_disk=on_disk)


def _no_socket() -> OSError | None:
    """Return the error of a socket that cannot be made."""
    try:
        socket.socket().close()
    except OSError as error:
        return error
    return None


def _file_limit() -> str:
    try:
        # Windows has none.
        import resource
    except ImportError:
        return ''
    return f', its limit is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}'
