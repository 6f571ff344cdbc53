"""What licd-cli offers to the shells' completion: from its parser, and from the real licd. In real shells: _shells."""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from licd.cli.completion import FILES, REQUEST, offered
from licd.cli.completion_names import NAMES
from licd.cli.completion_shells import SHELLS, Row
from licd.cli.main import _parser
from tests.support.cli import LICENSES, Run, Start, as_other_user, command
from tests.support.daemon import Daemon
from tests.support.device import device
from tests.support.needs import needs_root
from tests.support.peer import answer, refuse, say, silence

# The dest of each argument of which nobody knows the values beforehand.
FREE = {"timeout", "for_version", "seats", "ttl", "reason", "code", "arguments"}
# As a client gets it; the words are the test's own, so that it shows if anybody prints them.
NOT_PERMITTED = {"code": 13, "name": "NOT_PERMITTED", "message": "No.", "data": {}}


def words(*typed: str) -> list[str]:
    return [row.word for row in offered(_parser(), typed).rows]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with device(lines=LICENSES, settings={"socket_mode": "0666"}) as licd, licd.client() as client:
        for license, holder in (("kso.camera", "till-1"), ("kso.camera", "-odd"), ("kso.scales", "Касса 2")):
            client.call("seat.acquire", license=license, holder=holder, version="5.1", ttl=3600)
        yield licd


@pytest.fixture
def asked(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    monkeypatch.setenv("LICD_SOCKET", str(daemon.socket))
    return words


# --- the parser -----------------------------------------------------------------------------------------------------


def parsers(
    parser: argparse.ArgumentParser, *before: str
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser, list[str]]]:
    """Each parser, the words that lead to it, and its commands."""
    names: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            names = list(action.choices)
            for name, inner in action.choices.items():
                yield from parsers(inner, *before, name)
    yield before, parser, names


def test_every_command_and_every_option_is_offered_in_its_place() -> None:
    seen = list(parsers(_parser()))
    assert len(seen) > 20
    for before, parser, names in seen:
        if names:
            assert words(*before, "") == names
        options = [text for action in parser._actions for text in action.option_strings]
        assert set(words(*before, "-")) == set(options), before
        assert len(options) >= 5


def test_what_is_added_to_the_parser_is_offered_without_further_ado() -> None:
    parser = _parser()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    deep = commands.add_parser("brew", help="100%% tea").add_subparsers()
    deep.add_parser("earl-grey").add_argument("--milk", choices=["oat", "cow"])
    assert offered(parser, [""]).rows[-1].word == "brew"
    assert [row.word for row in offered(parser, ["brew", ""]).rows] == ["earl-grey"]
    assert "--milk" in [row.word for row in offered(parser, ["brew", "earl-grey", "--"]).rows]
    assert [row.word for row in offered(parser, ["brew", "earl-grey", "--milk", ""]).rows] == ["oat", "cow"]


def test_of_every_argument_it_is_decided_what_completes_it() -> None:
    for before, parser, _ in parsers(_parser()):
        for action in parser._actions:
            if action.nargs != 0 and not isinstance(action, argparse._SubParsersAction):
                ways = [action.choices is not None, action.metavar in FILES, action.dest in NAMES, action.dest in FREE]
                assert ways.count(True) == 1, (before, action.dest)


def test_every_candidate_has_the_help_of_the_parser() -> None:
    assert Row("status", "health, counts, clock and warnings") in offered(_parser(), [""]).rows
    assert Row("--ttl", "seconds until it must be confirmed (60)") in offered(_parser(), ["acquire", "-"]).rows


@pytest.mark.parametrize(
    ("line", "gone"),
    [
        ("--json leases --", {"--json"}),
        ("leases --json --socket=/x --", {"--json", "--socket"}),
        ("renew --due --", {"--due", "--export", "--import"}),
        ("license export -oX -", {"-o", "--output"}),
        ("license export -o X -", {"-o", "--output"}),
        ("fingerprint what-if --without disk --", set()),
    ],
)
def test_an_option_that_is_given_already_or_excluded_is_not_offered_again(line: str, gone: set[str]) -> None:
    typed = line.split(" ")
    before = [word for word in typed[:-1] if not word.startswith("-") and word not in ("X", "disk")]
    assert set(words(*before, typed[-1])) - set(words(*typed)) == gone


@pytest.mark.parametrize(
    "line",
    [
        *("nonsense ", "license nonsense ", "-- ", "leases --json=x", "leases --nonsense=", "acquire a b --seats "),
        *("leases --holder -", "release -- x -", "acquire a b -- "),
    ],
)
def test_nothing_is_offered_where_nothing_can_stand(line: str) -> None:
    offer = offered(_parser(), line.split(" "))
    assert not offer.rows
    assert not offer.files


@pytest.mark.parametrize(
    ("line", "skip"),
    [
        ("license import ", 0),
        ("license export -o ", 0),
        ("renew --export=", 9),
        ("--socket ", 0),
        ("activate --ca x", 0),
    ],
)
def test_files_are_left_to_the_shell(line: str, skip: int) -> None:
    assert offered(_parser(), line.split(" ")) == ((), True, skip)


def test_where_no_word_can_stand_the_options_are_offered() -> None:
    assert words("leases", "") == ["--help", "--json", "--socket", "--timeout", "--license", "--holder"]


# --- names from licd ------------------------------------------------------------------------------------------------


def test_licenses_holders_leases_vendors_and_methods_are_those_of_licd(
    daemon: Daemon, asked: Callable[..., list[str]]
) -> None:
    leases = daemon.call("seat.list")["leases"]
    assert asked("license", "show", "") == ["kso.camera", "kso.old", "kso.scales"]
    assert asked("leases", "--license", "") == ["kso.camera", "kso.old", "kso.scales"]
    assert asked("confirm", "") == [row["lease"] for row in leases]
    assert asked("confirm", leases[0]["lease"], "") == [row["lease"] for row in leases[1:]]
    assert asked("leases", "--holder", "") == ["till-1", "Касса 2"]
    assert asked("leases", "--holder=") == ["till-1", "-odd", "Касса 2"]  # argparse takes it so only
    assert asked("acquire", "kso.scales", "--", "") == ["till-1", "-odd", "Касса 2"]
    assert asked("release", "--license", "kso.scales", "--holder", "") == ["Касса 2"]
    assert asked("renew", "--vendor", "") == ["acme"]
    assert asked("call", "") == daemon.call("server.hello")["methods"]
    factors = {row["factor"] for row in daemon.call("device.fingerprint")["factors"] if row["state"] == "found"}
    assert factors < set(asked("fingerprint", "what-if", "--without", ""))


def test_the_socket_on_the_line_is_the_one_asked(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LICD_SOCKET", "/nonexistent/s")
    monkeypatch.setenv("HERE", str(daemon.folder))
    assert words("license", "show", "") == []
    for before in (["--socket", str(daemon.socket)], [f"--socket={daemon.socket}"], ["--socket", "$HERE/licd.sock"]):
        assert words(*before, "license", "show", "") == ["kso.camera", "kso.old", "kso.scales"]
        assert words("license", "show", *before, "") == ["kso.camera", "kso.old", "kso.scales"]


@needs_root
def test_another_user_is_offered_what_licd_tells_this_user(daemon: Daemon) -> None:
    def told(*typed: str) -> list[str]:
        done = as_other_user(REQUEST, "zsh", "--socket", daemon.socket, *typed)
        assert done.status == 0, done
        return done.out.splitlines()[1:]

    assert told("confirm", "") == []
    assert told("fingerprint", "what-if", "--without", "") == []
    assert len(told("license", "show", "")) == 3


def test_a_courier_is_offered_the_vendors_of_the_plan(peer: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = answer({"vendors": [{"vendor": "acme", "in_force": "x", "seq": 3}]})
    monkeypatch.setenv("LICD_SOCKET", peer(refuse(NOT_PERMITTED), plan))
    assert offered(_parser(), ["renew", "--vendor", ""]).rows == [Row("acme", "license file 3 in force")]


def test_what_cannot_be_typed_is_not_offered(peer: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = ["a\x1b[31m", "b\nc", "", 5, None, "d\te", "fine", "fine"]
    monkeypatch.setenv("LICD_SOCKET", peer(answer({"leases": [{"holder": each} for each in odd[:3] + odd[5:]]})))
    assert words("leases", "--holder", "") == ["fine"]


@pytest.mark.alone
@pytest.mark.parametrize("script", [silence, say(b"\xc1"), answer(7), answer({}), answer({"leases": [1]}),
                                    refuse(NOT_PERMITTED), refuse("no")])  # fmt: skip
def test_a_licd_that_does_not_answer_well_is_not_waited_for_nor_complained_about(
    peer: Start, script: object, capsys: pytest.CaptureFixture[str], run: Run
) -> None:
    path = peer(script)
    began = time.monotonic()
    done = run(REQUEST, "fish", "release", "--socket", path, "")
    assert (done.status, done.out, done.err) == (0, "words 0\n", "")
    assert time.monotonic() - began < 0.8


def test_the_pages_that_came_in_time_are_offered(peer: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    page = answer({"leases": [{"lease": "ab", "holder": "h"}], "next": 4})
    monkeypatch.setenv("LICD_SOCKET", peer(page, silence))
    assert words("release", "") == ["ab"]


# --- licd-cli itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHELLS)
def test_the_script_is_printed_and_no_licd_is_needed(run: Run, name: str) -> None:
    done = run("completion", name, "--socket", "/nonexistent/s")
    assert (done.status, done.out, done.err) == (0, SHELLS[name].script, "")
    assert run("completion", name, "--json").value == {"shell": name, "script": SHELLS[name].script}


@pytest.mark.parametrize("request_", [[], ["tcsh", ""], ["bash"], ["bash", "x"], ["zsh"]])
def test_a_request_that_no_script_makes_is_bad_usage_without_a_word(run: Run, request_: Sequence[str]) -> None:
    assert run(REQUEST, *request_) == (2, "", "")


@pytest.mark.parametrize(
    ("line", "end", "printed"),
    [
        ("licd-cli stat", "stat", "words 0\nstatus\n"),
        ('licd-cli "stat', '"stat', "words 0\nstatus\n"),
        ('licd-cli "stat', "stat", "words 0\nstatus\n"),
        ("licd-cli 'stat", "stat", "words 0\nstatus\n"),
        ('licd-cli "sta\\"', "", "words 0\n"),
        (" licd-cli\trenew --d\\u", "--d\\u", "words 0\n--due\n"),
        ("licd-cli 2>/dev/null stat", "stat", "words 0\nstatus\n"),
        ("licd-cli > file stat", "stat", "words 0\nstatus\n"),
        ("licd-cli status >fi", ">fi", "files 0\n"),
        ("licd-cli status >> ", "", "files 0\n"),
        ("licd-cli completion z", "z", "words 0\nzsh\n"),
        ("licd-cli", "licd-cli", "files 0\n"),
    ],
)
def test_the_line_that_bash_tells_is_split_as_bash_does(run: Run, line: str, end: str, printed: str) -> None:
    assert run(REQUEST, "bash", line, end, "9", "80") == (0, printed, "")


def test_what_is_listed_is_told_and_not_wider_than_the_terminal(run: Run) -> None:
    done = run(REQUEST, "bash", "licd-cli lic", "lic", "63", "30")
    listed = done.out.splitlines()[1:]
    assert listed[0] == "licenses  (the licenses i..."
    assert len(listed) == 3
    assert all(len(line) < 30 for line in listed)
    assert "(" not in run(REQUEST, "bash", "licd-cli lic", "lic", "9", "30").out
    assert "(" not in run(REQUEST, "bash", "licd-cli stat", "stat", "63", "90").out


def test_completion_costs_little_more_than_the_program_itself(tmp_path: Path) -> None:
    def least(*line: str) -> float:
        spent = []
        for _ in range(5):
            began = os.times()
            subprocess.run(command(*line), check=True, capture_output=True, cwd=tmp_path)
            ended = os.times()
            spent.append(ended.children_user + ended.children_system - began.children_user - began.children_system)
        return min(spent)

    assert least(REQUEST, "zsh", "--") < 1.5 * least("--version")
