"""Whole transfers, in the caller's thread, against a bridge and farmers in memory."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from requests.exceptions import ConnectTimeout

from storj import erasure, sharding
from storj.api import BridgeProfile
from storj.crypto import keys, names
from storj.crypto.cipher import CtrStream
from storj.digest import shard_hash
from storj.exception import (
    AlreadyExistsError,
    AuthenticationError,
    BridgeUnavailableError,
    BridgeUnreachableError,
    FarmerError,
    FarmerUnreachableError,
    IntegrityError,
    NotEnoughFarmersError,
    NotEnoughShardsError,
    NotFoundError,
    StorjBridgeApiError,
    StorjError,
    TransferCancelled,
    TransferError,
)
from storj.model import Contact, File, FilePointer, Frame, Token
from storj.system import atomic_file
from storj.transfer import Progress, RetryPolicy, TransferConfig, Transfers, list_journals
from tests.unit.fake_network import (
    BUCKET,
    SHARD,
    WORDS,
    FakeBridge,
    FakeChannel,
    FakeClock,
    Setting,
)
from tests.unit.replay import Answer, client_of


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.integers(0, 5 * SHARD),
    bounds=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    encrypt=st.booleans(),
)
def test_every_range_of_every_file_is_the_slice_of_it(
    tmp_path: Path, size: int, bounds: tuple[float, float], encrypt: bool
) -> None:
    setting = Setting(tmp_path)
    data = os.urandom(size)
    file = setting.upload(data, encrypt=encrypt, name='n')
    start, end = sorted(int(bound * size) for bound in bounds)
    part: dict[str, Any] = {'start': start, 'end': end, 'decrypt': encrypt}
    assert setting.download(file, **part).read() == data[start:end]
    target = tmp_path / 'out'
    setting.download(file, target, **part)
    assert target.read_bytes() == data[start:end]
    assert setting.transfers.verify(BUCKET, file.id, decrypt=encrypt).healthy


def test_bridge_without_description_is_still_asked_for_pointers(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(SHARD)
    file = setting.upload(data)
    known = setting.bridge.profile()
    answers = iter([BridgeUnavailableError('busy', 503)])

    def profile() -> BridgeProfile:
        for error in answers:
            raise error
        return known

    monkeypatch.setattr(setting.bridge, 'profile', profile)
    started = setting.clock.now()
    assert setting.download(file).read() == data
    # Nothing was waited for, as before a second attempt.
    assert setting.clock.now() == started


def test_stored_form_is_the_one_of_libstorj(setting: Setting) -> None:
    data = os.urandom(3 * SHARD + 7)
    file = setting.upload(data, name='a name')
    key = keys.bucket_key(WORDS, BUCKET)
    assert file.filename == names.encrypt_file_name(key, BUCKET, 'a name')
    assert file.id == sharding.file_id(BUCKET, file.filename)
    content = keys.file_key(key, file.index)
    shards = setting.bridge.frames[file.frame.id]
    hashes = [shards[index][0].hash for index in range(4)]
    assert file.hmac == {'type': 'sha512', 'value': content.hmac(hashes)}
    sealed = CtrStream(content).process(data)
    pieces = [sealed[position : position + SHARD] for position in range(0, len(data), SHARD)]
    assert hashes == [shard_hash(piece) for piece in pieces]
    assert all(len(shard.challenges) == len(shard.tree) == 4 for shard, _ in shards.values())


def test_old_bridge_gets_key_from_file_id_and_old_audits(make: Callable[..., Setting]) -> None:
    setting = make(bridge=FakeBridge(version=(2, 2, 4)), allow_unauthenticated=True)
    data = os.urandom(2 * SHARD)
    file = setting.upload(data, name='n')
    assert (file.index, file.hmac) == (None, None)
    assert setting.download(file).read() == data
    content = keys.file_key_v0(keys.bucket_key(WORDS, BUCKET), file.id)
    sealed = CtrStream(content).process(data)
    kept = {
        hash: data for shards in setting.bridge.farmers.values() for hash, data in shards.items()
    }
    assert kept[shard_hash(sealed[:SHARD])] == sealed[:SHARD]


@pytest.mark.parametrize('stated', [1, SHARD, 99 * SHARD])
def test_size_that_old_bridge_miscounted_is_not_believed(
    make: Callable[..., Setting], tmp_path: Path, stated: int
) -> None:
    setting = make(bridge=FakeBridge(version=(5, 14, 0)), pointer_page=2)
    data = os.urandom(2 * SHARD + 5)
    file = setting.upload(data)
    file.size = stated
    assert setting.download(file).read() == data
    assert setting.download(file, start=SHARD + 1).read() == data[SHARD + 1 :]
    setting.download(file, tmp_path / 'out')
    assert (tmp_path / 'out').read_bytes() == data


def test_list_that_fits_a_miscounted_size_is_read_to_its_end(make: Callable[..., Setting]) -> None:
    setting = make(bridge=FakeBridge(version=(5, 14, 0)))
    data = os.urandom(8 * SHARD)
    file = setting.upload(data)
    file.size = 6 * SHARD
    whole = setting.bridge.file_pointers

    def six_at_a_time(*args: Any, limit: int | None = None, **query: Any) -> list[FilePointer]:
        return whole(*args, limit=min(limit or 6, 6), **query)

    setting.bridge.file_pointers = six_at_a_time  # type: ignore[method-assign]
    assert setting.download(file).read() == data


@pytest.mark.parametrize('version', [(2, 2, 4), (7, 7, 1)])
def test_file_whose_list_is_empty_is_not_an_empty_file(
    make: Callable[..., Setting], version: tuple[int, int, int]
) -> None:
    setting = make(bridge=FakeBridge(version=version))
    file = setting.upload(os.urandom(SHARD))
    file.hmac = None
    setting.bridge.frames[file.frame.id].clear()
    with pytest.raises(IntegrityError, match='states a size of 15360 bytes, the shards have 0'):
        setting.download(file)


def test_new_bridge_that_states_another_size_is_not_believed(setting: Setting) -> None:
    file = setting.upload(os.urandom(2 * SHARD))
    file.size = 3 * SHARD
    with pytest.raises(IntegrityError, match='states a size'):
        setting.download(file)


@pytest.mark.parametrize(('version', 'most'), [((5, 14, 0), 1), ((5, 15, 0), 4)])
def test_contracts_of_a_frame_are_serial_if_the_bridge_miscounts(
    tmp_path: Path, version: tuple[int, int, int], most: int
) -> None:
    bridge = FakeBridge(version=version)
    lock, met = threading.Lock(), threading.Event()
    together = threading.Barrier(4, met.set)
    inside: list[int] = [0]
    crowds: list[int] = []

    def enter(name: str) -> None:
        if name != 'frame_add_shard':
            return
        with lock:
            inside[0] += 1
            crowds.append(inside[0])
        # Some shards need another farmer, and ask again one by one.
        if not met.is_set():
            with contextlib.suppress(threading.BrokenBarrierError):
                # Broken by the first who finds that nobody joins.
                together.wait(10 if most > 1 else 0.05)
        with lock:
            inside[0] -= 1

    bridge.before = enter
    limits = TransferConfig(shard_size=SHARD, piece_size=4096, state_dir=tmp_path)
    with Transfers(bridge, limits, channel_for=FakeChannel(bridge)) as transfers:
        transfers.upload(BUCKET, os.urandom(4 * SHARD), name='n', parity=False).result(30)
    assert max(crowds) == most


def store_as_old_core(setting: Setting, data: bytes) -> File:
    """Store a file with the key that the core library 5.1.0 to 6.0.3 made of the words."""
    name = 'old.txt'
    text = keys.bucket_key_text(WORDS, BUCKET)
    content = keys.file_key_text(text, sharding.file_id(BUCKET, name))
    sealed = CtrStream(content).process(data)
    file = setting.upload(sealed, name=name, encrypt=False)
    file.hmac = None
    return file


def test_file_of_old_core_is_read_with_the_scheme_of_texts(make: Callable[..., Setting]) -> None:
    bridge = FakeBridge(version=(2, 2, 4))
    data = os.urandom(2 * SHARD)
    file = store_as_old_core(make(bridge=bridge), data)
    old = make(bridge=bridge, key_scheme='text', allow_unauthenticated=True)
    assert old.download(file).read() == data
    assert old.download(file, start=SHARD + 3).read() == data[SHARD + 3 :]


@pytest.mark.parametrize('scheme', ['v0', 'text'])
@pytest.mark.parametrize('written', ['v0', 'text'])
def test_hmac_tells_the_scheme_whatever_is_set(
    make: Callable[..., Setting], scheme: str, written: str
) -> None:
    setting = make(bridge=FakeBridge(version=(5, 12, 0)), key_scheme=scheme)
    data = os.urandom(2 * SHARD)
    if written == 'v0':
        file = setting.upload(data, encrypt_name=False)
    else:
        file = store_as_old_core(setting, data)
        content = keys.file_key_text(keys.bucket_key_text(WORDS, BUCKET), file.id)
        shards = setting.bridge.frames[file.frame.id]
        hashes = [shards[index][0].hash for index in sorted(shards)]
        file.hmac = {'type': 'sha512', 'value': content.hmac(hashes)}
    assert file.index is None
    assert setting.download(file).read() == data


def test_scheme_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match='key_scheme'):
        TransferConfig(key_scheme='v1')  # type: ignore[arg-type]


def test_frame_is_dropped_only_when_no_contract_is_made_any_more(tmp_path: Path) -> None:
    # Bridge 2.2.4 ends when a frame is gone whose contract it has just made.
    bridge = FakeBridge(version=(2, 2, 4))
    limits = TransferConfig(shard_size=SHARD, piece_size=4096, state_dir=tmp_path)
    with Transfers(bridge, limits, channel_for=FakeChannel(bridge)) as transfers:
        transfers.upload(BUCKET, b'first', name='n').result(30)
        entered, released = threading.Event(), threading.Event()
        contract = bridge.frame_add_shard

        def slow(*args: Any, **options: Any) -> Any:
            entered.set()
            assert released.wait(30)
            answer = contract(*args, **options)
            bridge.calls.append('contract made')
            return answer

        bridge.frame_add_shard = slow  # type: ignore[method-assign]
        bridge.before = lambda name: name != 'file_id' or entered.wait(30)
        with pytest.raises(AlreadyExistsError):
            transfers.upload(BUCKET, b'second', name='n').result(30)
        assert 'frame_delete' not in bridge.calls
        released.set()
    assert bridge.calls.index('contract made') < bridge.calls.index('frame_delete')
    assert len(bridge.frames) == 1


def test_engine_that_is_closed_leaves_no_frame(tmp_path: Path) -> None:
    bridge = FakeBridge()
    channel, pushing = FakeChannel(bridge), threading.Event()

    def push(*_: Any, cancelled: Callable[[], bool], **limits: Any) -> None:
        pushing.set()
        while not cancelled():
            threading.Event().wait(0.01)
        raise TransferCancelled('cancelled')

    channel.push = push  # type: ignore[method-assign]
    with Transfers(bridge, TransferConfig(state_dir=tmp_path), channel_for=channel) as transfers:
        transfers.upload(BUCKET, b'data', name='n')
        assert pushing.wait(10)
        assert bridge.frames
    assert bridge.frames == {}


def test_frame_that_is_made_while_the_engine_is_closed_is_dropped(tmp_path: Path) -> None:
    bridge = FakeBridge()
    make, entered, released = bridge.frame_create, threading.Event(), threading.Event()

    def slow() -> Frame:
        entered.set()
        assert released.wait(30)
        return make()

    bridge.frame_create = slow  # type: ignore[method-assign]
    transfers = Transfers(bridge, TransferConfig(state_dir=tmp_path))
    transfers.upload(BUCKET, b'data', name='n')
    assert entered.wait(30)
    transfers.cancel()
    released.set()
    transfers.close()
    assert bridge.calls.count('frame_create') == 1
    assert bridge.frames == {}


def test_source_that_blocks_holds_up_neither_engine_nor_others(tmp_path: Path) -> None:
    bridge = FakeBridge()
    asked, released = threading.Semaphore(0), threading.Event()

    def silent() -> Iterator[bytes]:
        asked.release()
        released.wait(60)
        yield b'late'

    config = TransferConfig(state_dir=tmp_path, transfers=1)
    with Transfers(bridge, config, channel_for=FakeChannel(bridge)) as transfers:
        for _ in range(6):
            future = transfers.upload(BUCKET, silent(), name='n')
            assert asked.acquire(timeout=10)
            future.cancel()
            assert future.wait(10)
        assert transfers.upload(BUCKET, b'data', name='n').result(10).size == 4
        transfers.upload(BUCKET, silent(), name='other')
        assert asked.acquire(timeout=10)
    released.set()


def test_stream_whose_time_is_over_before_it_begins_says_so(setting: Setting) -> None:
    class Late(FakeClock):
        def now(self) -> float:
            self.time += 10
            return self.time

    transfers = Transfers(setting.bridge, TransferConfig(deadline=1), clock=Late(), serial=True)
    with pytest.raises(TransferError, match='took longer than the 1 s allowed'):
        next(transfers.stream(BUCKET, 'f' * 24))


def test_frame_is_left_to_an_old_bridge_that_owes_an_answer(make: Callable[..., Setting]) -> None:
    setting = make(bridge=FakeBridge(version=(2, 2, 4)))

    def silent(name: str) -> None:
        if name == 'frame_add_shard':
            raise BridgeUnreachableError('it did not answer in time')

    setting.bridge.before = silent
    with pytest.raises(BridgeUnreachableError):
        setting.upload(os.urandom(SHARD))
    assert len(setting.bridge.frames) == 1
    setting.bridge._profile = BridgeProfile(version=(5, 15, 0))
    [old] = setting.bridge.frames
    setting = make(bridge=setting.bridge)
    with pytest.raises(BridgeUnreachableError):
        setting.upload(os.urandom(SHARD), name='other')
    assert [*setting.bridge.frames] == [old]
    # The next upload of the same name takes it away.
    with pytest.raises(BridgeUnreachableError):
        setting.upload(os.urandom(SHARD))
    assert setting.bridge.frames == {}


# -- placement -------------------------------------------------------------------------------------


def test_silent_bridge_is_asked_again_without_exclusions(
    make: Callable[..., Setting],
) -> None:
    bridge = FakeBridge(version=(2, 2, 4), farmers=4)
    setting = make(bridge=bridge, allow_unauthenticated=True)
    answered, excluded = bridge.frame_add_shard, []

    def silent(shard: Any, frame_id: str, excludes: Any = None) -> Any:
        excluded.append(len(excludes or ()))
        if excludes:
            raise BridgeUnreachableError('it did not answer in time')
        return answered(shard, frame_id, excludes)

    bridge.frame_add_shard = silent  # type: ignore[method-assign]
    data = os.urandom(3 * SHARD)
    assert setting.download(setting.upload(data)).read() == data
    # One silence may have another reason; after the second nobody is excluded any more.
    assert excluded == [0, 1, 1, 0, 0]


@pytest.mark.parametrize(
    'error',
    [
        BridgeUnreachableError('away'),
        BridgeUnavailableError('busy', 503),
        BridgeUnavailableError('connect ECONNREFUSED 127.0.0.1:8152', 400),
    ],
)
def test_exclusions_outlive_a_bridge_that_was_away_for_a_moment(
    setting: Setting, error: StorjError
) -> None:
    failures = iter([None, error])

    def away(name: str) -> None:
        if name == 'frame_add_shard' and (failure := next(failures, None)) is not None:
            raise failure

    setting.bridge.before = away
    file = setting.upload(os.urandom(4 * SHARD))
    nodes = [node for _, node in setting.bridge.frames[file.frame.id].values()]
    assert len(set(nodes)) == len(nodes)


def test_no_farmer_gets_a_second_shard_while_another_has_none(setting: Setting) -> None:
    # This bridge offers the same farmer again and again unless it is excluded.
    file = setting.upload(os.urandom(9 * SHARD))
    shards = setting.bridge.frames[file.frame.id].values()
    assert sorted(Counter(node for _, node in shards).values()) == [1, 1, 1, 2, 2, 2]


def test_failed_farmer_is_excluded_for_the_whole_file(setting: Setting) -> None:
    bad = next(iter(setting.bridge.farmers))
    setting.bridge.down.add(bad)
    file = setting.upload(os.urandom(4 * SHARD))
    assert bad not in {node for _, node in setting.bridge.frames[file.frame.id].values()}
    assert [bad in excluded for excluded in setting.bridge.excluded] == [False] + [True] * 4
    messages = [report.exchangeResultMessage for report in setting.bridge.reports]
    assert Counter(messages) == {'TRANSFER_FAILED': 1, 'SHARD_UPLOADED': 4}


def test_more_shards_than_farmers_fit(make: Callable[..., Setting]) -> None:
    setting = make(bridge=FakeBridge(farmers=1))
    data = os.urandom(5 * SHARD)
    assert setting.download(setting.upload(data)).read() == data


def test_without_farmers_the_error_says_how_many(make: Callable[..., Setting]) -> None:
    setting = make(bridge=FakeBridge(farmers=2))
    setting.bridge.down.update(setting.bridge.farmers)
    with pytest.raises(NotEnoughFarmersError) as caught:
        setting.upload(os.urandom(3 * SHARD))
    assert (caught.value.have, caught.value.need) == (0, 3)
    assert any('down' in str(cause) for cause in caught.value.causes)
    assert setting.bridge.frames == {}


# -- the entry -------------------------------------------------------------------------------------


def test_lost_answer_to_the_entry_is_looked_up_and_not_posted_again(setting: Setting) -> None:
    create = setting.bridge.file_create

    def lost(*args: Any, **fields: Any) -> File:
        create(*args, **fields)
        raise BridgeUnreachableError('connection reset')

    setting.bridge.file_create = lost  # type: ignore[method-assign]
    file = setting.upload(b'data')
    assert setting.bridge.calls.count('file_create') == 1
    assert file.frame.id in setting.bridge.frames


def test_entry_that_never_arrived_is_posted_again(setting: Setting) -> None:
    failures = iter([BridgeUnreachableError('reset'), BridgeUnavailableError('busy', 503)])

    def fail(name: str) -> None:
        if name == 'file_create':
            for error in failures:
                raise error

    setting.bridge.before = fail
    assert setting.upload(b'data').id in setting.bridge.files
    assert setting.bridge.calls.count('file_create') == 3


def test_refused_entry_destroys_the_frame_and_unsure_one_does_not(setting: Setting) -> None:
    for error, left in (
        (StorjBridgeApiError('no', 400), 0),
        (BridgeUnreachableError('gone'), 1),
    ):

        def fail(name: str, error: StorjError = error) -> None:
            if name == 'file_create':
                raise error

        setting.bridge.before = fail
        with pytest.raises(type(error)):
            setting.upload(b'data')
        assert len(setting.bridge.frames) == left


def ended_unheard(setting: Setting, source: Path) -> str:
    """Upload a file, and let the client never hear that its entry was made; return its frame."""
    create = setting.bridge.file_create

    def silent(name: str) -> None:
        raise BridgeUnreachableError('gone')

    def lost(*args: Any, **fields: Any) -> File:
        create(*args, **fields)
        setting.bridge.before = silent
        raise BridgeUnreachableError('reset')

    setting.bridge.file_create = lost  # type: ignore[method-assign]
    with pytest.raises(BridgeUnreachableError):
        setting.upload(source)
    setting.bridge.file_create = create  # type: ignore[method-assign]
    setting.bridge.before = lambda name: None
    [(_, frame_id)] = setting.bridge.files.values()
    return frame_id


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / 'source'
    path.write_bytes(os.urandom(2 * SHARD))
    return path


@pytest.mark.parametrize('locked', [True, None])
def test_frame_of_a_file_outlives_an_upload_that_begins_afresh(
    setting: Setting, source: Path, locked: bool | None
) -> None:
    frame_id = ended_unheard(setting, source)
    if locked is None:
        locked_as(setting, None)
    with pytest.raises(AlreadyExistsError):
        setting.upload(source, resume=False)
    assert [*setting.bridge.frames] == [frame_id]


def locked_as(setting: Setting, locked: bool | None) -> None:
    """Have the bridge say of every frame that a file uses it, or not whether one does."""
    whole = setting.bridge.frame_get

    def frame_get(frame_id: str) -> Frame:
        frame = whole(frame_id)
        frame.locked = locked
        return frame

    setting.bridge.frame_get = frame_get  # type: ignore[method-assign]


def test_unconfirmed_upload_is_recognised_without_frames(setting: Setting, source: Path) -> None:
    frame_id = ended_unheard(setting, source)
    locked_as(setting, None)
    assert setting.upload(source).frame.id == frame_id
    assert [*setting.bridge.frames] == [frame_id]


def test_frame_that_a_file_may_use_is_left_where_frames_tell_nothing(
    setting: Setting, source: Path
) -> None:
    frame_id = ended_unheard(setting, source)
    locked_as(setting, None)
    for file, _ in setting.bridge.files.values():
        file.frame = None
    with pytest.raises(AlreadyExistsError):
        setting.upload(source)
    assert [*setting.bridge.frames] == [frame_id]


def test_unconfirmed_file_is_found_by_the_other_form_of_its_name(
    setting: Setting, source: Path
) -> None:
    frame_id = ended_unheard(setting, source)
    with pytest.raises(AlreadyExistsError):
        setting.upload(source, encrypt_name=False)
    assert [*setting.bridge.frames] == [frame_id]
    file = setting.upload(source, encrypt_name=False, overwrite=True)
    assert [*setting.bridge.files] == [file.id]
    assert file.frame.id != frame_id


def test_removed_file_of_an_unconfirmed_upload_is_uploaded_again(
    setting: Setting, source: Path
) -> None:
    frame_id = ended_unheard(setting, source)
    setting.bridge.files.clear()
    locked_as(setting, True)
    file = setting.upload(source)
    # Bridges add nothing to a frame that is locked.
    assert file.frame.id != frame_id
    assert setting.download(file).read() == source.read_bytes()


def test_broken_off_upload_in_another_form_leaves_no_frame(setting: Setting, source: Path) -> None:
    def busy(name: str) -> None:
        if name == 'file_id':
            raise BridgeUnavailableError('busy', 503)

    setting.bridge.before = busy
    with pytest.raises(BridgeUnavailableError):
        setting.upload(source)
    assert len(setting.bridge.frames) == 1
    setting.bridge.before = lambda name: None
    file = setting.upload(source, encrypt_name=False)
    assert [*setting.bridge.frames] == [file.frame.id]


def test_mimetype_unknown_to_the_bridge_is_left_out(setting: Setting) -> None:
    create = setting.bridge.file_create

    def strict(*args: Any, mimetype: str | None = None, **fields: Any) -> File:
        if mimetype is not None:
            raise StorjBridgeApiError('x', 400, 'Invalid mimetype supplied')
        return create(*args, **fields)

    setting.bridge.file_create = strict  # type: ignore[method-assign]
    assert setting.upload(b'x', name='a.png', encrypt_name=False).mimetype is None


def test_refused_mimetype_does_not_lose_the_old_file(
    setting: Setting,
) -> None:
    create = setting.bridge.file_create

    def strict(bucket_id: str, frame_id: str, name: str, **fields: Any) -> File:
        if setting.bridge.file_id(bucket_id, name):
            raise AlreadyExistsError('Name already used in this bucket', 409)
        if fields.get('mimetype') is not None:
            raise StorjBridgeApiError('x', 400, 'Invalid mimetype supplied')
        return create(bucket_id, frame_id, name, **fields)

    setting.bridge.file_create = strict  # type: ignore[method-assign]
    named = {'name': 'a.png', 'encrypt_name': False}
    setting.upload(b'old', **named)
    file = setting.upload(b'new', **named, overwrite=True)
    assert setting.download(file).read() == b'new'
    assert len(setting.bridge.files) == 1


def test_name_taken_meanwhile_is_replaced_only_on_demand(setting: Setting) -> None:
    first = setting.upload(b'first')
    with pytest.raises(AlreadyExistsError):
        setting.upload(b'second')
    assert setting.download(first).read() == b'first'
    second = setting.upload(b'second', overwrite=True)
    assert setting.download(second).read() == b'second'


def test_old_file_that_is_gone_already_is_no_error(setting: Setting) -> None:
    first = setting.upload(b'first')
    create, taken = setting.bridge.file_create, [AlreadyExistsError('taken', 409)]

    def refuse_once(*args: Any, **fields: Any) -> File:
        if taken:
            raise taken.pop()
        return create(*args, **fields)

    def gone(bucket_id: str, file_id: str) -> None:
        setting.bridge.files.pop(file_id)
        raise NotFoundError('File not found', 404)

    setting.bridge.file_create = refuse_once  # type: ignore[method-assign]
    setting.bridge.file_remove = gone  # type: ignore[method-assign]
    second = setting.upload(b'second', overwrite=True)
    assert second.id == first.id


@pytest.mark.parametrize(
    'error', [Answer({}, 503), ConnectTimeout('x')], ids=['refused', 'unreachable']
)
def test_attempts_of_client_and_engine_do_not_multiply(tmp_path: Path, error: Any) -> None:
    client, replay = client_of(lambda request: {} if request.path_url == '/' else error)
    config = TransferConfig(bridge_retry=RetryPolicy(attempts=3), state_dir=tmp_path)
    with Transfers(client, config, clock=FakeClock(), serial=True) as transfers:
        with pytest.raises(StorjError):
            transfers.verify(BUCKET, 'f' * 24)
        assert max(Counter(replay.lines).values()) == 3
        # Elsewhere the client decides by itself.
        replay.requests.clear()
        with pytest.raises(StorjError):
            client.file_metadata(BUCKET, 'f' * 24)
        assert len(replay.requests) == 4


def test_failed_description_is_retried_like_any_request(
    tmp_path: Path,
) -> None:
    client, replay = client_of(lambda request: Answer({}, 503 if request.path_url == '/' else 404))
    client.mnemonic = WORDS
    config = TransferConfig(bridge_retry=RetryPolicy(attempts=3), state_dir=tmp_path)
    with Transfers(client, config, clock=FakeClock(), serial=True) as transfers:
        with pytest.raises(StorjError):
            transfers.upload(BUCKET, bytes(300_000), name='n').result()
        assert replay.lines[:4] == ['GET /', 'GET /', 'GET /', 'POST /frames']


def test_refused_login_ends_at_once(setting: Setting) -> None:
    def refuse(name: str) -> None:
        if name == 'frame_create':
            raise AuthenticationError('Invalid email or password', 401)

    setting.bridge.before = refuse
    with pytest.raises(AuthenticationError):
        setting.upload(b'data')
    assert setting.bridge.calls.count('frame_create') == 1


def test_retry_after_is_obeyed(setting: Setting) -> None:
    errors = iter([BridgeUnavailableError('busy', 503, retry_after=77.0)])

    def busy(name: str) -> None:
        if name == 'frame_create':
            for error in errors:
                raise error

    setting.bridge.before = busy
    setting.upload(b'data')
    assert 77.0 in setting.clock.waits


def test_deadline_ends_a_transfer_that_cannot_go_on(make: Callable[..., Setting]) -> None:
    setting = make(deadline=5.0, bridge_retry=RetryPolicy(attempts=100, delay=1.0))

    def never(name: str) -> None:
        if name == 'frame_create':
            raise BridgeUnavailableError('busy', 503)

    setting.bridge.before = never
    with pytest.raises((TransferError, BridgeUnavailableError)):
        setting.upload(b'data')
    assert setting.clock.time <= 1005.0


# -- source ----------------------------------------------------------------------------------------


def test_slow_farmer_is_interrupted_at_the_deadline_of_its_shard(
    make: Callable[..., Setting],
) -> None:
    setting = make(shard_deadline=5)
    data = os.urandom(SHARD)
    file = setting.upload(data)

    def endless(*_: Any, cancelled: Callable[[], bool], **limits: Any) -> None:
        while not cancelled():
            setting.clock.time += 1
            assert setting.clock.time < 2000
        raise TransferCancelled('cancelled')

    setting.channel.pull = endless  # type: ignore[method-assign]
    with pytest.raises(NotEnoughShardsError, match='the shard took longer than the 5 s allowed'):
        setting.download(file)
    setting.channel.push = endless  # type: ignore[method-assign]
    with pytest.raises(TransferError, match='the shard took longer than the 5 s allowed'):
        setting.upload(data, name='other')


def test_more_shards_than_a_list_of_shards_may_have_are_not_begun(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('storj.transfer.upload.MOST_SHARDS', 2)
    assert setting.upload(bytes(2 * SHARD)).size == 2 * SHARD
    with pytest.raises(ValueError, match='too many shards: 3, at most 2'):
        setting.upload(bytes(3 * SHARD), name='other')


def test_source_that_changes_between_hash_and_push_is_noticed(make: Callable[..., Setting]) -> None:
    setting = make(buffer_size=0)

    class Fickle(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            data = super().read(size)
            return data if self.reads == 1 else bytes(len(data))

    with pytest.raises(IntegrityError, match='changed'):
        setting.upload(Fickle(os.urandom(100)))
    assert setting.bridge.frames == {}


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    read_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


@pytest.mark.parametrize(('buffer_size', 'most'), [(0, 2.0), (2 * 4096, 1.5), (SHARD + 4096, 1.0)])
def test_source_is_read_again_only_where_the_shelf_was_full(
    make: Callable[..., Setting], buffer_size: int, most: float
) -> None:
    setting = make(buffer_size=buffer_size)
    data = os.urandom(3 * SHARD + 7)
    source = Counting(data)
    file = setting.upload(source, parity=False)
    assert len(data) * (most - 0.1) < source.read_bytes <= len(data) * most
    assert setting.download(file).read() == data
    # Every buffer is back in the pool, which then keeps none.
    assert setting.transfers._resources.buffers._made == 0


def test_push_that_broke_off_goes_on_elsewhere_with_all_of_the_shard(
    make: Callable[..., Setting],
) -> None:
    setting = make(buffer_size=3 * 4096)
    push, failures = setting.channel.push, iter(['broken'])

    def break_off(pointer: Any, chunks: Any, size: int, **limits: Any) -> None:
        if next(failures, None):
            next(chunks)
            next(chunks)
            raise FarmerUnreachableError(message='broken')
        push(pointer, chunks, size, **limits)

    setting.channel.push = break_off  # type: ignore[method-assign]
    data = os.urandom(SHARD)
    file = setting.upload(data, parity=False)
    assert setting.download(file).read() == data
    assert setting.transfers._resources.buffers._made == 0


def test_text_is_no_source(setting: Setting) -> None:
    for source in (io.StringIO('text'), ['text'], 7, None):
        with pytest.raises(TypeError):
            setting.upload(source)


# -- hostile bridges and farmers -------------------------------------------------------------------


def changed(pointers: list[FilePointer], **fields: Any) -> list[FilePointer]:
    for name, value in fields.items():
        setattr(pointers[1], name, value)
    return pointers


HOSTILE: dict[str, Callable[[list[FilePointer]], list[FilePointer]]] = {
    'out of order': lambda pointers: pointers[::-1],
    'duplicated': lambda pointers: [pointers[0], *pointers],
    'one left out': lambda pointers: pointers[1:],
    'last left out': lambda pointers: pointers[:-1],
    'negative size': lambda pointers: changed(pointers, size=-1),
    'huge size': lambda pointers: changed(pointers, size=1 << 62),
    'no size': lambda pointers: changed(pointers, size=None),
    'no hash': lambda pointers: changed(pointers, hash=None),
    'hash that is a path': lambda pointers: changed(pointers, hash='../' * 13 + 'x'),
    'hash of other bytes': lambda pointers: changed(pointers, hash='0' * 40),
    'data called parity': lambda pointers: changed(pointers, parity=True),
    'without end': lambda pointers: pointers * 10,
}


@pytest.mark.parametrize('lie', HOSTILE)
def test_bridge_that_lies_about_shards_is_refused(
    setting: Setting, tmp_path: Path, lie: str
) -> None:
    file = setting.upload(os.urandom(3 * SHARD))
    honest = setting.bridge.file_pointers

    def lying(*args: Any, skip: int = 0, **options: Any) -> list[FilePointer]:
        pointers = honest(*args, skip=0, **{**options, 'limit': 100})
        return [] if skip and lie != 'without end' else HOSTILE[lie](pointers)

    setting.bridge.file_pointers = lying  # type: ignore[method-assign]
    for destination in (None, tmp_path / 'out'):
        with pytest.raises(IntegrityError):
            setting.download(file, destination)
    assert not list(tmp_path.glob('out*'))


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('size', 1 << 60),
        ('size', 1),
        ('hmac', {'type': 'sha512', 'value': 'é'}),
        ('hmac', {'type': 'sha512', 'value': '0' * 128}),
        ('index', 'no index'),
    ],
)
def test_bridge_that_lies_about_the_entry_is_refused(
    setting: Setting, field: str, value: Any
) -> None:
    file = setting.upload(os.urandom(3 * SHARD))
    setattr(setting.bridge.files[file.id][0], field, value)
    with pytest.raises(StorjError):
        setting.download(file)


LIES: dict[str, Callable[[bytes], bytes]] = {
    'other bytes': lambda data: bytes(len(data)),
    'too short': lambda data: data[:-1],
    'nothing': lambda data: b'',
    'too long': lambda data: data + b'x',
    'without end': lambda data: data * 100,
}


@pytest.mark.parametrize('lie', LIES)
def test_farmer_that_lies_is_passed_over_if_another_has_the_shard(
    setting: Setting, tmp_path: Path, lie: str
) -> None:
    # Three pieces a shard, so that the lie is told when most of it was written already.
    data = os.urandom(2 * SHARD)
    file = setting.upload(data)
    liars = {node for _, node in setting.bridge.frames[file.frame.id].values()}
    honest = next(node for node in setting.bridge.farmers if node not in liars)
    for node in liars:
        setting.bridge.farmers[honest].update(setting.bridge.farmers[node])
    setting.channel.pulling = lambda node, kept: LIES[lie](kept) if node in liars else kept
    assert setting.download(file).read() == data
    # To a path it is deciphered as it comes: from the beginning again for the second farmer.
    assert setting.download(file, tmp_path / 'right').read_bytes() == data
    setting.bridge.farmers[honest].clear()
    for destination in (tmp_path / 'out', None):
        with pytest.raises(NotEnoughShardsError) as caught:
            setting.download(file, destination)
        assert caught.value.causes
    assert not list(tmp_path.glob('out*'))


def test_shard_that_never_came_is_not_counted(setting: Setting, tmp_path: Path) -> None:
    file = setting.upload(os.urandom(SHARD))
    setting.bridge.calls.clear()

    def log_out(name: str) -> None:
        # Once the first pointer was given, another one in its place is not.
        if setting.bridge.calls.count('file_pointers') > 1:
            raise AuthenticationError('Not authorized', 401)

    setting.bridge.before = log_out
    setting.channel.pulling = lambda node, kept: kept[:-1]
    with pytest.raises(AuthenticationError):
        setting.download(file, tmp_path / 'out')
    # A shard that counts as there keeps the part file, and lets a quick driver give it its name.
    assert not list(tmp_path.glob('out*'))


@pytest.mark.parametrize('kind', [stat.S_IFIFO, stat.S_IFSOCK])
def test_what_is_no_regular_file_is_never_replaced(
    setting: Setting, tmp_path: Path, kind: int
) -> None:
    file, target = setting.upload(b'data'), tmp_path / 'special'
    os.mknod(target, kind | 0o600)
    with pytest.raises(ValueError, match='not a regular file'):
        setting.download(file, target)
    assert stat.S_IFMT(target.lstat().st_mode) == kind
    assert [path.name for path in tmp_path.glob('special*')] == ['special']


@pytest.mark.parametrize('node', [[], {}, 5, ['x']])
def test_list_of_farmers_that_makes_no_sense_is_passed_over(setting: Setting, node: Any) -> None:
    setting.bridge.contact_list = lambda: [Contact(nodeID=node)]  # type: ignore[method-assign]
    data = os.urandom(2 * SHARD)
    assert setting.download(setting.upload(data)).read() == data


@pytest.mark.parametrize('published', ['x', 'ab' * 31, 5])
def test_published_key_that_is_none_is_an_error_of_ours(setting: Setting, published: Any) -> None:
    file = setting.upload(b'data')
    setting.bridge.mnemonic = None
    setting.bridge.token_create = lambda *_: Token(  # type: ignore[method-assign]
        token='t', encryptionKey=published
    )
    with pytest.raises(IntegrityError, match='no key'):
        setting.download(file)


@pytest.mark.parametrize('identifier', [['x'], {}, ''])
def test_frame_without_a_name_is_an_error_of_ours(setting: Setting, identifier: Any) -> None:
    setting.bridge.frame_create = lambda: Frame(id=identifier)  # type: ignore[method-assign]
    with pytest.raises(StorjBridgeApiError, match='frame without an id'):
        setting.upload(b'data')


@pytest.mark.parametrize('taken', [None, 0])
def test_destination_that_takes_nothing_is_told(setting: Setting, taken: int | None) -> None:
    class Full(io.RawIOBase):
        def write(self, data: Any) -> int | None:
            return taken

    with pytest.raises(BlockingIOError):
        setting.download(setting.upload(b'data'), Full())


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, 'No space left on device')


def test_full_disk_below_the_journals_ends_no_transfer(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_file, 'write', no_room)
    source, target = tmp_path / 'in', tmp_path / 'out'
    source.write_bytes(os.urandom(3 * SHARD))
    setting.download(setting.upload(source), target)
    assert target.read_bytes() == source.read_bytes()
    assert not list(tmp_path.glob('*.part'))


def test_download_whose_journal_cannot_be_written_leaves_no_part(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = setting.upload(os.urandom(3 * SHARD))
    monkeypatch.setattr(atomic_file, 'write', no_room)
    setting.bridge.down.add([*setting.bridge.farmers][2])
    with pytest.raises(NotEnoughShardsError):
        setting.download(file, tmp_path / 'out')
    assert not list(tmp_path.glob('*.part'))


def test_upload_whose_journal_cannot_be_written_leaves_no_frame(
    setting: Setting, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(name: str) -> None:
        if name == 'file_id':
            raise BridgeUnavailableError('busy', 503)

    monkeypatch.setattr(atomic_file, 'write', no_room)
    setting.bridge.before = busy
    with pytest.raises(BridgeUnavailableError):
        setting.upload(source)
    assert setting.bridge.frames == {}


def test_upload_that_stored_nothing_leaves_no_frame(setting: Setting, source: Path) -> None:
    setting.bridge.down.update(setting.bridge.farmers)
    with pytest.raises(NotEnoughFarmersError):
        setting.upload(source)
    assert setting.bridge.frames == {}


def test_shard_is_noted_before_it_is_told(setting: Setting, source: Path) -> None:
    def refuse(progress: Progress) -> None:
        if progress.shards:
            raise RuntimeError('told')

    with pytest.raises(RuntimeError, match='told'):
        setting.upload(source, progress=refuse)
    [entry] = list_journals(setting.transfers.config.journal_dir())
    assert entry.bytes == SHARD


def test_download_is_kept_when_the_bridge_goes_away(setting: Setting, tmp_path: Path) -> None:
    data = os.urandom(3 * SHARD)
    file = setting.upload(data)

    def away(name: str) -> None:
        raise BridgeUnreachableError('no answer') from ConnectionRefusedError()

    def pulling(node: str, kept: bytes) -> bytes:
        if node == [*setting.bridge.farmers][2]:
            setting.bridge.before = away
            raise FarmerUnreachableError(message='gone')
        return kept

    setting.channel.pulling = pulling
    target = tmp_path / 'out'
    with pytest.raises(BridgeUnreachableError):
        setting.download(file, target)
    [part] = tmp_path.glob('*.part')
    assert part.read_bytes() == data[: 2 * SHARD]
    setting.bridge.before = lambda name: None
    setting.channel.pulling = lambda node, kept: kept
    setting.download(file, target)
    assert target.read_bytes() == data


def test_farmer_of_a_pointer_that_makes_no_sense_is_not_busy(setting: Setting) -> None:
    def refuse(pointer: Any) -> Any:
        if pointer['farmer']['nodeID'] == next(iter(setting.bridge.farmers)):
            raise FarmerError(message='no address')
        return setting.channel

    setting.transfers._resources.channel_for = refuse
    future = setting.transfers.upload(BUCKET, b'data', name='n')
    assert future.result().size == 4
    assert future.progress.farmers == ()


@pytest.mark.parametrize('leads_to', ['nowhere', 'link'])
def test_link_that_leads_nowhere_is_a_name_that_is_taken(
    setting: Setting, tmp_path: Path, leads_to: str
) -> None:
    file = setting.upload(b'data')
    link = tmp_path / 'link'
    link.symlink_to(tmp_path / leads_to)
    asked = len(setting.bridge.calls)
    with pytest.raises(FileExistsError):
        setting.download(file, link, overwrite=False)
    assert len(setting.bridge.calls) == asked
    assert link.is_symlink()
    setting.download(file, link)
    assert link.read_bytes() == b'data'
    assert not (tmp_path / 'nowhere').exists()


# -- parity ----------------------------------------------------------------------------------------

LARGE = 2 * 1024 * 1024 + 16
WIDE = 512 * 1024  # five data shards, four of parity


@pytest.fixture(scope='module')
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, File, FakeBridge]:
    bridge = FakeBridge(farmers=9)
    setting = Setting(tmp_path_factory.mktemp('parity'), bridge=bridge, shard_size=WIDE)
    data = os.urandom(LARGE)
    return data, setting.upload(data), bridge


def test_parity_is_the_code_of_the_ciphertext(stored: tuple[bytes, File, FakeBridge]) -> None:
    _, file, bridge = stored
    shards = bridge.frames[file.frame.id]
    kept = [bridge.farmers[shards[index][1]][shards[index][0].hash] for index in range(9)]
    assert [shards[index][0].parity for index in range(9)] == [False] * 5 + [True] * 4
    assert len({node for _, node in shards.values()}) == 9
    made = [bytearray(WIDE) for _ in range(4)]
    erasure.ReedSolomon(5, 4).encode([shard.ljust(WIDE, b'\0') for shard in kept[:5]], made)
    assert made == kept[5:]
    assert file.erasure == {'type': 'reedsolomon'}


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lost=st.sets(st.integers(0, 8), max_size=4),
    bounds=st.tuples(st.integers(0, LARGE), st.integers(0, LARGE)),
)
def test_any_lost_shards_up_to_the_parity_are_computed(
    tmp_path: Path,
    stored: tuple[bytes, File, FakeBridge],
    lost: set[int],
    bounds: tuple[int, int],
) -> None:
    data, file, bridge = stored
    setting = Setting(tmp_path, bridge=bridge, shard_size=WIDE)
    shards = bridge.frames[file.frame.id]
    bridge.down = {shards[index][1] for index in lost}
    start, end = sorted(bounds)
    target = tmp_path / 'out'
    setting.download(file, target)
    assert target.read_bytes() == data
    setting.download(file, target, start=start, end=end)
    assert target.read_bytes() == data[start:end]
    assert setting.download(file, start=start, end=end).read() == data[start:end]


def test_one_lost_shard_too_many_is_told_with_numbers(
    tmp_path: Path, stored: tuple[bytes, File, FakeBridge]
) -> None:
    _, file, bridge = stored
    shards = bridge.frames[file.frame.id]
    bridge.down = {shards[index][1] for index in (0, 2, 4, 6, 8)}
    setting = Setting(tmp_path, bridge=bridge, shard_size=WIDE)
    for destination in (None, tmp_path / 'out'):
        with pytest.raises(NotEnoughShardsError) as caught:
            setting.download(file, destination, resume=False)
        assert (caught.value.have, caught.value.need) == (4, 5)
    assert not list(tmp_path.glob('out*'))
    bridge.down = set()


def test_parity_is_left_alone_when_data_is_there(
    tmp_path: Path, stored: tuple[bytes, File, FakeBridge]
) -> None:
    data, file, bridge = stored
    bridge.down = set()
    setting = Setting(tmp_path, bridge=bridge, shard_size=WIDE)
    bridge.reports.clear()
    assert setting.download(file).read() == data
    shards = bridge.frames[file.frame.id]
    fetched = [report.dataHash for report in bridge.reports]
    assert sorted(fetched) == sorted(shards[index][0].hash for index in range(5))
