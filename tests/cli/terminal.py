"""A pseudo-terminal with the program in it, driven as a person would."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Sequence

#: Seconds for anything to appear; far more than a loaded machine needs.
PATIENCE = 30.0


class Terminal:
    """Runs a program on a terminal of its own.

    Args:
        arguments (Sequence[str]): of the program.
        environment (dict[str, str]): of the program.
        cwd: its folder.
        forked (bool): whether it is a forked command, which takes the terminal by itself.
    """

    def __init__(
        self, arguments: Sequence[str], environment: dict[str, str], cwd=None, *, forked=False
    ) -> None:
        self._main, other = pty.openpty()
        self.process = subprocess.Popen(
            arguments,
            stdin=other,
            stdout=other,
            stderr=other,
            env=environment,
            cwd=cwd,
            start_new_session=True,
            # A session leader without a terminal gets the one that it opens first.
            preexec_fn=None if forked else lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )
        os.close(other)
        self.raw = ''

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._main)

    @property
    def text(self) -> str:
        """What was written, without the sequences that move and colour."""
        return re.sub(r'\x1b\[[0-9;?]*[A-Za-z]|\r', '', self.raw)

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until the text matches."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.text)) is None:
            if not self._read(deadline):
                raise AssertionError(f'{pattern!r} did not appear in:\n{self.text}')
        return found

    def type(self, text: str) -> None:
        """Type something; the terminal itself makes signals of control characters."""
        os.write(self._main, text.encode())

    def end(self) -> int:
        """Read until the program ends; return its exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def _read(self, deadline: float) -> bool:
        """Read what is there; False at the end of it or of the patience."""
        ready, _, _ = select.select([self._main], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            piece = os.read(self._main, 65536)
        except OSError:
            # Linux says so when the last process has closed the terminal.
            return False
        self.raw += piece.decode('utf-8', 'replace')
        return bool(piece)
