"""What a hostile bridge or farmer says drives no terminal, whatever the command prints it in.

``python -m tests.cli.hostile_test [SECONDS]`` goes on with other answers for a while.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from storj.network.control import serve_control
from storj.network.farmer.settings import FarmerSettings
from storj.network.farmer_process import command_of
from tests.cli.every_command import CALLS, Call, Forked, Place
from tests.cli.forked import fork_server
from tests.cli.hostile import POISON, BehindHostile, HostileBridge, Mood, hostile_bridge

pytestmark = [
    pytest.mark.skipif(sys.platform == 'win32', reason='forks'),
    pytest.mark.usefixtures('forked_python'),
]

#: Options of every command that change how it prints.
FORMS: Mapping[str, Sequence[str]] = {
    'words': (),
    'json': ('--json',),
    'traceback': ('-vv',),
    'colours': ('--color', 'always', '-v'),
}
#: Calls that print bytes of files, or nothing of others, or run until they are stopped.
_OTHERS = [call for call in CALLS if not (call.exact or call.lasts or call.slow)]
PATIENCE = 100


class Ear:
    """Runs calls against a hostile bridge and listens to what they print.

    Args:
        address (Path): of the server that forks.
        bridge (HostileBridge): whose mood changes.
        place (Place): what the calls work on.
        environment (Mapping[str, str]): of the commands.
        folder (Path): for what they write.
    """

    def __init__(
        self,
        address: Path,
        bridge: HostileBridge,
        place: Place,
        environment: Mapping[str, str],
        folder: Path,
    ) -> None:
        self._address = address
        self.bridge = bridge
        self._place = place
        self.bucket: str = place.names['bucket']
        self.environment = environment
        self._folder = folder
        #: Runs that printed what they were told, escaped or not.
        self.heard = 0
        #: What was printed where an error came that is not of this package.
        self.foreign: list[str] = []

    def hear(self, call: Call, form: str, mood: Mood) -> list[str]:
        """Run a call and return the lines that it must not print."""
        settings = Path(tempfile.mkdtemp(dir=self._folder))
        log = settings / 'log'
        environment = {
            **self.environment,
            **call.environment,
            'STORJ_CONFIG_DIR': str(settings),
            'XDG_STATE_HOME': str(settings / 'state'),
        }
        before, words, after = self._place.lines(call)
        self.bridge.mood = Mood()
        for line in before:
            self._run(line, environment, call, settings)
        self.bridge.mood = mood
        try:
            printed = self._run(
                [*words, *FORMS[form], '--log-file', str(log)], environment, call, settings
            )
        finally:
            self.bridge.mood = Mood()
            for line in after:
                self._run(line, environment, call, settings)
        if log.exists():
            printed += log.read_bytes()
        self.heard += b'forged' in printed
        if b'please report it' in printed:
            self.foreign.append(f'{shlex.join(words)}: {printed.decode(errors="replace")}')
        return wrong_lines(printed)

    def _run(
        self, words: Sequence[str], environment: Mapping[str, str], call: Call, folder: Path
    ) -> bytes:
        (folder / 'in').write_bytes(self._place.inputs.get(call.input, b''))
        out = folder / 'out'
        with (folder / 'in').open('rb') as stdin, out.open('wb') as stdout:
            streams = (stdin.fileno(), stdout.fileno(), stdout.fileno())
            process = Forked(self._address, words, environment, streams)
            assert process.wait(PATIENCE) is not None, f'{words} does not end'
        return out.read_bytes()


def wrong_lines(printed: bytes) -> list[str]:
    """Return the lines with characters that drive a terminal, or that pass for ours."""
    text = re.sub(r'\x1b\[[0-9;]*m', '', printed.decode('utf-8', 'surrogateescape'))
    return [
        line
        for line in text.split('\n')
        if not line.isprintable() or re.match(r'\W*forged|(storj|hint): forged', line)
    ]


@contextmanager
def an_ear(network: Any, folder: Path) -> Iterator[Ear]:
    """Make what the calls need."""
    from tests.cli.conftest import ROOT, Storj

    with hostile_bridge(network.bridge_url) as bridge:
        (folder / 'data').mkdir()
        behind = BehindHostile(network, bridge.url, folder / 'data')
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(('STORJ_', 'XDG_', 'LC_'))},
            **behind.environment(),
            'HOME': str(folder),
            'PYTHONPATH': str(ROOT),
            'STORJ_CONFIG_DIR': str(folder / 'settings'),
            'LANG': 'C.UTF-8',
        }
        files = folder / 'files'
        files.mkdir()
        place = Place(Storj(dict(environment)), behind, files)
        # A file here has such a name too, as an archive may bring it.
        name = POISON.replace('\0', '').replace('/', '').encode('utf-8', 'surrogateescape')
        Path(os.fsdecode(os.fsencode(files) + b'/' + name)).write_bytes(b'x')
        with serve_control(behind), fork_server(folder, environment, hurried=True) as address:
            yield Ear(address, bridge, place, environment, folder)


@pytest.fixture(scope='module')
def ear(network, tmp_path_factory):
    with an_ear(network, tmp_path_factory.mktemp('hostile')) as made:
        yield made


@pytest.mark.parametrize('call', _OTHERS, ids=lambda call: call.words[:50])
def test_hostile_answers_drive_no_terminal(ear, call):
    moods = (
        ('words', {'texts': 1.0}),
        ('json', {'texts': 0.3}),
        ('colours', {'texts': 0.1, 'farmers': True}),
        ('traceback', {'errors': 1.0}),
        ('words', {'errors': 0.3}),
    )
    place = CALLS.index(call)
    chosen = moods[place % 5], moods[(place + 2) % 5]
    heard = {f'{form}, {mood}': ear.hear(call, form, Mood(place, **mood)) for form, mood in chosen}
    assert not {form: lines for form, lines in heard.items() if lines}


@pytest.mark.parametrize('supervised', [False, True])
def test_farmer_quotes_a_hostile_bridge_harmlessly(ear, supervised, tmp_path):
    words = [sys.executable, '-m', 'storj', 'farm', '--path', str(tmp_path), '--bridge']
    ear.bridge.mood = Mood(errors=1.0)
    printed = b''
    settings = FarmerSettings(tmp_path, ear.bridge.url)
    with subprocess.Popen(
        command_of(settings, 0) if supervised else [*words, ear.bridge.url],
        env=ear.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        while b'forged' not in printed:
            printed += process.stdout.readline()
        process.terminate()
        printed += process.stdout.read()
    assert wrong_lines(printed) == []


def test_bars_of_hostile_names_drive_no_terminal(ear, tmp_path):
    terminal = pytest.importorskip('tests.cli.terminal')
    name = POISON.replace('\0', '').replace('/', '')[:60]
    (tmp_path / name).write_bytes(os.urandom(3_000_000))
    words = [sys.executable, '-m', 'storj', 'cp', '--limit-upload', '2MB', name]
    # Only the name is hostile: an answer might end the upload before there is a bar.
    ear.bridge.mood = Mood()
    with terminal.Terminal(
        [*words, f'storj://{ear.bucket}/bars/'],
        {**ear.environment, 'TERM': 'xterm'},
        cwd=tmp_path,
        forked=True,
    ) as screen:
        screen.expect('━')
        screen.end()
    # What moves the cursor and colours is our own.
    text = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]|\r', '', screen.raw)
    assert wrong_lines(text.encode('utf-8', 'surrogateescape')) == []
    assert '\x1b[2J' not in screen.raw


def main(seconds: float) -> int:
    """Try random moods for a while and print what must not be printed."""
    from storj.network import Network

    end, seed, wrong = time.monotonic() + seconds, 0, 0
    with (
        tempfile.TemporaryDirectory() as name,
        Network(farmers=6, bridge={'audit_interval': 0, 'mirrors': 0}) as network,
        an_ear(network, Path(name)) as ear,
    ):
        while time.monotonic() < end:
            seed += 1
            mood = Mood(seed)
            call, form = mood.choose.choice(_OTHERS), mood.choose.choice(list(FORMS))
            mood.texts = mood.choose.choice((0, 0.02, 0.1, 0.5, 1))
            mood.errors = mood.choose.choice((0, 0, 0.1, 0.5))
            mood.farmers = mood.choose.random() < 0.3
            lines = ear.hear(call, form, mood)
            wrong += bool(lines)
            if lines:
                print(seed, call.words, form, vars(mood), *map(ascii, lines[:3]), sep='\n   ')
    print(f'{seed} runs, {ear.heard} quoted the poison, {wrong} as it is')
    print(*ear.foreign, sep='\n\n')
    return bool(wrong or ear.foreign)


if __name__ == '__main__':
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60))
