"""One transfer by the SDK as a process of its own, so that it can be measured from outside.

``python -m benchmarks.client upload BUCKET_ID PATH NAME`` prints the id of the file,
``python -m benchmarks.client download BUCKET_ID FILE_ID PATH`` prints nothing. With ``again`` as a
last word it happens twice, and wall and CPU seconds of the second time are printed instead.
Settings come from the environment, as for every program that uses ``storj.get_client()``.
"""

from __future__ import annotations

import sys
import time

import storj


def main(operation: str, bucket_id: str, source: str, target: str, again: str = '') -> None:
    """Do one transfer, or two."""
    with storj.get_client() as client:

        def transfer(name: str) -> str | None:
            if operation == 'upload':
                return client.file_upload(bucket_id, source, name=name).id
            client.file_download(bucket_id, source, name)
            return None

        done = transfer(target)
        if again:
            wall, cpu = time.perf_counter(), time.process_time()
            transfer(f'{target}-2')
            print(time.perf_counter() - wall, time.process_time() - cpu)
        elif done is not None:
            print(done)


if __name__ == '__main__':
    main(*sys.argv[1:])
