"""``storj sync`` and ``check``: two places, made alike or compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from storj.catalog.places import parse_location
from storj.cli.command import command
from storj.cli.completion import complete_place
from storj.cli.jobs import announce, finish, perform, place_of, report_removals
from storj.cli.options import (
    dry_run_option,
    filter_options,
    follow_option,
    transfer_options,
    upload_options,
    yes_option,
)
from storj.cli.prompts import confirm
from storj.cli.session import Session, pass_session
from storj.text import count_of

if TYPE_CHECKING:
    from storj.catalog.entries import FileEntry
    from storj.catalog.sync import Plan
    from storj.catalog.tree import LocalFile

__all__ = ('sync',)


@command(
    'sync',
    short_help='Make one folder or bucket like another.',
    examples=(
        'storj sync notes storj://backup/notes           upload what is new or changed',
        'storj sync --delete storj://backup/notes notes  and remove what is gone',
        'storj sync --checksum --dry-run notes storj://backup/notes',
        'storj sync storj://photos/2017 storj://archive/2017  from bucket to bucket',
    ),
)
@click.argument('source', shell_complete=complete_place)
@click.argument('destination', shell_complete=complete_place)
@click.option(
    '--delete', is_flag=True, help='Remove files of the destination that the source does not have.'
)
@click.option('--checksum', is_flag=True, help='Compare contents, not only size and time.')
@filter_options
@follow_option
@dry_run_option
@yes_option
@upload_options
@transfer_options
@pass_session
def sync(
    session: Session,
    source: str,
    destination: str,
    delete: bool,
    checksum: bool,
    dry_run: bool,
    yes: bool,
    **options: Any,
) -> None:
    """Make DESTINATION like SOURCE: folders or storj://BUCKET/PREFIX, one of them stored.

    A file is copied if it is missing at DESTINATION, has another size there, or is older; with
    --checksum, if the contents differ. Only --delete removes files. From bucket to bucket, the
    bytes pass through this machine.
    """
    from storj.catalog.sync import Sync

    copying, moving = session.split(options, overwrite=True, several=True)
    sides = Sync(
        session.copier(copying, moving),
        parse_location(source),
        parse_location(destination),
        filters=session.filters,
        checksum=checksum,
    )
    plan = sides.plan()
    surplus = plan.surplus if delete else []
    if dry_run:
        _announce(session, plan, surplus)
        return
    if surplus:
        confirm(f'remove {count_of(len(surplus), "file")} from {destination}', yes=yes)
    if not plan.jobs and not surplus:
        session.output.note(f'nothing to do: {count_of(plan.unchanged, "file")} unchanged')
    summary = perform(session, plan.jobs, moving)
    summary.unchanged = plan.unchanged
    # Only after everything arrived: a failed run must not lose the last copy.
    if summary.exit_code == 0:
        report_removals(session.output, sides.remove(surplus), summary)
    elif surplus:
        session.output.note('nothing is removed, because not everything arrived')
    if plan.jobs or (delete and plan.surplus) or session.output.as_json:
        finish(session.output, summary, several=True)


def _announce(session: Session, plan: Plan, surplus: Sequence[LocalFile | FileEntry]) -> None:
    """Print what would be done."""
    forecast = announce(session, plan.jobs, plan.unchanged)
    for item in surplus:
        place = place_of(item)
        record = {'type': 'file_planned', 'action': 'remove', 'destination': place}
        session.output.report(f'would remove {place}', record)
    forecast.removals = len(surplus)
    forecast.report(session.output)
