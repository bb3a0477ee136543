"""The bound of this machine: the least that a transfer can take on all its cores.

An upload must pass over every byte once with SHA-256 for the shard's hash and once for each
challenge, encrypt it, and copy it through a socket; a download has one pass of SHA-256. Everything
else is overhead.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable

from benchmarks.measure import MIB
from storj.crypto.cipher import CtrStream
from storj.crypto.keys import ContentKey

PIECE = MIB
ROUNDS = 192


def _threads(work: Callable[[], None]) -> float:
    """Run work on every core at once; return seconds per MiB of one pass over all cores."""
    cores = os.cpu_count() or 1
    threads = [threading.Thread(target=work) for _ in range(cores)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - begin) / (ROUNDS * cores)


def _sha256() -> None:
    piece, digest = bytes(PIECE), hashlib.sha256()
    for _ in range(ROUNDS):
        digest.update(piece)


def _aes() -> None:
    piece = bytearray(PIECE)
    stream = CtrStream(ContentKey(bytes(32), bytes(16)))
    for _ in range(ROUNDS):
        stream.process(piece, piece)


def _loopback() -> float:
    """Return seconds per MiB of a copy through one TCP connection, both ends on this machine."""

    def send(sender: socket.socket) -> None:
        piece = bytes(PIECE)
        for _ in range(ROUNDS):
            sender.sendall(piece)

    with socket.create_server(('127.0.0.1', 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
        with sender, receiver:
            thread = threading.Thread(target=send, args=(sender,))
            buffer, left = bytearray(PIECE), ROUNDS * PIECE
            begin = time.perf_counter()
            thread.start()
            while left:
                left -= receiver.recv_into(buffer, min(PIECE, left))
            taken = time.perf_counter() - begin
            thread.join()
    return taken / ROUNDS


def bound(challenges: int = 4) -> tuple[float, float]:
    """Return the least seconds per MiB of an upload and of a download on this machine, now."""
    sha256, aes, loopback = _threads(_sha256), _threads(_aes), _loopback()
    # The copy keeps two threads busy, its sender and its receiver: that is all of two cores.
    return (challenges + 1) * sha256 + aes + loopback, sha256 + aes + loopback


if __name__ == '__main__':
    upload, download = bound()
    print(f'bound: upload {1 / upload:.0f} MiB/s, download {1 / download:.0f} MiB/s')
