"""The node RPC: signed JSON messages between a renter node and a farmer (section 7.3).

A message is one ``POST /``::

    {"method": "ALLOC", "id": "<40 hex>", "params": {..., "contact", "nonce", "signature"}}
    {"id": "<40 hex>", "result": {..., "contact", "nonce", "signature"}, "error": {...}?}

The signature covers the id and the nonce, so it proves who sends and when, not the content: what
matters beyond that (contracts) carries signatures of its own. This module knows the envelope and
nothing of the methods in it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import aiohttp
from aiohttp import web

from storj.exception import StorjError
from storj.network.faults import Disturbance
from storj.network.node.addresses import (
    NETWORK_ERRORS,
    comes_from_here,
    may_call,
    open_session,
    why_unreachable,
)
from storj.network.node.identity import (
    Identity,
    SignatureError,
    derived_public_key,
    is_node_id,
    signer_of_message,
)
from storj.network.node.wire import BODY_SECONDS, parse_date
from storj.system.hosts import is_host
from storj.text import in_url

logger = logging.getLogger(__name__)

#   renter node (bridge)  -- ALLOC, CONSIGN, RETRIEVE, RENEW, MIRROR, AUDIT, PING -->  farmer
#
#   nonce      milliseconds since 1970; a message that is too old or too new is refused
#   signature  "Bitcoin Signed Message" of the text: id followed by nonce
#
# A copy of a message has the same id, and is refused as long as its nonce is valid.

#: A message is taken within this many seconds of its nonce (section 8.1).
NONCE_WINDOW = 15.0
#: Seconds that the other side has to answer.
TIMEOUT = 15.0
#: Bytes of a request or an answer. The longest are audits: 64 proofs of 32 rows make 200 KiB.
MESSAGE_LIMIT = 1024 * 1024

_ERROR_CODE = -32603
_REMEMBERED_MESSAGES = 65536
_VERSION = re.compile(r'(\d{1,5})\.(\d{1,5})\.(\d{1,5})(?:-([0-9A-Za-z.-]{1,64}))?\Z')


class NodeError(StorjError):
    """A node refused a call, or answered what the protocol does not allow.

    Another farmer is tried by itself.

    Attributes:
        message (str): the node's own text.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ClockSkewError(NodeError):
    """A node's messages are genuine, and from another time.

    Correct the clocks of both machines; until then no call between them works.

    Attributes:
        seconds (float): by which the node's clock is ahead; negative if it is behind.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__('Message signature expired')
        self.seconds = seconds


class NodeUnreachableError(StorjError):
    """No connection to a node, or no answer in time.

    Check that the farmer runs and that its address is one the bridge can reach.
    """

    retryable = True


class ContactError(StorjError):
    """The address card of a node is malformed.

    The node that sent it does not speak this protocol; nothing can be done here.
    """


@dataclass(frozen=True)
class NodeContact:
    """The address card of a node (protocol reference, section 7.2).

    Attributes:
        address (str): IP address or host name.
        port (int): 1 to 65535.
        node_id (str): 40 hex characters.
        protocol (str): semantic version of the network protocol, e.g. ``1.2.0``.
        user_agent (str | None): core release, e.g. ``8.7.2``.
        last_seen (int | None): milliseconds since 1970.
        hd_key (str | None): extended public key, of renter nodes only.
        hd_index (int | None): its child that this node is.
        local (bool): whether its address may mean this machine; not if the card came from
            another one.
    """

    address: str
    port: int
    node_id: str
    protocol: str
    user_agent: str | None = None
    last_seen: int | None = None
    hd_key: str | None = None
    hd_index: int | None = None
    local: bool = field(default=True, compare=False)

    @classmethod
    def from_mapping(cls, raw: object, *, local: bool = False) -> NodeContact:
        """Read a contact from the wire.

        Args:
            raw (object): JSON.
            local (bool): whether it came from this machine.

        Raises:
            ContactError: If a field is missing or malformed.
        """
        if not isinstance(raw, Mapping):
            raise ContactError('Invalid contact data supplied')
        address, port = raw.get('address'), raw.get('port')
        node_id, protocol = raw.get('nodeID'), raw.get('protocol')
        user_agent, hd_key, hd_index = raw.get('userAgent'), raw.get('hdKey'), raw.get('hdIndex')
        # Milliseconds between nodes; a bridge passes its record on, which has the date as text.
        said = raw.get('lastSeen')
        last_seen = parse_date(said)
        if not (
            isinstance(address, str)
            and is_host(address)
            and _is_integer(port, 1, 65535)
            and is_node_id(node_id)
            and isinstance(protocol, str)
            and _VERSION.match(protocol)
            and _is_short(user_agent, 64)
            and (said is None or _is_integer(last_seen, 0, 2**53))
            and _is_short(hd_key, 111)
            and (hd_index is None or _is_integer(hd_index, 0, 2**31 - 1))
        ):
            raise ContactError('Invalid contact data supplied')
        return cls(address, port, node_id, protocol, user_agent, last_seen, hd_key, hd_index, local)

    def to_json(self) -> dict[str, Any]:
        """Return the contact as it travels; fields without a value are left out."""
        fields = {
            'address': self.address,
            'port': self.port,
            'nodeID': self.node_id,
            'protocol': self.protocol,
            'userAgent': self.user_agent,
            'lastSeen': self.last_seen,
            'hdKey': self.hd_key,
            'hdIndex': self.hd_index,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def authority(self) -> str:
        """``address:port``, as it stands in URLs."""
        return f'{in_url(self.address)}:{self.port}'

    @property
    def url(self) -> str:
        """``http://address:port``, the node's RPC and HTTP shards."""
        return f'http://{self.authority}'


def is_compatible(local: str, remote: str) -> bool:
    """Return whether two protocol versions may speak to each other (section 1.5).

    The major must be the same, below 1.0 the minor too, and a prerelease tag always.
    """
    mine, theirs = _VERSION.match(local), _VERSION.match(remote)
    if not mine or not theirs or mine[4] != theirs[4] or mine[1] != theirs[1]:
        return False
    # Below 1.0 each minor release changed the protocol.
    return int(mine[1]) > 0 or mine[2] == theirs[2]


Handler = Callable[[Mapping[str, Any], NodeContact], Awaitable[Mapping[str, Any]]]


class RpcServer:
    """The receiving end: checks the envelope and hands the call to its method.

    Args:
        identity (Identity): signs the answers.
        contact (Callable[[], NodeContact]): this node's address card.
        handlers (Mapping[str, Handler]): by method; each takes the params and the sender's
            contact, ``local`` if it is on this machine, and returns the result, or raises
            :class:`NodeError` to refuse, or another error of ours.
        clock (Callable[[], float]): seconds since 1970.
        monotonic (Callable[[], float]): seconds that nobody sets.

    Attributes:
        clock (Callable[[], float]): as given.
        handlers (dict[str, Handler]): as given.
    """

    def __init__(
        self,
        identity: Identity,
        contact: Callable[[], NodeContact],
        handlers: Mapping[str, Handler],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity = identity
        self._contact = contact
        self.handlers = dict(handlers)
        self.clock = clock
        self._monotonic = monotonic
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def handle(
        self, request: web.Request, disturb: Callable[[str], Disturbance] | None = None
    ) -> web.StreamResponse:
        """Answer ``POST /``.

        Args:
            request (web.Request): what came.
            disturb (Callable[[str], Disturbance] | None): returns the fault to cause for a method.
        """
        try:
            body = await asyncio.wait_for(
                read_limited(request.content, MESSAGE_LIMIT), BODY_SECONDS
            )
        except asyncio.TimeoutError:
            return web.Response(status=408)
        if body is None:
            return web.json_response({'error': 'Message too long'}, status=413)
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            message = None
        if (
            not isinstance(message, dict)
            or not isinstance(message.get('method'), str)
            or not isinstance(message.get('params'), dict)
            or not is_node_id(message.get('id'))
        ):
            # The text of the original's web framework for an error thrown at this point.
            return web.json_response(
                {'code': 'BadRequest', 'message': 'Invalid RPC message'}, status=400
            )
        local = comes_from_here(request)
        disturbance = disturb(message['method']) if disturb is not None else None
        if not disturbance:
            return web.json_response(await self._answer(message, local))
        early = await disturbance.before(request, field_name='error')
        if early is not None:
            return early
        answer = web.json_response(await self._answer(message, local))
        return await disturbance.after(request, answer)

    async def _answer(self, message: dict[str, Any], local: bool) -> dict[str, Any]:
        identifier, method = message['id'], message['method']
        result: Mapping[str, Any] = {}
        refusal: str | None = None
        try:
            handler = self.handlers.get(method)
            if handler is None:
                raise NodeError('Method not found')
            sender = _verify(message['params'], identifier, self._contact(), self.clock())
            self._remember(sender.node_id, identifier)
            logger.debug('%s from %s', method, sender.node_id)
            result = await handler(message['params'], replace(sender, local=local))
        except (NodeError, ContactError) as error:
            refusal = str(error)
            logger.debug('refused %s: %s', method[:32], refusal)
        except StorjError as error:
            # A failure of this node, such as a full disk: the caller tries another one.
            refusal = str(error)
            logger.warning('cannot answer %s: %s', method[:32], refusal)
        answer: dict[str, Any] = {
            'jsonrpc': '2.0',
            'id': identifier,
            'result': {
                **result,
                **_envelope(self._identity, self._contact(), identifier, self.clock()),
            },
        }
        if refusal is not None:
            answer['error'] = {'code': _ERROR_CODE, 'message': refusal}
        return answer

    def _remember(self, node_id: str, identifier: str) -> None:
        """Refuse a message that was taken before; a nonce too old is refused by its age."""
        # The other clock may be set back, and nothing would be forgotten any more.
        now = self._monotonic()
        while self._seen and next(iter(self._seen.values())) < now - 2 * NONCE_WINDOW:
            self._seen.popitem(last=False)
        # The signature covers id and nonce only, so a copy of a message could carry other params.
        if (node_id, identifier) in self._seen:
            raise NodeError('Message was already received')
        # Refused and not forgotten: a forgotten id could be sent again.
        if len(self._seen) >= _REMEMBERED_MESSAGES:
            raise NodeError('Too many messages')
        self._seen[node_id, identifier] = now


class RpcClient:
    """The calling end, for renter nodes.

    Args:
        identity (Identity): signs the calls.
        contact (Callable[[], NodeContact]): this node's address card.
        clock (Callable[[], float]): seconds since 1970.
    """

    def __init__(
        self,
        identity: Identity,
        contact: Callable[[], NodeContact],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._identity = identity
        self._contact = contact
        self._clock = clock
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def call(
        self,
        target: NodeContact,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float = TIMEOUT,
    ) -> Mapping[str, Any]:
        """Call a method of another node.

        Args:
            target (NodeContact): who is called; the answer must be signed by it.
            method (str): e.g. ``ALLOC``.
            params (Mapping[str, Any] | None): of the method; the envelope is added here.
            timeout (float): seconds for the whole call.

        Returns:
            Mapping[str, Any]: the result.

        Raises:
            NodeError: If the node refused, or its answer is not a valid one.
            ClockSkewError: If its clock differs from the one here.
            NodeUnreachableError: If there is no connection, or no answer in time.
        """
        identifier = secrets.token_hex(20)
        # A node of protocol 0.x takes no contact of 1.x and the other way round. The envelope is
        # the same in both, so each is spoken to as one of its own.
        contact = replace(self._contact(), protocol=target.protocol)
        message = {
            'jsonrpc': '2.0',
            'method': method,
            'id': identifier,
            'params': {
                **(params or {}),
                **_envelope(self._identity, contact, identifier, self._clock()),
            },
        }
        answer = await self._post(target, message, timeout)
        result = answer.get('result')
        if answer.get('id') != identifier or not isinstance(result, dict):
            raise NodeError('Invalid RPC answer')
        said = result.get('contact')
        if isinstance(said, dict) and said.get('nodeID') != target.node_id:
            raise NodeError('The answer comes from another node')
        try:
            _verify(result, identifier, contact, self._clock())
        except ContactError as error:
            raise NodeError(str(error)) from error
        if answer.get('error') is not None:
            refusal = answer['error']
            text = refusal.get('message') if isinstance(refusal, dict) else None
            raise NodeError(text[:500] if isinstance(text, str) else 'The node refused')
        return result

    async def close(self) -> None:
        """Close the connections."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    def _session(self, local: bool) -> aiohttp.ClientSession:
        if local not in self._sessions:
            self._sessions[local] = open_session(local=local)
        return self._sessions[local]

    async def _post(
        self, target: NodeContact, message: Mapping[str, Any], timeout: float
    ) -> dict[str, Any]:
        if not may_call(target.address, local=target.local):
            raise NodeUnreachableError(f'{target.address} must not be called from here')
        try:
            async with self._session(target.local).post(
                f'{target.url}/',
                json=message,
                headers={'x-storj-node-id': target.node_id},
                timeout=aiohttp.ClientTimeout(total=timeout),
                allow_redirects=False,
            ) as response:
                body = await read_limited(response.content, MESSAGE_LIMIT)
                status = response.status
        except NETWORK_ERRORS as error:
            reason = why_unreachable(error)
            raise NodeUnreachableError(f'{target.address}:{target.port}: {reason}') from error
        if status != 200 or body is None:
            raise NodeError(f'The node answered with status {status}')
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise NodeError('Invalid RPC answer') from error
        if not isinstance(answer, dict):
            raise NodeError('Invalid RPC answer')
        return answer


async def read_limited(stream: aiohttp.StreamReader, limit: int) -> bytes | None:
    """Read a body to its end; return None as soon as it is longer than `limit` bytes."""
    parts = bytearray()
    while chunk := await stream.readany():
        parts += chunk
        if len(parts) > limit:
            return None
    return bytes(parts)


def _envelope(
    identity: Identity, contact: NodeContact, identifier: str, now: float
) -> dict[str, Any]:
    nonce = int(now * 1000)
    return {
        'contact': contact.to_json(),
        'nonce': nonce,
        'signature': identity.sign_message(f'{identifier}{nonce}'),
    }


def _verify(
    part: Mapping[str, Any], identifier: str, local: NodeContact, now: float
) -> NodeContact:
    """Return the contact in the params or the result once all of its checks have passed."""
    contact = NodeContact.from_mapping(part.get('contact'))
    if not is_compatible(local.protocol, contact.protocol):
        raise NodeError('Protocol version is incompatible')
    nonce = part.get('nonce')
    if not _is_integer(nonce, 0, 2**53):
        raise NodeError('Message signature expired')
    # The originals take a nonce from the future; here it must be within the window as well, so
    # that remembering the last 30 seconds is enough against replays.
    ahead = nonce / 1000 - now
    late = abs(ahead) > NONCE_WINDOW
    try:
        _verify_signature(part.get('signature'), f'{identifier}{nonce}', contact)
    except NodeError as error:
        if not late:
            raise
        raise NodeError('Message signature expired') from error
    if late:
        raise ClockSkewError(ahead)
    return contact


def _verify_signature(signature: object, text: str, contact: NodeContact) -> None:
    """Refuse a signature that the owner of a contact has not made."""
    if not isinstance(signature, str):
        raise NodeError('Invalid signature supplied')
    try:
        node_id, public_key = signer_of_message(text, signature)
        if node_id != contact.node_id:
            raise NodeError('Signature verification failed')
        if contact.hd_key is not None:
            index = contact.hd_index or 0
            if derived_public_key(contact.hd_key, index) != public_key:
                raise NodeError('Invalid derived public key')
    except SignatureError as error:
        raise NodeError('Invalid signature supplied') from error


def _is_short(value: object, limit: int) -> TypeGuard[str | None]:
    """Return whether a field is missing, or a text of so many characters at most."""
    return value is None or (isinstance(value, str) and len(value) <= limit)


def _is_integer(value: object, low: int, high: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
