"""A program that forks itself for every command, so that many commands load their modules once.

:func:`fork_server` serves; :func:`write_command` writes an executable that asks it. Each command
has a process of its own, with the arguments, environment, folder and streams of its caller, which
is told its pid first. A caller may add which of the streams are closed and whether the others are
unbuffered. A command leads a session, and has the terminal of its caller if no session has that.

The executable hands signals on and ends as its command does, by a signal too. Whoever kills it
kills its command: the server does so before it takes another one.

What a command starts with Python is forked as well: a network in the background, farmers. Tests do
the same with the fixture ``forked_python``.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

#: What many commands load, some of it when they first encrypt or connect; anything else is loaded
#: by the command that wants it.
PRELOADED = (
    'Crypto.Util.strxor',
    'click._textwrap',
    'cryptography.hazmat.primitives.ciphers.aead',
    'dateutil.parser',
    'encodings.utf_8_sig',
    'logging.handlers',
    'pickle',
    'storj.cli.account',
    'storj.cli.app',
    'storj.catalog.copier',
    'storj.catalog.share',
    'storj.catalog.sync',
    'storj.catalog.times',
    'storj.cli.config',
    'storj.cli.copy',
    'storj.cli.keys',
    'storj.cli.metadisk',
    'storj.crypto.convergent',
    'storj.network.backup',
    'storj.network.control',
    'storj.cli.files',
    'storj.cli.listing',
    'storj.cli.network',
    'storj.cli.share',
    'storj.cli.sync',
    'storj.http',
    'storj.transfer',
    'storj.web_socket',
)

#: The interpreter itself, for tests of what it loads.
PYTHON = sys.executable

# The first lines are for the shell, and a text for Python: the kernel takes no path with a space.
CLIENT = """#!/bin/sh
'''exec' "{python}" -IS "$0" "$@"
' '''
import json, os, signal, socket, sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b'!'], [0, 1, 2])
    request = [{function!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]
    server.sendall(json.dumps(request).encode() + b'\\n')
    with server.makefile() as answers:
        pid = int(answers.readline())
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _: os.kill(pid, number))
        status = int(answers.readline())
if status < 0:
    if signal.Signals(-status) is not signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""

#: Of a hash of a password: it takes a third of a second on purpose where users are.
QUICK_COST = 2**6

#: What a network in the background loads, when the first of them is started.
OF_NETWORKS = ('storj.network.program', 'storj.network.supervisor')


@contextmanager
def fork_server(
    folder: Path, environment: Mapping[str, str], *, hurried: bool = False
) -> Iterator[Path]:
    """Serve forked processes at an address in a folder.

    Args:
        folder (Path): for the socket.
        environment (Mapping[str, str]): in which the modules are loaded.
        hurried (bool): whether nothing waits before it is tried again.
    """
    address = folder / 'socket'
    words = [PYTHON, __file__, str(address), *(['hurried'] if hurried else [])]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b'ready\n'
            yield address
        finally:
            server.terminate()


def write_command(path: Path, address: Path, function: str = 'main') -> None:
    """Write an executable that has a function of ``storj.cli`` run by the server at an address.

    The function ``python`` is that of the interpreter, for what networks start.
    """
    path.write_text(CLIENT.format(python=PYTHON, address=str(address), function=function))
    path.chmod(0o755)


def hurry() -> None:
    """Have nothing in this process wait before it is tried again."""
    from storj.retry import RetryPolicy

    RetryPolicy.wait = lambda *_: 0.0  # type: ignore[method-assign]


def load_networks() -> None:
    """Load what networks need, and have them hash passwords quickly, as those of tests do."""
    for module in OF_NETWORKS:
        importlib.import_module(module)
    passwords = importlib.import_module('storj.network.bridge.passwords')
    passwords._COST = QUICK_COST


def serve(address: str, *, hurried: bool) -> None:
    """Fork for every command until SIGTERM; says ``ready`` when the first may come."""
    for module in PRELOADED:
        importlib.import_module(module)
    if hurried:
        hurry()
    python = Path(address).with_name('python')
    write_command(python, Path(address), 'python')
    # Of what is forked; this process starts nothing else.
    sys.executable = str(python)
    Server(address).run()


class Server:
    """Starts commands, and tells their callers how they ended."""

    def __init__(self, address: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen(64)
        #: Commands that run, by the sockets of their callers.
        self._running: dict[socket.socket, int] = {}
        self._ended, wake = socket.socketpair()
        for end in (self._ended, wake):
            end.setblocking(False)
        self._sockets = [self._listener, self._ended, wake]
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        """Serve until SIGTERM, which ends the commands that run as well."""
        # Collections of garbage in the commands need not look at what is loaded.
        gc.freeze()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        print('ready', flush=True)
        try:
            self._serve()
        finally:
            for caller in tuple(self._running):
                self._kill(caller)

    def _serve(self) -> None:
        while True:
            sockets = [self._listener, self._ended, *self._running]
            ready = select.select(sockets, [], [])[0]
            if self._ended in ready:
                self._ended.recv(4096)
            self._reap()
            for caller in ready:
                # A caller says nothing more: it was killed.
                if caller in self._running:
                    self._kill(caller)
            if self._listener in ready:
                self._take()

    def _reap(self) -> None:
        for caller, pid in list(self._running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with caller, suppress(OSError):
                    caller.sendall(b'%d\n' % os.waitstatus_to_exitcode(status))
                del self._running[caller]

    def _kill(self, caller: socket.socket) -> None:
        pid = self._running.pop(caller)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        caller.close()

    def _take(self) -> None:
        caller, _ = self._listener.accept()
        _, streams, _, _ = socket.recv_fds(caller, 1, 3)
        with caller.makefile('rb') as lines:
            line = lines.readline()
        if not line.endswith(b'\n'):
            # Killed before it had said what to run, as some tests do.
            caller.close()
            for stream in streams:
                os.close(stream)
            return
        request = json.loads(line)
        if request[0] == 'python':
            load_networks()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for other in (*self._sockets, *self._running):
                other.close()
            _run(caller, streams, *request)
        self._running[caller] = pid
        for stream in streams:
            os.close(stream)


def _run(
    caller: socket.socket,
    streams: list[int],
    function: str,
    words: list[str],
    folder: str,
    settings: dict[str, str],
    *more: Any,
) -> None:
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    arguments = list(map(_of_locale, words))
    environment = {name: _of_locale(value) for name, value in settings.items()}
    os.chdir(_of_locale(folder))
    os.environ.clear()
    os.environ.update(environment)
    _take_terminal()
    with caller:
        caller.sendall(b'%d\n' % os.getpid())
    if more:
        _open_streams(*more)
    elif os.isatty(1):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    encoding = environment.get('PYTHONIOENCODING')
    if encoding is not None:
        sys.stdout.reconfigure(encoding=encoding)  # type: ignore[union-attr]
    status = 1
    try:
        status = _function(function)(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    finally:
        os._exit(status)


def _take_terminal() -> None:
    """Lead a session, with the terminal of the streams unless another session has it."""
    os.setsid()
    for number in range(3):
        if os.isatty(number):
            # A leader without a terminal gets the one that it opens first.
            os.close(os.open(os.ttyname(number), os.O_RDWR))
            return


def _function(name: str) -> Callable[[list[str]], int]:
    from storj import cli

    return _python if name == 'python' else getattr(cli, name)  # type: ignore[no-any-return]


def _python(words: list[str]) -> int:
    """Run a module, a text or a file as the interpreter does; there are no other options."""
    from storj.network import farmer_process

    if os.environ.get('PYTHONWARNINGS') == 'error':
        warnings.simplefilter('error')
    option, *rest = words
    if option == '-m' and rest[0] == farmer_process.__name__:
        return farmer_process.main(*rest[1:])
    sys.argv = words if option not in ('-m', '-c') else ['-c', *rest[1:]]
    try:
        if option == '-m':
            runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
        elif option == '-c':
            main = sys.modules['__main__'] = types.ModuleType('__main__')
            exec(compile(rest[0], '<string>', 'exec'), vars(main))
        else:
            runpy.run_path(option, run_name='__main__')
    except SystemExit as end:
        status = _status(end.code)
    except BaseException:
        traceback.print_exc()
        status = 1
    else:
        status = 0
    # What an interpreter waits for and does at its end.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    return status


def _status(code: object) -> int:
    """Return the status of a process that ends by an exception with a code."""
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1


def _of_locale(text: str) -> str:
    """Return a text as the locale of this process hands it over."""
    return os.fsdecode(text.encode('utf-8', 'surrogateescape'))


def _open_streams(closed: list[int], unbuffered: bool) -> None:
    """Open the standard streams as an interpreter does that starts with these."""
    for number, (name, mode) in enumerate((('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w'))):
        if number in closed:
            os.close(number)
            setattr(sys, name, None)
        elif mode == 'w' and unbuffered:
            raw = open(number, 'wb', 0, closefd=False)  # noqa: SIM115  the process's own
            setattr(sys, name, io.TextIOWrapper(raw, write_through=True))
        else:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


if __name__ == '__main__':
    serve(sys.argv[1], hurried=sys.argv[2:] == ['hurried'])
