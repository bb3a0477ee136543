"""The table of the secrets that all bridges of a database share."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String, Text

revision = '5'
down_revision = '4'


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        'secrets',
        Column('name', String(64), primary_key=True),
        Column('value', Text, nullable=False),
    )
