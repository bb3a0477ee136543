"""A farmer's farewell at the bridge: signed by itself, and only with copies elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip('aiohttp')

from sqlalchemy import update

from storj.network.bridge.tables import Contact
from storj.network.node.identity import Identity
from tests.network.bridges import Account, Answer, RunningBridge, ScriptedFarmer

ALICE = Account('alice@example.org')


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[RunningBridge]:
    with RunningBridge(tmp_path, mirrors=2) as running:
        running.account()
        yield running


def ask_to_leave(bridge: RunningBridge, farmer: ScriptedFarmer) -> Answer:
    node = farmer.identity
    return bridge.farmer_request(node, 'DELETE', f'/contacts/{node.node_id}', {})


def holders(bridge: RunningBridge, count: int) -> list[ScriptedFarmer]:
    """Return so many farmers, each of which has the shard of a file."""
    farmers = [bridge.farmer(4000 + number) for number in range(count)]
    bridge.file(ALICE, bridge.bucket(ALICE))
    assert all(farmer.shards for farmer in farmers)
    return farmers


def test_only_the_farmer_itself_can_leave(bridge: RunningBridge) -> None:
    victim, other = bridge.farmer(4000), bridge.farmer(4001)
    path = f'/contacts/{victim.identity.node_id}'
    assert bridge.request('DELETE', path).status == 400
    answer = bridge.farmer_request(other.identity, 'DELETE', path, {})
    assert (answer.status, answer.error) == (400, 'Invalid nodeID header')
    unknown = Identity.generate()
    answer = bridge.farmer_request(unknown, 'DELETE', f'/contacts/{unknown.node_id}', {})
    assert (answer.status, answer.error) == (404, 'Contact not found')
    assert len(bridge.request('GET', '/contacts').json) == 2


def test_farmer_without_shards_goes_at_once(bridge: RunningBridge) -> None:
    farmer = bridge.farmer()
    node_id = farmer.identity.node_id
    answer = ask_to_leave(bridge, farmer)
    assert (answer.status, answer.json) == (200, {'nodeID': node_id, 'remaining': 0})
    assert bridge.request('GET', f'/contacts/{node_id}').status == 404


def test_last_farmer_cannot_take_the_only_copy_along(bridge: RunningBridge) -> None:
    (farmer,) = holders(bridge, 1)
    for _ in range(2):
        answer = ask_to_leave(bridge, farmer)
        assert (answer.status, answer.json['remaining']) == (202, 1)
        bridge.copies_made()
    (listed,) = bridge.request('GET', '/contacts').json
    assert (listed['nodeID'], listed['spaceAvailable']) == (farmer.identity.node_id, False)


def test_farmer_stays_until_the_others_have_all_wanted_copies(bridge: RunningBridge) -> None:
    going, staying = holders(bridge, 2)
    others = [bridge.farmer(4002), bridge.farmer(4003)]
    answer = ask_to_leave(bridge, going)
    assert (answer.status, answer.json['remaining']) == (202, 1)
    bridge.copies_made()
    assert ask_to_leave(bridge, going).status == 200
    assert all(farmer.shards == going.shards for farmer in (staying, *others))


def test_farmer_does_not_wait_for_more_copies_than_farmers(bridge: RunningBridge) -> None:
    going, _ = holders(bridge, 2)
    bridge.farmer(4002, spaceAvailable=False)
    assert ask_to_leave(bridge, going).status == 200


def test_farmer_does_not_wait_for_those_that_refuse(bridge: RunningBridge) -> None:
    going, _ = holders(bridge, 2)
    bridge.farmer(4002).refuses = True
    assert ask_to_leave(bridge, going).status == 202
    bridge.copies_made()
    assert ask_to_leave(bridge, going).status == 200


def test_farmers_that_leave_together_do_not_count_on_each_other(bridge: RunningBridge) -> None:
    first, second = holders(bridge, 2)
    leaves = update(Contact).where(Contact.node_id == first.identity.node_id)
    with bridge.state.database.begin_plain() as connection:
        # It has asked another bridge.
        connection.execute(leaves.values(leaving=bridge.state.now()))
    assert ask_to_leave(bridge, second).status == 202
