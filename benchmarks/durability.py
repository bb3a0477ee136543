"""``python -m benchmarks.durability --seed 1``: farmers that go for good, and what is left.

Six farmers take uploads from several threads, some with parity and some without. Two farmers,
chosen at random, are removed with their disks at random moments meanwhile. Once the bridge says
that every shard has its copies again, the load ends, two more farmers are removed at once, and
every file that was reported stored is read back from the last two and compared. Nothing may be
missing. The seed is printed first: the same one makes the same choices, if not the same races.
"""

from __future__ import annotations

import logging
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import requests

from benchmarks.seeds import seeded_parser
from storj.exception import StorjError
from storj.http import Client
from storj.network import Network
from storj.transfer import TransferConfig, Transfers

FARMERS = 6
KIB = 1024
#: Intervals that show in a minute what takes hours by default.
FAST: Mapping[str, Any] = {'lost_after': 3.0, 'repair_interval': 0.5, 'ping_interval': 1.0}
#: Seconds after which copies that are not back at their target never will be.
PATIENCE = 120.0


@dataclass
class Outcome:
    """What came of a trial.

    Attributes:
        stored (int): files that were reported stored.
        failed (int): uploads that were not.
        repaired (float): seconds from the second loss until all copies were back.
        unreadable (list[str]): names of stored files that could not be read in the end, with why.
    """

    stored: int = 0
    failed: int = 0
    repaired: float = 0.0
    unreadable: list[str] = field(default_factory=list)


class Served(Protocol):
    """A network by which a client reaches it: a :class:`Network` has all of that."""

    bridge_url: str
    email: str
    password: str
    mnemonic: str


class Load:
    """Uploads of several threads, until they are told to end.

    Args:
        network (Served): where to.
        chance (random.Random): chooses sizes and contents.
        folder (Path): for temporary files.
        threads (int): uploads at one time.
        **limits (Any): of transfers.

    Attributes:
        begun (int): uploads.
        failed (int): of them.
        stored (dict[str, bytes]): what was reported stored, by the ids of its files.
        brought (dict[str, bytes]): what was to be stored, by the names.
    """

    def __init__(
        self,
        network: Served,
        chance: random.Random,
        folder: Path,
        threads: int = 4,
        **limits: Any,
    ) -> None:
        self.stored: dict[str, bytes] = {}
        self.brought: dict[str, bytes] = {}
        self.failed = 0
        self.config = TransferConfig(
            shard_size=64 * KIB,
            concurrency=4,
            temp_dir=folder,
            state_dir=folder / 'state',
            **limits,
        )
        self.client = Client(
            network.email, network.password, network.bridge_url, mnemonic=network.mnemonic
        )
        self.bucket = str(self.client.bucket_create('durability').id)
        self.begun = 0
        self._over = threading.Event()
        self._changed = threading.Condition()
        self._chances = [random.Random(chance.random()) for _ in range(threads)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Upload while the block is worked on."""
        self._over.clear()
        threads = [threading.Thread(target=self._work, args=(each,)) for each in self._chances]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def wait_for(self, uploads: int) -> None:
        """Wait until so many uploads have been begun."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.begun >= uploads, PATIENCE):
                raise TimeoutError(f'fewer than {uploads} uploads in {PATIENCE:.0f} s')

    def _work(self, chance: random.Random) -> None:
        with Transfers(self.client, self.config) as transfers:
            while not self._over.is_set():
                self.do(transfers, chance)

    def do(self, transfers: Transfers[Client], chance: random.Random) -> None:
        """Do one thing, in one of the threads: upload a file."""
        with self._changed:
            self.begun += 1
            name = str(self.begun)
            self._changed.notify_all()
        data = chance.randbytes(chance.choice((1, 1000, 100_000, 300_000)))
        parity = chance.random() < 0.5
        self.brought[name] = data
        upload = transfers.upload(self.bucket, data, name=name, parity=parity, resume=False)
        try:
            file = upload.result()
        except StorjError:
            with self._changed:
                self.failed += 1
        else:
            with self._changed:
                self.stored[str(file.id)] = data

    def unreadable(self) -> list[str]:
        """Read all that was stored; return what is not as it was, and why."""
        bad = []
        with Transfers(self.client, self.config) as transfers:
            for file_id, data in self.stored.items():
                try:
                    if transfers.download(self.bucket, file_id).result().read() != data:
                        bad.append(f'{file_id}: other bytes came back')
                except StorjError as error:
                    bad.append(f'{file_id}: {error}')
        return bad

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def remove(network: Network, number: int) -> None:
    """End a farmer as a crash would, and take its disk away."""
    farmer = network.farmers[number]
    farmer.kill()
    shutil.rmtree(farmer.path)


def supply(network: Network) -> dict[str, Any]:
    """Return what the bridge says about its copies."""
    answer = requests.get(f'{network.bridge_url}/status', timeout=60)
    state: dict[str, Any] = answer.json()
    return {**state['totals'], 'lost': sum(farmer['lost'] for farmer in state['farmers'])}


def wait_for_copies(network: Network, lost: int, patience: float = PATIENCE) -> float:
    """Wait until so many farmers are known to be lost and every shard has its copies again.

    Returns:
        float: seconds that it took.

    Raises:
        TimeoutError: If it takes longer than ``patience``.
    """
    began = time.monotonic()
    while (state := supply(network))['lost'] < lost or (
        # A file with parity is stored without the shard that was lost before it could be copied.
        state['under_replicated'] > state['without_copies']
    ):
        if time.monotonic() - began > patience:
            raise TimeoutError(f'copies are not back after {patience:.0f} s: {state}')
        time.sleep(0.2)
    return time.monotonic() - began


def trial(seed: int, uploads: int, folder: Path) -> Outcome:
    """Lose two farmers under load and two more at once; return what is left.

    Args:
        seed (int): of all choices.
        uploads (int): among which the two farmers go.
        folder (Path): for network and temporary files.
    """
    chance = random.Random(seed)
    outcome = Outcome()
    order = chance.sample(range(FARMERS), FARMERS)
    with Network(farmers=FARMERS, data=folder / 'network', bridge=FAST) as network:
        load = Load(network, chance, folder)
        try:
            with load.running():
                moments = sorted(chance.randint(1, uploads) for _ in range(2))
                for number, moment in zip(order, moments, strict=False):
                    load.wait_for(moment)
                    remove(network, number)
                outcome.repaired = wait_for_copies(network, 2)
            # What was uploaded last has its copies, too.
            wait_for_copies(network, 2)
            for number in order[2:4]:
                remove(network, number)
            outcome.unreadable = load.unreadable()
            outcome.stored, outcome.failed = len(load.stored), load.failed
        finally:
            load.close()
    return outcome


def main() -> int:
    """Run trials; return 1 if a file was lost."""
    parser = seeded_parser('benchmarks.durability', __doc__)
    parser.add_argument('--uploads', type=int, default=100, help='among which two farmers go')
    parser.add_argument('--trials', type=int, default=1)
    options = parser.parse_args()
    # What fails on purpose is no news.
    logging.disable(logging.CRITICAL)
    lost = 0
    for seed in range(options.seed, options.seed + options.trials):
        with tempfile.TemporaryDirectory() as name:
            outcome = trial(seed, options.uploads, Path(name))
        print(
            f'seed {seed}: {outcome.stored} files stored, {outcome.failed} uploads failed, copies'
            f' back after {outcome.repaired:.1f} s, {len(outcome.unreadable)} unreadable',
            flush=True,
        )
        for line in outcome.unreadable:
            print(f'  {line}')
        lost += len(outcome.unreadable)
    return 1 if lost else 0


if __name__ == '__main__':
    sys.exit(main())
