"""``storj share``: make a link to one file, and copy from one."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from storj.catalog.errors import UsageProblem
from storj.catalog.places import (
    LINK_SCHEME,
    Link,
    Local,
    Location,
    Stream,
    is_link,
    parse_remote,
    safe_relative_path,
)
from storj.catalog.tree import find_remote
from storj.cli.command import command
from storj.cli.completion import complete_uri
from storj.cli.errors import CommandError
from storj.cli.jobs import run_jobs
from storj.cli.options import EXPIRY, LocalPath
from storj.cli.output import human_duration
from storj.cli.prompts import read_secret_file
from storj.cli.session import Session, TransferOptions, pass_session
from storj.crypto import secret_file
from storj.exception import AuthenticationError, ConfigurationError
from storj.system.hosts import is_loopback
from storj.text import masked

if TYPE_CHECKING:
    from storj.catalog.copier import CopyOptions


@command(
    'share',
    short_help='Make a link to a file that works without login.',
    examples=(
        'storj share storj://photos/cat.jpg              for people who have the same key',
        'storj share --with-key storj://photos/cat.jpg   for everybody who has the link',
        'storj share --url storj://photos/cat.jpg        for everybody who has a browser',
        'storj share --url --expires +10m storj://photos/cat.jpg',
        'storj share --link-file cat.link storj://photos/cat.jpg',
        'storj cp --link-file cat.link .                 at the other end',
    ),
)
@click.argument('uri', shell_complete=complete_uri)
@click.option('--with-key', is_flag=True, help="Put the key of this file's content in the link.")
@click.option(
    '--url',
    'as_url',
    is_flag=True,
    help="Make a link to the bridge's page, which opens in a browser; with the key.",
)
@click.option(
    '--expires',
    type=EXPIRY,
    metavar='TIME',
    help='When readers refuse the link, like +10m; by default when its tokens end.',
)
@click.option(
    '--uses',
    type=click.IntRange(1, 100),
    metavar='N',
    default=1,
    show_default=True,
    help='Downloads that the link allows, at least.',
)
@click.option(
    '--link-file',
    metavar='PATH',
    type=LocalPath(),
    help='Write the link to a file that only its owner can read, not to standard output.',
)
@pass_session
def share(
    session: Session,
    uri: str,
    with_key: bool,
    as_url: bool,
    expires: datetime.datetime | None,
    uses: int,
    link_file: str | None,
) -> None:
    """Make a link to one file that 'storj cp' takes without login.

    The link has the bridge, the file's name and size, and the ids of file and bucket, and gives
    the right to fetch the encrypted bytes until it expires: minutes or an hour;
    it cannot be taken back before. Only with --with-key can a holder without the encryption key
    read the file: it adds the key of this one file. The encryption key is never in a link.

    With --url, the key is behind the '#' of the address, which browsers do not send. The bridge
    decides how long its tokens live, and refuses nothing before: --expires can shorten the time in
    which honest readers use the link, not prolong it.
    """
    from storj.catalog.share import make_share

    place = parse_remote(uri, bare=True)
    found = find_remote(session.catalog, place, recursive=False, singly=True)
    if len(found) != 1:
        raise UsageProblem(f'{place} is no single file')
    if expires is not None and expires <= datetime.datetime.now(datetime.timezone.utc):
        raise UsageProblem('the time of --expires is over')
    with_key = with_key or as_url
    page = _page(session.client.api_url, session.settings.proxy) if as_url else ''
    made = make_share(session.client, found[0].entry, with_key=with_key, uses=uses, until=expires)
    link = page + made.link()
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
    if expires is not None:
        session.output.note('the bridge takes the tokens in it until they end by themselves')
    if with_key:
        session.output.note('everybody who has the link can read the file')
    if page.startswith('http://') and not is_loopback(urlsplit(page).hostname or ''):
        session.output.note('browsers decrypt on pages of https only; put a proxy before it')


def _page(bridge: str, proxy: str | None) -> str:
    """Return the address that opens a link in the page of a bridge.

    Raises:
        CommandError: If the bridge serves no page that does.
    """
    import requests

    root = bridge.rstrip('/') + '/'
    proxies = {'http': proxy, 'https': proxy} if proxy else None
    try:
        answer = requests.get(
            f'{root}page/shared.js', timeout=(10, 20), proxies=proxies, stream=True
        )
        with answer:
            kind = answer.headers.get('Content-Type', '')
            has_page = answer.status_code == 200 and 'javascript' in kind
    except requests.RequestException as error:
        raise CommandError(f'the page of {masked(root)} does not answer', hint='') from error
    if not has_page:
        raise CommandError(
            f'{masked(root)} serves no page that opens links',
            hint="leave out --url: 'storj cp' takes the link",
        )
    return f'{root}#'


def read_link(path: str) -> Link:
    """Return the link in a file, or in standard input for ``-``.

    Raises:
        UsageProblem: If there is none.
    """
    from storj.catalog.share import LINK_LIMIT

    text = read_secret_file(path, what='link', limit=LINK_LIMIT).strip()
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
        dry_run (bool): only print what would be done.
    """
    from storj.catalog.copier import Downloader
    from storj.catalog.share import Share, SharedBridge
    from storj.cli.copy import pour

    shared = Share.read(link.text)
    if shared.is_expired:
        raise AuthenticationError(
            '', None, f'the link expired {session.output.moment(shared.expires)}'
        )
    bridge = SharedBridge(session.make_client(None, None, bridge=shared.bridge), shared)
    downloads = session.transfers(transfer_options.receiving(), bridge, reports=False)
    copier, entry = Downloader(options, downloads, shared.key), shared.file
    if isinstance(target, Stream) and not dry_run:
        parts = [(shared.name, copier.size_of(entry))]
        pour(session, parts, [copier.stream(entry)], transfer_options)
        return
    if not isinstance(target, (Local, Stream)):
        raise UsageProblem('a link is copied to a local path')
    path = target.path if isinstance(target, Local) else Path(str(target))
    if isinstance(target, Local) and target.is_folder:
        path /= safe_relative_path(shared.name.rpartition('/')[2])
    job = replace(copier.download(entry, path), source=shared.name)
    if isinstance(target, Stream):
        job.check = None
    run_jobs(session, [job], transfer_options, several=False, dry_run=dry_run)
