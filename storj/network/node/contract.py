"""The storage contract between a bridge's renter node and a farmer (section 7.5).

Pure data: its fields, the text that both sides sign, the signatures and their verification. Who
keeps it, and what it costs, is not known here.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from storj.exception import StorjError
from storj.network.node.identity import Identity, SignatureError, is_node_id, signer_of_message

Party = Literal['renter', 'farmer']

_SIGNATURES = ('renter_signature', 'farmer_signature')
_EXTENDED_KEY = re.compile(r'[1-9A-HJ-NP-Za-km-z]{1,111}\Z')
_MAX_INTEGER = 2**53 - 1
_MAX_INDEX = 2**31 - 1
_MAX_TEXT = 128

#: What a farmer fills in; everything else must come back as the renter node wrote it.
_FARMERS_PART = ('farmer_id', 'farmer_signature', 'payment_destination')


class ContractError(StorjError):
    """A field of a contract is missing or of a wrong kind.

    The node that sent it does not speak this protocol; nothing can be done here.
    """


@dataclass(frozen=True)
class Contract:
    """A storage agreement; signed by nobody, one side or both.

    Attributes:
        data_hash (str): shard hash, 40 hex characters.
        data_size (int): bytes.
        store_begin (int): milliseconds since 1970.
        store_end (int): milliseconds since 1970.
        audit_count (int): how many challenges the renter node holds.
        renter_id (str | None): node id that signs as the renter.
        farmer_id (str | None): node id that signs as the farmer.
        renter_signature (str | None): compact Base64.
        farmer_signature (str | None): compact Base64.
        renter_hd_key (str | Literal[False]): extended public key of the bridge's renter nodes.
        renter_hd_index (int | Literal[False]): which of them signs.
        payment_destination (str | None): Bitcoin address.
    """

    data_hash: str
    data_size: int
    store_begin: int
    store_end: int
    audit_count: int = 10
    renter_id: str | None = None
    farmer_id: str | None = None
    renter_signature: str | None = None
    farmer_signature: str | None = None
    renter_hd_key: str | Literal[False] = False
    renter_hd_index: int | Literal[False] = False
    payment_storage_price: int = 0
    payment_download_price: int = 0
    payment_destination: str | None = None
    version: int = 0

    @classmethod
    def from_mapping(cls, raw: object) -> Contract:
        """Read a contract from the wire; unknown fields are dropped, as the originals do.

        Raises:
            ContractError: If a field is missing or not of its kind.
        """
        if not isinstance(raw, Mapping):
            raise ContractError('Invalid contract format')
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            # A field of a later release is not kept; if it was signed, the signature does not
            # verify here.
            if field.name in raw:
                values[field.name] = _checked(field.name, raw[field.name])
            elif field.default is dataclasses.MISSING:
                raise ContractError(f'the contract has no {field.name}')
        contract = cls(**values)
        if contract.store_end < contract.store_begin:
            raise ContractError('the contract ends before it begins')
        return contract

    def to_json(self) -> dict[str, Any]:
        """Return all fields as they travel, signatures included."""
        # The fields are texts and numbers: nothing in them needs the deep copy of `asdict`.
        return dict(vars(self))

    def signing_text(self) -> str:
        """Return what both sides sign: sorted keys, no spaces, without the signatures."""
        fields = {name: value for name, value in self.to_json().items() if name not in _SIGNATURES}
        # Byte for byte what JavaScript makes of the same fields: any difference breaks the
        # signature. {"audit_count":10,"data_hash":"...",...,"version":0}; open fields are null.
        return json.dumps(fields, sort_keys=True, separators=(',', ':'), ensure_ascii=False)

    def signed(self, party: Party, identity: Identity) -> Contract:
        """Return the contract with the signature of one side in it."""
        signature = identity.sign_message(self.signing_text())
        if party == 'renter':
            return dataclasses.replace(self, renter_signature=signature)
        return dataclasses.replace(self, farmer_signature=signature)

    def verify(self, party: Party, node_id: str | None) -> bool:
        """Return whether one side's signature is there and was made by `node_id`."""
        signature = self.renter_signature if party == 'renter' else self.farmer_signature
        if signature is None or node_id is None:
            return False
        try:
            return signer_of_message(self.signing_text(), signature)[0] == node_id
        except SignatureError:
            return False

    def is_complete(self) -> bool:
        """Return whether no field is left open."""
        return all(value is not None for value in self.to_json().values())

    def same_terms(self, other: Contract) -> bool:
        """Return whether `other` differs in nothing but what a farmer fills in."""
        mine, theirs = self.to_json(), other.to_json()
        return all(mine[name] == theirs[name] for name in mine if name not in _FARMERS_PART)


def _checked(name: str, value: object) -> object:
    """Return the value of a contract's field if it is of the field's kind."""
    if name in ('renter_id', 'farmer_id'):
        valid = value is None or is_node_id(value)
    elif name in ('renter_signature', 'farmer_signature', 'payment_destination'):
        valid = value is None or (isinstance(value, str) and len(value) <= _MAX_TEXT)
    elif name == 'data_hash':
        valid = is_node_id(value)
    elif name == 'renter_hd_key':
        valid = value is False or (
            isinstance(value, str) and _EXTENDED_KEY.match(value) is not None
        )
    elif name == 'renter_hd_index':
        valid = value is False or _is_count(value, _MAX_INDEX)
    else:
        valid = _is_count(value, _MAX_INTEGER)
    if not valid:
        raise ContractError(f'the contract has a malformed {name}')
    return value


def _is_count(value: object, maximum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= maximum
