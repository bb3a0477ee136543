"""``python -m benchmarks.soak --seconds 300``: transfers under random faults, for a while.

Every round uploads a file, downloads it by a way out chosen at random, and compares, while faults
chosen at random strike bridge and farmers and some farmers die and come back. A round may end with
an error of ours; it may not end with other bytes, another exception, a hang, or a file left behind.
The seed is printed first: the same one makes the same choices, if not the same races.
"""

from __future__ import annotations

import io
import logging
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from benchmarks.seeds import seeded_parser
from storj.exception import StorjError
from storj.http import Client, Retries
from storj.network import Fault, Network
from storj.transfer import (
    ChannelLimits,
    RetryPolicy,
    TransferConfig,
    Transfers,
    clean_journals,
)

KIB = 1024

#: Seconds after which a round counts as hung.
PATIENCE = 90

FARMER_FAULTS = ('refuse', 'delay', 'truncate', 'corrupt', 'drop', 'expire', 'stall', 'status')
BRIDGE_FAULTS = ('refuse', 'delay', 'drop', 'truncate', 'status', 'html')
ROUTES = ('POST /frames', 'PUT /frames', 'POST /buckets', 'GET /buckets', 'GET /contacts')


def any_fault(chance: random.Random) -> Fault:
    """Return a fault that strikes a few calls."""
    numbers = {
        'nth': chance.randint(1, 8),
        'times': chance.randint(1, 6),
        'offset': chance.choice((0, 1, 1000, 40_000, 200_000)),
        'seconds': chance.uniform(0, 1),
    }
    if chance.random() < 0.4:
        kind = chance.choice(BRIDGE_FAULTS)
        status = chance.choice((429, 500, 503))
        return Fault(kind, route=chance.choice(ROUTES), status=status, **numbers)
    kind = chance.choice(FARMER_FAULTS)
    choices = ('pull',) if kind == 'truncate' else ('push', 'pull', 'data')
    return Fault(kind, farmer='*', operation=chance.choice(choices), status=500, **numbers)


def one_round(
    chance: random.Random, network: Network, client: Client, bucket: str, folder: Path
) -> str:
    """Transfer one file there and back.

    Returns:
        str: the outcome: ``equal``, or the class of the error that ended it.

    Raises:
        AssertionError: if other bytes came back, or something was left behind.
    """
    config = TransferConfig(
        shard_size=chance.choice((64 * KIB, 256 * KIB)),
        piece_size=16 * KIB,
        concurrency=chance.choice((1, 4, 16)),
        hedge_after=0.5,
        bridge_retry=RetryPolicy(attempts=5, delay=0.05, longest=0.5),
        channel=ChannelLimits(connect=3, first_byte=3, acknowledge=3, stall=2),
        temp_dir=folder,
        state_dir=folder / 'state',
    )
    data = chance.randbytes(chance.choice((0, 1, 70_000, 700_000, 2_097_152, 2_500_000)))
    network.faults.clear()
    for _ in range(chance.randint(0, 3)):
        network.faults.add(any_fault(chance))
    victims = chance.sample(network.farmers, chance.choice((0, 0, 1, 3)))
    for victim in victims:
        victim.kill()
    target = folder / 'out'
    try:
        with Transfers(client, config) as transfers:
            name = f'{chance.random()}'
            stored = transfers.upload(bucket, data, name=name, resume=False).result(PATIENCE)
            start, end = sorted(chance.randint(0, len(data)) for _ in range(2))
            way = chance.randrange(4)
            if way == 0:
                came = transfers.download(bucket, stored.id).result(PATIENCE).read()
            elif way == 1:
                transfers.download(bucket, stored.id, target, resume=False).result(PATIENCE)
                came = target.read_bytes()
            elif way == 2:
                came = b''.join(transfers.stream(bucket, stored.id, start=start, end=end))
                data = data[start:end]
            else:
                file = io.BytesIO()
                future = transfers.download(bucket, stored.id, file, start=start, end=end)
                came = future.result(PATIENCE).getvalue()
                data = data[start:end]
        if came != data:
            raise AssertionError('other bytes came back')
        outcome = 'equal'
    except StorjError as error:
        outcome = type(error).__name__
    finally:
        network.faults.clear()
        for victim in victims:
            victim.start()
    target.unlink(missing_ok=True)
    # Of an upload whose frame could not be destroyed, the journal is left.
    clean_journals(config.journal_dir(), bridge=client)
    left = [path.name for path in folder.rglob('*') if path.is_file()]
    if left:
        raise AssertionError(f'left behind: {left}')
    return outcome


def main() -> int:
    """Soak; return 1 if a round ended as none may."""
    parser = seeded_parser('benchmarks.soak', __doc__)
    parser.add_argument('--seconds', type=float, default=300)
    options = parser.parse_args()
    print(f'seed {options.seed}', flush=True)
    # What fails on purpose is no news.
    logging.disable(logging.CRITICAL)
    chance = random.Random(options.seed)
    outcomes: Counter[str] = Counter()
    until = time.monotonic() + options.seconds
    quiet = {'mirrors': 0, 'audit_interval': 0}
    with (
        tempfile.TemporaryDirectory() as name,
        Network(farmers=8, bridge=quiet) as network,
        Client(
            network.email,
            network.password,
            network.bridge_url,
            mnemonic=network.mnemonic,
            timeout=10,
            retries=Retries(count=1, pause=0.05),
        ) as client,
    ):
        bucket = str(client.bucket_create('soak').id)
        while time.monotonic() < until:
            number = outcomes.total()
            try:
                outcomes[one_round(chance, network, client, bucket, Path(name))] += 1
            except (AssertionError, Exception) as error:
                print(f'round {number} of seed {options.seed}: {error!r}', flush=True)
                for thread in threading.enumerate():
                    print(f'  {thread.name}', flush=True)
                return 1
        rounds = ', '.join(f'{count} {outcome}' for outcome, count in outcomes.most_common())
        print(f'{outcomes.total()} rounds: {rounds}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
