"""Storj configuration module: who the user is, which bridge, which key.

Settings come from four places, the first that says something wins: what the program passes, the
environment, a section (*profile*) of ``storj.ini``, the default. ``storj.ini`` looks like this;
only the first two lines are needed::

    [storj]
    email = alice@example.org
    password = correct horse
    bridge = https://api.storj.io/
    mnemonic = abandon abandon ...

    [work]
    email = ...

Where these name no account, the file that libstorj's command keeps (``~/.storj/<host>.json``) is
opened with the passphrase in ``STORJ_KEYPASS``.

The library reads the environment nowhere else. Files with secrets are written with mode 0600 in a
folder of mode 0700, and one that other users can read gets a warning.
"""

from __future__ import annotations

import configparser
import contextlib
import errno
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import appdirs

from storj.crypto import credentials, secret_file
from storj.exception import ConfigurationError, DecryptionError
from storj.preferences import PATH, SETTINGS, URL, Preferences, Setting, nearest_setting
from storj.system import file_lock, ini
from storj.text import to_system

__all__ = (
    'APP_NAME',
    'CFG_EMAIL',
    'CFG_PASSWORD',
    'Configuration',
    'config_path',
    'default_folder',
    'given',
    'load',
    'profiles',
    'read_config',
    'save',
    'set_variables',
)

_LOGGER = logging.getLogger(__name__)

APP_NAME = 'storj'
"""(str) – the application name."""

CFG_EMAIL = 'email'
"""(str) – configuration parameter that holds the Storj account email address."""

CFG_PASSWORD = 'password'
"""(str) – configuration parameter that holds the Storj account password."""

DEFAULT_BRIDGE: str = SETTINGS['bridge'].default

# A configuration is some hundred bytes; whatever is longer is another file.
_FILE_LIMIT = 1024 * 1024

# Lines without a meaning that a warning has named: path, section and key of each.
_WARNED: set[tuple[Path, str, str]] = set()


@dataclass(frozen=True)
class Configuration(Preferences):
    """All settings, from wherever they came; :class:`storj.preferences.Preferences` declares them.

    Attributes:
        profile (str): section of the file.
        path (pathlib.Path): of ``storj.ini``, whether it exists or not.
        login_bridge (str | None): bridge of the login in the file, where it is not used because
            another bridge is; without the account that its URL may have held.
        sources (Mapping[str, str]): setting -> what set it: a variable of the environment, the
            path of a file, ``argument``; nothing for a default.
    """

    profile: str
    path: Path
    login_bridge: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_empty(self) -> bool:
        """Whether neither an account nor a bridge nor an encryption key is configured."""
        named = (self.email, self.password, self.private_key, self.mnemonic, self.keypass)
        has_file = self.key_file is not None and self.key_file.exists()
        return not any(named) and not has_file and self.bridge == DEFAULT_BRIDGE


#: What is sent to a bridge, signs what is sent, or holds it; of these, what nobody else may have.
_LOGIN = ('email', 'password', 'private_key', 'key_file')
_SECRETS = _LOGIN[1:]

#: The passphrase, for one, protects what the file would give away beside it.
_NOT_IN_FILE = frozenset(name for name, it in SETTINGS.items() if not it.in_file)
#: Says the opposite of ``progress``, in the file; the variable does in the environment.
_NO_PROGRESS, _NO_PROGRESS_VARIABLE = 'no_progress', 'STORJ_NO_PROGRESS'


def default_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the configuration: ``STORJ_CONFIG_DIR``, or the documented place.

    Args:
        environ (Mapping[str, str] | None): the environment, that of the process if None.

    Raises:
        ConfigurationError: If it lies in a home folder that is not known.
    """
    named = (os.environ if environ is None else environ).get('STORJ_CONFIG_DIR')
    if named:
        return _expanded(named, 'STORJ_CONFIG_DIR')
    if sys.platform == 'win32':
        return Path(appdirs.user_data_dir(APP_NAME, appauthor=False))
    return _expanded(f'~/.{APP_NAME}', 'the folder of the configuration')


def _expanded(path: str | os.PathLike[str], where: str) -> Path:
    """Return a path, with a tilde replaced by the home folder."""
    try:
        return Path(to_system(os.fspath(path))).expanduser()
    except RuntimeError:
        raise ConfigurationError(f'{where}: no such home folder is known') from None


def config_path(environ: Mapping[str, str] | None = None) -> Path:
    """Return the path of ``storj.ini``, whether it exists or not."""
    return default_folder(environ) / f'{APP_NAME}.ini'


def profiles(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the profiles of ``storj.ini``, in the order of the file.

    Args:
        environ (Mapping[str, str] | None): the environment, that of the process if None.

    Raises:
        ConfigurationError: If the file cannot be read or parsed.
    """
    return _parse(config_path(environ)).sections()


def set_variables(*settings: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the variables of the environment that hold settings, in the order of these.

    Args:
        *settings (str): names of settings.
        environ (Mapping[str, str] | None): the environment, that of the process if None.
    """
    env = os.environ if environ is None else environ
    return [name for setting in settings for name in SETTINGS[setting].variables if env.get(name)]


#: What :func:`read_config` answers from while a client is made of it.
_GIVEN: ContextVar[Configuration | None] = ContextVar('settings', default=None)


@contextlib.contextmanager
def given(settings: Configuration) -> Iterator[None]:
    """Let :func:`read_config` answer from settings that are loaded.

    Programs replace that function, so it takes no arguments; without this it would read the file,
    and derive the key of libstorj's login, a second time.
    """
    token = _GIVEN.set(settings)
    try:
        yield
    finally:
        _GIVEN.reset(token)


def read_config() -> tuple[str, str]:
    r"""Read the storj client configuration: ``storj.ini``, unless the environment says otherwise.

    Mac OS X and Unix (POSIX): ``~/.storj``;
    Win XP (not roaming): ``C:\Documents and Settings\<user>\Application Data\storj``;
    Win 7 (not roaming): ``C:\Users\<user>\AppData\Local\storj``.

    Returns:
        tuple[str, str]: storj account credentials (email, password).

    Raises:
        ConfigurationError: If there are none, or the file is broken.
    """
    settings = _GIVEN.get() or load()
    if settings.email is None or settings.password is None:
        if settings.login_bridge is not None:
            raise ConfigurationError(
                f'the login in {settings.path} is for {settings.login_bridge}: log in at '
                f"{settings.bridge} with 'storj account login', or set STORJ_BRIDGE_USER and "
                'STORJ_BRIDGE_PASS'
            )
        missing = CFG_EMAIL if settings.email is None else CFG_PASSWORD
        has_key_file = settings.key_file is not None and settings.key_file.exists()
        opener = f', or STORJ_KEYPASS to open {settings.key_file}' if has_key_file else ''
        raise ConfigurationError(
            f'no {missing} in {settings.path}: write a section [{settings.profile}] with the lines '
            f'"{CFG_EMAIL} = ..." and "{CFG_PASSWORD} = ...", or set STORJ_BRIDGE_USER and '
            f'STORJ_BRIDGE_PASS{opener}'
        )
    return settings.email, settings.password


def load(
    profile: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    new: bool = False,
    **given: Any,
) -> Configuration:
    """Gather the settings.

    Args:
        profile (str | None): section of the file; ``STORJ_PROFILE`` or ``storj`` if None.
        environ (Mapping[str, str] | None): the environment, that of the process if None.
        new (bool): whether the profile may be one that the file does not have yet.
        **given: settings that go before all others; None counts as not given.

    Returns:
        Configuration: without account if nobody names one.

    Raises:
        ConfigurationError: If the file cannot be read or parsed, has no profile that was asked
            for, or holds an invalid value. The message never quotes the file.
        TypeError: If a setting is unknown.
    """
    env = os.environ if environ is None else environ
    unknown = given.keys() - SETTINGS.keys()
    if unknown:
        raise TypeError(f'unknown settings: {", ".join(sorted(unknown))}')
    asked = profile or env.get('STORJ_PROFILE') or None
    path = _path_to_read(env, needed=asked is not None)
    name = asked or APP_NAME
    section = _section(path, name, asked is not None and not new)
    login_bridge = _foreign_login(section, given.get('bridge') or _variable(env, 'bridge'))
    if login_bridge is not None:
        section = {key: text for key, text in section.items() if key not in _LOGIN}
    values, sources = _gathered(given, env, section, path, name)
    known = set(values)
    _take_account(values)
    sources.update(dict.fromkeys(values.keys() - known, sources.get('bridge', '')))
    known = set(values)
    key_file = values.setdefault('key_file', _key_file(path.parent, values))
    if key_file is not None and values.get('keypass'):
        _open_key_file(key_file, values)
        opened = values.keys() - known - {'key_file'}
        sources.update(dict.fromkeys(opened, str(key_file)))
    return Configuration(
        profile=name, path=path, login_bridge=login_bridge, sources=sources, **values
    )


def _gathered(
    given: Mapping[str, Any],
    env: Mapping[str, str],
    section: Mapping[str, str],
    path: Path,
    profile: str,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what is set, in its types, and by what: caller, environment or file, in this order."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, setting in SETTINGS.items():
        value, source = given.get(name), 'argument'
        where = name
        if value is None:
            where = source = next((it for it in setting.variables if env.get(it)), '')
            # A line, or a variable, without a value says nothing.
            value = env[where] if where else section.get(name) or None
            if not where:
                where, source = f'{name} in section [{profile}] of {path}', str(path)
        if value is not None:
            values[name], sources[name] = _converted(setting, value, where), source
    if sources.get('progress') in (None, str(path)):
        _take_no_progress(env, section, path, values, sources)
    return values, sources


def _take_no_progress(
    env: Mapping[str, str],
    section: Mapping[str, str],
    path: Path,
    values: dict[str, Any],
    sources: dict[str, str],
) -> None:
    """Read what says the opposite of ``progress`` where nothing nearer says anything."""
    where, text = _NO_PROGRESS_VARIABLE, env.get(_NO_PROGRESS_VARIABLE)
    if not text and 'progress' not in values:
        where, text = str(path), section.get(_NO_PROGRESS)
    if text:
        values['progress'] = not _converted(SETTINGS['progress'], text, where)
        sources['progress'] = where


def _variable(env: Mapping[str, str], setting: str) -> str | None:
    """Return a setting of the environment, None without one."""
    return next((env[name] for name in SETTINGS[setting].variables if env.get(name)), None)


def _foreign_login(section: Mapping[str, str], bridge: str | None) -> str | None:
    """Return the bridge that a login in the file belongs to, if it is another than the one asked.

    Credentials for one bridge must not be sent to another, whose address somebody else may have
    given.
    """
    kept = section.get('bridge') or DEFAULT_BRIDGE
    if bridge is None or not any(section.get(name) for name in _SECRETS):
        return None
    return None if _origin(bridge) == _origin(kept) else _without_account(kept)


def _origin(url: str) -> tuple[str, str | None, int | None] | str:
    """Return what identifies a server: scheme, host and port; a malformed URL itself."""
    try:
        parts = urlsplit(url)
        port = parts.port or {'http': 80, 'https': 443}.get(parts.scheme)
        return parts.scheme, parts.hostname, port
    except ValueError:
        return url


def _without_account(url: str) -> str:
    """Return a URL without user and password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return 'another bridge'
    return parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()


def _path_to_read(env: Mapping[str, str], *, needed: bool) -> Path:
    """Return the path of ``storj.ini``; an empty file where a user of a container has no home."""
    try:
        return config_path(env)
    except ConfigurationError:
        if needed or env.get('STORJ_CONFIG_DIR'):
            raise
        return Path(os.devnull)


def _take_account(values: dict[str, Any]) -> None:
    """Move an account that stands in the bridge's URL to where accounts stand.

    So no message, log or page that shows the bridge shows its password.
    """
    try:
        parts = urlsplit(values.get('bridge', DEFAULT_BRIDGE))
        user, password = parts.username, parts.password
    except ValueError:
        return  # the client says what is wrong with it
    if user is None:
        return
    values['bridge'] = _without_account(values['bridge'])
    if user and values.setdefault('email', unquote(user)) == unquote(user) and password:
        values.setdefault('password', unquote(password))


def _key_file(folder: Path, values: Mapping[str, Any]) -> Path | None:
    """Return where libstorj keeps the account of the bridge, None for a URL without host."""
    try:
        return folder / credentials.file_name(values.get('bridge', DEFAULT_BRIDGE))
    except ValueError:
        return None


def _open_key_file(path: Path, values: dict[str, Any]) -> None:
    """Add the settings that only libstorj's file has, if it is for the same account."""
    missing = [name for name in ('email', 'password', 'mnemonic') if name not in values]
    if not missing or not path.exists():
        return
    try:
        account = credentials.decode(secret_file.read(path, _FILE_LIMIT), values['keypass'])
    except DecryptionError:
        raise ConfigurationError(f'the passphrase in STORJ_KEYPASS does not open {path}') from None
    except ConfigurationError as cause:
        raise ConfigurationError(f'{path} is not understood: {cause}') from None
    if values.get('email') in (None, account.email):
        found = {name: getattr(account, name) for name in missing}
        values.update({name: value for name, value in found.items() if value is not None})


def _converted(setting: Setting, value: Any, where: str) -> Any:
    """Return a setting in its type."""
    if isinstance(value, str):
        # A path has the bytes of the system, whatever they are.
        value = value if setting.kind is PATH else _text(value, where)
    if setting.kind is PATH:
        return _expanded(value, where)
    if setting.kind is URL:
        return value
    if setting.name == 'debug' and str(value).strip().lower() in ('0', 'false', 'no', 'off'):
        return None
    try:
        return setting.read(value)
    except (ValueError, OverflowError):
        # Without the cause, which may quote the value.
        raise ConfigurationError(f'{where} is {setting.wanted}') from None


def _text(value: str, where: str) -> str:
    """Return a text of the environment, in UTF-8 whatever the locale says."""
    try:
        value.encode()
    except UnicodeEncodeError:
        # Bytes that the locale has no characters for.
        try:
            return os.fsencode(value).decode()
        except UnicodeError:
            # Without the cause, which quotes the bytes: they may be those of a password.
            raise ConfigurationError(f'{where} is not UTF-8 text') from None
    return value


def _section(path: Path, name: str, required: bool) -> Mapping[str, str]:
    """Return one section of the file, empty if there is neither and none was asked for."""
    parser = _parse(path)
    if not parser.has_section(name):
        if required:
            raise ConfigurationError(f'no profile {name!r}: write a section [{name}] into {path}')
        return {}
    _warn_of_unknown(parser[name], path)
    return {key: _plain(text) for key, text in parser[name].items() if key not in _NOT_IN_FILE}


def _warn_of_unknown(section: configparser.SectionProxy, path: Path) -> None:
    """Warn of each line of the file that sets nothing, once; never of its value."""
    for key in section:
        known = (key in SETTINGS and key not in _NOT_IN_FILE) or key == _NO_PROGRESS
        if known or (path, section.name, key) in _WARNED:
            continue
        _WARNED.add((path, section.name, key))
        if key in _NOT_IN_FILE:
            advice = ': it is not read from a file'
        else:
            near = nearest_setting(key)
            advice = f'; is {near} meant?' if near else ''
        _LOGGER.warning('%s: unknown setting %s in section [%s]%s', path, key, section.name, advice)


def _parse(path: Path) -> configparser.ConfigParser:
    """Read and parse the file; a missing one is empty."""
    return _parsed(_read(path), path)


def _read(path: Path) -> str:
    """Return the text of the file; a missing one is empty."""
    try:
        with path.open('rb') as file:
            content = file.read(_FILE_LIMIT + 1)
            mode = os.fstat(file.fileno()).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ''
    except OSError as cause:
        raise ConfigurationError(f'cannot read {path}: {cause.strerror}') from cause
    if os.name == 'posix' and mode & 0o077:
        _LOGGER.warning('%s can be read by others: chmod 600 it', path)
    try:
        if len(content) > _FILE_LIMIT:
            raise ValueError('too long')
        return content.decode('utf-8-sig')
    except ValueError:
        raise _not_understood(str(path)) from None


def _parsed(text: str, path: Path) -> configparser.ConfigParser:
    # No interpolation: passwords have percent signs.
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except (configparser.Error, ValueError) as cause:
        # Without the cause: its text quotes the line, which may hold the password.
        errors = getattr(cause, 'errors', None)
        line = errors[0][0] if errors else getattr(cause, 'lineno', None)
        raise _not_understood(f'line {line} of {path}' if line else str(path)) from None
    return parser


def _not_understood(place: str) -> ConfigurationError:
    return ConfigurationError(
        f'{place} is not understood: write "[{APP_NAME}]" and below it lines like '
        f'"{CFG_EMAIL} = ..." and "{CFG_PASSWORD} = ..."'
    )


def save(
    profile: str | None = None, *, environ: Mapping[str, str] | None = None, **settings: str | None
) -> Path:
    """Write settings into ``storj.ini``; what is not named stays as it is, comments and order too.

    Processes that save at the same time wait for each other.

    Args:
        profile (str | None): section of the file; ``STORJ_PROFILE`` or ``storj`` if None.
        environ (Mapping[str, str] | None): the environment, that of the process if None.
        **settings: text to write, None to remove.

    Returns:
        pathlib.Path: of the file.

    Raises:
        ConfigurationError: If the file cannot be written, the present one not be parsed, or a value
            is no text.
        ValueError: If a profile cannot have this name.
        TypeError: If a setting is unknown or belongs in no file.
    """
    env = os.environ if environ is None else environ
    unknown = settings.keys() - (SETTINGS.keys() - _NOT_IN_FILE)
    if unknown:
        raise TypeError(f'settings that are not kept in a file: {", ".join(sorted(unknown))}')
    if 'mnemonic' in settings:
        # Its owner has to be stated again.
        settings = {'mnemonic_email': None, **settings}
    path = config_path(env)
    name = profile or env.get('STORJ_PROFILE') or APP_NAME
    with _alone_with(path):
        text = _read(path)
        parser = _parsed(text, path)
        if not parser.has_section(name):
            try:
                if any(character in name for character in '\r\n\0'):
                    raise ValueError
                parser.add_section(name)
            except ValueError:
                raise ValueError(f'a profile cannot be called {name!r}') from None
        lines = {key: value and _quoted(key, value) for key, value in settings.items()}
        secret_file.write(path, ini.edit(text, name, lines))
    return path


def _needs_quotes(value: str) -> bool:
    """Return whether a value cannot stand in the file as it is, or looks as if it were quoted."""
    edges = value[:1] + value[-1:]
    return edges in ('"', '""') or edges != edges.strip() or not value.isprintable()


def _quoted(setting: str, value: str) -> str:
    """Return what stands in the file for a value: itself, or a string of JSON."""
    if SETTINGS[setting].kind is not PATH:
        value = _text(value, setting)
    return json.dumps(value) if _needs_quotes(value) else value


def _plain(text: str) -> str:
    """Return the value of a text in the file.

    Earlier releases quoted nothing, so quotes belong to a value that needs none.
    """
    try:
        value = json.loads(text) if text.startswith('"') else text
    except ValueError:
        return text
    return value if _needs_quotes(value) else text


@contextlib.contextmanager
def _alone_with(path: Path) -> Iterator[None]:
    """Keep other processes from changing a file while this one does."""
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(file_lock.locked(path.with_name(f'.{path.name}.lock')))
        except OSError as cause:
            # Some file systems of a network have no locks; what is written is whole there too.
            if cause.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
                raise ConfigurationError(f'cannot write {path}: {cause.strerror}') from cause
        yield
