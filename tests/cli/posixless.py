"""``storj`` on a Python from which everything is taken that POSIX has and Windows has not.

``python posixless.py ARGUMENT...`` runs the command line; without arguments every module of the
package is imported.
"""

from __future__ import annotations

# What looks for the system when it is imported must have found the real one.
import asyncio.subprocess  # noqa: F401
import ctypes  # noqa: F401
import getpass  # noqa: F401
import importlib
import multiprocessing  # noqa: F401
import os
import pkgutil
import platform  # noqa: F401
import select
import signal
import socket
import subprocess  # noqa: F401
import sys
import tempfile  # noqa: F401
import types

import click  # noqa: F401
import requests  # noqa: F401
import rich.console  # noqa: F401

MODULES = ('fcntl', 'grp', 'posix', 'pty', 'pwd', 'readline', 'resource', 'termios', 'tty')
NAMES = {
    os: (
        'O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK WNOHANG fchmod fchown fdatasync fork forkpty '
        'getegid geteuid getgid getloadavg getpgid getuid initgroups killpg lchown mkfifo openpty '
        'posix_fadvise posix_fallocate pread preadv pwrite pwritev register_at_fork '
        'sched_getaffinity sendfile setsid statvfs sync ttyname uname'
    ),
    signal: 'SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGUSR1 SIGUSR2 SIGWINCH',
    socket: 'AF_UNIX SO_REUSEPORT recv_fds send_fds',
    select: 'epoll kqueue poll',
}


def run() -> int:
    for module, names in NAMES.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    sys.modules.update(dict.fromkeys(MODULES))
    # Windows has this one in their place; the lock is all that is asked of it.
    sys.modules['msvcrt'] = types.SimpleNamespace(locking=lambda *_: None, LK_NBLCK=2)
    if sys.argv[1:]:
        from storj.cli import main

        return main()
    import storj

    for module in pkgutil.walk_packages(storj.__path__, 'storj.', onerror=importlib.import_module):
        # Alembic runs its own one.
        if not module.name.endswith(('__main__', 'migrations.env')):
            importlib.import_module(module.name)
    return 0


if __name__ == '__main__':
    sys.exit(run())
