"""Every answer of a server that is not the document asked for: cut, elsewhere, too large, another's, busy, or no."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from licd.license.document import MAX_DOCUMENT_BYTES
from licd.online import failures
from tests.support.https import Script, Server, answer, cut, head, say, silence
from tests.support.posting import FINE, PROBLEM_TYPE, REQUEST, fails, fails_with, forget_proxies, post, within


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


# --- the connection ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.",
        b"HTTP/1.1 200",
        head(200, REQUEST)[:-2],
        head(200, REQUEST, Content_Length=10),
        head(200, REQUEST, Content_Length=10) + b"a documen",
        head(200, REQUEST, Transfer_Encoding="chunked") + b"5\r\na doc\r\n",
        head(200, REQUEST, Transfer_Encoding="chunked") + b"5\r\na d",
    ],
    ids=[
        "at once",
        "in the version",
        "in the status",
        "in the head",
        "no body",
        "in the body",
        "between chunks",
        "in a chunk",
    ],
)
@pytest.mark.parametrize("end", [say, cut])
def test_a_connection_that_ends_in_the_middle_is_told_as_that(
    end: Callable[[bytes], Script], sent: bytes, tls: bool
) -> None:
    with Server(end(sent), tls=tls) as server:
        error = fails(f"{server.url}/x")
    assert error.kind == failures.CUT


@pytest.mark.parametrize("end", [say, cut])
def test_a_document_whose_end_is_only_that_of_the_connection_does_not_count(end: Callable[[bytes], Script]) -> None:
    assert fails_with(end(head(200, REQUEST) + b"a docum")).kind == failures.CUT


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("end", [say, cut])
@pytest.mark.parametrize(
    ("version", "rest"),
    [
        (b"1.0", b"\r\n"),
        (b"1.0", b"\r\n<html>bu"),
        (b"1.1", b"Content-Length: 10\r\n\r\nbu"),
        (b"1.1", b"Transfer-Encoding: chunked\r\n\r\n5\r\nbu"),
    ],
)
@pytest.mark.parametrize(("status", "kind"), [(502, failures.FAILED), (503, failures.BUSY), (429, failures.BUSY)])
def test_trouble_that_the_head_tells_of_is_told_however_the_rest_ends(  # noqa: PLR0917  a case and its verdict
    end: Callable[[bytes], Script], status: int, kind: str, version: bytes, rest: bytes, tls: bool
) -> None:
    with Server(end(b"HTTP/%s %d x\r\nRetry-After: 7\r\n%s" % (version, status, rest)), tls=tls) as server:
        error = fails(f"{server.url}/x")
    assert (error.kind, error.data.get("seconds", 7)) == (kind, 7)


@pytest.mark.parametrize("status", [200, 403, 404, 511])
def test_any_other_status_counts_only_with_the_whole_answer(status: int) -> None:
    assert fails_with(cut(head(status, PROBLEM_TYPE, Content_Length=10) + b"{")).kind == failures.CUT


def test_a_chunk_of_negative_length_is_no_http() -> None:
    sent = head(200, REQUEST, Transfer_Encoding="chunked") + b"-5\r\na doc\r\n0\r\n\r\n"
    assert fails_with(say(sent)).kind == failures.NOT_LICD


def test_an_answer_before_the_request_is_read_is_heard() -> None:
    def at_once(stream: socket.socket, request: Any) -> None:
        stream.sendall(head(429, Content_Length=0, Retry_After=7))
        stream.shutdown(socket.SHUT_RDWR)
        time.sleep(0.1)
        stream.close()

    with Server(at_once, tls=None) as server:
        error = fails(f"http://127.0.0.1:{server.port}/x", body=bytes(8 << 20))
    # The kernel may throw the answer away together with what was not read; then it is a cut, and nothing else.
    assert error.kind in (failures.BUSY, failures.CUT)


# --- redirects -----------------------------------------------------------------------------------------------


def to(location: str, status: int = 307) -> Script:
    return answer(status, Location=location)


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("location", ["/there", "{url}/there", "there"])
def test_a_redirect_on_the_same_host_is_followed_with_method_and_body(status: int, location: str) -> None:
    with Server(silence) as server:
        server.play(to(location.format(url=server.url), status), FINE)
        assert post(f"{server.url}/x") == b"a document"
    assert [(each.method, each.target, each.body) for each in server.asked] == [
        ("POST", "/x", b"a code"),
        ("POST", "/there", b"a code"),
    ]


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304])
def test_a_redirect_that_would_drop_the_document_is_refused(status: int) -> None:
    error = fails_with(to("/there", status))
    assert error.kind == failures.REDIRECTED
    assert f"status {status}" in error.data["reason"]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("https://portal.example/login", "another host"),
        ("//portal.example/login", "another host"),
        ("https://127.0.0.1:1/x", "another host"),
        ("https://localhost:{port}/x", "another host"),
        ("http://127.0.0.1:{port}/x", "another host"),
        ("http://portal.example/login", "http:// is for this device alone"),
        ("ftp://portal.example/login", "does not begin"),
        ("https://127.0.0.1:{port}@portal.example/", "more than a host"),
        ("/x?token=1", "more than a host"),
        ("/\x01", "characters"),
        ("https://[::1/", "cannot be read"),
        ("", "does not say where"),
    ],
)
@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_to_another_host_is_refused_and_nothing_is_sent_there(
    location: str, reason: str, status: int
) -> None:
    with Server(silence) as server:
        server.play(to(location.format(port=server.port), status))
        error = fails(f"{server.url}/x")
    assert error.kind == failures.REDIRECTED
    assert reason in error.data["reason"]
    assert len(server.asked) == 1


def test_the_fourth_redirect_is_one_too_many() -> None:
    with Server(*[to("/y")] * 3, FINE) as server:
        assert post(f"{server.url}/x") == b"a document"
    with Server(*[to("/y")] * 4, FINE) as server:
        assert fails(f"{server.url}/x").kind == failures.REDIRECTED
    assert len(server.asked) == 4


def test_redirects_have_one_deadline_together() -> None:
    def slow(stream: socket.socket, request: Any) -> None:
        time.sleep(0.3)
        to("/y")(stream, request)

    error = within(2.0, lambda: fails_with(slow, slow, slow, FINE, timeout_s=0.8))
    assert error.kind == failures.NO_ANSWER


# --- size ----------------------------------------------------------------------------------------------------


def test_a_document_of_just_the_limit_is_taken() -> None:
    with Server(answer(200, bytes(MAX_DOCUMENT_BYTES), REQUEST)) as server:
        assert len(post(f"{server.url}/x")) == MAX_DOCUMENT_BYTES


@pytest.mark.parametrize(
    "sent",
    [
        head(200, REQUEST, Content_Length=MAX_DOCUMENT_BYTES + 1),  # said, so that nothing has to come
        head(200, REQUEST) + bytes(MAX_DOCUMENT_BYTES + 1),
        head(200, REQUEST, Transfer_Encoding="chunked") + b"%x\r\n" % (1 << 30) + bytes(MAX_DOCUMENT_BYTES + 65536),
    ],
    ids=["said", "without a length", "chunked"],
)
def test_a_document_over_the_limit_is_cut_off_and_refused(sent: bytes) -> None:
    error = fails_with(say(sent))
    assert (error.kind, error.data["limit"]) == (failures.TOO_LARGE, MAX_DOCUMENT_BYTES)


def test_an_answer_without_an_end_is_not_read_on() -> None:
    went = threading.Event()
    sent = 0

    def flood(stream: socket.socket, request: Any) -> None:
        nonlocal sent
        stream.sendall(head(200, REQUEST))
        try:
            while True:
                sent += stream.send(bytes(65536))
        except OSError:
            went.set()

    assert fails_with(flood).kind == failures.TOO_LARGE
    assert went.wait(5)
    assert sent < MAX_DOCUMENT_BYTES + (8 << 20)  # and what lies in the kernel's buffers


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 " + b"x" * 70_000, head(200, X="y" * 70_000), b"A: b\r\n" * 200])
def test_a_head_without_an_end_is_not_read_on(sent: bytes) -> None:
    with Server(say(sent if sent.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n" + sent + b"\r\n")) as server:
        assert fails(f"{server.url}/x").kind == failures.NOT_LICD


# --- other answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (answer(200, b"<html>Welcome", "text/html; charset=utf-8"), "a network that wants a sign-in first"),
        (answer(511, b"<html>Welcome", "text/html"), "a network that wants a sign-in first"),
        (answer(200, b"x", "application/octet-stream"), "status 200 and the type application/octet-stream"),
        (answer(200, b"x", "application/vnd.licd.license-file"), "the type application/vnd.licd.license-file"),
        (answer(200, b"x"), "status 200 and the type nothing said"),
        (answer(200, b"x", REQUEST, Content_Encoding="gzip"), "status 200"),
        (answer(200, b'{"name":"CODE_USED","detail":"no"}', PROBLEM_TYPE), "status 200"),
        (answer(201, b"x", REQUEST), "status 201"),
        (answer(204), "status 204"),
        (answer(206, b"x", REQUEST), "status 206"),
        (answer(404, b"<html>", "text/html"), "status 404 and the type text/html"),
        (answer(404, b"x", REQUEST), "status 404"),
        (say(b"SSH-2.0-OpenSSH_9.2\r\n"), "not HTTP"),
        (say(b"HTTP/1.1 abc OK\r\n\r\n"), "not HTTP"),
        (say(b"\0" * 100 + b"\r\n"), "not HTTP"),
    ],
)
def test_what_answers_in_the_place_of_a_licd_server_is_told_as_that(script: Script, reason: str) -> None:
    error = fails_with(script)
    assert error.kind == failures.NOT_LICD
    assert reason in error.data["reason"]


def details(**changes: Any) -> bytes:
    value = {"type": "urn:licd:error:CODE_USED", "title": "t", "status": 409, "detail": "It was used.",
             "name": "CODE_USED", "code": 78, "next": "Ask the vendor."}  # fmt: skip
    return json.dumps(value | changes).encode()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, {}),
        ({"next": None}, {"next": None}),
        ({"next": 7}, {"next": None}),
        ({"code": None}, {"code": None}),
        ({"code": "78"}, {"code": None}),
        ({"code": True}, {"code": None}),
        ({"detail": "Он уже использован \x1b[2J"}, {"detail": "Он уже использован \x1b[2J"}),
        ({"more": {"a": [1]}}, {}),
    ],
)
def test_a_no_of_the_vendor_s_server_comes_with_its_name_and_what_to_do(
    changes: dict[str, Any], says: dict[str, Any]
) -> None:
    error = fails_with(answer(409, details(**changes), f"{PROBLEM_TYPE}; charset=utf-8"))
    usual = {"status": 409, "name": "CODE_USED", "code": 78, "detail": "It was used.", "next": "Ask the vendor."}
    assert error.kind == failures.PROBLEM
    assert {key: each for key, each in error.data.items() if key != "host"} == usual | says


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 50_000,
        b"9" * 10_000,
        b'{"title":"Not Found","status":404}',
        details(name=None),
        details(name="not a name"),
        details(name="X" * 65),
        details(name="CODE_USED\n"),
        details(detail=None),
        details(detail="x" * 65_536),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_problem_details_that_are_not_licd_s_are_another_server_s(body: bytes) -> None:
    error = fails_with(answer(404, body, PROBLEM_TYPE))
    assert (error.kind, error.data["reason"]) == (
        failures.NOT_LICD,
        f"the answer has status 404 and the type {PROBLEM_TYPE}",
    )


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (answer(500, b"<html>", "text/html"), 500),
        (answer(502), 502),
        (answer(500, details(status=500, name="INTERNAL", code=90), PROBLEM_TYPE), 500),
        (say(head(500, "text/html") + b"x" * (MAX_DOCUMENT_BYTES + 2)), 500),
    ],
)
def test_trouble_of_the_server_itself_is_told_as_that(script: Script, status: int) -> None:
    error = fails_with(script)
    assert (error.kind, error.data["status"]) == (failures.FAILED, status)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7),
        ({"Retry_After": "0"}, 0),
        ({"Retry_After": " 86400 "}, 86400),
        ({"Retry_After": "Wed, 21 Oct 2015 07:29:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 90),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:29:00 GMT"}, 0),
        ({"Retry_After": "Wed, 21 Oct 2015 07:29:30 -0000", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"Retry_After": "Wed, 21 Oct 2015 07:29:30 GMT"}, None),
        ({}, None),
        ({"Retry_After": "-5"}, None),
        ({"Retry_After": f"Fri, 31 Dec {'9' * 20} 23:59:59 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"Retry_After": "1.5"}, None),
        ({"Retry_After": "٣"}, None),
        ({"Retry_After": "9999999999"}, None),
        ({"Retry_After": "soon", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
    ],
)
def test_a_busy_server_says_when_to_ask_again(status: int, headers: dict[str, str], seconds: int | None) -> None:
    sent = "\r\n".join([f"HTTP/1.1 {status} x", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()), "", ""])
    error = fails_with(say(sent.encode()))
    assert (error.kind, error.data["seconds"]) == (failures.BUSY, seconds)
    assert "name" not in error.data


def test_a_busy_server_s_sentence_is_kept() -> None:
    error = fails_with(answer(429, details(name="TOO_MANY_TRIES", detail="Too many."), PROBLEM_TYPE, Retry_After=600))
    assert (error.kind, error.data["seconds"]) == (failures.BUSY, 600)
    assert (error.data["name"], error.data["detail"]) == ("TOO_MANY_TRIES", "Too many.")
