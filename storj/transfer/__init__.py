"""The transfer engine: files of any size to and from farmers, in bounded memory.

It is handed a client of the bridge and never imports one; :class:`storj.http.Client` in turn hands
its uploads and downloads over to :class:`Transfers`. The ways of an upload and of a download are
drawn in :mod:`storj.transfer.upload` and :mod:`storj.transfer.gather`.
"""

from __future__ import annotations

from storj.farmer_connection import ChannelLimits
from storj.retry import RetryPolicy
from storj.transfer.channel import Channel
from storj.transfer.config import (
    Bridge,
    BridgeReader,
    DownloadOptions,
    StreamOptions,
    TransferConfig,
    UploadOptions,
)
from storj.transfer.coordinator import Progress, ProgressCallback
from storj.transfer.engine import TransferFuture, Transfers, wait_for
from storj.transfer.gather import FileHealth, ShardHealth
from storj.transfer.journal import JournalEntry, clean_journals, list_journals

__all__ = (
    'Bridge',
    'BridgeReader',
    'Channel',
    'ChannelLimits',
    'DownloadOptions',
    'FileHealth',
    'JournalEntry',
    'Progress',
    'ProgressCallback',
    'RetryPolicy',
    'ShardHealth',
    'StreamOptions',
    'TransferConfig',
    'TransferFuture',
    'Transfers',
    'UploadOptions',
    'clean_journals',
    'list_journals',
    'wait_for',
)
