"""Backup of a network's folder, also while the network runs, and its restoration.

::

    BACKUP/
      manifest.json        which state is complete; written last
      state-<random>/      the network's folder without its shards
      shards/ab/abcdef...  each shard once, however many farmers store it

The databases are copied in such an order that each one holds what those before it name: MetaDisk's
catalogue names entries of the bridge, those name contracts of farmers, and those name shards.
Shards are files that never change, and are copied last, by the records of the farmers. So every
file that was stored when the copying began is complete in the backup, and the next backup into the
same folder copies the shards that are new only. Shards are never removed from a backup.

A shard that is in the backup is checked by its size. All are read again on demand, and after an
interrupted run: a power failure may have left a file name whose bytes never reached the disk.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from storj.digest import ShardDigest, is_hash
from storj.exception import NetworkSetupError
from storj.network.node.state_files import (
    NETWORK_FILES,
    FolderLock,
    check_database,
    known_farmers,
    read_record,
    require_network,
    write_record,
)
from storj.system import atomic_file

_MANIFEST = 'manifest.json'
_STATE = 'state-'
_PIECE = 1024 * 1024
# What a new file system has in its topmost folder.
_OF_THE_DISK = 'lost+found'

#: Copies the database of a running farmer; False if the farmer does not run.
Snapshot = Callable[[int, Path], bool]


@dataclass(frozen=True)
class Copied:
    """What a backup holds, or what was restored.

    Attributes:
        farmers (int): of the network.
        files (int): beside the shards.
        shards (int): that the farmers store, each of them counted once.
        bytes (int): of these shards.
        copied_shards (int): that were not there yet, or damaged.
        copied_bytes (int): of these.
        missing (int): shards that no disk gives with their hash.
    """

    farmers: int
    files: int
    shards: int
    bytes: int
    copied_shards: int
    copied_bytes: int
    missing: int


class BackupError(NetworkSetupError):
    """There is nothing to back up or to restore, or something else where it is to be.

    Name the folder of a network, or of a backup.
    """

    #: The message says what to do.
    hint = ''


# ---------------------------------------------------------------- backup


def back_up(
    data: Path, folder: Path, snapshot: Snapshot | None = None, *, check: bool = False
) -> Copied:
    """Copy a network; what an earlier backup of it left in the folder is used.

    Args:
        data (Path): the network's folder.
        folder (Path): of the backup; made when it is missing, for its owner only.
        snapshot (Snapshot | None): of the network, if it runs.
        check (bool): read all shards of the backup, and replace the damaged ones.

    Returns:
        Copied: what the backup holds.

    Raises:
        BackupError: If there is no network, its database lies elsewhere, or the folder has
            something else in it.
        LostStateError: If something is missing in the network's folder.
        OSError: If something cannot be read or written; the backup before is whole still.
    """
    record = read_record(data / 'network.json', ('renter_seed',))
    farmers = None if record is None else known_farmers(data, record)
    if record is None or farmers is None:
        raise BackupError(f'{data}: no network has run there')
    if not record.get('own_database', True):
        raise BackupError(
            f'{data}: the database of the bridge is elsewhere; back up that database by its own'
            ' tools, and this folder while the network is stopped'
        )
    # The network that runs, and is to copy into it, may have another working directory.
    folder = folder.absolute()
    if folder.resolve().is_relative_to(data.resolve()):
        raise BackupError(f'{folder}: lies in the folder of the network')
    owner = nullcontext() if snapshot else closing(FolderLock(data, 'network'))
    with closing(FolderLock(folder, 'backup')), owner:
        _check_target(folder, record['renter_seed'])
        if snapshot is None:
            require_network(data, range(farmers), own_database=True)
        check = check or _was_broken_off(folder)
        state = folder / f'{_STATE}{secrets.token_hex(8)}'
        state.mkdir(mode=0o700)
        # The sign of a run that is broken off: before the first shard.
        atomic_file.sync_folder(folder)
        try:
            _copy_state(data, state, farmers, snapshot or (lambda number, target: False))
            done = _gather(data, folder, state, farmers, check=check)
            _commit(folder, state, done)
        except BaseException:
            try:
                # The next run takes the shards for whole.
                _sync()
            finally:
                shutil.rmtree(state, ignore_errors=True)
            raise
        return done


def _check_target(folder: Path, seed: str) -> None:
    """Refuse a folder that is no backup of this network."""
    known = {_MANIFEST, 'shards', 'backup.lock', _OF_THE_DISK}
    others = [
        item.name
        for item in folder.iterdir()
        if item.name not in known and not item.name.startswith((_STATE, f'.{_MANIFEST}.'))
    ]
    if others:
        raise BackupError(f'{folder}: contains something else: {sorted(others)[0]}')
    manifest = read_record(folder / _MANIFEST, ('state',))
    if manifest is not None:
        kept = read_record(folder / manifest['state'] / 'network.json', ('renter_seed',))
        if kept is None or kept['renter_seed'] != seed:
            raise BackupError(f'{folder}: is the backup of another network')


def _was_broken_off(folder: Path) -> bool:
    """Return whether a state lies there that no manifest names."""
    manifest = read_record(folder / _MANIFEST, ('state',))
    whole = None if manifest is None else manifest['state']
    return any(state.name != whole for state in folder.glob(f'{_STATE}*'))


def _copy_state(data: Path, state: Path, farmers: int, snapshot: Snapshot) -> None:
    """Copy all but the shards, in the order of the table."""
    mine = {str(number) for number in range(farmers)}
    for row in NETWORK_FILES:
        if row.kind in ('shard', 'scratch'):
            continue
        for source in sorted(data.glob(row.pattern)):
            path = source.relative_to(data)
            if path.parts[0] == 'farmers' and path.parts[1] not in mine:
                continue
            target = state / path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if row.kind != 'database':
                _copy_file(source, target)
                continue
            atomic_file.write(target, b'', sync=False)
            if path.parts[0] != 'farmers' or not snapshot(int(path.parts[1]), target):
                _copy_database(source, target)
            check_database(target)
    require_network(state, range(farmers), own_database=True)


def _copy_database(source: Path, target: Path) -> None:
    """Copy a database that others may be changing, as it is at one moment."""
    uri = f'{source.absolute().as_uri()}?mode=rw'
    try:
        with (
            closing(sqlite3.connect(uri, uri=True)) as original,
            closing(sqlite3.connect(target)) as copy,
        ):
            # In one go: it would begin again whenever another connection commits.
            original.backup(copy)
    except sqlite3.Error as error:
        raise OSError(f'{source}: cannot be copied: {error}') from error


def _gather(data: Path, folder: Path, state: Path, farmers: int, *, check: bool) -> Copied:
    """Copy the shards that are not in the backup yet, or damaged if they are to be checked."""
    counts: Counter[str] = Counter()
    holders: dict[str, list[Path]] = {}
    sizes: dict[str, int] = {}
    for number in range(farmers):
        for name, size in _recorded(state, number):
            holders.setdefault(name, []).append(data / 'farmers' / str(number))
            sizes[name] = size
    for name, farms in holders.items():
        target = _shard(folder, name)
        there = target.exists() and target.stat().st_size == sizes[name]
        if there and (not check or _is_whole(target)):
            continue
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(_copy_shard(_shard(farm, name), target) for farm in farms):
            counts.update(shards=1, bytes=sizes[name])
        else:
            counts.update(missing=1)
            del sizes[name]
    return Copied(
        farmers=farmers,
        files=len(_files(state)),
        shards=len(sizes),
        bytes=sum(sizes.values()),
        copied_shards=counts['shards'],
        copied_bytes=counts['bytes'],
        missing=counts['missing'],
    )


def _commit(folder: Path, state: Path, done: Copied) -> None:
    """Make a state the one of the backup, once it is on the disk; remove the one before."""
    sums = {str(path): _sum_of(state / path) for path in _files(state)}
    _sync()
    write_record(folder / _MANIFEST, {'state': state.name, 'sums': sums, **asdict(done)})
    for other in folder.glob(f'{_STATE}*'):
        if other != state:
            shutil.rmtree(other)


# ---------------------------------------------------------------- restore


def restore(folder: Path, data: Path) -> Copied:
    """Make the folder of a network from a backup; its name may be another one than before.

    Args:
        folder (Path): of the backup.
        data (Path): of the network; it is missing or empty.

    Returns:
        Copied: what was restored. A farmer whose shards are missing has the bridge told when it
        starts.

    Raises:
        BackupError: If the folder is no backup or damaged, or there is something where the
            network is to be.
        OSError: If something cannot be read or written; the network is refused then.
    """
    manifest = read_record(folder / _MANIFEST, ('state',))
    if manifest is None:
        raise BackupError(f'{folder}: no backup of a network')
    if data.exists() and any(item.name != _OF_THE_DISK for item in data.iterdir()):
        raise BackupError(f'{data}: not empty; existing files are not overwritten')
    state = folder / Path(manifest['state']).name
    if {str(path): _sum_of(state / path) for path in _files(state)} != manifest['sums']:
        raise BackupError(f'{state}: the backup is damaged: the checksums of its files are wrong')
    with closing(FolderLock(data, 'network')):
        counts = _bring_back(folder, state, data, int(manifest['farmers']))
        _sync()
        # The last one: a network without it is refused.
        _copy_file(state / 'network.json', data / 'network.json')
    return Copied(
        farmers=int(manifest['farmers']),
        files=int(manifest['files']),
        shards=int(manifest['shards']),
        bytes=int(manifest['bytes']),
        copied_shards=counts['shards'],
        copied_bytes=counts['bytes'],
        missing=counts['missing'],
    )


def _bring_back(folder: Path, state: Path, data: Path, farmers: int) -> Counter[str]:
    for path in _files(state):
        if path.name != 'network.json':
            _copy_file(state / path, data / path)
    counts: Counter[str] = Counter()
    missing = set()
    for number in range(farmers):
        farm = data / 'farmers' / str(number)
        (farm / 'shards').mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, size in _recorded(state, number):
            target = _shard(farm, name)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _copy_shard(_shard(folder, name), target):
                counts.update(shards=1, bytes=size)
            else:
                missing.add(name)
    return counts + Counter(missing=len(missing))


# ---------------------------------------------------------------- files


def _files(state: Path) -> list[Path]:
    return sorted(path.relative_to(state) for path in state.rglob('*') if path.is_file())


def _recorded(state: Path, number: int) -> list[tuple[str, int]]:
    """Return hash and bytes of the shards that a farmer has recorded."""
    index = state / 'farmers' / str(number) / 'farmer.db'
    with closing(sqlite3.connect(f'{index.absolute().as_uri()}?immutable=1', uri=True)) as database:
        rows = database.execute('SELECT data_hash, size FROM shards')
        return [(name, size) for name, size in rows if is_hash(name)]


def _shard(folder: Path, name: str) -> Path:
    return folder / 'shards' / name[:2] / name


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open('rb', buffering=0) as file:
        while piece := file.read(_PIECE):
            yield piece


def _sum_of(path: Path) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(path):
        digest.update(piece)
    return digest.hexdigest()


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with atomic_file.opened(target, sync=False) as file:
        file.writelines(_pieces(source))


class _DamagedShard(Exception):
    """A shard cannot be read, or has another hash."""


def _checked(source: Path, name: str) -> Iterator[bytes]:
    digest = ShardDigest()
    try:
        for piece in _pieces(source):
            digest.update(piece)
            yield piece
    except OSError as error:
        raise _DamagedShard from error
    if digest.hexdigest() != name:
        raise _DamagedShard


def _is_whole(shard: Path) -> bool:
    try:
        for _ in _checked(shard, shard.name):
            pass
    except _DamagedShard:
        return False
    return True


def _copy_shard(source: Path, target: Path) -> bool:
    """Copy a shard; return False if its file cannot be read, or has another hash."""
    try:
        with atomic_file.opened(target, sync=False) as file:
            file.writelines(_checked(source, target.name))
    except _DamagedShard:
        return False
    return True


def _sync() -> None:
    """Have all that was written on the disk, in one go: there are many small files."""
    if hasattr(os, 'sync'):
        os.sync()
