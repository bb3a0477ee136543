"""What both channels to a farmer share: the farmer's address, time limits, meaning of refusals.

A farmer is not trusted. It may be gone, slow on purpose, send without end, or stop in the middle;
its name came from a bridge that is not trusted either. So a pointer is checked before it is used,
every wait ends (:class:`Watchdog`), and every failure becomes one of the errors of
:mod:`storj.exception`. :mod:`storj.rest.connection` says why its sockets are not these.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from storj.digest import is_hash, is_hex
from storj.exception import (
    FarmerError,
    FarmerUnreachableError,
    HashMismatchError,
    SuppliedTokenNotAcceptedError,
    TransferCancelled,
)
from storj.system.shortage import shortage
from storj.text import count_of, printable

#: Bytes of one shard at most: older clients had no limit of 4 GiB, but a file has an end.
MAX_SHARD: Final = 1 << 46

#: Seconds after which a wait looks whether it was cancelled.
TICK: Final = 0.25

# Farmers gave out 40 digits; more than 128 would be a request made of rubbish.
_TOKEN = re.compile('[0-9a-fA-F]{1,128}')
# Labels and the dots between them: one way only to read a text, so that none takes long.
_LABEL = '[0-9A-Za-z_](?:[0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?'
_HOST = re.compile(rf'{_LABEL}(?:\.{_LABEL})*\.?')
_MAX_HOST = 254
_MAX_MESSAGE = 500


def never() -> bool:
    """Return False, for a transfer that cannot be cancelled."""
    return False


@dataclass(frozen=True)
class ChannelLimits:
    """How long a farmer may take. The time in which the caller reads or writes does not count.

    Attributes:
        connect (float): seconds until the connection stands.
        first_byte (float): seconds from the request to the first byte of a shard.
        acknowledge (float): seconds from the last byte of a shard to the farmer's answer.
        stall (float): seconds without a byte, and the span over which the rate is taken.
        minimum_rate (float): bytes per second below which a transfer is given up; libstorj's
            30720. 0 for any.
    """

    connect: float = 10
    first_byte: float = 10
    acknowledge: float = 30
    stall: float = 20
    minimum_rate: float = 30720


def farmer_error(code: int | None, message: str) -> FarmerError:
    """Turn a farmer's refusal into the error to raise.

    Args:
        code (int | None): WebSocket close code, or HTTP status.
        message (str): the farmer's text, unchanged.

    Returns:
        FarmerError: of the most specific class (protocol reference, sections 4.1 and 4.2).
    """
    # Its text reaches logs and terminals, which interpret some characters as commands.
    text = printable(' '.join(message.split()))[:_MAX_MESSAGE]
    text = text or f'the farmer refused with code {code}'
    if text.startswith('Calculated hash does not match'):
        return HashMismatchError(message=text)
    if code in (401, 3101):
        return SuppliedTokenNotAcceptedError(message=text)
    return FarmerError(code, text)


def _field(holder: Any, name: str) -> Any:
    """Return a field of a mapping or a model, None if it has none."""
    get = getattr(holder, 'get', None)
    return get(name) if callable(get) else getattr(holder, name, None)


def _port(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch('[0-9]{1,5}', value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value < 65536 else None


def _host(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        # A zone (fe80::1%eth0) names an interface of this machine, which no farmer can know.
        return None if '%' in value else str(ipaddress.ip_address(value.strip('[]')))
    except ValueError:
        return value if len(value) <= _MAX_HOST and _HOST.fullmatch(value) else None


def _of_channel(channel: object) -> dict[str, object] | None:
    """Return the farmer of a pointer from before bridge 0.7: ``ws://host:port`` and no more."""
    found = (
        re.fullmatch(r'ws://(.{1,253}):([0-9]{1,5})/?', channel)
        if isinstance(channel, str)
        else None
    )
    return found and {'address': found[1], 'port': found[2], 'protocol': '0.0.0'}


@dataclass(frozen=True)
class Ticket:
    """A pointer that was checked: the right to move one shard to or from one farmer.

    Attributes:
        host (str): name or address of the farmer, or of the relay before it.
        port (int): 1 to 65535.
        node_id (str | None): of the farmer, 40 hex digits.
        protocol (str): version that the farmer speaks, '' if the pointer does not state it.
        hash (str): of the shard, 40 hex digits.
        token (str): the farmer's, hex digits.
        size (int | None): bytes of the shard, None if the pointer does not state it.
    """

    host: str
    port: int
    node_id: str | None
    protocol: str
    hash: str
    token: str
    size: int | None

    def __repr__(self) -> str:
        """Return whom it is for, without the token."""
        return f'Ticket({self.hash} at {self.host}:{self.port})'

    @classmethod
    def of(cls, pointer: Any) -> Ticket:
        """Check a pointer.

        Args:
            pointer (Mapping | FilePointer): as the bridge gave it, fields as keys or attributes.

        Raises:
            FarmerError: If it names no farmer, or holds something that cannot be right.
        """
        farmer = _field(pointer, 'farmer') or _of_channel(_field(pointer, 'channel'))
        if not farmer:
            raise FarmerError(message='the pointer names no farmer')
        host, port = _host(_field(farmer, 'address')), _port(_field(farmer, 'port'))
        if host is None or port is None:
            raise FarmerError(message="the farmer's address in the pointer is not valid")
        shard, token = _field(pointer, 'hash'), _field(pointer, 'token')
        if not is_hash(shard):
            raise FarmerError(message='the hash in the pointer is not valid')
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise FarmerError(message='the token in the pointer is not valid')
        node_id, protocol = _field(farmer, 'nodeID'), _field(farmer, 'protocol')
        size = _field(pointer, 'size')
        if size is not None and (
            isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_SHARD
        ):
            raise FarmerError(message='the size in the pointer is not valid')
        return cls(
            host,
            port,
            node_id if is_hex(node_id, 40, any_case=True) else None,
            protocol if isinstance(protocol, str) else '',
            shard,
            token,
            size,
        )


class Watchdog:
    """Ends the waits of one transfer: when it is cancelled, too late, stalled, or too slow.

    A transfer goes through phases. In some a single thing must happen within a time
    (:meth:`expect`); in between, bytes must flow (:meth:`flow`, :meth:`moved`). Time that the
    caller takes for itself is taken out (:meth:`paused`).

    Args:
        limits (ChannelLimits): how long the phases may last.
        cancelled (Callable[[], bool]): asked at least four times a second.
        clock (Callable[[], float]): seconds that never go back.
    """

    def __init__(
        self,
        limits: ChannelLimits,
        cancelled: Callable[[], bool] = never,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self._cancelled = cancelled
        self._clock = clock
        self._pause = 0.0
        self._callers_error: BaseException | None = None
        self._deadline: float | None = None
        self._late = ''
        self._bytes = 0
        self._last = self._now()
        # Moments of the last `stall` seconds and the bytes until then; about twenty of them.
        self._marks: deque[tuple[float, int]] = deque()

    @contextmanager
    def translating(self, code: int | None = None) -> Iterator[None]:
        """Turn errors of the system within into what they stand for.

        Args:
            code (int | None): of the error of a connection that broke.

        Raises:
            FarmerUnreachableError: If the connection broke.
            ResourceError: If this machine is short of something.
            OSError: If the caller failed to read or write its own bytes; passed on unchanged.
        """
        try:
            yield
        except OSError as error:
            # The caller's disk is not the farmer's fault.
            if error is self._callers_error:
                raise
            raise shortage(error) or FarmerUnreachableError(
                code, f'the connection to the farmer broke: {error.strerror or error}'
            ) from error

    def _now(self) -> float:
        return self._clock() - self._pause

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the time within out of all reckonings, and an error as one of the caller's own."""
        start = self._clock()
        try:
            yield
        except BaseException as error:
            self._callers_error = error
            raise
        finally:
            self._pause += self._clock() - start

    def expect(self, seconds: float, late: str) -> None:
        """Begin a phase that must end within a time.

        Args:
            seconds (float): from now.
            late (str): message of the error if it does not.
        """
        self._deadline, self._late = self._now() + seconds, late

    def flow(self) -> None:
        """Begin a phase in which bytes must flow."""
        self._deadline = None
        self._last = self._now()
        self._marks.clear()
        self._marks.append((self._last, self._bytes))

    def moved(self, count: int) -> None:
        """Take note of bytes of the shard that went over the wire."""
        self._bytes += count
        self._last = now = self._now()
        if self._marks and now - self._marks[-1][0] >= self.limits.stall / 20:
            self._marks.append((now, self._bytes))

    def check(self) -> None:
        """End the transfer if it must end.

        Raises:
            TransferCancelled: If it was cancelled.
            FarmerUnreachableError: If the farmer is too late or too slow.
        """
        if self._cancelled():
            raise TransferCancelled('the transfer was cancelled')
        now, limits = self._now(), self.limits
        if self._deadline is not None:
            if now >= self._deadline:
                raise FarmerUnreachableError(message=self._late)
            return
        if now - self._last >= limits.stall:
            raise FarmerUnreachableError(message=f'the farmer moved no byte for {limits.stall:g} s')
        # The first mark is the latest one that is a whole span old.
        while len(self._marks) > 1 and now - self._marks[1][0] >= limits.stall:
            self._marks.popleft()
        start, before = self._marks[0] if self._marks else (now, 0)
        if now - start >= limits.stall:
            rate = (self._bytes - before) / (now - start)
            if rate < limits.minimum_rate:
                raise FarmerUnreachableError(
                    message=f'the farmer moved {count_of(round(rate), "byte")} a second, '
                    f'fewer than {limits.minimum_rate:g}'
                )


_WAIT = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR}
# Poll serves any number of files; Windows has select only, which there has no such limit.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, 'PollSelector', selectors.SelectSelector
)


class FarmerSocket(socket.socket):
    """A connection to a farmer whose waits a :class:`Watchdog` ends.

    It is a socket, so that the standard library's HTTP client can use it; ``sendall``,
    ``recv_into`` and what is built on them never block for longer than the watch allows.
    """

    watch: Watchdog

    @classmethod
    def dial(cls, host: str, port: int, watch: Watchdog) -> FarmerSocket:
        """Connect to a farmer.

        Args:
            host (str): name or address. Looking up a name may take as long as the system's
                resolver does.
            port (int): 1 to 65535.
            watch (Watchdog): of the transfer.

        Raises:
            FarmerUnreachableError: If no address of the host takes the connection in time.
            ResourceError: If this machine cannot open one.
            TransferCancelled: If it was cancelled meanwhile.
        """
        watch.expect(
            watch.limits.connect,
            f'no connection to {host}:{port} within {watch.limits.connect:g} s',
        )
        refused: OSError | None = None
        try:
            choices = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise shortage(error) or FarmerUnreachableError(
                message=f'no address of {host} is known'
            ) from error
        for family, kind, protocol, _, address in choices:
            try:
                # A machine need not have all kinds of addresses.
                wire = cls(family, kind, protocol)
            except OSError as error:
                refused = error
                continue
            wire.watch = watch
            try:
                wire._connect(address)
            except OSError as error:
                refused = error
                wire.close()
            except BaseException:
                wire.close()
                raise
            else:
                return wire
        raise shortage(refused) or FarmerUnreachableError(
            message=f'no connection to {host}:{port}'
        ) from refused

    def _connect(self, address: Any) -> None:
        self.setblocking(False)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        outcome = self.connect_ex(address)
        if outcome in (errno.EINPROGRESS, *_WAIT):
            self._wait(selectors.EVENT_WRITE)
            outcome = self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if outcome:
            raise OSError(outcome, 'connection failed')

    def _wait(self, events: int) -> int:
        """Return which of the events came, ending as the watch says."""
        with _Selector() as selector:
            selector.register(self, events)
            while True:
                self.watch.check()
                for _, came in selector.select(TICK):
                    return came

    def readable(self) -> bool:
        """Return whether there is something to read now: an answer, or the end."""
        try:
            self.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            # Broken: the next read raises the reason.
            return True
        return True

    def write(self, data: memoryview) -> int:
        """Send some bytes, unless the farmer says something first.

        Args:
            data (memoryview): at least one byte.

        Returns:
            int: how many were sent; 0 if there is something to read instead.

        Raises:
            OSError: If the connection broke.
        """
        self.watch.check()
        while True:
            try:
                return self.send(data)
            except BlockingIOError:
                if self._wait(selectors.EVENT_READ | selectors.EVENT_WRITE) & selectors.EVENT_READ:
                    return 0

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all bytes, as the standard library's HTTP client does with a request's head."""
        rest = memoryview(data).cast('B')
        while rest:
            try:
                rest = rest[self.send(rest, flags) :]
            except BlockingIOError:
                self._wait(selectors.EVENT_WRITE)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive some bytes.

        Returns:
            int: how many; 0 at the end.
        """
        self.watch.check()
        while True:
            try:
                return super().recv_into(buffer, nbytes, flags)
            except BlockingIOError:
                self._wait(selectors.EVENT_READ)
