"""The table of shards with too few copies: bridges kept them in memory until now.

A bridge finds those of before by its first look at all shards.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, String

revision = '9'
down_revision = '8'


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        'repairs',
        Column('shard_hash', String(40), primary_key=True),
        Column('copies', BigInteger, nullable=False),
        Column('due', BigInteger, nullable=False),
        Column('pause', BigInteger, nullable=False),
        Column('refused', Boolean, nullable=False),
        Column('owner', String(16)),
        Column('again', Boolean, nullable=False),
    )
    op.create_index('repairs_by_urgency', 'repairs', ['copies', 'due'])
