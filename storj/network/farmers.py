"""The farmers of a network: each is started, watched, and started again when it ends by itself.

A farmer runs in the event loop of the network or in a process of its own. Either way one task owns
it from its start until it is stopped on purpose.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from storj.exception import StorjError
from storj.network.farmer.farmer import Farmer, Workers
from storj.network.farmer.settings import FarmerSettings
from storj.network.farmer_process import command_of
from storj.network.faults import FaultPlan
from storj.text import masked, printable

logger = logging.getLogger(__name__)

#: Seconds for the network to come up, each farmer included.
START_LIMIT = 60.0
#: Seconds that a farmer's process has to end by itself, or to answer.
STOP_LIMIT = 10.0

#: Seconds that a farmer's process has to copy its database.
SNAPSHOT_LIMIT = 600.0

#: Seconds until a farmer that ended is started again; twice as many each time that it ends at once.
RESTART_FIRST = 1.0
#: Seconds of that at the most.
RESTART_MOST = 60.0
#: Starts in a row that may fail.
RESTARTS = 8
#: Seconds after it came up in which the end of a farmer counts as a failure to start.
STEADY = 60.0

# Characters of a line of a process's output that are kept.
_LINE = 1000

State = Literal['stopped', 'starting', 'up', 'restarting', 'given up']


def restart_pause(failures: int) -> float:
    """Return the seconds before the next start, after so many failures in a row."""
    return min(RESTART_MOST, RESTART_FIRST * 2.0 ** (failures - 1))


def _one_line(text: str) -> str:
    """Return a message in one line, and without passwords."""
    return masked(printable(text))


class NetworkError(StorjError):
    """The local network could not be started.

    The message says which part failed.
    """


@dataclass(frozen=True)
class FarmerContext:
    """What the farmers of a network share.

    Attributes:
        call (Callable): runs a coroutine in the network's loop, and returns what that returns.
        faults (FaultPlan): of the network.
        workers (Workers): threads for the farmers of its process.
    """

    call: Callable[[Coroutine[Any, Any, Any]], Any]
    faults: FaultPlan
    workers: Workers


class FarmerHandle(ABC):
    """One farmer of a network, to be stopped and started while the rest runs.

    A farmer that ends by itself is started again after a second, and after twice as long each time
    that it ends at once; in the end it is given up. Its methods may be called from any thread but
    the network's own.

    Attributes:
        number (int): from 0; faults select it by this.
        protocol (str): version that it announces.
        node_id (str): 40 hex characters.
        address (str): that it announces.
        port (int): the same after a restart.
        path (Path): its folder.
        state (str): ``stopped`` (on purpose), ``starting``, ``up``, ``restarting`` (it ended, and
            is started again) or ``given up``.
        restarts (int): how often it ended by itself.
        last_end (str): why it did the last time, with its last output.
    """

    def __init__(self, context: FarmerContext, number: int, settings: FarmerSettings) -> None:
        self._context = context
        self._settings = settings
        self.number = number
        self.protocol = settings.protocol
        self.path = settings.path
        self.address = settings.address or settings.host
        self.port = settings.port
        self.node_id = ''
        self.state: State = 'stopped'
        self.restarts = 0
        self.last_end = ''
        # Starts it, and starts it again.
        self._keeper: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._up: asyncio.Future[None]

    def __repr__(self) -> str:
        return (
            f'<farmer {self.number}: {self.node_id} {self.address}:{self.port},'
            f' protocol {self.protocol}{"" if self.running else ", stopped"}>'
        )

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether it listens."""

    def start(self) -> None:
        """Start it again, on its old port, and wait until the bridge knows it.

        Raises:
            NetworkSetupError: If the port was taken meanwhile.
            NetworkError: If it does not come up.
        """
        self._context.call(self.begin())

    def stop(self) -> None:
        """Stop it; transfers end half way, its shards stay."""
        self._context.call(self.end())

    def kill(self) -> None:
        """End it at once, as a crash would, and leave it so: connections are reset."""
        self._context.call(self.end(abruptly=True))

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def status(self) -> dict[str, Any]:
        """Return what is known of it, as :meth:`storj.network.farmer.farmer.Farmer.status` does.

        A farmer that does not answer has what the network itself knows.
        """
        told: dict[str, Any] = self._context.call(self.tell())
        return told

    def snapshot(self, target: Path) -> bool:
        """Copy its database, which nobody else can read while it runs.

        Args:
            target (Path): an empty file.

        Returns:
            bool: False if it does not run.

        Raises:
            NetworkError: If it does not do so.
        """
        copied: bool = self._context.call(self._snapshot(target))
        return copied

    async def tell(self) -> dict[str, Any]:
        """Return the same, within the network's event loop."""
        problems = []
        if self.state in ('restarting', 'given up'):
            problems.append(f'{self.state}: {self.last_end}')
        details: dict[str, Any] = {}
        try:
            details = await self._details()
        except NetworkError as error:
            problems.append(str(error))
        if not details.get('registered', True):
            problems.append('the bridge does not know it')
        return {
            **details,
            'number': self.number,
            'node_id': self.node_id,
            'address': self.address,
            'port': self.port,
            'protocol': self.protocol,
            'path': str(self.path),
            'running': self.running,
            'state': self.state,
            'restarts': self.restarts,
            'last_end': self.last_end,
            'problems': [*details.get('problems', ()), *problems],
        }

    async def begin(self) -> None:
        """Start it, within the network's event loop, and wait until it is up.

        Raises:
            NetworkSetupError: If the port was taken meanwhile.
            NetworkError: If it does not come up.
        """
        async with self._changing:
            if self.state not in ('starting', 'up'):
                await self._cancel_keeper()
                self.state = 'starting'
                self._up = asyncio.get_running_loop().create_future()
                self._keeper = asyncio.ensure_future(self._keep(self._up))
            up = self._up
        try:
            await asyncio.shield(up)
        except asyncio.CancelledError:
            if not up.cancelled():
                raise
            raise NetworkError(f'farmer {self.number} was stopped before it was up') from None

    async def end(self, *, abruptly: bool = False) -> None:
        """End it, within the network's event loop, and leave it so.

        Args:
            abruptly (bool): without a shutdown, as by a crash.
        """
        async with self._changing:
            await self._cancel_keeper()
            self.state = 'stopped'
            await self._stop(abruptly=abruptly)

    async def _cancel_keeper(self) -> None:
        """End the task that starts it again."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            self._up.cancel()

    async def _keep(self, up: asyncio.Future[None]) -> None:
        """Bring it up, and again whenever it ends, until this is cancelled or no use."""
        failures = 0
        while failures <= RESTARTS:
            came_up = math.inf
            try:
                await self._come_up()
                if self._keeper is not asyncio.current_task():
                    # Before Python 3.12, a wait whose end and cancellation come together takes no
                    # note of the latter.
                    await self._stop(abruptly=False)
                    return
                self.state, came_up = 'up', time.monotonic()
                if not up.done():
                    up.set_result(None)
                self.last_end = await self._ended()
            except Exception as error:
                if not up.done():
                    # The caller of the first start gets the error and decides.
                    self.state = 'stopped'
                    up.set_exception(error)
                    return
                self.last_end = _one_line(str(error) or repr(error))
            self.state = 'restarting'
            self.restarts += 1
            failures = failures + 1 if time.monotonic() - came_up < STEADY else 1
            pause = restart_pause(failures)
            if failures <= RESTARTS:
                logger.warning(
                    'farmer %d ended: %s; started again in %g s', self.number, self.last_end, pause
                )
                await asyncio.sleep(pause)
        self.state = 'given up'
        logger.error(
            'farmer %d is given up after %d starts in a row; the last one ended: %s',
            self.number,
            failures,
            self.last_end,
        )

    async def _come_up(self) -> None:
        try:
            await asyncio.wait_for(self._start(), START_LIMIT)
        except asyncio.TimeoutError as error:
            raise NetworkError(f'farmer {self.number} did not come up in time') from error

    @abstractmethod
    async def follow_faults(self) -> None:
        """Have the farmer know the faults of the network."""

    @abstractmethod
    async def _snapshot(self, target: Path) -> bool:
        """Copy its database; False if it does not run."""

    @abstractmethod
    async def _details(self) -> dict[str, Any]:
        """Return what the farmer itself tells of its state."""

    @abstractmethod
    async def _start(self) -> None:
        """Bring it up; nothing is left of it when this fails or is cancelled."""

    @abstractmethod
    async def _ended(self) -> str:
        """Wait until it ends by itself; return why it did, in one line."""

    @abstractmethod
    async def _stop(self, *, abruptly: bool) -> None:
        """End it, cleanly or abruptly; nothing happens if it does not run."""


class FarmerInLoop(FarmerHandle):
    """A farmer in the event loop of the network.

    Attributes:
        farmer (Farmer | None): the one that was started last.
    """

    farmer: Farmer | None = None
    _stopping: asyncio.Future[None] | None = None

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self.farmer is not None and self.farmer.running

    async def _details(self) -> dict[str, Any]:
        return {} if self.farmer is None or not self.running else self.farmer.status()

    async def follow_faults(self) -> None:
        """Nothing to do: it looks into the same plan."""

    async def _start(self) -> None:
        farmer = Farmer(
            replace(self._settings, port=self.port),
            number=self.number,
            faults=self._context.faults,
            workers=self._context.workers,
        )
        await farmer.start()
        self.farmer, self._stopping = farmer, None
        self.node_id, self.port = farmer.identity.node_id, farmer.port
        try:
            await farmer.wait_registered()
        except BaseException:
            await self._stop(abruptly=False)
            raise

    async def _snapshot(self, target: Path) -> bool:
        if self.farmer is None or not self.running:
            return False
        await self.farmer.snapshot(target)
        return True

    async def leave(self, progress: Callable[[int, int], object]) -> None:
        """Leave the network permanently, within its event loop.

        Args:
            progress (Callable[[int, int], object]): called with the number of the farmer, and the
                shards that others have too few copies of.
        """
        if self.farmer is not None:
            await self.farmer.leave(lambda remaining: progress(self.number, remaining))

    async def _ended(self) -> str:
        if self.farmer is None:
            return 'it was not started'
        failed = self.farmer.tasks.failed
        await asyncio.wait((failed,))
        await self._stop(abruptly=False)
        error = failed.exception()
        return _one_line(str(error) or repr(error))

    async def _stop(self, *, abruptly: bool) -> None:
        if self.farmer is None:
            return
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self.farmer.stop(abruptly=abruptly))
        # A waiting task may be cancelled; a stop that has begun is completed.
        await asyncio.shield(self._stopping)


class _Questions:
    """Lines to a farmer's process, and its answers; a question that takes long holds up no other.

    Args:
        process (asyncio.subprocess.Process): that has just been started.

    Attributes:
        ready (asyncio.Future): what the process says when it is ready; empty if it has ended.
        hearing (asyncio.Task): reads until the process has ended.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._stdin, self._stdout = process.stdin, process.stdout
        # By kind, which alone tells whose an answer is.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked = {'ready': self.ready}
        self.hearing = asyncio.ensure_future(self._hear())

    async def ask(self, word: str, value: str) -> dict[str, Any]:
        """Send a line and return the answer to it; nothing from a process that is just ending."""
        async with self._locks[word]:
            if self._stdin is None or self.hearing.done():
                return {}
            answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
            self._asked[word] = answer
            try:
                self._stdin.write(f'{word} {value}\n'.encode())
                return await answer
            finally:
                del self._asked[word]

    async def _hear(self) -> None:
        try:
            while self._stdout is not None:
                line = await self._stdout.readline()
                # One that was killed may leave half a line.
                if not line.endswith(b'\n'):
                    break
                answer: dict[str, Any] = json.loads(line)
                asked = self._asked.get(answer['type'])
                # Not an answer that came too late for its request.
                if asked is not None and not asked.done():
                    asked.set_result(answer)
        finally:
            for asked in self._asked.values():
                if not asked.done():
                    asked.set_result({})


class FarmerProcess(FarmerHandle):
    """A farmer in a process of its own."""

    _process: asyncio.subprocess.Process | None = None
    _questions: _Questions
    # Logs what the process writes to standard error, and returns its last line.
    _forwarding: asyncio.Task[str]

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._process is not None and self._process.returncode is None

    async def _details(self) -> dict[str, Any]:
        # One that starts does not answer yet.
        if self._process is None or self.state != 'up':
            return {}
        answer = await self._ask('status')
        known = {name: value for name, value in answer.items() if name != 'type'}
        return {**known, 'pid': self._process.pid}

    async def follow_faults(self) -> None:
        """Tell the process, and wait until it knows."""
        if self.running:
            await self._ask('faults', json.dumps(self._context.faults.state()))

    async def _snapshot(self, target: Path) -> bool:
        answer = await self._ask('snapshot', json.dumps(str(target)), SNAPSHOT_LIMIT)
        if answer.get('error'):
            raise NetworkError(f'farmer {self.number}: {_one_line(answer["error"])}')
        return bool(answer)

    async def _ask(self, word: str, value: str = '', limit: float = STOP_LIMIT) -> dict[str, Any]:
        """Send a line and return the answer to it; nothing from one that is just ending.

        Raises:
            NetworkError: If the process does not answer.
        """
        if self._process is None:
            return {}
        questions = self._questions
        # Commands wait until it is ready.
        await asyncio.wait((questions.ready,))
        try:
            return await asyncio.wait_for(questions.ask(word, value), limit)
        except asyncio.TimeoutError as error:
            raise NetworkError(f'farmer {self.number} does not answer') from error

    async def _start(self) -> None:
        package = str(Path(__file__).resolve().parents[2])
        paths = filter(None, [package, os.environ.get('PYTHONPATH')])
        self._process = process = await asyncio.create_subprocess_exec(
            *command_of(replace(self._settings, port=self.port), self.number),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(paths)},
            # Ctrl-C at a terminal is for the network, which ends its farmers.
            start_new_session=True,
        )
        self._forwarding = asyncio.ensure_future(self._forward(process))
        self._questions = _Questions(process)
        try:
            ready = await asyncio.shield(self._questions.ready)
            if not ready:
                raise NetworkError(f'farmer {self.number} ended with {await self._ended()}')
            self.node_id, self.port = ready['node_id'], ready['port']
            await self.follow_faults()
        except BaseException:
            await self._stop(abruptly=True)
            raise

    async def _forward(self, process: asyncio.subprocess.Process) -> str:
        """Log what the process says on standard error; return its last line."""
        last, rest = '', b''
        while process.stderr is not None:
            data = await process.stderr.read(65536)
            *lines, rest = (rest + (data or b'\n')).split(b'\n')
            # A line that never ends is cut.
            rest = rest[:_LINE]
            for line in filter(None, lines):
                last = _one_line(line[:_LINE].decode(errors='replace'))
                logger.warning('farmer %d: %s', self.number, last)
            if not data:
                break
        return last

    async def _ended(self) -> str:
        if self._process is None:
            return 'it was not started'
        code = await self._process.wait()
        last = await asyncio.shield(self._forwarding)
        how = f'exit code {code}' if code >= 0 else f'signal {-code}'
        return f'{how}: {last}' if last else how

    async def _stop(self, *, abruptly: bool) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            if process.stdin is not None and not abruptly:
                process.stdin.close()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(process.wait(), STOP_LIMIT)
            if process.returncode is None:
                process.kill()
                await process.wait()
        await asyncio.wait((self._questions.hearing,))
        await asyncio.shield(self._forwarding)
