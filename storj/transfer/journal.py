"""State of interrupted transfers, from which the same call continues.

One JSON file for each transfer, in a folder of mode 0700::

    <32 hex digits of what is transferred>.json     state, replaced as a whole at each change
    <the same>.lock                                 held while a process works on it
    looking.lock                                    held by a process that lists which are in use

A journal has no keys. It has the ``index`` of an upload, which the bridge gets at the end anyway,
and a proof of the key that does not reveal it. A journal that cannot be read, because it is damaged
or of a later schema, is ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storj.digest import is_hash, is_hex
from storj.exception import ClientError, NotFoundError, StorjError, TransferError
from storj.sharding import Plan
from storj.system import atomic_file, file_lock
from storj.transfer.config import Bridge, BridgeReader, TransferConfig, UploadRequest
from storj.transfer.encryption import FileEncryption
from storj.transfer.source import PathSource, Source
from storj.transfer.spool import discard_former

_log = logging.getLogger(__name__)

SCHEMA = 1

# {"schema": 1, "identity": ..., "changed": seconds since 1970, "state": state}
#
# state of an upload                              state of a download
#   frame   id at the bridge                        form    what has to be the same to continue
#   source  size, times, inode, sample              part    path of NAME.part, with inode and mode
#   cut     size, shard size, D, P                  done    numbers of the shards in it
#   index, name, key (a proof)                      bytes   of them
#   shards  {number: [hash, farmer or null]}        total   bytes
#   bytes, total
#
# A shard is recorded with null before its first byte is sent, with the farmer's id once it is
# confirmed. "Offered" matters as much as "stored": two contents must never go out under one key
# and index, so an attempt continues only if such shards still have the same hash.

# The state of a file of 255 shards takes 50 KiB.
_LARGEST = 64 * 1024 * 1024


@dataclass(frozen=True)
class JournalEntry:
    """A transfer that was broken off, as listed.

    Attributes:
        key (str): 32 hex digits; names the journal.
        kind (str): ``upload`` or ``download``.
        path (str): of the local file.
        bucket_id (str): 24 hex digits.
        file (str): name of the file to upload, id of the file to download.
        bridge (str): URL of the bridge.
        account (str): e-mail address, '' for none.
        frame_id (str | None): of an upload; it still lies on the bridge.
        bytes (int): that need not be moved again.
        total (int): in all.
        changed (float): seconds since 1970.
        active (bool): whether a process works on it now.
        part (str | None): of a download, the unfinished file.
    """

    key: str
    kind: str
    path: str
    bucket_id: str
    file: str
    bridge: str
    account: str
    frame_id: str | None
    bytes: int
    total: int
    changed: float
    active: bool
    part: str | None


class Journal:
    """The journal of one transfer, locked against other processes while it is open.

    Args:
        folder (Path): where journals lie; made if it is not there.
        identity (Mapping[str, str]): what is transferred: kind, bridge, account, bucket, file and
            local path. Equal transfers have equal journals.

    Raises:
        TransferError: If another transfer has it open.
        OSError: If the folder cannot be written.

    Attributes:
        state (dict): what the last transfer left, empty if there was none; changed by the owner
            through :meth:`save`.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str]) -> None:
        self.key = _key_of(identity)
        self._identity = dict(identity)
        self._path = folder / f'{self.key}.json'
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = file_lock.lock(folder / f'{self.key}.lock')
        if self._lock is None:
            # Perhaps another process only checks whether it is in use; not while this is held.
            with _looking(folder):
                self._lock = file_lock.lock(folder / f'{self.key}.lock')
        if self._lock is None:
            raise TransferError(
                f'another process is working on the {identity.get("kind")} of '
                f'{identity.get("path")}; wait for it, or go without a journal'
            )
        # Threads that push shards save it, and so does the driver.
        self._saving = threading.Lock()
        self._warned = False
        try:
            # No other process writes here now: an unfinished file was left by a kill.
            atomic_file.discard_unfinished(self._path)
            self.state: dict[str, Any] = _read(self._path).get('state', {})
        except BaseException:
            self.close()
            raise

    def save(self, change: Callable[[dict[str, Any]], object] = lambda state: None) -> None:
        """Change the state and write it: a reader of the file finds the old or the new one, whole.

        Threads that save at the same time do it one after the other. A disk that takes no more
        ends no transfer: the older state is as true, if less far.

        Args:
            change (Callable[[dict[str, Any]], object]): changes the state; False if it can wait.
        """
        with self._saving:
            if change(self.state) is False:
                return
            try:
                self._write()
            except OSError as error:
                if not self._warned:
                    self._warned = True
                    _log.warning('the journal %s cannot be written: %s', self._path, error)

    def _write(self) -> None:
        text = json.dumps(
            {
                'schema': SCHEMA,
                'identity': self._identity,
                'changed': time.time(),
                'state': self.state,
            }
        )
        # Written after each shard: a state that a power cut takes back costs that shard again.
        atomic_file.write(self._path, text.encode('utf-8', 'surrogatepass'), sync=False)

    @property
    def written(self) -> bool:
        """Whether a next attempt will find a state, of this one or of those before it."""
        return self._path.exists()

    def remove(self) -> None:
        """Forget the transfer: it is done, or cannot be resumed."""
        self.state = {}
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the lock; the journal stays unless it was removed."""
        if self._lock is None:
            return
        file = self._path.with_suffix('.lock')
        file_lock.unlock(self._lock, None if self.written else file)
        self._lock = None


def identity(
    kind: str, bridge: BridgeReader, bucket_id: str, file: str, path: str
) -> dict[str, str]:
    """Return what distinguishes one transfer from another.

    Args:
        kind (str): ``upload`` or ``download``.
        bridge (BridgeReader): of the transfer.
        bucket_id (str): 24 hex digits.
        file (str): name of the file to upload, id of the file to download.
        path (str): of the local file, absolute; '' for a source that has none.
    """
    return {
        'kind': kind,
        'bridge': bridge.api_url,
        'account': bridge.email or '',
        'bucket': bucket_id,
        'file': file,
        'path': path,
    }


def _key_of(identity: Mapping[str, str]) -> str:
    text = json.dumps(dict(identity), sort_keys=True)
    return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]


def state_left(config: TransferConfig, identity: Mapping[str, str]) -> dict[str, Any]:
    """Return the state of an interrupted or running transfer; empty without one."""
    state = _read(config.journal_dir() / f'{_key_of(identity)}.json').get('state', {})
    return dict(state)


def is_left(config: TransferConfig, identity: Mapping[str, str]) -> bool:
    """Return whether a process works on a transfer, or has left anything of it."""
    return (config.journal_dir() / f'{_key_of(identity)}.lock').exists()


def open_journal(config: TransferConfig, identity: Mapping[str, str]) -> Journal | None:
    """Open a journal where the configuration says, None if no file can be written there.

    Raises:
        TransferError: If another transfer has it open.
    """
    try:
        return Journal(config.journal_dir(), identity)
    except OSError as error:
        _log.warning('this transfer cannot be resumed, its journal cannot be written: %s', error)
        return None


def _looking(folder: Path) -> AbstractContextManager[None]:
    """Hold what has to be held while journals are locked for other reasons than to work on them."""
    return file_lock.locked(folder / 'looking.lock')


def _is_active(folder: Path, key: str) -> bool:
    """Return whether a process works on a transfer."""
    with _looking(folder):
        try:
            descriptor = file_lock.lock(folder / f'{key}.lock', create=False)
        except FileNotFoundError:
            return False
        if descriptor is not None:
            file_lock.unlock(descriptor)
        return descriptor is None


def _read(path: Path) -> dict[str, Any]:
    """Return a journal's content, or nothing if it is missing, damaged or of another schema."""
    try:
        with path.open('rb') as file:
            raw = file.read(_LARGEST + 1)
        content = json.loads(raw) if len(raw) <= _LARGEST else None
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        _log.warning('the journal %s cannot be read: %s', path, error)
        return {}
    if (
        not isinstance(content, dict)
        or content.get('schema') != SCHEMA
        or not isinstance(content.get('state'), dict)
        or not isinstance(content.get('identity'), dict)
    ):
        _log.warning('the journal %s is damaged, or of another release', path)
        return {}
    return content


def list_journals(folder: Path | None = None) -> Iterator[JournalEntry]:
    """Yield the transfers that were broken off, or are under way.

    Args:
        folder (Path | None): ``TransferConfig.journal_dir()``, where the default one has it.
    """
    folder = TransferConfig().journal_dir() if folder is None else folder
    for path in sorted(folder.glob('*.json')):
        content = _read(path)
        if not content:
            continue
        identity, state = content['identity'], content['state']
        yield JournalEntry(
            key=path.stem,
            kind=str(identity.get('kind', '')),
            path=str(identity.get('path', '')),
            bucket_id=str(identity.get('bucket', '')),
            file=str(identity.get('file', '')),
            bridge=str(identity.get('bridge', '')),
            account=str(identity.get('account', '')),
            frame_id=_text(state.get('frame')),
            bytes=_number(state.get('bytes')),
            total=_number(state.get('total')),
            changed=float(_number(content.get('changed'))),
            active=_is_active(folder, path.stem),
            part=_text(state.get('part')),
        )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int:
    # JSON as Python reads it has numbers that are none, and one that is endless.
    return int(value) if isinstance(value, (int, float)) and abs(value) < 2**63 else 0


def clean_journals(
    folder: Path | None = None, *, older_than: float = 0.0, bridge: Bridge | None = None
) -> list[JournalEntry]:
    """Remove journals of interrupted transfers, with the unfinished files of downloads.

    Transfers under way are left alone. Bridges keep the frames of uploads forever; those of the
    client's own account are destroyed there, and a frame that has to stay is a warning in the log.

    Args:
        folder (Path | None): as of :func:`list_journals`.
        older_than (float): only those that did not change for so many seconds.
        bridge (Bridge | None): client that destroys frames, such as :class:`storj.http.Client`.

    Returns:
        list[JournalEntry]: what was removed.
    """
    folder = TransferConfig().journal_dir() if folder is None else folder
    removed = []
    for entry in list_journals(folder):
        if time.time() - entry.changed < older_than:
            continue
        if _remove(folder, entry):
            removed.append(entry)
            if bridge is not None and entry.kind == 'upload' and entry.frame_id is not None:
                _destroy_frame(bridge, entry, entry.frame_id)
    # A transfer that is killed between the ends of its journal and its lock leaves the lock.
    for file in folder.glob('?' * 32 + '.lock'):
        with _looking(folder):
            forget_frame(folder, file.stem, '')
    return removed


def _destroy_frame(bridge: Bridge, entry: JournalEntry, frame_id: str) -> None:
    """Destroy the frame of an upload that will not be continued, unless a file uses it."""
    owner = (entry.bridge.rstrip('/'), entry.account)
    try:
        if owner != (bridge.api_url.rstrip('/'), bridge.email or ''):
            raise ClientError('it is of another account or bridge')
        destroy_unused_frame(bridge, frame_id)
    except NotFoundError:
        return
    except StorjError as error:
        _log.warning(
            'the frame %s of the upload of %s stays at %s: %s',
            *(frame_id, entry.path, entry.bridge, getattr(error, 'message', error)),
        )


def destroy_unused_frame(bridge: Bridge, frame_id: str) -> None:
    """Destroy the frame of an interrupted upload, unless a file uses it.

    The upload may have been broken off after its end, and a file would be lost with its frame:
    bridges destroy those as well (protocol reference, section 10.9).

    Raises:
        ClientError: If the bridge does not say whether one does.
    """
    locked = bridge.frame_get(frame_id).locked
    if locked is None:
        raise ClientError('the bridge does not say whether a file uses it')
    if not locked:
        bridge.frame_delete(frame_id)


def forget_frame(folder: Path, key: str, frame_id: str) -> None:
    """Remove the journal of a failed upload that has nothing but a frame, which is destroyed now.

    Args:
        folder (Path): where journals lie.
        key (str): of the journal.
        frame_id (str): a journal of another frame, of an upload begun meanwhile, is left alone.
    """
    lock = file_lock.lock(folder / f'{key}.lock')
    if lock is None:
        return
    journal = folder / f'{key}.json'
    if _read(journal).get('state') == {'frame': frame_id}:
        journal.unlink(missing_ok=True)
    file_lock.unlock(lock, None if journal.exists() else folder / f'{key}.lock')


def _remove(folder: Path, entry: JournalEntry) -> bool:
    """Remove a journal and the unfinished file; return whether no process works on it."""
    file, journal = folder / f'{entry.key}.lock', folder / f'{entry.key}.json'
    with _looking(folder):
        lock = file_lock.lock(file)
        if lock is None:
            return False
        try:
            if entry.kind == 'download':
                inode = _read(journal).get('state', {}).get('inode')
                with contextlib.suppress(OSError):
                    discard_former(Path(entry.path), entry.part, inode)
            journal.unlink(missing_ok=True)
            atomic_file.discard_unfinished(journal)
        finally:
            file_lock.unlock(lock, file)
    return True


@dataclass(frozen=True)
class OfferedShard:
    """A shard that the last attempt offered to a farmer.

    Attributes:
        hash (str): 40 hex digits.
        farmer (str | None): node id of the farmer that confirmed it; None if none did.
    """

    hash: str
    farmer: str | None


class UploadJournal:
    """What an upload leaves for the next attempt, and what it takes over from the last one.

    The journal has the frame from the moment it exists, whatever the source is, so that a process
    that was killed leaves no frame that nobody knows of. Of an upload that can be resumed it also
    has the index and the hash of every shard that was offered to a farmer::

        frame    id at the bridge
        index    of the file; with the key of the bucket it makes the key of the content
        shards   number -> [hash, farmer that confirmed it, or null while it is under way]

    One key stream must never encrypt two contents. So the index is used again only if the source is
    the same file (size, times, inode, samples) and every shard of the journal, hashed again, has
    the hash that it had; after any doubt the next attempt takes a new index and a new frame.

    It keeps nothing where no journal can be written.

    Args:
        config (TransferConfig): where journals lie.
        bridge (BridgeReader): of the upload.
        request (UploadRequest): what is asked for.
        name (str): of the file, in the clear.
        source (Source | None): its source, opened; None if it can be read only once.

    Raises:
        TransferError: If another process is working on the same upload.

    Attributes:
        frame_id (str | None): frame of the last attempt.
        has_begun (bool): whether the journal is about this attempt, and not about the last one.
        continues (bool): whether the last attempt can be continued, as far as the journal shows.
        index (str | None): index of the last attempt, if that can be continued.
        shards (Mapping[int, OfferedShard]): what the last attempt offered, if it can be continued.
    """

    def __init__(
        self,
        config: TransferConfig,
        bridge: BridgeReader,
        request: UploadRequest,
        name: str,
        source: Source | None,
    ) -> None:
        path = request.source_path
        # Without a key nothing shows that the last attempt was made with the same one.
        resume = request.resume and request.encrypt
        self._config = config
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
        self.shards: Mapping[int, OfferedShard] = {}
        try:
            self._read(path)
        except BaseException:
            # Nobody has this object yet who could: a source may shrink while it is looked at.
            self.close()
            raise

    def _read(self, path: str) -> None:
        """Take over what the last attempt left, as far as it can be continued."""
        state = self._state
        if not isinstance(state.get('frame'), str):
            return
        self.frame_id = state['frame']
        index, shards = state.get('index'), _shards_of(state)
        valid = isinstance(state.get('key'), str) and (index is None or is_hex(index, 64))
        if self._source is None or shards is None or not valid:
            return
        if state.get('source') != self._source.fingerprint():
            _log.warning('%s changed since its upload was interrupted; all of it is uploaded', path)
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
        same = _form(encryption, plan).items() <= self._state.items()
        return self.continues and same and all(number < plan.shards for number in self.shards)

    def has_other_key(self, encryption: FileEncryption) -> bool:
        """Return whether the last attempt stored shards under another encryption key."""
        stored = any(noted.farmer for noted in self.shards.values())
        if not stored or self.index != encryption.index:
            return False
        # A damaged journal may have any text.
        known = str(self._state.get('key')).encode('utf-8', 'surrogatepass')
        return not hmac.compare_digest(known, encryption.key_proof.encode())

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
        if self._journal is not None:
            self._journal.save(lambda state: state.update(frame=frame_id))

    def note_offer(self, index: int, shard_hash: str) -> None:
        """Write down a shard before the first byte of it goes out, which is after the frame."""

        def change(state: dict[str, Any]) -> bool:
            state['shards'].setdefault(str(index), [shard_hash, None])
            return 'frame' in state

        self._note(change)

    def note_confirmed(self, index: int, shard_hash: str, farmer: str) -> None:
        """Write down that a farmer has a shard; a small one of its own is soon sent again."""

        def change(state: dict[str, Any]) -> bool:
            state['shards'][str(index)] = [shard_hash, farmer]
            there = [int(number) for number, (_, node) in state['shards'].items() if node]
            state['bytes'] = sum(self._plan.span(number).size for number in there)
            return not self._plan.is_one_shard(self._config.piece_size)

        self._note(change)

    def _note(self, change: Callable[[dict[str, Any]], object]) -> None:
        if self._journal is not None and self._source is not None:
            self._journal.save(change)

    def forget(self) -> None:
        """Forget the upload: nothing of it is left to continue or to remove."""
        if self._journal is not None:
            self._journal.remove()

    def keep(self, *, only_frame: str | None = None) -> None:
        """Write down all that is known, or the frame of a failed upload until it is destroyed."""
        if self._journal is not None:
            self._journal.state = {'frame': only_frame} if only_frame else self._journal.state
            self._journal.save()

    def close(self) -> None:
        """Let others work on this upload."""
        if self._journal is not None:
            self._journal.close()

    def forget_frame(self, frame_id: str) -> None:
        """Forget a frame that :meth:`keep` kept; after :meth:`close`."""
        if self._journal is not None:
            forget_frame(self._config.journal_dir(), self._journal.key, frame_id)


def _open(config: TransferConfig, identity: Mapping[str, str]) -> Journal | None:
    try:
        return open_journal(config, identity)
    except TransferError:
        if identity['path']:
            raise
        # Sources without a path cannot be told apart.
        return None


def _shards_of(state: Mapping[str, Any]) -> dict[int, OfferedShard] | None:
    """Return the shards of a journal, None if they are invalid."""
    found: dict[int, OfferedShard] = {}
    shards = state.get('shards')
    if not isinstance(shards, dict):
        return None
    for number, noted in shards.items():
        counts = number.isascii() and number.isdecimal()
        match noted:
            case [str() as shard_hash, (str() | None) as farmer] if counts and is_hash(shard_hash):
                found[int(number)] = OfferedShard(shard_hash, farmer)
            case _:
                return None
    return found


def _form(encryption: FileEncryption, plan: Plan) -> dict[str, Any]:
    """Return what has to be the same for an attempt to be continued, as JSON has it."""
    return {
        'cut': [plan.size, plan.shard_size, plan.data_shards, plan.parity_shards],
        'index': encryption.index,
        'name': encryption.name,
        'key': encryption.key_proof,
    }
