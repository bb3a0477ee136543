"""``storj cp`` and ``storj cat``: files to, from and between buckets."""

from __future__ import annotations

import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from storj.catalog.errors import UnsafeNameError, UsageProblem
from storj.catalog.places import (
    Link,
    Local,
    Location,
    Remote,
    Stream,
    is_glob,
    parse_location,
    parse_remote,
    safe_relative_path,
)
from storj.catalog.tree import (
    LocalFile,
    RemoteFile,
    find_local,
    find_remote,
    ignores_case,
    remote_names,
)
from storj.cli.command import command
from storj.cli.completion import complete_place, complete_uri
from storj.cli.copier import Copier, CopyOptions
from storj.cli.errors import explain
from storj.cli.jobs import Forecast, Job, Runner, Summary, Unchanged, finish
from storj.cli.options import (
    BYTE_RANGE,
    ByteRange,
    LocalPath,
    filter_options,
    follow_option,
    reading_options,
    transfer_options,
)
from storj.cli.output import is_terminal
from storj.cli.progress import Overview, Snapshot, display_for
from storj.cli.session import Session, TransferOptions, pass_session
from storj.cli.streams import standard_input
from storj.exception import StorjError

__all__ = (
    'announce',
    'cat',
    'check_places',
    'cp',
    'expand',
    'is_several',
    'jobs_for',
    'perform',
    'pour',
    'run_jobs',
    'upload_options',
    'write_stream',
)


def upload_options(function: Any) -> Any:
    """Add how uploads are stored: names, encryption, parity, type."""
    options = (
        click.option(
            '--plain-names/--encrypt-names',
            'plain_names',
            default=None,
            help='Store names in clear, or encrypted as is usual.',
        ),
        click.option(
            '--encrypt/--no-encrypt', default=True, help='Encrypt the content; on by default.'
        ),
        click.option(
            '--parity/--no-parity',
            default=None,
            help='Store parity shards, which replace lost ones (STORJ_REED_SOLOMON).',
        ),
        click.option('--mimetype', help='Type of the file; guessed from a name stored in clear.'),
    )
    for option in reversed(options):
        function = option(function)
    return function


@command(
    'cp',
    short_help='Copy files to, from and between buckets.',
    examples=(
        'storj cp cat.jpg storj://photos/                upload',
        'storj cp storj://photos/cat.jpg .               download',
        'storj cp -r holidays storj://photos/2017/       upload what a folder holds',
        "storj cp 'storj://photos/*.jpg' pictures/       download what matches",
        'tar c notes | storj cp - storj://backup/n.tar   upload from a pipe',
        'storj cp --range 0-99 storj://photos/cat.jpg -  the first 100 bytes',
    ),
)
@click.argument('sources', nargs=-1, metavar='SOURCE...', shell_complete=complete_place)
@click.argument('destination', shell_complete=complete_place)
@click.option('-r', '--recursive', is_flag=True, help='Folders and prefixes with all they hold.')
@filter_options
@follow_option
@click.option('--dry-run', is_flag=True, help='Say what would be done, and do nothing.')
@click.option('--overwrite', is_flag=True, help='Replace files that exist.')
@click.option('--range', 'byte_range', type=BYTE_RANGE, help='Part of one download, like 0-99.')
@click.option(
    '--link-file',
    metavar='PATH',
    type=LocalPath(),
    help="Read a link of 'storj share' from a file, or - for stdin, as the source.",
)
@upload_options
@transfer_options
@pass_session
def cp(
    session: Session,
    sources: tuple[str, ...],
    destination: str,
    link_file: str | None,
    recursive: bool,
    follow_links: bool,
    dry_run: bool,
    overwrite: bool,
    byte_range: ByteRange | None,
    plain_names: bool | None,
    encrypt: bool,
    parity: bool | None,
    mimetype: str | None,
    resume: bool,
    progress: bool | None,
    **engine: Any,
) -> None:
    """Copy files to, from and between buckets.

    SOURCE and DESTINATION are local paths, storj://BUCKET/PATH, or - for the standard streams; a
    link of 'storj share' is a source too. A folder is copied as what it holds. What exists at the
    destination is kept unless --overwrite is said. A transfer that broke off goes on where it
    stopped when the same command is run again.
    """
    from storj.cli.share import copy_link, read_link

    if bool(sources) == (link_file is not None):
        raise click.UsageError('give either a SOURCE or --link-file, then a DESTINATION')
    places = [parse_location(source) for source in sources]
    if link_file is not None:
        places = [read_link(link_file)]
    target = parse_location(destination)
    check_places(places, target, recursive, byte_range)
    several = is_several(places, recursive)
    options = CopyOptions(
        overwrite,
        encrypt,
        plain_names,
        parity,
        mimetype,
        byte_range,
        resume,
        several,
        follow_links=follow_links,
    )
    transfer_options_ = TransferOptions(progress=progress, **engine)
    if isinstance(places[0], Link):
        copy_link(session, places[0], target, options, transfer_options_, dry_run=dry_run)
        return
    copier = Copier(session, options, transfer_options_)
    found = [
        file for place in places for file in expand(session, copier, place, recursive=recursive)
    ]
    if isinstance(target, Stream) and not dry_run:
        write_stream(
            session,
            copier,
            [file for file in found if isinstance(file, RemoteFile)],
            transfer_options_,
        )
        return
    if isinstance(target, Stream):
        jobs = [copier.to_stream(file.entry) for file in found if isinstance(file, RemoteFile)]
    else:
        jobs = jobs_for(copier, found, target, folder=several)
    run_jobs(session, jobs, transfer_options_, several=several, dry_run=dry_run)


@command(
    'cat',
    short_help='Write files to standard output.',
    examples=(
        'storj cat storj://notes/todo.txt',
        'storj cat --range -1000 storj://logs/today | tail',
    ),
)
@click.argument('uris', nargs=-1, required=True, metavar='URI...', shell_complete=complete_uri)
@click.option('--range', 'byte_range', type=BYTE_RANGE, help='Part of each file, like 0-99.')
@reading_options
@pass_session
def cat(
    session: Session,
    uris: tuple[str, ...],
    byte_range: ByteRange | None,
    **engine: Any,
) -> None:
    """Write files to standard output, one after the other."""
    places = [parse_remote(uri, bare=True) for uri in uris]
    options = CopyOptions(byte_range=byte_range)
    transfer_options_ = TransferOptions(**engine)
    copier = Copier(session, options, transfer_options_)
    found = [
        file
        for place in places
        for file in find_remote(copier.catalog, place, recursive=False, singly=True)
    ]
    write_stream(session, copier, found, transfer_options_)


def run_jobs(
    session: Session,
    jobs: Sequence[Job],
    options: TransferOptions,
    *,
    several: bool,
    dry_run: bool = False,
) -> None:
    """Run jobs, report them, and raise what the command ends with if not all went well.

    Args:
        session (Session): of the command.
        jobs (Sequence[Job]): what is to be done.
        options (TransferOptions): of the command.
        several (bool): whether a sum is told.
        dry_run (bool): say what would be done, and do nothing.
    """
    if dry_run:
        announce(session, jobs).report(session.output)
    else:
        finish(session.output, perform(session, jobs, options), several=several)


def perform(session: Session, jobs: Sequence[Job], options: TransferOptions) -> Summary:
    """Run jobs, report each as it ends, and return their sum."""
    from storj.transfer import list_journals

    runner = Runner(
        session.output,
        parallel=options.transfers,
        stopping=session.stopping,
        progress=session.wants_progress(options),
    )
    begun = int(time.time())
    try:
        return runner.run(jobs)
    except KeyboardInterrupt:
        if runner.summary.done:
            session.output.note(runner.summary.text())
        session.resumable = bool(runner.summary.done) or any(
            entry.bytes and entry.changed >= begun and not entry.active
            for entry in list_journals(session.journal_folder)
        )
        raise


def announce(session: Session, jobs: Sequence[Job], unchanged: int = 0) -> Forecast:
    """Say what would be done, and what would be left as it is, and why.

    Args:
        session (Session): of the command.
        jobs (Sequence[Job]): in the order in which they would be begun.
        unchanged (int): files that need no job.

    Returns:
        Forecast: the sum, to be reported last.
    """
    forecast = Forecast(unchanged=unchanged)
    for job in jobs:
        record: dict[str, Any] = {
            'type': 'file_planned',
            'action': job.action,
            'source': job.source,
            'destination': job.destination,
            'size': job.size,
        }
        way = f'{job.source} -> {job.destination}'
        text = f'would {job.action} {way}'
        try:
            if job.check is not None:
                job.check()
        except Unchanged:
            forecast.unchanged += 1
            if job.removal is None:
                continue
            forecast.removals += 1
            record = {'type': 'file_planned', 'action': 'remove', **job.removal.record}
            text = f'would remove {job.source}: {job.destination} is the same'
        except (StorjError, OSError) as error:
            reason = explain(error).message.removesuffix(f': {job.source}')
            record['refused'] = reason
            text = f'would not {job.action} {way}: {reason}'
            forecast.refused += 1
        else:
            forecast.files += 1
            forecast.bytes += job.size or 0
            forecast.removals += job.removal is not None
        if session.output.as_json:
            session.output.event(record)
        else:
            session.output.line(text)
    return forecast


def write_stream(
    session: Session, copier: Copier, files: Sequence[RemoteFile], options: TransferOptions
) -> None:
    """Write files to standard output and nothing else."""
    parts = [(str(file.entry), copier.size_of(file.entry)) for file in files]
    pour(session, parts, (copier.stream(file.entry) for file in files), options)


def pour(
    session: Session,
    parts: Sequence[tuple[str, int | None]],
    contents: Iterable[Iterable[bytes]],
    options: TransferOptions,
) -> None:
    """Write bytes to standard output, with bars where they do not get between them.

    Args:
        session (Session): of the command.
        parts (Sequence[tuple[str, int | None]]): name and size of every file.
        contents (Iterable[Iterable[bytes]]): of the files, each begun when it is its turn.
        options (TransferOptions): of the command.
    """
    wanted = session.wants_progress(options)
    if session.output.as_json or (wanted is None and is_terminal(sys.stdout)):
        wanted = False
    sizes = [size for _, size in parts if size is not None]
    total = sum(sizes) if len(sizes) == len(parts) else None
    stream = sys.stdout.buffer
    poured = 0
    with display_for(session.output, wanted) as display:
        for number, ((name, size), content) in enumerate(zip(parts, contents, strict=True)):
            begun = poured
            for chunk in content:
                stream.write(chunk)
                poured += len(chunk)
                overview = Overview(number, len(parts), poured, total)
                display.draw(overview, [Snapshot(name, poured - begun, size)])
        stream.flush()


def check_places(
    places: Sequence[Location],
    target: Location,
    recursive: bool,
    byte_range: ByteRange | None,
) -> None:
    """Refuse what makes no sense together before anything is asked or sent."""
    if isinstance(target, Link):
        raise UsageProblem('a link is a source only')
    kinds = {type(place) for place in places}
    if len(places) > 1 and kinds & {Stream, Link}:
        raise UsageProblem('standard input or a link is copied alone')
    if Stream in kinds:
        standard_input()
    if kinds & {Local, Stream} and not isinstance(target, Remote):
        raise UsageProblem(
            'neither source nor destination is a storj:// URI',
            hint="the system's own commands are for local files; "
            'a remote file is written storj://bucket/path',
        )
    if kinds == {Stream} and isinstance(target, Remote) and target.is_folder:
        raise UsageProblem(
            'standard input has no name', hint='write the whole name: storj://bucket/name'
        )
    if byte_range is not None and (
        recursive or len(places) > 1 or isinstance(target, Remote) or not kinds <= {Remote, Link}
    ):
        raise UsageProblem('--range is for one download')


def is_several(places: Sequence[Location], recursive: bool) -> bool:
    """Return whether sources may be more than one file, so that the destination is a folder."""
    if isinstance(places[0], Stream):
        return False
    return recursive or len(places) > 1 or any(_is_pattern(place) for place in places)


def _is_pattern(place: Location) -> bool:
    if isinstance(place, Local):
        return is_glob(str(place)) and not place.path.exists()
    return isinstance(place, Remote) and is_glob(place.path)


def expand(
    session: Session, copier: Copier, place: Location, *, recursive: bool
) -> Sequence[LocalFile | RemoteFile | Stream]:
    """Return the files that a source means."""
    if isinstance(place, Local):
        return find_local(
            place,
            recursive=recursive,
            filters=session.filters,
            follow=copier.follow_links,
        )
    if isinstance(place, Remote):
        return find_remote(copier.catalog, place, recursive=recursive, filters=session.filters)
    return [Stream()]


def jobs_for(
    copier: Copier,
    files: Sequence[LocalFile | RemoteFile | Stream],
    target: Location,
    *,
    folder: bool,
) -> list[Job]:
    """Return the jobs that bring files to a destination.

    Args:
        copier (Copier): makes them.
        files (Sequence[LocalFile | RemoteFile | Stream]): the sources.
        target (Location): a place for one file, or a folder for all.
        folder (bool): whether the destination is a folder even if it does not look like one.
    """
    alike: Callable[[str], str] = str
    if isinstance(target, Local):
        jobs = [
            _download(copier, file, target, folder)
            for file in files
            if isinstance(file, RemoteFile)
        ]
        if ignores_case(target.path):
            alike = _caseless
    elif isinstance(target, Remote):
        jobs = _remote_jobs(copier, files, target, folder)
    else:
        raise UsageProblem('standard output takes downloads only')
    taken: dict[str, Job] = {}
    for job in jobs:
        other = taken.setdefault(alike(job.destination), job)
        if other is not job:
            raise UsageProblem(
                f'several sources would be written to {job.destination}',
                hint='' if job.destination == other.destination else 'case is ignored there',
            )
    return jobs


def _caseless(path: str) -> str:
    return unicodedata.normalize('NFC', path).casefold()


def _remote_jobs(
    copier: Copier, files: Sequence[LocalFile | RemoteFile | Stream], target: Remote, folder: bool
) -> list[Job]:
    bucket = copier.catalog.bucket(target.bucket)
    into_folder = folder or target.is_folder
    base = target.path if target.is_folder else f'{target.path}/'
    # One listing costs less than a question per file.
    present = remote_names(copier.catalog, bucket, base) if folder else {}
    jobs = []
    for file in files:
        name = target.path if isinstance(file, Stream) or not into_folder else base + file.name
        existing = (
            present.get(name[len(base) :])
            if folder
            else copier.catalog.find_file(bucket, name, ids=False)
        )
        if isinstance(file, RemoteFile):
            jobs.append(copier.copy(file.entry, bucket, name, existing))
        else:
            jobs.append(copier.upload(file, bucket, name, existing))
    return jobs


def _download(copier: Copier, file: RemoteFile, target: Local, folder: bool) -> Job:
    """Return the job of a download; a remote name is checked before it becomes a path."""
    if not folder and not target.is_folder:
        return copier.download(file.entry, target.path)
    try:
        path = target.path / safe_relative_path(file.name)
        return copier.download(file.entry, path, target.path)
    except UnsafeNameError as error:
        return copier.refused(str(file.entry), file.entry.id, error)
