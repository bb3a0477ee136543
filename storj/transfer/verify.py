"""Whether a stored file could be had back now: every shard pulled and hashed, none kept."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from storj.exception import FarmerError, IntegrityError, TransferCancelled
from storj.transfer.gather import Fetcher
from storj.transfer.negotiate import node_of
from storj.transfer.pointers import PointerList, StoredShard
from storj.transfer.scope import Scope, describe

__all__ = ('FileHealth', 'ShardHealth', 'Verification', 'lost_shards')


@dataclass(frozen=True)
class ShardHealth:
    """The state of one shard.

    Attributes:
        index (int): number within the file.
        hash (str): 40 hex digits.
        size (int): bytes.
        parity (bool): whether it is computed and no part of the file.
        farmer (str | None): node id of the farmer that was asked; None if the bridge found none.
        healthy (bool): whether the farmer brought the right bytes.
        error (str | None): what went wrong otherwise.
    """

    index: int
    hash: str
    size: int
    parity: bool
    farmer: str | None
    healthy: bool
    error: str | None = None


@dataclass(frozen=True)
class FileHealth:
    """The state of a stored file.

    Attributes:
        bucket_id (str): 24 hex digits.
        file_id (str): 24 hex digits.
        size (int): bytes of the file.
        need (int): healthy shards that are enough.
        shards (tuple[ShardHealth, ...]): in order.
        authenticated (bool): whether an HMAC proved that these are the shards that were stored.
    """

    bucket_id: str
    file_id: str
    size: int
    need: int
    shards: tuple[ShardHealth, ...]
    authenticated: bool = False

    @property
    def have(self) -> int:
        """Number of healthy shards."""
        return sum(shard.healthy for shard in self.shards)

    @property
    def healthy(self) -> bool:
        """Whether every shard is healthy."""
        return self.have == len(self.shards)

    @property
    def recoverable(self) -> bool:
        """Whether the file can be downloaded now."""
        if self.have < self.need:
            return False
        repairable = len(self.shards) > self.need
        return repairable or all(shard.healthy for shard in self.shards)


class Verification:
    """One verification.

    Args:
        scope (Scope): of the transfer.
        bucket_id (str): 24 hex digits.
        file_id (str): 24 hex digits.
        decrypt (bool): whether the file is one that is to be decrypted.
    """

    def __init__(
        self,
        scope: Scope,
        bucket_id: str,
        file_id: str,
        *,
        decrypt: bool,
    ) -> None:
        self._scope = scope
        self._decrypt = decrypt
        self._pointers = PointerList(scope, bucket_id, file_id)
        self._found: dict[int, ShardHealth] = {}

    def run(self) -> FileHealth:
        """Do it all; called by the driver."""
        self._scope.meter.phase('preparing')
        layout = self._pointers.load()
        # Whoever has no encryption key of his own can still see whether farmers keep their shards.
        proves = self._decrypt and bool(self._scope.bridge.mnemonic)
        key = self._pointers.content_key(layout) if proves else None
        self._scope.meter.expect(sum(shard.size for shard in layout.shards), len(layout.shards))
        self._scope.meter.phase('transferring')
        fetcher = Fetcher(self._scope, self._pointers)
        for shard in layout.shards:
            self._scope.coordinator.spawn(self._scope.pools.shards, self._check, fetcher, shard)
        self._scope.coordinator.wait_until(lambda: len(self._found) == len(layout.shards))
        return FileHealth(
            bucket_id=self._pointers.bucket_id,
            file_id=self._pointers.file_id,
            size=layout.size,
            need=layout.data_shards,
            shards=tuple(self._found[shard.index] for shard in layout.shards),
            authenticated=key is not None and bool(layout.entry.hmac),
        )

    def _check(self, fetcher: Fetcher, shard: StoredShard) -> None:
        """Pull one shard and drop its bytes; a task."""
        # One farmer, without a second try: the question is whether this copy is healthy.
        pointer = self._pointers.pointer(shard.index)
        farmer = None if pointer is None else node_of(pointer)
        error: str | None = None
        if pointer is None:
            error = 'the bridge finds no farmer that has it'
        else:
            try:
                fetcher.pull(
                    shard,
                    pointer,
                    _drop,
                    cancelled=self._scope.coordinator.stopped,
                )
            except (FarmerError, IntegrityError) as failure:
                error = describe(failure)
        health = ShardHealth(
            shard.index, shard.hash, shard.size, shard.parity, farmer, error is None, error
        )
        with self._scope.coordinator.condition:
            self._found[shard.index] = health
            self._scope.coordinator.condition.notify_all()
        self._scope.meter.confirm(int(health.healthy))


def lost_shards(
    scope: Scope,
    bucket_id: str,
    file_id: str,
    indices: Collection[int],
) -> set[int]:
    """Return which shards of a file no farmer begins to send; called by the driver.

    Nobody hashes them: it takes no more than their first bytes.

    Args:
        scope (Scope): of the transfer.
        bucket_id (str): 24 hex digits.
        file_id (str): 24 hex digits.
        indices (Collection[int]): of the shards.
    """
    pointers = PointerList(scope, bucket_id, file_id)
    shards = pointers.load().shards
    fetcher = Fetcher(scope, pointers)
    answers: dict[int, bool] = {}

    def ask(shard: StoredShard) -> None:
        begun = False

        def begin(_position: int, _view: memoryview) -> None:
            nonlocal begun
            begun = True

        pointer = pointers.pointer(shard.index)
        if pointer is not None:
            try:
                fetcher.pull(
                    shard, pointer, begin, cancelled=lambda: begun or scope.coordinator.stopped()
                )
            except TransferCancelled:
                scope.coordinator.check()
            except (FarmerError, IntegrityError) as error:
                scope.coordinator.note(error)
                begun = False
        with scope.coordinator.condition:
            answers[shard.index] = begun
            scope.coordinator.condition.notify_all()

    for index in indices:
        scope.coordinator.spawn(scope.pools.shards, ask, shards[index])
    scope.coordinator.wait_until(lambda: len(answers) == len(indices))
    return {index for index, begun in answers.items() if not begun}


def _drop(_position: int, _view: memoryview) -> None:
    """Take a piece of a shard and keep nothing."""
