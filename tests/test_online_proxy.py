"""HTTPS_PROXY and NO_PROXY, with Debian's tinyproxy in between; and what is no proxy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from licd.online import failures
from tests.support.https import Script, Server, Web, drip, needs_tinyproxy, say, silence, tinyproxy
from tests.support.posting import FINE, fails, forget_proxies, post, within


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


@needs_tinyproxy
def test_a_request_goes_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with tinyproxy(tmp_path) as port, Server(FINE, FINE, FINE, FINE) as server:
        for number, (name, value) in enumerate(
            [("HTTPS_PROXY", f"http://127.0.0.1:{port}"), ("https_proxy", f"127.0.0.1:{port}/")], 1
        ):
            monkeypatch.setenv(name, value)
            assert post(f"{server.url}/x") == b"a document"
            monkeypatch.delenv(name)
            assert log(tmp_path).count(f"CONNECT 127.0.0.1:{server.port}") == number
        assert post(f"{server.url}/x") == b"a document"
        assert log(tmp_path).count("CONNECT 127.0.0.1:") == 2
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "acme.example,127.0.0.1")
        assert post(f"{server.url}/x") == b"a document"
        assert log(tmp_path).count("CONNECT 127.0.0.1:") == 2


def log(folder: Path) -> str:
    """What the proxy wrote: "Request (file descriptor 7): CONNECT 127.0.0.1:4711 HTTP/1.1"."""
    return (folder / "proxy.log").read_text()


@needs_tinyproxy
def test_a_certificate_behind_a_proxy_is_judged_by_the_name_of_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with tinyproxy(tmp_path) as port, Server(FINE, tls=Web(host="portal.example")) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        assert fails(f"{server.url}/x", server.ca_file).kind == failures.UNTRUSTED
        assert server.asked == []


@needs_tinyproxy
def test_a_proxy_that_wants_a_password_gets_the_one_in_its_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with tinyproxy(tmp_path, "BasicAuth shop pw") as port, Server(FINE) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://shop:p%77@127.0.0.1:{port}")
        assert post(f"{server.url}/x") == b"a document"
        for wrong in ("", "shop:other@"):
            monkeypatch.setenv("HTTPS_PROXY", f"http://{wrong}127.0.0.1:{port}")
            error = fails(f"{server.url}/x")
            assert (error.kind, error.data["host"]) == (failures.NO_PROXY, f"127.0.0.1:{port}")
            assert "name and password" in error.data["reason"] or "status 401" in error.data["reason"]
            assert "other" not in str(error.data)


@needs_tinyproxy
def test_a_proxy_that_may_not_connect_there_is_told_apart_from_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with tinyproxy(tmp_path, "ConnectPort 1") as port, Server(FINE) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        error = fails(f"{server.url}/x")
    assert error.kind == failures.NO_PROXY
    assert re.fullmatch(rf"it does not connect to 127.0.0.1:{server.port}, status 403", error.data["reason"])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("socks5://127.0.0.1:1080", "must be http://HOST:PORT"),
        ("https://proxy.example:1", "must be http://HOST:PORT"),
        ("http://proxy.example:port", "must be http://HOST:PORT"),
        ("http://", "must be http://HOST:PORT"),
        ("http://[::1", "must be http://HOST:PORT"),
        ("://", "must be http://HOST:PORT"),
        ("http://me:secret@no-such-name.invalid:8080", "its address is not found"),
        ("http://127.0.0.1:1", "Connection refused"),
    ],
)
def test_a_proxy_that_leads_nowhere_is_told_and_its_password_is_not(
    monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with Server(FINE) as server:
        error = fails(f"{server.url}/x")
        assert server.connections == 0
    assert error.kind == failures.NO_PROXY
    assert reason in error.data["reason"]
    assert "secret" not in str(error.data)


@pytest.mark.parametrize(
    "script",
    [say(b""), say(b"SSH-2.0-x\r\n"), silence, drip(b"HTTP/1.1 200 OK\r\n" * 100, 0.05)],
    ids=["gone", "no HTTP", "silent", "by drops"],
)
def test_what_is_no_proxy_is_told_at_the_deadline(monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
    with Server(script, tls=False) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url)
        error = within(2.0, lambda: fails("https://licenses.acme.example/x", timeout_s=0.5))
    assert (error.kind, error.data["host"]) == (failures.NO_PROXY, f"127.0.0.1:{server.port}")
    assert server.asked[0].target == "licenses.acme.example:443"


def test_plain_http_on_this_device_never_goes_to_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Server(FINE, tls=False) as server:
        assert post(f"{server.url}/x") == b"a document"
