"""The network and the farmer as programs: start, say so in one line, run until told to stop.

The command line wraps these functions; ``python -m storj.network`` is a thin one of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from storj.exception import StorjError
from storj.network.farmer.farmer import Farmer, FarmerSettings
from storj.network.faults import Fault, FaultPlan
from storj.network.node.logs import limited_logs, reopened_logs
from storj.network.node.serving import FARMER_DESCRIPTORS, WAKE, need_descriptors

if TYPE_CHECKING:
    from storj.network.supervisor import Network

__all__ = ('Teller', 'leaving_line', 'run_farmer', 'run_network', 'serving', 'until_stopped')

logger = logging.getLogger(__name__)


def run_network(
    *,
    port: int = 6382,
    as_json: bool = False,
    beside: Callable[[Network], AbstractContextManager[object]] = contextlib.nullcontext,
    ready: Callable[[Network], object] | None = None,
    leaving: Callable[[int, int], object] | None = None,
    **options: Any,
) -> None:
    """Run a network until SIGTERM or Ctrl-C, and stop it cleanly.

    Belongs into the main thread, because signals do. When all farmers are registered, and those
    that are too many have left, one line says so (in JSON, if asked for): address of the bridge,
    account, encryption key, folder.

    Args:
        port (int): of the bridge; 0 for any free one.
        as_json (bool): print JSON.
        beside (Callable[[Network], AbstractContextManager[object]]): context that is entered when
            all farmers are up, before any leaves, and left before they stop.
        ready (Callable[[Network], object] | None): called in place of printing the line.
        leaving (Callable[[int, int], object] | None): called in place of printing which farmer
            leaves, and how many of its shards others have too few copies of.
        options (Any): of :class:`storj.network.Network`.

    Raises:
        NetworkSetupError: If a port is taken, or the folder cannot be used.
        ValueError: If an argument makes no sense.
    """
    # A farmer needs none of this, and starts in half the time without it.
    from storj.network.supervisor import Network

    network = Network(port=port, **options)

    def say_leaving(number: int, remaining: int) -> None:
        event = {'type': 'leaving', 'farmer': number, 'remaining': remaining}
        _say(json.dumps(event) if as_json else leaving_line(number, remaining))

    tell_leaving = Teller(leaving or say_leaving)
    tell_ready = Teller(ready or (lambda network: _say(_network_line(network, as_json))))
    with serving(network.log) as stopped:
        try:
            if not network.start(stopped):
                return
            with beside(network):
                network.drain(tell_leaving, stopped)
                if stopped.is_set():
                    if network.draining:
                        logger.warning('stopped while farmers leave; those that have not left stay')
                    return
                tell_ready(network)
                network.wait(stopped)
        finally:
            network.stop()


class Teller:
    """Tells what a server does. That nobody can be told is no reason to end.

    Args:
        tell (Callable[..., object]): prints it. After its first failure it is not called again.
    """

    def __init__(self, tell: Callable[..., object]) -> None:
        self._tell = tell
        self._mute = False

    def __call__(self, *event: Any) -> None:
        """Tell an event, if that has not failed before."""
        if self._mute:
            return
        try:
            self._tell(*event)
        except (OSError, ValueError) as error:
            # A pipe whose reader has gone, a full disk, a stream that is closed.
            self._mute = True
            logger.warning('events are told no more, the server goes on: %s', error)


def leaving_line(number: int, remaining: int) -> str:
    """Return in words how far a farmer is that leaves its network."""
    if remaining:
        return f'farmer {number} leaves: shards still to be copied to others: {remaining}'
    return f'farmer {number} has left: all of its shards have their copies on others'


def run_farmer(
    path: str | Path,
    bridge_url: str,
    *,
    faults: Iterable[Fault | str] = (),
    number: int = 0,
    supervised: bool = False,
    as_json: bool = False,
    **options: Any,
) -> None:
    """Run one farmer until SIGTERM or Ctrl-C, and stop it cleanly.

    Belongs into the main thread, because signals do. When the bridge knows it, one line says so.

    Args:
        path (str | Path): its folder, made when missing.
        bridge_url (str): where it registers; it keeps trying while the bridge is away.
        faults (Iterable[Fault | str]): what goes wrong.
        number (int): by which faults select it.
        supervised (bool): take commands from standard input, and stop when it ends, so that a
            supervisor that dies takes its farmers along. A line is ``status``, ``snapshot JSON``
            with a path, or ``faults JSON`` with what :meth:`FaultPlan.state()
            <storj.network.faults.FaultPlan.state>` gives; each is answered by one of JSON, whose
            ``type`` is the first word.
        as_json (bool): print JSON.
        options (Any): of :class:`storj.network.farmer.farmer.FarmerSettings`.

    Raises:
        NetworkSetupError: If the port is taken, or the folder cannot be used.
        ResourceError: If the system allows too few open files.
        ValueError: If an argument makes no sense.
        Exception: If a part of the farmer fails that must not.
    """
    settings = FarmerSettings(Path(path).expanduser().absolute(), bridge_url, **options)
    plan = FaultPlan(faults)
    farmer = Farmer(settings, number=number, faults=plan)

    async def live() -> None:
        await farmer.start()
        if supervised:
            loop = asyncio.get_running_loop()
            commands = _Commands(farmer, plan)
            threading.Thread(target=commands.run, args=(loop, stopped), daemon=True).start()
        await farmer.tasks.first(farmer.wait_registered())
        _say(_farmer_line(farmer, as_json))
        await farmer.tasks.failed

    async def until_end() -> None:
        try:
            await until_stopped(stopped, live())
        finally:
            plan.release()
            await farmer.stop()

    need_descriptors(FARMER_DESCRIPTORS, 'a farmer')
    with serving() as stopped:
        if supervised and hasattr(signal, 'SIGHUP'):
            # It logs through its supervisor, whose files are opened again.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        asyncio.run(until_end())


async def until_stopped(stopped: threading.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do a work until it ends, or until a signal; either way it has ended then.

    Args:
        stopped (threading.Event): of :func:`serving`; set at the end.
        work (Coroutine): what the program does.

    Raises:
        Exception: If the work ends by one.
    """
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[Any] = loop.run_in_executor(None, stopped.wait)
    working: asyncio.Future[Any] = asyncio.ensure_future(work)
    try:
        while not (stopping.done() or working.done()):
            # A signal that comes just before the loop sleeps wakes it up no more by itself.
            await asyncio.wait(
                (stopping, working), timeout=WAKE, return_when=asyncio.FIRST_COMPLETED
            )
    finally:
        working.cancel()
        stopped.set()
        await asyncio.gather(working, stopping, return_exceptions=True)
    if not working.cancelled():
        working.result()


@contextmanager
def serving(error_log: Path | None = None) -> Iterator[threading.Event]:
    """Be a server: bound the logs, open their files again at SIGHUP, and stop at a signal.

    Belongs into the main thread. Yields an event that SIGTERM and Ctrl-C set, from before the start
    until after the stop.

    Args:
        error_log (Path | None): a log to which standard error may go; see :func:`reopened_logs
            <storj.network.node.logs.reopened_logs>`.
    """
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    with limited_logs(), reopened_logs(error_log):
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield stopped
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Commands:
    """Does what a supervisor's lines say, until its end of the pipe is closed."""

    def __init__(self, farmer: Farmer, plan: FaultPlan) -> None:
        self._farmer = farmer
        self._plan = plan
        self._copying: asyncio.Future[None] | None = None

    def run(self, loop: asyncio.AbstractEventLoop, stopped: threading.Event) -> None:
        rest = b''
        try:
            # Not through sys.stdin: the interpreter could not take its lock from this thread at
            # the end.
            while data := os.read(sys.stdin.fileno(), 65536):
                *lines, rest = (rest + data).split(b'\n')
                for line in lines:
                    # The loop closes only after `stopped` is set.
                    if not stopped.is_set():
                        loop.call_soon_threadsafe(self._command, line)
        finally:
            # Whatever happened: a farmer that nobody supervises must not stay.
            stopped.set()

    def _command(self, line: bytes) -> None:
        word, _, value = line.partition(b' ')
        if not self._farmer.running:
            return
        if word == b'status':
            _say(json.dumps({'type': 'status', **self._farmer.status()}))
        elif word == b'faults':
            self._plan.follow(json.loads(value))
            _say(json.dumps({'type': 'faults'}))
        elif word == b'snapshot':
            copying = self._snapshot(Path(json.loads(value)))
            self._copying = self._farmer.tasks.once('a copy of the index', copying)

    async def _snapshot(self, target: Path) -> None:
        error = ''
        try:
            await self._farmer.snapshot(target)
        except StorjError as failure:
            error = str(failure)
        _say(json.dumps({'type': 'snapshot', 'error': error}))


def _say(line: str) -> None:
    """Print a line; that it cannot be printed is no reason to stop serving."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(f'{line}\n')
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        logger.warning('standard output cannot be written, the server goes on: %s', error)
        # The interpreter would fail to write the rest in the end.
        sys.stdout = None


def _network_line(network: Network, as_json: bool) -> str:
    if not as_json:
        settings = ' '.join(f"{name}='{value}'" for name, value in network.environment().items())
        count = len(network.farmers)
        return (
            f'ready: bridge {network.bridge_url}, {count} farmers, pid {network.pid}, '
            f'data {network.data}; export {settings}'
        )
    fields: dict[str, Any] = {
        'type': 'ready',
        **network.status(),
        'user': network.email,
        'password': network.password,
        'mnemonic': network.mnemonic,
        'environment': network.environment(),
    }
    return json.dumps(fields)


def _farmer_line(farmer: Farmer, as_json: bool) -> str:
    status = farmer.status()
    if as_json:
        return json.dumps({'type': 'ready', **status})
    return (
        f'ready: farmer {status["node_id"]} on {status["address"]}:{status["port"]}, '
        f'{status["used"]} bytes stored in {status["path"]}'
    )
