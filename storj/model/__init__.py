"""Storj model module: the records that travel between the bridge and a program.

Field names are those of the wire (``nodeID``, ``lastSeen``). Every class takes and keeps fields
that it does not document, because bridges gained fields with every release; see
:class:`storj.object.Object` for what all records can do. Knows no client: a record that acts
(:meth:`Bucket.delete`, :meth:`File.download`) does so through the client that made it.
"""

from __future__ import annotations

from storj.model.audit import MerkleTree, Shard, ShardManager
from storj.model.keyring import Keyring
from storj.model.records import (
    Bucket,
    Contact,
    ExchangeReport,
    File,
    FileMirrors,
    FilePointer,
    Frame,
    Key,
    Mirror,
    Token,
    User,
)

__all__ = (
    'Bucket',
    'Contact',
    'ExchangeReport',
    'File',
    'FileMirrors',
    'FilePointer',
    'Frame',
    'Key',
    'Keyring',
    'MerkleTree',
    'Mirror',
    'Shard',
    'ShardManager',
    'Token',
    'User',
)
