"""A connection to a host outside: the name looked up, a proxy or none, TLS or none, all within one deadline."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import queue
import socket
import ssl
import threading
import time
import urllib.request
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import licd
from licd.online.failures import BAD_CA_FILE, NO_ANSWER, NO_PROXY, OnlineError


class Address(NamedTuple):
    """Whom to ask, and `target`, the path, for what. `host` is for people."""

    url: str
    tls: bool
    name: str
    port: int
    target: str

    @property
    def host(self) -> str:
        return _host(self.name, self.port, 443 if self.tls else 80)

    @property
    def origin(self) -> tuple[bool, str, int]:
        return self.tls, self.name, self.port


def _host(name: str, port: int, usual: int) -> str:
    name = f"[{name}]" if ":" in name else name
    return name if port == usual else f"{name}:{port}"


class Deadline:
    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s
        self._step_s = timeout_s / 2

    def step(self) -> float:
        """Seconds that the next step may take. Errors: TimeoutError"""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, self._step_s)


class Stream:
    """A socket as http.client uses it, none of whose waits outlasts the deadline: also not byte after byte."""

    def __init__(self, stream: socket.socket, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline
        self.ended = False  # the other side has; http.client takes that for the end of a head

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._stream.settimeout(self._deadline.step())
            view = view[self._stream.send(view) :]

    def recv_into(self, buffer: Any) -> int:
        self._stream.settimeout(self._deadline.step())
        count = self._stream.recv_into(buffer)
        self.ended = count == 0
        return count

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """Nothing: http.client closes its connection before it has read the answer."""

    def hang_up(self) -> None:
        self._stream.close()

    def secured(self, context: ssl.SSLContext, name: str) -> Stream:
        """The same with TLS over it.

        suppress_ragged_eofs=False: an end without TLS's own goodbye is somebody else's doing (RFC 8446, 6.1).
        """
        stream = context.wrap_socket(
            self._stream, server_hostname=name, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        self._stream = stream
        stream.settimeout(self._deadline.step())
        stream.do_handshake()
        return self


class _Reader(io.RawIOBase):
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.recv_into(buffer)


def open_stream(where: Address, context: ssl.SSLContext | None, deadline: Deadline) -> Stream:
    """A connection over which the request can go, through the proxy if there is one, with TLS if there must be."""
    proxy = _proxy(where)
    if proxy is None:
        stream = _connect(where.name, where.port, where.host, NO_ANSWER, deadline)
    else:
        host = _host(proxy.name, proxy.port, 0)
        stream = _connect(proxy.name, proxy.port, host, NO_PROXY, deadline)
    try:
        if proxy is not None:
            _tunnel(stream, proxy, where)
        return stream if context is None else stream.secured(context, where.name)
    except BaseException:
        stream.hang_up()
        raise


def _connect(name: str, port: int, host: str, kind: str, deadline: Deadline) -> Stream:
    reason = "it has no address"
    for family, type, protocol, _, address in _look_up(name, port, host, kind, deadline):
        try:
            with contextlib.ExitStack() as undo:
                stream = undo.enter_context(socket.socket(family, type, protocol))
                stream.settimeout(deadline.step())
                stream.connect(address)
                undo.pop_all()
                return Stream(stream, deadline)
        except TimeoutError:
            reason = "nobody answered in time"
        except OSError as error:
            reason = error.strerror or str(error)
    raise OnlineError(kind, host=host, reason=reason)


def _look_up(name: str, port: int, host: str, kind: str, deadline: Deadline) -> list[Any]:
    """In a thread of its own: getaddrinfo has no timeout, and where DNS is silent it takes half a minute."""
    found: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(list(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError) as error:  # UnicodeError: a part of the name is longer than DNS allows
            found.put(error)

    threading.Thread(target=look_up, daemon=True).start()
    try:
        result = found.get(timeout=deadline.step())
    except queue.Empty:
        raise OnlineError(kind, host=host, reason="the name service (DNS) did not answer in time") from None
    if isinstance(result, Exception):
        reason = getattr(result, "strerror", None) or "no such name"
        raise OnlineError(kind, host=host, reason=f"its address is not found: {reason}")
    return result


# --- the proxy -----------------------------------------------------------------------------------------------


class _Proxy(NamedTuple):
    name: str
    port: int
    credentials: str | None


def _proxy(where: Address) -> _Proxy | None:
    """What HTTPS_PROXY and NO_PROXY say of this address. http:// never leaves the device, so it never goes there."""
    value = urllib.request.getproxies().get("https") if where.tls else None
    if not value or urllib.request.proxy_bypass(f"{where.name}:{where.port}"):
        return None
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        name, port = parts.hostname, parts.port or 80
    except ValueError:
        name = None
    if not name or parts.scheme != "http":
        raise OnlineError(NO_PROXY, host=name or "named", reason="HTTPS_PROXY must be http://HOST:PORT")
    credentials = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = base64.b64encode(pair.encode("utf-8", "surrogateescape")).decode()
    return _Proxy(name, port, credentials)


def _tunnel(stream: Stream, proxy: _Proxy, where: Address) -> None:
    """The proxy passes on what comes from now on. (RFC 9110, 9.3.6)

    Errors: OnlineError NO_PROXY
    """
    host = _host(proxy.name, proxy.port, 0)
    there = _host(where.name, where.port, 0)
    lines = [f"CONNECT {there} HTTP/1.1", f"Host: {there}", f"User-Agent: licd-cli/{licd.__version__}"]
    if proxy.credentials is not None:
        lines.append(f"Proxy-Authorization: Basic {proxy.credentials}")
    try:
        stream.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        response = http.client.HTTPResponse(stream, method="CONNECT")  # type: ignore[arg-type] # makefile() is all it uses
        response.begin()
    except TimeoutError:
        raise OnlineError(NO_PROXY, host=host, reason="there was no answer in time") from None
    except (OSError, http.client.HTTPException):
        raise OnlineError(NO_PROXY, host=host, reason="it closed the connection, or does not speak HTTP") from None
    if response.status == 407:
        raise OnlineError(NO_PROXY, host=host, reason="it wants a name and password: http://NAME:PASSWORD@HOST:PORT")
    if response.status != 200:
        raise OnlineError(NO_PROXY, host=host, reason=f"it does not connect to {there}, status {response.status}")


# --- TLS -----------------------------------------------------------------------------------------------------


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise OnlineError(BAD_CA_FILE, host="", file=ca_file, reason="there is no certificate (PEM) in it") from None
    except OSError as error:
        raise OnlineError(BAD_CA_FILE, host="", file=ca_file, reason=error.strerror) from None


_UNKNOWN = "whoever issued its certificate is not known here"
# OpenSSL's numbers: x509_vfy.h, X509_V_ERR_*.
_REASONS = {
    9: "its certificate begins later, by the clock of this device",
    10: "its certificate has ended, by the clock of this device",
    18: _UNKNOWN,
    19: _UNKNOWN,
    20: _UNKNOWN,
    21: _UNKNOWN,
    62: "its certificate is for another host",
    64: "its certificate is for another host",
}
_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE", "RECORD_LAYER_FAILURE"}


def why_untrusted(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _REASONS.get(error.verify_code, f"its certificate does not hold ({error.verify_message})")
    if error.reason in _NO_TLS:
        return "it does not speak TLS"
    return f"TLS failed ({(error.reason or 'no reason').lower().replace('_', ' ')})"
