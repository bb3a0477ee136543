"""The local Storj network: a bridge and farmers that speak the real wire protocols.

``from storj.network import Network`` starts one; nothing else of this package is imported before
it is asked for, because the servers need the extra ``network``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storj.network.faults import Fault, FaultPlan
    from storj.network.supervisor import Network

__all__ = ('FARMERS_LIMIT', 'Fault', 'FaultPlan', 'Network')

#: Farmers of one network at the most: so many were tried, in one process.
FARMERS_LIMIT = 1000


def __getattr__(name: str) -> object:
    if name == 'Network':
        from storj.network.supervisor import Network

        return Network
    if name in ('Fault', 'FaultPlan'):
        from storj.network import faults

        return getattr(faults, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
