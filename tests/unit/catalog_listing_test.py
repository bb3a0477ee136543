"""Sums, trees and searches of listings, without a network."""

from __future__ import annotations

import datetime
import threading

import pytest

from storj.catalog.entries import BucketEntry, Catalog, FileEntry
from storj.catalog.errors import BucketNotFound, FileNotFound
from storj.catalog.filters import Filters, Rule
from storj.catalog.listing import (
    LEVELS,
    Criteria,
    Usage,
    branches,
    find_files,
    find_folders,
    selections,
    usage,
)
from storj.catalog.places import Remote, parse_remote
from storj.exception import NotFoundError

BUCKET = BucketEntry('b' * 24, 'b', 'b')


class Names:
    """A catalog of one bucket, which lists its files in a given order."""

    def __init__(self, *names, size=10):
        self.entries = [
            FileEntry(f'{number:024x}', BUCKET, name, name, size, created=_day(number))
            for number, name in enumerate(names)
        ]

    def buckets(self):
        return [BUCKET]

    def bucket(self, text):
        if text != BUCKET.name:
            raise BucketNotFound(text)
        return BUCKET

    def find_file(self, bucket, text):
        return next((entry for entry in self.entries if entry.name == text), None)

    def scan(self, bucket, *, brief):
        yield from self.entries


def _day(number):
    return datetime.datetime(2017, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(number)


def select(catalog, path=''):
    [found] = selections(catalog, [Remote('b', path)])
    return found


def chosen(catalog, path, *rules):
    return [entry.name for entry in select(catalog, path).files(Filters(rules))]


# ---- what a place means


def test_place_means_a_file_a_prefix_or_a_pattern():
    catalog = Names('a', 'a/x', 'ab', 'c/d/e.txt', 'c/f.txt')
    assert chosen(catalog, '') == ['a', 'a/x', 'ab', 'c/d/e.txt', 'c/f.txt']
    assert chosen(catalog, 'a') == ['a', 'a/x']
    assert chosen(catalog, 'a/') == ['a/x']
    assert chosen(catalog, 'c/*.txt') == ['c/d/e.txt', 'c/f.txt']
    assert chosen(catalog, catalog.entries[2].id) == ['ab']


def test_name_that_looks_like_a_pattern_is_itself():
    assert chosen(Names('n[1].txt', 'n1.txt'), 'n[1].txt') == ['n[1].txt']


def test_empty_name_is_an_error_and_an_empty_folder_is_not():
    assert chosen(Names(), '') == chosen(Names('a'), 'b/') == []
    for path in ('b', '*.jpg'):
        with pytest.raises(FileNotFound, match='no such file'):
            chosen(Names('a'), path)


def test_filters_match_names_relative_to_the_place():
    catalog = Names('c/d/e.txt', 'c/f.txt', 'd/g.txt')
    assert chosen(catalog, 'c', Rule('d/', False)) == ['c/f.txt']
    assert chosen(catalog, 'c/f.txt', Rule('f.txt', True)) == ['c/f.txt']
    # What the filters leave out is there nevertheless.
    assert chosen(catalog, 'd/g.txt', Rule('*.jpg', True)) == []


def test_no_place_means_every_bucket():
    assert [str(found) for found in selections(Names('a'), [])] == ['storj://b/']


# ---- du


def sums(catalog, path='', depth=None):
    return [
        (found.uri, found.size, found.files) for found in usage(select(catalog, path), depth=depth)
    ]


def test_folders_are_summed_up_each_after_its_content():
    catalog = Names('x', 'c/f', 'a-b/y', 'c/d/e', 'a/z')
    assert sums(catalog) == [
        ('storj://b/a/', 10, 1),
        ('storj://b/a-b/', 10, 1),
        ('storj://b/c/d/', 10, 1),
        ('storj://b/c/', 20, 2),
        ('storj://b/', 50, 5),
    ]
    assert sums(catalog, 'c') == [('storj://b/c/d/', 10, 1), ('storj://b/c', 20, 2)]
    assert sums(catalog, depth=1)[2:] == [('storj://b/c/', 20, 2), ('storj://b/', 50, 5)]
    assert sums(catalog, depth=0) == [('storj://b/', 50, 5)]


def test_single_files_and_unknown_sizes_are_summed_up():
    assert sums(Names('c/f'), 'c/f') == [('storj://b/c/f', 10, 1)]
    assert sums(Names('f', size=None)) == [('storj://b/', 0, 1)]
    assert sums(Names()) == [('storj://b/', 0, 0)]


def test_name_of_many_slashes_makes_a_bounded_number_of_folders():
    assert len(usage(select(Names('/' * 100_000)))) == LEVELS + 1


def test_usage_has_the_fields_of_json():
    assert Usage('storj://b/', 3, 1).to_dict() == {'uri': 'storj://b/', 'size': 3, 'files': 1}


# ---- tree


def drawn(catalog, path='', **options):
    return [
        ''.join('|' if is_open else ' ' for is_open in branch.open)
        + ('L' if branch.is_last else 'T')
        + branch.name
        for branch in branches(select(catalog, path), **options)
    ]


def test_tree_joins_lines_that_are_in_one_folder():
    catalog = Names('x', 'c/f', 'a-b/y', 'c/d/e', 'a/z', 'a')
    assert drawn(catalog) == [
        'Ta',
        'Ta/',
        '|Lz',
        'Ta-b/',
        '|Ly',
        'Tc/',
        '|Td/',
        '||Le',
        '|Lf',
        'Lx',
    ]
    assert drawn(catalog, 'c') == ['Td/', '|Le', 'Lf']
    assert drawn(catalog, 'c/f') == ['Lf']


def test_tree_ends_at_a_level_and_may_leave_files_out():
    catalog = Names('x', 'c/f', 'c/d/e')
    assert drawn(catalog, levels=1) == ['Tc/', 'Lx']
    assert drawn(catalog, folders_only=True) == ['Lc/', ' Ld/']
    [folder, _] = branches(select(catalog), levels=1)
    assert (folder.content.size, folder.content.files) == (20, 2)


def test_tree_of_control_characters_is_in_order_of_parts():
    catalog = Names('a/x', 'a\0', 'a\0\1', 'a\1', 'a-b', 'a/y')
    names = [branch.place for branch in branches(select(catalog))]
    assert names == ['a/', 'a/x', 'a/y', 'a\0', 'a\0\1', 'a\1', 'a-b']


def test_tree_of_a_name_of_many_slashes_is_bounded():
    assert len(branches(select(Names('/' * 100_000)))) == LEVELS


# ---- find


def found(catalog, path='', **criteria):
    return [entry.name for entry in find_files(select(catalog, path), Criteria(**criteria))]


def test_search_is_for_names_sizes_and_times_together():
    catalog = Names('b.txt', 'c/a.jpg', 'c/B.txt', 'd')
    assert found(catalog) == ['b.txt', 'c/B.txt', 'c/a.jpg', 'd']
    assert found(catalog, names=['*.txt', 'd']) == ['b.txt', 'c/B.txt', 'd']
    assert found(catalog, names=['b*']) == ['b.txt']
    assert found(catalog, min_size=10, max_size=10, created_before=_day(1)) == ['b.txt', 'c/a.jpg']
    assert found(catalog, created_after=_day(2)) == ['c/B.txt', 'd']
    assert found(catalog, min_size=11) == found(catalog, max_size=9) == []
    assert found(catalog, 'c', filters=Filters([Rule('a*', False)])) == ['c/B.txt']


def test_unknown_size_or_time_meets_no_criterion():
    catalog = Names('a', size=None)
    assert found(catalog) == ['a']
    assert found(catalog, max_size=10**9) == []
    catalog.entries = [FileEntry('0' * 24, BUCKET, 'a', 'a', 1)]
    assert found(catalog, min_size=1) == ['a']
    assert found(catalog, created_before=_day(0)) == []


def test_folders_are_found_once_each():
    catalog = Names('x', 'c/d/e', 'c/f', 'd/g')
    assert find_folders(select(catalog), Criteria()) == ['c/', 'c/d/', 'd/']
    assert find_folders(select(catalog), Criteria(['d'])) == ['c/d/', 'd/']
    assert find_folders(select(catalog, 'c'), Criteria()) == ['c/d/']


def test_bucket_whose_name_has_a_slash_is_shown_by_its_id():
    bucket = BucketEntry('b' * 24, 'a/b', 'a/b')
    entry = FileEntry('0' * 24, bucket, 'c', 'c')
    # Read as a place, 'storj://a/b/c' is a file of bucket 'a'.
    assert str(entry) == str(parse_remote(str(entry))) == f'storj://{bucket.id}/c'
    assert str(BUCKET.place('c')) == 'storj://b/c'


def test_page_is_fetched_while_the_one_before_is_read():
    asked = threading.Event()

    class Client:
        mnemonic = None

        def bucket_file_pages(self, bucket_id, *, brief):
            for number in range(4):
                if number == 3:
                    asked.set()
                yield [{'id': f'{number:024x}', 'filename': name} for name in (f'{number}b', 'a')]

    listed = Catalog(Client()).scan(BUCKET)
    # Each page is in the order of names: digits come before letters.
    assert [next(listed).name for _ in range(5)] == ['0b', 'a', '1b', 'a', '2b']
    assert asked.wait(30)
    assert [entry.name for entry in listed] == ['a', '3b', 'a']


def test_error_of_a_later_page_is_that_of_the_listing():
    class Client:
        mnemonic = None

        def bucket_file_pages(self, bucket_id, *, brief):
            for number in range(3):
                yield [{'id': f'{number:024x}', 'filename': 'a'}]
            raise NotFoundError('Bucket not found', 404)

    with pytest.raises(BucketNotFound):
        list(Catalog(Client()).scan(BUCKET))


def test_listing_hands_on_the_first_names_when_it_is_complete(monkeypatch):
    monkeypatch.setattr('storj.catalog.entries.SEEN', 3)
    seen = []

    class Client:
        mnemonic = None

        def bucket_file_pages(self, bucket_id, *, brief):
            yield [{'id': 'f' * 24, 'filename': name} for name in 'ebd']
            yield [{'id': '0' * 24, 'filename': name} for name in 'ca']

    listed = Catalog(Client(), seen=lambda *names: seen.append(names)).scan(BUCKET)
    assert [next(listed).name for _ in range(5)] == ['b', 'd', 'e', 'a', 'c']
    assert seen == []
    assert list(listed) == []
    assert seen == [('b', ['a', 'b', 'c'])]


def test_brief_listing_keeps_nothing_of_a_transfer():
    record = {'id': 'f' * 24, 'filename': 'a', 'size': 1, 'mimetype': 'image/jpeg'}
    record |= {'frame': '1' * 24, 'index': '2' * 64, 'hmac': {'type': 'sha512', 'value': '3'}}

    class Client:
        mnemonic = None

        def bucket_file_pages(self, bucket_id, *, brief):
            yield [record]

    [brief], [whole] = (Catalog(Client()).files(BUCKET, brief=brief) for brief in (True, False))
    assert (brief.frame, brief.index, brief.hmac) == (None, None, None)
    assert (whole.frame, whole.index, whole.hmac) == ('1' * 24, '2' * 64, record['hmac'])
    assert brief.to_dict() == whole.to_dict()
