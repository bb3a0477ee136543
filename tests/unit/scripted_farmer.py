"""A farmer that does what a test says, byte by byte, to see how clients bear it.

Written against the RFC and the protocol reference, and with nothing of the package, so that a
client's mistake cannot be repeated here.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

Script = Callable[['Connection'], None]

TOKEN = '557bfbc7453b57afb18f371367cfcd4d50f3915b'
NODE_ID = 'a40725dd8528a15601d2d6ebd63632c70dc7da24'


class Connection:
    """The farmer's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.file = sock.makefile('rb')

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) < count:
            raise EOFError('the client hung up')
        return data

    def wait_for_end(self) -> None:
        """Read until the client hangs up."""
        try:
            while self.file.read(65536):
                pass
        except ConnectionError:
            pass

    def reset(self) -> None:
        """Hang up rudely."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.file.close()
        self.socket.close()

    # --- HTTP -------------------------------------------------------------------------------

    def read_head(self) -> tuple[str, dict[str, str]]:
        lines = []
        while line := self.file.readline().strip():
            lines.append(line.decode())
        fields = (line.partition(':') for line in lines[1:])
        return lines[0], {name.lower(): value.strip() for name, _, value in fields}

    def answer(self, status: int, body: bytes = b'', *fields: str) -> None:
        head = [f'HTTP/1.1 {status} Whatever', f'Content-Length: {len(body)}', *fields]
        self.send('\r\n'.join([*head, '', '']).encode() + body)

    # --- WebSocket --------------------------------------------------------------------------

    def upgrade(self, *fields: str, accept: bytes | None = None, then: bytes = b'') -> None:
        """Answer the handshake, and send something along with the answer."""
        line, given = self.read_head()
        assert line == 'GET / HTTP/1.1'
        assert given['upgrade'].lower() == 'websocket'
        assert given['sec-websocket-version'] == '13'
        assert given['host'] == '{}:{}'.format(*self.socket.getsockname())
        key = given['sec-websocket-key'].encode() + b'258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
        if accept is None:
            accept = base64.b64encode(hashlib.sha1(key).digest())
        head = [
            'HTTP/1.1 101 Switching Protocols',
            'Upgrade: websocket',
            'Connection: keep-alive, Upgrade',
            f'Sec-WebSocket-Accept: {accept.decode()}',
            *fields,
        ]
        self.send('\r\n'.join([*head, '', '']).encode() + then)

    def read_frame(self) -> tuple[int, bytes]:
        """Return kind and payload of the next frame of the client."""
        first, second = self.read(2)
        assert first & 0x80, 'clients do not fragment'
        assert second & 0x80, 'clients mask'
        length = second & 0x7F
        if length > 125:
            size = 2 if length == 126 else 8
            length = int.from_bytes(self.read(size), 'big')
            assert length > (125 if size == 2 else 65535), 'lengths are written as short as can be'
        mask = self.read(4)
        payload = self.read(length)
        pad = (mask * (length // 4 + 1))[:length]
        whole = int.from_bytes(payload, 'big') ^ int.from_bytes(pad, 'big')
        return first & 0x0F, whole.to_bytes(length, 'big')

    def read_shard(self, size: int) -> bytes:
        data = b''
        while len(data) < size:
            kind, payload = self.read_frame()
            assert kind == 2
            assert len(payload) <= 65536
            data += payload
        return data

    def close(self, code: int, reason: str = '') -> None:
        self.send(frame(8, struct.pack('!H', code) + reason.encode()))


def frame(opcode: int, payload: bytes = b'', *, first: int = 0x80, masked: int = 0) -> bytes:
    """Return a frame as a farmer sends it."""
    length = len(payload)
    if length < 126:
        head = struct.pack('!BB', first | opcode, masked | length)
    elif length < 65536:
        head = struct.pack('!BBH', first | opcode, masked | 126, length)
    else:
        head = struct.pack('!BBQ', first | opcode, masked | 127, length)
    return head + payload


class ScriptedFarmer:
    """Listens on loopback and plays one script per connection, in their order."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._failure: BaseException | None = None
        self.played = 0

    def __enter__(self) -> ScriptedFarmer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # Wakes an accept() that no client will.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive(), 'the script does not end'
        if self._failure is not None and kind is None:
            raise self._failure

    def _run(self) -> None:
        for script in self._scripts:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            connection = Connection(sock)
            try:
                script(connection)
                self.played += 1
            except (OSError, EOFError):
                # The client may hang up where it has heard enough; tests look at the client.
                pass
            except BaseException as error:
                self._failure = error
                return
            finally:
                connection.file.close()
                sock.close()

    def pointer(
        self, data: bytes, operation: str = 'PULL', protocol: str = '1.1.0'
    ) -> dict[str, Any]:
        """Return a pointer to a shard here."""
        digest = hashlib.new('ripemd160', hashlib.sha256(data).digest()).hexdigest()
        return {
            'hash': digest,
            'token': TOKEN,
            'operation': operation,
            'size': len(data),
            'farmer': {
                'address': '127.0.0.1',
                'port': self.port,
                'nodeID': NODE_ID,
                'protocol': protocol,
                'userAgent': '6.8.0',
                'lastSeen': 1479896130123,
            },
        }
