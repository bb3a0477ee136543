"""Downloads to a path that are broken off, disturbed, and taken up again, without sockets."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from storj.exception import BridgeUnreachableError, FarmerUnreachableError
from storj.model import File
from storj.transfer import JournalEntry, RetryPolicy, list_journals
from tests.unit.fake_network import BUCKET, SHARD, Setting

SHARDS = 4


class Broken:
    """A stored file of four shards, whose download broke off when the third one was asked for."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.setting = setting = Setting(folder)
        self.target = folder / 'out'
        self.data = os.urandom(SHARDS * SHARD)
        self.file: File = setting.upload(self.data)
        self.pulls: Counter[str] = Counter()
        third = [*setting.bridge.farmers][2]

        def away(name: str) -> None:
            raise BridgeUnreachableError('no answer') from ConnectionRefusedError()

        def pulling(node: str, kept: bytes) -> bytes:
            if node == third:
                setting.bridge.before = away
                raise FarmerUnreachableError(message='gone')
            return kept

        setting.channel.pulling = pulling
        with pytest.raises(BridgeUnreachableError):
            self.download(**options)
        setting.bridge.before = lambda name: None
        setting.channel.pulling = self._count
        [self.part] = folder.glob('*.part')

    def _count(self, node: str, kept: bytes) -> bytes:
        self.pulls[node] += 1
        return kept

    def journals(self) -> list[JournalEntry]:
        return list(list_journals(self.setting.transfers.config.journal_dir()))

    def download(self, **options: Any) -> bytes:
        self.setting.download(self.file, self.target, **options)
        return self.target.read_bytes()


def test_download_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    broken = Broken(tmp_path)
    assert broken.part.read_bytes() == broken.data[: 2 * SHARD]
    assert broken.download() == broken.data
    assert sum(broken.pulls.values()) == SHARDS - 2
    assert not broken.part.exists()


@pytest.mark.parametrize('left', [0, 10, SHARD, 2 * SHARD - 1])
def test_shards_that_a_truncated_part_lost_are_fetched_again(tmp_path: Path, left: int) -> None:
    broken = Broken(tmp_path)
    os.truncate(broken.part, left)
    assert broken.download() == broken.data
    assert sum(broken.pulls.values()) == SHARDS - left // SHARD


def test_shards_that_a_damaged_part_lost_are_fetched_again(tmp_path: Path) -> None:
    broken = Broken(tmp_path)
    with broken.part.open('r+b') as file:
        file.seek(SHARD + 5)
        file.write(bytes([broken.data[SHARD + 5] ^ 1]))
    assert broken.download() == broken.data
    assert sum(broken.pulls.values()) == SHARDS - 1


def test_range_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    # The first shard lies in the range in part only: nobody can tell whether it is right.
    start, end = 100, SHARDS * SHARD - 100
    broken = Broken(tmp_path, start=start, end=end)
    [entry] = broken.journals()
    assert entry.bytes == SHARD
    assert broken.download(start=start, end=end) == broken.data[start:end]
    assert sum(broken.pulls.values()) == SHARDS - 1


def test_journal_that_claims_too_much_is_not_believed(tmp_path: Path) -> None:
    start, end = 100, SHARDS * SHARD - 100
    broken = Broken(tmp_path, start=start, end=end)
    [path] = (tmp_path / 'state').rglob('*.json')
    content = json.loads(path.read_text())
    content['state']['done'] = [0, 1, 2, 3, 4, -1, 'x', None]
    path.write_text(json.dumps(content))
    assert broken.download(start=start, end=end) == broken.data[start:end]
    assert sum(broken.pulls.values()) == SHARDS - 1


def test_part_of_a_longer_file_of_the_same_name_is_dropped(tmp_path: Path) -> None:
    broken = Broken(tmp_path)
    shorter = os.urandom(SHARD)
    replaced = broken.setting.upload(shorter, overwrite=True)
    assert replaced.id == broken.file.id
    assert broken.download() == shorter


@pytest.mark.parametrize(
    ('start', 'end'), [(0, SHARDS * SHARD), (101, SHARDS * SHARD - 100), (100, SHARDS * SHARD)]
)
def test_another_range_is_not_mixed_with_the_one_before(
    tmp_path: Path, start: int, end: int
) -> None:
    broken = Broken(tmp_path, start=100, end=SHARDS * SHARD - 100)
    assert broken.download(start=start, end=end) == broken.data[start:end]
    assert sum(broken.pulls.values()) == SHARDS
    assert list(tmp_path.glob('*.part')) == []
    assert not broken.journals()


@pytest.mark.parametrize('decrypt', [True, False])
def test_stored_form_is_not_mixed_with_the_clear_one(tmp_path: Path, decrypt: bool) -> None:
    broken = Broken(tmp_path, decrypt=not decrypt)
    assert (broken.download(decrypt=decrypt) == broken.data) == decrypt
    assert sum(broken.pulls.values()) == SHARDS


def test_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    file = setting.upload(os.urandom(2 * SHARD))
    target = tmp_path / 'out'

    def pulling(node: str, kept: bytes) -> bytes:
        target.write_bytes(b'of somebody else')
        return kept

    setting.channel.pulling = pulling
    with pytest.raises(FileExistsError):
        setting.download(file, target, overwrite=False)
    assert target.read_bytes() == b'of somebody else'
    setting.download(file, target)
    assert target.stat().st_size == 2 * SHARD
    assert list(tmp_path.glob('*.part')) == []


def test_folder_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    file = setting.upload(os.urandom(2 * SHARD))
    target = tmp_path / 'out'

    def pulling(node: str, kept: bytes) -> bytes:
        target.mkdir(exist_ok=True)
        return kept

    setting.channel.pulling = pulling
    with pytest.raises(OSError, match='out'):
        setting.download(file, target)
    assert target.is_dir()


def test_token_that_grew_old_is_not_tried(tmp_path: Path) -> None:
    setting = Setting(tmp_path, pointer_life=900.0)
    data = os.urandom(2 * SHARD)
    file = setting.upload(data)

    def pulling(node: str, kept: bytes) -> bytes:
        if setting.clock.time < 1901:
            setting.clock.time += 901
            setting.bridge.tokens.clear()
        return kept

    setting.channel.pulling = pulling
    future = setting.transfers.download(BUCKET, file.id)
    assert future.result().read() == data
    assert future.progress.retries == 0


def test_shard_deadline_does_not_switch_other_farmers_off(tmp_path: Path) -> None:
    setting = Setting(tmp_path, shard_deadline=1000.0)
    data = os.urandom(SHARD)
    file = setting.upload(data)
    holder, other = [*setting.bridge.farmers][:2]
    setting.bridge.farmers[other].update(setting.bridge.farmers[holder])
    setting.channel.pulling = lambda node, kept: kept[:-1] if node == holder else kept
    assert setting.download(file).read() == data


@pytest.mark.parametrize('deadline', [None, 1000.0])
def test_deadline_does_not_switch_retries_off(tmp_path: Path, deadline: float | None) -> None:
    setting = Setting(tmp_path, deadline=deadline, bridge_retry=RetryPolicy(attempts=3, delay=1.0))
    data = os.urandom(SHARD)
    file = setting.upload(data)
    setting.bridge.calls.clear()

    def away(name: str) -> None:
        if setting.bridge.calls.count(name) < 3:
            raise BridgeUnreachableError('away')

    setting.bridge.before = away
    assert setting.download(file).read() == data
    assert setting.upload(data, name='other').size == SHARD
