"""Storj API module: what a request to a bridge consists of, and what each release understands.

Pure: the texts, names and rules of the REST interface, without the transport (:mod:`storj.http`).
"""

from __future__ import annotations

import hashlib
import re
import uuid
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from storj.digest import Generation, rmd160sha256
from storj.sharding import LARGEST_SHARD_SIZE, MAX_SHARD_SIZE

if TYPE_CHECKING:
    from ecdsa import SigningKey

__all__ = (
    'BridgeProfile',
    'Version',
    'basic_authorization',
    'ecdsa_to_hex',
    'hash_password',
    'new_nonce',
    'node_id',
    'parse_version',
    'segment',
    'sign',
    'signing_text',
)

#: Major, minor and patch number of a release.
Version: TypeAlias = tuple[int, int, int]

_VERSION = re.compile(r'v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:[-+.].*)?', re.ASCII | re.DOTALL)

#: Routes that not every release has, each with its property of :class:`BridgeProfile`, and
#: the message of the error. Bridges 1.0 to 4.2 never answer a request for an unknown route.
_RARE_ROUTES = (
    (
        re.compile(r'GET /buckets/[^/]+/files/[^/]+/mirrors'),
        'has_mirrors_list',
        'does not list mirrors; bridges do from 3.1 on',
    ),
    (
        re.compile(r'POST /buckets/[^/]+/mirrors'),
        'sets_mirrors',
        'makes mirrors by itself; only bridges from 0.10 to 3.2 accept a number',
    ),
    (
        re.compile(r'POST /reports/exchanges'),
        'has_reports',
        'takes no exchange reports; bridges do from 2.2.1 on',
    ),
)


def ecdsa_to_hex(ecdsa_key: bytes) -> str:
    """Return hexadecimal string representation of the ECDSA key.

    Args:
        ecdsa_key (bytes): the 64 bytes of the point, as ``VerifyingKey.to_string()`` gives them. A
            compressed key (33 bytes) or one that has its prefix already (65 bytes) is taken too.

    Returns:
        str: hex digits as a bridge registers them; uncompressed, with the prefix ``04``, for the
        bare point. Bridges look keys up as text, so always use the same form.

    Raises:
        TypeError: If the ECDSA key is not an array of bytes.
    """
    if not isinstance(ecdsa_key, (bytes, bytearray)):
        raise TypeError(f'an ECDSA key is bytes, not {type(ecdsa_key).__name__}')
    prefixed = (len(ecdsa_key), bytes(ecdsa_key[:1])) in ((65, b'\4'), (33, b'\2'), (33, b'\3'))
    return ecdsa_key.hex() if prefixed else '04' + ecdsa_key.hex()


def node_id(public_key: bytes) -> str:
    """Return the id of the node that owns a key (protocol reference, section 7.1).

    Args:
        public_key (bytes): compressed, 33 bytes.

    Returns:
        str: 40 hex digits.
    """
    return rmd160sha256(public_key).hex()


def hash_password(password: str | bytes) -> str:
    """Return what takes the place of a password everywhere on the wire: its SHA-256, 64 hex digits.

    Args:
        password (str | bytes): in the clear; text is encoded as UTF-8.

    Raises:
        ValueError: If a text cannot be encoded.
    """
    try:
        raw = password.encode() if isinstance(password, str) else password
    except UnicodeEncodeError:
        # Without the cause, which quotes the password.
        raise ValueError('the password is not valid text') from None
    return hashlib.sha256(raw).hexdigest()


def basic_authorization(email: str, password_hash: str) -> str:
    """Return the ``Authorization`` header of an account (protocol reference, section 2.1).

    Args:
        email (str): as registered.
        password_hash (str): from :func:`hash_password`.

    Raises:
        ValueError: If one of them cannot be encoded.
    """
    try:
        raw = f'{email}:{password_hash}'.encode()
    except UnicodeEncodeError:
        # Without the cause, which quotes the hash.
        raise ValueError('the e-mail address or the password is not valid text') from None
    return 'Basic ' + b64encode(raw).decode()


def new_nonce() -> str:
    """Return a value for ``__nonce`` that no request had before: a random UUID.

    Bridges as of 0.8 refuse a nonce that the same user sent within five minutes.
    """
    return str(uuid.uuid4())


def signing_text(method: str, path: str, params: str | bytes = b'') -> bytes:
    """Return the bytes that the signature of a request covers (protocol reference, section 2.2).

    Args:
        method (str): HTTP method.
        path (str): path of the URL as sent, without host and query; a trailing slash counts.
        params (str | bytes): the body of POST, PUT and PATCH, the query string of GET, DELETE and
            OPTIONS, byte for byte as transmitted.
    """
    # POST\n               GET\n
    # /buckets\n           /buckets\n
    # {"name":"a", ...}    startDate=...&__nonce=...
    #
    # The nonce is part of the body or of the query, so the signature covers it.
    raw = params.encode() if isinstance(params, str) else params
    return f'{method.upper()}\n{path}\n'.encode() + raw


def sign(private_key: SigningKey, text: bytes) -> str:
    """Return the header ``x-signature`` for a text from :func:`signing_text`.

    Args:
        private_key (SigningKey): of the curve secp256k1.
        text (bytes): what is signed; its hash is SHA-256.

    Returns:
        str: hex of the DER form; deterministic (RFC 6979). By OpenSSL where ``cryptography`` is
        installed: the time that python-ecdsa takes depends on the key.
    """
    # Imported here: one who logs in with a password signs nothing.
    try:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256
    except ImportError:
        return _sign_in_python(private_key, text)
    key = ec.derive_private_key(private_key.privkey.secret_multiplier, ec.SECP256K1())
    return key.sign(text, ec.ECDSA(SHA256(), deterministic_signing=True)).hex()


def _sign_in_python(private_key: SigningKey, text: bytes) -> str:
    from ecdsa.util import sigencode_der

    signature: bytes = private_key.sign_deterministic(
        text, hashfunc=hashlib.sha256, sigencode=sigencode_der
    )
    return signature.hex()


def segment(text: str) -> str:
    """Return text as one segment of a URL's path, as libstorj writes it.

    Everything but letters, digits and ``- . _ ~`` is percent-encoded, the slash too.
    """
    return quote(text, safe='', errors='surrogatepass')


def parse_version(text: object) -> Version | None:
    """Return a release number, None if text is no such thing.

    Args:
        text (object): as a bridge or a node gives it: ``2.2.4``, ``0.10.0-testnet``, or anything.
    """
    found = _VERSION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    return int(found[1]), int(found[2]), int(found[3] or 0)


def _shard_limit(stated: object) -> int:
    """Return how large a shard may be for a bridge that states a limit, or none."""
    if type(stated) is not int:
        return MAX_SHARD_SIZE
    return min(max(stated, MAX_SHARD_SIZE), LARGEST_SHARD_SIZE)


@dataclass(frozen=True)
class BridgeProfile:
    """What a bridge understands, judged by the releases that it states in ``GET /``.

    A bridge that states nothing is treated in the way that all releases accept; each property says
    what that is. The changes are listed in section 1.6 of the protocol reference.

    Attributes:
        version (Version | None): release of the bridge, None if unknown.
        core (Version | None): release of the core library that it was built on.
        protocol (Version | None): version of the protocol between nodes.
        max_shard_size (int): bytes of the largest shard; 4 GiB unless the bridge states more.
        wants_successes (bool): whether clients should report transfers that went well; yes unless
            the bridge states that failures are enough.
    """

    version: Version | None = None
    core: Version | None = None
    protocol: Version | None = None
    max_shard_size: int = MAX_SHARD_SIZE
    wants_successes: bool = True

    #: Most farmers that can be excluded from a request; longer lists are refused from 5.6 on, and
    #: no release needs more.
    exclude_limit = 300

    @classmethod
    def from_info(cls, info: Mapping[str, object] | None = None) -> BridgeProfile:
        """Read the answer to ``GET /``.

        Args:
            info (Mapping | None): the whole answer, or the object ``info`` in it, or nothing.
                What is not understood counts as missing.
        """
        said: object = info
        if isinstance(said, Mapping) and isinstance(said.get('info'), Mapping):
            said = said['info']
        if not isinstance(said, Mapping):
            return cls()
        return cls(
            version=parse_version(said.get('version')),
            core=parse_version(said.get('x-core-version')),
            protocol=parse_version(said.get('x-protocol-version')),
            max_shard_size=_shard_limit(said.get('x-max-shard-size')),
            wants_successes=said.get('x-client-reports') != 'failures',
        )

    def _since(self, major: int, minor: int = 0, patch: int = 0, *, unknown: bool) -> bool:
        """Return whether the bridge is of a release or later; what to assume if it does not say."""
        return unknown if self.version is None else self.version >= (major, minor, patch)

    @staticmethod
    def is_rare(method: str, path: str) -> bool:
        """Return whether a route is one that not every release has."""
        return any(route.fullmatch(f'{method} {path}') for route, _, _ in _RARE_ROUTES)

    def refusal(self, method: str, path: str) -> str | None:
        """Return why a request need not be sent, None if it may be answered.

        Args:
            method (str): HTTP method.
            path (str): path of the URL, without a query.

        Returns:
            str | None: never a refusal from a bridge of unknown release.
        """
        if self.version is None:
            return None
        for route, feature, words in _RARE_ROUTES:
            if route.fullmatch(f'{method} {path}') and not getattr(self, feature):
                return f'this bridge ({".".join(map(str, self.version))}) {words}'
        return None

    @property
    def audit_generation(self) -> Generation:
        """The generation of audits (:mod:`storj.digest`) that this bridge's farmers answer with.

        Bridges take any tree; only the farmer's proof tells, and the tree goes out before a farmer
        is chosen. So the time decides: core 6.4 came between bridges 5.6 and 5.8, and farmers are
        updated by themselves, later than which they may run a newer core than the bridge's. An
        unknown bridge gets generation C, which libstorj sends to all.
        """
        if self._since(5, 8, unknown=False):
            return 'C'
        if self.core is not None:
            return 'A' if self.core < (3, 0, 0) else 'B' if self.core < (6, 4, 0) else 'C'
        if self.protocol is not None and self.protocol < (1, 1, 0):
            return 'A' if self.protocol < (0, 8, 0) else 'B'
        if self.version is not None:
            return 'A' if self.version < (0, 11, 0) else 'B'
        return 'C'

    @property
    def has_index(self) -> bool:
        """Whether a file keeps its ``index`` (5.13), so that its key can be random.

        Assumed not: an older bridge drops the index silently, and with it the file's key. A
        file without one is encrypted by the scheme v0, which every reader knows.
        """
        return self._since(5, 13, unknown=False)

    @property
    def javascript_key_scheme(self) -> str | None:
        """How the JavaScript clients of this bridge's time make the keys of files.

        They are built on the core library, as the bridge is: with a mnemonic, its releases 5.1.0 to
        6.0.3 make keys of the words as text, later ones of the seed (``v0``). None for older ones,
        whose keys are random, and if the bridge does not state its core.
        """
        if self.core is None or self.core < (5, 1, 0):
            return None
        return 'text' if self.core < (6, 0, 4) else 'v0'

    @property
    def has_erasure(self) -> bool:
        """Whether parity shards are known (5.11).

        Assumed not: an older bridge would count them as part of the file.
        """
        return self._since(5, 11, unknown=False)

    @property
    def has_hmac(self) -> bool:
        """Whether a file keeps its HMAC (5.3). Assumed: older bridges overlook the field."""
        return self._since(5, 3, unknown=True)

    @property
    def counts_frames_safely(self) -> bool:
        """Whether the size of a file is right whatever is added to its frame side by side (5.15).

        Assumed not: an older bridge reads a frame, adds the shard's size and saves it, so that
        contracts made at the same time lose each other's sizes or fail, and it counts a shard
        again when it gets another farmer.
        """
        return self._since(5, 15, unknown=False)

    @property
    def answers_at_once(self) -> bool:
        """Whether a bridge says without delay that it finds no farmer for a shard (7.6).

        Assumed not: an older bridge is silent for 90 s then.
        """
        return self._since(7, 6, unknown=False)

    @property
    def has_file_ids(self) -> bool:
        """Whether names can be looked up by ``/bucket-ids`` and ``/file-ids`` (5.14).

        Assumed not: bridges 1.0 to 4.2 never answer a request for an unknown route.
        """
        return self._since(5, 14, unknown=False)

    @property
    def has_deterministic_ids(self) -> bool:
        """Whether ids follow from names (1.0.2). Assumed; the answer to a creation shows it."""
        return self._since(1, 0, 2, unknown=True)

    @property
    def has_start_date(self) -> bool:
        """Whether lists of buckets and files are paged by ``startDate`` (5.6).

        Assumed: older bridges overlook the parameter and send the whole list again, so a page
        without anything new is the last.
        """
        return self._since(5, 6, unknown=True)

    @property
    def has_file_info(self) -> bool:
        """Whether a file is described by ``/info`` (1.1). Assumed."""
        return self._since(1, 1, unknown=True)

    @property
    def has_reports(self) -> bool:
        """Whether exchange reports are taken (2.2.1).

        Assumed not: bridges 1.0 to 2.2.0 never answer a request for an unknown route.
        """
        return self._since(2, 2, 1, unknown=False)

    @property
    def has_health(self) -> bool:
        """Whether ``GET /health`` is answered (5.10). Assumed not, as with unknown routes above."""
        return self._since(5, 10, unknown=False)

    @property
    def has_mirrors_list(self) -> bool:
        """Whether mirrors are listed by ``GET .../mirrors`` (3.1). Assumed not, as above."""
        return self._since(3, 1, unknown=False)

    @property
    def sets_mirrors(self) -> bool:
        """Whether mirrors are asked for by ``POST .../mirrors`` (0.10 to 3.2).

        Assumed not: later bridges make them unasked.
        """
        return self._since(0, 10, unknown=False) and not self._since(4, unknown=True)

    @property
    def misses_offers(self) -> bool:
        """Whether a contract may never get an offer, although it gets one when asked for again.

        Before 3.0: such a bridge reads the clock twice, and now and then announces a contract
        under a topic to which no farmer listens (protocol reference, section 10.16). Assumed not.
        """
        return not self._since(3, unknown=True)

    @property
    def needs_pull_token(self) -> bool:
        """Whether each page of pointers needs a token (before 5.16). Assumed: all accept one."""
        return not self._since(5, 16, unknown=False)

    @property
    def resets_by_post(self) -> bool:
        """Whether a password reset ends by POST with the new password (7.5), before by GET.

        Assumed not.
        """
        return self._since(7, 5, unknown=False)
