"""Programs that open files by fsspec."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid

import pytest

fsspec = pytest.importorskip('fsspec', reason='fsspec is not installed')


@pytest.fixture
def url():
    return f'storj://b/{uuid.uuid4().hex}'


@pytest.fixture
def table():
    pandas = pytest.importorskip('pandas', reason='pandas is not installed')
    pytest.importorskip('pyarrow', reason='pyarrow is not installed')
    return pandas.DataFrame(
        {'number': range(5000), 'text': [f'row {number}' for number in range(5000)]}
    )


def test_pandas_reads_columns_of_parquet(table, url, options):
    import pandas

    table.to_parquet(f'{url}/t.parquet', storage_options=options)
    found = pandas.read_parquet(f'{url}/t.parquet', columns=['number'], storage_options=options)
    pandas.testing.assert_frame_equal(found, table[['number']])


def test_pandas_reads_compressed_csv(table, url, options):
    import pandas

    table.to_csv(f'{url}/t.csv.gz', index=False, storage_options=options)
    found = pandas.read_csv(f'{url}/t.csv.gz', storage_options=options)
    pandas.testing.assert_frame_equal(found, table)


def test_pyarrow_dataset_is_written_and_filtered(table, url, storj_fs):
    import pyarrow
    from pyarrow import dataset

    dataset.write_dataset(
        pyarrow.Table.from_pandas(table.assign(part=table.number % 3)),
        url.removeprefix('storj://'),
        format='parquet',
        partitioning=['part'],
        partitioning_flavor='hive',
        filesystem=storj_fs,
    )
    found = dataset.dataset(
        url.removeprefix('storj://'), format='parquet', partitioning='hive', filesystem=storj_fs
    )
    rows = found.to_table(columns=['number'], filter=dataset.field('part') == 1)
    assert sorted(rows['number'].to_pylist()) == [n for n in range(5000) if n % 3 == 1]


def test_zarr_array_is_written_and_sliced(url, options):
    zarr = pytest.importorskip('zarr', reason='zarr is not installed')
    numpy = pytest.importorskip('numpy')
    array = zarr.create_array(
        f'{url}/a.zarr', shape=(60, 60), chunks=(30, 30), dtype='i4', storage_options=options
    )
    data = numpy.arange(3600, dtype='i4').reshape(60, 60)
    array[:] = data
    found = zarr.open_array(f'{url}/a.zarr', mode='r', storage_options=options)
    assert numpy.array_equal(found[20:40, 50:], data[20:40, 50:])


def test_duckdb_queries_parquet(table, url, storj_fs, options):
    duckdb = pytest.importorskip('duckdb', reason='duckdb is not installed')
    table.to_parquet(f'{url}/t.parquet', storage_options=options)
    with duckdb.connect() as connection:
        connection.register_filesystem(storj_fs)
        found = connection.execute(
            f"select count(*), sum(number) from '{url}/*.parquet' where number < 100"
        ).fetchone()
    assert found == (100, 4950)


def test_upath_is_a_path(url, options):
    upath = pytest.importorskip('upath', reason='universal_pathlib is not installed')
    path = upath.UPath(url, **options) / 'folder' / 'x.txt'
    path.write_text('hello')
    assert path.read_text() == 'hello'
    assert [found.name for found in path.parent.iterdir()] == ['x.txt']
    path.unlink()
    assert not path.exists()


def test_dask_processes_read_what_they_wrote(url, options):
    bag = pytest.importorskip('dask.bag', reason='dask is not installed')
    lines = [f'line {number}' for number in range(20)]
    bag.from_sequence(lines, npartitions=2).to_textfiles(
        f'{url}/*.txt', storage_options=options, compute_kwargs={'scheduler': 'processes'}
    )
    found = bag.read_text(f'{url}/*.txt', storage_options=options)
    read = found.compute(scheduler='processes', num_workers=2)
    assert [line.strip() for line in read] == lines


MOUNT = """
import json, sys
import fsspec
from fsspec.fuse import run
fs = fsspec.filesystem('storj', **json.loads(sys.stdin.readline()))
run(fs, sys.argv[1], sys.argv[2], foreground=True)
"""


@pytest.mark.skipif(not os.access('/dev/fuse', os.W_OK), reason='FUSE is not here')
def test_mounted_folder_is_read_and_written(url, storj_fs, options, tmp_path):
    pytest.importorskip('fuse', reason='fusepy is not installed', exc_type=(ImportError, OSError))
    folder = url.removeprefix('storj://')
    storj_fs.pipe_file(f'{folder}/a/x', b'hello')
    mounted = subprocess.Popen(
        [sys.executable, '-c', MOUNT, f'{folder}/', str(tmp_path)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with mounted:
        mounted.stdin.write(json.dumps(options) + '\n')
        mounted.stdin.flush()
        waited = threading.Event()
        while not os.path.ismount(tmp_path):
            if mounted.poll() is not None:
                pytest.skip(f'nothing can be mounted here: {mounted.stderr.read()[-200:]}')
            waited.wait(0.05)
        try:
            assert (tmp_path / 'a' / 'x').read_bytes() == b'hello'
            (tmp_path / 'y').write_bytes(b'written')
        finally:
            subprocess.run(['umount', str(tmp_path)], check=True)
        assert mounted.wait(30) == 0
    storj_fs.invalidate_cache()
    assert storj_fs.cat_file(f'{folder}/y') == b'written'
