"""A locale that knows ASCII only: every command works on all names, and shows them escaped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Storj
from tests.cli.every_command import CALLS, Forked, Place
from tests.cli.forked import fork_server

pytestmark = pytest.mark.skipif(sys.platform in ('win32', 'darwin'), reason='locales of POSIX')

#: Python takes UTF-8 in the locale C unless it is told not to.
ASCII = {'LC_ALL': 'C', 'PYTHONUTF8': '0'}
NAMED = [
    call
    for call in CALLS
    if any(f'{{{name}}}' in call.words for name in ('bucket', 'folder', 'new')) and not call.slow
]
PATIENCE = 100


@pytest.fixture(scope='module')
def ascii_place(network, tmp_path_factory):
    """Names that ASCII lacks, and a server that forks commands in such a locale."""
    folder = tmp_path_factory.mktemp('löcale')
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(('STORJ_', 'XDG_', 'LC_'))},
        **network.environment(),
        'HOME': str(folder),
        'PYTHONPATH': str(ROOT),
        'STORJ_CONFIG_DIR': str(folder / 'settings'),
        **ASCII,
    }
    environment.pop('PYTHONIOENCODING', None)
    (folder / '本').mkdir()
    place = Place(Storj(dict(environment)), network, folder / '本', 'bücket')
    place.prefix = 'ñ😀'
    with fork_server(folder, environment) as address:

        def run(words, content=b'', **more):
            settings = Path(tempfile.mkdtemp(dir=folder))
            (settings / 'in').write_bytes(content)
            own = {**environment, 'STORJ_CONFIG_DIR': str(settings), **more}
            out, err = settings / 'out', settings / 'err'
            with (
                (settings / 'in').open('rb') as stdin,
                out.open('wb') as stdout,
                err.open('wb') as stderr,
            ):
                streams = (stdin.fileno(), stdout.fileno(), stderr.fileno())
                code = Forked(address, words, own, streams).wait(PATIENCE)
            return code, out.read_bytes(), err.read_bytes()

        yield place, run


@pytest.mark.parametrize('call', NAMED, ids=lambda call: call.words[:50])
def test_every_command_works_in_ascii(ascii_place, call):
    place, run = ascii_place
    before, words, after = place.lines(call)
    for line in before:
        assert run(line)[0] == 0
    code, out, err = run(words, place.inputs.get(call.input, b''), **call.environment)
    for line in after:
        run(line)
    assert code == 0, err
    assert err.isascii()
    assert out.isascii() or call.exact


def test_names_are_the_same_in_every_locale(ascii_place, network, tmp_path):
    place, run = ascii_place
    bucket = place.names['bucket']
    name = 'grün/本 😀'
    path = tmp_path / name
    path.parent.mkdir()
    path.write_bytes(b'content')
    assert run(['cp', '-r', str(tmp_path), f'storj://{bucket}/names/'])[0] == 0
    code, out, _ = run(['ls', '-r', '--json', f'storj://{bucket}/names/'])
    assert code == 0
    assert [row['name'] for row in json.loads(out)] == [f'names/{name}']
    storj = Storj({**network.environment(), 'STORJ_CONFIG_DIR': str(tmp_path)})
    assert storj('cat', f'storj://{bucket}/names/{name}').raw == b'content'
    assert run(['sync', f'storj://{bucket}/names/', str(tmp_path / 'bäck')])[0] == 0
    assert (tmp_path / 'bäck' / name).read_bytes() == b'content'
    assert b'names/gr\\xfcn/\\u672c \\U0001f600' in run(['ls', '-r', f'storj://{bucket}/names/'])[1]


def test_program_takes_arguments_of_an_ascii_locale(program, tmp_path):
    words, environment = program('config', 'set', 'email', 'ä@example.org')
    settings = {'STORJ_CONFIG_DIR': str(tmp_path / 'ü')}
    subprocess.run(words, env={**environment, **settings, **ASCII}, check=True)
    assert 'email = ä@example.org' in (tmp_path / 'ü' / 'storj.ini').read_text(encoding='utf-8')
