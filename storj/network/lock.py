"""One process at a time on a folder: a second one would throw away what the first is writing."""

from __future__ import annotations

import os
from pathlib import Path

from storj.exception import NetworkSetupError

try:
    import fcntl
except ImportError:  # not a POSIX system; two on one folder are not noticed there
    fcntl = None  # type: ignore[assignment]

__all__ = ('FolderLock',)


def _for_owner(path: str, flags: int) -> int:
    # Whoever can read the file can lock it.
    return os.open(path, flags, 0o600)


class FolderLock:
    """Holds a folder until it is closed; the end of the process lets go of it too.

    Args:
        folder (Path): made, for its owner only, when it is missing.
        kind (str): of whatever wants the folder: ``network`` or ``farmer``.

    Raises:
        NetworkSetupError: it is held already, or cannot be used.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = open(folder / f'{kind}.lock', 'w', opener=_for_owner)  # noqa: SIM115
        except OSError as error:
            raise NetworkSetupError(f'{folder}: cannot be used: {error}') from error
        try:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise NetworkSetupError(f'{folder}: another {kind} runs here') from error
        except OSError as error:
            self._file.close()
            raise NetworkSetupError(f'{folder}: cannot be locked: {error}') from error

    def close(self) -> None:
        """Let go of the folder; may be called twice."""
        self._file.close()
