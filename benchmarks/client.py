"""One transfer by the SDK as a process of its own, so that it can be measured from outside.

``python -m benchmarks.client upload BUCKET_ID PATH NAME`` prints the id of the file,
``python -m benchmarks.client download BUCKET_ID FILE_ID PATH`` prints nothing; with ``again``
instead of ``download`` it happens twice, and wall and CPU seconds of the second time are printed.
Settings come from the environment, as for every program that uses ``storj.get_client()``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import storj


def main(operation: str, bucket_id: str, source: str, target: str) -> None:
    """Do one transfer."""
    with storj.get_client() as client:
        if operation == 'upload':
            print(client.file_upload(bucket_id, source, name=target).id)
            return
        client.file_download(bucket_id, source, target)
        if operation == 'again':
            Path(target).unlink()
            wall, cpu = time.perf_counter(), time.process_time()
            client.file_download(bucket_id, source, target)
            print(time.perf_counter() - wall, time.process_time() - cpu)


if __name__ == '__main__':
    main(*sys.argv[1:])
