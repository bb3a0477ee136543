"""What a reader gets is what was stored under his key, or an error, whatever the bridge answers."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storj.api import BridgeProfile
from storj.crypto import keys
from storj.crypto.cipher import CtrStream
from storj.crypto.keys import ContentKey
from storj.digest import shard_hash
from storj.exception import (
    DecryptionError,
    IntegrityError,
    MnemonicError,
    NotEnoughShardsError,
    StorjError,
    UnauthenticatedError,
)
from storj.model import File, FilePointer, Token
from tests.unit.fake_network import BUCKET, SHARD, WORDS, FakeBridge, Setting

DATA = b'pay 100 to whoever shows this' * 1200


def hashes_of(setting: Setting, file: File) -> list[str]:
    shards = setting.bridge.frames[file.frame.id]
    return [shards[index][0].hash for index in sorted(shards)]


def exchange(setting: Setting, file: File, index: int, data: bytes) -> None:
    """Put other bytes in the place of a shard, as bridge and farmers can who act together."""
    shard, node = setting.bridge.frames[file.frame.id][index]
    shard.hash = shard_hash(data)
    setting.bridge.farmers[node][shard.hash] = data


def kept(setting: Setting, file: File, index: int) -> bytes:
    shard, node = setting.bridge.frames[file.frame.id][index]
    return setting.bridge.farmers[node][shard.hash]


def flip(setting: Setting, file: File) -> None:
    """Change "pay 100" to "pay 999" in the ciphertext, which needs no key."""
    data = bytearray(kept(setting, file, 0))
    for offset, (old, new) in enumerate(zip(b'100', b'999', strict=True), 4):
        data[offset] ^= old ^ new
    exchange(setting, file, 0, bytes(data))


def call_it_open(setting: Setting, file: File) -> None:
    """Replace the content by text of the bridge, and show the mark of files without encryption."""
    for index in range(3):
        exchange(setting, file, index, os.urandom(len(kept(setting, file, index))))
    joined = b''.join(map(bytes.fromhex, hashes_of(setting, file)))
    mark = hmac.new(b'', joined, hashlib.sha256).hexdigest()
    file.hmac = {'type': 'sha256', 'value': mark}


def call_it_open_and_old(setting: Setting, file: File) -> None:
    call_it_open(setting, file)
    file.index = None


def leave_hmac_out(setting: Setting, file: File) -> None:
    flip(setting, file)
    file.hmac = None


def leave_hmac_and_index_out(setting: Setting, file: File) -> None:
    leave_hmac_out(setting, file)
    file.index = None


def name_another_type(setting: Setting, file: File) -> None:
    flip(setting, file)
    file.hmac = {'type': 'ripemd160', 'value': '0' * 40}


def name_no_type(setting: Setting, file: File) -> None:
    flip(setting, file)
    file.hmac = {**file.hmac, 'type': None}


def keep_the_old_hmac(setting: Setting, file: File) -> None:
    flip(setting, file)


def list_no_shards(setting: Setting, file: File) -> None:
    """Call it an empty file, of which there is nothing to prove."""
    setting.bridge.frames[file.frame.id].clear()
    file.size, file.hmac = 0, None


def list_no_shards_and_keep_the_hmac(setting: Setting, file: File) -> None:
    setting.bridge.frames[file.frame.id].clear()
    file.size = 0


LIES = [
    call_it_open,
    call_it_open_and_old,
    leave_hmac_out,
    leave_hmac_and_index_out,
    name_another_type,
    name_no_type,
    keep_the_old_hmac,
    list_no_shards,
    list_no_shards_and_keep_the_hmac,
]


def whole(setting: Setting, file: File, tmp_path: Path, **options: Any) -> bytes:
    return bytes(setting.download(file, **options).read())


def to_path(setting: Setting, file: File, tmp_path: Path, **options: Any) -> bytes:
    setting.download(file, tmp_path / 'out', **options)
    return (tmp_path / 'out').read_bytes()


def streamed(setting: Setting, file: File, tmp_path: Path, **options: Any) -> bytes:
    return b''.join(setting.transfers.stream(BUCKET, file.id, **options))


def last_bytes(setting: Setting, file: File, tmp_path: Path, **options: Any) -> bytes:
    length = (file.size or 0) - min(SHARD, file.size or 0)
    return bytes(setting.download(file, start=length, **options).read())


def verified(setting: Setting, file: File, tmp_path: Path, **options: Any) -> bytes:
    options.pop('key', None)
    assert setting.transfers.verify(BUCKET, file.id, **options).healthy
    return b''


WAYS = [whole, to_path, streamed, last_bytes, verified]


@pytest.mark.parametrize('passed_on', [False, True], ids=['own key', 'key of a link'])
@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('lie', LIES)
def test_bridge_does_not_decide_what_is_authenticated(
    setting: Setting, tmp_path: Path, lie: Any, way: Any, passed_on: bool
) -> None:
    file = setting.upload(DATA)
    options: dict[str, Any] = {}
    if passed_on and way is not verified:
        bucket_key = keys.bucket_key(WORDS, BUCKET)
        options['key'] = keys.file_key(bucket_key, file.index)
        setting.bridge.mnemonic = None
    assert way(setting, file, tmp_path, **options) in (DATA, DATA[-SHARD:], b'')
    lie(setting, file)
    (tmp_path / 'out').unlink(missing_ok=True)
    with pytest.raises((IntegrityError, DecryptionError)):
        way(setting, file, tmp_path, **options)
    assert not list(tmp_path.glob('out*'))


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('lie', [call_it_open, leave_hmac_out, name_another_type])
def test_error_says_how_to_fetch_what_is_stored(
    setting: Setting, tmp_path: Path, lie: Any, way: Any
) -> None:
    file = setting.upload(DATA)
    lie(setting, file)
    with pytest.raises(UnauthenticatedError, match=r'decrypt=False \(--plain\)'):
        way(setting, file, tmp_path)
    way(setting, file, tmp_path, decrypt=False)


def test_switch_for_old_bridges_opens_no_file_of_a_newer_one(make: Callable[..., Setting]) -> None:
    setting = make(allow_unauthenticated=True)
    for version in ((5, 3, 0), (7, 7, 1)):
        setting.bridge._profile = BridgeProfile(version=version)
        file = setting.upload(DATA, name=str(version))
        leave_hmac_and_index_out(setting, file)
        with pytest.raises(UnauthenticatedError):
            setting.download(file)


@pytest.mark.parametrize('version', [(2, 2, 4), (5, 2, 9), None])
def test_file_of_an_old_bridge_needs_the_switch(
    make: Callable[..., Setting], version: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bridge = FakeBridge(version=(5, 2, 9))
    setting = make(bridge=bridge)
    file = setting.upload(DATA)
    assert (file.hmac, file.index) == (None, None)
    bridge._profile = BridgeProfile(version=version)
    with pytest.raises(UnauthenticatedError, match='--allow-unauthenticated'):
        setting.download(file)
    trusting = make(bridge=bridge, allow_unauthenticated=True)
    assert trusting.download(file).read() == DATA
    assert 'nothing proves that its content is right' in caplog.text
    assert not trusting.transfers.verify(BUCKET, file.id).authenticated
    # What has an HMAC is judged by that.
    for kind in ('sha256', 'ripemd160', 'sha512'):
        file.hmac = {'type': kind, 'value': '0' * 128}
        with pytest.raises((UnauthenticatedError, DecryptionError, IntegrityError)):
            trusting.download(file)
    file.hmac = None
    # An index is of a release that has HMACs, whatever release the bridge states.
    file.index = '0' * 64
    with pytest.raises(UnauthenticatedError):
        trusting.download(file)


@pytest.mark.parametrize('size', [0, len(DATA)])
def test_hmac_proves_files_of_bridges_without_an_index(
    make: Callable[..., Setting], size: int
) -> None:
    setting = make(bridge=FakeBridge(version=(5, 12, 0)))
    file = setting.upload(DATA[:size])
    assert file.index is None
    assert setting.download(file).read() == DATA[:size]
    assert setting.transfers.verify(BUCKET, file.id).authenticated
    file.hmac = None
    with pytest.raises(UnauthenticatedError):
        setting.download(file)


def test_reader_without_any_key_gets_only_what_has_no_index(setting: Setting) -> None:
    sealed, clear = setting.upload(DATA), setting.upload(DATA, name='open', encrypt=False)
    setting.bridge.mnemonic = None
    with pytest.raises(MnemonicError, match='decrypt=False'):
        setting.download(sealed)
    sealed.hmac = clear.hmac
    with pytest.raises(MnemonicError):
        setting.download(sealed)
    assert setting.download(clear).read() == DATA
    assert setting.download(clear, start=5, end=50_000 // 2).read() == DATA[5:25_000]
    health = setting.transfers.verify(BUCKET, sealed.id)
    assert (health.healthy, health.authenticated) == (True, False)


def test_upload_is_not_encrypted_with_a_key_that_the_bridge_knows(setting: Setting) -> None:
    setting.bridge.mnemonic = None
    setting.bridge.token_create = lambda *_: Token(  # type: ignore[method-assign]
        token='t', encryptionKey='ab' * 32
    )
    with pytest.raises(MnemonicError, match='storj key generate'):
        setting.upload(DATA)
    assert setting.bridge.frames == {}
    assert not any(setting.bridge.farmers.values())


def test_key_that_is_not_the_files_is_told(setting: Setting) -> None:
    file = setting.upload(DATA)
    with pytest.raises(DecryptionError, match='the key that was given does not fit'):
        setting.download(file, key=ContentKey(bytes(32), bytes(16)))


@pytest.mark.parametrize(
    ('encrypt_name', 'error', 'told'),
    [
        (True, IntegrityError, 'the list of shards is not the one that was stored'),
        (False, DecryptionError, 'the encryption key does not fit this file'),
    ],
)
def test_name_that_opens_tells_a_changed_list_from_a_wrong_key(
    setting: Setting, encrypt_name: bool, error: type[StorjError], told: str
) -> None:
    file = setting.upload(DATA, encrypt_name=encrypt_name)
    flip(setting, file)
    with pytest.raises(error, match=told):
        setting.download(file)
    setting.bridge.mnemonic = 'zoo ' * 11 + 'wrong'
    with pytest.raises(DecryptionError, match='the encryption key does not fit this file'):
        setting.download(file)


@pytest.mark.parametrize('name', ['encrypted', 'clear', 'none'])
def test_name_is_the_only_sign_of_a_wrong_key_where_there_is_no_hmac(
    make: Callable[..., Setting], name: str
) -> None:
    setting = make(bridge=FakeBridge(version=(2, 2, 4)), allow_unauthenticated=True)
    file = setting.upload(DATA, encrypt_name=name == 'encrypted')
    if name == 'none':
        file.filename = None
    assert setting.download(file).read() == DATA
    setting.bridge.mnemonic = 'zoo ' * 11 + 'wrong'
    if name == 'encrypted':
        with pytest.raises(DecryptionError, match='does not fit the name'):
            setting.download(file)
    else:
        assert setting.download(file).read() != DATA


def test_file_without_encryption_is_verified_on_demand(setting: Setting) -> None:
    file = setting.upload(DATA, encrypt=False)
    with pytest.raises(UnauthenticatedError):
        setting.transfers.verify(BUCKET, file.id)
    health = setting.transfers.verify(BUCKET, file.id, decrypt=False)
    assert (health.healthy, health.authenticated) == (True, False)


@pytest.mark.parametrize('value', [None, 5, [], {}, 'ab', 'é' * 128])
def test_hmac_that_is_none_is_an_error_of_ours(setting: Setting, value: Any) -> None:
    file = setting.upload(DATA)
    for lie in (value, {'type': 'sha512', 'value': value}, {'type': value, 'value': '0' * 128}):
        file.hmac = lie
        with pytest.raises(StorjError):
            setting.download(file)


# -- ranges ----------------------------------------------------------------------------------------


def misstate_sizes(setting: Setting, sizes: list[int]) -> None:
    """Have the bridge list other sizes of the first shards."""
    honest = setting.bridge.file_pointers

    def lying(*args: Any, **options: Any) -> list[FilePointer]:
        pointers = honest(*args, **options)
        for pointer, size in zip(pointers, sizes, strict=False):
            pointer.size = size
        return pointers

    setting.bridge.file_pointers = lying  # type: ignore[method-assign]


@pytest.mark.parametrize('way', [whole, to_path, streamed])
@pytest.mark.parametrize(
    'sizes', [[SHARD - 16] * 2, [SHARD + 16] * 2, [SHARD - 16, SHARD], [SHARD, SHARD + 32]]
)
def test_range_does_not_lie_where_the_bridge_shifts_it(
    setting: Setting, tmp_path: Path, sizes: list[int], way: Any
) -> None:
    file = setting.upload(DATA)
    misstate_sizes(setting, sizes)
    file.size = sum(sizes) + len(DATA) - 2 * SHARD
    # The last shard alone has the range in it, and the stated size.
    start = sum(sizes) + 5
    with pytest.raises((IntegrityError, NotEnoughShardsError)):
        way(setting, file, tmp_path, start=start)
    assert not list(tmp_path.glob('out*'))


def test_sizes_are_proved_once_for_many_ranges(setting: Setting, tmp_path: Path) -> None:
    file = setting.upload(DATA)
    pulled: list[str] = []

    def note(node: str, data: bytes) -> bytes:
        pulled.append(shard_hash(data))
        return data

    setting.channel.pulling = note
    start = 2 * SHARD + 5
    for _ in range(3):
        assert whole(setting, file, tmp_path, start=start) == DATA[start:]
    first, _, last = hashes_of(setting, file)
    assert pulled == [first, last, last, last]
    # Of a range that ends before the last shard, its own shards prove enough.
    again = Setting(tmp_path, bridge=setting.bridge)
    again.channel.pulling = note
    pulled.clear()
    assert whole(again, file, tmp_path, start=SHARD, end=SHARD + 5) == DATA[SHARD : SHARD + 5]
    assert len(pulled) == 1
    # Where nothing is proved, nothing more is fetched.
    pulled.clear()
    third = Setting(tmp_path, bridge=setting.bridge)
    third.channel.pulling = note
    whole(third, file, tmp_path, start=start, decrypt=False)
    assert pulled == [last]


# -- keys for readers that know no index -----------------------------------------------------------


def key_by(scheme: str, file: File) -> ContentKey:
    if scheme == 'v0':
        return keys.file_key_v0(keys.bucket_key(WORDS, BUCKET), file.id)
    return keys.file_key_text(keys.bucket_key_text(WORDS, BUCKET), file.id)


@pytest.mark.parametrize('encrypt_name', [True, False])
@pytest.mark.parametrize('version', [(2, 2, 4), (5, 12, 0), (7, 7, 1)])
@pytest.mark.parametrize('scheme', ['v0', 'text'])
def test_upload_makes_the_key_that_other_clients_make(
    make: Callable[..., Setting], scheme: str, version: Any, encrypt_name: bool
) -> None:
    bridge = FakeBridge(version=version)
    setting = make(bridge=bridge, key_scheme=scheme, allow_unauthenticated=True)
    file = setting.upload(DATA, encrypt_name=encrypt_name)
    assert file.index is None
    sealed = CtrStream(key_by(scheme, file)).process(DATA)
    assert b''.join(kept(setting, file, index) for index in range(3)) == sealed
    assert setting.download(file).read() == DATA
    if version >= (5, 3, 0):
        # The HMAC tells whoever has said nothing.
        assert make(bridge=bridge).download(file).read() == DATA


def test_reader_of_a_public_bucket_of_that_time_is_served(make: Callable[..., Setting]) -> None:
    setting = make(key_scheme='text')
    text = keys.bucket_key_text(WORDS, BUCKET)
    file = setting.upload(DATA, encrypt_name=False)
    setting.bridge.mnemonic = None
    setting.bridge.token_create = lambda *_: Token(  # type: ignore[method-assign]
        token='t', encryptionKey=text
    )
    assert setting.download(file).read() == DATA


def test_file_for_other_clients_has_no_parity_unless_asked_for(
    make: Callable[..., Setting],
) -> None:
    data = os.urandom(2 * 1024 * 1024)
    for scheme, parity, erasure in (
        (None, None, True),
        ('v0', None, False),
        ('v0', True, True),
        ('text', None, False),
    ):
        setting = make(bridge=FakeBridge(farmers=9), key_scheme=scheme, shard_size=512 * 1024)
        file = setting.upload(data, parity=parity)
        assert (file.erasure is not None) == erasure


@pytest.mark.parametrize(
    ('version', 'scheme', 'encrypt', 'warned'),
    [
        ((7, 7, 1), None, True, False),
        ((7, 7, 1), 'v0', True, True),
        ((7, 7, 1), 'text', True, True),
        ((5, 12, 0), None, True, True),
        ((5, 12, 0), None, False, False),
    ],
)
def test_second_content_under_one_key_stream_is_warned_of(
    make: Callable[..., Setting],
    caplog: pytest.LogCaptureFixture,
    version: Any,
    scheme: Any,
    encrypt: bool,
    warned: bool,
) -> None:
    setting = make(bridge=FakeBridge(version=version), key_scheme=scheme)
    setting.upload(DATA, encrypt=encrypt)
    assert 'key stream' not in caplog.text
    setting.upload(DATA[::-1], encrypt=encrypt, overwrite=True)
    assert ('key stream' in caplog.text) == warned


@pytest.mark.parametrize(
    ('core', 'scheme'),
    [
        ('5.0.9', None),
        ('5.1.0', 'text'),
        ('5.1.2', 'text'),
        ('6.0.3', 'text'),
        ('6.0.4', 'v0'),
        ('8.7.2', 'v0'),
        ('', None),
    ],
)
def test_bridge_tells_which_keys_the_clients_of_its_time_make(core: str, scheme: Any) -> None:
    profile = BridgeProfile.from_info({'version': '2.2.4', 'x-core-version': core})
    assert profile.javascript_key_scheme == scheme


def test_log_tells_that_other_clients_make_other_keys(
    make: Callable[..., Setting], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level('INFO')
    for scheme, told in ((None, True), ('text', False)):
        setting = make(bridge=FakeBridge(version=(2, 2, 4)), key_scheme=scheme)
        setting.bridge._profile = BridgeProfile(version=(2, 2, 4), core=(5, 1, 2))
        caplog.clear()
        setting.upload(DATA, name=str(scheme))
        assert ("key_scheme='text'" in caplog.text) == told
