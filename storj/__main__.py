"""The command line as a module: ``python -m storj``."""

from __future__ import annotations

import sys

from storj.cli import main

if __name__ == '__main__':
    sys.exit(main())
