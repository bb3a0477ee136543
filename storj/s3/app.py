"""The web application of the gateway: from a request to the call that answers it."""

from __future__ import annotations

import datetime
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from aiohttp import web

from storj.exception import ResourceError, StorjError
from storj.s3 import buckets, conditions, multipart, objects
from storj.s3.call import Call
from storj.s3.errors import S3Error
from storj.s3.store import Store
from storj.system.shortage import shortage

_log = logging.getLogger(__name__)

Answer = Callable[[Store, Call], Awaitable[web.StreamResponse]]

#: Parameters that name a part of a bucket or an object, and what answers them by method.
_OF_BUCKET: Final[Mapping[str, Mapping[str, Answer]]] = {
    'location': {'GET': buckets.location},
    'versioning': {'GET': buckets.versioning},
    'versions': {'GET': buckets.list_versions},
    'uploads': {'GET': multipart.list_uploads},
    'delete': {'POST': buckets.delete_objects},
    'acl': {'GET': objects.acl},
}
_OF_OBJECT: Final[Mapping[str, Mapping[str, Answer]]] = {
    'uploadId': {
        'GET': multipart.list_parts,
        'PUT': multipart.put_part,
        'POST': multipart.complete,
        'DELETE': multipart.abort,
    },
    'uploads': {'POST': multipart.create},
    'tagging': {'GET': objects.get_tags, 'PUT': objects.put_tags, 'DELETE': objects.delete_tags},
    'attributes': {'GET': objects.attributes},
    'acl': {'GET': objects.acl},
}
_BUCKET: Final[Mapping[str, Answer]] = {
    'GET': buckets.list_objects,
    'HEAD': buckets.head,
    'PUT': buckets.create,
    'DELETE': buckets.delete,
}
_OBJECT: Final[Mapping[str, Answer]] = {
    'GET': objects.get,
    'HEAD': objects.get,
    'PUT': objects.put,
    'DELETE': objects.delete,
}
_SHORT: Final = 'The gateway has no space, memory or open files left; try again later.'
#: Parameters of plain calls that may be empty, beside those whose names begin so.
_PLAIN: Final = frozenset(
    {'prefix', 'delimiter', 'marker', 'max-keys', 'max-buckets', 'encoding-type', 'list-type'}
    | {'continuation-token', 'start-after', 'fetch-owner', 'bucket-region', 'versionId'}
)
_PLAIN_PREFIXES: Final = ('x-', 'response-')


def _names_a_part(name: str, value: str) -> bool:
    """Return whether a parameter names a part of a bucket or an object, as ``?policy`` does.

    S3 gets new ones (``?renameObject``), so their form tells: they have no value. Without them the
    call would be another one, and might replace or remove what it only names.
    """
    return not value and name not in _PLAIN and not name.lower().startswith(_PLAIN_PREFIXES)


def _answer_for(call: Call) -> Answer:
    """Return what answers a call.

    Raises:
        S3Error: If nothing does.
    """
    if not call.bucket:
        table: Mapping[str, Answer] = {'GET': buckets.list_buckets}
    else:
        parts = _OF_OBJECT if call.key else _OF_BUCKET
        table = _OBJECT if call.key else _BUCKET
        named = next((name for name in parts if name in call.query), None)
        if named is not None:
            table = parts[named]
        elif any(_names_a_part(*each) for each in call.query.items()):
            raise S3Error('NotImplemented')
        elif call.key and call.method == 'PUT' and 'x-amz-copy-source' in call.headers:
            return objects.copy
        elif call.method == 'POST':
            raise S3Error('NotImplemented', 'Uploads by forms are not implemented.')
        if named is not None and call.method not in table:
            raise S3Error('NotImplemented')
    if call.query.get('versionId', 'null') not in ('', 'null'):
        raise S3Error('InvalidArgument', 'Invalid version id specified')
    if call.method not in table:
        raise S3Error('MethodNotAllowed')
    return table[call.method]


def _failure(call: Call, error: Exception) -> S3Error:
    """Log what no call of S3 expects, and return what the client is told."""
    short = shortage(error) if isinstance(error, (OSError, MemoryError)) else None
    if short is not None or isinstance(error, ResourceError):
        _log.error('%s %s failed: %s', call.id, call.method, short or error)
        return S3Error('ServiceUnavailable', _SHORT)
    if isinstance(error, StorjError):
        _log.warning('%s %s failed: %s', call.id, call.method, error)
    else:
        _log.error('%s %s failed', call.id, call.method, exc_info=error)
    return S3Error('InternalError')


async def _later(request: web.Request) -> None:
    """Leave it to the answer to ask for the body, once the signature was checked."""


def application(
    store: Store, secret_of: Callable[[str], str | None], domains: Sequence[str] = ()
) -> web.Application:
    """Return the application.

    Args:
        store (Store): of the account.
        secret_of (Callable): returns the secret key of an access key, None if there is none.
        domains (Sequence[str]): below which a host names a bucket.
    """

    async def serve(request: web.Request) -> web.StreamResponse:
        request_id = secrets.token_hex(8).upper()
        call = Call(request, '', '', {}, request_id)
        waits = request.headers.get('Expect', '').lower() == '100-continue'
        try:
            call = Call.read(request, request_id, domains)
            if request.method == 'OPTIONS':
                raise S3Error('AccessForbidden' if 'Origin' in request.headers else 'BadRequest')
            call.authenticate(secret_of, datetime.datetime.now(datetime.timezone.utc))
            answer = _answer_for(call)
            conditions.refuse_unkept(call.headers)
            if waits:
                # Only now: who is refused sends no body in vain.
                await request.writer.write(b'HTTP/1.1 100 Continue\r\n\r\n')
                request.writer.output_size = 0
                waits = False
            response = await answer(store, call)
        except S3Error as error:
            _log.debug('%s %s: %s', request_id, request.method, error.code)
            response = call.failed(error)
        except ConnectionError as error:
            # The client has gone, as players do that seek: nobody hears an answer.
            _log.debug('%s %s: the client has gone: %s', request_id, request.method, error)
            return web.Response(status=400)
        except Exception as error:
            response = call.failed(_failure(call, error))
        if waits:
            # The body will not come, so the next request would be taken for it.
            response.force_close()
        if not response.prepared:
            response.headers['x-amz-request-id'] = request_id
        return response

    app = web.Application(client_max_size=2**62)
    app.router.add_route('*', r'/{path:[\s\S]*}', serve, expect_handler=_later)
    return app
