"""What cp, mv and cat are asked for reaches the network, and nothing else is done instead."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from storj.exception import BridgeUnreachableError
from storj.http import Client
from storj.system import atomic_file
from storj.transfer import Transfers


@pytest.fixture
def asked(monkeypatch):
    """Collects what the engine is asked for, by the name of the request, and does it."""
    found = {'upload': [], 'download': [], 'stream': []}

    def watch(name):
        method = getattr(Transfers, name)

        def run(*args, **options):
            found[name].append(options)
            return method(*args, **options)

        monkeypatch.setattr(Transfers, name, run)

    for name in found:
        watch(name)
    return found


def names(storj, bucket):
    return [row['name'] for row in storj('ls', '-r', f'storj://{bucket}', '--json').json()]


def put(storj, place, text, *options):
    storj('cp', *options, '-', place, input=text)


# Options that are independent of each other are asked for at once.
UPLOAD_OPTIONS = [
    (
        (),
        {
            'encrypt': True,
            'encrypt_name': True,
            'parity': None,
            'overwrite': False,
            'resume': True,
        },
    ),
    (
        ('--no-encrypt', '--no-parity', '--no-resume'),
        {'encrypt': False, 'encrypt_name': True, 'parity': False, 'resume': False},
    ),
    (
        ('--plain-names', '--parity', '--mimetype', 'text/x-own', '--overwrite'),
        {
            'encrypt': True,
            'encrypt_name': False,
            'parity': True,
            'mimetype': 'text/x-own',
            'overwrite': True,
        },
    ),
]


def seen(options, wanted):
    return {name: options.get(name) for name in wanted}


@pytest.mark.parametrize('word', ['cp', 'mv'])
@pytest.mark.parametrize(('options', 'wanted'), UPLOAD_OPTIONS)
def test_options_reach_the_upload(storj, bucket, tmp_path, asked, word, options, wanted):
    (tmp_path / 'a').write_text('content')
    storj(word, *options, tmp_path / 'a', f'storj://{bucket}/a')
    [upload] = asked['upload']
    assert seen(upload, wanted) == wanted


@pytest.mark.parametrize('word', ['cp', 'mv'])
@pytest.mark.parametrize(('options', 'wanted'), UPLOAD_OPTIONS)
def test_options_reach_the_copy_between_buckets(storj, bucket, asked, word, options, wanted):
    put(storj, f'storj://{bucket}/a', 'content')
    asked['upload'].clear()
    storj(word, *options, f'storj://{bucket}/a', f'storj://{bucket}/b')
    [upload] = asked['upload']
    assert seen(upload, wanted) == wanted


@pytest.mark.parametrize('word', ['cp', 'mv'])
@pytest.mark.parametrize(
    ('options', 'wanted'),
    [
        ((), {'decrypt': True, 'overwrite': False, 'resume': True}),
        (
            ('--plain', '--overwrite', '--no-resume'),
            {'decrypt': False, 'overwrite': True, 'resume': False},
        ),
    ],
)
def test_options_reach_the_download(storj, bucket, tmp_path, asked, word, options, wanted):
    put(storj, f'storj://{bucket}/a', 'content')
    storj(word, *options, f'storj://{bucket}/a', tmp_path / 'b')
    [download] = asked['download']
    assert seen(download, wanted) == wanted


def test_content_is_left_as_it_is_stored_if_asked_for(storj, bucket, tmp_path):
    put(storj, f'storj://{bucket}/sealed', 'content')
    put(storj, f'storj://{bucket}/open', 'content', '--no-encrypt')
    assert storj('cat', '--plain', f'storj://{bucket}/open').raw == b'content'
    assert storj('cat', '--plain', f'storj://{bucket}/sealed').raw != b'content'
    storj('cp', '--plain', '--no-encrypt', f'storj://{bucket}/open', f'storj://{bucket}/copy')
    assert storj('cat', '--plain', f'storj://{bucket}/copy').raw == b'content'


def test_type_goes_with_a_copy_between_buckets(storj, bucket, tmp_path):
    place = f'storj://{bucket}/'
    put(storj, f'{place}a', 'content', '--mimetype', 'image/png')
    for source, target, options, kept in (
        ('a', 'b', (), 'image/png'),
        ('a', 'c', ('--mimetype', 'image/gif'), 'image/gif'),
    ):
        storj('cp', *options, f'{place}{source}', f'{place}{target}')
        assert storj('file', 'info', bucket, target, '--json').json()['mimetype'] == kept


# -- names in the other form -----------------------------------------------------------------------


@pytest.mark.parametrize('source', ['-', 'file', 'bucket'])
def test_name_stored_in_the_other_form_is_not_replaced_unasked(storj, bucket, tmp_path, source):
    place = f'storj://{bucket}/'
    put(storj, f'{place}a', 'old', '--plain-names')
    put(storj, f'{place}source', 'new')
    (tmp_path / 'a').write_text('new')
    words = {'-': '-', 'file': tmp_path / 'a', 'bucket': f'{place}source'}
    refused = storj('cp', words[source], f'{place}a', input='new', code=9)
    assert 'exists already' in refused.err
    assert names(storj, bucket) == ['a', 'source']
    assert storj('cat', f'{place}a').raw == b'old'
    storj('cp', '--overwrite', words[source], f'{place}a', input='new')
    assert names(storj, bucket) == ['a', 'source']
    assert storj('cat', f'{place}a').raw == b'new'


# -- an upload that ended unheard ------------------------------------------------------------------


@pytest.fixture
def unheard(storj, bucket, tmp_path, monkeypatch, hurried):
    """A file whose upload broke off when its entry was made and the answer on its way."""
    path = tmp_path / 'a'
    path.write_text('content')

    def gone(*args, **options):
        raise BridgeUnreachableError('gone')

    create = Client.file_create

    def lost(*args, **options):
        create(*args, **options)
        monkeypatch.setattr(Client, 'file_id', gone)
        gone()

    with monkeypatch.context() as patch:
        patch.setattr(Client, 'file_create', lost)
        before = Client.file_id
        storj('cp', '--retries', '0', path, f'storj://{bucket}/', code=6)
    monkeypatch.setattr(Client, 'file_id', before)
    assert names(storj, bucket) == ['a']
    return path


def test_upload_that_ended_unheard_is_done(storj, bucket, unheard):
    [before] = storj('file', 'list', bucket, '--json').json()
    storj('cp', unheard, f'storj://{bucket}/')
    [after] = storj('file', 'list', bucket, '--json').json()
    assert after['id'] == before['id']
    assert storj('transfer', 'list', '--json').json() == []


def test_file_that_took_the_place_of_the_unheard_one_is_kept(storj, bucket, unheard):
    put(storj, f'storj://{bucket}/a', 'of somebody else', '--overwrite')
    refused = storj('cp', unheard, f'storj://{bucket}/', code=9)
    assert f'exists already: storj://{bucket}/a' in refused.err
    assert storj('cat', f'storj://{bucket}/a').raw == b'of somebody else'


#: Of a file whose download has a journal.
LARGE = 'content' * 50_000


@pytest.fixture
def killed_at_its_end(storj, bucket, tmp_path, monkeypatch):
    """A file whose download was killed when it had its name, and its journal was still there."""
    put(storj, f'storj://{bucket}/a', LARGE)
    path, state = tmp_path / 'a', Path(str(storj.environment['XDG_STATE_HOME']))
    publish = atomic_file.publish

    def published(*args, **options):
        publish(*args, **options)
        shutil.copytree(state, tmp_path / 'kept')

    with monkeypatch.context() as patch:
        patch.setattr(atomic_file, 'publish', published)
        storj('cp', f'storj://{bucket}/a', path)
    shutil.rmtree(state)
    shutil.move(tmp_path / 'kept', state)
    return path


def test_download_that_was_killed_at_its_end_is_done(storj, bucket, killed_at_its_end):
    storj('cp', f'storj://{bucket}/a', killed_at_its_end)
    assert killed_at_its_end.read_text() == LARGE
    assert storj('transfer', 'list', '--json').json() == []
    storj('cp', f'storj://{bucket}/a', killed_at_its_end, code=9)


def test_file_in_the_place_of_a_killed_download_is_kept(storj, bucket, killed_at_its_end):
    # Written into the same file: what takes the place of a removed file often gets its number.
    killed_at_its_end.write_text('of somebody else')
    storj('cp', f'storj://{bucket}/a', killed_at_its_end, code=9)
    assert killed_at_its_end.read_text() == 'of somebody else'


# -- what stands at a destination ------------------------------------------------------------------


def test_link_that_leads_nowhere_is_not_replaced_unasked(storj, bucket, tmp_path):
    put(storj, f'storj://{bucket}/a', 'content')
    link = tmp_path / 'link'
    link.symlink_to(tmp_path / 'nowhere')
    refused = storj('cp', f'storj://{bucket}/a', link, code=9)
    assert f'exists already: {link}' in refused.err
    assert link.readlink() == tmp_path / 'nowhere'
    storj('cp', '--overwrite', f'storj://{bucket}/a', link)
    assert link.read_text() == 'content'


def test_several_sources_make_a_folder_of_the_destination(storj, bucket, tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).write_text(name)
    storj('cp', tmp_path / 'a', tmp_path / 'b', f'storj://{bucket}/into')
    assert names(storj, bucket) == ['into/a', 'into/b']
    storj('cp', f'storj://{bucket}/into/a', f'storj://{bucket}/into/b', tmp_path / 'new')
    assert sorted(path.name for path in (tmp_path / 'new').iterdir()) == ['a', 'b']


def test_file_whose_name_looks_like_a_pattern_is_one_file(storj, bucket, tmp_path):
    (tmp_path / 'a[1]').write_text('content')
    storj('cp', tmp_path / 'a[1]', f'storj://{bucket}/b')
    assert names(storj, bucket) == ['b']


def test_id_is_no_name_at_the_destination(storj, bucket, tmp_path):
    put(storj, f'storj://{bucket}/a', 'content')
    [row] = storj('file', 'list', bucket, '--json').json()
    put(storj, f'storj://{bucket}/{row["id"]}', 'other')
    assert names(storj, bucket) == sorted([row['id'], 'a'])


def test_standard_input_gets_the_given_name_with_recursive_too(storj, bucket):
    put(storj, f'storj://{bucket}/a', 'one', '-r')
    assert names(storj, bucket) == ['a']
    put_again = storj('cp', '-r', '-', f'storj://{bucket}/a', input='two', code=9)
    assert f'exists already: storj://{bucket}/a' in put_again.err
    assert storj('cat', f'storj://{bucket}/a').raw == b'one'


# -- wrong usage -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('{uri}', 'storj-share:abc'), 'a link is a source only'),
        (('{here}', '-', '{uri}'), 'standard input or a link is copied alone'),
        (('storj-share:abc', '{uri}', '{here}'), 'standard input or a link is copied alone'),
        (('-r', '--range', '0-1', '{uri}', '{here}'), '--range is for one download'),
        (('--range', '0-1', '{uri}', '{uri}2', '{here}'), '--range is for one download'),
        (('--range', '0-1', '{uri}', '{uri}2'), '--range is for one download'),
        (('--range', '0-1', '{here}/a', '{uri}2'), '--range is for one download'),
        (('{here}',), 'give either a SOURCE or --link-file'),
        (('--link-file', '{here}/a', '{uri}', '{here}'), 'give either a SOURCE or --link-file'),
        (('', '{uri}'), 'an empty path'),
        (('{uri}', ''), 'an empty path'),
    ],
)
def test_copy_that_makes_no_sense_is_refused(storj, bucket, tmp_path, words, message):
    put(storj, f'storj://{bucket}/a', 'content')
    (tmp_path / 'a').write_text('local')
    words = [word.format(uri=f'storj://{bucket}/a', here=tmp_path) for word in words]
    refused = storj('cp', *words, code=2)
    assert message in refused.err
    assert refused.out == ''
    assert names(storj, bucket) == ['a']
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a', 'home']


@pytest.mark.parametrize('word', ['cat', 'ls', 'rm', 'share'])
def test_link_in_the_place_of_a_uri_is_not_shown(storj, word):
    refused = storj(word, 'storj-share:c2VjcmV0', code=2)
    assert 'c2VjcmV0' not in refused.err + refused.out
    assert 'storj cp' in refused.err


@pytest.mark.parametrize('word', ['cat', 'ls'])
def test_uri_of_another_service_is_no_bucket(storj, word):
    assert 'is not a storj:// URI' in storj(word, 's3://bucket/a', code=2).err
