"""Links to folders: never written through, nor read through, unless that is asked for."""

from __future__ import annotations

from unittest import mock

import pytest

from storj.catalog.copier import CopyOptions, Downloader
from storj.catalog.entries import BucketEntry, FileEntry
from storj.catalog.errors import ConflictError


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / 'outside'
    folder.mkdir()
    (folder / 'kept').write_text('kept')
    return folder


@pytest.fixture
def here(tmp_path, outside):
    """A destination in which a link stands that leads elsewhere."""
    folder = tmp_path / 'here'
    folder.mkdir()
    (folder / 'link').symlink_to(outside)
    return folder


@pytest.fixture
def place(storj, bucket):
    for name in ('a', 'link/deep/b', 'link/kept'):
        storj('cp', '-', f'storj://{bucket}/{name}', input='new')
    return f'storj://{bucket}/'


COMMANDS = [('cp', '-r', '--overwrite'), ('mv', '-r', '--overwrite'), ('sync',)]


@pytest.mark.parametrize('command', COMMANDS, ids=lambda command: command[0])
def test_link_in_the_destination_is_not_written_through(storj, place, here, outside, command):
    done = storj(*command, place, here, code=3)
    assert f'a link to a folder is in the way: {here}/link' in done.err
    assert (here / 'a').read_text() == 'new'
    assert {path.name: path.read_text() for path in outside.iterdir()} == {'kept': 'kept'}
    assert {row['name'] for row in storj('ls', '-r', place, '--json').json()} >= {
        'link/deep/b',
        'link/kept',
    }
    planned = storj(*command, '--dry-run', place, here)
    assert 'a link to a folder is in the way' in planned.out


@pytest.mark.parametrize('command', COMMANDS, ids=lambda command: command[0])
def test_link_in_the_destination_is_followed_if_asked_for(storj, place, here, outside, command):
    storj(*command, '--follow-links', place, here)
    assert (outside / 'deep' / 'b').read_text() == 'new'
    assert (outside / 'kept').read_text() == 'new'
    assert (here / 'link').is_symlink()


def test_link_that_appears_after_the_check_is_not_written_through(here, outside):
    engine = mock.Mock(**{'is_downloaded.return_value': False})
    copier = Downloader(CopyOptions(overwrite=True), engine)
    (here / 'link').rename(here / 'later')
    bucket = BucketEntry('0' * 24, 'b', 'b')
    entry = FileEntry('1' * 24, bucket, 'link/deep/b', 'link/deep/b')
    job = copier.download(entry, here / 'link' / 'deep' / 'b', here)
    job.check()
    (here / 'later').rename(here / 'link')
    with pytest.raises(ConflictError, match='in the way'):
        job.start()
    assert not (outside / 'deep').exists()


def test_destination_itself_may_be_a_link(storj, place, tmp_path, outside):
    (tmp_path / 'there').symlink_to(outside)
    storj('cp', '-r', '--overwrite', place, tmp_path / 'there')
    assert (outside / 'link' / 'deep' / 'b').read_text() == 'new'
    storj('sync', place, f'{tmp_path}/there/')


def test_link_to_a_file_is_replaced_and_not_written_through(storj, place, here, outside):
    (here / 'a').symlink_to(outside / 'kept')
    storj('cp', '--overwrite', f'{place}a', here)
    assert (here / 'a').read_text() == 'new'
    assert not (here / 'a').is_symlink()
    assert (outside / 'kept').read_text() == 'kept'


def test_links_in_a_source_are_followed_if_asked_for(storj, bucket, here, outside):
    (outside / 'back').symlink_to(here)
    done = storj('cp', '-r', here, f'storj://{bucket}/', '-v')
    assert f'left out, a link to a folder: {here}/link' in done.err
    assert storj('ls', '-r', f'storj://{bucket}', '--json').json() == []
    done = storj('sync', '--follow-links', here, f'storj://{bucket}/', '-v')
    assert f'left out, a link to a folder: {here}/link/back' in done.err
    [row] = storj('ls', '-r', f'storj://{bucket}', '--json').json()
    assert row['name'] == 'link/kept'
    assert storj('sync', '--follow-links', here, f'storj://{bucket}/').out == ''
