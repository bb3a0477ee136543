"""cp, cat, ls, rm: files to, from and between buckets, on the real network."""

from __future__ import annotations

import errno
import os
import stat
import threading

import pytest

from storj.catalog.tree import ignores_case, walk
from storj.cli.jobs import Runner
from storj.crypto import mnemonic
from storj.exception import BridgeUnavailableError
from storj.http import Client


@pytest.fixture
def folder(tmp_path):
    base = tmp_path / 'notes'
    for name, content in {
        'todo.txt': b'todo',
        'done.txt': b'done!',
        'pics/cat.jpg': b'\xff\xd8cat',
        'pics/deep/dog.jpg': b'\xff\xd8dog',
        'empty': b'',
    }.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return base


def names(storj, bucket):
    return [row['name'] for row in storj('ls', '-r', f'storj://{bucket}', '--json').json()]


def lock(monkeypatch, folder):
    """Let nobody list a folder, the superuser neither."""
    scan = os.scandir

    def scandir(path='.'):
        if os.fspath(path) == str(folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, 'scandir', scandir)


def content(path):
    return {file.name: file.path.read_bytes() for file in walk(path)}


def test_file_comes_back_equal(storj, bucket, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / 'a.bin').write_bytes(data)
    done = storj('cp', tmp_path / 'a.bin', f'storj://{bucket}/')
    assert done.out.startswith(f'{tmp_path}/a.bin -> storj://{bucket}/a.bin')
    storj('cp', f'storj://{bucket}/a.bin', tmp_path / 'b.bin')
    assert (tmp_path / 'b.bin').read_bytes() == data
    assert not list(tmp_path.glob('*.part'))


def test_names_are_encrypted_unless_plain_ones_are_asked_for(storj, bucket, tmp_path):
    (tmp_path / 'a').write_bytes(b'a')
    storj('cp', tmp_path / 'a', f'storj://{bucket}/secret')
    storj('cp', '--plain-names', tmp_path / 'a', f'storj://{bucket}/open')
    rows = {row['name']: row for row in storj('ls', f'storj://{bucket}', '--json').json()}
    assert rows['secret']['encrypted_name'] is True
    assert rows['open']['encrypted_name'] is False
    for name in rows:
        assert storj('cat', f'storj://{bucket}/{name}').raw == b'a'
    no_words = {'STORJ_ENCRYPTION_KEY': ''}
    bucket_id = storj('bucket', 'get', bucket, '--json').json()['id']
    seen = [row['name'] for row in storj('file', 'list', bucket_id, '--json', **no_words).json()]
    assert 'open' in seen
    assert 'secret' not in seen


def test_ids_are_accepted_where_names_are(storj, bucket, tmp_path):
    (tmp_path / 'a').write_bytes(b'a')
    storj('cp', tmp_path / 'a', f'storj://{bucket}/a')
    bucket_id = storj('bucket', 'get', bucket, '--json').json()['id']
    [row] = storj('ls', f'storj://{bucket_id}', '--json').json()
    assert storj('cat', f'storj://{bucket_id}/{row["id"]}').raw == b'a'


def test_folder_is_copied_as_what_it_holds_and_back(storj, bucket, folder, tmp_path):
    done = storj('cp', '-r', folder, f'storj://{bucket}/2017')
    assert len(done.out.splitlines()) == 5
    assert done.err.startswith('5 files, ')
    assert names(storj, bucket) == [f'2017/{name}' for name in sorted(content(folder))]
    storj('cp', '-r', f'storj://{bucket}/2017/', tmp_path / 'back')
    assert content(tmp_path / 'back') == content(folder)


def test_filters_and_patterns_choose(storj, bucket, folder, tmp_path):
    storj('cp', '-r', '--include', '*.jpg', '--exclude', '*dog*', folder, f'storj://{bucket}/')
    assert names(storj, bucket) == ['pics/cat.jpg']
    storj('cp', '-r', folder, f'storj://{bucket}/')
    storj('cp', f'storj://{bucket}/*.txt', tmp_path / 'texts')
    assert sorted(content(tmp_path / 'texts')) == ['done.txt', 'todo.txt']


def test_dry_run_does_nothing(storj, bucket, folder):
    done = storj('cp', '-r', '--dry-run', folder, f'storj://{bucket}/')
    assert f'would upload {folder}/todo.txt -> storj://{bucket}/todo.txt' in done.out
    assert names(storj, bucket) == []


def test_dry_run_ends_with_a_summary_in_json(storj, bucket, folder, tmp_path):
    place = f'storj://{bucket}/'

    def planned(*arguments):
        *events, summary = storj(*arguments, '--dry-run', '--json').events()
        assert {event['type'] for event in events} <= {'file_planned'}
        assert (summary['type'], summary['dry_run']) == ('summary', True)
        assert (summary['files_done'], summary['files_removed'], summary['bytes_done']) == (0, 0, 0)
        names = ('files_planned', 'bytes_planned', 'removals_planned')
        return tuple(summary[name] for name in names), summary

    assert planned('cp', '-r', folder, place)[0] == (5, 19, 0)
    assert planned('rm', '-r', place)[0] == (0, 0, 0)
    storj('cp', '-r', folder, place)
    assert planned('rm', '-r', place)[0] == (0, 0, 5)
    counts, summary = planned('cp', '-r', folder, place)
    assert (counts, summary['files_unchanged']) == ((0, 0, 0), 5)
    counts, summary = planned('sync', folder, place)
    assert (counts, summary['files_unchanged']) == ((0, 0, 0), 5)
    (folder / 'todo.txt').unlink()
    assert planned('sync', '--delete', folder, place)[0] == (0, 0, 1)
    (folder / 'done.txt').write_text('more was done')
    counts, summary = planned('cp', '-r', folder, place)
    assert (counts, summary['files_refused'], summary['files_unchanged']) == ((0, 0, 0), 1, 3)
    assert planned('cp', f'{place}todo.txt', '-')[0] == (1, 4, 0)
    link = storj('share', '--with-key', f'{place}todo.txt').out.strip()
    assert planned('cp', link, tmp_path / 'linked')[0] == (1, 4, 0)


def test_removal_of_nothing_ends_with_a_summary_in_json(storj, bucket):
    done = storj('rm', '-ry', f'storj://{bucket}/', '--json')
    assert [event['type'] for event in done.events()] == ['summary']


def test_what_exists_is_kept_unless_overwritten(storj, bucket, tmp_path):
    here = tmp_path / 'a'
    here.write_bytes(b'one')
    storj('cp', here, f'storj://{bucket}/a')
    here.write_bytes(b'two')
    refused = storj('cp', here, f'storj://{bucket}/a', code=9)
    assert "hint: use '--overwrite' to replace it\n" in refused.err
    assert storj('cat', f'storj://{bucket}/a').raw == b'one'
    storj('cp', '--overwrite', here, f'storj://{bucket}/a')
    assert storj('cat', f'storj://{bucket}/a').raw == b'two'
    here.write_bytes(b'three')
    storj('cp', f'storj://{bucket}/a', here, code=9)
    assert here.read_bytes() == b'three'
    storj('cp', '--overwrite', f'storj://{bucket}/a', here)
    assert here.read_bytes() == b'two'


def test_overwriting_replaces_a_name_stored_in_the_other_form(storj, bucket, tmp_path):
    (tmp_path / 'a').write_bytes(b'plain')
    storj('cp', '--plain-names', tmp_path / 'a', f'storj://{bucket}/a')
    (tmp_path / 'a').write_bytes(b'encrypted')
    storj('cp', '--overwrite', tmp_path / 'a', f'storj://{bucket}/a')
    assert names(storj, bucket) == ['a']
    assert storj('cat', f'storj://{bucket}/a').raw == b'encrypted'


def test_skipped_files_make_a_partial_success(storj, bucket, folder):
    storj('cp', folder / 'todo.txt', f'storj://{bucket}/')
    (folder / 'todo.txt').write_text('more to do')
    done = storj('cp', '-r', folder, f'storj://{bucket}/', code=3)
    assert '4 files' in done.err
    assert '1 skipped' in done.err


def test_copy_of_a_folder_can_be_run_again(storj, bucket, folder, tmp_path):
    storj('cp', folder / 'todo.txt', f'storj://{bucket}/')
    done = storj('cp', '-r', folder, f'storj://{bucket}/')
    assert len(done.out.splitlines()) == 4
    assert ', 1 unchanged\n' in done.err
    again = storj('cp', '-r', folder, f'storj://{bucket}/')
    assert (again.out, again.err) == ('', '5 unchanged\n')
    plan = storj('cp', '-r', '--dry-run', folder, f'storj://{bucket}/')
    assert (plan.out, plan.err) == ('', 'would move 0 files, 0 B, 5 unchanged\n')
    events = storj('cp', '-r', '--json', folder, f'storj://{bucket}/').events()
    assert {event.get('reason') for event in events[:-1]} == {'unchanged'}
    assert (events[-1]['files_unchanged'], events[-1]['files_skipped']) == (5, 0)
    for _ in range(2):
        storj('cp', '-r', f'storj://{bucket}/', tmp_path / 'back')
        storj('cp', '-r', f'storj://{bucket}/', f'storj://{bucket}/copy/', '--exclude', 'copy/*')
    # As large, but newer: nobody knows which one is wanted.
    later = (folder / 'todo.txt').stat().st_mtime + 3600
    os.utime(folder / 'todo.txt', (later, later))
    assert 'exists already' in storj('cp', '-r', folder, f'storj://{bucket}/', code=3).out
    # A single file is refused in any case.
    storj('cp', folder / 'done.txt', f'storj://{bucket}/', code=9)


def test_file_and_prefix_of_one_name_collide_alone(storj, bucket, tmp_path):
    for name in ('a', 'a/b'):
        storj('cp', '-', f'storj://{bucket}/{name}', input=name)
    (tmp_path / 'out' / 'a').mkdir(parents=True)
    for _ in range(2):
        done = storj('cp', '-r', '--overwrite', f'storj://{bucket}/', tmp_path / 'out', code=3)
        assert f'failed: storj://{bucket}/a: a folder has this name: {tmp_path}/out/a' in done.err
        assert content(tmp_path / 'out') == {'a/b': b'a/b'}


def test_prefix_without_recursive_says_so(storj, bucket, folder, tmp_path):
    storj('cp', '-r', folder, f'storj://{bucket}/')
    place = f'storj://{bucket}/pics'
    for command in (('cp', place, tmp_path), ('rm', place)):
        refused = storj(*command, code=2)
        assert f'{place} is a prefix, not a file' in refused.err
        assert "hint: use '--recursive'" in refused.err
    for command in ('cat', 'share'):
        assert f"'storj ls {place}' lists them" in storj(command, place, code=2).err
    storj('cp', f'{place}x', tmp_path, code=5)
    assert storj('cat', f'{place}/*.jpg').raw == b'\xff\xd8cat\xff\xd8dog'


def test_recursive_listing_is_summed_up(storj, bucket, folder):
    storj('cp', '-r', folder, f'storj://{bucket}/')
    assert storj('ls', '-r', bucket).err == '5 files, 19 B\n'
    assert storj('ls', '-r', '--bytes', f'{bucket}/pics').err == '2 files, 10\n'
    assert storj('ls', '-rq', bucket).err == ''
    assert storj('ls', bucket).err == ''


def test_temporary_folder_that_is_missing_is_named(storj, bucket, tmp_path):
    lost = {'STORJ_TEMP': str(tmp_path / 'none')}
    done = storj('cp', '-', f'storj://{bucket}/a', input=b'a', code=5, **lost)
    assert f'no such folder: {tmp_path}/none' in done.err
    assert 'STORJ_TEMP' in done.err


def test_standard_streams_carry_the_bytes_alone(storj, bucket):
    data = os.urandom(200_000)
    storj('cp', '-', f'storj://{bucket}/stream', input=data)
    done = storj('cp', f'storj://{bucket}/stream', '-')
    assert done.raw == data
    assert done.err == ''
    assert storj('cat', f'storj://{bucket}/stream').raw == data


@pytest.mark.parametrize(
    ('text', 'part'),
    [('0-99', slice(0, 100)), ('150000-', slice(150000, None)), ('-7', slice(-7, None))],
)
def test_range_of_a_download(storj, bucket, tmp_path, text, part):
    data = os.urandom(200_000)
    storj('cp', '-', f'storj://{bucket}/a', input=data)
    assert storj('cp', '--range', text, f'storj://{bucket}/a', '-').raw == data[part]
    storj('cp', '--range', text, f'storj://{bucket}/a', tmp_path / 'a')
    assert (tmp_path / 'a').read_bytes() == data[part]


def test_range_outside_the_file_is_wrong_usage(storj, bucket):
    storj('cp', '-', f'storj://{bucket}/a', input=b'abc')
    storj('cat', '--range', '3-', f'storj://{bucket}/a', code=2)


def test_file_goes_from_bucket_to_bucket(storj, bucket, tmp_path):
    storj('cp', '-', f'storj://{bucket}/a', input=b'content')
    done = storj('cp', f'storj://{bucket}/a', f'storj://{bucket}/copies/')
    assert f'storj://{bucket}/a -> storj://{bucket}/copies/a' in done.out
    assert storj('cat', f'storj://{bucket}/copies/a').raw == b'content'


def test_name_that_escapes_fails_alone(storj, bucket, tmp_path):
    for name in ('good', '../bad', '/worse'):
        storj('cp', '-', f'storj://{bucket}/{name}', input=name)
    done = storj('cp', '-r', f'storj://{bucket}/', tmp_path / 'in' / 'here', code=3)
    assert 'not a safe local path' in done.err
    assert content(tmp_path / 'in') == {'here/good': b'good'}


def test_json_lines_of_a_transfer(storj, bucket, folder):
    events = storj('cp', '-r', '--json', folder, f'storj://{bucket}/').events()
    kinds = [event['type'] for event in events]
    assert kinds.count('file_done') == 5
    assert kinds[-1] == 'summary'
    assert events[-1]['files_done'] == 5
    assert events[-1]['bytes_done'] == sum(map(len, content(folder).values()))
    done = [event for event in events if event['type'] == 'file_done']
    finished = next(event for event in done if event['source'].endswith('todo.txt'))
    assert finished['destination'] == f'storj://{bucket}/todo.txt'
    assert finished['size'] == 4


def test_file_id_is_told_whichever_way_a_file_goes(storj, bucket, tmp_path):
    (tmp_path / 'a').write_bytes(b'a')
    place = f'storj://{bucket}/a'

    def told(*arguments):
        [done] = storj(*arguments, '--json').events('file_done')
        return done['id']

    stored = told('cp', tmp_path / 'a', place)
    assert stored == storj('file', 'info', bucket, 'a', '--json').json()['id']
    link = storj('share', '--with-key', place).out.strip()
    assert told('cp', place, tmp_path / 'b') == stored
    assert told('cp', link, tmp_path / 'c') == stored
    assert told('file', 'download', bucket, 'a', tmp_path / 'd') == stored
    assert told('sync', f'storj://{bucket}/', tmp_path / 'e') == stored
    copied = told('cp', place, f'storj://{bucket}/b')
    assert copied == storj('file', 'info', bucket, 'b', '--json').json()['id']


def test_several_failures_are_listed_last(storj, bucket, tmp_path):
    for name in ('a', 'b'):
        storj('cp', '-', f'storj://{bucket}/{name}', input=name)
    blocked = tmp_path / 'blocked'
    blocked.write_bytes(b'a file, no folder')
    done = storj('cp', '-r', f'storj://{bucket}/', f'{blocked}/', code=None)
    assert done.code != 0
    lines = done.err.splitlines()
    assert lines[0] == '2 failed'
    assert [line.split(':')[0] for line in lines[1:3]] == ['failed', 'failed']


@pytest.mark.parametrize(
    'arguments',
    [
        ['cp', 'a', 'b'],
        ['cp', '-', 'storj://bucket'],
        ['cp', '-', 'storj://bucket/dir/'],
        ['cp', 'storj://b/a', '-', 'x'],
        ['cp', '-r', '--range', '0-1', 'storj://b/a', 'x'],
        ['cp', 'a', '-'],
        ['cp', 'storj://b', 'x'],
        ['cp', '.', 'storj://b/'],
        ['cp', 's3://b/a', '.'],
        ['cp', 'a'],
        ['sync', 'a', 'b'],
        ['ls', 'storj:///a'],
        ['nonsense'],
        ['cp', '--nonsense'],
        ['cp', '--transfers', '0', 'a', 'storj://b/'],
        ['cp', '--limit-upload', 'fast', 'a', 'storj://b/'],
    ],
)
def test_wrong_usage_is_two(storj, arguments):
    storj('mb', 'b', code=None)
    done = storj(*arguments, code=2)
    assert done.err.startswith('storj: ')
    assert done.out == ''


def test_missing_things_are_five(storj, bucket, tmp_path):
    storj('cp', tmp_path / 'none', f'storj://{bucket}/', code=5)
    storj('cp', 'storj://no-such-bucket/a', tmp_path, code=5)
    storj('cp', f'storj://{bucket}/none', tmp_path, code=5)
    storj('cat', f'storj://{bucket}/none', code=5)
    storj('ls', f'storj://{bucket}/none', code=5)
    done = storj('ls', 'storj://no-such-bucket', '--json', code=5)
    assert done.error()['error'] == 'BucketNotFound'
    assert done.error()['libstorj_code'] == 1006
    assert done.out == ''


def test_listing_folds_at_slashes(storj, bucket, folder):
    storj('cp', '-r', folder, f'storj://{bucket}/')
    rows = storj('ls', f'storj://{bucket}', '--json').json()
    assert [(row['type'], row['name']) for row in rows] == [
        ('file', 'done.txt'),
        ('file', 'empty'),
        ('prefix', 'pics/'),
        ('file', 'todo.txt'),
    ]
    table = storj('ls', f'storj://{bucket}/pics/').out.splitlines()
    assert table[0].split() == ['CREATED', 'SIZE', 'NAME']
    assert [line.split()[-1] for line in table[1:]] == ['pics/cat.jpg', 'pics/deep/']
    exact = storj('ls', '--bytes', '--utc', f'storj://{bucket}/todo.txt').out.splitlines()[1]
    assert exact.split()[1].endswith('Z')
    assert exact.split()[2:] == ['4', 'todo.txt']


def test_empty_bucket_prints_a_note_only(storj, bucket):
    done = storj('ls', f'storj://{bucket}')
    assert done.out == ''
    assert done.err == f'no files in storj://{bucket}/\n'
    assert storj('ls', f'storj://{bucket}', '--json').json() == []
    assert storj('ls', '-q', f'storj://{bucket}').err == ''


def test_control_characters_of_a_name_are_shown_escaped(storj, bucket):
    storj('cp', '-', f'storj://{bucket}/evil\x1b[2J', input=b'x')
    assert '\x1b' not in storj('ls', f'storj://{bucket}').out


def test_removal_of_many_asks_and_counts(storj, bucket, folder):
    storj('cp', '-r', folder, f'storj://{bucket}/')
    refused = storj('rm', '-r', f'storj://{bucket}/', code=2)
    assert 'remove 5 files' in refused.err
    assert "'--yes'" in refused.err
    dry = storj('rm', '-r', '--dry-run', '--exclude', '*.txt', f'storj://{bucket}/')
    assert len(dry.out.splitlines()) == 3
    storj('rm', '-ry', '--exclude', '*.txt', f'storj://{bucket}/')
    assert names(storj, bucket) == ['done.txt', 'todo.txt']
    storj('rm', f'storj://{bucket}/todo.txt')
    assert names(storj, bucket) == ['done.txt']


def test_download_is_limited_in_its_rate(storj, bucket, tmp_path):
    data = os.urandom(600_000)
    storj('cp', '-', f'storj://{bucket}/a', input=data)
    done = storj('cp', '--json', '--limit-download', '300KB', f'storj://{bucket}/a', tmp_path / 'a')
    assert (tmp_path / 'a').read_bytes() == data
    [summary] = done.events('summary')
    assert summary['seconds'] > 0.9
    assert done.events('status')


def test_mode_of_a_download_follows_the_umask(storj, bucket, tmp_path):
    storj('cp', '-', f'storj://{bucket}/a', input=b'x')
    storj('cp', f'storj://{bucket}/a', tmp_path / 'a')
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / 'a').stat().st_mode) == 0o666 & ~umask


def test_dry_run_tells_what_would_be_refused(storj, bucket, folder, tmp_path):
    storj('cp', folder / 'todo.txt', f'storj://{bucket}/')
    (folder / 'todo.txt').write_text('more to do')
    plan = storj('cp', '-r', '--dry-run', folder, f'storj://{bucket}/', '--json').events()
    refused = {event['source'] for event in plan if 'refused' in event}
    assert refused == {f'{folder}/todo.txt'}
    done = storj('cp', '--dry-run', folder / 'todo.txt', f'storj://{bucket}/')
    assert done.out.startswith('would not upload')
    assert 'exists already' in done.out
    assert storj('cp', '--dry-run', '--overwrite', folder / 'todo.txt', f'storj://{bucket}/').out
    assert storj('cp', '--dry-run', f'storj://{bucket}/todo.txt', '-').out == (
        f'would download storj://{bucket}/todo.txt -> -\n'
    )
    link = storj('share', '--with-key', f'storj://{bucket}/todo.txt').out.strip()
    assert 'would download' in storj('cp', '--dry-run', link, tmp_path / 'linked').out
    assert not (tmp_path / 'linked').exists()


def test_what_cannot_be_read_fails_alone(storj, bucket, folder, monkeypatch):
    (folder / 'gone').symlink_to('nowhere')
    (folder / 'more').symlink_to('pics')
    os.mkfifo(folder / 'pipe')
    lock(monkeypatch, folder / 'pics' / 'deep')
    done = storj('cp', '-r', folder, f'storj://{bucket}/', code=3)
    assert f'failed: {folder}/gone: No such file or directory\n' in done.err
    assert 'run the same command again' not in done.err
    assert f'failed: {folder}/pics/deep: Permission denied' in done.err
    assert f'left out, a link to a folder: {folder}/more' in done.err
    assert f'left out, not a regular file: {folder}/pipe' in done.err
    assert names(storj, bucket) == ['done.txt', 'empty', 'pics/cat.jpg', 'todo.txt']
    storj('cp', '-r', folder, f'storj://{bucket}/2/', '--exclude', 'pics/*', '--exclude', 'gone')


def test_skipped_files_are_not_said_to_come_with_another_run(storj, bucket, folder):
    storj('cp', '-r', folder, f'storj://{bucket}/')
    (folder / 'todo.txt').write_text('more to do')
    done = storj('cp', '-r', folder, f'storj://{bucket}/', code=3)
    assert done.err.endswith("hint: use '--overwrite' to replace existing files\n")


@pytest.mark.skipif(os.name == 'nt', reason='names are text there')
def test_name_that_is_no_text_comes_back_and_is_json(storj, bucket, tmp_path):
    folder = tmp_path / 'odd'
    folder.mkdir()
    path = folder / os.fsdecode(b'caf\xe9')
    try:
        path.write_bytes(b'coffee')
    except OSError:
        pytest.skip('this file system takes text only')
    events = storj('cp', '-r', folder, f'storj://{bucket}/', '--json').events()
    assert str(path) in {event.get('source') for event in events}
    assert names(storj, bucket) == [path.name]
    assert 'nothing to do' in storj('sync', '--delete', folder, f'storj://{bucket}/').err
    storj('cp', '-r', f'storj://{bucket}/', tmp_path / 'back')
    assert content(tmp_path / 'back') == {path.name: b'coffee'}


def test_words_that_are_none_are_refused(storj, bucket):
    mistyped = {'STORJ_ENCRYPTION_KEY': 'act improve hope'}
    for arguments in (('ls',), ('mb', 'other'), ('ls', bucket)):
        assert storj(*arguments, '--json', code=4, **mistyped).error()['error'] == 'MnemonicError'


def test_words_of_somebody_else_are_noticed(storj, bucket):
    others = mnemonic.generate()
    assert 'the encryption key does not open' in storj('ls', STORJ_ENCRYPTION_KEY=others).err
    assert 'no encryption key for' in storj('ls', STORJ_ENCRYPTION_KEY='').err
    assert 'open' not in storj('ls').err


@pytest.fixture
def caseless(tmp_path):
    """A folder that has its name in both cases, as if case made no difference there."""
    folder = tmp_path / 'Folder'
    folder.mkdir()
    (tmp_path / 'fOLDER').symlink_to(folder)
    return folder


def test_a_place_tells_whether_case_is_ignored(caseless, tmp_path):
    assert ignores_case(caseless)
    assert ignores_case(caseless / '1' / '2')
    assert not ignores_case(tmp_path)
    (tmp_path / 'other').mkdir()
    (tmp_path / 'OTHER').mkdir()
    assert not ignores_case(tmp_path / 'other')


@pytest.mark.parametrize('word', ['cp', 'mv'])
def test_names_that_are_one_name_at_the_destination_are_refused(
    storj, bucket, tmp_path, caseless, word
):
    for name in ('a', 'A', 'b'):
        storj('cp', '-', f'storj://{bucket}/{name}', input=name)
    refused = storj(word, '-r', f'storj://{bucket}/', f'{caseless}/', code=2)
    assert 'several sources would be written to' in refused.err
    assert 'case is ignored there' in refused.err
    assert not list(caseless.iterdir())
    assert sorted(names(storj, bucket)) == ['A', 'a', 'b']
    storj(word, '-r', f'storj://{bucket}/', f'{tmp_path / "sensitive"}/')
    assert content(tmp_path / 'sensitive') == {'a': b'a', 'A': b'A', 'b': b'b'}


def pages_of_one(monkeypatch, between):
    """Have the bridge list a file to a page, and something happen before each but the first."""
    listed = Client.bucket_file_pages

    def pages(self, bucket_id, **options):
        found = [entry for page in listed(self, bucket_id, **options) for entry in page]
        for number, entry in enumerate(found):
            if number:
                between()
            yield [entry]

    monkeypatch.setattr(Client, 'bucket_file_pages', pages)


@pytest.mark.parametrize(
    ('command', 'is_stored'),
    [
        ('cp -r storj://{}/', False),
        ('cp storj://{}/*', False),
        ('mv -r storj://{}/', False),
        ('cp -r storj://{}/', True),
    ],
    ids=['folder', 'pattern', 'move', 'bucket'],
)
def test_files_are_copied_while_others_are_still_listed(
    storj, account, bucket, tmp_path, monkeypatch, command, is_stored
):
    for name in 'abc':
        storj('cp', '-', f'storj://{bucket}/{name}', input=name)
    other = account.bucket_create(f'{bucket}-other')
    target = f'storj://{bucket}-other/' if is_stored else f'{tmp_path / "here"}/'
    done = threading.Event()
    report = Runner._report

    def ended(self, outcome):
        report(self, outcome)
        done.set()

    waits = []
    with monkeypatch.context() as patched:
        patched.setattr(Runner, '_report', ended)
        pages_of_one(patched, lambda: waits.append(done.wait(30)))
        storj(*command.format(bucket).split(), target)
    assert waits == [True, True]
    if is_stored:
        assert names(storj, f'{bucket}-other') == ['a', 'b', 'c']
    else:
        assert content(tmp_path / 'here') == {'a': b'a', 'b': b'b', 'c': b'c'}
    assert names(storj, bucket) == ([] if command.startswith('mv') else ['a', 'b', 'c'])
    account.bucket_delete(other.id)


def test_what_was_listed_is_copied_if_the_listing_fails(storj, bucket, tmp_path, monkeypatch):
    for name in 'abc':
        storj('cp', '-', f'storj://{bucket}/{name}', input=name)
    calls = iter([None, BridgeUnavailableError('', 500, 'out of order')])

    def fail():
        if (error := next(calls)) is not None:
            raise error

    pages_of_one(monkeypatch, fail)
    done = storj('--json', 'cp', '-r', f'storj://{bucket}/', tmp_path / 'here', code=3)
    assert content(tmp_path / 'here') == {'a': b'a', 'b': b'b'}
    [failed] = done.events('file_failed')
    assert failed['source'] == f'storj://{bucket}/'
    assert 'out of order' in failed['message']


def test_copies_within_a_bucket_are_not_copied_again(storj, bucket):
    for name in 'ab':
        storj('cp', '-', f'storj://{bucket}/{name}', input=name)
    storj('cp', '-r', f'storj://{bucket}/', f'storj://{bucket}/copies/')
    assert names(storj, bucket) == ['a', 'b', 'copies/a', 'copies/b']


def test_two_sources_of_one_name_are_refused(storj, bucket, tmp_path):
    for folder in ('one', 'two'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'same').write_text(folder)
    refused = storj(
        'cp', tmp_path / 'one/same', tmp_path / 'two/same', f'storj://{bucket}/', code=2
    )
    assert f'several sources would be written to storj://{bucket}/same' in refused.err
    assert names(storj, bucket) == []
