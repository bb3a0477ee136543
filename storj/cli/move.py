"""``storj mv``: files to, from and between buckets, gone where they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from storj.catalog.errors import FileNotFound, LocalPathNotFound, UsageProblem
from storj.catalog.places import Link, Stream, parse_location
from storj.catalog.tree import LocalFile, RemoteFile
from storj.cli.command import command
from storj.cli.completion import complete_place
from storj.cli.copier import Copier, CopyOptions
from storj.cli.copy import (
    check_places,
    expand,
    is_several,
    jobs_for,
    run_jobs,
    upload_options,
)
from storj.cli.jobs import Job
from storj.cli.options import filter_options, follow_option, transfer_options
from storj.cli.session import Session, TransferOptions, pass_session

__all__ = ('mv',)


@command(
    'mv',
    short_help='Move files to, from and between buckets.',
    examples=(
        'storj mv cat.jpg storj://photos/                upload, then remove here',
        'storj mv storj://photos/cat.jpg .               download, then remove there',
        'storj mv storj://photos/cat.jpg storj://photos/tom.jpg',
        'storj mv -r --dry-run scans storj://archive/2017/',
    ),
)
@click.argument(
    'sources', nargs=-1, required=True, metavar='SOURCE...', shell_complete=complete_place
)
@click.argument('destination', shell_complete=complete_place)
@click.option('-r', '--recursive', is_flag=True, help='Folders and prefixes with all they hold.')
@filter_options
@follow_option
@click.option('--dry-run', is_flag=True, help='Say what would be done, and do nothing.')
@click.option('--overwrite', is_flag=True, help='Replace files that exist.')
@upload_options
@transfer_options
@pass_session
def mv(
    session: Session,
    sources: tuple[str, ...],
    destination: str,
    recursive: bool,
    follow_links: bool,
    dry_run: bool,
    overwrite: bool,
    plain_names: bool | None,
    encrypt: bool,
    parity: bool | None,
    mimetype: str | None,
    resume: bool,
    **engine: Any,
) -> None:
    """Move files to, from and between buckets.

    SOURCE and DESTINATION are local paths or storj://BUCKET/PATH, as for 'storj cp'. A source is
    removed when its copy is complete, and only if it did not change meanwhile; one that failed or
    was skipped stays. What exists at the destination is kept, and its source as well, unless
    --overwrite is said or both have the same content. Folders stay where they are, emptied.
    """
    places = [parse_location(source) for source in sources]
    target = parse_location(destination)
    if any(isinstance(place, (Stream, Link)) for place in (*places, target)):
        raise UsageProblem(
            'a stream or a link cannot be moved', hint="'storj cp' copies from and to both"
        )
    check_places(places, target, recursive, None)
    several = is_several(places, recursive)
    options = CopyOptions(
        overwrite,
        encrypt,
        plain_names,
        parity,
        mimetype,
        resume=resume,
        several=several,
        move=True,
        follow_links=follow_links,
    )
    transfer_options_ = TransferOptions(**engine)
    copier = Copier(session, options, transfer_options_)
    found: list[LocalFile | RemoteFile | Stream] = []
    gone: list[Job] = []
    for place in places:
        try:
            found += expand(session, copier, place, recursive=recursive)
        except (FileNotFound, LocalPathNotFound) as error:
            if len(places) == 1:
                raise
            # It may have been moved by an earlier run, which must not keep the others here.
            gone.append(copier.refused(str(place), str(target), error))
    jobs = jobs_for(copier, found, target, folder=several)
    _check_apart(jobs)
    run_jobs(session, jobs + gone, transfer_options_, several=several, dry_run=dry_run)


def _check_apart(jobs: Sequence[Job]) -> None:
    """Refuse to write to where something is moved away from: one of the two might be lost."""
    sources = {job.source for job in jobs}
    for job in jobs:
        if job.destination == job.source:
            raise UsageProblem(f'{job.source} would be moved to itself', hint='')
        if job.destination in sources:
            raise UsageProblem(
                f'{job.destination} is a source and a destination', hint='move one after the other'
            )
