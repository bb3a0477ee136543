"""The logs of a server: bounded, whatever clients send, and rotated by other programs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

__all__ = ('LogLimit', 'limited_logs', 'reopened_logs')

logger = logging.getLogger(__name__)

_MINUTE = 60.0
# Records of one text in a minute; details are for who looks for a fault.
_RECORDS = 60
_DETAILS = 6000
# Texts that are counted at once; the oldest are forgotten first.
_TEXTS = 1000
_STANDARD_ERROR = 2


class LogLimit(logging.Filter):
    """Lets 60 records of one text pass in a minute, of details 6,000.

    The first record after that says how many were left out. Every handler has a limit of its own.

    Args:
        clock (Callable[[], float]): monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._counted: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written."""
        # Another handler's limit may have added to the text.
        text = record.__dict__.setdefault('limited_text', str(record.msg))
        key, now = (record.name, text), self._clock()
        ends, count = self._counted.pop(key, (0.0, 0))
        limit = _DETAILS if record.levelno <= logging.DEBUG else _RECORDS
        if ends <= now:
            left_out = count - limit
            ends, count = now + _MINUTE, 0
            if left_out > 0 and text == record.msg:
                record.msg = f'{record.getMessage()} ({left_out} more like this were left out)'
                record.args = ()
        self._counted[key] = ends, count + 1
        while len(self._counted) > _TEXTS:
            self._counted.popitem(last=False)
        return count < limit


@contextlib.contextmanager
def limited_logs() -> Iterator[None]:
    """Limit what the handlers of this package and of all loggers write, for a server's life."""
    limits = [(handler, LogLimit()) for handler in _handlers()]
    for handler, limit in limits:
        handler.addFilter(limit)
    try:
        yield
    finally:
        for handler, limit in limits:
            handler.removeFilter(limit)


@contextlib.contextmanager
def reopened_logs(error_log: Path | None = None) -> Iterator[None]:
    """Open log files again at SIGHUP, for a server's life: the sign that they have been moved.

    Belongs into the main thread. Without a log file SIGHUP does what it did before.

    Args:
        error_log (Path | None): opened again too, if it is where standard error goes to now.
    """
    files = [handler for handler in _handlers() if isinstance(handler, logging.FileHandler)]
    if error_log is not None and not _takes_errors(error_log):
        error_log = None
    number = getattr(signal, 'SIGHUP', None)
    if number is None or not (files or error_log):
        yield
        return

    def asked(number: int, frame: FrameType | None) -> None:
        # In a thread: the signal may have come while this one writes into the file.
        threading.Thread(target=_reopen, args=(files, error_log), name='storj-logs').start()

    before = signal.signal(number, asked)
    try:
        yield
    finally:
        signal.signal(number, before)


def _handlers() -> Iterator[logging.Handler]:
    """Yield the handlers of this package and of all loggers."""
    for each in (logging.getLogger(), logging.getLogger('storj')):
        yield from each.handlers


def _takes_errors(path: Path) -> bool:
    """Return whether standard error goes to a file."""
    try:
        return os.path.samestat(os.fstat(_STANDARD_ERROR), path.stat())
    except OSError:
        return False


def _reopen(files: list[logging.FileHandler], error_log: Path | None) -> None:
    if error_log is not None:
        try:
            with error_log.open('ab') as opened:
                os.dup2(opened.fileno(), _STANDARD_ERROR)
        except OSError as error:
            _note_failure(error_log, error)
    for handler in files:
        path = handler.baseFilename
        try:
            stream = handler._open()
        except OSError as error:
            _note_failure(path, error)
            continue
        handler.acquire()
        try:
            before, handler.stream = handler.stream, stream
        finally:
            handler.release()
        try:
            if before is not None:
                before.close()
        except OSError as error:
            logger.warning('the end of the old %s could not be written: %s', path, error)


def _note_failure(path: str | Path, error: OSError) -> None:
    # The old one is better than none.
    logger.warning('%s cannot be opened again: %s; logging continues as before', path, error)
