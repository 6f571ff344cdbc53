"""licd-cli: what reaches the screen, whatever comes from licd and whoever reads it."""

from __future__ import annotations

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
from pathlib import Path
from typing import Any

import pytest

from licd.cli import problems
from licd.rpc import wire
from tests.support.cli import ENVIRONMENT, Run, Start, command
from tests.support.peer import Script, answer, say

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
        "install-request import -",
        "license-request export",
        "license-request show",
        "fingerprint",
        "fingerprint what-if --without disk",
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
        {"factors": [1], "vendors": [{"factors": [1]}], "machine": 1, "document": "{}", "unreadable": 7},
        {"factors": 1, "vendors": [{"vendor": [], "standing": [], "weight": []}], "without": 1, "document": "x"},
        {"factors": [], "vendors": [{"standing": "same", "weight": {}, "breaking": 1}], "document": "{" * 9000},
        {"document": 1, "licenses": [{"license": "a", "lines": [1]}], "leases": [{}], "next": "x"},
    ],
)
def test_whatever_shape_an_answer_has_there_is_no_traceback(
    run: Run, peer: Start, monkeypatch: pytest.MonkeyPatch, command_line: str, result: Any
) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        done = run(*command_line.split(), "--socket", peer(answer(result), answer([])))
    if result in (None, 7, "text", [], [1]):
        assert done.status == problems.FAULT
    assert done.status in (problems.DONE, problems.REFUSED, problems.FAULT)
    if done.status == problems.FAULT:
        assert "(BAD_ANSWER)\nhint: " in done.err


def test_for_programs_an_answer_without_shape_is_one_error_and_not_printed_before_it(run: Run, peer: Start) -> None:
    answered = answer({"vendors": 5, "without": []})
    done = run("fingerprint", "what-if", "--without", "disk", "--json", "--socket", peer(answered))
    assert (done.status, done.value["error"]["name"]) == (problems.FAULT, "BAD_ANSWER")


def test_what_does_not_speak_the_protocol_is_status_4(run: Run, peer: Start) -> None:
    done = run("status", "--socket", peer(say(b"HTTP/1.1 400 Bad Request\r\n\r\n")))
    assert (done.status, done.out) == (problems.FAULT, "")
    assert "does not speak licd's protocol" in done.err


EVIL = "a\x1b[31m\x07\r\n\x9b2J\x7f\u202e\u2028\udcff\u00a0Ж"
TAMED = r"a\x1b[31m\x07\r\n\x9b2J\x7f\u202e\u2028\udcff Ж"


def raw(stream: socket.socket, request: wire.Request, error: Any, result: Any) -> None:
    # \udcff stands for the byte 0xff, as a text that is not UTF-8 arrives.
    packed = wire.encode_response(request.msgid, error, result)
    stream.sendall(packed.replace(rb"\udcff", b"\xff\xff\xff\xff\xff\xff"))


def test_control_characters_of_others_reach_no_terminal(run: Run, peer: Start) -> None:
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
    bound = {"factor": EVIL, "weight": EVIL, "state": EVIL}
    wrong_device = {**error, "data": {"factors": [bound]}}
    row = {
        "vendor": EVIL,
        "standing": EVIL,
        "reason": EVIL,
        "factors": [bound],
        "weight": {"bound": EVIL, "kept": 5, "needed": 5},
    }
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
        ("install-request import /dev/null", None, {"id": EVIL, "vendor": EVIL, "factors": [EVIL], "share": EVIL}),
        (
            "license-request export -o /dev/null",
            None,
            {"document": EVIL, "id": EVIL, "vendor": EVIL, "unreadable": [EVIL]},
        ),
        ("fingerprint", None, {"factors": [{"note": EVIL}], "machine": {"kind": EVIL, "name": EVIL}, "vendors": [row]}),
        ("fingerprint what-if --without x", None, {"without": [EVIL], "vendors": [row]}),
        ("license import /dev/null", wrong_device, None),
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


def test_a_name_in_another_alphabet_stays_legible_and_control_characters_become_escapes(run: Run, peer: Start) -> None:
    evil = EVIL.replace("\udcff", "")
    done = run("licenses", "--socket", peer(answer({"licenses": [{"license": "kso.scales", "title": evil}]})))
    assert TAMED.replace(r"\udcff", "") in done.out


def test_json_for_programs_carries_everything_as_ascii_and_unchanged(run: Run, peer: Start) -> None:
    value = {"text": "Ж\x1b\u2028", "none": None, "list": [1, True, 2.5, -(2**63), 2**64 - 1]}
    done = run("call", "a.b", "--json", "--socket", peer(answer(value)))
    assert done.value == value
    assert done.out.isascii()
    assert "\x1b" not in done.out


def test_what_json_cannot_say_is_said_as_text(run: Run, peer: Start) -> None:
    path = peer(answer({"bytes": b"a\xff", 7: float("inf"), "nan": float("nan")}))
    assert run("call", "a.b", "--json", "--socket", path).value == {"bytes": "a\\xff", "7": "inf", "nan": "nan"}


# --- processes, signals, terminals ---------------------------------------------------------------------------


def test_ctrl_c_ends_with_130_and_without_a_word(peer: Start) -> None:
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
def test_a_closed_pipe_is_quiet(peer: Start, rows: int) -> None:
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


def test_a_full_disk_behind_stdout_is_an_error_without_a_traceback(peer: Start) -> None:
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


def test_closed_standard_streams_are_no_traceback(peer: Start) -> None:
    path = peer(answer({"leases": []}))
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>log', "sh", *command("leases", "--socket", path)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**ENVIRONMENT, "PYTHONPATH": os.getcwd()}
        assert subprocess.run(shell, cwd=folder, env=environment, check=False).returncode == 0
        assert (Path(folder) / "log").read_text() == ""
        shell[-3:] = ["license", "import", "-"]
        assert subprocess.run(shell, cwd=folder, env=environment, check=False).returncode == problems.USAGE
        assert "error: - cannot be read: Bad file descriptor. (CANNOT_READ)" in (Path(folder) / "log").read_text()


def test_a_terminal_that_lacks_an_alphabet_gets_escapes(peer: Start) -> None:
    path = peer(answer({"licenses": [{"license": "kso.scales", "title": "Весы"}]}))
    done = subprocess.run(
        command("licenses", "--socket", path),
        env={**ENVIRONMENT, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert rb"\u0412\u0435\u0441\u044b" in done.stdout


def test_an_exported_document_is_exact_in_a_pipe_and_tamed_on_a_terminal(peer: Start) -> None:
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
