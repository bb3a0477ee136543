"""Faults on demand: where, how and when a test needs them.

A fault is picked by farmer or by bridge route and by how many matching calls have come before::

    Fault('truncate', farmer=2, offset=1000)               # farmer 2, its first download
    Fault('status', route='PUT /frames', status=503, nth=3, times=2)
    FaultPlan(['delay:farmer=*,seconds=2,times=0'])         # the same from a command line

It is applied at the servers, on the real wire. This module knows HTTP, and neither shards nor
buckets.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

#: What can go wrong, by name.
KINDS = {
    'refuse': 'the connection is reset before an answer',
    'delay': 'the answer begins `seconds` later',
    'truncate': 'the answer ends cleanly after `offset` bytes (downloads and bridge)',
    'corrupt': 'the byte at `offset` arrives changed (up- and downloads)',
    'drop': 'the connection is reset after `offset` bytes',
    'expire': 'the token has expired (up- and downloads)',
    'stall': 'nothing more happens after `offset` bytes',
    'status': 'the answer is `status` with a JSON error',
    'html': 'the answer is `status` with an HTML page',
}

DATA_OPERATIONS = ('push', 'pull')
_RPC_OPERATIONS = ('ping', 'alloc', 'consign', 'retrieve', 'audit', 'mirror')
_DATA_ONLY = ('corrupt', 'expire')


@dataclass(eq=False)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind (str): one of :data:`KINDS`.
        farmer (int | str | None): number of the farmer (from 0), its node id, or ``*`` for any.
        route (str | None): at the bridge: method and beginning of the path, ``PUT /frames``;
            ``*`` for any method or path. Without farmer and route, any farmer is meant.
        operation (str): at a farmer: ``push``, ``pull``, a method of the node RPC in lower case,
            or ``data`` for both up- and downloads.
        nth (int): the first matching call that is hit, from 1.
        times (int): how many calls from there on; 0 for all.
        offset (int): bytes that pass before it happens.
        seconds (float): of a delay.
        status (int): HTTP status of ``status`` and ``html``.
        message (str): text of the error.

    Raises:
        ValueError: If the kind is unknown, or a value is invalid.
    """

    kind: str
    farmer: int | str | None = None
    route: str | None = None
    operation: str = 'data'
    nth: int = 1
    times: int = 1
    offset: int = 0
    seconds: float = 1.0
    status: int = 503
    message: str = 'Service Unavailable'
    _seen: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f'unknown fault {self.kind!r}: one of {", ".join(KINDS)}')
        if self.farmer is not None and self.route is not None:
            raise ValueError('a fault happens at a farmer or at a route of the bridge, not both')
        if self.farmer is None and self.route is None:
            self.farmer = '*'
        self._check_operation()
        if self.nth < 1 or self.times < 0 or self.offset < 0 or not 0 <= self.seconds <= 86400:
            raise ValueError('a fault has a number that is out of range')
        if not 400 <= self.status <= 599:
            raise ValueError('a fault has a status from 400 to 599')

    def _check_operation(self) -> None:
        if self.operation not in ('data', *DATA_OPERATIONS, *_RPC_OPERATIONS):
            raise ValueError(f'unknown operation {self.operation!r}')
        moves_data = self.route is None and self.operation not in _RPC_OPERATIONS
        if self.kind in _DATA_ONLY and not moves_data:
            raise ValueError(f'{self.kind} happens to up- and downloads only')
        if self.kind == 'truncate' and self.operation == 'push':
            raise ValueError('truncate happens to what a server sends, never to an upload')

    @classmethod
    def parse(cls, spec: str) -> Fault:
        """Read a fault as it is written on a command line.

        Args:
            spec (str): ``KIND:NAME=VALUE,NAME=VALUE``, the names being attributes of this class.

        Raises:
            ValueError: If it is not of that form.
        """
        kind, _, rest = spec.partition(':')
        values: dict[str, Any] = {}
        kinds = {item.name: item for item in dataclasses.fields(cls) if item.init}
        for part in filter(None, rest.split(',')):
            name, equals, text = (piece.strip() for piece in part.partition('='))
            if not equals or name not in kinds or name == 'kind':
                raise ValueError(f'fault {spec!r}: {part!r} is not one of {", ".join(kinds)}')
            try:
                if name in ('nth', 'times', 'offset', 'status'):
                    values[name] = int(text)
                elif name == 'seconds':
                    values[name] = float(text)
                elif name == 'farmer' and len(text) < 40 and text.isdecimal():
                    values[name] = int(text)
                else:
                    values[name] = text
            except ValueError as error:
                raise ValueError(f'fault {spec!r}: {name} is a number') from error
        return cls(kind.strip(), **values)

    def fields(self) -> dict[str, Any]:
        """Return the attributes by which an equal fault is made."""
        return {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if item.init and (item.name == 'kind' or getattr(self, item.name) != item.default)
        }

    def spec(self) -> str:
        """Return the fault as :meth:`parse` reads it."""
        values = (f'{name}={value}' for name, value in self.fields().items() if name != 'kind')
        return f'{self.kind}:{",".join(values)}'

    def _strikes(self) -> bool:
        # Calls are counted per fault, and only matching ones:
        #
        #   nth=3, times=2       call 1   2   3   4   5 ...
        #                        hit              x   x
        self._seen += 1
        return self.nth <= self._seen and (self.times == 0 or self._seen < self.nth + self.times)

    def _meets_farmer(self, number: int, node_id: str, operation: str) -> bool:
        if self.farmer not in ('*', number, node_id):
            return False
        # The client sends the body of an upload, not the server.
        if self.kind == 'truncate' and operation == 'push':
            return False
        wanted = DATA_OPERATIONS if self.operation == 'data' else (self.operation,)
        return operation in wanted

    def _meets_route(self, method: str, path: str) -> bool:
        if self.route is None:
            return False
        wanted_method, _, wanted_path = self.route.strip().rpartition(' ')
        if wanted_method not in ('', '*', method):
            return False
        return wanted_path == '*' or path.startswith(wanted_path)


class FaultPlan:
    """The faults of a network. Faults can be added and removed at any time, from any thread.

    Args:
        faults (Iterable[Fault | str]): as objects or as :meth:`Fault.parse` reads them.

    Attributes:
        listener (Callable[[], object] | None): called after each change, in the thread that made
            it, so that farmers in other processes can follow.
    """

    def __init__(self, faults: Iterable[Fault | str] = ()) -> None:
        self.listener: Callable[[], object] | None = None
        self._lock = threading.Lock()
        self._faults: dict[int, Fault] = {}
        self._numbers = itertools.count()
        self._releases = 0
        self._paused = False
        self._stalled: set[asyncio.Future[None]] = set()
        for fault in faults:
            self.add(fault)

    def __iter__(self) -> Iterator[Fault]:
        with self._lock:
            return iter(list(self._faults.values()))

    def add(self, fault: Fault | str) -> Fault:
        """Add a fault and return it; it counts calls from now on.

        Raises:
            ValueError: If the text is not a fault.
        """
        if isinstance(fault, str):
            fault = Fault.parse(fault)
        with self._lock:
            self._faults[next(self._numbers)] = fault
        self._changed()
        return fault

    def remove(self, fault: Fault) -> None:
        """Remove a fault; nothing happens if it is not there."""
        with self._lock:
            number = next((key for key, known in self._faults.items() if known is fault), None)
            if number is None:
                return
            del self._faults[number]
        self._changed()

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()
        self._changed()

    def state(self) -> dict[str, Any]:
        """Return what :meth:`follow` takes, as JSON."""
        with self._lock:
            faults = {str(number): fault.fields() for number, fault in self._faults.items()}
            return {'faults': faults, 'releases': self._releases}

    def follow(self, state: Mapping[str, Any]) -> None:
        """Take over the plan of another process, in the event loop.

        Faults that are known already keep their counts.

        Args:
            state (Mapping[str, Any]): what :meth:`state` of the other plan gave.

        Raises:
            ValueError, TypeError: If it contains something that is not a fault.
        """
        wanted = {int(number): fields for number, fields in state['faults'].items()}
        with self._lock:
            new = {
                number: Fault(**fields)
                for number, fields in wanted.items()
                if number not in self._faults
            }
            kept = {number: self._faults[number] for number in wanted if number in self._faults}
            self._faults = dict(sorted((kept | new).items()))
        # Stalls that began before end; those of a new fault go on.
        if state['releases'] != self._releases:
            self._releases = state['releases']
            self._end_stalls()

    def _changed(self) -> None:
        if self.listener is not None:
            self.listener()

    def pause(self) -> None:
        """Apply no faults, and count no calls, until :meth:`resume`."""
        self._paused = True

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._paused = False

    def at_farmer(self, number: int, node_id: str, operation: str) -> Disturbance:
        """Return what goes wrong with a call to a farmer, and count the call.

        Args:
            number (int): of the farmer, from 0.
            node_id (str): its node id.
            operation (str): ``push``, ``pull`` or a method of the node RPC in lower case.
        """
        return self._struck(lambda fault: fault._meets_farmer(number, node_id, operation))

    def at_route(self, method: str, path: str) -> Disturbance:
        """Return what goes wrong with a request to the bridge, and count the request."""
        return self._struck(lambda fault: fault._meets_route(method, path))

    def _struck(self, meets: Callable[[Fault], bool]) -> Disturbance:
        with self._lock:
            faults = [
                fault
                for fault in ([] if self._paused else self._faults.values())
                if meets(fault) and fault._strikes()
            ]
        return Disturbance(self, faults)

    @property
    def stalled(self) -> int:
        """How many requests and transfers stand still now."""
        return len(self._stalled)

    async def stall(self) -> None:
        """Wait until the network stops, or until the caller is cancelled."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stalled.add(waiting)
        try:
            await waiting
        finally:
            self._stalled.discard(waiting)

    def release(self) -> None:
        """End all stalls that have begun."""
        self._releases += 1
        self._end_stalls()
        self._changed()

    def _end_stalls(self) -> None:
        for waiting in list(self._stalled):
            # The loop of the servers may be another thread's, and may have ended with them.
            with contextlib.suppress(RuntimeError):
                waiting.get_loop().call_soon_threadsafe(_finish, waiting)

    @web.middleware
    async def middleware(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Apply the faults of the bridge's routes; the outermost middleware of its app."""
        disturbance = self.at_route(request.method, request.path)
        if not disturbance:
            return await handler(request)
        answer = await disturbance.before(request, field_name='error')
        if answer is not None:
            return answer
        return await disturbance.after(request, await handler(request))


def _finish(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class Disturbance:
    """What goes wrong with one call. False when nothing does."""

    def __init__(self, plan: FaultPlan, faults: Iterable[Fault]) -> None:
        self._plan = plan
        self._faults = {fault.kind: fault for fault in faults}

    def __bool__(self) -> bool:
        return bool(self._faults)

    def __contains__(self, kind: str) -> bool:
        return kind in self._faults

    async def before(
        self, request: web.BaseRequest, *, field_name: str
    ) -> web.StreamResponse | None:
        """Apply what happens before an answer.

        Args:
            request (web.BaseRequest): what came.
            field_name (str): of the text in a JSON error: ``error`` or ``result``.

        Returns:
            web.StreamResponse | None: the answer to give instead of the real one, if any.
        """
        # A delay and another fault may hit the same call: first the wait, then the failure.
        if 'delay' in self._faults:
            await asyncio.sleep(self._faults['delay'].seconds)
        if 'refuse' in self._faults:
            return self.reset(request)
        fault = self._faults.get('status')
        if fault is not None:
            return web.json_response({field_name: fault.message}, status=fault.status)
        fault = self._faults.get('html')
        if fault is not None:
            page = f'<html><head><title>{fault.status}</title></head><body></body></html>\n'
            return web.Response(text=page, status=fault.status, content_type='text/html')
        return None

    async def after(
        self, request: web.BaseRequest, response: web.StreamResponse
    ) -> web.StreamResponse:
        """Apply what happens to an answer that is whole in memory; a streamed one passes."""
        body = response.body if isinstance(response, web.Response) else None
        if not isinstance(body, (bytes, bytearray)):
            return response
        part, event = self.passing(bytes(body), 0)
        if event is None:
            return response
        headers = {'Content-Type': response.headers.get('Content-Type', 'application/json')}
        if event == 'end':
            return web.Response(body=part, status=response.status, headers=headers)
        broken = web.StreamResponse(status=response.status, headers=headers)
        # The length of the whole answer, so that the client sees that it was cut.
        broken.content_length = len(body)
        await broken.prepare(request)
        await broken.write(part)
        return await self.interrupt(request, event, broken)

    def passing(self, data: bytes, position: int) -> tuple[bytes, str | None]:
        """Return what arrives of a piece, and what happens then.

        Args:
            data (bytes): the piece.
            position (int): bytes that went before it.

        Returns:
            tuple[bytes, str | None]: the bytes that pass, and ``end``, ``drop``, ``stall`` or None.
        """
        fault = self._faults.get('corrupt')
        if fault is not None and position <= fault.offset < position + len(data):
            changed = bytearray(data)
            changed[fault.offset - position] ^= 0xFF
            data = bytes(changed)
        for kind, event in (('truncate', 'end'), ('drop', 'drop'), ('stall', 'stall')):
            fault = self._faults.get(kind)
            if fault is not None and fault.offset <= position + len(data):
                return data[: max(0, fault.offset - position)], event
        return data, None

    async def interrupt(
        self, request: web.BaseRequest, event: str, response: web.StreamResponse
    ) -> web.StreamResponse:
        """Carry out a ``drop`` or a ``stall`` in the middle of a transfer."""
        if event == 'stall':
            await self._plan.stall()
        if request.transport is not None:
            request.transport.abort()
        return response

    def reset(self, request: web.BaseRequest) -> web.StreamResponse:
        """Cut the connection; the returned answer never reaches anybody."""
        if request.transport is not None:
            request.transport.abort()
        return web.Response(text=json.dumps({}), content_type='application/json')
