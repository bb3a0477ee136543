"""Many transfers as one command: some at a time, watched, stopped together, summed up."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from storj.cli.errors import PARTLY, PartialFailure, explain, worst
from storj.cli.output import Output, count_of, human_duration, human_size
from storj.cli.progress import Display, Overview, Snapshot, display_for
from storj.cli.removal import Removal
from storj.exception import StorjError, TransferCancelled

__all__ = (
    'Action',
    'Forecast',
    'Handle',
    'Job',
    'Runner',
    'Skip',
    'Summary',
    'Unchanged',
    'finish',
)

#: What is done with a file.
Action = Literal['upload', 'download', 'copy', 'move']

#: Seconds between two looks at what is under way; a bar is drawn at most this often.
TICK = 0.1


class Handle(Protocol):
    """A transfer under way, as ``storj.transfer.TransferFuture`` is one."""

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the outcome."""

    def cancel(self) -> Any:
        """Ask the transfer to stop; its journal is written first."""

    @property
    def progress(self) -> Any:
        """How far it is, in absolute counts."""


class Skip(StorjError):
    """A file is left as it is; the message says why."""


class Unchanged(Skip):
    """A file is where it should be already, as far as size and time tell."""


@dataclass
class Job:
    """One file to move.

    Attributes:
        action (str): what is done with it.
        source (str): from where, as the person knows it.
        destination (str): to where.
        size (int | None): bytes; None while unknown.
        start (Callable[[], Handle]): begins the transfer.
        finish (Callable[[Any], None] | None): called with the result once it is there.
        check (Callable[[], None] | None): raises what keeps the transfer from being begun, and
            :class:`Skip` to leave the file; changes nothing, so that ``--dry-run`` may ask too.
        file_id (str | None): of a file that is stored already; the result of an upload has its own.
        removal (Removal | None): removes the source when its copy is complete; also when the check
            raises :class:`Unchanged`.
    """

    action: Action
    source: str
    destination: str
    size: int | None
    start: Callable[[], Handle]
    finish: Callable[[Any], None] | None = None
    check: Callable[[], None] | None = None
    file_id: str | None = None
    removal: Removal | None = None


@dataclass
class Summary:
    """What became of all files.

    Attributes:
        done (int): files moved.
        skipped (int): files left as they were.
        unchanged (int): files that were there already.
        removed (int): files removed.
        bytes (int): moved.
        seconds (float): the whole time.
        failures (list[tuple[str, Exception]]): files that failed, and why.
    """

    done: int = 0
    skipped: int = 0
    unchanged: int = 0
    removed: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failures: list[tuple[str, Exception]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or the code of the failures if nothing succeeded, or 3."""
        if not self.failures:
            return PARTLY if self.skipped else 0
        if self.done or self.skipped or self.unchanged or self.removed:
            return PARTLY
        return worst([explain(error).exit_code for _, error in self.failures])

    def to_dict(self) -> dict[str, Any]:
        """Return the last JSON line of a transfer."""
        return {
            'type': 'summary',
            'files_done': self.done,
            'files_failed': len(self.failures),
            'files_skipped': self.skipped,
            'files_unchanged': self.unchanged,
            'files_removed': self.removed,
            'bytes_done': self.bytes,
            'seconds': round(self.seconds, 3),
            'bytes_per_second': round(self.bytes / self.seconds) if self.seconds else 0,
        }

    def text(self) -> str:
        """Return it as one line: ``12 files, 3.4 GiB, 41.2 MiB/s, 2 failed``."""
        parts = []
        if self.done:
            rate = self.bytes / self.seconds if self.seconds else 0
            parts = [count_of(self.done, 'file'), human_size(self.bytes), f'{human_size(rate)}/s']
        if self.unchanged:
            parts.append(f'{self.unchanged} unchanged')
        if self.skipped:
            parts.append(f'{self.skipped} skipped')
        if self.removed:
            parts.append(f'{self.removed} removed')
        if self.failures:
            parts.append(f'{len(self.failures)} failed')
        return ', '.join(parts) or '0 files'


@dataclass
class Forecast:
    """What would become of all files, which ``--dry-run`` tells.

    Attributes:
        files (int): files that would be moved.
        bytes (int): of them, as far as sizes are known.
        removals (int): files that would be removed.
        refused (int): files that would be skipped or fail.
        unchanged (int): files that are there already.
    """

    files: int = 0
    bytes: int = 0
    removals: int = 0
    refused: int = 0
    unchanged: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the last JSON line: a summary in which nothing is done yet."""
        return {
            **Summary(unchanged=self.unchanged).to_dict(),
            'dry_run': True,
            'files_planned': self.files,
            'bytes_planned': self.bytes,
            'removals_planned': self.removals,
            'files_refused': self.refused,
        }

    def report(self, output: Output) -> None:
        """Print the end of a dry run."""
        if output.as_json:
            output.event(self.to_dict())
            return
        if self.files or self.unchanged or self.refused or not self.removals:
            rest = f', {self.unchanged} unchanged' if self.unchanged else ''
            files = count_of(self.files, 'file')
            output.note(f'would move {files}, {human_size(self.bytes)}{rest}')
        if self.removals:
            output.note(f'would remove {count_of(self.removals, "file")}')


class Runner:
    """Runs jobs side by side and reports each as it ends.

    Args:
        output (Output): where to report.
        parallel (int): jobs at the same time.
        progress (bool | None): ``--progress`` or ``--no-progress`` if one was typed.
        stopping (threading.Event | None): set when the jobs are stopped.
        silent (bool): report failures only, because standard output carries a file.
        clock (Callable[[], float]): monotonic seconds.

    Attributes:
        summary (Summary): of what ended so far.
    """

    def __init__(
        self,
        output: Output,
        *,
        parallel: int = 4,
        progress: bool | None = None,
        stopping: threading.Event | None = None,
        silent: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output = output
        self._parallel = parallel
        self._progress = progress
        self._silent = silent
        self._clock = clock
        self._stopping = stopping or threading.Event()
        self._lock = threading.Lock()
        self._active: dict[int, tuple[Job, Handle | None]] = {}
        self.summary = Summary()

    def run(self, jobs: Sequence[Job]) -> Summary:
        """Run all jobs.

        Args:
            jobs (Sequence[Job]): in the order in which they are begun.

        Returns:
            Summary: of everything that ended; a failed job does not stop the others.

        Raises:
            KeyboardInterrupt: after every job under way was cancelled and has ended.
        """
        begun = self._clock()
        summary = self.summary
        pool = concurrent.futures.ThreadPoolExecutor(self._parallel, 'storj-file')
        try:
            # A command that prints one document at its end has no room for lines.
            hidden = self._silent and self._output.as_json
            wanted = False if hidden else self._progress
            with display_for(self._output, wanted) as display:
                waiting = {
                    pool.submit(self._one, number, job): job for number, job in enumerate(jobs)
                }
                self._watch(waiting, len(jobs), summary, display)
        except BaseException:
            self._stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            summary.seconds = self._clock() - begun
        return summary

    def _watch(
        self,
        waiting: dict[concurrent.futures.Future[tuple[Any, float]], Job],
        count: int,
        summary: Summary,
        display: Display,
    ) -> None:
        sizes = [job.size for job in waiting.values()]
        known = [size for size in sizes if size is not None]
        total = sum(known) if len(known) == len(sizes) else None
        left = set(waiting)
        while left:
            ended, left = concurrent.futures.wait(
                left, timeout=TICK, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in ended:
                self._report(waiting[future], future, summary)
            active = self._snapshots()
            moved = summary.bytes + sum(snapshot.done for snapshot in active)
            display.draw(Overview(count - len(left), count, moved, total), active)

    def _one(self, number: int, job: Job) -> tuple[Any, float]:
        """Run one job in a worker; return its result and its seconds."""
        begun = self._clock()
        try:
            if self._stopping.is_set():
                raise TransferCancelled(f'{job.source} was not begun')
            with self._lock:
                self._active[number] = (job, None)
            if job.removal is not None:
                job.removal.begin()
            if job.check is not None:
                job.check()
            handle = job.start()
            with self._lock:
                self._active[number] = (job, handle)
            if self._stopping.is_set():
                # The interrupt came between the check above and the start.
                handle.cancel()
            result = handle.result()
            if job.finish is not None:
                job.finish(result)
            if job.removal is not None:
                job.removal.complete()
            return result, self._clock() - begun
        except Unchanged:
            if job.removal is not None:
                job.removal.complete()
            raise
        finally:
            with self._lock:
                self._active.pop(number, None)

    def _stop(self) -> None:
        self._stopping.set()
        with self._lock:
            handles = [handle for _, handle in self._active.values() if handle is not None]
        for handle in handles:
            handle.cancel()

    def _snapshots(self) -> list[Snapshot]:
        with self._lock:
            active = list(self._active.values())
        return [
            snapshot(
                job.destination if job.source == '-' else job.source,
                job.size,
                None if handle is None else handle.progress,
            )
            for job, handle in active
        ]

    def _report(
        self, job: Job, future: concurrent.futures.Future[tuple[Any, float]], summary: Summary
    ) -> None:
        record: dict[str, Any] = {
            'type': 'file_done',
            'action': job.action,
            'source': job.source,
            'destination': job.destination,
        }
        way = f'{job.source} -> {job.destination}'
        try:
            result, seconds = future.result()
        except Unchanged as reason:
            summary.unchanged += 1
            if self._output.as_json:
                self._say('', {**record, 'type': 'file_skipped', 'reason': str(reason)})
            elif job.removal is not None:
                self._say(f'{way}  there already, source removed', {})
            self._count_removal(job, summary)
        except Skip as reason:
            summary.skipped += 1
            self._say(
                f'{way}  skipped: {reason}',
                {**record, 'type': 'file_skipped', 'reason': str(reason)},
            )
        except Exception as error:
            summary.failures.append((job.source, error))
            if self._output.as_json:
                self._output.event({**record, **explain(error).to_dict(), 'type': 'file_failed'})
        else:
            size = moved_bytes(result, job)
            summary.done += 1
            summary.bytes += size
            record |= {
                'size': size,
                'seconds': round(seconds, 3),
                'id': getattr(result, 'id', job.file_id),
            }
            self._say(f'{way}  {human_size(size)} in {human_duration(seconds)}', record)
            self._count_removal(job, summary)

    def _count_removal(self, job: Job, summary: Summary) -> None:
        """Count the source of a move, which is gone; in JSON it has a line of its own."""
        if job.removal is None:
            return
        summary.removed += 1
        if self._output.as_json:
            self._say('', {'type': 'file_removed', 'action': 'remove', **job.removal.record})

    def _say(self, text: str, record: dict[str, Any]) -> None:
        if self._silent:
            return
        if self._output.as_json:
            self._output.event(record)
        elif not self._output.quiet:
            self._output.line(text)


def moved_bytes(result: Any, job: Job) -> int:
    """Return the size of a file that has been moved."""
    size = getattr(result, 'size', None)
    return size if isinstance(size, int) else (job.size or 0)


def snapshot(name: str, size: int | None, progress: Any) -> Snapshot:
    """Return how far a transfer is, as the display wants it.

    A transfer counts what it moves, parity included; the file's own bytes advance in proportion.

    Args:
        name (str): of the file.
        size (int | None): of the file in bytes; None while unknown.
        progress (Any): ``storj.transfer.Progress``; None before the transfer has begun.
    """
    if progress is None:
        return Snapshot(name, total=size)
    done, total = progress.bytes, progress.total
    if total and size is not None:
        done, total = size * min(done, total) // total, size
    return Snapshot(
        name, done, total, progress.shards, progress.shards_total or 0, progress.retries
    )


def finish(output: Output, summary: Summary, *, several: bool) -> None:
    """Print the end of a transfer: the sum, and the failures last, where the eye ends.

    Args:
        output (Output): where to.
        summary (Summary): of the files.
        several (bool): whether more than one file was meant.

    Raises:
        PartialFailure: of several files, some failed or were skipped.
        Exception: the failure of a single file.
    """
    if output.as_json:
        output.event(summary.to_dict())
    elif several:
        output.note(summary.text())
    if several and not output.as_json:
        for name, error in summary.failures:
            reason = explain(error).message.removesuffix(f': {name}')
            output.warn(f'failed: {name}: {reason}')
    code = summary.exit_code
    if code:
        raise _failure(summary, code, several)


def _failure(summary: Summary, code: int, several: bool) -> BaseException:
    if not several and summary.failures:
        return summary.failures[0][1]
    count = len(summary.failures)
    parts = [f'{count} failed'] * bool(count) + [f'{summary.skipped} skipped'] * bool(
        summary.skipped
    )
    # What exists is skipped by the next run as well, and what cannot be read fails again.
    hint: str | None = "'--overwrite' replaces what exists" if summary.skipped else ''
    if any(explain(error).retryable for _, error in summary.failures):
        hint = None
    removed_only = summary.removed and not summary.done
    done = f'{summary.removed} removed' if removed_only else f'{summary.done} done'
    return PartialFailure(f'{" and ".join(parts)}, {done}', exit_code=code, hint=hint)
