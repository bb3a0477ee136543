"""The files of networks and farmers, and what the loss of each one means.

Used by starts, which refuse a folder in which something is missing that cannot be created again,
and by backups. A file that no row of the tables names fails a test.

The log of a database (``-wal``) belongs to it: a copy of a running network's database without the
log loses the last commits, and nothing detects that.
"""

from __future__ import annotations

import errno
import hashlib
import json
import sqlite3
import stat
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Literal

from storj.crypto import secret_file
from storj.exception import NetworkSetupError
from storj.system import file_lock

#: ``record``, ``database``: without it the folder is refused. ``shard``: one that is missing or
#: damaged is found out, and the bridge has it copied from another farmer. ``message``: kept for
#: people only. ``scratch``: of the process that runs, made again at each start, or done without.
Kind = Literal['record', 'database', 'shard', 'message', 'scratch']


@dataclass(frozen=True)
class StateFile:
    """Files of one kind in a folder.

    Attributes:
        pattern (str): of the path in the folder; ``*`` stands for any part of a name.
        kind (Kind): what its absence means.
        holds (str): what is in it, for messages.
        remedy (str): what to do when it is lost and there is no backup.
        optional (bool): whether only some versions or moments have it.
    """

    pattern: str
    kind: Kind
    holds: str = ''
    remedy: str = ''
    optional: bool = False

    @property
    def vital(self) -> bool:
        """Whether a folder without it is refused."""
        return self.kind in ('record', 'database') and not self.optional


class LostStateError(NetworkSetupError):
    """A file of a network or a farmer is missing or damaged that cannot be made again.

    Restore it from a backup ('storj network restore'), or do what the message says besides.
    """

    #: The message says what to do.
    hint = ''


class BarredStateError(NetworkSetupError):
    """A file of a network or a farmer cannot be used now, and need not be damaged.

    See to the space, the free inodes and the rights of its folder, and start again.
    """

    #: For the command line.
    hint = 'check the space, the free inodes and the rights of its folder, and start again'


class FolderInUseError(NetworkSetupError):
    """Another process uses the folder of a network or a farmer."""


_NEW_NETWORK = 'or begin another network in an empty folder'
_NEW_FARMER = 'or begin a new farmer in an empty folder, and let bridges replace the copies'
_NEW_FARMER_HERE = (
    'or give it up with --new-farmer and its number, and the bridge replaces its copies'
)

FARMER_FILES = (
    StateFile('identity.key', 'record', 'the key by which bridges know the farmer', _NEW_FARMER),
    StateFile('farmer.db', 'database', 'the contracts for its shards', _NEW_FARMER),
    StateFile('shards', 'shard', 'what the farmer stores', _NEW_FARMER),
    StateFile('shards/*/*', 'shard'),
    StateFile('quarantine/*/*', 'scratch'),
    StateFile('incoming/*', 'scratch'),
    StateFile('farmer.db-*', 'scratch'),
    StateFile('farmer.lock', 'scratch'),
)
NETWORK_FILES = (
    StateFile('network.json', 'record', 'account, encryption key and seed', _NEW_NETWORK),
    StateFile(
        'metadisk/node.json', 'record', 'the account of the MetaDisk node', _NEW_NETWORK, True
    ),
    # In the order in which a backup copies them: what one names, those after it hold.
    StateFile(
        'metadisk/node.db', 'database', 'the files and balances of MetaDisk', _NEW_NETWORK, True
    ),
    StateFile('bridge.db', 'database', 'accounts, files and contracts', _NEW_NETWORK),
    *(
        replace(file, pattern=f'farmers/*/{file.pattern}', remedy=_NEW_FARMER_HERE)
        for file in FARMER_FILES
    ),
    StateFile('outbox/*', 'message'),
    StateFile('*.db-*', 'scratch'),
    StateFile('metadisk/*.db-*', 'scratch'),
    StateFile('network.log', 'scratch'),
    StateFile('network.lock', 'scratch'),
    StateFile('control.json', 'scratch'),
    # Bytes of the disk for when it is full.
    StateFile('reserve', 'scratch'),
)
#: Of a backup.
BACKUP_FILES = (
    StateFile('manifest.json', 'record', 'which state is whole', 'or take another backup'),
)


class FolderLock:
    """Holds a folder until it is closed; the end of the process releases it too.

    One process at a time: a second one would throw away what the first is writing.

    Args:
        folder (Path): made, for its owner only, when it is missing.
        kind (str): of whatever wants the folder: ``network`` or ``farmer``.

    Raises:
        FolderInUseError: If it is held already.
        NetworkSetupError: If it cannot be used.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._held = file_lock.lock(folder / f'{kind}.lock')
        except OSError as error:
            raise NetworkSetupError(f'{folder}: cannot be used: {error}') from error
        if self._held is None:
            raise FolderInUseError(f'{folder}: another {kind} runs here')

    def close(self) -> None:
        """Release the folder; may be called twice."""
        held, self._held = self._held, None
        if held is not None:
            file_lock.unlock(held)


def file_of(files: Iterable[StateFile], path: PurePath) -> StateFile | None:
    """Return the row for a path in a folder, None if there is none."""
    parts = path.parts
    for file in files:
        pattern = PurePath(file.pattern).parts
        if len(pattern) == len(parts) and path.match(file.pattern):
            return file
    return None


def lost(path: Path, problem: str) -> LostStateError:
    """Return the error for a vital file that cannot be used, with what to do."""
    # Patterns match from the right, so that the folder above need not be known.
    row = next(
        file for file in (*NETWORK_FILES, *FARMER_FILES, *BACKUP_FILES) if path.match(file.pattern)
    )
    return LostStateError(
        f'{path}: {" ".join(problem.split())}; it holds {row.holds}. Mount its disk or restore it'
        f' from a backup, {row.remedy}'
    )


def unusable(path: Path, error: sqlite3.Error | OSError) -> NetworkSetupError:
    """Return the error for a vital file that cannot be used: whether it is lost, or something else.

    Args:
        path (Path): the file.
        error (sqlite3.Error | OSError): of SQLite, or of the system.
    """
    # SQLITE_CORRUPT and SQLITE_NOTADB have the class itself, and what keeps from a file that
    # is whole (no space, no rights, a lock) has the one below it; Python 3.10 tells no codes.
    if type(error) is sqlite3.DatabaseError or getattr(error, 'errno', None) == errno.EIO:
        return lost(path, f'cannot be used: {error}')
    return BarredStateError(f'{path}: cannot be used: {error}')


def _problem(path: Path) -> str | None:
    """Return in words why there is nothing in a file, None if there is.

    Raises:
        BarredStateError: If that cannot be found out.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return 'is missing'
    except OSError as error:
        raise unusable(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        return 'is no file'
    return None if found.st_size else 'is empty'


def _require(folder: Path, paths: Iterable[str]) -> None:
    """Refuse a folder in which vital files are missing or empty, with all of their names.

    Raises:
        LostStateError: If one is.
    """
    bad = {path: problem for path in paths if (problem := _problem(folder / path))}
    if bad:
        first, *others = bad
        also = ''.join(f', and {path} {bad[path]}' for path in others)
        raise lost(folder / first, bad[first] + also)


def begun_farm(folder: Path) -> bool:
    """Return whether a farmer has run on a folder before; its key is made last.

    Raises:
        LostStateError: If it has, and something is missing, a disk that is not mounted say.
    """
    if _problem(folder / 'identity.key') == 'is missing':
        if any((folder / 'shards').glob('*/*')):
            raise lost(folder / 'identity.key', 'is missing')
        return False
    _require(folder, [file.pattern for file in FARMER_FILES if file.vital])
    return True


def require_network(folder: Path, farmers: Collection[int], *, own_database: bool) -> None:
    """Refuse the folder of a network that was up before, if something is missing since.

    Args:
        folder (Path): of the network.
        farmers (Collection[int]): numbers of those that must be there.
        own_database (bool): whether the bridge's database lies in the folder.

    Raises:
        LostStateError: If something is missing, empty or damaged.
    """
    paths = [file.pattern for file in NETWORK_FILES if file.vital and '*' not in file.pattern]
    if not own_database:
        paths.remove('bridge.db')
    for number in farmers:
        paths += [f'farmers/{number}/{file.pattern}' for file in FARMER_FILES if file.vital]
    _require(folder, paths)
    for path in paths:
        # A farmer looks at its own database when it opens it.
        if path.endswith('.db') and not path.startswith('farmers'):
            check_database(folder / path)


def remains(folder: Path) -> list[str]:
    """Return the vital files that are in the folder of a network."""
    return sorted(
        str(path.relative_to(folder))
        for file in NETWORK_FILES
        if file.vital
        for path in folder.glob(file.pattern)
    )


def known_farmers(folder: Path, record: Mapping[str, Any]) -> int | None:
    """Return how many farmers a network has, None if they have not been up yet.

    Args:
        folder (Path): of the network.
        record (Mapping[str, Any]): what its ``network.json`` holds.
    """
    if 'farmers' in record:
        count: int | None = record['farmers']
        return count
    # Earlier versions did not write the number down, and made this record first. What a farmer
    # is missing is found out by the number; others have more in their names.
    names = [path.name for path in folder.glob('farmers/*')]
    numbers = [int(name) for name in names if name.isascii() and name.isdigit()]
    return max(numbers) + 1 if numbers else 0 if remains(folder)[1:] else None


def check_database(path: Path) -> None:
    """Read a database of SQLite through, to find out whether its structure is whole.

    Raises:
        LostStateError: If it is not, or has no tables.
        BarredStateError: If it cannot be read now.
    """
    try:
        with closing(sqlite3.connect(path)) as database:
            (verdict,) = database.execute('PRAGMA quick_check(1)').fetchone()
            (tables,) = database.execute('SELECT count(*) FROM sqlite_master').fetchone()
    except sqlite3.Error as error:
        raise unusable(path, error) from error
    if verdict != 'ok':
        raise lost(path, f'is damaged: {verdict}')
    if not tables:
        raise lost(path, 'has no tables')


def read_record(path: Path, names: Collection[str]) -> dict[str, Any] | None:
    """Return what :func:`write_record` wrote, None if there is no such file.

    Args:
        path (Path): the file.
        names (Collection[str]): of the fields of text that it must have.

    Raises:
        LostStateError: If the file is not what was written.
        BarredStateError: If it cannot be read now.
    """
    try:
        record = json.loads(path.read_text('utf-8'))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unusable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise lost(path, 'is damaged') from error
    if not isinstance(record, dict) or not all(isinstance(record.get(n), str) for n in names):
        raise lost(path, 'is damaged')
    # Those of earlier versions have no sum.
    if record.pop('sum', None) not in (None, _sum(record)):
        raise lost(path, 'is damaged: it was changed')
    return record


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a few values, for their owner only, with a sum by which damage is found.

    Raises:
        LostStateError: If they cannot be written.
    """
    secret_file.write(path, json.dumps({**record, 'sum': _sum(record)}, indent=2) + '\n')


def _sum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
