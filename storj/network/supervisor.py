"""The local network as one object: a bridge, its farmers, an account, and the folder of their data.

::

    DATA/
      network.json     account, encryption key, seed of the renter node; readable by its owner only
      bridge.db        the bridge's database, unless another URL is given
      outbox/          the bridge's messages
      metadisk/        spools of the MetaDisk node, and its key for people
      farmers/0/ ...   one folder per farmer

Bridge and farmers run in one event loop in a thread of their own; with ``processes=True`` each
farmer is a process. Either way they reach each other over sockets only.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from aiohttp import web

from storj.network.backup import Copied, back_up
from storj.network.bridge.users import open_account
from storj.network.bridge_server import BRIDGE_DESCRIPTORS, BridgeServer
from storj.network.farmer.farmer import Workers
from storj.network.farmer.settings import FarmerSettings
from storj.network.farmers import (
    START_LIMIT,
    FarmerContext,
    FarmerHandle,
    FarmerInLoop,
    FarmerProcess,
    NetworkError,
)
from storj.network.faults import FaultPlan
from storj.network.folder import NetworkFolder
from storj.network.metadisk.node import Settings as MetaDiskSettings
from storj.network.node.serving import WAKE, need_descriptors
from storj.network.node.space import Reserve
from storj.network.node.tasks import together
from storj.network.settings import NetworkOptions, NetworkSettings
from storj.text import count_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

T = TypeVar('T')

#: Farmers of a new network.
FARMERS = 6
#: Log of a network in the background, in its folder.
LOG = 'network.log'
# Descriptors that a farmer adds to those of the bridge: its lock, index and port, both ends of its
# connections with the bridge, and transfers; or the pipes of its process and one end of each
# connection.
_FARMER_DESCRIPTORS = 12
_PROCESS_DESCRIPTORS = 8
# Farmers that start at the same time, each within START_LIMIT.
_STARTED_AT_ONCE = 100
#: A bridge whose farmers keep nothing has nothing copied and nothing proved.
_NOTHING_KEPT: Mapping[str, Any] = {'mirrors': 0, 'audit_interval': 0.0}


class Network:
    """A Storj network on this machine.

    ::

        with Network(farmers=6) as net:
            client = Client(net.email, net.password, net.bridge_url)

    Args:
        farmers (int | None): how many, from 0 to 1000; by default as many as the folder has, 6 in a
            new one.
        **options (Unpack[NetworkOptions]): how it is run; see
            :class:`storj.network.settings.NetworkOptions`.

    Attributes:
        bridge_url (str): where clients reach the bridge.
        local_url (str): where this machine does, past any proxy.
        listens_on (str): the address in words, with the kinds of addresses that it stands for.
        email (str): of the account that is made for the user.
        password (str): of the account.
        mnemonic (str): encryption key for the account.
        data (Path): the folder.
        pid (int): of this process.
        farmers (list[FarmerHandle]): in the order of their numbers.
        faults (FaultPlan): may be changed while the network runs.

    Raises:
        ValueError: If an argument is invalid.
    """

    def __init__(self, farmers: int | None = None, **options: Unpack[NetworkOptions]) -> None:
        self._settings = settings = NetworkSettings(farmers, **options)
        self.faults = FaultPlan(settings.faults)
        self.farmers: list[FarmerHandle] = []
        self.pid = os.getpid()
        self.bridge_url = ''
        self.local_url = ''
        self.listens_on = settings.host
        self.email = ''
        self.password = ''
        self.mnemonic = ''
        # Farmers that are wanted; those beyond the number leave.
        self._count = 0
        self._folder: NetworkFolder | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._workers: Workers
        self._starting: asyncio.Future[None] | None = None
        self._bridge: BridgeServer | None = None
        self._clock_skews: Mapping[str, float] = {}

    def __enter__(self) -> Network:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f'<Network {self.bridge_url or "stopped"}, {count_of(len(self.farmers), "farmer")}>'

    @property
    def data(self) -> Path:
        """The folder that keeps everything."""
        return self._opened.path

    @property
    def _opened(self) -> NetworkFolder:
        if self._folder is None:
            raise RuntimeError('the network was not started')
        return self._folder

    @property
    def app(self) -> web.Application | None:
        """The bridge as an application of aiohttp; None while the network does not run."""
        return None if self._bridge is None else self._bridge.app

    @property
    def running(self) -> bool:
        """Whether the network is up."""
        return self._loop is not None

    @property
    def log(self) -> Path | None:
        """Where it logs in the background; None in a temporary folder."""
        folder = self._settings.folder
        return None if folder is None else folder / LOG

    @property
    def draining(self) -> bool:
        """Whether there are farmers beyond the wanted number, which leave."""
        return len(self.farmers) > self._count

    # ------------------------------------------------------------- life

    def start(self, given_up: threading.Event | None = None) -> bool:
        """Bring up the bridge and all farmers; returns when each farmer is registered.

        Args:
            given_up (threading.Event | None): set when nobody wants it any more, by a signal say.

        Returns:
            bool: False if it was given up before it was up; then it is stopped again.

        Raises:
            NetworkSetupError: If a port is taken, or the folder cannot be used or is in use.
            NetworkError: If some part failed.
            ResourceError: If the system allows too few open files; it raises the soft limit.
            RuntimeError: If the network runs already.
        """
        if self._loop is not None:
            raise RuntimeError('the network runs already')
        self._open_data()
        self._workers = Workers(4, 2)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run_loop, args=(self._loop,), name='storj-network', daemon=True
        )
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(self._begin(), self._loop)
        try:
            if not _ended(starting, given_up):
                self.stop()
                return False
            starting.result()
        except BaseException as error:
            self.stop()
            if isinstance(error, asyncio.TimeoutError):
                raise NetworkError('the network did not come up in time') from error
            raise
        return True

    def wait(self, stopped: threading.Event) -> None:
        """Wait until it is to be stopped.

        Args:
            stopped (threading.Event): set then.

        Raises:
            NetworkError: If the network ends by itself before that.
        """
        while not stopped.wait(WAKE):
            if self._thread is None or not self._thread.is_alive():
                raise NetworkError('the network has ended by itself; its log says why')

    def stop(self) -> None:
        """Stop everything, the last one out first; nothing happens if it does not run."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        try:
            if thread.is_alive():
                self.call(self._stop())
        finally:
            self._loop = self._thread = None
            if thread.is_alive():
                loop.call_soon_threadsafe(loop.stop)
            thread.join()
            self._workers.close()
            self._opened.close()

    @property
    def extended_key(self) -> str | None:
        """Extended public key of the bridge's renter nodes (BIP 32); None before the start.

        Farmers of the original, core 7 and later, take contracts only from keys that they know.
        """
        return None if self._bridge is None else self._bridge.extended_key

    def status(self) -> dict[str, Any]:
        """Return the state of bridge and farmers, as ``--json`` prints it; without secrets.

        Each farmer's ``clock_skew`` is None, or the seconds by which its clock is ahead of the
        bridge's (negative: behind) when that is too much for the two to talk. ``problems``, of the
        network and of each farmer, say what does not work.
        """
        problems, farmers = self.call(self._tell())
        return {
            'bridge': self.bridge_url,
            'extended_key': self.extended_key,
            'pid': self.pid,
            'data': str(self.data),
            'problems': problems,
            'farmers': [
                {**farmer, 'clock_skew': self._clock_skews.get(farmer['node_id'])}
                for farmer in farmers
            ],
        }

    async def _tell(self) -> tuple[list[str], list[dict[str, Any]]]:
        """Return what does not work in the bridge, and what is known of each farmer."""
        found = [] if self._bridge is None else await self._bridge.problems()
        farmers = await asyncio.gather(*(farmer.tell() for farmer in self.farmers))
        return [str(problem) for problem in found], farmers

    def environment(self) -> dict[str, str]:
        """Return the environment variables by which programs find and use this network."""
        return {
            'STORJ_BRIDGE': self.local_url,
            'STORJ_BRIDGE_USER': self.email,
            'STORJ_BRIDGE_PASS': self.password,
            'STORJ_ENCRYPTION_KEY': self.mnemonic,
        }

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            try:
                loop.run_forever()
            except BaseException:
                # Nobody waits for the thread; Network.wait sees that it has gone.
                logger.exception('the event loop of the network has ended')
                loop.run_until_complete(self._stop())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the network's loop and return what it returns.

        Args:
            work (Coroutine[Any, Any, T]): such as one that acts on the bridge.

        Raises:
            RuntimeError: If the network does not run.
        """
        loop = self._loop
        if loop is None:
            work.close()
            raise RuntimeError('the network does not run')
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    async def _begin(self) -> None:
        """Start; :meth:`_stop` breaks it off."""
        count = max(self._count, self._opened.farmers or 0)
        limit = START_LIMIT * math.ceil(max(1, count) / _STARTED_AT_ONCE)
        self._starting = asyncio.ensure_future(asyncio.wait_for(self._start(), limit))
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        # Faults are for those who use the network; it comes up by itself.
        self.faults.pause()
        self._bridge = bridge = self._made_bridge()
        await bridge.start()
        self.listens_on, self.local_url = bridge.listens_on, bridge.local_url
        self.bridge_url = bridge.url
        self._clock_skews = bridge.bridge.clock_skews
        before = self._opened.farmers
        known = before is not None
        await open_account(bridge.bridge, self.email, self.password, known=known)
        self.farmers = [self._farmer(number) for number in range(max(self._count, before or 0))]
        # Some at a time: each has its time to come up, which it would share with all others.
        for first in range(0, len(self.farmers), _STARTED_AT_ONCE):
            some = self.farmers[first : first + _STARTED_AT_ONCE]
            await together(*(farmer.begin() for farmer in some))
        self._opened.keep_farmers(len(self.farmers))
        self.faults.resume()
        self.faults.listener = self._share_faults
        logger.info('network is up: %s, %d farmers', self.bridge_url, len(self.farmers))

    def _made_bridge(self) -> BridgeServer:
        """Return the bridge with its MetaDisk node, not started yet."""
        wanted = self._settings
        settings: dict[str, Any] = {
            'database_url': wanted.database or f'sqlite:///{self.data / "bridge.db"}',
            'data_dir': self.data,
            'trusted_proxies': tuple(wanted.trusted_proxies),
            'activation': wanted.activation,
            'durable': wanted.durable,
            'reserve': wanted.reserve,
            **(_NOTHING_KEPT if wanted.store == 'null' else {}),
            **(wanted.bridge or {}),
        }
        return BridgeServer(
            wanted.endpoint,
            self._opened.seed,
            settings,
            MetaDiskSettings(charge=wanted.charge, **(wanted.metadisk or {})),
            # A fault hides even the bridge's own errors.
            middlewares=(self.faults.middleware,),
        )

    def _farmer(self, number: int) -> FarmerHandle:
        """Return a farmer, not started yet."""
        wanted = self._settings
        # One that is to leave does so in this process.
        own_process = wanted.processes and number < self._count
        kind = FarmerProcess if own_process else FarmerInLoop
        settings = FarmerSettings(
            self._opened.farm(number),
            self.local_url,
            size=wanted.size,
            host=wanted.host,
            address=wanted.endpoint.announced,
            protocol=wanted.versions[number % len(wanted.versions)],
            store=wanted.store,
            durable=wanted.durable,
            renters=None if self.extended_key is None else (self.extended_key,),
        )
        return kind(FarmerContext(self.call, self.faults, self._workers), number, settings)

    def _share_faults(self) -> None:
        """Tell farmers in other processes which faults there are, and wait until they know."""

        async def share() -> None:
            await asyncio.gather(*(farmer.follow_faults() for farmer in self.farmers))

        if self._settings.processes:
            self.call(share())

    async def _stop(self) -> None:
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.wait({starting})
        self.faults.listener = None
        self.faults.release()
        results = await asyncio.gather(
            *(farmer.end() for farmer in self.farmers), return_exceptions=True
        )
        if self._bridge is not None:
            await self._bridge.stop()
        # What else runs belongs to a start that failed.
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    # ------------------------------------------------------------- the folder

    def _open_data(self) -> None:
        wanted = self._settings
        folder = NetworkFolder(wanted.folder)
        try:
            Reserve(folder.path, wanted.reserve).open()
            folder.check(
                own_database=wanted.database is None, new_farmers=frozenset(wanted.new_farmers)
            )
            known = FARMERS if folder.farmers is None else folder.farmers
            self._count = known if wanted.farmers is None else wanted.farmers
            folder.check_farmers(self._count, drain=wanted.drain)
            count = max(self._count, folder.farmers or 0)
            each = _PROCESS_DESCRIPTORS if wanted.processes else _FARMER_DESCRIPTORS
            need_descriptors(
                BRIDGE_DESCRIPTORS + each * count, f'a network of {count_of(count, "farmer")}'
            )
        except BaseException:
            folder.close()
            raise
        self._folder = folder
        self.email, self.password, self.mnemonic = folder.email, folder.password, folder.mnemonic

    def back_up(self, folder: str | os.PathLike[str], *, check: bool = False) -> Copied:
        """Copy all that the network keeps while it runs; see :func:`storj.network.backup.back_up`.

        Args:
            folder (str | os.PathLike[str]): of the backup; an earlier one in it is used.
            check (bool): read all shards of the backup, and replace the damaged ones.

        Returns:
            Copied: what the backup holds.
        """
        return back_up(self.data, Path(folder), self.snapshot, check=check)

    def snapshot(self, number: int, target: Path) -> bool:
        """Copy the database of a farmer; return False if it does not run.

        Args:
            number (int): of the farmer.
            target (Path): an empty file.
        """
        return any(each.number == number and each.snapshot(target) for each in self.farmers)

    def drain(
        self,
        progress: Callable[[int, int], object] = lambda number, remaining: None,
        stopped: threading.Event | None = None,
    ) -> None:
        """Have the farmers beyond the wanted number leave, the last one first.

        Each leaves when the others have as many copies of all that it stores as are wanted, or as
        they can take; its folder stays, and may be removed. Nothing happens if there are none.

        Args:
            progress (Callable[[int, int], object]): called with the number of a farmer, and the
                shards that others have too few copies of.
            stopped (threading.Event | None): set to give up; what has not left stays.
        """
        while self.draining:
            # Those are always in this process.
            farmer = cast(FarmerInLoop, self.farmers[-1])
            loop = cast(asyncio.AbstractEventLoop, self._loop)
            leaving = asyncio.run_coroutine_threadsafe(farmer.leave(progress), loop)
            if not _ended(leaving, stopped):
                leaving.cancel()
                return
            leaving.result()
            farmer.stop()
            self.farmers.pop()
            self._opened.keep_farmers(len(self.farmers))


def _ended(work: futures.Future[None], given_up: threading.Event | None) -> bool:
    """Wait for the end of a work; return False if it is given up before."""
    while not futures.wait((work,), WAKE).done:
        if given_up is not None and given_up.is_set():
            return False
    return True
