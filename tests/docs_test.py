"""Every code block of the README and of the user guide runs against the local network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from storj.network import Network

ROOT = Path(__file__).parent.parent
PAGES = [
    'README.rst',
    'docs/quickstart.rst',
    'docs/configuration.rst',
    'docs/transfers.rst',
    'docs/encryption.rst',
    'docs/network.rst',
    'docs/metadisk.rst',
    'docs/migration.rst',
]
BLOCK = re.compile(r'^\.\. code-block:: python\n\n((?:   .*\n|\n)+)', re.MULTILINE)


def python_of(page: str) -> str:
    """Return the Python blocks of a page as one program: later blocks stand on earlier ones."""
    blocks = BLOCK.findall((ROOT / page).read_text(encoding='utf-8'))
    return '\n'.join(re.sub(r'^   ', '', block, flags=re.MULTILINE) for block in blocks)


@pytest.fixture(scope='module')
def environment() -> dict[str, str]:
    with Network(farmers=6) as network:
        clean = {key: value for key, value in os.environ.items() if not key.startswith('STORJ_')}
        yield {**clean, **network.environment(), 'PYTHONPATH': str(ROOT), 'PYTHONWARNINGS': 'error'}


@pytest.mark.parametrize('page', PAGES)
def test_code_of_the_page_runs(page: str, environment: dict[str, str], tmp_path: Path) -> None:
    program = python_of(page)
    assert program, f'{page} shows no Python'
    script = tmp_path / 'page.py'
    script.write_text(program, encoding='utf-8')
    assert 'False' not in output_of(script, environment, tmp_path)


def test_example_stores_a_file_and_fetches_it(environment: dict[str, str], tmp_path: Path) -> None:
    script = ROOT / 'examples' / 'store_and_fetch.py'
    said = output_of(script, environment, tmp_path)
    assert said == f'store_and_fetch.py: {script.stat().st_size} bytes came back\n'


def output_of(script: Path, environment: dict[str, str], folder: Path) -> str:
    """Return what a program printed; it must end well."""
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env={**environment, 'HOME': str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f'{done.stdout}\n{done.stderr}'
    return done.stdout
