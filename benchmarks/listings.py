"""Listings of large buckets: ``python -m benchmarks.listings [--files 100000] [--runs 3]``.

A bridge of its own serves a bucket that is filled as rows, with encrypted names and indices as
uploads make them; each command is a process. ``client CPU`` is its processor time, ``bridge CPU``
that of the bridge meanwhile, and ``peak`` the largest memory of the command.
"""

from __future__ import annotations

import argparse
import itertools
import os
import secrets
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from benchmarks.growth import EMAIL, Client, bridge, fill, prepare
from benchmarks.measure import MIB, median, run, table
from storj import sharding
from storj.crypto import keys, mnemonic, names

FILES = 100_000
_FOLDER = 1000
_NOW = 1_700_000_000_000


def path_of(number: int) -> str:
    """Return the name of a file: a thousand to a folder."""
    return f'folder {number // _FOLDER:03}/picture {number:06}.jpg'


def name_files(url: str, bucket: str, words: str, count: int) -> None:
    """Give the files of a filled bucket encrypted names, the ids that follow, and HMACs."""
    engine = sa.create_engine(url)
    key = keys.bucket_key(words, bucket)
    statement = sa.text(
        'UPDATE entries SET id = :file, name = :name, created = :moment, "index" = :number,'
        " hmac_type = 'sha512', hmac_value = :proof WHERE name = :before"
    )

    def rows() -> Iterator[dict[str, object]]:
        for number in range(count):
            name = names.encrypt_file_name(key, bucket, path_of(number))
            yield {
                'file': sharding.file_id(bucket, name),
                'name': name,
                'moment': _NOW + number,
                'number': secrets.token_hex(32),
                'proof': secrets.token_hex(64),
                'before': f'file {number}',
            }

    with engine.begin() as connection:
        connection.execute(sa.text('CREATE INDEX by_name ON entries (name)'))
        made = rows()
        # Not all at once: what this process grows to counts as memory of its children.
        while some := list(itertools.islice(made, 1000)):
            connection.execute(statement, some)
        connection.execute(sa.text('DROP INDEX by_name'))
    engine.dispose()


def make_folder(folder: Path, count: int) -> None:
    """Make the files on this machine too, of the same size and older."""
    before = _NOW / 1000 - 1000
    for number in range(count):
        path = folder / path_of(number)
        if number % _FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(bytes(1024))
        os.utime(path, (before, before))


def commands(folder: Path, count: int) -> Iterator[list[str]]:
    """Yield what is measured."""
    yield ['ls', f'storj://photos/{path_of(count // 2)}']
    yield ['ls', 'storj://photos']
    yield ['ls', '-r', 'storj://photos']
    yield ['ls', '-r', '--json', 'storj://photos']
    yield ['find', 'storj://photos', '--name', '*1.jpg']
    yield ['du', '-s', 'storj://photos']
    yield ['tree', '-d', 'storj://photos']
    yield ['sync', '--quiet', str(folder), 'storj://photos']
    yield ['sync', '--dry-run', str(folder), 'storj://photos/copies']
    yield ['sync', '--dry-run', 'storj://photos', str(folder.with_name('copies'))]


def measure(client: Client, home: Path, words: str, count: int, runs: int) -> Iterator[list[str]]:
    """Yield a row for each command."""
    folder = home / 'photos'
    make_folder(folder, count)
    environment = {key: text for key, text in os.environ.items() if not key.startswith('STORJ_')}
    environment.pop('PYTHONDONTWRITEBYTECODE', None)
    environment |= {
        'PYTHONPYCACHEPREFIX': str(home / 'compiled'),
        'STORJ_CONFIG_DIR': str(home / 'config'),
        'STORJ_BRIDGE': f'http://127.0.0.1:{client.port}',
        'STORJ_BRIDGE_USER': EMAIL,
        'STORJ_BRIDGE_PASS': 'correct horse',
        'STORJ_ENCRYPTION_KEY': words,
    }
    for command in commands(folder, count):
        taken, used = [], []
        for _ in range(runs):
            before = client.cpu()
            taken.append(run([sys.executable, '-m', 'storj', *command], environment))
            used.append(client.cpu() - before)
        middle = median(taken)
        shown = shlex.join(['~' if part == str(folder) else part for part in command])
        yield [
            shown,
            f'{middle.wall:.2f}',
            f'{middle.cpu:.2f}',
            f'{sorted(used)[runs // 2]:.2f}',
            f'{middle.peak / MIB:.0f} MiB',
        ]


def main(count: int = FILES, runs: int = 3) -> None:
    """Print the table."""
    words = mnemonic.generate()
    with tempfile.TemporaryDirectory(prefix='storj-listings-') as name:
        home = Path(name)
        url = f'sqlite:///{home / "bridge.sqlite"}'
        prepare(url)
        with bridge(url, home / 'bridge') as client:
            stored = names.encrypt_bucket_name(words, 'photos')
            bucket = client.call('POST', '/buckets', {'name': stored}, (201,))['id']
            began = time.monotonic()
            fill(url, count, bucket)
            name_files(url, bucket, words, count)
            print(f'{count:,} files, filled in {time.monotonic() - began:.0f} s', file=sys.stderr)
            rows = [['storj', 'wall s', 'client CPU s', 'bridge CPU s', 'peak']]
            rows += measure(client, home, words, count, runs)
    print(table(rows))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(prog='python -m benchmarks.listings', description=__doc__)
    parser.add_argument('--files', type=int, default=FILES)
    parser.add_argument('--runs', type=int, default=3)
    options = parser.parse_args()
    main(options.files, options.runs)
