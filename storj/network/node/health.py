"""Problems of a server: for ``GET /health`` and ``GET /ready``, and in detail for its owner.

Everybody may ask for them, so the answer has fixed sentences only. What the system says, with
its paths, is in the log and in the status that the owner sees.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from storj.network.node.tasks import Tasks

logger = logging.getLogger(__name__)

#: Bytes that a server needs on its disk to go on writing its records.
DISK_NEEDED = 16 * 1024**2


class Problem(NamedTuple):
    """Something that does not work.

    Attributes:
        text (str): a fixed sentence.
        detail (str): what the system says of it, for the owner.
        serious (bool): whether the server should get no requests because of it.
    """

    text: str
    detail: str = ''
    serious: bool = False

    def __str__(self) -> str:
        return f'{self.text}: {self.detail}' if self.detail else self.text


Check = Callable[[], list[Problem]]

#: Seconds until a bridge is looked at again, however many ask.
LOOK_EVERY = 5.0
# Seconds that a look may take before it is a problem by itself.
_PATIENCE = 3.0
_SILENT = Problem('a check does not end', serious=True)
_STOPPING = Problem('the bridge is stopping', serious=True)


class Health:
    """What does not work in an application; a part that hangs does not make the answer hang.

    Attributes:
        aside (Callable[[Check], Awaitable[list[Problem]]]): makes the checks, which may wait for a
            database, where they do not keep requests waiting.
        stopping (bool): whether no more requests should come.
    """

    def __init__(self) -> None:
        self.aside: Callable[[Check], Awaitable[list[Problem]]] = asyncio.to_thread
        self.stopping = False
        self._checks: list[Check] = []
        self._look = at_most_every(LOOK_EVERY, self._made)
        self._looking: asyncio.Future[list[Problem]] | None = None
        # Monotonic seconds when the look under way counts as a problem.
        self._late = 0.0

    def append(self, check: Check) -> None:
        """Look at one more part."""
        self._checks.append(check)

    async def problems(self) -> list[Problem]:
        """Return what does not work."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self.aside(self._look))
            self._late = time.monotonic() + _PATIENCE
        looking = self._looking
        # Who asks while a part hangs does not wait for it anew.
        await asyncio.wait({looking}, timeout=max(0.0, self._late - time.monotonic()))
        found = [_SILENT]
        if looking.done():
            try:
                found = looking.result()
            except Exception as error:
                # The checks report their own faults: they were not even begun.
                found = [Problem(_SILENT.text, str(error), serious=True)]
        return [_STOPPING, *found] if self.stopping else found

    def _made(self) -> list[Problem]:
        return [problem for check in self._checks for problem in check()]


#: Of an application.
HEALTH: web.AppKey[Health] = web.AppKey('health', Health)


def answer_health(problems: Iterable[Problem], *, failing: int = 503) -> web.Response:
    """Return the answer to ``GET /health``: 200 if there is no problem.

    Args:
        problems (Iterable[Problem]): what does not work.
        failing (int): HTTP status if there is one.
    """
    texts = list(dict.fromkeys(problem.text for problem in problems))
    return web.json_response(
        {'status': 'failing' if texts else 'ok', 'problems': texts},
        status=failing if texts else 200,
        headers={'Cache-Control': 'no-store'},
    )


def at_most_every(
    seconds: float, check: Check, clock: Callable[[], float] = time.monotonic
) -> Check:
    """Return a check that costs something, made to give its last result for some seconds.

    A problem is looked at again after :data:`LOOK_EVERY` seconds, if that is sooner: proxies and
    supervisors wait for its end.
    """
    found: list[Problem] = []
    until = -float('inf')

    def cached() -> list[Problem]:
        nonlocal found, until
        if clock() >= until:
            before, found = found, check()
            until = clock() + (min(seconds, LOOK_EVERY) if found else seconds)
            for problem in found:
                if problem not in before:
                    logger.warning('%s', problem)
        return found

    return cached


def tried(
    text: str,
    check: Callable[[], list[Problem] | None],
    *,
    serious: bool = False,
    reason_of: Callable[[BaseException], str] = str,
) -> list[Problem]:
    """Return what a check finds; that it fails is a problem by itself.

    Args:
        text (str): what is wrong then, in a fixed sentence.
        check (Callable): looks, or just does what has to be possible.
        serious (bool): whether the server should get no requests then.
        reason_of (Callable[[BaseException], str]): returns what an error says.
    """
    try:
        return check() or []
    except Exception as error:
        # Disks and databases have errors of many kinds, and each is a reason.
        return [Problem(text, reason_of(error) or repr(error), serious)]


def disk(folder: Path, has_space: Callable[[], bool] = lambda: True) -> list[Problem]:
    """Return whether the disk of a folder is about to be full.

    Args:
        folder (Path): of the server.
        has_space (Callable[[], bool]): whether it stores more there.
    """
    try:
        space = has_space() and shutil.disk_usage(folder).free >= DISK_NEEDED
    except OSError as error:
        return [Problem('the disk cannot be read', str(error), serious=True)]
    return [] if space else [Problem('the disk is full', f'{folder}', serious=True)]


def tasks(work: Tasks) -> list[Problem]:
    """Return what has failed of the work in the background."""
    return [
        Problem('work in the background has failed', f'{name}: {error}')
        for name, error in list(work.troubles.items())
    ]
