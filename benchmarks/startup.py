"""What a script or a command waits for before it does anything, beside an interpreter alone."""

from __future__ import annotations

import os
import sys
import tempfile

from benchmarks.measure import median, run, table

RUNS = 9

PROGRAMS = {
    'python': ['-c', 'pass'],
    'import storj': ['-c', 'import storj'],
    'storj.Client(...)': ['-c', 'import storj; storj.Client("user@example.com", "password")'],
    'storj --help': ['-m', 'storj', '--help'],
    'import storj.network': ['-c', 'import storj.network; storj.network.Network'],
}


def main() -> None:
    """Print the medians of this machine."""
    rows = [('start', 'wall ms', 'CPU ms', 'peak MiB')]
    with tempfile.TemporaryDirectory() as folder:
        # Programs start from compiled modules, as an installed package does.
        environment = {**os.environ, 'PYTHONPYCACHEPREFIX': folder}
        environment.pop('PYTHONDONTWRITEBYTECODE', None)
        for name, words in PROGRAMS.items():
            taken = median([run([sys.executable, *words], environment) for _ in range(RUNS)])
            figures = (f'{taken.wall * 1000:.0f}', f'{taken.cpu * 1000:.0f}', f'{taken.peak >> 20}')
            rows.append((name, *figures))
    print(table(rows))


if __name__ == '__main__':
    main()
