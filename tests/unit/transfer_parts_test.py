"""The engine's smaller parts: sources, spools, part files, journals, the spread of farmers."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import re
import stat
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj.api import BridgeProfile
from storj.exception import (
    BridgeUnreachableError,
    FarmerError,
    FarmerUnreachableError,
    IntegrityError,
    ResourceError,
    StorjBridgeApiError,
    TransferError,
)
from storj.model import File, Frame
from storj.system import atomic_file, file_lock
from storj.transfer import TransferConfig, clean_journals, list_journals
from storj.transfer.channel import check_pointer
from storj.transfer.config import name_of
from storj.transfer.coordinator import Stopped
from storj.transfer.journal import Journal, open_journal
from storj.transfer.negotiate import FarmerSelection
from storj.transfer.scope import describe
from storj.transfer.source import FileSource, MemorySource, PathSource, once, open_source
from storj.transfer.spool import Spool, UnfinishedFile, discard_former, raise_disk_error
from tests.unit.fake_network import FakeBridge

DATA = bytes(range(256)) * 40


def read(source: Any, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    source.read_into(offset, memoryview(buffer))
    return bytes(buffer)


# -- sources ---------------------------------------------------------------------------------------


def test_each_source_is_read_in_the_cheapest_right_way(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.write_bytes(DATA)
    packed = tmp_path / 'file.gz'
    packed.write_bytes(gzip.compress(DATA))
    with (
        path.open('rb') as plain,
        gzip.open(packed) as unpacked,
        tempfile.SpooledTemporaryFile() as spooled,
    ):
        spooled.write(DATA)
        spooled.seek(0)
        plain.read(10)
        cases = [
            (str(path), PathSource, 0),
            (path, PathSource, 0),
            (File(filename=path), PathSource, 0),
            (plain, PathSource, 10),
            # Its descriptor is that of the packed bytes.
            (unpacked, FileSource, 0),
            (spooled, FileSource, 0),
            (io.BytesIO(DATA), FileSource, 0),
            (DATA, MemorySource, 0),
            (memoryview(DATA), MemorySource, 0),
        ]
        for given_source, kind, start in cases:
            source = open_source(given_source)
            assert type(source) is kind
            assert source.size == len(DATA) - start
            assert read(source, 5, 300) == DATA[start + 5 : start + 305]
            source.check_unchanged()
            source.close()
        assert plain.tell() == 10


def stop() -> None:
    raise Stopped


def test_silent_pipe_does_not_hold_its_reader() -> None:
    reader, writer = os.pipe()
    for buffering in (0, -1):
        with os.fdopen(os.dup(reader), 'rb', buffering) as pipe:
            os.write(writer, b'abc')
            pieces = once(pipe, 10, stop)
            assert next(pieces) == b'abc'
            with pytest.raises(Stopped):
                next(pieces)
    os.write(writer, b'de')
    os.close(writer)
    with os.fdopen(reader, 'rb') as pipe:
        assert b''.join(once(pipe, 10, stop)) == b'de'


def test_what_can_be_read_once_only_is_no_random_source() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with os.fdopen(reader, 'rb') as pipe:
        assert open_source(pipe) is None
    assert open_source(iter([b'x'])) is None
    assert b''.join(once([b'a', bytearray(b'b'), memoryview(b'c')], 10, stop)) == b'abc'
    with pytest.raises(TypeError, match='str'):
        list(once(['text'], 10, stop))


def test_folders_and_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_source(tmp_path)
    with pytest.raises(ValueError, match='not a regular file'):
        open_source('/dev/null')
    with pytest.raises(FileNotFoundError):
        open_source(tmp_path / 'missing')
    with pytest.raises(ValueError, match='filename'):
        open_source(File())
    with pytest.raises(TypeError):
        open_source(7)


def test_pipe_without_a_writer_is_refused_in_place_of_a_file(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(ValueError, match='not a regular file'):
        open_source(tmp_path / 'pipe')


@pytest.mark.skipif(not Path('/proc/version').exists(), reason='a file that the kernel makes')
def test_file_without_a_size_is_not_taken_for_an_empty_one() -> None:
    with pytest.raises(ValueError, match='does not state its size: pass it as an open file'):
        open_source('/proc/version')
    with Path('/proc/version').open('rb') as file:
        assert open_source(file) is None
        assert b''.join(once(file, 4096, stop)) == Path('/proc/version').read_bytes()


def test_changes_of_a_file_are_seen(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.write_bytes(DATA)
    source = PathSource(os.open(path, os.O_RDONLY))
    before = source.fingerprint()
    os.utime(path, ns=(1, 1))
    with pytest.raises(IntegrityError, match='changed'):
        source.check_unchanged()
    os.truncate(path, 100)
    with pytest.raises(IntegrityError, match='shorter'):
        read(source, 0, 200)
    source.close()
    path.write_bytes(DATA[:-1] + b'x')
    other = PathSource(os.open(path, os.O_RDONLY))
    assert other.fingerprint()['sample'] != before['sample']
    other.close()


@pytest.mark.parametrize(
    ('source', 'name'),
    [
        ('/a/b/c.txt', 'c.txt'),
        (Path('x/ü'), 'ü'),
        (File(filename='/p/q'), 'q'),
        (b'data', None),
        (io.BytesIO(), None),
        (iter([]), None),
    ],
)
def test_name_is_the_last_component(source: Any, name: str | None) -> None:
    assert name_of(source) == name


# -- spools and part files -------------------------------------------------------------------------


def test_spool_has_no_name_and_goes_with_its_user(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(1000, b'later')
    spool.write(0, b'first')
    assert list(tmp_path.iterdir()) == []
    assert (read(spool, 1000, 5), read(spool, 0, 7), spool.size) == (b'later', b'first\0\0', 1005)
    with pytest.raises(IntegrityError):
        read(spool, 1004, 2)
    spool.close()


def test_full_disk_is_told_and_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, 'No space left on device')
    with pytest.raises(ResourceError, match='no space left in /somewhere') as told:
        raise_disk_error(full, '/somewhere')
    assert told.value.__cause__ is full
    with pytest.raises(FileNotFoundError) as missing:
        Spool(tmp_path / 'missing')
    # Who follows causes comes to an end.
    assert missing.value.__cause__ is None


def test_part_file_is_private_until_it_gets_its_name(tmp_path: Path) -> None:
    target = tmp_path / 'name'
    part = UnfinishedFile(target)
    assert part.path == tmp_path / 'name.part'
    assert stat.S_IMODE(part.path.stat().st_mode) == 0o600
    part.write(2, memoryview(b'cd'))
    part.write(0, memoryview(b'ab'))
    with pytest.raises(IntegrityError):
        part.finish(5, fsync=False, overwrite=True)
    part.finish(4, fsync=True, overwrite=True)
    part.close()
    assert target.read_bytes() == b'abcd'
    assert [path.name for path in tmp_path.iterdir()] == ['name']
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


def test_part_file_of_others_is_not_touched(tmp_path: Path) -> None:
    target, foreign, secret = tmp_path / 'name', tmp_path / 'name.part', tmp_path / 'secret'
    secret.write_bytes(b'secret')
    foreign.symlink_to(secret)
    inode = secret.stat().st_ino
    # A damaged journal may name anything.
    for former in (str(foreign), str(secret), '/etc/passwd', '../name.part'):
        part = UnfinishedFile(target, former=former, inode=inode)
        assert not part.resumed
        assert part.path not in (foreign, secret)
        part.close()
        part.discard()
        discard_former(target, former, inode)
    assert secret.read_bytes() == b'secret'
    assert foreign.is_symlink()


def test_name_that_is_taken_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / 'name'
    part = UnfinishedFile(target)
    part.write(0, memoryview(b'new'))
    target.write_bytes(b'old')
    with pytest.raises(FileExistsError):
        part.finish(3, fsync=False, overwrite=False)
    part.close()
    part.discard()
    assert target.read_bytes() == b'old'


def test_file_system_without_modes_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, mode: int) -> None:
        raise PermissionError(errno.EPERM, 'Operation not permitted')

    monkeypatch.setattr(os, 'fchmod', refuse)
    part = UnfinishedFile(tmp_path / 'out')
    part.write(0, memoryview(b'data'))
    part.finish(4, fsync=False, overwrite=True)
    assert (tmp_path / 'out').read_bytes() == b'data'


def test_download_acts_for_nobody_although_the_file_before_it_did(tmp_path: Path) -> None:
    target = tmp_path / 'out'
    target.write_bytes(b'old')
    target.chmod(0o6751)
    part = UnfinishedFile(target)
    part.finish(0, fsync=False, overwrite=True)
    assert stat.S_IMODE(target.stat().st_mode) == 0o751


def test_part_file_is_closed_once_although_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, close = UnfinishedFile(tmp_path / 'out'), os.close

    def full(descriptor: int) -> None:
        close(descriptor)
        raise OSError(errno.EDQUOT, 'Disk quota exceeded')

    monkeypatch.setattr(os, 'close', full)
    with pytest.raises(OSError, match='quota'):
        part.finish(0, fsync=False, overwrite=True)
    monkeypatch.setattr(os, 'close', close)
    # Another thread may have the number by now.
    with (tmp_path / 'other').open('wb') as other:
        part.close()
        other.write(b'data')
    assert not (tmp_path / 'out').exists()


def test_replaced_part_file_is_neither_renamed_nor_removed(tmp_path: Path) -> None:
    target = tmp_path / 'out'
    part = UnfinishedFile(target)
    part.write(0, memoryview(b'data'))
    (tmp_path / 'other').write_bytes(b'mine')
    (tmp_path / 'other').replace(part.path)
    with pytest.raises(IntegrityError, match='was changed'):
        part.finish(4, fsync=False, overwrite=False)
    part.close()
    part.discard()
    assert part.path.read_bytes() == b'mine'
    assert not target.exists()


@pytest.mark.parametrize(
    'name', ['n' * 251, 'n' * 255, '\N{LATIN SMALL LETTER U WITH DIAERESIS}' * 127]
)
def test_name_as_long_as_the_file_system_bears_is_given(tmp_path: Path, name: str) -> None:
    part = UnfinishedFile(tmp_path / name)
    part.write(0, memoryview(b'new'))
    part.finish(3, fsync=False, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_file_system_without_links_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, 'no links here')

    monkeypatch.setattr(os, 'link', refuse)
    part = UnfinishedFile(tmp_path / 'name')
    part.write(0, memoryview(b'new'))
    part.finish(3, fsync=False, overwrite=False)
    assert (tmp_path / 'name').read_bytes() == b'new'
    assert [path.name for path in tmp_path.iterdir()] == ['name']


def test_part_file_is_closed_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = UnfinishedFile(tmp_path / 'name')
    descriptor, rename = part._descriptor, Path.replace

    def as_on_windows(path: Path, target: Path) -> Path:
        with pytest.raises(OSError, match='Bad file descriptor'):
            os.fstat(descriptor)
        return rename(path, target)

    monkeypatch.setattr(Path, 'replace', as_on_windows)
    part.finish(0, fsync=False, overwrite=True)
    assert (tmp_path / 'name').read_bytes() == b''


# -- journals --------------------------------------------------------------------------------------


IDENTITY = {'kind': 'upload', 'path': '/a', 'bucket': 'b', 'file': 'f'}


def test_lock_without_a_journal_is_removed_with_the_journals(tmp_path: Path) -> None:
    Journal(tmp_path, IDENTITY).close()
    left = tmp_path / f'{"0" * 32}.lock'
    left.touch()
    with file_lock.locked(left):
        assert clean_journals(tmp_path) == []
        assert left.exists()
    left.touch()
    clean_journals(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_journal_is_found_again_and_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / 'state' / 'transfers'
    journal = Journal(folder, IDENTITY)
    assert journal.state == {}
    journal.state['done'] = [1, 2]
    journal.save()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    with pytest.raises(TransferError, match='another process'):
        Journal(folder, IDENTITY)
    [entry] = list_journals(folder)
    assert (entry.kind, entry.path, entry.active) == ('upload', '/a', True)
    assert clean_journals(folder) == []
    journal.close()
    again = Journal(folder, IDENTITY)
    assert again.state == {'done': [1, 2]}
    again.remove()
    again.close()
    assert list(folder.iterdir()) == []


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(['schema', 'state', 'identity', 'changed']), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_damaged_journal_counts_as_none(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = Journal(folder, IDENTITY)
        journal.save()
        journal.close()
        [path] = folder.glob('*.json')
        path.write_bytes(raw)
        list(list_journals(folder))
        again = Journal(folder, IDENTITY)
        assert isinstance(again.state, dict)
        again.close()
        clean_journals(folder)


@pytest.mark.parametrize('number', ['NaN', 'Infinity', '-1e999', '1e300'])
def test_number_that_is_none_is_listed_as_nothing(tmp_path: Path, number: str) -> None:
    journal = Journal(tmp_path, IDENTITY)
    journal.save()
    journal.close()
    [path] = tmp_path.glob('*.json')
    raw = path.read_text().replace('"state": {}', f'"state": {{"bytes": {number}}}')
    path.write_text(re.sub('"changed": [0-9.]+', f'"changed": {number}', raw))
    [entry] = list_journals(tmp_path)
    assert (entry.bytes, entry.changed) == (0, 0)


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_worked_on_without_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int, wait: bool) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(file_lock, '_lock_descriptor', refuse)
    assert open_journal(TransferConfig(state_dir=tmp_path), IDENTITY) is None


@pytest.mark.parametrize('look', [list_journals, clean_journals])
def test_look_at_a_journal_is_not_taken_for_a_transfer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: Any
) -> None:
    lock, unlock = file_lock.lock, file_lock.unlock
    refused = threading.Event()
    begun: list[Any] = []

    def spy(path: Path, **options: Any) -> Any:
        descriptor = lock(path, **options)
        if descriptor is None:
            refused.set()
        return descriptor

    def begin() -> None:
        try:
            begun.append(Journal(tmp_path, IDENTITY))
        except TransferError as error:
            begun.append(error)

    thread = threading.Thread(target=begin)

    def held(descriptor: int, *args: Any) -> None:
        # Somebody wants to begin the transfer just while its lock is held by the look at it.
        if thread.ident is None:
            thread.start()
            assert refused.wait(10)
        unlock(descriptor, *args)

    journal = Journal(tmp_path, IDENTITY)
    journal.save()
    journal.close()
    monkeypatch.setattr(file_lock, 'lock', spy)
    monkeypatch.setattr(file_lock, 'unlock', held)
    list(look(tmp_path))
    thread.join(10)
    assert [type(each) for each in begun] == [Journal]
    begun[0].remove()
    begun[0].close()
    assert list(tmp_path.iterdir()) == []


def test_lock_is_not_kept_by_who_has_its_descriptor_from_a_fork(tmp_path: Path) -> None:
    held = file_lock.lock(tmp_path / 'lock')
    assert held is not None
    inherited = os.dup(held)
    file_lock.unlock(held)
    again = file_lock.lock(tmp_path / 'lock')
    assert again is not None
    file_lock.unlock(again)
    os.close(inherited)


def test_look_leaves_nothing_behind(tmp_path: Path) -> None:
    journal = Journal(tmp_path, IDENTITY)
    journal.save()
    journal.close()
    [lock] = tmp_path.glob('*.lock')
    lock.unlink()
    [entry] = list_journals(tmp_path)
    assert not entry.active
    assert [path.suffix for path in tmp_path.iterdir()] == ['.json']


def left_behind(folder: Path, bridge: FakeBridge, /, **identity: str) -> str:
    """Leave the journal of a broken-off upload, and its frame at the bridge; return its id."""
    frame_id = bridge.frame_create().id
    journal = Journal(
        folder,
        {**IDENTITY, 'bridge': bridge.api_url, 'account': bridge.email or '', **identity},
    )
    journal.state['frame'] = frame_id
    journal.save()
    journal.close()
    return str(frame_id)


def test_cleaned_upload_leaves_no_frame(tmp_path: Path) -> None:
    bridge = FakeBridge()
    frame_id = left_behind(tmp_path, bridge)
    [entry] = clean_journals(tmp_path, bridge=bridge)
    assert (entry.frame_id, entry.bridge, entry.account) == (
        frame_id,
        bridge.api_url,
        bridge.email,
    )
    assert bridge.frames == {}
    # A frame that is gone already is no failure.
    bridge.frames.pop(left_behind(tmp_path, bridge))
    assert len(clean_journals(tmp_path, bridge=bridge)) == 1


@pytest.mark.parametrize('tells', [True, False], ids=['tells', 'does not tell'])
def test_cleaned_upload_leaves_the_frame_of_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tells: bool
) -> None:
    bridge = FakeBridge()
    frame_id = left_behind(tmp_path, bridge)
    bridge.file_create('b' * 24, frame_id, 'name', erasure=False)
    if not tells:
        # Bridges before 0.10 say nothing of it, and destroy frames that files use.
        bridge.frame_get = lambda frame_id: Frame(id=frame_id)  # type: ignore[method-assign]
    assert len(clean_journals(tmp_path, bridge=bridge)) == 1
    assert [*bridge.frames] == [frame_id]
    assert ('does not say whether a file uses it' in caplog.text) != tells


@pytest.mark.parametrize(
    'identity', [{'bridge': 'http://other.example'}, {'account': 'other@example.org'}]
)
def test_frame_of_another_account_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, identity: dict[str, str]
) -> None:
    bridge = FakeBridge()
    frame_id = left_behind(tmp_path, bridge, **identity)
    assert len(clean_journals(tmp_path, bridge=bridge)) == 1
    assert [*bridge.frames] == [frame_id]
    assert f'the frame {frame_id} of the upload of /a stays at' in caplog.text


def test_bridge_that_destroys_no_frame_does_not_keep_the_journal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bridge = FakeBridge()
    left_behind(tmp_path, bridge)

    def away(name: str) -> None:
        raise BridgeUnreachableError('nobody answers')

    bridge.before = away
    assert len(clean_journals(tmp_path, bridge=bridge)) == 1
    assert list(tmp_path.iterdir()) == []
    assert caplog.text.strip().endswith('nobody answers')


@pytest.mark.parametrize('ours', [True, False])
def test_cleaned_download_leaves_the_files_of_others(tmp_path: Path, ours: bool) -> None:
    target, folder = tmp_path / 'out', tmp_path / 'journals'
    part = UnfinishedFile(target)
    part.write(0, memoryview(b'some of it'))
    journal = Journal(folder, {**IDENTITY, 'kind': 'download', 'path': str(target)})
    journal.state.update(part=str(part.path), inode=part.inode)
    journal.save()
    journal.close()
    part.close()
    if not ours:
        (tmp_path / 'other').write_bytes(b'mine')
        (tmp_path / 'other').replace(part.path)
    assert len(clean_journals(folder)) == 1
    assert part.path.exists() != ours
    assert not list(folder.iterdir())


def test_threads_save_a_journal_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, write = Journal(tmp_path, IDENTITY), atomic_file.write
    first_writes, second = threading.Event(), threading.Event()
    met: list[bool] = []

    def slow(*args: Any, **options: Any) -> None:
        first_writes.set()
        # The other thread could change and write the state now.
        met.append(second.wait(0.2))
        write(*args, **options)

    monkeypatch.setattr(atomic_file, 'write', slow)

    def change(state: dict[str, Any]) -> None:
        second.set()
        state.update(whole=1)

    with ThreadPoolExecutor() as threads:
        first = threads.submit(journal.save, lambda state: state.update(done=[1]))
        assert first_writes.wait(10)
        threads.submit(journal.save, change).result(10)
        first.result(10)
    assert met[0] is False
    journal.close()
    assert Journal(tmp_path, IDENTITY).state == {'done': [1], 'whole': 1}


@pytest.mark.parametrize('fails', ['open', 'write', 'rename'])
def test_unwritable_journal_keeps_the_old_state_and_no_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    journal = Journal(tmp_path, IDENTITY)
    journal.state['done'] = [1]
    journal.save()

    def refuse(*_: object, **__: object) -> Any:
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as broken:
        if fails == 'open':
            broken.setattr(atomic_file.os, 'open', refuse)
        elif fails == 'write':
            fdopen = os.fdopen
            broken.setattr(atomic_file.os, 'fdopen', lambda *args: Full(fdopen(*args)))
        else:
            broken.setattr(Path, 'replace', refuse)
        journal.state['done'] = [1, 2]
        journal.save()
        journal.save()
    # Said once, although every shard tries again.
    assert caplog.text.count('cannot be written') == 1
    assert {path.suffix for path in tmp_path.iterdir()} == {'.json', '.lock'}
    [entry] = list_journals(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith('.')]
    journal.close()
    again = Journal(tmp_path, IDENTITY)
    assert again.state == {'done': [1]}
    again.state['done'] = [1, 2, 3]
    again.save()
    again.close()
    assert Journal(tmp_path, IDENTITY).state == {'done': [1, 2, 3]}
    assert entry.path == '/a'


class Full:
    """A file on a disk without room."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> Full:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        raise OSError(errno.ENOSPC, 'No space left on device')


def test_what_a_killed_writer_of_a_journal_left_is_removed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, IDENTITY)
    journal.save()
    journal.close()
    mine = tmp_path / f'.{journal.key}.json.{"0" * 16}'
    others = [tmp_path / f'.{"f" * 32}.json.{"0" * 16}', tmp_path / f'.{journal.key}.json.txt']
    for path in (mine, *others):
        path.write_text('{"sche')
    again = Journal(tmp_path, IDENTITY)
    assert not mine.exists()
    assert all(path.exists() for path in others)
    mine.write_text('{"sche')
    again.close()
    clean_journals(tmp_path)
    assert not mine.exists()
    assert all(path.exists() for path in others)


def test_no_folder_means_no_journals(tmp_path: Path) -> None:
    assert list(list_journals(tmp_path / 'none')) == []


# -- spread of farmers -----------------------------------------------------------------------------


def spread(version: tuple[int, int, int] = (7, 7, 1), known: str = 'abcd') -> FarmerSelection:
    made = FarmerSelection(BridgeProfile(version=version))
    made.know(known)
    return made


def test_loaded_farmers_are_excluded_until_all_are_even() -> None:
    farmers = spread()
    assert farmers.exclusions() == ([], False)
    assert farmers.take('a', force=False)
    assert farmers.exclusions() == (['a'], True)
    # The answer of a request that was under way meanwhile.
    assert not farmers.take('a', force=False)
    assert farmers.take('a', force=True)
    for node in 'bcd':
        assert farmers.take(node, force=False)
    assert farmers.exclusions() == (['a'], True)
    for node in 'bcd':
        assert farmers.take(node, force=False)
    assert farmers.exclusions() == ([], False)


def test_failed_farmers_stay_excluded_and_come_first() -> None:
    farmers = spread()
    farmers.take('a', force=False)
    farmers.drop('a', failed=True)
    farmers.take('b', force=False)
    assert farmers.exclusions() == (['a', 'b'], True)
    farmers.give_up()
    assert farmers.exclusions() == (['a'], False)
    assert not farmers.take('a', force=False)


def test_bridges_that_hang_keep_half_of_their_farmers_to_choose_from() -> None:
    farmers = spread((5, 24, 1))
    for node in 'ab':
        farmers.take(node, force=False)
    assert farmers.exclusions() == (['a', 'b'], True)
    farmers.take('c', force=False)
    assert farmers.exclusions() == ([], False)


def test_exclusions_keep_the_limit_of_bridges() -> None:
    known = [f'{number:040x}' for number in range(700)]
    farmers = FarmerSelection(BridgeProfile(version=(7, 7, 1)))
    farmers.know(known)
    for node in known[:250]:
        farmers.take(node, force=True)
        farmers.drop(node, failed=True)
    for node in known[250:500]:
        farmers.take(node, force=True)
    excluded, _ = farmers.exclusions()
    assert len(excluded) == 300
    assert set(known[:250]) <= set(excluded)


def test_token_refused_once_is_forgiven() -> None:
    farmers = spread()
    assert not farmers.refuses('a')
    assert farmers.refuses('a')


@pytest.mark.parametrize(
    'answer',
    [
        None,
        [],
        'x',
        {},
        {'farmer': None},
        {'farmer': {'nodeID': 'n'}},
        {'token': 't', 'farmer': {}},
    ],
)
def test_contract_without_farmer_is_an_error_of_ours(answer: Any) -> None:
    with pytest.raises(StorjBridgeApiError):
        check_pointer(answer)


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'limits',
    [
        {'concurrency': 0},
        {'hash_workers': -1},
        {'challenges': 1.5},
        {'piece_size': 100},
        {'piece_size': 4097},
        {'piece_size': 1 << 30},
        {'upload_rate': 0},
        {'deadline': -1.0},
        {'hedge_after': float('nan')},
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        TransferConfig(**limits)


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (FarmerUnreachableError(message='no connection to 127.0.0.1:1'), 'no connection to 127'),
        (FarmerError(500, 'it is full'), 'it is full'),
        (StorjBridgeApiError('{"error": "x"}', 400, 'the bridge says no'), 'the bridge says no'),
        (PermissionError(13, 'Permission denied', '/secret'), 'Permission denied'),
    ],
)
def test_cause_is_told_in_words_without_names_of_classes(error: Exception, words: str) -> None:
    told = describe(error)
    assert told.startswith(words)
    assert 'Error' not in told
    assert 'None' not in told
