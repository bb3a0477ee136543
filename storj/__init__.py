"""Storj package: store files on a Storj v2 network and get them back.

Three lines do it, once :mod:`storj.configuration` finds an account::

    import storj
    storj.upload('a.bin', 'storj://bucket/a.bin')
    storj.download('storj://bucket/a.bin', 'b.bin')

:class:`Client` is the way to everything else. The managers are the small interface that 0.1.5
documented; each acts through :func:`get_client`.

Submodules are loaded when they are first used, so that the import is quick and needs no optional
package.
"""

from __future__ import annotations

import abc
import dataclasses
import importlib
import logging
from collections.abc import Iterable
from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storj.metadata import __author__, __copyright__, __license__, __title__, __version__
from storj.object import set_client_factory

if TYPE_CHECKING:
    from ecdsa import SigningKey, VerifyingKey

    from storj import api as api
    from storj import configuration as configuration
    from storj import exception as exception
    from storj import http as http
    from storj import metadata as metadata
    from storj import model as model
    from storj.api import ecdsa_to_hex as ecdsa_to_hex
    from storj.configuration import Configuration
    from storj.http import Client as Client
    from storj.model import Bucket as Bucket
    from storj.model import File as File
    from storj.model import Token as Token
    from storj.transfer import TransferConfig

__all__ = (
    'Bucket',
    'BucketKeyManager',
    'BucketManager',
    'Client',
    'File',
    'FileManager',
    'Token',
    'TokenManager',
    'UserKeyManager',
    '__author__',
    '__copyright__',
    '__license__',
    '__title__',
    '__version__',
    'download',
    'ecdsa_to_hex',
    'generate_new_key_pair',
    'get_client',
    'read_config',
    'upload',
    'version',
)

_SUBMODULES = frozenset(
    {'api', 'catalog', 'cli', 'configuration', 'crypto', 'digest', 'downloader', 'erasure'}
    | {'exception', 'file_crypto', 'http', 'metadata', 'metadisk', 'model', 'network', 'object'}
    | {'sharder', 'sharding', 'transfer', 'uploader', 'web_socket'}
)

# 'network' and 'cli' need packages of extras: without them only their first use fails.

#: Name at the top -> the module that has it.
_NAMES = {
    'Bucket': 'storj.model',
    'Client': 'storj.http',
    'File': 'storj.model',
    'Token': 'storj.model',
    'ecdsa_to_hex': 'storj.api',
}

_SCHEME = 'storj://'


def __getattr__(name: str) -> Any:
    """Load a submodule, or a name of one, at first use."""
    if name in _SUBMODULES:
        return importlib.import_module(f'storj.{name}')
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES, *_NAMES})


def version() -> str:
    """Return the version of this package, as in 0.2."""
    return __version__


def read_config() -> tuple[str, str]:
    """Return e-mail and password; see :func:`storj.configuration.read_config`.

    :func:`get_client` calls it by this name, which programs replace.
    """
    from storj import configuration

    return configuration.read_config()


def get_client() -> Client:
    """Return a pre-configured Storj HTTP client.

    E-mail and password come from :func:`read_config`, the bridge and the mnemonic from the
    environment or the same file; with a ``private_key`` in it, requests are signed.

    Returns:
        storj.http.Client: Storj HTTP client.

    Raises:
        ConfigurationError: If there is no account, or the file is broken.
    """
    from storj import configuration

    settings = configuration.load()
    # Signed requests need no password.
    if settings.private_key is None:
        with configuration.given(settings):
            email, password = read_config()
        settings = dataclasses.replace(settings, email=email, password=password)
    return client_of(settings)


def client_of(settings: Configuration, *, timeout: float | None = None) -> Client:
    """Return a client with settings; nothing else turns settings into a client.

    Args:
        settings (Configuration): account, bridge and the rest; without account for the calls that
            need none.
        timeout (float | None): as in :class:`storj.http.Client`; goes before that of the settings.

    Returns:
        storj.http.Client: signs its requests if the settings name a private key.
    """
    # The client by its name here, which programs replace.
    from storj import Client

    more: dict[str, Any] = {}
    if settings.bridge_retries is not None:
        from storj.rest.transport import Retries

        more['retries'] = Retries(count=settings.bridge_retries)
    client = Client(
        settings.email,
        settings.password,
        settings.bridge,
        timeout=settings.timeout if timeout is None else timeout,
        mnemonic=settings.mnemonic,
        plain_names=settings.plain_names,
        proxy=settings.proxy,
        transfer_config=_transfer_config(settings),
        **more,
    )
    if settings.private_key is not None:
        client.key_import(settings.private_key, register=False)
        client.authenticate(client.private_key)
    return client


def _transfer_config(settings: Configuration) -> TransferConfig | None:
    """Return the limits that the settings name, None (and no engine loaded) if they name none."""
    from storj.preferences import SETTINGS

    limits = [it for it in SETTINGS.values() if it.engine] + [SETTINGS['bridge_retries']]
    if all(getattr(settings, it.name) == it.default for it in limits):
        return None
    return transfer_config(settings)


def transfer_config(settings: Configuration, **limits: Any) -> TransferConfig:
    """Return the limits of transfers with settings.

    Args:
        settings (Configuration): their limits are taken.
        **limits: of :class:`storj.transfer.TransferConfig`; they go before the settings.
    """
    from storj.farmer_connection import ChannelLimits
    from storj.preferences import RATE, SETTINGS
    from storj.retry import RetryPolicy
    from storj.transfer import TransferConfig

    named: dict[str, Any] = {}
    for it in SETTINGS.values():
        value = getattr(settings, it.name)
        if it.engine and value is not None:
            # No limit is 0 in the settings, so that it can go before one.
            named[it.engine] = (value or None) if it.kind is RATE else value
    if settings.retries is not None:
        named['shard_attempts'] = settings.retries + 1
    if settings.bridge_retries is not None:
        named['bridge_retry'] = RetryPolicy(attempts=settings.bridge_retries + 1)
    named.pop('channel', None)
    channel: dict[str, float] = {}
    if settings.farmer_timeout is not None:
        phases = ('connect', 'first_byte', 'acknowledge', 'stall')
        channel = dict.fromkeys(phases, settings.farmer_timeout)
    if settings.minimum_rate is not None:
        channel['minimum_rate'] = settings.minimum_rate
    if channel:
        named['channel'] = ChannelLimits(**channel)
    return TransferConfig(**{**named, **limits})


# By its name, which programs replace.
set_client_factory(lambda: get_client())

# A program that configures no logging does not get our warnings on its standard error.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def generate_new_key_pair() -> tuple[SigningKey, VerifyingKey]:
    """Generate a new key pair.

    Returns:
        tuple[ecdsa.keys.SigningKey, ecdsa.keys.VerifyingKey]: key pair (private, public), of the
        curve secp256k1.
    """
    from storj.rest import keys

    return keys.generate_key_pair()


def upload(source: Any, destination: str, **options: Any) -> model.File:
    """Store a file under a name in a bucket.

    Args:
        source (str | PathLike | BinaryIO | bytes | Iterator[bytes]): the file.
        destination (str): ``storj://bucket/name``; where it ends in a slash, the name of the
            source is added.
        **options: of :meth:`storj.http.Client.file_upload`.

    Returns:
        storj.model.File: the stored file.

    Raises:
        NotFoundError: If there is no such bucket.
        ValueError: If the destination is malformed.
    """
    bucket, name = _split(destination)
    if not name or name.endswith('/'):
        if not isinstance(source, str | PathLike):
            raise ValueError(f'{destination!r} names no file, and the source has no name')
        name += Path(source).name
    with closing(get_client()) as client:
        return client.file_upload(_bucket_id(client, bucket), source, name=name, **options)


def download(source: str, destination: str | PathLike[str] | Any = None, **options: Any) -> Any:
    """Fetch a file by its name.

    Args:
        source (str): ``storj://bucket/name``.
        destination (str | PathLike | BinaryIO | None): where to, memory if None.
        **options: of :meth:`storj.http.Client.file_download`.

    Returns:
        io.BytesIO: the content, when there is no destination.

    Raises:
        NotFoundError: If there is no such bucket or file.
        ValueError: If the source is malformed.
    """
    bucket, name = _split(source)
    if not name:
        raise ValueError(f'{source!r} names no file')
    with closing(get_client()) as client:
        bucket_id = _bucket_id(client, bucket)
        file_id = client.file_id(bucket_id, name)
        if file_id is None:
            raise _not_found(f'no file {name!r} in bucket {bucket!r}')
        return client.file_download(bucket_id, file_id, destination, **options)


def _split(uri: str) -> tuple[str, str]:
    """Return bucket and file name of a ``storj://`` address."""
    if not isinstance(uri, str):
        raise TypeError(f'an address is text, not {type(uri).__name__}')
    bucket, _, name = uri.removeprefix(_SCHEME).partition('/')
    if not uri.startswith(_SCHEME) or not bucket:
        raise ValueError(f'{uri!r} is not of the form {_SCHEME}bucket/name')
    return bucket, name


def _bucket_id(client: Client, name: str) -> str:
    bucket_id = client.bucket_id(name)
    if bucket_id is None:
        raise _not_found(f'no bucket {name!r}')
    return bucket_id


def _not_found(message: str) -> exception.NotFoundError:
    from storj.exception import NotFoundError

    return NotFoundError(message, 404)


class BucketManager(abc.ABCMeta):
    """Class to manage buckets."""

    @staticmethod
    def all() -> list[model.Bucket]:
        """Return all buckets of the user."""
        with closing(get_client()) as client:
            return list(client.bucket_list())

    @staticmethod
    def create(
        name: str, storage_limit: int | None = None, transfer_limit: int | None = None
    ) -> model.Bucket:
        """Create bucket.

        Args:
            name (str): bucket name.
            storage_limit (int | None): in GB.
            transfer_limit (int | None): in GB.
        """
        with closing(get_client()) as client:
            return client.bucket_create(name, storage=storage_limit, transfer=transfer_limit)

    @staticmethod
    def delete(bucket_id: str) -> None:
        """Remove bucket.

        Args:
            bucket_id (str): bucket unique identifier.
        """
        with closing(get_client()) as client:
            client.bucket_delete(bucket_id)

    @staticmethod
    def get(bucket_id: str) -> model.Bucket | None:
        """Return one bucket.

        Args:
            bucket_id (str): bucket unique identifier.
        """
        with closing(get_client()) as client:
            return client.bucket_get(bucket_id)


class BucketKeyManager:
    """Public keys that may use a bucket without an account of their own.

    Args:
        bucket (storj.model.Bucket): the bucket.
        authorized_public_keys (Iterable[str]): keys that it has now.

    Attributes:
        bucket (storj.model.Bucket): as the bridge last had it.
    """

    def __init__(self, bucket: model.Bucket, authorized_public_keys: Iterable[str]) -> None:
        self.bucket = bucket
        self._keys = list(authorized_public_keys)

    def _set(self, keys: list[Any]) -> None:
        # The list here changes only once the bridge agreed.
        with closing(get_client()) as client:
            bucket = client.bucket_set_keys(self.bucket.id or '', self.bucket.name or '', keys)
        self._keys = list(bucket.pubkeys if isinstance(bucket.pubkeys, list) else keys)
        self.bucket = bucket

    def add(self, key: VerifyingKey | str | bytes) -> None:
        """Allow a public key; see :meth:`storj.http.Client.key_register` for its forms."""
        self._set([*self._keys, _public_key_text(key)])

    def all(self) -> list[str]:
        """Return the keys that are allowed."""
        return list(self._keys)

    def clear(self) -> None:
        """Allow no key any more."""
        self._set([])

    def remove(self, key: VerifyingKey | str | bytes) -> None:
        """Allow a public key no more.

        Raises:
            ValueError: If it was not allowed.
        """
        text = _public_key_text(key)
        if text not in self._keys:
            raise ValueError('the bucket has no such key')
        self._set([other for other in self._keys if other != text])


def _public_key_text(key: VerifyingKey | str | bytes) -> str:
    from storj.rest import keys

    return keys.any_key_text(key)


class FileManager:
    """Files of one bucket.

    Args:
        bucket_id (str): bucket unique identifier.

    Attributes:
        bucket_id (str): as given.
    """

    def __init__(self, bucket_id: str) -> None:
        self.bucket_id = bucket_id

    def all(self) -> list[dict[str, Any]]:
        """Return the files of the bucket; see :meth:`storj.http.Client.bucket_files`."""
        with closing(get_client()) as client:
            return client.bucket_files(self.bucket_id)

    def delete(self, bucket_id: str, file_id: str) -> None:
        """Remove a file.

        Args:
            bucket_id (str): bucket unique identifier.
            file_id (str): file unique identifier.
        """
        with closing(get_client()) as client:
            client.file_remove(bucket_id, file_id)

    def download(
        self,
        file_id: str | None = None,
        /,
        *newer: str,
        bucket_id: str | None = None,
        **options: Any,
    ) -> Any:
        """Fetch a file; see :meth:`storj.http.Client.file_download`.

        Args:
            file_id (str): file unique identifier; taken by its name as well.
            *newer (str): the file's identifier, where the bucket's comes first, as in 0.3:
                ``download(bucket_id, file_id)``.
            bucket_id (str | None): bucket unique identifier, that of the manager if None.
            **options: of ``Client.file_download``, among them ``destination``.

        Raises:
            TypeError: If there is no id of a file, or more than two ids.
        """
        named = options.pop('file_id', None)
        ids = [each for each in (file_id, *newer, named) if each is not None]
        if bucket_id is not None or len(ids) == 1:
            ids.insert(0, self.bucket_id if bucket_id is None else bucket_id)
        if len(ids) != 2:
            raise TypeError('download takes file_id, or bucket_id and file_id')
        with closing(get_client()) as client:
            return client.file_download(*ids, **options)

    def upload(
        self, file: Any = None, frame: Any = None, *, f: Any = None, **options: Any
    ) -> model.File:
        """Store a file; see :meth:`storj.http.Client.file_upload`.

        Args:
            file (storj.model.File | str | PathLike | BinaryIO): file to be uploaded.
            frame (storj.model.Frame | None): frame used to stage file, made if None.
            f (storj.model.File | str | PathLike | BinaryIO): the file, under the name of 0.3.
            **options: of ``Client.file_upload``.
        """
        file = f if file is None else file
        with closing(get_client()) as client:
            return client.file_upload(self.bucket_id, file, frame, **options)


class TokenManager:
    """Bucket token manager.

    Args:
        bucket_id (str): bucket unique identifier.

    Attributes:
        bucket_id (str): as given.
    """

    def __init__(self, bucket_id: str) -> None:
        self.bucket_id = bucket_id

    def create(self, operation: str) -> model.Token:
        """Create a token.

        Args:
            operation (str): operation (PUSH or PULL), in any case.

        Raises:
            ValueError: If it is another one.
        """
        name = operation.upper() if isinstance(operation, str) else operation
        if name not in ('PUSH', 'PULL'):
            raise ValueError(f'an operation is PUSH or PULL, not {operation!r}')
        with closing(get_client()) as client:
            return client.token_create(self.bucket_id, name)


class UserKeyManager(abc.ABCMeta):
    """Public keys registered with the user's account."""

    @staticmethod
    def add(key: VerifyingKey | str | bytes) -> None:
        """Register a public key; see :meth:`storj.http.Client.key_register` for its forms."""
        with closing(get_client()) as client:
            client.key_register(key)

    @staticmethod
    def all() -> list[str]:
        """Return the registered keys."""
        with closing(get_client()) as client:
            return client.key_list()

    @staticmethod
    def clear() -> None:
        """Remove all registered keys."""
        with closing(get_client()) as client:
            for key in client.key_list():
                client.key_delete(key)

    @staticmethod
    def remove(key: VerifyingKey | str) -> None:
        """Remove a registered key."""
        with closing(get_client()) as client:
            client.key_delete(key)
