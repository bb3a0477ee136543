"""Arithmetic of the curve secp256k1, by libsecp256k1 where its binding ``coincurve`` is installed.

Elsewhere (coincurve has no wheels for Python 3.14) the package ``cryptography`` signs and verifies,
and python-ecdsa does the two operations that OpenSSL has no call for: adding points, and recovering
a key from a signature. Those see public values only, so that their time tells nothing. Signatures
are those of RFC 6979 in their low-S form, the same bytes either way.

Bytes in and out: private keys and numbers have 32, public keys are compressed (33) unless they come
from outside (33 or 65), DER is DER. Malformed values are a ``ValueError``.
"""

from __future__ import annotations

import functools
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ecdsa import SECP256k1
from ecdsa.ellipticcurve import INFINITY, PointJacobi

try:
    import coincurve
    from coincurve.ecdsa import cdata_to_der, der_to_cdata, signature_normalize
except ImportError:
    coincurve = None  # type: ignore[assignment]

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_FIELD = 2**256 - 2**32 - 977
_GENERATOR: PointJacobi = SECP256k1.generator
_HASHED = ec.ECDSA(utils.Prehashed(SHA256()), deterministic_signing=True)
# Private keys that are kept ready for use: a node signs with its own all the time, and making one
# ready takes longer than a signature. As many as a network of one process has nodes.
_READY = 512


class Curve:
    """The curve by ``cryptography`` and python-ecdsa."""

    def public_key(self, private_key: bytes) -> bytes:
        """Return the public key of a private one."""
        return _serialised(_private(private_key).public_key())

    def compressed(self, public_key: bytes) -> bytes:
        """Return a public key in its compressed form."""
        return _serialised(_public(public_key))

    def sign(self, private_key: bytes, data: bytes) -> bytes:
        """Return the DER signature over SHA-256 of data."""
        return utils.encode_dss_signature(*_sign(private_key, hashlib.sha256(data).digest()))

    def verify(self, public_key: bytes, signature: bytes, data: bytes, *, high_s: bool) -> bool:
        """Return whether a DER signature over SHA-256 of data was made by a key.

        ``high_s`` accepts both forms of a signature, not only the one with the smaller number.
        """
        key = _public(public_key)
        _, s = utils.decode_dss_signature(signature)
        if s > ORDER // 2 and not high_s:
            return False
        try:
            key.verify(signature, data, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    def sign_recoverable(self, private_key: bytes, digest: bytes) -> tuple[bytes, int]:
        """Return r and s, 64 bytes, and which of the four possible keys signed."""
        r, s = _sign(private_key, digest)
        signature = r.to_bytes(32, 'big') + s.to_bytes(32, 'big')
        # The point R of the signature is what its verification computes, z/s * G + r/s * Q.
        inverse = pow(s, -1, ORDER)
        own = _point(self.public_key(private_key))
        point = _GENERATOR.mul_add(int.from_bytes(digest, 'big') * inverse, own, r * inverse)
        return signature, (2 if point.x() >= ORDER else 0) | point.y() & 1

    def recover(self, signature: bytes, number: int, digest: bytes) -> bytes:
        """Return the public key that made a signature of :meth:`sign_recoverable`."""
        r, s = int.from_bytes(signature[:32], 'big'), int.from_bytes(signature[32:], 'big')
        # r is x of the point R, less the order where it was over it; its y is even or odd.
        x = r + (ORDER if number & 2 else 0)
        if not (0 < r < ORDER and 0 < s < ORDER and x < _FIELD):
            raise ValueError('the signature has a number that is out of range')
        point = _point(bytes([2 | number & 1]) + x.to_bytes(32, 'big'))
        inverse = pow(r, -1, ORDER)
        z = int.from_bytes(digest, 'big')
        return _encoded(point.mul_add(s * inverse % ORDER, _GENERATOR, -z * inverse % ORDER))

    def add(self, public_key: bytes, number: bytes) -> bytes:
        """Return the public key plus the generator taken that many times."""
        count = int.from_bytes(number, 'big')
        if count >= ORDER:
            raise ValueError('the number is out of range')
        return _encoded(_point(public_key).mul_add(1, _GENERATOR, count))


class _Libsecp256k1(Curve):
    """The curve by libsecp256k1."""

    def public_key(self, private_key: bytes) -> bytes:
        return _ready(private_key).public_key.format()

    def compressed(self, public_key: bytes) -> bytes:
        return coincurve.PublicKey(_unmixed(public_key)).format()

    def sign(self, private_key: bytes, data: bytes) -> bytes:
        return _ready(private_key).sign(data)

    def verify(self, public_key: bytes, signature: bytes, data: bytes, *, high_s: bool) -> bool:
        key = coincurve.PublicKey(_unmixed(public_key))
        if high_s:
            signature = cdata_to_der(signature_normalize(der_to_cdata(signature))[1])
        return key.verify(signature, data)

    def sign_recoverable(self, private_key: bytes, digest: bytes) -> tuple[bytes, int]:
        signature = _ready(private_key).sign_recoverable(digest, hasher=None)
        return signature[:64], signature[64]

    def recover(self, signature: bytes, number: int, digest: bytes) -> bytes:
        signed = signature + bytes([number])
        try:
            key = coincurve.PublicKey.from_signature_and_message(signed, digest, hasher=None)
        except TypeError as error:
            raise ValueError('the signature does not lead to a key') from error
        return key.format()

    def add(self, public_key: bytes, number: bytes) -> bytes:
        return coincurve.PublicKey(public_key).add(number).format()


def _unmixed(public_key: bytes) -> bytes:
    """Return a key as it is; the hybrid form that libraries differ about is none."""
    if public_key[:1] not in (b'\2', b'\3', b'\4'):
        raise ValueError('no form of a public key')
    return public_key


@functools.lru_cache(maxsize=_READY)
def _ready(key: bytes) -> coincurve.PrivateKey:
    return coincurve.PrivateKey(key)


@functools.lru_cache(maxsize=_READY)
def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(key, 'big'), ec.SECP256K1())


def _public(key: bytes) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), _unmixed(key))


def _serialised(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def _sign(private_key: bytes, digest: bytes) -> tuple[int, int]:
    r, s = utils.decode_dss_signature(_private(private_key).sign(digest, _HASHED))
    return r, min(s, ORDER - s)


def _point(key: bytes) -> PointJacobi:
    numbers = _public(key).public_numbers()
    return PointJacobi(SECP256k1.curve, numbers.x, numbers.y, 1, ORDER)


def _encoded(point: PointJacobi) -> bytes:
    if point == INFINITY:
        raise ValueError('the point at infinity is no key')
    return bytes(point.to_affine().to_bytes('compressed'))


CURVE = Curve() if coincurve is None else _Libsecp256k1()
