"""The bridge as an aiohttp application: its routes, its middlewares, its start and stop."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from functools import partial
from urllib.parse import urlsplit

from aiohttp import web
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from storj.network.bridge import (
    auth,
    buckets,
    contacts,
    files,
    frames,
    listing,
    reports,
    status,
    users,
)
from storj.network.bridge.database import Database, is_away, reason_of
from storj.network.bridge.passwords import Passwords
from storj.network.bridge.renter import RenterNode
from storj.network.bridge.state import BRIDGE, Bridge, BridgeSettings
from storj.network.bridge.tables import Contact
from storj.network.bridge.totals import Totals
from storj.network.bridge.upkeep.leases import release_rounds
from storj.network.bridge.upkeep.repairs import REPAIRS, Repairs
from storj.network.bridge.upkeep.rounds import start_upkeep
from storj.network.node import health
from storj.network.node.group_sync import SYNCS, durable_answers
from storj.network.node.logs import name_answer, named_requests
from storj.network.node.pages import error_pages
from storj.network.node.proxies import behind_proxies, parse_proxies, trusted
from storj.network.node.rpc import NONCE_WINDOW
from storj.network.node.space import is_full
from storj.network.node.tasks import Tasks
from storj.network.node.wire import BODY_LIMIT, Handler, Refusal, Route, answer, is_broken_off, vary
from storj.sharding import LARGEST_SHARD_SIZE
from storj.system.hosts import is_loopback

logger = logging.getLogger(__name__)

#: Bytes of a request's first line and of a header field, for the ``AppRunner``: a file name of
#: 32767 characters, percent-encoded, stands in the path.
HEAD_LIMIT = 256 * 1024

_SECURITY_HEADERS = {
    'Cache-Control': 'no-store',
    'Content-Security-Policy': "default-src 'none'",
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
}
# Not the versions of Python and aiohttp, which aiohttp has put there.
_SERVER = 'storj-bridge'
#: Requests that confirm nothing by themselves: the entry that follows them does.
_STEPS = frozenset(
    {
        ('POST', '/frames'),
        ('PUT', '/frames/{frame}'),
        ('POST', '/buckets/{bucket}/tokens'),
        ('POST', '/contacts/challenges'),
        ('PATCH', '/contacts/{node}'),
        ('POST', '/reports/exchanges'),
        ('POST', '/contacts/{node}/reports'),
    }
)
_SERVER_TIME = text('SELECT extract(epoch FROM clock_timestamp())')
#: The bridge's work in the background.
TASKS: web.AppKey[Tasks] = web.AppKey('tasks', Tasks)
#: Requests for more to store, which a full disk does not take.
_STORING = frozenset(
    {
        ('POST', '/frames'),
        ('PUT', '/frames/{frame}'),
        ('POST', '/buckets'),
        ('POST', '/buckets/{bucket}/files'),
        ('POST', '/users'),
    }
)
#: What supervisors and proxies ask for: not counted, for the rows of the counts may be away.
_WATCHED = frozenset({'/health', '/ready'})
#: Seconds after which a client asks again when the database does not answer.
_AWAY = '1'
_NO_SPACE = 'No space left at the bridge'
_METHODS = 'GET,HEAD,PUT,PATCH,POST,DELETE'
_READABLE = 'Retry-After,X-Request-Id,X-RateLimit-Limit,X-RateLimit-Remaining,X-RateLimit-Reset'
#: What the framework answers by itself, with the bridge's texts (protocol reference, section 2.5).
_FRAMEWORK_TEXTS = {404: 'Resource not found', 413: 'Request entity too large'}


async def get_description(request: web.Request) -> web.Response:
    """Describe the service, in Swagger 2.0."""
    bridge = request.app[BRIDGE]
    url = urlsplit(bridge.settings.public_url)
    paths: dict[str, dict[str, object]] = {}
    for route in routes(bridge.settings):
        summary = (route.handler.__doc__ or '').partition('\n')[0]
        paths.setdefault(route.path, {})[route.method.lower()] = {'summary': summary}
    return answer(
        {
            'swagger': '2.0',
            'info': {
                'title': 'Storj Bridge',
                'version': bridge.release.version,
                'description': 'Access the Storj network using a simple REST API.',
                'x-protocol-version': bridge.release.protocol,
                'x-core-version': bridge.release.core,
                'x-max-shard-size': LARGEST_SHARD_SIZE,
                # Of successes the farmers report, whose word counts.
                'x-client-reports': 'failures',
            },
            'host': url.hostname or '127.0.0.1',
            'basePath': '/',
            'schemes': [url.scheme],
            'consumes': ['application/json'],
            'produces': ['application/json'],
            'securityDefinitions': {'basic': {'type': 'basic'}},
            'paths': paths,
        }
    )


async def get_health(request: web.Request) -> web.Response:
    """Report that the bridge is alive, and what does not work; ``OK`` if all does."""
    problems = await request.app[health.HEALTH].problems()
    # Whoever watches the process must not start it again because its database is away.
    response = health.answer_health(problems, failing=200)
    if not problems and 'json' not in request.headers.get('accept', ''):
        # As the originals said it.
        response = web.Response(text='OK')
    vary(response, 'Accept')
    return response


async def get_ready(request: web.Request) -> web.Response:
    """Report whether requests should come here: 503 with the reasons if they should not."""
    problems = await request.app[health.HEALTH].problems()
    return health.answer_health(problem for problem in problems if problem.serious)


def _farmers(bridge: Bridge) -> list[health.Problem]:
    """Return whether there are farmers for new shards."""
    there = select(Contact.space_available).where(
        Contact.lost.is_(False), contacts.not_lately_timed_out(bridge.now())
    )
    with bridge.database.begin_plain() as connection:
        accepting = connection.scalars(there).all()
    if not accepting:
        return [health.Problem('no farmer is there')]
    return [] if any(accepting) else [health.Problem('no farmer takes shards')]


def _clock(bridge: Bridge) -> list[health.Problem]:
    """Return whether the clock differs from that of a server of PostgreSQL.

    Farmers decide which of the two is wrong, because they refuse the calls of a bridge whose time
    is not theirs: if most of them have the server's, requests should go to other bridges.
    """
    if bridge.database.engine.dialect.name != 'postgresql':
        return []
    with bridge.database.begin_plain() as connection:
        ahead = bridge.clock() - float(connection.scalar(_SERVER_TIME) or 0)
        farmers = connection.scalar(select(func.count()).where(Contact.lost.is_(False))) or 0
    if abs(ahead) <= NONCE_WINDOW:
        return []
    agree = sum(abs(ahead + skew) <= NONCE_WINDOW for skew in list(bridge.clock_skews.values()))
    return [
        health.Problem(
            'the clock is not that of the database',
            # Rounded, so that it is not logged anew for each second.
            f'it is {round(abs(ahead), -1):.0f} s {"ahead" if ahead > 0 else "behind"}',
            serious=2 * agree > farmers,
        )
    ]


async def _leave(bridge: Bridge, repairs: Repairs) -> None:
    """Write down what only this bridge knows, and leave its work to others, as it stops."""
    try:
        await contacts.write_calls(bridge)
        await release_rounds(bridge)
        await repairs.release()
    except SQLAlchemyError as error:
        # Nothing depends on it: rounds are left by themselves, and farmers are asked again.
        logger.warning('the database takes nothing when the bridge stops: %s', reason_of(error))


def routes(settings: BridgeSettings) -> Iterable[Route]:
    """Return the routes of a bridge."""
    yield Route('GET', '/', get_description)
    yield Route('GET', '/health', get_health)
    yield Route('GET', '/ready', get_ready)
    for module in (auth, buckets, contacts, files, frames, listing, reports, users):
        yield from module.ROUTES
    if settings.status:
        yield from status.ROUTES


def _pattern(request: web.Request) -> str:
    """Return the pattern of the route that a request goes to; empty if there is none."""
    resource = request.match_info.route.resource
    return '' if resource is None else resource.canonical


def _require_space(bridge: Bridge) -> None:
    if not bridge.reserve.has_space():
        raise Refusal(507, _NO_SPACE)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever goes wrong into ``{"error": text}`` with its status."""
    try:
        # No database keeps the character NUL, and no name has it.
        if '%00' in request.raw_path:
            raise Refusal(400, 'URL is malformed')
        if request.headers.get('content-encoding', 'identity').strip().lower() != 'identity':
            # What is small on the wire may be large once it is inflated.
            raise Refusal(415, 'Unsupported content encoding')
        if (request.method, _pattern(request).rstrip('/')) in _STORING:
            _require_space(request.app[BRIDGE])
        return await handler(request)
    except Refusal as refusal:
        response = answer({'error': refusal.text}, refusal.status)
        response.headers.update(refusal.headers)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = answer({'error': _FRAMEWORK_TEXTS.get(error.status, error.reason)}, error.status)
        if 'Allow' in error.headers:
            response.headers['Allow'] = error.headers['Allow']
    except Exception as error:
        if is_broken_off(request, error):
            logger.debug('a client went away in the middle of %s', _pattern(request))
            return web.Response(status=400)
        if is_full(error):
            request.app[BRIDGE].reserve.has_space()
            return answer({'error': _NO_SPACE}, 507)
        if is_away(error):
            reason = reason_of(error)
            logger.warning('%s %s: the database: %s', request.method, _pattern(request), reason)
            away = answer({'error': 'The database does not answer'}, 503)
            away.headers['Retry-After'] = _AWAY
            return away
        # The pattern, not the path: that may hold the secret of a mailed link.
        logger.exception('%s %s failed', request.method, _pattern(request))
        response = answer({'error': 'Internal error'}, 500)
    return response


@web.middleware
async def _preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer preflight requests.

    Any page may call the bridge with credentials of its own making, as the original allows, but
    not with those that a browser remembers: no ``Access-Control-Allow-Credentials`` is sent.
    """
    origin = request.headers.get('origin')
    if request.method == 'OPTIONS':
        response: web.StreamResponse = web.Response(status=204)
        if origin:
            response.headers['Access-Control-Allow-Methods'] = _METHODS
            asked = request.headers.get('access-control-request-headers')
            if asked:
                response.headers['Access-Control-Allow-Headers'] = asked
    else:
        response = await handler(request)
    return response


async def _set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Complete an answer's headers before they are sent, a streamed answer's too."""
    for name, value in _SECURITY_HEADERS.items():
        # Pages that are served beside the bridge have rules of their own.
        response.headers.setdefault(name, value)
    response.headers['Server'] = _SERVER
    origin = request.headers.get('origin')
    if origin:
        response.headers['Access-Control-Allow-Origin'] = origin
        response.headers['Access-Control-Expose-Headers'] = _READABLE
    # The answer to a request without the header is another one, too.
    vary(response, 'Origin')


def _addressed(hosts: Collection[str]) -> Callable[..., object]:
    known = {host.lower() for host in hosts}

    @web.middleware
    async def addressed(request: web.Request, handler: Handler) -> web.StreamResponse:
        # Browsers always say whom they mean; HTTP/1.0 need not.
        host = _host_name(request.host if 'Host' in request.headers else 'localhost')
        if host not in known and not is_loopback(host):
            raise Refusal(403, 'The bridge is not known by this host name')
        return await handler(request)

    return addressed


def _host_name(authority: str) -> str:
    try:
        return (urlsplit(f'//{authority}').hostname or '').rstrip('.')
    except ValueError:
        return ''


@web.middleware
async def _limited(request: web.Request, handler: Handler) -> web.StreamResponse:
    if _pattern(request).rstrip('/') in _WATCHED:
        return await handler(request)
    rates = request.app[BRIDGE].rates
    headers = await rates.count(request.remote or '', _pattern(request), request.method)
    try:
        response = await handler(request)
    except Refusal as refusal:
        refusal.headers.update(headers)
        raise
    response.headers.update(headers)
    return response


def create_app(
    settings: BridgeSettings,
    renter: RenterNode,
    *,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    make_passwords: Callable[[], Passwords] = Passwords,
) -> web.Application:
    """Make a bridge.

    Give the ``AppRunner`` ``max_line_size`` and ``max_field_size`` of :data:`HEAD_LIMIT`.

    Args:
        settings (BridgeSettings): what it is started with.
        renter (RenterNode): its way to the farmers; closed by its creator.
        clock (Callable[[], float]): seconds since 1970.
        monotonic (Callable[[], float]): monotonic seconds.
        make_passwords (Callable[[], Passwords]): how passwords are hashed; slowly by default.

    Returns:
        web.Application: opens its database when it starts, and owns its background work.
    """
    middlewares: list[Callable[..., object]] = [
        error_pages,
        _preflight,
        _errors,
        durable_answers(_STEPS),
    ]
    proxies = parse_proxies(settings.trusted_proxies)
    if proxies:
        middlewares.insert(0, behind_proxies(proxies))
    # Before the address of the client stands for that of the proxy.
    middlewares.insert(0, named_requests(trusted(proxies)))
    if settings.hosts is not None:
        middlewares.append(_addressed(settings.hosts))
    if settings.rate_limits:
        middlewares.append(_limited)
    app = web.Application(middlewares=middlewares, client_max_size=BODY_LIMIT)  # type: ignore[arg-type]

    app[SYNCS] = []
    checks = app[health.HEALTH] = health.Health()

    async def life(app: web.Application) -> AsyncIterator[None]:
        database = Database(
            settings.database_url,
            durable=settings.durable,
            migrate=settings.migrate,
            connections=settings.connections,
        )
        app[SYNCS].append(database.synced)
        passwords = make_passwords()
        bridge = Bridge(
            settings=settings,
            renter=renter,
            database=database,
            passwords=passwords,
            mail=settings.new_mail(),
            clock=clock,
            monotonic=monotonic,
        )
        repairs = Repairs(bridge)
        app[BRIDGE] = bridge
        app[REPAIRS] = repairs
        tasks = app[TASKS] = Tasks('bridge')
        app[status.TOTALS] = Totals(bridge, tasks)
        checks.aside = database.aside
        tried = partial(health.tried, reason_of=reason_of)
        for check in (
            lambda: tried('the database cannot be written', database.probe, serious=True),
            lambda: tried('the farmers are not known', lambda: _farmers(bridge)),
            lambda: tried('the time of the database is not known', lambda: _clock(bridge)),
            lambda: health.disk(settings.data_dir, bridge.reserve.has_space),
            lambda: health.tasks(tasks),
        ):
            checks.append(check)
        repairs.start(tasks)
        start_upkeep(bridge, repairs, tasks)
        try:
            yield
        finally:
            try:
                await tasks.stop()
                await app[status.TOTALS].close()
                await _leave(bridge, repairs)
            finally:
                passwords.close()
                bridge.mail.close()
                database.close()

    app.cleanup_ctx.append(life)
    app.on_response_prepare.append(_set_headers)
    app.on_response_prepare.append(name_answer)
    for route in routes(settings):
        paths = [route.path] if route.path == '/' else [route.path, route.path + '/']
        for path in paths:
            app.router.add_route(route.method, path, route.handler)
            if route.method == 'GET':
                app.router.add_route('HEAD', path, route.handler)
    return app
