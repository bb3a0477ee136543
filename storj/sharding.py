"""How a file is cut into shards, and the identifiers that follow from names.

Pure arithmetic: no bytes of a file pass through here. A file of ``size`` bytes becomes *data*
shards, cut one after the other from its ciphertext, and *parity* shards as long as the longest
data shard, computed from them (:mod:`storj.erasure`)::

    |<---------------------- size ---------------------->|
    | data 0 | data 1 | data 2 | ...           | last    |  parity n | parity n+1 | ...
    |<------>|  shard_size                     |<------->|  may be shorter
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from storj.digest import rmd160sha256
from storj.text import count_of

__all__ = (
    'LARGEST_SHARD_SIZE',
    'MAX_SHARDS',
    'MAX_SHARD_SIZE',
    'MIN_SHARD_SIZE',
    'PARITY_THRESHOLD',
    'SDK_BACK',
    'SDK_SHARD_SIZE',
    'Plan',
    'Rule',
    'Span',
    'bucket_id',
    'file_id',
    'parity_count',
    'plan',
    'sdk_parameters',
    'shard_size_for',
)

#: Bytes of the largest shard that original bridges (7.5 and later) and libstorj take.
MAX_SHARD_SIZE = 4 * 1024**3

#: Bytes of the largest shard that our own bridge takes, which says so in ``GET /``. Nothing on the
#: way counts in 32 bits; a limit keeps a hostile bridge from naming any number.
LARGEST_SHARD_SIZE = 1024**4

#: Bytes of the smallest shard, the last apart, of a file of several (section 10.7).
MIN_SHARD_SIZE = 15360

#: Bytes of the smallest file that gets parity shards, as in libstorj.
PARITY_THRESHOLD = 2 * 1024**2

#: Shards of one file, parity included, that can be coded in GF(2^8).
MAX_SHARDS = 255

# Shards begin on a block of AES, so that each can be encrypted by itself.
_BLOCK = 16

#: Whose rule decides the size of shards: libstorj's, the core client's as of 6.0.9 ('core-back4')
#: and of 3.0 to 6.0.8 ('core-back5'), or that of this SDK's releases 0.2 and 0.3 ('sdk').
#: Protocol reference, section 8.2.
Rule = Literal['libstorj', 'core-back4', 'core-back5', 'sdk']

_MIB = 1024**2

#: Bytes of the smallest shard that the rule 'sdk' chooses.
SDK_SHARD_SIZE = 8 * _MIB

#: Doublings that the rule 'sdk' keeps a shard behind its file.
SDK_BACK = 4

# The rule of libstorj (base 2 MiB, 4 doublings behind, at most 4 GiB):
#
#   file, up to   32 MiB   64 MiB   128 MiB   ...   1 GiB    ...   64 GiB and more
#   shard          2 MiB    4 MiB     8 MiB   ...   64 MiB   ...    4 GiB
#
# A size between two powers of two counts as the larger one: 33 MiB to 64 GiB give 9 to 16 shards.
#
# base size, how many doublings the size of a shard stays behind the file's, the largest size
_RULES: dict[Rule, tuple[int, int, int | None]] = {
    'libstorj': (2 * _MIB, 4, MAX_SHARD_SIZE),
    'core-back4': (8 * _MIB, 4, None),
    'core-back5': (8 * _MIB, 5, None),
    'sdk': (SDK_SHARD_SIZE, SDK_BACK, MAX_SHARD_SIZE),
}


@dataclass(frozen=True)
class Span:
    """Where one shard lies.

    Attributes:
        index (int): number of the shard within its file, parity shards last.
        offset (int): bytes before it in the file; for parity, in the row of parity shards.
        size (int): its bytes.
        parity (bool): whether it is computed and no part of the file.
    """

    index: int
    offset: int
    size: int
    parity: bool


@dataclass(frozen=True)
class Plan:
    """How one file is cut.

    Attributes:
        size (int): bytes of the file.
        shard_size (int): bytes of every shard but the last of data; 0 for an empty file.
        data_shards (int): shards of the file's own bytes; 0 for an empty file.
        parity_shards (int): shards computed from them.
    """

    size: int
    shard_size: int
    data_shards: int
    parity_shards: int

    @property
    def shards(self) -> int:
        """Number of all shards, parity included."""
        return self.data_shards + self.parity_shards

    def is_one_shard(self, most: int) -> bool:
        """Return whether the file is a single shard of at most so many bytes."""
        return self.shards == 1 and self.size <= most

    def span(self, index: int) -> Span:
        """Return where a shard lies.

        Raises:
            IndexError: If the file has no such shard.
        """
        if not 0 <= index < self.shards:
            raise IndexError(f'no shard {index} in a file of {self.shards}')
        if index >= self.data_shards:
            offset = (index - self.data_shards) * self.shard_size
            return Span(index, offset, self.shard_size, parity=True)
        offset = index * self.shard_size
        return Span(index, offset, min(self.shard_size, self.size - offset), parity=False)

    def __iter__(self) -> Iterator[Span]:
        """Yield every span in the order of the index."""
        return map(self.span, range(self.shards))


def shard_size_for(size: int, rule: Rule = 'libstorj', *, doublings: int = 0) -> int:
    """Return the size of shards that a client chooses for a file.

    Args:
        size (int): bytes of the file.
        rule (str): whose choice.
        doublings (int): of the rule's base size up to the file's size, counted at least.

    Returns:
        int: bytes; 0 for an empty file, which has no shards.

    Raises:
        ValueError: If size is negative.
    """
    if size < 0:
        raise ValueError('a size is not negative')
    if size == 0:
        return 0
    base, back, largest = _RULES[rule]
    doublings = max(doublings, (-(-size // base) - 1).bit_length())
    chosen = base << max(0, doublings - back)
    return chosen if largest is None else min(chosen, largest)


def sdk_parameters(size: int, shard_size: int) -> dict[str, Any]:
    """Return how a file is cut, in the form of this SDK's releases 0.2 and 0.3.

    Args:
        size (int): bytes of the file.
        shard_size (int): bytes of a shard; 0 for an empty file.

    Returns:
        dict[str, Any]: ``shard_size`` as text, ``shard_count`` and ``file_size`` as numbers.
    """
    count = -(-size // shard_size) if shard_size else 0
    return {'shard_size': str(shard_size), 'shard_count': count, 'file_size': size}


def parity_count(size: int, data_shards: int) -> int:
    """Return how many parity shards libstorj makes: two for every three of data, rounded up.

    Args:
        size (int): bytes of the file; below 2 MiB there is no parity.
        data_shards (int): shards of data.
    """
    return -(-2 * data_shards // 3) if size >= PARITY_THRESHOLD else 0


def plan(
    size: int,
    *,
    parity: bool = True,
    shard_size: int | None = None,
    rule: Rule = 'libstorj',
    largest: int = LARGEST_SHARD_SIZE,
) -> Plan:
    """Return how to cut a file.

    A file that has too many shards of 4 GiB for parity, 612 GiB and more, gets shards twice as
    large, or more: no other client has parity for such a file.

    Args:
        size (int): bytes of the file.
        parity (bool): whether parity shards are wanted; small files have none all the same.
        shard_size (int | None): bytes of a shard instead of the rule's choice: a multiple of 16 of
            at least 15360 if there is more than one shard.
        rule (str): whose choice of the shard size.
        largest (int): bytes of a shard that the bridge takes, 4 GiB for an original one.

    Returns:
        Plan: without any shard if the file is empty.

    Raises:
        ValueError: If a size is out of bounds, or parity is wanted for more than 255 shards.
    """
    chosen = shard_size_for(size, rule)
    if shard_size is not None:
        if not 0 < shard_size <= largest:
            raise ValueError(f'a shard has 1 to {count_of(largest, "byte")}, not {shard_size}')
        if size > shard_size and (shard_size < MIN_SHARD_SIZE or shard_size % _BLOCK):
            raise ValueError(
                f'a shard of a file of several has a multiple of {_BLOCK} bytes and at least '
                f'{MIN_SHARD_SIZE}, not {shard_size}'
            )
        # A shard that is alone is as long as its file, and so is its parity.
        chosen = min(shard_size, size)
    data_shards, parity_shards = _counts(size, chosen, parity=parity)
    while parity_shards and data_shards + parity_shards > MAX_SHARDS:
        if shard_size is not None or 2 * chosen > largest:
            break
        chosen *= 2
        data_shards, parity_shards = _counts(size, chosen, parity=parity)
    if parity_shards and data_shards + parity_shards > MAX_SHARDS:
        raise ValueError(
            f'{data_shards} data and {parity_shards} parity shards, at most {MAX_SHARDS} in all; '
            'choose a larger shard size, or no parity'
        )
    return Plan(size, chosen, data_shards, parity_shards)


def _counts(size: int, shard_size: int, *, parity: bool) -> tuple[int, int]:
    """Return how many shards of data and of parity a file has."""
    data_shards = -(-size // shard_size) if shard_size else 0
    return data_shards, parity_count(size, data_shards) if parity else 0


def bucket_id(email: str, stored_name: str) -> str:
    """Return the id that the bridge gives a bucket (protocol reference, section 3.4).

    Args:
        email (str): of the account, as registered.
        stored_name (str): the bucket's name as the bridge keeps it, encrypted or not.

    Returns:
        str: 24 hex digits.
    """
    return rmd160sha256((email + stored_name).encode('utf-8', 'surrogatepass')).hex()[:24]


# e-mail + stored name of the bucket     --SHA-256, RIPEMD-160--> first 24 hex digits: bucket id
# bucket id + stored name of the file    --SHA-256, RIPEMD-160--> first 24 hex digits: file id
#
# Where names are stored encrypted, an id follows from a name only for those who have the key.
# Buckets of before October 2016 have random file ids.
def file_id(bucket_id: str, stored_name: str | None) -> str:
    """Return the id that the bridge gives a file (protocol reference, section 3.4).

    Args:
        bucket_id (str): 24 hex digits.
        stored_name (str | None): the file's name as the bridge keeps it, encrypted or not; all
            files of a bucket that have none share one id.

    Returns:
        str: 24 hex digits.
    """
    name = 'undefined' if stored_name is None else stored_name
    return rmd160sha256((bucket_id + name).encode('utf-8', 'surrogatepass')).hex()[:24]
