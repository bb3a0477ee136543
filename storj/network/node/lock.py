"""One process at a time on a folder: a second one would throw away what the first is writing."""

from __future__ import annotations

from pathlib import Path

from storj import file_lock
from storj.exception import NetworkSetupError

__all__ = ('FolderLock',)


class FolderLock:
    """Holds a folder until it is closed; the end of the process releases it too.

    Args:
        folder (Path): made, for its owner only, when it is missing.
        kind (str): of whatever wants the folder: ``network`` or ``farmer``.

    Raises:
        NetworkSetupError: If it is held already, or cannot be used.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._held = file_lock.lock(folder / f'{kind}.lock')
        except OSError as error:
            raise NetworkSetupError(f'{folder}: cannot be used: {error}') from error
        if self._held is None:
            raise NetworkSetupError(f'{folder}: another {kind} runs here')

    def close(self) -> None:
        """Release the folder; may be called twice."""
        held, self._held = self._held, None
        if held is not None:
            file_lock.unlock(held)
