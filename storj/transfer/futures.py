"""What a caller holds while a transfer is under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from storj.transfer.coordinator import Coordinator
from storj.transfer.progress import Meter, Progress

__all__ = ('TransferFuture',)

T = TypeVar('T')


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
            timeout (float | None): seconds to wait at most; for ever by default.

        Returns:
            What the transfer brought: the File of an upload, the destination of a download.

        Raises:
            TimeoutError: if the transfer is still under way; it goes on.
            TransferCancelled: if it was cancelled.
            StorjError: what ended it otherwise; see :class:`storj.exception.TransferError`.
            OSError: if a local file could not be read or written.
        """
        return self._coordinator.result(timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end and leave the result alone.

        Args:
            timeout (float | None): seconds to wait at most; for ever by default.

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
