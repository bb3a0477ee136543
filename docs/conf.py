"""Sphinx configuration."""

import inspect
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from storj import metadata
from storj.cli.command import common_options

project = metadata.__title__
author = metadata.__author__
copyright = metadata.__copyright__.removeprefix('Copyright (c) ')
release = version = metadata.__version__

extensions = [
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_click',
]
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'storj {release}'
nitpicky = False

autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


UNDOCUMENTED = []


def note_undocumented(app, what, name, obj, options, lines):
    """Collect public names of ours that have no docstring; the build fails at its end for them."""
    own = getattr(obj, '__module__', '') or ''
    if what in {'function', 'method', 'class', 'property', 'module', 'exception'}:
        text = ' '.join(lines).strip()
        inherited = what == 'method' and not own.startswith('storj')
        if not text and not inherited and not inspect.isbuiltin(obj):
            UNDOCUMENTED.append(name)


def fail_on_undocumented(app, exception):
    if UNDOCUMENTED and exception is None:
        raise RuntimeError(f'public names without documentation: {sorted(set(UNDOCUMENTED))}')


#: What is typed, in the help texts of commands: options, variables, and commands in quotes.
TYPED = re.compile(
    r"(?<![\w`-])(--[a-z][a-z-]*|-[a-z]+\b|(?:[A-Z]+_)+[A-Z]+|NO_COLOR)(?![\w`-])|'(storj [^']*)'"
)


def mark_typed(app, ctx, lines):
    """Make literals of what is typed; help texts are plain text."""
    for place, line in enumerate(lines):
        if not line.lstrip().startswith(('.. ', ':')):
            line = re.sub(r'([*|\\])', r'\\\1', line)
            lines[place] = TYPED.sub(lambda found: f'``{found[1] or found[2]}``', line)


def add_examples(app, ctx, lines):
    """Show the examples of a command before its options."""
    lines += ['', 'Examples::', '', *(f'   {line}' for line in ctx.command.examples), '']


def add_common_options(app, ctx, lines):
    """Describe, with the program itself, the options that every command has."""
    mark_typed(app, ctx, lines)
    if ctx.parent is None:
        for option in common_options():
            names, text = option.get_help_record(ctx)
            described = [f'   {text}', '']
            mark_typed(app, ctx, described)
            lines += [f'.. option:: {names}', '', *described]


def setup(app):
    app.connect('sphinx-click-process-description', mark_typed)
    app.connect('sphinx-click-process-usage', add_examples)
    app.connect('sphinx-click-process-options', add_common_options)
    app.connect('sphinx-click-process-epilog', mark_typed)
    app.connect('autodoc-process-docstring', note_undocumented)
    app.connect('build-finished', fail_on_undocumented)
