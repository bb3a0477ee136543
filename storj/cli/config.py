"""``storj config``: the settings and how they are changed; ``storj info`` and ``storj help``."""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from storj.api import BridgeProfile
from storj.catalog.errors import UsageProblem
from storj.cli.command import command, group
from storj.cli.errors import EXIT_CODES, explain
from storj.cli.options import LocalPath
from storj.cli.output import Column
from storj.cli.prompts import ask_secret, read_secret_file
from storj.cli.session import Session, pass_session
from storj.exception import StorjError
from storj.metadata import __version__
from storj.preferences import SETTINGS, Setting, find_setting, nearest_setting
from storj.text import MASK, masked

if TYPE_CHECKING:
    from storj.configuration import Configuration

__all__ = ('config', 'get', 'help_', 'info', 'list_', 'path', 'profiles', 'set_', 'unset')


@group(
    'config',
    short_help='Show and change the settings.',
    examples=(
        'storj config list --sources',
        'storj config set bridge http://127.0.0.1:6382',
        'storj config set limit-upload 2MiB',
        'storj --profile work config set email alice@example.org',
    ),
)
def config() -> None:
    """Show and change the settings.

    A flag goes before the environment, the environment before the file, the file before the
    default. The file has a section for each profile; [storj] is the usual one.
    """


@config.command('list', examples=('storj config list', 'storj config list --sources --json'))
@click.option('--sources', is_flag=True, help='Show where each value comes from.')
@pass_session
def list_(session: Session, sources: bool) -> None:
    """List all settings as they are now; secrets are masked.

    With --sources, in JSON a list of records. A value that nobody set has the source 'default'; one
    without a value has the usual one in words.
    """
    if not sources:
        session.output.record(shown(session.settings))
        return
    rows = settings_by_source(session)
    if session.output.as_json:
        session.output.document(rows)
        return
    columns = (Column('setting'), Column('value'), Column('source'))
    for row in rows:
        if row['value'] is None:
            row['value'] = f'({row["usual"] or "not set"})'.replace('``', '')
    session.output.table(columns, rows, empty='')


show = copy.copy(list_)
show.hidden = True
#: Its name in earlier releases.
config.add_command(show, 'show')


@config.command('get', examples=('storj config get bridge',))
@click.argument('name')
@pass_session
def get(session: Session, name: str) -> None:
    """Print one setting; a secret is masked."""
    values = shown(session.settings)
    known = find_setting(name)
    key = name.replace('-', '_') if known is None else known.name
    if key not in values:
        raise _unknown(name)
    if session.output.as_json:
        session.output.document({key: values[key]})
    else:
        session.output.line(session.output.cell(values[key]))


@config.command(
    'set',
    examples=('storj config set bridge http://127.0.0.1:6382', 'storj config set transfers 8'),
)
@click.argument('name')
@click.argument('value', required=False)
@click.option(
    '--file',
    'file',
    metavar='PATH',
    type=LocalPath(),
    help='Read a secret from a file, or - for stdin.',
)
@pass_session
def set_(session: Session, name: str, value: str | None, file: str | None) -> None:
    """Write a setting into the file; secrets are asked for."""
    setting = _kept_setting(name)
    if setting.is_secret:
        if value is not None:
            raise UsageProblem(
                f'the {setting.name} is a secret, and arguments are seen by everyone on the '
                'machine',
                hint="leave the value out and it is asked for, or '--file -'",
            )
        value = (
            ask_secret(setting.name.capitalize(), option='--file')
            if file is None
            else read_secret_file(file)
        )
    elif value is None:
        raise UsageProblem(f'no value for {setting.name}')
    if not value.strip():
        hint = f"'storj config unset {setting.name}' removes it"
        raise UsageProblem(f'the value for {setting.name} is empty', hint=hint)
    try:
        setting.read(value)
    except (ValueError, OverflowError):
        raise UsageProblem(f'{setting.name} is {setting.wanted}') from None
    path = session.save(**{setting.name: value})
    session.output.done(f'{setting.name} set in {path}', {'set': setting.name, 'path': str(path)})
    from storj.configuration import set_variables

    variables = set_variables(setting.name)
    if variables:
        session.output.note(f'{variables[0]} is set and goes before it')


@config.command('unset', examples=('storj config unset proxy',))
@click.argument('name')
@pass_session
def unset(session: Session, name: str) -> None:
    """Remove a setting from the file."""
    setting = _kept_setting(name)
    path = session.save(**{setting.name: None})
    session.output.done(
        f'{setting.name} removed from {path}', {'unset': setting.name, 'path': str(path)}
    )


@config.command('path', examples=('storj config path',))
@pass_session
def path(session: Session) -> None:
    """Print the path of the file, whether it exists or not."""
    from storj.configuration import config_path

    place = str(config_path())
    if session.output.as_json:
        session.output.document({'path': place})
    else:
        session.output.line(place)


@config.command('profiles', examples=('storj config profiles',))
@pass_session
def profiles(session: Session) -> None:
    """List the profiles in the file."""
    from storj.configuration import profiles as read_profiles

    rows = [{'profile': name} for name in read_profiles()]
    session.output.table((Column('profile'),), rows, empty="none yet; 'storj account login'")


def shown(settings: Configuration) -> dict[str, Any]:
    """Return settings as they may be shown, with the profile and its file."""
    record: dict[str, Any] = {'profile': settings.profile, 'path': str(settings.path)}
    for setting in SETTINGS.values():
        record[setting.name] = _shown_value(setting, getattr(settings, setting.name))
    return record


def _shown_value(setting: Setting, value: Any) -> Any:
    if setting.is_secret:
        return MASK if value else None
    return value if isinstance(value, bool | int | float | None) else masked(str(value))


def settings_by_source(session: Session) -> list[dict[str, Any]]:
    """Return every setting, as it may be shown, with what set it."""
    settings = session.settings
    return [
        {
            'setting': setting.name,
            'value': _shown_value(setting, value),
            'usual': setting.usual or None,
            'source': _source(session, setting, value),
        }
        for setting in SETTINGS.values()
        for value in [getattr(settings, setting.name)]
    ]


def _source(session: Session, setting: Setting, value: Any) -> str:
    found = session.settings.sources.get(setting.name)
    if found == 'argument':
        return setting.option
    if found is None and setting.is_secret and value is not None:
        return 'key store'
    return found or 'default'


def _kept_setting(name: str) -> Setting:
    """Return a setting that is kept in the file, by its name or that of its option."""
    setting = find_setting(name)
    if setting is None:
        raise _unknown(name)
    if not setting.in_file:
        raise UsageProblem(
            f'{setting.name} is not kept in a file', hint=f'set {setting.variables[0]} instead'
        )
    return setting


def _unknown(name: str) -> UsageProblem:
    near = nearest_setting(name)
    hint = f"did you mean '{near}'?" if near else "'storj config list' lists the settings"
    return UsageProblem(f'no such setting: {name}', hint=hint)


_PACKAGES = (
    'requests',
    'ecdsa',
    'pycryptodome',
    'ws4py',
    'mnemonic',
    'click',
    'rich',
    'keyring',
    'aiohttp',
    'SQLAlchemy',
    'coincurve',
)


@command(
    'info', short_help='Show versions, settings and the bridge.', examples=('storj info --json',)
)
@pass_session
def info(session: Session) -> None:
    """Show versions, settings and the bridge, without secrets."""
    settings = session.settings
    record: dict[str, Any] = {
        'storj': __version__,
        'python': platform.python_version(),
        'system': platform.platform(),
        'settings': str(settings.path),
        'profile': settings.profile,
        'bridge': masked(settings.bridge),
        'account': settings.email,
        'words_set': settings.mnemonic is not None,
        **_bridge(session),
        'erasure_backend': _erasure(),
        'executable': sys.executable,
        'packages': {name: _version(name) for name in _PACKAGES},
    }
    if session.output.as_json:
        session.output.document(record)
        return
    packages = record.pop('packages')
    record['packages'] = [f'{name} {version}' for name, version in packages.items() if version]
    session.output.record(record)


def _bridge(session: Session) -> dict[str, Any]:
    """Return the bridge's description, or why it cannot be reached."""
    try:
        with session.make_client(None, None) as client:
            about = client.info().get('info', {})
    except StorjError as error:
        return {'bridge_state': explain(error).message}
    return {
        'bridge_state': 'reachable',
        'bridge_title': about.get('title'),
        'bridge_release': about.get('version'),
        'javascript_key_scheme': BridgeProfile.from_info(about).javascript_key_scheme,
    }


def _erasure() -> str:
    from storj.erasure import ReedSolomon

    return ReedSolomon(1, 1).backend


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@command(
    'help',
    short_help='Show the help of a command or a topic.',
    examples=('storj help cp', 'storj help network up', 'storj help environment'),
)
@click.argument('words', nargs=-1, metavar='[COMMAND...]')
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command, as its --help does, or of a topic.

    The topics are environment, exit-codes and paths.
    """
    output = ctx.ensure_object(Session).output
    topic = _TOPICS.get('-'.join(words))
    if topic is not None:
        title, lines = topic
        output.line(title)
        for line in ['', *lines()]:
            output.line(line)
        return
    place = ctx.find_root()
    with contextlib.ExitStack() as stack:
        rest = list(words)
        while rest:
            group = place.command
            if not isinstance(group, click.Group):
                raise UsageProblem(f'{place.command_path} has no commands: {rest[0]}')
            name, found, rest = group.resolve_command(place, rest)
            if found is None:
                raise UsageProblem(f'no such command: {name}')
            place = stack.enter_context(
                click.Context(found, place, name, obj=ctx.obj, **found.context_settings)
            )
        click.echo(place.get_help(), color=ctx.color)


def _environment_lines() -> list[str]:
    rows = [
        (', '.join(it.variables), it.help.replace('``', ''))
        for it in SETTINGS.values()
        if it.variables
    ]
    rows += [
        ('STORJ_CONFIG_DIR', 'Folder of storj.ini.'),
        ('STORJ_PROFILE', 'Section of storj.ini.'),
        ('HTTPS_PROXY, NO_PROXY', 'The usual ones, where STORJ_PROXY is not set.'),
        ('NO_COLOR, FORCE_COLOR', 'Colours; also CLICOLOR_FORCE and TERM=dumb.'),
    ]
    return _aligned(rows)


def _exit_code_lines() -> list[str]:
    return _aligned([(str(code), text) for code, text in EXIT_CODES.items()])


def _path_lines() -> list[str]:
    import appdirs

    from storj.configuration import config_path
    from storj.transfer import TransferConfig

    return _aligned(
        [
            ('settings', str(config_path())),
            ('journals of transfers', str(TransferConfig().journal_dir())),
            ('names for completion', str(appdirs.user_cache_dir('storj'))),
            ('', ''),
            ('storj://bucket/path', 'a file, or what begins so'),
            ('bucket/path', 'the same where no local path can stand'),
            ('./path', 'a local path, whatever its name'),
            ('-', 'standard input or output'),
        ]
    )


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(first) for first, _ in rows)
    return [f'{first.ljust(width)}  {text}'.rstrip() for first, text in rows]


#: Topic -> title, and what makes its lines.
_TOPICS: Mapping[str, tuple[str, Callable[[], list[str]]]] = {
    'environment': ('Variables of the environment; options go before them.', _environment_lines),
    'exit-codes': ('Exit codes, the same for every command.', _exit_code_lines),
    'paths': ('Folders of the program, and how files are named.', _path_lines),
}
