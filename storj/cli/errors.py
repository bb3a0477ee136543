"""How failures are reported and the process ends: one table from errors to exit codes and hints.

The codes are a promise to scripts (``docs/command-line.rst`` lists them). The most specific class
of an error's ancestry decides. A hint is the advice in the docstring of the class, unless the table
or the error itself knows better.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import click

from storj import exception
from storj.catalog.errors import (
    BucketNotFound,
    CatalogError,
    ConflictError,
    FileNotFound,
    LocalPathNotFound,
    SourceKept,
    UsageProblem,
)
from storj.text import masked

OK = 0
FAILED = 1
USAGE = 2
PARTLY = 3
LOGIN = 4
NOT_FOUND = 5
UNAVAILABLE = 6
INTEGRITY = 7
NOT_ENOUGH = 8
CONFLICT = 9
INTERRUPTED = 130
TERMINATED = 143


class CommandError(CatalogError):
    """A command could not do what it was asked."""


class NotLoggedIn(CommandError):
    """No account is known for this bridge.

    Run 'storj account login', or set STORJ_BRIDGE_USER and STORJ_BRIDGE_PASS.
    """


class NothingConfigured(NotLoggedIn):
    """Neither a bridge nor an account is known, and no network of this user is running.

    Run 'storj network up --detach' for a network on this machine; for another bridge set
    STORJ_BRIDGE and run 'storj account login'.
    """


class PartialFailure(CommandError):
    """Some files failed or were skipped; the others are done.

    Run the same command again: what is done is not done twice.

    Args:
        message (str): how many.
        exit_code (int): of the process; another one when no file succeeded.
        hint (str | None): what to do next; the class's own advice by default.
    """

    def __init__(self, message: str, *, exit_code: int = PARTLY, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived; transfers are stopped as after Ctrl-C."""


class Verdict(NamedTuple):
    """What one class of errors means for the process.

    Attributes:
        exit_code (int): of the process.
        libstorj_code (int | None): the number that libstorj gives to the same failure.
        hint (str | None): overrides the advice of the class; ``''`` for none.
    """

    exit_code: int
    libstorj_code: int | None = None
    hint: str | None = None


#: What each exit code means.
EXIT_CODES: dict[int, str] = {
    OK: 'done, or nothing to do',
    FAILED: 'failed, for none of the reasons below',
    USAGE: 'wrong usage, or a question that was not answered with yes',
    PARTLY: 'partly done: some files failed or were skipped',
    LOGIN: 'login or encryption key missing or refused',
    NOT_FOUND: 'bucket, file or local path not found',
    UNAVAILABLE: 'bridge or farmers unreachable; try again later',
    INTEGRITY: 'a hash, HMAC or decryption failed',
    NOT_ENOUGH: 'not enough farmers or shards',
    CONFLICT: 'it exists already, or a limit is reached',
    INTERRUPTED: 'interrupted',
    TERMINATED: 'terminated',
}

VERDICTS: dict[type[BaseException], Verdict] = {
    exception.StorjError: Verdict(FAILED),
    exception.ConfigurationError: Verdict(LOGIN),
    exception.NetworkSetupError: Verdict(FAILED),
    exception.NetworkNotAnswering: Verdict(UNAVAILABLE),
    exception.NetworkNotRunning: Verdict(UNAVAILABLE),
    exception.MnemonicError: Verdict(LOGIN, 3002),
    exception.AmbiguousNameError: Verdict(CONFLICT),
    exception.BridgeUnreachableError: Verdict(UNAVAILABLE, 1000),
    exception.StorjBridgeApiError: Verdict(FAILED, 1000, ''),
    exception.AuthenticationError: Verdict(LOGIN, 1001),
    exception.NotFoundError: Verdict(NOT_FOUND, 1007),
    exception.AlreadyExistsError: Verdict(CONFLICT, 1013),
    exception.PaymentRequiredError: Verdict(CONFLICT),
    exception.RateLimitedError: Verdict(CONFLICT, 1005, 'wait a while, then try again'),
    exception.BridgeUnavailableError: Verdict(UNAVAILABLE, 1004),
    exception.FarmerError: Verdict(UNAVAILABLE, 2000),
    exception.SuppliedTokenNotAcceptedError: Verdict(UNAVAILABLE, 2002),
    exception.HashMismatchError: Verdict(INTEGRITY, 2004),
    exception.FarmerUnreachableError: Verdict(UNAVAILABLE, 2001),
    exception.IntegrityError: Verdict(INTEGRITY, 3000),
    # Its message has the advice.
    exception.UnauthenticatedError: Verdict(INTEGRITY, 3000, ''),
    exception.DecryptionError: Verdict(INTEGRITY, 3004),
    exception.TransferError: Verdict(FAILED),
    exception.NotEnoughFarmersError: Verdict(NOT_ENOUGH, 1014),
    exception.NotEnoughShardsError: Verdict(NOT_ENOUGH, 3007),
    exception.TransferCancelled: Verdict(INTERRUPTED, 1),
    exception.ResumeMismatchError: Verdict(CONFLICT),
    UsageProblem: Verdict(USAGE),
    PartialFailure: Verdict(PARTLY),
    SourceKept: Verdict(PARTLY),
    NotLoggedIn: Verdict(LOGIN, 1001),
    BucketNotFound: Verdict(NOT_FOUND, 1006),
    FileNotFound: Verdict(NOT_FOUND, 1007),
    LocalPathNotFound: Verdict(NOT_FOUND, 3006),
    ConflictError: Verdict(CONFLICT, 1013),
    OSError: Verdict(FAILED, None, ''),
    FileNotFoundError: Verdict(NOT_FOUND, 3006, ''),
    FileExistsError: Verdict(CONFLICT, 3001, "use '--overwrite' to replace it"),
    ValueError: Verdict(USAGE, None, ''),
    click.ClickException: Verdict(FAILED, None, ''),
    click.UsageError: Verdict(USAGE, None, ''),
    click.Abort: Verdict(USAGE, None, 'nothing was done'),
    KeyboardInterrupt: Verdict(INTERRUPTED, 1, ''),
    Terminated: Verdict(TERMINATED, 1, ''),
    Exception: Verdict(FAILED, None, "'-vv' shows where it happened; please report it"),
}


@dataclass(frozen=True)
class Report:
    """The report of an error, for people and scripts.

    Attributes:
        name (str): of the class.
        message (str): what happened, on one line.
        hint (str): what to do next, on one line; empty for none.
        exit_code (int): of the process.
        code (int | None): HTTP status, or the farmer's code.
        libstorj_code (int | None): libstorj's number for it.
        retryable (bool): whether the same command may succeed later.
    """

    name: str
    message: str
    hint: str
    exit_code: int
    code: int | None = None
    libstorj_code: int | None = None
    retryable: bool = False

    def lines(self) -> list[str]:
        """Return what a person reads."""
        code = '' if self.code is None else f' ({self.code})'
        lines = [f'storj: {self.message}{code}']
        if self.hint:
            lines.append(f'hint: {self.hint}')
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints on the last line of standard error."""
        record = {
            'type': 'error',
            'error': self.name,
            'message': self.message,
            'exit_code': self.exit_code,
            'retryable': self.retryable,
            'hint': self.hint or None,
            'code': self.code,
            'libstorj_code': self.libstorj_code,
        }
        return {name: value for name, value in record.items() if value is not None}


def explain(error: BaseException) -> Report:
    """Return the report of an error, with the exit code of the process.

    A transfer that ended without a class of its own is explained by the last of its causes.
    """
    verdict = _verdict(error)
    code = getattr(error, 'code', None)
    if type(error) is exception.TransferError and error.causes:
        cause = explain(error.causes[-1])
        verdict = Verdict(cause.exit_code, cause.libstorj_code, cause.hint)
        code = cause.code
    hint = getattr(error, 'hint', None)
    if hint is None:
        hint = _advice(type(error)) if verdict.hint is None else verdict.hint
    return Report(
        name=type(error).__name__,
        message=_message(error),
        hint=hint,
        exit_code=getattr(error, 'exit_code', verdict.exit_code),
        code=code if isinstance(code, int) else None,
        libstorj_code=verdict.libstorj_code,
        retryable=bool(getattr(error, 'retryable', False)),
    )


def worst(codes: Sequence[int]) -> int:
    """Return how a command over several files ends when none of them succeeded.

    Returns:
        int: the code that all share, else 3.
    """
    return codes[0] if codes and len(set(codes)) == 1 else PARTLY


def _verdict(error: BaseException) -> Verdict:
    for ancestor in type(error).__mro__:
        if ancestor in VERDICTS:
            return VERDICTS[ancestor]
    return Verdict(FAILED)


def _paragraphs(kind: type[BaseException]) -> list[str]:
    """Return the paragraphs of a docstring's prose, each on one line, without markup."""
    text = inspect.cleandoc(kind.__doc__ or '').replace('``', '')
    return [' '.join(paragraph.split()) for paragraph in text.split('\n\n')]


def _advice(kind: type[BaseException]) -> str:
    paragraphs = _paragraphs(kind)
    advice = paragraphs[1] if len(paragraphs) > 1 else ''
    if advice.endswith(':') or advice.startswith(('Args:', 'Attributes:')):
        return ''
    # Printed after 'hint:', so it begins in lower case and ends without a full stop.
    return advice[:1].lower() + advice[1:].removesuffix('.')


def _message(error: BaseException) -> str:
    if isinstance(error, Terminated):
        return 'terminated'
    if isinstance(error, KeyboardInterrupt):
        return 'interrupted'
    if isinstance(error, click.Abort):
        return 'no answer'
    if isinstance(error, exception.StorjBridgeApiError):
        text = error.message
    elif isinstance(error, exception.FarmerError) and error.message:
        # Its text begins with the code, which follows the message here.
        text = error.message
    elif isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f'{error.strerror}: {error.filename!s}'
    else:
        text = str(error)
    text = masked(' '.join(text.split()))
    return text or _paragraphs(type(error))[0].rstrip('.') or type(error).__name__
