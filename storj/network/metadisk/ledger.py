"""Balances of access tokens: how much each may still transfer.

A token is a bearer string; making one stores nothing, and any string has the balance 0 until it is
credited. All amounts are bytes. Every movement is recorded together with the balance that it
changes, in one transaction of the bridge's database: all bridges of it serve the same accounts.
"""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from storj.network.bridge.database import Database
from storj.network.bridge.tables import MetaDiskBalance, MetaDiskCode, MetaDiskMovement
from storj.text import count_of

GIBIBYTE = 1024**3

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_TOKEN_BYTES = 12
_TOKEN_DIGITS = 16
_TOKEN_LIMIT = 64
_LARGEST = 2**63 - 1

_BALANCE = sa.select(MetaDiskBalance.bytes).where(MetaDiskBalance.token == sa.bindparam('token'))
#: Condition and change in one statement: two uploads at a time cannot spend the same bytes.
_DEBIT = (
    sa.update(MetaDiskBalance)
    .where(
        MetaDiskBalance.token == sa.bindparam('of'),
        MetaDiskBalance.bytes >= sa.bindparam('amount', type_=sa.BigInteger),
    )
    .values(bytes=MetaDiskBalance.bytes - sa.bindparam('amount', type_=sa.BigInteger))
)
_NOTE = sa.insert(MetaDiskMovement)


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
    """The accounts of MetaDisk.

    Args:
        database (Database): of the bridge.
        clock (Callable[[], float]): seconds since 1970.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        new = database.insert(MetaDiskBalance)
        self._credited = new.on_conflict_do_update(
            index_elements=[MetaDiskBalance.token],
            set_={'bytes': MetaDiskBalance.bytes + new.excluded.bytes},
            where=MetaDiskBalance.bytes <= _LARGEST - new.excluded.bytes,
        ).returning(MetaDiskBalance.bytes)
        self._used = (
            database.insert(MetaDiskCode).on_conflict_do_nothing().returning(MetaDiskCode.code)
        )

    async def balance(self, token: str) -> int:
        """Return the bytes that a token may still transfer."""
        if not _is_token(token):
            return 0
        found = await self._database.read(
            lambda connection: connection.scalar(_BALANCE, {'token': token})
        )
        return int(found or 0)

    async def deposit(self, token: str, amount: int, reason: str = 'deposit') -> None:
        """Credit a token.

        Raises:
            ValueError: If the amount is negative, the token too long for one, or the balance
                would leave 64 bits.
        """
        await self._database.run(partial(self._credit, token, amount, reason))

    async def withdraw(self, token: str, amount: int, reason: str = 'withdraw') -> None:
        """Debit a token, all or nothing.

        Raises:
            ValueError: If the amount is negative.
            InsufficientBalanceError: If the balance is smaller, or the token was never credited.
        """
        if amount < 0:
            raise ValueError('an amount is not negative')
        if amount > _LARGEST or not _is_token(token):
            raise InsufficientBalanceError('no balance is that large')

        def debit(connection: sa.Connection) -> None:
            if connection.execute(_DEBIT, {'of': token, 'amount': amount}).rowcount != 1:
                raise InsufficientBalanceError(f'the balance is below {count_of(amount, "byte")}')
            self._note(connection, token, -amount, reason)

        await self._database.run(debit)

    async def redeem(self, token: str, code: object) -> bool:
        """Credit a promotional code; False when there is none such or the token has used it."""
        if not isinstance(code, str) or code not in PROMOCODES or not _is_token(token):
            return False

        def use(connection: sa.Connection) -> bool:
            # The primary key refuses a second use by the same token.
            if connection.execute(self._used, {'token': token, 'code': code}).first() is None:
                return False
            self._credit(token, PROMOCODES[code], 'promocode', connection)
            return True

        try:
            return await self._database.run(use)
        except ValueError:
            return False

    def _credit(self, token: str, amount: int, reason: str, connection: sa.Connection) -> None:
        if not 0 <= amount <= _LARGEST or not _is_token(token):
            raise ValueError('an amount is not negative, a token has 1 to 64 characters')
        if connection.execute(self._credited, {'token': token, 'bytes': amount}).first() is None:
            raise ValueError('the balance does not fit 64 bits')
        self._note(connection, token, amount, reason)

    def _note(self, connection: sa.Connection, token: str, amount: int, reason: str) -> None:
        row = {'time': self._clock(), 'token': token, 'bytes': amount, 'reason': reason}
        connection.execute(_NOTE, row)


def _is_token(token: str) -> bool:
    # No database keeps the character NUL, nor half of a pair of UTF-16.
    return 0 < len(token) <= _TOKEN_LIMIT and '\0' not in token and token.isprintable()
