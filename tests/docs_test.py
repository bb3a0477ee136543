"""Every block of Python and of a shell in the README and the guide runs as a new user runs it.

Python runs against a local network with its settings in the environment. The blocks of a page for
a shell are one session that begins in an empty home, without any settings.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storj.network import Network
from storj.network.control import RunningNetwork, is_running

ROOT = Path(__file__).parent.parent
PAGES = [
    'README.rst',
    'docs/quickstart.rst',
    'docs/how-to.rst',
    'docs/configuration.rst',
    'docs/transfers.rst',
    'docs/encryption.rst',
    'docs/network.rst',
    'docs/metadisk.rst',
    'docs/fsspec.rst',
    'docs/migration.rst',
]
BLOCK = re.compile(r'^\.\. code-block:: python\n\n((?:   .*\n|\n)+)', re.MULTILINE)


def python_of(page: str) -> str:
    """Return the Python blocks of a page as one program: later blocks stand on earlier ones."""
    blocks = BLOCK.findall((ROOT / page).read_text(encoding='utf-8'))
    return '\n'.join(re.sub(r'^   ', '', block, flags=re.MULTILINE) for block in blocks)


@pytest.fixture(scope='module')
def environment(forked_python: None) -> dict[str, str]:
    with Network(farmers=6) as network:
        clean = {key: value for key, value in os.environ.items() if not key.startswith('STORJ_')}
        yield {**clean, **network.environment(), 'PYTHONPATH': str(ROOT), 'PYTHONWARNINGS': 'error'}


@pytest.mark.long
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


def test_program_of_the_readme_is_typed(tmp_path: Path) -> None:
    mypy = pytest.importorskip('mypy.api')
    script = tmp_path / 'page.py'
    script.write_text(python_of('README.rst'), encoding='utf-8')
    # The package is typed by its own check; here its types are read only.
    options = ['--strict', '--follow-imports=silent', f'--cache-dir={tmp_path}', str(script)]
    said, errors, code = mypy.run([f'--config-file={ROOT / "setup.cfg"}', *options])
    assert code == 0, said + errors


# -- the shell -------------------------------------------------------------------------------------

CONSOLE = re.compile(r'^\.\. code-block:: console\n\n((?:   .*\n|\n)+)', re.MULTILINE)
SHELL_PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob('*.rst'), *(ROOT / 'docs').glob('*.rst')]
    if CONSOLE.search(path.read_text(encoding='utf-8'))
)

#: A network takes any free port in the place of the usual one, which another test may have.
PRELUDE = """
set -e -o pipefail
storj() {
    if [ "$1 $2" = 'network up' ]; then command storj "$@" --port 0; else command storj "$@"; fi
}
bridge() { storj network env | sed -n 's/^export STORJ_BRIDGE=//p'; }
"""

#: Stores shards until it is stopped, which is as soon as the bridge knows the farmer.
FARM = """
{command} > farm.log & farm=$!
until grep -q joined farm.log; do kill -0 $farm; sleep 0.1; done
kill $farm; wait $farm
"""


def commands(page: str) -> list[tuple[str, list[str]]]:
    """Return the commands of a page, each with the lines that it shows."""
    found: list[tuple[str, list[str]]] = []
    for block in CONSOLE.findall((ROOT / page).read_text(encoding='utf-8')):
        for line in block.splitlines():
            text = line.removeprefix('   ')
            if text.startswith('$ '):
                found.append((text[2:], []))
            elif text.strip():
                found[-1][1].append(text)
    return found


def as_run(command: str) -> str:
    """Return what a test runs for a command: itself, but for what would outlast the test."""
    words = shlex.split(command, comments=True)
    if words[0] == 'make':
        # The suite cannot run itself; its target is looked up.
        return f'make -C {shlex.quote(str(ROOT))} --dry-run {shlex.join(words[1:])} > make.log'
    if words[0] == 'pip':
        return ':'
    if words == ['storj', 'demo']:
        # Not with 64 MiB of random data; a test of the command makes sure that it has them.
        return f'storj demo {shlex.quote(str(ROOT / "README.rst"))}'
    command = command.replace('http://127.0.0.1:6382', '"$(bridge)"')
    if words[:2] == ['storj', 'farm'] and '--leave' not in words:
        return FARM.format(command=command.replace('storj', f'{sys.executable} -m storj', 1))
    return command


@pytest.fixture
def session(commands: Path, forked_python: None, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of an empty home, in whose folders no network is left running."""
    (tmp_path / 'home').mkdir()
    data = tmp_path / 'home' / '.local' / 'share'
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(('STORJ_', 'XDG_'))},
        'HOME': str(tmp_path / 'home'),
        'XDG_DATA_HOME': str(data),
        'PATH': f'{commands}{os.pathsep}{os.environ["PATH"]}',
        'PYTHONPATH': str(ROOT),
        'LANG': 'C.UTF-8',
    }
    yield environment
    for folder in (data / 'storj' / 'network', tmp_path / 'net'):
        if is_running(folder):
            RunningNetwork(folder).stop()


@pytest.mark.long
@pytest.mark.skipif(shutil.which('bash') is None, reason='the pages are written for bash')
@pytest.mark.parametrize('page', SHELL_PAGES)
def test_commands_of_the_page_work(page: str, session: dict[str, str], tmp_path: Path) -> None:
    wanted = commands(page)
    script = [PRELUDE]
    for number, (command, _) in enumerate(wanted):
        script += [f'echo "@@ {number}"', as_run(command)]
    said, complained = tmp_path / 'said', tmp_path / 'complained'
    # To files: a network that stays in the background must not keep the test waiting.
    with said.open('wb') as out, complained.open('wb') as errors:
        done = subprocess.run(
            ['bash', '-c', '\n'.join(script)],
            cwd=tmp_path,
            env=session,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            timeout=110,
            check=False,
        )
    text = said.read_text(encoding='utf-8')
    assert done.returncode == 0, text + complained.read_text(encoding='utf-8')
    answers = re.split(r'^@@ \d+\n', text, flags=re.MULTILINE)[1:]
    assert len(answers) == len(wanted)
    for (command, shown), answer in zip(wanted, answers, strict=True):
        for line in shown:
            pattern = '.*'.join(map(re.escape, line.split('...')))
            assert re.search(f'^{pattern}$', answer, re.MULTILINE), f'{command}: {answer}'


def test_modules_that_the_design_names_exist() -> None:
    text = (ROOT / 'docs' / 'design.rst').read_text(encoding='utf-8')
    named = re.findall(r'``([\w/]+(?:\.py|/))(?=[`:])', text)
    assert len(named) > 15
    places = (ROOT / 'storj', ROOT)
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def extras_of_the_package() -> set[str]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / 'setup.cfg', encoding='utf-8')
    return set(parser['options.extras_require'])


def test_extras_that_texts_name_exist() -> None:
    sources = [
        *ROOT.glob('*.rst'),
        *(ROOT / 'docs').rglob('*.rst'),
        *(ROOT / 'storj').rglob('*.py'),
    ]
    named = {
        extra
        for path in sources
        for brackets, word in re.findall(
            r'(?:storj|"\.)\[([a-z,]+)\]"|\bthe extra ``([a-z]+)``',
            path.read_text(encoding='utf-8'),
        )
        for extra in (brackets or word).split(',')
    }
    assert {'cli', 'network', 'socks'} <= named
    assert named - extras_of_the_package() == set()


def test_pages_install_this_release_with_extras_that_it_has() -> None:
    extras = extras_of_the_package()
    lines = [shlex.split(line) for page in SHELL_PAGES for line, _ in commands(page)]
    targets = [words[2] for words in lines if words[:2] == ['pip', 'install']]
    assert targets
    for target in targets:
        match = re.fullmatch(r'\.(?:\[(.+)\])?', target)
        assert match, f'{target}: the index has another release under this name'
        assert set((match[1] or 'cli').split(',')) <= extras


def test_tutorial_shows_the_daily_commands() -> None:
    lines = [shlex.split(line) for line, _ in commands('docs/tutorial.rst')]
    used = {words[1] for words in lines if words[0] == 'storj'}
    assert {'cp', 'ls', 'rm', 'cat', 'sync', 'mb', 'rb', 'network', 'account', 'share'} <= used


# -- the source archive ----------------------------------------------------------------------------


def test_source_archive_has_every_file_of_the_repository(tmp_path: Path) -> None:
    if not (ROOT / '.git').exists():
        pytest.skip('this is a source archive')
    listed = subprocess.run(
        ['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [name for name in listed.stdout.split('\0') if name and (ROOT / name).exists()]
    tree = tmp_path / 'tree'
    for name in files:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    build = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"
    made = subprocess.run(
        [sys.executable, '-c', build], cwd=tree, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    shutil.unpack_archive(next((tree / 'dist').iterdir()), tmp_path / 'out')
    [unpacked] = (tmp_path / 'out').iterdir()
    missing = [name for name in files if not (unpacked / name).exists()]
    assert missing == []
    assert (unpacked / '.ci' / 'run').stat().st_mode & 0o111
