"""``storj farm``: rent out space (DriveShare), as a farmer in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from storj.cli.command import command
from storj.cli.errors import CommandError
from storj.cli.network import no_login_needed, require_extra, sync_option
from storj.cli.options import SIZE, LocalPath
from storj.cli.output import Output, human_size
from storj.cli.session import Session, pass_session
from storj.cli.streams import failures_told
from storj.text import count_of

__all__ = ('farm',)


@command(
    'farm',
    short_help='Offer space of this machine to a network.',
    examples=(
        'storj farm --path ~/farm --size 10GB --bridge http://127.0.0.1:6382',
        'storj farm --path ~/farm --size 10GB --leave     move all shards away, then end',
    ),
)
@click.option(
    '--path',
    required=True,
    type=LocalPath(file_okay=False, path_type=Path),
    help='Folder for shards and identity; created if missing.',
)
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
    **options: Any,
) -> None:
    """Store shards for others until Ctrl-C.

    The farmer joins the bridge of --bridge, uses at most --size, and continues after a
    restart of either. Ctrl-C stops it for now; its shards stay, and are missed if it stays away.

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
