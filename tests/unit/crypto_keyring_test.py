"""Key files: those of the core client, and libstorj's."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import io
import json
import stat
import tarfile

import pytest
from Crypto.Cipher import AES
from hypothesis import given, settings
from hypothesis import strategies as st

from storj.crypto import base58, credentials, key_file, keyring, keys, secret_file
from storj.exception import ConfigurationError, DecryptionError, StorjError
from tests.unit import core_keys

FILE = 'c32ec64da2bf278caec65feb'
OTHER = '998960317b6725a3f8080c2b'
WORDS = 'abandon ' * 11 + 'about'
PRIVATE = 'd1b1d083ddbcf92aa665a77379a0e32ef7cc5a4ccfc4b2a30214ebcdfd34d846'


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """Let nobody wait a third of a second for each passphrase."""
    monkeypatch.setattr(key_file, '_COST', 2**10)


@pytest.fixture
def ring() -> keyring.Keyring:
    ring = keyring.Keyring('password')
    ring.generate(FILE)
    ring.entries[OTHER] = keyring.KeyEntry('0123', '0123', 'DeterministicKeyIv')
    ring.mnemonic = WORDS
    return ring


def same(one: keyring.Keyring, other: keyring.Keyring) -> bool:
    return (one.entries, one.mnemonic) == (other.entries, other.mnemonic)


def test_folder_of_the_core_client_is_read(ring, tmp_path):
    folder = tmp_path / 'key.ring'
    folder.mkdir()
    for name, text in core_keys.files_of(ring).items():
        (folder / name).write_text(text)
    (folder / '.DS_Store').write_text('rubbish')
    assert same(keyring.Keyring.load(folder, 'password'), ring)
    with pytest.raises(DecryptionError):
        keyring.Keyring.load(folder, 'wrong')


def test_keyring_comes_back_from_its_key_file(ring, tmp_path):
    path = tmp_path / 'new' / 'keys'
    ring.save(path)
    assert same(keyring.Keyring.load(path, 'password'), ring)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(DecryptionError):
        keyring.Keyring.load(path, 'wrong')


def test_no_entry_of_a_key_file_opens_another(ring):
    # In the core client's forms all entries have one key stream: one that is known opens all.
    ring.generate('0' * 24)
    sealed = [bytes.fromhex(text) for text in core_keys.files_of(ring).values()]
    known = json.dumps(ring.entries[FILE].to_json(), separators=(',', ':')).encode()
    stream = bytes(a ^ b for a, b in zip(sealed[1], known, strict=True))
    words = bytes(a ^ b for a, b in zip(sealed[-1], stream, strict=False))
    assert WORDS.encode() in words
    # Here each file has a key of its own, although passphrase and content are the same.
    texts = [json.loads(ring.to_text()) for _ in range(2)]
    assert texts[0]['salt'] != texts[1]['salt']
    raw = [bytes.fromhex(text['sealed'])[16 + 32 :] for text in texts]
    assert sum(a == b for a, b in zip(*raw, strict=True)) < len(raw[0]) // 16


def test_keyring_of_one_file_is_read(tmp_path):
    entries = {FILE: {'pass': 'ab' * 512, 'salt': 'cd' * 32}, OTHER: PRIVATE, 'note': 5}
    path = tmp_path / 'keyring'
    path.write_text(core_keys.seal_text('', json.dumps(entries)))
    ring = keyring.Keyring.load(path)
    assert set(ring.entries) == {FILE, OTHER}
    random = keys.file_key_random(bytes.fromhex('ab' * 512), bytes.fromhex('cd' * 32))
    assert ring.content_key(FILE) == random
    assert ring.content_key(OTHER).counter.hex() == '97cc4ad23aafab1f56ca15c88bda85cf'
    assert ring.content_key('0' * 24) is None


def test_wrong_passphrase_is_told(ring, tmp_path):
    with pytest.raises(DecryptionError, match='passphrase'):
        keyring.Keyring.from_files(core_keys.files_of(ring), 'wrong')
    path = tmp_path / 'keyring'
    path.write_text(core_keys.seal_text('password', '{}'))
    with pytest.raises(DecryptionError):
        keyring.Keyring.load(path, 'wrong')


def test_secrets_are_not_shown(ring):
    for text in (repr(ring), str(ring), repr(ring.entries)):
        assert 'abandon' not in text
        assert ring.entries[FILE].password[:20] not in text


def test_id_that_is_none_is_refused(ring):
    with pytest.raises(ValueError, match='24 hex digits'):
        ring.generate('../evil')


def test_archive_brings_the_keyring_over(ring):
    other = keyring.Keyring('another')
    assert other.import_archive(core_keys.archive_of(ring), 'password') == 2
    assert same(other, ring)
    assert same(keyring.Keyring.from_text(other.to_text(), 'another'), ring)


def test_archive_replaces_only_when_asked(ring):
    other = keyring.Keyring('password')
    own = other.generate(FILE)
    assert other.import_archive(core_keys.archive_of(ring)) == 1
    assert other.entries[FILE] == own
    assert other.import_archive(core_keys.archive_of(ring), overwrite=True) == 2
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


SEALED = core_keys.seal_text('', json.dumps({'pass': 'ab', 'salt': 'cd'})).encode()


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
    sealed = core_keys.seal_text('', json.dumps(value))
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


# --- key files of our own -----------------------------------------------------------------------


def changed(**fields):
    text = json.loads(key_file.seal('password', {'entries': {}}))
    return json.dumps({**text, **fields})


def test_key_file_is_as_it_is_documented():
    fields = json.loads(key_file.seal('pässword', {'entries': {}, 'mnemonic': WORDS}))
    assert {name: fields[name] for name in ('format', 'version', 'kdf', 'r', 'p', 'cipher')} == {
        'format': 'storj-key-file',
        'version': 1,
        'kdf': 'scrypt',
        'r': 8,
        'p': 1,
        'cipher': 'aes-256-gcm',
    }
    # By nothing of the package, from the text of the documentation.
    sealed = bytes.fromhex(fields['sealed'])
    salt, n = bytes.fromhex(fields['salt']), fields['n']
    derived = hashlib.scrypt('pässword'.encode(), salt=salt, n=n, r=8, p=1, dklen=32)
    key = hmac.digest(derived, b'storj-key-file 1', 'sha256')
    opened = AES.new(key, AES.MODE_GCM, nonce=sealed[16:48])
    secret = json.loads(opened.decrypt_and_verify(sealed[48:], sealed[:16]))
    assert secret == {'entries': {}, 'mnemonic': WORDS}


def test_effort_is_what_is_recommended(monkeypatch):
    monkeypatch.undo()
    assert (key_file._COST, key_file._BLOCK, key_file._PARALLEL) == (2**17, 8, 1)
    assert json.loads(key_file.seal('password', {}))['n'] == 2**17


def test_key_file_of_an_earlier_effort_is_read(monkeypatch):
    text = key_file.seal('password', {'a': 1})
    monkeypatch.setattr(key_file, '_COST', 2**11)
    assert key_file.unseal(text, 'password') == {'a': 1}


@pytest.mark.parametrize(
    'fields',
    [
        {'n': 2**11},
        {'r': 9},
        {'p': 2},
        {'salt': '00' * 32},
        {'sealed': '00' * 60},
        {'sealed': ''},
    ],
)
def test_changed_key_file_is_told(fields):
    with pytest.raises(DecryptionError, match='passphrase'):
        key_file.unseal(changed(**fields), 'password')


def test_each_byte_of_what_is_sealed_counts():
    fields = json.loads(changed())
    for position in range(len(fields['sealed']) // 2):
        raw = bytearray.fromhex(fields['sealed'])
        raw[position] ^= 1
        with pytest.raises(DecryptionError):
            key_file.unseal(json.dumps({**fields, 'sealed': raw.hex()}), 'password')


@pytest.mark.parametrize(
    ('fields', 'told'),
    [
        ({'version': 2}, 'version 2'),
        ({'version': '1'}, 'damaged'),
        ({'format': 'x'}, 'damaged'),
        ({'kdf': 'md5'}, 'damaged'),
        ({'cipher': 'none'}, 'damaged'),
        ({'salt': 'x'}, 'damaged'),
        ({'sealed': 5}, 'damaged'),
        ({'n': 2**30}, 'out of bounds'),
        ({'n': 1}, 'out of bounds'),
        ({'n': 2**14 + 1}, 'out of bounds'),
        ({'n': -(2**14)}, 'out of bounds'),
        ({'n': 2**20, 'r': 64}, 'out of bounds'),
        ({'r': 0}, 'out of bounds'),
        ({'p': 2**20}, 'out of bounds'),
    ],
)
def test_key_file_that_makes_no_sense_is_told(fields, told):
    with pytest.raises(ConfigurationError, match=told):
        key_file.unseal(changed(**fields), 'password')


@pytest.mark.parametrize('text', ['', '{', '[]', '{"format": "storj-key-file"}', '[' * 10_000])
def test_text_that_is_no_key_file_is_told(text):
    with pytest.raises(ConfigurationError):
        key_file.unseal(text, 'password')


def test_passphrase_that_is_no_text_is_not_quoted():
    for use in (
        lambda: key_file.seal('secret\udcff', {}),
        lambda: key_file.unseal(changed(), 'secret\udcff'),
    ):
        with pytest.raises(ValueError, match='no valid text') as caught:
            use()
        assert caught.value.__cause__ is None
        assert 'secret' not in str(caught.value)


# --- private key files --------------------------------------------------------------------------


def test_private_key_file_equals_openssl():
    # printf ... | openssl enc -aes-256-cbc -md md5 -nosalt -pass pass:password
    expected = (
        '2dafb89c659f15af1967bde4e3de6d90c9c7a8035ae9e6b869922746dbcf30b34d84f3fa3a0af77e13de6a038a'
        '9a5f5c6ea180f79ada7389876de3b02f203bfc976226a9f58127bd866d789802464c6e'
    )
    sealed = core_keys.seal_private_key('password', PRIVATE)
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
