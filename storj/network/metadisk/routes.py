"""The node's JSON API: accounts and web-core, as in 2014 without their defects.

Kept: paths, statuses, names of errors, the form of JSON, charging by transfer. Changed, compatibly:
errors are JSON throughout, ranges are served and lengths sent, an announced size limit is
also enforced, and what ended in a crash (no usable name, no token, a malformed key) is refused with
a reason.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from storj.crypto.convergent import parse_key
from storj.digest import is_hash
from storj.network.bridge.quotas import MINUTE
from storj.network.bridge.state import BRIDGE
from storj.network.metadisk.catalog import StoredFile
from storj.network.metadisk.ledger import PRICES, InsufficientBalanceError, new_token
from storj.network.metadisk.names import clean_name, media_type
from storj.network.metadisk.node import NODE, NodeFullError, Settings
from storj.network.metadisk.spool import Spool
from storj.network.metadisk.storage import ShardsAt, StorageError
from storj.network.node.identity import is_node_id
from storj.network.node.wire import vary
from storj.sharding import MAX_SHARD_SIZE

logger = logging.getLogger(__name__)

_PIECE = 256 * 1024
_BODY_LIMIT = 64 * 1024
_TOKEN_LIMIT = 64
_PARTS_LIMIT = 16
# Seconds without a byte after which an upload is given up.
_STALL = 60.0
# Bytes a second that an upload must bring in the long run, to keep its place.
_SLOWEST = 1024
_CACHE_SECONDS = 43200
_AMOUNT = re.compile(r'\s*[+-]?\d{1,19}\s*')
_FILENAME = re.compile(r';\s*filename="((?:\\"|[^"])*)"', re.IGNORECASE)
_RANGE = re.compile(r'bytes=(\d{0,19})-(\d{0,19})')

# Whatever the bytes are, a browser must not show them as a page.
_INERT = {
    'Content-Security-Policy': "default-src 'none'; sandbox",
    'X-Content-Type-Options': 'nosniff',
}
_SHARD_HEADERS = {
    **_INERT,
    hdrs.CACHE_CONTROL: 'no-store',
    hdrs.CONTENT_TYPE: 'application/octet-stream',
}

_T = TypeVar('_T')

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Refusal(Exception):
    """What a handler says instead of its answer."""

    def __init__(
        self,
        status: int,
        name: str,
        *,
        field: str = 'error',
        reason: str | None = None,
        **headers: str,
    ) -> None:
        super().__init__(name)
        self.status = status
        self.answer = {field: name} | ({} if reason is None else {'reason': reason})
        self.headers = {name.replace('_', '-'): value for name, value in headers.items()}


def json_answer(
    request: web.Request,
    answer: Mapping[str, Any],
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Answer in JSON: sorted and indented to be read, compact for scripts of a page."""
    if request.headers.get('X-Requested-With') == 'XMLHttpRequest':
        text = json.dumps(answer, sort_keys=True, separators=(',', ':'))
    else:
        text = json.dumps(answer, sort_keys=True, indent=2)
    body = text.encode('utf-8')
    # Without a charset: RFC 8259 knows none, and the nodes of 2014 sent none.
    response = web.Response(
        body=body, status=status, headers=headers, content_type='application/json'
    )
    vary(response, 'X-Requested-With')
    return response


class Routes:
    """Handlers of the node that an application has under :data:`NODE`."""

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.requests_per_minute

    def table(self) -> list[web.RouteDef]:
        """Return the routes, for an application's router."""
        routes: list[tuple[Callable[..., web.RouteDef], str, Handler]] = [
            (web.post, '/accounts/token/new', self.token_new),
            (web.get, '/accounts/token/prices', self.prices),
            (web.get, '/accounts/token/balance/{token}', self.balance),
            (web.post, '/accounts/token/redeem/{token}', self.redeem),
            (web.post, '/accounts/token/deposit/{token}', self.deposit),
            (web.post, '/accounts/token/withdraw/{token}', self.withdraw),
            (web.post, '/accounts/coinbase/success/{api_key}/{bytes}', self.coinbase),
            (web.post, '/api/upload', self.upload),
            (web.get, '/api/download/{filehash}', self.download),
            (web.get, '/api/find/{filehash}', self.find),
            (web.get, '/api/shards/{hash}', self.shard),
            (web.get, '/api/status', self.status),
            (web.get, '/api/node', self.node),
        ]
        return [make(path, self._guarded(handler)) for make, path, handler in routes]

    def _guarded(self, handler: Handler) -> Handler:
        """Limit a handler's rate and turn what it refuses into an answer."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if request.method == hdrs.METH_POST and _is_foreign(request):
                return json_answer(request, {'error': 'foreign-origin'}, 403)
            key = ('metadisk', request.remote or '')
            for count in await request.app[BRIDGE].counters.count(MINUTE, key):
                if count.used > self._limit:
                    wait = max(1, math.ceil((count.ends - request.app[BRIDGE].now()) / 1000))
                    answer = {'error': 'too-many-requests'}
                    return json_answer(request, answer, 429, {'Retry-After': str(wait)})
            try:
                return await handler(request)
            except _Refusal as refusal:
                return json_answer(request, refusal.answer, refusal.status, refusal.headers)
            except InsufficientBalanceError:
                return json_answer(request, {'error': 'balance-insufficient'}, 402)

        return guarded

    # -- accounts ------------------------------------------------------------------------------

    async def token_new(self, request: web.Request) -> web.Response:
        """``POST /accounts/token/new``."""
        return json_answer(request, {'token': new_token()})

    async def prices(self, request: web.Request) -> web.Response:
        """``GET /accounts/token/prices``."""
        prices = [vars(row) for row in PRICES]
        return json_answer(request, {'prices': prices})

    async def balance(self, request: web.Request) -> web.Response:
        """``GET /accounts/token/balance/{token}``."""
        balance = await request.app[NODE].ledger.balance(request.match_info['token'])
        return json_answer(request, {'balance': balance})

    async def redeem(self, request: web.Request) -> web.Response:
        """``POST /accounts/token/redeem/{token}``."""
        body = await _json_body(request)
        token = request.match_info['token']
        if not await request.app[NODE].ledger.redeem(token, body.get('promocode')):
            raise _Refusal(403, 'error', field='status')
        return json_answer(request, {'status': 'ok'}, 201)

    async def deposit(self, request: web.Request) -> web.Response:
        """``POST /accounts/token/deposit/{token}``."""
        self._authenticate(request, request.headers.get('Authentication', ''))
        amount = _amount((await _json_body(request)).get('bytes'))
        await self._credit(request, request.match_info['token'], amount, 'deposit')
        return json_answer(request, {'status': 'ok'})

    async def withdraw(self, request: web.Request) -> web.Response:
        """``POST /accounts/token/withdraw/{token}``."""
        self._authenticate(request, request.headers.get('Authentication', ''))
        amount = _amount((await _json_body(request)).get('bytes'))
        await request.app[NODE].ledger.withdraw(request.match_info['token'], amount)
        return json_answer(request, {'status': 'ok'})

    async def coinbase(self, request: web.Request) -> web.Response:
        """``POST /accounts/coinbase/success/{api_key}/{bytes}``: a payment has arrived."""
        self._authenticate(request, request.match_info['api_key'])
        order = (await _json_body(request)).get('order')
        token = order.get('custom') if isinstance(order, dict) else None
        if not isinstance(token, str):
            raise _Refusal(400, 'bad-request', field='status')
        await self._credit(request, token, _amount(request.match_info['bytes']), 'coinbase')
        return json_answer(request, {'status': 'ok'})

    def _authenticate(self, request: web.Request, key: str) -> None:
        known = request.app[NODE].api_key.encode()
        if not hmac.compare_digest(key.encode('utf-8', 'replace'), known):
            raise _Refusal(401, 'invalid-authentication', field='status')

    async def _credit(self, request: web.Request, token: str, amount: int, reason: str) -> None:
        try:
            await request.app[NODE].ledger.deposit(token, amount, reason)
        except ValueError as error:
            raise _Refusal(400, 'bad-request', field='status') from error

    # -- web-core ------------------------------------------------------------------------------

    async def upload(self, request: web.Request) -> web.Response:
        """``POST /api/upload``."""
        limit = request.app[NODE].settings.max_file_size
        length = request.content_length
        if length is not None and length > limit + _BODY_LIMIT:
            # The body is not read; the client may see a broken connection instead of this.
            raise _Refusal(413, 'file-too-large', Connection='close')
        async with request.app[NODE].spool(request.remote or '') as spool:
            try:
                name, token = await self._take_in(request, spool)
                filehash, key = await request.app[NODE].store(spool, name, token)
            except ConnectionError:
                # An OSError too, but of the client's making.
                raise
            except (StorageError, NodeFullError, OSError) as error:
                logger.warning('upload not stored: %r', error)
                full = not isinstance(error, StorageError) or getattr(error, 'status', 0) == 507
                reason = 'node-full' if full else 'farmers-failed'
                raise _Refusal(507 if full else 500, 'upload-error', reason=reason) from error
        return json_answer(request, {'filehash': filehash, 'key': key}, 201)

    async def _take_in(self, request: web.Request, spool: Spool) -> tuple[str, str | None]:
        """Read the form; return the file's name and the token."""
        if not request.content_type.startswith('multipart/'):
            raise _Refusal(400, 'bad-request')
        name: str | None = None
        token: str | None = None
        try:
            parts = await request.multipart()
            for _ in range(_PARTS_LIMIT):
                part = await _in_time(parts.next())
                if part is None:
                    break
                if not isinstance(part, BodyPartReader):
                    raise _Refusal(400, 'bad-request')
                if part.name == 'file' and name is None:
                    name = _filename(part)
                    await self._take_file(part, spool, request.app[NODE].settings.max_file_size)
                elif part.name == 'token' and token is None:
                    token = await _take_token(part)
                elif await _in_time(_has_more_than_one_piece(part)):
                    raise _Refusal(400, 'bad-request')
        except (HttpProcessingError, ValueError, RuntimeError, AssertionError, KeyError) as error:
            # What the framework's parser raises for a form that is none.
            raise _Refusal(400, 'bad-request') from error
        if not name:
            raise _Refusal(400, 'bad-request')
        return name, token

    async def _take_file(self, part: BodyPartReader, spool: Spool, limit: int) -> None:
        begun = time.monotonic()
        while piece := await _in_time(part.read_chunk(_PIECE)):
            if time.monotonic() - begun > _STALL + spool.size / _SLOWEST:
                raise _Refusal(408, 'request-timeout', Connection='close')
            if spool.size + len(piece) > limit:
                raise _Refusal(413, 'file-too-large', Connection='close')
            await asyncio.to_thread(spool.write, piece)

    async def download(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/download/{filehash}``."""
        file = await request.app[NODE].catalog.find(request.match_info['filehash'])
        if file is None:
            raise _Refusal(404, 'file-not-found')
        key = _key(request)
        if key is None and _is_unchanged(request, file):
            headers = _file_headers(file, False)
            kept = (hdrs.CACHE_CONTROL, hdrs.ETAG, hdrs.LAST_MODIFIED)
            return web.Response(status=304, headers={name: headers[name] for name in kept})
        start, end, partial = _range(request, file)
        response = web.StreamResponse(
            status=206 if partial else 200, headers=_file_headers(file, key is not None)
        )
        if partial:
            response.headers[hdrs.CONTENT_RANGE] = f'bytes {start}-{end - 1}/{file.size}'
        response.content_length = end - start
        if request.method == hdrs.METH_HEAD:
            # Nothing is fetched for it, so nothing is charged.
            await response.prepare(request)
            return response
        token = request.query.get('token')
        try:
            async with request.app[NODE].read(file, start, end, key=key, token=token) as pieces:
                # The first shard is proved before a status is sent.
                first = await anext(pieces, None)
                await response.prepare(request)
                if first is not None:
                    await response.write(first)
                    async for piece in pieces:
                        await response.write(piece)
        except StorageError as error:
            logger.warning('download of %s failed: %r', file.filehash, error)
            _break_off(request, response, _Refusal(500, 'error-downloading-file'))
        return response

    async def shard(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/shards/{hash}?farmer=&size=``: bring a shard from a farmer to the page.

        The page may call nobody but its node, and a page of https no farmer, which speaks http.
        The farmer's token is in the header ``x-token``, where no log has it.
        """
        hash_, farmer = request.match_info['hash'], request.query.get('farmer')
        token, size = request.headers.get('x-token', ''), _shard_size(request)
        if not is_node_id(farmer) or not is_hash(hash_) or not 0 < len(token) <= _TOKEN_LIMIT:
            raise _Refusal(400, 'bad-request')
        response = web.StreamResponse(headers=_SHARD_HEADERS)
        response.content_length = size
        if request.method == hdrs.METH_HEAD:
            await response.prepare(request)
            return response

        async def send(piece: bytes) -> None:
            # The farmer has accepted the token before a status is sent.
            if not response.prepared:
                await response.prepare(request)
            await response.write(piece)

        try:
            await request.app[NODE].relay(farmer, hash_, token, size, send)
        except StorageError as error:
            logger.warning('shard not relayed: %s', error)
            _break_off(request, response, _Refusal(502, 'error-downloading-shard'))
        return response

    async def find(self, request: web.Request) -> web.Response:
        """``GET /api/find/{filehash}``."""
        file = await request.app[NODE].catalog.find(request.match_info['filehash'])
        if file is None:
            raise _Refusal(404, 'File not found')
        try:
            shards, places = await request.app[NODE].places(file)
        except StorageError as error:
            logger.warning('where %s lies is not known: %r', file.filehash, error)
            raise _Refusal(500, 'error-finding-file') from error
        record = {
            'datetime': str(file.stored),
            'filehash': file.filehash,
            'filename': file.name,
            'filesize': file.size,
            # In 2014 a host had the whole file; `shards` says what of it a farmer has.
            'shards': shards,
            'uploads': [_upload(place) for place in places],
            'version': '0.2',
        }
        return json_answer(request, record)

    async def status(self, request: web.Request) -> web.Response:
        """``GET /api/status``."""
        return json_answer(request, await request.app[NODE].status())

    async def node(self, request: web.Request) -> web.Response:
        """``GET /api/node``, for the page: what the nodes of 2014 told nobody."""
        return json_answer(request, {'charging': request.app[NODE].settings.charge})


def _break_off(request: web.Request, response: web.StreamResponse, refusal: _Refusal) -> None:
    """Refuse a download that has failed; once its status is out, only a cut can tell the client."""
    if not response.prepared:
        raise refusal
    if request.transport is not None:
        request.transport.abort()


def _shard_size(request: web.Request) -> int:
    size = request.query.get('size', '')
    if not re.fullmatch('[1-9][0-9]{0,9}', size) or int(size) > MAX_SHARD_SIZE:
        raise _Refusal(400, 'bad-request')
    return int(size)


def _upload(place: ShardsAt) -> dict[str, Any]:
    """Describe a farmer as the nodes of 2014 did a host; one that failed has no address."""
    state = {'error': True} if place.failed else {'url': place.url}
    return {'host_name': place.node_id, **state, 'shards': place.shards}


def _is_foreign(request: web.Request) -> bool:
    """Return whether a page of another site asks: browsers say so, and programs say nothing.

    Without this any page could fill the disk of a node on its visitor's machine.
    """
    origin = request.headers.get(hdrs.ORIGIN)
    # A proxy may keep the host to itself that the browser asked for.
    own = (request.host, urlsplit(request.app[BRIDGE].settings.public_url).netloc)
    return origin is not None and origin.partition('://')[2] not in own


async def _in_time(reading: Awaitable[_T]) -> _T:
    """Wait for what a client sends next; one that stands still must not keep its place."""
    try:
        return await asyncio.wait_for(reading, _STALL)
    except asyncio.TimeoutError as error:
        raise _Refusal(408, 'request-timeout', Connection='close') from error


async def _json_body(request: web.Request) -> dict[str, Any]:
    """Return the fields of a JSON body; nothing for a body of another type."""
    if request.content_type != 'application/json':
        return {}
    body = b''
    while not request.content.at_eof() and len(body) <= _BODY_LIMIT:
        body += await _in_time(request.content.read(_BODY_LIMIT + 1))
    if len(body) > _BODY_LIMIT:
        raise _Refusal(413, 'bad-request', field='status', Connection='close')
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _Refusal(400, 'bad-request', field='status') from error
    if not isinstance(fields, dict):
        raise _Refusal(400, 'bad-request', field='status')
    return fields


def _amount(value: object) -> int:
    """Return bytes from a number or the digits of one; fractions are cut off."""
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError('not a number')
        if isinstance(value, str) and not _AMOUNT.fullmatch(value):
            raise ValueError('not the digits of one')
        amount = int(value)
        if amount < 0:
            raise ValueError('an amount is not negative')
    except (ValueError, OverflowError) as error:
        raise _Refusal(400, 'bad-request', field='status') from error
    return amount


def _filename(part: BodyPartReader) -> str | None:
    """Return the name that a client gave its file, with the backslashes of a Windows path."""
    match = _FILENAME.search(part.headers.get(hdrs.CONTENT_DISPOSITION, ''))
    # The framework reads every backslash as an escape; browsers escape the quotation mark at most.
    return match.group(1).replace('\\"', '"') if match else part.filename


async def _has_more_than_one_piece(part: BodyPartReader) -> bool:
    return bool(await part.read_chunk(_BODY_LIMIT) and await part.read_chunk(_BODY_LIMIT))


async def _take_token(part: BodyPartReader) -> str:
    text = bytes(await _in_time(part.read_chunk(_BODY_LIMIT))).decode('utf-8', 'replace')
    if len(text) > _TOKEN_LIMIT:
        raise _Refusal(400, 'bad-request')
    return text


def _key(request: web.Request) -> bytes | None:
    text = request.query.get('key')
    if text is None:
        return None
    try:
        return parse_key(text)
    except ValueError as error:
        raise _Refusal(400, 'bad-key') from error


def _range(request: web.Request, file: StoredFile) -> tuple[int, int, bool]:
    """Return the first byte, the one after the last, and whether a part was asked for.

    What is no single range of bytes is ignored, as RFC 9110 (section 14.2) allows.
    """
    match = _RANGE.fullmatch(request.headers.get(hdrs.RANGE, ''))
    condition = request.headers.get(hdrs.IF_RANGE)
    whole = (0, file.size, False)
    if match is None or match.groups() == ('', '') or condition not in (None, _etag(file)):
        return whole
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1 if last else file.size, file.size)
        if last and int(last) < int(first):
            return whole
    else:
        start, end = max(0, file.size - int(last)), file.size
    if start >= end:
        raise _Refusal(416, 'range-not-satisfiable', Content_Range=f'bytes */{file.size}')
    return start, end, True


def _is_unchanged(request: web.Request, file: StoredFile) -> bool:
    """Return whether the client has this very file already (RFC 9110, section 13.1)."""
    known = request.if_none_match
    if known is not None:
        # Content never changes under its hash, so a weak tag is as good.
        return any(tag.value in ('*', file.filehash) for tag in known)
    since = request.if_modified_since
    return since is not None and file.stored <= since.timestamp()


def _etag(file: StoredFile) -> str:
    return f'"{file.filehash}"'


def _disposition(name: str) -> str:
    """Return the header that names the download, beyond ASCII as RFC 6266 has it."""
    plain = clean_name(name)
    header = f'attachment; filename={plain}'
    return header if plain == name else f"{header}; filename*=UTF-8''{quote(name, safe='')}"


def _file_headers(file: StoredFile, decrypted: bool) -> dict[str, str]:
    headers = {
        hdrs.ACCEPT_RANGES: 'bytes',
        hdrs.CONTENT_DISPOSITION: _disposition(file.name),
        **_INERT,
    }
    if decrypted:
        # The address holds the key, so no cache may keep it.
        return {
            **headers,
            hdrs.CACHE_CONTROL: 'no-store',
            hdrs.CONTENT_TYPE: 'application/octet-stream',
        }
    return {
        **headers,
        hdrs.CACHE_CONTROL: f'public, max-age={_CACHE_SECONDS}',
        hdrs.CONTENT_TYPE: media_type(file.name),
        hdrs.ETAG: _etag(file),
        hdrs.LAST_MODIFIED: formatdate(file.stored, usegmt=True),
    }
