"""What the programs that draw random moments share: their seed, and how they tell troubles."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence


def seeded_parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """Make the parser of a program whose random choices follow from ``--seed``."""
    parser = argparse.ArgumentParser(f'python -m {program}', description=description)
    parser.add_argument('--seed', type=int, default=int.from_bytes(os.urandom(4), 'big'))
    return parser


def print_kinds(kinds: Counter[str]) -> None:
    """Print how many there were of each kind."""
    for kind, count in sorted(kinds.items()):
        print(f'{count:5} {kind}')


def print_troubles(troubles: Sequence[str]) -> int:
    """Print what was not as it should be; return the exit code."""
    for trouble in troubles:
        print(trouble)
    print(f'{len(troubles):5} troubles')
    return bool(troubles)
