"""``python -m storj.network``: the commands of ``storj network``, and ``storj farm``."""

from __future__ import annotations

import sys

from storj.cli import main

if __name__ == '__main__':
    arguments = sys.argv[1:]
    sys.exit(main(arguments if arguments[:1] == ['farm'] else ['network', *arguments]))
