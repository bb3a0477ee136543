"""Modification times that a machine remembers, and what they mean for a comparison."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading

import pytest

from storj.catalog import times as times_module
from storj.catalog.entries import Stamp
from storj.catalog.times import Times

FRAME = 'f' * 24


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'state' / 'times.db'


@pytest.fixture
def times(path):
    found = Times(path)
    yield found
    found.close()


def test_time_is_known_by_its_frame_and_after_a_restart(times, path):
    times.keep(FRAME, 1.25)
    times.keep(FRAME, 1496327445.123456)
    assert times.get(FRAME) == 1496327445.123456
    assert times.get('0' * 24) is None
    times.close()
    again = Times(path)
    assert again.get(FRAME) == 1496327445.123456
    again.close()


def test_nothing_is_made_until_there_is_a_time(times, path):
    assert times.get(FRAME) is None
    times.close()
    assert not path.parent.exists()


def test_database_is_readable_by_its_owner_only(times, path):
    before = os.umask(0)
    try:
        times.keep(FRAME, 1.0)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_oldest_times_are_forgotten(times, path, monkeypatch):
    monkeypatch.setattr(times_module, 'LIMIT', 2)
    for number in range(5):
        times.keep(f'{number:024x}', float(number))
    times.close()
    again = Times(path)
    assert [again.get(f'{number:024x}') for number in range(5)] == [None, None, None, 3.0, 4.0]
    again.close()


def test_threads_share_the_times(times):
    def keep(start):
        for number in range(start, start + 20):
            times.keep(f'{number:024x}', float(number))

    threads = [threading.Thread(target=keep, args=(20 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [times.get(f'{number:024x}') for number in range(80)] == list(map(float, range(80)))


def test_damaged_database_is_reported_once_and_left_alone(path, caplog):
    path.parent.mkdir()
    path.write_bytes(b'no database' * 1000)
    times = Times(path)
    times.keep(FRAME, 1.0)
    assert times.get(FRAME) is None
    times.close()
    [record] = caplog.records
    assert 'are not remembered' in record.getMessage()
    assert path.read_bytes() == b'no database' * 1000


def test_value_of_another_kind_is_no_time(times, path):
    times.keep(FRAME, 1.0)
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE uploads SET modified = 'yesterday'")
    database.close()
    assert times.get(FRAME) is None


# ---- comparison


def test_upload_is_as_new_as_its_source_or_newer():
    stored = Stamp(3, 100.0)
    assert stored.serves_for(Stamp(3, 100.0))
    assert stored.serves_for(Stamp(3, 50.0))
    assert not stored.serves_for(Stamp(3, 101.0))
    assert not stored.serves_for(Stamp(4, 100.0))
    assert Stamp(3).serves_for(stored)
    assert stored.serves_for(Stamp(3))


def test_copy_of_a_remembered_time_has_that_very_time():
    stored = Stamp(3, 100.0, is_copied=True)
    assert stored.serves_for(Stamp(3, 100.0000004))
    assert not stored.serves_for(Stamp(3, 50.0))
    assert not stored.serves_for(Stamp(3, 101.0))
    # As a source: a local file that is newer stays.
    assert Stamp(3, 150.0).serves_for(stored)
    assert not Stamp(3, 50.0).serves_for(stored)
