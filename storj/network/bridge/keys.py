"""Public keys of users."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storj.network.bridge.auth import authenticate, is_public_key
from storj.network.bridge.database import Key
from storj.network.bridge.state import BRIDGE
from storj.network.node.wire import Refusal, Route, answer, read_body, text

__all__ = ('ROUTES', 'new_key')

_MAX_LABEL = 255


def _key_object(key: Key) -> dict[str, Any]:
    return {'user': key.user, 'label': key.label, 'key': key.key, 'id': key.key}


def new_key(session: Session, email: str, value: object, label: str, now: int) -> Key:
    """Return the record of a new key, not yet added.

    Raises:
        Refusal: If it is not a public key, or is registered already (400).
    """
    if isinstance(value, str) and ':' in value:
        raise Refusal(
            400,
            'Invalid public key supplied: Must not contain non-hexidecimal characters like ":"',
        )
    if not isinstance(value, str) or not is_public_key(value):
        raise Refusal(400, 'Invalid public key supplied: Invalid public key supplied')
    if session.get(Key, value) is not None:
        raise Refusal(400, 'Public key is already registered')
    return Key(key=value, user=email, label=label, created=now)


async def list_keys(request: web.Request) -> web.Response:
    """List the caller's keys."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    with bridge.database.begin() as session:
        keys = session.scalars(
            select(Key).where(Key.user == caller.email).order_by(Key.created, Key.key)
        )
        return answer([_key_object(key) for key in keys])


async def create_key(request: web.Request) -> web.Response:
    """Register a key."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    body = await read_body(request)
    label = text(body, 'label', _MAX_LABEL) or ''
    try:
        with bridge.database.begin() as session:
            key = new_key(session, caller.email, body.get('key'), label, bridge.now())
            session.add(key)
    except IntegrityError:
        raise Refusal(400, 'Public key is already registered') from None
    return answer(_key_object(key))


async def delete_key(request: web.Request) -> web.Response:
    """Remove a key of the caller's."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    with bridge.database.begin() as session:
        key = session.get(Key, request.match_info['key'])
        if key is None or key.user != caller.email:
            raise Refusal(404, 'Public key was not found')
        session.delete(key)
    return web.Response(status=204)


ROUTES = (
    Route('GET', '/keys', list_keys),
    Route('POST', '/keys', create_key),
    Route('DELETE', '/keys/{key}', delete_key),
)
