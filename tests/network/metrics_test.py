"""What a bridge measures in its database for Prometheus."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, update

from storj.network.bridge.status import TOTALS
from storj.network.bridge.tables import Contact, Contract, Repair
from storj.network.metrics import measure
from tests.network.bridges import Account, RunningBridge


def measured(bridge: RunningBridge) -> dict[str, float]:
    counted = bridge.call(bridge.app[TOTALS].get)
    with bridge.state.database.begin() as session:
        found = measure(session, counted, bridge.state.now())
    assert found.pop('storj_measured_timestamp_seconds') == bridge.state.now() / 1000
    return {name: value for name, value in found.items() if value}


def test_contracts_farmers_and_repairs_are_counted(bridge: RunningBridge, alice: Account) -> None:
    assert measured(bridge) == {}
    for port in (4000, 4001, 4002):
        bridge.farmer(port)
    bridge.file(alice, bridge.bucket(alice))

    def change(statement: Any, *rows: Any) -> None:
        with bridge.state.database.begin_plain() as connection:
            connection.execute(statement, *rows)

    now = bridge.state.now()
    change(update(Contract).values(stored=True))
    change(update(Contact).where(Contact.port == 4001).values(lost=True))
    change(update(Contact).where(Contact.port == 4002).values(last_timeout=now))
    change(update(Contact).values(audits_passed=2, audits_failed=1))
    waits = {'copies': 1, 'pause': 0, 'refused': False, 'again': False}
    rows = [
        {'shard_hash': f'{number:040x}', 'due': now + 1000 * number, **waits} for number in range(3)
    ]
    change(insert(Repair), rows)
    with bridge.state.database.begin() as session:
        sizes = [contract.data_size for contract in session.query(Contract)]
    assert measured(bridge) == {
        'storj_contracts first': len(sizes),
        'storj_contract_bytes first': sum(sizes),
        'storj_farmers there': 1,
        'storj_farmers lost': 1,
        'storj_farmers silent': 1,
        'storj_audits passed': 6,
        'storj_audits failed': 3,
        'storj_repairs due': 1,
        'storj_repairs later': 2,
    }
