"""``storj farm`` and ``storj serve``: servers in this process, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from storj.cli.command import command, group
from storj.cli.errors import CommandError
from storj.cli.network import no_login_needed, require_extra, sync_option
from storj.cli.options import SIZE, LocalPath, database_option
from storj.cli.output import Output, human_size
from storj.cli.prompts import ask_secret, read_secret_file
from storj.cli.session import Session, pass_session
from storj.cli.streams import failures_told
from storj.text import count_of

if TYPE_CHECKING:
    from storj.s3.server import Gateway

__all__ = ('farm', 's3', 'serve')

_ACCESS, _SECRET = 'STORJ_S3_ACCESS_KEY', 'STORJ_S3_SECRET_KEY'


@command(
    'farm',
    short_help='Offer space of this machine to a network.',
    examples=(
        'storj farm --path ~/farm --size 10GB --bridge http://127.0.0.1:6382',
        'storj farm --path ~/farm --size 10GB --leave     move all shards away, then end',
        'storj farm --path ~/farm --size 1TB --store s3://BUCKET/PREFIX',
    ),
)
@click.option(
    '--path',
    required=True,
    type=LocalPath(file_okay=False, path_type=Path),
    help='Folder for shards and identity; created if missing.',
)
@click.option(
    '--store',
    default='disk',
    show_default=True,
    metavar='disk|s3://BUCKET/PREFIX',
    help='Where shards lie: in the folder, or in a bucket, which needs --size.',
)
@database_option('STORJ_FARMER_DATABASE', 'PostgreSQL for the contracts; the folder by default.')
@click.option(
    '--key-file',
    metavar='FILE',
    help='File with the key of the farmer, else STORJ_FARMER_KEY; by default one in the folder.',
)
@click.option('--endpoint', metavar='URL', help="Of the store's service; Amazon's by default.")
@click.option('--size', type=SIZE, help='Space to offer; as much as the disk holds by default.')
@click.option('--host', default='127.0.0.1', show_default=True, help='Address to listen on.')
@click.option(
    '--port',
    type=click.IntRange(0, 65535),
    default=0,
    help='To listen on; any free one by default.',
)
@click.option('--address', help='Address to announce, if not the one to listen on.')
@click.option(
    '--protocol',
    type=click.Choice(('0.10.0', '1.2.0')),
    default='1.2.0',
    show_default=True,
    help='0.10.0 moves shards by WebSocket, 1.2.0 by HTTP.',
)
@click.option(
    '--renter',
    'renters',
    multiple=True,
    metavar='KEY',
    help='Store for this renter node only, by node id or extended public key; repeatable.',
)
@sync_option
@click.option(
    '--status-port',
    type=click.IntRange(0, 65535),
    default=0,
    help='Port of the status page, for this machine only; any free one by default.',
)
@click.option('--no-page', is_flag=True, help='Serve no status page.')
@click.option(
    '--leave',
    is_flag=True,
    help='Leave permanently: end as soon as all shards have their copies elsewhere.',
)
@pass_session
def farm(
    session: Session,
    path: Path,
    renters: tuple[str, ...],
    status_port: int,
    no_page: bool,
    leave: bool,
    key_file: str | None,
    **options: Any,
) -> None:
    """Store shards for others until Ctrl-C.

    The farmer joins the bridge of --bridge, uses at most --size, and continues after a
    restart of either. Ctrl-C stops it for now; its shards stay, and are missed if it stays away.

    A bucket is used with the credentials of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or of a
    profile of boto3.

    Any bridge that can reach it may store here, unless --renter says which: 'storj network status
    --json' and GET /status of a bridge show its extended_key.
    """
    require_extra()
    from storj.network.farm import farm as run
    from storj.network.farmer.farmer import FarmerSettings

    try:
        settings = FarmerSettings(
            path.expanduser().absolute(),
            session.settings.bridge,
            renters=renters or None,
            private_key=_key(key_file),
            **options,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with no_login_needed():
        try:
            run(
                settings,
                Lines(session.output),
                status_port=None if no_page else status_port,
                leave=leave,
            )
        except OSError as error:
            raise CommandError(f'cannot serve the status page: {error}') from error


def _key(file: str | None) -> str | None:
    """Return the key of a farmer that has none in its folder."""
    if file is not None:
        return read_secret_file(file, what='key').strip()
    return os.environ.get('STORJ_FARMER_KEY') or None


class Lines:
    """Says what happens to a farmer, one line each; JSON lines for programs.

    Args:
        output (Output): prints them.
    """

    def __init__(self, output: Output) -> None:
        self._output = output

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Print an event of :func:`storj.network.farm.farm`.

        Raises:
            OSError: If it cannot be printed.
        """
        with failures_told():
            self._print(event)

    def _print(self, event: Mapping[str, Any]) -> None:
        if self._output.as_json:
            self._output.event(event)
            return
        text = self._text(event)
        if text and not self._output.quiet:
            self._output.line(text)

    def _text(self, event: Mapping[str, Any]) -> str:
        match event['type']:
            case 'started':
                page = f', status at {event["status_url"]}' if event['status_url'] else ''
                new = 'new ' if event['new'] else ''
                return f'{new}farmer {event["node_id"]} on {event["address"]}:{event["port"]}{page}'
            case 'joined':
                return 'joined: the bridge knows this farmer'
            case 'away':
                return 'the bridge does not answer; trying again'
            case 'status':
                return self._status(event)
            case 'leaving':
                return f'leaving: shards still to be copied to others: {event["remaining"]}'
            case 'left':
                return 'left: all shards have their copies on other farmers'
            case _:
                return ''

    def _status(self, event: Mapping[str, Any]) -> str:
        counters = event['counters']
        space = human_size(event['used'])
        if event['size'] is not None:
            space += f' of {human_size(event["size"])}'
        line = (
            f'{count_of(event["shards"], "shard")}, {space}; '
            f'{count_of(counters.get("audits", 0), "audit")}; '
            f'{human_size(counters.get("bytes_received", 0))} in, '
            f'{human_size(counters.get("bytes_sent", 0))} out'
        )
        return '; '.join([line, *(f'problem: {problem}' for problem in event['problems'])])


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
@database_option('STORJ_S3_DATABASE', 'SQLAlchemy URL of the index; SQLite by default.')
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
    _require_s3()
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
        except OSError as error:
            raise CommandError(f'cannot serve: {error}') from error


def _require_s3() -> None:
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
