"""One exchange with a bridge: signing, sending, proxies, trying again.

Knows requests and the REST rules that all routes share (protocol reference, sections 2 and 3.0);
knows no route.
"""

from __future__ import annotations

import importlib.util
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.request import getproxies

import requests
from ecdsa import SigningKey
from requests import exceptions
from requests.auth import AuthBase
from requests.utils import select_proxy, should_bypass_proxies
from urllib3 import exceptions as urllib3

from storj import api
from storj.exception import (
    BridgeUnavailableError,
    BridgeUnreachableError,
    ClientError,
    ConfigurationError,
    RateLimitedError,
    StorjError,
)
from storj.rest import decoding
from storj.rest.connection import Calls
from storj.retry import RetryPolicy
from storj.system.shortage import shortage
from storj.text import in_url

T = TypeVar('T')

#: Seconds for the whole body of an answer, since a timeout bounds each piece of it only.
ANSWER_TIME = 300.0

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


class Session(requests.Session):
    """Session that never looks where a redirect leads.

    One of requests reads the whole body of a redirect, however long, and parses the address in it,
    even where it is told not to follow any.
    """

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None: the signature and the password are for this bridge."""
        return None


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
    """How often an exchange is tried again, by a :class:`storj.retry.RetryPolicy` with a budget.

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
                left = self.budget - (self.clock() - started)
                wait = self._policy.next_wait(error, number + 1, _chance(), left)
                if wait is None or not may_repeat(failed):
                    raise error from failed.__cause__
            log(error, wait)
            (self.sleep or pause)(wait)
            number += 1

    @property
    def _policy(self) -> RetryPolicy:
        # Only the budget bounds a wait.
        return RetryPolicy(self.count + 1, self.pause, math.inf, math.inf)


def _chance() -> float:
    return secrets.randbelow(1000) / 1000


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
        # Each PUT to a frame uses up a farmer's offer; its caller decides on repetition.
        return code in (429, 503)
    return method in ('GET', 'DELETE')


def bridge_address(url: str) -> tuple[str, str | None, str | None]:
    """Check the address of a bridge and take credentials out of it.

    Args:
        url (str): ``http`` or ``https``, with a path if the bridge lies below one.

    Returns:
        tuple[str, str | None, str | None]: the address without credentials, user and password.

    Raises:
        TypeError: If it is no text.
        ValueError: If it is no such address. The message never repeats it: it may hold a password.
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
    place = in_url(host)
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
        calls (Calls): those of the client; ending them ends this one.
        clock (Callable[[], float]): seconds of a monotonic clock.

    Returns:
        tuple[int, Mapping[str, str], bytes]: status, headers and body.

    Raises:
        FailedExchange: If there is no answer, or an endless one, or the calls were ended.
    """
    # What the caller is handling is in the context of every error in here.
    handled = sys.exc_info()[1]
    try:
        with calls.begin(timeout[1], ANSWER_TIME, clock):
            response = send(session, request, timeout)
            with response:
                body = decoding.read(response)
    except BridgeUnavailableError as error:
        raise FailedExchange(error) from None
    except ConfigurationError as error:
        raise FailedExchange(error, unsent=True) from None
    except (OSError, urllib3.HTTPError) as cause:
        # Without the cause, whose text quotes the address: the last part of some is a secret.
        system = system_error(cause, handled)
        raise _failure(cause, place, system, ended=calls.ended) from system
    return response.status_code, response.headers, body


def send(
    session: requests.Session, request: requests.Request, timeout: tuple[float, float]
) -> requests.Response:
    """Send one request, through the proxy that is meant for it, and return the unread answer.

    Raises:
        ConfigurationError: If the proxy cannot be one.
        requests.RequestException, urllib3.exceptions.HTTPError: If there is no answer.
    """
    prepared = session.prepare_request(request)
    # Not by the session's own method, which reads the whole environment three times for proxies.
    return session.send(
        prepared,
        timeout=timeout,
        allow_redirects=False,
        stream=True,
        verify=_trusted(session),
        cert=session.cert,
        proxies=proxies_for(session, prepared.url or ''),
    )


def _trusted(session: requests.Session) -> bool | str | None:
    """Return whether certificates are checked, or the file of those that are trusted."""
    verify = session.verify
    if session.trust_env and verify in (True, None):
        return os.environ.get('REQUESTS_CA_BUNDLE') or os.environ.get('CURL_CA_BUNDLE') or verify
    return verify


def _failure(
    cause: Exception, place: str, system: OSError | None, *, ended: bool
) -> FailedExchange:
    """Return what an exchange without an answer fails with."""
    if ended:
        return FailedExchange(
            ClientError(f'the client was closed before the bridge at {place} answered')
        )
    if (missing := shortage(system)) is not None:
        return FailedExchange(missing)
    known = isinstance(cause, exceptions.RequestException | urllib3.HTTPError)
    # So requests says that a file of certificates is not there.
    reason = _reason(cause) if known else 'the certificates to trust in cannot be read'
    error = BridgeUnreachableError(f'no answer from the bridge at {place}: {reason}')
    # A wrong certificate or address will not be right the next time.
    error.retryable = known and not isinstance(cause, exceptions.SSLError | ValueError)
    return FailedExchange(error, unsent=_is_unsent(cause))


def system_error(cause: BaseException, handled: BaseException | None = None) -> OSError | None:
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


#: Kinds of proxies; requests takes one without a scheme for one of HTTP.
_PROXY_SCHEMES = ('http', 'https', 'socks4', 'socks4a', 'socks5', 'socks5h')
# Changes of these count at once; those of others, such as Http_Proxy, after so many seconds.
_PROXY_VARIABLES = tuple(
    variable
    for name in ('http_proxy', 'https_proxy', 'all_proxy', 'request_method')
    for variable in (name, name.upper())
)
_PROXIES_KEPT = 10.0


def check_proxy(url: str) -> None:
    """Check the URL of a proxy.

    Args:
        url (str): ``[scheme://][user:password@]host[:port]``.

    Raises:
        ValueError: If it is no such URL. The message does not repeat it: it may hold a password.
        ConfigurationError: If it is one of SOCKS and the package for that is not installed.
    """
    text = url if '://' in url else f'http://{url}'
    try:
        parts = urlsplit(text)
        valid = parts.scheme in _PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(character.isspace() for character in text):
        raise ValueError(
            'the URL of the proxy is malformed: write scheme://host:port, '
            f'with one of the schemes {", ".join(_PROXY_SCHEMES)}'
        )
    if parts.scheme.startswith('socks') and importlib.util.find_spec('socks') is None:
        raise ConfigurationError(
            'the proxy is one of SOCKS, which needs a package: pip install "storj[socks]"'
        )


def proxies_for(session: requests.Session, url: str) -> dict[str, str]:
    """Return the proxies for a request: the session's own, else those of the environment.

    The environment's ``NO_PROXY`` exempts a bridge from both. Decided here, because requests lets
    the environment's proxies go before a session's, and a session's before ``NO_PROXY``.

    Raises:
        ConfigurationError: If the proxy that would be used cannot be one.
    """
    given: Mapping[str, str] = session.proxies
    exempt = given.get('no_proxy')
    if session.trust_env and (not given or select_proxy(url, given) is None):
        given = _environment_proxies()
    chosen = select_proxy(url, given) if given else None
    if chosen is not None:
        if session.trust_env and should_bypass_proxies(url, exempt):
            return {}
        try:
            check_proxy(chosen)
        except ValueError as error:
            raise ConfigurationError(f'{error} (STORJ_PROXY, HTTP_PROXY, HTTPS_PROXY)') from None
    return dict(given)


def _environment_proxies() -> Mapping[str, str]:
    """Return the proxies that the environment names, or the settings of the system."""
    usual = tuple(os.environ.get(name) for name in _PROXY_VARIABLES)
    return _proxies_read(usual, int(time.monotonic() / _PROXIES_KEPT))


@lru_cache(maxsize=1)
def _proxies_read(usual: tuple[str | None, ...], moment: int) -> Mapping[str, str]:
    # Reads every variable there is, which takes longer the more there are.
    return getproxies()


def _is_unsent(cause: Exception) -> bool:
    """Return whether the connection failed before the bridge could see the request."""
    if isinstance(cause, exceptions.ConnectTimeout):
        return True
    reason = getattr(cause.args[0], 'reason', None) if cause.args else None
    return isinstance(reason, urllib3.NewConnectionError)


#: The most specific first. Texts of our own, because those of the libraries quote addresses.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.SSLError, 'its certificate is not valid, or it speaks no TLS'),
    (exceptions.ProxyError, 'the proxy refuses to connect to it, or does not answer'),
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
