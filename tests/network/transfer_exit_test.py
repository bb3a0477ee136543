"""A program that ends: its transfers end before it, well or with an error that says why."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storj.http import Client
from storj.network import Fault, Network
from tests.network.engine import KIB, QUIET, client_of

PROGRAM = """
    import atexit, io, os, sys, threading
    import storj
    from storj.transfer import TransferConfig, Transfers

    how, bucket, state = sys.argv[1:]
    client = storj.get_client()
    transfers = Transfers(client, TransferConfig(shard_size=64 * 1024, state_dir=state))
    data = os.urandom(300 * 1024)
    main = threading.main_thread()

    def report(action):
        try:
            print(how, action(), flush=True)
        except storj.StorjError as error:
            print('StorjError', error, flush=True)

    def upload():
        # Once the main thread has returned.
        main.join()
        return transfers.upload(bucket, data, name='n').result().size

    def stream():
        main.join()
        stored = transfers.upload(bucket, data, name='n').result()
        return len(b''.join(transfers.stream(bucket, stored.id)))

    def call():
        main.join()
        return client.file_upload(bucket, io.BytesIO(data), name='n').size

    if how == 'future':
        future = transfers.upload(bucket, data, name='n')
        future.add_done_callback(lambda done: report(lambda: done.result().size))
    elif how == 'atexit':
        atexit.register(
            report, lambda: client.file_upload(bucket, io.BytesIO(data), name='n').size
        )
    else:
        action = {'upload': upload, 'stream': stream, 'call': call}[how]
        threading.Thread(target=report, args=(action,)).start()
"""

Run = Callable[[str], str]


@pytest.fixture(scope='module')
def network() -> Iterator[Network]:
    with Network(farmers=4, bridge=QUIET) as running:
        yield running


@pytest.fixture
def client(network: Network) -> Iterator[Client]:
    with client_of(network) as made:
        yield made


@pytest.fixture
def run(network: Network, client: Client, tmp_path: Path) -> Run:
    bucket = str(client.bucket_create(f'bucket {os.urandom(4).hex()}').id)

    def run(how: str) -> str:
        done = subprocess.run(
            [sys.executable, '-c', textwrap.dedent(PROGRAM), how, bucket, str(tmp_path)],
            env={**os.environ, **network.environment(), 'STORJ_CONFIG_DIR': str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stderr == ''
        return done.stdout

    return run


# Python 3.12.0 and 3.12.1 start no threads any more once the main thread has returned.
late_threads = pytest.mark.skipif(
    (3, 12) <= sys.version_info[:3] < (3, 12, 2), reason='this Python starts no threads then'
)


@late_threads
@pytest.mark.parametrize('how', ['upload', 'stream', 'call', 'future'])
def test_transfer_outlives_the_main_thread(run: Run, how: str) -> None:
    assert run(how) == f'{how} {300 * KIB}\n'


def test_transfer_at_exit_ends_with_its_file_or_an_error_of_ours(run: Run) -> None:
    output = run('atexit')
    assert output == f'atexit {300 * KIB}\n' or output.startswith('StorjError no thread can')


def test_program_does_not_wait_for_requests_of_a_cancelled_transfer(
    network: Network, client: Client, tmp_path: Path
) -> None:
    program = """
        import sys, threading
        import storj
        from storj.transfer import TransferConfig, Transfers
        client = storj.get_client()
        transfers = Transfers(client, TransferConfig(state_dir=sys.argv[2], reports=False))
        begun = threading.Event()
        request = client.frame_create
        def noted():
            begun.set()
            return request()
        client.frame_create = noted
        future = transfers.upload(sys.argv[1], b'data', name='n')
        begun.wait()
        future.cancel()
        future.wait()
        print('cancelled')
    """
    bucket = str(client.bucket_create(f'bucket {os.urandom(4).hex()}').id)
    fault = network.faults.add(Fault('stall', route='POST /frames', times=0))
    try:
        done = subprocess.run(
            [sys.executable, '-c', textwrap.dedent(program), bucket, str(tmp_path)],
            env={**os.environ, **network.environment(), 'STORJ_CONFIG_DIR': str(tmp_path)},
            capture_output=True,
            text=True,
            # The request hangs for as long as the fault stands.
            timeout=30,
            check=True,
        )
    finally:
        network.faults.remove(fault)
    assert done.stdout == 'cancelled\n'
