"""The commands on buckets as 0.1.5 to 0.3 had them: ``from storj.cli import create, get, list``.

They print the lines of those releases, for programs and tests that call them through click and
replace ``storj.cli.get_client``. At a shell, ``storj-bucket`` and ``storj bucket`` are the commands
of :mod:`storj.cli.buckets`.
"""

from __future__ import annotations

from contextlib import closing

import click

from storj import cli
from storj.text import printable

__all__ = ('create', 'get', 'list_')

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
def create(name: str, storage: int | None, transfer: int | None) -> None:
    """Create a bucket."""
    with closing(cli.get_client()) as client:
        client.bucket_create(name, storage=storage, transfer=transfer)
    click.echo(f'Bucket {printable(name)} created')


@click.command('get')
@click.argument('bucket_id')
def get(bucket_id: str) -> None:
    """Show the attributes of a bucket."""
    with closing(cli.get_client()) as client:
        bucket = client.bucket_get(bucket_id)
        if bucket is None:
            raise click.ClickException(f'no such bucket: {bucket_id}')
        for attribute in _ATTRIBUTES:
            click.echo(f'{attribute:>18} : {printable(str(getattr(bucket, attribute)))}')


@click.command('list')
def list_() -> None:
    """List the buckets with their limits."""
    with closing(cli.get_client()) as client:
        for bucket in client.bucket_list():
            line = f'ID: {bucket.id}, Name: {bucket.name}, Storage: {bucket.storage}'
            click.echo(printable(f'[info]   {line}, Transfer: {bucket.transfer}'))
