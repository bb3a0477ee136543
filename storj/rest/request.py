"""One call of a bridge: its normal form on the wire, and its repetition after failures.

``Client._request`` takes calls as programs and tests of 0.1.5 and 0.3 know them. What a bridge
would refuse is corrected here, below that method: a GET or DELETE has no body, a POST always has
one, and no path ends in a slash, which the routes of a bridge do without.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from storj import api
from storj.exception import NotFoundError, StorjBridgeApiError, StorjError
from storj.rest import decoding, transport
from storj.rest.connection import Calls

#: Methods with a body, in which a signed request has its nonce (protocol reference, section 2.2).
_WITH_BODY = frozenset({'POST', 'PUT', 'PATCH'})

#: Status, headers and body of an answer.
Exchange = Callable[[], tuple[int, Mapping[str, str], bytes]]


@dataclass(frozen=True)
class Request:
    """A call as it travels, apart from credentials and nonce.

    Attributes:
        method (str): HTTP method, in capitals.
        path (str): of the URL, percent-encoded, without query and closing slash.
        query (str): of the URL, as the caller wrote it behind the path; may be empty.
        headers (Mapping[str, str]): the caller's own.
        params (Mapping[str, Any]): more of the query.
        body (Any): value to send as JSON, None for none.
        data (bytes | None): body of another kind.
        as_text (bool): whether the answer is no JSON.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    params: Mapping[str, Any]
    body: Any
    data: bytes | None
    as_text: bool

    @classmethod
    def of(cls, method: str, path: str, options: dict[str, Any]) -> Request:
        """Return what travels of a call.

        Args:
            method (str): HTTP method.
            path (str): path of the URL, with or without a query.
            options (dict[str, Any]): ``headers``, ``params``, ``json``, ``data`` and ``text``.

        Raises:
            TypeError: If there is another option.
        """
        method = method.upper()
        route, _, query = path.partition('?')
        headers, params = (dict(options.pop(name, None) or {}) for name in ('headers', 'params'))
        body, data = options.pop('json', None), options.pop('data', None)
        if method not in _WITH_BODY:
            body = None
        elif body is None and data is None:
            body = {}
        as_text = bool(options.pop('text', False))
        if options:
            raise TypeError(f'_request does not know {", ".join(sorted(options))}')
        return cls(method, f'/{route.strip("/")}', query, headers, params, body, data, as_text)

    def addressed(
        self, address: str, headers: Mapping[str, str], auth: requests.auth.AuthBase
    ) -> requests.Request:
        """Return one attempt at the call, with a nonce of its own where it is signed.

        Args:
            address (str): of the bridge.
            headers (Mapping[str, str]): all of them, in place of the caller's.
            auth (requests.auth.AuthBase): signs it, or does nothing.
        """
        fields, params, body, data = dict(headers), dict(self.params), self.body, self.data
        if isinstance(auth, transport.KeyAuth):
            if self.method not in _WITH_BODY:
                params['__nonce'] = api.new_nonce()
            elif isinstance(body, Mapping):
                body = {**body, '__nonce': api.new_nonce()}
        if body is not None:
            data = json.dumps(body, allow_nan=False).encode()
            fields.setdefault('Content-Type', 'application/json')
        url = f'{address.rstrip("/")}{self.path}' + (f'?{self.query}' if self.query else '')
        return requests.Request(
            self.method, url, headers=fields, params=params, data=data, auth=auth
        )


def perform(
    request: Request,
    address: str,
    exchange: Exchange,
    policy: transport.Retries,
    calls: Calls,
    logger: logging.Logger,
) -> Any:
    """Make a call until it succeeds or must not be repeated, and return its decoded answer.

    Args:
        request (Request): what is called.
        address (str): of the bridge.
        exchange (Exchange): makes one attempt.
        policy (storj.rest.transport.Retries): how often and when.
        calls (Calls): those of the client; once they are ended, nothing is tried again.
        logger (logging.Logger): gets a line per attempt.

    Raises:
        StorjError: If no attempt succeeded.
    """
    method, shown = request.method, transport.shown_path(request.path)

    def attempt(number: int) -> Any:
        started = policy.clock()
        status: object = 'no answer'
        try:
            status, fields, content = exchange()
        finally:
            logger.debug('%s %s: %s in %.3f s', method, shown, status, policy.clock() - started)
        try:
            return decoding.decode(
                status, fields, content, asked=(address, request.path), as_text=request.as_text
            )
        except NotFoundError:
            # An attempt whose answer was lost did it.
            if method == 'DELETE' and number:
                return {}
            raise
        except StorjBridgeApiError as error:
            raise transport.FailedExchange(error) from error.__cause__

    def may_repeat(failed: transport.FailedExchange) -> bool:
        return not calls.ended and transport.may_repeat(method, request.headers, failed)

    def log(error: StorjError, seconds: float) -> None:
        reason = f'{error.code}: {error}' if isinstance(error, StorjBridgeApiError) else error
        logger.warning('%s %s failed (%s), trying again in %.1f s', method, shown, reason, seconds)

    return policy.run(attempt, may_repeat, log, calls.pause)
