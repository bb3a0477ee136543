"""Whether a stored file could be had back: what its farmers bring is told as it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storj.exception import DecryptionError, FarmerError, TransferCancelled, TransferError
from storj.model import File
from storj.transfer import FileHealth, Progress
from tests.unit.fake_network import BUCKET, SHARD, FakeBridge, Setting
from tests.unit.transfer_resume_test import break_off

#: Five data shards, four of parity.
PIECE = 512 * 1024
LARGE = 4 * PIECE + 16


def holder(setting: Setting, file: File, index: int) -> tuple[str, str]:
    """Return the farmer of a shard, and the hash of that."""
    shard, node = setting.bridge.frames[file.frame.id][index]
    return node, str(shard.hash)


def test_whole_file_is_healthy(setting: Setting) -> None:
    file = setting.upload(os.urandom(3 * SHARD + 7))
    states: list[Progress] = []
    health = setting.transfers.verify(BUCKET, file.id, progress=states.append)
    assert health.healthy
    assert health.recoverable
    assert health.authenticated
    assert (health.bucket_id, health.file_id) == (BUCKET, file.id)
    assert (health.have, health.need, health.size) == (4, 4, 3 * SHARD + 7)
    assert [shard.index for shard in health.shards] == [0, 1, 2, 3]
    assert [(shard.farmer, shard.hash) for shard in health.shards] == [
        holder(setting, file, index) for index in range(4)
    ]
    assert [shard.size for shard in health.shards] == [SHARD, SHARD, SHARD, 7]
    assert {shard.error for shard in health.shards} == {None}
    assert states[-1].shards == states[-1].shards_total == 4
    assert states[-1].bytes == states[-1].total == 3 * SHARD + 7


def lose(setting: Setting, file: File, index: int) -> None:
    node, shard_hash = holder(setting, file, index)
    del setting.bridge.farmers[node][shard_hash]


def damage(setting: Setting, file: File, index: int) -> None:
    node, shard_hash = holder(setting, file, index)
    setting.bridge.farmers[node][shard_hash] = bytes(SHARD)


def cut(setting: Setting, file: File, index: int) -> None:
    node, shard_hash = holder(setting, file, index)
    setting.bridge.farmers[node][shard_hash] = setting.bridge.farmers[node][shard_hash][:-1]


def take_away(setting: Setting, file: File, index: int) -> None:
    setting.bridge.down.add(holder(setting, file, index)[0])


HARMS = [
    (lose, 'no such shard'),
    (damage, ''),
    (cut, ''),
    (take_away, 'the bridge finds no farmer that has it'),
]


@pytest.mark.parametrize(('harm', 'error'), HARMS, ids=lambda value: getattr(value, '__name__', ''))
@pytest.mark.parametrize('index', [0, 2])
def test_shard_that_is_not_there_as_it_was_is_told(
    setting: Setting, harm: Callable[..., None], error: str, index: int
) -> None:
    file = setting.upload(os.urandom(3 * SHARD))
    harm(setting, file, index)
    states: list[Progress] = []
    health = setting.transfers.verify(BUCKET, file.id, progress=states.append)
    assert [shard.healthy for shard in health.shards] == [n != index for n in range(3)]
    assert [bool(shard.error) for shard in health.shards] == [n == index for n in range(3)]
    assert error in str(health.shards[index].error)
    assert (health.have, health.need) == (2, 3)
    assert not health.healthy
    assert not health.recoverable
    assert states[-1].shards == 2


@pytest.mark.parametrize('lost', [0, 1, 4, 5])
def test_parity_makes_up_for_so_many_shards(tmp_path: Path, lost: int) -> None:
    setting = Setting(tmp_path, bridge=FakeBridge(farmers=9), shard_size=PIECE)
    file = setting.upload(os.urandom(LARGE), parity=True)
    for index in range(lost):
        lose(setting, file, index)
    health = setting.transfers.verify(BUCKET, file.id)
    assert (health.have, health.need, len(health.shards)) == (9 - lost, 5, 9)
    assert [shard.parity for shard in health.shards] == [False] * 5 + [True] * 4
    assert health.healthy == (lost == 0)
    assert health.recoverable == (lost <= 4)


def test_lost_parity_leaves_a_file_recoverable(tmp_path: Path) -> None:
    setting = Setting(tmp_path, bridge=FakeBridge(farmers=9), shard_size=PIECE)
    file = setting.upload(os.urandom(LARGE), parity=True)
    for index in range(5, 9):
        lose(setting, file, index)
    health = setting.transfers.verify(BUCKET, file.id)
    assert (health.have, health.healthy, health.recoverable) == (5, False, True)


@pytest.mark.parametrize('decrypt', [True, False])
def test_reader_without_a_key_sees_whether_shards_are_there(
    setting: Setting, decrypt: bool
) -> None:
    file = setting.upload(os.urandom(2 * SHARD))
    setting.bridge.mnemonic = None
    health = setting.transfers.verify(BUCKET, file.id, decrypt=decrypt)
    assert (health.healthy, health.authenticated) == (True, False)


def test_key_of_somebody_else_is_told(setting: Setting) -> None:
    file = setting.upload(os.urandom(2 * SHARD))
    setting.bridge.mnemonic = 'zoo ' * 11 + 'wrong'
    with pytest.raises(DecryptionError):
        setting.transfers.verify(BUCKET, file.id)
    assert not setting.transfers.verify(BUCKET, file.id, decrypt=False).authenticated


def test_file_in_the_clear_is_not_called_authenticated(setting: Setting) -> None:
    file = setting.upload(os.urandom(2 * SHARD), encrypt=False, encrypt_name=False)
    health = setting.transfers.verify(BUCKET, file.id, decrypt=False)
    assert (health.healthy, health.authenticated) == (True, False)


def test_file_without_a_proof_is_not_called_authenticated(tmp_path: Path) -> None:
    bridge = FakeBridge(version=(2, 2, 4))
    setting = Setting(tmp_path, bridge=bridge, allow_unauthenticated=True)
    health = setting.transfers.verify(BUCKET, setting.upload(os.urandom(SHARD)).id)
    assert (health.healthy, health.authenticated) == (True, False)


def test_verification_keeps_nothing(setting: Setting, tmp_path: Path) -> None:
    file = setting.upload(os.urandom(3 * SHARD))
    before = sorted(tmp_path.rglob('*'))
    assert isinstance(setting.transfers.verify(BUCKET, file.id), FileHealth)
    assert sorted(tmp_path.rglob('*')) == before


# -- shards of an upload that broke off ------------------------------------------------------------


@pytest.fixture
def broken(tmp_path: Path) -> tuple[Setting, Path]:
    """An upload that broke off with three shards, on a bridge that chooses no farmer twice."""
    source = tmp_path / 'source'
    source.write_bytes(os.urandom(4 * SHARD))
    setting = Setting(tmp_path, bridge=FakeBridge(version=(5, 24, 1)))
    break_off(setting, source, 3)
    return setting, source


def test_shard_counts_as_kept_by_its_first_bytes(broken: tuple[Setting, Path]) -> None:
    setting, source = broken
    pull, brought = setting.channel.pull, [0]

    def piecewise(
        pointer: Any,
        size: int,
        sink: Callable[[memoryview], Any],
        *,
        cancelled: Callable[[], bool],
        **limits: Any,
    ) -> None:
        def one(view: memoryview) -> None:
            if cancelled():
                raise TransferCancelled('cancelled')
            brought[0] += len(view)
            sink(view)

        pull(pointer, size, one, cancelled=cancelled, **limits)

    setting.channel.pull = piecewise  # type: ignore[method-assign]
    setting.upload(source)
    assert 0 < brought[0] < 2 * SHARD


@pytest.mark.parametrize('harm', ['begun and broken off', 'too short', 'nobody', 'refused'])
def test_shard_that_does_not_come_counts_as_lost(broken: tuple[Setting, Path], harm: str) -> None:
    setting, source = broken
    [shards] = setting.bridge.frames.values()
    shard, node = shards[1]
    if harm == 'begun and broken off':
        pull = setting.channel.pull

        def broken_off(pointer: Any, size: int, sink: Any, **limits: Any) -> None:
            pull(pointer, size, sink, **limits)
            if pointer['farmer']['nodeID'] == node:
                raise FarmerError(500, 'gone')

        setting.channel.pull = broken_off  # type: ignore[method-assign]
    elif harm == 'too short':
        setting.bridge.farmers[node][str(shard.hash)] = b'x' * 100
    elif harm == 'nobody':
        setting.bridge.down.add(node)
    else:
        del setting.bridge.farmers[node][str(shard.hash)]
    with pytest.raises(TransferError, match='farmers have lost 1 shard '):
        setting.upload(source)
    assert setting.bridge.files == {}
