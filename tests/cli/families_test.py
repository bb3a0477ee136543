"""bucket, file, key, config, transfer, info, completion, sync and share."""

from __future__ import annotations

import datetime
import json
import os
import stat
from pathlib import Path

import pytest

from storj.catalog.share import Share
from storj.catalog.tree import walk
from storj.cli.buckets import bucket as bucket_group
from storj.cli.files import file as file_group
from storj.cli.keys import key as key_group
from storj.crypto import mnemonic
from storj.exception import NotFoundError
from storj.http import Client


def content(path):
    return {file.name: file.path.read_bytes() for file in walk(path)}


# ---- buckets and files, under their new and their old names


def test_bucket_is_created_shown_listed_and_deleted(storj):
    made = storj('bucket', 'create', 'Äpfel & Birnen', '--json').json()
    assert made['encrypted_name'] is True
    assert storj('bucket', 'get', 'Äpfel & Birnen', '--json').json()['id'] == made['id']
    assert storj('bucket', 'get', made['id'], '--json').json()['name'] == 'Äpfel & Birnen'
    assert made['id'] in storj('bucket', 'list').out
    assert 'Äpfel & Birnen' in storj('ls').out
    refused = storj('bucket', 'delete', made['id'], code=2)
    assert 'with 0 files' in refused.err
    storj('bucket', 'delete', made['id'], '--yes')
    storj('bucket', 'get', made['id'], code=5)


def test_bucket_of_the_same_name_is_a_conflict(storj, bucket):
    assert storj('mb', bucket, '--json', code=9).error()['error'] == 'AlreadyExistsError'


def test_prefix_is_never_taken_for_its_bucket(storj, bucket):
    storj('cp', '-', f'storj://{bucket}/2017/a', input=b'a')
    for command in (('rb', '--yes'), ('mb',), ('bucket', 'get'), ('bucket', 'delete', '--yes')):
        refused = storj(*command, f'storj://{bucket}/2017', code=2)
        assert f'hint: a bucket is written storj://{bucket}\n' in refused.err
    assert storj('cat', f'storj://{bucket}/2017/a').raw == b'a'


def test_plain_bucket_is_found_by_its_name(storj):
    storj('mb', '--plain-names', 'in-the-open')
    found = storj('bucket', 'get', 'in-the-open', '--json').json()
    assert found['encrypted_name'] is False
    storj('rb', 'storj://in-the-open', '-y')


def test_scripts_of_earlier_releases_work(storj, tmp_path):
    old_bucket = storj.using(bucket_group, 'storj-bucket')
    old_file = storj.using(file_group, 'storj-file')
    bucket_id = old_bucket('create', 'old', '--json').json()['id']
    assert 'old' in old_bucket('list').out
    assert old_bucket('get', bucket_id, '--json').json()['name'] == 'old'
    (tmp_path / 'a.txt').write_bytes(b'a')
    old_file('upload', bucket_id, tmp_path / 'a.txt')
    [row] = old_file('list', bucket_id, '--json').json()
    old_file('download', bucket_id, row['id'], tmp_path / 'b.txt')
    assert (tmp_path / 'b.txt').read_bytes() == b'a'
    assert old_file('info', bucket_id, row['id'], '--json').json()['size'] == 1
    assert [row['state'] for row in old_file('mirrors', bucket_id, row['id'], '--json').json()]
    old_file('remove', bucket_id, row['id'])
    old_bucket('delete', bucket_id, '--yes')


def test_functions_of_the_package_are_importable():
    from storj.cli import bucket, export, file, generate, load, upload

    assert bucket is bucket_group
    assert file is file_group
    assert upload is file_group.commands['upload']
    assert {generate, export, load} <= set(key_group.commands.values())


def test_several_files_are_uploaded_and_one_renamed(storj, bucket, tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).write_text(name)
    storj('file', 'upload', bucket, tmp_path / 'a', tmp_path / 'b')
    storj('file', 'upload', bucket, tmp_path / 'a', '--name', 'dir/c')
    storj('file', 'upload', bucket, '-', '--name', 'd', input='from a pipe')
    assert [row['name'] for row in storj('file', 'list', bucket, '--json').json()] == [
        'a',
        'b',
        'd',
        'dir/c',
    ]
    assert storj('file', 'download', bucket, 'd', '-').out == 'from a pipe'
    storj('file', 'upload', bucket, tmp_path / 'a', tmp_path / 'b', '--name', 'x', code=2)
    storj('file', 'upload', bucket, '-', code=2)


def test_file_is_described_by_name_id_or_uri(storj, bucket):
    storj('cp', '-', f'storj://{bucket}/a', input=b'abc')
    record = storj('file', 'info', bucket, 'a', '--json').json()
    assert record['size'] == 3
    assert record['hmac'] == 'sha512'
    assert storj('file', 'info', f'storj://{bucket}/a', '--json').json() == record
    assert 'size' in storj('file', 'info', bucket, record['id']).out
    storj('file', 'info', f'storj://{bucket}/', code=2)


def test_health_of_a_file_decides_the_exit_code(storj, network, bucket):
    storj('cp', '-', f'storj://{bucket}/a', input=os.urandom(5_000_000))
    whole = storj('file', 'verify', bucket, 'a', '--json').json()
    assert whole['have'] == len(whole['shards'])
    lost = network.faults.add('status:farmer=*,operation=pull,times=1,status=404')
    try:
        degraded = storj('file', 'verify', bucket, 'a', code=3)
    finally:
        network.faults.remove(lost)
    assert 'recoverable' in degraded.err
    gone = network.faults.add('status:farmer=*,operation=pull,times=0,status=404')
    try:
        storj('file', 'verify', bucket, 'a', code=8)
        refused = storj('cat', f'storj://{bucket}/a', '--json', code=8)
    finally:
        network.faults.remove(gone)
    assert refused.error()['error'] == 'NotEnoughShardsError'
    assert refused.out == ''


# ---- keys


def test_new_words_are_printed_alone(stranger):
    done = stranger('key', 'generate', '--mnemonic', '--bits', '128')
    mnemonic.check(done.out.strip())
    assert len(done.out.split()) == 12
    assert 'write this key down' in done.err


def test_key_pair_is_made_registered_used_and_deleted(storj, home, tmp_path):
    made = storj('key', 'generate', '--json').json()
    private = tmp_path / 'home' / '.storj' / 'private.pem'
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    storj('key', 'generate', code=9)
    storj('key', 'register')
    assert made['public_key'] in storj('key', 'list').out
    signing = {'STORJ_BRIDGE_USER': '', 'STORJ_BRIDGE_PASS': ''}
    # A key in the settings signs for their bridge only.
    storj('config', 'set', 'bridge', storj.environment['STORJ_BRIDGE'])
    storj('config', 'set', 'private_key', private)
    storj('ls', **signing)
    storj('config', 'unset', 'private-key')
    storj('key', 'export', tmp_path / 'backup')
    assert (tmp_path / 'backup' / 'private.pem').read_bytes() == private.read_bytes()
    storj('key', 'load', '--overwrite', tmp_path / 'backup' / 'private.pem')
    storj('key', 'delete', made['public_key'], '--yes')
    assert made['public_key'] not in storj('key', 'list').out


def test_words_are_loaded_from_a_file_and_checked(stranger, tmp_path):
    words = mnemonic.generate()
    stranger('key', 'load', '--mnemonic-file', '-', input=f'{words}\n')
    assert stranger('key', 'export', '--mnemonic').out.strip() == words
    stranger('key', 'load', '--words-file', '-', input=mnemonic.generate(), code=1)
    done = stranger(
        'key', 'load', '--mnemonic-file', '-', '--overwrite', input='abandon ' * 12, code=4
    )
    assert 'checksum' in done.err
    assert 'abandon' not in done.err


def test_key_without_a_pair_says_how_to_make_one(storj):
    assert "'storj key generate'" in storj('key', 'register', code=1).err
    storj('key', 'load', code=2)


# ---- settings


def test_settings_are_written_shown_and_removed(stranger, home):
    stranger('config', 'set', 'bridge', 'http://127.0.0.1:1')
    assert stranger('config', 'get', 'bridge').out == 'http://127.0.0.1:1\n'
    stranger('config', 'set', 'password', '--file', '-', input='correct horse\n')
    shown = stranger('config', 'show')
    assert 'correct horse' not in shown.out
    assert '********' in shown.out
    assert stranger('config', 'show', '--json').json()['bridge'] == 'http://127.0.0.1:1'
    path = Path(stranger('config', 'path').out.strip())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    stranger('config', 'unset', 'bridge')
    assert stranger('config', 'get', 'bridge').out == 'https://api.storj.io/\n'


def test_profile_is_a_section_and_flag_goes_before_environment(stranger):
    stranger('config', 'set', '--profile', 'work', 'email', 'work@example.org')
    stranger('config', 'set', 'email', 'home@example.org')
    assert stranger('config', 'profiles', '--json').json() == [
        {'profile': 'work'},
        {'profile': 'storj'},
    ]
    get = ('config', 'get', 'email')
    assert stranger(*get).out == 'home@example.org\n'
    assert stranger(*get, STORJ_PROFILE='work').out == 'work@example.org\n'
    assert stranger('--profile', 'storj', *get, STORJ_PROFILE='work').out == 'home@example.org\n'
    assert stranger(*get, STORJ_BRIDGE_USER='env@example.org').out == 'env@example.org\n'


def test_secret_as_an_argument_is_refused(stranger):
    assert 'seen by everyone' in stranger('config', 'set', 'password', 'secret', code=2).err


def test_unknown_setting_suggests_the_right_one(stranger):
    assert "did you mean 'bridge'?" in stranger('config', 'set', 'brigde', 'x', code=2).err
    stranger('config', 'get', 'nonsense', code=2)


def test_value_that_makes_no_sense_is_not_written(stranger):
    for words, wanted in (
        (('transfers', 'many'), 'transfers is a number from 1 to 64'),
        (('concurrency', '0'), 'push_shard_limit is a number from 1 to 1024'),
        (('limit-upload', 'fast'), "limit_upload is a rate like '2MiB'"),
        (('color', 'red'), 'color is auto, always or never'),
        (('bridge', 'nonsense'), 'bridge is a URL'),
        (('proxy', ''), "'storj config unset proxy'"),
        (('keypass', 'x'), 'STORJ_KEYPASS'),
    ):
        assert wanted in stranger('config', 'set', *words, code=2).err
    assert not Path(stranger('config', 'path').out.strip()).exists()


def test_settings_are_listed_with_their_sources(stranger):
    stranger('config', 'set', '--limit-upload', '1MiB', code=2)
    stranger('config', 'set', 'limit-upload', '1MiB')
    path = stranger('config', 'path').out.strip()
    words = ('--bridge', 'http://127.0.0.1:1', 'config', 'list', '--sources')
    done = stranger(*words, '--json', STORJ_TRANSFERS='2', STORJ_BRIDGE_PASS='hunter2')
    rows = {row['setting']: (row['value'], row['source']) for row in done.json()}
    assert rows['limit_upload'] == (1024**2, path)
    assert rows['transfers'] == (2, 'STORJ_TRANSFERS')
    assert rows['bridge'] == ('http://127.0.0.1:1', '--bridge')
    assert rows['password'] == ('********', 'STORJ_BRIDGE_PASS')
    assert rows['retries'] == (None, 'default')
    assert 'hunter2' not in done.out
    assert '(6)' in stranger(*words).out
    shown = stranger('config', 'list', '--sources', STORJ_BRIDGE='http://127.0.0.1:2').out
    assert any(line.split()[-1] == 'STORJ_BRIDGE' for line in shown.splitlines())
    assert (
        'STORJ_TRANSFERS is set'
        in stranger('config', 'set', 'transfers', '3', STORJ_TRANSFERS='2').err
    )


def test_broken_file_is_named_without_its_content(stranger, home):
    folder = Path(home['STORJ_CONFIG_DIR'])
    folder.mkdir()
    (folder / 'storj.ini').write_text('password = secret\n')
    done = stranger('ls', code=4)
    assert 'storj.ini' in done.err
    assert 'secret' not in done.err


def test_info_shows_no_secrets(storj, network):
    done = storj('info')
    assert 'reachable' in done.out
    assert network.bridge_url in done.out
    for secret in (network.password, network.mnemonic):
        assert secret not in done.out + done.err
    assert storj('info', '--json').json()['words_set'] is True


def test_info_without_a_bridge_still_helps(stranger, hurried):
    done = stranger('info', '--json', STORJ_BRIDGE='http://127.0.0.1:1')
    assert done.json()['bridge_state'] != 'reachable'


def test_link_for_a_browser_has_the_key_behind_the_hash(storj, bucket, tmp_path):
    (tmp_path / 'a').write_bytes(b'a')
    uri = f'storj://{bucket}/a'
    storj('cp', tmp_path / 'a', uri)
    done = storj('share', '--url', '--expires', '+10m', uri)
    page, link = done.out.strip().split('#')
    assert page == storj.environment['STORJ_BRIDGE'].rstrip('/') + '/'
    assert Share.read(link).key is not None
    life = Share.read(link).expires - datetime.datetime.now(datetime.timezone.utc)
    assert 500 < life.total_seconds() <= 600
    assert 'until they end by themselves' in done.err
    assert 'expire after 60 minutes' in storj('share', '--url', '--expires', '+2h', uri, code=2).err
    assert 'is over' in storj('share', '--expires', '2001-01-01T00:00:00Z', uri, code=2).err
    assert Share.read(storj('share', '--expires', '+1h', uri).out.strip()).key is None


def test_doctor_finds_a_working_network_well(storj, network, bucket):
    done = storj('doctor', '--transfer', '--json')
    checks = {it['check']: it['state'] for it in done.json()['checks']}
    assert done.json()['ok'] is True
    for name in ('bridge', 'clock', 'login', 'encryption key', 'farmers', 'transfer'):
        assert checks[name] == 'ok'
    shown = storj('doctor').out
    for secret in (network.password, network.mnemonic, network.email):
        assert secret not in shown + done.out
    assert '***@' in shown
    assert storj('ls').out.count('doctor-') == 0


def test_doctor_says_what_fails(storj, stranger, hurried, home):
    done = stranger('doctor', code=1, STORJ_BRIDGE='http://user:hunter2@127.0.0.1:1')
    assert 'failed' in done.out
    assert 'unreachable' in done.out
    assert 'storj network up' in done.out
    assert 'hunter2' not in done.out + done.err
    refused = storj('doctor', code=1, STORJ_BRIDGE_PASS='wrong').out
    assert any(line.split()[:2] == ['failed', 'login'] for line in refused.splitlines())
    assert 'STORJ_TRANSFERS is a number' in stranger('doctor', code=1, STORJ_TRANSFERS='x').out


# ---- sync


def test_sync_moves_what_is_new_or_changed_only(storj, bucket, tmp_path):
    here = tmp_path / 'here'
    here.mkdir()
    (here / 'a').write_text('a')
    (here / 'b').write_text('b')
    place = f'storj://{bucket}/sync'
    assert len(storj('sync', here, place).out.splitlines()) == 2
    again = storj('sync', here, place)
    assert again.out == ''
    assert again.err == 'nothing to do: 2 files unchanged\n'
    (here / 'a').write_text('longer')
    assert f'{here}/a ->' in storj('sync', '--dry-run', here, place).out
    assert len(storj('sync', here, place).out.splitlines()) == 1
    storj('sync', place, tmp_path / 'there')
    assert content(tmp_path / 'there') == content(here)
    assert storj('sync', place, tmp_path / 'there').out == ''


def test_sync_by_time_and_by_checksum(storj, bucket, tmp_path):
    file = tmp_path / 'here' / 'a'
    file.parent.mkdir()
    file.write_text('one')
    place = f'storj://{bucket}/'
    storj('sync', file.parent, place)
    made = file.stat().st_mtime_ns
    file.write_text('two')
    os.utime(file, ns=(made, made))
    assert storj('sync', file.parent, place).out == ''
    assert len(storj('sync', '--checksum', file.parent, place).out.splitlines()) == 1
    assert storj('cat', f'{place}a').out == 'two'
    assert storj('sync', '--checksum', file.parent, place).out == ''
    # An older file is another one as well: this machine remembers the time of what it stored.
    os.utime(file, (0, 0))
    assert len(storj('sync', file.parent, place).out.splitlines()) == 1


def test_sync_deletes_only_when_told_and_asks(storj, bucket, tmp_path):
    here = tmp_path / 'here'
    (here / 'deep').mkdir(parents=True)
    (here / 'a').write_text('a')
    (here / 'deep' / 'b').write_text('b')
    place = f'storj://{bucket}/'
    storj('sync', here, place)
    (here / 'a').unlink()
    storj('sync', here, place)
    assert storj('cat', f'{place}a').out == 'a'
    assert 'remove 1 file from' in storj('sync', '--delete', here, place, code=2).err
    planned = storj('sync', '--delete', '--dry-run', here, place)
    assert planned.out == f'would remove {place}a\n'
    assert planned.err == 'would move 0 files, 0 B, 1 unchanged\nwould remove 1 file\n'
    storj('sync', '--delete', '--yes', here, place)
    storj('cat', f'{place}a', code=5)
    storj('rm', f'{place}deep/b')
    storj('cp', '-', f'{place}c', input='c')
    storj('sync', '--delete', '--yes', place, here)
    assert content(here) == {'c': b'c'}
    assert not (here / 'deep').exists()


def test_summary_is_the_last_line_of_a_sync_that_deletes(storj, bucket, tmp_path):
    here = tmp_path / 'here'
    here.mkdir()
    (here / 'kept').write_text('kept')
    place = f'storj://{bucket}/'
    for name in ('gone', 'lost'):
        storj('cp', '-', place + name, input=name)
    events = storj('sync', '--delete', '--yes', '--json', here, place).events()
    kinds = [event['type'] for event in events]
    assert sorted(kinds[:-1]) == ['file_done', 'file_removed', 'file_removed']
    assert kinds[-1] == 'summary'
    assert events[-1]['files_done'] == 1
    assert events[-1]['files_removed'] == 2
    (here / 'old').write_text('old')
    done = storj('sync', '--delete', '--yes', place, here)
    assert done.out.splitlines()[-1] == f'removed {here}/old'
    assert done.err.endswith(', 1 removed\n')


def test_file_that_cannot_be_removed_here_fails_alone(storj, bucket, tmp_path, monkeypatch):
    here = tmp_path / 'here'
    here.mkdir()
    for name in ('kept', 'stuck'):
        (here / name).write_text(name)
    unlink = Path.unlink

    def refuse(path, **options):
        if path.name == 'stuck':
            raise PermissionError(13, 'Permission denied', str(path))
        unlink(path, **options)

    monkeypatch.setattr(Path, 'unlink', refuse)
    done = storj('sync', '--delete', '--yes', '--json', f'storj://{bucket}/', here, code=3)
    events = done.events()
    assert [event['type'] for event in events] == ['file_removed', 'file_failed', 'summary']
    assert events[-1]['files_failed'] == 1
    assert (here / 'stuck').exists()


# ---- links


def test_link_with_key_needs_no_account(storj, stranger, bucket, tmp_path):
    data = os.urandom(5_000_000)
    storj('cp', '-', f'storj://{bucket}/dir/secret.bin', input=data)
    shared = storj('share', '--with-key', f'storj://{bucket}/dir/secret.bin', '--json').json()
    expires = datetime.datetime.fromisoformat(shared['expires'].replace('Z', '+00:00'))
    assert expires > datetime.datetime.now(datetime.timezone.utc)
    stranger('cp', shared['link'], f'{tmp_path}/')
    assert (tmp_path / 'secret.bin').read_bytes() == data
    part = stranger('cp', '--range', '5-9', shared['link'], '-')
    assert part.raw == data[5:10]


def test_link_never_holds_the_words_and_the_key_only_when_asked(storj, network, bucket, tmp_path):
    storj('cp', '-', f'storj://{bucket}/a', input=b'abc')
    link = storj('share', f'storj://{bucket}/a').out.strip()
    said = Share.read(link)
    assert said.key is None
    keyed = Share.read(storj('share', '--with-key', f'storj://{bucket}/a').out.strip())
    assert keyed.key is not None
    for share in (said, keyed):
        text = share.link() + repr(share) + json.dumps(dict(share.entry))
        assert network.mnemonic not in text
        assert network.password not in text


def test_link_without_key_needs_the_words(storj, stranger, network, bucket):
    storj('cp', '-', f'storj://{bucket}/a', input=b'abc')
    link = storj('share', f'storj://{bucket}/a').out.strip()
    stranger('cp', link, '-', code=4)
    assert stranger('cp', link, '-', STORJ_ENCRYPTION_KEY=network.mnemonic).raw == b'abc'
    stranger('cp', link, '-', STORJ_ENCRYPTION_KEY=mnemonic.generate(), code=7)


def test_link_is_used_up_in_the_end(storj, stranger, bucket):
    storj('cp', '-', f'storj://{bucket}/a', input=b'abc')
    link = storj('share', '--with-key', f'storj://{bucket}/a').out.strip()
    for _ in range(20):
        done = stranger('cp', link, '-', code=None)
        if done.code:
            break
    assert done.code == 4
    assert 'used up' in done.err


@pytest.mark.parametrize(
    'link', ['storj-share:', 'storj-share:AAAA', 'storj-share:ä', 'storj-share:e30']
)
def test_damaged_link_is_wrong_usage(stranger, link, tmp_path):
    assert 'damaged' in stranger('cp', link, tmp_path, code=2).err


def test_expired_link_is_refused_before_anything_is_sent(stranger, tmp_path):
    past = datetime.datetime(2017, 1, 1, tzinfo=datetime.timezone.utc)
    link = Share('http://127.0.0.1:1', 'a' * 24, 'b' * 24, 'a', 1, past, ('t',)).link()
    assert 'expired' in stranger('cp', link, tmp_path, code=4).err


def test_link_of_a_hostile_name_stays_in_the_folder(storj, stranger, bucket, tmp_path):
    storj('cp', '-', f'storj://{bucket}/a', input=b'abc')
    said = Share.read(storj('share', '--with-key', f'storj://{bucket}/a').out.strip())
    for name in ('..', '../..', '/', ''):
        evil = Share(**{**vars(said), 'name': name}).link()
        assert 'not a safe local path' in stranger('cp', evil, f'{tmp_path}/', code=1).err


def test_link_has_a_name_that_is_no_utf8(storj, stranger, bucket, tmp_path):
    storj('cp', '-', f'storj://{bucket}/a\udcff', input=b'abc')
    link = storj('share', '--with-key', f'storj://{bucket}/a\udcff').out.strip()
    stranger('cp', link, f'{tmp_path}/')
    assert (tmp_path / 'a\udcff').read_bytes() == b'abc'
    half = Share(**{**vars(Share.read(link)), 'name': 'a\ud800'}).link()
    assert 'not a safe local path' in stranger('cp', half, f'{tmp_path}/', code=1).err


def test_link_comes_from_a_file_or_standard_input(storj, stranger, bucket, tmp_path):
    storj('cp', '-', f'storj://{bucket}/a', input=b'abc')
    path = tmp_path / 'a.link'
    made = storj('share', '--with-key', '--uses', '9', '--link-file', path, f'storj://{bucket}/a')
    link = path.read_text().strip()
    assert link not in made.out + made.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stranger('cp', '--link-file', path, '-').raw == b'abc'
    assert stranger('cp', '--link-file', '-', '-', input=f'{link}\n').raw == b'abc'
    stranger('cp', '--link-file', path, tmp_path / 'b')
    assert (tmp_path / 'b').read_bytes() == b'abc'
    stranger('cp', '--link-file', path, 'x', tmp_path, code=2)
    stranger('cp', tmp_path, code=2)
    assert 'no link in the first line of standard input' in (
        stranger('cp', '--link-file', '-', tmp_path, input='', code=2).err
    )
    (tmp_path / 'other').write_text('nonsense')
    assert 'nonsense' not in stranger('cp', '--link-file', tmp_path / 'other', '.', code=2).err
    taken = tmp_path / 'a.link' / 'b'
    assert 'cannot write' in storj('share', '--link-file', taken, f'storj://{bucket}/a', code=1).err


def test_tokens_of_a_link_are_in_no_message(storj, stranger, bucket, tmp_path):
    storj('cp', '-', f'storj://{bucket}/a', input=b'abc')
    link = storj('share', '--with-key', f'storj://{bucket}/a').out.strip()
    share = Share.read(link)
    log = tmp_path / 'log'
    wrong = (
        ('cp', link, f'storj://{bucket}/b'),
        ('cp', link.upper(), tmp_path),
        ('cp', f' {link}', link),
        ('cp', link[:-40], tmp_path),
        ('ls', link),
        ('cat', link),
        ('rm', link),
        ('share', link),
        ('sync', link, tmp_path),
        ('file', 'info', link),
    )
    said = ''
    for arguments in wrong:
        done = storj('-vv', '--log-file', log, *arguments, code=2)
        said += done.out + done.err
    done = stranger('-vv', '--log-file', log, 'cp', link, '-')
    said += done.err + log.read_text()
    assert 'GET /buckets/' in said
    for secret in (link[len('storj-share:') :][:60], *share.tokens, share.key.key.hex()):
        assert secret not in said


# ---- transfers that broke off


def test_nothing_to_resume_is_an_empty_list(stranger):
    assert stranger('transfer', 'list', '--json').json() == []
    assert 'no transfers' in stranger('transfer', 'list').err
    assert stranger('transfer', 'clean', '--json').json() == []


# ---- errors of the account and the bridge, each with its code


def test_without_login_nothing_is_asked(stranger):
    said = stranger('ls', code=4).err
    assert said.startswith(
        'storj: no bridge and no account are configured\n'
        "hint: run 'storj network up --detach' for a network on this machine; "
    )
    done = stranger('ls', code=4, STORJ_BRIDGE='http://127.0.0.1:9')
    assert done.err.splitlines() == [
        'storj: not logged in at http://127.0.0.1:9',
        "hint: run 'storj account login', or set STORJ_BRIDGE_USER and STORJ_BRIDGE_PASS",
    ]


def test_wrong_password_is_four(storj):
    done = storj('ls', '--json', STORJ_BRIDGE_PASS='wrong', code=4)
    assert done.error()['error'] == 'AuthenticationError'
    assert done.error()['code'] == 401


def test_unreachable_bridge_is_six(storj, hurried):
    done = storj('ls', STORJ_BRIDGE='http://127.0.0.1:1', code=6)
    assert '127.0.0.1:1' in done.err
    assert "'storj network up'" in done.err


def test_wrong_words_are_seven(storj, bucket):
    storj('cp', '--plain-names', '-', f'storj://{bucket}/a', input=b'abc')
    bucket_id = storj('bucket', 'get', bucket, '--json').json()['id']
    other = mnemonic.generate()
    storj('cat', f'storj://{bucket_id}/a', STORJ_ENCRYPTION_KEY=other, code=7)


def test_upload_without_words_says_how_to_make_some(storj, bucket, tmp_path):
    bucket_id = storj('bucket', 'get', bucket, '--json').json()['id']
    no_words = {'STORJ_ENCRYPTION_KEY': ''}
    done = storj('cp', '-', f'storj://{bucket_id}/a', input=b'abc', code=4, **no_words)
    assert "'storj key generate --mnemonic'" in done.err
    storj('cp', '--no-encrypt', '-', f'storj://{bucket_id}/a', input=b'abc', **no_words)
    assert storj('cat', f'storj://{bucket_id}/a', **no_words).raw == b'abc'


def test_file_without_encryption_is_read_with_plain_only(storj, bucket, tmp_path):
    uri = f'storj://{bucket}/a'
    storj('cp', '--no-encrypt', '-', uri, input=b'abc')
    for command in (('cat', uri), ('cp', uri, tmp_path / 'a'), ('file', 'verify', uri)):
        refused = storj(*command, code=7)
        assert '--plain' in refused.err
    assert storj('cat', '--plain', uri).raw == b'abc'
    storj('cp', '--plain', uri, tmp_path / 'a')
    assert (tmp_path / 'a').read_bytes() == b'abc'
    assert storj('file', 'verify', '--plain', uri, '--json').json()['authenticated'] is False
    shared = storj('share', '--with-key', uri, code=1)
    assert '--with-key' in shared.err


@pytest.mark.parametrize('scheme', ['v0', 'text'])
def test_file_for_javascript_clients_has_no_index(storj, bucket, tmp_path, scheme):
    uri = f'storj://{bucket}/a.txt'
    storj('cp', '--key-scheme', scheme, '--plain-names', '-', uri, input=b'abc')
    assert storj('file', 'info', uri, '--json').json()['index'] is None
    assert storj('cat', uri).raw == b'abc'
    (tmp_path / 'a').write_bytes(b'other')
    again = storj('file', 'upload', '--key-scheme', scheme, '--plain-names', '--overwrite',
                  '--name', 'a.txt', bucket, tmp_path / 'a')  # fmt: skip
    assert 'key stream of the old one' in again.err
    assert storj('info', '--json').json()['javascript_key_scheme'] == 'v0'


def test_move_of_what_is_there_without_encryption_needs_no_encrypt(storj, bucket, tmp_path):
    source, uri = tmp_path / 'a', f'storj://{bucket}/a'
    source.write_bytes(b'abc')
    storj('cp', '--no-encrypt', source, uri)
    storj('mv', source, uri, code=9)
    assert source.exists()
    storj('mv', '--no-encrypt', source, uri)
    assert not source.exists()


def test_farmers_that_fail_still_after_retries_are_six(storj, network, bucket):
    refusing = network.faults.add('status:farmer=*,operation=push,times=0,status=500')
    try:
        done = storj('cp', '--retries', '1', '-', f'storj://{bucket}/a', input=b'abc', code=6)
    finally:
        network.faults.remove(refusing)
    assert '2 farmers failed' in done.err


def test_traceback_comes_with_two_v_only(storj):
    quiet = storj('ls', STORJ_BRIDGE_PASS='wrong', code=4)
    assert 'Traceback' not in quiet.err
    loud = storj('ls', '-vv', STORJ_BRIDGE_PASS='wrong', code=4)
    assert 'Traceback' in loud.err
    assert 'Traceback' in storj('ls', STORJ_BRIDGE_PASS='wrong', STORJ_DEBUG='1', code=4).err


def test_log_file_has_everything_and_no_secret(storj, network, tmp_path):
    log = tmp_path / 'log'
    storj('--log-file', log, 'ls')
    text = log.read_text()
    assert 'GET /buckets' in text
    assert network.password not in text
    assert network.mnemonic not in text


def test_json_is_also_a_setting_of_the_environment(storj):
    assert isinstance(storj('ls', STORJ_JSON='1').json(), list)


def test_sync_removes_nothing_while_it_cannot_see_all(storj, bucket, tmp_path):
    folder = tmp_path / 'folder'
    folder.mkdir()
    (folder / 'a').write_text('a')
    (folder / 'b').write_text('b')
    storj('sync', folder, f'storj://{bucket}/')
    (folder / 'a').unlink()
    (folder / 'b').unlink()
    (folder / 'b').symlink_to('elsewhere')
    (folder / 'c').write_text('c')
    storj('sync', folder, f'storj://{bucket}/', code=3)
    done = storj('sync', '--delete', '--yes', folder, f'storj://{bucket}/', code=3)
    assert 'nothing is removed' in done.err
    assert [row['name'] for row in storj('ls', bucket, '--json').json()] == ['a', 'b', 'c']


def test_sync_from_a_prefix_without_files_is_refused(storj, bucket, tmp_path):
    (tmp_path / 'kept').write_text('kept')
    storj('sync', '--delete', '--yes', f'storj://{bucket}/mistyped', tmp_path, code=5)
    assert (tmp_path / 'kept').exists()
    storj('sync', '--delete', '--yes', f'storj://{bucket}/', tmp_path)
    assert not (tmp_path / 'kept').exists()


def test_failed_removals_are_told_of_in_every_form(storj, bucket, tmp_path, monkeypatch):
    for name in 'ab':
        (tmp_path / name).write_text(name)
        storj('cp', tmp_path / name, f'storj://{bucket}/')
    remove = Client.file_remove
    lost = storj('file', 'info', bucket, 'a', '--json').json()['id']

    def file_remove(self, bucket_id, file_id):
        if file_id == lost:
            raise NotFoundError('gone')
        return remove(self, bucket_id, file_id)

    monkeypatch.setattr(Client, 'file_remove', file_remove)
    done = storj('rm', '-r', '--yes', '--json', f'storj://{bucket}/', code=3)
    *events, summary = done.events()
    assert [(event['type'], event['name']) for event in events] == [
        ('file_failed', 'a'),
        ('file_removed', 'b'),
    ]
    assert (summary['files_removed'], summary['files_failed']) == (1, 1)
    storj('cp', tmp_path / 'b', f'storj://{bucket}/')
    done = storj('rm', '-r', '--yes', '-q', f'storj://{bucket}/', code=3)
    assert f'failed: storj://{bucket}/a: gone' in done.err


# ---- passwords within URLs


@pytest.mark.parametrize(
    'words',
    [
        ('config', 'show'),
        ('config', 'show', '--json'),
        ('config', 'get', 'bridge'),
        ('config', 'get', 'proxy'),
        ('info',),
        ('ls', '-vv', '--json'),
        ('account', 'login', '-vv'),
        ('account', 'delete', '-vv'),
        ('metadisk', 'status', '-vv'),
        ('file', 'list', 'bucket', '-vv'),
    ],
    ids=' '.join,
)
@pytest.mark.parametrize(
    'environment',
    [
        {'STORJ_BRIDGE': 'http://me:hushquiet@127.0.0.1:1/'},
        {'STORJ_BRIDGE': 'http://me:hush/quiet@127.0.0.1:1/'},
        {'STORJ_BRIDGE': 'ftp://me:hushquiet@127.0.0.1:1/'},
        {'STORJ_BRIDGE': 'http://127.0.0.1:1/', 'STORJ_PROXY': 'http://me:hushquiet@127.0.0.1:1'},
        {'STORJ_BRIDGE': 'http://127.0.0.1:1/', 'STORJ_PROXY': 'ftp://me:hushquiet@127.0.0.1:1'},
    ],
    ids=lambda environment: ' '.join(environment.values()),
)
def test_password_in_a_url_is_shown_nowhere(stranger, tmp_path, words, environment, hurried):
    log = tmp_path / 'log'
    account = {'STORJ_BRIDGE_USER': 'you', 'STORJ_BRIDGE_PASS': 'other', 'STORJ_DEBUG': 'http'}
    done = stranger(*words, '--log-file', log, code=None, **environment, **account)
    told = done.out + done.err + log.read_text()
    assert 'hush' not in told
    assert 'quiet@' not in told
