"""The MetaDisk node: the JSON API of 2014, the web page, and the files of both on the farmers.

::

    browser, program --- /accounts, /api, page ---> routes, website
                                                        |
                                        node (spool, ledger, catalogue)
                                                        |
                                                     storage
                                                        |
                                  bridge's own wire API and the farmers' channels

The node shares the bridge's address and process, and is a client of it like any other: its files
are entries of a bucket in an account of its own.
"""

from __future__ import annotations

from storj.network.metadisk.mount import mount
from storj.network.metadisk.node import NODE, MetaDiskNode, Settings

__all__ = ('NODE', 'MetaDiskNode', 'Settings', 'mount')
