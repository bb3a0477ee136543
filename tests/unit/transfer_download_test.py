"""Downloads to a path that are broken off, disturbed, and taken up again, without sockets."""

from __future__ import annotations

import errno
import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from storj.exception import (
    BridgeUnreachableError,
    DecryptionError,
    FarmerUnreachableError,
    IntegrityError,
    NotFoundError,
    ResourceError,
)
from storj.model import File
from storj.system import atomic_file
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


# -- what is there already, and what is asked for --------------------------------------------------


def test_name_that_is_taken_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    file = setting.upload(b'data')
    (tmp_path / 'out').write_bytes(b'mine')
    setting.bridge.calls.clear()
    with pytest.raises(FileExistsError):
        setting.download(file, tmp_path / 'out', overwrite=False)
    assert setting.bridge.calls == []
    assert (tmp_path / 'out').read_bytes() == b'mine'


def test_folder_is_no_destination(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    file = setting.upload(b'data')
    setting.bridge.calls.clear()
    (tmp_path / 'folder').mkdir()
    with pytest.raises(IsADirectoryError):
        setting.download(file, tmp_path / 'folder')
    assert setting.bridge.calls == []
    assert list((tmp_path / 'folder').iterdir()) == []


@pytest.mark.parametrize(('start', 'end'), [(-1, None), (3, 2), (0, 5), (5, None), (-2, -1)])
@pytest.mark.parametrize('way', ['path', 'memory', 'stream'])
def test_range_that_is_not_in_the_file_is_refused(
    tmp_path: Path, start: int, end: int | None, way: str
) -> None:
    setting = Setting(tmp_path)
    file = setting.upload(b'data')
    target = tmp_path / 'out' if way == 'path' else None

    def fetch() -> object:
        if way == 'stream':
            return b''.join(setting.transfers.stream(BUCKET, file.id, start=start, end=end))
        return setting.download(file, target, start=start, end=end)

    with pytest.raises(ValueError, match='there is no range'):
        fetch()
    assert not list(tmp_path.glob('out*'))


@pytest.mark.parametrize('forced', [True, False])
def test_file_is_forced_to_the_disk_where_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced: bool
) -> None:
    setting = Setting(tmp_path, fsync=forced)
    file = setting.upload(os.urandom(2 * SHARD))
    sizes: list[int] = []
    monkeypatch.setattr(os, 'fsync', lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
    setting.download(file, tmp_path / 'out')
    assert (2 * SHARD in sizes) == forced


# -- what a failure leaves -------------------------------------------------------------------------


def test_progress_of_a_resumed_download_ends_with_all_of_it(tmp_path: Path) -> None:
    broken = Broken(tmp_path)
    future = broken.setting.transfers.download(BUCKET, broken.file.id, broken.target)
    future.result()
    progress = future.progress
    assert (progress.bytes, progress.total) == (SHARDS * SHARD, SHARDS * SHARD)
    assert (progress.shards, progress.shards_total) == (SHARDS, SHARDS)


@pytest.mark.parametrize(
    'error',
    [
        NotFoundError('File not found', 404),
        IntegrityError('other bytes'),
        DecryptionError('another key'),
        FileExistsError('taken'),
        IsADirectoryError('a folder'),
        ResourceError('the disk is full', on_disk=True),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failure_that_going_on_does_not_mend_leaves_nothing(
    tmp_path: Path, error: Exception
) -> None:
    setting = Setting(tmp_path)
    file = setting.upload(os.urandom(SHARDS * SHARD))
    third = [*setting.bridge.farmers][2]

    def pulling(node: str, kept: bytes) -> bytes:
        if node == third:
            setting.bridge.before = failing
            raise FarmerUnreachableError(message='gone')
        return kept

    def failing(name: str) -> None:
        raise error

    setting.channel.pulling = pulling
    with pytest.raises(type(error)):
        setting.download(file, tmp_path / 'out')
    assert list(tmp_path.glob('*.part')) == []
    assert not list(list_journals(setting.transfers.config.journal_dir()))


def test_download_that_is_not_to_be_resumed_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='not enough values'):
        Broken(tmp_path, resume=False)
    assert list(tmp_path.glob('*.part')) == []
    assert list((tmp_path / 'state').rglob('*.json')) == []


def test_download_that_brought_nothing_leaves_nothing(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    file = setting.upload(os.urandom(2 * SHARD))

    def away(name: str) -> None:
        raise BridgeUnreachableError('no answer')

    def pulling(node: str, kept: bytes) -> bytes:
        setting.bridge.before = away
        raise FarmerUnreachableError(message='gone')

    setting.channel.pulling = pulling
    with pytest.raises(BridgeUnreachableError):
        setting.download(file, tmp_path / 'out')
    assert list(tmp_path.glob('*.part')) == []
    assert list((tmp_path / 'state').rglob('*.json')) == []


def test_download_of_one_small_shard_writes_only_its_file(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    data = os.urandom(100)
    file = setting.upload(data)
    before = {*tmp_path.rglob('*')}
    seen: set[Path] = set()

    def pulling(node: str, kept: bytes) -> bytes:
        seen.update(tmp_path.rglob('*'))
        return kept

    setting.channel.pulling = pulling
    target = setting.download(file, tmp_path / 'out')
    assert target.read_bytes() == data
    assert seen == before
    assert {*tmp_path.rglob('*')} == before | {target}


@pytest.mark.parametrize('size', [0, 100, SHARD])
@pytest.mark.parametrize('present', [True, False])
def test_small_file_is_written_where_nothing_is_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, present: bool
) -> None:
    monkeypatch.delattr(os, 'O_TMPFILE', raising=False)
    setting, target = Setting(tmp_path), tmp_path / 'out'
    data = os.urandom(size)
    file = setting.upload(data)
    if present:
        target.write_bytes(b'older and longer' * SHARD)
        target.chmod(0o640)
    setting.download(file, target)
    assert target.read_bytes() == data
    assert not present or target.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.glob('*.part')) == []
    assert not [path for path in (tmp_path / 'state').rglob('*') if path.is_file()]


def test_small_download_to_a_full_disk_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(tmp_path)
    file = setting.upload(os.urandom(100))

    def full(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(atomic_file, 'create', full)
    with pytest.raises(ResourceError, match=str(tmp_path)):
        setting.download(file, tmp_path / 'out')
    assert [path.name for path in tmp_path.iterdir()] == ['state']


def test_broken_off_download_is_made_anew_if_asked_for(tmp_path: Path) -> None:
    broken = Broken(tmp_path)
    assert broken.download(resume=False) == broken.data
    assert sum(broken.pulls.values()) == SHARDS
    assert list(tmp_path.glob('*.part')) == []


# -- files that are written to ---------------------------------------------------------------------


class Slow(io.RawIOBase):
    """Takes at most a thousand bytes at a time."""

    def __init__(self) -> None:
        self.content = b''

    def write(self, data: Any) -> int:
        self.content += bytes(data[:1000])
        return min(1000, len(data))


def test_raw_file_that_takes_a_part_gets_everything(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    data = os.urandom(2 * SHARD + 5)
    destination = Slow()
    assert setting.download(setting.upload(data), destination) is destination
    assert destination.content == data


def test_writer_that_does_not_tell_what_it_took_took_all(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    data = os.urandom(2 * SHARD + 5)
    taken: list[bytes] = []

    class Silent:
        def write(self, view: Any) -> None:
            taken.append(bytes(view))

    setting.download(setting.upload(data), Silent())
    assert b''.join(taken) == data


def test_full_disk_of_a_destination_is_told(tmp_path: Path) -> None:
    setting = Setting(tmp_path)

    class Full(io.RawIOBase):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ResourceError, match='the destination'):
        setting.download(setting.upload(b'data'), Full())


def test_stream_fetches_no_more_than_so_many_shards_ahead(tmp_path: Path) -> None:
    setting = Setting(tmp_path, look_ahead=1, pointer_page=1)
    data = os.urandom(6 * SHARD)
    file = setting.upload(data)
    pulls: list[str] = []

    def pulling(node: str, kept: bytes) -> bytes:
        pulls.append(node)
        return kept

    setting.channel.pulling = pulling
    read = b''
    for piece in setting.transfers.stream(BUCKET, file.id):
        assert len(pulls) <= len(read) // SHARD + 2
        read += piece
    assert read == data
    assert len(pulls) == 6


def test_range_that_is_not_deciphered_proves_nothing(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    file = setting.upload(os.urandom(3 * SHARD))
    pulls: list[str] = []

    def pulling(node: str, kept: bytes) -> bytes:
        pulls.append(node)
        return kept

    setting.channel.pulling = pulling
    setting.download(file, start=2 * SHARD, decrypt=False)
    assert len(pulls) == 1
    # The first shard is fetched as well: it shows where the last one lies.
    setting.download(file, start=2 * SHARD)
    assert len(pulls) == 3


@pytest.mark.parametrize('first', ['path', 'memory'])
@pytest.mark.parametrize('then', ['path', 'memory'])
def test_sizes_proved_by_one_way_hold_for_the_other(tmp_path: Path, first: str, then: str) -> None:
    setting = Setting(tmp_path)
    file = setting.upload(os.urandom(3 * SHARD))
    pulls: list[str] = []

    def pulling(node: str, kept: bytes) -> bytes:
        pulls.append(node)
        return kept

    setting.channel.pulling = pulling
    for number, way in enumerate((first, then)):
        target = tmp_path / str(number) if way == 'path' else None
        setting.download(file, target, start=2 * SHARD)
    assert len(pulls) == 2 + 1


def test_description_that_is_known_is_not_asked_for(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    file = setting.upload(b'content')
    setting.bridge.calls.clear()
    assert setting.download(file, described=file).read() == b'content'
    assert 'file_metadata' not in setting.bridge.calls


def test_description_of_a_replaced_file_is_asked_for_again(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    former = setting.upload(b'former')
    file = setting.upload(b'content', overwrite=True)
    assert setting.download(file, described=former).read() == b'content'
