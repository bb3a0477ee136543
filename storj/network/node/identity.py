"""Who a node is: its secp256k1 key, the ids made of it, and both forms of its signature.

Two forms exist side by side: DER hex over SHA-256, for the headers that a farmer sends to its
bridge (protocol reference, section 3.9), and the compact Base64 "Bitcoin Signed Message", for the
node RPC and for contracts (sections 7.3 and 7.5). This module does arithmetic only: no socket, no
clock; the one file it knows is the one that keeps a private key.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from storj.crypto import base58, secret_file
from storj.digest import is_hash, is_hex, rmd160sha256
from storj.exception import StorjError
from storj.network.node.secp256k1 import CURVE, ORDER
from storj.network.node.state_files import lost, unusable

# private key (32) --secp256k1--> public key (33, compressed) --SHA-256, RIPEMD-160--> node id (20)
#
# A renter node's key is a child of the bridge's extended key, so that farmers who know the
# extended public key accept all nodes of one bridge without a list of them.
_MESSAGE_MAGIC = b'\x18Bitcoin Signed Message:\n'
_HARDENED = 0x80000000
# Digits of an extended public key, the longest Base58 text of the protocol.
_EXTENDED_LENGTH = 111
_EXTENDED_PUBLIC = bytes.fromhex('0488b21e')
# Derived keys that are kept; a farmer has as many bridges as its owner has configured.
_REMEMBERED_KEYS = 256


class SignatureError(StorjError):
    """A signature or a key is malformed, so that nobody can have made it.

    The other side does not speak the protocol; nothing can be done here.
    """


def is_node_id(text: object) -> TypeGuard[str]:
    """Return whether `text` is 40 lower-case hex characters, as node ids and shard hashes are."""
    return is_hash(text)


def node_id_of(public_key: bytes) -> str:
    """Return the node id of a serialised public key: 40 hex characters (section 7.1)."""
    return rmd160sha256(public_key).hex()


def payment_address(node_id: str) -> str:
    """Return the Bitcoin address of a node id: Base58Check of a zero byte and the id."""
    return base58.encode_check(b'\x00' + bytes.fromhex(node_id))


class Identity:
    """The private key of a node and what follows from it.

    Args:
        private_key (bytes): 32 bytes.

    Attributes:
        public_key (bytes): compressed, 33 bytes.
        node_id (str): 40 hex characters.

    Raises:
        ValueError: If the bytes are no private key of secp256k1.
    """

    def __init__(self, private_key: bytes) -> None:
        if len(private_key) != 32:
            raise ValueError('a private key has 32 bytes')
        self._private_key = private_key
        self.public_key: bytes = CURVE.public_key(private_key)
        self.node_id = node_id_of(self.public_key)

    def __repr__(self) -> str:
        return f'Identity(node_id={self.node_id!r})'

    @classmethod
    def generate(cls) -> Identity:
        """Make a new random identity."""
        return cls((secrets.randbelow(ORDER - 1) + 1).to_bytes(32, 'big'))

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Read the private key kept at `path`; make and keep one when there is none yet.

        Args:
            path (Path): a file of 64 hex characters, readable by its owner only.

        Raises:
            LostStateError: If the file is there and is not a private key.
            BarredStateError: If it cannot be read now.
        """
        try:
            text = path.read_text('ascii').strip()
        except FileNotFoundError:
            identity = cls.generate()
            secret_file.write(path, identity.private_key_hex + '\n')
            return identity
        except OSError as error:
            raise unusable(path, error) from error
        except UnicodeDecodeError as error:
            raise lost(path, f'cannot be read: {error}') from error
        if not is_hex(text, 64):
            raise lost(path, 'not a private key of 64 hex characters')
        try:
            return cls(bytes.fromhex(text))
        except ValueError as error:
            raise lost(path, 'not a private key of secp256k1') from error

    @property
    def private_key_hex(self) -> str:
        """The private key, 64 hex characters."""
        return self._private_key.hex()

    @property
    def payment_address(self) -> str:
        """The Bitcoin address of the node id."""
        return payment_address(self.node_id)

    def sign_der(self, data: bytes) -> str:
        """Return the DER signature over SHA-256 of `data`, hex, in its low-S form."""
        return CURVE.sign(self._private_key, data).hex()

    def sign_message(self, text: str) -> str:
        """Return the compact Base64 Bitcoin message signature of `text`."""
        signature, number = CURVE.sign_recoverable(self._private_key, _message_digest(text))
        # 27 for a compact signature, 4 more for a compressed key.
        return base64.b64encode(bytes([27 + 4 + number]) + signature).decode('ascii')


def verify_der(public_key: str, data: bytes, signature: str) -> bool:
    """Return whether a DER signature over SHA-256 of `data` was made by a key.

    Args:
        public_key (str): hex, compressed or not.
        data (bytes): what was signed.
        signature (str): hex; refused in its high-S form, as the original bridges do.

    Raises:
        SignatureError: If the key or the signature is malformed.
    """
    try:
        raw = bytes.fromhex(signature)
        return CURVE.verify(bytes.fromhex(public_key), raw, data, high_s=False)
    except (ValueError, TypeError) as error:
        raise SignatureError('malformed key or signature') from error


def signer_of_message(text: str, signature: str) -> tuple[str, bytes]:
    """Recover who made a compact Base64 Bitcoin message signature.

    Args:
        text (str): what was signed.
        signature (str): Base64 of 65 bytes.

    Returns:
        tuple[str, bytes]: the signer's node id and compressed public key. Any well-formed
        signature has a signer; the caller compares the id with the one it expects.

    Raises:
        SignatureError: If the signature is malformed.
    """
    try:
        raw = base64.b64decode(signature, validate=True)
    except (ValueError, TypeError, binascii.Error) as error:
        raise SignatureError('the signature is not Base64') from error
    # header | r (32) | s (32)      header = 27 + number of the key (0 to 3), + 4 if compressed
    if len(raw) != 65 or not 27 <= raw[0] <= 34:
        raise SignatureError('the signature is not a compact one')
    # The header may say that the key is uncompressed; node ids are made of compressed keys always.
    try:
        public_key = CURVE.recover(raw[1:], (raw[0] - 27) & 3, _message_digest(text))
    except ValueError as error:
        raise SignatureError('the signature does not lead to a key') from error
    return node_id_of(public_key), public_key


@dataclass(frozen=True, repr=False)
class ExtendedKey:
    """A private key with a chain code (BIP 32): the family of a bridge's renter nodes.

    The farmers of core 8 take contracts from the extended public keys in their configuration
    only; the contract names it and the index of the node that signs (section 7.1).

    Args:
        key (bytes): private key, 32 bytes.
        chain (bytes): chain code, 32 bytes.
        depth (int): steps below the master key.
        parent (bytes): first 4 bytes of the parent's key hash.
        number (int): the index by which this key was derived.
    """

    key: bytes
    chain: bytes
    depth: int = 0
    parent: bytes = b'\x00\x00\x00\x00'
    number: int = 0

    @classmethod
    def renter(cls, seed: bytes) -> ExtendedKey:
        """Return the key at ``m/3000'/0'`` below the master key of `seed`."""
        digest = hmac.digest(b'Bitcoin seed', seed, 'sha512')
        master = cls(digest[:32], digest[32:])
        # The path of core 5.0 and later (section 7.1).
        return master.child(3000 + _HARDENED).child(_HARDENED)

    def __repr__(self) -> str:
        return f'ExtendedKey({self.public!r})'

    def child(self, number: int) -> ExtendedKey:
        """Return the private child key of an index; from 2**31 on it is a hardened one."""
        identity = Identity(self.key)
        start = b'\x00' + self.key if number >= _HARDENED else identity.public_key
        digest = hmac.digest(self.chain, start + number.to_bytes(4, 'big'), 'sha512')
        key = (int.from_bytes(digest[:32], 'big') + int.from_bytes(self.key, 'big')) % ORDER
        return ExtendedKey(
            key.to_bytes(32, 'big'),
            digest[32:],
            self.depth + 1,
            bytes.fromhex(identity.node_id)[:4],
            number,
        )

    @property
    def public(self) -> str:
        """The extended public key, Base58Check (``xpub...``)."""
        return base58.encode_check(
            _EXTENDED_PUBLIC
            + bytes([self.depth])
            + self.parent
            + self.number.to_bytes(4, 'big')
            + self.chain
            + Identity(self.key).public_key
        )


@functools.lru_cache(maxsize=_REMEMBERED_KEYS)
def derived_public_key(extended: str, index: int) -> bytes:
    """Return the compressed public key of a child of an extended public key.

    The last ones are remembered: every message of a renter node names its extended key.

    Args:
        extended (str): Base58Check, ``xpub...``.
        index (int): 0 to 2**31 - 1.

    Raises:
        SignatureError: If it is not an extended public key, or there is no such index.
    """
    try:
        raw = base58.decode_check(extended[: _EXTENDED_LENGTH + 1])
    except ValueError as error:
        raise SignatureError('not Base58Check') from error
    if len(raw) != 78 or raw[:4] != _EXTENDED_PUBLIC or not 0 <= index < _HARDENED:
        raise SignatureError('not an extended public key with an index')
    chain, parent = raw[13:45], raw[45:]
    # Only the public half is needed: parent + HMAC * G. So a farmer knows every renter node of a
    # bridge.
    digest = hmac.digest(chain, parent + index.to_bytes(4, 'big'), 'sha512')
    try:
        return CURVE.add(parent, digest[:32])
    except ValueError as error:
        raise SignatureError('the extended public key holds no key') from error


def is_extended_key(text: object) -> TypeGuard[str]:
    """Return whether `text` is an extended public key."""
    try:
        return isinstance(text, str) and bool(derived_public_key(text, 0))
    except SignatureError:
        return False


def _message_digest(text: str) -> bytes:
    data = text.encode()
    return hashlib.sha256(
        hashlib.sha256(_MESSAGE_MAGIC + _compact_size(len(data)) + data).digest()
    ).digest()


def _compact_size(count: int) -> bytes:
    """Return Bitcoin's variable-length integer."""
    if count < 0xFD:
        return bytes([count])
    if count <= 0xFFFF:
        return b'\xfd' + count.to_bytes(2, 'little')
    return b'\xfe' + count.to_bytes(4, 'little')
