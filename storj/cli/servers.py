"""``storj bridge``, ``farm`` and ``serve``: servers in this process, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from storj.cli.command import command, group
from storj.cli.errors import CommandError
from storj.cli.network import no_login_needed, require_extra, sync_option
from storj.cli.options import (
    DURATION,
    SIZE,
    LocalPath,
    database_option,
    environment_options,
    host_option,
    mirrors_option,
    url_option,
)
from storj.cli.output import Output, human_size
from storj.cli.prompts import ask_secret, read_secret_file
from storj.cli.session import Session, pass_session
from storj.cli.streams import failures_told
from storj.digest import is_hex
from storj.text import count_of

if TYPE_CHECKING:
    from storj.s3.server import Gateway

_ACCESS, _SECRET = 'STORJ_S3_ACCESS_KEY', 'STORJ_S3_SECRET_KEY'


class _Port(click.IntRange):
    """A port to listen on; 0 for any free one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; a URL in the environment is not meant for this program."""
        # In Kubernetes a Service of the name storj-bridge sets STORJ_BRIDGE_PORT to its URL.
        foreign = isinstance(value, str) and value.startswith('tcp://')
        if foreign and ctx is not None and param is not None:
            source = ctx.get_parameter_source(str(param.name))
            if source is ParameterSource.ENVIRONMENT:
                value = param.get_default(ctx)
        port: int = super().convert(value, param, ctx)
        return port


_bridge_database = database_option(
    'STORJ_BRIDGE_DATABASE', 'SQLAlchemy URL, of PostgreSQL if several bridges use it.'
)

_tls_cert = click.option(
    '--tls-cert',
    type=LocalPath(exists=True, path_type=Path),
    metavar='FILE',
    help='Certificate chain, as PEM.',
)
_tls_key = click.option(
    '--tls-key',
    type=LocalPath(exists=True, path_type=Path),
    metavar='FILE',
    help='Its private key, as PEM.',
)


@environment_options('STORJ_BRIDGE')
@group(
    'bridge',
    short_help='Run one of several bridges of a database.',
    examples=(
        'storj bridge --database sqlite:////srv/storj/bridge.db',
        'STORJ_BRIDGE_DATABASE=postgresql+psycopg://... storj bridge --port 6382',
        'storj bridge migrate                     bring up the database of an earlier version',
    ),
    invoke_without_command=True,
)
@_bridge_database
@host_option
@click.option(
    '--port',
    type=_Port(0, 65535),
    metavar='N',
    default=6382,
    show_default=True,
    help='To listen on; 0 for any free one.',
)
@click.option('--address', help='Address or name to announce, if not the one to listen on.')
@click.option('--public-url', metavar='URL', help='Public URL, for example behind a proxy.')
@click.option(
    '--trusted-proxy',
    'trusted_proxies',
    multiple=True,
    metavar='ADDRESS',
    help='Proxy or network of proxies whose X-Forwarded-* headers are trusted; repeatable.',
)
@click.option(
    '--data',
    type=LocalPath(file_okay=False, path_type=Path),
    metavar='FOLDER',
    help='For uploads on their way, and messages; a temporary one by default.',
)
@click.option(
    '--workers',
    type=click.IntRange(1, 256),
    metavar='N',
    default=1,
    show_default=True,
    help='Processes that share the port; more than one need PostgreSQL.',
)
@click.option(
    '--key-file',
    metavar='FILE',
    help='File with the seed of the keys, else STORJ_BRIDGE_KEY; by default the database has one.',
)
@click.option(
    '--activation',
    type=click.Choice(('auto', 'mail')),
    default='auto',
    show_default=True,
    help='How new accounts become active.',
)
@url_option(
    '--smtp',
    'STORJ_BRIDGE_SMTP',
    'Server for messages, smtp://[USER:PASSWORD@]HOST[:587] or smtps://; else FOLDER/outbox.',
)
@click.option('--mail-from', metavar='EMAIL', help='Address that messages come from.')
@mirrors_option
@click.option(
    '--lost-after',
    type=DURATION,
    default='1h',
    show_default=True,
    help='Time without an answer after which copies of a farmer count as lost.',
)
@click.option(
    '--audit-interval',
    type=DURATION,
    help='Time between two audits of a copy; by default they are spread over its contract.',
)
@click.option(
    '--repair-interval',
    type=DURATION,
    default='1m',
    show_default=True,
    help='Time between two looks for lost farmers and for missing copies.',
)
@click.option('--rate-limits', is_flag=True, help='Limit requests as the public bridge does.')
@click.option(
    '--metrics-host', default='127.0.0.1', show_default=True, help='Address of the metrics.'
)
@click.option(
    '--metrics-port',
    type=click.IntRange(0, 65535),
    metavar='N',
    help='Serve metrics for Prometheus on this port, at /metrics; 0 for any free one.',
)
@_tls_cert
@_tls_key
@click.option(
    '--log-format',
    type=click.Choice(('text', 'json')),
    default='text',
    show_default=True,
    help='Of the log on standard error and in --log-file: json is one object a line.',
)
@click.option(
    '--grace',
    type=DURATION,
    default='30s',
    show_default=True,
    help='Time for requests under way when it stops.',
)
@click.option('--migrate', is_flag=True, help='Bring up the schema first; SQLite: always.')
@pass_session
@click.pass_context
def bridge(
    context: click.Context,
    /,
    session: Session,
    database: str | None,
    data: Path | None,
    key_file: str | None,
    migrate: bool,
    workers: int,
    metrics_host: str,
    metrics_port: int | None,
    log_format: str,
    grace: float,
    **options: Any,
) -> None:
    """Run a bridge until Ctrl-C or SIGTERM, on a database that other bridges may share.

    It keeps nothing by itself: any number of them, behind one name or proxy, are one bridge to
    clients and farmers. One line says when it is ready; with --json it holds bridge, extended_key
    and pid. GET /health says that it is alive, GET /ready whether requests should come. When it
    stops, it finishes the requests under way.
    """
    if context.invoked_subcommand is not None:
        return
    require_extra(*(() if metrics_port is None else ('prometheus_client',)))
    from storj.network.node.logs import JsonFormatter

    session.start(JsonFormatter() if log_format == 'json' else None)
    url = _required(database)
    if options['activation'] == 'mail' and options['smtp'] is None and data is None:
        raise click.UsageError('--activation mail needs --smtp, or --data for the messages')
    from storj.network.bridge_program import BridgeProgram, run_bridge
    from storj.network.settings import Endpoint

    def ready(event: Mapping[str, Any]) -> None:
        with failures_told():
            _bridge_ready(session.output, event)

    names = ('host', 'port', 'address', 'public_url', 'tls_cert', 'tls_key')
    place = {name: options.pop(name) for name in names}
    try:
        program = BridgeProgram(
            url,
            Endpoint(**place),
            None if data is None else data.expanduser().absolute(),
            seed=_seed(key_file),
            migrate=migrate,
            workers=workers,
            metrics=None if metrics_port is None else (metrics_host, metrics_port),
            grace=grace,
            bridge=options,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with no_login_needed():
        run_bridge(program, ready)


def _required(database: str | None) -> str:
    if database is None:
        raise click.UsageError('which database? --database URL, or STORJ_BRIDGE_DATABASE')
    return database


def _seed(file: str | None) -> bytes | None:
    """Return the seed of the renter node, if it is not that of the database."""
    seed = _given(file, 'STORJ_BRIDGE_KEY')
    if seed is not None and not is_hex(seed, 64, any_case=True):
        raise click.UsageError('the seed of a bridge is 64 hex digits')
    return None if seed is None else bytes.fromhex(seed)


def _bridge_ready(output: Output, event: Mapping[str, Any]) -> None:
    if output.as_json:
        output.event(event)
    elif not output.quiet:
        output.line(f'ready: bridge {event["bridge"]}, pid {event["pid"]}')


@bridge.command('migrate', examples=('storj bridge migrate --database sqlite:////srv/bridge.db',))
@_bridge_database
@pass_session
@click.pass_context
def migrate(context: click.Context, session: Session, database: str | None) -> None:
    """Bring the schema of a database to this version, or make it in an empty one.

    Bridges of the earlier version must not run meanwhile. A later schema is refused.
    """
    # Before the name of the command, it is the group's.
    above = {} if context.parent is None else context.parent.params
    url = _required(database or above.get('database'))
    require_extra()
    from storj.network.bridge.database import migrate as bring_up
    from storj.network.bridge.tables import REVISION

    with no_login_needed():
        before = bring_up(url)
    text = f'the schema is of revision {REVISION}'
    if before is None:
        text = f'made a schema of revision {REVISION}'
    elif before != REVISION:
        text = f'brought the schema from revision {before} to {REVISION}'
    session.output.done(text, {'before': before, 'revision': REVISION})


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
@host_option
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
    from storj.network.farmer.settings import FarmerSettings

    try:
        settings = FarmerSettings(
            path.expanduser().absolute(),
            session.settings.bridge,
            renters=renters or None,
            private_key=_given(key_file, 'STORJ_FARMER_KEY'),
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


def _given(file: str | None, variable: str) -> str | None:
    """Return the key in a file, else in the environment; None if there is none."""
    if file is not None:
        return read_secret_file(file, what='key').strip()
    return os.environ.get(variable) or None


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
@host_option
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
@_tls_cert
@_tls_key
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
