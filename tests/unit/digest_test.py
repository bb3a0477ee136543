"""Digests of shards and audits, beyond the vectors."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj import digest

generations = st.sampled_from(['A', 'B', 'C'])
hashes = st.binary(min_size=20, max_size=20).map(bytes.hex)
CHALLENGES = ['00' * 32, 'ab' * 32, 'cd' * 32]


@given(st.lists(st.binary(max_size=50)), generations)
def test_borders_of_pieces_do_not_matter(pieces, generation):
    made, whole = (digest.ShardDigest(CHALLENGES, generation) for _ in range(2))
    for piece in pieces:
        made.update(piece)
    whole.update(b''.join(pieces))
    assert made.size == whole.size
    assert made.hexdigest() == whole.hexdigest() == digest.shard_hash(b''.join(pieces), generation)
    assert made.responses() == whole.responses()


def test_long_input_equals_its_pieces():
    data = bytes(range(256)) * 4096
    for generation in ('A', 'B', 'C'):
        whole, made = (digest.ShardDigest(CHALLENGES[:1], generation) for _ in range(2))
        whole.update(data)
        for start in range(0, len(data), 1000):
            made.update(memoryview(data)[start : start + 1000])
        assert made.leaves() == whole.leaves()


@given(st.lists(hashes, min_size=1, max_size=9, unique=True), generations)
def test_every_leaf_is_proved_and_no_other(responses, generation):
    leaves = [digest.leaf(response, generation) for response in responses]
    rows = digest.merkle_rows(leaves, generation)
    root, depth = rows[0][0], len(rows)
    assert len(rows[-1]) == 2 ** (depth - 1)
    for response in responses:
        proof = digest.make_proof(leaves, response, generation)
        assert digest.verify_proof(proof, root, depth, generation)
        assert not digest.verify_proof(proof, root, depth + 1, generation)
        assert not digest.verify_proof(proof, leaves[0][::-1], depth, generation)
    with pytest.raises(ValueError, match='Failed to generate proof'):
        digest.make_proof(leaves, '0' * 40 if '0' * 40 not in responses else 'f' * 40, generation)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | hashes,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
)


@given(json_values, generations, st.integers(-1, 5))
def test_hostile_proof_is_false(proof, generation, depth):
    assert digest.verify_proof(proof, '0' * 40, depth, generation) is False


def test_endless_proof_is_read_no_deeper_than_the_tree():
    proof: list[object] = ['0' * 40]
    proof[:] = [proof, '0' * 40]
    assert digest.verify_proof(proof, '0' * 40, 3) is False


def test_ripemd160_works_without_openssl(monkeypatch):
    def refuse(name: str, *args: object, **options: object) -> object:
        raise ValueError(f'unsupported hash type {name}')

    expected = digest.shard_hash(b'testshard')
    digest._ripemd160.cache_clear()
    monkeypatch.setattr(hashlib, 'new', refuse)
    try:
        assert digest.shard_hash(b'testshard') == expected
    finally:
        digest._ripemd160.cache_clear()


def test_challenges_are_new_each_time():
    made = digest.new_challenges(12)
    assert len(set(made) | set(digest.new_challenges(12))) == 24
    assert {len(bytes.fromhex(challenge)) for challenge in made} == {32}


@pytest.mark.parametrize('challenge', ['', '00', 'zz' * 32, '00' * 33, '00' * 31 + '0 '])
def test_malformed_challenge_is_refused(challenge):
    with pytest.raises(ValueError, match='64 hex digits'):
        digest.ShardDigest([challenge])


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match='generation'):
        digest.ShardDigest(generation='D')
    with pytest.raises(ValueError, match='at least one challenge'):
        digest.new_challenges(0)
    with pytest.raises(ValueError, match='at least one leaf'):
        digest.merkle_rows([])
    with pytest.raises(ValueError, match='40 hex digits'):
        digest.merkle_rows(['x'])
    with pytest.raises(ValueError, match='40 hex digits'):
        digest.leaf('x')


@pytest.mark.parametrize(
    ('value', 'lower', 'any_case'),
    [
        ('0af9', True, True),
        ('0AF9', False, True),
        ('0af', False, False),
        ('0af9a', False, False),
        ('0afg', False, False),
        ('0af\n', False, False),
        ('٠af9', False, False),
        (b'0af9', False, False),
        (None, False, False),
    ],
)
def test_hex_is_text_of_so_many_ascii_digits(value, lower, any_case):
    assert digest.is_hex(value, 4) is lower
    assert digest.is_hex(value, 4, any_case=True) is any_case
