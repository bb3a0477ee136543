"""``storj du``, ``tree``, ``find`` and ``stat`` on one bucket that is not changed."""

from __future__ import annotations

import pytest

from storj.http import Client

SIZES = {'a.txt': 3, '2016/jan/x.jpg': 5000, '2016/y.jpg': 2000, '2017/ü\x1b[31m.txt': 4}


@pytest.fixture(scope='module')
def stored(network):
    """The name of a bucket with files of :data:`SIZES`."""
    with Client(
        network.email, network.password, network.bridge_url, mnemonic=network.mnemonic
    ) as client:
        bucket = client.bucket_create('listings')
        for name, size in SIZES.items():
            client.file_upload(bucket.id, bytes(size), name=name)
        yield 'listings'
        client.bucket_delete(bucket.id)


# ---- du


def test_du_sums_up_folders_and_places(storj, stored):
    done = storj('du', f'storj://{stored}')
    assert done.out.splitlines() == [
        '   SIZE  FILES  PLACE',
        '4.9 KiB      1  storj://listings/2016/jan/',
        '6.8 KiB      2  storj://listings/2016/',
        '    4 B      1  storj://listings/2017/',
        '6.8 KiB      4  storj://listings/',
    ]
    uri = f'storj://{stored}/2016'
    rows = storj('du', '-s', '-c', '--json', uri, f'{stored}/a.txt').json()
    assert rows == [
        {'uri': uri, 'size': 7000, 'files': 2},
        {'uri': f'storj://{stored}/a.txt', 'size': 3, 'files': 1},
        {'uri': 'total', 'size': 7003, 'files': 3},
    ]
    assert '7000' in storj('du', '--bytes', '-d1', stored, '--include', '*.jpg').out


def test_du_without_a_place_sums_up_the_account(storj, stored):
    rows = storj('du', '-d', '0', '--json').json()
    assert {'uri': f'storj://{stored}/', 'size': sum(SIZES.values()), 'files': 4} in rows
    assert rows[-1]['uri'] == 'total'
    assert rows[-1]['files'] == sum(row['files'] for row in rows[:-1])


def test_du_of_what_is_not_there_says_so(storj, stored):
    assert 'no such bucket: nowhere' in storj('du', 'storj://nowhere', code=5).err
    assert 'no such file' in storj('du', f'storj://{stored}/nothing', code=5).err
    assert 'give one of them' in storj('du', '-s', '-d1', stored, code=2).err


# ---- tree


def test_tree_draws_folders_and_counts_them(storj, stored):
    done = storj('tree', f'storj://{stored}')
    assert done.out.splitlines() == [
        'storj://listings/',
        '├── 2016/',
        '│   ├── jan/',
        '│   │   └── x.jpg',
        '│   └── y.jpg',
        '├── 2017/',
        '│   └── ü\\x1b[31m.txt',
        '└── a.txt',
    ]
    assert done.err == '3 folders, 4 files\n'
    done = storj('tree', '-d', '-s', '-L1', stored)
    assert done.out.splitlines()[1:] == ['├── [   6.8 KiB]  2016/', '└── [       4 B]  2017/']
    assert done.err == '2 folders\n'


def test_tree_of_every_bucket_has_its_lines_in_json(storj, stored):
    rows = [row for row in storj('tree', '--json').json() if row['name'] in ('2016/', '2016/y.jpg')]
    assert [(row['type'], row['depth'], row['size']) for row in rows] == [
        ('prefix', 0, 7000),
        ('file', 1, 2000),
    ]
    assert f'storj://{stored}/' in storj('tree').out.splitlines()
