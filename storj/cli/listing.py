"""``storj ls``: buckets, and the files of one as if ``/`` made folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from storj.catalog.entries import FileEntry
from storj.catalog.errors import FileNotFound
from storj.catalog.filters import match_glob
from storj.catalog.places import is_glob, parse_remote
from storj.cli.command import command
from storj.cli.completion import complete_uri
from storj.cli.output import Column, count_of
from storj.cli.session import Session, pass_session

__all__ = ('BUCKET_COLUMNS', 'FILE_COLUMNS', 'ls')

_ID = Column('id')
BUCKET_COLUMNS = (
    Column('created', kind='time'),
    Column('name', style={'fg': 'blue', 'bold': True}),
)
FILE_COLUMNS = (
    Column('created', kind='time'),
    Column('size', kind='size'),
    Column('name'),
)


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
def ls(session: Session, uri: str | None, recursive: bool, ids: bool) -> None:
    """List buckets, or the files of a bucket."""
    if uri is None or uri == 'storj://':
        columns = [_ID] * ids + list(BUCKET_COLUMNS)
        buckets = [entry.to_dict() for entry in session.catalog.buckets()]
        session.output.table(columns, buckets, empty="no buckets; make one with 'storj mb'")
        _note_closed(session, buckets)
        return
    place = parse_remote(uri, bare=True)
    bucket = session.catalog.bucket(place.bucket)
    files = session.catalog.files(bucket)
    if is_glob(place.path) and place.path not in {entry.name for entry in files}:
        chosen = [entry for entry in files if match_glob(entry.name, place.path)]
        rows = [_file_row(entry) for entry in chosen]
    else:
        chosen = [entry for entry in files if _is_below(entry, place.path)]
        rows = list(_folded(chosen, place.path, recursive))
    if not rows and not place.is_folder:
        raise FileNotFound(f'no such file: {place}')
    session.output.table([_ID] * ids + list(FILE_COLUMNS), rows, empty=f'no files in {place}')
    if recursive and rows:
        total = session.output.cell(sum(entry.size or 0 for entry in chosen), 'size')
        session.output.note(f'{count_of(len(chosen), "file")}, {total}')
    _note_closed(session, rows)


def _note_closed(session: Session, rows: Iterable[Mapping[str, Any]]) -> None:
    """Say why names are shown as they are stored: it is the first sign of words that are wrong."""
    from storj.crypto import names

    closed = [
        row
        for row in rows
        if not row.get('encrypted_name', True) and names.looks_encrypted(row['name'])
    ]
    if closed:
        number = count_of(len(closed), 'name')
        words = 'the words do not open' if session.words else 'there are no words to open'
        session.output.note(f'{words} {number}')


def _is_below(entry: FileEntry, path: str) -> bool:
    """Return whether a file is what a path names, or lies below it."""
    if not path or path.endswith('/'):
        return entry.name.startswith(path)
    return entry.name == path or entry.id == path or entry.name.startswith(f'{path}/')


def _folded(entries: Iterable[FileEntry], path: str, recursive: bool) -> Iterable[dict[str, Any]]:
    """Yield the rows of files, and one for each prefix that holds more of them."""
    base = path if not path or path.endswith('/') else f'{path}/'
    seen: set[str] = set()
    for entry in entries:
        below = entry.name.removeprefix(base) if entry.name.startswith(base) else ''
        folder, slash, _ = below.partition('/')
        if recursive or not slash:
            yield _file_row(entry)
        elif folder not in seen:
            seen.add(folder)
            yield {'type': 'prefix', 'name': f'{base}{folder}/'}


def _file_row(entry: FileEntry) -> dict[str, Any]:
    return {'type': 'file', **entry.to_dict()}
