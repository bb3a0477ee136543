"""Every limit of the engine, in one frozen object."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from storj.retry import RetryPolicy
from storj.transfer.channel import ChannelLimits
from storj.transfer.encryption import KeyScheme

__all__ = ('TransferConfig',)

_MIB = 1024 * 1024


@dataclass(frozen=True)
class TransferConfig:
    """Every limit of the engine.

    The memory that transfers take does not depend on the size of the files. It is, at most::

        shard threads  x 3 x piece_size        a piece read, encrypted, and in the channel's hands
        hash_workers   x piece_size            a piece that is being hashed
        buffer_size                             shards between their hash and their push
        transfers      x 8 MiB                 stripes of one file while parity is made or used
        about 1 KiB for each shard of the files under way

    with ``concurrency + negotiations`` shard threads: 144 MiB with the defaults. What does not fit
    there lies in the temporary folder: the parity shards of an upload, a source that can be read
    only once, and the shards of a stream: those ahead of its reader and, if the file has parity,
    up to 32 behind it.

    Attributes:
        concurrency (int): shards of one file that are pushed at once. All files together have
            ``concurrency + negotiations`` shards on their way.
        negotiations (int): contracts asked for at once for one file; contracts run ahead of the
            pushes by as many shards. Bridges before 5.15 get one contract at a time.
        transfers (int): files at once.
        hash_workers (int): threads that encrypt and hash.
        piece_size (int): bytes that are read, encrypted and sent at a time; a multiple of 16.
        buffer_size (int): bytes of encrypted shards, of all uploads together, that wait in memory
            for their push; beyond that, and with 0, shards are read and encrypted a second time.
        shard_size (int | None): bytes of a shard; by default as libstorj decides.
        challenges (int): audits that are prepared for each shard.
        parity (bool): whether uploads get parity shards where the bridge knows them.
        shard_attempts (int): farmers that are tried for one shard.
        bridge_retry (RetryPolicy): for requests to the bridge.
        shard_deadline (float | None): seconds for one shard with all its attempts.
        deadline (float | None): seconds for one transfer.
        channel (ChannelLimits): when a farmer counts as gone or stalled.
        upload_rate (float | None): bytes per second of all uploads together.
        download_rate (float | None): bytes per second of all downloads together.
        pointer_page (int): pointers that are asked for at a time.
        pointer_life (float): seconds after which an unused pointer is fetched afresh; the tokens
            of some farmers live for 30 minutes.
        look_ahead (int): shards that a stream fetches ahead of its reader.
        hedge_after (float): seconds that the last shards may lag behind the others before parity
            shards are fetched in their place; a farmer that fails brings them at once.
        temp_dir (str | os.PathLike | None): folder for temporary files; the system's by default.
        state_dir (str | os.PathLike | None): folder for journals; the user's state folder of this
            package by default.
        fsync (bool): whether a download is forced to the disk before it gets its name.
        reports (bool): whether exchange reports are sent.
        key_scheme (str | None): ``v0`` or ``text``, for files of the JavaScript clients, which
            know no index: core library 6.0.4 and later, or 5.1.0 to 6.0.3. Uploads make the key so
            that these can read the file, without parity unless it is asked for; downloads make it
            so of a file that has neither index nor HMAC. By default uploads take a random index
            where the bridge keeps one, and else v0.
        allow_unauthenticated (bool): whether downloads take files that have no HMAC, from bridges
            before 5.3, which keep none: nothing proves that such a file is what was stored.
        flush_seconds (float): how long closing waits for reports that are still to be sent.
    """

    concurrency: int = 16
    negotiations: int = 4
    transfers: int = 4
    hash_workers: int = 2
    piece_size: int = 256 * 1024
    buffer_size: int = 96 * _MIB
    shard_size: int | None = None
    challenges: int = 4
    parity: bool = True
    shard_attempts: int = 7
    bridge_retry: RetryPolicy = field(default_factory=RetryPolicy)
    shard_deadline: float | None = None
    deadline: float | None = None
    channel: ChannelLimits = field(default_factory=ChannelLimits)
    upload_rate: float | None = None
    download_rate: float | None = None
    pointer_page: int = 32
    pointer_life: float = 900.0
    look_ahead: int = 8
    hedge_after: float = 5.0
    temp_dir: str | os.PathLike[str] | None = None
    state_dir: str | os.PathLike[str] | None = None
    fsync: bool = False
    reports: bool = True
    key_scheme: KeyScheme | None = None
    allow_unauthenticated: bool = False
    flush_seconds: float = 5.0

    def __post_init__(self) -> None:
        for name in (
            'concurrency',
            'negotiations',
            'transfers',
            'hash_workers',
            'challenges',
            'shard_attempts',
            'pointer_page',
            'look_ahead',
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'{name} is a whole number of at least 1, not {value!r}')
        if self.key_scheme not in (None, 'v0', 'text'):
            raise ValueError(f"key_scheme is None, 'v0' or 'text', not {self.key_scheme!r}")
        if self.piece_size < 4096 or self.piece_size % 16 or self.piece_size > 16 * _MIB:
            raise ValueError('piece_size is a multiple of 16, from 4096 bytes to 16 MiB')
        for name in ('shard_deadline', 'deadline', 'upload_rate', 'download_rate'):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f'{name} is positive or None, not {value!r}')
        for name in ('pointer_life', 'hedge_after', 'flush_seconds', 'buffer_size'):
            if not getattr(self, name) >= 0:
                raise ValueError(f'{name} is not negative')

    def journal_dir(self) -> Path:
        """Return the folder where journals lie."""
        if self.state_dir is not None:
            return Path(self.state_dir) / 'transfers'
        # Only transfers that keep a journal need it.
        import appdirs

        return Path(appdirs.user_state_dir('storj')) / 'transfers'
