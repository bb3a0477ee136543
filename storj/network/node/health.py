"""Problems of a server: for ``GET /health``, and in detail for its owner.

Everybody may ask for the health, so the answer has fixed sentences only. What the system says, with
its paths, is in the log and in the status that the owner sees.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from storj.network.node.tasks import Tasks

__all__ = (
    'HEALTH',
    'LOOK_EVERY',
    'Check',
    'Problem',
    'answer_health',
    'at_most_every',
    'disk',
    'problems_of',
    'tasks',
    'tried',
)

logger = logging.getLogger(__name__)

#: Bytes that a server needs on its disk to go on writing its records.
DISK_NEEDED = 16 * 1024**2


class Problem(NamedTuple):
    """Something that does not work.

    Attributes:
        text (str): a fixed sentence.
        detail (str): what the system says of it, for the owner.
    """

    text: str
    detail: str = ''

    def __str__(self) -> str:
        return f'{self.text}: {self.detail}' if self.detail else self.text


Check = Callable[[], list[Problem]]

#: Looks at the parts of an application.
HEALTH: web.AppKey[list[Check]] = web.AppKey('health', list)
#: Seconds until a bridge is looked at again, however many ask.
LOOK_EVERY = 5.0


def problems_of(app: web.Application) -> list[Problem]:
    """Return what does not work in an application."""
    return [problem for check in app[HEALTH] for problem in check()]


def answer_health(problems: Iterable[Problem]) -> web.Response:
    """Return the answer to ``GET /health``: 200 if there is no problem, else 503."""
    texts = list(dict.fromkeys(problem.text for problem in problems))
    return web.json_response(
        {'status': 'failing' if texts else 'ok', 'problems': texts},
        status=503 if texts else 200,
        headers={'Cache-Control': 'no-store'},
    )


def at_most_every(
    seconds: float, check: Check, clock: Callable[[], float] = time.monotonic
) -> Check:
    """Return a check that costs something, made to give its last result for some seconds."""
    found: list[Problem] = []
    until = -float('inf')

    def cached() -> list[Problem]:
        nonlocal found, until
        if clock() >= until:
            before, found = found, check()
            until = clock() + seconds
            for problem in found:
                if problem not in before:
                    logger.warning('%s', problem)
        return found

    return cached


def tried(text: str, check: Callable[[], list[Problem] | None]) -> list[Problem]:
    """Return what a check finds; that it fails is a problem by itself.

    Args:
        text (str): what is wrong then, in a fixed sentence.
        check (Callable): looks, or just does what has to be possible.
    """
    try:
        return check() or []
    except Exception as error:
        # Disks and databases have errors of many kinds, and each is a reason.
        return [Problem(text, str(error) or repr(error))]


def disk(folder: Path, has_space: Callable[[], bool] = lambda: True) -> list[Problem]:
    """Return whether the disk of a folder is about to be full.

    Args:
        folder (Path): of the server.
        has_space (Callable[[], bool]): whether it stores more there.
    """
    try:
        space = has_space() and shutil.disk_usage(folder).free >= DISK_NEEDED
    except OSError as error:
        return [Problem('the disk cannot be read', str(error))]
    return [] if space else [Problem('the disk is full', f'{folder}')]


def tasks(work: Tasks) -> list[Problem]:
    """Return what has failed of the work in the background."""
    return [
        Problem('work in the background has failed', f'{name}: {error}')
        for name, error in work.troubles.items()
    ]
