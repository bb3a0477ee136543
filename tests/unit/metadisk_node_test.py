"""The rooms of the node that need no network: names, ledger, catalogue, spool, rate limit."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

sa = pytest.importorskip('sqlalchemy')

from storj.crypto.convergent import content_key, content_stream  # noqa: E402
from storj.network.metadisk import ledger as ledgers  # noqa: E402
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
def engine() -> Iterator[sa.Engine]:
    engine = sa.create_engine('sqlite://', poolclass=sa.pool.StaticPool)
    yield engine
    engine.dispose()


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


def test_balance_follows_every_movement(engine: sa.Engine) -> None:
    ledger = Ledger(engine, clock=lambda: 7.0)
    assert ledger.balance('any') == 0
    ledger.deposit('any', 30)
    ledger.withdraw('any', 30)
    assert ledger.balance('any') == 0
    with pytest.raises(InsufficientBalanceError):
        ledger.withdraw('any', 1)
    with pytest.raises(InsufficientBalanceError):
        ledger.withdraw('never credited', 0)
    with pytest.raises(InsufficientBalanceError):
        ledger.withdraw('any', 2**70)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(ledgers._movements.c['time', 'bytes', 'reason'])).all()
    assert [tuple(row) for row in rows] == [(7.0, 30, 'deposit'), (7.0, -30, 'withdraw')]


@pytest.mark.parametrize(('token', 'amount'), [('t', -1), ('', 1), ('t' * 65, 1), ('t', 2**63)])
def test_impossible_deposits_are_refused(engine: sa.Engine, token: str, amount: int) -> None:
    with pytest.raises(ValueError):
        Ledger(engine).deposit(token, amount)


def test_promocode_counts_once_for_each_token(engine: sa.Engine) -> None:
    ledger = Ledger(engine)
    assert ledger.redeem('a', 'PLEASE')
    assert not ledger.redeem('a', 'PLEASE')
    assert not ledger.redeem('a', 'please')
    assert not ledger.redeem('a', None)
    assert not ledger.redeem('a', ['PLEASE'])
    assert ledger.redeem('b', 'PLEASE')
    assert ledger.balance('a') == ledger.balance('b') == GIBIBYTE
    assert not ledger.redeem('t' * 65, 'PLEASE')


def test_balances_outlive_the_node(tmp_path: Path) -> None:
    for expected in (5, 10):
        engine = sa.create_engine(f'sqlite:///{tmp_path}/node.db')
        ledger = Ledger(engine)
        ledger.deposit('t', 5)
        assert ledger.balance('t') == expected
        engine.dispose()


def test_catalogue_sums_files_and_traffic_by_month(engine: sa.Engine) -> None:
    now = [0.0]
    catalog = Catalog(engine, clock=lambda: now[0])
    assert catalog.find('f' * 64) is None
    assert catalog.used() == 0
    added = catalog.add('f' * 64, 'fffffff_a', 40, 'e' * 24, 16)
    assert catalog.find('f' * 64) == added
    assert catalog.used() == 40
    catalog.note(incoming=40)
    catalog.note(outgoing=3)
    assert catalog.traffic() == (Traffic(40, 3), Traffic(40, 3))
    now[0] = 40 * 86400.0
    catalog.note(outgoing=4)
    assert catalog.traffic() == (Traffic(0, 4), Traffic(40, 7))


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
