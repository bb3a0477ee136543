"""The token of a new contract, which was a row of its own until now; those that are there stay."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String

revision = '12'
down_revision = '11'


def upgrade() -> None:
    """Make the column."""
    op.add_column('contracts', Column('token', String(64)))
