"""What a server may write into its log."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from storj.network.node.logs import JsonFormatter, LogLimit, limited_logs
from tests.network.bridges import RunningBridge


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


def test_record_is_one_line_of_json_without_passwords() -> None:
    try:
        raise ValueError('postgresql://storj:pass-word@h/d')
    except ValueError:
        error = sys.exc_info()
    text = 'line\nnext\x1b[2J %s'
    args = ('postgresql://storj:pass-word@h/d',)
    record = logging.LogRecord('storj.x', logging.ERROR, '', 1, text, args, error)
    record.created = 1.5
    line = JsonFormatter().format(record)
    assert '\n' not in line
    assert line.isascii()
    assert 'pass-word' not in line
    fields = json.loads(line)
    assert fields['time'] == '1970-01-01T00:00:01.500Z'
    assert (fields['level'], fields['logger']) == ('ERROR', 'storj.x')
    assert fields['message'].startswith('line\\nnext')
    assert 'ValueError' in fields['exception']


@pytest.mark.parametrize(
    ('proxies', 'given', 'kept'),
    [
        (['127.0.0.1'], 'proxy-1.A_z', True),
        (['127.0.0.1'], 'x' * 65, False),
        (['127.0.0.1'], 'a b', False),
        (['10.0.0.1'], 'proxy-1', False),
        ([], 'proxy-1', False),
    ],
)
def test_request_has_the_id_of_a_trusted_proxy_or_one_of_its_own(
    tmp_path: Path, proxies: list[str], given: str, kept: bool
) -> None:
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler, logger = Lines(), logging.getLogger('storj.network.bridge.app')
    handler.setFormatter(JsonFormatter())
    with RunningBridge(tmp_path, trusted_proxies=proxies) as bridge:
        headers = {'X-Request-Id': given}
        first, second = (bridge.request('GET', '/contacts', headers=headers) for _ in range(2))
        assert (first.headers['X-Request-Id'] == given) is kept
        assert (first.headers['X-Request-Id'] == second.headers['X-Request-Id']) is kept
        with bridge.state.database.begin_plain() as connection:
            connection.exec_driver_sql('ALTER TABLE contacts RENAME TO hidden')
        logger.addHandler(handler)
        try:
            failed = bridge.request('GET', '/contacts', headers=headers)
        finally:
            logger.removeHandler(handler)
            with bridge.state.database.begin_plain() as connection:
                connection.exec_driver_sql('ALTER TABLE hidden RENAME TO contacts')
    assert failed.status == 500
    (told,) = [json.loads(line) for line in lines]
    assert told['message'] == 'GET /contacts failed'
    assert told['request'] == failed.headers['X-Request-Id']
