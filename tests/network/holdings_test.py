"""What farmers tell about their own shards: bad ones are replaced, unneeded ones may be dropped."""

from __future__ import annotations

from typing import Any

import pytest

from storj.network.bridge.tables import Contract
from storj.network.bridge.upkeep.renewals import renewal_round
from storj.network.bridge.upkeep.rounds import sweep
from storj.network.node.identity import Identity
from tests.network.bridges import Account, Answer, RunningBridge, ScriptedFarmer
from tests.network.nodes import DAY, SHARD_HASH

LIFE = 90 * DAY


def tell(bridge: RunningBridge, farmer: ScriptedFarmer, **lists: object) -> Answer:
    node = farmer.identity
    return bridge.farmer_request(node, 'POST', f'/contacts/{node.node_id}/shards', lists)


def unneeded(bridge: RunningBridge, farmer: ScriptedFarmer, *hashes: str) -> list[str]:
    answer = tell(bridge, farmer, ended=list(hashes))
    assert (answer.status, answer.json['nodeID']) == (200, farmer.identity.node_id)
    return list(answer.json['unneeded'])


def contracts(bridge: RunningBridge) -> list[Any]:
    with bridge.state.database.begin() as session:
        return list(session.query(Contract))


def test_only_the_farmer_itself_tells_of_its_shards(bridge: RunningBridge, alice: Account) -> None:
    farmer = bridge.farmer()
    bridge.file(alice, bridge.bucket(alice))
    path = f'/contacts/{farmer.identity.node_id}/shards'
    body = {'bad': [SHARD_HASH]}
    assert bridge.request('POST', path, body).status == 400
    other = bridge.farmer_request(Identity.generate(), 'POST', path, body)
    assert (other.status, other.error) == (400, 'Invalid nodeID header')
    assert [contract.failed for contract in contracts(bridge)] == [False]
    stranger = Identity.generate()
    answer = bridge.farmer_request(stranger, 'POST', f'/contacts/{stranger.node_id}/shards', body)
    assert (answer.status, answer.error) == (404, 'Contact not found')


@pytest.mark.parametrize(
    'lists',
    [
        {'bad': SHARD_HASH},
        {'bad': [SHARD_HASH.upper()]},
        {'bad': ['ab' * 32]},
        {'ended': [None]},
        {'ended': {}},
        {'ended': [f'{number:040x}' for number in range(1001)]},
    ],
)
def test_list_that_is_none_is_refused(bridge: RunningBridge, lists: dict[str, object]) -> None:
    answer = tell(bridge, bridge.farmer(), **lists)
    assert (answer.status, answer.error) == (400, f'Invalid {next(iter(lists))} supplied')


def test_bad_shard_of_its_own_counts_no_more(bridge: RunningBridge, alice: Account) -> None:
    farmer, other = bridge.farmer(4000), bridge.farmer(4001)
    bucket = bridge.bucket(alice)
    file = bridge.file(alice, bucket)
    (pointer,) = bridge.request('GET', f'/buckets/{bucket}/files/{file}', by=alice).json
    holder, stranger = farmer, other
    if pointer['farmer']['nodeID'] != farmer.identity.node_id:
        holder, stranger = other, farmer
    # Nobody's word about a shard that it does not keep counts.
    assert tell(bridge, stranger, bad=[SHARD_HASH]).json['unneeded'] == []
    assert [contract.failed for contract in contracts(bridge)] == [False]
    assert tell(bridge, holder, bad=['00' * 20, SHARD_HASH]).status == 200
    # The copy that replaces it may have its contract already.
    kept = {contract.node_id: contract.failed for contract in contracts(bridge)}
    assert kept[holder.identity.node_id] is True


def test_only_what_has_ended_and_nobody_needs_is_unneeded(
    bridge: RunningBridge, alice: Account
) -> None:
    farmer = bridge.farmer()
    bucket = bridge.bucket(alice)
    file = bridge.file(alice, bucket)
    # Neither before its end, nor what the bridge does not know.
    assert unneeded(bridge, farmer, SHARD_HASH, '00' * 20) == []
    bridge.clock.now += LIFE
    assert unneeded(bridge, farmer, SHARD_HASH) == []
    # What is needed is renewed instead.
    bridge.call(lambda: renewal_round(bridge.state))
    assert bridge.request('DELETE', f'/buckets/{bucket}/files/{file}', by=alice).status == 204
    assert unneeded(bridge, farmer, SHARD_HASH) == []
    bridge.clock.now += LIFE
    bridge.call(lambda: renewal_round(bridge.state))
    # An answer that is lost on its way is given again.
    assert unneeded(bridge, farmer, SHARD_HASH) == [SHARD_HASH]
    assert unneeded(bridge, farmer, SHARD_HASH) == [SHARD_HASH]
    assert [contract.stored for contract in contracts(bridge)] == [False]


def test_shard_of_an_upload_that_is_under_way_is_needed(
    bridge: RunningBridge, alice: Account
) -> None:
    farmer = bridge.farmer()
    bridge.add_shard(alice, bridge.frame(alice))
    bridge.clock.now += LIFE - 1
    bridge.call(lambda: sweep(bridge.state))
    bridge.add_shard(alice, bridge.frame(alice))
    with bridge.state.database.begin() as session:
        session.query(Contract).update({Contract.store_end: 0})
    assert unneeded(bridge, farmer, SHARD_HASH) == []
    for step in (3 * 365 * DAY, -6 * 365 * DAY):
        # Uploads grow old by no clock that is set.
        bridge.clock.step(step)
        bridge.call(lambda: sweep(bridge.state))
        assert unneeded(bridge, farmer, SHARD_HASH) == []
    bridge.clock.now += LIFE - 1
    bridge.call(lambda: sweep(bridge.state))
    assert unneeded(bridge, farmer, SHARD_HASH) == []
    bridge.clock.now += 3600
    bridge.call(lambda: sweep(bridge.state))
    assert unneeded(bridge, farmer, SHARD_HASH) == [SHARD_HASH]


def test_bridge_without_records_confirms_nothing(bridge: RunningBridge) -> None:
    farmer = bridge.farmer()
    bridge.clock.now += 10 * LIFE
    assert unneeded(bridge, farmer, SHARD_HASH) == []


def test_needed_shard_that_is_asked_about_is_renewed_at_once(
    bridge: RunningBridge, alice: Account
) -> None:
    farmer = bridge.farmer()
    bridge.file(alice, bridge.bucket(alice))
    with bridge.state.database.begin() as session:
        # As the round leaves it while no file needs it.
        (contract,) = session.query(Contract)
        contract.next_renewal = contract.store_end + int(LIFE * 1000)
    bridge.clock.now += LIFE
    assert unneeded(bridge, farmer, SHARD_HASH) == []
    bridge.call(lambda: renewal_round(bridge.state))
    (contract,) = contracts(bridge)
    assert contract.store_end == bridge.state.now() + int(LIFE * 1000)
