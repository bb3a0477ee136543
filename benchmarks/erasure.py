"""Erasure coding: our backends beside libstorj's own C, in MB of data per second.

Run it by ``python -m benchmarks.erasure``. All code the same random bytes in turn, so that a busy
moment of the machine meets each of them; the median of the rounds is told. libstorj is called
through ctypes, where its library is installed (Debian: ``libstorj0``).
"""

from __future__ import annotations

import ctypes
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.measure import MIB, table
from storj.erasure import ReedSolomon, available_backends

#: Data and parity shards: what libstorj's rule makes of files of 8, 20 and 32 MiB.
CODES = ((4, 3), (10, 7), (16, 11))
SHARD_SIZE = MIB
#: Bytes of each shard that an upload codes at a time.
STEP = 256 * 1024
ROUNDS = 25


@dataclass(frozen=True)
class Row:
    """One coder at one code.

    Attributes:
        data_shards (int): of the code.
        parity_shards (int): of the code.
        coder (str): a backend of ours, or ``libstorj``.
        encode (float): bytes of data per second that got their parity.
        repair (float | None): bytes of data per second, with as many data shards lost as there can
            be; None where it was not measured.
        alike (bool): whether the parity equals that of our first backend.
    """

    data_shards: int
    parity_shards: int
    coder: str
    encode: float
    repair: float | None
    alike: bool


Job = Callable[[], object]


class _Ours:
    """A backend of ours, stripe by stripe as in an upload.

    An upload reads each stripe into the same buffers, so only the coding of stripes that lie there
    is measured.
    """

    def __init__(self, backend: str, data: list[bytearray], parity_shards: int) -> None:
        self.name = backend
        self._data = data
        self.parity = [bytearray(SHARD_SIZE) for _ in range(parity_shards)]
        self._coder = ReedSolomon(len(data), parity_shards, backend=backend)
        self._stripe = [bytearray(STEP) for _ in range(len(data) + parity_shards)]
        self._repaired = [bytearray(STEP) for _ in range(min(len(data), parity_shards))]

    def _stripes(self) -> Iterator[slice]:
        """Yield where each stripe lies, its data being in the buffers."""
        for start in range(0, SHARD_SIZE, STEP):
            where = slice(start, start + STEP)
            for buffer, shard in zip(self._stripe, self._data, strict=False):
                buffer[:] = shard[where]
            yield where

    def encode(self) -> float:
        """Make the parity; return the seconds."""
        seconds = 0.0
        data, parity = self._stripe[: len(self._data)], self._stripe[len(self._data) :]
        for where in self._stripes():
            seconds += _seconds(lambda: self._coder.encode(data, parity))
            for shard, buffer in zip(self.parity, parity, strict=True):
                shard[where] = buffer
        return seconds

    def repair(self) -> float:
        """Compute as many data shards as there can be lost; return the seconds."""
        seconds = 0.0
        lost = len(self._repaired)
        have = {i: buffer for i, buffer in enumerate(self._stripe) if i >= lost}
        want = dict(enumerate(self._repaired))
        for where in self._stripes():
            for shard, buffer in zip(self.parity, self._stripe[len(self._data) :], strict=True):
                buffer[:] = shard[where]
            seconds += _seconds(lambda: self._coder.repair(have, want))
            if self._repaired != self._stripe[:lost]:
                raise RuntimeError(f'{self.name} repaired wrongly')
        return seconds


class _LibStorj:
    """libstorj's coder, whole shards at once as it codes them."""

    name = 'libstorj'

    def __init__(self, library: ctypes.CDLL, data: list[bytearray], parity_shards: int) -> None:
        pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64
        library.fec_init()
        library.reed_solomon_new.restype = pointer
        library.reed_solomon_release.argtypes = [pointer]
        library.reed_solomon_encode2.argtypes = [pointer, pointer, pointer, number, size, size]
        self.parity = [bytearray(SHARD_SIZE) for _ in range(parity_shards)]
        self._library = library
        self._shards = len(data) + parity_shards
        self._size = len(data) * SHARD_SIZE
        self._read, self._written = self._addresses(data), self._addresses(self.parity)
        self._coder = library.reed_solomon_new(len(data), parity_shards)

    @staticmethod
    def _addresses(buffers: list[bytearray]) -> ctypes.Array[ctypes.c_void_p]:
        views = [(ctypes.c_char * len(buffer)).from_buffer(buffer) for buffer in buffers]
        return (ctypes.c_void_p * len(views))(*map(ctypes.addressof, views))

    def encode(self) -> float:
        """Make the parity; return the seconds."""
        begin = time.perf_counter()
        failed = self._library.reed_solomon_encode2(
            self._coder, self._read, self._written, self._shards, SHARD_SIZE, self._size
        )
        if failed:
            raise RuntimeError('libstorj did not encode')
        return time.perf_counter() - begin

    def close(self) -> None:
        self._library.reed_solomon_release(self._coder)


def _seconds(job: Job) -> float:
    begin = time.perf_counter()
    job()
    return time.perf_counter() - begin


def _libstorj() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL('libstorj.so.0')
    except OSError:
        return None


def run(rounds: int = ROUNDS) -> list[Row]:
    """Measure every coder at every code.

    Args:
        rounds (int): how often each codes; medians are told.
    """
    rows, library = [], _libstorj()
    for data_shards, parity_shards in CODES:
        data = [bytearray(os.urandom(SHARD_SIZE)) for _ in range(data_shards)]
        size = data_shards * SHARD_SIZE
        coders: list[_Ours | _LibStorj] = [
            _Ours(backend, data, parity_shards) for backend in available_backends()
        ]
        if library is not None:
            coders.append(_LibStorj(library, data, parity_shards))
        encode: list[list[float]] = [[] for _ in coders]
        repair: list[list[float]] = [[] for _ in coders]
        for _ in range(rounds):
            for number, coder in enumerate(coders):
                encode[number].append(coder.encode())
                if isinstance(coder, _Ours):
                    repair[number].append(coder.repair())
        for number, coder in enumerate(coders):
            rows.append(
                Row(
                    data_shards,
                    parity_shards,
                    coder.name,
                    size / statistics.median(encode[number]),
                    size / statistics.median(repair[number]) if repair[number] else None,
                    coder.parity == coders[0].parity,
                )
            )
            if isinstance(coder, _LibStorj):
                coder.close()
    return rows


def main() -> None:
    """Print the figures of this machine."""
    heading = ('code', 'coder', 'encode MB/s', 'repair MB/s', 'bytes alike')
    lines = [
        (
            f'{row.data_shards}+{row.parity_shards}',
            row.coder,
            f'{row.encode / 1e6:,.0f}',
            '-' if row.repair is None else f'{row.repair / 1e6:,.0f}',
            'yes' if row.alike else 'NO',
        )
        for row in run()
    ]
    print(table([heading, *lines]))
    if _libstorj() is None:
        print('libstorj: skipped, its library is not installed')


if __name__ == '__main__':
    main()
