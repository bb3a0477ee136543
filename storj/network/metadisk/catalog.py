"""The catalogue of a node: the files that it stores, and the bytes that it moved.

The keys of the files are not among it: a node computes a file's key when the file comes in, hands
it out and forgets it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from storj.network.node.space import is_full

__all__ = ('Catalog', 'StoredFile', 'Traffic')

logger = logging.getLogger(__name__)

metadata = sa.MetaData()

_files = sa.Table(
    'metadisk_files',
    metadata,
    sa.Column('filehash', sa.String(64), primary_key=True),
    sa.Column('name', sa.String(255), nullable=False),
    sa.Column('size', sa.BigInteger, nullable=False),
    sa.Column('stored', sa.Integer, nullable=False),
    # The entry in the node's bucket; an empty file has none, for the network stores no empty shard.
    sa.Column('entry', sa.String(24)),
    # Of all shards but the last; kept so that a later release may choose another size.
    sa.Column('shard_size', sa.BigInteger, nullable=False),
)
_traffic = sa.Table(
    'metadisk_traffic',
    metadata,
    sa.Column('month', sa.String(7), primary_key=True),
    sa.Column('incoming', sa.BigInteger, nullable=False),
    sa.Column('outgoing', sa.BigInteger, nullable=False),
)


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


class Catalog:
    """The files and the traffic of one node.

    Args:
        engine (sa.Engine): database; the tables are made when they are missing.
        clock (Callable[[], float]): seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock
        metadata.create_all(engine)

    def find(self, filehash: str) -> StoredFile | None:
        """Return a file, or None."""
        with self._engine.connect() as connection:
            row = connection.execute(
                sa.select(_files).where(_files.c.filehash == filehash)
            ).one_or_none()
        return None if row is None else StoredFile(**row._mapping)

    def add(
        self, filehash: str, name: str, size: int, entry: str | None, shard_size: int
    ) -> StoredFile:
        """Record a file; the first uploader of a content has named it."""
        file = StoredFile(filehash, name, size, int(self._clock()), entry, shard_size)
        with self._engine.begin() as connection:
            connection.execute(sa.insert(_files).values(**vars(file)))
        return file

    def move(self, filehash: str, entry: str, shard_size: int) -> None:
        """Write down where the content of a known file lies from now on."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(_files)
                .where(_files.c.filehash == filehash)
                .values(entry=entry, shard_size=shard_size)
            )

    def used(self) -> int:
        """Return the bytes of all files."""
        with self._engine.connect() as connection:
            return int(connection.scalar(sa.select(sa.func.sum(_files.c.size))) or 0)

    def note(self, *, incoming: int = 0, outgoing: int = 0) -> None:
        """Add moved bytes to this month's; a full disk does not count them."""
        try:
            self._note(incoming, outgoing)
        except sa.exc.SQLAlchemyError as error:
            if not is_full(error):
                raise
            logger.warning('the database is full: moved bytes are not counted')

    def _note(self, incoming: int, outgoing: int) -> None:
        month = self._month()
        with self._engine.begin() as connection:
            changed = connection.execute(
                sa.update(_traffic)
                .where(_traffic.c.month == month)
                .values(
                    incoming=_traffic.c.incoming + incoming,
                    outgoing=_traffic.c.outgoing + outgoing,
                )
            )
            if changed.rowcount == 0:
                connection.execute(
                    sa.insert(_traffic).values(month=month, incoming=incoming, outgoing=outgoing)
                )

    def traffic(self) -> tuple[Traffic, Traffic]:
        """Return the traffic of this month and of all time."""
        sums = sa.select(sa.func.sum(_traffic.c.incoming), sa.func.sum(_traffic.c.outgoing))
        with self._engine.connect() as connection:
            month = connection.execute(sums.where(_traffic.c.month == self._month())).one()
            total = connection.execute(sums).one()
        return Traffic(*(int(n or 0) for n in month)), Traffic(*(int(n or 0) for n in total))

    def _month(self) -> str:
        return time.strftime('%Y-%m', time.gmtime(self._clock()))
