"""Places as people type them, and remote names that want to be local paths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj.catalog.errors import UnsafeNameError, UsageProblem
from storj.catalog.places import (
    Link,
    Local,
    Remote,
    Stream,
    is_glob,
    is_id,
    parse_location,
    parse_remote,
    safe_relative_path,
)


@pytest.mark.parametrize(
    ('text', 'bucket', 'path'),
    [
        ('storj://photos', 'photos', ''),
        ('storj://photos/', 'photos', ''),
        ('storj://photos/a/b c.jpg', 'photos', 'a/b c.jpg'),
        ('storj://photos//a', 'photos', '/a'),
        ('storj://photos/100%25', 'photos', '100%25'),
        ('storj://Bücher/ä', 'Bücher', 'ä'),
    ],
)
def test_uri_is_taken_as_it_stands(text, bucket, path):
    assert parse_location(text) == Remote(bucket, path)


@pytest.mark.parametrize('text', ['storj://', 'storj:///a', 's3://bucket/a', 'http://host/', ''])
def test_place_of_another_kind_is_refused(text):
    with pytest.raises(UsageProblem):
        parse_location(text)


def test_dash_is_a_stream():
    assert parse_location('-') == Stream()


def test_link_is_never_shown_whole():
    link = parse_location('storj-share:c2VjcmV0')
    assert isinstance(link, Link)
    assert 'c2VjcmV0' not in str(link)


def test_local_folder_is_seen_by_itself_or_by_its_slash(tmp_path):
    assert parse_location(str(tmp_path)) == Local(tmp_path, True)
    assert parse_location(f'{tmp_path}/new/') == Local(tmp_path / 'new', True)
    assert parse_location(f'{tmp_path}/new') == Local(tmp_path / 'new', False)


def test_bare_bucket_is_accepted_where_nothing_local_can_be_meant():
    assert parse_remote('photos/a', bare=True) == Remote('photos', 'a')
    with pytest.raises(UsageProblem):
        parse_remote('photos/a')


def test_ids_and_patterns_are_recognised():
    assert is_id('0123456789abcdef01234567')
    assert not is_id('0123456789ABCDEF01234567')
    assert not is_id('0123')
    assert is_glob('a*')
    assert is_glob('[ab]')
    assert not is_glob('a')


@pytest.mark.parametrize(
    'name', ['..', '../a', 'a/../b', '/etc/passwd', 'a//b', './a', '', 'a/', '.', 'a\0b', 'a/.']
)
def test_name_that_would_escape_is_refused(name):
    with pytest.raises(UnsafeNameError):
        safe_relative_path(name)


@pytest.mark.parametrize(
    'name', ['a\\..\\b', 'C:a', 'nul', 'aux.txt', 'a.', 'a ', 'a:b', 'a\nb', 'COM1']
)
def test_name_that_windows_reads_otherwise_is_refused_there(name, monkeypatch):
    if os.name != 'nt':
        safe_relative_path(name)
    monkeypatch.setattr('storj.catalog.places.os.name', 'nt')
    with pytest.raises(UnsafeNameError):
        safe_relative_path(name)


@given(st.text(st.characters(codec='utf-8'), max_size=40))
def test_name_stays_below_its_folder_or_is_refused(name):
    base = Path('/srv/files')
    try:
        path = base / safe_relative_path(name)
    except UnsafeNameError:
        return
    normal = Path(os.path.normpath(path))
    assert normal != base
    assert base in normal.parents
