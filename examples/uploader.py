#!/usr/bin/env python3
"""Store a file and fetch it back in the way of releases 0.2 and 0.3: Uploader and Downloader.

::

    eval "$(storj network env)"
    python examples/uploader.py FILE FOLDER

E-mail and password are all that such a program knows. Give ``mnemonic=`` to both classes for files
that the bridge cannot read.
"""

from __future__ import annotations

import sys
import tempfile

import storj
from storj.downloader import Downloader
from storj.exception import StorjError
from storj.uploader import Uploader


def show(progress: storj.transfer.Progress) -> None:
    if sys.stderr.isatty():
        print(f'\r{progress.bytes} of {progress.total or "?"} bytes ', end='', file=sys.stderr)


def main(path: str, folder: str) -> int:
    email, password = storj.configuration.read_config()
    uploader, downloader = Uploader(email, password), Downloader(email, password)
    downloader.destination_file_path = folder
    bucket = uploader.client.bucket_create('uploader')
    try:
        with tempfile.TemporaryDirectory() as temporary:
            stored = uploader.file_upload(bucket.id, path, temporary, progress=show)
        print(
            f'{uploader.shards_already_uploaded} of {uploader.all_shards_count} shards are stored'
        )
        print(downloader.download_begin(bucket.id, stored.id, progress=show))
    except StorjError as error:
        print(f'uploader.py: {error}', file=sys.stderr)
        return 1
    finally:
        uploader.client.bucket_delete(bucket.id)
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:3]))
