"""What a broken-off transfer leaves, and what the next one makes of it."""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from storj.crypto import keys
from storj.crypto.cipher import CtrStream
from storj.digest import shard_hash
from storj.exception import (
    BridgeUnreachableError,
    IntegrityError,
    MnemonicError,
    NotFoundError,
    ResumeMismatchError,
    SourceChangedError,
    TransferError,
)
from storj.model import File, Frame
from storj.system import atomic_file, file_lock
from storj.transfer import download as download_
from storj.transfer import journal, list_journals, spool
from storj.transfer.journal import Journal, UploadJournal
from storj.transfer.source import PathSource
from tests.unit.fake_network import BUCKET, SHARD, WORDS, FakeBridge, Setting

SIZE = 4 * SHARD


class BrokenOffError(Exception):
    """What ends a transfer in these tests, as an error that is nobody's fault."""


@contextmanager
def only(setting: Setting, way: str, count: int) -> Iterator[None]:
    """Let so many shards go one way, and expect that the next one breaks the transfer off."""
    move, left = getattr(setting.channel, way), [count]

    def some(*args: Any, **limits: Any) -> None:
        if not left[0]:
            raise BrokenOffError
        left[0] -= 1
        move(*args, **limits)

    setattr(setting.channel, way, some)
    with pytest.raises(BrokenOffError):
        yield
    setattr(setting.channel, way, move)


def break_off(setting: Setting, source: Path, pushes: int, **options: Any) -> Any:
    """Upload until so many shards are there; return what the journal has then."""
    with only(setting, 'push', pushes):
        setting.upload(source, **options)
    setting.channel.taken = 0
    [journal] = (setting.transfers.config.journal_dir()).glob('*.json')
    return json.loads(journal.read_text())['state']


def edit(source: Path, position: int, *, unseen: bool) -> bytes:
    """Change a byte, and make it look as if nothing had been done."""
    data, before = bytearray(source.read_bytes()), source.stat()
    data[position] ^= 0xFF
    with source.open('r+b') as file:
        file.write(data)
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert unseen or source.stat().st_ctime_ns != before.st_ctime_ns
    return bytes(data)


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a fingerprint see nothing but the size, as if somebody could forge everything else."""
    monkeypatch.setattr(PathSource, 'fingerprint', lambda source: {'size': source.size})


def kept(setting: Setting, file: File, index: int) -> bytes:
    shard, node = setting.bridge.frames[file.frame.id][index]
    return setting.bridge.farmers[node][shard.hash]


# -- uploads of one small shard --------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / 'small'
    path.write_bytes(b'content')
    return path


def journal_of(setting: Setting) -> Path:
    [path] = setting.transfers.config.journal_dir().glob('*.json')
    return path


def test_small_upload_does_not_write_down_that_its_shard_came(
    setting: Setting, small: Path
) -> None:
    noted: list[Any] = []

    def before(name: str) -> None:
        if name == 'file_create':
            noted.append(json.loads(journal_of(setting).read_text())['state'])

    setting.bridge.before = before
    file = setting.upload(small)
    [state] = noted
    assert state['frame'] == file.frame.id
    [(shard_hash, farmer)] = state['shards'].values()
    assert shard_hash == setting.bridge.frames[file.frame.id][0][0].hash
    assert farmer is None


def without_entry(setting: Setting, small: Path) -> Path:
    """Upload all but the entry; return the journal as a killed process would have left it."""
    left = b''

    def before(name: str) -> None:
        nonlocal left
        if name == 'file_create':
            left = journal_of(setting).read_bytes()
            raise BrokenOffError

    setting.bridge.before = before
    with pytest.raises(BrokenOffError):
        setting.upload(small)
    setting.bridge.before = lambda name: None
    killed = journal_of(setting).with_suffix('.killed')
    killed.write_bytes(left)
    setting.channel.taken = 0
    return killed


def test_small_shard_that_came_is_not_sent_again(setting: Setting, small: Path) -> None:
    killed = without_entry(setting, small)
    killed.unlink()
    [frame] = setting.bridge.frames
    # What was left for the end is written at the end.
    [(_, farmer)] = json.loads(journal_of(setting).read_text())['state']['shards'].values()
    assert farmer in setting.bridge.farmers
    file = setting.upload(small)
    assert file.frame.id == frame
    assert setting.channel.taken == 0
    assert setting.download(file).read() == b'content'


@pytest.mark.usefixtures('blind')
@pytest.mark.parametrize('changed', [True, False])
def test_small_upload_that_was_killed_before_its_entry_is_made(
    setting: Setting, small: Path, changed: bool
) -> None:
    killed = without_entry(setting, small)
    index = json.loads(killed.read_text())['state']['index']
    killed.replace(journal_of(setting))
    data = edit(small, 0, unseen=True) if changed else small.read_bytes()
    file = setting.upload(small)
    assert setting.download(file).read() == data
    assert (file.index == index) is not changed
    assert [*setting.bridge.frames] == [file.frame.id]


def test_shard_that_is_hashed_before_there_is_a_frame_is_noted_with_it(
    setting: Setting, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[dict[str, Any]] = []
    monkeypatch.setattr(
        Journal, '_write', lambda journal: noted.append(json.loads(json.dumps(journal.state)))
    )
    make, offer = UploadJournal.note_frame, UploadJournal.note_offer
    held: list[Callable[[], None]] = []
    # Without threads the frame is there first.
    monkeypatch.setattr(UploadJournal, 'note_frame', lambda *args: held.append(lambda: make(*args)))

    def note_offer(*args: Any) -> None:
        offer(*args)
        assert noted == []
        held.pop()()

    monkeypatch.setattr(UploadJournal, 'note_offer', note_offer)
    setting.upload(small)
    [state] = noted
    assert list(state['shards']) == ['0']
    assert state['frame']


# -- uploads: two contents never mix ---------------------------------------------------------------


@pytest.mark.parametrize('position', [0, SHARD, SIZE - 1])
def test_change_that_only_the_ctime_shows_begins_afresh(
    setting: Setting, source: Path, position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of a file so large that the samples miss the change.
    monkeypatch.setattr('storj.transfer.source._SAMPLE', 0)
    state = break_off(setting, source, 2)
    data = edit(source, position, unseen=False)
    file = setting.upload(source)
    assert setting.download(file).read() == data
    assert file.index != state['index']
    assert [*setting.bridge.frames] == [file.frame.id]


def test_source_that_cannot_be_looked_at_leaves_the_journal_free(
    setting: Setting, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(setting, source, 2)

    def shrunk(source: PathSource) -> dict[str, object]:
        raise SourceChangedError('it is shorter than it was')

    with monkeypatch.context() as looks:
        looks.setattr(PathSource, 'fingerprint', shrunk)
        with pytest.raises(SourceChangedError):
            setting.upload(source)
    file = setting.upload(source)
    assert setting.download(file).read() == source.read_bytes()


def test_journal_that_cannot_be_cleared_is_left_free(
    setting: Setting, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, 'Permission denied', str(path))

    with monkeypatch.context() as disk:
        disk.setattr(atomic_file, 'discard_unfinished', refused)
        setting.upload(source)
    assert setting.upload(source, overwrite=True).id


@pytest.mark.usefixtures('blind')
@pytest.mark.parametrize('confirmed', [1, 2])
def test_offered_shard_is_hashed_again_before_its_index_is_used(
    setting: Setting, source: Path, confirmed: int
) -> None:
    state = break_off(setting, source, confirmed)
    # The last one that was offered is not confirmed, but some of it may have gone out.
    offered = [int(number) for number, (_, farmer) in state['shards'].items() if not farmer]
    assert len(state['shards']) == confirmed + 1
    data = edit(source, offered[0] * SHARD, unseen=True)
    file = setting.upload(source)
    assert setting.download(file).read() == data
    assert file.index != state['index']
    assert [*setting.bridge.frames] == [file.frame.id]


@pytest.mark.usefixtures('blind')
def test_one_key_stream_encrypts_one_content_only(setting: Setting, source: Path) -> None:
    old = source.read_bytes()
    break_off(setting, source, 3)
    new = edit(source, 5, unseen=True)
    file = setting.upload(source)
    sealed = [data for shards in setting.bridge.farmers.values() for data in shards.values()]
    first = [data for data in sealed if data != kept(setting, file, 0)]
    stream = CtrStream(keys.file_key(keys.bucket_key(WORDS, BUCKET), file.index))
    pad = stream.process(bytes(SHARD))
    assert kept(setting, file, 0) == bytes(a ^ b for a, b in zip(new, pad, strict=False))
    # Not one shard of the last attempt was made with the same key stream.
    assert not any(data == bytes(a ^ b for a, b in zip(old, pad, strict=False)) for data in first)


@pytest.mark.usefixtures('blind')
def test_parity_of_the_last_attempt_is_hashed_again(
    make: Callable[..., Setting], tmp_path: Path
) -> None:
    source = tmp_path / 'large'
    source.write_bytes(os.urandom(2 * 1024 * 1024 + 1))
    setting = make(bridge=FakeBridge(farmers=9), shard_size=512 * 1024)
    # Without threads parity goes first: no shard of the data was even offered.
    state = break_off(setting, source, 2)
    assert min(map(int, state['shards'])) == 5
    data = edit(source, 700_000, unseen=True)
    file = setting.upload(source)
    assert file.index != state['index']
    # Of the file as it is now: any shards restore it.
    setting.bridge.down = {setting.bridge.frames[file.frame.id][index][1] for index in (0, 1, 2, 3)}
    assert setting.download(file).read() == data


def test_parity_of_the_last_attempt_is_taken_over(
    make: Callable[..., Setting], tmp_path: Path
) -> None:
    source = tmp_path / 'large'
    source.write_bytes(os.urandom(2 * 1024 * 1024 + 1))
    setting = make(bridge=FakeBridge(farmers=9), shard_size=512 * 1024)
    state = break_off(setting, source, 2)
    file = setting.upload(source)
    assert file.index == state['index']
    # All but two of the nine shards; the last one of the data has one byte.
    assert setting.channel.taken == 4 * 512 * 1024 + 1 + 2 * 512 * 1024


@pytest.mark.usefixtures('blind')
def test_name_key_of_an_old_bridge_begins_afresh_with_a_warning(
    make: Callable[..., Setting], source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    setting = make(bridge=FakeBridge(version=(5, 12, 0)))
    break_off(setting, source, 2)
    [old] = setting.bridge.frames
    data = edit(source, 0, unseen=True)
    file = setting.upload(source)
    assert setting.download(file).read() == data
    assert [*setting.bridge.frames] == [file.frame.id] != [old]
    assert 'changed since its upload was interrupted' in caplog.text
    assert 'key stream of the old one' in caplog.text


def test_change_during_upload_that_only_ctime_shows_is_an_error(
    setting: Setting, source: Path
) -> None:
    push = setting.channel.push

    def change(*args: Any, **limits: Any) -> None:
        push(*args, **limits)
        setting.channel.push = push  # type: ignore[method-assign]
        edit(source, 0, unseen=False)

    setting.channel.push = change  # type: ignore[method-assign]
    with pytest.raises(IntegrityError, match='changed'):
        setting.upload(source)
    assert setting.bridge.frames == {}


def test_new_mode_of_the_source_while_it_is_uploaded_is_no_change(
    setting: Setting, source: Path
) -> None:
    push = setting.channel.push

    def touch(*args: Any, **limits: Any) -> None:
        push(*args, **limits)
        source.chmod(source.stat().st_mode ^ 0o001)

    setting.channel.push = touch  # type: ignore[method-assign]
    file = setting.upload(source)
    assert setting.download(file).read() == source.read_bytes()


def test_other_key_does_not_continue_an_upload(setting: Setting, source: Path) -> None:
    break_off(setting, source, 2)
    setting.bridge.mnemonic = 'zoo ' * 11 + 'wrong'
    with pytest.raises(ResumeMismatchError):
        setting.upload(source)
    setting.bridge.mnemonic = WORDS
    setting.upload(source)
    assert setting.channel.taken == SIZE - 2 * SHARD


# -- uploads: farmers of the last attempt ----------------------------------------------------------


def test_farmers_that_have_their_shards_still_take_nothing(setting: Setting, source: Path) -> None:
    state = break_off(setting, source, 3)
    # More than one page of farmers.
    setting.bridge.contacts = 4
    file = setting.upload(source)
    assert file.index == state['index']
    assert setting.channel.taken == SIZE - 3 * SHARD
    holders = [node for _, node in setting.bridge.frames[file.frame.id].values()]
    former = [farmer for _, farmer in state['shards'].values() if farmer]
    assert holders[:3] == former
    assert len(set(holders)) == 4
    assert setting.download(file).read() == source.read_bytes()


@pytest.mark.parametrize('gone', ['shard', 'farmer', 'contact'])
def test_shard_that_its_farmer_lost_meanwhile_goes_elsewhere(
    setting: Setting, source: Path, gone: str
) -> None:
    state = break_off(setting, source, 3)
    shard, node = state['shards']['1']
    if gone == 'shard':
        del setting.bridge.farmers[node][shard]
    elif gone == 'farmer':
        setting.bridge.down.add(node)
    else:
        del setting.bridge.farmers[node]
    file = setting.upload(source)
    assert file.index == state['index']
    assert setting.channel.taken == SIZE - 2 * SHARD
    assert setting.download(file).read() == source.read_bytes()


def test_shard_that_was_dropped_from_the_frame_is_put_back(setting: Setting, source: Path) -> None:
    break_off(setting, source, 3)
    [(frame_id, shards)] = setting.bridge.frames.items()
    # As many as are confirmed are left, for the fourth one was offered.
    del shards[1]
    file = setting.upload(source)
    assert file.frame.id == frame_id
    assert setting.download(file).read() == source.read_bytes()


def test_frame_that_lost_shards_is_not_taken_for_whole(setting: Setting, source: Path) -> None:
    state = break_off(setting, source, 3)
    [(frame_id, shards)] = setting.bridge.frames.items()
    del shards[1], shards[3]
    file = setting.upload(source)
    assert file.frame.id != frame_id
    assert file.index != state['index']
    assert frame_id not in setting.bridge.frames
    assert setting.download(file).read() == source.read_bytes()


#: Releases that are silent when they find nobody, so that no farmer can be chosen.
SILENT = (5, 24, 1)


def test_farmers_of_an_old_bridge_are_asked_by_the_entry(
    make: Callable[..., Setting], source: Path
) -> None:
    setting = make(bridge=FakeBridge(version=SILENT))
    break_off(setting, source, 3)
    pulled = counted(setting)
    file = setting.upload(source)
    assert setting.channel.taken == SIZE - 3 * SHARD
    shards = setting.bridge.frames[file.frame.id]
    assert sorted(pulled) == sorted(shards[index][0].hash for index in range(3))


@pytest.mark.parametrize('gone', ['shard', 'farmer', 'bytes'])
def test_entry_without_a_shard_that_was_lost_is_taken_back(
    make: Callable[..., Setting], source: Path, gone: str
) -> None:
    setting = make(bridge=FakeBridge(version=SILENT))
    state = break_off(setting, source, 3)
    shard, node = state['shards']['1']
    if gone == 'shard':
        del setting.bridge.farmers[node][shard]
    elif gone == 'farmer':
        setting.bridge.down.add(node)
    else:
        setting.bridge.farmers[node][shard] = bytes(SHARD)
    with pytest.raises(TransferError, match='farmers have lost'):
        setting.upload(source)
    assert setting.bridge.files == {}
    assert setting.bridge.frames == {}
    assert list(list_journals(setting.transfers.config.journal_dir())) == []
    file = setting.upload(source)
    assert file.index != state['index']
    assert setting.download(file).read() == source.read_bytes()


# -- uploads: killed at any point ------------------------------------------------------------------


class Snapshots:
    """What a process that is killed leaves, before and after each request and push."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        self.folder = folder
        self.taken: list[tuple[str, Path, dict[str, Any]]] = []
        bridge, push = setting.bridge, setting.channel.push
        for name in ('frame_create', 'frame_add_shard', 'file_create', 'file_remove'):
            setattr(bridge, name, self._watched(name, getattr(bridge, name)))
        setting.channel.push = self._watched('push', push)  # type: ignore[method-assign]

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.take(f'before {name}')
            answer = function(*args, **options)
            self.take(f'after {name}')
            return answer

        return call

    def take(self, moment: str) -> None:
        bridge, state = self.setting.bridge, self.setting.transfers.config.state_dir
        copied = self.folder / str(len(self.taken))
        copied.mkdir(parents=True)
        if Path(str(state)).exists():
            shutil.copytree(str(state), copied / 'state')
        content = {
            name: copy.deepcopy(getattr(bridge, name))
            for name in ('farmers', 'frames', 'frames_made', 'files')
        }
        self.taken.append((moment, copied, content))


SOURCES: dict[str, Callable[[Path], Any]] = {
    'path': lambda path: path,
    'bytes': lambda path: path.read_bytes(),
    'iterator': lambda path: iter([path.read_bytes()]),
}


@pytest.mark.parametrize('resume', [True, False])
@pytest.mark.parametrize('encrypt', [True, False])
@pytest.mark.parametrize('kind', SOURCES)
def test_upload_killed_at_any_point_is_whole_after_the_same_call(
    make: Callable[..., Setting],
    source: Path,
    tmp_path: Path,
    kind: str,
    encrypt: bool,
    resume: bool,
) -> None:
    options: dict[str, Any] = {'encrypt': encrypt, 'resume': resume, 'overwrite': True}
    setting = make()
    old = setting.upload(b'old', **options)
    snapshots = Snapshots(setting, tmp_path / 'snapshots')
    setting.upload(SOURCES[kind](source), **options)
    assert len(snapshots.taken) > 2 * 4 * 2
    for moment, folder, content in snapshots.taken:
        bridge = FakeBridge()
        vars(bridge).update(content)
        used = {old.frame.id, *(frame for _, frame in bridge.files.values())}
        again = Setting(folder, bridge=bridge)
        file = again.upload(SOURCES[kind](source), **options)
        assert again.download(file, decrypt=encrypt).read() == source.read_bytes(), moment
        # Bridges keep the frames of files that were replaced.
        used |= {frame for _, frame in bridge.files.values()}
        # While the bridge's answer is on its way, nobody knows of the frame.
        assert len(bridge.frames.keys() - used) == (moment == 'after frame_create'), moment
        assert list(list_journals(again.transfers.config.journal_dir())) == [], moment
        assert not list(Path(str(again.transfers.config.state_dir)).rglob('*.*')), moment


def test_source_without_a_path_can_be_uploaded_twice_at_once(
    setting: Setting, tmp_path: Path
) -> None:
    inner: list[File] = []

    def second() -> Iterator[bytes]:
        inner.append(Setting(tmp_path, bridge=setting.bridge).upload(b'inner', overwrite=True))
        yield b'outer'

    setting.upload(second(), overwrite=True)
    assert len(inner) == 1
    assert len(setting.bridge.files) == 1


# -- uploads: what fails leaves nothing ------------------------------------------------------------


@pytest.mark.parametrize('kind', SOURCES)
def test_upload_that_fails_leaves_no_frame_and_no_journal(
    setting: Setting, source: Path, kind: str
) -> None:
    def refuse(name: str) -> None:
        if name == 'file_create':
            raise NotFoundError('Bucket not found', 404)

    setting.bridge.before = refuse
    with pytest.raises(NotFoundError):
        setting.upload(SOURCES[kind](source))
    assert setting.bridge.frames == {}
    assert not list(Path(str(setting.transfers.config.state_dir)).rglob('*.*'))


def test_unknown_bucket_ends_an_upload_and_leaves_nothing(setting: Setting, source: Path) -> None:
    def unknown(name: str) -> None:
        if name == 'bucket_get':
            raise NotFoundError('Bucket not found', 404)

    setting.bridge.before = unknown
    with pytest.raises(NotFoundError, match='Bucket not found'):
        setting.upload(source)
    setting.bridge.before = lambda name: None
    setting.bridge.bucket_get = lambda bucket_id: None  # type: ignore[method-assign]
    with pytest.raises(NotFoundError, match='Bucket not found'):
        setting.upload(source)
    assert setting.bridge.frames == {}
    assert setting.bridge.calls.count('file_create') == 0
    assert not list(Path(str(setting.transfers.config.state_dir)).rglob('*.*'))


@pytest.mark.parametrize('resume', [True, False])
def test_upload_that_fails_before_it_begins_leaves_the_last_attempt(
    setting: Setting, source: Path, resume: bool
) -> None:
    state = break_off(setting, source, 2)
    setting.bridge.mnemonic = None
    with pytest.raises(MnemonicError):
        setting.upload(source, resume=resume)
    setting.bridge.mnemonic = WORDS
    [entry] = list_journals(setting.transfers.config.journal_dir())
    assert entry.frame_id == state['frame']
    file = setting.upload(source)
    assert file.index == state['index']
    assert [*setting.bridge.frames] == [file.frame.id]


def test_next_upload_destroys_the_frame_that_was_left(setting: Setting, source: Path) -> None:
    def away(name: str) -> None:
        if name in ('file_create', 'frame_delete', 'file_id'):
            raise BridgeUnreachableError('gone')

    setting.bridge.before = away
    with pytest.raises(BridgeUnreachableError):
        setting.upload(source.read_bytes())
    [old] = setting.bridge.frames
    [entry] = list_journals(setting.transfers.config.journal_dir())
    assert (entry.frame_id, entry.active) == (old, False)
    setting.bridge.before = lambda name: None
    file = setting.upload(source.read_bytes())
    assert [*setting.bridge.frames] == [file.frame.id]
    assert list(list_journals(setting.transfers.config.journal_dir())) == []


# -- uploads: a given frame, many shards -----------------------------------------------------------


@pytest.mark.parametrize('given_as', ['frame', 'id'])
def test_given_frame_is_used_and_outlives_a_failure(
    setting: Setting, source: Path, given_as: str
) -> None:
    made = setting.bridge.frame_create()
    frame: Any = made if given_as == 'frame' else made.id
    setting.bridge.calls.clear()
    setting.bridge.down.update(setting.bridge.farmers)
    with pytest.raises(TransferError):
        setting.upload(source, frame=frame)
    assert [*setting.bridge.frames] == [made.id]
    assert not list(Path(str(setting.transfers.config.state_dir)).rglob('*.json'))
    setting.bridge.down.clear()
    setting.bridge.frames[made.id].clear()
    file = setting.upload(source, frame=frame)
    assert file.frame.id == made.id
    assert 'frame_create' not in setting.bridge.calls
    assert setting.download(file).read() == source.read_bytes()


@pytest.mark.parametrize('frame', [Frame(), Frame(id=''), ''])
def test_given_frame_without_an_id_is_refused(setting: Setting, frame: Any) -> None:
    with pytest.raises(ValueError, match='no id'):
        setting.upload(b'data', frame=frame)
    assert setting.bridge.frames == {}


def test_more_shards_than_can_be_coded_go_without_parity(
    make: Callable[..., Setting], caplog: pytest.LogCaptureFixture
) -> None:
    setting = make()
    data = os.urandom(256 * SHARD)
    file = setting.upload(data)
    assert file.erasure is None
    assert len(setting.bridge.frames[file.frame.id]) == 256
    assert 'uploading without parity' in caplog.text
    assert setting.download(file).read() == data
    with pytest.raises(ValueError, match='255'):
        setting.upload(data, name='other', parity=True)
    assert len(setting.bridge.frames) == 1


# -- journals --------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(field='key', value='ä')
@given(
    field=st.sampled_from(['frame', 'index', 'shards', 'key', 'cut', 'source', 'total']), value=JSON
)
def test_damaged_journal_of_an_upload_is_none(tmp_path: Path, field: str, value: Any) -> None:
    folder = tmp_path / os.urandom(8).hex()
    folder.mkdir()
    source = folder / 'source'
    source.write_bytes(os.urandom(SIZE))
    setting = Setting(folder)
    break_off(setting, source, 2)
    [path] = setting.transfers.config.journal_dir().glob('*.json')
    content = json.loads(path.read_text())
    content['state'][field] = value
    path.write_text(json.dumps(content))
    try:
        file = setting.upload(source)
    except ResumeMismatchError:
        assert field == 'key'
        file = setting.upload(source, resume=False)
    assert setting.download(file).read() == source.read_bytes()
    assert field == 'frame' or [*setting.bridge.frames] == [file.frame.id]


@pytest.mark.parametrize(
    'shards',
    [
        {'0': ['x' * 40, 'f']}, {'0': ['0' * 40]}, {'0': ['0' * 40, 5]}, {'0': '0' * 40},
        {'-1': ['0' * 40, 'f']}, {'x': ['0' * 40, 'f']}, {'99': ['0' * 40, 'f']},
        {'²': ['0' * 40, 'f']}, {'0': None}, [['0' * 40, 'f']],
    ],
)  # fmt: skip
def test_damaged_list_of_shards_begins_afresh(setting: Setting, source: Path, shards: Any) -> None:
    state = break_off(setting, source, 2)
    [path] = setting.transfers.config.journal_dir().glob('*.json')
    content = json.loads(path.read_text())
    content['state']['shards'] = shards
    path.write_text(json.dumps(content))
    file = setting.upload(source)
    assert file.index != state['index']
    assert [*setting.bridge.frames] == [file.frame.id]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    field=st.sampled_from(['part', 'inode', 'mode', 'done', 'form', 'whole', 'bytes']), value=JSON
)
def test_damaged_journal_of_a_download_is_none(tmp_path: Path, field: str, value: Any) -> None:
    folder = tmp_path / os.urandom(8).hex()
    folder.mkdir()
    setting = Setting(folder)
    data = os.urandom(SIZE)
    file = setting.upload(data)
    break_off_download(setting, file, folder / 'out', 2)
    [path] = setting.transfers.config.journal_dir().glob('*.json')
    content = json.loads(path.read_text())
    content['state'][field] = value
    path.write_text(json.dumps(content))
    setting.download(file, folder / 'out')
    assert (folder / 'out').read_bytes() == data


# -- downloads -------------------------------------------------------------------------------------


def break_off_download(
    setting: Setting, file: File, target: Path, pulls: int, **options: Any
) -> None:
    """Download until so many shards have come."""
    with only(setting, 'pull', pulls):
        setting.download(file, target, **options)


def counted(setting: Setting) -> list[str]:
    """Count the shards that are pulled from now on."""
    pulled: list[str] = []

    def note(node: str, data: bytes) -> bytes:
        pulled.append(shard_hash(data))
        return data

    setting.channel.pulling = note
    return pulled


@pytest.mark.parametrize('shards', [0, 0.5, 1, 1.5])
def test_shards_behind_the_end_of_a_truncated_part_are_fetched_again(
    setting: Setting, tmp_path: Path, shards: float
) -> None:
    data = os.urandom(SIZE)
    file = setting.upload(data)
    break_off_download(setting, file, tmp_path / 'out', 3)
    os.truncate(tmp_path / 'out.part', int(shards * SHARD))
    pulled = counted(setting)
    setting.download(file, tmp_path / 'out')
    assert (tmp_path / 'out').read_bytes() == data
    assert len(pulled) == 4 - int(shards)


def test_range_goes_on_where_it_stopped(setting: Setting, tmp_path: Path) -> None:
    data = os.urandom(SIZE)
    file = setting.upload(data)
    target = tmp_path / 'out'
    wanted: dict[str, Any] = {'start': SHARD // 2, 'end': 4 * SHARD - 5}
    break_off_download(setting, file, target, 3, **wanted)
    pulled = counted(setting)
    setting.download(file, target, **wanted)
    assert target.read_bytes() == data[wanted['start'] : wanted['end']]
    # Those that the range shows in part cannot be checked, and come again.
    assert len(pulled) == 2
    # The part file is its owner's alone; the finished file is as readable as any new one.
    (tmp_path / 'usual').touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ('out', 'usual')]
    assert modes[0] == modes[1]
    assert not list(tmp_path.glob('*.part'))


def test_other_range_does_not_go_on_with_the_first(setting: Setting, tmp_path: Path) -> None:
    data = os.urandom(SIZE)
    file = setting.upload(data)
    target = tmp_path / 'out'
    break_off_download(setting, file, target, 2, start=SHARD)
    setting.download(file, target, end=3 * SHARD)
    assert target.read_bytes() == data[: 3 * SHARD]
    assert not list(tmp_path.glob('*.part'))


@pytest.mark.parametrize('links', [True, False])
def test_file_that_appears_during_a_download_is_kept(
    setting: Setting, tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, 'no links here')

        monkeypatch.setattr(os, 'link', refuse)
    file = setting.upload(os.urandom(SIZE))
    target = tmp_path / 'out'

    def appear(node: str, data: bytes) -> bytes:
        target.write_bytes(b'mine')
        return data

    setting.channel.pulling = appear
    with pytest.raises(FileExistsError):
        setting.download(file, target, overwrite=False)
    assert target.read_bytes() == b'mine'
    assert [path.name for path in tmp_path.glob('out*')] == ['out']
    assert list(list_journals(setting.transfers.config.journal_dir())) == []


def test_loser_of_two_downloads_to_one_path_leaves_nothing(
    setting: Setting, tmp_path: Path
) -> None:
    files = [setting.upload(os.urandom(SIZE), name=name) for name in 'ab']
    target = tmp_path / 'out'
    won: list[Path] = []

    def second(node: str, data: bytes) -> bytes:
        setting.channel.pulling = lambda node, data: data
        won.append(setting.download(files[1], target, overwrite=False))
        return data

    setting.channel.pulling = second
    with pytest.raises(FileExistsError):
        setting.download(files[0], target, overwrite=False)
    assert won == [target]
    assert [path.name for path in tmp_path.glob('out*')] == ['out']
    assert list(list_journals(setting.transfers.config.journal_dir())) == []


def test_folder_that_appears_meanwhile_leaves_nothing(setting: Setting, tmp_path: Path) -> None:
    file = setting.upload(os.urandom(SIZE))
    target = tmp_path / 'out'

    def appear(node: str, data: bytes) -> bytes:
        target.mkdir(exist_ok=True)
        return data

    setting.channel.pulling = appear
    with pytest.raises(OSError, match='directory'):
        setting.download(file, target)
    assert [path.name for path in tmp_path.glob('out*')] == ['out']
    assert list(list_journals(setting.transfers.config.journal_dir())) == []


def killed_at_the_end(
    setting: Setting, file: File, target: Path, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> None:
    """Download a file, and leave the journal as if the process had not come to remove it."""
    with monkeypatch.context() as killed:
        killed.setattr(Journal, 'remove', lambda journal: None)
        setting.download(file, target, **options)
    [entry] = list_journals(setting.transfers.config.journal_dir())
    assert entry.bytes == entry.total == SIZE


@pytest.mark.parametrize('linked', [True, False], ids=['under both names', 'under its name'])
def test_download_that_was_killed_at_its_very_end_is_done(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    file = setting.upload(os.urandom(SIZE))
    target, part = tmp_path / 'out', tmp_path / 'out.part'
    assert not setting.transfers.is_downloaded(BUCKET, file.id, target)
    killed_at_the_end(setting, file, target, monkeypatch, overwrite=False)
    if linked:
        os.link(target, part)
    assert setting.transfers.is_downloaded(BUCKET, file.id, target)
    pulled = counted(setting)
    assert setting.download(file, target, overwrite=False) == target
    assert pulled == []
    assert [path.name for path in tmp_path.glob('out*')] == ['out']
    assert list(list_journals(setting.transfers.config.journal_dir())) == []


def test_download_killed_at_its_end_is_repeated_with_overwrite(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(SIZE)
    file = setting.upload(data)
    target = tmp_path / 'out'
    killed_at_the_end(setting, file, target, monkeypatch)
    os.link(target, tmp_path / 'out.part')
    target.write_bytes(b'edited meanwhile')
    setting.download(file, target)
    assert target.read_bytes() == data
    assert [path.name for path in tmp_path.glob('out*')] == ['out']


@pytest.mark.parametrize(
    'what',
    [
        'another file',
        'another range',
        'another content',
        'the stored form',
        'a link',
        'a part of mine',
    ],
)
def test_file_that_is_not_the_one_of_the_killed_download_is_kept(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    file = setting.upload(os.urandom(SIZE))
    target, part = tmp_path / 'out', tmp_path / 'out.part'
    killed_at_the_end(setting, file, target, monkeypatch, overwrite=False)
    options: dict[str, Any] = {}
    if what == 'another range':
        options['start'] = 5
    elif what == 'another content':
        assert setting.upload(os.urandom(SIZE), overwrite=True).id == file.id
    elif what == 'the stored form':
        options['decrypt'] = False
    elif what == 'a part of mine':
        part.write_bytes(b'mine')
    else:
        target.rename(tmp_path / 'moved')
        if what == 'a link':
            target.symlink_to(tmp_path / 'moved')
        else:
            target.write_bytes(b'mine')
        assert not setting.transfers.is_downloaded(BUCKET, file.id, target)
    before = target.read_bytes()
    if what == 'a part of mine':
        setting.download(file, target, overwrite=False)
        assert part.read_bytes() == b'mine'
    else:
        with pytest.raises(FileExistsError):
            setting.download(file, target, overwrite=False, **options)
    assert target.read_bytes() == before


def test_frame_of_an_upload_that_broke_off_is_told(setting: Setting, source: Path) -> None:
    transfers = setting.transfers
    assert transfers.frame_left(BUCKET, 'n', source) is None
    state = break_off(setting, source, 2)
    assert transfers.frame_left(BUCKET, 'n', source) == state['frame']
    for other in ((BUCKET, 'm', source), ('0' * 24, 'n', source), (BUCKET, 'n', '')):
        assert transfers.frame_left(*other) is None
    setting.upload(source)
    assert transfers.frame_left(BUCKET, 'n', source) is None


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no forks here')
@pytest.mark.parametrize('overwrite', [True, False])
@pytest.mark.parametrize('resume', [True, False])
@pytest.mark.parametrize('size', [100, 2 * SHARD])
def test_download_killed_at_any_line_is_whole_after_the_same_call(
    make: Callable[..., Setting], tmp_path: Path, overwrite: bool, resume: bool, size: int
) -> None:
    setting = make()
    data = os.urandom(size)
    file = setting.upload(data)
    options = {'overwrite': overwrite, 'resume': resume}

    def download(folder: Path) -> None:
        Setting(folder, bridge=setting.bridge).download(file, folder / 'out', **options)

    # Every 29th line of about 400, others in each of the four cases; of one small shard about 60.
    step = 29 if size > SHARD else 4
    lines = (overwrite + 2 * resume) * step // 4
    while True:
        folder = tmp_path / str(lines)
        folder.mkdir()
        child = os.fork()
        if not child:
            kill_at(lines)
            download(folder)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        try:
            download(folder)
        except FileExistsError:
            # It was killed when everything was done.
            assert not overwrite
        assert (folder / 'out').read_bytes() == data, lines
        assert [path.name for path in folder.glob('out*')] == ['out'], lines
        assert not [path for path in (folder / 'state').rglob('*') if path.is_file()], lines
        shutil.rmtree(folder)
        lines += step
    assert lines > 10 * step


#: Where a kill leaves something: what writes files, and what decides what is written.
_WATCHED = {module.__file__ for module in (atomic_file, file_lock, spool, journal, download_)}


def kill_at(line: int) -> None:
    """End this process, as kill -9 does, before it runs its nth line of what writes files."""
    left = line

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in _WATCHED:
            return None
        if event == 'line':
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
