"""The catalogue of a node: the files that it stores, and the bytes that it moved.

The keys of the files are not among it: a node computes a file's key when the file comes in, hands
it out and forgets it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, fields

import sqlalchemy as sa

from storj.digest import is_hex
from storj.network.bridge.database import Database
from storj.network.bridge.tables import MetaDiskFile, MetaDiskTraffic, MetaDiskUsage
from storj.network.node.space import is_full

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredFile:
    """A file of the node.

    Attributes:
        filehash (str): SHA-256 of the ciphertext, 64 hex digits.
        name (str): stored name.
        size (int): bytes.
        stored (int): seconds since 1970.
        entry (str | None): id of the entry in the node's bucket; None for an empty file.
        shard_size (int): bytes of every shard but the last.
    """

    filehash: str
    name: str
    size: int
    stored: int
    entry: str | None
    shard_size: int


@dataclass(frozen=True)
class Traffic:
    """Bytes that uploads brought in and downloads took out."""

    incoming: int = 0
    outgoing: int = 0


_FIND = sa.select(*(getattr(MetaDiskFile, each.name) for each in fields(StoredFile))).where(
    MetaDiskFile.filehash == sa.bindparam('wanted')
)
_MOVED = (
    sa.update(MetaDiskFile)
    .where(MetaDiskFile.filehash == sa.bindparam('of'))
    .values(entry=sa.bindparam('to'), shard_size=sa.bindparam('sizes'))
)
_SUMS = sa.select(sa.func.sum(MetaDiskTraffic.incoming), sa.func.sum(MetaDiskTraffic.outgoing))
_USED = sa.select(MetaDiskUsage.bytes).where(MetaDiskUsage.name == 'files')


class Catalog:
    """The files and the traffic of MetaDisk.

    Args:
        database (Database): of the bridge.
        clock (Callable[[], float]): seconds since 1970.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._new = (
            database.insert(MetaDiskFile).on_conflict_do_nothing().returning(MetaDiskFile.filehash)
        )
        more = database.insert(MetaDiskUsage)
        self._grow = more.on_conflict_do_update(
            index_elements=[MetaDiskUsage.name],
            set_={'bytes': MetaDiskUsage.bytes + more.excluded.bytes},
        )
        moved = database.insert(MetaDiskTraffic)
        self._count = moved.on_conflict_do_update(
            index_elements=[MetaDiskTraffic.month],
            set_={
                'incoming': MetaDiskTraffic.incoming + moved.excluded.incoming,
                'outgoing': MetaDiskTraffic.outgoing + moved.excluded.outgoing,
            },
        )

    async def find(self, filehash: str) -> StoredFile | None:
        """Return a file, or None."""
        if not is_hex(filehash, 64):
            return None
        row = await self._database.read(
            lambda connection: connection.execute(_FIND, {'wanted': filehash}).one_or_none()
        )
        return None if row is None else StoredFile(*row)

    async def add(
        self, filehash: str, name: str, size: int, entry: str | None, shard_size: int
    ) -> StoredFile:
        """Record a file; the first uploader of a content has named it.

        Another bridge may have stored the same content at the same time, under the same entry.
        """
        file = StoredFile(filehash, name, size, int(self._clock()), entry, shard_size)

        def enter(connection: sa.Connection) -> None:
            if connection.execute(self._new, vars(file)).first() is not None:
                connection.execute(self._grow, {'name': 'files', 'bytes': size})

        await self._database.run(enter)
        return file

    async def move(self, filehash: str, entry: str, shard_size: int) -> None:
        """Write down where the content of a known file lies from now on."""
        place = {'of': filehash, 'to': entry, 'sizes': shard_size}
        await self._database.run(lambda connection: connection.execute(_MOVED, place))

    async def used(self) -> int:
        """Return the bytes of all files."""
        return await self._database.read(lambda connection: connection.scalar(_USED)) or 0

    async def note(self, *, incoming: int = 0, outgoing: int = 0) -> None:
        """Add moved bytes to this month's; a full disk does not count them."""
        moved = {'month': self._month(), 'incoming': incoming, 'outgoing': outgoing}
        try:
            await self._database.run(lambda connection: connection.execute(self._count, moved))
        except sa.exc.SQLAlchemyError as error:
            if not is_full(error):
                raise
            logger.warning('the database is full: moved bytes are not counted')

    async def traffic(self) -> tuple[Traffic, Traffic]:
        """Return the traffic of this month and of all time."""
        month = _SUMS.where(MetaDiskTraffic.month == self._month())

        def find(connection: sa.Connection) -> list[Traffic]:
            rows = [connection.execute(sums).one() for sums in (month, _SUMS)]
            # Some databases sum whole numbers up to decimal ones.
            return [Traffic(*(int(number or 0) for number in row)) for row in rows]

        current, total = await self._database.run(find)
        return current, total

    def _month(self) -> str:
        return time.strftime('%Y-%m', time.gmtime(self._clock()))
