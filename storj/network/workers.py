"""Several processes that share a port: started, started again where one dies, and stopped together.

Each is a fork of this one, which does nothing else: it has no thread and no event loop. A worker
tells over a pipe that it serves, or why it cannot. Another pipe, which only this process has the
other end of, tells workers that it has gone::

    parent ---- life ---->  worker 0   listens on the port by itself (SO_REUSEPORT)
       ^  `------ life -->  worker 1   likewise
       `-- report of each -----'
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from storj.exception import NetworkSetupError, StorjError
from storj.network.node.serving import WAKE
from storj.text import count_of

logger = logging.getLogger(__name__)

#: What a worker tells when it serves.
Report = Callable[[Mapping[str, Any]], None]
#: Work of one worker: given its number, what it reports by, and the end of a pipe that closes when
#: the parent has gone.
Work = Callable[[int, Report, int], None]

# Seconds before a worker that has died is started again: at first, and at the most; one that has
# lived for a while begins with the first again.
_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_A_WHILE = 60.0
# Bytes of a report at the most.
_REPORT = 65536
# Seconds beyond their own time after which workers are ended that do not end.
_PATIENCE = 10.0


@dataclass
class _Worker:
    """One of the processes.

    Attributes:
        number (int): from zero on.
        pid (int | None): None while there is none.
        reports (int | None): end of the pipe that it reports by, until it has.
        code (int): exit status of the last one; negative for the signal that ended it.
        began (float): monotonic seconds.
        pause (float): seconds before it is started again.
    """

    number: int
    pid: int | None = None
    reports: int | None = None
    code: int = 0
    began: float = 0.0
    pause: float = 0.0


@dataclass
class _Parent:
    """The process that has workers.

    Attributes:
        work (Work): what each does.
        stopped (threading.Event): set by a signal.
        grace (float): seconds that workers need at the most to stop.
        workers (Sequence[_Worker]): all of them.
    """

    work: Work
    stopped: threading.Event
    grace: float
    workers: Sequence[_Worker]
    _life: tuple[int, int] = field(default_factory=os.pipe)

    def start(self, worker: _Worker) -> None:
        """Fork a worker."""
        reports, tells = os.pipe()
        # What is buffered would be written twice.
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.close(self._life[1])
            os.close(reports)
            self._work(worker.number, tells)
        os.close(tells)
        worker.pid, worker.reports, worker.began = pid, reports, time.monotonic()

    def _work(self, number: int, tells: int) -> None:
        """Do the work of a worker, in its process; does not return."""
        status = 1

        def report(event: Mapping[str, Any]) -> None:
            os.write(tells, json.dumps(event).encode()[:_REPORT])
            os.close(tells)

        try:
            self.work(number, report, self._life[0])
            status = 0
        except StorjError as error:
            report({'error': str(error)})
        except BaseException:
            logger.exception('worker %d failed', number)
        finally:
            logging.shutdown()
            # What the parent has to clean up is the parent's.
            os._exit(status)

    def begin(self, workers: Sequence[_Worker]) -> list[Mapping[str, Any]]:
        """Start workers, and wait until they serve.

        Returns:
            list[Mapping[str, Any]]: what they report; nothing if it is stopped before.

        Raises:
            NetworkSetupError: If one cannot, with its reason.
        """
        for worker in workers:
            self.start(worker)
        waiting = {each.reports: each for each in workers if each.reports is not None}
        found: list[Mapping[str, Any]] = []
        while waiting:
            if self.stopped.is_set():
                return []
            for end in select.select(list(waiting), [], [], WAKE)[0]:
                report = _read(waiting.pop(end))
                if report is None or 'error' in report:
                    raise NetworkSetupError((report or {}).get('error', 'a worker has failed'))
                found.append(report)
        return found

    def watch(self) -> None:
        """Start workers again that have died, until it is stopped."""
        while not self.stopped.wait(WAKE):
            for worker in self.workers:
                if worker.pid is None:
                    if time.monotonic() >= worker.began + worker.pause:
                        self.start(worker)
                elif self._has_ended(worker):
                    _pause(worker)

    def _has_ended(self, worker: _Worker) -> bool:
        if worker.pid is not None:
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                worker.pid, worker.code = None, os.waitstatus_to_exitcode(status)
        return worker.pid is None

    def send(self, number: int) -> None:
        """Send a signal to all workers."""
        for worker in self.workers:
            # One that has ended is a zombie, whose number nobody else gets.
            if worker.pid is not None:
                os.kill(worker.pid, number)

    def stop(self) -> None:
        """Stop all workers, and wait until they have ended."""
        self.send(signal.SIGTERM)
        deadline = time.monotonic() + self.grace + _PATIENCE
        while left := [worker for worker in self.workers if not self._has_ended(worker)]:
            if time.monotonic() > deadline:
                logger.error('%s do not end, and are killed', count_of(len(left), 'worker'))
                self.send(signal.SIGKILL)
                deadline += _PATIENCE
            time.sleep(0.02)
        for end in self._life:
            os.close(end)


def _read(worker: _Worker) -> Mapping[str, Any] | None:
    """Return what a worker has reported and nobody has read; None if there is nothing."""
    reports, worker.reports = worker.reports, None
    raw = b''
    if reports is not None:
        raw = os.read(reports, _REPORT)
        os.close(reports)
    report: Mapping[str, Any] | None = json.loads(raw) if raw else None
    return report


def _pause(worker: _Worker) -> None:
    """Have a worker that has died wait before it is started again, longer each time."""
    now = time.monotonic()
    short = now - worker.began < _A_WHILE
    worker.pause = min(_LONGEST_PAUSE, 2 * worker.pause) if short and worker.pause else _PAUSE
    worker.began = now
    reason = (_read(worker) or {}).get('error') or _ending(worker.code)
    logger.warning(
        'worker %d has ended (%s); it is started again in %.1f s',
        worker.number,
        reason,
        worker.pause,
    )


def _ending(code: int) -> str:
    if code >= 0:
        return f'exit status {code}'
    try:
        # SIGKILL comes from whoever is out of memory, for example.
        return f'by {signal.Signals(-code).name}'
    except ValueError:
        return f'by signal {-code}'


def run_workers(
    count: int,
    work: Work,
    ready: Callable[[list[Mapping[str, Any]]], object],
    stopped: threading.Event,
    *,
    grace: float,
) -> None:
    """Run workers until a signal; each ends when it gets SIGTERM, or when this process has gone.

    Belongs into the main thread, within :func:`storj.network.program.serving`, whose handlers and
    whose event a worker has as well.

    Args:
        count (int): of workers.
        work (Work): of each, in a process of its own.
        ready (Callable[[list[Mapping[str, Any]]], object]): called once with what all workers
            report, when the last of them serves.
        stopped (threading.Event): set by a signal.
        grace (float): seconds that a worker needs at the most to stop.

    Raises:
        NetworkSetupError: If a worker cannot start; one that dies later is started again.
    """
    parent = _Parent(work, stopped, grace, [_Worker(number) for number in range(count)])
    with _passed_on(parent):
        try:
            # The first makes what all of them use: folders, tables, accounts.
            first = parent.begin(parent.workers[:1])
            others = parent.begin(parent.workers[1:]) if first else []
            if len(first + others) == count:
                ready([*first, *others])
                parent.watch()
        finally:
            parent.stop()


@contextlib.contextmanager
def _passed_on(parent: _Parent) -> Iterator[None]:
    """Pass SIGHUP on to workers, where it means that log files are opened again."""
    number = getattr(signal, 'SIGHUP', signal.SIGTERM)
    own = signal.getsignal(number)
    if not callable(own):
        yield
        return
    me = os.getpid()

    def reopen(number: int, frame: FrameType | None) -> None:
        own(number, frame)
        if os.getpid() == me:
            parent.send(number)

    signal.signal(number, reopen)
    try:
        yield
    finally:
        signal.signal(number, own)


@contextlib.contextmanager
def until_orphaned(life: int | None, stopped: threading.Event) -> Iterator[None]:
    """Stop, within the block, when the parent has gone.

    Args:
        life (int | None): end of a pipe that closes then; None where there is no parent.
        stopped (threading.Event): set then.
    """
    if life is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def gone() -> None:
        loop.remove_reader(life)
        logger.warning('the parent of this worker has gone: it stops')
        stopped.set()

    loop.add_reader(life, gone)
    try:
        yield
    finally:
        loop.remove_reader(life)
