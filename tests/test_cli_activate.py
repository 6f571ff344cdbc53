"""licd-cli activate: what is typed, what is sent where, and what is said when it does not work."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from licd.cli import problems, vendor_server
from licd.cli.activate_commands import CODE, INSTALL_REQUEST, LICENSE_FILE, LICENSE_REQUEST
from licd.license import code
from licd.online import failures
from tests.support import peer as licd
from tests.support import pki
from tests.support.cli import ENVIRONMENT, Done, Run, Start, command
from tests.support.https import Script, Server, Web, answer, cut, say, silence, web
from tests.support.peer import Peer
from tests.support.posting import forget_proxies

SYMBOLS = code.encode(bytes(range(10)))
GROUPED = code.grouped(SYMBOLS)
MISTYPED = ("Z" if GROUPED[0] != "Z" else "Q") + GROUPED[1:]
PROBLEM_TYPE = "application/problem+json"

MADE = {
    "vendor": "acme",
    "id": "lr-1",
    "document": "the license request\n",
    "rehost": False,
    "weak": False,
    "strong": ["board", "disk"],
    "unreadable": [],
}
IN_FORCE = {"files": [{"vendor": "acme", "seq": 7, "in_force": "now", "changes": []}], "others": 0, "dry_run": False}
ASKED = answer(200, b"an install request", INSTALL_REQUEST)
FILE = answer(200, b"a license file", LICENSE_FILE)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the machine; and where the system's certificates are looked for is that of the tests' servers."""
    forget_proxies(monkeypatch)
    monkeypatch.setenv("SSL_CERT_FILE", str(web().ca_file))


def vendors(*rows: tuple[str, str | None]) -> dict[str, Any]:
    return {"vendors": [{"vendor": vendor, "url": url} for vendor, url in rows]}


def taken(url: str | None) -> dict[str, Any]:
    return {"vendor": "acme", "id": "ir-1", "state": "open", "url": url}


class Both:
    """A scripted licd and a scripted vendor's server, both willing unless told otherwise."""

    def __init__(self, folder: Path, *scripts: Script, made: dict[str, Any] = MADE, path: str = "") -> None:
        self.server = Server(*(scripts or (ASKED, FILE)))
        url = f"{self.server.url}{path}"
        self.socket = f"{folder}/s"
        self.licd = Peer(
            self.socket,
            licd.answer(vendors(("acme", url), ("other", None))),
            licd.answer(taken(url)),
            licd.answer(made),
            licd.answer(IN_FORCE),
        )

    @property
    def methods(self) -> list[str]:
        return [method for _, method, _ in self.licd.asked]

    def __enter__(self) -> Both:
        return self

    def __exit__(self, *_: object) -> None:
        self.licd.close()
        self.server.close()


def activate(run: Run, both: Both, *words: object) -> Done:
    return run("activate", *words, "--socket", both.socket)


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


# --- the code on a terminal ----------------------------------------------------------------------------------


class Terminal:
    """A command line at a terminal of its own, of which stdin and stderr are; stdout goes elsewhere."""

    def __init__(self, *words: object) -> None:
        self._ours, theirs = os.openpty()
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command(*words)],
            stdin=theirs,
            stderr=theirs,
            stdout=subprocess.PIPE,
            env={**ENVIRONMENT, **os.environ},
        )
        os.close(theirs)
        self.seen = ""

    def wait_for(self, text: str) -> None:
        """Behind what was waited for before."""
        until = time.monotonic() + 20
        while text not in self.seen:
            assert select.select([self._ours], [], [], max(0.0, until - time.monotonic()))[0], self.seen
            try:
                more = os.read(self._ours, 4096)
            except OSError:  # the other end is closed
                more = b""
            assert more, f"it ended without {text!r}: {self.seen}"
            self.seen += more.decode(errors="replace").replace("\r\n", "\n")
        self.seen = self.seen.partition(text)[2]

    def type(self, text: str | bytes) -> None:
        os.write(self._ours, text if isinstance(text, bytes) else text.encode())

    def end(self) -> tuple[int, str]:
        """The exit status, and what went to stdout."""
        try:
            out, _ = self._process.communicate(timeout=20)
            return self._process.returncode, out.decode()
        finally:
            self._process.kill()
            os.close(self._ours)


PROMPT = "The code, 16 symbols and 6: "


def test_without_a_code_a_terminal_is_asked_until_there_is_one(folder: Path) -> None:
    with Both(folder) as both:
        terminal = Terminal("activate", "--json", "--socket", both.socket)
        terminal.wait_for(PROMPT)
        terminal.type("\n")
        terminal.wait_for("That is no code: nothing was typed")
        terminal.wait_for(PROMPT)
        terminal.type(b"\xff\xfe\n")
        terminal.wait_for("That is no code: 2 symbols were read")
        terminal.wait_for(PROMPT)
        for no in ("\n", "n\n", "what?\n"):
            terminal.type(f"{MISTYPED}\n")
            terminal.wait_for("That is no code: one symbol is wrong: ")
            terminal.wait_for(f"Did you mean {GROUPED}? [y/N] ")
            assert both.server.connections == 0
            terminal.type(no)
            terminal.wait_for(PROMPT)
        terminal.type(f"{MISTYPED}\n")
        terminal.wait_for("[y/N] ")
        terminal.type("Y\n")
        terminal.wait_for("1/4 ")
        status, out = terminal.end()
        assert (status, json.loads(out)) == (problems.DONE, IN_FORCE)
        assert both.server.asked[0].body == SYMBOLS.encode()


@pytest.mark.parametrize(("key", "status"), [("\x04", problems.USAGE), ("\x03", problems.INTERRUPTED)])
def test_who_gives_up_at_the_prompt_has_asked_nobody(folder: Path, key: str, status: int) -> None:
    with Both(folder) as both:
        terminal = Terminal("activate", "--socket", both.socket)
        terminal.wait_for(PROMPT)
        terminal.type(key)
        assert terminal.end() == (status, "")
        assert both.methods == []


def test_without_a_terminal_nobody_is_asked_for_a_code(folder: Path) -> None:
    with Both(folder) as both:
        words = command("activate", "--socket", both.socket)
        for said in (GROUPED.encode(), b""):
            done = subprocess.run(words, capture_output=True, check=False, timeout=20, input=said)
            assert done.returncode == problems.USAGE
            assert done.stderr.startswith(b"error: There is no terminal to ask for the code. (NO_TERMINAL)\nhint: ")
        closed = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *words], capture_output=True, check=False)
        assert (closed.returncode, b"(NO_TERMINAL)" in closed.stderr) == (problems.USAGE, True)
        assert both.methods == []


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
    with Server(FILE) as server:
        there = Peer(f"{folder}/s", *map(licd.answer, (taken(server.url), MADE, IN_FORCE)))
        done = run("activate", "--install-request", file, "--socket", f"{folder}/s", "--json")
        there.close()
    assert (done.status, done.value) == (problems.DONE, IN_FORCE)
    assert done.err.startswith(f"1/4 taking in the install request {file}\n2/4 ")
    assert there.asked[0][1:] == ("install.import", [{"document": b"\xff any bytes\r\n"}])
    assert [each.target for each in server.asked] == ["/license-file"]


def test_the_install_request_s_own_address_wins_over_the_profile_s(run: Run, folder: Path) -> None:
    with Server(ASKED) as profile, Server(FILE) as own:
        status = vendors(("acme", profile.url))
        there = Peer(f"{folder}/s", *map(licd.answer, (status, taken(own.url), MADE, IN_FORCE)))
        assert run("activate", SYMBOLS, "--socket", f"{folder}/s").status == problems.DONE
        there.close()
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
        there = Peer(f"{folder}/s", *map(licd.answer, (status, taken(server.url), MADE, IN_FORCE)))
        assert run("activate", SYMBOLS, "--vendor", "acme", "--socket", f"{folder}/s").status == problems.DONE
        there.close()


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
        there = Peer(f"{folder}/s", licd.answer(vendors(("acme", server.url))), licd.refuse(no))
        done = run("activate", SYMBOLS, "--socket", f"{folder}/s", "--json")
        there.close()
        assert len(server.asked) == 1
    assert (done.status, done.value["error"]) == (problems.REFUSED, no)


@pytest.mark.parametrize("answers", [["x"], [{"vendors": 7}], [{"vendors": [7]}], [vendors(), None]])
def test_an_answer_of_licd_without_shape_is_a_fault_in_words(run: Run, peer: Start, answers: list[Any]) -> None:
    done = run("activate", SYMBOLS, "--socket", peer(*map(licd.answer, answers)))
    assert done.status in (problems.FAULT, problems.UNREACHABLE)
    assert re.fullmatch(r"error: .*\((BAD_ANSWER|NO_VENDOR_URL)\)\nhint: .*\n", done.err)


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
    with Server(ASKED, FILE, tls=Web()) as server:
        there = Peer(
            f"{folder}/s",
            *map(licd.answer, (vendors(("acme", server.url)), taken(server.url), MADE, IN_FORCE)),
        )
        done = run("activate", SYMBOLS, "--ca", server.ca_file, "--socket", f"{folder}/s")
        there.close()
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
        there = Peer(f"{folder}/s", *map(licd.answer, (status, asked, MADE, IN_FORCE)))
        done = run("activate", SYMBOLS, "--socket", f"{folder}/s")
        there.close()
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
