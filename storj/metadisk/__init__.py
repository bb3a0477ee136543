"""Client of a MetaDisk node: upload and download with the JSON API of 2014.

::

    node = MetaDisk('http://127.0.0.1:6382')
    reference = node.upload('cat.jpg')             # '<filehash>?key=<key>'
    node.download(reference, 'copy.jpg')

A node encrypts on its side, so it sees what is uploaded to it; what must stay secret is encrypted
before, or stored through the bridge. The way back needs less trust: by default a file is fetched
without its key, checked against its filehash and decrypted here, so the node learns nothing from a
download and cannot pass off other bytes.

Beside :mod:`storj.http`, on the same bounds of :mod:`storj.rest`; knows neither bridge nor farmers.
"""

from __future__ import annotations

from storj.crypto.convergent import Reference
from storj.metadisk.client import MetaDisk
from storj.metadisk.records import Coin, Download, FileRecord, NodeStatus, Price

__all__ = ('Coin', 'Download', 'FileRecord', 'MetaDisk', 'NodeStatus', 'Price', 'Reference')
