"""Every exchange recorded with the original bridges, made again by the client's own methods.

What the client sends must be what was sent then, and what it makes of the answer must be a record
or the error that the status and text mean. Requests that the client refuses before sending are
those that the bridge refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import pytest

from storj import exception, http, model

from .replay import Answer, client_of, recording

Call = Callable[[http.Client, re.Match[str], dict[str, Any], dict[str, str]], Any]


def add_shard(
    client: http.Client, path: re.Match[str], body: dict[str, Any], query: dict[str, str]
) -> Any:
    body = dict(body)
    excludes = body.pop('exclude', None)
    return client.frame_add_shard(model.Shard(**body), path[1], excludes)


def patch_bucket(
    client: http.Client, path: re.Match[str], body: dict[str, Any], query: dict[str, str]
) -> Any:
    if 'pubkeys' not in body or 'name' in body:
        # publicPermissions have no documented method: the seam is there for such routes.
        return client._request(method='PATCH', path=path[0], json=body)
    return client.bucket_set_keys(path[1], 'photos', body['pubkeys'])


ROUTES: list[tuple[str, str, Call, Any]] = [
    ('GET', '/', lambda c, p, b, q: c.info(), dict),
    ('GET', '/buckets', lambda c, p, b, q: list(c.bucket_list()), [model.Bucket]),
    (
        'POST',
        '/buckets',
        lambda c, p, b, q: c.bucket_create(b.get('name'), b.get('storage'), b.get('transfer')),
        model.Bucket,
    ),
    ('GET', '/buckets/([^/]+)', lambda c, p, b, q: c.bucket_get(p[1]), model.Bucket),
    ('PATCH', '/buckets/([^/]+)', patch_bucket, (model.Bucket, dict)),
    ('DELETE', '/buckets/([^/]+)', lambda c, p, b, q: c.bucket_delete(p[1]), type(None)),
    ('GET', '/bucket-ids/([^/]+)', lambda c, p, b, q: c.bucket_id(p[1]), (str, type(None))),
    (
        'POST',
        '/buckets/([^/]+)/tokens',
        lambda c, p, b, q: c.token_create(p[1], b.get('operation'), b.get('file')),
        model.Token,
    ),
    ('GET', '/buckets/([^/]+)/files', lambda c, p, b, q: list(c.bucket_files(p[1])), [dict]),
    (
        'POST',
        '/buckets/([^/]+)/files',
        lambda c, p, b, q: c.file_create(
            p[1],
            b.get('frame'),
            b.get('filename'),
            mimetype=b.get('mimetype'),
            index=b.get('index'),
            hmac=b.get('hmac'),
            erasure='erasure' in b,
        ),
        model.File,
    ),
    (
        'GET',
        '/buckets/([^/]+)/files/([^/]+)/info',
        lambda c, p, b, q: c.file_metadata(p[1], p[2]),
        model.File,
    ),
    (
        'GET',
        '/buckets/([^/]+)/files/([^/]+)/mirrors',
        lambda c, p, b, q: c.file_mirrors(p[1], p[2]),
        [model.FileMirrors],
    ),
    (
        'DELETE',
        '/buckets/([^/]+)/files/([^/]+)',
        lambda c, p, b, q: c.file_remove(p[1], p[2]),
        type(None),
    ),
    (
        'GET',
        '/buckets/([^/]+)/file-ids/([^/]+)',
        lambda c, p, b, q: c.file_id(p[1], p[2]),
        (str, type(None)),
    ),
    (
        'POST',
        '/buckets/([^/]+)/mirrors',
        lambda c, p, b, q: c.bucket_set_mirrors(p[1], b.get('file'), b.get('redundancy', 0)),
        model.Mirror,
    ),
    ('GET', '/frames', lambda c, p, b, q: list(c.frame_list()), [model.Frame]),
    ('POST', '/frames', lambda c, p, b, q: c.frame_create(), model.Frame),
    ('GET', '/frames/([^/]+)', lambda c, p, b, q: c.frame_get(p[1]), model.Frame),
    ('PUT', '/frames/([^/]+)', add_shard, dict),
    ('DELETE', '/frames/([^/]+)', lambda c, p, b, q: c.frame_delete(p[1]), type(None)),
    ('GET', '/keys', lambda c, p, b, q: c.key_list(), [str]),
    ('DELETE', '/keys/([^/]+)', lambda c, p, b, q: c.key_delete(p[1]), type(None)),
    (
        'GET',
        '/contacts',
        lambda c, p, b, q: c.contact_list(q.get('page', 1)),
        [model.Contact],
    ),
    ('GET', '/contacts/([^/]+)', lambda c, p, b, q: c.contact_lookup(p[1]), model.Contact),
    (
        'POST',
        '/reports/exchanges',
        lambda c, p, b, q: c.send_exchange_report(model.ExchangeReport(**b)),
        type(None),
    ),
    ('POST', '/users', lambda c, p, b, q: c.user_create(b['email'], b['password']), model.User),
    ('DELETE', '/users/([^/]+)', lambda c, p, b, q: c.user_delete(p[1]), model.User),
    (
        'PATCH',
        '/users/([^/]+)',
        lambda c, p, b, q: c.user_reset_password(p[1], b.get('password')),
        model.User,
    ),
    ('GET', '/activations/([^/]+)', lambda c, p, b, q: c.user_activate(p[1]), model.User),
    (
        'POST',
        '/activations',
        lambda c, p, b, q: c.user_activation_email(b['email']),
        model.User,
    ),
    ('GET', '/deactivations/([^/]+)', lambda c, p, b, q: c.user_deactivate(p[1]), model.User),
    (
        'GET',
        '/resets/([^/]+)',
        lambda c, p, b, q: c.user_reset_password_confirmation(p[1]),
        model.User,
    ),
]

#: Sections with traffic of other programs: to farmers, or with bodies cut short.
FOREIGN = re.compile('own traffic|own client|data channel|on the farmer', re.IGNORECASE)

BY_VERSION = {
    'bridge-2.2.4': {'info': {'version': '2.2.4', 'x-core-version': '5.1.2'}},
    'bridge-5.24.1': {'info': {'version': '5.24.1', 'x-core-version': '6.4.4'}},
}


def find(method: str, path: str) -> tuple[Call, Any, re.Match[str]] | None:
    for verb, pattern, call, kind in ROUTES:
        found = re.fullmatch(pattern, path)
        if verb == method and found:
            return call, kind, found
    return None


def cases() -> list[Any]:
    chosen = []
    for name in BY_VERSION:
        for number, exchange in enumerate(recording(name)):
            request, response = exchange['request'], exchange['response']
            path = request['path'].partition('?')[0]
            known = find(request['method'], path)
            # Texts that the recording shortened are no answers.
            whole = 'text' not in response or '\u2026' not in str(response['text'])
            ours = not FOREIGN.search(exchange.get('section', '') + exchange['title'])
            if known and whole and ours:
                chosen.append(
                    pytest.param(name, exchange, id=f'{name[7:]}-{number}-{exchange["title"]}')
                )
    return chosen


def answer_of(response: dict[str, Any]) -> Answer:
    headers = response.get('headers', {})
    if 'json' in response:
        return Answer(response['json'], response['status'], headers=headers)
    return Answer(
        status=response['status'], body=(response.get('text') or '').encode(), headers=headers
    )


def outcome(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return call(), None
    except Exception as error:
        return None, error


def is_kind(value: Any, kind: Any) -> bool:
    if isinstance(kind, list):
        return isinstance(value, list) and all(isinstance(each, kind[0]) for each in value)
    return isinstance(value, kind)


@pytest.mark.parametrize(('name', 'exchange'), cases())
def test_recorded_exchange_is_made_and_understood(name: str, exchange: dict[str, Any]) -> None:
    request, response = exchange['request'], exchange['response']
    path, _, query_text = request['path'].partition('?')
    query = {key: values[0] for key, values in parse_qs(query_text).items()}
    body = request.get('json') or {}
    known = find(request['method'], path)
    assert known
    call, kind, match = known
    client, replay = client_of([answer_of(response)], do_hashing=False, password=None)
    client._profile = http.api.BridgeProfile.from_info(BY_VERSION[name])
    status = response['status']

    value, error = outcome(lambda: call(client, match, body, query))
    if isinstance(error, ValueError | TypeError | KeyError):
        # What we refuse to send, the bridge refused or, without a name, made up.
        assert status >= 400 or 'no name' in exchange['title'] or 'not JSON' in exchange['title']
        assert not replay.requests
        return
    if error is not None and status < 400:
        # The listing that breaks off after its bracket.
        assert response['text'] == '['
        assert isinstance(error, exception.BridgeUnavailableError)
    elif error is not None:
        assert isinstance(error, exception.StorjBridgeApiError)
        assert error.code == status
        assert error.message == response['json']['error']
        assert str(error) == answer_of(response).body.decode()
    else:
        # Looking for a name that is not there is no error.
        assert status < 400 or value is None
        assert value is None or is_kind(value, kind)
    sent = replay.requests[0]
    assert sent.method == request['method']
    assert sent.path_url.partition('?')[0] == path
    if body and isinstance(request.get('json'), dict) and request['method'] != 'PATCH':
        ours = replay.bodies[0]
        # An empty list of exclusions is not sent, and no documented method gives a new bucket keys.
        wanted = {
            key: value
            for key, value in body.items()
            if not key.startswith('__') and value != [] and (path, key) != ('/buckets', 'pubkeys')
        }
        assert {key: ours.get(key) for key in wanted} == wanted


def test_most_of_the_recordings_are_played() -> None:
    assert len(cases()) > 150
