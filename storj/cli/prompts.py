"""Questions at the terminal, and secrets from files and the system's key store.

Nothing is asked unless both standard input and standard error are terminals; without them the
command is refused. Secrets are never arguments: every user of the machine can see those.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import click

from storj.catalog.errors import UsageProblem
from storj.cli.errors import CommandError
from storj.cli.output import is_terminal
from storj.cli.streams import standard_input
from storj.text import count_of, printable

#: Name of this program in the system's key store (extra ``keyring``).
_SERVICE = 'storj'

#: Bytes of the longest password or encryption key that is read from a file.
SECRET_LIMIT = 64 * 1024
#: Bytes of a line, with its end, that a terminal of Linux passes on; the rest is lost.
TYPED_LIMIT = 4095


def interactive() -> bool:
    """Return whether a person can answer."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed.

    Args:
        question (str): without the question mark, with counts.
        yes (bool): ``-y`` was typed.

    Raises:
        UsageProblem: If the answer is no, or there is nobody to ask.
    """
    if yes:
        return
    if not interactive():
        raise UsageProblem(f'refused: {question} needs an answer', hint="use '--yes' to do it")
    # Not click.confirm, for the reason in _line.
    while (answer := _line(f'{question}? [y/N]: ').lower()) not in ('y', 'yes'):
        if answer in ('', 'n', 'no'):
            raise UsageProblem('refused: nothing was done', hint='')


def ask(question: str, *, option: str) -> str:
    """Ask for a text.

    Args:
        question (str): what is wanted.
        option (str): how it is given where nobody can be asked.

    Raises:
        UsageProblem: If there is nobody to ask.
    """
    if not interactive():
        raise UsageProblem(f'{question.lower()} missing', hint=f'give it with {option}')
    while not (answer := _line(f'{question}: ')):
        pass
    return answer


def ask_secret(question: str, *, option: str, twice: bool = False) -> str:
    """Ask for a secret without showing it.

    Args:
        question (str): what is wanted.
        option (str): how it is given where nobody can be asked.
        twice (bool): ask again, for a secret that is new.

    Raises:
        UsageProblem: If there is nobody to ask.
    """
    if not interactive():
        raise UsageProblem(f'{question.lower()} missing', hint=f'give it with {option}')
    try:
        answer: str = click.prompt(question, hide_input=True, confirmation_prompt=twice, err=True)
    except UnicodeError:
        # Without the cause, which quotes what was typed.
        raise UsageProblem(
            f'the {question.lower()} is not text in the encoding of this system',
            hint=f'give it in UTF-8 with {option}',
        ) from None
    if len(answer.encode('utf-8', 'surrogatepass')) >= TYPED_LIMIT:
        raise UsageProblem(
            f'a terminal passes on {TYPED_LIMIT - 1} bytes at most', hint=f'use {option}'
        )
    return answer


def _line(prompt: str) -> str:
    """Show a prompt and return what is typed, without the blanks around it.

    ``input``, which click asks with, writes the prompt and waits for the line in one call into C:
    a Ctrl-C that comes between the two waits there until the line is typed.

    Raises:
        click.Abort: If the input ended.
        UsageProblem: If it is not UTF-8.
    """
    sys.stderr.write(printable(prompt))
    sys.stderr.flush()
    line = standard_input().readline()
    if not line:
        raise click.Abort
    return _decoded(line, 'the answer').strip()


def read_secret_file(path: str, *, what: str = 'secret', limit: int = SECRET_LIMIT) -> str:
    """Return the secret in the first line of a file, or of standard input for ``-``.

    Args:
        path (str): of the file, in UTF-8.
        what (str): kind of secret, for the message.
        limit (int): bytes of the longest.

    Raises:
        UsageProblem: If there is none, it is longer, or no text.
    """
    place = 'standard input' if path == '-' else path
    if path == '-':
        line = standard_input().readline(limit + 3)
    else:
        with Path(path).open('rb') as file:
            line = file.readline(limit + 3)
    line = line.rstrip(b'\r\n')
    if not line:
        raise UsageProblem(f'no {what} in the first line of {place}')
    if len(line) > limit:
        raise UsageProblem(f'the first line of {place} is longer than {count_of(limit, "byte")}')
    return _decoded(line, f'the first line of {place}')


def _decoded(line: bytes, what: str) -> str:
    try:
        return line.decode('utf-8-sig')
    except UnicodeDecodeError:
        # Without the cause, which quotes the secret.
        raise UsageProblem(f'{what} is not UTF-8 text', hint='') from None


def _module() -> Any:
    """Return the package keyring; without it nothing is found, and only keeping a secret fails."""
    try:
        return importlib.import_module('keyring')
    except ImportError:
        return None


def _user(bridge: str, email: str, kind: str) -> str:
    return f'{kind} of {email} at {bridge}'


def find_secret(bridge: str, email: str, kind: str) -> str | None:
    """Return a secret, None if there is none.

    Args:
        bridge (str): URL.
        email (str): of the account.
        kind (str): ``password`` or ``mnemonic``.
    """
    keyring = _module()
    if keyring is None:
        return None
    try:
        secret: str | None = keyring.get_password(_SERVICE, _user(bridge, email, kind))
    except keyring.errors.KeyringError:
        return None
    return secret


def keep_secret(bridge: str, email: str, kind: str, secret: str) -> None:
    """Keep a secret; arguments as :func:`find_secret`.

    Raises:
        CommandError: If the package is not installed, or there is no key store.
    """
    keyring = _module()
    if keyring is None:
        raise CommandError(
            "the package 'keyring' is not installed", hint='pip install "storj[keyring]"'
        )
    try:
        keyring.set_password(_SERVICE, _user(bridge, email, kind), secret)
    except keyring.errors.KeyringError as error:
        raise CommandError(f'the key store refused: {error}', hint='leave out --keyring') from error


def forget_secret(bridge: str, email: str, kind: str) -> None:
    """Remove a secret if there is one; arguments as :func:`find_secret`."""
    keyring = _module()
    if keyring is None:
        return
    try:
        keyring.delete_password(_SERVICE, _user(bridge, email, kind))
    except keyring.errors.KeyringError:
        return
