"""The house keeps its shape: which room may import which, and that no room grew a back door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / 'storj'

#: Room -> the rooms it may import (docs/design.rst). A room is a module or package of ``storj``.
GROUND = {'metadata', 'exception', 'object'}
PURE = GROUND | {'digest', 'crypto', 'sharding', 'erasure', 'api', 'model'}
ALLOWED: dict[str, set[str]] = {
    'metadata': set(),
    'exception': set(),
    'object': GROUND,
    'file_lock': set(),
    'ini': set(),
    'digest': GROUND,
    'crypto': GROUND | {'digest'},
    'sharding': GROUND | {'digest'},
    'erasure': GROUND,
    'api': GROUND | {'digest'},
    'model': PURE,
    'configuration': PURE | {'file_lock', 'ini'},
    'farmer': GROUND,
    'web_socket': PURE | {'farmer'},
    'transfer': PURE | {'farmer', 'web_socket', 'configuration', 'file_lock'},
    'http': PURE | {'web_socket', 'transfer', 'configuration'},
    'metadisk': PURE,
    '': PURE | {'configuration', 'web_socket', 'transfer', 'http', 'metadisk'},
    'network': PURE | {'file_lock'},
    'cli': PURE | {'', 'configuration', 'web_socket', 'transfer', 'http', 'metadisk', 'network'},
    '__main__': {'cli'},
}


def room_of(path: Path) -> str:
    """Return the room that a source file belongs to; '' is the package itself."""
    first = path.relative_to(PACKAGE).parts[0]
    return '' if first == '__init__.py' else first.removesuffix('.py')


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and room of every import of our own, inside functions and type blocks too."""
    package = ['storj', *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = '.'.join([*base, *([node.module] if node.module else [])])
            names = [f'{module}.{alias.name}' for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split('.')
            if parts[0] != 'storj':
                continue
            rooms = {*ALLOWED} - {''}
            yield node.lineno, parts[1] if len(parts) > 1 and parts[1] in rooms else ''


SOURCES = sorted(PACKAGE.rglob('*.py'))


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards_only(path: Path) -> None:
    room = room_of(path)
    assert room in ALLOWED, f'{room} is no room of the design; draw it in docs/design.rst first'
    allowed = ALLOWED[room] | {room}
    wrong = [
        f'line {line}: {name or "storj"}' for line, name in imports(path) if name not in allowed
    ]
    assert not wrong, f'{path.relative_to(ROOT)} imports upwards: {wrong}'


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_say_what_they_are_for(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding='utf-8'))
    assert ast.get_docstring(tree), f'{path.relative_to(ROOT)} has no module docstring'


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_assert_checks_data(path: Path) -> None:
    lines = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(node, ast.Assert)
    ]
    assert not lines, f'{path.relative_to(ROOT)} asserts in lines {lines}: raise an error instead'
