"""Whole processes, measured from outside: wall time, CPU time and peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIB = 1024**2


@dataclass(frozen=True)
class Run:
    """One finished process.

    Attributes:
        wall (float): seconds from start to end.
        cpu (float): seconds of all its processors, user and system.
        peak (int): bytes of its largest resident set.
    """

    wall: float
    cpu: float
    peak: int


def run(command: Sequence[str], environment: Mapping[str, str], timeout: float = 600) -> Run:
    """Run a command to its end and say what it took.

    Raises:
        RuntimeError: if it fails; with the end of what it printed.
    """
    with tempfile.TemporaryFile() as output:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        # wait4 gives the usage of this child alone; the timer ends one that hangs.
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            text = output.read()[-2000:].decode(errors='replace')
            raise RuntimeError(f'{command[0]} ended with {process.returncode}:\n{text}')
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def median(runs: Sequence[Run]) -> Run:
    """Return the median of each figure by itself."""
    return Run(
        statistics.median(run.wall for run in runs),
        statistics.median(run.cpu for run in runs),
        int(statistics.median(run.peak for run in runs)),
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text in columns; the first is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        '  '.join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return '\n'.join([lines[0], '-' * max(map(len, lines)), *lines[1:]])
