"""fsspec's own suite for file systems."""

from __future__ import annotations

import os
import types
import uuid
from pathlib import Path

import pytest

abstract = pytest.importorskip('fsspec.tests.abstract', reason='fsspec is not installed')
common = pytest.importorskip('fsspec.tests.abstract.common')


@pytest.fixture(scope='module')
def stored(new_fs):
    """Return a function that gives the folder of a scenario; tests do not change what is there."""
    fs = new_fs()
    folders = {}

    def store(scenario):
        if scenario not in folders:
            path = f'b/{uuid.uuid4().hex}'
            make = getattr(abstract.AbstractFixtures(), scenario)
            folder = make(fs, os.path.join, path)
            folders[scenario] = folder, fs.find(folder)
        return folders[scenario][0]

    yield store
    assert [fs.find(folder, refresh=True) for folder, _ in folders.values()] == [
        files for _, files in folders.values()
    ]


class StorjFixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, storj_fs):
        return storj_fs

    @pytest.fixture
    def fs_path(self):
        return f'b/{uuid.uuid4().hex}'

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, stored):
        return stored('_bulk_operations_scenario_0')

    @pytest.fixture
    def fs_glob_edge_cases_files(self, stored):
        return stored('_glob_edge_cases_files')

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self, stored):
        return stored('_dir_and_file_with_same_name_prefix')

    @pytest.fixture
    def fs_10_files_with_hashed_names(self, stored):
        return stored('_10_files_with_hashed_names')

    @pytest.fixture
    def supports_empty_directories(self):
        return False


def with_some_patterns(test):
    """Return a test of all patterns with those that find a file, a folder, and both.

    All of them are found by :class:`TestPatterns`; copy, get and put find files by the same
    functions, and differ in what they do with those.
    """
    cases = common.GLOB_EDGE_CASES_TESTS
    found = [case for case in cases['argvalues'] if case[0] in ('fil?1', 'subdir[1-2]', '*1')]
    assert len(found) == 8
    # Without the marks of the suite, which it would have beside these.
    bare = types.FunctionType(test.__code__, test.__globals__, test.__name__)
    return pytest.mark.parametrize(cases['argnames'], found)(bare)


class TestCopy(abstract.AbstractCopyTests, StorjFixtures):
    test_copy_glob_edge_cases = with_some_patterns(
        abstract.AbstractCopyTests.test_copy_glob_edge_cases
    )


class TestGet(abstract.AbstractGetTests, StorjFixtures):
    test_get_glob_edge_cases = with_some_patterns(
        abstract.AbstractGetTests.test_get_glob_edge_cases
    )


class TestPatterns(StorjFixtures):
    """All patterns find what they should; what is found is not fetched."""

    @pytest.fixture
    def fs(self, storj_fs, monkeypatch):
        async def note(path, target, **_):
            if await storj_fs._isdir(path):
                Path(target).mkdir(parents=True, exist_ok=True)
            else:
                Path(target).touch()

        monkeypatch.setattr(storj_fs, '_get_file', note)
        return storj_fs

    test_get_glob_edge_cases = abstract.AbstractGetTests.test_get_glob_edge_cases


class TestPut(abstract.AbstractPutTests, StorjFixtures):
    test_put_glob_edge_cases = with_some_patterns(
        abstract.AbstractPutTests.test_put_glob_edge_cases
    )


class TestOpen(abstract.AbstractOpenTests, StorjFixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, StorjFixtures):
    pass
