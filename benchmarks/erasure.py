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
from storj.erasure import STRIPE, ReedSolomon, available_backends

#: Data and parity shards: what libstorj's rule makes of files of 8, 20 and 32 MiB.
CODES = ((4, 3), (10, 7), (16, 11))
SHARD_SIZE = MIB
ROUNDS = 5


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
    """A backend of ours, stripe by stripe as in an upload."""

    def __init__(self, backend: str, data: list[bytearray], parity_shards: int) -> None:
        self.name = backend
        self._data = list(map(memoryview, data))
        self.parity = [bytearray(SHARD_SIZE) for _ in range(parity_shards)]
        self._coder = ReedSolomon(len(data), parity_shards, backend=backend)
        self._lost = range(min(len(data), parity_shards))
        self._repaired = {i: memoryview(bytearray(SHARD_SIZE)) for i in self._lost}

    @staticmethod
    def _stripes() -> Iterator[slice]:
        for start in range(0, SHARD_SIZE, STRIPE):
            yield slice(start, start + STRIPE)

    def encode(self) -> None:
        parity = list(map(memoryview, self.parity))
        for stripe in self._stripes():
            self._coder.encode(
                [shard[stripe] for shard in self._data], [shard[stripe] for shard in parity]
            )

    def repair(self) -> None:
        shards = [*self._data, *map(memoryview, self.parity)]
        have = {i: shard for i, shard in enumerate(shards) if i not in self._lost}
        for stripe in self._stripes():
            self._coder.repair(
                {i: shard[stripe] for i, shard in have.items()},
                {i: shard[stripe] for i, shard in self._repaired.items()},
            )

    def is_repaired(self) -> bool:
        return all(bytes(self._repaired[i]) == bytes(self._data[i]) for i in self._lost)


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

    def encode(self) -> None:
        failed = self._library.reed_solomon_encode2(
            self._coder, self._read, self._written, self._shards, SHARD_SIZE, self._size
        )
        if failed:
            raise RuntimeError('libstorj did not encode')

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
                encode[number].append(_seconds(coder.encode))
                if isinstance(coder, _Ours):
                    repair[number].append(_seconds(coder.repair))
                    if not coder.is_repaired():
                        raise RuntimeError(f'{coder.name} repaired wrongly')
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
