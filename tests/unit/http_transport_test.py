"""How the client sends, signs, reads and tries again; no sockets."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import logging
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import requests
from ecdsa import SECP256k1, SigningKey, VerifyingKey
from ecdsa.util import sigdecode_der
from requests import exceptions
from urllib3.exceptions import MaxRetryError, NewConnectionError

from storj import exception, http, model
from storj.rest import decoding
from storj.rest.request import Request

from .replay import Answer, Clock, client_of, recording

KEY = SigningKey.from_secret_exponent(0x1234, curve=SECP256k1)


def refused() -> exceptions.ConnectionError:
    reason = NewConnectionError(None, 'refused')  # type: ignore[arg-type]
    return exceptions.ConnectionError(MaxRetryError(None, '/', reason))  # type: ignore[arg-type]


# -- authentication --------------------------------------------------------------------------------


def test_password_becomes_the_hex_of_its_sha256() -> None:
    client, _ = client_of([[]], password='correct horse')
    assert client.password == '4104d36f8da2c254349f85836793ebe029e0c957063a34c91c2e9203187b5631'


def test_password_that_is_no_text_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match='password') as caught:
        http.Client('alice@example.org', 'secret\udcff')
    assert 'secret' not in repr(caught.value)


def test_email_that_is_no_text_is_refused_without_the_hash() -> None:
    client, replay = client_of([[]], 'alice\udcff@example.org', 'pw')
    with pytest.raises(ValueError, match='e-mail') as caught:
        client.key_list()
    assert str(client.password) not in repr(caught.value)
    assert caught.value.__suppress_context__
    assert not replay.requests


def test_basic_header_is_the_one_of_the_reference() -> None:
    client, replay = client_of([[]], 'alice@example.org', 'correct horse')
    client.key_list()
    assert replay.requests[0].headers['Authorization'] == (
        b'Basic YWxpY2VAZXhhbXBsZS5vcmc6NDEwNGQzNmY4ZGEyYzI1NDM0OWY4NTgzNjc5M2ViZTAyOWUw'
        b'Yzk1NzA2M2EzNGM5MWMyZTkyMDMxODdiNTYzMQ=='
    )


def test_password_and_email_of_any_script_are_utf8() -> None:
    client, replay = client_of([[]], 'zoë@example.org', 'пароль')
    client.key_list()
    header = replay.requests[0].headers['Authorization'].removeprefix(b'Basic ')
    email, _, hashed = base64.b64decode(header).decode('utf-8').partition(':')
    assert email == 'zoë@example.org'
    assert hashed == hashlib.sha256('пароль'.encode()).hexdigest()


@pytest.mark.parametrize(('email', 'password'), [(None, ''), (None, None), ('', 'x')])
def test_without_account_no_credentials_are_sent(email: Any, password: Any) -> None:
    client, replay = client_of([[]], email, password)
    client.contact_list()
    assert 'Authorization' not in replay.requests[0].headers


def verify(request: requests.PreparedRequest, params: str | bytes) -> None:
    key = VerifyingKey.from_string(bytes.fromhex(request.headers['x-pubkey']), curve=SECP256k1)
    raw = params if isinstance(params, bytes) else params.encode()
    path = request.path_url.partition('?')[0]
    text = f'{request.method}\n{path}\n'.encode() + raw
    signature = bytes.fromhex(request.headers['x-signature'])
    assert key.verify(signature, text, hashfunc=hashlib.sha256, sigdecode=sigdecode_der)


@pytest.mark.parametrize('method', ['POST', 'PUT', 'PATCH'])
def test_signature_covers_the_body_that_is_sent(method: str) -> None:
    client, replay = client_of([{}], storj_bridge='https://bridge.test/base/')
    client.authenticate(KEY)
    client._request(method=method, path='/buckets', json={'name': 'Fotos "ä"', 'n': 1})
    request = replay.requests[0]
    assert isinstance(request.body, bytes)
    verify(request, request.body)
    assert request.path_url == '/base/buckets'
    assert json.loads(request.body)['__nonce']
    assert 'Authorization' not in request.headers


@pytest.mark.parametrize('method', ['GET', 'DELETE'])
def test_signature_covers_the_query_that_is_sent(method: str) -> None:
    client, replay = client_of([{}])
    client.authenticate(KEY)
    client._request(
        method=method, path='/buckets/x%20y/files', params={'exclude': 'a,b', 'q': 'ä '}
    )
    request = replay.requests[0]
    query = request.path_url.partition('?')[2]
    verify(request, query)
    assert '__nonce=' in query
    assert request.body is None


def test_post_without_parameters_still_has_a_nonce() -> None:
    client, replay = client_of([{'id': 'f'}])
    client.authenticate(KEY)
    client.frame_create()
    assert set(replay.bodies[0]) == {'__nonce'}


def test_every_attempt_has_a_nonce_of_its_own() -> None:
    client, replay = client_of([Answer({}, 503), Answer({}, 503), []])
    client.authenticate(KEY)
    list(client.bucket_list())
    assert len(replay.requests) == 3
    assert len({request.path_url for request in replay.requests}) == 3


def test_thousand_nonces_differ() -> None:
    client, replay = client_of([[]])
    client.authenticate(KEY)
    request = Request.of('GET', '/', {})
    requests_ = [client._prepare(request) for _ in range(1000)]
    assert len({each.params['__nonce'] for each in requests_}) == 1000
    assert not replay.requests


def test_authenticate_without_key_goes_back_to_the_password() -> None:
    client, replay = client_of([[]])
    client.authenticate(KEY)
    client.authenticate()
    client.key_list()
    assert 'Authorization' in replay.requests[0].headers
    assert 'x-signature' not in replay.requests[0].headers


def test_key_alone_signs_when_there_is_no_password() -> None:
    client, replay = client_of([[]], None, None)
    client._adopt(KEY)
    client.key_list()
    assert replay.requests[0].headers['x-pubkey'] == client.public_key_hex


@pytest.mark.parametrize('key', ['text', b'bytes', 1, KEY.get_verifying_key()])
def test_what_is_no_signing_key_cannot_authenticate(key: Any) -> None:
    client, _ = client_of([[]])
    with pytest.raises(TypeError):
        client.authenticate(key)
    assert client.private_key is None


@pytest.mark.parametrize('name', ['bridge-2.2.4', 'bridge-5.24.1'])
def test_signatures_of_the_original_client_are_over_the_same_text(name: str) -> None:
    checked = 0
    for exchange in recording(name):
        sent = exchange['request']
        headers = {key.lower(): value for key, value in sent.get('headers', {}).items()}
        if 'x-signature' not in headers or sent['method'] not in ('GET', 'DELETE'):
            continue
        request = requests.Request(
            sent['method'], 'http://bridge.test' + sent['path'], headers=headers
        ).prepare()
        if exchange['response']['status'] == 200 and '\u2026' not in sent['path']:
            verify(request, request.path_url.partition('?')[2])
            checked += 1
    assert checked


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('answer', 'value'),
    [
        (Answer(body=b''), {}),
        (Answer(body=b'  \n'), {}),
        (Answer(body=b']'), []),
        (Answer(body=b'\xef\xbb\xbf{"a": 1}'), {'a': 1}),
        (Answer(['an error', 'error']), ['an error', 'error']),
        (Answer([{'error': 'in a list'}]), [{'error': 'in a list'}]),
        (Answer({'error': None, 'id': 1}), {'error': None, 'id': 1}),
        (Answer(body=b'', status=304), {}),
        (Answer(body=b'', status=204), {}),
        (Answer({'a': 1}, 201), {'a': 1}),
    ],
)
def test_answer_that_means_success_is_decoded(answer: Answer, value: Any) -> None:
    client, _ = client_of([answer])
    assert client._request(method='GET', path='/x') == value


@pytest.mark.parametrize(
    'body',
    [
        b'<html>maintenance</html>',
        b'{"a"',
        b'[',
        b'\xff\xfe\x00',
        b'[' * 100_000,
        b'1' * 5000 + b'x',
    ],
    ids=['html', 'cut', 'bracket', 'binary', 'deep', 'number'],
)
def test_answer_that_is_no_json_is_one_typed_error(body: bytes) -> None:
    client, _ = client_of([Answer(body=body)])
    with pytest.raises(exception.BridgeUnavailableError) as caught:
        client._request(method='POST', path='/x', json={})
    assert caught.value.code == 200
    assert 'not JSON' in caught.value.message
    assert len(str(caught.value)) <= 65536


@pytest.mark.parametrize(
    ('status', 'body', 'kind', 'message'),
    [
        (400, '{"error": "Invalid"}', exception.StorjBridgeApiError, 'Invalid'),
        (401, '<pre>Unauthorized</pre>', exception.AuthenticationError, 'Unauthorized'),
        (403, '', exception.AuthenticationError, 'the bridge answered with status 403 and no text'),
        (404, '{"error": "Bucket not found"}', exception.NotFoundError, 'Bucket not found'),
        (409, '{"error": "taken"}', exception.AlreadyExistsError, 'taken'),
        (420, '{"error": "quota"}', exception.RateLimitedError, 'quota'),
        (500, '{"error": "Invalid or expired token"}', exception.AuthenticationError, None),
        (502, '<h1>Bad Gateway</h1>', exception.BridgeUnavailableError, 'Bad Gateway'),
        (200, '{"error": "odd"}', exception.BridgeUnavailableError, 'odd'),
    ],
)
def test_refusal_is_the_error_of_its_status(
    status: int, body: str, kind: type[Exception], message: str | None
) -> None:
    client, _ = client_of([Answer(body=body.encode(), status=status)])
    with pytest.raises(exception.StorjBridgeApiError) as caught:
        client._request(method='POST', path='/x', json={})
    assert type(caught.value) is kind
    assert caught.value.code == status
    assert str(caught.value) == body
    if message is not None:
        assert caught.value.message == message


def test_answer_longer_than_the_limit_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, 'ANSWER_LIMIT', 1000)
    client, replay = client_of([Answer(body=b'"' + b'x' * 10_000_000 + b'"')])
    with pytest.raises(exception.BridgeUnavailableError, match='longer than 1000 bytes'):
        client._request(method='GET', path='/x')
    assert len(replay.requests) == 1


def test_redirect_is_not_followed_and_names_no_secret() -> None:
    place = 'https://user:pw@elsewhere.test/buckets?token=t'
    client, replay = client_of([Answer(body=b'', status=302, headers={'Location': place})])
    with pytest.raises(exception.BridgeUnavailableError) as caught:
        client.key_list()
    assert 'https://elsewhere.test' in caught.value.message
    assert 'pw' not in caught.value.message
    assert not caught.value.retryable
    assert [request.url for request in replay.requests] == ['http://bridge.test/keys']


@pytest.mark.parametrize('answer', [{}, None, 'text', 5, [1], [[]], [None]])
def test_json_of_another_shape_is_one_typed_error(answer: Any) -> None:
    client, _ = client_of([answer])
    with pytest.raises(exception.BridgeUnavailableError):
        client.key_list()
    with pytest.raises(exception.BridgeUnavailableError):
        list(client.bucket_list())
    if not isinstance(answer, dict):
        with pytest.raises(exception.BridgeUnavailableError):
            client.file_metadata('b', 'f')
        with pytest.raises(exception.BridgeUnavailableError):
            client.info()
        with pytest.raises(exception.BridgeUnavailableError):
            client.frame_add_shard(model.Shard(hash='h', size=1, index=0), 'f')


# -- errors below HTTP -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('cause', 'text', 'retryable'),
    [
        (exceptions.ConnectTimeout('x'), 'did not accept', True),
        (exceptions.ReadTimeout('x'), 'did not answer in time', True),
        (exceptions.SSLError('x'), 'certificate', False),
        (exceptions.ProxyError('http://u:pw@proxy'), 'proxy', True),
        (exceptions.ChunkedEncodingError('x'), 'broke off', True),
        (exceptions.ContentDecodingError('x'), 'damaged', True),
        (exceptions.InvalidURL('http://u:pw@x'), 'not valid', False),
        (exceptions.ConnectionError('u:pw@x'), 'refused or broke off', True),
        (exceptions.RequestException('pw'), 'RequestException', True),
    ],
)
def test_failure_below_http_is_an_unreachable_bridge(
    cause: Exception, text: str, retryable: bool
) -> None:
    client, _ = client_of([cause])
    with pytest.raises(exception.BridgeUnreachableError, match=text) as caught:
        client._request(method='POST', path='/x', json={})
    assert caught.value.retryable is retryable
    assert 'pw' not in str(caught.value)
    assert 'http://bridge.test/' in str(caught.value)


def test_failure_below_http_names_the_error_of_the_system() -> None:
    with pytest.raises(exceptions.ConnectionError) as library:
        requests.get('http://127.0.0.1:1/', timeout=5)
    client, _ = client_of([library.value])
    with pytest.raises(exception.BridgeUnreachableError) as caught:
        client._request(method='POST', path='/x', json={})
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize('cause', [exceptions.InvalidURL('x'), refused()])
def test_failure_below_http_is_not_laid_to_what_the_caller_handles(cause: Exception) -> None:
    client, _ = client_of([cause], retries=http.Retries(count=0))
    try:
        raise FileNotFoundError('of the caller')
    except FileNotFoundError:
        with pytest.raises(exception.BridgeUnreachableError) as caught:
            client._request(method='GET', path='/x')
    assert caught.value.__cause__ is None


WORDS = 'abandon ability able about above absent absorb abstract absurd abuse access accident'


def unanswered(**options: Any) -> http.Client:
    """Return a client that nobody listens to: what it raises quotes what libraries say."""
    retries = http.Retries(count=0)
    url = 'http://127.0.0.1:1/'
    proxies = options.pop('proxies', {})
    client = http.Client('e@x', 'hunter2', url, mnemonic=WORDS, retries=retries, **options)
    client.session.proxies = proxies
    return client


@pytest.mark.parametrize(
    'client',
    [
        client_of([Answer({}, 500)], 'e@x', 'hunter2', mnemonic=WORDS)[0],
        client_of([Answer(body=b'<html>')], 'e@x', 'hunter2', mnemonic=WORDS)[0],
        unanswered(),
        unanswered(proxies={'http': 'http://user:hunter2@127.0.0.1:1'}),
        unanswered(proxies={'http': 'http://user:hunter2@['}),
        unanswered(proxies={'http': 'odd://user:hunter2@host'}),
    ],
    ids=['refusal', 'no json', 'nobody', 'no proxy', 'bad proxy', 'odd proxy'],
)
def test_printed_error_shows_no_secret(client: http.Client) -> None:
    # In variables: a traceback prints the lines of the program.
    token, password = 'feedbeef', 'hunter2'
    calls: list[Callable[[], object]] = [
        lambda: client.user_activate(token),
        lambda: client.user_deactivate(token),
        lambda: client.user_reset_password_confirmation(token),
        lambda: client.user_create('e@x', password),
        lambda: client._request('GET', '/x', headers={'x-token': token}),
        lambda: client._request('GET', '/x', headers={'x-token': f'{token}\r\nx: y'}),
    ]
    for call in calls:
        with pytest.raises(exception.StorjError) as caught:
            call()
        printed = ''.join(traceback.format_exception(caught.value))
        for secret in (token, password, str(client.password), 'ability'):
            assert secret not in printed


# -- again -----------------------------------------------------------------------------------------


def attempts(method: str, answer: Any, **options: Any) -> tuple[int, Clock]:
    clock = Clock()
    client, replay = client_of([answer], clock=clock)
    with pytest.raises(exception.StorjError):
        client._request(method=method, path='/x', **options)
    return len(replay.requests), clock


@pytest.mark.parametrize(
    ('method', 'answer', 'count'),
    [
        ('GET', Answer({}, 500), 4),
        ('GET', Answer({}, 429), 4),
        ('GET', Answer(body=b'<html>'), 4),
        ('GET', exceptions.ReadTimeout(), 4),
        ('GET', Answer({}, 420), 1),
        ('GET', Answer({}, 404), 1),
        ('GET', Answer({'error': 'Invalid or expired token'}, 500), 1),
        ('GET', exceptions.SSLError(), 1),
        ('DELETE', Answer({}, 503), 4),
        ('DELETE', exceptions.ConnectionError(), 4),
        ('PUT', Answer({}, 503), 4),
        ('PUT', Answer({}, 429), 4),
        ('PUT', Answer({}, 500), 1),
        ('PUT', exceptions.ReadTimeout(), 1),
        ('PUT', exceptions.ConnectTimeout(), 4),
        ('POST', Answer({}, 503), 1),
        ('POST', Answer({}, 429), 1),
        ('POST', exceptions.ReadTimeout(), 1),
        ('POST', exceptions.ConnectionError(), 1),
        ('POST', exceptions.ConnectTimeout(), 4),
        ('POST', refused(), 4),
        ('PATCH', Answer({}, 503), 1),
    ],
)
def test_request_is_sent_again_only_where_nothing_can_happen_twice(
    method: str, answer: Any, count: int
) -> None:
    assert attempts(method, answer)[0] == count


def test_request_with_a_token_is_not_sent_again() -> None:
    count, _ = attempts('GET', Answer({}, 500), headers={'x-token': 't'})
    assert count == 1


def test_pauses_grow_and_are_bounded() -> None:
    _, clock = attempts('GET', Answer({}, 500))
    for number, pause in enumerate(clock.slept):
        assert 0.125 * 2**number <= pause <= 0.25 * 2**number


def test_pause_that_the_bridge_asks_for_is_kept() -> None:
    clock = Clock()
    limited = Answer({}, 429, headers={'Retry-After': '7.5'})
    client, _ = client_of([limited, []], clock=clock)
    assert client.key_list() == []
    assert clock.slept == [7.5]


def test_pause_beyond_the_budget_is_the_callers() -> None:
    count, clock = attempts('GET', Answer({}, 429, headers={'Retry-After': '61'}))
    assert (count, clock.slept) == (1, [])


def test_attempts_end_with_the_budget() -> None:
    count, clock = attempts('GET', Answer({}, 503, headers={'Retry-After': '25'}))
    assert (count, clock.slept) == (3, [25, 25])


def test_delete_whose_answer_was_lost_is_done() -> None:
    client, replay = client_of([exceptions.ReadTimeout(), Answer({'error': 'no'}, 404)])
    client.bucket_delete('b')
    assert len(replay.requests) == 2


def test_delete_of_what_is_not_there_is_an_error() -> None:
    client, _ = client_of([Answer({'error': 'no'}, 404)])
    with pytest.raises(exception.NotFoundError):
        client.bucket_delete('b')


def test_retry_is_logged_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    client, _ = client_of([Answer({}, 503), []])
    with caplog.at_level(logging.WARNING, 'storj.http'):
        client.key_list()
    assert 'GET /keys failed (503: ' in caplog.text


# -- logs, repr ------------------------------------------------------------------------------------


def test_request_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    client, _ = client_of(
        [{}],
        'alice@example.org',
        'hunter2',
        mnemonic='abandon ability',
        storj_bridge='http://b.test',
    )
    with caplog.at_level(logging.DEBUG, 'storj'):
        client.user_create('alice@example.org', 'hunter2')
        client.user_activate('feedbeef')
        client.user_deactivate('feedbeef')
        client.user_reset_password_confirmation('feedbeef')
        client._request(method='GET', path='/x?token=feedbeef', headers={'x-token': 'feedbeef'})
    assert 'POST /users: 200 in 0.000 s' in caplog.text
    assert 'GET /activations/***: 200' in caplog.text
    for secret in ('hunter2', client.password or '', 'feedbeef', 'ability'):
        assert secret not in caplog.text
        assert secret not in repr(client)


def test_credentials_in_the_url_are_used_and_hidden(caplog: pytest.LogCaptureFixture) -> None:
    client, replay = client_of(
        [exceptions.InvalidURL('x'), []],
        None,
        None,
        storj_bridge='https://alice%40example.org:hunter2@bridge.test:8443/base',
    )
    with (
        caplog.at_level(logging.DEBUG, 'storj'),
        pytest.raises(exception.BridgeUnreachableError) as caught,
    ):
        client.key_list()
    assert client.api_url == 'https://bridge.test:8443/base'
    assert client.email == 'alice@example.org'
    assert client.password == hashlib.sha256(b'hunter2').hexdigest()
    assert replay.requests[0].url == 'https://bridge.test:8443/base/keys'
    for text in (repr(client), caplog.text, str(caught.value), client.api_url):
        assert 'hunter2' not in text


@pytest.mark.parametrize(
    'url',
    [
        '',
        'bridge.test',
        'ftp://bridge.test',
        'http://',
        'https://:80/',
        'http://[::1',
        'http://a:b',
        'http://u:hunter2@host:x',
        'http://h/?q=1',
        'http://h/#f',
        'http://a b/',
    ],
)
def test_malformed_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match='URL') as caught:
        http.Client(None, None, url)
    assert 'hunter2' not in str(caught.value)


@pytest.mark.parametrize('url', [None, 5, b'http://h'])
def test_url_of_another_type_is_refused(url: Any) -> None:
    with pytest.raises(TypeError):
        http.Client(None, None, url)


# -- timeouts, sessions, proxies -------------------------------------------------------------------


def test_timeouts_are_finite_by_default() -> None:
    client, replay = client_of([{}])
    client.info()
    client.frame_add_shard(model.Shard(hash='h', size=1, index=0), 'f')
    assert replay.timeouts == [(10.0, 30.0), (10.0, 100.0)]


@pytest.mark.parametrize(('given', 'used'), [(3, (3.0, 3.0)), ((1, 2.5), (1.0, 2.5))])
def test_timeout_of_the_caller_is_used(given: Any, used: tuple[float, float]) -> None:
    client, replay = client_of([{}], timeout=given)
    client.info()
    client._request(method='PUT', path='/x', timeout=9)
    assert replay.timeouts == [used, (9.0, 9.0)]


@pytest.mark.parametrize('timeout', [0, -1, float('inf'), float('nan'), (1,), (1, 2, 3), True, 'x'])
def test_timeout_that_never_ends_is_refused(timeout: Any) -> None:
    with pytest.raises(ValueError, match='timeout'):
        http.Client(None, None, timeout=timeout)


def test_each_thread_has_a_session_and_keeps_it() -> None:
    client = http.Client(None, None)
    seen: dict[str, list[requests.Session]] = {}

    def look(name: str) -> None:
        seen[name] = [client.session, client.session]

    threads = [threading.Thread(target=look, args=(name,)) for name in 'ab']
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    look('main')
    assert all(first is second for first, second in seen.values())
    assert len({id(pair[0]) for pair in seen.values()}) == 3
    client.close()


def test_close_closes_the_sessions_of_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[requests.Session] = []
    monkeypatch.setattr(requests.Session, 'close', lambda session: closed.append(session))
    with http.Client(None, None) as client:
        mine = client.session
        others: list[requests.Session] = []
        thread = threading.Thread(target=lambda: others.append(client.session))
        thread.start()
        thread.join()
    assert {id(session) for session in closed} == {id(mine), id(others[0])}


def test_closed_client_tries_nothing_again() -> None:
    client, replay = client_of([exceptions.ReadTimeout('x')])
    client._retries = dataclasses.replace(client._retries, sleep=lambda seconds: client.close())
    with pytest.raises(exception.ClientError, match='closed'):
        client.key_list()
    assert len(replay.requests) == 1


# -- the seam --------------------------------------------------------------------------------------


def test_request_refuses_keywords_that_it_does_not_know() -> None:
    client, replay = client_of([{}])
    with pytest.raises(TypeError, match='verify'):
        client._request(method='GET', path='/', verify=False)
    assert not replay.requests


@pytest.mark.parametrize('body', [{'a': float('nan')}, {'a': object()}, {'a': b'x'}])
def test_body_that_cannot_be_json_is_refused_before_sending(body: Any) -> None:
    client, replay = client_of([{}])
    with pytest.raises((TypeError, ValueError)):
        client._request(method='POST', path='/', json=body)
    assert not replay.requests


def test_path_cannot_lead_to_another_host() -> None:
    client, replay = client_of([{}], storj_bridge='https://bridge.test')
    for path in (
        '//elsewhere.test/x',
        '@elsewhere.test',
        'https://elsewhere.test/',
        '.elsewhere.test',
    ):
        client._request(method='GET', path=path)
    assert all(request.url.startswith('https://bridge.test/') for request in replay.requests)


# -- routes that not every release has -------------------------------------------------------------


@pytest.mark.parametrize(
    ('version', 'method', 'path', 'words'),
    [
        ('2.2.4', 'get', '/buckets/b/files/f/mirrors', r'\(2\.2\.4\) does not list mirrors'),
        ('5.24.1', 'POST', '/buckets/b/mirrors', r'\(5\.24\.1\) makes mirrors by itself'),
        ('2.2.0', 'POST', '/reports/exchanges', r'\(2\.2\.0\) takes no exchange reports'),
    ],
)
def test_route_that_the_release_never_answers_is_not_asked(
    version: str, method: str, path: str, words: str
) -> None:
    client, replay = client_of([{'info': {'version': version}}])
    with pytest.raises(exception.StorjBridgeApiError, match=words) as caught:
        client._request(method, path)
    assert not caught.value.retryable
    assert [request.path_url for request in replay.requests] == ['/']


@pytest.mark.parametrize('version', ['3.1.0', None])
def test_route_that_the_release_may_know_is_asked(version: str | None) -> None:
    client, replay = client_of([{'info': {'version': version}}, []])
    assert client.file_mirrors('b', 'f') == []
    assert [request.path_url for request in replay.requests] == ['/', '/buckets/b/files/f/mirrors']


@pytest.mark.parametrize(('version', 'seconds'), [('2.2.4', 30.0), ('3.0.0', 100.0), ('', 100.0)])
def test_contract_that_old_bridge_may_miss_is_not_waited_for_long(
    version: str, seconds: float
) -> None:
    client, replay = client_of([{'info': {'version': version}}, {}])
    client.profile()
    client._request('PUT', '/frames/f', json={})
    assert replay.timeouts[-1] == (10.0, seconds)
