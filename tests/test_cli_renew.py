"""licd-cli renew between a scripted licd and a scripted server: who is asked, what is sent, what is told to whom."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from licd.cli import problems
from licd.cli.renew_commands import RENEWAL_ANSWER, RENEWAL_REQUEST
from licd.license.document import MAX_DOCUMENT_BYTES, MAX_RENEWAL_BYTES
from tests.support.cli import ENVIRONMENT, Done, Run, command
from tests.support.courier import (
    ANSWER,
    BAD,
    CHANGE,
    FINE,
    LATER,
    OF_UMBRA,
    REFUSED,
    Licd,
    renew,
    renewed,
    report,
    row,
    told,
)
from tests.support.https import Script, Server, Web, answer, cut
from tests.support.posting import PROBLEM_TYPE, surroundings


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    surroundings(monkeypatch)


# --- the command line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["--export"],
        ["--import"],
        ["--ca"],
        ["--due", "--export", "f"],
        ["--due", "--import", "f"],
        ["--export", "f", "--import", "f"],
        ["--import", "f", "--vendor", "acme"],
        ["--import", "f", "--ca", "f"],
        ["--export", "f", "--ca", "f"],
        ["--export", "f", "acme"],
        ["--timeout", "0"],
    ],
)
def test_words_that_do_not_go_together_are_refused_and_nobody_is_asked(
    run: Run, folder: Path, words: list[str]
) -> None:
    with Licd(folder, [row()]) as there:
        done = renew(run, there, *words)
        assert there.asked == []
    assert (done.status, done.out) == (problems.USAGE, "")
    assert re.search(r"\(BAD_USAGE\)\nhint: licd-cli( renew)? --help\n$", done.err)


@pytest.mark.parametrize(
    ("rows", "words", "name", "status"),
    [
        ([], [], "NOTHING_TO_RENEW", problems.REFUSED),
        ([row(in_force=False, seq=None)], [], "NOTHING_TO_RENEW", problems.REFUSED),
        ([row()], ["--vendor", "umbra"], "NO_SUCH_VENDOR", problems.USAGE),
        ([row()], ["--due", "--vendor", "umbra"], "NO_SUCH_VENDOR", problems.USAGE),
        ([], ["--due", "--vendor", "umbra"], "NO_SUCH_VENDOR", problems.USAGE),
        ([row(url=None)], [], "NO_VENDOR_URL", problems.UNREACHABLE),
        ([row(url=None)], ["--vendor", "acme"], "NO_VENDOR_URL", problems.UNREACHABLE),
        ([row(url="http://acme.example")], [], "BAD_VENDOR_URL", problems.UNREACHABLE),
    ],
)
def test_nothing_is_sent_if_there_is_nothing_or_nobody_to_send_it_to(  # noqa: PLR0917  a case and its verdict
    run: Run, folder: Path, rows: list[dict[str, Any]], words: list[str], name: str, status: int
) -> None:
    with Licd(folder, rows) as there:
        done = renew(run, there, *words)
        assert there.documents == []
        assert len(there.failures) == (name == "BAD_VENDOR_URL")  # the others were no try
    assert (done.status, f"({name})\nhint: " in done.err) == (status, True), done.err


# --- who is asked, and what is sent --------------------------------------------------------------------------


def test_every_vendor_with_a_file_in_force_and_an_address_is_asked_now(run: Run, folder: Path) -> None:
    with Server(FINE, answer(200, OF_UMBRA, RENEWAL_ANSWER)) as server:
        rows = [
            row(url=f"{server.url}/licd/", is_due=False),
            row("none", in_force=False, seq=None, url=server.url),
            row("byfile", url=None),
            row("umbra", url=server.url, seq=9, need="none", is_due=False),
        ]
        with Licd(folder, rows, report("unchanged"), report("unchanged", vendor="umbra", next=None)) as there:
            done = renew(run, there)
            assert there.documents == [ANSWER, OF_UMBRA]
            assert there.failures == []
        sent = [(each.method, each.target, each.body) for each in server.asked]
        headers = server.asked[0].headers
    assert sent == [
        ("POST", "/licd/renewal", b"the request of acme\n"),
        ("POST", "/renewal", b"the request of umbra\n"),
    ]
    assert headers["content-type"] == RENEWAL_REQUEST
    assert headers["accept"] == f"{RENEWAL_ANSWER}, {PROBLEM_TYPE}"
    assert (done.status, done.out) == (
        problems.DONE,
        f"acme: unchanged; the license file in force goes on. Next renewal: {LATER}.\n"
        "umbra: unchanged; the license file in force goes on.\n",
    )
    assert done.err == (
        f"asking {server.url}/licd to renew the licenses of acme\nasking {server.url} to renew the licenses of umbra\n"
    )


def test_due_asks_whom_the_plan_says_and_says_nothing_if_that_is_nobody(run: Run, folder: Path) -> None:
    with Licd(folder, [row(is_due=False), row("byfile", url=None), row("none", is_due=False)]) as there:
        assert renew(run, there, "--due") == Done(problems.DONE, "", "")
        assert there.methods == {"renewal.plan"}
        done = renew(run, there, "--due", "--json")
        assert (done.status, done.value, done.err) == (problems.DONE, {"vendors": []}, "")
    (folder / "s").unlink()
    with (
        Server(FINE) as server,
        Licd(folder, [row("other", is_due=False), row(url=server.url)], report("unchanged")) as there,
    ):
        done = renew(run, there, "--due")
        assert len(server.asked) == 1
    line = f"acme: unchanged; the license file in force goes on. Next renewal: {LATER}.\n"
    assert done == Done(problems.DONE, line, "")


def test_only_the_vendor_that_is_named_is_asked(run: Run, folder: Path) -> None:
    with Server(FINE) as server, Licd(folder, [row("b"), row(url=server.url)], report("unchanged")) as there:
        assert renew(run, there, "--vendor", "acme").status == problems.DONE


def test_the_newest_address_that_licd_knows_counts(run: Run, folder: Path) -> None:
    with Server(FINE) as server:
        made = {"vendor": "acme", "id": "r", "document": "x\n", "url": server.url, "ca": None}
        with Licd(folder, [row(made=made)], report("unchanged")) as there:
            assert renew(run, there).status == problems.DONE


@pytest.mark.parametrize("words", [["--ca", "own"], []])
def test_a_vendor_s_own_authority_is_trusted_by_ca_or_by_the_profile(run: Run, folder: Path, words: list[str]) -> None:
    with Server(FINE, tls=Web()) as server:
        ca, words = (None, ["--ca", server.ca_file]) if words else (server.ca_file, words)
        with Licd(folder, [row(url=server.url, ca=ca)], report("unchanged")) as there:
            assert renew(run, there, *words).status == problems.DONE


def test_ca_on_the_command_line_wins_over_the_profile_s(run: Run, folder: Path) -> None:
    with Server(FINE) as server, Licd(folder, [row(url=server.url, ca=server.ca_file)]) as there:
        other = Web()
        done = renew(run, there, "--ca", other.ca_file)
    assert (done.status, "(VENDOR_UNTRUSTED)" in done.err) == (problems.UNREACHABLE, True)


def test_a_ca_file_that_is_none_is_the_command_line_s_mistake_or_the_profile_s(run: Run, folder: Path) -> None:
    gone = "/nonexistent/ca.pem"
    with Server(FINE) as server, Licd(folder, [row(url=server.url, ca=gone)]) as there:
        done = renew(run, there, "--ca", gone)
        assert (done.status, there.failures) == (problems.USAGE, [])  # no failure of the vendor's: nothing is put off
        assert f"error: acme: {gone} cannot be used as --ca: No such file" in done.err
        done = renew(run, there)
        assert server.connections == 0
        assert there.failures == [{"vendor": "acme", "failure": "BAD_VENDOR_CA"}]
    assert done.status == problems.UNREACHABLE
    assert f"error: acme: {gone}, which the profile of acme trusts for TLS, cannot be used: No such" in done.err


def test_a_request_and_an_answer_may_be_as_long_as_renewals_are(run: Run, folder: Path) -> None:
    long, document = "x" * (MAX_RENEWAL_BYTES - 1) + "\n", b"y" * MAX_DOCUMENT_BYTES
    made = {"vendor": "acme", "id": "r", "document": long, "url": None, "ca": None}
    with Server(answer(200, document, RENEWAL_ANSWER)) as server:
        made["url"] = server.url
        with Licd(folder, [row(made=made)], report("unchanged")) as there:
            done = renew(run, there)
            assert server.asked[0].body == long.encode()
            assert there.documents == [document]
    assert done.status == problems.DONE, done.err


# --- what came of it -----------------------------------------------------------------------------------------


def test_a_new_license_file_is_told_with_what_changes(run: Run, folder: Path) -> None:
    done = told(run, folder, renewed(CHANGE))
    assert done.status == problems.DONE
    first, headings, line = done.out.splitlines()
    assert first == f"acme: renewed; the license file 4 is in force now, in place of 3. Next renewal: {LATER}."
    assert headings.split()[:2] == ["LICENSE", "CHANGE"]
    assert re.search(r"kso\.scan +changed +valid, seats: 2, .* valid, seats: 3, ", line)
    assert "warning" not in done.err


@pytest.mark.parametrize("words", [[], ["--due"]])
def test_what_is_granted_less_is_loud(run: Run, folder: Path, words: list[str]) -> None:
    change = {**CHANGE, "less": True, "will_be": {"state": "valid", "total": 1}}
    done = told(run, folder, renewed(CHANGE, change), *words)
    assert done.status == problems.DONE
    less = r"kso\.scan is granted LESS than before: valid, seats: 2, .* -> valid, seats: 1, .*"
    if words:
        assert re.fullmatch(rf"acme: renewed; .*, in place of 3\. .* {less}\.\n", done.err)
        assert done.out == ""
    else:
        assert re.search(rf"(?m)^warning: {less}$", done.err)


def test_a_list_of_withdrawn_certificates_and_files_of_others_are_told(run: Run, folder: Path) -> None:
    done = told(run, folder, {**renewed(), "withdrawn": 7, "others": 2})
    assert "A list of withdrawn certificates came with it (number 7)." in done.out
    assert done.out.endswith("not for this device: 2\n")


def test_an_answer_taken_in_before_is_no_failure(run: Run, folder: Path) -> None:
    file = {"vendor": "acme", "seq": 3, "in_force": "already", "changes": [{**CHANGE, "change": "same"}]}
    for result in (report("already"), report("already", files=[file])):
        done = told(run, folder, result)
        (folder / "s").unlink()
        line = f"acme: this answer was taken in before; nothing was changed. Next renewal: {LATER}.\n"
        assert (done.status, done.out) == (problems.DONE, line)


@pytest.mark.parametrize("outcome", ["refused", "already"])
def test_a_signed_refusal_is_loud_and_a_refusal_s_status(run: Run, folder: Path, outcome: str) -> None:
    done = told(run, folder, {**REFUSED, "outcome": outcome}, "--json")
    says = (
        "The vendor REFUSES to renew the licenses of this device: The order was suspended: not paid. "
        "Their last day is 2026-11-26."
    )
    assert done.status == problems.REFUSED
    assert f"error: acme: {says} (RENEWAL_REFUSED)\nhint: Speak with the vendor. " in done.err
    (folder / "s").unlink()
    line = told(run, folder, {**REFUSED, "outcome": outcome}).out
    assert line == f"acme: REFUSED; the last day of the licenses is 2026-11-26. Next try: {LATER}.\n"
    (only,) = done.value["vendors"]
    error = only.pop("error")
    assert only == {**REFUSED, "outcome": outcome, "seq_before": 3}
    assert (error["code"], error["name"], error["message"]) == (25, "RENEWAL_REFUSED", says)
    assert (error["data"]["stops"], "licd-cli renew" in error["data"]["next"]) == ("2026-11-26", True)


def test_an_outcome_of_a_newer_licd_is_told_by_its_name(run: Run, folder: Path) -> None:
    done = told(run, folder, report("put off"))
    assert (done.status, done.out) == (problems.DONE, f"acme: put off. Next renewal: {LATER}.\n")


def test_programs_get_licd_s_answer_to_each(run: Run, folder: Path) -> None:
    done = told(run, folder, renewed(CHANGE), "--json")
    assert (done.status, done.value) == (problems.DONE, {"vendors": [{"seq_before": 3, **renewed(CHANGE)}]})


# --- several vendors -----------------------------------------------------------------------------------------


def test_one_vendor_s_failure_is_not_another_s_and_the_status_is_the_worst(run: Run, folder: Path) -> None:
    umbra = answer(200, OF_UMBRA, RENEWAL_ANSWER)
    with Server(FINE) as up, Server(umbra) as other:
        rows = [row("down"), row(url=up.url), row("umbra", url=other.url)]
        with Licd(folder, rows, renewed(CHANGE), {**REFUSED, "vendor": "umbra"}) as there:
            done = renew(run, there, "--json")
            assert there.failures == [{"vendor": "down", "failure": "VENDOR_NO_ANSWER"}]
            assert there.documents == [ANSWER, OF_UMBRA]
    assert done.status == problems.UNREACHABLE
    outcomes = [(each["vendor"], each["outcome"]) for each in done.value["vendors"]]
    assert outcomes == [("down", "failed"), ("acme", "renewed"), ("umbra", "refused")]
    assert re.findall("(?m)^error: ([a-z]+): ", done.err) == ["down", "umbra"]


# --- by file -------------------------------------------------------------------------------------------------


def test_the_request_is_written_to_a_file_or_to_stdout(run: Run, folder: Path, tmp_path: Path) -> None:
    with Licd(folder, [row()]) as there:
        done = renew(run, there, "--export", tmp_path / "f", "--vendor", "acme")
        assert (tmp_path / "f").read_text() == "the request of acme\n"
        assert done.out == f"The renewal request renewal-1 for acme is written to {tmp_path}/f.\n"
        assert done.err == f"hint: Send {tmp_path}/f to the vendor; what comes back: licd-cli renew --import FILE\n"
        out = subprocess.run(
            command("renew", "--export", "-", "--socket", there.path), capture_output=True, check=False, timeout=20
        )
        assert (out.returncode, out.stdout, out.stderr) == (0, b"the request of acme\n", b"")
        done = renew(run, there, "--export", "/nonexistent/f")
        assert (done.status, "(CANNOT_WRITE)" in done.err) == (problems.USAGE, True)
        assert there.methods == {"renewal.request"}


def test_what_the_vendor_sent_back_is_taken_in(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\xff any bytes\r\n")
    with Licd(folder, [row()], renewed(CHANGE), REFUSED, BAD) as there:
        done = renew(run, there, "--import", tmp_path / "f")
        assert there.documents == [b"\xff any bytes\r\n"]
        assert (done.status, done.err) == (problems.DONE, "")
        assert done.out.startswith(
            f"acme: renewed; the license file 4 is in force now. Next renewal: {LATER}.\nLICENSE "
        )
        done = renew(run, there, "--import", tmp_path / "f")
        assert (done.status, "(RENEWAL_REFUSED)" in done.err) == (problems.REFUSED, True)
        done = renew(run, there, "--import", tmp_path / "f", "--json")
        assert (done.status, done.value) == (problems.REFUSED, {"error": BAD})
        assert there.failures == []  # nobody was asked, so nothing is put off


def test_an_answer_that_cannot_be_read_is_told_before_licd_is_asked(run: Run, folder: Path) -> None:
    with Licd(folder, [row()]) as there:
        done = renew(run, there, "--import", "/nonexistent/f")
        assert (done.status, "(CANNOT_READ)" in done.err) == (problems.USAGE, True)
        done = renew(run, there, "--import", "/dev/zero")
        assert (done.status, "(DOCUMENT_TOO_LARGE)" in done.err) == (problems.REFUSED, True)
        assert there.asked == []


# --- in systemd's journal ------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A file that stands for the journal's stream."""
    path = tmp_path / "journal"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("results", "script", "pattern"),
    [
        ([report("unchanged")], FINE, "<6>acme: unchanged; [^\n]*\n"),
        ([renewed({**CHANGE, "less": True})], FINE, "<4>acme: renewed; [^\n]* LESS [^\n]*\n"),
        ([REFUSED], FINE, r"<3>acme: The vendor REFUSES [^\n]* \(RENEWAL_REFUSED\)[^\n]*\n"),
        ([], cut(b""), r"<4>acme: The connection [^\n]* \(VENDOR_CUT\) Next try: [^\n]*\n"),
    ],
    ids=["unchanged", "less", "refused", "cut"],
)
def test_the_journal_gets_one_line_with_its_level(
    folder: Path, journal: Path, results: list[Any], script: Script, pattern: str
) -> None:
    with Server(script) as server, Licd(folder, [row(url=server.url)], *results) as there, journal.open("ab") as stream:
        status = os.fstat(stream.fileno())
        environment = {**ENVIRONMENT, **os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        words = command("renew", "--due", "--socket", there.path)
        subprocess.run(words, stdout=stream, stderr=stream, env=environment, check=False, timeout=20)
    assert re.fullmatch(pattern, journal.read_text()), journal.read_text()
