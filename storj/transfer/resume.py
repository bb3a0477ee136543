"""What an upload leaves for the next attempt, and what it takes over from the last one.

The journal has the frame from the moment it exists, whatever the source is, so that a process that
was killed leaves no frame that nobody knows of. Of an upload that can be resumed it also has the
index and the hash of every shard that was offered to a farmer::

    frame    id at the bridge
    index    of the file; with the key of the bucket it makes the key of the content
    shards   number -> [hash, farmer that confirmed it, or null while it is under way]

One key stream must never encrypt two contents. So the index is used again only if the source is
the same file (size, times, inode, samples) and every shard of the journal, hashed again, has the
hash that it had; after any doubt the next attempt takes a new index and a new frame.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storj.digest import is_hash, is_hex
from storj.exception import TransferError
from storj.model import File
from storj.sharding import Plan
from storj.transfer.bridge import BridgeReader
from storj.transfer.config import TransferConfig
from storj.transfer.encryption import FileEncryption
from storj.transfer.journal import Journal, forget_frame, identity, open_journal
from storj.transfer.source import PathSource, Source, UploadRequest

__all__ = ('Noted', 'UploadJournal')

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Noted:
    """A shard that the last attempt offered to a farmer.

    Attributes:
        hash (str): 40 hex digits.
        farmer (str | None): node id of the farmer that confirmed it; None if none did.
    """

    hash: str
    farmer: str | None


class UploadJournal:
    """The journal of one upload; it keeps nothing where none can be written.

    Args:
        config (TransferConfig): where journals lie.
        bridge (BridgeReader): of the upload.
        request (UploadRequest): what is asked for.
        name (str): of the file, in the clear.
        source (Source | None): its source, opened; None if it can be read only once.

    Raises:
        TransferError: If another process is at work on the same upload.

    Attributes:
        frame_id (str | None): frame of the last attempt.
        has_begun (bool): whether the journal is about this attempt, and not about the last one.
        continues (bool): whether the last attempt can be continued, as far as the journal tells.
        index (str | None): index of the last attempt, if that can be continued.
        shards (Mapping[int, Noted]): what the last attempt offered, if it can be continued.
    """

    def __init__(
        self,
        config: TransferConfig,
        bridge: BridgeReader,
        request: UploadRequest,
        name: str,
        source: Source | None,
    ) -> None:
        path = _path_of(request.source)
        # Without a key nothing shows that the last attempt was made with the same one.
        resume = request.resume and request.encrypt
        self._config = config
        self._lock = threading.Lock()
        self._plan: Plan
        self._source = source if resume and path and isinstance(source, PathSource) else None
        # Of a frame that is the caller's nothing is remembered.
        self._journal = (
            _open(config, identity('upload', bridge, request.bucket_id, name, path))
            if request.frame is None
            else None
        )
        self.frame_id: str | None = None
        self.has_begun = False
        self.continues = False
        self.index: str | None = None
        self.shards: Mapping[int, Noted] = {}
        self._read(path)

    def _read(self, path: str) -> None:
        """Take over what the last attempt left, as far as it can be continued."""
        state = self._state
        if not isinstance(state.get('frame'), str):
            return
        self.frame_id = state['frame']
        index, shards = state.get('index'), _shards_of(state)
        if self._source is None or shards is None or not isinstance(state.get('key'), str):
            return
        if index is not None and not is_hex(index, 64):
            return
        if state.get('source') != self._source.fingerprint():
            _log.warning('%s changed since its upload broke off; all of it is uploaded', path)
            return
        self.continues, self.index, self.shards = True, index, shards

    @property
    def _state(self) -> dict[str, Any]:
        return {} if self._journal is None else self._journal.state

    @property
    def is_worth_keeping(self) -> bool:
        """Whether a next attempt can go on with what this one has done."""
        if self._journal is None or self._source is None or not self._journal.written:
            return False
        shards = _shards_of(self._state) or {}
        return any(noted.farmer for noted in shards.values())

    def fits(self, encryption: FileEncryption, plan: Plan) -> bool:
        """Return whether the last attempt stored the file in this form, under this key."""
        form = _form(encryption, plan)
        same = all(self._state.get(key) == form[key] for key in form)
        return self.continues and same and all(number < plan.shards for number in self.shards)

    def has_other_key(self, encryption: FileEncryption) -> bool:
        """Return whether the last attempt brought shards away under another encryption key."""
        brought = any(noted.farmer for noted in self.shards.values())
        if not brought or self.index != encryption.index:
            return False
        # A damaged journal may have any text.
        known = str(self._state.get('key')).encode('utf-8', 'surrogatepass')
        return not hmac.compare_digest(known, _key_proof(encryption).encode())

    def go_on(self, plan: Plan) -> None:
        """Continue the last attempt."""
        self._plan, self.has_begun = plan, True

    def begin(self, encryption: FileEncryption, plan: Plan) -> None:
        """Begin an attempt that continues none; the frame of the last one is forgotten."""
        self._plan, self.has_begun = plan, True
        self.frame_id, self.continues, self.index, self.shards = None, False, None, {}
        if self._journal is None:
            return
        self._journal.state = {'total': sum(span.size for span in plan)}
        if self._source is not None:
            known = {'source': self._source.fingerprint(), 'shards': {}}
            self._journal.state |= {**_form(encryption, plan), **known}

    def note_frame(self, frame_id: str) -> None:
        """Write down the frame, as soon as there is one."""
        self._note(lambda state: state.update(frame=frame_id))

    def note_offer(self, index: int, shard_hash: str) -> None:
        """Write down a shard before the first byte of it goes out."""
        if self._source is not None:
            self._note(lambda state: state['shards'].setdefault(str(index), [shard_hash, None]))

    def note_confirmed(self, index: int, shard_hash: str, farmer: str) -> None:
        """Write down that a farmer has a shard."""

        def change(state: dict[str, Any]) -> None:
            state['shards'][str(index)] = [shard_hash, farmer]
            there = [int(number) for number, (_, node) in state['shards'].items() if node]
            state['bytes'] = sum(self._plan.span(number).size for number in there)

        if self._source is not None:
            self._note(change)

    def _note(self, change: Callable[[dict[str, Any]], object]) -> None:
        if self._journal is not None:
            # At once: other tasks have something to note meanwhile.
            with self._lock:
                change(self._journal.state)
                self._journal.save()

    def forget(self) -> None:
        """Forget the upload: nothing of it is left to continue or to remove."""
        if self._journal is not None:
            self._journal.remove()

    def keep_frame(self, frame_id: str) -> None:
        """Keep of a failed upload only its frame, until somebody has destroyed it."""
        if self._journal is not None:
            self._journal.state = {'frame': frame_id}
            self._journal.save()

    def close(self) -> None:
        """Let others work on this upload."""
        if self._journal is not None:
            self._journal.close()

    def forget_frame(self, frame_id: str) -> None:
        """Forget a frame that :meth:`keep_frame` kept; after :meth:`close`."""
        if self._journal is not None:
            forget_frame(self._config.journal_dir(), self._journal.key, frame_id)


def _open(config: TransferConfig, identity: Mapping[str, str]) -> Journal | None:
    try:
        return open_journal(config, identity)
    except TransferError:
        if identity['path']:
            raise
        # Sources without a path have nothing that tells one from another.
        return None


def _path_of(source: object) -> str:
    """Return the absolute path of a source, the empty text if it has none."""
    if isinstance(source, File):
        source = source.filename
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return str(Path(path).absolute()) if isinstance(path, str) else ''
    return ''


def _shards_of(state: Mapping[str, Any]) -> dict[int, Noted] | None:
    """Return the shards of a journal, None if they make no sense."""
    found: dict[int, Noted] = {}
    shards = state.get('shards')
    for number, noted in shards.items() if isinstance(shards, dict) else ():
        match noted:
            case [str() as shard_hash, (str() | None) as farmer] if is_hash(shard_hash):
                if not (number.isascii() and number.isdecimal()):
                    return None
                found[int(number)] = Noted(shard_hash, farmer)
            case _:
                return None
    return found if isinstance(shards, dict) else None


def _form(encryption: FileEncryption, plan: Plan) -> dict[str, Any]:
    """Return what has to be the same for an attempt to be continued, as JSON has it."""
    return {
        'cut': [plan.size, plan.shard_size, plan.data_shards, plan.parity_shards],
        'index': encryption.index,
        'name': encryption.name,
        'key': _key_proof(encryption),
    }


def _key_proof(encryption: FileEncryption) -> str:
    """Return what shows that a key is the same one, without showing the key."""
    key = encryption.key
    raw = b'' if key is None else key.key + key.counter
    return hmac.new(raw, b'storj transfer journal', hashlib.sha256).hexdigest()
