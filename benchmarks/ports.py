"""Ports for servers that are ended and started again at the same address."""

from __future__ import annotations

import random
import socket

#: Below those that Linux gives to whoever asks for any port, or connects to somewhere.
_PORTS = range(20_000, 32_000)


def steady_port() -> int:
    """Return a free port that nobody is given by chance while its server is away."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        try:
            with socket.create_server(('127.0.0.1', port)):
                return port
        except OSError:
            # Somebody listens there.
            continue
