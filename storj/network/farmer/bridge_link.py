"""A farmer's way to its bridge: registration, heartbeat and exchange reports, over HTTP.

Requests carry the farmer's signature in their headers (protocol reference, section 3.9). The
bridge may be away when the farmer starts, and may come back without any memory of it: the link
registers again and again until it is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from storj.api import parse_version
from storj.digest import is_hex
from storj.exception import StorjError
from storj.network.node.addresses import NETWORK_ERRORS, why_unreachable
from storj.network.node.identity import Identity
from storj.network.node.rpc import NodeContact, read_limited
from storj.network.node.tasks import Tasks

logger = logging.getLogger(__name__)

#: Seconds between two signs of life.
HEARTBEAT = 60.0
#: Seconds between two attempts to reach a bridge that is away: the first, and the most.
RETRY_FIRST, RETRY_MOST = 0.25, 10.0
#: Seconds for one request.
TIMEOUT = 30.0
#: Seconds that the proof of work may take before the challenge is given up.
WORK_LIMIT = 900.0
#: Bytes of an answer.
ANSWER_LIMIT = 65536
#: Bytes of the description that a bridge gives of itself, with all of its routes.
DESCRIPTION_LIMIT = 1024 * 1024
#: Reports that wait or are on their way; more are dropped, as they are courtesy only.
REPORTS = 256
#: Reports in one request, of which a bridge takes 100.
REPORTS_PER_CALL = 64
#: Seconds that a report waits for others, unless copies depend on it.
REPORT_PAUSE = 0.5

# What changes nothing for the copies of a shard.
_PATIENT = frozenset({'SHARD_DOWNLOADED', 'SHARD_EXISTS'})
# What a bridge of ours says to a farmer that has not registered.
_UNKNOWN = 'Contact not found'
# The first release of the bridge that farmers register at (protocol reference, section 3.9).
_REGISTERING = (6, 0, 0)


class BridgeLinkError(StorjError):
    """The bridge cannot be reached, or does not take this farmer.

    The farmer tries again by itself; check its bridge URL.

    Attributes:
        status (int | None): HTTP status, if there was an answer.
    """

    retryable = True

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RegistrationUnknownError(BridgeLinkError):
    """The bridge is of a release that farmers do not register at; trying again does not help.

    Farmers of those networks find each other by a protocol that this farmer does not speak. Use a
    bridge from 6.0 on, or one of 'storj network up'.
    """

    retryable = False


class BridgeLink:
    """Keeps a farmer known at its bridge.

    Args:
        url (str): of the bridge, ``http://host:port``; what is signed begins with it, as given.
        identity (Identity): of the farmer.
        contact (Callable[[], NodeContact]): its address card at the time.
        space_available (Callable[[], bool]): whether it takes more shards.
        space_offered (Callable[[], int | None]): bytes that it offers in all; not said if None.
        workers (Executor): threads for the proof of work.
        heartbeat (float): seconds between two announcements.
        clock (Callable[[], float]): seconds since 1970.

    Attributes:
        url (str): as given, without a slash at the end.
        registered (asyncio.Event): set while the bridge knows the farmer.

    Raises:
        ValueError: If the URL is not one of HTTP.
    """

    def __init__(
        self,
        url: str,
        identity: Identity,
        contact: Callable[[], NodeContact],
        space_available: Callable[[], bool],
        workers: Executor,
        *,
        space_offered: Callable[[], int | None] = lambda: None,
        heartbeat: float = HEARTBEAT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ('http', 'https') or not parts.hostname:
            raise ValueError(f'{url!r} is not the URL of a bridge')
        self.url = url.rstrip('/')
        self.registered = asyncio.Event()
        self._identity = identity
        self._contact = contact
        self._space_available = space_available
        self._space_offered = space_offered
        self._workers = workers
        self._heartbeat = heartbeat
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._reporter: asyncio.Task[None] | None = None
        self._reports: deque[dict[str, Any]] = deque()
        # Set when they are to be sent, and when none is left.
        self._due, self._told = asyncio.Event(), asyncio.Event()
        self._told.set()
        self._takes_many = True
        self._closing = threading.Event()

    def start(self, tasks: Tasks) -> None:
        """Begin to register, and to stay registered, in the background.

        Args:
            tasks (Tasks): fail with a RegistrationUnknownError if the bridge never takes a farmer.
        """
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=TIMEOUT)
        )
        self._keeper = tasks.start('the link to the bridge', self._keep())
        self._reporter = tasks.start('the exchange reports', self._send_reports())

    async def close(self) -> None:
        """Stop; reports that are on their way get a moment to arrive."""
        self._closing.set()
        self._due.set()
        if self._reporter is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._told.wait(), 1.0)
        tasks = [task for task in (self._keeper, self._reporter) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    def report(
        self,
        data_hash: str,
        begun: float,
        message: str,
        *,
        farmer_id: str | None = None,
        success: bool = True,
    ) -> None:
        """Send an exchange report in the background (section 9); a failure is logged only.

        Args:
            data_hash (str): shard hash.
            begun (float): seconds since 1970.
            message (str): e.g. ``SHARD_UPLOADED``.
            farmer_id (str | None): the farmer that had the shard; by default this one.
            success (bool): result code 1000 instead of 1100.
        """
        if self._closing.is_set() or len(self._reports) >= REPORTS:
            logger.warning('exchange report %s of %s is dropped', message, data_hash)
            return
        body = {
            'dataHash': data_hash,
            'reporterId': self._identity.node_id,
            'farmerId': farmer_id or self._identity.node_id,
            'exchangeStart': int(begun * 1000),
            'exchangeEnd': int(self._clock() * 1000),
            'exchangeResultCode': 1000 if success else 1100,
            'exchangeResultMessage': message,
        }
        self._reports.append(body)
        self._told.clear()
        if message in _PATIENT:
            asyncio.get_running_loop().call_later(REPORT_PAUSE, self._due.set)
        else:
            self._due.set()

    async def announce(self) -> None:
        """Tell the bridge address, port, protocol and whether there is space; register if need be.

        Raises:
            BridgeLinkError: If the bridge cannot be reached, or refuses.
        """
        contact = self._contact()
        # `userAgent` is ours: bridges from 6.0 on do not ask a farmer for it, and ignore it.
        body: dict[str, Any] = {
            'address': contact.address,
            'port': contact.port,
            'spaceAvailable': self._space_available(),
            'protocol': contact.protocol,
            'userAgent': contact.user_agent,
        }
        if (offered := self._space_offered()) is not None:
            body['spaceOffered'] = offered
        try:
            await self._request('PATCH', f'/contacts/{contact.node_id}', body)
        except BridgeLinkError as error:
            if error.status != 404:
                raise
            await self._register(body)
        self.registered.set()

    async def depart(self) -> int:
        """Ask the bridge for permission to leave, given once others have the wanted copies.

        Returns:
            int: shards that others have too few copies of; 0 when the bridge has forgotten this
                farmer.

        Raises:
            BridgeLinkError: If the bridge cannot be reached, or knows no departures.
        """
        try:
            answer = await self._request('DELETE', f'/contacts/{self._contact().node_id}', {})
        except BridgeLinkError as error:
            if error.status == 404 and str(error) == _UNKNOWN:
                return 0
            if error.status in (404, 405, 501):
                raise BridgeLinkError(
                    f'the bridge at {self.url} has no route for farmers that leave', error.status
                ) from error
            raise
        remaining = answer.get('remaining')
        if isinstance(remaining, bool) or not isinstance(remaining, int) or remaining < 0:
            raise BridgeLinkError('The bridge does not say how many shards remain')
        return remaining

    @property
    def in_touch(self) -> bool:
        """Whether the bridge knows the farmer, and answers."""
        return self.registered.is_set()

    async def unneeded(self, names: Sequence[str]) -> set[str] | None:
        """Return which of some shards whose contracts have ended may be dropped.

        Args:
            names (Sequence[str]): hashes, up to 1000.

        Returns:
            set[str] | None: those; None if the bridge has no such route.

        Raises:
            BridgeLinkError: If it does not answer.
        """
        answer = await self._tell_shards({'ended': list(names)})
        if answer is None:
            return None
        unneeded = answer.get('unneeded')
        if not isinstance(unneeded, list):
            raise BridgeLinkError('The bridge does not say what is unneeded')
        return {name for name in names if name in unneeded}

    async def tell_bad(self, names: Sequence[str]) -> bool:
        """Tell the bridge which shards turned out to be missing or wrong.

        Args:
            names (Sequence[str]): hashes, up to 1000.

        Returns:
            bool: whether the bridge takes such a message.

        Raises:
            BridgeLinkError: If it does not answer.
        """
        return await self._tell_shards({'bad': list(names)}) is not None

    async def _tell_shards(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Send a message about the farmer's shards; return None if the bridge has no such route."""
        try:
            return await self._request('POST', f'/contacts/{self._contact().node_id}/shards', body)
        except BridgeLinkError as error:
            # An original bridge has no such route; ours knows the route and not the farmer.
            if error.status in (404, 405) and str(error) != _UNKNOWN:
                return None
            raise

    async def _keep(self) -> None:
        """Register, and announce this farmer again and again, until cancelled.

        Raises:
            RegistrationUnknownError: If the bridge takes no farmers.
        """
        pause = RETRY_FIRST
        while True:
            try:
                await self.announce()
            except BridgeLinkError as error:
                self.registered.clear()
                release = await self._release_without_farmers()
                if release is not None:
                    raise RegistrationUnknownError(
                        f'the bridge at {self.url} is of release {release}, which takes no '
                        'registrations of farmers'
                    ) from error
                logger.warning('bridge %s: %s; trying again', self.url, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_MOST)
            else:
                pause = RETRY_FIRST
                await asyncio.sleep(self._heartbeat)

    async def _release_without_farmers(self) -> str | None:
        """Return the release of a bridge from before farmers registered; None for any other.

        Some of them answer 404 then, others nothing at all.
        """
        if self._session is None:
            return None
        try:
            async with self._session.get(self.url + '/', allow_redirects=False) as response:
                content = await read_limited(response.content, DESCRIPTION_LIMIT)
            version = json.loads(content or b'')['info']['version']
        except NETWORK_ERRORS:
            return None
        except (ValueError, RecursionError, LookupError, TypeError):
            # It is no bridge, or says nothing of itself.
            return None
        number = parse_version(version)
        return str(version) if number is not None and number < _REGISTERING else None

    async def _register(self, body: Mapping[str, Any]) -> None:
        answer = await self._request('POST', '/contacts/challenges', {})
        challenge, target = answer.get('challenge'), answer.get('target')
        if not (isinstance(challenge, str) and isinstance(target, str)):
            raise BridgeLinkError('The bridge sent no challenge')
        loop = asyncio.get_running_loop()
        nonce = await loop.run_in_executor(
            self._workers, find_nonce, challenge, target, self._closing.is_set
        )
        await self._request(
            'POST', '/contacts', body, {'x-challenge': challenge, 'x-challenge-nonce': str(nonce)}
        )
        logger.info('registered at %s as %s', self.url, self._identity.node_id)

    async def _send_reports(self) -> None:
        """Send what there is to report; what comes meanwhile goes together."""
        while True:
            await self._due.wait()
            self._due.clear()
            while self._reports:
                count = min(len(self._reports), REPORTS_PER_CALL)
                some = [self._reports.popleft() for _ in range(count)]
                if count == 1 or not await self._send_together(some):
                    await asyncio.gather(*map(self._send_report, some))
            self._told.set()

    async def _send_together(self, reports: Sequence[Mapping[str, Any]]) -> bool:
        """Send reports in one request; return False if the bridge takes each by itself."""
        if not self._takes_many:
            return False
        path = f'/contacts/{self._identity.node_id}/reports'
        try:
            await self._request('POST', path, {'reports': list(reports)})
        except BridgeLinkError as error:
            # An original bridge has no such route.
            self._takes_many = error.status not in (404, 405)
            if self._takes_many:
                logger.warning('%d exchange reports were not taken: %s', len(reports), error)
        return self._takes_many

    async def _send_report(self, body: Mapping[str, Any]) -> None:
        try:
            await self._request('POST', '/reports/exchanges', body)
        except BridgeLinkError as error:
            logger.warning(
                'exchange report %s was not taken: %s', body['exchangeResultMessage'], error
            )

    async def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send a signed request and return the decoded answer."""
        if self._session is None:
            raise BridgeLinkError('The link is closed')
        # The signature covers these bytes, so they are encoded once.
        raw = json.dumps(body, separators=(',', ':'))
        timestamp = str(int(self._clock() * 1000))
        text = request_digest_text(method, self.url + path, timestamp, raw)
        try:
            async with self._session.request(
                method,
                self.url + path,
                data=raw.encode(),
                headers={
                    'content-type': 'application/json',
                    'x-node-timestamp': timestamp,
                    'x-node-id': self._identity.node_id,
                    'x-node-pubkey': self._identity.public_key.hex(),
                    'x-node-signature': self._identity.sign_der(text),
                    **(headers or {}),
                },
                allow_redirects=False,
            ) as response:
                status = response.status
                content = await read_limited(response.content, ANSWER_LIMIT)
        except NETWORK_ERRORS as error:
            raise BridgeLinkError(why_unreachable(error)) from error
        try:
            answer = json.loads(content or b'')
        except (ValueError, RecursionError):
            answer = None
        if not 200 <= status < 300:
            reason = answer.get('error') if isinstance(answer, dict) else None
            # The clock here is the usual cause: say by how much it differs.
            if reason == 'Invalid timestamp header':
                reason += self._skew(response.headers.get('Date'))
            raise BridgeLinkError(str(reason)[:500] if reason else f'status {status}', status)
        if not isinstance(answer, dict):
            raise BridgeLinkError('The answer is not JSON', status)
        return answer

    def _skew(self, date: str | None) -> str:
        """Return by how much the clock differs from the date of the bridge's answer."""
        theirs = _seconds(date)
        if theirs is None:
            return '; the clock here is wrong'
        ahead = self._clock() - theirs
        return f'; the clock here is {abs(ahead):.0f} s {"ahead" if ahead > 0 else "behind"}'


def _seconds(date: str | None) -> float | None:
    """Return a date of HTTP as seconds since 1970."""
    try:
        return parsedate_to_datetime(date or '').timestamp()
    except ValueError:
        return None


def request_digest_text(method: str, url: str, timestamp: str, body: str) -> bytes:
    """Return what a farmer signs of a request: its parts without separators (section 3.9)."""
    return (method + url + timestamp + body).encode()


def work_of(challenge: str, nonce: int) -> str:
    """Return the proof of work of a nonce, 64 hex characters (section 3.9)."""
    # The original's nonce is a JavaScript number, a double (section 3.9).
    salt = struct.pack('>d', nonce)
    return hashlib.scrypt(challenge.encode(), salt=salt, n=1024, r=1, p=1, dklen=32).hex()


def find_nonce(challenge: str, target: str, stopped: Callable[[], bool] = lambda: False) -> int:
    """Find the smallest nonce whose proof of work does not exceed the target; takes a while.

    Args:
        challenge (str): 64 hex characters.
        target (str): 64 hex characters.
        stopped (Callable[[], bool]): asked between two attempts whether to give up.

    Raises:
        BridgeLinkError: If the challenge is malformed, or takes too long.
    """
    if not is_hex(challenge, 64) or not is_hex(target, 64):
        raise BridgeLinkError('The bridge sent a malformed challenge')
    deadline = time.monotonic() + WORK_LIMIT
    nonce = 0
    while work_of(challenge, nonce) > target:
        nonce += 1
        if stopped() or time.monotonic() > deadline:
            raise BridgeLinkError('The proof of work was given up')
    return nonce
