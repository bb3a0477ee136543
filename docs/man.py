"""Writes the manual pages of all commands, ``docs/man/*.1``, from their help.

``make man`` runs it. The pages are kept in the repository, so that an installation needs no tool
for them, and a test says when they are old.
"""

# Not by click-man (0.6): it finds no command that is imported only when it is called, leaves
# examples and epilogs out, and does not escape lines that begin with a dot or an apostrophe.

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from storj.cli.app import ENTRIES, app
from storj.cli.command import COMMON_TITLE
from storj.metadata import __version__

FOLDER = Path(__file__).parent / 'man'
SECTIONS = {entry.section for entry in ENTRIES} - {'Commands'}


#: What roff would print as another character, or read as its own.
_SPECIAL = str.maketrans(
    {'\\': r'\e', '-': r'\-', "'": r'\(aq', '`': r'\(ga', '^': r'\(ha', '~': r'\(ti', '"': r'\(dq'}
)


def escaped(text: str) -> str:
    """Return a text that roff prints as it is, so that a shell can be given it."""
    return re.sub(r'^\.', r'\\&.', text.translate(_SPECIAL), flags=re.MULTILINE)


class Roff(click.HelpFormatter):
    """Takes the help of a command and makes a manual page of it.

    Args:
        skipped (str): title of a section that is left out.
    """

    def __init__(self, skipped: str) -> None:
        super().__init__()
        self._skipped = skipped
        self._in_skipped = False
        self._in_section = False

    def write(self, string: str) -> None:
        """Write lines that keep their form, as examples do."""
        if string.strip():
            self._add('.nf', escaped(string.strip()), '.fi')

    def write_usage(self, prog: str, args: str = '', prefix: str | None = None) -> None:
        """Write the synopsis."""
        self._add('.SH SYNOPSIS', rf'\fB{escaped(prog)}\fR {escaped(args)}', '.SH DESCRIPTION')

    def write_text(self, text: str) -> None:
        """Write paragraphs; those after a ``\\b`` keep their lines."""
        for paragraph in re.split(r'\n\s*\n', text.strip()):
            keeps, _, lines = paragraph.rpartition('\b\n')
            words = [line.strip() for line in lines.splitlines()]
            if keeps or '\b' in paragraph:
                self._add('.PP', '.nf', *map(escaped, words), '.fi')
            else:
                self._add('.PP', escaped(' '.join(words)))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write a list of terms and what they mean."""
        for term, text in rows:
            self._add('.TP', rf'\fB{escaped(term)}\fR', escaped(' '.join(text.split())))

    def write_heading(self, heading: str) -> None:
        """Begin a section."""
        self._add(f'.SH {escaped(heading.upper())}')

    def write_paragraph(self) -> None:
        """Begin nothing: each text is a paragraph."""

    @contextlib.contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Write a section, unless it is the one to leave out."""
        self._in_skipped = name == self._skipped
        if not self._in_skipped:
            # In manual pages, FILES are paths.
            self.write_heading(f'Commands: {name}' if name in SECTIONS else name)
        yield
        self._in_skipped = False

    def _add(self, *lines: str) -> None:
        if not self._in_skipped:
            self.buffer.extend(f'{line}\n' for line in lines)


def contexts(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    """Yield the contexts of a command and of all below it that its help shows."""
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                below = click.Context(found, context, name, **found.context_settings)
                yield from contexts(found, below)


def page_name(context: click.Context) -> str:
    """Return the name of a command's page: ``storj-network-up``."""
    return context.command_path.replace(' ', '-')


def page(context: click.Context, below: Iterable[str]) -> str:
    """Return the manual page of a command.

    Args:
        context (click.Context): of the command.
        below (Iterable[str]): names of the pages of its own commands.
    """
    command, name = context.command, page_name(context)
    roff = Roff('' if context.parent is None else COMMON_TITLE)
    command.format_help(context, roff)
    others = ['storj'] if context.parent is not None else []
    others += [page_name(context.parent)] if context.parent and context.parent.parent else []
    others += below
    summary = command.get_short_help_str(limit=100).rstrip('.')
    if context.parent is None:
        summary = 'store files on a Storj v2 network, encrypted'
    lines = [
        f'.TH "{escaped(name.upper())}" 1 "" "storj {__version__}" "storj"',
        '.SH NAME',
        rf'{escaped(name)} \- {escaped(summary)}',
        roff.getvalue().strip(),
    ]
    if context.parent is not None:
        lines += ['.SH OPTIONS OF EVERY COMMAND', r'They are described in \fBstorj\fR(1).']
    if others:
        listed = ',\n'.join(rf'\fB{escaped(other)}\fR(1)' for other in others)
        lines += ['.SH SEE ALSO', listed]
    return '\n'.join(lines) + '\n'


def pages() -> dict[str, str]:
    """Return the manual pages of all commands, by the names of their files."""
    root = click.Context(app, info_name='storj', **app.context_settings)
    every = list(contexts(app, root))
    below: dict[str, list[str]] = {}
    for context in every:
        if context.parent is not None:
            below.setdefault(page_name(context.parent), []).append(page_name(context))
    return {f'{page_name(it)}.1': page(it, below.get(page_name(it), [])) for it in every}


def main() -> None:
    """Write the pages, and remove those of commands that are gone."""
    FOLDER.mkdir(exist_ok=True)
    wanted = pages()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding='utf-8')
    for path in FOLDER.glob('*.1'):
        if path.name not in wanted:
            path.unlink()
    sys.stdout.write(f'{len(wanted)} pages in {FOLDER}\n')


if __name__ == '__main__':
    main()
