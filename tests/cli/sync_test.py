"""What ``storj sync`` must not lose: each test is about one way in which it could."""

from __future__ import annotations

import datetime
import errno
import os
import threading
from pathlib import Path

import pytest

from storj.catalog import sync as storj_sync
from storj.cli.jobs import Runner
from storj.http import Client


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / 'here'
    folder.mkdir()
    return folder


@pytest.fixture
def client(network):
    with Client(
        network.email, network.password, network.bridge_url, mnemonic=network.mnemonic
    ) as client:
        yield client


def names(storj, bucket):
    return [row['name'] for row in storj('file', 'list', bucket, '--json').json()]


def put(storj, bucket, *wanted, text='x'):
    for name in wanted:
        storj('cp', '--overwrite', '-', f'storj://{bucket}/{name}', input=text)


def files(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()
    )


def locked(monkeypatch, folder):
    """Let nobody list a folder, the superuser neither."""
    scan = os.scandir

    def scandir(path='.'):
        if os.fspath(path) == str(folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, 'scandir', scandir)


# ---- a source that is not there, or not to be seen


def test_missing_source_folder_empties_no_bucket(storj, bucket, here):
    put(storj, bucket, 'a', 'b/c')
    for arguments in (('--delete', '--yes'), ('--delete', '--yes', '--include', '*'), ()):
        done = storj('sync', *arguments, here / 'gone', f'storj://{bucket}/', code=5)
        assert f'no such folder: {here}/gone' in done.err
    assert names(storj, bucket) == ['a', 'b/c']


def test_file_in_the_place_of_the_source_folder_empties_no_bucket(storj, bucket, here):
    put(storj, bucket, 'a')
    (here / 'file').write_text('x')
    storj('sync', '--delete', '--yes', here / 'file', f'storj://{bucket}/', code=2)
    assert names(storj, bucket) == ['a']


def test_missing_bucket_empties_no_folder(storj, here):
    (here / 'a').write_text('a')
    storj('sync', '--delete', '--yes', 'storj://no-such-bucket/', here, code=5)
    assert files(here) == ['a']


@pytest.mark.parametrize('rules', [(), ('--include', '*.txt'), ('--exclude', '*.jpg')])
def test_unreadable_folder_of_the_source_holds_removal_back(
    storj, bucket, here, monkeypatch, rules
):
    put(storj, bucket, 'deep/a.txt', 'gone.txt')
    (here / 'deep').mkdir()
    (here / 'deep' / 'a.txt').write_text('x')
    locked(monkeypatch, here / 'deep')
    done = storj('sync', '--delete', '--yes', *rules, here, f'storj://{bucket}/', code=1)
    assert f'{here}/deep: Permission denied' in done.err
    assert 'nothing is removed' in done.err
    assert names(storj, bucket) == ['deep/a.txt', 'gone.txt']


def test_unreadable_file_is_not_taken_for_a_stored_empty_one(storj, bucket, here):
    put(storj, bucket, 'a', 'gone', text='')
    (here / 'a').symlink_to('nowhere')
    done = storj('sync', '--delete', '--yes', here, f'storj://{bucket}/', code=5)
    assert 'nothing is removed' in done.err
    assert names(storj, bucket) == ['a', 'gone']


def test_unreadable_folder_that_is_excluded_holds_nothing_back(storj, bucket, here, monkeypatch):
    put(storj, bucket, 'deep/a.txt', 'gone.txt')
    (here / 'deep').mkdir()
    locked(monkeypatch, here / 'deep')
    rule = ('--exclude', 'deep/')
    storj('sync', '--delete', '--yes', *rule, here, f'storj://{bucket}/')
    assert names(storj, bucket) == ['deep/a.txt']


def test_unreadable_folder_of_the_destination_loses_nothing(storj, bucket, here, monkeypatch):
    put(storj, bucket, 'a')
    (here / 'deep').mkdir()
    (here / 'deep' / 'kept').write_text('x')
    locked(monkeypatch, here / 'deep')
    storj('sync', '--delete', '--yes', f'storj://{bucket}/', here)
    monkeypatch.undo()
    assert files(here) == ['a', 'deep/kept']


# ---- names from elsewhere

HOSTILE = ['../evil', '/evil', 'a/../../evil', 'a//evil', './evil', 'a/.', 'evil\0']


def test_hostile_names_fail_alone_and_hold_removal_back(storj, bucket, here, client, tmp_path):
    bucket_id = client.bucket_id(bucket)
    for name in (*HOSTILE, 'good'):
        client.file_upload(bucket_id, b'evil', name=name)
    (here / 'surplus').write_text('kept')
    done = storj('sync', '--delete', '--yes', f'storj://{bucket}/', here, code=3)
    assert done.err.count('is not a safe local path') == len(HOSTILE)
    assert 'nothing is removed' in done.err
    assert files(here) == ['good', 'surplus']
    assert sorted(path.name for path in tmp_path.iterdir()) == ['here', 'home']
    assert not Path('/evil').exists()


@pytest.mark.parametrize('name', ['..', '.', 'a/..'])
def test_hostile_last_part_is_no_local_name(storj, bucket, here, client, name, monkeypatch):
    file = client.file_upload(client.bucket_id(bucket), b'evil', name=name)
    monkeypatch.chdir(here)
    storj('cp', f'storj://{bucket}/{name}', f'{here}/', code=1)
    storj('file', 'download', bucket, file.id, code=1)
    storj('file', 'download', bucket, file.id, here, code=1)
    assert files(here) == []


# ---- the exit code


def test_removal_alone_keeps_its_exit_code(storj, bucket, here, network):
    put(storj, bucket, 'a', 'b')
    refusing = network.faults.add('status:route=DELETE *,status=403,times=0')
    try:
        done = storj('sync', '--delete', '--yes', here, f'storj://{bucket}/', code=4)
    finally:
        network.faults.remove(refusing)
    assert done.err.count('failed: ') == 2
    refusing = network.faults.add('status:route=DELETE *,status=403,times=1')
    try:
        storj('sync', '--delete', '--yes', here, f'storj://{bucket}/', code=3)
    finally:
        network.faults.remove(refusing)
    assert len(names(storj, bucket)) == 1
    storj('sync', '--delete', '--yes', here, f'storj://{bucket}/')
    assert names(storj, bucket) == []


@pytest.mark.parametrize('stuck', [{'a', 'b'}, {'a'}])
def test_removal_alone_keeps_its_exit_code_in_a_folder(storj, bucket, here, monkeypatch, stuck):
    for name in 'ab':
        (here / name).write_text(name)
    unlink = Path.unlink

    def refuse(path, **options):
        if path.name in stuck:
            raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        unlink(path, **options)

    monkeypatch.setattr(Path, 'unlink', refuse)
    code = 1 if len(stuck) == 2 else 3
    storj('sync', '--delete', '--yes', f'storj://{bucket}/', here, code=code)
    assert files(here) == sorted(stuck)


def test_failed_download_holds_removal_back(storj, bucket, here, network):
    put(storj, bucket, 'a')
    (here / 'surplus').write_text('kept')
    refusing = network.faults.add('status:farmer=*,operation=pull,times=0,status=404')
    try:
        done = storj(
            'sync', '--retries', '0', '--delete', '--yes', f'storj://{bucket}/', here, code=8
        )
    finally:
        network.faults.remove(refusing)
    assert 'nothing is removed' in done.err
    assert files(here) == ['surplus']


# ---- what counts as alike


@pytest.mark.parametrize('way', ['up', 'down'])
def test_equal_size_and_time_need_a_checksum(storj, bucket, here, way):
    (here / 'a').write_text('one')
    place = f'storj://{bucket}/'
    ways = {'up': (here, place), 'down': (place, here)}
    storj('sync', here, place)
    storj('sync', place, here)
    moment = (here / 'a').stat().st_mtime_ns
    (here / 'a').write_text('two')
    os.utime(here / 'a', ns=(moment, moment))
    assert storj('sync', *ways[way]).out == ''
    storj('sync', '--checksum', *ways[way])
    assert storj('cat', f'{place}a').out == (here / 'a').read_text()
    assert (here / 'a').read_text() == ('two' if way == 'up' else 'one')


@pytest.mark.parametrize('way', ['up', 'down'])
def test_newer_source_of_equal_size_is_moved(storj, bucket, here, way):
    (here / 'a').write_text('one')
    place = f'storj://{bucket}/'
    storj('sync', here, place)
    if way == 'up':
        (here / 'a').write_text('two')
        os.utime(here / 'a', (4e9, 4e9))
        storj('sync', here, place)
    else:
        put(storj, bucket, 'a', text='two')
        os.utime(here / 'a', (1e9, 1e9))
        storj('sync', place, here)
    assert storj('cat', f'{place}a').out == (here / 'a').read_text() == 'two'


@pytest.mark.parametrize('way', ['up', 'down'])
def test_dry_run_removes_nothing(storj, bucket, here, way):
    put(storj, bucket, 'there')
    (here / 'here').write_text('x')
    place = f'storj://{bucket}/'
    source, target = (here, place) if way == 'up' else (place, here)
    done = storj('sync', '--delete', '--dry-run', source, target)
    assert 'would remove' in done.out
    assert (names(storj, bucket), files(here)) == (['there'], ['here'])


def test_filters_keep_what_they_leave_out_from_removal(storj, bucket, here):
    put(storj, bucket, 'kept.jpg', 'gone.txt')
    (here / 'kept.jpg').write_text('x')
    (here / 'gone.txt').write_text('x')
    put(storj, bucket, 'only.txt', 'only.jpg')
    rule = ('--exclude', '*.jpg')
    (here / 'gone.txt').unlink()
    storj('sync', '--delete', '--yes', *rule, here, f'storj://{bucket}/')
    assert names(storj, bucket) == ['kept.jpg', 'only.jpg']
    (here / 'own.jpg').write_text('x')
    (here / 'own.txt').write_text('x')
    storj('sync', '--delete', '--yes', *rule, f'storj://{bucket}/', here, code=0)
    assert files(here) == ['kept.jpg', 'own.jpg']


# ---- from bucket to bucket


def test_bucket_is_made_like_another(storj, bucket):
    put(storj, bucket, 'from/a', 'from/b/c', 'from/skip.jpg', 'to/gone')
    source, target = f'storj://{bucket}/from', f'storj://{bucket}/to'
    rule = ('--exclude', '*.jpg')
    done = storj('sync', '--delete', '--dry-run', *rule, source, target)
    assert f'would copy {source}/a -> {target}/a' in done.out
    assert f'would remove {target}/gone' in done.out
    storj('sync', '--delete', '--yes', *rule, source, target)
    assert [name for name in names(storj, bucket) if name.startswith('to/')] == ['to/a', 'to/b/c']
    assert storj('cat', f'{target}/b/c').out == 'x'
    assert 'nothing to do: 2 files unchanged' in storj('sync', *rule, source, target).err
    put(storj, bucket, 'from/a', text='y')
    assert '1 file' in storj('sync', *rule, source, target).err
    assert storj('cat', f'{target}/a').out == 'y'


def test_contents_of_two_buckets_are_compared(storj, bucket):
    put(storj, bucket, 'from/a', 'from/b', text='x')
    put(storj, bucket, 'to/a', text='x')
    put(storj, bucket, 'to/b', text='y')
    done = storj('sync', '--checksum', '--json', f'storj://{bucket}/from', f'storj://{bucket}/to')
    assert [event['source'] for event in done.events('file_done')] == [f'storj://{bucket}/from/b']
    assert done.events('summary')[0]['files_unchanged'] == 1


def test_bucket_is_not_synced_into_itself(storj, bucket):
    put(storj, bucket, 'a', 'b/c')
    for source, target in (('', 'b/'), ('b', ''), ('b', 'b/')):
        done = storj('sync', f'storj://{bucket}/{source}', f'storj://{bucket}/{target}', code=2)
        assert 'overlap' in done.err
    assert names(storj, bucket) == ['a', 'b/c']


def test_missing_prefix_of_a_bucket_empties_no_other(storj, bucket):
    put(storj, bucket, 'to/a')
    uris = (f'storj://{bucket}/from', f'storj://{bucket}/to')
    assert 'no files in' in storj('sync', '--delete', '--yes', *uris, code=5).err
    assert names(storj, bucket) == ['to/a']


def test_two_folders_are_another_programs_task(storj, here):
    assert 'neither place is a storj:// URI' in storj('sync', here, here / 'b', code=2).err


# ---- times of files

OLD = 1_400_000_000.123456


@pytest.fixture
def dated(storj, bucket, here):
    """A file of an old time, and the prefix that it was synced to."""
    (here / 'a').write_text('one')
    os.utime(here / 'a', (OLD, OLD))
    storj('sync', here, f'storj://{bucket}/there')
    return here / 'a', f'storj://{bucket}/there'


def test_synced_file_is_unchanged_in_both_directions(storj, dated):
    path, uri = dated
    for places in ((path.parent, uri), (uri, path.parent)):
        assert 'nothing to do: 1 file unchanged' in storj('sync', *places).err


def test_replacement_by_an_older_file_is_noticed(storj, dated):
    path, uri = dated
    path.write_text('two')
    os.utime(path, (OLD - 1000, OLD - 1000))
    storj('sync', path.parent, uri)
    assert storj('cat', f'{uri}/a').out == 'two'


def test_downloads_get_the_time_of_the_file_that_was_stored(storj, dated, tmp_path):
    _, uri = dated
    storj('sync', uri, tmp_path / 'synced')
    storj('cp', '--times', f'{uri}/a', tmp_path / 'copied')
    storj('cp', f'{uri}/a', tmp_path / 'plain')
    storj('mv', '--times', f'{uri}/a', tmp_path / 'moved')
    for copy in ('synced/a', 'copied', 'moved'):
        assert abs((tmp_path / copy).stat().st_mtime - OLD) < 1e-5
    assert (tmp_path / 'plain').stat().st_mtime > OLD + 1e6


def test_stat_tells_the_time_of_the_file(storj, dated):
    record = storj('stat', f'{dated[1]}/a', '--json').json()
    assert record['modified'] == '2014-05-13T16:53:20.123Z'


def test_another_machine_knows_the_time_of_the_upload(storj, dated, tmp_path):
    _, uri = dated
    other = {'XDG_STATE_HOME': str(tmp_path / 'other')}
    storj('cp', '--times', f'{uri}/a', tmp_path / 'copied', **other)
    record = storj('stat', f'{uri}/a', '--json', **other).json()
    assert record['modified'] is None
    created = datetime.datetime.fromisoformat(record['created'].replace('Z', '+00:00')).timestamp()
    assert abs((tmp_path / 'copied').stat().st_mtime - created) < 0.01
    assert not (tmp_path / 'other' / 'storj' / 'times.db').exists()


def test_copy_in_another_bucket_keeps_the_time(storj, dated, tmp_path):
    _, uri = dated
    storj('sync', uri, f'{uri}-copy')
    assert 'nothing to do' in storj('sync', uri, f'{uri}-copy').err
    storj('sync', f'{uri}-copy', tmp_path / 'back')
    assert abs((tmp_path / 'back' / 'a').stat().st_mtime - OLD) < 1e-5


# ---- a source that is long


def test_files_go_up_while_the_folder_is_still_read(storj, bucket, here, monkeypatch):
    for name in 'abc':
        (here / name).write_text(name)
    done, waits = threading.Event(), []
    walk, report = storj_sync.walk, Runner._report

    def slow(*arguments, **options):
        for number, file in enumerate(walk(*arguments, **options)):
            if number:
                waits.append(done.wait(30))
            yield file

    def ended(self, outcome):
        report(self, outcome)
        done.set()

    monkeypatch.setattr(storj_sync, 'walk', slow)
    monkeypatch.setattr(Runner, '_report', ended)
    storj('sync', here, f'storj://{bucket}/')
    assert waits == [True, True]
    assert names(storj, bucket) == ['a', 'b', 'c']
    # Nothing is left to wait for; what is surplus is known at the end.
    (here / 'b').unlink()
    storj('sync', '--delete', '--yes', here, f'storj://{bucket}/')
    assert names(storj, bucket) == ['a', 'c']
