"""One network for all tests of the command line, and commands that run against it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from storj.cli.app import app
from storj.exception import NotFoundError
from storj.http import Client
from storj.network import Network
from storj.retry import RetryPolicy

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str
    raw: bytes

    def json(self) -> Any:
        return json.loads(self.out)

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the events of some types; by default all that do not depend on the time.

        How often a command tells how far it is (``status``) depends on how busy the machine is.
        """
        events = [json.loads(line) for line in self.out.splitlines()]
        return [it for it in events if (it['type'] in kinds if kinds else it['type'] != 'status')]

    def error(self) -> dict[str, Any]:
        return json.loads(self.err.splitlines()[-1])


class Storj:
    """Runs ``storj`` in this process, with an environment of its own."""

    def __init__(
        self, environment: dict[str, str | None], command: Any = app, name: str = 'storj'
    ) -> None:
        self.environment = environment
        self._command = command
        self._name = name

    def __call__(
        self, *arguments: object, code: int | None = 0, input: str | bytes | None = None, **env: str
    ) -> Done:
        runner = CliRunner(env={**self.environment, **env})
        result = runner.invoke(
            self._command, [str(argument) for argument in arguments], input, prog_name=self._name
        )
        done = Done(result.exit_code, '', result.stderr, result.stdout_bytes)
        try:
            done = Done(result.exit_code, result.stdout, result.stderr, result.stdout_bytes)
        except UnicodeDecodeError:
            pass
        if code is not None and done.code != code:
            print(done.out, done.err)
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            pytest.fail(f'exit code {done.code} instead of {code}: {done.err or done.out}')
        return done

    def using(self, command: Any, name: str) -> Storj:
        return Storj(self.environment, command, name)


@pytest.fixture(scope='session')
def network() -> Iterator[Network]:
    with Network(farmers=6, durable=False, bridge={'audit_interval': 0, 'mirrors': 0}) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str | None]:
    """The environment of somebody who has never used the program."""
    folder = tmp_path / 'home'
    folder.mkdir()
    clean = {name: None for name in os.environ if name.startswith(('STORJ_', 'XDG_', 'LC_'))}
    return {
        **clean,
        'HOME': str(folder),
        'STORJ_CONFIG_DIR': str(folder / '.storj'),
        'XDG_STATE_HOME': str(folder / 'state'),
        'XDG_CACHE_HOME': str(folder / 'cache'),
        'XDG_DATA_HOME': str(folder / 'data'),
        'NO_COLOR': None,
        'FORCE_COLOR': None,
        'CLICOLOR_FORCE': None,
        'COLUMNS': '100',
        'LANG': 'C.UTF-8',
    }


@pytest.fixture
def stranger(home: dict[str, str | None]) -> Storj:
    """The program without an account."""
    return Storj(home)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing in this process wait before it is tried again."""
    monkeypatch.setattr(RetryPolicy, 'wait', lambda *_: 0.0)


@pytest.fixture
def storj(home: dict[str, str | None], network: Network) -> Storj:
    """The program with the account of the network."""
    return Storj({**home, **network.environment()})


@pytest.fixture(scope='module')
def account(network: Network) -> Iterator[Client]:
    """A client of the network's account."""
    with Client(
        network.email, network.password, network.bridge_url, mnemonic=network.mnemonic
    ) as client:
        yield client


@pytest.fixture
def bucket(account: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """A bucket of this test's own."""
    name = request.node.name[:60].replace('/', '-')
    made = account.bucket_create(name)
    yield name
    # A test may have removed it.
    with suppress(NotFoundError):
        account.bucket_delete(made.id)


@pytest.fixture
def program(storj: Storj) -> Any:
    """Arguments and environment to run the program as a process."""

    return _commands(storj, sys.executable, '-m', 'storj')


@pytest.fixture
def quick_program(storj: Storj, commands: Path) -> Any:
    """The same with modules that are loaded already; no terminal is that of the program."""
    return _commands(storj, commands / 'storj')


def _commands(storj: Storj, *words: object) -> Any:
    def command(*arguments: object) -> tuple[list[str], dict[str, str]]:
        environment = {
            **{k: v for k, v in os.environ.items() if k not in storj.environment},
            **{k: v for k, v in storj.environment.items() if v is not None},
            'PYTHONPATH': str(ROOT),
            'TERM': 'xterm-256color',
        }
        return [*map(str, words), *map(str, arguments)], environment

    return command
