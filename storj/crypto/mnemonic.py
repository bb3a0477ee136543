"""Encryption keys (mnemonics), from which all keys of a user follow: BIP39, English list."""

from __future__ import annotations

import functools
import hashlib
import unicodedata

from mnemonic import Mnemonic

from storj.exception import MnemonicError

__all__ = ('check', 'from_entropy', 'generate', 'seed')

_WORD_COUNTS = (12, 15, 18, 21, 24)


@functools.cache
def _english() -> Mnemonic:
    return Mnemonic('english')


def generate(bits: int = 256) -> str:
    """Return a new encryption key.

    Args:
        bits (int): strength; 128, 160, 192, 224 or 256 for 12, 15, 18, 21 or 24 words.

    Returns:
        str: the words, lower case, one space between them.

    Raises:
        ValueError: If there are no words of that strength.
    """
    return _english().generate(bits)


def from_entropy(entropy: bytes) -> str:
    """Return the words that stand for 16, 20, 24, 28 or 32 bytes of entropy.

    Raises:
        ValueError: If the length is another.
    """
    return _english().to_mnemonic(entropy)


def check(words: str) -> None:
    """Refuse words that other clients would refuse, as strictly as libstorj.

    Lower case, exactly one space between words, none around them, a right checksum. The message of
    the error names the kind of mistake and never a word.

    Args:
        words (str): the encryption key (mnemonic).

    Raises:
        MnemonicError: If the words are not a mnemonic.
    """
    if not isinstance(words, str):
        raise MnemonicError(f'the encryption key is text, not {type(words).__name__}')
    _check_text(words)


# Every file of a long copy asks; only words that passed are remembered.
@functools.lru_cache(maxsize=4)
def _check_text(words: str) -> None:
    if words != ' '.join(words.split()):
        raise MnemonicError('the words of the encryption key are separated by exactly one space')
    parts = words.split(' ')
    if len(parts) not in _WORD_COUNTS:
        raise MnemonicError(f'the encryption key has 12, 15, 18, 21 or 24 words, not {len(parts)}')
    known = frozenset(_english().wordlist)
    unknown = [number for number, part in enumerate(parts, 1) if part not in known]
    if unknown:
        numbers = ', '.join(map(str, unknown))
        raise MnemonicError(f'not in the English list of BIP39 (lower case): word {numbers}')
    if not _english().check(words):
        raise MnemonicError('the checksum of the encryption key is wrong: a word is wrong')


# A listing decrypts hundreds of names with keys from the same words, at 2048 rounds each.
@functools.lru_cache(maxsize=4)
def seed(words: str, passphrase: str = '') -> bytes:
    """Return the BIP39 seed of words, 64 bytes.

    Nothing is checked, because libstorj uses any text as a key too; see :func:`check`. Words that
    are not plain ASCII are normalised to NFKD, as BIP39 and the core client do (libstorj does not).

    Args:
        words (str): the encryption key (mnemonic).
        passphrase (str): BIP39's extra word; Storj clients have none.

    Raises:
        MnemonicError: If the words cannot be written as UTF-8.
    """
    try:
        secret = unicodedata.normalize('NFKD', words).encode()
        salt = unicodedata.normalize('NFKD', 'mnemonic' + passphrase).encode()
    except UnicodeEncodeError:
        # Without the cause: its text quotes the words.
        raise MnemonicError('the encryption key is not valid text') from None
    return hashlib.pbkdf2_hmac('sha512', secret, salt, 2048)
