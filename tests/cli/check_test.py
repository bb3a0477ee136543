"""What ``storj check`` finds out about a folder and a prefix, and about two prefixes."""

from __future__ import annotations

import os

import pytest

from storj.sharding import PARITY_THRESHOLD

#: Bytes of a file that may have several shards.
LARGE = PARITY_THRESHOLD + 1


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / 'here'
    (folder / 'deep').mkdir(parents=True)
    (folder / 'same').write_text('same')
    (folder / 'deep' / 'large').write_bytes(os.urandom(LARGE))
    return folder


@pytest.fixture
def there(storj, bucket, here):
    """A prefix that holds what the folder holds."""
    storj('cp', '-r', here, f'storj://{bucket}/there')
    return f'storj://{bucket}/there'


def statuses(done):
    return {event['name']: event['status'] for event in done.events('file_checked')}


def test_equal_places_end_with_0(storj, here, there):
    done = storj('check', here, there)
    assert done.out == 'same: deep/large\nsame: same\n'
    assert done.err == '2 same\n'
    assert storj('check', '-q', there, here).out == ''
    # As old as the copy, and of its size: what sync compares without --checksum.
    assert storj('check', '--download', '--json', here, there).events('summary') == [
        {
            'type': 'summary',
            'files_match': 2,
            'files_differ': 0,
            'files_missing_in_source': 0,
            'files_missing_in_destination': 0,
            'files_error': 0,
            'bytes': LARGE + 4,
        }
    ]


def test_differences_are_reported_on_either_side(storj, bucket, here, there):
    before = (here / 'same').stat()
    (here / 'same').write_text('SAME')
    os.utime(here / 'same', ns=(before.st_atime_ns, before.st_mtime_ns))
    (here / 'new').write_text('x')
    storj('cp', '-', f'{there}/only-there', input='x')
    for options in ((), ('--download',)):
        done = storj('check', '--json', *options, here, there, code=1)
        assert statuses(done) == {
            'deep/large': 'match',
            'same': 'differ',
            'new': 'missing_in_destination',
            'only-there': 'missing_in_source',
        }
    assert done.error()['message'] == '3 differences'
    done = storj('check', '-q', there, here, code=1)
    assert done.out.splitlines() == [
        f'missing in {there}: new',
        f'missing in {here}: only-there',
        'differs: same',
    ]
    rules = ('--exclude', 'same', '--exclude', 'new')
    assert storj('check', '--one-way', *rules, here, there).err == '1 same\n'


def test_nothing_is_fetched_for_a_local_file(storj, here, there, network):
    broken = network.faults.add('refuse:operation=pull,times=0')
    try:
        storj('check', here, there)
        done = storj('check', '--download', '--retries', '0', '--json', here, there, code=None)
    finally:
        network.faults.remove(broken)
    assert set(statuses(done).values()) == {'error'}
    assert done.code in (6, 8)


def test_small_files_are_compared_with_what_the_bridge_lists(storj, bucket, here, there, network):
    broken = network.faults.add(
        f'status:route=POST /buckets/{_id(storj, bucket)},status=403,times=0'
    )
    try:
        done = storj('check', '--json', here, there, code=4)
    finally:
        network.faults.remove(broken)
    assert statuses(done) == {'deep/large': 'error', 'same': 'match'}


def test_unread_folder_is_an_error_and_nothing_in_it_is_missing(storj, here, there, monkeypatch):
    scan = os.scandir

    def scandir(path='.'):
        if os.fspath(path) == str(here / 'deep'):
            raise PermissionError(13, 'Permission denied', str(path))
        return scan(path)

    monkeypatch.setattr(os, 'scandir', scandir)
    done = storj('check', '--json', here, there, code=1)
    assert statuses(done) == {'deep': 'error', 'same': 'match'}
    assert done.error()['error'] == 'PartialFailure'


def test_wrong_encryption_key_is_an_error_for_each_file(storj, bucket, here, network):
    from storj.crypto import mnemonic

    storj('cp', '-r', '--plain-names', here, f'storj://{bucket}/')
    key = mnemonic.generate()
    done = storj('check', here, f'storj://{_id(storj, bucket)}/', code=7, STORJ_ENCRYPTION_KEY=key)
    assert done.out.count('not compared: ') == 2


def _id(storj, bucket):
    return storj('bucket', 'get', bucket, '--json').json()['id']


def test_two_prefixes_are_compared_by_fetching_both(storj, bucket, there):
    storj('sync', there, f'storj://{bucket}/copy')
    storj('check', there, f'storj://{bucket}/copy')
    storj('cp', '--overwrite', '-', f'storj://{bucket}/copy/same', input='SAME')
    done = storj('check', '-q', there, f'storj://{bucket}/copy', code=1)
    assert done.out == 'differs: same\n'


def test_stored_as_it_is_compares_as_it_is(storj, bucket, here):
    storj('cp', '-r', '--no-encrypt', here, f'storj://{bucket}/')
    storj('check', '--plain', here, bucket_uri := f'storj://{bucket}')
    assert storj('check', here, bucket_uri, code=7).out.count('not compared: ') == 2


def test_places_that_are_not_there_are_not_compared(storj, bucket, here):
    assert 'no such folder' in storj('check', here / 'x', f'storj://{bucket}', code=5).err
    assert 'no such bucket' in storj('check', here, 'storj://nowhere', code=5).err
    assert 'no files in' in storj('check', f'storj://{bucket}/x', here, code=5).err
    done = storj('check', here / 'same', f'storj://{bucket}', code=2)
    assert 'is no folder' in done.err
    assert "'--include NAME'" in done.err
    assert 'neither place' in storj('check', here, here, code=2).err
    assert '2 differences' in storj('check', here, f'storj://{bucket}', code=1).err


def test_single_stored_file_is_told_how_to_be_compared(storj, bucket, here):
    storj('cp', here / 'same', f'storj://{bucket}/same')
    done = storj('check', f'storj://{bucket}/same', here, code=2)
    assert 'is a file, no prefix' in done.err
    assert "'--include NAME'" in done.err
    assert storj('check', f'storj://{bucket}', here, '--include', 'same').out == 'same: same\n'
