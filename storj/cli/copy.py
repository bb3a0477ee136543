"""``storj cp``, ``mv`` and ``cat``: files to, from and between buckets.

And ``storj transfer``: those of their transfers that were interrupted.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from storj.catalog.errors import FileNotFound, LocalPathNotFound, UsageProblem
from storj.catalog.places import (
    ByteRange,
    Link,
    Local,
    Location,
    Remote,
    Stream,
    is_glob,
    parse_location,
    parse_remote,
)
from storj.catalog.tree import RemoteFile, Unlisted, find_remote, scan_local, scan_remote
from storj.cli.command import command, group
from storj.cli.completion import complete_place, complete_uri
from storj.cli.errors import explain
from storj.cli.jobs import run_jobs
from storj.cli.options import (
    BYTE_RANGE,
    DURATION,
    LocalPath,
    copying_options,
    reading_options,
    transfer_options,
    upload_options,
    yes_option,
)
from storj.cli.output import Column, is_terminal
from storj.cli.progress import Overview, Snapshot, display_for
from storj.cli.prompts import confirm
from storj.cli.session import Session, TransferOptions, pass_session
from storj.cli.streams import standard_input
from storj.exception import ClientError, StorjError
from storj.text import count_of

if TYPE_CHECKING:
    from storj.catalog.copier import Copier, Downloader, Source
    from storj.catalog.jobs import Job
    from storj.http import Client

_JOURNAL_COLUMNS = (
    Column('changed', kind='time'),
    Column('kind'),
    Column('bytes', 'DONE', kind='size'),
    Column('total', kind='size'),
    Column('path'),
    Column('active', 'RUNNING'),
)


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
@copying_options
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
    dry_run: bool,
    **options: Any,
) -> None:
    """Copy files to, from and between buckets.

    SOURCE and DESTINATION are local paths, storj://BUCKET/PATH, or - for the standard streams; a
    link of 'storj share' is a source too. A folder is copied as what it holds. Existing files are
    skipped; use --overwrite to replace them. An interrupted transfer continues where it stopped if
    the same command is run again.
    """
    from storj.cli.share import copy_link, read_link

    if bool(sources) == (link_file is not None):
        raise click.UsageError('give either a SOURCE or --link-file, then a DESTINATION')
    places = [parse_location(source) for source in sources]
    if link_file is not None:
        places = [read_link(link_file)]
    target = parse_location(destination)
    _check_places(places, target, recursive, options['byte_range'])
    several = _is_several(places, recursive)
    copying, moving = session.split(options, several=several)
    if isinstance(places[0], Link):
        copy_link(session, places[0], target, copying, moving, dry_run=dry_run)
        return
    copier = session.copier(copying, moving)
    if isinstance(target, Stream):
        stored = [
            file
            for place in places
            if isinstance(place, Remote)
            for file in find_remote(
                copier.catalog, place, recursive=recursive, filters=session.filters
            )
        ]
        if dry_run:
            planned = [
                # Only announced: nothing is in the way of standard output.
                dataclasses.replace(copier.download(file.entry, Path('-')), check=None)
                for file in stored
            ]
            run_jobs(session, planned, moving, several=several, dry_run=True)
        else:
            write_stream(session, copier, stored, moving)
    elif isinstance(target, (Local, Remote)):
        whole = dry_run or _is_listed_first(copier, places, target, recursive=recursive)
        expand = partial(_expand, session, copier, target, recursive=recursive, whole=whole)
        files = itertools.chain.from_iterable([expand(place) for place in places])
        jobs = copier.jobs(list(files) if whole else files, target)
        run_jobs(session, jobs, moving, several=several, dry_run=dry_run)


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
@copying_options
@upload_options
@transfer_options
@pass_session
def mv(
    session: Session,
    sources: tuple[str, ...],
    destination: str,
    recursive: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Move files to, from and between buckets.

    SOURCE and DESTINATION are local paths or storj://BUCKET/PATH, as for 'storj cp'. A source is
    removed when its copy is complete, and only if it did not change meanwhile; one that failed or
    was skipped stays. An existing file is skipped, and its source stays, unless both have the same
    content; use --overwrite to replace it. Folders stay where they are, emptied.
    """
    places = [parse_location(source) for source in sources]
    target = parse_location(destination)
    if any(isinstance(place, (Stream, Link)) for place in (*places, target)):
        raise UsageProblem(
            'a stream or a link cannot be moved', hint="'storj cp' copies from and to both"
        )
    _check_places(places, target, recursive, None)
    several = _is_several(places, recursive)
    copying, moving = session.split(options, several=several, move=True)
    copier = session.copier(copying, moving)
    if not isinstance(target, (Local, Remote)):
        return
    whole = dry_run or _is_listed_first(copier, places, target, recursive=recursive)
    found: list[Iterable[Source | Unlisted]] = []
    gone: list[Job] = []
    for place in places:
        try:
            found.append(_expand(session, copier, target, place, recursive=recursive, whole=whole))
        except (FileNotFound, LocalPathNotFound) as error:
            if len(places) == 1:
                raise
            # It may have been moved by an earlier run, which must not keep the others here.
            gone.append(copier.refused(str(place), str(target), error))
    files = itertools.chain.from_iterable(found)
    jobs = copier.jobs(list(files) if whole else files, target)
    every = [*jobs, *gone] if whole else itertools.chain(jobs, gone)
    run_jobs(session, every, moving, several=several, dry_run=dry_run)


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
def cat(session: Session, uris: tuple[str, ...], **options: Any) -> None:
    """Write files to standard output, one after the other."""
    places = [parse_remote(uri, bare=True) for uri in uris]
    copying, moving = session.split(options)
    copier = session.copier(copying, moving)
    found = [
        file
        for place in places
        for file in find_remote(copier.catalog, place, recursive=False, singly=True)
    ]
    write_stream(session, copier, found, moving)


def write_stream(
    session: Session, copier: Downloader, files: Sequence[RemoteFile], options: TransferOptions
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
    """Write bytes to standard output, with bars unless that is a terminal too.

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


def _check_places(
    places: Sequence[Location], target: Location, recursive: bool, byte_range: ByteRange | None
) -> None:
    """Refuse combinations that do not work, before anything is asked or sent."""
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


def _is_several(places: Sequence[Location], recursive: bool) -> bool:
    """Return whether sources may be more than one file, so that the destination is a folder."""
    if isinstance(places[0], Stream):
        return False
    return recursive or len(places) > 1 or any(_is_pattern(place) for place in places)


def _is_pattern(place: Location) -> bool:
    if isinstance(place, Local):
        # As a shell does it: a file whose name looks like a pattern is itself.
        return is_glob(str(place)) and not place.path.exists()
    return isinstance(place, Remote) and is_glob(place.path)


def _is_listed_first(
    copier: Copier, places: Sequence[Location], target: Remote | Local, *, recursive: bool
) -> bool:
    """Return whether all sources are to be known before the first of them is copied."""
    stored = [place for place in places if isinstance(place, Remote)]
    if not recursive and not any(map(_is_pattern, stored)):
        # Named one by one.
        return True
    if not stored or not isinstance(target, Remote):
        return False
    # Copies within a bucket would be listed, and copied, in their turn.
    catalog = copier.catalog
    return catalog.bucket(target.bucket).id in {catalog.bucket(it.bucket).id for it in stored}


def _expand(
    session: Session,
    copier: Copier,
    target: Remote | Local,
    place: Location,
    *,
    recursive: bool,
    whole: bool,
) -> Iterable[Source | Unlisted]:
    """Return the files that a source means; unless they are wanted as a whole, as they are found.

    That there is one is known by then.
    """
    if isinstance(place, Local):
        follow = copier.options.follow_links
        return scan_local(place, recursive=recursive, filters=session.filters, follow=follow)
    if isinstance(place, Remote):
        find = find_remote if whole else scan_remote
        found = find(
            copier.catalog,
            place,
            recursive=recursive,
            filters=session.filters,
            # A copy into a bucket asks for the rest itself.
            brief=isinstance(target, Remote),
        )
        return found if whole else _as_far_as_listed(place, found)
    return [Stream()]


def _as_far_as_listed(
    place: Remote, files: Iterable[RemoteFile]
) -> Iterator[RemoteFile | Unlisted]:
    """Yield files, and last what kept others from being listed: these need not wait for it."""
    try:
        yield from files
    except StorjError as error:
        yield Unlisted(str(place), error)


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

    rows = [_journal_record(entry) for entry in list_journals(session.journal_folder)]
    session.output.table(_JOURNAL_COLUMNS, rows, empty='no transfers to resume')


@transfer.command(
    'clean', examples=('storj transfer clean', 'storj transfer clean --older-than 7d')
)
@click.option(
    '--older-than', type=DURATION, default=0.0, help='Only those unchanged for this long, like 7d.'
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
    bridge = _frames_bridge(session) if has_frames else None
    removed = clean_journals(folder, older_than=older_than, bridge=bridge)
    rows = [_journal_record(entry) for entry in removed]
    if session.output.as_json:
        session.output.document(rows)
    else:
        for row in rows:
            session.output.line(f'discarded {row["kind"]} of {row["path"]}')


def _journal_record(entry: Any) -> dict[str, Any]:
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


def _frames_bridge(session: Session) -> Client | None:
    """Return the client that destroys frames; without one they stay on the bridge."""
    try:
        return session.client
    except ClientError as error:
        session.output.note(f'frames stay on their bridges: {explain(error).message}')
        return None
