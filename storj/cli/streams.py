"""The process around a command: standard streams and signals.

A command that cannot print everything fails. A write to a pipe may take only a part of its data
(Python repeats it only for buffered streams), and a stream that another process made non-blocking
may take nothing for a while. So ``sys.stdout``, ``sys.stderr`` and ``sys.stdin`` are replaced while
a command runs, and everything that prints, libraries too, writes through one loop here. Characters
that a stream cannot encode become escapes.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, NoReturn, TextIO

from storj.catalog.errors import UsageProblem
from storj.cli.errors import INTERRUPTED, TERMINATED, CommandError, Terminated
from storj.cli.output import is_terminal
from storj.exception import TransferCancelled

#: Seconds between two looks whether the reading of standard input is to end.
_LOOK = 0.2
_PIECE = 256 * 1024


class StreamFailed(CommandError):
    """A standard stream cannot be written, or not be read."""

    def __init__(self, what: str, error: OSError) -> None:
        super().__init__(f'cannot {what}: {error.strerror or error}', hint='')
        self.errno = error.errno

    @property
    def reader_gone(self) -> bool:
        """Whether the reader of the stream has gone."""
        return self.errno in (errno.EPIPE, errno.ESHUTDOWN)


@contextmanager
def failures_told() -> Iterator[None]:
    """Raise a stream's failure as the system's: a server decides what it means, and continues.

    Raises:
        OSError: If a standard stream fails within.
    """
    try:
        yield
    except StreamFailed as error:
        raise OSError(error.errno, str(error)) from error


class _Raw(io.RawIOBase):
    """A stream that stands in for the one below, ``raw``."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def fileno(self) -> int:
        number: int = self._raw.fileno()
        return number

    def isatty(self) -> bool:
        return bool(self._raw.isatty())


class _Writer(_Raw):
    """Writes all that it is given, however little the stream below takes at a time.

    After a failure the rest is dropped: ``failure`` says at the end that something is missing.

    Args:
        raw (Any): the stream below.
        name (str): of the stream, for the message.
        fatal (bool): raise the failure. Notes that cannot be printed are no reason to break off a
            transfer, so standard error only remembers it.
    """

    def __init__(self, raw: Any, name: str, *, fatal: bool) -> None:
        super().__init__(raw)
        self._name = name
        self._fatal = fatal
        self.failure: StreamFailed | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast('B')
        size = rest.nbytes
        try:
            while rest and self.failure is None:
                count = self._raw.write(rest)
                if count is None:
                    select.select([], [self._raw], [])
                else:
                    rest = rest[count:]
        except OSError as error:
            self.failure = StreamFailed(f'write to {self._name}', error)
            if self._fatal:
                raise self.failure from error
        return size


class _Reader(_Raw):
    """Waits for input where the stream below is non-blocking."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            while (count := self._raw.readinto(buffer)) is None:
                select.select([self._raw], [], [])
        except OSError as error:
            raise StreamFailed('read standard input', error) from error
        size: int = count
        return size


class StandardStreams:
    """Context in which the standard streams write everything or fail."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._writers: list[_Writer] = []
        self._output_closed = False

    def __enter__(self) -> StandardStreams:
        before = sys.stdin, sys.stdout, sys.stderr
        self._stack.callback(_restore, *before)
        self._output_closed = sys.stdout is None
        if None in before:
            _occupy_numbers()
        if sys.stdin is not None:
            sys.stdin = self._reading(sys.stdin)
        sys.stdout = self._writing(sys.stdout, 'standard output', fatal=True)
        sys.stderr = self._writing(sys.stderr, 'standard error', fatal=False)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def check(self) -> None:
        """Refuse to run without standard output: no command is of use whose answer is lost.

        Raises:
            UsageProblem: If it is closed.
        """
        if self._output_closed:
            raise UsageProblem(
                'standard output is closed', hint=f"to discard it, write '> {os.devnull}'"
            )

    @property
    def failed(self) -> bool:
        """Whether something that was printed did not arrive."""
        return any(writer.failure for writer in self._writers)

    def _writing(self, stream: TextIO | None, name: str, *, fatal: bool) -> Any:
        if stream is None:
            # The user wants nothing from a closed stream; what is printed has to go somewhere.
            return self._stack.enter_context(Path(os.devnull).open('w', encoding='utf-8'))
        binary = getattr(stream, 'buffer', None)
        if binary is None:
            return stream
        stream.flush()
        writer = _Writer(getattr(binary, 'raw', binary), name, fatal=fatal)
        self._writers.append(writer)
        # No buffer in between: after an interrupt it would write what has arrived already again.
        target: Any = writer
        return io.TextIOWrapper(target, stream.encoding, 'backslashreplace', write_through=True)

    def _reading(self, stream: TextIO) -> Any:
        binary = getattr(stream, 'buffer', None)
        if binary is None:
            return stream
        reader = io.BufferedReader(_Reader(getattr(binary, 'raw', binary)))
        return io.TextIOWrapper(reader, stream.encoding, stream.errors)


def standard_input() -> BinaryIO:
    """Return standard input.

    Raises:
        UsageProblem: If it is closed.
    """
    if sys.stdin is None:
        raise UsageProblem(
            'standard input is closed', hint=f"for an empty one, write '< {os.devnull}'"
        )
    return sys.stdin.buffer


def input_pieces(stopping: threading.Event) -> Iterable[bytes] | BinaryIO:
    """Return standard input, read so that Ctrl-C does not wait for its writer.

    Raises:
        UsageProblem: If standard input is closed.
    """
    stream = standard_input()
    try:
        stream.fileno()
    except (OSError, ValueError):
        return stream
    return stream if os.name == 'nt' else _pieces(stream, stopping)


def _pieces(stream: Any, stopping: threading.Event) -> Iterator[bytes]:
    while not stopping.is_set():
        # Not a selector: epoll takes no regular file.
        if select.select([stream], [], [], _LOOK)[0]:
            piece: bytes = stream.read1(_PIECE)
            if not piece:
                return
            yield piece
    raise TransferCancelled('the upload was interrupted')


def _restore(stdin: Any, stdout: Any, stderr: Any) -> None:
    sys.stdin, sys.stdout, sys.stderr = stdin, stdout, stderr


def _occupy_numbers() -> None:
    """Open the null device in place of closed streams.

    The next file or socket would get their numbers, and then what a library or a child process
    prints there.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


#: Shows the cursor, which a progress bar may have hidden.
_SHOW_CURSOR = '\x1b[?25h'


@contextmanager
def interrupts() -> Iterator[None]:
    """Turn the first SIGINT into KeyboardInterrupt and the first SIGTERM into Terminated.

    Whatever the command waits for is then cancelled and journals are written. Another signal ends
    the process on the spot: nothing may keep a person waiting twice. A signal that the parent
    process had ignored (``nohup``, a job in the background) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            _leave(TERMINATED if number == signal.SIGTERM else INTERRUPTED)
        asked = True
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before = {
        number: signal.signal(number, handle)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(status: int) -> NoReturn:
    """End the process without winding anything up but the terminal."""
    if is_terminal(sys.stderr):
        os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())
    os._exit(status)
