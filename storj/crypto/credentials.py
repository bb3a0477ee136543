"""The file in which libstorj keeps an account: ``~/.storj/<host>.json``.

Each secret in it is encrypted with a key from a passphrase (protocol reference, section 11.6, item
9), so that one file serves libstorj's command and this package. Pure: text in and out.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from storj.crypto.cipher import open_sealed, seal, synthetic_iv
from storj.exception import ConfigurationError, DecryptionError

__all__ = (
    'Credentials',
    'decode',
    'encode',
    'file_name',
    'open_text',
    'passphrase_key',
    'seal_text',
)

# {"user": e-mail, "pass": sealed password, "mnemonic": sealed mnemonic}
#
# sealed = hex of tag (16 bytes) + nonce (32) + AES-256-GCM of the text
# key    = PBKDF2-HMAC-SHA256(passphrase, salt e-mail, 200,000 rounds)
# nonce  = HMAC-SHA512(key, text), cut to 32 bytes
#
# libstorj's own, from its source; both programs must derive the same key.
_ROUNDS = 200000
_KEY_SIZE = 32
# libstorj keeps lengths in 8 bits and damages longer texts.
_MAX_LENGTH = 255
_HOST = re.compile('[0-9A-Za-z._:-]{1,253}')


@dataclass(frozen=True, repr=False)
class Credentials:
    """An account and its encryption key.

    Attributes:
        email (str): of the account.
        password (str): in the clear.
        mnemonic (str | None): the encryption key, if the file has one.
    """

    email: str
    password: str
    mnemonic: str | None = None

    def __repr__(self) -> str:
        """Return whose they are, and no secret."""
        return f'Credentials(email={self.email!r})'


def passphrase_key(passphrase: str, salt: str) -> bytes:
    """Return the key that follows from a passphrase, 32 bytes.

    Args:
        passphrase (str): of the user.
        salt (str): the account's e-mail.

    Raises:
        ValueError: If one is no valid text.
    """
    return hashlib.pbkdf2_hmac(
        'sha256', passphrase.encode(), salt.encode(), _ROUNDS, dklen=_KEY_SIZE
    )


def seal_text(key: bytes, text: str) -> str:
    """Return a secret as it stands in the file, in hex.

    Raises:
        ValueError: If the text is empty, no valid text, or longer than 255 bytes.
    """
    raw = text.encode()
    if not 0 < len(raw) <= _MAX_LENGTH:
        raise ValueError(f'libstorj keeps secrets of 1 to {_MAX_LENGTH} bytes, not {len(raw)}')
    return seal(key, synthetic_iv(key, raw), raw).hex()


def open_text(key: bytes, sealed: object) -> str:
    """Return the secret that :func:`seal_text` sealed.

    Raises:
        ConfigurationError: If this is no sealed secret.
        DecryptionError: If the key is not the right one.
    """
    try:
        raw = bytes.fromhex(sealed) if isinstance(sealed, str) else b''
    except ValueError:
        raw = b''
    if not raw:
        raise ConfigurationError('a secret in the file of credentials is not hex')
    text = open_sealed(key, raw)
    if text is None:
        raise DecryptionError('the passphrase does not open the file of credentials')
    # libstorj stores the bytes that the terminal gave it, in any encoding.
    return text.decode('utf-8', 'replace')


def encode(credentials: Credentials, passphrase: str) -> str:
    """Return the text of a file of credentials.

    Args:
        credentials (Credentials): what it will hold.
        passphrase (str): that will be asked for.

    Raises:
        ValueError: If something is empty or longer than the 255 bytes that libstorj can keep.
    """
    for text in (credentials.email, passphrase):
        if not 0 < len(text.encode()) <= _MAX_LENGTH:
            raise ValueError(f'e-mail and passphrase have 1 to {_MAX_LENGTH} bytes for libstorj')
    key = passphrase_key(passphrase, credentials.email)
    fields = {'user': credentials.email, 'pass': seal_text(key, credentials.password)}
    if credentials.mnemonic is not None:
        fields['mnemonic'] = seal_text(key, credentials.mnemonic)
    return json.dumps(fields)


def decode(text: str, passphrase: str) -> Credentials:
    """Read the text of a file of credentials.

    Args:
        text (str): the whole file.
        passphrase (str): of the user.

    Raises:
        ConfigurationError: If the text is not of such a file.
        DecryptionError: If the passphrase is not the right one.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        # Without the cause, which quotes the file.
        raise ConfigurationError('the file of credentials is not JSON') from None
    email = fields.get('user') if isinstance(fields, dict) else None
    if not isinstance(email, str):
        raise ConfigurationError('the file of credentials names no user')
    try:
        key = passphrase_key(passphrase, email)
    except UnicodeEncodeError:
        raise ConfigurationError('the user in the file of credentials is no valid text') from None
    mnemonic = fields.get('mnemonic')
    return Credentials(
        email,
        open_text(key, fields.get('pass')),
        None if mnemonic is None else open_text(key, mnemonic),
    )


def file_name(bridge: str) -> str:
    """Return the name of the file for a bridge: its host, without the port.

    Args:
        bridge (str): URL of the bridge.

    Raises:
        ValueError: If the URL has no host that can name a file.
    """
    host = urlsplit(bridge).hostname or ''
    if not _HOST.fullmatch(host) or host.strip('.') == '':
        # Without the URL, which may hold a password.
        raise ValueError('the URL of the bridge has no host that can name a file')
    return f'{host}.json'
