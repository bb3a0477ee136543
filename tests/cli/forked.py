"""A program that forks itself for every command, so that many commands load their modules once.

:func:`fork_server` serves; :func:`write_command` writes an executable that asks it. Each command
has a process of its own, with the arguments, environment, folder and streams of its caller, which
is told its pid first. A caller may add which of the streams are closed and whether the others are
unbuffered. The executable hands signals on; one that is killed leaves its command running.

What a command starts with Python is forked as well: a network in the background, farmers.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: What nearly every command loads; anything else is loaded by the command that wants it.
PRELOADED = (
    'storj.cli.account',
    'storj.cli.app',
    'storj.catalog.copier',
    'storj.catalog.share',
    'storj.catalog.sync',
    'storj.cli.copy',
    'storj.network.backup',
    'storj.network.control',
    'storj.cli.files',
    'storj.cli.listing',
    'storj.cli.network',
    'storj.cli.share',
    'storj.cli.sync',
    'storj.http',
    'storj.transfer',
)

CLIENT = """#!{python} -IS
import json, os, signal, socket, sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b'!'], [0, 1, 2])
    request = [{function!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]
    server.sendall(json.dumps(request).encode())
    server.shutdown(socket.SHUT_WR)
    with server.makefile() as answers:
        pid = int(answers.readline())
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _: os.kill(pid, number))
        sys.exit(int(answers.read()))
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
    words = [sys.executable, __file__, str(address), *(['hurried'] if hurried else [])]
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
    path.write_text(CLIENT.format(python=sys.executable, address=str(address), function=function))
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
    # Nobody waits for the children.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print('ready', flush=True)
        while True:
            caller, _ = listener.accept()
            with caller:
                _, streams, _, _ = socket.recv_fds(caller, 1, 3)
                with caller.makefile('rb') as lines:
                    request = json.loads(lines.read())
                if request[0] == 'python':
                    load_networks()
                if os.fork() == 0:
                    listener.close()
                    _run(caller, streams, *request)
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
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    arguments = list(map(_of_locale, words))
    environment = {name: _of_locale(value) for name, value in settings.items()}
    os.chdir(_of_locale(folder))
    os.environ.clear()
    os.environ.update(environment)
    caller.sendall(f'{os.getpid()}\n'.encode())
    if more:
        _open_streams(*more)
    status = 1
    try:
        status = _function(function)(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    finally:
        caller.sendall(str(status).encode())
        os._exit(status)


def _function(name: str) -> Callable[[list[str]], int]:
    from storj import cli

    def python(words: list[str]) -> int:
        option, module, *arguments = words
        assert option == '-m'
        if module == 'storj':
            return cli.main(arguments)
        assert module == farmer_process.__name__
        return farmer_process.main(*arguments)

    if name != 'python':
        return getattr(cli, name)  # type: ignore[no-any-return]
    from storj.network import farmer_process

    return python


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
