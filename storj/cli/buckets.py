"""``storj bucket``, ``mb`` and ``rb``; ``storj-bucket`` is the same family as ``bucket``.

The last three commands are those of 0.1.5 to 0.3, for programs and tests that call them through
click and replace ``storj.cli.get_client``; they print the lines of those releases.
"""

from __future__ import annotations

from contextlib import closing

import click

from storj import cli
from storj.catalog.entries import BucketEntry
from storj.catalog.errors import UsageProblem
from storj.catalog.places import SCHEME, parse_remote
from storj.cli.command import command, group
from storj.cli.completion import complete_bucket, complete_uri
from storj.cli.options import yes_option
from storj.cli.output import Column
from storj.cli.prompts import confirm
from storj.cli.session import Session, pass_session
from storj.text import count_of, printable

BUCKET_COLUMNS = (
    Column('created', kind='time'),
    Column('name', style={'fg': 'blue', 'bold': True}),
)
FILE_COLUMNS = (Column('created', kind='time'), Column('size', kind='size'), Column('name'))
_COLUMNS = (
    Column('id'),
    *BUCKET_COLUMNS,
    Column('storage', 'STORAGE GB', kind='count'),
    Column('transfer', 'TRANSFER GB', kind='count'),
)


def _make(
    session: Session, name: str, plain_names: bool | None, **limits: int | None
) -> BucketEntry:
    """Create a bucket under its name, encrypted or not."""
    catalog = session.catalog_for(plain_names=plain_names)
    made = session.client.bucket_create(name, encrypt_name=catalog.encrypts_names, **limits)
    found = catalog.describe_bucket(made)
    session.output.done(f'bucket {found.name} created, id {found.id}', found.to_dict())
    return found


def _remove(session: Session, text: str, yes: bool) -> None:
    """Delete a bucket and the entries of its files, after a question that counts them."""
    found = session.catalog.bucket(text)
    count = sum(1 for _ in session.catalog.scan(found, brief=True))
    confirm(f'remove bucket {found.name} with {count_of(count, "file")}', yes=yes)
    session.client.bucket_delete(found.id)
    session.output.done(
        f'bucket {found.name} removed', {**found.to_dict(), 'files': count, 'removed': True}
    )


def bucket_name(text: str) -> str:
    """Return the bucket of a URI or of a bare name; a bare name may hold anything."""
    if not text.startswith(SCHEME):
        return text
    place = parse_remote(text)
    if place.path:
        # Who removes a prefix with 'rb' would lose the whole bucket.
        raise UsageProblem(
            f'{place} is no bucket', hint=f'a bucket is written {SCHEME}{place.bucket}'
        )
    return place.bucket


_plain_names = click.option(
    '--plain-names/--encrypt-names',
    default=None,
    help='Store the name in clear, or encrypted (the usual).',
)


@command('mb', short_help='Make a bucket.', examples=('storj mb storj://photos', 'storj mb photos'))
@click.argument('bucket')
@_plain_names
@pass_session
def mb(session: Session, bucket: str, plain_names: bool | None) -> None:
    """Make a bucket."""
    _make(session, bucket_name(bucket), plain_names)


@command('rb', short_help='Remove a bucket.', examples=('storj rb storj://photos',))
@click.argument('bucket', shell_complete=complete_uri)
@yes_option
@pass_session
def rb(session: Session, bucket: str, yes: bool) -> None:
    """Remove a bucket.

    The bridge forgets the files in it as well; their shards expire at the farmers.
    """
    _remove(session, bucket_name(bucket), yes)


@group(
    'bucket',
    short_help='Create, show and remove buckets.',
    examples=('storj bucket create photos', 'storj bucket list', 'storj bucket get photos'),
)
def bucket() -> None:
    """Create, show and remove buckets."""


@bucket.command('create', examples=('storj bucket create photos',))
@click.argument('name')
@click.option('--storage', type=click.IntRange(0), metavar='N', help='Storage limit in GB.')
@click.option('--transfer', type=click.IntRange(0), metavar='N', help='Transfer limit in GB.')
@_plain_names
@pass_session
def create(
    session: Session, name: str, storage: int | None, transfer: int | None, plain_names: bool | None
) -> None:
    """Create a bucket."""
    _make(session, name, plain_names, storage=storage, transfer=transfer)


@bucket.command('get', examples=('storj bucket get photos',))
@click.argument('bucket', shell_complete=complete_bucket)
@pass_session
def get(session: Session, bucket: str) -> None:
    """Show one bucket, found by name or id."""
    session.output.record(session.catalog.bucket(bucket_name(bucket)).to_dict())


@bucket.command('list', examples=('storj bucket list --json',))
@pass_session
def list_(session: Session) -> None:
    """List the buckets with their ids and limits."""
    rows = [entry.to_dict() for entry in session.catalog.buckets()]
    session.output.table(_COLUMNS, rows, empty="no buckets; make one with 'storj mb'")


@bucket.command('delete', examples=('storj bucket delete photos',))
@click.argument('bucket', shell_complete=complete_bucket)
@yes_option
@pass_session
def delete(session: Session, bucket: str, yes: bool) -> None:
    """Remove a bucket, found by name or id."""
    _remove(session, bucket_name(bucket), yes)


# The commands of storj-bucket as release 0.3 had them: their output, to the column, is what
# scripts of that time read. They act through storj.cli.get_client, which programs replace.

#: What ``get`` shows, in the order of the alphabet whatever the case.
_ATTRIBUTES = (
    'created',
    'encryptionKey',
    'id',
    'name',
    'pubkeys',
    'publicPermissions',
    'status',
    'storage',
    'transfer',
    'user',
)


@click.command('create')
@click.argument('name')
@click.option('--storage', type=click.IntRange(0), help='Storage limit in GB.')
@click.option('--transfer', type=click.IntRange(0), help='Transfer limit in GB.')
def old_create(name: str, storage: int | None, transfer: int | None) -> None:
    """Create a bucket."""
    with closing(cli.get_client()) as client:
        client.bucket_create(name, storage=storage, transfer=transfer)
    click.echo(f'Bucket {printable(name)} created')


@click.command('get')
@click.argument('bucket_id')
def old_get(bucket_id: str) -> None:
    """Show the attributes of a bucket."""
    with closing(cli.get_client()) as client:
        bucket = client.bucket_get(bucket_id)
        if bucket is None:
            raise click.ClickException(f'no such bucket: {bucket_id}')
        for attribute in _ATTRIBUTES:
            click.echo(f'{attribute:>18} : {printable(str(getattr(bucket, attribute)))}')


@click.command('list')
def old_list() -> None:
    """List the buckets with their limits."""
    with closing(cli.get_client()) as client:
        for bucket in client.bucket_list():
            line = f'ID: {bucket.id}, Name: {bucket.name}, Storage: {bucket.storage}'
            click.echo(printable(f'[info]   {line}, Transfer: {bucket.transfer}'))
