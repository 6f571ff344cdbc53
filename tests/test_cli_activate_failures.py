"""licd-cli activate when the vendor's server says no, does not answer, or is busy: told, and what then helps."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from licd.cli import problems, vendor_server
from licd.cli.activate_commands import INSTALL_REQUEST
from licd.online import failures
from tests.support import peer as licd
from tests.support.activating import (
    ASKED,
    FILE,
    IN_FORCE,
    MADE,
    SYMBOLS,
    Both,
    activate,
    taken,
    vendors,
)
from tests.support.cli import Run, Start
from tests.support.https import Script, Server, Web, answer, cut, say, silence
from tests.support.peer import Peer
from tests.support.posting import PROBLEM_TYPE, surroundings


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    surroundings(monkeypatch)


# --- the vendor's server says no, or does not answer ---------------------------------------------------------


def details(**changes: Any) -> bytes:
    value = {"type": "urn:licd:error:CODE_USED", "title": "t", "status": 409, "detail": "The code was used.",
             "name": "CODE_USED", "code": 78, "next": "Ask the vendor for another."}  # fmt: skip
    return json.dumps(value | changes).encode()


@pytest.mark.parametrize("first", [True, False])
def test_a_no_of_the_vendor_s_server_is_told_as_one_of_licd_s(run: Run, folder: Path, first: bool) -> None:
    no = answer(409, details(), PROBLEM_TYPE)
    with Both(folder, *([no] if first else [ASKED, no])) as both:
        done = activate(run, both, SYMBOLS, "--json")
        assert both.methods[-1] == ("server.status" if first else "install.request")
    assert done.status == problems.REFUSED
    assert "error: The code was used. (CODE_USED)\nhint: Ask the vendor for another.\n" in done.err
    assert done.value == {
        "error": {
            "code": 78,
            "name": "CODE_USED",
            "message": "The code was used.",
            "data": {"next": "Ask the vendor for another."},
        }
    }


def test_a_no_with_a_name_of_the_server_s_own_is_told_too(run: Run, folder: Path) -> None:
    no = answer(400, details(name="NOT_TODAY", code=None, detail="{no} \x1b[2J", next=None), PROBLEM_TYPE)
    with Both(folder, no) as both:
        done = activate(run, both, SYMBOLS)
        host = f"127.0.0.1:{both.server.port}"
    assert done.status == problems.REFUSED
    assert f"error: {host} refuses: {{no}} \\x1b[2J (NOT_TODAY) (VENDOR_REFUSED)\nhint: " in done.err


def cases() -> list[Any]:
    html = answer(200, b"<html>Welcome to our shop's network", "text/html")
    return [
        pytest.param(html, "NOT_THE_VENDOR", "wants a sign-in first", id="captive portal"),
        pytest.param(answer(404), "NOT_THE_VENDOR", "status 404", id="another server"),
        pytest.param(answer(302, Location="https://portal.example/"), "VENDOR_REDIRECTED", "portal.example", id="302"),
        pytest.param(answer(307, Location="https://b.example/"), "VENDOR_REDIRECTED", "another host", id="307"),
        pytest.param(answer(500, b"<html>", "text/html"), "VENDOR_FAILED", "status 500", id="500"),
        pytest.param(answer(503), "VENDOR_BUSY", "Try again later", id="503"),
        pytest.param(answer(429, Retry_After=3600), "VENDOR_BUSY", "Try again in 1 h", id="429"),
        pytest.param(cut(b"HTTP/1.1 200 OK\r\n"), "VENDOR_CUT", "it was closed", id="cut"),
        pytest.param(silence, "VENDOR_NO_ANSWER", "no answer in time", id="silent"),
    ]


@pytest.mark.parametrize(("script", "name", "says"), cases())
@pytest.mark.parametrize("first", [True, False])
def test_what_keeps_the_vendor_s_server_from_answering_is_status_3_and_leads_on(  # noqa: PLR0917  as above
    run: Run, folder: Path, script: Script, name: str, says: str, first: bool
) -> None:
    with Both(folder, *([script] if first else [ASKED, script])) as both:
        began = time.monotonic()
        done = activate(run, both, SYMBOLS, "--timeout", 1)
        assert time.monotonic() - began < 5
        assert "license.import" not in both.methods
    assert (done.status, done.out) == (problems.UNREACHABLE, "")
    assert re.search(rf"(?m)^error: .*127\.0\.0\.1:\d+.*\({name}\)\nhint: .*license-request export", done.err), done.err
    assert says in done.err


@pytest.mark.parametrize(
    ("tls", "says"),
    [
        (Web(begins_days=-40), "certificate has ended"),
        (Web(), "not known here"),
        (Web(host="portal.example"), "for another host"),
    ],
)
def test_a_server_that_cannot_be_trusted_gets_no_code(run: Run, peer: Start, tls: Web, says: str) -> None:
    with Server(ASKED, tls=tls) as server:
        words = ["--ca", server.ca_file] if "not known" not in says else []
        done = run("activate", SYMBOLS, *words, "--socket", peer(licd.answer(vendors(("acme", server.url)))))
        assert server.asked == []
    assert done.status == problems.UNREACHABLE
    assert re.search(rf"error: 127\.0\.0\.1:\d+ cannot be trusted: .*{says}.*\(VENDOR_UNTRUSTED\)", done.err)


def test_a_server_of_the_vendor_s_own_authority_is_trusted_with_ca(run: Run, folder: Path) -> None:
    with (
        Server(ASKED, FILE, tls=Web()) as server,
        Peer(
            f"{folder}/s",
            *map(licd.answer, (vendors(("acme", server.url)), taken(server.url), MADE, IN_FORCE)),
        ),
    ):
        done = run("activate", SYMBOLS, "--ca", server.ca_file, "--socket", f"{folder}/s")
    assert done.status == problems.DONE


@pytest.mark.parametrize("by_profile", [True, False])
def test_a_server_of_the_vendor_s_own_authority_is_trusted_by_its_profile(
    run: Run, folder: Path, by_profile: bool
) -> None:
    """Each of the two documents by what licd said of the vendor in the step before."""
    with Server(ASKED, FILE, tls=Web()) as server:
        status, asked = vendors(("acme", server.url)), taken(server.url)
        status["vendors"][0]["ca"] = server.ca_file
        asked["ca"] = server.ca_file if by_profile else None
        with Peer(f"{folder}/s", *map(licd.answer, (status, asked, MADE, IN_FORCE))):
            done = run("activate", SYMBOLS, "--socket", f"{folder}/s")
    assert done.status == (problems.DONE if by_profile else problems.UNREACHABLE)
    assert ("3/4" in done.err, "(VENDOR_UNTRUSTED)" in done.err) == (True, not by_profile)


def test_a_ca_file_of_the_profile_that_is_none_is_no_mistake_of_the_command_line(run: Run, peer: Start) -> None:
    status = vendors(("acme", "https://127.0.0.1:1"))
    status["vendors"][0]["ca"] = "/nonexistent/ca.pem"
    done = run("activate", SYMBOLS, "--socket", peer(licd.answer(status)))
    assert (done.status, "which the profile of acme trusts for TLS, " in done.err) == (problems.UNREACHABLE, True)
    assert "(BAD_VENDOR_CA)\nhint: Correct ca in its vendor.conf" in done.err


def test_a_ca_file_that_is_none_is_a_mistake_of_the_command_line(run: Run, folder: Path) -> None:
    with Both(folder) as both:
        done = activate(run, both, SYMBOLS, "--ca", "/nonexistent/ca.pem")
        assert both.server.connections == 0
    assert (done.status, "/nonexistent/ca.pem cannot be used as --ca: No such file" in done.err) == (2, True)


def test_a_proxy_that_leads_nowhere_is_told(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with Both(folder) as both:
        done = activate(run, both, SYMBOLS)
    assert done.status == problems.UNREACHABLE
    assert "error: The proxy 127.0.0.1:1 does not lead to the vendor's server: Connection refused. (PROXY" in done.err


def test_an_answer_over_the_limit_is_no_document(run: Run, folder: Path) -> None:
    with Both(
        folder, say(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n" % INSTALL_REQUEST.encode() + bytes(2 << 20))
    ) as both:
        done = activate(run, both, SYMBOLS)
    assert (done.status, "(ANSWER_TOO_LARGE)" in done.err) == (problems.FAULT, True)


def test_every_way_in_which_it_can_end_has_its_words() -> None:
    kinds = {
        value for name, value in vars(failures).items() if name.isupper() and name[0] != "_" and type(value) is str
    }
    assert len(kinds) > 10
    filler = {"host": "h", "url": "u", "to": "t", "reason": "r", "file": "f", "limit": 1, "seconds": None, "status": 1,
              "name": "N", "detail": "d"}  # fmt: skip
    for kind in kinds:
        server = vendor_server.Server("acme", "https://h", None, True, problems.BY_FILE)
        failed = problems.failure(vendor_server.failed(failures.OnlineError(kind, **filler), server), "")
        assert failed.error["message"].endswith((".", ")"))
        assert failed.error["data"]["next"].endswith(".")


# --- a busy server -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_busy_for_seconds_is_waited_for(run: Run, folder: Path, status: int) -> None:
    with Both(folder, answer(status, Retry_After=1), ASKED, FILE) as both:
        began = time.monotonic()
        done = activate(run, both, SYMBOLS)
        assert time.monotonic() - began >= 1
    assert done.status == problems.DONE
    assert "1/4 asking" in done.err
    assert "    it is busy; asking again in 1 s\n2/4" in done.err


def test_a_server_that_stays_busy_is_asked_four_times_and_never_without_a_pause(run: Run, folder: Path) -> None:
    with Both(folder, *[answer(503, Retry_After=0)] * 9) as both:
        began = time.monotonic()
        done = activate(run, both, SYMBOLS)
        assert time.monotonic() - began >= 3
        assert len(both.server.asked) == 4
    assert (done.status, "(VENDOR_BUSY)" in done.err) == (problems.UNREACHABLE, True)


@pytest.mark.parametrize("headers", [{"Retry_After": 11}, {}, {"Retry_After": "soon"}])
def test_a_server_that_is_busy_for_longer_is_not_waited_for(run: Run, folder: Path, headers: dict[str, Any]) -> None:
    with Both(folder, answer(503, **headers), ASKED) as both:
        done = activate(run, both, SYMBOLS)
        assert len(both.server.asked) == 1
    assert (done.status, "(VENDOR_BUSY)" in done.err) == (problems.UNREACHABLE, True)


def test_too_many_tries_is_the_server_s_own_sentence_with_its_seconds(run: Run, folder: Path) -> None:
    says = details(name="TOO_MANY_TRIES", code=79, detail="Too many wrong codes: try again in 600 seconds.")
    with Both(folder, answer(429, says, PROBLEM_TYPE, Retry_After=600)) as both:
        done = activate(run, both, SYMBOLS, "--json")
    assert (done.status, done.value["error"]["name"]) == (problems.REFUSED, "TOO_MANY_TRIES")
    assert done.value["error"]["data"]["seconds"] == 600
    assert "error: Too many wrong codes: try again in 600 seconds. (TOO_MANY_TRIES)\n" in done.err
