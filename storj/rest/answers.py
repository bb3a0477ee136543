"""Answers of a bridge, taken as an object or as a list of objects.

JSON of another shape is an error of the bridge. Programs and tests replace ``Client._request`` and
hand in other things, which no bridge can send: None, which is an empty answer, and objects that
merely behave like a list or a mapping, which are taken for what they can do.
"""

from __future__ import annotations

from typing import Any

from storj.exception import BridgeUnavailableError

# What a decoded answer can be. A bridge's null never gets here: transport.decode refuses it.
_JSON = (dict, list, str, int, float)


def as_object(answer: Any) -> dict[str, Any]:
    """Return the fields of an answer that is an object.

    Raises:
        BridgeUnavailableError: If it is none.
    """
    if answer is None:
        return {}
    if isinstance(answer, dict):
        return answer
    try:
        if not isinstance(answer, _JSON):
            return dict(**answer)
    except TypeError:
        pass
    raise unexpected(answer, 'an object')


def as_objects(answer: Any) -> list[dict[str, Any]]:
    """Return the entries of an answer that is a list of objects.

    Raises:
        BridgeUnavailableError: If it is none.
    """
    if answer is None:
        return []
    try:
        if isinstance(answer, list) or not isinstance(answer, _JSON):
            entries = list(answer)
            if None not in entries:
                return [as_object(entry) for entry in entries]
    except TypeError:
        pass
    raise unexpected(answer, 'a list of objects')


def unexpected(answer: object, wanted: str) -> BridgeUnavailableError:
    """Return the error for JSON that is not what the route promises."""
    kind = type(answer).__name__
    error = BridgeUnavailableError(
        f'the bridge answered with {kind} where {wanted} was expected', None
    )
    error.retryable = False
    return error
