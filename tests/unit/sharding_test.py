"""Plans of files, beyond the vectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj import sharding

MIB = 1024 * 1024


@given(st.integers(0, 600 * 1024**3), st.booleans(), st.sampled_from(sorted(sharding._RULES)))
def test_spans_cover_the_file_once(size, parity, rule):
    plan = sharding.plan(size, parity=parity, rule=rule)
    spans = list(plan)
    data = [span for span in spans if not span.parity]
    assert [span.index for span in spans] == list(range(plan.shards))
    assert sum(span.size for span in data) == size
    assert all(span.size > 0 for span in spans)
    assert [span.offset for span in data] == [i * plan.shard_size for i in range(len(data))]
    assert all(span.size == plan.shard_size for span in spans if span.parity)
    assert all(span.offset % 16 == 0 for span in spans)


@given(st.integers(1, 10**6), st.integers(960, 10**5))
def test_chosen_size_is_kept(size, blocks):
    plan = sharding.plan(size, parity=False, shard_size=16 * blocks)
    assert plan.shard_size == min(size, 16 * blocks)
    assert sum(span.size for span in plan) == size


def test_empty_file_has_no_shards():
    for chosen in (None, 16, 4 * MIB):
        plan = sharding.plan(0, shard_size=chosen)
        assert (plan.shards, list(plan)) == (0, [])


def test_single_shard_has_parity_of_its_own_length():
    plan = sharding.plan(3 * MIB, shard_size=64 * MIB)
    assert [(span.size, span.parity) for span in plan] == [(3 * MIB, False), (3 * MIB, True)]


def test_small_shard_is_fine_if_it_is_alone():
    assert sharding.plan(100, shard_size=100).shards == 1
    assert sharding.plan(101, shard_size=15360).shards == 1


@pytest.mark.parametrize('shard_size', [0, -16, 1024**4 + 16])
def test_shard_size_out_of_bounds_is_refused(shard_size):
    with pytest.raises(ValueError, match='a shard has 1 to'):
        sharding.plan(100, shard_size=shard_size)


@pytest.mark.parametrize('shard_size', [16, 15344, 15361, 2 * MIB + 8])
def test_shard_size_that_cannot_cut_is_refused(shard_size):
    with pytest.raises(ValueError, match='multiple of 16'):
        sharding.plan(10 * MIB, shard_size=shard_size)


def test_negative_size_is_refused():
    with pytest.raises(ValueError, match='not negative'):
        sharding.plan(-1)


@pytest.mark.parametrize(
    ('size', 'shard_size', 'shards'),
    [
        # 153 shards of data and 102 of parity are the most that libstorj codes.
        (153 * 4096 * MIB, 4096 * MIB, 255),
        (153 * 4096 * MIB + 1, 8192 * MIB, 77 + 52),
        (1024 * 1024 * MIB, 8192 * MIB, 128 + 86),
        (153 * 1024 * 1024 * MIB, 1024 * 1024 * MIB, 255),
    ],
)
def test_file_that_parity_cannot_cover_gets_larger_shards(size, shard_size, shards):
    found = sharding.plan(size)
    assert (found.shard_size, found.shards) == (shard_size, shards)


def test_larger_shards_need_a_bridge_and_a_file_that_take_them():
    for options in {'largest': sharding.MAX_SHARD_SIZE}, {'shard_size': 4096 * MIB}:
        with pytest.raises(ValueError, match='at most 255 in all'):
            sharding.plan(1024 * 1024 * MIB, **options)
    assert sharding.plan(1024 * 1024 * MIB, parity=False).shard_size == 4096 * MIB
    with pytest.raises(ValueError, match='at most 255 in all'):
        sharding.plan(154 * 1024 * 1024 * MIB)


def test_parity_ends_at_255_shards():
    assert sharding.plan(153 * MIB, shard_size=MIB).shards == 255
    with pytest.raises(ValueError, match='at most 255 in all'):
        sharding.plan(154 * MIB, shard_size=MIB)
    assert sharding.plan(154 * MIB, shard_size=MIB, parity=False).shards == 154


@pytest.mark.parametrize('index', [-1, 3])
def test_span_of_no_shard_is_refused(index):
    with pytest.raises(IndexError):
        sharding.plan(3 * MIB, parity=False, shard_size=MIB).span(index)


def test_ids_take_any_text():
    assert len(sharding.bucket_id('a@b', '\ud800')) == 24
    assert sharding.file_id('a' * 24, 'tést ☃') != sharding.file_id('a' * 24, 'test')
