"""The display while files move: bars on a terminal, JSON lines for a program, or nothing.

A display gets snapshots and draws them; it belongs to the main thread. Counts are
absolute, so a shard that is sent again moves the bar back and never below zero.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from storj.cli.output import Output, human_size, is_terminal, wants_colour
from storj.text import count_of, printable

#: JSON status lines come at most twice a second, bars are drawn at most ten times.
STATUS_PERIOD = 0.5
DRAWS_PER_SECOND = 10
#: Seconds over which the rate is taken.
RATE_WINDOW = 10.0


@dataclass(frozen=True)
class Snapshot:
    """The progress of one file.

    Attributes:
        name (str): as the person knows it.
        done (int): bytes of the file that are where they belong.
        total (int | None): bytes of the file, if known.
        shards_done (int): shards that are where they belong.
        shards_total (int): shards in all; 0 while unknown.
        retries (int): shards that were tried again.
    """

    name: str
    done: int = 0
    total: int | None = None
    shards_done: int = 0
    shards_total: int = 0
    retries: int = 0


@dataclass(frozen=True)
class Overview:
    """The progress of a whole command.

    Attributes:
        files_done (int): files that ended, well or not.
        files_total (int): files in all.
        done (int): bytes moved, of ended files and of those under way.
        total (int | None): bytes in all; None when a size is unknown.
    """

    files_done: int
    files_total: int
    done: int
    total: int | None


# For JSON lines only: the bars have the rate of rich.
class Rate:
    """Bytes per second over the last seconds.

    Args:
        clock (Callable[[], float]): monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: list[tuple[float, int]] = []

    def update(self, done: int) -> float:
        """Take a count and return the rate; a count that went back lowers it to zero at most."""
        now = self._clock()
        self._samples.append((now, done))
        while len(self._samples) > 2 and self._samples[1][0] < now - RATE_WINDOW:
            self._samples.pop(0)
        then, before = self._samples[0]
        return max(0.0, (done - before) / (now - then)) if now > then else 0.0


class Display(Protocol):
    """Shows the progress of a command."""

    def draw(self, overview: Overview, active: Sequence[Snapshot]) -> None:
        """Show the state; called often, draws as seldom as it likes."""


class Silent:
    """Shows nothing."""

    def draw(self, overview: Overview, active: Sequence[Snapshot]) -> None:
        """Show nothing."""


class Lines:
    """JSON lines of type ``status`` on standard output.

    Args:
        output (Output): prints them.
        clock (Callable[[], float]): monotonic seconds.
    """

    def __init__(self, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._clock = clock
        self._rate = Rate(clock)
        # The first line comes after half a second: a short transfer has none.
        self._next = clock() + STATUS_PERIOD

    def draw(self, overview: Overview, active: Sequence[Snapshot]) -> None:
        """Print a line if the last one is old enough."""
        rate = self._rate.update(overview.done)
        if self._clock() < self._next:
            return
        self._next = self._clock() + STATUS_PERIOD
        left = None if overview.total is None else max(0, overview.total - overview.done)
        self._output.event(
            {
                'type': 'status',
                'files_done': overview.files_done,
                'files_total': overview.files_total,
                'bytes_done': overview.done,
                'bytes_total': overview.total,
                'bytes_per_second': round(rate),
                'seconds_left': None if left is None or not rate else round(left / rate, 1),
                'active': [_snapshot_record(snapshot) for snapshot in active],
            }
        )


class Bars:
    """One bar for all, and one for each file under way, on standard error."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._total = progress.add_task('', total=None, visible=False, shards='', notes='')
        self._tasks: dict[str, Any] = {}

    def draw(self, overview: Overview, active: Sequence[Snapshot]) -> None:
        """Move the bars; files that ended lose theirs."""
        files = overview.files_total
        self._progress.update(
            self._total,
            description=f'{overview.files_done}/{count_of(files, "file")}',
            completed=overview.done,
            total=overview.total,
            # A single file is its own total.
            visible=files != 1,
        )
        names = {snapshot.name for snapshot in active}
        for name in set(self._tasks) - names:
            self._progress.remove_task(self._tasks.pop(name))
        for snapshot in active:
            if snapshot.name not in self._tasks:
                self._tasks[snapshot.name] = self._progress.add_task('', shards='', notes='')
            shards = count_of(snapshot.shards_total, 'shard')
            self._progress.update(
                self._tasks[snapshot.name],
                description=_short(snapshot.name, max(12, self._progress.console.width // 4)),
                completed=snapshot.done,
                total=snapshot.total,
                shards=f'{snapshot.shards_done}/{shards}' if snapshot.shards_total else '',
                notes=f'{snapshot.retries} retried' if snapshot.retries else '',
            )


@contextlib.contextmanager
def display_for(output: Output, wanted: bool | None) -> Iterator[Display]:
    """Open the display that fits: JSON lines, bars, or none.

    Args:
        output (Output): of the command.
        wanted (bool | None): ``--progress``, ``--no-progress``, or neither.

    Yields:
        Display: to draw on; bars are wiped at the end.
    """
    if output.as_json:
        yield Silent() if wanted is False else Lines(output)
        return
    able = is_terminal(sys.stderr) and os.environ.get('TERM') != 'dumb'
    if output.quiet or wanted is False or not able:
        yield Silent()
        return
    with _rich_progress(output) as progress:
        from rich.text import Text

        def printer(text: str) -> None:
            # Unwrapped: a path that is broken in two is no path.
            progress.console.print(Text.from_ansi(text), soft_wrap=True)

        with output.bars_below(printer):
            yield Bars(progress)


def _rich_progress(output: Output) -> Any:
    """Return a progress display of rich, which is imported only when something is drawn."""
    from rich.console import Console, RenderableType
    from rich.constrain import Constrain
    from rich.progress import Progress

    # Whether bars are drawn is decided already, by more than rich looks at.
    console = Console(
        stderr=True,
        force_terminal=True,
        no_color=not wants_colour(output.colour, sys.stderr, os.environ),
    )

    class Fitting(Progress):
        """Leaves cells free at the right end, where the terminal echoes ^C.

        A line that this makes two of is one more than is wiped at the end.
        """

        def get_renderable(self) -> RenderableType:
            return Constrain(super().get_renderable(), console.width - 3)

    return Fitting(
        *_columns(wide=console.width >= 76),
        console=console,
        refresh_per_second=DRAWS_PER_SECOND,
        transient=True,
        # click writes past the streams that rich would put in their place.
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _columns(*, wide: bool) -> list[Any]:
    """Return what a bar consists of: on a narrow terminal, without bytes, shards and notes."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        ProgressColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column as Cell
    from rich.text import Text

    class Speed(ProgressColumn):
        """Bytes per second, in the units of all other sizes."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text('' if speed is None else f'{human_size(speed)}/s', 'progress.data.speed')

    def cell() -> Cell:
        # A narrow terminal cuts what does not fit: two lines for one file are worse.
        return Cell(no_wrap=True)

    fields = ('shards', 'notes') if wide else ()
    return [
        TextColumn('{task.description}', markup=False, table_column=cell()),
        BarColumn(bar_width=None),
        DownloadColumn(binary_units=True, table_column=cell()) if wide else TaskProgressColumn(),
        Speed(table_column=cell()),
        TimeRemainingColumn(compact=True, table_column=cell()),
        *(TextColumn(f'{{task.fields[{it}]}}', markup=False, table_column=cell()) for it in fields),
    ]


def _short(name: str, width: int) -> str:
    """Return a name short enough for its bar; its end identifies a file best."""
    name = printable(name)
    return name if len(name) <= width else '…' + name[1 - width :]


def _snapshot_record(snapshot: Snapshot) -> dict[str, Any]:
    return {
        'name': snapshot.name,
        'bytes_done': snapshot.done,
        'bytes_total': snapshot.total,
        'shards_done': snapshot.shards_done,
        'shards_total': snapshot.shards_total,
        'retries': snapshot.retries,
    }
