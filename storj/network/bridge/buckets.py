"""Buckets."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any

from aiohttp import web
from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storj.network.bridge.auth import authenticate, is_public_key, owned_bucket
from storj.network.bridge.state import BRIDGE
from storj.network.bridge.tables import Bucket, Token, User
from storj.network.bridge.upkeep.removals import remove_some
from storj.network.node.tasks import others_first
from storj.network.node.wire import Refusal, Route, answer, iso_date, parse_date, read_body, text
from storj.sharding import bucket_id

#: Buckets in one answer (protocol reference, section 8.1).
LIST_LIMIT = 5000

_MAX_NAME = 260
#: Before the date of any file.
_BEGINNING = -(2**53)
_MAX_KEYS = 1000
_MAX_ENCRYPTION_KEY = 4096
_PERMISSIONS = ('PUSH', 'PULL')


def _bucket_object(bucket: Bucket) -> dict[str, Any]:
    return {
        'user': bucket.user,
        'encryptionKey': bucket.encryption_key,
        'publicPermissions': bucket.public_permissions,
        'created': iso_date(bucket.created),
        'name': bucket.name,
        'pubkeys': bucket.public_keys,
        'status': 'Active',
        # Both are always 0 from bridge 1.0 on; clients of 0.x showed them.
        'transfer': 0,
        'storage': 0,
        'id': bucket.id,
    }


def start_date(request: web.Request) -> int | None:
    """Return the ``startDate`` of a listing in milliseconds; entries created later are listed.

    Raises:
        Refusal: If it is not a date (400).
    """
    value = request.query.get('startDate')
    if not value:
        return None
    date = parse_date(value)
    if date is None:
        raise Refusal(400, 'Invalid startDate supplied')
    return date


def _public_keys(value: object) -> list[str]:
    if (
        not isinstance(value, list)
        or len(value) > _MAX_KEYS
        or not all(is_public_key(key) for key in value)
    ):
        raise Refusal(400, 'Invalid public key supplied')
    return list(dict.fromkeys(value))


async def list_buckets(request: web.Request) -> web.Response:
    """List the caller's buckets, oldest first."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    after = start_date(request)
    query = select(Bucket).where(Bucket.user == caller.email)
    if after is not None:
        query = query.where(Bucket.created > after)
    query = query.order_by(Bucket.created).limit(LIST_LIMIT)
    # A page of 5000 buckets takes long to build.
    return await bridge.database.apart(
        lambda session: answer([_bucket_object(bucket) for bucket in session.scalars(query)])
    )


async def create_bucket(request: web.Request) -> web.Response:
    """Make a bucket."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    body = await read_body(request)
    name = body.get('name')
    if name is None or name == '':
        # As bridge 1.1 and later (section 3.4).
        name = f'Bucket-{secrets.token_hex(3)}'
    if not isinstance(name, str):
        raise Refusal(400, 'Invalid bucket name')
    if len(name) > _MAX_NAME:
        raise Refusal(400, 'Maximum bucket name')
    keys = _public_keys(body.get('pubkeys') or [])
    if caller.public_key is not None and caller.public_key not in keys:
        # As the original: a bucket that a key made is open to that key (section 3.4).
        keys.append(caller.public_key)
    fields = {
        'id': bucket_id(caller.email, name),
        'user': caller.email,
        'name': name,
        'public_keys': keys,
        'public_permissions': [],
        'encryption_key': '',
    }
    now = bridge.now()

    def make(session: Session) -> Bucket:
        # Other requests of the account wait, so that no two buckets get one date.
        session.execute(select(User.email).where(User.email == caller.email).with_for_update())
        # Strictly ascending within an account, so that no page of a listing loses a bucket that was
        # made in the same millisecond as the last one of the page before.
        newest = session.scalar(select(func.max(Bucket.created)).where(Bucket.user == caller.email))
        bucket = Bucket(**fields, created=max(now, (newest or 0) + 1))
        session.add(bucket)
        return bucket

    try:
        bucket = await bridge.database.run_objects(make)
    except IntegrityError:
        raise Refusal(409, 'Name already used by another bucket') from None
    return answer(_bucket_object(bucket), 201)


async def get_bucket(request: web.Request) -> web.Response:
    """Describe a bucket."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    bucket = await bridge.database.run_objects(
        lambda session: owned_bucket(session, caller, request.match_info['bucket'])
    )
    return answer(_bucket_object(bucket))


async def update_bucket(request: web.Request) -> web.Response:
    """Change the keys, the public permissions or the public key of encryption."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    body = await read_body(request)
    encryption_key = text(body, 'encryptionKey', _MAX_ENCRYPTION_KEY)
    permissions = body.get('publicPermissions')

    def change(session: Session) -> Bucket:
        bucket = owned_bucket(session, caller, request.match_info['bucket'])
        if body.get('pubkeys') is not None:
            bucket.public_keys = _public_keys(body['pubkeys'])
        if encryption_key is not None:
            bucket.encryption_key = encryption_key
        if permissions is not None:
            if not isinstance(permissions, list) or any(
                permission not in _PERMISSIONS for permission in permissions
            ):
                raise Refusal(400, 'Bucket validation failed: publicPermissions are PUSH and PULL')
            bucket.public_permissions = list(dict.fromkeys(permissions))
        return bucket

    return answer(_bucket_object(await bridge.database.run_objects(change)))


async def delete_bucket(request: web.Request) -> web.Response:
    """Remove a bucket and its entries."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    bucket = await bridge.database.run_objects(
        lambda session: owned_bucket(session, caller, request.match_info['bucket'])
    )
    last: int | None = _BEGINNING
    while last is not None:
        await others_first()
        last = await bridge.database.run(partial(remove_some, bucket=bucket.id, after=last))
    await others_first()

    def remove(session: Session) -> None:
        # Who makes a file waits for the end of this, or this for the end of that.
        bucket_there = owned_bucket(session, caller, bucket.id, lock=True)
        # What came meanwhile.
        last: int | None = _BEGINNING
        while last is not None:
            last = remove_some(session.connection(), bucket.id, last)
        session.execute(delete(Token).where(Token.bucket == bucket.id))
        session.delete(bucket_there)

    await bridge.database.run_objects(remove)
    return web.Response(status=204)


async def get_bucket_id(request: web.Request) -> web.Response:
    """Return the id of the caller's bucket with a name."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    name = request.match_info['name']
    bucket = await bridge.database.run_objects(
        lambda session: session.get(Bucket, bucket_id(caller.email, name))
    )
    if bucket is None or bucket.user != caller.email or bucket.name != name:
        raise Refusal(404, 'Bucket not found')
    return answer({'id': bucket.id})


ROUTES = (
    Route('GET', '/buckets', list_buckets),
    Route('POST', '/buckets', create_bucket),
    Route('GET', '/buckets/{bucket}', get_bucket),
    Route('PATCH', '/buckets/{bucket}', update_bucket),
    Route('DELETE', '/buckets/{bucket}', delete_bucket),
    Route('GET', '/bucket-ids/{name}', get_bucket_id),
)
