"""Volume quotas: how many bytes an account may bring and fetch, and what it is told beyond that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storj.network.bridge.quotas import FREE_DOWNLOAD, FREE_UPLOAD, Quota
from storj.network.bridge.state import BridgeSettings
from storj.network.bridge.users import open_account
from tests.network.bridges import Account, Answer, RunningBridge

HOUR, DAY = 3600, 24 * 3600
ADD_SHARD = 'Could not add shard to frame, transfer rate limit reached.'
CREATE_FRAME = 'Could not create frame, transfer rate limit reached.'
GET_FILE = 'Could not get file, transfer rate limit reached.'


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[RunningBridge]:
    with RunningBridge(
        tmp_path,
        upload_quota=Quota(hour=100, day=150),
        download_quota=Quota(hour=100, month=150),
    ) as running:
        running.farmer()
        yield running


@pytest.fixture
def alice(bridge: RunningBridge) -> Account:
    return bridge.account()


def add(bridge: RunningBridge, by: Account, frame: str, size: int, index: int = 0) -> Answer:
    body = bridge.shard(bytes([index]) * size, index, parity=True)
    return bridge.request('PUT', f'/frames/{frame}', body, by=by)


def test_uploads_beyond_the_quota_are_refused_with_420(
    bridge: RunningBridge, alice: Account
) -> None:
    frame = bridge.frame(alice)
    # The shard that reaches the limit still passes, as at the original.
    assert add(bridge, alice, frame, 60, 0).status == 200
    assert add(bridge, alice, frame, 60, 1).status == 200
    for refused, text in (
        (add(bridge, alice, frame, 1, 2), ADD_SHARD),
        (bridge.request('POST', '/frames', {}, by=alice), CREATE_FRAME),
    ):
        assert (refused.status, refused.error) == (420, text)
        assert refused.headers['Retry-After'] == str(HOUR)
    # What was brought may still become a file, and others have quotas of their own.
    bob = bridge.account('bob@example.org')
    assert add(bridge, bob, bridge.frame(bob), 60).status == 200


def test_windows_end_each_by_itself(bridge: RunningBridge, alice: Account) -> None:
    frame = bridge.frame(alice)
    assert add(bridge, alice, frame, 100, 0).status == 200
    bridge.clock.now += HOUR - 1
    assert add(bridge, alice, frame, 1, 1).status == 420
    bridge.clock.now += 1
    assert add(bridge, alice, frame, 50, 1).status == 200
    refused = add(bridge, alice, frame, 1, 2)
    assert (refused.status, refused.headers['Retry-After']) == (420, str(DAY - HOUR))
    bridge.clock.now += DAY - HOUR
    assert add(bridge, alice, frame, 1, 2).status == 200


def test_downloads_beyond_the_quota_are_refused_with_420(
    bridge: RunningBridge, alice: Account
) -> None:
    bucket = bridge.bucket(alice)
    file = bridge.file(alice, bucket, [bytes(60)])
    path = f'/buckets/{bucket}/files/{file}'
    for _ in range(2):
        (pointer,) = bridge.request('GET', path, by=alice).json
        assert 'token' in pointer
    refused = bridge.request('GET', path, by=alice)
    assert (refused.status, refused.error) == (420, GET_FILE)
    # By a token it is the bucket's owner who pays.
    token = bridge.request('POST', f'/buckets/{bucket}/tokens', {'operation': 'PULL'}, by=alice)
    refused = bridge.request('GET', path, headers={'x-token': token.json['token']})
    assert (refused.status, refused.error) == (420, GET_FILE)
    bridge.clock.now += HOUR
    assert bridge.request('GET', path, by=alice).status == 200
    refused = bridge.request('GET', path, by=alice)
    assert (refused.status, refused.headers['Retry-After']) == (420, str(29 * DAY + 23 * HOUR))


def test_pointers_without_a_farmer_cost_nothing(bridge: RunningBridge, alice: Account) -> None:
    bucket = bridge.bucket(alice)
    file = bridge.file(alice, bucket, [bytes(99)])
    (farmer,) = bridge.farmers.farmers.values()
    farmer.away = True
    path = f'/buckets/{bucket}/files/{file}'
    assert all('token' not in bridge.request('GET', path, by=alice).json[0] for _ in range(3))


def test_quotas_last_over_a_restart(tmp_path: Path) -> None:
    alice = Account('alice@example.org')
    for first in (True, False):
        with RunningBridge(tmp_path, upload_quota=Quota(hour=10)) as bridge:
            if first:
                bridge.farmer()
                bridge.account()
                assert add(bridge, alice, bridge.frame(alice), 10).status == 200
            else:
                assert bridge.request('POST', '/frames', {}, by=alice).status == 420


def test_accounts_of_whoever_runs_the_bridge_have_no_quota(bridge: RunningBridge) -> None:
    owner = Account('owner@example.org')
    bridge.call(lambda: open_account(bridge.state, owner.email, owner.password))
    frame = bridge.frame(owner)
    assert [add(bridge, owner, frame, 200, index).status for index in range(3)] == [200] * 3


def test_account_that_the_bridge_had_before_is_given_none(bridge: RunningBridge) -> None:
    alice = bridge.account()
    bridge.call(lambda: open_account(bridge.state, alice.email, alice.password))
    frame = bridge.frame(alice)
    assert [add(bridge, alice, frame, 200, index).status for index in range(3)] == [200] * 3


@pytest.mark.parametrize(('version', 'status'), [('3.1.2', 200), ('3.2.0', 420)])
def test_releases_before_quotas_have_none(tmp_path: Path, version: str, status: int) -> None:
    with RunningBridge(tmp_path, version=version, upload_quota=Quota(hour=0)) as bridge:
        bridge.farmer()
        alice = bridge.account()
        frame = bridge.request('POST', '/frames', {}, by=alice)
        assert frame.status == 200
        assert add(bridge, alice, frame.json['id'], 5).status == 200
        assert bridge.request('POST', '/frames', {}, by=alice).status == status


def test_quotas_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='number of bytes'):
        Quota(day=-1)
    with pytest.raises(ValueError, match='not 5'):
        BridgeSettings('sqlite://', tmp_path, upload_quota=5)  # type: ignore[arg-type]
    assert (FREE_UPLOAD.hour, FREE_DOWNLOAD.month) == (3_000_000_000, 180_000_000_000)
