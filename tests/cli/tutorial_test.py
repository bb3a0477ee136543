"""Every command of the tutorial runs, in one shell, and prints what the page shows."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli import forked

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'docs' / 'tutorial.rst'
BLOCK = re.compile(r'^\.\. code-block:: console\n\n((?:   .*\n|\n)+)', re.MULTILINE)


def commands():
    """Return the commands of the page, each with the lines that it shows."""
    found = []
    for block in BLOCK.findall(PAGE.read_text(encoding='utf-8')):
        for line in block.splitlines():
            text = line.removeprefix('   ')
            if text.startswith('$ '):
                found.append((text[2:], []))
            elif text.strip():
                found[-1][1].append(text)
    return [(command, shown) for command, shown in found if not command.startswith('pip ')]


@contextmanager
def storj_in(folder, environment):
    """Put the command ``storj`` into a folder; its modules are loaded once for all commands."""
    address = folder / 'socket'
    forked.write_command(folder / 'storj', address)
    with subprocess.Popen(
        [sys.executable, forked.__file__, str(address)], env=environment, stdout=subprocess.PIPE
    ) as server:
        try:
            assert server.stdout.readline() == b'ready\n'
            yield
        finally:
            server.terminate()


@pytest.mark.skipif(shutil.which('bash') is None, reason='the tutorial is written for bash')
def test_every_command_of_the_tutorial_works(tmp_path):
    (tmp_path / 'home').mkdir()
    (tmp_path / 'bin').mkdir()
    script = ['set -e -o pipefail', 'trap "storj network down --data net || true" ERR']
    for number, (command, _) in enumerate(commands()):
        script += [f'echo "@@ {number}"', command]
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(('STORJ_', 'XDG_'))},
        'HOME': str(tmp_path / 'home'),
        'PATH': f'{tmp_path}/bin{os.pathsep}{os.environ["PATH"]}',
        'PYTHONPATH': str(ROOT),
        'LANG': 'C.UTF-8',
    }
    with storj_in(tmp_path / 'bin', environment):
        done = subprocess.run(
            ['bash', '-c', '\n'.join(script)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = re.split(r'^@@ \d+\n', done.stdout, flags=re.MULTILINE)[1:]
    assert len(answers) == len(commands())
    for (command, shown), answer in zip(commands(), answers, strict=True):
        for line in shown:
            pattern = '.*'.join(map(re.escape, line.split('...')))
            assert re.search(f'^{pattern}$', answer, re.MULTILINE), f'{command}: {answer}'


def test_tutorial_shows_the_daily_commands():
    used = {words[1] for command, _ in commands() if (words := shlex.split(command))[0] == 'storj'}
    assert {'cp', 'ls', 'rm', 'cat', 'sync', 'mb', 'rb', 'network', 'account', 'share'} <= used
