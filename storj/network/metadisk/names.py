"""Cleaning of the file names that clients send.

Of ASCII a cleaned name has letters, digits, ``_``, ``.`` and ``-`` only, and of other scripts
nothing that is invisible: it is safe in a log and a folder and, in ASCII, in a header, too. It is
still never used as a path here: a node stores files under hashes.
"""

from __future__ import annotations

import mimetypes
import re
import unicodedata

_NAMELESS = 'file'
_LIMIT = 200
_SEPARATORS = re.compile(r'[/\0]')
_SIGNS = '_.-'
# Invisible, but without them words of some scripts are other words.
_JOINERS = '\u200c\u200d'
_BROWSER_PATH = re.compile(r'(?:[A-Za-z]:\\|\\\\).*\\([^\\]*)', re.DOTALL)


def clean_name(name: str, *, ascii_only: bool = True) -> str:
    """Clean a file's name as nodes of 2014 do.

    Args:
        name (str): as a client sent it, of any length.
        ascii_only (bool): whether only ASCII is kept, as those nodes do.

    Returns:
        str: at most 200 characters; ``file`` when nothing usable is left (the nodes of 2014 answer
        that with an error).
    """
    name = name[: 16 * _LIMIT]
    if match := _BROWSER_PATH.fullmatch(name):
        name = match.group(1)
    if ascii_only:
        name = unicodedata.normalize('NFKD', name).encode('ascii', 'ignore').decode('ascii')
    else:
        # Composed, so that the letters of one name are the same from every system.
        name = unicodedata.normalize('NFC', name)
    name = '_'.join(_SEPARATORS.sub(' ', name).split())
    name = ''.join(filter(_is_kept, name)).strip('._')
    if len(name) > _LIMIT:
        stem, dot, extension = name.rpartition('.')
        kept = dot + extension if dot and len(extension) < _LIMIT // 4 else ''
        name = (stem or name)[: _LIMIT - len(kept)] + kept
    return name or _NAMELESS


def _is_kept(sign: str) -> bool:
    if sign.isascii():
        return sign.isalnum() or sign in _SIGNS
    return sign.isprintable() or sign in _JOINERS


def stored_name(filehash: str, name: str) -> str:
    """Return the name that a node lists: 7 digits of the filehash, ``_``, the cleaned name.

    What is beyond ASCII is kept, marks on letters included; the nodes of 2014 dropped it.
    """
    return f'{filehash[:7]}_{clean_name(name, ascii_only=False)}'


def media_type(name: str) -> str:
    """Guess the media type that a stored name stands for, as nodes send it without a key."""
    kind, encoding = mimetypes.guess_type(name, strict=False)
    if kind is None or encoding is not None:
        return 'application/octet-stream'
    return f'{kind}; charset=utf-8' if kind.startswith('text/') else kind
