"""The bridge's messages, and the pages that their links open in a browser.

Messages are written into a folder, one file each, for a person or a test to read: the original
bridge sends them by SMTP; nothing of a local network leaves the machine. Opening a link changes
nothing: programs that read mail open links as well. The page asks for a click, and for a new
password where one is to be set.
"""

from __future__ import annotations

import html
import secrets
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from aiohttp import web

from storj.crypto import secret_file
from storj.network.node.pages import html_page, wants_page

__all__ = (
    'Kind',
    'Outbox',
    'done_page',
    'is_visit',
    'question_page',
)

Kind = Literal['activation', 'deactivation', 'reset']


@dataclass(frozen=True)
class _Text:
    """The words of a kind: of its message, and of the page that its link opens."""

    subject: str
    body: str
    title: str
    question: str
    button: str
    done: str


_TEXTS: dict[Kind, _Text] = {
    'activation': _Text(
        'Confirm your e-mail address',
        'an account with this address was registered. To activate it, open',
        'Activate your account',
        'Somebody registered an account with your e-mail address. Activate it only if it was you.',
        'Activate the account',
        'The account is active now.',
    ),
    'deactivation': _Text(
        'Confirm the deactivation of your account',
        'the deactivation of your account was requested. To confirm it, open',
        'Deactivate your account',
        'After this nobody can log in to the account. Its data is kept.',
        'Deactivate the account',
        'The account is not active any more.',
    ),
    'reset': _Text(
        'Confirm your new password',
        'a new password for your account was requested. To confirm it, open',
        'Choose a new password',
        'Somebody asked for a new password for your account. If it was not you, close this page.',
        'Set the new password',
        'The new password is valid now.',
    ),
}
_PASSWORD_FIELD = (
    '<p><label>New password <input type="password" name="password" required '
    'autocomplete="new-password"></label></p>'
)


class Outbox:
    """A folder of messages, readable by its owner only: anyone who reads a link can use it.

    Args:
        folder (Path): created when the first message is written.
        public_url (str): the links begin with it.
    """

    def __init__(self, folder: Path, public_url: str) -> None:
        self._folder = folder
        self._public_url = public_url.rstrip('/')

    def send(self, kind: Kind, email: str, token: str, redirect: str | None, now: int) -> Path:
        """Write a message with a link to the right route.

        Args:
            kind (Kind): what the link does.
            email (str): address of the user.
            token (str): hex, the secret in the link.
            redirect (str | None): URL to go to after that.
            now (int): milliseconds since 1970; files sort by it.

        Returns:
            Path: the file, ``<milliseconds>-<kind>-<random>.eml``.
        """
        text = _TEXTS[kind]
        link = f'{self._public_url}/{kind}s/{token}'
        if redirect:
            link += '?redirect=' + quote(redirect, safe='')
        message = EmailMessage()
        message['To'] = email
        message['Subject'] = text.subject
        message['X-Storj-Message'] = kind
        # 8 bit: the link stays in one line, so that grep finds it.
        message.set_content(f'Hello,\n\n{text.body}\n\n{link}\n', cte='8bit')
        path = self._folder / f'{now:013d}-{kind}-{secrets.token_hex(4)}.eml'
        secret_file.write(path, message.as_string())
        return path


def is_visit(request: web.Request) -> bool:
    """Return whether a request only looks at a link: HEAD, or GET by a browser."""
    return request.method == 'HEAD' or (request.method == 'GET' and wants_page(request))


def question_page(kind: Kind) -> web.Response:
    """Return the page that asks for a click; it sends the form to its own address."""
    text = _TEXTS[kind]
    field = _PASSWORD_FIELD if kind == 'reset' else ''
    form = f'<form method="post">{field}<p><button>{html.escape(text.button)}</button></p></form>'
    return _page(text.title, text.question, form)


def done_page(kind: Kind) -> web.Response:
    """Return the page that says what was done."""
    return _page(_TEXTS[kind].title, _TEXTS[kind].done)


def _page(title: str, sentence: str, form: str = '') -> web.Response:
    return html_page(title, f'<p>{html.escape(sentence)}</p>{form}')
