"""The public face of the engine: transfers that share pools, each with its future."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from storj.model import File, Frame
from storj.transfer.channel import channel_for as default_channel_for
from storj.transfer.config import (
    Bridge,
    BridgeReader,
    Destination,
    DownloadOptions,
    DownloadRequest,
    SourceLike,
    StreamOptions,
    TransferConfig,
    UploadOptions,
    UploadRequest,
    check_id,
)
from storj.transfer.coordinator import (
    Clock,
    Coordinator,
    Meter,
    Progress,
    ProgressCallback,
    SystemClock,
)
from storj.transfer.download import FileDownload, StreamDownload
from storj.transfer.gather import FileHealth, Verification
from storj.transfer.journal import identity, state_left
from storj.transfer.scope import ChannelFactory, Pools, Resources, Scope
from storj.transfer.spool import is_file
from storj.transfer.upload import Upload

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar('T')
B_co = TypeVar('B_co', bound=BridgeReader, covariant=True)


class Transfers(Generic[B_co]):
    """Pools of threads, and the transfers that share them.

    Threads begin as they are needed. Close it, or use it as a context manager, to end them; a
    transfer that is still under way then is cancelled.

    Args:
        bridge (BridgeReader): client of the bridge, such as :class:`storj.http.Client`; uploads
            need a :class:`storj.transfer.Bridge`.
        config (TransferConfig): every limit.
        channel_for (Callable): makes the channel to a pointer's farmer.
        clock (Clock | None): time and chance.
        serial (bool): run everything in the caller's thread: no threads, no speed; for tests.

    Attributes:
        bridge (BridgeReader): as given.
        config (TransferConfig): as given.
    """

    def __init__(
        self,
        bridge: B_co,
        config: TransferConfig | None = None,
        *,
        channel_for: ChannelFactory = default_channel_for,
        clock: Clock | None = None,
        serial: bool = False,
    ) -> None:
        self.config = config or TransferConfig()
        self.bridge = bridge
        pools = Pools.serial() if serial else Pools.threads(self.config)
        self._resources = Resources(bridge, self.config, pools, channel_for, clock or SystemClock())
        self._lock = threading.Lock()
        # A fork has the pools and none of their threads.
        self._process = os.getpid()
        self._closed = False
        # Weak: a transfer without references and threads has ended.
        self._active: weakref.WeakSet[Coordinator[Any]] = weakref.WeakSet()
        # Of these, those that end without their callers' doing.
        self._driven: weakref.WeakSet[Coordinator[Any]] = weakref.WeakSet()

    def upload(
        self: Transfers[Bridge],
        bucket_id: str,
        source: SourceLike,
        *,
        frame: Frame | str | None = None,
        existing: Sequence[str] | None = None,
        progress: ProgressCallback | None = None,
        **options: Unpack[UploadOptions],
    ) -> TransferFuture[File]:
        """Begin an upload.

        Args:
            bucket_id (str): 24 hex digits.
            source (str | PathLike | bytes | BinaryIO | Iterable[bytes] | File): what to store. A
                file object is read from its position on and is left open; one that can be read
                only once is spooled, encrypted, first.
            frame (Frame | str | None): an empty one to use; a new one by default.
            existing (Sequence[str] | None): ids of the files that have this name, encrypted or in
                the clear, for a caller that has listed the bucket; by default the bridge is asked.
            progress (ProgressCallback | None): called with each new state.
            **options (Unpack[UploadOptions]): how it is stored: ``name``, ``mimetype``,
                ``encrypt``, ``encrypt_name``, ``parity``, ``resume``, ``overwrite``; see
                :class:`storj.transfer.UploadOptions`.

        Returns:
            TransferFuture[File]: of the file's entry.

        Raises:
            ValueError: If the transfers are closed or the bucket id is no text.

        The future's result raises :class:`storj.exception.AlreadyExistsError` for a name that is
        taken, ``MnemonicError`` without an encryption key, ``TransferError`` with all causes when
        shards could not be stored, ``SourceChangedError`` when the source changed meanwhile,
        ``ResumeMismatchError`` when the upload was begun before with another encryption key.
        """
        request = UploadRequest(bucket_id, source, frame, existing, **options)
        return self._begin(
            lambda scope: Upload(scope, self.bridge, request).run,
            progress,
        )

    def download(
        self,
        bucket_id: str,
        file_id: str,
        destination: Destination = None,
        *,
        described: File | None = None,
        progress: ProgressCallback | None = None,
        **options: Unpack[DownloadOptions],
    ) -> TransferFuture[Any]:
        """Begin a download.

        Args:
            bucket_id (str): 24 hex digits.
            file_id (str): 24 hex digits.
            destination (str | PathLike | BinaryIO | None): a path, which gets its file when it is
                whole; a binary file object, which is written in order; None for memory.
            described (File | None): the file with its index and HMAC, for a caller that has listed
                the bucket: a request less. The bridge is asked if it does not fit the shards.
            progress (ProgressCallback | None): called with each new state.
            **options (Unpack[DownloadOptions]): what is fetched, and how: ``start``, ``end``,
                ``decrypt``, ``key``, ``resume``, ``overwrite``; see
                :class:`storj.transfer.DownloadOptions`.

        Returns:
            TransferFuture: of the path, the file object, or a BytesIO at position 0.

        Raises:
            ValueError: If the transfers are closed or an id is no text.
            TypeError: If the destination is none of these.

        The future's result raises :class:`storj.exception.NotEnoughShardsError` when too many
        farmers are gone, ``DecryptionError`` for the wrong mnemonic, ``IntegrityError`` for a
        bridge that contradicts itself, ``UnauthenticatedError`` for a file without an HMAC under
        its key, ``FileExistsError`` where nothing may be replaced.
        """
        request = DownloadRequest(bucket_id, file_id, described=described, **options)
        path_or_none = destination is None or isinstance(destination, (str, os.PathLike))
        if not path_or_none and not hasattr(destination, 'write'):
            raise TypeError(
                f'a destination is a path, a binary file or None, not {type(destination).__name__}'
            )

        def work(scope: Scope) -> Callable[[], Any]:
            if isinstance(destination, (str, os.PathLike)):
                return FileDownload(scope, request, destination).run
            stream = StreamDownload(scope, request)
            return stream.collect if destination is None else lambda: stream.deliver(destination)

        return self._begin(work, progress)

    def stream(
        self,
        bucket_id: str,
        file_id: str,
        *,
        progress: ProgressCallback | None = None,
        **options: Unpack[StreamOptions],
    ) -> Iterator[bytes]:
        """Return the bytes of a file in order, while shards ahead of them are fetched.

        Errors as of :meth:`download`. Each shard is checked before its first byte is yielded.
        Closing the iterator ends the transfer.

        Args:
            bucket_id (str): 24 hex digits.
            file_id (str): 24 hex digits.
            progress (ProgressCallback | None): called with each new state.
            **options (Unpack[StreamOptions]): what is fetched: ``start``, ``end``, ``decrypt``,
                ``key``; see :class:`storj.transfer.StreamOptions`.

        Returns:
            Iterator[bytes]: pieces of ``TransferConfig.piece_size`` at most.
        """
        return self._pieces(DownloadRequest(bucket_id, file_id, **options), progress)

    def _pieces(
        self, request: DownloadRequest, progress: ProgressCallback | None
    ) -> Iterator[bytes]:
        coordinator: Coordinator[None] = Coordinator(self._resources.clock, self.config.deadline)
        scope = self._register(coordinator, progress)
        with coordinator.driving():
            coordinator.check()
            for piece in StreamDownload(scope, request).pieces():
                yield bytes(piece)
        coordinator.result()

    def verify(
        self,
        bucket_id: str,
        file_id: str,
        *,
        decrypt: bool = True,
        progress: ProgressCallback | None = None,
    ) -> FileHealth:
        """Pull and hash every shard of a file, and keep none.

        With an encryption key, the file's HMAC is checked first: it proves that the bridge lists
        the shards that were stored.

        Args:
            bucket_id (str): 24 hex digits.
            file_id (str): 24 hex digits.
            decrypt (bool): False for a file that was stored without encryption: shards only.
            progress (ProgressCallback | None): called with each new state.

        Returns:
            FileHealth: which shards are healthy, on which farmers.

        Raises:
            StorjError: If the bridge does not list the shards.
            IntegrityError: If their HMAC is missing or wrong.
            DecryptionError: If the client's encryption key is not the file's.
        """
        check_id(bucket_id, 'bucket')
        check_id(file_id, 'file')
        future = self._begin(
            lambda scope: Verification(scope, bucket_id, file_id, decrypt=decrypt).run,
            progress,
        )
        return wait_for(future)

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Run a step that precedes or follows a transfer, in the threads that drive transfers.

        Steps and transfers take turns in the order in which they were submitted, so a program that
        moves many files needs no threads of its own. A step must not wait for a transfer.

        Args:
            function (Callable[[], T]): called once.

        Returns:
            Future[T]: of its value; cancelled if the engine is closed before its turn.

        Raises:
            TransferError: If the engine is closed.
        """
        return self._resources.pools.drivers.submit(function)

    def frame_left(self, bucket_id: str, name: str, path: str | os.PathLike[str]) -> str | None:
        """Return the frame of an upload that was interrupted, None if nothing is known of one.

        A file with this frame is the one of that upload: the same call finds that it is done.

        Args:
            bucket_id (str): 24 hex digits.
            name (str): of the file, in the clear.
            path (str | PathLike): of the source; '' for one that has none.
        """
        source = os.fspath(path) and str(Path(path).absolute())
        bridge = self._resources.bridge
        state = state_left(self.config, identity('upload', bridge, bucket_id, name, source))
        frame = state.get('frame')
        return frame if isinstance(frame, str) else None

    def is_downloaded(self, bucket_id: str, file_id: str, path: str | os.PathLike[str]) -> bool:
        """Return whether a file at a path was made by a download, interrupted at its very end.

        The same call finds that it is done.

        Args:
            bucket_id (str): 24 hex digits.
            file_id (str): 24 hex digits.
            path (str | PathLike): the destination.
        """
        target = Path(path).absolute()
        bridge = self._resources.bridge
        state = state_left(
            self.config, identity('download', bridge, bucket_id, file_id, str(target))
        )
        return is_file(target, state.get('inode'), state.get('whole'))

    def _begin(
        self,
        work: Callable[[Scope], Callable[[], T]],
        progress: ProgressCallback | None,
    ) -> TransferFuture[T]:
        coordinator: Coordinator[T] = Coordinator(self._resources.clock, self.config.deadline)
        scope = self._register(coordinator, progress)
        with self._lock:
            self._driven.add(coordinator)
        coordinator.begin_drive(self._resources.pools.drivers, work(scope))
        return TransferFuture(coordinator, scope.meter)

    def _register(self, coordinator: Coordinator[Any], progress: ProgressCallback | None) -> Scope:
        meter = Meter(self._resources.clock, progress)
        if os.getpid() != self._process:
            raise ValueError(
                'the threads of these transfers are those of the process before a fork'
            )
        with self._lock:
            if self._closed:
                raise ValueError('the transfers are closed')
            self._active.add(coordinator)
        # The first one registered runs last: the phase changes when everything else is done.
        coordinator.clean_up(lambda: meter.conclude(coordinator.error))
        return Scope(self._resources, coordinator, meter)

    def cancel(self) -> None:
        """Cancel what is under way, and send the reports that wait; nothing can be begun any more.

        Takes ``TransferConfig.flush_seconds`` at most.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            active, driven = list(self._active), list(self._driven)
        for coordinator in active:
            coordinator.cancel()
        clock, pools = self._resources.clock, self._resources.pools
        until = clock.now() + self.config.flush_seconds
        # What they leave to do in the background is known when they have ended. One whose callback
        # this is does not end before the callback.
        for coordinator in () if pools.inside else driven:
            coordinator.wait(until - clock.now())
        self._resources.background.flush(until - clock.now())

    def close(self) -> None:
        """Cancel as :meth:`cancel` does, and wait for all threads to end.

        A thread whose request the bridge does not answer ends when that is given up, or when
        :meth:`storj.http.Client.close` breaks it off. One that an iterator keeps waiting is left to
        it.
        """
        self.cancel()
        self._resources.pools.close()

    def __enter__(self) -> Transfers[B_co]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def wait_for(future: TransferFuture[T]) -> T:
    """Return a transfer's result; an interrupt of this thread cancels the transfer.

    Raises:
        BaseException: If it failed, with the error that ended it; or KeyboardInterrupt (Ctrl-C), or
            what a handler of another signal raised, after the transfer ended and cleaned up.
    """
    try:
        return future.result()
    except BaseException:
        future.cancel()
        future.wait()
        raise


class TransferFuture(Generic[T]):
    """A transfer that was begun; made by :class:`storj.transfer.Transfers`."""

    def __init__(self, coordinator: Coordinator[T], meter: Meter) -> None:
        self._coordinator = coordinator
        self._meter = meter

    def __repr__(self) -> str:
        return f'<TransferFuture {self._meter.snapshot().phase}>'

    def result(self, timeout: float | None = None) -> T:
        """Wait for the end.

        Args:
            timeout (float | None): seconds to wait at most; without a limit by default.

        Returns:
            The result: the File of an upload, the destination of a download.

        Raises:
            TimeoutError: If the transfer is still under way; it continues.
            TransferCancelled: If it was cancelled.
            StorjError: If anything else ended it; see :class:`storj.exception.TransferError`.
            OSError: If a local file could not be read or written.
        """
        return self._coordinator.result(timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end and leave the result alone.

        Args:
            timeout (float | None): seconds to wait at most; without a limit by default.

        Returns:
            bool: whether it has come.
        """
        return self._coordinator.wait(timeout)

    def done(self) -> bool:
        """Return whether the transfer has ended, in whatever way."""
        return self._coordinator.settled

    def cancel(self) -> bool:
        """Ask the transfer to end; it does within a second.

        Returns:
            bool: False if it has ended already. The result still counts if it came at that moment.
        """
        return self._coordinator.cancel()

    @property
    def progress(self) -> Progress:
        """How far the transfer is, at this moment."""
        return self._meter.snapshot()

    def add_done_callback(self, callback: Callable[[TransferFuture[T]], object]) -> None:
        """Call something with this future at the end, at once if it has come.

        It runs in a thread of the engine; its errors are logged. It must not wait for another
        transfer, which may need that thread.
        """
        self._coordinator.when_settled(lambda: callback(self))

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the end in an event loop; cancelling the wait cancels the transfer."""
        return self._awaited().__await__()

    async def _awaited(self) -> T:
        # Few programs have an event loop, and all would wait for the import.
        import asyncio

        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        self.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
        try:
            await ended.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self.result()
