"""The table of numbers that were counted for metrics."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Double, String

revision = '8'
down_revision = '7'


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        'measures',
        Column('name', String(64), primary_key=True),
        Column('value', Double, nullable=False),
    )
