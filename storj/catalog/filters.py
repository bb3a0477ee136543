"""``--include`` and ``--exclude``: which files of a recursive transfer are meant.

The options are read in the order in which they were typed and the last one that matches decides.
A file that none matches goes along if the first option is an exclusion, and stays behind if it is
an inclusion: ``--include '*.txt'`` alone means text files only.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ('NO_FILTERS', 'Filters', 'Rule', 'match_glob')


@dataclass(frozen=True)
class Rule:
    """One ``--include`` or ``--exclude``.

    Attributes:
        pattern (str): a shell pattern; ``*`` also matches ``/``. One that matches a folder
            means all that it holds.
        include (bool): what a match means.
    """

    pattern: str
    include: bool

    def matches(self, name: str) -> bool:
        """Return whether a file, or a folder that it is in, matches; ``/`` ends a folder's."""
        pattern = self.pattern.rstrip('/')
        if pattern == self.pattern and match_glob(name, pattern):
            return True
        parts = name.split('/')
        folders = ('/'.join(parts[:count]) for count in range(1, len(parts)))
        return any(match_glob(folder, pattern) for folder in folders)


@dataclass(frozen=True)
class Filters:
    """The rules of one command.

    Attributes:
        rules (Sequence[Rule]): in the order typed.
    """

    rules: Sequence[Rule] = ()

    def accept(self, name: str) -> bool:
        """Return whether the file of this name, relative to the source, is meant."""
        for rule in reversed(self.rules):
            if rule.matches(name):
                return rule.include
        return not self.rules or not self.rules[0].include

    def excludes_folder(self, name: str) -> bool:
        """Return whether no file below a folder can be meant, whatever its name.

        Args:
            name (str): of the folder, relative to the source.
        """
        for rule in reversed(self.rules):
            if rule.include:
                return False
            if rule.matches(f'{name}/'):
                return True
        return False


#: Takes every file.
NO_FILTERS = Filters()


def match_glob(name: str, pattern: str) -> bool:
    """Return whether a relative name matches a pattern.

    A pattern without ``/`` is also tried on the last part alone, so that ``README`` means the file
    in every folder. Upper and lower case differ everywhere: remote names do.
    """
    if fnmatch.fnmatchcase(name, pattern):
        return True
    return '/' not in pattern and fnmatch.fnmatchcase(name.rpartition('/')[2], pattern)
