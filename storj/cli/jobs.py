"""Many transfers as one command: run, watched, reported and summed up, or only announced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from storj.catalog.entries import FileEntry
from storj.cli.errors import PARTLY, PartialFailure, explain, worst
from storj.cli.output import Output, human_duration, human_size
from storj.cli.progress import Overview, Snapshot, display_for
from storj.exception import StorjError
from storj.text import count_of

if TYPE_CHECKING:
    from storj.catalog.jobs import Job, Outcome, Run
    from storj.catalog.tree import LocalFile
    from storj.cli.session import Session, TransferOptions

#: Seconds between two looks at what is under way; a bar is drawn at most this often.
TICK = 0.1


@dataclass
class Summary:
    """The outcome of all files."""

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
        others = {
            'unchanged': self.unchanged,
            'skipped': self.skipped,
            'removed': self.removed,
            'failed': len(self.failures),
        }
        parts += [f'{count} {what}' for what, count in others.items() if count]
        return ', '.join(parts) or '0 files'


@dataclass
class Forecast:
    """The planned outcome of all files, which ``--dry-run`` prints.

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
        large (int | None): of these, jobs of large files.
        progress (bool | None): ``--progress`` or ``--no-progress`` if one was typed.
        stopping (threading.Event | None): set when the jobs are stopped.
        silent (bool): report failures only, because standard output carries a file.
        clock (Callable[[], float]): monotonic seconds.
    """

    def __init__(
        self,
        output: Output,
        *,
        parallel: int = 4,
        large: int | None = None,
        progress: bool | None = None,
        stopping: threading.Event | None = None,
        silent: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output = output
        self._parallel = parallel
        self._large = large
        self._progress = progress
        self._silent = silent
        self._clock = clock
        self._stopping = stopping
        self.summary = Summary()

    def run(self, jobs: Iterable[Job]) -> Summary:
        """Run all jobs.

        Args:
            jobs (Iterable[Job]): in the order in which they are begun; what is no sequence is made
                by a thread meanwhile, and then the totals grow.

        Returns:
            Summary: of everything that ended; a failed job does not stop the others.

        Raises:
            KeyboardInterrupt: If Ctrl-C was pressed, after all jobs were cancelled and have ended.
        """
        from storj.catalog.jobs import Backlog, Batch

        begun = self._clock()
        # A command that prints one document at its end must not print lines before.
        wanted = False if self._silent and self._output.as_json else self._progress
        backlog = Backlog(jobs)
        batch = Batch(
            backlog, self._parallel, large=self._large, stopping=self._stopping, clock=self._clock
        )
        backlog.begin(batch.wake)
        ended, drawn = 0, begun
        try:
            with display_for(self._output, wanted) as display:
                while (outcomes := batch.wait(TICK)) is not None:
                    for outcome in outcomes:
                        self._report(outcome)
                    ended += len(outcomes)
                    # Small files end by the hundred in a second.
                    is_end = backlog.is_complete and ended == backlog.count
                    if not is_end and self._clock() < drawn + TICK:
                        continue
                    drawn = self._clock()
                    active = [_snapshot(run) for run in batch.active()]
                    moved = self.summary.bytes + sum(snapshot.done for snapshot in active)
                    display.draw(Overview(ended, backlog.count, moved, backlog.size), active)
        except BaseException:
            batch.stop()
            raise
        finally:
            backlog.close()
            self.summary.seconds = self._clock() - begun
        return self.summary

    def _report(self, outcome: Outcome) -> None:
        from storj.catalog.jobs import Skip, Unchanged

        job, error, summary = outcome.job, outcome.error, self.summary
        record: dict[str, Any] = {
            'type': 'file_done',
            'action': job.action,
            'source': job.source,
            'destination': job.destination,
        }
        way = f'{job.source} -> {job.destination}'
        if isinstance(error, Skip):
            record |= {'type': 'file_skipped', 'reason': str(error)}
            text = f'{way}  skipped: {error}'
            if isinstance(error, Unchanged):
                summary.unchanged += 1
                text = '' if job.removal is None else f'{way}  exists already, source removed'
            else:
                summary.skipped += 1
            self._say(text, record)
        elif error is not None:
            summary.failures.append((job.source, error))
            if self._output.as_json:
                self._output.event({**record, **explain(error).to_dict(), 'type': 'file_failed'})
        else:
            size = getattr(outcome.result, 'size', None)
            size = size if isinstance(size, int) else (job.size or 0)
            summary.done += 1
            summary.bytes += size
            record |= {
                'size': size,
                'seconds': round(outcome.seconds, 3),
                'id': getattr(outcome.result, 'id', job.file_id),
            }
            self._say(f'{way}  {human_size(size)} in {human_duration(outcome.seconds)}', record)
        if job.removal is not None and (error is None or isinstance(error, Unchanged)):
            # The source of a move is gone; in JSON it has a line of its own.
            summary.removed += 1
            self._say('', {'type': 'file_removed', 'action': 'remove', **job.removal.record})

    def _say(self, text: str, record: dict[str, Any]) -> None:
        if not self._silent:
            self._output.report(text, record)


def _snapshot(run: Run) -> Snapshot:
    job = run.job
    name = job.destination if job.source == '-' else job.source
    return snapshot(name, job.size, None if run.transfer is None else run.transfer.progress)


def snapshot(name: str, size: int | None, progress: Any) -> Snapshot:
    """Return the progress of a transfer for the display.

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


def run_jobs(
    session: Session,
    jobs: Iterable[Job],
    options: TransferOptions,
    *,
    several: bool,
    dry_run: bool = False,
) -> None:
    """Run jobs, report them, and raise what the command ends with if not all went well.

    Args:
        session (Session): of the command.
        jobs (Iterable[Job]): what is to be done; made meanwhile if it is no sequence.
        options (TransferOptions): of the command.
        several (bool): whether a sum is reported.
        dry_run (bool): print what would be done, and do nothing.
    """
    if dry_run:
        announce(session, jobs).report(session.output)
    else:
        finish(session.output, perform(session, jobs, options), several=several)


def perform(session: Session, jobs: Iterable[Job], options: TransferOptions) -> Summary:
    """Run jobs, report each as it ends, and return their sum."""
    from storj.transfer import list_journals

    runner = Runner(
        session.output,
        parallel=session.small_files_at_once(options),
        large=session.files_at_once(options),
        stopping=session.stopping,
        progress=session.wants_progress(options),
    )
    begun = int(time.time())
    try:
        return runner.run(jobs)
    except KeyboardInterrupt:
        if runner.summary.done:
            session.output.note(runner.summary.text())
        session.resumable = bool(runner.summary.done) or any(
            entry.bytes and entry.changed >= begun and not entry.active
            for entry in list_journals(session.journal_folder)
        )
        raise


def announce(session: Session, jobs: Iterable[Job]) -> Forecast:
    """Print what would be done, and what would be left as it is, and why.

    Args:
        session (Session): of the command.
        jobs (Iterable[Job]): in the order in which they would be begun.
    """
    from storj.catalog.jobs import Unchanged

    forecast = Forecast()
    for job in jobs:
        record: dict[str, Any] = {
            'type': 'file_planned',
            'action': job.action,
            'source': job.source,
            'destination': job.destination,
            'size': job.size,
        }
        way = f'{job.source} -> {job.destination}'
        text = f'would {job.action} {way}'
        try:
            if job.check is not None:
                job.check()
        except Unchanged:
            forecast.unchanged += 1
            if job.removal is None:
                continue
            forecast.removals += 1
            record = {'type': 'file_planned', 'action': 'remove', **job.removal.record}
            text = f'would remove {job.source}: {job.destination} is the same'
        except (StorjError, OSError) as error:
            reason = explain(error).message.removesuffix(f': {job.source}')
            record['refused'] = reason
            text = f'would not {job.action} {way}: {reason}'
            forecast.refused += 1
        else:
            forecast.files += 1
            forecast.bytes += job.size or 0
            forecast.removals += job.removal is not None
        if session.output.as_json:
            session.output.event(record)
        else:
            session.output.line(text)
    return forecast


def report_removals(
    output: Output,
    removals: Iterable[tuple[LocalFile | FileEntry, Exception | None]],
    summary: Summary,
) -> None:
    """Report files as they are removed, or not, and count them."""
    for item, error in removals:
        place = place_of(item)
        described = item.to_dict() if isinstance(item, FileEntry) else {'destination': place}
        record = {'action': 'remove', **described}
        if error is None:
            summary.removed += 1
            output.report(f'removed {place}', {**record, 'type': 'file_removed'})
        else:
            summary.failures.append((place, error))
            output.report('', {**record, **explain(error).to_dict(), 'type': 'file_failed'})


def place_of(item: LocalFile | FileEntry) -> str:
    """Return where a file is, as the person knows it."""
    return str(item) if isinstance(item, FileEntry) else str(item.path)


def finish(output: Output, summary: Summary, *, several: bool) -> None:
    """Print the end of a transfer: the sum, and the failures last, where the eye ends.

    Args:
        output (Output): where to.
        summary (Summary): of the files.
        several (bool): whether more than one file was meant.

    Raises:
        PartialFailure: If some of several files failed or were skipped.
        Exception: If a single file failed, with its error.
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
    hint: str | None = "use '--overwrite' to replace existing files" if summary.skipped else ''
    if any(explain(error).retryable for _, error in summary.failures):
        hint = None
    removed_only = summary.removed and not summary.done
    done = f'{summary.removed} removed' if removed_only else f'{summary.done} done'
    return PartialFailure(f'{" and ".join(parts)}, {done}', exit_code=code, hint=hint)
