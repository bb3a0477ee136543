"""The rooms of the node that need no network: names, ledger, catalogue, spool, rate limit."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

sa = pytest.importorskip('sqlalchemy')

from storj.crypto.convergent import content_key, content_stream  # noqa: E402
from storj.network.bridge.database import Database  # noqa: E402
from storj.network.bridge.tables import MetaDiskMovement  # noqa: E402
from storj.network.metadisk.catalog import Catalog, Traffic  # noqa: E402
from storj.network.metadisk.ledger import (  # noqa: E402
    GIBIBYTE,
    InsufficientBalanceError,
    Ledger,
    new_token,
    token_text,
)
from storj.network.metadisk.names import clean_name, media_type, stored_name  # noqa: E402
from storj.network.metadisk.spool import Spool  # noqa: E402


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database('sqlite://')
    yield database
    database.close()


@pytest.mark.parametrize(
    ('name', 'cleaned'),
    [
        ('test.dat', 'test.dat'),
        ('../../etc/passwd', 'etc_passwd'),
        ('/etc/passwd', 'etc_passwd'),
        ('my file (1).txt', 'my_file_1.txt'),
        ('日本語.txt', 'txt'),
        ('日本語', 'file'),
        ('', 'file'),
        ('...', 'file'),
        ('.bashrc', 'bashrc'),
        ('C:\\dir\\w.txt', 'w.txt'),
        ('\\\\host\\share\\w.txt', 'w.txt'),
        ('naïve café.md', 'naive_cafe.md'),
        ('a\r\nSet-Cookie: x="1"', 'a_Set-Cookie_x1'),
        ('nul\0byte', 'nul_byte'),
        ('CON', 'CON'),
    ],
)
def test_hostile_names_are_cleaned(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned


def test_long_names_keep_their_extension() -> None:
    cleaned = clean_name('x' * 100_000)
    assert len(cleaned) == 200
    cleaned = clean_name('y' * 300 + '.tar')
    assert len(cleaned) == 200
    assert cleaned.endswith('y.tar')


def test_stored_name_begins_with_the_hash() -> None:
    assert stored_name('0c12e76f' + 56 * '0', 'test.dat') == '0c12e76_test.dat'


def test_media_type_is_guessed_from_the_name() -> None:
    assert media_type('0c12e76_a.txt') == 'text/plain; charset=utf-8'
    assert media_type('0c12e76_a.png') == 'image/png'
    assert media_type('0c12e76_a.tar.gz') == 'application/octet-stream'
    assert media_type('0c12e76_a') == 'application/octet-stream'


def test_token_is_base_62_lowest_digit_first() -> None:
    assert token_text(b'\x66' * 12) == 'oiFyR2NcMvaSiNDf'
    assert token_text(bytes(12)) == '0' * 16
    tokens = {new_token() for _ in range(50)}
    assert len(tokens) == 50
    assert all(len(token) == 16 and token.isalnum() for token in tokens)


async def amounts(database: Database) -> list[tuple[float, int, str]]:
    columns = (MetaDiskMovement.time, MetaDiskMovement.bytes, MetaDiskMovement.reason)
    rows = await database.read(lambda connection: connection.execute(sa.select(*columns)).all())
    return [tuple(row) for row in rows]


def test_balance_follows_every_movement(database: Database) -> None:
    async def move() -> None:
        ledger = Ledger(database, clock=lambda: 7.0)
        assert await ledger.balance('any') == 0
        await ledger.deposit('any', 30)
        await ledger.withdraw('any', 30)
        assert await ledger.balance('any') == 0
        for token, amount in (('any', 1), ('never credited', 0), ('any', 2**70)):
            with pytest.raises(InsufficientBalanceError):
                await ledger.withdraw(token, amount)
        assert await amounts(database) == [(7.0, 30, 'deposit'), (7.0, -30, 'withdraw')]
        await ledger.deposit('any', 2**63 - 1)
        with pytest.raises(ValueError, match='64 bits'):
            await ledger.deposit('any', 1)
        assert await ledger.balance('any') == 2**63 - 1

    asyncio.run(move())


@pytest.mark.parametrize(
    ('token', 'amount'), [('t', -1), ('', 1), ('t' * 65, 1), ('t', 2**63), ('t\0', 1)]
)
def test_impossible_deposits_are_refused(database: Database, token: str, amount: int) -> None:
    with pytest.raises(ValueError):
        asyncio.run(Ledger(database).deposit(token, amount))


def test_promocode_counts_once_for_each_token(database: Database) -> None:
    async def redeem() -> None:
        ledger = Ledger(database)
        codes = ['PLEASE', 'PLEASE', 'please', None, ['PLEASE']]
        assert [await ledger.redeem('a', code) for code in codes] == [True, *[False] * 4]
        assert await ledger.redeem('b', 'PLEASE')
        assert await ledger.balance('a') == await ledger.balance('b') == GIBIBYTE
        assert not await ledger.redeem('t' * 65, 'PLEASE')

    asyncio.run(redeem())


def test_catalogue_sums_files_and_traffic_by_month(database: Database) -> None:
    async def fill() -> None:
        now = [0.0]
        catalog = Catalog(database, clock=lambda: now[0])
        assert await catalog.find('f' * 64) is None
        assert await catalog.used() == 0
        added = await catalog.add('f' * 64, 'fffffff_a', 40, 'e' * 24, 16)
        # Another bridge was as fast.
        await catalog.add('f' * 64, 'fffffff_b', 40, 'e' * 24, 16)
        assert await catalog.find('f' * 64) == added
        assert await catalog.used() == 40
        await catalog.note(incoming=40)
        await catalog.note(outgoing=3)
        assert await catalog.traffic() == (Traffic(40, 3), Traffic(40, 3))
        now[0] = 40 * 86400.0
        await catalog.note(outgoing=4)
        assert await catalog.traffic() == (Traffic(0, 4), Traffic(40, 7))

    asyncio.run(fill())


def test_spool_shows_no_plaintext_and_seals_convergently(tmp_path: Path) -> None:
    plain = os.urandom(2 * 1024 * 1024 + 17)
    spool = Spool(tmp_path)
    for offset in range(0, len(plain), 300_000):
        spool.write(plain[offset : offset + 300_000])
    assert spool.size == len(plain)
    # No name, so nothing that another user could open or a crash could leave behind.
    assert list(tmp_path.iterdir()) == []
    assert os.pread(spool.fileno(), 64, 0) != plain[:64]
    filehash, key = spool.seal()
    sealed = os.pread(spool.fileno(), len(plain) + 1, 0)
    spool.close()
    assert key == content_key(hashlib.sha256(plain).digest()).hex()
    assert sealed == content_stream(bytes.fromhex(key)).process(plain)
    assert filehash == hashlib.sha256(sealed).hexdigest()
