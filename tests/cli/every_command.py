"""One way to call every command of the program, and what has to be there before.

Words in braces stand for what :func:`prepare` makes (``{bucket}``, ``{file}``, ``{link}``, ...) and
for ``{new}``, which is another name each time.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import select
import shlex
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import click

from storj.cli.app import app
from storj.crypto import mnemonic

#: Bytes of the file that is stored: more than a pipe holds.
SIZE = 200_000


@dataclass(frozen=True)
class Call:
    """A command line.

    Attributes:
        words (str): of it, without the name of the program.
        before (tuple[str, ...]): command lines that have to succeed before.
        after (tuple[str, ...]): command lines that end what the call may have left running.
        input (str): for standard input, a name of :func:`prepare`; empty for none.
        lasts (bool): whether it runs until it is stopped.
        slow (bool): whether it starts or copies a network.
        exact (bool): whether it prints the same bytes each time.
        environment (Mapping[str, str]): of it.
    """

    words: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    input: str = ''
    lasts: bool = False
    slow: bool = False
    exact: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


def walk(
    command: click.Command, context: click.Context | None = None, path: str = 'storj'
) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below one, with the words that call it; the groups as well."""
    context = _context(command, path, context)
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from walk(found, context, f'{path} {name}')


def _context(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    """Return a context of a command that is not run."""
    return click.Context(command, parent, name, **command.context_settings)


def environment_variables(command: click.Command) -> set[str]:
    """Return the variables that the options of a command and of all below it read."""
    return {
        variable
        for path, found in walk(command)
        for param in found.get_params(_context(found, path))
        for variable in ([param.envvar] if isinstance(param.envvar, str) else param.envvar or ())
    }


#: Every command, by the words that call it.
COMMANDS = frozenset(path for path, it in walk(app) if not isinstance(it, click.Group))

_COPY = 'cp {folder}/a storj://{bucket}/{new}'

CALLS = (
    Call('cp {folder}/a storj://{bucket}/{new}'),
    Call('cp - storj://{bucket}/{new}', input='words'),
    Call('cp storj://{bucket}/a -', exact=True),
    Call('cp --dry-run -r {folder} storj://{bucket}/{new}/'),
    Call('cp {link} {folder}/{new}'),
    Call('mv {folder}/{new} storj://{bucket}/{new}', ('cp storj://{bucket}/a {folder}/{new}',)),
    Call('ls'),
    Call('ls storj://{bucket}'),
    Call('tree storj://{bucket}'),
    Call('find storj://{bucket}'),
    Call('stat storj://{bucket}/a'),
    Call('du storj://{bucket}'),
    Call('rm --yes storj://{bucket}/{new}', (_COPY,)),
    Call('cat storj://{bucket}/a', exact=True),
    Call('sync {folder} storj://{bucket}/{new}/'),
    Call('check -q --one-way {folder} storj://{bucket} --include a'),
    Call('mb {new}'),
    Call('rb --yes {new}', ('mb {new}',)),
    Call('share storj://{bucket}/a'),
    Call('account activate ' + '0' * 64),
    Call('account delete --token ' + '0' * 64),
    Call('account login --password-file -', input='password'),
    Call('account logout'),
    Call('account register --email {new}@example.org --password-file -', input='password'),
    Call('account reset-password --email {email}'),
    Call('bucket create {new}'),
    Call('bucket delete --yes {new}', ('mb {new}',)),
    Call('bucket get {bucket}'),
    Call('bucket list'),
    Call('file download {bucket} a {folder}/{new}'),
    Call('file info {bucket} a'),
    Call('file list {bucket}'),
    Call('file mirrors {bucket} a'),
    Call('file remove --yes {bucket} {new}', (_COPY,)),
    Call('file upload {bucket} {folder}/a --name {new}'),
    Call('file verify {bucket} a'),
    Call('key delete --yes 02' + 'a' * 64),
    Call('key export --mnemonic'),
    Call('key generate --mnemonic'),
    Call('key list'),
    Call('key load --mnemonic-file -', input='words', environment={'STORJ_ENCRYPTION_KEY': ''}),
    Call('key register', ('key generate',)),
    Call('config get bridge'),
    Call('config path'),
    Call('config profiles', ('config set proxy http://127.0.0.1:1',)),
    Call('config set bridge http://127.0.0.1:1'),
    Call('config list'),
    Call('config list --sources'),
    Call('config unset bridge'),
    Call(
        'network down --data {own}',
        ('network up --detach --port 0 --farmers 0 --data {own}',),
        after=('network down --data {own}',),
        slow=True,
    ),
    Call('network backup {folder}/{new} --data {data}', slow=True),
    Call(
        'network restore {folder}/{new} --data {own}',
        ('network backup {folder}/{new} --data {data}',),
        slow=True,
    ),
    Call('network env --data {data}'),
    Call('network farmers --data {data}'),
    Call('network faults --data {data}'),
    Call('network status --data {data}'),
    Call('network up --port 0 --farmers 1 --data {own}', lasts=True, slow=True),
    Call('metadisk download {reference} -', exact=True),
    Call('metadisk download {reference} {folder}/{new}'),
    Call('metadisk find {filehash}'),
    Call('metadisk status'),
    Call('metadisk token balance --token {token}'),
    Call('metadisk token new'),
    Call('metadisk token prices'),
    Call('metadisk token redeem NOTHING --token {token}'),
    Call('metadisk upload -', input='words'),
    Call('transfer clean'),
    Call('transfer list'),
    Call('completion bash', exact=True),
    Call('farm --path {folder}/{new} --size 1MB --no-page', lasts=True, slow=True),
    Call('serve s3 --port 0 --data {folder}/{new}', lasts=True, slow=True),
    Call('info'),
    Call('doctor'),
    Call('help network up', exact=True),
    Call('help paths'),
    Call('share --url storj://{bucket}/a'),
    Call('demo {folder}/a --farmers 4', slow=True),
    Call('--help', exact=True),
    Call('cp --help', exact=True),
    Call('--version', exact=True),
    Call('bogus'),
    Call(
        'bridge --port 0 --database sqlite:///{folder}/{new}.db --mirrors 0', lasts=True, slow=True
    ),
    Call('bridge migrate --database sqlite:///{folder}/{new}.db'),
)


def missing() -> set[str]:
    """Return the commands that none of the calls is of."""
    lines = [f'storj {call.words} ' for call in CALLS]
    return {path for path in COMMANDS if not any(line.startswith(f'{path} ') for line in lines)}


class Lines(NamedTuple):
    """The command lines of a call: those before, its own, and those after."""

    before: list[list[str]]
    own: list[str]
    after: list[list[str]]


class Place:
    """What the calls work on: a bucket with a file, a folder, a link, a MetaDisk reference.

    Args:
        storj (Callable[..., Any]): runs a command, and returns what it did.
        network (Any): that is running.
        folder (Path): for local files.
        bucket (str): how the name of the bucket to make begins; each place makes one of its own.
    """

    def __init__(
        self,
        storj: Callable[..., Any],
        network: Any,
        folder: Path,
        bucket: str = 'everything',
    ) -> None:
        bucket = f'{bucket}-{secrets.token_hex(4)}'
        self.prefix = 'new'
        self._numbers = itertools.count()
        self.inputs = {
            'words': f'{mnemonic.generate()}\n'.encode(),
            'password': f'{network.password}\n'.encode(),
        }
        (folder / 'a').write_bytes(os.urandom(SIZE))
        self.names = {
            'bucket': bucket,
            'folder': str(folder),
            'data': str(network.data),
            'email': network.email,
        }
        storj('mb', bucket)
        storj('cp', folder / 'a', f'storj://{bucket}/a')
        link = storj('share', '--with-key', '--uses', '40', f'storj://{bucket}/a')
        self.names['link'] = link.out.strip()
        self.names['reference'] = storj('metadisk', 'upload', folder / 'a').out.strip()
        self.names['filehash'] = self.names['reference'].partition('?')[0]
        self.names['token'] = storj('metadisk', 'token', 'new').out.strip()
        self._folder = folder

    def lines(self, call: Call) -> Lines:
        """Return the command lines of a call."""
        name = f'{self.prefix}-{next(self._numbers)}'
        names = {**self.names, 'new': name, 'own': str(self._folder.parent / name)}

        def line(words: str) -> list[str]:
            return [word.format(**names) for word in shlex.split(words)]

        before, after = ([line(words) for words in each] for each in (call.before, call.after))
        return Lines(before, line(call.words), after)


class Forked:
    """A process that a server forks (see :mod:`tests.cli.forked`)."""

    def __init__(
        self,
        address: Path,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        streams: Sequence[int | None],
    ) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(address))
        with Path(os.devnull).open('r+b') as nothing:
            numbers = [nothing.fileno() if it is None else it for it in streams]
            socket.send_fds(self._socket, [b'!'], numbers)
        closed = [number for number, it in enumerate(streams) if it is None]
        unbuffered = 'PYTHONUNBUFFERED' in environment
        request = ['main', arguments, str(Path.cwd()), environment, closed, unbuffered]
        self._socket.sendall(json.dumps(request).encode() + b'\n')
        self._answers = self._socket.makefile('rb')
        self.pid = int(self._answers.readline())

    def wait(self, timeout: float) -> int | None:
        """Return the exit code, None if there is none in time."""
        if not select.select([self._socket], [], [], timeout)[0]:
            return None
        with self._answers, self._socket:
            return int(self._answers.readline())
