"""What the page shows of the network beyond the bridge's own status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from storj.network.metadisk.node import NODE
from storj.network.metadisk.routes import json_answer

__all__ = ('Space', 'Spaces', 'overview_route')


@dataclass(frozen=True)
class Space:
    """What a farmer uses of what it offers, in bytes."""

    used: int
    offered: int


#: Gives the space of the farmers that are known, by node id.
Spaces = Callable[[], Mapping[str, Space]]


def overview_route(spaces: Spaces | None) -> web.RouteDef:
    """Return the route ``GET /api/network``: ``charging``, and ``spaces`` by node id."""

    async def overview(request: web.Request) -> web.Response:
        known = spaces() if spaces is not None else {}
        return json_answer(
            request,
            {
                'charging': request.app[NODE].settings.charge,
                'spaces': {node_id: vars(space) for node_id, space in known.items()},
            },
        )

    return web.get('/api/network', overview)
