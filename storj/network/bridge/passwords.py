"""Passwords of the bridge's users: hashed slowly for the disk, checked quickly once verified.

A client sends hex(SHA-256(password)) with every request (protocol reference, section 2.1). The
database keeps a salted scrypt hash of that text, which takes tens of milliseconds to check; so
hashing runs in threads, and a credential found right is remembered for some minutes, as an HMAC
under a secret of this process.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

_T = TypeVar('_T')

#: Counts a password as a wrong one, and returns what takes that back.
CountWrong = Callable[[], Awaitable[Callable[[], Awaitable[None]]]]

# 32 MiB for one hash. Of the settings that OWASP's password storage cheat sheet holds to be equal
# (2**17 with 1 to 2**13 with 10), the one that a crowd of logins on a small machine can afford.
_COST, _BLOCK, _PARALLEL = 2**15, 8, 3
_MEMORY = 64 * 1024 * 1024

_REMEMBERED = 4096
_REMEMBERED_SECONDS = 300.0


async def _nothing() -> None:
    """Take nothing back."""


async def _count_none() -> Callable[[], Awaitable[None]]:
    return _nothing


class Passwords:
    """Hashes and verifies passwords.

    Args:
        clock (Callable[[], float]): monotonic seconds, for the memory of verified credentials.
        cost (int | None): scrypt's N of new hashes, a power of two; 2**15 by default.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, cost: int | None = None
    ) -> None:
        self._clock = clock
        self._cost = _COST if cost is None else cost
        self._secret = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, float] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        # Two threads: a crowd of logins must not take all processors, nor 16 MiB each.
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix='storj-passwords')
        # Compared with when there is no such user, so that the time taken does not tell.
        self._nobody = self._text(secrets.token_bytes(16), secrets.token_bytes(32))

    async def hash(self, password: str) -> str:
        """Return the text to keep for ``password``, which is the hex SHA-256 a client sends."""
        stored = await self._in_thread(self._encode, password, secrets.token_bytes(16))
        # It is the right one by construction: the first request of a new account costs no more.
        self._remember(self._key(password, stored))
        return stored

    def knows(self, password: str, stored: str | None) -> bool:
        """Return whether :meth:`verify` costs nothing.

        It does not if the password was found right within the last minutes, or is being checked.

        Args:
            password (str): as the client sent it.
            stored (str | None): the text of :meth:`hash`; None if there is no such user.
        """
        if stored is None:
            return False
        key = self._key(password, stored)
        return key in self._running or self._remembers(key)

    async def verify(
        self, password: str, stored: str | None, count: CountWrong = _count_none
    ) -> bool:
        """Return whether ``password`` is the one that ``stored`` was made from.

        Args:
            password (str): as the client sent it.
            stored (str | None): the text of :meth:`hash`; None if there is no such user, which
                takes as long and is never right.
            count (CountWrong): counts it as a wrong one before it is checked, unless that costs
                nothing; its errors go to the caller. What it returns takes that back.
        """
        if stored is None:
            await count()
            await self._in_thread(self._matches, password, self._nobody)
            return False
        key = self._key(password, stored)
        if self._remembers(key):
            return True
        # Many requests with one credential that is not yet known make one check, not many.
        task = self._running.get(key)
        if task is None:
            task = asyncio.ensure_future(self._check(key, password, stored, count))
            self._running[key] = task
            task.add_done_callback(partial(self._ended, key))
        return await asyncio.shield(task)

    def _ended(self, key: bytes, task: asyncio.Task[bool]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            # Raised to whoever waits; nobody may be left.
            task.exception()

    async def _check(self, key: bytes, password: str, stored: str, count: CountWrong) -> bool:
        take_back = await count()
        right = await self._in_thread(self._matches, password, stored)
        if right:
            self._remember(key)
            await take_back()
        return right

    def is_outdated(self, stored: str) -> bool:
        """Return whether a hash was made with less effort than hashes are made with today."""
        return stored.split('$')[1:4] != [str(self._cost), str(_BLOCK), str(_PARALLEL)]

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=True)

    def _key(self, password: str, stored: str) -> bytes:
        # The stored hash is part of the key: a new password makes all memory of the old one void.
        return hmac.digest(self._secret, f'{stored}\0{password}'.encode(), 'sha256')

    def _remember(self, key: bytes) -> None:
        self._verified[key] = self._clock() + _REMEMBERED_SECONDS
        while len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)

    def _remembers(self, key: bytes) -> bool:
        until = self._verified.get(key)
        if until is None:
            return False
        if until <= self._clock():
            del self._verified[key]
            return False
        self._verified.move_to_end(key)
        return True

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _encode(self, password: str, salt: bytes) -> str:
        return self._text(salt, _scrypt(password, salt, self._cost, _BLOCK, _PARALLEL))

    def _text(self, salt: bytes, key: bytes) -> str:
        return f'scrypt${self._cost}${_BLOCK}${_PARALLEL}${salt.hex()}${key.hex()}'

    @staticmethod
    def _matches(password: str, stored: str) -> bool:
        _, cost, block, parallel, salt, key = stored.split('$')
        computed = _scrypt(password, bytes.fromhex(salt), int(cost), int(block), int(parallel))
        return hmac.compare_digest(computed, bytes.fromhex(key))


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=_MEMORY, dklen=32
    )
