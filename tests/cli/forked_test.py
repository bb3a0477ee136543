"""The server that forks the processes of tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import forked


def test_caller_that_is_killed_at_once_ends_no_server(tmp_path: Path) -> None:
    with forked.fork_server(tmp_path, dict(os.environ)) as address:
        for part in (
            b'',
            b'!',
            b'!["main", [',
        ):
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(str(address))
                if part:
                    socket.send_fds(caller, [part[:1]], [0, 1, 2])
                    caller.sendall(part[1:])
        command = tmp_path / 'storj'
        forked.write_command(command, address)
        done = subprocess.run([command, '--version'], capture_output=True, text=True, check=True)
        assert done.stdout.startswith('storj ')


def test_interpreter_may_be_in_a_folder_with_a_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'new user'
    folder.mkdir()
    (folder / 'python').symlink_to(sys.executable)
    monkeypatch.setattr(forked, 'PYTHON', str(folder / 'python'))
    forked.write_command(folder / 'storj', folder / 'socket')
    done = subprocess.run([folder / 'storj', 'a b'], capture_output=True, text=True)
    # It has begun, and finds no server.
    assert 'FileNotFoundError' in done.stderr
    assert f'connect({str(folder / "socket")!r})' in done.stderr
