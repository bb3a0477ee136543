"""Control of a running local network by another process: its state, farmers and faults.

``storj network up`` serves this on a loopback port beside the network; the address and a secret lie
in ``control.json`` in the network's folder, readable by its owner only. The bridge itself has no
such routes: clients see the network of the protocol only.
"""

from __future__ import annotations

import hmac
import http.client
import json
import os
import secrets
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storj.crypto import secret_file
from storj.exception import NetworkNotAnswering, NetworkNotRunning, NetworkSetupError, StorjError
from storj.system import file_lock

if TYPE_CHECKING:
    from storj.network import Network

_FILE = 'control.json'
_BODY_LIMIT = 64 * 1024
_ANSWER_LIMIT = 64 * 1024 * 1024
_TIMEOUT = 30.0
_SNAPSHOT_TIMEOUT = 600.0
_ACTIONS = ('start', 'stop', 'restart', 'kill')


def network_folder() -> Path:
    """Return the folder of the network that is started without ``--data``."""
    import appdirs

    return Path(appdirs.user_data_dir('storj')) / 'network'


def is_running(folder: Path) -> bool:
    """Return whether a process has the folder of a network locked."""
    try:
        lock = file_lock.lock(folder / 'network.lock', create=False)
    except OSError:
        return False
    if lock is None:
        return True
    file_lock.unlock(lock)
    return False


def _inode(folder: Path) -> list[int]:
    """Return what tells a folder from a copy of it."""
    found = folder.stat()
    return [found.st_dev, found.st_ino]


def forget_stopped(folder: Path) -> None:
    """Remove what a network that was killed left of its address, before another one starts.

    From then on the address in a folder that is locked is that of the process that locked it, and
    its secret is sent to nobody else.
    """
    (folder / _FILE).unlink(missing_ok=True)


class RunningNetwork:
    """A network that some process of this user has started.

    Args:
        folder (Path): of the network.

    Raises:
        NetworkNotRunning: If none runs there.
        NetworkSetupError: If its address cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            state = json.loads((folder / _FILE).read_text(encoding='utf-8'))
            self._port = int(state['port'])
            self._secret = str(state['secret'])
            # A copied folder has the same file, but another inode.
            own = state.get('inode') == _inode(folder)
        except FileNotFoundError:
            raise NetworkNotRunning(f'no network runs on {folder}') from None
        except OSError as error:
            # As of another user.
            reason = f'{folder / _FILE}: cannot be read: {error.strerror}'
            raise NetworkSetupError(reason) from error
        except (ValueError, KeyError, TypeError) as error:
            raise NetworkSetupError(f'{folder / _FILE} is damaged: remove it') from error
        if not own:
            # It would lead to the network of the folder that this one was copied from.
            origin = state.get('folder')
            raise NetworkNotRunning(
                f'no network runs on {folder}'
                + (f': its {_FILE} is a copy of that of {origin}' if origin else '')
            )

    def status(self) -> dict[str, Any]:
        """Return bridge, farmers, faults, environment, pid and folder of the network."""
        found: dict[str, Any] = self._ask('GET', '/')
        return found

    def add_fault(self, spec: str) -> list[str]:
        """Add a fault and return all of them."""
        return list(self._ask('POST', '/faults', {'fault': spec}))

    def clear_faults(self) -> list[str]:
        """Remove all faults and return what is left: nothing."""
        return list(self._ask('DELETE', '/faults'))

    def change_farmer(self, number: int, action: str) -> dict[str, Any]:
        """``start``, ``stop``, ``restart`` or ``kill`` a farmer and return its state."""
        found: dict[str, Any] = self._ask('POST', f'/farmers/{number}', {'action': action})
        return found

    def snapshot(self, number: int, target: Path) -> bool:
        """Have a farmer's database copied; return False if the farmer does not run."""
        path = f'/farmers/{number}/snapshot'
        return bool(self._ask('POST', path, {'target': str(target)}, _SNAPSHOT_TIMEOUT))

    def stop(self) -> int:
        """Ask the network's process to stop and return its id.

        Raises:
            NetworkNotRunning: If it has gone already.
        """
        pid = int(self.status()['pid'])
        # The process has just proved that it is the network: it knows the secret.
        os.kill(pid, signal.SIGTERM)
        return pid

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        timeout: float = _TIMEOUT,
    ) -> Any:
        connection = http.client.HTTPConnection('127.0.0.1', self._port, timeout=timeout)
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {'Authorization': f'Bearer {self._secret}'},
            )
            response = connection.getresponse()
            content = response.read(_ANSWER_LIMIT)
            answer = json.loads(content)
        except TimeoutError as error:
            raise NetworkNotAnswering(
                f'the network on {self.folder} runs, but does not answer within {timeout:g} s'
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NetworkNotRunning(f'no network runs on {self.folder} any more') from error
        finally:
            connection.close()
        if response.status != 200:
            given = answer.get('error') if isinstance(answer, dict) else None
            message = str(given or 'the network refused')
            # Of what was typed, a farmer's number or the text of a fault, or of the network.
            raise ValueError(message) if response.status in (400, 404) else StorjError(message)
        return answer


@contextmanager
def serve_control(network: Network) -> Iterator[None]:
    """Answer :class:`RunningNetwork` while the network runs.

    Args:
        network (Network): that is up.
    """
    secret = secrets.token_hex(32)
    handler = _handler(network, secret)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        server.daemon_threads = True
        path = network.data / _FILE
        content = {
            'port': server.server_address[1],
            'secret': secret,
            'folder': str(network.data),
            'inode': _inode(network.data),
            'pid': os.getpid(),
        }
        secret_file.write(path, json.dumps(content))
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), name='storj-control')
        thread.start()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            server.shutdown()
            thread.join()


class _Routes:
    """What can be asked of a running network.

    Args:
        network (Network): that is up.
    """

    def __init__(self, network: Network) -> None:
        self._network = network

    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """Return status and content of the answer to one request."""
        match method, path.strip('/').split('/'):
            case 'GET', ['']:
                return 200, self._state()
            case 'GET', ['faults']:
                return 200, self._faults()
            case 'POST', ['faults']:
                self._network.faults.add(str(body.get('fault', '')))
                return 200, self._faults()
            case 'DELETE', ['faults']:
                self._network.faults.clear()
                self._network.faults.release()
                return 200, self._faults()
            case 'POST', ['farmers', number, 'snapshot'] if number.isdecimal():
                target = Path(str(body.get('target')))
                return 200, self._network.snapshot(int(number), target)
            case 'POST', ['farmers', number] if number.isdecimal():
                return self._change_farmer(int(number), body.get('action'))
        return 404, {'error': 'no such route'}

    def _state(self) -> dict[str, Any]:
        network = self._network
        return {
            **network.status(),
            'environment': network.environment(),
            'faults': self._faults(),
        }

    def _faults(self) -> list[str]:
        return [fault.spec() for fault in self._network.faults]

    def _change_farmer(self, number: int, action: object) -> tuple[int, Any]:
        if number >= len(self._network.farmers):
            return 404, {'error': f'there is no farmer {number}'}
        if action not in _ACTIONS:
            return 400, {'error': f'an action is one of {", ".join(_ACTIONS)}'}
        if self._network.draining:
            return 409, {'error': 'farmers leave; they can be changed when that has ended'}
        farmer = self._network.farmers[number]
        getattr(farmer, str(action))()
        return 200, farmer.status()


def _handler(network: Network, secret: str) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers for one network."""
    routes = _Routes(network)

    class Handler(BaseHTTPRequestHandler):
        """Answers one request."""

        timeout = _TIMEOUT

        def handle(self) -> None:
            # The caller may have gone before the answer.
            with suppress(ConnectionError):
                super().handle()

        def do_GET(self) -> None:
            self._answer()

        do_POST = do_DELETE = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing on the terminal."""

        def _answer(self) -> None:
            given = self.headers.get('Authorization', '')
            # In constant time: any program of this machine can ask.
            if hmac.compare_digest(given.encode(), f'Bearer {secret}'.encode()):
                status, content = self._result()
            else:
                status, content = 401, {'error': 'not authorized'}
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header('Content-Type', 'application/json')
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _result(self) -> tuple[int, Any]:
            try:
                length = int(self.headers.get('Content-Length', 0))
                if not 0 <= length <= _BODY_LIMIT:
                    raise ValueError('the body is too long')
                body = json.loads(self.rfile.read(length) or b'{}')
                if not isinstance(body, dict):
                    raise ValueError('the body is no object')
                return routes.answer(self.command, self.path, body)
            except ValueError as error:
                return 400, {'error': str(error)}
            except StorjError as error:
                return 500, {'error': str(error)}

    return Handler
