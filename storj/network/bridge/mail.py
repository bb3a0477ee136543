"""The bridge's messages: written into a folder, one file each, for a person or a test to read.

The original bridge sends them by SMTP; nothing of a local network leaves the machine.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from storj.crypto import secret_file

__all__ = ('Kind', 'Outbox')

Kind = Literal['activation', 'deactivation', 'reset']


@dataclass(frozen=True)
class _Text:
    subject: str
    path: str
    body: str


_TEXTS: dict[Kind, _Text] = {
    'activation': _Text(
        'Confirm your e-mail address',
        'activations',
        'an account with this address was registered. To activate it, open',
    ),
    'deactivation': _Text(
        'Confirm the deactivation of your account',
        'deactivations',
        'the deactivation of your account was asked for. To confirm it, open',
    ),
    'reset': _Text(
        'Confirm your new password',
        'resets',
        'a new password for your account was asked for. To confirm it, open',
    ),
}


class Outbox:
    """A folder of messages, readable by its owner only: whoever reads a link can use it.

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
        link = f'{self._public_url}/{text.path}/{token}'
        if redirect:
            link += '?redirect=' + quote(redirect, safe='')
        message = EmailMessage()
        message['To'] = email
        message['Subject'] = text.subject
        message['X-Storj-Message'] = kind
        # 8 bit: the link stays in one line, for whoever greps for it.
        message.set_content(f'Hello,\n\n{text.body}\n\n{link}\n', cte='8bit')
        path = self._folder / f'{now:013d}-{kind}-{secrets.token_hex(4)}.eml'
        secret_file.write(path, message.as_string())
        return path
