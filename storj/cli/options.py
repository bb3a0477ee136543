"""Types and options that commands share: sizes, rates, durations, times, ranges, filters."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import click
from click.core import ParameterSource

from storj.catalog.places import ByteRange
from storj.text import to_system

__all__ = (
    'BYTE_RANGE',
    'DURATION',
    'EXPIRY',
    'RATE',
    'SIZE',
    'ByteRange',
    'LocalPath',
    'checking_options',
    'database_option',
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
        ValueError: If it is neither, or a time without its zone.
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


def _options(*found: Callable[[Any], Any]) -> Callable[[Decorated], Decorated]:
    """Return what adds options to a command, in this order."""

    def decorate(function: Decorated) -> Decorated:
        for option in reversed(found):
            function = option(function)
        return function

    return decorate


def _filter(name: str, verb: str) -> Callable[[Any], Any]:
    return click.option(
        f'--{name}',
        multiple=True,
        metavar='PATTERN',
        help=f'With several files: {verb} those that match; repeatable, the last match wins.',
    )


#: ``--include`` and ``--exclude``; the session keeps them in the order typed.
filter_options = _options(_filter('include', 'take'), _filter('exclude', 'leave out'))
#: Means links to folders on either side.
follow_option = click.option(
    '--follow-links',
    is_flag=True,
    help='Follow links to folders; by default they are skipped.',
)
recursive_option = click.option(
    '-r', '--recursive', is_flag=True, help='Everything in folders and below prefixes.'
)
dry_run_option = click.option(
    '--dry-run', is_flag=True, help='Print what would be done, without doing it.'
)
overwrite_option = click.option('--overwrite', is_flag=True, help='Replace existing files.')
times_option = click.option(
    '--times',
    is_flag=True,
    help='Give downloads the time of the stored file where it is known, else of its upload.',
)
#: The answer to the question that a destructive command asks.
yes_option = click.option('-y', '--yes', is_flag=True, help='Do not ask.')
progress_option = click.option(
    '--progress/--no-progress',
    default=None,
    help='Show bars while files move; by default only on a terminal.',
)
#: How uploads are stored.
upload_options = _options(
    click.option(
        '--plain-names/--encrypt-names',
        'plain_names',
        default=None,
        help='Store names in clear, or encrypted (the usual).',
    ),
    click.option(
        '--encrypt/--no-encrypt', default=True, help='Encrypt the content; on by default.'
    ),
    click.option(
        '--parity/--no-parity',
        default=None,
        help='Store parity shards, which replace lost ones (STORJ_REED_SOLOMON).',
    ),
    click.option('--mimetype', help='Type of the file; guessed from a name stored in clear.'),
)

_several = click.option(
    '--transfers',
    type=click.IntRange(1, 64),
    metavar='N',
    default=4,
    show_default=True,
    help='Files moved at the same time.',
)
_effort = _options(
    click.option(
        '--concurrency',
        type=click.IntRange(1, 256),
        metavar='N',
        envvar='STORJ_PUSH_SHARD_LIMIT',
        show_envvar=True,
        help='Shards moved at the same time; 16, fewer under a low limit.',
    ),
    click.option(
        '--retries',
        type=click.IntRange(0, 100),
        metavar='N',
        help='How often a shard is tried again.',
    ),
)
_resume = click.option(
    '--resume/--no-resume',
    default=True,
    show_default=True,
    help='Continue an interrupted transfer.',
)
_key_scheme = click.option(
    '--key-scheme',
    type=click.Choice(('v0', 'text')),
    help='Keys as JavaScript clients make them: v0 from core 6.0.4 on, text before.',
)
_reading = _options(
    _key_scheme,
    click.option(
        '--plain',
        is_flag=True,
        help='Fetch the stored bytes without decrypting them.',
    ),
    click.option(
        '--allow-unauthenticated',
        is_flag=True,
        help='Decrypt files of bridges before 5.3, which have no HMAC.',
    ),
)
_limit_upload = click.option(
    '--limit-upload', type=RATE, help='Bytes sent per second at most, like 2MiB.'
)
_limit_download = click.option(
    '--limit-download', type=RATE, help='Bytes received per second at most, like 2MiB.'
)

#: For commands that move files both ways.
transfer_options = _options(
    _several, _effort, _resume, _reading, _limit_upload, _limit_download, progress_option
)
#: For a command that uploads only.
sending_options = _options(_several, _effort, _resume, _key_scheme, _limit_upload, progress_option)
#: For a command that downloads one file only.
receiving_options = _options(_effort, _resume, _reading, _limit_download, progress_option)
#: For a command that reads files and keeps none.
reading_options = _options(_effort, _reading, _limit_download, progress_option)
#: For a command that reads many files and keeps none.
checking_options = _options(_several, reading_options)


def database_option(variable: str, text: str) -> Callable[[Any], Any]:
    """Return what adds ``--database``, whose password must not stand in the arguments.

    Args:
        variable (str): of the environment that gives it too.
        text (str): help.
    """

    def check(context: click.Context, parameter: click.Parameter, url: str | None) -> str | None:
        given = context.get_parameter_source(str(parameter.name))
        login = (url or '').partition('://')[2].rpartition('@')[0]
        if given is ParameterSource.COMMANDLINE and (':' in login or 'password=' in (url or '')):
            raise click.BadParameter(
                f'all users of this machine read a password in arguments: set {variable} instead'
            )
        return url

    return click.option(
        '--database', metavar='URL', envvar=variable, show_envvar=True, callback=check, help=text
    )
