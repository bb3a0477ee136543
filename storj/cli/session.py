"""What one run of a command works with: options, settings, client, engine, output."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from storj.catalog.errors import LocalPathNotFound
from storj.catalog.filters import Filters, Rule
from storj.cli.errors import CommandError, NothingConfigured, NotLoggedIn
from storj.cli.output import Output
from storj.exception import ConfigurationError
from storj.text import LogFormatter

if TYPE_CHECKING:
    from storj.catalog.copier import Copier, CopyOptions
    from storj.catalog.entries import Catalog
    from storj.catalog.times import Times
    from storj.cli.completion import NameCache
    from storj.configuration import Configuration
    from storj.http import Client
    from storj.transfer import BridgeReader, TransferConfig, Transfers

B = TypeVar('B', bound='BridgeReader')

_LOG_FORMAT = '%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s'


@dataclass(frozen=True)
class TransferOptions:
    """Options of the commands that move files.

    None leaves a limit to the settings.

    Attributes:
        transfers (int | None): files at the same time.
        concurrency (int | None): shards at the same time.
        retries (int | None): how often a shard is tried again.
        limit_upload (int | None): bytes per second; 0 for no limit.
        limit_download (int | None): bytes per second; 0 for no limit.
        progress (bool | None): show bars, or not; None where a terminal is.
        key_scheme (str | None): how keys are made for the JavaScript clients, and by them.
        allow_unauthenticated (bool | None): decrypt what no HMAC proves, of bridges that keep none.
    """

    transfers: int | None = None
    concurrency: int | None = None
    retries: int | None = None
    limit_upload: int | None = None
    limit_download: int | None = None
    progress: bool | None = None
    key_scheme: str | None = None
    allow_unauthenticated: bool | None = None

    def sending(self) -> TransferOptions:
        """Return the options of an engine that uploads only."""
        return dataclasses.replace(self, limit_download=0)

    def receiving(self) -> TransferOptions:
        """Return the options of an engine that downloads only."""
        return dataclasses.replace(self, limit_upload=0)


class _Handler(logging.Handler):
    """Prints log records through the output, so that bars and lines do not mix."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record on standard error."""
        try:
            for line in self.format(record).split('\n'):
                self._say(line)
        except Exception:
            self.handleError(record)


class _Brief(_Handler):
    """Prints the first of many failed attempts of one kind, and at the end how many there were.

    Twenty shards that fail at a farmer which has gone are one thing to know. What is no attempt, a
    file that is left out for example, is printed each time.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(say)
        self._counts: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, or count it."""
        if 'failed' not in str(record.msg):
            super().emit(record)
            return
        kind = f'{record.name} {record.msg}'
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if self._counts[kind] == 1:
            super().emit(record)

    def close(self) -> None:
        """Print how many records were only counted."""
        more = sum(self._counts.values()) - len(self._counts)
        self._counts.clear()
        if more:
            self._say(f"{more} more messages like these; '-v' shows them")
        super().close()


class _LogFile(logging.FileHandler):
    """Writes log records to a file, and remembers why it could not."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding='utf-8')
        self.failure: BaseException | None = None
        self._ended = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless it is one of a thread that began to log before the end."""
        if not self._ended:
            # A closed file would be opened again, and nobody would close it.
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Remember the error: the command continues without its log, and reports it last."""
        self.failure = self.failure or sys.exc_info()[1]

    def close(self) -> None:
        """Close the file."""
        self._ended = True
        try:
            super().close()
        except OSError as error:
            self.failure = self.failure or error


class Session:
    """One run of a command; a context manager that closes what it opened.

    Attributes:
        as_json, quiet, exact, utc (bool), verbose (int): common options.
        colour, profile, bridge, log_file (str | None): common options.
        arguments (Sequence[str]): of the command line.
        rules (Sequence[Rule]): ``--include`` and ``--exclude`` in the order typed.
        timeout (float | None): seconds to wait for the bridge; the client's own by default.
        stopping (threading.Event): set when transfers are stopped.
        resumable (bool): whether the interrupted command continues when it is run again.
        new_profile (bool): whether the profile may be one that the file does not have yet.
        progress (bool): whether the settings allow bars.
        debug (str | None): what the settings want logged.
    """

    def __init__(self) -> None:
        self.as_json = False
        self.quiet = False
        self.verbose = 0
        self.colour: str | None = None
        self.exact = False
        self.utc = False
        self.profile: str | None = None
        self.bridge: str | None = None
        self.log_file: str | None = None
        self.arguments: Sequence[str] = ()
        self.rules: Sequence[Rule] = ()
        self.timeout: float | None = None
        self.stopping = threading.Event()
        self.resumable = False
        self.new_profile = False
        self.progress = True
        self.debug = os.environ.get('STORJ_DEBUG')
        self._open = contextlib.ExitStack()
        self._log: _LogFile | None = None
        self._output: Output | None = None
        self._settings: Configuration | None = None
        self._client: Client | None = None
        self._times: Times | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._open.close()
        if kind is None and self._log is not None and self._log.failure is not None:
            reason = getattr(self._log.failure, 'strerror', None) or self._log.failure
            raise CommandError(f'cannot write to {self.log_file}: {reason}', hint='')

    @property
    def filters(self) -> Filters:
        """The filters of the command."""
        return Filters(self.rules)

    @property
    def output(self) -> Output:
        """Where the command prints."""
        if self._output is None:
            return self._make_output()
        return self._output

    @property
    def debugging(self) -> bool:
        """Whether errors come with a traceback."""
        return self.verbose >= 2 or (self.debug or '0') != '0'

    def start(self, formatter: logging.Formatter | None = None) -> None:
        """Take the options as they are now: choose the output and begin to log.

        Args:
            formatter (logging.Formatter | None): of logs that a program reads; they tell more.
        """
        with contextlib.ExitStack() as early:
            # Warnings about the settings cannot wait for the settings of logs.
            handler = _Handler(self._make_output().note)
            self._log_to(handler, logging.WARNING, LogFormatter('%(message)s'), early)
            self._apply_settings()
        self._output = self._make_output()
        level = logging.DEBUG if self.debugging else logging.INFO
        detailed = formatter or LogFormatter(_LOG_FORMAT)
        if self.debugging or self.verbose or formatter is not None:
            self._log_to(_Handler(self._output.warn), level, detailed)
        else:
            # A retry is printed: it explains why nothing seems to happen.
            brief = LogFormatter('%(message)s')
            self._log_to(_Brief(self._output.note), logging.WARNING, brief)
        if self.log_file is not None:
            self._log = _LogFile(self.log_file)
            self._log_to(self._log, logging.DEBUG, detailed)

    @property
    def settings(self) -> Configuration:
        """Account, bridge and the rest, from flags, environment and file in this order.

        After 'storj account login --keyring' the secrets come from the system's key store.
        """
        if self._settings is None:
            from storj import configuration

            found = configuration.load(self.profile, new=self.new_profile, bridge=self.bridge)
            self._settings = _with_key_store(found) if found.keyring else found
        return self._settings

    @property
    def kept_settings(self) -> Configuration:
        """The settings of the profile in the file alone."""
        from storj import configuration

        names = ('STORJ_CONFIG_DIR', 'STORJ_PROFILE')
        environment = {name: os.environ[name] for name in names if name in os.environ}
        return configuration.load(self.profile, environ=environment, new=True)

    def save(self, **settings: Any) -> Path:
        """Write settings into the profile and read them afresh when they are needed again."""
        from storj import configuration

        path = configuration.save(self.profile, **settings)
        self._settings = self._client = None
        return path

    @property
    def client(self) -> Client:
        """Client of the account; signs with the key of the settings if there is one.

        Raises:
            NotLoggedIn: If no account is known.
        """
        if self._client is None:
            self.use_local_network()
            settings = self.settings
            has_password = bool(settings.email) and settings.password is not None
            if not has_password and settings.private_key is None:
                if settings.keyring and settings.email:
                    raise NotLoggedIn(
                        f'the key store is locked, or has no password of {settings.email}'
                    )
                kept = settings.login_bridge
                belongs = f': the login in {settings.path} is for {kept}' if kept else ''
                raise NotLoggedIn(f'not logged in at {settings.bridge}{belongs}')
            self._client = self._open_client(settings)
        return self._client

    def use_local_network(self) -> None:
        """Take the account of this user's own network, if it runs and nothing at all is configured.

        Raises:
            NothingConfigured: If nothing is configured and no network runs.
        """
        if self.bridge or self.profile or not self.settings.is_empty:
            return
        from storj import configuration
        from storj.network.control import RunningNetwork, is_running, network_folder

        folder = network_folder()
        if not is_running(folder):
            raise NothingConfigured('no bridge and no account are configured')
        environment = RunningNetwork(folder).status()['environment']
        self._settings = configuration.load(environ={**os.environ, **environment})
        self.output.note(f'using the network that runs on this machine: {self._settings.bridge}')

    @property
    def key_folder(self) -> Path:
        """Where key pairs are kept."""
        from storj import configuration

        return configuration.default_folder()

    @property
    def journal_folder(self) -> Path:
        """Where transfers that were interrupted are written down."""
        from storj.transfer import TransferConfig

        return TransferConfig(state_dir=self.settings.state_dir).journal_dir()

    def make_client(
        self, email: str | None, password: str | None, *, bridge: str | None = None
    ) -> Client:
        """Return a client that the session closes.

        Args:
            email (str | None): of the account, None for the routes that need none.
            password (str | None): in clear.
            bridge (str | None): URL; that of the settings by default.
        """
        settings = dataclasses.replace(
            self.settings,
            email=email,
            password=password,
            bridge=bridge or self.settings.bridge,
            private_key=None,
        )
        return self._open_client(settings)

    def _open_client(self, settings: Configuration) -> Client:
        from storj import client_of

        client = client_of(settings, timeout=self.timeout)
        self._open.callback(client.close)
        return client

    @property
    def encryption_key(self) -> str | None:
        """The encryption key (mnemonic), if one is set.

        Raises:
            MnemonicError: If it is none. A mistyped word would hide everything that is stored, and
                make names that the right key does not open.
        """
        key = self.settings.mnemonic
        if key is not None:
            from storj.crypto import mnemonic

            mnemonic.check(key)
        return key

    @property
    def catalog(self) -> Catalog:
        """Names and ids of the account."""
        return self.catalog_for()

    def catalog_for(self, *, plain_names: bool | None = None) -> Catalog:
        """Return the catalog that stores new names as asked; None follows the settings."""
        from storj.catalog.entries import Catalog

        plain = self.settings.plain_names if plain_names is None else plain_names
        return Catalog(
            self.client, plain_names=plain, seen=self.cache.store, times=self._remembered_times()
        )

    def _remembered_times(self) -> Times:
        if self._times is None:
            from storj.catalog.times import Times

            self._times = Times(self.journal_folder.parent / 'times.db')
            self._open.callback(self._times.close)
        return self._times

    @property
    def cache(self) -> NameCache:
        """Names seen lately, for completion."""
        import appdirs

        from storj.cli.completion import NameCache

        account = f'{self.settings.bridge} {self.settings.email}'
        return NameCache(Path(appdirs.user_cache_dir('storj')), account)

    def wants_progress(self, options: TransferOptions) -> bool | None:
        """Return whether bars were asked for, refused (False), or depend on the terminal (None)."""
        if options.progress is None and not self.progress:
            return False
        return options.progress

    def files_at_once(self, options: TransferOptions) -> int:
        """Return how many files are moved at the same time."""
        from storj.transfer import TransferConfig

        return options.transfers or self.settings.transfers or TransferConfig().transfers

    def small_files_at_once(self, options: TransferOptions) -> int:
        """Return how many are if they are small: more, unless a number or a limit was set."""
        settings = self.settings
        chosen = (
            *(options.transfers, options.limit_upload, options.limit_download),
            *(settings.transfers, settings.limit_upload, settings.limit_download),
        )
        usual = self.files_at_once(options)
        return usual if any(chosen) else max(usual, _SMALL_AT_ONCE)

    def transfers(
        self,
        options: TransferOptions,
        bridge: B,
        *,
        reports: bool = True,
        state: Path | None = None,
        fsync: bool = False,
    ) -> Transfers[B]:
        """Return the engine, which the session closes.

        Args:
            options (TransferOptions): of the command.
            bridge (BridgeReader): client that the engine asks.
            reports (bool): whether the bridge gets reports of transfers.
            state (Path | None): folder for journals; the user's own by default.
            fsync (bool): whether a download is on the disk before it gets its name.
        """
        from storj import transfer_config
        from storj.transfer import TransferConfig, Transfers

        scratch = self.settings.temp_dir
        if scratch is not None and not scratch.is_dir():
            raise LocalPathNotFound(
                f'no such folder: {scratch}', hint='check STORJ_TEMP, or the setting temp_dir'
            )
        typed: dict[str, Any] = {
            'transfers': options.transfers,
            'push_shard_limit': options.concurrency,
            'retries': options.retries,
            'limit_upload': options.limit_upload,
            'limit_download': options.limit_download,
            'key_scheme': options.key_scheme,
            'allow_unauthenticated': options.allow_unauthenticated,
            'fsync': fsync or None,
            'state_dir': state,
        }
        settings = dataclasses.replace(
            self.settings, **{name: value for name, value in typed.items() if value is not None}
        )
        limits = _shares(settings, TransferConfig())
        limits['transfers'] = self.small_files_at_once(options)
        config = transfer_config(settings, reports=reports, **limits)
        return self._open.enter_context(Transfers(bridge, config))

    def split(self, options: dict[str, Any], **copying: Any) -> tuple[CopyOptions, TransferOptions]:
        """Return the options of a command, in the two groups that copying and engine take.

        Args:
            options (dict[str, Any]): of the command line, by name.
            **copying: further attributes of ``CopyOptions``.
        """
        from storj.catalog.copier import CopyOptions

        names = {field.name for field in dataclasses.fields(CopyOptions)}
        chosen = {name: value for name, value in options.items() if name in names}
        rest = {name: value for name, value in options.items() if name not in names}
        return CopyOptions(**chosen, **copying), TransferOptions(**rest)

    def copier(self, how: CopyOptions, options: TransferOptions) -> Copier:
        """Return what makes jobs of files to copy; the session closes its engines."""
        from storj.catalog.copier import Copier
        from storj.cli.streams import input_pieces

        catalog = self.catalog_for(plain_names=how.plain_names)
        # The engine that is opened last is closed first.
        uploads = self.transfers(options.sending(), self.client)
        # What is moved here is on the disk before it is removed there.
        downloads = self.transfers(options.receiving(), self.client, fsync=how.move)
        return Copier(how, downloads, uploads, catalog, lambda: input_pieces(self.stopping))

    def _apply_settings(self) -> None:
        """Take the file's settings of the command line itself; flags and environment override them.

        A file that cannot be read is no reason to refuse a command that does not need it.
        """
        with contextlib.suppress(ConfigurationError):
            settings = self.settings
            self.as_json = self.as_json or settings.json
            self.progress = settings.progress
            self.debug = self.debug or settings.debug
            self.colour = self.colour or settings.color

    def _make_output(self) -> Output:
        return Output(
            as_json=self.as_json,
            quiet=self.quiet,
            exact=self.exact,
            utc=self.utc,
            colour=self.colour or 'auto',
        )

    def _log_to(
        self,
        handler: logging.Handler,
        level: int,
        formatter: logging.Formatter,
        until: contextlib.ExitStack | None = None,
    ) -> None:
        """Send the records of this package to a handler until a stack, or the session, closes."""
        until = until or self._open
        handler.setFormatter(formatter)
        handler.setLevel(level)
        # A program that reads logs finds no other lines among them.
        names = ['storj'] if isinstance(formatter, LogFormatter) else ['storj', 'asyncio']
        if self.debug == 'http':
            names += ['urllib3', 'ws4py']
        for name in names:
            logger = logging.getLogger(name)
            before = logger.level
            logger.addHandler(handler)
            logger.setLevel(min(level, before or level))
            until.callback(logger.setLevel, before)
            until.callback(logger.removeHandler, handler)
        until.callback(handler.close)


#: Bytes per second of a limit for each shard on its way.
_SHARD_RATE = 512 * 1024


# Files, each with a source, a lock and a connection or two: within the 256 descriptors that some
# systems allow.
_SMALL_AT_ONCE = 12


def _shares(settings: Configuration, usual: TransferConfig) -> dict[str, int]:
    """Return how many shards share a low limit.

    Many shards at once would all come late: an early interrupt would lose every one of them, and a
    farmer would hear so seldom of its own that it gives up.
    """
    limits = [limit for limit in (settings.limit_upload, settings.limit_download) if limit]
    if not limits:
        return {}
    limit = min(limits)
    shards = max(1, limit // _SHARD_RATE)
    # A piece passes whole, so it is small enough for several of them in a second.
    piece = max(4096, limit // 8 // 4096 * 4096)
    few = {'piece_size': min(usual.piece_size, piece)}
    if settings.push_shard_limit is None:
        few['concurrency'] = min(usual.concurrency, shards)
    if settings.negotiations is None:
        few['negotiations'] = min(usual.negotiations, shards)
    return few


def _with_key_store(settings: Configuration) -> Configuration:
    """Return settings with the secrets that the system's key store has for the account."""
    if not settings.email:
        return settings
    from storj.cli.prompts import find_secret

    found: dict[str, Any] = {
        kind: find_secret(settings.bridge, settings.email, kind)
        for kind in ('password', 'mnemonic')
        if getattr(settings, kind) is None
    }
    return dataclasses.replace(settings, **{k: v for k, v in found.items() if v is not None})


#: Hands the session of the run to a command, as its first argument.
pass_session: Callable[[Callable[..., Any]], Callable[..., Any]] = click.make_pass_decorator(
    Session, ensure=True
)
