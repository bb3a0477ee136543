"""Texts for people: counts, and texts from bridges, farmers and file names made safe to print.

Code that prints or logs a text from elsewhere passes it through :func:`printable`, so that it
cannot control a terminal; the errors of the library carry such a text unchanged. Names of files are
UTF-8 here, whatever the locale is.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any


def printable(text: str) -> str:
    """Return a text on one line whose control characters are escaped.

    So are invisible characters, those that change the direction of a line, and bytes of a name
    that are not UTF-8.
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


def is_unicode(text: str) -> bool:
    """Return whether a text can be written in UTF-8: names with bytes that are none cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def from_system(text: str) -> str:
    """Return an argument, or a name in a folder, as text: its bytes are UTF-8.

    Where the locale has no such characters, Python gives the bytes as surrogates.
    """
    return text if is_unicode(text) else os.fsencode(text).decode('utf-8', 'surrogateescape')


def to_system(text: str) -> str:
    """Return a text as the name of a file: the opposite of :func:`from_system`."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return os.fsdecode(text.encode('utf-8', 'surrogateescape'))
    return text


#: User and password of a URL; a number after the colon is a port. The password may hold a ``/``,
#: although it should be quoted there: people type it unquoted.
_CREDENTIALS = re.compile(r'(://[^/?#\s:@[]*):(?!\d+(?:[/?#\s]|$))\S*@')
#: Shown in place of a secret.
MASK = '********'


def masked(text: str) -> str:
    """Return a text without the passwords of the URLs in it."""
    return _CREDENTIALS.sub(rf'\1:{MASK}@', text)


def masked_email(email: str | None) -> str:
    """Return an address of which only the first letter and the domain can be read."""
    name, at, domain = (email or '').partition('@')
    return f'{name[:1]}***{at}{domain}' if email else ''


class LogFormatter(logging.Formatter):
    """Formats records so that quoted text cannot start a new line or control the terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the first line of a record."""
        record.message = printable(masked(record.message))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the lines of a traceback, indented."""
        return indented(super().formatException(ei))


def indented(text: str) -> str:
    """Return the lines of a traceback indented, so that none looks like a line of our log."""
    return '\n'.join(f'  {printable(masked(line))}' for line in text.split('\n'))
