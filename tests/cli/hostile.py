"""A bridge and farmers that put what drives a terminal into everything they say.

:class:`HostileBridge` stands before a real bridge. It hands requests on and changes the answers:
texts in them, or the whole answer for an error. Farmers that it names are hostile ones.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import random
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

#: Writes the clipboard (OSC 52), clears the screen (CSI, as C1 too), turns a line round, hides,
#: begins lines that pass for the program's own.
POISON = (
    '\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b2J\x9d0;t\x9c\x7f\x00\b\u202egpj\u2066\u200b\ufeff\ue000\U000e0041'
    '\udcff\r\nstorj: forged\nhint: forged\u2028forged\x85forged'
)
_STATUSES = (400, 401, 402, 403, 404, 409, 420, 422, 429, 500, 503, 302)


class Mood:
    """What a hostile bridge does with its answers.

    Attributes:
        choose (random.Random): decides.
        texts (float): share of the texts that are poisoned.
        errors (float): share of the answers that are poisoned errors.
        farmers (bool): whether farmers are hostile as well.
    """

    def __init__(
        self, seed: int = 0, *, texts: float = 0.0, errors: float = 0.0, farmers: bool = False
    ) -> None:
        self.choose = random.Random(seed)
        self.texts = texts
        self.errors = errors
        self.farmers = farmers


class HostileBridge:
    """Stands before a bridge and changes its answers.

    Args:
        bridge (str): URL of the real one.
        farmer (int): port of a hostile farmer.
    """

    def __init__(self, bridge: str, farmer: int) -> None:
        self.bridge = urlsplit(bridge)
        self.farmer = farmer
        self.mood = Mood()
        self.url = ''

    def change(self, status: int, headers: list[tuple[str, str]], body: bytes) -> Any:
        """Return another answer."""
        mood = self.mood
        if mood.choose.random() < mood.errors:
            return self._error()
        try:
            answer = json.loads(body)
        except ValueError:
            return status, headers, body
        return status, headers, json.dumps(self._poisoned(answer)).encode()

    def _error(self) -> Any:
        choose = self.mood.choose
        status = choose.choice(_STATUSES)
        headers = [('Content-Type', 'application/json'), ('Retry-After', '0')]
        if status == 302:
            headers.append(('Location', 'http://a\x1b]52;c;AA\x07\x9b2J/\x7f'))
        body = choose.choice(
            (
                json.dumps({'error': POISON}),
                json.dumps({'error': POISON, 'message': POISON, 'code': POISON}),
                json.dumps(POISON),
                json.dumps([POISON]),
                f'<html>{POISON}'.encode('utf-8', 'surrogatepass').decode('latin-1'),
            )
        )
        return status, headers, body.encode('latin-1')

    def _poisoned(self, value: Any, key: str = '') -> Any:
        if isinstance(value, dict):
            if self.mood.farmers and 'nodeID' in value and 'port' in value:
                value = {**value, 'address': '127.0.0.1', 'port': self.farmer}
            found = {name: self._poisoned(item, name) for name, item in value.items()}
            if self.mood.choose.random() < self.mood.texts / 4:
                found[POISON] = POISON
            return found
        if isinstance(value, list):
            return [self._poisoned(item, key) for item in value]
        if isinstance(value, str) and self.mood.choose.random() < self.mood.texts:
            return self.mood.choose.choice((value + POISON, POISON + value, POISON))
        return value


class _Proxy(BaseHTTPRequestHandler):
    bridge: HostileBridge

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        port = self.bridge.bridge.port
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() != 'accept-encoding'}
        try:
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            found = response.status, response.getheaders(), response.read()
        finally:
            connection.close()
        status, answers, content = self.bridge.change(*found)
        self.send_response(status, 'rea\x9bson')
        for name, value in answers:
            if name.lower() not in ('content-length', 'transfer-encoding', 'connection', 'date'):
                self.send_header(name, value)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Farmer(BaseHTTPRequestHandler):
    """Refuses every shard, by HTTP or after the handshake of a WebSocket."""

    def _refuse(self) -> None:
        key = self.headers.get('Sec-WebSocket-Key')
        if key is not None:
            self._web_socket(key)
            return
        self.rfile.read(int(self.headers.get('Content-Length') or 0))
        body = json.dumps({'result': POISON, 'message': POISON, 'error': POISON}).encode()
        self.send_response(400, 'rea\x9bson')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    do_GET = do_POST = _refuse

    def _web_socket(self, key: str) -> None:
        digest = hashlib.sha1(f'{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11'.encode()).digest()
        self.send_response(101)
        self.send_header('Upgrade', 'websocket')
        self.send_header('Connection', 'Upgrade')
        self.send_header('Sec-WebSocket-Accept', base64.b64encode(digest).decode())
        self.end_headers()
        text = json.dumps({'code': 500, 'message': POISON}).encode()
        self.wfile.write(b'\x81\x7e' + struct.pack('>H', len(text)) + text)
        reason = struct.pack('>H', 1008) + POISON.encode('utf-8', 'replace')[:100]
        self.wfile.write(bytes([0x88, len(reason)]) + reason)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Serve in a thread; gives the port."""
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def hostile_bridge(url: str) -> Iterator[HostileBridge]:
    """Put a hostile bridge before a real one."""
    with _serving(_Farmer) as farmer:
        bridge = HostileBridge(url, farmer)
        handler = type('Proxy', (_Proxy,), {'bridge': bridge})
        with _serving(handler) as port:
            bridge.url = f'http://127.0.0.1:{port}'
            yield bridge


class BehindHostile:
    """A network as those know it who reach its bridge through a hostile one.

    Args:
        network: the real one.
        url (str): of the hostile bridge.
        data: a folder for the control file.
    """

    def __init__(self, network: Any, url: str, data: Any) -> None:
        self._network = network
        self.bridge_url = url
        self.data = data
        self.email, self.password = network.email, network.password

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def environment(self) -> dict[str, str]:
        """Return the environment of the network, with the hostile bridge."""
        return {**self._network.environment(), 'STORJ_BRIDGE': self.bridge_url}

    def status(self) -> dict[str, Any]:
        """Return the state of the network, with the hostile bridge."""
        return {**self._network.status(), 'bridge': self.bridge_url}
