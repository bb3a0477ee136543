"""Balances of access tokens: how much each may still transfer.

A token is a bearer string; making one stores nothing, and any string has the balance 0 until it is
credited. All amounts are bytes. Every movement is recorded together with the balance that it
changes, in one transaction.
"""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from storj.text import count_of

__all__ = (
    'GIBIBYTE',
    'PRICES',
    'InsufficientBalanceError',
    'Ledger',
    'Price',
    'new_token',
    'token_text',
)

GIBIBYTE = 1024**3

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_TOKEN_BYTES = 12
_TOKEN_DIGITS = 16
_TOKEN_LIMIT = 64
_LARGEST = 2**63 - 1

metadata = sa.MetaData()

_balances = sa.Table(
    'metadisk_balances',
    metadata,
    sa.Column('token', sa.String(_TOKEN_LIMIT), primary_key=True),
    sa.Column('bytes', sa.BigInteger, nullable=False),
)
_movements = sa.Table(
    'metadisk_movements',
    metadata,
    sa.Column('id', sa.Integer, primary_key=True),
    sa.Column('time', sa.Float, nullable=False),
    sa.Column('token', sa.String(_TOKEN_LIMIT), nullable=False, index=True),
    sa.Column('bytes', sa.BigInteger, nullable=False),
    sa.Column('reason', sa.String(64), nullable=False),
)
_redeemed = sa.Table(
    'metadisk_redeemed',
    metadata,
    sa.Column('token', sa.String(_TOKEN_LIMIT), primary_key=True),
    sa.Column('code', sa.String(64), primary_key=True),
)


class InsufficientBalanceError(Exception):
    """The token's balance is smaller than the cost; nothing was taken."""


@dataclass(frozen=True)
class Price:
    """Bytes of transfer and what they cost in US cents."""

    amount: int
    cost: int


#: The prices of the public nodes in 2014: 100 GiB for 5 dollars, 1000 GiB for 50.
PRICES = (Price(100 * GIBIBYTE, 500), Price(1000 * GIBIBYTE, 5000))

#: The promotional code of the public nodes, and the bytes that it is worth, once per token.
PROMOCODES: Mapping[str, int] = {'PLEASE': GIBIBYTE}


def token_text(random_bytes: bytes) -> str:
    """Write 12 bytes as a token: 16 base-62 digits of the big-endian number, the lowest first."""
    number = int.from_bytes(random_bytes, 'big')
    digits = []
    for _ in range(_TOKEN_DIGITS):
        # The lowest digit first, as in the original: 12 x 0x66 is oiFyR2NcMvaSiNDf (section 12.3).
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return ''.join(digits)


def new_token() -> str:
    """Make an access token."""
    return token_text(secrets.token_bytes(_TOKEN_BYTES))


class Ledger:
    """The accounts of one node.

    Args:
        engine (sa.Engine): database; the tables are made when they are missing.
        clock (Callable[[], float]): seconds since 1970.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._clock = clock
        metadata.create_all(engine)

    def balance(self, token: str) -> int:
        """Return the bytes that a token may still transfer."""
        with self._engine.connect() as connection:
            found = connection.scalar(
                sa.select(_balances.c.bytes).where(_balances.c.token == token[: _TOKEN_LIMIT + 1])
            )
        return int(found or 0)

    def deposit(self, token: str, amount: int, reason: str = 'deposit') -> None:
        """Credit a token.

        Raises:
            ValueError: If the amount is negative, the token too long for one, or the balance
                would leave 64 bits.
        """
        with self._engine.begin() as connection:
            self._credit(connection, token, amount, reason)

    def withdraw(self, token: str, amount: int, reason: str = 'withdraw') -> None:
        """Debit a token, all or nothing.

        Raises:
            ValueError: If the amount is negative.
            InsufficientBalanceError: If the balance is smaller, or the token was never credited.
        """
        if amount < 0:
            raise ValueError('an amount is not negative')
        if amount > _LARGEST:
            raise InsufficientBalanceError('no balance is that large')
        with self._engine.begin() as connection:
            # Condition and change in one statement: two uploads at a time cannot spend the same
            # bytes.
            changed = connection.execute(
                sa.update(_balances)
                .where(_balances.c.token == token, _balances.c.bytes >= amount)
                .values(bytes=_balances.c.bytes - amount)
            )
            if changed.rowcount != 1:
                raise InsufficientBalanceError(f'the balance is below {count_of(amount, "byte")}')
            self._note(connection, token, -amount, reason)

    def redeem(self, token: str, code: object) -> bool:
        """Credit a promotional code; False when there is none such or the token has used it."""
        if not isinstance(code, str) or code not in PROMOCODES:
            return False
        try:
            with self._engine.begin() as connection:
                # The primary key refuses a second use by the same token.
                connection.execute(sa.insert(_redeemed).values(token=token, code=code))
                self._credit(connection, token, PROMOCODES[code], 'promocode')
        except (sa.exc.IntegrityError, ValueError):
            return False
        return True

    def _credit(self, connection: sa.Connection, token: str, amount: int, reason: str) -> None:
        if amount < 0 or not 0 < len(token) <= _TOKEN_LIMIT:
            raise ValueError('an amount is not negative, a token has 1 to 64 characters')
        balance = connection.scalar(
            sa.select(_balances.c.bytes).where(_balances.c.token == token).with_for_update()
        )
        if (balance or 0) + amount > _LARGEST:
            raise ValueError('the balance does not fit 64 bits')
        if balance is None:
            connection.execute(sa.insert(_balances).values(token=token, bytes=amount))
        else:
            connection.execute(
                sa.update(_balances)
                .where(_balances.c.token == token)
                .values(bytes=_balances.c.bytes + amount)
            )
        self._note(connection, token, amount, reason)

    def _note(self, connection: sa.Connection, token: str, amount: int, reason: str) -> None:
        connection.execute(
            sa.insert(_movements).values(
                time=self._clock(), token=token, bytes=amount, reason=reason
            )
        )
