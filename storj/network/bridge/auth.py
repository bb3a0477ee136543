"""Authentication: Basic, ECDSA signatures with nonces, and the bridge's one-time tokens.

The order of checks is the original's (protocol reference, section 2.2): Basic wins over ECDSA; a
signature is checked before its key is looked up, and a nonce is used up by an otherwise valid
request only.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass
from functools import partial

from aiohttp import web
from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storj.network.bridge.database import fingerprint
from storj.network.bridge.state import BRIDGE, Account, Bridge
from storj.network.bridge.tables import Bucket, Entry, Frame, Key, Nonce, Token, User
from storj.network.node.clock import lasts
from storj.network.node.secp256k1 import CURVE
from storj.network.node.wire import Refusal, Route, answer, iso_date, object_id, read_body, read_raw

_OPERATIONS = ('PUSH', 'PULL')
_SHORT_TOKEN_LIFE = 5 * 60 * 1000
#: Milliseconds.
LONG_TOKEN_LIFE = 60 * 60 * 1000
_MAX_NONCE = 256
# Longest honest values: an uncompressed key, and a DER signature of two 33-byte numbers.
_MAX_KEY = 130
_MAX_SIGNATURE = 144

# Asked for with every request, so built once.
_USER = select(User.password, User.activated).where(User.email == bindparam('email'))
_KEY = (
    select(Key.user, User.activated)
    .outerjoin(User, User.email == Key.user)
    .where(Key.key == bindparam('key'))
)
_NONCE = insert(Nonce)
_TAKE = (
    delete(Token)
    .where(Token.token == bindparam('known'))
    .returning(Token.bucket, Token.operation, Token.expires)
)


@dataclass(frozen=True)
class Caller:
    """Who sent an authenticated request.

    Attributes:
        email (str): of the account.
        public_key (str | None): the key that signed the request, as it was registered.
    """

    email: str
    public_key: str | None = None


class _UnknownKey(Refusal):
    """The signature is right, and no account has its key."""

    def __init__(self, public_key: str) -> None:
        super().__init__(401, 'Public key not registered')
        self.public_key = public_key


async def authenticate(request: web.Request) -> Caller:
    """Return who sent a request.

    Raises:
        Refusal: If nobody is authenticated (401), or the account is not active (403; 401 before
            bridge 5).
    """
    bridge = request.app[BRIDGE]
    credentials = basic_credentials(request)
    # Basic wins if both are sent (protocol reference, section 2).
    if credentials is not None:
        return await _by_password(bridge, request.remote or '', *credentials)
    if request.headers.get('x-signature') and request.headers.get('x-pubkey'):
        public_key = await _signer(request)
        nonce = await _nonce(request)
        return await _by_key(bridge, public_key, nonce)
    raise Refusal(401, 'No authentication strategy detected')


def basic_credentials(request: web.Request) -> tuple[str, str] | None:
    """Return name, in lower case, and password of the Basic header, if both are there."""
    scheme, _, encoded = request.headers.get('authorization', '').partition(' ')
    if scheme.lower() != 'basic':
        return None
    try:
        name, _, password = base64.b64decode(encoded).decode().partition(':')
    except (ValueError, binascii.Error):
        return None
    return (name.lower(), password) if name and password else None


async def _by_password(bridge: Bridge, address: str, email: str, password: str) -> Caller:
    user = bridge.accounts.get(email)
    stored = user.password if user else None
    if not bridge.passwords.knows(password, stored):
        # Looked up again: it may have been changed just now, at another bridge.
        user = await _account(bridge, email)
        stored = user.password if user else None
    # Also for an unknown account: the time must not show which accounts exist. Only an expensive
    # check counts against the limit: a remembered password costs nothing.
    count = partial(bridge.limits.count_password, address, email)
    if not await bridge.passwords.verify(password, stored, count):
        raise Refusal(401, 'Invalid email or password')
    if stored is not None and bridge.passwords.is_outdated(stored):
        await _hash_anew(bridge, email, password, stored)
    _require_active(bridge, user is not None and user.activated)
    return Caller(email)


async def _account(bridge: Bridge, email: str) -> Account | None:
    """Look an account up."""
    # No database keeps the character NUL, and some refuse to look for it.
    if '\0' in email:
        return None
    row = await bridge.database.read(
        lambda connection: connection.execute(_USER, {'email': email}).one_or_none()
    )
    if row is None:
        return None
    return bridge.accounts.put(email, Account(*row))


async def _hash_anew(bridge: Bridge, email: str, password: str, stored: str) -> None:
    """Replace a hash that was made with less effort than today's."""
    made = await bridge.passwords.hash(password)
    # Unless the password was changed meanwhile.
    same = update(User).where(User.email == email, User.password == stored)
    await bridge.database.run(lambda connection: connection.execute(same.values(password=made)))
    bridge.accounts.forget(email)


async def _by_key(bridge: Bridge, public_key: str, nonce: str | None) -> Caller:
    def check(connection: Connection) -> Caller:
        # As text, as in the original: the other encoding of the same point is another key.
        key = connection.execute(_KEY, {'key': public_key}).one_or_none()
        if key is None:
            raise _UnknownKey(public_key)
        if key.activated is None:
            raise Refusal(401, 'User not found')
        _require_active(bridge, key.activated)
        _use_nonce(bridge, connection, key.user, nonce)
        return Caller(key.user, public_key)

    return await bridge.database.run(check)


def _use_nonce(bridge: Bridge, connection: Connection, user: str, nonce: str | None) -> None:
    """Record a nonce forever: its signature stays valid, so the request must not.

    Raises:
        Refusal: If there is none, or it was used before (401).
    """
    if nonce is None:
        raise Refusal(401, 'Invalid nonce supplied')
    row = {'user': user, 'nonce': fingerprint(nonce), 'created': bridge.now()}
    try:
        connection.execute(_NONCE, row)
    except IntegrityError:
        raise Refusal(401, 'Invalid nonce supplied') from None


def _require_active(bridge: Bridge, activated: bool) -> None:
    if not activated:
        status = 403 if bridge.release.since(5) else 401
        raise Refusal(status, 'User account has not been activated')


async def _signer(request: web.Request) -> str:
    """Return the text of the key that signed a request.

    Raises:
        Refusal: If the signature is wrong, or it or the key cannot be read (401).
    """
    public_key = request.headers['x-pubkey']
    signature = request.headers['x-signature']
    # Path and query as they were transmitted: decoding them would break the signature.
    path, _, query = request.raw_path.partition('?')
    if request.method in ('POST', 'PUT', 'PATCH'):
        parameters = await read_raw(request)
    elif request.method in ('GET', 'HEAD', 'DELETE', 'OPTIONS'):
        parameters = query.encode('utf-8', 'surrogateescape')
    else:
        parameters = b''
    head = f'{request.method}\n{path}\n'.encode('utf-8', 'surrogateescape')
    if not _verify(public_key, signature, head + parameters):
        raise Refusal(401, 'Invalid signature')
    return public_key


def _verify(public_key: str, signature: str, message: bytes) -> bool:
    if len(public_key) > _MAX_KEY or len(signature) > _MAX_SIGNATURE:
        return False
    try:
        # Clients of the time send the high-S form as well as the low one (section 2.2).
        raw = bytes.fromhex(signature)
        return CURVE.verify(bytes.fromhex(public_key), raw, message, high_s=True)
    except ValueError:
        return False


async def _nonce(request: web.Request) -> str | None:
    """Return the nonce as text, from the body or the query; None if there is no valid one."""
    if request.method in ('POST', 'PUT', 'PATCH'):
        value = (await read_body(request)).get('__nonce')
    else:
        value = request.query.get('__nonce')
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_NONCE else None


def is_public_key(value: object) -> bool:
    """Return whether a value is the hex text of a point of secp256k1."""
    if not isinstance(value, str) or len(value) not in (66, 130):
        return False
    try:
        CURVE.compressed(bytes.fromhex(value))
    except ValueError:
        return False
    # fromhex() skips white space, so its length tells whether there was some.
    return len(bytes.fromhex(value)) * 2 == len(value)


def owned_bucket(session: Session, caller: Caller, bucket_id: str, *, lock: bool = False) -> Bucket:
    """Return a bucket of the caller's; locked until the end of the transaction, if that is wanted.

    Raises:
        Refusal: If the id is malformed (400), or the bucket is unknown or another user's (404).
    """
    bucket = session.get(Bucket, object_id(bucket_id, 'Bucket'), with_for_update=lock)
    if bucket is None or bucket.user != caller.email:
        raise Refusal(404, 'Bucket not found')
    return bucket


async def reachable_bucket(request: web.Request, bucket_id: str, operation: object) -> Bucket:
    """Return a bucket that is public for an operation, the caller's own, or open to its key.

    The three ways of section 2.3, in this order.

    Raises:
        Refusal: If the normal authentication fails, or there is no such bucket (404).
    """
    bridge = request.app[BRIDGE]
    key = object_id(bucket_id, 'Bucket')
    bucket = await bridge.database.run_objects(lambda session: session.get(Bucket, key))
    if bucket is not None and operation in bucket.public_permissions:
        return bucket
    try:
        caller = await authenticate(request)
    except _UnknownKey as refusal:
        if bucket is None or refusal.public_key not in bucket.public_keys:
            raise
        nonce = await _nonce(request)
        # Separate from the nonces of the owner's own keys, so that nobody can use those up in
        # advance.
        marked = nonce and f'{refusal.public_key} {nonce}'
        owner = bucket.user
        await bridge.database.run(
            lambda connection: _use_nonce(bridge, connection, owner, marked or None)
        )
        return bucket
    if bucket is None or not (
        bucket.user == caller.email or caller.public_key in bucket.public_keys
    ):
        raise Refusal(404, 'Bucket not found')
    return bucket


async def create_token(request: web.Request) -> web.Response:
    """Make a one-time token for a bucket."""
    bridge = request.app[BRIDGE]
    body = await read_body(request)
    operation = body.get('operation')
    bucket_id = request.match_info['bucket']
    if bridge.release.since(5, 12):
        caller = await authenticate(request)
        bucket = await bridge.database.run_objects(
            lambda session: owned_bucket(session, caller, bucket_id)
        )
    else:
        bucket = await reachable_bucket(request, bucket_id, operation)
    # After the bucket: its errors come first in the original.
    if operation not in _OPERATIONS:
        raise Refusal(400, 'Token validation failed: operation is PUSH or PULL')
    token = secrets.token_hex(32)
    life = LONG_TOKEN_LIFE if bridge.release.since(5, 15, 1) else _SHORT_TOKEN_LIFE
    expires = bridge.now() + life

    def make(session: Session) -> dict[str, object]:
        described: dict[str, object] = {}
        if operation == 'PULL' and body.get('file') is not None and bridge.release.since(3):
            entry = session.get(Entry, object_id(body['file'], 'File'))
            if entry is None or entry.bucket != bucket.id:
                raise Refusal(404, 'Bucket entry not found')
            frame = session.get_one(Frame, entry.frame)
            described = {'mimetype': entry.mimetype, 'size': frame.size}
        session.add(
            Token(token=fingerprint(token), bucket=bucket.id, operation=operation, expires=expires)
        )
        return described

    described = await bridge.database.run_objects(make)
    return answer(
        {
            'bucket': bucket.id,
            'operation': operation,
            'expires': iso_date(expires),
            'token': token,
            'id': token,
            'encryptionKey': bucket.encryption_key,
            **described,
        },
        201,
    )


async def use_token(bridge: Bridge, token: str, bucket_id: str, operation: str) -> None:
    """Use up a token for a bucket; it is gone even if the request fails after that.

    Raises:
        Refusal: If the token is unknown, used or expired (500, as every release of the original
            answers and clients expect), or another bucket's or operation's (401).
    """
    # In one statement, so that only one of two requests finds it.
    known = await bridge.database.run(
        lambda connection: connection.execute(_TAKE, {'known': fingerprint(token)}).one_or_none()
    )
    if known is None or not lasts(known.expires - LONG_TOKEN_LIFE, LONG_TOKEN_LIFE, bridge.now()):
        raise Refusal(500, 'Invalid or expired token')
    if (known.bucket, known.operation) != (bucket_id, operation):
        raise Refusal(401, 'Not authorized')


ROUTES = (Route('POST', '/buckets/{bucket}/tokens', create_token),)
