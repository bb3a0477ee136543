"""``storj config``: the settings and how they are changed; ``storj info``, ``help``, ``doctor``."""

from __future__ import annotations

import contextlib
import copy
import datetime
import importlib.metadata
import os
import platform
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import getproxies

import click

from storj.api import BridgeProfile
from storj.catalog.errors import UsageProblem
from storj.cli.command import command, group
from storj.cli.errors import EXIT_CODES, FAILED, OK, CommandError, explain
from storj.cli.options import LocalPath
from storj.cli.output import Column, human_size, styled
from storj.cli.prompts import ask_secret, read_secret_file
from storj.cli.session import Session, pass_session
from storj.exception import StorjError
from storj.metadata import __version__
from storj.preferences import SETTINGS, Setting, find_setting, nearest_setting
from storj.text import MASK, count_of, masked, masked_email

if TYPE_CHECKING:
    from storj.catalog.entries import BucketEntry
    from storj.configuration import Configuration


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
    session.output.result(session.output.cell(values[key]), {key: values[key]})


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
    session.output.result(place, {'path': place})


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
        # The option takes the variable as well.
        variables = [it for it in setting.variables if os.environ.get(it) == value]
        return variables[0] if variables else setting.option
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
    'cryptography',
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
    known = [it for it in SETTINGS.values() if it.variables]
    rows = [(', '.join(it.variables), it.help.replace('``', '')) for it in known]
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


#: Seconds that the doctor gives a connection to the bridge, and each of its answers.
_PATIENCE = 10.0
#: Seconds between the clocks that signed requests and tokens still accept.
_CLOCK = 60
#: Bytes below which a disk is nearly full.
_SPACE = 1024**3
#: Open files that a transfer with the usual limits may need.
_OPEN_FILES = 256


class Finding(NamedTuple):
    """What the doctor found.

    Attributes:
        check (str): what was checked.
        state (str): ``ok``, ``warning`` or ``failed``.
        text (str): what was found.
        hint (str): what to do about it.
    """

    check: str
    state: str
    text: str
    hint: str = ''


@command(
    'doctor',
    short_help='Check settings, bridge, login and this machine.',
    examples=('storj doctor', 'storj doctor --transfer', 'storj doctor --json'),
)
@click.option('--transfer', is_flag=True, help='Upload and download a small file as well.')
@pass_session
@click.pass_context
def doctor(ctx: click.Context, session: Session, transfer: bool) -> None:
    """Check settings, bridge, login and this machine, and say what to do.

    The result has no secrets: it can be pasted into a report. The exit code is 1 if a check failed.
    """
    session.timeout = _PATIENCE
    styles = {'ok': 'green', 'warning': 'yellow', 'failed': 'red'}
    found = []
    for finding in _findings(session, transfer):
        finding = finding._replace(text=masked(finding.text))
        found.append(finding)
        if not session.output.as_json:
            state = styled(finding.state.ljust(7), fg=styles[finding.state])
            session.output.line(state, f'  {finding.check.ljust(14)}  {finding.text}')
            if finding.hint:
                session.output.line(f'{"":25}hint: {finding.hint}')
    failed = any(finding.state == 'failed' for finding in found)
    if session.output.as_json:
        session.output.document({'ok': not failed, 'checks': [it._asdict() for it in found]})
    ctx.exit(FAILED if failed else OK)


def _findings(session: Session, transfer: bool) -> Iterator[Finding]:
    """Yield what the checks find, each as soon as it is known."""
    yield from _check_machine()
    try:
        session.use_local_network()
        yield from _check_settings(session)
    except (StorjError, CommandError) as error:
        yield _failure('settings', error)
        return
    yield from _check_folders(session)
    answered = False
    for finding in _check_bridge(session):
        answered = answered or finding.state != 'failed'
        yield finding
    if not answered:
        return
    try:
        buckets = session.catalog_for().buckets()
    except (StorjError, CommandError) as error:
        yield _failure('login', error)
        return
    account = masked_email(session.settings.email)
    yield Finding('login', 'ok', f'accepted, as {account}' if account else 'accepted, by a key')
    yield _check_key(session, buckets)
    yield _check_farmers(session)
    if transfer:
        yield _check_transfer(session)


def _failure(check: str, error: Exception) -> Finding:
    report = explain(error)
    return Finding(check, 'failed', report.message, report.hint or '')


def _check_machine() -> Iterator[Finding]:
    packages = [f'{name} {version}' for name in _PACKAGES if (version := _version(name))]
    yield Finding(
        'versions',
        'ok',
        f'storj {__version__}, Python {platform.python_version()}, {platform.platform()}',
    )
    yield Finding('packages', 'ok', ', '.join(packages))
    slow = []
    if _version('cryptography') is None:
        slow.append('pip install cryptography, for quicker encryption')
    if _erasure() != 'isa-l':
        slow.append('install ISA-L (Debian: libisal2), for quicker parity')
    text = f'parity by {_erasure()}'
    yield Finding('speed', 'warning' if slow else 'ok', text, '; '.join(slow))
    try:
        import resource
    except ImportError:
        return
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    few = 0 <= limit < _OPEN_FILES
    hint = f"'ulimit -n {4 * _OPEN_FILES}' raises it for this shell" if few else ''
    yield Finding('open files', 'warning' if few else 'ok', f'limit {limit}', hint)


def _check_settings(session: Session) -> Iterator[Finding]:
    settings = session.settings
    missing = '' if settings.path.exists() else ' (no such file)'
    yield Finding('settings', 'ok', f'profile {settings.profile} of {settings.path}{missing}')
    for row in settings_by_source(session):
        if row['source'] != 'default' and row['setting'] != 'mnemonic_email':
            value = row['value']
            value = masked_email(value) if row['setting'] == 'email' else value
            yield Finding('', 'ok', f'{row["setting"]} = {value}  ({row["source"]})')
    shown = ', '.join(f'{name}: {url}' for name, url in sorted(getproxies().items()))
    own = f'STORJ_PROXY: {settings.proxy}, ' if settings.proxy else ''
    yield Finding('proxies', 'ok', (own + shown).removesuffix(', ') or 'none')


def _check_folders(session: Session) -> Iterator[Finding]:
    import appdirs

    folders = {
        'temporary': Path(session.settings.temp_dir or tempfile.gettempdir()),
        'journals': session.journal_folder,
        'cache': Path(appdirs.user_cache_dir('storj')),
        'settings file': session.settings.path.parent,
    }
    for name, folder in folders.items():
        place = next(it for it in (folder, *folder.parents) if it.exists())
        free = shutil.disk_usage(place).free
        text = f'{folder}, {human_size(free)} free'
        if not os.access(place, os.W_OK) or not place.is_dir():
            hint = f'make {place} a folder that you can write, or choose another'
            yield Finding(name, 'warning', f'{text}, not writable', hint)
        elif free < _SPACE:
            yield Finding(name, 'warning', text, 'free some space, or choose another folder')
        else:
            yield Finding(name, 'ok', text)


def _check_bridge(session: Session) -> Iterator[Finding]:
    """Yield what one request to the bridge shows, and what the bridge says of itself."""
    import requests

    settings = session.settings
    proxies = {'http': settings.proxy, 'https': settings.proxy} if settings.proxy else None
    try:
        client = session.make_client(None, None)
        begun = time.monotonic()
        with requests.get(
            client.api_url,
            headers={'Accept': 'application/json'},
            timeout=_PATIENCE,
            proxies=proxies,
            stream=True,
        ) as answer:
            took = time.monotonic() - begun
            date = answer.headers.get('Date', '')
        about = client.info().get('info')
        about = about if isinstance(about, dict) else {}
    except (StorjError, ValueError) as error:
        yield _failure('bridge', error)
        return
    except requests.RequestException as error:
        kind = (
            'its certificate is refused'
            if isinstance(error, requests.exceptions.SSLError)
            else 'unreachable'
        )
        hint = "check the address and the network; 'storj network up' starts a network here"
        yield Finding('bridge', 'failed', f'{settings.bridge}: {kind}', hint)
        return
    secure = client.api_url.startswith('https://')
    text = f'{settings.bridge} answers in {took * 1000:.0f} ms, release {about.get("version")}'
    yield Finding('bridge', 'ok', f'{text}, {"TLS" if secure else "no TLS"}')
    yield _check_clock(date)


def _check_clock(date: str) -> Finding:
    try:
        there = parsedate_to_datetime(date)
        skew = (datetime.datetime.now(datetime.timezone.utc) - there).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return Finding('clock', 'warning', 'the bridge does not tell the time')
    text = f'{skew:+.0f} s from the clock of the bridge'
    if abs(skew) <= _CLOCK:
        return Finding('clock', 'ok', text)
    return Finding('clock', 'warning', text, 'set the clock of this machine')


def _check_key(session: Session, buckets: Sequence[BucketEntry]) -> Finding:
    try:
        key = session.encryption_key
    except StorjError as error:
        return _failure('encryption key', error)
    if key is None:
        hint = "'storj key load' takes the one you have, 'storj key generate' makes one"
        return Finding('encryption key', 'warning', 'not set', hint)
    opened = sum(bucket.encrypted for bucket in buckets)
    text = f'set; it opens the names of {opened} of {count_of(len(buckets), "bucket")}'
    if buckets and not opened:
        hint = 'the buckets are of another key, or have names in clear'
        return Finding('encryption key', 'warning', text, hint)
    return Finding('encryption key', 'ok', text)


def _check_farmers(session: Session) -> Finding:
    try:
        contacts = session.client.contact_list()
    except StorjError as error:
        return Finding('farmers', 'warning', f'not told: {explain(error).message}')
    if not contacts:
        hint = 'without farmers nothing can be stored: ask who runs the bridge'
        return Finding('farmers', 'warning', 'the bridge lists none', hint)
    return Finding('farmers', 'ok', f'the first page of the bridge lists {len(contacts)}')


def _check_transfer(session: Session) -> Finding:
    """Store a small file in a bucket of its own, fetch it, and remove both."""
    content, name = os.urandom(100_000), f'doctor-{secrets.token_hex(8)}'
    try:
        bucket = str(session.client.bucket_create(name).id)
        try:
            begun = time.monotonic()
            file = session.client.file_upload(bucket, content, name=name)
            fetched = session.client.file_download(bucket, str(file.id)).getvalue()
            took = time.monotonic() - begun
        finally:
            session.client.bucket_delete(bucket)
    except StorjError as error:
        return _failure('transfer', error)
    if fetched != content:
        return Finding('transfer', 'failed', 'the file came back with other bytes')
    return Finding('transfer', 'ok', f'100,000 bytes stored and fetched in {took:.1f} s')
