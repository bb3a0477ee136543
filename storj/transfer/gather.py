"""Which shards to fetch, when to fetch others in their place, and how to compute what is missing.

One class serves every kind of download. It fetches the wanted data shards in order, through a
window: a download to a path has all of them in it, a stream the next ones of its reader, and the
window moves when the reader releases a shard::

    read already    window: fetched in parallel     later      parity
    [0][1][2]       [3] [4] [5] [6] [7] [8]         [9] ...    [D] ... [D+P-1]
                     |   |   |
                 came  came  lost, in trouble, or much slower than those before it
                               |
                               v
                  fetch others, later ones and then parity, until any D shards are there
                               |
                               v
                  interrupt what is still under way; compute what is missing from the D

So a stream whose farmers are in trouble becomes a download of the whole file. Every shard lies in
the *storage* as long as it is needed: for a path in its unfinished file, in the clear; otherwise in
a spool. None is fetched twice; only a stream of a very large file may have to, since it keeps no
more than :data:`KEPT` shards behind its reader as long as all is well.

The check whether a file is recoverable is here too: every shard is fetched, and none kept.
"""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from storj.digest import ShardDigest
from storj.erasure import ReedSolomon, begin_stripe, stripe_size
from storj.exception import FarmerError, IntegrityError, NotEnoughShardsError, TransferCancelled
from storj.text import count_of
from storj.transfer.channel import node_of
from storj.transfer.fetch import Fetcher, Layout, PieceWriter, PointerList, ShardLost, StoredShard
from storj.transfer.scope import Scope, describe

_log = logging.getLogger(__name__)

#: Shards behind its reader that a stream of a file with parity keeps for a repair: all of them, up
#: to the 64 GiB from which on files have more than 16 data shards.
KEPT = 32

# Seconds between two looks for shards that are late, at least.
_LOOK = 0.05

# A shard is slow if it takes so many times as long as the shards before it.
_SLOW = 2.0


class Storage(Protocol):
    """Where shards lie as long as they are needed."""

    def writer(self, shard: StoredShard, /) -> PieceWriter:
        """Return what takes a shard from its beginning on; called again for another attempt."""

    def read(self, shard: StoredShard, position: int, buffer: memoryview, /) -> None:
        """Read a piece of a shard that came whole, as it is stored at farmers."""

    def drop(self, shard: StoredShard, /) -> None:
        """Forget a shard that is no longer needed."""


@dataclass
class _Pull:
    """A shard under way."""

    shard: StoredShard
    began: float | None = None
    troubled: bool = False
    unwanted: bool = False
    writing: threading.Lock = field(default_factory=threading.Lock)

    def guard(self, writer: PieceWriter) -> PieceWriter:
        """Return a writer that takes nothing any more once the pull is unwanted."""

        def put(position: int, view: memoryview) -> None:
            # Held while a piece is written, so that dropping the pull can wait for the last
            # one and then compute the shard into the same place.
            with self.writing:
                if self.unwanted:
                    raise ShardLost(self.shard.index)
                writer(position, view)

        return put


class Gather:
    """Fetches the wanted shards of one file; its methods are called by the driver.

    Args:
        scope (Scope): of the transfer.
        pointers (PointerList): loaded.
        layout (Layout): of the file.
        storage (Storage): where shards lie.
        wanted (Sequence[StoredShard]): data shards, in order.
        ahead (int | None): shards in the window; all that are wanted by default.
        arrived (Callable): called for each wanted shard that arrived, in the thread that has it.
    """

    def __init__(
        self,
        scope: Scope,
        pointers: PointerList,
        layout: Layout,
        storage: Storage,
        wanted: Sequence[StoredShard],
        *,
        ahead: int | None = None,
        arrived: Callable[[], object] = lambda: None,
    ) -> None:
        self._scope = scope
        self._pointers = pointers
        self._layout = layout
        self._storage = storage
        self._wanted = wanted
        self._wanted_indices = frozenset(shard.index for shard in wanted)
        self._ahead = len(wanted) if ahead is None else ahead
        self._arrived = arrived
        self._fetcher = Fetcher(scope, pointers)
        # Guarded by the coordinator's condition, from here on. How many of the wanted shards the
        # reader has, and how many of those are in the storage no longer.
        self._released = 0
        self._dropped = 0
        # Whether others were begun in place of some that were late.
        self._replacing = False
        self._came: set[int] = set()
        self._lost: dict[int, BaseException | None] = {}
        self._pulls: dict[int, _Pull] = {}
        self._seconds_per_byte: list[float] = []
        # Counts what happens, so that the driver can wait for something to happen.
        self._events = 0
        self._events_seen = -1

    def add(self, shard: StoredShard) -> None:
        """Count a wanted shard that lies in the storage already; called in any thread."""
        with self._scope.coordinator.condition:
            self._came.add(shard.index)

    @property
    def done(self) -> list[StoredShard]:
        """The wanted shards that are there, in order."""
        with self._scope.coordinator.condition:
            return [shard for shard in self._wanted if shard.index in self._came]

    def ensure(self, count: int) -> None:
        """Wait until the first so many of the wanted shards are there.

        Raises:
            NotEnoughShardsError: If one of them is lost and cannot be computed.
            IntegrityError: If the shards that are there do not give the hash of one that is not.
            Stopped: If the transfer ends meanwhile.
        """
        while True:
            self._advance(count)
            if all(shard.index in self._came for shard in self._wanted[self._released : count]):
                return
            # Only the time shows that a shard is late.
            look_after = max(_LOOK, self._scope.config.hedge_after / 4)
            self._scope.coordinator.wait_until(
                lambda: self._events != self._events_seen,
                look_after if self._layout.repairable else None,
            )

    def react(self) -> None:
        """Do what there is to do without waiting, as a reader may be slow to ask for more.

        Raises:
            IntegrityError: If :meth:`ensure` raises it.
            Stopped: If the transfer has ended.
        """
        self._scope.coordinator.check()
        if self._events != self._events_seen:
            self._advance(self._released)

    def release(self, count: int) -> None:
        """Move the window behind the first so many shards, which the reader has."""
        with self._scope.coordinator.condition:
            self._released = count
            # Without parity there is no repair that could need them, and during one all may be
            # needed.
            kept = KEPT if self._layout.repairable else 0
            end = self._dropped if self._replacing else max(self._dropped, count - kept)
            old, self._dropped = self._wanted[self._dropped : end], end
            self._came.difference_update(shard.index for shard in old)
            self._happened()
        for shard in old:
            self._storage.drop(shard)

    # -- decisions ---------------------------------------------------------------------------------

    def _advance(self, count: int) -> None:
        """Begin to fetch what is to be fetched now, or compute what can be computed.

        Args:
            count (int): so many wanted shards are waited for.
        """
        data_shards = self._layout.data_shards
        # Only the driver decides, and tasks only report: nothing is begun twice.
        with self._scope.coordinator.condition:
            self._events_seen = self._events
            missing = self._missing()
            computing = self._layout.repairable and len(self._came) >= data_shards
            starting = [] if computing else self._to_start(missing, count)
            pulls = [_Pull(shard) for shard in starting]
            self._pulls.update((pull.shard.index, pull) for pull in pulls)
        if missing and computing:
            self._interrupt()
            self._repair()
        for pull in pulls:
            self._scope.coordinator.spawn(self._scope.pools.shards, self._pull, pull)

    def _missing(self) -> list[StoredShard]:
        """Return the wanted shards that are neither read nor there."""
        unread = self._wanted[self._released :]
        return [shard for shard in unread if shard.index not in self._came]

    def _to_start(self, missing: list[StoredShard], count: int) -> list[StoredShard]:
        """Return the shards to begin with now.

        Args:
            missing (list[StoredShard]): wanted shards that did not come.
            count (int): so many wanted shards are waited for.

        Raises:
            NotEnoughShardsError: If one that is waited for is lost and cannot be computed.
        """
        layout = self._layout
        left = len(layout.shards) - len(self._lost)
        repairable = layout.repairable and left >= layout.data_shards
        if self._lost and not repairable:
            self._check_lost(self._wanted[self._released : count], left)
        ahead = self._wanted[self._released : self._released + self._ahead]
        end = ahead[-1].index if ahead else 0
        window = [shard for shard in missing if shard.index <= end]
        starting = [shard for shard in window if self._is_idle(shard)]
        if repairable and any(self._is_late(shard.index) for shard in window):
            self._replacing = True
            starting += self._in_their_place(missing, starting)
        return starting

    def _in_their_place(
        self, missing: list[StoredShard], starting: list[StoredShard]
    ) -> list[StoredShard]:
        """Return what to fetch besides, so that D shards come without those that are late."""
        coming = {index for index in self._pulls if not self._is_late(index)}
        coming.update(shard.index for shard in starting)
        gap = self._layout.data_shards - len(self._came | coming)
        others = [
            shard
            for shard in self._layout.shards
            if self._is_idle(shard) and shard.index not in coming
        ]
        # What is wanted later costs nothing. What was read already would be fetched twice.
        later = {shard.index for shard in missing}
        read = {shard.index for shard in self._wanted[: self._dropped]}
        others.sort(key=lambda shard: (shard.index in read, shard.index not in later))
        return others[: max(0, gap)]

    def _is_idle(self, shard: StoredShard) -> bool:
        """Return whether a shard is neither stored nor under way, and may be available."""
        index = shard.index
        return index not in self._came and index not in self._pulls and index not in self._lost

    def _is_late(self, index: int) -> bool:
        """Return whether a shard is lost, in trouble, or among the last and slow."""
        pull = self._pulls.get(index)
        if pull is None:
            return index in self._lost
        if pull.troubled:
            return True
        # While most are still under way none is slower than the others.
        if pull.began is None or len(self._came) < len(self._pulls):
            return False
        # While others wait for a thread, a slow pull holds nothing up but itself.
        if any(other.began is None for other in self._pulls.values()):
            return False
        paces = sorted(self._seconds_per_byte)
        usual = paces[len(paces) // 2] * pull.shard.size if paces else 0.0
        allowed = max(self._scope.config.hedge_after, _SLOW * usual)
        return self._scope.clock.now() - pull.began > allowed

    def _check_lost(self, waited_for: Sequence[StoredShard], left: int) -> None:
        lost = next((shard for shard in waited_for if shard.index in self._lost), None)
        if lost is None:
            return
        needed = self._layout.data_shards
        causes = [cause for cause in self._lost.values() if cause is not None]
        why = f' ({describe(causes[-1])})' if causes else ''
        raise NotEnoughShardsError(
            f'{count_of(needed, "shard")} needed, {left} available; '
            f'shard {lost.index} is lost{why}',
            left,
            needed,
            causes,
        )

    # -- pulls -------------------------------------------------------------------------------------

    def _pull(self, pull: _Pull) -> None:
        """Fetch one shard; a task."""
        shard, condition = pull.shard, self._scope.coordinator.condition
        pull.began = self._scope.clock.now()

        def troubled() -> None:
            with condition:
                pull.troubled = True
                self._happened()

        lost: ShardLost | None = None
        whole = False
        try:
            if not pull.unwanted:
                self._fetcher.fetch(
                    shard,
                    pull.guard(self._storage.writer(shard)),
                    cancelled=lambda: pull.unwanted or self._scope.coordinator.stopped(),
                    troubled=troubled,
                )
                whole = True
        except ShardLost as error:
            lost = error
        finally:
            # Any other error ends the transfer; the driver must not take the shard for one that
            # came in the moment before it does.
            with condition:
                counts = not pull.unwanted
                if counts:
                    del self._pulls[shard.index]
                if counts and lost is not None:
                    self._lost[shard.index] = lost.__cause__
                elif counts and whole:
                    self._came.add(shard.index)
                    seconds = self._scope.clock.now() - pull.began
                    self._seconds_per_byte.append(seconds / shard.size)
                self._happened()
        if counts and whole:
            self._confirm(shard)

    def _happened(self) -> None:
        """Wake the driver; called with the condition held."""
        self._events += 1
        self._scope.coordinator.condition.notify_all()

    def _confirm(self, shard: StoredShard) -> None:
        """Tell of a shard that came, if it is a wanted one."""
        if shard.index in self._wanted_indices:
            self._scope.meter.confirm()
            self._arrived()

    def _interrupt(self) -> None:
        """Drop the pulls that are no longer needed."""
        with self._scope.coordinator.condition:
            dropped = list(self._pulls.values())
            self._pulls.clear()
            for pull in dropped:
                pull.unwanted = True
            self._scope.coordinator.condition.notify_all()
        # Outside of the condition, which a pull that is writing at this moment may want.
        for pull in dropped:
            with pull.writing:
                pass

    # -- repair ------------------------------------------------------------------------------------

    def _repair(self) -> None:
        """Compute the missing shards from any D others, stripe by stripe."""
        layout = self._layout
        with self._scope.coordinator.condition:
            missing = self._missing()
            sources = [layout.shards[index] for index in sorted(self._came)][: layout.data_shards]
        _log.info('computing shards %s', [shard.index for shard in missing])
        coder = ReedSolomon(layout.data_shards, len(layout.shards) - layout.data_shards)
        used = len(sources) + len(missing)
        step = stripe_size(used, layout.shard_size, self._scope.config.piece_size)
        have = {shard.index: memoryview(bytearray(step)) for shard in sources}
        want = {shard.index: memoryview(bytearray(step)) for shard in missing}
        digests = {shard.index: ShardDigest() for shard in missing}
        writers = {shard.index: self._storage.writer(shard) for shard in missing}
        for position in range(0, layout.shard_size, step):
            self._scope.coordinator.check()
            length = min(step, layout.shard_size - position)
            for shard in sources:
                self._read_stripe(shard, position, have[shard.index][:length])
            made = {index: buffer[:length] for index, buffer in want.items()}
            coder.repair({index: buffer[:length] for index, buffer in have.items()}, made)
            for shard in missing:
                piece = made[shard.index][: max(0, shard.size - position)]
                digests[shard.index].update(piece)
                if piece:
                    writers[shard.index](position, piece)
        for shard in missing:
            if not hmac.compare_digest(digests[shard.index].hexdigest(), shard.hash):
                raise IntegrityError(
                    f'shard {shard.index}, computed from others, does not have the stored hash'
                )
            with self._scope.coordinator.condition:
                self._came.add(shard.index)
            self._confirm(shard)

    def _read_stripe(self, shard: StoredShard, position: int, buffer: memoryview) -> None:
        """Read a piece of a shard, with zeros behind its end."""
        piece = begin_stripe(buffer, shard.size - position)
        if piece:
            self._storage.read(shard, position, piece)


@dataclass(frozen=True)
class ShardHealth:
    """The state of one shard.

    Attributes:
        index (int): number within the file.
        hash (str): 40 hex digits.
        size (int): bytes.
        parity (bool): whether it is computed and no part of the file.
        farmer (str | None): node id of the farmer that was asked; None if the bridge found none.
        healthy (bool): whether the farmer sent the right bytes.
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
        # Without an encryption key one can still check whether farmers keep their shards.
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

    They are not hashed: only their first bytes are fetched.

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
