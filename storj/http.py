"""Storj HTTP module: the bridge's REST calls, one method each.

:class:`Client` is the whole of it; one class, because the documentation of 0.1.5 has it so.
How a call is made lies in :mod:`storj.rest`, which knows no route. Files are moved by
:mod:`storj.transfer`, to which the client hands itself.

Every method makes the calls of :meth:`Client._request` that 0.1.5 and 0.3 made, with the same
arguments, and takes what a replacement of it answers: programs and their tests patch that method,
and names of this module.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import itertools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar

import requests
from ecdsa import SigningKey, VerifyingKey
from requests import exceptions

from storj import api, model, sharding
from storj.api import ecdsa_to_hex
from storj.configuration import DEFAULT_BRIDGE, default_folder
from storj.crypto import keys as content_keys
from storj.crypto import names
from storj.exception import (
    AlreadyExistsError,
    AmbiguousNameError,
    BridgeError,
    BridgeUnavailableError,
    ClientError,
    MnemonicError,
    NotFoundError,
    StorjBridgeApiError,
    contract_error,
)
from storj.metadata import __version__
from storj.model import ExchangeReport, File, MerkleTree
from storj.object import Object
from storj.rest import keys, transport
from storj.rest.answers import as_object, as_objects, unexpected
from storj.rest.arguments import checked_count, checked_text, node_ids, route, timeout_pair
from storj.rest.connection import Adapter, Calls
from storj.rest.keys import any_key_text
from storj.rest.paging import BUCKETS_PAGE, FILES_PAGE, BySkip, Pages, by_start_date
from storj.rest.request import Request, perform
from storj.rest.transport import Retries

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from storj.transfer import (
        FileHealth,
        ProgressCallback,
        TransferConfig,
        TransferFuture,
        Transfers,
    )
    from storj.transfer.config import Destination, DownloadOptions, SourceLike, UploadOptions

__all__ = (
    'DEFAULT_BRIDGE',
    'BridgeError',
    'Client',
    'ClientError',
    'Pages',
    'Retries',
    'ecdsa_to_hex',
    'handle_nonhttp_errors',
    'model',
)

#: Seconds to connect, and to wait for the head of an answer or the next piece of its body.
DEFAULT_TIMEOUT = (10.0, 30.0)

#: Seconds to wait when the bridge looks for a farmer: bridges themselves give up after 90.
FRAME_TIMEOUT = 100.0

#: Pointers that a bridge resolves at once unless it is told otherwise.
POINTERS_PAGE = 6

R = TypeVar('R', bound=Object)
T = TypeVar('T')
P = ParamSpec('P')

#: Seconds, or seconds to connect and seconds to read.
Timeout: TypeAlias = float | tuple[float, float] | None

#: Opens the files of :meth:`Client.key_export`; programs replace it.
open = keys.open_private


def __getattr__(name: str) -> Any:
    # Programs of 0.3 find it here; others do not pay for the import.
    if name == 'web_socket':
        return importlib.import_module('storj.web_socket')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


_CLIENTS: weakref.WeakSet[Client] = weakref.WeakSet()


def _begin_in_fork() -> None:
    for client in list(_CLIENTS):
        client._begin_in_fork()


if hasattr(os, 'register_at_fork'):  # Windows knows no forks.
    os.register_at_fork(after_in_child=_begin_in_fork)


#: What follows e-mail and password in 0.3.
_ORDER_OF_0_3 = ('do_hashing', 'timeout', 'storj_bridge')


def _in_either_order(init: Callable[P, None]) -> Callable[P, None]:
    """Return a constructor that takes arguments in the order of 0.3 too: its third is a bool."""

    @functools.wraps(init)
    def call(*args: Any, **named: Any) -> None:
        # The client itself, e-mail and password.
        first, others = args[:3], args[3:]
        if others and isinstance(others[0], bool):
            if len(others) > len(_ORDER_OF_0_3):
                raise TypeError(f'after a password and {others[0]} come timeout and storj_bridge')
            init(*first, **dict(zip(_ORDER_OF_0_3, others, strict=False)), **named)
        else:
            init(*args, **named)

    return call


class Client:
    """Client of a Storj bridge.

    Safe to share between threads; each thread has a connection of its own. Use it as a context
    manager, or call :meth:`close`, to release connections and running transfers.

    Every call raises :class:`~storj.exception.StorjBridgeApiError` or one of its children when the
    bridge refuses, :class:`~storj.exception.BridgeUnreachableError` when there is none, and
    ``ValueError`` or ``TypeError`` before anything is sent when an argument is invalid.

    Args:
        email (str | None): user e-mail address; None for calls that need no account.
        password (str | None): user password.
        storj_bridge (str): URL of the bridge. In 0.3 the third argument was ``do_hashing``, the
            fourth ``timeout`` and the fifth the URL: so they are taken if the third is a bool.
        do_hashing (bool): False if passwords are given as the hex of their SHA-256; they are sent
            as they are.
        timeout (float | tuple[float, float] | None): seconds to connect, and to wait for the head
            of an answer and for each piece of its body, which has 300 s in all; one number stands
            for both. None is the default of 10 and 30 (100 when a bridge as of 3.0 looks for a
            farmer); there is no way to wait without a limit.
        mnemonic (str | None): encryption key of files and names.
        plain_names (bool): whether new names are stored in the clear nevertheless.
        proxy (str | None): URL of a proxy; by default that of the environment, whose ``NO_PROXY``
            exempts a bridge from both. Farmers are reached without.
        trust_env (bool): whether requests reads proxies and certificates from the environment.
        verify (bool | str): False, or the path of other certificates, for bridges that need it.
        retries (storj.http.Retries): when calls are tried again.
        transfer_config (storj.transfer.TransferConfig | None): limits of uploads and downloads.

    Raises:
        ValueError: If a URL or the timeout is malformed.
        ConfigurationError: If the proxy is one of SOCKS, without the extra ``socks``.

    Attributes:
        api_url (str): the Storj API endpoint.
        email (str | None): user e-mail address.
        mnemonic (str | None): as given.
        public_key (ecdsa.VerifyingKey | None): of the private key.
        timeout (float | tuple[float, float] | None): as given; may be set.
    """

    logger = logging.getLogger('storj.http')

    @_in_either_order
    def __init__(
        self,
        email: str | None,
        password: str | None,
        storj_bridge: str = DEFAULT_BRIDGE,
        do_hashing: bool = True,
        timeout: Timeout = None,
        mnemonic: str | None = None,
        *,
        plain_names: bool = False,
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
        timeout_pair(timeout)
        self.timeout: Timeout = timeout
        self.mnemonic = mnemonic
        self._plain_names = plain_names
        self._private_key: SigningKey | None = None
        self._public_key_hex: str | None = None
        self.public_key: VerifyingKey | None = None
        self.password = secret if password is None else password
        self._signs = False
        if proxy is not None:
            transport.check_proxy(proxy)
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
        self._transfers: Transfers[Client] | None = None
        self._lock = threading.Lock()
        self._profile_lock = threading.Lock()
        self._closings = 0
        self._calls = Calls()
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()

    def _begin_in_fork(self) -> None:
        """Start again in a forked process: connections and threads belong to the parent."""
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
            # Until the threads of the transfers have ended, none of their requests starts again.
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
        return password.decode('utf-8', 'replace') if isinstance(password, bytes) else password

    @property
    def private_key(self) -> SigningKey | None:
        """(ecdsa.SigningKey) – signs every request from when it is set, as :meth:`authenticate`.

        None goes back to e-mail and password.
        """
        return self._private_key

    @private_key.setter
    def private_key(self, value: SigningKey | None) -> None:
        if isinstance(value, SigningKey):
            self._adopt(value)
        else:
            # Whatever else it is cannot sign, and is refused when it would have to.
            self._private_key = value
        self._signs = value is not None

    @private_key.deleter
    def private_key(self) -> None:
        # mock.patch.object takes what it put there away again.
        self.private_key = None

    @property
    def public_key_hex(self) -> str | None:
        """Public key as it is registered: hex of the uncompressed point, or what is set."""
        if self._public_key_hex is not None or self.public_key is None:
            return self._public_key_hex
        return keys.public_key_text(self.public_key)

    @public_key_hex.setter
    def public_key_hex(self, value: str | None) -> None:
        self._public_key_hex = value

    @public_key_hex.deleter
    def public_key_hex(self) -> None:
        self._public_key_hex = None

    @property
    def session(self) -> requests.Session:
        """The connection of the calling thread.

        One of your own may take its place. Unless it has the adapters of the one it replaces, its
        requests are bounded by the time for each piece of an answer only, and closing the client
        waits for them.
        """
        session: requests.Session | None = getattr(self._local, 'session', None)
        if session is None:
            session = transport.Session()
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
            TypeError: If it is no signing key.
            ValueError: If it is not one of the curve secp256k1.
        """
        if ecdsa_private_key is None:
            self._signs = False
        elif isinstance(ecdsa_private_key, SigningKey):
            self.private_key = ecdsa_private_key
        else:
            raise _no_signing_key(ecdsa_private_key)

    def _adopt(self, private_key: SigningKey) -> None:
        """Keep a key pair without signing with it yet."""
        public_key = private_key.get_verifying_key()
        keys.public_key_text(public_key)
        self._private_key, self.public_key, self._public_key_hex = private_key, public_key, None

    @property
    def _has_password(self) -> bool:
        return bool(self.email) and self.password is not None

    def _auth(self) -> requests.auth.AuthBase:
        """Return what signs a request; it does nothing where the password is used, or nothing."""
        if self.private_key is None or not (self._signs or not self._has_password):
            return transport.NoAuth()
        if not isinstance(self.private_key, SigningKey):
            raise _no_signing_key(self.private_key)
        return transport.KeyAuth(self.private_key, self.public_key_hex or '')

    def _add_basic_auth(self, kwargs: dict[str, Any]) -> None:
        """Add e-mail and hash of the password to the headers among a request's arguments."""
        header = api.basic_authorization(self.email or '', self.password or '')
        kwargs.setdefault('headers', {})['Authorization'] = header.encode()

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
        replace it. What no bridge takes is put right below: JSON with a GET or DELETE does not
        travel, nor does the slash that a path ends in, and a POST, PUT or PATCH always has a body.

        Args:
            method (str): HTTP method.
            path (str): path of the URL, already percent-encoded, with a query if it has one.
            **kwargs: ``json``, ``params``, ``headers`` and ``data`` as in requests; ``timeout``
                as in the class; ``retries`` (int); ``text`` (bool) for an answer that is no JSON.

        Returns:
            Any: the JSON value; ``{}`` for an empty answer.

        Raises:
            StorjBridgeApiError: If the bridge refuses, or answers with null or anything other than
                JSON, or if its release is known and has no such route; then nothing is sent.
            BridgeUnreachableError: If it does not answer.
            TypeError: If a keyword is unknown, the body cannot be JSON, or ``private_key`` is no
                signing key.
        """
        timeout = timeout_pair(kwargs.pop('timeout', None)) or self._timeout(method.upper())
        attempts = kwargs.pop('retries', 0 if self._is_once else self._retries.count)
        policy = dataclasses.replace(self._retries, count=attempts)
        request, calls = Request.of(method, path, kwargs), self._calls
        if api.BridgeProfile.is_rare(request.method, request.path):
            refusal = self.profile().refusal(request.method, request.path)
            if refusal is not None:
                raise StorjBridgeApiError(refusal)

        def exchange() -> tuple[int, Mapping[str, str], bytes]:
            return transport.exchange(
                self.session, self._prepare(request), timeout, self.api_url, calls, policy.clock
            )

        return perform(request, self.api_url, exchange, policy, calls, self.logger)

    def _prepare(self, request: Request) -> requests.Request:
        """Return one attempt at a request, with credentials."""
        auth, kwargs = self._auth(), {'headers': dict(request.headers)}
        if isinstance(auth, transport.NoAuth) and self._has_password:
            self._add_basic_auth(kwargs)
        return request.addressed(self.api_url, kwargs['headers'], auth)

    def _timeout(self, method: str) -> tuple[float, float]:
        given = timeout_pair(self.timeout)
        if given is not None:
            return given
        connect, read = DEFAULT_TIMEOUT
        # Only what is known already: asking for it here would never end.
        profile = self._profile or api.BridgeProfile()
        patient = method == 'PUT' and not profile.misses_offers
        return connect, FRAME_TIMEOUT if patient else read

    def _record(self, kind: type[R], answer: object) -> R:
        """Return a record made of an object that the bridge sent.

        Args:
            kind (type): of the record, by its name in ``storj.model``, which programs replace.
            answer (object): of the bridge.
        """
        record = kind(**as_object(answer))
        record._made_by(self)
        return record

    def _records(self, kind: type[R], answer: object) -> list[R]:
        """Return records made of a list that the bridge sent."""
        return [self._record(kind, entry) for entry in as_objects(answer)]

    # -- the bridge -----------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Describe the bridge.

        See API: GET /

        Returns:
            dict: Swagger description; under ``info`` are ``version``, ``x-core-version`` and
            ``x-protocol-version``.
        """
        return as_object(self._request(method='GET', path='/'))

    def profile(self) -> api.BridgeProfile:
        """Return what the bridge understands, asked for once.

        Returns:
            storj.api.BridgeProfile: a careful one if the bridge says nothing of its release.

        Raises:
            BridgeUnreachableError: If there is no bridge.
            StorjBridgeApiError: If it fails within :meth:`once` and may succeed in a moment.
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
            BridgeUnreachableError: If there is no bridge.
        """
        # Not tried on earlier releases: bridges 1.0 to 4.2 never answer a request for an unknown
        # route, and 'GET /' shows whether they run.
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
        self,
        name: str,
        storage: int | None = None,
        transfer: int | None = None,
        *,
        encrypt_name: bool | None = None,
    ) -> model.Bucket:
        """Create storage bucket.

        See API buckets: POST /buckets

        Args:
            name (str): of the bucket; a client without an encryption key stores it as given.
            storage (int | None): storage limit (in GB); bridges since 1.0 ignore it.
            transfer (int | None): transfer limit (in GB); bridges since 1.0 ignore it.
            encrypt_name (bool | None): whether the name is encrypted; as the client was made if
                None.

        Returns:
            storj.model.Bucket: the new bucket; its ``name`` is the clear one.

        Raises:
            AlreadyExistsError: If the user has a bucket of that name, encrypted or not.
            MnemonicError: If ``encrypt_name`` is true and there is no encryption key.
        """
        body: dict[str, Any] = {
            'name': self._new_bucket_name(checked_text('name', name), encrypt_name)
        }
        for field, value in (('storage', storage), ('transfer', transfer)):
            if value is not None:
                body[field] = checked_count(field, value)
        return self._record(model.Bucket, self._request(method='POST', path='/buckets', json=body))

    def _new_bucket_name(self, name: str, encrypt_name: bool | None) -> str:
        """Return how the name of a new bucket is stored; no bucket has it in another form."""
        if not self.mnemonic:
            if encrypt_name:
                raise MnemonicError('there is no encryption key to encrypt the name with')
            return name
        encrypts = not self._plain_names if encrypt_name is None else encrypt_name
        clear = self.bucket_name(name)
        encrypted = names.encrypt_bucket_name(self.mnemonic, clear)
        stored = encrypted if encrypts and name == clear else name
        # One of the same stored name is the bridge's to refuse.
        found = self._ids_of_buckets(sorted({clear, encrypted} - {stored}))
        if found:
            raise AlreadyExistsError(f'there is a bucket of the name {clear!r}: {found[0]}', 409)
        return stored

    def _forms_of_bucket(self, name: str) -> list[str]:
        """Return how a bucket's name may be stored; one that is encrypted already has one form."""
        if not self.mnemonic or names.decrypt_bucket_name(self.mnemonic, name) is not None:
            return [name]
        return [names.encrypt_bucket_name(self.mnemonic, name), name]

    def bucket_delete(self, bucket_id: str) -> None:
        """Destroy a storage bucket.

        See API buckets: DELETE /buckets/{id}

        Args:
            bucket_id (str): unique identifier.
        """
        self._request(method='DELETE', path=route('/buckets/{bucket_id}', bucket_id=bucket_id))

    def bucket_files(self, bucket_id: str) -> list[dict[str, Any]]:
        """List all the file metadata stored in the bucket.

        See API buckets: GET /buckets/{id}/files

        Args:
            bucket_id (str): unique identifier.

        Returns:
            list[dict]: the entries as the bridge sent them, with ``filename``, ``size``, ``id``,
            ``mimetype`` and, on bridges since 5.8, ``created`` as text; they may be changed. Lists
            of more than 2000 files take several requests.
        """
        listing: list[dict[str, Any]] = []
        for page in self.bucket_file_pages(bucket_id):
            listing += page
        return listing

    def bucket_file_pages(
        self, bucket_id: str, *, brief: bool = False
    ) -> Iterator[list[dict[str, Any]]]:
        """Return an iterator over the entries of a bucket's files, page by page.

        See API buckets: GET /buckets/{id}/files

        Args:
            bucket_id (str): unique identifier.
            brief (bool): whether entries may be without ``hmac``, ``erasure``, ``index`` and
                ``bucket``; a bridge that cannot leave them out sends them.

        Returns:
            Iterator[list[dict]]: the entries as in :meth:`bucket_files`, at most 2000 at a time.
            Each page is fetched when it is asked for.
        """
        path = route('/buckets/{bucket_id}/files/', bucket_id=bucket_id)
        query = {'brief': 'true'} if brief else {}
        return by_start_date(lambda start: self._page(path, start, **query), FILES_PAGE)

    def _page(self, path: str, start: str | None, **query: str) -> list[dict[str, Any]]:
        """Return one page of a listing; the first request has no start."""
        if start is not None:
            # Bridges that know no startDate ignore it and send the first page again. One that has
            # not been asked for its release is tried: by_start_date notices the repetition.
            if self._profile is not None and not self._profile.has_start_date:
                return []
            query['startDate'] = start
        asked: dict[str, Any] = {'params': query} if query else {}
        return as_objects(self._request(method='GET', path=path, **asked))

    def bucket_get(self, bucket_id: str) -> model.Bucket | None:
        """Return the bucket object.

        See API buckets: GET /buckets/{id}

        Args:
            bucket_id (str): bucket unique identifier.

        Returns:
            storj.model.Bucket: bucket.

        Raises:
            NotFoundError: If the user has no such bucket. (None is returned when a replaced
                ``_request`` raises a ``requests.HTTPError`` of status 404, as in 0.1.5.)
        """
        path = route('/buckets/{bucket_id}', bucket_id=bucket_id)
        try:
            answer = self._request(method='GET', path=path)
        except exceptions.HTTPError as error:
            status = None if error.response is None else error.response.status_code
            if status == 404:
                return None
            raise StorjBridgeApiError(str(error), status) from error
        return None if answer is None else self._record(model.Bucket, answer)

    def bucket_id(self, name: str) -> str | None:
        """Look a bucket up by its name.

        See API buckets: GET /bucket-ids/{name} (bridges since 5.14, else the list is searched)

        Args:
            name (str): as stored or in the clear; with a mnemonic, the encrypted form of a clear
                name is looked up too.

        Returns:
            str | None: unique identifier, None if the user has no such bucket.

        Raises:
            AmbiguousNameError: If one bucket has the name encrypted and another in the clear.
        """
        found = self._ids_of_buckets(self._forms_of_bucket(checked_text('name', name)))
        return _only_one(f'two buckets have the name {name!r}', found)

    def _ids_of_buckets(self, stored_names: Sequence[str]) -> list[str]:
        """Return the ids of the buckets of several stored names."""
        if not stored_names:
            return []
        if self._looks_names_up(stored_names[-1]):
            return self._known_ids('/bucket-ids/', stored_names)
        found = (each.id for each in self.bucket_list() if each.stored_name in stored_names)
        # One that a bridge lists twice, or without an id, is no second bucket.
        return list(dict.fromkeys(filter(None, found)))

    def _looks_names_up(self, name: str) -> bool:
        # A segment of dots alone would be taken for a relative path on the way, and bridges refuse
        # a URL with a NUL; a name that is stored encrypted may be either.
        fits = name not in ('.', '..') and '\0' not in name
        return fits and self.profile().has_file_ids

    def _known_ids(self, path: str, stored_names: Iterable[str]) -> list[str]:
        """Return the ids that the bridge knows for several stored names."""
        found = []
        for text in stored_names:
            try:
                answer = self._request(method='GET', path=path + api.segment(text))
            except NotFoundError:
                continue
            if not isinstance(answer, Mapping) or not isinstance(answer.get('id'), str):
                raise unexpected(answer, 'an id')
            found.append(str(answer['id']))
        return found

    def bucket_list(self) -> Iterator[model.Bucket]:
        """List all of the buckets belonging to the user.

        See API buckets: GET /buckets

        Yields:
            storj.model.Bucket: buckets, page by page of 5000.
        """
        for page in by_start_date(lambda start: self._page('/buckets', start), BUCKETS_PAGE):
            # One by one: a caller who keeps none of them needs no memory for all.
            for entry in page:
                yield self._record(model.Bucket, entry)

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
    ) -> model.Bucket:
        """Update the bucket with the given public keys.

        See API buckets: PATCH /buckets/{bucket_id}

        Args:
            bucket_id (str): bucket unique identifier.
            bucket_name (str): bucket name; bridges since 1.1 ignore it.
            keys (list[str]): public keys, which replace the bucket's earlier ones; see
                :meth:`key_register` for their forms. Of any other text the bridge judges.

        Returns:
            storj.model.Bucket: updated bucket information.
        """
        path = route('/buckets/{bucket_id}', bucket_id=bucket_id)
        if isinstance(keys, str | bytes):
            raise TypeError('keys is a list of public keys')
        body = {
            'name': checked_text('bucket_name', bucket_name),
            'pubkeys': [any_key_text(key) for key in keys],
        }
        return self._record(model.Bucket, self._request(method='PATCH', path=path, json=body))

    def bucket_set_mirrors(self, bucket_id: str, file_id: str, redundancy: int) -> model.Mirror:
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
        path = route('/buckets/{bucket_id}/mirrors', bucket_id=bucket_id)
        # Only checked: here the id travels in the body.
        route('{file_id}', file_id=file_id)
        body = {'file': file_id, 'redundancy': checked_count('redundancy', redundancy)}
        answer = self._request(method='POST', path=path, json=body)
        try:
            mirrors = answer if isinstance(answer, list) else as_object(answer)
            return model.Mirror.from_answer(mirrors)
        except TypeError:
            raise unexpected(answer, 'mirrors') from None

    # -- contacts -------------------------------------------------------------------------------

    def contact_list(
        self,
        page: str | int = 1,
        address: str | None = None,
        protocol: str | None = None,
        user_agent: str | None = None,
        connected: bool | None = None,
    ) -> list[model.Contact]:
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
        number = checked_count('page', page)
        if number < 1:
            raise ValueError('pages are counted from 1')
        # At the defaults there is no query: that is the call of 0.1.5, which programs replace.
        params: dict[str, Any] = {} if number == 1 else {'page': number}
        for field, value in (
            ('address', address),
            ('protocol', protocol),
            ('userAgent', user_agent),
        ):
            if value is not None:
                params[field] = checked_text(field, value)
        if connected is not None:
            params['connected'] = 'true' if connected else 'false'
        query: dict[str, Any] = {'params': params} if params else {}
        return self._records(model.Contact, self._request(method='GET', path='/contacts', **query))

    def contact_lookup(self, node_id: str) -> model.Contact:
        """Lookup for contact information of a node.

        See API contacts: GET /contacts/{nodeID}

        Args:
            node_id (str): node unique identifier, 40 hex digits.

        Returns:
            storj.model.Contact: contact information.
        """
        path = route('/contacts/{node_id}', node_id=node_id)
        return self._record(model.Contact, self._request(method='GET', path=path))

    # -- files ----------------------------------------------------------------------------------

    def check_file_existence_in_bucket(self, bucket_id: str, filepath: str | PathLike[str]) -> bool:
        """Return whether a bucket has a file of the name of a local one, as in 0.3.

        Args:
            bucket_id (str): bucket unique identifier.
            filepath (str | PathLike): of the local file; its last part counts.
        """
        name = Path(filepath).name
        return any(
            name in (file.get('filename'), self.file_name(bucket_id, str(file.get('filename'))))
            for file in self.bucket_files(bucket_id)
        )

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
    ) -> model.File:
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
        path = route('/buckets/{bucket_id}/files', bucket_id=bucket_id)
        route('{frame_id}', frame_id=frame_id)
        body: dict[str, Any] = {
            'frame': frame_id,
            'filename': checked_text('filename', filename, blank=True),
        }
        if mimetype is not None:
            body['mimetype'] = checked_text('mimetype', mimetype)
        if index is not None:
            body['index'] = checked_text('index', index)
        if hmac is not None:
            body['hmac'] = {'type': 'sha512', 'value': hmac} if isinstance(hmac, str) else {**hmac}
        if erasure:
            body['erasure'] = {'type': 'reedsolomon'}
        return self._file(bucket_id, self._request(method='POST', path=path, json=body))

    def _file(self, bucket_id: str, answer: object) -> model.File:
        file = self._record(model.File, answer)
        if file.bucket is None:
            file.bucket = bucket_id
        return file

    def file_download(
        self,
        bucket_id: str,
        file_id: str,
        destination: Destination = None,
        *,
        progress: ProgressCallback | None = None,
        **options: Unpack[DownloadOptions],
    ) -> Any:
        """Fetch a file from its farmers, check it and decrypt it.

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.
            destination (str | PathLike | BinaryIO | None): a path, which gets its name when the
                file is whole and right; a binary file object; None for memory.
            progress (Callable[[storj.transfer.Progress], object] | None): called with each state.
            **options (Unpack[DownloadOptions]): what is fetched, and how: ``start``, ``end``,
                ``decrypt``, ``key``, ``resume``, ``overwrite``; see
                :class:`storj.transfer.DownloadOptions`.

        Returns:
            io.BytesIO: the content, at position 0, when there is no destination; otherwise the
            destination.

        Raises:
            TransferError: If the file cannot be fetched; its ``causes`` say why.
            IntegrityError: If what came is not the file, or nothing proves that it is.
            DecryptionError: If the mnemonic is not the file's.
        """
        # Only checked: malformed ids are refused before a transfer is begun.
        route('{bucket_id}{file_id}', bucket_id=bucket_id, file_id=file_id)
        return self._finish(
            self.transfers.download(bucket_id, file_id, destination, progress=progress, **options)
        )

    def file_id(self, bucket_id: str, name: str, *, stored: bool = False) -> str | None:
        """Look a file up by its name.

        See API buckets: GET /buckets/{id}/file-ids/{name} (bridges since 5.14). Of earlier ones the
        id is computed from the name, and before 1.1, and in buckets from before October 2016, when
        ids were random, the list of files is searched.

        Args:
            bucket_id (str): bucket unique identifier.
            name (str): as stored or in the clear; with a mnemonic, the encrypted form of a clear
                name is looked up too.
            stored (bool): whether the name is as stored, and nothing else is looked up.

        Returns:
            str | None: unique identifier, None if the bucket has no such file.

        Raises:
            AmbiguousNameError: If one file has the name encrypted and another in the clear.
        """
        forms = [checked_text('name', name, blank=True)]
        if self.mnemonic and not stored:
            key = content_keys.bucket_key(self.mnemonic, bucket_id)
            if names.decrypt_file_name(key, name) is None:
                forms.insert(0, names.encrypt_file_name(key, bucket_id, name))
        found = self._ids_of_files(bucket_id, forms)
        return _only_one(f'two files have the name {name!r}', found)

    def _ids_of_files(self, bucket_id: str, stored_names: Sequence[str]) -> list[str]:
        """Return the ids of the files of several stored names."""
        path = route('/buckets/{bucket_id}/file-ids/', bucket_id=bucket_id)
        if self._looks_names_up(stored_names[-1]):
            return self._known_ids(path, stored_names)
        profile = self.profile()
        if profile.has_file_info and profile.has_deterministic_ids:
            found = self._computed_ids(bucket_id, stored_names)
            if found or not self._may_have_random_ids(bucket_id):
                return found
        return self._listed_ids(bucket_id, stored_names)

    def _computed_ids(self, bucket_id: str, stored_names: Iterable[str]) -> list[str]:
        """Return the ids that follow from those of several stored names that are in use."""
        found = []
        for text in stored_names:
            identifier = sharding.file_id(bucket_id, text)
            with contextlib.suppress(NotFoundError):
                if self.file_metadata(bucket_id, identifier).filename == text:
                    found.append(identifier)
        return found

    def _may_have_random_ids(self, bucket_id: str) -> bool:
        """Return whether files of a bucket may have ids that follow from nothing.

        Ids were random until October 2016. A bucket whose own id follows from its name was made
        later, and with it all its files.
        """
        try:
            bucket = self.bucket_get(bucket_id)
        except NotFoundError:
            return False
        if bucket is None or not bucket.user or not bucket.stored_name:
            return True
        return bucket.id != sharding.bucket_id(bucket.user, bucket.stored_name)

    def _listed_ids(self, bucket_id: str, stored_names: Sequence[str]) -> list[str]:
        """Search the list of files for all of several stored names."""
        found: dict[str, str] = {}
        for file in itertools.chain.from_iterable(self.bucket_file_pages(bucket_id)):
            text, identifier = file.get('filename'), file.get('id')
            if isinstance(text, str) and text in stored_names and isinstance(identifier, str):
                found.setdefault(text, identifier)
                if len(found) == len(stored_names):
                    break
        return list(found.values())

    def file_metadata(self, bucket_id: str, file_id: str) -> model.File:
        """Get file metadata.

        See API buckets: GET /buckets/{id}/files/{file_id}/info

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.

        Returns:
            storj.model.File: file metadata.
        """
        path = route(
            '/buckets/{bucket_id}/files/{file_id}/info', bucket_id=bucket_id, file_id=file_id
        )
        return self._file(bucket_id, self._request(method='GET', path=path))

    def file_mirrors(self, bucket_id: str, file_id: str) -> list[model.FileMirrors]:
        """List the farmers that hold replicas of a file's shards.

        See API buckets: GET /buckets/{id}/files/{file_id}/mirrors (bridges since 3.1)

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.

        Returns:
            list[storj.model.FileMirrors]: one record per shard.
        """
        path = route(
            '/buckets/{bucket_id}/files/{file_id}/mirrors', bucket_id=bucket_id, file_id=file_id
        )
        return self._records(model.FileMirrors, self._request(method='GET', path=path))

    def file_name(self, bucket_id: str, stored_name: str) -> str:
        """Return the clear name of a file.

        Args:
            bucket_id (str): bucket unique identifier.
            stored_name (str): as the bridge keeps it.

        Returns:
            str: the stored name itself if it was not encrypted with this client's mnemonic.
        """
        # An entry of a listing is as the bridge sent it.
        if not self.mnemonic or not isinstance(stored_name, str):
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
        *,
        token: str | None = None,
    ) -> Pages[model.FilePointer]:
        """Get list of pointers associated with a file.

        See API buckets: GET /buckets/{id}/files/{file_id}. Every page takes a token of its own
        (:meth:`token_create`), unless the bridge is known not to need one (since 5.16).

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.
            skip (str | int | None): pointer index to start the file slice; 0 if None.
            limit (str | int | None): number of pointers to resolve tokens for, in one request;
                None is all of them, in pages of 6 that are fetched when they are reached.
            exclude (Sequence[str] | None): nodeIDs of farmers not to use.
            token (str | None): PULL token of the bucket, for one page; a new one for each page by
                default. A bridge takes a token once, so the request is not repeated.

        Returns:
            Sequence[storj.model.FilePointer]: file pointers in the order of their index. A pointer
            has no ``token`` and no ``farmer`` when no farmer has the shard now.
        """
        path = route('/buckets/{bucket_id}/files/{file_id}/', bucket_id=bucket_id, file_id=file_id)
        size = POINTERS_PAGE if limit is None else checked_count('limit', limit)
        if size < 1:
            raise ValueError('limit is at least 1')
        start = 0 if skip is None else checked_count('skip', skip)
        excluded = ','.join(map(api.segment, node_ids(exclude)))
        is_slice = bool(excluded) or not (skip is None and limit is None)

        def fetch(position: int) -> list[model.FilePointer]:
            # Both or none: bridges since 4.3 take 6 as the end of a slice that names no skip.
            query = f'?skip={position}&limit={size}' if is_slice or position else ''
            query += f'&exclude={excluded}' if excluded else ''
            rights = self._pull_rights(bucket_id, token)
            return self._records(
                model.FilePointer, self._request(method='GET', path=path + query, **rights)
            )

        listing = Pages(BySkip(fetch, start, size, is_one=limit is not None))
        # The first page at once: an unknown file is an error here, not somewhere later.
        bool(listing)
        return listing

    def _pull_rights(self, bucket_id: str, given: str | None) -> dict[str, Any]:
        """Return the keyword arguments that give one request the right to pointers."""
        if given is not None:
            return {'headers': {'x-token': given}, 'retries': 0}
        if self._profile is not None and not self._profile.needs_pull_token:
            return {}
        token = self.token_create(bucket_id, operation='PULL').id
        if isinstance(token, str) and not (token.isascii() and token.isprintable()):
            raise unexpected(token, 'a token')
        return {'headers': {'x-token': token}}

    def file_remove(self, bucket_id: str, file_id: str) -> None:
        """Delete a file pointer from a specified bucket.

        See API buckets: DELETE /buckets/{id}/files/{file_id}

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.
        """
        path = route('/buckets/{bucket_id}/files/{file_id}', bucket_id=bucket_id, file_id=file_id)
        self._request(method='DELETE', path=path)

    def file_upload(
        self,
        bucket_id: str,
        file: SourceLike | None = None,
        frame: model.Frame | str | None = None,
        *,
        f: SourceLike | None = None,
        progress: ProgressCallback | None = None,
        **options: Unpack[UploadOptions],
    ) -> model.File:
        """Upload file: encrypt it, cut it into shards, store them with farmers.

        See API buckets: POST /buckets/{id}/files, which is the last step.

        Args:
            bucket_id (str): bucket unique identifier.
            file (storj.model.File | str | PathLike | BinaryIO | bytes | Iterator[bytes]): file to
                be uploaded; of a :class:`~storj.model.File`, ``filename`` is the path.
            frame (storj.model.Frame | str | None): frame used to stage file, made if None.
            f (storj.model.File | str | PathLike | BinaryIO | bytes | Iterator[bytes] | None): the
                file, under the name of 0.3.
            progress (Callable[[storj.transfer.Progress], object] | None): called with each state.
            **options (Unpack[UploadOptions]): how it is stored: ``name``, ``mimetype``,
                ``encrypt``, ``encrypt_name``, ``parity``, ``resume``, ``overwrite``; see
                :class:`storj.transfer.UploadOptions`.

        Returns:
            storj.model.File: the stored file; its ``name`` is the clear one.

        Raises:
            AlreadyExistsError: If the bucket has a file of this name, encrypted or in the clear.
            MnemonicError: If there is no encryption key (mnemonic) and ``encrypt`` is true; the
                text has the lines that make and store one.
            TransferError: If the file could not be stored; its ``causes`` say why.
        """
        route('{bucket_id}', bucket_id=bucket_id)
        file = f if file is None else file
        if file is None:
            raise TypeError('there is no file to upload')
        if isinstance(file, File):
            options['mimetype'] = options.get('mimetype') or file.mimetype
            if file.filename is None and file.shard_manager is not None:
                file = file.shard_manager.filepath
        if options.get('encrypt_name') is None:
            options['encrypt_name'] = not self._plain_names
        upload = self.transfers.upload(bucket_id, file, frame=frame, progress=progress, **options)
        try:
            return self._finish(upload)
        except MnemonicError as error:
            if self.mnemonic:
                raise
            raise MnemonicError(f'{error}.\n{_KEY_LINES}') from error.__cause__

    def file_verify(self, bucket_id: str, file_id: str, *, decrypt: bool = True) -> FileHealth:
        """Fetch and hash every shard of a file, keeping none.

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.
            decrypt (bool): False for a file that was stored without encryption.

        Returns:
            storj.transfer.FileHealth: which shards are healthy on which farmers.
        """
        route('{bucket_id}{file_id}', bucket_id=bucket_id, file_id=file_id)
        return self.transfers.verify(bucket_id, file_id, decrypt=decrypt)

    @property
    def transfers(self) -> Transfers[Client]:
        """(storj.transfer.Transfers) – uploads and downloads that return a future each."""
        # Imported on first use: a program that only lists needs no engine.
        from storj.transfer import Transfers

        with self._lock:
            if self._transfers is None:
                self._transfers = Transfers(self, self._transfer_config)
            return self._transfers

    def _finish(self, future: TransferFuture[T]) -> T:
        """Wait for a transfer; an interrupt while waiting cancels it."""
        from storj.transfer import wait_for

        return wait_for(future)

    # -- frames ---------------------------------------------------------------------------------

    def frame_add_shard(
        self, shard: model.Shard, frame_id: str, excludes: Sequence[str] | None = None
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
        path = route('/frames/{frame_id}', frame_id=frame_id)
        body = _shard_body(shard, node_ids(excludes))
        try:
            return as_object(self._request(method='PUT', path=path, json=body))
        except StorjBridgeApiError as error:
            raise contract_error(error) from error.__cause__

    def frame_create(self) -> model.Frame:
        """Create a file staging frame.

        See API frames: POST /frames

        Returns:
            storj.model.Frame: the frame.
        """
        return self._record(model.Frame, self._request(method='POST', path='/frames'))

    def frame_delete(self, frame_id: str) -> None:
        """Destroy the file staging frame by its unique ID.

        See API frames: DELETE /frames/{frame_id}. A file that uses the frame is lost with it.

        Args:
            frame_id (str): unique identifier.
        """
        path = route('/frames/{frame_id}', frame_id=frame_id)
        self._request(method='DELETE', path=path, json={'frame_id': frame_id})

    def frame_get(self, frame_id: str) -> model.Frame:
        """Fetch the file staging frame by its unique ID.

        See API frame: GET /frames/{frame_id}

        Args:
            frame_id (str): unique identifier.

        Returns:
            storj.model.Frame: a frame.
        """
        path = route('/frames/{frame_id}', frame_id=frame_id)
        answer = self._request(method='GET', path=path, json={'frame_id': frame_id})
        return self._record(model.Frame, answer)

    def frame_list(self) -> Iterator[model.Frame]:
        """Return all open file staging frames.

        See API frame: GET /frames (bridges since 5.22 send 10 at most)

        Yields:
            storj.model.Frame: all open file staging frames.
        """
        yield from self._records(model.Frame, self._request(method='GET', path='/frames'))

    # -- keys -----------------------------------------------------------------------------------

    def key_delete(self, public_key: VerifyingKey | str) -> None:
        """Remove a public ECDSA key.

        See API keys: DELETE /keys/{pubkey}

        Args:
            public_key (str | VerifyingKey): key to be removed; a text is looked up as it is.
        """
        text = public_key if isinstance(public_key, str) else _key_text(public_key)
        path = route('/keys/{public_key}', public_key=text)
        self._request(method='DELETE', path=path)

    def key_dump(self) -> None:
        """Print this client's key pair and the keys registered with the account.

        A private key of this package shows no digit of itself.
        """
        registered = self.key_list()
        if self.private_key is not None and self.public_key is not None:
            print(f'Local Private Key: {self.private_key}')  # noqa: T201
            print(f'Local Public Key: {self.public_key}')  # noqa: T201
        if registered:
            print(f'Public keys for this account: {_key_ids(registered)}')  # noqa: T201
        else:
            print('No keys associated with this account.')  # noqa: T201

    def key_export(
        self,
        folder: str | PathLike[str] = '',
        *,
        private_name: str = keys.PRIVATE_NAME,
        public_name: str = keys.PUBLIC_NAME,
        overwrite: bool = False,
    ) -> tuple[Path, Path]:
        """Write this client's key pair as PEM files that only their owner can read, and say so.

        What is printed names the files and the folder, no key.

        Args:
            folder (str | PathLike): made with mode 0700 if need be; the current one by default.
            private_name (str): file name of the private key.
            public_name (str): file name of the public key.
            overwrite (bool): whether files of these names that hold another key may be replaced.

        Returns:
            tuple[Path, Path]: paths of the private and the public key.

        Raises:
            ClientError: If the client has no key pair.
            FileExistsError: If there is such a file with another content.
        """
        if self.private_key is None or self.public_key is None:
            raise ClientError('there is no key to export; key_generate() makes one')
        paths = keys.write_key_pair(
            Path(folder),
            keys.pem_pair(self.private_key, self.public_key),
            (private_name, public_name),
            overwrite=overwrite,
            opener=open,
        )
        print(f'Wrote public key {public_name} and private key {private_name}')  # noqa: T201
        print(f'Wrote key files to folder: {folder or os.getcwd()}')  # noqa: PTH109, T201
        return paths

    def key_generate(
        self,
        folder: str | PathLike[str] | None = None,
        *,
        private_name: str = keys.PRIVATE_NAME,
        public_name: str = keys.PUBLIC_NAME,
        overwrite: bool = False,
        register: bool = True,
    ) -> tuple[SigningKey, VerifyingKey]:
        """Make a new key pair, write it as PEM files, register it, and sign with it from then on.

        Args:
            folder (str | PathLike | None): made with mode 0700 if need be; that of the
                configuration if None.
            private_name (str): file name of the private key.
            public_name (str): file name of the public key.
            overwrite (bool): whether files of these names may be replaced.
            register (bool): False to keep the pair in this client only; see :meth:`key_register`,
                and :meth:`authenticate` to sign with it. So does a client without e-mail and
                password, which has no account to register it with.

        Returns:
            tuple[ecdsa.SigningKey, ecdsa.VerifyingKey]: key pair (private, public).

        Raises:
            FileExistsError: If there is such a file; the client's key stays as it was.
            StorjBridgeApiError: If the bridge refuses the key; its files are there then.
        """
        private_key, public_key = keys.generate_key_pair()
        place = default_folder() if folder is None else Path(folder)
        pair = keys.pem_pair(private_key, public_key)
        keys.write_key_pair(place, pair, (private_name, public_name), overwrite=overwrite)
        self._take_key(private_key, register=register)
        return private_key, public_key

    def key_import(
        self,
        private_keyfile_path: str | PathLike[str],
        public_keyfile_path: str | PathLike[str] | None = None,
        *,
        register: bool = True,
    ) -> None:
        """Load a key pair from PEM files, register it, and sign with it from then on.

        Args:
            private_keyfile_path (str | PathLike): private key.
            public_keyfile_path (str | PathLike | None): public key, compared with the private one.
            register (bool): as in :meth:`key_generate`. A key that the account has already is not
                registered again.

        Raises:
            ClientError: If a file cannot be read or the keys do not belong together.
            AlreadyExistsError: If the key is registered with another account.
        """
        private_key = keys.read_key_pair(private_keyfile_path, public_keyfile_path)
        self._take_key(private_key, register=register)

    def _take_key(self, private_key: SigningKey, *, register: bool) -> None:
        """Keep a key pair, and sign with it once the account has it."""
        if not (register and self._has_password):
            self._adopt(private_key)
            return
        text = keys.public_key_text(private_key.get_verifying_key())
        try:
            self.key_register(private_key.get_verifying_key())
        except AlreadyExistsError:
            if text not in self.key_list():
                raise
        self.private_key = private_key

    def key_list(self) -> list[str]:
        """List the public ECDSA keys associated with the user.

        See API keys: GET /keys

        Returns:
            list[str]: public keys, as hex.
        """
        registered = self._records(model.Key, self._request(method='GET', path='/keys'))
        return [key.key for key in registered if key.key is not None]

    def key_register(
        self, public_key: VerifyingKey | str | bytes, label: str | None = None
    ) -> None:
        """Register an ECDSA public key.

        See API keys: POST /keys. :meth:`key_list` returns all that are registered.

        Args:
            public_key (VerifyingKey | str | bytes): the key itself, PEM, hex or bytes.
            label (str | None): a name for it.

        Raises:
            AlreadyExistsError: If the key is registered, with this account or another.
        """
        body = {'key': _registered_text(public_key)}
        if label is not None:
            body['label'] = checked_text('label', label)
        self._request(method='POST', path='/keys', json=body)

    # -- reports, tokens ------------------------------------------------------------------------

    def send_exchange_report(
        self,
        report: model.ExchangeReport | None = None,
        *,
        exchange_report_data: model.ExchangeReport | None = None,
    ) -> None:
        """Tell the bridge how one transfer of a shard went.

        See API reports: POST /reports/exchanges (bridges since 2.2)

        Args:
            report (storj.model.ExchangeReport): ``reporterId`` and ``clientId`` are filled in
                with the client's e-mail if they are not set.
            exchange_report_data (storj.model.ExchangeReport | None): the same under the name of
                0.3.

        Raises:
            NotFoundError: If the bridge does not know the shard.
        """
        report = exchange_report_data if report is None else report
        if not isinstance(report, ExchangeReport):
            raise TypeError(f'a report is an ExchangeReport, not {type(report).__name__}')
        reporter = self.email or self.public_key_hex or 'anonymous'
        body = {'reporterId': reporter, 'clientId': reporter, **report.to_dict()}
        self._request(method='POST', path='/reports/exchanges', json=body)

    def token_create(
        self, bucket_id: str, operation: str, file_id: str | None = None
    ) -> model.Token:
        """Create a token for the specified operation.

        See API buckets: POST /buckets/{id}/tokens

        Args:
            bucket_id (str): bucket unique identifier.
            operation (str): ``PUSH`` or ``PULL``; of any other text the bridge judges.
            file_id (str | None): bridges since 3.0 add ``size`` and ``mimetype`` of this file.

        Returns:
            storj.model.Token: good for one request, within 5 minutes (bridges since 5.15: an hour).
        """
        path = route('/buckets/{bucket_id}/tokens', bucket_id=bucket_id)
        body = {'operation': checked_text('operation', operation)}
        if file_id is not None:
            route('{file_id}', file_id=file_id)
            body['file'] = file_id
        return self._record(model.Token, self._request(method='POST', path=path, json=body))

    # -- users ----------------------------------------------------------------------------------

    def user_activate(self, token: str) -> model.User:
        """Activate user.

        See API users: GET /activations/{token}

        Args:
            token (str): activation token, from the mail.

        Returns:
            storj.model.User: the account.
        """
        path = route('/activations/{token}', token=token)
        return self._record(model.User, self._request(method='GET', path=path))

    def user_activation_email(self, email: str, token: str | None = None) -> model.User:
        """Send user activation email.

        See API users: POST /activations

        Args:
            email (str): user's email address.
            token (str | None): not used; the documentation has it.

        Returns:
            storj.model.User: the account.
        """
        body = {'email': checked_text('email', email)}
        return self._record(
            model.User, self._request(method='POST', path='/activations', json=body)
        )

    def user_create(self, email: str, password: str) -> model.User:
        """Create a new user with Storj bridge, and use the account from now on.

        See API users: POST /users

        Args:
            email (str): user's email address.
            password (str): user's password; its SHA-256 is sent.

        Returns:
            storj.model.User: the account, which has to be activated (:meth:`user_activate`).

        Raises:
            AlreadyExistsError: If there is such an account.
        """
        hashed = self._hashed(checked_text('password', password))
        body = {'email': checked_text('email', email), 'password': hashed}
        user = self._record(model.User, self._request(method='POST', path='/users', json=body))
        self.email, self._password = email, hashed
        return user

    def user_deactivate(self, token: str) -> model.User:
        """Confirm the deactivation of an account with the token from the mail.

        See API users: GET /deactivations/{token}

        Args:
            token (str): deactivation token.

        Returns:
            storj.model.User: the account.
        """
        path = route('/deactivations/{token}', token=token)
        return self._record(model.User, self._request(method='GET', path=path))

    def user_delete(self, email: str) -> model.User:
        """Delete user account: the bridge sends a mail with a deactivation token.

        See API users: DELETE /users/{email}

        Args:
            email (str): user's email address, the caller's own.

        Returns:
            storj.model.User: the account, still active.
        """
        path = route('/users/{email}', email=email)
        return self._record(model.User, self._request(method='DELETE', path=path))

    def user_reset_password(self, email: str, password: str | None = None) -> model.User:
        """Request a password reset: the bridge sends a mail with a token.

        See API users: PATCH /users/{email}

        Args:
            email (str): user's email address.
            password (str | None): the new password. Bridges below 7.5 want it here, later ones
                with the confirmation.

        Returns:
            storj.model.User: the account.

        Raises:
            ValueError: If the bridge wants the new password here and there is none.
        """
        path = route('/users/{email}', email=email)
        kwargs: dict[str, Any] = {}
        if password is not None:
            body = {'password': self._hashed(checked_text('password', password))}
            # Only what is known already: bridges since 7.5 overlook it here.
            if not (self._profile or api.BridgeProfile()).resets_by_post:
                kwargs['json'] = body
        try:
            answer = self._request(method='PATCH', path=path, **kwargs)
        except StorjBridgeApiError as error:
            if password is None and error.code == 400:
                raise ValueError('this bridge wants the new password with the request') from error
            raise
        return self._record(model.User, answer)

    def user_reset_password_confirmation(
        self, token: str, password: str | None = None
    ) -> model.User:
        """Confirm a password reset request.

        See API users: GET /resets/{token} (bridges below 7.5), POST /resets/{token} (later)

        Args:
            token (str): password reset token.
            password (str | None): the new password; bridges since 7.5 want it here.

        Returns:
            storj.model.User: the account.
        """
        path = route('/resets/{token}', token=token)
        if password is not None:
            body = {'password': self._hashed(checked_text('password', password))}
            if self.profile().resets_by_post:
                return self._record(model.User, self._request(method='POST', path=path, json=body))
        return self._record(model.User, self._request(method='GET', path=path))


def handle_nonhttp_errors(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that raises ``ClientError`` where requests got no answer; 0.3 had it.

    The methods of :class:`Client` do so by themselves.

    Args:
        function (Callable): makes requests; an ``HTTPError``, which has an answer, passes.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except exceptions.HTTPError:
            raise
        except exceptions.RequestException as error:
            raise ClientError(str(error)) from error

    return call


#: What makes an encryption key where an account has none, as of those who know 0.1.5 only. One that
#: is stored already is kept: it opens the files of the account.
_KEY_LINES = """\
These lines of Python make one and store it in storj.ini:

    import storj
    from storj.crypto import mnemonic

    key = storj.configuration.load().mnemonic or mnemonic.generate()
    storj.configuration.save(mnemonic=key)

storj.get_client() and the managers find it there; give it to your own client with
storj.Client(..., mnemonic=key) or client.mnemonic = key. Write it down: nobody can recover it.
file_upload(..., encrypt=False) stores the file without encryption."""


def _only_one(what: str, ids: Sequence[str]) -> str | None:
    """Return the id that a name stands for, None for none."""
    if len(ids) > 1:
        raise AmbiguousNameError(what, ids)
    return ids[0] if ids else None


def _no_signing_key(value: object) -> TypeError:
    return TypeError(f'a private key is a SigningKey, not {type(value).__name__}')


def _shard_body(shard: model.Shard, excludes: Sequence[str]) -> dict[str, Any]:
    """Return the record of a shard for the bridge, or of anything with a shard's attributes."""
    try:
        body = {
            name: getattr(shard, name) for name in ('hash', 'index', 'challenges', 'tree', 'size')
        }
    except AttributeError:
        raise TypeError(f'a shard is a Shard, not {type(shard).__name__}') from None
    if isinstance(shard.tree, MerkleTree):
        body['tree'] = shard.tree.leaves
    own = getattr(shard, 'exclude', None)
    excluded = list(dict.fromkeys([*(own if isinstance(own, Iterable) else ()), *excludes]))
    if excluded:
        body['exclude'] = excluded
    if isinstance(parity := getattr(shard, 'parity', None), bool):
        body['parity'] = parity
    return body


def _key_text(key: VerifyingKey | str | bytes) -> str:
    # Under a name of its own: bucket_set_keys has a documented argument `keys`.
    return keys.public_key_text(key)


def _registered_text(key: VerifyingKey | str | bytes) -> str:
    """Return a key as it is registered, by way of ``ecdsa_to_hex``, which programs replace."""
    try:
        return ecdsa_to_hex(keys.public_key_bytes(key))
    except (TypeError, ValueError) as error:
        try:
            text = ecdsa_to_hex(key)  # type: ignore[arg-type]
        except TypeError:
            raise error from None
        # Bytes that are no public key may be a private one: they go nowhere.
        if isinstance(key, bytes | bytearray) and isinstance(text, str) and key.hex() in text:
            raise
        return text


def _key_ids(registered: Iterable[Any]) -> list[Any]:
    """Return the ids of keys, which in some releases were objects."""
    return [key if isinstance(key, str) else key['id'] for key in registered]
