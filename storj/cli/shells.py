"""What is said to bash, zsh and fish: the code that a shell runs, and the lines it reads back.

click's own code loses what storage has: names with spaces and commas, and in bash everything after
the colon of ``storj://``. Here the shell hands over the whole line, and one script serves all
programs.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

__all__ = ('PROGRAMS', 'SHELLS')

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
    """A shell that hands over its line up to the cursor, in ``COMP_LINE``."""

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
        """Return a line without what stands before the last word break: bash keeps that itself."""
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
