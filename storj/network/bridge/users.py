"""Accounts: registration, activation, deactivation, password reset, and public keys."""

from __future__ import annotations

import secrets
import uuid
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storj.api import hash_password
from storj.digest import is_hex
from storj.exception import NetworkSetupError
from storj.network.bridge.auth import authenticate, basic_credentials, is_public_key
from storj.network.bridge.database import fingerprint
from storj.network.bridge.mail import Kind, done_page, is_email, is_visit, question_page
from storj.network.bridge.state import BRIDGE, Bridge, Release
from storj.network.bridge.tables import Key, User
from storj.network.node.pages import wants_page
from storj.network.node.wire import (
    Refusal,
    Route,
    answer,
    iso_date,
    read_body,
    text,
    vary,
)

_MAX_URL = 2048
#: Where the secret of a message's link is kept, by its kind.
_LINKS = {
    'activation': User.activator,
    'deactivation': User.deactivator,
    'reset': User.resetter,
}
_NO_PASSWORD = 'The new password must come with the confirmation'


def _user_object(user: User, release: Release) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if release.since(5, 19):
        fields['referralPartner'] = user.referral_partner
    if release.since(5, 10):
        fields['preferences'] = {'dnt': False}
    if release.since(3, 2):
        fields['isFreeTier'] = user.free_tier
    fields['activated'] = user.activated
    fields['created'] = iso_date(user.created)
    if release.since(5, 8):
        fields['uuid'] = user.uuid
    fields['email'] = user.email
    # An artefact of the original's data layer that clients read (protocol reference, section 3.2).
    fields['id'] = user.email
    return fields


def _password(body: dict[str, Any]) -> str:
    """Return the hex SHA-256 of the password that a body holds."""
    password = body.get('password')
    if isinstance(password, str) and is_hex(password.lower(), 64):
        return password
    raise Refusal(400, 'Password must be hex encoded SHA-256 hash')


def _redirect(bridge: Bridge, value: object) -> str | None:
    """Return the URL to go to after a link was used; None if it leads to another host.

    Somebody who registers another person's account must not choose where that person is sent.

    Raises:
        Refusal: If it is not a web address (400).
    """
    if value is None or value == '':
        return None
    if isinstance(value, str) and len(value) <= _MAX_URL and value.isprintable():
        try:
            parts = urlsplit(value)
        except ValueError:
            parts = urlsplit('')
        if parts.scheme in ('http', 'https') and parts.netloc:
            ours = urlsplit(bridge.settings.public_url)
            return value if (parts.scheme, parts.netloc) == (ours.scheme, ours.netloc) else None
    raise Refusal(400, 'Invalid redirect supplied')


async def _find(bridge: Bridge, email: str) -> User | None:
    return await bridge.database.run_objects(lambda session: session.get(User, email))


async def _known_user(bridge: Bridge, email: object) -> User:
    user = await _find(bridge, email.lower()) if isinstance(email, str) else None
    if user is None:
        raise Refusal(404, 'User not found')
    return user


def _after_link(request: web.Request, kind: Kind, payload: object) -> web.Response:
    """Answer a used link: redirect to where it says, or send a page, or JSON."""
    redirect = _redirect(request.app[BRIDGE], request.query.get('redirect'))
    if redirect is not None:
        return web.Response(status=302, headers={'Location': redirect})
    response = done_page(kind) if wants_page(request) else answer(payload)
    vary(response, 'Accept')
    return response


async def _new_token(bridge: Bridge, kind: Kind, email: str) -> str:
    """Return the token of a message that may be sent to an account.

    Raises:
        Refusal: If the account gets too many (429).
    """
    await bridge.limits.count_mail(email)
    return secrets.token_hex(32 if kind == 'activation' else 256)


async def _send(
    bridge: Bridge,
    kind: Kind,
    email: str,
    redirect: str | None,
    *,
    wait: bool = True,
    **changes: str | None,
) -> None:
    """Send a message to an account, with a link that replaces earlier ones of its kind.

    Args:
        bridge (Bridge): the bridge.
        kind (Kind): of the message.
        email (str): of the account.
        redirect (str | None): URL to go to after that.
        wait (bool): whether a message that is not sent is an error.
        **changes (str | None): of the account, to be made with it.

    Raises:
        Refusal: If the account gets too many (429), or the message is not sent (400, 503); earlier
            links stay valid then.
    """
    token = await _new_token(bridge, kind, email)
    await bridge.mail.send(kind, email, token, redirect, bridge.now(), wait=wait)
    changes[_LINKS[kind].key] = fingerprint(token)
    change = update(User).where(User.email == email).values(changes)
    await bridge.database.run(lambda connection: connection.execute(change))


async def create_user(request: web.Request) -> web.Response:
    """Register an account."""
    bridge = request.app[BRIDGE]
    await bridge.limits.count_call(request.remote or '')
    body = await read_body(request)
    email = body.get('email')
    if email is None:
        raise Refusal(400, 'Must supply an email')
    if not is_email(email):
        raise Refusal(400, 'Invalid email')
    email = email.lower()
    password = _password(body)
    redirect = _redirect(bridge, body.get('redirect'))
    partner = text(body, 'referralPartner', 255)
    public_key = body.get('pubkey')
    if await _find(bridge, email) is not None:
        raise Refusal(400, 'Email is already registered')
    now = bridge.now()
    if public_key is not None:
        await bridge.database.run_objects(
            lambda session: new_key(session, email, public_key, '', now)
        )
    # Counted only now: an address in use must not cost others their registrations.
    await bridge.limits.count_registration()
    stored = await bridge.passwords.hash(password)
    # Before there is an account: what is not sent leaves nothing, and may be asked for again.
    token = await _new_token(bridge, 'activation', email)
    await bridge.mail.send('activation', email, token, redirect, now)
    user = User(
        email=email,
        password=stored,
        created=now,
        activated=bridge.settings.activation == 'auto',
        uuid=str(uuid.uuid4()),
        referral_partner=partner,
        activator=fingerprint(token),
    )

    def register(session: Session) -> None:
        session.add(user)
        session.flush()
        if public_key is not None:
            session.add(new_key(session, email, public_key, '', now))

    try:
        await bridge.database.run_objects(register)
    except IntegrityError:
        # Registered by another request while the password was hashed.
        raise Refusal(400, 'Email is already registered') from None
    fields = _user_object(user, bridge.release)
    if public_key is not None:
        fields['pubkey'] = public_key
    return answer(fields, 201)


async def resend_activation(request: web.Request) -> web.Response:
    """Send the activation message again."""
    bridge = request.app[BRIDGE]
    await bridge.limits.count_call(request.remote or '')
    body = await read_body(request)
    redirect = _redirect(bridge, body.get('redirect'))
    user = await _known_user(bridge, body.get('email'))
    if user.activated:
        raise Refusal(400, 'User is already activated')
    await _send(bridge, 'activation', user.email, redirect)
    return answer(_user_object(user, bridge.release), 201)


async def activate(request: web.Request) -> web.Response:
    """Activate an account by the token of its message.

    By POST, or by the GET of a client: releases of the time know no other way.
    """
    return await _switch(request, 'activation', Refusal(400, 'Invalid activation token'))


async def deactivate(request: web.Request) -> web.Response:
    """Deactivate an account by the token of its message; its data is kept."""
    return await _switch(request, 'deactivation', Refusal(404, 'User not found'))


async def _switch(request: web.Request, kind: Kind, unknown: Refusal) -> web.Response:
    """Use a link that makes an account active, or not."""
    if is_visit(request):
        return question_page(kind)
    bridge, active = request.app[BRIDGE], kind == 'activation'
    column = _LINKS[kind]
    this = column == fingerprint(request.match_info['token'])
    # Locked: a link is used once.
    query = select(User).where(this).with_for_update()

    def use(session: Session) -> tuple[str, web.Response]:
        user = session.scalar(query)
        if user is None:
            raise unknown
        fields = _user_object(user, bridge.release) | {'activated': active}
        response = _after_link(request, kind, fields)
        user.activated = active
        setattr(user, column.key, None)
        return user.email, response

    email, response = await bridge.database.run_objects(use)
    bridge.accounts.forget(email)
    return response


async def delete_user(request: web.Request) -> web.Response:
    """Begin the deactivation of the caller's account, by a message."""
    bridge = request.app[BRIDGE]
    await bridge.limits.count_call(request.remote or '')
    caller = await authenticate(request)
    redirect = _redirect(bridge, (await read_body(request)).get('redirect'))
    user = await _known_user(bridge, request.match_info['email'])
    if user.email != caller.email:
        raise Refusal(401, 'Not authorized')
    await _send(bridge, 'deactivation', user.email, redirect)
    return answer(_user_object(user, bridge.release))


async def request_reset(request: web.Request) -> web.Response:
    """Begin the reset of a password, by a message.

    Releases before 7.5 take the new password here, later ones with the confirmation. Anybody can
    send one here, so it counts only if the confirmation repeats it. The answer is
    the same whether there is such an account or not.
    """
    bridge = request.app[BRIDGE]
    await bridge.limits.count_call(request.remote or '')
    email = request.match_info['email'].lower()
    if not is_email(email):
        raise Refusal(400, 'Invalid email')
    body = await read_body(request)
    redirect = _redirect(bridge, body.get('redirect'))
    # Hashed for unknown accounts too: the time must not show which accounts exist.
    pending: str | None = None
    if body.get('password') is not None or not bridge.release.since(7, 5):
        pending = await bridge.passwords.hash(_password(body))
    if await _find(bridge, email) is None:
        await bridge.limits.count_mail(email)
    else:
        # Nobody waits for the mail server, nor hears of it: there is none to ask for others.
        await _send(bridge, 'reset', email, redirect, wait=False, pending_password=pending)
    return answer({'email': email, 'id': email})


def _resetting_user(session: Session, token: str) -> User:
    """Return the account that a link resets, locked: a link is used once."""
    if not is_hex(token.lower(), 512):
        raise Refusal(400, 'Resetter must be hex encoded 256 byte string')
    query = select(User).where(User.resetter == fingerprint(token)).with_for_update()
    user = session.scalar(query)
    if user is None:
        raise Refusal(404, 'User not found')
    return user


async def confirm_reset(request: web.Request) -> web.Response:
    """Put the password into force that the reset was asked for with (releases before 7.5).

    The request must repeat it, as the credentials of Basic authentication: the reset may have been
    requested by anyone but the recipient of the message.
    """
    if is_visit(request):
        return question_page('reset')
    bridge = request.app[BRIDGE]
    token = request.match_info['token']
    user = await bridge.database.run_objects(partial(_resetting_user, token=token))
    email, pending = user.email, user.pending_password
    # The sender of the request chose the pending password. Only the reader of the message may
    # put it into force, and proves by repeating it that it is the one meant.
    credentials = basic_credentials(request)
    if pending is None or credentials is None or credentials[0] != email:
        raise Refusal(400, _NO_PASSWORD)
    await bridge.limits.count_call(request.remote or '')
    if not await bridge.passwords.verify(credentials[1], pending):
        raise Refusal(400, _NO_PASSWORD)
    return await _set_password(request, pending)


async def reset(request: web.Request) -> web.Response:
    """Set the password that comes with the confirmation (releases from 7.5 on)."""
    bridge = request.app[BRIDGE]
    await bridge.limits.count_call(request.remote or '')
    if request.content_type == 'application/x-www-form-urlencoded':
        # From the page: a form sends what the person typed.
        typed = (await request.post()).get('password')
        body = {'password': hash_password(typed)} if isinstance(typed, str) and typed else {}
    else:
        body = await read_body(request)
    password = _password(body)
    token = request.match_info['token']
    await bridge.database.run_objects(partial(_resetting_user, token=token))
    return await _set_password(request, await bridge.passwords.hash(password))


async def _set_password(request: web.Request, stored: str) -> web.Response:
    """Put the hash of a password into force; the link is used up."""
    bridge = request.app[BRIDGE]

    def use(session: Session) -> tuple[str, web.Response]:
        # Looked up again: another request may have used the link while the password was hashed.
        user = _resetting_user(session, request.match_info['token'])
        response = _after_link(request, 'reset', _user_object(user, bridge.release))
        user.password, user.pending_password, user.resetter = stored, None, None
        return user.email, response

    email, response = await bridge.database.run_objects(use)
    bridge.accounts.forget(email)
    return response


async def open_account(bridge: Bridge, email: str, password: str, *, known: bool = False) -> None:
    """Create the active account of the bridge's operator, however others are activated.

    Args:
        bridge (Bridge): the bridge.
        email (str): of the account, in lower case.
        password (str): in clear.
        known (bool): whether the account was there before.

    Raises:
        NetworkSetupError: If somebody else has it, or nobody has it who must: the database is
            empty, or that of another network.
    """
    hashed = hash_password(password)
    user = await _find(bridge, email)
    if user is None:
        if known:
            raise NetworkSetupError(
                f'the database does not know the account {email}: it is empty, or of another'
                ' network; name the right one, or restore it from a backup'
            )
        new = bridge.database.insert(User).values(
            email=email,
            password=await bridge.passwords.hash(hashed),
            created=bridge.now(),
            activated=True,
            uuid=str(uuid.uuid4()),
        )
        await bridge.database.run(lambda each: each.execute(new.on_conflict_do_nothing()))
        # Of bridges that start at the same time, one is first, and all read its row.
        user = await _find(bridge, email)
    if user is None or not await bridge.passwords.verify(hashed, user.password):
        raise NetworkSetupError(f'the database has the account {email} with another password')
    # The operator's account has no quotas (protocol reference, section 2.6).
    user.activated, user.free_tier = True, False
    await bridge.database.run_objects(lambda session: session.merge(user))
    bridge.accounts.forget(email)


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
    query = select(Key).where(Key.user == caller.email).order_by(Key.created, Key.key)
    keys = await bridge.database.run_objects(lambda session: session.scalars(query).all())
    return answer([_key_object(key) for key in keys])


async def create_key(request: web.Request) -> web.Response:
    """Register a key."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)
    body = await read_body(request)
    label = text(body, 'label', _MAX_LABEL) or ''
    now = bridge.now()

    def register(session: Session) -> Key:
        key = new_key(session, caller.email, body.get('key'), label, now)
        session.add(key)
        return key

    try:
        key = await bridge.database.run_objects(register)
    except IntegrityError:
        raise Refusal(400, 'Public key is already registered') from None
    return answer(_key_object(key))


async def delete_key(request: web.Request) -> web.Response:
    """Remove a key of the caller's."""
    bridge = request.app[BRIDGE]
    caller = await authenticate(request)

    def remove(session: Session) -> None:
        key = session.get(Key, request.match_info['key'])
        if key is None or key.user != caller.email:
            raise Refusal(404, 'Public key was not found')
        session.delete(key)

    await bridge.database.run_objects(remove)
    return web.Response(status=204)


ROUTES = (
    Route('POST', '/users', create_user),
    Route('DELETE', '/users/{email}', delete_user),
    Route('PATCH', '/users/{email}', request_reset),
    Route('POST', '/activations', resend_activation),
    Route('GET', '/activations/{token}', activate),
    Route('POST', '/activations/{token}', activate),
    Route('GET', '/deactivations/{token}', deactivate),
    Route('POST', '/deactivations/{token}', deactivate),
    Route('GET', '/resets/{token}', confirm_reset),
    Route('POST', '/resets/{token}', reset),
    Route('GET', '/keys', list_keys),
    Route('POST', '/keys', create_key),
    Route('DELETE', '/keys/{key}', delete_key),
)
