"""The table of counters: how often what is limited was done."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, String

revision = '4'
down_revision = '3'


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        'counters',
        Column('key', String(64), primary_key=True),
        Column('ends', BigInteger, nullable=False, index=True),
        Column('used', BigInteger, nullable=False),
    )
