"""Listings: lazy, through all pages, and never forever."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj import api, exception, http, model
from storj.http import Pages
from storj.rest import paging

from .replay import Answer, client_of

START = datetime(2016, 11, 23, tzinfo=timezone.utc)


class Bridge:
    """A listing as bridges since 7.4 give it: sorted, limited, strictly after startDate."""

    def __init__(self, created: list[int], limit: int, *, knows_start_date: bool = True) -> None:
        self.entries = [
            {
                'id': f'{number:024x}',
                'filename': str(number),
                'created': (START + timedelta(milliseconds=moment)).isoformat(
                    timespec='milliseconds'
                ),
            }
            for number, moment in enumerate(sorted(created))
        ]
        self.limit = limit
        self.knows_start_date = knows_start_date
        self.asked: list[str | None] = []

    def __call__(self, request: Any) -> Answer:
        start = parse_qs(urlsplit(request.url).query).get('startDate', [None])[0]
        self.asked.append(start)
        if start is None or not self.knows_start_date:
            return Answer(self.entries[: self.limit])
        begin = datetime.fromisoformat(start.replace('Z', '+00:00'))
        later = [each for each in self.entries if datetime.fromisoformat(each['created']) > begin]
        return Answer(later[: self.limit])


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, 'FILES_PAGE', 4)
    monkeypatch.setattr(http, 'BUCKETS_PAGE', 4)


@given(st.lists(st.integers(0, 12), max_size=24))
def test_every_entry_is_listed_once(created: list[int]) -> None:
    most = max((created.count(moment) for moment in created), default=0)
    if most >= 4:
        # More entries in one millisecond than a page has: no client can reach them all.
        return
    bridge = Bridge(created, 4)
    http.FILES_PAGE = 4
    client, _ = client_of(bridge)
    listed = [entry['id'] for entry in client.bucket_files('b')]
    assert listed == [entry['id'] for entry in bridge.entries]


def test_each_page_of_a_brief_listing_is_asked_to_be_brief() -> None:
    client, replay = client_of(Bridge([1, 2, 3, 4, 5], 4))
    assert len([entry for page in client.bucket_file_pages('b', brief=True) for entry in page]) == 5
    queries = [parse_qs(urlsplit(request.url).query) for request in replay.requests]
    assert [query['brief'] for query in queries] == [['true'], ['true']]
    assert 'startDate' in queries[1]


def test_first_request_has_no_query_and_a_short_page_is_the_last() -> None:
    bridge = Bridge([1, 2, 3], 4)
    client, replay = client_of(bridge)
    assert len(client.bucket_files('b')) == 3
    assert len(list(client.bucket_list())) == 3
    assert replay.lines == ['GET /buckets/b/files', 'GET /buckets']


def test_all_pages_of_files_are_one_list() -> None:
    bridge = Bridge(list(range(10)), 4)
    client, replay = client_of(bridge)
    files = client.bucket_files('b')
    assert type(files) is list
    assert [file['filename'] for file in files] == [str(number) for number in range(10)]
    assert len(replay.requests) == 4


def test_buckets_are_fetched_when_they_are_reached() -> None:
    bridge = Bridge(list(range(10)), 4)
    client, _ = client_of(bridge)
    buckets = client.bucket_list()
    assert bridge.asked == []
    assert isinstance(next(buckets), model.Bucket)
    assert len(bridge.asked) == 1
    assert len(list(buckets)) == 9


@pytest.mark.parametrize('count', [4, 9])
def test_bridge_that_repeats_its_page_ends_the_listing(count: int) -> None:
    bridge = Bridge(list(range(count)), count, knows_start_date=False)
    client, _ = client_of(bridge)
    assert len(client.bucket_files('b')) == count
    assert len(bridge.asked) == 2


def test_bridge_known_to_have_no_pages_is_asked_once() -> None:
    bridge = Bridge(list(range(9)), 9, knows_start_date=False)
    client, _ = client_of(bridge)
    client._profile = api.BridgeProfile(version=(2, 2, 4))
    assert len(client.bucket_files('b')) == 9
    assert len(bridge.asked) == 1


def test_full_page_without_times_is_the_last() -> None:
    client, replay = client_of([[{'id': str(number)} for number in range(4)]])
    assert len(client.bucket_files('b')) == 4
    assert len(replay.requests) == 1


def test_bridge_that_does_not_go_on_in_time_ends_the_listing() -> None:
    numbers = iter(range(10_000))
    page = lambda request: Answer(  # noqa: E731
        [{'id': str(next(numbers)), 'created': '2016-11-23T10:00:00.000Z'} for _ in range(4)]
    )
    client, replay = client_of(page)
    assert len(client.bucket_files('b')) == 8
    assert len(replay.requests) == 2


def test_damaged_entries_do_not_end_a_listing() -> None:
    entries = [
        {'id': 5, 'created': 'never'},
        {'id': None},
        {'created': []},
        {'id': {'$oid': 'x'}, 'created': '2016-11-23T10:00:00.000Z', 'storage': 'much'},
    ]
    client, _ = client_of([entries, []])
    buckets = list(client.bucket_list())
    assert len(buckets) == 4
    assert buckets[0].created is None


def test_error_of_a_later_page_is_raised() -> None:
    first = Bridge(list(range(10)), 4)
    client, _ = client_of(
        lambda request: Answer({}, 404) if 'startDate' in request.url else first(request)
    )
    with pytest.raises(exception.NotFoundError):
        client.bucket_files('b')


# -- the list itself -------------------------------------------------------------------------------


def pages_of(*pages: list[int]) -> tuple[Pages[int], list[int]]:
    asked: list[int] = []
    queue = list(pages)

    def fetch(have: int) -> list[int]:
        asked.append(have)
        return queue.pop(0) if queue else []

    return Pages(fetch), asked


def test_list_behaves_like_a_list() -> None:
    pages, asked = pages_of([1, 2], [3])
    assert pages[0] == 1
    assert asked == [0]
    assert pages[1:3] == [2, 3]
    assert asked == [0, 2]
    assert pages[-1] == 3
    assert asked == [0, 2, 3]
    assert list(pages) == list(pages) == [1, 2, 3]
    assert pages == [1, 2, 3]
    assert pages != [1]
    assert pages != 5
    assert len(pages) == 3
    assert 2 in pages
    assert pages.index(3) == 2
    assert pages[::-1] == [3, 2, 1]
    assert repr(pages) == '[1, 2, 3]'
    assert asked == [0, 2, 3]
    with pytest.raises(IndexError):
        _ = pages[3]
    with pytest.raises(TypeError, match='unhashable'):
        hash(pages)


def test_list_is_read_by_next_as_well() -> None:
    pages, asked = pages_of([1, 2], [3])
    assert [next(pages), next(pages)] == [1, 2]
    assert asked == [0]
    assert list(pages) == [1, 2, 3]
    assert next(pages) == 3
    assert next(pages, None) is None


def test_whole_list_is_json_and_part_of_other_lists() -> None:
    assert json.dumps(pages_of([1], [2])[0]) == json.dumps([1, 2])
    assert json.dumps(pages_of([1], [2])[0], indent=1) == json.dumps([1, 2], indent=1)
    assert [0] + pages_of([1], [2])[0] == [0, 1, 2]
    assert pages_of([1], [2])[0] + [3] == [1, 2, 3]
    assert [0, *pages_of([1], [2])[0]] == [0, 1, 2]
    assert pages_of([1], [2])[0] * 2 == [1, 2, 1, 2]
    assert sorted(pages_of([2], [1])[0]) == list(reversed(pages_of([2], [1])[0]))
    assert pages_of([0], [2])[0] != [0]


@pytest.mark.parametrize(
    'copied', [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copy_of_a_list_is_whole(copied: Any) -> None:
    assert copied(pages_of([1], [2])[0]) == [1, 2]


def test_list_can_be_changed() -> None:
    pages, asked = pages_of([3], [2])
    pages.append(1)
    assert asked == [0, 1, 2]
    pages.sort()
    del pages[0]
    pages[0] = 7
    assert pages == [7, 3]
    assert (pages.pop(), len(pages)) == (3, 1)


def test_list_knows_whether_it_is_empty_from_its_first_page() -> None:
    pages, asked = pages_of([1], [2])
    assert pages
    assert asked == [0]
    assert repr(pages) == '[1, ...]'
    assert not pages_of()[0]
    assert len(pages_of()[0]) == 0


@given(st.lists(st.integers(), max_size=9), st.slices(9))
def test_slice_is_that_of_a_list(entries: list[int], part: slice) -> None:
    pages, _ = pages_of(*[[entry] for entry in entries])
    assert pages[part] == entries[part]


def test_page_that_failed_is_asked_for_again() -> None:
    answers: list[Any] = [[1], ValueError('gone'), [2], []]

    def fetch(have: int) -> list[int]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    pages = Pages(fetch)
    with pytest.raises(ValueError, match='gone'):
        list(pages)
    assert list(pages) == [1, 2]


def test_list_is_read_by_several_threads() -> None:
    pages, asked = pages_of(*[[number] for number in range(200)])
    results: list[list[int]] = []
    barrier = threading.Barrier(4)

    def read() -> None:
        barrier.wait()
        results.append(list(pages))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [list(range(200))] * 4
    assert asked == list(range(201))


def test_page_sizes_are_those_of_the_bridges() -> None:
    assert (paging.BUCKETS_PAGE, paging.FILES_PAGE) == (5000, 2000)
