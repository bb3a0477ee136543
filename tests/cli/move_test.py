"""mv: a source goes when its copy is complete and not before, on the real network."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import types
from pathlib import Path

import pytest

from storj.catalog.errors import SourceKept
from storj.catalog.removal import local_removal
from storj.exception import NotFoundError
from storj.http import Client
from storj.system import atomic_file
from storj.transfer.engine import Transfers


@pytest.fixture
def folder(tmp_path):
    base = tmp_path / 'notes'
    for name, content in {'todo.txt': 'todo', 'done.txt': 'done!', 'pics/cat.jpg': 'cat'}.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return base


@pytest.fixture
def fault(network):
    """Makes farmers fail until the end of the test."""
    added = []

    def add(spec):
        added.append(network.faults.add(spec))

    yield add
    for each in added:
        network.faults.remove(each)


def names(storj, bucket):
    return [row['name'] for row in storj('ls', '-r', f'storj://{bucket}', '--json').json()]


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())


def put(storj, place, text):
    storj('cp', '--overwrite', '-', place, input=text)


def test_file_moves_up_across_and_down(storj, bucket, tmp_path):
    data = os.urandom(3_000_000)
    here = tmp_path / 'a.bin'
    here.write_bytes(data)
    done = storj('mv', here, f'storj://{bucket}/')
    assert done.out.startswith(f'{here} -> storj://{bucket}/a.bin')
    assert not here.exists()
    storj('mv', f'storj://{bucket}/a.bin', f'storj://{bucket}/dir/b.bin')
    assert names(storj, bucket) == ['dir/b.bin']
    storj('mb', f'{bucket}-2')
    storj('mv', f'storj://{bucket}/dir/b.bin', f'storj://{bucket}-2')
    assert (names(storj, bucket), names(storj, f'{bucket}-2')) == ([], ['b.bin'])
    storj('mv', f'storj://{bucket}-2/b.bin', tmp_path / 'c.bin')
    storj('rb', '--yes', f'{bucket}-2')
    assert (tmp_path / 'c.bin').read_bytes() == data


def test_folder_moves_and_comes_back_as_filters_choose(storj, bucket, folder, tmp_path):
    done = storj('mv', '-r', '--exclude', 'done*', folder, f'storj://{bucket}/')
    assert files(folder) == ['done.txt']
    assert names(storj, bucket) == ['pics/cat.jpg', 'todo.txt']
    assert done.err.startswith('2 files, ')
    assert done.err.endswith(', 2 removed\n')
    storj('mv', f'storj://{bucket}/*.txt', tmp_path / 'back')
    assert names(storj, bucket) == ['pics/cat.jpg']
    storj('mv', '-r', f'storj://{bucket}', tmp_path / 'back')
    assert files(tmp_path / 'back') == ['pics/cat.jpg', 'todo.txt']


def test_link_is_removed_and_its_file_stays(storj, bucket, tmp_path):
    folder = tmp_path / 'links'
    folder.mkdir()
    (folder / 'file').write_text('content')
    (folder / 'link').symlink_to('file')
    storj('mv', folder / 'link', f'storj://{bucket}/')
    assert files(folder) == ['file']
    assert storj('cat', f'storj://{bucket}/link').out == 'content'


def test_dry_run_moves_nothing(storj, bucket, folder):
    done = storj('mv', '-r', '--dry-run', folder, f'storj://{bucket}/')
    assert f'would move {folder}/todo.txt -> storj://{bucket}/todo.txt\n' in done.out
    assert len(files(folder)) == 3
    *events, summary = storj(
        'mv', '-r', '--dry-run', '--json', folder, f'storj://{bucket}/'
    ).events()
    assert {(event['type'], event['action']) for event in events} == {('file_planned', 'move')}
    assert (summary['files_planned'], summary['removals_planned']) == (3, 3)
    assert (names(storj, bucket), len(files(folder))) == ([], 3)


def test_json_tells_of_each_source_that_is_gone(storj, bucket, folder, tmp_path):
    *events, summary = storj('mv', '-r', '--json', folder, f'storj://{bucket}/').events()
    done = {event['source'] for event in events if event['type'] == 'file_done'}
    gone = [event for event in events if event['type'] == 'file_removed']
    assert {event['action'] for event in gone} == {'remove'}
    assert done == {event['source'] for event in gone}
    assert len(done) == summary['files_done'] == summary['files_removed'] == 3
    stored = {row['name']: row['id'] for row in storj('file', 'list', bucket, '--json').json()}
    one, removed, summary = storj(
        'mv', '--json', f'storj://{bucket}/todo.txt', tmp_path / 'back'
    ).events()
    assert (one['action'], one['id']) == ('move', stored['todo.txt'])
    assert (removed['type'], removed['id']) == ('file_removed', stored['todo.txt'])
    assert removed['source'] == f'storj://{bucket}/todo.txt'


def test_what_exists_is_kept_with_its_source(storj, bucket, folder):
    put(storj, f'storj://{bucket}/todo.txt', 'TODO')
    place = folder / 'todo.txt'
    # As large as what is there, and older: that serves a copy, and must not cost the source.
    os.utime(place, (0, 0))
    assert 'exists already' in storj('mv', place, f'storj://{bucket}/', code=9).err
    done = storj('mv', '-r', folder, f'storj://{bucket}/', code=3)
    assert 'skipped: exists already' in done.out
    assert files(folder) == ['todo.txt']
    storj('mv', f'storj://{bucket}/todo.txt', place, code=9)
    storj('mv', f'storj://{bucket}/todo.txt', f'storj://{bucket}/done.txt', code=9)
    assert names(storj, bucket) == ['done.txt', 'pics/cat.jpg', 'todo.txt']
    storj('mv', '--overwrite', place, f'storj://{bucket}/')
    assert storj('cat', f'storj://{bucket}/todo.txt').out == 'todo'
    assert files(folder) == []


def test_existing_copy_removes_the_source_only_if_it_is_equal(storj, bucket, folder):
    place = f'storj://{bucket}/'
    storj('cp', '-r', folder, place)
    (folder / 'done.txt').write_text('DONE!')
    plan = storj('mv', '-r', '--dry-run', folder, place)
    assert f'would remove {folder}/todo.txt: {place}todo.txt is the same\n' in plan.out
    [summary] = storj('mv', '-r', '--json', folder, place, code=3).events('summary')
    assert files(folder) == ['done.txt']
    assert (summary['files_unchanged'], summary['files_removed']) == (2, 2)
    assert (summary['files_done'], summary['files_skipped']) == (0, 1)
    storj('cp', f'{place}todo.txt', folder)
    done = storj('mv', f'{place}todo.txt', folder)
    assert 'exists already, source removed' in done.out
    assert (files(folder), names(storj, bucket)) == (
        ['done.txt', 'todo.txt'],
        ['done.txt', 'pics/cat.jpg'],
    )


def test_failed_upload_leaves_the_source(storj, bucket, folder, fault):
    fault('status:farmer=*,operation=push,times=0,status=500')
    storj('mv', '--retries', '0', folder / 'todo.txt', f'storj://{bucket}/', code=6)
    done = storj('mv', '-r', '--retries', '0', '--json', folder, f'storj://{bucket}/', code=6)
    assert {event['type'] for event in done.events()} == {'file_failed', 'summary'}
    assert len(files(folder)) == 3
    assert names(storj, bucket) == []


def test_failed_download_leaves_the_source(storj, bucket, tmp_path, fault):
    put(storj, f'storj://{bucket}/a', 'a')
    fault('corrupt:farmer=*,operation=pull,times=0')
    for target in tmp_path / 'a', f'storj://{bucket}/b':
        storj('mv', '--retries', '0', f'storj://{bucket}/a', target, code=8)
    assert not (tmp_path / 'a').exists()
    assert names(storj, bucket) == ['a']


def test_one_of_several_that_fails_stays_alone(storj, bucket, tmp_path):
    for name in ('good', '../bad', '/worse'):
        put(storj, f'storj://{bucket}/{name}', name)
    done = storj('mv', '-r', f'storj://{bucket}/', tmp_path / 'in' / 'here', code=3)
    assert 'storj: 2 failed, 1 done\n' in done.err
    assert files(tmp_path / 'in') == ['here/good']
    assert names(storj, bucket) == ['../bad', '/worse']


def test_move_that_broke_off_is_run_again(storj, bucket, folder):
    sources = (folder / 'todo.txt', folder / 'done.txt')
    storj('mv', sources[0], f'storj://{bucket}/')
    done = storj('mv', *sources, f'storj://{bucket}/', code=3)
    assert f'failed: {sources[0]}: no such file or folder' in done.err
    assert names(storj, bucket) == ['done.txt', 'todo.txt']
    storj('mv', sources[0], f'storj://{bucket}/', code=5)


def changing(monkeypatch, owner, name, change):
    """Do something once, when a method has done its work."""
    method = getattr(owner, name)

    def run(*args, **kwargs):
        result = method(*args, **kwargs)
        monkeypatch.setattr(owner, name, method)
        change()
        return result

    monkeypatch.setattr(owner, name, run)


def test_source_that_changes_while_it_is_sent_stays(storj, bucket, tmp_path, monkeypatch):
    here = tmp_path / 'a'
    here.write_text('one')
    changing(monkeypatch, Client, 'frame_create', lambda: here.write_text('three'))
    done = storj('mv', here, f'storj://{bucket}/', code=7)
    assert 'the source changed' in done.err
    assert here.read_text() == 'three'
    assert names(storj, bucket) == []


def test_source_that_changes_after_it_was_sent_stays(storj, bucket, tmp_path, monkeypatch):
    here = tmp_path / 'a'
    here.write_text('one')
    changing(monkeypatch, Client, 'file_create', lambda: here.write_text('three'))
    done = storj('mv', '--json', here, f'storj://{bucket}/', code=3)
    assert [event['type'] for event in done.events()] == ['file_failed', 'summary']
    assert done.error()['error'] == 'SourceKept'
    assert done.error()['message'] == f'copied, but not removed (it changed meanwhile): {here}'
    assert here.read_text() == 'three'
    assert storj('cat', f'storj://{bucket}/a').out == 'one'


def rewritten(path, moment):
    path.write_text('two')
    os.utime(path, ns=(moment, moment))


def replaced(path, moment):
    rewritten(path.with_name('new'), moment)
    path.with_name('new').replace(path)


@pytest.mark.parametrize('change', [rewritten, replaced])
@pytest.mark.parametrize('later', [0, 10**9], ids=['time put back', 'later'])
def test_source_of_equal_size_that_is_another_stays(
    storj, bucket, tmp_path, monkeypatch, change, later
):
    here = tmp_path / 'a'
    here.write_text('one')
    moment = here.stat().st_mtime_ns + later
    changing(monkeypatch, Client, 'file_create', lambda: change(here, moment))
    done = storj('mv', here, f'storj://{bucket}/', code=3)
    assert 'copied, but not removed (it changed meanwhile)' in done.err
    assert here.read_text() == 'two'
    assert storj('cat', f'storj://{bucket}/a').out == 'one'


@pytest.mark.parametrize('field', ['st_dev', 'st_ino', 'st_size', 'st_mtime_ns', 'st_ctime_ns'])
def test_every_sign_of_a_change_counts(tmp_path, monkeypatch, field):
    path = tmp_path / 'a'
    path.write_text('one')
    removal = local_removal(path)
    removal.begin()
    found = path.stat()
    fields = {name: getattr(found, name) for name in dir(found) if name.startswith('st_')}
    changed = types.SimpleNamespace(**{**fields, field: fields[field] + 1})
    monkeypatch.setattr(Path, 'stat', lambda path: changed)
    with pytest.raises(SourceKept, match='it changed meanwhile'):
        removal.complete()


def test_link_whose_file_changes_meanwhile_stays(storj, bucket, tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('one')
    link = tmp_path / 'link'
    link.symlink_to('file')
    changing(monkeypatch, Client, 'file_create', lambda: (tmp_path / 'file').write_text('two'))
    done = storj('mv', link, f'storj://{bucket}/', code=3)
    assert 'copied, but not removed (it changed meanwhile)' in done.err
    assert link.read_text() == 'two'
    assert storj('cat', f'storj://{bucket}/link').out == 'one'


@pytest.mark.parametrize('told', ['frame', 'hmac', 'created'])
def test_every_sign_that_a_stored_source_is_another_counts(
    storj, bucket, tmp_path, monkeypatch, network, told
):
    place, target = f'storj://{bucket}/a', tmp_path / 'a'
    put(storj, place, 'one')
    look, replaced = Client.file_metadata, []

    def file_metadata(*args, **options):
        file = look(*args, **options)
        if replaced:
            shown = {name: getattr(replaced[0], name) for name in ('frame', 'hmac', 'created')}
            vars(file).update(shown | {told: getattr(file, told)})
        return file

    def replace():
        bucket_id, file_id = (
            storj(*words, '--json').json()['id']
            for words in (('bucket', 'get', bucket), ('file', 'info', bucket, 'a'))
        )
        with Client(network.email, network.password, network.bridge_url) as client:
            replaced.append(look(client, bucket_id, file_id))
        put(storj, place, 'two')

    changing(monkeypatch, atomic_file, 'create', replace)
    monkeypatch.setattr(Client, 'file_metadata', file_metadata)
    done = storj('mv', place, target, code=3)
    assert 'copied, but not removed (it changed meanwhile)' in done.err
    monkeypatch.undo()
    assert storj('cat', place).out == 'two'
    assert target.read_text() == 'one'


def test_removal_whose_answer_was_lost_is_one(storj, bucket, tmp_path, monkeypatch):
    put(storj, f'storj://{bucket}/a', 'content')

    def gone():
        raise NotFoundError('File not found', 404)

    changing(monkeypatch, Client, 'file_remove', gone)
    storj('mv', f'storj://{bucket}/a', tmp_path)
    assert names(storj, bucket) == []
    assert (tmp_path / 'a').read_text() == 'content'


@pytest.mark.parametrize('away', ['here', 'bucket'])
def test_stored_source_that_is_replaced_meanwhile_stays(
    storj, bucket, tmp_path, monkeypatch, network, away
):
    put(storj, f'storj://{bucket}/a', 'one')
    bucket_id = storj('bucket', 'get', bucket, '--json').json()['id']
    client = Client(network.email, network.password, network.bridge_url, mnemonic=network.mnemonic)

    def replace():
        with client:
            transfers = Transfers(client)
            with transfers:
                transfers.upload(bucket_id, b'three', name='a', overwrite=True).result()

    if away == 'here':
        changing(monkeypatch, atomic_file, 'create', replace)
        target = tmp_path / 'a'
    else:
        changing(monkeypatch, Client, 'file_create', replace)
        target = f'storj://{bucket}/b'
    done = storj('mv', f'storj://{bucket}/a', target, code=3)
    assert 'copied, but not removed (it changed meanwhile)' in done.err
    assert storj('cat', f'storj://{bucket}/a').out == 'three'
    assert (storj('cat', target).out if away == 'bucket' else target.read_text()) == 'one'


def test_source_that_cannot_be_removed_is_said_to_be_copied(
    storj, bucket, tmp_path, monkeypatch, network
):
    here = tmp_path / 'a'
    here.write_text('a')
    monkeypatch.setattr(Path, 'unlink', refuse)
    done = storj('mv', here, f'storj://{bucket}/', code=3)
    assert f'copied, but not removed (Permission denied): {here}' in done.err
    refusing = network.faults.add('status:route=DELETE *,status=403,times=0')
    try:
        storj('mv', f'storj://{bucket}/a', f'storj://{bucket}/b', code=3)
    finally:
        network.faults.remove(refusing)
    assert names(storj, bucket) == ['a', 'b']


def refuse(path, **options):
    raise PermissionError(13, 'Permission denied', str(path))


def test_download_is_on_the_disk_before_the_source_goes(storj, bucket, tmp_path, monkeypatch):
    put(storj, f'storj://{bucket}/a', 'a')
    order = []
    changing(monkeypatch, os, 'fsync', lambda: order.append('fsync'))
    changing(monkeypatch, Client, 'file_remove', lambda: order.append('remove'))
    storj('mv', f'storj://{bucket}/a', tmp_path)
    assert order == ['fsync', 'remove']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('{place}a', '{place}a'), 'would be moved to itself'),
        (('-r', '{place}', '{place}'), 'would be moved to itself'),
        (('{place}a', '{place}'), 'would be moved to itself'),
        (('--overwrite', '-r', '{place}a/', '{place}'), 'is a source and a destination'),
        (('-', '{place}b'), 'a stream or a link cannot be moved'),
        (('{place}a', '-'), 'a stream or a link cannot be moved'),
        (('storj-share:abc', '{here}'), 'a stream or a link cannot be moved'),
        (('{here}', '{here}2'), 'neither source nor destination is a storj:// URI'),
        (('{place}a/', '{here}'), "use '--recursive'"),
        (('{place}a',), 'Missing argument'),
    ],
)
def test_move_that_makes_no_sense_is_refused(storj, bucket, tmp_path, arguments, message):
    for name in ('a', 'a/a', 'a/a/a'):
        put(storj, f'storj://{bucket}/{name}', name)
    words = [word.format(place=f'storj://{bucket}/', here=tmp_path) for word in arguments]
    assert message in storj('mv', *words, code=2).err
    assert names(storj, bucket) == ['a', 'a/a', 'a/a/a']


def test_ctrl_c_loses_nothing_and_the_same_command_goes_on(storj, quick_program, bucket, tmp_path):
    base = tmp_path / 'folder'
    base.mkdir()
    for name in ('big', 'small'):
        (base / name).write_bytes(os.urandom(8_000_000 if name == 'big' else 10))
    contents = {path.name: path.read_bytes() for path in base.iterdir()}
    words, environment = quick_program(
        'mv', '-r', '--json', '--limit-upload', '2MB', base, f'storj://{bucket}/'
    )
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if '"file_removed"' in line:
                running.send_signal(signal.SIGINT)
        assert running.wait() == 130
    assert files(base) == ['big']
    assert names(storj, bucket) == ['small']
    storj('mv', '-r', base, f'storj://{bucket}/')
    assert files(base) == []
    for name, content in contents.items():
        assert storj('cat', f'storj://{bucket}/{name}').raw == content


def test_source_is_removed_only_as_it_was(tmp_path):
    path = tmp_path / 'a'
    path.write_text('one')
    same, other, gone = (local_removal(path) for _ in range(3))
    for removal in (same, other, gone):
        removal.begin()
    path.write_text('three')
    with pytest.raises(SourceKept, match='it changed meanwhile'):
        other.complete()
    same.begin()
    same.complete()
    assert not path.exists()
    with pytest.raises(SourceKept, match='No such file'):
        gone.complete()
    with pytest.raises(FileNotFoundError):
        gone.begin()


def no_disk(descriptor):
    raise OSError(errno.EIO, 'Input/output error')


@pytest.mark.parametrize('there', [False, True], ids=['new copy', 'copy that was there'])
def test_source_stays_when_its_copy_cannot_be_forced_to_the_disk(
    storj, bucket, tmp_path, monkeypatch, there
):
    uri, copy = f'storj://{bucket}/a', tmp_path / 'made' / 'for' / 'a'
    put(storj, uri, 'content')
    if there:
        storj('cp', uri, copy)
    monkeypatch.setattr(os, 'fsync', no_disk)
    storj('mv', uri, copy, code=3 if there else 1)
    assert names(storj, bucket) == ['a']
    monkeypatch.undo()
    storj('mv', uri, copy)
    assert names(storj, bucket) == []
    assert copy.read_text() == 'content'


def test_move_syncs_copy_and_new_folders_before_it_removes(storj, bucket, tmp_path, monkeypatch):
    uri, copy = f'storj://{bucket}/a', tmp_path / 'made' / 'for' / 'a'
    put(storj, uri, 'content')
    forced, fsync, remove = [], os.fsync, Client.file_remove

    def note(descriptor):
        forced.append(Path(f'/proc/self/fd/{descriptor}').resolve())
        fsync(descriptor)

    def removed(client, *ids):
        forced.append('removed')
        return remove(client, *ids)

    monkeypatch.setattr(os, 'fsync', note)
    monkeypatch.setattr(Client, 'file_remove', removed)
    storj('mv', uri, copy)
    before = forced[: forced.index('removed')]
    assert {copy, copy.parent, copy.parent.parent, tmp_path} <= set(before)


@pytest.mark.parametrize('way', ['up', 'down'])
def test_copy_that_is_stored_in_the_clear_is_compared_as_such(storj, bucket, tmp_path, way):
    here, there = tmp_path / 'a', f'storj://{bucket}/a'
    storj('cp', '--no-encrypt', '-', there, input='content')
    here.write_text('content')
    source, target = (here, there) if way == 'up' else (there, here)
    # Whether it is the same is not to be said of what nothing proves.
    assert 'exists already' in storj('mv', source, target, code=9).err
    assert here.exists()
    assert names(storj, bucket) == ['a']
    done = storj('mv', '--no-encrypt' if way == 'up' else '--plain', source, target)
    assert 'exists already, source removed' in done.out
    assert (here.exists(), names(storj, bucket)) == ((False, ['a']) if way == 'up' else (True, []))


@pytest.mark.parametrize('way', ['up', 'down'])
def test_other_content_that_is_stored_in_the_clear_costs_no_source(storj, bucket, tmp_path, way):
    here, there = tmp_path / 'a', f'storj://{bucket}/a'
    storj('cp', '--no-encrypt', '-', there, input='content')
    here.write_text('CONTENT')
    source, target = (here, there) if way == 'up' else (there, here)
    for options in (), ('--no-encrypt' if way == 'up' else '--plain',):
        storj('mv', *options, source, target, code=9)
    assert here.read_text() == 'CONTENT'
    assert storj('cat', '--plain', there).out == 'content'
