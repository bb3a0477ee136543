"""A bound on what strangers can make a server write into its log."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

__all__ = ('LogLimit', 'limited_logs')

_MINUTE = 60.0
# Records of one text in a minute; details are for who looks for a fault.
_RECORDS = 60
_DETAILS = 6000
# Texts that are counted at once; the oldest are forgotten first.
_TEXTS = 1000


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
    loggers = [logging.getLogger(), logging.getLogger('storj')]
    limits = [(handler, LogLimit()) for logger in loggers for handler in logger.handlers]
    for handler, limit in limits:
        handler.addFilter(limit)
    try:
        yield
    finally:
        for handler, limit in limits:
            handler.removeFilter(limit)
