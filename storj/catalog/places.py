"""Where a command reads from or writes to: ``storj://bucket/path``, a local path, ``-``, or a link.

A URI is taken literally: nothing in it is percent-decoded, so every name that a bridge can
hold can be typed. The first ``/`` after the bucket ends it; a bucket whose name holds a ``/`` is
named by its id. This module opens no file and sends no request.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from storj.catalog.errors import UnsafeNameError, UsageProblem
from storj.digest import is_hex
from storj.text import count_of, to_system

__all__ = (
    'LINK_SCHEME',
    'SCHEME',
    'ByteRange',
    'Link',
    'Local',
    'Location',
    'Remote',
    'Stream',
    'is_glob',
    'is_id',
    'is_link',
    'parse_location',
    'parse_remote',
    'safe_relative_path',
)

SCHEME = 'storj://'
LINK_SCHEME = 'storj-share:'

_GLOB = re.compile(r'[*?\[]')
_OTHER_SCHEME = re.compile(r'[A-Za-z][A-Za-z0-9+.-]+://')

#: Names that Windows gives to devices in every folder, whatever the suffix.
_WINDOWS_DEVICES = re.compile(r'(CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(\..*)?', re.IGNORECASE)


@dataclass(frozen=True)
class Remote:
    """A bucket, or a file, prefix or pattern in it.

    Attributes:
        bucket (str): name or id.
        path (str): name or id of a file, a prefix, or a pattern; empty for the bucket itself.
    """

    bucket: str
    path: str = ''

    def __str__(self) -> str:
        return f'{SCHEME}{self.bucket}/{self.path}'

    @property
    def is_folder(self) -> bool:
        """Whether it can only mean a prefix: the bucket itself, or a path that ends in ``/``."""
        return not self.path or self.path.endswith('/')


@dataclass(frozen=True)
class Local:
    """A path on this machine.

    Attributes:
        path (Path): as given.
        is_folder (bool): whether it is an existing folder or was written with a ``/`` at its end.
    """

    path: Path
    is_folder: bool

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Stream:
    """Standard input as a source, standard output as a destination."""

    def __str__(self) -> str:
        return '-'


@dataclass(frozen=True)
class Link:
    """A link made by ``storj share``.

    Attributes:
        text (str): the whole link.
    """

    text: str

    def __str__(self) -> str:
        return f'{LINK_SCHEME}...'


Location = Remote | Local | Stream | Link


class ByteRange(NamedTuple):
    """A part of a file, as HTTP's ``Range`` writes it.

    Attributes:
        first (int | None): offset of the first byte; None when the last bytes are meant.
        last (int | None): offset of the last byte, included; None for all that follow. Without
            ``first`` it is the number of bytes at the end.
    """

    first: int | None
    last: int | None

    def bounds(self, size: int) -> tuple[int, int]:
        """Return start and end (excluded) of the range within a file.

        Args:
            size (int): of the file in bytes.

        Raises:
            ValueError: If no byte of the file is in the range.
        """
        if self.first is None:
            start, end = max(0, size - (self.last or 0)), size
        else:
            start, end = self.first, size if self.last is None else min(size, self.last + 1)
        if start >= end:
            raise ValueError(f'the range lies outside the file, which has {count_of(size, "byte")}')
        return start, end


def parse_location(text: str) -> Location:
    """Return what a source or destination of a copy means.

    Args:
        text (str): as typed.

    Raises:
        UsageProblem: If it is empty, names no bucket, or has a scheme that is not ours.
    """
    if text == '-':
        return Stream()
    if is_link(text):
        return Link(text)
    if text.startswith(SCHEME):
        return parse_remote(text)
    if _OTHER_SCHEME.match(text):
        raise UsageProblem(
            f'{text!r} is neither a local path nor a storj:// URI',
            hint='a remote file is written storj://bucket/path',
        )
    if not text:
        raise UsageProblem('an empty path', hint="the current folder is '.'")
    path = Path(to_system(text))
    separators = tuple(filter(None, (os.sep, os.altsep)))
    return Local(path, text.endswith(separators) or path.is_dir())


def parse_remote(text: str, *, bare: bool = False) -> Remote:
    """Return the bucket and the path of a ``storj://`` URI.

    Args:
        text (str): as typed.
        bare (bool): whether ``bucket/path`` without the scheme will do, where nothing local can
            be meant.

    Raises:
        UsageProblem: If it has another scheme, or names no bucket.
    """
    if is_link(text):
        # Not quoted: a link is a secret.
        raise UsageProblem("a link is taken by 'storj cp' only, as its source")
    if text.startswith(SCHEME):
        text = text[len(SCHEME) :]
    elif not bare or _OTHER_SCHEME.match(text):
        raise UsageProblem(
            f'{text!r} is not a storj:// URI', hint='a remote file is written storj://bucket/path'
        )
    bucket, _, path = text.partition('/')
    if not bucket:
        raise UsageProblem(
            'the URI names no bucket',
            hint="'storj ls' lists the buckets; write storj://bucket/path",
        )
    return Remote(bucket, path)


def is_id(text: str) -> bool:
    """Return whether a text has the form of a bucket's, file's or frame's id (24 hex digits)."""
    return is_hex(text, 24)


def is_link(text: str) -> bool:
    """Return whether a text is a link of ``storj share``, or is meant to be one."""
    return text.strip().lower().startswith(LINK_SCHEME)


def is_glob(text: str) -> bool:
    """Return whether a path is a pattern (``*``, ``?``, ``[...]``)."""
    return _GLOB.search(text) is not None


def safe_relative_path(name: str) -> Path:
    """Turn a remote name into a path that stays below the folder it is joined to.

    The name comes from the network, so it may try to escape: ``..``, an absolute path, a drive, a
    NUL, and on Windows a backslash, a device or a stream of a file.

    Args:
        name (str): of a remote file, relative to what is copied.

    Returns:
        Path: relative, of at least one part.

    Raises:
        UnsafeNameError: If the name cannot be a path below a folder.
    """
    # An empty part is a slash at an end or a doubled one: 'a//b' and 'a/b' would be one local file,
    # and a name that begins with a slash an absolute path.
    parts = name.split('/')
    if '\0' in name or any(part in ('', '.', '..') for part in parts):
        raise UnsafeNameError(name)
    if os.name == 'nt' and any(map(_is_unsafe_on_windows, parts)):
        raise UnsafeNameError(name)
    try:
        return Path(to_system(name))
    except UnicodeEncodeError:
        # Half of a character, which JSON of a bridge or a link can have.
        raise UnsafeNameError(name) from None


def _is_unsafe_on_windows(part: str) -> bool:
    """Return whether Windows reads more than a file's name into one part of a path."""
    # ':' begins a drive or an alternate stream of a file. Dots and blanks at the end of a name are
    # dropped by Windows, so that two names would be one file.
    return (
        any(character in '\\:*?"<>|' or ord(character) < 32 for character in part)
        or part[-1] in '. '
        or _WINDOWS_DEVICES.fullmatch(part) is not None
    )
