"""Where the bytes of shards lie: what a farmer needs of a disk, of an object store, of nothing.

A store knows bytes under a hash, and nothing else: not who owns a shard, how much space there is to
offer, nor whether the bytes have the hash. Those who use it know:
:class:`~storj.network.farmer.shard_store.ShardStore` counts and checks,
:class:`~storj.network.farmer.shards.Shards` decides.

::

    channels, copies, audits --> Shards -------> ShardStore --> Store: disk | objects | null
                                 index, expiry   sizes, hashes   bytes
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Literal, NamedTuple, Protocol, get_args

from storj.exception import StorjError
from storj.network.node.identity import is_node_id

#: ``stored``, or in quarantine because nobody needs a shard (``ended``) or it is wrong (``bad``).
Place = Literal['stored', 'ended', 'bad']
PLACES: tuple[Place, ...] = get_args(Place)


class StoreError(StorjError):
    """A shard cannot be read or written.

    Check the disk under the farmer's path, or its object store.
    """


class NoSpaceLeftError(StoreError):
    """The farmer's size, or the disk under it, is used up.

    Give the farmer a larger size, or start another one.
    """


class DamagedShardError(StoreError):
    """The bytes of one shard cannot be read, while those of others can.

    The farmer puts the shard into quarantine and tells the bridge.
    """


class Found(NamedTuple):
    """What a store says of a shard without reading it.

    Attributes:
        size (int): bytes.
        stamp (Hashable): another one whenever the bytes have been replaced.
    """

    size: int
    stamp: Hashable


class Incoming(Protocol):
    """A shard that is being written; it counts for nothing before :meth:`commit`.

    One thread at a time uses it. Whoever made it calls :meth:`abort` in the end, in any case.
    """

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Append bytes, all of them; may wait.

        Raises:
            NoSpaceLeftError: If they do not fit.
            StoreError: If they cannot be written.
        """

    def commit(self) -> None:
        """Make what was written the shard of its hash, in one step; may wait.

        An earlier shard of the hash is replaced. Whoever reads meanwhile gets the old bytes or the
        new ones, never a mixture and never a part. After a durable store has returned, they survive
        a power failure.

        Raises:
            NoSpaceLeftError: If they do not fit.
            StoreError: If that fails; what was stored before stays.
        """

    def abort(self) -> None:
        """Throw away what was not committed; never waits for a network, never raises."""


class Reader(Protocol):
    """A shard that is being read, from its beginning; for one thread at a time."""

    def read(self, size: int, /) -> bytes:
        """Return the next `size` bytes, fewer only at the end of the shard; may wait.

        Raises:
            DamagedShardError: If this shard cannot be read, or is gone, and others are not.
            StoreError: If nothing can be read.
        """

    def close(self) -> None:
        """Release it; may be called twice."""


class Store(Protocol):
    """Bytes by hash. The suite of tests for stores checks each sentence here for every store.

    Methods may be called from several threads at one time, but not for the same shard, except
    :meth:`create` and :meth:`open`. A name that is no hash is a ``ValueError``.

    Attributes:
        keeps_data (bool): whether what is stored can be read again.
        is_local (bool): whether calls return so quickly that an event loop may make them.
            A local store also lists its shards at the start; of any other the index knows.
    """

    keeps_data: bool
    is_local: bool

    def create(self, data_hash: str, size: int, /) -> Incoming:
        """Begin to write a shard; never waits for a network.

        Args:
            data_hash (str): 40 hex characters.
            size (int): bytes it will have at the most.

        Raises:
            StoreError: If that is impossible.
        """

    def open(self, data_hash: str, /) -> Reader:
        """Begin to read a shard; never waits for a network.

        Raises:
            StoreError: If it is known not to be there; else the first read says so.
        """

    def find(self, data_hash: str, /) -> Found | None:
        """Return what is stored under a hash, None if there is nothing.

        Raises:
            StoreError: If the store is away, or another one than at the start. A store that was
                taken away does not look like one that lost all of its shards.
        """

    def move(self, data_hash: str, source: Place, target: Place, /) -> int | None:
        """Move a shard to another place and return its bytes, None if it is not there.

        After a crash in the middle it is in one of both places at least.

        Raises:
            StoreError: If that fails.
        """

    def delete(self, data_hash: str, place: Place, /) -> None:
        """Delete a shard from a place; nothing happens if it is not there.

        Raises:
            StoreError: If that fails.
        """

    def listing(self) -> Iterator[tuple[Place, str, int]]:
        """Yield place, hash and bytes of everything, in any order; takes long.

        Raises:
            StoreError: If that fails.
        """

    def expect(self, count: int, owner: str, /) -> None:
        """Refuse a store that is another one than the index was made with; may wait.

        Args:
            count (int): shards that the index knows of.
            owner (str): node id of the farmer.

        Raises:
            NetworkSetupError: If nothing was ever stored here, as on a disk that is not mounted,
                or if it is another farmer's.
            StoreError: If the store does not answer.
        """

    def free(self) -> int | None:
        """Return the bytes that fit; None if there is no limit. Never waits for a network.

        Raises:
            StoreError: If the store does not answer; nothing is to be written now.
        """


def check_hash(data_hash: str) -> None:
    """Refuse what is no hash: names of shards become names of files and objects.

    Raises:
        ValueError: If it is none.
    """
    if not is_node_id(data_hash):
        raise ValueError('a shard hash has 40 hex characters')
