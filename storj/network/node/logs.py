"""The logs of a server: bounded, whatever clients send, rotated by others, and read by programs."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any

from aiohttp import web

from storj.network.node.wire import Handler
from storj.text import masked, printable

logger = logging.getLogger(__name__)

_MINUTE = 60.0
# Records of one text in a minute; details are for who looks for a fault.
_RECORDS = 60
_DETAILS = 6000
# Texts that are counted at once; the oldest are forgotten first.
_TEXTS = 1000
_STANDARD_ERROR = 2
#: The request that is being answered.
_REQUEST: ContextVar[str | None] = ContextVar('request', default=None)
_HEADER = 'X-Request-Id'
_ID = re.compile(r'[A-Za-z0-9._-]{1,64}')


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON: time, level, logger, message, and request if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, in ASCII."""
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        fields: dict[str, Any] = {
            'time': moment.isoformat(timespec='milliseconds').replace('+00:00', 'Z'),
            'level': record.levelname,
            'logger': record.name,
            'message': printable(masked(record.getMessage())),
        }
        if (request := _REQUEST.get()) is not None:
            fields['request'] = request
        if record.exc_info:
            fields['exception'] = masked(self.formatException(record.exc_info))
        return json.dumps(fields)


def named_requests(is_trusted: Callable[[str | None], bool]) -> Callable[..., Any]:
    """Return a middleware that gives each request an id, for its answer and for the log.

    Args:
        is_trusted (Callable[[str | None], bool]): whether an address is that of a proxy whose
            ``X-Request-Id`` counts; only short ones without special characters do.
    """

    @web.middleware
    async def named(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get(_HEADER, '') if is_trusted(request.remote) else ''
        # Each request is answered in a context of its own, or after the one before it.
        _REQUEST.set(given if _ID.fullmatch(given) else secrets.token_hex(8))
        began = time.perf_counter()
        response = await handler(request)
        if logger.isEnabledFor(logging.DEBUG):
            # The pattern, not the path: that may hold the secret of a mailed link.
            resource = request.match_info.route.resource
            pattern = None if resource is None else resource.canonical
            seconds = time.perf_counter() - began
            logger.debug('%s %s: %d, %.3f s', request.method, pattern, response.status, seconds)
        return response

    return named


async def name_answer(request: web.Request, response: web.StreamResponse) -> None:
    """Send the id of a request back: for the signal before an answer is sent."""
    if (name := _REQUEST.get()) is not None:
        response.headers[_HEADER] = name


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
def reopened_logs(
    error_log: Path | None = None, *, survives_hangup: bool = False
) -> Iterator[None]:
    """Open log files again at SIGHUP, for a server's life: the sign that they have been moved.

    Belongs into the main thread. Without a log file SIGHUP does what it does else.

    Args:
        error_log (Path | None): opened again too, if it is where standard error goes to now.
        survives_hangup (bool): whether SIGHUP ends nothing without a log file either: other
            programs take it as the sign that their certificate was renewed, which this one notices.
    """
    files = [handler for handler in _handlers() if isinstance(handler, logging.FileHandler)]
    if error_log is not None and not _takes_errors(error_log):
        error_log = None
    number = getattr(signal, 'SIGHUP', None)
    if number is None or not (files or error_log or survives_hangup):
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
