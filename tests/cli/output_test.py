"""Tables, JSON, sizes, colours."""

from __future__ import annotations

import datetime
import io
import json
import re
import weakref

import pytest

from storj.cli.output import Column, Output, human_duration, human_size, styled, wants_colour
from storj.text import masked, printable


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ('size', 'text'),
    [
        (0, '0 B'),
        (1023, '1023 B'),
        (1024, '1 KiB'),
        (1536, '1.5 KiB'),
        (1024**2 - 1, '1 MiB'),
        (64 * 1024**2, '64 MiB'),
        (5 * 1024**6, '5120 PiB'),
    ],
)
def test_size_is_read_in_its_largest_unit(size, text):
    assert human_size(size) == text


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [
        (0.44, '0.4 s'),
        (12, '12 s'),
        (60, '1 m'),
        (200, '3 m 20 s'),
        (7500, '2 h 5 m'),
        (90000, '1 d 1 h'),
    ],
)
def test_duration_is_read_in_two_units(seconds, text):
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ('choice', 'environment', 'terminal', 'wanted'),
    [
        ('auto', {}, True, True),
        ('auto', {}, False, False),
        ('auto', {'NO_COLOR': '1'}, True, False),
        ('auto', {'NO_COLOR': ''}, True, True),
        ('auto', {'FORCE_COLOR': '1'}, False, True),
        ('auto', {'FORCE_COLOR': '0'}, False, False),
        ('auto', {'CLICOLOR_FORCE': '1'}, False, True),
        ('auto', {'NO_COLOR': '1', 'FORCE_COLOR': '1'}, True, False),
        ('auto', {'TERM': 'dumb'}, True, False),
        ('auto', {'CLICOLOR': '0'}, True, False),
        ('always', {'NO_COLOR': '1'}, False, True),
        ('never', {'FORCE_COLOR': '1'}, True, False),
    ],
)
def test_colours_obey_flag_environment_terminal_in_this_order(
    choice, environment, terminal, wanted
):
    stream = Terminal() if terminal else io.StringIO()
    assert wants_colour(choice, stream, environment) is wanted


def test_name_cannot_drive_the_terminal():
    assert printable('a\x1b[2Jb\n\r') == 'a\\x1b[2Jb\\n\\r'
    assert printable('Bücher 本') == 'Bücher 本'


#: A clipboard written by OSC 52, a C1 control, DEL, a line that is turned round, a byte that is no
#: text, and a line that passes for one of ours.
HOSTILE = 'a\x1b]52;c;aGk=\x07\x9b2J\x7f\u202egpj\udcff\nhint: obey'


@pytest.mark.parametrize(
    'say',
    [
        lambda output: output.line(HOSTILE),
        lambda output: output.warn('before ', styled(HOSTILE, fg='red')),
        lambda output: output.note(HOSTILE),
        lambda output: output.ask(HOSTILE),
        lambda output: output.done(HOSTILE, {}),
        lambda output: output.record({HOSTILE: HOSTILE}),
        lambda output: output.table((Column('a', HOSTILE),), [{'a': HOSTILE}], empty=''),
        lambda output: output.document({HOSTILE: [HOSTILE]}),
        lambda output: output.event({HOSTILE: HOSTILE}),
        lambda output: output.failure({HOSTILE: HOSTILE}),
    ],
)
def test_whatever_is_printed_drives_no_terminal(say, capsys):
    say(Output(colour='always'))
    captured = capsys.readouterr()
    for line in re.sub(r'\x1b\[[0-9;]*m', '', captured.out + captured.err).split('\n'):
        assert line.isprintable()
        assert not line.startswith('hint')


def test_json_escapes_give_the_text_back(capsys):
    Output().document({'name': HOSTILE + 'ä😀'})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {'name': HOSTILE + 'ä😀'}
    Output().document({'name': 'ä😀'})
    assert 'ä😀' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('text', 'shown'),
    [
        ('http://me:secret@host:80/a', 'http://me:********@host:80/a'),
        ('at http://:se@cret@host, again', 'at http://:********@host, again'),
        ('http://me@host/', 'http://me@host/'),
        ('http://me:se/cret@host/', 'http://me:********@host/'),
        ('http://me:80@host/', 'http://me:********@host/'),
        ('http://[::1]:80/users/me@host', 'http://[::1]:80/users/me@host'),
        ('storj://photos/a:b@c', 'storj://photos/a:b@c'),
        ('no answer: http://host:80/users/me@host', 'no answer: http://host:80/users/me@host'),
    ],
)
def test_password_in_a_url_is_masked(text, shown):
    assert masked(text) == shown


def test_table_is_aligned_without_borders():
    rows = [{'name': 'a', 'size': 1024}, {'name': '本', 'size': 5}]
    output = Output()
    lines = output.table_lines((Column('name'), Column('size', kind='size'), Column('x')), rows)
    assert [output.text(*line) for line in lines] == [
        'NAME   SIZE  X',
        'a     1 KiB  -',
        '本      5 B  -',
    ]


def test_long_table_is_printed_while_its_rows_come(monkeypatch):
    monkeypatch.setattr('storj.cli.output._MEASURED', 2)
    come = []
    rows = ({'name': come.append(name) or name} for name in ('a', 'bbb', 'c' * 9, 'd'))
    output = Output()
    lines = output.table_lines((Column('name'), Column('x')), rows)
    assert output.text(*next(lines)) == 'NAME  X'
    assert come == ['a', 'bbb']
    assert [output.text(*line) for line in lines] == [
        'a     -',
        'bbb   -',
        'ccccccccc  -',
        'd     -',
    ]


def test_empty_list_prints_nothing_but_a_note(capsys):
    Output().table((Column('a'),), [], empty='nothing here')
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err == 'nothing here\n'


def test_json_list_may_be_empty(capsys):
    Output(as_json=True).table((Column('a'),), [], empty='nothing here')
    captured = capsys.readouterr()
    assert json.loads(captured.out) == []
    assert captured.err == ''


class Point:
    def __init__(self, x):
        self.x = x

    def to_dict(self):
        return {'x': self.x}


def test_json_has_rfc_3339_times_in_utc(capsys):
    zone = datetime.timezone(datetime.timedelta(hours=2))
    moment = datetime.datetime(2030, 1, 31, 14, 0, 0, 5000, tzinfo=zone)
    Output(as_json=True).document({'at': moment, 'raw': b'\x01', 'all': {1}, 'of': Point(2)})
    assert json.loads(capsys.readouterr().out) == {
        'at': '2030-01-31T12:00:00.005Z',
        'raw': '01',
        'all': [1],
        'of': {'x': 2},
    }


def test_table_in_an_order_keeps_no_records(capsys):
    records = weakref.WeakSet()

    class Record(dict):
        __hash__ = object.__hash__

    def rows():
        for name in 'bdca':
            record = Record(name=name, size=1024)
            records.add(record)
            yield record
            del record
            # The last one is there until the next one is.
            assert len(records) <= 2

    columns = (Column('size', kind='size'), Column('name'))
    Output().table(columns, rows(), empty='', order='name')
    assert capsys.readouterr().out.split() == [
        'SIZE',
        'NAME',
        '1',
        'KiB',
        'a',
        '1',
        'KiB',
        'b',
        '1',
        'KiB',
        'c',
        '1',
        'KiB',
        'd',
    ]


def test_exact_sizes_and_utc_times():
    output = Output(exact=True, utc=True)
    moment = datetime.datetime(2030, 1, 31, 12, tzinfo=datetime.timezone.utc)
    assert output.cell(1536, 'size') == '1536'
    assert output.cell(moment, 'time') == '2030-01-31 12:00:00Z'


def test_quiet_says_no_notes(capsys):
    Output(quiet=True).note('a note')
    assert capsys.readouterr().err == ''


def test_list_is_printed_while_it_is_made(capsys):
    seen = []

    def values():
        for number in range(1200):
            if number == 1100:
                seen.append(capsys.readouterr().out)
            yield {'number': number}

    Output(as_json=True).documents(values())
    assert seen[0].startswith('[{"number": 0},\n')
    rows = json.loads(seen[0] + capsys.readouterr().out)
    assert rows == [{'number': number} for number in range(1200)]
    Output(as_json=True).documents([])
    assert json.loads(capsys.readouterr().out) == []
