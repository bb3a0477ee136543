"""``storj metadisk``: files of a MetaDisk node, by reference instead of by account."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from storj.catalog.errors import ConflictError, LocalPathNotFound, UnsafeNameError, UsageProblem
from storj.cli.command import group
from storj.cli.errors import CommandError
from storj.cli.options import LocalPath
from storj.cli.output import Column, human_size
from storj.cli.progress import Overview, Snapshot, display_for
from storj.cli.prompts import read_secret_file
from storj.cli.session import Session, pass_session
from storj.cli.streams import standard_input

if TYPE_CHECKING:
    from storj.metadisk import MetaDisk

# What nodes make of names, and so what may become a local file; the hash before it is cut off.
_STORED_NAME = re.compile(r'[0-9a-f]{7}_([A-Za-z0-9][A-Za-z0-9_.-]{0,254})')

Move = Callable[[int, 'int | None'], object]


_token_option = click.option(
    '--token',
    metavar='TOKEN',
    envvar='STORJ_METADISK_TOKEN',
    show_envvar=True,
    help='Access token; nodes that do not charge need none.',
)
_progress_option = click.option(
    '--progress/--no-progress',
    default=None,
    help='Show a bar while the file moves; by default only on a terminal.',
)


@contextlib.contextmanager
def _node(session: Session, token: str | None = None) -> Iterator[MetaDisk]:
    from storj.metadisk import MetaDisk

    session.use_local_network()
    try:
        node = MetaDisk(session.settings.bridge, token=token or None, proxy=session.settings.proxy)
    except ValueError as error:
        hint = "check STORJ_BRIDGE (or '--bridge URL') and STORJ_PROXY"
        raise CommandError(str(error), hint=hint) from error
    with node:
        yield node


@contextlib.contextmanager
def _moving(session: Session, name: str, wanted: bool | None) -> Iterator[Move]:
    """Yield a callback that draws the progress of one file."""
    # One JSON document is printed at the end, and no lines before it.
    wanted = False if session.output.as_json else wanted
    with display_for(session.output, wanted) as display:

        def draw(done: int, total: int | None) -> None:
            overview = Overview(files_done=0, files_total=1, done=done, total=total)
            display.draw(overview, [Snapshot(name, done, total)])

        yield draw


def _reference(text: str) -> str:
    """Return a reference; ``-`` reads it from standard input, where no process list shows it."""
    from storj.metadisk import Reference

    if text == '-':
        text = read_secret_file('-', what='reference')
    try:
        return str(Reference.parse(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint='REFERENCE') from error


@group(
    'metadisk',
    short_help='Files of a MetaDisk node.',
    examples=(
        'storj metadisk upload cat.jpg                 prints <filehash>?key=<key>',
        "storj metadisk download '<filehash>?key=<key>' copy.jpg",
        'storj metadisk find <filehash>',
        'storj metadisk status',
        'storj metadisk token new',
    ),
)
def metadisk() -> None:
    """Upload to and download from a MetaDisk node: no account, a reference for each file.

    The node is that of --bridge. Anyone who has a reference can read the file; the node sees what
    is uploaded to it, and learns nothing from a download.
    """


@metadisk.command('upload', examples=('storj metadisk upload cat.jpg', 'storj metadisk upload -'))
@click.argument('source', metavar='FILE', type=LocalPath())
@click.option('--name', help="For the node; the file's own by default.")
@_token_option
@_progress_option
@pass_session
def upload(
    session: Session, source: str, name: str | None, token: str | None, progress: bool | None
) -> None:
    """Upload FILE (- for standard input) and print its reference."""
    path = Path(source)
    content = standard_input() if source == '-' else path
    if source != '-' and not path.is_file():
        if not path.exists():
            raise LocalPathNotFound(f'{source}: no such file')
        raise UsageProblem(
            f'{source} is not a regular file', hint="pipe it into 'storj metadisk upload -'"
        )
    label = name or ('standard input' if source == '-' else path.name)
    with _node(session, token) as node, _moving(session, label, progress) as move:
        reference = node.upload(content, name=name, token=token, progress=move)
    filehash, _, key = reference.partition('?key=')
    session.output.result(reference, {'reference': reference, 'filehash': filehash, 'key': key})


@metadisk.command(
    'download',
    examples=(
        "storj metadisk download '<filehash>?key=<key>'",
        "storj metadisk download '<filehash>?key=<key>' - | tar x",
        'storj metadisk download - copy.jpg < reference.txt',
    ),
)
@click.argument('reference', metavar='REFERENCE')
@click.argument('destination', required=False, metavar='[DESTINATION]', type=LocalPath())
@click.option('--overwrite', is_flag=True, help='Replace an existing file.')
@click.option('--by-node', is_flag=True, help='Let the node decrypt; it learns the key.')
@_token_option
@_progress_option
@pass_session
def download(
    session: Session,
    reference: str,
    destination: str | None,
    overwrite: bool,
    by_node: bool,
    token: str | None,
    progress: bool | None,
) -> None:
    """Download the file of REFERENCE, decrypt and check it here.

    REFERENCE may be a link that ends in one, or - to read it from standard input. Without
    DESTINATION the file gets the name that the node knows; - writes to standard output.
    """
    reference = _reference(reference)
    with _node(session, token) as node:
        path = None if destination == '-' else _destination(node, reference, destination)
        if path is not None and path.exists() and not overwrite:
            raise ConflictError(f'{path} exists')
        label = 'standard output' if path is None else path.name
        with _moving(session, label, progress) as move:
            done = node.download(
                reference,
                sys.stdout.buffer if path is None else path,
                local=not by_node,
                progress=move,
            )
    if path is not None:
        session.output.done(
            f'{path}  {human_size(done.size)}', {'path': str(path), 'size': done.size}
        )


def _destination(node: MetaDisk, reference: str, destination: str | None) -> Path:
    if destination is not None and not Path(destination).is_dir():
        return Path(destination)
    named = node.find(reference).filename
    match = _STORED_NAME.fullmatch(named)
    if match is None:
        raise UnsafeNameError(named)
    return Path(destination or os.curdir) / match[1]


@metadisk.command('find', examples=('storj metadisk find <filehash>',))
@click.argument('filehash')
@pass_session
def find(session: Session, filehash: str) -> None:
    """Show the node's public record of a file."""
    with _node(session) as node:
        try:
            record = node.find(filehash)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint='FILEHASH') from error
    output = session.output
    if output.as_json:
        output.record(vars(record))
        return
    shown = {name: value for name, value in vars(record).items() if name != 'uploads'}
    output.record(shown, {'filesize': 'size', 'datetime': 'time'})
    if record.uploads:
        columns = (Column('host'), Column('shards'), Column('url', 'WHERE'))
        for line in output.table_lines(columns, [_place(row) for row in record.uploads]):
            output.line(*line)


def _place(upload: Mapping[str, Any]) -> dict[str, Any]:
    indices = upload.get('shards')
    return {
        'host': upload.get('host_name'),
        # A host of 2014 had the whole file.
        'shards': _ranges(indices) if isinstance(indices, list) else 'all',
        'url': 'failed' if upload.get('error') else upload.get('url'),
    }


def _ranges(indices: Sequence[object]) -> str:
    """Write ascending numbers shortly: ``0-3, 7``."""
    runs: list[list[int]] = []
    for index in indices:
        if not isinstance(index, int):
            continue
        if runs and index == runs[-1][-1] + 1:
            runs[-1][1:] = [index]
        else:
            runs.append([index])
    return ', '.join('-'.join(map(str, run)) for run in runs)


@metadisk.command('status', examples=('storj metadisk status',))
@pass_session
def status(session: Session) -> None:
    """Show the node's storage and traffic."""
    with _node(session) as node:
        state = node.status()
    if session.output.as_json:
        session.output.document(state.raw)
        return
    sizes = ('capacity', 'used', 'max_file_size', 'incoming', 'outgoing')
    record = {name: getattr(state, name) for name in sizes}
    session.output.record(record, dict.fromkeys(sizes, 'size'))


@group(
    'token',
    short_help='Access tokens and their balance.',
    examples=('storj metadisk token new', 'storj metadisk token balance'),
)
def token() -> None:
    """Take an access token, show its balance, redeem a code."""


metadisk.add_command(token)


@token.command('new', examples=('storj metadisk token new',))
@pass_session
def token_new(session: Session) -> None:
    """Print a new access token. Anyone who has it can spend its balance."""
    with _node(session) as node:
        made = node.token_new()
    session.output.result(made, {'token': made})


@token.command('balance', examples=('STORJ_METADISK_TOKEN=… storj metadisk token balance',))
@_token_option
@pass_session
def token_balance(session: Session, token: str | None) -> None:
    """Show the bytes that a token may still transfer."""
    with _node(session, _required(token)) as node:
        session.output.record({'balance': node.balance()}, {'balance': 'size'})


@token.command('redeem', examples=('storj metadisk token redeem PLEASE',))
@click.argument('promocode')
@_token_option
@pass_session
def token_redeem(session: Session, promocode: str, token: str | None) -> None:
    """Exchange a promotional code for balance."""
    with _node(session, _required(token)) as node:
        node.redeem(promocode)
        session.output.record({'balance': node.balance()}, {'balance': 'size'})


@token.command('prices', examples=('storj metadisk token prices',))
@pass_session
def token_prices(session: Session) -> None:
    """Show what balance costs."""
    with _node(session) as node:
        rows = [{'amount': row.amount, 'cents': row.cost} for row in node.prices()]
    columns = (Column('amount', kind='size'), Column('cents', kind='count'))
    session.output.table(columns, rows, empty='this node sells no balance')


def _required(token: str | None) -> str:
    if not token:
        raise CommandError(
            'no access token', hint="set STORJ_METADISK_TOKEN; 'storj metadisk token new' makes one"
        )
    return token
