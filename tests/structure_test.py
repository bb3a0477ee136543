"""The structure of the package: which module may import which, and what every module must have."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / 'storj'

#: Unit -> the units it may import (docs/design.rst). A unit is a module or package of ``storj``.
GROUND = {'metadata', 'exception', 'object', 'system', 'text'}
PURE = GROUND | {'digest', 'crypto', 'sharding', 'erasure', 'api', 'model'}
ALLOWED: dict[str, set[str]] = {
    'metadata': set(),
    'exception': set(),
    'object': GROUND,
    'system': {'exception'},
    'text': set(),
    'preferences': set(),
    'digest': GROUND,
    'crypto': GROUND | {'digest'},
    'sharding': GROUND | {'digest'},
    'erasure': GROUND,
    'api': GROUND | {'digest', 'sharding'},
    'model': PURE,
    'configuration': PURE | {'preferences'},
    'farmer_connection': GROUND | {'digest'},
    'retry': {'exception'},
    'rest': PURE | {'retry'},
    'web_socket_frames': GROUND | {'digest', 'crypto'},
    'web_socket': PURE | {'farmer_connection', 'web_socket_frames'},
    'transfer': PURE | {'farmer_connection', 'retry', 'web_socket', 'configuration'},
    'http': PURE | {'web_socket', 'transfer', 'configuration', 'rest'},
    'metadisk': PURE | {'rest'},
    # The modules that releases 0.2 and 0.3 had besides the documented ones.
    'sharder': PURE,
    'file_crypto': PURE,
    'uploader': PURE | {'configuration', 'transfer', 'http'},
    'downloader': PURE | {'transfer', 'http', 'uploader'},
    '': PURE
    | {'configuration', 'preferences', 'farmer_connection', 'retry', 'web_socket'}
    | {'transfer', 'http', 'rest', 'metadisk'},
    # Bridge and farmers know each other by the wire only, and nothing of the client's side.
    'network.node': PURE | {'network'},
    'network.bridge': PURE | {'network', 'network.node'},
    'network.farmer': PURE | {'network', 'network.node'},
    # The command line under another name.
    'network.__main__': {'cli'},
    'network': PURE | {'network.node', 'network.bridge', 'network.farmer'},
    'catalog': PURE | {'transfer', 'http', 'configuration'},
    'fs': PURE | {'', 'catalog', 'configuration', 'preferences', 'transfer', 'http'},
    's3': PURE | {'catalog', 'transfer', 'http', 'network', 'network.node'},
    'cli': PURE
    | {
        '',
        'catalog',
        'configuration',
        'preferences',
        'web_socket',
        'transfer',
        'http',
        'rest',
        'metadisk',
        'network',
        's3',
    }
    | {'network.node', 'network.bridge', 'network.farmer'},
    '__main__': {'cli'},
}


SOURCES = sorted(PACKAGE.rglob('*.py'))


@functools.cache
def text_of(path: Path) -> str:
    """Return the text of a source."""
    return path.read_text(encoding='utf-8')


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """Return what a source says, parsed once for all tests."""
    return ast.parse(text_of(path))


def places(path: Path, found: Iterator[tuple[int, str]]) -> list[str]:
    """Return what was found in the lines of a source as a compiler says it."""
    return [f'{path.relative_to(ROOT)}:{line}: {what}' for line, what in found]


def unit_of(path: Path) -> str:
    """Return the unit that a source file belongs to; '' is the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    return unit_named([part for part in parts if part != '__init__'])


def unit_named(parts: Sequence[str]) -> str:
    """Return the unit of a dotted name below the package; '' is the package itself."""
    units = ['.'.join(parts[:count]) for count in (2, 1)]
    return next((unit for unit in units if unit in ALLOWED), '' if not parts else parts[0])


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and unit of every import of our own, inside functions and type blocks too."""
    package = ['storj', *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree_of(path)):
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
            unit = unit_named(parts[1:])
            yield node.lineno, unit if unit in ALLOWED else ''


def upward_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and unit of every import that the design does not allow."""
    unit = unit_of(path)
    for line, name in imports(path):
        if name not in ALLOWED[unit] | {unit}:
            yield line, f'imports {name or "storj"}'


def test_imports_go_downwards_only() -> None:
    unknown = sorted({unit_of(path) for path in SOURCES} - set(ALLOWED))
    assert unknown == [], 'not in the design; draw them in docs/design.rst first'
    assert [place for path in SOURCES for place in places(path, upward_imports(path))] == []


def test_modules_say_what_they_are_for() -> None:
    assert [path for path in SOURCES if not ast.get_docstring(tree_of(path))] == []


def asserts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every assert: data that is wrong needs an error."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Assert):
            yield node.lineno, 'assert'


def test_no_assert_checks_data() -> None:
    assert [place for path in SOURCES for place in places(path, asserts(path))] == []


#: What messages count; its number may be one.
COUNTED = re.compile(r' (accounts|buckets|bytes|farmers|files|frames|keys|mirrors|shards)\b')


def plurals(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every count whose noun does not follow its number."""
    for node in ast.walk(tree_of(path)):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        for number, thing in itertools.pairwise(parts):
            if (
                isinstance(number, ast.FormattedValue)
                and isinstance(thing, ast.Constant)
                and COUNTED.match(str(thing.value))
                and not _is_constant(number.value)
            ):
                yield thing.lineno, repr(thing.value)


def test_messages_count_one_thing_in_the_singular() -> None:
    wrong = [place for path in SOURCES for place in places(path, plurals(path))]
    assert wrong == [], 'use storj.text.count_of'


def _is_constant(node: ast.expr) -> bool:
    """Return whether an expression is made of constants of a module, none of which is one."""
    names = [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
    return bool(names) and all(name.lstrip('_').isupper() for name in names)


#: An entry of a section "Raises:": its indentation, names, and the beginning of its text.
RAISES = re.compile(r'^( *)Raises:\n((?:\1 .*\n|\n)+)', re.MULTILINE)


def test_raises_entries_begin_with_if() -> None:
    wrong = [
        f'{path.relative_to(ROOT)}: {line.strip()}'
        for path in SOURCES
        for indent, entries in RAISES.findall(text_of(path))
        for line in entries.splitlines()
        if re.match(rf'{indent}    [A-Za-z]', line)
        and not re.match(r' *[\w.]+(?:, [\w.]+)*: If ', line)
    ]
    assert wrong == []


# -- work in the background ------------------------------------------------------------------------

#: Modules that start a task or a thread themselves: it is awaited by the function that starts it,
#: or by all who wait for its result, or the module is what watches the others.
STARTERS = {
    'bridge/passwords.py',
    'bridge/copies.py',
    'bridge/database.py',
    'control.py',
    'farmer/channels.py',
    'farmer/farmer.py',
    'farmer/store/objects.py',
    'farmer_process.py',
    'farmers.py',
    'metadisk/storage.py',
    'node/group_sync.py',
    'node/health.py',
    'node/logs.py',
    'node/tasks.py',
    'node/watchdog.py',
    'program.py',
    'supervisor.py',
}


def test_work_in_the_background_is_started_by_what_watches_it() -> None:
    folder = PACKAGE / 'network'
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob('*.py')
        if re.search(r'\b(create_task|ensure_future|Thread)\(', text_of(path))
    }
    # Tasks.start and Tasks.once say when a work fails; nobody hears of a task that is just begun.
    assert found == STARTERS


# -- citations -------------------------------------------------------------------------------------

NUMBER = r'(?:\d+(?:\.\d+)*|[A-D]\b)'
TITLE = re.compile(rf'^({NUMBER}) .+\n[=~-]+$', re.MULTILINE)
#: "section 5.3", "sections 5.2 to 5.4", "sections 2 and 3.0"; those of an RFC or of SEC 2 apart.
CITATION = re.compile(
    rf'((?:RFC|SEC) ?\d+[ ,(]+)?\bsections? ({NUMBER}(?:(?:, | and | to ){NUMBER})*)', re.IGNORECASE
)


def citations(source: str) -> Iterator[str]:
    """Yield the numbers of the sections of the protocol reference that a source cites."""
    for foreign, numbers in CITATION.findall(re.sub(r'\s*\n\s*(?:#:? )?', ' ', source)):
        if not foreign:
            yield from re.findall(NUMBER, numbers)


def test_citations_are_found() -> None:
    source = '(sections 5.2 to\n    # 5.4); RFC 9110, section 10.2; SEC 2, section 3; section\n6.1'
    assert list(citations(source)) == ['5.2', '5.4', '6.1']


def test_cited_sections_of_the_protocol_reference_exist() -> None:
    pages = (ROOT / 'docs' / 'protocol').glob('*.rst')
    sections = {n for page in pages for n in TITLE.findall(page.read_text(encoding='utf-8'))}
    cited = {
        (number, str(path.relative_to(ROOT)))
        for path in SOURCES
        for number in citations(text_of(path))
    }
    assert len(cited) > 50
    assert [citation for citation in sorted(cited) if citation[0] not in sections] == []
