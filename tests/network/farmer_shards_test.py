"""A farmer has what its disk says it has: looked at when asked, walked over, told to the bridge."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from storj.digest import shard_hash
from storj.exception import ConfigurationError
from storj.network.farmer.index import FarmerIndex
from storj.network.farmer.scrub import Scrub
from storj.network.farmer.shard_store import ShardCheck
from storj.network.farmer.shards import QUARANTINE
from storj.network.farmer.store import StoreError
from storj.network.node.rpc import NodeError
from tests.network.nodes import DAY, SHARD, SHARD_HASH, Site, alter, pull, push, run, site

OTHER = b'another shard'


def rot(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    path.write_bytes(content)


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


DAMAGE = pytest.mark.parametrize('damage', [rot, shrink, empty, Path.unlink])


def file_of(here: Site, data: bytes = SHARD) -> Path:
    name = shard_hash(data)
    return here.farmer.settings.path / 'shards' / name[:2] / name


# ---------------------------------------------------------------- offered again


@DAMAGE
def test_bad_shard_is_taken_anew_over_http(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            damage(file_of(here))
            assert (await here.post(SHARD, await here.push_token()))[0] == 200
            assert file_of(here).read_bytes() == SHARD
            assert (await here.post(SHARD, await here.push_token()))[0] == 304
            assert here.farmer.status()['used'] == len(SHARD)
            # The bridge need not know of it any more.
            assert here.farmer.index.bad() == []

    run(test)


@DAMAGE
def test_bad_shard_is_taken_anew_over_web_socket(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    async def test() -> None:
        async with site(tmp_path, protocol='0.10.0') as here:
            await here.store()
            damage(file_of(here))
            answer = await here.talk(push(await here.push_token()), SHARD)
            assert answer == (1000, 'Consignment completed', [])
            assert file_of(here).read_bytes() == SHARD
            counters = here.farmer.status()['counters']
            assert (counters['shard_uploaded'], counters.get('shard_exists')) == (2, None)

    run(test)


@DAMAGE
def test_bad_shard_is_copied_anew(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    async def test() -> None:
        async with site(tmp_path / 'a') as source, site(tmp_path / 'b') as copy:
            await source.store()
            await copy.store()
            damage(file_of(copy))
            await copy.alloc()
            token = await source.renter.retrieve(source.farmer.contact(), SHARD_HASH)
            await copy.renter.mirror(
                copy.farmer.contact(), SHARD_HASH, token, source.farmer.contact()
            )
            while copy.farmer.copies.running:
                await asyncio.sleep(0)
            assert file_of(copy).read_bytes() == SHARD

    run(test)


@pytest.mark.parametrize('damage', [shrink, empty, Path.unlink])
def test_download_of_what_is_not_there_is_refused(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.store()
            damage(file_of(here))
            with pytest.raises(NodeError, match='Shard data not found'):
                await here.renter.retrieve(here.farmer.contact(), SHARD_HASH)
            assert await here.get(token) == (404, {'result': 'Shard data not found'})
            async with here.session.ws_connect(f'{here.url}/') as channel:
                await channel.send_json(pull(token))
                with pytest.raises(asyncio.TimeoutError):
                    await channel.receive(0.2)
            assert here.farmer.index.bad() != []

    run(test)


def test_large_shard_is_hashed_once_a_day_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            monkeypatch.setattr('storj.network.farmer.shards._CHEAP', len(SHARD) - 1)
            rot(file_of(here))
            assert (await here.post(SHARD, await here.push_token()))[0] == 304
            here.clock.now += DAY
            assert (await here.post(SHARD, await here.push_token()))[0] == 200

    run(test)


def test_contract_of_another_size_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            with pytest.raises(NodeError, match='another size'):
                await here.alloc(SHARD, size=len(SHARD) + 1)

    run(test)


def test_shard_that_is_replaced_while_it_is_read_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            rot(file_of(here))
            step = ShardCheck.step

            def replaced(check: ShardCheck) -> int:
                size = step(check)
                new = tmp_path / 'new'
                if size:
                    new.write_bytes(SHARD)
                    new.replace(file_of(here))
                return size

            monkeypatch.setattr(ShardCheck, 'step', replaced)
            assert await here.farmer.shards.verify(SHARD_HASH)
            assert file_of(here).read_bytes() == SHARD

    run(test)


# ---------------------------------------------------------------- a claim that cannot be written


def test_shard_that_cannot_be_written_down_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            tokens = [await here.push_token() for _ in range(3)]

            def refuse(*_: object) -> None:
                raise StoreError('The index is out of order')

            with monkeypatch.context() as disk:
                disk.setattr(FarmerIndex, 'stored', refuse)
                assert (await here.post(SHARD, tokens[0]))[0] == 500
                assert (await here.talk(push(tokens[1]), SHARD))[0] == 1011
            assert not file_of(here).exists()
            assert here.farmer.status()['used'] == 0
            assert (await here.post(SHARD, tokens[2]))[0] == 200

    run(test)


def test_answer_waits_for_shard_and_claim_to_be_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with site(tmp_path, durable=True) as here:
            token = await here.push_token()
            synced: list[int] = []
            fsync = os.fsync

            def spy(descriptor: int) -> None:
                synced.append(os.fstat(descriptor).st_ino)
                fsync(descriptor)

            monkeypatch.setattr(os, 'fsync', spy)
            assert (await here.post(SHARD, token))[0] == 200
            path = file_of(here)
            parts = (path, path.parent, path.parent.parent, tmp_path / 'farmer.db-wal', tmp_path)
            assert synced == [part.stat().st_ino for part in parts]

    run(test)


# ---------------------------------------------------------------- the start


@DAMAGE
def test_start_finds_what_is_missing_or_of_another_size(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            await here.store(OTHER)
            await here.farmer.stop()
            damage(file_of(here))
            await here.farmer.start()
            lost = [] if damage is rot else [SHARD_HASH]
            assert [name for name, _ in here.farmer.index.bad()] == lost
            assert here.farmer.status()['shards'] == 2 - len(lost)

    run(test)


def test_disk_that_is_not_mounted_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            await here.store(OTHER)
            await here.farmer.stop()
            shards = tmp_path / 'shards'
            shards.rename(tmp_path / 'away')
            shards.mkdir()
            with pytest.raises(ConfigurationError, match=r'knows of 2 shards.*Mount'):
                await here.farmer.start()
            shards.rmdir()
            (tmp_path / 'away').rename(shards)
            await here.farmer.start()
            assert here.farmer.status()['shards'] == 2

    run(test)


def test_end_between_two_steps_of_a_drop_loses_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            here.farmer.store.quarantine(SHARD_HASH, 'ended')
            await here.farmer.stop()
            await here.farmer.start()
            assert here.farmer.index.bad() == []
            token = await here.renter.retrieve(here.farmer.contact(), SHARD_HASH)
            assert await here.get(token) == (200, SHARD)

    run(test)


def test_shard_without_a_claim_is_adopted(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            await here.farmer.stop()
            alter(here.index_path, 'DELETE FROM shards')
            await here.farmer.start()
            assert here.farmer.index.shards() == {SHARD_HASH: len(SHARD)}

    run(test)


# ---------------------------------------------------------------- the walk


def scrub(here: Site, interval: float = 0.0) -> Scrub:
    farmer = here.farmer
    return Scrub(farmer.shards, farmer.index, 1e9, interval, here.clock.monotonic)


@DAMAGE
def test_walk_finds_what_is_bad_and_keeps_it_apart(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            await here.store(OTHER)
            damage(file_of(here))
            assert await scrub(here).walk() == 1
            assert await scrub(here).walk() == 0
            assert here.farmer.status()['shards'] == 1
            assert file_of(here, OTHER).read_bytes() == OTHER
            kept = tmp_path / 'quarantine' / 'bad' / SHARD_HASH
            assert kept.exists() == (damage is not Path.unlink)
            here.clock.now += QUARANTINE + 1
            await here.farmer.forget()
            assert not kept.exists()

    run(test)


def test_walk_leaves_out_what_was_hashed_lately(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            rot(file_of(here))
            assert await scrub(here, 100).walk() == 0
            here.clock.now += 100
            assert await scrub(here, 100).walk() == 1

    run(test)


def test_walk_goes_on_where_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    async def cut(name: str, pause: object) -> bool:
        if len(read) == 3:
            raise StoreError('the disk is away')
        read.append(name)
        return True

    async def test() -> None:
        monkeypatch.setattr('storj.network.farmer.scrub._SAVED_EVERY', 1)
        async with site(tmp_path) as here:
            for number in range(6):
                await here.store(bytes([number]))
            names = sorted(shard_hash(bytes([number])) for number in range(6))
            monkeypatch.setattr(here.farmer.shards, 'verify', cut)
            with pytest.raises(StoreError):
                await scrub(here).walk()
            assert read == names[:3]
            read.clear()
            # A full disk keeps it from writing the place down, not from reading.
            monkeypatch.setattr(FarmerIndex, 'set_note', refuse)
            assert await scrub(here).walk() == 0
            assert read == names[3:]

    def refuse(*_: object) -> None:
        raise StoreError('No space left for the index')

    run(test)


def test_walk_keeps_to_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            data = os.urandom(3 * 1024 * 1024)
            await here.store(data)
            slept: list[float] = []
            sleep, loop = asyncio.sleep, asyncio.get_running_loop()

            async def spy(seconds: float) -> None:
                # Networks of other tests may have loops of their own.
                ours = asyncio.get_running_loop() is loop
                if ours:
                    slept.append(seconds)
                await sleep(0 if ours else seconds)

            walk = Scrub(here.farmer.shards, here.farmer.index, 2**20, 0, here.clock.monotonic)
            monkeypatch.setattr(asyncio, 'sleep', spy)
            await walk.walk()
            monkeypatch.undo()
            # A piece at a time, so that one large shard is read no faster than others.
            assert [seconds for seconds in slept if seconds] == [1 / 16, 1.0, 1.0, 1.0]

    run(test)


def test_disk_that_fails_does_not_make_its_shards_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            with monkeypatch.context() as disk:
                disk.setattr(Path, 'open', refuse)
                with pytest.raises(StoreError):
                    await scrub(here).walk()
            assert here.farmer.status()['shards'] == 1

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, 'Too many open files')

    run(test)


def test_shard_whose_file_cannot_be_moved_counts_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            rot(file_of(here))
            with monkeypatch.context() as disk:
                disk.setattr(Path, 'replace', refuse)
                assert await scrub(here).walk() == 1
            assert here.farmer.status()['shards'] == 0
            assert [name for name, _ in here.farmer.index.bad()] == [SHARD_HASH]

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, 'Read-only file system')

    run(test)
