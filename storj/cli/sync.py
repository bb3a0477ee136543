"""``storj sync`` and ``check``: two places, made alike or compared."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from storj.catalog.places import parse_location
from storj.cli.command import command
from storj.cli.completion import complete_place
from storj.cli.errors import CommandError, PartialFailure, explain, worst
from storj.cli.jobs import announce, finish, perform, place_of, report_removals
from storj.cli.options import (
    checking_options,
    dry_run_option,
    filter_options,
    follow_option,
    transfer_options,
    upload_options,
    yes_option,
)
from storj.cli.progress import Overview, display_for
from storj.cli.prompts import confirm
from storj.cli.session import Session, pass_session
from storj.text import count_of

if TYPE_CHECKING:
    from storj.catalog.jobs import Job
    from storj.catalog.sync import Finding, Sync
    from storj.cli.output import Output


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

    A file is copied if it is missing at DESTINATION, has another size there, is older, or was made
    of a file of another time; with --checksum, if the contents differ. Only --delete removes files.
    From bucket to bucket, the bytes pass through this machine.
    """
    from storj.catalog.sync import Sync

    copying, moving = session.split(options, overwrite=True, several=True, times=True)
    sides = Sync(
        session.copier(copying, moving),
        parse_location(source),
        parse_location(destination),
        filters=session.filters,
        checksum=checksum,
        announced=dry_run,
    )
    if dry_run:
        _announce(session, sides, delete=delete)
        return
    jobs = _jobs_of(sides, destination, checksum=checksum, asks=delete and not yes)
    summary = perform(session, jobs, moving)
    moved = summary.exit_code or summary.done
    surplus = sides.surplus if delete else []
    if not moved and not surplus:
        session.output.note(f'nothing to do: {count_of(sides.unchanged, "file")} unchanged')
    summary.unchanged = sides.unchanged
    # Only after everything arrived: a failed run must not lose the last copy.
    if summary.exit_code == 0:
        report_removals(session.output, sides.remove(surplus), summary)
    elif surplus:
        session.output.note('nothing is removed, because not everything arrived')
    if moved or surplus or session.output.as_json:
        finish(session.output, summary, several=True)


def _jobs_of(sides: Sync, destination: str, *, checksum: bool, asks: bool) -> Iterable[Job]:
    """Return what is to be done; before the first file is moved, contents are compared."""
    if not (checksum or asks):
        return sides.jobs()
    # What there is to remove, and to ask for, is known when all jobs were made.
    jobs = list(sides.jobs())
    if asks and sides.surplus:
        confirm(f'remove {count_of(len(sides.surplus), "file")} from {destination}', yes=False)
    return jobs


def _announce(session: Session, sides: Sync, *, delete: bool) -> None:
    """Print what would be done."""
    forecast = announce(session, sides.jobs())
    forecast.unchanged += sides.unchanged
    for item in sides.surplus if delete else []:
        place = place_of(item)
        record = {'type': 'file_planned', 'action': 'remove', 'destination': place}
        session.output.report(f'would remove {place}', record)
        forecast.removals += 1
    forecast.report(session.output)


@command(
    'check',
    short_help='Compare two places by content.',
    examples=(
        'storj check notes storj://backup/notes           without fetching anything',
        'storj check -q --one-way notes storj://backup/notes',
        'storj check --download notes storj://backup/notes  and prove that all can be read',
        'storj check storj://photos storj://archive/photos',
    ),
)
@click.argument('source', shell_complete=complete_place)
@click.argument('destination', shell_complete=complete_place)
@click.option('--one-way', is_flag=True, help='Leave out files that DESTINATION alone has.')
@click.option('--download', is_flag=True, help='Fetch stored files instead of comparing hashes.')
@filter_options
@follow_option
@checking_options
@pass_session
def check(
    session: Session, source: str, destination: str, one_way: bool, download: bool, **options: Any
) -> None:
    """Compare two places by content: folders or storj://BUCKET/PREFIX, one of them stored.

    A local file is encrypted as the stored one is, and compared with the hashes of its shards:
    nothing is fetched. Two stored files are fetched. The exit code is 1 if the places differ.
    """
    from storj.catalog.content import Contents
    from storj.catalog.sync import Comparison

    copying, moving = session.split(options)
    engine = session.transfers(moving, session.client)
    contents = Contents(engine, decrypt=not copying.plain, fetching=download)
    sides = parse_location(source), parse_location(destination)
    comparison = Comparison(
        session.catalog,
        *sides,
        contents,
        filters=session.filters,
        one_way=one_way,
        follow=copying.follow_links,
    )
    report = _Report(session.output, str(sides[0]), str(sides[1]))
    with (
        display_for(session.output, session.wants_progress(moving)) as display,
        contextlib.closing(comparison.findings(session.files_at_once(moving))) as findings,
    ):
        for finding in findings:
            report.add(finding)
            overview = Overview(report.total, comparison.count, report.bytes, None)
            display.draw(overview, [])
    report.finish()


class _Report:
    """Prints what a comparison finds, and counts it."""

    def __init__(self, output: Output, source: str, destination: str) -> None:
        self._output = output
        self._labels = {
            'match': 'same',
            'differ': 'differs',
            'missing_in_source': f'missing in {source}',
            'missing_in_destination': f'missing in {destination}',
            'error': 'not compared',
        }
        self._counts: Counter[str] = Counter()
        self._codes: list[int] = []
        self.bytes = 0

    @property
    def total(self) -> int:
        """How many files there were."""
        return self._counts.total()

    def add(self, finding: Finding) -> None:
        """Print a line for a file; files that match are left out with --quiet."""
        self._counts[finding.status] += 1
        self.bytes += finding.size or 0
        text = f'{self._labels[finding.status]}: {finding.name}'
        record: dict[str, Any] = {}
        if finding.error is not None:
            found = explain(finding.error)
            self._codes.append(found.exit_code)
            record = found.to_dict()
            text += f': {found.message.removesuffix(f": {finding.name}")}'
        record |= {
            'type': 'file_checked',
            'name': finding.name,
            'status': finding.status,
            'size': finding.size,
        }
        if finding.status == 'match' or self._output.as_json:
            self._output.report(text, record)
        else:
            self._output.line(text)

    def finish(self) -> None:
        """Print the sums.

        Raises:
            CommandError: If there are differences, or files that could not be compared.
        """
        counts = self._counts
        if self._output.as_json:
            names = {status: f'files_{status}' for status in self._labels}
            sums = {names[status]: counts[status] for status in self._labels}
            self._output.event({'type': 'summary', **sums, 'bytes': self.bytes})
        texts = [f'{counts[it]} {label}' for it, label in self._labels.items() if counts[it]]
        self._output.note(', '.join(texts) or 'no files')
        failed = counts['error']
        differences = self.total - counts['match'] - failed
        if differences:
            raise CommandError(count_of(differences, 'difference'), hint='')
        if failed:
            code = worst(self._codes)
            raise PartialFailure(
                f'{count_of(failed, "file")} not compared', exit_code=code, hint=''
            )
