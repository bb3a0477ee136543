"""One exchange with a bridge: signing, sending, reading with limits, decoding, trying again.

Knows requests and the REST rules that all routes share (protocol reference, sections 2 and 3.0);
knows no route.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import requests
from ecdsa import SigningKey
from requests import exceptions
from requests.auth import AuthBase
from requests.utils import should_bypass_proxies
from urllib3 import exceptions as urllib3

from storj import api
from storj.exception import (
    BridgeUnavailableError,
    BridgeUnreachableError,
    ClientError,
    RateLimitedError,
    StorjBridgeApiError,
    StorjError,
    bridge_error,
)
from storj.rest.connection import Calls

T = TypeVar('T')

#: Bytes of the longest answer that is read: a full page of files with long names has less.
ANSWER_LIMIT = 64 * 1024 * 1024

#: Seconds for the whole body of an answer, since a timeout bounds each piece of it only.
ANSWER_TIME = 300.0

_PIECE = 64 * 1024

# What an error keeps of the text of an answer.
_ERROR_TEXT_LIMIT = 64 * 1024

# Routes whose last segment is a secret.
_TOKEN_ROUTES = frozenset({'activations', 'deactivations', 'resets'})


class KeyAuth(AuthBase):
    """ECDSA signature over the very bytes that are sent (protocol reference, section 2.2)."""

    def __init__(self, private_key: SigningKey, public_key_hex: str) -> None:
        self._private_key = private_key
        self._public_key_hex = public_key_hex

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign the finished request; requests calls this once address and body are final."""
        method = request.method or 'GET'
        path, _, query = request.path_url.partition('?')
        body = request.body or b''
        params = body if method in ('POST', 'PUT', 'PATCH') else query
        text = api.signing_text(method, path, params)
        request.headers['x-pubkey'] = self._public_key_hex
        request.headers['x-signature'] = api.sign(self._private_key, text)
        return request


class NoAuth(AuthBase):
    """No signature, and no credentials from ``.netrc`` either, where requests looks for them."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Leave the request as it is."""
        return request


class FailedExchange(Exception):
    """Carries the error of one attempt, and whether anything was sent. Never leaves this package.

    Attributes:
        error (StorjError): to raise if there is no further attempt.
        unsent (bool): whether the bridge cannot have seen the request.
    """

    def __init__(self, error: StorjError, *, unsent: bool = False) -> None:
        super().__init__(error)
        self.error = error
        self.unsent = unsent


@dataclass(frozen=True)
class Retries:
    """When an exchange is tried again, and how long is waited before.

    Attributes:
        count (int): attempts after the first.
        budget (float): seconds from the first attempt within which another may begin.
        pause (float): seconds before the second attempt; it doubles each time, and a random part
            of up to a half is taken off so that clients do not return in step.
        sleep (Callable[[float], object] | None): waits; by default until the time is over, or the
            client is closed.
        clock (Callable[[], float]): seconds of a monotonic clock.
    """

    count: int = 3
    budget: float = 60.0
    pause: float = 0.25
    sleep: Callable[[float], object] | None = None
    clock: Callable[[], float] = time.monotonic

    def run(
        self,
        attempt: Callable[[int], T],
        may_repeat: Callable[[FailedExchange], bool],
        log: Callable[[StorjError, float], object],
        pause: Callable[[float], object],
    ) -> T:
        """Call ``attempt`` with its number from zero until it succeeds or must not be repeated.

        ``pause`` waits where the policy has no ``sleep`` of its own.
        """
        started = self.clock()
        number = 0
        while True:
            try:
                return attempt(number)
            except FailedExchange as failed:
                error = failed.error
                asked = error.retry_after
                wait = self._backoff(number) if asked is None else asked
                spent = self.clock() - started
                if number >= self.count or spent + wait > self.budget or not may_repeat(failed):
                    raise error from failed.__cause__
            log(error, wait)
            (self.sleep or pause)(wait)
            number += 1

    def _backoff(self, number: int) -> float:
        return self.pause * float(2**number) * (1 - secrets.randbelow(500) / 1000)


def may_repeat(method: str, headers: Mapping[str, str], failed: FailedExchange) -> bool:
    """Return whether a request that failed can be sent again without doing anything twice."""
    if not failed.error.retryable:
        return False
    if failed.unsent:
        return True
    # The first attempt has used the token up.
    if 'x-token' in headers:
        return False
    code = getattr(failed.error, 'code', None)
    if isinstance(failed.error, RateLimitedError) and code != 429:
        # A quota (420) is free again in an hour at the earliest.
        return False
    if method == 'PUT':
        # Each PUT to a frame takes a farmer's offer; whoever sends it repeats it knowingly.
        return code in (429, 503)
    return method in ('GET', 'DELETE')


def bridge_address(url: str) -> tuple[str, str | None, str | None]:
    """Check the address of a bridge and take credentials out of it.

    Args:
        url (str): ``http`` or ``https``, with a path if the bridge lies below one.

    Returns:
        tuple[str, str | None, str | None]: the address without credentials, user and password.

    Raises:
        TypeError: if it is no text.
        ValueError: if it is no such address. The message never repeats it: it may hold a password.
    """
    if not isinstance(url, str):
        raise TypeError(f'the URL of a bridge is text, not {type(url).__name__}')
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError('the URL of the bridge is malformed') from None
    if parts.scheme not in ('http', 'https') or not host:
        raise ValueError('the URL of a bridge begins with http:// or https:// and names a host')
    if parts.query or parts.fragment:
        raise ValueError('the URL of a bridge has neither query nor fragment')
    if any(character.isspace() for character in url.strip()):
        raise ValueError('the URL of a bridge has no white space')
    place = f'[{host}]' if ':' in host else host
    if port is not None:
        place += f':{port}'
    clean = urlunsplit(SplitResult(parts.scheme, place, parts.path, '', ''))
    user, secret = (
        None if part is None else unquote(part) for part in (parts.username, parts.password)
    )
    return clean, user, secret


def shown_path(path: str) -> str:
    """Return a path for logs, without the secret that some routes end in."""
    path = path.partition('?')[0]
    parts = path.split('/')
    if len(parts) > 1 and parts[-2] in _TOKEN_ROUTES:
        parts[-1] = '***'
    return '/'.join(parts)


def exchange(
    session: requests.Session,
    request: requests.Request,
    timeout: tuple[float, float],
    place: str,
    calls: Calls,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[int, Mapping[str, str], bytes]:
    """Send one request and read the whole answer.

    Args:
        session (requests.Session): of the calling thread.
        request (requests.Request): its ``auth`` signs it.
        timeout (tuple[float, float]): seconds to connect, and for the head of the answer and each
            piece of its body; :data:`ANSWER_TIME` is for the whole body.
        place (str): address of the bridge, for messages.
        calls (Calls): those of the client; whoever ends them ends this one.
        clock (Callable[[], float]): seconds of a monotonic clock.

    Returns:
        tuple[int, Mapping[str, str], bytes]: status, headers and body.

    Raises:
        FailedExchange: if there is no answer, or an endless one, or the calls were ended.
    """
    # What the caller is handling is in the context of every error in here.
    handled = sys.exc_info()[1]
    try:
        with calls.begin(timeout[1], ANSWER_TIME, clock):
            prepared = session.prepare_request(request)
            settings = session.merge_environment_settings(
                prepared.url, _proxies(session, prepared), True, session.verify, None
            )
            # A redirect is never followed: the signature and the password are for this bridge.
            response = session.send(prepared, timeout=timeout, allow_redirects=False, **settings)
            with response:
                body = _read(response)
    except (OSError, urllib3.HTTPError) as cause:
        # Without the cause, whose text quotes the address: the last part of some is a secret.
        raise _failure(cause, place, ended=calls.ended) from _system_error(cause, handled)
    return response.status_code, response.headers, body


def _failure(cause: Exception, place: str, *, ended: bool) -> FailedExchange:
    """Return what an exchange without an answer fails with."""
    if ended:
        return FailedExchange(
            ClientError(f'the client was closed before the bridge at {place} answered')
        )
    known = isinstance(cause, exceptions.RequestException | urllib3.HTTPError)
    # So requests says that a file of certificates is not there.
    reason = _reason(cause) if known else 'the certificates to trust in cannot be read'
    error = BridgeUnreachableError(f'no answer from the bridge at {place}: {reason}')
    # A wrong certificate or address will not be right the next time.
    error.retryable = known and not isinstance(cause, exceptions.SSLError | ValueError)
    return FailedExchange(error, unsent=_is_unsent(cause))


def _system_error(cause: Exception, handled: BaseException | None) -> OSError | None:
    """Return the error of the system at the bottom of a library's, which quotes nothing of ours.

    ``handled`` is what lies below that bottom already.
    """
    found = None
    error: BaseException | None = cause
    while error is not None and error is not handled:
        if isinstance(error, OSError) and not isinstance(error, exceptions.RequestException):
            found = error
        error = error.__cause__ or error.__context__
    return found


def _proxies(session: requests.Session, request: requests.PreparedRequest) -> dict[str, str]:
    """Return the proxies that the client was given, unless the environment exempts the bridge.

    Said here, because requests lets the environment's own proxies go before a session's.
    """
    given = session.proxies
    if not given or (session.trust_env and should_bypass_proxies(request.url or '', None)):
        return {}
    return dict(given)


def _read(response: requests.Response) -> bytes:
    body = bytearray()
    for piece in response.iter_content(_PIECE):
        body += piece
        if len(body) > ANSWER_LIMIT:
            message = f'the answer of the bridge goes on beyond {ANSWER_LIMIT} bytes'
            error = BridgeUnavailableError(message, response.status_code)
            # It would be as long the next time.
            error.retryable = False
            raise FailedExchange(error)
    return bytes(body)


def _is_unsent(cause: Exception) -> bool:
    """Return whether the connection failed before the bridge could see the request."""
    if isinstance(cause, exceptions.ConnectTimeout):
        return True
    reason = getattr(cause.args[0], 'reason', None) if cause.args else None
    return isinstance(reason, urllib3.NewConnectionError)


#: The most specific first. Texts of our own, because those of the libraries quote addresses.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.SSLError, 'its certificate is not valid, or it speaks no TLS'),
    (exceptions.ProxyError, 'the proxy does not answer'),
    (exceptions.ConnectTimeout, 'it did not accept the connection in time'),
    (exceptions.ReadTimeout, 'it did not answer in time'),
    (exceptions.ContentDecodingError, 'its answer is damaged'),
    (exceptions.ChunkedEncodingError, 'its answer broke off'),
    (exceptions.InvalidURL, 'the address is not valid'),
    (urllib3.ReadTimeoutError, 'it did not answer in time'),
    (urllib3.DecodeError, 'its answer is damaged'),
    (urllib3.ProtocolError, 'its answer broke off'),
    (exceptions.ConnectionError, 'the connection was refused or broke off'),
)


def _reason(cause: Exception) -> str:
    # requests says of a body that comes too slowly that the connection failed, and why beside it.
    causes = (cause, *cause.args[:1])
    found = (text for kind, text in _REASONS if any(isinstance(each, kind) for each in causes))
    return next(found, type(cause).__name__)


def decode(status: int, headers: Mapping[str, str], body: bytes, *, as_text: bool = False) -> Any:
    """Turn an answer into its value, or into the error that it means.

    Args:
        status (int): HTTP status.
        headers (Mapping[str, str]): of the answer.
        body (bytes): the whole body.
        as_text (bool): for the routes that answer in plain text.

    Returns:
        Any: the JSON value; ``{}`` for an empty body.

    Raises:
        StorjBridgeApiError: for a status that means failure, for null, and for what is not JSON.
    """
    if status >= 400 or (status >= 300 and status != 304):
        raise _refusal(status, headers, body)
    if as_text:
        return body.decode('utf-8', 'replace')
    stripped = body.strip()
    if not stripped:
        return {}
    if stripped == b']':
        # Bridges 2.1.0 to 2.2.1 list an empty bucket like this.
        return []
    try:
        answer = json.loads(stripped)
    except (ValueError, RecursionError):
        text = body[:_ERROR_TEXT_LIMIT].decode('utf-8', 'replace')
        message = f'the bridge answered with status {status} and something that is not JSON'
        raise BridgeUnavailableError(text, status, message) from None
    if answer is None:
        # None is what a replaced Client._request answers when it has nothing: an empty listing. A
        # bridge whose list is lost must not pass for one that has nothing.
        message = f'the bridge answered with status {status} and null'
        raise BridgeUnavailableError('null', status, message)
    if isinstance(answer, dict) and isinstance(answer.get('error'), str):
        raise _refusal(status, headers, body)
    return answer


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> StorjBridgeApiError:
    text = body[:_ERROR_TEXT_LIMIT].decode('utf-8', 'replace')
    if 300 <= status < 400:
        place = _bare(headers.get('Location', ''))
        message = f'the bridge sends its clients on to {place}: use that URL if you trust it'
        error = BridgeUnavailableError(text, status, message)
        error.retryable = False
        return error
    return bridge_error(status, text, headers)


def _bare(url: str) -> str:
    """Return scheme and host of an address that came from outside."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    return f'{parts.scheme}://{host}' if host else 'another address'
