"""What becomes of a network of which 30 % of the farmers vanish, for ``benchmarks.growth``.

A real bridge; farmers without sockets that keep their shards in memory, copy at once, and report
each copy by a signed request. Files are of one shard of 1 KiB without parity, ten for each farmer,
with the default number of copies. The farmers vanish all at once, or two at a time, as many as the
copies stand for: the next ones go when the bridge has nothing left to do.
"""

from __future__ import annotations

import random
import secrets
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from storj.digest import shard_hash
from storj.network.bridge.state import BridgeSettings
from storj.network.bridge.tables import Bucket, Challenge, Contact, Contract, Entry, Frame, Pointer
from storj.network.bridge.upkeep.repairs import REPAIRS
from storj.network.bridge.upkeep.rounds import lost_round
from tests.network.bridges import RunningBridge, ScriptedFarmer
from tests.network.nodes import Clock

VANISHING = 0.3
FILES_PER_FARMER = 10
SIZE = 1024
COPIES = 1 + BridgeSettings('sqlite://', Path()).mirrors
_LOST_AFTER = 3600.0
_FAR = 2**52


def vanish(url: str, count: int, at_once: int | None) -> dict[str, Any]:
    """Run a network and have farmers vanish.

    Args:
        url (str): of an empty database.
        count (int): farmers.
        at_once (int | None): farmers that vanish at a time; None for all.

    Returns:
        dict[str, Any]: the figures.
    """
    clock = Clock()
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningBridge(
            Path(folder),
            monotonic=clock,
            database_url=url,
            mirrors=COPIES - 1,
            lost_after=_LOST_AFTER,
            repair_interval=0.0,
        ) as bridge,
    ):
        farmers = _register(bridge, count)
        shards = _store(bridge, farmers, FILES_PER_FARMER * count)
        before = sum(len(farmer.shards) for farmer in farmers)
        gone = random.sample(farmers, round(VANISHING * count))
        began = time.perf_counter()
        for first in range(0, len(gone), at_once or len(gone)):
            for farmer in gone[first : first + (at_once or len(gone))]:
                farmer.away = True
            clock.now += _LOST_AFTER + 1
            _finished(bridge.begin(lambda: lost_round(bridge.state)))
            _finished(bridge.begin(bridge.app[REPAIRS].look))
            _finished(bridge.begin(bridge.app[REPAIRS].join))
        seconds = time.perf_counter() - began
        made = sum(len(farmer.shards) for farmer in farmers) - before
        there = [farmer for farmer in farmers if not farmer.away]
        living = [sum(name in farmer.shards for farmer in there) for name in shards]
    return {
        'farmers': count,
        'vanish at a time': at_once or len(gone),
        'shards': len(shards),
        'seconds': round(seconds, 1),
        'copies made': made,
        'of all bytes stored': round(made / before, 3),
        'below target': sum(0 < copies < COPIES for copies in living),
        'lost': living.count(0),
    }


def _finished(work: Future[None]) -> None:
    work.result(900)


def _register(bridge: RunningBridge, count: int) -> list[ScriptedFarmer]:
    farmers = [bridge.farmers.add(4000 + number) for number in range(count)]
    columns = {'protocol': '1.2.0', 'user_agent': '8.7.2', 'timeout_rate': 0.0, 'reputation': 0}
    columns |= {'created': 0, 'last_seen': 0, 'space_available': True, 'address': '127.0.0.1'}
    rows = [
        {**columns, 'node_id': each.identity.node_id, 'port': each.contact.port} for each in farmers
    ]
    with bridge.state.database.begin_plain() as connection:
        connection.execute(sa.insert(Contact), rows)
    return farmers


def _challenge(contract: dict[str, Any]) -> dict[str, Any]:
    key = {name: contract[name] for name in ('shard_hash', 'node_id')}
    return {**key, 'position': 0, 'challenge': '00' * 32}


def _store(bridge: RunningBridge, farmers: Sequence[ScriptedFarmer], count: int) -> list[str]:
    """Put files into the database and onto the farmers, as after an upload; return the hashes."""
    user = bridge.account().email
    frames, pointers, entries, contracts = [], [], [], []
    bucket = secrets.token_hex(12)
    for number in range(count):
        data = secrets.token_bytes(SIZE)
        name, key = shard_hash(data), secrets.token_hex(12)
        frames.append(
            {'id': key, 'user': user, 'created': number, 'locked': True}
            | {'size': SIZE, 'storage_size': SIZE}
        )
        pointers.append(
            {'id': secrets.token_hex(12), 'frame': key, 'position': 0}
            | {'shard_hash': name, 'size': SIZE, 'parity': False}
        )
        entries.append(
            {'id': secrets.token_hex(12), 'bucket': bucket, 'frame': key, 'name': str(number)}
            | {'mimetype': 'image/jpeg', 'created': number, 'renewal': _FAR}
        )
        for copy, farmer in enumerate(random.sample(farmers, min(COPIES, len(farmers)))):
            farmer.shards[name] = data
            contracts.append(
                {'shard_hash': name, 'node_id': farmer.identity.node_id, 'data_size': SIZE}
                | {'store_begin': number, 'store_end': _FAR, 'tree': ['00' * 20], 'document': {}}
                | {'auditable': True, 'stored': True, 'mirror': copy > 0, 'failed': False}
                | {'download_count': 0, 'next_audit': _FAR, 'next_renewal': _FAR}
            )
    new = {'id': bucket, 'user': user, 'name': 'photos', 'created': 0}
    new |= {'public_keys': [], 'public_permissions': [], 'encryption_key': ''}
    with bridge.state.database.begin_plain() as connection:
        connection.execute(sa.insert(Bucket), new)
        for table, rows in (
            (Frame, frames),
            (Pointer, pointers),
            (Entry, entries),
            (Contract, contracts),
            (Challenge, [_challenge(contract) for contract in contracts]),
        ):
            connection.execute(sa.insert(table), rows)
    return [row['shard_hash'] for row in pointers]
