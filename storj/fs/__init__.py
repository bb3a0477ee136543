"""Storj fs module: files of a network for fsspec, and so for pandas, pyarrow, dask and zarr.

With the extra ``fsspec``, fsspec knows the protocol ``storj``::

    with fsspec.open('storj://bucket/path/file.csv') as file: ...
    pandas.read_parquet('storj://bucket/table.parquet', columns=['x'])
    fs = fsspec.filesystem('storj', bridge='http://127.0.0.1:6382', email='...', password='...')

It sits on :mod:`storj.catalog` and :mod:`storj.transfer` and has no engine of its own. Folders are
what slashes in names make of them: they exist while a file is below them. Content and names are
encrypted on this machine as everywhere else.
"""

from __future__ import annotations

from storj.fs.file import StorjFile
from storj.fs.filesystem import StorjFileSystem

__all__ = ('StorjFile', 'StorjFileSystem')
