"""fsspec's own suite for file systems."""

from __future__ import annotations

import os
import types
import uuid

import pytest

abstract = pytest.importorskip('fsspec.tests.abstract', reason='fsspec is not installed')
common = pytest.importorskip('fsspec.tests.abstract.common')


@pytest.fixture(scope='module')
def tree(new_fs):
    """Files that tests find by patterns and do not change, stored once."""
    path = f'b/{uuid.uuid4().hex}'
    return abstract.AbstractFixtures()._glob_edge_cases_files(new_fs(), os.path.join, path)


class StorjFixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, storj_fs):
        return storj_fs

    @pytest.fixture
    def fs_path(self):
        return f'b/{uuid.uuid4().hex}'

    @pytest.fixture
    def fs_glob_edge_cases_files(self, tree):
        return tree

    @pytest.fixture
    def supports_empty_directories(self):
        return False


def with_some_patterns(test):
    """Return a test of all patterns with those that find a file, a folder, and both.

    All of them are found by the tests of get; copy and put find files by the same functions, and
    differ in how they store what was found.
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
    pass


class TestPut(abstract.AbstractPutTests, StorjFixtures):
    test_put_glob_edge_cases = with_some_patterns(
        abstract.AbstractPutTests.test_put_glob_edge_cases
    )


class TestOpen(abstract.AbstractOpenTests, StorjFixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, StorjFixtures):
    pass
