#!/usr/bin/env python3
"""Upload to and download from a MetaDisk node, in the spirit of the tutorial of 2014.

::

    storj network up
    python examples/metadisk.py upload test.dat
    python examples/metadisk.py download '<filehash>?key=<key>' copy.dat

The node is http://127.0.0.1:6382, or what the environment variable NODE_URL says. What the
tutorial's program leaves to trust is checked here: a download is fetched without its key, compared
with its hash, and decrypted on this side.
"""

from __future__ import annotations

import os
import sys

from storj.exception import StorjError
from storj.metadisk import MetaDisk

NODE_URL = os.environ.get('NODE_URL', 'http://127.0.0.1:6382')


def upload(node: MetaDisk, path: str) -> None:
    reference = node.upload(path, progress=show)
    print(f'{path} is uploaded. key=\n{reference}')


def download(node: MetaDisk, reference: str, path: str) -> None:
    record = node.find(reference)
    print(
        f'{record.filename}, {record.filesize} bytes, stored {record.datetime:%Y-%m-%d %H:%M} UTC'
    )
    done = node.download(reference, path, progress=show)
    print(f'{done.size} bytes are in {path}')


def show(done: int, total: int | None) -> None:
    if sys.stderr.isatty():
        print(f'\r{done} of {total or "?"} bytes ', end='', file=sys.stderr)


def main(arguments: list[str]) -> int:
    commands = {('upload', 2): upload, ('download', 3): download}
    command = commands.get((arguments[0], len(arguments))) if arguments else None
    if command is None:
        print('usage: metadisk.py upload FILE | download REFERENCE FILE', file=sys.stderr)
        return 2
    try:
        with MetaDisk(NODE_URL) as node:
            command(node, *arguments[1:])
    except (StorjError, ValueError, OSError) as error:
        print(f'metadisk.py: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
