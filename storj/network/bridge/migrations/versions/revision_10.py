"""The tables of MetaDisk; each bridge had them in its folder (see ``metadisk.mount``)."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Integer, String

revision = '10'
down_revision = '9'


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        'metadisk_balances',
        Column('token', String(64), primary_key=True),
        Column('bytes', BigInteger, nullable=False),
    )
    op.create_table(
        'metadisk_movements',
        Column('id', BigInteger().with_variant(Integer, 'sqlite'), primary_key=True),
        Column('time', Double, nullable=False),
        Column('token', String(64), nullable=False, index=True),
        Column('bytes', BigInteger, nullable=False),
        Column('reason', String(64), nullable=False),
    )
    op.create_table(
        'metadisk_redeemed',
        Column('token', String(64), primary_key=True),
        Column('code', String(64), primary_key=True),
    )
    op.create_table(
        'metadisk_files',
        Column('filehash', String(64), primary_key=True),
        Column('name', String(255), nullable=False),
        Column('size', BigInteger, nullable=False),
        Column('stored', BigInteger, nullable=False),
        Column('entry', String(24)),
        Column('shard_size', BigInteger, nullable=False),
    )
    op.create_table(
        'metadisk_traffic',
        Column('month', String(7), primary_key=True),
        Column('incoming', BigInteger, nullable=False),
        Column('outgoing', BigInteger, nullable=False),
    )
    op.create_table(
        'metadisk_usage',
        Column('name', String(8), primary_key=True),
        Column('bytes', BigInteger, nullable=False),
    )
