"""What a farmer has promised for a while: tokens for single transfers, and space for their shards.

They live in memory, as those of the originals did, so that a full disk does not
prevent reading, and a change of the clock neither ends nor prolongs them. A farmer that starts
again has none: its clients ask for new ones.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

#: Tokens that are kept; the oldest give way. About 40 MB.
TOKENS_LIMIT = 100_000
#: Seconds that space is kept for a shard of which no byte comes.
PROMISE_LIFE = 600.0


@dataclass(slots=True)
class FarmerToken:
    """A token that a farmer issued for one shard and one transfer.

    Attributes:
        token (str): 40 hex characters.
        data_hash (str): the shard it is for.
        owner (str): of the contract that it belongs to.
        expires (float): seconds of the monotonic clock.
        copy (bool): it is for a copy that the bridge has another farmer make.
        busy (bool): a WebSocket transfer has begun with it.
    """

    token: str
    data_hash: str
    owner: str
    expires: float
    copy: bool = False
    busy: bool = False

    def __repr__(self) -> str:
        return f'FarmerToken(data_hash={self.data_hash!r}, busy={self.busy!r})'


class Tokens:
    """The tokens of one farmer.

    Args:
        lifetime (float): seconds that each is good for.
        monotonic (Callable[[], float]): seconds that nobody sets.
    """

    def __init__(self, lifetime: float, monotonic: Callable[[], float]) -> None:
        self._lifetime = lifetime
        self._monotonic = monotonic
        self._tokens: OrderedDict[str, FarmerToken] = OrderedDict()
        # Shard -> bytes, and until when they are kept for it.
        self._promises: OrderedDict[str, tuple[int, float]] = OrderedDict()
        # The sum of the bytes: asked for with every shard, however many are promised.
        self._promised = 0

    def issue(self, data_hash: str, owner: str, *, copy: bool = False) -> str:
        """Make a token for one transfer of a shard.

        Args:
            data_hash (str): the shard.
            owner (str): of the contract.
            copy (bool): whether it is for a copy that another farmer makes.
        """
        token = secrets.token_hex(20)
        expires = self._monotonic() + self._lifetime
        self._tokens[token] = FarmerToken(token, data_hash, owner, expires, copy)
        # The oldest goes: a client uses its token within seconds, and can get another one.
        if len(self._tokens) > TOKENS_LIMIT:
            self._tokens.popitem(last=False)
        return token

    def get(self, token: str) -> FarmerToken | None:
        """Return a token that was issued and not deleted, expired or not."""
        return self._tokens.get(token)

    def expired(self, token: FarmerToken) -> bool:
        """Return whether the time of a token is over."""
        return token.expires <= self._monotonic()

    def reject(self, token: str) -> None:
        """Delete a token; nothing happens if it is not there."""
        self._tokens.pop(token, None)

    def promise(self, data_hash: str, size: int) -> None:
        """Keep space for a shard until it begins to arrive, or for :data:`PROMISE_LIFE`."""
        self.redeem(data_hash)
        self._promises[data_hash] = size, self._monotonic() + PROMISE_LIFE
        self._promised += size

    def redeem(self, data_hash: str) -> None:
        """Keep space for a shard no longer; it arrives, and is counted by its bytes."""
        size, _ = self._promises.pop(data_hash, (0, 0.0))
        self._promised -= size

    def promised(self, *, besides: str | None = None) -> int:
        """Return the bytes that are kept for shards of which nothing has come yet.

        Args:
            besides (str | None): hash of a shard to leave out.
        """
        now = self._monotonic()
        # Each was made with the same life, so the oldest end first.
        while self._promises and next(iter(self._promises.values()))[1] <= now:
            self.redeem(next(iter(self._promises)))
        size, _ = self._promises.get(besides or '', (0, 0.0))
        return self._promised - size

    def sweep(self) -> None:
        """Forget the tokens whose time is over."""
        # All have the same life, so the oldest end first.
        while self._tokens and self.expired(next(iter(self._tokens.values()))):
            self._tokens.popitem(last=False)
