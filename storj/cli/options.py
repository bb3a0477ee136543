"""Types and options that commands share: sizes, rates, durations, times, ranges, filters."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import click

from storj.text import to_system

__all__ = (
    'BYTE_RANGE',
    'DURATION',
    'EXPIRY',
    'RATE',
    'SIZE',
    'ByteRange',
    'LocalPath',
    'filter_options',
    'reading_options',
    'receiving_options',
    'sending_options',
    'transfer_options',
    'yes_option',
)

_UNITS: Mapping[str, int] = {
    unit.lower(): factor
    for power, letter in enumerate('KMGTP', start=1)
    for unit, factor in (
        (letter, 1024**power),
        (f'{letter}iB', 1024**power),
        (f'{letter}B', 1000**power),
    )
} | {'': 1, 'b': 1}
_SIZE = re.compile(r'([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)')
_SECONDS: Mapping[str, float] = {'ms': 0.001, 's': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}
_DURATION = re.compile(r'([0-9]+(?:\.[0-9]+)?)(ms|[smhdw])')
_RANGE = re.compile(r'([0-9]*)-([0-9]*)')

Value = TypeVar('Value')


class Parsed(click.ParamType, Generic[Value]):  # type: ignore[type-arg, unused-ignore]
    """A type of option whose text one function reads.

    Args:
        name (str): as the help shows it.
        read (Callable[[str], Value]): raises ValueError for a text that it cannot read.
        example (str): what a right value looks like.
    """

    def __init__(self, name: str, read: Callable[[str], Value], example: str) -> None:
        self.name = name
        self.read = read
        self.example = example

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Value:
        """Return the value of a text; a value that is read already passes."""
        if not isinstance(value, str):
            parsed: Value = value
            return parsed
        try:
            return self.read(value.strip())
        except (ValueError, OverflowError):
            self.fail(f'{value!r} is no {self.name}; write it like {self.example}', param, ctx)


class LocalPath(click.Path):
    """A path of this machine, whatever characters its locale knows."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path of a text."""
        return super().convert(to_system(value) if isinstance(value, str) else value, param, ctx)


class ByteRange(NamedTuple):
    """A part of a file, as HTTP's ``Range`` writes it.

    Attributes:
        first (int | None): offset of the first byte; None when the last bytes are meant.
        last (int | None): offset of the last byte, included; None for all that follow. Without
            ``first`` it is the number of bytes at the end.
    """

    first: int | None
    last: int | None

    def bounds(self, size: int) -> tuple[int, int]:
        """Return start and end (excluded) of the range within a file.

        Args:
            size (int): of the file in bytes.

        Raises:
            ValueError: no byte of the file lies in the range.
        """
        if self.first is None:
            start, end = max(0, size - (self.last or 0)), size
        else:
            start, end = self.first, size if self.last is None else min(size, self.last + 1)
        if start >= end:
            raise ValueError(f'the range lies outside the file, which has {size} bytes')
        return start, end


def read_size(text: str) -> int:
    """Return the bytes of ``10MiB``, of ``10M`` (the same), ``10MB`` (a million each) or ``10``."""
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(text)
    return int(float(match[1]) * _UNITS[match[2].lower()])


def read_rate(text: str) -> int | None:
    """Return bytes per second of a size with or without ``/s``; None, no limit, for ``off``."""
    if text.lower() in ('off', 'none'):
        return None
    return read_size(text.removesuffix('/s')) or None


def read_duration(text: str) -> float:
    """Return the seconds of ``30s``, ``5m``, ``2h``, ``7d``, ``1h30m`` or a bare number."""
    if re.fullmatch(r'[0-9]+(\.[0-9]+)?', text):
        return float(text)
    parts = _DURATION.findall(text.lower())
    if not parts or ''.join(number + unit for number, unit in parts) != text.lower():
        raise ValueError(text)
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def read_expiry(text: str) -> datetime.datetime:
    """Return the moment of an RFC 3339 time, or of ``+2h`` from now.

    Raises:
        ValueError: neither, or a time without its zone.
    """
    if text.startswith('+'):
        span = datetime.timedelta(seconds=read_duration(text[1:]))
        return datetime.datetime.now(datetime.timezone.utc) + span
    moment = datetime.datetime.fromisoformat(re.sub('[zZ]$', '+00:00', text))
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment


def read_range(text: str) -> ByteRange:
    """Return the range of ``0-99`` (both included), ``100-`` or ``-500`` (the last 500 bytes)."""
    match = _RANGE.fullmatch(text.removeprefix('bytes='))
    if match is None or match[0] == '-':
        raise ValueError(text)
    first, last = (int(part) if part else None for part in match.groups())
    if first is not None and last is not None and last < first:
        raise ValueError(text)
    return ByteRange(first, last)


SIZE = Parsed('size', read_size, "'10MiB', '10M' or '10MB'")
RATE = Parsed('rate', read_rate, "'2MiB' (per second) or 'off'")
DURATION = Parsed('duration', read_duration, "'30s', '5m', '2h' or '7d'")
EXPIRY = Parsed('time', read_expiry, "'2030-01-31T12:00:00Z' or '+2h'")
BYTE_RANGE = Parsed('range', read_range, "'0-99', '100-' or '-500'")

Decorated = TypeVar('Decorated', bound=Callable[..., Any])


def filter_options(function: Decorated) -> Decorated:
    """Add ``--include`` and ``--exclude``; the session keeps them in the order typed."""
    for name, verb in (('exclude', 'leave out'), ('include', 'take')):
        function = click.option(
            f'--{name}',
            multiple=True,
            metavar='PATTERN',
            help=f'With several files: {verb} those that match; repeatable, the last match wins.',
        )(function)
    return function


def follow_option(function: Decorated) -> Decorated:
    """Add ``--follow-links``, which means links to folders on either side."""
    return click.option(
        '--follow-links',
        is_flag=True,
        help='Read and write through links to folders; a source leaves them out without.',
    )(function)


def _engine_options(*names: str) -> Callable[[Decorated], Decorated]:
    """Return what adds options of the engine, in the order of their names."""

    def decorate(function: Decorated) -> Decorated:
        for name in reversed(names):
            declared, attributes = _ENGINE[name]
            function = click.option(*declared, **attributes)(function)
        return function

    return decorate


_ENGINE: Mapping[str, tuple[Sequence[str], Mapping[str, Any]]] = {
    'transfers': (
        ['--transfers'],
        {
            'type': click.IntRange(1, 64),
            'metavar': 'N',
            'default': 4,
            'show_default': True,
            'help': 'Files moved at the same time.',
        },
    ),
    'concurrency': (
        ['--concurrency'],
        {
            'type': click.IntRange(1, 256),
            'metavar': 'N',
            'envvar': 'STORJ_PUSH_SHARD_LIMIT',
            'show_envvar': True,
            'help': 'Shards moved at the same time; 16, fewer under a low limit.',
        },
    ),
    'retries': (
        ['--retries'],
        {
            'type': click.IntRange(0, 100),
            'metavar': 'N',
            'help': 'How often a shard is tried again.',
        },
    ),
    'resume': (
        ['--resume/--no-resume'],
        {
            'default': True,
            'show_default': True,
            'help': 'Go on with a transfer that broke off.',
        },
    ),
    'key-scheme': (
        ['--key-scheme'],
        {
            'type': click.Choice(('v0', 'text')),
            'help': 'Keys as JavaScript clients make them: v0 from core 6.0.4 on, text before.',
        },
    ),
    'plain': (
        ['--plain'],
        {
            'is_flag': True,
            'help': 'Fetch bytes as they are stored: never encrypted, or still encrypted.',
        },
    ),
    'allow-unauthenticated': (
        ['--allow-unauthenticated'],
        {
            'is_flag': True,
            'help': 'Decrypt files of bridges before 5.3, although nothing proves them.',
        },
    ),
    'limit-upload': (
        ['--limit-upload'],
        {'type': RATE, 'help': 'Most bytes sent per second, like 2MiB.'},
    ),
    'limit-download': (
        ['--limit-download'],
        {'type': RATE, 'help': 'Most bytes received per second, like 2MiB.'},
    ),
    'progress': (
        ['--progress/--no-progress'],
        {
            'default': None,
            'help': 'Show bars while files move; by default only on a terminal.',
        },
    ),
}

#: What commands take that move files both ways.
transfer_options = _engine_options(*_ENGINE)
#: What a command takes that uploads only.
sending_options = _engine_options(
    'transfers', 'concurrency', 'retries', 'resume', 'key-scheme', 'limit-upload', 'progress'
)
#: What a command takes that downloads one file only.
receiving_options = _engine_options(
    'concurrency',
    'retries',
    'resume',
    'key-scheme',
    'plain',
    'allow-unauthenticated',
    'limit-download',
    'progress',
)
#: What a command takes that reads files and keeps none.
reading_options = _engine_options(
    'concurrency',
    'retries',
    'key-scheme',
    'plain',
    'allow-unauthenticated',
    'limit-download',
    'progress',
)


def yes_option(function: Decorated) -> Decorated:
    """Add ``-y/--yes``, the answer to the question that a destructive command asks."""
    return click.option('-y', '--yes', is_flag=True, help='Do not ask.')(function)
