"""Small pages of HTML for browsers, at addresses where programs get JSON."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from http import HTTPStatus

from aiohttp import hdrs, web

from storj.network.node.wire import Handler, vary

_STYLE = (
    ':root{color-scheme:light dark}'
    'body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:72rem;padding:2rem 1rem;'
    'color:light-dark(#1b2630,#e6ebee);background:light-dark(#f5f4ef,#11171b)}'
    'h1{font-size:1.4rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin-top:2rem}'
    'a{color:light-dark(#0b6b65,#63cdc2)}'
    'button{font:inherit;font-weight:600;padding:.45rem .95rem;border:0;border-radius:9px;'
    'color:light-dark(#fff,#06221f);background:light-dark(#0b6b65,#63cdc2)}'
    'input{font:inherit;padding:.4rem .6rem}'
    '.wide{overflow-x:auto}'
    'table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;'
    'border-bottom:1px solid light-dark(#dedbd1,#2d3841)}td.n,th.n{text-align:right}'
    'code{font-size:.85em}.off{color:light-dark(#a8241c,#ff958a)}'
)
# The style is named by its hash, so that no other one is applied.
_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; style-src "
    f"'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)
#: What a browser's user can do with nothing but the words for programs.
_SENTENCES = {
    'No authentication strategy detected': 'This address is for programs that log in.',
    'Resource not found': 'There is nothing at this address.',
}


def wants_page(request: web.Request) -> bool:
    """Return whether a browser asks; other clients accept ``*/*``, JSON, or say nothing."""
    return 'text/html' in request.headers.get(hdrs.ACCEPT, '')


def html_page(title: str, content: str, status: int = 200) -> web.Response:
    """Return a page.

    Args:
        title (str): in clear; its heading, too.
        content (str): HTML, in which everything from elsewhere is escaped already.
        status (int): HTTP status.
    """
    heading = html.escape(title)
    text = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{heading}</title><style>{_STYLE}</style></head>'
        f'<body><main><h1>{heading}</h1>{content}</main></body></html>'
    )
    response = web.Response(text=text, status=status, content_type='text/html', charset='utf-8')
    response.headers['Content-Security-Policy'] = _POLICY
    return response


@web.middleware
async def error_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn an error in JSON into a page for a browser that opens an address."""
    response = await handler(request)
    if (
        response.status < 400
        or request.method not in (hdrs.METH_GET, hdrs.METH_HEAD)
        or not isinstance(response, web.Response)
        or response.content_type != 'application/json'
    ):
        return response
    if wants_page(request):
        page = _error_page(response)
        for name, value in response.headers.items():
            # How long to wait, what to log in with, and what else is for the browser itself.
            if name not in (hdrs.CONTENT_TYPE, hdrs.CONTENT_LENGTH):
                page.headers.add(name, value)
        response = page
    vary(response, hdrs.ACCEPT)
    return response


def _error_page(response: web.Response) -> web.Response:
    told = json.loads(response.text or '{}')
    text = str(told.get('error') or told.get('status') or '')
    sentence = html.escape(_SENTENCES.get(text, text))
    title = f'{response.status} {HTTPStatus(response.status).phrase}'
    content = f'<p>{sentence}</p><p><a href="/">To the start page</a></p>'
    return html_page(title, content, response.status)
