"""A blocking client of licd: one connection, one request at a time, for one thread.

A connection is kept only as long as the next answer on it can be nobody else's: whatever ends a wait without an
answer (a timeout, garbage, an interrupt) closes it, so a late answer is never taken for that of the next request.

If the connection ends before the answer, nobody knows whether the request was carried out. All methods of licd are
idempotent, so the client connects once more and asks again; only then it gives up.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from typing import Any

from licd.rpc import wire

DEFAULT_SOCKET = "/run/licd/licd.sock"
MAX_ANSWER_BYTES = 16 * 1024 * 1024  # a dry-run difference or license list of several documents of 2,000 lines
MAX_ANSWER_ITEMS = 10_000  # elements of one array: the licenses of several documents
BACKLOG_PAUSE_S = 0.01  # licd accepts 64 connections a turn, and a turn is over in a few milliseconds

# Why there is no connection.
NO_SOCKET = "no socket"
DENIED = "denied"
NOT_LISTENING = "not listening"
NOT_USABLE = "not usable"  # the path is too long, of a datagram socket, and the like: see `detail`
LOST = "lost"  # it ended before the answer, also the second time


class ClientError(Exception):
    """Whatever keeps call() from returning a result."""


class Unreachable(ClientError):
    """Nobody can be asked. `reason` is one of the constants above."""

    def __init__(self, path: str, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.reason = reason
        self.detail = detail


class TimedOut(ClientError):
    """No answer in time. The request may have been carried out, or still be; asking again is safe."""

    def __init__(self, method: str, timeout_s: float) -> None:
        super().__init__(f"no answer to {method} within {timeout_s:g} s")
        self.method = method
        self.timeout_s = timeout_s


class ProtocolError(ClientError):
    """What answers is not licd, or not a licd that this client understands."""


class Unsendable(ClientError, ValueError):
    """An argument is nothing that MessagePack can carry; nothing was sent."""


class CallError(ClientError):
    """licd's own answer: refused, and why. Codes and names this client has never heard of come through as they are."""

    def __init__(self, code: int, name: str, message: str, data: dict[str, Any]) -> None:
        super().__init__(f"{name}: {message}")
        self.code = code
        self.name = name
        self.message = message
        self.data = data

    @classmethod
    def from_map(cls, value: Any) -> CallError:
        """The error as it stood on the wire.

        Errors: ProtocolError if it is no map with a code and a name
        Source: licd-rpc(7) ERROR CATALOGUE
        """
        if type(value) is not dict or type(value.get("code")) is not int or type(value.get("name")) is not str:
            raise ProtocolError("the error is not a map with code and name")
        message, data = value.get("message"), value.get("data")
        return cls(
            value["code"],
            value["name"],
            message if type(message) is str else value["name"],
            data if type(data) is dict else {},
        )

    def as_map(self) -> dict[str, Any]:
        return {"code": self.code, "name": self.name, "message": self.message, "data": self.data}


class _Ended(Exception):
    """The connection ended before the answer."""


class Client:
    """Asks the licd behind a Unix socket; connects when first asked, and again after a connection that ended.

    >>> with Client("/run/licd/licd.sock") as licd:
    ...     lease = licd.call("seat.acquire", license="kso.scales", holder="till-1")["lease"]

    timeout_s: for one call in all, connecting and asking again included
    retry:     ask again, once, if the connection ends before the answer
    """

    def __init__(
        self, path: str | os.PathLike[str] = DEFAULT_SOCKET, timeout_s: float = 10.0, *, retry: bool = True
    ) -> None:
        self.path = os.fspath(path)
        self.timeout_s = timeout_s
        self.retry = retry
        self._msgid = 0
        self._stream: socket.socket | None = None
        self._decoder = wire.Decoder(MAX_ANSWER_BYTES, MAX_ANSWER_ITEMS)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The connection is closed: leases bound to it (on_close="release") end. A further call connects anew."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def call(self, method: str, /, **params: Any) -> Any:
        """The result of one method.

        Errors: CallError, Unreachable, TimedOut, ProtocolError, Unsendable
        """
        self._msgid = self._msgid % wire.MAX_MSGID + 1
        try:
            request = wire.encode_request(self._msgid, method, params)
        except (TypeError, ValueError, OverflowError) as error:
            raise Unsendable(str(error)) from None
        wait = _Wait(method, self.timeout_s)
        again = self.retry
        while True:
            try:
                answer = self._exchange(request, wait)
                break
            except _Ended as ended:
                self.close()
                if not again:
                    raise Unreachable(self.path, LOST, f"the connection ended before the answer ({ended})") from None
                again = False
            except BaseException:  # an interrupt too: the answer it left behind must not be read by the next call
                self.close()
                raise
        if answer.error is not None:
            raise CallError.from_map(answer.error)
        return answer.result

    def _exchange(self, request: bytes, wait: _Wait) -> wire.Response:
        stream = self._stream or self._connect(wait)
        try:
            stream.settimeout(wait.left())
            stream.sendall(request, socket.MSG_NOSIGNAL)
        except TimeoutError:
            raise wait.over() from None
        except (BrokenPipeError, ConnectionResetError):
            pass  # licd has closed this connection; what it said before is still to be read
        except OSError as error:
            raise _Ended(error.strerror) from None
        while True:
            try:
                for message in self._decoder:
                    if isinstance(message, wire.Response):
                        if message.msgid == self._msgid:
                            return message
                    elif isinstance(message, wire.Request):
                        raise ProtocolError("a request from the server")
                    elif message.method == wire.GOODBYE:
                        raise _goodbye(message.params)
            except wire.Violation as violation:
                raise ProtocolError(violation.reason) from None
            try:
                stream.settimeout(wait.left())
                data = stream.recv(65536)
            except TimeoutError:
                raise wait.over() from None
            except OSError as error:
                raise _Ended(error.strerror) from None
            if not data:
                raise _Ended("closed by the server")
            self._decoder.feed(data)

    def _connect(self, wait: _Wait) -> socket.socket:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            stream.settimeout(wait.left())
            while True:
                try:
                    stream.connect(self.path)
                    break
                except BlockingIOError:  # unix(7) EAGAIN: the backlog is full, and nothing tells when it no longer is
                    time.sleep(min(BACKLOG_PAUSE_S, wait.left()))
        except OSError as error:
            stream.close()
            reason = NOT_USABLE if error.errno is None else _REASONS.get(error.errno, NOT_USABLE)
            raise Unreachable(self.path, reason, error.strerror or str(error)) from None
        except BaseException:
            stream.close()
            raise
        self._stream = stream
        self._decoder = wire.Decoder(MAX_ANSWER_BYTES, MAX_ANSWER_ITEMS)
        return stream


_REASONS = {
    errno.ENOENT: NO_SOCKET,
    errno.ENOTDIR: NO_SOCKET,
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.ECONNREFUSED: NOT_LISTENING,
}


class _Wait:
    """How much of one call's time is left."""

    def __init__(self, method: str, timeout_s: float) -> None:
        self._method = method
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s

    def left(self) -> float:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise self.over()
        return seconds

    def over(self) -> TimedOut:
        return TimedOut(self._method, self._timeout_s)


def _goodbye(params: Any) -> ClientError:
    with contextlib.suppress(TypeError, LookupError):
        return CallError.from_map(params[0]["error"])
    return ProtocolError("a goodbye without a reason")
