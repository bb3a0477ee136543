"""fsspec's own suite for file systems."""

from __future__ import annotations

import uuid

import pytest

abstract = pytest.importorskip('fsspec.tests.abstract', reason='fsspec is not installed')


class StorjFixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, storj_fs):
        return storj_fs

    @pytest.fixture
    def fs_path(self):
        return f'b/{uuid.uuid4().hex}'

    @pytest.fixture
    def supports_empty_directories(self):
        return False


class TestCopy(abstract.AbstractCopyTests, StorjFixtures):
    pass


class TestGet(abstract.AbstractGetTests, StorjFixtures):
    pass


class TestPut(abstract.AbstractPutTests, StorjFixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, StorjFixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, StorjFixtures):
    pass
