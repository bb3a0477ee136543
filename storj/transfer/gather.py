"""Which shards to fetch, when to fetch parity in their place, and how to repair what is missing.

::

    wanted data shards --> fetch in parallel --> all there ................. done
                              | lost, in trouble, or much slower than the rest
                              v
                           fetch others (data not wanted, then parity) until any D are whole
                              v
                           repair the wanted ones from them ................ done

A shard that is wanted goes to the *window*, decrypted, as far as the window shows it. A shard that
is fetched for a repair only goes to a spool, as it is. When D shards are whole, the stragglers are
interrupted and what they would have brought is computed.
"""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from storj.crypto.cipher import CtrStream
from storj.crypto.keys import ContentKey
from storj.digest import ShardDigest
from storj.erasure import ReedSolomon
from storj.exception import IntegrityError, NotEnoughShardsError
from storj.transfer.context import Context, describe
from storj.transfer.fetch import Fetcher, Place, ShardLost
from storj.transfer.pointers import Layout, PointerBook, StoredShard
from storj.transfer.spool import Spool

__all__ = ('Gather', 'Window', 'WindowFile')

_log = logging.getLogger(__name__)

# Bytes of all stripes in memory during a repair.
_STRIPES = 8 * 1024 * 1024

# A shard is slow if it takes so many times as long as the shards before it.
_SLOW = 2.0


class WindowFile(Protocol):
    """Where a window's bytes lie."""

    def write(self, offset: int, data: memoryview, /) -> None:
        """Write at an offset."""

    def read_into(self, offset: int, buffer: memoryview, /) -> None:
        """Fill a buffer from an offset."""


class Window:
    """A range of a file's bytes in the clear, lying in a local file from its offset 0 on.

    Args:
        file (WindowFile): the local file.
        key (ContentKey | None): of the stored file, None if it is stored in the clear.
        start (int): first byte of the range.
        end (int): byte behind the range.
    """

    def __init__(self, file: WindowFile, key: ContentKey | None, start: int, end: int) -> None:
        self._file = file
        self._key = key
        self.start = start
        self.end = end

    def shows(self, shard: StoredShard) -> bool:
        """Return whether the whole shard lies within the range."""
        return self.start <= shard.offset and shard.offset + shard.size <= self.end

    def place(self, shard: StoredShard) -> Place:
        """Return what decrypts a shard and writes as much of it as the range shows."""
        cipher: CtrStream | None = None
        expected = -1

        def put(position: int, view: memoryview) -> None:
            nonlocal cipher, expected
            offset = shard.offset + position
            first, last = max(offset, self.start), min(offset + len(view), self.end)
            if first >= last:
                return
            view = view[first - offset : last - offset]
            if self._key is not None:
                if cipher is None or first != expected:
                    cipher = CtrStream(self._key, first)
                cipher.process(view, output=view)
            expected = last
            self._file.write(first - self.start, view)

        return put

    def read_stored(self, shard: StoredShard, position: int, buffer: memoryview) -> None:
        """Read a piece of a shard that the range shows, as it is stored: encrypted again."""
        offset = shard.offset + position
        self._file.read_into(offset - self.start, buffer)
        if self._key is not None:
            CtrStream(self._key, offset).process(buffer, output=buffer)


@dataclass
class _Pull:
    """A shard under way."""

    shard: StoredShard
    spare: bool
    began: float | None = None
    troubled: bool = False
    unwanted: bool = False
    writing: threading.Lock = field(default_factory=threading.Lock)

    def guard(self, place: Place) -> Place:
        """Return a place that takes nothing any more once the pull is unwanted."""

        def put(position: int, view: memoryview) -> None:
            with self.writing:
                if self.unwanted:
                    raise ShardLost(self.shard.index)
                place(position, view)

        return put

    def drop(self) -> None:
        """Make the pull unwanted: from now on it writes nothing, and soon it ends."""
        with self.writing:
            self.unwanted = True


class Gather:
    """Fetches shards of one file until those that are wanted are there.

    Its methods are called by the driver; it may be used again for further shards.

    Args:
        context (Context): of the engine.
        book (PointerBook): loaded.
        layout (Layout): of the file.
        window (Window): takes what is wanted.
    """

    def __init__(self, context: Context, book: PointerBook, layout: Layout, window: Window) -> None:
        self._context = context
        self._book = book
        self._coordinator = book.coordinator
        self._layout = layout
        self._window = window
        self._fetcher = Fetcher(context, book)
        self._spool: Spool | None = None
        #: Wanted shards that are in the window.
        self.done: set[int] = set()
        self._spare: set[int] = set()
        self._lost: dict[int, BaseException | None] = {}
        self._pulls: dict[int, _Pull] = {}
        self._durations: list[float] = []

    def lose(self, index: int, cause: BaseException | None) -> None:
        """Take note that a shard cannot be had."""
        self._lost[index] = cause

    def ensure(self, wanted: Iterable[StoredShard]) -> None:
        """Bring shards into the window.

        Raises:
            NotEnoughShardsError: if too many are lost.
            IntegrityError: if the shards that are there do not give the hash of one that is not.
            Stopped: if the transfer ends meanwhile.
        """
        targets = [shard for shard in wanted if shard.index not in self.done]
        for shard in targets:
            if shard.index not in self._lost:
                self._start(shard, spare=False)
        while not self._step(targets):
            pass
        self._interrupt()
        missing = [shard for shard in targets if shard.index not in self.done]
        if missing:
            self._repair(missing)

    def _step(self, targets: list[StoredShard]) -> bool:
        """Decide what to do now, then wait for something to happen.

        Returns:
            bool: whether the targets are there, or enough shards to compute them.
        """
        with self._coordinator.condition:
            open_targets = [shard for shard in targets if shard.index not in self.done]
            if not open_targets or len(self._whole()) >= self._layout.data_shards:
                return True
            starting = self._wanting(open_targets)
            changes = self._changes()
        for shard in starting:
            self._start(shard, spare=True)
        watching = self._layout.repairable and not starting
        self._coordinator.wait_until(
            lambda: self._changes() != changes,
            self._context.config.hedge_after / 4 if watching else None,
        )
        return False

    def _changes(self) -> tuple[int, ...]:
        troubled = sum(pull.troubled for pull in self._pulls.values())
        return len(self.done), len(self._spare), len(self._lost), troubled

    def _whole(self) -> list[int]:
        """Return the shards that can be read in full, as they are stored."""
        shards = self._layout.shards
        shown = {index for index in self.done if self._window.shows(shards[index])}
        return sorted(shown | self._spare)

    def _wanting(self, targets: list[StoredShard]) -> list[StoredShard]:
        """Return the shards to fetch in the place of targets that are late or lost.

        Raises:
            NotEnoughShardsError: if there are too few.
        """
        needed, shards = self._layout.data_shards, self._layout.shards
        left = len(shards) - len(self._lost)
        lost = [shard.index for shard in targets if shard.index in self._lost]
        if lost and (not self._layout.repairable or left < needed):
            causes = [cause for cause in self._lost.values() if cause is not None]
            why = f' ({describe(causes[-1])})' if causes else ''
            raise NotEnoughShardsError(
                f'{left} shards can be had and {needed} are needed; shard {lost[0]} is lost{why}',
                left,
                needed,
                causes,
            )
        if not self._layout.repairable:
            return []
        late = [shard.index for shard in targets if self._is_late(shard.index)]
        if not late:
            return []
        whole = set(self._whole())
        coming = {
            index
            for index, pull in self._pulls.items()
            if index not in late and (pull.spare or self._window.shows(pull.shard))
        }
        gap = needed - len(whole | coming)
        others = [
            shard
            for shard in shards
            if shard.index not in whole
            and shard.index not in self._lost
            and shard.index not in self._pulls
        ]
        return others[: max(0, gap)]

    def _is_late(self, index: int) -> bool:
        """Return whether a wanted shard is lost, in trouble, or among the last and slow."""
        pull = self._pulls.get(index)
        if pull is None:
            return index in self._lost
        if pull.troubled:
            return True
        # While others wait for a thread, a slow pull holds nothing up but itself.
        if pull.began is None or any(other.began is None for other in self._pulls.values()):
            return False
        durations = sorted(self._durations)
        usual = durations[len(durations) // 2] if durations else 0.0
        allowed = max(self._context.config.hedge_after, _SLOW * usual)
        return self._context.clock.now() - pull.began > allowed

    def _start(self, shard: StoredShard, *, spare: bool) -> None:
        pull = _Pull(shard, spare)
        with self._coordinator.condition:
            self._pulls[shard.index] = pull
        self._coordinator.spawn(self._context.pools.shards, self._pull, pull)

    def _pull(self, pull: _Pull) -> None:
        """Fetch one shard; a task."""
        shard, condition = pull.shard, self._coordinator.condition
        pull.began = self._context.clock.now()
        place = self._spool_place(shard) if pull.spare else self._window.place(shard)

        def troubled() -> None:
            with condition:
                pull.troubled = True
                condition.notify_all()

        lost: ShardLost | None = None
        whole = counted = False
        try:
            if not pull.unwanted:
                self._fetcher.fetch(
                    shard,
                    pull.guard(place),
                    cancelled=lambda: pull.unwanted or self._coordinator.stopped(),
                    troubled=troubled,
                )
                whole = True
        except ShardLost as error:
            lost = error
        finally:
            # Any other error ends the transfer; the driver must not take the shard for one that
            # came in the moment before it does.
            with condition:
                if self._pulls.get(shard.index) is pull:
                    del self._pulls[shard.index]
                if lost is not None and not pull.unwanted:
                    self._lost[shard.index] = lost.__cause__
                elif whole and not pull.unwanted:
                    counted = True
                    (self._spare if pull.spare else self.done).add(shard.index)
                    self._durations.append(self._context.clock.now() - pull.began)
                condition.notify_all()
        if counted and not pull.spare:
            self.arrived(shard)

    def arrived(self, shard: StoredShard) -> None:
        """Count a wanted shard; called in the thread that brought it."""
        self._book.meter.confirm()

    def _interrupt(self) -> None:
        """Drop the pulls that nobody waits for any more."""
        with self._coordinator.condition:
            dropped = list(self._pulls.values())
            self._pulls.clear()
        # Outside of the condition: a pull that is writing at this moment may want it.
        for pull in dropped:
            pull.drop()
        with self._coordinator.condition:
            self._coordinator.condition.notify_all()

    def _spool_place(self, shard: StoredShard) -> Place:
        with self._coordinator.condition:
            if self._spool is None:
                self._spool = Spool(self._context.config.temp_dir)
                self._coordinator.clean_up(self._spool.close)
            spool = self._spool
        start = shard.index * self._layout.shard_size

        def put(position: int, view: memoryview) -> None:
            spool.write(start + position, view)

        return put

    # -- repair ------------------------------------------------------------------------------------

    def _read_whole(self, index: int, position: int, buffer: memoryview) -> None:
        """Read a piece of a whole shard as it is stored, with zeros behind its end."""
        shard = self._layout.shards[index]
        there = max(0, min(len(buffer), shard.size - position))
        piece = buffer[:there]
        if there and index in self._spare and self._spool is not None:
            self._spool.read_into(index * self._layout.shard_size + position, piece)
        elif there:
            self._window.read_stored(shard, position, piece)
        buffer[there:] = bytes(len(buffer) - there)

    def _repair(self, missing: list[StoredShard]) -> None:
        """Compute missing shards from any D others, stripe by stripe."""
        layout = self._layout
        sources = self._whole()[: layout.data_shards]
        # Some may be whole in the spool already: a spare that only lies in the wrong place.
        copies = [shard for shard in missing if shard.index in sources]
        wanted = [shard for shard in missing if shard.index not in sources]
        _log.info('computing shards %s', [shard.index for shard in wanted])
        coder = ReedSolomon(layout.data_shards, len(layout.shards) - layout.data_shards)
        step = max(1024, min(256 * 1024, _STRIPES // (len(sources) + len(wanted))) // 1024 * 1024)
        have = {index: memoryview(bytearray(step)) for index in sources}
        want = {shard.index: memoryview(bytearray(step)) for shard in wanted}
        digests = {shard.index: ShardDigest() for shard in missing}
        places = {shard.index: self._window.place(shard) for shard in missing}
        for position in range(0, layout.shard_size, step):
            self._coordinator.check()
            length = min(step, layout.shard_size - position)
            stripe = {index: buffer[:length] for index, buffer in have.items()}
            for index, buffer in stripe.items():
                self._read_whole(index, position, buffer)
            made = {index: buffer[:length] for index, buffer in want.items()}
            coder.repair(stripe, made)
            for shard in missing:
                piece = (stripe if shard in copies else made)[shard.index]
                piece = piece[: max(0, shard.size - position)]
                digests[shard.index].update(piece)
                places[shard.index](position, piece)
        for shard in missing:
            if not hmac.compare_digest(digests[shard.index].hexdigest(), shard.hash):
                raise IntegrityError(
                    f'shard {shard.index}, computed from others, has not the hash that was stored'
                )
            with self._coordinator.condition:
                self.done.add(shard.index)
            self.arrived(shard)
