"""Storj HTTP module: the bridge's REST calls, one method each.

:class:`Client` is the whole of it; the modules beside it move and read the answers and know no
route. Files are moved by :mod:`storj.transfer`, to which the client hands itself.
"""

from __future__ import annotations

from storj.http.client import DEFAULT_BRIDGE, Client
from storj.http.paging import Pages
from storj.http.transport import Retries

__all__ = ('DEFAULT_BRIDGE', 'Client', 'Pages', 'Retries')
