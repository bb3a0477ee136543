"""Contracts: the signed text of the vectors, signatures, and malformed input."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj.network.node.contract import Contract, ContractError
from storj.network.node.identity import Identity

VECTOR = json.loads((Path(__file__).parents[1] / 'vectors' / 'protocol.json').read_text('utf-8'))[
    'contract_signing_string'
]
FIELDS: dict[str, Any] = VECTOR['contract_without_signatures']
RENTER, FARMER = Identity.generate(), Identity.generate()

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def test_signed_text_matches_the_vector() -> None:
    assert Contract.from_mapping(FIELDS).signing_text() == VECTOR['stable_json']


def test_fields_travel_unchanged_and_unknown_ones_are_left_out() -> None:
    contract = Contract.from_mapping({**FIELDS, 'novelty': 1})
    signed = contract.signed('renter', RENTER)
    assert Contract.from_mapping(json.loads(json.dumps(signed.to_json()))) == signed
    assert 'novelty' not in signed.to_json()


def test_signatures_of_both_sides_verify() -> None:
    contract = dataclasses.replace(
        Contract.from_mapping(FIELDS), renter_id=RENTER.node_id, farmer_id=FARMER.node_id
    )
    assert not contract.verify('renter', RENTER.node_id)
    assert not contract.is_complete()
    signed = contract.signed('renter', RENTER).signed('farmer', FARMER)
    assert signed.is_complete()
    assert signed.verify('renter', RENTER.node_id)
    assert signed.verify('farmer', FARMER.node_id)
    assert not signed.verify('farmer', RENTER.node_id)
    assert not signed.verify('farmer', None)
    changed = dataclasses.replace(signed, data_size=10)
    assert not changed.verify('farmer', FARMER.node_id)
    assert not changed.same_terms(signed)
    assert not dataclasses.replace(signed, farmer_signature='?').verify('farmer', FARMER.node_id)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('data_hash', '../../../etc/passwd'),
        ('data_hash', 'A' * 40),
        ('data_hash', None),
        ('data_size', -1),
        ('data_size', True),
        ('data_size', '9'),
        ('data_size', 1.5),
        ('data_size', 2**60),
        ('store_end', 0),
        ('renter_id', 'me'),
        ('renter_hd_key', True),
        ('renter_hd_key', '0' * 111),
        ('renter_hd_index', 2**31),
        ('farmer_signature', 'x' * 200),
        ('payment_destination', ['1']),
    ],
)
def test_malformed_field_is_refused(name: str, value: object) -> None:
    with pytest.raises(ContractError):
        Contract.from_mapping({**FIELDS, name: value})


@pytest.mark.parametrize('name', ['data_hash', 'data_size', 'store_begin', 'store_end'])
def test_missing_field_is_named(name: str) -> None:
    fields = {key: value for key, value in FIELDS.items() if key != name}
    with pytest.raises(ContractError, match=name):
        Contract.from_mapping(fields)


@given(JSON, st.sampled_from(sorted(FIELDS)))
def test_no_input_makes_another_error_than_ours(value: object, name: str) -> None:
    for raw in (value, {**FIELDS, name: value}):
        try:
            contract = Contract.from_mapping(raw)
        except ContractError:
            continue
        assert contract.signing_text()
