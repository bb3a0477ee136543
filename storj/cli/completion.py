"""``storj completion``: what a shell needs to complete commands, options, buckets and files.

The scripts are our own because click's lose names with spaces and commas, and in bash everything
after the colon of ``storj://``. Ours pass the whole line, and one script serves all programs. Names
come from a cache of a few minutes, or from the bridge if it answers soon.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from storj.catalog.entries import BucketEntry, FileEntry
from storj.catalog.places import SCHEME
from storj.cli.command import command
from storj.cli.session import Session, pass_session
from storj.exception import StorjError
from storj.system import atomic_file

#: Seconds that a prompt may wait while names are fetched.
PATIENCE = 1.0
#: Seconds for which a list is offered without asking the bridge again.
FRESH = 300.0
#: Names kept per list; more are of no use at a prompt.
LIMIT = 2000

PROGRAMS = ('storj', 'storj-bucket', 'storj-file', 'storj-key')

_BASH = """\
_storj_completion() {
    local program=${1##*/} line=${COMP_LINE:0:COMP_POINT} quoted='' kind value
    local variable=_${program//-/_}_complete
    # Within quotes a word ends at the quote only, and nothing in it is escaped.
    [[ ${COMP_WORDS[COMP_CWORD]} == [\\"\\']* ]] && quoted=1
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
            plain)
                [[ $value == */ ]] && compopt -o nospace
                [[ $quoted ]] || printf -v value %q "$value"
                COMPREPLY+=("$value")
                ;;
        esac
    done < <(env "${variable^^}=bash_complete" COMP_LINE="$line" \\
        COMP_WORDBREAKS="${quoted:-$COMP_WORDBREAKS}" "$1" 2> /dev/null)
}

complete -o nosort -F _storj_completion PROGRAMS
"""

_ZSH = """\
#compdef PROGRAMS

_storj_completion() {
    local program=${words[1]:t} kind value description
    local variable=_${(U)program//-/_}_COMPLETE line="${(j: :)words[1,CURRENT]}"
    local -a described folders plain response
    local -i missed=1
    response=("${(@f)$(env $variable=zsh_complete COMP_LINE=$line ${words[1]} 2> /dev/null)}")
    for kind value description in $response; do
        case $kind in
            file) _files && missed=0 ;;
            dir) _files -/ && missed=0 ;;
            plain)
                if [[ $description != _ ]]; then
                    described+=("$value:$description")
                elif [[ $value == */ ]]; then
                    folders+=("$value")
                else
                    plain+=("$value")
                fi
                ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U && missed=0
    (( $#plain )) && compadd -U -V unsorted -a plain && missed=0
    (( $#folders )) && compadd -U -V unsorted -S '' -a folders && missed=0
    return missed
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _storj_completion "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _storj_completion PROGRAMS
fi
"""

_FISH = """\
function _storj_completion
    set -l program (commandline -opc)[1]
    set -l name (string upper (string replace --all -- - _ (basename $program)))
    set -l line (commandline -cp | string collect)
    for item in (env _{$name}_COMPLETE=fish_complete COMP_LINE=$line $program 2> /dev/null)
        set -l parts (string split --max 1 , -- $item)
        switch $parts[1]
            case file
                __fish_complete_path $parts[2]
            case dir
                __fish_complete_directories $parts[2]
            case plain
                echo $parts[2]
        end
    end
end

for program in PROGRAMS
    complete --no-files --command $program --arguments '(_storj_completion)'
end
"""


class _Line(ShellComplete):
    """A shell that passes its line up to the cursor in ``COMP_LINE``."""

    script: ClassVar[str]

    def source(self) -> str:
        """Return the code for the shell."""
        return self.script.replace('PROGRAMS', ' '.join(PROGRAMS))

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is typed, and that one, both without quotes."""
        # With one character more, a word that is empty, quoted or escaped is not lost.
        *words, last = split_arg_string(os.environ.get('COMP_LINE', '') + '.')
        return words[1:], last[:-1]


class _Bash(_Line, BashComplete):
    script = _BASH

    def source(self) -> str:
        """Return the code, with a warning where the shell is too old for it."""
        self._check_version()
        return super().source()

    def format_completion(self, item: CompletionItem) -> str:  # type: ignore[type-arg, unused-ignore]
        """Return a line without what precedes the last word break: bash keeps that itself."""
        _, typed = self.get_completion_args()
        breaks = set(os.environ.get('COMP_WORDBREAKS', '')) & {':', '='}
        kept = max((typed.rfind(mark) + 1 for mark in breaks), default=0)
        return f'{item.type},{item.value.removeprefix(typed[:kept])}'


class _Zsh(_Line, ZshComplete):
    script = _ZSH


class _Fish(_Line, FishComplete):
    script = _FISH


#: Classes of the shells, by name.
SHELLS: dict[str, type[Any]] = {
    kind.name: add_completion_class(kind) for kind in (_Bash, _Zsh, _Fish)
}


class NameCache:
    """The names of one account that were seen lately.

    The file holds names in clear, so only its owner can read it, it is forgotten after some
    minutes, and 'storj account logout' removes it. A cache that cannot be read or written is no
    cache: completion never fails.

    Args:
        folder (Path): folder of the file; made if it is missing.
        account (str): identifies the account; only its hash is written.
        clock (Callable[[], float]): seconds since 1970.
    """

    def __init__(self, folder: Path, account: str, clock: Callable[[], float] = time.time) -> None:
        digest = hashlib.sha256(account.encode('utf-8', 'replace')).hexdigest()
        self.path = folder / f'names-{digest[:16]}.json'
        self._clock = clock

    def find(self, bucket: str | None = None, *, stale: bool = False) -> list[str] | None:
        """Return the names of a bucket's files, or of the buckets; None if none are kept."""
        match self._load().get(_key(bucket)):
            case {'time': int() | float() as moment, 'names': [*found]}:
                if stale or self._is_fresh(moment):
                    return [name for name in found if isinstance(name, str)]
        return None

    def store(self, bucket: str | None, found: Sequence[str]) -> None:
        """Keep the names of a bucket's files, or of all buckets for None."""
        content: dict[str, Any] = {}
        for other, entry in self._load().items():
            match entry:
                case {'time': int() | float() as moment} if self._is_fresh(moment):
                    content[other] = entry
        content[_key(bucket)] = {'time': self._clock(), 'names': list(found[:LIMIT])}
        with contextlib.suppress(OSError, ValueError):
            atomic_file.write(self.path, json.dumps(content).encode(), sync=False)

    def forget(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _load(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding='utf-8'))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def _is_fresh(self, moment: float) -> bool:
        return 0 <= self._clock() - moment < FRESH


def _key(bucket: str | None) -> str:
    return 'buckets' if bucket is None else f'files/{bucket}'


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

    A shell may pass the text after its own word break, ``//bucket``, when the colon is one.
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
    return _lookup(session, None, lambda: session.catalog.buckets())


def _file_names(session: Session, bucket: str) -> list[str]:
    return _lookup(session, bucket, lambda: session.catalog.files(session.catalog.bucket(bucket)))


def _lookup(
    session: Session, bucket: str | None, fetch: Callable[[], Sequence[BucketEntry | FileEntry]]
) -> list[str]:
    """Return names from the cache, else from the bridge if it answers soon, else the old ones."""
    found: list[str] = []
    answered = threading.Event()

    def ask() -> None:
        # A failure at a prompt means no suggestions.
        with contextlib.suppress(StorjError, OSError, ValueError):
            found.extend(entry.name for entry in fetch())
            answered.set()

    with contextlib.suppress(StorjError, OSError, ValueError):
        fresh = session.cache.find(bucket)
        if fresh is not None:
            return _typeable(fresh)
        session.timeout = PATIENCE
        # What must be imported for it is imported before the patience begins.
        _ = session.catalog
        # A daemon: a bridge that answers late does not hold up the prompt.
        thread = threading.Thread(target=ask, name='storj-completion', daemon=True)
        thread.start()
        thread.join(PATIENCE)
        return _typeable(
            found if answered.is_set() else session.cache.find(bucket, stale=True) or []
        )
    return []


def _typeable(names: Iterable[str]) -> list[str]:
    """Return the names that can be typed in a shell."""
    return [name for name in names if name.isprintable()]
