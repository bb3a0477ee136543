"""``storj share``: a link to one file that works without the owner's login.

A link is ``storj-share:`` and a JSON object in URL-safe Base64. It carries what the bridge tells
of the file (ids, size, index, HMAC), PULL tokens of its bucket, and the time at which they expire;
with ``--with-key`` also the key of this one file's content. The words of the owner, from which
every key follows, are never in it.

The tokens are the bridge's own: each lets whoever has it fetch pointers once, to any file of the
bucket whose id he knows; the bytes he gets are encrypted. A bridge cannot take them back before
they expire.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from storj.catalog.entries import FileEntry
from storj.catalog.errors import ConflictError, UsageProblem
from storj.catalog.places import (
    LINK_SCHEME,
    Link,
    Local,
    Location,
    Stream,
    is_id,
    is_link,
    parse_remote,
    safe_relative_path,
)
from storj.catalog.tree import find_remote
from storj.cli.command import command
from storj.cli.completion import complete_uri
from storj.cli.errors import CommandError
from storj.cli.jobs import Handle, Job
from storj.cli.options import LocalPath
from storj.cli.output import human_duration
from storj.cli.prompts import read_secret_file
from storj.cli.session import Session, TransferOptions, pass_session
from storj.crypto import keys, secret_file
from storj.exception import (
    AuthenticationError,
    ConfigurationError,
    NotFoundError,
    UnauthenticatedError,
)
from storj.model import File, FilePointer, Token

if TYPE_CHECKING:
    from storj.cli.copier import CopyOptions
    from storj.http import Client

__all__ = ('Share', 'SharedBridge', 'copy_link', 'read_link', 'share')

_VERSION = 1
#: Characters of a link: a name of the greatest length, tokens for a file of 255 shards.
_LONGEST = 256 * 1024
#: Pointers that one token is used for.
_PAGE = 32
#: Tokens beyond those that a smooth download needs: each lost shard takes another.
_SPARE = 8


@dataclass(frozen=True)
class Share:
    """What a link says.

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

    def link(self) -> str:
        """Return the link."""
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
        text = json.dumps(content, separators=(',', ':'), ensure_ascii=False).encode()
        return LINK_SCHEME + base64.urlsafe_b64encode(text).decode().rstrip('=')

    @classmethod
    def read(cls, link: str) -> Share:
        """Return what a link says; it comes from anywhere, so everything in it is checked.

        Raises:
            UsageProblem: it is no whole link of this version.
        """
        try:
            body = link.strip().removeprefix(LINK_SCHEME)
            if len(body) > _LONGEST:
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
        raw = bytes.fromhex(content['key']) if 'key' in content else None
        right = (
            content['v'] == _VERSION
            and isinstance(bridge, str)
            and bridge.startswith(('http://', 'https://'))
            and is_id(content['bucket'])
            and is_id(content['file'])
            and isinstance(name, str)
            and isinstance(content['entry'], dict)
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

    It is what the engine asks in the place of a client (``storj.transfer.Bridge``).

    Args:
        client (Client): of the link's bridge, without an account.
        shared (Share): the link.
        words (str | None): the holder's own, for a link without a key.
    """

    def __init__(self, client: Client, shared: Share, words: str | None) -> None:
        self._client = client
        self._shared = shared
        self._tokens = list(shared.tokens)
        self._lock = threading.Lock()
        self.email = None
        self.mnemonic = words
        self.api_url = client.api_url

    def profile(self) -> Any:
        """Return what the bridge understands."""
        return self._client.profile()

    def bucket_get(self, bucket_id: str) -> Any:
        """Refuse: a link shows no buckets."""
        raise NotFoundError('a link shows one file')

    def token_create(self, bucket_id: str, operation: str) -> Token:
        """Return what is asked of a token beside its right: no key of a public bucket."""
        return Token(bucket=bucket_id, operation=operation, encryptionKey='')

    def contact_list(self) -> Iterator[Any]:
        """Return no farmers: nothing is uploaded."""
        return iter(())

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
                        bucket_id, file_id, skip or 0, limit or _PAGE, exclude, token=token
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


@command(
    'share',
    short_help='Make a link to a file that works without login.',
    examples=(
        'storj share storj://photos/cat.jpg              for people who have the same words',
        'storj share --with-key storj://photos/cat.jpg   for everybody who has the link',
        'storj share --link-file cat.link storj://photos/cat.jpg',
        'storj cp --link-file cat.link .                 at the other end',
    ),
)
@click.argument('uri', shell_complete=complete_uri)
@click.option('--with-key', is_flag=True, help="Put the key of this file's content in the link.")
@click.option(
    '--uses',
    type=click.IntRange(1, 100),
    metavar='N',
    default=1,
    show_default=True,
    help='Downloads that the link is good for, at least.',
)
@click.option(
    '--link-file',
    metavar='PATH',
    type=LocalPath(),
    help='Write the link to a file that only its owner can read, not to standard output.',
)
@pass_session
def share(session: Session, uri: str, with_key: bool, uses: int, link_file: str | None) -> None:
    """Make a link to one file that 'storj cp' takes without login.

    The link tells the bridge, the file's name and size, and the ids of file and bucket, and gives
    the right to fetch the encrypted bytes until it expires: minutes or an hour, as the bridge says;
    it cannot be taken back before. Only with --with-key can a holder without the words read the
    file; the key opens this one file. The words are never in a link.
    """
    place = parse_remote(uri, bare=True)
    found = find_remote(session.catalog, place, recursive=False, singly=True)
    if len(found) != 1:
        raise UsageProblem(f'{place} is no single file')
    made = _make(session, found[0].entry, with_key=with_key, uses=uses)
    link = made.link()
    left = (made.expires - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
    record: dict[str, Any] = {'expires': made.expires, 'uses': uses, 'with_key': with_key}
    if link_file is None:
        record['link'] = link
    else:
        try:
            secret_file.write(Path(link_file), f'{link}\n')
        except ConfigurationError as error:
            raise CommandError(str(error), hint='') from error
        record['path'] = link_file
    if session.output.as_json:
        session.output.document(record)
        return
    session.output.line(link if link_file is None else f'link written to {link_file}')
    session.output.note(
        f'expires {session.output.moment(made.expires)}, in {human_duration(max(0.0, left))}'
    )
    if with_key:
        session.output.note('whoever has the link can read the file')


def _make(session: Session, entry: FileEntry, *, with_key: bool, uses: int) -> Share:
    """Return a link to a file, with fresh tokens."""
    from storj.transfer.encryption import key_of

    client = session.client
    described = client.file_metadata(entry.bucket.id, entry.id)
    pointers = list(client.file_pointers(entry.bucket.id, entry.id, skip=0, limit=_PAGE))
    while page := _next_page(client, entry, len(pointers)):
        pointers += page
    key = None
    if with_key:
        hashes = [pointer['hash'] for pointer in pointers]
        try:
            key = key_of(client, entry.bucket.id, entry.id, described, hashes)
        except UnauthenticatedError as error:
            raise CommandError(
                f'{entry} has no key that is proved by an HMAC', hint='leave out --with-key'
            ) from error
    # A reader asks until a page is empty.
    needed = (len(pointers) // _PAGE + 2) * uses + _SPARE
    tokens = [client.token_create(entry.bucket.id, 'PULL') for _ in range(needed)]
    facts = {name: getattr(described, name, None) for name in ('index', 'hmac', 'erasure')}
    return Share(
        bridge=client.api_url,
        bucket_id=entry.bucket.id,
        file_id=entry.id,
        name=entry.name,
        size=entry.size or 0,
        expires=min(_expiry(token) for token in tokens),
        tokens=tuple(str(token.id) for token in tokens),
        entry={name: value for name, value in facts.items() if value is not None},
        key=key,
    )


def _next_page(client: Client, entry: FileEntry, have: int) -> list[FilePointer]:
    if have % _PAGE:
        return []
    return list(client.file_pointers(entry.bucket.id, entry.id, skip=have, limit=_PAGE))


def _expiry(token: Token) -> datetime.datetime:
    if not isinstance(token.expires, datetime.datetime):
        raise CommandError('the bridge does not say when its tokens expire')
    return token.expires


def read_link(path: str) -> Link:
    """Return the link in a file, or in standard input for ``-``.

    Raises:
        UsageProblem: there is none.
    """
    text = read_secret_file(path, what='link', limit=_LONGEST).strip()
    if not is_link(text):
        raise UsageProblem('what was read is no link', hint=f'a link begins with {LINK_SCHEME}')
    return Link(text)


def copy_link(
    session: Session,
    link: Link,
    target: Location,
    options: CopyOptions,
    transfer_options: TransferOptions,
    *,
    dry_run: bool = False,
) -> None:
    """Download the file of a link.

    Args:
        session (Session): of the command.
        link (Link): as typed.
        target (Location): a local path, or standard output.
        options (CopyOptions): how.
        transfer_options (TransferOptions): for the engine.
        dry_run (bool): only say what would be done.
    """
    from storj.cli.copy import pour, run_jobs

    shared = Share.read(link.text)
    if shared.expires <= datetime.datetime.now(datetime.timezone.utc):
        raise AuthenticationError(
            '', None, f'the link expired {session.output.moment(shared.expires)}'
        )
    client = session.make_client(None, None, bridge=shared.bridge)
    bridge = SharedBridge(client, shared, session.words)
    transfers = session.transfers(transfer_options.receiving(), bridge, reports=False)
    start, end = 0, None
    if options.byte_range is not None:
        start, end = options.byte_range.bounds(shared.size)
    decrypt = not transfer_options.plain
    part: dict[str, Any] = {'start': start, 'end': end, 'key': shared.key, 'decrypt': decrypt}
    size = shared.size if end is None else end - start
    if isinstance(target, Stream) and not dry_run:
        content = transfers.stream(shared.bucket_id, shared.file_id, **part)
        pour(session, [(shared.name, size)], [content], transfer_options)
        return
    if not isinstance(target, (Local, Stream)):
        raise UsageProblem('a link is copied to a local path')
    path = target.path if isinstance(target, Local) else Path(str(target))
    if isinstance(target, Local) and target.is_folder:
        path /= safe_relative_path(shared.name.rpartition('/')[2])

    def check() -> None:
        if isinstance(target, Local) and path.exists() and not options.overwrite:
            raise ConflictError(f'exists already: {path}')

    def start_download() -> Handle:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle: Handle = transfers.download(
            shared.bucket_id,
            shared.file_id,
            path,
            resume=options.resume,
            overwrite=options.overwrite,
            **part,
        )
        return handle

    job = Job(
        'download',
        shared.name,
        str(path),
        size,
        start_download,
        check=check,
        file_id=shared.file_id,
    )
    run_jobs(session, [job], transfer_options, several=False, dry_run=dry_run)
