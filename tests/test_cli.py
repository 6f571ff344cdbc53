"""licd-cli: the command line, what cannot be reached, and the exit statuses."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

import licd
from licd.cli import problems
from licd.rpc.client import Unsendable
from tests.support.cli import Run, Start, as_other_user
from tests.support.needs import needs_root
from tests.support.peer import Peer, answer, hang_up, refuse, silence


@pytest.fixture
def path(folder: Path) -> str:
    return f"{folder}/s"


# --- the command line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["frobnicate"],
        ["license"],
        ["license", "import"],
        ["install-request"],
        ["install-request", "import"],
        ["license-request"],
        ["license-request", "export", "acme"],
        ["fingerprint", "what-of"],
        ["fingerprint", "what-if"],
        ["fingerprint", "what-if", "--without"],
        ["fingerprint", "--without", "disk"],
        ["acquire", "kso.scales"],
        ["acquire", "kso.scales", "till", "--seats", "many"],
        ["acquire", "kso.scales", "till", "--seats", "9999999999"],
        ["acquire", "kso.scales", "till", "--ttl", "-1"],
        ["acquire", "kso.scales", "till", "extra"],
        ["confirm"],
        ["confirm", "--license", "kso.scales"],
        ["confirm", "abc", "--license", "kso.scales", "--holder", "till"],
        ["release"],
        ["release", "abc", "def"],
        ["call"],
        ["call", "server.hello", "novalue"],
        ["call", "server.hello", "=x"],
        ["call", "server.hello", "a=1", "a=2"],
        ["call", "server.hello", "--bogus"],
        ["status", "--timeout", "nan"],
        ["status", "--timeout", "0"],
        ["status", "--timeout", "soon"],
        ["status", "--js"],
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_wrong_command_line_is_status_2_with_a_sentence_and_a_hint(run: Run, words: list[str], as_json: bool) -> None:
    done = run(*words, "--socket", "/nonexistent/s", *["--json"] * as_json)
    assert done.status == problems.USAGE
    assert re.fullmatch(r"error: \S.*\. \(BAD_USAGE\)\nhint: licd-cli.* --help\n", done.err)
    if as_json:
        assert done.value["error"]["name"] == "BAD_USAGE"
    else:
        assert done.out == ""


@pytest.mark.parametrize("words", [["--help"], ["call", "--help"], ["fingerprint", "what-if", "--help"], ["--version"]])
def test_help_and_version_are_status_0(run: Run, words: list[str]) -> None:
    done = run(*words)
    assert done.status == problems.DONE
    assert done.out.startswith("usage: licd-cli" if "--help" in words else f"licd-cli {licd.__version__}")


def test_the_help_documents_every_exit_status(run: Run) -> None:
    text = run("--help").out
    for status in ("DONE", "REFUSED", "USAGE", "UNREACHABLE", "FAULT", "INTERRUPTED", "UNREAD"):
        assert re.search(rf"^  {getattr(problems, status)} +\w", text, re.MULTILINE), status


@pytest.mark.parametrize("file", ["/nonexistent/file", "/"])
def test_a_file_that_cannot_be_read_is_status_2_and_named(run: Run, file: str) -> None:
    for words in (["license", "import", file], ["call", "license.import", f"document=@{file}"]):
        done = run("--socket", "/nonexistent/s", *words)
        assert (done.status, done.out) == (problems.USAGE, "")
        assert f"error: {file} cannot be read: " in done.err
        assert "(CANNOT_READ)\nhint: " in done.err


def test_an_endless_file_is_refused_as_too_large_before_anything_is_asked(run: Run) -> None:
    done = run("--socket", "/nonexistent/s", "license", "import", "/dev/zero")
    assert done.status == problems.REFUSED
    assert "(DOCUMENT_TOO_LARGE)\nhint: " in done.err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("-1", -1),
        ("true", True),
        ("null", None),
        ('"12"', "12"),
        ('["a", 1]', ["a", 1]),
        ('{"a": {"b": 2}}', {"a": {"b": 2}}),
        ("till-1", "till-1"),
        ("", ""),
        ("a=b", "a=b"),
        ("5.2", "5.2"),  # a version, not a fraction
        ("1e5", "1e5"),
        ("NaN", "NaN"),
        ("123456789012345678901234", "123456789012345678901234"),  # a lease id of digits
        (str(2**64 - 1), 2**64 - 1),
        (str(2**64), str(2**64)),
        ("[" * 100_000, "[" * 100_000),
        ("9" * 10_000, "9" * 10_000),
        ("Весы", "Весы"),
    ],
)
def test_a_value_of_call_is_json_if_it_is_json_else_text(path: str, run: Run, text: str, value: Any) -> None:
    there = Peer(path, answer("done"))
    try:
        assert run("call", "a.b", f"key={text}", "--socket", path).status == 0
        assert there.asked == [(1, "a.b", [{"key": value}])]
        assert type(there.asked[0][2][0]["key"]) is type(value)
    finally:
        there.close()


def test_call_sends_a_files_bytes_and_takes_arguments_after_options(path: str, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"\x00\xffx")
    there = Peer(path, answer("done"))
    try:
        assert run("call", "a.b", "x=1", "--json", f"y=@{file}", "--socket", path, "method=2").status == 0
        assert there.asked == [(1, "a.b", [{"x": 1, "y": b"\x00\xffx", "method": 2}])]
    finally:
        there.close()


def test_what_messagepack_cannot_carry_is_a_wrong_command_line() -> None:
    # How deep an argument may nest is msgpack's to say: versions differ.
    failed = problems.failure(Unsendable("recursion limit exceeded"), "/s")
    assert (failed.status, failed.error["name"]) == (problems.USAGE, "BAD_USAGE")


def test_the_socket_is_the_options_then_the_environments(
    run: Run, peer: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = peer(answer("one"), answer("two"), answer("three"))
    monkeypatch.setenv("LICD_SOCKET", path)
    assert run("call", "a.b").out == '"one"\n'
    monkeypatch.setenv("LICD_SOCKET", "/nonexistent/s")
    assert run("call", "--socket", path, "a.b").out == '"two"\n'
    assert run("--socket", path, "call", "a.b").out == '"three"\n'
    assert "There is no socket /nonexistent/s" in run("call", "a.b").err
    monkeypatch.setenv("LICD_SOCKET", "")
    assert "/run/licd/licd.sock" in run("status").err or run("status").status == 0


# --- unreachable ---------------------------------------------------------------------------------------------


def test_without_a_socket_it_is_status_3_and_asks_whether_licd_runs(run: Run, path: str) -> None:
    done = run("status", "--socket", path)
    assert (done.status, done.out) == (problems.UNREACHABLE, "")
    assert done.err.startswith(f"error: There is no socket {path}. (NO_SOCKET)\nhint: ")
    assert "systemctl status licd" in done.err
    assert "systemctl restart licd.socket" in done.err


def test_a_dead_socket_is_status_3_and_nobody_listens(run: Run, path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(path)
    done = run("status", "--socket", path)
    assert done.status == problems.UNREACHABLE
    assert f"error: Nobody listens on {path}. (NOT_LISTENING)\nhint: " in done.err


def test_a_path_too_long_for_a_socket_is_status_3_with_the_reason(run: Run) -> None:
    done = run("status", "--socket", "/tmp/" + "x" * 200)
    assert done.status == problems.UNREACHABLE
    assert "(NOT_USABLE)\nhint: " in done.err


def test_silence_is_status_3_after_the_timeout_given(run: Run, peer: Start) -> None:
    done = run("status", "--timeout", "0.2", "--socket", peer(silence))
    assert done.status == problems.UNREACHABLE
    assert "error: licd did not answer server.status within 0.2 seconds. (TIMED_OUT)\nhint: " in done.err


def test_a_connection_lost_twice_is_status_3(run: Run, peer: Start) -> None:
    done = run("status", "--socket", peer(hang_up, hang_up))
    assert done.status == problems.UNREACHABLE
    assert "(CONNECTION_LOST)\nhint: " in done.err


def test_for_programs_unreachable_is_json_too(run: Run, path: str) -> None:
    done = run("status", "--json", "--socket", path)
    assert done.status == problems.UNREACHABLE
    assert done.value["error"]["name"] == "NO_SOCKET"
    assert done.value["error"]["code"] is None
    assert done.value["error"]["data"]["next"] in done.err


@needs_root
@pytest.mark.parametrize(
    ("gid", "mode", "folder_mode", "says"),
    [
        (8, 0o660, 0o755, r"/s: it is for the group mail\. \(ACCESS_DENIED\)\nhint: .*usermod -aG mail "),
        (54321, 0o660, 0o755, r"/s: it is for the group 54321\. \(ACCESS_DENIED\)\nhint: .*usermod -aG 54321 "),
        (0, 0o660, 0o755, r"/s\. \(ACCESS_DENIED\)\nhint: Run it as root, or as the user"),
        (8, 0o600, 0o755, r"/s\. \(ACCESS_DENIED\)\nhint: Run it as root, or as the user"),
        (8, 0o666, 0o700, r"/s\. \(ACCESS_DENIED\)\nhint: Run it as root, or as the user"),
    ],
)
def test_a_socket_for_others_is_status_3_and_names_the_group_that_may(
    peer: Start, gid: int, mode: int, folder_mode: int, says: str
) -> None:
    path = peer()
    os.chown(path, 0, gid)  # 8 is mail on every Debian
    os.chmod(path, mode)
    os.chmod(Path(path).parent, folder_mode)
    done = as_other_user("status", "--socket", path)
    assert done.status == problems.UNREACHABLE
    assert re.search(says, done.err), done.err


# --- refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "status"), [(90, 4), (99, 4), (10, 1), (40, 1), (100, 1), (777, 1), (-1, 1)])
def test_licds_own_mistakes_are_status_4_and_all_other_refusals_1(
    run: Run, peer: Start, code: int, status: int
) -> None:
    error = {"code": code, "name": "SOME_NAME", "message": "Not so.", "data": {"next": "Wait."}}
    done = run("status", "--socket", peer(refuse(error)))
    assert done == (status, "", "error: Not so. (SOME_NAME)\nhint: Wait.\n")


def test_a_mistake_of_licds_in_one_lease_of_many_is_status_4(run: Run, peer: Start) -> None:
    error = {"name": "SOME_NAME", "message": "Not so.", "data": {}}
    errors: list[Any] = [{"code": code, **error} for code in (42, 90, 42)]
    done = run("confirm", "a", "b", "c", "--socket", peer(answer({"results": [{"error": each} for each in errors]})))
    assert (done.status, done.err.count("(SOME_NAME)")) == (problems.FAULT, 3)


def test_a_refusal_without_a_hint_has_none(run: Run, peer: Start) -> None:
    done = run("status", "--socket", peer(refuse({"code": 40, "name": "X", "message": "No.", "data": 7})))
    assert done == (1, "", "error: No. (X)\n")
