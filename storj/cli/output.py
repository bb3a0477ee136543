"""What commands print: tables, records, JSON, notes; the only place that writes to the terminal.

Standard output carries the answer alone; notes, warnings and questions go to standard error. Every
text may quote a bridge or a farmer, so characters that control a terminal are escaped here, in
every form of output; only :class:`Styled` parts get colours.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import IO, Any, Literal, NamedTuple

import click

from storj.text import printable


def wants_colour(choice: str, stream: IO[Any], environment: Mapping[str, str]) -> bool:
    """Return whether a stream gets colours.

    ``--color`` decides first; then NO_COLOR, FORCE_COLOR and CLICOLOR_FORCE, ``TERM=dumb``, and
    last whether a terminal listens.
    """
    # Here and not by click or rich: click reads none of these variables, and rich is too slow to
    # import for a list (and reads only some of them).
    if choice != 'auto':
        return choice == 'always'
    if environment.get('NO_COLOR'):
        return False
    if any(
        environment.get(name, '') not in ('', '0') for name in ('FORCE_COLOR', 'CLICOLOR_FORCE')
    ):
        return True
    if environment.get('TERM') == 'dumb' or environment.get('CLICOLOR') == '0':
        return False
    return is_terminal(stream)


def is_terminal(stream: IO[Any] | None) -> bool:
    """Return whether a stream is a terminal; a closed one is none."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


class Styled(NamedTuple):
    """A part of a line in a style of its own."""

    text: str
    style: Mapping[str, Any]


#: What lines consist of.
Part = str | Styled


def styled(text: str, **style: Any) -> Styled:
    """Return a part of a line in a style of :func:`click.style`."""
    return Styled(text, style)


def human_size(size: float) -> str:
    """Return a size in the largest fitting binary unit: ``0 B``, ``1.5 KiB``, ``64 MiB``."""
    # Not rich.filesize: it has decimal units only, and storage sizes are binary.
    if size < 1024:
        return f'{size:.0f} B'
    for unit in ('KiB', 'MiB', 'GiB', 'TiB', 'PiB'):
        size /= 1024
        if size < 1023.95 or unit == 'PiB':
            break
    return f'{size:.1f}'.removesuffix('.0') + f' {unit}'


def human_duration(seconds: float) -> str:
    """Return a time span in two units at most: ``0.4 s``, ``12 s``, ``3 m 20 s``, ``2 h 5 m``."""
    if seconds < 10:
        return f'{seconds:.1f} s'
    whole = round(seconds)
    for unit, length, smaller, part in (
        ('d', 86400, 'h', 3600),
        ('h', 3600, 'm', 60),
        ('m', 60, 's', 1),
    ):
        if whole >= length:
            rest = whole % length // part
            return f'{whole // length} {unit}' + (f' {rest} {smaller}' if rest else '')
    return f'{whole} s'


# Lines of a list that are written together.
_TOGETHER = 500
# Rows of a table that make the widths of its columns; a longer cell further below juts out.
_MEASURED = 1000


def plain(value: Any) -> Any:
    """Return a value that JSON has no form for as one that it has.

    Times are in RFC 3339 UTC, records are objects, bytes are hex digits.
    """
    if isinstance(value, datetime.datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc)
        text = moment.astimezone(datetime.timezone.utc).isoformat(timespec='milliseconds')
        return text.replace('+00:00', 'Z')
    if hasattr(value, 'to_dict'):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    return list(value) if isinstance(value, Iterable) else str(value)


class Column:
    """One column of a table.

    Args:
        key (str): of the records.
        title (str): over it; the key in capitals by default.
        kind (str): ``text``, ``size`` (bytes), ``count`` or ``time``; all but texts and times are
            set flush right.
        style (Mapping[str, Any] | None): of :func:`click.style`.

    Attributes:
        flush_right (bool): whether the values end in one column.
    """

    def __init__(
        self,
        key: str,
        title: str | None = None,
        kind: Literal['text', 'size', 'count', 'time'] = 'text',
        style: Mapping[str, Any] | None = None,
    ) -> None:
        self.key = key
        self.title = key.replace('_', ' ').upper() if title is None else title
        self.kind = kind
        self.style = dict(style or {})
        self.flush_right = kind in ('size', 'count')


class Output:
    """Writes answers and notes in the form that the user asked for.

    Args:
        as_json (bool): JSON on standard output, errors as JSON on standard error.
        quiet (bool): no notes.
        exact (bool): sizes in bytes.
        utc (bool): times in UTC instead of local ones.
        colour (str): ``auto``, ``always`` or ``never``.
    """

    def __init__(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        exact: bool = False,
        utc: bool = False,
        colour: str = 'auto',
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.exact = exact
        self.utc = utc
        self.colour = colour
        self._lock = threading.Lock()
        self._above: Callable[[str], None] | None = None

    @contextlib.contextmanager
    def bars_below(self, printer: Callable[[str], None]) -> Iterator[None]:
        """Hand what goes to a terminal to a printer, which keeps it above the bars it draws.

        Args:
            printer (Callable[[str], None]): prints a text, styled or not, and a line break.
        """
        self._above = printer
        try:
            yield
        finally:
            self._above = None

    def line(self, *parts: Part) -> None:
        """Print one line of an answer."""
        self._print([parts], sys.stdout)

    def lines(self, lines: Iterable[Sequence[Part]]) -> None:
        """Print the lines of a long answer."""
        rest = iter(lines)
        while some := list(itertools.islice(rest, _TOGETHER)):
            self._print(some, sys.stdout)

    def note(self, *parts: Part) -> None:
        """Print a note on standard error, unless it is JSON or quiet that was asked for."""
        if not self.quiet and not self.as_json:
            self.warn(*parts)

    def warn(self, *parts: Part) -> None:
        """Print a line on standard error, always."""
        self._print([parts], sys.stderr)

    def ask(self, question: str) -> None:
        """Print a question on standard error; the answer is typed behind it."""
        self._write(self.text(question), sys.stderr, end='')

    def text(self, *parts: Part, colour: bool = False) -> str:
        """Return a line as it is printed."""
        return ''.join(
            printable(part)
            if isinstance(part, str)
            else click.style(printable(part.text), **(part.style if colour else {}), reset=colour)
            for part in parts
        )

    def _print(self, lines: Sequence[Sequence[Part]], stream: IO[str]) -> None:
        colour = wants_colour(self.colour, stream, os.environ)
        self._write('\n'.join(self.text(*parts, colour=colour) for parts in lines), stream)

    def _write(self, text: str, stream: IO[str], end: str = '\n') -> None:
        with self._lock:
            if self._above is not None and is_terminal(stream):
                self._above(text)
            else:
                stream.write(text + end)
                stream.flush()

    def document(self, value: Any) -> None:
        """Print one JSON document."""
        self._write(_json([value], sys.stdout, indent=2), sys.stdout)

    def documents(self, values: Iterable[Any]) -> None:
        """Print one JSON list, a value to a line, as the values come."""
        rest = iter(values)
        before = '['
        # Some at a time: a write for each takes longer than to make its text.
        while some := list(itertools.islice(rest, _TOGETHER)):
            self._write(before + _json(some, sys.stdout), sys.stdout, end='')
            before = ',\n'
        self._write('[]' if before == '[' else ']', sys.stdout)

    def event(self, value: Mapping[str, Any]) -> None:
        """Print one JSON line."""
        self._write(_json([value], sys.stdout), sys.stdout)

    def failure(self, value: Mapping[str, Any]) -> None:
        """Print the JSON line of an error on standard error."""
        self._write(_json([value], sys.stderr), sys.stderr)

    def done(self, text: str, record: Mapping[str, Any]) -> None:
        """Report what a command did: a line, or a JSON document."""
        if self.as_json:
            self.document(record)
        elif not self.quiet:
            self.line(text)

    def result(self, text: str, record: Mapping[str, Any]) -> None:
        """Print what was asked for: a line, with --quiet too, or a JSON document."""
        if self.as_json:
            self.document(record)
        else:
            self.line(text)

    def report(self, text: str, record: Mapping[str, Any]) -> None:
        """Print one step of a command: a line, or a JSON line."""
        if self.as_json:
            self.event(record)
        elif text and not self.quiet:
            self.line(text)

    def record(self, record: Mapping[str, Any], kinds: Mapping[str, str] | None = None) -> None:
        """Print one record: ``key  value`` lines, or a JSON object.

        Args:
            record (Mapping[str, Any]): what to print; None is left out of the lines.
            kinds (Mapping[str, str] | None): kind of the values that are not texts, by key.
        """
        if self.as_json:
            self.document(record)
            return
        shown = {key: value for key, value in record.items() if value is not None}
        width = max((len(key) for key in shown), default=0)
        for key, value in shown.items():
            text = self.cell(value, (kinds or {}).get(key, 'text'))
            self.line(styled(key.replace('_', ' ').ljust(width), dim=True), f'  {text}')

    def table(
        self,
        columns: Sequence[Column],
        rows: Iterable[Mapping[str, Any]],
        *,
        empty: str,
        order: str = '',
    ) -> None:
        """Print a table without borders, or a JSON list of the whole records.

        Args:
            columns (Sequence[Column]): what the table shows of each record.
            rows (Iterable[Mapping[str, Any]]): the records; of a table, some at a time.
            empty (str): note for a list without any.
            order (str): the table is printed in the order of this text of the records; what it
                shows of them is in memory until then, and no more of them.
        """
        if self.as_json:
            self.document(list(rows))
            return
        rest = iter(rows)
        if first := list(itertools.islice(rest, 1)):
            self.lines(self.table_lines(columns, itertools.chain(first, rest), order))
        else:
            self.note(empty)

    def table_lines(
        self, columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], order: str = ''
    ) -> Iterator[list[Part]]:
        """Yield the lines of a table, its titles first; the first rows make the columns' widths."""
        # Not a table of rich: its import takes longer than most lists, and it breaks long names.
        kinds = [(column.key, column.kind) for column in columns]

        def cells_of(row: Mapping[str, Any]) -> Sequence[str]:
            return tuple([_encodable(self.cell(row.get(key), kind)) for key, kind in kinds])

        cells = map(cells_of, rows)
        if order:
            keyed = [(row[order], cells_of(row)) for row in rows]
            cells = map(itemgetter(1), sorted(keyed, key=itemgetter(0)))
        first = list(itertools.islice(cells, _MEASURED))
        widths = [
            max(len(column.title), *(_width(line[place]) for line in first))
            for place, column in enumerate(columns)
        ]
        titles = [column.title for column in columns]
        yield _joined(titles, widths, columns, {'dim': True})
        for line in itertools.chain(first, cells):
            yield _joined(line, widths, columns)

    def cell(self, value: Any, kind: str = 'text') -> str:
        """Return one value as a person reads it."""
        if type(value) is str:
            return printable(value) or '-'
        if value is None:
            return '-'
        if kind == 'size' and isinstance(value, (int, float)):
            return f'{value:.0f}' if self.exact else human_size(value)
        if isinstance(value, datetime.datetime):
            return self.moment(value)
        if isinstance(value, bool):
            return 'yes' if value else 'no'
        if isinstance(value, (list, tuple)):
            return ', '.join(printable(str(item)) for item in value) or '-'
        return printable(str(value))

    def moment(self, moment: datetime.datetime) -> str:
        """Return a time to the second, local or in UTC."""
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.timezone.utc)
        shown = moment.astimezone(datetime.timezone.utc if self.utc else None)
        # A third of the time of strftime; without the offset from UTC.
        return shown.isoformat(' ', 'seconds')[:19] + 'Z' * self.utc


def _json(values: Sequence[Any], stream: IO[str], indent: int | None = None) -> str:
    """Return values, a line each, as JSON that controls no terminal and that the stream encodes."""
    text = _encoded(values, indent, ascii_only=False)
    if text.isascii() and '\x7f' not in text:
        # Most lists: JSON escapes all other control characters itself.
        return text
    try:
        text.encode(getattr(stream, 'encoding', None) or 'utf-8')
    except UnicodeEncodeError:
        # A name of this system that is no text, \\udcXX for the byte XX of it; or a stream that is
        # not in UTF-8.
        text = _encoded(values, indent, ascii_only=True)
    return _UNUSUAL.sub(_escaped, text)


def _encoded(values: Sequence[Any], indent: int | None, *, ascii_only: bool) -> str:
    encoder = json.JSONEncoder(indent=indent, ensure_ascii=ascii_only, default=plain)
    return ',\n'.join(map(encoder.encode, values))


#: All but printable ASCII characters and the line breaks that JSON has between its items.
_UNUSUAL = re.compile(r'[^ -~\n]')


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _joined(
    cells: Sequence[str],
    widths: Sequence[int],
    columns: Sequence[Column],
    style: Mapping[str, Any] | None = None,
) -> list[Part]:
    """Return a line of a table: cells that have a style, and what is between them."""
    parts: list[Part] = []
    between = ''
    for text, width, column in zip(cells, widths, columns, strict=True):
        padding = ' ' * (width - (len(text) if text.isascii() else _width(text)))
        if column.flush_right:
            between += padding
            padding = ''
        if found := style or column.style:
            parts += [between, Styled(text, found)]
            between = ''
        else:
            between += text
        end = len(between)
        between += padding + '  '
    # Nothing is behind the last cell.
    return [*parts, between[:end]]


def _encodable(text: str) -> str:
    """Return a text with the escapes that standard output will write, which take more cells."""
    # Every encoding has ASCII.
    if text.isascii():
        return text
    encoding = getattr(sys.stdout, 'encoding', None) or 'utf-8'
    return text.encode(encoding, 'backslashreplace').decode(encoding)


def _width(text: str) -> int:
    """Return how many cells of the terminal a text takes."""
    # As rich.cells counts, without the import of rich.
    if text.isascii():
        return len(text)
    import unicodedata  # only names beyond ASCII need it

    return sum(
        0
        if unicodedata.combining(character)
        else 1 + (unicodedata.east_asian_width(character) in 'WF')
        for character in text
    )
