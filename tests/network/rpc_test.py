"""The node RPC: envelope, checks, replays, limits; and the methods of a farmer behind it."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from storj.digest import ShardDigest, merkle_rows, new_challenges, shard_hash, verify_proof
from storj.network.bridge.renter import RenterNode
from storj.network.farmer.expiry import UNCONFIRMED
from storj.network.farmer.settings import FarmerSettings
from storj.network.node import rpc
from storj.network.node.contract import Contract
from storj.network.node.identity import ExtendedKey, Identity
from storj.network.node.rpc import (
    ClockSkewError,
    ContactError,
    NodeContact,
    NodeError,
    NodeUnreachableError,
    RpcClient,
    RpcServer,
    is_compatible,
)
from tests.network.contract_test import JSON
from tests.network.nodes import DAY, SHARD, SHARD_HASH, Clock, Site, run, site

CONTACT = NodeContact('127.0.0.1', 4000, 'a' * 40, '1.2.0', '8.7.2', 1)


def envelope(site: Site, *, identity: Identity | None = None, **changes: Any) -> dict[str, Any]:
    """Return a PING that is right but for the changes."""
    identity = identity or Identity.generate()
    identifier = os.urandom(20).hex()
    nonce = changes.pop('nonce', int(site.clock() * 1000))
    protocol = changes.pop('protocol', site.farmer.settings.protocol)
    contact = NodeContact('127.0.0.1', 4000, identity.node_id, protocol)
    params = {
        'contact': contact.to_json(),
        'nonce': nonce,
        'signature': identity.sign_message(f'{identifier}{nonce}'),
    }
    return {'method': 'PING', 'id': identifier, 'params': {**params, **changes}}


async def post(site: Site, body: Any) -> tuple[int, Any]:
    data = body if isinstance(body, (bytes, str)) else json.dumps(body)
    content = io.BytesIO(data.encode() if isinstance(data, str) else data)
    async with site.session.post(f'{site.url}/', data=content) as answer:
        return answer.status, await answer.json()


async def refusal(site: Site, body: Any) -> str:
    status, answer = await post(site, body)
    assert status == 200
    assert answer['error']['code'] == -32603
    assert answer['result']['contact']['nodeID'] == site.farmer.identity.node_id
    text: str = answer['error']['message']
    return text


def test_ping_is_answered_and_signed(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.renter.ping(here.farmer.contact())
            message = envelope(here)
            status, answer = await post(here, message)
            assert status == 200
            assert answer['id'] == message['id']
            assert set(answer['result']) == {'contact', 'nonce', 'signature'}

    run(test)


def test_failed_checks_are_refused_with_the_words_of_the_protocol(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            now = int(here.clock() * 1000)
            other = Identity.generate()
            cases: list[tuple[dict[str, Any], str]] = [
                (envelope(here, nonce=now - 15001), 'Message signature expired'),
                (envelope(here, nonce=now + 15001), 'Message signature expired'),
                (envelope(here, nonce=str(now)), 'Message signature expired'),
                (envelope(here, signature='?'), 'Invalid signature supplied'),
                (envelope(here, signature=None), 'Invalid signature supplied'),
                (
                    envelope(here, signature=other.sign_message('else')),
                    'Signature verification failed',
                ),
                (envelope(here, contact=None), 'Invalid contact data supplied'),
                (
                    envelope(here, contact={**CONTACT.to_json(), 'port': 0}),
                    'Invalid contact data supplied',
                ),
                (envelope(here, protocol='0.10.0'), 'Protocol version is incompatible'),
                (envelope(here, protocol='1.2.0-testnet'), 'Protocol version is incompatible'),
                ({**envelope(here), 'method': 'FLY'}, 'Method not found'),
            ]
            for body, text in cases:
                assert await refusal(here, body) == text

    run(test)


def test_contact_with_another_extended_key_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            identity = Identity.generate()
            message = envelope(here, identity=identity)
            message['params']['contact']['hdKey'] = ExtendedKey.renter(b'stranger').public
            message['params']['contact']['hdIndex'] = 0
            assert await refusal(here, message) == 'Invalid derived public key'

    run(test)


def test_replayed_message_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            message = envelope(here)
            assert 'error' not in (await post(here, message))[1]
            assert await refusal(here, message) == 'Message was already received'
            here.clock.now += 16
            assert await refusal(here, message) == 'Message signature expired'
            here.clock.now += 60
            assert 'error' not in (await post(here, envelope(here)))[1]

    run(test)


def test_messages_are_forgotten_though_the_clock_was_set_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            for _ in range(3):
                assert 'error' not in (await post(here, envelope(here)))[1]
            here.clock.step(-3 * 365 * DAY)
            here.clock.now += 31
            assert 'error' not in (await post(here, envelope(here)))[1]
            assert len(here.farmer.rpc._seen) == 1

    run(test)


@pytest.mark.parametrize('ahead', [-70.0, 16.0, 3600.0])
def test_wrong_clock_is_told_with_its_seconds(tmp_path: Path, ahead: float) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            here.farmer.rpc.clock = lambda: here.clock() + ahead
            with pytest.raises(ClockSkewError, match='Message signature expired') as told:
                await here.renter.ping(here.farmer.contact())
            assert told.value.seconds == pytest.approx(ahead, abs=0.01)

    run(test)


def test_clock_of_an_answer_that_is_not_genuine_is_not_believed() -> None:
    sender = Identity.generate()
    nonce = 1_480_000_000_000
    part = {'contact': {**CONTACT.to_json(), 'nodeID': sender.node_id}, 'nonce': nonce}
    for signature in ('?', Identity.generate().sign_message(f'{"ab" * 20}{nonce}')):
        with pytest.raises(NodeError) as refused:
            rpc._verify({**part, 'signature': signature}, 'ab' * 20, CONTACT, 1_480_000_100.0)
        assert type(refused.value) is NodeError
        assert str(refused.value) == 'Message signature expired'


@pytest.mark.parametrize(
    'body',
    [b'', b'{', b'[]', b'"x"', b'\xff\xff', b'[' * 100000, b'{"method":"PING"}',
     b'{"method":"PING","params":{},"id":"../../x"}', b'{"method":1,"params":{},"id":"%s"}'],
)  # fmt: skip
def test_what_is_no_message_is_a_bad_request(tmp_path: Path, body: bytes) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            assert (await post(here, body.replace(b'%s', b'a' * 40)))[0] == 400

    run(test)


def test_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            assert (await post(here, b' ' * (1024 * 1024 + 1)))[0] == 413

    run(test)


@given(JSON)
def test_contacts_of_any_form_make_no_other_error_than_ours(raw: object) -> None:
    for value in (
        raw,
        *({**CONTACT.to_json(), name: raw} for name in ('address', 'port', 'lastSeen')),
    ):
        try:
            contact = NodeContact.from_mapping(value)
        except ContactError:
            continue
        assert NodeContact.from_mapping(contact.to_json()) == contact


def test_contact_of_a_bridge_says_its_last_day_as_text() -> None:
    raw = CONTACT.to_json()
    raw.pop('lastSeen', None)
    assert NodeContact.from_mapping(raw).last_seen is None
    for said in ('2016-11-24T15:06:40.000Z', 1480000000000, 1480000000000.0, '1480000000000'):
        assert NodeContact.from_mapping({**raw, 'lastSeen': said}).last_seen == 1480000000000
    for said in ('soon', '', True, [], -1, float('nan'), float('inf'), '1' * 5000):
        with pytest.raises(ContactError):
            NodeContact.from_mapping({**raw, 'lastSeen': said})


@pytest.mark.parametrize(
    'address',
    ['host/../x', 'a b', '', 'x@y', 'http://x', 'fe80::1%eth0', '-x', '127.1', '0x7f000001', 'a.1'],
)
def test_address_that_would_become_another_url_is_refused(address: str) -> None:
    with pytest.raises(ContactError):
        NodeContact.from_mapping({**CONTACT.to_json(), 'address': address})


@pytest.mark.parametrize(
    ('local', 'remote', 'compatible'),
    [
        ('1.2.0', '1.0.0', True),
        ('1.2.0', '2.0.0', False),
        ('0.10.0', '0.10.5', True),
        ('0.10.0', '0.9.0', False),
        ('0.10.0', '1.2.0', False),
        ('1.2.0', '1.2.0-test', False),
        ('1.2.0-test', '1.1.0-test', True),
        ('1.2.0', 'latest', False),
    ],
)
def test_versions_comply_as_in_section_1_5(local: str, remote: str, compatible: bool) -> None:
    assert is_compatible(local, remote) is compatible


def test_ipv6_contact_has_a_url() -> None:
    assert replace(CONTACT, address='::1').url == 'http://[::1]:4000'


def serve(answer: Mapping[str, Any] | str, status: int = 200) -> Any:
    """Return a context that runs a node which answers everything the same."""

    class Node:
        async def __aenter__(self) -> NodeContact:
            async def handler(request: web.Request) -> web.Response:
                message = await request.json()
                if isinstance(answer, str):
                    return web.Response(text=answer, status=status)
                return web.json_response({'id': message['id'], **answer}, status=status)

            app = web.Application()
            app.router.add_post('/', handler)
            self.runner = web.AppRunner(app)
            await self.runner.setup()
            await web.TCPSite(self.runner, '127.0.0.1', 0).start()
            return replace(CONTACT, port=self.runner.addresses[0][1])

        async def __aexit__(self, *error: object) -> None:
            await self.runner.cleanup()

    return Node()


@pytest.mark.parametrize(
    ('answer', 'status'),
    [
        ('no JSON', 200),
        ('[]', 200),
        ('<html>', 502),
        ('x' * 2_000_000, 200),
        ({'result': {}}, 200),
        ({'result': []}, 200),
        ({'result': {'contact': CONTACT.to_json(), 'nonce': 1, 'signature': 'x'}}, 200),
        ({'id': 'f' * 40, 'result': {}}, 200),
    ],
    ids=lambda value: str(value)[:20],
)
def test_answer_that_is_not_signed_by_the_farmer_is_an_error(answer: Any, status: int) -> None:
    async def test() -> None:
        renter = RenterNode(Identity.generate())
        try:
            async with serve(answer, status) as contact:
                with pytest.raises(NodeError):
                    await renter.ping(contact)
        finally:
            await renter.close()

    run(test)


def test_packed_answer_is_not_unpacked(tmp_path: Path) -> None:
    packed = gzip.compress(bytes(64 * 1024 * 1024))

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=packed, headers={'Content-Encoding': 'gzip'})

    async def test() -> None:
        app = web.Application()
        app.router.add_post('/', handler)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, '127.0.0.1', 0).start()
        renter = RenterNode(Identity.generate())
        try:
            # What came is within the limit, and no JSON as it is.
            with pytest.raises(NodeError, match='Invalid RPC answer'):
                await renter.ping(replace(CONTACT, port=runner.addresses[0][1]))
        finally:
            await renter.close()
            await runner.cleanup()

    run(test)


def test_answer_of_another_node_is_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            contact = replace(here.farmer.contact(), node_id='b' * 40)
            with pytest.raises(NodeError, match='502'):
                await here.renter.ping(contact)

    run(test)


def test_farmer_that_is_gone_is_unreachable(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.farmer.stop()
            with pytest.raises(NodeUnreachableError):
                await here.renter.ping(here.farmer.contact())

    run(test)


def test_repeated_failure_of_a_handler_is_not_a_crash() -> None:
    async def test() -> None:
        clock = Clock()
        identity = Identity.generate()
        contact = NodeContact('127.0.0.1', 1, identity.node_id, '1.2.0')

        async def refuse(params: Mapping[str, Any], sender: NodeContact) -> Mapping[str, Any]:
            raise NodeError('no')

        server = RpcServer(identity, lambda: contact, {'PING': refuse}, clock=clock)
        app = web.Application()
        app.router.add_post('/', server.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, '127.0.0.1', 0).start()
        contact = replace(contact, port=runner.addresses[0][1])
        caller = Identity.generate()
        own = NodeContact('127.0.0.1', 1, caller.node_id, '1.2.0')
        client = RpcClient(caller, lambda: own, clock=clock)
        try:
            for _ in range(2):
                with pytest.raises(NodeError, match='no'):
                    await client.call(contact, 'PING')
        finally:
            await client.close()
            await runner.cleanup()

    run(test)


# --- the methods of a farmer (section 7.4)


def test_alloc_returns_a_contract_that_both_have_signed(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            allocation = await here.alloc()
            contract = allocation.contract
            assert contract.is_complete()
            assert contract.verify('renter', here.renter.node_id)
            assert contract.verify('farmer', here.farmer.identity.node_id)
            assert contract.payment_destination == here.farmer.identity.payment_address
            assert contract.renter_hd_key == here.renter.extended_key
            assert allocation.auditable
            assert allocation.token not in repr(allocation)

    run(test)


def test_alloc_without_an_extended_key_is_taken_too(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.renter.close()
            here.renter = RenterNode(Identity.generate(), clock=here.clock)
            token = await here.store()
            assert await here.get(token) == (200, SHARD)

    run(test)


async def call(site: Site, method: str, params: Mapping[str, Any]) -> str:
    """Call a method that must be refused, and return the farmer's words."""
    with pytest.raises(NodeError) as refused:
        await site.renter.calls.call(site.farmer.contact(), method, params)
    return refused.value.message


def test_alloc_of_a_bad_contract_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path, size=1000) as here:
            now = int(here.clock() * 1000)
            good = Contract(
                SHARD_HASH, 9, now, now + 1000, renter_id=here.renter.node_id,
                renter_hd_key=here.renter.extended_key or False, renter_hd_index=0,
            )  # fmt: skip
            identity = here.renter.identity

            async def alloc(contract: Contract, **more: Any) -> str:
                signed = contract.signed('renter', identity)
                return await call(here, 'ALLOC', {'contract': signed.to_json(), **more})

            assert await call(here, 'ALLOC', {}) == 'Invalid contract'
            unsigned = {'contract': good.to_json()}
            assert await call(here, 'ALLOC', unsigned) == 'Invalid contract signature'
            stranger = replace(good, renter_id='c' * 40)
            assert await alloc(stranger) == 'Invalid contract signature'
            foreign = replace(good, renter_hd_key=ExtendedKey.renter(b'x').public)
            assert await alloc(foreign) == 'Invalid contract signature'
            assert await alloc(replace(good, data_size=0)) == 'Not accepting contracts'
            assert await alloc(replace(good, data_size=2**40)) == 'Not accepting contracts'
            assert await alloc(replace(good, data_size=1001)) == 'No space left'
            past = replace(good, store_begin=1, store_end=now - 1)
            assert await alloc(past) == 'Not accepting contracts'
            for tree in ([], ['x'], ['a' * 40] * 3, 'a' * 40, ['a' * 40] * 8192):
                assert await alloc(good, audit_tree=tree) == 'Invalid audit tree supplied'
            for count in (0, 17, '2', True):
                assert await alloc(good, tokens=count) == 'Invalid count supplied'

    run(test)


def test_alloc_promises_no_more_than_the_size(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path, size=1000) as here:
            await here.alloc(b'a' * 600)
            with pytest.raises(NodeError, match='No space left'):
                await here.alloc(b'b' * 600)
            # The same shard again needs no more room.
            await here.store(b'a' * 600)
            await here.alloc(b'a' * 600)
            await here.alloc(b'c' * 400)

    run(test)


def test_renter_that_is_not_on_the_list_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path, renters=('d' * 40,)) as here:
            with pytest.raises(NodeError, match='Not accepting contracts'):
                await here.alloc()

    run(test)


def test_retrieve_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            words = await call(here, 'RETRIEVE', {'data_hash': '../x'})
            assert words == 'Invalid data hash provided: ../x'
            words = await call(here, 'RETRIEVE', {'data_hash': SHARD_HASH})
            assert words == 'Contract not found or not authorized'
            await here.alloc()
            words = await call(here, 'RETRIEVE', {'data_hash': SHARD_HASH})
            assert words == 'Shard data not found'

    run(test)


def test_retrieve_by_another_bridge_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            stranger = RenterNode(ExtendedKey.renter(b'stranger'), clock=here.clock)
            try:
                with pytest.raises(NodeError, match='Contract not found or not authorized'):
                    await stranger.retrieve(here.farmer.contact(), SHARD_HASH)
            finally:
                await stranger.close()

    run(test)


def test_renter_nodes_of_one_bridge_share_their_contracts(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            key = ExtendedKey.renter(b'one bridge')
            await here.renter.close()
            here.renter = RenterNode(key, clock=here.clock)
            await here.store()
            sibling = RenterNode(key, index=5, clock=here.clock)
            try:
                token = await sibling.retrieve(here.farmer.contact(), SHARD_HASH)
            finally:
                await sibling.close()
            assert await here.get(token) == (200, SHARD)

    run(test)


def test_consign_takes_the_audit_leaves_later(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            words = await call(here, 'CONSIGN', {'data_hash': SHARD_HASH, 'audit_tree': ['a' * 40]})
            assert words == 'Contract not found or not authorized'
            now = int(here.clock() * 1000)
            end = now + int(90 * DAY * 1000)
            terms = Contract(
                SHARD_HASH, 9, now, end, renter_id=here.renter.node_id,
                renter_hd_key=here.renter.extended_key or False, renter_hd_index=0,
            ).signed('renter', here.renter.identity)  # fmt: skip
            contact = here.farmer.contact()
            result = await here.renter.calls.call(contact, 'ALLOC', {'contract': terms.to_json()})
            assert 'audit_tree' not in result
            challenges = new_challenges(2)
            digest = ShardDigest(challenges)
            digest.update(SHARD)
            params = {'data_hash': SHARD_HASH, 'audit_tree': digest.leaves()}
            token = (await here.renter.calls.call(contact, 'CONSIGN', params))['token']
            assert (await here.post(SHARD, token))[0] == 200
            proofs = await here.renter.audit(contact, [(SHARD_HASH, challenges[1])])
            rows = merkle_rows(digest.leaves())
            assert verify_proof(proofs[0], rows[0][0], len(rows))
            here.clock.now += 91 * DAY
            words = await call(here, 'CONSIGN', params)
            assert words == 'Consignment violates contract store time'

    run(test)


@pytest.mark.parametrize('protocol', ['0.10.0', '1.2.0'])
@pytest.mark.parametrize('generation', ['B', 'C'])
def test_audits_are_proved_in_the_generation_of_the_leaves(
    tmp_path: Path, protocol: str, generation: Any
) -> None:
    async def test() -> None:
        async with site(tmp_path, protocol=protocol) as here:
            data = os.urandom(100_000)
            name = shard_hash(data)
            allocation = await here.alloc(data, generation=generation)
            assert (await here.post(data, allocation.token))[0] == 200
            challenges = here.challenges[name]
            contact = here.farmer.contact()
            proofs = await here.renter.audit(contact, [(name, text) for text in challenges])
            digest = ShardDigest(challenges, generation)
            digest.update(data)
            rows = merkle_rows(digest.leaves(), generation)
            assert len(proofs) == 3
            for proof in proofs:
                assert verify_proof(proof, rows[0][0], len(rows), generation)
            assert here.farmer.status()['counters']['audits'] == 3

    run(test)


def test_audit_of_damaged_data_fails(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            file = tmp_path / 'shards' / SHARD_HASH[:2] / SHARD_HASH
            file.write_bytes(b'Testshard')
            audits = [(SHARD_HASH, here.challenges[SHARD_HASH][0])]
            with pytest.raises(NodeError, match='Failed to generate proof'):
                await here.renter.audit(here.farmer.contact(), audits)
            # It has noticed itself that the shard is bad.
            assert not file.exists()
            assert (tmp_path / 'quarantine' / 'bad' / SHARD_HASH).read_bytes() == b'Testshard'
            with pytest.raises(NodeError, match='Shard not found'):
                await here.renter.audit(here.farmer.contact(), audits)

    run(test)


def test_malformed_audits_are_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            good = {'data_hash': SHARD_HASH, 'challenge': 'a' * 64}
            for audits in (None, {}, [], [good] * 65):
                words = await call(here, 'AUDIT', {'audits': audits})
                assert words == 'Invalid audit list supplied'
            for audit in (None, {}, {**good, 'data_hash': '../x'}, {**good, 'challenge': 'a'}):
                words = await call(here, 'AUDIT', {'audits': [audit]})
                assert words == 'Invalid data hash or challenge provided'
            assert await call(here, 'AUDIT', {'audits': [good]}) == 'Shard not found'

    run(test)


def test_renew_changes_the_times_and_nothing_else(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            contract = (await here.alloc()).contract
            identity, contact = here.renter.identity, here.farmer.contact()
            words = await call(here, 'RENEW', {'contract': contract.to_json()})
            assert words == 'Shard data not found'
            await here.store()
            later = replace(contract, store_end=contract.store_end + 1000)
            params = {'contract': later.signed('renter', identity).to_json()}
            result = await here.renter.calls.call(contact, 'RENEW', params)
            renewed = Contract.from_mapping(result['contract'])
            assert renewed.store_end == later.store_end
            assert renewed.verify('farmer', contact.node_id)
            larger = replace(contract, data_size=10).signed('renter', identity)
            words = await call(here, 'RENEW', {'contract': larger.to_json()})
            assert words == 'data_size cannot be changed'
            words = await call(here, 'RENEW', {'contract': later.to_json()})
            assert words == 'Invalid new renter signature on updated contract'

    run(test)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'renter_id': 'c' * 40}, 'Invalid new renter signature on updated contract'),
        (
            {'renter_hd_key': ExtendedKey.renter(b'another').public},
            'renter_hd_key cannot be changed',
        ),
    ],
)
def test_renew_for_another_renter_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            contract = (await here.alloc()).contract
            foreign = replace(contract, **change, store_end=contract.store_end + 1)
            signed = foreign.signed('renter', here.renter.identity)
            assert await call(here, 'RENEW', {'contract': signed.to_json()}) == words
            kept = here.farmer.index.contract(SHARD_HASH, here.renter.extended_key or '')
            assert kept is not None
            assert (kept.renter_id, kept.store_end) == (contract.renter_id, contract.store_end)

    run(test)


def test_contract_that_is_ended_keeps_no_space(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path, size=1000) as here:
            contract = (await here.alloc(b'a' * 600)).contract
            with pytest.raises(NodeError, match='No space left'):
                await here.alloc(b'b' * 600)
            end = int(here.clock() * 1000)
            ended = await here.renter.renew(here.farmer.contact(), contract, store_end=end)
            assert ended.store_end == end
            await here.store(b'b' * 600)

    run(test)


def test_farmer_that_leaves_takes_no_contracts(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.store()
            here.farmer._leaving = True
            for data in (b'another', SHARD):
                with pytest.raises(NodeError, match='Not accepting contracts'):
                    await here.alloc(data)
            assert await here.get(token) == (200, SHARD)
            await here.renter.retrieve(here.farmer.contact(), SHARD_HASH)

    run(test)


def test_renewed_contract_is_complete_and_lives_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            token = await here.store()
            contract = (await here.alloc()).contract
            contact, index = here.farmer.contact(), here.farmer.index
            end = contract.store_end + int(90 * DAY * 1000)
            renewed = await here.renter.renew(contact, contract, store_end=end)
            assert renewed == replace(
                contract,
                store_end=end,
                renter_signature=renewed.renter_signature,
                farmer_signature=renewed.farmer_signature,
            )
            assert renewed.is_complete()
            assert renewed.verify('renter', here.renter.node_id)
            assert renewed.verify('farmer', contact.node_id)
            here.clock.now += 100 * DAY
            await here.farmer.forget()
            assert index.contract(SHARD_HASH, here.renter.extended_key or '') == renewed
            token = await here.renter.retrieve(contact, SHARD_HASH)
            assert await here.get(token) == (200, SHARD)
            # It is audited by the leaves that it had before.
            assert await here.renter.audit(contact, [(SHARD_HASH, here.challenges[SHARD_HASH][0])])
            here.clock.now += 90 * DAY
            await here.farmer.forget()
            assert here.farmer.status()['shards'] == 0
            # What waits in quarantine is taken back by whoever wants it still.
            again = await here.renter.renew(contact, renewed, store_end=end + 1)
            assert here.farmer.status()['shards'] == 1
            here.clock.now += 90 * DAY
            await here.farmer.forget()
            here.clock.now += UNCONFIRMED
            await here.farmer.forget()
            with pytest.raises(NodeError, match='No contract found'):
                await here.renter.renew(contact, again, store_end=end + 2)
            assert not list(tmp_path.rglob(SHARD_HASH))

    run(test)


@pytest.mark.parametrize(
    'change', [{'store_end': 3 * 10**12}, {'farmer_signature': None}, {'version': 1}]
)
def test_farmer_that_changes_a_renewal_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            contract = (await here.alloc()).contract
            farmer = here.farmer.identity

            async def renew(params: Any, sender: NodeContact) -> Any:
                changed = replace(Contract.from_mapping(params['contract']), **change)
                if 'farmer_signature' not in change:
                    changed = changed.signed('farmer', farmer)
                return {'contract': changed.to_json()}

            monkeypatch.setitem(here.farmer.rpc.handlers, 'RENEW', renew)  # type: ignore[arg-type]
            with pytest.raises(NodeError, match='another contract'):
                await here.renter.renew(here.farmer.contact(), contract, store_end=2 * 10**12)

    run(test)


@pytest.mark.parametrize('protocol', ['0.10.0', '1.2.0'])
def test_mirror_copies_over_the_channel_of_the_source(tmp_path: Path, protocol: str) -> None:
    async def test() -> None:
        data = os.urandom(2_500_000)
        name = shard_hash(data)
        async with (
            site(tmp_path / 'source', protocol=protocol) as source,
            site(tmp_path / 'copy') as copy,
        ):
            token = await source.store(data)
            await copy.alloc(data)
            contact = copy.farmer.contact()
            await copy.renter.mirror(contact, name, token, source.farmer.contact())
            await next(iter(copy.farmer.copies.running.values()))
            assert copy.farmer.status()['counters'] == {'mirror_success': 1}
            fetched = await copy.get(await copy.renter.retrieve(contact, name), name)
            assert fetched == (200, data)
            # It has the shard now: at once {}, and nothing is fetched.
            await copy.renter.mirror(contact, name, 'e' * 40, source.farmer.contact())
            assert not copy.farmer.copies.running

    run(test)


@pytest.mark.parametrize('protocol', ['0.10.0', '1.2.0'])
@pytest.mark.parametrize('kind', ['token', 'corrupt', 'truncate', 'drop', 'refuse'])
def test_mirror_of_wrong_data_is_thrown_away(tmp_path: Path, protocol: str, kind: str) -> None:
    async def test() -> None:
        async with (
            site(tmp_path / 'source', protocol=protocol) as source,
            site(tmp_path / 'copy') as copy,
        ):
            token = await source.store()
            if kind == 'token':
                token = 'e' * 40
            else:
                source.faults.add(f'{kind}:offset=3,times=0')
            await copy.alloc()
            contact = copy.farmer.contact()
            await copy.renter.mirror(contact, SHARD_HASH, token, source.farmer.contact())
            await next(iter(copy.farmer.copies.running.values()))
            assert copy.farmer.status()['counters'] == {'mirror_failed': 1}
            assert copy.farmer.status()['shards'] == 0
            assert not list((tmp_path / 'copy' / 'incoming').iterdir())

    run(test)


@pytest.mark.parametrize('protocol', ['0.10.0', '1.2.0'])
def test_contract_comes_with_a_copy_of_its_shard(tmp_path: Path, protocol: str) -> None:
    async def test() -> None:
        async with (
            site(tmp_path / 'source', protocol=protocol) as source,
            site(tmp_path / 'copy') as copy,
        ):
            await source.store()
            origin = source.farmer.contact()
            tokens = await source.renter.retrieve_some(origin, SHARD_HASH, 2)
            assert len(set(tokens)) == 2
            told: list[bool] = []
            copy.farmer.copies._ended = lambda *args: told.append(args[-1])
            for _ in range(2):
                # The second time it has the shard, and the token stays good.
                assert (await copy.alloc(source=(origin, tokens[0]))).copied is True
            # Its answer tells the end of the copy: no report does.
            assert told == [False]
            assert (await copy.get(tokens[1], SHARD_HASH))[0] == 401
            token = await copy.renter.retrieve(copy.farmer.contact(), SHARD_HASH)
            assert await copy.get(token, SHARD_HASH) == (200, SHARD)

    run(test)


def test_contract_comes_with_tokens_for_copies_of_its_shard(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            assert not (await here.alloc()).tokens
            granted = await here.alloc(tokens=2)
            assert len({granted.token, *granted.tokens}) == 3
            assert granted.tokens[0] not in repr(granted)
            assert (await here.post(SHARD, granted.token))[0] == 200
            told: list[str] = []
            here.farmer.channels._report = lambda _hash, _begun, message: told.append(message)
            for token in granted.tokens:
                assert await here.get(token, SHARD_HASH) == (200, SHARD)
                assert (await here.get(token, SHARD_HASH))[0] == 401
            contact = here.farmer.contact()
            some = await here.renter.retrieve_some(contact, SHARD_HASH, 1)
            assert await here.get(some[0], SHARD_HASH) == (200, SHARD)
            # Who makes a copy reports it; this farmer reports what clients fetch.
            assert told == []
            assert await here.get(await here.renter.retrieve(contact, SHARD_HASH), SHARD_HASH)
            assert told == ['SHARD_DOWNLOADED']

    run(test)


@pytest.mark.parametrize('kind', ['token', 'corrupt', 'busy', 'slow'])
def test_contract_comes_without_a_copy_that_cannot_be_made(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with site(tmp_path / 'source') as source, site(tmp_path / 'copy') as copy:
            token = await source.store()
            origin = source.farmer.contact()
            if kind == 'token':
                token = 'e' * 40
            elif kind == 'corrupt':
                source.faults.add('corrupt:times=0')
            elif kind == 'busy':
                monkeypatch.setattr('storj.network.farmer.copies.AT_ONCE', 0)
            else:
                monkeypatch.setattr('storj.network.farmer.copies.PATIENCE', 0.0)
            ended: list[tuple[Any, ...]] = []
            copy.farmer.copies._ended = lambda *args: ended.append(args[-2:])
            granted = await copy.alloc(source=(origin, token))
            # Unless it is known that there is none, MIRROR follows.
            assert granted.copied is (False if kind in ('token', 'corrupt') else None)
            if kind == 'slow':
                await asyncio.gather(*copy.farmer.copies.running.values())
                assert ended == [(True, True)]
            # The contract stands all the same.
            status, _ = await copy.post(SHARD, granted.token)
            assert status in (200, 304)

    run(test)


@pytest.mark.parametrize('count', [0, 17, '2', True])
def test_wrong_number_of_tokens_is_refused(tmp_path: Path, count: Any) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            await here.store()
            words = await call(here, 'RETRIEVE', {'data_hash': SHARD_HASH, 'count': count})
            assert words == 'Invalid count supplied'

    run(test)


def test_mirror_without_a_contract_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path) as here:
            params = {'data_hash': SHARD_HASH, 'token': 'e' * 40, 'farmer': CONTACT.to_json()}
            words = await call(here, 'MIRROR', params)
            assert words == 'Contract not found or not authorized'
            await here.alloc()
            words = await call(here, 'MIRROR', {**params, 'farmer': {}})
            assert words == 'Invalid contact data supplied'
            assert await call(here, 'MIRROR', {**params, 'token': '&x'}) == 'Invalid token supplied'

    run(test)


def test_probe_calls_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path / 'one') as one, site(tmp_path / 'two') as two:
            target = two.farmer.contact()
            assert await one.farmer.calls.call(target, 'PROBE')
            found = await one.farmer.calls.call(target, 'FIND_NODE', {'key': 'a' * 40})
            assert found['nodes'] == []
            # The renter node of this test listens nowhere.
            two.renter.port = 1
            words = await call(two, 'PROBE', {})
            assert words == 'Probe failed, you are not addressable'

    run(test)


@given(st.lists(JSON, min_size=8, max_size=16))
@settings(max_examples=4, deadline=None)
def test_no_message_makes_a_farmer_fail(values: list[object]) -> None:
    async def test(path: Path) -> None:
        async with site(path) as here:
            params = (await post(here, envelope(here)))[1]['result']
            for value in values:
                status, _ = await post(here, json.dumps(value))
                assert status == 400
                for name in ('contact', 'nonce', 'signature'):
                    message = {'method': 'AUDIT', 'id': 'a' * 40, 'params': {**params, name: value}}
                    assert 'error' in (await post(here, message))[1]
                for frame in (value, {'token': value}, {'token': 'a' * 40, 'hash': value}):
                    code, _, _ = await here.talk(json.dumps(frame))
                    assert code in (3100, 3101)

    with tempfile.TemporaryDirectory() as folder:
        run(lambda: test(Path(folder)))


@pytest.mark.parametrize(
    'values',
    [
        {'protocol': '2.0.0'},
        {'store': 'tape'},
        {'size': 0},
        {'port': 70000},
        {'host': '::'},
        {'token_lifetime': 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        FarmerSettings(Path('x'), **values)


PROOFS = st.recursive(
    st.one_of(st.text(max_size=3), st.integers(), st.none()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
)


@given(PROOFS)
def test_malformed_proofs_are_our_error(raw: object) -> None:
    from storj.network.bridge.renter import _plain_proof

    with pytest.raises(NodeError):
        _plain_proof(raw)


def test_proofs_of_binary_hashes_are_read() -> None:
    from storj.network.bridge.renter import _plain_proof

    binary = {'type': 'Buffer', 'data': [171] * 20}
    assert _plain_proof([[binary], 'cd' * 20]) == [['ab' * 20], 'cd' * 20]
