"""Pages of listings, compared with a simple and slow way to make them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('awscrt', reason='awscrt is not installed')

from storj.catalog import BucketEntry, FileEntry
from storj.s3.listing import Keys

BUCKET = BucketEntry('0' * 24, 'b', 'b')


def entry(name):
    return FileEntry('1' * 24, BUCKET, name, name)


def simple(keys, prefix, delimiter, after, most):
    """Return keys and common prefixes of a page in one list, and whether there are more."""
    found = []
    for key in sorted(keys):
        if not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        name = key if cut < 0 else key[: cut + len(delimiter)]
        if name > after and name not in found:
            found.append(name)
    return found[:most], len(found) > most > 0


NAMES = st.text('ab/é', min_size=1, max_size=6)


@given(
    st.sets(NAMES),
    st.text('ab/', max_size=3),
    st.sampled_from(['', '/', 'b', 'ab']),
    st.text('ab/', max_size=4),
    st.integers(1, 5),
)
def test_page_is_that_of_the_simple_way(keys, prefix, delimiter, after, most):
    page = Keys(map(entry, keys)).page(prefix, delimiter, after, most)
    told = sorted([found.name for found in page.entries] + page.prefixes)
    expected, more = simple(keys, prefix, delimiter, after, most)
    assert told == expected
    assert (page.more is not None) == more


@given(st.sets(NAMES), st.sampled_from(['', '/']), st.integers(1, 3))
def test_pages_behind_each_other_tell_everything_once(keys, delimiter, most):
    listed, told, after = Keys(map(entry, keys)), [], ''
    while True:
        page = listed.page('', delimiter, after, most)
        told += [found.name for found in page.entries] + page.prefixes
        if page.more is None:
            break
        after = page.more
    assert sorted(told) == simple(keys, '', delimiter, '', 1000)[0]


def test_file_whose_name_is_no_key_counts_and_is_on_no_page():
    keys = Keys(map(entry, ['a', 'b\udcff', 'c\ud800', 'd']))
    assert [found.name for found in keys.page('', '', '', 1000).entries] == ['a', 'd']
    assert keys.page('', '/', 'a', 1000).more is None
    assert len(keys) == 4


def test_last_character_of_unicode_ends_no_common_prefix():
    listed = Keys(map(entry, ['a/\U0010ffffb', 'a/c', 'b']))
    page = listed.page('', '/', '', 1)
    assert (page.prefixes, page.more) == (['a/'], 'a/')
    page = listed.page('', '/', 'a/', 1)
    assert ([found.name for found in page.entries], page.prefixes) == (['b'], [])


@given(st.sets(NAMES), st.lists(st.tuples(NAMES, st.booleans())))
def test_changes_are_as_a_new_listing(keys, changes):
    listed, wanted = Keys(map(entry, keys)), set(keys)
    for name, put in changes:
        if put:
            listed.put(entry(name))
            wanted.add(name)
        else:
            listed.remove(name)
            wanted.discard(name)
    assert [found.name for found in listed.page('', '', '', 1000).entries] == sorted(wanted)
    assert len(listed) == len(wanted)
