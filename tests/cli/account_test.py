"""storj account: from registering to closing, with the mails of a bridge in mode mail."""

from __future__ import annotations

import configparser
import json
import re
import stat
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
    assert 'account alice@example.org made' in made.out
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
    # The bridge is remembered, and the words are shown once only.
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


def test_logout_keeps_the_words_unless_told_otherwise(stranger, home, network):
    stranger('account', 'login', **network.environment())
    assert ini(home)['storj']['email'] == network.email
    stranger('ls')
    stranger('account', 'logout')
    assert list(ini(home)['storj']) == ['bridge', 'mnemonic']
    assert stranger('ls', code=4).out == ''
    stranger('account', 'logout', '--forget-words', code=2)
    stranger('account', 'logout', '--forget-words', '--yes')
    assert list(ini(home)['storj']) == ['bridge']


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


def test_login_with_words_of_another_machine(stranger, home, network):
    words = mnemonic.generate()
    account = network.environment()
    del account['STORJ_ENCRYPTION_KEY']
    done = stranger('account', 'login', '--words-file', '-', '--json', input=words, **account)
    assert 'mnemonic' not in done.json()
    assert ini(home)['storj']['mnemonic'] == words
    stranger('account', 'login', '--words-file', '-', input='no words', code=4, **account)


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
        stranger('account', 'logout', '--forget-words', '--yes')
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
