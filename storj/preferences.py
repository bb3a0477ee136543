"""What a person may set, each setting declared once.

A field of :class:`Preferences` is a setting: its name in ``storj.ini``, type, default, bounds and
help, the environment variables and the option of the command line that set it, and the limit of
the transfer engine that it is. :mod:`storj.configuration` finds the values; the command line makes
its options of the declarations, and the documentation its table.

Also reads the sizes, rates and durations that people write.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

_UNITS: Mapping[str, int] = {
    unit.lower(): factor
    for power, letter in enumerate('KMGTP', start=1)
    for unit, factor in (
        (letter, 1024**power),
        (f'{letter}iB', 1024**power),
        (f'{letter}B', 1000**power),
    )
} | {'': 1, 'b': 1}
_SIZE = re.compile(r'([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([A-Za-z]*)')
_SECONDS: Mapping[str, float] = {'ms': 0.001, 's': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}
_DURATION = re.compile(r'([0-9]{1,30}(?:\.[0-9]{1,30})?)(ms|[smhdw])')
_TRUE = frozenset({'1', 'true', 'yes', 'on'})
_FALSE = frozenset({'0', 'false', 'no', 'off', ''})


def read_size(text: str) -> int:
    """Return the bytes of ``10MiB``, of ``10M`` (the same), ``10MB`` (a million each) or ``10``.

    Raises:
        ValueError: If the text is no size.
    """
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(text)
    return int(float(match[1]) * _UNITS[match[2].lower()])


def read_rate(text: str) -> int:
    """Return bytes per second of a size with or without ``/s``; 0, no limit, for ``off``.

    Raises:
        ValueError: If the text is no rate.
    """
    return 0 if text.lower() in ('off', 'none') else read_size(text.removesuffix('/s'))


def read_duration(text: str) -> float:
    """Return the seconds of ``30s``, ``5m``, ``2h``, ``7d``, ``1h30m`` or a bare number.

    Raises:
        ValueError: If the text is no duration.
    """
    if re.fullmatch(r'[0-9]{1,30}(\.[0-9]{1,30})?', text):
        return float(text)
    parts = _DURATION.findall(text.lower())
    if not parts or ''.join(number + unit for number, unit in parts) != text.lower():
        raise ValueError(text)
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _read_switch(text: str) -> bool:
    word = text.lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(text)
    return word in _TRUE


def _read_count(text: str) -> int:
    if not re.fullmatch('[0-9]{1,9}', text, re.ASCII):
        raise ValueError(text)
    return int(text)


def _read_url(text: str) -> str:
    if not re.match('[a-zA-Z][a-zA-Z0-9+.-]*://[^/]', text):
        raise ValueError(text)
    return text


class Kind(NamedTuple):
    """A type of setting.

    Attributes:
        name (str): as help and documentation show it.
        read (Callable[[str], Any]): makes the value of a text; ValueError for another kind of text.
        values (tuple[type, ...]): what a program may hand over instead of a text.
        example (str): how a right text is described.
    """

    name: str
    read: Callable[[str], Any]
    values: tuple[type, ...]
    example: str


TEXT = Kind('text', str, (), 'text')
#: Is masked wherever it is shown, and never taken from an argument.
SECRET = Kind('secret', str, (), 'text')
#: Not checked where it is found: its user knows what is wrong with it.
URL = Kind('URL', _read_url, (), "a URL like 'https://example.org/'")
PATH = Kind('path', Path, (Path,), 'a path')
SWITCH = Kind('true/false', _read_switch, (bool,), 'true or false')
COUNT = Kind('number', _read_count, (int,), 'a number')
SIZE = Kind('size', read_size, (int,), "a size like '10MiB', '10M' or '10MB'")
RATE = Kind('rate', read_rate, (int,), "a rate like '2MiB' (per second) or 'off'")
DURATION = Kind(
    'duration', read_duration, (int, float), "a duration like '30s', '5m', '2h' or '7d'"
)


@dataclass(frozen=True)
class Setting:
    """The declaration of one setting.

    Attributes:
        name (str): in ``storj.ini``, and of the attribute of :class:`Preferences`.
        kind (Kind): its type.
        help (str): one sentence.
        default (Any): its value where nobody sets it; None leaves the choice to the program.
        usual (str): the default in words, where the value does not tell it.
        variables (tuple[str, ...]): of the environment; the first that is set counts. Unless
            others are declared, ``STORJ_`` and the name in capitals.
        option (str): of the command line, with which a flag goes before everything else.
        choices (tuple[str, ...]): the only texts that are taken; empty for any.
        least, most (float): bounds of a number.
        engine (str): field of :class:`storj.transfer.TransferConfig` that it sets, if any.
        in_file (bool): whether it may stand in ``storj.ini``.
    """

    name: str
    kind: Kind
    help: str
    default: Any = None
    usual: str = ''
    variables: tuple[str, ...] = ()
    option: str = ''
    choices: tuple[str, ...] = ()
    least: float = 0
    most: float = float('inf')
    engine: str = ''
    in_file: bool = True

    @property
    def is_secret(self) -> bool:
        """Whether the value is never shown."""
        return self.kind is SECRET

    @property
    def wanted(self) -> str:
        """A right value in words, for messages."""
        if self.choices:
            return ' or '.join((', '.join(self.choices[:-1]), self.choices[-1]))
        if self.kind is COUNT:
            return f'a number from {self.least:.0f} to {self.most:.0f}'
        above = f', at least {self.least:g}' if self.least else ''
        return f'{self.kind.example}{above}'

    def read(self, value: Any) -> Any:
        """Return a value in its type.

        Args:
            value (Any): a text, or what the type has for values.

        Raises:
            ValueError: If it is none.
        """
        if isinstance(value, self.kind.values) and isinstance(value, bool) == (self.kind is SWITCH):
            found = value
        else:
            # The blanks at the ends of a password are part of it.
            found = self.kind.read(str(value) if self.kind.read is str else str(value).strip())
        if self.choices and found not in self.choices:
            raise ValueError(value)
        if isinstance(found, int | float) and not self.least <= found <= self.most:
            raise ValueError(value)
        return found


def _set(kind: Kind, help: str, default: Any = None, **declared: Any) -> Any:
    """Return a field that is a setting."""
    declared = {'kind': kind, 'help': help, 'default': default, **declared}
    shown = kind is not SECRET and declared.pop('repr', True)
    return dataclasses.field(default=default, repr=shown, metadata=declared)


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """All settings, from wherever they came; the table of :doc:`configuration` describes them."""

    email: str | None = _set(
        TEXT, 'E-mail of the account.', variables=('STORJ_BRIDGE_USER', 'STORJ_EMAIL')
    )
    password: str | None = _set(
        SECRET, 'Its password.', variables=('STORJ_BRIDGE_PASS', 'STORJ_PASSWORD')
    )
    bridge: str = _set(
        URL,
        'Bridge to use; ``https://user:password@host`` names an account as well, if nothing else '
        'does.',
        'https://api.storj.io/',
        option='--bridge',
    )
    mnemonic: str | None = _set(
        SECRET, 'Encryption key (mnemonic).', variables=('STORJ_ENCRYPTION_KEY',)
    )
    mnemonic_email: str | None = _set(
        TEXT, 'Account that logged in when the encryption key was kept.', usual='none', variables=()
    )
    keypass: str | None = _set(
        SECRET, "Passphrase of libstorj's file of credentials.", in_file=False
    )
    key_file: Path | None = _set(
        PATH, "libstorj's file of credentials.", usual="that of the bridge's host", variables=()
    )
    private_key: Path | None = _set(
        PATH, 'PEM file of a registered key that signs requests.', usual='none', variables=()
    )
    keyring: bool = _set(SWITCH, "Keep secrets in the system's key store.", False, variables=())
    proxy: str | None = _set(
        URL,
        'Proxy for the bridge and MetaDisk nodes (see below).',
        usual='``HTTPS_PROXY``, ``NO_PROXY``',
        repr=False,
    )
    timeout: float | None = _set(
        DURATION,
        'How long to wait for a connection to the bridge, and for its answer.',
        usual='depends on the request',
        least=0.001,
        most=86400,
    )
    bridge_retries: int | None = _set(
        COUNT,
        'How often a request to the bridge is tried again.',
        usual='3; 7 of transfers',
        most=100,
    )
    plain_names: bool = _set(SWITCH, 'Store names in the clear.', False, option='--plain-names')
    reed_solomon: bool = _set(
        SWITCH,
        'Store parity shards, which replace lost ones.',
        True,
        option='--parity',
        engine='parity',
    )
    transfers: int | None = _set(
        COUNT,
        'Files moved at the same time.',
        usual='4; 12 of at most 1 MiB',
        option='--transfers',
        least=1,
        most=64,
        engine='transfers',
    )
    push_shard_limit: int | None = _set(
        COUNT,
        'Shards of one file moved at the same time.',
        usual='16; fewer under a low limit',
        option='--concurrency',
        least=1,
        most=1024,
        engine='concurrency',
    )
    negotiations: int | None = _set(
        COUNT,
        'Contracts that are asked for at the same time.',
        usual='4',
        least=1,
        most=256,
        engine='negotiations',
    )
    hash_workers: int | None = _set(
        COUNT, 'Threads that encrypt and hash.', usual='2', least=1, most=256, engine='hash_workers'
    )
    buffer_size: int | None = _set(
        SIZE,
        'Memory for encrypted shards that wait for their push.',
        usual='96MiB',
        engine='buffer_size',
    )
    limit_upload: int | None = _set(
        RATE,
        'Bytes sent per second at most, like 2MiB; off for no limit.',
        usual='off',
        option='--limit-upload',
        engine='upload_rate',
    )
    limit_download: int | None = _set(
        RATE,
        'Bytes received per second at most, like 2MiB; off for no limit.',
        usual='off',
        option='--limit-download',
        engine='download_rate',
    )
    retries: int | None = _set(
        COUNT,
        'How often a shard is tried again.',
        usual='6',
        option='--retries',
        most=100,
        engine='shard_attempts',
    )
    farmer_timeout: float | None = _set(
        DURATION,
        'How long a farmer may stay silent.',
        usual='10s to connect; then 10s to 30s',
        least=0.001,
        most=86400,
        engine='channel',
    )
    minimum_rate: int | None = _set(
        RATE,
        'Bytes per second below which another farmer is tried; off for any.',
        usual='30720',
        engine='channel',
    )
    shard_deadline: float | None = _set(
        DURATION,
        'Time for one shard with all its attempts.',
        usual='none',
        least=0.001,
        engine='shard_deadline',
    )
    deadline: float | None = _set(
        DURATION, 'Time for one transfer.', usual='none', least=0.001, engine='deadline'
    )
    hedge_after: float | None = _set(
        DURATION,
        'How long the last shards of a download may take before parity shards are fetched.',
        usual='5s',
        engine='hedge_after',
    )
    key_scheme: str | None = _set(
        TEXT,
        'Keys as JavaScript clients make them: v0 from core 6.0.4 on, text before.',
        usual='as the bridge needs',
        option='--key-scheme',
        choices=('v0', 'text'),
        engine='key_scheme',
    )
    allow_unauthenticated: bool = _set(
        SWITCH,
        'Decrypt files of bridges before 5.3, which have no HMAC.',
        False,
        option='--allow-unauthenticated',
        engine='allow_unauthenticated',
    )
    fsync: bool = _set(
        SWITCH, 'Force each download to the disk before it gets its name.', False, engine='fsync'
    )
    temp_dir: Path | None = _set(
        PATH,
        'Folder for temporary files.',
        usual="the system's",
        variables=('STORJ_TEMP',),
        engine='temp_dir',
    )
    state_dir: Path | None = _set(
        PATH,
        'Folder for the journals of interrupted transfers.',
        usual="the user's state folder",
        engine='state_dir',
    )
    color: str = _set(
        TEXT,
        'Colours; auto obeys NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE and TERM.',
        'auto',
        option='--color',
        choices=('auto', 'always', 'never'),
    )
    progress: bool = _set(
        SWITCH,
        'Show bars on a terminal while files move; ``STORJ_NO_PROGRESS=1`` is the same as false.',
        True,
        option='--progress',
    )
    json: bool = _set(SWITCH, 'Print results, events and errors as JSON.', False, option='--json')
    debug: str | None = _set(TEXT, '1: tracebacks; http: every request too.', usual='off')


#: Every setting, in the order of the declaration.
SETTINGS: Mapping[str, Setting] = {
    name: Setting(name, **{'variables': (f'STORJ_{name.upper()}',), **field.metadata})
    for field in dataclasses.fields(Preferences)
    for name in [field.name]
}


def find_setting(name: str) -> Setting | None:
    """Return the setting of a name, or of the option that sets it; None if there is none.

    Args:
        name (str): with dashes or underscores, with or without the dashes of an option.
    """
    plain = name.strip('-').replace('-', '_').lower()
    options = {it.option.strip('-').replace('-', '_'): it for it in SETTINGS.values() if it.option}
    return SETTINGS.get(plain) or options.get(plain)


def nearest_setting(name: str) -> str | None:
    """Return the name that is most like one that is mistyped, None if none is."""
    near = difflib.get_close_matches(name.replace('-', '_').lower(), SETTINGS, n=1)
    return near[0] if near else None
