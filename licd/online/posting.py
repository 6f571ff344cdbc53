"""One document to the vendor's server, one back.

What comes back is signed and verified elsewhere. TLS is for what a signature cannot do: the code and the request are
read by nobody else on the way, and an answer "no" is the vendor's own.

The networks of shops answer in the vendor's place: sign-in pages, filters, proxies that cut. So an answer counts only
with the media type that was asked for, and every other end has a kind of its own.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import re
import ssl
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

import licd
from licd.license.document import MAX_DOCUMENT_BYTES
from licd.online.connection import Address, Deadline, open_stream, tls_context, why_untrusted
from licd.online.failures import (
    BUSY,
    CUT,
    FAILED,
    NO_ANSWER,
    NOT_HTTPS,
    NOT_LICD,
    PROBLEM,
    REDIRECTED,
    TOO_LARGE,
    UNTRUSTED,
    OnlineError,
)

MAX_REDIRECTS = 3
MAX_PROBLEM_BYTES = 64 * 1024  # a sentence or two; longer ones are no problem details of ours
CHUNK_BYTES = 64 * 1024


def post(
    url: str, body: bytes, content_type: str, accept: str, *, ca_file: str | None = None, timeout_s: float = 30.0
) -> bytes:
    """The document of type `accept` that the server answers; at most MAX_DOCUMENT_BYTES.

    timeout_s: for all of it; a single step (looking up the name, connecting, waiting for bytes) has half of that, so
               that an address where nobody answers leaves time for the next
    ca_file:   trusted in place of the system's certificates
    Errors: OnlineError
    """
    deadline = Deadline(timeout_s)
    headers = {
        "Content-Type": content_type,
        "Accept": f"{accept}, application/problem+json",
        "User-Agent": f"licd-cli/{licd.__version__}",
        "Connection": "close",
    }
    for _ in range(MAX_REDIRECTS + 1):
        where = _address(url)
        answer = _exchange(where, body, headers, ca_file, deadline)
        if not 300 <= answer.status < 400:
            return _document(answer, accept)
        url = _redirected(where, answer)
    raise OnlineError(REDIRECTED, host=where.host, to=url, reason="it goes on without an end")


# --- where it goes -------------------------------------------------------------------------------------------


def _address(url: str) -> Address:
    """Errors: OnlineError NOT_HTTPS"""

    def refuse(reason: str) -> OnlineError:
        return OnlineError(NOT_HTTPS, url=re.sub("//.*@", "//", url), host="", reason=reason)

    if not re.fullmatch(r"[!-~]{1,2000}", url):
        raise refuse("it has characters that no address has")
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
    except ValueError:
        raise refuse("it cannot be read") from None
    name = parts.hostname
    if parts.scheme not in ("https", "http") or not name:
        raise refuse("it does not begin with https:// and a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise refuse("it has more than a host, a port and a path")
    tls = parts.scheme == "https"
    if not (tls or _is_loopback(name)):
        raise refuse("http:// is for this device alone (127.0.0.1, ::1, localhost)")
    return Address(url, tls, name, port or (443 if tls else 80), parts.path or "/")


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _redirected(where: Address, answer: _Answer) -> str:
    """The address to ask in its place: on the same host, and only if the same is to be sent there. (RFC 9110, 15.4)"""
    location = answer.headers.get("Location", "")
    try:
        to = urljoin(where.url, location)
    except ValueError:
        to = location

    def refuse(reason: str) -> OnlineError:
        return OnlineError(REDIRECTED, host=where.host, to=to, reason=reason)

    if not location:
        raise refuse("it does not say where")
    try:
        there = _address(to)
    except OnlineError as error:
        raise refuse(error.data["reason"]) from None
    if there.origin != where.origin:
        raise refuse("it is another host")
    if answer.status not in (307, 308):
        raise refuse(f"with status {answer.status} the document would not go along")
    return to


# --- one exchange --------------------------------------------------------------------------------------------


class _Answer(NamedTuple):
    """`body` is None if it has more than MAX_DOCUMENT_BYTES; then the rest was never read.

    whole: it told its own end; else that is the connection's, which anybody on the way can bring about
    """

    host: str
    status: int
    headers: Message
    body: bytes | None
    whole: bool

    @property
    def type(self) -> str:
        return self.headers.get_content_type() if "Content-Type" in self.headers else "nothing said of its type"


def _exchange(where: Address, body: bytes, headers: dict[str, str], ca_file: str | None, deadline: Deadline) -> _Answer:
    context = tls_context(ca_file) if where.tls else None  # first: nobody is asked if this file is not there
    connection = http.client.HTTPConnection(where.name, where.port)
    connection.default_port = 443 if where.tls else 80  # what http.client leaves out of Host
    stream = None
    try:
        connection.sock = stream = open_stream(where, context, deadline)
        # On these errors it has heard enough: what it said before is still to be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            connection.request("POST", where.target, body, headers)
        with connection.getresponse() as response:
            if stream.ended:  # the head has no last line
                raise http.client.IncompleteRead(b"")
            whole = response.chunked or response.length is not None  # RFC 9112, 6.3
            return _Answer(where.host, response.status, response.headers, _read(response), whole)
    except TimeoutError:
        raise OnlineError(NO_ANSWER, host=where.host, reason="there was no answer in time") from None
    except (http.client.IncompleteRead, http.client.RemoteDisconnected, ssl.SSLEOFError, ssl.SSLZeroReturnError):
        raise OnlineError(CUT, host=where.host, reason="it was closed") from None
    except ssl.SSLError as error:
        raise OnlineError(UNTRUSTED, host=where.host, reason=why_untrusted(error)) from None
    except (http.client.HTTPException, ValueError):  # ValueError: a chunk of negative length
        if stream is not None and stream.ended:
            raise OnlineError(CUT, host=where.host, reason="it was closed") from None
        raise OnlineError(NOT_LICD, host=where.host, reason="the answer is not HTTP") from None
    except OSError as error:
        raise OnlineError(CUT, host=where.host, reason=error.strerror or "it was closed") from None
    finally:
        if stream is not None:
            stream.hang_up()


def _read(response: http.client.HTTPResponse) -> bytes | None:
    if 300 <= response.status < 400:
        return b""  # nobody reads it
    try:
        return _body(response)
    except (OSError, http.client.HTTPException, ValueError):
        if not _is_trouble(response.status):
            raise
        return b""  # the head has told what is wrong, and for how long


def _body(response: http.client.HTTPResponse) -> bytes | None:
    if response.length is not None and response.length > MAX_DOCUMENT_BYTES:
        return None
    data = bytearray()
    while chunk := response.read(CHUNK_BYTES):
        data += chunk
        if len(data) > MAX_DOCUMENT_BYTES:
            return None
    if response.length:  # read() of a part does not tell that the rest never came
        raise http.client.IncompleteRead(bytes(data), response.length)
    return bytes(data)


def _is_trouble(status: int) -> bool:
    """The server's own, which may pass. 511 is of a network that wants a sign-in."""
    return status == 429 or (status >= 500 and status != 511)


# --- the answer ----------------------------------------------------------------------------------------------


def _document(answer: _Answer, accept: str) -> bytes:
    """The document in the answer. Errors: OnlineError, for every other answer"""
    problem = _problem(answer)
    if answer.status in (429, 503):
        raise OnlineError(BUSY, host=answer.host, seconds=_retry_after(answer), **problem)
    if _is_trouble(answer.status):
        raise OnlineError(FAILED, host=answer.host, status=answer.status)
    if problem:
        raise OnlineError(PROBLEM, host=answer.host, status=answer.status, **problem)
    if answer.status != 200 or answer.type != accept or answer.headers.get("Content-Encoding"):
        raise OnlineError(NOT_LICD, host=answer.host, reason=_what_instead(answer))
    if answer.body is None:
        raise OnlineError(TOO_LARGE, host=answer.host, limit=MAX_DOCUMENT_BYTES)
    if not answer.whole:
        raise OnlineError(CUT, host=answer.host, reason="it was closed, and the answer has no length")
    return answer.body


def _what_instead(answer: _Answer) -> str:
    if answer.type == "text/html" and answer.status in (200, 511):
        return "the answer is a web page, as of a network that wants a sign-in first"
    return f"the answer has status {answer.status} and the type {answer.type}"


def _problem(answer: _Answer) -> dict[str, Any]:
    """The problem details of the answer; nothing if it is none, or none of a licd server.

    Source: RFC 9457, with the members name, code and next
    """
    if answer.status < 400 or answer.type != "application/problem+json":
        return {}
    if answer.body is None or len(answer.body) > MAX_PROBLEM_BYTES:
        return {}
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    name, code, detail, following = (value.get(key) for key in ("name", "code", "detail", "next"))
    if type(name) is not str or not re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name) or type(detail) is not str:
        return {}
    return {
        "name": name,
        "code": code if type(code) is int else None,
        "detail": detail,
        "next": following if type(following) is str else None,
    }


def _retry_after(answer: _Answer) -> int | None:
    """Seconds (RFC 9110, 10.2.3). A date counts from the server's own: this device's clock may be wrong."""
    text = answer.headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", text):
        return int(text)
    try:
        until = parsedate_to_datetime(text)
        since = parsedate_to_datetime(answer.headers.get("Date", ""))
        return max(0, round((until - since).total_seconds()))
    except (ValueError, TypeError, OverflowError):  # TypeError: one of them without its time zone
        return None
