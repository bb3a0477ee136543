"""A server as a program: start, report that it is ready, run until a signal, stop.

The commands ``storj network up`` and ``storj farm`` wrap it, and so does the process of a farmer
(:mod:`storj.network.farmer_process`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from storj.network.node.logs import limited_logs, reopened_logs
from storj.network.node.serving import WAKE

if TYPE_CHECKING:
    from storj.network import Network

logger = logging.getLogger(__name__)


def run_network(
    network: Network,
    *,
    ready: Callable[[Network], object],
    leaving: Callable[[int, int], object],
    beside: Callable[[Network], AbstractContextManager[object]],
) -> None:
    """Run a network until SIGTERM or Ctrl-C, and stop it cleanly.

    Belongs into the main thread, because signals do.

    Args:
        network (Network): not started yet.
        ready (Callable[[Network], object]): called when all farmers are registered, and those that
            are too many have left.
        leaving (Callable[[int, int], object]): called with the number of a farmer that leaves, and
            how many of its shards others have too few copies of.
        beside (Callable[[Network], AbstractContextManager[object]]): context that is entered when
            all farmers are up, before any leaves, and left before they stop.

    Raises:
        NetworkSetupError: If a port is taken, or the folder cannot be used.
        NetworkError: If some part failed.
    """
    tell_ready, tell_leaving = EventPrinter(ready), EventPrinter(leaving)
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


class EventPrinter:
    """Prints the events of a server, which continues if they cannot be printed.

    Args:
        tell (Callable[..., object]): prints one event; not called again after its first failure.
    """

    def __init__(self, tell: Callable[..., object]) -> None:
        self._tell = tell
        self._mute = False

    def __call__(self, *event: Any) -> None:
        """Print an event, unless printing has failed before."""
        if self._mute:
            return
        try:
            self._tell(*event)
        except (OSError, ValueError) as error:
            # A pipe whose reader has gone, a full disk, a stream that is closed.
            self._mute = True
            logger.warning('events are no longer printed; the server continues: %s', error)


async def until_stopped(stopped: threading.Event, work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine until it ends, or until a signal; either way it has ended then.

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
def serving(
    error_log: Path | None = None, *, survives_hangup: bool = False
) -> Iterator[threading.Event]:
    """Be a server: bound the logs, open their files again at SIGHUP, and stop at a signal.

    Belongs into the main thread. Yields an event that SIGTERM and Ctrl-C set, and SIGHUP if it does
    nothing else, from before the start
    until after the stop.

    Args:
        error_log (Path | None): a log to which standard error may go; see :func:`reopened_logs
            <storj.network.node.logs.reopened_logs>`.
        survives_hangup (bool): likewise.
    """
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    with limited_logs(), reopened_logs(error_log, survives_hangup=survives_hangup):
        numbers = [signal.SIGTERM, signal.SIGINT]
        # The terminal was closed, say. Not if the logs have it, or nohup.
        hangup = getattr(signal, 'SIGHUP', signal.SIGTERM)
        if signal.getsignal(hangup) is signal.SIG_DFL:
            numbers.append(hangup)
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield stopped
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
