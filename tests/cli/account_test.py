"""storj account: from registering to closing, with the mails of a bridge in mode mail."""

from __future__ import annotations

import configparser
import http.server
import json
import re
import stat
import threading
from pathlib import Path

import pytest

from storj.crypto import credentials, mnemonic
from storj.network import Network


@pytest.fixture(scope='module')
def mailing():
    """A bridge that wants accounts to be activated."""
    with Network(farmers=0, activation='mail', bridge={'audit_interval': 0}) as running:
        yield running


def newest_token(network):
    """Return the token in the newest message of the bridge."""
    mails = sorted((network.data / 'outbox').iterdir(), key=lambda path: path.stat().st_mtime_ns)
    found = re.findall(
        r'/(?:activations|resets|deactivations)/([0-9a-f]{32,})', mails[-1].read_text()
    )
    return found[-1]


def ini(home):
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(Path(home['STORJ_CONFIG_DIR']) / 'storj.ini')
    return parser


def test_life_of_an_account(stranger, home, mailing):
    at = {'STORJ_BRIDGE': mailing.bridge_url}
    who = ('--email', 'alice@example.org', '--password-file', '-')
    made = stranger('account', 'register', *who, input='first\n', **at)
    assert 'account alice@example.org created' in made.out
    assert 'storj account activate' in made.err
    refused = stranger('account', 'login', *who, input='first\n', code=4, **at)
    assert 'not been activated' in refused.err
    stranger('account', 'activate', '--resend', '--email', 'alice@example.org', **at)
    stranger('account', 'activate', newest_token(mailing), **at)
    stranger('account', 'register', *who, input='first\n', code=9, **at)

    done = stranger('account', 'login', *who, input='first\n', **at)
    words = ini(home)['storj']['mnemonic']
    mnemonic.check(words)
    assert words in done.err
    assert 'first' not in done.out + done.err
    path = Path(home['STORJ_CONFIG_DIR']) / 'storj.ini'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    # The bridge is remembered, and the key is shown once only.
    stranger('ls')
    again = stranger('account', 'login', *who, input='first\n')
    assert words not in again.out + again.err
    assert ini(home)['storj']['mnemonic'] == words

    ask = ('account', 'reset-password', '--email', 'alice@example.org')
    stranger(*ask)
    token = newest_token(mailing)
    stranger(
        'account', 'reset-password', '--token', token, '--password-file', '-', input='second\n'
    )
    stranger('ls', code=4)
    stranger('account', 'login', *who, input='second\n')
    stranger('ls')

    assert 'with 0 buckets' in stranger('account', 'delete', code=2).err
    stranger('account', 'delete', '--yes')
    stranger('account', 'delete', '--token', newest_token(mailing))
    stranger('ls', code=4)


def test_logout_keeps_the_encryption_key_by_default(stranger, home, network):
    stranger('account', 'login', **network.environment())
    assert ini(home)['storj']['email'] == network.email
    stranger('ls')
    stranger('account', 'logout')
    assert set(ini(home)['storj']) == {'bridge', 'mnemonic', 'mnemonic_email'}
    assert stranger('ls', code=4).out == ''
    stranger('account', 'logout', '--forget-words', code=2)
    stranger('account', 'logout', '--forget-mnemonic', '--yes')
    assert list(ini(home)['storj']) == ['bridge']


@pytest.fixture
def other(stranger, network):
    """An account beside that of the network, with the arguments that name it."""
    at = {'STORJ_BRIDGE': network.bridge_url}
    who = ('--email', 'other@example.org', '--password-file', '-')
    stranger('account', 'register', *who, input='secret\n', code=None, **at)
    return lambda *words, **options: stranger(*words, *who, input='secret\n', **{**at, **options})


def test_login_as_another_account_never_takes_the_key(stranger, home, network, other):
    stranger('account', 'login', **network.environment())
    for _ in range(2):
        refused = other('account', 'login', code=9)
        assert f'has the encryption key of {network.email}' in refused.err
        assert '--profile NAME' in refused.err
        # Nor after a logout, which keeps the key.
        stranger('account', 'logout')
    assert ini(home)['storj']['mnemonic'] == network.mnemonic
    other('--profile', 'other', 'account', 'login')
    assert ini(home)['other']['mnemonic'] != network.mnemonic
    stranger('account', 'logout', '--forget-mnemonic', '--yes')
    other('account', 'login')
    assert ini(home)['storj']['mnemonic'] != network.mnemonic


def test_key_of_the_environment_belongs_to_its_account(home, network, other):
    other('account', 'login', **network.environment())
    assert ini(home)['storj']['email'] == 'other@example.org'
    assert ini(home)['storj']['mnemonic'] != network.mnemonic


def test_key_without_an_owner_is_taken(stranger, home, network, other):
    stranger('key', 'load', '--mnemonic-file', '-', input=network.mnemonic)
    other('account', 'login')
    assert ini(home)['storj']['mnemonic'] == network.mnemonic
    assert ini(home)['storj']['mnemonic_email'] == 'other@example.org'


def test_login_never_replaces_the_key(stranger, home, network):
    stranger('account', 'login', **network.environment())
    words = {'STORJ_ENCRYPTION_KEY': mnemonic.generate()}
    refused = stranger('account', 'login', code=9, **{**network.environment(), **words})
    assert 'another encryption key' in refused.err
    assert ini(home)['storj']['mnemonic'] == network.mnemonic


def test_login_shared_with_libstorj_is_left_to_its_account(stranger, home, network, other):
    keypass = {'STORJ_KEYPASS': 'open sesame'}
    stranger('account', 'login', '--libstorj', **network.environment(), **keypass)
    path = Path(home['STORJ_CONFIG_DIR']) / '127.0.0.1.json'
    before = path.read_bytes()
    refused = other('--profile', 'new', 'account', 'login', '--libstorj', code=9, **keypass)
    assert str(path) in refused.err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    'password',
    [' blanks ', '"quotes"', '\ttab', 'p' * 5000, 'pässwörd 本', '50% #;=', '\u3000wide\u00a0'],
    ids=ascii,
)
def test_password_that_is_registered_logs_in_and_stays(stranger, home, network, password):
    at = {'STORJ_BRIDGE': network.bridge_url}
    who = ('--email', f'{hash(password) & 0xFFFFFFFF:x}@example.org', '--password-file', '-')
    stranger('account', 'register', *who, input=f'{password}\n', **at)
    stranger('account', 'login', *who, input=f'{password}\n', **at)
    stranger('ls')
    stranger('account', 'login')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'no password in the first line of'),
        (b'\nhunter2', 'no password in the first line of'),
        (b'p' * 65537, 'is longer than 65536 bytes'),
        (b'hunter2\xe9\n', 'is not UTF-8 text'),
    ],
)
@pytest.mark.parametrize('command', ['register', 'login'])
def test_password_that_cannot_be_one_is_refused(
    stranger, network, tmp_path, command, content, message
):
    path = tmp_path / 'password'
    path.write_bytes(content)
    who = ('--email', 'a@example.org', '--password-file')
    at = {'STORJ_BRIDGE': network.bridge_url}
    for place, given in ((path, None), ('-', content)):
        done = stranger('account', command, *who, place, '-vv', input=given, code=2, **at)
        assert message in done.err
        assert 'xe9' not in done.err
        assert 'hunter' not in done.err


def test_logout_says_when_the_environment_still_logs_in(stranger, network):
    stranger('account', 'login', **network.environment())
    done = stranger('account', 'logout', **network.environment())
    assert 'STORJ_BRIDGE_USER and STORJ_BRIDGE_PASS still log in' in done.err
    record = stranger('account', 'logout', '--json', **network.environment()).json()
    assert record == {
        'logged_in': True,
        'email': network.email,
        'environment': ['STORJ_BRIDGE_USER', 'STORJ_BRIDGE_PASS'],
    }
    url = network.bridge_url.replace('://', '://me:secret@')
    done = stranger('account', 'logout', STORJ_BRIDGE=url)
    assert "in the bridge's URL still log in as me" in done.err
    stranger('config', 'set', 'private_key', 'key.pem')
    assert 'still signed with key.pem' in stranger('account', 'logout').err
    assert stranger('account', 'logout', '--json').json() == {'logged_in': False}


def test_login_into_a_new_profile(stranger, home, network):
    stranger('--profile', 'local', 'account', 'login', **network.environment())
    assert ini(home).sections() == ['local']
    stranger('ls', code=4)
    stranger('ls', '--profile', 'local')


def test_wrong_login_keeps_nothing(stranger, home, network):
    at = {**network.environment(), 'STORJ_BRIDGE_PASS': 'wrong'}
    stranger('account', 'login', code=4, **at)
    assert not (Path(home['STORJ_CONFIG_DIR']) / 'storj.ini').exists()


def test_failed_login_leaves_no_profile(stranger, home, network):
    right = network.environment()
    stranger('--profile', 'good', 'account', 'login', **right)
    wrong = {**right, 'STORJ_BRIDGE_PASS': 'wrong'}
    stranger('--profile', 'bad', 'account', 'login', code=4, **wrong)
    stranger('account', 'login', code=4, **wrong, STORJ_PROFILE='worse')
    assert ini(home).sections() == ['good']
    assert 'no profile' in stranger('ls', '--profile', 'bad', code=4).err


def test_account_is_made_for_a_profile_that_is_new(stranger, home, network):
    at = {'STORJ_BRIDGE': network.bridge_url}
    who = ('--email', 'new@example.org', '--password-file', '-')
    stranger('--profile', 'new', 'account', 'register', *who, input='secret\n', **at)
    stranger('--profile', 'new', 'account', 'login', *who, input='secret\n', **at)
    assert ini(home).sections() == ['new']


def test_login_with_key_of_another_machine(stranger, home, network):
    words = mnemonic.generate()
    account = network.environment()
    del account['STORJ_ENCRYPTION_KEY']
    done = stranger('account', 'login', '--mnemonic-file', '-', '--json', input=words, **account)
    assert 'mnemonic' not in done.json()
    assert ini(home)['storj']['mnemonic'] == words
    stranger('account', 'login', '--mnemonic-file', '-', input='no words', code=4, **account)


def test_login_without_a_terminal_says_what_is_missing(stranger, network):
    at = {'STORJ_BRIDGE': network.bridge_url}
    assert '--email' in stranger('account', 'login', code=2, **at).err
    done = stranger('account', 'login', '--email', 'a@example.org', code=2, **at)
    assert '--password-file' in done.err


def test_login_is_shared_with_libstorj_both_ways(stranger, home, network):
    account = {**network.environment(), 'STORJ_KEYPASS': 'open sesame'}
    stranger('account', 'login', '--libstorj', **account)
    path = Path(home['STORJ_CONFIG_DIR']) / '127.0.0.1.json'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept = credentials.decode(path.read_text(), 'open sesame')
    assert (kept.email, kept.password, kept.mnemonic) == (
        network.email,
        network.password,
        network.mnemonic,
    )
    for secret in (network.password, network.mnemonic):
        assert secret not in path.read_text()
    (Path(home['STORJ_CONFIG_DIR']) / 'storj.ini').unlink()
    at = {'STORJ_BRIDGE': network.bridge_url, 'STORJ_KEYPASS': 'open sesame'}
    done = stranger('account', 'login', '--libstorj', **at)
    assert network.mnemonic not in done.out + done.err
    assert ini(home)['storj']['mnemonic'] == network.mnemonic
    stranger('account', 'login', '--libstorj', code=4, **{**at, 'STORJ_KEYPASS': 'wrong'})


def test_damaged_login_of_libstorj_is_named(stranger, home, network):
    folder = Path(home['STORJ_CONFIG_DIR'])
    folder.mkdir()
    (folder / '127.0.0.1.json').write_bytes(b'hunter2\xff')
    at = {'STORJ_BRIDGE': network.bridge_url, 'STORJ_KEYPASS': 'open sesame'}
    done = stranger('account', 'login', '--libstorj', '-vv', code=4, **at)
    assert '127.0.0.1.json' in done.err
    assert 'hunter2' not in done.err
    assert 'xff' not in done.err


def test_secrets_lie_in_the_key_store_when_asked(stranger, home, network, monkeypatch):
    keyring = pytest.importorskip('keyring')

    class Store(keyring.backend.KeyringBackend):
        priority = 1
        kept = {}

        def get_password(self, service, username):
            return self.kept.get((service, username))

        def set_password(self, service, username, password):
            self.kept[service, username] = password

        def delete_password(self, service, username):
            if self.kept.pop((service, username), None) is None:
                raise keyring.errors.PasswordDeleteError('none')

    before = keyring.get_keyring()
    keyring.set_keyring(Store())
    try:
        stranger('account', 'login', '--keyring', **network.environment())
        section = ini(home)['storj']
        assert 'password' not in section
        assert 'mnemonic' not in section
        assert sorted(Store.kept.values()) == sorted([network.password, network.mnemonic])
        stranger('ls')
        stranger('account', 'logout', '--forget-mnemonic', '--yes')
        assert Store.kept == {}
    finally:
        keyring.set_keyring(before)


def test_missing_key_store_says_how_to_install(stranger, network, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'keyring', None)
    done = stranger('account', 'login', '--keyring', code=1, **network.environment())
    assert 'storj[keyring]' in done.err


def test_activation_wants_a_token_or_resend(stranger, network):
    stranger('account', 'activate', code=2)
    stranger('account', 'activate', 'x', '--resend', code=2)
    at = {'STORJ_BRIDGE': network.bridge_url}
    done = stranger('account', 'activate', '0' * 64, '--json', code=None, **at)
    assert done.code != 0
    assert json.loads(done.err.splitlines()[-1])['type'] == 'error'


def test_locked_key_store_is_told_of(stranger, network):
    keyring = pytest.importorskip('keyring')

    class Locked(keyring.backend.KeyringBackend):
        priority = 1

        def get_password(self, service, username):
            raise keyring.errors.KeyringLocked('unlock it first')

        set_password = delete_password = get_password

    stranger('config', 'set', 'keyring', 'true')
    stranger('config', 'set', 'email', network.email)
    before = keyring.get_keyring()
    keyring.set_keyring(Locked())
    try:
        done = stranger('ls', code=4)
    finally:
        keyring.set_keyring(before)
    assert 'the key store is locked' in done.err


@pytest.fixture
def listener():
    """Another bridge, which collects what it is sent and knows nobody."""
    heard = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            heard.append(str(self.headers))
            self.send_response(401)
            self.send_header('Content-Length', '0')
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}', heard
        server.shutdown()
        thread.join()


@pytest.mark.parametrize('way', ['option', 'environment'])
def test_kept_login_is_not_sent_to_another_bridge(stranger, network, home, listener, way):
    other, heard = listener
    at = {'STORJ_BRIDGE': network.bridge_url}
    stranger('account', 'login', '--email', network.email, STORJ_BRIDGE_PASS=network.password, **at)
    stranger('ls')
    given = ('--bridge', other) if way == 'option' else ()
    environment = {'STORJ_BRIDGE': other} if way == 'environment' else {}
    for command in (('ls',), ('mb', 'photos'), ('key', 'list')):
        refused = stranger(*given, *command, code=4, **environment)
        assert f'not logged in at {other}' in refused.err
        assert f'is for {network.bridge_url}' in refused.err
        assert network.password not in refused.err
    assert heard == []
    # Its own account is another matter.
    account = {'STORJ_BRIDGE_USER': 'bob@example.org', 'STORJ_BRIDGE_PASS': 'guess'}
    stranger(*given, 'ls', code=4, **environment, **account)
    assert any('Authorization' in headers for headers in heard)
