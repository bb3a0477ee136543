"""Comparisons that end before they have seen every file."""

from __future__ import annotations

import threading

import pytest

from storj.catalog.content import Contents
from storj.catalog.entries import BucketEntry, FileEntry
from storj.catalog.errors import UsageProblem
from storj.catalog.places import Local, Remote, Stream
from storj.catalog.sync import Comparison, Side
from storj.exception import TransferCancelled

BUCKET = BucketEntry('b' * 24, 'b', 'b')


class Bridge:
    """A catalog of one bucket, in which two prefixes hold files of the same names."""

    def __init__(self, count):
        self._names = [f'{side}/{number}' for side in 'st' for number in range(count)]

    def bucket(self, text):
        return BUCKET

    def files(self, bucket, prefix='', *, brief=False):
        return [
            FileEntry(f'{number:024x}', BUCKET, name, name, 1)
            for number, name in enumerate(self._names)
            if name.startswith(prefix)
        ]


class Engine:
    """Streams of one byte, most of which go on until they are closed.

    Args:
        short (Callable[[str], bool]): whether the stream of an id ends by itself.
    """

    def __init__(self, short=lambda file_id: True):
        self.begun = threading.Semaphore(0)
        self.closed = threading.Semaphore(0)
        self._short = short

    def stream(self, bucket_id, file_id, *, decrypt):
        self.begun.release()
        try:
            yield b'x'
            while not self._short(file_id):
                yield b''
        finally:
            self.closed.release()


def compare(engine, count=20):
    return Comparison(Bridge(count), Remote('b', 's'), Remote('b', 't'), Contents(engine))


def test_findings_come_in_the_order_of_names():
    found = compare(Engine()).findings(4)
    assert [(it.name, it.status) for it in found] == [
        (name, 'match') for name in sorted(map(str, range(20)))
    ]


def test_closed_findings_end_the_comparisons_under_way():
    # Both files of the name '0' are short.
    engine = Engine(lambda file_id: int(file_id, 16) in (0, 20))
    findings = compare(engine).findings(2)
    assert next(findings).name == '0'
    for _ in range(4):
        assert engine.begun.acquire(timeout=10)
    findings.close()
    for _ in range(4):
        assert engine.closed.acquire(timeout=10)
    assert not engine.begun.acquire(blocking=False)


def test_stopped_contents_refuse_to_compare():
    contents = Contents(Engine())
    contents.stop()
    entry = Bridge(1).files(BUCKET)[0]
    with pytest.raises(TransferCancelled):
        contents.are_same(entry, entry)


def test_stream_is_no_place_to_compare(tmp_path):
    with pytest.raises(UsageProblem, match='neither a folder'):
        Side(Bridge(1), Stream())
    with pytest.raises(UsageProblem, match='neither place'):
        Comparison(Bridge(1), Local(tmp_path, True), Local(tmp_path, True), Contents(Engine()))
