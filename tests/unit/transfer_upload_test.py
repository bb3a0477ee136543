"""What an upload does where something goes wrong, as its caller, the bridge and farmers see it."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storj.exception import (
    AlreadyExistsError,
    BridgeUnavailableError,
    BridgeUnreachableError,
    ClientError,
    FarmerUnreachableError,
    NotFoundError,
    RateLimitedError,
    StorjBridgeApiError,
    StorjError,
    SuppliedTokenNotAcceptedError,
    TransferError,
)
from storj.model import Contact, ExchangeReport, File, Frame, Shard
from storj.transfer import Progress, TransferConfig, Transfers, list_journals
from tests.unit.fake_network import BUCKET, SHARD, FakeBridge, FakeChannel, Setting
from tests.unit.transfer_resume_test import Snapshots, break_off

#: A release that is silent when it finds nobody, so that no farmer can be chosen.
SILENT = (5, 24, 1)
#: What a bridge says to an entry whose shards it cannot find.
LACKING = 'Shards of the frame are on no farmer that answers'


def failing(setting: Setting, request: str, *errors: Exception | None) -> None:
    """Let the bridge fail at the first requests of a name; None lets one through."""
    left = iter(errors)

    def before(name: str) -> None:
        if name == request and (error := next(left, None)) is not None:
            raise error

    setting.bridge.before = before


def pushed_to(setting: Setting) -> list[str]:
    """Return a list that grows by the farmer of each push that comes about."""
    nodes: list[str] = []
    reach = setting.channel._reach

    def note(pointer: Any) -> str:
        nodes.append(str(pointer['farmer']['nodeID']))
        return reach(pointer)

    setting.channel._reach = note  # type: ignore[method-assign]
    return nodes


def frame_tells_nothing(setting: Setting) -> None:
    """Have the bridge not say whether a file uses a frame."""
    whole = setting.bridge.frame_get

    def frame_get(frame_id: str) -> Frame:
        frame = whole(frame_id)
        frame.locked = None
        return frame

    setting.bridge.frame_get = frame_get  # type: ignore[method-assign]


# -- before the first byte -------------------------------------------------------------------------


def test_parity_that_the_bridge_does_not_know_is_refused(make: Callable[..., Setting]) -> None:
    setting = make(bridge=FakeBridge(version=(5, 10, 0)))
    with pytest.raises(ClientError, match='knows no parity'):
        setting.upload(b'data', parity=True)
    assert setting.bridge.frames == {}


def test_bridge_that_lists_no_farmers_takes_a_file(setting: Setting) -> None:
    failing(setting, 'contact_list', *[BridgeUnavailableError('busy', 503)] * 9)
    data = os.urandom(3 * SHARD)
    assert setting.download(setting.upload(data)).read() == data


def test_name_that_is_taken_ends_an_upload_before_its_shards(setting: Setting) -> None:
    setting.upload(b'first')
    setting.bridge.calls.clear()
    with pytest.raises(AlreadyExistsError):
        setting.upload(os.urandom(3 * SHARD))
    assert 'file_create' not in setting.bridge.calls


@pytest.mark.parametrize(
    ('options', 'kept'),
    [
        ({}, None),
        ({'encrypt_name': False}, 'image/png'),
        ({'encrypt': False, 'encrypt_name': False}, 'image/png'),
        ({'mimetype': 'text/x-own'}, 'text/x-own'),
        ({'mimetype': 'text/x-own', 'encrypt_name': False}, 'text/x-own'),
    ],
)
def test_type_is_told_where_the_name_tells_it_or_if_given(
    setting: Setting, options: dict[str, Any], kept: str | None
) -> None:
    assert setting.upload(b'data', name='cat.png', **options).mimetype == kept


def test_type_of_a_file_object_goes_with_it(setting: Setting, source: Path) -> None:
    file = File(filename=str(source), mimetype='text/x-own')
    assert setting.upload(file).mimetype == 'text/x-own'


@pytest.mark.parametrize('first', [True, False])
def test_name_that_is_taken_in_the_other_form_is_refused(setting: Setting, first: bool) -> None:
    setting.upload(b'first', encrypt_name=first)
    with pytest.raises(AlreadyExistsError):
        setting.upload(os.urandom(3 * SHARD), encrypt_name=not first)
    assert len(setting.bridge.files) == len(setting.bridge.frames) == 1


@pytest.mark.parametrize('first', [True, False])
@pytest.mark.parametrize('second', [True, False])
def test_file_that_is_replaced_is_gone_in_whichever_form_its_name_was(
    setting: Setting, first: bool, second: bool
) -> None:
    setting.upload(b'first', encrypt_name=first)
    file = setting.upload(b'second', encrypt_name=second, overwrite=True)
    assert [*setting.bridge.files] == [file.id]
    assert setting.download(file).read() == b'second'


def test_file_in_the_other_form_outlives_a_failure(setting: Setting) -> None:
    old = setting.upload(b'first', encrypt_name=False)
    failing(setting, 'file_create', *[StorjBridgeApiError('no', 400)] * 9)
    with pytest.raises(StorjBridgeApiError):
        setting.upload(b'second', overwrite=True)
    assert [*setting.bridge.files] == [old.id]


@pytest.mark.parametrize('first', [True, False])
def test_file_that_is_known_is_refused_or_replaced_unasked(setting: Setting, first: bool) -> None:
    old = setting.upload(b'first', encrypt_name=first)
    setting.bridge.calls.clear()
    with pytest.raises(AlreadyExistsError):
        setting.upload(b'second', existing=[old.id])
    file = setting.upload(b'second', existing=[old.id], overwrite=True)
    assert [*setting.bridge.files] == [file.id]
    # In its own form the bridge refuses it first, and then it is looked for once.
    assert setting.bridge.calls.count('file_id') == first


def test_file_that_came_since_the_list_is_refused_or_replaced(setting: Setting) -> None:
    setting.upload(b'first')
    with pytest.raises(AlreadyExistsError):
        setting.upload(b'second', existing=())
    assert len(setting.bridge.files) == 1
    file = setting.upload(b'second', existing=(), overwrite=True)
    assert setting.download(file).read() == b'second'


def test_name_that_stays_taken_ends_an_upload(setting: Setting) -> None:
    setting.upload(b'first')
    failing(setting, 'file_create', *[AlreadyExistsError('taken', 409)] * 9)
    with pytest.raises(AlreadyExistsError):
        setting.upload(b'second', overwrite=True)


# -- what the last attempt left --------------------------------------------------------------------


def test_frame_that_the_bridge_has_no_more_is_replaced(setting: Setting, source: Path) -> None:
    break_off(setting, source, 2)
    setting.bridge.frames.clear()
    file = setting.upload(source)
    assert [*setting.bridge.frames] == [file.frame.id]
    assert setting.download(file).read() == source.read_bytes()


def test_empty_frame_that_the_bridge_has_no_more_is_replaced(
    setting: Setting, source: Path, tmp_path: Path
) -> None:
    snapshots = Snapshots(setting, tmp_path / 'snapshots')
    setting.upload(source)
    # Killed when the frame was made, and nothing in it yet.
    folder = next(path for moment, path, _ in snapshots.taken if moment == 'before frame_add_shard')
    again = Setting(folder)
    assert again.transfers.frame_left(BUCKET, 'n', source) is not None
    file = again.upload(source)
    assert [*again.bridge.frames] == [file.frame.id]
    assert list(list_journals(again.transfers.config.journal_dir())) == []


def forgets_empty_frames(bridge: FakeBridge, times: int = 1) -> list[str]:
    """Have the bridge destroy frames before their first shard; return those that it destroyed."""
    add, lost = bridge.frame_add_shard, []

    def frame_add_shard(shard: Shard, frame_id: str, **options: Any) -> dict[str, Any]:
        if len(lost) < times:
            lost.append(frame_id)
            bridge.frames.pop(frame_id, None)
        if frame_id not in bridge.frames:
            raise NotFoundError('Frame not found', 404)
        return add(shard, frame_id, **options)

    bridge.frame_add_shard = frame_add_shard  # type: ignore[method-assign]
    return lost


def test_empty_frame_that_vanishes_meanwhile_is_replaced(setting: Setting, source: Path) -> None:
    lost = forgets_empty_frames(setting.bridge)
    file = setting.upload(source)
    assert [*setting.bridge.frames] == [file.frame.id] != lost
    assert setting.download(file).read() == source.read_bytes()
    assert list(list_journals(setting.transfers.config.journal_dir())) == []


def test_empty_frame_that_vanishes_meanwhile_is_replaced_once(tmp_path: Path) -> None:
    bridge = FakeBridge()
    together = threading.Barrier(4)
    forgotten = bridge.frame_create
    made: list[str] = []

    def frame_create() -> Frame:
        frame = forgotten()
        made.append(str(frame.id))
        return frame

    add = bridge.frame_add_shard

    def frame_add_shard(shard: Shard, frame_id: str, **options: Any) -> dict[str, Any]:
        if frame_id == made[0]:
            # All of them are told of the same frame.
            together.wait(10)
            bridge.frames.pop(frame_id, None)
            raise NotFoundError('Frame not found', 404)
        return add(shard, frame_id, **options)

    bridge.frame_create = frame_create  # type: ignore[method-assign]
    bridge.frame_add_shard = frame_add_shard  # type: ignore[method-assign]
    limits = TransferConfig(shard_size=SHARD, piece_size=4096, state_dir=tmp_path)
    data = os.urandom(4 * SHARD)
    with Transfers(bridge, limits, channel_for=FakeChannel(bridge)) as transfers:
        file = transfers.upload(BUCKET, data, name='n', parity=False).result(30)
        assert transfers.download(BUCKET, file.id).result(30).read() == data
    assert len(made) == 2
    assert [*bridge.frames] == made[1:]


def test_frame_that_vanishes_with_shards_ends_the_upload(setting: Setting, source: Path) -> None:
    setting.channel.pushing = lambda node, data: setting.bridge.frames.clear() or data
    add = setting.bridge.frame_add_shard

    def frame_add_shard(shard: Shard, frame_id: str, **options: Any) -> dict[str, Any]:
        if frame_id not in setting.bridge.frames:
            raise NotFoundError('Frame not found', 404)
        return add(shard, frame_id, **options)

    setting.bridge.frame_add_shard = frame_add_shard  # type: ignore[method-assign]
    with pytest.raises(NotFoundError, match='Frame not found'):
        setting.upload(source)
    assert setting.bridge.frames == {}
    assert setting.bridge.calls.count('frame_create') == 1


def test_given_frame_that_vanishes_ends_the_upload(setting: Setting, source: Path) -> None:
    frame = setting.bridge.frame_create()
    forgets_empty_frames(setting.bridge)
    with pytest.raises(NotFoundError, match='Frame not found'):
        setting.upload(source, frame=frame)
    assert setting.bridge.frames == {}


def test_bridge_that_has_no_frame_at_all_ends_the_upload(setting: Setting, source: Path) -> None:
    forgets_empty_frames(setting.bridge, times=99)
    with pytest.raises(NotFoundError, match='Frame not found'):
        setting.upload(source)
    assert setting.bridge.calls.count('frame_create') == 2


def test_frame_that_cannot_be_destroyed_does_not_keep_the_next_upload(
    setting: Setting, source: Path
) -> None:
    break_off(setting, source, 2)
    source.write_bytes(os.urandom(4 * SHARD))
    failing(setting, 'frame_delete', StorjBridgeApiError('no', 400))
    assert setting.download(setting.upload(source)).read() == source.read_bytes()


def test_upload_that_gets_no_frame_leaves_nothing_of_the_last_attempt(
    setting: Setting, source: Path
) -> None:
    break_off(setting, source, 2)
    source.write_bytes(os.urandom(4 * SHARD))
    failing(setting, 'frame_create', *[StorjBridgeApiError('no', 400)] * 9)
    with pytest.raises(StorjBridgeApiError):
        setting.upload(source)
    assert setting.bridge.frames == {}
    assert list(list_journals(setting.transfers.config.journal_dir())) == []


def test_frame_that_a_file_may_use_outlives_a_second_failure(
    setting: Setting, source: Path
) -> None:
    break_off(setting, source, 2)
    frame_tells_nothing(setting)
    failing(setting, 'file_create', AlreadyExistsError('taken', 409))
    [frame] = setting.bridge.frames
    with pytest.raises(AlreadyExistsError):
        setting.upload(source)
    assert [*setting.bridge.frames] == [frame]


def test_farmers_of_the_last_attempt_get_no_second_shard(
    make: Callable[..., Setting], source: Path
) -> None:
    setting = make(bridge=FakeBridge(farmers=8, version=SILENT))
    break_off(setting, source, 2)
    setting.upload(source)
    assert max(map(len, setting.bridge.farmers.values())) == 1


@pytest.mark.parametrize('version', [SILENT, (7, 7, 1)])
def test_progress_of_a_resumed_upload_ends_with_all_of_it(
    make: Callable[..., Setting], source: Path, version: tuple[int, int, int]
) -> None:
    setting = make(bridge=FakeBridge(version=version))
    break_off(setting, source, 2)
    states: list[Progress] = []
    setting.transfers.upload(BUCKET, source, name='n', progress=states.append).result()
    # Before farmers of old bridges are asked for shards of the last attempt.
    progress = next(state for state in states if state.phase == 'finishing')
    assert (progress.bytes, progress.total) == (4 * SHARD, 4 * SHARD)
    assert (progress.shards, progress.shards_total) == (4, 4)


def test_bridge_is_never_told_to_pass_over_more_farmers_than_it_takes(
    make: Callable[..., Setting], source: Path
) -> None:
    setting = make(bridge=FakeBridge(farmers=320))
    break_off(setting, source, 2)
    setting.bridge.contacts = 100
    setting.bridge.calls.clear()
    setting.upload(source)
    assert max(map(len, setting.bridge.excluded)) <= 300
    assert setting.bridge.calls.count('contact_list') < 10


def test_list_of_farmers_that_repeats_its_last_page_ends(setting: Setting, source: Path) -> None:
    break_off(setting, source, 2)
    contacts = [Contact(nodeID=node) for node in setting.bridge.farmers]
    pages: list[int] = []

    def contact_list(page: int = 1) -> list[Contact]:
        pages.append(page)
        return contacts

    setting.bridge.contact_list = contact_list  # type: ignore[method-assign]
    setting.upload(source)
    assert len(pages) <= 4
    assert setting.channel.taken == 2 * SHARD


def test_former_farmer_that_failed_is_not_asked_for_its_other_shards(
    make: Callable[..., Setting], source: Path
) -> None:
    setting = make(bridge=FakeBridge(farmers=2))
    state = break_off(setting, source, 3)
    former = Counter(farmer for _, farmer in state['shards'].values() if farmer)
    [(away, count)] = former.most_common(1)
    assert count == 2
    setting.bridge.down.add(away)
    pushed = pushed_to(setting)
    file = setting.upload(source)
    assert pushed.count(away) == 1
    assert {node for _, node in setting.bridge.frames[file.frame.id].values()} != {away}


# -- farmers ---------------------------------------------------------------------------------------


def test_every_shard_gets_so_many_farmers_as_are_allowed(make: Callable[..., Setting]) -> None:
    setting = make(shard_attempts=3)
    setting.bridge.down.update(setting.bridge.farmers)
    pushed = pushed_to(setting)
    with pytest.raises(TransferError, match='3 farmers failed') as caught:
        setting.upload(b'data')
    assert len(set(pushed)) == len(pushed) == 3
    assert len(caught.value.causes) == 3


def test_shard_whose_time_is_over_gets_no_other_farmer(make: Callable[..., Setting]) -> None:
    setting = make(shard_deadline=5.0)

    def slow(node: str, data: bytes) -> bytes:
        setting.clock.time += 10
        raise FarmerUnreachableError(message='gone')

    setting.channel.pushing = slow
    with pytest.raises(TransferError, match='1 farmer failed'):
        setting.upload(b'data')


def test_farmer_that_refuses_one_token_gets_another(make: Callable[..., Setting]) -> None:
    setting = make(bridge=FakeBridge(farmers=1))
    refusals = iter([SuppliedTokenNotAcceptedError()])

    def refuse(node: str, data: bytes) -> bytes:
        for error in refusals:
            raise error
        return data

    setting.channel.pushing = refuse
    future = setting.transfers.upload(BUCKET, b'data', name='n')
    assert future.result().size == 4
    assert future.progress.retries == 1


def test_farmer_that_damages_a_shard_gets_no_other(make: Callable[..., Setting]) -> None:
    setting = make(bridge=FakeBridge(farmers=3))
    bad = next(iter(setting.bridge.farmers))
    setting.channel.pushing = lambda node, data: bytes(len(data)) if node == bad else data
    pushed = pushed_to(setting)
    data = os.urandom(6 * SHARD)
    file = setting.upload(data)
    assert pushed.count(bad) == 1
    assert setting.download(file).read() == data


def test_bridge_that_overlooks_exclusions_takes_a_file(make: Callable[..., Setting]) -> None:
    setting = make()
    add = setting.bridge.frame_add_shard

    def overlook(shard: Shard, frame_id: str, excludes: Any = None) -> dict[str, Any]:
        return add(shard, frame_id)

    setting.bridge.frame_add_shard = overlook  # type: ignore[method-assign]
    data = os.urandom(3 * SHARD)
    assert setting.download(setting.upload(data)).read() == data


@pytest.mark.parametrize('wanted', [True, False])
def test_reports_tell_who_failed_and_if_wanted_who_took_a_shard(
    make: Callable[..., Setting], wanted: bool
) -> None:
    setting = make(bridge=FakeBridge(farmers=2))
    known = dataclasses.replace(setting.bridge.profile(), wants_successes=wanted)
    setting.bridge.profile = lambda: known  # type: ignore[method-assign]
    away, here = setting.bridge.farmers
    setting.bridge.down.add(away)
    setting.upload(b'data')
    told = [(report.farmerId, report.exchangeResultMessage) for report in setting.bridge.reports]
    assert told == [
        (away, ExchangeReport.TRANSFER_FAILED),
        *([(here, ExchangeReport.SHARD_UPLOADED)] if wanted else []),
    ]


def test_bytes_of_a_push_that_failed_are_taken_back(setting: Setting) -> None:
    bad = next(iter(setting.bridge.farmers))
    setting.channel.pushing = lambda node, data: bytes(len(data)) if node == bad else data
    states: list[Progress] = []
    data = os.urandom(2 * SHARD)
    future = setting.transfers.upload(BUCKET, data, name='n', progress=states.append)
    future.result()
    assert future.progress.retries == 1
    before_last = [state.bytes for state in states if state.phase == 'finishing']
    assert set(before_last) == {2 * SHARD}
    assert states[-1].bytes == 2 * SHARD
    assert not [state for state in states if state.shards < 2 and state.bytes == 2 * SHARD]


@pytest.mark.parametrize('way', ['upload', 'download'])
def test_rate_that_is_set_is_kept(make: Callable[..., Setting], way: str) -> None:
    setting = make(**{f'{way}_rate': 1024.0})
    before = setting.clock.time
    file = setting.upload(os.urandom(4 * SHARD))
    stored = setting.clock.time
    setting.download(file)
    taken = {'upload': stored - before, 'download': setting.clock.time - stored}
    assert taken.pop(way) >= 3 * SHARD / 1024
    assert max(taken.values()) < 1


def test_equal_shards_are_brought_one_after_the_other(tmp_path: Path) -> None:
    bridge = FakeBridge(version=(7, 7, 1))
    channel, lock = FakeChannel(bridge), threading.Lock()
    inside, crowds = [0], [0]
    push = channel.push

    def watched(*args: Any, **limits: Any) -> None:
        with lock:
            inside[0] += 1
            crowds.append(inside[0])
        # Long enough for others to come in, were they allowed to.
        threading.Event().wait(0.05)
        push(*args, **limits)
        with lock:
            inside[0] -= 1

    channel.push = watched  # type: ignore[method-assign]
    limits = TransferConfig(shard_size=SHARD, piece_size=4096, state_dir=tmp_path)
    with Transfers(bridge, limits, channel_for=channel) as transfers:
        transfers.upload(BUCKET, bytes(4 * SHARD), name='n', parity=False, encrypt=False).result(30)
    assert max(crowds) == 1


@pytest.mark.parametrize('holes', [1, 2])
def test_shard_is_whole_whichever_of_its_pieces_stay_in_memory(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, holes: int
) -> None:
    take, number = type(setting.transfers._resources.buffers).take, [0]

    def some(pool: Any) -> bytearray | None:
        number[0] += 1
        return None if number[0] % (holes + 1) == 0 else take(pool)

    monkeypatch.setattr(type(setting.transfers._resources.buffers), 'take', some)
    data = os.urandom(2 * SHARD)
    file = setting.upload(data)
    assert setting.download(file).read() == data


def test_upload_that_fails_keeps_no_memory(setting: Setting) -> None:
    failing(setting, 'frame_add_shard', *[StorjBridgeApiError('Invalid size supplied', 400)] * 9)
    with pytest.raises(StorjBridgeApiError):
        setting.upload(os.urandom(4 * SHARD))
    assert setting.transfers._resources.buffers._made == 0


# -- the entry -------------------------------------------------------------------------------------


def test_old_file_that_comes_back_is_not_removed_again_and_again(setting: Setting) -> None:
    setting.upload(b'old')
    setting.bridge.file_remove = lambda *ids: None  # type: ignore[method-assign]
    setting.bridge.calls.clear()
    with pytest.raises(AlreadyExistsError):
        setting.upload(b'new', overwrite=True)
    assert setting.bridge.calls.count('file_create') == 2


def test_refused_entry_is_posted_again_only_for_its_type(
    setting: Setting,
) -> None:
    failing(setting, 'file_create', *[StorjBridgeApiError('Invalid name', 400)] * 9)
    with pytest.raises(StorjBridgeApiError):
        setting.upload(b'data', name='cat.png', encrypt_name=False)
    assert setting.bridge.calls.count('file_create') == 1


def test_entry_of_a_request_that_came_late_is_the_file(setting: Setting) -> None:
    create, made = setting.bridge.file_create, []

    def late(*args: Any, **fields: Any) -> File:
        if not made:
            made.append(None)
            raise BridgeUnreachableError('no answer')
        made.append(create(*args, **fields))
        raise StorjBridgeApiError('Frame is already locked', 400)

    setting.bridge.file_create = late  # type: ignore[method-assign]
    assert setting.upload(b'data') is made[1]


def test_frame_lives_where_an_entry_may_still_be_made_of_it(setting: Setting) -> None:
    failing(
        setting,
        'file_create',
        BridgeUnreachableError('no answer'),
        StorjBridgeApiError('Frame is already locked', 400),
    )
    with pytest.raises(StorjBridgeApiError):
        setting.upload(b'data')
    assert len(setting.bridge.frames) == 1


def test_wait_that_the_bridge_asks_for_before_the_entry_is_kept(setting: Setting) -> None:
    failing(setting, 'file_create', RateLimitedError('slow down', 429, retry_after=77.0))
    setting.upload(b'data')
    assert 77.0 in setting.clock.waits


def test_file_of_somebody_else_is_not_taken_for_the_lost_entry(setting: Setting) -> None:
    create, own = setting.bridge.file_create, []

    def overtaken(*args: Any, **fields: Any) -> File:
        if own:
            return create(*args, **fields)
        own.append(None)
        other = setting.bridge.frame_create()
        create(args[0], other.id, *args[2:], **fields)
        raise BridgeUnreachableError('no answer')

    setting.bridge.file_create = overtaken  # type: ignore[method-assign]
    with pytest.raises(AlreadyExistsError):
        setting.upload(b'data')


@pytest.mark.parametrize(
    'error', [AlreadyExistsError('taken', 409), NotFoundError('Bucket not found', 404)]
)
def test_upload_that_cannot_succeed_leaves_nothing(
    setting: Setting, source: Path, error: StorjError
) -> None:
    failing(setting, 'file_create', error)
    with pytest.raises(type(error)):
        setting.upload(source)
    assert setting.bridge.frames == {}
    assert list(list_journals(setting.transfers.config.journal_dir())) == []


def test_shards_get_other_farmers_if_theirs_go_away_at_once(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    gone: list[str] = []

    def before(name: str) -> None:
        if name == 'file_create' and not gone:
            # The farmer that the bridge chose first takes no more contracts.
            gone.append(next(iter(setting.bridge.farmers)))
            del setting.bridge.farmers[gone[0]]
            raise NotFoundError(LACKING, 404)

    setting.bridge.before = before
    nodes = pushed_to(setting)
    file = setting.upload(os.urandom(SHARD // 2))
    assert nodes == [gone[0], next(iter(setting.bridge.farmers))]
    assert file.id in setting.bridge.files


def test_shards_without_lasting_farmers_fail_in_the_end(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    failing(setting, 'file_create', *[NotFoundError(LACKING, 404)] * 4)
    with pytest.raises(NotFoundError, match=LACKING):
        setting.upload(os.urandom(SHARD // 2))
    assert not setting.bridge.files
