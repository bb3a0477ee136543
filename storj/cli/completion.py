"""``storj completion``: what a shell needs to complete commands, options, buckets and files."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence

import click
from click.shell_completion import CompletionItem

from storj.cli.command import command
from storj.cli.directory import BucketEntry, FileEntry
from storj.cli.session import Session, pass_session
from storj.cli.shells import SHELLS
from storj.cli.uri import SCHEME
from storj.exception import StorjError

__all__ = ('complete_bucket', 'complete_file', 'complete_place', 'complete_uri', 'completion')

#: Seconds that a prompt may hang while names are fetched.
PATIENCE = 1.0


@command(
    'completion',
    short_help='Completion for your shell.',
    examples=(
        'eval "$(storj completion bash)"                 in ~/.bashrc',
        'eval "$(storj completion zsh)"                  in ~/.zshrc',
        'storj completion fish | source                  in ~/.config/fish/config.fish',
    ),
)
@click.argument('shell', type=click.Choice(tuple(SHELLS)))
@pass_session
def completion(session: Session, shell: str) -> None:
    """Print the code that completes commands, options, buckets and files in a shell.

    Names of buckets and files are completed from a list that is at most five minutes old.
    """
    from storj.cli.app import app

    source = SHELLS[shell](app, {}, 'storj', '_STORJ_COMPLETE').source()
    for line in source.rstrip().split('\n'):
        session.output.line(line)


def complete_bucket(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the names of buckets."""
    return [
        CompletionItem(name) for name in _bucket_names(_session(ctx)) if name.startswith(incomplete)
    ]


def complete_file(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the names of the files in the bucket that the argument before names."""
    bucket = str(ctx.params.get('bucket') or '')
    names = _file_names(_session(ctx), bucket) if bucket else []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_uri(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer ``storj://`` URIs: buckets first, then what a bucket holds, folder by folder.

    A shell may hand over the text after its own word break, ``//bucket``, when the colon is one.
    """
    lead, rest = '', incomplete
    for scheme in (SCHEME, '//'):
        if incomplete.startswith(scheme):
            lead, rest = scheme, incomplete[len(scheme) :]
            break
    else:
        if not SCHEME.startswith(incomplete):
            return []
        lead, rest = SCHEME, ''
    bucket, slash, path = rest.partition('/')
    session = _session(ctx)
    if not slash:
        found = [f'{name}/' for name in _bucket_names(session) if name.startswith(bucket)]
        return [CompletionItem(lead + name) for name in found]
    names = _folded(_file_names(session, bucket), path)
    return [CompletionItem(f'{lead}{bucket}/{name}') for name in names]


def complete_place(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer URIs, and local paths when no URI is meant."""
    items = complete_uri(ctx, param, incomplete) if incomplete else []
    return items or [CompletionItem(incomplete, type='file')]


def _folded(names: Iterable[str], path: str) -> list[str]:
    """Return the names that begin with a path, each cut after the next ``/``."""
    found: dict[str, None] = {}
    for name in names:
        if name.startswith(path):
            head, slash, _ = name[len(path) :].partition('/')
            found[path + head + slash] = None
    return list(found)


def _session(ctx: click.Context) -> Session:
    """Return a session for the completion; none of its failures may reach the prompt."""
    return ctx.ensure_object(Session)


def _bucket_names(session: Session) -> list[str]:
    def cached(stale: bool) -> list[str] | None:
        return session.cache.buckets(stale=stale)

    return _lookup(session, cached, lambda: session.directory.buckets())


def _file_names(session: Session, bucket: str) -> list[str]:
    def cached(stale: bool) -> list[str] | None:
        return session.cache.files(bucket, stale=stale)

    return _lookup(
        session, cached, lambda: session.directory.files(session.directory.bucket(bucket))
    )


def _lookup(
    session: Session,
    cached: Callable[[bool], list[str] | None],
    fetch: Callable[[], Sequence[BucketEntry | FileEntry]],
) -> list[str]:
    """Return names from the cache, else from the bridge if it answers soon, else the old ones."""
    found: list[str] = []
    answered = threading.Event()

    def ask() -> None:
        # No failure is worth more at a prompt than no offer.
        with contextlib.suppress(StorjError, OSError, ValueError):
            found.extend(entry.name for entry in fetch())
            answered.set()

    with contextlib.suppress(StorjError, OSError, ValueError):
        fresh = cached(False)
        if fresh is not None:
            return _typeable(fresh)
        session.timeout = PATIENCE
        # What must be imported for it is imported before the patience begins.
        _ = session.directory
        # A daemon: a bridge that answers late does not hold up the prompt.
        thread = threading.Thread(target=ask, name='storj-completion', daemon=True)
        thread.start()
        thread.join(PATIENCE)
        return _typeable(found if answered.is_set() else cached(True) or [])
    return []


def _typeable(names: Iterable[str]) -> list[str]:
    """Return the names that can stand on a line of the shell."""
    return [name for name in names if name.isprintable()]
