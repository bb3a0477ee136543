"""Types and options that commands share: sizes, rates, durations, times, ranges, filters."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import click
from click.core import ParameterSource

from storj.catalog.places import ByteRange
from storj.preferences import SETTINGS, Setting, read_duration, read_rate, read_size
from storj.text import to_system

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

#: Of the settings that an option goes before.
_TYPES: dict[str, Any] = {'size': SIZE, 'rate': RATE, 'duration': DURATION}


def _type_of(setting: Setting) -> Any:
    if setting.choices:
        return click.Choice(setting.choices)
    if setting.kind.name == 'number':
        return click.IntRange(int(setting.least), int(setting.most))
    return _TYPES.get(setting.kind.name, click.STRING)


def setting_option(name: str, *spelling: str, help: str = '', **attributes: Any) -> dict[str, Any]:
    """Return the declaration of the option that goes before a setting.

    It has no default: None leaves the value to environment and file, in this order.

    Args:
        name (str): of the setting.
        *spelling (str): names of the option where they are not the setting's own.
        help (str): instead of the setting's.
        **attributes: further ones of the option.
    """
    setting = SETTINGS[name]
    text = help or setting.help
    if setting.usual and 'is_flag' not in attributes:
        text = f'{text.removesuffix(".")} ({setting.usual} by default).'
    typed = {} if attributes.get('is_flag') else {'type': _type_of(setting)}
    return {
        'param_decls': spelling or (setting.option,),
        'envvar': setting.variables or None,
        'show_envvar': bool(setting.variables),
        'help': text.replace('``', ''),
        'default': None,
        **typed,
        **attributes,
    }


def _setting(name: str, *spelling: str, **attributes: Any) -> Callable[[Any], Any]:
    declared = setting_option(name, *spelling, **attributes)
    return click.option(*declared.pop('param_decls'), **declared)


Decorated = TypeVar('Decorated', bound=Callable[..., Any])
Called = TypeVar('Called', bound=click.Command)


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
    '--follow-links', is_flag=True, help='Follow links to folders; by default they are skipped.'
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
#: What copies and moves have in common; how they are stored and transferred follows.
copying_options = _options(
    recursive_option,
    filter_options,
    follow_option,
    dry_run_option,
    overwrite_option,
    times_option,
)
mnemonic_file_option = click.option(
    '--mnemonic-file',
    '--words-file',
    metavar='PATH',
    type=LocalPath(),
    help='Read the encryption key from a file, or - for stdin.',
)
#: The answer to the question that a destructive command asks.
yes_option = click.option('-y', '--yes', is_flag=True, help='Do not ask.')
progress_option = _setting(
    'progress',
    '--progress/--no-progress',
    is_flag=True,
    envvar=None,
    help='Show bars while files move; by default only on a terminal.',
)
#: How uploads are stored.
upload_options = _options(
    _setting(
        'plain_names',
        '--plain-names/--encrypt-names',
        is_flag=True,
        help='Store names in clear, or encrypted (the usual).',
    ),
    click.option(
        '--encrypt/--no-encrypt', default=True, help='Encrypt the content; on by default.'
    ),
    _setting('reed_solomon', '--parity/--no-parity', 'parity', is_flag=True),
    click.option('--mimetype', help='Type of the file; guessed from a name stored in clear.'),
)

_several = _setting('transfers', metavar='N')
_effort = _options(
    _setting('push_shard_limit', '--concurrency', metavar='N'), _setting('retries', metavar='N')
)
_resume = click.option(
    '--resume/--no-resume',
    default=True,
    show_default=True,
    help='Continue an interrupted transfer.',
)
_key_scheme = _setting('key_scheme')
_reading = _options(
    _key_scheme,
    click.option('--plain', is_flag=True, help='Fetch the stored bytes without decrypting them.'),
    _setting('allow_unauthenticated', is_flag=True),
)
_limit_upload = _setting('limit_upload')
_limit_download = _setting('limit_download')

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


def url_option(option: str, variable: str, text: str) -> Callable[[Any], Any]:
    """Return what adds an option for a URL whose password must not stand in the arguments.

    Args:
        option (str): its name.
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
        option, metavar='URL', envvar=variable, show_envvar=True, callback=check, help=text
    )


#: Of a server.
host_option = click.option(
    '--host', default='127.0.0.1', show_default=True, help='Address to listen on.'
)
#: Of a bridge.
mirrors_option = click.option(
    '--mirrors',
    type=click.IntRange(0),
    metavar='N',
    default=2,
    show_default=True,
    help='Copies of each shard beside the first.',
)


def database_option(variable: str, text: str) -> Callable[[Any], Any]:
    """Return what adds ``--database``; see :func:`url_option`."""
    return url_option('--database', variable, text)


def environment_options(prefix: str) -> Callable[[Called], Called]:
    """Return what gives each option of a command an environment variable, which its help shows.

    Args:
        prefix (str): of the variables; the rest is the name of the option.
    """

    def decorate(command: Called) -> Called:
        for param in command.params:
            if isinstance(param, click.Option) and param.envvar is None:
                name = max(param.opts, key=len).removeprefix('--').replace('-', '_').upper()
                param.envvar, param.show_envvar = f'{prefix}_{name}', True
        return command

    return decorate
