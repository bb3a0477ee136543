"""What a person sees who opens the link of a message in a browser.

Opening a link changes nothing: programs that read mail open links as well. The page asks for a
click, and for a new password where one is to be set.
"""

from __future__ import annotations

import html

from aiohttp import web

from storj.network.bridge.mail import Kind

__all__ = ('done_page', 'is_visit', 'question_page', 'wants_page')

_QUESTIONS: dict[Kind, tuple[str, str, str]] = {
    'activation': (
        'Activate your account',
        'Somebody registered an account with your e-mail address. Activate it only if it was you.',
        'Activate the account',
    ),
    'deactivation': (
        'Deactivate your account',
        'After this nobody can log in to the account. Its data is kept.',
        'Deactivate the account',
    ),
    'reset': (
        'Choose a new password',
        'Somebody asked for a new password for your account. If it was not you, close this page.',
        'Set the new password',
    ),
}
_DONE: dict[Kind, str] = {
    'activation': 'The account is active now.',
    'deactivation': 'The account is not active any more.',
    'reset': 'The new password is in force now.',
}
_PASSWORD_FIELD = (
    '<p><label>New password <input type="password" name="password" required '
    'autocomplete="new-password"></label></p>'
)
_POLICY = "default-src 'none'; form-action 'self'; base-uri 'none'"


def wants_page(request: web.Request) -> bool:
    """Return whether a browser asks."""
    return 'text/html' in request.headers.get('accept', '')


def is_visit(request: web.Request) -> bool:
    """Return whether a request only looks at a link: HEAD, or GET by a browser."""
    return request.method == 'HEAD' or (request.method == 'GET' and wants_page(request))


def question_page(kind: Kind) -> web.Response:
    """Return the page that asks for a click; it sends the form to its own address."""
    title, text, button = _QUESTIONS[kind]
    field = _PASSWORD_FIELD if kind == 'reset' else ''
    body = (
        f'<p>{html.escape(text)}</p><form method="post">{field}'
        f'<p><button>{html.escape(button)}</button></p></form>'
    )
    return _page(title, body)


def done_page(kind: Kind) -> web.Response:
    """Return the page that says what was done."""
    return _page(_QUESTIONS[kind][0], f'<p>{html.escape(_DONE[kind])}</p>')


def _page(title: str, body: str) -> web.Response:
    text = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>'
        f'{html.escape(title)}</title></head><body><main><h1>{html.escape(title)}</h1>{body}'
        '</main></body></html>'
    )
    headers = {'Content-Security-Policy': _POLICY}
    return web.Response(text=text, content_type='text/html', charset='utf-8', headers=headers)
