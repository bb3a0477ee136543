"""Every kind of fault in every phase: the right bytes, or a clear error and nothing left behind."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from storj.exception import (
    IntegrityError,
    NotEnoughFarmersError,
    NotEnoughShardsError,
    ResourceError,
    StorjBridgeApiError,
    StorjError,
    TransferCancelled,
    TransferError,
)
from storj.http import Client
from storj.network import Fault, Network
from storj.transfer import ChannelLimits, Progress, RetryPolicy
from tests.network.engine import KIB, MIB, QUIET, Engine, client_of, journals

SMALL = 600 * KIB  # three shards, no parity
LARGE = 2 * MIB  # eight shards and six of parity


def open_frames(client: Client) -> set[str]:
    return {str(frame.id) for frame in client.frame_list() if not frame.locked}


AT_A_FARMER = [
    Fault('refuse'),
    Fault('drop', offset=100 * KIB),
    Fault('stall', offset=100 * KIB),
    Fault('expire'),
    Fault('status', status=500),
    Fault('html', status=502),
]


@pytest.mark.parametrize('fault', [*AT_A_FARMER, Fault('corrupt')], ids=lambda fault: fault.kind)
def test_upload_survives_a_farmer_that_fails(
    engine: Engine, client: Client, network: Network, bucket: str, fault: Fault
) -> None:
    data = os.urandom(SMALL)
    network.faults.add(Fault(**{**vars_of(fault), 'operation': 'push', 'times': 2}))
    future = engine().upload(bucket, data, name='n')
    stored = future.result(30)
    assert future.progress.retries >= 1
    assert future.progress.bytes == future.progress.total == SMALL
    network.faults.clear()
    assert engine().download(bucket, stored.id).result(30).read() == data


@pytest.mark.parametrize(
    'fault',
    [*AT_A_FARMER, Fault('corrupt', offset=1000), Fault('truncate', offset=1000)],
    ids=lambda fault: fault.kind,
)
def test_download_survives_farmers_that_fail(
    engine: Engine, network: Network, bucket: str, tmp_path: Path, fault: Fault
) -> None:
    data = os.urandom(LARGE)
    stored = engine().upload(bucket, data, name='n').result(30)
    network.faults.add(Fault(**{**vars_of(fault), 'operation': 'pull', 'times': 3}))
    future = engine().download(bucket, stored.id, tmp_path / 'out')
    future.result(30)
    # A stalled farmer is overtaken by parity before it counts as failed.
    assert future.progress.retries >= 1 or fault.kind == 'stall'
    assert (tmp_path / 'out').read_bytes() == data


def vars_of(fault: Fault) -> dict[str, Any]:
    names = ('kind', 'offset', 'status', 'seconds')
    return {name: getattr(fault, name) for name in names}


AT_THE_BRIDGE = [
    Fault('refuse', route='*'),
    Fault('drop', route='*'),
    Fault('truncate', route='*', offset=5),
    Fault('status', route='*', status=429),
    Fault('html', route='*', status=500),
]


@pytest.mark.parametrize('route', ['POST /frames', 'PUT /frames', 'POST /buckets', 'GET /buckets'])
@pytest.mark.parametrize('fault', AT_THE_BRIDGE, ids=lambda fault: f'{fault.kind} {fault.status}')
def test_transfers_survive_a_bridge_that_fails(
    engine: Engine, client: Client, network: Network, bucket: str, fault: Fault, route: str
) -> None:
    data = os.urandom(100 * KIB)
    network.faults.add(Fault(**{**vars_of(fault), 'route': route, 'times': 2}))
    transfers = engine()
    stored = transfers.upload(bucket, data, name='n').result(30)
    assert transfers.download(bucket, stored.id).result(30).read() == data
    # An entry whose answer was lost was not made twice.
    assert len(list(client.bucket_files(bucket))) == 1


# What original bridges answer while the process behind them is away, or loses a race.
AWAY = ['Failed to complete work, reason unknown', 'connect ECONNREFUSED 127.0.0.1:8152']


@pytest.mark.parametrize('text', [*AWAY, 'Consignment is not authorized'])
def test_upload_outlives_a_backend_that_is_away_for_a_moment(
    engine: Engine, client: Client, network: Network, bucket: str, text: str
) -> None:
    network.faults.add(Fault('status', route='PUT /frames', status=400, message=text, times=3))
    stored = engine().upload(bucket, os.urandom(SMALL), name='n').result(30)
    assert stored.size == SMALL


@pytest.mark.parametrize('text', AWAY)
def test_backend_that_stays_away_ends_as_missing_farmers(
    engine: Engine, client: Client, network: Network, bucket: str, text: str
) -> None:
    network.faults.add(Fault('status', route='PUT /frames', status=400, message=text, times=0))
    with pytest.raises(NotEnoughFarmersError) as caught:
        engine().upload(bucket, b'data', name='n').result(30)
    assert text in str(caught.value)
    assert caught.value.retryable


def test_complaint_about_the_request_ends_an_upload_at_once(
    engine: Engine, client: Client, network: Network, bucket: str
) -> None:
    fault = Fault('status', route='PUT /frames', status=500, message='Invalid shard sizes')
    network.faults.add(fault)
    with pytest.raises(StorjBridgeApiError, match='Invalid shard sizes') as caught:
        engine().upload(bucket, b'data', name='n').result(30)
    assert not caught.value.retryable


def test_no_farmer_is_an_error_with_numbers_and_leaves_no_frame(
    engine: Engine, client: Client, network: Network, bucket: str
) -> None:
    before = open_frames(client)
    network.faults.add(Fault('refuse', operation='alloc', times=0))
    transfers = engine()
    with pytest.raises(NotEnoughFarmersError) as caught:
        transfers.upload(bucket, os.urandom(SMALL), name='n').result(30)
    assert (caught.value.have, caught.value.need) == (0, 3)
    assert caught.value.causes
    network.faults.clear()
    transfers.close()
    assert open_frames(client) == before


def test_every_farmer_refusing_names_each_failure(
    engine: Engine, client: Client, network: Network, bucket: str
) -> None:
    before = open_frames(client)
    network.faults.add(Fault('status', operation='push', status=500, message='disk', times=0))
    transfers = engine(shard_attempts=3)
    with pytest.raises(TransferError) as caught:
        transfers.upload(bucket, b'data', name='n').result(30)
    assert len(caught.value.causes) >= 3
    network.faults.clear()
    transfers.close()
    assert open_frames(client) == before
    assert not list(client.bucket_files(bucket))


def test_entry_that_was_made_although_its_answer_was_lost_is_found(
    engine: Engine, client: Client, network: Network, bucket: str
) -> None:
    # The request is handled, then the connection is reset: nobody knows but the bridge.
    network.faults.add(Fault('drop', route=f'POST /buckets/{bucket}/files', times=1))
    stored = engine().upload(bucket, b'data', name='n').result(30)
    assert [file['id'] for file in client.bucket_files(bucket)] == [stored.id]


def test_empty_file_waits_for_its_frame(engine: Engine, network: Network, bucket: str) -> None:
    network.faults.add(Fault('delay', route='POST /frames', seconds=0.3))
    assert engine().upload(bucket, b'', name='empty').result(30).size == 0


def test_refused_entry_leaves_no_file_and_no_frame(
    engine: Engine, client: Client, network: Network, bucket: str
) -> None:
    before = open_frames(client)
    network.faults.add(
        Fault('status', route=f'POST /buckets/{bucket}/files', status=400, message='no', times=0)
    )
    transfers = engine()
    with pytest.raises(StorjError, match='no'):
        transfers.upload(bucket, os.urandom(SMALL), name='n').result(30)
    network.faults.clear()
    transfers.close()
    assert open_frames(client) == before
    assert not list(client.bucket_files(bucket))


def test_slow_farmer_is_overtaken_by_parity(
    engine: Engine, network: Network, bucket: str, tmp_path: Path
) -> None:
    data = os.urandom(LARGE)
    transfers = engine()
    stored = transfers.upload(bucket, data, name='n').result(30)
    network.faults.add(Fault('stall', operation='pull', offset=50 * KIB, times=1))
    # Far below the time after which a stalled farmer is given up.
    slow = {'channel': transfers.config.channel.__class__(stall=60)}
    assert engine(**slow).download(bucket, stored.id, tmp_path / 'out').result(20)
    assert (tmp_path / 'out').read_bytes() == data


def holders(client: Client, bucket: str, file_id: str) -> list[str]:
    return [pointer.farmer['nodeID'] for pointer in client.file_pointers(bucket, file_id, 0, 30)]


@pytest.fixture
def wide() -> Any:
    """A network of its own, whose farmers and bridge may die: one shard on each farmer."""
    with Network(farmers=14, bridge=QUIET) as network:
        yield network


def test_files_survive_the_loss_of_as_many_farmers_as_parity(
    wide: Network, engine: Engine, tmp_path: Path
) -> None:
    with client_of(wide) as client:
        bucket = str(client.bucket_create('b').id)
        data = os.urandom(LARGE)
        transfers = engine(client, negotiations=1)
        stored = transfers.upload(bucket, data, name='n').result(60)
        kept = holders(client, bucket, stored.id)
        assert len(set(kept)) == 14
        by_node = {farmer.node_id: farmer for farmer in wide.farmers}
        for node in kept[:6]:
            by_node[node].kill()
        assert transfers.download(bucket, stored.id, tmp_path / 'out').result(60)
        assert (tmp_path / 'out').read_bytes() == data
        assert transfers.download(bucket, stored.id).result(60).read() == data
        part = transfers.download(bucket, stored.id, start=300_000, end=900_000).result(60)
        assert part.read() == data[300_000:900_000]
        health = transfers.verify(bucket, stored.id)
        assert (health.have, health.need, health.recoverable) == (8, 8, True)
        by_node[kept[6]].kill()
        health = transfers.verify(bucket, stored.id)
        assert (health.have, health.recoverable, health.healthy) == (7, False, False)
        assert [shard.healthy for shard in health.shards] == [False] * 7 + [True] * 7
        for destination in (tmp_path / 'again', None):
            with pytest.raises(NotEnoughShardsError) as caught:
                transfers.download(bucket, stored.id, destination, resume=False).result(60)
            assert (caught.value.have, caught.value.need) == (7, 8)
        transfers.close()
        assert not list(tmp_path.glob('again*'))


class Pages:
    """A client that counts its requests for pointers."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def file_pointers(self, *args: Any, **options: Any) -> Any:
        self.count += 1
        return self._client.file_pointers(*args, **options)


@pytest.mark.parametrize('named', [False, True], ids=['left out', 'named by the bridge'])
def test_dead_farmers_cost_every_kind_of_download_the_same(
    wide: Network, engine: Engine, tmp_path: Path, named: bool
) -> None:
    with client_of(wide) as client:
        bucket = str(client.bucket_create('b').id)
        data = os.urandom(LARGE)
        stored = engine(client, negotiations=1).upload(bucket, data, name='n').result(60)
        by_node = {farmer.node_id: farmer for farmer in wide.farmers}
        for node in [holders(client, bucket, stored.id)[index] for index in (1, 4)]:
            if named:
                wide.faults.add(Fault('refuse', node, operation='pull', times=0))
            else:
                by_node[node].kill()
        counts = []
        for way in (tmp_path / 'out', None, io.BytesIO(), 'stream'):
            pages = Pages(client)
            # Nothing but a failure brings parity within the time of this test, and nobody asks a
            # second time for those that are dead.
            patient = RetryPolicy(attempts=5, delay=20.0)
            transfers = engine(pages, hedge_after=3600.0, bridge_retry=patient)
            if way == 'stream':
                assert b''.join(transfers.stream(bucket, stored.id)) == data
            else:
                came = transfers.download(bucket, stored.id, way).result(60)
                assert _content(came) == data
            counts.append(pages.count)
        # One for the list, and one for each farmer that turns out to be dead.
        assert max(counts) <= 3


def _content(came: Any) -> bytes:
    return came.read_bytes() if isinstance(came, Path) else came.getvalue()


class Once:
    """A progress callback that does something when enough shards have come."""

    def __init__(self, shards: int, action: Any) -> None:
        self.shards = shards
        self.action = action
        self.done = threading.Event()

    def __call__(self, progress: Progress) -> None:
        if progress.shards >= self.shards and not self.done.is_set():
            self.done.set()
            self.action()


def test_farmers_and_bridge_that_die_in_mid_transfer_are_outlived(
    wide: Network, engine: Engine, tmp_path: Path
) -> None:
    with client_of(wide) as client:
        bucket = str(client.bucket_create('b').id)
        data = os.urandom(LARGE)
        transfers = engine(client, concurrency=2)

        def disturb() -> None:
            wide.farmers[0].kill()
            wide.farmers[1].kill()

        up = Once(2, disturb)
        stored = transfers.upload(bucket, data, name='n', progress=up).result(60)
        assert up.done.is_set()
        down = Once(2, lambda: wide.farmers[2].kill())
        transfers.download(bucket, stored.id, tmp_path / 'out', progress=down).result(60)
        assert down.done.is_set()
        assert (tmp_path / 'out').read_bytes() == data


def test_cancel_waits_for_nothing_that_hangs_in_any_phase(
    engine: Engine, client: Client, network: Network, bucket: str, tmp_path: Path
) -> None:
    stored = engine().upload(bucket, os.urandom(SMALL), name='n').result(30)
    for fault, begin in [
        (Fault('stall', route='POST /frames', times=0), 'upload'),
        (Fault('stall', route='PUT /frames', times=0), 'upload'),
        (Fault('stall', operation='push', times=0), 'upload'),
        (Fault('stall', route='GET /buckets', times=0), 'download'),
        (Fault('stall', operation='pull', offset=1000, times=0), 'download'),
    ]:
        network.faults.add(fault)
        # What hangs would hang for longer than is waited for the cancelled transfer.
        patient = ChannelLimits(connect=60, first_byte=60, acknowledge=60, stall=60)
        transfers = engine(client_of(network, timeout=60), channel=patient)
        if begin == 'upload':
            future: Any = transfers.upload(bucket, os.urandom(SMALL), name='other')
        else:
            future = transfers.download(bucket, stored.id, tmp_path / 'out')
        with pytest.raises(TimeoutError):
            future.result(0.3)
        assert future.cancel()
        with pytest.raises(TransferCancelled):
            future.result(20)
        assert future.progress.phase == 'cancelled'
        network.faults.clear()
        network.faults.release()
    assert not list(tmp_path.glob('out*'))


def test_source_that_changes_while_it_is_read_is_noticed(
    engine: Engine, client: Client, bucket: str, tmp_path: Path
) -> None:
    before = open_frames(client)
    path = tmp_path / 'source'
    path.write_bytes(os.urandom(LARGE))

    def change() -> None:
        with path.open('r+b') as file:
            file.seek(LARGE - 10)
            file.write(b'different')

    transfers = engine(concurrency=1)
    with pytest.raises(IntegrityError, match='changed'):
        transfers.upload(bucket, path, parity=False, progress=Once(1, change)).result(30)
    transfers.close()
    assert not journals(tmp_path)
    assert open_frames(client) == before
    assert not list(client.bucket_files(bucket))


def test_source_that_shrinks_is_noticed(engine: Engine, bucket: str, tmp_path: Path) -> None:
    path = tmp_path / 'source'
    path.write_bytes(os.urandom(LARGE))
    transfers = engine(concurrency=1)
    shrink = Once(1, lambda: os.truncate(path, 100 * KIB))
    with pytest.raises(IntegrityError, match=r'shorter|changed'):
        transfers.upload(bucket, path, parity=False, progress=shrink).result(30)


class FullDisk:
    """A binary file whose disk takes so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, data: memoryview) -> int:
        if len(data) > self.room:
            raise OSError(28, 'No space left on device')
        self.room -= len(data)
        return len(data)


def test_full_disk_of_a_file_object_is_a_clear_error(engine: Engine, bucket: str) -> None:
    transfers = engine()
    stored = transfers.upload(bucket, os.urandom(SMALL), name='n').result(30)
    with pytest.raises(ResourceError, match='no space left'):
        transfers.download(bucket, stored.id, FullDisk(300 * KIB)).result(30)
