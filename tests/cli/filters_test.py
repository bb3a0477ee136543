"""--include and --exclude: the last that matches decides."""

from __future__ import annotations

import pytest

from storj.catalog.filters import Filters, Rule, match_glob


def filters(*words):
    return Filters([Rule(word[1:], word[0] == '+') for word in words])


@pytest.mark.parametrize(
    ('words', 'taken', 'left'),
    [
        ([], ['a.txt'], []),
        (['+*.txt'], ['a.txt', 'x/a.txt'], ['a.jpg']),
        (['-*.txt'], ['a.jpg'], ['a.txt', 'x/a.txt']),
        (['-*', '+*.txt'], ['a.txt'], ['a.jpg']),
        (['+*.txt', '-secret*'], ['a.txt'], ['secret.txt', 'x/secret.txt']),
        (['-x/*', '+x/keep/*'], ['y', 'x/keep/a'], ['x/a']),
    ],
)
def test_last_match_wins(words, taken, left):
    chosen = filters(*words)
    assert all(chosen.accept(name) for name in taken)
    assert not any(chosen.accept(name) for name in left)


def test_pattern_without_slash_matches_the_last_part():
    assert match_glob('a/b/README', 'README')
    assert not match_glob('a/README/b', 'README')


def test_case_counts():
    assert not match_glob('A.TXT', '*.txt')


@pytest.mark.parametrize('pattern', ['node_modules', 'node_modules/', 'node_modules/*', 'node_*'])
def test_pattern_of_a_folder_means_all_that_it_holds(pattern):
    filters = Filters([Rule(pattern, False)])
    for name in ('node_modules/a', 'node_modules/deep/b'):
        assert not filters.accept(name)
    assert filters.excludes_folder('node_modules')
    assert filters.accept('src/a')
    assert not filters.excludes_folder('src')
    only = Filters([Rule(pattern, True)])
    assert only.accept('node_modules/deep/b')
    assert not only.accept('src/a')


def test_slash_at_the_end_means_folders_only():
    filters = Filters([Rule('build/', False)])
    assert filters.accept('build')
    assert not filters.accept('build/a')
    assert not filters.accept('src/build/a')
    assert filters.accept('src/build')


def test_pattern_with_a_slash_begins_at_the_top():
    filters = Filters([Rule('src/build', False)])
    assert not filters.accept('src/build/a')
    assert filters.accept('other/src/build/a')
