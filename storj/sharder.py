"""Storj sharder module of releases 0.2.2 and 0.3.4: sizes of shards, and shards joined to a file.

The sizes are those of :func:`storj.sharding.shard_size_for`; transfers do not pass here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import Any, BinaryIO

from storj import sharding
from storj.exception import ShardingException

__all__ = ('ShardingException', 'ShardingTools')


class ShardingTools:
    """Choice of the size of shards, and the way back (releases 0.2.2 and 0.3.4).

    Attributes:
        MAX_SHARD_SIZE (int): bytes of the largest shard; a program may set another number.
        SHARD_MULTIPLES_BACK (int): doublings that a shard stays behind its file.
    """

    def __init__(self) -> None:
        self.MAX_SHARD_SIZE = sharding.MAX_SHARD_SIZE
        self.SHARD_MULTIPLES_BACK = sharding.SDK_BACK

    def get_optimal_shard_parametrs(self, file_size: int) -> dict[str, Any]:
        """Return how a file is cut.

        Args:
            file_size (int): bytes of the file.

        Returns:
            dict[str, Any]: ``shard_size`` as text, ``shard_count`` and ``file_size`` as numbers.
        """
        return sharding.sdk_parameters(file_size, self.determine_shard_size(file_size))

    def determine_shard_size(self, file_size: int, accumulator: int = 0) -> int:
        """Return the size of shards for a file, in bytes; 0 for an empty file.

        Args:
            file_size (int): bytes of the file.
            accumulator (int): doublings of 8 MiB up to the size of the file, counted at least.

        Raises:
            ValueError: If the size is negative.
        """
        chosen = sharding.shard_size_for(file_size, 'sdk', doublings=accumulator)
        return min(chosen, self.MAX_SHARD_SIZE)

    def shard_size(self, hops: int) -> int:
        """Return 8 MiB, doubled so many times."""
        return sharding.SDK_SHARD_SIZE << hops

    def join_shards(self, shards: Iterable[BinaryIO], destination_fp: BinaryIO) -> bool:
        """Write shards one after the other.

        Args:
            shards (Iterable[BinaryIO]): open at their beginning, in the order of the file.
            destination_fp (BinaryIO): where to.

        Returns:
            bool: True.

        Raises:
            ShardingException: If one cannot be read, or the disk is full.
        """
        for index, shard in enumerate(shards):
            try:
                shutil.copyfileobj(shard, destination_fp)
            except OSError as error:
                raise ShardingException(
                    f'cannot join shard {index}: {error.strerror or error}'
                ) from error
        return True
