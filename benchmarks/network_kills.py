"""``python -m benchmarks.network_kills --kills 100``: kill -9 of the network at random points.

Several clients upload, download and remove files of ``storj network up --processes`` while the
whole network, its bridge, or one of its farmers is killed at random moments, some while it starts.
Bridge and network are started again by hand, a farmer by its network. Every ten kills, and at the
end, all that was reported stored must be there, byte for byte, and all that was reported removed
gone. What was reported as neither may be there or not; whatever is served is served whole.

``python -m benchmarks.kills`` kills the client. The seed makes the choices, if not the races.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.durability import Load
from benchmarks.ports import steady_port
from benchmarks.seeds import print_kinds, print_troubles, seeded_parser
from storj.exception import StorjError
from storj.http import Client
from storj.network.control import RunningNetwork
from storj.transfer import RetryPolicy, Transfers

FARMERS = 4
#: Seconds after which what has not come up never will.
PATIENCE = 120.0
#: Kills between two looks at everything.
BATCH = 10
_ROOT = Path(__file__).parents[1]


@dataclass
class Report:
    """What became of all kills.

    Attributes:
        kills (Counter[str]): by what was killed.
        starts (list[float]): seconds that the network took to come up after a kill.
        stored (int): files that were reported stored.
        removed (int): of them.
        failed (int): uploads that were not.
        troubles (list[str]): what was not as it should be.
    """

    kills: Counter[str] = field(default_factory=Counter)
    starts: list[float] = field(default_factory=list)
    stored: int = 0
    removed: int = 0
    failed: int = 0
    troubles: list[str] = field(default_factory=list)


class Processes:
    """A network whose bridge and farmers are processes, killed and started again.

    Args:
        folder (Path): that keeps it.

    Attributes:
        bridge_url (str): the same in all its lives.
        email (str): of its account.
        password (str): of the account.
        mnemonic (str): encryption key.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port = steady_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder.with_suffix('.log')
        self.begin()
        ready = self.wait()
        self.bridge_url = ready['bridge']
        self.email, self.password = ready['user'], ready['password']
        self.mnemonic = ready['mnemonic']

    def begin(self) -> None:
        """Begin to start it."""
        words = ['--json', 'network', 'up', '--processes', '--data', str(self.folder)]
        words += ['--farmers', str(FARMERS), '--port', str(self._port)]
        with self._log.open('ab') as log:
            self._process = subprocess.Popen(
                [sys.executable, '-m', 'storj', *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, 'PYTHONPATH': str(_ROOT)},
            )

    def wait(self) -> dict[str, Any]:
        """Wait until it is up; return what it says then.

        Raises:
            RuntimeError: If it does not come up.
        """
        process = self._process
        assert process is not None
        assert process.stdout is not None
        late = threading.Timer(PATIENCE, process.kill)
        late.start()
        line = process.stdout.readline()
        late.cancel()
        if not line:
            raise RuntimeError(f'it did not come up: {self._log.read_text()[-1000:]}')
        ready: dict[str, Any] = json.loads(line)
        return ready

    def farmers(self) -> dict[int, int]:
        """Return the process ids of the farmers that run, by their numbers."""
        state = RunningNetwork(self.folder).status()['farmers']
        return {farmer['number']: farmer['pid'] for farmer in state if farmer.get('pid')}

    def kill(self) -> None:
        """Kill the process of the bridge; that of the farmers are told so by their input."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def wait_for_farmers(self) -> None:
        """Wait until all farmers run.

        Raises:
            RuntimeError: If one does not come back.
        """
        until = time.monotonic() + PATIENCE
        while True:
            state = RunningNetwork(self.folder).status()['farmers']
            if all(farmer['state'] == 'up' and farmer.get('registered') for farmer in state):
                return
            if time.monotonic() > until:
                raise RuntimeError(f'farmers do not come back: {state}')
            time.sleep(0.1)

    def stop(self) -> None:
        """End it in good order."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(PATIENCE)
            assert process.stdout is not None
            process.stdout.close()


class Churn(Load):
    """Uploads, downloads and removals of several threads.

    Attributes:
        removed (set[str]): ids of files that were reported removed.
        unsure (set[str]): of files whose removal was not reported.
        wrong (list[str]): downloads that brought other bytes.
    """

    def __init__(self, network: Processes, chance: random.Random, folder: Path) -> None:
        retry = RetryPolicy(attempts=2, delay=0.5, longest=0.5)
        super().__init__(network, chance, folder, bridge_retry=retry)
        self.removed: set[str] = set()
        self.unsure: set[str] = set()
        self.wrong: list[str] = []

    def do(self, transfers: Transfers[Client], chance: random.Random) -> None:
        """Upload, download or remove a file."""
        kind = chance.random()
        with self._changed:
            known = list(self.stored)
            file = chance.choice(known) if known and kind > 0.5 else None
            data = self.stored.get(file or '', b'')
            if file is not None and kind > 0.85:
                del self.stored[file]
                self.unsure.add(file)
        if file is None:
            super().do(transfers, chance)
        elif kind > 0.85:
            with contextlib.suppress(StorjError):
                self.client.file_remove(self.bucket, file)
                with self._changed:
                    self.unsure.discard(file)
                    self.removed.add(file)
        else:
            with contextlib.suppress(StorjError):
                if transfers.download(self.bucket, file).result().read() != data:
                    self.wrong.append(f'{file}: a download brought other bytes')

    def troubles(self) -> list[str]:
        """Look at everything, while nothing is under way; return what is not as it should be."""
        listed = {
            str(file['id']): self.client.file_name(self.bucket, file['filename'])
            for file in self.client.bucket_files(self.bucket)
        }
        found = [*self.wrong, *self.unreadable()]
        found += [f'{file}: it is not listed' for file in self.stored if file not in listed]
        found += [f'{file}: it was removed, and is back' for file in self.removed & set(listed)]
        with Transfers(self.client, self.config) as transfers:
            for file in set(listed) - set(self.stored):
                # Stored or half removed, and reported as neither: whole, or not to be had.
                with contextlib.suppress(StorjError):
                    content = transfers.download(self.bucket, file).result().read()
                    if content != self.brought[listed[file]]:
                        found.append(f'{file}: {len(content)} other bytes are served')
        return found


def strike(network: Processes, chance: random.Random, rest: float, report: Report) -> None:
    """Kill a part of the network within so many seconds, and have it come back."""
    kind = chance.choice(('network', 'bridge', 'farmer'))
    time.sleep(chance.uniform(0, rest))
    report.kills[kind] += 1
    farmers = network.farmers()
    if kind == 'farmer':
        os.kill(chance.choice(list(farmers.values())), signal.SIGKILL)
        return
    network.kill()
    if kind == 'network':
        for pid in farmers.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    network.begin()
    if chance.random() < 0.2:
        time.sleep(chance.uniform(0, 3))
        report.kills['bridge that starts'] += 1
        network.kill()
        network.begin()
    began = time.monotonic()
    network.wait()
    report.starts.append(time.monotonic() - began)


def run(
    kills: int,
    seed: int,
    folder: Path,
    *,
    rest: float = 4.0,
    tell: Callable[[str], object] = lambda text: None,
) -> Report:
    """Kill parts of a network.

    Args:
        kills (int): how often, at least.
        seed (int): of what is chosen.
        folder (Path): for everything.
        rest (float): seconds between two kills at the most, once all is up.
        tell (Callable[[str], object]): takes a line now and then.
    """
    chance = random.Random(seed)
    report = Report()
    network = Processes(folder / 'network')
    load = Churn(network, chance, folder)
    try:
        while report.kills.total() < kills:
            batch = min(kills, report.kills.total() + BATCH)
            with load.running():
                load.wait_for(load.begun + 4)
                while report.kills.total() < batch:
                    strike(network, chance, rest, report)
                network.wait_for_farmers()
            report.troubles += load.troubles()
            tell(f'{report.kills.total()} kills, {len(report.troubles)} troubles')
        report.removed, report.failed = len(load.removed), load.failed
        report.stored = len(load.stored) + report.removed + len(load.unsure)
    finally:
        load.close()
        network.stop()
    return report


def main() -> int:
    """Kill, and return 1 if something was not as it should be."""
    parser = seeded_parser('benchmarks.network_kills', __doc__)
    parser.add_argument('--kills', type=int, default=100)
    options = parser.parse_args()
    print(f'seed {options.seed}', flush=True)
    with tempfile.TemporaryDirectory() as name:
        report = run(
            options.kills, options.seed, Path(name), tell=lambda text: print(text, flush=True)
        )
    print_kinds(report.kills)
    print(f'{report.kills.total():5} kills, up again after {max(report.starts, default=0):.1f} s')
    print(f'{report.stored:5} files stored, {report.removed} of them removed')
    print(f'{report.failed:5} uploads failed')
    return print_troubles(report.troubles)


if __name__ == '__main__':
    sys.exit(main())
