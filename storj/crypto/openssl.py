"""AES-256 of the OpenSSL that the interpreter brings for ``hashlib``.

It has CTR more than twice as fast as PyCryptodome, and is there at once where that takes longer to
be loaded than a name to be asked for. Where the interpreter has no such library, or does not show
it, PyCryptodome does the work.
"""

from __future__ import annotations

import ctypes
import functools

from storj.digest import Buffer

__all__ = ('CtrCipher', 'OpenSsl', 'library')

# EVP takes a length in a C int.
_MOST = 1 << 30
_KEY, _COUNTER, _TAG = 32, 16, 16
# Commands of EVP_CIPHER_CTX_ctrl.
_SET_NONCE_SIZE, _GET_TAG, _SET_TAG = 0x9, 0x10, 0x11

# A block of NIST SP 800-38A, F.5.5: key, counter, plaintext, ciphertext.
_KNOWN = tuple(
    map(
        bytes.fromhex,
        (
            '603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4',
            'f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff',
            '6bc1bee22e409f96e93d7e117393172a',
            '601ec313775789a5b7a7f504bbf3d228',
        ),
    )
)


class OpenSsl:
    """The ciphers of a library.

    Args:
        evp (ctypes.CDLL): with the functions of EVP.

    Raises:
        AttributeError: If it has not all of them.
    """

    def __init__(self, evp: ctypes.CDLL) -> None:
        pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
        self.aes_256_ctr, self.aes_256_gcm = evp.EVP_aes_256_ctr, evp.EVP_aes_256_gcm
        self.new, self.free = evp.EVP_CIPHER_CTX_new, evp.EVP_CIPHER_CTX_free
        self.control, self.begin = evp.EVP_CIPHER_CTX_ctrl, evp.EVP_CipherInit_ex
        self.update, self.end = evp.EVP_CipherUpdate, evp.EVP_CipherFinal_ex
        self.aes_256_ctr.restype = self.aes_256_gcm.restype = self.new.restype = pointer
        self.free.argtypes = [pointer]
        self.control.argtypes = [pointer, number, number, pointer]
        self.begin.argtypes = [pointer, pointer, pointer, text, text, number]
        self.update.argtypes = [pointer, pointer, pointer, pointer, number]
        self.end.argtypes = [pointer, pointer, pointer]

    def ctr(self, key: bytes, counter: bytes) -> CtrCipher:
        """Return a cipher for a stream.

        Args:
            key (bytes): 32 bytes.
            counter (bytes): first counter block, 16 bytes, big-endian; it wraps.

        Raises:
            RuntimeError: If OpenSSL fails, as it does for want of memory.
            ValueError: If key or counter have another length.
        """
        if len(counter) != _COUNTER:
            raise ValueError('a counter block has 16 bytes')
        context = _Context(self)
        context.begin(self.aes_256_ctr(), key, counter, encrypt=True)
        return CtrCipher(context)

    def gcm_encrypt(self, key: bytes, nonce: bytes, text: bytes) -> tuple[bytes, bytes]:
        """Return ciphertext and tag, 16 bytes, of a text.

        Raises:
            RuntimeError: If OpenSSL fails.
            ValueError: If the key has not 32 bytes.
        """
        context, made = self._gcm(key, nonce, text, encrypt=True)
        tag = ctypes.create_string_buffer(_TAG)
        if not context.end():
            raise RuntimeError('OpenSSL ends no cipher')
        context.control(_GET_TAG, _TAG, tag)
        return made, tag.raw

    def gcm_decrypt(self, key: bytes, nonce: bytes, ciphertext: bytes, tag: bytes) -> bytes | None:
        """Return the text, None if key or tag or a byte are not the right ones.

        Raises:
            RuntimeError: If OpenSSL fails.
            ValueError: If the key has not 32 bytes.
        """
        if len(tag) != _TAG:
            return None
        context, made = self._gcm(key, nonce, ciphertext, encrypt=False)
        context.control(_SET_TAG, _TAG, ctypes.create_string_buffer(tag, _TAG))
        return made if context.end() else None

    def _gcm(self, key: bytes, nonce: bytes, data: bytes, encrypt: bool) -> tuple[_Context, bytes]:
        context = _Context(self)
        context.begin(self.aes_256_gcm(), None, None, encrypt)
        context.control(_SET_NONCE_SIZE, len(nonce), None)
        context.begin(None, key, nonce, encrypt)
        made = bytearray(data)
        context.change(memoryview(made))
        return context, bytes(made)


class _Context:
    """One use of a cipher. Its key is overwritten in the end."""

    def __init__(self, openssl: OpenSsl) -> None:
        self._openssl = openssl
        self._context = openssl.new()
        self._written = ctypes.c_int()

    def __del__(self) -> None:
        # Of no context there is nothing to free.
        self._openssl.free(self._context)

    def begin(
        self, cipher: int | None, key: bytes | None, start: bytes | None, encrypt: bool
    ) -> None:
        if key is not None and len(key) != _KEY:
            raise ValueError('AES-256 has a key of 32 bytes')
        if not self._context or not self._openssl.begin(
            self._context, cipher, None, key, start, encrypt
        ):
            raise RuntimeError('OpenSSL begins no cipher')

    def control(self, command: int, size: int, data: ctypes.Array[ctypes.c_char] | None) -> None:
        if not self._openssl.control(self._context, command, size, data):
            raise RuntimeError('OpenSSL takes no part of a cipher')

    def change(self, view: memoryview) -> None:
        """Encrypt or decrypt in place; the interpreter's lock is free meanwhile."""
        for start in range(0, len(view), _MOST):
            piece = view[start : start + _MOST]
            first = ctypes.c_char.from_buffer(piece)
            address, written = ctypes.addressof(first), ctypes.byref(self._written)
            if not self._openssl.update(self._context, address, written, address, len(piece)):
                raise RuntimeError('OpenSSL does not encrypt')

    def end(self) -> bool:
        """Return whether all was right. These ciphers have nothing to write in the end."""
        rest = ctypes.create_string_buffer(_COUNTER)
        return bool(self._openssl.end(self._context, rest, ctypes.byref(self._written)))


class CtrCipher:
    """A cipher object like PyCryptodome's; not for two threads at a time."""

    def __init__(self, context: _Context) -> None:
        self._context = context

    def encrypt(self, data: Buffer, output: bytearray | memoryview | None = None) -> bytes | None:
        """Encrypt, or decrypt, the next bytes.

        Args:
            data (Buffer): any number of bytes.
            output (bytearray | memoryview | None): where the result goes, of the same length;
                data itself, if the change shall be in place.

        Returns:
            bytes | None: the result, unless it went to output.

        Raises:
            RuntimeError: If OpenSSL fails.
            TypeError: If output is not writable.
            ValueError: If output has another length.
        """
        if output is None:
            made = bytearray(data)
            self._context.change(memoryview(made))
            return bytes(made)
        view = memoryview(output)
        if output is not data:
            if len(data) != len(view):
                raise ValueError('the output has another length than the data')
            view[:] = data
        self._context.change(view)
        return None


@functools.cache
def library() -> OpenSsl | None:
    """Return the interpreter's own, None where it shows none that encrypts as it should."""
    key, counter, plaintext, ciphertext = _KNOWN
    try:
        import _hashlib

        # Looked for in the module, a name is found in the libraries that the module is linked to.
        found = OpenSsl(ctypes.CDLL(_hashlib.__file__))
        right = found.ctr(key, counter).encrypt(plaintext) == ciphertext
    except (ImportError, AttributeError, OSError, RuntimeError):
        # No OpenSSL; built into the interpreter; linked statically, or Windows; without AES.
        return None
    return found if right else None
