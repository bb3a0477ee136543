"""Settings: where they come from, in which order, and what a broken file says."""

from __future__ import annotations

import configparser
import dataclasses
import errno
import logging
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj import configuration
from storj.crypto import credentials
from storj.exception import ConfigurationError
from storj.system import file_lock, ini


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of one's own, without any setting."""
    for name in list(os.environ):
        if name.startswith('STORJ_'):
            monkeypatch.delenv(name)
    monkeypatch.setenv('HOME', str(tmp_path))
    place = tmp_path / '.storj'
    place.mkdir(mode=0o700)
    return place


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / 'storj.ini'
    path.write_text(text, encoding='utf-8')
    path.chmod(mode)
    return path


ACCOUNT = '[storj]\nemail = alice@example.org\npassword = correct horse\n'


# -- the documented function -----------------------------------------------------------------------


def test_names_are_those_of_the_documentation() -> None:
    assert (configuration.APP_NAME, configuration.CFG_EMAIL, configuration.CFG_PASSWORD) == (
        'storj',
        'email',
        'password',
    )


def test_account_is_read_from_the_documented_file(folder: Path) -> None:
    write(folder, ACCOUNT)
    assert configuration.read_config() == ('alice@example.org', 'correct horse')


def test_environment_goes_before_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, ACCOUNT)
    monkeypatch.setenv('STORJ_EMAIL', 'old@alias')
    assert configuration.read_config()[0] == 'old@alias'
    monkeypatch.setenv('STORJ_BRIDGE_USER', 'new@name')
    monkeypatch.setenv('STORJ_BRIDGE_PASS', 'pw')
    assert configuration.read_config() == ('new@name', 'pw')


def test_missing_file_says_what_to_write(folder: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configuration.read_config()
    message = str(caught.value)
    assert str(folder / 'storj.ini') in message
    for word in ('[storj]', 'email = ', 'password = ', 'STORJ_BRIDGE_USER', 'STORJ_BRIDGE_PASS'):
        assert word in message


@pytest.mark.parametrize(
    ('text', 'missing'),
    [
        ('', 'email'),
        ('[storj]\n', 'email'),
        ('[storj]\nemail = a\n', 'password'),
        ('[storj]\npassword = a\n', 'email'),
        ('[other]\nemail = a\npassword = b\n', 'email'),
    ],
)
def test_incomplete_file_says_what_is_missing(folder: Path, text: str, missing: str) -> None:
    write(folder, text)
    with pytest.raises(ConfigurationError, match=f'no {missing} in '):
        configuration.read_config()


@pytest.mark.parametrize(
    ('text', 'line'),
    [
        ('hunter2\n', 1),
        ('[storj]\nemail = a\nhunter2\n', 3),
        ('[storj]\nemail = a\nemail = hunter2\n', 3),
        ('[storj]\n[storj]\npassword = hunter2\n', 2),
        ('password = hunter2\n', 1),
        ('[storj\npassword = hunter2', 1),
    ],
)
def test_broken_file_is_named_and_never_quoted(folder: Path, text: str, line: int) -> None:
    path = write(folder, text)
    with pytest.raises(ConfigurationError) as caught:
        configuration.read_config()
    assert f'line {line} of {path}' in str(caught.value)
    assert 'hunter2' not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize('content', [b'\xff\xfe[storj]', b'x' * 2_000_000, b'\0'])
def test_file_of_another_kind_is_named(folder: Path, content: bytes) -> None:
    path = folder / 'storj.ini'
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match=str(path)):
        configuration.load()


def test_folder_in_place_of_the_file_is_named(folder: Path) -> None:
    (folder / 'storj.ini').mkdir()
    with pytest.raises(ConfigurationError, match='cannot read'):
        configuration.load()


def test_byte_order_mark_and_percent_signs_are_no_trouble(folder: Path) -> None:
    write(folder, '\ufeff[storj]\nemail = a@b\npassword = 50%(off)s #1; ä\n')
    assert configuration.read_config() == ('a@b', '50%(off)s #1; ä')


@pytest.mark.skipif(os.name != 'posix', reason='modes are those of POSIX')
@pytest.mark.parametrize(('mode', 'warned'), [(0o600, False), (0o640, True), (0o604, True)])
def test_file_that_others_can_read_gets_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: bool
) -> None:
    path = write(folder, ACCOUNT, mode)
    with caplog.at_level(logging.WARNING, 'storj.configuration'):
        configuration.read_config()
    assert (str(path) in caplog.text) is warned
    assert 'correct horse' not in caplog.text


# -- where it is -----------------------------------------------------------------------------------


def test_folder_can_be_chosen(tmp_path: Path) -> None:
    env = {'STORJ_CONFIG_DIR': str(tmp_path)}
    assert configuration.config_path(env) == tmp_path / 'storj.ini'
    assert configuration.default_folder({}) == Path.home() / '.storj'


def test_folder_on_windows_is_the_documented_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def user_data_dir(*args: Any, **options: Any) -> str:
        asked.append((args, options))
        return str(tmp_path)

    monkeypatch.setattr(sys, 'platform', 'win32')
    monkeypatch.setattr(configuration.appdirs, 'user_data_dir', user_data_dir)
    assert configuration.default_folder({}) == tmp_path
    # Without an author: ...\AppData\Local\storj, not roaming.
    assert asked == [(('storj',), {'appauthor': False})]


# -- all settings ----------------------------------------------------------------------------------


def test_nothing_said_is_the_default(folder: Path) -> None:
    found = configuration.load()
    assert found == configuration.Configuration(
        'storj', folder / 'storj.ini', key_file=folder / 'api.storj.io.json'
    )
    assert found.bridge == 'https://api.storj.io/'


VALUES = [
    ('STORJ_BRIDGE', 'bridge', 'http://b', 'http://b'),
    ('STORJ_BRIDGE_USER', 'email', 'a@b', 'a@b'),
    ('STORJ_EMAIL', 'email', 'a@b', 'a@b'),
    ('STORJ_BRIDGE_PASS', 'password', 'pw', 'pw'),
    ('STORJ_PASSWORD', 'password', 'pw', 'pw'),
    ('STORJ_ENCRYPTION_KEY', 'mnemonic', 'words', 'words'),
    ('STORJ_KEYPASS', 'keypass', 'pass', 'pass'),
    ('STORJ_PROXY', 'proxy', 'http://p', 'http://p'),
    ('STORJ_TEMP', 'temp_dir', '/tmp/x', Path('/tmp/x')),
    ('STORJ_REED_SOLOMON', 'reed_solomon', 'false', False),
    ('STORJ_REED_SOLOMON', 'reed_solomon', 'TRUE', True),
    ('STORJ_PLAIN_NAMES', 'plain_names', '1', True),
    ('STORJ_PUSH_SHARD_LIMIT', 'push_shard_limit', '64', 64),
    ('STORJ_DEBUG', 'debug', 'http', 'http'),
    ('STORJ_DEBUG', 'debug', '0', None),
    ('STORJ_JSON', 'json', '1', True),
    ('STORJ_NO_PROGRESS', 'progress', '1', False),
    ('STORJ_NO_PROGRESS', 'progress', '0', True),
    ('STORJ_PROGRESS', 'progress', 'no', False),
    ('STORJ_TRANSFERS', 'transfers', '8', 8),
    ('STORJ_LIMIT_UPLOAD', 'limit_upload', '2MiB/s', 2 * 1024**2),
    ('STORJ_LIMIT_UPLOAD', 'limit_upload', 'off', 0),
    ('STORJ_BUFFER_SIZE', 'buffer_size', '1M', 1024**2),
    ('STORJ_TIMEOUT', 'timeout', '1m30s', 90.0),
    ('STORJ_COLOR', 'color', 'never', 'never'),
]


@pytest.mark.parametrize(('variable', 'attribute', 'text', 'value'), VALUES)
def test_variable_of_the_environment_is_read(
    folder: Path, variable: str, attribute: str, text: str, value: Any
) -> None:
    env = {'STORJ_CONFIG_DIR': str(folder), variable: text}
    assert getattr(configuration.load(environ=env), attribute) == value


@pytest.mark.parametrize(
    ('line', 'attribute', 'value'),
    [
        ('bridge = http://b', 'bridge', 'http://b'),
        ('mnemonic = some words', 'mnemonic', 'some words'),
        ('private_key = key.pem', 'private_key', Path('key.pem')),
        ('key_file = /k.json', 'key_file', Path('/k.json')),
        ('proxy = http://p', 'proxy', 'http://p'),
        ('reed_solomon = no', 'reed_solomon', False),
        ('keyring = yes', 'keyring', True),
        ('keypass = never', 'keypass', None),
        ('unknown = ignored', 'email', None),
    ],
)
def test_line_of_the_file_is_read(folder: Path, line: str, attribute: str, value: Any) -> None:
    write(folder, f'[storj]\n{line}\n')
    env = {'STORJ_CONFIG_DIR': str(folder), 'HOME': os.environ['HOME']}
    assert getattr(configuration.load(environ=env), attribute) == value


def test_line_that_sets_nothing_is_named_once_without_its_value(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(folder, '[storj]\nbridg = http://secret\nxyz = secret\nkeypass = secret\n')
    with caplog.at_level(logging.WARNING, 'storj.configuration'):
        for _ in range(2):
            configuration.load(environ={'STORJ_CONFIG_DIR': str(folder)})
    assert caplog.messages == [
        f'{path}: unknown setting bridg in section [storj]; is bridge meant?',
        f'{path}: unknown setting xyz in section [storj]',
        f'{path}: unknown setting keypass in section [storj]: it is not read from a file',
    ]


def test_home_is_written_out_in_paths(folder: Path) -> None:
    assert configuration.load(private_key='~/key.pem').private_key == folder.parent / 'key.pem'


def test_order_is_caller_environment_file_default(folder: Path) -> None:
    write(folder, '[storj]\nbridge = http://file\n')
    env = {'STORJ_CONFIG_DIR': str(folder)}
    assert configuration.load(environ=env).bridge == 'http://file'
    env['STORJ_BRIDGE'] = 'http://environment'
    assert configuration.load(environ=env).bridge == 'http://environment'
    assert configuration.load(environ=env, bridge='http://caller').bridge == 'http://caller'
    assert configuration.load(environ=env, bridge=None).bridge == 'http://environment'
    env['STORJ_BRIDGE'] = ''
    assert configuration.load(environ=env).bridge == 'http://file'


@pytest.mark.parametrize(
    ('variable', 'text'),
    [
        ('STORJ_REED_SOLOMON', 'perhaps'),
        ('STORJ_PUSH_SHARD_LIMIT', '0'),
        ('STORJ_PUSH_SHARD_LIMIT', '-1'),
        ('STORJ_PUSH_SHARD_LIMIT', '99999'),
        ('STORJ_PUSH_SHARD_LIMIT', '9' * 5000),
        ('STORJ_PUSH_SHARD_LIMIT', 'x'),
        ('STORJ_JSON', '2'),
        ('STORJ_TRANSFERS', '65'),
        ('STORJ_LIMIT_DOWNLOAD', 'fast'),
        ('STORJ_TIMEOUT', '0'),
        ('STORJ_COLOR', 'red'),
        ('STORJ_KEY_SCHEME', 'v1'),
        ('STORJ_BUFFER_SIZE', '9' * 5000),
    ],
)
def test_value_that_makes_no_sense_names_its_place(folder: Path, variable: str, text: str) -> None:
    env = {'STORJ_CONFIG_DIR': str(folder), variable: text}
    with pytest.raises(ConfigurationError, match=variable):
        configuration.load(environ=env)


def test_bytes_that_are_no_text_are_named_and_not_quoted(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match='STORJ_BRIDGE_PASS is not UTF-8') as caught:
        configuration.load(environ={'STORJ_BRIDGE_PASS': 'hunter\udcff'})
    assert 'udcff' not in str(caught.value)
    with pytest.raises(ConfigurationError, match='password is not UTF-8'):
        configuration.save(environ={'STORJ_CONFIG_DIR': str(folder)}, password='hunter\udcff')
    # A locale without these characters hands over the bytes of a text.
    found = configuration.load(environ={'STORJ_BRIDGE_PASS': 'p\udcc3\udca4ss'})
    assert found.password == 'päss'


def test_line_that_makes_no_sense_names_its_place(folder: Path) -> None:
    path = write(folder, '[work]\npush_shard_limit = many\n')
    with pytest.raises(ConfigurationError, match=r'push_shard_limit in section \[work\] of ') as e:
        configuration.load('work')
    assert str(path) in str(e.value)


def test_source_of_a_value_is_told(folder: Path) -> None:
    path = write(folder, '[storj]\ntransfers = 2\nretries = 1\nno_progress = yes\n')
    env = {'STORJ_CONFIG_DIR': str(folder), 'STORJ_RETRIES': '3', 'STORJ_BRIDGE': 'http://a:b@c/'}
    found = configuration.load(environ=env, deadline=5)
    assert found.sources == {
        'bridge': 'STORJ_BRIDGE',
        'email': 'STORJ_BRIDGE',
        'password': 'STORJ_BRIDGE',
        'transfers': str(path),
        'retries': 'STORJ_RETRIES',
        'deadline': 'argument',
        'progress': str(path),
    }
    assert (found.transfers, found.retries, found.progress) == (2, 3, False)


def test_unknown_setting_is_a_mistake_of_the_caller(folder: Path) -> None:
    with pytest.raises(TypeError, match='colour'):
        configuration.load(colour='red')
    with pytest.raises(TypeError, match='colour'):
        configuration.save(colour='red')
    with pytest.raises(TypeError, match='keypass'):
        configuration.save(keypass='secret')
    assert not (folder / 'storj.ini').exists()


def test_profile_is_a_section(folder: Path) -> None:
    write(folder, ACCOUNT + '[work]\nemail = work@example.org\n')
    env = {'STORJ_CONFIG_DIR': str(folder)}
    assert configuration.load('work', environ=env).email == 'work@example.org'
    assert configuration.load('work', environ=env).password is None
    assert configuration.load(environ={**env, 'STORJ_PROFILE': 'work'}).profile == 'work'
    assert configuration.profiles(env) == ['storj', 'work']
    with pytest.raises(ConfigurationError, match="no profile 'home'"):
        configuration.load('home', environ=env)


@pytest.mark.parametrize(
    ('account', 'email', 'password'),
    [
        ({}, 'me@example.org', 'se:cr@t'),
        ({'STORJ_BRIDGE_USER': 'me@example.org'}, 'me@example.org', 'se:cr@t'),
        ({'STORJ_BRIDGE_USER': 'other@example.org'}, 'other@example.org', None),
        ({'STORJ_BRIDGE_PASS': 'given'}, 'me@example.org', 'given'),
    ],
)
def test_account_in_the_bridges_url_is_taken_out(
    folder: Path, account: dict[str, str], email: str, password: str | None
) -> None:
    url = 'http://me%40example.org:se%3Acr%40t@127.0.0.1:6382/below'
    found = configuration.load(environ={'STORJ_BRIDGE': url, **account})
    assert (found.bridge, found.email) == ('http://127.0.0.1:6382/below', email)
    assert found.password == password
    assert 'cr' not in repr(found)


@pytest.mark.parametrize(
    ('kept', 'used', 'same'),
    [
        ('http://bridge.test', 'http://bridge.test/', True),
        ('http://bridge.test', 'http://Bridge.Test:80/below', True),
        ('https://bridge.test', 'https://bridge.test:443', True),
        ('http://u:p@bridge.test', 'http://bridge.test', True),
        (None, 'https://api.storj.io', True),
        ('http://bridge.test', None, True),
        ('http://bridge.test', 'http://other.test', False),
        ('http://bridge.test', 'http://bridge.test.evil', False),
        ('http://bridge.test', 'http://bridge.test@evil', False),
        ('http://bridge.test', 'http://bridge.test:6382', False),
        ('https://bridge.test', 'http://bridge.test', False),
        (None, 'http://127.0.0.1:6382', False),
        ('http://bridge.test', 'http://[a', False),
        ('http://[a', 'http://bridge.test', False),
    ],
)
@pytest.mark.parametrize('way', ['caller', 'environment'])
def test_login_of_the_file_is_used_at_its_own_bridge_only(
    folder: Path, kept: str | None, used: str | None, same: bool, way: str
) -> None:
    line = f'bridge = {kept}\n' if kept else ''
    write(folder, f'{ACCOUNT}private_key = {folder}/key.pem\nmnemonic = words\n{line}')
    env = {'STORJ_CONFIG_DIR': str(folder)}
    if way == 'caller':
        found = configuration.load(environ=env, bridge=used)
    else:
        found = configuration.load(environ={**env, **({'STORJ_BRIDGE': used} if used else {})})
    login = (found.email, found.password, found.private_key)
    if same:
        assert login == ('alice@example.org', 'correct horse', folder / 'key.pem')
        assert found.login_bridge is None
    else:
        assert login[1:] == (None, None)
        # The second host's URL names an account of its own.
        assert login[0] == ('bridge.test' if '@' in str(used) else None)
        shown = 'another bridge' if kept == 'http://[a' else kept
        assert found.login_bridge == (shown or configuration.DEFAULT_BRIDGE)
    # It is never sent.
    assert found.mnemonic == 'words'


def test_account_that_is_named_with_another_bridge_is_used(folder: Path) -> None:
    write(folder, ACCOUNT)
    env = {'STORJ_CONFIG_DIR': str(folder)}
    for variables in (
        {'STORJ_BRIDGE': 'http://bob:pw@bridge.test'},
        {'STORJ_BRIDGE': 'http://bridge.test', 'STORJ_EMAIL': 'bob', 'STORJ_PASSWORD': 'pw'},
    ):
        found = configuration.load(environ={**env, **variables})
        assert (found.email, found.password) == ('bob', 'pw')
    found = configuration.load(environ=env, bridge='http://bridge.test', email='bob', password='pw')
    assert (found.email, found.password) == ('bob', 'pw')


def test_malformed_url_of_the_bridge_is_left_to_the_client(folder: Path) -> None:
    assert configuration.load(environ={'STORJ_BRIDGE': 'http://[a'}).bridge == 'http://[a'


def test_configuration_is_frozen_and_shows_no_secret(folder: Path) -> None:
    found = configuration.load(
        email='a@b',
        password='hunter2',
        mnemonic='hunter2',
        keypass='hunter2',
        proxy='http://u:hunter2@p',
    )
    assert 'hunter2' not in repr(found)
    assert 'a@b' in repr(found)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.email = 'other'  # type: ignore[misc]


# -- libstorj's file -------------------------------------------------------------------------------


@pytest.fixture
def key_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # 200,000 rounds are libstorj's; a few are enough to see who calls whom.
    monkeypatch.setattr(credentials, '_ROUNDS', 2)
    account = credentials.Credentials('lib@example.org', 'lib password', 'lib words')
    path = folder / 'bridge.test.json'
    path.write_text(credentials.encode(account, 'open sesame'), encoding='utf-8')
    return path


def settings_with(folder: Path, passphrase: str, **given: Any) -> configuration.Configuration:
    env = {'STORJ_CONFIG_DIR': str(folder), 'STORJ_KEYPASS': passphrase}
    return configuration.load(environ=env, **{'bridge': 'http://bridge.test:6382', **given})


def test_libstorjs_account_is_opened_with_its_passphrase(folder: Path, key_file: Path) -> None:
    found = settings_with(folder, 'open sesame')
    assert found.key_file == key_file
    account = (found.email, found.password, found.mnemonic)
    assert account == ('lib@example.org', 'lib password', 'lib words')


def test_libstorjs_file_of_the_settings_is_for_their_bridge(folder: Path, key_file: Path) -> None:
    elsewhere = key_file.rename(folder / 'elsewhere.json')
    write(folder, f'[storj]\nkey_file = {elsewhere}\nbridge = http://bridge.test:6382\n')
    assert settings_with(folder, 'open sesame').password == 'lib password'
    found = settings_with(folder, 'open sesame', bridge='http://other.test')
    assert (found.email, found.password) == (None, None)
    assert found.login_bridge == 'http://bridge.test:6382'


def test_libstorjs_account_adds_only_what_is_missing(folder: Path, key_file: Path) -> None:
    found = settings_with(folder, 'open sesame', email='lib@example.org', mnemonic='my words')
    assert (found.password, found.mnemonic) == ('lib password', 'my words')
    other = settings_with(folder, 'open sesame', email='other@example.org')
    assert (other.password, other.mnemonic) == (None, None)


def test_libstorjs_account_of_another_bridge_is_left_alone(folder: Path, key_file: Path) -> None:
    assert settings_with(folder, 'open sesame', bridge='http://other.test').email is None
    assert settings_with(folder, 'open sesame', bridge='nonsense').key_file is None
    found = settings_with(folder, 'open sesame', bridge='http://x', key_file=key_file)
    assert found.email == 'lib@example.org'


def test_wrong_passphrase_names_the_file(folder: Path, key_file: Path) -> None:
    with pytest.raises(ConfigurationError, match='STORJ_KEYPASS') as caught:
        settings_with(folder, 'wrong')
    assert str(key_file) in str(caught.value)


@pytest.mark.parametrize('content', ['', '{', '[]', '{"user": 5}', '{"user": "a", "pass": "x"}'])
def test_broken_key_file_is_named(folder: Path, key_file: Path, content: str) -> None:
    key_file.write_text(content, encoding='utf-8')
    with pytest.raises(ConfigurationError, match=str(key_file)):
        settings_with(folder, 'open sesame')


def test_key_file_without_passphrase_is_hinted_at(
    folder: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('STORJ_BRIDGE', 'http://bridge.test')
    with pytest.raises(ConfigurationError, match='STORJ_KEYPASS to open'):
        configuration.read_config()


# -- writing ---------------------------------------------------------------------------------------


def test_saved_settings_are_read_back(tmp_path: Path) -> None:
    env = {'STORJ_CONFIG_DIR': str(tmp_path / 'new' / 'folder')}
    path = configuration.save(environ=env, email='a@b', password='50% #off', bridge='http://b')
    assert path == tmp_path / 'new' / 'folder' / 'storj.ini'
    found = configuration.load(environ=env)
    assert (found.email, found.password, found.bridge) == ('a@b', '50% #off', 'http://b')


@pytest.mark.skipif(os.name != 'posix', reason='modes are those of POSIX')
def test_saved_file_is_its_owners_alone(tmp_path: Path) -> None:
    env = {'STORJ_CONFIG_DIR': str(tmp_path / 'new')}
    before = os.umask(0)
    try:
        path = configuration.save(environ=env, email='a@b')
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_saving_leaves_the_rest_alone(folder: Path) -> None:
    write(folder, ACCOUNT + 'strange = kept\n[work]\nemail = w\n')
    env = {'STORJ_CONFIG_DIR': str(folder)}
    configuration.save('work', environ=env, email='new', password=None)
    configuration.save(environ=env, password=None)
    text = (folder / 'storj.ini').read_text(encoding='utf-8')
    assert 'strange = kept' in text
    assert 'alice@example.org' in text
    assert 'password' not in text
    assert configuration.load('work', environ=env).email == 'new'


def test_saving_keeps_comments_order_and_spelling_of_keys(folder: Path) -> None:
    before = '# mine\n\n[work]\nEmail: old   \n; why\npassword = a\n  b\n\n# his\n[strange]\nx=1\n'
    after = '# mine\n\n[work]\nEmail = new\n; why\nbridge = http://b\n\n# his\n[strange]\nx=1\n'
    path = write(folder, before)
    env = {'STORJ_CONFIG_DIR': str(folder)}
    configuration.save('work', environ=env, email='new', password=None, bridge='http://b')
    assert path.read_text(encoding='utf-8') == after
    configuration.save('third', environ=env, email='e')
    assert path.read_text(encoding='utf-8').endswith('\nx=1\n\n[third]\nemail = e\n')


def test_lines_that_end_as_on_windows_go_on_doing_so(folder: Path) -> None:
    path = folder / 'storj.ini'
    path.write_bytes(b'\xef\xbb\xbf[storj]\r\n# note\r\nemail = a')
    path.chmod(0o600)
    configuration.save(environ={'STORJ_CONFIG_DIR': str(folder)}, email='b', password='c')
    assert path.read_bytes() == b'[storj]\r\n# note\r\nemail = b\r\npassword = c\r\n'


_LINES = st.sampled_from(
    [
        '',
        '  ',
        '# note',
        '   ; deep note',
        '[storj]',
        '  [storj]',
        '[work]',
        '    [work]',
        '[DEFAULT]',
        'email = a',
        '  EMAIL : b',
        'password =',
        '   password = c = d',
        'x = y',
        ' x: [y]',
        '\tmore',
        '      and more',
        '    [more]',
    ]
)


def _content(text: str) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, default_section='nobody')
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}


@given(
    st.lists(_LINES, max_size=14),
    st.sampled_from(['\n', '\r\n']),
    st.booleans(),
    st.dictionaries(
        st.sampled_from(['email', 'password', 'bridge']), st.sampled_from([None, '', '#v', '= w'])
    ),
)
def test_edit_changes_the_settings_and_nothing_else(
    lines: list[str], newline: str, last: bool, settings: dict[str, str | None]
) -> None:
    text = newline.join(lines) + (newline if last else '')
    try:
        expected = _content(text)
    except configparser.Error:
        return
    section = expected.setdefault('storj', {})
    for key, value in settings.items():
        if value is None:
            section.pop(key, None)
        else:
            section[key] = value
    edited = ini.edit(text, 'storj', settings)
    assert _content(edited) == expected
    assert _notes(edited) == _notes(text)


def _notes(text: str) -> list[str]:
    return [line.rstrip('\r') for line in text.split('\n') if line.strip()[:1] in ('#', ';')]


def test_savers_at_the_same_time_lose_nothing(folder: Path) -> None:
    env = {'STORJ_CONFIG_DIR': str(folder)}
    profiles = [f'profile{number}' for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: configuration.save(name, environ=env, email=name), profiles))
    assert sorted(configuration.profiles(env)) == sorted(profiles)
    assert [path.name for path in folder.iterdir()] == ['storj.ini']


def test_folder_without_locks_is_written_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, wait: bool) -> None:
        raise OSError(errno.ENOLCK, 'no locks available')

    monkeypatch.setattr(file_lock, '_lock_descriptor', refuse)
    env = {'STORJ_CONFIG_DIR': str(folder)}
    configuration.save(environ=env, email='a')
    assert configuration.load(environ=env).email == 'a'


@pytest.mark.parametrize(
    'value',
    ['two\nlines', ' space', 'space ', 'nul\0', 'cr\r', '"', '""', '"a"', '" a"', '"\\"'],
)
def test_text_that_the_file_would_change_is_quoted(folder: Path, value: str) -> None:
    environ = {'STORJ_CONFIG_DIR': str(folder)}
    configuration.save(environ=environ, password=value, email='a')
    assert configuration.load(environ=environ).password == value


@pytest.mark.parametrize('value', ['"correct horse"', '"', '"unfinished', '"a" and "b"', "' a '"])
def test_quotes_of_earlier_releases_belong_to_the_value(folder: Path, value: str) -> None:
    write(folder, f'[storj]\npassword = {value}\n')
    assert configuration.load(environ={'STORJ_CONFIG_DIR': str(folder)}).password == value


def test_mnemonic_that_is_replaced_is_nobodys_until_it_is_said(folder: Path) -> None:
    environ = {'STORJ_CONFIG_DIR': str(folder)}
    configuration.save(environ=environ, mnemonic='one', mnemonic_email='a@b')
    assert configuration.load(environ=environ).mnemonic_email == 'a@b'
    configuration.save(environ=environ, mnemonic='two')
    assert configuration.load(environ=environ).mnemonic_email is None


def test_profile_needs_a_name_that_can_be_one(folder: Path) -> None:
    with pytest.raises(ValueError, match='DEFAULT'):
        configuration.save('DEFAULT', environ={'STORJ_CONFIG_DIR': str(folder)}, email='a')


def test_broken_file_is_not_overwritten(folder: Path) -> None:
    path = write(folder, 'hunter2\n')
    with pytest.raises(ConfigurationError):
        configuration.save(environ={'STORJ_CONFIG_DIR': str(folder)}, email='a')
    assert path.read_text(encoding='utf-8') == 'hunter2\n'


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, password: str, mnemonic: str
) -> None:
    env = {'STORJ_CONFIG_DIR': str(tmp_path_factory.mktemp('settings'))}
    configuration.save(environ=env, password=password, mnemonic=mnemonic)
    found = configuration.load(environ=env)
    assert (found.password or '', found.mnemonic or '') == (password, mnemonic)


def test_line_without_a_value_says_nothing(tmp_path: Path) -> None:
    environ = {'STORJ_CONFIG_DIR': str(tmp_path)}
    path = tmp_path / 'storj.ini'
    path.write_text('[storj]\nemail =\npassword =\nbridge =\nreed_solomon =\n')
    path.chmod(0o600)
    settings = configuration.load(environ=environ)
    assert settings.email is settings.password is None
    assert settings.bridge == configuration.DEFAULT_BRIDGE
    assert settings.reed_solomon


@pytest.mark.parametrize('variable', ['STORJ_CONFIG_DIR', 'STORJ_TEMP'])
def test_home_that_nobody_has_is_an_error_of_ours(tmp_path: Path, variable: str) -> None:
    environ = {'STORJ_CONFIG_DIR': str(tmp_path), variable: '~no such user/x'}
    with pytest.raises(ConfigurationError, match=variable):
        configuration.load(environ=environ)


@pytest.mark.parametrize('profile', ['a\nemail = x', 'a\r', 'a\0b'])
def test_profile_that_would_damage_the_file_is_refused(tmp_path: Path, profile: str) -> None:
    with pytest.raises(ValueError, match='profile'):
        configuration.save(profile, environ={'STORJ_CONFIG_DIR': str(tmp_path)}, email='e')
    assert not list(tmp_path.iterdir())


def test_user_without_a_home_is_configured_by_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_home(_: Path) -> Path:
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.setattr(Path, 'expanduser', no_home)
    settings = configuration.load(environ={'STORJ_BRIDGE_USER': 'a@example.org'})
    assert (settings.email, settings.path) == ('a@example.org', Path(os.devnull))
    for environ in ({'STORJ_PROFILE': 'work'}, {'STORJ_CONFIG_DIR': '~/storj'}):
        with pytest.raises(ConfigurationError, match='no such home folder'):
            configuration.load(environ=environ)
    with pytest.raises(ConfigurationError, match='no such home folder'):
        configuration.save(bridge='http://127.0.0.1:1', environ={})
