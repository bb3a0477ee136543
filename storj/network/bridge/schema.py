"""The schema of the bridge's database: made in an empty one, brought up by Alembic in others."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Connection, Engine, create_mock_engine, insert, inspect, select, text
from sqlalchemy.sql.ddl import ExecutableDDLElement

from storj.exception import NetworkSetupError
from storj.network.bridge.tables import REVISION, Base, SchemaVersion

#: Table of databases that no revision of Alembic made.
_BEFORE_ALEMBIC = 'bridge_schema'
_ALONE = (
    'SET LOCAL statement_timeout = 0',
    'SET LOCAL lock_timeout = 0',
    # Any number that every bridge has; nothing else of the database uses such locks.
    'SELECT pg_advisory_xact_lock(7382)',
)


class OldSchemaError(NetworkSetupError):
    """The database is empty, or an earlier version of this program made it.

    Run 'storj bridge migrate', or start the bridge with --migrate.
    """

    #: For commands, whose hint would be that of the settings otherwise.
    hint = "'storj bridge migrate' brings the database up, as does --migrate of a bridge"


def upgrade(engine: Engine, *, migrate: bool = True) -> str | None:
    """Bring the tables of a database to this version's revision; make them in an empty one.

    Args:
        engine (Engine): of the database.
        migrate (bool): whether anything may be changed.

    Returns:
        str | None: the revision before; None for a database that was empty.

    Raises:
        OldSchemaError: If something would have to be changed, and may not.
        NetworkSetupError: If another version of this program made them, such as a later one.
    """
    with engine.begin() as connection:
        if engine.dialect.name == 'postgresql' and migrate:
            # Bridges that start at the same time do this one after the other.
            for statement in _ALONE:
                connection.execute(text(statement))
        before = _revision(connection)
        if before == REVISION:
            return before
        if not (migrate and _is_earlier(before)):
            raise refusal(before)
        if before is None:
            # A test proves that this makes what the revisions make.
            for definition in _definitions(engine.dialect.name):
                connection.exec_driver_sql(definition)
            connection.execute(insert(SchemaVersion).values(version_num=REVISION))
            return None
        # Imported here, because that takes longer than the start of a bridge.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option('script_location', 'storj.network.bridge:migrations')
        config.attributes['connection'] = connection
        command.upgrade(config, REVISION)
        return before


@cache
def _definitions(dialect: str) -> tuple[str, ...]:
    """Return the statements that make all tables and indexes, for a kind of database.

    To put them into words takes ten times as long as SQLite takes to execute them.
    """
    made: list[ExecutableDDLElement] = []
    engine = create_mock_engine(f'{dialect}://', lambda ddl, *_, **__: made.append(ddl))
    Base.metadata.create_all(engine, checkfirst=False)
    return tuple(str(ddl.compile(dialect=engine.dialect)) for ddl in made)


def _revision(connection: Connection) -> str | None:
    """Return the revision of a schema: 0 is from before Alembic, None an empty database."""
    found = inspect(connection)
    if found.has_table(SchemaVersion.__tablename__):
        return connection.scalar(select(SchemaVersion.version_num)) or '0'
    return '0' if found.has_table(_BEFORE_ALEMBIC) else None


def _is_earlier(revision: str | None) -> bool:
    """Return whether there are revisions that lead from one to that of this version."""
    return revision is None or (revision.isdecimal() and int(revision) < int(REVISION))


def refusal(revision: str | None) -> NetworkSetupError:
    """Return why a schema of another revision than this version's is not used."""
    if _is_earlier(revision):
        found = 'is missing' if revision is None else f'is of revision {revision}'
        return OldSchemaError(f'its schema {found}, and this version needs revision {REVISION}')
    # Ours are numbers so far; other programs that use Alembic have hashes.
    other = '' if revision is None or revision.isdecimal() else ', or by another one'
    return NetworkSetupError(
        f'made by a later version of this program{other}: its schema is of revision {revision},'
        f' this version knows those up to {REVISION}'
    )
