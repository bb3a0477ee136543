"""``storj file`` and ``storj rm``; ``storj-file`` is the same family."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from storj.catalog.entries import BucketEntry, FileEntry
from storj.catalog.errors import UsageProblem
from storj.catalog.listing import describe_file
from storj.catalog.places import Local, Stream, parse_location, parse_remote, safe_relative_path
from storj.catalog.removal import remove_remote
from storj.catalog.tree import RemoteFile, find_local, find_remote
from storj.cli.buckets import FILE_COLUMNS, bucket_name
from storj.cli.command import command, group
from storj.cli.completion import complete_bucket, complete_file, complete_uri
from storj.cli.copy import write_stream
from storj.cli.errors import PartialFailure
from storj.cli.jobs import Forecast, Summary, finish, report_removals, run_jobs, snapshot
from storj.cli.options import (
    LocalPath,
    dry_run_option,
    filter_options,
    overwrite_option,
    reading_options,
    receiving_options,
    sending_options,
    upload_options,
    yes_option,
)
from storj.cli.output import Column
from storj.cli.progress import Overview, display_for
from storj.cli.prompts import confirm
from storj.cli.session import Session, pass_session
from storj.exception import NotEnoughShardsError
from storj.text import count_of

if TYPE_CHECKING:
    from storj.transfer import Progress

_SHARD_COLUMNS = (
    Column('index', kind='count'),
    Column('size', kind='size'),
    Column('parity'),
    Column('healthy'),
    Column('farmer'),
    Column('error'),
)


@command(
    'rm',
    short_help='Remove files from a bucket.',
    examples=(
        'storj rm storj://photos/cat.jpg',
        "storj rm -r storj://photos/2017/ --exclude '*.jpg'",
    ),
)
@click.argument('uris', nargs=-1, required=True, metavar='URI...', shell_complete=complete_uri)
@click.option('-r', '--recursive', is_flag=True, help='Prefixes with all files below.')
@filter_options
@dry_run_option
@yes_option
@pass_session
def rm(session: Session, uris: tuple[str, ...], recursive: bool, dry_run: bool, yes: bool) -> None:
    """Remove files from a bucket.

    Their shards expire at the farmers. More than one file is asked about first.
    """
    catalog = session.catalog
    places = [parse_remote(uri, bare=True) for uri in uris]
    entries = {
        found.entry.id: found.entry
        for place in places
        for found in find_remote(
            catalog, place, recursive=recursive, filters=session.filters, brief=True
        )
    }
    remove_entries(session, list(entries.values()), dry_run=dry_run, yes=yes or len(entries) == 1)


def remove_entries(
    session: Session, entries: Sequence[FileEntry], *, dry_run: bool = False, yes: bool = False
) -> None:
    """Remove files after a question, or print which would be removed."""
    output, summary = session.output, Summary()
    if not entries:
        output.note('nothing to remove')
        if not output.as_json:
            return
    if dry_run:
        for entry in entries:
            record = {'type': 'file_planned', 'action': 'remove', **entry.to_dict()}
            output.report(f'would remove {entry}', record)
        Forecast(removals=len(entries)).report(output)
        return
    if entries:
        confirm(f'remove {count_of(len(entries), "file")}', yes=yes)
        report_removals(output, remove_remote(session.client, entries), summary)
    finish(output, summary, several=len(entries) > 1)


@group(
    'file',
    short_help='Upload, download, inspect and remove files.',
    examples=(
        'storj file upload photos cat.jpg',
        'storj file list photos',
        'storj file info photos cat.jpg',
        'storj file verify photos cat.jpg',
    ),
)
def file() -> None:
    """Upload, download, inspect and remove files.

    Bucket and file are given by name or id; info, mirrors and verify take one URI as well.
    """


def _bucket(session: Session, text: str) -> BucketEntry:
    return session.catalog.bucket(bucket_name(text))


def _find(session: Session, bucket: str, name: str | None) -> FileEntry:
    """Return the file of a bucket and a name, or of one URI."""
    if name is None:
        place = parse_remote(bucket)
        if place.is_folder:
            raise UsageProblem(f'{place} names no file')
        bucket, name = place.bucket, place.path
    return session.catalog.file(_bucket(session, bucket), name)


@file.command('upload', examples=('storj file upload photos cat.jpg',))
@click.argument('bucket', shell_complete=complete_bucket)
@click.argument('paths', nargs=-1, required=True, metavar='PATH...')
@click.option('--name', help='Name in the bucket, for a single file.')
@overwrite_option
@upload_options
@sending_options
@pass_session
def upload(
    session: Session, bucket: str, paths: tuple[str, ...], name: str | None, **options: Any
) -> None:
    """Upload files to a bucket, each under the last part of its path."""
    several = len(paths) > 1
    if name is not None and several:
        raise click.UsageError('--name is for a single file')
    if name is None and '-' in paths:
        raise click.UsageError('standard input needs a --name')
    target = _bucket(session, bucket)
    copying, moving = session.split(options, several=several)
    copier = session.copier(copying, moving)
    jobs = []
    for path in paths:
        place = parse_location(path)
        if isinstance(place, Stream):
            jobs.append(copier.upload_as(place, target, name or ''))
        elif isinstance(place, Local):
            jobs.extend(
                copier.upload_as(found, target, name or found.name)
                for found in find_local(place, recursive=False)
            )
        else:
            raise click.UsageError(f'{place} is not a local file')
    run_jobs(session, jobs, moving, several=several)


@file.command('download', examples=('storj file download photos cat.jpg here.jpg',))
@click.argument('bucket', shell_complete=complete_bucket)
@click.argument('file', shell_complete=complete_file)
@click.argument('path', required=False, type=LocalPath())
@overwrite_option
@receiving_options
@pass_session
def download(session: Session, bucket: str, file: str, path: str | None, **options: Any) -> None:
    """Download a file.

    Without a PATH it goes into the current folder under its own name.
    """
    entry = _find(session, bucket, file)
    copying, moving = session.split(options)
    copier = session.copier(copying, moving)
    if path == '-':
        write_stream(session, copier, [RemoteFile(entry.name, entry)], moving)
        return
    target = Path(path or '')
    if path is None or target.is_dir():
        target /= safe_relative_path(entry.name.rpartition('/')[2])
    run_jobs(session, [copier.download(entry, target)], moving, several=False)


@file.command('list', examples=('storj file list photos',))
@click.argument('bucket', shell_complete=complete_bucket)
@pass_session
def list_(session: Session, bucket: str) -> None:
    """List the files of a bucket with their ids."""
    found = session.catalog.files(_bucket(session, bucket), brief=True)
    columns = (Column('id'), *FILE_COLUMNS, Column('mimetype', 'TYPE'))
    session.output.table(columns, map(FileEntry.to_dict, found), empty='no files')


@file.command('remove', examples=('storj file remove photos cat.jpg',))
@click.argument('bucket', shell_complete=complete_bucket)
@click.argument('files', nargs=-1, required=True, metavar='FILE...', shell_complete=complete_file)
@yes_option
@pass_session
def remove(session: Session, bucket: str, files: tuple[str, ...], yes: bool) -> None:
    """Remove files of a bucket."""
    target = _bucket(session, bucket)
    entries = [session.catalog.file(target, name) for name in files]
    remove_entries(session, entries, yes=yes or len(entries) == 1)


@file.command(
    'info',
    examples=('storj file info photos cat.jpg --json', 'storj file info storj://photos/cat.jpg'),
)
@click.argument('bucket', shell_complete=complete_bucket)
@click.argument('file', required=False, shell_complete=complete_file)
@pass_session
def info(session: Session, bucket: str, file: str | None) -> None:
    """Show what the bridge knows of a file, as 'storj stat' does."""
    record = describe_file(session.catalog, _find(session, bucket, file))
    session.output.record(record, {'size': 'size', 'stored_size': 'size'})


@file.command('mirrors', examples=('storj file mirrors photos cat.jpg',))
@click.argument('bucket', shell_complete=complete_bucket)
@click.argument('file', required=False, shell_complete=complete_file)
@pass_session
def mirrors(session: Session, bucket: str, file: str | None) -> None:
    """Show the farmers that hold a copy of each shard."""
    entry = _find(session, bucket, file)
    rows = []
    for shard, found in enumerate(session.client.file_mirrors(entry.bucket.id, entry.id)):
        for state in ('established', 'available'):
            for mirror in getattr(found, state) or ():
                # Since bridge 5.23 the contract alone; before, the contact as well.
                contact = mirror.get('contact') or {}
                contract = mirror.get('contract') or {}
                rows.append(
                    {
                        'shard': shard,
                        'hash': mirror.get('shardHash'),
                        'state': state,
                        'node_id': contact.get('nodeID') or contract.get('farmer_id'),
                        'address': contact.get('address'),
                        'port': contact.get('port'),
                    }
                )
    columns = (
        Column('shard', kind='count'),
        Column('state'),
        Column('hash'),
        Column('node_id', 'FARMER'),
    )
    session.output.table(columns, rows, empty='no mirrors')


@file.command('verify', examples=('storj file verify photos cat.jpg',))
@click.argument('bucket', shell_complete=complete_bucket)
@click.argument('file', required=False, shell_complete=complete_file)
@reading_options
@pass_session
def verify(session: Session, bucket: str, file: str | None, **engine: Any) -> None:
    """Fetch and check every shard of a file, and report how many more may be lost."""
    entry = _find(session, bucket, file)
    copying, moving = session.split(engine)
    transfers = session.transfers(moving, session.client)
    # One document is printed at the end, and no lines before it.
    wanted = False if session.output.as_json else session.wants_progress(moving)
    with display_for(session.output, wanted) as display:

        def show(progress: Progress) -> None:
            shown = snapshot(str(entry), entry.size, progress)
            display.draw(Overview(0, 1, shown.done, shown.total), [shown])

        health = transfers.verify(
            entry.bucket.id, entry.id, decrypt=not copying.plain, progress=show
        )
    rows = [dataclasses.asdict(shard) for shard in health.shards]
    have, count = health.have, len(rows)
    if session.output.as_json:
        record = {
            'have': have,
            'need': health.need,
            'recoverable': health.recoverable,
            'authenticated': health.authenticated,
        }
        session.output.document({**entry.to_dict(), **record, 'shards': rows})
    else:
        session.output.table(_SHARD_COLUMNS, rows, empty='an empty file has no shards')
    if not health.recoverable:
        raise NotEnoughShardsError(
            f'{entry} cannot be recovered now: it needs {count_of(health.need, "shard")},'
            f' and {have} are available',
            have,
            health.need,
        )
    if not health.healthy:
        # Not exit code 0: a script that checks files has to notice it before more shards are lost.
        lost = f'{count - have} of {count_of(count, "shard")}'
        raise PartialFailure(f'lost: {lost}; the file is recoverable')
    session.output.note(f'healthy: {have} of {count_of(count, "shard")}')
