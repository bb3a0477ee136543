"""What a server may write into its log."""

from __future__ import annotations

import logging

from storj.network.node.logs import LogLimit, limited_logs


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_records_of_one_text_are_limited_and_counted() -> None:
    now = [0.0]
    handler = Kept()
    handler.addFilter(LogLimit(lambda: now[0]))
    logger = logging.getLogger('limited')
    logger.propagate = False
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        for number in range(1000):
            logger.warning('a stranger sent %d', number)
        logger.warning('something else')
        first = [f'a stranger sent {number}' for number in range(60)]
        assert handler.lines == [*first, 'something else']
        handler.lines.clear()
        now[0] = 61
        logger.warning('a stranger sent %d', 7)
        assert handler.lines == ['a stranger sent 7 (940 more like this were left out)']
        handler.lines.clear()
        for number in range(10_000):
            logger.debug('detail %d', number)
        assert len(handler.lines) == 6000
    finally:
        logger.removeHandler(handler)


def test_limit_holds_while_the_server_runs() -> None:
    handler, logger = Kept(), logging.getLogger('storj')
    logger.addHandler(handler)
    try:
        with limited_logs():
            for _ in range(100):
                logging.getLogger('storj.network').warning('again')
            assert len(handler.lines) == 60
        logging.getLogger('storj.network').warning('again')
        assert len(handler.lines) == 61
    finally:
        logger.removeHandler(handler)
