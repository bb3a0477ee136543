"""The tables as Alembic first met them; also brings up databases from before Alembic.

Those name no revision. They may be without newer columns, all of which have a default that the
server knows, and have other indexes, or tables that nothing reads any more.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Inspector,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    inspect,
    text,
    true,
)
from sqlalchemy.schema import CreateColumn

from storj.exception import NetworkSetupError

revision = '1'
down_revision = None

TABLES = MetaData()
Table(
    'users',
    TABLES,
    Column('email', String(320), primary_key=True),
    Column('password', String(200), nullable=False),
    Column('pending_password', String(200)),
    Column('created', BigInteger, nullable=False),
    Column('activated', Boolean, nullable=False),
    Column('free_tier', Boolean, nullable=False, server_default=true()),
    Column('uuid', String(36), nullable=False),
    Column('referral_partner', String(255)),
    Column('activator', String(64), index=True),
    Column('deactivator', String(64), index=True),
    Column('resetter', String(64), index=True),
)
Table(
    'volumes',
    TABLES,
    Column('user', String(320), ForeignKey('users.email'), primary_key=True),
    Column('direction', String(8), primary_key=True),
    Column('window', BigInteger, primary_key=True),
    Column('begun', BigInteger, nullable=False),
    Column('bytes', BigInteger, nullable=False),
)
Table(
    'keys',
    TABLES,
    Column('key', String(130), primary_key=True),
    Column('user', String(320), ForeignKey('users.email'), nullable=False, index=True),
    Column('label', Text, nullable=False),
    Column('created', BigInteger, nullable=False),
)
Table(
    'nonces',
    TABLES,
    Column('user', String(320), ForeignKey('users.email'), primary_key=True),
    Column('nonce', String(64), primary_key=True),
    Column('created', BigInteger, nullable=False, index=True),
)
Table(
    'buckets',
    TABLES,
    Column('id', String(24), primary_key=True),
    Column('user', String(320), ForeignKey('users.email'), nullable=False),
    Column('name', String(260), nullable=False),
    Column('created', BigInteger, nullable=False),
    Column('public_keys', JSON, nullable=False),
    Column('public_permissions', JSON, nullable=False),
    Column('encryption_key', Text, nullable=False),
    UniqueConstraint('user', 'name'),
    Index('buckets_by_date', 'user', 'created'),
)
Table(
    'tokens',
    TABLES,
    Column('token', String(64), primary_key=True),
    Column('bucket', String(24), ForeignKey('buckets.id'), nullable=False, index=True),
    Column('operation', String(4), nullable=False),
    Column('expires', BigInteger, nullable=False, index=True),
)
Table(
    'frames',
    TABLES,
    Column('id', String(24), primary_key=True),
    Column('user', String(320), ForeignKey('users.email'), nullable=False),
    Column('created', BigInteger, nullable=False),
    Column('locked', Boolean, nullable=False, index=True),
    Column('waits', BigInteger, nullable=False, server_default=text('7776000')),
    Column('size', BigInteger, nullable=False),
    Column('storage_size', BigInteger, nullable=False),
    Index('frames_by_date', 'user', 'created'),
)
Table(
    'pointers',
    TABLES,
    Column('id', String(24), primary_key=True),
    Column('frame', String(24), ForeignKey('frames.id'), nullable=False),
    Column('position', BigInteger, nullable=False),
    Column('shard_hash', String(40), nullable=False, index=True),
    Column('size', BigInteger, nullable=False),
    Column('parity', Boolean, nullable=False),
    UniqueConstraint('frame', 'position'),
)
Table(
    'entries',
    TABLES,
    Column('id', String(24), primary_key=True),
    Column('bucket', String(24), ForeignKey('buckets.id'), nullable=False),
    Column('frame', String(24), ForeignKey('frames.id'), nullable=False, unique=True),
    Column('name', Text),
    Column('mimetype', String(255), nullable=False),
    Column('created', BigInteger, nullable=False),
    Column('renewal', BigInteger, nullable=False),
    Column('hmac_type', String(9)),
    Column('hmac_value', String(128)),
    Column('erasure', String(11)),
    Column('index', String(64), unique=True),
    Index('entries_by_date', 'bucket', 'created'),
)
Table(
    'contacts',
    TABLES,
    Column('node_id', String(40), primary_key=True),
    Column('address', String(255), nullable=False),
    Column('local', Boolean, nullable=False, server_default=false()),
    Column('port', BigInteger, nullable=False),
    Column('protocol', String(80), nullable=False),
    Column('user_agent', String(64), nullable=False),
    Column('created', BigInteger, nullable=False, index=True),
    Column('last_seen', BigInteger, nullable=False, index=True),
    Column('space_available', Boolean, nullable=False),
    Column('space_offered', BigInteger),
    Column('response_time', Double),
    Column('last_timeout', BigInteger),
    Column('timeout_rate', Double, nullable=False),
    Column('last_contract_sent', BigInteger),
    Column('reputation', BigInteger, nullable=False),
    Column('lost', Boolean, nullable=False, server_default=false()),
    Column('returns', BigInteger, nullable=False, server_default=text('0')),
    Column('unchecked', Boolean, nullable=False, server_default=false()),
    Column('audits_passed', BigInteger, nullable=False, server_default=text('0')),
    Column('audits_failed', BigInteger, nullable=False, server_default=text('0')),
)
Table(
    'contracts',
    TABLES,
    Column('shard_hash', String(40), primary_key=True),
    Column('node_id', String(40), ForeignKey('contacts.node_id'), primary_key=True),
    Column('data_size', BigInteger, nullable=False),
    Column('store_begin', BigInteger, nullable=False),
    Column('store_end', BigInteger, nullable=False),
    Column('tree', JSON, nullable=False),
    Column('document', JSON, nullable=False),
    Column('auditable', Boolean, nullable=False),
    Column('stored', Boolean, nullable=False),
    Column('mirror', Boolean, nullable=False),
    Column('failed', Boolean, nullable=False),
    Column('download_count', BigInteger, nullable=False),
    Column('verified', BigInteger, nullable=False, server_default=text('0')),
    Column('next_audit', BigInteger, nullable=False),
    Column('next_renewal', BigInteger, nullable=False, server_default=text('0')),
    Index('contracts_by_audit', 'node_id', 'next_audit'),
    Index('contracts_by_renewal', 'node_id', 'next_renewal'),
)
Table(
    'challenges',
    TABLES,
    Column('shard_hash', String(40), primary_key=True),
    Column('node_id', String(40), primary_key=True),
    Column('position', BigInteger, primary_key=True),
    Column('challenge', String(64), nullable=False),
    Column('sent', BigInteger),
    Column('passed', Boolean),
    ForeignKeyConstraint(
        ['shard_hash', 'node_id'], ['contracts.shard_hash', 'contracts.node_id'], ondelete='CASCADE'
    ),
)
Table(
    'farmer_tokens',
    TABLES,
    Column('token', String(64), primary_key=True),
    Column('shard_hash', String(40), nullable=False),
    Column('node_id', String(40), nullable=False),
    Column('created', BigInteger, nullable=False, index=True),
)
Table(
    'work_challenges',
    TABLES,
    Column('challenge', String(64), primary_key=True),
    Column('target', String(64), nullable=False),
    Column('expires', BigInteger, nullable=False, index=True),
)


#: Made by databases from before Alembic; the first told what columns there were.
_FORMER_TABLES = ('bridge_schema', 'reports')


def upgrade() -> None:
    """Make the tables, or what is missing in existing ones; the next start completes the rest.

    Raises:
        NetworkSetupError: If existing tables are not those of an earlier version: they have an
            unknown column, or miss one that has no default.
    """
    connection = op.get_bind()
    found = inspect(connection)
    known = [table for table in TABLES.sorted_tables if found.has_table(table.name)]
    missing = [column for table in known for column in _missing(found, table)]
    for column in missing:
        addition = CreateColumn(column).compile(dialect=connection.dialect)
        op.execute(f'ALTER TABLE {column.table.name} ADD COLUMN {addition}')
    TABLES.create_all(connection)
    for table in known:
        for index in table.indexes:
            index.create(connection, checkfirst=True)
        # Those that are not known any more would mislead a planner.
        names = {index.name for index in table.indexes}
        for former in found.get_indexes(table.name):
            if former['name'] not in names and 'duplicates_constraint' not in former:
                op.execute(f'DROP INDEX {former["name"]}')
    for name in _FORMER_TABLES:
        op.execute(f'DROP TABLE IF EXISTS {name}')


def _missing(found: Inspector, table: Table) -> list[Column[object]]:
    """Return the columns that an existing table does not have."""
    names = {column['name'] for column in found.get_columns(table.name)}
    missing = [column for column in table.columns if column.name not in names]
    if not names <= set(table.columns.keys()) or any(c.server_default is None for c in missing):
        raise NetworkSetupError('made by another version of this program; start with a new one')
    return missing
