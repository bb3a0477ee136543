"""Requests and answers of the bridge: bodies, dates, ids, and the error a handler raises.

Input may come from anybody; output is typed and bounded.
"""

from __future__ import annotations

import asyncio
import functools
import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from aiohttp import web
from dateutil.parser import isoparse

from storj.digest import is_hex

#: Bytes of a request's body; the largest honest one is a shard with 300 excluded farmers and
#: some hundred challenges.
BODY_LIMIT = 1024 * 1024

#: Seconds for the whole of it.
BODY_SECONDS = 60.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
# Integers beyond are no exact JSON numbers, and no database's either.
_SAFE_INTEGER = 2**53 - 1


class Route(NamedTuple):
    """One line of a table of routes; a trailing slash is accepted on each."""

    method: str
    path: str
    handler: Handler


class Refusal(Exception):
    """The bridge refuses: status and ``{"error": text}``.

    Args:
        status (int): HTTP status.
        text (str): what the client reads.
        headers (Mapping[str, str] | None): to send along.
    """

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = dict(headers or {})


def answer(payload: object, status: int = 200) -> web.Response:
    """Return an answer in JSON."""
    return web.Response(
        text=json.dumps(payload, ensure_ascii=False, separators=(',', ':')),
        status=status,
        content_type='application/json',
        charset='utf-8',
    )


def vary(response: web.StreamResponse, header: str) -> None:
    """Note that an answer depends on a header of the request, beside those noted already."""
    named = [name.strip() for name in response.headers.get('Vary', '').split(',') if name.strip()]
    if header.lower() not in map(str.lower, named):
        response.headers['Vary'] = ', '.join([*named, header])


async def read_raw(request: web.Request) -> bytes:
    """Return a request's whole body, as it was sent.

    Raises:
        Refusal: If it is not there within :data:`BODY_SECONDS` (408).
    """
    if request.content.is_eof():
        # All of it is here: there is no wait to limit, which takes a task and a timer.
        return await request.read()
    try:
        return await asyncio.wait_for(request.read(), BODY_SECONDS)
    except asyncio.TimeoutError:
        raise Refusal(408, 'The body of the request did not come in time') from None


async def read_body(request: web.Request) -> dict[str, Any]:
    """Return the fields of a request's JSON body.

    The content type is not looked at, and what is no JSON object counts as ``{}``, as in the
    original (protocol reference, section 2.2).

    Raises:
        Refusal: If the body is larger than :data:`BODY_LIMIT` (413), does not arrive (408), or is
            not Unicode (400).
    """
    raw = await read_raw(request)
    try:
        body = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(body, dict):
        return {}
    # Only an escape can bring in what UTF-8 cannot; the check costs as much as the decoding.
    if b'\\u' in raw:
        _check_unicode(body)
    return body


def _no_constant(name: str) -> float:
    raise ValueError(f'{name} is no JSON')


def _check_unicode(body: object) -> None:
    """Refuse what only an escape can contain and no database stores: lone surrogates, and NUL."""
    try:
        encoded = json.dumps(body, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        # RecursionError: nested almost too deeply to be read.
        encoded = b'\\u0000'
    if b'\\u0000' in encoded:
        raise Refusal(400, 'Text is not valid Unicode')


def text(body: Mapping[str, Any], name: str, maximum: int) -> str | None:
    """Return a field that is text, or None if it is missing or null.

    Args:
        body (Mapping[str, Any]): the request's fields.
        name (str): of the field.
        maximum (int): characters.

    Raises:
        Refusal: If it is of another type, or too long (400).
    """
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > maximum:
        raise Refusal(400, f'Invalid {name} supplied')
    return value


def number(value: object) -> int | None:
    """Return a JSON number as a whole number, or None if it is none, or out of bounds.

    ``9.0`` is 9: JavaScript knows no difference.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float):
        if not math.isfinite(value) or value != int(value):
            return None
        value = int(value)
    return value if abs(value) <= _SAFE_INTEGER else None


def object_id(value: object, kind: str) -> str:
    """Return an id of 24 hex digits.

    Args:
        value (object): what the client sent.
        kind (str): ``Bucket``, ``File`` or ``Frame``, for the message.

    Raises:
        Refusal: If the value is invalid (400).
    """
    if not is_hex(value, 24, any_case=True):
        raise Refusal(400, f'{kind} id is malformed')
    return value.lower()


def iso_date(milliseconds: int) -> str:
    """Return a time as the bridge writes it: ``2016-11-23T10:15:30.123Z``."""
    seconds, rest = divmod(milliseconds, 1000)
    return f'{_iso_second(seconds)}.{rest:03}Z'


@functools.lru_cache(1024)
def _iso_second(seconds: int) -> str:
    # Of the files of a listing, many have one second; the calendar costs more than all else.
    return (_NAIVE_EPOCH + timedelta(seconds=seconds)).isoformat()


def parse_date(value: object) -> int | None:
    """Return milliseconds since 1970 from an ISO date, or from a number or text of digits.

    Returns:
        int | None: None for anything else, and for times that no calendar has.
    """
    if isinstance(value, str) and re.fullmatch(r'-?[0-9]{1,16}', value):
        value = int(value)
    if isinstance(value, str):
        try:
            moment = isoparse(value)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=timezone.utc)
            value = (moment - _EPOCH) // timedelta(milliseconds=1)
        except (ValueError, OverflowError):
            return None
    whole = number(value)
    # The years 1 to 9999, which is what iso_date can write.
    return whole if whole is not None and -62135596800000 <= whole < 253402300800000 else None


def is_broken_off(request: web.Request, error: Exception) -> bool:
    """Return whether a request failed because its client has gone.

    Give any answer then: it reaches nobody, but without one the framework logs an error.
    """
    gone = request.transport is None or request.transport.is_closing()
    return gone and isinstance(error, ConnectionError)
