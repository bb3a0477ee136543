"""How long farmers were silent, and which are leaving: each bridge knew that by itself."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, text

revision = '6'
down_revision = '5'


def upgrade() -> None:
    """Make the columns."""
    silent = Column('silent', BigInteger, nullable=False, server_default=text('0'))
    op.add_column('contacts', silent)
    op.add_column('contacts', Column('leaving', BigInteger))
