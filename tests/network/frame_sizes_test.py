"""The rule of shard sizes, as the database applies it, against the rule as it is said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj.network.bridge.auth import Caller
from storj.network.bridge.database import Database
from storj.network.bridge.frames import Addition, check_addition
from storj.network.bridge.placement import Shard
from storj.network.bridge.state import Release
from storj.network.bridge.tables import Frame, Pointer, User
from storj.network.node.wire import Refusal

RELEASE = Release.parse('7.7.1')
SIZES = st.sampled_from((15359, 15360, 20000))
PIECES = st.tuples(SIZES, st.booleans())


@pytest.fixture(scope='module')
def database() -> Iterator[Database]:
    database = Database('sqlite://')
    with database.begin() as session:
        session.add(User(email='a@b', password='', created=0, activated=True, uuid=''))
    yield database
    database.close()


def allowed(data: dict[int, int]) -> bool:
    """All data shards but the last have the size of the first, and at least 15 KiB."""
    if len(data) < 2 or 0 not in data:
        return True
    last = max(data)
    return data[0] >= 15360 and all(data[index] == data[0] or index == last for index in data)


@given(
    there=st.dictionaries(st.integers(0, 5), PIECES, max_size=5),
    index=st.integers(0, 6),
    piece=PIECES,
)
def test_database_keeps_the_rule_of_sizes(
    database: Database, there: dict[int, tuple[int, bool]], index: int, piece: tuple[int, bool]
) -> None:
    size, parity = piece
    after = {**there, index: piece}
    data = {position: each for position, (each, is_parity) in after.items() if not is_parity}
    frame = Frame(id='f' * 24, user='a@b', created=0, locked=False, size=0, storage_size=0)
    addition = Addition(Shard('0' * 40, size, (), ()), index, parity, frozenset())
    with database.begin() as session:
        session.add(frame)
        session.flush()
        session.add_all(
            Pointer(
                id=str(position),
                frame='f' * 24,
                position=position,
                shard_hash='0' * 40,
                size=each,
                parity=is_parity,
            )
            for position, (each, is_parity) in there.items()
        )
        session.flush()
        try:
            caller = Caller('a@b')
            check_addition(session.connection(), caller, 'f' * 24, addition, RELEASE, now=0)
            taken = True
        except Refusal:
            taken = False
        session.rollback()
    assert taken == allowed(data)
