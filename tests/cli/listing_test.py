"""``storj du``, ``tree``, ``find`` and ``stat`` on one bucket that is not changed."""

from __future__ import annotations

import pytest

from storj.cli.listing import _terminated
from storj.http import Client

SIZES = {'a.txt': 3, '2016/jan/x.jpg': 5000, '2016/y.jpg': 2000, '2017/ü\x1b[31m.txt': 4}


@pytest.fixture(scope='module')
def client(network):
    with Client(
        network.email, network.password, network.bridge_url, mnemonic=network.mnemonic
    ) as client:
        yield client


@pytest.fixture(scope='module')
def stored(client):
    """The name of a bucket with files of :data:`SIZES`."""
    bucket = client.bucket_create('listings')
    for name, size in SIZES.items():
        client.file_upload(bucket.id, bytes(size), name=name)
    yield 'listings'
    client.bucket_delete(bucket.id)


# ---- ls


def test_ls_of_a_file_asks_for_its_id_and_lists_nothing(storj, stored):
    done = storj('-vv', 'ls', '--json', f'storj://{stored}/2016/y.jpg')
    assert [row['name'] for row in done.json()] == ['2016/y.jpg']
    assert '/file-ids/' in done.err
    assert '/files: ' not in done.err
    # A prefix needs the list, which shows what the line above looks for.
    assert '/files: ' in storj('-vv', 'ls', f'storj://{stored}/2016/').err


def test_ls_of_nothing_prints_no_beginning_of_a_list(storj, stored):
    done = storj('ls', '--json', f'storj://{stored}/none', code=5)
    assert done.out == ''


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
    assert storj('du', '-s', '--json', 'storj://', stored).json() == rows
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


# ---- find


def test_find_prints_uris_escaped_and_for_xargs_as_they_are(storj, stored):
    root = f'storj://{stored}'
    done = storj('find', root)
    assert done.out.splitlines() == [
        f'{root}/2016/jan/x.jpg',
        f'{root}/2016/y.jpg',
        f'{root}/2017/ü\\x1b[31m.txt',
        f'{root}/a.txt',
    ]
    assert storj('find', '--min-size', '1K', '--max-size', '2000', '--max-age', '1d').out == (
        f'{root}/2016/y.jpg\n'
    )
    assert storj('find', '--type', 'd', '--name', 'j*').out == f'{root}/2016/jan/\n'
    done = storj('find', '-0', '--name', '*.txt', root)
    assert done.raw == f'{root}/2017/ü\x1b[31m.txt\0{root}/a.txt\0'.encode()
    [row] = storj('find', '--json', '--name', 'a.*', root).json()
    assert (row['uri'], row['size'], row['type']) == (f'{root}/a.txt', 3, 'file')
    assert storj('find', '--min-age', '1d', root).err == 'nothing found\n'
    for age in ('9999999d', '9' * 30):
        assert storj('find', '--min-age', age, root).out == ''
        assert storj('find', '--max-age', age, '--name', 'a.*', root).out == f'{root}/a.txt\n'


def test_name_with_a_nul_is_one_name_for_xargs(storj, bucket, client):
    place = f'storj://{bucket}/victim'
    client.file_upload(client.bucket_id(bucket), b'x', name=f'x\0{place}')
    [name, rest] = storj('find', '-0', f'storj://{bucket}').raw.split(b'\0')
    assert name == f'storj://{bucket}/x\\x00{place}'.encode()
    assert rest == b''


def test_name_for_xargs_is_that_of_the_system_or_escaped():
    assert _terminated('a\udcff\n', escaping=False) == b'a\xff\n\0'
    assert _terminated('a\ud800', escaping=False) == b'a\\ud800\0'
    assert _terminated('a\x1b', escaping=True) == b'a\\x1b\0'


def test_find_removes_after_a_question_only(storj, bucket):
    for name in ('a.log', 'b/c.log', 'd.txt'):
        storj('cp', '-', f'storj://{bucket}/{name}', input='x')
    wanted = ('find', f'storj://{bucket}', '--name', '*.log')
    assert 'remove 2 files needs an answer' in storj(*wanted, '-delete', code=2).err
    assert 'would remove 2 files' in storj(*wanted, '--delete', '--dry-run').err
    assert len(storj('ls', '-r', bucket, '--json').json()) == 3
    done = storj(*wanted, '--delete', '--yes', '--json')
    assert [event['type'] for event in done.events()] == ['file_removed', 'file_removed', 'summary']
    assert storj('find', bucket).out == f'storj://{bucket}/d.txt\n'
    assert storj(*wanted, '--delete').err == 'nothing to remove\n'


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['--delete'], 'needs a URI'),
        (['storj://', '--delete', '--yes'], 'needs a URI'),
        (['b', 'storj://', '--delete', '--yes'], 'needs a URI'),
        (['b', '--type', 'd', '--max-size', '0'], 'folders have neither'),
        (['b', '--type', 'd', '--delete'], 'folders have neither'),
        (['b', '--type', 'd', '--max-age', '1d'], 'folders have neither'),
        (['b', '-0', '--delete'], 'give either'),
        (['b', '--yes'], 'are for --delete'),
        (['b', '--min-size', 'big'], "'big' is no size"),
    ],
)
def test_find_refuses_what_does_not_fit_together(stranger, arguments, complaint):
    assert complaint in stranger('find', *arguments, code=2).err


# ---- stat


def test_stat_tells_all_of_a_file(storj, stored, client):
    uri = f'storj://{stored}/2016/y.jpg'
    record = storj('stat', uri, '--json').json()
    found = client.file_metadata(record['bucket'], record['id'])
    assert record['stored_name'] == found.filename
    assert record == storj('file', 'info', uri, '--json').json()
    told = {name: record[name] for name in ('uri', 'name', 'size', 'hmac', 'erasure', 'index')}
    assert told == {
        'uri': uri,
        'name': '2016/y.jpg',
        'size': 2000,
        'hmac': 'sha512',
        'erasure': None,
        'index': found.index,
    }
    assert (record['shards'], record['copies'], record['farmers']) == (1, 1, 1)
    assert 'stored size     2 KiB' in storj('stat', uri).out


def test_stat_tells_of_buckets_and_prefixes(storj, stored):
    record = storj('stat', stored, '--json').json()
    assert (record['type'], record['files'], record['status']) == ('bucket', 4, 'Active')
    record = storj('stat', f'{stored}/2016', '--json').json()
    assert (record['type'], record['uri'], record['size']) == (
        'prefix',
        f'storj://{stored}/2016/',
        7000,
    )
    for name in ('nothing', 'nothing/'):
        assert 'no such file' in storj('stat', f'storj://{stored}/{name}', code=5).err


def test_stat_leaves_out_what_a_bridge_does_not_tell(storj, stored, client, network):
    record = storj('stat', f'{stored}/a.txt', '--json').json()
    path = f'/buckets/{record["bucket"]}/files/{record["id"]}/mirrors'
    missing = network.faults.add(f'status:route=GET {path},status=404,times=0')
    try:
        record = storj('stat', f'{stored}/a.txt', '--json').json()
    finally:
        network.faults.remove(missing)
    assert (record['copies'], record['farmers'], record['shards']) == (None, None, 1)
