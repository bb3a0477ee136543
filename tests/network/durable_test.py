"""What bridge and MetaDisk node confirm is on the disk before."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storj.exception import StorjError
from storj.metadisk import MetaDisk
from storj.network import Network
from storj.system import atomic_file
from tests.network.bridges import Account, RunningBridge


class Flushes:
    """Which files were forced to the disk, by their names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.failure: OSError | None = None
        sync = atomic_file.sync_file

        def spy(path: Path) -> None:
            self.names.append(path.name)
            if self.failure is not None:
                raise self.failure
            sync(path)

        monkeypatch.setattr(atomic_file, 'sync_file', spy)

    @contextmanager
    def expected(self, *names: str) -> Iterator[None]:
        self.names.clear()
        yield
        assert sorted(set(self.names)) == sorted(names)


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> Flushes:
    return Flushes(monkeypatch)


def test_entry_and_not_its_steps_wait_for_the_disk(tmp_path: Path, flushes: Flushes) -> None:
    with RunningBridge(tmp_path, durable=True) as bridge:
        alice = bridge.account()
        bridge.farmer()
        with flushes.expected('bridge.db-wal'):
            bucket = bridge.bucket(alice)
        with flushes.expected():
            frame = bridge.frame(alice)
            bridge.add_shard(alice, frame)
        body = {'frame': frame, 'filename': 'cat.jpg'}
        with flushes.expected('bridge.db-wal'):
            answer = bridge.request('POST', f'/buckets/{bucket}/files', body, by=alice)
            assert answer.status == 200
        with flushes.expected():
            assert bridge.request('GET', f'/buckets/{bucket}/files', by=alice).status == 200
        file = answer.json['id']
        with flushes.expected('bridge.db-wal'):
            path = f'/buckets/{bucket}/files/{file}'
            assert bridge.request('DELETE', path, by=alice).status == 204


def test_bridge_without_sync_leaves_it_to_the_system(
    bridge: RunningBridge, alice: Account, flushes: Flushes
) -> None:
    with flushes.expected():
        bridge.bucket(alice)


def test_database_in_memory_needs_no_disk(tmp_path: Path, flushes: Flushes) -> None:
    with (
        RunningBridge(tmp_path, durable=True, database_url='sqlite://') as bridge,
        flushes.expected(),
    ):
        bridge.bucket(bridge.account())


def test_nothing_is_confirmed_that_the_disk_refuses(
    tmp_path: Path, flushes: Flushes, caplog: pytest.LogCaptureFixture
) -> None:
    with RunningBridge(tmp_path, durable=True) as bridge:
        alice = bridge.account()
        flushes.failure = OSError(errno.EIO, 'Input/output error')
        for name in ('photos', 'music'):
            answer = bridge.request('POST', '/buckets', {'name': name}, by=alice)
            assert (answer.status, answer.json) == (500, {'error': 'Internal error'})
            flushes.failure = None
        assert bridge.request('GET', '/buckets', by=alice).status == 200
    assert 'Input/output error' in caplog.text


def test_node_confirms_files_and_balances_from_the_disk(tmp_path: Path, flushes: Flushes) -> None:
    with (
        Network(farmers=1, data=tmp_path, bridge={'mirrors': 0}) as network,
        MetaDisk(network.bridge_url) as node,
    ):
        flushes.names.clear()
        reference = node.upload(b'content')
        assert {'bridge.db-wal', 'farmer.db-wal'} <= set(flushes.names)
        output = io.BytesIO()
        node.download(reference, output)
        assert output.getvalue() == b'content'
        flushes.failure = OSError(errno.EIO, 'Input/output error')
        with pytest.raises(StorjError):
            node.upload(b'other content')
