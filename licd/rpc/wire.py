"""MessagePack-RPC as values: bytes in, messages out, and back. The same codec serves both ends.

A message is a MessagePack array: request [0, msgid, method, params], response [1, msgid, error, result],
notification [2, method, params]. There is no length prefix, so a receiver that has lost its place cannot find it
again: what is not a message is a Violation, and a Decoder that raised one says the same for ever.

What is well-formed but senseless (params that is no array, a string that is not UTF-8, an extension type) is not judged
here: it has a msgid and can be answered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import msgpack

REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2
GOODBYE = "server.goodbye"  # the notification in which licd says why it closes a connection

MAX_MSGID = 2**32 - 1  # the MessagePack-RPC spec: a 32-bit unsigned integer

# An array header reserves its whole length at once, and headers can nest some 1,000 deep: three bytes each
# would claim 8 KiB a level at 1,024 elements. At 128 a hostile message costs at most 1 MiB until it is refused.
MAX_ITEMS = 128
LOOK_AHEAD_BYTES = 256  # headers that claim too much come early; so little may be looked at with every byte that comes
MAX_EXT_BYTES = 64  # no method takes one; a small one is read so that it can be answered BAD_PARAMS


class Request(NamedTuple):
    msgid: int
    method: str
    params: Any


class Response(NamedTuple):
    msgid: int
    error: Any
    result: Any


class Notification(NamedTuple):
    method: str
    params: Any


Message = Request | Response | Notification


class Violation(Exception):
    """The peer does not speak the protocol. `msgid` is set where the message could still be answered."""

    def __init__(self, reason: str, msgid: int | None = None, *, too_large: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.msgid = msgid
        self.too_large = too_large


# ValueError: a length over its limit, nesting over 1,024, a reserved byte. TypeError: a list as the key of a map.
_BROKEN = (ValueError, TypeError, RecursionError, msgpack.UnpackException)


def _bounds(max_items: int) -> dict[str, Any]:
    return {
        "raw": False,
        "unicode_errors": "surrogateescape",
        "strict_map_key": False,
        "max_array_len": max_items,
        "max_map_len": max_items,
        "max_ext_len": MAX_EXT_BYTES,
    }


@cache
def _unpacker(max_items: int) -> Callable[[bytes | bytearray], Any]:
    return partial(msgpack.unpackb, **_bounds(max_items))


class Decoder:
    """Bytes fed in any pieces come out as whole messages.

    A message becomes values only once it is whole. Until then just its end is looked for: 64 KiB of empty maps are
    4.6 MiB of values, and a peer with many connections could leave such a message unfinished on each of them.

    Strings that are not UTF-8 come out with lone surrogates (str.isprintable() is false for them).

    Errors: Violation, from iteration; it latches
    """

    __slots__ = ("_at", "_begin", "_data", "_limit", "_looked", "_max_items", "_scanner", "_unpack", "_violation")

    def __init__(self, max_message: int, max_items: int = MAX_ITEMS) -> None:
        self._limit = max_message
        self._max_items = max_items
        self._unpack = _unpacker(max_items)
        self._data: bytes | bytearray = b""
        self._at = 0  # where in it the message that comes next begins
        self._scanner: Any = None  # finds the ends of messages; only where there is more, or less, than one whole one
        self._begin = 0  # where in the scanner's stream that message begins
        self._looked = 0  # how much of it has been looked at ahead of its end
        self._violation: Violation | None = None

    def feed(self, data: bytes) -> None:
        if self._at == len(self._data):
            self._data, self._at, self._scanner = data, 0, None
            return
        if self._at or type(self._data) is not bytearray:
            self._data, self._at = bytearray(self._data[self._at :]), 0
        self._data += data
        if self._scanner is not None:
            self._scanner.feed(data)

    @property
    def waiting(self) -> int:
        """The bytes fed that do not yet belong to a message given out."""
        return len(self._data) - self._at

    def __iter__(self) -> Decoder:
        return self

    def __next__(self) -> Message:
        if self._violation is not None:
            raise self._violation
        if self._at == len(self._data):
            raise StopIteration
        if self._scanner is None:
            message = self._only_one()
            if message is not None:
                return message
        try:
            size = self._whole()
            if size > self._limit:
                raise self._latch(f"a message of {size} bytes", too_large=True)
            value = self._unpack(self._data[self._at : self._at + size])
        except msgpack.OutOfData:
            if self.waiting > self._limit:
                raise self._latch(f"a message of more than {self._limit} bytes", too_large=True) from None
            raise StopIteration from None
        except _BROKEN as error:
            raise self._latch(f"not MessagePack within limits ({str(error) or type(error).__name__})") from None
        self._at += size
        return self._message(value)

    def _only_one(self) -> Message | None:
        """The message, if the bytes are just one, which is the common case; else None, and the scanner has them."""
        if self.waiting <= self._limit:
            try:
                value = self._unpack(self._data)
            except _BROKEN:
                pass  # more than one, less than one, or none: the scanner tells
            else:
                self._at = len(self._data)
                return self._message(value)
        # One buffer may hold many messages, so their limit is checked later. read_size: allocated at once.
        self._scanner = msgpack.Unpacker(max_buffer_size=0, read_size=4096)
        self._scanner.feed(self._data)
        self._begin = self._looked = 0
        return None

    def _whole(self) -> int:
        """The size of the message that comes first. Errors: OutOfData if it is not whole, ValueError"""
        try:
            self._scanner.skip()
        except msgpack.OutOfData:
            if self._looked < min(self.waiting, LOOK_AHEAD_BYTES):
                self._looked = min(self.waiting, LOOK_AHEAD_BYTES)
                self._look_ahead(self._data[self._at : self._at + LOOK_AHEAD_BYTES])
            raise
        self._looked = 0
        end: int = self._scanner.tell()
        size, self._begin = end - self._begin, end
        return size

    def _look_ahead(self, data: bytes | bytearray) -> None:
        """Errors: ValueError if a header claims too much, else OutOfData"""
        unpacker = msgpack.Unpacker(read_size=4096, **_bounds(self._max_items))
        unpacker.feed(data)
        unpacker.unpack()

    def _message(self, value: Any) -> Message:
        if type(value) is not list or not value:
            raise self._latch("a message is an array")
        kind = value[0]
        if type(kind) is not int:  # True == 1 on the wire too
            raise self._latch("the type of a message is 0, 1 or 2")
        if kind == REQUEST and len(value) == 4:
            _, msgid, method, params = value
            if _is_msgid(msgid):
                if type(method) is not str:
                    raise self._latch("the method is a string", msgid)
                return Request(msgid, method, params)
            raise self._latch("msgid is an integer from 0 to 2^32-1")
        if kind == NOTIFICATION and len(value) == 3:
            if type(value[1]) is not str:
                raise self._latch("the method is a string")
            return Notification(value[1], value[2])
        if kind == RESPONSE and len(value) == 4:
            if not _is_msgid(value[1]):
                raise self._latch("msgid is an integer from 0 to 2^32-1")
            return Response(value[1], value[2], value[3])
        raise self._latch("a request has four elements, a response four, a notification three")

    def _latch(self, reason: str, msgid: int | None = None, *, too_large: bool = False) -> Violation:
        self._violation = Violation(reason, msgid, too_large=too_large)
        return self._violation


# The first three bytes of a request, and where its msgid ends.
# What stands behind that is whole by itself: if it was so in one request before, data with it are one request, too.
MSGID_ENDS = {
    bytes((0x94, REQUEST, byte)): end
    for byte, end in (*((byte, 3) for byte in range(0x80)), (0xCC, 4), (0xCD, 5), (0xCE, 7))
}


def _is_msgid(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_MSGID


# Strings that came in broken go out readable, never as bytes that are not UTF-8.
pack: Callable[[object], bytes] = msgpack.Packer(use_bin_type=True, unicode_errors="backslashreplace").pack


def encode_request(msgid: int, method: str, params: dict[str, Any]) -> bytes:
    return pack((REQUEST, msgid, method, (params,)))


def encode_response(msgid: int, error: Any, result: Any) -> bytes:
    return pack((RESPONSE, msgid, error, result))


def encode_notification(method: str, params: dict[str, Any]) -> bytes:
    return pack((NOTIFICATION, method, (params,)))
