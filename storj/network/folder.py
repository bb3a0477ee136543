"""The folder of a network: its lock, its account and keys, and what must be in it."""

from __future__ import annotations

import secrets
import sqlite3
import tempfile
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

from storj.crypto import mnemonic
from storj.digest import is_hex
from storj.exception import MnemonicError, NetworkSetupError
from storj.network.node.identity import Identity
from storj.network.node.state_files import (
    FolderLock,
    LostStateError,
    begun_farm,
    check_database,
    known_farmers,
    lost,
    read_record,
    remains,
    require_network,
    unusable,
    write_record,
)
from storj.system import atomic_file
from storj.text import count_of

_EMAIL = 'user@example.org'


class FewerFarmersError(NetworkSetupError):
    """A network would start with fewer farmers than it has.

    Take all of them, or use --drain.
    """

    #: The message says what to do.
    hint = ''


class IntactFarmerError(NetworkSetupError):
    """A farmer is to begin again that has lost nothing.

    Start without --new-farmer and its number.
    """

    #: The message says what to do.
    hint = ''


class NetworkFolder:
    """Everything that a network keeps; one process has it at a time.

    Args:
        path (Path | None): made when it is missing; None for one that is removed in the end.

    Attributes:
        path (Path): as given, or made.
        email (str): of the network's account.
        password (str): of the account.
        mnemonic (str): encryption key for the account.
        seed (bytes): of the renter node.
        farmers (int | None): how many it has, all of which have been up; None if they have not
            been yet, so that nothing is missed.

    Raises:
        NetworkSetupError: If it cannot be used, or is in use.
        LostStateError: If ``network.json`` is missing beside the rest, or damaged.
    """

    def __init__(self, path: Path | None) -> None:
        self._temporary = None
        if path is None:
            self._temporary = tempfile.TemporaryDirectory(prefix='storj-network-')
            path = Path(self._temporary.name)
        self.path = path
        self._lock: FolderLock | None = None
        try:
            self._lock = FolderLock(path, 'network')
            self._record = self._read(path / 'network.json')
        except BaseException:
            self.close()
            raise
        self.email = self._record['email']
        self.password = self._record['password']
        self.mnemonic = self._record['mnemonic']
        self.seed = bytes.fromhex(self._record['renter_seed'])
        self.farmers = known_farmers(path, self._record)

    def _read(self, path: Path) -> dict[str, Any]:
        """Read account and keys, or make them up in a folder that has nothing yet."""
        record = read_record(path, ('email', 'password', 'mnemonic', 'renter_seed'))
        if record is None:
            if left := remains(self.path):
                raise lost(path, f'is missing beside {", ".join(left[:3])}')
            record = {
                'email': _EMAIL,
                'password': secrets.token_urlsafe(18),
                'mnemonic': mnemonic.generate(),
                'renter_seed': secrets.token_hex(32),
                'farmers': None,
                'own_database': True,
            }
            write_record(path, record)
        if not is_hex(record['renter_seed'], 64):
            raise lost(path, 'is damaged: renter_seed is not 64 hex characters')
        try:
            mnemonic.check(record['mnemonic'])
        except MnemonicError as error:
            raise lost(path, f'is damaged: {error}') from error
        return record

    def close(self) -> None:
        """Release the folder, and remove a temporary one; may be called twice."""
        if self._lock is not None:
            self._lock.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def farm(self, number: int) -> Path:
        """Return the folder of a farmer."""
        return self.path / 'farmers' / str(number)

    def keep_farmers(self, count: int) -> None:
        """Write down how many farmers there are; all of them have been up."""
        self.farmers = count
        self._keep(farmers=count)

    def _keep(self, **values: object) -> None:
        """Write values down that the record does not have yet; earlier versions wrote fewer."""
        record = {**self._record, **values}
        if record != self._record:
            self._record = record
            write_record(self.path / 'network.json', record)

    def check(self, *, own_database: bool, new_farmers: Collection[int] = ()) -> None:
        """Refuse a folder in which something is missing that it had.

        Args:
            own_database (bool): whether the bridge's database lies in it.
            new_farmers (Collection[int]): numbers of farmers that are lost; what is left
                of their folders gets another name.

        Raises:
            LostStateError: If something is missing, empty or damaged.
            IntactFarmerError: If a new farmer is to replace one that has lost nothing.
            NetworkSetupError: If there are no such farmers, or a folder cannot be renamed.
        """
        there = range(self.farmers or 0)
        if not set(new_farmers) <= set(there):
            raise NetworkSetupError(
                f'{self.path}: it has {count_of(len(there), "farmer")}, from 0 on'
            )
        if self.farmers is None:
            self._keep(own_database=own_database)
            return
        kept = [number for number in there if number not in new_farmers]
        require_network(self.path, kept, own_database=own_database)
        for farm in map(self.farm, new_farmers):
            if _is_intact(farm):
                raise IntactFarmerError(
                    f'{farm}: nothing in it is missing or damaged; start without --new-farmer'
                    f' {farm.name}'
                )
        # Before a folder has another name, by which it does not count.
        self._keep(farmers=self.farmers, own_database=own_database)
        for number in new_farmers:
            _set_aside(self.farm(number))

    def check_farmers(self, count: int, *, drain: bool = False) -> None:
        """Refuse to go on with fewer farmers than there are.

        Args:
            count (int): of farmers.
            drain (bool): those beyond it leave; refused only if nobody stays to take their shards.

        Raises:
            FewerFarmersError: If there are more.
        """
        known = self.farmers or 0
        if count >= known or (drain and count):
            return
        stored = [_stored(self.farm(number) / 'farmer.db') for number in range(count, known)]
        shards, size = (sum(numbers) for numbers in zip(*stored, strict=True))
        if drain and not shards:
            return
        advice = (
            'take at least one to move them to'
            if drain
            else f'take all {known}, or move what these store to the others first with --drain'
        )
        raise FewerFarmersError(
            f'{self.path}: it has {count_of(known, "farmer")}, and those beyond {count} store '
            f'{count_of(shards, "shard")}, {count_of(size, "byte")}; {advice}'
        )


def _stored(index: Path) -> tuple[int, int]:
    """Return how many shards a farmer stores that does not run, and their bytes."""
    shards, size = _first(index, 'SELECT count(*), total(size) FROM shards')
    return shards, int(size)


def _first(index: Path, statement: str) -> Any:
    """Return the first row that a database gives, None if there is none."""
    try:
        with closing(sqlite3.connect(index)) as database:
            return database.execute(statement).fetchone()
    except sqlite3.Error as error:
        raise unusable(index, error) from error


def _is_intact(farm: Path) -> bool:
    """Return whether a farmer that does not run has all that it needs."""
    index = farm / 'farmer.db'
    try:
        if not begun_farm(farm):
            return False
        check_database(index)
        shards, _ = _stored(index)
        own = Identity.load(farm / 'identity.key').node_id
        known = _first(index, "SELECT value FROM notes WHERE name = 'node_id'")
    except LostStateError:
        return False
    return known in (None, (own,)) and (not shards or any(farm.glob('shards/*/*')))


def _set_aside(folder: Path) -> None:
    """Give what is left of a farmer another name, so that one can begin again."""
    try:
        if folder.exists() and any(folder.iterdir()):
            aside = folder.with_name(f'{folder.name}.lost-{secrets.token_hex(4)}')
            atomic_file.replace(folder, aside)
    except OSError as error:
        raise NetworkSetupError(f'{folder}: cannot be renamed: {error.strerror}') from error
