"""What this machine is short of is told as that, and not as a fault of a bridge or a farmer."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from storj.exception import BridgeUnreachableError, FarmerUnreachableError, ResourceError
from storj.farmer_connection import FarmerSocket, Watchdog
from storj.http import Client
from storj.metadisk import MetaDisk
from storj.system.shortage import shortage
from storj.transfer import ChannelLimits
from storj.transfer.channel import channel_for
from tests.unit.scripted_farmer import Connection, ScriptedFarmer, frame

SHARD = os.urandom(300_000)
HTTP, WEB_SOCKET = '1.1.0', '0.10.0'
both_wires = pytest.mark.parametrize('protocol', [HTTP, WEB_SOCKET])


@pytest.mark.parametrize(
    ('number', 'text', 'on_disk'),
    [
        (errno.EMFILE, 'this process has too many files open, its limit is ', False),
        (errno.ENFILE, 'this machine has too many files open', False),
        (errno.ENOMEM, 'no memory left', False),
        (errno.ENOBUFS, 'no memory left for connections', False),
        (errno.ENOSPC, 'no space left in /tmp/x', True),
        (errno.EDQUOT, 'the disk quota is used up in /tmp/x', True),
        (errno.EFBIG, 'a file in /tmp/x becomes larger than', True),
    ],
)
def test_shortage_is_told_with_its_reason(number: int, text: str, on_disk: bool) -> None:
    error = shortage(OSError(number, 'whatever'), '/tmp/x')
    assert error is not None
    assert text in str(error)
    assert os.strerror(number) in str(error)
    assert error.on_disk == on_disk
    assert not error.retryable


@pytest.mark.parametrize(
    'error',
    [
        None,
        ConnectionRefusedError(errno.ECONNREFUSED, 'refused'),
        TimeoutError('timed out'),
        OSError('without a number'),
        PermissionError(errno.EACCES, 'not allowed'),
        socket.gaierror(socket.EAI_NONAME, 'no such host'),
        ValueError('no error of the system'),
    ],
)
def test_other_errors_are_no_shortage(error: BaseException | None) -> None:
    assert shortage(error) is None


def test_memory_and_threads_can_be_short() -> None:
    assert 'no memory' in str(shortage(MemoryError()))
    assert "can't start new thread" in str(shortage(RuntimeError("can't start new thread")))


def no_descriptor(*_: Any, **__: Any) -> Any:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def no_name(*_: Any, **__: Any) -> Any:
    raise socket.gaierror(socket.EAI_AGAIN, 'Temporary failure in name resolution')


def test_bridge_is_not_blamed_for_missing_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    with Client('a@example.org', 'x', 'http://127.0.0.1:1') as client:
        monkeypatch.setattr(socket, 'socket', no_descriptor)
        with pytest.raises(ResourceError, match='too many files open') as caught:
            client.key_list()
    assert isinstance(caught.value.__cause__, OSError)


def test_name_that_cannot_be_looked_up_for_want_of_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Client('a@example.org', 'x', 'http://bridge.invalid:1') as client:
        monkeypatch.setattr(socket, 'getaddrinfo', no_name)
        with pytest.raises(BridgeUnreachableError):
            client.info()
        monkeypatch.setattr(socket, 'socket', no_descriptor)
        with pytest.raises(ResourceError, match='too many files open'):
            client.info()


def test_node_is_not_blamed_for_missing_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    with MetaDisk('http://127.0.0.1:1') as node:
        monkeypatch.setattr(socket, 'socket', no_descriptor)
        monkeypatch.setattr('urllib3.util.connection.socket.socket', no_descriptor)
        with pytest.raises(ResourceError, match='too many files open'):
            node.status()


@both_wires
@pytest.mark.parametrize('what', ['socket', 'name'])
def test_farmer_is_not_blamed_for_missing_descriptors(
    monkeypatch: pytest.MonkeyPatch, protocol: str, what: str
) -> None:
    with ScriptedFarmer() as farmer:
        pointer = farmer.pointer(SHARD, protocol=protocol)
        if what == 'name':
            pointer['farmer']['address'] = 'farmer.invalid'
            monkeypatch.setattr(socket, 'getaddrinfo', no_name)
            with pytest.raises(FarmerUnreachableError):
                channel_for(pointer).pull(pointer, len(SHARD), lambda piece: None)
            monkeypatch.setattr('storj.system.shortage.socket.socket', no_descriptor)
        monkeypatch.setattr(FarmerSocket, '__init__', no_descriptor)
        with pytest.raises(ResourceError, match='too many files open'):
            channel_for(pointer).pull(pointer, len(SHARD), lambda piece: None)


def serve(peer: Connection) -> None:
    peer.read_head()
    peer.answer(200, SHARD)
    peer.wait_for_end()


def serve_web_socket(peer: Connection) -> None:
    peer.upgrade()
    peer.read_frame()
    peer.send(frame(2, SHARD))
    peer.wait_for_end()


def take(peer: Connection) -> None:
    peer.read_head()
    peer.wait_for_end()


def take_web_socket(peer: Connection) -> None:
    peer.upgrade()
    peer.wait_for_end()


@both_wires
def test_farmer_is_not_blamed_for_the_disk_of_the_reader(protocol: str) -> None:
    failure = OSError(errno.EIO, 'the disk is broken')

    def sink(piece: memoryview) -> None:
        raise failure

    with ScriptedFarmer(serve if protocol == HTTP else serve_web_socket) as farmer:
        pointer = farmer.pointer(SHARD, protocol=protocol)
        with pytest.raises(OSError, match='the disk is broken') as caught:
            channel_for(pointer).pull(pointer, len(SHARD), sink)
    assert caught.value is failure


@both_wires
def test_farmer_is_not_blamed_for_the_disk_of_the_source(protocol: str) -> None:
    failure = ConnectionResetError('the file server went away')

    def chunks() -> Any:
        yield SHARD[:1000]
        raise failure

    with ScriptedFarmer(take if protocol == HTTP else take_web_socket) as farmer:
        pointer = farmer.pointer(SHARD, 'PUSH', protocol=protocol)
        with pytest.raises(OSError, match='file server') as caught:
            channel_for(pointer).push(pointer, chunks(), len(SHARD))
    assert caught.value is failure


def test_connection_that_breaks_is_still_the_farmers() -> None:
    watch = Watchdog(ChannelLimits())
    with pytest.raises(FarmerUnreachableError) as caught, watch.translating(1006):
        raise ConnectionResetError(errno.ECONNRESET, 'reset')
    assert caught.value.code == 1006
    with pytest.raises(ResourceError), watch.translating():
        raise OSError(errno.ENOBUFS, 'no buffers')


def test_descriptors_run_out_in_a_real_process() -> None:
    # Without a stand-in: a process that may open no other file.
    program = """
import os, resource
from storj.http import Client
from storj.exception import StorjError
client = Client('a@example.org', 'x', 'http://localhost:9')
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) - 1, hard))
try:
    client.key_list()
except StorjError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith('ResourceError this process has too many files open')
