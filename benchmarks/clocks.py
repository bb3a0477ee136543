"""``python -m benchmarks.clocks --seed 1``: clocks that are set by years, and what is left.

A network takes uploads from several threads. Again and again the clocks of its farmers, of its
bridge, or of both are set by one to ten years, forward or back, at a random moment under load or at
rest, some hours pass, and one part of it starts again. Clocks that part are put right afterwards;
those that agree stay where they are, or not, by chance. Then a year passes, in days. Nothing that a
file needs may ever lie in quarantine, and every file that was reported stored must be readable.

The clocks are injected: hours pass in moments, and all that bridge and farmers do from time to time
is done in each of them. The seed makes the choices, if not the races.
"""

from __future__ import annotations

import logging
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from unittest import mock

from sqlalchemy import select

from benchmarks.durability import Load
from benchmarks.ports import steady_port
from benchmarks.seeds import seeded_parser
from storj.network import Fault, Network, bridge_server
from storj.network import farmers as farmers_module
from storj.network.bridge.app import create_app
from storj.network.bridge.renter import RenterNode
from storj.network.bridge.state import BRIDGE
from storj.network.bridge.tables import Entry, Pointer
from storj.network.bridge.upkeep.audits import audit_round
from storj.network.bridge.upkeep.renewals import renewal_round
from storj.network.bridge.upkeep.repairs import REPAIRS
from storj.network.bridge.upkeep.rounds import ping_round, sweep
from storj.network.farmer.farmer import Farmer
from storj.transfer import RetryPolicy
from tests.network.nodes import DAY, Clock

FARMERS = 3
HOUR = 3600.0
#: Whose clocks are set.
SIDES = ('farmers', 'bridge', 'both')
#: Entries come late, so that uploads are under way while hours pass.
_SLOWLY = Fault('delay', route='POST /buckets', seconds=3.0, times=0)
#: Who starts again after that.
PARTS = ('nobody', 'a farmer', 'the network')


@dataclass
class Outcome:
    """What came of a trial.

    Attributes:
        steps (int): how often clocks were set.
        stored (int): files that were reported stored.
        failed (int): uploads that were not.
        dropped (set[str]): shards that a file needs and that lay in quarantine at some time.
        unreadable (list[str]): stored files that could not be read, with why.
    """

    steps: int = 0
    stored: int = 0
    failed: int = 0
    dropped: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)


class Clocks:
    """A network with clocks of its own.

    Args:
        folder (Path): for everything.
    """

    def __init__(self, folder: Path) -> None:
        self.bridge, self.farmers = Clock(), Clock()
        self._quarantined: set[str] = set()
        # Audits are spread as they are by default; what is asked for at once is done at once.
        bridge = {'mirrors': 1, 'repair_interval': 1.0, 'copying_timeout': 3.0}
        # One port for the network in all its lives.
        port = steady_port()
        self.network = Network(FARMERS, port=port, data=folder, durable=False, bridge=bridge)

    @contextmanager
    def running(self) -> Iterator[Clocks]:
        """Run the network."""
        times = {'clock': self.bridge, 'monotonic': self.bridge.monotonic}
        farmers = {'clock': self.farmers, 'monotonic': self.farmers.monotonic}
        with ExitStack() as stack:
            for module, name, made in (
                (bridge_server, 'create_app', partial(create_app, **times)),
                (bridge_server, 'RenterNode', partial(RenterNode, clock=self.bridge)),
                (farmers_module, 'Farmer', partial(Farmer, **farmers)),
            ):
                stack.enter_context(mock.patch.object(module, name, made))
            yield stack.enter_context(self.network) and self

    def step(self, side: str, seconds: float) -> None:
        """Set the clocks of a side, at one moment."""

        async def set_them() -> None:
            for clock, name in ((self.bridge, 'bridge'), (self.farmers, 'farmers')):
                if side in (name, 'both'):
                    clock.step(seconds)

        self.network.call(set_them())

    def restart(self, part: str, chance: random.Random) -> None:
        """Have a part start again; nothing comes up while clocks part."""
        if part == 'a farmer':
            chance.choice(self.network.farmers).restart()
        elif part == 'the network':
            self.network.stop()
            self.network.start()

    def pass_time(self, seconds: float, every: float) -> None:
        """Let time pass, and have done what is done meanwhile."""
        for _ in range(int(seconds / every)):
            self.network.call(self._round(every))
        self.network.call(self._audit())

    async def _round(self, seconds: float) -> None:
        self.bridge.now += seconds
        self.farmers.now += seconds
        app = self.network.app
        bridge, repairs = app[BRIDGE], app[REPAIRS]
        await ping_round(bridge)
        await sweep(bridge)
        for shard_hash in await renewal_round(bridge):
            repairs.ask(shard_hash)
        for handle in self.network.farmers:
            await handle.farmer.forget()
            quarantine = (handle.path / 'quarantine').rglob('*')
            self._quarantined.update(path.name for path in quarantine)

    async def _audit(self) -> None:
        app = self.network.app
        for result in await audit_round(app[BRIDGE]):
            if not result.passed:
                app[REPAIRS].ask(result.shard_hash)

    def dropped(self) -> set[str]:
        """Return shards that a file needs and that lay in quarantine at some time."""
        app = self.network.app
        needed = select(Pointer.shard_hash).join(Entry, Entry.frame == Pointer.frame)
        with app[BRIDGE].database.begin_plain() as connection:
            return self._quarantined & set(connection.scalars(needed))


def trial(seed: int, steps: int, folder: Path, *, uploads: int = 8, days: int = 365) -> Outcome:
    """Set clocks so many times; return what is left.

    Args:
        seed (int): of all choices.
        steps (int): each kind about equally often.
        folder (Path): for network and temporary files.
        uploads (int): of each time under load, at least.
        days (int): that pass after that.
    """
    chance = random.Random(seed)
    outcome = Outcome(steps)
    kinds = list(product(SIDES, (1, -1), (True, False)))
    chance.shuffle(kinds)
    with Clocks(folder / 'network').running() as clocks:
        load = Load(clocks.network, chance, folder, bridge_retry=RetryPolicy(attempts=1))
        try:
            with load.running():
                load.wait_for(uploads)
            for number in range(steps):
                side, sign, loaded = kinds[number % len(kinds)]
                years = sign * chance.uniform(1, 10) * 365 * DAY
                with load.running() if loaded else nullcontext():
                    if loaded:
                        clocks.network.faults.add(_SLOWLY)
                        load.wait_for(load.begun + uploads)
                        time.sleep(chance.uniform(0, _SLOWLY.seconds))
                    clocks.step(side, years)
                    clocks.pass_time(12 * HOUR, HOUR)
                    clocks.network.faults.clear()
                if side != 'both' or chance.random() < 0.5:
                    clocks.step(side, -years)
                clocks.restart(chance.choice(PARTS), chance)
                with load.running():
                    load.wait_for(load.begun + uploads)
                clocks.pass_time(6 * HOUR, HOUR)
            clocks.pass_time(days * DAY, 5 * DAY)
            outcome.dropped = clocks.dropped()
            outcome.unreadable = load.unreadable()
            outcome.stored, outcome.failed = len(load.stored), load.failed
        finally:
            load.close()
    return outcome


def main() -> int:
    """Run trials; return 1 if anything was lost."""
    parser = seeded_parser('benchmarks.clocks', __doc__)
    parser.add_argument('--steps', type=int, default=24, help='how often clocks are set')
    parser.add_argument('--trials', type=int, default=1)
    options = parser.parse_args()
    # What fails on purpose is no news.
    logging.disable(logging.CRITICAL)
    bad = 0
    for seed in range(options.seed, options.seed + options.trials):
        print(f'seed {seed}', flush=True)
        with tempfile.TemporaryDirectory() as name:
            outcome = trial(seed, options.steps, Path(name))
        print(
            f'clocks set {outcome.steps} times: {outcome.stored} files stored, {outcome.failed}'
            f' uploads failed, {len(outcome.dropped)} needed shards dropped,'
            f' {len(outcome.unreadable)} files unreadable',
            flush=True,
        )
        for line in outcome.unreadable:
            print(f'  {line}')
        bad += len(outcome.dropped) + len(outcome.unreadable)
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
