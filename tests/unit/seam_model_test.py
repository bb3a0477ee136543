"""What programs and tests written for releases 0.1.5 to 0.3.14 see of the models."""

from __future__ import annotations

import hashlib
import inspect
import json
import pickle
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import ecdsa
import pytest
from Crypto.Hash import RIPEMD160

import storj.model
import storj.object
from storj import exception, model
from storj.crypto import keyring
from storj.digest import rmd160sha256
from storj.model import Bucket, File, Frame, MerkleTree, Shard, ShardManager, Token
from tests.unit.core_keys import seal_private_key

GIB = 1024**3
MIB = 1024**2


# -- identifiers and records -----------------------------------------------------------------------


def test_files_bucket_is_the_record_and_its_id() -> None:
    file = File(bucket='x', frame='y')
    assert file.bucket == Bucket(id='x')
    assert Bucket(id='x') == file.bucket
    assert file.bucket == 'x'
    assert str(file.bucket) == f'{file.bucket}' == 'x'
    assert type(str(file.bucket)) is str
    assert file.bucket is not None
    assert file.bucket.id == 'x'
    assert file.frame == Frame(id='y')


def test_files_bucket_is_no_other() -> None:
    bucket = File(bucket='x').bucket
    for other in (Bucket(id='y'), Bucket(id='x', name='n'), Bucket(), Frame(id='x'), 'y', None, 5):
        assert bucket != other
        assert not bucket == other  # noqa: SIM201


def test_files_bucket_is_text_everywhere() -> None:
    file = File(bucket='x')
    assert isinstance(file.bucket, str)
    assert json.dumps(file.to_dict()) == '{"bucket": "x"}'
    assert pickle.loads(pickle.dumps(file)) == file
    assert {file.bucket} == {'x'}
    assert {file.bucket: 1}[Bucket(id='x')] == 1  # type: ignore[index]


def test_files_bucket_takes_the_record() -> None:
    assert File(bucket=Bucket(id='x', name='n')).bucket == 'x'
    file = File()
    assert file.bucket is None
    file.bucket = 'x'
    assert file.bucket == Bucket(id='x')


def test_tokens_bucket_is_the_record_and_its_id() -> None:
    token = Token(bucket='x')
    assert token.bucket == Bucket(id='x')
    assert token.bucket_id == 'x'
    assert Token().bucket_id is None
    token.bucket_id = 'y'
    assert token.bucket == Bucket(id='y')


def test_shard_keeps_what_it_is_given() -> None:
    shard = Shard(id='', hash='', size='', index='', challenges='c', tree='t')  # type: ignore[arg-type]
    assert (shard.id, shard.hash, shard.size, shard.index) == ('', '', '', '')
    assert (shard.challenges, shard.tree) == ('c', 't')
    given = mock.MagicMock()
    shard = Shard(size=given, index=given, challenges=given, tree=given, exclude=given)
    for kept in (shard.size, shard.index, shard.challenges, shard.tree, shard.exclude):
        assert kept is given


def test_empty_shard_has_empty_lists_and_no_size() -> None:
    shard = Shard()
    assert shard.size is None
    assert shard.index is None
    assert (shard.challenges, shard.tree, shard.exclude) == ([], [], [])


def test_shard_is_one_line_of_text() -> None:
    shard = Shard(hash='h', size=5, index=0, challenges=['c', 'd'], tree=['t', 'u'])
    assert shard.all() == 'Shard{index=0, hash=h, size=5, tree={t, u}, challenges={c, d}'
    assert 'challenges={}' in Shard(tree=MerkleTree(['t'])).all()
    shard.add_challenge(7)
    shard.add_tree(MerkleTree(['t']))
    assert 'challenges={c, d, 7}' in shard.all()


#: Class -> its arguments in the order of release 0.3.14.
POSITIONS = {
    model.Bucket: 'id name status user created storage transfer pubkeys publicPermissions '
    'encryptionKey index',
    model.Contact: 'address port nodeID lastSeen protocol userAgent responseTime timeoutRate '
    'lastTimeout',
    model.ExchangeReport: 'dataHash reporterId farmerId clientId exchangeStart exchangeEnd '
    'exchangeResultCode exchangeResultMessage',
    model.File: 'bucket hash mimetype filename size id frame created hmac erasure index',
    model.FileMirrors: 'available established',
    model.FilePointer: 'hash token operation channel',
    model.Frame: 'id created shards locked user size storageSize',
    model.KeyPair: 'pkey secret',
    model.StorjParametrs: 'tmpPath',
    model.Token: 'token bucket operation expires encryptionKey id',
}


@pytest.mark.parametrize('kind', POSITIONS, ids=lambda kind: kind.__name__)
def test_arguments_stand_as_in_release_0_3_14(kind: type[Any]) -> None:
    names = POSITIONS[kind].split()
    assert list(inspect.signature(kind).parameters)[: len(names)] == names


def test_positions_reach_their_attributes() -> None:
    time = '2016-10-13T04:23:48.183Z'
    contact = model.Contact('a', 1, 'n', time, '1.0.0', 'agent', 2.5, 0.5, time)
    assert (contact.responseTime, contact.timeoutRate) == (2.5, 0.5)
    assert contact.lastTimeout == contact.lastSeen
    frame = Frame('f', time, [], True, 'user')
    assert (frame.locked, frame.user) == (True, 'user')
    mirrors = model.FileMirrors([{'a': 1}], [{'e': 1}])
    assert (mirrors.available, mirrors.established) == ([{'a': 1}], [{'e': 1}])
    assert Bucket(index='i').index == 'i'


def test_models_are_put_in_sets() -> None:
    buckets = [Bucket(id=text, pubkeys=['k']) for text in 'aab']
    assert len(set(buckets)) == 2
    assert len({Token(token='t'), Token(id='t'), Frame(id='t')}) == 2


# -- names of 0.2 and 0.3 --------------------------------------------------------------------------


def test_names_of_0_3_are_in_the_module() -> None:
    assert model.Object is storj.object.Object
    assert model.ShardingException is exception.ShardingException
    assert model.StorjParametrs(tmpPath='/tmp/x').tmpPath == '/tmp/x'
    assert model.StorjParametrs().tmpPath is None


def test_sharding_exception_has_its_value() -> None:
    error = model.ShardingException('why')
    assert (error.value, str(error)) == ('why', 'why')


def test_reports_have_their_texts_under_old_names() -> None:
    report = model.ExchangeReport()
    assert report.STORJ_REPORT_UPLOAD_ERROR == 'TRANSFER_FAILED'
    assert report.STORJ_REPORT_SHARD_UPLOADED == 'SHARD_UPLOADED'
    assert report.STORJ_REPORT_DOWNLOAD_ERROR == 'DOWNLOAD_ERROR'
    assert report.STORJ_REPORT_SHARD_DOWNLOADED == 'SHARD_DOWNLOADED'
    assert (report.SUCCESS, report.FAILURE) == (1000, 1100)


def test_report_takes_its_times_as_programs_of_0_3_give_them() -> None:
    report = model.ExchangeReport()
    report.exchangeStart, report.exchangeEnd = '1479896130', str(int(1479896131.9))
    assert report.to_dict()['exchangeStart'] == 1479896130000
    assert report.to_dict()['exchangeEnd'] == 1479896131000


def test_keyring_makes_an_encryption_key() -> None:
    ring = model.Keyring()
    first = ring.get_encryption_key('user_pass')
    assert len(bytes.fromhex(first)) == 32
    assert first == ring.content_key().key.hex()
    assert ring.get_encryption_key('user_pass') != first


# -- the key pair ----------------------------------------------------------------------------------

#: Private key, compressed public key and address of the numbers 1 and 2 (SEC 2, section 2.4.1; the
#: addresses are those that Bitcoin shows for them).
PAIRS = [
    (
        '1',
        '0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798',
        '1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH',
    ),
    (
        f'{2:064x}',
        '02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5',
        '1cMh228HTCiwS8ZsaakH8A8wze1JR5ZsP',
    ),
]


@pytest.mark.parametrize(('private', 'public', 'address'), PAIRS)
def test_key_pair_of_a_private_key(private: str, public: str, address: str) -> None:
    pair = model.KeyPair(pkey=private)
    assert pair.private_key == private.zfill(64)
    assert pair.public_key == public
    assert pair.node_id == rmd160sha256(bytes.fromhex(public)).hex()
    assert pair.address == address
    assert isinstance(pair.keypair, ecdsa.SigningKey)


def test_key_pair_of_a_secret_is_the_master_key_of_bip32() -> None:
    # Test vector 1 of BIP32: the seed, taken as text here, is these sixteen bytes.
    secret = bytes(range(16)).decode()
    assert model.KeyPair(secret=secret).private_key == (
        'e8f32e723decf4051aefac8e2c93c9c5b214313817cdb01a1494b917c8436b35'
    )


def test_new_key_pairs_are_random_and_hidden() -> None:
    first, second = model.KeyPair(), model.KeyPair()
    assert first.private_key != second.private_key
    assert first.private_key not in repr(first)


@pytest.mark.parametrize(
    'private', ['', '0', 'x', '-1', '+1', ' 1', '1_1', '١', 'f' * 64, '1' * 65, 5]
)
def test_private_key_that_is_none_is_refused(private: Any) -> None:
    with pytest.raises(ValueError, match='private key') as caught:
        model.KeyPair(pkey=private)
    assert caught.value.__cause__ is None


# -- the cipher of id_ecdsa ------------------------------------------------------------------------

CIPHER = model.IdecdsaCipher()


def test_password_becomes_key_and_block_as_in_openssl() -> None:
    # Protocol reference, section 6.1.
    key, block = CIPHER.EVP_BytesToKey('password', 32, 16)
    assert key.hex() == '5f4dcc3b5aa765d61d8327deb882cf992b95990a9151374abd8ff8c5a7a0fe08'
    assert block.hex() == 'b7b4372cdfbcb3d16a2631b59b509e94'


@pytest.mark.parametrize('data', ['', 'text', 'täxt', 'x' * 100, b'\xff\xfe'])
def test_cipher_gives_back_what_it_took(data: str | bytes) -> None:
    sealed = CIPHER.simpleEncrypt('password', data)
    assert CIPHER.simpleDecrypt('password', sealed) == data
    key, block = CIPHER.EVP_BytesToKey('password', 32, 16)
    assert CIPHER.decrypt(CIPHER.encrypt(data, key, block), key, block) == data
    with pytest.raises(exception.DecryptionError):
        CIPHER.simpleDecrypt('other', sealed)


def test_cipher_opens_the_key_file_of_a_core_client() -> None:
    private = 'c0' * 32
    sealed = seal_private_key('password', private)
    assert CIPHER.simpleDecrypt('password', sealed) == bytes.fromhex(private)
    assert keyring.open_private_key('password', CIPHER.simpleEncrypt('password', b'\xc0' * 32)) == (
        private
    )


@pytest.mark.parametrize('text', ['', 'x', 'x' * 15, 'x' * 16, 'x' * 17])
def test_padding_fills_the_last_block(text: str) -> None:
    padded = model.IdecdsaCipher.pad(text)
    assert len(padded) % 16 == 0
    assert padded.startswith(text)
    assert model.IdecdsaCipher.unpad(padded) == text
    assert model.IdecdsaCipher.unpad(padded.encode()) == text.encode()


@pytest.mark.parametrize('data', ['', b'', 'x' * 16, '\0' * 16, b'\x20' * 16, '\x03'])
def test_what_is_not_padded_is_refused(data: str | bytes) -> None:
    with pytest.raises(ValueError, match='padded'):
        model.IdecdsaCipher.unpad(data)


# -- the tree --------------------------------------------------------------------------------------

EIGHT = [f'{number:040x}' for number in range(8)]


def test_tree_of_eight_leaves() -> None:
    tree = MerkleTree(EIGHT)
    assert tree.depth == 3
    assert tree.count == 7
    assert tree.get_level(tree.depth) == tree.leaves == tree._leaves == EIGHT
    assert tree.rows == tree._rows
    assert [len(row) for row in tree._rows] == [1, 2, 4, 8]
    assert tree.get_root() == tree._rows[0][0]


def test_tree_of_two_leaves() -> None:
    tree = MerkleTree(['a', 'b'])
    assert (tree.depth, tree.count) == (1, 1)
    assert tree.get_root() == ShardManager.hash('ab')


@pytest.mark.parametrize(('count', 'nodes'), [(1, 1), (2, 3), (5, 15), (8, 15)])
def test_nodes_of_leaves_that_are_hashed_count_all(count: int, nodes: int) -> None:
    assert MerkleTree(EIGHT[:count], prehashed=False).count == nodes


@pytest.mark.parametrize('leaves', [None, 5, [], (), [None], ['a', 1], [b'a'], 'text'])
def test_tree_of_no_texts_is_a_value_error(leaves: Any) -> None:
    with pytest.raises(ValueError):
        MerkleTree(leaves)


def test_tree_is_generated_once_and_can_be_again() -> None:
    with mock.patch.object(storj.model.MerkleTree, '_generate') as generate:
        tree = MerkleTree(['a', 'b'])
    generate.assert_called_once_with()
    assert (tree._leaves, tree._rows, tree.count) == (['a', 'b'], [], 0)
    tree._generate()
    assert tree._rows == MerkleTree(['a', 'b'])._rows


def test_row_is_made_of_the_hashes_of_joined_children() -> None:
    tree = MerkleTree(['a', 'b'])
    tree._rows = [[], [], ['a', 'b', 'c', 'd']]
    with mock.patch('storj.model.ShardManager.hash', side_effect=str.upper) as hashed:
        assert tree._make_row(1) == ['AB', 'CD']
    assert hashed.call_args_list == [mock.call('ab'), mock.call('cd')]


# -- the manager of shards -------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / 'file'
    file.write_bytes(bytes(range(100)))
    return str(file)


@pytest.mark.parametrize('wrong', [None, 5, b'file', ['file'], 'no such file', '/'])
def test_path_that_is_no_file_is_a_value_error(path: str, wrong: Any) -> None:
    with pytest.raises(ValueError):
        ShardManager(wrong, 10)
    manager = ShardManager(path, 10)
    with pytest.raises(ValueError):
        manager.filepath = wrong
    assert (manager.filepath, manager.index) == (path, 10)


def test_manager_has_the_attributes_of_0_3(path: str, tmp_path: Path) -> None:
    manager = ShardManager(path, 10)
    assert manager.filesize == 100
    assert manager.suffix == ''
    assert manager.tmp_path == tempfile.gettempdir()
    assert manager.num_chunks == manager.index == len(manager.shards) == 10
    assert ShardManager(path, tmp_path=str(tmp_path)).tmp_path == str(tmp_path)
    manager.tmp_path = str(tmp_path)
    assert manager.tmp_path == str(tmp_path)


def test_shards_are_written_where_0_3_wrote_them(path: str, tmp_path: Path) -> None:
    folder = tmp_path / 'shards'
    folder.mkdir()
    manager = ShardManager(filepath=path, num_chunks=3, tmp_path=str(folder), nchallenges=2)
    assert [shard.size for shard in manager.shards] == [34, 34, 32]
    assert [len(shard.challenges) for shard in manager.shards] == [2, 2, 2]
    assert sorted(each.name for each in folder.iterdir()) == ['file-1', 'file-2', 'file-3']
    for number, shard in enumerate(manager.shards, 1):
        assert ShardManager.hash((folder / f'file-{number}').read_bytes()) == shard.hash
    ShardManager(filepath=path, tmp_path=str(folder), suffix='.x')
    assert (folder / 'file-1.x').read_bytes() == Path(path).read_bytes()


def test_without_a_folder_nothing_is_written(path: str) -> None:
    with mock.patch.object(tempfile, 'tempdir', str(Path(path).parent)):
        assert len(ShardManager(path).shards) == 1
    assert [each.name for each in Path(path).parent.iterdir()] == ['file']


def test_shards_of_43_gib_are_eleven_of_four_gib(path: str) -> None:
    manager = ShardManager(path)
    for patched in (
        mock.patch.object(manager, '_filesize', 43 * GIB),
        mock.patch.object(ShardManager, 'filesize', 43 * GIB),
    ):
        with patched:
            assert manager.determine_shard_size() == 4 * GIB
            assert manager.get_optimal_shard_number() == manager.index == manager.num_chunks == 11
            assert manager.get_optimal_shard_parameters() == {
                'shard_size': str(4 * GIB),
                'shard_count': 11,
                'file_size': 43 * GIB,
            }
    with mock.patch('os.path.getsize', return_value=43 * GIB):
        assert ShardManager(path).num_chunks == 11


def test_sizes_of_shards_are_constants_of_the_class() -> None:
    assert ShardManager.SHARD_SIZE == 8 * MIB
    assert ShardManager.MAX_SHARD_SIZE == 4294967296
    assert ShardManager.SHARD_MULTIPLES_BACK == 4


@pytest.mark.parametrize(
    ('size', 'chosen', 'count'),
    [
        (0, 0, 0),
        (1, 8 * MIB, 1),
        (8 * MIB, 8 * MIB, 1),
        (8 * MIB + 1, 8 * MIB, 2),
        (128 * MIB, 8 * MIB, 16),
        (128 * MIB + 1, 16 * MIB, 9),
        (GIB, 64 * MIB, 16),
        (64 * GIB, 4 * GIB, 16),
        (65 * GIB, 4 * GIB, 17),
    ],
)
def test_shard_size_is_the_choice_of_0_3(path: str, size: int, chosen: int, count: int) -> None:
    manager = ShardManager(path)
    with mock.patch.object(manager, '_filesize', size):
        assert manager.determine_shard_size() == chosen
        assert manager.get_optimal_shard_number() == count


def test_shard_size_follows_the_accumulator_and_the_limit(path: str) -> None:
    assert ShardManager(path).determine_shard_size(6) == 32 * MIB
    limited = ShardManager(path, max_shard_size=30)
    assert [shard.size for shard in limited.shards] == [30, 30, 30, 10]


@pytest.mark.parametrize('data', ['text', b'text'])
def test_hash_goes_through_both_digests(data: str | bytes) -> None:
    assert ShardManager._sha256(data) == hashlib.sha256(b'text').digest()
    assert ShardManager._ripemd160(data) == RIPEMD160.new(b'text').digest()
    with (
        mock.patch.object(ShardManager, '_sha256', return_value=b's') as first,
        mock.patch.object(ShardManager, '_ripemd160', return_value=b'\xab') as second,
    ):
        assert ShardManager.hash(data) == 'ab'
    first.assert_called_once_with(b'text')
    second.assert_called_once_with(b's')


@pytest.mark.parametrize('data', ['text', b'text'])
@pytest.mark.parametrize('name', ['sha256', 'ripemd160'])
def test_digests_are_those_of_the_modules_hashlib(name: str, data: str | bytes) -> None:
    with mock.patch('storj.model.hashlib', autospec=True) as replaced:
        replaced.new.return_value.digest.return_value = b'digest'
        assert getattr(ShardManager, f'_{name}')(data) == b'digest'
    replaced.new.assert_called_once_with(name, data)
    replaced.new.return_value.digest.assert_called_once_with()


def test_ripemd_is_there_without_that_of_openssl() -> None:
    known = ShardManager.hash('testshard')
    with mock.patch('storj.model.hashlib.new', side_effect=_without_ripemd(hashlib.new)):
        assert ShardManager.hash('testshard') == known == '4af6b8cd7fac9e832650c82e965a06aabe920c07'


def _without_ripemd(new: Any) -> Any:
    def replaced(name: str, *args: Any, **options: Any) -> Any:
        if name == 'ripemd160' and not options:
            raise ValueError(f'unsupported hash type {name}')
        return new(name, *args, **options)

    return replaced
