"""When shards are fetched, when others in their place: one machine for paths, memory and streams.

The bridge and the farmers are in memory, the threads are real, and time passes only as tests say.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storj.erasure import ReedSolomon
from storj.exception import (
    FarmerUnreachableError,
    IntegrityError,
    SuppliedTokenNotAcceptedError,
    TransferCancelled,
)
from storj.model import File
from storj.transfer import Progress, RetryPolicy, TransferConfig, Transfers, gather
from storj.transfer.spool import Spool, UnfinishedFile
from tests.unit.fake_network import BUCKET, FakeBridge, FakeChannel, FakeClock

SHARD = 256 * 1024
PIECE = 16 * 1024
DATA_SHARDS, PARITY_SHARDS = 10, 7
WAIT = 20
LOOKS = 2000
WAYS = ('path', 'memory', 'stream')


class StandingClock(FakeClock):
    """Time that stands still, but for `step` seconds each time that a driver looks around."""

    def __init__(self) -> None:
        super().__init__()
        self.step = 0.0
        self.looks = 0
        self.looked = threading.Semaphore(0)

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        if seconds is None:
            assert condition.wait(WAIT), 'nothing happens any more'
            return
        condition.wait(0.002)
        self.time += self.step
        self.looks += 1
        self.looked.release()
        assert self.looks < LOOKS, 'nothing happens any more'


class Farmers(FakeChannel):
    """Counts the pulls of each shard; a test may hold some up, or let them fail."""

    def __init__(self, bridge: FakeBridge) -> None:
        super().__init__(bridge)
        self.pulls: Counter[int] = Counter()
        self._cancelled: dict[int, Callable[[], bool]] = {}
        self.refused = 0
        self.finished = 0
        self.after: Callable[[], object] = lambda: None
        self.parity_begun = threading.Semaphore(0)
        self.held: dict[int, threading.Event] = {}
        self.broken: set[int] = set()
        #: Called in the place of a pull: index of the shard, and where its bytes go.
        self.instead: dict[int, Callable[[Callable[[memoryview], Any]], object]] = {}

    def pull(
        self,
        pointer: Any,
        size: int,
        sink: Callable[[memoryview], Any],
        *,
        cancelled: Callable[[], bool] = lambda: False,
        **_: Any,
    ) -> None:
        index = pointer.index
        self.pulls[index] += 1
        self._cancelled[index] = cancelled
        if index >= DATA_SHARDS:
            self.parity_begun.release()
        if index in self.broken:
            raise FarmerUnreachableError(message='broke off')
        while index in self.held and not self.held[index].wait(0.002):
            if cancelled():
                raise TransferCancelled('interrupted')
        if index in self.instead:
            self.instead[index](sink)
        try:
            super().pull(pointer, size, sink)
        except SuppliedTokenNotAcceptedError:
            self.refused += 1
            raise
        self.finished += 1
        self.after()

    def cancelled(self, index: int, seconds: float) -> bool:
        """Wait until the pull of a shard is told to end."""
        ends = time.monotonic() + seconds
        while not self._cancelled[index]() and time.monotonic() < ends:
            time.sleep(0.001)
        return self._cancelled[index]()

    @property
    def parity(self) -> int:
        """How many pulls of parity shards there were."""
        return sum(count for index, count in self.pulls.items() if index >= DATA_SHARDS)


class Scene:
    """A stored file, its farmers, and engines with threads that download it."""

    def __init__(self, folder: Path, shards: int = DATA_SHARDS, *, parity: bool = True) -> None:
        self.folder = folder
        self.bridge = FakeBridge(farmers=DATA_SHARDS + PARITY_SHARDS)
        self.farmers = Farmers(self.bridge)
        self.clock = StandingClock()
        self.data = os.urandom(shards * SHARD - 100)
        with self.engine() as engine:
            upload = engine.upload(BUCKET, self.data, name='n', parity=parity)
            self.file: File = upload.result()
        self.bridge.calls.clear()
        self.hanging = threading.Event()
        self._release = threading.Event()

    def engine(self, **limits: Any) -> Transfers:
        config: dict[str, Any] = {
            'shard_size': SHARD,
            'piece_size': PIECE,
            'state_dir': self.folder / 'state',
            'temp_dir': self.folder,
            'bridge_retry': RetryPolicy(attempts=3, delay=1.0),
            'negotiations': 1,
            'reports': False,
            'flush_seconds': 0.0,
            **limits,
        }
        return Transfers(
            self.bridge, TransferConfig(**config), channel_for=self.farmers, clock=self.clock
        )

    def download(self, engine: Transfers, way: str, **options: Any) -> bytes:
        """Return the file as it came by a path, in memory, or as a stream."""
        if way == 'stream':
            return b''.join(engine.stream(BUCKET, self.file.id, **options))
        target = None if way == 'memory' else self.folder / 'out'
        came = engine.download(BUCKET, self.file.id, target, **options).result()
        return bytes(came.read() if target is None else target.read_bytes())

    def holder(self, index: int) -> str:
        """Return the node that has a shard."""
        return self.bridge.frames[self.file.frame.id][index][1]

    def keep_bridge_silent(self) -> None:
        """Let the bridge name no farmer in the place of one that failed until the scene ends."""
        answer = self.bridge.file_pointers

        def silent(*args: Any, exclude: Any = None, **options: Any) -> Any:
            if exclude:
                self.hanging.set()
                assert self._release.wait(WAIT)
            return answer(*args, exclude=exclude, **options)

        self.bridge.file_pointers = silent  # type: ignore[method-assign]

    def pass_time_after(self, pulls: int) -> None:
        """Let time stand still until so many shards came."""

        def finished() -> None:
            if self.farmers.finished == pulls:
                self.clock.step = 1.0

        self.farmers.after = finished

    def end(self) -> None:
        self._release.set()
        for held in self.farmers.held.values():
            held.set()


@pytest.fixture
def scene(tmp_path: Path) -> Any:
    scene = Scene(tmp_path)
    yield scene
    scene.end()


@pytest.mark.parametrize('way', WAYS)
def test_dead_farmers_cost_no_requests_and_nothing_twice(scene: Scene, way: str) -> None:
    scene.bridge.down = {scene.holder(2), scene.holder(5)}
    with scene.engine() as engine:
        assert scene.download(engine, way) == scene.data
    # One for the list, and perhaps one in the place of each pointer that led nowhere.
    assert scene.bridge.calls.count('file_pointers') <= 3
    assert len(scene.farmers.pulls) == DATA_SHARDS
    assert set(scene.farmers.pulls.values()) == {1}


@pytest.mark.parametrize('way', WAYS)
def test_farmer_in_trouble_brings_parity_at_once(scene: Scene, way: str) -> None:
    # Time stands still, and no other farmer is named: only the first failure can bring parity.
    scene.farmers.broken = {3}
    scene.keep_bridge_silent()
    engine = scene.engine()
    assert scene.download(engine, way) == scene.data
    assert scene.farmers.parity == 1
    scene.end()
    engine.close()


@pytest.mark.parametrize('way', WAYS)
def test_parity_in_trouble_brings_other_parity(scene: Scene, way: str) -> None:
    scene.farmers.broken = {3, 10, 11}
    scene.keep_bridge_silent()
    engine = scene.engine()
    assert scene.download(engine, way) == scene.data
    assert scene.farmers.parity == 3
    scene.end()
    engine.close()


@pytest.mark.parametrize('way', WAYS)
def test_farmer_much_slower_than_the_rest_is_overtaken(scene: Scene, way: str) -> None:
    scene.farmers.held = {4: threading.Event()}
    scene.pass_time_after(DATA_SHARDS - 1)
    with scene.engine(hedge_after=4.0) as engine:
        assert scene.download(engine, way) == scene.data
    assert scene.farmers.parity
    assert set(scene.farmers.pulls.values()) == {1}


@pytest.mark.parametrize('way', WAYS)
def test_slow_line_is_not_taken_for_slow_farmers(scene: Scene, way: str) -> None:
    scene.clock.step = 10.0
    scene.farmers.held = {index: threading.Event() for index in range(DATA_SHARDS)}
    came: list[bytes] = []
    with scene.engine(hedge_after=1.0) as engine:
        reader = threading.Thread(target=lambda: came.append(scene.download(engine, way)))
        reader.start()
        for _ in range(50):
            assert scene.clock.looked.acquire(timeout=WAIT)
        assert scene.farmers.parity == 0
        scene.clock.step = 0.0
        scene.end()
        reader.join(WAIT)
    assert came == [scene.data]
    assert scene.farmers.parity == 0


def test_stream_reacts_while_its_reader_is_busy_with_a_piece(scene: Scene) -> None:
    scene.farmers.broken = {2}
    scene.keep_bridge_silent()
    engine = scene.engine(look_ahead=2)
    pieces = engine.stream(BUCKET, scene.file.id)
    came = next(pieces)
    assert scene.hanging.wait(WAIT)
    # The reader is at the second of 16 pieces of the first shard.
    came += next(pieces)
    assert len(came) <= 2 * PIECE
    assert scene.farmers.parity_begun.acquire(timeout=WAIT)
    assert came + b''.join(pieces) == scene.data
    scene.end()
    engine.close()


@pytest.mark.parametrize('way', ['path', 'stream'])
def test_straggler_does_not_overwrite_what_was_computed(scene: Scene, way: str) -> None:
    go, wrote = threading.Event(), threading.Event()

    def wrong(sink: Callable[[memoryview], Any]) -> None:
        assert go.wait(WAIT)
        try:
            # Its hash would be checked at its end, which is too late.
            sink(memoryview(bytearray(SHARD)))
        finally:
            wrote.set()

    def tell(progress: Progress) -> None:
        if way == 'path' and progress.phase == 'finishing':
            go.set()
            assert wrote.wait(WAIT)

    scene.farmers.instead = {4: wrong}
    scene.pass_time_after(DATA_SHARDS - 1)
    with scene.engine(hedge_after=4.0) as engine:
        if way == 'path':
            assert scene.download(engine, way, progress=tell) == scene.data
        else:
            came = b''
            for piece in engine.stream(BUCKET, scene.file.id):
                came += piece
                if len(came) > 4 * SHARD and not go.is_set():
                    go.set()
                    assert wrote.wait(WAIT)
            assert came == scene.data
    assert wrote.is_set()


def test_computing_waits_for_a_write_that_is_under_way(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted, computed = threading.Event(), threading.Event()
    overtaken: list[bool] = []
    write = UnfinishedFile.write

    def slow(self: UnfinishedFile, offset: int, data: memoryview) -> None:
        if offset == 4 * SHARD and interrupted.is_set():
            computed.set()
        elif offset == 4 * SHARD:
            # The driver has no use for it any more, and must not go on before it has ended.
            assert scene.farmers.cancelled(4, WAIT)
            interrupted.set()
            overtaken.append(computed.wait(0.2))
        write(self, offset, data)

    monkeypatch.setattr(UnfinishedFile, 'write', slow)
    scene.pass_time_after(DATA_SHARDS - 1)
    with scene.engine(hedge_after=4.0) as engine:
        assert scene.download(engine, 'path') == scene.data
    assert computed.is_set()
    assert overtaken == [False]


@pytest.mark.parametrize('way', WAYS)
def test_computed_shard_must_have_the_hash_that_was_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    encode = ReedSolomon.encode

    def wrong(self: ReedSolomon, data: Any, parity: Any) -> None:
        encode(self, data, parity)
        parity[0][7] ^= 1

    with monkeypatch.context() as patch:
        patch.setattr(ReedSolomon, 'encode', wrong)
        scene = Scene(tmp_path)
    scene.bridge.down = {scene.holder(3)}
    with scene.engine() as engine, pytest.raises(IntegrityError, match='shard 3, computed'):
        scene.download(engine, way)
    assert not list(tmp_path.glob('out*'))


@pytest.mark.parametrize('kept', [2, gather.KEPT])
def test_stream_fetches_again_only_what_it_could_not_keep(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr(gather, 'KEPT', kept)
    scene.farmers.broken = {9, 16}
    scene.keep_bridge_silent()
    engine = scene.engine(look_ahead=1)
    came = b''
    for piece in engine.stream(BUCKET, scene.file.id):
        came += piece
        if len(came) == 8 * SHARD + PIECE:
            # Six were dropped by now: 6, 7, 8 and six of parity make nine of the ten needed.
            assert scene.hanging.wait(WAIT)
    assert came == scene.data
    twice = [index for index, count in scene.farmers.pulls.items() if count > 1]
    assert len(twice) == (1 if kept == 2 else 0)
    assert set(twice) <= set(range(6))
    # The token of the first time was used up.
    assert scene.farmers.refused == 0
    scene.end()
    engine.close()


@pytest.mark.parametrize('way', ['memory', 'stream'])
def test_stream_without_parity_takes_no_more_space_than_its_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    scene = Scene(tmp_path, 20, parity=False)
    ends: list[int] = []
    write = Spool.write

    def noted(self: Spool, offset: int, data: Any) -> None:
        ends.append(offset + len(data))
        write(self, offset, data)

    monkeypatch.setattr(Spool, 'write', noted)
    with scene.engine(look_ahead=3) as engine:
        assert scene.download(engine, way) == scene.data
    assert max(ends) <= 4 * SHARD
    assert set(scene.farmers.pulls.values()) == {1}


@pytest.mark.parametrize('way', WAYS)
def test_edges_of_a_range_are_fetched_once_for_a_repair(scene: Scene, way: str) -> None:
    scene.bridge.down = {scene.holder(1)}
    start, end = 100, 3 * SHARD + 5
    with scene.engine() as engine:
        assert scene.download(engine, way, start=start, end=end) == scene.data[start:end]
    assert len(scene.farmers.pulls) == DATA_SHARDS
    assert set(scene.farmers.pulls.values()) == {1}


@pytest.mark.parametrize('way', WAYS)
def test_empty_range_fetches_nothing(scene: Scene, way: str) -> None:
    with scene.engine() as engine:
        assert scene.download(engine, way, start=SHARD + 1, end=SHARD + 1) == b''
    assert not scene.farmers.pulls


def test_shards_of_a_broken_off_download_serve_a_repair(scene: Scene) -> None:
    scene.farmers.held = {index: threading.Event() for index in range(5, DATA_SHARDS)}
    enough = threading.Event()

    def tell(progress: Progress) -> None:
        if progress.shards == 5:
            enough.set()

    with scene.engine() as engine:
        future = engine.download(BUCKET, scene.file.id, scene.folder / 'out', progress=tell)
        assert enough.wait(WAIT)
        future.cancel()
        with pytest.raises(TransferCancelled):
            future.result()
    scene.end()
    scene.farmers.pulls.clear()
    scene.bridge.down = {scene.holder(7)}
    with scene.engine() as engine:
        assert scene.download(engine, 'path') == scene.data
    assert sum(scene.farmers.pulls.values()) == 5
