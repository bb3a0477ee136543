"""``storj network``: a bridge and farmers on this machine, from one command."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import click

from storj.api import hash_password
from storj.catalog.errors import ConflictError
from storj.cli.command import group
from storj.cli.errors import FAILED, CommandError
from storj.cli.options import (
    DURATION,
    SIZE,
    LocalPath,
    database_option,
    host_option,
    mirrors_option,
)
from storj.cli.output import Column, Output, Part, human_size, is_terminal
from storj.cli.session import Session, pass_session
from storj.cli.streams import failures_told
from storj.exception import ConfigurationError
from storj.network import FARMERS_LIMIT
from storj.network.control import (
    RunningNetwork,
    forget_stopped,
    is_running,
    network_folder,
    serve_control,
)
from storj.text import count_of

if TYPE_CHECKING:
    from storj.network import Network
    from storj.network.backup import Copied

#: Seconds for a network in the background to come up, and to go down.
_PATIENCE = 90.0
_SETUP_HINT = 'choose another address, folder or database; --help shows the options'
_POLL = 0.05

_FARMER_COLUMNS = (
    Column('number', '', kind='count'),
    Column('state'),
    Column('channel'),
    Column('address'),
    Column('shards', kind='count'),
    Column('used', kind='size'),
    Column('space_available', 'SPACE'),
    Column('audits'),
    Column('node_id', 'NODE'),
)


#: Names a network by its folder.
folder_option = click.option(
    '--data',
    type=LocalPath(file_okay=False, path_type=Path),
    help="Folder of the network; by default one in the user's data directory.",
)
sync_option = click.option(
    '--no-sync',
    'durable',
    is_flag=True,
    default=True,
    flag_value=False,
    help='Confirm before all is on the disk; for tests and benchmarks.',
)


def _folder(data: Path | None) -> Path:
    return network_folder() if data is None else data.expanduser().absolute()


@group(
    'network',
    short_help='Run a Storj network on this machine.',
    examples=(
        'storj network up                        until Ctrl-C',
        'storj network up --detach               in the background',
        'eval "$(storj network env)"             use it from this shell',
        'storj network status --watch',
        "storj network faults add 'drop:farmer=2,offset=1000'",
        'storj network down',
    ),
)
def network() -> None:
    """Run a Storj network on this machine: a bridge and farmers, no account needed."""


@network.command('up', examples=('storj network up', 'storj network up --farmers 12 --detach'))
@host_option
@click.option('--address', help='Address or name to announce, if not the one to listen on.')
@click.option(
    '--public-url', metavar='URL', help='Public URL of the bridge, for example behind a proxy.'
)
@click.option(
    '--trusted-proxy',
    'trusted_proxies',
    multiple=True,
    metavar='ADDRESS',
    help='Proxy or network of proxies whose X-Forwarded-* headers are trusted.',
)
@click.option(
    '--port',
    type=click.IntRange(0, 65535),
    metavar='N',
    default=6382,
    show_default=True,
    help='Port of the bridge; 0 for any free one.',
)
@click.option(
    '--farmers',
    type=click.IntRange(0, FARMERS_LIMIT),
    metavar='N',
    help='Number of farmers; by default that of the folder, 6 in a new one.',
)
@click.option('--drain', is_flag=True, help='With fewer farmers: first move what the others store.')
@click.option(
    '--new-farmer',
    'new_farmers',
    multiple=True,
    type=click.IntRange(0, FARMERS_LIMIT - 1),
    metavar='NUMBER',
    help='Replace a farmer whose folder is lost by a new one; repeatable.',
)
@folder_option
@database_option('STORJ_NETWORK_DATABASE', 'SQLAlchemy URL; a SQLite file by default.')
@click.option(
    '--protocol',
    type=click.Choice(('mixed', '0.10', '1.2')),
    default='mixed',
    show_default=True,
    help='Protocol of farmers: 0.10 is WebSocket, 1.2 HTTP, mixed half of each.',
)
@click.option(
    '--activation',
    type=click.Choice(('auto', 'mail')),
    default='auto',
    show_default=True,
    help='How new accounts become active; mail goes to DATA/outbox.',
)
@click.option('--fault', 'faults', multiple=True, metavar='SPEC', help='Fault to cause.')
@click.option('--size', type=SIZE, help='Space that each farmer offers.')
@click.option('--processes', is_flag=True, help='Run each farmer in a process of its own.')
@mirrors_option
@sync_option
@click.option('--charge', is_flag=True, help="Charge for MetaDisk's transfers.")
@click.option('--detach', is_flag=True, help='Run in the background and return when it is up.')
@pass_session
def up(session: Session, data: Path | None, detach: bool, mirrors: int, **options: Any) -> None:
    """Run a bridge and farmers until Ctrl-C or SIGTERM.

    One line says when all is ready; with --json it holds bridge, farmers, account and pid. The
    same --data continues with the same account and files.
    """
    folder = _folder(data)
    if is_running(folder):
        raise ConflictError(
            f'a network runs on {folder} already',
            hint=f"'storj network status --data {shlex.quote(str(folder))}' shows it",
        )
    if detach:
        _detach(session, folder)
        return
    require_extra()
    forget_stopped(folder)
    from storj.network import Network
    from storj.network.program import run_network

    def ready(network: Network) -> None:
        with failures_told():
            _say_ready(session.output, network)

    def leaving(number: int, remaining: int) -> None:
        with failures_told():
            _say_leaving(session.output, number, remaining)

    with no_login_needed():
        network = Network(data=folder, bridge={'mirrors': mirrors}, **options)
        run_network(network, beside=serve_control, ready=ready, leaving=leaving)


@contextlib.contextmanager
def no_login_needed() -> Iterator[None]:
    """Report what a server cannot use, a port or a folder, without talk of logins.

    Raises:
        CommandError: If a ConfigurationError is raised within.
    """
    try:
        yield
    except ConfigurationError as error:
        # Some say themselves what to do.
        raise CommandError(str(error), hint=getattr(error, 'hint', _SETUP_HINT)) from error


def require_extra(*more: str) -> None:
    """Refuse with the way to install what the servers need, if that is missing."""
    import importlib.util

    for package in ('aiohttp', 'sqlalchemy', 'cryptography', *more):
        if importlib.util.find_spec(package) is None:
            raise CommandError(
                f'the local network needs a package that is not installed: {package}',
                hint='pip install "storj[network]"',
            )


def _say_leaving(output: Output, number: int, remaining: int) -> None:
    if output.as_json:
        output.event({'type': 'leaving', 'farmer': number, 'remaining': remaining})
        sys.stdout.flush()
    elif remaining:
        output.line(f'farmer {number} leaves: shards still to be copied to others: {remaining}')
    else:
        output.line(f'farmer {number} has left: all of its shards have their copies on others')


def _say_ready(output: Output, network: Network) -> None:
    if not output.as_json:
        count, place = len(network.farmers), network.listens_on
        _advise(output, network.bridge_url, count, network.pid, network.data, place)
        return
    output.event(
        {
            'type': 'ready',
            **network.status(),
            'user': network.email,
            'password': network.password,
            'mnemonic': network.mnemonic,
            'environment': network.environment(),
        }
    )
    sys.stdout.flush()


def _advise(
    output: Output, bridge: str, farmers: int, pid: int, folder: Path, listens_on: str = ''
) -> None:
    """Say that a network is ready, and how another shell uses and ends it."""
    output.line(f'ready: bridge {bridge}, {count_of(farmers, "farmer")}, pid {pid}')
    if listens_on:
        output.note(f'listening on {listens_on}')
    option = f'--data {shlex.quote(str(folder))}'
    output.note(f'data in {folder}; a shell uses it after')
    output.note(f'    eval "$(storj network env {option})"')
    output.note(f"and 'storj network down {option}' stops it")


class NetworkNotStarted(CommandError):
    """A network in the background ended before it was up.

    Args:
        reason (str): its last message.
        log (Path): where it wrote more.
        status (int): of its process.
    """

    def __init__(self, reason: str, log: Path, status: int) -> None:
        super().__init__(f'the network did not start: {reason}', hint=f'see {log}')
        self.exit_code = status if status > 0 else FAILED


def _detach(session: Session, folder: Path) -> None:
    """Run the same command in a process of its own and wait until it is up."""
    require_extra()
    arguments = [argument for argument in session.arguments if argument != '--detach']
    if '--json' not in arguments:
        arguments.append('--json')
    if not session.verbose:
        # Beside JSON nothing else would be logged but errors.
        arguments.append('-v')
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = folder / 'network.log'
    with log.open('ab') as errors:
        process = subprocess.Popen(  # noqa: S603  our own program with our own arguments
            [sys.executable, '-m', 'storj', *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    ready: dict[str, Any] = {}
    try:
        with cast(IO[bytes], process.stdout) as answers:
            for line in answers:
                ready = json.loads(line)
                if ready['type'] == 'ready':
                    break
                _say_leaving(session.output, ready['farmer'], ready['remaining'])
            else:
                code = process.wait()
                raise NetworkNotStarted(_last_message(log), log, code)
    except BaseException:
        # Ctrl-C here is meant for it.
        process.terminate()
        process.wait()
        raise
    if session.output.as_json:
        session.output.event(ready)
    else:
        _advise(session.output, ready['bridge'], len(ready['farmers']), ready['pid'], folder)


def _last_message(log: Path) -> str:
    """Return the message of the last error in a log of JSON lines."""
    lines = log.read_text(encoding='utf-8', errors='replace').splitlines()
    try:
        return str(json.loads(lines[-1])['message'])
    except (IndexError, ValueError, KeyError, TypeError):
        return 'no message'


@network.command('down', examples=('storj network down',))
@folder_option
@pass_session
def down(session: Session, data: Path | None) -> None:
    """Stop a network; its data stays."""
    folder = _folder(data)
    running = RunningNetwork(folder)
    pid = running.stop()
    deadline = time.monotonic() + _PATIENCE
    # control.json goes away when the process has begun to stop, the lock when it has ended.
    while is_running(folder):
        if time.monotonic() > deadline:
            raise CommandError(f'process {pid} does not end')
        time.sleep(_POLL)
    session.output.done('network stopped', {'stopped': True, 'pid': pid})


@network.command('backup', examples=('storj network backup /mnt/backup',))
@click.argument('folder', type=LocalPath(file_okay=False, path_type=Path))
@click.option('--check', is_flag=True, help='Read all shards in FOLDER; replace damaged ones.')
@folder_option
@pass_session
def backup(session: Session, folder: Path, check: bool, data: Path | None) -> None:
    """Copy all that a network keeps, while it runs or not.

    What was stored before the command began is whole in the backup. Again on the same FOLDER, only
    new shards are copied. It holds the account and keys: keep it as safe as the network.
    """
    require_extra()
    from storj.network.backup import back_up

    source = _folder(data)
    snapshot = RunningNetwork(source).snapshot if is_running(source) else None
    _copied(session.output, 'backed up', lambda: back_up(source, folder, snapshot, check=check))


@network.command('restore', examples=('storj network restore /mnt/backup --data /srv/storj',))
@click.argument('folder', type=LocalPath(exists=True, file_okay=False, path_type=Path))
@folder_option
@pass_session
def restore(session: Session, folder: Path, data: Path | None) -> None:
    """Make a network from a backup; 'storj network up' starts it.

    Nothing is overwritten: the folder of the network must be missing or empty.
    """
    require_extra()
    from storj.network.backup import restore as bring_back

    _copied(
        session.output,
        'restored',
        lambda: bring_back(folder, _folder(data)),
        "'storj network backup --check' replaces damaged shards of a backup, from the network",
    )


def _copied(output: Output, done: str, work: Callable[[], Copied], hint: str | None = None) -> None:
    """Do it, and report numbers; it fails if shards are missing."""
    with no_login_needed():
        try:
            found = work()
        except OSError as error:
            raise CommandError(str(error)) from error
    output.done(
        f'{done} {count_of(found.farmers, "farmer")},'
        f' {count_of(found.shards, "shard")} ({human_size(found.bytes)});'
        f' {count_of(found.copied_shards, "shard")} ({human_size(found.copied_bytes)}) copied',
        asdict(found),
    )
    if found.missing:
        missing = count_of(found.missing, 'shard')
        raise CommandError(f'not copied: {missing} that no disk can read', hint=hint)


@network.command('env', examples=('eval "$(storj network env)"',))
@folder_option
@pass_session
def env(session: Session, data: Path | None) -> None:
    """Print the environment by which a shell uses the network."""
    environment = RunningNetwork(_folder(data)).status()['environment']
    if session.output.as_json:
        session.output.document(environment)
        return
    for name, value in environment.items():
        session.output.line(f'export {name}={shlex.quote(value)}')


@network.command('status', examples=('storj network status', 'storj network status --watch'))
@folder_option
@click.option('--watch', is_flag=True, help='Refresh until Ctrl-C.')
@click.option('--every', type=DURATION, default='2s', show_default=True, help='With --watch.')
@pass_session
def status(session: Session, data: Path | None, watch: bool, every: float) -> None:
    """Show bridge, farmers, space, shards and audits."""
    folder = _folder(data)
    if watch:
        _watch(session.output, folder, every)
    else:
        _show(session.output, _state(folder))


def _state(folder: Path) -> dict[str, Any]:
    """Return the state of a network: what its processes know, and what the bridge has recorded."""
    state = RunningNetwork(folder).status()
    state.pop('environment')
    recorded = bridge_status(state['bridge'])
    by_node = {farmer['node_id']: farmer for farmer in recorded.get('farmers', ())}
    for farmer in state['farmers']:
        known = by_node.get(farmer['node_id'], {})
        names = ('shards', 'mirrors', 'audits_passed', 'audits_failed', 'space_available', 'lost')
        for key in names:
            farmer.setdefault(key, known.get(key))
        farmer['used'] = farmer.get('used', known.get('bytes'))
    state['totals'] = recorded.get('totals', {})
    state['release'] = recorded.get('bridge', {}).get('version')
    return state


def bridge_status(url: str, account: tuple[str, str] | None = None) -> dict[str, Any]:
    """Return the state that the bridge of a local network has recorded.

    Args:
        url (str): of the bridge.
        account (tuple[str, str] | None): e-mail and password of a user, whose files are in it.

    Raises:
        CommandError: If the bridge does not answer with it.
    """
    import requests

    auth = None if account is None else (account[0], hash_password(account[1]))
    try:
        answer = requests.get(
            f'{url}/status', headers={'Accept': 'application/json'}, auth=auth, timeout=(5, 30)
        )
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise CommandError(f'the bridge at {url} does not state its status') from error
    return found


def farmer_rows(farmers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a table of farmers."""
    return [
        {
            **farmer,
            'state': _farmer_state(farmer),
            'channel': channel_of(str(farmer['protocol'])),
            'address': f'{farmer["address"]}:{farmer["port"]}',
            'node_id': str(farmer['node_id'])[:8],
            'audits': f'{_passed(farmer)}/{_audits(farmer)}',
        }
        for farmer in farmers
    ]


def _farmer_state(farmer: Mapping[str, Any]) -> str:
    if farmer.get('lost'):
        return 'lost'
    if farmer['state'] != 'up':
        return str(farmer['state'])
    skew = farmer.get('clock_skew')
    return 'up' if skew is None else f'clock {skew:+.0f} s'


def _passed(record: Mapping[str, Any]) -> int:
    return record.get('audits_passed') or 0


def _audits(record: Mapping[str, Any]) -> int:
    return _passed(record) + (record.get('audits_failed') or 0)


def channel_of(protocol: str) -> str:
    """Return the wire that a farmer of this protocol version speaks to clients."""
    return 'WebSocket' if protocol.startswith('0.') else 'HTTP'


def _trouble(state: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each problem, and for each farmer that ended by itself."""
    for problem in state['problems']:
        yield f'problem  {problem}'
    for farmer in state['farmers']:
        name = f'farmer {farmer["number"]}'
        for problem in farmer['problems']:
            yield f'problem  {name}: {problem}'
        if farmer['restarts']:
            times = count_of(farmer['restarts'], 'time')
            yield f'ended    {name}, {times}, the last time by {farmer["last_end"]}'


def _lines(output: Output, state: Mapping[str, Any]) -> list[list[Part]]:
    totals = state['totals']
    up_count = sum(farmer['state'] == 'up' for farmer in state['farmers'])
    wanted, fewer, none = (
        totals.get(name, 0) for name in ('copies_wanted', 'under_replicated', 'without_copies')
    )
    short = count_of(fewer, 'shard')
    lines = [
        f'bridge   {state["bridge"]}  release {state["release"]}  pid {state["pid"]}',
        f'files    {totals.get("files", 0)}, {output.cell(totals.get("bytes", 0), "size")}',
        f'shards   {totals.get("shards", 0)}, {totals.get("mirrors", 0)} of them mirrors',
        f'copies   {wanted} of each shard wanted, {short} with fewer, {none} with none',
        f'audits   {_passed(totals)} passed, {_audits(totals) - _passed(totals)} failed',
        f'farmers  {up_count} of {len(state["farmers"])} up',
    ]
    lines += [f'fault    {fault}' for fault in state['faults']]
    lines += _trouble(state)
    table = output.table_lines(_FARMER_COLUMNS, farmer_rows(state['farmers']))
    plain: list[list[Part]] = [[line] for line in [*lines, '']]
    return [*plain, *table]


def _show(output: Output, state: Mapping[str, Any]) -> None:
    if output.as_json:
        output.document(state)
        return
    for line in _lines(output, state):
        output.line(*line)


def _watch(output: Output, folder: Path, every: float) -> None:
    """Show the state until Ctrl-C: in place on a terminal, as JSON lines for a program."""
    if output.as_json or not is_terminal(sys.stdout) or os.environ.get('TERM') == 'dumb':
        while True:
            state = _state(folder)
            if output.as_json:
                output.event({'type': 'status', **state})
            else:
                _show(output, state)
            sys.stdout.flush()
            time.sleep(every)
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(), screen=True, auto_refresh=False) as live:
        while True:
            lines = _lines(output, _state(folder))
            text = '\n'.join(output.text(*line, colour=True) for line in lines)
            live.update(Text.from_ansi(text), refresh=True)
            time.sleep(every)


@network.command('farmers', examples=('storj network farmers', 'storj network farmers stop 2'))
@click.argument(
    'action', required=False, type=click.Choice(('list', 'start', 'stop', 'restart', 'kill'))
)
@click.argument('numbers', nargs=-1, metavar='[NUMBER]...', type=click.IntRange(0))
@folder_option
@pass_session
def farmers(
    session: Session, action: str | None, numbers: tuple[int, ...], data: Path | None
) -> None:
    """List the farmers, or start, stop, restart or kill some of them."""
    folder = _folder(data)
    if action in (None, 'list'):
        found = _state(folder)['farmers']
        rows = found if session.output.as_json else farmer_rows(found)
        session.output.table(_FARMER_COLUMNS, rows, empty='no farmers')
        return
    if not numbers:
        raise click.UsageError(f'which farmers? storj network farmers {action} NUMBER...')
    running = RunningNetwork(folder)
    changed = [running.change_farmer(number, str(action)) for number in numbers]
    if session.output.as_json:
        session.output.document(changed)
        return
    for farmer in changed:
        state = 'up' if farmer['running'] else 'stopped'
        session.output.line(f'farmer {farmer["number"]} is {state}')


@network.command(
    'faults',
    examples=(
        'storj network faults',
        "storj network faults add 'drop:farmer=2,offset=1000'",
        "storj network faults add 'status:route=PUT /frames,status=503,times=2'",
        'storj network faults clear',
    ),
)
@click.argument('action', required=False, type=click.Choice(('list', 'add', 'clear')))
@click.argument('specs', nargs=-1, metavar='[SPEC]...')
@folder_option
@pass_session
def faults(session: Session, action: str | None, specs: tuple[str, ...], data: Path | None) -> None:
    """Show what goes wrong in the network, add to it, or clear it.

    A SPEC is KIND:NAME=VALUE,...; kinds are refuse, delay, truncate, corrupt, drop, expire, stall,
    status and html; names are farmer, route, operation, nth, times, offset, seconds, status.
    """
    running = RunningNetwork(_folder(data))
    if action == 'add':
        if not specs:
            raise click.UsageError('which fault? storj network faults add SPEC')
        found = [running.add_fault(spec) for spec in specs][-1]
    elif action == 'clear':
        found = running.clear_faults()
    else:
        found = running.status()['faults']
    rows = [{'fault': spec} for spec in found]
    session.output.table((Column('fault'),), rows, empty='no faults')
