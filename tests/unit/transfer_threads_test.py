"""Threads of the engine: they begin and end as there are tasks, and say why they cannot begin."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from storj.exception import ResourceError, TransferError
from storj.transfer import TransferConfig, Transfers
from storj.transfer.scope import OwnThreads, Pools, ThreadPool
from tests.unit.fake_network import BUCKET, FakeBridge, FakeChannel

WAIT = 20


class Held:
    """Tasks that run until they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.threads: set[threading.Thread] = set()

    def __call__(self) -> None:
        self.threads.add(threading.current_thread())
        self.begun.release()
        assert self.go.wait(WAIT)


@pytest.fixture
def held() -> Any:
    held = Held()
    yield held
    held.go.set()


def no_thread(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize('linger', [0.0, 60.0])
def test_no_more_threads_than_the_width_run_tasks(held: Held, linger: float) -> None:
    pool = ThreadPool('test', 2, linger)
    futures = [pool.submit(held) for _ in range(5)]
    for _ in range(2):
        assert held.begun.acquire(timeout=WAIT)
    assert not held.begun.acquire(blocking=False)
    held.go.set()
    for future in futures:
        assert future.result(WAIT) is None
    assert len(held.threads) == 2
    pool.shutdown()
    assert not any(thread.is_alive() for thread in held.threads)


@pytest.mark.parametrize('awaited', [True, False])
def test_idle_thread_takes_the_next_task(awaited: bool) -> None:
    pool = ThreadPool('test', 4, 60.0, awaited=awaited)
    threads = {pool.submit(threading.current_thread).result(WAIT) for _ in range(5)}
    # A thread counts as idle a moment after its task is done.
    assert len(threads) <= 2
    assert all(thread.daemon is not awaited for thread in threads)
    pool.shutdown()


def test_thread_without_tasks_ends_where_none_lingers() -> None:
    pool = ThreadPool('test', 4, 0.0, awaited=True)
    thread = pool.submit(threading.current_thread).result(WAIT)
    thread.join(WAIT)
    assert not thread.is_alive()
    # The interpreter waits for it at its exit.
    assert not thread.daemon
    assert pool.submit(threading.current_thread).result(WAIT) is not thread


def test_reports_of_many_small_files_begin_no_thread_each() -> None:
    pools = Pools.threads(TransferConfig())
    threads = {pools.background.submit(threading.current_thread).result(WAIT) for _ in range(9)}
    assert len(threads) <= 2
    assert not any(thread.daemon for thread in threads)
    pools.close()


def test_error_of_a_task_is_its_futures_and_ends_no_thread() -> None:
    pool = ThreadPool('test', 1, 60.0)
    failed = pool.submit(int, 'x')
    with pytest.raises(ValueError, match='invalid literal'):
        failed.result(WAIT)
    assert pool.submit(int, '5').result(WAIT) == 5
    pool.shutdown()


def test_tasks_that_did_not_begin_are_dropped_on_demand(held: Held) -> None:
    pool = ThreadPool('test', 1, 60.0)
    running = pool.submit(held)
    assert held.begun.acquire(timeout=WAIT)
    waiting = pool.submit(held)
    pool.shutdown(wait=False, cancel_futures=True)
    assert waiting.cancelled()
    held.go.set()
    assert running.result(WAIT) is None
    with pytest.raises(TransferError, match='closed'):
        pool.submit(held)


def test_pool_without_a_thread_says_that_none_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, own = ThreadPool('test', 2, 60.0), OwnThreads()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', no_thread)
        for executor in (pool, own):
            with pytest.raises(ResourceError, match='no thread can be started'):
                executor.submit(int)
    # What was refused is not done later.
    order: list[int] = []
    pool.submit(order.append, 1).result(WAIT)
    assert order == [1]
    pool.shutdown()


def test_pool_with_a_thread_makes_do_with_it(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ThreadPool('test', 2, 60.0)
    first = pool.submit(held)
    assert held.begun.acquire(timeout=WAIT)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', no_thread)
        second = pool.submit(int)
    held.go.set()
    assert first.result(WAIT) is None
    assert second.result(WAIT) == 0
    pool.shutdown()


def engine(folder: Path, **limits: Any) -> Transfers:
    bridge = FakeBridge()
    config = TransferConfig(state_dir=folder, temp_dir=folder, flush_seconds=0.0, **limits)
    return Transfers(bridge, config, channel_for=FakeChannel(bridge))


def test_transfer_says_that_no_thread_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine(tmp_path) as transfers:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, 'start', no_thread)
            future = transfers.upload(BUCKET, b'data', name='n')
            with pytest.raises(ResourceError, match='no thread can be started'):
                future.result(WAIT)
            with pytest.raises(ResourceError, match='no thread can be started'):
                b''.join(transfers.stream(BUCKET, 'f'))
        # The machine has threads again.
        stored = transfers.upload(BUCKET, b'data', name='n').result(WAIT)
        assert transfers.download(BUCKET, stored.id).result(WAIT).read() == b'data'


def test_shard_of_a_small_file_is_brought_away_by_one_thread(tmp_path: Path) -> None:
    with engine(tmp_path, reports=False) as transfers:
        bridge = transfers.bridge
        assert isinstance(bridge, FakeBridge)
        threads: dict[str, str] = {}
        bridge.before = lambda name: threads.update({name: threading.current_thread().name})
        file = transfers.upload(BUCKET, b'content', name='n', existing=()).result(WAIT)
        assert transfers.download(BUCKET, file.id).result(WAIT).read() == b'content'
    assert threads['frame_create'] == threads['frame_add_shard']
    assert threads['file_create'] != threads['frame_create']


def test_transfer_that_loses_its_threads_in_the_middle_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def only_drivers(self: threading.Thread) -> None:
        if 'transfer' not in self.name:
            no_thread(self)
        start(self)

    with engine(tmp_path) as transfers:
        monkeypatch.setattr(threading.Thread, 'start', only_drivers)
        future = transfers.upload(BUCKET, b'data', name='n')
        with pytest.raises(ResourceError, match='no thread can be started'):
            future.result(WAIT)
    assert list(tmp_path.iterdir()) == []


def test_engine_that_is_dropped_leaves_no_threads(tmp_path: Path) -> None:
    # A program need not close its client: threads that wait for tasks end by themselves.
    pool = ThreadPool('storj-test', 2, 0.01)
    thread = pool.submit(threading.current_thread).result(WAIT)
    thread.join(WAIT)
    assert not thread.is_alive()
    assert pool.submit(int).result(WAIT) == 0
