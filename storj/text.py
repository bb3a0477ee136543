"""Texts from elsewhere: what a bridge, a farmer or a file's name says drives no terminal.

Whatever prints or logs such a text takes it through here; the library's errors carry it as it came.
Names of files are text here whatever the locale makes of their bytes.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any

__all__ = (
    'MASK',
    'LogFormatter',
    'count_of',
    'from_system',
    'in_url',
    'indented',
    'masked',
    'printable',
    'to_system',
)


def printable(text: str) -> str:
    """Return a text on one line whose control characters are escaped.

    So are the characters that change the direction of a line, those that nobody sees, and bytes of
    a name that are no text.
    """
    if text.isprintable():
        return text
    return ''.join(
        character if character.isprintable() else character.encode('unicode_escape').decode()
        for character in text
    )


def count_of(number: int, thing: str, form: str = '') -> str:
    """Return a number of things: ``1 file``, ``2 files``.

    Args:
        number (int): how many.
        thing (str): one of them, a word whose plural ends in ``s``.
        form (str): format of the number; ``,`` for ``10,000 files``.
    """
    return f'{number:{form}} {thing}' + ('' if number == 1 else 's')


def in_url(host: str) -> str:
    """Return a host as it stands in a URL: an address of IPv6 in brackets."""
    return f'[{host}]' if ':' in host else host


def from_system(text: str) -> str:
    """Return an argument, or a name in a folder, as text: its bytes are UTF-8.

    Where the locale has no such characters, Python hands over the bytes as surrogates.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text).decode('utf-8', 'surrogateescape')
    return text


def to_system(text: str) -> str:
    """Return a text as the name of a file: the opposite of :func:`from_system`."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return os.fsdecode(text.encode('utf-8', 'surrogateescape'))
    return text


#: User and password of a URL; what follows a colon is none if it is a port. Somebody who does not
#: know that ``/`` has to be quoted in a password has typed one all the same.
_CREDENTIALS = re.compile(r'(://[^/?#\s:@[]*):(?!\d+(?:[/?#\s]|$))\S*@')
#: What stands in the place of a secret.
MASK = '********'


def masked(text: str) -> str:
    """Return a text without the passwords of the URLs in it."""
    return _CREDENTIALS.sub(rf'\1:{MASK}@', text)


class LogFormatter(logging.Formatter):
    """Formats records so that what they quote begins no line and drives no terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the first line of a record."""
        record.message = printable(masked(record.message))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the lines of a traceback, indented."""
        return indented(super().formatException(ei))


def indented(text: str) -> str:
    """Return the lines of a traceback, which quotes others, so that none passes for ours."""
    return '\n'.join(f'  {printable(masked(line))}' for line in text.split('\n'))
