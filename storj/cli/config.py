"""``storj config``: the settings and how they are changed; ``storj info``: what to report."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import sys
from typing import Any

import click

from storj.api import BridgeProfile
from storj.catalog.errors import UsageProblem
from storj.cli.command import command, group
from storj.cli.errors import explain
from storj.cli.options import LocalPath
from storj.cli.output import Column
from storj.cli.prompts import ask_secret, read_secret_file
from storj.cli.session import Session, pass_session
from storj.exception import StorjError
from storj.metadata import __version__
from storj.text import MASK, masked

__all__ = ('config', 'get', 'info', 'path', 'profiles', 'set_', 'show', 'unset')

#: Settings that are masked when shown and never taken from an argument.
SECRETS = frozenset({'password', 'mnemonic', 'keypass'})


@group(
    'config',
    short_help='Show and change the settings.',
    examples=(
        'storj config show',
        'storj config set bridge http://127.0.0.1:6382',
        'storj --profile work config set email alice@example.org',
    ),
)
def config() -> None:
    """Show and change the settings.

    A flag goes before the environment, the environment before the file, the file before the
    default. The file has a section for each profile; [storj] is the usual one.
    """


@config.command('show', examples=('storj config show --json',))
@pass_session
def show(session: Session) -> None:
    """Show all settings as they are now; secrets are masked."""
    session.output.record(_shown(session))


@config.command('get', examples=('storj config get bridge',))
@click.argument('name')
@pass_session
def get(session: Session, name: str) -> None:
    """Print one setting; a secret is masked."""
    name = name.replace('-', '_')
    settings = _shown(session)
    if name not in settings:
        raise _unknown(name, settings)
    if session.output.as_json:
        session.output.document({name: settings[name]})
    else:
        session.output.line(session.output.cell(settings[name]))


@config.command('set', examples=('storj config set bridge http://127.0.0.1:6382',))
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
    name = name.replace('-', '_')
    if name in SECRETS:
        if value is not None:
            raise UsageProblem(
                f'the {name} is a secret, and arguments are seen by everyone on the machine',
                hint="leave the value out and it is asked for, or '--file -'",
            )
        value = (
            ask_secret(name.capitalize(), option='--file')
            if file is None
            else read_secret_file(file)
        )
    elif value is None:
        raise UsageProblem(f'no value for {name}')
    path = _save(session, name, value)
    session.output.done(f'{name} set in {path}', {'set': name, 'path': str(path)})


@config.command('unset', examples=('storj config unset proxy',))
@click.argument('name')
@pass_session
def unset(session: Session, name: str) -> None:
    """Remove a setting from the file."""
    path = _save(session, name.replace('-', '_'), None)
    session.output.done(f'{name} removed from {path}', {'unset': name, 'path': str(path)})


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


def _shown(session: Session) -> dict[str, Any]:
    """Return the settings as they may be shown."""
    settings = session.settings
    record: dict[str, Any] = {}
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if item.name in SECRETS:
            value = MASK if value else None
        simple = isinstance(value, (bool, int, type(None)))
        record[item.name] = value if simple else masked(str(value))
    return record


def _save(session: Session, name: str, value: str | None) -> Any:
    """Write or remove one setting; unknown names and invalid values are refused."""
    try:
        return session.save(**{name: value})
    except TypeError:
        raise _unknown(name, _shown(session)) from None


def _unknown(name: str, settings: dict[str, Any]) -> UsageProblem:
    import difflib

    near = difflib.get_close_matches(name, settings, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "'storj config show' lists the settings"
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
