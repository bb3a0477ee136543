"""``storj transfer``: list interrupted transfers, and discard them."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import click

from storj.cli.command import group
from storj.cli.errors import explain
from storj.cli.options import DURATION, yes_option
from storj.cli.output import Column
from storj.cli.prompts import confirm
from storj.cli.session import Session, pass_session
from storj.exception import ClientError
from storj.text import count_of

if TYPE_CHECKING:
    from storj.http import Client

__all__ = ('clean', 'list_', 'transfer')

_COLUMNS = (
    Column('changed', kind='time'),
    Column('kind'),
    Column('bytes', 'DONE', kind='size'),
    Column('total', kind='size'),
    Column('path'),
    Column('active', 'RUNNING'),
)


@group(
    'transfer',
    short_help='Interrupted transfers.',
    examples=('storj transfer list', 'storj transfer clean --older-than 7d'),
)
def transfer() -> None:
    """Interrupted transfers.

    An interrupted command continues where it stopped when it is run again; nothing here is needed
    for that.
    """


@transfer.command('list', examples=('storj transfer list --json',))
@pass_session
def list_(session: Session) -> None:
    """List the transfers that can be resumed, and those under way."""
    from storj.transfer import list_journals

    rows = [_record(entry) for entry in list_journals(session.journal_folder)]
    session.output.table(_COLUMNS, rows, empty='no transfers to resume')


@transfer.command(
    'clean', examples=('storj transfer clean', 'storj transfer clean --older-than 7d')
)
@click.option(
    '--older-than',
    type=DURATION,
    default=0.0,
    help='Only those unchanged for this long, like 7d.',
)
@yes_option
@pass_session
def clean(session: Session, older_than: float, yes: bool) -> None:
    """Discard interrupted transfers, with their unfinished files and frames.

    Transfers under way are left alone.
    """
    from storj.transfer import clean_journals, list_journals

    folder = session.journal_folder
    now = datetime.datetime.now(datetime.timezone.utc).timestamp()
    stale = [
        entry
        for entry in list_journals(folder)
        if not entry.active and now - entry.changed >= older_than
    ]
    if not stale:
        session.output.note('nothing to clean')
        if session.output.as_json:
            session.output.document([])
        return
    confirm(f'discard {count_of(len(stale), "transfer")}', yes=yes)
    has_frames = any(entry.frame_id is not None for entry in stale)
    bridge = _bridge(session) if has_frames else None
    removed = clean_journals(folder, older_than=older_than, bridge=bridge)
    rows = [_record(entry) for entry in removed]
    if session.output.as_json:
        session.output.document(rows)
    else:
        for row in rows:
            session.output.line(f'discarded {row["kind"]} of {row["path"]}')


def _record(entry: Any) -> dict[str, Any]:
    return {
        'key': entry.key,
        'kind': entry.kind,
        # Of what came from a pipe or from memory, only the frame is known.
        'path': entry.path or '-',
        'bucket': entry.bucket_id,
        'file': entry.file,
        'bytes': entry.bytes,
        'total': entry.total,
        'changed': datetime.datetime.fromtimestamp(entry.changed, datetime.timezone.utc),
        'active': entry.active,
    }


def _bridge(session: Session) -> Client | None:
    """Return the client that destroys frames; without one they stay on the bridge."""
    try:
        return session.client
    except ClientError as error:
        session.output.note(f'frames stay on their bridges: {explain(error).message}')
        return None
