"""Who asked for a contract, so that open promises are found by rows."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String, text

revision = '7'
down_revision = '6'


def upgrade() -> None:
    """Make the column and the indexes."""
    op.add_column('contracts', Column('account', String(320)))
    for name, condition, columns in (
        ('contracts_awaited', 'verified = -1', ['account', 'store_begin', 'data_size']),
        ('contracts_given_up', 'next_renewal = 0 AND verified = -1', ['shard_hash']),
    ):
        where = text(condition)
        op.create_index(name, 'contracts', columns, sqlite_where=where, postgresql_where=where)
