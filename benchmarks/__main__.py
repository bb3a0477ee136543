"""Run the benchmarks: ``python -m benchmarks [--runs N] [--quick]``."""

from __future__ import annotations

import argparse

from benchmarks import erasure, small, startup, transfers
from benchmarks.measure import MIB


def main() -> None:
    """Read the command line and print every table."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__)
    parser.add_argument('--runs', type=int, default=3, help='runs of each transfer; default 3')
    parser.add_argument('--quick', action='store_true', help='small files only')
    options = parser.parse_args()
    # In this order: the peak memory of a process includes what its parent had when it began it, so
    # processes are measured before this one grows.
    startup.main()
    print()
    quick = {'1 KiB': 1024, '16 MiB': 16 * MIB}
    transfers.main(
        options.runs,
        quick if options.quick else transfers.SIZES,
        {'16 MiB': quick['16 MiB']} if options.quick else transfers.LARGE,
    )
    print()
    small.main()
    print()
    erasure.main()


if __name__ == '__main__':
    main()
