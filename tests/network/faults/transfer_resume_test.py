"""A broken-off transfer goes on where it stopped, whatever broke it off."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from storj.exception import (
    NotFoundError,
    ResumeMismatchError,
    StorjError,
    TransferCancelled,
    TransferError,
)
from storj.http import Client
from storj.network import Fault, Network
from storj.transfer import Progress, clean_journals, list_journals
from tests.cli.forked import PYTHON
from tests.network.engine import KIB, MIB, Engine, client_of, journals

pytestmark = pytest.mark.usefixtures('forked_python')

SIZE = 2 * MIB  # eight shards, six of parity


class Interrupt:
    """A progress callback that cancels its transfer when enough shards have come."""

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.future: Any = None

    def __call__(self, progress: Progress) -> None:
        if progress.shards >= self.shards and self.future is not None:
            self.future.cancel()


def broken_off(begin: Any, shards: int) -> None:
    """Begin a transfer and cancel it after some shards."""
    interrupt = Interrupt(shards)
    interrupt.future = begin(interrupt)
    with pytest.raises(TransferCancelled):
        interrupt.future.result(30)


class Counting(Client):
    """Counts requests."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.requests: Counter[str] = Counter()
        super().__init__(*args, **options)

    def _request(self, method: str, path: str, **options: Any) -> Any:
        self.requests[f'{method} {path.split("/")[1]}'] += 1
        return super()._request(method, path, **options)


@pytest.fixture
def counting(network: Network) -> Any:
    with Counting(
        network.email, network.password, network.bridge_url, mnemonic=network.mnemonic
    ) as client:
        yield client


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / 'source.bin'
    path.write_bytes(os.urandom(SIZE))
    return path


def taken_by(network: Network) -> Counter[str]:
    """Return how often farmers took a shard, and how often they had it."""
    counted: Counter[str] = Counter()
    for farmer in network.farmers:
        counted.update(farmer.status()['counters'])
    return counted


def test_upload_pushes_only_what_is_missing(
    engine: Engine,
    counting: Counting,
    bucket: str,
    source: Path,
    tmp_path: Path,
    network: Network,
) -> None:
    slow = engine(concurrency=1, negotiations=1)
    broken_off(lambda progress: slow.upload(bucket, source, progress=progress), 5)
    [entry] = list_journals(slow.config.journal_dir())
    assert (entry.kind, entry.path, entry.file) == ('upload', str(source), source.name)
    assert entry.bytes >= 5 * 256 * KIB
    assert not entry.active
    text = journals(tmp_path)[0].read_text()
    assert counting.mnemonic not in text
    before = taken_by(network)
    transfers = engine(counting, negotiations=1)
    stored = transfers.upload(bucket, source).result(30)
    assert counting.requests['POST frames'] == 0
    after = taken_by(network)
    # Farmers that had a shard said so, before they took a byte of it.
    assert 0 < after['shard_uploaded'] - before['shard_uploaded'] <= 9
    assert after['shard_exists'] - before['shard_exists'] >= 5
    assert stored.frame.id == entry.frame_id
    assert not journals(tmp_path)
    assert transfers.download(bucket, stored.id).result(30).read() == source.read_bytes()


def test_changed_source_is_not_mixed_with_the_old_one(
    engine: Engine, client: Client, bucket: str, source: Path, tmp_path: Path
) -> None:
    slow = engine(concurrency=1)
    broken_off(lambda progress: slow.upload(bucket, source, progress=progress), 2)
    [entry] = list_journals(slow.config.journal_dir())
    index = json.loads(journals(tmp_path)[0].read_text())['state']['index']
    # Beyond the samples of the fingerprint, and of the same size and time.
    before = source.stat()
    data = bytearray(source.read_bytes())
    data[300 * KIB : 301 * KIB] = os.urandom(KIB)
    source.write_bytes(data)
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    stored = engine().upload(bucket, source).result(30)
    assert engine().download(bucket, stored.id).result(30).read() == data
    assert stored.index != index
    assert stored.frame.id != entry.frame_id
    assert not journals(tmp_path)
    with pytest.raises(NotFoundError):
        client.frame_get(entry.frame_id)


def test_upload_whose_frame_is_gone_begins_afresh(
    engine: Engine, client: Client, bucket: str, source: Path
) -> None:
    slow = engine(concurrency=1)
    broken_off(lambda progress: slow.upload(bucket, source, progress=progress), 2)
    [entry] = list_journals(slow.config.journal_dir())
    client.frame_delete(entry.frame_id)
    with pytest.raises(NotFoundError):
        client.frame_get(entry.frame_id)
    stored = engine().upload(bucket, source).result(30)
    assert engine().download(bucket, stored.id).result(30).read() == source.read_bytes()


def test_other_words_do_not_continue_an_upload(
    engine: Engine, network: Network, bucket: str, source: Path
) -> None:
    slow = engine(concurrency=1)
    broken_off(lambda progress: slow.upload(bucket, source, progress=progress), 2)
    words = 'legal winner thank year wave sausage worth useful legal winner thank yellow'
    with client_of(network, mnemonic=words) as other, pytest.raises(ResumeMismatchError):
        engine(other).upload(bucket, source).result(30)


def test_two_processes_do_not_share_a_journal(
    engine: Engine, bucket: str, source: Path, network: Network
) -> None:
    fault = network.faults.add(Fault('stall', operation='push', times=0))
    begun = threading.Event()

    def tell(progress: Progress) -> None:
        if progress.phase == 'transferring':
            begun.set()

    first = engine().upload(bucket, source, progress=tell)
    assert begun.wait(30)
    with pytest.raises(TransferError, match='another process'):
        engine().upload(bucket, source).result(30)
    assert [entry.active for entry in list_journals(engine().config.journal_dir())] in ([], [True])
    network.faults.remove(fault)
    first.cancel()
    with pytest.raises(TransferCancelled):
        first.result(30)


def test_entry_made_before_the_crash_is_the_result(
    engine: Engine, client: Client, bucket: str, source: Path, network: Network
) -> None:
    # The bridge makes the entry, and everything after it fails: the upload does not learn of it.
    # The first two questions look for the name before, encrypted and in the clear.
    network.faults.add(Fault('drop', route=f'POST /buckets/{bucket}/files', times=0))
    network.faults.add(Fault('refuse', route=f'GET /buckets/{bucket}/file-ids', nth=3, times=0))
    with pytest.raises(StorjError):
        engine().upload(bucket, source).result(30)
    network.faults.clear()
    [listed] = list(client.bucket_files(bucket))
    stored = engine().upload(bucket, source).result(30)
    assert stored.id == listed['id']
    assert len(list(client.bucket_files(bucket))) == 1


def test_download_fetches_only_what_is_missing(
    engine: Engine, bucket: str, tmp_path: Path, network: Network
) -> None:
    data = os.urandom(SIZE)
    stored = engine().upload(bucket, data, name='n').result(30)
    target = tmp_path / 'out'
    slow = engine(concurrency=1, negotiations=1)
    broken_off(lambda progress: slow.download(bucket, stored.id, target, progress=progress), 3)
    part = tmp_path / 'out.part'
    assert part.stat().st_mode & 0o777 == 0o600
    assert not target.exists()
    [entry] = list_journals(slow.config.journal_dir())
    assert (entry.kind, entry.part) == ('download', str(part))
    # One of the shards that were there is damaged meanwhile: it is fetched again.
    with part.open('r+b') as file:
        file.write(b'damaged')
    states: list[Progress] = []
    engine().download(bucket, stored.id, target, progress=states.append).result(30)
    assert target.read_bytes() == data
    assert any(state.shards >= 2 and state.bytes < 4 * 256 * KIB for state in states)
    assert not part.exists()
    assert not journals(tmp_path)
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask


def test_download_without_resume_begins_afresh(engine: Engine, bucket: str, tmp_path: Path) -> None:
    data = os.urandom(SIZE)
    stored = engine().upload(bucket, data, name='n').result(30)
    target = tmp_path / 'out'
    slow = engine(concurrency=1)
    broken_off(lambda progress: slow.download(bucket, stored.id, target, progress=progress), 2)
    engine().download(bucket, stored.id, target, resume=False).result(30)
    assert target.read_bytes() == data
    assert not list(tmp_path.glob('*.part'))


def test_clean_removes_journals_and_part_files(
    engine: Engine, bucket: str, tmp_path: Path, source: Path
) -> None:
    transfers = engine()
    stored = transfers.upload(bucket, source, name='n').result(30)
    slow = engine(concurrency=1)
    target = tmp_path / 'out'
    broken_off(lambda progress: slow.download(bucket, stored.id, target, progress=progress), 2)
    broken_off(lambda progress: slow.upload(bucket, source, name='m', progress=progress), 2)
    folder = slow.config.journal_dir()
    assert clean_journals(folder, older_than=3600) == []
    assert {entry.kind for entry in clean_journals(folder)} == {'upload', 'download'}
    assert list(folder.iterdir()) == []
    assert not list(tmp_path.glob('*.part'))
    assert source.exists()


PROGRAM = """
    import os, resource, signal, sys
    from storj.http import Client
    from storj.transfer import TransferConfig, wait_for

    what, bucket, thing, path, state = sys.argv[1:]
    config = TransferConfig(
        shard_size=256 * 1024, piece_size=16 * 1024, concurrency=1, negotiations=1, state_dir=state
    )
    environment = os.environ
    client = Client(
        environment['STORJ_BRIDGE_USER'],
        environment['STORJ_BRIDGE_PASS'],
        environment['STORJ_BRIDGE'],
        mnemonic=environment['STORJ_ENCRYPTION_KEY'],
        transfer_config=config,
    )

    def tell(progress):
        print(progress.shards, flush=True)
        # So that no shard more is there when the signal comes.
        sys.stdin.readline()

    if what == 'upload':
        future = client.transfers.upload(bucket, path, progress=tell)
    else:
        future = client.transfers.download(bucket, thing, path, progress=tell)
    try:
        wait_for(future)
    except KeyboardInterrupt:
        client.close()
        sys.exit(130)
    except Exception as error:
        print('failed', type(error).__name__, error, flush=True)
        client.close()
        sys.exit(1)
    client.close()
    print('done', flush=True)
"""


def run(
    network: Network, *arguments: object, sign: int | None, shards: int, limit: int | None = None
) -> tuple[int, str]:
    """Run a transfer in a process of its own, and send it a signal after some shards."""

    def confine() -> None:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    # A forked process would not have the limit.
    python = sys.executable if limit is None else PYTHON
    with subprocess.Popen(
        [python, '-c', textwrap.dedent(PROGRAM), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **network.environment()},
        preexec_fn=confine,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if not line.strip().isdigit() or process.stdin.closed:
                continue
            if sign is not None and int(line) >= shards:
                process.send_signal(sign)
                process.stdin.close()
            else:
                with contextlib.suppress(BrokenPipeError):
                    os.write(process.stdin.fileno(), b'\n')
        return process.wait(30), ''.join(lines)


@pytest.mark.parametrize(
    ('sign', 'code'), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)]
)
def test_killed_and_interrupted_processes_leave_transfers_that_go_on(
    engine: Engine,
    network: Network,
    bucket: str,
    source: Path,
    tmp_path: Path,
    counting: Counting,
    sign: signal.Signals,
    code: int,
) -> None:
    state = tmp_path / 'state'
    assert run(network, 'upload', bucket, '-', source, state, sign=sign, shards=4)[0] == code
    [entry] = list_journals(state / 'transfers')
    assert entry.bytes >= 3 * 256 * KIB
    stored = engine(counting).upload(bucket, source).result(30)
    assert counting.requests['POST frames'] == 0
    target = tmp_path / 'out'
    arguments = (network, 'download', bucket, stored.id, target, state)
    assert run(*arguments, sign=sign, shards=3)[0] == code
    assert not target.exists()
    future = engine().download(bucket, stored.id, target)
    future.result(30)
    assert target.read_bytes() == source.read_bytes()
    assert not journals(tmp_path)


def test_full_disk_at_the_destination_is_an_error_without_leftover(
    engine: Engine, network: Network, bucket: str, source: Path, tmp_path: Path
) -> None:
    stored = engine().upload(bucket, source).result(30)
    target = tmp_path / 'full' / 'out'
    target.parent.mkdir()
    code, output = run(
        network, 'download', bucket, stored.id, target, tmp_path / 'state',
        sign=None, shards=0, limit=SIZE // 2,
    )  # fmt: skip
    assert code == 1
    assert 'ResourceError a file in' in output
    assert os.strerror(errno.EFBIG) in output
    assert not list(target.parent.iterdir())
    assert not journals(tmp_path)
