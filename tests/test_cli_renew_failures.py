"""licd-cli renew when the vendor's server does not answer or says no, or licd itself refuses: told, and never worse."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from licd.cli import problems, renew_commands
from licd.cli.renew_commands import RENEWAL_ANSWER
from licd.license.document import MAX_DOCUMENT_BYTES
from tests.support import peer as licd
from tests.support.cli import Run
from tests.support.courier import (
    ANSWER,
    BAD,
    CHANGE,
    FINE,
    FULL,
    OF_UMBRA,
    SOON,
    Licd,
    renew,
    renewed,
    report,
    row,
    told,
)
from tests.support.https import Script, Server, Web, answer, cut, drip, head, say, silence
from tests.support.peer import Peer
from tests.support.posting import PROBLEM_TYPE, surroundings


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    surroundings(monkeypatch)


# --- the vendor's server does not answer, or says no ---------------------------------------------------------


def details(**changes: Any) -> bytes:
    value = {"type": "urn:licd:error:ASK_VENDOR", "title": "t", "status": 403, "detail": "A person must decide.",
             "name": "ASK_VENDOR", "code": None, "next": "Ask the vendor."}  # fmt: skip
    return json.dumps(value | changes).encode()


CODED = details(name="ANOTHER_VENDOR", code=73, detail="It is for another.")


def cases() -> list[Any]:
    html = answer(200, b"<html>Welcome to our shop's network", "text/html")
    full = head(200, RENEWAL_ANSWER, Content_Length=len(ANSWER)) + ANSWER
    over = head(200, RENEWAL_ANSWER) + bytes(2 << 20)
    umbra = answer(200, OF_UMBRA, RENEWAL_ANSWER)
    other = answer(200, ANSWER, "application/vnd.licd.license-file")
    three, one = problems.UNREACHABLE, problems.REFUSED
    return [
        pytest.param(silence, "VENDOR_NO_ANSWER", three, "no answer in time", id="stalls"),
        pytest.param(drip(full, 0.2), "VENDOR_NO_ANSWER", three, "no answer in time", id="drips"),
        pytest.param(cut(full[:-20]), "VENDOR_CUT", three, "it was closed", id="cut in the middle"),
        pytest.param(cut(b""), "VENDOR_CUT", three, "it was closed", id="cut before"),
        pytest.param(answer(500, b"<html>", "text/html"), "VENDOR_FAILED", three, "status 500", id="500"),
        pytest.param(answer(502, details(), PROBLEM_TYPE), "VENDOR_FAILED", three, "status 502", id="502"),
        pytest.param(html, "NOT_THE_VENDOR", three, "wants a sign-in first", id="captive portal"),
        pytest.param(answer(404), "NOT_THE_VENDOR", three, "status 404", id="another server"),
        pytest.param(other, "NOT_THE_VENDOR", three, "license-file", id="another type"),
        pytest.param(umbra, "NOT_THE_VENDOR", three, "its document is of umbra", id="another vendor"),
        pytest.param(answer(302, Location="https://b.example/"), "VENDOR_REDIRECTED", three, "b.example", id="302"),
        pytest.param(say(over), "ANSWER_TOO_LARGE", problems.FAULT, f"{MAX_DOCUMENT_BYTES} bytes", id="too large"),
        pytest.param(answer(403, details(), PROBLEM_TYPE), "ASK_VENDOR", one, "A person must decide.", id="no"),
        pytest.param(answer(409, CODED, PROBLEM_TYPE), "ANOTHER_VENDOR", one, "It is for another.", id="no by code"),
    ]


@pytest.mark.parametrize("due", [True, False])
@pytest.mark.parametrize(("script", "name", "status", "says"), cases())
def test_what_came_instead_of_an_answer_is_reported_and_changes_nothing(  # noqa: PLR0917  a case and its verdict
    run: Run, folder: Path, script: Script, name: str, status: int, says: str, due: bool
) -> None:
    with Server(script) as server, Licd(folder, [row(url=server.url, hard_stop="2099-01-02T12:00:00Z")]) as there:
        began = time.monotonic()
        done = renew(run, there, "--timeout", 1, *(["--due"] if due else []))
        assert time.monotonic() - began < 4
        assert there.documents == []
        assert there.failures == [{"vendor": "acme", "failure": name}]
    passes = due and status == problems.UNREACHABLE  # for a timer, which tries again
    assert (done.status, says in done.err) == (problems.DONE if passes else status, True), done.err
    assert "license-request" not in done.err
    shown = "VENDOR_REFUSED" if name == "ASK_VENDOR" else name
    if due:
        assert done.out == ""
        assert re.fullmatch(rf"acme: .* \({shown}\) Next try: {SOON}\.\n", done.err), done.err
    else:
        assert done.out == (
            f"acme: not renewed; nothing was changed. Next try: {SOON}. "
            "Without a renewal licenses stop from 2099-01-02T12:00:00Z on.\n"
        )
        assert re.search(rf"(?m)^error: acme: .*\({shown}\)\nhint: .", done.err)
        assert ("licd-cli renew --export FILE" in done.err) == (name != "ANOTHER_VENDOR")


@pytest.mark.parametrize("hard_stop", ["2026-01-02T12:00:00Z", None])
def test_a_timer_fails_without_a_network_only_where_licenses_have_stopped(
    run: Run, folder: Path, hard_stop: str | None
) -> None:
    with Server(answer(500)) as server:
        rows = [row("umbra", url=server.url, hard_stop=None), row(url=server.url, hard_stop=hard_stop)]
        with Licd(folder, rows) as there:
            done = renew(run, there, "--due")
    assert done.status == (problems.DONE if hard_stop is None else problems.UNREACHABLE)
    assert [line.split(":")[0] for line in done.err.splitlines()] == ["umbra", "acme"]


def test_a_timer_that_does_not_reach_licd_itself_fails(run: Run, folder: Path) -> None:
    assert run("renew", "--due", "--socket", f"{folder}/s").status == problems.UNREACHABLE


@pytest.mark.parametrize(
    ("tls", "says"),
    [
        (Web(begins_days=-40), "certificate has ended"),
        (Web(), "not known here"),
        (Web(host="portal.example"), "for another host"),
    ],
)
def test_a_server_that_cannot_be_trusted_gets_no_request(run: Run, folder: Path, tls: Web, says: str) -> None:
    with Server(FINE, tls=tls) as server:
        ca = None if "not known" in says else server.ca_file
        with Licd(folder, [row(url=server.url, ca=ca)]) as there:
            done = renew(run, there)
            assert (server.asked, there.documents) == ([], [])
            assert there.failures == [{"vendor": "acme", "failure": "VENDOR_UNTRUSTED"}]
    assert (done.status, says in done.err) == (problems.UNREACHABLE, True)


@pytest.mark.parametrize("body", [b"", details(name="UNAVAILABLE"), details(name="TOO_MANY_TRIES", code=79)])
@pytest.mark.parametrize("status", [429, 503])
def test_how_long_a_busy_server_wants_to_be_left_alone_is_told_to_licd(
    run: Run, folder: Path, status: int, body: bytes
) -> None:
    busy = answer(status, body, PROBLEM_TYPE if body else None, Retry_After=90000)
    with Server(busy) as server, Licd(folder, [row(url=server.url)]) as there:
        done = renew(run, there, "--due")
        name = "TOO_MANY_TRIES" if b"TRIES" in body else "VENDOR_BUSY"
        assert there.failures == [{"vendor": "acme", "failure": name, "retry_after": 90000}]
        assert len(server.asked) == 1
    assert done.status == (problems.REFUSED if b"TRIES" in body else problems.DONE)


def test_a_server_that_wants_to_be_left_alone_for_ages_is_told_to_licd_as_for_what_it_heeds(
    run: Run, folder: Path
) -> None:
    busy = answer(503, Date="Tue, 24 Nov 2026 12:00:00 GMT", Retry_After="Fri, 31 Dec 9999 23:59:59 GMT")
    with Server(busy) as server, Licd(folder, [row(url=server.url)]) as there:
        renew(run, there, "--due")
        assert there.failures == [{"vendor": "acme", "failure": "VENDOR_BUSY", "retry_after": 14 * 86400}]


def test_a_person_waits_some_seconds_for_a_busy_server_and_a_timer_does_not(run: Run, folder: Path) -> None:
    busy = answer(503, Retry_After=1)
    with Server(busy, busy, FINE) as server, Licd(folder, [row(url=server.url)], report("unchanged")) as there:
        done = renew(run, there, "--due")
        assert there.failures == [{"vendor": "acme", "failure": "VENDOR_BUSY", "retry_after": 1}]
        assert (done.status, len(server.asked)) == (problems.DONE, 1)
        began = time.monotonic()
        done = renew(run, there)
        assert time.monotonic() - began >= 1
    assert (done.status, "    it is busy; asking again in 1 s\n" in done.err) == (problems.DONE, True)


def test_a_proxy_that_leads_nowhere_is_told(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with Licd(folder, [row(url="https://acme.example")]) as there:
        done = renew(run, there)
        assert there.failures == [{"vendor": "acme", "failure": "PROXY_FAILED"}]
    assert done.status == problems.UNREACHABLE


# --- licd refuses --------------------------------------------------------------------------------------------


def test_a_document_that_licd_refuses_is_reported_as_a_failure(run: Run, folder: Path) -> None:
    with Server(FINE) as server, Licd(folder, [row(url=server.url)], BAD) as there:
        done = renew(run, there, "--json")
        assert there.failures == [{"vendor": "acme", "failure": "BAD_SIGNATURE"}]
    assert done.status == problems.REFUSED
    (only,) = done.value["vendors"]
    assert (only["vendor"], only["outcome"], only["error"], only["next"]) == ("acme", "failed", BAD, SOON)


def test_a_request_that_licd_refuses_concerns_that_vendor_alone(run: Run, folder: Path) -> None:
    no = {"code": 52, "name": "NO_DEVICE_KEY", "message": "There is no key.", "data": {}}
    with (
        Server(FINE) as server,
        Licd(folder, [row("umbra", made=no), row(url=server.url)], report("unchanged")) as there,
    ):
        done = renew(run, there)
        assert there.failures == [{"vendor": "umbra", "failure": "NO_DEVICE_KEY"}]
    assert done.status == problems.REFUSED
    assert re.search(r"(?m)^acme: unchanged", done.out)
    assert "error: umbra: There is no key. (NO_DEVICE_KEY)\n" in done.err


def test_if_licd_cannot_take_the_failure_either_the_first_one_is_told(run: Run, folder: Path) -> None:
    with Server(FINE) as server, Licd(folder, [row(url=server.url)], FULL, notes=FULL) as there:
        done = renew(run, there, "--due")
    assert (done.status, done.err) == (problems.REFUSED, f"acme: The disk is full. (STORAGE_FULL) Next try: {SOON}.\n")


def test_another_import_is_waited_for_and_the_vendor_is_not_asked_again(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renew_commands, "BUSY_PAUSE_S", 0.01)
    busy = {"code": 64, "name": "IMPORT_BUSY", "message": "Another import is under way.", "data": {}}
    with Server(FINE) as server, Licd(folder, [row(url=server.url)], *[busy] * 3, report("unchanged")) as there:
        assert renew(run, there).status == problems.DONE
        assert (len(server.asked), there.documents, there.failures) == (1, [ANSWER] * 4, [])
    (folder / "s").unlink()
    with Server(FINE) as server, Licd(folder, [row(url=server.url)], *[busy] * 9) as there:
        assert renew(run, there).status == problems.REFUSED
        assert there.failures == [{"vendor": "acme", "failure": "IMPORT_BUSY"}]


def test_a_licd_that_ends_meanwhile_is_told_and_not_taken_for_the_vendor_s_failure(run: Run, folder: Path) -> None:
    with Server(FINE) as server:
        plan, made = {"vendors": [row(url=server.url)]}, {"document": "x\n", "url": server.url}
        there = Peer(f"{folder}/s", licd.answer(plan), licd.answer(made), licd.hang_up, licd.hang_up)
        done = run("renew", "--socket", f"{folder}/s")
        there.close()
    assert [method for _, method, _ in there.asked].count("renewal.report") == 2  # the same, asked again
    assert all("document" in params[0] for _, method, params in there.asked if method == "renewal.report")
    assert (done.status, "error: acme: licd ended the connection" in done.err) == (problems.UNREACHABLE, True)


@pytest.mark.parametrize(
    ("plan", "status"),
    [
        (None, problems.FAULT),
        (7, problems.FAULT),
        ([], problems.FAULT),
        ({"vendors": 7}, problems.FAULT),
        ({"vendors": [7]}, problems.FAULT),
        ({"vendors": [{}]}, None),
    ],
)
@pytest.mark.parametrize("words", [[], ["--due"], ["--due", "--json"]])
def test_a_plan_without_shape_is_no_traceback(
    run: Run, folder: Path, plan: Any, status: int | None, words: list[str]
) -> None:
    """status: None where there is nothing to renew, which a timer takes for health"""
    there = Peer(f"{folder}/s", licd.answer(plan))
    done = run("renew", *words, "--socket", f"{folder}/s")
    there.close()
    if status is None:
        status = problems.DONE if "--due" in words else problems.REFUSED
    assert (done.status, "(BAD_ANSWER)\nhint: " in done.err) == (status, status == problems.FAULT), done


@pytest.mark.parametrize("result", [None, 7, [], {"refusal": 7}, {"files": 7}, {"files": [7]}, {}, {"files": [{}]}])
def test_a_report_without_shape_is_no_traceback(run: Run, folder: Path, result: Any) -> None:
    done = told(run, folder, result)
    assert done.status in (problems.FAULT, problems.DONE)
    assert (done.status == problems.FAULT) == ("(BAD_ANSWER)\nhint: " in done.err)


def test_no_control_character_of_others_reaches_a_terminal(run: Run, folder: Path) -> None:
    evil = "\x1b[31m\u202e"
    row_ = {"refusal": {"reason": evil, "stops": evil}, "next": evil, "withdrawn": evil, "outcome": evil}
    for words in ([], ["--due"], ["--json"]):
        done = told(run, folder, {**renewed({**CHANGE, "license": evil, "less": True}), **row_}, *words)
        (folder / "s").unlink()
        text = done.out + done.err
        assert "u001b[31m" in text or "x1b[31m" in text
        assert all(each.isprintable() for line in text.split("\n") for each in line), text
