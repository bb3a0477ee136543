"""The tree of errors, and how an answer of the bridge becomes one."""

from __future__ import annotations

import inspect
import json
import pickle
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj import exception
from storj.exception import bridge_error, contract_error

CLASSES = [
    kind
    for name in exception.__all__
    if inspect.isclass(kind := getattr(exception, name)) and kind.__name__ == name
]


@pytest.mark.parametrize('kind', CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_says_what_happened_and_what_to_do(kind: type[Exception]) -> None:
    happened, _, advice = (inspect.getdoc(kind) or '').partition('\n\n')
    assert happened.endswith('.')
    assert advice
    assert issubclass(kind, exception.StorjError)


def test_retryable_classes_are_those_of_the_tree() -> None:
    drawn = set(re.findall(r'[├└]─ (\w+) \*', exception.__doc__ or ''))
    assert {kind.__name__ for kind in CLASSES if kind.retryable} == drawn


def test_old_names_are_the_same_classes() -> None:
    assert exception.BridgeError is exception.StorjBridgeApiError
    assert exception.StorjFarmerError is exception.FarmerError


def test_programs_can_parse_the_text_of_an_error() -> None:
    error = bridge_error(400, '{"error": "Email is already registered"}')
    assert json.loads(str(error))['error'] == 'Email is already registered'
    assert isinstance(error, exception.AlreadyExistsError)


@pytest.mark.parametrize('kind', [exception.BridgeError, exception.FarmerError])
@pytest.mark.parametrize(
    ('args', 'options'),
    [((0, 'error'), {}), ((0,), {'message': 'error'}), ((), {'code': 0, 'message': 'error'})],
)
def test_error_of_code_and_message_shows_both(
    kind: type[Any], args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    error = kind(*args, **options)
    assert (error.code, error.message, str(error)) == (0, 'error', '[0] error')
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code, copy.message, str(copy)) == (0, 'error', '[0] error')


def test_error_of_a_code_alone_has_no_message() -> None:
    assert (exception.BridgeError(404).code, exception.BridgeError(404).message) == (404, '')
    assert (exception.FarmerError(5).code, exception.FarmerError(5).message) == (5, '')
    assert str(exception.StorjFarmerError(5)) == 'farmer error 5'


def test_error_of_a_text_alone_has_it_as_message() -> None:
    for kind in (exception.BridgeError, exception.FarmerError, exception.ClientError):
        error: Any = kind('error')
        assert (error.message, str(error)) == ('error', 'error')
    assert exception.BridgeError('error').code is None
    assert exception.FarmerError('error').code is None


@pytest.mark.parametrize(
    ('kind', 'code'),
    [(exception.SuppliedTokenNotAcceptedError, 10002), (exception.HashMismatchError, 10003)],
)
def test_farmers_errors_have_the_codes_of_old(kind: type[exception.FarmerError], code: int) -> None:
    assert kind.CODE == kind().code == code
    assert kind().message == ''
    assert str(kind()) == f'farmer error {code}'
    assert (kind('own words').code, kind('own words').message) == (code, 'own words')
    assert (kind(3101, 'own words').code, kind(3101, 'own words').message) == (3101, 'own words')
    assert exception.StorjFarmerError(code).code == code


@pytest.mark.parametrize(
    ('status', 'body', 'kind'),
    [
        (400, '{"error":"ESOCKETTIMEDOUT"}', exception.BridgeUnavailableError),
        (400, '{"error":"Could not locate farmers"}', exception.BridgeUnavailableError),
        (
            400,
            '{"error":"Failed to complete work, reason unknown"}',
            exception.BridgeUnavailableError,
        ),
        (
            400,
            '{"error":"connect ECONNREFUSED 127.0.0.1:8152"}',
            exception.BridgeUnavailableError,
        ),
        (400, '{"error":"socket hang up"}', exception.BridgeUnavailableError),
        (400, '{"error":"Maximum bucket name"}', exception.StorjBridgeApiError),
        (500, '{"error":"Name already used by another bucket"}', exception.AlreadyExistsError),
        (500, '{"error":"E11000 duplicate key error"}', exception.AlreadyExistsError),
        (400, '{"error":"E11000 duplicate key error: nonce"}', exception.AuthenticationError),
        (401, '{"error":"Invalid nonce supplied"}', exception.AuthenticationError),
        (400, '{"error":"Public key is already registered"}', exception.AlreadyExistsError),
        (500, '{"error":"Invalid or expired token"}', exception.AuthenticationError),
        (
            500,
            '<pre>Error: Name already used by another bucket<br> at x</pre>',
            exception.AlreadyExistsError,
        ),
        (500, '<pre>MongoError: E11000 duplicate key error</pre>', exception.AlreadyExistsError),
        (500, '<pre>Error: Invalid or expired token<br> at x</pre>', exception.AuthenticationError),
        (500, '<pre>Error: Email is already registered</pre>', exception.AlreadyExistsError),
        (500, '<pre>Error: Frame not found</pre>', exception.NotFoundError),
        (500, '<pre>Error: Not authorized</pre>', exception.AuthenticationError),
        (500, '<pre>Internal Server Error</pre>', exception.BridgeUnavailableError),
        (418, '', exception.StorjBridgeApiError),
        (501, '', exception.BridgeUnavailableError),
        (200, '<html>', exception.BridgeUnavailableError),
    ],
)
def test_answer_becomes_the_most_specific_error(
    status: int, body: str, kind: type[exception.StorjBridgeApiError]
) -> None:
    error = bridge_error(status, body)
    assert type(error) is kind
    assert (error.code, str(error)) == (status, body)


@pytest.mark.parametrize(
    ('status', 'text', 'kind'),
    [
        (400, 'Consignment is not authorized', exception.BridgeUnavailableError),
        (400, 'whatever comes next', exception.BridgeUnavailableError),
        (400, 'E11000 duplicate key error: hash', exception.BridgeUnavailableError),
        (400, 'E11000 duplicate key error: nonce', exception.AuthenticationError),
        (500, 'whatever comes next', exception.BridgeUnavailableError),
        (400, 'Invalid index supplied', exception.StorjBridgeApiError),
        (400, 'Invalid size supplied', exception.StorjBridgeApiError),
        (400, 'Hash is expected to be supplied', exception.StorjBridgeApiError),
        (400, 'Invalid challenges supplied', exception.StorjBridgeApiError),
        (400, 'Not enough challenges supplied', exception.StorjBridgeApiError),
        (400, 'Invalid tree supplied', exception.StorjBridgeApiError),
        (400, 'Challenges and tree do not match', exception.StorjBridgeApiError),
        (400, 'Invalid contract specification was supplied', exception.StorjBridgeApiError),
        (400, 'Maximum blacklist length', exception.StorjBridgeApiError),
        (400, 'Maximum shard size 4294967296 exceeded', exception.StorjBridgeApiError),
        (500, 'Invalid shard sizes', exception.StorjBridgeApiError),
        (500, 'Cast to ObjectId failed for value "x"', exception.StorjBridgeApiError),
        (404, 'Frame not found', exception.NotFoundError),
        (401, 'Invalid signature', exception.AuthenticationError),
        (420, 'Could not add shard to frame', exception.RateLimitedError),
        (413, 'too large', exception.StorjBridgeApiError),
    ],
)
def test_refused_contract_is_temporary_unless_the_text_is_known(
    status: int, text: str, kind: type[exception.StorjBridgeApiError]
) -> None:
    body = json.dumps({'error': text})
    error = contract_error(bridge_error(status, body, {'Retry-After': '7'}))
    assert type(error) is kind
    assert (error.code, str(error), error.message) == (status, body, text)
    assert error.retry_after == 7


@pytest.mark.parametrize(
    ('body', 'message'),
    [
        ('{"error": "plain"}', 'plain'),
        ('{"error": {"message": "nested"}}', 'nested'),
        ('{"error": 5}', '{"error": 5}'),
        ('["error"]', '["error"]'),
        (
            '<title>Error</title><pre>Error: Name already used by a bucket<br> &nbsp; at x</pre>',
            'Name already used by a bucket',
        ),
        ('<title>Error</title><h1>Not Found</h1><p>nginx</p>', 'Not Found'),
        ('<html><title>502 Bad Gateway</title><p>nginx</p>', '502 Bad Gateway'),
        ('<pre>Unauthorized\n    at x</pre>', 'Unauthorized'),
        (
            '<pre>TypeError: Cannot read &#39;a&#39; &lt;b&gt; &amp;amp;<br>at</pre>',
            "Cannot read 'a' <b> &amp;",
        ),
        ('<pre>Cannot GET /a&#x2F;b</pre>', 'Cannot GET /a/b'),
        ('<pre><br>at x</pre>', 'the bridge answered with status 500 and no text'),
        ('<pre>Not\n   Found</pre>', 'Not Found'),
        ('plain words', 'plain words'),
        ('', 'the bridge answered with status 500 and no text'),
        ('x' * 9999, 'x' * 500),
    ],
)
def test_message_is_what_a_person_needs(body: str, message: str) -> None:
    assert bridge_error(500, body).message == message


@pytest.mark.parametrize(
    ('value', 'seconds'),
    [
        ('3', 3.0),
        ('0.25', 0.25),
        ('-1', None),
        ('inf', None),
        ('nan', None),
        ('soon', None),
        ('', None),
    ],
)
def test_pause_is_the_seconds_that_the_bridge_names(value: str, seconds: float | None) -> None:
    assert bridge_error(429, '', {'Retry-After': value}).retry_after == seconds


@pytest.mark.parametrize(
    ('value', 'seconds'),
    [
        ('Sun, 06 Nov 1994 08:49:37 GMT', 37),
        ('Sunday, 06-Nov-94 08:49:37 GMT', 37),
        ('Sun Nov  6 08:49:37 1994', 37),
        ('Sun, 06 Nov 1994 08:40:00 GMT', 0),
        ('Sun, 06 Nov 1994 99:49:37 GMT', None),
        ('Sun, 06 Nov 1994 08:49:37 +99999999', None),
        ('Sun,', None),
        ('soon', None),
    ],
)
def test_date_to_retry_after_is_compared_with_that_of_the_answer(
    value: str, seconds: float | None
) -> None:
    headers = {'Retry-After': value, 'Date': 'Sun, 06 Nov 1994 08:49:00 GMT'}
    assert bridge_error(503, '', headers).retry_after == seconds


def test_retry_date_is_compared_with_the_clock_without_a_date() -> None:
    headers = {'Retry-After': 'Fri, 31 Dec 9999 23:59:59 GMT'}
    assert (bridge_error(503, '', headers).retry_after or 0) > 10**10
    assert bridge_error(503, '', {'Retry-After': 'Sun Nov  6 08:49:37 1994'}).retry_after == 0


@pytest.mark.parametrize('text', ['<', '<pre>', '<h1><', '<!doctype><title>'])
def test_page_made_to_be_slow_is_read_quickly(text: str) -> None:
    began = time.process_time()
    assert bridge_error(502, text * (65536 // len(text))).code == 502
    # Whoever reads all of it needs ten times as long.
    assert time.process_time() - began < 1


@given(st.integers(100, 599), st.text())
def test_any_answer_becomes_an_error_of_ours(status: int, body: str) -> None:
    error = bridge_error(status, body)
    assert isinstance(error, exception.StorjBridgeApiError)
    assert str(error) == body
    assert 0 < len(error.message) <= 500


def test_causes_and_counts_of_a_transfer_are_kept() -> None:
    causes = [ValueError('a'), exception.FarmerError(5)]
    error = exception.NotEnoughShardsError('gone', have=3, need=5, causes=causes)
    assert (error.have, error.need, error.causes) == (3, 5, tuple(causes))
    assert isinstance(error, exception.TransferError)
    assert exception.TransferError().causes == ()


@pytest.mark.parametrize(
    'error',
    [
        bridge_error(404, '{"error": "no"}', {'Retry-After': '5'}),
        exception.HashMismatchError(3102, 'words'),
        exception.NotEnoughFarmersError('few', 1, 2),
        exception.TransferError('ended', [ValueError('a')]),
        exception.BridgeUnreachableError('gone'),
    ],
)
def test_error_travels_between_processes(error: exception.StorjError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert {k: str(v) for k, v in vars(copy).items()} == {k: str(v) for k, v in vars(error).items()}
