"""A local network as a process of its own, without audits and mirrors that would run beside.

``python -m benchmarks.network DATA PROTOCOL STORE [sync]`` prints the environment of its clients as
one line of JSON and serves until it is terminated.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FARMERS = 12


@contextlib.contextmanager
def network(
    data: Path, protocol: str, store: str, *, durable: bool = False
) -> Iterator[dict[str, str]]:
    """Run a local network in a process of its own; yield the environment of its clients.

    Args:
        data (Path): where it keeps everything.
        protocol (str): that all its farmers speak.
        store (str): ``disk``, or ``null`` for farmers that count bytes and keep none.
        durable (bool): whether it confirms nothing before it is on the disk.
    """
    environment = {key: text for key, text in os.environ.items() if not key.startswith('STORJ_')}
    # Programs start from compiled modules, as an installed package does.
    environment.pop('PYTHONDONTWRITEBYTECODE', None)
    environment['PYTHONPYCACHEPREFIX'] = str(data / 'compiled')
    process = subprocess.Popen(
        [sys.executable, '-m', 'benchmarks.network', str(data), protocol, store]
        + ['sync'] * durable,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        settings = json.loads(process.stdout.readline())
        yield {**environment, **settings, 'STORJ_CONFIG_DIR': str(data / 'config')}
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def main(data: str, protocol: str, store: str, sync: str = '') -> None:
    """Serve until SIGTERM."""
    # Loaded here: whoever only wants a network run does not need it.
    from storj.network import Network

    quiet = {'mirrors': 0, 'audit_interval': 0}
    with Network(
        FARMERS, data=data, protocol=protocol, store=store, durable=bool(sync), bridge=quiet
    ) as network:
        print(json.dumps(network.environment()), flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == '__main__':
    # Blocked before any thread starts, so that no thread takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(*sys.argv[1:])
