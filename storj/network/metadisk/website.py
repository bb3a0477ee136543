"""The page for browsers: at ``/``, for whoever prefers HTML; its parts below ``/page/``.

Programs keep getting the bridge's description at ``/``. Nothing is loaded from elsewhere and
nothing is written into the page, so its policy allows no more than its own files.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Awaitable, Callable
from importlib import resources

from aiohttp import hdrs, web

__all__ = ('add_website',)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_START = 'index.html'
_HEADERS = {
    'Cache-Control': 'no-cache',
    'Content-Security-Policy': (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Permissions-Policy': 'camera=(), geolocation=(), microphone=()',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
}
# The system's table of types may be anything.
_TYPES = {'.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml'}


class _PageResponse(web.Response):
    """A part of the page."""


def add_website(app: web.Application) -> None:
    """Add the page to an application that has not started yet."""
    folder = resources.files('storj.network') / 'page'
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}

    def page(name: str) -> web.Response:
        extension = '.' + name.rpartition('.')[2]
        kind = _TYPES.get(extension) or mimetypes.guess_type(name)[0] or 'text/plain'
        return _PageResponse(body=files[name], content_type=kind, charset='utf-8')

    async def part(request: web.Request) -> web.Response:
        name = request.match_info['name']
        if name not in files or name == _START:
            raise web.HTTPNotFound
        return page(name)

    @web.middleware
    async def page_for_browsers(request: web.Request, handler: Handler) -> web.StreamResponse:
        wanted = request.path == '/' and request.method in (hdrs.METH_GET, hdrs.METH_HEAD)
        if not wanted:
            return await handler(request)
        if 'text/html' in request.headers.get(hdrs.ACCEPT, ''):
            response: web.StreamResponse = page(_START)
        else:
            response = await handler(request)
        response.headers[hdrs.VARY] = hdrs.ACCEPT
        return response

    app.middlewares.append(page_for_browsers)
    app.on_response_prepare.append(_set_headers)
    app.router.add_get('/page/{name}', part)


async def _set_headers(request: web.Request, response: web.StreamResponse) -> None:
    # Last of all: the bridge's own policy, meant for JSON, would switch the page off.
    if isinstance(response, _PageResponse):
        response.headers.update(_HEADERS)
