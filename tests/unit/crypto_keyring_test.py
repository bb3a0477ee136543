"""Key files: those of the core client, and libstorj's."""

from __future__ import annotations

import gzip
import io
import json
import stat
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storj.crypto import base58, credentials, keyring, keys, secret_file
from storj.exception import ConfigurationError, DecryptionError, StorjError

FILE = 'c32ec64da2bf278caec65feb'
OTHER = '998960317b6725a3f8080c2b'
WORDS = 'abandon ' * 11 + 'about'
PRIVATE = 'd1b1d083ddbcf92aa665a77379a0e32ef7cc5a4ccfc4b2a30214ebcdfd34d846'


@pytest.fixture
def ring() -> keyring.Keyring:
    ring = keyring.Keyring('password')
    ring.generate(FILE)
    ring.entries[OTHER] = keyring.KeyEntry('0123', '0123', 'DeterministicKeyIv')
    ring.mnemonic = WORDS
    return ring


def same(one: keyring.Keyring, other: keyring.Keyring) -> bool:
    return (one.entries, one.mnemonic) == (other.entries, other.mnemonic)


def test_keyring_comes_back_from_its_files(ring):
    assert set(ring.to_files()) == {FILE, OTHER, '.verify', '.deterministic_key'}
    assert same(keyring.Keyring.from_files(ring.to_files(), 'password'), ring)


def test_keyring_comes_back_from_disk(ring, tmp_path):
    folder = tmp_path / 'new' / 'key.ring'
    ring.save(folder)
    (folder / '.DS_Store').write_text('rubbish')
    assert same(keyring.Keyring.load(folder, 'password'), ring)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in ring.to_files()} == {0o600}


def test_keyring_of_one_file_is_read(tmp_path):
    entries = {FILE: {'pass': 'ab' * 512, 'salt': 'cd' * 32}, OTHER: PRIVATE, 'note': 5}
    path = tmp_path / 'keyring'
    path.write_text(keyring.seal_text('', json.dumps(entries)))
    ring = keyring.Keyring.load(path)
    assert set(ring.entries) == {FILE, OTHER}
    random = keys.file_key_random(bytes.fromhex('ab' * 512), bytes.fromhex('cd' * 32))
    assert ring.content_key(FILE) == random
    assert ring.content_key(OTHER).counter.hex() == '97cc4ad23aafab1f56ca15c88bda85cf'
    assert ring.content_key('0' * 24) is None


def test_wrong_passphrase_is_told(ring, tmp_path):
    with pytest.raises(DecryptionError, match='passphrase'):
        keyring.Keyring.from_files(ring.to_files(), 'wrong')
    path = tmp_path / 'keyring'
    path.write_text(keyring.seal_text('password', '{}'))
    with pytest.raises(DecryptionError):
        keyring.Keyring.load(path, 'wrong')


def test_secrets_are_not_shown(ring):
    for text in (repr(ring), str(ring), repr(ring.entries)):
        assert 'abandon' not in text
        assert ring.entries[FILE].password[:20] not in text


def test_id_that_is_none_is_refused(ring):
    with pytest.raises(ValueError, match='24 hex digits'):
        ring.generate('../evil')


def archive_of(ring: keyring.Keyring) -> io.BytesIO:
    file = io.BytesIO()
    ring.export_archive(file)
    file.seek(0)
    return file


def test_archive_brings_the_keyring_over(ring):
    other = keyring.Keyring('another')
    assert other.import_archive(archive_of(ring), 'password') == 2
    assert same(other, ring)
    assert same(keyring.Keyring.from_files(other.to_files(), 'another'), ring)


def test_archive_replaces_only_when_asked(ring):
    other = keyring.Keyring('password')
    own = other.generate(FILE)
    assert other.import_archive(archive_of(ring)) == 1
    assert other.entries[FILE] == own
    assert other.import_archive(archive_of(ring), overwrite=True) == 2
    assert other.entries[FILE] == ring.entries[FILE]


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w:gz', compresslevel=1) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    file.seek(0)
    return file


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = '') -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


SEALED = keyring.seal_text('', json.dumps({'pass': 'ab', 'salt': 'cd'})).encode()


@pytest.mark.parametrize(
    'archive',
    [
        packed((member(f'../{FILE}'), SEALED)),
        packed((member(f'/etc/{FILE}'), SEALED)),
        packed((member(f'key.ring/../../{FILE}'), SEALED)),
        packed((member(f'key.ring/{FILE}', tarfile.SYMTYPE, '/etc/passwd'), b'')),
        packed((member(f'key.ring/{FILE}', tarfile.LNKTYPE, 'key.ring/x'), b'')),
        packed((member(f'key.ring/{FILE}', tarfile.CHRTYPE), b'')),
        packed((member(f'key.ring/{FILE}', tarfile.FIFOTYPE), b'')),
        packed((member(f'key.ring/{FILE}'), bytes(70_000))),
        packed((member(f'key.ring/{FILE}'), b'\xff\xfe')),
        packed((member('x', tarfile.XHDTYPE), bytes(80 * 1024 * 1024))),
        packed((member('nothing of a keyring'), b'')),
        io.BytesIO(gzip.compress(bytes(10240))),
        io.BytesIO(gzip.compress(b'no tar at all')),
        io.BytesIO(b'no gzip'),
        io.BytesIO(b''),
        io.BytesIO(packed((member(f'key.ring/{FILE}'), SEALED)).getvalue()[:60]),
    ],
)
def test_hostile_archive_is_refused(archive):
    ring = keyring.Keyring()
    with pytest.raises(ConfigurationError, match=r'archive'):
        ring.import_archive(archive)
    assert not ring.entries


def test_other_files_of_an_archive_are_passed_over():
    ring = keyring.Keyring()
    evil = member('../../.ssh/authorized_keys')
    file = packed(
        (evil, b'evil'), (member('key.ring', tarfile.DIRTYPE), b''), (member(FILE), SEALED)
    )
    assert ring.import_archive(file) == 1
    assert ring.content_key(FILE) is not None


@given(st.binary(max_size=2000))
def test_any_archive_gives_an_error_of_ours(raw):
    for data in (raw, gzip.compress(raw)):
        with pytest.raises(StorjError):
            keyring.Keyring().import_archive(io.BytesIO(data))


@given(st.text(), st.text())
def test_any_text_gives_an_error_of_ours(text, passphrase):
    for read in (
        keyring.Keyring.from_text,
        lambda text, passphrase: keyring.Keyring.from_files({FILE: text}, passphrase),
        lambda text, passphrase: keyring.Keyring.from_files({'.verify': text}, passphrase),
        lambda text, passphrase: keyring.Keyring.from_files(
            {'.deterministic_key': text}, passphrase
        ),
        lambda text, passphrase: keyring.open_private_key(passphrase, text),
    ):
        with pytest.raises(StorjError):
            read(text, passphrase)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just('00' * 32) | st.just('f' * 64),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(['pass', 'salt', 'type', FILE, 'user']), inner, max_size=4
        )
    ),
)


@given(json_values)
def test_any_entry_gives_a_key_or_an_error_of_ours(value):
    sealed = keyring.seal_text('', json.dumps(value))
    for read in (keyring.Keyring.from_text, lambda text: keyring.Keyring.from_files({FILE: text})):
        try:
            ring = read(sealed)
            for file_id in ring.entries:
                assert isinstance(ring.content_key(file_id), keys.ContentKey)
        except StorjError:
            pass


def test_keyring_that_is_missing_or_too_large_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match='cannot read'):
        keyring.Keyring.load(tmp_path / 'none')
    (tmp_path / FILE).write_text('0' * 70_000)
    with pytest.raises(ConfigurationError, match='longer than'):
        keyring.Keyring.load(tmp_path)


# --- private key files --------------------------------------------------------------------------


def test_private_key_file_equals_openssl():
    # printf ... | openssl enc -aes-256-cbc -md md5 -nosalt -pass pass:password
    expected = (
        '2dafb89c659f15af1967bde4e3de6d90c9c7a8035ae9e6b869922746dbcf30b34d84f3fa3a0af77e13de6a038a'
        '9a5f5c6ea180f79ada7389876de3b02f203bfc976226a9f58127bd866d789802464c6e'
    )
    sealed = keyring.seal_private_key('password', PRIVATE)
    assert base58.decode(sealed).hex() == expected
    assert keyring.open_private_key('password', sealed + '\n') == PRIVATE
    with pytest.raises(DecryptionError):
        keyring.open_private_key('wrong', sealed)


@given(st.binary(max_size=100))
def test_base58_comes_back(data):
    assert base58.decode(base58.encode(data)) == data
    assert base58.decode_check(base58.encode_check(data)) == data


@given(st.text())
def test_base58_of_any_text_is_bytes_or_value_error(text):
    for read in (base58.decode, base58.decode_check):
        try:
            assert isinstance(read(text), bytes)
        except ValueError:
            pass


def test_base58_of_endless_text_is_refused():
    with pytest.raises(ValueError, match='too long'):
        base58.decode('2' * 20_000)


# --- secret files -------------------------------------------------------------------------------


def test_secret_file_replaces_an_open_one(tmp_path):
    path = tmp_path / 'secret'
    path.write_text('old')
    path.chmod(0o644)
    secret_file.write(path, 'new\n')
    assert secret_file.read(path, 10) == 'new\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ['secret']


def test_secret_file_that_cannot_be_is_told(tmp_path):
    (tmp_path / 'file').write_bytes(b'\xff')
    with pytest.raises(ConfigurationError, match='cannot write'):
        secret_file.write(tmp_path / 'file' / 'below', 'x')
    with pytest.raises(ConfigurationError, match='not a text file'):
        secret_file.read(tmp_path / 'file', 10)


# --- libstorj's credentials ---------------------------------------------------------------------

HELD = credentials.Credentials('a@example.org', 'pässword', WORDS)


def test_credentials_come_back():
    for held in (HELD, credentials.Credentials('a@b', 'p')):
        assert credentials.decode(credentials.encode(held, 'open'), 'open') == held


def test_credentials_need_their_passphrase():
    with pytest.raises(DecryptionError, match='passphrase'):
        credentials.decode(credentials.encode(HELD, 'open'), 'wrong')


def test_credentials_are_not_shown():
    assert repr(HELD) == "Credentials(email='a@example.org')"


@pytest.mark.parametrize(
    ('held', 'passphrase'),
    [
        (credentials.Credentials('a@b', ''), 'open'),
        (credentials.Credentials('', 'p'), 'open'),
        (credentials.Credentials('a@b', 'p'), ''),
        (credentials.Credentials('a@b', 'p' * 256), 'open'),
        (credentials.Credentials('a@b', 'p', 'w' * 256), 'open'),
        (credentials.Credentials('a@b', 'p'), 'o' * 256),
        (credentials.Credentials('a' * 256, 'p'), 'open'),
    ],
)
def test_credentials_that_libstorj_would_damage_are_refused(held, passphrase):
    with pytest.raises(ValueError, match='255 bytes'):
        credentials.encode(held, passphrase)


@settings(max_examples=20)
@given(st.text() | json_values.map(json.dumps))
def test_any_text_that_is_no_credentials_gives_an_error_of_ours(text):
    with pytest.raises(StorjError):
        credentials.decode(text, 'open')


@pytest.mark.parametrize(
    ('bridge', 'name'),
    [
        ('https://api.storj.io', 'api.storj.io.json'),
        ('http://127.0.0.1:6382/', '127.0.0.1.json'),
    ],
)
def test_file_is_named_after_the_host(bridge, name):
    assert credentials.file_name(bridge) == name


@pytest.mark.parametrize(
    'bridge', ['', 'api.storj.io', 'http://../x', 'http://a%2fb/', 'file:///x']
)
def test_url_without_host_names_no_file(bridge):
    with pytest.raises(ValueError, match='has no host'):
        credentials.file_name(bridge)
