"""Small files: 1 KiB there and back, beside the same requests made by hand.

``python -m benchmarks.small``. By hand means: the requests that the transfer cannot do without, one
after another by a plain session of ``requests`` in the same process, with nothing computed and
nothing checked between them. What the package adds to a round trip is what the ratio tells; the
exchange reports, which nobody waits for, are counted on neither side.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from benchmarks.measure import table
from benchmarks.network import network
from storj.digest import ShardDigest, new_challenges
from storj.http import Client
from storj.transfer import TransferConfig

SIZE = 1024
ROUNDS = 40

Json = dict[str, Any]


class ByHand:
    """The bare requests of an upload and of a download.

    Args:
        environment (dict[str, str]): of the network.
        bucket_id (str): 24 hex digits.
    """

    def __init__(self, environment: dict[str, str], bucket_id: str) -> None:
        self._bridge = environment['STORJ_BRIDGE'].rstrip('/')
        self._bucket = f'/buckets/{bucket_id}'
        password = hashlib.sha256(environment['STORJ_BRIDGE_PASS'].encode()).hexdigest()
        self._session = requests.Session()
        self._session.auth = environment['STORJ_BRIDGE_USER'], password
        self._farmers = requests.Session()

    def _ask(self, method: str, path: str, body: Json | None = None) -> Any:
        response = self._session.request(method, self._bridge + path, json=body)
        if response.status_code != 404:
            response.raise_for_status()
        return response.json()

    def _shard(self, method: str, pointer: Json, data: bytes | None = None) -> bytes:
        farmer = pointer['farmer']
        place = f'http://{farmer["address"]}:{farmer["port"]}/shards/{pointer["hash"]}'
        response = self._farmers.request(
            method, place, params={'token': pointer['token']}, data=data
        )
        response.raise_for_status()
        return response.content

    def prepare(self, data: bytes, name: str) -> Callable[[], str]:
        """Compute what an upload has to say; return what uploads, and returns the file's id."""
        challenges = new_challenges()
        digest = ShardDigest(challenges)
        digest.update(data)
        shard = {
            'hash': digest.hexdigest(),
            'size': len(data),
            'index': 0,
            'parity': False,
            'challenges': challenges,
            'tree': digest.leaves(),
        }

        def upload() -> str:
            frame = self._ask('POST', '/frames', {})['id']
            self._ask('GET', f'{self._bucket}/file-ids/{quote(name)}')
            pointer = self._ask('PUT', f'/frames/{frame}', shard)
            self._shard('POST', pointer, data)
            entry = {'frame': frame, 'filename': name, 'mimetype': 'application/octet-stream'}
            return str(self._ask('POST', f'{self._bucket}/files', entry)['id'])

        return upload

    def download(self, file_id: str) -> bytes:
        """Return the only shard of a file."""
        self._ask('GET', f'{self._bucket}/files/{file_id}/info')
        pointers = self._ask('GET', f'{self._bucket}/files/{file_id}')
        return self._shard('GET', pointers[0])


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(rounds: int, folder: Path) -> list[tuple[str, list[float], list[float]]]:
    """Return, for either direction, the seconds of our transfers and of those by hand."""
    source, target = folder / 'source', folder / 'target'
    times: dict[str, tuple[list[float], list[float]]] = {
        'upload': ([], []),
        'download': ([], []),
    }
    with (
        network(folder / 'network', '1.2', 'disk') as environment,
        Client(
            environment['STORJ_BRIDGE_USER'],
            environment['STORJ_BRIDGE_PASS'],
            environment['STORJ_BRIDGE'],
            mnemonic=environment['STORJ_ENCRYPTION_KEY'],
            transfer_config=TransferConfig(state_dir=folder, reports=False),
        ) as client,
    ):
        bucket_id = str(client.bucket_create('benchmark').id)
        hand = ByHand(environment, bucket_id)
        for number in range(-2, rounds):
            data = os.urandom(SIZE)
            source.write_bytes(data)
            own: list[str] = []
            by_hand = hand.prepare(os.urandom(SIZE), f'hand-{number}')

            def upload(number: int = number, own: list[str] = own) -> None:
                own.append(str(client.file_upload(bucket_id, str(source), name=f'own-{number}').id))

            def download(own: list[str] = own) -> None:
                client.file_download(bucket_id, own[0], str(target))

            def bare(own: list[str] = own) -> None:
                hand.download(own[0])

            pairs = {
                'upload': (_seconds(upload), _seconds(by_hand)),
                'download': (_seconds(download), _seconds(bare)),
            }
            if target.read_bytes() != data:
                raise RuntimeError('other bytes came back')
            # The first rounds open connections, and load what is loaded when it is needed.
            if number >= 0:
                for direction, (ours, theirs) in pairs.items():
                    times[direction][0].append(ours)
                    times[direction][1].append(theirs)
    return [(direction, *both) for direction, both in times.items()]


def main(rounds: int = ROUNDS) -> None:
    """Print medians, and the median of the ratios pair by pair."""
    rows = [['1 KiB in a running process', 'ours ms', 'by hand ms', 'ratio']]
    with tempfile.TemporaryDirectory() as folder:
        for direction, ours, theirs in measure(rounds, Path(folder)):
            ratio = statistics.median(one / two for one, two in zip(ours, theirs, strict=True))
            rows.append(
                [
                    direction,
                    f'{statistics.median(ours) * 1000:.1f}',
                    f'{statistics.median(theirs) * 1000:.1f}',
                    f'{ratio:.2f}',
                ]
            )
    print(table(rows))


if __name__ == '__main__':
    main()
