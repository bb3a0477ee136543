"""``storj ls``, ``tree``, ``du``, ``find`` and ``stat``: what is stored and what is known of it."""

from __future__ import annotations

import contextlib
import datetime
import gc
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from storj.catalog.entries import FileEntry
from storj.catalog.errors import UsageProblem
from storj.catalog.listing import (
    Branch,
    Criteria,
    Selection,
    Usage,
    branches,
    describe,
    find_files,
    find_folders,
    selections,
    usage,
)
from storj.catalog.places import SCHEME, Remote, parse_remote
from storj.catalog.tree import fold
from storj.cli.buckets import BUCKET_COLUMNS, FILE_COLUMNS
from storj.cli.command import command
from storj.cli.completion import complete_uri
from storj.cli.files import remove_entries
from storj.cli.options import DURATION, SIZE, dry_run_option, filter_options, yes_option
from storj.cli.output import Column, Part, is_terminal, styled
from storj.cli.session import Session, pass_session
from storj.exception import AmbiguousNameError
from storj.text import count_of, printable

_USAGE_COLUMNS = (
    Column('size', kind='size'),
    Column('files', kind='count'),
    Column('uri', 'PLACE'),
)


@contextlib.contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Let a listing grow without a search for cycles each time that it has 700 entries more.

    Entries make no cycles, and to look through all of them takes up to a fifth of a listing.
    """
    usual = gc.get_threshold()
    gc.set_threshold(100_000, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


@command(
    'ls',
    short_help='List buckets, or the files of a bucket.',
    examples=(
        'storj ls                               all buckets',
        'storj ls storj://photos                a bucket; names that end in / hold more',
        'storj ls -r storj://photos/2017/       all files below a prefix',
        "storj ls 'storj://photos/*.jpg'        files that match",
    ),
)
@click.argument('uri', required=False, shell_complete=complete_uri)
@click.option('-r', '--recursive', is_flag=True, help='All files below, in full.')
@click.option('--ids', is_flag=True, help='Show ids too.')
@pass_session
@_collecting_seldom()
def ls(session: Session, uri: str | None, recursive: bool, ids: bool) -> None:
    """List buckets, or the files of a bucket."""
    closed = _Closed()
    if uri is None or uri == 'storj://':
        columns = [Column('id')] * ids + list(BUCKET_COLUMNS)
        rows = closed.counted(entry.to_dict() for entry in session.catalog.buckets())
        session.output.table(columns, rows, empty="no buckets; make one with 'storj mb'")
        closed.note(session)
        return
    place = parse_remote(uri, bare=True)
    columns = [Column('id')] * ids + list(FILE_COLUMNS)
    [selection] = selections(session.catalog, [place])
    entry = None if recursive else _file_at(selection)
    content = Usage(str(place))
    found = selection.files() if entry is None else [entry]
    lines = _lines(selection, _summed(found, content), recursive)
    if session.output.as_json:
        # As the bridge lists them: a large bucket is never in memory as a whole.
        # The first at once: a place that holds nothing is an error, and then nothing is printed.
        rest = iter(lines)
        first = list(itertools.islice(rest, 1))
        session.output.documents(closed.counted(map(_row, itertools.chain(first, rest))))
        return
    rows = closed.counted(map(_row, lines))
    session.output.table(columns, rows, empty=f'no files in {place}', order='name')
    if recursive and content.files:
        total = session.output.cell(content.size, 'size')
        session.output.note(f'{count_of(content.files, "file")}, {total}')
    closed.note(session)


def _summed(files: Iterable[FileEntry], content: Usage) -> Iterator[FileEntry]:
    """Yield files, and add them to a sum."""
    for entry in files:
        content.add(entry.size)
        yield entry


def _file_at(selection: Selection) -> FileEntry | None:
    """Return the one file that a place names; None if the bucket has to be listed to know."""
    if selection.is_pattern or not selection.path or selection.path.endswith('/'):
        return None
    try:
        return selection.catalog.find_file(selection.bucket, selection.path)
    except AmbiguousNameError:
        return None


def _lines(
    selection: Selection, files: Iterable[FileEntry], recursive: bool
) -> Iterable[FileEntry | str]:
    """Return files, and prefixes for those further below unless all are wanted."""
    return files if recursive or selection.is_pattern else fold(files, selection.path)


def _row(item: FileEntry | str) -> dict[str, Any]:
    if isinstance(item, str):
        return {'type': 'prefix', 'name': item}
    return {'type': 'file', **item.to_dict()}


class _Closed:
    """Counts the names that are shown as they are stored, encrypted."""

    def __init__(self) -> None:
        self._count = 0

    def counted(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield rows as they come, and count those among them."""
        for row in rows:
            self.add(row)
            yield row

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row, if it is one of them."""
        if row.get('encrypted_name', True):
            return
        from storj.crypto import names

        if names.looks_encrypted(row['name']):
            self._count += 1

    def note(self, session: Session) -> None:
        """Note why names are shown as stored: the first sign of a wrong encryption key."""
        if self._count:
            key = session.encryption_key
            reason = 'the encryption key does not open' if key else 'no encryption key for'
            session.output.note(f'{reason} {count_of(self._count, "name")}')


def _places(uris: Sequence[str]) -> list[Remote]:
    """Return the places of a command; none at all if every bucket is meant."""
    if SCHEME in uris:
        return []
    return [parse_remote(uri, bare=True) for uri in uris]


@command(
    'du',
    short_help='Sum up the files of buckets and folders.',
    examples=(
        'storj du                               every bucket and its folders',
        'storj du -s storj://photos             one sum',
        'storj du -d 1 storj://photos/2017/     a prefix and the folders directly in it',
        "storj du -s storj://photos --include '*.jpg'",
    ),
)
@click.argument('uris', nargs=-1, metavar='[URI]...', shell_complete=complete_uri)
@click.option(
    '-d',
    '--max-depth',
    'depth',
    type=click.IntRange(0),
    metavar='N',
    help='Levels of folders that get a line of their own; all by default.',
)
@click.option('-s', '--summarize', is_flag=True, help='One sum for each URI, as -d 0.')
@click.option('-c', '--total', is_flag=True, help='Print the sum of all URIs too, last.')
@filter_options
@pass_session
@_collecting_seldom()
def du(
    session: Session, uris: tuple[str, ...], depth: int | None, summarize: bool, total: bool
) -> None:
    """Sum up the files of buckets and folders.

    Without a URI, every bucket is summed up, and all of them together. Sizes are those of the
    files, without parity shards and mirrors.
    """
    if summarize and depth:
        raise click.UsageError('-s is -d 0: give one of them')
    places = _places(uris)
    rows: list[Usage] = []
    whole = Usage('total')
    for selection in selections(session.catalog, places):
        found = usage(selection, session.filters, 0 if summarize else depth)
        whole.add(found[-1].size, found[-1].files)
        rows += found
    if total or not places:
        rows.append(whole)
    records = [row.to_dict() for row in rows]
    session.output.table(_USAGE_COLUMNS, records, empty='')


@command(
    'tree',
    short_help='Show buckets and folders as a tree.',
    examples=(
        'storj tree storj://photos',
        'storj tree -s -L 2 storj://photos      sizes, two levels deep',
        'storj tree -d                          the folders of every bucket',
        "storj tree storj://photos --include '*.jpg'",
    ),
)
@click.argument('uris', nargs=-1, metavar='[URI]...', shell_complete=complete_uri)
@click.option(
    '-L',
    '--level',
    'levels',
    type=click.IntRange(1),
    metavar='N',
    help='Levels of folders and files to show; all by default.',
)
@click.option('-d', '--dirs-only', 'folders_only', is_flag=True, help='Folders only.')
@click.option('-s', '--sizes', is_flag=True, help='Sizes of files, and sums of folders.')
@filter_options
@pass_session
@_collecting_seldom()
def tree(
    session: Session, uris: tuple[str, ...], levels: int | None, folders_only: bool, sizes: bool
) -> None:
    """Show buckets and folders as a tree.

    Without a URI, every bucket is shown. With --json, files and folders are one list, as deep in
    the tree as their 'depth' says.
    """
    closed = _Closed()
    # A place that holds nothing is an error, and then nothing is printed.
    trees = [
        (it, branches(it, session.filters, levels=levels, folders_only=folders_only))
        for it in selections(session.catalog, _places(uris))
    ]
    if session.output.as_json:
        rows = (
            {'bucket': selection.bucket.id, **branch.to_dict()}
            for selection, found in trees
            for branch in found
        )
        session.output.documents(closed.counted(rows))
        closed.note(session)
        return
    files = folders = 0
    for selection, found in trees:
        _draw(session, str(selection), found, sizes=sizes)
        for branch in found:
            if branch.entry is None:
                folders += 1
            else:
                files += 1
                closed.add({'name': branch.place, 'encrypted_name': branch.entry.encrypted})
    counts = [count_of(folders, 'folder')] + [count_of(files, 'file')] * (not folders_only)
    session.output.note(', '.join(counts))
    closed.note(session)


def _draw(session: Session, root: str, found: Iterable[Branch], *, sizes: bool) -> None:
    """Print the lines of one tree."""
    output = session.output
    through, corner, fork, gap = _strokes()
    output.line(styled(root, bold=True))

    def line(branch: Branch) -> list[Part]:
        way = ''.join(through if is_open else gap for is_open in branch.open)
        parts: list[Part] = [way + (corner if branch.is_last else fork)]
        if sizes:
            parts.append(f'[{output.cell(branch.content.size, "size"):>10}]  ')
        name = styled(branch.name, fg='blue', bold=True) if branch.entry is None else branch.name
        return [*parts, name]

    output.lines(map(line, found))


def _strokes() -> tuple[str, str, str, str]:
    """Return the lines that a tree is drawn with, of characters that standard output has."""
    strokes = ('\u2502   ', '\u2514\u2500\u2500 ', '\u251c\u2500\u2500 ', '    ')
    try:
        ''.join(strokes).encode(sys.stdout.encoding or 'utf-8')
    except UnicodeEncodeError:
        return ('|   ', '`-- ', '|-- ', '    ')
    return strokes


@command(
    'find',
    short_help='Find files by name, size and age.',
    examples=(
        "storj find storj://photos --name '*.jpg' --min-size 1MiB",
        'storj find --max-age 7d                          new files of every bucket',
        'storj find storj://photos --type d --name 2017',
        'storj find storj://logs --min-age 365d --delete',
        'storj find -0 storj://photos/2017 | xargs -0 storj cat',
    ),
)
@click.argument('uris', nargs=-1, metavar='[URI]...', shell_complete=complete_uri)
@click.option(
    '--name',
    'names',
    multiple=True,
    metavar='PATTERN',
    help='The last part of the name matches; repeatable, one of them is enough.',
)
@click.option(
    '--type',
    'kind',
    type=click.Choice(('f', 'd')),
    default='f',
    show_default=True,
    help='Files (f) or folders (d).',
)
@click.option('--min-size', type=SIZE, help='This size or larger, like 10MiB.')
@click.option('--max-size', type=SIZE, help='This size or smaller.')
@click.option('--min-age', type=DURATION, help='Stored this long ago or longer, like 30d.')
@click.option('--max-age', type=DURATION, help='Stored this long ago or later.')
@filter_options
@click.option('-0', '--print0', is_flag=True, help='End each name with NUL, for xargs -0.')
@click.option('--delete', '-delete', is_flag=True, help='Remove the files found; asks first.')
@dry_run_option
@yes_option
@pass_session
@_collecting_seldom()
def find(
    session: Session,
    uris: tuple[str, ...],
    kind: str,
    print0: bool,
    delete: bool,
    dry_run: bool,
    yes: bool,
    **wanted: Any,
) -> None:
    """Find files by name, size and age.

    Without a URI, every bucket is searched. Files that meet all criteria are printed, sorted by
    name, as URIs that other commands accept. Patterns of --name match case; quote them.
    """
    places = _places(uris)
    bounds = [wanted[name] for name in ('min_size', 'max_size', 'min_age', 'max_age')]
    if kind == 'd' and (delete or any(bound is not None for bound in bounds)):
        raise UsageProblem('folders have neither size nor age, and exist by their files alone')
    if delete:
        _check_removal(places, print0=print0)
    elif dry_run or yes:
        raise UsageProblem('--dry-run and --yes are for --delete')
    criteria = _criteria(session, **wanted)
    found = selections(session.catalog, places)
    if delete:
        files = {entry.id: entry for it in found for entry in find_files(it, criteria)}
        remove_entries(session, list(files.values()), dry_run=dry_run, yes=yes)
        return
    closed = _Closed()
    # What matches is in memory, in order, and shown as rows of which there are a few at a time.
    matches = [list(_matches(it, criteria, kind)) for it in found]
    rows = closed.counted(map(_found, itertools.chain.from_iterable(matches)))
    if session.output.as_json:
        session.output.documents(rows)
    elif print0:
        escaping = is_terminal(sys.stdout)
        for row in rows:
            sys.stdout.buffer.write(_terminated(row['uri'], escaping=escaping))
        sys.stdout.flush()
    else:
        session.output.lines([row['uri']] for row in rows)
    if not any(matches):
        session.output.note('nothing found')
    closed.note(session)


def _check_removal(places: Sequence[object], *, print0: bool) -> None:
    if not places:
        raise UsageProblem('--delete needs a URI', hint='name the bucket: storj://BUCKET')
    if print0:
        raise UsageProblem('give either --print0 or --delete')


def _criteria(
    session: Session,
    names: Sequence[str],
    min_size: int | None,
    max_size: int | None,
    min_age: float | None,
    max_age: float | None,
) -> Criteria:
    now = datetime.datetime.now(datetime.timezone.utc)

    def ago(age: float | None) -> datetime.datetime | None:
        if age is None:
            return None
        try:
            return now - datetime.timedelta(seconds=age)
        except OverflowError:
            return datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)

    return Criteria(names, min_size, max_size, ago(min_age), ago(max_age), session.filters)


def _matches(
    selection: Selection, criteria: Criteria, kind: str
) -> Iterator[tuple[Selection, FileEntry | str]]:
    """Yield each file, or the name of each folder, of a place."""
    items = find_folders(selection, criteria) if kind == 'd' else find_files(selection, criteria)
    for item in items:
        yield selection, item


def _found(match: tuple[Selection, FileEntry | str]) -> dict[str, Any]:
    """Return the record of a match."""
    selection, item = match
    if isinstance(item, FileEntry):
        return {'type': 'file', 'uri': str(item), **item.to_dict()}
    bucket = selection.bucket
    return {'type': 'prefix', 'uri': str(bucket.place(item)), 'bucket': bucket.id, 'name': item}


def _terminated(uri: str, *, escaping: bool) -> bytes:
    """Return a URI in UTF-8, with a NUL at its end.

    Args:
        uri (str): of a file.
        escaping (bool): whether a terminal reads it.
    """
    # A NUL within a name would make two names of it, the second of another's choice.
    text = printable(uri) if escaping or '\0' in uri else uri
    try:
        return text.encode('utf-8', 'surrogateescape') + b'\0'
    except UnicodeEncodeError:
        return printable(text).encode() + b'\0'


@command(
    'stat',
    short_help='Show all that is known of a bucket or file.',
    examples=(
        'storj stat storj://photos/cat.jpg',
        'storj stat storj://photos --json',
        'storj stat storj://photos/2017/        how much is below a prefix',
    ),
)
@click.argument('uri', shell_complete=complete_uri)
@pass_session
def stat(session: Session, uri: str) -> None:
    """Show all that is known of a bucket, a prefix or a file.

    The size of a file is that of its content; 'stored size' includes parity shards. 'copies'
    counts the shards that farmers hold, and 'farmers' who they are, as far as the bridge tells.
    """
    closed, record = _Closed(), describe(session.catalog, parse_remote(uri, bare=True))
    session.output.record(record, {'size': 'size', 'stored_size': 'size'})
    closed.add(record)
    closed.note(session)
