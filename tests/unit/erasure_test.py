"""Erasure coding, beyond the vectors."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj import erasure, exception

backends = pytest.mark.parametrize('backend', erasure.available_backends())


@st.composite
def losses(draw):
    data = draw(st.integers(1, 20))
    parity = draw(st.integers(0, 14))
    lost = draw(st.sets(st.integers(0, data + parity - 1), max_size=parity))
    return data, parity, sorted(lost), draw(st.integers(1, 300)), draw(st.randoms())


@given(losses())
def test_any_loss_that_parity_covers_is_repaired_alike(loss):
    data, parity, lost, length, random = loss
    made = {}
    for backend in erasure.available_backends():
        coder = erasure.ReedSolomon(data, parity, backend=backend)
        random.seed(1)
        shards = [bytearray(random.randbytes(length)) for _ in range(data)]
        shards += [bytearray(length) for _ in range(parity)]
        coder.encode(shards[:data], shards[data:])
        have = {i: memoryview(bytes(shards[i])) for i in range(data + parity) if i not in lost}
        want = {i: bytearray(length) for i in lost}
        coder.repair(have, want)
        assert want == {i: shards[i] for i in lost}
        made[backend] = shards
    first, *others = made.values()
    assert all(other == first for other in others)


@pytest.mark.parametrize(('data', 'parity'), [(4, 3), (8, 6), (10, 7), (16, 11), (7, 5)])
@backends
def test_long_stripe_is_coded_as_its_pieces_are(backend, data, parity):
    coder = erasure.ReedSolomon(data, parity, backend=backend)
    pieces = [200_000, 77, 65_536]
    shards = [os.urandom(sum(pieces)) for _ in range(data)]
    whole = [bytearray(sum(pieces)) for _ in range(parity)]
    coder.encode(shards, whole)
    start = 0
    for length in pieces:
        part = [bytearray(length) for _ in range(parity)]
        coder.encode([shard[start : start + length] for shard in shards], part)
        assert part == [shard[start : start + length] for shard in whole]
        start += length


@backends
def test_many_shards_of_whole_stripes(backend):
    coder = erasure.ReedSolomon(153, 102, backend=backend)
    data = [os.urandom(1000) for _ in range(153)]
    parity = [bytearray(1000) for _ in range(102)]
    coder.encode(data, parity)
    want = {i: bytearray(1000) for i in range(102)}
    have = dict(enumerate(data)) | {153 + i: parity[i] for i in range(102)}
    coder.repair({i: piece for i, piece in have.items() if i not in want}, want)
    assert [bytes(want[i]) for i in range(102)] == data[:102]


@backends
@pytest.mark.parametrize('wrap', [bytes, bytearray, memoryview, lambda b: memoryview(bytearray(b))])
def test_any_buffer_is_read(backend, wrap):
    coder = erasure.ReedSolomon(2, 1, backend=backend)
    whole = bytearray(6)
    coder.encode([wrap(b'ab'), wrap(b'cd')], [memoryview(whole)[2:4]])
    plain = bytearray(2)
    coder.encode([b'ab', b'cd'], [plain])
    assert whole == b'\0\0' + plain + b'\0\0'


@backends
def test_nothing_to_code_is_fine(backend):
    coder = erasure.ReedSolomon(2, 1, backend=backend)
    coder.encode([b'', b''], [bytearray()])
    coder.repair({0: b'a', 1: b'b'}, {})
    erasure.ReedSolomon(1, 0, backend=backend).encode([b'a'], [])


@pytest.mark.parametrize(('data', 'parity'), [(0, 1), (1, -1), (200, 56), (-1, 0), (256, 0)])
def test_numbers_out_of_bounds_are_refused(data, parity):
    with pytest.raises(ValueError, match='cannot be coded'):
        erasure.ReedSolomon(data, parity)


@backends
def test_wrong_pieces_are_refused(backend):
    coder = erasure.ReedSolomon(2, 1, backend=backend)
    with pytest.raises(ValueError, match='equal lengths'):
        coder.encode([b'ab', b'c'], [bytearray(2)])
    with pytest.raises(ValueError, match='equal lengths'):
        coder.encode([b'ab', b'cd'], [bytearray(3)])
    with pytest.raises(ValueError, match='2 data pieces and 1 parity piece'):
        coder.encode([b'ab'], [bytearray(2)])
    with pytest.raises(ValueError, match='2 data pieces and 1 parity piece'):
        coder.encode([b'ab', b'cd'], [])
    with pytest.raises(ValueError, match='read-only'):
        coder.encode([b'ab', b'cd'], [memoryview(b'xx')])
    with pytest.raises(ValueError, match='no shard 3'):
        coder.repair({0: b'ab', 3: b'cd'}, {1: bytearray(2)})
    with pytest.raises(ValueError, match='needs no repair'):
        coder.repair({0: b'ab', 1: b'cd'}, {1: bytearray(2)})
    with pytest.raises(exception.NotEnoughShardsError, match='needs 2 shards and has 1'):
        coder.repair({0: b'ab'}, {1: bytearray(2)})


def test_backend_is_chosen():
    assert erasure.ReedSolomon(1, 1).backend == erasure.available_backends()[0]
    assert erasure.ReedSolomon(1, 1, backend='python').backend == 'python'
    with pytest.raises(ValueError, match='unknown backend'):
        erasure.ReedSolomon(1, 1, backend='zfec')


def test_missing_library_falls_back(monkeypatch):
    monkeypatch.setattr(erasure, '_LIBRARIES', ('libno-such-library.so',))
    erasure._isa_l.cache_clear()
    try:
        assert erasure.available_backends() == ('python',)
        assert erasure.ReedSolomon(1, 1).backend == 'python'
        with pytest.raises(exception.ConfigurationError, match='libisal2'):
            erasure.ReedSolomon(1, 1, backend='isa-l')
    finally:
        erasure._isa_l.cache_clear()


@pytest.mark.parametrize(
    ('shards', 'shard_size', 'most', 'expected'),
    [
        (5, 1 << 30, 256 * 1024, 256 * 1024),
        (5, 16384, 256 * 1024, 16384),
        (5, 100, 256 * 1024, 100),
        (255, 1 << 30, 256 * 1024, 32 * 1024),
        (10, 1 << 30, 4096, 4096),
    ],
)
def test_stripes_of_a_file_fit_in_memory(
    shards: int, shard_size: int, most: int, expected: int
) -> None:
    assert erasure.stripe_size(shards, shard_size, most) == expected


@pytest.mark.parametrize(('left', 'there'), [(9, 4), (4, 4), (3, 3), (0, 0), (-5, 0)])
def test_stripe_is_zero_behind_the_end_of_its_shard(left: int, there: int) -> None:
    buffer = bytearray(b'old!')
    piece = erasure.begin_stripe(memoryview(buffer), left)
    piece[:] = b'x' * len(piece)
    assert buffer == b'x' * there + bytes(4 - there)
