"""Changing settings in the text of an ini file, and no line beside them.

Comments, blank lines, order, other sections and the way keys are written stay as they are.
"""

# Not by the package ConfigUpdater. By the property test of this module, its release 4.1.1 refuses a
# file that begins with an indented comment and some with indented brackets, which configparser
# reads; it ends what it writes by \n whatever the other lines end by; and it puts a new key behind
# the comment that belongs to the next section.

from __future__ import annotations

from collections.abc import Mapping
from configparser import ConfigParser


def edit(text: str, section: str, settings: Mapping[str, str | None]) -> str:
    """Return a text with settings of one section changed.

    Args:
        text (str): that configparser takes without an error.
        section (str): its name; added at the end if there is none.
        settings (Mapping[str, str | None]): keys in lower case and what is to stand behind them,
            one line each; None removes the key.
    """
    end = '\r' if '\r\n' in text else ''
    if text and not text.endswith('\n'):
        text += f'{end}\n'
    lines = text.split('\n')
    options, place, indent = _find(lines, section)
    replaced: dict[int, str | None] = {}
    added = []
    for key, value in settings.items():
        stated = None if value is None else f' = {value}'.rstrip() + end
        if key in options:
            first, *others = options[key]
            replaced.update(dict.fromkeys(others))
            words = _option(lines[first])
            before = lines[first][: lines[first].index(words)]
            replaced[first] = None if stated is None else before + words + stated
        elif stated is not None:
            added.append(indent + key + stated)
    if place is None:
        parted = [end] if text else []
        return text + ''.join(f'{line}\n' for line in [*parted, f'[{section}]{end}', *added])
    changed = []
    for number, line in enumerate(lines):
        kept = replaced.get(number, line)
        changed += [kept] if kept is not None else []
        changed += added if number == place else []
    return '\n'.join(changed)


def _find(lines: list[str], section: str) -> tuple[dict[str, list[int]], int | None, str]:
    """Find a section as configparser does.

    What is indented deeper than an option goes on with it, and lines in between that are empty or
    comments end nothing.

    Returns:
        tuple: key -> numbers of its lines; behind which line a new one goes, None if there is no
        such section; and how it is indented, never less than what follows it.
    """
    options: dict[str, list[int]] = {}
    place, indent = None, ''
    inside, option, depth = False, '', 0
    for number, line in enumerate(lines):
        words = line.strip()
        if not words or words[0] in '#;':
            continue
        margin = line[: len(line) - len(line.lstrip())]
        if option and len(margin) > depth:
            if inside:
                options[option.lower()].append(number)
                place = number
            continue
        if inside and not option:
            # Nothing follows the header yet: whatever does may be indented as it likes.
            indent = margin
        depth = len(margin)
        header = ConfigParser.SECTCRE.match(words)
        if header:
            inside, option = header['header'] == section, ''
        else:
            option = _option(line)
        if inside:
            place, indent = number, margin
            if option:
                options[option.lower()] = [number]
    return options, place, indent


def _option(line: str) -> str:
    """Return the key of a line, as it is written."""
    found = ConfigParser.OPTCRE.match(line.strip())
    return found['option'].rstrip() if found else ''
