"""What a MetaDisk node answers, as records; an invalid field is an error of the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from storj.crypto.convergent import Reference
from storj.exception import BridgeUnavailableError


@dataclass(frozen=True)
class Price:
    """What a node asks for transfer.

    Attributes:
        amount (int): bytes of transfer.
        cost (int): US cents.
    """

    amount: int
    cost: int

    @classmethod
    def from_answer(cls, row: object) -> Price:
        """Read a row of the list of prices."""
        return cls(number_of(row, 'amount'), number_of(row, 'cost'))


@dataclass(frozen=True)
class FileRecord:
    """What a node tells everyone about a file.

    Attributes:
        filehash (str): 64 hex digits.
        filename (str): its name on the node: the beginning of the filehash, ``_``, the cleaned
            name that its first uploader gave it. It comes from the network: never use it as a path.
        filesize (int): bytes.
        datetime (datetime): when it was stored; UTC.
        uploads (tuple[Mapping[str, Any], ...]): where it is stored, as the node describes it: a
            ``host_name`` with its ``url``, or with ``error`` if that host has lost it. Hosts of
            2014 had the whole file; a farmer has the ``shards`` of these indices.
        version (str): of the record's format.
        shards (int | None): how many the file has; None where nodes know none.
    """

    filehash: str
    filename: str
    filesize: int
    datetime: datetime
    uploads: tuple[Mapping[str, Any], ...] = ()
    version: str = ''
    shards: int | None = None

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> FileRecord:
        """Read the answer of ``GET /api/find``."""
        uploads = answer.get('uploads')
        if not isinstance(uploads, list) or not all(isinstance(row, dict) for row in uploads):
            raise unusable('uploads')
        try:
            stored = datetime.fromtimestamp(float(answer['datetime']), timezone.utc)
        except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
            raise unusable('datetime') from error
        return cls(
            filehash=text_of(answer, 'filehash'),
            filename=text_of(answer, 'filename'),
            filesize=number_of(answer, 'filesize'),
            datetime=stored,
            uploads=tuple(uploads),
            version=str(answer.get('version', '')),
            shards=number_of(answer, 'shards') if 'shards' in answer else None,
        )


@dataclass(frozen=True)
class Coin:
    """The block chain to which a node writes its records.

    Attributes:
        name (str): ``datacoin`` or ``florincoin``.
        address (str): the node's address on it.
        balance (float | None): coins, where the node tells.
        block (int | None): newest block, where the node tells.
    """

    name: str
    address: str
    balance: float | None = None
    block: int | None = None

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> Coin | None:
        """Find the coin in any of its three forms; None if there is none."""
        forms = (('datacoin', 'datacoin'), ('florincoin', 'florincoin'), ('metachains', ''))
        for block, name in forms:
            coin = answer.get(block)
            if not isinstance(coin, dict):
                continue
            balance, height = coin.get('balance'), coin.get('block')
            return cls(
                name=name or str(coin.get('coin', '')),
                address=str(coin.get('address', '')),
                balance=float(balance) if isinstance(balance, (int, float)) else None,
                block=height if isinstance(height, int) else None,
            )
        return None


@dataclass(frozen=True)
class NodeStatus:
    """State of a node; all sizes in bytes.

    Attributes:
        capacity (int): what the node can store.
        used (int): what it stores.
        max_file_size (int): the largest file that it announces.
        incoming (int): bytes received this month.
        outgoing (int): bytes sent this month.
        total_incoming (int): bytes received since the node began.
        total_outgoing (int): bytes sent since the node began.
        incoming_limit (int): bytes a month; 0 for none.
        outgoing_limit (int): bytes a month; 0 for none.
        coin (Coin | None): its block chain, whichever of the three known forms told it.
        raw (Mapping[str, Any]): the whole answer.
    """

    capacity: int
    used: int
    max_file_size: int
    incoming: int
    outgoing: int
    total_incoming: int
    total_outgoing: int
    incoming_limit: int
    outgoing_limit: int
    coin: Coin | None
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> NodeStatus:
        """Read the answer of ``GET /api/status``."""
        bandwidth, storage = _object(answer, 'bandwidth'), _object(answer, 'storage')
        current, total = _object(bandwidth, 'current'), _object(bandwidth, 'total')
        limits = _object(bandwidth, 'limits')
        return cls(
            capacity=number_of(storage, 'capacity'),
            used=number_of(storage, 'used'),
            max_file_size=number_of(storage, 'max_file_size'),
            incoming=number_of(current, 'incoming'),
            outgoing=number_of(current, 'outgoing'),
            total_incoming=number_of(total, 'incoming'),
            total_outgoing=number_of(total, 'outgoing'),
            incoming_limit=number_of(limits, 'incoming'),
            outgoing_limit=number_of(limits, 'outgoing'),
            coin=Coin.from_answer(answer),
            raw=answer,
        )


@dataclass(frozen=True)
class Download:
    """A finished download.

    Attributes:
        size (int): bytes.
        counter (int | None): first counter block of the file's encryption, 0 or 1; None when the
            node decrypted it.
        path (Path | None): where the file is now; None when it went to a file object.
    """

    size: int
    counter: int | None
    path: Path | None


def unusable(name: str) -> BridgeUnavailableError:
    """Return the error of an answer without a field that makes sense."""
    return BridgeUnavailableError(f'the answer has no usable {name!r}', 200)


def _object(answer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = answer.get(name)
    if not isinstance(value, dict):
        raise unusable(name)
    return value


def text_of(answer: Mapping[str, Any], name: str) -> str:
    """Return a field that is a text, and not an empty one."""
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise unusable(name)
    return value


def number_of(answer: object, name: str) -> int:
    """Return a whole number; a node that never moved a byte says null for none."""
    value = answer.get(name, '') if isinstance(answer, dict) else ''
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise unusable(name)
    return value


def reference_of(answer: Mapping[str, Any]) -> Reference:
    """Return the reference that ``POST /api/upload`` answers with."""
    try:
        return Reference(text_of(answer, 'filehash'), text_of(answer, 'key'))
    except ValueError as error:
        raise unusable('filehash and key') from error
