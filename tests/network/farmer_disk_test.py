"""A farmer whose disk takes no more: refusals in words, nothing lost, nothing raised unseen."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from storj.digest import shard_hash
from storj.network.farmer.channels import DataChannels
from storj.network.node.rpc import NodeError
from tests.network.nodes import DAY, SHARD, SHARD_HASH, Site, alter, pull, push, run, site

OTHER = b'another shard'


def fill(here: Site) -> None:
    """Let the index take nothing more, as a full disk does."""
    here.farmer.index._run('PRAGMA query_only = ON')


def test_index_that_takes_nothing_refuses_uploads_and_not_downloads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            fetch = await here.store()
            tokens = [await here.push_token(OTHER) for _ in range(2)]
            contact = here.farmer.contact()
            fill(here)
            with pytest.raises(NodeError, match='out of order'):
                await here.alloc(b'a third one')
            status, answer = await here.post(OTHER, tokens[0])
            assert status == 500
            assert 'out of order' in answer['result']
            code, reason, _ = await here.talk(push(tokens[1], shard_hash(OTHER)), OTHER)
            assert code == 1011
            assert 'out of order' in reason
            assert (await here.talk(pull(fetch)))[0] == 1000
            fetch = await here.renter.retrieve(contact, SHARD_HASH)
            assert await here.get(fetch) == (200, SHARD)
            # What costs no space still works.
            name = SHARD_HASH
            (proof,) = await here.renter.audit(contact, [(name, here.challenges[name][0])])
            assert proof
            assert here.farmer.status()['counters']['shard_downloaded'] == 2
            # The end of a sweep is in the log only; the farmer goes on with it.
            await here.farmer.forget()
            assert not here.farmer.tasks.failed.done()
            here.farmer.index._run('PRAGMA query_only = OFF')

    run(test)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def test_sweep_goes_on_when_the_index_is_out_of_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            here.clock.now += 100 * DAY
            fill(here)
            await here.farmer.tasks.stop()
            looked = []
            monkeypatch.setattr(DataChannels, 'abort_idle', lambda self: looked.append(self))
            sweeping = here.farmer._sweep()
            # Up to the pause between two rounds.
            sweeping.send(None)
            sweeping.close()
            assert looked

    run(test)
    assert 'cannot look for what has expired' in caplog.text


def test_damaged_contract_is_refused_in_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            await here.farmer.stop()
            alter(here.index_path, "UPDATE contracts SET contract = '{'")
            await here.farmer.start()
            with pytest.raises(NodeError, match='damaged'):
                await here.renter.retrieve(here.farmer.contact(), SHARD_HASH)

    run(test)
    warnings = [r.levelname for r in caplog.records if r.levelno >= logging.WARNING]
    assert warnings == ['WARNING']
