"""Reed-Solomon erasure coding whose bytes are libstorj's.

Bytes at the same offset of all shards form one code word over GF(2^8), polynomial 0x11d. The data
bytes of a word are the values of a polynomial of degree below D at the points 0 .. D-1, and the
parity bytes its values at D .. D+P-1 (protocol reference, section 11.7)::

    point      0     1    ...   D-1  |   D    ...  D+P-1
             data  data  ...   data  | parity ... parity      any D of them give all the others

So every missing shard is a weighted sum of D others, with the weights of Lagrange's formula, be it
parity made from data or data repaired from what is left. Whole files go through in stripes: the
same piece of each shard, of any length (:data:`STRIPE` is libstorj's).

Two backends compute the sums. ``isa-l`` calls Intel's library when the system has it (Debian and
Ubuntu: ``libisal2``), without copying and with the interpreter's lock released; it is ten times as
fast as libstorj's own C. ``python`` needs nothing and is a sixth slower than that C (``python -m
benchmarks.erasure``). Both give the same bytes. Pure: the environment is not asked which to take.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from storj.exception import ConfigurationError, NotEnoughShardsError
from storj.text import count_of

__all__ = (
    'MAX_SHARDS',
    'STRIPE',
    'Backend',
    'ReedSolomon',
    'available_backends',
    'begin_stripe',
    'stripe_size',
)

#: Bytes of each shard that libstorj codes at a time.
STRIPE = 65536

#: Shards of one file, parity included: the points of the field, 0 included and 255 left out as in
#: libstorj.
MAX_SHARDS = 255

Backend = Literal['isa-l', 'python']

Buffer: TypeAlias = bytes | bytearray | memoryview
WritableBuffer: TypeAlias = bytearray | memoryview

# A stripe is the same piece of every shard; its columns of bytes are coded independently:
#
#              stripe 0     stripe 1          last stripe
#   data 0    [.........]  [.........]  ...  [......]
#   data 1    [.........]  [.........]  ...  [......]
#   data 2    [.........]  [.........]  ...  [...000]     short shard: zeros, which are not stored
#   parity 0  [.........]  [.........]  ...  [......]     as long as the longest data shard
#   parity 1  [.........]  [.........]  ...  [......]

# Bytes of all the stripes of a file that are in memory side by side.
_STRIPES = 8 * 1024 * 1024

# Bytes that the Python backend works on at a time, so that a source and its products are in the
# cache.
_WINDOW = 64 * 1024

_POLYNOMIAL = 0x11D
_ORDER = 255

# Intel's library by the names under which loaders know it; asking for anything more general would
# start a compiler.
_LIBRARIES = ('libisal.so.2', 'libisal.so', 'libisal.2.dylib', 'libisal.dylib')


def _field() -> tuple[bytes, bytes]:
    """Return the tables of powers of the generator 2 (twice round) and of logarithms."""
    powers, logarithms = bytearray(2 * _ORDER), bytearray(256)
    value = 1
    for exponent in range(_ORDER):
        powers[exponent] = powers[exponent + _ORDER] = value
        logarithms[value] = exponent
        # Multiply by the generator 2, and reduce by the polynomial when a ninth bit appears.
        value <<= 1
        if value > _ORDER:
            value ^= _POLYNOMIAL
    return bytes(powers), bytes(logarithms)


_POWERS, _LOGARITHMS = _field()


def _weights(sources: Sequence[int], targets: Sequence[int]) -> list[bytes]:
    """Return for each target point the weight of each source's byte in the target's."""
    # In logarithms; subtraction in the field is exclusive or.
    # weight of i at x:  product over t != i of  (x - t) / (i - t)
    below = [sum(_LOGARITHMS[i ^ t] for t in sources if t != i) for i in sources]
    rows = []
    for x in targets:
        above = sum(_LOGARITHMS[x ^ t] for t in sources)
        rows.append(
            bytes(
                _POWERS[(above - _LOGARITHMS[x ^ i] - under) % _ORDER]
                for i, under in zip(sources, below, strict=True)
            )
        )
    return rows


class _Coder(Protocol):
    """Sums with one fixed matrix."""

    def apply(
        self, sources: Sequence[Buffer], outputs: Sequence[WritableBuffer], length: int
    ) -> None:
        """Write to each output the weighted sum of the sources, all of one positive length."""


@functools.cache
def _product_table(weight: int) -> bytes:
    """Return the product with weight of each of the 256 values; 64 KiB for all weights."""
    if not weight:
        return bytes(256)
    shift = _LOGARITHMS[weight]
    return bytes([0, *(_POWERS[_LOGARITHMS[value] + shift] for value in range(1, 256))])


def _xor(total: WritableBuffer, value: Buffer) -> None:
    # Imported here, because it costs as much as half of the package and often is not needed.
    from Crypto.Util.strxor import strxor

    strxor(total, value, output=total)


class _PythonCoder:
    """The standard library's byte translation for products, PyCryptodome's xor for sums.

    Fewer products by Karatsuba's method pay only where many shards can be grouped in eights: 1.4 to
    1.6 times the speed for 8 and 16 data shards, none for an odd number.
    """

    def __init__(self, rows: Sequence[bytes]) -> None:
        self._rows = rows

    def apply(
        self, sources: Sequence[Buffer], outputs: Sequence[WritableBuffer], length: int
    ) -> None:
        for start in range(0, length, _WINDOW):
            window = slice(start, start + _WINDOW)
            totals = [memoryview(output)[window] for output in outputs]
            for position, source in enumerate(sources):
                # A bytearray translates twice as fast as bytes do, and a memoryview not at all.
                piece = bytearray(memoryview(source)[window])
                for total, weights in zip(totals, self._rows, strict=True):
                    product = piece.translate(_product_table(weights[position]))
                    if position == 0:
                        total[:] = product
                    else:
                        _xor(total, product)


def _address(buffer: Buffer) -> tuple[int, object]:
    """Return where a buffer lies, and what must be kept alive while that is used."""
    if isinstance(buffer, memoryview) and buffer.readonly:
        buffer = bytes(buffer)
    if isinstance(buffer, bytes):
        # ctypes gives no writable view of bytes, but their address; the library only reads here.
        address = ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value
        return address or 0, buffer
    view = ctypes.c_char.from_buffer(buffer)
    return ctypes.addressof(view), view


class _IsaLCoder:
    """Intel's Intelligent Storage Acceleration Library, with our matrix."""

    def __init__(self, library: ctypes.CDLL, rows: Sequence[bytes]) -> None:
        self._encode = library.ec_encode_data
        self._row_count = len(rows)
        # ISA-L expands each coefficient to two tables of 16 bytes, one per half of a byte.
        self._tables = ctypes.create_string_buffer(32 * sum(map(len, rows)))
        library.ec_init_tables(len(rows[0]), len(rows), b''.join(rows), self._tables)

    def apply(
        self, sources: Sequence[Buffer], outputs: Sequence[WritableBuffer], length: int
    ) -> None:
        read = [_address(buffer) for buffer in sources]
        written = [_address(buffer) for buffer in outputs]
        self._encode(
            length,
            len(read),
            self._row_count,
            self._tables,
            (ctypes.c_void_p * len(read))(*(address for address, _ in read)),
            (ctypes.c_void_p * len(written))(*(address for address, _ in written)),
        )


@functools.cache
def _isa_l() -> ctypes.CDLL | None:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        number, pointer = ctypes.c_int, ctypes.c_void_p
        library.ec_init_tables.argtypes = [number, number, ctypes.c_char_p, pointer]
        library.ec_init_tables.restype = None
        library.ec_encode_data.argtypes = [number, number, number, pointer, pointer, pointer]
        library.ec_encode_data.restype = None
        return library
    return None


def available_backends() -> tuple[Backend, ...]:
    """Return the backends that work on this machine, the fastest first."""
    return ('python',) if _isa_l() is None else ('isa-l', 'python')


# One file is coded with one matrix, stripe after stripe; a repair adds one or two.
@functools.lru_cache(maxsize=16)
def _coder(backend: Backend, sources: tuple[int, ...], targets: tuple[int, ...]) -> _Coder:
    # The matrix for parity has one row per parity shard; for a repair, one per missing shard:
    #
    #   sources   0 1 .. D-1                     D shards that are there
    #   targets   D .. D+P-1, or missing ones    row r: weights of the sources in target r
    rows = _weights(sources, targets)
    library = _isa_l() if backend == 'isa-l' else None
    return _PythonCoder(rows) if library is None else _IsaLCoder(library, rows)


def _common_length(sources: Sequence[Buffer], outputs: Sequence[WritableBuffer]) -> int:
    """Return the length of all buffers.

    Raises:
        ValueError: If they differ, or an output is read-only.
    """
    lengths = {memoryview(buffer).nbytes for buffer in (*sources, *outputs)}
    if len(lengths) > 1:
        raise ValueError('the pieces of one stripe have equal lengths')
    if any(memoryview(buffer).readonly for buffer in outputs):
        raise ValueError('a shard cannot be written to a read-only buffer')
    return lengths.pop() if lengths else 0


def stripe_size(shards: int, shard_size: int, most: int) -> int:
    """Return how many bytes of each shard to code at a time; memory does not grow with the file.

    Args:
        shards (int): that are in memory side by side; their stripes take 8 MiB at most.
        shard_size (int): bytes of the longest one.
        most (int): bytes of one stripe.
    """
    size = min(most, _STRIPES // shards) // 1024 * 1024
    return min(max(1024, size), shard_size)


def begin_stripe(buffer: memoryview, left: int) -> memoryview:
    """Return the part of a stripe that a shard fills, after zeroing what lies behind its end.

    Args:
        buffer (memoryview): of the stripe.
        left (int): bytes of the shard from there on; negative if it ended before.
    """
    there = max(0, min(len(buffer), left))
    buffer[there:] = bytes(len(buffer) - there)
    return buffer[:there]


class ReedSolomon:
    """A code of some data and some parity shards. Its objects keep no state between calls.

    Args:
        data_shards (int): number of shards that hold the file, at least 1.
        parity_shards (int): number of shards that can be missing, 0 or more; 255 with the others.
        backend (str | None): 'isa-l' or 'python'; the fastest that there is by default.

    Raises:
        ValueError: If a number is out of bounds or the backend unknown.
        ConfigurationError: If the backend is not installed.

    Attributes:
        data_shards (int): as given.
        parity_shards (int): as given.
        backend (str): the one in use.
    """

    def __init__(
        self, data_shards: int, parity_shards: int, *, backend: Backend | None = None
    ) -> None:
        if data_shards < 1 or parity_shards < 0 or data_shards + parity_shards > MAX_SHARDS:
            raise ValueError(
                f'{data_shards} data and {parity_shards} parity shards cannot be coded: at least '
                f'1 and 0, and at most {MAX_SHARDS} in all'
            )
        if backend not in (None, 'isa-l', 'python'):
            raise ValueError(f'unknown backend for erasure coding: {backend!r}')
        self.data_shards = data_shards
        self.parity_shards = parity_shards
        self.backend: Backend = backend or available_backends()[0]
        if self.backend not in available_backends():
            raise ConfigurationError(
                'the library ISA-L is not installed (Debian: libisal2); use the backend "python"'
            )

    def encode(self, data: Sequence[Buffer], parity: Sequence[WritableBuffer]) -> None:
        """Compute the parity of one stripe.

        Args:
            data (Sequence[Buffer]): the same piece of each data shard; of a last shard that is
                shorter, padded with zero bytes.
            parity (Sequence[bytearray | memoryview]): where the pieces of the parity shards go,
                all of the same length as the data's.

        Raises:
            ValueError: If a number of pieces or a length is not the right one.
        """
        if len(data) != self.data_shards or len(parity) != self.parity_shards:
            raise ValueError(
                f'a stripe has {count_of(self.data_shards, "data piece")} and '
                f'{count_of(self.parity_shards, "parity piece")}'
            )
        every = range(self.data_shards + self.parity_shards)
        self._apply(
            tuple(every[: self.data_shards]), tuple(every[self.data_shards :]), data, parity
        )

    def repair(
        self, have: Mapping[int, Buffer], want: Mapping[int, bytearray | memoryview]
    ) -> None:
        """Compute missing pieces of one stripe from the others.

        Args:
            have (Mapping[int, Buffer]): pieces by the index of their shard, parity after data;
                at least as many as there are data shards, the others are not read.
            want (Mapping[int, bytearray | memoryview]): where missing pieces go, by index, of data
                or parity, all of the same length as the others.

        Raises:
            ValueError: If an index or a length is not right, or a piece is both given and wanted.
            NotEnoughShardsError: If there are fewer pieces than data shards.
        """
        for index in (*have, *want):
            if not 0 <= index < self.data_shards + self.parity_shards:
                raise ValueError(f'no shard {index} in {self.data_shards} + {self.parity_shards}')
        if have.keys() & want.keys():
            raise ValueError('a piece that is there needs no repair')
        if len(have) < self.data_shards:
            raise NotEnoughShardsError(
                f'a repair needs {count_of(self.data_shards, "shard")} and has {len(have)}',
                len(have),
                self.data_shards,
            )
        sources = tuple(sorted(have)[: self.data_shards])
        targets = tuple(want)
        self._apply(
            sources, targets, [have[i] for i in sources], [want[index] for index in targets]
        )

    def _apply(
        self,
        sources: tuple[int, ...],
        targets: tuple[int, ...],
        read: Sequence[Buffer],
        written: Sequence[WritableBuffer],
    ) -> None:
        length = _common_length(read, written)
        if length and targets:
            _coder(self.backend, sources, targets).apply(read, written, length)
