"""Sphinx configuration."""

import inspect
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from storj import metadata

project = metadata.__title__
author = metadata.__author__
copyright = metadata.__copyright__.removeprefix('Copyright (c) ')
release = version = metadata.__version__

extensions = [
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
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


def setup(app):
    app.connect('autodoc-process-docstring', note_undocumented)
    app.connect('build-finished', fail_on_undocumented)
