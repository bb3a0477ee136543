"""How many bytes an account may bring and fetch in an hour, a day and thirty days.

Off by default: a local network is there to be used hard. Switched on, a bridge refuses with 420, as
the public one did with accounts of its free tier (protocol reference, section 2.6). Bytes count
when a farmer has been found for them, whether or not they move after that; what is under way when
the quota is reached still passes.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from storj.network.bridge.database import User, Volume
from storj.network.node.clock import lasts
from storj.network.node.wire import Refusal

__all__ = ('FREE_DOWNLOAD', 'FREE_UPLOAD', 'Direction', 'Quota', 'check_volume', 'count_volume')

Direction = Literal['upload', 'download']

_HOUR = 3600 * 1000
#: Milliseconds of the windows, in the order of a quota's fields.
_WINDOWS = (_HOUR, 24 * _HOUR, 30 * 24 * _HOUR)


@dataclass(frozen=True)
class Quota:
    """Bytes in one direction.

    A window begins with the first byte after the end of the one before. None is no limit.

    Attributes:
        hour (int | None): in an hour.
        day (int | None): in a day.
        month (int | None): in thirty days.

    Raises:
        ValueError: If a limit is negative.
    """

    hour: int | None = None
    day: int | None = None
    month: int | None = None

    def __post_init__(self) -> None:
        if any(limit is not None and limit < 0 for limit in astuple(self)):
            raise ValueError('a quota is a number of bytes')


#: What the public bridge gave for nothing.
FREE_UPLOAD = Quota(3_000_000_000, 10_000_000_000, 60_000_000_000)
FREE_DOWNLOAD = Quota(9_000_000_000, 30_000_000_000, 180_000_000_000)


def check_volume(
    session: Session, quota: Quota | None, email: str, direction: Direction, now: int, text: str
) -> None:
    """Refuse an account that has used its quota up.

    Args:
        session (Session): a transaction.
        quota (Quota | None): the limits; None for none.
        email (str): of the account.
        direction (Direction): which of its volumes.
        now (int): milliseconds since 1970.
        text (str): what cannot be done.

    Raises:
        Refusal: If the quota is reached (420, with ``Retry-After``).
    """
    if quota is None:
        return
    user = session.get(User, email)
    if user is None or not user.free_tier:
        return
    used = _used(session, email, direction)
    waits = [
        volume.begun + window - now
        for window, limit in zip(_WINDOWS, astuple(quota), strict=True)
        if limit is not None
        and (volume := used.get(window)) is not None
        and lasts(volume.begun, window, now)
        and volume.bytes >= limit
    ]
    if waits:
        headers = {'Retry-After': str(-(-max(waits) // 1000))}
        raise Refusal(420, f'{text}, transfer rate limit reached.', headers)


def count_volume(
    session: Session, quota: Quota | None, email: str, direction: Direction, size: int, now: int
) -> None:
    """Count bytes of an account in all windows.

    Args:
        session (Session): a transaction.
        quota (Quota | None): nothing is counted without one.
        email (str): of the account.
        direction (Direction): which of its volumes.
        size (int): bytes.
        now (int): milliseconds since 1970.
    """
    if quota is None or not size:
        return
    used = _used(session, email, direction)
    for window in _WINDOWS:
        volume = used.get(window)
        if volume is None:
            volume = Volume(user=email, direction=direction, window=window, begun=now, bytes=0)
            session.add(volume)
        elif not lasts(volume.begun, window, now):
            volume.begun, volume.bytes = now, 0
        volume.bytes += size


def _used(session: Session, email: str, direction: Direction) -> dict[int, Volume]:
    # Locked, where the database can: requests side by side must not lose each other's bytes.
    volumes = session.scalars(
        select(Volume).where(Volume.user == email, Volume.direction == direction).with_for_update()
    )
    return {volume.window: volume for volume in volumes}
