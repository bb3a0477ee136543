#!/usr/bin/env python3
"""Store a file and fetch it back in the way of release 0.1.5: with the managers.

::

    eval "$(storj network env)"
    python examples/managers.py FILE

Each manager acts through ``storj.get_client()``, which finds the account in the environment or in
``storj.ini``.
"""

from __future__ import annotations

import sys

import storj
from storj import model


def main(path: str) -> None:
    bucket = storj.BucketManager.create('managers', storage_limit=10, transfer_limit=30)
    assert bucket.id is not None
    print('buckets:', [each.id == bucket.id for each in storj.BucketManager.all()])

    files = storj.FileManager(bucket.id)
    stored = files.upload(model.File(filename=path), None)
    assert stored.id is not None
    print('files:', [each['id'] == stored.id for each in files.all()])
    token = storj.TokenManager(bucket.id).create('PULL')
    print('token:', token.bucket == stored.bucket, token.operation)
    content = files.download(file_id=stored.id)
    print('content:', len(content.read()), 'bytes')

    private_key, public_key = storj.generate_new_key_pair()
    storj.UserKeyManager.add(public_key)
    keys = storj.BucketKeyManager(bucket, [])
    for key in storj.UserKeyManager.all():
        keys.add(key)
    print('keys:', len(keys.all()), 'of', private_key.curve.name)
    keys.clear()
    storj.UserKeyManager.remove(public_key)

    files.delete(bucket.id, stored.id)
    storj.BucketManager.delete(bucket.id)
    print('left:', list(storj.BucketManager.all()))


if __name__ == '__main__':
    main(sys.argv[1] if len(sys.argv) > 1 else __file__)
