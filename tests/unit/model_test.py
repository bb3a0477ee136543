"""The records, one by one; what they have in common is in object_test."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import types
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj import model
from storj.crypto.keyring import KeyEntry, Keyring
from storj.digest import ShardDigest, merkle_rows, rmd160sha256, shard_hash
from storj.exception import ConfigurationError, DecryptionError, IntegrityError
from tests.unit.core_keys import seal_text

from .replay import VECTORS

PROTOCOL = json.loads((VECTORS / 'protocol.json').read_text(encoding='utf-8'))
MOMENT = datetime(2016, 11, 23, 10, 15, 30, 123000, tzinfo=timezone.utc)

#: Class -> the arguments of the documentation, in their order.
DOCUMENTED = {
    model.Bucket: 'id name status user created storage transfer pubkeys publicPermissions '
    'encryptionKey',
    model.Contact: 'address port nodeID lastSeen protocol userAgent',
    model.File: 'bucket hash mimetype filename size id frame',
    model.FilePointer: 'hash token operation channel',
    model.Frame: 'id created shards',
    model.Mirror: 'hash mirrors status',
    model.Shard: 'id hash size index challenges tree exclude',
    model.Token: 'token bucket operation expires encryptionKey',
}


@pytest.mark.parametrize('kind', DOCUMENTED, ids=lambda kind: kind.__name__)
def test_documented_arguments_come_first_and_are_none(kind: type[Any]) -> None:
    parameters = list(inspect.signature(kind).parameters.values())
    names = DOCUMENTED[kind].split()
    assert [each.name for each in parameters[: len(names)]] == names
    assert all(not each.default for each in parameters[: len(names)])
    record = kind()
    for name in names:
        assert not getattr(record, name)


def test_files_frame_is_a_record_whatever_the_bridge_sends() -> None:
    assert model.File(frame='f').frame == model.Frame(id='f')
    assert model.File(frame={'id': 'f', 'size': 3}).frame == model.Frame(id='f', size=3)
    assert model.File(frame=model.Frame(id='f')).frame == model.Frame(id='f')
    assert model.File().frame is None
    assert model.File(frame='f').to_dict() == {'frame': 'f'}
    assert model.File(frame={'shards': []}).to_dict() == {}
    assert model.Token(token='t', bucket={'name': 'b'}).to_dict() == {'token': 't', 'id': 't'}


def test_files_other_names_follow_the_fields() -> None:
    file = model.File(filename='a/b.txt', mimetype='text/plain')
    assert (file.name, file.content_type) == ('a/b.txt', 'text/plain')
    file.name, file.content_type = 'c', 'image/png'
    assert (file.filename, file.mimetype) == ('c', 'image/png')


def test_file_takes_a_path_and_its_shards(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.write_bytes(b'12345')
    manager = model.ShardManager(path, 2)
    file = model.File(filename=path, shard_manager=manager)
    assert file.filename == str(path)
    assert file.shard_manager is manager
    assert file.to_dict() == {'filename': str(path)}


def test_token_has_its_value_under_both_names() -> None:
    assert model.Token(token='t').id == 't'
    assert model.Token(id='t').token == 't'
    assert model.Token(id='t') == model.Token(token='t')
    assert model.Token(id='t', token='t').to_dict() == {'token': 't', 'id': 't'}
    token = model.Token()
    assert token.to_dict() == {}
    token.id = 'u'
    assert token.token == 'u'


def test_bucket_of_a_token_is_the_documented_record() -> None:
    token = model.Token(token='t', bucket='b')
    assert token.bucket == model.Bucket(id='b')
    assert token['bucket'] == 'b'
    assert model.Token(bucket=token.bucket) == model.Token(bucket='b')


@pytest.mark.parametrize('nonsense', [5, 0.5, True, {'a': 1}, [1], 'text', None])
def test_record_made_of_nonsense_can_be_read(nonsense: Any) -> None:
    for kind in (
        model.Bucket,
        model.Contact,
        model.File,
        model.Frame,
        model.FilePointer,
        model.FileMirrors,
        model.Token,
        model.User,
        model.Key,
        model.ExchangeReport,
    ):
        fields = inspect.signature(kind).parameters.keys() - {'extra'}
        record = kind(**dict.fromkeys(fields, nonsense))
        assert record.get('farmer') in (nonsense, None)
        assert repr(record)
        assert json.dumps(record.to_dict())


def test_pointer_is_a_record_and_an_object() -> None:
    pointer = model.FilePointer(
        hash='h', token='t', operation='PULL', farmer={'address': 'a', 'nodeID': 'n'}, size='9'
    )
    assert pointer['farmer']['address'] == pointer.get('farmer')['address'] == 'a'
    assert pointer['token'] == pointer.get('token') == 't'
    assert pointer.token == model.Token(token='t')
    assert pointer['size'] == pointer.size == 9
    assert pointer.get('channel') is None
    assert json.loads(json.dumps(pointer.to_dict()))['token'] == 't'
    pointer.token = 'other'
    assert pointer['token'] == 'other'


def test_pointer_is_the_dict_that_the_bridge_sent() -> None:
    sent = {'hash': 'h', 'token': 't', 'farmer': {'address': 'a'}, 'size': 9, 'new': [1]}
    pointer = model.FilePointer(**sent)
    assert isinstance(pointer, dict)
    assert pointer == sent == dict(pointer) == json.loads(json.dumps(pointer))
    assert json.loads(json.dumps([pointer], indent=1, sort_keys=True)) == [sent]
    assert dict(pointer.items()) == sent
    copies = (copy.copy(pointer), copy.deepcopy(pointer), pickle.loads(pickle.dumps(pointer)))
    assert {type(each) for each in copies} == {model.FilePointer}
    assert copies == (pointer, pointer, pointer)
    assert len({pointer, *copies}) == 1


def test_entries_and_attributes_of_a_pointer_are_one() -> None:
    pointer = model.FilePointer(hash='h', size='9', index='x', farmer=None)
    assert pointer == {'hash': 'h', 'size': 9}
    assert (pointer.index, pointer.farmer, pointer.channel) == (None, None, None)
    pointer['hash'], pointer['token'] = 'other', 't'
    pointer.size, pointer.parity = None, True
    assert (pointer.hash, pointer.token) == ('other', model.Token('t'))
    assert pointer == {'hash': 'other', 'token': 't', 'parity': True}
    pointer.token = model.Token('u')
    assert pointer['token'] == 'u'
    pointer.token = None
    assert 'token' not in pointer
    assert 'secret' not in repr([model.FilePointer(token='secret')])


def test_pointer_without_farmer_has_none_and_no_token() -> None:
    pointer = model.FilePointer(hash='h', index=0, size=10, parity=False)
    assert not pointer.token
    assert pointer.farmer is None
    assert 'token' not in pointer


def test_contact_understands_both_forms_of_last_seen() -> None:
    text = model.Contact(lastSeen='2016-11-23T10:15:30.123Z')
    number = model.Contact(lastSeen=1479896130123)
    assert text.lastSeen == number.lastSeen == MOMENT


def test_frames_shards_are_a_list_of_its_own() -> None:
    shards = ['1']
    frame = model.Frame(shards=shards)
    frame.shards.append('2')
    assert shards == ['1']
    assert model.Frame().shards == []
    assert len(model.Frame(shards=(each for each in 'abc')).shards) == 3


# -- mirrors ---------------------------------------------------------------------------------------

CONTACT = {'address': 'a', 'port': 1, 'nodeID': 'n'}


@pytest.mark.parametrize(
    ('answer', 'count', 'status', 'per_shard'),
    [
        ({'hash': 'h', 'mirrors': 2, 'status': 'pending'}, 2, 'pending', []),
        ([{'hash': 'h', 'mirrors': 3, 'status': 'pending'}], 3, 'pending', [3]),
        ([{'hash': 'h', 'mirrors': [CONTACT]}, {'hash': 'i', 'mirrors': []}], 0, None, [1, 0]),
        ([[CONTACT, CONTACT], [CONTACT]], 1, 'established', [2, 1]),
        ([], 0, None, []),
        ([[]], 0, 'established', [0]),
    ],
)
def test_mirror_reads_every_answer(
    answer: Any, count: int, status: str | None, per_shard: list[int]
) -> None:
    mirror = model.Mirror.from_answer(answer)
    assert mirror.mirrors == count
    assert status is None or mirror.status == status
    assert [shard.mirrors for shard in mirror.shards] == per_shard


@pytest.mark.parametrize('answer', [None, 'x', 5, [None], ['x'], [[[]], 5]])
def test_mirror_refuses_what_is_no_answer(answer: Any) -> None:
    with pytest.raises(TypeError):
        model.Mirror.from_answer(answer)


def test_mirrors_contacts_are_records() -> None:
    mirror = model.Mirror.from_answer([[CONTACT]])
    assert mirror.shards[0].contacts == [model.Contact(**CONTACT)]


def test_report_has_its_times_in_milliseconds() -> None:
    report = model.ExchangeReport()
    report.dataHash = 'h'
    report.exchangeStart = 1479896130123
    report.exchangeEnd = '2016-11-23T10:15:31.456Z'
    report.exchangeResultCode = report.SUCCESS
    report.exchangeResultMessage = report.SHARD_UPLOADED
    assert report.exchangeStart == MOMENT
    assert report.to_dict() == {
        'dataHash': 'h',
        'exchangeStart': 1479896130123,
        'exchangeEnd': 1479896131456,
        'exchangeResultCode': 1000,
        'exchangeResultMessage': 'SHARD_UPLOADED',
    }


# -- the tree --------------------------------------------------------------------------------------


def test_tree_is_the_one_of_generation_b() -> None:
    vectors = PROTOCOL['audits']['B']['three_challenges']
    tree = model.MerkleTree(vectors['tree'])
    assert tree.rows == merkle_rows(vectors['tree'], 'B')
    assert len(tree.rows) == vectors['depth_levels'] == 3
    assert tree.depth == 2
    assert tree.get_root() == tree.rows[0][0] == tree.get_level(0)[0]
    assert tree.leaves == tree.get_level(2) == vectors['tree']
    assert tree.count == 3


@pytest.mark.parametrize(('count', 'nodes', 'depth'), [(1, 0, 0), (2, 1, 1), (3, 3, 2), (5, 7, 3)])
def test_tree_is_padded_to_a_power_of_two(count: int, nodes: int, depth: int) -> None:
    leaves = [f'{number:040x}' for number in range(count)]
    tree = model.MerkleTree(leaves)
    assert (tree.count, tree.depth) == (nodes, depth)
    padding = 'b472a266d0bd89c13706a4132ccfb16f7c3b9fcb'
    assert tree.leaves == leaves + [padding] * (2**depth - count)


def test_tree_takes_a_generator_and_hashes_on_request() -> None:
    generated = model.MerkleTree(each for each in ('a', 'b'))
    hashed = model.MerkleTree(['a', 'b'], prehashed=False)
    assert generated.leaves == ['a', 'b']
    assert hashed.leaves == [rmd160sha256(text).hex() for text in (b'a', b'b')]
    assert hashed.get_root() == rmd160sha256(''.join(hashed.leaves).encode()).hex()


@pytest.mark.parametrize(
    'leaves', [None, 'text', 5, {}, [], (), [None], [1], [b'x'], ['a', 2], iter(())]
)
@pytest.mark.parametrize('prehashed', [True, False])
def test_tree_refuses_what_is_no_list_of_texts(leaves: Any, prehashed: bool) -> None:
    with pytest.raises(ValueError, match='lea'):
        model.MerkleTree(leaves, prehashed)


def test_tree_refuses_an_empty_generator() -> None:
    def nothing() -> Iterator[str]:
        yield from ()

    assert isinstance(nothing(), types.GeneratorType)
    with pytest.raises(ValueError, match='at least one leaf'):
        model.MerkleTree(nothing())


def test_tree_is_built_anew_when_its_leaves_are_set() -> None:
    tree = model.MerkleTree(['a'])
    tree.leaves = ['a', 'b']
    assert tree == model.MerkleTree(['a', 'b'])
    assert tree != model.MerkleTree(['a'])


@pytest.mark.parametrize('depth', [-1, 2])
def test_tree_has_no_other_rows(depth: int) -> None:
    with pytest.raises(IndexError):
        model.MerkleTree(['a', 'b']).get_level(depth)


# -- shards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('generation', ['A', 'B', 'C'])
def test_shards_records_are_those_of_the_vectors(generation: Any) -> None:
    challenges = [each * 32 for each in ('01', '02', '03')]
    digest = ShardDigest(challenges, generation)
    digest.update(b'testshard')
    shard = model.Shard(
        hash=digest.hexdigest(),
        size=9,
        index=2,
        challenges=challenges,
        tree=digest.leaves(),
        generation=generation,
    )
    rows = merkle_rows(digest.leaves(), generation)
    public = {'hash': digest.hexdigest(), 'size': 9, 'tree': digest.leaves()}
    private = {'challenges': challenges, 'root': rows[0][0], 'depth': 3}
    assert shard.get_public_record() == public
    assert shard.get_private_record() == private
    for part in ('index=2', 'size=9', digest.hexdigest(), *digest.leaves(), *challenges):
        assert part in shard.all()


def test_shard_takes_a_whole_tree_or_leaves_one_by_one() -> None:
    leaves = [f'{number:040x}' for number in range(4)]
    whole = model.Shard(tree=model.MerkleTree(leaves))
    built = model.Shard()
    for leaf in leaves:
        built.add_tree(leaf)
    built.add_challenge('c')
    assert whole.leaves == built.leaves == leaves
    assert built.challenges == ['c']
    assert whole.get_private_record()['root'] == built.get_private_record()['root']
    with pytest.raises(TypeError):
        whole.add_tree(leaves[0])


def test_shard_without_leaves_has_no_private_record() -> None:
    with pytest.raises(ValueError, match='leaf'):
        model.Shard().get_private_record()


def test_shards_share_no_lists() -> None:
    first, second = model.Shard(), model.Shard()
    first.add_challenge('c')
    first.exclude.append('n')
    assert second.challenges == second.exclude == []


# -- the manager of shards -------------------------------------------------------------------------


@given(st.binary(max_size=200), st.integers(1, 64))
def test_manager_cuts_a_file_without_a_gap(tmp_path_factory: Any, data: bytes, size: int) -> None:
    path = tmp_path_factory.mktemp('shards') / 'file'
    path.write_bytes(data)
    manager = model.ShardManager(str(path), size, nchallenges=1)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert manager.index == len(manager.shards) == len(pieces)
    assert [shard.size for shard in manager.shards] == [len(piece) for piece in pieces]
    assert [shard.hash for shard in manager.shards] == [shard_hash(piece) for piece in pieces]
    assert [shard.index for shard in manager.shards] == list(range(len(pieces)))


@pytest.mark.parametrize(('given', 'generation'), [({}, 'B'), ({'generation': 'C'}, 'C')])
def test_managers_audits_are_right(tmp_path: Path, given: Any, generation: Any) -> None:
    path = tmp_path / 'file'
    path.write_bytes(b'testshard')
    (shard,) = model.ShardManager(path, 100, **given).shards
    digest = ShardDigest(shard.challenges, generation)
    digest.update(b'testshard')
    assert len(shard.challenges) == 12
    assert shard.tree == digest.leaves()
    assert len(shard.tree) == 16
    assert shard.get_private_record()['root'] == merkle_rows(digest.leaves(), generation)[0][0]


def test_manager_never_holds_more_than_a_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'file'
    with path.open('wb') as file:
        file.truncate(5 * 1024 * 1024 + 3)
    sizes: list[int] = []
    update = ShardDigest.update

    def watch(self: ShardDigest, data: bytes) -> None:
        sizes.append(len(data))
        update(self, data)

    monkeypatch.setattr(ShardDigest, 'update', watch)
    manager = model.ShardManager(path, 3 * 1024 * 1024, nchallenges=1)
    assert [shard.size for shard in manager.shards] == [3 * 1024 * 1024, 2 * 1024 * 1024 + 3]
    assert max(sizes) == 1024 * 1024


@pytest.mark.parametrize('change', [b'', b'longer than before'])
def test_manager_notices_a_file_that_changes(tmp_path: Path, change: bytes) -> None:
    path = tmp_path / 'file'
    path.write_bytes(b'before')
    manager = model.ShardManager(path, 4)
    path.write_bytes(change)
    with pytest.raises(IntegrityError, match='changed its size'):
        _ = manager.shards


def test_manager_starts_anew_with_another_path(tmp_path: Path) -> None:
    for name, size in (('a', 3), ('b', 9)):
        (tmp_path / name).write_bytes(b'x' * size)
    manager = model.ShardManager(tmp_path / 'a', 4)
    assert len(manager.shards) == 1
    manager.filepath = str(tmp_path / 'b')
    assert (manager.index, len(manager.shards)) == (3, 3)
    assert manager.filepath == str(tmp_path / 'b')


@pytest.mark.parametrize(
    ('size', 'challenges', 'generation', 'kind'),
    [
        (0, 1, 'B', ValueError),
        (-1, 1, 'B', ValueError),
        (1, 0, 'B', ValueError),
        (1.5, 1, 'B', TypeError),
        (True, 1, 'B', TypeError),
        ('1', 1, 'B', TypeError),
        (1, '1', 'B', TypeError),
        (1, 1, 'D', ValueError),
    ],
)
def test_manager_refuses_numbers_that_make_no_sense(
    tmp_path: Path, size: Any, challenges: Any, generation: Any, kind: type[Exception]
) -> None:
    path = tmp_path / 'file'
    path.write_bytes(b'x')
    with pytest.raises(kind):
        model.ShardManager(path, size, challenges, generation)


@pytest.mark.parametrize('path', [None, 5, b'file', '', 'nothing', 'no\0file', '.'])
def test_manager_refuses_a_path_to_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_bytes(b'x')
    with pytest.raises(ValueError):
        model.ShardManager(path, 4)


@given(st.binary(max_size=200), st.integers(1, 64))
def test_shard_files_joined_are_the_file(tmp_path_factory: Any, data: bytes, size: int) -> None:
    folder = tmp_path_factory.mktemp('shards')
    (folder / 'file').write_bytes(data)
    target = folder / 'new' / 'folder'
    manager = model.ShardManager(
        str(folder / 'file'), size, nchallenges=1, tmp_path=str(target), suffix='.part'
    )
    paths = [target / f'file-{number}.part' for number in range(1, manager.index + 1)]
    assert b''.join(path.read_bytes() for path in paths) == data
    assert [shard_hash(path.read_bytes()) for path in paths] == [s.hash for s in manager.shards]
    assert not data or sorted(target.iterdir()) == sorted(paths)


def test_shard_files_are_their_owners_alone_and_replaced(tmp_path: Path) -> None:
    (tmp_path / 'file').write_bytes(b'12345')
    victim = tmp_path / 'victim'
    victim.write_bytes(b'before')
    (tmp_path / 'file-1').symlink_to(victim)
    (tmp_path / 'file-2').write_bytes(b'a longer file from the last time')
    model.ShardManager(tmp_path / 'file', 3, tmp_path=tmp_path)
    assert victim.read_bytes() == b'before'
    assert (tmp_path / 'file-1').read_bytes() == b'123'
    assert (tmp_path / 'file-2').read_bytes() == b'45'
    assert (tmp_path / 'file-1').stat().st_mode & 0o777 == 0o600


def test_shard_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').write_bytes(b'12345')
    (tmp_path / 'file-2').mkdir()
    with pytest.raises(model.ShardingException, match=r'cannot cut .*file') as caught:
        model.ShardManager(tmp_path / 'file', 3, tmp_path=tmp_path)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.value == str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'file-1', 'file-2']


@pytest.mark.parametrize('suffix', ['/x', '/', '/../x'])
def test_suffix_names_no_folder(tmp_path: Path, suffix: str) -> None:
    (tmp_path / 'file').write_bytes(b'12345')
    with pytest.raises(ValueError, match='suffix'):
        model.ShardManager(tmp_path / 'file', 3, tmp_path=tmp_path, suffix=suffix)


def test_manager_cuts_anew_with_another_size(tmp_path: Path) -> None:
    (tmp_path / 'file').write_bytes(b'12345')
    manager = model.ShardManager(tmp_path / 'file', 4)
    assert len(manager.shards) == 2
    manager.shard_size = 5
    assert (manager.index, len(manager.shards)) == (1, 1)
    with pytest.raises(ValueError):
        manager.shard_size = 0


def test_manager_hashes_text_and_bytes() -> None:
    for vector in ('testshard', b'testshard'):
        assert model.ShardManager.hash(vector) == '4af6b8cd7fac9e832650c82e965a06aabe920c07'
    assert model.ShardManager.hash('ä') == model.ShardManager.hash('ä'.encode())


# -- the keyring -----------------------------------------------------------------------------------


def test_generated_keys_are_random_and_of_the_documented_size() -> None:
    first, second = model.Keyring(), model.Keyring()
    first.generate()
    second.generate()
    assert first != second
    assert len(bytes.fromhex(first.password or '')) == 512
    assert len(bytes.fromhex(first.salt or '')) == 32
    assert (first.password or '') not in repr(first)


def test_keyring_makes_the_key_of_the_reference() -> None:
    ring = model.Keyring(bytes(range(256)).hex() * 2, bytes(range(32)).hex())
    key = ring.content_key()
    assert key.key.hex() == '51a15f3b7f31bd2df865e9de9409d226c0aa01e3742afa256bb9d34ef7999482'
    assert key.counter.hex() == 'e6babb9619d7a81272711fc546a16b21'


def test_exported_key_is_imported_with_its_passphrase(tmp_path: Path) -> None:
    ring = model.Keyring()
    ring.generate()
    path = ring.export_keyring(ring.password or '', ring.salt or '', 'päss', tmp_path / 'k' / 'key')
    assert path == tmp_path / 'k' / 'key'
    assert path.stat().st_mode & 0o777 == 0o600
    assert (ring.password or '') not in path.read_text(encoding='ascii')
    other = model.Keyring()
    other.import_keyring(path, 'päss')
    assert other == ring
    with pytest.raises(DecryptionError):
        other.import_keyring(path, 'wrong')
    assert other == ring


def test_exported_key_is_a_key_file_of_our_own(tmp_path: Path) -> None:
    path = model.Keyring().export_keyring('aa', 'bb', 'p', tmp_path / 'key')
    assert json.loads(path.read_text())['format'] == 'storj-key-file'
    Keyring('p').save(path)
    with pytest.raises(ConfigurationError, match='key of a single file'):
        model.Keyring().import_keyring(path, 'p')


def test_key_goes_to_the_current_folder_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = model.Keyring().export_keyring('aa', 'bb', '')
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_key_of_the_core_client_is_imported(tmp_path: Path) -> None:
    path = tmp_path / '0123456789ab0123456789ab'
    path.write_text(seal_text('password', '{"pass":"00000000","salt":"11111111"}'))
    assert path.read_text() == (
        'd027c7e76230cec418a8cf510143c94d09119b54ebb13d31ebf062f22b5694df8d58fe509f'
    )
    ring = model.Keyring()
    ring.import_keyring(path, 'password')
    assert (ring.password, ring.salt) == ('00000000', '11111111')
    assert ring.content_key() == KeyEntry('00000000', '11111111').content_key()


@pytest.mark.parametrize(('password', 'salt'), [('', 'aa'), ('aa', ''), ('xx', 'aa'), ('a', 'aa')])
def test_key_that_is_no_hex_is_refused(tmp_path: Path, password: str, salt: str) -> None:
    with pytest.raises(ValueError, match='hex digits') as caught:
        model.Keyring().export_keyring(password, salt, 'p', tmp_path / 'key')
    assert caught.value.__cause__ is None
    with pytest.raises(ValueError, match='hex digits'):
        model.Keyring(password, salt).content_key()
    assert list(tmp_path.iterdir()) == []


def test_empty_keyring_has_no_key() -> None:
    with pytest.raises(ValueError, match='hex digits'):
        model.Keyring().content_key()


def test_missing_keyring_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match='nothing'):
        model.Keyring().import_keyring(tmp_path / 'nothing')


def test_keyring_evaluates_nothing(tmp_path: Path) -> None:
    path = tmp_path / 'key'
    path.write_text(seal_text('p', "__import__('os').abort()"))
    with pytest.raises(DecryptionError):
        model.Keyring().import_keyring(path, 'p')
