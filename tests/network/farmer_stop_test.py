"""A farmer that stops in the middle of its work leaves nothing half done, open or unawaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storj.exception import ConfigurationError
from storj.network.farmer.bridge_link import BridgeLinkError
from storj.network.farmer.channels import PIECE
from storj.network.farmer.farmer import Farmer, Workers
from storj.network.farmer.settings import FarmerSettings
from storj.network.faults import FaultPlan
from storj.network.node.identity import Identity
from storj.network.node.rpc import NodeError
from tests.network.nodes import SHARD, SHARD_HASH, Site, push, run, site

SIZE = 3 * PIECE


async def begun(here: Site) -> None:
    """Wait until a part of an upload has arrived."""
    while not any((here.farmer.settings.path / 'incoming').iterdir()):
        await asyncio.sleep(0)


@pytest.mark.parametrize('abruptly', [False, True])
def test_stop_in_mid_upload_leaves_no_open_file_and_no_half_shard(
    tmp_path: Path, abruptly: bool
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.push_token(SHARD, size=SIZE)
            never = asyncio.Event()

            async def half() -> AsyncIterator[bytes]:
                yield bytes(PIECE + 1)
                await never.wait()

            name = {'name': SHARD_HASH}
            sending = asyncio.ensure_future(here.post(half(), token, **name))
            await begun(here)
            store = here.farmer.store
            await here.farmer.stop(abruptly=abruptly)
            assert list((tmp_path / 'incoming').iterdir()) == []
            assert store.arriving == 0
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    run(test)


def test_stop_waits_for_the_end_of_a_transfer_that_stands_still(tmp_path: Path) -> None:
    async def test() -> None:
        faults = FaultPlan(['stall:operation=push,offset=4'])
        # Threads that others share: their end gives the transfer no time to end by itself.
        workers = Workers()
        async with site(tmp_path, faults=faults, workers=workers) as here:
            sending = asyncio.ensure_future(here.post(SHARD, await here.push_token()))
            while not faults.stalled:
                await asyncio.sleep(0)
            await here.farmer.stop()
            assert here.farmer.channels.active == 0
            assert list((tmp_path / 'incoming').iterdir()) == []
            await asyncio.gather(sending, return_exceptions=True)
        workers.close()

    run(test)


@pytest.mark.parametrize('abruptly', [False, True])
def test_stop_in_mid_upload_over_web_socket_leaves_nothing(tmp_path: Path, abruptly: bool) -> None:
    async def test() -> None:
        async with site(tmp_path, protocol='0.10.0') as here:
            token = await here.push_token(SHARD, size=SIZE)
            async with here.session.ws_connect(f'{here.url}/') as channel:
                await channel.send_json(push(token))
                await channel.send_bytes(bytes(PIECE + 1))
                await begun(here)
                store = here.farmer.store
                await here.farmer.stop(abruptly=abruptly)
                assert list((tmp_path / 'incoming').iterdir()) == []
                assert store.arriving == 0

    run(test)


def test_copy_is_refused_once_the_farmer_stops(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path / 'a') as source, site(tmp_path / 'b') as copy:
            token = await source.store()
            contract = (await copy.alloc()).contract
            copies = copy.farmer.copies
            await copies.close()
            with pytest.raises(NodeError, match='Not accepting'):
                await copies.begin(contract, source.farmer.contact(), token)
            assert copies.running == {}
            assert list((tmp_path / 'b' / 'incoming').iterdir()) == []

    run(test)


def test_second_farmer_on_a_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            second = Farmer(FarmerSettings(tmp_path))
            with pytest.raises(ConfigurationError, match='another farmer'):
                await second.start()
            assert not second.running
            assert (tmp_path / 'farmer.lock').stat().st_mode & 0o777 == 0o600
            token = await here.store()
            assert await here.get(token) == (200, SHARD)

    run(test)


def test_folder_is_free_again_after_a_start_cancelled_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(*arguments: object, **options: object) -> Identity:
        begun.set()
        assert go_on.wait(10)
        return known(*arguments, **options)

    known = Identity.load
    monkeypatch.setattr(Identity, 'load', slow)

    async def test() -> None:
        farmer = Farmer(FarmerSettings(tmp_path, durable=False))
        starting = asyncio.ensure_future(farmer.start())
        await asyncio.to_thread(begun.wait, 10)
        for _ in range(2):
            starting.cancel()
            await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await starting
        async with site(tmp_path) as here:
            assert here.farmer.running

    run(test)


def test_folder_is_free_again_after_the_stop(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.farmer.stop()
            second = Farmer(FarmerSettings(tmp_path))
            await second.start()
            await second.stop()

    run(test)


def test_farmer_that_leaves_waits_for_a_busy_bridge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('storj.network.farmer.farmer.LEAVE_INTERVAL', 0.0)
    answers: list[int | BridgeLinkError] = [3, BridgeLinkError('busy', 503), 1, 0]

    class Link:
        url = 'http://bridge.example'

        async def depart(self) -> int:
            answer = answers.pop(0)
            if isinstance(answer, BridgeLinkError):
                raise answer
            return answer

        async def close(self) -> None:
            assert not answers

    farmer, told = Farmer(FarmerSettings(tmp_path)), []
    farmer.link = Link()  # type: ignore[assignment]
    asyncio.run(farmer.leave(told.append))
    assert told == [3, 1, 0]
