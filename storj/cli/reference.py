"""The command reference of the documentation, made from the commands themselves.

``python -m storj.cli.reference`` prints the page; a test compares it with the one that is kept in
``docs``, so that a command or option without documentation fails the build.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator

import click

from storj.cli.app import app
from storj.cli.command import Command, Group, common_options

__all__ = ('environment_variables', 'reference', 'walk')

_HEAD = """\
Command reference
=================

Every command with its arguments and options, as ``storj COMMAND --help`` shows them.
:doc:`command-line` explains what they have in common.

"""

_OTHER = """\
The scripts of earlier releases
-------------------------------

``storj-bucket``, ``storj-file`` and ``storj-key`` are ``storj bucket``, ``storj file`` and
``storj key`` under their old names.
"""

#: Underlines of the levels of headings, from that of a command of the first level on.
_LINES = '-~^'
_LITERAL = re.compile(r'(?<![\w-])(--[a-z][a-z-]*|-[a-z]+\b|(?:[A-Z]+_)+[A-Z]+|NO_COLOR)(?![\w-])')


def walk(
    command: click.Command, context: click.Context | None = None, path: str = 'storj'
) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below one, with the words that call it; the groups as well."""
    context = _context(command, path, context)
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from walk(found, context, f'{path} {name}')


def _context(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    """Return a context of a command that is not run."""
    return click.Context(command, parent, name, **command.context_settings)


def environment_variables(command: click.Command) -> set[str]:
    """Return the variables that the options of a command and of all below it read."""
    return {
        variable
        for path, found in walk(command)
        for param in found.get_params(_context(found, path))
        for variable in ([param.envvar] if isinstance(param.envvar, str) else param.envvar or ())
    }


def reference() -> str:
    """Return the page, in reStructuredText."""
    parts = [_HEAD, *_common()]
    for path, command in walk(app):
        if command is not app:
            parts.extend(_section(path, command))
    parts.append(_OTHER)
    return ''.join(parts)


def _common() -> Iterator[str]:
    yield from _heading('Options of every command', 1)
    yield 'They may stand before or after the name of the command.\n\n'
    yield from _options(common_options(), _context(app, 'storj'))


def _section(path: str, command: click.Command) -> Iterator[str]:
    yield from _heading(path, path.count(' '))
    context = _context(command, path)
    usage = ' '.join(command.collect_usage_pieces(context))
    yield f'::\n\n   {path} {usage}\n\n'
    yield _prose(command.help or '')
    if isinstance(command, (Command, Group)) and command.examples:
        yield 'Examples::\n\n'
        for example in command.examples:
            yield f'   {example}\n'
        yield '\n'
    own = [param for param in command.params if isinstance(param, click.Option)]
    yield from _options([option for option in own if not option.hidden], context)


def _heading(text: str, level: int) -> Iterator[str]:
    yield f'{text}\n{_LINES[level - 1] * len(text)}\n\n'


def _prose(text: str) -> str:
    """Return a help text as paragraphs."""
    return ''.join(f'{_filled(part)}\n\n' for part in text.strip().split('\n\n'))


def _options(options: list[click.Option], context: click.Context) -> Iterator[str]:
    """Yield a definition list of options."""
    for option in options:
        record = option.get_help_record(context)
        if record is not None:
            yield f'``{record[0]}``\n{_filled(record[1], "   ")}\n\n'


def _filled(text: str, indent: str = '') -> str:
    """Return a plain text as reStructuredText in lines of the usual length.

    What is typed becomes a literal: commands in quotes, options, environment variables.
    """
    text = ' '.join(text.split())
    text = re.sub(r"'(storj [^']*)'", r'``\1``', text)
    pieces = re.split(r'(``[^`]*``)', text)
    for place, piece in enumerate(pieces):
        if not piece.startswith('``'):
            piece = re.sub(r'([*|\\])', r'\\\1', piece)
            pieces[place] = re.sub(_LITERAL, r'``\1``', piece)
    return textwrap.fill(
        ''.join(pieces),
        100,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == '__main__':
    sys.stdout.write(reference())
