"""The page for browsers, and its content security policy.

Nothing is loaded from elsewhere and nothing is written into the page, so its policy allows no more
than its own files.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from importlib import resources

from aiohttp import hdrs, web

from storj.network.node.pages import wants_page
from storj.network.node.wire import vary

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_HEADERS = {
    'Cache-Control': 'no-cache',
    'Content-Security-Policy': (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        # No text becomes markup or script, not even by a mistake of ours.
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Permissions-Policy': 'camera=(), geolocation=(), microphone=()',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
}
#: Parts of the farmer's page alone.
_FARM = ('farm.html', 'farm.js')
# Not from the system's table of types, which may say anything.
_TYPES = {'css': 'text/css', 'html': 'text/html', 'js': 'text/javascript', 'svg': 'image/svg+xml'}


class _PageResponse(web.Response):
    """A part of the page."""


class Website:
    """A page at ``/`` for clients that prefer HTML, and its parts below ``/page/``.

    Args:
        parts (Sequence[str]): names of its files; those of the MetaDisk page by default.
        start (str): the one at ``/``.
    """

    def __init__(self, parts: Sequence[str] = (), start: str = 'index.html') -> None:
        folder = resources.files('storj.network') / 'page'
        names = parts or [it.name for it in folder.iterdir() if it.name not in _FARM]
        self._files = {
            name: (folder / name).read_bytes()
            for name in names
            if name.rpartition('.')[2] in _TYPES
        }
        self._start = start

    def add_to(self, app: web.Application) -> None:
        """Add the page to an application that has not started yet.

        Programs still get the other handler's answer at ``/``.
        """
        app.middlewares.append(self._for_browsers)
        app.on_response_prepare.append(_set_headers)
        app.router.add_get('/page/{name}', self._part)

    def _page(self, name: str) -> web.Response:
        kind = _TYPES[name.rpartition('.')[2]]
        return _PageResponse(body=self._files[name], content_type=kind, charset='utf-8')

    async def _part(self, request: web.Request) -> web.Response:
        name = request.match_info['name']
        if name not in self._files or name == self._start:
            raise web.HTTPNotFound
        return self._page(name)

    @web.middleware
    async def _for_browsers(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != '/' or request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return await handler(request)
        if wants_page(request):
            response: web.StreamResponse = self._page(self._start)
        else:
            response = await handler(request)
        vary(response, hdrs.ACCEPT)
        return response


async def _set_headers(request: web.Request, response: web.StreamResponse) -> None:
    # Last of all: a bridge's own policy, meant for JSON, would switch the page off.
    if isinstance(response, _PageResponse):
        response.headers.update(_HEADERS)
