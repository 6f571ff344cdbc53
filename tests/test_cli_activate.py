"""licd-cli activate: what is typed, what is sent where, and what licd says to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from licd.cli import problems
from licd.cli.activate_commands import CODE, INSTALL_REQUEST, LICENSE_FILE, LICENSE_REQUEST
from tests.support import peer as licd
from tests.support import pki
from tests.support.activating import (
    ASKED,
    FILE,
    GROUPED,
    IN_FORCE,
    MADE,
    MISTYPED,
    SYMBOLS,
    Both,
    activate,
    taken,
    vendors,
)
from tests.support.cli import Run, Start
from tests.support.https import Server, answer
from tests.support.peer import Peer
from tests.support.posting import PROBLEM_TYPE, surroundings


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    surroundings(monkeypatch)


# --- the code on the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["x"], "1 symbol was read, a code has 22"),
        ([GROUPED[:-1]], "the second half has 5 of its 6"),
        ([SYMBOLS[:16]], "the check, are missing"),
        ([SYMBOLS + "q"], "23 symbols were read"),
        ([""], "nothing was typed"),
        (["а" * 300], "300 characters are too many"),
        ([SYMBOLS[:20], "\x1b[2J"], "U\\+001B"),
        (["q" * 22], "do not fit together"),
    ],
)
def test_what_is_no_code_is_refused_and_nobody_is_asked(run: Run, folder: Path, words: list[str], reason: str) -> None:
    with Both(folder) as both:
        done = activate(run, both, *words)
        assert (both.methods, both.server.connections) == ([], 0)
    assert (done.status, done.out) == (problems.USAGE, "")
    assert re.fullmatch(rf"error: That is no activation code: .*{reason}.* \(BAD_CODE\)\nhint: Compare .*\n", done.err)


def test_a_mistyped_code_is_proposed_and_not_taken(run: Run, folder: Path) -> None:
    with Both(folder) as both:
        done = activate(run, both, *MISTYPED.split())
        assert (both.methods, both.server.connections) == ([], 0)
        assert done.status == problems.USAGE
        assert f'one symbol is wrong: "{MISTYPED[0]}" (group 1, symbol 1). (BAD_CODE)\n' in done.err
        assert done.err.endswith(f"hint: Did you mean {GROUPED}? Then: licd-cli activate {GROUPED}\n")
        proposed = done.err.rpartition("licd-cli ")[2].split()
        assert run(*proposed, "--socket", both.socket).status == problems.DONE


@pytest.mark.parametrize(
    "words",
    [
        [SYMBOLS],
        [GROUPED],
        GROUPED.split(),
        GROUPED.lower().replace("-", " ").split(),
        [f"  {GROUPED}\t"],
        [f"licd1{SYMBOLS}"],
    ],
)
def test_a_code_is_sent_in_one_form_however_it_is_typed(run: Run, folder: Path, words: list[str]) -> None:
    with Both(folder) as both:
        assert activate(run, both, *words).status == problems.DONE
        first = both.server.asked[0]
    assert (first.method, first.target, first.body) == ("POST", "/install-request", SYMBOLS.encode())
    assert (first.headers["content-type"], first.headers["accept"].split(",")[0]) == (CODE, INSTALL_REQUEST)


@pytest.mark.parametrize(
    "words",
    [
        ["--install-request", "/dev/null", SYMBOLS],
        [SYMBOLS, "--install-request", "/dev/null"],
        ["--install-request", "/dev/null", "--vendor", "acme"],
        ["--install-request"],
        ["--ca"],
    ],
)
def test_a_code_and_an_install_request_do_not_go_together(run: Run, folder: Path, words: list[str]) -> None:
    with Both(folder) as both:
        done = activate(run, both, *words)
        assert (both.methods, both.server.connections) == ([], 0)
    assert done.status == problems.USAGE
    assert done.err.endswith("(BAD_USAGE)\nhint: licd-cli activate --help\n")


def test_an_install_request_that_cannot_be_read_is_told_before_anything_is_asked(run: Run, folder: Path) -> None:
    with Both(folder) as both:
        done = activate(run, both, "--install-request", "/nonexistent/file")
        assert both.methods == []
        assert (done.status, "(CANNOT_READ)" in done.err) == (problems.USAGE, True)
        done = activate(run, both, "--install-request", "/dev/zero")
        assert both.methods == []
        assert (done.status, "(DOCUMENT_TOO_LARGE)" in done.err) == (problems.REFUSED, True)


# --- the steps -----------------------------------------------------------------------------------------------


def test_with_a_code_both_documents_come_from_the_vendor_s_server(run: Run, folder: Path) -> None:
    with Both(folder, path="/licd/") as both:
        done = activate(run, both, *GROUPED.split())
        assert [(method, params) for _, method, params in both.licd.asked] == [
            ("server.status", [{}]),
            ("install.import", [{"document": b"an install request"}]),
            ("install.request", [{"vendor": "acme"}]),
            ("license.import", [{"document": b"a license file"}]),
        ]
        sent = [(each.method, each.target, each.body) for each in both.server.asked]
        types = [(each.headers["content-type"], each.headers["accept"]) for each in both.server.asked]
        url = f"{both.server.url}/licd"
    assert sent == [
        ("POST", "/licd/install-request", SYMBOLS.encode()),
        ("POST", "/licd/license-file", b"the license request\n"),
    ]
    assert types == [(CODE, f"{INSTALL_REQUEST}, {PROBLEM_TYPE}"), (LICENSE_REQUEST, f"{LICENSE_FILE}, {PROBLEM_TYPE}")]
    assert (done.status, done.out) == (problems.DONE, "The license file 7 of acme is in force now.\n")
    assert done.err == (
        f"1/4 asking {url} for the install request\n"
        "2/4 making the license request of this device\n"
        f"3/4 asking {url} for the license file\n"
        "4/4 putting the license file in force\n"
    )


@pytest.mark.parametrize("second", [False, True])
def test_a_document_of_another_vendor_than_the_one_asked_is_not_passed_on(run: Run, folder: Path, second: bool) -> None:
    umbra = pki.Vendor("umbra", ("umb.*",))
    foreign = [answer(200, umbra.install_request(), INSTALL_REQUEST), answer(200, umbra.license_file(), LICENSE_FILE)]
    scripts = (ASKED, foreign[1]) if second else (foreign[0], FILE)
    with Both(folder, *scripts) as both:
        done = activate(run, both, *GROUPED.split())
        assert both.methods == ["server.status", *(["install.import", "install.request"] if second else [])]
    assert done.status == problems.UNREACHABLE
    assert "(NOT_THE_VENDOR)" in done.err
    assert "umbra" in done.err


def test_with_an_install_request_only_the_license_file_comes_from_there(run: Run, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "install.licd"
    file.write_bytes(b"\xff any bytes\r\n")
    with Server(FILE) as server, Peer(f"{folder}/s", *map(licd.answer, (taken(server.url), MADE, IN_FORCE))) as there:
        done = run("activate", "--install-request", file, "--socket", f"{folder}/s", "--json")
    assert (done.status, done.value) == (problems.DONE, IN_FORCE)
    assert done.err.startswith(f"1/4 taking in the install request {file}\n2/4 ")
    assert there.asked[0][1:] == ("install.import", [{"document": b"\xff any bytes\r\n"}])
    assert [each.target for each in server.asked] == ["/license-file"]


def test_the_install_request_s_own_address_wins_over_the_profile_s(run: Run, folder: Path) -> None:
    with Server(ASKED) as profile, Server(FILE) as own:
        status = vendors(("acme", profile.url))
        with Peer(f"{folder}/s", *map(licd.answer, (status, taken(own.url), MADE, IN_FORCE))):
            assert run("activate", SYMBOLS, "--socket", f"{folder}/s").status == problems.DONE
        assert [each.target for each in profile.asked] == ["/install-request"]
        assert [each.target for each in own.asked] == ["/license-file"]


@pytest.mark.parametrize(
    ("rows", "words", "name", "status"),
    [
        ([], [], "NO_VENDOR_URL", problems.UNREACHABLE),
        ([("acme", None)], [], "NO_VENDOR_URL", problems.UNREACHABLE),
        ([("acme", None), ("other", "https://127.0.0.1:1")], ["--vendor", "acme"], "NO_VENDOR_URL", 3),
        ([("acme", "https://127.0.0.1:1"), ("b", "https://127.0.0.1:1")], [], "SEVERAL_VENDORS", problems.USAGE),
        ([("acme", "https://127.0.0.1:1")], ["--vendor", "other"], "NO_SUCH_VENDOR", problems.USAGE),
        ([("acme", "http://acme.example")], [], "BAD_VENDOR_URL", problems.UNREACHABLE),
    ],
)
def test_a_code_goes_nowhere_if_it_is_not_clear_where(  # noqa: PLR0917  a case and its verdict
    run: Run, peer: Start, rows: list[tuple[str, str | None]], words: list[str], name: str, status: int
) -> None:
    done = run("activate", SYMBOLS, *words, "--socket", peer(licd.answer(vendors(*rows))))
    assert (done.status, f"({name})\nhint: " in done.err) == (status, True), done.err


def test_the_vendor_named_is_the_one_whose_server_is_asked(run: Run, folder: Path) -> None:
    with Server(ASKED, FILE) as server:
        status = vendors(("other", "https://127.0.0.1:1"), ("acme", server.url))
        with Peer(f"{folder}/s", *map(licd.answer, (status, taken(server.url), MADE, IN_FORCE))):
            assert run("activate", SYMBOLS, "--vendor", "acme", "--socket", f"{folder}/s").status == problems.DONE


def test_an_install_request_without_any_address_leads_to_the_way_by_file(run: Run, peer: Start) -> None:
    done = run("activate", "--install-request", "/dev/null", "--socket", peer(licd.answer(taken(None))))
    assert done.status == problems.UNREACHABLE
    assert "(NO_VENDOR_URL)\nhint: " in done.err
    assert "licd-cli license-request export -o FILE" in done.err


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"weak": True, "strong": []}, "warning: The fingerprint is WEAK: "),
        ({"rehost": True}, "warning: This is a RE-HOST: it asks acme "),
        ({"unreadable": ["nic"]}, "warning: These factors are there but licd may not read them, "),
    ],
)
def test_what_the_vendor_may_refuse_is_said_before_it_is_asked(
    run: Run, folder: Path, changes: dict[str, Any], says: str
) -> None:
    with Both(folder, made={**MADE, **changes}) as both:
        done = activate(run, both, SYMBOLS)
    assert done.status == problems.DONE
    assert done.err.count("warning: ") == 1
    assert "2/4" in done.err.partition(says)[0]
    assert "3/4" in done.err.partition(says)[2]


def test_a_refusal_of_licd_s_own_ends_it_where_it_stands(run: Run, folder: Path) -> None:
    no = {"code": 33, "name": "BAD_SIGNATURE", "message": "The signature of line 1 is bad.", "data": {"next": "Look."}}
    with Server(ASKED, FILE) as server:
        with Peer(f"{folder}/s", licd.answer(vendors(("acme", server.url))), licd.refuse(no)):
            done = run("activate", SYMBOLS, "--socket", f"{folder}/s", "--json")
        assert len(server.asked) == 1
    assert (done.status, done.value["error"]) == (problems.REFUSED, no)


@pytest.mark.parametrize("answers", [["x"], [{"vendors": 7}], [{"vendors": [7]}], [vendors(), None]])
def test_an_answer_of_licd_without_shape_is_a_fault_in_words(run: Run, peer: Start, answers: list[Any]) -> None:
    done = run("activate", SYMBOLS, "--socket", peer(*map(licd.answer, answers)))
    assert done.status in (problems.FAULT, problems.UNREACHABLE)
    assert re.fullmatch(r"error: .*\((BAD_ANSWER|NO_VENDOR_URL)\)\nhint: .*\n", done.err)
