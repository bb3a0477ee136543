"""Encrypted names, mnemonics and keys, beyond the vectors."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj.crypto import keys, mnemonic, names
from storj.exception import MnemonicError

WORDS = 'abandon ' * 11 + 'about'
BUCKET = '368be0816766b28fd5f43af5'
KEY = keys.bucket_key(WORDS, BUCKET)


@given(st.text(st.characters(exclude_categories=['Cs']), min_size=1, max_size=100))
def test_name_comes_back(name):
    stored = names.encrypt_file_name(KEY, BUCKET, name)
    assert names.decrypt_file_name(KEY, stored) == name
    assert names.decrypt_file_name(bytes(32), stored) is None
    assert names.encrypt_file_name(KEY, BUCKET, name) == stored
    stored = names.encrypt_bucket_name(WORDS, name)
    assert names.decrypt_bucket_name(WORDS, stored) == name
    assert names.decrypt_file_name(KEY, stored) is None


@given(st.text() | st.binary(max_size=200).map(lambda raw: base64.b64encode(raw).decode()))
def test_any_text_that_is_no_name_is_none(text):
    assert names.decrypt_file_name(KEY, text) is None
    assert names.decrypt_bucket_name(WORDS, text) is None


def test_name_in_another_encoding_is_kept_as_it_is():
    raw = b'caf\xe9'
    stored = names.encrypt_file_name(KEY, BUCKET, raw.decode('utf-8', 'surrogateescape'))
    assert names.decrypt_meta(names.name_key(KEY), stored) == raw
    assert names.decrypt_file_name(KEY, stored) == 'caf\udce9'


def test_half_of_a_character_is_no_name():
    text = r"the name 'a\\ud83d' is no text: UTF-8 has no U\+D83D"
    with pytest.raises(ValueError, match=text):
        names.encrypt_bucket_name(WORDS, 'a\ud83d')
    with pytest.raises(ValueError, match=text):
        names.encrypt_file_name(KEY, BUCKET, 'a\ud83d')


def test_empty_name_is_refused():
    with pytest.raises(ValueError, match='not empty'):
        names.encrypt_bucket_name(WORDS, '')
    with pytest.raises(ValueError, match='not empty'):
        names.encrypt_file_name(KEY, BUCKET, '')


# --- mnemonics ----------------------------------------------------------------------------------


@pytest.mark.parametrize(('bits', 'count'), [(128, 12), (160, 15), (192, 18), (224, 21), (256, 24)])
def test_new_words_are_right(bits, count):
    words = mnemonic.generate(bits)
    mnemonic.check(words)
    assert len(words.split(' ')) == count
    assert words != mnemonic.generate(bits)


def test_strength_that_has_no_words_is_refused():
    with pytest.raises(ValueError, match=r'(?i)strength'):
        mnemonic.generate(100)


@pytest.mark.parametrize(
    'words',
    [
        None,
        b'abandon',
        '',
        WORDS.upper(),
        WORDS.replace(' ', '\t'),
        WORDS + '\n',
        WORDS.replace('about', 'zoo'),
        WORDS.replace('about', 'secretword'),
        'abandon',
    ],
)
def test_wrong_words_are_refused_without_being_told(words):
    with pytest.raises(MnemonicError) as caught:
        mnemonic.check(words)
    assert not {'abandon', 'about', 'zoo', 'secretword'} & set(str(caught.value).lower().split())
    assert caught.value.__cause__ is None


@given(st.text())
def test_any_text_is_checked(text):
    with pytest.raises(MnemonicError):
        mnemonic.check(text)


def test_seed_is_of_the_normal_form():
    assert mnemonic.seed('caf\u00e9') == mnemonic.seed('cafe\u0301')
    with pytest.raises(MnemonicError) as caught:
        mnemonic.seed('secret\ud800')
    assert 'secret' not in str(caught.value)


# --- keys ---------------------------------------------------------------------------------------


def test_key_is_not_shown():
    key = keys.file_key(KEY, keys.new_index())
    assert key.key.hex() not in repr(key)
    assert repr(key.key) not in repr(key)


def test_indices_are_new_each_time():
    made = {keys.new_index() for _ in range(100)}
    assert len(made) == 100
    assert {len(bytes.fromhex(index)) for index in made} == {32}


@given(st.text())
def test_any_text_that_is_no_index_is_refused(text):
    with pytest.raises(ValueError, match='64 hex digits'):
        keys.file_key(KEY, text)
    with pytest.raises(ValueError, match='64 hex digits'):
        keys.public_bucket_key(text)


@pytest.mark.parametrize('text', ['xyz', 'abc', None, 'é' * 24])
def test_id_that_is_no_hex_is_refused(text):
    with pytest.raises(ValueError, match='not hex'):
        keys.file_key_v0(KEY, text)
    with pytest.raises(ValueError, match='not hex'):
        keys.bucket_key(WORDS, text)
    with pytest.raises(ValueError, match='not hex'):
        keys.file_key_node(bytes(32), text)


def test_public_bucket_key_serves_as_bucket_key():
    assert keys.public_bucket_key(KEY.hex()) == KEY


def test_hmac_of_what_is_no_hash_is_refused():
    with pytest.raises(ValueError, match='40 hex digits'):
        keys.file_key(KEY, 'ab' * 32).hmac(['xyz'])
