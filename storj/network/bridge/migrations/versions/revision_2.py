"""Removes the frames and pointers of files that were removed: they were kept until now.

Contracts whose shards nothing needs are due at once, so that they are ended.
"""

from __future__ import annotations

from alembic import op

revision = '2'
down_revision = '1'


def upgrade() -> None:
    """Remove what no file has; frames of uploads are not locked, and stay."""
    op.execute(
        'DELETE FROM pointers WHERE frame IN (SELECT frames.id FROM frames WHERE frames.locked'
        ' AND NOT EXISTS (SELECT 1 FROM entries WHERE entries.frame = frames.id))'
    )
    op.execute(
        'DELETE FROM frames WHERE frames.locked'
        ' AND NOT EXISTS (SELECT 1 FROM entries WHERE entries.frame = frames.id)'
    )
    op.execute(
        'UPDATE contracts SET next_renewal = 0 WHERE NOT EXISTS'
        ' (SELECT 1 FROM pointers WHERE pointers.shard_hash = contracts.shard_hash)'
    )
