"""What is compared of two files without a look into them: size and time."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ('Stamp',)


class Stamp(NamedTuple):
    """Size and time of a file on either side.

    Attributes:
        size (int | None): in bytes; None while unknown.
        time (float | None): seconds since 1970 when it was changed here, or stored there; None
            where a bridge does not say it, which leaves only the size.
    """

    size: int | None
    time: float | None = None

    def serves_for(self, source: Stamp) -> bool:
        """Return whether a file that is there need not be replaced: as large, and not older."""
        if self.size is None or self.size != source.size:
            return False
        return self.time is None or source.time is None or self.time >= source.time
