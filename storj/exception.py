"""Storj exception module: every error that the package raises, and what a person can do about it.

::

    StorjError
    ├─ ClientError                          our side: settings, credentials, keys, the way there
    │   ├─ ConfigurationError
    │   │   └─ NetworkSetupError            the local network's own settings
    │   ├─ MnemonicError
    │   ├─ NetworkNotAnswering              it runs, but does not answer
    │   ├─ NetworkNotRunning                none of this user's runs on a folder
    │   ├─ ResourceError                    this machine: disk, open files, memory, threads
    │   ├─ AmbiguousNameError
    │   ├─ ShardingException
    │   └─ BridgeUnreachableError *
    ├─ StorjBridgeApiError (= BridgeError)  the bridge said no
    │   ├─ AuthenticationError
    │   ├─ NotFoundError
    │   ├─ AlreadyExistsError
    │   ├─ PaymentRequiredError
    │   ├─ RateLimitedError *
    │   └─ BridgeUnavailableError *
    ├─ FarmerError (= StorjFarmerError)     a farmer said no
    │   ├─ SuppliedTokenNotAcceptedError
    │   ├─ HashMismatchError
    │   └─ FarmerUnreachableError *
    ├─ IntegrityError                       bytes are not what was promised
    │   ├─ SourceChangedError               what is uploaded changes meanwhile
    │   └─ UnauthenticatedError             nothing proves that they are
    ├─ DecryptionError
    └─ TransferError                        a whole transfer ended
        ├─ NotEnoughFarmersError *
        ├─ NotEnoughShardsError
        ├─ TransferCancelled
        └─ ResumeMismatchError

``*`` marks the classes whose ``retryable`` is true: the same call may succeed later. The first
paragraph of a class's docstring says what happened, the rest is the advice that the command line
prints as its hint. Wrong use of the library is ``ValueError`` or ``TypeError`` and not listed here.

This module knows no other; the mapping of an HTTP answer to a class is :func:`bridge_error`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, ClassVar

__all__ = (
    'NO_FARMER',
    'AlreadyExistsError',
    'AmbiguousNameError',
    'AuthenticationError',
    'BridgeError',
    'BridgeUnavailableError',
    'BridgeUnreachableError',
    'ClientError',
    'ConfigurationError',
    'DecryptionError',
    'FarmerError',
    'FarmerUnreachableError',
    'HashMismatchError',
    'IntegrityError',
    'MnemonicError',
    'NetworkNotAnswering',
    'NetworkNotRunning',
    'NetworkSetupError',
    'NotEnoughFarmersError',
    'NotEnoughShardsError',
    'NotFoundError',
    'PaymentRequiredError',
    'RateLimitedError',
    'ResourceError',
    'ResumeMismatchError',
    'ShardingException',
    'SourceChangedError',
    'StorjBridgeApiError',
    'StorjError',
    'StorjFarmerError',
    'SuppliedTokenNotAcceptedError',
    'TransferCancelled',
    'TransferError',
    'UnauthenticatedError',
    'bridge_error',
    'contract_error',
)


class StorjError(Exception):
    """Base of every error of this package.

    Attributes:
        retryable (bool): whether the same call may succeed later without a change.
        retry_after (float | None): seconds that the other side asked to wait, if it did.
    """

    retryable: bool = False
    retry_after: float | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # By the fields: the classes' arguments are not those that pickle would call them with.
        return _restore, (type(self), self.args, vars(self))


def _restore(kind: type[StorjError], args: tuple[Any, ...], fields: dict[str, Any]) -> StorjError:
    """Return an error that comes from another process."""
    error = kind.__new__(kind, *args)
    vars(error).update(fields)
    return error


class ClientError(StorjError):
    """Something on this side is wrong.

    Check the settings, the credentials and the network connection.

    Attributes:
        message (str): what is wrong, as ``str(error)`` says it.
    """

    @property
    def message(self) -> str:
        """What is wrong, in one text."""
        return str(self)


class ConfigurationError(ClientError):
    """The configuration is missing, unreadable or incomplete.

    Run 'storj account login', or write the file that the message names.
    """


class NetworkSetupError(ConfigurationError):
    """The local network, or a farmer of it, cannot run with these settings.

    Choose another port, folder or database: the message names what is in the way.
    """


class NetworkNotRunning(ClientError):
    """No local network runs on this folder.

    Start one with 'storj network up'.
    """


class NetworkNotAnswering(ClientError):
    """A local network runs, but does not answer its commands in time.

    Try again; if it stays so, end its process.
    """


class ResourceError(ClientError):
    """This machine, or the limits of this process, do not suffice.

    Free what the message names, or raise its limit; then run the same command again.

    Args:
        message (str): what is missing, and where.
        on_disk (bool): whether it is space for a file.

    Attributes:
        on_disk (bool): as given.
    """

    def __init__(self, message: str = '', *, on_disk: bool = False) -> None:
        super().__init__(message)
        self.on_disk = on_disk


class MnemonicError(ClientError):
    """The encryption key is missing or is not a valid list of BIP39 words.

    Set STORJ_ENCRYPTION_KEY to your key, or make a new one with 'storj key generate --mnemonic'.
    """


class ShardingException(ClientError):
    """A file could not be cut into shards, or shards could not be joined to a file.

    Check that the folder exists, and the free space of its disk.

    Args:
        value (str): what failed.

    Attributes:
        value (str): as given; releases 0.2 and 0.3 had this class with it.
    """

    def __init__(self, value: str = '') -> None:
        super().__init__(value)
        self.value = value


class AmbiguousNameError(ClientError):
    """Two buckets, or two files of a bucket, have this name.

    Give the id of the one that is meant: the message has both.

    Args:
        what (str): of what kind they are, in the plural, and their name.
        ids (Sequence[str]): of all that have the name.

    Attributes:
        ids (tuple[str, ...]): as given.
    """

    def __init__(self, what: str, ids: Sequence[str] = ()) -> None:
        super().__init__(f'{what}: there are {" and ".join(ids)}')
        self.ids = tuple(ids)


class BridgeUnreachableError(ClientError):
    """No connection to the bridge, or none that answered in time.

    Check the URL in STORJ_BRIDGE; 'storj network up' runs a bridge on this machine.
    """

    retryable = True


class StorjBridgeApiError(StorjError):
    """The bridge refused a request.

    The message is the bridge's own; look up the route in the protocol reference.

    Args:
        text (str | int | None): the body of the answer, unchanged; ``str(error)`` returns it,
            because programs written for 0.1.5 parse it. A number is the HTTP status, as programs
            written for 0.3 give it: ``BridgeError(404, 'Bucket not found')``.
        code (int | str | None): HTTP status; behind a number, the message.
        message (str | None): the bridge's message; the text itself by default.
        retry_after (float | None): seconds from the ``Retry-After`` header.

    Attributes:
        code (int | None): HTTP status.
        message (str): the bridge's message.
    """

    def __init__(
        self,
        text: str | int | None = None,
        code: int | str | None = None,
        message: str | None = None,
        *,
        retry_after: float | None = None,
    ) -> None:
        if isinstance(text, int):
            text, code, message = None, text, message if code is None else str(code)
        if text is None:
            text = _coded(code, message or '')
            message = message or ''
        super().__init__(text)
        self.code: int | None = code if isinstance(code, int) else None
        self.message = text if message is None else message
        self.retry_after = retry_after


def _coded(code: object, message: str) -> str:
    """Return the text of an error that was made of a code and a message, as 0.3 showed it."""
    return message if code is None or not message else f'[{code}] {message}'


BridgeError = StorjBridgeApiError


class AuthenticationError(StorjBridgeApiError):
    """The bridge did not accept the credentials (401, 403).

    Check e-mail and password ('storj account login'); a new account must be activated first.
    """


class NotFoundError(StorjBridgeApiError):
    """The bridge knows no such bucket, file, frame, key, contact or user (404).

    List what there is with 'storj ls'.
    """


class AlreadyExistsError(StorjBridgeApiError):
    """The name or key is taken (409, or an older bridge's text for it).

    Choose another name, or remove the old one first.
    """


class PaymentRequiredError(StorjBridgeApiError):
    """The token's balance does not cover the transfer (402; MetaDisk nodes that charge).

    Redeem a promotional code ('storj metadisk token redeem'), or use a token with more balance.
    """


class RateLimitedError(StorjBridgeApiError):
    """Too many requests, or a transfer quota is used up (420, 429).

    Wait as long as ``retry_after`` says, then try again.
    """

    retryable = True


class BridgeUnavailableError(StorjBridgeApiError):
    """The bridge failed, or what answered in its place is not a bridge (5xx, no JSON).

    Try again later; if it stays, check that the URL really is a Storj bridge's.
    """

    retryable = True


class FarmerError(StorjError):
    """A farmer refused or ended a transfer.

    Another farmer is tried by itself; try again later if none is left.

    Args:
        code (int | str | None): WebSocket close code, HTTP status, or one of the codes 10002 and
            10003 that programs of the 0.3 era compare. A text is the message.
        message (str | None): the farmer's message.

    Attributes:
        code (int | None): as given, or that of the class.
        message (str): as given, empty if there is none.
    """

    SUPPLIED_TOKEN_NOT_ACCEPTED = 10002
    CALCULATED_HASH_NOT_MATCH_EXPECTED_RESULT = 10003

    CODE: ClassVar[int | None] = None

    def __init__(self, code: int | str | None = None, message: str | None = None) -> None:
        if isinstance(code, str):
            code, message = None, code
        self.code = self.CODE if code is None else code
        self.message = message or ''
        super().__init__(_coded(self.code, self.message) or f'farmer error {self.code}')


StorjFarmerError = FarmerError


class SuppliedTokenNotAcceptedError(FarmerError):
    """The farmer does not accept the token: used, expired, or for another shard.

    A new pointer from the bridge brings a new token; transfers fetch one by themselves.
    """

    CODE = FarmerError.SUPPLIED_TOKEN_NOT_ACCEPTED


class HashMismatchError(FarmerError):
    """The farmer received other bytes than the contract names.

    The data changed on the way or at its source; transfers send it again to another farmer.
    """

    CODE = FarmerError.CALCULATED_HASH_NOT_MATCH_EXPECTED_RESULT


class FarmerUnreachableError(FarmerError):
    """No connection to the farmer, it went away, or it is too slow.

    Another farmer is tried by itself; try again later if none is left.
    """

    retryable = True


class IntegrityError(StorjError):
    """Received bytes do not have the hash, the length or the HMAC that was promised.

    Nothing was written under the final name; download again, from other farmers if possible.
    """


class SourceChangedError(IntegrityError):
    """The source of an upload changed while it was read, so nothing was stored.

    Upload it when nothing writes to it; 'cat FILE | storj cp - storj://BUCKET/NAME' stores a file
    that grows as long as it is at that moment.
    """


class UnauthenticatedError(IntegrityError):
    """Nothing proves that a stored file is what was stored under the caller's key.

    Fetch its bytes as they are stored with ``decrypt=False`` (``--plain``), if they need no proof.
    """


class DecryptionError(StorjError):
    """The encryption key does not fit this file or name.

    Check STORJ_ENCRYPTION_KEY: the file was stored with another key.
    """


class TransferError(StorjError):
    """An upload or download ended without success.

    The causes are listed; run the same command again to resume.

    Args:
        message (str): what ended, and why in one sentence.
        causes (Sequence[BaseException]): every failure on the way, oldest first.

    Attributes:
        causes (tuple[BaseException, ...]): as given.
    """

    def __init__(self, message: str = '', causes: Sequence[BaseException] = ()) -> None:
        super().__init__(message)
        self.causes = tuple(causes)


class _NotEnoughError(TransferError):
    """There are fewer of something than are needed."""

    def __init__(
        self, message: str, have: int, need: int, causes: Sequence[BaseException] = ()
    ) -> None:
        super().__init__(message, causes)
        self.have = have
        self.need = need


class NotEnoughFarmersError(_NotEnoughError):
    """Too few farmers are left that take a shard.

    Wait until farmers are back, or start more of them ('storj network up --farmers N').

    Attributes:
        have (int): farmers that took a shard.
        need (int): farmers that are needed.
    """

    retryable = True


class NotEnoughShardsError(_NotEnoughError):
    """More shards are missing than the parity shards can replace.

    The file cannot be recovered now; it can be once enough of its farmers are back.

    Attributes:
        have (int): shards, of data and parity, that are available.
        need (int): shards that are needed.
    """


class TransferCancelled(TransferError):
    """The transfer was cancelled.

    Run the same command again to resume.
    """


class ResumeMismatchError(TransferError):
    """The upload that was interrupted was begun with another encryption key.

    Check STORJ_ENCRYPTION_KEY, or start afresh with '--no-resume'.
    """


#: What bridges say when every farmer that was not excluded refused a contract, or did not answer.
NO_FARMER = re.compile(
    r'ESOCKETTIMEDOUT|^Could not locate farmers|^Unable to get offer|[Tt]imed out'
    r'|^Failed to complete work'
)

#: Texts of the bridge that say more than the status beside them (protocol reference, sections 10.2
#: and 10.3): each a pattern and the class it stands for. The first match wins.
_TELLING_TEXTS: tuple[tuple[re.Pattern[str], type[StorjBridgeApiError]], ...] = (
    # A used, expired or missing x-token is a 500 in every release.
    (re.compile(r'^Invalid or expired token$'), AuthenticationError),
    # A bucket's name is a 500 before 7.6, a key or an e-mail a 400 in all.
    (
        re.compile(r'^(Name already used|(Email|Public key) is already registered)'),
        AlreadyExistsError,
    ),
    # The database's own text for an entry of the same name (5.13 and later), or a nonce used
    # twice (as shipped from 0.8 on).
    (re.compile(r'E11000 .*nonce', re.IGNORECASE | re.DOTALL), AuthenticationError),
    (re.compile(r'E11000 '), AlreadyExistsError),
    (re.compile(r'^Invalid nonce supplied$'), AuthenticationError),
    # The pages of bridges 1.0 to 2.2.0 have the status 500 whatever they say.
    (re.compile(r'^(Not authorized|User is not activated|Forbidden)\b'), AuthenticationError),
    (re.compile(r'^(Bucket|Contact|File|Frame|Public key|User) (was )?not found$'), NotFoundError),
    # Codes above 500 arrive as 400, so these are a 503 in truth: no farmer answered in time, or
    # the process behind the bridge that talks to farmers cannot be reached.
    (NO_FARMER, BridgeUnavailableError),
    (
        re.compile(r'^(connect|read|write|getaddrinfo) E[A-Z_]+\b|^socket hang up'),
        BridgeUnavailableError,
    ),
)

#: What bridges say of a request for a contract that is wrong in itself, whatever the status
#: (protocol reference, section 3.8).
_CONTRACT_COMPLAINTS = re.compile(
    r'^(?:'
    r'Invalid (?:index|size|challenges|tree|exclude|contract specification|shard sizes)\b'
    r'|Not enough challenges supplied'
    r'|Challenges and tree do not match'
    r'|Hash is expected to be supplied'
    r'|Maximum (?:blacklist length|shard size)'
    r'|Frame is already locked'
    r'|Cast to ObjectId failed'
    r'|URL is malformed'
    r')'
)

_BY_STATUS: Mapping[int, type[StorjBridgeApiError]] = {
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: AuthenticationError,
    404: NotFoundError,
    409: AlreadyExistsError,
    420: RateLimitedError,
    429: RateLimitedError,
    # No space left, which a repetition does not make.
    507: StorjBridgeApiError,
}

# Longer bodies are error pages; what a person needs stands at the beginning. The patterns that
# look for it take time that grows with the square of the length.
_MESSAGE_LIMIT = 500
_PAGE_LIMIT = 4096


def bridge_error(
    status: int, body: str, headers: Mapping[str, str] | None = None
) -> StorjBridgeApiError:
    """Turn an answer of the bridge that means failure into the error to raise.

    Args:
        status (int): HTTP status; below 400 for an answer that is no JSON where JSON must be.
        body (str): the whole text of the answer.
        headers (Mapping[str, str] | None): its headers, for ``Retry-After``.

    Returns:
        StorjBridgeApiError: of the most specific class; its text is the body.
    """
    message = _message(status, body)
    kind = next((kind for pattern, kind in _TELLING_TEXTS if pattern.search(message)), None)
    if kind is None:
        kind = _BY_STATUS.get(status)
    if kind is None:
        refused = 400 <= status < 500
        kind = StorjBridgeApiError if refused else BridgeUnavailableError
    return kind(body, status, message, retry_after=_retry_after(headers))


def contract_error(error: StorjBridgeApiError) -> StorjBridgeApiError:
    """Return the error that the refusal of a contract (``PUT /frames/{frame}``) stands for.

    Original bridges pass on what the processes behind them say, and turn every status over 500 into
    400 (protocol reference, section 10.2). So a 400 means "unavailable, try again" unless its text
    is one of the known complaints about the request, and a 500 with such a text does not.

    Args:
        error (StorjBridgeApiError): of :func:`bridge_error`.

    Returns:
        StorjBridgeApiError: the same error, or one of another class with the same content.
    """
    kind: type[StorjBridgeApiError] = type(error)
    if _CONTRACT_COMPLAINTS.search(error.message):
        kind = StorjBridgeApiError
    elif error.code == 400 and kind in (StorjBridgeApiError, AlreadyExistsError):
        kind = BridgeUnavailableError
    if kind is type(error):
        return error
    return kind(str(error), error.code, error.message, retry_after=error.retry_after)


def _message(status: int, body: str) -> str:
    """Return the bridge's message, from JSON, from an HTML error page, or as it stands."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        text = _page_text(body[:_PAGE_LIMIT])
    else:
        error = answer.get('error') if isinstance(answer, dict) else None
        if isinstance(error, dict):
            error = error.get('message')
        text = error if isinstance(error, str) else body
    text = ' '.join(text[: 4 * _MESSAGE_LIMIT].split())[:_MESSAGE_LIMIT]
    return text or f'the bridge answered with status {status} and no text'


def _page_text(body: str) -> str:
    """Return the message of an HTML error page, without the name of a class and its stack.

    Bridges 1.0 to 4.2 answer with the web framework's page (protocol reference, section 2.5)::

        <title>Error</title> <pre>Error: Bucket not found<br> &nbsp; at next (/app/...)</pre>
    """
    # Imported here: a program that meets no such page is the faster for it.
    import html

    for tag in ('pre', 'h1', 'title'):
        page = re.search(rf'<{tag}>(.*?)(?:</{tag}>|\Z)', body, re.IGNORECASE | re.DOTALL)
        if page is not None:
            said = re.split(r'<br\b|\n\s*at\s', page.group(1), maxsplit=1, flags=re.IGNORECASE)[0]
            said = html.unescape(re.sub(r'<[^>]*>', ' ', said))
            return re.sub(r'\A\s*\w*Error: ', '', said)
    return re.sub(r'<[^>]*>', ' ', body)


def _retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Return the seconds of ``Retry-After``: a number, with a fraction at bridges, or a date.

    A date is compared with that of the answer (RFC 9110, section 10.2.3), so that a clock that is
    wrong here makes no wait too long.
    """
    given = headers or {}
    value = given.get('Retry-After', '')
    try:
        seconds = float(value)
    except ValueError:
        moment = _http_date(value)
        if moment is None:
            return None
        now = _http_date(given.get('Date', '')) or datetime.now(timezone.utc)
        seconds = max(0.0, (moment - now).total_seconds())
    return seconds if 0 <= seconds < float('inf') else None


def _http_date(text: str) -> datetime | None:
    """Read a date of HTTP in any of its three forms; all are of UTC."""
    # Imported here: few programs meet a date.
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
