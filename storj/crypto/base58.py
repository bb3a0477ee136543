"""Base58, the digits of Bitcoin: no zero, no capital O and I, no small L."""

from __future__ import annotations

import hashlib
import hmac

_DIGITS = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
_CHECKSUM_SIZE = 4

# Conversion takes time that grows with the square of the length; keys are far shorter.
_MAX_LENGTH = 16384


def encode(data: bytes) -> str:
    """Return bytes as digits; each leading zero byte is a leading ``1``."""
    number, digits = int.from_bytes(data, 'big'), []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_DIGITS[digit])
    return '1' * (len(data) - len(data.lstrip(b'\0'))) + ''.join(reversed(digits))


def decode(text: str) -> bytes:
    """Return the bytes that digits stand for.

    Raises:
        ValueError: If the text is not Base58, or longer than 16384 digits.
    """
    if len(text) > _MAX_LENGTH:
        raise ValueError('the text is too long for Base58')
    number = 0
    for character in text:
        digit = _DIGITS.find(character)
        if digit < 0:
            raise ValueError('the text is not Base58')
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip('1'))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, 'big')


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()[:_CHECKSUM_SIZE]


def encode_check(data: bytes) -> str:
    """Return bytes and their checksum as digits, as addresses are written."""
    return encode(data + _checksum(data))


def decode_check(text: str) -> bytes:
    """Return the bytes that :func:`encode_check` wrote.

    Raises:
        ValueError: If the text is not Base58, or its checksum is wrong.
    """
    raw = decode(text)
    data, checksum = raw[:-_CHECKSUM_SIZE], raw[-_CHECKSUM_SIZE:]
    if not hmac.compare_digest(checksum, _checksum(data)):
        raise ValueError('the checksum of the Base58 text is wrong')
    return data
