"""The other side decides how long its answer is, not how much of our memory it takes."""

from __future__ import annotations

import io
import itertools
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storj import exception, http, model
from storj.metadisk import MetaDisk
from storj.rest import decoding, paging

from .http_loopback_test import answering
from .replay import Answer, client_of

ROOT = Path(__file__).parents[2]
TIME = '2016-11-23T10:00:00.000Z'


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ('value', 'complaint'),
    [
        ([{}] * 50_001, 'more than 50000 entries'),
        ({'a': [0] * 50_001}, 'more than 50000 entries'),
        ([{'a': 1}] * 170_000, 'more than 400000 values'),
        ({f'{n:x}': n for n in range(1001)}, 'more than 1000 fields'),
        ([{f'{n:x}': n for n in range(1001)}], 'more than 1000 fields'),
        (nested(33), 'more than 32 levels'),
        ({'a': {'b': nested(31)}}, 'more than 32 levels'),
    ],
    ids=['rows', 'inner rows', 'values', 'fields', 'inner fields', 'levels', 'mixed levels'],
)
def test_answer_out_of_bounds_is_refused_and_not_asked_for_again(
    value: Any, complaint: str
) -> None:
    client, replay = client_of([value])
    with pytest.raises(exception.BridgeUnavailableError) as caught:
        client._request(method='GET', path='/x')
    assert complaint in caught.value.message
    assert not caught.value.retryable
    assert len(replay.requests) == 1


@pytest.mark.parametrize(
    'value',
    [
        [{}] * 50_000,
        {f'{n:x}': n for n in range(1000)},
        nested(32),
        {'text': '[{,:' * 10_000},
        [{'id': f'{n:024x}', 'filename': 'x' * 3900, 'created': TIME} for n in range(2000)],
    ],
    ids=['rows', 'fields', 'levels', 'text', 'full page'],
)
def test_largest_honest_answers_are_read(value: Any) -> None:
    client, _ = client_of([value])
    assert client._request(method='GET', path='/x') == value


def test_text_that_is_not_ascii_has_a_bound_of_its_own() -> None:
    for size, wide in ((3_100_000, False), (3_200_000, True)):
        body = json.dumps(['x' * size + '😀'], ensure_ascii=False).encode()
        client, _ = client_of([Answer(body=body)])
        if wide:
            with pytest.raises(exception.BridgeUnavailableError) as caught:
                client._request(method='GET', path='/x')
            assert 'not ASCII' in caught.value.message
        else:
            assert len(client._request(method='GET', path='/x')[0]) == size + 1


@pytest.mark.parametrize('body', [b'NaN', b'[Infinity]', b'{"a": -Infinity}', b'[1e999]'])
def test_numbers_that_json_does_not_have_are_refused(body: bytes) -> None:
    client, _ = client_of([Answer(body=body)])
    with pytest.raises(exception.BridgeUnavailableError) as caught:
        client._request(method='GET', path='/x')
    assert 'not JSON' in caught.value.message


CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b\r\n["k"]\r\n0\r\n\r\n'


@pytest.mark.parametrize('size', [b'-5', b'-' + b'f' * 20, b'f' * 40, b'x', b'9' * 5000])
def test_chunk_of_an_impossible_size_is_an_error_of_ours(size: bytes) -> None:
    with answering(CHUNKED % size) as client:
        with pytest.raises(exception.BridgeUnreachableError):
            client._request(method='GET', path='/x')
        reference = f'{"0" * 64}?key={"0" * 64}'
        with MetaDisk(client.api_url, timeout=5) as node:
            for call in (node.status, lambda: node.download(reference, io.BytesIO())):
                with pytest.raises(exception.BridgeUnreachableError):
                    call()


@pytest.mark.parametrize(
    'head',
    [
        b'200 OK\r\nContent-Length: ' + b'9' * 5000,
        b'206 Partial\r\nContent-Length: 1\r\nContent-Range: bytes %b-9/9' % (b'9' * 5000),
    ],
    ids=['length', 'range'],
)
def test_sizes_of_thousands_of_digits_are_errors_of_ours(head: bytes) -> None:
    with (
        answering(b'HTTP/1.1 %b\r\n\r\nx' % head) as client,
        MetaDisk(client.api_url, timeout=5) as node,
        pytest.raises(exception.StorjError),
    ):
        node.download(f'{"0" * 64}?key={"0" * 64}', io.BytesIO())


# -- redirects -------------------------------------------------------------------------------------


@pytest.mark.parametrize('place', [b'http://[', b'http://h:99999999/', b'javascript:1', b'\xff'])
def test_redirect_to_no_address_is_an_error_of_ours(place: bytes) -> None:
    moved = b'HTTP/1.1 302 Moved\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n' % place
    with answering(moved) as client, pytest.raises(exception.BridgeUnavailableError):
        client.key_list()


def test_endless_body_of_a_redirect_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, 'ANSWER_LIMIT', 1_000_000)

    def pour(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b'HTTP/1.1 302 Moved\r\nLocation: /elsewhere\r\n\r\n')
        while not stop.is_set():
            connection.sendall(b' ' * 65536)

    with (
        answering(pour) as client,
        pytest.raises(exception.BridgeUnavailableError, match='longer'),
    ):
        client.key_list()


@pytest.mark.parametrize(
    ('bridge', 'place', 'said'),
    [
        ('http://b.test', 'https://b.test:8443/keys', 'redirects to https://b.test:8443:'),
        ('http://b.test', 'https://b.test/keys/', 'redirects to https://b.test:'),
        ('http://b.test/v1', 'https://new.test/v2/keys?a=1', 'redirects to https://new.test/v2:'),
        (
            'http://b.test',
            'https://u:p@other.test/login?to=%2Fkeys',
            'redirects to https://other.test:',
        ),
        ('http://b.test', '//other.test/keys', 'redirects to http://other.test:'),
        ('http://b.test', 'http://[::1]:80/keys', 'redirects to http://[::1]:80:'),
        ('http://b.test', '/login', 'in a circle: is http://b.test the right URL?'),
        ('http://b.test', 'mailto:x', 'redirects to an invalid address'),
    ],
)
def test_redirect_names_the_url_to_configure(bridge: str, place: str, said: str) -> None:
    moved = Answer(body=b'', status=301, headers={'Location': place})
    client, _ = client_of([moved], storj_bridge=bridge)
    with pytest.raises(exception.BridgeUnavailableError) as caught:
        client.key_list()
    assert said in caught.value.message


def test_redirect_of_a_secret_route_shows_no_secret() -> None:
    place = 'https://b.test/activations/s3cret'
    client, _ = client_of([Answer(body=b'', status=301, headers={'Location': place})])
    with pytest.raises(exception.BridgeUnavailableError) as caught:
        client.user_activate('s3cret')
    assert 's3cret' not in caught.value.message


# -- listings --------------------------------------------------------------------------------------


def endless(entry: Callable[[int], dict[str, Any]], page: int) -> Callable[[Any], Answer]:
    numbers = itertools.count()
    return lambda request: Answer([entry(next(numbers)) for _ in range(page)])


def moment(number: int) -> str:
    return f'2016-11-23T10:{number // 60_000 % 60:02}:{number // 1000 % 60:02}.{number % 1000:03}Z'


def test_pages_of_entries_without_ids_end_the_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, 'FILES_PAGE', 4)
    client, replay = client_of(endless(lambda n: {'filename': 'x', 'created': moment(n)}, 4))
    assert len(client.bucket_files('b')) == 4
    assert len(replay.requests) == 2


def test_pages_that_alternate_end_the_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, 'FILES_PAGE', 4)
    client, _ = client_of(endless(lambda n: {'id': str(n % 8), 'created': moment(n)}, 4))
    assert len(client.bucket_files('b')) == 8


def test_pointers_without_numbers_end_with_a_short_page() -> None:
    client, replay = client_of(
        lambda request: Answer(
            {'token': 't', 'id': 't'} if request.method == 'POST' else [{'hash': 'h'}] * 3
        )
    )
    assert len(client.file_pointers('b', 'f')) == 3
    assert sum('files' in line for line in replay.lines) == 1


def test_listing_that_always_brings_something_new_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paging, 'MAX_ENTRIES', 100)
    monkeypatch.setattr(http, 'FILES_PAGE', 4)
    monkeypatch.setattr(http, 'BUCKETS_PAGE', 4)
    client, _ = client_of(endless(lambda n: {'id': str(n), 'created': moment(n)}, 4))
    for listing in (lambda: list(client.bucket_files('b')), lambda: list(client.bucket_list())):
        with pytest.raises(exception.BridgeUnavailableError, match='more than 100 entries'):
            listing()
    client, _ = client_of(endless(lambda n: {'index': n, 'token': 't', 'id': 't'}, 6))
    client.token_create = lambda *_, **__: model.Token(token='t')  # type: ignore[method-assign]
    with pytest.raises(exception.BridgeUnavailableError, match='more than 100 entries'):
        len(client.file_pointers('b', 'f'))


def test_token_that_is_no_header_is_an_error_of_ours() -> None:
    for token in ('a\nb', '\ud800', '\x00'):
        client, _ = client_of([{'token': token}])
        with pytest.raises(exception.BridgeUnavailableError):
            client.file_pointers('b', 'f')


# -- everything at once ----------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc for the peak of memory')
def test_mutated_answers_bring_errors_of_ours_within_150_mib() -> None:
    command = [sys.executable, '-m', 'benchmarks.hostile', '--cases', '400', '--seed', '20161123']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_program_sends_long_answers_among_others() -> None:
    from benchmarks import hostile

    sizes = [len(hostile.answer(f'/{n}/keys', '', 's')[2]) for n in range(250)]
    assert max(sizes) > 5000
    assert json.loads(json.dumps(hostile.honest('/keys')))
