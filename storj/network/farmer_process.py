"""A farmer in a process of its own, started and watched by :mod:`storj.network.farmers`.

Its one argument is JSON: the :class:`~storj.network.farmer.farmer.FarmerSettings`, and ``number``.
It talks with its supervisor by lines. To standard input come::

    status                   what the farmer knows of itself
    snapshot JSON            copies the index into the file of this path
    faults JSON              what FaultPlan.state() gives

and each is answered on standard output by one line of JSON whose ``type`` is the first word; before
these comes one of the type ``ready``, when the bridge knows the farmer. The end of the input stops
the farmer, so that farmers end when their supervisor dies. Errors are lines on standard
error, which the supervisor logs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storj.exception import StorjError
from storj.network.farmer.farmer import Farmer
from storj.network.farmer.settings import FarmerSettings
from storj.network.faults import FaultPlan
from storj.network.node.serving import FARMER_DESCRIPTORS, need_descriptors
from storj.network.node.state_files import FolderInUseError
from storj.network.program import serving, until_stopped
from storj.text import LogFormatter, masked, printable

logger = logging.getLogger(__name__)

# Seconds that a farmer is waited for whose supervisor has gone, and between two attempts.
_PATIENCE, _PACE = 10.0, 0.1


def command_of(settings: FarmerSettings, number: int) -> list[str]:
    """Return the words that start a farmer.

    Args:
        settings (FarmerSettings): of the farmer.
        number (int): by which faults select it.
    """
    fields = {**asdict(settings), 'path': str(settings.path), 'number': number}
    return [sys.executable, '-m', __name__, json.dumps(fields)]


def main(argument: str) -> int:
    """Run a farmer until its input ends, or until SIGTERM.

    Args:
        argument (str): what :func:`command_of` made.

    Returns:
        int: exit code: 0, or 1 for a failure, which is printed.
    """
    fields: dict[str, Any] = json.loads(argument)
    number = fields.pop('number')
    settings = FarmerSettings(**{**fields, 'path': Path(fields['path'])})
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter('%(message)s'))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    try:
        need_descriptors(FARMER_DESCRIPTORS, 'a farmer')
        with serving() as stopped:
            if hasattr(signal, 'SIGHUP'):
                # It logs through its supervisor, whose files are opened again.
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
            asyncio.run(_run(settings, number, stopped))
    except StorjError as error:
        sys.stderr.write(f'{printable(masked(str(error)))}\n')
        return 1
    return 0


async def _run(settings: FarmerSettings, number: int, stopped: threading.Event) -> None:
    plan = FaultPlan()
    farmer = Farmer(settings, number=number, faults=plan)

    async def live() -> None:
        await _start(farmer)
        loop = asyncio.get_running_loop()
        commands = _Commands(farmer, plan)
        threading.Thread(target=commands.run, args=(loop, stopped), daemon=True).start()
        await farmer.tasks.first(farmer.wait_registered())
        _say('ready', **farmer.status())
        await farmer.tasks.failed

    try:
        await until_stopped(stopped, live())
    finally:
        plan.release()
        await farmer.stop()


async def _start(farmer: Farmer) -> None:
    """Start a farmer, once the one before has ended: its supervisor may just have been killed.

    Raises:
        NetworkSetupError: If it does not end, or the farmer cannot be started.
    """
    end = time.monotonic() + _PATIENCE
    waited = False
    while True:
        try:
            await farmer.start()
            return
        except FolderInUseError as error:
            if time.monotonic() >= end:
                raise
            if not waited:
                logger.warning('%s; waiting until it has ended', error)
            waited = True
        await asyncio.sleep(_PACE)


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
            _say('status', **self._farmer.status())
        elif word == b'faults':
            self._plan.follow(json.loads(value))
            _say('faults')
        elif word == b'snapshot':
            copying = self._snapshot(Path(json.loads(value)))
            self._copying = self._farmer.tasks.once('a copy of the index', copying)

    async def _snapshot(self, target: Path) -> None:
        error = ''
        try:
            await self._farmer.snapshot(target)
        except StorjError as failure:
            error = str(failure)
        _say('snapshot', error=error)


def _say(kind: str, **fields: Any) -> None:
    """Answer the supervisor; one that has gone is no reason to stop before the input ends."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(json.dumps({'type': kind, **fields}) + '\n')
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        logger.warning('standard output cannot be written, the farmer continues: %s', error)
        # The interpreter would fail to write the rest in the end.
        sys.stdout = None


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
