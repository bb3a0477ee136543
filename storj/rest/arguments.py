"""Arguments of a call, checked before anything is sent: wrong use is ``TypeError``/``ValueError``.

Knows what a path, a number and a timeout may be, and no route.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storj import api


def timeout_pair(value: object) -> tuple[float, float] | None:
    """Check a timeout, in seconds: one number, or one to connect and one to read."""
    if value is None:
        return None
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2 or not all(
        isinstance(part, int | float) and not isinstance(part, bool) and 0 < part < float('inf')
        for part in pair
    ):
        raise ValueError('a timeout is a positive number of seconds, or two: (connect, read)')
    return float(pair[0]), float(pair[1])


def checked_text(name: str, value: object, *, blank: bool = False) -> str:
    """Check an argument that is text and not empty, nor white space only unless ``blank``."""
    if not isinstance(value, str):
        raise TypeError(f'{name} is text, not {type(value).__name__}')
    if not (value if blank else value.strip()):
        raise ValueError(f'{name} is empty')
    return value


def checked_count(name: str, value: object) -> int:
    """Check an argument that is a whole number from zero, or its digits."""
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) < 20):
            raise ValueError(f'{name} is a whole number')
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f'{name} is a whole number, not {type(value).__name__}')
    if value < 0:
        raise ValueError(f'{name} is not negative')
    return value


def route(template: str, **segments: object) -> str:
    """Return the path of a route with its segments percent-encoded.

    Args:
        template (str): with the names of the segments in braces.
        **segments (str | int): identifiers; 0.1.5 documents some of them as numbers.

    Raises:
        TypeError: If a segment is neither text nor a whole number.
        ValueError: If it is empty, or could lead to another route.
    """
    return template.format(**{name: _segment(name, value) for name, value in segments.items()})


def _segment(name: str, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    given = checked_text(name, value)
    if given in ('.', '..') or any(c in '/\\' or ord(c) < 33 or ord(c) == 127 for c in given):
        raise ValueError(f'{name} is malformed: it has a slash, dots alone or white space')
    # An at sign is as good in a path as its code, and is how routes with e-mails are known.
    return api.segment(given).replace('%40', '@')


def node_ids(value: Sequence[Any] | None) -> Sequence[str]:
    """Check a list of nodeIDs."""
    if isinstance(value, str) or not all(isinstance(node, str) for node in value or ()):
        raise TypeError('excluded farmers are a list of nodeIDs')
    return value or ()
