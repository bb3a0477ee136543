"""The file system itself: paths, listings, files, errors, over real sockets."""

from __future__ import annotations

import errno
import pickle
import uuid

import pytest

fsspec = pytest.importorskip('fsspec', reason='fsspec is not installed')

from storj.catalog import Catalog  # noqa: E402
from storj.fs import StorjFileSystem  # noqa: E402
from storj.sharding import MIN_SHARD_SIZE  # noqa: E402


@pytest.fixture
def folder():
    return f'b/{uuid.uuid4().hex}'


@pytest.fixture
def other(options):
    """Another client of the same account, with listings of its own."""
    return StorjFileSystem(**options, skip_instance_cache=True)


def fail_while_writing(fs, path):
    with fs.open(path, 'wb') as file:
        file.write(b'half')
        raise RuntimeError


@pytest.mark.parametrize(
    ('url', 'path', 'login'),
    [
        ('storj://bucket/a/b', 'bucket/a/b', {}),
        ('bucket/a/b/', 'bucket/a/b', {}),
        ('storj://', '', {}),
        ('storj://bucket/a@b:c', 'bucket/a@b:c', {}),
        ('storj://me@bucket/a', 'me@bucket/a', {}),
        (
            'storj://me%40x.org:p%3Aw@bucket/a',
            'bucket/a',
            {'email': 'me@x.org', 'password': 'p:w'},
        ),
    ],
)
def test_url_is_split_into_login_and_path(url, path, login):
    assert StorjFileSystem._strip_protocol(url) == path
    assert StorjFileSystem._get_kwargs_from_urls(url) == login


def test_unknown_option_is_refused():
    with pytest.raises(TypeError, match='pasword'):
        StorjFileSystem(pasword='x')


def test_login_in_url_is_used(options, folder):
    login = '{email}:{password}'.format(
        **{name: options[name].replace('@', '%40') for name in ('email', 'password')}
    )
    rest = {name: options[name] for name in ('bridge', 'mnemonic')}
    with fsspec.open(f'storj://{login}@{folder}/x', 'wb', **rest) as file:
        file.write(b'1')
    with fsspec.open(f'storj://{folder}/x', **options) as file:
        assert file.read() == b'1'


def test_wrong_password_is_permission_error(options):
    fs = StorjFileSystem(**{**options, 'password': 'wrong'}, skip_instance_cache=True)
    with pytest.raises(PermissionError):
        fs.ls('')


def test_copy_in_another_process_has_its_settings(storj_fs, options):
    # What the class keeps of this process is not in another one.
    dumped = pickle.dumps(storj_fs)
    StorjFileSystem.clear_instance_cache()
    copy = pickle.loads(dumped)
    assert copy is not storj_fs
    assert copy.storage_options == options
    assert copy.exists('b')


def test_pickled_reader_reads_on(storj_fs, folder):
    storj_fs.pipe_file(f'{folder}/x', b'0123456789')
    with storj_fs.open(f'{folder}/x') as file:
        file.seek(4)
        with pickle.loads(pickle.dumps(file)) as copy:
            assert copy.read() == b'456789'


def test_buckets_are_folders_of_the_root(storj_fs):
    name = uuid.uuid4().hex
    storj_fs.mkdir(name)
    assert name in storj_fs.ls('', detail=False)
    assert storj_fs.info(name)['type'] == 'directory'
    with pytest.raises(FileExistsError):
        storj_fs.mkdir(name)
    storj_fs.pipe_file(f'{name}/x', b'')
    with pytest.raises(OSError, match='not empty'):
        storj_fs.rmdir(name)
    storj_fs.rm(name, recursive=True)
    assert not storj_fs.exists(name)


def test_missing_places_are_file_not_found_errors(storj_fs, folder):
    for call in (
        lambda: storj_fs.info(f'{folder}/x'),
        lambda: storj_fs.ls(folder),
        lambda: storj_fs.cat_file(f'{folder}/x'),
        lambda: storj_fs.open(f'{folder}/x'),
        lambda: storj_fs.rm(f'{folder}/x'),
        lambda: storj_fs.ls('no-bucket'),
        lambda: storj_fs.open('no-bucket/x', 'wb'),
        lambda: storj_fs.pipe_file('no-bucket/x', b''),
    ):
        with pytest.raises(FileNotFoundError):
            call()
    assert storj_fs.find(folder) == []
    assert not storj_fs.exists('no-bucket/x')


def test_folder_is_not_a_file(storj_fs, folder):
    storj_fs.pipe_file(f'{folder}/a/x', b'1')
    for call in (storj_fs.open, storj_fs.cat_file, storj_fs.rm):
        with pytest.raises(IsADirectoryError):
            call(f'{folder}/a')
    with pytest.raises(IsADirectoryError):
        storj_fs.pipe_file('b', b'')


def test_tree_is_found_in_one_listing(storj_fs, folder):
    for name in ('x', 'a/x', 'a/b/x', 'a/b/y'):
        storj_fs.pipe_file(f'{folder}/{name}', name.encode())
    storj_fs.invalidate_cache()
    assert storj_fs.find(folder) == [f'{folder}/{name}' for name in ('a/b/x', 'a/b/y', 'a/x', 'x')]
    assert storj_fs.find(folder, maxdepth=1) == [f'{folder}/x']
    assert storj_fs.glob(f'{folder}/**/y') == [f'{folder}/a/b/y']
    assert storj_fs.ls(f'{folder}/a', detail=False) == [f'{folder}/a/b', f'{folder}/a/x']
    assert storj_fs.find(folder, withdirs=True, maxdepth=2) == [
        folder,
        f'{folder}/a',
        f'{folder}/a/b',
        f'{folder}/a/x',
        f'{folder}/x',
    ]
    assert storj_fs.du(folder) == 14
    assert [root for root, *_ in storj_fs.walk(folder)] == [folder, f'{folder}/a', f'{folder}/a/b']


def test_own_changes_are_in_a_kept_listing(storj_fs, folder):
    storj_fs.pipe_file(f'{folder}/x', b'1')
    storj_fs.ls(folder)
    moment = storj_fs.listed(folder)
    storj_fs.pipe_file(f'{folder}/a/y', b'22')
    storj_fs.rm(f'{folder}/x')
    assert storj_fs.ls(folder, detail=False) == [f'{folder}/a']
    assert storj_fs.info(f'{folder}/a/y')['size'] == 2
    storj_fs.rm(f'{folder}/a/y')
    assert not storj_fs.exists(folder)
    assert storj_fs.listed(folder) == moment


def test_stored_file_is_listed_by_one_more_request(options, folder, monkeypatch):
    fs = StorjFileSystem(**options, skip_instance_cache=True)
    fs.pipe(f'{folder}/a', b'')
    fs.ls(folder)
    asked = []
    request = fs.client._request
    monkeypatch.setattr(
        fs.client,
        '_request',
        lambda **it: asked.append((it['method'], it['path'])) or request(**it),
    )
    fs.pipe(f'{folder}/b', b'')
    # The frame, whether the name is taken, and the file; then what the listing tells of it.
    assert sorted(method for method, _ in asked[:-1]) == ['GET', 'POST', 'POST']
    assert asked[-1][1].endswith('/info')
    assert fs.ls(folder, detail=False) == [f'{folder}/a', f'{folder}/b']


def test_kept_listing_tells_of_files_and_folders_alone(storj_fs, folder, monkeypatch):
    storj_fs.pipe(f'{folder}/a/b', b'')
    storj_fs.ls(folder)
    asked = []
    monkeypatch.setattr(storj_fs.client, '_request', lambda **it: asked.append(it['path']))
    assert storj_fs.info(f'{folder}/a')['type'] == 'directory'
    assert storj_fs.info(f'{folder}/a/b')['type'] == 'file'
    assert asked == []


def test_changes_of_others_are_seen_after_invalidation(storj_fs, other, folder):
    storj_fs.pipe_file(f'{folder}/x', b'1')
    storj_fs.ls(folder)
    other.pipe_file(f'{folder}/y', b'2')
    assert storj_fs.ls(folder, detail=False) == [f'{folder}/x']
    # A file is asked for where the listing does not have it.
    assert storj_fs.exists(f'{folder}/y')
    storj_fs.invalidate_cache(folder)
    assert storj_fs.listed(folder) is None
    assert storj_fs.ls(folder, detail=False) == [f'{folder}/x', f'{folder}/y']


def test_listing_expires(options, other, folder):
    fs = StorjFileSystem(**options, listings_expiry_time=0, skip_instance_cache=True)
    fs.pipe_file(f'{folder}/x', b'1')
    fs.ls(folder)
    other.pipe_file(f'{folder}/y', b'2')
    assert fs.ls(folder, detail=False) == [f'{folder}/x', f'{folder}/y']


def test_bucket_that_others_replace_is_found_again(options, other):
    name = uuid.uuid4().hex
    fs = StorjFileSystem(**options, listings_expiry_time=0, skip_instance_cache=True)
    for data in (b'1', b'2'):
        other.mkdir(name)
        fs.pipe_file(f'{name}/x', data)
        assert fs.cat_file(f'{name}/x') == data
        other.rm(name, recursive=True)


def test_missing_files_are_told_by_one_listing(storj_fs, folder, monkeypatch):
    storj_fs.pipe_file(f'{folder}/x', b'1')
    storj_fs.invalidate_cache()
    listed, files = [], Catalog.files

    def noted(self, bucket):
        listed.append(bucket)
        return files(self, bucket)

    monkeypatch.setattr(Catalog, 'files', noted)
    for number in range(3):
        assert not storj_fs.exists(f'{folder}/missing')
        with pytest.raises(FileNotFoundError):
            storj_fs.open(f'{folder}/missing {number}')
        with pytest.raises(IsADirectoryError):
            storj_fs.open(folder)
    assert len(listed) == 1


def test_failed_block_stores_nothing(storj_fs, folder):
    path = f'{folder}/x'
    with pytest.raises(RuntimeError):
        fail_while_writing(storj_fs, path)
    assert not storj_fs.exists(path)


@pytest.mark.parametrize('path', ['', '/', 'storj://', ['b/none', '']])
def test_all_buckets_at_once_are_not_removed(storj_fs, folder, path):
    storj_fs.pipe(f'{folder}/x', b'1')
    with pytest.raises(PermissionError, match='name the buckets'):
        storj_fs.rm(path, recursive=True)
    assert storj_fs.cat(f'{folder}/x') == b'1'
    assert storj_fs.modified(f'{folder}/x') is not None
    assert storj_fs.modified(folder) is None


def test_failed_block_keeps_former_content(storj_fs, folder):
    path = f'{folder}/x'
    storj_fs.pipe_file(path, b'former')
    with pytest.raises(RuntimeError):
        fail_while_writing(storj_fs, path)
    assert storj_fs.cat_file(path) == b'former'


@pytest.mark.parametrize('size', [0, 1, MIN_SHARD_SIZE, 100_001])
def test_written_file_is_read_back(storj_fs, folder, size):
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    path = f'{folder}/x'
    # A small block: most of it goes through the encrypted buffer on the disk.
    with storj_fs.open(path, 'wb', block_size=30_000) as file:
        for start in range(0, size, 7000):
            file.write(data[start : start + 7000])
    with storj_fs.open(path) as file:
        assert file.read() == data
    with storj_fs.open(path, block_size=10_000) as file:
        assert b''.join(iter(lambda: file.read(3000), b'')) == data
    with storj_fs.open(path, cache_type='readahead', block_size=10_000) as file:
        file.seek(size // 2)
        assert file.read(10) == data[size // 2 : size // 2 + 10]
        file.seek(0)
        assert file.read(5) == data[:5]
    assert storj_fs.info(path)['size'] == size


def test_open_file_that_is_replaced_gives_no_mixed_content(storj_fs, other, folder):
    path = f'{folder}/x'
    storj_fs.pipe_file(path, b'a' * 20_000)
    with storj_fs.open(path, block_size=10_000) as file:
        assert file.read(5) == b'a' * 5
        other.pipe_file(path, b'b' * 20_000)
        with pytest.raises(OSError, match='replaced') as found:
            file.read()
    assert found.value.errno == errno.ESTALE
    with storj_fs.open(path) as file:
        assert file.read() == b'b' * 20_000


def test_size_of_an_old_listing_cuts_no_content(storj_fs, other, folder):
    path = f'{folder}/x'
    storj_fs.pipe_file(path, b'short')
    storj_fs.ls(folder)
    other.pipe_file(path, b'much longer')
    assert storj_fs.cat_file(path, -6) == b'longer'
    other.pipe_file(path, b'and even longer')
    with storj_fs.open(path) as file:
        assert file.read() == b'and even longer'


def test_buffer_on_disk_is_encrypted(storj_fs, folder, monkeypatch):
    from storj.transfer.spool import Spool

    written = []
    write = Spool.write

    def look(self, offset, data):
        written.append(bytes(data))
        write(self, offset, data)

    monkeypatch.setattr(Spool, 'write', look)
    file = storj_fs.open(f'{folder}/x', 'wb', block_size=1000)
    file.write(b'secret' * 1000)
    file.discard()
    assert written
    assert not any(b'secret' in piece for piece in written)


def test_many_open_writers_do_not_wait_for_each_other(storj_fs, folder):
    files = [storj_fs.open(f'{folder}/{number}', 'wb') for number in range(12)]
    for number, file in enumerate(files):
        file.write(str(number).encode())
    assert not storj_fs.exists(f'{folder}/0')
    for file in files:
        file.close()
    assert storj_fs.cat_file(f'{folder}/11') == b'11'


def test_transaction_stores_all_at_its_end(storj_fs, folder):
    with storj_fs.transaction:
        for name in 'xy':
            with storj_fs.open(f'{folder}/{name}', 'wb') as file:
                file.write(b'1')
        assert not storj_fs.exists(f'{folder}/x')
    assert storj_fs.find(folder) == [f'{folder}/x', f'{folder}/y']
    with pytest.raises(RuntimeError), storj_fs.transaction:
        fail_while_writing(storj_fs, f'{folder}/z')
    assert not storj_fs.exists(f'{folder}/z')


def test_append_is_refused(storj_fs, folder):
    with pytest.raises(NotImplementedError):
        storj_fs.open(f'{folder}/x', 'ab')


def test_ranges_are_python_slices(storj_fs, folder):
    path, data = f'{folder}/x', b'0123456789'
    storj_fs.pipe_file(path, data)
    for start, end in ((None, None), (2, 5), (-3, None), (None, -2), (5, 5), (8, 100)):
        assert storj_fs.cat_file(path, start, end) == data[start:end]
    assert storj_fs.cat_ranges([path, path, f'{folder}/none'], [0, 8, 0], [2, 10, 1])[:2] == [
        b'01',
        b'89',
    ]
    with pytest.raises(FileNotFoundError):
        storj_fs.cat_ranges([f'{folder}/none'], [0], [1], on_error='raise')
    assert storj_fs.head(path, 3) == b'012'
    assert storj_fs.tail(path, 3) == b'789'


def test_ranges_of_one_shard_are_fetched_once(storj_fs, folder, monkeypatch):
    path = f'{folder}/x'
    storj_fs.pipe_file(path, bytes(50_000))
    fetched = []
    transfers = storj_fs.client.transfers
    download = transfers.download

    def count(*arguments, **options):
        fetched.append(options)
        return download(*arguments, **options)

    monkeypatch.setattr(transfers, 'download', count)
    assert storj_fs.cat_ranges([path] * 3, [0, 20_000, 49_000], [10, 20_010, 49_001]) == [
        bytes(10),
        bytes(10),
        bytes(1),
    ]
    assert fetched == [{'start': 0, 'end': 49_001}]


def test_times_and_types_are_told(storj_fs, folder):
    path = f'{folder}/x'
    with storj_fs.open(path, 'wb', mimetype='text/csv') as file:
        file.write(b'1')
    assert storj_fs.info(path)['mimetype'] == 'text/csv'
    assert storj_fs.created(path).tzinfo is not None


def test_progress_is_told_to_callbacks(storj_fs, folder, tmp_path):
    from fsspec.callbacks import Callback

    source = tmp_path / 'x'
    source.write_bytes(bytes(100_000))
    for move in (
        lambda told: storj_fs.put_file(str(source), f'{folder}/x', callback=told),
        lambda told: storj_fs.get_file(f'{folder}/x', str(tmp_path / 'y'), callback=told),
    ):
        told = Callback()
        move(told)
        assert told.value == told.size >= 100_000
    assert (tmp_path / 'y').read_bytes() == source.read_bytes()
