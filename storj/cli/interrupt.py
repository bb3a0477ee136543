"""Ctrl-C and SIGTERM: the first one winds up, the second ends at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from storj.cli.errors import INTERRUPTED, TERMINATED, Terminated
from storj.cli.output import is_terminal

__all__ = ('interrupts',)

#: Shows the cursor, which a progress bar may have hidden.
_SHOW_CURSOR = '\x1b[?25h'


@contextmanager
def interrupts() -> Iterator[None]:
    """Turn the first SIGINT into KeyboardInterrupt and the first SIGTERM into Terminated.

    Whatever the command waits for is then cancelled and journals are written. Another signal ends
    the process on the spot: nothing may keep a person waiting twice. A signal that the parent
    process had ignored (``nohup``, a job in the background) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            _leave(TERMINATED if number == signal.SIGTERM else INTERRUPTED)
        asked = True
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before = {
        number: signal.signal(number, handle)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(status: int) -> NoReturn:
    """End the process without winding anything up but the terminal."""
    if is_terminal(sys.stderr):
        os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())
    os._exit(status)
