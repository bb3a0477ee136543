"""Storj HTTP module: the bridge's REST calls, one method each.

:class:`Client` is the whole of it; one class, because the documentation of 0.1.5 has it so.
How a call is made lies in :mod:`storj.rest`, which knows no route. Files are moved by
:mod:`storj.transfer`, to which the client hands itself.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import requests
from ecdsa import SigningKey, VerifyingKey
from requests import exceptions

from storj import api, sharding
from storj.configuration import default_folder
from storj.crypto import keys as content_keys
from storj.crypto import names
from storj.exception import (
    BridgeUnavailableError,
    ClientError,
    NotFoundError,
    StorjBridgeApiError,
    StorjError,
    contract_error,
)
from storj.metadata import __version__
from storj.model import (
    Bucket,
    Contact,
    ExchangeReport,
    File,
    FileMirrors,
    FilePointer,
    Frame,
    Key,
    Mirror,
    Shard,
    Token,
    User,
)
from storj.object import Object
from storj.rest import keys, transport
from storj.rest.connection import Adapter, Calls
from storj.rest.paging import BUCKETS_PAGE, FILES_PAGE, Pages, by_start_date
from storj.rest.transport import Retries

if TYPE_CHECKING:
    from storj.transfer import (
        FileHealth,
        ProgressCallback,
        TransferConfig,
        TransferFuture,
        Transfers,
    )
    from storj.transfer.download import Destination
    from storj.transfer.source import SourceLike

__all__ = ('DEFAULT_BRIDGE', 'Client', 'Pages', 'Retries')

DEFAULT_BRIDGE = 'https://api.storj.io/'

#: Seconds to connect, and to wait for the head of an answer or the next piece of its body.
DEFAULT_TIMEOUT = (10.0, 30.0)

#: Seconds to wait when the bridge looks for a farmer: bridges themselves give up after 90.
FRAME_TIMEOUT = 100.0

#: Pointers that a bridge resolves at once unless it is told otherwise.
POINTERS_PAGE = 6

OPERATIONS = ('PUSH', 'PULL')

R = TypeVar('R', bound=Object)
T = TypeVar('T')

_HASH_DIGITS = 64


_CLIENTS: weakref.WeakSet[Client] = weakref.WeakSet()


def _begin_in_fork() -> None:
    for client in list(_CLIENTS):
        client._begin_in_fork()


if hasattr(os, 'register_at_fork'):  # Windows knows no forks.
    os.register_at_fork(after_in_child=_begin_in_fork)


class Client:
    """Client of a Storj bridge.

    Safe to share between threads; each thread has a connection of its own. Use it as a context
    manager, or call :meth:`close`, to release connections and running transfers.

    Every call raises :class:`~storj.exception.StorjBridgeApiError` or one of its children when the
    bridge refuses, :class:`~storj.exception.BridgeUnreachableError` when there is none, and
    ``ValueError`` or ``TypeError`` before anything is sent when an argument makes no sense.

    Args:
        email (str | None): user e-mail address; None for calls that need no account.
        password (str | None): user password.
        storj_bridge (str): URL of the bridge.
        do_hashing (bool): False if passwords are given as the hex of their SHA-256.
        timeout (float | tuple[float, float] | None): seconds to connect, and to wait for the head
            of an answer and for each piece of its body, which has 300 s in all; one number stands
            for both. None is the default of 10 and 30 (100 when a bridge as of 3.0 looks for a
            farmer); waiting for ever is not on offer.
        mnemonic (str | None): words that files and names are encrypted with.
        proxy (str | None): URL of a proxy; by default that of the environment.
        trust_env (bool): whether requests reads proxies and certificates from the environment.
        verify (bool | str): False, or the path of other certificates, for bridges that need it.
        retries (storj.http.Retries): when calls are tried again.
        transfer_config (storj.transfer.TransferConfig | None): limits of uploads and downloads.

    Raises:
        ValueError: if the URL, the timeout or a hashed password is malformed.

    Attributes:
        api_url (str): the Storj API endpoint.
        email (str | None): user e-mail address.
        mnemonic (str | None): as given.
        private_key (ecdsa.SigningKey | None): signs requests after :meth:`authenticate`.
        public_key (ecdsa.VerifyingKey | None): of the private key.
        timeout (tuple[float, float] | None): as given.
    """

    logger = logging.getLogger('storj.http')

    def __init__(
        self,
        email: str | None,
        password: str | None,
        storj_bridge: str = DEFAULT_BRIDGE,
        do_hashing: bool = True,
        timeout: float | tuple[float, float] | None = None,
        mnemonic: str | None = None,
        *,
        proxy: str | None = None,
        trust_env: bool = True,
        verify: bool | str = True,
        retries: Retries = Retries(),  # noqa: B008
        transfer_config: TransferConfig | None = None,
    ) -> None:
        self.api_url, user, secret = transport.bridge_address(storj_bridge)
        if email is not None and not isinstance(email, str):
            raise TypeError(f'an e-mail address is text, not {type(email).__name__}')
        self.email = user if email is None else email
        self.do_hashing = do_hashing
        self.timeout = _timeout(timeout)
        self.mnemonic = mnemonic
        self.private_key: SigningKey | None = None
        self.public_key: VerifyingKey | None = None
        self.password = secret if password is None else password
        self._signs = False
        self._proxy = proxy
        self._trust_env = trust_env
        self._verify = verify
        self._retries = retries
        self._transfer_config = transfer_config
        self._profile: api.BridgeProfile | None = None
        self._local = threading.local()
        self._begin()
        _CLIENTS.add(self)

    def _begin(self) -> None:
        """Begin with no transfers, and no locks that somebody holds."""
        self._transfers: Transfers | None = None
        self._lock = threading.Lock()
        self._profile_lock = threading.Lock()
        self._closings = 0
        self._calls = Calls()
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()

    def _begin_in_fork(self) -> None:
        """Begin anew in a process that was forked: connections and threads are the other's."""
        self._begin()
        session: requests.Session | None = getattr(self._local, 'session', None)
        if session is not None:
            # Closes this process's ends only. What came over one of them would be the answer to
            # whichever process asked.
            session.close()
            self._sessions.add(session)

    def __repr__(self) -> str:
        return f'Client(email={self.email!r}, storj_bridge={self.api_url!r})'

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End running transfers and close all connections; the client can be used again.

        Transfers have ``TransferConfig.flush_seconds`` to report what they did. Then requests under
        way are broken off, those of other threads too: they raise a
        :class:`~storj.exception.ClientError`, and nothing is tried again.
        """
        with self._lock:
            self._closings += 1
            transfers, self._transfers = self._transfers, None
            sessions = list(self._sessions)
        try:
            if transfers is not None:
                transfers.cancel()
            # Until the threads of the transfers have ended, none of their requests begins anew.
            self._calls.end()
            if transfers is not None:
                transfers.close()
            for session in sessions:
                session.close()
        finally:
            with self._lock:
                self._closings -= 1
                # Who closes it at the same time may be a callback that the other waits for: neither
                # holds a lock meanwhile, and the last one opens the client again.
                if not self._closings:
                    self._calls = Calls()

    # -- the exchange ---------------------------------------------------------------------------

    @property
    def password(self) -> str | None:
        """(str) – user password: the hex of its SHA-256, as bridges want it.

        What is set is hashed, unless the client was made with ``do_hashing=False``.
        """
        return self._password

    @password.setter
    def password(self, value: str | bytes | None) -> None:
        self._password = None if value is None else self._hashed(value)

    def _hashed(self, password: str | bytes) -> str:
        """Return what stands for a password on the wire."""
        if not isinstance(password, str | bytes):
            raise TypeError(f'a password is text, not {type(password).__name__}')
        if self.do_hashing:
            return api.hash_password(password)
        text = password.decode('ascii', 'replace') if isinstance(password, bytes) else password
        if len(text) != _HASH_DIGITS or not all(
            digit in '0123456789abcdefABCDEF' for digit in text
        ):
            raise ValueError('with do_hashing=False a password is the 64 hex digits of its SHA-256')
        return text.lower()

    @property
    def public_key_hex(self) -> str | None:
        """Public key as it is registered: hex of the uncompressed point."""
        return None if self.public_key is None else keys.public_key_text(self.public_key)

    @property
    def session(self) -> requests.Session:
        """The connection of the calling thread.

        One of your own may take its place. Unless it has the adapters of the one it replaces, its
        requests are bounded by the time for each piece of an answer only, and closing the client
        waits for them.
        """
        session: requests.Session | None = getattr(self._local, 'session', None)
        if session is None:
            session = requests.Session()
            for scheme in ('http://', 'https://'):
                session.mount(scheme, Adapter())
            session.headers['User-Agent'] = f'storj-python-sdk/{__version__}'
            session.headers['Accept'] = 'application/json'
            session.trust_env = self._trust_env
            session.verify = self._verify
            if self._proxy:
                session.proxies = {'http': self._proxy, 'https': self._proxy}
            self.session = session
        return session

    @session.setter
    def session(self, value: requests.Session) -> None:
        self._local.session = value
        with self._lock:
            self._sessions.add(value)

    def authenticate(self, ecdsa_private_key: SigningKey | None = None) -> None:
        """Choose how requests are authenticated from now on.

        Args:
            ecdsa_private_key (ecdsa.SigningKey | None): signs every request; its public key must
                be registered (:meth:`key_register`). None goes back to e-mail and password.

        Raises:
            TypeError: if it is no signing key.
            ValueError: if it is not one of the curve secp256k1.
        """
        if ecdsa_private_key is None:
            self._signs = False
            return
        self._adopt(ecdsa_private_key)
        self._signs = True

    def _adopt(self, private_key: SigningKey) -> None:
        """Keep a key pair without signing with it yet."""
        if not isinstance(private_key, SigningKey):
            raise TypeError(f'a private key is a SigningKey, not {type(private_key).__name__}')
        public_key = private_key.get_verifying_key()
        keys.public_key_text(public_key)
        self.private_key, self.public_key = private_key, public_key

    def _auth(self) -> requests.auth.AuthBase:
        has_password = bool(self.email) and self.password is not None
        if self.private_key is not None and (self._signs or not has_password):
            return transport.KeyAuth(self.private_key, self.public_key_hex or '')
        if has_password:
            return transport.BasicAuth(self.email or '', self.password or '')
        return transport.NoAuth()

    @contextmanager
    def once(self) -> Iterator[None]:
        """Send each request of the calling thread once, for callers that repeat it themselves.

        The engine of transfers does: were both to try again, their attempts would multiply.
        """
        before, self._local.once = self._is_once, True
        try:
            yield
        finally:
            self._local.once = before

    @property
    def _is_once(self) -> bool:
        return getattr(self._local, 'once', False)

    def _request(self, method: str, path: str, **kwargs: Any) -> Any:
        """Send a request to the bridge and return the decoded answer.

        Every call of this class passes here, so programs use it for routes of their own and tests
        replace it.

        Args:
            method (str): HTTP method.
            path (str): path of the URL, already percent-encoded.
            **kwargs: ``json``, ``params``, ``headers`` and ``data`` as in requests; ``timeout``
                as in the class; ``retries`` (int); ``text`` (bool) for an answer that is no JSON.

        Returns:
            Any: the JSON value; ``{}`` for an empty answer.

        Raises:
            StorjBridgeApiError: if the bridge refuses or answers with something else than JSON, or
                if its release is known and has no such route; then nothing is sent.
            BridgeUnreachableError: if it does not answer.
            TypeError: if a keyword is unknown, or the body cannot be JSON.
        """
        method = method.upper()
        headers = dict(kwargs.pop('headers', None) or {})
        timeout = _timeout(kwargs.pop('timeout', None)) or self._timeout(method)
        count = kwargs.pop('retries', 0 if self._is_once else self._retries.count)
        policy = dataclasses.replace(self._retries, count=count)
        as_text = kwargs.pop('text', False)
        body, params, data = (kwargs.pop(name, None) for name in ('json', 'params', 'data'))
        if kwargs:
            raise TypeError(f'_request does not know {", ".join(sorted(kwargs))}')
        shown, calls = transport.shown_path(path), self._calls
        if api.BridgeProfile.is_rare(method, path):
            refusal = self.profile().refusal(method, path)
            if refusal is not None:
                raise StorjBridgeApiError(refusal)

        def attempt(number: int) -> Any:
            started = policy.clock()
            status: object = 'no answer'
            request = self._prepare(method, path, headers, params, body, data)
            try:
                status, fields, content = transport.exchange(
                    self.session, request, timeout, self.api_url, calls, policy.clock
                )
            finally:
                seconds = policy.clock() - started
                self.logger.debug('%s %s: %s in %.3f s', method, shown, status, seconds)
            try:
                return transport.decode(status, fields, content, as_text=as_text)
            except NotFoundError:
                # An attempt whose answer was lost did it.
                if method == 'DELETE' and number:
                    return {}
                raise
            except StorjBridgeApiError as error:
                raise transport.FailedExchange(error) from error.__cause__

        def may_repeat(failed: transport.FailedExchange) -> bool:
            return not calls.ended and transport.may_repeat(method, headers, failed)

        def log(error: StorjError, seconds: float) -> None:
            reason = f'{error.code}: {error}' if isinstance(error, StorjBridgeApiError) else error
            self.logger.warning(
                '%s %s failed (%s), trying again in %.1f s', method, shown, reason, seconds
            )

        return policy.run(attempt, may_repeat, log, calls.pause)

    def _prepare(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        params: Mapping[str, Any] | None,
        body: Any,
        data: bytes | None,
    ) -> requests.Request:
        """Return one request, with a nonce of its own where it is signed."""
        auth = self._auth()
        query = dict(params or {})
        fields = dict(headers)
        if isinstance(auth, transport.KeyAuth):
            # protocol.md 2.2: the nonce is in the body where the body is signed.
            if method in ('POST', 'PUT', 'PATCH'):
                if data is None and (body is None or isinstance(body, Mapping)):
                    body = {**(body or {}), '__nonce': api.new_nonce()}
            else:
                query['__nonce'] = api.new_nonce()
        if body is not None:
            data = json.dumps(body, allow_nan=False).encode()
            fields.setdefault('Content-Type', 'application/json')
        url = f'{self.api_url.rstrip("/")}/{path.lstrip("/")}'
        return requests.Request(method, url, headers=fields, params=query, data=data, auth=auth)

    def _timeout(self, method: str) -> tuple[float, float]:
        if self.timeout is not None:
            return self.timeout
        connect, read = DEFAULT_TIMEOUT
        # Only what is known already: asking for it here would never end.
        profile = self._profile or api.BridgeProfile()
        patient = method == 'PUT' and not profile.misses_offers
        return connect, FRAME_TIMEOUT if patient else read

    def _record(self, kind: type[R], answer: object) -> R:
        """Return a record made of an object that the bridge sent."""
        if not isinstance(answer, Mapping):
            raise _unexpected(answer, 'an object')
        record = kind(**answer)
        record._made_by(self)
        return record

    def _records(self, kind: type[R], answer: object) -> list[R]:
        """Return records made of a list that the bridge sent."""
        return [self._record(kind, entry) for entry in _objects(answer)]

    # -- the bridge -----------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Describe the bridge.

        See API: GET /

        Returns:
            dict: Swagger description; under ``info`` are ``version``, ``x-core-version`` and
            ``x-protocol-version``.
        """
        answer = self._request(method='GET', path='/')
        if not isinstance(answer, dict):
            raise _unexpected(answer, 'an object')
        return answer

    def profile(self) -> api.BridgeProfile:
        """Return what the bridge understands, asked for once.

        Returns:
            storj.api.BridgeProfile: a careful one if the bridge says nothing of its release.

        Raises:
            BridgeUnreachableError: if there is no bridge.
            StorjBridgeApiError: within :meth:`once`, if it fails and may say more in a moment.
        """
        with self._profile_lock:
            if self._profile is None:
                try:
                    answer = self.info()
                except StorjBridgeApiError as error:
                    if error.retryable and error.code is not None and error.code >= 400:
                        # It may say more in a moment: for now only.
                        if self._is_once:
                            raise
                        self.logger.debug('the bridge does not describe itself: %r', error)
                        return api.BridgeProfile()
                    answer = {}
                self._profile = api.BridgeProfile.from_info(answer)
            return self._profile

    def health(self) -> bool:
        """Return whether the bridge and its database work.

        See API: GET /health (bridges since 5.10; of earlier ones, whether they answer at all).

        Raises:
            BridgeUnreachableError: if there is no bridge.
        """
        if not self.profile().has_health:
            try:
                self.info()
            except BridgeUnavailableError:
                return False
            return True
        try:
            answer = self._request(method='GET', path='/health', text=True, retries=0)
        except BridgeUnavailableError:
            return False
        return bool(answer == 'OK')

    # -- buckets --------------------------------------------------------------------------------

    def bucket_create(
        self, name: str, storage: int | None = None, transfer: int | None = None
    ) -> Bucket:
        """Create storage bucket.

        See API buckets: POST /buckets

        Args:
            name (str): stored as given; see :mod:`storj.crypto.names` for encrypted names.
            storage (int | None): storage limit (in GB); bridges since 1.0 ignore it.
            transfer (int | None): transfer limit (in GB); bridges since 1.0 ignore it.

        Returns:
            storj.model.Bucket: the new bucket.

        Raises:
            AlreadyExistsError: if the user has a bucket of that name.
        """
        body: dict[str, Any] = {'name': _text('name', name)}
        for field, value in (('storage', storage), ('transfer', transfer)):
            if value is not None:
                body[field] = _count(field, value)
        return self._record(Bucket, self._request(method='POST', path='/buckets', json=body))

    def bucket_delete(self, bucket_id: str) -> None:
        """Destroy a storage bucket.

        See API buckets: DELETE /buckets/{id}

        Args:
            bucket_id (str): unique identifier.
        """
        self._request(method='DELETE', path=_route('/buckets/{bucket_id}', bucket_id=bucket_id))

    def bucket_files(self, bucket_id: str) -> Pages[dict[str, Any]]:
        """List all the file metadata stored in the bucket.

        See API buckets: GET /buckets/{id}/files

        Args:
            bucket_id (str): unique identifier.

        Returns:
            Sequence[dict]: a list that fetches its pages of 2000 files when they are reached. The
            entries are as the bridge sent them, with ``filename``, ``size``, ``id``, ``mimetype``
            and, on bridges since 5.8, ``created`` as text; they may be changed.
        """
        path = _route('/buckets/{bucket_id}/files', bucket_id=bucket_id)
        pages = by_start_date(lambda start: self._page(path, start), FILES_PAGE)
        listing: Pages[dict[str, Any]] = Pages(lambda have: next(pages, []))
        # The first page at once: an unknown bucket is an error here, not somewhere later.
        bool(listing)
        return listing

    def _page(self, path: str, start: str | None) -> list[dict[str, Any]]:
        """Return one page of a listing; the first request has no query."""
        if start is None:
            return _objects(self._request(method='GET', path=path))
        if self._profile is not None and not self._profile.has_start_date:
            return []
        return _objects(self._request(method='GET', path=path, params={'startDate': start}))

    def bucket_get(self, bucket_id: str) -> Bucket | None:
        """Return the bucket object.

        See API buckets: GET /buckets/{id}

        Args:
            bucket_id (str): bucket unique identifier.

        Returns:
            storj.model.Bucket: bucket.

        Raises:
            NotFoundError: if the user has no such bucket. (None is returned when a replaced
                ``_request`` raises a ``requests.HTTPError`` of status 404, as in 0.1.5.)
        """
        path = _route('/buckets/{bucket_id}', bucket_id=bucket_id)
        try:
            answer = self._request(method='GET', path=path)
        except exceptions.HTTPError as error:
            if error.response is not None and error.response.status_code == 404:
                return None
            raise
        return self._record(Bucket, answer)

    def bucket_id(self, name: str) -> str | None:
        """Look a bucket up by its name.

        See API buckets: GET /bucket-ids/{name} (bridges since 5.14, else the list is searched)

        Args:
            name (str): as stored or in the clear; with a mnemonic, the encrypted form of a clear
                name is looked up first.

        Returns:
            str | None: unique identifier, None if the user has no such bucket.
        """
        stored = [_text('name', name)]
        if self.mnemonic and names.decrypt_bucket_name(self.mnemonic, name) is None:
            stored.insert(0, names.encrypt_bucket_name(self.mnemonic, name))
        if self._looks_names_up(name):
            return self._first_id('/bucket-ids/', stored)
        found = {bucket.name: bucket.id for bucket in self.bucket_list() if bucket.name in stored}
        return next((found[text] for text in stored if text in found), None)

    def _looks_names_up(self, name: str) -> bool:
        # A segment of dots alone would be taken for a relative path on the way.
        return name not in ('.', '..') and self.profile().has_file_ids

    def _first_id(self, path: str, stored_names: Iterable[str]) -> str | None:
        """Return the id of the first of several stored names that the bridge knows."""
        for text in stored_names:
            try:
                answer = self._request(method='GET', path=path + api.segment(text))
            except NotFoundError:
                continue
            if not isinstance(answer, Mapping) or not isinstance(answer.get('id'), str):
                raise _unexpected(answer, 'an id')
            return str(answer['id'])
        return None

    def bucket_list(self) -> Iterator[Bucket]:
        """List all of the buckets belonging to the user.

        See API buckets: GET /buckets

        Yields:
            storj.model.Bucket: buckets, page by page of 5000.
        """
        for page in by_start_date(lambda start: self._page('/buckets', start), BUCKETS_PAGE):
            yield from self._records(Bucket, page)

    def bucket_name(self, stored_name: str) -> str:
        """Return the clear name of a bucket.

        Args:
            stored_name (str): as the bridge keeps it.

        Returns:
            str: the stored name itself if it was not encrypted with this client's mnemonic.
        """
        clear = names.decrypt_bucket_name(self.mnemonic, stored_name) if self.mnemonic else None
        return stored_name if clear is None else clear

    def bucket_set_keys(
        self, bucket_id: str, bucket_name: str, keys: Sequence[VerifyingKey | str | bytes]
    ) -> Bucket:
        """Update the bucket with the given public keys.

        See API buckets: PATCH /buckets/{bucket_id}

        Args:
            bucket_id (str): bucket unique identifier.
            bucket_name (str): bucket name; bridges since 1.1 ignore it.
            keys (list[str]): public keys, which replace the bucket's earlier ones.

        Returns:
            storj.model.Bucket: updated bucket information.
        """
        path = _route('/buckets/{bucket_id}', bucket_id=bucket_id)
        if isinstance(keys, str | bytes):
            raise TypeError('keys is a list of public keys')
        body = {'name': _text('bucket_name', bucket_name), 'pubkeys': [_key_text(k) for k in keys]}
        return self._record(Bucket, self._request(method='PATCH', path=path, json=body))

    def bucket_set_mirrors(self, bucket_id: str, file_id: str, redundancy: int) -> Mirror:
        """Establish a series of mirrors for the given file.

        See API buckets: POST /buckets/{id}/mirrors (bridges 0.10 to 3.2; later ones make mirrors
        by themselves)

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.
            redundancy (int): number of replicas, at most 12.

        Returns:
            storj.model.Mirror: the mirror settings; its ``shards`` has one record per shard.
        """
        path = _route('/buckets/{bucket_id}/mirrors', bucket_id=bucket_id)
        _route('{file_id}', file_id=file_id)
        body = {'file': file_id, 'redundancy': _count('redundancy', redundancy)}
        answer = self._request(method='POST', path=path, json=body)
        try:
            return Mirror.from_answer(answer)
        except TypeError:
            raise _unexpected(answer, 'mirrors') from None

    # -- contacts -------------------------------------------------------------------------------

    def contact_list(
        self,
        page: str | int = 1,
        address: str | None = None,
        protocol: str | None = None,
        user_agent: str | None = None,
        connected: bool | None = None,
    ) -> list[Contact]:
        """List contacts.

        See API contacts: GET /contacts

        Args:
            page (str | int): pagination indicator, from 1; pages have 30 contacts.
            address (str | None): hostname or IP address.
            protocol (str | None): SemVer protocol tag; ignored by bridges since 7.2.
            user_agent (str | None): Storj user agent string for farming client; likewise.
            connected (bool | None): filter results by connection status; bridges below 1.0 only.

        Returns:
            list[storj.model.Contact]: one page of contacts, empty past the last.
        """
        number = _count('page', page)
        if number < 1:
            raise ValueError('pages are counted from 1')
        params: dict[str, Any] = {} if number == 1 else {'page': number}
        for field, value in (
            ('address', address),
            ('protocol', protocol),
            ('userAgent', user_agent),
        ):
            if value is not None:
                params[field] = _text(field, value)
        if connected is not None:
            params['connected'] = 'true' if connected else 'false'
        query: dict[str, Any] = {'params': params} if params else {}
        return self._records(Contact, self._request(method='GET', path='/contacts', **query))

    def contact_lookup(self, node_id: str) -> Contact:
        """Lookup for contact information of a node.

        See API contacts: GET /contacts/{nodeID}

        Args:
            node_id (str): node unique identifier, 40 hex digits.

        Returns:
            storj.model.Contact: contact information.
        """
        path = _route('/contacts/{node_id}', node_id=node_id)
        return self._record(Contact, self._request(method='GET', path=path))

    # -- files ----------------------------------------------------------------------------------

    def file_create(
        self,
        bucket_id: str,
        frame_id: str,
        filename: str,
        *,
        mimetype: str | None = None,
        index: str | None = None,
        hmac: str | Mapping[str, str] | None = None,
        erasure: bool = False,
    ) -> File:
        """Turn a frame whose shards are stored into a file.

        See API buckets: POST /buckets/{id}/files. :meth:`file_upload` does this as its last step.

        Args:
            bucket_id (str): bucket unique identifier.
            frame_id (str): frame unique identifier.
            filename (str): stored as given.
            mimetype (str | None): one of the IANA's; ``application/octet-stream`` if None.
            index (str | None): 64 hex digits, from which the file's key is made.
            hmac (str | Mapping[str, str] | None): ``type`` and ``value``, or the value of type
                ``sha512`` (128 hex digits).
            erasure (bool): whether the frame has Reed-Solomon parity shards.

        Returns:
            storj.model.File: the entry of the file.
        """
        path = _route('/buckets/{bucket_id}/files', bucket_id=bucket_id)
        _route('{frame_id}', frame_id=frame_id)
        body: dict[str, Any] = {'frame': frame_id, 'filename': _text('filename', filename)}
        if mimetype is not None:
            body['mimetype'] = _text('mimetype', mimetype)
        if index is not None:
            body['index'] = _text('index', index)
        if hmac is not None:
            body['hmac'] = {'type': 'sha512', 'value': hmac} if isinstance(hmac, str) else {**hmac}
        if erasure:
            body['erasure'] = {'type': 'reedsolomon'}
        return self._file(bucket_id, self._request(method='POST', path=path, json=body))

    def _file(self, bucket_id: str, answer: object) -> File:
        file = self._record(File, answer)
        if file.bucket is None:
            file.bucket = bucket_id
        return file

    def file_download(
        self,
        bucket_id: str,
        file_id: str,
        destination: Destination = None,
        *,
        start: int = 0,
        end: int | None = None,
        progress: ProgressCallback | None = None,
        resume: bool = True,
        overwrite: bool = True,
        decrypt: bool = True,
    ) -> Any:
        """Fetch a file from its farmers, check it and decrypt it.

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.
            destination (str | PathLike | BinaryIO | None): a path, which gets its name when the
                file is whole and right; a binary file object; None for memory.
            start (int): first byte.
            end (int | None): byte behind the last one; the end of the file by default.
            progress (Callable[[storj.transfer.Progress], object] | None): called with each state.
            resume (bool): whether a broken-off download to the same path is continued.
            overwrite (bool): whether a file at the path may be replaced.
            decrypt (bool): False for the bytes as they are stored: of a file that was stored
                without encryption, or still encrypted.

        Returns:
            io.BytesIO: the content, at position 0, when there is no destination; otherwise the
            destination.

        Raises:
            TransferError: if the file cannot be had; its ``causes`` say why.
            IntegrityError: if what came is not the file, or nothing proves that it is.
            DecryptionError: if the mnemonic is not the file's.
        """
        _route('{bucket_id}{file_id}', bucket_id=bucket_id, file_id=file_id)
        return self._finish(
            self.transfers.download(
                bucket_id,
                file_id,
                destination,
                start=start,
                end=end,
                progress=progress,
                resume=resume,
                overwrite=overwrite,
                decrypt=decrypt,
            )
        )

    def file_id(self, bucket_id: str, name: str, *, stored: bool = False) -> str | None:
        """Look a file up by its name.

        See API buckets: GET /buckets/{id}/file-ids/{name} (bridges since 5.14). Of earlier ones the
        id is computed from the name, and before 1.1, and in buckets from before October 2016, when
        ids were random, the list of files is searched.

        Args:
            bucket_id (str): bucket unique identifier.
            name (str): as stored or in the clear; with a mnemonic, the encrypted form of a clear
                name is looked up first.
            stored (bool): whether the name is as stored, and nothing else is looked up.

        Returns:
            str | None: unique identifier, None if the bucket has no such file.
        """
        path = _route('/buckets/{bucket_id}/file-ids/', bucket_id=bucket_id)
        forms = [_text('name', name)]
        if self.mnemonic and not stored:
            key = content_keys.bucket_key(self.mnemonic, bucket_id)
            if names.decrypt_file_name(key, name) is None:
                forms.insert(0, names.encrypt_file_name(key, bucket_id, name))
        if self._looks_names_up(name):
            return self._first_id(path, forms)
        profile = self.profile()
        if profile.has_file_info and profile.has_deterministic_ids:
            identifier = self._computed_id(bucket_id, forms)
            if identifier is not None or not self._may_have_random_ids(bucket_id):
                return identifier
        return self._listed_id(bucket_id, forms)

    def _computed_id(self, bucket_id: str, stored_names: Iterable[str]) -> str | None:
        """Return the id that follows from the first of several stored names that is in use."""
        for text in stored_names:
            identifier = sharding.file_id(bucket_id, text)
            try:
                if self.file_metadata(bucket_id, identifier).filename == text:
                    return identifier
            except NotFoundError:
                continue
        return None

    def _may_have_random_ids(self, bucket_id: str) -> bool:
        """Return whether files of a bucket may have ids that follow from nothing.

        Ids were random until October 2016. A bucket whose own id follows from its name was made
        later, and with it all its files.
        """
        try:
            bucket = self.bucket_get(bucket_id)
        except NotFoundError:
            return False
        if bucket is None or not isinstance(bucket.user, str) or not isinstance(bucket.name, str):
            return True
        return bucket.id != sharding.bucket_id(bucket.user, bucket.name)

    def _listed_id(self, bucket_id: str, stored_names: Sequence[str]) -> str | None:
        """Search the list of files for the first of several stored names that is there."""
        found: dict[str, str] = {}
        for count, file in enumerate(self.bucket_files(bucket_id)):
            if count >= _MAX_FILES:
                raise _unexpected([], f'no more than {_MAX_FILES} files')
            text, identifier = file.get('filename'), file.get('id')
            if isinstance(text, str) and text in stored_names and isinstance(identifier, str):
                found.setdefault(text, identifier)
                if text == stored_names[0]:
                    break
        return next((found[text] for text in stored_names if text in found), None)

    def file_metadata(self, bucket_id: str, file_id: str) -> File:
        """Get file metadata.

        See API buckets: GET /buckets/{id}/files/{file_id}/info

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.

        Returns:
            storj.model.File: file metadata.
        """
        path = _route(
            '/buckets/{bucket_id}/files/{file_id}/info', bucket_id=bucket_id, file_id=file_id
        )
        return self._file(bucket_id, self._request(method='GET', path=path))

    def file_mirrors(self, bucket_id: str, file_id: str) -> list[FileMirrors]:
        """List the farmers that hold replicas of a file's shards.

        See API buckets: GET /buckets/{id}/files/{file_id}/mirrors (bridges since 3.1)

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.

        Returns:
            list[storj.model.FileMirrors]: one record per shard.
        """
        path = _route(
            '/buckets/{bucket_id}/files/{file_id}/mirrors', bucket_id=bucket_id, file_id=file_id
        )
        return self._records(FileMirrors, self._request(method='GET', path=path))

    def file_name(self, bucket_id: str, stored_name: str) -> str:
        """Return the clear name of a file.

        Args:
            bucket_id (str): bucket unique identifier.
            stored_name (str): as the bridge keeps it.

        Returns:
            str: the stored name itself if it was not encrypted with this client's mnemonic.
        """
        if not self.mnemonic:
            return stored_name
        key = content_keys.bucket_key(self.mnemonic, bucket_id)
        clear = names.decrypt_file_name(key, stored_name)
        return stored_name if clear is None else clear

    def file_pointers(
        self,
        bucket_id: str,
        file_id: str,
        skip: str | int | None = None,
        limit: str | int | None = None,
        exclude: Sequence[str] | None = None,
    ) -> Pages[FilePointer]:
        """Get list of pointers associated with a file.

        See API buckets: GET /buckets/{id}/files/{file_id}. Every page takes a token of its own
        (:meth:`token_create`), unless the bridge is known to do without (since 5.16).

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.
            skip (str | int | None): pointer index to start the file slice; 0 if None.
            limit (str | int | None): number of pointers to resolve tokens for, in one request;
                None is all of them, in pages of 6 that are fetched when they are reached.
            exclude (Sequence[str] | None): nodeIDs of farmers not to use.

        Returns:
            Sequence[storj.model.FilePointer]: file pointers in the order of their index. A pointer
            has no ``token`` and no ``farmer`` when no farmer has the shard now.
        """
        path = _route('/buckets/{bucket_id}/files/{file_id}', bucket_id=bucket_id, file_id=file_id)
        size = POINTERS_PAGE if limit is None else _count('limit', limit)
        if size < 1:
            raise ValueError('limit is at least 1')
        excluded = ','.join(_node_ids(exclude))
        start = 0 if skip is None else _count('skip', skip)
        position: int | None = start
        seen: set[int] = set()

        def page(have: int) -> list[FilePointer]:
            nonlocal position
            if position is None:
                return []
            # Both always: bridges since 4.3 take 6 as the end of a slice that names no skip.
            params: dict[str, Any] = {'skip': position, 'limit': size}
            if excluded:
                params['exclude'] = excluded
            answer = self._request(
                method='GET', path=path, params=params, **self._pull_headers(bucket_id)
            )
            pointers = self._records(FilePointer, answer)
            fresh = [pointer for pointer in pointers if pointer.index not in seen]
            seen.update(pointer.index for pointer in fresh if pointer.index is not None)
            if limit is not None:
                position = None
                return fresh[:size]
            # Bridges below 0.10 send the whole list whatever is asked.
            whole = position == 0 and len(pointers) > size
            position = None if whole or not fresh else position + max(size, len(pointers))
            if have + len(fresh) > _MAX_POINTERS:
                raise _unexpected(answer, f'no more than {_MAX_POINTERS} pointers')
            return fresh

        listing = Pages(page)
        # The first page at once: an unknown file is an error here, not somewhere later.
        bool(listing)
        return listing

    def _pull_headers(self, bucket_id: str) -> dict[str, Any]:
        """Return the keyword arguments that give one request the right to pointers."""
        if self._profile is not None and not self._profile.needs_pull_token:
            return {}
        return {'headers': {'x-token': self.token_create(bucket_id, 'PULL').id}}

    def file_remove(self, bucket_id: str, file_id: str) -> None:
        """Delete a file pointer from a specified bucket.

        See API buckets: DELETE /buckets/{id}/files/{file_id}

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.
        """
        path = _route('/buckets/{bucket_id}/files/{file_id}', bucket_id=bucket_id, file_id=file_id)
        self._request(method='DELETE', path=path)

    def file_upload(
        self,
        bucket_id: str,
        file: SourceLike,
        frame: Frame | str | None = None,
        *,
        name: str | None = None,
        mimetype: str | None = None,
        encrypt: bool = True,
        encrypt_name: bool = True,
        parity: bool | None = None,
        progress: ProgressCallback | None = None,
        resume: bool = True,
        overwrite: bool = False,
    ) -> File:
        """Upload file: encrypt it, cut it into shards, store them with farmers.

        See API buckets: POST /buckets/{id}/files, which is the last step.

        Args:
            bucket_id (str): bucket unique identifier.
            file (storj.model.File | str | PathLike | BinaryIO | bytes | Iterator[bytes]): file to
                be uploaded; of a :class:`~storj.model.File`, ``filename`` is the path.
            frame (storj.model.Frame | str | None): frame used to stage file, made if None.
            name (str | None): under which it is stored; by default the last part of its path.
            mimetype (str | None): of a :class:`~storj.model.File`, its own by default.
            encrypt (bool): whether the content is encrypted with the client's mnemonic.
            encrypt_name (bool): whether the name is too.
            parity (bool | None): whether parity shards are added; as configured by default.
            progress (Callable[[storj.transfer.Progress], object] | None): called with each state.
            resume (bool): whether a broken-off upload of the same file is continued, and this one
                can be.
            overwrite (bool): whether a file of the same name is replaced.

        Returns:
            storj.model.File: the stored file; its ``name`` is the clear one.

        Raises:
            AlreadyExistsError: if the bucket has a file of this name.
            MnemonicError: if there is no mnemonic and ``encrypt`` is not False.
            TransferError: if the file could not be stored; its ``causes`` say why.
        """
        _route('{bucket_id}', bucket_id=bucket_id)
        if file is None:
            raise TypeError('there is no file to upload')
        if isinstance(file, File):
            mimetype = mimetype or file.mimetype
            if file.filename is None and file.shard_manager is not None:
                file = file.shard_manager.filepath
        return self._finish(
            self.transfers.upload(
                bucket_id,
                file,
                frame=frame,
                name=name,
                mimetype=mimetype,
                encrypt=encrypt,
                encrypt_name=encrypt_name,
                parity=parity,
                progress=progress,
                resume=resume,
                overwrite=overwrite,
            )
        )

    def file_verify(self, bucket_id: str, file_id: str, *, decrypt: bool = True) -> FileHealth:
        """Fetch and hash every shard of a file, keeping none.

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.
            decrypt (bool): False for a file that was stored without encryption.

        Returns:
            storj.transfer.FileHealth: which shards are healthy on which farmers.
        """
        _route('{bucket_id}{file_id}', bucket_id=bucket_id, file_id=file_id)
        return self.transfers.verify(bucket_id, file_id, decrypt=decrypt)

    @property
    def transfers(self) -> Transfers:
        """(storj.transfer.Transfers) – uploads and downloads that return a future each."""
        # Imported on first use: a program that only lists needs no engine.
        from storj.transfer import Transfers

        with self._lock:
            if self._transfers is None:
                self._transfers = Transfers(self, self._transfer_config)
            return self._transfers

    def _finish(self, future: TransferFuture[T]) -> T:
        """Wait for a transfer; whoever is interrupted while waiting leaves none behind."""
        from storj.transfer import wait_for

        return wait_for(future)

    # -- frames ---------------------------------------------------------------------------------

    def frame_add_shard(
        self, shard: Shard, frame_id: str, excludes: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Add a shard item to the staging frame and negotiate a storage contract.

        See API frames: PUT /frames/{frame_id}. The bridge may look for a farmer for up to 90 s.

        Args:
            shard (storj.model.Shard): the shard.
            frame_id (str): the frame unique identifier.
            excludes (Sequence[str] | None): nodeIDs of farmers that failed, beside the shard's own.

        Returns:
            dict: ``hash``, ``token``, ``operation`` and ``farmer``: where to push the shard.

        Raises:
            BridgeUnavailableError: If no farmer takes the shard now, which original bridges answer
                as a 400 with any text.
            StorjBridgeApiError: If the bridge refuses the request itself.
        """
        path = _route('/frames/{frame_id}', frame_id=frame_id)
        if not isinstance(shard, Shard):
            raise TypeError(f'a shard is a Shard, not {type(shard).__name__}')
        body: dict[str, Any] = {
            'hash': _text('hash', shard.hash),
            'size': _count('size', shard.size),
            'index': _count('index', shard.index),
            'challenges': list(shard.challenges),
            'tree': shard.leaves,
        }
        if shard.size == 0:
            raise ValueError('a shard is not empty')
        excluded = list(dict.fromkeys([*shard.exclude, *_node_ids(excludes)]))
        if excluded:
            body['exclude'] = excluded
        if shard.parity is not None:
            body['parity'] = shard.parity
        try:
            answer = self._request(method='PUT', path=path, json=body)
        except StorjBridgeApiError as error:
            raise contract_error(error) from error.__cause__
        if not isinstance(answer, dict):
            raise _unexpected(answer, 'an object')
        return answer

    def frame_create(self) -> Frame:
        """Create a file staging frame.

        See API frames: POST /frames

        Returns:
            storj.model.Frame: the frame.
        """
        return self._record(Frame, self._request(method='POST', path='/frames', json={}))

    def frame_delete(self, frame_id: str) -> None:
        """Destroy the file staging frame by its unique ID.

        See API frames: DELETE /frames/{frame_id}. A file that uses the frame is lost with it.

        Args:
            frame_id (str): unique identifier.
        """
        self._request(method='DELETE', path=_route('/frames/{frame_id}', frame_id=frame_id))

    def frame_get(self, frame_id: str) -> Frame:
        """Fetch the file staging frame by its unique ID.

        See API frame: GET /frames/{frame_id}

        Args:
            frame_id (str): unique identifier.

        Returns:
            storj.model.Frame: a frame.
        """
        path = _route('/frames/{frame_id}', frame_id=frame_id)
        return self._record(Frame, self._request(method='GET', path=path))

    def frame_list(self) -> Iterator[Frame]:
        """Return all open file staging frames.

        See API frame: GET /frames (bridges since 5.22 send 10 at most)

        Yields:
            storj.model.Frame: all open file staging frames.
        """
        yield from self._records(Frame, self._request(method='GET', path='/frames'))

    # -- keys -----------------------------------------------------------------------------------

    def key_delete(self, public_key: VerifyingKey | str) -> None:
        """Remove a public ECDSA key.

        See API keys: DELETE /keys/{pubkey}

        Args:
            public_key (str | VerifyingKey): key to be removed; a text is looked up as it is.
        """
        text = public_key if isinstance(public_key, str) else _key_text(public_key)
        path = _route('/keys/{public_key}', public_key=text)
        self._request(method='DELETE', path=path)

    def key_dump(self) -> None:
        """Print this client's public key and the keys registered with the account."""
        registered = self.key_list()
        print(f'Local public key: {self.public_key_hex or "none"}')  # noqa: T201
        print(f'Registered keys: {", ".join(registered) or "none"}')  # noqa: T201

    def key_export(
        self,
        folder: str | PathLike[str] | None = None,
        *,
        private_name: str = keys.PRIVATE_NAME,
        public_name: str = keys.PUBLIC_NAME,
        overwrite: bool = False,
    ) -> tuple[Path, Path]:
        """Write this client's key pair as PEM files, the private one readable by its owner only.

        Args:
            folder (str | PathLike | None): made with mode 0700 if need be; that of the
                configuration if None.
            private_name (str): file name of the private key.
            public_name (str): file name of the public key.
            overwrite (bool): whether files of these names may be replaced.

        Returns:
            tuple[Path, Path]: paths of the private and the public key.

        Raises:
            ClientError: if the client has no key pair.
            FileExistsError: if there is such a file.
        """
        if self.private_key is None:
            raise ClientError('there is no key to export; key_generate() makes one')
        place = default_folder() if folder is None else Path(folder)
        return keys.write_key_pair(
            place, self.private_key, private_name, public_name, overwrite=overwrite
        )

    def key_generate(
        self,
        folder: str | PathLike[str] | None = None,
        *,
        private_name: str = keys.PRIVATE_NAME,
        public_name: str = keys.PUBLIC_NAME,
        overwrite: bool = False,
    ) -> tuple[SigningKey, VerifyingKey]:
        """Make a new key pair, keep it in this client and write it as :meth:`key_export` does.

        Nothing is registered: see :meth:`key_register`, and :meth:`authenticate` to sign with it.

        Args:
            folder (str | PathLike | None): as in ``key_export``.
            private_name (str): as in ``key_export``.
            public_name (str): as in ``key_export``.
            overwrite (bool): as in ``key_export``.

        Returns:
            tuple[ecdsa.SigningKey, ecdsa.VerifyingKey]: key pair (private, public).

        Raises:
            FileExistsError: if there is such a file; the client's key stays as it was.
        """
        private_key, public_key = keys.generate_key_pair()
        place = default_folder() if folder is None else Path(folder)
        keys.write_key_pair(place, private_key, private_name, public_name, overwrite=overwrite)
        self._adopt(private_key)
        return private_key, public_key

    def key_import(
        self,
        private_keyfile_path: str | PathLike[str],
        public_keyfile_path: str | PathLike[str] | None = None,
    ) -> None:
        """Load a key pair from PEM files into this client.

        Nothing is registered: see :meth:`key_register`, and :meth:`authenticate` to sign with it.

        Args:
            private_keyfile_path (str | PathLike): private key.
            public_keyfile_path (str | PathLike | None): public key, compared with the private one.

        Raises:
            ClientError: if a file cannot be read or the keys do not belong together.
        """
        self._adopt(keys.read_key_pair(private_keyfile_path, public_keyfile_path))

    def key_list(self) -> list[str]:
        """List the public ECDSA keys associated with the user.

        See API keys: GET /keys

        Returns:
            list[str]: public keys, as hex.
        """
        return [key.key for key in self._keys() if key.key is not None]

    def _keys(self) -> list[Key]:
        return self._records(Key, self._request(method='GET', path='/keys'))

    def key_register(
        self, public_key: VerifyingKey | str | bytes, label: str | None = None
    ) -> list[Key]:
        """Register an ECDSA public key.

        See API keys: POST /keys

        Args:
            public_key (VerifyingKey | str | bytes): the key itself, PEM, hex or bytes.
            label (str | None): a name for it.

        Returns:
            list[storj.model.Key]: public keys, all that are registered now.

        Raises:
            AlreadyExistsError: if the key is registered, with this account or another.
        """
        body = {'key': _key_text(public_key)}
        if label is not None:
            body['label'] = _text('label', label)
        self._request(method='POST', path='/keys', json=body)
        return self._keys()

    # -- reports, tokens ------------------------------------------------------------------------

    def send_exchange_report(self, report: ExchangeReport) -> None:
        """Tell the bridge how one transfer of a shard went.

        See API reports: POST /reports/exchanges (bridges since 2.2)

        Args:
            report (storj.model.ExchangeReport): ``reporterId`` and ``clientId`` are filled in
                with the client's e-mail if they are not set.

        Raises:
            NotFoundError: if the bridge does not know the shard.
        """
        if not isinstance(report, ExchangeReport):
            raise TypeError(f'a report is an ExchangeReport, not {type(report).__name__}')
        reporter = self.email or self.public_key_hex or 'anonymous'
        body = {'reporterId': reporter, 'clientId': reporter, **report.to_dict()}
        self._request(method='POST', path='/reports/exchanges', json=body)

    def token_create(self, bucket_id: str, operation: str, file_id: str | None = None) -> Token:
        """Create a token for the specified operation.

        See API buckets: POST /buckets/{id}/tokens

        Args:
            bucket_id (str): bucket unique identifier.
            operation (str): ``PUSH`` or ``PULL``.
            file_id (str | None): bridges since 3.0 add ``size`` and ``mimetype`` of this file.

        Returns:
            storj.model.Token: good for one request, within 5 minutes (bridges since 5.15: an hour).
        """
        path = _route('/buckets/{bucket_id}/tokens', bucket_id=bucket_id)
        if operation not in OPERATIONS:
            raise ValueError(f'an operation is one of {", ".join(OPERATIONS)}, not {operation!r}')
        body = {'operation': operation}
        if file_id is not None:
            _route('{file_id}', file_id=file_id)
            body['file'] = file_id
        return self._record(Token, self._request(method='POST', path=path, json=body))

    # -- users ----------------------------------------------------------------------------------

    def user_activate(self, token: str) -> User:
        """Activate user.

        See API users: GET /activations/{token}

        Args:
            token (str): activation token, from the mail.

        Returns:
            storj.model.User: the account.
        """
        path = _route('/activations/{token}', token=token)
        return self._record(User, self._request(method='GET', path=path))

    def user_activation_email(self, email: str, token: str | None = None) -> User:
        """Send user activation email.

        See API users: POST /activations

        Args:
            email (str): user's email address.
            token (str | None): not used; the documentation has it.

        Returns:
            storj.model.User: the account.
        """
        body = {'email': _text('email', email)}
        return self._record(User, self._request(method='POST', path='/activations', json=body))

    def user_create(self, email: str, password: str) -> User:
        """Create a new user with Storj bridge, and use the account from now on.

        See API users: POST /users

        Args:
            email (str): user's email address.
            password (str): user's password; its SHA-256 is sent.

        Returns:
            storj.model.User: the account, which has to be activated (:meth:`user_activate`).

        Raises:
            AlreadyExistsError: if there is such an account.
        """
        hashed = self._hashed(_text('password', password))
        body = {'email': _text('email', email), 'password': hashed}
        user = self._record(User, self._request(method='POST', path='/users', json=body))
        self.email, self._password = email, hashed
        return user

    def user_deactivate(self, token: str) -> User:
        """Confirm the deactivation of an account with the token from the mail.

        See API users: GET /deactivations/{token}

        Args:
            token (str): deactivation token.

        Returns:
            storj.model.User: the account.
        """
        path = _route('/deactivations/{token}', token=token)
        return self._record(User, self._request(method='GET', path=path))

    def user_delete(self, email: str) -> User:
        """Delete user account: the bridge sends a mail with a deactivation token.

        See API users: DELETE /users/{email}

        Args:
            email (str): user's email address, the caller's own.

        Returns:
            storj.model.User: the account, still active.
        """
        path = _route('/users/{email}', email=email)
        return self._record(User, self._request(method='DELETE', path=path))

    def user_reset_password(self, email: str, password: str | None = None) -> User:
        """Request a password reset: the bridge sends a mail with a token.

        See API users: PATCH /users/{email}

        Args:
            email (str): user's email address.
            password (str | None): the new password. Bridges below 7.5 want it here, later ones
                with the confirmation.

        Returns:
            storj.model.User: the account.

        Raises:
            ValueError: if the bridge wants the new password here and there is none.
        """
        path = _route('/users/{email}', email=email)
        body: dict[str, str] = {}
        if password is not None:
            hashed = self._hashed(_text('password', password))
            if not self.profile().resets_by_post:
                body['password'] = hashed
        try:
            answer = self._request(method='PATCH', path=path, json=body)
        except StorjBridgeApiError as error:
            if password is None and error.code == 400:
                raise ValueError('this bridge wants the new password with the request') from error
            raise
        return self._record(User, answer)

    def user_reset_password_confirmation(self, token: str, password: str | None = None) -> User:
        """Confirm a password reset request.

        See API users: GET /resets/{token} (bridges below 7.5), POST /resets/{token} (later)

        Args:
            token (str): password reset token.
            password (str | None): the new password; bridges since 7.5 want it here.

        Returns:
            storj.model.User: the account.
        """
        path = _route('/resets/{token}', token=token)
        if password is not None:
            body = {'password': self._hashed(_text('password', password))}
            if self.profile().resets_by_post:
                return self._record(User, self._request(method='POST', path=path, json=body))
        return self._record(User, self._request(method='GET', path=path))


#: More than a file of 8 TB has in the shard size of the oldest clients.
_MAX_POINTERS = 2**20

#: Files of one bucket among which a name is searched.
_MAX_FILES = 2**20


def _key_text(key: VerifyingKey | str | bytes) -> str:
    # Under a name of its own: bucket_set_keys has a documented argument `keys`.
    return keys.public_key_text(key)


def _timeout(value: float | tuple[float, float] | None) -> tuple[float, float] | None:
    """Check a timeout, in seconds: one number, or one to connect and one to read."""
    if value is None:
        return None
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2 or not all(
        isinstance(part, int | float) and not isinstance(part, bool) and 0 < part < float('inf')
        for part in pair
    ):
        raise ValueError('a timeout is a positive number of seconds, or two: (connect, read)')
    return float(pair[0]), float(pair[1])


def _text(name: str, value: object) -> str:
    """Check an argument that is text and not empty."""
    if not isinstance(value, str):
        raise TypeError(f'{name} is text, not {type(value).__name__}')
    if not value.strip():
        raise ValueError(f'{name} is empty')
    return value


def _count(name: str, value: object) -> int:
    """Check an argument that is a whole number from zero, or its digits."""
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) < 20):
            raise ValueError(f'{name} is a whole number')
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f'{name} is a whole number, not {type(value).__name__}')
    if value < 0:
        raise ValueError(f'{name} is not negative')
    return value


def _route(template: str, **segments: str) -> str:
    """Return the path of a route with its segments percent-encoded.

    Raises:
        TypeError: if a segment is no text.
        ValueError: if it is empty, or could lead to another route.
    """
    encoded = {}
    for name, value in segments.items():
        text = _text(name, value)
        if text in ('.', '..') or any(c in '/\\' or ord(c) < 33 or ord(c) == 127 for c in text):
            raise ValueError(f'{name} is malformed: it has a slash, dots alone or white space')
        # An at sign is as good in a path as its code, and is how routes with e-mails are known.
        encoded[name] = api.segment(text).replace('%40', '@')
    return template.format(**encoded)


def _node_ids(value: Sequence[str] | None) -> Sequence[str]:
    """Check a list of nodeIDs."""
    if isinstance(value, str) or not all(isinstance(node, str) for node in value or ()):
        raise TypeError('excluded farmers are a list of nodeIDs')
    return value or ()


def _objects(answer: object) -> list[dict[str, Any]]:
    """Check that the bridge sent a list of objects."""
    if not isinstance(answer, list) or not all(isinstance(entry, dict) for entry in answer):
        raise _unexpected(answer, 'a list of objects')
    return answer


def _unexpected(answer: object, wanted: str) -> BridgeUnavailableError:
    """Return the error for JSON that is not what the route promises."""
    kind = type(answer).__name__
    error = BridgeUnavailableError(
        f'the bridge answered with {kind} where {wanted} was expected', None
    )
    error.retryable = False
    return error
