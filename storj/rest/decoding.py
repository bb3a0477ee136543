"""Bounds on an answer: its length, its number of values, its depth; and the errors it means.

The other side decides how much of our memory its answer takes: 8 KiB on the wire may be 8 MiB of
``{},`` and a gigabyte of records. So bytes, rows, values and levels are bounded, for every call of
a bridge and of a MetaDisk node, and before records are made of them. The bounds follow from the
largest answer that an honest bridge gives, a full page.

Knows requests and JSON; knows no route.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

import requests

from storj.exception import BridgeUnavailableError, StorjBridgeApiError, bridge_error
from storj.text import count_of, in_url

#: Bytes: 4 KiB for each of the 2,000 files of a full page, for encrypted names of 2,700 bytes.
ANSWER_LIMIT = 8 * 1024 * 1024

#: Entries of a list. A page has 5,000 at most; bridges before 5.6 know no pages and send all.
ROWS_LIMIT = 50_000

#: Bytes where a letter is not ASCII: a single one beyond U+FFFF makes Python keep a text in four
#: bytes for each letter. Encrypted names are ASCII; this is 1,500 bytes for each file of a page.
WIDE_LIMIT = 3 * 1024 * 1024

#: Commas, colons and brackets, which are at least as many as values: three times those of a full
#: page of buckets. Each stands for up to 75 bytes of memory.
VALUES_LIMIT = 400_000

#: Levels of lists and objects; a bridge's own have five.
DEPTH_LIMIT = 32

#: Fields of an object; the widest, a bridge's description of its routes, has a few dozen.
FIELDS_LIMIT = 1000

_PIECE = 64 * 1024

# What is kept of an answer that is no JSON.
_TEXT_LIMIT = 64 * 1024


def read(response: requests.Response, limit: int | None = None) -> bytes:
    """Return the whole body of an answer.

    Args:
        response (requests.Response): its body unread.
        limit (int | None): bytes after decompression; :data:`ANSWER_LIMIT` by default.

    Raises:
        BridgeUnavailableError: If it is longer; asking again does not help.
        requests.RequestException: If it breaks off, or is not what its encoding says.
    """
    most = ANSWER_LIMIT if limit is None else limit
    body = bytearray()
    for piece in pieces(response, _PIECE):
        body += piece
        if len(body) > most:
            message = f'the answer is longer than {count_of(most, "byte")}'
            raise _unusable(message, response.status_code, message)
    return bytes(body)


def pieces(response: requests.Response, size: int) -> Iterator[bytes]:
    """Yield the body of an answer in pieces of a size, decompressed.

    Raises:
        requests.RequestException: If it breaks off, or is not what its encoding says.
    """
    content = response.iter_content(size)
    while True:
        try:
            piece = next(content, None)
        except (ValueError, OverflowError) as error:
            if isinstance(error, requests.RequestException):
                raise
            # So the libraries say that the length of a chunk is negative.
            raise requests.exceptions.ChunkedEncodingError(str(error)) from None
        if piece is None:
            return
        yield piece


class OutOfBounds(ValueError):
    """JSON is larger or deeper than any answer; the message continues "the answer is"."""


def parse(body: bytes) -> Any:
    """Return the value of JSON that is not too large, too wide or too deep.

    Raises:
        OutOfBounds: If it is.
        ValueError: If it is no JSON.
    """
    # Counted before there is any value. Those within texts count too: it makes no difference.
    values = sum(map(body.count, (b',', b':', b'[', b'{')))
    if values > VALUES_LIMIT:
        raise OutOfBounds(f'too large: more than {VALUES_LIMIT} values')
    if len(body) > WIDE_LIMIT and not body.isascii():
        raise OutOfBounds(f'too large: more than {WIDE_LIMIT} bytes that are not ASCII')
    try:
        value = _DECODER.decode(body.decode('utf-8-sig'))
    except (ValueError, RecursionError):
        raise ValueError('not JSON') from None
    if values > DEPTH_LIMIT:
        _check_shape(value)
    return value


def _check_shape(value: object) -> None:
    """Raise OutOfBounds if a list, an object or the whole value has another shape than answers."""
    # Level by level: a recursion would end where the stack does. By type, which is twice as fast
    # as isinstance; a full page has 20,000 values.
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(DEPTH_LIMIT):
        if not level:
            return
        level = [child for node in level for child in _children(node) if type(child) in _CONTAINERS]
    if level:
        raise OutOfBounds(f'nested more than {DEPTH_LIMIT} levels deep')


_CONTAINERS = frozenset({dict, list})


def _children(node: Any) -> Iterable[Any]:
    """Return what a list or an object holds."""
    if type(node) is list:
        if len(node) > ROWS_LIMIT:
            raise OutOfBounds(f'too large: a list of more than {ROWS_LIMIT} entries')
        return node
    if len(node) > FIELDS_LIMIT:
        raise OutOfBounds(f'too large: an object of more than {FIELDS_LIMIT} fields')
    values: Iterable[Any] = node.values()
    return values


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f'{digits[:20]} is too large')
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f'JSON has no {name}')


# NaN and Infinity are no JSON, and what we print of an answer is to be some.
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)


def decode(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    asked: tuple[str, str] = ('', ''),
    as_text: bool = False,
) -> Any:
    """Turn an answer of a bridge into its value, or into the error that it means.

    Args:
        status (int): HTTP status.
        headers (Mapping[str, str]): of the answer.
        body (bytes): the whole body.
        asked (tuple[str, str]): address of the bridge, and path of the request.
        as_text (bool): for the routes that answer in plain text.

    Returns:
        Any: the JSON value; ``{}`` for an empty body.

    Raises:
        StorjBridgeApiError: If the status means failure, or the body is null, or no JSON within the
                bounds.
    """
    if status >= 400 or (status >= 300 and status != 304):
        raise _refusal(status, headers, body, asked)
    if as_text:
        return text_of(body)
    stripped = body.strip()
    if not stripped:
        return {}
    if stripped == b']':
        # Bridges 2.1.0 to 2.2.1 list an empty bucket like this.
        return []
    try:
        answer = parse(stripped)
    except ValueError as cause:
        message = f'the bridge answered with status {status} and something that is {cause}'
        error = BridgeUnavailableError(text_of(body), status, message)
        error.retryable = not isinstance(cause, OutOfBounds)
        raise error from None
    if answer is None:
        # None is what a replaced Client._request answers when it has nothing: an empty listing. A
        # bridge whose list is lost must not pass for one that has nothing.
        message = f'the bridge answered with status {status} and null'
        raise BridgeUnavailableError('null', status, message)
    if isinstance(answer, dict) and isinstance(answer.get('error'), str):
        raise _refusal(status, headers, body, asked)
    return answer


def text_of(body: bytes) -> str:
    """Return the beginning of a body as text; what an error keeps of it."""
    return body[:_TEXT_LIMIT].decode('utf-8', 'replace')


def _refusal(
    status: int, headers: Mapping[str, str], body: bytes, asked: tuple[str, str]
) -> StorjBridgeApiError:
    text = text_of(body)
    if 300 <= status < 400:
        return _unusable(text, status, redirect_message('bridge', headers, asked))
    return bridge_error(status, text, headers)


def redirect_message(who: str, headers: Mapping[str, str], asked: tuple[str, str]) -> str:
    """Return the error for a redirect: the configured address is wrong.

    Args:
        who (str): that answered, ``bridge`` or ``node``.
        headers (Mapping[str, str]): of the answer, with a ``Location``.
        asked (tuple[str, str]): address of the bridge, and path of the request.
    """
    base, path = asked[0].rstrip('/'), asked[1].partition('?')[0].strip('/')
    try:
        parts = urlsplit(urljoin(f'{base}/{path}', headers.get('Location', '')))
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ('http', 'https'):
        return f'the {who} redirects to an invalid address'
    target = f'{parts.scheme}://{in_url(host)}' + ('' if port is None else f':{port}')
    # The route is no part of what is configured, and the end of some is a secret.
    if path and parts.path.rstrip('/').endswith(f'/{path}'):
        target += parts.path.rstrip('/').removesuffix(f'/{path}')
    if target == base:
        return f'the {who} redirects in a circle: is {base} the right URL?'
    return f'the {who} redirects to {target}: use that URL if you trust it'


def _unusable(text: str, status: int, message: str) -> BridgeUnavailableError:
    """Return the error for an answer that would be the same the next time."""
    error = BridgeUnavailableError(text, status, message)
    error.retryable = False
    return error
