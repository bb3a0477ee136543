"""A bridge and farmers in memory, for the engine without sockets and without threads."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from storj import sharding
from storj.api import BridgeProfile
from storj.crypto import names
from storj.crypto.keys import bucket_key
from storj.digest import shard_hash
from storj.exception import (
    AlreadyExistsError,
    BridgeUnavailableError,
    FarmerError,
    FarmerUnreachableError,
    HashMismatchError,
    IntegrityError,
    NotFoundError,
    SuppliedTokenNotAcceptedError,
)
from storj.farmer_connection import Ticket
from storj.model import Contact, File, FilePointer, Frame, Shard, Token
from storj.transfer import RetryPolicy, TransferConfig, Transfers

WORDS = 'abandon ' * 11 + 'about'
BUCKET = '0123456789ab0123456789ab'
#: Bytes of a shard in a :class:`Setting`: the fewest that bridges take.
SHARD = 15360


class FakeClock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.waits: list[float] = []

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        if seconds is None:
            raise AssertionError('a wait without end: nobody is left who could end it')
        self.waits.append(seconds)
        self.time += seconds

    def random(self) -> float:
        return 0.5


class FakeBridge:
    """What the engine asks of a bridge, kept in dictionaries; `farmers` maps node ids to shards."""

    def __init__(self, farmers: int = 6, version: tuple[int, int, int] = (7, 7, 1)) -> None:
        self.email: str | None = 'user@example.org'
        self.mnemonic: str | None = WORDS
        self.api_url = 'http://bridge.example'
        self._profile = BridgeProfile(version=version)
        nodes = [hashlib.sha1(b'%d' % number).hexdigest() for number in range(farmers)]
        self.farmers: dict[str, dict[str, bytes]] = {node: {} for node in nodes}
        self.down: set[str] = set()
        self.frames: dict[str, dict[int, tuple[Shard, str]]] = {}
        self.frames_made = 0
        self.files: dict[str, tuple[File, str]] = {}
        self.excluded: list[list[str]] = []
        self.reports: list[Any] = []
        self.calls: list[str] = []
        #: Tokens that were handed out and not used yet: each is good for one exchange.
        self.tokens: set[str] = set()
        #: On one page of the list of farmers.
        self.contacts = 30
        #: Called with the name of each request before it is answered; may raise.
        self.before: Callable[[str], object] = lambda name: None

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.before(name)

    def profile(self) -> BridgeProfile:
        return self._profile

    def bucket_get(self, bucket_id: str) -> Any:
        self._called('bucket_get')
        return object()

    def token_create(self, bucket_id: str, operation: str) -> Token:
        self._called('token_create')
        return Token(token='0' * 64, encryptionKey='')

    def contact_list(self, page: int = 1) -> Iterable[Contact]:
        self._called('contact_list')
        nodes = [*self.farmers][self.contacts * (page - 1) : self.contacts * page]
        return [Contact(nodeID=node) for node in nodes]

    def file_id(self, bucket_id: str, name: str, *, stored: bool = False) -> str | None:
        self._called('file_id')
        forms = [name]
        if self.mnemonic and not stored:
            forms.append(
                names.encrypt_file_name(bucket_key(self.mnemonic, bucket_id), bucket_id, name)
            )
        found = [sharding.file_id(bucket_id, form) for form in forms]
        return next((identifier for identifier in found if identifier in self.files), None)

    def file_metadata(self, bucket_id: str, file_id: str) -> File:
        self._called('file_metadata')
        if file_id not in self.files:
            raise NotFoundError('File not found', 404)
        return self.files[file_id][0]

    def file_pointers(
        self,
        bucket_id: str,
        file_id: str,
        skip: int | None = None,
        limit: int | None = None,
        exclude: Sequence[str] | None = None,
    ) -> list[FilePointer]:
        self._called('file_pointers')
        shards = self.frames[self.files[file_id][1]]
        return [
            self._pointer(*shards[index], exclude or ())
            for index in sorted(shards)[skip or 0 : (skip or 0) + (limit or 6)]
        ]

    def _token(self) -> str:
        token = os.urandom(20).hex()
        self.tokens.add(token)
        return token

    def _pointer(self, shard: Shard, node: str, exclude: Sequence[str]) -> FilePointer:
        pointer = FilePointer(
            hash=shard.hash, size=shard.size, index=shard.index, parity=shard.parity
        )
        holders = [node, *(n for n, kept in self.farmers.items() if shard.hash in kept)]
        for holder in holders:
            if holder not in self.down and holder not in exclude:
                pointer.token = self._token()
                pointer.farmer = {'nodeID': holder, 'address': '127.0.0.1', 'port': 1}
                break
        return pointer

    def file_create(self, bucket_id: str, frame_id: str, filename: str, **fields: Any) -> File:
        self._called('file_create')
        if sharding.file_id(bucket_id, filename) in self.files:
            raise AlreadyExistsError('Name already used in this bucket', 409)
        erasure = {'type': 'reedsolomon'} if fields.pop('erasure') else None
        # As its release does, it drops what it does not know without a word.
        for name, known in (('hmac', self._profile.has_hmac), ('index', self._profile.has_index)):
            if not known:
                fields[name] = None
        shards = [shard for shard, _ in self.frames[frame_id].values() if not shard.parity]
        file = File(
            bucket=bucket_id,
            filename=filename,
            frame=frame_id,
            size=sum(shard.size for shard in shards),
            id=sharding.file_id(bucket_id, filename),
            erasure=erasure,
            **fields,
        )
        self.files[file.id] = file, frame_id
        return file

    def file_remove(self, bucket_id: str, file_id: str) -> None:
        self._called('file_remove')
        del self.files[file_id]

    def frame_create(self) -> Frame:
        self._called('frame_create')
        # Of no two frames, also after one is destroyed.
        self.frames_made += 1
        frame_id = f'{self.frames_made:024x}'
        self.frames[frame_id] = {}
        return Frame(id=frame_id)

    def frame_get(self, frame_id: str) -> Frame:
        self._called('frame_get')
        if frame_id not in self.frames:
            raise NotFoundError('Frame not found', 404)
        locked = any(frame == frame_id for _, frame in self.files.values())
        return Frame(id=frame_id, shards=[*self.frames[frame_id]], locked=locked)

    def frame_delete(self, frame_id: str) -> None:
        self._called('frame_delete')
        del self.frames[frame_id]

    def frame_add_shard(
        self, shard: Shard, frame_id: str, excludes: Sequence[str] | None = None
    ) -> dict[str, Any]:
        self._called('frame_add_shard')
        self.excluded.append(list(excludes or ()))
        for node in self.farmers:
            if node not in (excludes or ()):
                self.frames[frame_id][shard.index or 0] = shard, node
                return {
                    'hash': shard.hash,
                    'token': self._token(),
                    'operation': 'PUSH',
                    'farmer': {'nodeID': node, 'address': '127.0.0.1', 'port': 1},
                }
        raise BridgeUnavailableError('Could not locate farmers', 400)

    def send_exchange_report(self, report: Any) -> None:
        self._called('send_exchange_report')
        self.reports.append(report)


class FakeChannel:
    """Moves shards to and from a bridge's farmers; `pushing` and `pulling` may change the bytes.

    Like those of original farmers, a token is used up by the first exchange that comes about.
    """

    def __init__(self, bridge: FakeBridge) -> None:
        self.bridge = bridge
        self.pushing: Callable[[str, bytes], bytes] = lambda node, data: data
        self.pulling: Callable[[str, bytes], bytes] = lambda node, data: data
        #: Number of the bytes that farmers took.
        self.taken = 0

    def __call__(self, pointer: Any) -> FakeChannel:
        return self

    def _reach(self, pointer: Any) -> str:
        node = str(pointer['farmer']['nodeID'])
        if node in self.bridge.down:
            raise FarmerUnreachableError(message='down')
        token = Ticket.of(pointer).token
        if token not in self.bridge.tokens:
            raise SuppliedTokenNotAcceptedError
        self.bridge.tokens.remove(token)
        return node

    def push(self, pointer: Any, chunks: Iterable[Any], size: int, **_: Any) -> None:
        node = self._reach(pointer)
        if pointer['hash'] in self.bridge.farmers[node]:
            # It answers before the first byte.
            return
        data = self.pushing(node, b''.join(bytes(chunk) for chunk in chunks))
        self.taken += len(data)
        if shard_hash(data) != pointer['hash']:
            raise HashMismatchError
        self.bridge.farmers[node][pointer['hash']] = data

    def pull(self, pointer: Any, size: int, sink: Callable[[memoryview], Any], **_: Any) -> None:
        node = self._reach(pointer)
        kept = self.bridge.farmers[node].get(pointer['hash'])
        if kept is None:
            raise FarmerError(404, 'no such shard')
        data = self.pulling(node, kept)
        # Odd pieces, some of them longer than a shard may be.
        for position in range(0, len(data), 5000):
            sink(memoryview(bytearray(data[position : position + 5000])))
        if len(data) != size:
            raise IntegrityError('another number of bytes')


class Setting:
    """A bridge, its farmers, a clock, and an engine without threads."""

    def __init__(self, folder: Path, *, bridge: FakeBridge | None = None, **limits: Any) -> None:
        self.bridge = bridge or FakeBridge()
        self.channel = FakeChannel(self.bridge)
        self.clock = FakeClock()
        config: dict[str, Any] = {
            'shard_size': SHARD,
            'piece_size': 4096,
            'state_dir': folder / 'state',
            'temp_dir': folder,
            'bridge_retry': RetryPolicy(attempts=3, delay=1.0),
            **limits,
        }
        self.transfers = Transfers(
            self.bridge,
            TransferConfig(**config),
            channel_for=self.channel,
            clock=self.clock,
            serial=True,
        )

    def upload(self, data: Any, **options: Any) -> File:
        return self.transfers.upload(BUCKET, data, **{'name': 'n', **options}).result()

    def download(self, file: File, destination: Any = None, **options: Any) -> Any:
        return self.transfers.download(BUCKET, file.id, destination, **options).result()
