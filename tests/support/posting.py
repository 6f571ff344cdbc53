"""posting.post as licd-cli calls it, for tests: what comes back, or how it fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from licd.online import posting
from licd.online.failures import OnlineError
from tests.support.https import Script, Server, answer, web

CODE, REQUEST = "application/vnd.licd.code", "application/vnd.licd.install-request"
PROBLEM_TYPE = "application/problem+json"
FINE = answer(200, b"a document", REQUEST)


def forget_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of this machine stands between a test and its server."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no journal of systemd's; and where the system's certificates are looked for is the tests' own."""
    forget_proxies(monkeypatch)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(web().ca_file))


def post(url: str, ca_file: str | None = None, *, body: bytes = b"a code", timeout_s: float = 10.0) -> bytes:
    return posting.post(url, body, CODE, REQUEST, ca_file=ca_file or str(web().ca_file), timeout_s=timeout_s)


def fails(url: str, ca_file: str | None = None, **options: Any) -> OnlineError:
    with pytest.raises(OnlineError) as caught:
        post(url, ca_file, **options)
    return caught.value


def fails_with(*scripts: Script, **options: Any) -> OnlineError:
    with Server(*scripts) as server:
        return fails(f"{server.url}/x", **options)


def within(seconds: float, action: Callable[[], Any]) -> Any:
    began = time.monotonic()
    result = action()
    assert time.monotonic() - began < seconds
    return result
