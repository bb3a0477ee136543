"""The loopback port over which commands speak to a running network."""

from __future__ import annotations

import json
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from storj.exception import NetworkNotAnswering, StorjError
from storj.network.control import RunningNetwork, serve_control
from storj.network.farmer.store import NoSpaceLeftError


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


@pytest.mark.parametrize(
    ('raised', 'told'),
    [(NoSpaceLeftError('No space left'), StorjError), (ValueError('No such number'), ValueError)],
)
def test_failure_of_the_network_is_told_from_wrong_use(
    tmp_path: Path, raised: Exception, told: type[Exception]
) -> None:
    class FailingNetwork(SlowNetwork):
        def snapshot(self, number: int, target: Path) -> bool:
            raise raised

    with (
        serve_control(FailingNetwork(tmp_path)),  # type: ignore[arg-type]
        pytest.raises(told, match=f'^{raised}$') as caught,
    ):
        RunningNetwork(tmp_path).snapshot(0, tmp_path / 'farmer.db')
    assert type(caught.value) is told


def test_network_that_is_too_slow_is_not_called_stopped(tmp_path: Path) -> None:
    network = SlowNetwork(tmp_path)
    with serve_control(network):  # type: ignore[arg-type]
        with pytest.raises(NetworkNotAnswering, match=r'runs, but does not answer within 0\.05 s'):
            RunningNetwork(tmp_path)._ask('GET', '/', timeout=0.05)
        network.go.set()


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
        assert not network.answering.is_alive()
    assert capfd.readouterr().err == ''
