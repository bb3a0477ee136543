"""What goes up comes down again, by every way in and out, over both wires."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storj.exception import (
    AlreadyExistsError,
    ClientError,
    DecryptionError,
    MnemonicError,
    NotFoundError,
    TransferCancelled,
    UnauthenticatedError,
)
from storj.http import Client
from storj.model import File
from storj.network import Network
from storj.transfer import Progress
from tests.network.engine import KIB, MIB, Engine, client_of

OTHER_WORDS = 'legal winner thank year wave sausage worth useful legal winner thank yellow'


@pytest.mark.parametrize('size', [0, 1, 17, 256 * KIB, 256 * KIB + 1, 2 * MIB + 5])
def test_any_size_comes_back_equal_by_every_way_out(
    engine: Engine, bucket: str, tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    transfers = engine()
    stored = transfers.upload(bucket, data, name='file').result(30)
    assert stored.size == size
    assert transfers.download(bucket, stored.id).result(30).getvalue() == data
    target = tmp_path / 'out'
    assert transfers.download(bucket, stored.id, target).result(30) == target
    assert target.read_bytes() == data
    assert b''.join(transfers.stream(bucket, stored.id)) == data
    assert [path.name for path in tmp_path.glob('out*')] == ['out']


class Pipe(io.RawIOBase):
    """Readable, but not seekable."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._rest.readinto(buffer)


def in_pieces(data: bytes) -> Iterator[bytes]:
    for position in range(0, len(data), 100_000):
        yield data[position : position + 100_000]


def positioned(data: bytes) -> io.BytesIO:
    file = io.BytesIO(b'before' + data)
    file.seek(6)
    return file


SOURCES = {
    'text': lambda path, data: str(path),
    'path': lambda path, data: path,
    'bytes': lambda path, data: data,
    'bytearray': lambda path, data: bytearray(data),
    'memoryview': lambda path, data: memoryview(data),
    'open file': lambda path, data: path.open('rb'),
    'unbuffered file': lambda path, data: path.open('rb', buffering=0),
    'file in memory, from its position on': lambda path, data: positioned(data),
    'iterator': lambda path, data: in_pieces(data),
    'pipe': lambda path, data: Pipe(data),
    'File': lambda path, data: File(filename=str(path)),
}


@pytest.mark.parametrize('kind', SOURCES)
def test_any_kind_of_source_is_read_whole(
    engine: Engine, bucket: str, tmp_path: Path, kind: str
) -> None:
    data = os.urandom(400 * KIB)
    path = tmp_path / 'name of it.bin'
    path.write_bytes(data)
    source = SOURCES[kind](path, data)
    transfers = engine()
    try:
        stored = transfers.upload(bucket, source, name='it').result(30)
    finally:
        if isinstance(source, io.IOBase):
            source.close()
    assert transfers.download(bucket, stored.id).result(30).read() == data


def test_every_wire_and_parity_are_used_and_farmers_get_equal_shares(
    engine: Engine, client: Client, bucket: str, network: Network
) -> None:
    stored = engine(negotiations=2).upload(bucket, os.urandom(2 * MIB), name='x').result(30)
    pointers = list(client.file_pointers(bucket, stored.id, skip=0, limit=20))
    assert [pointer.parity for pointer in pointers] == [False] * 8 + [True] * 6
    shares = Counter(pointer.farmer['nodeID'] for pointer in pointers)
    # 14 shards on 8 farmers: nobody gets a second one before everybody has a first.
    assert set(shares.values()) <= {1, 2}
    assert set(shares) == {farmer.node_id for farmer in network.farmers}


def test_equal_shards_of_one_file_are_stored(engine: Engine, bucket: str, client: Client) -> None:
    # One data shard: its parity is the same bytes under the same hash.
    data = os.urandom(2 * MIB)
    transfers = engine(shard_size=2 * MIB)
    stored = transfers.upload(bucket, data, name='twins').result(30)
    pointers = list(client.file_pointers(bucket, stored.id, skip=0, limit=9))
    assert pointers[0].hash == pointers[1].hash
    assert transfers.download(bucket, stored.id).result(30).read() == data


@pytest.mark.parametrize(
    'name', ['plain', 'with space', 'ümläut', 'a/b/../c', '日本語', 'x' * 500, ' ', '\t\n']
)
def test_names_of_any_kind_are_kept(engine: Engine, client: Client, bucket: str, name: str) -> None:
    stored = engine().upload(bucket, b'data', name=name).result(30)
    assert stored.filename != name
    assert client.file_name(bucket, stored.filename) == name
    assert client.file_id(bucket, name) == stored.id


@pytest.mark.parametrize('name', ['plain', ' ', '\t\n', '\u3000'])
def test_names_in_the_clear_are_kept(
    engine: Engine, client: Client, bucket: str, name: str
) -> None:
    stored = engine().upload(bucket, b'data', name=name, encrypt=False).result(30)
    assert client.file_metadata(bucket, stored.id).filename == name
    assert client.file_id(bucket, name, stored=True) == stored.id


def test_name_is_last_component_of_path(
    engine: Engine, client: Client, bucket: str, tmp_path: Path
) -> None:
    path = tmp_path / 'café.txt'
    path.write_bytes(b'1')
    stored = engine().upload(bucket, path).result(30)
    assert client.file_name(bucket, stored.filename) == 'café.txt'


def test_source_without_name_needs_one(engine: Engine, bucket: str) -> None:
    with pytest.raises(ValueError, match='give one'):
        engine().upload(bucket, b'data').result(30)


def test_taken_name_is_refused_first_and_replaced_on_demand(
    engine: Engine, client: Client, bucket: str
) -> None:
    transfers = engine()
    first = transfers.upload(bucket, b'first', name='n').result(30)
    with pytest.raises(AlreadyExistsError):
        transfers.upload(bucket, b'second', name='n').result(30)
    assert transfers.download(bucket, first.id).result(30).read() == b'first'
    second = transfers.upload(bucket, b'second', name='n', overwrite=True).result(30)
    assert transfers.download(bucket, second.id).result(30).read() == b'second'
    assert len(list(client.bucket_files(bucket))) == 1


def test_name_in_the_clear_is_the_name_of_its_encrypted_form(
    engine: Engine, bucket: str, client: Client
) -> None:
    transfers = engine()
    transfers.upload(bucket, b'hidden', name='n').result(30)
    with pytest.raises(AlreadyExistsError):
        transfers.upload(bucket, b'plain', name='n', encrypt_name=False).result(30)
    options = {'name': 'n', 'encrypt_name': False, 'overwrite': True}
    plain = transfers.upload(bucket, b'plain', **options).result(30)
    assert [file['id'] for file in client.bucket_files(bucket)] == [plain.id]
    assert transfers.download(bucket, plain.id).result(30).read() == b'plain'


def test_unencrypted_file_is_read_by_who_asks_for_one(
    engine: Engine, client: Client, bucket: str, network: Network
) -> None:
    data = os.urandom(300 * KIB)
    stored = engine().upload(bucket, data, name='a.txt', encrypt=False).result(30)
    entry = client.file_metadata(bucket, stored.id)
    assert (entry.filename, entry.mimetype, entry.index) == ('a.txt', 'text/plain', None)
    transfers = engine()
    assert transfers.download(bucket, stored.id, decrypt=False).result(30).read() == data
    with pytest.raises(UnauthenticatedError, match='decrypt=False'):
        transfers.download(bucket, stored.id).result(30)
    with client_of(network, mnemonic=None) as wordless:
        assert engine(wordless).download(bucket, stored.id).result(30).read() == data


def test_unknown_mimetype_is_left_to_the_bridge(engine: Engine, bucket: str) -> None:
    stored = engine().upload(bucket, b'#!', name='x.latex', encrypt_name=False).result(30)
    assert stored.filename == 'x.latex'


def test_no_words_is_an_error_that_says_how_to_make_them(
    engine: Engine, network: Network, bucket: str
) -> None:
    stored = engine().upload(bucket, b'secret', name='s').result(30)
    with client_of(network, mnemonic=None) as wordless:
        transfers = engine(wordless)
        with pytest.raises(MnemonicError, match='storj key generate --mnemonic'):
            transfers.upload(bucket, b'data', name='d').result(30)
        with pytest.raises(MnemonicError):
            transfers.download(bucket, stored.id).result(30)
        kept = transfers.download(bucket, stored.id, decrypt=False).result(30).read()
        assert len(kept) == 6
        assert kept != b'secret'


def test_wrong_words_are_recognised_before_a_shard_is_fetched(
    engine: Engine, network: Network, bucket: str, tmp_path: Path
) -> None:
    stored = engine().upload(bucket, os.urandom(KIB), name='s').result(30)
    with client_of(network, mnemonic=OTHER_WORDS) as other:
        future = engine(other).download(bucket, stored.id, tmp_path / 'out')
        with pytest.raises(DecryptionError):
            future.result(30)
    assert future.progress.bytes == 0
    assert not list(tmp_path.glob('out*'))


def test_public_bucket_is_read_with_its_published_key(
    engine: Engine, client: Client, network: Network, bucket: str
) -> None:
    from storj.crypto import keys

    stored = engine().upload(bucket, b'for everybody', name='open').result(30)
    published = keys.bucket_key(network.mnemonic, bucket).hex()
    client._request(
        method='PATCH',
        path=f'/buckets/{bucket}',
        json={'publicPermissions': ['PULL'], 'encryptionKey': published},
    )
    with client_of(network, mnemonic=None) as wordless:
        read = engine(wordless).download(bucket, stored.id).result(30).read()
    assert read == b'for everybody'


def test_unknown_bucket_and_file_are_not_found(engine: Engine, bucket: str, client: Client) -> None:
    transfers = engine()
    with pytest.raises(NotFoundError):
        transfers.upload('0' * 24, b'data', name='n').result(30)
    with pytest.raises(NotFoundError):
        transfers.upload('0' * 24, os.urandom(600 * KIB), name='n').result(30)
    with pytest.raises(NotFoundError):
        transfers.download(bucket, '0' * 24).result(30)
    transfers.close()
    # Nothing of the failed attempts is left on the bridge.
    assert not [frame for frame in client.frame_list() if not frame.locked]


def test_range_brings_its_bytes_only(engine: Engine, bucket: str, tmp_path: Path) -> None:
    data = os.urandom(5 * 256 * KIB)
    transfers = engine()
    stored = transfers.upload(bucket, data, name='r').result(30)
    target = tmp_path / 'range'
    for start, end in (
        (0, 0),
        (0, 1),
        (5, 300_000),
        (262_144, 524_288),
        (262_143, 262_145),
        (1_310_719, None),
    ):
        wanted = data[start:end]
        future = transfers.download(bucket, stored.id, start=start, end=end)
        assert future.result(30).read() == wanted
        # Only the shards that hold the range were fetched.
        last = (len(data) if end is None else end) - 1
        shards = last // (256 * KIB) - start // (256 * KIB) + 1 if wanted else 0
        assert future.progress.shards == shards
        transfers.download(bucket, stored.id, target, start=start, end=end).result(30)
        assert target.read_bytes() == wanted
        assert b''.join(transfers.stream(bucket, stored.id, start=start, end=end)) == wanted


def test_range_out_of_bounds_is_refused(engine: Engine, bucket: str) -> None:
    transfers = engine()
    stored = transfers.upload(bucket, b'12345', name='r').result(30)
    for start, end in ((-1, None), (3, 2), (0, 6)):
        with pytest.raises(ValueError, match='no range'):
            transfers.download(bucket, stored.id, start=start, end=end).result(30)


def test_existing_destination_is_kept_unless_told_otherwise(
    engine: Engine, bucket: str, tmp_path: Path
) -> None:
    transfers = engine()
    stored = transfers.upload(bucket, b'new', name='d').result(30)
    target = tmp_path / 'out'
    target.write_bytes(b'old')
    target.chmod(0o640)
    foreign = tmp_path / 'out.part'
    foreign.write_bytes(b'not ours')
    with pytest.raises(FileExistsError):
        transfers.download(bucket, stored.id, target, overwrite=False).result(30)
    assert target.read_bytes() == b'old'
    transfers.download(bucket, stored.id, target).result(30)
    assert target.read_bytes() == b'new'
    assert target.stat().st_mode & 0o777 == 0o640
    assert foreign.read_bytes() == b'not ours'
    with pytest.raises(IsADirectoryError):
        transfers.download(bucket, stored.id, tmp_path).result(30)


def test_file_object_gets_bytes_from_its_position(engine: Engine, bucket: str) -> None:
    data = os.urandom(600 * KIB)
    transfers = engine()
    stored = transfers.upload(bucket, data, name='o').result(30)
    file = io.BytesIO()
    file.write(b'head')
    assert transfers.download(bucket, stored.id, file).result(30) is file
    assert file.getvalue() == b'head' + data


def test_progress_counts_up_to_the_whole_and_ends_done(engine: Engine, bucket: str) -> None:
    states: list[Progress] = []
    data = os.urandom(2 * MIB)
    transfers = engine()
    future = transfers.upload(bucket, data, name='p', progress=states.append)
    stored = future.result(30)
    last = states[-1]
    assert (last.phase, last.bytes, last.total) == ('done', 14 * 256 * KIB, 14 * 256 * KIB)
    assert (last.shards, last.shards_total, last.retries, last.farmers) == (14, 14, 0, ())
    assert future.progress == last
    down = transfers.download(bucket, stored.id)
    down.result(30)
    assert down.progress.bytes == down.progress.total == 2 * MIB


def test_error_of_callback_ends_the_transfer(engine: Engine, bucket: str) -> None:
    def refuse(progress: Progress) -> None:
        if progress.phase == 'transferring':
            raise LookupError('enough')

    with pytest.raises(LookupError, match='enough'):
        engine().upload(bucket, b'data', name='c', progress=refuse).result(30)


def test_several_files_share_the_pools(engine: Engine, bucket: str) -> None:
    transfers = engine(transfers=3, concurrency=4)
    files = {f'file {number}': os.urandom(number * 70_000) for number in range(1, 9)}
    futures = {name: transfers.upload(bucket, data, name=name) for name, data in files.items()}
    stored = {name: future.result(60) for name, future in futures.items()}
    downs = {name: transfers.download(bucket, file.id) for name, file in stored.items()}
    assert {name: down.result(60).read() for name, down in downs.items()} == files


def test_closed_stream_lets_go_at_once(engine: Engine, bucket: str) -> None:
    transfers = engine(look_ahead=1)
    stored = transfers.upload(bucket, os.urandom(MIB), name='s').result(30)
    stream = transfers.stream(bucket, stored.id)
    assert next(stream)
    stream.close()
    assert list(stream) == []


FORK = """
    import os, sys
    from storj import get_client

    with get_client() as client:
        bucket = sys.argv[1]
        client.transfers.upload(bucket, b'before', name='before').result(30)
        transfers = client.transfers
        child = os.fork()
        if not child:
            code = 1
            try:
                stored = client.transfers.upload(bucket, b'child', name='child').result(30)
                if client.transfers.download(bucket, stored.id).result(30).read() == b'child':
                    transfers.download(bucket, stored.id)
            except ValueError as error:
                code = 0 if 'before a fork' in str(error) else 2
            finally:
                os._exit(code)
        stored = client.transfers.upload(bucket, b'parent', name='parent').result(30)
        assert client.transfers.download(bucket, stored.id).result(30).read() == b'parent'
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no forks here')
def test_forked_process_transfers_on_its_own(network: Network, client: Client, bucket: str) -> None:
    subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', textwrap.dedent(FORK), bucket],
        env={**os.environ, **network.environment()},
        check=True,
        timeout=100,
    )
    assert len(list(client.bucket_files(bucket))) == 3


def test_close_cancels_and_ends_every_thread(engine: Engine, bucket: str) -> None:
    before = set(threading.enumerate())
    transfers = engine(upload_rate=1000.0)
    future = transfers.upload(bucket, os.urandom(2 * MIB), name='slow')
    transfers.close()
    with pytest.raises(TransferCancelled):
        future.result(0)
    begun = {thread.name for thread in set(threading.enumerate()) - before}
    # The network begins threads of its own, in this process, for what has arrived.
    assert not [name for name in begun if not name.startswith(('storj-farmer-', 'asyncio_'))]
    with pytest.raises(ValueError, match='closed'):
        transfers.upload(bucket, b'x', name='x')


def test_parity_that_the_bridge_does_not_know_is_refused(tmp_path: Path) -> None:
    with (
        Network(farmers=3, bridge={'version': '5.8.0'}) as old,
        client_of(old) as client,
    ):
        from storj.transfer import TransferConfig, Transfers

        bucket = str(client.bucket_create('b').id)
        config = TransferConfig(state_dir=tmp_path, shard_size=1 * MIB)
        with Transfers(client, config) as transfers:
            data = os.urandom(2 * MIB)
            with pytest.raises(ClientError, match='parity'):
                transfers.upload(bucket, data, name='n', parity=True).result(30)
            # Without an index the key follows from the file's id ("v0").
            stored = transfers.upload(bucket, data, name='n').result(30)
            assert client.file_metadata(bucket, stored.id).index is None
            assert transfers.download(bucket, stored.id).result(30).read() == data
            assert transfers.verify(bucket, stored.id).healthy
