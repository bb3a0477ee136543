"""Frames of WebSocket messages (RFC 6455), as a client reads and writes them.

Bytes and events only: no socket, no clock. Farmers are not trusted: what breaks the rules is an
error, and what has no end is not gathered.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from storj.crypto.cipher import xor
from storj.digest import Buffer
from storj.exception import FarmerError

#: Bytes of the shard in each frame that is sent. A shard in one frame would need its size in
#: memory at both ends.
FRAME_SIZE: Final = 64 * 1024

# Kinds of frames.
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_MAX_CONTROL = 125
_MAX_TEXT = 64 * 1024

# Close codes.
NORMAL, PROTOCOL_ERROR, NO_CODE, ABNORMAL, NOT_UTF8, TOO_BIG = 1000, 1002, 1005, 1006, 1007, 1009
#: Codes that the standard reserves for reports about a connection; they are never sent.
UNSENDABLE = (1004, NO_CODE, ABNORMAL, 1015)


class Data(NamedTuple):
    """A piece of a binary message; valid until the parser is fed again."""

    payload: memoryview


class Text(NamedTuple):
    """A whole text message."""

    text: str


class Ping(NamedTuple):
    """A ping, to be answered with the same payload."""

    payload: bytes


class Close(NamedTuple):
    """The end, with the other side's reason."""

    code: int
    reason: str


Event: TypeAlias = Data | Text | Ping | Close


class FrameParser:
    """Turns what a farmer sends into events, in time linear to its length and bounded memory.

    Binary messages are passed on piece by piece as they come, however long their frames claim to
    be; only text (64 KiB at most) and control frames are gathered.
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self._need = 2
        self._opcode = CONTINUATION
        self._final = True
        self._remaining = 0
        self._body = bytearray()
        # Kind of the message whose fragments are coming in; control frames may come in between.
        self._message: int | None = None
        self._text = bytearray()

    def feed(self, data: memoryview) -> Iterator[Event]:
        """Take the next bytes from the socket.

        Args:
            data (memoryview): of bytes; must not change while the events are read.

        Yields:
            Event: whatever became complete.

        Raises:
            FarmerError: If the farmer breaks the rules of RFC 6455, with close code 1002, 1007 or
                1009; nothing can be read any more then.
        """
        position, end = 0, len(data)
        while position < end:
            if len(self._head) < self._need:
                take = min(self._need - len(self._head), end - position)
                self._head += data[position : position + take]
                position += take
                if len(self._head) == 2:
                    self._need = 2 + {126: 2, 127: 8}.get(self._head[1] & 0x7F, 0)
                if len(self._head) < self._need:
                    continue
                self._begin()
            take = min(self._remaining, end - position)
            piece = data[position : position + take]
            position += take
            self._remaining -= take
            if self._opcode == BINARY:
                if take:
                    yield Data(piece)
            else:
                self._body += piece
            if not self._remaining:
                event = self._finish()
                if event is not None:
                    yield event

    def _begin(self) -> None:
        """Read the head of a frame."""
        # RFC 6455, section 5.2; a farmer never masks, so the payload follows at once:
        #
        #    byte 0             byte 1            2 or 8 bytes, or none
        #   +-+---+--------+   +-+---------+     +---------------------+
        #   |F|RSV| opcode |   |M| length  |     | length, if 126, 127 |   payload ...
        #   +-+---+--------+   +-+---------+     +---------------------+
        first, length = self._head[0], self._head[1] & 0x7F
        if len(self._head) > 2:
            length = int.from_bytes(self._head[2:], 'big')
        opcode = first & 0x0F
        self._final = bool(first & 0x80)
        if first & 0x70:
            raise FarmerError(PROTOCOL_ERROR, 'the farmer set reserved bits of a frame')
        if self._head[1] & 0x80:
            raise FarmerError(PROTOCOL_ERROR, 'the farmer masked a frame')
        if opcode >= CLOSE:
            if opcode > PONG:
                raise FarmerError(PROTOCOL_ERROR, f'the farmer sent a frame of kind {opcode}')
            # Control frames come between the fragments of a message, so they have none of their
            # own.
            if length > _MAX_CONTROL or not self._final:
                raise FarmerError(PROTOCOL_ERROR, 'the farmer sent a long control frame')
        elif opcode > BINARY:
            raise FarmerError(PROTOCOL_ERROR, f'the farmer sent a frame of kind {opcode}')
        # A message begins with its kind; every further fragment is a continuation.
        elif (opcode == CONTINUATION) != (self._message is not None):
            raise FarmerError(PROTOCOL_ERROR, 'the farmer mixed up fragments of messages')
        else:
            if self._message is None:
                self._message = opcode
            opcode = self._message
            if opcode == TEXT and len(self._text) + length > _MAX_TEXT:
                raise FarmerError(TOO_BIG, 'the farmer sent a text that is too long')
        self._opcode, self._remaining = opcode, length

    def _finish(self) -> Event | None:
        """Return the event of a frame that is complete, None if there is none yet."""
        body, self._body = self._body, bytearray()
        self._head.clear()
        self._need = 2
        if self._opcode == PING:
            return Ping(bytes(body))
        if self._opcode == CLOSE:
            if len(body) == 1:
                raise FarmerError(PROTOCOL_ERROR, 'the farmer closed with an incomplete code')
            # Farmers below core 2.0.5 close with codes such as 401, which the standard forbids.
            code = int.from_bytes(body[:2], 'big') if body else NO_CODE
            return Close(code, body[2:].decode('utf-8', 'replace'))
        if self._opcode == TEXT:
            self._text += body
        if self._opcode in (TEXT, BINARY) and self._final:
            self._message = None
            if self._opcode == TEXT:
                text, self._text = self._text, bytearray()
                try:
                    return Text(text.decode())
                except UnicodeDecodeError:
                    raise FarmerError(NOT_UTF8, 'the farmer sent text that is no UTF-8') from None
        return None


class FrameWriter:
    """Builds masked frames in one buffer that is used again and again."""

    def __init__(self) -> None:
        self._buffer = bytearray(14 + FRAME_SIZE)

    def build(self, opcode: int, payload: Buffer) -> memoryview:
        """Return a final frame; valid until the next one is built.

        Args:
            opcode (int): kind of frame.
            payload (Buffer): at most 64 KiB.
        """
        length = len(payload)
        if length <= _MAX_CONTROL:
            head = struct.pack('!BB', 0x80 | opcode, 0x80 | length)
        elif length < 1 << 16:
            head = struct.pack('!BBH', 0x80 | opcode, 0x80 | 126, length)
        else:
            head = struct.pack('!BBQ', 0x80 | opcode, 0x80 | 127, length)
        # Clients must mask, with a new key in each frame (RFC 6455, section 5.3).
        mask = secrets.token_bytes(4)
        start = len(head) + len(mask)
        frame = memoryview(self._buffer)[: start + length]
        frame[:start] = head + mask
        if length:
            xor(payload, (mask * (length // 4 + 1))[:length], frame[start:])
        return frame
