"""The table of the rounds that one bridge of a database does at a time."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, String

revision = '3'
down_revision = '2'


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        'leases',
        Column('name', String(64), primary_key=True),
        Column('owner', String(16), nullable=False),
        Column('until', BigInteger, nullable=False),
    )
