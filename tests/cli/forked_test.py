"""The server that forks the processes of tests."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from tests.cli.forked import fork_server, write_command


def test_caller_that_is_killed_at_once_ends_no_server(tmp_path: Path) -> None:
    with fork_server(tmp_path, dict(os.environ)) as address:
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
        write_command(command, address)
        done = subprocess.run([command, '--version'], capture_output=True, text=True, check=True)
        assert done.stdout.startswith('storj ')
