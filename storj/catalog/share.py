"""Share links: a link to one file that works without the owner's login.

A link is ``storj-share:`` and a JSON object in URL-safe Base64. It carries the bridge's description
of the file (ids, size, index, HMAC), PULL tokens of its bucket, and the time at which they expire;
optionally also the key of this one file's content. The encryption key of the owner,
from which every key follows, is never in it.

The tokens are the bridge's own: each lets its holder fetch pointers once, to any file of the
bucket whose id is known; the bytes are encrypted. A bridge cannot take them back before
they expire.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from storj.api import BridgeProfile
from storj.catalog.content import POINTERS_PAGE, all_pointers
from storj.catalog.entries import BucketEntry, FileEntry
from storj.catalog.errors import CatalogError, UsageProblem
from storj.catalog.places import LINK_SCHEME, is_id
from storj.crypto import keys, mnemonic
from storj.exception import AuthenticationError, UnauthenticatedError
from storj.model import File, FilePointer, Token
from storj.text import count_of
from storj.transfer.encryption import key_of

if TYPE_CHECKING:
    from storj import http

__all__ = ('LINK_LIMIT', 'Share', 'SharedBridge', 'make_share')

_VERSION = 1
#: Characters of a link: a name of the greatest length, tokens for a file of 255 shards.
LINK_LIMIT = 256 * 1024
#: Tokens beyond those that a smooth download needs: each lost shard takes another.
_SPARE = 8
#: Between the clock here, by which ``+1h`` is read, and that of a bridge that gives just an hour.
_ROUNDING = datetime.timedelta(seconds=5)


@dataclass(frozen=True)
class Share:
    """The content of a link.

    Attributes:
        bridge (str): URL.
        bucket_id (str): 24 hex digits.
        file_id (str): 24 hex digits.
        name (str): of the file, in clear.
        size (int): bytes.
        expires (datetime.datetime): when the tokens end.
        tokens (tuple[str, ...]): PULL tokens, each good for one request.
        entry (Mapping[str, Any]): ``index``, ``hmac`` and ``erasure`` as the bridge has them.
        key (keys.ContentKey | None): of the content.
    """

    bridge: str
    bucket_id: str
    file_id: str
    name: str
    size: int
    expires: datetime.datetime
    tokens: tuple[str, ...] = field(repr=False)
    entry: Mapping[str, Any] = field(default_factory=dict)
    key: keys.ContentKey | None = None

    @property
    def file(self) -> FileEntry:
        """The file as an entry; its bucket has no name."""
        bucket = BucketEntry(self.bucket_id, '', '')
        return FileEntry(self.file_id, bucket, self.name, self.name, self.size)

    @property
    def is_expired(self) -> bool:
        """Whether the tokens have ended."""
        return self.expires <= datetime.datetime.now(datetime.timezone.utc)

    def link(self) -> str:
        """Return the link."""
        # storj-share:<Base64 for URLs, without padding, of JSON>. The order of the fields does not
        # matter; a reader refuses any version but its own.
        content = {
            'v': _VERSION,
            'bridge': self.bridge,
            'bucket': self.bucket_id,
            'file': self.file_id,
            'name': self.name,
            'size': self.size,
            'expires': int(self.expires.timestamp()),
            'tokens': list(self.tokens),
            'entry': dict(self.entry),
        }
        if self.key is not None:
            content['key'] = self.key.key.hex() + self.key.counter.hex()
        # Escapes can have a name that is no UTF-8.
        text = json.dumps(content, separators=(',', ':')).encode()
        return LINK_SCHEME + base64.urlsafe_b64encode(text).decode().rstrip('=')

    @classmethod
    def read(cls, link: str) -> Share:
        """Return the content of a link, which comes from anywhere: everything in it is checked.

        Raises:
            UsageProblem: If it is no whole link of this version.
        """
        try:
            body = link.strip().removeprefix(LINK_SCHEME)
            if len(body) > LINK_LIMIT:
                raise ValueError('too long')
            text = base64.b64decode(body + '=' * (-len(body) % 4), altchars=b'-_', validate=True)
            return cls._from_content(json.loads(text))
        except (binascii.Error, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise UsageProblem(
                'the link is damaged, or of another version', hint='copy the whole link again'
            ) from None

    @classmethod
    def _from_content(cls, content: Mapping[str, Any]) -> Share:
        bridge, name, tokens = content['bridge'], content['name'], content['tokens']
        # 32 bytes of the AES key, then the 16 bytes of its counter.
        raw = bytes.fromhex(content['key']) if 'key' in content else None
        right = (
            content['v'] == _VERSION
            and isinstance(bridge, str)
            and bridge.startswith(('http://', 'https://'))
            and is_id(content['bucket'])
            and is_id(content['file'])
            and isinstance(name, str)
            and isinstance(content['entry'], dict)
            # Not hex of a fixed length: what a token looks like is the business of its bridge.
            and all(isinstance(token, str) for token in tokens)
        )
        if not right:
            raise ValueError('not a link')
        return cls(
            bridge,
            content['bucket'],
            content['file'],
            name,
            int(content['size']),
            datetime.datetime.fromtimestamp(content['expires'], datetime.timezone.utc),
            tuple(tokens),
            content['entry'],
            None if raw is None else keys.ContentKey(raw[:32], raw[32:]),
        )


class SharedBridge:
    """A bridge as the holder of a link sees it: one file, and as many requests as tokens.

    The engine takes it in place of a client (:class:`storj.transfer.BridgeReader`).

    Args:
        client (storj.http.Client): of the link's bridge, without an account; with the encryption
            key (mnemonic) of the holder, for a link without a key.
        shared (Share): the link.

    Raises:
        MnemonicError: If the client's encryption key is none.
    """

    def __init__(self, client: http.Client, shared: Share) -> None:
        self._client = client
        self._shared = shared
        self._tokens = list(shared.tokens)
        self._lock = threading.Lock()
        if client.mnemonic is not None:
            mnemonic.check(client.mnemonic)
        self.email = None
        self.mnemonic = client.mnemonic
        self.api_url = client.api_url

    def profile(self) -> BridgeProfile:
        """Return what the bridge understands."""
        return self._client.profile()

    def token_create(self, bucket_id: str, operation: str) -> Token:
        """Return a token that gives no right, and no key of a public bucket."""
        return Token(bucket=bucket_id, operation=operation, encryptionKey='')

    def file_metadata(self, bucket_id: str, file_id: str) -> File:
        """Return the description of the file, which the link carries."""
        shared = self._shared
        return File(bucket=bucket_id, id=file_id, size=shared.size, **_known(shared.entry))

    def file_pointers(
        self,
        bucket_id: str,
        file_id: str,
        skip: int | None = None,
        limit: int | None = None,
        exclude: Sequence[str] | None = None,
    ) -> list[FilePointer]:
        """Return one page of pointers, for one of the tokens."""
        while True:
            token = self._take_token()
            try:
                return list(
                    self._client.file_pointers(
                        bucket_id, file_id, skip or 0, limit or POINTERS_PAGE, exclude, token=token
                    )
                )
            except AuthenticationError:
                # Another holder of the link has used it.
                continue

    def _take_token(self) -> str:
        with self._lock:
            if not self._tokens:
                raise AuthenticationError('', None, 'the link is used up; ask for a new one')
            return self._tokens.pop(0)

    def send_exchange_report(self, report: Any) -> None:
        """Send nothing: a report names who transferred."""


def _known(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in ('index', 'hmac', 'erasure', 'filename') if name in entry}


def make_share(
    client: http.Client,
    entry: FileEntry,
    *,
    with_key: bool = False,
    uses: int = 1,
    until: datetime.datetime | None = None,
) -> Share:
    """Return the content of a link to a file, with fresh tokens.

    Args:
        client (storj.http.Client): of the account.
        entry (FileEntry): the file.
        with_key (bool): whether the link has the key of this one file's content.
        uses (int): downloads that the link is good for, at least.
        until (datetime.datetime | None): when readers of the link are to refuse it; when its tokens
            expire by default. The tokens in it are good until then all the same.

    Raises:
        CatalogError: If the file has no key that is proved, or the bridge does not know when its
            tokens expire.
        UsageProblem: If the tokens of the bridge expire before the time asked for.
    """
    described = client.file_metadata(entry.bucket.id, entry.id)
    pointers = all_pointers(client, entry)
    key = None
    if with_key:
        hashes = [pointer['hash'] for pointer in pointers]
        try:
            key = key_of(client, entry.bucket.id, entry.id, described, hashes)
        except UnauthenticatedError as error:
            raise CatalogError(
                f'{entry} has no key that is proved by an HMAC', hint='leave out --with-key'
            ) from error
    # A reader asks until a page is empty.
    needed = (len(pointers) // POINTERS_PAGE + 2) * uses + _SPARE
    tokens = [client.token_create(entry.bucket.id, 'PULL')]
    if until is not None:
        _check_expiry(until, _expiry(tokens[0]))
    tokens += [client.token_create(entry.bucket.id, 'PULL') for _ in range(needed - 1)]
    ends = min(_expiry(token) for token in tokens)
    facts = {name: getattr(described, name, None) for name in ('index', 'hmac', 'erasure')}
    return Share(
        bridge=client.api_url,
        bucket_id=entry.bucket.id,
        file_id=entry.id,
        name=entry.name,
        size=entry.size or 0,
        expires=ends if until is None else min(ends, until),
        tokens=tuple(str(token.id) for token in tokens),
        entry={name: value for name, value in facts.items() if value is not None},
        key=key,
    )


def _expiry(token: Token) -> datetime.datetime:
    if not isinstance(token.expires, datetime.datetime):
        raise CatalogError('the bridge does not say when its tokens expire')
    return token.expires


def _check_expiry(wanted: datetime.datetime, given: datetime.datetime) -> None:
    """Raise UsageProblem if tokens of the bridge do not live as long as a link is to."""
    if wanted > given + _ROUNDING:
        life = (given - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
        raise UsageProblem(
            f'no link can work that long: the tokens of this bridge expire after '
            f'{count_of(max(0, round(life / 60)), "minute")}',
            hint='ask for a time before that, or leave out --expires',
        )
