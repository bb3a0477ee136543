"""Calls of a MetaDisk node, on the same bounds as those of a bridge (:mod:`storj.rest`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from storj.exception import (
    BridgeUnavailableError,
    BridgeUnreachableError,
    ClientError,
    StorjBridgeApiError,
    bridge_error,
)
from storj.rest import decoding, transport
from storj.rest.connection import Adapter, Calls
from storj.system.shortage import shortage

_ANSWER_LIMIT = 1024 * 1024


class Wire:
    """The way to one node. A single object serves one thread.

    Args:
        url (str): of the node.
        timeout (float | tuple[float, float]): seconds to connect, and to wait for the next bytes.
        proxy (str | None): URL of a proxy; by default that of the environment.

    Attributes:
        url (str): without a slash at the end, and without an account.
        calls (Calls): under way; new ones after a close.

    Raises:
        ValueError: If one of the URLs is of another kind.
    """

    def __init__(self, url: str, timeout: float | tuple[float, float], proxy: str | None) -> None:
        try:
            parts = urlsplit(url)
            right = parts.scheme in ('http', 'https') and parts.hostname and parts.port != 0
        except ValueError:
            right = False
        if not right:
            # Not quoted: it may hold a password.
            raise ValueError('the URL of a node begins with http:// or https:// and names a host')
        if proxy is not None:
            transport.check_proxy(proxy)
        # Nodes know no accounts.
        self.url = parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl().rstrip('/')
        self._connect, self._patience = (
            timeout if isinstance(timeout, tuple) else (timeout, timeout)
        )
        self._session = transport.Session()
        for scheme in ('http://', 'https://'):
            self._session.mount(scheme, Adapter())
        self.calls = Calls()
        if proxy is not None:
            self._session.proxies = {'http': proxy, 'https': proxy}

    def close(self) -> None:
        """Close the connections to the node, and end what another thread waits for."""
        calls, self.calls = self.calls, Calls()
        calls.end()
        self._session.close()

    @contextmanager
    def answer(
        self, method: str, path: str, *, extra: float = 0.0, **options: Any
    ) -> Iterator[requests.Response]:
        """Send a request and give the answer, its body unread.

        Args:
            method (str): of HTTP.
            path (str): below the URL of the node.
            extra (float): seconds to wait for the answer beyond the usual ones.
            **options (Any): of :class:`requests.Request`.

        Raises:
            StorjBridgeApiError: If the node refuses.
            BridgeUnreachableError: If there is no answer.
            ClientError: If the client was closed meanwhile.
        """
        # Compressed bodies would hide their length, and a redirect would carry off the token.
        headers = {'Accept-Encoding': 'identity', **options.pop('headers', {})}
        request = requests.Request(
            method, self.url + path, headers, auth=transport.NoAuth(), **options
        )
        calls, patience = self.calls, self._patience + extra
        try:
            # A file may take as long as it likes, as long as bytes come.
            with (
                calls.begin(patience, math.inf),
                transport.send(self._session, request, (self._connect, patience)) as response,
            ):
                if response.status_code not in (200, 201, 206):
                    body = decoding.read(response, _ANSWER_LIMIT)
                    raise _refusal(response, body, (self.url, path))
                yield response
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise self.unreachable(error, calls) from error
        except ConnectionAbortedError as error:
            if not calls.ended:
                raise
            raise self.unreachable(error, calls) from error

    def json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send a request and return the object of the answer; see :meth:`answer`."""
        with self.answer(method, path, **options) as response:
            body = decoding.read(response, _ANSWER_LIMIT)
        text = decoding.text_of(body)
        try:
            answer = decoding.parse(body)
        except decoding.OutOfBounds as error:
            raise BridgeUnavailableError(
                text, response.status_code, f'the answer is {error}'
            ) from None
        except ValueError:
            raise bridge_error(response.status_code, text, response.headers) from None
        if not isinstance(answer, dict):
            raise BridgeUnavailableError(text, response.status_code, 'the answer is no object')
        return answer

    def unreachable(self, error: Exception, calls: Calls) -> ClientError:
        """Return what a failure of the connection means, in a call that was one of these."""
        if calls.ended:
            return ClientError(f'the client was closed before the node at {self.url} answered')
        missing = shortage(transport.system_error(error))
        if missing is not None:
            return missing
        # The library's text repeats the whole address, which may hold a key or a token.
        return BridgeUnreachableError(
            f'no answer from the node at {self.url}: {type(error).__name__}'
        )


def _refusal(
    response: requests.Response, body: bytes, asked: tuple[str, str]
) -> StorjBridgeApiError:
    text = decoding.text_of(body)
    if 300 <= response.status_code < 400:
        message = decoding.redirect_message('node', response.headers, asked)
        return BridgeUnavailableError(text, response.status_code, message)
    error = bridge_error(response.status_code, text, response.headers)
    try:
        answer = decoding.parse(body)
    except ValueError:
        return error
    # The accounts service names its errors under `status`, web-core under `error`.
    if isinstance(answer, dict) and isinstance(answer.get('status'), str):
        error.message = answer['status']
    return error
