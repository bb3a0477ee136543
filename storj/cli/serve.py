"""``storj serve``: let programs that speak another protocol use the account."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from storj.cli.command import group
from storj.cli.errors import CommandError
from storj.cli.network import no_login_needed
from storj.cli.options import SIZE, LocalPath
from storj.cli.prompts import ask_secret
from storj.cli.session import Session, pass_session
from storj.cli.streams import failures_told

if TYPE_CHECKING:
    from storj.s3.server import Gateway

__all__ = ('s3', 'serve')

_ACCESS, _SECRET = 'STORJ_S3_ACCESS_KEY', 'STORJ_S3_SECRET_KEY'


@group(
    'serve',
    short_help='Let programs of S3 use the account.',
    examples=('storj serve s3', 'storj serve s3 --port 0 --json'),
)
def serve() -> None:
    """Let programs that speak another protocol use the account, encrypted as always."""


@serve.command('s3', examples=('storj serve s3', 'storj serve s3 --access-key ME --port 9000'))
@click.option('--host', default='127.0.0.1', show_default=True, help='Address to listen on.')
@click.option(
    '--port',
    type=click.IntRange(0, 65535),
    default=6383,
    show_default=True,
    help='To listen on; 0 for any free one.',
)
@click.option(
    '--data',
    type=LocalPath(file_okay=False, path_type=Path),
    metavar='FOLDER',
    help='For keys, index and uploads that wait; by default beside the settings.',
)
@click.option(
    '--access-key',
    metavar='NAME',
    envvar=_ACCESS,
    show_envvar=True,
    help=f'Accept this access key; its secret key is in {_SECRET}, or is asked for.',
)
@click.option('--account', is_flag=True, help='Print the secret key of the pair in the folder.')
@click.option(
    '--domain',
    'domains',
    multiple=True,
    default=('localhost',),
    show_default=True,
    metavar='NAME',
    help='Also accept BUCKET.NAME as host; repeatable.',
)
@click.option('--database', metavar='URL', help='SQLAlchemy URL of the index; SQLite by default.')
@click.option(
    '--spool-size',
    'spool_limit',
    type=SIZE,
    default='100GB',
    show_default=True,
    help='Space for uploads that wait.',
)
@click.option('--tls-cert', type=LocalPath(exists=True), help='Certificate chain, as PEM.')
@click.option('--tls-key', type=LocalPath(exists=True), help='Its private key, as PEM.')
@pass_session
def s3(
    session: Session,
    data: Path | None,
    access_key: str | None,
    account: bool,
    **options: Any,
) -> None:
    """Serve the account as S3 until Ctrl-C or SIGTERM.

    One line says where; with --json it holds endpoint, access_key, secret_key, region and pid. Any
    region is accepted, and signatures of version 4 only. Without --access-key a pair of keys is
    made once and kept in the folder, readable by its owner alone.
    """
    _require_extra()
    from storj.s3.server import GatewaySettings, run_gateway

    folder = session.settings.path.parent / 's3' if data is None else data.expanduser().absolute()
    keys = {}
    if access_key is not None:
        secret = os.environ.get(_SECRET) or ask_secret('Secret key', option=_SECRET)
        keys[access_key] = secret

    def ready(gateway: Gateway) -> None:
        with failures_told():
            _say_ready(session, gateway, show_secret=account)

    settings = GatewaySettings(
        folder, keys=keys, plain_names=session.settings.plain_names, **options
    )
    client = session.client
    with no_login_needed():
        try:
            run_gateway(client, settings, ready)
        except (OSError, ValueError) as error:
            raise CommandError(f'cannot serve: {error}') from error


def _require_extra() -> None:
    for package in ('aiohttp', 'sqlalchemy', 'defusedxml', 'awscrt'):
        if importlib.util.find_spec(package) is None:
            raise CommandError(
                f'the gateway needs a package that is not installed: {package}',
                hint='pip install "storj[s3]"',
            )


def _say_ready(session: Session, gateway: Gateway, *, show_secret: bool) -> None:
    output = session.output
    if output.as_json:
        output.event(
            {
                'endpoint': gateway.endpoint,
                'access_key': gateway.access_key,
                'secret_key': gateway.secret_key,
                'region': 'us-east-1',
                'pid': os.getpid(),
            }
        )
        return
    output.line(f'S3 at {gateway.endpoint}, access key {gateway.access_key}')
    if show_secret:
        output.line(f'secret key {gateway.secret_key}')
    elif gateway.keys_file is not None:
        output.note(f'the secret key is in {gateway.keys_file}; --account prints it')
