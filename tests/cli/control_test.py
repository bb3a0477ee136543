"""The loopback port over which commands speak to a running network."""

from __future__ import annotations

import json
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from storj.network.control import serve_control


class SlowNetwork:
    """A network whose status takes until the test says so."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.faults: list[Any] = []
        self.asked, self.go = threading.Event(), threading.Event()
        self.answering: threading.Thread | None = None

    def status(self) -> dict[str, Any]:
        self.answering = threading.current_thread()
        self.asked.set()
        assert self.go.wait(30)
        return {'farmers': 'x' * 1_000_000}

    def environment(self) -> dict[str, str]:
        return {}


def test_who_goes_before_the_answer_leaves_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network = SlowNetwork(tmp_path)
    with serve_control(network):  # type: ignore[arg-type]
        control = json.loads((tmp_path / 'control.json').read_text())
        client = socket.create_connection(('127.0.0.1', control['port']))
        head = f'GET / HTTP/1.0\r\nAuthorization: Bearer {control["secret"]}\r\n\r\n'
        client.sendall(head.encode())
        assert network.asked.wait(30)
        # A close with linger 0 resets the connection at once.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        client.close()
        network.go.set()
        assert network.answering is not None
        network.answering.join(30)
    assert capfd.readouterr().err == ''
