"""One transfer by the SDK as a process of its own, so that it can be measured from outside.

``python -m benchmarks.client upload BUCKET_ID PATH NAME`` prints the id of the file,
``python -m benchmarks.client download BUCKET_ID FILE_ID PATH`` prints nothing. Settings come from
the environment, as for every program that uses ``storj.get_client()``.
"""

from __future__ import annotations

import sys

import storj


def main(operation: str, bucket_id: str, source: str, target: str) -> None:
    """Do one transfer."""
    with storj.get_client() as client:
        if operation == 'upload':
            print(client.file_upload(bucket_id, source, name=target).id)
        else:
            client.file_download(bucket_id, source, target)


if __name__ == '__main__':
    main(*sys.argv[1:])
