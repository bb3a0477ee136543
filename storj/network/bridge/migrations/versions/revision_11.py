"""What is counted for all bridges is JSON: the counts of all contracts and files are one value."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Column, String

revision = '11'
down_revision = '10'


def upgrade() -> None:
    """Make the table again: all of it is counted again."""
    op.drop_table('measures')
    op.create_table(
        'measures',
        Column('name', String(64), primary_key=True),
        Column('value', JSON, nullable=False),
    )
