"""The bridge's messages, and the pages that their links open in a browser.

Messages are sent by SMTP, as by the original bridge, or written into a folder, one file each, for a
person or a test to read: nothing of a local network leaves the machine. Opening a link changes
nothing: programs that read mail open links as well. The page asks for a click, and for a new
password where one is to be set.
"""

from __future__ import annotations

import asyncio
import html
import logging
import re
import secrets
import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Literal, TypeGuard
from urllib.parse import quote, unquote, urlsplit

from aiohttp import web

from storj.crypto import secret_file
from storj.network.node.pages import html_page, wants_page
from storj.network.node.wire import Refusal
from storj.system.hosts import is_loopback

logger = logging.getLogger(__name__)

# The later releases' pattern (protocol reference, section 3.2), without what no header can carry.
_EMAIL = re.compile(r'[^\s@<>,;:"\\]{1,64}@[^\s@<>,;:"\\]{1,255}')
_PORTS = {'smtp': 587, 'smtps': 465}
# Seconds that the mail server may take for each step; messages on their way, and in all.
_PATIENCE = 15.0
_AT_ONCE, _WAITING = 4, 64
_NOT_SENT = 'The message could not be sent'
_LATER = {'Retry-After': '30'}

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


def _message(
    public_url: str, kind: Kind, email: str, token: str, redirect: str | None, encoding: str | None
) -> EmailMessage:
    text = _TEXTS[kind]
    link = f'{public_url.rstrip("/")}/{kind}s/{token}'
    if redirect:
        link += '?redirect=' + quote(redirect, safe='')
    message = EmailMessage()
    message['To'] = email
    message['Subject'] = text.subject
    message['X-Storj-Message'] = kind
    message.set_content(f'Hello,\n\n{text.body}\n\n{link}\n', cte=encoding)
    return message


class Outbox:
    """A folder of messages, readable by its owner only: anyone who reads a link can use it.

    Args:
        folder (Path): created when the first message is written.
        public_url (str): the links begin with it.
    """

    def __init__(self, folder: Path, public_url: str) -> None:
        self._folder = folder
        self._public_url = public_url

    async def send(
        self,
        kind: Kind,
        email: str,
        token: str,
        redirect: str | None,
        now: int,
        *,
        wait: bool = True,
    ) -> None:
        """Write a message into ``<milliseconds>-<kind>-<random>.eml``; see :meth:`Smtp.send`."""
        # 8 bit: the link stays in one line, so that grep finds it.
        message = _message(self._public_url, kind, email, token, redirect, '8bit')
        path = self._folder / f'{now:013d}-{kind}-{secrets.token_hex(4)}.eml'
        secret_file.write(path, message.as_string())

    def close(self) -> None:
        """Nothing is under way."""


class Smtp:
    """A mail server that takes the messages.

    The connection is encrypted with ``smtps``, and with ``smtp`` where the server offers STARTTLS.
    A password goes to another machine encrypted only.

    Args:
        url (str): ``smtp://[user:password@]host[:587]`` or ``smtps://[user:password@]host[:465]``;
            what has a meaning in URLs is percent-encoded.
        sender (str): e-mail address that messages come from.
        public_url (str): the links begin with it.

    Raises:
        ValueError: If the URL or the sender is none. The text does not show the URL.
    """

    def __init__(self, url: str, sender: str, public_url: str) -> None:
        self._tls, self._host, self._port, self._login = _server_of(url)
        if not is_email(sender):
            raise ValueError(f'{sender!r} is not an e-mail address that messages can come from')
        self._sender = sender
        self._public_url = public_url
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix='storj-mail')
        self._under_way = 0

    def __repr__(self) -> str:
        return f'Smtp({self._host!r}, {self._port})'

    async def send(
        self,
        kind: Kind,
        email: str,
        token: str,
        redirect: str | None,
        now: int,
        *,
        wait: bool = True,
    ) -> None:
        """Send a message with a link to the right route.

        Nothing is tried again here: who asked for the message asks again. A message that waited
        would have to be kept, and its link is a secret of which the bridge keeps a digest only.

        Args:
            kind (Kind): what the link does.
            email (str): address of the user.
            token (str): hex, the secret in the link.
            redirect (str | None): URL to go to after that.
            now (int): milliseconds since 1970; files of messages sort by it.
            wait (bool): whether to return when the server has taken it. Without that a failure is
                only logged; the time taken tells nobody whether there is such an account.

        Raises:
            Refusal: If the server refuses the address (400), or takes no message now (503, with
                ``Retry-After``); nothing has been sent then.
        """
        if self._under_way >= _WAITING:
            raise Refusal(503, _NOT_SENT, _LATER)
        message = _message(self._public_url, kind, email, token, redirect, None)
        message['From'] = self._sender
        message['Date'] = formatdate(now / 1000)
        message['Message-ID'] = make_msgid(domain=self._sender.partition('@')[2])
        self._under_way += 1
        loop = asyncio.get_running_loop()
        sending = loop.run_in_executor(self._threads, self._deliver, message, email)
        sending.add_done_callback(self._sent)
        if not wait:
            return
        try:
            await asyncio.shield(sending)
        except smtplib.SMTPRecipientsRefused as error:
            if all(code >= 500 for code, _ in error.recipients.values()):
                raise Refusal(400, 'The mail server refuses this e-mail address') from error
            raise Refusal(503, _NOT_SENT, _LATER) from error
        except (smtplib.SMTPException, OSError) as error:
            raise Refusal(503, _NOT_SENT, _LATER) from error

    def _sent(self, sending: asyncio.Future[None]) -> None:
        self._under_way -= 1
        error = None if sending.cancelled() else sending.exception()
        if error is not None:
            # Its text may be what the server says, with the login in it.
            kind, code = type(error).__name__, getattr(error, 'smtp_code', '')
            logger.warning('%s:%d takes no message: %s %s', self._host, self._port, kind, code)

    def _deliver(self, message: EmailMessage, email: str) -> None:
        """Send a message. Blocking."""
        context = ssl.create_default_context()
        with closing(
            smtplib.SMTP_SSL(self._host, self._port, timeout=_PATIENCE, context=context)
            if self._tls
            else smtplib.SMTP(self._host, self._port, timeout=_PATIENCE)
        ) as server:
            server.ehlo()
            encrypted = self._tls
            if not encrypted and server.has_extn('starttls'):
                server.starttls(context=context)
                encrypted = True
            if self._login is not None:
                if not (encrypted or is_loopback(self._host)):
                    raise smtplib.SMTPNotSupportedError('no STARTTLS for a password')
                server.login(*self._login)
            server.send_message(message, self._sender, [email])
            with suppress(smtplib.SMTPException, OSError):
                # The message is taken, whatever the server says to that.
                server.quit()

    def close(self) -> None:
        """Wait for the messages under way; those that have not begun are not sent."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _server_of(url: str) -> tuple[bool, str, int, tuple[str, str] | None]:
    """Return whether a URL means TLS from the first byte, host, port and login."""
    bad = 'the mail server is given as smtp://[user:password@]host[:port] or smtps://…'
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(bad) from None
    extra = parts.path.strip('/') or parts.query or parts.fragment
    if parts.scheme not in _PORTS or not host or extra or (parts.username and not parts.password):
        raise ValueError(bad)
    login = None
    if parts.username and parts.password:
        login = unquote(parts.username), unquote(parts.password)
    return parts.scheme == 'smtps', host, port or _PORTS[parts.scheme], login


def is_email(value: object) -> TypeGuard[str]:
    """Return whether a value is an e-mail address."""
    return isinstance(value, str) and len(value) <= 320 and _EMAIL.fullmatch(value) is not None


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
