"""licd-cli: the real command against the real licd; against a scripted peer only for what licd never says."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import licd
from licd.cli import problems
from licd.cli.main import main
from licd.rpc import wire
from licd.rpc.client import Unsendable
from tests.support import pki
from tests.support.daemon import Daemon
from tests.support.needs import needs_root
from tests.support.peer import Peer, Script, answer, hang_up, refuse, say, silence

AHEAD = (datetime.now(UTC) + timedelta(days=400)).strftime("%Y-%m-%d")
LICENSES: list[dict[str, Any]] = [
    {"name": "kso.scales", "seats": 3, "versions": "5.*", "title": "Весы", "expires": AHEAD},
    {"name": "kso.camera", "license": "uncounted"},
    {"name": "kso.old", "seats": 2, "expires": "2026-02-01"},
]


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """One command line, carried out in this process."""

    def run(*words: object) -> Done:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return Done(status, *capsys.readouterr())

    return run


# As users have it: stdout is buffered, so that a write fails where it is flushed, at the latest when the process ends.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in ("PYTHONUNBUFFERED", "LICD_SOCKET")}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "licd.cli.main", *map(str, words)]


# --- the command line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["frobnicate"],
        ["license"],
        ["license", "import"],
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


@pytest.mark.parametrize("words", [["--help"], ["call", "--help"], ["license", "import", "--help"], ["--version"]])
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


# --- unreachable ---------------------------------------------------------------------------------------------


@pytest.fixture
def path(folder: Path) -> str:
    return f"{folder}/s"


@pytest.fixture
def peer(path: str) -> Iterator[Callable[..., str]]:
    """Starts a scripted peer; returns its socket's path."""
    peers: list[Peer] = []

    def start(*scripts: Script) -> str:
        peers.append(Peer(path, *scripts))
        return path

    yield start
    for each in peers:
        each.close()


def test_without_a_socket_it_is_status_3_and_asks_whether_licd_runs(run: Run, path: str) -> None:
    done = run("status", "--socket", path)
    assert (done.status, done.out) == (problems.UNREACHABLE, "")
    assert done.err.startswith(f"error: There is no socket {path}. (NO_SOCKET)\nhint: ")
    assert "systemctl status licd" in done.err


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


def test_silence_is_status_3_after_the_timeout_given(run: Run, peer: Callable[..., str]) -> None:
    done = run("status", "--timeout", "0.2", "--socket", peer(silence))
    assert done.status == problems.UNREACHABLE
    assert "error: licd did not answer server.status within 0.2 seconds. (TIMED_OUT)\nhint: " in done.err


def test_a_connection_lost_twice_is_status_3(run: Run, peer: Callable[..., str]) -> None:
    done = run("status", "--socket", peer(hang_up, hang_up))
    assert done.status == problems.UNREACHABLE
    assert "(CONNECTION_LOST)\nhint: " in done.err


def test_for_programs_unreachable_is_json_too(run: Run, path: str) -> None:
    done = run("status", "--json", "--socket", path)
    assert done.status == problems.UNREACHABLE
    assert done.value["error"]["name"] == "NO_SOCKET"
    assert done.value["error"]["code"] is None
    assert done.value["error"]["data"]["next"] in done.err


def as_other_user(*words: object, document: bytes = b"") -> Done:
    """One command line as uid 12345. A first run imports all that it takes before it gives root up."""
    script = (
        "import os, sys; from licd.cli.main import main; main(['status', '--socket', '/nonexistent/s']);"
        "os.setgroups([]); os.setgid(12345); os.setuid(12345); sys.exit(main(sys.argv[1:]))"
    )
    # Unmeasured: whoever gave root up could not write the measurement beside root's.
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)], input=document, capture_output=True, check=False, env=env
    )
    _, _, err = done.stderr.decode().partition("LICD_SOCKET.\n")  # behind what the first run said
    return Done(done.returncode, done.stdout.decode(), err)


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
    peer: Callable[..., str], gid: int, mode: int, folder_mode: int, says: str
) -> None:
    path = peer()
    os.chown(path, 0, gid)  # 8 is mail on every Debian
    os.chmod(path, mode)
    os.chmod(Path(path).parent, folder_mode)
    done = as_other_user("status", "--socket", path)
    assert done.status == problems.UNREACHABLE
    assert re.search(says, done.err), done.err


# --- strange answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command_line",
    [
        "hello",
        "status",
        "licenses",
        "license show a",
        "license check a",
        "license import -",
        "license export",
        "acquire a b",
        "confirm a",
        "confirm a b",
        "release a",
        "leases",
    ],
)
@pytest.mark.parametrize(
    "result",
    [
        None,
        7,
        "text",
        [],
        [1],
        {"licenses": 1, "leases": 1, "vendors": 1, "warnings": 1, "files": 1, "limits": 1, "results": 1},
        {"licenses": [1], "leases": [1], "vendors": [1], "clock": [], "files": [1], "results": [1], "deadline": "x"},
        {1: 2},
        {"document": 1, "licenses": [{"license": "a", "lines": [1]}], "leases": [{}], "next": "x"},
    ],
)
def test_whatever_shape_an_answer_has_there_is_no_traceback(
    run: Run, peer: Callable[..., str], monkeypatch: pytest.MonkeyPatch, command_line: str, result: Any
) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        done = run(*command_line.split(), "--socket", peer(answer(result), answer([])))
    if result in (None, 7, "text", [], [1]):
        assert done.status == problems.FAULT
    assert done.status in (problems.DONE, problems.REFUSED, problems.FAULT)
    if done.status == problems.FAULT:
        assert "(BAD_ANSWER)\nhint: " in done.err


def test_what_does_not_speak_the_protocol_is_status_4(run: Run, peer: Callable[..., str]) -> None:
    done = run("status", "--socket", peer(say(b"HTTP/1.1 400 Bad Request\r\n\r\n")))
    assert (done.status, done.out) == (problems.FAULT, "")
    assert "does not speak licd's protocol" in done.err


@pytest.mark.parametrize(("code", "status"), [(90, 4), (99, 4), (10, 1), (40, 1), (100, 1), (777, 1), (-1, 1)])
def test_licds_own_mistakes_are_status_4_and_all_other_refusals_1(
    run: Run, peer: Callable[..., str], code: int, status: int
) -> None:
    error = {"code": code, "name": "SOME_NAME", "message": "Not so.", "data": {"next": "Wait."}}
    done = run("status", "--socket", peer(refuse(error)))
    assert done == (status, "", "error: Not so. (SOME_NAME)\nhint: Wait.\n")


def test_a_mistake_of_licds_in_one_lease_of_many_is_status_4(run: Run, peer: Callable[..., str]) -> None:
    error = {"name": "SOME_NAME", "message": "Not so.", "data": {}}
    errors: list[Any] = [{"code": code, **error} for code in (42, 90, 42)]
    done = run("confirm", "a", "b", "c", "--socket", peer(answer({"results": [{"error": each} for each in errors]})))
    assert (done.status, done.err.count("(SOME_NAME)")) == (problems.FAULT, 3)


def test_a_refusal_without_a_hint_has_none(run: Run, peer: Callable[..., str]) -> None:
    done = run("status", "--socket", peer(refuse({"code": 40, "name": "X", "message": "No.", "data": 7})))
    assert done == (1, "", "error: No. (X)\n")


EVIL = "a\x1b[31m\x07\r\n\x9b2J\x7f\u202e\u2028\udcff\u00a0Ж"
TAMED = r"a\x1b[31m\x07\r\n\x9b2J\x7f\u202e\u2028\udcff Ж"


def raw(stream: socket.socket, request: wire.Request, error: Any, result: Any) -> None:
    # \udcff stands for the byte 0xff, as a text that is not UTF-8 arrives.
    packed = wire.encode_response(request.msgid, error, result)
    stream.sendall(packed.replace(rb"\udcff", b"\xff\xff\xff\xff\xff\xff"))


def test_control_characters_of_others_reach_no_terminal(run: Run, peer: Callable[..., str]) -> None:
    lease = {"lease": "ab", "license": "kso.scales", "holder": EVIL, "since": EVIL}
    license = {
        "license": EVIL,
        "title": EVIL,
        "vendor": EVIL,
        "state": EVIL,
        "versions": [EVIL],
        "lines": [{"id": EVIL}],
    }
    error = {"code": 40, "name": EVIL, "message": EVIL, "data": {"next": EVIL}}
    change = {"license": EVIL, "change": EVIL, "less": True, "was": {"state": EVIL, "expires": EVIL}, "will_be": None}
    cases: list[tuple[str, Any, Any]] = [
        ("leases", None, {"leases": [lease]}),
        ("licenses", None, {"licenses": [license]}),
        ("license import /dev/null", None, {"files": [{"vendor": EVIL, "seq": EVIL, "changes": [change]}]}),
        ("status", None, {"warnings": [EVIL], "health": EVIL, "clock": {"state": EVIL}, "vendors": [{"vendor": EVIL}]}),
        ("hello", None, {"roles": [EVIL], "methods": [EVIL], "limits": {EVIL: EVIL}}),
        ("license check a", None, {"license": EVIL, "valid": False, "reason": error, "warnings": [EVIL]}),
        ("acquire a b", None, {"holder": EVIL, "warnings": [EVIL]}),
        ("confirm a b", None, {"results": [{"lease": EVIL, "error": error}, {"lease": EVIL}]}),
        ("call a.b", None, {EVIL: [EVIL]}),
        ("status", error, None),
        ("status --json", error, None),
        ("leases --json", None, {"leases": [lease]}),
    ]

    def scripted(error: Any, result: Any) -> Script:
        return lambda stream, request: raw(stream, request, error, result)

    path = peer(*(scripted(error, result) for _, error, result in cases))
    for words, _, _ in cases:
        done = run(*words.split(), "--socket", path)
        assert done.status in (0, 1), done
        text = done.out + done.err
        assert "\\x1b[31m" in text or "\\u001b[31m" in text, words
        assert all(each.isprintable() for line in text.split("\n") for each in line), (words, text)


def test_a_name_in_another_alphabet_stays_legible_and_control_characters_become_escapes(
    run: Run, peer: Callable[..., str]
) -> None:
    evil = EVIL.replace("\udcff", "")
    done = run("licenses", "--socket", peer(answer({"licenses": [{"license": "kso.scales", "title": evil}]})))
    assert TAMED.replace(r"\udcff", "") in done.out


def test_json_for_programs_carries_everything_as_ascii_and_unchanged(run: Run, peer: Callable[..., str]) -> None:
    value = {"text": "Ж\x1b\u2028", "none": None, "list": [1, True, 2.5, -(2**63), 2**64 - 1]}
    done = run("call", "a.b", "--json", "--socket", peer(answer(value)))
    assert done.value == value
    assert done.out.isascii()
    assert "\x1b" not in done.out


def test_what_json_cannot_say_is_said_as_text(run: Run, peer: Callable[..., str]) -> None:
    path = peer(answer({"bytes": b"a\xff", 7: float("inf"), "nan": float("nan")}))
    assert run("call", "a.b", "--json", "--socket", path).value == {"bytes": "a\\xff", "7": "inf", "nan": "nan"}


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


def test_leases_are_fetched_page_after_page(path: str, run: Run) -> None:
    there = Peer(
        path,
        answer({"leases": [{"lease": "a"}], "next": 7}),
        answer({"leases": [{"lease": "b"}], "next": 9}),
        answer({"leases": [{"lease": "c"}], "next": None}),
    )
    try:
        done = run("leases", "--holder", "till", "--json", "--socket", path)
        assert [row["lease"] for row in done.value["leases"]] == ["a", "b", "c"]
        asked = [params[0] for _, _, params in there.asked]
        assert asked == [{"holder": "till"}, {"holder": "till", "after": 7}, {"holder": "till", "after": 9}]
    finally:
        there.close()


def test_the_socket_is_the_options_then_the_environments(
    run: Run, peer: Callable[..., str], monkeypatch: pytest.MonkeyPatch
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


# --- processes, signals, terminals ---------------------------------------------------------------------------


def test_ctrl_c_ends_with_130_and_without_a_word(peer: Callable[..., str]) -> None:
    asked = threading.Event()

    def hold(stream: socket.socket, request: wire.Request) -> None:
        asked.set()

    process = subprocess.Popen(
        command("status", "--socket", peer(hold)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert asked.wait(10)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (problems.INTERRUPTED, "", "")


@pytest.mark.parametrize("rows", [1, 9000])  # less and more than one buffer of stdout
def test_a_closed_pipe_is_quiet(peer: Callable[..., str], rows: int) -> None:
    path = peer(answer({"leases": [{"lease": "x" * 100}] * rows, "next": None}))
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command("leases", "--socket", path),
        stdout=writer,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (problems.UNREAD, "")


def test_a_full_disk_behind_stdout_is_an_error_without_a_traceback(peer: Callable[..., str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("leases", "--socket", peer(answer({"leases": []}))),
            stdout=full,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            text=True,
            check=False,
        )
    assert done.returncode == problems.USAGE
    assert re.fullmatch(r"error: standard output cannot be written: .* \(CANNOT_WRITE\)\nhint: .*\n", done.stderr), (
        done.stderr
    )


def test_closed_standard_streams_are_no_traceback(peer: Callable[..., str]) -> None:
    path = peer(answer({"leases": []}))
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>log', "sh", *command("leases", "--socket", path)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**ENVIRONMENT, "PYTHONPATH": os.getcwd()}
        assert subprocess.run(shell, cwd=folder, env=environment, check=False).returncode == 0
        assert (Path(folder) / "log").read_text() == ""
        shell[-3:] = ["license", "import", "-"]
        assert subprocess.run(shell, cwd=folder, env=environment, check=False).returncode == problems.USAGE
        assert "error: - cannot be read: Bad file descriptor. (CANNOT_READ)" in (Path(folder) / "log").read_text()


def test_a_terminal_that_lacks_an_alphabet_gets_escapes(peer: Callable[..., str]) -> None:
    path = peer(answer({"licenses": [{"license": "kso.scales", "title": "Весы"}]}))
    done = subprocess.run(
        command("licenses", "--socket", path),
        env={**ENVIRONMENT, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert rb"\u0412\u0435\u0441\u044b" in done.stdout


def test_an_exported_document_is_exact_in_a_pipe_and_tamed_on_a_terminal(peer: Callable[..., str]) -> None:
    document = '{"a":1}\tsig\n\x1b[31m\n'
    path = peer(*[answer({"vendor": "acme", "seq": 1, "document": document})] * 2)
    done = subprocess.run(command("license", "export", "--socket", path), capture_output=True, check=False)
    assert done.stdout.decode() == document
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command("license", "export", "--socket", path), stdout=theirs)
    os.close(theirs)
    seen = b""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # EIO: the last writer has gone
            break
        if not piece:
            break
        seen += piece
    assert process.wait(10) == 0
    os.close(ours)
    assert rb"\x1b[31m" in seen
    assert b"\x1b" not in seen


# --- the real licd -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vendor() -> pki.Vendor:
    # The certificates outlive the years in which these tests are run.
    return pki.Vendor(root={"days": 36500}, leaf={"days": 36500})


@pytest.fixture
def daemon(vendor: pki.Vendor) -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="licd-") as folder, Daemon(Path(folder)) as daemon:
        vendor.write_profile(daemon.vendors)
        yield daemon.start()


@pytest.fixture
def licd_cli(daemon: Daemon, run: Run) -> Run:
    return lambda *words: run("--socket", daemon.socket, *words)


@pytest.fixture
def delivered(vendor: pki.Vendor, licd_cli: Run, tmp_path: Path) -> Path:
    """A license file that is in force."""
    file = tmp_path / "delivery.licd"
    file.write_bytes(vendor.license_file(seq=1, lines=LICENSES))
    assert licd_cli("license", "import", file).status == 0
    return file


def test_hello_says_who_answers_and_what_one_may_do(licd_cli: Run) -> None:
    done = licd_cli("hello")
    assert done.status == 0
    assert re.search(rf"^server +licd {licd.__version__}$", done.out, re.MULTILINE)
    assert re.search(rf"^you are +uid {os.getuid()}, pid {os.getpid()}$", done.out, re.MULTILINE)
    assert "  seat.acquire\n" in done.out
    assert "admin" in licd_cli("hello", "--json").value["roles"]


def test_status_shows_health_counts_and_vendors(licd_cli: Run, delivered: Path, daemon: Daemon) -> None:
    done = licd_cli("status")
    assert (done.status, done.err) == (0, "")
    assert re.search(r"^licenses valid +2 of 3$", done.out, re.MULTILINE)
    assert re.search(r"^seats held +0 of 3$", done.out, re.MULTILINE)
    assert re.search(r"^health +warning$", done.out, re.MULTILINE)
    assert re.search(r"^warning +kso\.old ended on 2026-02-01$", done.out, re.MULTILINE)
    assert re.search(r"^acme +yes +1 +2026-06-01T12:00:00Z +-$", done.out, re.MULTILINE)
    assert licd_cli("status", "--json").value["pid"] == daemon.pid


def test_a_dry_run_shows_the_change_and_changes_nothing(licd_cli: Run, vendor: pki.Vendor, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(vendor.license_file(seq=1, lines=LICENSES))
    done = licd_cli("license", "import", "--dry-run", file)
    assert (done.status, done.err) == (0, "")
    assert "would come into force; nothing was changed." in done.out
    assert re.search(rf"^kso\.scales +added +nothing +valid, seats: 3, expires: {AHEAD}, versions: 5\.\*$", done.out,
                     re.MULTILINE)  # fmt: skip
    assert "No license is installed" in licd_cli("licenses").out


def test_an_import_puts_the_file_in_force_and_the_same_again_is_a_success(licd_cli: Run, delivered: Path) -> None:
    assert [row["license"] for row in licd_cli("licenses", "--json").value["licenses"]] == [
        "kso.camera",
        "kso.old",
        "kso.scales",
    ]
    done = licd_cli("license", "import", delivered)
    assert (done.status, done.err) == (0, "")
    assert done.out == "The license file 1 of acme is in force already; nothing was changed.\n"


def test_a_file_that_grants_less_is_announced_loudly(
    licd_cli: Run, delivered: Path, vendor: pki.Vendor, tmp_path: Path
) -> None:
    file = tmp_path / "less"
    file.write_bytes(vendor.license_file(seq=2, lines=[{**LICENSES[0], "seats": 2}, LICENSES[2]]))
    for words in (["--dry-run"], []):
        done = licd_cli("license", "import", file, *words)
        assert done.status == 0
        assert re.search(r"^kso\.scales +changed .* LESS$", done.out, re.MULTILINE)
        warnings = done.err.splitlines()
        assert len(warnings) == 2
        assert warnings[0].startswith("warning: kso.camera is granted LESS than before: valid, seats: no limit")
        assert warnings[0].endswith(" -> nothing")
        assert warnings[1].startswith("warning: kso.scales is granted LESS than before: valid, seats: 3,")
        assert " -> valid, seats: 2," in warnings[1]


def test_a_tampered_file_is_refused_by_name_with_a_hint(licd_cli: Run, delivered: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad"
    file.write_bytes(delivered.read_bytes().replace(b'"seats":3', b'"seats":9'))
    done = licd_cli("license", "import", file)
    assert (done.status, done.out) == (problems.REFUSED, "")
    assert re.fullmatch(r"error: .*line 2.* \(BAD_SIGNATURE\)\nhint: .*\n", done.err)
    as_json = licd_cli("license", "import", file, "--json")
    assert (as_json.status, as_json.value["error"]["code"]) == (problems.REFUSED, 33)


def test_an_import_reads_standard_input(daemon: Daemon, vendor: pki.Vendor) -> None:
    done = subprocess.run(
        command("license", "import", "-", "--socket", daemon.socket),
        input=vendor.license_file(seq=1, lines=LICENSES),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"is in force now" in done.stdout


def test_an_exported_file_is_the_one_imported(licd_cli: Run, delivered: Path, daemon: Daemon, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = licd_cli("license", "export", "--vendor", "acme", "-o", out)
    assert (done.status, done.out) == (0, f"The license file 1 of acme is written to {out}.\n")
    assert out.read_bytes() == delivered.read_bytes()
    piped = subprocess.run(command("license", "export", "--socket", daemon.socket), capture_output=True, check=True)
    assert piped.stdout == delivered.read_bytes()
    assert licd_cli("license", "export", "--json").value["document"].encode() == delivered.read_bytes()


def test_an_export_that_cannot_be_written_is_status_2(licd_cli: Run, delivered: Path) -> None:
    done = licd_cli("license", "export", "-o", "/nonexistent/file")
    assert done.status == problems.USAGE
    assert "error: /nonexistent/file cannot be written: No such file or directory. (CANNOT_WRITE)\nhint: " in done.err


def test_an_export_of_nothing_is_refused(licd_cli: Run) -> None:
    done = licd_cli("license", "export")
    assert (done.status, done.out) == (problems.REFUSED, "")
    assert "(NOT_IN_FORCE)\nhint: " in done.err


def test_licenses_are_a_table(licd_cli: Run, delivered: Path) -> None:
    lines = licd_cli("licenses").out.splitlines()
    assert lines[0].split() == ["LICENSE", "STATE", "HELD", "SEATS", "EXPIRES", "VERSIONS", "TITLE"]
    assert re.fullmatch(r"kso\.camera +valid +0 +no limit +never +any", lines[1])
    assert re.fullmatch(r"kso\.old +expired +0 +0 +2026-02-01 +-", lines[2])
    assert re.fullmatch(rf"kso\.scales +valid +0 +3 +{AHEAD} +5\.\* +Весы", lines[3])


def test_a_license_is_shown_with_its_lines(licd_cli: Run, delivered: Path) -> None:
    done = licd_cli("license", "show", "kso.scales")
    assert done.status == 0
    assert re.search(r"^title +Весы$", done.out, re.MULTILINE)
    assert re.search(rf"valid +counted +3 +\S+ +{AHEAD} +\d+ +5\.\* +-$", done.out, re.MULTILINE)
    assert licd_cli("license", "show", "kso.scales", "--json").value["license"] == "kso.scales"


def test_an_unknown_license_is_refused_by_name(licd_cli: Run, delivered: Path) -> None:
    for words in (["license", "show", "kso.none"], ["license", "check", "kso.none"], ["acquire", "kso.none", "till"]):
        done = licd_cli(*words)
        assert done.status == problems.REFUSED
        assert "error: No license kso.none is installed. (NO_SUCH_LICENSE)\nhint: " in done.err


def test_check_tells_valid_from_expired_and_uncovered_by_status_and_name(licd_cli: Run, delivered: Path) -> None:
    assert licd_cli("license", "check", "kso.camera") == (0, "kso.camera is valid, without an end.\n", "")
    covered = licd_cli("license", "check", "kso.scales", "--version", "5.2")
    assert covered == (0, f"kso.scales is valid until {AHEAD}.\n", "")
    uncovered = licd_cli("license", "check", "kso.scales", "--version", "6.0")
    assert (uncovered.status, uncovered.out) == (problems.REFUSED, "kso.scales is not valid.\n")
    assert "(VERSION_NOT_COVERED)\nhint: " in uncovered.err
    expired = licd_cli("license", "check", "kso.old", "--json")
    assert expired.status == problems.REFUSED
    assert (expired.value["valid"], expired.value["reason"]["name"]) == (False, "LICENSE_EXPIRED")


def acquired(licd_cli: Run, holder: str, *words: str) -> str:
    done = licd_cli("acquire", "kso.scales", holder, "--version", "5.1", "--json", *words)
    assert done.status == 0, done.err
    return str(done.value["lease"])


def test_acquire_shows_the_lease_and_until_when_to_confirm(licd_cli: Run, delivered: Path) -> None:
    done = licd_cli("acquire", "kso.scales", "till-1", "--version", "5.1", "--ttl", "90", "--seats", "2")
    assert (done.status, done.err) == (0, "")
    assert re.search(r"^lease +[0-9a-f]{24}$", done.out, re.MULTILINE)
    assert re.search(r"^seats +2$", done.out, re.MULTILINE)
    assert re.search(r"^confirm within +1 min 30 s$", done.out, re.MULTILINE)
    assert acquired(licd_cli, "till-1") in done.out  # the same holder, the same lease


def test_a_license_in_its_grace_is_granted_with_a_warning_in_words(
    licd_cli: Run, vendor: pki.Vendor, tmp_path: Path
) -> None:
    ended = (datetime.now(UTC) - timedelta(days=10)).strftime("%Y-%m-%d")
    file = tmp_path / "f"
    lines: list[dict[str, Any]] = [
        {"name": "kso.late", "expires": ended, "grace_days": 90},
        {"name": "kso.new", "not_before": AHEAD},
    ]
    file.write_bytes(vendor.license_file(seq=1, lines=lines))
    imported = licd_cli("license", "import", file)
    assert re.search(rf"^kso\.new +added +nothing +not_yet_valid, from: {AHEAD}, ", imported.out, re.MULTILINE)
    for words in (["license", "check", "kso.late"], ["acquire", "kso.late", "till"]):
        done = licd_cli(*words)
        assert (done.status, done.err) == (
            0,
            "warning: The license has ended and its grace is running; renew it before that ends too.\n",
        )


def test_a_seat_too_many_is_refused_by_name(licd_cli: Run, delivered: Path) -> None:
    acquired(licd_cli, "till-1", "--seats", "3")
    done = licd_cli("acquire", "kso.scales", "till-2", "--version", "5.1")
    assert (done.status, done.out) == (problems.REFUSED, "")
    assert re.fullmatch(r"error: All seats of kso\.scales are taken: 3 of 3\. \(NO_SEAT_FREE\)\nhint: .*\n", done.err)


def test_confirm_by_lease_by_holder_and_of_many(licd_cli: Run, delivered: Path) -> None:
    one, two = acquired(licd_cli, "till-1"), acquired(licd_cli, "till-2")
    by_lease = licd_cli("confirm", one)
    assert by_lease.status == 0
    assert re.fullmatch(rf"{one} is confirmed for (1 min|5\d s)\n", by_lease.out)
    assert licd_cli("confirm", "--license", "kso.scales", "--holder", "till-2", "--json").value["lease"] == two
    both = licd_cli("confirm", one, "--json", two)
    assert [row["lease"] for row in both.value["results"]] == [one, two]


def test_of_many_confirmed_the_lost_one_is_named_and_the_status_is_1(licd_cli: Run, delivered: Path) -> None:
    lease, lost = acquired(licd_cli, "till-1"), "0" * 24
    done = licd_cli("confirm", lease, lost)
    assert done.status == problems.REFUSED
    assert done.out.startswith(f"{lease} is confirmed for ")
    assert re.fullmatch(rf"error: {lost}: .* \(LEASE_UNKNOWN\)\nhint: .*\n", done.err)


def test_more_leases_than_one_confirm_takes_are_confirmed_in_parts(licd_cli: Run, delivered: Path) -> None:
    lease = acquired(licd_cli, "till-1")
    done = licd_cli("confirm", *[lease] * 201, "--json")
    assert done.status == 0
    assert len(done.value["results"]) == 201


def test_release_frees_the_seats_and_the_second_time_is_no_error(licd_cli: Run, delivered: Path) -> None:
    one, two = acquired(licd_cli, "till-1"), acquired(licd_cli, "till-2", "--seats", "2")
    assert licd_cli("release", one) == (0, "The lease is released.\n", "")
    again = licd_cli("release", one)
    assert (again.status, again.err) == (0, "")
    assert again.out.startswith("There was no such lease")
    by_holder = licd_cli("release", "--license", "kso.scales", "--holder", "till-2", "--json", "--reason", "end of day")
    assert by_holder.value == {"released": True}
    assert licd_cli("leases").out == "No leases.\n"
    assert licd_cli("release", two).status == 0


def test_leases_are_a_table_of_who_holds_what(licd_cli: Run, delivered: Path) -> None:
    lease = acquired(licd_cli, "касса 1", "--seats", "2")
    lines = licd_cli("leases").out.splitlines()
    assert lines[0].split()[:6] == ["LEASE", "LICENSE", "HOLDER", "SEATS", "UID", "PID"]
    assert len(lines) == 2
    assert re.match(rf"{lease} +kso\.scales +касса 1 +2 +{os.getuid()} +{os.getpid()} ", lines[1])
    assert licd_cli("leases", "--license", "kso.camera").out == "No leases.\n"
    assert len(licd_cli("leases", "--holder", "касса 1", "--json").value["leases"]) == 1


def test_more_leases_than_one_page_holds_are_all_listed(licd_cli: Run, daemon: Daemon, delivered: Path) -> None:
    with daemon.client() as client:
        for n in range(230):
            client.call("seat.acquire", license="kso.camera", holder=f"h{n}")
    rows = licd_cli("leases", "--json").value["leases"]
    assert {row["holder"] for row in rows} == {f"h{n}" for n in range(230)}
    assert len(rows) == 230


def test_call_reaches_any_method_and_shows_its_answer(licd_cli: Run, delivered: Path) -> None:
    done = licd_cli("call", "seat.acquire", "license=kso.scales", "holder=касса", "version=5.2", "seats=2")
    assert done.status == 0
    assert json.loads(done.out)["holder"] == "касса"
    assert "касса" in done.out
    refused = licd_cli("call", "no.such", "x=1")
    assert refused.status == problems.REFUSED
    assert "error: There is no method no.such. (NO_SUCH_METHOD)\nhint: " in refused.err


def test_a_wrong_argument_is_refused_by_licd_in_its_own_words(licd_cli: Run, delivered: Path) -> None:
    for words in (["confirm", "nonsense"], ["acquire", "KSO", "till"], ["acquire", "kso.scales", "a", "--ttl", "1"]):
        done = licd_cli(*words)
        assert (done.status, done.out) == (problems.REFUSED, "")
        assert "(BAD_PARAMS)\nhint: " in done.err


def test_an_argument_nested_deep_is_refused_without_a_traceback(licd_cli: Run) -> None:
    done = licd_cli("call", "server.hello", "key=" + "[" * 500 + "]" * 500)
    assert done.status == problems.REFUSED
    assert re.fullmatch(r"error: .* \([A-Z_]+\)\nhint: .*\n", done.err)


@needs_root
def test_another_user_sees_and_touches_only_its_own(vendor: pki.Vendor, run: Run) -> None:
    with tempfile.TemporaryDirectory(prefix="licd-") as folder:
        os.chmod(folder, 0o755)
        with Daemon(Path(folder), settings={"socket_mode": "0666"}) as daemon:
            vendor.write_profile(daemon.vendors)
            daemon.start()
            document = vendor.license_file(seq=1, lines=LICENSES)
            daemon.call("license.import", document=document)
            lease = daemon.call("seat.acquire", license="kso.scales", holder="till", version="5.1")["lease"]
            socket = ("--socket", daemon.socket)
            assert as_other_user("leases", *socket) == (0, "No leases.\n", "")
            cases = [
                ("NOT_OWNER", as_other_user("release", lease, *socket)),
                ("NOT_PERMITTED", as_other_user("license", "import", "-", *socket, document=document)),
                # licd hangs up before it has read this; its reason must be heard all the same.
                ("MESSAGE_TOO_LARGE", as_other_user("license", "import", "-", *socket, document=b"#" * 1_000_000)),
            ]
            for name, done in cases:
                assert (done.status, done.out) == (problems.REFUSED, ""), done
                assert re.fullmatch(rf"error: .* \({name}\)\nhint: .*\n", done.err), done
            assert daemon.call("server.status")["leases"] == 1


def test_after_a_kill_the_client_asks_the_next_licd_and_finds_its_lease(
    daemon: Daemon, licd_cli: Run, delivered: Path
) -> None:
    with daemon.client() as client:
        lease = client.call("seat.acquire", license="kso.scales", holder="till-1", version="5.1")["lease"]
        daemon.restart()
        assert client.call("seat.confirm", lease=lease)["lease"] == lease
