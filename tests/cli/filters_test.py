"""--include and --exclude: the last that matches decides."""

from __future__ import annotations

import pytest

from storj.cli.filters import Filters, Rule, match_glob


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
