"""A bridge without sockets: answers a client's requests below ``requests``, and keeps them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPResponse

from storj import http

VECTORS = Path(__file__).parent.parent / 'vectors'


def recording(name: str) -> list[dict[str, Any]]:
    """Return the exchanges with an original bridge, those that have an answer."""
    with (VECTORS / f'{name}.json').open(encoding='utf-8') as file:
        exchanges = json.load(file)['exchanges']
    return [each for each in exchanges if each['response'].get('status')]


class Answer:
    """One answer: JSON unless ``body`` gives the bytes."""

    def __init__(
        self,
        value: Any = None,
        status: int = 200,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status = status
        self.body = json.dumps(value).encode() if body is None else body
        self.headers = headers or {}


class Replay(BaseAdapter):
    """Adapter that serves answers, one per request; the last one again and again.

    An exception among the answers is raised in the place of the request.
    """

    def __init__(self, answers: Iterable[Any] | Callable[[requests.PreparedRequest], Any]) -> None:
        super().__init__()
        self._choose = answers if callable(answers) else None
        self._answers = [] if callable(answers) else list(answers)
        self.requests: list[requests.PreparedRequest] = []
        self.timeouts: list[Any] = []

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        self.requests.append(request)
        self.timeouts.append(options.get('timeout'))
        if self._choose is not None:
            answer = self._choose(request)
        else:
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        if not isinstance(answer, Answer):
            answer = Answer(answer)
        response = requests.Response()
        response.status_code = answer.status
        response.headers = CaseInsensitiveDict(answer.headers)
        response.request = request
        response.url = request.url or ''
        response.raw = HTTPResponse(
            io.BytesIO(answer.body), answer.headers, answer.status, preload_content=False
        )
        return response

    def close(self) -> None:
        """Hold nothing."""

    @property
    def bodies(self) -> list[Any]:
        """The JSON of the requests so far, None where there was none."""
        return [json.loads(each.body) if each.body else None for each in self.requests]

    @property
    def lines(self) -> list[str]:
        """Method and path, with the query, of the requests so far."""
        return [f'{each.method} {each.path_url}' for each in self.requests]


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def client_of(
    answers: Any,
    email: str | None = 'alice@example.org',
    password: str | None = 'pw',
    **options: Any,
) -> tuple[http.Client, Replay]:
    """Return a client whose requests are answered, and the adapter that does it."""
    clock = options.pop('clock', Clock())
    options.setdefault('retries', http.Retries(sleep=clock.sleep, clock=clock))
    client = http.Client(
        email, password, options.pop('storj_bridge', 'http://bridge.test/'), **options
    )
    replay = Replay(answers)
    for scheme in ('http://', 'https://'):
        client.session.mount(scheme, replay)
    return client, replay
