"""``storj sync``: make a bucket or prefix like a folder, or a folder like a bucket or prefix."""

from __future__ import annotations

from typing import Any

import click

from storj.catalog.errors import UsageProblem
from storj.catalog.places import Local, Remote, parse_location
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
from storj.cli.output import count_of
from storj.cli.prompts import confirm
from storj.cli.session import Session, pass_session

__all__ = ('sync',)


@command(
    'sync',
    short_help='Make one folder or bucket like another.',
    examples=(
        'storj sync notes storj://backup/notes           upload what is new or changed',
        'storj sync --delete storj://backup/notes notes  and remove what is gone',
        'storj sync --checksum --dry-run notes storj://backup/notes',
    ),
)
@click.argument('source', shell_complete=complete_place)
@click.argument('destination', shell_complete=complete_place)
@click.option('--delete', is_flag=True, help='Remove from the destination what the source lacks.')
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
    """Make DESTINATION like SOURCE: one a folder, the other storj://BUCKET/PREFIX.

    A file is moved when the destination lacks it, has another size, or is older; with --checksum
    when the contents differ. Only --delete removes anything.
    """
    origin, target = parse_location(source), parse_location(destination)
    copying, moving = session.split(options, overwrite=True, several=True)
    if isinstance(origin, Local) and isinstance(target, Remote):
        folder, prefix = origin, target
    elif isinstance(origin, Remote) and isinstance(target, Local):
        folder, prefix = target, origin
    else:
        raise UsageProblem(
            'sync needs a folder and a storj:// URI', hint='storj sync FOLDER storj://BUCKET/PREFIX'
        )
    from storj.catalog.sync import Sync

    sides = Sync(
        session.copier(copying, moving),
        folder,
        prefix,
        sending=folder is origin,
        filters=session.filters,
        checksum=checksum,
    )
    plan = sides.plan()
    surplus = plan.surplus if delete else []
    if dry_run:
        forecast = announce(session, plan.jobs, plan.unchanged)
        for item in surplus:
            place = place_of(item)
            record = {'type': 'file_planned', 'action': 'remove', 'destination': place}
            session.output.report(f'would remove {place}', record)
        forecast.removals = len(surplus)
        forecast.report(session.output)
        return
    if surplus:
        confirm(f'remove {count_of(len(surplus), "file")} from {destination}', yes=yes)
    if not plan.jobs and not surplus:
        session.output.note(f'nothing to do: {count_of(plan.unchanged, "file")} unchanged')
    summary = perform(session, plan.jobs, moving)
    summary.unchanged = plan.unchanged
    # Only after everything arrived: a failed run must not lose the last copy.
    if surplus and summary.exit_code:
        session.output.note('nothing is removed, because not everything arrived')
        surplus = []
    report_removals(session.output, sides.remove(surplus), summary)
    if plan.jobs or (delete and plan.surplus) or session.output.as_json:
        finish(session.output, summary, several=True)
