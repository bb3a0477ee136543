"""Storj command-line interface package.

The functions here are the console scripts: ``storj``, and ``storj-bucket``, ``storj-file`` and
``storj-key`` of earlier releases, which are three of its families. They end with the exit codes of
:mod:`storj.cli.errors`.

The commands are also attributes, imported when asked for: ``from storj.cli import bucket, file,
key`` gives the three groups, ``upload`` the command on files, ``generate``, ``export`` and ``load``
those on keys; ``create``, ``get`` and ``list`` are those on buckets, in the form of 0.1.5. All need
the extra ``cli``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ('bucket_main', 'file_main', 'key_main', 'main')

_ATTRIBUTES = {
    'app': ('storj.cli.app', 'app'),
    'bucket': ('storj.cli.buckets', 'bucket'),
    'create': ('storj.cli.buckets', 'old_create'),
    'get': ('storj.cli.buckets', 'old_get'),
    'list': ('storj.cli.buckets', 'old_list'),
    'file': ('storj.cli.files', 'file'),
    'upload': ('storj.cli.files', 'upload'),
    'download': ('storj.cli.files', 'download'),
    'key': ('storj.cli.keys', 'key'),
    'generate': ('storj.cli.keys', 'generate'),
    'export': ('storj.cli.keys', 'export'),
    'load': ('storj.cli.keys', 'load'),
    'get_client': ('storj', 'get_client'),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``storj``.

    Args:
        arguments (Sequence[str] | None): of the command line; those of the process by default.

    Returns:
        int: exit code.
    """
    return _run('app', 'storj', arguments)


def bucket_main(arguments: Sequence[str] | None = None) -> int:
    """Run ``storj-bucket``; arguments and exit code as :func:`main`."""
    return _run('bucket', 'storj-bucket', arguments)


def file_main(arguments: Sequence[str] | None = None) -> int:
    """Run ``storj-file``; arguments and exit code as :func:`main`."""
    return _run('file', 'storj-file', arguments)


def key_main(arguments: Sequence[str] | None = None) -> int:
    """Run ``storj-key``; arguments and exit code as :func:`main`."""
    return _run('key', 'storj-key', arguments)


def _run(attribute: str, program: str, arguments: Sequence[str] | None) -> int:
    try:
        return _started(attribute, program, arguments)
    except KeyboardInterrupt as error:
        # A signal while modules are loaded; a command reports its own.
        from storj.cli.errors import explain

        report = explain(error)
        print(f'{program}: {report.message}', file=sys.stderr)
        return report.exit_code


def _started(attribute: str, program: str, arguments: Sequence[str] | None) -> int:
    try:
        import click  # noqa: F401  an extra: `import storj` and this module work without it
    except ImportError:
        print(
            'storj: the command line needs packages that are not installed\n'
            'hint: pip install "storj[cli]"',
            file=sys.stderr,
        )
        return 1
    from storj.cli.streams import interrupts

    with interrupts():
        command = __getattr__(attribute)
        status: int = command.main(args=arguments, prog_name=program, standalone_mode=False)
        return status


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _ATTRIBUTES[name]
    except KeyError:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}') from None
    return getattr(importlib.import_module(module), attribute)
