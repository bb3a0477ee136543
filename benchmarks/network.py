"""A local network as a process of its own, without audits and mirrors that would run beside.

``python -m benchmarks.network DATA PROTOCOL STORE`` prints the environment of its clients as one
line of JSON and serves until it is terminated.
"""

from __future__ import annotations

import json
import signal
import sys

from storj.network import Network

FARMERS = 12


def main(data: str, protocol: str, store: str) -> None:
    """Serve until SIGTERM."""
    quiet = {'mirrors': 0, 'audit_interval': 0}
    with Network(FARMERS, data=data, protocol=protocol, store=store, bridge=quiet) as network:
        print(json.dumps(network.environment()), flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == '__main__':
    # Blocked before any thread starts, so that no thread takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(*sys.argv[1:])
